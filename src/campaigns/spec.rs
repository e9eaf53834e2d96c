//! The spec of a campaign: what a sender writes, in TOML or JSON, complete or not.
//!
//! Shape (every key may be missing while the campaign is a draft):
//!
//! ```toml
//! name = "spring"
//! kind = "single"                     # the default; ab_split, multi_segment (see `kinds`), flow (see `nodes`)
//! mode = "strict"                     # the default, or "at_least_once"
//! same_address = "newest"             # the default, or "oldest", "allow"
//! retry_deadline_hours = 72
//! send_until = 2026-12-01T18:00:00+01:00
//! split_on_open = "5d"               # of a single campaign: its report tells who opened within this time
//! [audience]                          # one of segment, list, all = true, upload
//! segment = 'country = "FR"'
//! exclude = 'in list "staff"'
//! not_contacted = "7d"               # these two: see `campaigns::restraint`, as for [[caps]]
//! hold_out = "10%"
//! [message]                           # channel, connector, topic; all other keys are the content's
//! channel = "email"
//! connector = "relay"
//! topic = "news"
//! subject = "Hello"
//! [limits]
//! messages_per_second = 500
//! weight = 1                          # share of the connector beside other campaigns
//! [auto_pause]                        # see `auto_pause`
//! complaints = "0.3%"
//! [schedule]                          # when it starts: see `campaigns::schedule::fields`
//! at = "2026-12-01T18:00"
//! zone = "Europe/Paris"
//! ```
//!
//! Invariants:
//! 1. No text of a spec holds a control character, but tab and line ends where text has lines: the content relies on it.
//! 2. [`CampaignSpec::to_json`] of equal specs gives equal bytes, and parses back to an equal spec.
//! 3. A missing key and a `null` are the same.
//!
//! What it must not know: what the fields of a message mean; `content` refuses those it does not know.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

pub mod auto_pause;
mod expressions;
pub mod kinds;
mod message;
pub mod nodes;
pub mod steps;

pub use auto_pause::AutoPauseSpec;
pub use kinds::{CellSpec, DimensionSpec, FollowUpOn, FollowUpSpec, SampleSpec, TestSpec, VariantSpec};
pub use message::MessageSpec;
use message::{ByTag, MESSAGE_KEYS};
pub use nodes::NodeSpec;
pub use steps::{Starter, StepSpec};

use super::instant::{self, TOML_DATETIME};
use super::resend::ResendSpec;
use super::restraint::CapSpec;
use super::schedule::ScheduleFields;
use crate::clock::Timestamp;
pub use crate::segments::SameAddress;

/// The keys of `[message]` that are the content's, as JSON values; date-times of TOML are their text.
pub type MessageFields = Map<String, Value>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One message to all: start → send → end.
    #[default]
    Single,
    /// Several versions on a sample, the better one to the rest.
    AbSplit,
    /// A grid of segments, a message per cell.
    MultiSegment,
    /// A graph that is written by hand.
    Flow,
    /// Dated steps for one cohort.
    Sequence,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Single => "single",
            Kind::AbSplit => "ab_split",
            Kind::MultiSegment => "multi_segment",
            Kind::Flow => "flow",
            Kind::Sequence => "sequence",
        }
    }
}

/// What happens to a message that was handed over and never answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Never sent again, unless an operator says so.
    #[default]
    Strict,
    /// Sent again, with the same message id.
    AtLeastOnce,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CampaignSpec {
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_address: Option<SameAddress>,
    /// Hours after its first attempt for which a deferred message is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_deadline_hours: Option<u32>,
    /// What is not sent by then is skipped.
    #[serde(with = "instant", skip_serializing_if = "Option::is_none")]
    pub send_until: Option<Timestamp>,
    #[serde(deserialize_with = "table_or_null", skip_serializing_if = "is_default")]
    pub audience: AudienceSpec,
    #[serde(deserialize_with = "table_or_null", skip_serializing_if = "is_default")]
    pub message: MessageSpec,
    #[serde(deserialize_with = "table_or_null", skip_serializing_if = "is_default")]
    pub limits: LimitsSpec,
    #[serde(deserialize_with = "table_or_null", skip_serializing_if = "is_default")]
    pub auto_pause: AutoPauseSpec,
    /// When it starts; at once if nothing is said.
    #[serde(deserialize_with = "table_or_null", skip_serializing_if = "is_default")]
    pub schedule: ScheduleFields,
    #[serde(deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<VariantSpec>,
    #[serde(deserialize_with = "table_or_null", skip_serializing_if = "is_default")]
    pub test: TestSpec,
    #[serde(deserialize_with = "table_or_null", skip_serializing_if = "is_default")]
    pub follow_up: FollowUpSpec,
    /// Of a single campaign: how long an open is waited for, behind which who opened and who did not go apart.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub split_on_open: Option<String>,
    #[serde(deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<DimensionSpec>,
    #[serde(deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<CellSpec>,
    /// Of the dates of a sequence.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starter: Option<Starter>,
    #[serde(deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepSpec>,
    #[serde(deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeSpec>,
    #[serde(deserialize_with = "list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<CapSpec>,
    #[serde(deserialize_with = "table_or_null", skip_serializing_if = "is_default")]
    pub resend: ResendSpec,
}

/// Who gets it: exactly one of `segment`, `list`, `all` and `upload`, minus `exclude`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AudienceSpec {
    /// A segment expression.
    #[serde(deserialize_with = "lines", skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// The name of a list.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// A segment expression; who matches is left out.
    #[serde(deserialize_with = "lines", skip_serializing_if = "Option::is_none")]
    pub exclude: Option<String>,
    /// The id or name of an uploaded one-shot file.
    #[serde(deserialize_with = "id_or_word", skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// The sender's word that the people of an upload agreed; recorded with who and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent_confirmed: Option<bool>,
    /// Leaves out whom another campaign has written to within so many days, such as "7d".
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub not_contacted: Option<String>,
    /// The control group: a share, such as "10%", or a number of contacts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_out: Option<SampleSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<u32>,
    /// Share of a connector beside other campaigns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl CampaignSpec {
    /// As JSON: keys in order, nothing that is not set.
    pub fn to_value(&self) -> Value {
        // Every key is text and every value is plain, so that serde_json has nothing to refuse.
        sorted(serde_json::to_value(self).unwrap_or_default())
    }

    /// The canonical text; equal specs have equal text.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or_default()
    }
}

/// In order of keys, whichever map serde_json was built with.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        plain => plain,
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A table, and not the array that serde's derive takes for one too.
pub(super) struct Table<T>(pub(super) T);

impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Table<T>, D::Error> {
        deserializer.deserialize_any(TableVisitor { null: false, table: PhantomData }).map(Table)
    }
}

fn table_or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(TableVisitor { null: true, table: PhantomData })
}

struct TableVisitor<T> {
    /// Whether `null` is an empty table.
    null: bool,
    table: PhantomData<T>,
}

impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        if self.null { Ok(T::default()) } else { Err(E::invalid_type(de::Unexpected::Unit, &self)) }
    }
}

/// A list of tables; `null` is an empty one.
pub(super) fn list_or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// Text of one line.
pub(super) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match text.as_deref().and_then(|t| t.chars().find(|c| c.is_control())) {
        Some(c) => Err(control_character(c)),
        None => Ok(text),
    }
}

/// A number, or text of one line.
fn id_or_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an id or a name")]
    enum Named {
        Id(u32),
        Name(String),
    }
    match Option::<Named>::deserialize(deserializer)? {
        Some(Named::Id(id)) => Ok(Some(id.to_string())),
        Some(Named::Name(name)) => match name.chars().find(|c| c.is_control()) {
            Some(c) => Err(control_character(c)),
            None => Ok(Some(name)),
        },
        None => Ok(None),
    }
}

/// Text of several lines.
fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match text.as_deref().and_then(forbidden_in_lines) {
        Some(c) => Err(control_character(c)),
        None => Ok(text),
    }
}

fn forbidden_in_lines(text: &str) -> Option<char> {
    text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
}

fn control_character<E: de::Error>(c: char) -> E {
    E::custom(format_args!("the control character U+{:04X} is not allowed here; remove it", u32::from(c)))
}

/// Refuses a key where its value stands, so that whoever reads knows of which key it is said.
pub(super) fn refuse<'de, A: MapAccess<'de>, T>(map: &mut A, message: impl Into<String>) -> Result<T, A::Error> {
    match map.next_value_seed(Refusal(message.into()))? {}
}

struct Refusal(String);

impl<'de> DeserializeSeed<'de> for Refusal {
    type Value = Infallible;

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<Infallible, D::Error> {
        Err(de::Error::custom(self.0))
    }
}

impl Serialize for VariantSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(name) = &self.name {
            map.serialize_entry("name", name)?;
        }
        if let Some(weight) = &self.weight {
            map.serialize_entry("weight", weight)?;
        }
        if let Some(at) = &self.at {
            map.serialize_entry("at", at)?;
        }
        self.message.serialize_into(&mut map)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for VariantSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VariantSpec, D::Error> {
        deserializer.deserialize_map(VariantVisitor)
    }
}

struct VariantVisitor;

impl<'de> Visitor<'de> for VariantVisitor {
    type Value = VariantSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with a name, a weight and what differs in the message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VariantSpec, A::Error> {
        let mut variant = VariantSpec::default();
        while let Some(key) = map.next_key::<String>()? {
            let again = match key.as_str() {
                "name" => std::mem::replace(&mut variant.name, map.next_value::<Word>()?.0).is_some(),
                "weight" => std::mem::replace(&mut variant.weight, map.next_value()?).is_some(),
                "at" => std::mem::replace(&mut variant.at, map.next_value::<Moment>()?.0).is_some(),
                "saved" => std::mem::replace(&mut variant.message.saved, map.next_value::<Word>()?.0).is_some(),
                "saved_version" => std::mem::replace(&mut variant.message.saved_version, map.next_value()?).is_some(),
                "languages" => {
                    let ByTag(languages) = map.next_value::<Option<ByTag>>()?.unwrap_or_default();
                    !std::mem::replace(&mut variant.message.languages, languages).is_empty()
                }
                key if MESSAGE_KEYS.contains(&key) => {
                    let message = "variants differ in content and sender; the {key} is that of [message]";
                    return refuse(&mut map, message.replace("{key}", key));
                }
                _ => variant.message.fields.insert(key.clone(), map.next_value::<Field>()?.0).is_some(),
            };
            if again {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice")));
            }
        }
        variant.message.fields.retain(|_, value| !value.is_null());
        Ok(variant)
    }
}

/// A moment: text, or one of TOML's own dates and times.
struct Moment(Option<String>);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        match Field::deserialize(deserializer)?.0 {
            Value::Null => Ok(Moment(None)),
            Value::String(text) if text.chars().all(|c| !c.is_control()) => Ok(Moment(Some(text))),
            _ => Err(de::Error::custom("a moment is text, such as \"saturday 10:00\"")),
        }
    }
}

struct Word(Option<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
        word(deserializer).map(Word)
    }
}

/// A content field: any JSON value without control characters and fractions, TOML's date-times as text. No content is a
/// fraction, and one would not always read back to the same bits (invariant 2).
struct Field(Value);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        let value = plain(Value::deserialize(deserializer)?);
        if has_fraction(&value) {
            return Err(de::Error::custom("a number here must be whole; put it into quotes"));
        }
        match forbidden_in_value(&value) {
            Some(c) => Err(control_character(c)),
            None => Ok(Field(value)),
        }
    }
}

/// Turns TOML's date-times into their text.
pub(super) fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => match (map.len(), map.get(TOML_DATETIME)) {
            (1, Some(Value::String(text))) => Value::String(text.clone()),
            _ => Value::Object(map.into_iter().map(|(k, v)| (k, plain(v))).collect()),
        },
        Value::Array(values) => Value::Array(values.into_iter().map(plain).collect()),
        other => other,
    }
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(map) => map.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn forbidden_in_value(value: &Value) -> Option<char> {
    match value {
        Value::String(text) => forbidden_in_lines(text),
        Value::Array(values) => values.iter().find_map(forbidden_in_value),
        Value::Object(map) => map
            .iter()
            .find_map(|(key, value)| key.chars().find(|c| c.is_control()).or_else(|| forbidden_in_value(value))),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Channel;

    #[test]
    fn what_is_not_set_is_not_written() {
        assert_eq!(CampaignSpec::default().to_json(), "{}", "an empty draft");
        let spec = CampaignSpec {
            name: Some("spring".into()),
            mode: Some(Mode::AtLeastOnce),
            send_until: Some(Timestamp(1_764_612_000_000)),
            message: MessageSpec { channel: Some(Channel::WebPush), ..MessageSpec::default() },
            ..CampaignSpec::default()
        };
        let expected = r#"{"message":{"channel":"web_push"},"mode":"at_least_once","name":"spring","send_until":"2025-12-01T18:00:00Z"}"#;
        assert_eq!(spec.to_json(), expected);
    }

    #[test]
    fn equal_specs_have_equal_bytes_whatever_the_order_of_writing() {
        let one: CampaignSpec =
            serde_json::from_str(r#"{"name":"a","message":{"x":{"b":1,"a":2},"topic":"t"}}"#).expect("spec");
        let other: CampaignSpec =
            serde_json::from_str(r#"{"message":{"topic":"t","x":{"a":2,"b":1}},"name":"a"}"#).expect("spec");
        assert_eq!(one, other, "equal");
        assert_eq!(one.to_json(), other.to_json(), "equal bytes");
    }
}
