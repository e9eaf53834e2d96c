//! A claim: rows that had enough messages are skipped, and the others taken, each time in one step under the book's lock.

use std::sync::Arc;

use super::{CampaignActor, is_in_force};
use crate::actors::book::CommitError;
use crate::actors::claim::{self, Way};
use crate::actors::figures;
use crate::actors::lanes::LiveBatch;
use crate::channels::fair::Grant;
use crate::clock::Clock;
use crate::ids::BatchId;
use crate::journal::Want;
use crate::ledger::{Fact, RowSet};
use crate::limits::CAP_ROUNDS_MAX;

impl CampaignActor {
    /// Claims what a grant is for. Rows that had enough messages are skipped first, and the claim is tried again.
    pub(super) fn claim_rows(&self, at: usize, grant: Grant) -> Result<Option<(BatchId, Arc<LiveBatch>)>, CommitError> {
        for _ in 0..CAP_ROUNDS_MAX {
            let mut met_cap = false;
            let claimed = self.claim_once(at, grant, &mut met_cap)?;
            if !met_cap {
                return Ok(claimed);
            }
        }
        self.legs[at].line.fair.lock().claimed(grant.id, 0);
        Ok(None)
    }

    fn claim_once(
        &self,
        at: usize,
        grant: Grant,
        met_cap: &mut bool,
    ) -> Result<Option<(BatchId, Arc<LiveBatch>)>, CommitError> {
        let leg = &self.legs[at];
        let (line, context) = (&leg.line, &leg.context);
        let now = self.book.now();
        let granted = line.clock.monotonic();
        let (mut made, mut outdated): (Option<Arc<LiveBatch>>, bool) = (None, false);
        let (done, batch_cell) = (Arc::clone(line), Arc::new(parking_lot::Mutex::new(None::<Arc<LiveBatch>>)));
        let on_durable = Arc::clone(&batch_cell);
        let want = Want::durable(move |_| {
            if let Some(batch) = on_durable.lock().take() {
                figures::claimed(&done.name, batch.rows.len(), done.clock.monotonic().since(granted));
                done.queue.push(batch);
            }
        });
        let decided = self.book.commit_by::<CommitError>(
            |state| {
                // A publication that came first: the sends of that version are on their way to this actor.
                if !is_in_force(state, leg) {
                    outdated = true;
                    return Ok(None);
                }
                let delivery = state.delivery(context.delivery)?;
                let rows = claim::rows_of(&grant, delivery, &leg.classes, now);
                let capped = claim::capped(state, &leg.caps, context.channel, &grant, &leg.classes, &rows, now);
                if let Some((reason, rows)) = capped {
                    *met_cap = true;
                    let rows = RowSet { space: delivery.space, rows };
                    return Ok(Some(Fact::Skipped { delivery: delivery.id, reason, rows, at: now }));
                }
                let Some(positions) = self.take_positions(line, grant, rows.len()) else { return Ok(None) };
                let id = BatchId(state.next_batch);
                let batch = self.live_batch(leg, id, grant.key, &rows, positions.clone());
                *batch_cell.lock() = Some(Arc::clone(&batch));
                made = Some(batch);
                let domain = line.domain_of(grant.key.class);
                let way = Way { connector: &line.name, domain, message: context.message };
                Ok(Some(Fact::Claimed(claim::fact(id, delivery, way, rows, positions, now))))
            },
            want,
        );
        if outdated {
            line.fair.lock().claimed(grant.id, 0);
        }
        match (decided, made) {
            (Ok(_), made) => Ok(made.map(|batch| (batch.id, batch))),
            (Err(error), made) => {
                if let Some(batch) = made {
                    // The look at what is ahead counts it as left once the batch is gone.
                    line.fair.lock().ended(grant.key, batch.rows.len());
                }
                Err(error)
            }
        }
    }
}
