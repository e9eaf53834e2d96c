//! The record of a contact as bytes: an offset table and typed values, read in place without decoding.
//!
//! ```text
//! u8 version = 1 · u8 reserved · u16 n · n × (u16 attribute, u32 end) · values
//! value = u8 tag · payload     T text: UTF-8 · N number: f64 · B boolean: u8 · D date-time: i64 ms
//!                              L list: n × (u16 length, UTF-8)
//! ```
//! Integers are little endian; entries are sorted by attribute; `end` counts from the start of the values. An attribute
//! that the contact lacks has no entry. Invariant: a [`Record`] made by [`Record::parse`] never reads out of bounds,
//! whatever the bytes.

use crate::clock::Timestamp;
use crate::ids::{AttributeId, Channel};
use crate::limits;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 4;
const ENTRY_BYTES: usize = 6;

/// A typed value of an attribute, borrowed from the record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Text(&'a str),
    Number(f64),
    Bool(bool),
    Time(Timestamp),
    List(TextList<'a>),
}

/// A list of text, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextList<'a>(&'a [u8]);

impl<'a> TextList<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_at_checked(2)?;
            let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
            let (text, tail) = tail.split_at_checked(length)?;
            rest = tail;
            Some(std::str::from_utf8(text).unwrap_or(""))
        })
    }
}

/// A contact's record, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    entries: &'a [u8],
    values: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record is damaged or of an unknown version")]
pub struct BadRecord;

impl<'a> Record<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Record<'a>, BadRecord> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(BadRecord)?;
        if head[0] != VERSION {
            return Err(BadRecord);
        }
        let count = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (entries, values) = rest.split_at_checked(count * ENTRY_BYTES).ok_or(BadRecord)?;
        Ok(Record { entries, values })
    }

    /// Appends the record's bytes, as [`Record::parse`] takes them.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(self.entries);
        out.extend_from_slice(self.values);
    }

    fn entry(&self, index: usize) -> (AttributeId, usize) {
        let at = index * ENTRY_BYTES;
        let e = &self.entries[at..at + ENTRY_BYTES];
        let end = u32::from_le_bytes([e[2], e[3], e[4], e[5]]);
        (AttributeId(u16::from_le_bytes([e[0], e[1]])), usize::try_from(end).unwrap_or(usize::MAX))
    }

    fn len(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// The value of an attribute; `None` if the contact lacks it.
    pub fn get(&self, id: AttributeId) -> Option<Value<'a>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.entry(middle).0.cmp(&id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.value(middle),
            }
        }
        None
    }

    fn value(&self, index: usize) -> Option<Value<'a>> {
        let start = if index == 0 { 0 } else { self.entry(index - 1).1 };
        Record::decode_value(self.values.get(start..self.entry(index).1)?)
    }

    /// A value from its tag and payload, as [`Record::raw_iter`] gives them.
    pub(crate) fn decode_value(bytes: &'a [u8]) -> Option<Value<'a>> {
        let (tag, payload) = bytes.split_first()?;
        match tag {
            b'T' => std::str::from_utf8(payload).ok().map(Value::Text),
            b'N' => Some(Value::Number(f64::from_le_bytes(payload.try_into().ok()?))),
            b'B' => Some(Value::Bool(*payload.first()? != 0)),
            b'D' => Some(Value::Time(Timestamp(i64::from_le_bytes(payload.try_into().ok()?)))),
            b'L' => Some(Value::List(TextList(payload))),
            _ => None,
        }
    }

    pub fn text(&self, id: AttributeId) -> Option<&'a str> {
        match self.get(id) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The sender's own id of the contact.
    pub fn key(&self) -> &'a str {
        self.text(AttributeId::KEY).unwrap_or("")
    }

    /// The normalised address for a channel that has one text address.
    pub fn address(&self, channel: Channel) -> Option<&'a str> {
        self.text(channel.address_attribute())
    }

    pub fn is_active(&self) -> bool {
        !matches!(self.get(AttributeId::ACTIVE), Some(Value::Bool(false)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (AttributeId, Value<'a>)> {
        let this = *self;
        (0..this.len()).filter_map(move |i| this.value(i).map(|v| (this.entry(i).0, v)))
    }

    /// Attributes in order with the bytes of their values: equal bytes are equal values.
    pub(crate) fn raw_iter(self) -> impl Iterator<Item = (AttributeId, &'a [u8])> {
        let mut start = 0;
        (0..self.len()).filter_map(move |i| {
            let (id, end) = self.entry(i);
            let bytes = self.values.get(start..end);
            start = end;
            bytes.map(|b| (id, b))
        })
    }
}

/// Collects values and writes a record. Setting an attribute twice keeps the last value.
#[derive(Clone, Debug, Default)]
pub struct RecordBuilder {
    entries: Vec<(AttributeId, usize, usize)>,
    values: Vec<u8>,
    /// The largest attribute set so far: ascending ones need no search for an earlier value.
    last: Option<AttributeId>,
}

impl RecordBuilder {
    pub fn new() -> RecordBuilder {
        RecordBuilder::default()
    }

    /// Starts from a present record, so that a patch keeps what it does not name.
    pub fn from_record(record: Record<'_>) -> RecordBuilder {
        let mut builder = RecordBuilder::new();
        builder.extend_raw(record);
        builder
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.values.clear();
        self.last = None;
    }

    /// Sets every value of a record.
    pub(crate) fn extend_raw(&mut self, record: Record<'_>) {
        for (id, bytes) in record.raw_iter() {
            self.set_raw(id, bytes);
        }
    }

    pub fn remove(&mut self, id: AttributeId) {
        self.entries.retain(|e| e.0 != id);
    }

    pub fn set(&mut self, id: AttributeId, value: Value<'_>) {
        match value {
            Value::Text(text) => self.put(id, b'T', |out| out.extend_from_slice(text.as_bytes())),
            Value::Number(number) => self.put(id, b'N', |out| out.extend_from_slice(&number.to_le_bytes())),
            Value::Bool(bool) => self.put(id, b'B', |out| out.push(u8::from(bool))),
            Value::Time(time) => self.put(id, b'D', |out| out.extend_from_slice(&time.0.to_le_bytes())),
            Value::List(list) => self.put(id, b'L', |out| out.extend_from_slice(list.0)),
        }
    }

    /// Sets a list; entries beyond `limits::LIST_ENTRIES_MAX` and bytes beyond 65 535 of an entry are the caller's error
    /// to refuse, and are cut here.
    pub fn set_list<'t>(&mut self, id: AttributeId, entries: impl IntoIterator<Item = &'t str>) {
        self.put(id, b'L', |out| {
            for entry in entries.into_iter().take(limits::LIST_ENTRIES_MAX) {
                let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(&entry.as_bytes()[..usize::from(length)]);
            }
        });
    }

    fn put(&mut self, id: AttributeId, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if self.last.is_some_and(|last| id <= last) {
            self.remove(id);
        }
        self.last = self.last.max(Some(id));
        let start = self.values.len();
        self.values.push(tag);
        write(&mut self.values);
        self.entries.push((id, start, self.values.len()));
    }

    /// Sets a value from the bytes of [`Record::raw_iter`].
    pub(crate) fn set_raw(&mut self, id: AttributeId, bytes: &[u8]) {
        let Some((tag, payload)) = bytes.split_first() else {
            return;
        };
        self.put(id, *tag, |out| out.extend_from_slice(payload));
    }

    /// Appends the record to `out`.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        self.entries.sort_unstable_by_key(|e| e.0);
        let count = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&count.to_le_bytes());
        let mut end = 0usize;
        for (id, start, stop) in &self.entries {
            end += stop - start;
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(&u32::try_from(end).unwrap_or(u32::MAX).to_le_bytes());
        }
        for (_, start, stop) in &self.entries {
            out.extend_from_slice(&self.values[*start..*stop]);
        }
    }

    pub fn to_bytes(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.entries.len() * ENTRY_BYTES + self.values.len());
        self.write(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_what_was_set_and_keeps_the_last_value() {
        let mut builder = RecordBuilder::new();
        builder.set(AttributeId(70), Value::Number(4.5));
        builder.set(AttributeId::KEY, Value::Text("k1"));
        builder.set_list(AttributeId(71), ["vip", "né"]);
        builder.set(AttributeId(70), Value::Number(7.0));
        let bytes = builder.to_bytes();
        let record = Record::parse(&bytes).expect("a built record parses");
        assert_eq!(record.key(), "k1", "key");
        assert_eq!(record.get(AttributeId(70)), Some(Value::Number(7.0)), "last value wins");
        let Some(Value::List(list)) = record.get(AttributeId(71)) else { panic!("the list is there") };
        assert_eq!(list.iter().collect::<Vec<_>>(), ["vip", "né"], "list");
        assert_eq!(record.get(AttributeId(72)), None, "lacking");
        assert_eq!(RecordBuilder::from_record(record).to_bytes(), bytes, "rebuilt");
    }

    #[test]
    fn no_cut_or_flipped_record_reads_out_of_bounds() {
        let mut builder = RecordBuilder::new();
        builder.set(AttributeId::KEY, Value::Text("key"));
        builder.set_list(AttributeId(71), ["a", "b"]);
        let bytes = builder.to_bytes();
        for cut in 0..bytes.len() {
            for flip in 0..=u8::MAX {
                let mut broken = bytes.clone();
                broken[cut] ^= flip;
                broken.truncate(bytes.len() - usize::from(flip % 3));
                if let Ok(record) = Record::parse(&broken) {
                    let lists = record
                        .iter()
                        .filter_map(|(_, v)| if let Value::List(l) = v { Some(l.iter().count()) } else { None });
                    assert!(lists.sum::<usize>() <= bytes.len(), "bounded");
                }
            }
        }
    }
}
