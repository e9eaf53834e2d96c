//! Suppression: who must not be sent to, whatever their consent; by contact row and by salted address hash, on one channel
//! or on all.
//!
//! Invariants: SU-1 an entry by address outlives the contact (erasure keeps it), so it holds for whoever has that address
//! later; SU-2 a bounce is one of an address and never of a contact: a contact with a new address can be sent to, and one who
//! takes the dead address, or takes it back, can't.

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
    /// Too many soft bounces over days.
    SoftBounces = 7,
}

impl SuppressReason {
    pub const ALL: [SuppressReason; 7] = [
        SuppressReason::Manual,
        SuppressReason::HardBounce,
        SuppressReason::Complaint,
        SuppressReason::Unsubscribed,
        SuppressReason::Erased,
        SuppressReason::Imported,
        SuppressReason::SoftBounces,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SuppressReason::Manual => "manual",
            SuppressReason::HardBounce => "hard_bounce",
            SuppressReason::Complaint => "complaint",
            SuppressReason::Unsubscribed => "unsubscribed",
            SuppressReason::Erased => "erased",
            SuppressReason::Imported => "imported",
            SuppressReason::SoftBounces => "soft_bounces",
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
    /// The rows once more, by the day (since the epoch) of their entry; for people and exports, never asked on a send.
    #[serde(default)]
    days: BTreeMap<(Option<Channel>, SuppressReason, i32), RoaringBitmap>,
}

/// An entry by contact, as exports show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowEntry {
    pub channel: Option<Channel>,
    pub reason: SuppressReason,
    /// Day since the epoch.
    pub day: i32,
    pub row: u32,
}

/// An entry by address, as exports show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    pub channel: Option<Channel>,
    pub address: AddressHash,
    pub entry: Entry,
}

const DAY_MILLIS: i64 = 86_400_000;

/// Whether an entry of one scope holds for another: one for everywhere holds on every channel.
fn applies(entry: Option<Channel>, scope: Option<Channel>) -> bool {
    entry.is_none() || entry == scope
}

impl Suppression {
    pub fn add_rows(&mut self, channel: Option<Channel>, reason: SuppressReason, rows: &RoaringBitmap, at: Timestamp) {
        if rows.is_empty() {
            return;
        }
        let present = self.rows.entry((channel, reason)).or_default();
        let new = rows - &*present;
        *present |= rows;
        if !new.is_empty() {
            let day = i32::try_from(at.0.div_euclid(DAY_MILLIS)).unwrap_or(i32::MAX);
            *self.days.entry((channel, reason, day)).or_default() |= new;
        }
    }

    pub fn add_address(&mut self, channel: Option<Channel>, address: AddressHash, entry: Entry) {
        self.addresses.entry((channel, address)).or_insert(entry);
    }

    /// Removes entries of one channel scope, and of one reason unless that is `None`.
    pub fn remove(
        &mut self,
        channel: Option<Channel>,
        reason: Option<SuppressReason>,
        rows: &RoaringBitmap,
        addresses: &[AddressHash],
    ) {
        let meant =
            |scope: &Option<Channel>, r: &SuppressReason| *scope == channel && reason.is_none_or(|only| only == *r);
        self.rows.retain(|(scope, r), set| {
            if meant(scope, r) {
                *set -= rows;
            }
            !set.is_empty()
        });
        self.days.retain(|(scope, r, _), set| {
            if meant(scope, r) {
                *set -= rows;
            }
            !set.is_empty()
        });
        for address in addresses {
            self.addresses.remove(&(channel, *address));
        }
    }

    /// Sets of suppressed rows that apply to a scope, with the reason: for a channel, those everywhere and those on it; for
    /// `None`, those everywhere. A reason may come twice.
    pub fn rows_for(&self, scope: Option<Channel>) -> impl Iterator<Item = (SuppressReason, &RoaringBitmap)> {
        self.rows.iter().filter(move |((of, _), _)| applies(*of, scope)).map(|((_, reason), rows)| (*reason, rows))
    }

    pub fn row_entries(&self) -> impl Iterator<Item = (Option<Channel>, SuppressReason, &RoaringBitmap)> {
        self.rows.iter().map(|((channel, reason), rows)| (*channel, *reason, rows))
    }

    /// Suppressed addresses that apply to a scope, as [`Suppression::rows_for`]. An address may come twice.
    pub fn addresses_for(&self, scope: Option<Channel>) -> impl Iterator<Item = (AddressHash, Entry)> {
        let wanted = self.addresses.iter().filter(move |((of, _), _)| applies(*of, scope));
        wanted.map(|((_, address), entry)| (*address, *entry))
    }

    pub fn address_entries(&self) -> impl Iterator<Item = (Option<Channel>, AddressHash, Entry)> {
        self.addresses.iter().map(|((channel, address), entry)| (*channel, *address, *entry))
    }

    /// Entries by contact from the one after `after`, in the order of [`RowEntry`].
    pub fn rows_after(&self, after: Option<RowEntry>) -> impl Iterator<Item = RowEntry> {
        let first = after.map(|a| (a.channel, a.reason, a.day));
        let sets = match first {
            Some(key) => self.days.range(key..),
            None => self.days.range(..),
        };
        sets.flat_map(move |((channel, reason, day), rows)| {
            let skip = after.filter(|a| (a.channel, a.reason, a.day) == (*channel, *reason, *day));
            let rows = rows.range(skip.map_or(0, |a| a.row.saturating_add(1))..);
            rows.map(move |row| RowEntry { channel: *channel, reason: *reason, day: *day, row })
        })
    }

    /// Entries by address whose channel and hash come after `after`, in that order.
    pub fn addresses_after(&self, after: Option<(Option<Channel>, AddressHash)>) -> impl Iterator<Item = AddressEntry> {
        use std::ops::Bound::{Excluded, Unbounded};
        let found = self.addresses.range((after.map_or(Unbounded, Excluded), Unbounded));
        found.map(|((channel, address), entry)| AddressEntry { channel: *channel, address: *address, entry: *entry })
    }

    pub fn row_entry(&self, channel: Option<Channel>, reason: SuppressReason, row: u32) -> bool {
        self.rows.get(&(channel, reason)).is_some_and(|rows| rows.contains(row))
    }

    pub fn address_entry(&self, channel: Option<Channel>, address: AddressHash) -> Option<Entry> {
        self.addresses.get(&(channel, address)).copied()
    }

    pub fn address_count(&self) -> usize {
        self.addresses.len()
    }

    pub fn is_row_suppressed(&self, channel: Channel, row: u32) -> Option<SuppressReason> {
        self.rows_for(Some(channel)).find(|(_, rows)| rows.contains(row)).map(|(reason, _)| reason)
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
        self.days.retain(|_, set| {
            *set -= rows;
            !set.is_empty()
        });
    }
}
