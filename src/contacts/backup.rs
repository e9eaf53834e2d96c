//! Copies of a store for a backup: one moment of it, compacted, while readers and writers go on.
//!
//! Owns no state. Invariants: BU-1 the copy is one committed state of the store, whole: LMDB copies by a read
//! transaction; BU-2 when [`Store::copy_then`] has called `begun`, the moment of the copy is fixed: whoever held the
//! writer until then knows which. Must not know what a backup holds beside it.
//!
//! LMDB's compacting copy begins its read transaction before it writes its first byte, and never waits for a writer
//! (its plain copy does). So the length of the copy's file tells that the transaction is there.
//!
//! A compacted copy begins its transaction numbers anew, and the `versions` of the sets, which are such numbers,
//! would then lie ahead: a set that is cached under version 40 from before the copy could be taken for the one that
//! transaction 40 writes after it. `settle_versions` forgets those at the opening, where the cache is empty.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use heed::CompactionOption;

use crate::contacts::store::{Databases, Store};
use crate::contacts::{ContactsError, StoreResult};

/// LMDB's name of its file.
pub const DATA_FILE: &str = "data.mdb";
/// How often the beginning of a copy is looked for.
const LOOK: Duration = Duration::from_micros(200);

impl Store {
    /// Copies the store as it is at one moment of this call into the new file `to`. Nothing is synced.
    pub fn copy_to(&self, to: &Path) -> Result<(), ContactsError> {
        self.copy_then(to, || ())
    }

    /// [`Store::copy_to`]; `begun` is called on this thread as soon as the moment is fixed, while the copy goes on.
    /// Nobody may hold the writer on another thread for the sake of this call; the caller may.
    pub fn copy_then(&self, to: &Path, begun: impl FnOnce()) -> Result<(), ContactsError> {
        let failed = |source| ContactsError::Store { what: "make the file of a copy", source: heed::Error::Io(source) };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
        let seen = file.try_clone().map_err(failed)?;
        std::thread::scope(|scope| {
            let copying = scope.spawn(|| self.copy_file(file));
            while !(copying.is_finished() || has_bytes(&seen)) {
                std::thread::sleep(LOOK);
            }
            begun();
            copying.join().unwrap_or(Err(ContactsError::Damaged { what: "copy" }))
        })
    }

    fn copy_file(&self, mut file: File) -> Result<(), ContactsError> {
        self.inner.env.copy_to_file(&mut file, CompactionOption::Enabled).or_store("copy")
    }
}

impl Store {
    /// Gives out no row before `next`, from now on; repeating it changes nothing. Durable when it returns.
    pub fn leave_rows_out(&self, next: u32) -> Result<(), ContactsError> {
        if self.reader()?.next_row()? >= u64::from(next) {
            return Ok(());
        }
        let mut writer = self.writer()?;
        writer.next_row = writer.next_row.max(u64::from(next));
        writer.commit()
    }
}

fn has_bytes(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Forgets versions that no transaction of this file has written.
pub(super) fn settle_versions(dbs: &Databases, txn: &mut heed::RwTxn<'_>) -> Result<(), ContactsError> {
    let this = txn.id() as u64;
    let mut ahead = Vec::new();
    for entry in dbs.versions.iter(txn).or_store("read the versions")? {
        let (owner, version) = entry.or_store("read a version")?;
        if version.try_into().map_or(u64::MAX, u64::from_le_bytes) > this {
            ahead.push(owner.to_owned());
        }
    }
    for owner in ahead {
        dbs.versions.delete(txn, &owner).or_store("forget a version")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::contacts::{AttributeSets, AttributeType, ContactInput, Reader};
    use crate::ids::AttributeId;

    fn contact(key: &str, town: &str) -> ContactInput {
        let json = serde_json::json!({"key": key, "email": format!("{key}@x.test"), "attributes": {"town": town}});
        serde_json::from_value(json).expect("an input")
    }

    fn people(reader: &Reader, town: AttributeId, name: &str) -> Vec<u32> {
        reader.value(town, name).expect("a set").iter().collect()
    }

    #[test]
    fn a_copy_is_one_moment_of_a_store_that_goes_on() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(&root.path().join("a")).expect("a store");
        store.add_attribute("town", AttributeType::Text, None).expect("an attribute");
        for n in 0..50 {
            store.upsert(&contact(&format!("c{n}"), "Ulm"), Timestamp(1)).expect("a contact");
        }
        let copy = root.path().join("b");
        std::fs::create_dir(&copy).expect("a folder");
        let writer = store.writer().expect("the writer");
        let mut held = Some(writer);
        store.copy_then(&copy.join(DATA_FILE), || drop(held.take())).expect("copied though the writer was held");
        assert!(held.is_none(), "the beginning was told");
        store.upsert(&contact("late", "Ulm"), Timestamp(2)).expect("a contact");
        let copied = Store::open(&copy).expect("the copy opens");
        assert_eq!(copied.reader().expect("a reader").contacts().expect("a count"), 50, "nothing that came later");
        assert_eq!(copied.verify().expect("verified").wrong, [], "whole");
        assert_eq!(copied.salt(), store.salt(), "address hashes go on to compare");
        assert!(store.copy_to(&copy.join(DATA_FILE)).is_err(), "nothing is overwritten");
    }

    #[test]
    fn rows_that_are_left_out_are_given_to_nobody() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(&root.path().join("a")).expect("a store");
        store.add_attribute("town", AttributeType::Text, None).expect("an attribute");
        let row = |key: &str| store.upsert(&contact(key, "Ulm"), Timestamp(1)).expect("a contact").row.0;
        assert_eq!((row("a"), row("b")), (0, 1));
        for next in [70_000, 70_000, 1] {
            store.leave_rows_out(next).expect("left out");
            assert_eq!(store.reader().expect("a reader").next_row().expect("a row"), 70_000, "never backwards");
        }
        assert_eq!((row("a"), row("c"), row("d")), (0, 70_000, 70_001), "who is there keeps the row");
        let reader = store.reader().expect("a reader");
        assert_eq!(reader.contacts().expect("a count"), 4);
        assert_eq!(store.verify().expect("verified").wrong, [], "and the store is whole");
    }

    #[test]
    fn a_copy_never_serves_a_set_of_before_under_a_number_of_after() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(&root.path().join("a")).expect("a store");
        let town = store.add_attribute("town", AttributeType::Text, None).expect("an attribute");
        for n in 0..20 {
            store.upsert(&contact(&format!("c{n}"), "Ulm"), Timestamp(1)).expect("a contact");
        }
        let copy = root.path().join("b");
        std::fs::create_dir(&copy).expect("a folder");
        store.copy_to(&copy.join(DATA_FILE)).expect("copied");
        let copied = Store::open(&copy).expect("the copy opens");
        let mut expected = people(&copied.reader().expect("a reader"), town, "Ulm");
        assert_eq!(expected.len(), 20);
        // Through and beyond the number of the last transaction before the copy.
        for n in 0..40 {
            let row = copied.upsert(&contact(&format!("d{n}"), "Ulm"), Timestamp(2)).expect("a contact").row;
            expected.push(row.0);
            assert_eq!(people(&copied.reader().expect("a reader"), town, "Ulm"), expected, "after {n} more");
        }
    }
}
