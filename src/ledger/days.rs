//! Who was written to, and who opened or clicked, on which day: what "in the last N days" and frequency caps ask.
//!
//! Part of the folded state: a set per channel, UTC day and kind of event, over contacts of the base. What was handed over is
//! *received* once it is accepted, and *unconfirmed* while it is unknown; how often on one day is kept as a stack of sets,
//! the k-th of which holds who had more than k.
//!
//! A day is a UTC day, and "the last N days" are today and the N − 1 before it. So a weekly campaign with a pause of seven
//! days reaches its audience each week at the same hour, which a window of 7 × 24 hours, or one day more, would not allow.
//!
//! Invariants: DY-1 a hand-over that counts is in exactly one stack of one day; DY-2 a channel keeps `HISTORY_DAYS_MAX` days at
//! most, the oldest goes first, and a day counts `CAP_MESSAGES_MAX` a contact at most; DY-3 sets are shared, not copied, with
//! who looks at them.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::ids::Channel;
use crate::limits::{CAP_MESSAGES_MAX, HISTORY_DAYS_MAX};
use crate::segments::history::Event;

/// Rows that a reader may hold on to while they change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SharedRows(Arc<RoaringBitmap>);

impl SharedRows {
    fn change(&mut self) -> &mut RoaringBitmap {
        Arc::make_mut(&mut self.0)
    }
}

impl Serialize for SharedRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SharedRows, D::Error> {
        RoaringBitmap::deserialize(deserializer).map(|rows| SharedRows(Arc::new(rows)))
    }
}

/// How often: `0[k]` are the rows that had more than k. No set is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counted(Vec<SharedRows>);

impl Counted {
    /// One more for each row.
    fn add(&mut self, rows: &RoaringBitmap) {
        let mut carry = rows.clone();
        for level in &mut self.0 {
            if carry.is_empty() {
                return;
            }
            let again = &carry & &*level.0;
            *level.change() |= &carry;
            carry = again;
        }
        if !carry.is_empty() && self.0.len() < CAP_MESSAGES_MAX as usize {
            self.0.push(SharedRows(Arc::new(carry)));
        }
    }

    /// One less for each row that has one; answers those rows.
    fn take(&mut self, rows: &RoaringBitmap) -> RoaringBitmap {
        let mut left = rows.clone();
        for level in self.0.iter_mut().rev() {
            let here = &left & &*level.0;
            if !here.is_empty() {
                *level.change() -= &here;
                left -= here;
            }
        }
        self.tidy();
        rows - left
    }

    fn erase(&mut self, rows: &RoaringBitmap) {
        self.0.iter_mut().filter(|level| !level.0.is_disjoint(rows)).for_each(|level| *level.change() -= rows);
        self.tidy();
    }

    fn tidy(&mut self) {
        self.0.retain(|level| !level.0.is_empty());
    }
}

/// What happened on one day of one channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Day {
    received: Counted,
    unconfirmed: Counted,
    opened: SharedRows,
    clicked: SharedRows,
}

impl Day {
    fn engaged(&mut self, clicked: bool) -> &mut SharedRows {
        if clicked { &mut self.clicked } else { &mut self.opened }
    }
}

/// See the module's docs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContactDays {
    /// By channel and day since the epoch.
    channels: BTreeMap<Channel, BTreeMap<i64, Day>>,
}

/// The UTC day of an instant, counted from the epoch.
pub fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(86_400_000)
}

impl ContactDays {
    fn day(&mut self, channel: Channel, at: Timestamp) -> &mut Day {
        let (days, day) = (self.channels.entry(channel).or_default(), day_of(at));
        while days.len() >= HISTORY_DAYS_MAX as usize && !days.contains_key(&day) {
            days.pop_first();
        }
        days.entry(day).or_default()
    }

    /// Messages were accepted.
    pub(super) fn received(&mut self, channel: Channel, at: Timestamp, rows: &RoaringBitmap) {
        if !rows.is_empty() {
            self.day(channel, at).received.add(rows);
        }
    }

    /// [`ContactDays::received`], for benches.
    #[doc(hidden)]
    pub fn put(&mut self, channel: Channel, at: Timestamp, rows: &RoaringBitmap) {
        self.received(channel, at, rows);
    }

    /// Messages were handed over and not answered: they may have arrived, and count as if they had.
    pub(super) fn unconfirmed(&mut self, channel: Channel, at: Timestamp, rows: &RoaringBitmap) {
        if !rows.is_empty() {
            self.day(channel, at).unconfirmed.add(rows);
        }
    }

    /// Unknown messages were settled: they count as received on their day, or not at all, as they are sent again.
    pub(super) fn settled(&mut self, channel: Channel, rows: &RoaringBitmap, received: bool) {
        let mut left = rows.clone();
        for day in self.channels.entry(channel).or_default().values_mut().rev() {
            if left.is_empty() {
                return;
            }
            let found = day.unconfirmed.take(&left);
            if received && !found.is_empty() {
                day.received.add(&found);
            }
            left -= found;
        }
    }

    /// People opened or clicked.
    pub(super) fn engaged(&mut self, channel: Channel, clicked: bool, at: Timestamp, rows: &RoaringBitmap) {
        if !rows.is_empty() {
            *self.day(channel, at).engaged(clicked).change() |= rows;
        }
    }

    /// What looked like people were machines: they leave the day, whatever else they opened or clicked on it.
    pub(super) fn retracted(&mut self, channel: Channel, clicked: bool, at: Timestamp, rows: &RoaringBitmap) {
        let day = self.channels.get_mut(&channel).and_then(|days| days.get_mut(&day_of(at)));
        if let Some(day) = day.filter(|_| !rows.is_empty()) {
            *day.engaged(clicked).change() -= rows;
        }
    }

    pub(super) fn erase(&mut self, rows: &RoaringBitmap) {
        for day in self.channels.values_mut().flat_map(BTreeMap::values_mut) {
            day.received.erase(rows);
            day.unconfirmed.erase(rows);
            for clicked in [false, true] {
                let set = day.engaged(clicked);
                if !set.0.is_disjoint(rows) {
                    *set.change() -= rows;
                }
            }
        }
    }

    /// Stores the sets as runs of rows where that is shorter.
    pub(super) fn compact(&mut self) {
        for day in self.channels.values_mut().flat_map(BTreeMap::values_mut) {
            let counted = day.received.0.iter_mut().chain(&mut day.unconfirmed.0);
            counted.chain([&mut day.opened, &mut day.clicked]).for_each(|rows| {
                rows.change().optimize();
            });
        }
    }

    fn days(&self, channel: Option<Channel>, now: Timestamp, days: u32) -> impl Iterator<Item = &Day> {
        let today = day_of(now);
        let first = today.saturating_sub(i64::from(days)).saturating_add(1);
        let channels = self.channels.iter().filter(move |(found, _)| channel.is_none_or(|wanted| wanted == **found));
        channels.flat_map(move |(_, kept)| kept.range(first..=today.max(first))).map(|(_, day)| day)
    }

    /// Sets whose union are the rows with an event on any of the last `days` days. Only events that have days are kept by day.
    pub fn sets(&self, event: Event, channel: Option<Channel>, now: Timestamp, days: u32) -> Vec<Arc<RoaringBitmap>> {
        let of = |day: &Day| match event {
            Event::Received => day.received.0.first().map(|rows| Arc::clone(&rows.0)),
            Event::Opened => Some(Arc::clone(&day.opened.0)),
            Event::Clicked => Some(Arc::clone(&day.clicked.0)),
            _ => None,
        };
        self.days(channel, now, days).filter_map(of).filter(|rows| !rows.is_empty()).collect()
    }

    /// Sets whose union was written to on any of the last `days` days, unconfirmed messages included.
    pub fn contacted(&self, channel: Option<Channel>, now: Timestamp, days: u32) -> Vec<Arc<RoaringBitmap>> {
        let of = |day: &Day| [day.received.0.first().cloned(), day.unconfirmed.0.first().cloned()];
        self.days(channel, now, days).flat_map(of).flatten().map(|rows| rows.0).collect()
    }

    /// Every hand-over of the last `days` days: a row is in as many of the sets as it had messages.
    pub fn counted(&self, channel: Channel, now: Timestamp, days: u32) -> Vec<Arc<RoaringBitmap>> {
        let of = |day: &Day| day.received.0.iter().chain(&day.unconfirmed.0).cloned().collect::<Vec<_>>();
        self.days(Some(channel), now, days).flat_map(of).map(|rows| rows.0).collect()
    }

    /// Days that are kept, and the bytes of their sets as they are written.
    pub fn size(&self) -> (usize, usize) {
        let bytes = |day: &Day| -> usize {
            let counted = day.received.0.iter().chain(&day.unconfirmed.0);
            counted.chain([&day.opened, &day.clicked]).map(|rows| rows.0.serialized_size()).sum()
        };
        let days = self.channels.values().flat_map(BTreeMap::values);
        days.fold((0, 0), |(count, sum), day| (count + 1, sum + bytes(day)))
    }
}

/// Rows of `among` that are in `max` of the sets, or more.
pub fn in_at_least<'s>(
    sets: impl Iterator<Item = &'s RoaringBitmap>,
    among: &RoaringBitmap,
    max: u32,
) -> RoaringBitmap {
    let mut levels: Vec<RoaringBitmap> = vec![RoaringBitmap::new(); max as usize];
    for set in sets {
        let mut carry = among & set;
        for level in &mut levels {
            if carry.is_empty() {
                break;
            }
            let again = &carry & &*level;
            *level |= &carry;
            carry = again;
        }
    }
    levels.pop().unwrap_or_else(|| among.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;

    fn rows<const N: usize>(rows: [u32; N]) -> RoaringBitmap {
        RoaringBitmap::from_iter(rows)
    }

    fn union(sets: &[Arc<RoaringBitmap>]) -> RoaringBitmap {
        sets.iter().fold(RoaringBitmap::new(), |all, set| all | &**set)
    }

    fn at(day: i64) -> Timestamp {
        Timestamp(day * DAY + 5)
    }

    #[test]
    fn the_last_days_are_today_and_those_before_it() {
        let mut days = ContactDays::default();
        days.received(Channel::Email, at(10), &rows([1]));
        days.received(Channel::Email, at(16), &rows([2]));
        days.received(Channel::Sms, at(17), &rows([3]));
        let found = |days: &ContactDays, channel, day, last| union(&days.sets(Event::Received, channel, at(day), last));
        assert_eq!(found(&days, None, 17, 7), rows([2, 3]), "the 11th to the 17th");
        assert_eq!(found(&days, None, 16, 7), rows([1, 2]), "the 10th to the 16th; tomorrow is not seen");
        assert_eq!(found(&days, Some(Channel::Email), 17, 7), rows([2]), "of one channel");
        assert_eq!(found(&days, None, 17, 1), rows([3]), "one day is today");
        days.erase(&rows([3]));
        assert_eq!(found(&days, None, 17, 1), rows([]), "the erased are forgotten");
    }

    #[test]
    fn an_unknown_message_counts_until_it_is_settled() {
        let mut days = ContactDays::default();
        days.unconfirmed(Channel::Email, at(3), &rows([1, 2, 3]));
        let counted = |days: &ContactDays| union(&days.counted(Channel::Email, at(4), 2));
        assert_eq!(counted(&days), rows([1, 2, 3]), "they may have arrived");
        assert!(days.sets(Event::Received, None, at(4), 2).is_empty(), "nobody says that they did");
        days.settled(Channel::Email, &rows([1]), true);
        days.settled(Channel::Email, &rows([2]), false);
        assert_eq!(counted(&days), rows([1, 3]), "who is sent to again counts then");
        assert_eq!(union(&days.sets(Event::Received, None, at(3), 1)), rows([1]), "on its own day");
    }

    #[test]
    fn days_are_bounded_and_a_day_in_the_future_costs_one() {
        let mut days = ContactDays::default();
        days.received(Channel::Email, at(1_000_000), &rows([9]));
        for day in 0..2 * i64::from(HISTORY_DAYS_MAX) {
            days.received(Channel::Email, at(day), &rows([1]));
        }
        assert_eq!(days.size().0, HISTORY_DAYS_MAX as usize, "so many days at most");
        let last = at(2 * i64::from(HISTORY_DAYS_MAX) - 1);
        let found = days.sets(Event::Received, None, last, HISTORY_DAYS_MAX);
        assert_eq!(found.len(), HISTORY_DAYS_MAX as usize - 1, "and the newest of them");
        assert_eq!(union(&found), rows([1]), "not what a wrong clock put into the future");
    }

    #[test]
    fn a_day_costs_a_bit_a_contact_and_kind_at_most() {
        const PEOPLE: u32 = 65_536;
        let mut days = ContactDays::default();
        for day in 0..HISTORY_DAYS_MAX {
            let some = |one_in: u32, salt: u32| -> RoaringBitmap {
                let picks = |row: &u32| (row ^ (day << 17) ^ salt).wrapping_mul(2_654_435_761).is_multiple_of(one_in);
                (0..PEOPLE).filter(picks).collect()
            };
            days.received(Channel::Email, at(i64::from(day)), &some(3, 1));
            days.engaged(Channel::Email, false, at(i64::from(day)), &some(17, 2));
        }
        let (kept, bytes) = days.size();
        let most = kept * 2 * (PEOPLE as usize / 8 + 64);
        assert_eq!(kept, HISTORY_DAYS_MAX as usize, "all days");
        assert!(bytes <= most, "{bytes} bytes, at most {most}");
    }

    #[test]
    fn machines_leave_the_day_on_which_they_looked_like_people() {
        let mut days = ContactDays::default();
        days.engaged(Channel::Email, true, at(5), &rows([1, 2]));
        days.retracted(Channel::Email, true, at(5), &rows([2]));
        assert_eq!(union(&days.sets(Event::Clicked, None, at(5), 1)), rows([1]), "a person is left");
        assert!(days.sets(Event::Opened, None, at(5), 1).is_empty(), "a click is no open here");
    }

    proptest! {
        #[test]
        fn counts_are_those_of_each_row(
            events in prop::collection::vec((0i64..6, prop::collection::btree_set(0u32..12, 0..6), any::<bool>()), 0..40),
            max in 1u32..5, last in 1u32..8,
        ) {
            let mut days = ContactDays::default();
            let mut truth: Vec<(i64, u32)> = Vec::new();
            for (day, who, unknown) in events {
                let set: RoaringBitmap = who.iter().copied().collect();
                if unknown { days.unconfirmed(Channel::Email, at(day), &set) } else { days.received(Channel::Email, at(day), &set) }
                truth.extend(who.into_iter().map(|row| (day, row)));
            }
            let among: RoaringBitmap = (0..12).collect();
            let sets = days.counted(Channel::Email, at(5), last);
            let found = in_at_least(sets.iter().map(|set| &**set), &among, max);
            let count = |row| truth.iter().filter(|(day, r)| *r == row && *day > 5 - i64::from(last)).count();
            let expected: RoaringBitmap = (0..12).filter(|row| count(*row) >= max as usize).collect();
            prop_assert_eq!(found, expected);
            let text = rmp_serde::to_vec(&days).expect("bytes");
            prop_assert_eq!(rmp_serde::from_slice::<ContactDays>(&text).expect("reads"), days);
        }
    }
}
