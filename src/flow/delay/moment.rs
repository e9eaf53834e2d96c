//! A moment at which a message goes out: a time of day on certain days, the first time on a date if one is named.
//!
//! Owns no state. What a test of moments needs: the sample goes out at the moment, and the rest, whenever it is decided, at
//! the moment's next occurrence: the next morning after a morning, the next weekend after a weekend.

use std::str::FromStr;

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::civil::instant;
use super::due::next_weekday;
use super::weekdays::{DaySet, day_named};
use crate::clock::Timestamp;

/// Written `09:00`, `saturday 10:00`, `mon,thu 08:30`, `weekdays 09:00`, `weekend 10:00` or `2026-12-05T10:00`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Its first occurrence; `None`: the next one after whenever it is asked for.
    pub first: Option<DateTime>,
    /// Days on which it comes again. After a date: working days after a working day, the weekend after a day of the weekend.
    pub days: DaySet,
    pub time: Time,
}

/// A text that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is no moment: write 09:00, saturday 10:00, weekend 10:00 or 2026-12-05T10:00")]
pub struct NoMoment {
    pub input: String,
}

impl Moment {
    /// When somebody who comes at `now` goes on: at the first occurrence if that is ahead, else at the next one.
    pub fn due(&self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        match self.first.map(|first| instant(first, zone)) {
            Some(first) if first >= now => first,
            _ => next_weekday(now, zone, self.days, self.time).max(now),
        }
    }
}

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Moment, NoMoment> {
        let refused = || NoMoment { input: text.to_owned() };
        let trimmed = text.trim();
        if let Ok(first) = trimmed.parse::<DateTime>()
            && trimmed.contains(['T', 't', ' '])
            && trimmed.starts_with(|c: char| c.is_ascii_digit())
        {
            let weekend = matches!(first.weekday(), Weekday::Saturday | Weekday::Sunday);
            let days = if weekend { DaySet::WEEKEND } else { DaySet::MONDAY_TO_FRIDAY };
            return Ok(Moment { first: Some(first), days, time: first.time() });
        }
        let (days, time) = trimmed.rsplit_once(' ').unwrap_or(("", trimmed));
        let days = match days.trim().to_ascii_lowercase().as_str() {
            "" | "daily" | "every day" => DaySet::ALL,
            "weekday" | "weekdays" => DaySet::MONDAY_TO_FRIDAY,
            "weekend" | "weekends" => DaySet::WEEKEND,
            names => {
                let named: Option<Vec<Weekday>> = names.split(',').map(|name| day_named(name.trim())).collect();
                named.and_then(|days| DaySet::new(days).ok()).ok_or_else(refused)?
            }
        };
        // A time of day, and nothing that only looks like one: `9` is none.
        let time = time.parse::<Time>().ok().filter(|_| time.contains(':')).ok_or_else(refused)?;
        Ok(Moment { first: None, days, time })
    }
}

#[cfg(test)]
mod tests {
    use super::super::civil::tests::{utc, zone};
    use super::*;

    fn moment(text: &str) -> Moment {
        text.parse().expect(text)
    }

    #[test]
    fn moments_are_written_as_people_say_them() {
        let nine: Time = "09:00".parse().expect("a time");
        let of = |days| Moment { first: None, days, time: nine };
        let two = DaySet::new([Weekday::Monday, Weekday::Thursday]).expect("days");
        for (text, expected) in [
            ("09:00", of(DaySet::ALL)),
            ("daily 09:00", of(DaySet::ALL)),
            ("Weekdays 09:00", of(DaySet::MONDAY_TO_FRIDAY)),
            ("weekend 09:00", of(DaySet::WEEKEND)),
            ("saturday 09:00", of(DaySet::new([Weekday::Saturday]).expect("a day"))),
            ("mon, thu 09:00", of(two)),
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
        let dated = moment("2026-12-05T10:30");
        assert_eq!((dated.days, dated.time.to_string().as_str()), (DaySet::WEEKEND, "10:30:00"), "a Saturday");
        assert_eq!(moment("2026-12-01T09:00").days, DaySet::MONDAY_TO_FRIDAY, "a Tuesday");
        for text in ["", "9", "soon", "saturday", "caturday 09:00", "09:00 saturday", "25:00", "2026-12-05"] {
            assert!(text.parse::<Moment>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_sample_goes_at_the_first_and_the_rest_at_the_next() {
        let paris = zone("Europe/Paris");
        let saturday = moment("2026-12-05T10:00");
        let due = |moment: &Moment, now: &str| moment.due(utc(now), &paris);
        assert_eq!(due(&saturday, "2026-12-01T12:00:00Z"), utc("2026-12-05T09:00:00Z"), "the date");
        assert_eq!(due(&saturday, "2026-12-07T12:00:00Z"), utc("2026-12-12T09:00:00Z"), "the next weekend");
        let tuesday = moment("2026-12-01T09:00");
        assert_eq!(due(&tuesday, "2026-12-04T12:00:00Z"), utc("2026-12-07T08:00:00Z"), "the next working morning");
        let morning = moment("09:00");
        assert_eq!(due(&morning, "2026-12-04T08:00:00Z"), utc("2026-12-05T08:00:00Z"), "nine is over: tomorrow");
        assert_eq!(due(&morning, "2026-12-04T07:59:00Z"), utc("2026-12-04T08:00:00Z"), "today");
    }
}
