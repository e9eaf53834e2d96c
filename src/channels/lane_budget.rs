//! How many lanes a connector may have now, and how far claims may run ahead of a class that is bound to few lanes.
//!
//! Owns the budget of one connector and no clock: the time is passed in. Invariants: LB-1 the budget is at least one lane
//! and at most what is configured; LB-2 it is halved at most once in `SHRINK_EVERY` (replies of one burst all complain
//! about the same number of connections) and grows back lane by lane, one in `REGROW_EVERY` without a complaint; LB-3 a
//! bound class is claimed ahead by what it was seen to take, so that it holds no more than it can use soon.
//!
//! Must not know lanes, replies, or who opens connections.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::limits::LANE_CHUNK_ROWS;

/// At most one halving in this time.
const SHRINK_EVERY: Duration = Duration::from_secs(1);
/// One lane more after each such time without a change.
const REGROW_EVERY: Duration = Duration::from_secs(30);
/// A bound class may be claimed this much ahead of its measured rate, so that a faster provider is found out.
const AHEAD_OF_MEASURED: f64 = 2.0;

/// Lanes of one connector. See the module's docs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneBudget {
    configured: usize,
    now: usize,
    changed: Monotonic,
}

impl LaneBudget {
    /// All lanes that are configured.
    pub fn new(configured: usize) -> LaneBudget {
        let configured = configured.max(1);
        LaneBudget { configured, now: configured, changed: Monotonic::default() }
    }

    pub fn lanes(&self) -> usize {
        self.now
    }

    /// The provider said "too many connections": half the lanes, once per burst of complaints.
    pub fn too_many(&mut self, now: Monotonic) {
        if self.now < self.configured && now.since(self.changed) < SHRINK_EVERY {
            return;
        }
        self.now = (self.now / 2).max(1);
        self.changed = now;
    }

    /// To be called about once a second: a lane that was given up is tried again.
    pub fn regrow(&mut self, now: Monotonic) {
        if self.now < self.configured && now.since(self.changed) >= REGROW_EVERY {
            self.now += 1;
            self.changed = now;
        }
    }
}

/// Rows a second that may be claimed ahead of a class that at most `lanes` lanes serve: what it was measured to take and
/// as much again, never above its configured rate. Before anything is measured: one chunk a lane.
pub fn bound_class_rate(lanes: usize, measured: Option<f64>, configured: Option<f64>) -> f64 {
    let lanes = lanes.max(1) as f64;
    let rate = measured.map_or(lanes * LANE_CHUNK_ROWS as f64, |rate| (rate * AHEAD_OF_MEASURED).max(lanes));
    configured.map_or(rate, |most| rate.min(most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: f64) -> Monotonic {
        Monotonic((seconds * 1e9) as u64)
    }

    #[test]
    fn a_burst_of_complaints_halves_once_and_time_heals() {
        let mut budget = LaneBudget::new(50);
        (0..20).for_each(|n| budget.too_many(at(0.1 + f64::from(n) / 100.0)));
        assert_eq!(budget.lanes(), 25, "one burst, one halving");
        budget.too_many(at(2.0));
        assert_eq!(budget.lanes(), 12, "the next burst");
        budget.regrow(at(31.9));
        assert_eq!(budget.lanes(), 12, "not yet");
        budget.regrow(at(32.0));
        budget.regrow(at(33.0));
        assert_eq!(budget.lanes(), 13, "one lane after half a minute");
        let mut now = 33.0;
        while budget.lanes() < 50 {
            now += 30.0;
            budget.regrow(at(now));
            assert!(now < 33.0 + 37.0 * 30.0 + 60.0, "it grows back to what is configured");
        }
        budget.regrow(at(now + 1_000.0));
        assert_eq!(budget.lanes(), 50, "and not beyond");
    }

    #[test]
    fn the_last_lane_stays() {
        let mut budget = LaneBudget::new(3);
        (1..10).for_each(|n| budget.too_many(at(f64::from(n) * 2.0)));
        assert_eq!(budget.lanes(), 1, "one lane goes on asking");
    }

    #[test]
    fn a_bound_class_is_claimed_ahead_by_what_it_takes() {
        assert_eq!(bound_class_rate(2, None, None), 40.0, "a chunk a lane to begin with");
        assert_eq!(bound_class_rate(2, Some(100.0), None), 200.0, "twice what it took");
        assert_eq!(bound_class_rate(2, Some(0.0), None), 2.0, "a standstill keeps its lanes supplied and no more");
        assert_eq!(bound_class_rate(2, Some(100.0), Some(30.0)), 30.0, "never above the configured rate");
    }

    proptest! {
        #[test]
        fn the_budget_stays_within_its_bounds(
            configured in 1usize..200,
            steps in prop::collection::vec((0u32..40_000, any::<bool>()), 1..200),
        ) {
            let (mut budget, mut millis) = (LaneBudget::new(configured), 0u64);
            for (pause, complaint) in steps {
                millis += u64::from(pause);
                let now = at(millis as f64 / 1_000.0);
                if complaint { budget.too_many(now) } else { budget.regrow(now) }
                prop_assert!((1..=configured).contains(&budget.lanes()), "{} of {}", budget.lanes(), configured);
            }
        }
    }
}
