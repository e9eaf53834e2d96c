//! A spec becomes what a run executes: a flow graph, the deliveries, the messages.
//!
//! What is compiled is pinned by the run at its start, journaled with it, and never computed again: a later change of
//! the spec, or of this code, does not touch a run that has begun.
//!
//! Invariants:
//! 1. Deliveries and messages are in order of their indices, of which a sequence leaves some out; each send node of the
//!    graph names both.
//! 2. Every send node belongs to exactly one delivery, and is in its `sends`.
//! 3. Node ids of a kind are the same for each version of a campaign.
//!
//! A new kind of campaign is one more function that makes graph, deliveries and messages.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kinds::{self, Built};
use super::one_shot;
use super::spec::auto_pause::GuardRule;
use super::spec::{CampaignSpec, Kind, MessageFields, Mode, SameAddress};
use super::{languages, resend, restraint};
use crate::clock::Timestamp;
use crate::config::caps::Caps;
use crate::flow::graph::InvalidGraph;
use crate::flow::nodes::SampleSize;
use crate::flow::{EndKind, Exit, Graph, GraphParts, NodeId, NodeKind};
use crate::ids::{Channel, MessageId};
use crate::limits;

/// Who is looked for at the start; eligibility is decided afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudienceSource {
    All,
    /// The name of a list.
    List(String),
    /// A segment expression.
    Segment(String),
    /// The id or name of an uploaded one-shot file.
    Upload(String),
    /// A set of an ended run, without those whom a resend covers.
    Resend {
        run: u32,
        set: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudiencePlan {
    pub source: AudienceSource,
    /// A segment expression; who matches is left out.
    pub exclude: Option<String>,
}

/// A send node of a delivery and what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendPlan {
    pub node: NodeId,
    pub message: MessageId,
}

/// One send group: the scope in which a contact gets one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryPlan {
    pub index: u16,
    /// For people.
    pub name: String,
    pub channel: Channel,
    pub topic: String,
    pub mode: Mode,
    pub same_address: SameAddress,
    /// After its first attempt, a deferred message is tried again for so long.
    pub retry_deadline: Duration,
    /// What is not sent by then is skipped.
    pub send_until: Option<Timestamp>,
    pub sends: Vec<SendPlan>,
    /// Rows enter it when they arrive at its send, and not all at the start.
    #[serde(default)]
    pub on_arrival: bool,
}

impl DeliveryPlan {
    /// The message that a send node of this delivery sends.
    pub fn message_at(&self, node: NodeId) -> Option<MessageId> {
        self.sends.iter().find(|s| s.node == node).map(|s| s.message)
    }
}

/// A message and the connector that takes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessagePlan {
    pub id: MessageId,
    /// For people: the variant, the cell; empty if the campaign has one message.
    #[serde(default)]
    pub name: String,
    pub channel: Channel,
    pub connector: String,
    pub topic: String,
    pub fields: MessageFields,
    /// The upload whose columns are the variables; `None`: the attributes of contacts are.
    #[serde(default)]
    pub upload: Option<String>,
    /// Of a grid's cell: what templates see as `cell`.
    #[serde(default)]
    pub cell: BTreeMap<String, String>,
    /// Other languages that the message has, until each of them is a message of its own.
    #[serde(skip)]
    pub others: languages::Others,
}

/// Limits of the run as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimits {
    /// `None`: as fast as the connector allows.
    pub messages_per_second: Option<u32>,
    /// Share of a connector beside other campaigns, from 1.
    pub weight: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    pub name: String,
    pub kind: Kind,
    pub audience: AudiencePlan,
    pub graph: Graph,
    pub deliveries: Vec<DeliveryPlan>,
    pub messages: Vec<MessagePlan>,
    pub limits: RunLimits,
    /// Everybody who matches walks the flow, and enters a delivery on arrival at its send; otherwise deliveries are entered
    /// at the start, and only those who can be sent to walk.
    #[serde(default)]
    pub all_walk: bool,
    #[serde(default)]
    pub auto_pause: GuardRule,
    #[serde(default)]
    pub caps: Caps,
    /// Of the eligible, so many get nothing.
    #[serde(default)]
    pub hold_out: Option<SampleSize>,
}

impl Compiled {
    pub fn delivery(&self, index: u16) -> Option<&DeliveryPlan> {
        self.deliveries.iter().find(|plan| plan.index == index)
    }

    pub fn message(&self, id: MessageId) -> Option<&MessagePlan> {
        self.messages.iter().find(|plan| plan.id == id)
    }
}

/// Why a spec does not compile; [`super::problems`] finds all of it before, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("{path} is missing")]
    Missing { path: &'static str },
    #[error("the audience must be exactly one of segment, list, all, upload and a set of another run")]
    Audience,
    #[error("{path}: {message}")]
    Nodes { path: String, message: String },
    #[error(transparent)]
    Graph(#[from] InvalidGraph),
}

/// Graph, deliveries and messages of a spec, but for the last links.
fn build(spec: &CampaignSpec) -> Result<Built, CompileError> {
    let mut built = match spec.kind() {
        Kind::Single => single(spec)?,
        Kind::AbSplit => kinds::ab_split::build(spec)?,
        Kind::MultiSegment => kinds::multi_segment::build(spec)?,
        Kind::Flow => kinds::flow::build(spec)?,
        Kind::Sequence => kinds::sequence::build(spec)?,
    };
    if kinds::follow_up::wanted(spec) && spec.kind() != Kind::Flow {
        kinds::follow_up::add(spec, &mut built)?;
    } else if spec.kind() == Kind::Single && spec.split_on_open.is_some() {
        kinds::follow_up::split_on_open(spec, &mut built)?;
    }
    languages::expand(&mut built);
    kinds::planned::add(spec, &mut built.parts);
    Ok(built)
}

/// The nodes and links of a spec, as far as they can be made, whatever is wrong with the rest of it.
pub fn parts(spec: &CampaignSpec) -> GraphParts {
    if spec.kind() == Kind::Flow {
        return kinds::flow::parts(spec);
    }
    // What is asked of the nodes is asked of a campaign that goes out somehow.
    let mut whole = spec.clone();
    whole.message.channel.get_or_insert(Channel::Email);
    for text in [&mut whole.name, &mut whole.message.connector, &mut whole.message.topic] {
        text.get_or_insert_default();
    }
    build(&whole).map(|built| built.parts).unwrap_or_default()
}

/// Compiles a spec that [`super::problems`] has found whole.
pub fn compile(spec: &CampaignSpec) -> Result<Compiled, CompileError> {
    let name = required("name", spec.name.clone())?;
    let audience = match spec.kind() {
        Kind::Sequence => audience(&CampaignSpec { audience: kinds::sequence::audience(spec), ..spec.clone() })?,
        _ => audience(spec)?,
    };
    let mut built = build(spec)?;
    for last in built.lasts {
        built.parts.edge(last, Exit::NEXT, kinds::END);
    }
    Ok(Compiled {
        name,
        kind: spec.kind(),
        audience,
        graph: Graph::new(built.parts)?,
        deliveries: built.deliveries,
        messages: built.messages,
        limits: RunLimits {
            messages_per_second: spec.limits.messages_per_second,
            weight: spec.limits.weight.unwrap_or(1).clamp(1, limits::CAMPAIGN_WEIGHT_MAX),
        },
        all_walk: spec.kind() == Kind::Flow,
        auto_pause: spec.auto_pause.rule(),
        caps: restraint::caps(spec),
        hold_out: restraint::hold_out(spec),
    })
}

/// The send of the single kind.
const SEND: NodeId = NodeId(1);

fn single(spec: &CampaignSpec) -> Result<Built, CompileError> {
    let message = message(spec, MessageId(0))?;
    if !spec.message.languages.is_empty() {
        return languages::build(spec, &message);
    }
    let mut parts = GraphParts::default();
    parts.node(kinds::START, "start", NodeKind::Start);
    parts.node(SEND, "send", NodeKind::send(0, message.id.0));
    parts.node(kinds::END, "end", NodeKind::End { kind: EndKind::Neutral });
    parts.edge(kinds::START, Exit::NEXT, SEND);
    let mut delivery = kinds::delivery(spec, 0, "send", &message);
    delivery.sends = vec![SendPlan { node: SEND, message: message.id }];
    Ok(Built { parts, deliveries: vec![delivery], messages: vec![message], lasts: vec![SEND] })
}

pub(super) fn message(spec: &CampaignSpec, id: MessageId) -> Result<MessagePlan, CompileError> {
    let message = &spec.message;
    Ok(MessagePlan {
        id,
        name: String::new(),
        channel: required("message.channel", message.channel)?,
        connector: required("message.connector", message.connector.clone())?,
        topic: if one_shot::is_wanted(spec) {
            message.topic.clone().unwrap_or_default()
        } else {
            required("message.topic", message.topic.clone())?
        },
        fields: message.fields.clone(),
        upload: spec.audience.upload.clone(),
        cell: BTreeMap::new(),
        others: languages::Others::default(),
    })
}

fn audience(spec: &CampaignSpec) -> Result<AudiencePlan, CompileError> {
    let audience = &spec.audience;
    if resend::wanted(spec) {
        let none = audience.segment.is_none() && audience.list.is_none() && audience.all != Some(true);
        let none = none && audience.upload.is_none();
        let (run, set) = resend::source(spec).filter(|_| none).ok_or(CompileError::Audience)?;
        let source = AudienceSource::Resend { run, set: set.to_owned() };
        return Ok(AudiencePlan { source, exclude: audience.exclude.clone() });
    }
    let source = match (&audience.segment, &audience.list, audience.all == Some(true), &audience.upload) {
        (Some(segment), None, false, None) => AudienceSource::Segment(segment.clone()),
        (None, Some(list), false, None) => AudienceSource::List(list.clone()),
        (None, None, true, None) => AudienceSource::All,
        (None, None, false, Some(upload)) => AudienceSource::Upload(upload.clone()),
        _ => return Err(CompileError::Audience),
    };
    Ok(AudiencePlan { source, exclude: audience.exclude.clone() })
}

pub(super) fn retry_deadline(spec: &CampaignSpec) -> Duration {
    let hours = spec.retry_deadline_hours.unwrap_or(limits::RETRY_DEADLINE_HOURS_DEFAULT);
    Duration::from_secs(u64::from(hours.min(limits::RETRY_DEADLINE_HOURS_MAX)) * 3_600)
}

fn required<T>(path: &'static str, value: Option<T>) -> Result<T, CompileError> {
    value.ok_or(CompileError::Missing { path })
}

#[cfg(test)]
mod tests {
    use roaring::RoaringBitmap;

    use super::super::parse::{Format, parse};
    use super::*;
    use crate::flow::{GraphFormat, Positions, advance, enter, render};

    const WHOLE: &str = r#"
name = "spring"
mode = "at_least_once"
retry_deadline_hours = 10
[audience]
list = "customers"
exclude = 'in list "staff"'
[message]
channel = "email"
connector = "relay"
topic = "news"
subject = "Hello"
[limits]
messages_per_second = 500
"#;

    fn spec(text: &str) -> CampaignSpec {
        parse(text, Format::Toml).expect(text)
    }

    #[test]
    fn a_single_campaign_is_start_send_end_and_one_delivery() {
        let compiled = compile(&spec(WHOLE)).expect("compiles");
        let expected =
            "n0 start (start)\n  next → n1 send (send, delivery 0, message 0)\n    next → n2 end (end, neutral)\n";
        assert_eq!(render(&compiled.graph, GraphFormat::Text, None), expected, "graph");
        assert_eq!(compiled.deliveries.len(), 1, "one delivery");
        let delivery = compiled.delivery(0).expect("delivery 0");
        assert_eq!((delivery.mode, delivery.same_address), (Mode::AtLeastOnce, SameAddress::Newest), "modes");
        assert_eq!(delivery.retry_deadline, Duration::from_secs(36_000), "retry deadline");
        assert_eq!(delivery.message_at(SEND), Some(MessageId(0)), "message of the send");
        assert_eq!(delivery.message_at(kinds::END), None, "no message at the end");
        let message = compiled.message(MessageId(0)).expect("message 0");
        assert_eq!((message.connector.as_str(), message.topic.as_str()), ("relay", "news"), "connector and topic");
        assert_eq!(message.fields["subject"], "Hello", "content is passed through");
        assert_eq!(compiled.audience.source, AudienceSource::List("customers".into()), "audience");
        assert_eq!(compiled.limits, RunLimits { messages_per_second: Some(500), weight: 1 }, "limits");
    }

    #[test]
    fn plans_and_graph_agree() {
        let compiled = compile(&spec(WHOLE)).expect("compiles");
        for (at, delivery) in compiled.deliveries.iter().enumerate() {
            assert_eq!(usize::from(delivery.index), at, "index is the place");
            let of_graph: Vec<NodeId> = compiled.graph.sends_of(delivery.index).collect();
            let of_plan: Vec<NodeId> = delivery.sends.iter().map(|s| s.node).collect();
            assert_eq!(of_plan, of_graph, "sends");
            assert!(delivery.sends.iter().all(|s| compiled.message(s.message).is_some()), "messages exist");
        }
    }

    #[test]
    fn what_is_compiled_reads_back_equal_from_message_pack() {
        let compiled = compile(&spec(WHOLE)).expect("compiles");
        let bytes = rmp_serde::to_vec(&compiled).expect("bytes");
        assert_eq!(rmp_serde::from_slice::<Compiled>(&bytes).expect("reads"), compiled);
    }

    #[test]
    fn contacts_walk_the_compiled_flow_to_its_end() {
        let compiled = compile(&spec(WHOLE)).expect("compiles");
        let rows: RoaringBitmap = (0..1_000).collect();
        let mut positions = Positions::default();
        enter(&compiled.graph, &mut positions, &rows).expect("enters");
        let node = compiled.deliveries[0].sends[0].node;
        assert_eq!(positions.at(node), Some(&rows), "all wait at the send");
        advance(&compiled.graph, &mut positions, node, &Exit::NEXT, &rows).expect("leaves");
        assert!(positions.all_ended(&compiled.graph), "all ended");
    }

    #[test]
    fn an_incomplete_spec_names_what_is_missing() {
        for (line, error) in [
            ("name = \"spring\"", CompileError::Missing { path: "name" }),
            ("channel = \"email\"", CompileError::Missing { path: "message.channel" }),
            ("connector = \"relay\"", CompileError::Missing { path: "message.connector" }),
            ("topic = \"news\"", CompileError::Missing { path: "message.topic" }),
            ("list = \"customers\"", CompileError::Audience),
        ] {
            assert_eq!(compile(&spec(&WHOLE.replace(line, ""))), Err(error), "{line}");
        }
        let both = WHOLE.replace("[audience]", "[audience]\nall = true");
        assert_eq!(compile(&spec(&both)), Err(CompileError::Audience), "two audiences");
    }
}
