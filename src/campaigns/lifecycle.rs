//! The life of a campaign: nine states, and one table of every legal move between them.
//!
//! Invariants:
//! 1. A state changes by [`next`] and by nothing else; what is not in the table is refused.
//! 2. From a state, a trigger leads to one place.
//! 3. Every state can be reached from `draft`, and from every state but `archived` a way leads on.
//!
//! What it must not know: what has to be done on a move (the engine does it), who may ask for it (the API knows).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a campaign stands. The number is part of on-disk formats and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Being written; may be incomplete.
    Draft = 1,
    /// Complete, and waits for a second person.
    AwaitingApproval = 2,
    /// Starts by itself at its time.
    Scheduled = 3,
    /// Sends, or waits for limits, retries or delays.
    Running = 4,
    /// Claims nothing; what was handed over is still answered.
    Paused = 5,
    /// Stop was asked; claimed rows are being taken back or answered.
    Stopping = 6,
    /// Ended early: the rest was skipped.
    Stopped = 7,
    /// Every contact of the run has its outcome.
    Finished = 8,
    /// Kept to be read; nothing changes it any more.
    Archived = 9,
}

/// What moves a campaign on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person: begin now.
    Start,
    /// A person: begin at the planned time.
    Schedule,
    /// A person: back to draft.
    Unschedule,
    /// A person: the launch is waited for again, after a pause without a run.
    Reschedule,
    /// A person: ask a second person.
    Submit,
    /// The second person agrees.
    Approve,
    /// The second person does not, or the request expired.
    Reject,
    /// The engine: the planned time has come.
    Due,
    /// A person, or a guard-rail.
    Pause,
    Resume,
    Stop,
    /// The engine: nothing is claimed any more.
    Drained,
    /// The engine: every contact has its outcome and nobody can still arrive.
    Finish,
    /// An operator settled unknown contacts as pending: they are to be sent.
    SettleReopens,
    Archive,
}

use State::{Archived, AwaitingApproval, Draft, Finished, Paused, Running, Scheduled, Stopped, Stopping};

/// Every legal move: from, by, to.
pub const MOVES: &[(State, Trigger, State)] = &[
    (Draft, Trigger::Start, Running),
    (Draft, Trigger::Schedule, Scheduled),
    (Draft, Trigger::Submit, AwaitingApproval),
    (Draft, Trigger::Archive, Archived),
    (AwaitingApproval, Trigger::Approve, Scheduled),
    (AwaitingApproval, Trigger::Reject, Draft),
    (Scheduled, Trigger::Due, Running),
    (Scheduled, Trigger::Unschedule, Draft),
    (Scheduled, Trigger::Stop, Stopped),
    (Scheduled, Trigger::Pause, Paused),
    (Paused, Trigger::Reschedule, Scheduled),
    (Running, Trigger::Pause, Paused),
    (Running, Trigger::Stop, Stopping),
    (Running, Trigger::Finish, Finished),
    (Paused, Trigger::Resume, Running),
    (Paused, Trigger::Stop, Stopping),
    // What was handed over before the pause may have been the last.
    (Paused, Trigger::Finish, Finished),
    // Settling while it runs or is paused leaves it where it is.
    (Running, Trigger::SettleReopens, Running),
    (Paused, Trigger::SettleReopens, Paused),
    (Finished, Trigger::SettleReopens, Running),
    (Stopping, Trigger::Drained, Stopped),
    (Stopped, Trigger::Archive, Archived),
    (Finished, Trigger::Archive, Archived),
];

/// A move that the table does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {verb} a campaign that is {state}{hint}; {legal}", verb = .trigger.verb(), hint = hint(*.state, *.trigger), legal = legal_text(*.state))]
pub struct IllegalMove {
    pub state: State,
    pub trigger: Trigger,
}

impl IllegalMove {
    /// What a person can do instead, in the order of the table.
    pub fn legal(&self) -> Vec<Trigger> {
        self.state.legal().filter(|t| t.is_offered()).collect()
    }
}

fn legal_text(state: State) -> String {
    let names: Vec<&str> = state.legal().filter(|t| t.is_offered()).map(Trigger::name).collect();
    if names.is_empty() {
        "nothing can be done with it now".to_owned()
    } else {
        format!("legal now: {}", names.join(", "))
    }
}

fn hint(state: State, trigger: Trigger) -> &'static str {
    match (state, trigger) {
        (Stopped | Archived | Stopping, Trigger::SettleReopens) => {
            " (settle as accepted, or send to these contacts in a campaign of their own)"
        }
        (Running | Paused | Stopping | Scheduled, Trigger::Archive) => " (stop it first)",
        (Archived, Trigger::Archive) => " (it is archived already)",
        (Finished | Stopped | Archived, Trigger::Start | Trigger::Resume) => {
            " (it runs once: create another campaign from its spec)"
        }
        (Paused, Trigger::Start) => " (resume it)",
        (Running, Trigger::Start | Trigger::Resume) => " (it is under way)",
        (Scheduled, Trigger::Start | Trigger::Schedule | Trigger::Resume) => " (it starts by itself at its time)",
        _ => "",
    }
}

/// Where a trigger leads from a state.
pub fn next(state: State, trigger: Trigger) -> Result<State, IllegalMove> {
    MOVES
        .iter()
        .find(|(from, by, _)| *from == state && *by == trigger)
        .map(|(_, _, to)| *to)
        .ok_or(IllegalMove { state, trigger })
}

impl State {
    pub const ALL: [State; 9] =
        [Draft, AwaitingApproval, Scheduled, Running, Paused, Stopping, Stopped, Finished, Archived];

    pub fn name(self) -> &'static str {
        match self {
            Draft => "draft",
            AwaitingApproval => "awaiting_approval",
            Scheduled => "scheduled",
            Running => "running",
            Paused => "paused",
            Stopping => "stopping",
            Stopped => "stopped",
            Finished => "finished",
            Archived => "archived",
        }
    }

    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.name() == name)
    }

    /// The triggers that lead on from here, in the order of the table.
    pub fn legal(self) -> impl Iterator<Item = Trigger> {
        MOVES.iter().filter(move |(from, _, _)| *from == self).map(|(_, by, _)| *by)
    }

    /// Whether the spec may be changed.
    pub fn is_editable(self) -> bool {
        self == Draft
    }

    /// Whether a run exists that is not over: its contacts may still be sent to, or answered.
    pub fn has_live_run(self) -> bool {
        matches!(self, Running | Paused | Stopping)
    }

    /// Whether rows may be granted and claimed.
    pub fn may_claim(self) -> bool {
        self == Running
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Trigger {
    pub const ALL: [Trigger; 15] = [
        Trigger::Start,
        Trigger::Schedule,
        Trigger::Unschedule,
        Trigger::Reschedule,
        Trigger::Submit,
        Trigger::Approve,
        Trigger::Reject,
        Trigger::Due,
        Trigger::Pause,
        Trigger::Resume,
        Trigger::Stop,
        Trigger::Drained,
        Trigger::Finish,
        Trigger::SettleReopens,
        Trigger::Archive,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Trigger::Start => "start",
            Trigger::Schedule => "schedule",
            Trigger::Unschedule => "unschedule",
            Trigger::Reschedule => "reschedule",
            Trigger::Submit => "submit",
            Trigger::Approve => "approve",
            Trigger::Reject => "reject",
            Trigger::Due => "due",
            Trigger::Pause => "pause",
            Trigger::Resume => "resume",
            Trigger::Stop => "stop",
            Trigger::Drained => "drained",
            Trigger::Finish => "finish",
            Trigger::SettleReopens => "settle",
            Trigger::Archive => "archive",
        }
    }

    /// In a sentence: "cannot pause a campaign".
    pub fn verb(self) -> &'static str {
        match self {
            Trigger::Due => "begin",
            Trigger::Drained => "end the stop of",
            Trigger::SettleReopens => "settle as pending the contacts of",
            other => other.name(),
        }
    }

    /// Whether a person can ask for it: there is a request and a command for it. The others are the engine's own, or the
    /// table has them for the state's sake alone.
    pub fn is_offered(self) -> bool {
        matches!(
            self,
            Trigger::Start
                | Trigger::Unschedule
                | Trigger::Pause
                | Trigger::Resume
                | Trigger::Stop
                | Trigger::SettleReopens
                | Trigger::Archive
        )
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a cell, written by hand and not derived from `MOVES`: the state that a trigger leads to, `.` if refused.
    /// Columns in the order of `Trigger::ALL`.
    const EXPECTED: &[(State, &str)] = &[
        //                   start sched unsch resch submit appr rej due pause resume stop drain finish settle archive
        (Draft, "R S . . W . . . . . . . . . A"),
        (AwaitingApproval, ". . . . . S D . . . . . . . ."),
        (Scheduled, ". . D . . . . R P . X . . . ."),
        (Running, ". . . . . . . . P . T . F R ."),
        (Paused, ". . . S . . . . . R T . F P ."),
        (Stopping, ". . . . . . . . . . . X . . ."),
        (Stopped, ". . . . . . . . . . . . . . A"),
        (Finished, ". . . . . . . . . . . . . R A"),
        (Archived, ". . . . . . . . . . . . . . ."),
    ];

    fn letter(state: State) -> &'static str {
        match state {
            Draft => "D",
            AwaitingApproval => "W",
            Scheduled => "S",
            Running => "R",
            Paused => "P",
            Stopping => "T",
            Stopped => "X",
            Finished => "F",
            Archived => "A",
        }
    }

    #[test]
    fn every_pair_of_state_and_trigger_is_as_the_table_by_hand_says() {
        assert_eq!(EXPECTED.iter().map(|(s, _)| *s).collect::<Vec<_>>(), State::ALL, "all states, in order");
        for (state, cells) in EXPECTED {
            let cells: Vec<&str> = cells.split(' ').collect();
            assert_eq!(cells.len(), Trigger::ALL.len(), "{state}: all triggers");
            for (trigger, cell) in Trigger::ALL.into_iter().zip(cells) {
                let answer = next(*state, trigger).map_or(".", letter);
                assert_eq!(answer, cell, "{trigger} from {state}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_state_and_the_legal_moves() {
        for state in State::ALL {
            for trigger in Trigger::ALL {
                let Err(refusal) = next(state, trigger) else { continue };
                let text = refusal.to_string();
                assert!(text.contains(state.name()), "{text}");
                for legal in refusal.legal() {
                    assert!(next(state, legal).is_ok(), "{legal} is legal from {state}");
                    assert!(text.contains(legal.name()), "{text} names {legal}");
                }
            }
        }
        let pause = next(Draft, Trigger::Pause).expect_err("refused").to_string();
        assert_eq!(pause, "cannot pause a campaign that is draft; legal now: start, archive");
        for state in State::ALL {
            let words = legal_text(state);
            for absent in ["schedule", "reschedule", "submit", "approve"] {
                assert!(!words.split([' ', ',']).any(|word| word == absent), "{absent} is no command: {words}");
            }
        }
        let settle = next(Stopped, Trigger::SettleReopens).expect_err("refused").to_string();
        assert!(settle.contains("settle as accepted") && !settle.contains("linked"), "{settle}");
        let nothing = next(Archived, Trigger::Start).expect_err("refused").to_string();
        assert!(nothing.ends_with("nothing can be done with it now"), "{nothing}");
    }

    #[test]
    fn every_state_is_reached_from_draft_and_only_archived_is_the_end() {
        let mut reached = vec![Draft];
        let mut at = 0;
        while at < reached.len() {
            let here = reached[at];
            for (_, _, to) in MOVES.iter().filter(|(from, _, _)| *from == here) {
                if !reached.contains(to) {
                    reached.push(*to);
                }
            }
            at += 1;
        }
        for state in State::ALL {
            assert!(reached.contains(&state), "{state} is reached");
            assert_eq!(state.legal().next().is_none(), state == Archived, "{state}: a way leads on");
        }
    }

    #[test]
    fn from_a_state_a_trigger_leads_to_one_place() {
        for (at, (from, by, _)) in MOVES.iter().enumerate() {
            let twice = MOVES[at + 1..].iter().any(|(f, b, _)| f == from && b == by);
            assert!(!twice, "{by} from {from} stands twice");
        }
    }

    #[test]
    fn names_read_back_and_equal_the_serialised_form() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state), "{state}");
            assert_eq!(serde_json::to_value(state).expect("JSON"), state.name(), "{state}");
        }
        assert_eq!(State::from_name("active"), None, "unknown");
    }
}
