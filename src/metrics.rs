//! The metrics catalogue: every series that the engine exposes, with its kind, labels and help.

use std::collections::BTreeMap;

/// The live figures of one campaign, rendered at the scrape. All counts are of one moment and equal the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CampaignSeries {
    pub id: u32,
    pub name: String,
    pub state: &'static str,
    pub pending: u64,
    pub claimed: u64,
    pub deferred: u64,
    pub accepted: u64,
    pub unknown: u64,
    /// By class.
    pub rejected: BTreeMap<&'static str, u64>,
    /// By reason.
    pub skipped: BTreeMap<&'static str, u64>,
    pub audience: u64,
    pub rate_per_second: f64,
    /// `None` if it cannot be said.
    pub eta_seconds: Option<f64>,
    /// Why it is slower than it could be.
    pub stall: Option<&'static str>,
    pub opened_unique: u64,
    pub clicked_unique: u64,
    pub unsubscribed: u64,
    /// Opens and clicks by (event, class): `("open", "human")`.
    pub events: BTreeMap<(&'static str, &'static str), u64>,
}
