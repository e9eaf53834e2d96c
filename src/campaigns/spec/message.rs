//! `[message]`: channel, connector and topic, a saved message, languages; all other keys are the content's.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Field, MessageFields, Word, control_character};
use crate::campaigns::suggest;
use crate::ids::Channel;

type Languages = BTreeMap<String, MessageFields>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageSpec {
    pub channel: Option<Channel>,
    /// The name of a connector.
    pub connector: Option<String>,
    /// What contacts subscribe to.
    pub topic: Option<String>,
    /// The name of a saved message that this one is made from.
    pub saved: Option<String>,
    /// The version of it that a start has put in here.
    pub saved_version: Option<u32>,
    /// The language of who has none of `languages`; see `campaigns::languages`.
    pub default_language: Option<String>,
    /// By language tag: what differs.
    pub languages: BTreeMap<String, MessageFields>,
    /// Everything else.
    pub fields: MessageFields,
}

/// Keys of a message that are not the content's.
pub(super) const MESSAGE_KEYS: [&str; 7] =
    ["channel", "connector", "topic", "saved", "saved_version", "default_language", "languages"];
/// Those whose misspellings can be told from keys of the content.
const TOLD_APART: [&str; 3] = ["channel", "connector", "topic"];

impl Serialize for MessageSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(channel) = self.channel {
            map.serialize_entry("channel", &channel)?;
        }
        if let Some(connector) = &self.connector {
            map.serialize_entry("connector", connector)?;
        }
        if let Some(topic) = &self.topic {
            map.serialize_entry("topic", topic)?;
        }
        if let Some(saved) = &self.saved {
            map.serialize_entry("saved", saved)?;
        }
        if let Some(version) = &self.saved_version {
            map.serialize_entry("saved_version", version)?;
        }
        if let Some(language) = &self.default_language {
            map.serialize_entry("default_language", language)?;
        }
        if !self.languages.is_empty() {
            map.serialize_entry("languages", &self.languages)?;
        }
        for (key, value) in &self.fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for MessageSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MessageSpec, D::Error> {
        deserializer.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = MessageSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with channel, connector, topic and the content of the message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MessageSpec, A::Error> {
        let mut message = MessageSpec::default();
        let mut seen = [false; MESSAGE_KEYS.len()];
        while let Some(key) = map.next_key::<String>()? {
            let ours = MESSAGE_KEYS.iter().position(|k| *k == key);
            if ours.is_some_and(|at| std::mem::replace(&mut seen[at], true)) {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            match key.as_str() {
                "channel" => message.channel = map.next_value()?,
                "connector" => message.connector = map.next_value::<Word>()?.0,
                "topic" => message.topic = map.next_value::<Word>()?.0,
                "saved" => message.saved = map.next_value::<Word>()?.0,
                "saved_version" => message.saved_version = map.next_value()?,
                "default_language" => message.default_language = map.next_value::<Word>()?.0,
                "languages" => message.languages = languages::<A::Error>(map.next_value()?)?,
                _ => {
                    let Field(value) = map.next_value()?;
                    refuse_near_miss(&key)?;
                    if message.fields.contains_key(&key) {
                        return Err(de::Error::custom(format_args!("the key {key:?} stands twice")));
                    }
                    message.fields.insert(key, value);
                }
            }
        }
        message.fields.retain(|_, value| !value.is_null());
        Ok(message)
    }
}

/// A key that is one letter off ours would otherwise be handed to the content, which cannot know it.
fn refuse_near_miss<E: de::Error>(key: &str) -> Result<(), E> {
    match suggest::nearest(key, TOLD_APART) {
        Some(near) if strsim::damerau_levenshtein(key, near) <= 1 || near.len() > 5 => {
            Err(E::custom(format_args!("unknown key {key:?}; did you mean {near:?}?")))
        }
        _ => Ok(()),
    }
}

/// Fields by language tag; a language that is `null`, or has no field, is none.
fn languages<E: de::Error>(written: Option<BTreeMap<String, Option<BTreeMap<String, Field>>>>) -> Result<Languages, E> {
    let mut languages = Languages::new();
    for (tag, fields) in written.unwrap_or_default() {
        if let Some(c) = tag.chars().find(|c| c.is_control()) {
            return Err(control_character(c));
        }
        let mut kept = MessageFields::new();
        for (key, Field(value)) in fields.unwrap_or_default() {
            if MESSAGE_KEYS.contains(&key.as_str()) {
                let message = "languages differ in content and sender; the {key} is that of [message]";
                return Err(E::custom(message.replace("{key}", &key)));
            }
            if !value.is_null() {
                kept.insert(key, value);
            }
        }
        if !kept.is_empty() {
            languages.insert(tag, kept);
        }
    }
    Ok(languages)
}
