//! Sets of rows by the second at which they are due, in as few bytes as they are written in.
//!
//! A set that is being filled is a bitmap. One that nobody adds to rests *sealed*: its serialized form, in one allocation of
//! exactly its size. A small set that was filled bit by bit takes 2.6 times as much as a bitmap, because each of its
//! containers is an allocation with room to grow; most sets wait for weeks and are touched twice.
//!
//! The sets to which rows were added last stay open, [`WAIT_OPEN_BUCKETS_MAX`](crate::limits::WAIT_OPEN_BUCKETS_MAX) of them:
//! entrants of one moment go to one second, or to one per zone, and come to the same seconds again until those are full.
//!
//! Who owns the state: a generation of [`Waits`](super::Waits) has one [`Buckets`].
//!
//! Invariants:
//! 1. Open or sealed is not seen from outside: neither in what is answered nor in what is written.
//! 2. Open sets are listed, each once; all others are sealed. No set is empty.
//!
//! What it must not know: why rows wait, which of them are void, rounding.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::WAIT_OPEN_BUCKETS_MAX;

/// Rows that are due at one second.
#[derive(Clone, Debug)]
enum Bucket {
    Open(RoaringBitmap),
    Sealed {
        /// In the portable format of Roaring bitmaps, as serde writes them.
        bytes: Box<[u8]>,
        /// How many.
        rows: u64,
    },
}

impl Bucket {
    /// A bitmap that cannot be written to memory, which does not happen, stays open.
    fn sealed(rows: RoaringBitmap) -> Bucket {
        let mut bytes = Vec::with_capacity(rows.serialized_size());
        match rows.serialize_into(&mut bytes) {
            Ok(()) => Bucket::Sealed { bytes: bytes.into_boxed_slice(), rows: rows.len() },
            Err(_) => Bucket::Open(rows),
        }
    }

    fn seal(&mut self) {
        if let Bucket::Open(rows) = self {
            *self = Bucket::sealed(std::mem::take(rows));
        }
    }

    fn len(&self) -> u64 {
        match self {
            Bucket::Open(rows) => rows.len(),
            Bucket::Sealed { rows, .. } => *rows,
        }
    }

    fn rows(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Bucket::Open(rows) => Cow::Borrowed(rows),
            Bucket::Sealed { bytes, .. } => Cow::Owned(opened(bytes)),
        }
    }

    fn into_rows(self) -> RoaringBitmap {
        match self {
            Bucket::Open(rows) => rows,
            Bucket::Sealed { bytes, .. } => opened(&bytes),
        }
    }

    /// Opens it.
    fn rows_mut(&mut self) -> &mut RoaringBitmap {
        loop {
            match self {
                Bucket::Open(rows) => return rows,
                Bucket::Sealed { bytes, .. } => *self = Bucket::Open(opened(bytes)),
            }
        }
    }

    /// Takes away rows, and is sealed or open as it was; whether any is left.
    fn forget(&mut self, rows: &RoaringBitmap) -> bool {
        match self {
            Bucket::Open(own) => *own -= rows,
            Bucket::Sealed { bytes, .. } => {
                let own = opened(bytes);
                if !own.is_disjoint(rows) {
                    *self = Bucket::sealed(own - rows);
                }
            }
        }
        self.len() > 0
    }

    /// Bytes when written.
    fn serialized_size(&self) -> usize {
        match self {
            Bucket::Open(rows) => rows.serialized_size(),
            Bucket::Sealed { bytes, .. } => bytes.len(),
        }
    }
}

/// What [`Bucket::sealed`] wrote, which is therefore whole: nothing of it is checked again. Should it not be all the same,
/// its rows are missing, and `verify` says so.
fn opened(bytes: &[u8]) -> RoaringBitmap {
    RoaringBitmap::deserialize_unchecked_from(bytes).unwrap_or_default()
}

impl PartialEq for Bucket {
    fn eq(&self, other: &Bucket) -> bool {
        match (self, other) {
            (Bucket::Sealed { bytes, .. }, Bucket::Sealed { bytes: others, .. }) if bytes == others => true,
            _ => self.len() == other.len() && self.rows() == other.rows(),
        }
    }
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Bucket::Open(rows) => rows.serialize(serializer),
            Bucket::Sealed { bytes, .. } => serializer.serialize_bytes(bytes),
        }
    }
}

impl<'de> Deserialize<'de> for Bucket {
    /// With all checks, for it comes from a disk.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bucket, D::Error> {
        RoaringBitmap::deserialize(deserializer).map(Bucket::sealed)
    }
}

/// Sets of rows by the second since 1970 at which they are due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Buckets {
    by_second: BTreeMap<i64, Bucket>,
    /// The seconds of open sets; to which rows were added last is last.
    #[serde(skip)]
    open: VecDeque<i64>,
}

impl PartialEq for Buckets {
    fn eq(&self, other: &Buckets) -> bool {
        self.by_second == other.by_second
    }
}

impl Buckets {
    pub(super) fn len(&self) -> usize {
        self.by_second.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_second.is_empty()
    }

    pub(super) fn first_second(&self) -> Option<i64> {
        self.by_second.keys().next().copied()
    }

    /// Second and rows, in order of time.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, Cow<'_, RoaringBitmap>)> {
        self.by_second.iter().map(|(second, bucket)| (*second, bucket.rows()))
    }

    /// How many rows are due at each second, in order of time.
    pub(super) fn counts(&self) -> impl Iterator<Item = (i64, u64)> {
        self.by_second.iter().map(|(second, bucket)| (*second, bucket.len()))
    }

    /// The sets that are due at `last` or before.
    pub(super) fn until(&self, last: i64) -> impl Iterator<Item = Cow<'_, RoaringBitmap>> {
        self.by_second.range(..=last).map(|(_, bucket)| bucket.rows())
    }

    pub(super) fn first(&self) -> Option<Cow<'_, RoaringBitmap>> {
        self.by_second.first_key_value().map(|(_, bucket)| bucket.rows())
    }

    pub(super) fn drop_first(&mut self) {
        if let Some((second, _)) = self.by_second.pop_first() {
            self.open.retain(|open| *open != second);
        }
    }

    /// Takes the first set away if it is due at `last` or before.
    pub(super) fn take_first(&mut self, last: i64) -> Option<(i64, RoaringBitmap)> {
        let first = self.by_second.first_entry().filter(|first| *first.key() <= last)?;
        let (second, bucket) = first.remove_entry();
        self.open.retain(|open| *open != second);
        Some((second, bucket.into_rows()))
    }

    /// Adds rows to those of a second.
    pub(super) fn put(&mut self, second: i64, rows: &RoaringBitmap) {
        if rows.is_empty() {
            return;
        }
        match self.by_second.entry(second) {
            Entry::Vacant(place) => {
                place.insert(Bucket::Open(rows.clone()));
            }
            Entry::Occupied(mut place) => *place.get_mut().rows_mut() |= rows,
        }
        if self.open.back() != Some(&second) {
            self.open.retain(|open| *open != second);
            self.open.push_back(second);
        }
        while self.open.len() > WAIT_OPEN_BUCKETS_MAX {
            if let Some(bucket) = self.open.pop_front().and_then(|second| self.by_second.get_mut(&second)) {
                bucket.seal();
            }
        }
    }

    /// Takes rows away, whenever they are due.
    pub(super) fn forget(&mut self, rows: &RoaringBitmap) {
        self.by_second.retain(|_, bucket| bucket.forget(rows));
        let by_second = &self.by_second;
        self.open.retain(|second| by_second.contains_key(second));
    }

    /// Gives each set another second; `place` keeps their order, and sets that come to one second become one.
    pub(super) fn move_to(&mut self, place: impl Fn(i64) -> i64) {
        self.seal_all();
        let mut moved: BTreeMap<i64, Bucket> = BTreeMap::new();
        for (second, bucket) in std::mem::take(&mut self.by_second) {
            let to = place(second);
            match moved.last_entry() {
                Some(mut last) if *last.key() == to => *last.get_mut().rows_mut() |= bucket.into_rows(),
                last => {
                    if let Some(mut last) = last {
                        last.get_mut().seal();
                    }
                    moved.insert(to, bucket);
                }
            }
        }
        self.by_second = moved;
        self.seal_all();
    }

    pub(super) fn seal_all(&mut self) {
        self.by_second.values_mut().for_each(Bucket::seal);
        self.open.clear();
    }

    /// Bytes when written.
    pub(super) fn serialized_bytes(&self) -> usize {
        self.by_second.values().map(|bucket| size_of::<i64>() + bucket.serialized_size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(buckets: &Buckets) -> usize {
        buckets.by_second.values().filter(|bucket| matches!(bucket, Bucket::Sealed { .. })).count()
    }

    #[test]
    fn the_sets_that_were_added_to_last_are_open_and_all_others_sealed() {
        let mut buckets = Buckets::default();
        let room = i64::try_from(WAIT_OPEN_BUCKETS_MAX).expect("small");
        for second in 0..room + 10 {
            buckets.put(second, &RoaringBitmap::from_iter([1, 70_000, 5_000_000]));
            buckets.put(0, &RoaringBitmap::from_iter([u32::try_from(second).expect("small")]));
        }
        assert_eq!(sealed(&buckets), 10, "as many as are too many");
        assert!(matches!(buckets.by_second[&0], Bucket::Open(_)), "second 0 is added to all the time");
        assert!(matches!(buckets.by_second[&1], Bucket::Sealed { .. }), "second 1 was the first to rest");
        buckets.put(1, &RoaringBitmap::from_iter([9]));
        assert!(matches!(buckets.by_second[&1], Bucket::Open(_)), "until somebody comes");
        assert_eq!((sealed(&buckets), buckets.open.len()), (10, WAIT_OPEN_BUCKETS_MAX), "another rests instead");
        let mut read: Buckets = rmp_serde::from_slice(&rmp_serde::to_vec(&buckets).expect("writes")).expect("reads");
        assert_eq!((sealed(&read), &read), (read.len(), &buckets), "what is read rests, and is the same");
        assert_eq!(read.take_first(5), buckets.take_first(5), "taken");
        assert_eq!(buckets.open.len(), WAIT_OPEN_BUCKETS_MAX - 1, "what is gone is not listed");
    }

    #[test]
    fn a_sealed_set_takes_what_it_takes_when_written() {
        let mut buckets = Buckets::default();
        for piece in 0..15 {
            buckets.put(900, &(0..300).map(|row| (row * 15 + piece) * 2_880).collect());
        }
        buckets.seal_all();
        let Bucket::Sealed { bytes, rows } = &buckets.by_second[&900] else { panic!("it is sealed") };
        assert_eq!((*rows, bytes.len() + 8), (4_500, buckets.serialized_bytes()), "no byte more");
        assert!(bytes.len() < 4 * 4_500, "{} bytes", bytes.len());
    }

    #[test]
    fn what_a_disk_made_of_it_is_refused() {
        let mut buckets = Buckets::default();
        buckets.put(1, &(0..100).collect());
        let mut bytes = rmp_serde::to_vec(&buckets).expect("writes");
        let last = bytes.len() - 1;
        bytes[last] ^= 0xff;
        bytes.swap(last - 3, last - 7);
        assert!(rmp_serde::from_slice::<Buckets>(&bytes).is_err(), "rows that are not in order");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(i64, u32, u32, u32),
        Forget(u32, u32, u32),
        Take(i64),
        Move(i64),
        Seal,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Runs of rows: some dense enough for containers that are bitmaps, some scattered over many.
        let rows = || (0u32..200_000, 1u32..6_000, prop_oneof![Just(1u32), Just(3), Just(2_880)]);
        let step = prop_oneof![
            6 => (0i64..200, rows()).prop_map(|(second, (from, count, step))| Step::Put(second, from, count, step)),
            2 => rows().prop_map(|(from, count, step)| Step::Forget(from, count, step)),
            1 => (0i64..100).prop_map(Step::Take),
            1 => (2i64..30).prop_map(Step::Move),
            2 => Just(Step::Seal),
        ];
        proptest::collection::vec(step, 1..30)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Beside plain bitmaps, of which the bytes are the same.
        #[test]
        fn nobody_sees_what_is_sealed(steps in steps()) {
            let (mut buckets, mut plain) = (Buckets::default(), BTreeMap::<i64, RoaringBitmap>::new());
            let rows = |from: u32, count: u32, step: u32| (0..count).map(|at| from + at * step).collect::<RoaringBitmap>();
            for step in steps {
                match step {
                    Step::Put(second, from, count, step) => {
                        buckets.put(second, &rows(from, count, step));
                        *plain.entry(second).or_default() |= rows(from, count, step);
                    }
                    Step::Forget(from, count, step) => {
                        buckets.forget(&rows(from, count, step));
                        plain.values_mut().for_each(|bucket| *bucket -= rows(from, count, step));
                        plain.retain(|_, bucket| !bucket.is_empty());
                    }
                    Step::Take(last) => {
                        let first = plain.first_key_value().filter(|(second, _)| **second <= last).is_some();
                        let expected = if first { plain.pop_first() } else { None };
                        prop_assert_eq!(buckets.take_first(last), expected, "the first");
                    }
                    Step::Move(step) => {
                        buckets.move_to(|second| second / step * step);
                        for (second, bucket) in std::mem::take(&mut plain) {
                            *plain.entry(second / step * step).or_default() |= bucket;
                        }
                    }
                    Step::Seal => buckets.seal_all(),
                }
                let listed: Vec<(i64, RoaringBitmap)> = buckets.iter().map(|(s, rows)| (s, rows.into_owned())).collect();
                prop_assert!(listed.iter().map(|(second, rows)| (second, rows)).eq(plain.iter()), "the same rows");
                let counts = plain.iter().map(|(second, rows)| (*second, rows.len()));
                prop_assert!(buckets.counts().eq(counts), "and as many");
                let bytes = |written: Result<Vec<u8>, _>| written.expect("writes");
                prop_assert!(bytes(rmp_serde::to_vec(&buckets)) == bytes(rmp_serde::to_vec(&plain)), "the same bytes");
                prop_assert_eq!(buckets.len() - sealed(&buckets), buckets.open.len(), "open ones are listed");
            }
        }
    }
}
