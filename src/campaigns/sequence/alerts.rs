//! Dates that stand in the way of a publication: each names its step, and all are listed together.
//!
//! | code | what |
//! |---|---|
//! | `step_not_dated` | every step has a date, but those that start by request |
//! | `undated_after_dated` | steps without a date stand together at the beginning |
//! | `date_before_previous`, `date_after_next` | previous ≤ date ≤ next along every path; equal is allowed |
//! | `date_past` | a step that has not started has its date ahead |
//!
//! Owns no state. Both steps of a wrong order are named, because a person may move either.

use std::collections::BTreeSet;

use super::plan::{Plan, Step};
use crate::campaigns::spec::steps::Starter;
use crate::campaigns::validate::Problem;
use crate::clock::Timestamp;

/// Every wrong date. `started` are ids of steps that have started: their dates are past, and stay.
pub fn alerts(plan: &Plan, now: Timestamp, started: &BTreeSet<String>) -> Vec<Problem> {
    let mut found = Vec::new();
    for step in &plan.steps {
        match step.planned {
            // What is wrong with its date, or with the zone, was said where it was read.
            None if step.dated => {}
            None => undated(plan, step, &mut found),
            Some(planned) => {
                order(plan, step, planned, &mut found);
                if planned < now && !step.is_now && !started.contains(&step.id) {
                    let message = format!("step {:?}: {planned} has passed", step.id);
                    found.push(alert("date_past", step, message, "set a date that is ahead"));
                }
            }
        }
    }
    found
}

fn alert(code: &'static str, step: &Step, message: String, fix: &str) -> Problem {
    Problem::error(code, format!("steps.{}.at", step.place), message, fix)
}

fn undated(plan: &Plan, step: &Step, found: &mut Vec<Problem>) {
    if plan.starter != Starter::Api {
        let message = format!("step {:?} has no date", step.id);
        let fix = "set at; only steps of a campaign that is started by requests (starter = \"api\") go without";
        found.push(alert("step_not_dated", step, message, fix));
        return;
    }
    if let Some(before) = plan.before(step).find(|before| before.planned.is_some()) {
        let message = format!("step {:?} has no date and stands behind {:?}, which has one", step.id, before.id);
        let fix = "set its date, or clear those of all steps before it";
        found.push(alert("undated_after_dated", step, message, fix));
    }
}

fn order(plan: &Plan, step: &Step, planned: Timestamp, found: &mut Vec<Problem>) {
    for before in plan.before(step) {
        let Some(earlier) = before.planned.filter(|earlier| *earlier > planned) else { continue };
        let message =
            format!("step {:?} ({planned}) is dated before {:?} ({earlier}), which leads to it", step.id, before.id);
        found.push(alert("date_before_previous", step, message, "set it to the date of the step before, or later"));
        let message =
            format!("step {:?} ({earlier}) is dated after {:?} ({planned}), to which it leads", before.id, step.id);
        found.push(alert("date_after_next", before, message, "set it to the date of the step after, or earlier"));
    }
}
