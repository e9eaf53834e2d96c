//! What people and programs read: tables, records, JSON. A closed pipe ends the output quietly.
//!
//! Owns no state.

use std::io::Write;

use serde_json::Value as Json;

/// One line on standard error.
pub fn note(text: &str) {
    // nobody is left to tell if standard error is closed
    writeln!(std::io::stderr().lock(), "{text}").unwrap_or_default();
}

/// A line of the result, on standard output.
pub fn line(text: &str) -> anyhow::Result<()> {
    raw(format!("{text}\n").as_bytes())
}

/// Bytes of the result, on standard output.
pub fn raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // as `head` does: what reads us has enough
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// A JSON document.
pub fn json(value: &Json) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// A page of a list: JSON as it is, or a table with these columns (JSON pointers without the leading slash).
pub fn items(page: &Json, columns: &[&str], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json(page);
    }
    let empty = Vec::new();
    let items = page["items"].as_array().unwrap_or(&empty);
    let cell = |item: &Json, column: &str| text(item.pointer(&format!("/{column}")).unwrap_or(&Json::Null));
    let rows = items.iter().map(|item| columns.iter().map(|c| cell(item, c)).collect()).collect();
    let header = columns.iter().map(|c| c.rsplit('/').next().unwrap_or(c).to_owned()).collect();
    table(header, rows)
}

/// A table with aligned columns.
pub fn table(header: Vec<String>, rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in std::iter::once(&header).chain(&rows) {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    raw(out.as_bytes())
}

/// One object: JSON as it is, or a line a field, nested ones with dots.
pub fn record(value: &Json, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json(value);
    }
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: String = rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect();
    raw(lines.as_bytes())
}

fn flatten(prefix: &str, value: &Json, rows: &mut Vec<(String, String)>) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, rows);
            }
        }
        Json::Array(entries) if entries.iter().any(Json::is_object) => {
            for (index, entry) in entries.iter().enumerate() {
                flatten(&format!("{prefix}.{index}"), entry, rows);
            }
        }
        Json::Null => {}
        other => rows.push((prefix.to_owned(), text(other))),
    }
}

/// A value as people read it. Control characters would let a name rewrite the terminal.
pub fn text(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(s) => clean(s),
        Json::Array(entries) => entries.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Without control characters but newline and tab; the line ends of mails become newlines.
pub fn clean(text: &str) -> String {
    text.replace("\r\n", "\n")
        .chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// `1234567` as `1 234 567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Seconds as `1 h 02 min`, `3 min 20 s`, `12 s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3_600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!([grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)], ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([duration(12.4), duration(200.0), duration(3_720.0)], ["12 s", "3 min 20 s", "1 h 02 min"]);
    }

    #[test]
    fn nested_objects_become_dotted_lines() {
        let mut rows = Vec::new();
        flatten("", &json!({"a": {"b": 1, "c": null}, "d": ["x", "y"], "e": [{"f": 2}]}), &mut rows);
        let row = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(rows, [row("a.b", "1"), row("d", "x, y"), row("e.0.f", "2")]);
    }

    #[test]
    fn a_name_cannot_rewrite_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(clean("a\r\nb\rc"), "a\nb\u{fffd}c", "a lone return goes back to the line's start");
    }
}
