//! Lists: sets of contacts with a name, held in the state.

use roaring::RoaringBitmap;

use crate::contacts::{AttributeSets, Reader};
use crate::engine::Engine;
use crate::engine::base::BaseError;
use crate::engine::base::names::{self, Thing};
use crate::ledger::{Fact, RowSet};

/// What a change of a list did, in contacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListDelta {
    pub added: u64,
    pub removed: u64,
    /// Keys that no contact has.
    pub unknown: u64,
    /// Members afterwards.
    pub contacts: u64,
}

impl Engine {
    /// Makes a list, empty, of keys, or of those who match an expression now. Answers its name as it is kept.
    pub fn create_list(&self, name: &str, keys: &[String], segment: Option<&str>) -> Result<String, BaseError> {
        let name = names::valid("list", name)?;
        let exists = || BaseError::ListExists { name: name.clone() };
        if self.book.read().lists.contains_key(&name) {
            return Err(exists());
        }
        let reader = self.store.reader()?;
        let (mut rows, unknown) = rows_of_keys(&reader, keys)?;
        if !unknown.is_empty() {
            return Err(BaseError::UnknownKeys { keys: unknown });
        }
        drop(reader);
        let mut source = "api";
        if let Some(text) = segment {
            source = "segment";
            rows |= &*self.preview(text)?.1.rows;
        }
        let at = self.book.now();
        self.book.commit_durable_by::<BaseError>(|state| {
            if state.lists.contains_key(&name) {
                return Err(exists());
            }
            let rows = RowSet::base(rows);
            Ok(Some(Fact::ListCreated { name: name.clone(), source: source.to_owned(), at, rows }))
        })?;
        Ok(name)
    }

    /// Adds and removes contacts by key; a key in both is removed.
    pub fn change_list(&self, name: &str, add: &[String], remove: &[String]) -> Result<ListDelta, BaseError> {
        let reader = self.store.reader()?;
        let (mut added, unknown_added) = rows_of_keys(&reader, add)?;
        let (removed, unknown_removed) = rows_of_keys(&reader, remove)?;
        drop(reader);
        added -= &removed;
        let mut delta = ListDelta::default();
        self.book.commit_durable_by::<BaseError>(|state| {
            let list = state.lists.get(name).ok_or_else(|| BaseError::NoList { name: name.to_owned() })?;
            let added = &added - &list.rows;
            let removed = &removed & &list.rows;
            delta.added = added.len();
            delta.removed = removed.len();
            delta.contacts = list.rows.len() + added.len() - removed.len();
            if added.is_empty() && removed.is_empty() {
                return Ok(None);
            }
            let (added, removed) = (RowSet::base(added), RowSet::base(removed));
            Ok(Some(Fact::ListChanged { name: name.to_owned(), added, removed }))
        })?;
        delta.unknown = (unknown_added.len() + unknown_removed.len()) as u64;
        Ok(delta)
    }

    /// Deletes a list; its contacts stay.
    pub fn delete_list(&self, name: &str) -> Result<(), BaseError> {
        let gone = || BaseError::NoList { name: name.to_owned() };
        if !self.book.read().lists.contains_key(name) {
            return Err(gone());
        }
        let by = self.users_of(Thing::List(name));
        if !by.is_empty() {
            return Err(BaseError::ListInUse { name: name.to_owned(), by });
        }
        self.book.commit_durable_by::<BaseError>(|state| {
            if !state.lists.contains_key(name) {
                return Err(gone());
            }
            Ok(Some(Fact::ListDeleted { name: name.to_owned() }))
        })?;
        Ok(())
    }

    /// Up to `limit` members of a list from the first row after `after`: row and key.
    pub fn list_members(&self, name: &str, after: Option<u32>, limit: usize) -> Result<Vec<(u32, String)>, BaseError> {
        let reader = self.store.reader()?;
        let universe = reader.universe()?;
        let rows: Vec<u32> = {
            let state = self.book.read();
            let list = state.lists.get(name).ok_or_else(|| BaseError::NoList { name: name.to_owned() })?;
            let first = after.map_or(0, |row| row.saturating_add(1));
            list.rows.range(first..).filter(|row| universe.contains(*row)).take(limit).collect()
        };
        let mut members = Vec::with_capacity(rows.len());
        reader.records(rows, |row, record| {
            members.push((row, record.key().to_owned()));
            true
        })?;
        Ok(members)
    }
}

/// The rows of some keys, and the keys that no contact has.
pub(super) fn rows_of_keys(reader: &Reader, keys: &[String]) -> Result<(RoaringBitmap, Vec<String>), BaseError> {
    let mut rows = RoaringBitmap::new();
    let mut unknown = Vec::new();
    for key in keys {
        match reader.row_of_key(key.trim())? {
            Some(row) => {
                rows.insert(row.0);
            }
            None => unknown.push(key.clone()),
        }
    }
    Ok((rows, unknown))
}
