//! `[[nodes]]`: a flow that is written by hand (`kind = "flow"`).
//!
//! ```toml
//! [[nodes]]
//! id = "welcome"                # any text of one line, its own within the campaign
//! kind = "send"                 # start, send, split, ab_test, condition, delay, end, exit, note
//! name = "Welcome mail"         # for people; by default the id
//! then = "wait"                 # where the only way out leads
//! exits = { opened = "thanks" } # or, where there are several, each by its name
//! [nodes.message]               # of a send: what differs from [message]
//! subject = "Welcome"
//! ```
//!
//! All other keys are those of the kind; the file of the kind in `campaigns::kinds::flow` reads them and refuses what it does
//! not know.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Field, MessageFields, MessageSpec, Word, is_default, refuse};

/// One node as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSpec {
    pub id: Option<String>,
    pub kind: Option<String>,
    pub name: Option<String>,
    /// Where the only way out leads, by id.
    pub then: Option<String>,
    /// Where each way out leads, by its name.
    pub exits: BTreeMap<String, String>,
    pub message: MessageSpec,
    /// The kind's own keys.
    pub fields: MessageFields,
}

impl Serialize for NodeSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, text) in [("id", &self.id), ("kind", &self.kind), ("name", &self.name), ("then", &self.then)] {
            if let Some(text) = text {
                map.serialize_entry(key, text)?;
            }
        }
        if !self.exits.is_empty() {
            map.serialize_entry("exits", &self.exits)?;
        }
        if !is_default(&self.message) {
            map.serialize_entry("message", &self.message)?;
        }
        for (key, value) in &self.fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for NodeSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NodeSpec, D::Error> {
        deserializer.deserialize_map(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = NodeSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with an id, a kind, where its ways out lead, and the keys of the kind")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeSpec, A::Error> {
        let mut node = NodeSpec::default();
        let mut seen: Vec<String> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            match key.as_str() {
                "id" => node.id = map.next_value::<Word>()?.0,
                "kind" => node.kind = map.next_value::<Word>()?.0,
                "name" => node.name = map.next_value::<Word>()?.0,
                "then" => node.then = map.next_value::<Word>()?.0,
                "message" => node.message = map.next_value::<Option<MessageSpec>>()?.unwrap_or_default(),
                "exits" => node.exits = map.next_value::<Option<Exits>>()?.unwrap_or_default().0,
                _ => drop(node.fields.insert(key.clone(), map.next_value::<Field>()?.0)),
            }
            seen.push(key);
        }
        node.fields.retain(|_, value| !value.is_null());
        Ok(node)
    }
}

#[derive(Default)]
struct Exits(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Exits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Exits, D::Error> {
        deserializer.deserialize_map(ExitsVisitor)
    }
}

struct ExitsVisitor;

impl<'de> Visitor<'de> for ExitsVisitor {
    type Value = Exits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of exits, each with the id of a node")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Exits, A::Error> {
        let mut exits = BTreeMap::new();
        while let Some(exit) = map.next_key::<String>()? {
            if exit.chars().any(char::is_control) {
                return refuse(&mut map, "the name of an exit holds a control character; remove it");
            }
            if let Word(Some(to)) = map.next_value()? {
                exits.insert(exit, to);
            }
        }
        Ok(Exits(exits))
    }
}

#[cfg(test)]
mod tests {
    use super::super::CampaignSpec;
    use crate::campaigns::parse::{Format, parse};

    const NODES: &str = r#"
kind = "flow"
[[nodes]]
id = "a"
kind = "split"
then = "b"
weights = { x = 1, y = 2 }
exits = { x = "b", y = "c" }
[[nodes]]
id = "b"
kind = "send"
until = 2027-01-01T00:00:00Z
[nodes.message]
subject = "S"
"#;

    #[test]
    fn a_node_reads_back_equal_and_keeps_the_keys_of_its_kind() {
        let spec: CampaignSpec = parse(NODES, Format::Toml).expect("parses");
        assert_eq!(spec.nodes.len(), 2, "{spec:?}");
        assert_eq!(spec.nodes[0].exits["y"], "c", "links");
        assert_eq!(spec.nodes[0].fields["weights"]["y"], 2, "keys of the kind");
        assert_eq!(spec.nodes[1].fields["until"], "2027-01-01T00:00:00Z", "an instant is its text");
        assert_eq!(spec.nodes[1].message.fields["subject"], "S", "message");
        assert_eq!(parse(&spec.to_json(), Format::Json), Ok(spec), "canonical form");
    }

    #[test]
    fn what_no_node_can_hold_is_refused_when_it_is_read() {
        for (text, part) in [
            ("[[nodes]]\nid = \"a\\u0001\"", "control character"),
            ("[[nodes]]\nid = \"a\"\nx = 1.5", "must be whole"),
            ("[[nodes]]\nexits = { \"a\\u0001\" = \"b\" }", "control character"),
            ("[[nodes]]\nmessage = { chanel = \"email\" }", "did you mean \"channel\"?"),
            ("nodes = 3", "invalid type"),
        ] {
            let error = parse(text, Format::Toml).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
