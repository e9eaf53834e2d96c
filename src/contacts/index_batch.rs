//! Changes of records collected as changes of index sets, then written in key order, each container once.
//!
//! Owns the changes of one write transaction (or of a part of it). Invariants: IB-1 a row occurs at most once between two
//! calls of [`IndexBatch::apply`], so that changes need no order among themselves; IB-2 `apply` leaves the index as if each
//! record had been indexed alone; IB-3 the version of every owner of a changed set is set to the transaction's id.
//!
//! Bit-sliced sets are built 64 rows at a time: the digits of 64 rows are a 64 × 64 bit matrix, and its transpose is one
//! word of each of the 64 sets (H. S. Warren, Hacker's Delight, 7-3).

mod addresses;

use std::collections::HashMap;

use heed::RwTxn;
use roaring::RoaringBitmap;
use smallvec::SmallVec;

use crate::contacts::addresses::address_hash;
use crate::contacts::container::{self, Scratch, WORDS, Words};
use crate::contacts::record::{Record, Value};
use crate::contacts::schema::{IndexKind, Schema};
use crate::contacts::sets::{number_digits, time_digits};
use crate::contacts::store::Databases;
use crate::contacts::{ContactsError, StoreResult, index_keys};
use crate::ids::{AddressHash, AttributeId, Channel};

type Rows = SmallVec<[u32; 4]>;

#[derive(Default)]
struct ValueDelta {
    add: Rows,
    remove: Rows,
}

struct Slot {
    kind: IndexKind,
    channel: Option<Channel>,
    used: bool,
    present_add: Vec<u32>,
    present_remove: Vec<u32>,
    ids: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
    values: Vec<ValueDelta>,
    /// Row and its new digits; none for a row that lost its value.
    digits: Vec<(u32, u64)>,
}

impl Slot {
    fn value(&mut self, text: &str) -> &mut ValueDelta {
        let id = match self.ids.get(text) {
            Some(id) => *id as usize,
            None => {
                self.ids.insert(text.into(), u32::try_from(self.values.len()).unwrap_or(u32::MAX));
                self.values.push(ValueDelta::default());
                self.values.len() - 1
            }
        };
        &mut self.values[id]
    }

    fn index(&mut self, row: u32, value: Value<'_>, add: bool) {
        match (self.kind, value) {
            (IndexKind::Values, Value::Text(text)) => push_row(self.value(text), row, add),
            (IndexKind::Values, Value::Bool(flag)) => {
                push_row(self.value(if flag { "true" } else { "false" }), row, add)
            }
            (IndexKind::Values, Value::List(list)) => {
                for text in list.iter() {
                    push_row(self.value(text), row, add);
                }
            }
            (IndexKind::BitSliced, Value::Number(number)) if add => self.digits.push((row, number_digits(number))),
            (IndexKind::BitSliced, Value::Time(time)) if add => self.digits.push((row, time_digits(time))),
            _ => {}
        }
    }
}

fn push_row(delta: &mut ValueDelta, row: u32, add: bool) {
    if add { delta.add.push(row) } else { delta.remove.push(row) }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct AddressChange {
    hash: AddressHash,
    /// Removals sort before additions.
    add: bool,
    row: u32,
    channel: Channel,
}

pub(crate) struct IndexBatch {
    salt: [u8; 32],
    /// By attribute id.
    slots: Vec<Option<Box<Slot>>>,
    touched: RoaringBitmap,
    addresses: Vec<AddressChange>,
    scratch: Scratch,
    planes: Vec<Words>,
    key: Vec<u8>,
    entry: Vec<u8>,
    lows: (Vec<u16>, Vec<u16>),
}

impl IndexBatch {
    pub(crate) fn new(salt: [u8; 32], schema: &Schema) -> IndexBatch {
        let mut batch = IndexBatch {
            salt,
            slots: Vec::new(),
            touched: RoaringBitmap::new(),
            addresses: Vec::new(),
            scratch: Scratch::default(),
            planes: Vec::new(),
            key: Vec::new(),
            entry: Vec::new(),
            lows: Default::default(),
        };
        batch.extend_schema(schema);
        batch
    }

    /// Learns attributes that were added to the schema.
    pub(crate) fn extend_schema(&mut self, schema: &Schema) {
        for attribute in schema.attributes() {
            let at = usize::from(attribute.id.0);
            if at >= self.slots.len() {
                self.slots.resize_with(at + 1, || None);
            }
            if self.slots[at].is_some() {
                continue;
            }
            // The key is unique, so it needs no address index.
            let channel = Channel::ALL
                .into_iter()
                .find(|c| c.address_attribute() == attribute.id && attribute.id != AttributeId::KEY);
            self.slots[at] = Some(Box::new(Slot {
                kind: attribute.index,
                channel,
                used: false,
                present_add: Vec::new(),
                present_remove: Vec::new(),
                ids: HashMap::default(),
                values: Vec::new(),
                digits: Vec::new(),
            }));
        }
    }

    /// Whether a change of this row must wait for [`IndexBatch::apply`] (IB-1).
    pub(crate) fn has(&self, row: u32) -> bool {
        self.touched.contains(row)
    }

    /// The record of `row` changes from `old` to `new`.
    pub(crate) fn change(&mut self, row: u32, old: Option<Record<'_>>, new: Option<Record<'_>>) {
        self.touched.insert(row);
        if let (None, Some(new)) = (old, new) {
            new.raw_iter().for_each(|(id, bytes)| self.change_value(row, id, None, Some(bytes)));
            return;
        }
        let mut old = old.into_iter().flat_map(|r| r.raw_iter()).peekable();
        let mut new = new.into_iter().flat_map(|r| r.raw_iter()).peekable();
        loop {
            let id = match (old.peek(), new.peek()) {
                (Some(a), Some(b)) => a.0.min(b.0),
                (Some(a), None) => a.0,
                (None, Some(b)) => b.0,
                (None, None) => break,
            };
            let before = old.next_if(|e| e.0 == id).map(|e| e.1);
            let after = new.next_if(|e| e.0 == id).map(|e| e.1);
            if before != after {
                self.change_value(row, id, before, after);
            }
        }
    }

    fn change_value(&mut self, row: u32, id: AttributeId, before: Option<&[u8]>, after: Option<&[u8]>) {
        let Some(Some(slot)) = self.slots.get_mut(usize::from(id.0)) else {
            return;
        };
        slot.used = true;
        match (before.is_some(), after.is_some()) {
            (false, true) => slot.present_add.push(row),
            (true, false) => slot.present_remove.push(row),
            _ => {}
        }
        let before = before.and_then(Record::decode_value);
        let after = after.and_then(Record::decode_value);
        if let Some(value) = before {
            slot.index(row, value, false);
            if slot.kind == IndexKind::BitSliced && after.is_none() {
                slot.digits.push((row, 0));
            }
        }
        if let Some(value) = after {
            slot.index(row, value, true);
        }
        if let Some(channel) = slot.channel {
            for (value, add) in [(before, false), (after, true)] {
                match value {
                    Some(Value::Text(text)) => self.address(channel, text, row, add),
                    Some(Value::List(list)) => list.iter().for_each(|text| self.address(channel, text, row, add)),
                    _ => {}
                }
            }
        }
    }

    fn address(&mut self, channel: Channel, text: &str, row: u32, add: bool) {
        let hash = address_hash(&self.salt, channel, text);
        self.addresses.push(AddressChange { hash, add, row, channel });
    }

    /// Sorts what can be sorted before the rows are known; for a batch that another one will absorb.
    pub(crate) fn prepare(&mut self) {
        self.addresses.sort_unstable();
    }

    /// Takes over the additions of `other`, whose rows are places in `rows`; `None` there drops what the row brings.
    /// `other` has additions only, and is empty afterwards.
    pub(crate) fn absorb(&mut self, other: &mut IndexBatch, rows: &[Option<u32>]) {
        let row_of = |place: u32| rows.get(place as usize).copied().flatten();
        self.touched.extend(rows.iter().flatten());
        for (mine, theirs) in self.slots.iter_mut().zip(&mut other.slots) {
            let (Some(mine), Some(theirs)) = (mine, theirs) else {
                continue;
            };
            if !theirs.used {
                continue;
            }
            mine.used = true;
            mine.present_add.extend(theirs.present_add.drain(..).filter_map(row_of));
            mine.digits.extend(theirs.digits.drain(..).filter_map(|(place, digits)| Some((row_of(place)?, digits))));
            for (text, id) in theirs.ids.drain() {
                let delta = &mut theirs.values[id as usize];
                mine.value(&text).add.extend(delta.add.drain(..).filter_map(row_of));
            }
            theirs.values.clear();
            theirs.used = false;
        }
        let taken =
            other.addresses.drain(..).filter_map(|change| Some(AddressChange { row: row_of(change.row)?, ..change }));
        self.addresses.extend(taken);
        other.touched.clear();
    }

    /// Writes all changes. Records must be in place already: rows that may have stopped sharing an address are read again.
    pub(crate) fn apply(&mut self, txn: &mut RwTxn<'_>, dbs: &Databases) -> Result<(), ContactsError> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let mut slots = std::mem::take(&mut self.slots);
        let done = self.apply_slots(&mut slots, txn, dbs);
        self.slots = slots;
        done?;
        self.apply_addresses(txn, dbs)?;
        self.touched.clear();
        Ok(())
    }

    fn apply_slots(
        &mut self,
        slots: &mut [Option<Box<Slot>>],
        txn: &mut RwTxn<'_>,
        dbs: &Databases,
    ) -> Result<(), ContactsError> {
        // In the order of the keys: D, P, then V.
        let mut key = std::mem::take(&mut self.key);
        for (id, slot) in used(slots) {
            if !slot.digits.is_empty() {
                self.apply_digits(txn, dbs, id, &mut slot.digits, &mut key)?;
            }
        }
        for (id, slot) in used(slots) {
            slot.present_add.sort_unstable();
            slot.present_remove.sort_unstable();
            index_keys::present(id, &mut key);
            self.apply_set(txn, dbs, &mut key, &slot.present_add, &slot.present_remove, None)?;
            slot.present_add.clear();
            slot.present_remove.clear();
        }
        for (id, slot) in used(slots) {
            let mut texts: Vec<(&str, u32)> = slot.ids.iter().map(|(text, id)| (&**text, *id)).collect();
            texts.sort_unstable();
            for (text, at) in texts {
                let delta = &mut slot.values[at as usize];
                if delta.add.is_empty() && delta.remove.is_empty() {
                    continue;
                }
                delta.add.sort_unstable();
                delta.remove.sort_unstable();
                index_keys::value(id, text, &mut key);
                let kept = index_keys::is_long(text).then_some(text);
                self.apply_set(txn, dbs, &mut key, &delta.add, &delta.remove, kept)?;
            }
            slot.ids.clear();
            slot.values.clear();
            slot.used = false;
            let version = txn.id() as u64;
            dbs.versions.put(txn, &id.0.to_be_bytes(), &version.to_le_bytes()).or_store("write a version")?;
        }
        self.key = key;
        Ok(())
    }

    /// Adds and removes rows (both sorted) of the set whose prefix is `key`.
    pub(crate) fn apply_set(
        &mut self,
        txn: &mut RwTxn<'_>,
        dbs: &Databases,
        key: &mut Vec<u8>,
        mut add: &[u32],
        mut remove: &[u32],
        text: Option<&str>,
    ) -> Result<(), ContactsError> {
        let prefix = key.len();
        while let Some(first) = [add.first(), remove.first()].into_iter().flatten().min() {
            let high = first >> 16;
            let (lows_add, lows_remove) = &mut self.lows;
            take_container(&mut add, high, lows_add);
            take_container(&mut remove, high, lows_remove);
            key.truncate(prefix);
            key.extend_from_slice(&(high as u16).to_be_bytes());
            let old = dbs.index.get(txn, key).or_store("read the index")?;
            if self.scratch.edit(old, lows_add, lows_remove, text, &mut self.entry)? {
                dbs.index.put(txn, key, &self.entry).or_store("write the index")?;
            } else {
                dbs.index.delete(txn, key).or_store("write the index")?;
            }
        }
        key.truncate(prefix);
        Ok(())
    }

    fn apply_digits(
        &mut self,
        txn: &mut RwTxn<'_>,
        dbs: &Databases,
        id: AttributeId,
        digits: &mut Vec<(u32, u64)>,
        key: &mut Vec<u8>,
    ) -> Result<(), ContactsError> {
        digits.sort_unstable_by_key(|d| d.0);
        self.planes.resize_with(64, || [0; WORDS]);
        let mut touched: Box<Words> = Box::new([0; WORDS]);
        let mut words: Box<Words> = Box::new([0; WORDS]);
        for part in digits.chunk_by(|a, b| a.0 >> 16 == b.0 >> 16) {
            let high = (part[0].0 >> 16) as u16;
            self.planes.iter_mut().for_each(|p| p.fill(0));
            touched.fill(0);
            for block in part.chunk_by(|a, b| a.0 >> 6 == b.0 >> 6) {
                let at = (block[0].0 >> 6) as usize & (WORDS - 1);
                let mut matrix = [0u64; 64];
                for (row, value) in block {
                    matrix[(row & 63) as usize] = *value;
                    touched[at] |= 1 << (row & 63);
                }
                transpose(&mut matrix);
                for (plane, word) in self.planes.iter_mut().zip(matrix) {
                    plane[at] = word;
                }
            }
            for digit in 0..64u8 {
                index_keys::digit(id, digit, key);
                key.extend_from_slice(&high.to_be_bytes());
                let plane = &self.planes[usize::from(digit)];
                words.fill(0);
                if let Some(old) = dbs.index.get(txn, key).or_store("read the index")? {
                    container::Stored::parse(old)?.or_into(&mut words);
                } else if plane.iter().all(|w| *w == 0) {
                    continue;
                }
                let mut changed = 0;
                for ((word, touched), new) in words.iter_mut().zip(touched.iter()).zip(plane) {
                    let next = (*word & !touched) | new;
                    changed |= next ^ *word;
                    *word = next;
                }
                if changed == 0 {
                    continue;
                }
                if container::encode_words(&words, None, &mut self.entry) {
                    dbs.index.put(txn, key, &self.entry).or_store("write the index")?;
                } else {
                    dbs.index.delete(txn, key).or_store("write the index")?;
                }
            }
        }
        digits.clear();
        Ok(())
    }
}

fn used(slots: &mut [Option<Box<Slot>>]) -> impl Iterator<Item = (AttributeId, &mut Slot)> {
    let numbered = slots.iter_mut().enumerate();
    numbered.filter_map(|(id, slot)| {
        let slot = slot.as_deref_mut().filter(|s| s.used)?;
        Some((AttributeId(u16::try_from(id).ok()?), slot))
    })
}

/// Moves the rows of one container from the front of `rows` into `lows`.
fn take_container(rows: &mut &[u32], high: u32, lows: &mut Vec<u16>) {
    lows.clear();
    let count = rows.partition_point(|r| r >> 16 <= high);
    let (taken, rest) = rows.split_at(count);
    lows.extend(taken.iter().map(|r| *r as u16));
    *rows = rest;
}

/// Transposes a 64 × 64 bit matrix: afterwards bit `i` of word `j` is what bit `j` of word `i` was.
fn transpose(matrix: &mut [u64; 64]) {
    let mut width = 32;
    let mut mask = 0x0000_0000_FFFF_FFFFu64;
    while width != 0 {
        let mut at = 0;
        while at < 64 {
            let swap = ((matrix[at] >> width) ^ matrix[at + width]) & mask;
            matrix[at] ^= swap << width;
            matrix[at + width] ^= swap;
            at = (at + width + 1) & !width;
        }
        width >>= 1;
        mask ^= mask << width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transpose_moves_every_bit() {
        let mut matrix = [0u64; 64];
        let mut state = 88_172_645_463_325_252u64;
        for word in &mut matrix {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state;
        }
        let before = matrix;
        transpose(&mut matrix);
        for (i, word) in before.iter().enumerate() {
            for (j, column) in matrix.iter().enumerate() {
                assert_eq!(word >> j & 1, column >> i & 1, "bit {i} {j}");
            }
        }
    }
}
