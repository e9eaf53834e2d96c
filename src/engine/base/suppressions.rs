//! Suppressions by contact and by address: added, removed, listed.
//!
//! An address is hashed on entry and never kept. An entry's number is made of the entry itself, so that it needs no place
//! in the ledger: kind, scope and reason, and the row, or the first 49 bits of the hash. It fits 53 bits, which JSON's
//! numbers hold exactly.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use crate::actors::book::CommitError;
use crate::clock::Timestamp;
use crate::contacts::{Reader, addresses};
use crate::engine::Engine;
use crate::engine::base::contacts::day;
use crate::engine::base::{BaseError, SuppressionFault};
use crate::ids::{AddressHash, Channel, ContactRow};
use crate::journal::Want;
use crate::ledger::facts::{Suppressed, Unsuppressed};
use crate::ledger::suppression::{RowEntry, SuppressReason};
use crate::ledger::{Fact, RowSet, State};

/// Who is to be suppressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// By key.
    Contact(String),
    /// As people write it.
    Address(String),
    /// From an export of this data directory.
    Hash(AddressHash),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionWish {
    pub subject: Subject,
    /// `None`: all channels. An address text needs one, as its hash depends on it.
    pub channel: Option<Channel>,
    pub reason: SuppressReason,
}

/// One entry, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionEntry {
    pub number: u64,
    pub channel: Option<Channel>,
    pub reason: SuppressReason,
    /// Key of the contact; of an entry by address, of the first one that has the address now.
    pub contact: Option<String>,
    pub address: Option<AddressHash>,
    /// Of an entry by contact: the day.
    pub at: Timestamp,
    pub id: SuppressionId,
}

/// An entry's place in the order of all entries: those by contact first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressionId {
    Row(RowEntry),
    Address(Option<Channel>, AddressHash),
}

const ADDRESS_BIT: u64 = 1 << 52;
const SCOPE_SHIFT: u32 = 49;
const HASH_MASK: u64 = (1 << SCOPE_SHIFT) - 1;
const REASON_SHIFT: u32 = 32;

fn scope_number(channel: Option<Channel>) -> u64 {
    channel.map_or(0, |c| c as u64)
}

fn hash_bits(address: AddressHash) -> u64 {
    let head = address.0.first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b));
    head >> (64 - SCOPE_SHIFT)
}

/// The number of an entry.
pub fn entry_id(id: SuppressionId) -> u64 {
    match id {
        SuppressionId::Row(entry) => {
            (scope_number(entry.channel) << SCOPE_SHIFT)
                | ((entry.reason as u64) << REASON_SHIFT)
                | u64::from(entry.row)
        }
        SuppressionId::Address(channel, address) => {
            ADDRESS_BIT | (scope_number(channel) << SCOPE_SHIFT) | hash_bits(address)
        }
    }
}

fn scope_of(number: u64) -> Option<Option<Channel>> {
    match (number >> SCOPE_SHIFT) & 7 {
        0 => Some(None),
        n => Channel::ALL.into_iter().find(|c| *c as u64 == n).map(Some),
    }
}

/// What a list of wishes comes to: one fact a scope and reason.
#[derive(Default)]
struct Gathered {
    parts: Vec<(Option<Channel>, SuppressReason, RoaringBitmap, BTreeSet<AddressHash>)>,
}

impl Gathered {
    fn part(
        &mut self,
        wish: &SuppressionWish,
    ) -> &mut (Option<Channel>, SuppressReason, RoaringBitmap, BTreeSet<AddressHash>) {
        let found = self.parts.iter().position(|p| (p.0, p.1) == (wish.channel, wish.reason));
        let at = found.unwrap_or_else(|| {
            self.parts.push((wish.channel, wish.reason, RoaringBitmap::new(), BTreeSet::new()));
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    fn add(&mut self, reader: &Reader, wish: &SuppressionWish) -> Result<(), Result<SuppressionFault, BaseError>> {
        match &wish.subject {
            Subject::Contact(key) => {
                let row = reader.row_of_key(key.trim()).map_err(|e| Err(e.into()))?;
                let row = row.ok_or_else(|| Ok(SuppressionFault::NoContact { key: key.clone() }))?;
                self.part(wish).2.insert(row.0);
            }
            Subject::Address(text) => {
                let channel = wish.channel.ok_or(Ok(SuppressionFault::NoChannel))?;
                let address =
                    addresses::normalise_address(channel, text, None).map_err(|e| Ok(SuppressionFault::Address(e)))?;
                let hash = reader.store().address_hash(channel, &address);
                self.part(wish).3.insert(hash);
            }
            Subject::Hash(hash) => {
                self.part(wish).3.insert(*hash);
            }
        }
        Ok(())
    }

    /// Takes away what the state has already.
    fn drop_present(&mut self, state: &State) {
        for (channel, reason, rows, addresses) in &mut self.parts {
            let known: RoaringBitmap =
                rows.iter().filter(|row| state.suppression.row_entry(*channel, *reason, *row)).collect();
            *rows -= known;
            addresses.retain(|address| state.suppression.address_entry(*channel, *address).is_none());
        }
    }
}

impl Engine {
    /// Adds suppressions: all of them, or none if one of them is not valid. Answers how many are new, and how many were
    /// there already. In force and durable when it returns.
    pub fn suppress(&self, wishes: &[SuppressionWish]) -> Result<(u64, u64), BaseError> {
        let reader = self.store.reader()?;
        let mut gathered = Gathered::default();
        for (index, wish) in wishes.iter().enumerate() {
            gathered.add(&reader, wish).map_err(|fault| match fault {
                Ok(reason) => BaseError::BadSuppression { index, reason },
                Err(error) => error,
            })?;
        }
        drop(reader);
        gathered.drop_present(&self.book.read());
        let at = self.book.now();
        let mut added = 0;
        for (channel, reason, rows, addresses) in gathered.parts {
            added += rows.len() + addresses.len() as u64;
            if rows.is_empty() && addresses.is_empty() {
                continue;
            }
            let (rows, addresses) = (RowSet::base(rows), addresses.into_iter().collect());
            self.book.commit(&Fact::Suppressed(Suppressed { channel, reason, rows, addresses, at }), Want::idle())?;
        }
        if added > 0 {
            self.book.journal().flush().map_err(CommitError::from)?;
        }
        Ok((added, (wishes.len() as u64).saturating_sub(added)))
    }

    /// Removes the entry with a number.
    pub fn unsuppress(&self, number: u64) -> Result<(), BaseError> {
        let gone = || BaseError::NoSuppression { id: number };
        let channel = scope_of(number).filter(|_| number < ADDRESS_BIT << 1).ok_or_else(gone)?;
        let at = self.book.now();
        self.book.commit_durable_by::<BaseError>(|state| {
            let mut fact = Unsuppressed { channel, rows: RowSet::default(), addresses: Vec::new(), at, reason: None };
            if number & ADDRESS_BIT == 0 {
                let row = u32::try_from(number & u64::from(u32::MAX)).map_err(|_| gone())?;
                let reason = (number & HASH_MASK) >> REASON_SHIFT;
                let reason = SuppressReason::ALL.into_iter().find(|r| *r as u64 == reason).ok_or_else(gone)?;
                if !state.suppression.row_entry(channel, reason, row) {
                    return Err(gone());
                }
                fact.rows = RowSet::base(RoaringBitmap::from_iter([row]));
                fact.reason = Some(reason);
            } else {
                let found = with_bits(state, channel, number & HASH_MASK);
                match found.as_slice() {
                    [] => return Err(gone()),
                    [address] => fact.addresses = vec![*address],
                    _ => return Err(BaseError::AmbiguousSuppression { id: number }),
                }
            }
            Ok(Some(Fact::Unsuppressed(fact)))
        })?;
        Ok(())
    }

    /// Up to `limit` entries after `after`, those by contact first; `wanted` answers which scopes and reasons.
    pub fn suppressions(
        &self,
        after: Option<SuppressionId>,
        limit: usize,
        wanted: impl Fn(Option<Channel>, SuppressReason) -> bool,
    ) -> Result<Vec<SuppressionEntry>, BaseError> {
        let reader = self.store.reader()?;
        let mut found: Vec<(SuppressionId, SuppressReason, Timestamp)> = Vec::new();
        {
            let state = self.book.read();
            let rows_after = match after {
                None => Some(None),
                Some(SuppressionId::Row(entry)) => Some(Some(entry)),
                Some(SuppressionId::Address(..)) => None,
            };
            if let Some(after) = rows_after {
                let rows = state.suppression.rows_after(after).filter(|e| wanted(e.channel, e.reason));
                found.extend(rows.take(limit).map(|e| (SuppressionId::Row(e), e.reason, day(e.day))));
            }
            let after = match after {
                Some(SuppressionId::Address(channel, address)) => Some((channel, address)),
                _ => None,
            };
            let addresses = state.suppression.addresses_after(after).filter(|e| wanted(e.channel, e.entry.reason));
            let rest = addresses.take(limit - found.len());
            found.extend(rest.map(|e| (SuppressionId::Address(e.channel, e.address), e.entry.reason, e.entry.at)));
        }
        let mut entries = Vec::with_capacity(found.len());
        for (id, reason, at) in found {
            let (channel, contact, address) = match id {
                SuppressionId::Row(entry) => {
                    let record = reader.record(ContactRow(entry.row))?;
                    (entry.channel, record.map(|r| r.key().to_owned()), None)
                }
                SuppressionId::Address(channel, address) => {
                    let first = reader.rows_of_address(address)?.into_iter().next();
                    let record = first.map(|row| reader.record(row)).transpose()?.flatten();
                    (channel, record.map(|r| r.key().to_owned()), Some(address))
                }
            };
            entries.push(SuppressionEntry { number: entry_id(id), channel, reason, contact, address, at, id });
        }
        Ok(entries)
    }
}

/// Suppressed addresses of a scope whose hash begins with these bits.
fn with_bits(state: &State, channel: Option<Channel>, bits: u64) -> Vec<AddressHash> {
    let mut first = [0u8; 16];
    first[..8].copy_from_slice(&(bits << (64 - SCOPE_SHIFT)).to_be_bytes());
    let first = AddressHash(first);
    let exact = state.suppression.address_entry(channel, first).map(|_| first);
    let others = state.suppression.addresses_after(Some((channel, first))).map(|e| (e.channel, e.address));
    let others = others.take_while(|(c, a)| *c == channel && hash_bits(*a) == bits).map(|(_, a)| a);
    exact.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_a_json_number_and_tell_entries_apart() {
        let row = |channel, reason, row| entry_id(SuppressionId::Row(RowEntry { channel, reason, day: 7, row }));
        let address = |channel, byte| entry_id(SuppressionId::Address(channel, AddressHash([byte; 16])));
        let mut numbers = vec![address(None, 0), address(None, 255), address(Some(Channel::Webhook), 255)];
        for reason in SuppressReason::ALL {
            numbers.push(row(None, reason, 0));
            numbers.push(row(Some(Channel::Webhook), reason, u32::MAX));
        }
        assert!(numbers.iter().all(|n| *n < 1 << 53), "{numbers:?} fit 53 bits");
        let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), numbers.len(), "no two entries share a number");
        assert_eq!(scope_of(address(Some(Channel::Sms), 3)), Some(Some(Channel::Sms)), "the scope reads back");
        assert_eq!(scope_of(row(None, SuppressReason::Manual, 3)), Some(None), "all channels read back");
    }
}
