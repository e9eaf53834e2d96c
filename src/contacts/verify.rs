//! Verification of a whole store: every record against its key, its addresses and its index entries, and the other way round.
//!
//! LMDB keeps no checksums, so that a flipped bit is found only where it breaks one of these relations: VE-1 every record
//! decodes, is written as this program writes it, and fits the schema; VE-2 key → row and row → key agree; VE-3 every index
//! set is exactly the rows whose records call for it; VE-4 so are the rows of an address, and the sets of shared addresses;
//! VE-5 consent histories and the sets of imports name contacts that exist. What no relation holds (a digit of an unindexed
//! number) is not found.
//!
//! Owns nothing; reads one snapshot. Memory is that of the index entries of 65 536 rows. Must not know: the journal,
//! campaigns, what is done about a finding.

mod index;

use std::collections::{BTreeMap, HashMap};

use heed::{RoTxn, WithoutTls};
use roaring::RoaringBitmap;

use crate::contacts::addresses::address_hash;
use crate::contacts::consent::ConsentEntry;
use crate::contacts::record::{Record, RecordBuilder, Value};
use crate::contacts::schema::{Attribute, AttributeType, IndexKind, Schema};
use crate::contacts::sets::{number_digits, time_digits};
use crate::contacts::store::{Databases, Store, read_u64};
use crate::contacts::writer::row_from;
use crate::contacts::{ContactsError, StoreResult, index_keys};
use crate::ids::{AttributeId, Channel};
use crate::limits::{CHECK_FINDINGS_MAX, KEY_BYTES_MAX};

/// Something in the store that does not fit the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The database of the store.
    pub table: &'static str,
    /// The row or the set, in words; empty for the whole table.
    pub place: String,
    pub problem: String,
}

/// What a verification saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub records: u64,
    pub index_containers: u64,
    pub addresses: u64,
    /// The first `limits::CHECK_FINDINGS_MAX` of each table.
    pub wrong: Vec<Wrong>,
    /// Those beyond.
    pub more: u64,
}

impl Store {
    /// Walks every table. What is wrong is in the answer; an error is that the store cannot be read at all.
    pub fn verify(&self) -> Result<Verified, ContactsError> {
        let txn = self.inner.env.read_txn().or_store("begin reading")?;
        let mut walk = Walk {
            txn: &txn,
            dbs: self.inner.dbs,
            salt: self.salt(),
            schema: (*self.schema()).clone(),
            next_row: read_u64(&self.inner.dbs.meta, &txn, b"next_row")?,
            rows: RoaringBitmap::new(),
            shared: BTreeMap::new(),
            chunk: Chunk::default(),
            keys: 0,
            addresses: 0,
            containers: HashMap::new(),
            out: Verified::default(),
        };
        type Step<'t> = fn(&mut Walk<'t>) -> Result<(), ContactsError>;
        let steps: [(&'static str, Step<'_>); 5] = [
            ("records", Walk::records),
            ("keys", Walk::keys),
            ("addresses", Walk::addresses),
            ("index", Walk::index),
            ("consents", Walk::consents),
        ];
        for (table, step) in steps {
            if let Err(error) = step(&mut walk) {
                let cause = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
                walk.wrong(table, String::new(), format!("cannot be read to its end: {error}{cause}"));
            }
        }
        Ok(walk.out)
    }
}

/// What the records of 65 536 rows call for in the index.
#[derive(Default)]
struct Chunk {
    high: u16,
    /// By the prefix of the set; values longer than a key with their text.
    sets: HashMap<Vec<u8>, (RoaringBitmap, Option<Box<str>>), foldhash::fast::RandomState>,
    digits: HashMap<AttributeId, Vec<RoaringBitmap>>,
}

/// Kind and attribute of an index set.
type Owner = (u8, u16);

struct Walk<'t> {
    txn: &'t RoTxn<'t, WithoutTls>,
    dbs: Databases,
    salt: [u8; 32],
    schema: Schema,
    next_row: u64,
    /// Rows with an entry in `records`, damaged ones included.
    rows: RoaringBitmap,
    /// Rows whose address another row has too, by channel.
    shared: BTreeMap<u8, RoaringBitmap>,
    chunk: Chunk,
    /// Entries that a record led to: what is beyond belongs to none.
    keys: u64,
    addresses: u64,
    containers: HashMap<Owner, u64>,
    out: Verified,
}

fn row_name(row: u32) -> String {
    format!("row {row}")
}

/// A text as a finding shows it: quoted, and not whole if it is long.
fn shown(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|d| char::from_digit(u32::from(d), 16)).collect()
}

/// The channel whose addresses an attribute has; the key is unique and needs no address index.
fn channel_of(attribute: AttributeId) -> Option<Channel> {
    Channel::ALL.into_iter().find(|c| c.address_attribute() == attribute && attribute != AttributeId::KEY)
}

/// Whether a value decodes, and a boolean is one of the two bytes that are written.
fn is_as_written(bytes: &[u8]) -> bool {
    Record::decode_value(bytes).is_some() && (bytes.first() != Some(&b'B') || matches!(bytes, [_, 0 | 1]))
}

fn fits(kind: AttributeType, value: Value<'_>) -> bool {
    matches!(
        (kind, value),
        (AttributeType::Text, Value::Text(_))
            | (AttributeType::Number, Value::Number(_))
            | (AttributeType::Boolean, Value::Bool(_))
            | (AttributeType::DateTime, Value::Time(_))
            | (AttributeType::List, Value::List(_))
    )
}

/// Each text of a value once, as the values index has it.
fn texts(value: Value<'_>) -> Vec<&str> {
    let mut texts = match value {
        Value::Text(text) => vec![text],
        Value::Bool(flag) => vec![if flag { "true" } else { "false" }],
        Value::List(list) => list.iter().collect(),
        Value::Number(_) | Value::Time(_) => Vec::new(),
    };
    if texts.len() > 1 {
        texts.sort_unstable();
        texts.dedup();
    }
    texts
}

impl Walk<'_> {
    fn wrong(&mut self, table: &'static str, place: String, problem: impl Into<String>) {
        if self.out.wrong.iter().filter(|w| w.table == table).count() < CHECK_FINDINGS_MAX {
            self.out.wrong.push(Wrong { table, place, problem: problem.into() });
        } else {
            self.out.more += 1;
        }
    }

    fn records(&mut self) -> Result<(), ContactsError> {
        let (mut builder, mut again) = (RecordBuilder::new(), Vec::new());
        let txn = self.txn;
        for entry in self.dbs.records.iter(txn).or_store("read records")? {
            let (key, bytes) = entry.or_store("read records")?;
            let Ok(row) = key.try_into().map(u32::from_be_bytes) else {
                self.wrong("records", format!("entry {key:?}"), "is not named by a row");
                continue;
            };
            let high = (row >> 16) as u16;
            if high != self.chunk.high {
                self.compare_chunk()?;
                self.chunk.high = high;
            }
            self.rows.insert(row);
            self.out.records += 1;
            if u64::from(row) >= self.next_row {
                self.wrong("records", row_name(row), format!("the store has given out {} rows only", self.next_row));
            }
            let Ok(record) = Record::parse(bytes) else {
                self.wrong("records", row_name(row), "does not decode");
                continue;
            };
            builder.clear();
            again.clear();
            builder.extend_raw(record);
            builder.write(&mut again);
            if again != bytes || !record.raw_iter().all(|(_, bytes)| is_as_written(bytes)) {
                self.wrong("records", row_name(row), "does not decode as it was written");
                continue;
            }
            self.record(row, record)?;
        }
        self.compare_chunk()
    }

    fn record(&mut self, row: u32, record: Record<'_>) -> Result<(), ContactsError> {
        let key = record.key();
        let found = match key.len() {
            1..=KEY_BYTES_MAX => self.dbs.keys.get(self.txn, key.as_bytes()).or_store("read a key")?,
            _ => None,
        };
        match found.map(row_from).transpose() {
            Ok(Some(there)) if there.0 == row => self.keys += 1,
            Ok(Some(there)) => {
                self.wrong("keys", row_name(row), format!("its key {} leads to row {}", shown(key), there.0));
            }
            Ok(None) => self.wrong("keys", row_name(row), format!("its key {} leads nowhere", shown(key))),
            Err(_) => self.wrong("keys", row_name(row), format!("its key {} does not decode", shown(key))),
        }
        for (id, value) in record.iter() {
            match self.schema.by_id(id).cloned() {
                Some(attribute) if fits(attribute.kind, value) => self.value(row, &attribute, value)?,
                Some(attribute) => {
                    let problem = format!("its {:?} is no {}", attribute.name, attribute.kind.name());
                    self.wrong("records", row_name(row), problem);
                }
                None => self.wrong("records", row_name(row), format!("has attribute {}, which nobody defined", id.0)),
            }
        }
        Ok(())
    }

    /// Notes what a value calls for in the index, and looks its addresses up.
    fn value(&mut self, row: u32, attribute: &Attribute, value: Value<'_>) -> Result<(), ContactsError> {
        let mut prefix = Vec::new();
        index_keys::present(attribute.id, &mut prefix);
        self.chunk.sets.entry(prefix).or_default().0.insert(row);
        match attribute.index {
            IndexKind::None => {}
            IndexKind::Values => {
                for text in texts(value) {
                    let mut prefix = Vec::new();
                    index_keys::value(attribute.id, text, &mut prefix);
                    let set = self.chunk.sets.entry(prefix).or_default();
                    set.0.insert(row);
                    set.1 = set.1.take().or_else(|| index_keys::is_long(text).then(|| text.into()));
                }
            }
            IndexKind::BitSliced => {
                let digits = match value {
                    Value::Number(number) => number_digits(number),
                    Value::Time(time) => time_digits(time),
                    _ => 0,
                };
                let planes = self.chunk.digits.entry(attribute.id).or_insert_with(|| vec![RoaringBitmap::new(); 64]);
                for (_, plane) in planes.iter_mut().enumerate().filter(|(digit, _)| digits >> digit & 1 == 1) {
                    plane.insert(row);
                }
            }
        }
        match channel_of(attribute.id) {
            Some(channel) => self.addresses_of(row, channel, &attribute.name, value),
            None => Ok(()),
        }
    }

    fn addresses_of(&mut self, row: u32, channel: Channel, name: &str, value: Value<'_>) -> Result<(), ContactsError> {
        for text in texts(value) {
            let hash = address_hash(&self.salt, channel, text);
            let found = self.dbs.addresses.get(self.txn, &hash.0).or_store("read addresses")?.unwrap_or_default();
            if found.chunks_exact(4).any(|r| r == row.to_le_bytes()) {
                self.addresses += 1;
            } else {
                self.wrong("addresses", row_name(row), format!("its {name:?} does not lead to it"));
            }
            if found.len() > 4 {
                self.shared.entry(channel as u8).or_default().insert(row);
            }
        }
        Ok(())
    }

    /// Keys that lead to no record of theirs; looked for only if there are more keys than records led to.
    fn keys(&mut self) -> Result<(), ContactsError> {
        let txn = self.txn;
        if self.dbs.keys.len(txn).or_store("count keys")? == self.keys {
            return Ok(());
        }
        for entry in self.dbs.keys.iter(txn).or_store("read keys")? {
            let (key, bytes) = entry.or_store("read keys")?;
            let record = match row_from(bytes) {
                Ok(row) => self.dbs.records.get(txn, &row.0.to_be_bytes()).or_store("read a record")?,
                Err(_) => None,
            };
            let owns = |bytes| Record::parse(bytes).is_ok_and(|record| record.key().as_bytes() == key);
            if !record.is_some_and(owns) {
                let place = format!("key {}", shown(&String::from_utf8_lossy(key)));
                self.wrong("keys", place, "leads to no record that has it");
            }
        }
        Ok(())
    }

    /// Rows of addresses whose records do not have them; named only if there are more than records led to.
    fn addresses(&mut self) -> Result<(), ContactsError> {
        let txn = self.txn;
        let mut entries = 0u64;
        for entry in self.dbs.addresses.iter(txn).or_store("read addresses")? {
            let (_, bytes) = entry.or_store("read addresses")?;
            entries += bytes.len().div_ceil(4) as u64;
        }
        self.out.addresses = entries;
        if entries == self.addresses {
            return Ok(());
        }
        for entry in self.dbs.addresses.iter(txn).or_store("read addresses")? {
            let (hash, bytes) = entry.or_store("read addresses")?;
            if !bytes.len().is_multiple_of(4) || bytes.is_empty() {
                self.wrong("addresses", format!("address {}", hex(hash)), "does not decode");
            }
            for row in bytes.chunks_exact(4).filter_map(|r| row_from(r).ok()) {
                let found = self.dbs.records.get(txn, &row.0.to_be_bytes()).or_store("read a record")?;
                let record = found.and_then(|bytes| Record::parse(bytes).ok());
                if !record.is_some_and(|record| self.has_address(record, hash)) {
                    let place = format!("address {}", hex(hash));
                    self.wrong("addresses", place, format!("leads to row {}, whose record does not have it", row.0));
                }
            }
        }
        Ok(())
    }

    fn has_address(&self, record: Record<'_>, hash: &[u8]) -> bool {
        record.iter().any(|(id, value)| {
            let of = |channel| texts(value).into_iter().any(|text| address_hash(&self.salt, channel, text).0 == hash);
            channel_of(id).is_some_and(of)
        })
    }

    fn consents(&mut self) -> Result<(), ContactsError> {
        let txn = self.txn;
        for entry in self.dbs.consents.iter(txn).or_store("read consents")? {
            let (key, bytes) = entry.or_store("read consents")?;
            let row = key.first_chunk().filter(|_| key.len() == 8).map(|row| u32::from_be_bytes(*row));
            match row {
                None => self.wrong("consents", format!("entry {key:?}"), "is not named by a row and a place"),
                Some(row) if !self.rows.contains(row) => {
                    self.wrong("consents", row_name(row), "has a history and no record");
                }
                Some(row) if serde_json::from_slice::<ConsentEntry>(bytes).is_err() => {
                    self.wrong("consents", row_name(row), "an entry of its history does not decode");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
