//! Moments to instants: what `today - 30d` means now and in a zone.
//!
//! Owns no state. Minutes and hours are exact; days, weeks, months and years are counted on the calendar of the zone, so
//! that `now - 1d` is the same time of day across a change of clocks, and a month back from 31 March is the last day of
//! February. `today` and a date without a time mean the whole day; a step in hours or minutes from one counts from its
//! first instant. A time that the clocks skip is the one after the gap; one that they repeat is the first. Invariant:
//! MO-1 a moment beyond the years −9999 to 9999 is before, or after, everything.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::clock::Timestamp;
use crate::segments::expression::{Anchor, Moment, Step, Unit};

/// The instants from `start` to below `end` that a moment stands for: a day, or one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Stretch {
    fn instant(millis: i64) -> Stretch {
        Stretch { start: Timestamp(millis), end: Timestamp(millis.saturating_add(1)) }
    }

    fn beyond(sign: i64) -> Stretch {
        if sign < 0 { Stretch::instant(i64::MIN) } else { Stretch::instant(i64::MAX - 1) }
    }
}

/// Whether the moment means different instants in different zones.
pub(super) fn depends_on_zone(moment: &Moment) -> bool {
    !matches!(moment.anchor, Anchor::Now | Anchor::Instant(_))
        || moment.steps.iter().any(|step| step.unit.is_calendar())
}

enum At {
    Day(Date),
    Time(Zoned),
}

/// What `moment` stands for at `now` in `zone`.
pub(super) fn resolve(moment: &Moment, now: Timestamp, zone: &TimeZone) -> Stretch {
    let sign = moment.steps.last().map_or(1, |step| step.count.signum());
    let Some(now) = jiff::Timestamp::from_millisecond(now.0).ok().map(|now| now.to_zoned(zone.clone())) else {
        return Stretch::beyond(now.0.signum());
    };
    let anchor = match moment.anchor {
        Anchor::Now => Some(At::Time(now)),
        Anchor::Today => Some(At::Day(now.date())),
        Anchor::Day(day) => Some(At::Day(day)),
        Anchor::Local(local) => local.to_zoned(zone.clone()).ok().map(At::Time),
        Anchor::Instant(instant) => Some(At::Time(instant.to_zoned(zone.clone()))),
    };
    let Some(mut at) = anchor else {
        return Stretch::beyond(sign);
    };
    for step in &moment.steps {
        match add(at, *step, zone) {
            Some(next) => at = next,
            None => return Stretch::beyond(step.count),
        }
    }
    match at {
        At::Time(time) => Stretch::instant(time.timestamp().as_millisecond()),
        At::Day(day) => {
            let start = |day: Date| day.to_zoned(zone.clone()).ok().map(|z| Timestamp(z.timestamp().as_millisecond()));
            match (start(day), day.tomorrow().ok().and_then(start)) {
                (Some(start), Some(end)) => Stretch { start, end },
                _ => Stretch::beyond(sign),
            }
        }
    }
}

fn add(at: At, step: Step, zone: &TimeZone) -> Option<At> {
    let span = Span::new();
    let span = match step.unit {
        Unit::Minutes => span.try_minutes(step.count),
        Unit::Hours => span.try_hours(step.count),
        Unit::Days => span.try_days(step.count),
        Unit::Weeks => span.try_weeks(step.count),
        Unit::Months => span.try_months(step.count),
        Unit::Years => span.try_years(step.count),
    };
    let span = span.ok()?;
    match at {
        At::Day(day) if step.unit.is_calendar() => day.checked_add(span).ok().map(At::Day),
        At::Day(day) => day.to_zoned(zone.clone()).ok()?.checked_add(span).ok().map(At::Time),
        At::Time(time) => time.checked_add(span).ok().map(At::Time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::expression::{Kind, LiteralValue, Operator};
    use crate::segments::parse;

    fn stretch(text: &str, now: &str, zone: &str) -> (String, i64) {
        let expression = parse(&format!("a = {text}")).expect("parses");
        let Kind::Test(test) = expression.kind else { panic!("a test") };
        let Operator::Compare(_, literal) = test.operator else { panic!("a comparison") };
        let LiteralValue::Moment(moment) = literal.value else { panic!("a moment") };
        let now: jiff::Timestamp = now.parse().expect("a timestamp");
        let zone = TimeZone::get(zone).expect("a zone");
        let found = resolve(&moment, Timestamp(now.as_millisecond()), &zone);
        (found.start.to_string(), found.end.0 - found.start.0)
    }

    const HOUR: i64 = 3_600_000;

    #[test]
    fn days_are_those_of_the_zone_and_as_long_as_they_are() {
        let at = "2026-03-29T12:00:00Z";
        assert_eq!(stretch("today", at, "UTC"), ("2026-03-29T00:00:00Z".to_owned(), 24 * HOUR), "UTC");
        assert_eq!(
            stretch("today", at, "Europe/Paris"),
            ("2026-03-28T23:00:00Z".to_owned(), 23 * HOUR),
            "clocks change"
        );
        assert_eq!(
            stretch("today", "2026-03-28T23:30:00Z", "Europe/Paris").0,
            "2026-03-28T23:00:00Z",
            "already tomorrow"
        );
        assert_eq!(stretch("2026-10-25", at, "Europe/Paris").1, 25 * HOUR, "a long day");
        assert_eq!(stretch("today + 1h", at, "UTC"), ("2026-03-29T01:00:00Z".to_owned(), 1), "an hour into the day");
    }

    #[test]
    fn steps_follow_the_calendar_of_the_zone() {
        let at = "2026-03-31T10:00:00Z";
        assert_eq!(stretch("now - 1mo", at, "UTC").0, "2026-02-28T10:00:00Z", "the last day of a shorter month");
        assert_eq!(
            stretch("now - 2d", "2026-03-30T10:00:00Z", "Europe/Paris").0,
            "2026-03-28T11:00:00Z",
            "same time of day"
        );
        assert_eq!(
            stretch("now - 48h", "2026-03-30T10:00:00Z", "Europe/Paris").0,
            "2026-03-28T10:00:00Z",
            "exact hours"
        );
        assert_eq!(stretch("2024-02-29 + 1y", at, "UTC").0, "2025-02-28T00:00:00Z", "no 29 February");
        assert_eq!(stretch("today - 1w + 90m", at, "UTC").0, "2026-03-24T01:30:00Z", "one after the other");
        assert_eq!(stretch("2026-03-29T02:30", at, "Europe/Paris").0, "2026-03-29T01:30:00Z", "skipped by the clocks");
    }

    #[test]
    fn what_is_beyond_the_calendar_is_before_or_after_everything() {
        let at = "2026-03-31T10:00:00Z";
        for text in ["now - 99999y", "today - 9999999999999d", "2026-01-01 - 999999999999999999h"] {
            assert_eq!(stretch(text, at, "UTC").0, format!("{} ms", i64::MIN), "{text}");
        }
        assert_eq!(stretch("now + 99999y", at, "UTC").0, format!("{} ms", i64::MAX - 1), "far ahead");
        assert_eq!(stretch("9999-12-31", at, "UTC").1, 1, "the last day has no next");
    }

    #[test]
    fn only_days_and_calendar_steps_depend_on_the_zone() {
        let depends = |text: &str| {
            let expression = parse(&format!("a = {text}")).expect("parses");
            let Kind::Test(test) = expression.kind else { panic!("a test") };
            let Operator::Compare(_, literal) = test.operator else { panic!("a comparison") };
            matches!(literal.value, LiteralValue::Moment(moment) if depends_on_zone(&moment))
        };
        for (text, expected) in [
            ("now", false),
            ("now - 3h", false),
            ("now - 3d", true),
            ("today", true),
            ("2026-01-01", true),
            ("2026-01-01T00:00", true),
            ("2026-01-01T00:00Z", false),
            ("2026-01-01T00:00Z + 1mo", true),
        ] {
            assert_eq!(depends(text), expected, "{text}");
        }
    }
}
