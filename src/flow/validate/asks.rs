//! Rules of questions about what was sent.

use std::collections::BTreeSet;

use super::{GraphProblem, View, problem};
use crate::flow::graph::{Node, NodeId, NodeKind};

fn is_send(node: &Node) -> bool {
    matches!(node.kind, NodeKind::Send { .. })
}

/// The gate of a dated step lets time pass like a delay.
fn is_delay(node: &Node) -> bool {
    matches!(node.kind, NodeKind::Delay(_) | NodeKind::Step(_))
}

/// A question about a message names a send that stands before it on some way.
pub(super) fn about_what_was_sent(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for node in view.by_id.values() {
        for send in node.kind.asks_about() {
            let (here, asked) = (view.called(node.id), view.called(send));
            if !view.by_id.get(&send).is_some_and(|node| is_send(node)) {
                let message = format!("{here} asks about {asked}, which is no send");
                found.push(problem("asks_about_no_send", node.id, message, "name a send of this flow"));
            } else if !view.behind(send, |_| true).contains(&node.id) {
                let message = format!("{here} asks about {asked}, which comes after it");
                found.push(problem("asks_before_the_send", node.id, message, "put it behind the send"));
            }
        }
    }
}

/// Every way to a question about what came back leads through a send or a delay; questions may follow one another.
pub(super) fn after_something_was_sent(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let mut too_early: BTreeSet<NodeId> = BTreeSet::new();
    for start in view.by_id.values().filter(|node| node.kind.is_trigger()) {
        too_early.extend(view.behind(start.id, |node| !is_send(node) && !is_delay(node)));
    }
    for node in view.by_id.values().filter(|node| node.kind.needs_a_send() && too_early.contains(&node.id)) {
        let message = format!(
            "{} asks what came back, and on a way to it nothing is sent and no delay stands",
            view.called(node.id)
        );
        found.push(problem("nothing_sent_yet", node.id, message, "put it behind a send or a delay on every way"));
    }
}

/// *Delivered*, *opened* and *clicked* take their time: right behind the send hardly anybody has them. A warning.
pub(super) fn in_time(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for node in view.by_id.values() {
        let asked: BTreeSet<NodeId> =
            node.kind.tests().into_iter().filter(|test| test.needs_time()).filter_map(|test| test.send()).collect();
        let at_once = asked.into_iter().find(|send| view.behind(*send, |node| !is_delay(node)).contains(&node.id));
        if let Some(send) = at_once {
            let (here, asked) = (view.called(node.id), view.called(send));
            let message = format!("{here} asks about {asked} with no delay since, when hardly anybody has reacted");
            found.push(problem("asked_at_once", node.id, message, "put a delay between them"));
        }
    }
}
