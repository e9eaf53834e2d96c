//! What the engine's journal took for so many messages: bytes written and syncs, by the engine's own figures.
//!
//! Owns no state. Invariant: a use is the difference of two readings, so that what came before a measurement is not in it.

use serde::Serialize;

use crate::api::Api;
use crate::prometheus;

/// Writes and syncs of the journal for so many messages.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct JournalUse {
    pub messages: u64,
    pub bytes: f64,
    pub syncs: f64,
}

impl JournalUse {
    /// What it took so far, by the engine's own figures.
    pub fn now(api: &Api) -> anyhow::Result<JournalUse> {
        let metrics = api.metrics()?;
        let bytes = prometheus::sum(&metrics, "estafette_journal_bytes_total");
        let syncs = prometheus::sum(&metrics, "estafette_journal_fsync_seconds_count");
        Ok(JournalUse { messages: 0, bytes, syncs })
    }

    /// What came since `before`, for so many messages.
    pub fn since(self, before: JournalUse, messages: u64) -> JournalUse {
        JournalUse { messages, bytes: self.bytes - before.bytes, syncs: self.syncs - before.syncs }
    }

    /// Adds another use.
    pub fn add(&mut self, other: JournalUse) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.syncs += other.syncs;
    }

    /// MiB of a million messages.
    pub fn mebibytes(self) -> f64 {
        self.bytes / f64::from(1 << 20) * 1e6 / self.messages.max(1) as f64
    }

    /// Syncs of a million messages.
    pub fn syncs(self) -> f64 {
        self.syncs * 1e6 / self.messages.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_told_for_a_million_messages() {
        let before = JournalUse { messages: 0, bytes: 1_000.0, syncs: 5.0 };
        let now = JournalUse { messages: 0, bytes: 1_000.0 + f64::from(1 << 20), syncs: 7.0 };
        let mut used = now.since(before, 1_000);
        assert!((used.mebibytes() - 1_000.0).abs() < 1e-6, "a MiB for a thousand: {used:?}");
        used.add(now.since(before, 1_000));
        assert!((used.syncs() - 2_000.0).abs() < 1e-6, "four syncs for two thousand: {used:?}");
    }
}
