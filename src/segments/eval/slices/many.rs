//! Many ranges at once: down the digits, the rows shared out between the halves that still hold a range.
//!
//! Owns no state. Each digit costs one look at the rows that are left, however many ranges there are, where a range for itself would
//! look at all rows again: an anniversary asks for as many ranges as there are years.

use roaring::{MultiOps, RoaringBitmap};

use super::{Digit, Rows, Slices};
use crate::contacts::ContactsError;
use crate::segments::ranges::Range;

/// Values that agree in all but the last `digits` digits with `base`, in which these are zero.
#[derive(Clone, Copy)]
struct Block {
    base: u64,
    digits: u32,
}

impl Block {
    fn last(self) -> u64 {
        let below = 1u64.checked_shl(self.digits).map_or(u64::MAX, |size| size - 1);
        self.base | below
    }
}

fn last(range: Range) -> u64 {
    if range.high == Range::END { u64::MAX } else { range.high - 1 }
}

impl Slices<'_> {
    /// Rows of `among`, which all have a value, whose value is in one of the ranges.
    pub(super) fn many(&self, ranges: &[Range], among: Rows<'_>) -> Result<RoaringBitmap, ContactsError> {
        let mut found = Vec::new();
        self.descend(ranges, among, Block { base: 0, digits: 64 }, &mut found)?;
        Ok(found.into_iter().union())
    }

    fn descend(
        &self,
        ranges: &[Range],
        among: Rows<'_>,
        block: Block,
        found: &mut Vec<RoaringBitmap>,
    ) -> Result<(), ContactsError> {
        let Some(first) = ranges.first().filter(|_| !among.is_empty()) else { return Ok(()) };
        if first.low <= block.base && last(*first) >= block.last() {
            found.push(among.into_owned());
            return Ok(());
        }
        let Some(digit) = block.digits.checked_sub(1) else { return Ok(()) };
        let low = Block { base: block.base, digits: digit };
        let high = Block { base: block.base | 1 << digit, digits: digit };
        let below = &ranges[..ranges.partition_point(|range| range.low < high.base)];
        let above = &ranges[ranges.partition_point(|range| last(*range) < high.base)..];
        match self.digit(digit)? {
            Digit::Empty => self.descend(below, among, low, found),
            Digit::Full => self.descend(above, among, high, found),
            Digit::Some(rows) => {
                let with = &*among & &*rows;
                self.descend(below, among.minus(&with), low, found)?;
                self.descend(above, Rows::Owned(with), high, found)
            }
        }
    }
}
