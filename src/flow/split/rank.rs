//! Exact shares of a known set: rows are ranked by their keyed hash and cut at the sizes that are asked for.
//!
//! Owns no state. A large set is not sorted: a histogram over the upper bits of the hash tells in which of 4 096
//! stretches each cut falls, and only the rows of those stretches are put in order. Every row is hashed once; between the
//! two passes its stretch is remembered, which takes two bytes a row.
//!
//! Invariants:
//! 1. Exit *i* has exactly `sizes[i]` rows, and every hash in it is below every hash of the exits after it.
//! 2. The answer is that of sorting all rows by hash.

use roaring::RoaringBitmap;

use super::key::SplitKey;
use super::{SplitError, check_exits, quotas};

const STRETCH_BITS: u32 = 12;
const STRETCHES: usize = 1 << STRETCH_BITS;
/// Below it, sorting is cheaper than clearing a histogram.
const SORTED_ROWS_MAX: u64 = 8_192;
/// Rows of one container above which a bitmap of it is smaller than a list; roaring's own bound.
const LISTED_ROWS_MAX: usize = 4_096;
const CONTAINER_BYTES: usize = 8_192;
/// Rows that are read from a bitmap at a time.
const RUN_ROWS: usize = 1_024;

/// A set of rows per exit, of the sizes that [`quotas`] gives for the weights.
pub fn by_weights(key: &SplitKey, rows: &RoaringBitmap, weights: &[u32]) -> Result<Vec<RoaringBitmap>, SplitError> {
    cut(key, rows, &quotas(rows.len(), weights)?)
}

/// A set of rows per exit, of exactly these sizes, which must add up to the number of rows.
pub fn cut(key: &SplitKey, rows: &RoaringBitmap, sizes: &[u64]) -> Result<Vec<RoaringBitmap>, SplitError> {
    check_exits(sizes.len())?;
    let sum = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(*size));
    if sum != rows.len() {
        return Err(SplitError::SizesDoNotAddUp { sizes: sum, rows: rows.len() });
    }
    // One exit takes all: the usual case once a winner is known.
    if let Some(all) = sizes.iter().position(|size| *size == sum) {
        let part = |exit| if exit == all { rows.clone() } else { RoaringBitmap::new() };
        return Ok((0..sizes.len()).map(part).collect());
    }
    Ok(if sum <= SORTED_ROWS_MAX { by_sorting(key, rows, sizes) } else { by_stretches(key, rows, sizes) })
}

fn by_sorting(key: &SplitKey, rows: &RoaringBitmap, sizes: &[u64]) -> Vec<RoaringBitmap> {
    let mut ranked: Vec<(u64, u32)> = rows.iter().map(|row| (key.of_row(row), row)).collect();
    ranked.sort_unstable();
    let mut ranked = ranked.into_iter().map(|(_, row)| row);
    let take = |size: &u64| {
        let mut part: Vec<u32> = ranked.by_ref().take(usize::try_from(*size).unwrap_or(usize::MAX)).collect();
        part.sort_unstable();
        RoaringBitmap::from_iter(part)
    };
    sizes.iter().map(take).collect()
}

/// Which exit the rows of each stretch leave by.
struct Plan {
    /// By the upper bits of the hash; [`Plan::CUT`] if a cut falls into the stretch.
    exits: Vec<u8>,
    /// The stretches with a cut, in order, and the rank of the first row in each.
    cuts: Vec<(u64, u64)>,
    /// The rank behind the last row of each exit.
    ends: Vec<u64>,
}

impl Plan {
    const CUT: u8 = u8::MAX;

    fn new(histogram: &[u32], sizes: &[u64]) -> Plan {
        let ends: Vec<u64> = sizes
            .iter()
            .scan(0, |end, size| {
                *end += size;
                Some(*end)
            })
            .collect();
        let mut plan = Plan { exits: Vec::with_capacity(STRETCHES), cuts: Vec::new(), ends };
        let mut rank = 0;
        for (stretch, count) in (0u64..).zip(histogram) {
            let (first, next) = (rank, rank + u64::from(*count));
            let exit = plan.exit_of(first);
            // A stretch without rows has no cut, wherever it lies.
            if next == first || plan.ends.get(exit).is_some_and(|end| next <= *end) {
                plan.exits.push(u8::try_from(exit).unwrap_or(Plan::CUT));
            } else {
                plan.exits.push(Plan::CUT);
                plan.cuts.push((stretch, first));
            }
            rank = next;
        }
        plan
    }

    fn exit_of(&self, rank: u64) -> usize {
        self.ends.partition_point(|end| *end <= rank)
    }
}

#[inline]
fn stretch_of(hash: u64) -> usize {
    (hash >> (u64::BITS - STRETCH_BITS)) as usize
}

/// Visits all rows in order, many at a time, which costs less than one by one.
fn in_runs(rows: &RoaringBitmap, mut visit: impl FnMut(&[u32])) {
    let mut buffer = [0u32; RUN_ROWS];
    let mut rows = rows.iter();
    loop {
        let run = rows.next_many(&mut buffer);
        if run.is_empty() {
            return;
        }
        visit(run);
    }
}

fn by_stretches(key: &SplitKey, rows: &RoaringBitmap, sizes: &[u64]) -> Vec<RoaringBitmap> {
    let mut histogram = [0u32; STRETCHES];
    let mut stretches: Vec<u16> = Vec::with_capacity(usize::try_from(rows.len()).unwrap_or(0));
    in_runs(rows, |run| {
        stretches.extend(run.iter().map(|row| stretch_of(key.of_row(*row)) as u16));
        let new = stretches.len() - run.len();
        stretches[new..].iter().for_each(|stretch| histogram[usize::from(*stretch)] += 1);
    });
    let plan = Plan::new(&histogram, sizes);
    let mut parts: Vec<Part> = sizes.iter().map(|_| Part::default()).collect();
    let mut at_a_cut: Vec<(u64, u32)> = Vec::new();
    let mut scratch = Box::new([0u8; CONTAINER_BYTES]);
    let (mut container, mut stretches) = (0, stretches.as_slice());
    in_runs(rows, |run| {
        let (of_run, left) = stretches.split_at(run.len());
        stretches = left;
        for (row, stretch) in run.iter().zip(of_run) {
            if row >> 16 != container {
                parts.iter_mut().for_each(|part| part.close(container, &mut scratch));
                container = row >> 16;
            }
            match parts.get_mut(usize::from(plan.exits[usize::from(*stretch)])) {
                Some(part) => part.open.push((row & 0xFFFF) as u16),
                None => at_a_cut.push((key.of_row(*row), *row)),
            }
        }
    });
    parts.iter_mut().for_each(|part| part.close(container, &mut scratch));
    let mut parts: Vec<RoaringBitmap> = parts.into_iter().map(|part| part.done).collect();
    place_at_cuts(&plan, at_a_cut, &mut parts);
    parts
}

fn place_at_cuts(plan: &Plan, mut rows: Vec<(u64, u32)>, parts: &mut [RoaringBitmap]) {
    rows.sort_unstable();
    let mut cuts = plan.cuts.iter();
    let (mut stretch, mut rank) = (None, 0);
    for (hash, row) in rows {
        let own = stretch_of(hash) as u64;
        if stretch != Some(own) {
            stretch = Some(own);
            rank = cuts.find(|cut| cut.0 == own).map_or(0, |cut| cut.1);
        }
        if let Some(part) = parts.get_mut(plan.exit_of(rank)) {
            part.insert(row);
        }
        rank += 1;
    }
}

/// The rows of one exit, filled container by container.
#[derive(Default)]
struct Part {
    done: RoaringBitmap,
    open: Vec<u16>,
}

impl Part {
    fn close(&mut self, container: u32, scratch: &mut [u8; CONTAINER_BYTES]) {
        let first = container << 16;
        if self.open.len() > LISTED_ROWS_MAX {
            scratch.fill(0);
            for row in &self.open {
                scratch[usize::from(row >> 3)] |= 1 << (row & 7);
            }
            self.done |= RoaringBitmap::from_lsb0_bytes(first, scratch.as_slice());
        } else {
            self.done.extend(self.open.iter().map(|row| first | u32::from(*row)));
        }
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{assert_partition, chi_square, sizes};
    use super::*;
    use crate::flow::graph::NodeId;
    use crate::ids::RunId;

    fn key(run: u32, node: u32) -> SplitKey {
        SplitKey::new(RunId(run), NodeId(node))
    }

    #[test]
    fn a_large_set_is_shared_out_to_the_row() {
        let rows: RoaringBitmap = (0..300_001u32).map(|row| row * 3).collect();
        let parts = by_weights(&key(1, 1), &rows, &[10, 10, 80]).expect("valid");
        assert_partition(&rows, &parts);
        assert_eq!(sizes(&parts), [30_000, 30_000, 240_001], "ten, ten and eighty percent");
        assert_eq!(parts, by_weights(&key(1, 1), &rows, &[10, 10, 80]).expect("valid"), "again the same");
        assert_ne!(parts, by_weights(&key(1, 2), &rows, &[10, 10, 80]).expect("valid"), "another node draws anew");
    }

    #[test]
    fn an_exit_without_rows_and_one_with_all_are_exits_like_others() {
        let rows: RoaringBitmap = (0..100_000).collect();
        for asked in [&[0, 100_000][..], &[100_000], &[1, 0, 99_998, 0, 1], &[0, 50_000, 0, 50_000, 0]] {
            let parts = cut(&key(1, 1), &rows, asked).expect("valid");
            assert_partition(&rows, &parts);
            assert_eq!(sizes(&parts), asked, "sizes as asked");
        }
        let none = cut(&key(1, 1), &RoaringBitmap::new(), &[0, 0]).expect("valid");
        assert_eq!(sizes(&none), [0, 0], "nobody is two empty sets");
    }

    #[test]
    fn sizes_that_do_not_add_up_are_refused() {
        let rows: RoaringBitmap = (0..10).collect();
        assert_eq!(cut(&key(1, 1), &rows, &[5, 4]), Err(SplitError::SizesDoNotAddUp { sizes: 9, rows: 10 }), "short");
        let sizes = u64::MAX;
        assert_eq!(
            cut(&key(1, 1), &rows, &[u64::MAX, 10]),
            Err(SplitError::SizesDoNotAddUp { sizes, rows: 10 }),
            "beyond all numbers"
        );
        assert_eq!(cut(&key(1, 1), &rows, &[]), Err(SplitError::NoExits), "no exits");
    }

    #[test]
    fn splits_of_two_nodes_and_of_two_runs_are_independent() {
        let rows: RoaringBitmap = (0..100_000).collect();
        let half = |run, node| by_weights(&key(run, node), &rows, &[50, 50]).expect("valid");
        let mut above = 0;
        for other in 0..40 {
            let by_node = chi_square(&half(1, 1), &half(1, 2 + other));
            let by_run = chi_square(&half(1, 1), &half(2 + other, 1));
            above += u32::from(by_node > 3.84) + u32::from(by_run > 3.84);
            assert!(by_node < 15.0 && by_run < 15.0, "node {by_node}, run {by_run}, once in 10 000");
        }
        // 80 looks at one in twenty: 4 expected, 12 once in a thousand.
        assert!(above <= 12, "{above} of 80 pairs look dependent at one in twenty");
    }

    #[test]
    fn who_is_in_a_half_says_nothing_about_neighbours_and_parity() {
        let rows: RoaringBitmap = (0..100_000).collect();
        let halves = by_weights(&key(3, 4), &rows, &[50, 50]).expect("valid");
        let parity = [rows.iter().filter(|r| r % 2 == 0).collect(), rows.iter().filter(|r| r % 2 == 1).collect()];
        assert!(chi_square(&halves, &parity) < 10.83, "parity of the row");
        let ends = [rows.iter().take(50_000).collect(), rows.iter().skip(50_000).collect()];
        assert!(chi_square(&halves, &ends) < 10.83, "age of the row");
        let shifted = [
            halves[0].iter().map(|r| (r + 1) % 100_000).collect(),
            halves[1].iter().map(|r| (r + 1) % 100_000).collect(),
        ];
        assert!(chi_square(&halves, &shifted) < 10.83, "the neighbour");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_answer_is_that_of_sorting_all_rows(
            run in any::<u32>(),
            count in 1u32..20_000,
            spread in 1u32..100_000,
            weights in proptest::collection::vec(0u32..1_000, 1..20),
        ) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let rows: RoaringBitmap = (0..count).map(|row| row.wrapping_mul(spread)).collect();
            let key = key(run, 9);
            let asked = quotas(rows.len(), &weights).expect("valid");
            let parts = by_weights(&key, &rows, &weights).expect("valid");
            prop_assert_eq!(&sizes(&parts), &asked, "exact");
            prop_assert_eq!(&parts, &by_sorting(&key, &rows, &asked), "as by sorting");
            prop_assert_eq!(&by_stretches(&key, &rows, &asked), &by_sorting(&key, &rows, &asked), "stretches, any size");
            assert_partition(&rows, &parts);
        }
    }
}
