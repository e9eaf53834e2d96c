//! A set of days of the week.
//!
//! Owns no state. Invariant: a [`DaySet`] has one day at least.

use std::fmt;

use jiff::civil::Weekday;
use serde::{Deserialize, Serialize};

use super::DelayError;

/// Monday first, as ISO 8601 counts.
pub const DAYS: [(Weekday, &str); 7] = [
    (Weekday::Monday, "monday"),
    (Weekday::Tuesday, "tuesday"),
    (Weekday::Wednesday, "wednesday"),
    (Weekday::Thursday, "thursday"),
    (Weekday::Friday, "friday"),
    (Weekday::Saturday, "saturday"),
    (Weekday::Sunday, "sunday"),
];

/// One or several days of the week; written as a list of their English names, whole or by three letters at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct DaySet {
    /// Bit 0 is Monday.
    bits: u8,
}

impl DaySet {
    pub const ALL: DaySet = DaySet { bits: 0b111_1111 };
    pub const MONDAY_TO_FRIDAY: DaySet = DaySet { bits: 0b001_1111 };
    pub const WEEKEND: DaySet = DaySet { bits: 0b110_0000 };

    pub fn new(days: impl IntoIterator<Item = Weekday>) -> Result<DaySet, DelayError> {
        let bits = days.into_iter().fold(0, |bits, day| bits | 1u8 << day.to_monday_zero_offset());
        if bits == 0 { Err(DelayError::NoDay) } else { Ok(DaySet { bits }) }
    }

    pub fn contains(self, day: Weekday) -> bool {
        self.bits >> day.to_monday_zero_offset() & 1 == 1
    }

    /// From Monday on.
    pub fn iter(self) -> impl Iterator<Item = Weekday> {
        DAYS.into_iter().map(|(day, _)| day).filter(move |day| self.contains(*day))
    }
}

/// The day with this English name, in any case, whole, in the plural or by its first three letters or more.
pub fn day_named(text: &str) -> Option<Weekday> {
    let lower = text.to_ascii_lowercase();
    let named = |name: &str| (lower.len() >= 3 && name.starts_with(&lower)) || lower.strip_suffix('s') == Some(name);
    DAYS.into_iter().find(|(_, name)| named(name)).map(|(day, _)| day)
}

impl fmt::Display for DaySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Vec::from(*self).join(", "))
    }
}

impl TryFrom<Vec<String>> for DaySet {
    type Error = DelayError;

    fn try_from(names: Vec<String>) -> Result<DaySet, DelayError> {
        let days: Result<Vec<Weekday>, DelayError> =
            names.into_iter().map(|name| day_named(&name).ok_or(DelayError::NotADay { input: name })).collect();
        DaySet::new(days?)
    }
}

impl From<DaySet> for Vec<String> {
    fn from(days: DaySet) -> Vec<String> {
        DAYS.into_iter().filter(|(day, _)| days.contains(*day)).map(|(_, name)| name.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(names: &[&str]) -> Result<DaySet, DelayError> {
        DaySet::try_from(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn days_are_named_whole_or_by_their_beginning() {
        assert_eq!(read(&["Fri", "monday", "TUES", "fridays"]).expect("days").to_string(), "monday, tuesday, friday");
        assert_eq!(read(&["sa"]), Err(DelayError::NotADay { input: "sa".to_owned() }), "two letters");
        assert_eq!(read(&["lundi"]), Err(DelayError::NotADay { input: "lundi".to_owned() }), "another language");
        assert_eq!(read(&["fridayss"]), Err(DelayError::NotADay { input: "fridayss".to_owned() }), "too much");
        assert_eq!(read(&[]), Err(DelayError::NoDay), "none");
        assert_eq!(DaySet::MONDAY_TO_FRIDAY.iter().count() + DaySet::WEEKEND.iter().count(), 7, "a week");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bits in 1u8..128) {
            let days = DaySet { bits };
            let json = serde_json::to_string(&days).expect("writes");
            prop_assert_eq!(serde_json::from_str::<DaySet>(&json).expect("reads"), days);
            prop_assert_eq!(DaySet::new(days.iter()), Ok(days));
        }
    }
}
