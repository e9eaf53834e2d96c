//! Ranges over bit-sliced attributes (O'Neil & Quass, "Improved Query Performance with Variant Indexes", SIGMOD 1997).
//!
//! Owns no state. Digits that no row or every row has, or that repeat the digit above them, cost a look at their counts only,
//! and what the bound ends in zeros is not looked at: a range over small whole numbers touches some ten digits of the 64. A
//! comparison goes one of two ways, whichever reads less:
//!
//! - *up*, from the least significant digit, for many rows: one union or intersection a digit, in place, over all rows;
//! - *down*, from the most significant digit, for few rows: it keeps those that agree with the bound so far, which get fewer
//!   with each digit, and sets aside those that a digit decides.
//!
//! Two bounds go down the digits that they share first. Invariant: SL-1 the answer is a subset of the rows asked about.

mod many;

use std::ops::Deref;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::contacts::{AttributeSets, ContactsError};
use crate::ids::AttributeId;
use crate::segments::ranges::{Range, RangeSet};

/// A comparison over more than one in so many of the rows with a value goes up the digits: a set operation over all rows then
/// costs less than the three over these rows (measured at 10 M rows; the two meet between 1/60 and 1/200).
const DENSE_PART: u64 = 100;
/// Beyond so many digits that tell rows apart, going down is cheaper for any number of rows, as they halve with each of the first
/// digits (measured at 10 M rows and 37 digits: 8 to 11 ms down, 12 to 14 up).
const UP_DIGITS_MAX: usize = 28;

/// So many ranges are looked for one by one; more of them together.
const RANGES_APART: usize = 3;

/// Rows that were lent, are shared, or are one's own to change.
pub(super) enum Rows<'r> {
    Lent(&'r RoaringBitmap),
    Shared(Arc<RoaringBitmap>),
    Owned(RoaringBitmap),
}

impl Deref for Rows<'_> {
    type Target = RoaringBitmap;

    fn deref(&self) -> &RoaringBitmap {
        match self {
            Rows::Lent(rows) => rows,
            Rows::Shared(rows) => rows,
            Rows::Owned(rows) => rows,
        }
    }
}

impl<'r> Rows<'r> {
    fn none() -> Rows<'r> {
        Rows::Owned(RoaringBitmap::new())
    }

    fn and(self, other: &RoaringBitmap) -> Rows<'r> {
        Rows::Owned(match self {
            Rows::Owned(mut rows) => {
                rows &= other;
                rows
            }
            rows => &*rows & other,
        })
    }

    fn or(self, other: &RoaringBitmap) -> Rows<'r> {
        Rows::Owned(match self {
            Rows::Owned(mut rows) => {
                rows |= other;
                rows
            }
            rows => &*rows | other,
        })
    }

    fn minus(self, other: &RoaringBitmap) -> Rows<'r> {
        Rows::Owned(match self {
            Rows::Owned(mut rows) => {
                rows -= other;
                rows
            }
            rows => &*rows - other,
        })
    }

    fn into_owned(self) -> RoaringBitmap {
        match self {
            Rows::Owned(rows) => rows,
            Rows::Lent(rows) => rows.clone(),
            Rows::Shared(rows) => Arc::unwrap_or_clone(rows),
        }
    }
}

/// One attribute's digits.
pub(super) struct Slices<'s> {
    sets: &'s dyn AttributeSets,
    attribute: AttributeId,
    /// Rows with a value.
    present: Arc<RoaringBitmap>,
    /// [`DENSE_PART`], but in tests.
    dense_part: u64,
}

/// A digit that tells the rows in question apart, or does not.
enum Digit {
    /// No row has it.
    Empty,
    /// Every row has it.
    Full,
    Some(Arc<RoaringBitmap>),
}

/// The digit used last on the way down, and whether the rows that still agree have it.
type Above = Option<(Arc<RoaringBitmap>, bool)>;

/// What going up the digits found: rows from a bound on, among all that have a value.
enum From {
    None,
    All,
    Rows(Rows<'static>),
}

/// What decides who reaches a bound.
struct Telling {
    /// Of the rows that agree with the bound in all the digits below: who reaches it.
    start: From,
    /// The bound's digit and the rows that have it, the most significant first.
    digits: Vec<(bool, Arc<RoaringBitmap>)>,
}

impl Telling {
    /// Up the digits, one operation each: the rows that reach the bound.
    fn climb(self) -> From {
        self.digits.into_iter().rev().fold(self.start, |found, (bit, rows)| match (bit, found) {
            (true, From::None) => From::None,
            (false, From::All) => From::All,
            (true, From::All) | (false, From::None) => From::Rows(Rows::Shared(rows)),
            (true, From::Rows(found)) => From::Rows(found.and(&rows)),
            (false, From::Rows(found)) => From::Rows(found.or(&rows)),
        })
    }
}

impl<'s> Slices<'s> {
    pub(super) fn new(sets: &'s dyn AttributeSets, attribute: AttributeId, present: Arc<RoaringBitmap>) -> Slices<'s> {
        Slices { sets, attribute, present, dense_part: DENSE_PART }
    }

    fn digit(&self, digit: u32) -> Result<Digit, ContactsError> {
        let rows = self.sets.digit(self.attribute, digit as u8)?;
        Ok(if rows.is_empty() {
            Digit::Empty
        } else if rows.len() == self.present.len() {
            Digit::Full
        } else {
            Digit::Some(rows)
        })
    }

    /// A digit on the way down, for rows of which all or none have the one above.
    fn digit_below(&self, digit: u32, above: &Above) -> Result<Digit, ContactsError> {
        Ok(match (self.digit(digit)?, above) {
            (Digit::Some(rows), Some((last, had))) if rows.len() == last.len() && rows == *last => {
                if *had {
                    Digit::Full
                } else {
                    Digit::Empty
                }
            }
            (other, _) => other,
        })
    }

    /// The rows of `among` whose value is in one of the ranges. `valued` says that all of them have a value.
    pub(super) fn within<'r>(
        &self,
        ranges: &RangeSet,
        among: Rows<'r>,
        valued: bool,
    ) -> Result<Rows<'r>, ContactsError> {
        let outside = ranges.complement();
        match (ranges.ranges(), outside.ranges()) {
            ([], _) => Ok(Rows::none()),
            (_, []) => Ok(self.valued(among, valued)),
            ([only], _) => self.range(*only, among, valued),
            (_, [gap]) => {
                let among = self.valued(among, valued);
                let out = self.range(*gap, Rows::Lent(&among), true)?.into_owned();
                Ok(among.minus(&out))
            }
            (several, _) if several.len() > RANGES_APART => {
                let among = self.valued(among, valued);
                Ok(Rows::Owned(self.many(several, among)?))
            }
            (several, _) => {
                let among = self.valued(among, valued);
                let found = several.iter().map(|range| self.range(*range, Rows::Lent(&among), true));
                let found = found.collect::<Result<Vec<_>, _>>()?;
                Ok(Rows::Owned(union(found).into_owned()))
            }
        }
    }

    fn valued<'r>(&self, among: Rows<'r>, valued: bool) -> Rows<'r> {
        if valued { among } else { among.and(&self.present) }
    }

    fn range<'r>(&self, range: Range, among: Rows<'r>, valued: bool) -> Result<Rows<'r>, ContactsError> {
        if range.high == Range::END {
            return self.reaching(range.low, among, valued, 64, None);
        }
        if range.low == 0 {
            return self.below(range.high, self.valued(among, valued), 64, None);
        }
        if self.is_dense(&among)
            && let Some(from) = self.telling(range.low, 64, UP_DIGITS_MAX)?
            && let Some(to) = self.telling(range.high, 64, UP_DIGITS_MAX.saturating_sub(from.digits.len()))?
        {
            let rows = self.keep(from.climb(), among, valued);
            return Ok(match to.climb() {
                From::None => rows,
                From::All => Rows::none(),
                From::Rows(out) => rows.minus(&out),
            });
        }
        self.between(range, self.valued(among, valued))
    }

    /// Down the digits that both bounds share, then each bound for itself.
    fn between<'r>(&self, range: Range, among: Rows<'r>) -> Result<Rows<'r>, ContactsError> {
        let mut agreeing = among;
        let mut above: Above = None;
        let split = 63 - (range.low ^ range.high).leading_zeros();
        for digit in (split + 1..64).rev() {
            let bit = range.low >> digit & 1 == 1;
            let rows = match (bit, self.digit_below(digit, &above)?) {
                (true, Digit::Full) | (false, Digit::Empty) => continue,
                (true, Digit::Empty) | (false, Digit::Full) => return Ok(Rows::none()),
                (_, Digit::Some(rows)) => rows,
            };
            agreeing = if !bit {
                agreeing.minus(&rows)
            } else if self.is_all(&agreeing) {
                Rows::Shared(Arc::clone(&rows))
            } else {
                agreeing.and(&rows)
            };
            if agreeing.is_empty() {
                return Ok(Rows::none());
            }
            above = Some((rows, bit));
        }
        // The lower bound has a zero here and the upper one a one, as it is larger.
        match self.digit_below(split, &above)? {
            Digit::Empty => self.reaching(range.low, agreeing, true, split, above),
            Digit::Full => self.below(range.high, agreeing, split, above),
            Digit::Some(rows) => {
                let with = if range.high.trailing_zeros() < split { &*agreeing & &*rows } else { RoaringBitmap::new() };
                let low = self.reaching(range.low, agreeing.minus(&rows), true, split, None)?;
                let high = self.below(range.high, Rows::Owned(with), split, None)?;
                Ok(Rows::Owned(union(vec![low, high]).into_owned()))
            }
        }
    }

    fn is_all(&self, rows: &RoaringBitmap) -> bool {
        rows.len() == self.present.len()
    }

    fn is_dense(&self, rows: &RoaringBitmap) -> bool {
        rows.len().saturating_mul(self.dense_part) >= self.present.len()
    }

    /// Those of `among` that are in `from`.
    fn keep<'r>(&self, from: From, among: Rows<'r>, valued: bool) -> Rows<'r> {
        match from {
            From::None => Rows::none(),
            From::All => self.valued(among, valued),
            From::Rows(rows) if valued && self.is_all(&among) => rows,
            From::Rows(rows) => rows.and(&among),
        }
    }

    /// Rows of `agreeing`, which agree with `bound` from digit `top` up, whose value is `bound` or more.
    fn reaching<'r>(
        &self,
        bound: u64,
        agreeing: Rows<'r>,
        valued: bool,
        top: u32,
        above: Above,
    ) -> Result<Rows<'r>, ContactsError> {
        if self.is_dense(&agreeing)
            && let Some(telling) = self.telling(bound, top, UP_DIGITS_MAX)?
        {
            return Ok(self.keep(telling.climb(), agreeing, valued));
        }
        self.reaching_down(bound, self.valued(agreeing, valued), top, above)
    }

    /// Rows of `agreeing`, which agree with `bound` from digit `top` up, whose value is less than `bound`.
    fn below<'r>(&self, bound: u64, agreeing: Rows<'r>, top: u32, above: Above) -> Result<Rows<'r>, ContactsError> {
        if self.is_dense(&agreeing)
            && let Some(telling) = self.telling(bound, top, UP_DIGITS_MAX)?
        {
            return Ok(match telling.climb() {
                From::None => agreeing,
                From::All => Rows::none(),
                From::Rows(rows) => agreeing.minus(&rows),
            });
        }
        self.below_down(bound, agreeing, top, above)
    }

    /// The digits below `top` that decide who reaches `bound`; `None` if they are more than `most`.
    fn telling(&self, bound: u64, top: u32, most: usize) -> Result<Option<Telling>, ContactsError> {
        let mut telling = Telling { start: From::All, digits: Vec::new() };
        for digit in (bound.trailing_zeros().min(top)..top).rev() {
            let bit = bound >> digit & 1 == 1;
            match (bit, self.digit(digit)?) {
                (true, Digit::Full) | (false, Digit::Empty) => {}
                // No row, or every row, that agrees so far reaches the bound: what is below does not matter.
                (true, Digit::Empty) => {
                    telling.start = From::None;
                    break;
                }
                (false, Digit::Full) => break,
                (bit, Digit::Some(rows)) => {
                    let last = telling.digits.last();
                    if last.is_some_and(|(b, last)| *b == bit && last.len() == rows.len() && *last == rows) {
                        continue;
                    }
                    if telling.digits.len() == most {
                        return Ok(None);
                    }
                    telling.digits.push((bit, rows));
                }
            }
        }
        Ok(Some(telling))
    }

    fn reaching_down<'r>(
        &self,
        bound: u64,
        mut agreeing: Rows<'r>,
        top: u32,
        mut above: Above,
    ) -> Result<Rows<'r>, ContactsError> {
        let mut found = Vec::new();
        for digit in (bound.trailing_zeros().min(top)..top).rev() {
            let bit = bound >> digit & 1 == 1;
            match (bit, self.digit_below(digit, &above)?) {
                (true, Digit::Full) | (false, Digit::Empty) => {}
                (true, Digit::Empty) => return Ok(union(found)),
                // All that are left are larger.
                (false, Digit::Full) => break,
                (true, Digit::Some(rows)) => {
                    agreeing = agreeing.and(&rows);
                    above = Some((rows, bit));
                }
                (false, Digit::Some(rows)) => {
                    let larger = &*agreeing & &*rows;
                    if !larger.is_empty() {
                        agreeing = agreeing.minus(&larger);
                        found.push(Rows::Owned(larger));
                    }
                    above = Some((rows, bit));
                }
            }
            if agreeing.is_empty() {
                break;
            }
        }
        if found.is_empty() {
            return Ok(agreeing);
        }
        found.push(agreeing);
        Ok(union(found))
    }

    fn below_down<'r>(
        &self,
        bound: u64,
        mut agreeing: Rows<'r>,
        top: u32,
        mut above: Above,
    ) -> Result<Rows<'r>, ContactsError> {
        let mut found = Vec::new();
        for digit in (bound.trailing_zeros().min(top)..top).rev() {
            let bit = bound >> digit & 1 == 1;
            match (bit, self.digit_below(digit, &above)?) {
                (true, Digit::Full) | (false, Digit::Empty) => {}
                (false, Digit::Full) => break,
                // All that are left are smaller.
                (true, Digit::Empty) => {
                    found.push(agreeing);
                    break;
                }
                (true, Digit::Some(rows)) => {
                    let same = &*agreeing & &*rows;
                    found.push(agreeing.minus(&same));
                    agreeing = Rows::Owned(same);
                    above = Some((rows, bit));
                }
                (false, Digit::Some(rows)) => {
                    agreeing = agreeing.minus(&rows);
                    above = Some((rows, bit));
                }
            }
            if agreeing.is_empty() {
                break;
            }
        }
        Ok(union(found))
    }
}

/// The union of sets, of which a single one is handed on as it is.
fn union(mut sets: Vec<Rows<'_>>) -> Rows<'_> {
    match (sets.pop(), sets.is_empty()) {
        (None, _) => Rows::none(),
        (Some(only), true) => only,
        (Some(last), false) => {
            sets.push(last);
            Rows::Owned(sets.into_iter().map(Rows::into_owned).union())
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
            values in vec(value(), 0..20), bounds in vec((value(), value()), 0..9),
            open in any::<bool>(), dense_part in proptest::sample::select(&[0, 2, u64::MAX][..]), asked in vec(0u32..20, 0..20), all in any::<bool>(), more in any::<bool>(),
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
            let mut slices = Slices::new(&world, ID, Arc::clone(&present));
            slices.dense_part = dense_part;
            let expected: RoaringBitmap =
                among.iter().filter(|row| ranges.contains(values[*row as usize])).collect();
            // Rows without a value, which the digits know nothing of.
            let valued = !more;
            let asked: RoaringBitmap = if more { &among | &RoaringBitmap::from([100, 70_000]) } else { among };
            for lent in [Rows::Lent(&asked), Rows::Owned(asked.clone())] {
                let found = slices.within(&ranges, lent, valued).expect("in memory");
                prop_assert_eq!(&*found, &expected, "{:?} in {:?}", &ranges, &values);
            }
        }
    }
}
