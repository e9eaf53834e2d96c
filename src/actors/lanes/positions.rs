//! Positions: where claimed rows have their mark bytes. (Credits are counted by `channels::fair`.)
//!
//! Invariant: CR-1 a position is given back only when its batch is gone everywhere, with the byte set free first.

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::journal::Marks;
use crate::ledger::Positions;

/// The free positions of the mark file.
pub struct PositionPool {
    free: Mutex<RoaringBitmap>,
    marks: Marks,
}

impl PositionPool {
    pub fn new(marks: Marks, positions: u32) -> PositionPool {
        let mut free = RoaringBitmap::new();
        free.insert_range(0..positions);
        PositionPool { free: Mutex::new(free), marks }
    }

    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    pub fn available(&self) -> u64 {
        self.free.lock().len()
    }

    /// `count` positions, or `None` if so many are not free.
    pub fn take(&self, count: u64) -> Option<Positions> {
        let mut free = self.free.lock();
        if free.len() < count {
            return None;
        }
        let taken = Positions::from_sorted(free.iter().take(usize::try_from(count).ok()?));
        for (first, count) in &taken.0 {
            free.remove_range(*first..first.saturating_add(*count));
        }
        Some(taken)
    }

    /// Sets the bytes free, then the positions.
    pub fn give_back(&self, positions: &Positions) {
        for position in positions.iter() {
            self.marks.free(position);
        }
        let mut free = self.free.lock();
        for (first, count) in &positions.0 {
            free.insert_range(*first..first.saturating_add(*count));
        }
    }
}
