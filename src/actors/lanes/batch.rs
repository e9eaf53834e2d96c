//! A claimed batch on its way through the lanes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use actix::Recipient;
use roaring::RoaringBitmap;

use crate::actors::lanes::positions::PositionPool;
use crate::actors::{Outcomes, RowOutcome};
use crate::channels::limits_table::{ClassId, Scopes, scopes_of};
use crate::clock::Monotonic;
use crate::contacts::one_shot::hashes::hash_of;
use crate::contacts::{ContactsError, Store};
use crate::content::CompiledMessage;
use crate::flow::NodeId;
use crate::ids::{AddressHash, BatchId, CampaignId, Channel, DeliveryId, MessageId, RowSpace};
use crate::journal::MarkState;
use crate::ledger::Positions;

/// What all batches of one message of a run share.
pub struct SendContext {
    pub delivery: DeliveryId,
    /// The send node.
    pub send: NodeId,
    pub campaign: CampaignId,
    pub space: RowSpace,
    /// Where the records of the rows are.
    pub store: Store,
    pub message: MessageId,
    pub channel: Channel,
    pub topic: String,
    pub compiled: Arc<CompiledMessage>,
    /// Where outcomes go: one long-lived handle, used with `try_send` only.
    pub settler: Recipient<Outcomes>,
}

impl SendContext {
    /// Rows with their addresses on the channel, by which a bounce is told of them; without those that have none.
    pub fn addresses(&self, rows: &RoaringBitmap) -> Result<Vec<(u32, AddressHash)>, ContactsError> {
        let mut found = Vec::new();
        self.store.reader()?.records(rows.iter(), |row, record| {
            found.extend(hash_of(&self.store, self.channel, record).map(|hash| (row, hash)));
            true
        })?;
        Ok(found)
    }
}

/// Rows that are claimed and durable. Holders are the campaign's table of open batches, the queue, and every lane that has
/// a row of it; when the last is gone, its positions are free.
pub struct LiveBatch {
    pub id: BatchId,
    pub context: Arc<SendContext>,
    pub class: ClassId,
    pub rows: Box<[u32]>,
    marks_at: Box<[u32]>,
    positions: Positions,
    pool: Arc<PositionPool>,
    pub claimed_at: Monotonic,
    withdrawn: AtomicBool,
    unmarked: AtomicU32,
}

impl LiveBatch {
    #[allow(
        clippy::too_many_arguments,
        reason = "a plain constructor; every field is needed and named at the one caller"
    )]
    pub fn new(
        id: BatchId,
        context: Arc<SendContext>,
        class: ClassId,
        rows: &RoaringBitmap,
        positions: Positions,
        pool: Arc<PositionPool>,
        claimed_at: Monotonic,
    ) -> LiveBatch {
        let rows: Box<[u32]> = rows.iter().collect();
        let unmarked = AtomicU32::new(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let marks_at = positions.iter().collect();
        let withdrawn = AtomicBool::new(false);
        LiveBatch { id, context, class, rows, marks_at, positions, pool, claimed_at, withdrawn, unmarked }
    }

    /// Every scope that its messages are counted in.
    pub fn scopes(&self) -> Scopes {
        scopes_of(self.class, self.context.delivery.run)
    }

    /// Rows that no lane has marked and nobody took back.
    pub fn unmarked(&self) -> u32 {
        self.unmarked.load(Ordering::Acquire)
    }

    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    fn leave_unmarked(&self) {
        self.unmarked.fetch_sub(1, Ordering::AcqRel);
    }

    /// The arbiter of LN-1: `true` if this caller may hand the row over.
    pub fn try_mark(&self, index: usize) -> bool {
        let marked = self.pool.marks().try_mark(self.marks_at[index]);
        if marked {
            self.leave_unmarked();
        }
        marked
    }

    /// Ends an unmarked row without a hand-over (a skip at release); `false` if it was taken back meanwhile.
    pub fn try_end_unmarked(&self, index: usize) -> bool {
        let mine = self.pool.marks().try_withdraw(self.marks_at[index]);
        if mine {
            self.leave_unmarked();
        }
        mine
    }

    pub fn is_marked(&self, index: usize) -> bool {
        self.pool.marks().get(self.marks_at[index]) == MarkState::Marked
    }

    /// Writes the outcome where a crash can't lose it.
    pub fn note(&self, index: usize, outcome: &RowOutcome) {
        if let Some(state) = outcome.mark_state() {
            self.pool.marks().set_outcome(self.marks_at[index], state);
        }
    }

    /// Takes back every row that is still free; answers those rows. Lanes find the rest withdrawn.
    pub fn withdraw(&self) -> RoaringBitmap {
        self.withdrawn.store(true, Ordering::Release);
        let mut rows = RoaringBitmap::new();
        for (index, row) in self.rows.iter().enumerate() {
            if self.pool.marks().try_withdraw(self.marks_at[index]) {
                self.leave_unmarked();
                rows.insert(*row);
            }
        }
        rows
    }
}

impl Drop for LiveBatch {
    fn drop(&mut self) {
        self.pool.give_back(&self.positions);
    }
}
