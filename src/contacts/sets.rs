//! What the indices answer: sets of rows by attribute, value and binary digit. Segments evaluate over this view; the
//! store implements it over a read transaction and the cache of decoded bitmaps, tests over plain vectors.
//!
//! Invariants: ST-1 every set is a subset of `universe`; ST-2 a row is in the `present` set of an attribute exactly if its
//! record has a value for it, whatever the index kind; ST-3 digits follow [`number_digits`] and [`time_digits`], whose
//! order as unsigned integers is the order of the values.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::contacts::ContactsError;
use crate::contacts::record::Record;
use crate::ids::{AttributeId, Channel};

pub trait AttributeSets {
    /// All contacts that exist (active or not).
    fn universe(&self) -> Result<Arc<RoaringBitmap>, ContactsError>;
    /// Contacts with a value for the attribute.
    fn present(&self, attribute: AttributeId) -> Result<Arc<RoaringBitmap>, ContactsError>;
    /// Values index: contacts whose text equals `value`, whose boolean is `"true"`/`"false"`, or whose list has it.
    fn value(&self, attribute: AttributeId, value: &str) -> Result<Arc<RoaringBitmap>, ContactsError>;
    /// Values index: the distinct values, in byte order, that begin with `prefix`; the visitor answers whether it wants
    /// the rows of that value added to the returned union.
    fn union_where(
        &self,
        attribute: AttributeId,
        prefix: &str,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, ContactsError>;
    /// Bit-sliced index: contacts whose value has binary digit `digit` (63 = most significant) set.
    fn digit(&self, attribute: AttributeId, digit: u8) -> Result<Arc<RoaringBitmap>, ContactsError>;
    /// Reads the records of `rows`, in row order; for attributes without an index.
    fn scan(&self, rows: &RoaringBitmap, visit: &mut dyn FnMut(u32, Record<'_>)) -> Result<(), ContactsError>;
    /// Contacts with an address on the channel.
    fn reachable(&self, channel: Channel) -> Result<Arc<RoaringBitmap>, ContactsError> {
        self.present(channel.address_attribute())
    }
}

/// A number as 64 binary digits whose unsigned order is the order of numbers. `-0.0` equals `0.0`; NaN never enters a
/// store.
pub fn number_digits(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

/// A date-time as 64 binary digits whose unsigned order is the order of time.
pub fn time_digits(time: Timestamp) -> u64 {
    (time.0 as u64) ^ (1 << 63)
}
