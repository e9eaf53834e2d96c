//! Wire types of figures beside the report: over time, and deliveries side by side. Owns no state.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Time;

/// One part of a run's time, and what happened in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimeBucket {
    pub start: Time,
    pub accepted: u64,
    pub rejected: u64,
    /// Contacts who opened for the first time, people only.
    pub opened: u64,
    pub clicked: u64,
    pub unsubscribed: u64,
    pub bounced: u64,
    pub complained: u64,
    pub converted: u64,
    /// Opens by people, repeated ones included.
    pub opens: u64,
    pub clicks: u64,
}

/// A run over time. Parts in which nothing happened are left out; the sums are the totals of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimelineReport {
    pub campaign: u32,
    pub run: u32,
    /// Length of each part. At least what was asked for: a long run is remembered in longer parts.
    pub bucket_seconds: u32,
    pub buckets: Vec<TimeBucket>,
}

/// A delivery, or all of a run, to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compared {
    pub run: u32,
    /// `None`: all deliveries of the run.
    pub delivery: Option<u16>,
}

/// A count and what part of the accepted it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    pub contacts: u64,
    /// Of the accepted; `null` without any.
    pub rate: Option<f64>,
    /// Wilson interval of the rate, at 95 %.
    pub interval: Option<[f64; 2]>,
}

/// One side of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparedReport {
    pub campaign: u32,
    pub name: String,
    pub run: u32,
    /// `null`: all deliveries of the run.
    pub delivery: Option<u16>,
    pub state: String,
    pub started_at: Time,
    pub audience: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub skipped: u64,
    pub opened: Share,
    pub clicked: Share,
    pub converted: Share,
    pub unsubscribed: Share,
    pub complained: Share,
    pub bounced: Share,
}

/// How one of them differs from the first. They were not drawn from one audience at one time: a difference says that the
/// deliveries differ, not why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DifferenceReport {
    /// Its place in `deliveries`, from 0; it is compared with place 0.
    pub place: usize,
    #[schema(example = "clicked")]
    pub of: String,
    /// Its rate minus that of the first.
    pub difference: f64,
    /// Newcombe interval, at 95 %.
    pub interval: [f64; 2],
    pub z: f64,
    pub p: f64,
}

/// Two or more deliveries side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    pub deliveries: Vec<ComparedReport>,
    /// Each but the first against the first; what nobody was accepted for is left out.
    pub differences: Vec<DifferenceReport>,
}
