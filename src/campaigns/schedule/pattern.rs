//! What a recurrence comes down to: times of day, and the days that have them.
//!
//! Owns no state. Invariants:
//! 1. A [`Pattern`] matches some day: it can be asked for its next launch at any time within the calendar.
//! 2. If both days of the month and days of the week are chosen, a day of either is meant, as in every cron.
//! 3. A day that a month does not have is left out: the 31st comes seven times a year, 29 February in leap years.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::flow::delay::DaySet;
use crate::flow::delay::civil::{instant, local, repeated};

/// Minutes of a day by the clock.
const DAY_MINUTES: u16 = 24 * 60;
/// Days after which a pattern must have matched: 29 February is eight years away around 2100.
const DAYS_SEARCHED: usize = 9 * 366;

/// Two days: a change of clocks moves nothing further than that.
const NEAR_MS: i64 = 2 * 24 * 3_600 * 1_000;

/// Times of day on matching days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Minutes after midnight by the clock, in order.
    times: Vec<u16>,
    days: Days,
    /// Bit 1 is January.
    months: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Days {
    Every,
    OfWeek(DaySet),
    OfMonth(MonthDays),
    Either(MonthDays, DaySet),
}

/// Days of a month; not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MonthDays {
    /// Bit 1 is the first.
    pub(super) bits: u32,
    /// The last day, whichever it is.
    pub(super) last: bool,
}

/// Bit 1 to bit 12.
pub(super) const EVERY_MONTH: u16 = 0b1_1111_1111_1110;
/// The longest that a month can be, January first.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl MonthDays {
    fn contain(self, date: Date) -> bool {
        self.bits >> date.day() & 1 == 1 || (self.last && date.day() == date.days_in_month())
    }
}

impl Pattern {
    /// `None` if it would never match, or has no time.
    pub(super) fn new(times: impl IntoIterator<Item = u16>, days: Days, months: u16) -> Option<Pattern> {
        let mut times: Vec<u16> = times.into_iter().filter(|minute| *minute < DAY_MINUTES).collect();
        times.sort_unstable();
        times.dedup();
        let some = match days {
            Days::Every | Days::OfWeek(_) | Days::Either(..) => months & EVERY_MONTH != 0,
            Days::OfMonth(days) => (1u16..).zip(MONTH_DAYS).any(|(month, longest)| {
                let there = days.last || days.bits & ((2u32 << longest).wrapping_sub(2)) != 0;
                months >> month & 1 == 1 && there
            }),
        };
        (some && !times.is_empty()).then_some(Pattern { times, days, months })
    }

    /// Whether the date has launches.
    pub fn matches(&self, date: Date) -> bool {
        if self.months >> date.month() & 1 == 0 {
            return false;
        }
        match self.days {
            Days::Every => true,
            Days::OfWeek(week) => week.contains(date.weekday()),
            Days::OfMonth(month) => month.contain(date),
            Days::Either(month, week) => month.contain(date) || week.contains(date.weekday()),
        }
    }

    /// Whether the same minutes are meant in every hour; such a pattern is made in a repeated hour, too.
    fn follows_the_clock(&self) -> bool {
        let next = |minute: u16| (minute + 60) % DAY_MINUTES;
        self.times.iter().all(|minute| self.times.binary_search(&next(*minute)).is_ok())
    }

    /// The times of a date by the clock, in order; none if it does not match.
    fn on(&self, date: Date) -> impl DoubleEndedIterator<Item = DateTime> + '_ {
        let times: &[u16] = if self.matches(date) { &self.times } else { &[] };
        times.iter().filter_map(move |minute| {
            let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
            Time::new(hour, minute, 0, 0).ok().map(|time| date.to_datetime(time))
        })
    }

    /// The instants of a date in a zone, in order, each once.
    fn instants(&self, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let twice = self.follows_the_clock();
        let again = |at: &DateTime| if twice { repeated(*at, zone) } else { None };
        let mut instants: Vec<Timestamp> =
            self.on(date).flat_map(|at| [Some(instant(at, zone)), again(&at)]).flatten().collect();
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// The first launch after `after`, by the clocks of the zone; `None` at the end of the calendar.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.next_between_changes(after, zone).or_else(|| self.next_day_by_day(after, zone))
    }

    /// [`Pattern::next_after`] if no clock is changed anywhere near: then the next time by the clock is the next launch.
    fn next_between_changes(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let next = instant(self.next_local_after(local(after, zone))?, zone);
        let from = jiff::Timestamp::from_millisecond(after.0.checked_sub(NEAR_MS)?).ok()?;
        let change = zone.following(from).next().map(|change| change.timestamp().as_millisecond());
        change.is_none_or(|change| change > next.0.saturating_add(NEAR_MS)).then_some(next)
    }

    fn next_day_by_day(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = local(after, zone).date();
        // Yesterday: a gap can move a launch beyond midnight, or the calendar can skip a whole day.
        let from = from.yesterday().unwrap_or(from);
        let mut found: Option<Timestamp> = None;
        for date in from.series(jiff::Span::new().days(1)).take(DAYS_SEARCHED) {
            let first = self.instants(date, zone).into_iter().find(|at| *at > after);
            if let Some(before) = found {
                // The day after may begin before what a gap moved.
                return Some(first.map_or(before, |first| first.min(before)));
            }
            found = first;
        }
        found
    }

    /// The first time by the clock after `after`, wherever its clock hangs; `None` at the end of the calendar.
    pub fn next_local_after(&self, after: DateTime) -> Option<DateTime> {
        let mut days = after.date().series(jiff::Span::new().days(1)).take(DAYS_SEARCHED);
        days.find_map(|date| self.first_on(date, after))
    }

    /// The first time of a date that is later than `after`, which is not on a later date.
    fn first_on(&self, date: Date, after: DateTime) -> Option<DateTime> {
        if !self.matches(date) {
            return None;
        }
        let minute = u16::try_from(i32::from(after.hour()) * 60 + i32::from(after.minute())).ok()?;
        let passed = if date == after.date() { self.times.partition_point(|time| *time <= minute) } else { 0 };
        let minute = *self.times.get(passed)?;
        let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
        Time::new(hour, minute, 0, 0).ok().map(|time| date.to_datetime(time))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::recurrence::Recurrence;
    use super::*;

    fn utc(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect(name)
    }

    fn next(text: &str, count: usize, after: &str, zone_name: &str) -> Vec<String> {
        let recurrence: Recurrence = text.parse().expect(text);
        let (zone, mut at) = (zone(zone_name), utc(after));
        let mut found = Vec::new();
        for _ in 0..count {
            at = recurrence.pattern().next_after(at, &zone).expect("a next");
            found.push(at.to_string());
        }
        found
    }

    #[test]
    fn launches_follow_each_other_by_the_clocks_of_the_zone() {
        for (text, after, zone, expected) in [
            (
                "every friday 17:00",
                "2026-10-16T15:00:00Z",
                "Europe/Paris",
                &["2026-10-23T15:00:00Z", "2026-10-30T16:00:00Z"][..],
            ),
            // Skipped: moved on. The day after it is back at its time.
            (
                "every day 02:30",
                "2026-03-28T12:00:00Z",
                "Europe/Paris",
                &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
            ),
            // Moved onto another launch: one.
            ("30 2,3 * * *", "2026-03-29T00:00:00Z", "Europe/Paris", &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]),
            // Repeated: the first only.
            (
                "every day 02:30",
                "2026-10-24T12:00:00Z",
                "Europe/Paris",
                &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            ),
            // Every hour follows the clock: through the gap without a double, in the repeated hour twice.
            ("every hour", "2026-03-29T00:00:00Z", "Europe/Paris", &["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]),
            (
                "every hour",
                "2026-11-01T04:30:00Z",
                "America/New_York",
                &["2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"],
            ),
            (
                "every 2 hours",
                "2026-10-24T21:00:00Z",
                "Europe/Paris",
                &["2026-10-24T22:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"],
            ),
            // Half an hour is repeated at 02:00 summer time.
            (
                "every 30 minutes",
                "2026-04-04T14:15:00Z",
                "Australia/Lord_Howe",
                &["2026-04-04T14:30:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"],
            ),
            ("every day 02:15", "2026-10-03T00:00:00Z", "Australia/Lord_Howe", &["2026-10-03T15:45:00Z"]),
            ("every 1st 08:00", "2026-01-31T12:00:00Z", "Asia/Kathmandu", &["2026-02-01T02:15:00Z"]),
            ("every sunday 02:30", "2026-03-21T12:00:00Z", "Africa/Casablanca", &["2026-03-22T02:30:00Z"]),
            ("every sunday 02:30", "2026-02-14T12:00:00Z", "Africa/Casablanca", &["2026-02-15T01:30:00Z"]),
            // That Friday never was.
            (
                "every day 10:00",
                "2011-12-29T19:00:00Z",
                "Pacific/Apia",
                &["2011-12-29T20:00:00Z", "2011-12-30T20:00:00Z", "2011-12-31T20:00:00Z"],
            ),
            ("every 31st 09:00", "2026-01-31T09:00:00Z", "UTC", &["2026-03-31T09:00:00Z", "2026-05-31T09:00:00Z"]),
            ("every last day 09:00", "2028-01-31T09:00:00Z", "UTC", &["2028-02-29T09:00:00Z", "2028-03-31T09:00:00Z"]),
            ("0 0 29 2 *", "2096-02-29T00:00:00Z", "UTC", &["2104-02-29T00:00:00Z"]),
            // Of either: the 13th, and Fridays.
            (
                "0 12 13 * fri",
                "2026-02-01T00:00:00Z",
                "UTC",
                &[
                    "2026-02-06T12:00:00Z",
                    "2026-02-13T12:00:00Z",
                    "2026-02-20T12:00:00Z",
                    "2026-02-27T12:00:00Z",
                    "2026-03-06T12:00:00Z",
                ],
            ),
        ] {
            assert_eq!(next(text, expected.len(), after, zone), expected, "{text} after {after} in {zone}");
        }
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        let recurrence: Recurrence = "every friday 17:00".parse().expect("parses");
        for zone_name in ["UTC", "Pacific/Kiritimati", "America/New_York"] {
            assert_eq!(recurrence.pattern().next_after(Timestamp(i64::MAX), &zone(zone_name)), None, "{zone_name}");
            assert!(recurrence.pattern().next_after(Timestamp(i64::MIN), &zone(zone_name)).is_some(), "{zone_name}");
        }
        assert_eq!(recurrence.pattern().next_local_after(DateTime::MAX), None, "by the clock");
    }

    const ZONES: [&str; 5] =
        ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Beside asking every minute of the days around.
        #[test]
        fn nothing_is_skipped_and_nothing_invented(
            // Around the changes of clocks of 2026, and days between.
            start in prop_oneof![
                Just("2026-03-28T20:00:00Z"), Just("2026-03-07T20:00:00Z"), Just("2026-10-24T20:00:00Z"),
                Just("2026-10-31T20:00:00Z"), Just("2026-04-04T00:00:00Z"), Just("2026-10-03T00:00:00Z"),
                Just("2026-02-14T12:00:00Z"), Just("2026-03-21T12:00:00Z"), Just("2026-07-01T00:00:00Z"),
            ],
            offset in 0i64..1_440,
            minutes in proptest::collection::btree_set(0u8..60, 1..4),
            hours in proptest::collection::btree_set(0u8..24, 1..8),
            every_hour in any::<bool>(),
            week in prop_oneof![Just("*"), Just("sun"), Just("1-5")],
            at in 0usize..5,
        ) {
            let list = |set: std::collections::BTreeSet<u8>| {
                set.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
            };
            let hours = if every_hour { "*".to_owned() } else { list(hours) };
            let text = format!("{} {hours} * * {week}", list(minutes));
            let recurrence: Recurrence = text.parse().expect("parses");
            let (pattern, zone) = (recurrence.pattern(), zone(ZONES[at]));
            let from = utc(start).0 / 60_000 + offset;
            let shown = |minute: i64| local(Timestamp(minute * 60_000), &zone);
            let wanted = |at: DateTime| pattern.on(at.date()).any(|time| time == at);
            let last = from + 2_000;
            let mut expected: Vec<i64> = Vec::new();
            for minute in from - 200..=last {
                let now = shown(minute);
                let first = instant(now, &zone) == Timestamp(minute * 60_000);
                if wanted(now) && (first || pattern.follows_the_clock()) {
                    expected.push(minute);
                }
                // What the clocks skip at this minute is moved on by the length of the gap.
                let mut skipped = shown(minute - 1).checked_add(jiff::Span::new().minutes(1)).expect("a time");
                while skipped < now {
                    if wanted(skipped) {
                        expected.push(instant(skipped, &zone).0 / 60_000);
                    }
                    skipped = skipped.checked_add(jiff::Span::new().minutes(1)).expect("a time");
                }
            }
            expected.retain(|minute| *minute > from && *minute <= last);
            expected.sort_unstable();
            expected.dedup();
            let mut found = Vec::new();
            let mut after = Timestamp(from * 60_000);
            while let Some(next) = pattern.next_after(after, &zone).filter(|next| next.0 / 60_000 <= last) {
                prop_assert!(next > after, "ahead");
                found.push(next.0 / 60_000);
                after = next;
            }
            prop_assert_eq!(found, expected, "{} in {}", text, ZONES[at]);
        }
    }
}
