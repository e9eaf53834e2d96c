//! Segments: who is meant.

pub mod audience;
pub mod skip;

pub use audience::{AudienceInput, AudienceSummary, Eligibility, LackingSet, SameAddress, SuppressedSet};
pub use skip::SkipReason;
