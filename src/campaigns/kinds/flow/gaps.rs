//! Flows of which some nodes or links cannot be made: what stands in for them, and what the rules of the graph then say
//! that is more than a consequence.
//!
//! A person who mends a flow wants to see all that is wrong with it, and nothing that will be gone with the fault that was
//! told already. Owns no state.

use super::assemble::Assembled;
use crate::campaigns::spec::NodeSpec;
use crate::flow::nodes::{Condition, Delay, Split, Test};
use crate::flow::validate::GraphProblem;
use crate::flow::{EndKind, Exit, NodeKind};

/// Seconds of the wait that stands in for another.
const WAIT: u32 = 60;

/// A node of the kind, as far as its links go.
pub(super) fn stand_in(kind: &str, node: &NodeSpec) -> NodeKind {
    match kind {
        "start" => NodeKind::Start,
        "condition" => NodeKind::Condition(Condition { test: Test::Complained }),
        "delay" => NodeKind::Delay(Delay::Seconds(WAIT)),
        "split" | "ab_test" => {
            let exits = node.exits.keys().map(|exit| (Exit(exit.clone().into()), 1));
            NodeKind::Split(Split::Weights(exits.collect()))
        }
        "end" | "exit" => NodeKind::End { kind: EndKind::Neutral },
        // Of what is not known it is best to think that it sends: conditions behind it are then no fault.
        _ => NodeKind::send(0, 0),
    }
}

/// Whether a rule is broken by more than what was told of nodes and links.
pub(super) fn is_news(problem: &GraphProblem, made: &Assembled) -> bool {
    let is_whole = made.gaps.is_empty() && made.broken.is_empty() && !made.is_torn;
    let Some(node) = problem.node.filter(|_| !is_whole) else {
        return is_whole || problem.code != "no_start" || !made.is_torn;
    };
    let is_gap = made.gaps.contains(&node);
    let asks_a_gap = || {
        let asking = made.parts.nodes.iter().find(|other| other.id == node);
        asking.is_some_and(|node| node.kind.asks_about().iter().any(|send| made.gaps.contains(send)))
    };
    match problem.code {
        "dangling_exit" | "unknown_exit" | "exit_used_twice" => !is_gap && !made.broken.contains(&node),
        // Where no node is known, that was told of the link, or of the node's id.
        "unknown_node" => false,
        // A link to it is written, if not one that the start leads to.
        "unreachable" => !made.mentioned.contains(&node),
        "asks_about_no_send" => !is_gap && !asks_a_gap(),
        "asks_before_the_send" | "nothing_sent_yet" | "asked_at_once" => {
            !is_gap && !asks_a_gap() && made.broken.is_empty() && !made.is_torn
        }
        "cycle_without_wait" | "send_in_a_cycle" => !is_gap && !made.is_torn,
        _ => !is_gap,
    }
}
