use serde_json::json;

use super::*;
use crate::clock::Timestamp;
use crate::contacts::{ConsentStatus, ContactInput};
use crate::ids::{ContactRow, ImportId};

const ROWS: u32 = 40;

/// A store with every kind of value, shared addresses, long values, erased rows and consent.
fn sound() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().expect("a folder");
    let store = Store::open(root.path()).expect("a store");
    for (name, kind) in [
        ("plan", AttributeType::Text),
        ("age", AttributeType::Number),
        ("seen", AttributeType::DateTime),
        ("tags", AttributeType::List),
        ("vip", AttributeType::Boolean),
    ] {
        store.add_attribute(name, kind, None).expect("an attribute");
    }
    for n in 0..ROWS {
        let contact = json!({
            "key": format!("k{n}"), "email": format!("mail{}@x.test", n / 2), "device_tokens": [format!("t{n}"), "same"],
            "attributes": {
                "plan": if n == 3 { "long".repeat(200) } else { format!("plan{}", n % 3) },
                "age": f64::from(n) - 10.5, "seen": "2026-01-01T00:00:00Z", "tags": ["a", format!("b{}", n % 4), "a"],
                "vip": n % 2 == 0,
            },
        });
        let input: ContactInput = serde_json::from_value(contact).expect("a contact");
        store.upsert(&input, Timestamp(1_000 + i64::from(n))).expect("in");
    }
    let entry = ConsentEntry {
        channel: Channel::Email,
        topic: "news".into(),
        status: ConsentStatus::Subscribed,
        source: "api".into(),
        at: Timestamp(5),
    };
    store.record_consent(ContactRow(1), &entry).expect("noted");
    let given = [(entry, (0..10).collect())];
    store.write(|w| w.give_consents(ImportId(7), &given)).expect("given");
    store.erase(ContactRow(5)).expect("erased");
    store.deactivate(ContactRow(6), Timestamp(9_000)).expect("changed");
    (root, store)
}

fn damage(store: &Store, harm: impl FnOnce(&Databases, &mut heed::RwTxn<'_>)) {
    let mut txn = store.inner.env.write_txn().expect("writes");
    harm(&store.inner.dbs, &mut txn);
    txn.commit().expect("commits");
}

/// What a verification says after some harm, one line a finding.
fn said(harm: impl FnOnce(&Databases, &mut heed::RwTxn<'_>)) -> String {
    let (_root, store) = sound();
    damage(&store, harm);
    let seen = store.verify().expect("it can be read");
    let lines: Vec<String> = seen.wrong.iter().map(|w| format!("{}: {}: {}", w.table, w.place, w.problem)).collect();
    lines.join("\n")
}

#[test]
fn a_sound_store_has_nothing_wrong() {
    let (_root, store) = sound();
    let seen = store.verify().expect("it can be read");
    assert_eq!(seen.wrong, [], "a sound store");
    assert_eq!((seen.records, seen.more), (u64::from(ROWS) - 1, 0), "all but the erased one");
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_is_found_unless_nothing_relates_to_it() {
    let (_root, store) = sound();
    let row = 8u32.to_be_bytes();
    let read = |store: &Store| {
        let txn = store.inner.env.read_txn().expect("reads");
        store.inner.dbs.records.get(&txn, &row).expect("reads").expect("is there").to_vec()
    };
    let whole = read(&store);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        damage(&store, |dbs, txn| dbs.records.put(txn, &row, &bytes).expect("written"));
        let seen = store.verify().expect("it can be read");
        let named = seen.wrong.iter().any(|w| format!("{} {}", w.place, w.problem).contains("row 8"));
        // Every attribute of this record is indexed, is an address or is the key.
        assert!(named, "byte {at} of {}: {:?}", whole.len(), seen.wrong);
    }
    damage(&store, |dbs, txn| dbs.records.put(txn, &row, &whole).expect("written"));
    assert_eq!(store.verify().expect("it can be read").wrong, [], "whole again");
}

#[test]
fn a_lost_record_and_a_lost_key_are_named() {
    let lost = said(|dbs, txn| assert!(dbs.records.delete(txn, &4u32.to_be_bytes()).expect("deleted")));
    for part in ["keys: key \"k4\"", "leads to row 4, whose record", "names row 4, which has no record"] {
        assert!(lost.contains(part), "{part}: {lost}");
    }
    assert!(lost.contains("names a contact whose record does not have it: row 4"), "{lost}");
    let key = said(|dbs, txn| assert!(dbs.keys.delete(txn, b"k9").expect("deleted")));
    assert_eq!(key, "keys: row 9: its key \"k9\" leads nowhere");
    let wrong = said(|dbs, txn| dbs.keys.put(txn, b"k9", &2u32.to_le_bytes()).expect("written"));
    assert!(wrong.starts_with("keys: row 9: its key \"k9\" leads to row 2"), "{wrong}");
    let more = said(|dbs, txn| dbs.keys.put(txn, b"ghost", &2u32.to_le_bytes()).expect("written"));
    assert_eq!(more, "keys: key \"ghost\": leads to no record that has it");
}

#[test]
fn index_sets_are_held_against_the_records() {
    let set = |name: &str| {
        let (_root, store) = sound();
        let id = store.schema().by_name(name).expect("known").id;
        let mut key = Vec::new();
        index_keys::value(id, "plan1", &mut key);
        index_keys::push_high(&mut key, 0);
        key
    };
    let plan = set("plan");
    let lost = said(|dbs, txn| assert!(dbs.index.delete(txn, &plan).expect("deleted")));
    assert!(lost.starts_with("index: \"plan\" = \"plan1\": lacks"), "{lost}");
    let flipped = said(|dbs, txn| {
        let mut bytes = dbs.index.get(txn, &plan).expect("reads").expect("is there").to_vec();
        *bytes.last_mut().expect("not empty") ^= 1;
        dbs.index.put(txn, &plan, &bytes).expect("written");
    });
    assert!(flipped.starts_with("index: \"plan\" = \"plan1\""), "{flipped}");
    let moved = said(|dbs, txn| {
        let bytes = dbs.index.get(txn, &plan).expect("reads").expect("is there").to_vec();
        let mut ghost = plan.clone();
        ghost[3] ^= 1;
        dbs.index.put(txn, &ghost, &bytes).expect("written");
    });
    assert!(moved.contains("\"qlan1\": names") && moved.contains("whose records do not have it"), "{moved}");
}

#[test]
fn shared_addresses_and_histories_are_held_against_the_records() {
    let address = |store: &Store| store.address_hash(Channel::Email, "mail4@x.test").0;
    let (_root, store) = sound();
    let hash = address(&store);
    damage(&store, |dbs, txn| dbs.addresses.put(txn, &hash, &8u32.to_le_bytes()).expect("written"));
    let seen = store.verify().expect("it can be read");
    assert!(seen.wrong.iter().any(|w| w.table == "addresses" && w.place == "row 9"), "{:?}", seen.wrong);
    assert!(seen.wrong.iter().any(|w| w.place == "shared addresses of email"), "{:?}", seen.wrong);
    let history = said(|dbs, txn| {
        dbs.consents.put(txn, &crate::contacts::writer::consent_key(ContactRow(5), 0), b"{}").expect("written");
        dbs.consents.put(txn, &crate::contacts::writer::consent_key(ContactRow(2), 0), b"{}").expect("written");
        assert!(dbs.imports.delete(txn, &[0, 0, 0, 7, b'c']).expect("deleted"));
    });
    for part in ["row 5: has a history and no record", "row 2: an entry", "imports: consent of import 7"] {
        assert!(history.contains(part), "{part}: {history}");
    }
}
