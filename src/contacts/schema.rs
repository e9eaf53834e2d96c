//! The schema of the contact base: attributes, their types and how each is indexed.
//!
//! A schema value never changes; adding an attribute makes a new one (held in an `Arc` by whoever needs it).
//! Invariants: SC-1 names are unique; SC-2 an id is never reused; SC-3 built-in attributes are always there.

use serde::{Deserialize, Serialize};

use crate::ids::AttributeId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeType {
    Text,
    Number,
    Boolean,
    /// An instant: milliseconds since the epoch.
    DateTime,
    /// A list of text.
    List,
}

impl AttributeType {
    pub fn name(self) -> &'static str {
        match self {
            AttributeType::Text => "text",
            AttributeType::Number => "number",
            AttributeType::Boolean => "boolean",
            AttributeType::DateTime => "date_time",
            AttributeType::List => "list",
        }
    }

    /// The index that serves this type.
    pub fn natural_index(self) -> IndexKind {
        match self {
            AttributeType::Text | AttributeType::Boolean | AttributeType::List => IndexKind::Values,
            AttributeType::Number | AttributeType::DateTime => IndexKind::BitSliced,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// A set of rows per value: text, boolean, list.
    Values,
    /// A set of rows per binary digit: number, date-time (O'Neil & Quass, SIGMOD 1997).
    BitSliced,
    /// None: a condition on it scans the records.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub id: AttributeId,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: AttributeType,
    pub index: IndexKind,
}

/// All attributes, built-in ones first. At most `limits::ATTRIBUTES_MAX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    attributes: Vec<Attribute>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SchemaError {
    #[error("attribute name {name:?} is not valid: letters, digits and '_', a letter first, at most 64 bytes")]
    BadName { name: String },
    #[error("attribute {name:?} exists already as {kind}", kind = .kind.name())]
    Exists { name: String, kind: AttributeType },
    #[error("attribute {name:?}: a {index:?} index does not serve type {kind}", kind = .kind.name())]
    WrongIndex { name: String, kind: AttributeType, index: IndexKind },
    #[error("the schema holds {max} attributes at most")]
    TooMany { max: usize },
}

impl Default for Schema {
    fn default() -> Schema {
        Schema::built_in()
    }
}

impl Schema {
    pub fn built_in() -> Schema {
        use AttributeType::{Boolean, DateTime, List, Text};
        let table = [
            (AttributeId::KEY, "key", Text, IndexKind::None),
            (AttributeId::EMAIL, "email", Text, IndexKind::None),
            (AttributeId::PHONE, "phone", Text, IndexKind::None),
            (AttributeId::LANGUAGE, "language", Text, IndexKind::Values),
            (AttributeId::ZONE, "zone", Text, IndexKind::Values),
            (AttributeId::EMAIL_DOMAIN, "email_domain", Text, IndexKind::Values),
            (AttributeId::CREATED, "created", DateTime, IndexKind::BitSliced),
            (AttributeId::UPDATED, "updated", DateTime, IndexKind::BitSliced),
            (AttributeId::DEVICE_TOKENS, "device_tokens", List, IndexKind::None),
            (AttributeId::WEB_PUSH, "web_push", List, IndexKind::None),
            (AttributeId::IN_APP, "in_app", Text, IndexKind::None),
            (AttributeId::POSTAL, "postal", Text, IndexKind::None),
            (AttributeId::WHATSAPP, "whatsapp", Text, IndexKind::None),
            (AttributeId::ACTIVE, "active", Boolean, IndexKind::Values),
        ];
        let attributes = table
            .into_iter()
            .map(|(id, name, kind, index)| Attribute { id, name: name.to_owned(), kind, index })
            .collect();
        Schema { attributes }
    }

    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    pub fn by_name(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }

    pub fn by_id(&self, id: AttributeId) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.id == id)
    }

    /// A new schema with one attribute more. `index` of `None` takes the one that serves the type.
    pub fn with(&self, name: &str, kind: AttributeType, index: Option<IndexKind>) -> Result<Schema, SchemaError> {
        if !is_valid_name(name) {
            return Err(SchemaError::BadName { name: name.to_owned() });
        }
        if let Some(present) = self.by_name(name) {
            return Err(SchemaError::Exists { name: name.to_owned(), kind: present.kind });
        }
        if self.attributes.len() >= crate::limits::ATTRIBUTES_MAX {
            return Err(SchemaError::TooMany { max: crate::limits::ATTRIBUTES_MAX });
        }
        let index = index.unwrap_or(kind.natural_index());
        if index != IndexKind::None && index != kind.natural_index() {
            return Err(SchemaError::WrongIndex { name: name.to_owned(), kind, index });
        }
        let last = self.attributes.iter().map(|a| a.id.0).max().unwrap_or(0);
        let id = AttributeId(AttributeId::FIRST_OWN.max(last + 1));
        let mut attributes = self.attributes.clone();
        attributes.push(Attribute { id, name: name.to_owned(), kind, index });
        Ok(Schema { attributes })
    }
}

fn is_valid_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
