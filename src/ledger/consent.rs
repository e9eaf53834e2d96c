//! Live consent: who is subscribed, and who has opted out, per channel and topic.
//!
//! Invariant: CS-1 no row is in both sets of a topic. The history per contact is a projection kept by the store; of an
//! import's last chunk what it has to say is kept here, until it is there.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
pub use crate::contacts::ConsentStatus;
use crate::ids::{Channel, ImportId};
use crate::ledger::facts::ImportChunk;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicConsent {
    pub subscribed: RoaringBitmap,
    pub unsubscribed: RoaringBitmap,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Consent {
    topics: BTreeMap<(Channel, String), TopicConsent>,
    #[serde(default)]
    imported: Option<Imported>,
}

/// What the last chunk of an import changed. A crash may come between a chunk's fact and the histories of its contacts; then
/// the chunk is given again, changes nothing any more, and this still says what it had changed. Imports run one at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    pub import: ImportId,
    pub chunk: u32,
    pub at: Timestamp,
    pub changes: Vec<ImportedChange>,
}

/// Rows whose status of one topic a chunk changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportedChange {
    pub channel: Channel,
    pub topic: String,
    pub subscribed: RoaringBitmap,
    pub unsubscribed: RoaringBitmap,
}

impl Consent {
    pub fn topic(&self, channel: Channel, topic: &str) -> Option<&TopicConsent> {
        self.topics.get(&(channel, topic.to_owned()))
    }

    pub fn topics(&self) -> impl Iterator<Item = (Channel, &str, &TopicConsent)> {
        self.topics.iter().map(|((channel, topic), sets)| (*channel, topic.as_str(), sets))
    }

    pub fn status(&self, channel: Channel, topic: &str, row: u32) -> ConsentStatus {
        match self.topic(channel, topic) {
            Some(sets) if sets.subscribed.contains(row) => ConsentStatus::Subscribed,
            Some(sets) if sets.unsubscribed.contains(row) => ConsentStatus::Unsubscribed,
            _ => ConsentStatus::None,
        }
    }

    pub fn set(&mut self, channel: Channel, topic: &str, status: ConsentStatus, rows: &RoaringBitmap) {
        let sets = self.topics.entry((channel, topic.to_owned())).or_default();
        sets.subscribed -= rows;
        sets.unsubscribed -= rows;
        match status {
            ConsentStatus::Subscribed => sets.subscribed |= rows,
            ConsentStatus::Unsubscribed => sets.unsubscribed |= rows,
            ConsentStatus::None => {}
        }
    }

    /// Takes in what a chunk of an import says of `rows`, of which `unsubscribed` are opt-outs: the others are subscribed,
    /// those who have opted out, themselves or under another key with their address, only with `resubscribe`. What it changed is kept until the next chunk of any import.
    pub fn import(&mut self, chunk: &ImportChunk, rows: &RoaringBitmap, unsubscribed: &RoaringBitmap) {
        let mut changes = Vec::with_capacity(chunk.subscribe.len());
        for (channel, topic) in &chunk.subscribe {
            let sets = self.topics.entry((*channel, topic.clone())).or_default();
            let mut willing = rows - unsubscribed;
            if !chunk.resubscribe {
                willing -= &sets.unsubscribed;
            }
            let elsewhere = chunk.opted_out.iter().find(|(of, name, _)| of == channel && name == topic);
            let elsewhere =
                elsewhere.map_or_else(RoaringBitmap::new, |(_, _, opted)| (opted & rows) - &sets.subscribed);
            willing -= &elsewhere;
            let unsubscribed = &(unsubscribed | elsewhere);
            let change = ImportedChange {
                channel: *channel,
                topic: topic.clone(),
                subscribed: &willing - &sets.subscribed,
                unsubscribed: unsubscribed - &sets.unsubscribed,
            };
            sets.subscribed |= &willing;
            sets.subscribed -= unsubscribed;
            sets.unsubscribed -= &willing;
            sets.unsubscribed |= unsubscribed;
            changes.push(change);
        }
        self.imported = Some(Imported { import: chunk.import, chunk: chunk.chunk, at: chunk.at, changes });
    }

    /// What a chunk changed, if it is the last one that was taken in.
    pub fn imported(&self, import: ImportId, chunk: Option<u32>) -> Option<&Imported> {
        self.imported.as_ref().filter(|last| last.import == import && chunk.is_none_or(|chunk| last.chunk == chunk))
    }

    pub fn erase(&mut self, rows: &RoaringBitmap) {
        for sets in self.topics.values_mut() {
            sets.subscribed -= rows;
            sets.unsubscribed -= rows;
        }
        for change in self.imported.iter_mut().flat_map(|last| &mut last.changes) {
            change.subscribed -= rows;
            change.unsubscribed -= rows;
        }
    }
}
