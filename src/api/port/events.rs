//! Wire types of events that come back from outside. Owns no state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::{PortError, Time};

/// Something that happened to a message or that a contact did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    /// The sender's own; an id that was taken before changes nothing. At most 255 bytes.
    #[schema(example = "evt-000123")]
    pub id: String,
    /// `delivered`, `bounced`, `complained`, `converted`, or a name of the sender's own: a letter, then letters, digits, `_`,
    /// `-`, `.`, at most 64.
    #[serde(rename = "type")]
    #[schema(example = "bounced")]
    pub kind: String,
    /// Key of the contact.
    #[serde(default)]
    pub contact: Option<String>,
    /// Message-ID of the mail, or the return path that it went out with.
    #[serde(default)]
    pub message_id: Option<String>,
    /// Name or number of the campaign: with `contact`, its latest run is meant.
    #[serde(default)]
    pub campaign: Option<String>,
    /// Where nothing else says it: `email` by default.
    #[serde(default)]
    pub channel: Option<String>,
    /// When it happened; by default now. At most 24 hours ahead, at most 400 days ago.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub time: Option<Time>,
    /// Of a bounce, needed: `hard`, `soft`, or `policy` (the sender's fault: suppresses nobody). Of a conversion: `human` (default), `suspect` or `machine`.
    #[serde(default)]
    pub class: Option<String>,
    /// At most 16 KiB. Of a conversion, `value` (a number) is summed up by `currency` (three letters) in reports. Of events of contacts,
    /// of any type, texts, whole numbers and booleans of up to 64 bytes are kept as sets, for `did "type" with property = "value"`: the
    /// first 20 properties of an event, and 2 000 different values in all. The event itself is not kept.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub properties: Option<Map<String, Json>>,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventResult {
    /// Place in the request, from 1: the line of newline-delimited JSON, or the element of the array.
    pub line: u64,
    pub id: Option<String>,
    /// `accepted`, `duplicate` or `refused`.
    pub result: String,
    /// Why it is refused: a code of the error table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl EventResult {
    pub fn taken(line: u64, id: Option<String>, result: &str) -> EventResult {
        EventResult { line, id, result: result.to_owned(), code: None, message: None }
    }

    pub fn refused(line: u64, id: Option<String>, error: &PortError) -> EventResult {
        let (code, message) = (Some(error.code.name().to_owned()), Some(error.message.clone()));
        EventResult { code, message, ..EventResult::taken(line, id, "refused") }
    }
}

/// A type of events, as it is remembered per contact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventTypeView {
    #[serde(rename = "type")]
    pub kind: String,
    pub events: u64,
    pub contacts: u64,
    /// Day (UTC) of the newest one.
    pub last_day: Option<String>,
    /// Its properties that are kept, and how many different values of each.
    #[serde(default)]
    pub properties: BTreeMap<String, u64>,
}
