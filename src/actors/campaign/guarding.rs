//! The run's guard: looked at with everything else, because it follows from the state alone.

use super::CampaignActor;
use crate::actors::book::CommitError;
use crate::actors::figures::{self, TakenBack};
use crate::campaigns::GuardRule;
use crate::journal::Want;
use crate::ledger::Fact;
use crate::ledger::events::guard::judge;

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
}
