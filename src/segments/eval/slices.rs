//! Ranges over bit-sliced attributes (O'Neil & Quass, "Improved Query Performance with Variant Indexes", SIGMOD 1997).
//!
//! Owns no state. Walks the digits from the most significant one and keeps the rows whose value agrees with the bound so far;
//! a digit on which rows and bound differ decides for those rows. Digits that no row or every row has cost a look at their
//! count only, and the walk ends where the rest of the bound is zeros, or no row agrees any more. So a range over small
//! whole numbers touches some ten digits of the 64, and one over dense times mostly the first few, as the agreeing rows
//! halve with each. Invariant: SL-1 the answer is a subset of the rows asked about.

use std::borrow::Cow;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::contacts::{AttributeSets, ContactsError};
use crate::ids::AttributeId;
use crate::segments::ranges::{Range, RangeSet};

type Rows<'r> = Cow<'r, RoaringBitmap>;

/// One attribute's digits.
pub(super) struct Slices<'s> {
    sets: &'s dyn AttributeSets,
    attribute: AttributeId,
    /// Rows with a value: as many as a full digit has.
    present: u64,
}

/// A digit that tells rows apart, or does not.
enum Digit {
    /// No row has it.
    Empty,
    /// Every row with a value has it.
    Full,
    Some(Arc<RoaringBitmap>),
}

impl<'s> Slices<'s> {
    pub(super) fn new(sets: &'s dyn AttributeSets, attribute: AttributeId, present: u64) -> Slices<'s> {
        Slices { sets, attribute, present }
    }

    fn digit(&self, digit: u32) -> Result<Digit, ContactsError> {
        let rows = self.sets.digit(self.attribute, digit as u8)?;
        Ok(if rows.is_empty() {
            Digit::Empty
        } else if rows.len() == self.present {
            Digit::Full
        } else {
            Digit::Some(rows)
        })
    }

    /// The rows of `among`, all of which have a value, whose value is in one of the ranges.
    pub(super) fn within<'r>(&self, ranges: &RangeSet, among: Rows<'r>) -> Result<Rows<'r>, ContactsError> {
        let outside = ranges.complement();
        if outside.is_empty() {
            return Ok(among);
        }
        if outside.ranges().len() < ranges.ranges().len() {
            let mut rows = among;
            for range in outside.ranges() {
                let out = self.range(*range, Cow::Borrowed(&*rows))?.into_owned();
                rows = difference(rows, &out);
            }
            return Ok(rows);
        }
        let (Some((last, first)), mut found) = (ranges.ranges().split_last(), Vec::new()) else {
            return Ok(Cow::Owned(RoaringBitmap::new()));
        };
        for range in first {
            found.push(self.range(*range, Cow::Borrowed(&*among))?.into_owned());
        }
        found.push(self.range(*last, among)?.into_owned());
        Ok(Cow::Owned(union(found)))
    }

    fn range<'r>(&self, range: Range, among: Rows<'r>) -> Result<Rows<'r>, ContactsError> {
        if range.high == Range::END {
            return self.from(range.low, among, 64);
        }
        if range.low == 0 {
            return self.below(range.high, among, 64);
        }
        // Down the digits that both bounds share, then each bound for itself.
        let mut agreeing = among;
        let split = 63 - (range.low ^ range.high).leading_zeros();
        for digit in (split + 1..64).rev() {
            let rows = self.digit(digit)?;
            agreeing = match (range.low >> digit & 1 == 1, rows) {
                (true, Digit::Full) | (false, Digit::Empty) => agreeing,
                (true, Digit::Empty) | (false, Digit::Full) => return Ok(Cow::Owned(RoaringBitmap::new())),
                (true, Digit::Some(rows)) => intersection(agreeing, &rows),
                (false, Digit::Some(rows)) => difference(agreeing, &rows),
            };
            if agreeing.is_empty() {
                return Ok(agreeing);
            }
        }
        // The lower bound has a zero here and the upper one a one, as it is larger.
        match self.digit(split)? {
            Digit::Empty => self.from(range.low, agreeing, split),
            Digit::Full => self.below(range.high, agreeing, split),
            Digit::Some(rows) if range.high.trailing_zeros() >= split => {
                self.from(range.low, difference(agreeing, &rows), split)
            }
            Digit::Some(rows) => {
                let with = &*agreeing & &*rows;
                let without = difference(agreeing, &rows);
                let low = self.from(range.low, without, split)?.into_owned();
                let high = self.below(range.high, Cow::Owned(with), split)?.into_owned();
                Ok(Cow::Owned(union(vec![low, high])))
            }
        }
    }

    /// Rows of `agreeing`, which agree with `bound` from digit `top` up, whose value is `bound` or more.
    fn from<'r>(&self, bound: u64, agreeing: Rows<'r>, top: u32) -> Result<Rows<'r>, ContactsError> {
        let mut agreeing = agreeing;
        let mut found = Vec::new();
        for digit in (bound.trailing_zeros().min(top)..top).rev() {
            let rows = self.digit(digit)?;
            match (bound >> digit & 1 == 1, rows) {
                (true, Digit::Full) | (false, Digit::Empty) => {}
                (true, Digit::Empty) => return Ok(Cow::Owned(union(found))),
                // All that are left are larger.
                (false, Digit::Full) => break,
                (true, Digit::Some(rows)) => agreeing = intersection(agreeing, &rows),
                (false, Digit::Some(rows)) => {
                    found.push(&*agreeing & &*rows);
                    agreeing = difference(agreeing, &rows);
                }
            }
            if agreeing.is_empty() {
                break;
            }
        }
        if found.is_empty() {
            return Ok(agreeing);
        }
        found.push(agreeing.into_owned());
        Ok(Cow::Owned(union(found)))
    }

    /// Rows of `agreeing`, which agree with `bound` from digit `top` up, whose value is less than `bound`.
    fn below<'r>(&self, bound: u64, agreeing: Rows<'r>, top: u32) -> Result<Rows<'r>, ContactsError> {
        let mut agreeing = agreeing;
        let mut found = Vec::new();
        let last = bound.trailing_zeros().min(top);
        for digit in (last..top).rev() {
            let rows = self.digit(digit)?;
            match (bound >> digit & 1 == 1, rows) {
                (true, Digit::Full) | (false, Digit::Empty) => {}
                (false, Digit::Full) => break,
                // All that are left are smaller.
                (true, Digit::Empty) if found.is_empty() => return Ok(agreeing),
                (true, Digit::Empty) => {
                    found.push(agreeing.into_owned());
                    break;
                }
                // Behind the last one of the bound nothing agrees any more.
                (true, Digit::Some(rows)) if digit == last => {
                    let smaller = difference(agreeing, &rows);
                    if found.is_empty() {
                        return Ok(smaller);
                    }
                    found.push(smaller.into_owned());
                    break;
                }
                (true, Digit::Some(rows)) => {
                    found.push(&*agreeing - &*rows);
                    agreeing = intersection(agreeing, &rows);
                }
                (false, Digit::Some(rows)) => agreeing = difference(agreeing, &rows),
            }
            if agreeing.is_empty() {
                break;
            }
        }
        Ok(Cow::Owned(union(found)))
    }
}

fn intersection<'r>(rows: Rows<'r>, other: &RoaringBitmap) -> Rows<'r> {
    Cow::Owned(match rows {
        Cow::Borrowed(rows) => rows & other,
        Cow::Owned(mut rows) => {
            rows &= other;
            rows
        }
    })
}

fn difference<'r>(rows: Rows<'r>, other: &RoaringBitmap) -> Rows<'r> {
    Cow::Owned(match rows {
        Cow::Borrowed(rows) => rows - other,
        Cow::Owned(mut rows) => {
            rows -= other;
            rows
        }
    })
}

/// The union of sets that are disjoint or few.
fn union(mut sets: Vec<RoaringBitmap>) -> RoaringBitmap {
    match (sets.pop(), sets.is_empty()) {
        (None, _) => RoaringBitmap::new(),
        (Some(only), true) => only,
        (Some(last), false) => {
            sets.push(last);
            sets.union()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::contacts::Schema;
    use crate::segments::memory::MemoryWorld;

    const ID: AttributeId = AttributeId(64);

    /// Few low digits, or few high ones, or both ends at once, so that bounds and values meet in every way.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            0u64..16,
            (0u64..16).prop_map(|v| v << 59),
            (0u64..4, 0u64..4).prop_map(|(high, low)| high << 62 | low),
            (0u64..8).prop_map(|v| v << 30 | 1 << 62),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn ranges_find_the_values_in_them(
            values in vec(value(), 0..20), bounds in vec((value(), value()), 0..4),
            open in any::<bool>(), asked in vec(0u32..20, 0..20), all in any::<bool>(),
        ) {
            let mut world = MemoryWorld::new(Schema::built_in(), Timestamp(0));
            world.set_digits(ID, (0u32..).zip(values.iter().copied()));
            let present = world.present(ID).expect("in memory");
            let asked: RoaringBitmap = asked.into_iter().collect();
            let among = if all { (*present).clone() } else { &*present & &asked };
            let mut bounds = bounds;
            if let (true, Some(last)) = (open, bounds.last_mut()) {
                last.1 = Range::END;
            }
            let ranges = RangeSet::of(bounds);
            let slices = Slices::new(&world, ID, present.len());
            let expected: RoaringBitmap =
                among.iter().filter(|row| ranges.contains(values[*row as usize])).collect();
            for lent in [Cow::Borrowed(&among), Cow::Owned(among.clone())] {
                let found = slices.within(&ranges, lent).expect("in memory");
                prop_assert_eq!(&*found, &expected, "{:?} in {:?}", &ranges, &values);
            }
        }
    }
}
