//! The sink's counters, as they travel between processes.
//!
//! Owns no state. Invariant: a report covers exactly what happened since the reset before it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Counters since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub connections: u64,
    /// Messages for which a 250 was made ready (those of `dropped_after_dot` among them).
    pub accepted: u64,
    /// Body bytes, terminators included.
    pub bytes: u64,
    pub refused_4xx: u64,
    pub refused_5xx: u64,
    /// Refused as the sender's fault.
    #[serde(default)]
    pub refused_policy: u64,
    pub throttled: u64,
    pub dropped_after_dot: u64,
    pub dropped_in_body: u64,
    #[serde(default)]
    pub dropped_before_body: u64,
    pub closed_421: u64,
    /// Connections that went on in TLS.
    #[serde(default)]
    pub secured: u64,
    /// Refusals by code and enhanced code: `550 5.1.1`.
    #[serde(default)]
    pub replies: BTreeMap<String, u64>,
}

/// The first line of a sink on its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listening {
    pub listen: String,
    pub port: u16,
    /// Certificate to trust, if the sink speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
}

/// The answer to `report` on standard input, and the last line of a sink.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SinkReport {
    #[serde(flatten)]
    pub counts: Counts,
    /// Seconds from the first to the last accepted message, by the sink's own clock.
    pub window_seconds: f64,
    /// Accepted messages a second over that window; 0 for fewer than two messages.
    pub per_second: f64,
    /// CPU seconds of the sink since the reset.
    pub cpu_seconds: f64,
}
