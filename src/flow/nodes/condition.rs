//! Conditions: two exits, `true` and `false`, each contact sorted once, on arrival.

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::flow::graph::{Exit, NodeId};

pub const TRUE: Exit = Exit(std::borrow::Cow::Borrowed("true"));
pub const FALSE: Exit = Exit(std::borrow::Cow::Borrowed("false"));

/// What is asked of the contacts that arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// A segment expression: profile, groups, personas, history.
    Matches(String),
    /// On e-mail: accepted, and not bounced so far.
    Delivered(NodeId),
    Opened(NodeId),
    /// Any link of the message.
    Clicked(NodeId),
    /// Through a link of this run.
    Unsubscribed,
}

impl Test {
    /// The send whose message is asked about.
    pub fn send(&self) -> Option<NodeId> {
        match self {
            Test::Delivered(node) | Test::Opened(node) | Test::Clicked(node) => Some(*node),
            Test::Matches(_) | Test::Unsubscribed => None,
        }
    }

    /// Makes no sense before anything was sent.
    pub fn needs_a_send(&self) -> bool {
        !matches!(self, Test::Matches(_))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Test::Matches(_) => "matches",
            Test::Delivered(_) => "delivered",
            Test::Opened(_) => "opened",
            Test::Clicked(_) => "clicked",
            Test::Unsubscribed => "unsubscribed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    pub test: Test,
}

impl Condition {
    pub fn faults(&self) -> Vec<Fault> {
        match &self.test {
            Test::Matches(expression) if expression.trim().is_empty() => {
                vec![Fault::new("no_expression", "the condition asks nothing", "write an expression")]
            }
            _ => Vec::new(),
        }
    }
}
