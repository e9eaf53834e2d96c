//! Contact distribution: each limited exit takes so many at most per run, the last takes the rest.
//!
//! Exits are filled in the order in which they are written: the first takes until it is full, then the second. Which
//! rows of an arriving set an exit takes is drawn by their keyed hash.
//!
//! Who owns the state: the run. Invariants:
//! 1. An exit never takes more than its limit over the whole run, however many sets arrive; a limit that is lowered below
//!    what was taken closes the exit, and those who passed stay where they are.
//! 2. The last exit takes rows only once every other is full.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::key::SplitKey;
use super::{SplitError, check_exits, rank};

/// What each limited exit may take and has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    exits: Vec<Limited>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Limited {
    limit: u64,
    taken: u64,
}

impl Distribution {
    /// One exit per limit, and the last, unlimited one.
    pub fn new(limits: &[u64]) -> Result<Distribution, SplitError> {
        check_exits(limits.len() + 1)?;
        Ok(Distribution { exits: limits.iter().map(|limit| Limited { limit: *limit, taken: 0 }).collect() })
    }

    /// Sets other limits for the exits, in order; an exit that is new has taken nothing.
    pub fn change(&mut self, limits: &[u64]) -> Result<(), SplitError> {
        check_exits(limits.len() + 1)?;
        let mut taken = self.exits.iter().map(|exit| exit.taken);
        self.exits = limits.iter().map(|limit| Limited { limit: *limit, taken: taken.next().unwrap_or(0) }).collect();
        Ok(())
    }

    /// What each limited exit has taken so far.
    pub fn taken(&self) -> impl Iterator<Item = u64> + '_ {
        self.exits.iter().map(|exit| exit.taken)
    }

    /// A set of rows per exit, the unlimited one last.
    pub fn assign(&mut self, key: &SplitKey, rows: &RoaringBitmap) -> Result<Vec<RoaringBitmap>, SplitError> {
        let mut left = rows.len();
        let mut sizes: Vec<u64> = Vec::with_capacity(self.exits.len() + 1);
        for exit in &self.exits {
            let size = exit.limit.saturating_sub(exit.taken).min(left);
            left -= size;
            sizes.push(size);
        }
        sizes.push(left);
        let parts = rank::cut(key, rows, &sizes)?;
        for (exit, size) in self.exits.iter_mut().zip(sizes) {
            exit.taken += size;
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{assert_partition, sizes};
    use super::*;
    use crate::flow::graph::NodeId;
    use crate::ids::RunId;

    fn key() -> SplitKey {
        SplitKey::new(RunId(1), NodeId(5))
    }

    #[test]
    fn exits_fill_one_after_the_other_and_the_last_takes_the_rest() {
        let mut spread = Distribution::new(&[100, 200]).expect("valid");
        let first: RoaringBitmap = (0..150).collect();
        let parts = spread.assign(&key(), &first).expect("assigns");
        assert_eq!(sizes(&parts), [100, 50, 0], "the first is full");
        assert!(parts[0].iter().any(|row| row >= 100), "at random, and not the first hundred");
        let parts = spread.assign(&key(), &(150..1_150).collect()).expect("assigns");
        assert_eq!(sizes(&parts), [0, 150, 850], "and then the second");
        assert_eq!(spread.taken().collect::<Vec<_>>(), [100, 200], "as many as they may");
    }

    #[test]
    fn other_limits_concern_those_who_come_later() {
        let mut spread = Distribution::new(&[10]).expect("valid");
        spread.assign(&key(), &(0..10).collect()).expect("assigns");
        spread.change(&[5, 5]).expect("valid");
        assert_eq!(sizes(&spread.assign(&key(), &(10..20).collect()).expect("assigns")), [0, 5, 5], "lowered");
        spread.change(&[20, 5]).expect("valid");
        assert_eq!(sizes(&spread.assign(&key(), &(20..40).collect()).expect("assigns")), [10, 0, 10], "raised");
    }

    #[test]
    fn only_so_many_exits() {
        let many = vec![1; crate::limits::SPLIT_EXITS_MAX];
        assert!(matches!(Distribution::new(&many), Err(SplitError::TooManyExits { .. })), "with the last one too many");
        let mut none = Distribution::new(&[]).expect("the rest alone");
        assert_eq!(sizes(&none.assign(&key(), &(0..3).collect()).expect("assigns")), [3], "all remain");
    }

    proptest! {
        #[test]
        fn no_exit_takes_more_than_its_limit(
            caps in proptest::collection::vec(0u64..60, 0..6),
            arrivals in proptest::collection::vec(0u32..50, 0..10),
        ) {
            let mut spread = Distribution::new(&caps).expect("valid");
            let (mut next, mut totals) = (0, vec![0; caps.len() + 1]);
            for count in arrivals {
                let rows: RoaringBitmap = (next..next + count).collect();
                next += count;
                let parts = spread.assign(&key(), &rows).expect("assigns");
                assert_partition(&rows, &parts);
                for (total, part) in totals.iter_mut().zip(&parts) {
                    *total += part.len();
                }
            }
            let mut left = u64::from(next);
            for (exit, (cap, total)) in caps.iter().zip(&totals).enumerate() {
                prop_assert_eq!(*total, left.min(*cap), "exit {} takes what it may", exit);
                left -= total;
            }
            prop_assert_eq!(totals[caps.len()], left, "the last takes the rest");
        }
    }
}
