//! Where the keys of a text stand: line and column by path.
//!
//! Owns no state. Lines and columns count from 1, columns in characters. A path is keys joined by dots, elements of arrays by
//! their index. The scanner of JSON is for texts that serde_json has read: it looks for places and judges nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use toml::de::{DeTable, DeValue};

/// Line and column, from 1.
pub type Place = (u32, u32);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    by_path: BTreeMap<String, Place>,
    /// Keys that stand twice in their table: paths with the later place.
    pub twice: Vec<(String, Place)>,
}

impl Places {
    /// Of a TOML text that was parsed.
    pub fn of_toml(text: &str, table: &DeTable<'_>) -> Places {
        let mut places = Places::default();
        let lines = Lines::of(text);
        toml_table(table, "", &lines, &mut places);
        places
    }

    /// Of a JSON text that serde_json can read.
    pub fn of_json(text: &str) -> Places {
        let mut scanner = Scanner { text, at: 0, lines: Lines::of(text), places: Places::default() };
        scanner.value("");
        scanner.places
    }

    /// Where a path stands, or the nearest thing that it stands in.
    pub fn find(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.by_path.get(path) {
                return Some(*place);
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    fn note(&mut self, path: String, place: Place) {
        match self.by_path.entry(path) {
            Entry::Occupied(first) => self.twice.push((first.key().clone(), place)),
            Entry::Vacant(free) => {
                free.insert(place);
            }
        }
    }
}

/// Byte offsets of the beginnings of lines.
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub fn of(text: &'t str) -> Lines<'t> {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Lines { text, starts: std::iter::once(0).chain(after).collect() }
    }

    pub fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        (u32::try_from(line + 1).unwrap_or(u32::MAX), u32::try_from(column + 1).unwrap_or(u32::MAX))
    }
}

fn within(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// As deep as the parser of TOML lets a text be.
fn toml_table(table: &DeTable<'_>, path: &str, lines: &Lines<'_>, places: &mut Places) {
    for (key, value) in table {
        let own = within(path, key.get_ref());
        places.note(own.clone(), lines.place(key.span().start));
        toml_value(value.get_ref(), &own, lines, places);
    }
}

fn toml_value(value: &DeValue<'_>, path: &str, lines: &Lines<'_>, places: &mut Places) {
    match value {
        DeValue::Table(table) => toml_table(table, path, lines, places),
        DeValue::Array(elements) => {
            for (at, element) in elements.iter().enumerate() {
                let own = within(path, &at.to_string());
                places.note(own.clone(), lines.place(element.span().start));
                toml_value(element.get_ref(), &own, lines, places);
            }
        }
        _ => {}
    }
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    lines: Lines<'t>,
    places: Places,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, is_passed: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&is_passed) {
            self.at += 1;
        }
    }

    fn blank(&mut self) {
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b',' || byte == b':');
    }

    /// As deep as serde_json lets a text be.
    fn value(&mut self, path: &str) {
        self.blank();
        match self.peek() {
            Some(b'{') => self.table(path),
            Some(b'[') => self.array(path),
            Some(b'"') => drop(self.string()),
            Some(_) => self.skip(|byte| !matches!(byte, b',' | b'}' | b']') && !byte.is_ascii_whitespace()),
            None => {}
        }
    }

    fn table(&mut self, path: &str) {
        self.at += 1;
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                self.at += usize::from(self.peek().is_some());
                return;
            }
            let place = self.lines.place(self.at);
            let own = within(path, &self.string());
            self.places.note(own.clone(), place);
            self.value(&own);
        }
    }

    fn array(&mut self, path: &str) {
        self.at += 1;
        for index in 0usize.. {
            self.blank();
            if matches!(self.peek(), Some(b']') | None) {
                self.at += usize::from(self.peek().is_some());
                return;
            }
            let own = within(path, &index.to_string());
            self.places.note(own.clone(), self.lines.place(self.at));
            self.value(&own);
        }
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        let raw = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(raw).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_toml_text_has_its_place() {
        let text = "name = \"é\"\n[message]\nsubject = \"S\" # \"\n[[nodes]]\nid = \"a\"\n[nodes.message]\ntext = \"t\"\n\
            [[nodes]]\nlinks = [\"a\",\n  \"b\"]\nexits = { true = \"x\" }\n";
        let table = DeTable::parse(text).expect("TOML");
        let places = Places::of_toml(text, table.get_ref());
        for (path, place) in [
            ("name", (1, 1)),
            ("message.subject", (3, 1)),
            ("nodes.0.id", (5, 1)),
            ("nodes.0.message.text", (7, 1)),
            ("nodes.1.links.1", (10, 3)),
            ("nodes.1.exits.true", (11, 11)),
        ] {
            assert_eq!(places.find(path), Some(place), "{path}");
        }
        assert_eq!(places.find("message.subject.x.y"), Some((3, 1)), "the nearest thing around it");
        assert_eq!(places.find("nodes.1.kind").map(|(line, _)| line), Some(8), "a key that is not there: its table");
        assert_eq!(places.find("audience.segment"), None, "nothing of it is there");
    }

    #[test]
    fn every_key_of_a_json_text_has_its_place() {
        let text = "{\"name\": \"é \\\" {\",\n \"nodes\": [ {\"id\": 1},\n  {\"exits\": {\"a\": [1, -2.5e3, null]}} ],\n \
            \"name\": true}";
        serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        let places = Places::of_json(text);
        for (path, place) in [
            ("name", (1, 2)),
            ("nodes", (2, 2)),
            ("nodes.0.id", (2, 14)),
            ("nodes.1.exits.a", (3, 14)),
            ("nodes.1.exits.a.2", (3, 31)),
        ] {
            assert_eq!(places.find(path), Some(place), "{path}");
        }
        assert_eq!(places.twice, [("name".to_owned(), (4, 2))], "what stands twice");
    }
}
