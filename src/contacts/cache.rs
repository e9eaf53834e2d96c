//! The cache of decoded index bitmaps, shared by all readers of a store.
//!
//! Owns the decoded bitmaps and their order of use. Invariants: CA-1 an entry is served only to a reader whose snapshot
//! has the same *version* of the set's owner (the id of the last write transaction that changed any of its sets, which
//! the snapshot itself names), so a reader never sees another snapshot's rows; CA-2 at most `limits::INDEX_CACHE_BYTES`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::ids::AttributeId;
use crate::limits;

/// Names one set of the index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SetName {
    Present(AttributeId),
    Digit(AttributeId, u8),
    Value(AttributeId, String),
    /// By the channel's number.
    Shared(u8),
}

struct Entry {
    version: u64,
    rows: Arc<RoaringBitmap>,
    bytes: usize,
    used: u64,
}

#[derive(Default)]
pub(crate) struct BitmapCache {
    entries: HashMap<SetName, Entry, foldhash::fast::RandomState>,
    by_use: BTreeMap<u64, SetName>,
    bytes: usize,
    clock: u64,
}

/// What a decoded entry costs beside its rows: map entries, the name, the bitmap's own structs.
const ENTRY_BYTES: usize = 256;

impl BitmapCache {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&mut self, name: &SetName, version: u64) -> Option<Arc<RoaringBitmap>> {
        let entry = self.entries.get_mut(name)?;
        if entry.version != version {
            return None;
        }
        self.by_use.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.by_use.insert(self.clock, name.clone());
        Some(Arc::clone(&entry.rows))
    }

    pub(crate) fn put(&mut self, name: SetName, version: u64, rows: &Arc<RoaringBitmap>) {
        let bytes = rows.serialized_size() + ENTRY_BYTES;
        // A single set that would fill most of the cache would only push everything else out.
        if bytes > limits::INDEX_CACHE_BYTES / 2 || self.entries.get(&name).is_some_and(|e| e.version > version) {
            return;
        }
        self.clock += 1;
        let entry = Entry { version, rows: Arc::clone(rows), bytes, used: self.clock };
        self.by_use.insert(self.clock, name.clone());
        self.bytes += bytes;
        if let Some(old) = self.entries.insert(name, entry) {
            self.by_use.remove(&old.used);
            self.bytes -= old.bytes;
        }
        while self.bytes > limits::INDEX_CACHE_BYTES {
            let Some((_, name)) = self.by_use.pop_first() else {
                break;
            };
            if let Some(old) = self.entries.remove(&name) {
                self.bytes -= old.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_served_to_its_own_version_only() {
        let mut cache = BitmapCache::default();
        let rows = Arc::new(RoaringBitmap::from_iter([1, 2]));
        cache.put(SetName::Digit(AttributeId(6), 3), 7, &rows);
        assert_eq!(cache.get(&SetName::Digit(AttributeId(6), 3), 7), Some(Arc::clone(&rows)), "same version");
        assert_eq!(cache.get(&SetName::Digit(AttributeId(6), 3), 8), None, "newer snapshot");
        cache.put(SetName::Digit(AttributeId(6), 3), 6, &Arc::default());
        assert_eq!(cache.get(&SetName::Digit(AttributeId(6), 3), 7), Some(rows), "an older reader replaces nothing");
    }

    #[test]
    fn the_cache_stays_within_its_bytes_and_drops_the_least_used() {
        let mut cache = BitmapCache::default();
        let big = Arc::new((0..4_000_000u32).step_by(2).collect::<RoaringBitmap>());
        let fit = limits::INDEX_CACHE_BYTES / (big.serialized_size() + ENTRY_BYTES);
        for i in 0..fit as u16 {
            cache.put(SetName::Present(AttributeId(i)), 1, &big);
        }
        assert!(cache.get(&SetName::Present(AttributeId(0)), 1).is_some(), "all fit");
        cache.put(SetName::Present(AttributeId(9_999)), 1, &big);
        assert!(cache.get(&SetName::Present(AttributeId(0)), 1).is_some(), "just used");
        assert!(cache.get(&SetName::Present(AttributeId(1)), 1).is_none(), "the least used went");
        assert!(cache.bytes <= limits::INDEX_CACHE_BYTES, "{} bytes", cache.bytes);
        assert_eq!(cache.entries.len(), cache.by_use.len(), "both maps agree");
    }
}
