//! Reading a table and telling everything in it that cannot be read: unknown keys, wrong words, wrong types.
//!
//! serde stops at the first fault. So what it refuses is mended and the whole is read again, until nothing is refused: a key
//! or a word with a near right one is taken for that, and anything else is left out. The types themselves stay the only
//! description of what may be written, and what is read at last is what the rest of the spec would have said.
//!
//! Owns no state. Invariants: RE-1 each turn takes one key, word or element away or puts a right one in its place, and
//! [`limits::SPEC_FAULTS_MAX`] bounds them, so that reading ends; RE-2 paths are those of the text as written, whatever
//! was left out of it before.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use super::suggest::{self, Refused};
use crate::limits;

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `unknown_key`, `unknown_word`, `missing_key`, `wrong_type`, `unreadable`, `syntax`.
    pub code: &'static str,
    /// Keys joined by dots.
    pub path: String,
    pub message: String,
    pub fix: String,
}

/// What was read, and what could not be.
#[derive(Debug)]
pub struct Read<T> {
    /// Nothing, if not even an empty table could be read.
    pub value: Option<T>,
    pub faults: Vec<Fault>,
    pub left_out: LeftOut,
}

/// What was left out of a table to read the rest.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// Keys that mean something, and whose values cannot be read.
    keys: Vec<String>,
    /// Array and index of the elements, as written.
    elements: Vec<(String, usize)>,
}

impl LeftOut {
    /// The path as written, of one in what was read.
    pub fn written(&self, path: &str) -> String {
        let mut written = String::new();
        for segment in path.split('.').filter(|segment| !segment.is_empty()) {
            let segment = match segment.parse::<usize>() {
                Ok(index) => self.written_index(&written, index).to_string(),
                Err(_) => segment.to_owned(),
            };
            if !written.is_empty() {
                written.push('.');
            }
            written.push_str(&segment);
        }
        written
    }

    fn written_index(&self, array: &str, index: usize) -> usize {
        let mut gone: Vec<usize> = self.elements.iter().filter(|(of, _)| of == array).map(|(_, at)| *at).collect();
        gone.sort_unstable();
        gone.into_iter().fold(index, |index, gone| if gone <= index { index + 1 } else { index })
    }

    /// Whether a value at a path as written could not be read, so that what is said of it, or of its lack, is no news.
    pub fn covers(&self, path: &str) -> bool {
        self.keys.iter().any(|key| is_within(path, key))
    }

    /// Whether a value directly in this table could not be read: what the table then lacks is no news.
    pub fn lacks(&self, path: &str) -> bool {
        let parent = |key: &str| key.rsplit_once('.').map_or("", |(parent, _)| parent).to_owned();
        self.keys.iter().any(|key| parent(key) == path)
    }

    pub fn keys(&self) -> &[String] {
        &self.keys
    }
}

/// Whether a path is `outer` or stands in it.
pub fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Reads a value, and tells all that cannot be. `elsewhere` knows where else a key belongs.
pub fn read<T: DeserializeOwned>(mut value: Value, elsewhere: impl Fn(&str) -> Option<String>) -> Read<T> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut left_out = LeftOut::default();
    while faults.len() < limits::SPEC_FAULTS_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => return Read { value: Some(read), faults, left_out },
            Err(error) => error,
        };
        let steps = steps(error.path());
        let text = error.inner().to_string();
        let path = left_out.written(&joined(&steps));
        let (code, fix) = kind_of(&text, &elsewhere);
        faults.push(Fault { code, path: path.clone(), message: suggest::reword(&text, &elsewhere), fix });
        if !mend(&mut value, &steps, &path, &text, &elsewhere, &mut left_out) {
            break;
        }
    }
    Read { value: None, faults, left_out }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The way to the fault; what serde passes through without a name of its own, such as the variant of an enum, ends it.
fn steps(path: &Path) -> Vec<Step> {
    let named = path.iter().map_while(|segment| match segment {
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    named.collect()
}

fn joined(steps: &[Step]) -> String {
    let each = steps.iter().map(|step| match step {
        Step::Key(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    });
    each.collect::<Vec<_>>().join(".")
}

fn kind_of(text: &str, elsewhere: &impl Fn(&str) -> Option<String>) -> (&'static str, String) {
    let one_of = |allowed: &[&str]| match allowed.is_empty() {
        true => "remove it".to_owned(),
        false => format!("use one of: {}", allowed.join(", ")),
    };
    match suggest::refused(text) {
        Some((Refused::Key, name, allowed)) => match (elsewhere(name), suggest::nearest(name, allowed.iter().copied()))
        {
            (Some(_), _) => ("unknown_key", "move it there, or remove it".to_owned()),
            (None, Some(near)) => ("unknown_key", format!("write {near}, or remove it")),
            (None, None) => ("unknown_key", "remove it, or see the keys of this table in the documentation".to_owned()),
        },
        Some((Refused::Value, _, allowed)) => ("unknown_word", one_of(&allowed)),
        None if text.starts_with("missing field") => ("missing_key", "set it".to_owned()),
        None if text.starts_with(suggest::UNKNOWN_KEY) => ("unknown_key", "rename or remove it".to_owned()),
        None if text.starts_with("invalid type") => ("wrong_type", "write what is expected, or remove it".to_owned()),
        None => ("unreadable", "write it as it is described, or remove it".to_owned()),
    }
}

/// Takes away what was refused, or puts what was meant in its place. Answers whether anything was changed.
fn mend(
    value: &mut Value,
    steps: &[Step],
    path: &str,
    text: &str,
    elsewhere: &impl Fn(&str) -> Option<String>,
    left_out: &mut LeftOut,
) -> bool {
    let Some((last, way)) = steps.split_last() else { return false };
    let Some(parent) = follow(value, way) else { return false };
    let refused = suggest::refused(text);
    match (parent, last) {
        (Value::Object(table), Step::Key(key)) => {
            let Some(taken) = table.remove(key) else { return false };
            match refused {
                Some((Refused::Key, name, allowed)) => {
                    let near = suggest::nearest(name, allowed.iter().copied()).filter(|_| elsewhere(name).is_none());
                    put_back(table, near, taken);
                }
                None if text.starts_with(suggest::UNKNOWN_KEY) => put_back(table, suggest::meant(text), taken),
                Some((Refused::Value, name, allowed)) => match suggest::nearest(name, allowed.iter().copied()) {
                    Some(near) => drop(table.insert(key.clone(), Value::String(near.to_owned()))),
                    None => left_out.keys.push(path.to_owned()),
                },
                None => left_out.keys.push(path.to_owned()),
            }
            true
        }
        (Value::Array(elements), Step::Index(index)) if *index < elements.len() => {
            let near = match refused {
                Some((Refused::Value, name, allowed)) => suggest::nearest(name, allowed.iter().copied()),
                _ => None,
            };
            match near {
                Some(near) => elements[*index] = Value::String(near.to_owned()),
                None => {
                    elements.remove(*index);
                    let array = path.rsplit_once('.').map_or("", |(array, _)| array).to_owned();
                    let at = path.rsplit('.').next().and_then(|at| at.parse().ok()).unwrap_or(*index);
                    left_out.elements.push((array, at));
                    left_out.keys.push(path.to_owned());
                }
            }
            true
        }
        _ => false,
    }
}

/// A value under the key that was meant, unless that is there.
fn put_back(table: &mut Map<String, Value>, meant: Option<&str>, value: Value) {
    if let Some(meant) = meant.filter(|meant| !table.contains_key(*meant)) {
        table.insert(meant.to_owned(), value);
    }
}

fn follow<'v>(value: &'v mut Value, way: &[Step]) -> Option<&'v mut Value> {
    way.iter().try_fold(value, |value, step| match (value, step) {
        (Value::Object(table), Step::Key(key)) => table.get_mut(key),
        (Value::Array(elements), Step::Index(index)) => elements.get_mut(*index),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        #[default]
        Strict,
        Loose,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Table {
        name: String,
        word: Word,
        numbers: Vec<u32>,
        inner: Vec<Table>,
    }

    fn told(value: Value) -> (Table, Vec<(&'static str, String)>, LeftOut) {
        let read = read::<Table>(value, |_| None);
        let faults = read.faults.iter().map(|fault| (fault.code, fault.path.clone())).collect();
        assert!(read.faults.iter().all(|f| !f.message.is_empty() && !f.fix.is_empty()), "each says what to do");
        (read.value.expect("read"), faults, read.left_out)
    }

    #[test]
    fn everything_that_cannot_be_read_is_told_at_once_with_its_path() {
        let value = json!({"nmae": "a", "word": "stirct", "numbers": [1, "x", 2, -3], "sense": 1,
            "inner": [{"name": 7}, 5, {"word": "none"}, {"inner": [{"numbers": "x"}]}]});
        let (read, mut faults, left_out) = told(value);
        faults.sort();
        let expected = [
            ("unknown_key", "nmae"),
            ("unknown_key", "sense"),
            ("unknown_word", "inner.2.word"),
            ("unknown_word", "word"),
            ("unreadable", "numbers.3"),
            ("wrong_type", "inner.0.name"),
            ("wrong_type", "inner.1"),
            ("wrong_type", "inner.3.inner.0.numbers"),
            ("wrong_type", "numbers.1"),
        ];
        assert_eq!(faults, expected.map(|(code, path)| (code, path.to_owned())), "all, where they stand");
        assert_eq!((read.name.as_str(), &read.word), ("a", &Word::Strict), "what was nearly right is taken for it");
        assert_eq!((read.numbers.as_slice(), read.inner.len()), (&[1, 2][..], 3), "and the rest is read");
        assert_eq!(left_out.written("inner.1.word"), "inner.2.word", "places are those of the text");
        assert_eq!(left_out.written("numbers.1"), "numbers.2", "the element before it was left out");
        assert!(
            left_out.covers("inner.0.name") && left_out.covers("inner.1.x") && !left_out.covers("inner.0"),
            "in it"
        );
        assert!(left_out.lacks("inner.0") && !left_out.lacks(""), "a key that means nothing is lacked by nobody");
    }

    #[test]
    fn what_is_no_table_at_all_ends_the_reading() {
        let read = read::<Table>(json!(5), |_| None);
        assert!(read.value.is_none() && read.faults.len() == 1, "{read:?}");
    }
}
