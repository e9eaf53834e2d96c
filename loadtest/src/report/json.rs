//! A report's JSON, laid out so that it is small and can still be read and compared by lines.
//!
//! Owns no state. Invariant: only white space differs from what serde writes; a series stands on one line.

/// Pretty-printed JSON with every array of nothing but numbers, and of such arrays, on one line.
pub(super) fn short_arrays(pretty: &str) -> String {
    let mut out = String::with_capacity(pretty.len());
    let mut rest = pretty;
    // A line break within a text is written as `\n`, so that this begins no text.
    while let Some(at) = rest.find("[\n") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = numbers(rest).unwrap_or(1);
        out.extend(rest[..length].chars().filter(|c| !c.is_ascii_whitespace()));
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// Bytes of an array of numbers, or of such arrays, at the beginning.
fn numbers(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' if depth == 1 => return Some(at + 1),
            b']' => depth -= 1,
            b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E' | b',' => {}
            byte if byte.is_ascii_whitespace() => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn series_stand_on_one_line_and_nothing_else_changes() {
        let value = json!({
            "points": [[0.0, 1.5], [1.0, -2e-7]], "samples": [1.0, 2.0], "empty": [], "texts": ["[\n1]", "a, b"],
            "mixed": [1, "two", [3, 4]], "objects": [{"x": 1}],
        });
        let text = short_arrays(&serde_json::to_string_pretty(&value).unwrap());
        assert!(
            text.contains("\"points\": [[0.0,1.5],[1.0,-2e-7]]") && text.contains("\"samples\": [1.0,2.0]"),
            "{text}"
        );
        assert!(text.contains("[3,4]") && text.lines().count() > 10, "what holds other things keeps its lines: {text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
