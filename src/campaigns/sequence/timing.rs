//! When steps start: planned and effective, and gaps that are too small.
//!
//! Owns no state.

use std::time::Duration;

use super::plan::Plan;
use crate::campaigns::validate::Problem;
use crate::clock::Timestamp;

/// One step and its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub id: String,
    pub number: u16,
    /// `None`: at once, by request.
    pub planned: Option<Timestamp>,
    pub effective: Option<Timestamp>,
    /// It has started, or its hour has come: it stays as it was published.
    pub executed: bool,
}

/// When a dated step takes effect: so long after the last publication at the earliest.
pub fn effective(planned: Timestamp, published: Timestamp, grace: Duration) -> Timestamp {
    planned.max(published.plus(grace))
}

/// A warning for each pair of steps that follow each other faster than the start was measured to take.
pub fn small_gaps(plan: &Plan, measured: Duration) -> Vec<Problem> {
    let mut found = Vec::new();
    for step in &plan.steps {
        for before in plan.before(step) {
            let (Some(earlier), Some(later)) = (before.planned, step.planned) else { continue };
            let gap = later.saturating_since(earlier);
            if gap < measured {
                let message = format!(
                    "step {:?} is planned {:.3} s after {:?}, and the start takes {:.3} s: it will be shifted",
                    step.id,
                    gap.as_secs_f64(),
                    before.id,
                    measured.as_secs_f64()
                );
                let fix = "plan it later; the measured time is the least, and some more is better";
                found.push(Problem::warning("small_gap", format!("steps.{}.at", step.place), message, fix));
            }
        }
    }
    found
}
