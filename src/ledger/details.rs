//! Details of runs that have ended, and what is left when they are removed: who was sent to, opened, bounced; and how many.
//!
//! Removing them is a fact, by an age that the operator chooses; what decides who may lose them is here, as a function of
//! the state. Every figure of the run's report stays what it was (`shapes`); who is in a set is gone, and with it
//! everything that has to know: lists of contacts, resends, settling, extending, questions of segments about the campaign.
//!
//! Owns what a run remembers of it. Invariants: DT-1 details are removed of a whole family of resends at once, and only when
//! all of it has ended so long ago: who is covered by an earlier resend is asked of the others; DT-2 nothing moves in a run
//! whose details are removed: facts that would are refused, and what comes back late is not counted; DT-3 rows of such a run
//! are of no space ([`RowSpace::NOBODY`]), so that whoever looks for a contact in it finds none; DT-4 consents, suppressions
//! and frequency caps are not details: they are kept beside the runs.
//!
//! Must not know: why it is asked for, the wall clock.

mod compared;
mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::campaigns::{parse, resend};
use crate::clock::Timestamp;
use crate::ids::{CampaignId, RowSpace, RunId};
use crate::ledger::delivery::Delivery;
use crate::ledger::facts::Fact;
use crate::ledger::links::family_of;
use crate::ledger::run::Run;
use crate::ledger::state::State;
use crate::ledger::tracking::EventSets;
use crate::ledger::{RunState, Violation};
use crate::limits::DETAILS_CONTACTS_AT_ONCE;
pub use compared::Compared;
use shapes::forget_rows;

/// Who is in the sets of these runs is forgotten; how many is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailsRemoved {
    pub runs: Vec<RunId>,
    pub at: Timestamp,
}

/// What a run remembers of its removed details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub at: Timestamp,
    /// What its rows were counted in.
    pub space: RowSpace,
    /// Bytes of sets that it gave back, as a snapshot stores them.
    pub bytes: u64,
}

/// What is asked of runs that have ended by what runs, is planned or is saved: their details stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Campaigns whose history is asked for.
    pub campaigns: BTreeSet<CampaignId>,
    /// Days in which opens and clicks of any campaign are counted, today included; 0: none.
    pub engaged_days: u32,
}

impl Run {
    /// When its details were removed.
    pub fn details_removed_at(&self) -> Option<Timestamp> {
        self.removed.map(|removed| removed.at)
    }

    /// What its rows count in, or counted in before its details were removed.
    pub fn origin(&self) -> RowSpace {
        self.removed.map_or_else(|| self.space(), |removed| removed.space)
    }

    /// Whether nobody's row in it can move any more by itself.
    fn is_at_rest(&self) -> bool {
        let ended = matches!(self.state, RunState::Finished | RunState::Stopped);
        ended && self.deliveries.iter().all(Delivery::is_finished) && !self.has_open_batches()
    }

    /// The last day (since the epoch, UTC) on which somebody opened or clicked, as far as it is kept.
    fn last_day(&self) -> Option<i64> {
        self.messages.values().filter_map(|message| message.days.keys().next_back()).max().copied()
    }

    /// The bytes that its sets take in a snapshot.
    fn bytes_of_sets(&mut self) -> u64 {
        let (joint, alone) = self.sets();
        let all = joint.into_iter().chain(alone.into_iter().flatten());
        all.map(|rows| rows.serialized_size() as u64).sum()
    }

    /// Sets that are counted together; and groups of sets that are counted among themselves alone.
    fn sets(&mut self) -> (Vec<&mut RoaringBitmap>, Vec<Vec<&mut RoaringBitmap>>) {
        let (mut joint, mut alone) = (Vec::new(), Vec::new());
        self.deliveries.iter_mut().for_each(|delivery| sets_of_delivery(delivery, &mut joint));
        joint.extend(self.positions.sets_mut());
        for message in self.messages.values_mut() {
            joint.extend(message.opened.rows.values_mut().chain(message.clicked.rows.values_mut()));
            joint.push(&mut message.unsubscribed);
            alone.extend(message.links.values_mut().map(|link| link.rows.values_mut().collect::<Vec<_>>()));
        }
        for feedback in self.feedback.values_mut() {
            let seen = [&mut feedback.delivered, &mut feedback.hard, &mut feedback.soft, &mut feedback.policy];
            joint.extend(seen.into_iter().map(|seen| &mut seen.rows));
            joint.push(&mut feedback.complained.rows);
            joint.extend(feedback.converted.rows.values_mut());
            joint.extend(feedback.custom.values_mut().map(|seen| &mut seen.rows));
        }
        for watch in self.flow.tests.values_mut().filter_map(|test| test.watch.as_mut()) {
            joint.extend(watch.windows.sets_mut());
            joint.extend(watch.counted.rows.values_mut());
            joint.extend([&mut watch.unsubscribed, &mut watch.complained]);
        }
        if let Some(sequence) = &mut self.sequence {
            joint.extend(sequence.late.values_mut());
        }
        (joint, alone)
    }

    /// What no figure counts: by it people are told apart, or answers of relays are quoted.
    fn remove_uncounted(&mut self) {
        for delivery in &mut self.deliveries {
            delivery.deferrals.clear();
            delivery.unknowns.clear();
            delivery.vouched.clear();
            delivery.due.clear();
            delivery.space = RowSpace::NOBODY;
        }
        for message in self.messages.values_mut() {
            message.days.clear();
            let links = message.links.values_mut();
            [&mut message.opened, &mut message.clicked].into_iter().chain(links).for_each(EventSets::forget_repeats);
        }
        self.feedback.values_mut().for_each(|feedback| feedback.converted.forget_repeats());
        for watch in self.flow.tests.values_mut().filter_map(|test| test.watch.as_mut()) {
            watch.counted.forget_repeats();
        }
        self.flow.kept.clear();
        self.flow.happened.clear();
        self.flow.waits.clear();
        self.samples.clear();
    }

    fn remove_details(&mut self, at: Timestamp) {
        let (before, space) = (self.bytes_of_sets(), self.space());
        self.remove_uncounted();
        let (mut joint, alone) = self.sets();
        forget_rows(&mut joint);
        alone.into_iter().for_each(|mut sets| forget_rows(&mut sets));
        let bytes = before.saturating_sub(self.bytes_of_sets());
        self.removed = Some(Removed { at, space, bytes });
    }
}

fn sets_of_delivery<'r>(delivery: &'r mut Delivery, into: &mut Vec<&'r mut RoaringBitmap>) {
    into.extend([
        &mut delivery.audience,
        &mut delivery.pending,
        &mut delivery.held,
        &mut delivery.claimed,
        &mut delivery.deferred,
        &mut delivery.accepted,
        &mut delivery.unknown,
    ]);
    into.extend(delivery.rejected.values_mut().chain(delivery.skipped.values_mut()));
    into.extend(delivery.sends.values_mut().flat_map(|send| [&mut send.assigned, &mut send.waiting]));
}

impl State {
    /// Whether the run is there, and only how many were in its sets is known.
    pub fn lacks_details(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|run| run.removed.is_some())
    }

    /// Runs that ended at least so long ago with their whole families, and which nothing needs: family by family, until
    /// there are `most`, or contacts of [`DETAILS_CONTACTS_AT_ONCE`]; a family is never divided.
    pub fn removable(&self, ended_before: Timestamp, today: i64, needs: &Needs, most: usize) -> Vec<RunId> {
        let mut families: BTreeMap<RunId, Vec<&Run>> = BTreeMap::new();
        for run in self.runs.values() {
            families.entry(family_of(self, run.id)).or_default().push(run);
        }
        let continued = self.continued();
        let (mut found, mut contacts) = (Vec::new(), 0);
        for family in families.into_values() {
            let may_go = |run: &&Run| {
                let old = run.ended_at.is_some_and(|ended| ended <= ended_before);
                run.removed.is_some() || (old && !self.is_needed(run, today, needs) && !continued.contains(&run.id))
            };
            if found.len() < most && contacts < DETAILS_CONTACTS_AT_ONCE && family.iter().all(may_go) {
                let left = family.iter().filter(|run| run.removed.is_none());
                contacts += left.clone().flat_map(|run| &run.deliveries).map(|d| d.audience.len()).sum::<u64>();
                found.extend(left.map(|run| run.id));
            }
        }
        found
    }

    fn is_needed(&self, run: &Run, today: i64, needs: &Needs) -> bool {
        let first_day = today.saturating_sub(i64::from(needs.engaged_days));
        let asked = needs.engaged_days > 0 && run.last_day().is_some_and(|last| last > first_day);
        // A working copy that extends the run goes on with whoever is at its ends.
        let copy = self.sequences.get(&run.campaign).and_then(|memory| memory.copy.as_ref());
        let extended = copy.is_some_and(|copy| copy.closed_by.is_none());
        !run.is_at_rest() || asked || extended || needs.campaigns.contains(&run.campaign)
    }

    /// Runs that a planned launch resends.
    fn continued(&self) -> BTreeSet<RunId> {
        let open = self.plans.iter().filter(|(_, plan)| plan.is_open()).map(|(campaign, _)| campaign);
        let texts = open.filter_map(|id| self.campaigns.get(id)?.newest()).map(|(_, text)| text);
        let specs = texts.filter(|text| text.contains("\"resend\"")).filter_map(|text| parse::from_stored(text).ok());
        let named = specs.filter_map(|spec| resend::source(&spec).map(|(run, _)| RunId(run)));
        named.collect()
    }

    pub(super) fn apply_details_removed(&mut self, fact: &DetailsRemoved) -> Result<(), Violation> {
        for id in &fact.runs {
            let run = self.runs.get(id).ok_or(Violation::NoRun { run: *id })?;
            if !run.is_at_rest() || run.removed.is_some() {
                return Err(Violation::NoDetails { run: *id });
            }
        }
        let removed: BTreeSet<RunId> = fact.runs.iter().copied().collect();
        for run in self.runs.values_mut().filter(|run| removed.contains(&run.id)) {
            run.compared_then = run.compared(&self.events.behaviour);
            run.remove_details(fact.at);
        }
        Ok(())
    }

    /// A fact that moves rows of a run whose details are removed is of rows that are nobody's (DT-2).
    pub(super) fn has_details_for(&self, fact: &Fact) -> Result<(), Violation> {
        let run = match fact {
            Fact::Claimed(fact) => fact.delivery.run,
            Fact::Settled(fact) => fact.delivery.run,
            Fact::Returned(fact) => fact.delivery.run,
            Fact::Joined(fact) => fact.delivery.run,
            Fact::Doubted(fact) => fact.delivery.run,
            Fact::Skipped { delivery, .. } | Fact::GivenUp { delivery, .. } | Fact::UnknownSettled { delivery, .. } => {
                delivery.run
            }
            Fact::RunMoved { run, .. } => *run,
            Fact::Moved(fact) => fact.run,
            Fact::Shared(fact) => fact.moved.run,
            Fact::Scheduled(fact) => fact.run,
            Fact::Looked(fact) => fact.run,
            Fact::Decided(fact) => fact.run,
            Fact::SequencePublished(fact) => fact.run,
            Fact::Edited(fact) => fact.run,
            Fact::StepStarted(fact) => fact.run,
            Fact::StepReleased(fact) => fact.run,
            Fact::Entered(fact) => fact.run,
            _ => return Ok(()),
        };
        if self.lacks_details(run) { Err(Violation::NoDetails { run }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
