//! A length of time as a person writes it: `30m`, `24h`, `5d`, `2w`.
//!
//! Minutes and hours are exact. Days and weeks are those of the calendar: `1d` later is the same time of day, which is
//! 23 or 25 hours later when the clocks change, while `24h` is always 24 hours. Owns no state. Invariants:
//! 1. A [`Period`] is longer than nothing and at most [`DELAY_DAYS_MAX`](crate::limits::DELAY_DAYS_MAX) days.
//! 2. What is printed reads back as the same period.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::DelayError;
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeriodUnit {
    Minutes,
    Hours,
    /// Of the calendar.
    Days,
    /// Of the calendar.
    Weeks,
}

impl PeriodUnit {
    pub const ALL: [PeriodUnit; 4] = [PeriodUnit::Minutes, PeriodUnit::Hours, PeriodUnit::Days, PeriodUnit::Weeks];

    pub fn suffix(self) -> &'static str {
        match self {
            PeriodUnit::Minutes => "m",
            PeriodUnit::Hours => "h",
            PeriodUnit::Days => "d",
            PeriodUnit::Weeks => "w",
        }
    }

    /// One unit, in minutes of a day without a change of clocks.
    pub fn minutes(self) -> u32 {
        match self {
            PeriodUnit::Minutes => 1,
            PeriodUnit::Hours => 60,
            PeriodUnit::Days => 24 * 60,
            PeriodUnit::Weeks => 7 * 24 * 60,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    count: u32,
    unit: PeriodUnit,
}

impl Period {
    pub fn new(count: u32, unit: PeriodUnit) -> Result<Period, DelayError> {
        let period = Period { count, unit };
        if count == 0 {
            return Err(DelayError::Nothing { input: period.to_string() });
        }
        let minutes = u64::from(count) * u64::from(unit.minutes());
        if minutes > u64::from(limits::DELAY_DAYS_MAX) * u64::from(PeriodUnit::Days.minutes()) {
            return Err(DelayError::TooLong { input: period.to_string() });
        }
        Ok(period)
    }

    pub fn count(self) -> u32 {
        self.count
    }

    pub fn unit(self) -> PeriodUnit {
        self.unit
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.suffix())
    }
}

impl FromStr for Period {
    type Err = DelayError;

    fn from_str(text: &str) -> Result<Period, DelayError> {
        let wrong = || DelayError::NotAPeriod { input: text.to_owned() };
        let unit = PeriodUnit::ALL.into_iter().find(|unit| text.ends_with(unit.suffix())).ok_or_else(wrong)?;
        let digits = text.strip_suffix(unit.suffix()).unwrap_or(text).trim_end();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let count = digits.parse().map_err(|_| DelayError::TooLong { input: text.to_owned() })?;
        Period::new(count, unit)
    }
}

impl TryFrom<String> for Period {
    type Error = DelayError;

    fn try_from(text: String) -> Result<Period, DelayError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> String {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn periods_read_as_they_are_written() {
        for (text, count, unit) in [
            ("30m", 30, PeriodUnit::Minutes),
            ("24h", 24, PeriodUnit::Hours),
            ("5d", 5, PeriodUnit::Days),
            ("2 w", 2, PeriodUnit::Weeks),
            ("366d", 366, PeriodUnit::Days),
        ] {
            let period: Period = text.parse().expect(text);
            assert_eq!((period.count(), period.unit()), (count, unit), "{text}");
        }
    }

    #[test]
    fn what_is_no_period_is_refused_by_its_text() {
        for text in ["", "5", "m", "-5m", "+5m", "1.5h", "5 years", "5mo", "fünf d", "0x5m", "５d"] {
            let found = text.parse::<Period>();
            assert_eq!(found, Err(DelayError::NotAPeriod { input: text.to_owned() }), "{text:?}");
        }
        assert_eq!("0m".parse::<Period>(), Err(DelayError::Nothing { input: "0m".to_owned() }), "nothing");
        for text in ["367d", "53w", "527041m", "99999999999999999999h"] {
            assert_eq!(text.parse::<Period>(), Err(DelayError::TooLong { input: text.to_owned() }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(count in 1u32..=52, unit in 0usize..4) {
            let period = Period::new(count, PeriodUnit::ALL[unit]).expect("within bounds");
            prop_assert_eq!(period.to_string().parse::<Period>(), Ok(period));
            let json = serde_json::to_string(&period).expect("writes");
            prop_assert_eq!(serde_json::from_str::<Period>(&json).expect("reads"), period);
        }

        #[test]
        fn no_text_at_all_makes_it_panic(text in "\\PC{0,12}") {
            let read = text.parse::<Period>();
            prop_assert!(read.is_err() || text.ends_with(['m', 'h', 'd', 'w']), "{text:?}");
        }
    }
}
