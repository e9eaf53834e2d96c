//! The keyed hash that splits draw with.
//!
//! Owns no state. The hash of a row is two rounds of the 64-bit finaliser *Mix13* (D. Stafford, "Better Bit Mixing", 2011;
//! the output function of SplitMix64, Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
//! 2014), each with half of a key that BLAKE3 derives from the ids of run and node. It decides who gets which variant and
//! protects no secret; nobody outside can choose a row's number.
//!
//! Invariants:
//! 1. For one key the hash of a row is a bijection: two rows never have the same hash, so that ranks have no ties.
//! 2. The hash is part of what a run promises and never changes; a test pins it.

use crate::flow::graph::NodeId;
use crate::ids::RunId;

const CONTEXT: &str = "estafette 2026-11 split of a flow";
/// 2^64 divided by the golden ratio: the step of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a node of a run draws with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitKey {
    rows: [u64; 2],
    blocks: [u64; 2],
}

impl SplitKey {
    pub fn new(run: RunId, node: NodeId) -> SplitKey {
        let mut ids = [0; 8];
        ids[..4].copy_from_slice(&run.0.to_le_bytes());
        ids[4..].copy_from_slice(&node.0.to_le_bytes());
        let derived = blake3::derive_key(CONTEXT, &ids);
        let mut words = [0u64; 4];
        for (word, bytes) in words.iter_mut().zip(derived.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let [a, b, c, d] = words;
        SplitKey { rows: [a, b], blocks: [c, d] }
    }

    /// Where a row stands among all rows; uniform over the whole range.
    #[inline]
    pub fn of_row(&self, row: u32) -> u64 {
        mix(mix(u64::from(row) ^ self.rows[0]) ^ self.rows[1])
    }

    /// Random numbers for one block of a stream.
    pub(super) fn of_block(&self, block: u64) -> Draws {
        Draws { state: mix(mix(block ^ self.blocks[0]) ^ self.blocks[1]) }
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// SplitMix64.
pub(super) struct Draws {
    state: u64,
}

impl Draws {
    /// A number below `bound`, by multiplication: biased by less than `bound` / 2^64.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(GOLDEN);
        let product = u128::from(mix(self.state)) * (bound as u128);
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// Fisher and Yates' shuffle.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key(run: u32, node: u32) -> SplitKey {
        SplitKey::new(RunId(run), NodeId(node))
    }

    #[test]
    fn the_hash_is_pinned() {
        let key = key(7, 3);
        let found: Vec<String> = [0, 1, 2, u32::MAX].iter().map(|row| format!("{:016x}", key.of_row(*row))).collect();
        assert_eq!(
            found,
            ["da1970183c7bdce9", "9412caa817ae799e", "03bd1d7bcc709eb9", "3b2c84857b270580"],
            "a running split draws as it did when it began"
        );
        let mut draws = key.of_block(5);
        let found: Vec<usize> = (0..6).map(|_| draws.below(100)).collect();
        assert_eq!(found, [79, 35, 11, 35, 44, 63], "and so do its blocks");
    }

    #[test]
    fn every_bit_depends_on_every_bit_of_the_row() {
        let key = key(1, 1);
        for bit in 0..32 {
            let mut flips = [0u32; 64];
            for row in 0..2_000u32 {
                let changed = key.of_row(row) ^ key.of_row(row ^ (1 << bit));
                for (at, count) in flips.iter_mut().enumerate() {
                    *count += u32::from(changed >> at & 1 == 1);
                }
            }
            // 1 000 ± 6.5 standard deviations of 22.4.
            assert!(flips.iter().all(|f| (855..=1_145).contains(f)), "bit {bit} flips {flips:?} of 2 000");
        }
    }

    #[test]
    fn rows_have_hashes_of_their_own_and_nodes_and_runs_orders_of_their_own() {
        let hashes: BTreeSet<u64> = (0..100_000).map(|row| key(1, 1).of_row(row)).collect();
        assert_eq!(hashes.len(), 100_000, "no two rows are alike");
        let order = |key: SplitKey| {
            let mut rows: Vec<u32> = (0..50).collect();
            rows.sort_by_key(|row| key.of_row(*row));
            rows
        };
        let orders: BTreeSet<Vec<u32>> =
            (0..10).flat_map(|run| (0..10).map(move |node| order(key(run, node)))).collect();
        assert_eq!(orders.len(), 100, "a hundred splits draw a hundred ways");
    }

    #[test]
    fn a_shuffle_puts_each_item_everywhere_alike() {
        let mut counts = [[0u32; 5]; 5];
        for block in 0..10_000 {
            let mut items = [0usize, 1, 2, 3, 4];
            key(1, 2).of_block(block).shuffle(&mut items);
            for (place, item) in items.into_iter().enumerate() {
                counts[place][item] += 1;
            }
        }
        // 2 000 ± 6 standard deviations of 40.
        assert!(counts.iter().flatten().all(|c| (1_760..=2_240).contains(c)), "{counts:?}");
    }
}
