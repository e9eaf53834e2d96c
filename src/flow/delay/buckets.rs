//! The rows that wait at a node, by the second at which they are due.
//!
//! A bucket is the set of rows that are due at one second. Instants are rounded up, never down, so that nobody goes on too
//! early: to the second if the wait is two minutes at most, to 10 seconds up to an hour, to the minute up to two days, to
//! 5 minutes up to 14 days, to 15 minutes beyond. Every zone of today is a multiple of 15 minutes from UTC, so that a round
//! time of day stays what it is. Should there be more than [`WAIT_BUCKETS_MAX`](crate::limits::WAIT_BUCKETS_MAX) buckets
//! all the same, those that are due last are rounded up to 30 minutes, then to an hour, and so on, until an eighth of the
//! room is free.
//!
//! Rows that leave before their time (the event came) are not searched for: they become *void*, and their bucket passes
//! over them. So that the old timer of a row that enters anew cannot fire, such a row enters the next *generation*, which
//! has buckets and void rows of its own; only when a row is void in every generation is it searched for.
//!
//! How little memory a bucket takes is the business of `sealed`(super::sealed).
//!
//! Who owns the state: the ledger of a run keeps a [`Waits`] per node that waits.
//!
//! Invariants:
//! 1. A waiting row is in exactly one bucket in whose generation it is not void: it has one timer, the newest.
//! 2. A row comes due once, at or after its instant, and less than the rounding later.
//! 3. The entries of a generation are its live and its void rows, each once. Void rows are no more than live ones, or few.
//! 4. What has left is gone: a clock that steps back fires nothing twice, one that steps forward skips nothing.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::sealed::Buckets;
use crate::clock::Timestamp;
use crate::limits;

const DAY: i64 = 24 * 3_600;
/// Longest wait, and what it is rounded to; seconds.
const ROUNDING: [(i64, i64); 4] = [(120, 1), (3_600, 10), (2 * DAY, 60), (14 * DAY, 300)];
/// Waits up to this keep their rounding when room must be made, seconds.
const NEAR: i64 = 2 * DAY;
/// Rounding of longer waits, seconds.
const COARSE: i64 = 900;
/// Void rows of a generation up to which they are not worth a search.
const VOID_MIN: u64 = 1_000;

/// The waiting rows of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    generations: Vec<Generation>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Generation {
    /// By the second since 1970 at which they are due; void rows included.
    buckets: Buckets,
    live: RoaringBitmap,
    void: RoaringBitmap,
}

/// What is wrong with the waiting rows of a node; a fault of this module or of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitsError {
    #[error("{rows} waiting rows have two timers")]
    TwoTimers { rows: u64 },
    #[error("{rows} rows are in a bucket and neither wait nor are void, or the other way round")]
    Stray { rows: u64 },
}

impl Waits {
    /// Rows that wait.
    pub fn rows(&self) -> RoaringBitmap {
        self.generations.iter().fold(RoaringBitmap::new(), |all, generation| all | &generation.live)
    }

    /// How many rows wait.
    pub fn len(&self) -> u64 {
        self.generations.iter().map(|g| g.live.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.generations.iter().all(|g| g.live.is_empty())
    }

    /// Buckets in memory.
    pub fn buckets(&self) -> usize {
        self.generations.iter().map(|g| g.buckets.len()).sum()
    }

    /// Bytes of all sets when written down.
    pub fn serialized_bytes(&self) -> usize {
        let size = |g: &Generation| g.buckets.serialized_bytes() + g.live.serialized_size() + g.void.serialized_size();
        self.generations.iter().map(size).sum()
    }

    /// The first second since 1970 at which somebody may be due; all who were due then may have left before.
    pub fn next_due(&self) -> Option<i64> {
        self.generations.iter().filter_map(|g| g.buckets.first_second()).min()
    }

    /// How many rows are due at each second since 1970, in order.
    pub fn schedule(&self) -> BTreeMap<i64, u64> {
        let mut seconds = BTreeMap::new();
        let mut add = |second: i64, live: u64| {
            if live > 0 {
                *seconds.entry(second).or_insert(0) += live;
            }
        };
        for Generation { buckets, live, void } in &self.generations {
            if void.is_empty() {
                buckets.counts().for_each(|(second, rows)| add(second, rows));
            } else {
                buckets.iter().for_each(|(second, bucket)| add(second, bucket.intersection_len(live)));
            }
        }
        seconds
    }

    /// Rows whose time has come; they wait until they leave.
    pub fn due(&self, now: Timestamp) -> RoaringBitmap {
        let last = second_down(now);
        let mut due = RoaringBitmap::new();
        for generation in &self.generations {
            for bucket in generation.buckets.until(last) {
                due |= if generation.void.is_empty() { bucket.into_owned() } else { &*bucket - &generation.void };
            }
        }
        due
    }

    /// Takes away rows, due or not. The first buckets are looked at, because who is due leaves bucket by bucket.
    pub fn leave(&mut self, rows: &RoaringBitmap) {
        for generation in &mut self.generations {
            while let Some(first) = generation.buckets.first() {
                let live = &*first & &generation.live;
                if !live.is_subset(rows) {
                    break;
                }
                generation.live -= live;
                generation.void -= &*first;
                drop(first);
                generation.buckets.drop_first();
            }
            generation.tidy();
        }
        self.drop_empty();
        self.remove(rows);
    }

    /// Lets rows wait until `due`; a row that waits already forgets its earlier timer. Answers the second since 1970 at
    /// which they are due.
    pub fn enter(&mut self, rows: &RoaringBitmap, due: Timestamp, now: Timestamp) -> i64 {
        let mut second = rounded(due, now);
        if rows.is_empty() {
            return second;
        }
        self.remove(rows);
        if self.buckets() >= limits::WAIT_BUCKETS_MAX {
            second = self.make_room(second, now);
        }
        let mut left = rows.clone();
        for generation in &mut self.generations {
            let blocked = &left & &generation.void;
            left -= &blocked;
            generation.put(second, &left);
            left = blocked;
        }
        if left.is_empty() {
            return second;
        }
        if self.generations.len() < limits::WAIT_GENERATIONS_MAX {
            let mut generation = Generation::default();
            generation.put(second, &left);
            self.generations.push(generation);
        } else if let Some(first) = self.generations.first_mut() {
            first.purge(&left);
            first.put(second, &left);
        }
        second
    }

    /// Takes away rows before their time: they reached the event, unsubscribed or were erased. Answers those that waited.
    pub fn remove(&mut self, rows: &RoaringBitmap) -> RoaringBitmap {
        let mut gone = RoaringBitmap::new();
        for generation in &mut self.generations {
            let here = &generation.live & rows;
            if !here.is_empty() {
                generation.live -= &here;
                generation.void |= &here;
                generation.tidy();
                gone |= here;
            }
        }
        self.drop_empty();
        gone
    }

    /// Takes everything that is due, the earliest second first.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<(i64, RoaringBitmap)> {
        let last = second_down(now);
        let mut due: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
        for generation in &mut self.generations {
            while let Some((second, mut bucket)) = generation.buckets.take_first(last) {
                if !generation.void.is_empty() {
                    let passed = &bucket & &generation.void;
                    generation.void -= &passed;
                    bucket -= passed;
                }
                generation.live -= &bucket;
                if !bucket.is_empty() {
                    *due.entry(second).or_default() |= bucket;
                }
            }
            generation.tidy();
        }
        self.drop_empty();
        due.into_iter().collect()
    }

    /// Invariants 1 and 3, for snapshots, recovery and `check`.
    pub fn verify(&self) -> Result<(), WaitsError> {
        let mut waiting = RoaringBitmap::new();
        for generation in &self.generations {
            let mut entries = RoaringBitmap::new();
            for (_, bucket) in generation.buckets.iter() {
                let rows = entries.intersection_len(&bucket);
                if rows > 0 {
                    return Err(WaitsError::TwoTimers { rows });
                }
                entries |= &*bucket;
            }
            let rows = waiting.intersection_len(&generation.live);
            if rows > 0 {
                return Err(WaitsError::TwoTimers { rows });
            }
            waiting |= &generation.live;
            let known = &generation.live | &generation.void;
            let rows = (&known ^ &entries).len() + generation.live.intersection_len(&generation.void);
            if rows > 0 {
                return Err(WaitsError::Stray { rows });
            }
        }
        Ok(())
    }

    /// Frees an eighth of the room for buckets; answers the second that `second` is now rounded to. What is overdue
    /// becomes one bucket; what is due within two days keeps its second, which is room for all generations.
    fn make_room(&mut self, second: i64, now: Timestamp) -> i64 {
        let (passed, near) = (second_down(now), second_up(now) + NEAR);
        let mut step = COARSE;
        loop {
            let place = |second: i64| match second {
                m if m <= passed => m.max(passed),
                m if m <= near => m,
                m => round_up(m, step),
            };
            for generation in &mut self.generations {
                generation.buckets.move_to(place);
            }
            if self.buckets() <= limits::WAIT_BUCKETS_MAX / 8 * 7 || step > DAY * 366 {
                return place(second);
            }
            step *= 2;
        }
    }

    fn drop_empty(&mut self) {
        while self.generations.last().is_some_and(|g| g.buckets.is_empty()) {
            self.generations.pop();
        }
    }
}

impl Generation {
    fn put(&mut self, second: i64, rows: &RoaringBitmap) {
        if !rows.is_empty() {
            self.buckets.put(second, rows);
            self.live |= rows;
        }
    }

    /// Searches for void rows and forgets them.
    fn purge(&mut self, rows: &RoaringBitmap) {
        self.buckets.forget(rows);
        self.void -= rows;
    }

    /// Keeps void rows from piling up: each search halves the entries at least, so that a removal pays for its own.
    fn tidy(&mut self) {
        if self.live.is_empty() {
            *self = Generation::default();
        } else if self.void.len() > self.live.len().max(VOID_MIN) {
            let void = std::mem::take(&mut self.void);
            self.purge(&void);
        }
    }
}

fn rounded(due: Timestamp, now: Timestamp) -> i64 {
    if due <= now {
        return second_up(due).min(second_down(now));
    }
    let second = second_up(due);
    let wait = second.saturating_sub(second_down(now));
    round_up(second, ROUNDING.iter().find(|(longest, _)| wait <= *longest).map_or(COARSE, |(_, step)| *step))
}

/// Whole seconds since 1970, rounded up.
fn second_up(at: Timestamp) -> i64 {
    second_down(at) + i64::from(at.0.rem_euclid(1_000) != 0)
}

fn second_down(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000)
}

fn round_up(second: i64, step: i64) -> i64 {
    let over = second.rem_euclid(step);
    if over == 0 { second } else { second.saturating_add(step - over) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * SECOND)
    }

    fn set(rows: &[u32]) -> RoaringBitmap {
        rows.iter().collect()
    }

    #[test]
    fn rows_come_due_at_their_second_and_once() {
        let mut waits = Waits::default();
        assert_eq!(waits.enter(&set(&[1, 2]), Timestamp(10 * SECOND + 1), at(0)), 11, "rounded up to the second");
        assert_eq!(waits.enter(&set(&[3]), at(10), at(0)), 10, "a whole second stays");
        assert_eq!(waits.enter(&set(&[4]), at(11), at(0)), 11, "into the same bucket");
        assert_eq!((waits.len(), waits.buckets(), waits.next_due()), (4, 2, Some(10)), "four rows at two seconds");
        assert_eq!(waits.schedule(), BTreeMap::from([(10, 1), (11, 3)]), "for people");
        assert_eq!(waits.take_due(Timestamp(10 * SECOND - 1)), [], "not yet");
        assert_eq!(waits.take_due(at(500)), [(10, set(&[3])), (11, set(&[1, 2, 4]))], "all that is overdue, in order");
        assert_eq!(waits.take_due(at(9)), [], "a clock that steps back fires nothing again");
        assert_eq!(waits, Waits::default(), "nothing is left");
    }

    #[test]
    fn what_is_due_already_can_be_taken_at_once() {
        let mut waits = Waits::default();
        let now = Timestamp(20 * SECOND + 500);
        assert_eq!(waits.enter(&set(&[1]), now, now), 20, "no waiting for the next second");
        assert_eq!(waits.enter(&set(&[2]), at(3), now), 3, "overdue");
        assert_eq!(waits.take_due(now), [(3, set(&[2])), (20, set(&[1]))], "both");
    }

    #[test]
    fn the_old_timer_of_a_row_that_enters_again_does_not_fire() {
        let mut waits = Waits::default();
        waits.enter(&set(&[1, 2]), at(10), at(0));
        assert_eq!(waits.remove(&set(&[1, 9])), set(&[1]), "the event came for 1");
        waits.enter(&set(&[1]), at(30), at(5));
        assert_eq!(waits.verify(), Ok(()), "one timer");
        assert_eq!(waits.take_due(at(10)), [(10, set(&[2]))], "the old timer of 1 is silent");
        assert_eq!(waits.take_due(at(30)), [(30, set(&[1]))], "the new one fires");
    }

    #[test]
    fn a_row_that_enters_while_it_waits_forgets_its_timer() {
        let mut waits = Waits::default();
        for due in [50, 40, 60, 30, 70, 20, 80] {
            waits.enter(&set(&[1]), at(due), at(0));
            waits.enter(&set(&[2]), at(100), at(0));
            assert_eq!((waits.len(), waits.verify()), (2, Ok(())), "one timer each");
        }
        assert_eq!(waits.take_due(at(79)), [], "six old timers are silent");
        assert_eq!(waits.take_due(at(200)), [(80, set(&[1])), (100, set(&[2]))], "the newest fire");
    }

    #[test]
    fn void_rows_do_not_pile_up() {
        let mut waits = Waits::default();
        waits.enter(&(0..10).collect(), at(90_000), at(0));
        for turn in 0..200 {
            let rows: RoaringBitmap = (1_000..1_400).collect();
            waits.enter(&rows, at(50_000 + turn), at(0));
            waits.remove(&rows);
            let entries: u64 = waits.generations.iter().flat_map(|g| g.buckets.counts()).map(|(_, rows)| rows).sum();
            assert!(entries < 4 * VOID_MIN, "{entries} entries for 10 rows");
        }
        assert_eq!(waits.verify(), Ok(()), "and the invariants hold");
        assert_eq!(waits.len(), 10, "ten wait");
    }

    #[test]
    fn longer_waits_are_rounded_to_what_keeps_a_round_time_of_day() {
        for (wait, second) in [
            (1, 1),
            (119, 119),
            (121, 130),
            (3_600, 3_600),
            (3_601, 3_660),
            (2 * DAY - 1, 2 * DAY),
            (2 * DAY + 1, 2 * DAY + 300),
            (14 * DAY, 14 * DAY),
            (14 * DAY + 1, 14 * DAY + 900),
            (31_215 * 60, 31_215 * 60), // 03:15 UTC, nine in the morning in Kathmandu.
        ] {
            assert_eq!(rounded(at(wait), at(0)), second, "{wait} seconds");
        }
        assert_eq!(rounded(Timestamp(i64::MAX), at(0)) % COARSE, 0, "never");
    }

    #[test]
    fn there_are_never_more_buckets_than_the_limit() {
        let mut waits = Waits::default();
        let max = i64::try_from(limits::WAIT_BUCKETS_MAX).expect("small");
        // Waits of more than a year fall into more quarters of an hour than there is room for.
        for i in 0..max + 5_000 {
            let due = 30 * DAY + i * COARSE;
            let second = waits.enter(&RoaringBitmap::from_iter([u32::try_from(i).expect("small")]), at(due), at(0));
            assert!((due..due + 2 * COARSE).contains(&second), "{due} became {second}");
            assert!(waits.buckets() <= limits::WAIT_BUCKETS_MAX, "bounded");
        }
        assert_eq!((waits.len(), waits.verify()), (u64::try_from(max + 5_000).expect("small"), Ok(())), "all wait");
        let taken: u64 = waits.take_due(Timestamp(i64::MAX)).iter().map(|(_, rows)| rows.len()).sum();
        assert_eq!(taken, u64::try_from(max + 5_000).expect("small"), "and all come due");
    }

    #[test]
    fn the_bound_of_the_roundings_is_below_the_limit_of_buckets() {
        let year = i64::from(limits::DELAY_DAYS_MAX) * DAY;
        let waits = (1..=3_600).chain((1..=year / 10).map(|tens| tens * 10));
        let seconds: std::collections::BTreeSet<i64> = waits.map(|wait| rounded(at(wait), at(0))).collect();
        assert_eq!(seconds.len(), 40_536, "as the limit says");
        assert!(seconds.len() < limits::WAIT_BUCKETS_MAX, "and there is room");
    }

    #[test]
    fn a_waiting_contact_costs_less_than_four_bytes() {
        let (count, arrivals) = (400_000u32, 60);
        let mut waits = Waits::default();
        for arrival in 0..arrivals {
            // Scattered over the base, as those are who pass a send within an hour.
            let mixed = |row: u32| row.wrapping_mul(2_654_435_761) >> 7;
            let rows: RoaringBitmap = (0..count).filter(|row| mixed(*row) % arrivals == arrival).collect();
            waits.enter(&rows, at(i64::from(arrival) * 60 + 5 * DAY), at(i64::from(arrival) * 60));
        }
        let bytes = waits.serialized_bytes() as u64;
        assert!(bytes < 4 * waits.len(), "{bytes} bytes for {} contacts", waits.len());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(Vec<u32>, i64),
        Remove(Vec<u32>),
        Pass(i64),
        Seal,
        Reload,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let rows = || proptest::collection::vec(0u32..40, 1..12);
        let step = prop_oneof![
            4 => (rows(), prop_oneof![0i64..50, 0i64..4_000, 0i64..2_000_000]).prop_map(|(rows, wait)| Step::Enter(rows, wait)),
            3 => rows().prop_map(Step::Remove),
            3 => prop_oneof![0i64..30, 0i64..1_000_000].prop_map(Step::Pass),
            1 => Just(Step::Seal),
            1 => Just(Step::Reload),
        ];
        proptest::collection::vec(step, 1..80)
    }

    proptest! {
        /// Beside a table of one timer per row.
        #[test]
        fn it_is_a_table_of_one_timer_per_row(steps in steps()) {
            let (mut waits, mut table, mut now) = (Waits::default(), BTreeMap::new(), 1_000i64);
            for step in steps {
                match step {
                    Step::Enter(rows, wait) => {
                        let second = waits.enter(&rows.iter().collect(), at(now + wait), at(now));
                        prop_assert!((0..COARSE).contains(&(second - now - wait)), "late by less than the rounding");
                        table.extend(rows.iter().map(|row| (*row, second)));
                    }
                    Step::Remove(rows) => {
                        let gone = waits.remove(&rows.iter().collect());
                        let expected: RoaringBitmap = rows.iter().filter(|r| table.remove(*r).is_some()).collect();
                        prop_assert_eq!(gone, expected, "those that waited");
                    }
                    Step::Pass(seconds) => {
                        now += seconds;
                        let mut expected: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
                        for (row, second) in table.extract_if(.., |_, second| *second <= now) {
                            expected.entry(second).or_default().insert(row);
                        }
                        let union = expected.values().fold(RoaringBitmap::new(), |all, rows| all | rows);
                        prop_assert_eq!(&waits.due(at(now)), &union, "looked at");
                        if seconds % 2 == 0 {
                            prop_assert_eq!(waits.take_due(at(now)), expected.into_iter().collect::<Vec<_>>(), "due");
                        } else {
                            waits.leave(&union);
                            prop_assert!(waits.due(at(now)).is_empty(), "all who were due have left");
                        }
                    }
                    Step::Seal => waits.generations.iter_mut().for_each(|g| g.buckets.seal_all()),
                    Step::Reload => {
                        let bytes = rmp_serde::to_vec(&waits).expect("writes");
                        let read: Waits = rmp_serde::from_slice(&bytes).expect("reads");
                        prop_assert_eq!(&read, &waits, "as written");
                        waits = read;
                    }
                }
                prop_assert_eq!(waits.verify(), Ok(()));
                prop_assert_eq!(waits.rows(), table.keys().collect::<RoaringBitmap>(), "who waits");
                let mut counts = BTreeMap::new();
                table.values().for_each(|second| *counts.entry(*second).or_insert(0) += 1);
                prop_assert_eq!(waits.schedule(), counts, "how many, when");
                prop_assert!(waits.next_due() <= table.values().min().copied() || table.is_empty(), "no later");
                prop_assert!(waits.generations.len() <= limits::WAIT_GENERATIONS_MAX, "bounded");
            }
        }
    }
}
