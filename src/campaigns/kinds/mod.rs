//! What each kind of campaign compiles to, and what is wrong with the tables that only it has. One file a kind.
//!
//! Node ids are fixed by their place in the spec, so that each version of a campaign gives a node the same id.

pub mod ab_split;
pub mod dated;
pub mod flow;
pub mod follow_up;
pub mod grid;
mod moments;
pub mod multi_segment;
pub mod planned;
pub mod sequence;

use super::compile::{CompileError, DeliveryPlan, MessagePlan, retry_deadline};
use super::languages;
use super::spec::{CampaignSpec, MessageSpec};
use crate::flow::{GraphParts, NodeId};
use crate::ids::MessageId;

/// A kind's part of what is compiled.
pub(super) struct Built {
    pub parts: GraphParts,
    pub deliveries: Vec<DeliveryPlan>,
    pub messages: Vec<MessagePlan>,
    /// Send nodes from which the flow ends.
    pub lasts: Vec<NodeId>,
}

pub(super) const START: NodeId = NodeId(0);
pub(super) const END: NodeId = NodeId(2);

/// A delivery of the spec's channel, topic and rules.
pub(super) fn delivery(spec: &CampaignSpec, index: u16, name: &str, message: &MessagePlan) -> DeliveryPlan {
    DeliveryPlan {
        index,
        name: name.to_owned(),
        channel: message.channel,
        topic: message.topic.clone(),
        mode: spec.mode.unwrap_or_default(),
        same_address: spec.same_address.unwrap_or_default(),
        retry_deadline: retry_deadline(spec),
        send_until: spec.send_until,
        sends: Vec::new(),
        on_arrival: false,
    }
}

/// The campaign's message under another id, with some fields replaced, in the languages of both. A message that names its own
/// channel, connector or topic, or else the campaign's.
pub(super) fn message_of(
    spec: &CampaignSpec,
    id: u16,
    name: &str,
    own: &MessageSpec,
) -> Result<MessagePlan, CompileError> {
    let plan = super::compile::message(spec, MessageId(id))?;
    let (fields, others) = languages::laid_over(&spec.message, own);
    Ok(MessagePlan {
        name: name.to_owned(),
        fields,
        others,
        channel: own.channel.unwrap_or(plan.channel),
        connector: own.connector.clone().unwrap_or(plan.connector),
        topic: own.topic.clone().unwrap_or(plan.topic),
        ..plan
    })
}
