//! Published schedules: what a campaign launches next, and what became of its launches before.
//!
//! The schedule itself stands in the campaign's spec; a plan remembers which version is published, the next launch, and
//! the last one that was decided.
//!
//! Invariants: PL-1 a launch is decided once: made, in the same fact as its run, or skipped; PL-2 launches are decided in
//! the order in which they are planned, so that a clock that steps back makes none twice; PL-3 a plan has a next launch,
//! or everything is decided.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::campaigns::schedule::Launch;
use crate::clock::Timestamp;
use crate::ids::{CampaignId, RunId};
use crate::ledger::Violation;
use crate::ledger::facts::RunStarted;
use crate::limits::LAUNCH_HISTORY_MAX;

/// A launch that is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextLaunch {
    pub launch: Launch,
    /// When it may be made: its time, and not too soon after the publication.
    pub effective: Timestamp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    #[default]
    Active,
    /// Nothing is launched until a person resumes it.
    Paused,
    /// Back to a draft: nothing is launched.
    Withdrawn,
    /// Ended by a person.
    Stopped,
}

impl PlanState {
    pub fn name(self) -> &'static str {
        match self {
            PlanState::Active => "active",
            PlanState::Paused => "paused",
            PlanState::Withdrawn => "withdrawn",
            PlanState::Stopped => "stopped",
        }
    }
}

/// Why a launch was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipCause {
    /// More time had passed than the schedule allows.
    TooLate,
    /// A later launch of the recurrence had come due, too.
    Overtaken,
}

impl SkipCause {
    pub fn name(self) -> &'static str {
        match self {
            SkipCause::TooLate => "too_late",
            SkipCause::Overtaken => "overtaken",
        }
    }

    pub fn explain(self) -> &'static str {
        match self {
            SkipCause::TooLate => "it could not be made within the limit of its schedule (too_late)",
            SkipCause::Overtaken => "a later launch of the recurrence had come due, too: only the last is made",
        }
    }
}

/// A version of a campaign is to be launched as its schedule says. Replaces what was published before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    pub campaign: CampaignId,
    pub version: u32,
    /// The spec, if it becomes this version with the publication.
    pub spec: Option<String>,
    pub next: NextLaunch,
    pub at: Timestamp,
    /// The spec as it was written, where `spec` has saved messages put in.
    #[serde(default)]
    pub draft: Option<String>,
}

/// The next launch is made: its run begins, as one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launched {
    pub started: RunStarted,
    pub made: RunLaunch,
    pub next: Option<NextLaunch>,
}

/// Launches are not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSkipped {
    pub campaign: CampaignId,
    /// When the first and the last of them were planned.
    pub first: Timestamp,
    pub last: Timestamp,
    pub count: u32,
    pub cause: SkipCause,
    pub next: Option<NextLaunch>,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanMoved {
    pub campaign: CampaignId,
    pub to: PlanState,
    pub reason: String,
    pub at: Timestamp,
}

/// What a run knows of the launch that began it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLaunch {
    pub launch: Launch,
    pub effective: Timestamp,
    /// By each contact's clocks: the zone of contacts without one.
    pub default_zone: Option<String>,
    /// By each contact's clocks: whose time has passed for longer gets no message, milliseconds.
    pub too_late_ms: Option<u64>,
}

/// What became of a launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub planned: Timestamp,
    /// Of several that were skipped at once, when the last was planned.
    pub last: Timestamp,
    pub count: u32,
    pub outcome: Outcome,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Made(RunId),
    Skipped(SkipCause),
}

/// A campaign's published schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub version: u32,
    pub published_at: Timestamp,
    pub state: PlanState,
    /// Why it stands where it stands, if somebody or something moved it there.
    pub reason: String,
    pub next: Option<NextLaunch>,
    /// The last launch that was decided, by its plan.
    pub settled: Option<Timestamp>,
    pub made: u64,
    pub skipped: u64,
    /// The newest decisions, the oldest first.
    pub history: VecDeque<Decided>,
    /// What the campaign's draft is again when the publication is taken back, if that is not the version itself.
    #[serde(default)]
    pub draft: Option<String>,
}

impl Plan {
    /// Whether a launch is ahead that only waits for its time.
    pub fn is_scheduled(&self) -> bool {
        self.state == PlanState::Active && self.next.is_some()
    }

    /// Whether a launch is ahead, or would be without the pause.
    pub fn is_open(&self) -> bool {
        matches!(self.state, PlanState::Active | PlanState::Paused) && self.next.is_some()
    }

    pub(super) fn publish(&mut self, fact: &Published) {
        if !self.is_open() {
            self.state = PlanState::Active;
            self.reason.clear();
        }
        self.version = fact.version;
        self.published_at = fact.at;
        self.next = Some(fact.next);
        self.draft.clone_from(&fact.draft);
    }

    /// Whether the facts decides the launch that is next (PL-2).
    fn expects(&self, first: Timestamp, next: Option<&NextLaunch>, last: Timestamp) -> bool {
        let is_next = self.next.is_some_and(|expected| expected.launch.at == first);
        self.state == PlanState::Active && is_next && next.is_none_or(|next| next.launch.at > last)
    }

    fn decide(&mut self, decided: Decided, next: Option<NextLaunch>) {
        self.settled = Some(decided.last);
        self.next = next;
        if self.history.len() >= LAUNCH_HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(decided);
    }

    /// Checks that a launch may be recorded, and changes nothing.
    pub(super) fn admits(&self, fact: &Launched) -> Result<(), Violation> {
        let planned = fact.made.launch.at;
        let fits = self.version == fact.started.version && self.expects(planned, fact.next.as_ref(), planned);
        if fits { Ok(()) } else { Err(Violation::BadLaunch { campaign: fact.started.campaign }) }
    }

    pub(super) fn launched(&mut self, fact: &Launched) {
        let planned = fact.made.launch.at;
        self.made += 1;
        let outcome = Outcome::Made(fact.started.run);
        let at = fact.started.at;
        self.decide(Decided { planned, last: planned, count: 1, outcome, at }, fact.next);
    }

    pub(super) fn skip(&mut self, fact: &LaunchSkipped) -> Result<(), Violation> {
        if !self.expects(fact.first, fact.next.as_ref(), fact.last) || fact.last < fact.first {
            return Err(Violation::BadLaunch { campaign: fact.campaign });
        }
        self.skipped += u64::from(fact.count);
        let outcome = Outcome::Skipped(fact.cause);
        let decided = Decided { planned: fact.first, last: fact.last, count: fact.count, outcome, at: fact.at };
        self.decide(decided, fact.next);
        Ok(())
    }

    /// Answers the draft that the campaign has again.
    pub(super) fn move_to(&mut self, fact: &PlanMoved) -> Option<String> {
        self.state = fact.to;
        self.reason.clone_from(&fact.reason);
        if matches!(fact.to, PlanState::Withdrawn | PlanState::Stopped) {
            self.next = None;
            let draft = self.draft.take();
            return draft.filter(|_| fact.to == PlanState::Withdrawn);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{Format, compile, parse};
    use crate::ledger::batch::BootId;
    use crate::ledger::{Fact, State, snapshot};

    const SPEC: &str =
        "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"r\"\ntopic = \"t\"\n";
    const CAMPAIGN: CampaignId = CampaignId(1);

    fn next(at: i64) -> NextLaunch {
        NextLaunch { launch: Launch::at(Timestamp(at)), effective: Timestamp(at) }
    }

    fn published(at: i64, spec: Option<&str>, version: u32) -> Fact {
        let spec = spec.map(str::to_owned);
        Fact::Published(Published { campaign: CAMPAIGN, version, spec, next: next(at), at: Timestamp(0), draft: None })
    }

    fn launched(run: u32, version: u32, at: i64, after: Option<i64>) -> Fact {
        let graph = compile(&parse(SPEC, Format::Toml).expect("a spec")).expect("compiles").graph;
        let started = RunStarted {
            run: RunId(run),
            campaign: CAMPAIGN,
            version,
            graph,
            deliveries: Vec::new(),
            at: Timestamp(at),
            entrants: crate::ledger::RowSet::default(),
        };
        let made = RunLaunch {
            launch: Launch::at(Timestamp(at)),
            effective: Timestamp(at),
            default_zone: None,
            too_late_ms: None,
        };
        Fact::Launched(Box::new(Launched { started, made, next: after.map(next) }))
    }

    fn skipped(first: i64, last: i64, after: Option<i64>) -> Fact {
        Fact::LaunchSkipped(LaunchSkipped {
            campaign: CAMPAIGN,
            first: Timestamp(first),
            last: Timestamp(last),
            count: 1,
            cause: SkipCause::TooLate,
            next: after.map(next),
            at: Timestamp(last),
        })
    }

    fn state() -> State {
        let mut state = State::default();
        apply(&mut state, &Fact::CampaignSaved { campaign: CAMPAIGN, spec: "{}".into(), at: Timestamp(0) })
            .expect("saved");
        state
    }

    fn apply(state: &mut State, fact: &Fact) -> Result<(), Violation> {
        let again = Fact::decode(&fact.encode().expect("encodes")).expect("decodes");
        assert_eq!(again, *fact, "as it was written");
        state.apply(fact, BootId::default())
    }

    #[test]
    fn a_launch_is_decided_once_and_in_order() {
        let mut state = state();
        apply(&mut state, &published(100, None, 1)).expect("published");
        let before = snapshot::encode(&state).expect("bytes");
        for (wrong, what) in [
            (launched(1, 1, 200, None), "one that is not next"),
            (launched(1, 2, 100, None), "of another version"),
            (launched(1, 1, 100, Some(100)), "followed by itself"),
            (skipped(200, 300, None), "one that is not next"),
            (skipped(100, 100, Some(90)), "followed by an earlier one"),
        ] {
            assert_eq!(apply(&mut state, &wrong), Err(Violation::BadLaunch { campaign: CAMPAIGN }), "{what}");
        }
        assert!(snapshot::encode(&state).expect("bytes") == before, "a refusal changes nothing");
        apply(&mut state, &launched(1, 1, 100, Some(200))).expect("made");
        assert!(apply(&mut state, &launched(2, 1, 100, Some(200))).is_err(), "not again");
        apply(&mut state, &skipped(200, 300, None)).expect("skipped");
        let plan = &state.plans[&CAMPAIGN];
        assert_eq!(
            (plan.made, plan.skipped, plan.next, plan.settled),
            (1, 1, None, Some(Timestamp(300))),
            "all decided"
        );
        let outcomes: Vec<_> = plan.history.iter().map(|decided| decided.outcome).collect();
        assert_eq!(outcomes, [Outcome::Made(RunId(1)), Outcome::Skipped(SkipCause::TooLate)], "and remembered");
        let read = snapshot::decode(&snapshot::encode(&state).expect("bytes")).expect("reads");
        assert_eq!(read, state, "a snapshot has all of it");
        assert_eq!(
            read.runs[&RunId(1)].launch.as_ref().map(|made| made.launch.at),
            Some(Timestamp(100)),
            "the run knows"
        );
    }

    #[test]
    fn a_new_version_is_saved_and_published_in_one_step_and_a_pause_outlives_it() {
        let mut state = state();
        apply(&mut state, &published(100, None, 1)).expect("published");
        let paused = |to| PlanMoved { campaign: CAMPAIGN, to, reason: String::new(), at: Timestamp(0) };
        apply(&mut state, &Fact::PlanMoved(paused(PlanState::Paused))).expect("paused");
        assert!(apply(&mut state, &published(150, Some("{1}"), 1)).is_err(), "not the next version");
        apply(&mut state, &published(150, Some("{2}"), 2)).expect("published anew");
        assert_eq!(state.campaigns[&CAMPAIGN].newest(), Some((2, "{2}")), "saved");
        let plan = &state.plans[&CAMPAIGN];
        assert_eq!((plan.version, plan.state, plan.next), (2, PlanState::Paused, Some(next(150))), "still paused");
        assert!(apply(&mut state, &launched(1, 2, 150, None)).is_err(), "nothing is launched in a pause");
        apply(&mut state, &Fact::PlanMoved(paused(PlanState::Withdrawn))).expect("withdrawn");
        assert_eq!(state.plans[&CAMPAIGN].next, None, "nothing is ahead");
        apply(&mut state, &published(200, None, 2)).expect("published again");
        assert!(state.plans[&CAMPAIGN].is_scheduled(), "and no longer paused");
        let Fact::Published(pinned) = published(250, Some("{3, pinned}"), 3) else { panic!("a publication") };
        let pinned = Published { draft: Some("{3}".into()), ..pinned };
        apply(&mut state, &Fact::Published(pinned)).expect("published with a saved message");
        assert_eq!(state.campaigns[&CAMPAIGN].newest(), Some((3, "{3, pinned}")), "what is launched");
        apply(&mut state, &Fact::PlanMoved(paused(PlanState::Withdrawn))).expect("withdrawn");
        assert_eq!(state.campaigns[&CAMPAIGN].newest(), Some((4, "{3}")), "the draft as it was written");
        assert_eq!(state.plans[&CAMPAIGN].draft, None, "once");
    }

    #[test]
    fn the_version_that_is_published_is_kept_beside_a_newer_one() {
        let mut state = state();
        apply(&mut state, &published(100, None, 1)).expect("published");
        apply(&mut state, &Fact::CampaignSaved { campaign: CAMPAIGN, spec: "{2}".into(), at: Timestamp(1) })
            .expect("saved");
        assert!(state.campaigns[&CAMPAIGN].versions.contains_key(&1), "it will be launched");
        apply(&mut state, &launched(1, 1, 100, None)).expect("made");
    }
}
