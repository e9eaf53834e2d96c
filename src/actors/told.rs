//! What is logged of facts: the life of runs and batches, each line with `campaign`, `run` and, if it has one, `batch`.
//!
//! Owns no state. One place for all, where facts are committed, so that no path is forgotten. What happens once in a
//! run is *info*; what happens once in a batch is *debug*. Must not know addresses or contents: rows are counted,
//! never listed.

use tracing::{Level, debug, enabled, info};

use crate::ids::{CampaignId, RunId};
use crate::ledger::{Fact, State};

/// The campaign of a fact that is about to be logged; nothing if nobody listens.
pub struct Told {
    campaign: Option<CampaignId>,
}

impl Told {
    /// Before the fact is applied.
    pub fn new(state: &State, fact: &Fact) -> Told {
        let campaign_of = |run: RunId| state.runs.get(&run).map(|run| run.campaign);
        let of_batch = |run: RunId| if enabled!(Level::DEBUG) { campaign_of(run) } else { None };
        let campaign = match fact {
            Fact::RunStarted(started) => Some(started.campaign),
            Fact::PinnedStarted(pinned) => Some(pinned.started.campaign),
            Fact::Launched(launched) => Some(launched.started.campaign),
            Fact::StepReleased(released) => campaign_of(released.run),
            Fact::RunMoved { run, .. } => campaign_of(*run),
            Fact::Decided(decided) => campaign_of(decided.run),
            Fact::UnknownSettled { delivery, .. } => campaign_of(delivery.run),
            Fact::Doubted(doubted) => campaign_of(doubted.delivery.run),
            Fact::Claimed(claimed) => of_batch(claimed.delivery.run),
            Fact::Settled(settled) => of_batch(settled.delivery.run),
            Fact::Returned(returned) => of_batch(returned.delivery.run),
            Fact::PlanMoved(moved) => Some(moved.campaign),
            _ => None,
        };
        Told { campaign }
    }

    /// Once it is committed.
    pub fn tell(self, fact: &Fact, seq: u64) {
        let Some(campaign) = self.campaign else { return };
        match fact {
            Fact::RunStarted(started) => started_run(campaign, started, seq),
            Fact::PinnedStarted(pinned) => started_run(campaign, &pinned.started, seq),
            Fact::Launched(launched) => started_run(campaign, &launched.started, seq),
            Fact::StepReleased(released) => {
                let (run, gate) = (released.run, released.node);
                info!(%campaign, %run, %gate, skip = released.skip, seq, "a person decided about a step that was late");
            }
            Fact::RunMoved { run, to, reason, .. } => {
                info!(%campaign, %run, to = to.name(), reason, seq, "the run moved")
            }
            Fact::Decided(decided) => {
                let winner = decided.winner.as_ref().map_or_else(|| "nobody".to_owned(), |exit| exit.to_string());
                info!(%campaign, run = %decided.run, node = decided.node.0, winner, seq, "a test is decided");
            }
            Fact::UnknownSettled { delivery, rows, resend, .. } => {
                let (rows, run) = (rows.rows.len(), delivery.run);
                info!(%campaign, %run, %delivery, rows, resend, seq, "unknown contacts are settled");
            }
            Fact::Doubted(doubted) => {
                let (rows, run) = (doubted.rows.rows.len(), doubted.delivery.run);
                info!(%campaign, %run, rows, seq, "what may have been sent since the backup is unknown");
            }
            Fact::PlanMoved(moved) => {
                info!(%campaign, to = moved.to.name(), reason = moved.reason, seq, "the schedule moved")
            }
            Fact::Claimed(claimed) => {
                let (run, batch, connector) = (claimed.delivery.run, claimed.batch, &claimed.connector);
                debug!(%campaign, %run, %batch, connector, rows = claimed.rows.len(), seq, "a batch is claimed");
            }
            Fact::Settled(settled) => {
                let rejected: u64 = settled.rejected.iter().map(|(_, rows)| rows.len()).sum();
                let deferred: u64 = settled.deferred.iter().map(|(_, rows)| rows.len()).sum();
                let skipped: u64 = settled.skipped.iter().map(|(_, rows)| rows.len()).sum();
                let (accepted, unknown) = (settled.accepted.len(), settled.unknown.len());
                let (run, batch) = (settled.delivery.run, settled.batch);
                debug!(%campaign, %run, %batch, accepted, rejected, deferred, skipped, unknown, seq, "outcomes of a batch");
            }
            Fact::Returned(returned) => {
                let (run, batch) = (returned.delivery.run, returned.batch);
                debug!(%campaign, %run, %batch, rows = returned.rows.len(), seq, "rows of a batch were taken back");
            }
            _ => {}
        }
    }
}

fn started_run(campaign: CampaignId, started: &crate::ledger::facts::RunStarted, seq: u64) {
    let audience: u64 = started.deliveries.iter().map(|delivery| delivery.audience.rows.len()).sum();
    let (run, version) = (started.run, started.version);
    info!(%campaign, %run, version, audience, entrants = started.entrants.rows.len(), seq, "the run starts");
}
