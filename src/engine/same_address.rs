//! Contacts of the base with the same normalised address: who is kept of several, and who comes after another.
//!
//! Owns nothing. Looks only at records of contacts whose address another one has too, so that its cost is that of the
//! duplicates and not that of the audience.

use roaring::RoaringBitmap;

use crate::campaigns::SameAddress;
use crate::clock::Timestamp;
use crate::contacts::{ContactsError, Reader, Store, Value};
use crate::engine::EngineError;
use crate::flow::nodes::condition::{Keep, SameBy, Unique};
use crate::ids::{AddressHash, AttributeId, Channel, ContactRow};
use crate::segments::audience;

/// Rows to leave out so that every address is there once.
pub fn duplicates(
    reader: &Reader,
    channel: Channel,
    rows: &RoaringBitmap,
    order: SameAddress,
) -> Result<RoaringBitmap, ContactsError> {
    let shared = reader.shared(channel)?;
    audience::duplicates(rows, &shared, |row| key_of(reader, channel, row), order, |row| created_of(reader, row))
}

/// Rows that go on as the only one of their address; those without an address do. `kept` went on before, and count.
pub fn unique(
    store: &Store,
    unique: &Unique,
    rows: &RoaringBitmap,
    kept: &RoaringBitmap,
) -> Result<RoaringBitmap, EngineError> {
    let channel = match unique.by {
        SameBy::Email => Channel::Email,
        SameBy::Phone => Channel::Sms,
    };
    let order = match unique.keep {
        Keep::Newest => SameAddress::Newest,
        Keep::Oldest => SameAddress::Oldest,
    };
    let reader = store.reader()?;
    let mut left = rows - behind(&reader, channel, rows, kept)?;
    left -= duplicates(&reader, channel, &left, order)?;
    Ok(left)
}

/// Rows whose address one of `before` has, who is another contact. Costs what the shared addresses among the rows cost.
pub fn behind(
    reader: &Reader,
    channel: Channel,
    rows: &RoaringBitmap,
    before: &RoaringBitmap,
) -> Result<RoaringBitmap, ContactsError> {
    let shared = reader.shared(channel)?;
    let mut found = RoaringBitmap::new();
    if before.is_disjoint(&shared) {
        return Ok(found);
    }
    for row in rows & &*shared {
        let Some(address) = key_of(reader, channel, row)? else { continue };
        let same = reader.rows_of_address(address)?;
        if same.iter().any(|other| other.0 != row && before.contains(other.0)) {
            found.insert(row);
        }
    }
    Ok(found)
}

fn key_of(reader: &Reader, channel: Channel, row: u32) -> Result<Option<AddressHash>, ContactsError> {
    let record = reader.record(ContactRow(row))?;
    let address = record.and_then(|r| r.address(channel));
    Ok(address.map(|a| reader.store().address_hash(channel, a)))
}

fn created_of(reader: &Reader, row: u32) -> Result<Timestamp, ContactsError> {
    let record = reader.record(ContactRow(row))?;
    let created = record.and_then(|r| match r.get(AttributeId::CREATED) {
        Some(Value::Time(time)) => Some(time),
        _ => None,
    });
    Ok(created.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testbase::TestBase;

    fn set(rows: &[ContactRow]) -> RoaringBitmap {
        rows.iter().map(|row| row.0).collect()
    }

    #[test]
    fn one_contact_per_address_goes_on_and_who_went_before_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let base = TestBase::open(root.path());
        let a = base.contact("a", "one@x.test");
        let b = base.contact("b", "One@x.test ");
        let c = base.contact("c", "one@X.test");
        let d = base.contact("d", "other@x.test");
        let all = set(&[a, b, c, d]);
        let newest = Unique { by: SameBy::Email, keep: Keep::Newest };
        let oldest = Unique { keep: Keep::Oldest, ..newest };
        let none = RoaringBitmap::new();
        assert_eq!(unique(&base.store, &newest, &all, &none).expect("found"), set(&[c, d]), "the newest is kept");
        assert_eq!(unique(&base.store, &oldest, &all, &none).expect("found"), set(&[a, d]), "the oldest is kept");
        let later = set(&[b, c, d]);
        let found = unique(&base.store, &newest, &later, &set(&[a])).expect("found");
        assert_eq!(found, set(&[d]), "who went on before is never taken back");
        let twins = base.store.reader().expect("a reader").twins(Channel::Email, &set(&[b, d])).expect("found");
        assert_eq!(twins, [(b.0, a.0), (b.0, c.0)], "whoever else reads the mailbox");
        let by_phone = Unique { by: SameBy::Phone, ..newest };
        assert_eq!(unique(&base.store, &by_phone, &all, &none).expect("found"), all, "nobody has a phone");
    }
}
