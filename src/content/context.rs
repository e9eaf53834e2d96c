//! What a residual template sees of a contact.
//!
//! The state owned here is one contact's values at a time, replaced in place for each contact, so that the objects that
//! minijinja holds are made once per lane. Invariant: CX-1 only attributes that the residual template names are converted.

use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object};
use parking_lot::Mutex;

use crate::contacts::{self, Record, Schema};
use crate::content::env;
use crate::ids::AttributeId;

#[derive(Debug)]
struct Contact {
    names: Vec<String>,
    values: Mutex<Vec<Value>>,
}

impl Object for Contact {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let at = self.names.iter().position(|n| n == key)?;
        self.values.lock().get(at).filter(|v| !v.is_undefined()).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

#[derive(Debug)]
struct Root {
    contact: Value,
    urls: Mutex<(Value, Value)>,
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "contact" => Some(self.contact.clone()),
            "unsubscribe_url" => Some(self.urls.lock().0.clone()),
            "view_url" => Some(self.urls.lock().1.clone()),
            _ => None,
        }
    }
}

/// The variables of a render, made once and filled per contact.
#[derive(Debug)]
pub(super) struct Variables {
    attributes: Vec<AttributeId>,
    contact: Arc<Contact>,
    root: Arc<Root>,
    value: Value,
}

impl Variables {
    pub fn new(schema: &Schema, attributes: &[AttributeId]) -> Variables {
        let names = attributes.iter().map(|id| schema.by_id(*id).map(|a| a.name.clone()).unwrap_or_default()).collect();
        let contact = Arc::new(Contact { names, values: Mutex::new(Vec::with_capacity(attributes.len())) });
        let root = Arc::new(Root {
            contact: Value::from_dyn_object(contact.clone()),
            urls: Mutex::new((Value::UNDEFINED, Value::UNDEFINED)),
        });
        let value = Value::from_dyn_object(root.clone());
        Variables { attributes: attributes.to_vec(), contact, root, value }
    }

    pub fn fill(&self, record: &Record<'_>) {
        let mut values = self.contact.values.lock();
        values.clear();
        values.extend(self.attributes.iter().map(|id| record.get(*id).map_or(Value::UNDEFINED, to_value)));
    }

    pub fn set_urls(&self, unsubscribe: &str, view: &str) {
        *self.root.urls.lock() = (Value::from(unsubscribe), Value::from(view));
    }

    pub fn root(&self) -> Value {
        self.value.clone()
    }
}

/// A value as templates see it.
pub(super) fn to_value(value: contacts::Value<'_>) -> Value {
    match value {
        contacts::Value::Text(text) => Value::from(text),
        contacts::Value::Number(n) if n.fract() == 0.0 && n.abs() < 1e15 => Value::from(n as i64),
        contacts::Value::Number(n) => Value::from(n),
        contacts::Value::Bool(b) => Value::from(b),
        contacts::Value::Time(time) => Value::from(env::time_text(time)),
        contacts::Value::List(list) => list.iter().map(Value::from).collect(),
    }
}

/// A value as a lone `{{ contact.attribute }}` prints it: the same text as through the template engine.
pub(super) fn printed<'a>(value: contacts::Value<'a>, scratch: &'a mut String) -> &'a str {
    use std::fmt::Write as _;
    scratch.clear();
    match value {
        contacts::Value::Text(text) => return text,
        contacts::Value::Number(n) => env::push_number(scratch, n),
        contacts::Value::Bool(b) => scratch.push_str(if b { "true" } else { "false" }),
        contacts::Value::Time(time) => env::push_time(scratch, time),
        contacts::Value::List(list) => {
            for (i, entry) in list.iter().enumerate() {
                // Writing to a string does not fail.
                let written = write!(scratch, "{}{entry}", if i > 0 { ", " } else { "" });
                debug_assert!(written.is_ok(), "a string takes all text");
            }
        }
    }
    scratch
}
