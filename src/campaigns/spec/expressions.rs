//! Every segment expression and list that a spec names, wherever it stands.

use serde_json::Value;

use super::{CampaignSpec, MessageFields};

impl CampaignSpec {
    /// The texts of all expressions: of the audience, of a grid's dimensions, of a flow's nodes.
    pub fn expressions(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        found.extend([&self.audience.segment, &self.audience.exclude].into_iter().flatten().map(String::as_str));
        let segments = self.dimensions.iter().flat_map(|dimension| &dimension.segments);
        found.extend(segments.filter_map(|segment| segment.segment.as_deref()));
        self.nodes.iter().for_each(|node| in_fields(&node.fields, &mut found));
        found
    }
}

/// Nodes hold expressions under the key `segment`, at any depth.
fn in_fields<'f>(fields: &'f MessageFields, found: &mut Vec<&'f str>) {
    for (key, value) in fields {
        match value {
            Value::String(text) if key == "segment" => found.push(text),
            value => in_value(value, found),
        }
    }
}

fn in_value<'f>(value: &'f Value, found: &mut Vec<&'f str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| in_value(value, found)),
        Value::Object(fields) => in_fields(fields, found),
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
[[dimensions]]
segments = [{ name = "x", segment = "c" }]
[[nodes]]
segment = "d"
[[nodes]]
segments = [{ exit = "y", segment = "e" }, { exit = "z", segment = "f" }]
"#;
        let spec = parse(spec, Format::Toml).expect("parses");
        assert_eq!(spec.expressions(), ["a", "b", "c", "d", "e", "f"]);
    }
}
