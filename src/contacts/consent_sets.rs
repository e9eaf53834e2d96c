//! Consent that imports gave, for the histories of contacts: a set of rows per import, topic and status.
//!
//! ```text
//! imports: import 'c'                    the entries, as JSON; all contacts of a set share one
//! index:   'C' import number high        the rows of the entry with this number
//! ```
//!
//! An entry of its own per contact would cost an import of a million rows a million writes, some three times of what all
//! else of a row costs; a set costs a container per 65 536 rows. Invariants: CT-1 writing a set again changes nothing, so
//! that a chunk may be given twice; CT-2 an erased contact is in no set. Must not know: who decides about consent.

use roaring::RoaringBitmap;

use crate::contacts::consent::ConsentEntry;
use crate::contacts::container::Stored;
use crate::contacts::writer::Writer;
use crate::contacts::{ContactsError, Reader, StoreResult, index_keys};
use crate::ids::{ContactRow, ImportId};

/// What a chunk of an import changed: contacts and what their histories have to say of it.
pub type GivenConsent = (ConsentEntry, RoaringBitmap);

const DAMAGED: ContactsError = ContactsError::Damaged { what: "consent of an import" };

fn key(import: ImportId) -> [u8; 5] {
    let mut key = [b'c'; 5];
    key[..4].copy_from_slice(&import.0.to_be_bytes());
    key
}

fn import_of(key: &[u8]) -> Option<ImportId> {
    let (import, kind) = key.split_first_chunk()?;
    (kind == b"c").then_some(ImportId(u32::from_be_bytes(*import)))
}

fn entries_of(bytes: &[u8]) -> Result<Vec<ConsentEntry>, ContactsError> {
    serde_json::from_slice(bytes).map_err(|_| DAMAGED)
}

fn prefix(import: ImportId, number: usize, out: &mut Vec<u8>) {
    index_keys::consented(import, u16::try_from(number).unwrap_or(u16::MAX), out);
}

impl Reader {
    /// What imports said of the contact's consent, in the order of the imports.
    pub(crate) fn imported_consents(&self, row: ContactRow) -> Result<Vec<ConsentEntry>, ContactsError> {
        let mut found = Vec::new();
        let mut set = Vec::new();
        for key in self.import_keys()? {
            let Some(import) = import_of(key) else { continue };
            for (number, entry) in entries_of(self.import_entry(key)?.ok_or(DAMAGED)?)?.into_iter().enumerate() {
                prefix(import, number, &mut set);
                if self.in_set(&mut set, row.0)? {
                    found.push(entry);
                }
            }
        }
        Ok(found)
    }
}

impl Writer<'_> {
    /// Adds to what an import changed. Entries are told apart as wholes.
    pub fn give_consents(&mut self, import: ImportId, given: &[GivenConsent]) -> Result<(), ContactsError> {
        if given.iter().all(|(_, rows)| rows.is_empty()) {
            return Ok(());
        }
        let imports = self.store.inner.dbs.imports;
        let present = imports.get(&self.txn, &key(import)).or_store("read an import")?;
        let mut entries = present.map(entries_of).transpose()?.unwrap_or_default();
        let known = entries.len();
        let mut set = Vec::new();
        for (entry, rows) in given.iter().filter(|(_, rows)| !rows.is_empty()) {
            let number = entries.iter().position(|e| e == entry).unwrap_or_else(|| {
                entries.push(entry.clone());
                entries.len() - 1
            });
            prefix(import, number, &mut set);
            let rows: Vec<u32> = rows.iter().collect();
            self.batch.apply_set(&mut self.txn, &self.store.inner.dbs, &mut set, &rows, &[], None)?;
        }
        if entries.len() > known {
            let bytes = serde_json::to_vec(&entries).map_err(|_| DAMAGED)?;
            imports.put(&mut self.txn, &key(import), &bytes).or_store("write an import")?;
        }
        Ok(())
    }

    /// Takes the contact out of every set.
    pub(crate) fn erase_given_consents(&mut self, row: ContactRow) -> Result<(), ContactsError> {
        let mut sets: Vec<(ImportId, usize)> = Vec::new();
        for entry in self.store.inner.dbs.imports.iter(&self.txn).or_store("read imports")? {
            let (key, bytes) = entry.or_store("read imports")?;
            if let Some(import) = import_of(key) {
                sets.extend((0..entries_of(bytes)?.len()).map(|number| (import, number)));
            }
        }
        let mut set = Vec::new();
        for (import, number) in sets {
            prefix(import, number, &mut set);
            let mut whole = set.clone();
            index_keys::push_high(&mut whole, row.0);
            let stored = self.store.inner.dbs.index.get(&self.txn, &whole).or_store("read the index")?;
            if stored.map(Stored::parse).transpose()?.is_some_and(|stored| stored.contains(row.0 as u16)) {
                self.batch.apply_set(&mut self.txn, &self.store.inner.dbs, &mut set, &[], &[row.0], None)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::contacts::{ConsentStatus, ContactInput, Store};
    use crate::ids::Channel;

    fn entry(source: &str, at: i64) -> ConsentEntry {
        let topic = "news".to_owned();
        let status = ConsentStatus::Subscribed;
        ConsentEntry { channel: Channel::Email, topic, status, source: source.to_owned(), at: Timestamp(at) }
    }

    #[test]
    fn histories_have_what_imports_gave_in_the_order_of_time_and_lose_it_by_erasure() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(root.path()).expect("a store");
        let rows = ["a", "b"].map(|key| {
            let input = ContactInput { key: key.into(), ..ContactInput::default() };
            store.upsert(&input, Timestamp(0)).expect("a contact").row
        });
        let both: RoaringBitmap = rows.iter().map(|row| row.0).collect();
        store.record_consent(rows[0], &entry("api", 2)).expect("noted");
        for _ in 0..2 {
            let given = [(entry("import-7", 1), both.clone()), (entry("import-7", 1), RoaringBitmap::new())];
            store.write(|w| w.give_consents(ImportId(7), &given)).expect("given");
            let given = [(entry("import-8", 3), RoaringBitmap::from_iter([rows[0].0]))];
            store.write(|w| w.give_consents(ImportId(8), &given)).expect("given");
        }
        let sources = |row| {
            let history = store.reader().expect("a reader").consent_history(row).expect("a history");
            history.into_iter().map(|e| e.source).collect::<Vec<_>>()
        };
        assert_eq!(sources(rows[0]), ["import-7", "api", "import-8"], "each once, oldest first");
        assert_eq!(sources(rows[1]), ["import-7"], "only those that the import named");
        store.erase(rows[0]).expect("erased");
        assert_eq!(sources(rows[0]), [""; 0], "nothing is left of an erased contact");
        assert_eq!(sources(rows[1]), ["import-7"], "and the others keep theirs");
        let mut left = Vec::new();
        prefix(ImportId(8), 0, &mut left);
        assert!(store.reader().expect("a reader").set(&left).expect("a set").is_empty(), "not even a bit");
    }
}
