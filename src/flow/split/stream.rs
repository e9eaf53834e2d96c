//! Exact shares of a stream: entrants take the slots of permuted blocks.
//!
//! A block of [`SPLIT_BLOCK_ROWS`](crate::limits::SPLIT_BLOCK_ROWS) slots holds each exit as often as its share asks for;
//! what a block cannot give is owed and carried to the next. How often is decided slot by slot with Tijdeman's rule
//! ("The chairman assignment problem", Discrete Mathematics 32, 1980, 323–330): of the exits that are owed
//! 1/(2k − 2) of a slot the one whose claim would be late first; after any number of slots every exit is less than one
//! slot from its share. The order within the block is then drawn from a keyed hash of run, node and block, so that it
//! depends on nobody who arrives; rows that arrive together take slots in the order of their own keyed hash.
//!
//! Who owns the state: the run keeps a [`Stream`] per split; it is a few words.
//!
//! Invariants:
//! 1. At the end of every block each exit has less than one row more or less than its share of all entrants since the
//!    weights were set; with weights in whole percents, exactly its share.
//! 2. Other weights begin a new block, and concern those who arrive after.
//! 3. What is owed adds up to nothing.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::key::SplitKey;
use super::{SplitError, check_weights};
use crate::limits;

/// Where a split of a stream has got to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    weights: Vec<u32>,
    /// What each exit was owed when the block in hand began, in slots divided by the sum of the weights; negative if it
    /// had more than its share.
    owed: Vec<i64>,
    /// The block in hand, counted from the start of the run over all weights.
    block: u64,
    /// Slots of it that are taken.
    taken: u32,
}

/// A block dealt out: the exit of each slot, and what is owed behind it.
struct Dealt {
    slots: Vec<u8>,
    owed: Vec<i64>,
}

impl Stream {
    pub fn new(weights: &[u32]) -> Result<Stream, SplitError> {
        check_weights(weights)?;
        Ok(Stream { weights: weights.to_vec(), owed: vec![0; weights.len()], block: 0, taken: 0 })
    }

    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// Sets other weights for those who arrive from now on. The same weights change nothing.
    pub fn change(&mut self, weights: &[u32]) -> Result<(), SplitError> {
        check_weights(weights)?;
        if self.weights != weights {
            let block = self.block + u64::from(self.taken > 0);
            *self = Stream { weights: weights.to_vec(), owed: vec![0; weights.len()], block, taken: 0 };
        }
        Ok(())
    }

    /// A set of rows per exit, for rows that arrive together.
    pub fn assign(&mut self, key: &SplitKey, rows: &RoaringBitmap) -> Vec<RoaringBitmap> {
        let mut parts = vec![RoaringBitmap::new(); self.weights.len()];
        if let Some(only) = self.only_exit() {
            if let Some(part) = parts.get_mut(only) {
                *part = rows.clone();
            }
            return parts;
        }
        let mut dealt = self.deal(key);
        let mut lists: Vec<Vec<u32>> = vec![Vec::new(); parts.len()];
        let turns = rows.len().div_ceil(limits::SPLIT_SORT_ROWS);
        for turn in 0..turns {
            for row in in_turn(key, rows, turn, turns) {
                let slot = usize::try_from(self.taken).ok().and_then(|at| dealt.slots.get(at).copied());
                if let Some(list) = slot.and_then(|exit| lists.get_mut(usize::from(exit))) {
                    list.push(row);
                }
                self.taken += 1;
                if usize::try_from(self.taken).is_ok_and(|taken| taken >= dealt.slots.len()) {
                    self.owed = dealt.owed;
                    self.block += 1;
                    self.taken = 0;
                    dealt = self.deal(key);
                }
            }
            for (part, list) in parts.iter_mut().zip(&mut lists) {
                list.sort_unstable();
                *part |= RoaringBitmap::from_iter(list.drain(..));
            }
        }
        parts
    }

    /// The exit that takes everybody: no slots need to be dealt, and nothing is ever owed.
    fn only_exit(&self) -> Option<usize> {
        let mut open = self.weights.iter().enumerate().filter(|(_, w)| **w > 0).map(|(exit, _)| exit);
        open.next().filter(|_| open.next().is_none())
    }

    fn deal(&self, key: &SplitKey) -> Dealt {
        let mut owed = self.owed.clone();
        let mut slots: Vec<u8> = (0..limits::SPLIT_BLOCK_ROWS).map(|_| next_exit(&self.weights, &mut owed)).collect();
        key.of_block(self.block).shuffle(&mut slots);
        Dealt { slots, owed }
    }
}

/// Tijdeman's rule for one slot. Fractions are compared by cross-multiplication; `limits` asserts that they fit.
fn next_exit(weights: &[u32], owed: &mut [i64]) -> u8 {
    let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
    let open = i64::try_from(weights.iter().filter(|w| **w > 0).count()).unwrap_or(0);
    let patience = (2 * open - 2).max(1);
    let mut chosen: Option<(usize, i64, i64)> = None;
    for (exit, (weight, owed)) in weights.iter().zip(owed.iter_mut()).enumerate() {
        let weight = i64::from(*weight);
        *owed += weight;
        if weight == 0 || patience * *owed < total {
            continue;
        }
        // How long the claim can still wait: (1 − 1/patience − owed) / share.
        let slack = patience * (total - *owed) - total;
        if chosen.is_none_or(|(_, least, its)| slack * its < least * weight) {
            chosen = Some((exit, slack, weight));
        }
    }
    let exit = chosen.map_or(0, |(exit, ..)| exit);
    if let Some(owed) = owed.get_mut(exit) {
        *owed -= total;
    }
    u8::try_from(exit).unwrap_or(0)
}

/// The rows whose hashes are in the `turn`th of `turns` equal ranges, in order of their hashes.
fn in_turn(key: &SplitKey, rows: &RoaringBitmap, turn: u64, turns: u64) -> impl Iterator<Item = u32> + use<> {
    let mine = |hash: u64| (u128::from(hash) * u128::from(turns)) >> 64 == u128::from(turn);
    let mut ranked: Vec<(u64, u32)> =
        rows.iter().map(|row| (key.of_row(row), row)).filter(|(hash, _)| turns == 1 || mine(*hash)).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, row)| row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{assert_partition, chi_square, sizes};
    use super::*;
    use crate::flow::graph::NodeId;
    use crate::ids::RunId;

    const BLOCK: u32 = limits::SPLIT_BLOCK_ROWS as u32;

    fn key(node: u32) -> SplitKey {
        SplitKey::new(RunId(1), NodeId(node))
    }

    fn one_by_one(stream: &mut Stream, key: &SplitKey, rows: impl Iterator<Item = u32>) -> Vec<RoaringBitmap> {
        let mut parts = vec![RoaringBitmap::new(); stream.weights().len()];
        for row in rows {
            for (part, new) in parts.iter_mut().zip(stream.assign(key, &RoaringBitmap::from_iter([row]))) {
                *part |= new;
            }
        }
        parts
    }

    #[test]
    fn each_hundred_entrants_hold_the_percents_however_they_arrive() {
        let mut stream = Stream::new(&[10, 20, 70]).expect("valid");
        let mut next = 0;
        for group in [1, 99, 30, 70, 100, 200, 250, 50] {
            let rows: RoaringBitmap = (next..next + group).collect();
            let parts = stream.assign(&key(1), &rows);
            assert_partition(&rows, &parts);
            next += group;
        }
        assert_eq!((stream.block, stream.taken), (u64::from(next / BLOCK), 0), "eight blocks are full");
        let mut again = Stream::new(&[10, 20, 70]).expect("valid");
        let parts = one_by_one(&mut again, &key(1), 0..300);
        assert_eq!(sizes(&parts), [30, 60, 210], "exact, one at a time");
        for block in 0..3 {
            let within: RoaringBitmap = (block * BLOCK..(block + 1) * BLOCK).collect();
            let counts: Vec<u64> = parts.iter().map(|p| p.intersection_len(&within)).collect();
            assert_eq!(counts, [10, 20, 70], "block {block}");
        }
    }

    #[test]
    fn what_a_block_cannot_give_is_carried() {
        let mut stream = Stream::new(&[1, 1, 1]).expect("valid");
        assert_eq!(sizes(&stream.assign(&key(1), &(0..300).collect())), [100, 100, 100], "thirds of three blocks");
        let mut rare = Stream::new(&[1, 999]).expect("valid");
        let sizes: Vec<u64> =
            (0..10).map(|b| rare.assign(&key(1), &(b * BLOCK..(b + 1) * BLOCK).collect())[0].len()).collect();
        assert_eq!(sizes.iter().sum::<u64>(), 1, "one of a thousand: {sizes:?}");
    }

    #[test]
    fn other_weights_concern_later_entrants_only() {
        let mut stream = Stream::new(&[50, 50]).expect("valid");
        let before = stream.assign(&key(1), &(0..130).collect());
        stream.change(&[50, 50]).expect("valid");
        assert_eq!((stream.block, stream.taken), (1, 30), "the same weights go on in the block");
        stream.change(&[0, 100]).expect("valid");
        assert_eq!(sizes(&stream.assign(&key(1), &(130..230).collect())), [0, 100], "the winner takes all");
        assert_eq!(before.iter().map(RoaringBitmap::len).sum::<u64>(), 130, "who passed has passed");
        stream.change(&[25, 25, 50]).expect("valid");
        assert_eq!(sizes(&stream.assign(&key(1), &(230..330).collect())), [25, 25, 50], "exact from the change on");
        assert_eq!(stream.change(&[0, 0]), Err(SplitError::NoWeight), "refused");
        assert_eq!(stream.weights(), [25, 25, 50], "and nothing changed");
    }

    #[test]
    fn the_state_survives_being_written_down_anywhere_in_a_block() {
        let mut whole = Stream::new(&[3, 4]).expect("valid");
        let mut parts = whole.assign(&key(1), &(0..57).collect());
        let text = serde_json::to_string(&whole).expect("writes");
        let mut read: Stream = serde_json::from_str(&text).expect("reads");
        assert_eq!(read, whole, "the same");
        for (part, new) in parts.iter_mut().zip(read.assign(&key(1), &(57..700).collect())) {
            *part |= new;
        }
        assert_eq!(sizes(&parts), [300, 400], "exact over the break");
        assert_eq!(read.assign(&key(1), &(700..750).collect()), {
            whole.assign(&key(1), &(57..700).collect());
            whole.assign(&key(1), &(700..750).collect())
        });
    }

    #[test]
    fn two_splits_are_independent_also_one_contact_at_a_time() {
        let mut above = 0;
        for other in 2..17 {
            let mut first = Stream::new(&[50, 50]).expect("valid");
            let mut second = Stream::new(&[50, 50]).expect("valid");
            let one = one_by_one(&mut first, &key(1), 0..4_000);
            let two = one_by_one(&mut second, &key(other), 0..4_000);
            let alone = chi_square(&one, &two);
            // The second split sees only those whom the first sent by its first exit, one at a time.
            let mut nested = Stream::new(&[50, 50]).expect("valid");
            let after = one_by_one(&mut nested, &key(other), one[0].iter());
            let parity: Vec<RoaringBitmap> =
                [0, 1].map(|parity| one[0].iter().filter(|row| row % 2 == parity).collect()).into();
            let behind = chi_square(&after, &parity);
            above += u32::from(alone > 3.84) + u32::from(behind > 3.84);
            assert!(alone < 15.0 && behind < 15.0, "side by side {alone}, one behind the other {behind}");
        }
        // 30 looks at one in twenty: 1.5 expected, 6 once in a thousand.
        assert!(above <= 6, "{above} of 30 pairs look dependent at one in twenty");
    }

    #[test]
    fn many_at_once_are_put_in_order_in_turns() {
        let rows: RoaringBitmap = (0..50_000).collect();
        let whole: Vec<u32> = in_turn(&key(1), &rows, 0, 1).collect();
        let turns: Vec<u32> = (0..7).flat_map(|turn| in_turn(&key(1), &rows, turn, 7)).collect();
        assert_eq!(whole, turns, "the same order");
        assert!(whole.is_sorted_by_key(|row| key(1).of_row(*row)), "that of the hashes");
    }

    proptest! {
        #[test]
        fn at_each_blocks_end_every_exit_is_within_one_of_its_share(
            weights in proptest::collection::vec(
                prop_oneof![0u32..4, 0u32..200, Just(limits::SPLIT_WEIGHT_MAX), 0..=limits::SPLIT_WEIGHT_MAX],
                1..=limits::SPLIT_EXITS_MAX,
            ),
            blocks in 1u32..25,
            node in any::<u32>(),
        ) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
            let mut stream = Stream::new(&weights).expect("valid");
            let mut counts = vec![0i64; weights.len()];
            for block in 0..blocks {
                let rows: RoaringBitmap = (block * BLOCK..(block + 1) * BLOCK).collect();
                let parts = stream.assign(&key(node), &rows);
                assert_partition(&rows, &parts);
                for (exit, count) in counts.iter_mut().enumerate() {
                    *count += i64::try_from(parts[exit].len()).expect("small");
                    let share = i64::from((block + 1) * BLOCK) * i64::from(weights[exit]);
                    prop_assert!((share - *count * total).abs() < total, "exit {exit} has {count} of {share}/{total}");
                }
                prop_assert_eq!(stream.owed.iter().sum::<i64>(), 0, "what is owed adds up to nothing");
            }
        }

        #[test]
        fn every_arrival_is_a_partition(
            groups in proptest::collection::vec(0u32..180, 1..12),
            weights in proptest::collection::vec(0u32..9, 1..7),
        ) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let mut stream = Stream::new(&weights).expect("valid");
            let mut next = 0;
            for group in groups {
                let rows: RoaringBitmap = (next..next + group).map(|row| row * 7).collect();
                next += group;
                let parts = stream.assign(&key(3), &rows);
                assert_partition(&rows, &parts);
                for (part, weight) in parts.iter().zip(&weights) {
                    prop_assert!(*weight > 0 || part.is_empty(), "a closed exit takes nobody");
                }
            }
        }
    }
}
