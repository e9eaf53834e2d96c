//! The mark byte's protocol: who may take a claimed row, decided by one compare-exchange.
//!
//! Owns no state; generic over the cell, so that `loom` runs the very code that runs over the mapped file.
//!
//! Invariants: JN-R1 from *free*, exactly one of [`try_mark`] and [`try_withdraw`] wins. JN-R2 an outcome is written only
//! over *marked*, and only once: the lane and whoever declares it dead race for it, one wins. JN-R3 who sees a state sees
//! what its writer did before (release, acquire).

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

pub(super) const FREE: u8 = 0;
pub(super) const WITHDRAWN: u8 = 1;
pub(super) const MARKED: u8 = 2;
pub(super) const ACCEPTED: u8 = 3;
pub(super) const DEFERRED: u8 = 4;
pub(super) const UNKNOWN: u8 = 5;
/// Rejections are this plus their class.
pub(super) const REJECTED: u8 = 16;

/// One byte that several threads see.
pub(super) trait Cell {
    fn load(&self) -> u8;
    fn store(&self, value: u8);
    /// Whether `from` stood there and `to` now does.
    fn exchange(&self, from: u8, to: u8) -> bool;
}

impl Cell for AtomicU8 {
    fn load(&self) -> u8 {
        AtomicU8::load(self, Acquire)
    }

    fn store(&self, value: u8) {
        AtomicU8::store(self, value, Release);
    }

    fn exchange(&self, from: u8, to: u8) -> bool {
        self.compare_exchange(from, to, AcqRel, Acquire).is_ok()
    }
}

/// A lane is about to let the last byte leave.
pub(super) fn try_mark(cell: &impl Cell) -> bool {
    cell.exchange(FREE, MARKED)
}

/// Somebody takes the row back.
pub(super) fn try_withdraw(cell: &impl Cell) -> bool {
    cell.exchange(FREE, WITHDRAWN)
}

/// The answer was read, or will never come.
pub(super) fn set_outcome(cell: &impl Cell, outcome: u8) -> bool {
    cell.exchange(MARKED, outcome)
}

/// The position is ready for another claim.
pub(super) fn free(cell: &impl Cell) {
    cell.store(FREE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU8 as LoomU8, AtomicU32 as LoomU32};
    use loom::thread;

    impl Cell for LoomU8 {
        fn load(&self) -> u8 {
            LoomU8::load(self, Acquire)
        }

        fn store(&self, value: u8) {
            LoomU8::store(self, value, Release);
        }

        fn exchange(&self, from: u8, to: u8) -> bool {
            self.compare_exchange(from, to, AcqRel, Acquire).is_ok()
        }
    }

    #[test]
    fn exactly_one_of_lane_and_withdrawer_wins() {
        loom::model(|| {
            let cell = Arc::new(LoomU8::new(FREE));
            let other = cell.clone();
            let lane = thread::spawn(move || {
                let marked = try_mark(&*other);
                if marked {
                    assert!(set_outcome(&*other, ACCEPTED), "nobody else ends a marked row here");
                }
                marked
            });
            let withdrawn = try_withdraw(&*cell);
            let marked = lane.join().expect("the lane ends");
            assert!(marked != withdrawn, "marked {marked} and withdrawn {withdrawn}");
            let expected = if marked { ACCEPTED } else { WITHDRAWN };
            assert_eq!(Cell::load(&*cell), expected, "the byte says who won");
        });
    }

    #[test]
    fn two_withdrawers_and_a_lane_have_one_winner() {
        loom::model(|| {
            let cell = Arc::new(LoomU8::new(FREE));
            let (first, second) = (cell.clone(), cell.clone());
            let pause = thread::spawn(move || try_withdraw(&*first));
            let lane = thread::spawn(move || try_mark(&*second));
            let deadline = try_withdraw(&*cell);
            let wins = [pause.join().expect("pause"), lane.join().expect("lane"), deadline];
            assert_eq!(wins.iter().filter(|won| **won).count(), 1, "one winner among {wins:?}");
        });
    }

    #[test]
    fn an_outcome_is_seen_after_its_mark_with_what_the_lane_did_before() {
        loom::model(|| {
            let cell = Arc::new(LoomU8::new(FREE));
            let sent = Arc::new(LoomU32::new(0));
            let (lane_cell, lane_sent) = (cell.clone(), sent.clone());
            let lane = thread::spawn(move || {
                assert!(try_mark(&*lane_cell), "a free row is marked");
                lane_sent.store(1, std::sync::atomic::Ordering::Relaxed);
                assert!(set_outcome(&*lane_cell, ACCEPTED), "a marked row takes its outcome");
            });
            let seen = Cell::load(&*cell);
            assert!([FREE, MARKED, ACCEPTED].contains(&seen), "states come in order, saw {seen}");
            if seen == ACCEPTED {
                assert_eq!(
                    sent.load(std::sync::atomic::Ordering::Relaxed),
                    1,
                    "the hand-over is visible with its outcome"
                );
            }
            lane.join().expect("the lane ends");
        });
    }

    #[test]
    fn a_dead_lanes_row_ends_once() {
        loom::model(|| {
            let cell = Arc::new(LoomU8::new(MARKED));
            let other = cell.clone();
            let lane = thread::spawn(move || set_outcome(&*other, ACCEPTED));
            let declared = set_outcome(&*cell, UNKNOWN);
            let answered = lane.join().expect("the lane ends");
            assert!(declared != answered, "declared {declared} and answered {answered}");
            assert_eq!(Cell::load(&*cell), if answered { ACCEPTED } else { UNKNOWN }, "the byte says which");
        });
    }
}
