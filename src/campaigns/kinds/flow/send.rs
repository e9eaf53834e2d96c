//! `kind = "send"`: a message to everybody who comes.
//!
//! ```toml
//! delivery = "reminders"        # shared with other sends: a contact gets one message of them
//! on_undelivered = "end"        # who was not accepted leaves by "undelivered"; by default everybody continues
//! split_on_open = "5d"          # 30m to 30d: leaves by "opened" at the open, by "not_opened" at the time-out
//! send_until = 2026-12-24T18:00:00+01:00   # who has not got it by then does not get it; by default the campaign's
//! ```
//!
//! With `split_on_open` who was not accepted leaves by `undelivered` too, unless `on_undelivered = "continue"`: only who got the
//! message can have left it unopened.

use serde::Deserialize;

use super::assemble::{Assembled, Context, SendNode, name_of, wait_for_open};
use super::ids;
use crate::campaigns::compile::{CompileError, DeliveryPlan, MessagePlan, SendPlan};
use crate::campaigns::kinds::{delivery, message_of};
use crate::campaigns::spec::{CampaignSpec, NodeSpec};
use crate::campaigns::suggest::did_you_mean;
use crate::campaigns::validate::{Names, Problem};
use crate::clock::Timestamp;
use crate::flow::{Exit, NodeId, NodeKind};
use crate::ids::{Channel, MessageId};
use crate::limits;

/// Ways out of a send that waits for an open.
pub(super) const WAITING_EXITS: [&str; 3] = ["opened", "not_opened", "undelivered"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnUndelivered {
    Continue,
    End,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    delivery: Option<String>,
    on_undelivered: Option<OnUndelivered>,
    split_on_open: Option<String>,
    #[serde(with = "crate::campaigns::instant")]
    send_until: Option<Timestamp>,
}

/// The wait behind a send, if it has one.
pub(super) fn wait_of(node: &NodeSpec) -> NodeId {
    // No text of a node has a dot.
    ids::of_text(&format!("{}.split_on_open", node.id.as_deref().unwrap_or_default()))
}

pub(super) fn add(context: &mut Context<'_>, id: NodeId, made: &mut Assembled) {
    let (read, is_whole) = context.read_partly::<Keys>(&context.node.fields.clone(), "");
    let keys = read.unwrap_or_default();
    if !is_whole {
        made.gaps.insert(id);
    }
    let (node, at) = (context.node, context.at);
    let index = index_of(keys.delivery.as_deref(), made);
    let message = u16::try_from(made.sends.len()).unwrap_or(u16::MAX);
    let waits = keys.split_on_open.is_some();
    let parts_undelivered = match keys.on_undelivered {
        Some(wanted) => wanted == OnUndelivered::End,
        None => waits,
    };
    let key = node.id.clone().unwrap_or_default();
    made.parts.node(id, name_of(node), NodeKind::Send { delivery: index, message, parts_undelivered });
    made.sends.push(SendNode {
        at,
        node: id,
        key,
        name: name_of(node),
        delivery: keys.delivery,
        index,
        until: keys.send_until,
    });
    if let Some(text) = &keys.split_on_open {
        let seconds = context.seconds("split_on_open", text).unwrap_or(0);
        let allowed = limits::SPLIT_ON_OPEN_SECONDS_MIN..=limits::SPLIT_ON_OPEN_SECONDS_MAX;
        if seconds > 0 && !allowed.contains(&seconds) {
            let message = format!("{text:?} is no time to wait for an open");
            context.refuse("bad_split_on_open", "split_on_open", message, "set 30 minutes to 30 days, such as \"5d\"");
        }
        let wait = wait_of(node);
        made.parts.node(wait, format!("{}: opened?", name_of(node)), wait_for_open(id, seconds.max(1)));
        made.parts.keys.insert(wait, format!("{}.split_on_open", node.id.as_deref().unwrap_or_default()));
        made.wait_at(wait, at);
        made.parts.edge(id, Exit::NEXT, wait);
    }
}

/// The delivery of a send: that of an earlier one with the same name, or the next.
fn index_of(named: Option<&str>, made: &Assembled) -> u16 {
    let same = made.sends.iter().find(|send| named.is_some() && send.delivery.as_deref() == named);
    let next = made.sends.iter().map(|send| send.index + 1).max().unwrap_or(0);
    same.map_or(next, |send| send.index)
}

/// Deliveries and messages of the sends, each at the place of its number.
pub(super) fn plans(
    spec: &CampaignSpec,
    sends: &[SendNode],
) -> Result<(Vec<DeliveryPlan>, Vec<MessagePlan>), CompileError> {
    let (mut deliveries, mut messages): (Vec<DeliveryPlan>, Vec<MessagePlan>) = (Vec::new(), Vec::new());
    for (id, send) in (0u16..).zip(sends) {
        let own = spec.nodes.get(send.at).map(|node| &node.message).ok_or(CompileError::Missing { path: "nodes" })?;
        let message = message_of(spec, id, &send.name, own)?;
        let plan = SendPlan { node: send.node, message: MessageId(id) };
        match deliveries.get_mut(usize::from(send.index)) {
            Some(shared) => shared.sends.push(plan),
            None => {
                let name = send.delivery.as_deref().unwrap_or(&send.key);
                deliveries.push(DeliveryPlan {
                    on_arrival: true,
                    send_until: send.until.or(spec.send_until),
                    sends: vec![plan],
                    ..delivery(spec, send.index, name, &message)
                });
            }
        }
        messages.push(message);
    }
    for plan in &mut deliveries {
        plan.sends.sort_by_key(|send| send.node);
    }
    if messages.is_empty() { Err(CompileError::Missing { path: "nodes" }) } else { Ok((deliveries, messages)) }
}

/// What is wrong with sends that needs other sends or the connectors to be told.
pub(super) fn problems(spec: &CampaignSpec, made: &Assembled, names: &dyn Names, found: &mut Vec<Problem>) {
    if made.sends.is_empty() && !made.is_torn {
        let fix = "add a node of the kind send";
        found.push(Problem::error("no_send", "nodes", "the flow sends nothing", fix));
    }
    let connectors = names.connectors();
    for send in &made.sends {
        let Some(node) = spec.nodes.get(send.at) else { continue };
        let path = |key: &str| format!("nodes.{}.{key}", send.at);
        let (channel, topic) = way(spec, node);
        if let Some(name) = node.message.connector.as_deref() {
            match connectors.iter().find(|(known, _)| known == name) {
                None => {
                    let near = did_you_mean(name, connectors.iter().map(|(name, _)| name.as_str()));
                    let message = format!("no connector is named {name:?}{near}");
                    let fix = "name a configured connector";
                    let problem = Problem::error("unknown_connector", path("message.connector"), message, fix);
                    found.push(problem.of_node(&send.key));
                }
                Some((_, has)) if channel.is_some_and(|wanted| wanted != *has) => {
                    let message = format!("connector {name:?} is for {has}, and the message for another channel");
                    let fix = "name a connector of the channel";
                    let problem = Problem::error("wrong_channel", path("message.connector"), message, fix);
                    found.push(problem.of_node(&send.key));
                }
                Some(_) => {}
            }
        }
        if let Some(until) = send.until.filter(|until| *until <= names.now()) {
            let message = format!("send_until, {until}, is past: nobody would get it");
            let fix = "set a later instant, or remove it";
            found.push(Problem::error("send_until_past", path("send_until"), message, fix).of_node(&send.key));
        }
        let first = made.sends.iter().find(|other| other.index == send.index);
        if first.is_some_and(|first| first.until != send.until) {
            let shared = send.delivery.as_deref().unwrap_or_default();
            let message = format!("sends that share the delivery {shared:?} have different ends");
            let fix = "a delivery has one send_until: say the same in each, or give the send another delivery";
            found.push(Problem::error("delivery_differs", path("send_until"), message, fix).of_node(&send.key));
        }
        let first = first.and_then(|s| spec.nodes.get(s.at));
        if first.is_some_and(|first| way(spec, first) != (channel, topic)) {
            let shared = send.delivery.as_deref().unwrap_or_default();
            let message = format!("{shared:?} is shared by sends of different channels or topics");
            let fix = "a delivery has one channel and one topic: give the send another delivery";
            found.push(Problem::error("delivery_differs", path("delivery"), message, fix).of_node(&send.key));
        }
    }
}

fn way<'s>(spec: &'s CampaignSpec, node: &'s NodeSpec) -> (Option<Channel>, Option<&'s str>) {
    let topic = node.message.topic.as_deref().or(spec.message.topic.as_deref());
    (node.message.channel.or(spec.message.channel), topic)
}
