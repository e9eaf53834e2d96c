//! Sequences: dated steps for one cohort. What a list of steps means, when they start, and what may still be changed.
//!
//! - [`plan`]: the steps of a spec with their order, links and instants, and everything that is wrong with them.
//! - [`alerts`]: dates that are out of order or past.
//! - [`locks`]: which steps are executed, current or unreached, and whether a new version leaves the locked ones alone.
//! - [`timing`]: planned and effective starts, and gaps that are smaller than the start takes.
//!
//! Who owns the state: the ledger of the run knows which steps have started; everything here is a function of its arguments.
//!
//! Invariants:
//! 1. Along every path previous ≤ date ≤ next; steps without a date stand together at the beginning.
//! 2. A dated step starts at max(planned, last publication + grace), and not before.
//! 3. A step that has started is never changed, moved or removed by a later version.
//!
//! What it must not know: the clock (instants are handed in), ledgers, content, actors.

pub mod alerts;
pub mod locks;
pub mod plan;
pub mod timing;

use super::spec::{CampaignSpec, Starter};
pub use locks::{Lock, Refusal};
pub use plan::{Origin, Plan, SplitBy, Step, StepKind};
pub use timing::Planned;

/// A spec after a change: who switches to starting by requests, and says nothing of the steps, has the date of the first
/// one cleared. It may be set again.
pub fn switched(before: &CampaignSpec, mut after: CampaignSpec) -> CampaignSpec {
    let switches = after.starter == Some(Starter::Api) && before.starter != Some(Starter::Api);
    if switches && after.steps == before.steps {
        after.steps.iter_mut().take(1).for_each(|first| first.at = None);
    }
    after
}

#[cfg(test)]
mod tests;
