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
//! | `nothing_sent_yet` | a condition on what came back has a send or a delay before it on every path |
//! | `link_into_note`, `link_from_note`, `too_many_notes` | notes are no part of the way |
//! | the node's own | its parameters, see `nodes` |
//! | *warnings* | |
//! | `asked_at_once` | a message is asked about without a delay since it was sent |
//! | `send_in_a_cycle` | a contact that comes to a send again gets nothing again |
//! | `note_on_nothing` | a note hangs on a node or branch that is not there |
//!
//! Conditions have two exits and every node one entry by construction: several links may end in it, and branches merge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::graph::{Exit, GraphParts, Node, NodeId, NodeKind};
use crate::limits;

mod asks;
mod cycles;
mod notes;
mod streams;

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
    cycles::no_cycle_without_a_wait,
    ids_are_not_reserved,
    parameters_are_sound,
    asks::about_what_was_sent,
    asks::after_something_was_sent,
    notes::nothing_leads_to_a_note,
    notes::notes_are_bounded,
];

/// What stops nothing, and somebody should know.
const WARNINGS: &[Rule] =
    &[asks::in_time, cycles::no_send_comes_round, notes::notes_hang_somewhere, streams::tests_fit_their_contacts];

/// Every rule that the parts break, in the order of the table and of the node ids.
pub fn problems(parts: &GraphParts) -> Vec<GraphProblem> {
    let mut found = Vec::new();
    within(&mut found, "too_many_nodes", "nodes", parts.nodes.len(), limits::FLOW_NODES_MAX);
    within(&mut found, "too_many_edges", "links", parts.edges.len(), limits::FLOW_EDGES_MAX);
    if !found.is_empty() {
        return found;
    }
    judge(parts, RULES, &mut found);
    found
}

/// What is worth knowing about parts that break no rule.
pub fn warnings(parts: &GraphParts) -> Vec<GraphProblem> {
    let mut found = Vec::new();
    judge(parts, WARNINGS, &mut found);
    found
}

fn judge(parts: &GraphParts, rules: &[Rule], found: &mut Vec<GraphProblem>) {
    let by_id: BTreeMap<NodeId, &Node> = parts.nodes.iter().map(|n| (n.id, n)).collect();
    let mut next: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for edge in &parts.edges {
        if by_id.contains_key(&edge.from) && by_id.contains_key(&edge.to) {
            next.entry(edge.from).or_default().push(edge.to);
        }
    }
    let view = View { parts, by_id, next };
    for rule in rules {
        rule(&view, found);
    }
}

impl View<'_> {
    fn called(&self, id: NodeId) -> String {
        self.parts.called(id)
    }

    fn is_note(&self, id: NodeId) -> bool {
        self.parts.notes.iter().any(|note| note.id == id)
    }

    fn next(&self, id: NodeId) -> &[NodeId] {
        self.next.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Nodes that are reached from behind `from`, going on only behind nodes that `through` admits.
    fn behind(&self, from: NodeId, through: impl Fn(&Node) -> bool) -> BTreeSet<NodeId> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for next in self.next(at) {
                if reached.insert(*next) && self.by_id.get(next).is_some_and(|node| through(node)) {
                    open.push(*next);
                }
            }
        }
        reached
    }
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
        let message = format!("{} is a second start", view.called(other.id));
        found.push(problem("several_starts", other.id, message, "keep one start"));
    }
}

fn edges_join_known_nodes(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for edge in &view.parts.edges {
        for (end, unknown) in [("from", edge.from), ("to", edge.to)] {
            if !view.by_id.contains_key(&unknown) && !view.is_note(unknown) {
                let (from, to) = (view.called(edge.from), view.called(edge.to));
                let message = format!("the link {from} -{}-> {to} leads {end} a node that does not exist", edge.exit);
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
            let message = format!("{} is a {kind} and has no exit {:?}", view.called(node.id), edge.exit.name());
            let names: Vec<&str> = exits.iter().map(Exit::name).collect();
            let fix = if names.is_empty() { "remove the link".to_owned() } else { format!("use {}", names.join(", ")) };
            found.push(problem("unknown_exit", node.id, message, fix));
        } else if !used.insert((edge.from, &edge.exit)) {
            let message = format!("exit {:?} of {} leads to two places", edge.exit.name(), view.called(node.id));
            found.push(problem("exit_used_twice", node.id, message, "keep one link, or put a split there"));
        }
    }
}

fn exits_lead_somewhere(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    let linked: BTreeSet<(NodeId, &Exit)> = view.parts.edges.iter().map(|e| (e.from, &e.exit)).collect();
    for node in view.by_id.values() {
        for exit in node.kind.exits() {
            if !linked.contains(&(node.id, &exit)) {
                let message = format!("exit {:?} of {} leads nowhere", exit.name(), view.called(node.id));
                found.push(problem("dangling_exit", node.id, message, "link it to a node, or to an end"));
            }
        }
    }
}

fn nothing_leads_into_a_trigger(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for edge in &view.parts.edges {
        if let Some(node) = view.by_id.get(&edge.to).filter(|n| n.kind.is_trigger()) {
            let (from, into) = (view.called(edge.from), view.called(node.id));
            let message = format!("{from} leads into {into}, where rows begin");
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
        let message = format!("no way leads from the start to {}", view.called(node.id));
        found.push(problem("unreachable", node.id, message, "link it, or remove it"));
    }
}

/// An implicit end keeps its id when a graph is read back; any other node must stay below.
fn ids_are_not_reserved(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for node in view.by_id.values().filter(|n| n.id.is_implicit()) {
        if !matches!(node.kind, NodeKind::End { .. }) {
            let message = format!("{} has an id that is kept for implicit ends", view.called(node.id));
            found.push(problem("reserved_id", node.id, message, "use an id below 2147483648"));
        }
    }
}

fn parameters_are_sound(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for node in view.by_id.values() {
        for fault in node.kind.faults() {
            let message = format!("{}: {}", view.called(node.id), fault.message);
            found.push(problem(fault.code, node.id, message, fault.fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::graph::tests::single;
    use super::super::graph::{Edge, EndKind, Graph};
    use super::super::nodes::condition::{FALSE, TRUE};
    use super::super::nodes::{Condition, Delay, Note, NoteOn, Split, Test};
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

    fn node(id: u32, kind: NodeKind) -> Node {
        Node { id: NodeId(id), name: format!("node {id}"), kind }
    }

    fn asks(id: u32, test: Test) -> Node {
        node(id, NodeKind::Condition(Condition { test }))
    }

    fn exit(from: u32, exit: Exit, to: u32) -> Edge {
        Edge { from: NodeId(from), exit, to: NodeId(to) }
    }

    /// start 0 → send 1 → delay 3 → condition 4 → end 2, both ways.
    fn asking(test: Test) -> GraphParts {
        let mut parts = single();
        parts.nodes.push(node(3, NodeKind::Delay(Delay::Seconds(60))));
        parts.nodes.push(asks(4, test));
        parts.edges = vec![edge(0, 1), edge(1, 3), edge(3, 4), exit(4, TRUE, 2), exit(4, FALSE, 2)];
        parts
    }

    #[test]
    fn what_came_back_is_asked_behind_a_send_or_a_delay_on_every_way() {
        let opened = || asking(Test::Opened(NodeId(1)));
        let mut around = opened();
        // Some contacts come to the question without having been sent anything.
        around.nodes.push(node(5, NodeKind::Split(Split::Weights(vec![(TRUE, 1), (FALSE, 1)]))));
        around.edges[0] = edge(0, 5);
        around.edges.extend([exit(5, TRUE, 1), exit(5, FALSE, 4)]);
        let mut before = opened();
        before.edges = vec![edge(0, 4), edge(1, 3), edge(3, 2), exit(4, TRUE, 1), exit(4, FALSE, 2)];
        let cases: [(&str, GraphParts, Codes); 7] = [
            ("behind the send", opened(), &[]),
            ("of no send", asking(Test::Opened(NodeId(3))), &[("asks_about_no_send", Some(4))]),
            ("of nobody", asking(Test::Delivered(NodeId(9))), &[("asks_about_no_send", Some(4))]),
            ("one way around", around, &[("nothing_sent_yet", Some(4))]),
            ("before", before, &[("asks_before_the_send", Some(4)), ("nothing_sent_yet", Some(4))]),
            ("complaints", asking(Test::Complained), &[]),
            ("the base, anywhere", asking(Test::Matches("age > 3".into())), &[]),
        ];
        for (name, parts, expected) in cases {
            assert_eq!(codes(&parts), expected, "{name}");
        }
        let mut base_first = asking(Test::Matches("age > 3".into()));
        base_first.edges = vec![edge(0, 4), exit(4, TRUE, 1), edge(1, 3), edge(3, 2)];
        assert_eq!(codes(&base_first), [], "the base may be asked before anything is sent");
    }

    #[test]
    fn questions_may_follow_one_another() {
        let mut parts = asking(Test::Opened(NodeId(1)));
        parts.nodes.push(asks(5, Test::Clicked(NodeId(1))));
        parts.edges[3] = exit(4, TRUE, 5);
        parts.edges.push(exit(5, TRUE, 2));
        assert_eq!(codes(&parts), [], "a send before both");
        let split = Split::Interactions(vec![(TRUE, Test::Clicked(NodeId(1))), (FALSE, Test::Complained)]);
        let mut parts = asking(Test::Opened(NodeId(1)));
        parts.nodes[4] = node(4, NodeKind::Split(split));
        assert_eq!(codes(&parts), [], "an engagement split asks the same");
    }

    fn warned(parts: &GraphParts) -> Vec<(&'static str, Option<u32>)> {
        warnings(parts).into_iter().map(|p| (p.code, p.node.map(|n| n.0))).collect()
    }

    #[test]
    fn each_warning_has_its_code_and_stops_nothing() {
        for test in [Test::Delivered(NodeId(1)), Test::Opened(NodeId(1)), Test::Clicked(NodeId(1))] {
            let mut at_once = asking(test.clone());
            assert_eq!(warned(&at_once), [], "a delay stands between: {test:?}");
            at_once.nodes.remove(3);
            at_once.edges = vec![edge(0, 1), edge(1, 4), exit(4, TRUE, 2)];
            assert_eq!(warned(&at_once), [("asked_at_once", Some(4))], "{test:?}");
            assert!(Graph::new(at_once).is_ok(), "it may be started all the same: {test:?}");
        }
        let mut round = asking(Test::Opened(NodeId(1)));
        round.edges[4] = exit(4, FALSE, 1);
        assert_eq!(warned(&round), [("send_in_a_cycle", Some(1))], "once is all they get");
        assert_eq!(codes(&round), [], "a cycle with a delay");
    }

    fn note(id: u32, on: NoteOn) -> Note {
        Note { id: NodeId(id), text: "why".into(), author: "Ann".into(), date: "2026-11-22".into(), on }
    }

    #[test]
    fn notes_are_no_part_of_the_way() {
        let mut parts = single();
        parts.notes = vec![note(7, NoteOn::Node(NodeId(1))), note(8, NoteOn::Branch(NodeId(1), Exit::NEXT))];
        parts.notes.push(note(9, NoteOn::Flow));
        assert_eq!((codes(&parts), warned(&parts)), (vec![], vec![]), "they break no rule");
        let kept = Graph::new(parts.clone()).expect("valid");
        assert_eq!(kept.notes().len(), 3, "and are kept");
        parts.notes.push(note(10, NoteOn::Node(NodeId(99))));
        parts.notes.push(note(11, NoteOn::Branch(NodeId(1), Exit("other".into()))));
        assert_eq!(warned(&parts), [("note_on_nothing", Some(10)), ("note_on_nothing", Some(11))], "warned of");
        parts.edges[1].to = NodeId(7);
        parts.edges.push(Edge { from: NodeId(8), exit: Exit::NEXT, to: NodeId(2) });
        assert_eq!(
            codes(&parts),
            [("unreachable", Some(2)), ("link_into_note", Some(7)), ("link_from_note", Some(8))],
            "no link leads to one or from one"
        );
        let mut long = single();
        long.notes = vec![Note { text: "x".repeat(limits::NOTE_BYTES_MAX + 1), ..note(7, NoteOn::Flow) }];
        assert_eq!(codes(&long), [("long_note", Some(7))], "bounded");
        long.notes = vec![note(7, NoteOn::Flow); limits::FLOW_NOTES_MAX + 1];
        assert_eq!(codes(&long), [("too_many_notes", None)], "in number too");
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
