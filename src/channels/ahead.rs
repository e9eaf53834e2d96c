//! How many rows may be claimed ahead of an unlimited connector's lanes: what its provider answers in a moment, measured.
//!
//! A row that waits longer than `CLAIM_MAX` is taken back, and if a lane has it in an open DATA, the connection is cut. So
//! a slow relay must not be given the four batches that keep a fast one busy.
//!
//! Owns the measurement and no clock. Invariant: AH-1 the bound is from the number of lanes to `BATCHES_AHEAD` batches.
//!
//! Must not know grants, lanes or providers.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::limits::{BATCH_CONTACTS_MAX, BATCHES_AHEAD};

/// Rows are claimed for so long ahead; well below `CLAIM_MAX`.
const AHEAD: Duration = Duration::from_secs(2);
/// A measurement takes at least so long.
const MEASURE: Duration = Duration::from_millis(100);
/// Before anything is measured each lane is given so many rows.
const ROWS_PER_LANE_AT_FIRST: u64 = 16;
/// What is left of an old measurement that was higher.
const KEPT: f64 = 0.7;
const ROWS_MAX: u64 = (BATCHES_AHEAD * BATCH_CONTACTS_MAX) as u64;

#[derive(Clone, Debug)]
pub struct AheadBudget {
    lanes: u64,
    /// Answers per second; `None` before the first answer.
    rate: Option<f64>,
    seen: u64,
    since: Monotonic,
}

impl AheadBudget {
    pub fn new(lanes: usize) -> AheadBudget {
        AheadBudget { lanes: (lanes as u64).clamp(1, ROWS_MAX), rate: None, seen: 0, since: Monotonic::default() }
    }

    /// Takes note of all answers so far. `busy`: rows were on their way, so that few answers mean a slow provider.
    pub fn measure(&mut self, answers: u64, busy: bool, now: Monotonic) {
        let took = now.since(self.since);
        if took < MEASURE {
            return;
        }
        let new = answers.saturating_sub(self.seen) as f64 / took.as_secs_f64();
        (self.seen, self.since) = (answers, now);
        if busy && (new > 0.0 || self.rate.is_some()) {
            self.rate = Some(self.rate.map_or(new, |old| new.max(KEPT * old + (1.0 - KEPT) * new)));
        }
    }

    /// Rows that may be ahead now.
    pub fn rows(&self) -> u64 {
        let wanted = match self.rate {
            None => self.lanes.saturating_mul(ROWS_PER_LANE_AT_FIRST),
            Some(rate) => (rate * AHEAD.as_secs_f64()) as u64,
        };
        wanted.clamp(self.lanes, ROWS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_millis(millis))
    }

    #[test]
    fn a_slow_relay_gets_what_it_answers_in_two_seconds() {
        let mut budget = AheadBudget::new(4);
        assert_eq!(budget.rows(), 64, "a few per lane at first");
        for tick in 1..=20 {
            budget.measure(tick * 20, true, at(tick * 100));
        }
        assert_eq!(budget.rows(), 400, "200 answers per second");
        for tick in 21..=60 {
            budget.measure(400, true, at(tick * 100));
        }
        assert_eq!(budget.rows(), 4, "a relay that hangs keeps its lanes busy, and no more");
        budget.measure(10_400, true, at(7_000));
        assert_eq!(budget.rows(), ROWS_MAX, "at once when it is fast again");
    }

    #[test]
    fn idle_time_says_nothing_about_the_provider() {
        let mut budget = AheadBudget::new(50);
        budget.measure(5_000, true, at(100));
        let fast = budget.rows();
        for tick in 2..100 {
            budget.measure(5_000, false, at(tick * 100));
        }
        assert_eq!(budget.rows(), fast, "nothing was on its way");
    }

    #[test]
    fn looks_in_quick_succession_are_one_measurement() {
        let mut budget = AheadBudget::new(1);
        budget.measure(1, true, at(100));
        let before = budget.rows();
        budget.measure(2, true, at(101));
        assert_eq!(budget.rows(), before, "too soon");
    }
}
