//! Time in which a run stands still, and what it moves.
//!
//! A test's looks and its deadline are planned in time in which the run runs: while it is paused nothing goes out, and a sample
//! that was held back for two days of a deadline of two days has shown nothing. So a pause moves all of them by its length. What
//! a pause does not stretch is the window of a contact: it begins with the message, and people read whether the run is
//! paused or not; the windows of all arms stay equally long, and boundaries are drawn by who is judged, whatever the hour.
//!
//! Owned by the run; a fold of the facts that pause and resume it, with their times. Invariants: PA-1 a pause is never
//! shorter than nothing: a clock that was set back in it moves nothing, so that a deadline never comes earlier by the clock than
//! it would have without the pause; PA-2 a clock that was set forward in a pause makes the pause longer, and what is
//! planned moves with it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ledger::flowing::TestMemory;
use crate::ledger::{Run, RunState};

/// The pauses of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    /// Milliseconds of those that are over.
    #[serde(default)]
    over_ms: i64,
    /// When the one that goes on began.
    #[serde(default)]
    since: Option<Timestamp>,
}

fn length(from: Timestamp, to: Timestamp) -> i64 {
    to.0.saturating_sub(from.0).max(0)
}

impl Pauses {
    /// The run is in this state from `at` on.
    pub(super) fn note(&mut self, to: RunState, at: Timestamp) {
        if to == RunState::Paused {
            self.since.get_or_insert(at);
        } else if let Some(since) = self.since.take() {
            self.over_ms = self.over_ms.saturating_add(length(since, at));
        }
    }

    /// Milliseconds of all pauses up to `now`.
    pub fn total_ms(&self, now: Timestamp) -> i64 {
        self.over_ms.saturating_add(self.since.map_or(0, |since| length(since, now)))
    }
}

impl Run {
    /// Milliseconds by which pauses since the cut have moved the looks and the deadline of a test; those after its decision
    /// move nothing.
    pub fn moved_by_pauses(&self, test: &TestMemory, now: Timestamp) -> i64 {
        let moved = || self.pauses.total_ms(now).saturating_sub(test.paused_before_ms).max(0);
        test.moved_ms.unwrap_or_else(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn hours(at: i64) -> Timestamp {
        Timestamp(at * HOUR)
    }

    #[test]
    fn pauses_add_up_and_one_that_goes_on_counts_so_far() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.total_ms(hours(9)), 0, "none");
        pauses.note(RunState::Paused, hours(1));
        pauses.note(RunState::Paused, hours(2));
        assert_eq!(pauses.total_ms(hours(4)), 3 * HOUR, "paused again while it is paused: since the first");
        pauses.note(RunState::Running, hours(5));
        pauses.note(RunState::Running, hours(6));
        assert_eq!(pauses.total_ms(hours(9)), 4 * HOUR, "it is over");
        pauses.note(RunState::Paused, hours(10));
        assert_eq!(pauses.total_ms(hours(11)), 5 * HOUR, "the next one");
        pauses.note(RunState::Stopping, hours(12));
        assert_eq!(pauses.total_ms(hours(20)), 6 * HOUR, "a stop ends it, too");
    }

    #[test]
    fn a_clock_that_is_set_moves_nothing_back() {
        let mut pauses = Pauses::default();
        pauses.note(RunState::Paused, hours(10));
        assert_eq!(pauses.total_ms(hours(3)), 0, "set back while it goes on");
        pauses.note(RunState::Running, hours(4));
        assert_eq!(pauses.total_ms(hours(5)), 0, "and when it ends");
        pauses.note(RunState::Paused, hours(6));
        pauses.note(RunState::Running, hours(700));
        assert_eq!(pauses.total_ms(hours(701)), 694 * HOUR, "set forward: what is planned moves with it");
        pauses.note(RunState::Paused, Timestamp(i64::MIN));
        assert_eq!(pauses.total_ms(Timestamp(i64::MAX)), i64::MAX, "bounded");
    }
}
