//! Recurrences in words: `every friday 17:00`, `every day 09:00 and 18:00`, `every 1st 08:00`, `every 2 hours`.
//!
//! ```text
//! every  = "every" (times-of-days | interval)
//! days   = "day" | "weekday" | "weekend" | weekday { sep weekday } | weekday "to" weekday
//!        | nth { sep nth } [ "of" "the" | "of" "every" "month" ] | "last" "day" [ … ]
//! times  = [ "at" ] HH:MM { sep HH:MM }
//! interval = "minute" | "hour" | N "minutes" | N "hours"
//! sep    = "," | "and"
//! ```
//!
//! An interval counts from midnight by the clock, and N must divide an hour or a day, so that each step is as long as the
//! others. Case and plural do not matter. Owns no state. Invariant: no word is passed over.

use super::ScheduleError;
use super::pattern::{Days, EVERY_MONTH, MonthDays, Pattern};
use crate::flow::delay::DaySet;
use crate::flow::delay::weekdays::day_named;

/// Whether the text is meant as words.
pub(super) fn begins(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("every"))
}

/// The pattern of a recurrence in words.
pub(super) fn parse(text: &str) -> Result<Pattern, ScheduleError> {
    let mut words = Words::new(text);
    words.need(&["every"], "begin with `every`")?;
    let (times, days) = match words.interval()? {
        Some(times) => (times, Days::Every),
        None => {
            let days = words.days()?;
            (words.times()?, days)
        }
    };
    match words.peek() {
        "" => {}
        _ => return Err(words.wrong("nothing more is expected here")),
    }
    Pattern::new(times, days, EVERY_MONTH).ok_or_else(|| ScheduleError::NeverFires { input: text.to_owned() })
}

struct Words<'t> {
    text: &'t str,
    words: Vec<String>,
    at: usize,
}

impl<'t> Words<'t> {
    fn new(text: &'t str) -> Words<'t> {
        let spaced = text.replace(',', " , ").to_ascii_lowercase();
        Words { text, words: spaced.split_whitespace().map(str::to_owned).collect(), at: 0 }
    }

    /// Empty at the end.
    fn peek(&self) -> &str {
        self.words.get(self.at).map_or("", String::as_str)
    }

    fn take(&mut self, any_of: &[&str]) -> bool {
        let found = any_of.contains(&self.peek());
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, any_of: &[&str], hint: &'static str) -> Result<(), ScheduleError> {
        if self.take(any_of) { Ok(()) } else { Err(self.wrong(hint)) }
    }

    fn wrong(&self, hint: &'static str) -> ScheduleError {
        ScheduleError::Words { input: self.text.to_owned(), part: self.peek().to_owned(), hint }
    }

    /// `and`, a comma, or both.
    fn separator(&mut self) -> bool {
        let comma = self.take(&[","]);
        self.take(&["and"]) || comma
    }

    /// The times of `minute`, `hour`, `N minutes`, `N hours`; `None` if something else follows.
    fn interval(&mut self) -> Result<Option<Vec<u16>>, ScheduleError> {
        let count = match self.peek() {
            "minute" | "hour" => 1,
            word if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) => {
                let count = word.parse().unwrap_or(u32::MAX);
                self.at += 1;
                count
            }
            _ => return Ok(None),
        };
        let (unit, whole, of, minutes, allowed) = if self.take(&["minute", "minutes"]) {
            ("minutes", "hour", 60, 1, "1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30")
        } else if self.take(&["hour", "hours"]) {
            ("hours", "day", 24, 60, "1, 2, 3, 4, 6, 8, 12")
        } else {
            return Err(self.wrong("write `minutes` or `hours`, or a day of the month such as 1st"));
        };
        if count == 0 || count >= of && count != 1 || of % count != 0 {
            return Err(ScheduleError::Uneven { count, unit, whole, allowed });
        }
        let step = usize::try_from(count * minutes).unwrap_or(1);
        Ok(Some((0..24 * 60).step_by(step).collect()))
    }

    fn days(&mut self) -> Result<Days, ScheduleError> {
        if self.take(&["day", "days"]) {
            return Ok(Days::Every);
        }
        if self.take(&["weekday", "weekdays"]) {
            return Ok(Days::OfWeek(DaySet::MONDAY_TO_FRIDAY));
        }
        if self.take(&["weekend", "weekends"]) {
            return Ok(Days::OfWeek(DaySet::WEEKEND));
        }
        if day_named(self.peek()).is_some() {
            return self.days_of_week();
        }
        self.days_of_month()
    }

    fn day_of_week(&mut self) -> Result<jiff::civil::Weekday, ScheduleError> {
        let day = day_named(self.peek()).ok_or_else(|| self.wrong("a day of the week is expected"))?;
        self.at += 1;
        Ok(day)
    }

    fn days_of_week(&mut self) -> Result<Days, ScheduleError> {
        let mut chosen = Vec::new();
        loop {
            let mut day = self.day_of_week()?;
            chosen.push(day);
            if self.take(&["to"]) {
                let last = self.day_of_week()?;
                while day != last {
                    day = day.next();
                    chosen.push(day);
                }
            }
            if !self.separator() {
                break;
            }
        }
        DaySet::new(chosen).map(Days::OfWeek).map_err(|_| self.wrong("a day of the week is expected"))
    }

    fn days_of_month(&mut self) -> Result<Days, ScheduleError> {
        const HINT: &str = "write day, weekday, weekend, friday, 1st, `last day`, or an interval such as `2 hours`";
        let mut days = MonthDays { bits: 0, last: false };
        loop {
            if self.take(&["last"]) {
                self.need(&["day"], "write `last day`")?;
                days.last = true;
            } else {
                let day = nth(self.peek()).ok_or_else(|| self.wrong(HINT))?;
                days.bits |= 1 << day;
                self.at += 1;
            }
            if !self.separator() {
                break;
            }
        }
        if self.take(&["of"]) {
            self.need(&["the", "every", "each"], "write `of the month`")?;
            self.need(&["month"], "write `of the month`")?;
        }
        Ok(Days::OfMonth(days))
    }

    fn times(&mut self) -> Result<Vec<u16>, ScheduleError> {
        self.take(&["at"]);
        let mut times = Vec::new();
        loop {
            times.push(clock_time(self.peek()).ok_or_else(|| self.wrong("a time from 00:00 to 23:59 is expected"))?);
            self.at += 1;
            if !self.separator() {
                return Ok(times);
            }
        }
    }
}

/// `1st` to `31st`.
fn nth(word: &str) -> Option<u8> {
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|ending| word.strip_suffix(ending))?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|day| plain && (1..=31).contains(day))
}

/// `9:00` or `09:00`, in minutes after midnight.
fn clock_time(word: &str) -> Option<u16> {
    let (hour, minute) = word.split_once(':')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(1..=2).contains(&hour.len()) || minute.len() != 2 || !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cron;
    use super::*;

    #[test]
    fn words_mean_what_a_cron_line_means() {
        for (words, line) in [
            ("every friday 17:00", "0 17 * * 5"),
            ("Every Fridays at 17:00", "0 17 * * 5"),
            ("every day 09:00", "0 9 * * *"),
            ("every day at 9:00 and 18:00", "0 9,18 * * *"),
            ("every monday, wednesday and friday 08:30", "30 8 * * 1,3,5"),
            ("every tue to fri 08:30", "30 8 * * 2-5"),
            ("every saturday to monday 08:30", "30 8 * * 6,0,1"),
            ("every weekday 07:00", "0 7 * * 1-5"),
            ("every weekend 10:00", "0 10 * * 6,7"),
            ("every 1st 08:00", "0 8 1 * *"),
            ("every 1st and 15th of the month at 08:00", "0 8 1,15 * *"),
            ("every 2nd, 3rd, and 22nd 00:05", "5 0 2,3,22 * *"),
            ("every last day of every month 23:59", "59 23 L * *"),
            ("every hour", "0 * * * *"),
            ("every 2 hours", "0 */2 * * *"),
            ("every 12 hours", "0 0,12 * * *"),
            ("every minute", "* * * * *"),
            ("every 15 minutes", "*/15 * * * *"),
        ] {
            assert!(begins(words), "{words}");
            assert_eq!(parse(words).expect(words), cron::parse(line).expect(line), "{words} is {line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, part) in [
            ("every", ""),
            ("every friday", ""),
            ("every friday 25:00", "25:00"),
            ("every friday 17:60", "17:60"),
            ("every friday 5pm", "5pm"),
            ("every friday at", ""),
            ("every friday 17:00 sharp", "sharp"),
            ("every friday and 17:00", "17:00"),
            ("every other friday 17:00", "other"),
            ("every 32nd 08:00", "32nd"),
            ("every 0th 08:00", "0th"),
            ("every +1st 08:00", "+1st"),
            ("every 2 weeks", "weeks"),
            ("every 2 hours 09:00", "09:00"),
            ("every last friday 09:00", "friday"),
            ("every 1st of may 09:00", "may"),
            ("every vendredi 17:00", "vendredi"),
        ] {
            match parse(text) {
                Err(ScheduleError::Words { input, part: found, .. }) => {
                    assert_eq!((input.as_str(), found.as_str()), (text, part), "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn steps_that_would_be_uneven_are_refused() {
        for (text, count, unit) in [
            ("every 5 hours", 5, "hours"),
            ("every 0 hours", 0, "hours"),
            ("every 24 hours", 24, "hours"),
            ("every 7 minutes", 7, "minutes"),
            ("every 90 minutes", 90, "minutes"),
            ("every 99999999999 minutes", u32::MAX, "minutes"),
        ] {
            match parse(text) {
                Err(ScheduleError::Uneven { count: found, unit: of, .. }) => {
                    assert_eq!((found, of), (count, unit), "{text}")
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_at_all_makes_it_panic(
            text in "every( (friday|day|1st|last|and|,|at|09:00|2|hours|of|the|month|to)){0,8}",
            other in "\\PC{0,40}",
        ) {
            for text in [text, other] {
                if let Ok(pattern) = parse(&text) {
                    let next = pattern.next_after(crate::clock::Timestamp(0), &jiff::tz::TimeZone::UTC);
                    prop_assert!(next.is_some(), "{text:?} fires");
                }
            }
        }
    }
}
