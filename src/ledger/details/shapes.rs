//! Sets without anybody in them: rows are given new numbers by nothing but the sets that they were in.
//!
//! Every size is kept, of each set and of each intersection and union of them, and so is every report that counts; who was in
//! a set is not. Rows of the same sets are numbered one after the other, so that a set is a few ranges, whatever its size.
//!
//! Owns no state. Invariants: SH-1 the algebra of the sets stays: `|A ∩ B|` is what it was, for all of them; SH-2 the new
//! numbers follow from the sets alone, so that the same sets give the same bytes on any machine.
//!
//! How: rows are taken down a tree, set by set, a step for each that they are in. Two rows that end at the same place were
//! in the same sets. A subtree is then a range of new numbers, and belongs to the set of the step that leads to it. The
//! tree has a node for each combination that there is (a few hundred for a campaign), and rows are read in parts of 65 536,
//! so that neither time nor memory grow by more than the rows that are read once.
//!
//! Must not know: runs, what a set means.

use std::collections::HashMap;

use roaring::RoaringBitmap;

/// Rows that are looked at together: a container of the bitmaps.
const PART: u32 = 1 << 16;

/// Numbers the rows of these sets anew.
pub(super) fn forget_rows(sets: &mut [&mut RoaringBitmap]) {
    let mut tree = Tree::new();
    let everybody = sets.iter().fold(RoaringBitmap::new(), |all, rows| all | &**rows);
    let mut places = vec![ROOT; PART as usize];
    let mut next = everybody.min();
    while let Some(row) = next {
        let first = row - row % PART;
        let last = first + (PART - 1);
        places.fill(ROOT);
        for (set, rows) in (0..).zip(sets.iter()) {
            rows.range(first..=last).for_each(|row| {
                let place = &mut places[(row - first) as usize];
                *place = tree.step(*place, set);
            });
        }
        everybody.range(first..=last).for_each(|row| tree.rest(places[(row - first) as usize]));
        next = last.checked_add(1).and_then(|from| everybody.range(from..).next());
    }
    sets.iter_mut().for_each(|rows| rows.clear());
    for (set, first, last) in tree.ranges() {
        if let Some(rows) = usize::try_from(set).ok().and_then(|set| sets.get_mut(set)) {
            rows.insert_range(first..last);
        }
    }
    sets.iter_mut().for_each(|rows| {
        rows.optimize();
    });
}

/// The place of rows that are in no set.
const ROOT: u32 = 0;

#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    /// The set whose step leads here.
    set: u32,
    /// Rows that rest here.
    rows: u32,
}

struct Tree {
    nodes: Vec<Node>,
    children: HashMap<(u32, u32), u32>,
    /// The last step: neighbours mostly take the same.
    last: (u32, u32, u32),
}

impl Tree {
    fn new() -> Tree {
        let root = Node { parent: ROOT, set: u32::MAX, rows: 0 };
        Tree { nodes: vec![root], children: HashMap::new(), last: (u32::MAX, 0, 0) }
    }

    fn step(&mut self, from: u32, set: u32) -> u32 {
        if (self.last.0, self.last.1) == (from, set) {
            return self.last.2;
        }
        let new = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let to = *self.children.entry((from, set)).or_insert(new);
        if to == new {
            self.nodes.push(Node { parent: from, set, rows: 0 });
        }
        self.last = (from, set, to);
        to
    }

    fn rest(&mut self, place: u32) {
        if let Some(node) = self.nodes.get_mut(place as usize) {
            node.rows += 1;
        }
    }

    /// By set: ranges of new numbers. A node comes after its parent, so that one pass each way is enough.
    fn ranges(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let mut below: Vec<u32> = self.nodes.iter().map(|node| node.rows).collect();
        for (at, node) in self.nodes.iter().enumerate().skip(1).rev() {
            below[node.parent as usize] += below[at];
        }
        // Where the next child of a node begins.
        let mut free = vec![0; self.nodes.len()];
        free[ROOT as usize] = self.nodes[ROOT as usize].rows;
        let mut ranges = Vec::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate().skip(1) {
            let first = free[node.parent as usize];
            let last = first + below[at];
            free[node.parent as usize] = last;
            free[at] = first + node.rows;
            ranges.push((node.set, first, last));
        }
        ranges.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(rows: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        rows.into_iter().collect()
    }

    fn forgotten(sets: &[RoaringBitmap]) -> Vec<RoaringBitmap> {
        let mut new = sets.to_vec();
        forget_rows(&mut new.iter_mut().collect::<Vec<_>>());
        new
    }

    #[test]
    fn a_campaign_becomes_a_few_ranges_and_nobody_is_known() {
        let audience = set((0..200_000).map(|n| n * 3 + 7));
        let accepted: RoaringBitmap = audience.iter().filter(|row| row % 17 != 0).collect();
        let opened: RoaringBitmap = accepted.iter().filter(|row| row % 5 == 0).collect();
        let clicked: RoaringBitmap = opened.iter().filter(|row| row % 2 == 0).collect();
        let before: usize = [&audience, &accepted, &opened, &clicked].iter().map(|rows| rows.serialized_size()).sum();
        let new = forgotten(&[audience.clone(), accepted.clone(), opened.clone(), clicked.clone()]);
        let after: usize = new.iter().map(RoaringBitmap::serialized_size).sum();
        assert!(after < 200 && before > 100_000, "{before} bytes are {after}");
        assert_eq!(new[0], set(0..200_000), "numbered from 0, without a gap");
        let sizes = [audience.len(), accepted.len(), opened.len(), clicked.len()];
        assert_eq!(new.iter().map(RoaringBitmap::len).collect::<Vec<_>>(), sizes);
        assert_eq!(new[2].intersection_len(&new[1]), opened.len(), "who opened was accepted");
    }

    #[test]
    fn nothing_and_the_last_rows_that_there_can_be() {
        assert_eq!(forgotten(&[]), Vec::<RoaringBitmap>::new());
        assert_eq!(forgotten(&[set([]), set([])]), [set([]), set([])]);
        let (last, far) = (set([0, u32::MAX]), set([u32::MAX, u32::MAX - 70_000]));
        let new = forgotten(&[last, far]);
        assert_eq!((new[0].len(), new[1].len(), new[0].intersection_len(&new[1])), (2, 2, 1));
        assert_eq!(&new[0] | &new[1], set(0..3));
    }

    proptest! {
        /// Whatever is in the sets: of each two, and of each two with a third, nothing is counted otherwise.
        #[test]
        fn nothing_is_counted_otherwise(
            sets in proptest::collection::vec(
                proptest::collection::btree_set(prop_oneof![0u32..40, 65_500u32..65_600, 4_000_000u32..4_000_020], 0..60),
                0..7,
            ),
        ) {
            let sets: Vec<RoaringBitmap> = sets.into_iter().map(set).collect();
            let new = forgotten(&sets);
            let all = |sets: &[RoaringBitmap]| sets.iter().fold(RoaringBitmap::new(), |all, rows| all | rows).len();
            prop_assert_eq!(all(&sets), all(&new), "everybody");
            for a in 0..sets.len() {
                for b in 0..sets.len() {
                    prop_assert_eq!(sets[a].intersection_len(&sets[b]), new[a].intersection_len(&new[b]));
                    for c in 0..sets.len() {
                        let three = |sets: &[RoaringBitmap]| ((&sets[a] & &sets[b]) - &sets[c]).len();
                        prop_assert_eq!(three(&sets), three(&new));
                    }
                }
            }
            prop_assert_eq!(forgotten(&sets), new, "the same again");
        }
    }
}
