//! The history of consent of one contact: who said what when, appended and never changed. It is a projection of facts, for
//! reports and for the export of a contact; the sets that decide a send are folded elsewhere.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::Channel;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentStatus {
    Subscribed,
    Unsubscribed,
    /// Nothing is known; what a contact has before anybody said anything.
    None,
}

/// One change of consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentEntry {
    pub channel: Channel,
    pub topic: String,
    pub status: ConsentStatus,
    /// `import-7`, `api`, `unsubscribe link`, …
    pub source: String,
    pub at: Timestamp,
}
