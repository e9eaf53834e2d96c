//! Sets of rows with their space, and the mark-file positions of a claim.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::ids::RowSpace;

/// Rows of one space. A set never mixes spaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RowSet {
    pub space: RowSpace,
    pub rows: RoaringBitmap,
}

impl RowSet {
    pub fn base(rows: RoaringBitmap) -> RowSet {
        RowSet { space: RowSpace::BASE, rows }
    }
}

/// Mark-file positions of a claim, as `(first, count)` ranges: the i-th row of the claim, in row order, has the i-th
/// position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions(pub Vec<(u32, u32)>);

impl Positions {
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|(first, count)| *first..first.saturating_add(*count))
    }

    /// Collects ascending positions into ranges.
    pub fn from_sorted(positions: impl IntoIterator<Item = u32>) -> Positions {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for position in positions {
            match ranges.last_mut() {
                Some((first, count)) if first.saturating_add(*count) == position => *count += 1,
                _ => ranges.push((position, 1)),
            }
        }
        Positions(ranges)
    }
}
