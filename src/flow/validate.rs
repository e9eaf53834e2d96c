//! The rules of a flow graph: one table, each rule with a code, every refusal by node id.
//!
//! Rules never stop at the first fault: a person who mends a graph wants to see all that is wrong. A rule must bear any
//! parts at all, broken ids included, because the rules before it only report.
//!
//! | code | rule |
//! |---|---|
//! | `too_many_nodes`, `too_many_edges` | the graph is bounded; nothing else is looked at |
//! | `duplicate_node` | an id names one node |
//! | `no_start`, `several_starts` | exactly one start |
//! | `unknown_node` | an edge joins nodes that exist |
//! | `unknown_exit` | an edge leaves by an exit that its node has; an end has none |
//! | `exit_used_twice` | an exit leads to one place |
//! | `dangling_exit` | every exit leads somewhere |
//! | `link_into_trigger` | rows begin at a trigger, so nothing leads into it |
//! | `unreachable` | every node can be reached from the start |
//! | `cycle_without_wait` | rows cannot go round at once |
//! | `too_deep` | a path between two waits is bounded |
//! | `reserved_id` | ids from 2^31 on are of implicit ends |
//! | `asks_about_no_send`, `asks_before_the_send` | a condition on a message names a send that stands before it |
//! | `nothing_sent_yet` | a condition on what came back has a send before it on some path |
//! | the node's own | its parameters, see `nodes` |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::graph::{Exit, GraphParts, Node, NodeId, NodeKind};
use crate::limits;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GraphProblem {
    /// The rule; never reworded, programs match on it.
    pub code: &'static str,
    /// The node at fault; `None` if it is the graph as a whole.
    pub node: Option<NodeId>,
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for GraphProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

struct View<'a> {
    parts: &'a GraphParts,
    by_id: BTreeMap<NodeId, &'a Node>,
    /// Targets of the edges whose two nodes exist.
    next: BTreeMap<NodeId, Vec<NodeId>>,
}

type Rule = fn(&View<'_>, &mut Vec<GraphProblem>);

const RULES: &[Rule] = &[
    node_ids_are_unique,
    one_start,
    edges_join_known_nodes,
    exits_are_known_and_used_once,
    exits_lead_somewhere,
    nothing_leads_into_a_trigger,
    all_is_reachable,
    no_cycle_without_a_wait,
    ids_are_not_reserved,
    parameters_are_sound,
    asks_about_what_was_sent,
];

/// Every rule that the parts break, in the order of the table and of the node ids.
pub fn problems(parts: &GraphParts) -> Vec<GraphProblem> {
    let mut found = Vec::new();
    within(&mut found, "too_many_nodes", "nodes", parts.nodes.len(), limits::FLOW_NODES_MAX);
    within(&mut found, "too_many_edges", "links", parts.edges.len(), limits::FLOW_EDGES_MAX);
    if !found.is_empty() {
        return found;
    }
    let by_id: BTreeMap<NodeId, &Node> = parts.nodes.iter().map(|n| (n.id, n)).collect();
    let mut next: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for edge in &parts.edges {
        if by_id.contains_key(&edge.from) && by_id.contains_key(&edge.to) {
            next.entry(edge.from).or_default().push(edge.to);
        }
    }
    let view = View { parts, by_id, next };
    for rule in RULES {
        rule(&view, &mut found);
    }
    found
}

fn within(found: &mut Vec<GraphProblem>, code: &'static str, what: &str, count: usize, max: usize) {
    if count > max {
        let message = format!("the flow has {count} {what}, and {max} is the most");
        found.push(GraphProblem { code, node: None, message, fix: format!("use fewer {what}, or several campaigns") });
    }
}

fn problem(code: &'static str, node: NodeId, message: String, fix: impl Into<String>) -> GraphProblem {
    GraphProblem { code, node: Some(node), message, fix: fix.into() }
}

fn node_ids_are_unique(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let mut seen = BTreeSet::new();
    for node in &view.parts.nodes {
        if !seen.insert(node.id) {
            let message = format!("{} names two nodes, one of them {:?}", node.id, node.name);
            found.push(problem("duplicate_node", node.id, message, "give each node an id of its own"));
        }
    }
}

fn one_start(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let mut starts = view.parts.nodes.iter().filter(|n| n.kind.is_trigger());
    if starts.next().is_none() {
        let message = "no node starts the flow".to_owned();
        found.push(GraphProblem { code: "no_start", node: None, message, fix: "add a start".to_owned() });
    }
    for other in starts {
        let message = format!("{} {:?} is a second start", other.id, other.name);
        found.push(problem("several_starts", other.id, message, "keep one start"));
    }
}

fn edges_join_known_nodes(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for edge in &view.parts.edges {
        for (end, unknown) in [("from", edge.from), ("to", edge.to)] {
            if !view.by_id.contains_key(&unknown) {
                let message = format!(
                    "the link {} -{}-> {} leads {end} a node that does not exist",
                    edge.from, edge.exit, edge.to
                );
                found.push(problem("unknown_node", unknown, message, "link nodes of this flow, or remove the link"));
            }
        }
    }
}

fn exits_are_known_and_used_once(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let mut used: BTreeSet<(NodeId, &Exit)> = BTreeSet::new();
    for edge in &view.parts.edges {
        let Some(node) = view.by_id.get(&edge.from) else {
            continue;
        };
        let mut exits = node.kind.exits();
        exits.extend(node.kind.optional_exits());
        if !exits.contains(&edge.exit) {
            let kind = node.kind.name();
            let message = format!("{} {:?} is a {kind} and has no exit {:?}", node.id, node.name, edge.exit.name());
            let names: Vec<&str> = exits.iter().map(Exit::name).collect();
            let fix = if names.is_empty() { "remove the link".to_owned() } else { format!("use {}", names.join(", ")) };
            found.push(problem("unknown_exit", node.id, message, fix));
        } else if !used.insert((edge.from, &edge.exit)) {
            let message = format!("exit {:?} of {} {:?} leads to two places", edge.exit.name(), node.id, node.name);
            found.push(problem("exit_used_twice", node.id, message, "keep one link, or put a split there"));
        }
    }
}

fn exits_lead_somewhere(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let linked: BTreeSet<(NodeId, &Exit)> = view.parts.edges.iter().map(|e| (e.from, &e.exit)).collect();
    for node in view.by_id.values() {
        for exit in node.kind.exits() {
            if !linked.contains(&(node.id, &exit)) {
                let message = format!("exit {:?} of {} {:?} leads nowhere", exit.name(), node.id, node.name);
                found.push(problem("dangling_exit", node.id, message, "link it to a node, or to an end"));
            }
        }
    }
}

fn nothing_leads_into_a_trigger(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for edge in &view.parts.edges {
        if let Some(node) = view.by_id.get(&edge.to).filter(|n| n.kind.is_trigger()) {
            let message = format!("{} leads into {} {:?}, where rows begin", edge.from, node.id, node.name);
            found.push(problem("link_into_trigger", node.id, message, "link to the node after it"));
        }
    }
}

fn all_is_reachable(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let mut open: Vec<NodeId> = view.by_id.values().filter(|n| n.kind.is_trigger()).map(|n| n.id).collect();
    if open.is_empty() {
        return;
    }
    let mut reached: BTreeSet<NodeId> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        open.extend(view.next.get(&id).into_iter().flatten().copied().filter(|to| reached.insert(*to)));
    }
    for node in view.by_id.values().filter(|n| !reached.contains(&n.id)) {
        let message = format!("no way leads from the start to {} {:?}", node.id, node.name);
        found.push(problem("unreachable", node.id, message, "link it, or remove it"));
    }
}

/// Takes nodes away in topological order (Kahn 1962), without the links out of waits; what is left lies on or behind a
/// cycle, and of that the nodes that can reach themselves are named.
fn no_cycle_without_a_wait(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let at_once = |id: NodeId| -> &[NodeId] {
        match view.by_id.get(&id) {
            Some(node) if !node.kind.waits() => view.next.get(&id).map_or(&[], Vec::as_slice),
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
            let message = format!(
                "{id} is the {here}th node in a row without a wait, and {} is the most",
                limits::FLOW_DEPTH_MAX
            );
            found.push(problem("too_deep", id, message, "put a wait before it, or shorten the path"));
        }
    }
    let left: BTreeSet<NodeId> = incoming.keys().copied().collect();
    for id in left.iter().filter(|id| reaches_itself(**id, &left, &at_once)) {
        let name = view.by_id.get(id).map_or("", |n| &n.name);
        let message = format!("{id} {name:?} lies on a cycle without a wait");
        found.push(problem("cycle_without_wait", *id, message, "put a wait on the cycle, or end it"));
    }
}

/// An implicit end keeps its id when a graph is read back; any other node must stay below.
fn ids_are_not_reserved(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for node in view.by_id.values().filter(|n| n.id.is_implicit()) {
        if !matches!(node.kind, NodeKind::End { .. }) {
            let message = format!("{} {:?} has an id that is kept for implicit ends", node.id, node.name);
            found.push(problem("reserved_id", node.id, message, "use an id below 2147483648"));
        }
    }
}

fn parameters_are_sound(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for node in view.by_id.values() {
        for fault in node.kind.faults() {
            let message = format!("{} {:?}: {}", node.id, node.name, fault.message);
            found.push(problem(fault.code, node.id, message, fault.fix));
        }
    }
}

fn asks_about_what_was_sent(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let sends: BTreeSet<NodeId> = view.by_id.values().filter(|n| n.kind.name() == "send").map(|n| n.id).collect();
    for node in view.by_id.values().filter(|n| n.kind.needs_a_send()) {
        let before: BTreeSet<NodeId> = sends.iter().copied().filter(|send| reaches(view, *send, node.id)).collect();
        match node.kind.asks_about() {
            Some(send) if !sends.contains(&send) => {
                let message = format!("{} {:?} asks about {send}, which is no send", node.id, node.name);
                found.push(problem("asks_about_no_send", node.id, message, "name a send of this flow"));
            }
            Some(send) if !before.contains(&send) => {
                let message = format!("{} {:?} asks about {send}, which comes after it", node.id, node.name);
                found.push(problem("asks_before_the_send", node.id, message, "put it behind the send"));
            }
            None if before.is_empty() => {
                let message = format!("{} {:?} asks what came back, and nothing is sent before it", node.id, node.name);
                found.push(problem("nothing_sent_yet", node.id, message, "put it behind a send"));
            }
            _ => {}
        }
    }
}

fn reaches(view: &View<'_>, from: NodeId, to: NodeId) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in view.next.get(&at).into_iter().flatten() {
            if *next == to {
                return true;
            }
            if seen.insert(*next) {
                open.push(*next);
            }
        }
    }
    false
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::graph::tests::single;
    use super::super::graph::{Edge, EndKind, Graph};
    use super::*;

    fn codes(parts: &GraphParts) -> Vec<(&'static str, Option<u32>)> {
        problems(parts).into_iter().map(|p| (p.code, p.node.map(|n| n.0))).collect()
    }

    fn edge(from: u32, to: u32) -> Edge {
        Edge { from: NodeId(from), exit: Exit::NEXT, to: NodeId(to) }
    }

    fn send(id: u32) -> Node {
        Node { id: NodeId(id), name: format!("send {id}"), kind: NodeKind::send(0, 0) }
    }

    type Break = fn(&mut GraphParts);
    type Codes = &'static [(&'static str, Option<u32>)];

    const BROKEN: &[(&str, Break, Codes)] = &[
        ("nothing", |_| (), &[]),
        ("two nodes of one id", |p| p.nodes.push(p.nodes[2].clone()), &[("duplicate_node", Some(2))]),
        ("empty", |p| *p = GraphParts::default(), &[("no_start", None)]),
        (
            "two starts",
            |p| {
                p.nodes.push(Node { id: NodeId(3), name: "again".into(), kind: NodeKind::Start });
                p.edges.push(edge(3, 1));
            },
            &[("several_starts", Some(3))],
        ),
        ("edge to nobody", |p| p.edges[1].to = NodeId(9), &[("unknown_node", Some(9)), ("unreachable", Some(2))]),
        ("edge from nobody", |p| p.edges.push(edge(7, 2)), &[("unknown_node", Some(7))]),
        (
            "exit of an end",
            |p| p.edges.push(edge(2, 1)),
            &[("unknown_exit", Some(2)), ("cycle_without_wait", Some(1)), ("cycle_without_wait", Some(2))],
        ),
        (
            "exit of another name",
            |p| p.edges[1].exit = Exit("later".into()),
            &[("unknown_exit", Some(1)), ("dangling_exit", Some(1))],
        ),
        ("exit used twice", |p| p.edges.push(edge(0, 2)), &[("exit_used_twice", Some(0))]),
        ("dangling", |p| drop(p.edges.pop()), &[("dangling_exit", Some(1)), ("unreachable", Some(2))]),
        (
            "into the start",
            |p| p.edges[1].to = NodeId(0),
            &[
                ("link_into_trigger", Some(0)),
                ("unreachable", Some(2)),
                ("cycle_without_wait", Some(0)),
                ("cycle_without_wait", Some(1)),
            ],
        ),
        (
            "a send that loops",
            |p| p.edges[1].to = NodeId(1),
            &[("unreachable", Some(2)), ("cycle_without_wait", Some(1))],
        ),
    ];

    #[test]
    fn each_rule_has_its_code_and_names_the_node() {
        for (name, break_it, expected) in BROKEN {
            let mut parts = single();
            break_it(&mut parts);
            assert_eq!(codes(&parts), *expected, "{name}");
            assert_eq!(Graph::new(parts).is_ok(), expected.is_empty(), "{name}: a graph exists only if it is valid");
        }
    }

    #[test]
    fn what_lies_behind_a_cycle_is_not_called_a_cycle() {
        let mut parts = single();
        parts.nodes.push(send(3));
        parts.edges = vec![edge(0, 1), edge(1, 3), edge(3, 1)];
        assert_eq!(
            codes(&parts),
            [("unreachable", Some(2)), ("cycle_without_wait", Some(1)), ("cycle_without_wait", Some(3))]
        );
    }

    #[test]
    fn a_graph_is_bounded_in_nodes_links_and_depth() {
        let chain = |nodes: u32| {
            let mut parts = GraphParts::default();
            parts.node(NodeId(0), "start", NodeKind::Start);
            parts.nodes.extend((1..nodes - 1).map(send));
            parts.node(NodeId(nodes - 1), "end", NodeKind::End { kind: EndKind::Success });
            parts.edges.extend((1..nodes).map(|to| edge(to - 1, to)));
            parts
        };
        let deep = u32::try_from(limits::FLOW_DEPTH_MAX).expect("small");
        assert_eq!(codes(&chain(deep)), [], "as deep as may be");
        assert_eq!(codes(&chain(deep + 5)), [("too_deep", Some(deep))], "one refusal, at the first node too deep");
        let many = u32::try_from(limits::FLOW_NODES_MAX).expect("small");
        assert_eq!(codes(&chain(many + 1)), [("too_many_nodes", None)], "nodes");
        let mut parts = single();
        parts.edges.resize(limits::FLOW_EDGES_MAX + 1, edge(0, 1));
        assert_eq!(codes(&parts), [("too_many_edges", None)], "links");
    }

    #[test]
    fn every_problem_says_what_to_do() {
        let mut parts = single();
        parts.edges = vec![edge(1, 0), edge(2, 9)];
        for problem in problems(&parts) {
            assert!(!problem.message.is_empty() && !problem.fix.is_empty(), "{problem:?}");
        }
    }

    proptest! {
        #[test]
        fn any_parts_at_all_are_judged_without_a_panic(
            nodes in proptest::collection::vec((0u32..8, 0u8..3), 0..10),
            edges in proptest::collection::vec((0u32..9, 0u32..9, prop::bool::ANY), 0..14),
        ) {
            let mut parts = GraphParts::default();
            for (id, kind) in nodes {
                let kind = match kind {
                    0 => NodeKind::Start,
                    1 => NodeKind::send(0, 0),
                    _ => NodeKind::End { kind: EndKind::Neutral },
                };
                parts.node(NodeId(id), "x", kind);
            }
            for (from, to, known) in edges {
                parts.edge(NodeId(from), if known { Exit::NEXT } else { Exit("other".into()) }, NodeId(to));
            }
            let found = problems(&parts);
            prop_assert_eq!(Graph::new(parts).is_ok(), found.is_empty(), "valid exactly if no rule is broken");
        }
    }
}
