//! Splits that ask instead of drawing: a condition, and sets in order (segments, interactions).
//!
//! Owns no state. Invariant: what is asked for is evaluated over more rows than have arrived; only those that have are
//! ever answered.

use roaring::RoaringBitmap;

/// Rows that a condition sorted.
#[derive(Clone, Debug, PartialEq)]
pub struct Sorted {
    pub yes: RoaringBitmap,
    pub no: RoaringBitmap,
}

/// The rows for which the condition is true, and those for which it is not.
pub fn condition(rows: &RoaringBitmap, truth: &RoaringBitmap) -> Sorted {
    Sorted { yes: rows & truth, no: rows - truth }
}

/// A set of rows per exit: each row goes to the first of `sets` that has it, and to the last exit, the remaining
/// path, if none has. One exit more than sets.
pub fn in_order<'s>(rows: &RoaringBitmap, sets: impl IntoIterator<Item = &'s RoaringBitmap>) -> Vec<RoaringBitmap> {
    let mut rest = rows.clone();
    let mut parts: Vec<RoaringBitmap> = sets
        .into_iter()
        .map(|set| {
            let part = &rest & set;
            rest -= &part;
            part
        })
        .collect();
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::assert_partition;
    use super::*;

    fn set(rows: &[u32]) -> RoaringBitmap {
        rows.iter().collect()
    }

    #[test]
    fn the_first_set_that_has_a_row_gets_it_and_the_rest_remains() {
        let parts = in_order(&set(&[1, 2, 3, 4, 5]), [&set(&[2, 3, 9]), &set(&[3, 4])]);
        assert_eq!(parts, [set(&[2, 3]), set(&[4]), set(&[1, 5])], "3 is in both and goes to the first");
        assert_eq!(in_order(&set(&[7]), []), [set(&[7])], "without sets all remain");
    }

    proptest! {
        #[test]
        fn every_row_has_one_way_out(
            rows in proptest::collection::btree_set(0u32..300, 0..200),
            sets in proptest::collection::vec(proptest::collection::btree_set(0u32..300, 0..200), 0..6),
        ) {
            let rows: RoaringBitmap = rows.into_iter().collect();
            let sets: Vec<RoaringBitmap> = sets.into_iter().map(RoaringBitmap::from_iter).collect();
            let parts = in_order(&rows, &sets);
            assert_partition(&rows, &parts);
            for row in &rows {
                let expected = sets.iter().position(|s| s.contains(row)).unwrap_or(sets.len());
                prop_assert!(parts[expected].contains(row), "row {row} leaves by {expected}");
            }
            if let Some(first) = sets.first() {
                let Sorted { yes, no } = condition(&rows, first);
                prop_assert!(yes.is_subset(first) && no.is_disjoint(first), "true and false");
                assert_partition(&rows, &[yes, no]);
            }
        }
    }
}
