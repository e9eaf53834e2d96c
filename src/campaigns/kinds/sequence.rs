//! Sequence: start → gate → step → gate → step → …, a delivery per dated send, an end behind each exit without a step.
//!
//! Node ids follow from the number of a step, which it keeps over all versions: a gate is followed by the nodes that do what
//! the step does, and those by the ends of its exits. So a contact that stands at an end tells behind which exit it ended,
//! and an extension takes it on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Built, delivery, message_of};
use crate::campaigns::compile::{CompileError, DeliveryPlan, MessagePlan, SendPlan};
use crate::campaigns::resend;
use crate::campaigns::schedule::ScheduleFields;
use crate::campaigns::sequence::plan::{self, NEXT, Origin, Plan, SplitBy, Step, StepKind};
use crate::campaigns::sequence::{alerts, timing};
use crate::campaigns::spec::kinds::{overlaid, seconds};
use crate::campaigns::spec::steps::{BranchSpec, Late, Starter, StepSpec};
use crate::campaigns::spec::{AudienceSpec, CampaignSpec, MessageSpec};
use crate::campaigns::validate::{Names, Problem};
use crate::flow::nodes::condition::{FALSE, TRUE};
use crate::flow::nodes::split::REMAINING;
use crate::flow::nodes::{Condition, SetAttribute, Split, StepGate, Test};
use crate::flow::{EndKind, Exit, GraphParts, NodeId, NodeKind};
use crate::limits;

/// Ids that a step has for its nodes.
const STRIDE: u32 = 128;
/// Of those, from here on the ends of its exits.
const ENDS: u32 = 80;

/// Where contacts wait for the start of a step.
pub fn gate_of(number: u16) -> NodeId {
    NodeId(STRIDE * (u32::from(number) + 1))
}

/// The first node that does what a step does.
pub fn action_of(number: u16) -> NodeId {
    NodeId(gate_of(number).0 + 1)
}

/// The number of the step that a node belongs to; none of the start.
pub fn number_of(node: NodeId) -> Option<u16> {
    if node.is_implicit() {
        return None;
    }
    u16::try_from((node.0 / STRIDE).checked_sub(1)?).ok()
}

fn end_of(number: u16, exit: usize) -> NodeId {
    NodeId(gate_of(number).0 + ENDS + u32::try_from(exit).unwrap_or(0))
}

/// Where contacts that come to a step arrive: at its gate, or at once at what it does.
fn entry_of(step: &Step) -> NodeId {
    if step.planned.is_some() { gate_of(step.number) } else { action_of(step.number) }
}

pub(in crate::campaigns) fn build(spec: &CampaignSpec) -> Result<Built, CompileError> {
    let (plan, _) = plan::read(spec);
    let mut parts = GraphParts::default();
    parts.node(super::START, "start", NodeKind::Start);
    let first = plan.target(&Origin::Start).ok_or(CompileError::Missing { path: "steps" })?;
    parts.edge(super::START, Exit::NEXT, entry_of(first));
    let mut built = Built { parts, deliveries: Vec::new(), messages: Vec::new(), lasts: Vec::new() };
    for (step, own) in plan.steps.iter().zip(&spec.steps) {
        if let Some(planned) = step.planned {
            let skips_late = own.late == Some(Late::Skip);
            let too_late_ms = too_late_of(spec, own).and_then(|limit| i64::try_from(limit.as_millis()).ok());
            let (planned_ms, at_once) = (planned.0, step.is_now);
            let gate = StepGate { planned: planned_ms, effective: planned_ms, skips_late, too_late_ms, at_once };
            let gate = built.parts.node(gate_of(step.number), format!("{}: {planned}", step.id), NodeKind::Step(gate));
            built.parts.edge(gate, Exit::NEXT, action_of(step.number));
        }
        let exits = action(spec, &plan, step, own, &mut built)?;
        for (at, (name, from, exit)) in exits.into_iter().enumerate() {
            let to = match plan.target(&Origin::Exit { step: step.place, exit: name.clone() }) {
                Some(next) => entry_of(next),
                None => {
                    let title = if name == NEXT { "end".to_owned() } else { format!("{} end", name) };
                    let end = NodeKind::End { kind: EndKind::Neutral };
                    built.parts.node(end_of(step.number, at), format!("{}: {title}", step.id), end)
                }
            };
            built.parts.edge(from, exit, to);
        }
    }
    Ok(built)
}

/// How long after its effective start a step still starts by itself.
fn too_late_of(spec: &CampaignSpec, step: &StepSpec) -> Option<Duration> {
    let written = step.too_late.as_ref().or(spec.schedule.too_late.as_ref());
    written.map_or(Some(limits::TOO_LATE_DEFAULT), |text| {
        seconds(text).map(|seconds| Duration::from_secs(u64::from(seconds)))
    })
}

/// The nodes of a step; answers its exits by name, and where each leaves the graph's nodes.
fn action(
    spec: &CampaignSpec,
    plan: &Plan,
    step: &Step,
    own: &StepSpec,
    built: &mut Built,
) -> Result<Vec<(String, NodeId, Exit)>, CompileError> {
    let node = action_of(step.number);
    match step.kind {
        StepKind::Send => {
            let (message, sends) = send(spec, step, own)?;
            built.parts.node(node, step.id.clone(), NodeKind::send(step.number, message.id.0));
            built.messages.push(message);
            built.deliveries.push(sends);
            Ok(vec![(NEXT.to_owned(), node, Exit::NEXT)])
        }
        StepKind::SetAttribute => {
            let attribute = own.attribute.clone().ok_or(CompileError::Missing { path: "steps.attribute" })?;
            let value = own.value.as_ref().ok_or(CompileError::Missing { path: "steps.value" })?;
            let set = NodeKind::SetAttribute(SetAttribute::new(attribute, value));
            built.parts.node(node, step.id.clone(), set);
            Ok(vec![(NEXT.to_owned(), node, Exit::NEXT)])
        }
        StepKind::Split(SplitBy::Engagement) => engagement(plan, step, own, &mut built.parts),
        StepKind::Split(by) => {
            let split = split_of(by, &own.branches);
            built.parts.node(node, step.id.clone(), NodeKind::Split(split));
            Ok(step.exits.iter().map(|name| (name.clone(), node, Exit(name.clone().into()))).collect())
        }
    }
}

fn send(spec: &CampaignSpec, step: &Step, own: &StepSpec) -> Result<(MessagePlan, DeliveryPlan), CompileError> {
    let message = message_of(&with_base(spec, &own.message), step.number, &step.id, &own.message)?;
    let mut sends = delivery(spec, step.number, &step.id, &message);
    sends.on_arrival = true;
    sends.send_until = own.send_until.or(spec.send_until);
    sends.sends = vec![SendPlan { node: action_of(step.number), message: message.id }];
    Ok((message, sends))
}

/// The spec with what a step says of channel, connector and topic filled in where the campaign says nothing.
fn with_base(spec: &CampaignSpec, own: &MessageSpec) -> CampaignSpec {
    let mut spec = spec.clone();
    let base = &mut spec.message;
    base.channel = base.channel.or(own.channel);
    base.connector = base.connector.take().or_else(|| own.connector.clone());
    base.topic = base.topic.take().or_else(|| own.topic.clone());
    spec
}

fn split_of(by: SplitBy, branches: &[BranchSpec]) -> Split {
    let exit = |branch: &BranchSpec| Exit(branch.name.clone().unwrap_or_default().into());
    match by {
        SplitBy::AtMost => Split::AtMost(branches.iter().map(|b| (exit(b), b.at_most.unwrap_or(0))).collect()),
        SplitBy::Segments => {
            Split::Segments(branches.iter().map(|b| (exit(b), b.segment.clone().unwrap_or_default())).collect())
        }
        SplitBy::Weights | SplitBy::Engagement => {
            Split::Weights(branches.iter().map(|b| (exit(b), b.weight.unwrap_or(0))).collect())
        }
    }
}

/// A condition per branch, one behind the other: who meets none goes by the rest.
fn engagement(
    plan: &Plan,
    step: &Step,
    own: &StepSpec,
    parts: &mut GraphParts,
) -> Result<Vec<(String, NodeId, Exit)>, CompileError> {
    let mut exits = Vec::new();
    let mut before: Option<(NodeId, Exit)> = None;
    for (at, branch) in own.branches.iter().enumerate() {
        let node = NodeId(action_of(step.number).0 + u32::try_from(at).unwrap_or(0));
        let name = branch.name.clone().unwrap_or_default();
        let asked = plan.send_before(step, branch.of.as_deref()).map(|send| action_of(send.number));
        let on = branch.on.as_deref().unwrap_or_default();
        let (what, positive) = on.strip_prefix("not_").map_or((on, true), |what| (what, false));
        let missing = || CompileError::Missing { path: "steps.branches.of" };
        let test = match what {
            "unsubscribed" => Test::Unsubscribed,
            "clicked" => Test::Clicked(asked.ok_or_else(missing)?),
            "delivered" => Test::Delivered(asked.ok_or_else(missing)?),
            _ => Test::Opened(asked.ok_or_else(missing)?),
        };
        let title = if at == 0 { step.id.clone() } else { format!("{}: {name}?", step.id) };
        parts.node(node, title, NodeKind::Condition(Condition { test }));
        if let Some((last, exit)) = before.take() {
            parts.edge(last, exit, node);
        }
        let (taken, rest) = if positive { (TRUE, FALSE) } else { (FALSE, TRUE) };
        exits.push((name, node, taken));
        before = Some((node, rest));
    }
    let (last, exit) = before.ok_or(CompileError::Missing { path: "steps.branches" })?;
    exits.push((REMAINING.name().to_owned(), last, exit));
    Ok(exits)
}

/// The audience of a sequence as one expression or list: list ∩ segment. One started by requests has none.
pub(in crate::campaigns) fn audience(spec: &CampaignSpec) -> AudienceSpec {
    let audience = &spec.audience;
    if spec.starter == Some(Starter::Api) {
        return AudienceSpec { all: Some(true), ..AudienceSpec::default() };
    }
    match (&audience.list, &audience.segment) {
        (Some(list), Some(segment)) => {
            let quoted = list.replace('\\', "\\\\").replace('"', "\\\"");
            let segment = Some(format!("in list \"{quoted}\" and ({segment})"));
            AudienceSpec { segment, list: None, ..audience.clone() }
        }
        _ => audience.clone(),
    }
}

/// What is wrong with a sequence: its steps, its dates, the content of each send.
pub(in crate::campaigns) fn problems(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    let (plan, wrong) = plan::read(spec);
    found.extend(wrong);
    let started = names.started_steps();
    found.extend(alerts::alerts(&plan, names.now(), &started));
    if let Some(measured) = names.measured_start() {
        found.extend(timing::small_gaps(&plan, measured));
    }
    ended_offers(spec, &plan, &started, found);
    foreign(spec, found);
    if spec.starter == Some(Starter::Api) && spec.audience != AudienceSpec::default() {
        let message = "the campaign is started by requests: its audience is not looked at";
        found.push(Problem::warning(
            "audience_unused",
            "audience",
            message,
            "remove it, or set starter = \"audience\"",
        ));
    }
    if !plan.steps.iter().any(|step| step.kind == StepKind::Send) && !plan.steps.is_empty() {
        let fix = "add a step of the kind send";
        found.push(Problem::warning("no_send", "steps", "no step sends anything", fix));
    }
    for (place, step) in spec.steps.iter().enumerate() {
        for (at, branch) in step.branches.iter().enumerate() {
            if let Some(segment) = branch.segment.as_deref() {
                let path = format!("steps.{place}.branches.{at}.segment");
                found.extend(names.expression_problems(&path, segment));
            }
        }
        if let (Some(attribute), Some(value)) = (&step.attribute, &step.value) {
            found.extend(names.attribute_problems(&format!("steps.{place}.attribute"), attribute, value));
        }
    }
}

/// Sends that start when nothing may be sent any more.
pub(in crate::campaigns) fn ended_offers(
    spec: &CampaignSpec,
    plan: &Plan,
    started: &BTreeSet<String>,
    found: &mut Vec<Problem>,
) {
    for step in plan.steps.iter().filter(|step| step.kind == StepKind::Send && !started.contains(&step.id)) {
        let until = spec.steps.get(step.place).and_then(|own| own.send_until).or(spec.send_until);
        let Some((until, planned)) = until.zip(step.planned).filter(|(until, planned)| until <= planned) else {
            continue;
        };
        let message =
            format!("step {:?} is planned at {planned}, and send_until, {until}, has passed by then", step.id);
        let fix = "set send_until of the step to a later instant, or the step's date to an earlier one";
        found.push(Problem::error("send_until_past", format!("steps.{}.send_until", step.place), message, fix));
    }
}

/// What other kinds of campaigns have, and a sequence has not.
fn foreign(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    let audience = &spec.audience;
    let others = [
        ("resend", resend::wanted(spec), "a resend has one message"),
        ("audience.hold_out", audience.hold_out.is_some(), "a control group is a branch of a split by weights"),
    ];
    for (path, given, why) in others {
        if given {
            let message = format!("{path} is not of sequences: {why}");
            found.push(Problem::error("wrong_kind", path, message, "remove it"));
        }
    }
    let only_late = ScheduleFields { too_late: spec.schedule.too_late.clone(), ..ScheduleFields::default() };
    if spec.schedule != only_late {
        let message = "a sequence has no schedule: each of its steps has a date";
        found.push(Problem::error(
            "wrong_kind",
            "schedule",
            message,
            "set at of the first step; all that [schedule] may say is too_late, for all steps",
        ));
    }
    let own = spec.steps.iter().enumerate().map(|(place, step)| (format!("steps.{place}.message"), &step.message));
    for (path, message) in own.chain([("message".to_owned(), &spec.message)]) {
        if !message.languages.is_empty() {
            let fix = "add a split by segments of languages, and a send behind each branch";
            found.push(Problem::error("no_languages", path, "a sequence sends each step in one language", fix));
        }
    }
    for (place, step) in spec.steps.iter().enumerate() {
        if let Some(text) = step.too_late.as_ref().filter(|text| seconds(text).is_none_or(|s| s == 0)) {
            let message = format!("{text:?} is no length of time");
            let path = format!("steps.{place}.too_late");
            found.push(Problem::error("bad_length", path, message, "write it as \"30m\", \"2h\" or \"1d\""));
        }
    }
    if spec.follow_up != Default::default() {
        let message = "a follow-up waits, and a sequence has no waits";
        let fix = "add a split by engagement with a date, and a send behind it";
        found.push(Problem::error("wait_in_sequence", "follow_up", message, fix));
    }
}

/// The messages of a sequence, each with the path of its step: as written there, and as it would be sent.
pub(in crate::campaigns) fn messages(spec: &CampaignSpec) -> Vec<(String, &MessageSpec, MessageSpec)> {
    let sends = spec.steps.iter().enumerate().filter(|(_, step)| step.kind.as_deref() == Some("send"));
    let each = sends.map(|(place, step)| {
        let own = &step.message;
        let message = MessageSpec {
            channel: own.channel.or(spec.message.channel),
            connector: own.connector.clone().or_else(|| spec.message.connector.clone()),
            topic: own.topic.clone().or_else(|| spec.message.topic.clone()),
            fields: overlaid(&spec.message.fields, &own.fields),
            ..spec.message.clone()
        };
        (format!("steps.{place}.message"), own, message)
    });
    each.collect()
}

// The nodes of a step and its ends have ids of their own, all below those of implicit ends.
const _: () = assert!(
    limits::SEQUENCE_BRANCHES_MAX + 2 < ENDS as usize
        && ENDS as usize + limits::SEQUENCE_BRANCHES_MAX < STRIDE as usize
);
const _: () = assert!((limits::SEQUENCE_NUMBER_MAX as u64 + 2) * (STRIDE as u64) < 1 << 31);

/// Ids of the steps by number.
pub fn ids(spec: &CampaignSpec) -> BTreeMap<u16, String> {
    plan::read(spec).0.steps.into_iter().map(|step| (step.number, step.id)).collect()
}
