//! The ledger of a delivery as numbers, and sums of several.

use serde::{Deserialize, Serialize};

/// The ledger of a delivery as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub audience: u64,
    pub pending: u64,
    pub pending_held: u64,
    pub claimed: u64,
    pub deferred: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub skipped: u64,
    pub unknown: u64,
}

impl Counts {
    pub fn is_balanced(&self) -> bool {
        let sum =
            self.pending + self.claimed + self.deferred + self.accepted + self.rejected + self.skipped + self.unknown;
        self.audience == sum
    }

    pub fn add(&mut self, other: &Counts) {
        self.audience += other.audience;
        self.pending += other.pending;
        self.pending_held += other.pending_held;
        self.claimed += other.claimed;
        self.deferred += other.deferred;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.skipped += other.skipped;
        self.unknown += other.unknown;
    }
}
