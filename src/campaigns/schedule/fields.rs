//! A schedule as written in a spec, and everything that is wrong with it.
//!
//! ```toml
//! [schedule]                               # none at all: now
//! at = "2026-12-01T18:00"                  # or with an offset, then without `zone`
//! # dates = ["2026-12-01T18:00", "2026-12-08T18:00"]
//! # every = "every friday 17:00"           # or a cron line: "0 17 * * fri"
//! # until = "2027-01-01T00:00"             # only for a recurrence
//! zone = "Europe/Paris"                    # or "contact": each contact's local time
//! default_zone = "Europe/Paris"            # of contacts without one; UTC, unless it is said
//! too_late = "2h"                          # a day, unless it is said
//! ```
//!
//! Owns no state. Invariant: [`ScheduleFields::resolve`] answers a schedule, or everything that is wrong at once.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::ScheduleError;
use super::launches::{Launch, LaunchZone, Schedule, Start, length};
use super::recurrence::Recurrence;
use crate::campaigns::instant::TOML_DATETIME;
use crate::campaigns::spec::{list_or_null, word};
use crate::clock::Timestamp;
use crate::flow::delay::Period;
use crate::flow::delay::civil::instant;
use crate::limits;

/// The word that stands for each contact's own zone.
pub const CONTACT_ZONE: &str = "contact";

/// A schedule as written; nothing in it has been read yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<TimeText>,
    #[serde(deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<TimeText>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<TimeText>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// With `zone = "contact"`: by whose clocks contacts without a zone go.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub default_zone: Option<String>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub too_late: Option<String>,
}

/// From when on a schedule must start something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    pub now: Timestamp,
    /// The last launch that was made or skipped; dates up to it are over, and no fault.
    pub settled: Option<Timestamp>,
}

impl Ahead {
    pub fn now(now: Timestamp) -> Ahead {
        Ahead { now, settled: None }
    }
}

/// A date and time as written: text, or TOML's own date-time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TimeText(pub String);

impl ScheduleFields {
    /// Whether it says when; without it a start is at once.
    pub fn is_planned(&self) -> bool {
        self.at.is_some() || !self.dates.is_empty() || self.every.is_some()
    }

    pub fn by_contact(&self) -> bool {
        self.is_planned() && self.zone.as_deref() == Some(CONTACT_ZONE)
    }

    /// The schedule, if it starts anything from `now` on.
    pub fn resolve(&self, now: Timestamp) -> Result<Schedule, Vec<ScheduleError>> {
        self.resolve_from(Ahead::now(now))
    }

    /// [`ScheduleFields::resolve`] for a schedule of which some launches may have been made.
    pub fn resolve_from(&self, ahead: Ahead) -> Result<Schedule, Vec<ScheduleError>> {
        let now = ahead.now;
        let mut wrong = self.contradictions();
        if let Some(name) = self.default_zone.as_deref() {
            match (read_zone(Some(name)), self.zone.as_deref()) {
                (Ok(Some(LaunchZone::Named(_))), Some(CONTACT_ZONE)) => {}
                (Ok(Some(LaunchZone::Named(_))), _) => wrong.push(ScheduleError::OnlyContact),
                _ => wrong.push(ScheduleError::UnknownZone { input: name.to_owned() }),
            }
        }
        let zone = kept(read_zone(self.zone.as_deref()), &mut wrong).flatten();
        let zone_is_read = self.zone.is_none() || zone.is_some();
        let too_late_after = self.too_late.as_ref().map_or(Some(limits::TOO_LATE_DEFAULT), |text| {
            let period = text.parse::<Period>().map_err(|_| ScheduleError::NotAPeriod { input: text.clone() });
            kept(period, &mut wrong).map(length)
        });
        let start = match (&self.every, zone_is_read) {
            // Without the zone it can be said which dates are none, and not which have passed.
            (every, false) => {
                if let Some(every) = every {
                    kept(every.parse::<Recurrence>(), &mut wrong);
                }
                let written =
                    self.at.iter().chain(self.dates.iter().take(limits::SCHEDULE_DATES_MAX)).chain(&self.until);
                for text in written {
                    kept(read_launch(&text.0, Some(&LaunchZone::Contact)), &mut wrong);
                }
                None
            }
            (Some(every), true) => self.recurring(every, zone, now, &mut wrong),
            (None, true) => self.dates(zone.as_ref(), ahead, &mut wrong),
        };
        match start {
            Some(start) if wrong.is_empty() => Ok(Schedule { start, too_late_after }),
            _ => Err(wrong),
        }
    }

    fn contradictions(&self) -> Vec<ScheduleError> {
        let mut wrong = Vec::new();
        let set = [("at", self.at.is_some()), ("dates", !self.dates.is_empty()), ("every", self.every.is_some())];
        let mut set = set.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name);
        if let Some(first) = set.next() {
            wrong.extend(set.map(|second| ScheduleError::Both { first, second }));
        }
        if self.until.is_some() && self.every.is_none() {
            wrong.push(ScheduleError::OnlyRecurring { field: "until" });
        }
        if self.dates.len() > limits::SCHEDULE_DATES_MAX {
            wrong.push(ScheduleError::TooManyDates { given: self.dates.len() });
        }
        wrong
    }

    fn dates(&self, zone: Option<&LaunchZone>, ahead: Ahead, wrong: &mut Vec<ScheduleError>) -> Option<Start> {
        let mut launches: BTreeMap<Timestamp, Launch> = BTreeMap::new();
        let mut none = true;
        for text in self.at.iter().chain(self.dates.iter().take(limits::SCHEDULE_DATES_MAX)) {
            none = false;
            let Some(launch) = kept(read_launch(&text.0, zone), wrong) else { continue };
            if ahead.settled.is_some_and(|settled| launch.at <= settled) {
                continue;
            }
            if launch.last() <= ahead.now {
                wrong.push(ScheduleError::Past { input: text.0.clone(), now: ahead.now });
            } else if launches.insert(launch.at, launch).is_some() {
                wrong.push(ScheduleError::NamedTwice { input: text.0.clone() });
            }
        }
        if none { Some(Start::Now) } else { Some(Start::Dates(launches.into_values().collect())) }
    }

    fn recurring(
        &self,
        every: &str,
        zone: Option<LaunchZone>,
        now: Timestamp,
        wrong: &mut Vec<ScheduleError>,
    ) -> Option<Start> {
        let recurrence = kept(every.parse::<Recurrence>(), wrong);
        let until = self.until.as_ref().and_then(|text| {
            let until = kept(read_launch(&text.0, zone.as_ref()), wrong)?.last();
            if until <= now {
                wrong.push(ScheduleError::Past { input: text.0.clone(), now });
            }
            Some(until)
        });
        let Some(zone) = zone else {
            wrong.push(ScheduleError::NoZone { input: every.to_owned() });
            return None;
        };
        let start = Start::Recurring { recurrence: recurrence?, zone, until };
        let schedule = Schedule { start, too_late_after: None };
        if let Some(until) = until.filter(|_| wrong.is_empty() && schedule.next_after(now).is_none()) {
            wrong.push(ScheduleError::NothingBefore { input: every.to_owned(), until });
        }
        Some(schedule.start)
    }
}

/// The value, or its fault among the others.
fn kept<T>(read: Result<T, ScheduleError>, wrong: &mut Vec<ScheduleError>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            wrong.push(error);
            None
        }
    }
}

fn read_zone(text: Option<&str>) -> Result<Option<LaunchZone>, ScheduleError> {
    match text {
        None => Ok(None),
        Some(CONTACT_ZONE) => Ok(Some(LaunchZone::Contact)),
        Some(name) => match TimeZone::get(name) {
            Ok(zone) if !zone.is_unknown() => Ok(Some(LaunchZone::Named(zone))),
            _ => Err(ScheduleError::UnknownZone { input: name.to_owned() }),
        },
    }
}

fn read_launch(text: &str, zone: Option<&LaunchZone>) -> Result<Launch, ScheduleError> {
    let input = || text.to_owned();
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return match zone {
            None => Ok(Launch::at(Timestamp(at.as_millisecond()))),
            Some(_) => Err(ScheduleError::ZoneTwice { input: input() }),
        };
    }
    let local: DateTime = text.parse().map_err(|_| ScheduleError::NotATime { input: input() })?;
    match zone {
        None => Err(ScheduleError::NoZone { input: input() }),
        Some(LaunchZone::Named(zone)) => Ok(Launch::at(instant(local, zone))),
        Some(LaunchZone::Contact) => Ok(Launch::local(local)),
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TimeText, D::Error> {
        deserializer.deserialize_any(TimeTextVisitor)
    }
}

struct TimeTextVisitor;

impl<'de> Visitor<'de> for TimeTextVisitor {
    type Value = TimeText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a date and time such as \"2026-12-01T18:00\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TimeText, E> {
        if text.chars().any(char::is_control) {
            return Err(E::invalid_value(de::Unexpected::Str(text), &self));
        }
        Ok(TimeText(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TimeText, A::Error> {
        match map.next_entry::<String, String>()? {
            Some((key, text)) if key == TOML_DATETIME => Ok(TimeText(text)),
            _ => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        Timestamp("2026-11-22T12:00:00Z".parse::<jiff::Timestamp>().expect("a time").as_millisecond())
    }

    fn resolve(toml: &str) -> Result<Schedule, Vec<ScheduleError>> {
        toml::from_str::<ScheduleFields>(toml).expect(toml).resolve(now())
    }

    fn first(toml: &str) -> String {
        let schedule = resolve(toml).expect(toml);
        schedule.next_after(now()).map_or_else(|| "none".to_owned(), |launch| launch.at.to_string())
    }

    #[test]
    fn every_way_to_write_a_schedule() {
        for (toml, expected) in [
            ("", "none"),
            ("too_late = '2h'", "none"),
            ("at = 2026-12-01T18:00:00+01:00", "2026-12-01T17:00:00Z"),
            ("at = '2026-12-01T18:00:00Z'", "2026-12-01T18:00:00Z"),
            ("at = '2026-12-01T18:00'\nzone = 'Europe/Paris'", "2026-12-01T17:00:00Z"),
            ("at = 2026-12-01T18:00:00\nzone = 'Asia/Kathmandu'", "2026-12-01T12:15:00Z"),
            ("at = '2026-12-01T18:00'\nzone = 'contact'", "2026-12-01T04:00:00Z"),
            ("dates = ['2026-12-08T18:00', '2026-12-01T18:00']\nzone = 'Europe/Paris'", "2026-12-01T17:00:00Z"),
            ("every = 'every friday 17:00'\nzone = 'Europe/Paris'", "2026-11-27T16:00:00Z"),
            ("every = '0 17 * * fri'\nzone = 'America/New_York'", "2026-11-27T22:00:00Z"),
            ("every = 'every friday 17:00'\nzone = 'contact'", "2026-11-27T03:00:00Z"),
            ("every = 'every day 09:00'\nzone = 'UTC'\nuntil = '2026-11-23T09:00'", "2026-11-23T09:00:00Z"),
        ] {
            assert_eq!(first(toml), expected, "{toml}");
        }
        let usual = resolve("").expect("reads").too_late_after;
        assert_eq!(usual, Some(limits::TOO_LATE_DEFAULT), "a day when nothing is said");
        let late = resolve("too_late = '1d'").expect("reads").too_late_after;
        assert_eq!(late, Some(std::time::Duration::from_secs(86_400)), "a day is 24 hours here");
    }

    #[test]
    fn each_fault_has_its_code_and_names_its_text() {
        for (toml, code, named) in [
            ("at = '2026-12-01T18:00'\nzone = 'Mars/Base'", "unknown_zone", "\"Mars/Base\""),
            ("at = '2026-12-01T18:00'\nzone = ''", "unknown_zone", "\"\""),
            ("at = '2026-12-01T18:00'\nzone = 'Etc/Unknown'", "unknown_zone", "\"Etc/Unknown\""),
            ("at = '2026-12-01T18:00'", "no_zone", "\"2026-12-01T18:00\""),
            ("every = 'every friday 17:00'", "no_zone", "\"every friday 17:00\""),
            ("at = '2026-12-01T18:00Z'\nzone = 'UTC'", "zone_twice", "\"2026-12-01T18:00Z\""),
            ("at = 'tomorrow'\nzone = 'UTC'", "bad_time", "\"tomorrow\""),
            ("at = '2026-02-30T18:00'\nzone = 'UTC'", "bad_time", "\"2026-02-30T18:00\""),
            ("at = '2026-11-22T12:00'\nzone = 'UTC'", "date_past", "\"2026-11-22T12:00\""),
            ("at = '2026-11-21T23:59'\nzone = 'contact'", "date_past", "\"2026-11-21T23:59\""),
            ("dates = ['2026-12-01T18:00Z', '2020-01-01T00:00Z']", "date_past", "\"2020-01-01T00:00Z\""),
            ("dates = ['2026-12-01T18:00Z', '2026-12-01T19:00+01:00']", "date_twice", "\"2026-12-01T19:00+01:00\""),
            ("at = '2026-12-01T18:00Z'\nevery = 'every day 09:00'\nzone = 'UTC'", "schedule_twice", "`every`"),
            ("at = '2026-12-01T18:00Z'\nuntil = '2027-01-01T00:00Z'", "not_recurring", "`until`"),
            ("every = 'every day 09:00'\nzone = 'UTC'\nuntil = '2026-11-22T13:00'", "no_launch", "\"every day 09:00\""),
            (
                "every = 'every day 09:00'\nzone = 'UTC'\nuntil = '2020-01-01T00:00'",
                "date_past",
                "\"2020-01-01T00:00\"",
            ),
            ("every = '0 0 30 2 *'\nzone = 'UTC'", "never_fires", "\"0 0 30 2 *\""),
            ("every = 'every blue moon'\nzone = 'UTC'", "bad_recurrence", "\"blue\""),
            ("too_late = 'a while'", "bad_period", "\"a while\""),
            ("at = '2026-12-01T18:00Z'\ndefault_zone = 'UTC'", "not_by_contact", "`default_zone`"),
            ("at = '2026-12-01T18:00'\nzone = 'contact'\ndefault_zone = 'Mars'", "unknown_zone", "\"Mars\""),
            ("at = '2026-12-01T18:00'\nzone = 'contact'\ndefault_zone = 'contact'", "unknown_zone", "\"contact\""),
        ] {
            let wrong = resolve(toml).expect_err(toml);
            assert_eq!(wrong.iter().map(ScheduleError::code).collect::<Vec<_>>(), [code], "{toml}");
            assert!(wrong[0].to_string().contains(named), "{toml}: {}", wrong[0]);
        }
        let many = format!("dates = [{}]", "'2026-12-01T18:00Z',".repeat(limits::SCHEDULE_DATES_MAX + 1));
        let wrong = resolve(&many).expect_err("too many");
        assert_eq!(wrong[0], ScheduleError::TooManyDates { given: limits::SCHEDULE_DATES_MAX + 1 }, "bounded");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let toml = "dates = ['x', '2020-01-01T00:00']\nzone = 'UTC'\ntoo_late = '0m'\nuntil = 'y'";
        let codes: Vec<&str> = resolve(toml).expect_err("wrong").iter().map(ScheduleError::code).collect();
        assert_eq!(codes, ["not_recurring", "bad_period", "bad_time", "date_past"], "each");
        let toml = "every = 'blursday 17:00'\nzone = 'Mars/Base'";
        let codes: Vec<&str> = resolve(toml).expect_err("wrong").iter().map(ScheduleError::code).collect();
        assert_eq!(codes, ["unknown_zone", "bad_recurrence"], "both");
    }

    #[test]
    fn a_local_date_is_ahead_as_long_as_it_is_for_somebody() {
        // 09:00 is over in Paris and ahead in New York.
        let schedule = resolve("at = '2026-11-22T09:00'\nzone = 'contact'").expect("ahead for some");
        let Start::Dates(launches) = schedule.start else { panic!("a date") };
        assert!(launches[0].at < now() && launches[0].last() > now(), "begun, and not over");
    }

    #[test]
    fn dates_whose_launches_were_made_are_no_fault() {
        let toml = "dates = ['2026-11-20T09:00', '2026-11-21T09:00', '2026-12-01T09:00']\nzone = 'UTC'";
        let fields: ScheduleFields = toml::from_str(toml).expect(toml);
        let settled = Some(Timestamp(now().0 - 51 * 3_600_000));
        let wrong = fields.resolve_from(Ahead { now: now(), settled }).expect_err("the second was never made");
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        let settled = Some(Timestamp(now().0 - 27 * 3_600_000));
        let left = fields.resolve_from(Ahead { now: now(), settled }).expect("one is ahead");
        assert_eq!(left.first(now()).map(|l| l.at.to_string()).as_deref(), Some("2026-12-01T09:00:00Z"), "the third");
    }

    #[test]
    fn what_is_written_reads_back_and_unknown_fields_are_refused() {
        let toml = "every = 'every friday 17:00'\nzone = 'contact'\nuntil = 2027-01-01T00:00:00\ntoo_late = '2h'";
        let fields: ScheduleFields = toml::from_str(toml).expect("reads");
        let json = serde_json::to_string(&fields).expect("writes");
        assert_eq!(serde_json::from_str::<ScheduleFields>(&json).expect("reads"), fields, "{json}");
        assert!(toml::from_str::<ScheduleFields>("evry = 'x'").is_err(), "a slip of the pen");
    }

    proptest! {
        #[test]
        fn no_text_at_all_makes_it_panic(
            at in proptest::option::of("[-0-9T:Z+.]{0,24}"),
            every in proptest::option::of("\\PC{0,24}"),
            zone in proptest::option::of(prop_oneof![Just("UTC".to_owned()), Just("contact".to_owned()), "\\PC{0,12}".boxed()]),
            late in proptest::option::of("[0-9]{0,12}[mhdw]"),
        ) {
            let at = at.map(TimeText);
            let fields = ScheduleFields { at, every, zone, too_late: late, ..ScheduleFields::default() };
            match fields.resolve(now()) {
                Ok(schedule) => {
                    let starts = matches!(schedule.start, Start::Now)
                        || schedule.next_after(now()).is_some()
                        || matches!(&schedule.start, Start::Dates(dates) if dates.iter().any(|d| d.last() > now()));
                    prop_assert!(starts, "it starts something: {fields:?}");
                }
                Err(wrong) => prop_assert!(!wrong.is_empty(), "it says what is wrong"),
            }
        }
    }
}
