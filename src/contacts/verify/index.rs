//! The index part of a verification: what records call for against what lies there, chunk by chunk, and then what lies
//! there without a record that calls for it.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use super::{Owner, Walk, hex, shown, texts};
use crate::contacts::consent::ConsentEntry;
use crate::contacts::container::{Assembler, BadContainer, Stored};
use crate::contacts::record::{Record, Value};
use crate::contacts::sets::{number_digits, time_digits};
use crate::contacts::{ContactsError, StoreResult, index_keys};
use crate::ids::{AttributeId, Channel};

fn owner(prefix: &[u8]) -> Option<Owner> {
    let kind = *prefix.first()?;
    let attribute = u16::from_be_bytes(*prefix.get(1..)?.first_chunk()?);
    matches!(kind, b'P' | b'D' | b'V').then_some((kind, attribute))
}

/// The rows of one container, decoded in full.
fn rows_of(high: u16, stored: Stored<'_>) -> Result<RoaringBitmap, BadContainer> {
    let mut assembler = Assembler::default();
    assembler.push(high, stored);
    assembler.finish()
}

/// A sample of the rows that two sets do not share.
fn first_difference(found: &RoaringBitmap, wanted: &RoaringBitmap) -> Option<(u32, bool)> {
    let row = (found ^ wanted).min()?;
    Some((row, found.contains(row)))
}

impl Walk<'_> {
    /// A set in words.
    fn set_name(&self, prefix: &[u8]) -> String {
        let Some((kind, id)) = owner(prefix) else { return format!("set {}", hex(prefix)) };
        let attribute =
            self.schema.by_id(AttributeId(id)).map_or_else(|| format!("attribute {id}"), |a| format!("{:?}", a.name));
        match kind {
            b'P' => format!("contacts with a value for {attribute}"),
            b'D' => format!("binary digit {} of {attribute}", prefix.get(3).copied().unwrap_or_default()),
            _ => match index_keys::value_of(prefix) {
                Some(text) => format!("{attribute} = {}", shown(text)),
                None => format!("a long value of {attribute}"),
            },
        }
    }

    /// Holds the index against what the records of a chunk call for, and forgets it.
    pub(super) fn compare_chunk(&mut self) -> Result<(), ContactsError> {
        let mut chunk = std::mem::take(&mut self.chunk);
        for (prefix, (rows, text)) in chunk.sets.drain() {
            if let Some(problem) = self.compare(&prefix, chunk.high, &rows, text.as_deref())? {
                self.wrong("index", self.set_name(&prefix), problem);
            }
        }
        let mut prefix = Vec::new();
        for (id, planes) in chunk.digits.drain() {
            // One wrong number is wrong in many digits.
            let mut first = None;
            for (digit, rows) in (0u8..).zip(planes).filter(|(_, rows)| !rows.is_empty()) {
                index_keys::digit(id, digit, &mut prefix);
                let problem = self.compare(&prefix, chunk.high, &rows, None)?;
                first = first.or(problem.map(|problem| (prefix.clone(), problem)));
            }
            if let Some((prefix, problem)) = first {
                self.wrong("index", self.set_name(&prefix), problem);
            }
        }
        self.chunk = chunk;
        Ok(())
    }

    /// What is wrong with the container of a set; counts it if it is there.
    fn compare(
        &mut self,
        prefix: &[u8],
        high: u16,
        wanted: &RoaringBitmap,
        text: Option<&str>,
    ) -> Result<Option<String>, ContactsError> {
        let mut key = prefix.to_vec();
        index_keys::push_high(&mut key, u32::from(high) << 16);
        let first = wanted.min().unwrap_or_default();
        let Some(bytes) = self.dbs.index.get(self.txn, &key).or_store("read the index")? else {
            return Ok(Some(format!("lacks {} contacts whose records have it, row {first} first", wanted.len())));
        };
        if let Some(owner) = owner(prefix) {
            *self.containers.entry(owner).or_default() += 1;
        }
        let decoded = Stored::parse(bytes).and_then(|stored| Ok((stored.text, rows_of(high, stored)?)));
        let Ok((found_text, found)) = decoded else {
            return Ok(Some(format!("does not decode; its first contact is row {first}")));
        };
        if found_text != text {
            return Ok(Some(format!("is not kept under its own value; row {first} has it")));
        }
        Ok(first_difference(&found, wanted).map(|(row, is_there)| {
            let which = if is_there { "names a contact whose record does not have it" } else { "lacks a contact" };
            format!("{which}: row {row}; {} contacts there, {} by the records", found.len(), wanted.len())
        }))
    }

    pub(super) fn index(&mut self) -> Result<(), ContactsError> {
        let txn = self.txn;
        let mut found: HashMap<Owner, u64> = HashMap::new();
        let mut shared: BTreeMap<u8, RoaringBitmap> = BTreeMap::new();
        for entry in self.dbs.index.iter(txn).or_store("read the index")? {
            let (key, bytes) = entry.or_store("read the index")?;
            self.out.index_containers += 1;
            let Some((prefix, high)) = index_keys::split(key) else {
                self.wrong("index", format!("entry {}", hex(key)), "is named by no set");
                continue;
            };
            if let Some(owner) = owner(prefix) {
                *found.entry(owner).or_default() += 1;
                continue;
            }
            match Stored::parse(bytes).and_then(|stored| rows_of(high, stored)) {
                Err(_) => self.wrong("index", self.set_name(prefix), "does not decode"),
                Ok(rows) => match prefix {
                    [b'S', channel] => *shared.entry(*channel).or_default() |= rows,
                    [b'I', ..] => self.seen(prefix, &rows),
                    [b'C', rest @ ..] => self.given(rest, &rows)?,
                    _ => self.wrong("index", self.set_name(prefix), "is of no known kind"),
                },
            }
        }
        self.compare_shared(&shared);
        let is_extra = |(owner, count): &(Owner, u64)| self.containers.get(owner) != Some(count);
        let mut extra: Vec<Owner> = found.into_iter().filter(is_extra).map(|(owner, _)| owner).collect();
        extra.sort_unstable();
        extra.into_iter().try_for_each(|owner| self.name_extra(owner))
    }

    /// Rows that an import has seen may be erased since, but were given out.
    fn seen(&mut self, prefix: &[u8], rows: &RoaringBitmap) {
        if let Some(row) = rows.max().filter(|row| u64::from(*row) >= self.next_row) {
            self.wrong(
                "index",
                self.set_name(prefix),
                format!("an import has seen row {row}, which was never given out"),
            );
        }
    }

    /// Consent that an import gave: `rest` is import and number.
    fn given(&mut self, rest: &[u8], rows: &RoaringBitmap) -> Result<(), ContactsError> {
        let place = format!("consent of import {}", rest.first_chunk().map_or(0, |id| u32::from_be_bytes(*id)));
        if let Some(row) = (rows - &self.rows).min() {
            self.wrong("index", place.clone(), format!("names row {row}, which has no record"));
        }
        let (import, number) = rest.split_at(rest.len().min(4));
        let mut key = import.to_vec();
        key.push(b'c');
        let bytes = self.dbs.imports.get(self.txn, &key).or_store("read an import")?;
        let entries: Vec<ConsentEntry> = bytes.and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_default();
        let number = number.try_into().map_or(usize::MAX, |number| usize::from(u16::from_be_bytes(number)));
        if number >= entries.len() {
            self.wrong("imports", place, "what it gave is not kept, or does not decode");
        }
        Ok(())
    }

    fn compare_shared(&mut self, found: &BTreeMap<u8, RoaringBitmap>) {
        let none = RoaringBitmap::new();
        let wanted = std::mem::take(&mut self.shared);
        for channel in Channel::ALL {
            let of = |sets: &BTreeMap<u8, RoaringBitmap>| sets.get(&(channel as u8)).unwrap_or(&none).clone();
            if let Some((row, is_there)) = first_difference(&of(found), &of(&wanted)) {
                let which = if is_there { "names a contact who shares none" } else { "lacks a contact" };
                self.wrong("index", format!("shared addresses of {channel}"), format!("{which}: row {row}"));
            }
        }
    }

    /// Names the containers of an attribute that no record calls for.
    fn name_extra(&mut self, (kind, id): Owner) -> Result<(), ContactsError> {
        let txn = self.txn;
        let [high, low] = id.to_be_bytes();
        for entry in self.dbs.index.prefix_iter(txn, &[kind, high, low]).or_store("read the index")? {
            let (key, bytes) = entry.or_store("read the index")?;
            let Some((prefix, high)) = index_keys::split(key) else { continue };
            let Ok(stored) = Stored::parse(bytes) else {
                self.wrong("index", self.set_name(prefix), "does not decode");
                continue;
            };
            let text = index_keys::value_of(prefix).or(stored.text);
            let Ok(rows) = rows_of(high, stored) else {
                self.wrong("index", self.set_name(prefix), "does not decode");
                continue;
            };
            let mut called_for = false;
            for row in rows.iter() {
                let bytes = self.dbs.records.get(txn, &row.to_be_bytes()).or_store("read a record")?;
                let value = bytes.and_then(|b| Record::parse(b).ok()).and_then(|r| r.get(AttributeId(id)));
                called_for = value.is_some_and(|value| calls_for(value, prefix, text));
                if called_for {
                    break;
                }
            }
            if !called_for {
                let first = rows.min().unwrap_or_default();
                let problem = format!("names {} contacts whose records do not have it, row {first} first", rows.len());
                self.wrong("index", self.set_name(prefix), problem);
            }
        }
        Ok(())
    }
}

/// Whether a value of the set's attribute belongs to the set.
fn calls_for(value: Value<'_>, prefix: &[u8], text: Option<&str>) -> bool {
    let digit = || prefix.get(3).copied().unwrap_or(u8::MAX);
    let has = |digits: u64| digits.checked_shr(u32::from(digit())).unwrap_or(0) & 1 == 1;
    match (prefix.first(), value) {
        (Some(b'P'), _) => true,
        (Some(b'D'), Value::Number(number)) => has(number_digits(number)),
        (Some(b'D'), Value::Time(time)) => has(time_digits(time)),
        (Some(b'V'), value) => text.is_some_and(|text| texts(value).contains(&text)),
        _ => false,
    }
}
