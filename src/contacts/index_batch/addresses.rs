//! The address part of a batch: rows by address hash, and per channel the rows that share an address.
//!
//! Invariant: IA-1 after `apply_addresses` a row is in its channel's shared set exactly if one of its addresses there is
//! another row's too.

use heed::RwTxn;

use crate::contacts::addresses::address_hash;
use crate::contacts::index_batch::IndexBatch;
use crate::contacts::record::{Record, Value};
use crate::contacts::store::Databases;
use crate::contacts::{ContactsError, StoreResult, index_keys};
use crate::ids::Channel;

impl IndexBatch {
    pub(super) fn apply_addresses(&mut self, txn: &mut RwTxn<'_>, dbs: &Databases) -> Result<(), ContactsError> {
        let mut changes = std::mem::take(&mut self.addresses);
        changes.sort_unstable();
        let mut shared: Vec<(Channel, u32)> = Vec::new();
        let mut doubtful: Vec<(Channel, u32)> = Vec::new();
        let mut rows: Vec<u8> = Vec::new();
        for change in &changes {
            let row = change.row.to_le_bytes();
            if change.add {
                let present = dbs.addresses.get_or_put(txn, &change.hash.0, &row).or_store("write addresses")?;
                let Some(present) = present else { continue };
                if present.chunks_exact(4).any(|r| r == row) {
                    continue;
                }
                rows.clear();
                rows.extend_from_slice(present);
                if rows.len() == 4 {
                    shared.push((change.channel, row_at(&rows)));
                }
                shared.push((change.channel, change.row));
                rows.extend_from_slice(&row);
                dbs.addresses.put(txn, &change.hash.0, &rows).or_store("write addresses")?;
            } else {
                let Some(present) = dbs.addresses.get(txn, &change.hash.0).or_store("read addresses")? else {
                    continue;
                };
                let before = present.len();
                rows.clear();
                present.chunks_exact(4).filter(|r| *r != row).for_each(|r| rows.extend_from_slice(r));
                if rows.is_empty() {
                    dbs.addresses.delete(txn, &change.hash.0).or_store("write addresses")?;
                } else {
                    dbs.addresses.put(txn, &change.hash.0, &rows).or_store("write addresses")?;
                }
                if before > 4 {
                    doubtful.push((change.channel, change.row));
                    if rows.len() == 4 {
                        doubtful.push((change.channel, row_at(&rows)));
                    }
                }
            }
        }
        changes.clear();
        self.addresses = changes;
        self.apply_shared(txn, dbs, shared, doubtful)
    }

    fn apply_shared(
        &mut self,
        txn: &mut RwTxn<'_>,
        dbs: &Databases,
        mut shared: Vec<(Channel, u32)>,
        doubtful: Vec<(Channel, u32)>,
    ) -> Result<(), ContactsError> {
        let mut alone = Vec::new();
        for (channel, row) in doubtful {
            if self.shares(txn, dbs, channel, row)? { shared.push((channel, row)) } else { alone.push((channel, row)) }
        }
        shared.sort_unstable();
        shared.dedup();
        alone.sort_unstable();
        // A row that came to share an address in this batch and lost another is shared.
        alone.retain(|a| shared.binary_search(a).is_err());
        let mut key = std::mem::take(&mut self.key);
        for channel in Channel::ALL {
            let of =
                |list: &[(Channel, u32)]| list.iter().filter(|s| s.0 == channel).map(|s| s.1).collect::<Vec<u32>>();
            let (add, remove) = (of(&shared), of(&alone));
            if add.is_empty() && remove.is_empty() {
                continue;
            }
            index_keys::shared(channel, &mut key);
            self.apply_set(txn, dbs, &mut key, &add, &remove, None)?;
            let version = txn.id() as u64;
            dbs.versions.put(txn, &[channel as u8], &version.to_le_bytes()).or_store("write a version")?;
        }
        self.key = key;
        Ok(())
    }

    /// Whether any address of the row on the channel is another row's too, as written now.
    fn shares(&self, txn: &RwTxn<'_>, dbs: &Databases, channel: Channel, row: u32) -> Result<bool, ContactsError> {
        let Some(bytes) = dbs.records.get(txn, &row.to_be_bytes()).or_store("read a record")? else {
            return Ok(false);
        };
        let record = Record::parse(bytes).map_err(|_| ContactsError::DamagedRecord { row })?;
        let is_shared = |text: &str| -> Result<bool, ContactsError> {
            let hash = address_hash(&self.salt, channel, text);
            let rows = dbs.addresses.get(txn, &hash.0).or_store("read addresses")?;
            Ok(rows.is_some_and(|r| r.len() > 4))
        };
        match record.get(channel.address_attribute()) {
            Some(Value::Text(text)) => is_shared(text),
            Some(Value::List(list)) => {
                for text in list.iter() {
                    if is_shared(text)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}

fn row_at(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}
