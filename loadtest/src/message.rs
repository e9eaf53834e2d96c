//! The campaign of the load test: the ten-kilobyte reference message, and the small one of the kill test.
//!
//! Owns no state. The reference message is a file that senders can read and that the engine's own benches use too.

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// The topic that imports subscribe to and campaigns send on.
pub const TOPIC: &str = "news";
/// The `subscribe` parameter of an import that gives consent to [`TOPIC`].
pub const SUBSCRIBE: &str = "email:news";

const REFERENCE: &str = include_str!("../reference-message.toml");

/// The reference message for an audience, over a connector.
pub fn reference_campaign(name: &str, connector: &str, audience: &Value) -> anyhow::Result<Value> {
    let table: toml::Table = REFERENCE.parse().context("the reference message is not TOML")?;
    let Value::Object(mut message) = serde_json::to_value(table.get("message")).context("the reference message")?
    else {
        bail!("the reference message has no [message]");
    };
    message.insert("channel".to_owned(), json!("email"));
    message.insert("connector".to_owned(), json!(connector));
    message.insert("topic".to_owned(), json!(TOPIC));
    Ok(json!({"name": name, "kind": "single", "audience": audience, "message": message}))
}

/// A small mail whose subject begins with the campaign's name, by which the record tells campaigns apart.
pub fn small_campaign(name: &str, connector: &str, audience: &Value, per_second: Option<u64>) -> Value {
    let mut spec = json!({
        "name": name,
        "kind": "single",
        "audience": audience,
        "message": {
            "channel": "email",
            "connector": connector,
            "topic": TOPIC,
            "from": "News <news@example.test>",
            "subject": format!("{name} hello"),
            "html": "<p>Hello {{ contact.first_name }}, see <a href=\"https://shop.example.test/a\">this</a>. \
                     <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></p>",
            "text": "Hello {{ contact.first_name }}, see https://shop.example.test/a\n{{ unsubscribe_url }}\n",
        },
    });
    if let Some(rate) = per_second {
        spec["limits"] = json!({"messages_per_second": rate});
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_message_has_the_shape_that_the_bars_speak_of() {
        let spec = reference_campaign("x", "relay", &json!({"all": true})).unwrap();
        let html = spec["message"]["html"].as_str().unwrap();
        let parts = html.len() + spec["message"]["text"].as_str().map_or(0, str::len);
        assert!((7_500..10_240).contains(&parts), "ten kilobytes on the wire, with headers and links: {parts}");
        let links = html.matches("href=\"https://").count();
        assert_eq!(links, 8, "eight links to track");
        assert!(html.contains("{% if ") && html.contains("{% for "), "an if and a for");
        let mut attributes: Vec<&str> = html.split("contact.").skip(1).map(name_at).collect();
        attributes.sort_unstable();
        attributes.dedup();
        assert!(attributes.len() >= 10, "ten attributes: {attributes:?}");
        for attribute in attributes {
            let known = crate::base::ATTRIBUTES.iter().any(|(name, ..)| *name == attribute);
            assert!(known, "the base has a column {attribute}");
        }
        assert!(spec["message"]["text"].is_string(), "a text part");
    }

    fn name_at(text: &str) -> &str {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
    }
}
