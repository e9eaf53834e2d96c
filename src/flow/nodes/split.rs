//! Splits that sort at once: by shares, by numbers, by segments. Nobody rests in one.

use serde::{Deserialize, Serialize};

use super::{Fault, exit_faults};
use crate::flow::graph::Exit;

/// By which leave those that no branch takes.
pub const REMAINING: Exit = Exit(std::borrow::Cow::Borrowed("remaining"));

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Everybody is shared out by weight; a set that arrives together has exact shares.
    Weights(Vec<(Exit, u32)>),
    /// Each takes at most so many per run, at random within each arriving set; `remaining` takes the rest.
    AtMost(Vec<(Exit, u64)>),
    /// The first segment that a contact is in, in this order; `remaining` takes the rest.
    Segments(Vec<(Exit, String)>),
}

impl Split {
    fn branches(&self) -> Vec<&Exit> {
        match self {
            Split::Weights(branches) => branches.iter().map(|(exit, _)| exit).collect(),
            Split::AtMost(branches) => branches.iter().map(|(exit, _)| exit).collect(),
            Split::Segments(branches) => branches.iter().map(|(exit, _)| exit).collect(),
        }
    }

    /// Exits that must lead somewhere.
    pub fn exits(&self) -> Vec<Exit> {
        let mut exits: Vec<Exit> = self.branches().into_iter().cloned().collect();
        if matches!(self, Split::AtMost(_)) {
            exits.push(REMAINING);
        }
        exits
    }

    pub fn faults(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        let branches = self.branches();
        exit_faults(branches.iter().copied(), &mut found);
        if branches.is_empty() {
            found.push(Fault::new("no_branch", "the split has no branch", "add a branch, or remove the split"));
        }
        if !matches!(self, Split::Weights(_)) && branches.iter().any(|exit| **exit == REMAINING) {
            let message = format!("a branch is named {:?}, as the one that takes the rest", REMAINING.name());
            found.push(Fault::new("exit_twice", message, "choose another name"));
        }
        if let Split::Weights(shares) = self
            && shares.iter().all(|(_, weight)| *weight == 0)
            && !shares.is_empty()
        {
            found.push(Fault::new("no_share", "all branches have a share of 0", "give a branch a share"));
        }
        found
    }
}
