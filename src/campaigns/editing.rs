//! What may still be changed in a campaign that runs or is finished, whatever its kind; sequences have
//! [`super::sequence::locks`].
//!
//! | lock | when | what may be changed |
//! |---|---|---|
//! | executed | a row was claimed for the message, contacts have left the node | nothing; an end behind it may become a node |
//! | current | contacts stand at it, none has gone on | content, length, date, expression; neither moved nor removed |
//! | unreached | nobody has come so far | everything; nodes may be added and removed |
//!
//! Nodes change in flows, and the follow-up of single campaigns and A/B splits; of the others the content does. Contacts who wait
//! already keep the time that they were given.
//!
//! Owns no state: how nodes and messages stand is handed in. Invariants: ED-1 all that is refused is told at once; ED-2 a send
//! that both versions have keeps its delivery and the number of its message.

use std::collections::BTreeSet;

use serde_json::Value;

use super::compile::{CompileError, Compiled, DeliveryPlan, MessagePlan, compile};
use super::languages;
use super::sequence::Lock;
use super::spec::{CampaignSpec, Kind, MessageFields, MessageSpec};
use crate::flow::{Exit, Graph, NodeId, NodeKind};
use crate::ids::MessageId;

/// A difference that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The id of a node, the name of a message, or a key of the spec.
    pub place: String,
    /// `executed_message`, `executed_node`, `current_node`, `fixed_key`, `fixed_delivery`, `other_number`, `ways_apart`.
    pub code: &'static str,
    pub lock: Lock,
    pub message: String,
    pub fix: String,
}

/// How a run stands.
pub struct Standing<'r> {
    pub lock_of: &'r dyn Fn(NodeId) -> Lock,
    pub is_claimed: &'r dyn Fn(MessageId) -> bool,
    /// Whether somebody is in a delivery.
    pub is_entered: &'r dyn Fn(u16) -> bool,
    /// Whether its graph may be replaced: it is that of its spec, to the letter.
    pub may_rebuild: bool,
}

/// What a version changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Messages of both versions whose content differs.
    pub messages: Vec<MessageId>,
    /// Messages and nodes that are changed, added or removed, for people.
    pub places: Vec<String>,
    /// The graph, if it is another.
    pub graph: Option<Graph>,
    /// What the version compiles to.
    pub compiled: Compiled,
}

/// A later version laid beside the one in force: what it changes, or everything that it may not.
pub fn change(
    old: &CampaignSpec,
    new: &CampaignSpec,
    standing: &Standing<'_>,
) -> Result<Result<Change, Vec<Refusal>>, CompileError> {
    let mut refused = fixed(old, new, standing.may_rebuild);
    if !refused.is_empty() {
        // The rest would be compared as if it were in its place; what is in its place is still told.
        let kept = with_content_of(old, new);
        if let Some(kept) = kept.and_then(|kept| compile(&kept).ok()) {
            refused.extend(of_messages(&compile(old)?, &kept, standing).1);
        }
        return Ok(Err(refused));
    }
    let (was, is) = (compile(old)?, compile(&ordered(old, new))?);
    let (messages, locked) = of_messages(&was, &is, standing);
    refused.extend(locked);
    let mut places: Vec<String> = messages.iter().map(|id| place_of(&was, *id)).collect();
    let rebuilt = was.graph != is.graph || was.deliveries != is.deliveries || ways(&was) != ways(&is);
    let graph = rebuilt.then(|| is.graph.clone());
    if rebuilt {
        of_deliveries(&was, &is, standing, &mut refused, &mut places);
        of_nodes(&was.graph, &is.graph, standing, &mut refused, &mut places);
    }
    places.sort();
    if refused.is_empty() { Ok(Ok(Change { messages, places, graph, compiled: is })) } else { Ok(Err(refused)) }
}

/// Keys whose differences the graph is asked about.
fn is_free(kind: Kind, key: &str) -> bool {
    match kind {
        Kind::Flow => key == "nodes",
        Kind::Single | Kind::AbSplit => key == "follow_up",
        Kind::MultiSegment | Kind::Sequence => false,
    }
}

/// Keys, besides content, that differ and stay what they were at the start.
fn fixed(old: &CampaignSpec, new: &CampaignSpec, may_rebuild: bool) -> Vec<Refusal> {
    let (was, is) = (bare(old).to_value(), bare(new).to_value());
    let mut found: Vec<String> = Vec::new();
    let (Value::Object(was), Value::Object(is)) = (&was, &is) else { return Vec::new() };
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for key in keys.into_iter().filter(|key| !(may_rebuild && is_free(old.kind(), key))) {
        differences(key, was.get(key), is.get(key), &mut found);
    }
    let each = found.into_iter().map(|path| Refusal {
        message: format!("{path} stays what it was when the campaign started"),
        fix: "take the change back; what is to be otherwise goes into a campaign of its own".to_owned(),
        place: path,
        code: "fixed_key",
        lock: Lock::Executed,
    });
    each.collect()
}

/// Paths at which two values differ, as deep as both are tables or lists of the same length.
fn differences(path: &str, was: Option<&Value>, is: Option<&Value>, found: &mut Vec<String>) {
    match (was, is) {
        (was, is) if was == is => {}
        (Some(Value::Object(was)), Some(Value::Object(is))) => {
            let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            keys.into_iter().for_each(|key| differences(&format!("{path}.{key}"), was.get(key), is.get(key), found));
        }
        (Some(Value::Array(was)), Some(Value::Array(is))) if was.len() == is.len() => {
            for (at, (was, is)) in was.iter().zip(is).enumerate() {
                differences(&format!("{path}.{at}"), Some(was), Some(is), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// A spec without what its messages say; their languages stay, for each is a send of its own.
fn bare(spec: &CampaignSpec) -> CampaignSpec {
    let mut spec = spec.clone();
    for table in languages::tables_mut(&mut spec) {
        let MessageSpec { channel, connector, topic, default_language, languages, .. } = std::mem::take(table);
        let languages = languages.into_keys().map(|tag| (tag, MessageFields::new())).collect();
        *table = MessageSpec { channel, connector, topic, default_language, languages, ..MessageSpec::default() };
    }
    spec
}

/// The old version with what the messages of the new one say, if both have the same messages.
fn with_content_of(old: &CampaignSpec, new: &CampaignSpec) -> Option<CampaignSpec> {
    let mut made = old.clone();
    let said: Vec<MessageSpec> = languages::tables(new).into_iter().map(|(_, table)| table.clone()).collect();
    let paths = |spec: &CampaignSpec| languages::tables(spec).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    if paths(old).len() != paths(new).len() || languages::tables_mut(&mut made).count() != said.len() {
        return None;
    }
    // In the order of `tables_mut`: both list message and follow-up, cells, steps, nodes and variants.
    for (table, said) in languages::tables_mut(&mut made).zip(said) {
        table.fields = said.fields;
        for (tag, fields) in &mut table.languages {
            *fields = said.languages.get(tag).cloned().unwrap_or_default();
        }
    }
    Some(made)
}

/// The nodes that both have in the order of the old version, the new ones behind them: messages are numbered in this order.
pub fn ordered(old: &CampaignSpec, new: &CampaignSpec) -> CampaignSpec {
    let place = |id: &Option<String>| old.nodes.iter().position(|node| node.id == *id).unwrap_or(usize::MAX);
    let mut spec = new.clone();
    spec.nodes.sort_by_key(|node| place(&node.id));
    spec
}

/// What people call a node: the id that a person gave; in a graph without such ids, its name.
pub fn called(graph: &Graph, id: NodeId) -> String {
    let (key, named) = (graph.key(id), graph.node(id).map_or("", |node| node.name.as_str()));
    if named.is_empty() || key != id.to_string() { key } else { named.to_owned() }
}

/// What people call a message: the id of its node, the name of its variant or cell, or `message`.
fn place_of(compiled: &Compiled, id: MessageId) -> String {
    if compiled.kind == Kind::Flow {
        let send = compiled.deliveries.iter().flat_map(|plan| &plan.sends).find(|send| send.message == id);
        return send.map_or_else(|| id.to_string(), |send| compiled.graph.key(send.node));
    }
    let name = compiled.message(id).map_or("", |plan| plan.name.as_str());
    if name.is_empty() { "message".to_owned() } else { name.to_owned() }
}

/// Messages of both whose content differs, and those of them that are locked.
fn of_messages(was: &Compiled, is: &Compiled, standing: &Standing<'_>) -> (Vec<MessageId>, Vec<Refusal>) {
    let differ = |plan: &&MessagePlan| {
        is.message(plan.id).is_some_and(|now| {
            now.fields != plan.fields
                || now.cell != plan.cell
                || now.connector != plan.connector
                || now.upload != plan.upload
        })
    };
    let changed: Vec<MessageId> = was.messages.iter().filter(differ).map(|plan| plan.id).collect();
    let locked = changed.iter().filter(|id| (standing.is_claimed)(**id)).map(|id| {
        let place = place_of(was, *id);
        Refusal {
            message: format!("message {place:?} is executed: somebody was sent it, and nobody gets another one"),
            fix: "leave its content as it was; to say more, edit a message that nobody was sent yet, or resend"
                .to_owned(),
            code: "executed_message",
            lock: Lock::Executed,
            place,
        }
    });
    let locked = locked.collect();
    (changed, locked)
}

/// The connectors of a version's deliveries.
fn ways(compiled: &Compiled) -> Vec<(u16, Option<&str>)> {
    compiled.deliveries.iter().map(|plan| (plan.index, connector_of(compiled, plan))).collect()
}

fn connector_of<'c>(compiled: &'c Compiled, plan: &DeliveryPlan) -> Option<&'c str> {
    let first = plan.sends.first().and_then(|send| compiled.message(send.message));
    first.map(|message| message.connector.as_str())
}

/// Deliveries that somebody is in keep their way and their sends.
fn of_deliveries(
    was: &Compiled,
    is: &Compiled,
    standing: &Standing<'_>,
    refused: &mut Vec<Refusal>,
    places: &mut Vec<String>,
) {
    for plan in &was.deliveries {
        let Some(now) = is.delivery(plan.index) else { continue };
        if plan == now && connector_of(was, plan) == connector_of(is, now) {
            continue;
        }
        if !(standing.is_entered)(plan.index) {
            if !places.contains(&plan.name) {
                places.push(plan.name.clone());
            }
            continue;
        }
        refused.push(Refusal {
            place: plan.name.clone(),
            code: "fixed_delivery",
            lock: Lock::Executed,
            message: format!("delivery {:?} has contacts: its topic, connector, end and sends stay", plan.name),
            fix: "take the change back, or give the new send a delivery of its own".to_owned(),
        });
    }
}

fn of_nodes(was: &Graph, is: &Graph, standing: &Standing<'_>, refused: &mut Vec<Refusal>, places: &mut Vec<String>) {
    let mut note = |place: String| {
        if !places.contains(&place) {
            places.push(place);
        }
    };
    for node in was.nodes() {
        let (place, lock) = (called(was, node.id), (standing.lock_of)(node.id));
        let is_end = matches!(node.kind, NodeKind::End { .. });
        let now = is.node(node.id);
        let code = if lock == Lock::Executed { "executed_node" } else { "current_node" };
        let mut refuse = |code: &'static str, what: &str, fix: &str| {
            let message = format!("node {place:?} is {}: {what}", lock.name());
            refused.push(Refusal { place: place.clone(), code, lock, message, fix: fix.to_owned() });
        };
        if let (Some(number), Some(now)) = (number_of(&node.kind), now.and_then(|now| number_of(&now.kind)))
            && number != now
        {
            let fix = "leave the sends of the version in force, and their deliveries, in place; add others behind them";
            refuse("other_number", "it would get the number of another message", fix);
        }
        let outs = |graph: &Graph| graph.edges().filter(|(from, ..)| *from == node.id).map(way).collect::<Vec<_>>();
        if now.map(|now| &now.kind) != Some(&node.kind) || outs(was) != outs(is) {
            note(place.clone());
        }
        let became = now.is_some_and(|now| is_end && now.kind != node.kind);
        if became && lock != Lock::Unreached {
            refuse("executed_node", "contacts have ended there", "keep the end, and lead the ways to it elsewhere");
        }
        if lock == Lock::Unreached || is_end {
            continue;
        }
        let Some(now) = now else {
            refuse(code, "it cannot be removed", "keep it; lead past nodes that nobody has come to");
            continue;
        };
        if lock == Lock::Executed && now.kind != node.kind {
            refuse(code, "it cannot be changed", "take the change back");
        }
        if lock == Lock::Current && now.kind.name() != node.kind.name() {
            refuse(code, "contacts stand at it: it stays of its kind", "change its length, date or expression alone");
        }
        let ins = |graph: &Graph| -> BTreeSet<(NodeId, Exit)> {
            graph.edges().filter(|(.., to)| *to == node.id).map(|(from, exit, _)| (from, exit.clone())).collect()
        };
        if !ins(was).is_subset(&ins(is)) {
            refuse(code, "it cannot be moved", "leave what leads to it");
        }
        let moved = was.edges().filter(|(from, _, to)| *from == node.id && !is_an_end(was, *to));
        let mut moved = moved.filter(|(from, exit, to)| is.target(*from, exit) != Some(*to));
        if lock == Lock::Executed && moved.next().is_some() {
            refuse(code, "what follows it stays", "add nodes behind those that nobody has come to, or behind ends");
        }
    }
    is.nodes()
        .filter(|node| was.node(node.id).is_none() && !node.id.is_implicit())
        .for_each(|node| note(called(is, node.id)));
}

fn way((_, exit, to): (NodeId, &Exit, NodeId)) -> (Exit, NodeId) {
    (exit.clone(), to)
}

fn is_an_end(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).map(|node| &node.kind), Some(NodeKind::End { .. }))
}

/// Delivery and message of a send.
fn number_of(kind: &NodeKind) -> Option<(u16, u16)> {
    match kind {
        NodeKind::Send { delivery, message, .. } => Some((*delivery, *message)),
        _ => None,
    }
}

/// The refusal of a graph that would leave contacts of one end apart.
pub fn ways_apart() -> Refusal {
    Refusal {
        place: "nodes".to_owned(),
        code: "ways_apart",
        lock: Lock::Executed,
        message: "contacts came to an end by several ways, and these would lead apart: nobody knows who came by which"
            .into(),
        fix: "lead all ways to that end to the same node".to_owned(),
    }
}
