//! What is wrong with a message, said so that its author can put it right: all problems at once, each with its place.
//!
//! Owns no state.

use serde::Serialize;

/// One thing to put right before the message can be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContentProblem {
    /// Stable name of the kind of problem, for programs: `unknown_attribute`, `syntax`, `bad_sender`, …
    pub code: &'static str,
    /// The key of the message it is in: `subject`, `html`, `from`, `headers.X-Name`, …
    pub field: String,
    /// Line in the field, from 1; 0 if the whole field is meant.
    pub line: u32,
    /// Column in the line, in characters, from 1; 0 if the whole field is meant.
    pub column: u32,
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl std::fmt::Display for ContentProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.field)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}; {}", self.message, self.help)
    }
}

/// Collects the problems of one message.
#[derive(Debug, Default)]
pub(super) struct Problems(pub Vec<ContentProblem>);

/// More are not of use to anyone, and a broken template could have one a byte.
const PROBLEMS_MAX: usize = 100;

impl Problems {
    /// A problem with a whole field.
    pub fn field(&mut self, code: &'static str, field: &str, message: impl Into<String>, help: impl Into<String>) {
        self.push(code, field, (0, 0), message.into(), help.into());
    }

    /// A problem at byte `offset` of the text of a field.
    pub fn at(
        &mut self,
        code: &'static str,
        (field, source, offset): (&str, &str, usize),
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(code, field, line_and_column(source, offset), message.into(), help.into());
    }

    fn push(&mut self, code: &'static str, field: &str, (line, column): (u32, u32), message: String, help: String) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(ContentProblem { code, field: field.to_owned(), line, column, message, help });
        }
    }
}

/// Line and column, both from 1, of a byte offset.
pub(super) fn line_and_column(source: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &source[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// The candidate nearest to `name`, if one is near enough to be meant.
pub(super) fn suggestion<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .filter(|c| c.len() <= 64 && wanted.len() <= 64)
        .map(|c| (edits(&wanted, &c.to_lowercase()), c))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, c)| *distance <= 1 + c.len().min(wanted.len()) / 3)
        .map(|(_, c)| c)
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_suggestions() {
        assert_eq!(line_and_column("ab\ncé x", 7), (2, 4), "columns count characters");
        assert_eq!(line_and_column("ab", 99), (1, 3), "beyond the end");
        assert_eq!(suggestion("firstname", ["key", "first_name"].into_iter()), Some("first_name"), "near");
        assert_eq!(suggestion("zzz", ["key", "first_name"].into_iter()), None, "far");
    }
}
