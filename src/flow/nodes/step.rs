//! The gate before a dated step of a sequence: everybody waits here until the step starts, and goes on together.
//!
//! Invariants: ST-1 a gate opens once, at its effective start or, if contacts before it are still pending or claimed, as soon
//! as none is, but by itself only within its limit; ST-2 who comes after it has opened goes on at once.

use serde::{Deserialize, Serialize};

/// When a step starts. Instants are milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepGate {
    pub planned: i64,
    /// `planned`, or so long after the last publication.
    pub effective: i64,
    /// Whether the send behind it is skipped for those who come after it has opened.
    #[serde(default)]
    pub skips_late: bool,
    /// Milliseconds after `effective` from which on it does not open by itself, but waits for a person; none if it always
    /// does.
    #[serde(default)]
    pub too_late_ms: Option<i64>,
    /// Planned for the moment of its publication: nothing is added to it.
    #[serde(default)]
    pub at_once: bool,
}

impl StepGate {
    /// Whether at a moment its hour has passed by more than its limit.
    pub fn is_too_late(&self, now: i64) -> bool {
        self.too_late_ms.is_some_and(|limit| now > self.effective.saturating_add(limit))
    }
}
