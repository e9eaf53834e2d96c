//! Delays: contacts rest until a time of their own, or until something happens to them.
//!
//! | delay | until |
//! |---|---|
//! | [`Delay::Seconds`] | so many seconds after each contact's arrival |
//! | [`Delay::Until`] | an instant, the same for all |
//! | [`Delay::Event`] | something happens to the contact, or a time after its arrival |
//! | [`Delay::Clock`] | a period of the calendar, days of the week or a date, by the clocks of a zone or of each contact |
//! | [`Delay::Dated`] | the same, and not before an instant: a dated start of what was published just now |
//! | [`Delay::Launch`] | the time of day for which the run was launched, by each contact's own clocks |
//!
//! Instants are computed for sets: once, or once per zone. Who arrives too late for a date passes at once.

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::clock::Timestamp;
use crate::flow::delay;
use crate::flow::graph::{Exit, NodeId};
use crate::limits;

/// By which leave those to whom it happened.
pub const HAPPENED: Exit = Exit(std::borrow::Cow::Borrowed("happened"));
/// By which leave those to whom it did not.
pub const TIMED_OUT: Exit = Exit(std::borrow::Cow::Borrowed("timed_out"));
/// By which leave those whose own time of the launch had passed for too long.
pub const LATE: Exit = Exit(std::borrow::Cow::Borrowed("late"));

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEvent {
    Opened(NodeId),
    Clicked(NodeId),
    /// A conversion of any name that is reported about the message, by a person.
    Converted(NodeId),
    /// An event of the sender's own, by its type: one that is reported about the message of a send or, without a send, any
    /// of the contact that comes while the run goes on.
    Custom {
        name: String,
        of: Option<NodeId>,
    },
}

impl WaitEvent {
    /// The send whose message it must be about, if it is about one.
    pub fn send(&self) -> Option<NodeId> {
        match self {
            WaitEvent::Opened(node) | WaitEvent::Clicked(node) | WaitEvent::Converted(node) => Some(*node),
            WaitEvent::Custom { of, .. } => *of,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            WaitEvent::Opened(_) => "opened",
            WaitEvent::Clicked(_) => "clicked",
            WaitEvent::Converted(_) => "converted",
            WaitEvent::Custom { name, .. } => name,
        }
    }
}

/// Types of events that have a meaning of their own: the messages' own links tell them, providers do, or they are conversions.
const NOT_OWN: [&str; 7] = ["opened", "clicked", "unsubscribed", "delivered", "bounced", "complained", "converted"];

/// Whether a sender can report events of this type as those of its own.
pub fn is_own_event(name: &str) -> bool {
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    begins && is_plain && name.len() <= limits::EVENT_TYPE_BYTES_MAX && !NOT_OWN.contains(&name)
}

/// Whose clocks a delay goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelayZone {
    /// The same for all: an IANA name.
    Named(String),
    /// Each contact's own; UTC for those without one.
    Contact,
}

impl DelayZone {
    /// `contact`, or the name of a zone.
    pub fn named(name: &str) -> DelayZone {
        if name == CONTACT_ZONE { DelayZone::Contact } else { DelayZone::Named(name.to_owned()) }
    }

    pub fn name(&self) -> &str {
        match self {
            DelayZone::Named(name) => name,
            DelayZone::Contact => CONTACT_ZONE,
        }
    }
}

/// The word that stands for each contact's own zone.
pub const CONTACT_ZONE: &str = "contact";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delay {
    /// So many seconds from each contact's arrival.
    Seconds(u32),
    /// Until this instant, in milliseconds since the epoch; who comes later passes at once.
    Until(i64),
    /// Until it happened, and at most so many seconds from each contact's arrival.
    Event { event: WaitEvent, seconds: u32 },
    /// By the clocks of a zone.
    Clock { wait: delay::Delay, zone: DelayZone },
    /// By the clocks of a zone, and never before this instant, in milliseconds since the epoch.
    Dated { wait: delay::Delay, zone: DelayZone, not_before: i64 },
    /// Until the time of day for which the run was launched, by each contact's own clocks; who is too late for it leaves
    /// by `late`. In a run that was launched at one instant for all, everybody passes at once.
    Launch,
}

impl Delay {
    pub fn exits(&self) -> Vec<Exit> {
        match self {
            Delay::Seconds(_) | Delay::Until(_) | Delay::Clock { .. } | Delay::Dated { .. } | Delay::Launch => {
                vec![Exit::NEXT]
            }
            Delay::Event { .. } => vec![HAPPENED, TIMED_OUT],
        }
    }

    pub fn optional_exits(&self) -> Vec<Exit> {
        if matches!(self, Delay::Launch) { vec![LATE] } else { Vec::new() }
    }

    /// The exit of those whose time has come.
    pub fn due_exit(&self) -> Exit {
        match self {
            Delay::Event { .. } => TIMED_OUT,
            Delay::Seconds(_) | Delay::Until(_) | Delay::Clock { .. } | Delay::Dated { .. } | Delay::Launch => {
                Exit::NEXT
            }
        }
    }

    /// When somebody who arrives at `now` leaves, if that is the same in every zone; `None` if each contact's own clocks
    /// must be asked.
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Delay::Seconds(seconds) | Delay::Event { seconds, .. } => {
                Some(Timestamp(now.0.saturating_add(i64::from(*seconds) * 1_000)))
            }
            Delay::Until(at) => Some(Timestamp(*at)),
            Delay::Clock { .. } | Delay::Dated { .. } => {
                let (wait, zone) = self.clock()?;
                match zone {
                    DelayZone::Named(name) => self.due_by(now, &zone_named(name)),
                    DelayZone::Contact if !wait.depends_on_zone() => self.due_by(now, &jiff::tz::TimeZone::UTC),
                    DelayZone::Contact => None,
                }
            }
            Delay::Launch => None,
        }
    }

    /// What a wait by clocks waits for, and by whose.
    pub fn clock(&self) -> Option<(&delay::Delay, &DelayZone)> {
        match self {
            Delay::Clock { wait, zone } | Delay::Dated { wait, zone, .. } => Some((wait, zone)),
            Delay::Seconds(_) | Delay::Until(_) | Delay::Event { .. } | Delay::Launch => None,
        }
    }

    /// When somebody who arrives at `now` leaves by these clocks; `None` if no clocks are asked.
    pub fn due_by(&self, now: Timestamp, zone: &jiff::tz::TimeZone) -> Option<Timestamp> {
        let (wait, _) = self.clock()?;
        let due = delay::due(now, zone, wait);
        Some(if let Delay::Dated { not_before, .. } = self { due.max(Timestamp(*not_before)) } else { due })
    }

    /// The same delay as a start that was published just now makes it: nobody leaves before this instant.
    pub fn not_before(self, earliest: Timestamp) -> Delay {
        match self {
            Delay::Until(at) => Delay::Until(at.max(earliest.0)),
            Delay::Clock { wait, zone } => Delay::Dated { wait, zone, not_before: earliest.0 },
            other => other,
        }
    }

    /// Whether time must pass between arrival and departure: a date that is over is passed at once.
    pub fn always_waits(&self) -> bool {
        match self {
            Delay::Seconds(_) | Delay::Event { .. } => true,
            Delay::Clock { wait, .. } | Delay::Dated { wait, .. } => !matches!(wait, delay::Delay::Date(_)),
            Delay::Until(_) | Delay::Launch => false,
        }
    }

    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Delay::Seconds(seconds) | Delay::Event { seconds, .. }
                if *seconds == 0 || *seconds > limits::WAIT_SECONDS_MAX =>
            {
                let message = format!("the wait is {seconds} seconds, and 1 to {} may be", limits::WAIT_SECONDS_MAX);
                vec![Fault::new("wait_length", message, "set a length within these bounds")]
            }
            Delay::Event { event: WaitEvent::Custom { name, .. }, .. } if !is_own_event(name) => {
                let message = format!("{name:?} is no type of events of a sender's own");
                let fix = "name the type that is reported, such as \"purchase\": a letter, then letters, digits, '_', '-', '.'";
                vec![Fault::new("event_type", message, fix)]
            }
            Delay::Clock { zone: DelayZone::Named(name), .. } | Delay::Dated { zone: DelayZone::Named(name), .. }
                if known_zone(name).is_none() =>
            {
                let message = format!("{name:?} is no time zone");
                let fix = "write an IANA name such as \"Europe/Paris\", or \"contact\" for each contact's own";
                vec![Fault::new("unknown_zone", message, fix)]
            }
            _ => Vec::new(),
        }
    }
}

/// The second (since the epoch) at which somebody who is due at an instant may leave: never early.
pub fn due_second(due: Timestamp) -> i64 {
    due.0.div_euclid(1_000) + i64::from(due.0.rem_euclid(1_000) != 0)
}

pub fn known_zone(name: &str) -> Option<jiff::tz::TimeZone> {
    jiff::tz::TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())
}

/// A zone that was known when the graph was made; should the machine have forgotten it since, UTC.
pub fn zone_named(name: &str) -> jiff::tz::TimeZone {
    known_zone(name).unwrap_or(jiff::tz::TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_without_zones_is_as_long_as_it_says_and_ends_on_a_whole_second() {
        for now in [0, 1, 999, 1_000, 59_999, 1_795_000_123_456] {
            assert_eq!(Delay::Seconds(30).due(Timestamp(now)), Some(Timestamp(now + 30_000)), "{now}");
            let second = due_second(Timestamp(now));
            assert!((0..1_000).contains(&(second * 1_000 - now)), "{now}: never early, late by less than a second");
        }
        assert_eq!(Delay::Until(10_500).due(Timestamp(0)).map(due_second), Some(11), "in the middle of a second");
    }

    #[test]
    fn a_clock_of_one_zone_needs_no_contacts_and_one_of_each_contact_does() {
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond());
        let day = |zone| Delay::Clock { wait: delay::Delay::Period("1d".parse().expect("a day")), zone };
        let now = at("2026-03-28T09:00:00Z");
        let paris = day(DelayZone::named("Europe/Paris"));
        assert_eq!(paris.due(now), Some(at("2026-03-29T08:00:00Z")), "a day of the calendar over the spring change");
        assert_eq!(day(DelayZone::named("contact")).due(now), None, "each contact's own");
        let hours =
            Delay::Clock { wait: delay::Delay::Period("24h".parse().expect("hours")), zone: DelayZone::Contact };
        assert_eq!(hours.due(now), Some(at("2026-03-29T09:00:00Z")), "24 hours are 24 hours everywhere");
        assert_eq!(paris.faults(), [], "sound");
        let mars = day(DelayZone::named("Mars/Base")).faults();
        assert_eq!(mars.iter().map(|f| f.code).collect::<Vec<_>>(), ["unknown_zone"], "{mars:?}");
    }

    #[test]
    fn parameters_read_back_from_json_and_message_pack() {
        let wait = delay::Delay::Weekdays { days: delay::DaySet::WEEKEND, at: "09:30".parse().expect("a time") };
        for one in [
            Delay::Clock { wait, zone: DelayZone::Contact },
            Delay::Clock {
                wait: delay::Delay::Date("2026-12-24T18:00".parse().expect("a date")),
                zone: DelayZone::named("Asia/Kathmandu"),
            },
            Delay::Launch,
            Delay::Dated {
                wait: delay::Delay::Moment("saturday 10:00".parse().expect("a moment")),
                zone: DelayZone::Contact,
                not_before: 5,
            },
        ] {
            let json = serde_json::to_string(&one).expect("JSON");
            assert_eq!(serde_json::from_str::<Delay>(&json).expect("reads"), one, "{json}");
            let bytes = rmp_serde::to_vec(&one).expect("bytes");
            assert_eq!(rmp_serde::from_slice::<Delay>(&bytes).expect("reads"), one, "MessagePack");
        }
    }

    #[test]
    fn a_wait_of_no_time_or_of_ages_is_refused() {
        let event = WaitEvent::Opened(NodeId(1));
        for seconds in [0, limits::WAIT_SECONDS_MAX + 1] {
            assert_eq!(Delay::Seconds(seconds).faults().len(), 1, "{seconds}");
            assert_eq!(Delay::Event { event: event.clone(), seconds }.faults().len(), 1, "{seconds}");
        }
        for (name, sound) in
            [("Order.placed-2", true), ("opened", false), ("converted", false), ("", false), ("a b", false)]
        {
            let event = WaitEvent::Custom { name: name.to_owned(), of: None };
            let codes: Vec<_> = Delay::Event { event, seconds: 5 }.faults().iter().map(|fault| fault.code).collect();
            assert_eq!(codes, if sound { vec![] } else { vec!["event_type"] }, "{name:?}");
        }
        assert_eq!(Delay::Seconds(1).faults(), [], "a second");
    }
}
