//! Node kinds with parameters of their own: one file each, with their exits and what they refuse.
//!
//! What it must not know: who is at a node, campaigns, ledgers, the base. Times are lengths, never instants.

pub mod ab_test;
pub mod condition;
pub mod delay;
pub mod note;
pub mod set_attribute;
pub mod split;
pub mod step;

pub use ab_test::{AbTest, Arm, Metric, NotProven, SampleSize};
pub use condition::{Condition, Test};
pub use delay::{Delay, DelayZone, WaitEvent};
pub use note::{Note, NoteOn};
pub use set_attribute::SetAttribute;
pub use split::Split;
pub use step::StepGate;

use super::graph::Exit;

/// A parameter that a node cannot work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Never reworded: programs match on it.
    pub code: &'static str,
    pub message: String,
    pub fix: &'static str,
}

impl Fault {
    pub fn new(code: &'static str, message: impl Into<String>, fix: &'static str) -> Fault {
        Fault { code, message: message.into(), fix }
    }
}

/// Exits of one node have names, each its own.
pub(crate) fn exit_faults<'a>(exits: impl Iterator<Item = &'a Exit>, found: &mut Vec<Fault>) {
    let mut seen = std::collections::BTreeSet::new();
    for exit in exits {
        if exit.name().trim().is_empty() {
            found.push(Fault::new("unnamed_exit", "a branch has no name", "give each branch a name"));
        }
        if !seen.insert(exit.name()) {
            let message = format!("two branches are named {:?}", exit.name());
            found.push(Fault::new("exit_twice", message, "give each branch a name of its own"));
        }
    }
}
