//! A contact as JSON brings it in → the values of a record.
//!
//! Stateless. In each field, absent means "not said", `null` and empty text mean "no value". Invariant: IN-1 what comes out
//! satisfies `addresses` AD-1 and the limits, or the error names the field.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::contacts::addresses::{self, ValueError};
use crate::contacts::record::{RecordBuilder, Value};
use crate::contacts::schema::{Attribute, AttributeType, Schema};
use crate::contacts::values;
use crate::ids::AttributeId;

/// A field that was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InputError {
    /// `email`, `attributes.age`, …
    pub field: String,
    pub reason: ValueError,
}

impl InputError {
    pub fn new(field: impl Into<String>, reason: ValueError) -> InputError {
        InputError { field: field.into(), reason }
    }
}

/// A contact from the outside. Field by field: `None` = not said, `Some(None)` = no value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContactInput {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub email: Option<Option<String>>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub phone: Option<Option<String>>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub whatsapp: Option<Option<String>>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub language: Option<Option<String>>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub zone: Option<Option<String>>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub device_tokens: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub web_push: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub in_app: Option<Option<String>>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub postal: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    pub attributes: BTreeMap<String, serde_json::Value>,
}

/// Tells an absent field from a `null`.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

impl ContactInput {
    /// A contact with nothing but a key.
    pub fn with_key(key: impl Into<String>) -> ContactInput {
        ContactInput { key: key.into(), ..ContactInput::default() }
    }

    /// Writes what is said into `builder`, over what it has; a `null` removes. The key is not written.
    pub(crate) fn apply(&self, schema: &Schema, builder: &mut RecordBuilder) -> Result<(), InputError> {
        if let Some(email) = &self.email {
            builder.remove(AttributeId::EMAIL);
            builder.remove(AttributeId::EMAIL_DOMAIN);
            if let Some(email) = filled(email) {
                let email = addresses::normalise_email(email).map_err(|e| InputError::new("email", e))?;
                builder.set(AttributeId::EMAIL, Value::Text(&email));
                builder.set(AttributeId::EMAIL_DOMAIN, Value::Text(addresses::email_domain(&email)));
            }
        }
        for (field, id, phone) in
            [("phone", AttributeId::PHONE, &self.phone), ("whatsapp", AttributeId::WHATSAPP, &self.whatsapp)]
        {
            let Some(phone) = phone else { continue };
            builder.remove(id);
            if let Some(phone) = filled(phone) {
                let phone = addresses::normalise_phone(phone, None).map_err(|e| InputError::new(field, e))?;
                builder.set(id, Value::Text(&phone));
            }
        }
        if let Some(language) = &self.language {
            builder.remove(AttributeId::LANGUAGE);
            if let Some(tag) = filled(language) {
                let tag = addresses::normalise_language(tag).map_err(|e| InputError::new("language", e))?;
                builder.set(AttributeId::LANGUAGE, Value::Text(&tag));
            }
        }
        if let Some(zone) = &self.zone {
            builder.remove(AttributeId::ZONE);
            if let Some(zone) = filled(zone) {
                let zone = addresses::normalise_zone(zone).map_err(|e| InputError::new("zone", e))?;
                builder.set(AttributeId::ZONE, Value::Text(&zone));
            }
        }
        for (field, id, text) in
            [("in_app", AttributeId::IN_APP, &self.in_app), ("postal", AttributeId::POSTAL, &self.postal)]
        {
            let Some(text) = text else { continue };
            builder.remove(id);
            if let Some(text) = filled(text) {
                values::set_text(builder, id, text).map_err(|e| InputError::new(field, e))?;
            }
        }
        for (field, id, list) in [
            ("device_tokens", AttributeId::DEVICE_TOKENS, &self.device_tokens),
            ("web_push", AttributeId::WEB_PUSH, &self.web_push),
        ] {
            let Some(list) = list else { continue };
            builder.remove(id);
            let entries = list.iter().flatten().map(|e| e.trim());
            values::set_list(builder, id, entries).map_err(|e| InputError::new(field, e))?;
        }
        if let Some(active) = self.active {
            builder.set(AttributeId::ACTIVE, Value::Bool(active));
        }
        self.apply_attributes(schema, builder)
    }

    fn apply_attributes(&self, schema: &Schema, builder: &mut RecordBuilder) -> Result<(), InputError> {
        for (name, value) in &self.attributes {
            let refuse = |reason| InputError::new(format!("attributes.{name}"), reason);
            let attribute = schema.by_name(name).ok_or_else(|| refuse(ValueError::UnknownAttribute))?;
            if attribute.id.is_built_in() {
                return Err(refuse(ValueError::ReadOnly));
            }
            builder.remove(attribute.id);
            set_json(builder, attribute, value).map_err(refuse)?;
        }
        Ok(())
    }
}

fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|t| !t.is_empty())
}

fn set_json(builder: &mut RecordBuilder, attribute: &Attribute, value: &serde_json::Value) -> Result<(), ValueError> {
    use serde_json::Value as Json;
    let id = attribute.id;
    match (attribute.kind, value) {
        (_, Json::Null) => Ok(()),
        (AttributeType::Text, Json::String(text)) => values::set_text(builder, id, text),
        (AttributeType::Number, Json::Number(number)) => {
            let number = number.as_f64().filter(|n| n.is_finite()).ok_or(ValueError::Type { wanted: "number" })?;
            builder.set(id, Value::Number(number));
            Ok(())
        }
        (AttributeType::Boolean, Json::Bool(flag)) => {
            builder.set(id, Value::Bool(*flag));
            Ok(())
        }
        (AttributeType::DateTime, Json::String(text)) => {
            let wanted = ValueError::Type { wanted: "date-time (YYYY-MM-DD or RFC 3339)" };
            builder.set(id, Value::Time(values::parse_time(text.trim()).ok_or(wanted)?));
            Ok(())
        }
        (AttributeType::List, Json::Array(entries)) => {
            if entries.iter().any(|e| !e.is_string()) {
                return Err(ValueError::Type { wanted: "list of text" });
            }
            values::set_list(builder, id, entries.iter().filter_map(Json::as_str).map(str::trim))
        }
        (kind, _) => Err(ValueError::Type {
            wanted: match kind {
                AttributeType::Text => "text",
                AttributeType::Number => "number",
                AttributeType::Boolean => "boolean",
                AttributeType::DateTime => "date-time (as text, YYYY-MM-DD or RFC 3339)",
                AttributeType::List => "list of text",
            },
        }),
    }
}
