//! Everything that the store has about one contact, as JSON: for the contact's own request, and for the API.

use serde_json::{Map, Value as Json, json};

use crate::contacts::record::{Record, Value};
use crate::contacts::schema::Schema;
use crate::contacts::{ContactsError, Reader};
use crate::ids::ContactRow;

/// A record as `ContactInput` would take it, with `created`, `updated` and the like beside.
pub fn record_json(record: Record<'_>, schema: &Schema) -> Json {
    let mut contact = Map::new();
    let mut attributes = Map::new();
    for (id, value) in record.iter() {
        let Some(attribute) = schema.by_id(id) else { continue };
        let value = match value {
            Value::Text(text) => json!(text),
            Value::Number(number) => json!(number),
            Value::Bool(flag) => json!(flag),
            Value::Time(time) => json!(time.to_string()),
            Value::List(list) => list.iter().collect(),
        };
        let into = if id.is_built_in() { &mut contact } else { &mut attributes };
        into.insert(attribute.name.clone(), value);
    }
    contact.insert("attributes".to_owned(), Json::Object(attributes));
    Json::Object(contact)
}

impl Reader {
    /// All data of the contact: record and consent history. `None` if there is no such row.
    pub fn export(&self, row: ContactRow) -> Result<Option<Json>, ContactsError> {
        let Some(record) = self.record(row)? else {
            return Ok(None);
        };
        let mut out = record_json(record, &self.schema());
        let consents: Vec<Json> = self
            .consent_history(row)?
            .into_iter()
            .map(|c| {
                json!({
                    "channel": c.channel, "topic": c.topic, "status": c.status, "source": c.source, "at": c.at.to_string(),
                })
            })
            .collect();
        if let Json::Object(contact) = &mut out {
            contact.insert("row".to_owned(), json!(row.0));
            contact.insert("consent_history".to_owned(), Json::Array(consents));
        }
        Ok(Some(out))
    }
}
