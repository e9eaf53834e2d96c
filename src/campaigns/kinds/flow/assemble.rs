//! From `[[nodes]]` to the parts of a graph: each node by its kind, each link by its name.

use std::collections::{BTreeMap, BTreeSet};

use super::{ab_test, condition, delay, end, ids, note, send, split};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::gaps;
use crate::campaigns::faults;
use crate::campaigns::spec::{CampaignSpec, MessageFields, NodeSpec};
use crate::campaigns::suggest::{did_you_mean, nearest};
use crate::campaigns::validate::{Problem, Severity};
use crate::clock::Timestamp;
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
    /// What of it is not sent by then is skipped, whatever the campaign says.
    pub until: Option<Timestamp>,
}

/// What the nodes of a spec make.
#[derive(Default)]
pub(super) struct Assembled {
    pub parts: GraphParts,
    pub sends: Vec<SendNode>,
    /// Place of the node, path of the text, and the text.
    pub expressions: Vec<(usize, String, String)>,
    /// Nodes whose keys are wrong: they stand in the graph as the nearest thing, for their links.
    pub gaps: BTreeSet<NodeId>,
    /// Nodes with a link that leads nowhere known.
    pub broken: BTreeSet<NodeId>,
    /// Whether the kind, or the id, of a node is not known, so that ways may be missing.
    pub is_torn: bool,
    /// Where links lead that are written anywhere.
    pub mentioned: BTreeSet<NodeId>,
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

    /// The keys of the kind; nothing, if one that means something cannot be read.
    pub fn read<P: DeserializeOwned>(&mut self) -> Option<P> {
        self.read_from(&self.node.fields.clone(), "")
    }

    /// Keys that stand at a place within the node.
    pub fn read_from<P: DeserializeOwned>(&mut self, fields: &MessageFields, place: &str) -> Option<P> {
        let (read, is_whole) = self.read_partly(fields, place);
        read.filter(|_| is_whole)
    }

    /// Keys as far as they can be read, and whether that is all that means something.
    pub fn read_partly<P: DeserializeOwned>(&mut self, fields: &MessageFields, place: &str) -> (Option<P>, bool) {
        let read = faults::read::<P>(Value::Object(fields.clone()), |_| None);
        for fault in read.faults {
            let key = [place, fault.path.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            self.refuse(fault.code, &key.join("."), fault.message, fault.fix);
        }
        (read.value, read.left_out.keys().is_empty())
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

    /// What the node would be if it were written as it is meant.
    pub fn kind(&self) -> &str {
        let written = self.node.kind.as_deref().unwrap_or_default();
        nearest(written, KINDS).unwrap_or(written)
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
        let id = identify(at, node, &mut made, found);
        let mut context = Context { at, node, spec, found: &mut *found };
        match id {
            Some(id) => add(&mut context, id, &mut made),
            None => {
                // Its keys are looked at all the same; nothing of it gets into the graph.
                let mut aside = Assembled::default();
                add(&mut context, ids::of_text(""), &mut aside);
                made.expressions.append(&mut aside.expressions);
                made.is_torn = true;
            }
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
    let kind = context.kind().to_owned();
    told_kind(context);
    let is_known = KINDS.contains(&kind.as_str());
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
        _ => None,
    };
    if is_known && context.node.message != Default::default() {
        let message = format!("a {kind} sends nothing");
        context.refuse("wrong_key", "message", message, "put the message into a send");
    }
    let kind = made_kind.unwrap_or_else(|| {
        made.gaps.insert(id);
        made.is_torn |= !is_known;
        gaps::stand_in(&kind, context.node)
    });
    made.parts.node(id, name_of(context.node), kind);
}

/// Tells a kind that is missing, or none.
fn told_kind(context: &mut Context<'_>) {
    let fix = format!("set it to one of: {}", KINDS.join(", "));
    match context.node.kind.as_deref().unwrap_or_default() {
        "" => context.refuse("no_kind", "kind", "the node has no kind", fix),
        known if KINDS.contains(&known) => {}
        other => {
            let near = did_you_mean(other, KINDS);
            context.refuse("unknown_kind", "kind", format!("there is no kind of node {other:?}{near}"), fix);
        }
    }
}

/// For people: the name, or the id.
pub(super) fn name_of(node: &NodeSpec) -> String {
    node.name.clone().or_else(|| node.id.clone()).unwrap_or_default()
}

/// The links out of a node.
fn link(context: &mut Context<'_>, made: &mut Assembled) {
    let own = context.node.id.as_deref().map(ids::of_text).filter(|id| made.place(*id) == Some(context.at));
    let then = context.node.then.clone().map(|to| target(context, "then", &to));
    let exits: Vec<(String, Option<NodeId>)> = context
        .node
        .exits
        .clone()
        .into_iter()
        .map(|(exit, to)| {
            let to = target(context, &format!("exits.{exit}"), &to);
            (exit, to)
        })
        .collect();
    made.mentioned.extend(then.iter().flatten().chain(exits.iter().filter_map(|(_, to)| to.as_ref())));
    let Some(from) = own else { return };
    if then == Some(None) || exits.iter().any(|(_, to)| to.is_none()) {
        made.broken.extend([from, send::wait_of(context.node)]);
    }
    if then.is_some() && !next_is_there(context, from, made) {
        made.broken.insert(from);
    } else if let Some(Some(to)) = then {
        made.parts.edge(from, Exit::NEXT, to);
    }
    // A send that waits for an open has the exits of its wait.
    let wait = send::wait_of(context.node);
    let waits = made.parts.nodes.iter().any(|node| node.id == wait);
    for (exit, to) in exits {
        let Some(to) = to else { continue };
        match exit.as_str() {
            "opened" if waits => made.parts.edge(wait, HAPPENED, to),
            "not_opened" if waits => made.parts.edge(wait, TIMED_OUT, to),
            _ => made.parts.edge(from, Exit(exit.into()), to),
        }
    }
}

/// Whether a node has the single way out that `then` means; told, if not.
fn next_is_there(context: &mut Context<'_>, from: NodeId, made: &Assembled) -> bool {
    let wait = send::wait_of(context.node);
    let waits = made.parts.nodes.iter().any(|node| node.id == wait);
    let kind = made.parts.nodes.iter().find(|node| node.id == from).map(|node| node.kind.clone());
    let Some(kind) = kind.filter(|kind| waits || !kind.exits().contains(&Exit::NEXT)) else { return true };
    let mut exits: Vec<Exit> = kind.exits();
    exits.extend(kind.optional_exits());
    let names: Vec<&str> = if waits { send::WAITING_EXITS.to_vec() } else { exits.iter().map(Exit::name).collect() };
    // What its exits are called is not known of a node whose keys are wrong.
    if !made.gaps.contains(&from) {
        let message = format!("a {} has no single way out that then could mean", kind.name());
        let fix = match names.is_empty() {
            true => "remove then".to_owned(),
            false => format!("set exits = {{ … }} for: {}", names.join(", ")),
        };
        context.refuse("no_next", "then", message, fix);
    }
    false
}

/// The node that a link leads to, or is meant to. A note is found too: that nothing leads to one is a rule of the graph.
fn target(context: &mut Context<'_>, key: &str, id: &str) -> Option<NodeId> {
    let known: Vec<&str> = context.spec.nodes.iter().filter_map(|node| node.id.as_deref()).collect();
    if known.contains(&id) {
        return Some(ids::of_text(id));
    }
    let near = nearest(id, known.iter().copied());
    let hint = did_you_mean(id, near);
    let message = format!("it leads to {id:?}, and no node has this id{hint}");
    context.refuse("unknown_node", key, message, "link to a node of this flow");
    near.map(ids::of_text)
}

/// The wait for an open that stands behind a send.
pub(super) fn wait_for_open(send: NodeId, seconds: u32) -> NodeKind {
    NodeKind::Delay(Delay::Event { event: WaitEvent::Opened(send), seconds })
}
