//! Envelopes that are open ahead of their permits: how many there are in one limit, and how far ahead they may be opened.
//!
//! Owns times and no clock. Invariants: EN-1 an envelope that has been open for longer than `ENVELOPE_COUNTED_MAX` is not counted:
//! a relay that says nothing in the middle of some holds up no other; EN-2 the lead is from `ENVELOPE_LEAD_MIN` to
//! `ENVELOPE_LEAD_MAX`.
//!
//! Must not know scopes, permits or lanes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::limits::{ENVELOPE_COUNTED_MAX, ENVELOPE_LEAD_MAX, ENVELOPE_LEAD_MIN, PACED_LATE_TOLERATED};

/// Those of one limit, by the time at which they were opened.
#[derive(Clone, Debug, Default)]
pub struct OpenEnvelopes {
    since: VecDeque<Monotonic>,
}

impl OpenEnvelopes {
    pub fn open(&mut self, now: Monotonic) {
        self.since.push_back(now);
    }

    /// One that was opened then is marked, withdrawn or lost.
    pub fn close(&mut self, opened: Monotonic) {
        if let Some(at) = self.since.iter().position(|since| *since == opened) {
            self.since.remove(at);
        }
    }

    /// Those that a permit is kept for.
    pub fn count(&mut self, now: Monotonic) -> u64 {
        while self.since.front().is_some_and(|since| now.since(*since) > ENVELOPE_COUNTED_MAX) {
            self.since.pop_front();
        }
        self.since.len() as u64
    }
}

/// What a relay takes: smoothed, and sooner up than down, because a permit that is missed is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// From the pull of a message, on a connection that waits for nothing, to the first asking for its mark.
    opening: Duration,
    /// From a mark to the answer.
    answering: Duration,
}

fn smoothed(old: Duration, new: Duration) -> Duration {
    let new = new.min(ENVELOPE_LEAD_MAX);
    if new > old { (old + new) / 2 } else { (old * 7 + new) / 8 }
}

impl Habits {
    pub fn opened(&mut self, took: Duration) {
        self.opening = smoothed(self.opening, took);
    }

    pub fn answered(&mut self, took: Duration) {
        self.answering = smoothed(self.answering, took);
    }

    /// How long before its permit an envelope may be opened.
    pub fn lead(&self) -> Duration {
        (self.opening + self.opening / 4 + ENVELOPE_LEAD_MIN).min(ENVELOPE_LEAD_MAX)
    }

    /// Whether an envelope may be opened behind a message that is not answered yet. Its permit waits with it: beyond what a late
    /// permit may be, that is a permit lost.
    pub fn answers_soon(&self) -> bool {
        self.answering <= PACED_LATE_TOLERATED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_millis(millis))
    }

    #[test]
    fn who_stands_still_is_not_waited_for() {
        let mut open = OpenEnvelopes::default();
        for millis in [0, 10, 600] {
            open.open(at(millis));
        }
        assert_eq!(open.count(at(900)), 3, "all of them");
        open.close(at(10));
        assert_eq!(open.count(at(1_100)), 1, "the first is overdue");
        open.close(at(0));
        assert_eq!(open.count(at(1_100)), 1, "and its end is no other's");
        open.close(at(600));
        assert_eq!(open.count(at(1_100)), 0, "none is left");
    }

    #[test]
    fn the_lead_follows_the_relay_within_its_bounds() {
        let mut habits = Habits::default();
        assert_eq!(habits.lead(), ENVELOPE_LEAD_MIN, "nothing is known");
        (0..3).for_each(|_| habits.opened(Duration::from_millis(80)));
        assert!(habits.lead() > Duration::from_millis(85), "nearly all of it after three: {habits:?}");
        (0..60).for_each(|_| habits.opened(Duration::from_millis(80)));
        assert!((Duration::from_millis(103)..=Duration::from_millis(104)).contains(&habits.lead()), "{habits:?}");
        (0..60).for_each(|_| habits.opened(Duration::from_secs(60)));
        assert_eq!(habits.lead(), ENVELOPE_LEAD_MAX, "a relay that stands still does not open everything");
        assert!(habits.answers_soon(), "no answer was late");
        (0..60).for_each(|_| habits.answered(Duration::from_millis(500)));
        assert!(!habits.answers_soon(), "half a second is a permit lost");
    }
}
