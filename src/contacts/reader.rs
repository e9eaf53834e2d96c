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

    /// All contacts that have one of the addresses. Costs a look-up each, cheapest in the order of the hashes.
    pub fn rows_of_addresses(&self, hashes: &[AddressHash]) -> Result<RoaringBitmap, ContactsError> {
        let mut rows = Vec::new();
        for hash in hashes {
            let found = self.store.inner.dbs.addresses.get(&self.txn, &hash.0).or_store("read addresses")?;
            rows.extend(
                found.unwrap_or_default().chunks_exact(4).filter_map(|row| row_from(row).ok()).map(|row| row.0),
            );
        }
        rows.sort_unstable();
        Ok(rows.into_iter().collect())
    }

    /// Contacts whose address on the channel another contact has too. Webhooks address the key, which nobody shares.
    pub fn shared(&self, channel: Channel) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let mut prefix = Vec::new();
        index_keys::shared(channel, &mut prefix);
        self.cached(SetName::Shared(channel as u8), &[channel as u8], &prefix)
    }

    /// Each of `rows` with every other contact that has its address. Costs what the shared addresses among them cost.
    pub fn twins(&self, channel: Channel, rows: &RoaringBitmap) -> Result<Vec<(u32, u32)>, ContactsError> {
        let mut pairs = Vec::new();
        for row in rows & &*self.shared(channel)? {
            let record = self.record(ContactRow(row))?;
            let Some(address) = record.and_then(|record| record.address(channel)) else { continue };
            let same = self.rows_of_address(self.store.address_hash(channel, address))?;
            pairs.extend(same.into_iter().filter(|other| other.0 != row).map(|other| (row, other.0)));
        }
        Ok(pairs)
    }

    /// The consent history, oldest first: what was noted of the contact, and what imports gave.
    pub fn consent_history(&self, row: ContactRow) -> Result<Vec<ConsentEntry>, ContactsError> {
        let mut all = self.noted_consents(row)?;
        all.extend(self.imported_consents(row)?);
        all.sort_by_key(|entry| entry.at);
        Ok(all)
    }

    /// What was noted of the contact by itself, in the order in which it was.
    pub fn noted_consents(&self, row: ContactRow) -> Result<Vec<ConsentEntry>, ContactsError> {
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

    pub(crate) fn import_keys(&self) -> Result<Vec<&[u8]>, ContactsError> {
        let entries = self.store.inner.dbs.imports.iter(&self.txn).or_store("read imports")?;
        entries.map(|e| e.map(|(key, _)| key).or_store("read imports")).collect()
    }

    /// A set that is not worth caching.
    pub(crate) fn set(&self, prefix: &[u8]) -> Result<RoaringBitmap, ContactsError> {
        load_set(&self.store.inner.dbs.index, &self.txn, prefix)
    }

    /// Whether the set with this prefix has the row; reads one container. `prefix` is used as a buffer.
    pub(crate) fn in_set(&self, prefix: &mut Vec<u8>, row: u32) -> Result<bool, ContactsError> {
        index_keys::push_high(prefix, row);
        let stored = self.store.inner.dbs.index.get(&self.txn, prefix).or_store("read the index")?;
        Ok(stored.map(Stored::parse).transpose()?.is_some_and(|stored| stored.contains(row as u16)))
    }

    fn cached(&self, name: SetName, owner: &[u8], prefix: &[u8]) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let version = read_u64(&self.store.inner.dbs.versions, &self.txn, owner)?;
        if let Some(rows) = self.store.inner.cache.lock().get(&name, version) {
            return Ok(rows);
        }
        let rows = Arc::new(self.set(prefix)?);
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
            let Some((set, high)) = index_keys::split(key) else {
                continue;
            };
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

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::contacts::record::Value;
    use crate::contacts::schema::{AttributeType, IndexKind};
    use crate::contacts::sets::{number_digits, time_digits};
    use crate::contacts::{ConsentStatus, ContactInput};

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(dir.path()).expect("opens");
        (dir, store)
    }

    fn contact(json: serde_json::Value) -> ContactInput {
        serde_json::from_value(json).expect("a contact")
    }

    /// The text forms that a values index has for a value.
    fn texts(value: Value<'_>) -> Vec<String> {
        match value {
            Value::Text(text) => vec![text.to_owned()],
            Value::Bool(flag) => vec![flag.to_string()],
            Value::List(list) => list.iter().map(str::to_owned).collect(),
            Value::Number(_) | Value::Time(_) => vec![],
        }
    }

    /// Compares every set of the index with a filter over all records.
    pub(crate) fn check_against_records(store: &Store) {
        let reader = store.reader().expect("reads");
        let schema = store.schema();
        let mut rows = Rows::new();
        let all = (0..u32::try_from(reader.next_row().expect("rows")).expect("few")).collect::<RoaringBitmap>();
        reader
            .scan(&all, &mut |row, record| {
                rows.insert(row, RecordBuilder::from_record(record).to_bytes());
            })
            .expect("scans");
        let record = |row: &u32| record_at(&rows, *row);
        let naive = |keep: &dyn Fn(Record<'_>) -> bool| {
            rows.keys().copied().filter(|r| keep(record(r))).collect::<RoaringBitmap>()
        };
        assert_eq!(*reader.universe().expect("universe"), naive(&|_| true), "universe");
        assert_eq!(reader.contacts().expect("count"), rows.len() as u64, "count");
        for attribute in schema.attributes() {
            let (id, name) = (attribute.id, &attribute.name);
            assert_eq!(*reader.present(id).expect("present"), naive(&|r| r.get(id).is_some()), "present {name}");
            match attribute.index {
                IndexKind::Values => {
                    let mut values: Vec<String> =
                        rows.keys().filter_map(|r| record(r).get(id)).flat_map(texts).collect();
                    values.sort();
                    values.dedup();
                    for value in values.iter().chain([&"absent".to_owned()]) {
                        let want = naive(&|r| r.get(id).is_some_and(|v| texts(v).contains(value)));
                        assert_eq!(*reader.value(id, value).expect("value"), want, "{name} = {value}");
                    }
                    let mut seen = Vec::new();
                    let union = reader.union_where(id, "v", &mut |v| {
                        seen.push(v.to_owned());
                        v.len() % 2 == 0
                    });
                    values.retain(|v| v.starts_with('v'));
                    let want = naive(&|r| {
                        r.get(id).is_some_and(|v| texts(v).iter().any(|t| t.starts_with('v') && t.len() % 2 == 0))
                    });
                    assert_eq!(union.expect("union"), want, "{name} union");
                    assert_eq!(seen, values, "{name}: each value is asked once, in order");
                }
                IndexKind::BitSliced => {
                    for digit in 0..64 {
                        let want = naive(&|r| match r.get(id) {
                            Some(Value::Number(n)) => number_digits(n) >> digit & 1 == 1,
                            Some(Value::Time(t)) => time_digits(t) >> digit & 1 == 1,
                            _ => false,
                        });
                        assert_eq!(*reader.digit(id, digit).expect("digit"), want, "{name} digit {digit}");
                    }
                }
                IndexKind::None => {}
            }
        }
        check_addresses(store, &reader, &rows);
    }

    type Rows = BTreeMap<u32, Vec<u8>>;

    fn record_at(rows: &Rows, row: u32) -> Record<'_> {
        Record::parse(&rows[&row]).expect("a record")
    }

    /// Compares keys, addresses and shared addresses with the records.
    fn check_addresses(store: &Store, reader: &Reader, rows: &Rows) {
        let record = |row: &u32| record_at(rows, *row);
        for channel in [Channel::Email, Channel::Push, Channel::Sms] {
            let mut by_address: BTreeMap<AddressHash, Vec<u32>> = BTreeMap::new();
            for row in rows.keys() {
                for text in record(row).get(channel.address_attribute()).map(texts).unwrap_or_default() {
                    by_address.entry(store.address_hash(channel, &text)).or_default().push(*row);
                }
            }
            let shared: RoaringBitmap = by_address.values().filter(|r| r.len() > 1).flatten().copied().collect();
            assert_eq!(*reader.shared(channel).expect("shared"), shared, "shared {channel}");
            for (hash, want) in by_address {
                let got: Vec<u32> = reader.rows_of_address(hash).expect("rows").iter().map(|r| r.0).collect();
                assert_eq!(got, want, "rows of an address on {channel}");
            }
        }
        for row in rows.keys() {
            assert_eq!(reader.row_of_key(record(row).key()).expect("key"), Some(ContactRow(*row)), "row by key");
        }
    }

    use crate::contacts::record::RecordBuilder;

    #[derive(Clone, Debug)]
    enum Op {
        Upsert(u8, serde_json::Value),
        Patch(u8, serde_json::Value),
        Erase(u8),
        Active(u8, bool),
        Commit,
    }

    fn fields() -> impl Strategy<Value = serde_json::Value> {
        let long = "v".repeat(500);
        let text =
            prop_oneof![Just("va".to_owned()), Just("vab".to_owned()), Just("w".to_owned()), Just(long), "[v-z]{1,3}"];
        (
            proptest::option::of(0u8..6),
            proptest::option::of(text.clone()),
            proptest::option::of(prop_oneof![-5i32..5, Just(1_000_000)]),
            proptest::option::of(proptest::collection::vec(text, 0..4)),
            proptest::option::of(any::<bool>()),
            proptest::option::of(proptest::collection::vec(0u8..5, 0..3)),
        )
            .prop_map(|(email, city, age, tags, vip, tokens)| {
                json!({
                    "email": email.map(|e| format!("Person{e}@example{}.test", e % 2)),
                    "device_tokens": tokens.map(|t| t.iter().map(|t| format!("token-{t}")).collect::<Vec<_>>()),
                    "attributes": {"city": city, "age": age, "tags": tags, "vip": vip, "seen": age.map(|a| format!("20{:02}-01-01", a.rem_euclid(90)))},
                })
            })
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0u8..12, fields()).prop_map(|(k, f)| Op::Upsert(k, f)),
            2 => (0u8..12, fields()).prop_map(|(k, f)| Op::Patch(k, f)),
            1 => (0u8..12).prop_map(Op::Erase),
            1 => (0u8..12, any::<bool>()).prop_map(|(k, a)| Op::Active(k, a)),
            1 => Just(Op::Commit),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_index_answers_as_a_filter_over_the_records_would(ops in proptest::collection::vec(op(), 1..60)) {
            let (_dir, store) = open();
            for (name, kind) in [
                ("city", AttributeType::Text), ("age", AttributeType::Number), ("tags", AttributeType::List),
                ("vip", AttributeType::Boolean), ("seen", AttributeType::DateTime),
            ] {
                store.add_attribute(name, kind, None).expect("a new attribute");
            }
            let mut writer = store.writer().expect("writes");
            let mut commits = 0;
            for (i, op) in ops.into_iter().enumerate() {
                let now = Timestamp(i as i64 * 1000);
                match op {
                    Op::Upsert(k, fields) => {
                        let mut input = contact(fields);
                        input.key = format!("k{k}");
                        writer.upsert(&input, now).expect("upserts");
                    }
                    Op::Patch(k, fields) => {
                        if let Some(row) = writer.row_of_key(&format!("k{k}")).expect("reads") {
                            writer.patch(row, &contact(fields), now).expect("patches");
                        }
                    }
                    Op::Erase(k) => {
                        if let Some(row) = writer.row_of_key(&format!("k{k}")).expect("reads") {
                            prop_assert!(writer.erase(row).expect("erases"), "there was one");
                        }
                    }
                    Op::Active(k, active) => {
                        if let Some(row) = writer.row_of_key(&format!("k{k}")).expect("reads") {
                            writer.set_active(row, active, now).expect("deactivates");
                        }
                    }
                    Op::Commit if commits < 3 => {
                        commits += 1;
                        writer.commit().expect("commits");
                        check_against_records(&store);
                        writer = store.writer().expect("writes");
                    }
                    Op::Commit => {}
                }
            }
            writer.commit().expect("commits");
            check_against_records(&store);
        }
    }

    #[test]
    fn sets_span_containers_and_a_reader_keeps_its_snapshot_whatever_is_cached() {
        let (_dir, store) = open();
        let city = store.add_attribute("city", AttributeType::Text, None).expect("a new attribute");
        let mut writer = store.writer().expect("writes");
        writer.next_row = 65_500;
        for i in 0..100 {
            let input = contact(
                json!({"key": format!("k{i}"), "attributes": {"city": if i % 2 == 0 { "Lyon" } else { "Bonn" }}}),
            );
            writer.upsert(&input, Timestamp(5)).expect("upserts");
        }
        writer.commit().expect("commits");
        let before = store.reader().expect("reads");
        store.upsert(&contact(json!({"key": "k0", "attributes": {"city": "Bonn"}})), Timestamp(9)).expect("upserts");
        let after = store.reader().expect("reads");
        for _ in 0..2 {
            assert_eq!(before.value(city, "Lyon").expect("value").len(), 50, "the old snapshot");
            assert_eq!(after.value(city, "Lyon").expect("value").len(), 49, "the new snapshot");
        }
        assert_eq!(
            after.value(city, "Bonn").expect("value").min(),
            Some(65_500),
            "rows are dense from the first free one"
        );
        assert_eq!(after.universe().expect("universe").max(), Some(65_599), "over the border of a container");
    }

    #[test]
    fn records_are_visited_in_order_over_gaps_and_the_visitor_can_stop() {
        let (_dir, store) = open();
        store
            .write(|w| {
                for i in 0..200 {
                    w.upsert(&ContactInput::with_key(format!("k{i}")), Timestamp(1))?;
                }
                w.erase(ContactRow(50)).map(drop)
            })
            .expect("writes");
        let reader = store.reader().expect("reads");
        let mut seen = Vec::new();
        let ask = [0, 1, 3, 49, 50, 51, 120, 199, 200, 4_000_000];
        reader
            .records(ask, |row, record| {
                assert_eq!(record.key(), format!("k{row}"), "the right record");
                seen.push(row);
                true
            })
            .expect("reads");
        assert_eq!(seen, [0, 1, 3, 49, 51, 120, 199], "all that exist");
        let mut count = 0;
        reader
            .records(0..200, |_, _| {
                count += 1;
                count < 5
            })
            .expect("reads");
        assert_eq!(count, 5, "stopped");
    }

    #[test]
    fn a_row_is_never_reused_and_erase_leaves_nothing() {
        let (dir, store) = open();
        let input = contact(json!({"key": "a", "email": "a@x.test", "phone": "+33612345678"}));
        let first = store.upsert(&input, Timestamp(1)).expect("upserts");
        assert!(first.created && first.changed, "new");
        let again = store.upsert(&input, Timestamp(2)).expect("upserts");
        assert_eq!(again, Upserted { row: first.row, created: false, changed: false }, "nothing new");
        let entry = ConsentEntry {
            channel: Channel::Email,
            topic: "news".into(),
            status: ConsentStatus::Subscribed,
            source: "api".into(),
            at: Timestamp(3),
        };
        store.record_consent(first.row, &entry).expect("recorded");
        let export = store.reader().expect("reads").export(first.row).expect("exports").expect("is there");
        assert_eq!(export["email"], "a@x.test", "{export}");
        assert_eq!(export["consent_history"][0]["topic"], "news", "{export}");
        assert!(store.erase(first.row).expect("erases"), "was there");
        assert!(!store.erase(first.row).expect("erases"), "is gone");
        drop(store);
        let store = Store::open(dir.path()).expect("opens again");
        let reader = store.reader().expect("reads");
        assert!(reader.export(first.row).expect("exports").is_none(), "no export");
        assert!(reader.consent_history(first.row).expect("history").is_empty(), "no history");
        assert!(
            reader.rows_of_address(store.address_hash(Channel::Email, "a@x.test")).expect("rows").is_empty(),
            "no address"
        );
        drop(reader);
        let second = store.upsert(&input, Timestamp(4)).expect("upserts");
        assert_eq!(second.row, ContactRow(first.row.0 + 1), "a row of its own");
    }

    use crate::contacts::Upserted;

    #[test]
    fn bad_input_names_the_field_and_changes_nothing() {
        let (_dir, store) = open();
        store.add_attribute("age", AttributeType::Number, None).expect("a new attribute");
        for (json, field) in [
            (json!({"key": ""}), "key"),
            (json!({"key": "a\u{0}b"}), "key"),
            (json!({"key": "a", "email": "nobody"}), "email"),
            (json!({"key": "a", "phone": "0612"}), "phone"),
            (json!({"key": "a", "zone": "Mars"}), "zone"),
            (json!({"key": "a", "attributes": {"age": "old"}}), "attributes.age"),
            (json!({"key": "a", "attributes": {"size": 3}}), "attributes.size"),
            (json!({"key": "a", "attributes": {"email": "x@y.z"}}), "attributes.email"),
        ] {
            match store.upsert(&contact(json.clone()), Timestamp(1)) {
                Err(ContactsError::Input(error)) => assert_eq!(error.field, field, "{json}"),
                other => panic!("{json} must be refused: {other:?}"),
            }
        }
        assert_eq!(store.reader().expect("reads").contacts().expect("count"), 0, "nothing was written");
        assert!(serde_json::from_value::<ContactInput>(json!({"key": "a", "emial": "x"})).is_err(), "unknown field");
        store
            .upsert(&contact(json!({"key": "a", "email": "a@x.test", "attributes": {"age": 4}})), Timestamp(1))
            .expect("upserts");
        let row = ContactRow(0);
        store.patch(row, &contact(json!({"attributes": {"age": 5}})), Timestamp(2)).expect("patches");
        store.patch(row, &contact(json!({"email": null})), Timestamp(3)).expect("patches");
        let reader = store.reader().expect("reads");
        let record = reader.record(row).expect("reads").expect("is there");
        assert_eq!(record.get(store.schema().by_name("age").expect("age").id), Some(Value::Number(5.0)), "kept");
        assert_eq!(
            (record.get(AttributeId::EMAIL), record.get(AttributeId::EMAIL_DOMAIN)),
            (None, None),
            "null removes"
        );
        assert_eq!(record.get(AttributeId::CREATED), Some(Value::Time(Timestamp(1))), "created");
        assert_eq!(record.get(AttributeId::UPDATED), Some(Value::Time(Timestamp(3))), "updated");
    }
}
