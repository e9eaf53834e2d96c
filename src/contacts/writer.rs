//! The write transaction of a store: contacts come, change and go, with their index entries, all or nothing.
//!
//! Owns LMDB's write transaction and the index changes that wait for its end. Invariants: WR-1 nothing is visible before
//! [`Writer::commit`]; WR-2 a reader of a committed transaction sees records and index agree; WR-3 a record that would not
//! change but for its `updated` time is left alone.

use std::sync::Arc;

use heed::RwTxn;

use crate::clock::Timestamp;
use crate::contacts::addresses;
use crate::contacts::consent::ConsentEntry;
use crate::contacts::index_batch::IndexBatch;
use crate::contacts::input::{ContactInput, InputError};
use crate::contacts::record::{Record, RecordBuilder, Value};
use crate::contacts::schema::{AttributeType, IndexKind, Schema};
use crate::contacts::store::{Store, read_u64};
use crate::contacts::{ContactsError, StoreResult};
use crate::ids::{AttributeId, ContactRow};
use crate::limits;

/// What an upsert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upserted {
    pub row: ContactRow,
    pub created: bool,
    /// The record is not what it was before.
    pub changed: bool,
}

pub struct Writer<'s> {
    pub(crate) store: &'s Store,
    pub(crate) txn: RwTxn<'s>,
    pub(crate) batch: IndexBatch,
    pub(crate) next_row: u64,
    schema: Arc<Schema>,
    new_schema: bool,
    bytes: Vec<u8>,
}

impl<'s> Writer<'s> {
    pub(crate) fn new(store: &'s Store) -> Result<Writer<'s>, ContactsError> {
        let txn = store.inner.env.write_txn().or_store("begin")?;
        let schema = store.schema();
        let batch = IndexBatch::new(store.salt(), &schema);
        let next_row = read_u64(&store.inner.dbs.meta, &txn, b"next_row")?;
        Ok(Writer { store, txn, batch, next_row, schema, new_schema: false, bytes: Vec::new() })
    }

    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    pub fn add_attribute(
        &mut self,
        name: &str,
        kind: AttributeType,
        index: Option<IndexKind>,
    ) -> Result<AttributeId, ContactsError> {
        let schema = self.schema.with(name, kind, index)?;
        self.batch.extend_schema(&schema);
        let id = schema.by_name(name).map_or(AttributeId(0), |a| a.id);
        self.schema = Arc::new(schema);
        self.new_schema = true;
        Ok(id)
    }

    pub fn row_of_key(&self, key: &str) -> Result<Option<ContactRow>, ContactsError> {
        let found = self.store.inner.dbs.keys.get(&self.txn, key.as_bytes()).or_store("read a key")?;
        found.map(row_from).transpose()
    }

    /// Makes the contact what `input` says, whole: what it does not name is removed, but for `created` and `active`.
    pub fn upsert(&mut self, input: &ContactInput, now: Timestamp) -> Result<Upserted, ContactsError> {
        let key = addresses::normalise_key(&input.key).map_err(|e| InputError::new("key", e))?;
        let mut builder = RecordBuilder::new();
        let row = self.row_of_key(key)?;
        let mut created = now;
        let mut active = true;
        if let Some(row) = row {
            let old = self.record_bytes(row)?.ok_or(ContactsError::Damaged { what: "key of a record" })?;
            let old = Record::parse(&old).map_err(|_| ContactsError::DamagedRecord { row: row.0 })?;
            if let Some(Value::Time(time)) = old.get(AttributeId::CREATED) {
                created = time;
            }
            active = old.is_active();
        }
        builder.set(AttributeId::KEY, Value::Text(key));
        builder.set(AttributeId::CREATED, Value::Time(created));
        builder.set(AttributeId::ACTIVE, Value::Bool(active));
        input.apply(&self.schema, &mut builder)?;
        self.put(row, builder, now)
    }

    /// Changes what `patch` names and leaves the rest; a `null` removes. The key cannot change.
    pub fn patch(&mut self, row: ContactRow, patch: &ContactInput, now: Timestamp) -> Result<Upserted, ContactsError> {
        let old = self.record_bytes(row)?.ok_or(ContactsError::NoSuchRow { row: row.0 })?;
        let old = Record::parse(&old).map_err(|_| ContactsError::DamagedRecord { row: row.0 })?;
        if !patch.key.is_empty() && patch.key.trim() != old.key() {
            return Err(InputError::new("key", addresses::ValueError::ReadOnly).into());
        }
        let mut builder = RecordBuilder::from_record(old);
        patch.apply(&self.schema, &mut builder)?;
        self.put(Some(row), builder, now)
    }

    /// Marks the contact as inactive, or as active again.
    pub fn set_active(&mut self, row: ContactRow, active: bool, now: Timestamp) -> Result<Upserted, ContactsError> {
        self.patch(row, &ContactInput { active: Some(active), ..ContactInput::default() }, now)
    }

    pub fn deactivate(&mut self, row: ContactRow, now: Timestamp) -> Result<Upserted, ContactsError> {
        self.set_active(row, false, now)
    }

    /// Removes everything the store has about the contact. Its row is never used again. Answers whether there was one.
    pub fn erase(&mut self, row: ContactRow) -> Result<bool, ContactsError> {
        let dbs = self.store.inner.dbs;
        let Some(old) = self.record_bytes(row)? else {
            return Ok(false);
        };
        let record = Record::parse(&old).map_err(|_| ContactsError::DamagedRecord { row: row.0 })?;
        self.settle_row(row)?;
        self.batch.change(row.0, Some(record), None);
        dbs.keys.delete(&mut self.txn, record.key().as_bytes()).or_store("erase a key")?;
        dbs.records.delete(&mut self.txn, &row.0.to_be_bytes()).or_store("erase a record")?;
        let (first, last) = (consent_key(row, 0), consent_key(row, u32::MAX));
        let range = (std::ops::Bound::Included(&first[..]), std::ops::Bound::Included(&last[..]));
        dbs.consents.delete_range(&mut self.txn, &range).or_store("erase consents")?;
        self.erase_given_consents(row)?;
        Ok(true)
    }

    /// Appends to the consent history. Beyond `limits::CONSENT_HISTORY_MAX` entries the oldest goes.
    pub fn record_consent(&mut self, row: ContactRow, entry: &ConsentEntry) -> Result<(), ContactsError> {
        let dbs = self.store.inner.dbs;
        let (first, last) = (consent_key(row, 0), consent_key(row, u32::MAX));
        let range = (std::ops::Bound::Included(&first[..]), std::ops::Bound::Included(&last[..]));
        let position = |key: &[u8]| key.last_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        let oldest = dbs
            .consents
            .range(&self.txn, &range)
            .or_store("read consents")?
            .next()
            .transpose()
            .or_store("read consents")?;
        let oldest = oldest.map(|(key, _)| position(key));
        let newest = dbs
            .consents
            .rev_range(&self.txn, &range)
            .or_store("read consents")?
            .next()
            .transpose()
            .or_store("read consents")?;
        let next = newest.map_or(0, |(key, _)| position(key).saturating_add(1));
        if let Some(oldest) = oldest.filter(|o| next - o >= limits::CONSENT_HISTORY_MAX) {
            dbs.consents.delete(&mut self.txn, &consent_key(row, oldest)).or_store("drop a consent")?;
        }
        let bytes = serde_json::to_vec(entry).map_err(|_| ContactsError::Damaged { what: "consent entry" })?;
        dbs.consents.put(&mut self.txn, &consent_key(row, next), &bytes).or_store("write a consent")
    }

    /// The sequence number of the last fact that was applied to this store.
    pub fn last_fact(&self) -> Result<u64, ContactsError> {
        read_u64(&self.store.inner.dbs.meta, &self.txn, b"last_fact")
    }

    /// Remembers, with this transaction, that every fact up to `sequence` is in the store.
    pub fn set_last_fact(&mut self, sequence: u64) -> Result<(), ContactsError> {
        let meta = self.store.inner.dbs.meta;
        meta.put(&mut self.txn, b"last_fact", &sequence.to_le_bytes()).or_store("write the last fact")
    }

    /// Makes everything durable and visible.
    pub fn commit(mut self) -> Result<(), ContactsError> {
        let dbs = self.store.inner.dbs;
        self.batch.apply(&mut self.txn, &dbs)?;
        dbs.meta.put(&mut self.txn, b"next_row", &self.next_row.to_le_bytes()).or_store("write meta data")?;
        if self.new_schema {
            let bytes = serde_json::to_vec(&*self.schema).map_err(|_| ContactsError::Damaged { what: "schema" })?;
            dbs.meta.put(&mut self.txn, b"schema", &bytes).or_store("write the schema")?;
            // Published before the commit returns, so that it is never older than a snapshot (SO-3); under the lock, so that
            // a failed commit takes it back before anybody reads it.
            let mut shared = self.store.inner.schema.write();
            self.txn.commit().or_store("commit")?;
            *shared = self.schema;
            return Ok(());
        }
        self.txn.commit().or_store("commit")
    }

    /// The record as this transaction sees it, copied.
    fn record_bytes(&self, row: ContactRow) -> Result<Option<Vec<u8>>, ContactsError> {
        let found = self.store.inner.dbs.records.get(&self.txn, &row.0.to_be_bytes()).or_store("read a record")?;
        Ok(found.map(<[u8]>::to_vec))
    }

    pub(crate) fn take_row(&mut self) -> Result<ContactRow, ContactsError> {
        let row = u32::try_from(self.next_row).ok().filter(|r| *r < u32::MAX).ok_or(ContactsError::RowsExhausted)?;
        self.next_row += 1;
        Ok(ContactRow(row))
    }

    /// A row changes twice in one batch only after the first change is written.
    fn settle_row(&mut self, row: ContactRow) -> Result<(), ContactsError> {
        if self.batch.has(row.0) {
            self.batch.apply(&mut self.txn, &self.store.inner.dbs)?;
        }
        Ok(())
    }

    /// Writes the record that `builder` has, of `row` or of a new one.
    fn put(
        &mut self,
        row: Option<ContactRow>,
        mut builder: RecordBuilder,
        now: Timestamp,
    ) -> Result<Upserted, ContactsError> {
        let dbs = self.store.inner.dbs;
        let created = row.is_none();
        let row = match row {
            Some(row) => row,
            None => self.take_row()?,
        };
        let old = self.record_bytes(row)?;
        let old = match &old {
            Some(bytes) => Some(Record::parse(bytes).map_err(|_| ContactsError::DamagedRecord { row: row.0 })?),
            None => None,
        };
        let updated = old.and_then(|r| r.get(AttributeId::UPDATED)).unwrap_or(Value::Time(now));
        builder.set(AttributeId::UPDATED, updated);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        builder.write(&mut bytes);
        let same = old.is_some_and(|old| Record::parse(&bytes).is_ok_and(|new| old.raw_iter().eq(new.raw_iter())));
        if !same {
            builder.set(AttributeId::UPDATED, Value::Time(now));
            bytes.clear();
            builder.write(&mut bytes);
            self.settle_row(row)?;
            let new = Record::parse(&bytes).map_err(|_| ContactsError::DamagedRecord { row: row.0 })?;
            self.batch.change(row.0, old, Some(new));
            dbs.records.put(&mut self.txn, &row.0.to_be_bytes(), &bytes).or_store("write a record")?;
            if created {
                dbs.keys.put(&mut self.txn, new.key().as_bytes(), &row.0.to_le_bytes()).or_store("write a key")?;
            }
        }
        self.bytes = bytes;
        Ok(Upserted { row, created, changed: !same })
    }
}

impl Store {
    /// [`Writer::upsert`] in a transaction of its own.
    pub fn upsert(&self, input: &ContactInput, now: Timestamp) -> Result<Upserted, ContactsError> {
        self.write(|w| w.upsert(input, now))
    }

    /// [`Writer::patch`] in a transaction of its own.
    pub fn patch(&self, row: ContactRow, patch: &ContactInput, now: Timestamp) -> Result<Upserted, ContactsError> {
        self.write(|w| w.patch(row, patch, now))
    }

    /// [`Writer::erase`] in a transaction of its own.
    pub fn erase(&self, row: ContactRow) -> Result<bool, ContactsError> {
        self.write(|w| w.erase(row))
    }

    /// [`Writer::deactivate`] in a transaction of its own.
    pub fn deactivate(&self, row: ContactRow, now: Timestamp) -> Result<Upserted, ContactsError> {
        self.write(|w| w.deactivate(row, now))
    }

    /// [`Writer::record_consent`] in a transaction of its own.
    pub fn record_consent(&self, row: ContactRow, entry: &ConsentEntry) -> Result<(), ContactsError> {
        self.write(|w| w.record_consent(row, entry))
    }

    /// Runs `work` in one write transaction, which is committed if it succeeds.
    pub fn write<T>(&self, work: impl FnOnce(&mut Writer<'_>) -> Result<T, ContactsError>) -> Result<T, ContactsError> {
        let mut writer = self.writer()?;
        let out = work(&mut writer)?;
        writer.commit()?;
        Ok(out)
    }
}

pub(crate) fn row_from(bytes: &[u8]) -> Result<ContactRow, ContactsError> {
    let bytes = bytes.try_into().map_err(|_| ContactsError::Damaged { what: "row of a key" })?;
    Ok(ContactRow(u32::from_le_bytes(bytes)))
}

pub(crate) fn consent_key(row: ContactRow, position: u32) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&row.0.to_be_bytes());
    key[4..].copy_from_slice(&position.to_be_bytes());
    key
}
