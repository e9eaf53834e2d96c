//! When a row that entered a delay may go on.
//!
//! Owns no state. Invariants:
//! 1. `due(entered, …) >= entered`, always.
//! 2. Minutes and hours count real time; days, weeks, weekdays and dates go by the clocks of the zone, by the rule of
//!    [`super::civil`].
//! 3. Being suspended changes nothing: what fell due meanwhile is due at once, and nothing counts from the end of the
//!    suspension.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};
use serde::{Deserialize, Serialize};

use super::DelayError;
use super::Moment;
use super::civil::{instant, local};
use super::period::{Period, PeriodUnit};
use super::weekdays::DaySet;
use crate::clock::Timestamp;

/// Days after which a chosen weekday with a time must have come, a day that a zone skipped whole included.
const WEEKDAY_DAYS_MAX: usize = 16;

/// What a row waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Delay {
    Period(Period),
    /// The next of these days at this time of day; today counts only if the time is still ahead.
    Weekdays {
        days: DaySet,
        at: Time,
    },
    /// A date; whoever enters later goes on at once.
    Date(DateTime),
    /// A date, or the next of certain days; whoever enters later goes on at the next of them.
    Moment(Moment),
}

impl Delay {
    /// Refuses what would never let anybody wait: a date that has passed.
    pub fn check(&self, now: Timestamp, zone: &TimeZone) -> Result<(), DelayError> {
        match self {
            Delay::Date(date) if instant(*date, zone) <= now => Err(DelayError::DatePassed { date: *date, now }),
            Delay::Period(_) | Delay::Weekdays { .. } | Delay::Date(_) | Delay::Moment(_) => Ok(()),
        }
    }

    /// Whether rows of different zones are due at different instants.
    pub fn depends_on_zone(&self) -> bool {
        match self {
            Delay::Period(period) => matches!(period.unit(), PeriodUnit::Days | PeriodUnit::Weeks),
            Delay::Weekdays { .. } | Delay::Date(_) | Delay::Moment(_) => true,
        }
    }
}

/// When a row that entered at `entered` may go on, by the clocks of `zone`.
pub fn due(entered: Timestamp, zone: &TimeZone, delay: &Delay) -> Timestamp {
    let due = match delay {
        Delay::Period(period) => after(entered, zone, *period),
        Delay::Weekdays { days, at } => next_weekday(entered, zone, *days, *at),
        Delay::Date(date) => instant(*date, zone),
        Delay::Moment(moment) => moment.due(entered, zone),
    };
    due.max(entered)
}

fn after(entered: Timestamp, zone: &TimeZone, period: Period) -> Timestamp {
    let count = i64::from(period.count());
    let exact = |minutes: i64| Timestamp(entered.0.saturating_add(count.saturating_mul(minutes * 60_000)));
    let calendar = |span: Span| match local(entered, zone).checked_add(span) {
        Ok(at) => instant(at, zone),
        Err(_) => Timestamp(i64::MAX),
    };
    match period.unit() {
        PeriodUnit::Minutes => exact(1),
        PeriodUnit::Hours => exact(60),
        PeriodUnit::Days => calendar(count.days()),
        PeriodUnit::Weeks => calendar(count.weeks()),
    }
}

pub(super) fn next_weekday(entered: Timestamp, zone: &TimeZone, days: DaySet, at: Time) -> Timestamp {
    let today = local(entered, zone).date();
    // Eight days have each weekday, and today's twice.
    today
        .series(1.day())
        .take(WEEKDAY_DAYS_MAX)
        .filter(|day| days.contains(day.weekday()))
        .map(|day| instant(day.to_datetime(at), zone))
        .find(|due| *due > entered)
        .unwrap_or(Timestamp(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::civil::tests::{time, utc, zone};
    use super::*;

    fn period(text: &str) -> Delay {
        Delay::Period(text.parse().expect(text))
    }

    fn weekdays(names: &[&str], at: &str) -> Delay {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        Delay::Weekdays { days: names.try_into().expect("days"), at: at.parse().expect(at) }
    }

    const ZONES: [&str; 6] = [
        "Europe/Paris",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Africa/Casablanca",
        "Pacific/Apia",
    ];

    #[test]
    fn a_day_of_the_calendar_is_not_24_hours() {
        for (name, entered, delay, expected) in [
            // Both cases of a follow-up to whom a mail was ignored by: five days, and thirty minutes.
            ("Europe/Paris", "2026-11-02T09:12:34Z", "5d", "2026-11-07T09:12:34Z"),
            ("Europe/Paris", "2026-11-02T09:12:34Z", "30m", "2026-11-02T09:42:34Z"),
            // Over the spring change: the same time of day is 23 hours later.
            ("Europe/Paris", "2026-03-28T09:00:00Z", "1d", "2026-03-29T08:00:00Z"),
            ("Europe/Paris", "2026-03-28T09:00:00Z", "24h", "2026-03-29T09:00:00Z"),
            ("Europe/Paris", "2026-03-27T09:00:00Z", "1w", "2026-04-03T08:00:00Z"),
            // 02:30 tomorrow is skipped and becomes 03:30, 24 hours later after all.
            ("Europe/Paris", "2026-03-28T01:30:00Z", "1d", "2026-03-29T01:30:00Z"),
            // 02:30 tomorrow comes twice: the first.
            ("Europe/Paris", "2026-10-24T00:30:00Z", "1d", "2026-10-25T00:30:00Z"),
            // Entered in the second 02:30, the next day has one.
            ("Europe/Paris", "2026-10-25T01:30:00Z", "1d", "2026-10-26T01:30:00Z"),
            ("Europe/Paris", "2026-10-25T00:30:00Z", "1h", "2026-10-25T01:30:00Z"),
            ("America/New_York", "2026-10-31T14:00:00Z", "1d", "2026-11-01T15:00:00Z"),
            ("America/New_York", "2026-10-31T14:00:00Z", "24h", "2026-11-01T14:00:00Z"),
            // Half an hour less, and half an hour more.
            ("Australia/Lord_Howe", "2026-10-03T00:00:00Z", "1d", "2026-10-03T23:30:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T00:00:00Z", "1d", "2026-04-05T00:30:00Z"),
            ("Asia/Kathmandu", "2026-03-28T09:00:00Z", "1d", "2026-03-29T09:00:00Z"),
            ("Africa/Casablanca", "2026-02-14T09:00:00Z", "1d", "2026-02-15T10:00:00Z"),
            ("Africa/Casablanca", "2026-03-21T09:00:00Z", "1d", "2026-03-22T08:00:00Z"),
            // 29 February.
            ("Europe/Paris", "2028-02-28T12:00:00Z", "1d", "2028-02-29T12:00:00Z"),
            ("Europe/Paris", "2028-02-29T12:00:00Z", "366d", "2029-03-01T12:00:00Z"),
            ("Europe/Paris", "2027-02-28T12:00:00Z", "1d", "2027-03-01T12:00:00Z"),
            // Tomorrow never was.
            ("Pacific/Apia", "2011-12-29T20:00:00Z", "1d", "2011-12-30T20:00:00Z"),
        ] {
            let found = due(utc(entered), &zone(name), &period(delay));
            assert_eq!(found, utc(expected), "{delay} after {entered} in {name}");
        }
    }

    #[test]
    fn today_counts_only_if_the_hour_is_ahead() {
        // 2026-11-06 is a Friday.
        for (name, entered, days, at, expected) in [
            ("Europe/Paris", "2026-11-06T15:59:59Z", &["friday"][..], "17:00", "2026-11-06T16:00:00Z"),
            ("Europe/Paris", "2026-11-06T16:00:00Z", &["friday"], "17:00", "2026-11-13T16:00:00Z"),
            ("Europe/Paris", "2026-11-06T18:00:00Z", &["mon", "wed"], "09:00", "2026-11-09T08:00:00Z"),
            ("Europe/Paris", "2026-11-09T08:00:00Z", &["mon", "wed"], "09:00", "2026-11-11T08:00:00Z"),
            // Still Thursday in New York.
            ("America/New_York", "2026-11-06T03:00:00Z", &["friday"], "00:30", "2026-11-06T05:30:00Z"),
            ("Asia/Kathmandu", "2026-11-06T03:14:00Z", &["friday"], "09:00", "2026-11-06T03:15:00Z"),
            // The hour is skipped on that Sunday.
            ("Europe/Paris", "2026-03-28T12:00:00Z", &["sunday"], "02:30", "2026-03-29T01:30:00Z"),
            // The hour comes twice, and between the two it is no longer ahead.
            ("Europe/Paris", "2026-10-24T12:00:00Z", &["sunday"], "02:30", "2026-10-25T00:30:00Z"),
            ("Europe/Paris", "2026-10-25T01:00:00Z", &["sunday"], "02:30", "2026-11-01T01:30:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T00:00:00Z", &["sunday"], "02:15", "2026-10-03T15:45:00Z"),
            ("Africa/Casablanca", "2026-03-21T12:00:00Z", &["sunday"], "02:30", "2026-03-22T02:30:00Z"),
            // That Friday never was: its mail goes out when the calendar goes on.
            ("Pacific/Apia", "2011-12-29T20:00:00Z", &["friday"], "10:00", "2011-12-30T20:00:00Z"),
        ] {
            let found = due(utc(entered), &zone(name), &weekdays(days, at));
            assert_eq!(found, utc(expected), "{days:?} {at} after {entered} in {name}");
        }
    }

    #[test]
    fn a_date_is_waited_for_and_passed_at_once_when_it_is_over() {
        let date = Delay::Date(time("2026-12-24T18:00"));
        let paris = zone("Europe/Paris");
        let (before, after) = (utc("2026-12-01T00:00:00Z"), utc("2026-12-24T17:00:01Z"));
        assert_eq!(due(before, &paris, &date), utc("2026-12-24T17:00:00Z"), "waits");
        assert_eq!(due(after, &paris, &date), after, "at once");
        assert_eq!(date.check(before, &paris), Ok(()), "ahead");
        let passed = DelayError::DatePassed { date: time("2026-12-24T18:00"), now: after };
        assert_eq!(date.check(after, &paris), Err(passed), "refused when it is set up too late");
        assert_eq!(date.check(after, &zone("America/New_York")), Ok(()), "still ahead there");
    }

    #[test]
    fn a_delay_is_written_in_words() {
        for (toml, expected) in [
            ("delay = { period = '5d' }", period("5d")),
            ("delay = { weekdays = { days = ['friday'], at = '17:00' } }", weekdays(&["friday"], "17:00")),
            ("delay = { date = '2026-12-24T18:00' }", Delay::Date(time("2026-12-24T18:00"))),
        ] {
            #[derive(Debug, Deserialize)]
            struct Spec {
                delay: Delay,
            }
            let spec: Spec = toml::from_str(toml).expect(toml);
            assert_eq!(spec.delay, expected, "{toml}");
            let json = serde_json::to_string(&expected).expect("writes");
            assert_eq!(serde_json::from_str::<Delay>(&json).expect("reads"), expected, "{json}");
        }
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        let paris = zone("Europe/Paris");
        for entered in [i64::MIN, -1, i64::MAX - 1, i64::MAX, 253_402_207_200_000] {
            for delay in [period("366d"), period("1m"), weekdays(&["monday"], "09:00"), Delay::Date(DateTime::MAX)] {
                let entered = Timestamp(entered);
                assert!(due(entered, &paris, &delay) >= entered, "{delay:?} from {}", entered.0);
            }
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_as_long_as_it_says(
            entered in 1_500_000_000_000i64..2_000_000_000_000,
            count in 1u32..=52,
            unit in 0usize..4,
            at in 0usize..6,
        ) {
            let zone = zone(ZONES[at]);
            let wait = Period::new(count, PeriodUnit::ALL[unit]).expect("within bounds");
            let entered = Timestamp(entered);
            let found = due(entered, &zone, &Delay::Period(wait));
            let exact = i64::from(count) * i64::from(wait.unit().minutes()) * 60_000;
            let (took, hour) = (found.0 - entered.0, 3_600_000);
            match wait.unit() {
                PeriodUnit::Minutes | PeriodUnit::Hours => prop_assert_eq!(took, exact, "to the millisecond"),
                PeriodUnit::Days | PeriodUnit::Weeks => {
                    prop_assert!((took - exact).abs() <= hour, "a change of clocks at most: {took} and {exact}");
                    let (from, to) = (local(entered, &zone), local(found, &zone));
                    let same_time = from.time() == to.time();
                    let skipped = from.time() != to.time() && instant(to.date().to_datetime(from.time()), &zone) == found;
                    prop_assert!(same_time || skipped, "the same time of day, or the one after a gap");
                }
            }
        }

        #[test]
        fn a_weekday_is_the_next_that_is_ahead(
            entered in 1_500_000_000_000i64..2_000_000_000_000,
            bits in 1usize..128,
            minute in 0i8..60,
            hour in 0i8..24,
            at in 0usize..6,
        ) {
            let zone = zone(ZONES[at]);
            let entered = Timestamp(entered);
            let week = super::super::weekdays::DAYS.into_iter().enumerate();
            let days = DaySet::new(week.filter(|(i, _)| bits >> i & 1 == 1).map(|(_, d)| d.0)).expect("a day");
            let time = Time::constant(hour, minute, 0, 0);
            let found = due(entered, &zone, &Delay::Weekdays { days, at: time });
            prop_assert!(found > entered, "ahead");
            prop_assert!(found.0 - entered.0 <= 8 * 86_400_000, "within eight days");
            let day = local(found, &zone).date();
            prop_assert!(days.contains(day.weekday()), "{day} is chosen");
            prop_assert_eq!(instant(day.to_datetime(time), &zone), found, "at the time");
            let mut earlier = local(entered, &zone).date();
            while earlier < day {
                let passed = instant(earlier.to_datetime(time), &zone) <= entered;
                prop_assert!(passed || !days.contains(earlier.weekday()), "{earlier} would have been earlier");
                earlier = earlier.tomorrow().expect("a next day");
            }
        }

        #[test]
        fn who_enters_later_does_not_leave_earlier(
            entered in 1_500_000_000_000i64..2_000_000_000_000,
            later in 0i64..100_000_000,
            at in 0usize..6,
        ) {
            let zone = zone(ZONES[at]);
            for delay in [weekdays(&["tuesday", "sunday"], "02:30"), period("90m"), Delay::Date(time("2028-02-29T02:30"))] {
                let (first, second) = (Timestamp(entered), Timestamp(entered + later));
                prop_assert!(due(first, &zone, &delay) <= due(second, &zone, &delay), "{:?}", delay);
            }
        }
    }
}
