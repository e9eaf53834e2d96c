//! Splits: which of the rows that are at a node leave it by which exit.
//!
//! - [`key`]: the keyed hash that every drawing uses.
//! - [`rank`]: exact shares of a set that is known as a whole.
//! - [`stream`]: exact shares of rows that arrive over time.
//! - [`distribution`]: so many at most by each exit, and the rest by the last.
//! - [`sets`]: conditions and segments in order.
//!
//! Who owns the state: the run holds its [`Stream`]s and [`Distribution`]s; all else is a function of its arguments.
//!
//! Invariants:
//! 1. What an assignment answers is a partition: every row is in the set of exactly one exit.
//! 2. The same key and the same arguments give the same assignment on every machine and in every version: a replay may
//!    check one. What was journaled is still the assignment and is never computed anew.
//! 3. Two splits, of two nodes or two runs, are independent of each other.
//!
//! What it must not know: graphs, what an exit leads to, time.

pub mod distribution;
pub mod key;
pub mod rank;
pub mod sets;
pub mod stream;

pub use distribution::Distribution;
pub use key::SplitKey;
pub use stream::Stream;

use crate::limits;

/// Why a split cannot be made as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("a split needs an exit")]
    NoExits,
    #[error("the split has {given} exits, and {max} is the most", max = limits::SPLIT_EXITS_MAX)]
    TooManyExits { given: usize },
    #[error("the weight of exit {exit} is {weight}, and {max} is the most", max = limits::SPLIT_WEIGHT_MAX)]
    WeightTooLarge { exit: usize, weight: u32 },
    #[error("every weight is 0")]
    NoWeight,
    #[error("the sizes add up to {sizes}, and there are {rows} rows")]
    SizesDoNotAddUp { sizes: u64, rows: u64 },
}

/// Holds the number of exits against its bounds.
fn check_exits(given: usize) -> Result<(), SplitError> {
    match given {
        0 => Err(SplitError::NoExits),
        _ if given > limits::SPLIT_EXITS_MAX => Err(SplitError::TooManyExits { given }),
        _ => Ok(()),
    }
}

/// Whether rows can be shared out by these weights, in the order of the exits; a weight of 0 closes an exit.
pub fn check_weights(weights: &[u32]) -> Result<(), SplitError> {
    check_exits(weights.len())?;
    if let Some((exit, weight)) = weights.iter().enumerate().find(|(_, w)| **w > limits::SPLIT_WEIGHT_MAX) {
        return Err(SplitError::WeightTooLarge { exit, weight: *weight });
    }
    if weights.iter().all(|w| *w == 0) { Err(SplitError::NoWeight) } else { Ok(()) }
}

/// How many of `total` rows each exit gets: the whole part of its share, and what is left by largest remainder
/// (Hamilton's method), among equal remainders to the exit that is written first.
///
/// The quotas add up to `total`, and each is less than one row from its share.
pub fn quotas(total: u64, weights: &[u32]) -> Result<Vec<u64>, SplitError> {
    check_weights(weights)?;
    let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let share = |weight: &u32| u128::from(total) * u128::from(*weight);
    let mut quotas: Vec<u64> = weights.iter().map(|w| u64::try_from(share(w) / sum).unwrap_or(total)).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|exit| std::cmp::Reverse(weights.get(*exit).map_or(0, |w| share(w) % sum)));
    let left = total.saturating_sub(quotas.iter().sum());
    for (_, exit) in (0..left).zip(by_remainder) {
        if let Some(quota) = quotas.get_mut(exit) {
            *quota += 1;
        }
    }
    Ok(quotas)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use roaring::RoaringBitmap;

    use super::*;

    /// Invariant 1.
    pub(crate) fn assert_partition(rows: &RoaringBitmap, parts: &[RoaringBitmap]) {
        let mut seen = RoaringBitmap::new();
        for (exit, part) in parts.iter().enumerate() {
            assert!(seen.is_disjoint(part), "exit {exit} has rows of an earlier one");
            seen |= part;
        }
        assert_eq!(&seen, rows, "every row, and no other, is in a part");
    }

    pub(crate) fn sizes(parts: &[RoaringBitmap]) -> Vec<u64> {
        parts.iter().map(RoaringBitmap::len).collect()
    }

    /// Pearson's chi-square of a 2 × 2 table: how far two ways to split the same rows are from independent.
    /// One degree of freedom: 10.83 is exceeded once in a thousand independent pairs.
    pub(crate) fn chi_square(first: &[RoaringBitmap], second: &[RoaringBitmap]) -> f64 {
        let total: u64 = first.iter().map(RoaringBitmap::len).sum();
        let mut sum = 0.0;
        for a in first {
            for b in second {
                let expected = a.len() as f64 * b.len() as f64 / total as f64;
                sum += (a.intersection_len(b) as f64 - expected).powi(2) / expected;
            }
        }
        sum
    }

    #[test]
    fn quotas_are_the_shares_that_a_person_expects() {
        for (total, weights, expected) in [
            (10, &[50, 50][..], &[5, 5][..]),
            (11, &[50, 50], &[6, 5]),
            (100, &[10, 10, 80], &[10, 10, 80]),
            (7, &[1, 1, 1], &[3, 2, 2]),
            (1, &[1, 9], &[0, 1]),
            (0, &[1, 2], &[0, 0]),
            (5, &[0, 3, 0], &[0, 5, 0]),
            (10, &[333, 333, 334], &[3, 3, 4]),
        ] {
            assert_eq!(quotas(total, weights).expect("valid"), expected, "{total} by {weights:?}");
        }
    }

    #[test]
    fn what_cannot_be_shared_out_is_refused() {
        assert_eq!(quotas(1, &[]), Err(SplitError::NoExits), "no exit");
        assert_eq!(quotas(1, &[0, 0]), Err(SplitError::NoWeight), "nothing but closed exits");
        let weight = limits::SPLIT_WEIGHT_MAX + 1;
        assert_eq!(quotas(1, &[1, weight]), Err(SplitError::WeightTooLarge { exit: 1, weight }), "too fine");
        let given = limits::SPLIT_EXITS_MAX + 1;
        assert_eq!(quotas(1, &vec![1; given]), Err(SplitError::TooManyExits { given }), "too many");
    }

    proptest! {
        #[test]
        fn quotas_add_up_and_are_within_one_of_the_share(
            total in prop_oneof![0u64..1_000, any::<u64>()],
            weights in proptest::collection::vec(0u32..=limits::SPLIT_WEIGHT_MAX, 1..=limits::SPLIT_EXITS_MAX),
        ) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let quotas = quotas(total, &weights).expect("valid");
            let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum();
            prop_assert_eq!(quotas.iter().map(|q| u128::from(*q)).sum::<u128>(), u128::from(total), "they add up");
            for (quota, weight) in quotas.iter().zip(&weights) {
                let (quota, share) = (u128::from(*quota) * sum, u128::from(total) * u128::from(*weight));
                prop_assert!(quota.abs_diff(share) < sum, "within one row: {quota} and {share} of {sum}");
            }
        }
    }
}
