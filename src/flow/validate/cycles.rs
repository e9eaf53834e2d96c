//! Rules of cycles and depth.

use std::collections::{BTreeMap, BTreeSet};

use super::{GraphProblem, View, problem};
use crate::flow::graph::NodeId;
use crate::limits;

/// Takes nodes away in topological order (Kahn 1962), without the links out of waits; what is left lies on or behind a
/// cycle, and of that the nodes that can reach themselves are named.
pub(super) fn no_cycle_without_a_wait(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let at_once = |id: NodeId| -> &[NodeId] {
        match view.by_id.get(&id) {
            Some(node) if !node.kind.waits() => view.next(id),
            _ => &[],
        }
    };
    let mut incoming: BTreeMap<NodeId, usize> = view.by_id.keys().map(|id| (*id, 0)).collect();
    for to in view.by_id.keys().flat_map(|id| at_once(*id)) {
        if let Some(count) = incoming.get_mut(to) {
            *count += 1;
        }
    }
    let mut depth: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut open: Vec<NodeId> = incoming.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    while let Some(id) = open.pop() {
        incoming.remove(&id);
        let here = depth.get(&id).copied().unwrap_or(1);
        for to in at_once(id) {
            let there = depth.entry(*to).or_insert(1);
            *there = (*there).max(here + 1);
            if let Some(count) = incoming.get_mut(to) {
                *count -= 1;
                if *count == 0 {
                    open.push(*to);
                }
            }
        }
        if here == limits::FLOW_DEPTH_MAX + 1 {
            let (called, max) = (view.called(id), limits::FLOW_DEPTH_MAX);
            let message = format!("{called} is the {here}th node in a row without a wait, and {max} is the most");
            found.push(problem("too_deep", id, message, "put a wait before it, or shorten the path"));
        }
    }
    let left: BTreeSet<NodeId> = incoming.keys().copied().collect();
    for id in left.iter().filter(|id| reaches_itself(**id, &left, &at_once)) {
        let message = format!("{} lies on a cycle without a wait", view.called(*id));
        found.push(problem("cycle_without_wait", *id, message, "put a wait on the cycle, or end it"));
    }
}

fn reaches_itself<'a>(id: NodeId, within: &BTreeSet<NodeId>, next: &impl Fn(NodeId) -> &'a [NodeId]) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![id];
    while let Some(at) = open.pop() {
        for to in next(at).iter().filter(|to| within.contains(to)) {
            if *to == id {
                return true;
            }
            if seen.insert(*to) {
                open.push(*to);
            }
        }
    }
    false
}

/// One message per contact per delivery: who comes round to a send again passes it by.
pub(super) fn no_send_comes_round(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for node in view.by_id.values().filter(|node| node.kind.name() == "send") {
        if view.behind(node.id, |_| true).contains(&node.id) {
            let message = format!("contacts can come to {} again, and get its message once", view.called(node.id));
            let fix = "fine if once is enough; else add a send for each time";
            found.push(problem("send_in_a_cycle", node.id, message, fix));
        }
    }
}
