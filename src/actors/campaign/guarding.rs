//! What hard bounces and complaints lead to: suppressions, and the run's guard, which is looked at with everything else, because it
//! follows from the state alone.

use roaring::RoaringBitmap;

use super::CampaignActor;
use crate::actors::book::CommitError;
use crate::actors::decide;
use crate::actors::figures::{self, TakenBack};
use crate::campaigns::GuardRule;
use crate::ids::AddressHash;
use crate::journal::Want;
use crate::ledger::events::guard::judge;
use crate::ledger::facts::Suppressed;
use crate::ledger::suppression::SuppressReason;
use crate::ledger::{Fact, RowSet};

impl CampaignActor {
    /// At which shares of bounces and complaints the run pauses by itself.
    pub fn set_auto_pause(&mut self, rule: GuardRule) {
        self.auto_pause = rule;
    }

    /// Pauses the run when too much comes back; what is not on the wire is taken back at once.
    pub(super) fn guard(&mut self) {
        let (now, rule) = (self.book.now(), self.auto_pause);
        let judged = self.book.read().runs.get(&self.run).and_then(|run| judge(run, &rule, now));
        if judged.is_none() {
            return;
        }
        let mut paused = None;
        // Judged again under the lock: a person may just have paused or stopped it.
        let committed = self.book.commit_by::<CommitError>(
            |state| {
                paused = state.runs.get(&self.run).and_then(|run| judge(run, &rule, now));
                Ok(paused.clone().map(Fact::AutoPaused))
            },
            Want::now(),
        );
        match (committed, paused) {
            (Ok(_), Some(paused)) => {
                tracing::warn!(run = %self.run, reason = %paused.reason(), "the run is paused");
                figures::auto_paused(paused.cause);
                self.withdraw(TakenBack::Pause, |_, _| true);
            }
            (Err(error), _) => tracing::error!(run = %self.run, %error, "a pause was not recorded; it is tried again"),
            (Ok(_), None) => {}
        }
    }

    /// Suppresses the addresses of rows whose hard bounces have reached the connector's rule: dead is the address, whoever
    /// has it, and not the contact.
    pub(super) fn suppress_bounced(&self, leg: usize, bounced: &RoaringBitmap) {
        let leg = &self.legs[leg];
        if bounced.is_empty() {
            return;
        }
        let known = leg.context.addresses(bounced).unwrap_or_else(|error| {
            tracing::error!(run = %self.run, %error, "the addresses of hard bounces can't be read: they are not suppressed");
            Vec::new()
        });
        let result = self.book.commit_by::<CommitError>(
            |state| {
                let Some(run) = state.runs.get(&self.run) else { return Ok(None) };
                let channel = Some(leg.context.channel);
                let rows = decide::to_suppress(state, run, bounced, leg.line.suppress_after_hard_bounces);
                let is_new = |hash: &AddressHash| state.suppression.address_entry(channel, *hash).is_none();
                let dead = known.iter().filter(|(row, _)| rows.contains(*row)).map(|(_, hash)| *hash);
                let addresses: Vec<AddressHash> = dead.filter(is_new).collect();
                if addresses.is_empty() {
                    return Ok(None);
                }
                Ok(Some(Fact::Suppressed(Suppressed {
                    channel,
                    reason: SuppressReason::HardBounce,
                    rows: RowSet::default(),
                    addresses,
                    at: self.book.now(),
                })))
            },
            Want::idle(),
        );
        if let Err(error) = result {
            tracing::warn!(run = %self.run, %error, "hard bounces were not suppressed");
        }
    }
}
