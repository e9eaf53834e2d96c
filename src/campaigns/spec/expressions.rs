//! Every segment expression that a spec names, wherever it stands: audience, dimensions, steps, nodes.

use serde_json::Value;

use super::CampaignSpec;

impl CampaignSpec {
    /// The texts of all expressions. They stand under the keys `segment` and `exclude`, at any depth, but in no message.
    pub fn expressions(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.to_value(), &mut found);
        found
    }
}

/// As deep as the spec's parser lets a text be.
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| *key != "message") {
                match value {
                    Value::String(text) if key == "segment" || key == "exclude" => found.push(text.clone()),
                    value => collect(value, found),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::campaigns::parse::{Format, parse};

    #[test]
    fn expressions_are_found_wherever_they_stand() {
        let spec = r#"
audience = { segment = "a", exclude = "b" }
message = { segment = "no expression" }
[[dimensions]]
segments = [{ name = "x", segment = "c" }]
[[nodes]]
segment = "d"
[[nodes]]
segments = [{ exit = "y", segment = "e" }, { exit = "z", segment = "f" }]
"#;
        let mut found = parse(spec, Format::Toml).expect("parses").expressions();
        found.sort();
        assert_eq!(found, ["a", "b", "c", "d", "e", "f"]);
    }
}
