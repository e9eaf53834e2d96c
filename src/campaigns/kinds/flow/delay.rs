//! `kind = "delay"`: whoever comes rests, exactly one of
//!
//! ```toml
//! for = "2d"                                        # from each contact's arrival: s, m, h, d, w; a day is 24 hours …
//! for = "2d"; zone = "Europe/Paris"                 # … or one of the calendar, by the clocks of a zone
//! weekdays = ["tuesday", "friday"]; at = "09:00"    # the next of these; today only if the hour is ahead
//! date = 2027-01-01T09:00:00; zone = "contact"      # by each contact's own clocks; who comes later passes at once
//! until = 2027-01-01T09:00:00+01:00                 # an instant, the same for all; who comes later passes at once
//! event = "opened"; of = "welcome"; timeout = "5d"  # opened, clicked, converted; ways out: "happened", "timed_out"
//! event = "custom"; type = "purchase"; timeout = "5d"  # one that you report: of the contact or, with `of`, about that message
//! ```
//!
//! An event that came before the contact came to the delay has happened: an open since the message was sent, one of your own
//! since the run began.
//!
//! `zone` is an IANA name, by default UTC, or `contact`: each contact's own.

use jiff::civil::{DateTime, Time};
use serde::Deserialize;

use super::assemble::{Assembled, Context};
use crate::campaigns::kinds::planned::clocks_change;
use crate::campaigns::validate::Problem;
use crate::clock::Timestamp;
use crate::flow::NodeKind;
use crate::flow::delay::{DaySet, Delay as Wait, Period};
use crate::flow::nodes::delay::zone_named;
use crate::flow::nodes::{Delay, DelayZone, WaitEvent};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Opened,
    Clicked,
    Converted,
    Custom,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    #[serde(rename = "for")]
    period: Option<String>,
    weekdays: Option<DaySet>,
    at: Option<Time>,
    date: Option<DateTime>,
    zone: Option<String>,
    #[serde(with = "crate::campaigns::instant")]
    until: Option<Timestamp>,
    event: Option<Event>,
    #[serde(rename = "type")]
    of_type: Option<String>,
    of: Option<String>,
    timeout: Option<String>,
}

impl Keys {
    fn zone(&self) -> DelayZone {
        DelayZone::named(self.zone.as_deref().unwrap_or("UTC"))
    }

    /// Keys that belong to another way to wait.
    fn beside(&self) -> Vec<&'static str> {
        let by_clock = self.period.is_some() || self.weekdays.is_some() || self.date.is_some();
        let given = [
            ("at", self.at.is_some() && self.weekdays.is_none()),
            ("zone", self.zone.is_some() && !by_clock),
            ("of", self.of.is_some() && self.event.is_none()),
            ("type", self.of_type.is_some() && self.event != Some(Event::Custom)),
            ("timeout", self.timeout.is_some() && self.event.is_none()),
        ];
        given.into_iter().filter(|(_, beside)| *beside).map(|(key, _)| key).collect()
    }
}

pub(super) fn kind(context: &mut Context<'_>) -> Option<NodeKind> {
    let keys = context.read::<Keys>()?;
    let beside = keys.beside();
    if !beside.is_empty() {
        let message = format!("this delay has no {}", beside.join(" and no "));
        context.refuse("wrong_key", "", message, "remove the key, or wait for something else");
    }
    let clock = |wait: Wait| Delay::Clock { wait, zone: keys.zone() };
    let delay = match (&keys.period, keys.weekdays, keys.date, keys.until, keys.event) {
        (Some(text), None, None, None, None) => match &keys.zone {
            None => Delay::Seconds(context.seconds("for", text)?),
            Some(_) => match text.parse::<Period>() {
                Ok(period) => clock(Wait::Period(period)),
                Err(error) => {
                    context.refuse("bad_length", "for", error.to_string(), "write it as \"24h\", \"2d\" or \"1w\"");
                    return None;
                }
            },
        },
        (None, Some(days), None, None, None) => {
            let Some(at) = keys.at else {
                context.refuse("no_time", "at", "the days have no hour", "set at, such as \"09:00\"");
                return None;
            };
            clock(Wait::Weekdays { days, at })
        }
        (None, None, Some(date), None, None) => clock(Wait::Date(date)),
        (None, None, None, Some(at), None) => Delay::Until(at.0),
        (None, None, None, None, Some(event)) => for_event(context, &keys, event)?,
        _ => {
            let message = "a delay has one thing to wait for";
            context.refuse("delay_for", "", message, "set exactly one of for, weekdays, date, until and event");
            return None;
        }
    };
    beside.is_empty().then_some(NodeKind::Delay(delay))
}

fn for_event(context: &mut Context<'_>, keys: &Keys, event: Event) -> Option<Delay> {
    let seconds = match &keys.timeout {
        Some(text) => context.seconds("timeout", text),
        None => {
            context.refuse("no_length", "timeout", "the wait has no end", "set timeout, such as \"5d\"");
            None
        }
    };
    let of = keys.of.as_deref();
    let event = match event {
        Event::Opened => context.named("of", of).map(WaitEvent::Opened),
        Event::Clicked => context.named("of", of).map(WaitEvent::Clicked),
        Event::Converted => context.named("of", of).map(WaitEvent::Converted),
        Event::Custom => custom(context, keys),
    };
    Some(Delay::Event { event: event?, seconds: seconds? })
}

fn custom(context: &mut Context<'_>, keys: &Keys) -> Option<WaitEvent> {
    // Whose message it is about may be left open.
    let of = keys.of.as_deref().map(|of| context.named("of", Some(of)));
    let Some(name) = keys.of_type.clone() else {
        let fix = "set type to that of the events that you report, such as \"purchase\"";
        context.refuse("no_event_type", "type", "it is not said what is waited for", fix);
        return None;
    };
    Some(WaitEvent::Custom { name, of: of.map_or(Some(None), |of| of.map(Some))? })
}

/// Dates that have passed let everybody go on at once: a warning.
pub(super) fn problems(made: &Assembled, now: Timestamp, found: &mut Vec<Problem>) {
    for node in &made.parts.nodes {
        let past = match &node.kind {
            NodeKind::Delay(Delay::Until(at)) => *at <= now.0,
            NodeKind::Delay(Delay::Clock { wait, zone: DelayZone::Named(name) }) => {
                wait.check(now, &zone_named(name)).is_err()
            }
            _ => false,
        };
        if let (Some(at), NodeKind::Delay(Delay::Clock { wait: Wait::Date(date), zone: DelayZone::Named(zone) })) =
            (made.place(node.id), &node.kind)
            && let Some((code, message)) = clocks_change(*date, zone)
        {
            let fix = "fine, or choose an hour that every day has once";
            found.push(Problem::warning(code, format!("nodes.{at}"), message, fix).of_node(made.key_at(at)));
        }
        if let Some(at) = made.place(node.id).filter(|_| past) {
            let message = format!("{:?} waits for a date that has passed: everybody goes on at once", node.name);
            let fix = "set a later date, or remove the delay";
            found.push(Problem::warning("date_past", format!("nodes.{at}"), message, fix).of_node(made.key_at(at)));
        }
    }
}
