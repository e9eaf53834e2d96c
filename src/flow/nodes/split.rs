//! Splits that sort at once: by shares, by numbers, by segments, by what contacts did. Nobody rests in one.
//!
//! Invariants: SP-1 a contact leaves by exactly one exit; SP-2 the move that was journaled is the assignment: it is never
//! computed again, so that other shares concern later contacts only.

use serde::{Deserialize, Serialize};

use super::condition::Test;
use super::{Fault, exit_faults};
use crate::flow::graph::Exit;
use crate::flow::split::{SplitError, check_weights};
use crate::limits;

/// By which leave those that no branch takes.
pub const REMAINING: Exit = Exit(std::borrow::Cow::Borrowed("remaining"));

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Everybody is shared out by weight: a set that arrives together has exact shares, a stream has them at the end of
    /// every block of entrants.
    Weights(Vec<(Exit, u32)>),
    /// Each takes at most so many per run, at random within each arriving set; `remaining` takes the rest.
    AtMost(Vec<(Exit, u64)>),
    /// The first segment that a contact is in, in this order; `remaining` takes the rest.
    Segments(Vec<(Exit, String)>),
    /// The first interaction that a contact had, in this order; `remaining` takes the rest.
    Interactions(Vec<(Exit, Test)>),
}

impl Split {
    fn branches(&self) -> Vec<&Exit> {
        match self {
            Split::Weights(branches) => branches.iter().map(|(exit, _)| exit).collect(),
            Split::AtMost(branches) => branches.iter().map(|(exit, _)| exit).collect(),
            Split::Segments(branches) => branches.iter().map(|(exit, _)| exit).collect(),
            Split::Interactions(branches) => branches.iter().map(|(exit, _)| exit).collect(),
        }
    }

    /// For people.
    pub fn name(&self) -> &'static str {
        match self {
            Split::Weights(_) => "split by weights",
            Split::AtMost(_) => "split by numbers",
            Split::Segments(_) => "split by segments",
            Split::Interactions(_) => "split by interactions",
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

    /// Exits that lead to an end of their own when they have no link.
    pub fn optional_exits(&self) -> Vec<Exit> {
        match self {
            Split::Weights(_) | Split::AtMost(_) => Vec::new(),
            Split::Segments(_) | Split::Interactions(_) => vec![REMAINING],
        }
    }

    /// What is asked of each contact.
    pub fn tests(&self) -> impl Iterator<Item = &Test> {
        let interactions: &[(Exit, Test)] = match self {
            Split::Interactions(branches) => branches,
            Split::Weights(_) | Split::AtMost(_) | Split::Segments(_) => &[],
        };
        interactions.iter().map(|(_, test)| test)
    }

    pub fn faults(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        let branches = self.branches();
        exit_faults(branches.iter().copied(), &mut found);
        if branches.is_empty() {
            found.push(Fault::new("no_branch", "the split has no branch", "add a branch, or remove the split"));
        }
        if branches.len() >= limits::SPLIT_EXITS_MAX {
            let (count, max) = (branches.len(), limits::SPLIT_EXITS_MAX - 1);
            let message = format!("the split has {count} branches, and {max} is the most");
            found.push(Fault::new("too_many_branches", message, "use fewer, or several splits in a row"));
        }
        if !matches!(self, Split::Weights(_)) && branches.iter().any(|exit| **exit == REMAINING) {
            let message = format!("a branch is named {:?}, as the one that takes the rest", REMAINING.name());
            found.push(Fault::new("exit_twice", message, "choose another name"));
        }
        match self {
            Split::Weights(shares) if !shares.is_empty() => {
                let weights: Vec<u32> = shares.iter().map(|(_, weight)| *weight).collect();
                match check_weights(&weights) {
                    Err(SplitError::NoWeight) => {
                        found.push(Fault::new("no_share", "all branches have a share of 0", "give a branch a share"));
                    }
                    Err(error @ SplitError::WeightTooLarge { .. }) => {
                        found.push(Fault::new("bad_share", error.to_string(), "use smaller weights"));
                    }
                    _ => {}
                }
            }
            Split::Segments(branches) => {
                for (exit, _) in branches.iter().filter(|(_, segment)| segment.trim().is_empty()) {
                    let message = format!("branch {:?} has no expression", exit.name());
                    found.push(Fault::new("no_expression", message, "write an expression"));
                }
            }
            Split::Interactions(branches) => found.extend(branches.iter().flat_map(|(_, test)| test.faults())),
            Split::Weights(_) | Split::AtMost(_) => {}
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(name: &'static str) -> Exit {
        Exit(name.into())
    }

    #[test]
    fn each_fault_has_its_code() {
        let large = limits::SPLIT_WEIGHT_MAX + 1;
        let many = (0..limits::SPLIT_EXITS_MAX).map(|at| (Exit(at.to_string().into()), 1)).collect();
        let cases: [(Split, &[&str]); 10] = [
            (Split::Weights(vec![(exit("a"), 1), (exit("b"), 3)]), &[]),
            (Split::Weights(vec![(exit("a"), 0), (exit("b"), 0)]), &["no_share"]),
            (Split::Weights(vec![(exit("a"), large)]), &["bad_share"]),
            (Split::Weights(Vec::new()), &["no_branch"]),
            (Split::Weights(many), &["too_many_branches"]),
            (Split::AtMost(vec![(exit("a"), 1), (exit("a"), 1)]), &["exit_twice"]),
            (Split::AtMost(vec![(REMAINING, 1)]), &["exit_twice"]),
            (Split::Segments(vec![(exit("a"), " ".into())]), &["no_expression"]),
            (Split::Segments(vec![(exit(" "), "x".into())]), &["unnamed_exit"]),
            (Split::Interactions(vec![(exit("a"), Test::UnsubscribedFrom(Vec::new()))]), &["no_topic"]),
        ];
        for (split, expected) in cases {
            let codes: Vec<_> = split.faults().into_iter().map(|f| f.code).collect();
            assert_eq!(codes, expected, "{split:?}");
        }
    }

    #[test]
    fn the_rest_has_an_exit_wherever_there_can_be_one() {
        let numbers = Split::AtMost(vec![(exit("a"), 5)]);
        assert_eq!(numbers.exits(), [exit("a"), REMAINING], "the last is mandatory");
        let interactions = Split::Interactions(vec![(exit("a"), Test::Complained)]);
        assert_eq!((interactions.exits(), interactions.optional_exits()), (vec![exit("a")], vec![REMAINING]));
        assert!(Split::Weights(vec![(exit("a"), 5)]).optional_exits().is_empty(), "shares take everybody");
    }
}
