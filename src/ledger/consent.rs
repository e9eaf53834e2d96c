//! Live consent: who is subscribed, and who has opted out, per channel and topic.
//!
//! Invariant: CS-1 no row is in both sets of a topic. The history per contact is a projection kept by the store.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

pub use crate::contacts::ConsentStatus;
use crate::ids::Channel;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicConsent {
    pub subscribed: RoaringBitmap,
    pub unsubscribed: RoaringBitmap,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Consent {
    topics: BTreeMap<(Channel, String), TopicConsent>,
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

    /// Subscribes rows that have not opted out; those who have only with `resubscribe`.
    pub fn subscribe_imported(&mut self, channel: Channel, topic: &str, rows: &RoaringBitmap, resubscribe: bool) {
        let sets = self.topics.entry((channel, topic.to_owned())).or_default();
        if resubscribe {
            sets.unsubscribed -= rows;
            sets.subscribed |= rows;
        } else {
            sets.subscribed |= rows - &sets.unsubscribed;
        }
    }

    pub fn erase(&mut self, rows: &RoaringBitmap) {
        for sets in self.topics.values_mut() {
            sets.subscribed -= rows;
            sets.unsubscribed -= rows;
        }
    }
}
