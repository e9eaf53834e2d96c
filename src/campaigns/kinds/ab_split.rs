//! A/B split: start → test → a send per variant → end. One delivery: nobody gets two versions.

use std::ops::Range;

use super::moments;
use super::{Built, END, START, delivery, message_of};
use crate::campaigns::compile::{CompileError, SendPlan};
use crate::campaigns::spec::kinds::{basis_points, seconds};
use crate::campaigns::spec::{CampaignSpec, MessageSpec, SampleSpec};
use crate::campaigns::validate::Problem;
use crate::clock::Timestamp;
use crate::flow::nodes::{AbTest, Arm, NotProven, SampleSize};
use crate::flow::{EndKind, Exit, GraphParts, NodeId, NodeKind};
use crate::limits;

const TEST: NodeId = NodeId(1);
/// The send of variant i has this id plus i.
const FIRST_SEND: u32 = 10;
/// The wait for the moment of variant i has this id plus i.
const FIRST_WAIT: u32 = 40;
/// All of these waits.
pub(super) const WAITS: Range<u32> = FIRST_WAIT..FIRST_WAIT + limits::WINNER_ARMS_MAX as u32;
const DECIDE_AFTER_DEFAULT: &str = "4h";
const SAMPLE_DEFAULT_BASIS: u32 = 2_000;

/// A, B, … for variants without a name.
pub(super) fn name_of(spec: &CampaignSpec, at: usize) -> String {
    let letter = || u8::try_from(at).ok().map_or('?', |at| char::from(b'A'.saturating_add(at))).to_string();
    spec.variants.get(at).and_then(|variant| variant.name.clone()).unwrap_or_else(letter)
}

/// The test as the spec wants it; what it does not say has a default.
fn test_of(spec: &CampaignSpec) -> AbTest {
    let test = &spec.test;
    let sample = match &test.sample {
        None => SampleSize::Share(SAMPLE_DEFAULT_BASIS),
        Some(SampleSpec::Contacts(count)) => SampleSize::Contacts(*count),
        Some(SampleSpec::Share(text)) => SampleSize::Share(basis_points(text).unwrap_or(0)),
    };
    let not_proven = match test.if_not_proven.as_deref() {
        None | Some("leader") => NotProven::Leader,
        Some("wait") => NotProven::Wait,
        Some("nobody") => NotProven::Nobody,
        Some(name) => NotProven::Arm(Exit(name.to_owned().into())),
    };
    let arms = spec.variants.iter().enumerate();
    let decide_after_seconds = seconds(test.decide_after.as_deref().unwrap_or(DECIDE_AFTER_DEFAULT)).unwrap_or(0);
    let window = test.window.as_deref().and_then(seconds);
    let moments = moments::tested(spec);
    let decide_after_seconds = match &test.decide_after {
        None if moments => moments::deadline_seconds(spec),
        _ => decide_after_seconds,
    };
    // Who was sent to in the first half of the test is judged by a whole window.
    let window_default = if moments { moments::WINDOW_DEFAULT } else { decide_after_seconds / 2 };
    AbTest {
        arms: arms
            .map(|(at, variant)| Arm { exit: Exit(name_of(spec, at).into()), weight: variant.weight.unwrap_or(1) })
            .collect(),
        sample,
        metric: test.winner_by.unwrap_or_default(),
        decide_after_seconds,
        looks: test.looks.unwrap_or(1),
        not_proven,
        min_delivered: test.min_delivered.unwrap_or(limits::WINNER_DELIVERED_MIN),
        min_events: test.min_events.unwrap_or(limits::WINNER_EVENTS_MIN),
        window_seconds: window.unwrap_or(window_default),
        goal: test.goal.clone(),
        moments,
        look_every_seconds: 0,
    }
}

pub(in crate::campaigns) fn build(spec: &CampaignSpec) -> Result<Built, CompileError> {
    let mut parts = GraphParts::default();
    parts.node(START, "start", NodeKind::Start);
    parts.node(TEST, "test", NodeKind::AbTest(test_of(spec)));
    parts.node(END, "end", NodeKind::End { kind: EndKind::Neutral });
    parts.edge(START, Exit::NEXT, TEST);
    let mut messages = Vec::new();
    let mut sends = Vec::new();
    for (at, variant) in spec.variants.iter().enumerate() {
        let name = name_of(spec, at);
        let id = u16::try_from(at).unwrap_or(u16::MAX);
        let message = message_of(spec, id, &name, &variant.message)?;
        let node = parts.node(NodeId(FIRST_SEND + u32::from(id)), name.clone(), NodeKind::send(0, id));
        let first = match moments::delay(spec, at) {
            None => node,
            Some(delay) => {
                let wait = NodeId(FIRST_WAIT + u32::from(id));
                let moment = variant.at.as_deref().unwrap_or_default();
                parts.node(wait, format!("{name}: {moment}"), NodeKind::Delay(delay));
                parts.edge(wait, Exit::NEXT, node);
                wait
            }
        };
        parts.edge(TEST, Exit(name.into()), first);
        sends.push(SendPlan { node, message: message.id });
        messages.push(message);
    }
    let first = messages.first().ok_or(CompileError::Missing { path: "variants" })?;
    let mut plan = delivery(spec, 0, "variants", first);
    let lasts = sends.iter().map(|send| send.node).collect();
    plan.sends = sends;
    Ok(Built { parts, deliveries: vec![plan], messages, lasts })
}

/// What is wrong with `[[variants]]` and `[test]`.
pub(in crate::campaigns) fn problems(spec: &CampaignSpec, now: Timestamp, found: &mut Vec<Problem>) {
    let test = &spec.test;
    moments::problems(spec, now, found);
    if let Some(SampleSpec::Share(text)) = &test.sample
        && basis_points(text).is_none()
    {
        let message = format!("{text:?} is no share");
        found.push(Problem::error(
            "bad_sample",
            "test.sample",
            message,
            "write it as \"20%\", or a number of contacts",
        ));
    }
    if let Some(text) = test.decide_after.as_deref().filter(|text| seconds(text).is_none()) {
        let message = format!("{text:?} is no length of time");
        found.push(Problem::error("bad_length", "test.decide_after", message, "write it as \"30m\", \"4h\" or \"2d\""));
    }
    if let Some(text) = test.window.as_deref().filter(|text| seconds(text).is_none_or(|seconds| seconds == 0)) {
        let message = format!("{text:?} is no length of time");
        found.push(Problem::error("bad_length", "test.window", message, "write it as \"30m\", \"4h\" or \"2d\""));
    }
    // Of a length that cannot be read, nothing is said that follows from the default in its place.
    let unread = found.iter().any(|p| p.blocks() && p.path.starts_with("test."));
    let follows = |code: &str| unread && ["sample", "decide_after", "window"].contains(&code);
    for fault in test_of(spec).faults().into_iter().filter(|fault| !follows(fault.code)) {
        let path = if matches!(fault.code, "arms" | "exit_twice" | "unnamed_exit" | "arm_share") {
            "variants"
        } else {
            "test"
        };
        found.push(Problem::error(fault.code, path, fault.message, fault.fix));
    }
    for (at, variant) in spec.variants.iter().enumerate() {
        if variant.message == MessageSpec::default() && variant.at.is_none() && spec.variants.len() > 1 {
            let message = format!("variant {:?} is the message as it is", name_of(spec, at));
            let fix = "fine for one variant; give the others a subject, a body or a sender of their own";
            found.push(Problem::warning("same_message", format!("variants.{at}"), message, fix));
        }
    }
}
