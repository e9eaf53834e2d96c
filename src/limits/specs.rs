//! Limits of what a campaign's spec may say.

use super::REQUEST_BYTES_MAX;

/// Bytes of the name of a campaign, list, segment, connector or topic.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a campaign spec: the sources of its message, attachments included, and headroom for the rest.
pub const SPEC_BYTES_MAX: usize = REQUEST_BYTES_MAX;
/// Faults of a spec that are told at once: each is one more reading of the whole, and nobody mends more before the next check.
pub const SPEC_FAULTS_MAX: usize = 100;
/// Messages per second that a campaign may ask for: more than any provider takes.
pub const CAMPAIGN_RATE_MAX: u32 = 1_000_000;
/// Weight of a campaign in fair queueing: shares of 1 : 100 are the coarsest that still starve nobody.
pub const CAMPAIGN_WEIGHT_MAX: u32 = 100;
/// Hours for which a deferred message is tried again, when the campaign does not say.
pub const RETRY_DEADLINE_HOURS_DEFAULT: u32 = 72;
/// Hours for which a campaign may have deferred messages tried again: two weeks, beyond which news is none.
pub const RETRY_DEADLINE_HOURS_MAX: u32 = 336;
