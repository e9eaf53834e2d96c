//! Contacts, their consent, and the attributes that they have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::api::caller;
use crate::api::errors::Code;
use crate::api::port::{
    AttributeView, ConsentView, ContactInput, ContactView, NewAttribute, PortError, PortResult, Time,
};
use crate::contacts::export::record_json;
use crate::contacts::{self, Attribute, AttributeType, ConsentEntry, ConsentStatus, IndexKind, Reader, Record, Value};
use crate::engine::Engine;
use crate::engine::base::{BaseError, ConsentWish};
use crate::ids::{AttributeId, Channel, ContactRow, RowSpace};
use crate::ledger::State;
use crate::ledger::engagement::people;
use crate::limits::NAME_BYTES_MAX;

/// Built-in fields that the view has in a form of its own, or that the store derives.
const SHOWN_APART: [&str; 5] = ["key", "active", "created", "updated", "email_domain"];

fn status_name(status: ConsentStatus) -> &'static str {
    match status {
        ConsentStatus::Subscribed => "subscribed",
        ConsentStatus::Unsubscribed => "unsubscribed",
        ConsentStatus::None => "none",
    }
}

/// A channel by name, or what to write instead.
pub(super) fn channel(name: &str) -> Result<Channel, String> {
    let names = || Channel::ALL.map(Channel::name).join(", ");
    Channel::from_name(name).ok_or_else(|| format!("{name:?} is not a channel; the channels are {}", names()))
}

/// `email:news` → channel and topic.
pub(super) fn channel_and_topic(text: &str) -> Result<(Channel, String), String> {
    let (name, topic) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is not channel:topic, as in email:news"))?;
    let topic = topic.trim();
    if topic.is_empty() || topic.len() > NAME_BYTES_MAX || topic.chars().any(char::is_control) {
        return Err(format!(
            "the topic of {text:?} is empty, longer than {NAME_BYTES_MAX} bytes, or has a control character"
        ));
    }
    Ok((channel(name.trim())?, topic.to_owned()))
}

fn wishes(consent: &BTreeMap<String, String>) -> PortResult<Vec<ConsentWish>> {
    let refuse = |text: String| PortError::new(Code::InvalidConsent, text);
    let mut wishes = Vec::with_capacity(consent.len());
    for (place, status) in consent {
        let (channel, topic) = channel_and_topic(place).map_err(refuse)?;
        let status = match status.as_str() {
            "subscribed" => ConsentStatus::Subscribed,
            "unsubscribed" => ConsentStatus::Unsubscribed,
            other => {
                let text = format!("consent {place:?} is {other:?}, but must be \"subscribed\" or \"unsubscribed\"");
                return Err(refuse(text));
            }
        };
        wishes.push(ConsentWish { channel, topic, status });
    }
    Ok(wishes)
}

/// Where a consent comes from: what the client says, else by what it was told (`api`, `cli`).
fn source(contact: &ContactInput) -> PortResult<String> {
    let source =
        contact.consent_source.as_deref().map(str::trim).filter(|s| !s.is_empty()).unwrap_or(caller::current().via);
    if source.len() > NAME_BYTES_MAX || source.chars().any(char::is_control) {
        let text = format!("consent_source is longer than {NAME_BYTES_MAX} bytes, or has a control character");
        return Err(PortError::new(Code::InvalidConsent, text));
    }
    Ok(source.to_owned())
}

/// The fields as the store takes them.
fn input(key: &str, fields: Map<String, Json>) -> PortResult<contacts::ContactInput> {
    let said = fields.get("key").and_then(Json::as_str);
    if let Some(other) = said.filter(|said| said.trim() != key.trim()) {
        let text = format!("the body's key {other:?} is not the path's {key:?}: a contact's key can't change");
        return Err(PortError::new(Code::InvalidContact, text).with(json!({"fields": [{"field": "key"}]})));
    }
    let mut input: contacts::ContactInput = serde_json::from_value(Json::Object(fields)).map_err(|error| {
        let text = format!("the contact can't be read: {error}; a sender's own fields go under `attributes`");
        PortError::new(Code::InvalidContact, text)
    })?;
    input.key = key.to_owned();
    Ok(input)
}

pub(super) fn put(engine: &Engine, key: &str, contact: ContactInput) -> PortResult<(ContactView, bool)> {
    let wishes = wishes(&contact.consent)?;
    let source = source(&contact)?;
    let done = engine.put_contact(&input(key, contact.fields)?, &wishes, &source)?;
    Ok((at(engine, key, done.row)?, done.created))
}

pub(super) fn patch(engine: &Engine, key: &str, contact: ContactInput) -> PortResult<ContactView> {
    let wishes = wishes(&contact.consent)?;
    let source = source(&contact)?;
    let done = engine.patch_contact(key, &input(key, contact.fields)?, &wishes, &source)?;
    at(engine, key, done.row)
}

pub(super) fn one(engine: &Engine, key: &str) -> PortResult<ContactView> {
    at(engine, key, engine.row_of(key)?)
}

fn at(engine: &Engine, key: &str, row: ContactRow) -> PortResult<ContactView> {
    let reader = engine.store.reader()?;
    Ok(view(engine, &reader, row)?.ok_or_else(|| BaseError::NoContact { key: key.to_owned() })?)
}

/// The contact of a row, as the reader's snapshot has it.
pub(super) fn view(engine: &Engine, reader: &Reader, row: ContactRow) -> PortResult<Option<ContactView>> {
    let Some(record) = reader.record(row)? else { return Ok(None) };
    let history = reader.consent_history(row)?;
    let Json::Object(mut fields) = record_json(record, &reader.schema()) else { return Ok(None) };
    fields.retain(|name, _| !SHOWN_APART.contains(&name.as_str()));
    let time = |id| match record.get(id) {
        Some(Value::Time(at)) => Some(Time(at)),
        _ => None,
    };
    let state = engine.book.read();
    Ok(Some(ContactView {
        key: record.key().to_owned(),
        active: record.is_active(),
        created_at: time(AttributeId::CREATED),
        updated_at: time(AttributeId::UPDATED),
        consent: consents(&state, &history, row),
        suppressed: suppressed(&state, reader, row, record),
        lists: state.lists.iter().filter(|(_, list)| list.rows.contains(row.0)).map(|(name, _)| name.clone()).collect(),
        fields,
    }))
}

/// What is in force, with the newest matching word of the history for source and time.
fn consents(state: &State, history: &[ConsentEntry], row: ContactRow) -> Vec<ConsentView> {
    let mut views = Vec::new();
    for (channel, topic, _) in state.consent.topics() {
        let status = state.consent.status(channel, topic, row.0);
        if status == ConsentStatus::None {
            continue;
        }
        let said = |e: &&ConsentEntry| e.channel == channel && e.topic == topic && e.status == status;
        let newest = history.iter().rev().find(said);
        views.push(ConsentView {
            channel: channel.name().to_owned(),
            topic: topic.to_owned(),
            status: status_name(status).to_owned(),
            source: newest.map(|e| e.source.clone()),
            at: newest.map(|e| Time(e.at)),
        });
    }
    views
}

/// Reasons for which the contact, or an address that it has, is suppressed on any channel.
fn suppressed(state: &State, reader: &Reader, row: ContactRow, record: Record<'_>) -> Vec<String> {
    let mut reasons = BTreeSet::new();
    for (_, reason, rows) in state.suppression.row_entries() {
        if rows.contains(row.0) {
            reasons.insert(reason.name());
        }
    }
    for channel in Channel::ALL {
        let mut look = |address: &str| {
            let hash = reader.store().address_hash(channel, address);
            reasons.extend(state.suppression.is_address_suppressed(channel, hash).map(|reason| reason.name()));
        };
        match record.get(channel.address_attribute()) {
            Some(Value::Text(address)) => look(address),
            Some(Value::List(list)) => list.iter().for_each(look),
            _ => {}
        }
    }
    reasons.into_iter().map(str::to_owned).collect()
}

/// Everything that is held about a contact: record and history from the store, and what the journal says of its row.
pub(super) fn export(engine: &Engine, key: &str) -> PortResult<Json> {
    let row = engine.row_of(key)?;
    let reader = engine.store.reader()?;
    let unknown = || BaseError::NoContact { key: key.to_owned() };
    let Json::Object(mut all) = reader.export(row)?.ok_or_else(unknown)? else { return Err(unknown().into()) };
    let held = view(engine, &reader, row)?.ok_or_else(unknown)?;
    all.insert("consent".to_owned(), json!(held.consent));
    all.insert("suppressed".to_owned(), json!(held.suppressed));
    all.insert("lists".to_owned(), json!(held.lists));
    all.insert("events".to_owned(), crate::api::adapter::events::behaviour_of(engine, row));
    let state = engine.book.read();
    let mut runs = Vec::new();
    for run in state.runs.values() {
        // Rows of an uploaded file, or of removed details, are of other numbers.
        let of_base = run.deliveries.iter().filter(|delivery| delivery.space == RowSpace::BASE);
        for delivery in of_base.filter(|delivery| delivery.audience.contains(row.0)) {
            let opened = run.engaged(false).contains(row.0);
            let clicked = run.engaged(true).contains(row.0);
            let accepted = delivery.accepted.contains(row.0);
            let came_back = run.feedback_on(delivery.id.index);
            runs.push(json!({
                "run": run.id.0, "campaign": run.campaign.0, "delivery": delivery.id.index, "accepted": accepted,
                "opened": opened, "clicked": clicked, "unsubscribed": run.unsubscribed().contains(row.0),
                "delivered": came_back.delivered.rows.contains(row.0), "bounced": came_back.bounced().contains(row.0),
                "complained": came_back.complained.rows.contains(row.0), "converted": people(&came_back.converted).contains(row.0),
                "started_at": run.started_at.to_string(),
            }));
        }
    }
    all.insert("runs".to_owned(), Json::Array(runs));
    Ok(Json::Object(all))
}

fn index_name(index: IndexKind) -> &'static str {
    match index {
        IndexKind::Values => "values",
        IndexKind::BitSliced => "bit_sliced",
        IndexKind::None => "none",
    }
}

fn attribute_view(attribute: &Attribute) -> AttributeView {
    AttributeView {
        name: attribute.name.clone(),
        kind: attribute.kind.name().to_owned(),
        index: index_name(attribute.index).to_owned(),
        built_in: attribute.id.is_built_in(),
    }
}

pub(super) fn attributes(engine: &Engine) -> Vec<AttributeView> {
    engine.store.schema().attributes().iter().map(attribute_view).collect()
}

const TYPES: [AttributeType; 5] =
    [AttributeType::Text, AttributeType::Number, AttributeType::Boolean, AttributeType::DateTime, AttributeType::List];
const INDICES: [IndexKind; 3] = [IndexKind::Values, IndexKind::BitSliced, IndexKind::None];

/// A type by name, or what to write instead.
pub(super) fn attribute_type(name: &str) -> Result<AttributeType, String> {
    let names = || TYPES.map(AttributeType::name).join(", ");
    TYPES
        .into_iter()
        .find(|t| t.name() == name)
        .ok_or_else(|| format!("{name:?} is not a type; the types are {}", names()))
}

pub(super) fn add_attribute(engine: &Engine, attribute: &NewAttribute) -> PortResult<AttributeView> {
    let refuse = |text: String| PortError::new(Code::InvalidAttribute, text);
    let kind = attribute_type(&attribute.kind).map_err(refuse)?;
    let index = match &attribute.index {
        None => None,
        Some(name) => {
            let found = INDICES.into_iter().find(|i| index_name(*i) == name);
            let names = INDICES.map(index_name).join(", ");
            Some(found.ok_or_else(|| refuse(format!("{name:?} is not an index; the indices are {names}")))?)
        }
    };
    engine.store.add_attribute(&attribute.name, kind, index).map_err(BaseError::from)?;
    let schema = engine.store.schema();
    let made = schema.by_name(&attribute.name).map(attribute_view);
    made.ok_or_else(|| PortError::new(Code::Internal, "the attribute was added and is not there"))
}
