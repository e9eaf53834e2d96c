//! Sets of binary values, as ranges: what a comparison asks of a bit-sliced attribute.
//!
//! Owns no state. Invariants: RA-1 ranges ascend, are not empty, and do not touch; RA-2 `high` is exclusive, but
//! [`Range::END`] means that there is no upper bound (no stored value has all digits set).

/// Values from `low` to below `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Range {
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Range {
    pub(super) const END: u64 = u64::MAX;

    pub(super) fn contains(self, value: u64) -> bool {
        self.low <= value && (value < self.high || self.high == Range::END)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RangeSet(Vec<Range>);

impl RangeSet {
    /// The union of ranges in any order; empty ones are dropped, overlapping and touching ones joined.
    pub(super) fn of(ranges: impl IntoIterator<Item = (u64, u64)>) -> RangeSet {
        let mut sorted: Vec<Range> =
            ranges.into_iter().filter(|(low, high)| low < high).map(|(low, high)| Range { low, high }).collect();
        sorted.sort_unstable();
        let mut joined: Vec<Range> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match joined.last_mut() {
                Some(last) if range.low <= last.high => last.high = last.high.max(range.high),
                _ => joined.push(range),
            }
        }
        RangeSet(joined)
    }

    pub(super) fn ranges(&self) -> &[Range] {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every value is in it.
    pub(super) fn is_full(&self) -> bool {
        self.0 == [Range { low: 0, high: Range::END }]
    }

    pub(super) fn contains(&self, value: u64) -> bool {
        let after = self.0.partition_point(|range| range.low <= value);
        after > 0 && self.0[after - 1].contains(value)
    }

    pub(super) fn complement(&self) -> RangeSet {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut low = 0;
        for range in &self.0 {
            gaps.push((low, range.low));
            low = range.high;
        }
        gaps.push((low, Range::END));
        RangeSet::of(gaps)
    }

    pub(super) fn intersection(&self, other: &RangeSet) -> RangeSet {
        let (mut left, mut right) = (0, 0);
        let mut common = Vec::new();
        while let (Some(a), Some(b)) = (self.0.get(left), other.0.get(right)) {
            common.push((a.low.max(b.low), a.high.min(b.high)));
            if a.high < b.high {
                left += 1;
            } else {
                right += 1;
            }
        }
        RangeSet::of(common)
    }

    pub(super) fn union(&self, other: &RangeSet) -> RangeSet {
        RangeSet::of(self.0.iter().chain(&other.0).map(|range| (range.low, range.high)))
    }

    /// Digits of the bounds that matter: what the evaluation of the ranges has to read, roughly.
    pub(super) fn digits(&self) -> u32 {
        let used = |bound: u64| {
            if bound == Range::END { 0 } else { 64 - bound.trailing_zeros().min(64) }
        };
        self.0.iter().map(|range| used(range.low).max(used(range.high))).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = RangeSet> {
        let bound = prop_oneof![0u64..40, Just(Range::END)];
        proptest::collection::vec((0u64..40, bound), 0..5).prop_map(RangeSet::of)
    }

    proptest! {
        #[test]
        fn the_operations_are_those_of_sets(a in sets(), b in sets()) {
            for value in (0..45).chain([u64::MAX - 1]) {
                let (in_a, in_b) = (a.contains(value), b.contains(value));
                prop_assert_eq!(in_a, a.ranges().iter().any(|r| r.contains(value)), "contains {}", value);
                prop_assert_eq!(a.complement().contains(value), !in_a, "complement {}", value);
                prop_assert_eq!(a.intersection(&b).contains(value), in_a && in_b, "intersection {}", value);
                prop_assert_eq!(a.union(&b).contains(value), in_a || in_b, "union {}", value);
            }
            prop_assert_eq!(a.complement().complement(), a.clone(), "twice");
            prop_assert!(a.union(&a.complement()).is_full(), "full");
            prop_assert!(a.intersection(&a.complement()).is_empty(), "empty");
        }
    }
}
