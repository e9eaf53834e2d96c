//! Suppression: who must not be sent to, whatever their consent; by contact row and by salted address hash, on one channel
//! or on all.
//!
//! Invariant: SU-1 an entry by address outlives the contact (erasure keeps it), so it holds for whoever has that address
//! later.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{AddressHash, Channel};

/// Why an entry was made. The number is part of on-disk formats and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SuppressReason {
    Manual = 1,
    HardBounce = 2,
    Complaint = 3,
    Unsubscribed = 4,
    Erased = 5,
    Imported = 6,
}

impl SuppressReason {
    pub const ALL: [SuppressReason; 6] = [
        SuppressReason::Manual,
        SuppressReason::HardBounce,
        SuppressReason::Complaint,
        SuppressReason::Unsubscribed,
        SuppressReason::Erased,
        SuppressReason::Imported,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SuppressReason::Manual => "manual",
            SuppressReason::HardBounce => "hard_bounce",
            SuppressReason::Complaint => "complaint",
            SuppressReason::Unsubscribed => "unsubscribed",
            SuppressReason::Erased => "erased",
            SuppressReason::Imported => "imported",
        }
    }

    pub fn from_name(name: &str) -> Option<SuppressReason> {
        SuppressReason::ALL.into_iter().find(|r| r.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub reason: SuppressReason,
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Suppression {
    rows: BTreeMap<(Option<Channel>, SuppressReason), RoaringBitmap>,
    addresses: BTreeMap<(Option<Channel>, AddressHash), Entry>,
}

impl Suppression {
    pub fn add_rows(&mut self, channel: Option<Channel>, reason: SuppressReason, rows: &RoaringBitmap) {
        if !rows.is_empty() {
            *self.rows.entry((channel, reason)).or_default() |= rows;
        }
    }

    pub fn add_address(&mut self, channel: Option<Channel>, address: AddressHash, entry: Entry) {
        self.addresses.entry((channel, address)).or_insert(entry);
    }

    pub fn remove(&mut self, channel: Option<Channel>, rows: &RoaringBitmap, addresses: &[AddressHash]) {
        self.rows.retain(|(scope, _), set| {
            if *scope == channel {
                *set -= rows;
            }
            !set.is_empty()
        });
        for address in addresses {
            self.addresses.remove(&(channel, *address));
        }
    }

    /// Sets of suppressed rows that apply to a channel, with the reason.
    pub fn rows_for(&self, channel: Channel) -> impl Iterator<Item = (SuppressReason, &RoaringBitmap)> {
        let applies = move |scope: &Option<Channel>| scope.is_none_or(|c| c == channel);
        self.rows.iter().filter(move |((scope, _), _)| applies(scope)).map(|((_, reason), rows)| (*reason, rows))
    }

    pub fn row_entries(&self) -> impl Iterator<Item = (Option<Channel>, SuppressReason, &RoaringBitmap)> {
        self.rows.iter().map(|((channel, reason), rows)| (*channel, *reason, rows))
    }

    /// Suppressed addresses that apply to a channel.
    pub fn addresses_for(&self, channel: Channel) -> impl Iterator<Item = (AddressHash, Entry)> {
        let applies = move |scope: &Option<Channel>| scope.is_none_or(|c| c == channel);
        let wanted = self.addresses.iter().filter(move |((scope, _), _)| applies(scope));
        wanted.map(|((_, address), entry)| (*address, *entry))
    }

    pub fn address_entries(&self) -> impl Iterator<Item = (Option<Channel>, AddressHash, Entry)> {
        self.addresses.iter().map(|((channel, address), entry)| (*channel, *address, *entry))
    }

    pub fn address_count(&self) -> usize {
        self.addresses.len()
    }

    pub fn is_row_suppressed(&self, channel: Channel, row: u32) -> Option<SuppressReason> {
        self.rows_for(channel).find(|(_, rows)| rows.contains(row)).map(|(reason, _)| reason)
    }

    pub fn is_address_suppressed(&self, channel: Channel, address: AddressHash) -> Option<SuppressReason> {
        let own = self.addresses.get(&(Some(channel), address));
        own.or_else(|| self.addresses.get(&(None, address))).map(|entry| entry.reason)
    }

    /// Forgets the rows of erased contacts; entries by address stay.
    pub fn erase(&mut self, rows: &RoaringBitmap) {
        self.rows.retain(|_, set| {
            *set -= rows;
            !set.is_empty()
        });
    }
}
