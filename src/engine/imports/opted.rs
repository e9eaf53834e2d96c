//! Who of an import's chunk has an address that has said no under another key.
//!
//! An import gives consent to everybody in the file; a person who has opted out is not brought back by a new key for the same
//! mailbox. Owns nothing. Cost: nothing while nobody has opted out of the topics that the import gives, else that of the
//! chunk's shared addresses; rows whose address nobody else has are never looked at.
//!
//! Must not know: how rows were parsed, facts but those it is asked for.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use crate::contacts::csv_import::ChunkDone;
use crate::contacts::one_shot::hashes::hash_of;
use crate::contacts::{ContactsError, Store};
use crate::ids::{AddressHash, Channel};
use crate::ledger::State;
use crate::ledger::facts::Unsuppressed;
use crate::ledger::suppression::SuppressReason;
use crate::ledger::{Fact, RowSet};

/// Contacts of a chunk with another contact of the same address, by the channels that the import gives consent for.
pub(super) struct Shared(Vec<(Channel, Vec<(u32, u32)>)>);

impl Shared {
    /// Looks the chunk's shared addresses up, if anybody in `opted_out` could matter.
    pub(super) fn look(
        store: &Store,
        done: &ChunkDone,
        subscribe: &[(Channel, String)],
        opted_out: impl Fn(Channel, &str) -> bool,
    ) -> Result<Shared, ContactsError> {
        let matter = subscribe.iter().filter(|(channel, topic)| opted_out(*channel, topic));
        let channels: BTreeSet<Channel> = matter.map(|(channel, _)| *channel).collect();
        if channels.is_empty() {
            return Ok(Shared(Vec::new()));
        }
        let reader = store.reader()?;
        let pairs = |channel| Ok((channel, reader.twins(channel, &done.rows)?));
        Ok(Shared(channels.into_iter().map(pairs).collect::<Result<_, ContactsError>>()?))
    }

    /// By topic, the contacts of the chunk whose address has opted out of it under another key, in the state or in this file.
    pub(super) fn opted_out(
        &self,
        state: &State,
        done: &ChunkDone,
        subscribe: &[(Channel, String)],
    ) -> Vec<(Channel, String, RoaringBitmap)> {
        let mut found = Vec::new();
        for (channel, topic) in subscribe {
            let Some((_, pairs)) = self.0.iter().find(|(of, _)| of == channel) else { continue };
            let known = state.consent.topic(*channel, topic).map(|sets| &sets.unsubscribed);
            let said_no = |row: &u32| {
                done.unsubscribed.contains(*row) || known.is_some_and(|unsubscribed| unsubscribed.contains(*row))
            };
            let rows: RoaringBitmap = pairs.iter().filter(|(_, twin)| said_no(twin)).map(|(row, _)| *row).collect();
            if !rows.is_empty() {
                found.push((*channel, topic.clone(), rows));
            }
        }
        found
    }
}

/// Whether an import that gives consent for a topic could bring somebody back.
pub(super) fn matters(state: &State, done: &ChunkDone, channel: Channel, topic: &str) -> bool {
    let known = state.consent.topic(channel, topic).is_some_and(|sets| !sets.unsubscribed.is_empty());
    known || !done.unsubscribed.is_empty()
}

/// What a `resubscribe` import takes back: opt-outs by address of the contacts that it subscribes.
pub(super) fn taken_back(
    store: &Store,
    state: &State,
    done: &ChunkDone,
    subscribe: &[(Channel, String)],
    at: crate::clock::Timestamp,
) -> Result<Vec<Fact>, ContactsError> {
    let channels: BTreeSet<Channel> = subscribe.iter().map(|(channel, _)| *channel).collect();
    let mut facts = Vec::new();
    for channel in channels {
        let entries = state.suppression.address_entries();
        let opted: BTreeSet<AddressHash> = entries
            .filter(|(of, _, entry)| *of == Some(channel) && entry.reason == SuppressReason::Unsubscribed)
            .map(|(_, address, _)| address)
            .collect();
        if opted.is_empty() {
            continue;
        }
        let reader = store.reader()?;
        let addresses: Vec<AddressHash> = opted.into_iter().collect();
        let willing = (reader.rows_of_addresses(&addresses)? & &done.rows) - &done.unsubscribed;
        let mut back = BTreeSet::new();
        reader.records(willing.iter(), |_, record| {
            back.extend(hash_of(store, channel, record));
            true
        })?;
        let addresses: Vec<AddressHash> =
            back.into_iter().filter(|hash| addresses.binary_search(hash).is_ok()).collect();
        if !addresses.is_empty() {
            let (rows, reason) = (RowSet::default(), Some(SuppressReason::Unsubscribed));
            facts.push(Fact::Unsuppressed(Unsuppressed { channel: Some(channel), rows, addresses, at, reason }));
        }
    }
    Ok(facts)
}
