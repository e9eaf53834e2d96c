//! From `[[nodes]]` to the parts of a graph: each node by its kind, each link by its name.

use std::collections::BTreeMap;

use super::{ab_test, condition, delay, end, ids, note, send, split};
use crate::campaigns::spec::{CampaignSpec, NodeSpec};
use crate::campaigns::suggest::did_you_mean;
use crate::campaigns::validate::{Problem, Severity};
use crate::flow::nodes::delay::{HAPPENED, TIMED_OUT};
use crate::flow::nodes::{Delay, WaitEvent};
use crate::flow::validate::GraphProblem;
use crate::flow::{Exit, GraphParts, NodeId, NodeKind};
use crate::limits;

/// The kinds of nodes that a spec may name.
pub(super) const KINDS: [&str; 9] = ["start", "send", "split", "ab_test", "condition", "delay", "end", "exit", "note"];

/// A send of the flow.
pub(super) struct SendNode {
    /// Its place in the spec.
    pub at: usize,
    pub node: NodeId,
    pub key: String,
    pub name: String,
    /// The delivery that it names; by default its own.
    pub delivery: Option<String>,
    /// Index of its delivery.
    pub index: u16,
}

/// What the nodes of a spec make.
#[derive(Default)]
pub(super) struct Assembled {
    pub parts: GraphParts,
    pub sends: Vec<SendNode>,
    /// Place of the node, path of the text, and the text.
    pub expressions: Vec<(usize, String, String)>,
    /// Place in the spec by node.
    places: BTreeMap<NodeId, usize>,
    keys: BTreeMap<usize, String>,
}

impl Assembled {
    pub fn key_at(&self, at: usize) -> &str {
        self.keys.get(&at).map_or("", String::as_str)
    }

    /// The wait behind a send stands where the send does.
    pub fn wait_at(&mut self, wait: NodeId, at: usize) {
        self.places.insert(wait, at);
    }

    /// Where a node stands in the spec.
    pub fn place(&self, node: NodeId) -> Option<usize> {
        self.places.get(&node).copied()
    }

    /// A broken rule of the graph, with the place where the spec breaks it.
    pub fn problem(&self, problem: GraphProblem, blocks: bool) -> Problem {
        let place = problem.node.and_then(|node| self.place(node));
        let path = place.map_or("nodes".to_owned(), |at| format!("nodes.{at}"));
        let severity = if blocks { Severity::Error } else { Severity::Warning };
        let made = Problem { severity, ..Problem::error(problem.code, path, problem.message, problem.fix) };
        match place {
            Some(at) => made.of_node(self.key_at(at)),
            None => made,
        }
    }
}

/// What a kind's file is given to read a node.
pub(super) struct Context<'s> {
    pub at: usize,
    pub node: &'s NodeSpec,
    pub spec: &'s CampaignSpec,
    pub found: &'s mut Vec<Problem>,
}

impl Context<'_> {
    pub fn refuse(&mut self, code: &'static str, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        let path = if key.is_empty() { format!("nodes.{}", self.at) } else { format!("nodes.{}.{key}", self.at) };
        let id = self.node.id.as_deref().unwrap_or_default();
        self.found.push(Problem::error(code, path, message, fix).of_node(id));
    }

    /// The keys of the kind.
    pub fn read<P: serde::de::DeserializeOwned>(&mut self) -> Option<P> {
        self.read_from(&self.node.fields.clone())
    }

    pub fn read_from<P: serde::de::DeserializeOwned>(
        &mut self,
        fields: &crate::campaigns::spec::MessageFields,
    ) -> Option<P> {
        match super::read(fields) {
            Ok(read) => Some(read),
            Err(message) => {
                self.refuse("bad_node", "", message, "see the keys of this kind of node in the documentation");
                None
            }
        }
    }

    /// A node that a key names; whether it is of the right kind is a rule of the graph.
    pub fn named(&mut self, key: &str, id: Option<&str>) -> Option<NodeId> {
        let Some(id) = id else {
            self.refuse("no_send_named", key, "it asks about no send", "name one by its id, such as of = \"welcome\"");
            return None;
        };
        let known = self.spec.nodes.iter().filter_map(|node| node.id.as_deref());
        if known.clone().any(|other| other == id) {
            return Some(ids::of_text(id));
        }
        let near = did_you_mean(id, known);
        self.refuse("unknown_node", key, format!("no node has the id {id:?}{near}"), "name a node of this flow");
        None
    }

    /// A length of time such as `"30m"`, in seconds.
    pub fn seconds(&mut self, key: &str, text: &str) -> Option<u32> {
        let seconds = crate::campaigns::spec::kinds::seconds(text);
        if seconds.is_none() {
            let message = format!("{text:?} is no length of time");
            self.refuse("bad_length", key, message, "write it as \"30m\", \"4h\", \"2d\" or \"1w\"");
        }
        seconds
    }
}

/// Makes nodes and links of a spec; what cannot be made is told and left out.
pub(super) fn assemble(spec: &CampaignSpec, found: &mut Vec<Problem>) -> Assembled {
    let mut made = Assembled::default();
    if spec.nodes.len() > limits::FLOW_NODES_MAX + limits::FLOW_NOTES_MAX {
        let message = format!("the flow has {} nodes, and {} is the most", spec.nodes.len(), limits::FLOW_NODES_MAX);
        found.push(Problem::error("too_many_nodes", "nodes", message, "use fewer nodes, or several campaigns"));
        return made;
    }
    for (at, node) in spec.nodes.iter().enumerate() {
        if let Some(id) = identify(at, node, &mut made, found) {
            let mut context = Context { at, node, spec, found: &mut *found };
            add(&mut context, id, &mut made);
        }
    }
    for (at, node) in spec.nodes.iter().enumerate() {
        let mut context = Context { at, node, spec, found: &mut *found };
        link(&mut context, &mut made);
    }
    made
}

/// The number of a node, if its id can be one.
fn identify(at: usize, node: &NodeSpec, made: &mut Assembled, found: &mut Vec<Problem>) -> Option<NodeId> {
    let path = format!("nodes.{at}.id");
    let Some(key) = node.id.as_deref().filter(|id| !id.trim().is_empty()) else {
        let fix = "give it an id of its own, by which others link to it";
        found.push(Problem::error("no_node_id", path, "a node has no id", fix));
        return None;
    };
    if key.len() > limits::NAME_BYTES_MAX || key.contains('.') || key.trim() != key {
        let message = format!("{key:?} is no id of a node");
        let fix = format!("use up to {} bytes, without dots, and no space around", limits::NAME_BYTES_MAX);
        found.push(Problem::error("bad_node_id", path, message, fix).of_node(key));
        return None;
    }
    let id = ids::of_text(key);
    if let Some(other) = made.parts.keys.get(&id) {
        let (code, message) = if other == key {
            ("duplicate_node", format!("two nodes have the id {key:?}"))
        } else {
            ("id_collision", format!("the ids {other:?} and {key:?} make the same number"))
        };
        found.push(Problem::error(code, path, message, "give one of them another id").of_node(key));
        return None;
    }
    made.parts.keys.insert(id, key.to_owned());
    made.places.insert(id, at);
    made.keys.insert(at, key.to_owned());
    Some(id)
}

/// The node, by the file of its kind.
fn add(context: &mut Context<'_>, id: NodeId, made: &mut Assembled) {
    let kind = context.node.kind.clone().unwrap_or_default();
    let made_kind = match kind.as_str() {
        "start" => end::start(context),
        "send" => return send::add(context, id, made),
        "split" => split::kind(context, made),
        "ab_test" => ab_test::kind(context),
        "condition" => condition::kind(context, made),
        "delay" => delay::kind(context),
        "end" => end::end(context),
        "exit" => end::exit(context),
        "note" => return note::add(context, id, made),
        "" => {
            context.refuse(
                "no_kind",
                "kind",
                "the node has no kind",
                format!("set it to one of: {}", KINDS.join(", ")),
            );
            None
        }
        other => {
            let near = did_you_mean(other, KINDS);
            let message = format!("there is no kind of node {other:?}{near}");
            context.refuse("unknown_kind", "kind", message, format!("use one of: {}", KINDS.join(", ")));
            None
        }
    };
    if context.node.message != Default::default() {
        let message = format!("a {kind} sends nothing");
        context.refuse("wrong_key", "message", message, "put the message into a send");
    }
    if let Some(kind) = made_kind {
        made.parts.node(id, name_of(context.node), kind);
    }
}

/// For people: the name, or the id.
pub(super) fn name_of(node: &NodeSpec) -> String {
    node.name.clone().or_else(|| node.id.clone()).unwrap_or_default()
}

/// The links out of a node.
fn link(context: &mut Context<'_>, made: &mut Assembled) {
    let Some(from) = context.node.id.as_deref().map(ids::of_text).filter(|id| made.place(*id) == Some(context.at))
    else {
        return;
    };
    let kind = made.parts.nodes.iter().find(|node| node.id == from).map(|node| node.kind.clone());
    // A send that waits for an open has the exits of its wait.
    let wait = send::wait_of(context.node);
    let waits = made.parts.nodes.iter().any(|node| node.id == wait);
    if let Some(to) = context.node.then.clone() {
        let to = target(context, "then", &to);
        let has_next = !waits && kind.as_ref().is_none_or(|kind| kind.exits().contains(&Exit::NEXT));
        if let Some(kind) = kind.as_ref().filter(|_| !has_next) {
            let mut exits: Vec<Exit> = kind.exits();
            exits.extend(kind.optional_exits());
            let names: Vec<&str> =
                if waits { send::WAITING_EXITS.to_vec() } else { exits.iter().map(Exit::name).collect() };
            let message = format!("a {} has no single way out that then could mean", kind.name());
            let fix = match names.is_empty() {
                true => "remove then".to_owned(),
                false => format!("set exits = {{ … }} for: {}", names.join(", ")),
            };
            context.refuse("no_next", "then", message, fix);
        } else if let Some(to) = to {
            made.parts.edge(from, Exit::NEXT, to);
        }
    }
    for (exit, to) in context.node.exits.clone() {
        let Some(to) = target(context, &format!("exits.{exit}"), &to) else { continue };
        match exit.as_str() {
            "opened" if waits => made.parts.edge(wait, HAPPENED, to),
            "not_opened" if waits => made.parts.edge(wait, TIMED_OUT, to),
            _ => made.parts.edge(from, Exit(exit.into()), to),
        }
    }
}

/// The node that a link leads to. A note is found too: that nothing leads to one is a rule of the graph.
fn target(context: &mut Context<'_>, key: &str, id: &str) -> Option<NodeId> {
    let known = context.spec.nodes.iter().filter_map(|node| node.id.as_deref());
    if known.clone().any(|other| other == id) {
        return Some(ids::of_text(id));
    }
    let near = did_you_mean(id, known);
    let message = format!("it leads to {id:?}, and no node has this id{near}");
    context.refuse("unknown_node", key, message, "link to a node of this flow");
    None
}

/// The wait for an open that stands behind a send.
pub(super) fn wait_for_open(send: NodeId, seconds: u32) -> NodeKind {
    NodeKind::Delay(Delay::Event { event: WaitEvent::Opened(send), seconds })
}
