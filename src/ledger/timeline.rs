//! What happened in a run over time: a bounded row of buckets, each with the counts of its part of time.
//!
//! Owned by the run; a fold of facts. Invariants: TL-1 the sums over all buckets are the run's totals, and of the uniques the
//! sizes of its sets of people; TL-2 there are [`TIMELINE_BUCKETS_MAX`] buckets at most: when there would be more, all become
//! wider; TL-3 a width divides the next one and buckets begin at its multiples since the epoch, so that wider buckets are
//! sums of narrower ones.
//!
//! Must not know: deliveries, messages, who did it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::limits::TIMELINE_BUCKETS_MAX;

/// Seconds of a bucket: a second, ten, a minute, five, a quarter, an hour, six, a day, a week.
pub const WIDTHS: [u32; 9] = [1, 10, 60, 300, 900, 3_600, 21_600, 86_400, 604_800];

/// What one bucket counts. Uniques are contacts for whom it happened for the first time, people only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub accepted: u64,
    pub rejected: u64,
    pub opened: u64,
    pub clicked: u64,
    pub unsubscribed: u64,
    /// Opens and clicks by people, repeated ones included.
    pub opens: u64,
    pub clicks: u64,
    #[serde(default)]
    pub bounced: u64,
    #[serde(default)]
    pub complained: u64,
    #[serde(default)]
    pub converted: u64,
}

/// One of the counts of a [`Tally`].
pub type Field = fn(&mut Tally) -> &mut u64;

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        let Tally { accepted, rejected, opened, clicked, unsubscribed, opens, clicks, bounced, complained, converted } =
            other;
        self.accepted += accepted;
        self.rejected += rejected;
        self.opened += opened;
        self.clicked += clicked;
        self.unsubscribed += unsubscribed;
        self.opens += opens;
        self.clicks += clicks;
        self.bounced += bounced;
        self.complained += complained;
        self.converted += converted;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Place of the width in [`WIDTHS`].
    level: usize,
    /// By the number of the bucket since the epoch.
    buckets: BTreeMap<i64, Tally>,
}

impl Timeline {
    /// Seconds of a bucket.
    pub fn width(&self) -> u32 {
        WIDTHS.get(self.level).or(WIDTHS.last()).copied().unwrap_or(1)
    }

    fn place(&self, at: Timestamp) -> i64 {
        at.0.div_euclid(1_000).div_euclid(i64::from(self.width()))
    }

    /// Adds to one count of the moment; a negative number takes back what the same moment, or one before it, had too much.
    pub fn count(&mut self, at: Timestamp, field: Field, more: i64) {
        if more == 0 {
            return;
        }
        let here = self.place(at);
        if let Ok(more) = u64::try_from(more) {
            *field(self.buckets.entry(here).or_default()) += more;
            while self.buckets.len() > TIMELINE_BUCKETS_MAX && self.level + 1 < WIDTHS.len() {
                self.widen();
            }
            return;
        }
        let mut over = more.unsigned_abs();
        for (_, tally) in self.buckets.range_mut(..=here).rev() {
            let count = field(tally);
            let taken = over.min(*count);
            *count -= taken;
            over -= taken;
            if over == 0 {
                return;
            }
        }
    }

    fn widen(&mut self) {
        let before = i64::from(self.width());
        self.level += 1;
        let each = i64::from(self.width()) / before;
        let mut wider: BTreeMap<i64, Tally> = BTreeMap::new();
        for (place, tally) in std::mem::take(&mut self.buckets) {
            wider.entry(place.div_euclid(each)).or_default().add(&tally);
        }
        self.buckets = wider;
    }

    /// Start and counts of each bucket in which something happened, in order; `width` is made that of the timeline if it is
    /// narrower, or no whole number of its buckets.
    pub fn buckets(&self, width: u32) -> (u32, Vec<(Timestamp, Tally)>) {
        let own = self.width();
        let each = i64::from(if width < own || !width.is_multiple_of(own) { 1 } else { width / own });
        let width = own.saturating_mul(u32::try_from(each).unwrap_or(1));
        let mut sums: BTreeMap<i64, Tally> = BTreeMap::new();
        for (place, tally) in &self.buckets {
            sums.entry(place.div_euclid(each)).or_default().add(tally);
        }
        let start = |place: i64| Timestamp(place.saturating_mul(i64::from(width)).saturating_mul(1_000));
        (width, sums.into_iter().map(|(place, tally)| (start(place), tally)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn widths_divide_each_other() {
        for pair in WIDTHS.windows(2) {
            assert_eq!(pair[1] % pair[0], 0, "{pair:?}");
        }
    }

    #[test]
    fn buckets_start_at_multiples_and_can_be_summed() {
        let mut timeline = Timeline::default();
        let noon = 1_795_000_000_000 - 1_795_000_000_000 % 60_000;
        for second in [0, 1, 1, 59, 60] {
            timeline.count(Timestamp(noon + second * 1_000 + 250), |t| &mut t.clicked, 1);
        }
        let (width, each) = timeline.buckets(0);
        assert_eq!((width, each.len()), (1, 4), "a second each");
        assert_eq!(each[1], (Timestamp(noon + 1_000), Tally { clicked: 2, ..Tally::default() }), "the second one");
        let (width, minutes) = timeline.buckets(60);
        let counts: Vec<u64> = minutes.iter().map(|(_, tally)| tally.clicked).collect();
        assert_eq!((width, counts), (60, vec![4, 1]), "minutes");
        assert_eq!(minutes[0].0, Timestamp(noon), "from the full minute");
    }

    #[test]
    fn what_was_counted_too_much_is_taken_back() {
        let mut timeline = Timeline::default();
        timeline.count(Timestamp(1_000), |t| &mut t.opened, 2);
        timeline.count(Timestamp(2_000), |t| &mut t.opened, 1);
        timeline.count(Timestamp(2_500), |t| &mut t.opened, -2);
        let opened: u64 = timeline.buckets(0).1.iter().map(|(_, tally)| tally.opened).sum();
        assert_eq!(opened, 1, "over two buckets");
    }

    proptest! {
        #[test]
        fn sums_stay_whatever_the_widths(times in proptest::collection::vec(0i64..40_000_000_000, 1..2_000)) {
            let mut timeline = Timeline::default();
            for at in &times {
                timeline.count(Timestamp(*at), |t| &mut t.accepted, 1);
            }
            prop_assert!(timeline.buckets.len() <= TIMELINE_BUCKETS_MAX, "bounded");
            for width in [0, 60, 86_400, 604_800] {
                let (got, buckets) = timeline.buckets(width);
                prop_assert_eq!(buckets.iter().map(|(_, t)| t.accepted).sum::<u64>(), times.len() as u64, "the sum");
                prop_assert!(buckets.iter().all(|(at, _)| at.0 % (i64::from(got) * 1_000) == 0), "at multiples");
                prop_assert!(buckets.is_sorted_by_key(|(at, _)| at.0), "in order");
            }
        }
    }
}
