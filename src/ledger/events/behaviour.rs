//! What contacts of the base did: per type of event how often and on which day last, as sets.
//!
//! Owned by the state; what segments on behaviour read. Of the newest days it is kept how often on each. A count is bit-sliced (`counts[k]`: contacts whose count has bit k), the last
//! day is a bucket. Invariants: BH-1 a contact is in at most one day's bucket of a type, that of its newest event; BH-2
//! `limits::EVENT_TYPES_MAX` types, beyond them new ones are refused before they get here; BH-3 at most
//! `limits::BEHAVIOUR_DAYS_MAX` days of a type: beyond that the two oldest are one, on the older of their days; BH-4 counts stop at
//! `2^BEHAVIOUR_COUNT_BITS - 1`; BH-5 of the newest `limits::HISTORY_DAYS_MAX` days it is kept who did it how often, up to
//! `limits::BEHAVIOUR_TIMES_MAX` times a day; an event of an older day counts in all else.
//!
//! Must not know: what a type means, runs, the wall clock.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::count_again;
use crate::limits::{BEHAVIOUR_COUNT_BITS, BEHAVIOUR_DAYS_MAX, BEHAVIOUR_TIMES_MAX, EVENT_TYPES_MAX, HISTORY_DAYS_MAX};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    types: BTreeMap<String, TypeMemory>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TypeMemory {
    /// Events, repetitions included.
    total: u64,
    counts: Vec<RoaringBitmap>,
    /// By day since the epoch: contacts whose last event was then.
    last: BTreeMap<i32, RoaringBitmap>,
    /// By day: the k-th set holds who did it more than k times on it.
    #[serde(default)]
    often: BTreeMap<i32, Vec<RoaringBitmap>>,
}

impl Behaviour {
    /// Whether one more type can be remembered beside these and `more`.
    pub fn has_room_for_more(&self, more: usize) -> bool {
        self.types.len() + more < EVENT_TYPES_MAX
    }

    /// Each of `rows` did it once more on `day`.
    pub fn add(&mut self, name: &str, day: i32, rows: &RoaringBitmap) {
        if rows.is_empty() {
            return;
        }
        self.types.entry(name.to_owned()).or_default().add(day, rows);
    }

    pub fn get(&self, name: &str) -> Option<&TypeMemory> {
        self.types.get(name)
    }

    /// In the order of names.
    pub fn types(&self) -> impl Iterator<Item = (&str, &TypeMemory)> {
        self.types.iter().map(|(name, memory)| (name.as_str(), memory))
    }

    /// Types that anybody did last before `day`.
    pub fn reaching_before(&self, day: i32) -> Vec<String> {
        let reaching = self.types.iter().filter(|(_, memory)| memory.last.range(..day).next().is_some());
        reaching.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets whose last event of a type was before `day`; who it was. Of the others nothing is forgotten.
    pub fn forget_before(&mut self, name: &str, day: i32) -> RoaringBitmap {
        let Some(memory) = self.types.get_mut(name) else { return RoaringBitmap::new() };
        let kept = memory.last.split_off(&day);
        let gone =
            std::mem::replace(&mut memory.last, kept).into_values().fold(RoaringBitmap::new(), |all, rows| all | rows);
        memory.forget(&gone);
        gone
    }

    pub fn erase(&mut self, rows: &RoaringBitmap) {
        self.types.values_mut().for_each(|memory| memory.erase(rows));
    }
}

impl TypeMemory {
    fn erase(&mut self, rows: &RoaringBitmap) {
        self.forget(rows);
        self.last.retain(|_, bucket| {
            *bucket -= rows;
            !bucket.is_empty()
        });
    }

    /// How often they did it, and on which days; not that they did.
    fn forget(&mut self, rows: &RoaringBitmap) {
        for slice in &mut self.counts {
            *slice -= rows;
        }
        self.often.retain(|_, levels| {
            levels.iter_mut().for_each(|level| *level -= rows);
            levels.retain(|level| !level.is_empty());
            !levels.is_empty()
        });
    }

    fn add(&mut self, day: i32, rows: &RoaringBitmap) {
        self.total = self.total.saturating_add(rows.len());
        self.count(rows);
        self.note_day(day, rows);
        let mut new = rows.clone();
        for (_, later) in self.last.range(day..) {
            new -= later;
        }
        for (_, earlier) in self.last.range_mut(..day) {
            *earlier -= &new;
        }
        *self.last.entry(day).or_default() |= new;
        self.last.retain(|_, bucket| !bucket.is_empty());
        while self.last.len() > BEHAVIOUR_DAYS_MAX {
            let Some((oldest, mut merged)) = self.last.pop_first() else { break };
            if let Some((_, next)) = self.last.pop_first() {
                merged |= next;
            }
            self.last.insert(oldest, merged);
        }
    }

    fn note_day(&mut self, day: i32, rows: &RoaringBitmap) {
        let newest = self.often.last_key_value().map_or(day, |(newest, _)| (*newest).max(day));
        let oldest = newest.saturating_sub(HISTORY_DAYS_MAX as i32 - 1);
        if day >= oldest {
            count_again(self.often.entry(day).or_default(), rows, BEHAVIOUR_TIMES_MAX as usize);
            self.often = self.often.split_off(&oldest);
        }
    }

    fn count(&mut self, rows: &RoaringBitmap) {
        let mut carry = rows.clone();
        for slice in &mut self.counts {
            let next = &carry & &*slice;
            *slice ^= &carry;
            carry = next;
        }
        if self.counts.len() < BEHAVIOUR_COUNT_BITS && !carry.is_empty() {
            self.counts.push(carry);
        } else {
            // It stops at the most that can be counted instead of beginning again.
            self.counts.iter_mut().for_each(|slice| *slice |= &carry);
        }
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// Contacts that did it at least once.
    pub fn contacts(&self) -> RoaringBitmap {
        self.last.values().fold(RoaringBitmap::new(), |all, rows| all | rows)
    }

    /// Contacts that did it on `day` or later.
    pub fn since(&self, day: i32) -> RoaringBitmap {
        self.last.range(day..).fold(RoaringBitmap::new(), |all, (_, rows)| all | rows)
    }

    /// Contacts that did it at least so often from one day to another, both included.
    pub fn often_between(&self, least: u32, first: i32, last: i32) -> RoaringBitmap {
        let least = usize::try_from(least.max(1)).unwrap_or(usize::MAX);
        let mut levels = Vec::new();
        for (_, of_day) in self.often.range(first..=last.max(first)) {
            of_day.iter().for_each(|rows| count_again(&mut levels, rows, least));
        }
        levels.into_iter().nth(least - 1).unwrap_or_default()
    }

    /// Contacts that did it at least so often.
    pub fn at_least(&self, least: u32) -> RoaringBitmap {
        if least == 0 || u64::from(least) >= 1 << BEHAVIOUR_COUNT_BITS {
            return if least == 0 { self.contacts() } else { RoaringBitmap::new() };
        }
        // From the highest bit down: equal so far, and greater.
        let (mut equal, mut greater) = (self.contacts(), RoaringBitmap::new());
        for bit in (0..BEHAVIOUR_COUNT_BITS).rev() {
            let none = RoaringBitmap::new();
            let slice = self.counts.get(bit).unwrap_or(&none);
            if least >> bit & 1 == 1 {
                equal &= slice;
            } else {
                greater |= &equal & slice;
                equal -= slice;
            }
        }
        equal | greater
    }

    pub fn count_of(&self, row: u32) -> u32 {
        self.counts.iter().enumerate().filter(|(_, slice)| slice.contains(row)).map(|(bit, _)| 1 << bit).sum()
    }

    /// Day of a contact's last event.
    pub fn last_day_of(&self, row: u32) -> Option<i32> {
        self.last.iter().rev().find(|(_, rows)| rows.contains(row)).map(|(day, _)| *day)
    }

    /// Day of anybody's last event.
    pub fn last_day(&self) -> Option<i32> {
        self.last.last_key_value().map(|(day, _)| *day)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::EVENT_DAYS_MAX;

    proptest! {
        #[test]
        fn counts_and_last_days_are_those_of_asking_each_contact(
            events in prop::collection::vec((0i32..30, 0u32..12), 0..200), least in 0u32..20, since in 0i32..30,
        ) {
            let mut memory = TypeMemory::default();
            for (day, row) in &events {
                memory.add(*day, &RoaringBitmap::from_iter([*row]));
            }
            let of = |row: u32| events.iter().filter(move |(_, r)| *r == row).map(|(day, _)| *day);
            for row in 0..12 {
                let count = of(row).count() as u32;
                prop_assert_eq!(memory.count_of(row), count, "count of {}", row);
                prop_assert_eq!(memory.last_day_of(row), of(row).max(), "last day of {}", row);
                let known = count > 0;
                prop_assert_eq!(memory.at_least(least).contains(row), known && count >= least, "at least {}", least);
                prop_assert_eq!(memory.since(since).contains(row), of(row).any(|day| day >= since), "since {}", since);
            }
            prop_assert_eq!(memory.total(), events.len() as u64);
        }
    }

    #[test]
    fn counts_stop_and_days_merge_at_their_bounds() {
        let mut memory = TypeMemory::default();
        let one = RoaringBitmap::from_iter([1]);
        memory.counts = vec![one.clone(); BEHAVIOUR_COUNT_BITS];
        memory.add(0, &one);
        assert_eq!(memory.count_of(1), (1 << BEHAVIOUR_COUNT_BITS) - 1, "the most");
        for day in 0..(BEHAVIOUR_DAYS_MAX as i32 + 50) {
            memory.add(day, &RoaringBitmap::from_iter([100 + day as u32]));
        }
        assert_eq!(memory.last.len(), BEHAVIOUR_DAYS_MAX, "days");
        assert_eq!(memory.contacts().len(), BEHAVIOUR_DAYS_MAX as u64 + 51, "nobody is lost");
    }

    #[test]
    fn who_did_it_before_a_day_and_not_since_is_forgotten() {
        let mut behaviour = Behaviour::default();
        for (name, day, row) in [("cart", 1, 1), ("cart", 5, 1), ("cart", 2, 2), ("cart", 2, 2), ("login", 9, 2)] {
            behaviour.add(name, day, &RoaringBitmap::from_iter([row]));
        }
        assert!(behaviour.reaching_before(2).is_empty(), "the second's last is of day 2");
        assert_eq!(behaviour.reaching_before(3), ["cart"], "and of no other type");
        assert_eq!(behaviour.forget_before("cart", 3), RoaringBitmap::from_iter([2]), "who");
        assert!(behaviour.reaching_before(5).is_empty() && behaviour.forget_before("cart", 3).is_empty(), "once");
        let cart = behaviour.get("cart").expect("still a type");
        assert_eq!((cart.count_of(1), cart.last_day_of(1)), (2, Some(5)), "who did it since is known as before");
        assert_eq!((cart.count_of(2), cart.last_day_of(2), cart.total()), (0, None, 4), "a figure is nobody");
        let first = RoaringBitmap::from_iter([1]);
        assert_eq!(cart.often_between(1, 0, 2), first, "with the days before");
        assert_eq!(cart.often_between(2, 0, 9), first, "and all of them together");
        assert_eq!(behaviour.get("login").map(|login| login.count_of(2)), Some(1), "of another type");
    }

    #[test]
    fn nobody_goes_early_at_the_longest_retention() {
        let (mut behaviour, kept) = (Behaviour::default(), EVENT_DAYS_MAX as i32);
        behaviour.add("cart", -40, &RoaringBitmap::from_iter([9_999]));
        for today in 0..2 * kept {
            behaviour.forget_before("cart", today - kept);
            behaviour.add("cart", today + 1, &RoaringBitmap::from_iter([today as u32]));
            behaviour.add("cart", today - kept - 30, &RoaringBitmap::from_iter([10_000]));
            let known = behaviour.get("cart").expect("a type").contacts();
            let expected = ((today - kept - 1).max(0) as u32)..=(today as u32);
            assert_eq!(
                known.range_cardinality(expected.clone()),
                u64::from(*expected.end() - *expected.start() + 1),
                "{today}"
            );
        }
    }

    #[test]
    fn types_have_a_bound() {
        let mut behaviour = Behaviour::default();
        for number in 0..EVENT_TYPES_MAX {
            behaviour.add(&format!("t{number}"), 1, &RoaringBitmap::from_iter([1]));
        }
        assert!(!behaviour.has_room_for_more(0) && behaviour.get("t3").is_some(), "known ones go on");
        behaviour.erase(&RoaringBitmap::from_iter([1]));
        assert!(behaviour.types().all(|(_, memory)| memory.contacts().is_empty() && memory.count_of(1) == 0), "erased");
    }
}
