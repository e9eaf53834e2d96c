//! Times of day to instants and back.
//!
//! Owns no state. The rule for changes of clocks, everywhere in flows and schedules (that of RFC 5545 and of jiff's
//! *compatible*): a time that the clocks skip is moved on by the length of the gap, so that 02:30 becomes 03:30; of a time
//! that they repeat the first is meant. Invariant: an instant beyond the years −9999 to 9999 is before, or after,
//! everything; nothing here fails.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::clock::Timestamp;

/// What the clocks of the zone show at the instant; the end of the calendar if it lies beyond.
pub fn local(at: Timestamp, zone: &TimeZone) -> DateTime {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(at) => zone.to_datetime(at),
        Err(_) if at.0 < 0 => DateTime::MIN,
        Err(_) => DateTime::MAX,
    }
}

/// When the clocks of the zone show this time, by the rule above; milliseconds are cut off.
pub fn instant(at: DateTime, zone: &TimeZone) -> Timestamp {
    match zone.to_timestamp(at) {
        Ok(instant) => Timestamp(instant.as_millisecond()),
        Err(_) if at.year() < 0 => Timestamp(i64::MIN),
        Err(_) => Timestamp(i64::MAX),
    }
}

/// The second time that the clocks show this time, if they repeat it.
pub fn repeated(at: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    match ambiguous.offset() {
        AmbiguousOffset::Fold { .. } => ambiguous.later().ok().map(|later| Timestamp(later.as_millisecond())),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => None,
    }
}

/// Whether the clocks of the zone skip this time; what is planned then is moved on, which a person may want to know.
pub fn is_skipped(at: DateTime, zone: &TimeZone) -> bool {
    matches!(zone.to_ambiguous_timestamp(at).offset(), AmbiguousOffset::Gap { .. })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect(name)
    }

    pub(crate) fn utc(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
    }

    pub(crate) fn time(text: &str) -> DateTime {
        text.parse().expect(text)
    }

    #[test]
    fn skipped_times_move_on_and_repeated_ones_are_the_first() {
        for (name, local_time, expected, second) in [
            ("Europe/Paris", "2026-03-29T02:30", "2026-03-29T01:30:00Z", None),
            ("Europe/Paris", "2026-10-25T02:30", "2026-10-25T00:30:00Z", Some("2026-10-25T01:30:00Z")),
            ("America/New_York", "2026-03-08T02:00", "2026-03-08T07:00:00Z", None),
            ("America/New_York", "2026-11-01T01:59", "2026-11-01T05:59:00Z", Some("2026-11-01T06:59:00Z")),
            // Half an hour only, and in the southern summer.
            ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:45:00Z", None),
            ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45:00Z", Some("2026-04-04T15:15:00Z")),
            // No change at all, but an offset of a quarter of an hour.
            ("Asia/Kathmandu", "2026-03-29T02:30", "2026-03-28T20:45:00Z", None),
            // An hour back for Ramadan, 15 February to 22 March 2026.
            ("Africa/Casablanca", "2026-02-15T02:30", "2026-02-15T01:30:00Z", Some("2026-02-15T02:30:00Z")),
            ("Africa/Casablanca", "2026-03-22T02:30", "2026-03-22T02:30:00Z", None),
            // A day that never was.
            ("Pacific/Apia", "2011-12-30T10:00", "2011-12-30T20:00:00Z", None),
        ] {
            let zone = zone(name);
            assert_eq!(instant(time(local_time), &zone), utc(expected), "{local_time} in {name}");
            assert_eq!(repeated(time(local_time), &zone), second.map(utc), "{local_time} again in {name}");
        }
        assert_eq!(local(utc("2026-03-29T01:30:00Z"), &zone("Europe/Paris")), time("2026-03-29T03:30"), "and back");
    }

    #[test]
    fn a_time_that_the_clocks_skip_can_be_told() {
        let paris = zone("Europe/Paris");
        assert!(is_skipped(time("2026-03-29T02:30"), &paris), "in the gap");
        assert!(!is_skipped(time("2026-03-29T03:00"), &paris), "behind it");
        assert!(!is_skipped(time("2026-10-25T02:30"), &paris), "repeated, and not skipped");
    }

    #[test]
    fn what_is_beyond_the_calendar_is_before_or_after_everything() {
        let paris = zone("Europe/Paris");
        assert_eq!(local(Timestamp(i64::MAX), &paris), DateTime::MAX, "after");
        assert_eq!(local(Timestamp(i64::MIN), &paris), DateTime::MIN, "before");
        assert_eq!(instant(DateTime::MAX, &zone("Etc/GMT+12")), Timestamp(i64::MAX), "after");
        assert_eq!(instant(DateTime::MIN, &zone("Etc/GMT-14")), Timestamp(i64::MIN), "before");
    }
}
