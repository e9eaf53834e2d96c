//! Events on the wire → the engine's, and its words back. Owns no state.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde_json::{Value as Json, json};

use crate::api::adapter::{Adapter, properties};
use crate::api::errors::Code;
use crate::api::port::{EventTypeView, EventsPort, NewEvent, PortError, PortResult};
use crate::engine::Engine;
use crate::engine::events::{Event, EventFault, EventKind, Taken};
use crate::ids::{Channel, ContactRow};
use crate::ledger::events::{BounceClass, TypeMemory};
use crate::ledger::tracking::EventClass;
use crate::limits::{EVENT_ID_BYTES_MAX, EVENT_TYPE_BYTES_MAX, NAME_BYTES_MAX};

/// What comes by tracked links alone: nobody else can say who opened, clicked or left.
const BY_LINKS: [&str; 3] = ["opened", "clicked", "unsubscribed"];

fn invalid(message: String) -> PortError {
    PortError::new(Code::EventInvalid, message)
}

fn kind(event: &NewEvent) -> PortResult<EventKind> {
    let class = event.class.as_deref();
    let classes = |names: &str| {
        invalid(match class {
            None => format!("class is missing, and must be one of {names}"),
            Some(class) => format!("class is {class:?}, and must be one of {names}"),
        })
    };
    let kind = match event.kind.as_str() {
        "bounced" => {
            let class = class.and_then(BounceClass::from_name).ok_or_else(|| classes("hard, soft, policy"))?;
            return Ok(EventKind::Bounced(class));
        }
        "converted" => {
            let named = |name: &str| EventClass::ALL.into_iter().find(|c| c.name() == name);
            let class =
                class.map_or(Some(EventClass::Human), named).ok_or_else(|| classes("human, suspect, machine"))?;
            return Ok(EventKind::Converted(class));
        }
        "delivered" => EventKind::Delivered,
        "complained" => EventKind::Complained,
        name if BY_LINKS.contains(&name) => {
            return Err(invalid(format!("{name} comes by the message's own links and is not taken from outside")));
        }
        name => {
            let may_begin = name.starts_with(|c: char| c.is_ascii_alphabetic());
            let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
            if !may_begin || !is_plain || name.len() > EVENT_TYPE_BYTES_MAX {
                let most = EVENT_TYPE_BYTES_MAX;
                let message = format!(
                    "type is {name:?}, and must be a letter, then letters, digits, '_', '-', '.', at most {most}"
                );
                return Err(invalid(message));
            }
            EventKind::Custom(name.to_owned())
        }
    };
    match class {
        None => Ok(kind),
        Some(_) => Err(invalid(format!("an event of type {} has no class", event.kind))),
    }
}

fn event(new: NewEvent) -> PortResult<Event> {
    if new.id.is_empty() || new.id.len() > EVENT_ID_BYTES_MAX {
        return Err(invalid(format!("id must have 1 to {EVENT_ID_BYTES_MAX} bytes")));
    }
    let kind = kind(&new)?;
    let names = [("contact", &new.contact), ("message_id", &new.message_id), ("campaign", &new.campaign)];
    for (field, text) in names {
        if text.as_ref().is_some_and(|text| text.trim().is_empty() || text.len() > NAME_BYTES_MAX) {
            return Err(invalid(format!("{field} must have 1 to {NAME_BYTES_MAX} bytes, or be left out")));
        }
    }
    let channel = match new.channel.as_deref() {
        None => None,
        Some(name) => Some(Channel::from_name(name).ok_or_else(|| invalid(format!("{name:?} is not a channel")))?),
    };
    let conversion = matches!(kind, EventKind::Converted(_));
    let worth = if conversion { properties::worth(new.properties.as_ref())? } else { None };
    Ok(Event {
        properties: properties::kept(new.properties.as_ref(), conversion),
        worth,
        id: new.id,
        kind,
        contact: new.contact,
        message_id: new.message_id,
        campaign: new.campaign,
        channel,
        at: new.time.map(|time| time.0),
    })
}

fn refusal(fault: &EventFault) -> PortError {
    let code = match fault {
        EventFault::NoSubject | EventFault::NoMessage => Code::EventNoSubject,
        EventFault::ForeignMessage => Code::EventForeignMessage,
        EventFault::NoContact { .. } => Code::ContactNotFound,
        EventFault::NoCampaign { .. } => Code::CampaignNotFound,
        EventFault::OtherCampaign { .. } => Code::EventOtherCampaign,
        EventFault::OtherContact { .. } => Code::EventOtherContact,
        EventFault::NotSent => Code::EventNotSent,
        EventFault::Future | EventFault::TooOld => Code::EventTime,
        EventFault::TooManyTypes { .. } => Code::EventTypesFull,
    };
    PortError::new(code, fault.to_string())
}

impl EventsPort for Adapter {
    fn take_events(&self, events: Vec<NewEvent>) -> PortResult<Vec<PortResult<bool>>> {
        let mut sorted = Vec::with_capacity(events.len());
        let mut good = Vec::with_capacity(events.len());
        for new in events {
            match event(new) {
                Ok(event) => {
                    good.push(event);
                    sorted.push(None);
                }
                Err(error) => sorted.push(Some(error)),
            }
        }
        let mut taken = self.engine.take_events(&good)?.into_iter();
        let words = sorted.into_iter().map(|error| match error {
            Some(error) => Err(error),
            None => match taken.next() {
                Some(Taken::Accepted) => Ok(true),
                Some(Taken::Duplicate) => Ok(false),
                Some(Taken::Refused(fault)) => Err(refusal(&fault)),
                None => Err(PortError::new(Code::Internal, "the engine said nothing of this event")),
            },
        });
        Ok(words.collect())
    }

    fn event_types(&self) -> PortResult<Vec<EventTypeView>> {
        let state = self.engine.book.read();
        let view = |(name, memory): (&str, &TypeMemory)| EventTypeView {
            kind: name.to_owned(),
            events: memory.total(),
            contacts: memory.contacts().len(),
            last_day: memory.last_day().map(day_text),
            properties: state
                .events
                .properties
                .of_type(name)
                .map(|(property, values)| (property.to_owned(), values.len() as u64))
                .collect(),
        };
        Ok(state.events.behaviour.types().map(view).collect())
    }
}

/// `2026-11-22`.
fn day_text(day: i32) -> String {
    let at = jiff::Timestamp::from_second(i64::from(day) * 86_400);
    at.map_or_else(|_| String::new(), |at| at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
}

/// What a contact did, by type: how often, and when last. For its export.
pub(super) fn behaviour_of(engine: &Engine, row: ContactRow) -> Json {
    let state = engine.book.read();
    let types = state.events.behaviour.types().filter_map(|(name, memory)| {
        let last = memory.last_day_of(row.0)?;
        let had = |values: &BTreeMap<String, RoaringBitmap>| -> Vec<String> {
            values.iter().filter(|(_, rows)| rows.contains(row.0)).map(|(value, _)| value.clone()).collect()
        };
        let properties = state.events.properties.of_type(name).map(|(property, values)| (property, had(values)));
        let properties: BTreeMap<&str, Vec<String>> = properties.filter(|(_, values)| !values.is_empty()).collect();
        let mut what = json!({"count": memory.count_of(row.0), "last_day": day_text(last)});
        if !properties.is_empty() {
            what["properties"] = json!(properties);
        }
        Some((name.to_owned(), what))
    });
    json!(types.collect::<BTreeMap<String, Json>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(kind: &str, class: Option<&str>) -> NewEvent {
        NewEvent { id: "1".into(), kind: kind.into(), class: class.map(str::to_owned), ..NewEvent::default() }
    }

    #[test]
    fn types_and_classes_are_checked() {
        let good = [
            ("delivered", None, EventKind::Delivered),
            ("complained", None, EventKind::Complained),
            ("bounced", Some("soft"), EventKind::Bounced(BounceClass::Soft)),
            ("converted", None, EventKind::Converted(EventClass::Human)),
            ("converted", Some("machine"), EventKind::Converted(EventClass::Machine)),
            ("Order.placed-2", None, EventKind::Custom("Order.placed-2".into())),
        ];
        for (name, class, expected) in good {
            assert_eq!(kind(&new(name, class)), Ok(expected), "{name} {class:?}");
        }
        let bad =
            [("bounced", None), ("bounced", Some("human")), ("converted", Some("hard")), ("delivered", Some("x"))];
        let names = ["", "opened", "clicked", "unsubscribed", "1st", "a b", "é"].map(|name| (name, None));
        for (name, class) in bad.into_iter().chain(names) {
            let error = kind(&new(name, class)).expect_err("refused");
            assert_eq!(error.code, Code::EventInvalid, "{name} {class:?}");
        }
        assert!(kind(&new(&"a".repeat(EVENT_TYPE_BYTES_MAX + 1), None)).is_err(), "too long");
    }

    #[test]
    fn days_are_dates() {
        assert_eq!((day_text(0), day_text(20_000)), ("1970-01-01".to_owned(), "2024-10-04".to_owned()));
    }
}
