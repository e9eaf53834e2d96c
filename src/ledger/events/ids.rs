//! Ids of events that were taken, so that one that is sent again changes nothing.
//!
//! Owned by the state. Two generations of hashes: when the younger one is full, the older one is forgotten. So the newest
//! `limits::EVENT_IDS_KEPT` ids are always known, and at most twice as many.
//!
//! Beyond that an old event that is sent again counts as new. Its sets, suppressions and moves are then what they are already;
//! totals, counts per contact and the count of soft bounces of its day grow by one.
//!
//! Sixty-four bits of a hash: among two million ids the chance that a new event is taken for an old one is 10⁻¹³.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::limits::EVENT_IDS_KEPT;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventIds {
    young: BTreeSet<u64>,
    old: BTreeSet<u64>,
}

impl EventIds {
    pub fn knows(&self, id: u64) -> bool {
        self.young.contains(&id) || self.old.contains(&id)
    }

    pub fn note(&mut self, id: u64) {
        self.note_bounded(id, EVENT_IDS_KEPT);
    }

    fn note_bounded(&mut self, id: u64, kept: usize) {
        if self.young.len() >= kept {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
    }

    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ids_are_known_and_the_memory_has_a_bound() {
        let mut ids = EventIds::default();
        for id in 0..1_000u64 {
            ids.note_bounded(id, 100);
            assert!(ids.len() <= 200, "{} ids after {id}", ids.len());
            let newest = id.saturating_sub(99)..=id;
            assert!(newest.into_iter().all(|known| ids.knows(known)), "the newest hundred at {id}");
        }
        assert!(!ids.knows(0) && !ids.knows(700), "old ones are forgotten");
    }
}
