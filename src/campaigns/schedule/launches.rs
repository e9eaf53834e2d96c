//! What a schedule starts: the next launch, a calendar, and what is too late.
//!
//! Owns no state. Invariants:
//! 1. Launches are in the order of their instants, and no two share one.
//! 2. A launch by each contact's own clocks is planned at its first instant anywhere: when it is that time 14 hours
//!    east of Greenwich, the easternmost offset in use. It is over 26 hours later, 12 hours west.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::recurrence::Recurrence;
use crate::clock::Timestamp;
use crate::flow::delay::civil::{instant, local};
use crate::flow::delay::{ZoneSet, by_zone};
use crate::limits;

/// Hours east of Greenwich where a time of day comes first, and where it comes last.
const EASTERNMOST: i8 = 14;
const WESTERNMOST: i8 = -12;

/// Whose clocks a schedule goes by.
#[derive(Clone, Debug, PartialEq)]
pub enum LaunchZone {
    /// The same instant for all.
    Named(TimeZone),
    /// Each contact's own.
    Contact,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// When it is published.
    Now,
    /// In order; one at least.
    Dates(Vec<Launch>),
    Recurring {
        recurrence: Recurrence,
        zone: LaunchZone,
        /// No launch is planned after it.
        until: Option<Timestamp>,
    },
}

/// When a campaign starts, and how late it still may.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub start: Start,
    /// A launch that could not be made for longer than this is not made at all.
    pub too_late_after: Option<Duration>,
}

/// One planned start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Launch {
    /// When it is planned; the first instant anywhere if it goes by each contact's own clocks.
    pub at: Timestamp,
    /// The time of day for each contact, unless the instant is the same for all.
    pub local: Option<DateTime>,
}

/// Part of what a schedule plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    pub launches: Vec<Launch>,
    /// Whether there are more before the end that was asked for.
    pub more: bool,
}

fn hours_east(hours: i8) -> TimeZone {
    TimeZone::fixed(Offset::constant(hours))
}

impl Launch {
    pub fn at(at: Timestamp) -> Launch {
        Launch { at, local: None }
    }

    /// By each contact's own clocks.
    pub fn local(local: DateTime) -> Launch {
        Launch { at: instant(local, &hours_east(EASTERNMOST)), local: Some(local) }
    }

    /// When the last contact can be due.
    pub fn last(&self) -> Timestamp {
        self.local.map_or(self.at, |local| instant(local, &hours_east(WESTERNMOST)))
    }

    /// Which rows start when: all at once, or each by its own clocks.
    pub fn starts(
        &self,
        rows: &RoaringBitmap,
        zones: &[ZoneSet],
        default: &TimeZone,
    ) -> BTreeMap<Timestamp, RoaringBitmap> {
        match self.local {
            Some(local) => by_zone(rows, zones, default, |zone| instant(local, zone)),
            None if rows.is_empty() => BTreeMap::new(),
            None => BTreeMap::from([(self.at, rows.clone())]),
        }
    }
}

impl Schedule {
    /// The first launch that is planned after `after`; none of [`Start::Now`], which is not planned.
    pub fn next_after(&self, after: Timestamp) -> Option<Launch> {
        match &self.start {
            Start::Now => None,
            Start::Dates(launches) => launches.iter().find(|launch| launch.at > after).copied(),
            Start::Recurring { recurrence, zone, until } => {
                let pattern = recurrence.pattern();
                let next = match zone {
                    LaunchZone::Named(zone) => pattern.next_after(after, zone).map(Launch::at),
                    LaunchZone::Contact => {
                        pattern.next_local_after(local(after, &hours_east(EASTERNMOST))).map(Launch::local)
                    }
                };
                next.filter(|launch| until.is_none_or(|until| launch.at <= until))
            }
        }
    }

    /// What is planned from `from` on and before `to`: `max` launches at most, and never more than
    /// [`CALENDAR_LAUNCHES_MAX`](limits::CALENDAR_LAUNCHES_MAX).
    pub fn calendar(&self, from: Timestamp, to: Timestamp, max: usize) -> Calendar {
        let max = max.min(limits::CALENDAR_LAUNCHES_MAX);
        let mut calendar = Calendar::default();
        let mut after = Timestamp(from.0.saturating_sub(1));
        while let Some(launch) = self.next_after(after).filter(|launch| launch.at < to) {
            if calendar.launches.len() == max {
                calendar.more = true;
                break;
            }
            after = launch.at;
            calendar.launches.push(launch);
        }
        calendar
    }

    /// Whether a launch is not made any more: nobody's time of it is near enough.
    pub fn is_too_late(&self, launch: &Launch, now: Timestamp) -> bool {
        self.too_late_after.is_some_and(|limit| is_too_late(launch.last(), now, limit))
    }

    /// The first launch of a publication at `now`: one by each contact's clocks may have begun in the east.
    pub fn first(&self, now: Timestamp) -> Option<Launch> {
        match &self.start {
            Start::Dates(launches) => launches.iter().find(|launch| launch.last() > now).copied(),
            Start::Now | Start::Recurring { .. } => self.next_after(now),
        }
    }

    pub fn recurs(&self) -> bool {
        matches!(self.start, Start::Recurring { .. })
    }
}

/// Whether more than `limit` has passed since `planned`: a schedule that was restored or held up does not start by itself.
pub fn is_too_late(planned: Timestamp, now: Timestamp, limit: Duration) -> bool {
    now.saturating_since(planned) > limit
}

/// When a dated start takes effect: `safety` ([`PUBLISH_GRACE`](limits::PUBLISH_GRACE), unless the server says otherwise)
/// after the last publication at the earliest.
pub fn effective_start(planned: Timestamp, published: Timestamp, safety: Duration) -> Timestamp {
    planned.max(published.plus(safety))
}

/// The length of a period, a day as 24 hours.
pub(super) fn length(period: crate::flow::delay::Period) -> Duration {
    Duration::from_secs(u64::from(period.count()) * u64::from(period.unit().minutes()) * 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
    }

    fn recurring(text: &str, zone: LaunchZone, until: Option<Timestamp>) -> Schedule {
        let start = Start::Recurring { recurrence: text.parse().expect(text), zone, until };
        Schedule { start, too_late_after: None }
    }

    fn paris() -> TimeZone {
        TimeZone::get("Europe/Paris").expect("a zone")
    }

    fn texts(calendar: &Calendar) -> Vec<String> {
        calendar.launches.iter().map(|launch| launch.at.to_string()).collect()
    }

    #[test]
    fn a_calendar_lists_what_is_planned_and_says_if_there_is_more() {
        let fridays = recurring("every friday 17:00", LaunchZone::Named(paris()), Some(utc("2026-11-20T16:00:00Z")));
        let (from, to) = (utc("2026-10-23T15:00:00Z"), utc("2027-01-01T00:00:00Z"));
        let all = fridays.calendar(from, to, 100);
        let expected = [
            "2026-10-23T15:00:00Z",
            "2026-10-30T16:00:00Z",
            "2026-11-06T16:00:00Z",
            "2026-11-13T16:00:00Z",
            "2026-11-20T16:00:00Z",
        ];
        assert_eq!((texts(&all), all.more), (expected.map(str::to_owned).into(), false), "from on, until included");
        let two = fridays.calendar(from, to, 2);
        assert_eq!((two.launches.len(), two.more), (2, true), "and more");
        let before = fridays.calendar(from, utc("2026-10-30T16:00:00Z"), 100);
        assert_eq!((before.launches.len(), before.more), (1, false), "the end is not included");
        assert_eq!(fridays.calendar(to, from, 100), Calendar::default(), "the wrong way round");
        let minutes = recurring("every minute", LaunchZone::Named(paris()), None);
        let bounded = minutes.calendar(from, to, usize::MAX);
        assert_eq!((bounded.launches.len(), bounded.more), (limits::CALENDAR_LAUNCHES_MAX, true), "bounded");
        let now = Schedule { start: Start::Now, too_late_after: None };
        assert_eq!(now.calendar(from, to, 9), Calendar::default(), "now is not planned");
    }

    #[test]
    fn dates_come_one_after_the_other() {
        let launches: Vec<Launch> = [1_000, 5_000, 9_000].map(|at| Launch::at(Timestamp(at))).into();
        let schedule = Schedule { start: Start::Dates(launches.clone()), too_late_after: None };
        assert_eq!(schedule.next_after(Timestamp(0)), Some(launches[0]), "the first");
        assert_eq!(schedule.next_after(Timestamp(1_000)), Some(launches[1]), "after it");
        assert_eq!(schedule.next_after(Timestamp(9_000)), None, "no more");
    }

    #[test]
    fn each_contacts_own_time_begins_in_the_east_and_ends_in_the_west() {
        let nine = Launch::local("2026-11-06T09:00".parse().expect("a time"));
        assert_eq!((nine.at, nine.last()), (utc("2026-11-05T19:00:00Z"), utc("2026-11-06T21:00:00Z")), "26 hours");
        let zones = [ZoneSet { zone: paris(), rows: [1, 2].iter().collect() }];
        let starts = nine.starts(&[1, 3].iter().collect(), &zones, &TimeZone::UTC);
        let expected = BTreeMap::from([
            (utc("2026-11-06T08:00:00Z"), RoaringBitmap::from_iter([1])),
            (utc("2026-11-06T09:00:00Z"), RoaringBitmap::from_iter([3])),
        ]);
        assert_eq!(starts, expected, "each by its own clocks");
        let same = Launch::at(utc("2026-11-06T08:00:00Z"));
        assert_eq!(same.starts(&[1, 3].iter().collect(), &zones, &TimeZone::UTC).len(), 1, "one instant for all");
        let weekly = recurring("every friday 09:00", LaunchZone::Contact, None);
        assert_eq!(weekly.next_after(utc("2026-11-01T00:00:00Z")), Some(nine), "the Friday");
        let next = weekly.next_after(nine.at).and_then(|launch| launch.local);
        assert_eq!(next, "2026-11-13T09:00".parse().ok(), "and the one after it");
    }

    #[test]
    fn a_start_that_was_held_up_for_too_long_is_not_made() {
        let limit = Duration::from_secs(2 * 3_600);
        let planned = utc("2026-11-06T08:00:00Z");
        for (now, expected) in [
            ("2026-11-06T07:00:00Z", false),
            ("2026-11-06T10:00:00Z", false),
            ("2026-11-06T10:00:00.001Z", true),
            ("2027-11-06T08:00:00Z", true),
        ] {
            assert_eq!(is_too_late(planned, utc(now), limit), expected, "{now}");
            let schedule = Schedule { start: Start::Now, too_late_after: Some(limit) };
            assert_eq!(schedule.is_too_late(&Launch::at(planned), utc(now)), expected, "{now}, asked of the schedule");
        }
        assert!(is_too_late(Timestamp(i64::MIN), Timestamp(i64::MAX), limit), "no overflow");
        let patient = Schedule { start: Start::Now, too_late_after: None };
        assert!(!patient.is_too_late(&Launch::at(planned), Timestamp(i64::MAX)), "without a limit never");
        let nine = Launch::local("2026-11-06T09:00".parse().expect("a time"));
        let schedule = Schedule { start: Start::Now, too_late_after: Some(limit) };
        assert!(!schedule.is_too_late(&nine, utc("2026-11-06T23:00:00Z")), "still near enough in the west");
        assert!(schedule.is_too_late(&nine, utc("2026-11-06T23:00:00.001Z")), "over everywhere");
    }

    #[test]
    fn a_dated_start_leaves_five_minutes_to_take_it_back() {
        let at = |time: &str| utc(&format!("2026-11-06T{time}:00Z"));
        assert_eq!(
            effective_start(at("10:05"), at("10:01"), limits::PUBLISH_GRACE),
            at("10:06"),
            "activated 10:01, planned 10:05"
        );
        assert_eq!(effective_start(at("10:06"), at("10:01"), limits::PUBLISH_GRACE), at("10:06"), "just enough");
        assert_eq!(effective_start(at("12:00"), at("10:01"), limits::PUBLISH_GRACE), at("12:00"), "as planned");
    }

    proptest! {
        #[test]
        fn a_calendar_is_every_next_launch(
            from in 1_700_000_000_000i64..1_900_000_000_000,
            days in 1i64..40,
            contact in any::<bool>(),
            text in prop_oneof![Just("every day 02:30"), Just("every friday and sunday 17:00"), Just("every 15th 08:00"), Just("every 6 hours")],
        ) {
            let zone = if contact { LaunchZone::Contact } else { LaunchZone::Named(paris()) };
            let schedule = recurring(text, zone, None);
            let (from, to) = (Timestamp(from), Timestamp(from + days * 86_400_000));
            let calendar = schedule.calendar(from, to, 1_000);
            prop_assert!(calendar.launches.is_sorted_by(|a, b| a.at < b.at), "in order, each once");
            prop_assert!(calendar.launches.iter().all(|l| from <= l.at && l.at < to && l.last() >= l.at), "within");
            let mut after = Timestamp(from.0 - 1);
            for launch in &calendar.launches {
                prop_assert_eq!(schedule.next_after(after), Some(*launch), "the next");
                after = launch.at;
            }
            prop_assert!(schedule.next_after(after).is_none_or(|l| l.at >= to), "none is missing");
        }
    }
}
