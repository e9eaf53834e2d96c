//! The gate before a dated step of a sequence: everybody waits here until the step starts, and goes on together.
//!
//! Invariants: ST-1 a gate opens once, at its effective start or, if contacts before it are still pending or claimed, as soon
//! as none is; ST-2 who comes after it has opened goes on at once.

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
}
