//! `[message]`: channel, connector and topic, a saved message, languages; all other keys are the content's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Field, MessageFields, Word, control_character, refuse};
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

impl MessageSpec {
    /// The keys that are written.
    pub fn to_keys(&self) -> BTreeSet<String> {
        let ours = [
            ("channel", self.channel.is_some()),
            ("connector", self.connector.is_some()),
            ("topic", self.topic.is_some()),
            ("saved", self.saved.is_some()),
            ("default_language", self.default_language.is_some()),
            ("languages", !self.languages.is_empty()),
        ];
        let ours = ours.into_iter().filter(|(_, given)| *given).map(|(key, _)| key.to_owned());
        ours.chain(self.fields.keys().cloned()).collect()
    }
}

impl Serialize for MessageSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.serialize_into(&mut map)?;
        map.end()
    }
}

impl MessageSpec {
    /// Writes its keys into a table that has others, too.
    pub(super) fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
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
        Ok(())
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
                "languages" => message.languages = map.next_value::<Option<ByTag>>()?.unwrap_or_default().0,
                _ => {
                    if let Some(near) = near_miss(&key) {
                        return refuse(&mut map, format!("unknown key {key:?}; did you mean {near:?}?"));
                    }
                    let Field(value) = map.next_value()?;
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
fn near_miss(key: &str) -> Option<&'static str> {
    suggest::nearest(key, TOLD_APART).filter(|near| strsim::damerau_levenshtein(key, near) <= 1 || near.len() > 5)
}

/// Fields by language tag; a language that is `null`, or has no field, is none.
#[derive(Default)]
pub(super) struct ByTag(pub(super) Languages);

impl<'de> Deserialize<'de> for ByTag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByTag, D::Error> {
        deserializer.deserialize_map(ByTagVisitor)
    }
}

struct ByTagVisitor;

impl<'de> Visitor<'de> for ByTagVisitor {
    type Value = ByTag;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with a table of content for each language")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ByTag, A::Error> {
        let mut languages = Languages::new();
        while let Some(tag) = map.next_key::<String>()? {
            if let Some(c) = tag.chars().find(|c| c.is_control()) {
                return refuse(&mut map, control_character::<A::Error>(c).to_string());
            }
            let OfLanguage(fields) = map.next_value::<Option<OfLanguage>>()?.unwrap_or_default();
            if !fields.is_empty() {
                languages.insert(tag, fields);
            }
        }
        Ok(ByTag(languages))
    }
}

/// What differs in a language.
#[derive(Default)]
struct OfLanguage(MessageFields);

impl<'de> Deserialize<'de> for OfLanguage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OfLanguage, D::Error> {
        deserializer.deserialize_map(OfLanguageVisitor)
    }
}

struct OfLanguageVisitor;

impl<'de> Visitor<'de> for OfLanguageVisitor {
    type Value = OfLanguage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with what differs in the language")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OfLanguage, A::Error> {
        let mut fields = MessageFields::new();
        while let Some(key) = map.next_key::<String>()? {
            if MESSAGE_KEYS.contains(&key.as_str()) {
                let message = "languages differ in content and sender; the {key} is that of [message]";
                return refuse(&mut map, message.replace("{key}", &key));
            }
            let Field(value) = map.next_value()?;
            if !value.is_null() {
                fields.insert(key, value);
            }
        }
        Ok(OfLanguage(fields))
    }
}
