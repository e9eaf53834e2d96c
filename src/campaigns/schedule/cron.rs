//! Cron lines of five fields: minute, hour, day of the month, month, day of the week.
//!
//! As in crontab(5): `*`, numbers, `a-b`, lists, `/step`, English names of months and weekdays by three letters or more,
//! 0 and 7 for Sunday; `L` for the last day of the month; `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. A range
//! that runs backwards is refused. No crate is used: those that are well kept bring a second calendar library with a time
//! zone database of its own, ask for seconds, or follow another rule at changes of clocks than the rest of the engine.
//! Owns no state. Invariant: a line that never fires is refused.

use super::ScheduleError;
use super::pattern::{Days, MonthDays, Pattern};
use crate::flow::delay::DaySet;
use crate::flow::delay::weekdays::{DAYS, day_named};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const NAMED: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// One of the five fields.
struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    named: fn(&str) -> Option<u8>,
}

const MINUTE: Field = Field { name: "minute", low: 0, high: 59, named: |_| None };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, named: |_| None };
const DAY: Field = Field { name: "day of the month", low: 1, high: 31, named: |_| None };
const MONTH: Field = Field { name: "month", low: 1, high: 12, named: month_named };
const WEEKDAY: Field = Field { name: "day of the week", low: 0, high: 7, named: weekday_named };

fn month_named(text: &str) -> Option<u8> {
    let lower = text.to_ascii_lowercase();
    (1u8..).zip(MONTHS).find(|(_, name)| lower.len() >= 3 && name.starts_with(&lower)).map(|(month, _)| month)
}

fn weekday_named(text: &str) -> Option<u8> {
    day_named(text).and_then(|day| u8::try_from(day.to_sunday_zero_offset()).ok())
}

impl Field {
    /// The chosen values, as bits.
    fn read(&self, line: &str, text: &str) -> Result<u64, ScheduleError> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part).ok_or_else(|| self.wrong(line, part))?))
    }

    fn part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (part, None),
        };
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (self.low, self.high),
            Some((low, high)) => (self.value(low)?, self.value(high)?),
            None => {
                let low = self.value(range)?;
                (low, if step.is_some() { self.high } else { low })
            }
        };
        let step = step.unwrap_or(1);
        if step == 0 || low > high {
            return None;
        }
        Some((low..=high).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u8> {
        let value = number(text).or_else(|| (self.named)(text))?;
        (self.low..=self.high).contains(&value).then_some(value)
    }

    fn wrong(&self, line: &str, part: &str) -> ScheduleError {
        ScheduleError::CronPart {
            input: line.to_owned(),
            part: part.to_owned(),
            field: self.name,
            low: self.low,
            high: self.high,
        }
    }
}

fn number(text: &str) -> Option<u8> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The pattern of a cron line.
pub(super) fn parse(line: &str) -> Result<Pattern, ScheduleError> {
    let named = NAMED.iter().find(|(name, _)| line.trim().eq_ignore_ascii_case(name));
    let fields: Vec<&str> = named.map_or(line, |(_, meaning)| meaning).split_whitespace().collect();
    let &[minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(ScheduleError::CronFields { input: line.to_owned(), given: fields.len() });
    };
    let (minutes, hours) = (MINUTE.read(line, minute)?, HOUR.read(line, hour)?);
    let times = values(hours).flat_map(|hour| values(minutes).map(move |minute| hour * 60 + minute));
    let days = match (month_days(line, day)?, week_days(line, weekday)?) {
        (None, None) => Days::Every,
        (Some(month), None) => Days::OfMonth(month),
        (None, Some(week)) => Days::OfWeek(week),
        (Some(month), Some(week)) => Days::Either(month, week),
    };
    let months = u16::try_from(MONTH.read(line, month)?).unwrap_or(u16::MAX);
    Pattern::new(times, days, months).ok_or_else(|| ScheduleError::NeverFires { input: line.to_owned() })
}

fn values(bits: u64) -> impl Iterator<Item = u16> {
    (0..64).filter(move |value| bits >> value & 1 == 1)
}

/// `None` if all days are meant.
fn month_days(line: &str, text: &str) -> Result<Option<MonthDays>, ScheduleError> {
    let is_last = |part: &&str| part.eq_ignore_ascii_case("l");
    let numbers: Vec<&str> = text.split(',').filter(|part| !is_last(part)).collect();
    let last = text.split(',').any(|part| is_last(&part));
    let bits = if numbers.is_empty() { 0 } else { DAY.read(line, &numbers.join(","))? };
    let bits = u32::try_from(bits).unwrap_or(u32::MAX);
    Ok((bits != u32::MAX - 1).then_some(MonthDays { bits, last }))
}

/// `None` if all days are meant.
fn week_days(line: &str, text: &str) -> Result<Option<DaySet>, ScheduleError> {
    let bits = WEEKDAY.read(line, text)?;
    let sunday = bits | bits >> 7;
    let chosen = DAYS.into_iter().map(|(day, _)| day).filter(|day| sunday >> day.to_sunday_zero_offset() & 1 == 1);
    let set = DaySet::new(chosen).map_err(|_| WEEKDAY.wrong(line, text))?;
    Ok((set != DaySet::ALL).then_some(set))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(a: &str, b: &str) {
        assert_eq!(parse(a).expect(a), parse(b).expect(b), "{a} is {b}");
    }

    #[test]
    fn there_are_many_ways_to_write_the_same() {
        same("0 17 * * fri", "0 17 * * 5");
        same("0 17 * * FRIDAY", "0 17 * * 5-5");
        same("*/20 * * * *", "0,20,40 0-23 1-31 1-12 0-7");
        same("0 9 1,15 jan-mar,DEC *", "0 9 15,1 1-3,12 *");
        same("0 0 * * 7", "0 0 * * sun");
        same("5/30 8-18/5 * * *", "5,35 8,13,18 * * *");
        same("@weekly", "0 0 * * 0");
        same("0 9 L,1 * *", "0 9 1,l * *");
        same("0 9 * * 1-7", "0 9 * * *");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, part, field) in [
            ("60 * * * *", "60", "minute"),
            ("0 24 * * *", "24", "hour"),
            ("0 9 0 * *", "0", "day of the month"),
            ("0 9 32 * *", "32", "day of the month"),
            ("0 9 * 13 *", "13", "month"),
            ("0 9 * * 8", "8", "day of the week"),
            ("0 9 * * fri-mon", "fri-mon", "day of the week"),
            ("0 9 * * 1,,2", "", "day of the week"),
            ("*/0 * * * *", "*/0", "minute"),
            ("1- * * * *", "1-", "minute"),
            ("-1 * * * *", "-1", "minute"),
            ("1/2/3 * * * *", "1/2/3", "minute"),
            ("300 * * * *", "300", "minute"),
            ("0 9 ? * 1", "?", "day of the month"),
            ("0 9 * ju *", "ju", "month"),
        ] {
            match parse(line) {
                Err(ScheduleError::CronPart { input, part: found, field: of, .. }) => {
                    assert_eq!((input.as_str(), found.as_str(), of), (line, part, field), "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        for (line, given) in [("", 0), ("0 9 * *", 4), ("0 0 9 * * *", 6), ("@reboot", 1)] {
            let input = line.to_owned();
            assert_eq!(parse(line), Err(ScheduleError::CronFields { input, given }), "{line}");
        }
    }

    #[test]
    fn what_never_fires_is_refused() {
        for line in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30-31 feb *"] {
            assert_eq!(parse(line), Err(ScheduleError::NeverFires { input: line.to_owned() }), "{line}");
        }
        for line in ["0 0 29 2 *", "0 0 31 2,3 *", "0 0 30 2 mon", "0 0 L 2 *"] {
            assert!(parse(line).is_ok(), "{line} fires");
        }
    }

    proptest! {
        #[test]
        fn no_text_at_all_makes_it_panic(line in "[0-9*/,LJanfri@ -]{0,30}", other in "\\PC{0,30}") {
            for text in [line, other] {
                if let Ok(pattern) = parse(&text) {
                    let next = pattern.next_after(crate::clock::Timestamp(0), &jiff::tz::TimeZone::UTC);
                    prop_assert!(next.is_some(), "{text:?} fires");
                }
            }
        }
    }
}
