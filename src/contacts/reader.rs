//! A read transaction of a store: records by row, rows by key and address, and the sets of the index.
//!
//! Owns LMDB's read transaction. Invariants: RE-1 everything that one reader answers belongs to one snapshot; RE-2 sets
//! come from the cache only in the snapshot's own version. A reader is cheap to make (some 0.2 µs) and should live shortly.

use std::collections::BTreeMap;
use std::sync::Arc;

use heed::{RoTxn, WithoutTls};
use roaring::RoaringBitmap;

use crate::contacts::cache::SetName;
use crate::contacts::consent::ConsentEntry;
use crate::contacts::container::{Assembler, Stored, WORDS, Words, encode_words};
use crate::contacts::record::Record;
use crate::contacts::schema::Schema;
use crate::contacts::sets::AttributeSets;
use crate::contacts::store::{Store, read_u64};
use crate::contacts::writer::{consent_key, row_from};
use crate::contacts::{ContactsError, StoreResult, index_keys};
use crate::ids::{AddressHash, AttributeId, Channel, ContactRow};

/// Rows that a cursor steps over rather than seek: a step costs some 20 ns, a seek some 300 ns.
const STEP_ROWS_MAX: u32 = 12;

pub struct Reader {
    txn: RoTxn<'static, WithoutTls>,
    store: Store,
}

impl Reader {
    pub(crate) fn new(store: Store) -> Result<Reader, ContactsError> {
        let txn = store.inner.env.clone().static_read_txn().or_store("begin reading")?;
        Ok(Reader { txn, store })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The schema; at least as new as the snapshot.
    pub fn schema(&self) -> Arc<Schema> {
        self.store.schema()
    }

    pub fn record(&self, row: ContactRow) -> Result<Option<Record<'_>>, ContactsError> {
        let bytes = self.store.inner.dbs.records.get(&self.txn, &row.0.to_be_bytes()).or_store("read a record")?;
        bytes.map(|b| Record::parse(b).map_err(|_| ContactsError::DamagedRecord { row: row.0 })).transpose()
    }

    /// Visits the records of `rows`, which must ascend, in that order; rows without a record are passed over. The visitor
    /// answers whether it wants more.
    pub fn records<'r>(
        &'r self,
        rows: impl IntoIterator<Item = u32>,
        mut visit: impl FnMut(u32, Record<'r>) -> bool,
    ) -> Result<(), ContactsError> {
        let records = self.store.inner.dbs.records;
        let mut cursor = None;
        // The row that the cursor gives next is not before this one.
        let mut at = 0u32;
        for row in rows {
            if cursor.is_none() || row.saturating_sub(at) > STEP_ROWS_MAX {
                let start = row.to_be_bytes();
                let range = (std::ops::Bound::Included(&start[..]), std::ops::Bound::Unbounded);
                cursor = Some(records.range(&self.txn, &range).or_store("read records")?.peekable());
            }
            let Some(steps) = &mut cursor else { continue };
            loop {
                let found = match steps.peek() {
                    None => return Ok(()),
                    Some(Ok((key, _))) => key.first_chunk().map_or(u32::MAX, |k| u32::from_be_bytes(*k)),
                    Some(Err(_)) => row,
                };
                at = found;
                if found > row {
                    break;
                }
                let Some(entry) = steps.next() else { return Ok(()) };
                let (_, bytes) = entry.or_store("read records")?;
                at = found.saturating_add(1);
                if found == row {
                    let record = Record::parse(bytes).map_err(|_| ContactsError::DamagedRecord { row })?;
                    if !visit(row, record) {
                        return Ok(());
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    pub fn row_of_key(&self, key: &str) -> Result<Option<ContactRow>, ContactsError> {
        // LMDB refuses longer keys, and none is stored.
        if key.is_empty() || key.len() > crate::limits::KEY_BYTES_MAX {
            return Ok(None);
        }
        let found = self.store.inner.dbs.keys.get(&self.txn, key.as_bytes()).or_store("read a key")?;
        found.map(row_from).transpose()
    }

    /// All contacts that have the address, in row order.
    pub fn rows_of_address(&self, hash: AddressHash) -> Result<Vec<ContactRow>, ContactsError> {
        let found = self.store.inner.dbs.addresses.get(&self.txn, &hash.0).or_store("read addresses")?;
        let mut rows: Vec<ContactRow> =
            found.unwrap_or_default().chunks_exact(4).filter_map(|r| row_from(r).ok()).collect();
        rows.sort_unstable();
        Ok(rows)
    }

    /// Contacts whose address on the channel another contact has too. Webhooks address the key, which nobody shares.
    pub fn shared(&self, channel: Channel) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let mut prefix = Vec::new();
        index_keys::shared(channel, &mut prefix);
        self.cached(SetName::Shared(channel as u8), &[channel as u8], &prefix)
    }

    /// The consent history, oldest first.
    pub fn consent_history(&self, row: ContactRow) -> Result<Vec<ConsentEntry>, ContactsError> {
        let (first, last) = (consent_key(row, 0), consent_key(row, u32::MAX));
        let range = (std::ops::Bound::Included(&first[..]), std::ops::Bound::Included(&last[..]));
        let mut out = Vec::new();
        for entry in self.store.inner.dbs.consents.range(&self.txn, &range).or_store("read consents")? {
            let (_, bytes) = entry.or_store("read consents")?;
            out.push(serde_json::from_slice(bytes).map_err(|_| ContactsError::Damaged { what: "consent history" })?);
        }
        Ok(out)
    }

    /// The sequence number of the last fact that was applied to this snapshot.
    pub fn last_fact(&self) -> Result<u64, ContactsError> {
        read_u64(&self.store.inner.dbs.meta, &self.txn, b"last_fact")
    }

    /// The row that the next new contact gets: every row ever given out is below.
    pub fn next_row(&self) -> Result<u64, ContactsError> {
        read_u64(&self.store.inner.dbs.meta, &self.txn, b"next_row")
    }

    pub fn contacts(&self) -> Result<u64, ContactsError> {
        self.store.inner.dbs.records.len(&self.txn).or_store("count records")
    }

    pub(crate) fn import_entry(&self, key: &[u8]) -> Result<Option<&[u8]>, ContactsError> {
        self.store.inner.dbs.imports.get(&self.txn, key).or_store("read an import")
    }

    /// All entries of the imports database whose key begins with `prefix`.
    pub(crate) fn import_entries(&self, prefix: &[u8]) -> Result<Vec<(&[u8], &[u8])>, ContactsError> {
        let entries = self.store.inner.dbs.imports.prefix_iter(&self.txn, prefix).or_store("read imports")?;
        entries.map(|e| e.or_store("read imports")).collect()
    }

    fn cached(&self, name: SetName, owner: &[u8], prefix: &[u8]) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let version = read_u64(&self.store.inner.dbs.versions, &self.txn, owner)?;
        if let Some(rows) = self.store.inner.cache.lock().get(&name, version) {
            return Ok(rows);
        }
        let rows = Arc::new(load_set(&self.store.inner.dbs.index, &self.txn, prefix)?);
        self.store.inner.cache.lock().put(name, version, &rows);
        Ok(rows)
    }
}

/// Puts the containers of one set together.
pub(crate) fn load_set(
    index: &crate::contacts::store::Db,
    txn: &RoTxn<'_>,
    prefix: &[u8],
) -> Result<RoaringBitmap, ContactsError> {
    let mut assembler = Assembler::default();
    for entry in index.prefix_iter(txn, prefix).or_store("read the index")? {
        let (key, bytes) = entry.or_store("read the index")?;
        match index_keys::split(key) {
            Some((found, high)) if found == prefix => assembler.push(high, Stored::parse(bytes)?),
            _ => {}
        }
    }
    Ok(assembler.finish()?)
}

/// Unites sets container by container.
#[derive(Default)]
struct Union {
    containers: BTreeMap<u16, Box<Words>>,
}

impl Union {
    fn add(&mut self, high: u16, stored: Stored<'_>) {
        stored.or_into(self.containers.entry(high).or_insert_with(|| Box::new([0; WORDS])));
    }

    fn finish(self) -> Result<RoaringBitmap, ContactsError> {
        let mut assembler = Assembler::default();
        let mut bytes = Vec::new();
        for (high, words) in self.containers {
            if encode_words(&words, None, &mut bytes) {
                assembler.push(high, Stored::parse(&bytes)?);
            }
        }
        Ok(assembler.finish()?)
    }
}

impl AttributeSets for Reader {
    fn universe(&self) -> Result<Arc<RoaringBitmap>, ContactsError> {
        self.present(AttributeId::KEY)
    }

    fn present(&self, attribute: AttributeId) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let mut prefix = Vec::new();
        index_keys::present(attribute, &mut prefix);
        self.cached(SetName::Present(attribute), &attribute.0.to_be_bytes(), &prefix)
    }

    fn value(&self, attribute: AttributeId, value: &str) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let mut prefix = Vec::new();
        index_keys::value(attribute, value, &mut prefix);
        self.cached(SetName::Value(attribute, value.to_owned()), &attribute.0.to_be_bytes(), &prefix)
    }

    fn union_where(
        &self,
        attribute: AttributeId,
        prefix: &str,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, ContactsError> {
        let mut start = Vec::new();
        index_keys::values(attribute, &mut start);
        start.extend_from_slice(&prefix.as_bytes()[..prefix.len().min(index_keys::VALUE_BYTES)]);
        let mut union = Union::default();
        let (mut last, mut take) = (Vec::new(), false);
        for entry in self.store.inner.dbs.index.prefix_iter(&self.txn, &start).or_store("read the index")? {
            let (key, bytes) = entry.or_store("read the index")?;
            let Some((set, high)) = index_keys::split(key) else { continue };
            let stored = Stored::parse(bytes)?;
            if set != last {
                last.clear();
                last.extend_from_slice(set);
                let text = index_keys::value_of(set).or(stored.text).ok_or(ContactsError::Damaged { what: "index" })?;
                take = text.starts_with(prefix) && wanted(text);
            }
            if take {
                union.add(high, stored);
            }
        }
        union.finish()
    }

    fn digit(&self, attribute: AttributeId, digit: u8) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let mut prefix = Vec::new();
        index_keys::digit(attribute, digit, &mut prefix);
        self.cached(SetName::Digit(attribute, digit), &attribute.0.to_be_bytes(), &prefix)
    }

    fn scan(&self, rows: &RoaringBitmap, visit: &mut dyn FnMut(u32, Record<'_>)) -> Result<(), ContactsError> {
        self.records(rows.iter(), |row, record| {
            visit(row, record);
            true
        })
    }
}
