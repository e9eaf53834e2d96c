//! Set attribute: a general field of everybody who arrives gets a value. Nobody rests here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Fault;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAttribute {
    pub attribute: String,
    /// The value as JSON text, so that equal nodes have equal bytes.
    value: String,
}

impl SetAttribute {
    pub fn new(attribute: impl Into<String>, value: &Value) -> SetAttribute {
        SetAttribute { attribute: attribute.into(), value: value.to_string() }
    }

    pub fn value(&self) -> Value {
        serde_json::from_str(&self.value).unwrap_or_default()
    }

    pub fn faults(&self) -> Vec<Fault> {
        if self.attribute.trim().is_empty() {
            return vec![Fault::new("no_attribute", "no attribute is named", "name an attribute")];
        }
        Vec::new()
    }
}
