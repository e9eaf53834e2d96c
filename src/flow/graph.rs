//! The graph of a flow: nodes with stable ids, named exits, edges.
//!
//! Invariants:
//! 1. A [`Graph`] has passed every rule of [`super::validate`]; there is no other way to make one, reading it back
//!    included.
//! 2. A node's id never changes between versions of a campaign and is never given to another node.
//! 3. A node has at most one edge per exit; several edges may lead into a node (branches merge).
//!
//! 4. An optional exit without an edge leads to an end of its own, made here with an id that follows from node and exit, so
//!    that graph and report show where its rows went.
//!
//! A new kind of node is one more [`NodeKind`], whose exits, entries and waits are answered here (by its file in `nodes`)
//! and nowhere else; the rules and the moves read only those answers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::nodes::{AbTest, Condition, Delay, Fault, Note, SetAttribute, Split, StepGate, Test, ab_test, condition};
use super::validate::{self, GraphProblem};

/// Names a node within its campaign, over all versions of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Names one of a node's ways out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exit(pub Cow<'static, str>);

impl Exit {
    /// The only exit of a node that does not decide.
    pub const NEXT: Exit = Exit(Cow::Borrowed("next"));
    /// Of a send: rows whose outcome is anything but accepted, when they don't go on with the others.
    pub const UNDELIVERED: Exit = Exit(Cow::Borrowed("undelivered"));

    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an end says about the contacts that reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndKind {
    Success,
    Abandon,
    Failure,
    Neutral,
    /// Contacts leave the flow without having come to any of its ends.
    Exit,
}

impl EndKind {
    pub fn name(self) -> &'static str {
        match self {
            EndKind::Success => "success",
            EndKind::Abandon => "abandon",
            EndKind::Failure => "failure",
            EndKind::Neutral => "neutral",
            EndKind::Exit => "exit",
        }
    }
}

/// What a node does with the rows that reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Where the audience enters, all at once.
    Start,
    /// Rows stay until their outcome in `delivery` is final, whatever it is.
    Send {
        /// Index of the delivery within the run.
        delivery: u16,
        /// The run's message that is sent.
        message: u16,
        /// Whether rows that were not accepted leave by an exit of their own.
        #[serde(default)]
        parts_undelivered: bool,
    },
    /// A sample goes to the arms, the rest waits for the winner.
    AbTest(AbTest),
    /// Sorts by shares, numbers or segments, at once.
    Split(Split),
    /// Sorts into true and false, at once.
    Condition(Condition),
    /// Rows rest until their time, or until something happens.
    Delay(Delay),
    /// Rows rest until the step of a sequence starts.
    Step(StepGate),
    /// A field of the contacts gets a value, at once.
    SetAttribute(SetAttribute),
    /// Rows stay for good.
    End { kind: EndKind },
}

impl NodeKind {
    pub fn name(&self) -> &'static str {
        match self {
            NodeKind::Start => "start",
            NodeKind::Send { .. } => "send",
            NodeKind::AbTest(_) => "ab_test",
            NodeKind::Split(_) => "split",
            NodeKind::Condition(_) => "condition",
            NodeKind::Delay(_) => "delay",
            NodeKind::Step(_) => "step",
            NodeKind::SetAttribute(_) => "set_attribute",
            NodeKind::End { .. } => "end",
        }
    }

    /// A send of a delivery that goes on the same way whatever the outcome is.
    pub fn send(delivery: u16, message: u16) -> NodeKind {
        NodeKind::Send { delivery, message, parts_undelivered: false }
    }

    /// The ways out that must each have an edge.
    pub fn exits(&self) -> Vec<Exit> {
        match self {
            NodeKind::Start | NodeKind::Send { .. } | NodeKind::Step(_) | NodeKind::SetAttribute(_) => vec![Exit::NEXT],
            NodeKind::AbTest(test) => test.exits(),
            NodeKind::Split(split) => split.exits(),
            NodeKind::Condition(_) => vec![condition::TRUE],
            NodeKind::Delay(delay) => delay.exits(),
            NodeKind::End { .. } => Vec::new(),
        }
    }

    /// The ways out that lead to an end of their own when they have no edge.
    pub fn optional_exits(&self) -> Vec<Exit> {
        match self {
            NodeKind::Send { parts_undelivered: true, .. } => vec![Exit::UNDELIVERED],
            NodeKind::AbTest(_) => vec![ab_test::REST],
            NodeKind::Split(split) => split.optional_exits(),
            NodeKind::Condition(_) => vec![condition::FALSE],
            NodeKind::Delay(delay) => delay.optional_exits(),
            NodeKind::Start
            | NodeKind::Send { .. }
            | NodeKind::Step(_)
            | NodeKind::SetAttribute(_)
            | NodeKind::End { .. } => Vec::new(),
        }
    }

    /// What is wrong with the node's own parameters.
    pub fn faults(&self) -> Vec<Fault> {
        match self {
            NodeKind::AbTest(test) => test.faults(),
            NodeKind::Split(split) => split.faults(),
            NodeKind::Condition(condition) => condition.faults(),
            NodeKind::Delay(delay) => delay.faults(),
            NodeKind::SetAttribute(set) => set.faults(),
            NodeKind::Start | NodeKind::Send { .. } | NodeKind::Step(_) | NodeKind::End { .. } => Vec::new(),
        }
    }

    /// What the node asks of each contact, once.
    pub fn tests(&self) -> Vec<&Test> {
        match self {
            NodeKind::Condition(condition) => vec![&condition.test],
            NodeKind::Split(split) => split.tests().collect(),
            _ => Vec::new(),
        }
    }

    /// The sends whose messages the node asks about; they must stand before it on the path.
    pub fn asks_about(&self) -> Vec<NodeId> {
        match self {
            NodeKind::Delay(Delay::Event { event, .. }) => event.send().into_iter().collect(),
            _ => self.tests().into_iter().filter_map(Test::send).collect(),
        }
    }

    /// Makes no sense before a send or a delay on the path.
    pub fn needs_a_send(&self) -> bool {
        self.tests().into_iter().any(Test::needs_a_send) || !self.asks_about().is_empty()
    }

    /// Whether contacts come to rest here until something outside the flow happens: an outcome, a time, a decision.
    pub fn rests(&self) -> bool {
        match self {
            NodeKind::Send { .. } | NodeKind::Delay(_) | NodeKind::Step(_) | NodeKind::AbTest(_) => true,
            NodeKind::Start
            | NodeKind::Split(_)
            | NodeKind::Condition(_)
            | NodeKind::SetAttribute(_)
            | NodeKind::End { .. } => false,
        }
    }

    /// Whether rows begin here; nothing may lead into such a node.
    pub fn is_trigger(&self) -> bool {
        matches!(self, NodeKind::Start)
    }

    /// Whether rows pass through at once by [`Exit::NEXT`] instead of resting here.
    pub fn passes(&self) -> bool {
        matches!(self, NodeKind::Start)
    }

    /// Whether time must pass between a row's arrival and its departure; only such a node may close a cycle. A send is
    /// none: its outcome may be final at once, and a cycle of sends would mail without pause. An end in a test's sample is
    /// none either: its arms leave at once.
    pub fn waits(&self) -> bool {
        match self {
            NodeKind::Delay(delay) => delay.always_waits(),
            NodeKind::Step(_) => true,
            NodeKind::Start
            | NodeKind::Send { .. }
            | NodeKind::AbTest(_)
            | NodeKind::Split(_)
            | NodeKind::Condition(_)
            | NodeKind::SetAttribute(_)
            | NodeKind::End { .. } => false,
        }
    }
}

/// Ids from here on are of ends that optional exits lead to.
pub const IMPLICIT_END_FIRST: u32 = 1 << 31;
/// Optional exits that a node can have.
const OPTIONAL_EXITS_MAX: u32 = 4;

impl NodeId {
    /// The end of an optional exit that nobody linked.
    fn implicit_end(self, at: usize) -> NodeId {
        NodeId(IMPLICIT_END_FIRST + self.0 * OPTIONAL_EXITS_MAX + u32::try_from(at).unwrap_or(0))
    }

    pub fn is_implicit(self) -> bool {
        self.0 >= IMPLICIT_END_FIRST
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    /// For people: what graph, report and refusals call it.
    pub name: String,
    pub kind: NodeKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub from: NodeId,
    pub exit: Exit,
    pub to: NodeId,
}

/// A graph as written, not yet held against the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphParts {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    /// Ids that people gave, for flows that were written by hand: journaled with the run, so that its nodes keep them.
    #[serde(default)]
    pub keys: BTreeMap<NodeId, String>,
    #[serde(default)]
    pub notes: Vec<Note>,
    /// Sends of one message in several languages: beside the send that is asked about, the others.
    #[serde(default)]
    pub languages: BTreeMap<NodeId, Vec<NodeId>>,
}

impl GraphParts {
    pub fn node(&mut self, id: NodeId, name: impl Into<String>, kind: NodeKind) -> NodeId {
        self.nodes.push(Node { id, name: name.into(), kind });
        id
    }

    pub fn edge(&mut self, from: NodeId, exit: Exit, to: NodeId) {
        self.edges.push(Edge { from, exit, to });
    }

    /// What people call a node: the id that they gave it, or its number and name.
    pub fn called(&self, id: NodeId) -> String {
        if let Some(key) = self.keys.get(&id) {
            return format!("{key:?}");
        }
        match self.nodes.iter().find(|node| node.id == id) {
            Some(node) => format!("{id} {:?}", node.name),
            None => id.to_string(),
        }
    }

    /// Gives each optional exit without an edge a neutral end of its own.
    fn end_what_dangles(&mut self) {
        let mut ends = Vec::new();
        for node in &self.nodes {
            for (at, exit) in node.kind.optional_exits().into_iter().enumerate() {
                if !self.edges.iter().any(|e| e.from == node.id && e.exit == exit) {
                    ends.push((node.id, node.name.clone(), exit, node.id.implicit_end(at)));
                }
            }
        }
        for (from, name, exit, end) in ends {
            self.node(end, format!("{name}: {exit}"), NodeKind::End { kind: EndKind::Neutral });
            if let Some(key) = self.keys.get(&from) {
                self.keys.insert(end, format!("{key}.{exit}"));
            }
            self.edge(from, exit, end);
        }
    }
}

/// A valid graph. Serialises as its [`GraphParts`], in order of ids, so that equal graphs have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "GraphParts", try_from = "GraphParts")]
pub struct Graph {
    nodes: BTreeMap<NodeId, Node>,
    edges: BTreeMap<(NodeId, Exit), NodeId>,
    start: NodeId,
    keys: BTreeMap<NodeId, String>,
    notes: Vec<Note>,
    /// By the send of the default language: see [`super::versions`].
    pub(super) languages: BTreeMap<NodeId, Vec<NodeId>>,
}

/// The rules that a graph breaks, all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the flow is not valid: {}", join(.0))]
pub struct InvalidGraph(pub Vec<GraphProblem>);

fn join(problems: &[GraphProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Graph {
    /// Errors: every broken rule, by node.
    pub fn new(mut parts: GraphParts) -> Result<Graph, InvalidGraph> {
        let problems = validate::problems(&parts);
        if problems.is_empty() {
            parts.end_what_dangles();
        }
        let start = parts.nodes.iter().find(|n| n.kind.is_trigger()).map(|n| n.id);
        match start {
            Some(start) if problems.is_empty() => Ok(Graph {
                nodes: parts.nodes.into_iter().map(|n| (n.id, n)).collect(),
                edges: parts.edges.into_iter().map(|e| ((e.from, e.exit), e.to)).collect(),
                start,
                keys: parts.keys,
                notes: parts.notes,
                languages: parts.languages,
            }),
            _ => Err(InvalidGraph(problems)),
        }
    }

    /// Where the audience enters.
    pub fn start(&self) -> NodeId {
        self.start
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// In order of ids.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The id that a person gave a node, or its number.
    pub fn key(&self, id: NodeId) -> String {
        self.keys.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The node of an id that a person gave, or of a number such as `n10`.
    pub fn find(&self, key: &str) -> Option<NodeId> {
        self.nodes.keys().copied().find(|id| self.key(*id) == key)
    }

    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Every node: in order of ids, or, where people gave the ids, as contacts come to them.
    pub fn in_reading_order(&self) -> Vec<&Node> {
        if self.keys.is_empty() {
            return self.nodes().collect();
        }
        let mut seen = BTreeSet::from([self.start]);
        let mut order = vec![self.start];
        let mut at = 0;
        while let Some(id) = order.get(at).copied() {
            at += 1;
            order.extend(self.exits_of(id).map(|(_, to)| to).filter(|to| seen.insert(*to)).collect::<Vec<_>>());
        }
        order.into_iter().filter_map(|id| self.node(id)).collect()
    }

    /// The ways out of a node and where they lead, in order of the exits' names.
    pub fn exits_of(&self, id: NodeId) -> impl Iterator<Item = (&Exit, NodeId)> {
        let from_here = self.edges.range((id, Exit(Cow::Borrowed("")))..).take_while(move |((from, _), _)| *from == id);
        from_here.map(|((_, exit), to)| (exit, *to))
    }

    /// Whether all contacts of a node come to it at once: no way from the start to it has a node at which they rest.
    pub fn arrives_whole(&self, id: NodeId) -> bool {
        let resting = self.nodes.values().filter(|node| node.kind.rests());
        !resting.flat_map(|node| self.exits_of(node.id)).any(|(_, to)| self.reachable(to).contains(&id))
    }

    /// In order of node and exit.
    pub fn edges(&self) -> impl Iterator<Item = (NodeId, &Exit, NodeId)> {
        self.edges.iter().map(|((from, exit), to)| (*from, exit, *to))
    }

    /// Where an exit of a node leads.
    pub fn target(&self, from: NodeId, exit: &Exit) -> Option<NodeId> {
        self.edges.get(&(from, exit.clone())).copied()
    }

    /// Every node that can be reached from `first`, itself included.
    pub fn reachable(&self, first: NodeId) -> BTreeSet<NodeId> {
        let mut reached = BTreeSet::from([first]);
        let mut open = vec![first];
        while let Some(id) = open.pop() {
            open.extend(self.exits_of(id).map(|(_, to)| to).filter(|to| reached.insert(*to)).collect::<Vec<_>>());
        }
        reached
    }

    /// Every node from which `last` can be reached, without itself.
    pub fn upstream(&self, last: NodeId) -> BTreeSet<NodeId> {
        let mut before: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        self.edges.iter().for_each(|((from, _), to)| before.entry(*to).or_default().push(*from));
        let mut found = BTreeSet::new();
        let mut open = vec![last];
        while let Some(id) = open.pop() {
            let before = before.get(&id).into_iter().flatten().copied();
            open.extend(before.filter(|from| *from != last && found.insert(*from)));
        }
        found
    }

    /// The send nodes of one branch: those that are reached by this exit of a node and by no other of its exits.
    pub fn sends_of_branch(&self, node: NodeId, exit: &Exit) -> Vec<NodeId> {
        let Some(first) = self.target(node, exit) else { return Vec::new() };
        let others = self.edges().filter(|(from, other, _)| *from == node && *other != exit);
        let shared: BTreeSet<NodeId> = others.flat_map(|(_, _, to)| self.reachable(to)).collect();
        let own = self.reachable(first);
        let sends = own.difference(&shared).filter(|id| self.node(**id).is_some_and(|n| n.kind.name() == "send"));
        sends.copied().collect()
    }

    /// The send nodes of one delivery, in order of ids.
    pub fn sends_of(&self, delivery: u16) -> impl Iterator<Item = NodeId> {
        self.nodes()
            .filter(move |n| matches!(n.kind, NodeKind::Send { delivery: d, .. } if d == delivery))
            .map(|n| n.id)
    }
}

impl From<Graph> for GraphParts {
    fn from(graph: Graph) -> GraphParts {
        GraphParts {
            nodes: graph.nodes.into_values().collect(),
            edges: graph.edges.into_iter().map(|((from, exit), to)| Edge { from, exit, to }).collect(),
            keys: graph.keys,
            notes: graph.notes,
            languages: graph.languages,
        }
    }
}

impl TryFrom<GraphParts> for Graph {
    type Error = InvalidGraph;

    fn try_from(parts: GraphParts) -> Result<Graph, InvalidGraph> {
        Graph::new(parts)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// start → send → end.
    pub(crate) fn single() -> GraphParts {
        let mut parts = GraphParts::default();
        let start = parts.node(NodeId(0), "start", NodeKind::Start);
        let send = parts.node(NodeId(1), "send", NodeKind::send(0, 0));
        let end = parts.node(NodeId(2), "end", NodeKind::End { kind: EndKind::Neutral });
        parts.edge(start, Exit::NEXT, send);
        parts.edge(send, Exit::NEXT, end);
        parts
    }

    #[test]
    fn a_graph_reads_back_equal_from_json_and_from_message_pack() {
        let graph = Graph::new(single()).expect("valid");
        let json = serde_json::to_string(&graph).expect("to JSON");
        assert_eq!(serde_json::from_str::<Graph>(&json).expect("from JSON"), graph, "JSON");
        let bytes = rmp_serde::to_vec(&graph).expect("to MessagePack");
        assert_eq!(rmp_serde::from_slice::<Graph>(&bytes).expect("from MessagePack"), graph, "MessagePack");
    }

    #[test]
    fn a_stored_graph_that_breaks_a_rule_is_refused_when_read() {
        let mut parts = single();
        parts.edges.pop();
        let json = serde_json::to_string(&parts).expect("to JSON");
        let error = serde_json::from_str::<Graph>(&json).expect_err("a dangling exit").to_string();
        assert!(error.contains("n1") && error.contains("next"), "names the node and the exit: {error}");
    }

    #[test]
    fn order_of_writing_does_not_matter() {
        let mut turned = single();
        turned.nodes.reverse();
        turned.edges.reverse();
        let (one, other) = (Graph::new(single()).expect("valid"), Graph::new(turned).expect("valid"));
        assert_eq!(one, other, "equal");
        assert_eq!(rmp_serde::to_vec(&one).expect("bytes"), rmp_serde::to_vec(&other).expect("bytes"), "equal bytes");
        assert_eq!(one.sends_of(0).collect::<Vec<_>>(), [NodeId(1)], "sends of the delivery");
        assert_eq!(one.sends_of(1).count(), 0, "sends of no delivery");
    }
}
