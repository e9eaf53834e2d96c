//! What people and programs read: tables, records, JSON. A closed pipe ends the output quietly.
//!
//! Owns no state. Invariants: OU-1 what people read has no control characters but line ends and tabs, whoever wrote the names
//! and messages in it: a name cannot move the cursor, set a title or turn the direction of a line; OU-2 a cell of a table
//! is one line, and further lines of a field are indented, so that no value looks like another row; OU-3 what programs read
//! (JSON, and files that are not written to a terminal) has every byte as it is.

use std::io::{IsTerminal as _, Write};

use serde_json::Value as Json;

/// One line on standard error.
pub fn note(text: &str) {
    // nobody is left to tell if standard error is closed
    writeln!(std::io::stderr().lock(), "{}", clean(text)).unwrap_or_default();
}

/// A JSON document on standard error, in one line.
pub fn note_json(value: &Json) {
    writeln!(std::io::stderr().lock(), "{value}").unwrap_or_default();
}

/// A line of the result, on standard output.
pub fn line(text: &str) -> anyhow::Result<()> {
    raw(format!("{}\n", clean(text)).as_bytes())
}

/// Where a file of the result goes: standard output, without control characters if that is a terminal.
pub fn file() -> Box<dyn Write> {
    let out = std::io::stdout();
    if out.is_terminal() { Box::new(ForPeople { out, held: false }) } else { Box::new(out.lock()) }
}

/// Replaces control characters in UTF-8 that comes in pieces.
struct ForPeople<W> {
    out: W,
    /// The first byte of U+0080 to U+00BF was the last one.
    held: bool,
}

impl<W: Write> Write for ForPeople<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut shown = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            let of_c1 = std::mem::take(&mut self.held);
            match byte {
                0x80..=0x9f if of_c1 => shown.push(b'?'),
                _ => {
                    shown.extend(of_c1.then_some(0xc2));
                    match byte {
                        0xc2 => self.held = true,
                        b'\n' | b'\t' | b'\r' => shown.push(*byte),
                        0..0x20 | 0x7f => shown.push(b'?'),
                        _ => shown.push(*byte),
                    }
                }
            }
        }
        self.out.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
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
    raw(format!("{}\n", serde_json::to_string_pretty(value)?).as_bytes())
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
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", one_line(cell)));
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
    let indent = format!("\n{:width$}  ", "");
    let line = |(name, value): &(String, String)| {
        format!("{:<width$}  {}\n", one_line(name), clean(value).replace('\n', &indent))
    };
    raw(rows.iter().map(line).collect::<String>().as_bytes())
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

/// A value as people read it.
pub fn text(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(s) => clean(s),
        Json::Array(entries) => entries.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Without control characters but newline and tab; the line ends of mails become newlines. Nor does it keep what turns
/// the direction of the text that follows, by which a name could change how the rest of its line reads.
pub fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_shown = |c: char| c == '\n' || c == '\t' || !(c.is_control() || turns(c));
    text.replace("\r\n", "\n").chars().map(|c| if is_shown(c) { c } else { '\u{fffd}' }).collect()
}

/// [`clean`], in one line of the same length.
fn one_line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

/// A problem of a spec as people read it: where, what, its code, and what to do about it.
pub fn problem(problem: &Json) -> String {
    let path = text(&problem["path"]);
    let within = match (problem["line"].as_u64(), problem["column"].as_u64()) {
        (Some(line), Some(column)) => format!("{path}:{line}:{column}"),
        _ => path,
    };
    // People know nodes by their ids; the path is where a program looks.
    let node = problem["node"].as_str().map(|node| format!("node {}", clean(node)));
    let line = problem["spec_line"].as_u64().map(|line| format!("line {line}"));
    let place: Vec<String> = line.into_iter().chain(node).chain([within]).filter(|part| !part.is_empty()).collect();
    let (code, message) = (text(&problem["code"]), text(&problem["message"]));
    format!("  {}: {message} [{code}]\n    → {}", place.join(", "), text(&problem["fix"]))
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
    fn a_file_on_a_terminal_has_no_control_characters_however_it_is_cut() {
        let text = "id,name\r\n1,\u{1b}]0;x\u{7}é\u{9b}2J\u{7f}\u{a0}ü€\n".as_bytes();
        let wanted = "id,name\r\n1,?]0;x?é?2J?\u{a0}ü€\n";
        for cut in 0..text.len() {
            let mut people = ForPeople { out: Vec::new(), held: false };
            people.write_all(&text[..cut]).unwrap();
            people.write_all(&text[cut..]).unwrap();
            assert_eq!(String::from_utf8(people.out).unwrap(), wanted, "cut at {cut}");
        }
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
        assert_eq!(clean("a\u{9b}2Jb\u{202e}c"), "a\u{fffd}2Jb\u{fffd}c", "one-byte CSI, and a turn of direction");
        assert_eq!(one_line("Ann\nBob\tx"), "Ann Bob x", "a cell is one line");
    }
}
