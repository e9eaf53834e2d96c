//! A second message after a time, to those who did or did not react to the first: … → wait → condition → send → end.
//!
//! Only who was accepted can be followed up. The second message is a delivery of its own, entered on arrival: consent and
//! suppression are looked at anew. It may have a `send_until` of its own.
//!
//! `split_on_open = "5d"` of a single campaign is the time of its follow-up in another word; without a follow-up it sorts those who
//! were accepted: who opens comes to the end *opened* at the open, the others to *not opened* when the time is over.

use super::{Built, END, delivery, message_of};
use crate::campaigns::compile::{CompileError, SendPlan};
use crate::campaigns::spec::kinds::seconds;
use crate::campaigns::spec::{CampaignSpec, FollowUpOn, FollowUpSpec};
use crate::campaigns::validate::Problem;
use crate::clock::Timestamp;
use crate::flow::nodes::condition::{FALSE, TRUE};
use crate::flow::nodes::delay::{HAPPENED, TIMED_OUT};
use crate::flow::nodes::{Condition, Delay, Test, WaitEvent};
use crate::flow::{EndKind, Exit, NodeId, NodeKind};
use crate::limits::{SPLIT_ON_OPEN_SECONDS_MAX, SPLIT_ON_OPEN_SECONDS_MIN, WAIT_SECONDS_MAX};

/// The wait behind send i has this id plus four times i; its condition follows.
const FIRST: u32 = 1_000;
const SEND: NodeId = NodeId(900);
/// Ends of those who opened in time, and of those who did not.
const OPENED: NodeId = NodeId(901);
const NOT_OPENED: NodeId = NodeId(902);

pub(in crate::campaigns) fn wanted(spec: &CampaignSpec) -> bool {
    spec.follow_up != FollowUpSpec::default()
}

/// How long after the first message, as it is written.
fn written(spec: &CampaignSpec) -> Option<&str> {
    spec.follow_up.after.as_deref().or(spec.split_on_open.as_deref())
}

/// Seconds after the first message at which the follow-up is due.
pub(in crate::campaigns) fn after(spec: &CampaignSpec) -> Option<u32> {
    written(spec).and_then(seconds)
}

/// Sorts by who opens, and sends nothing more.
pub(in crate::campaigns) fn split_on_open(spec: &CampaignSpec, built: &mut Built) -> Result<(), CompileError> {
    let seconds = after(spec).ok_or(CompileError::Missing { path: "split_on_open" })?;
    let parts = &mut built.parts;
    parts.node(OPENED, "opened", NodeKind::End { kind: EndKind::Success });
    parts.node(NOT_OPENED, "not opened", NodeKind::End { kind: EndKind::Neutral });
    for (at, last) in std::mem::take(&mut built.lasts).into_iter().enumerate() {
        let wait = NodeId(FIRST + 4 * u32::try_from(at).unwrap_or(0));
        let accepted = NodeId(wait.0 + 1);
        let name = parts.nodes.iter().find(|node| node.id == last).map_or(String::new(), |node| node.name.clone());
        let delivered = Condition { test: Test::Delivered(last) };
        parts.node(accepted, format!("{name}: delivered?"), NodeKind::Condition(delivered));
        let event = WaitEvent::Opened(last);
        parts.node(wait, format!("{name}: opened?"), NodeKind::Delay(Delay::Event { event, seconds }));
        parts.edge(last, Exit::NEXT, accepted);
        parts.edge(accepted, TRUE, wait);
        parts.edge(accepted, FALSE, END);
        parts.edge(wait, HAPPENED, OPENED);
        parts.edge(wait, TIMED_OUT, NOT_OPENED);
    }
    Ok(())
}

/// What is wrong with `split_on_open`.
fn split_problems(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    const PATH: &str = "split_on_open";
    let Some(text) = spec.split_on_open.as_deref() else { return };
    let allowed = SPLIT_ON_OPEN_SECONDS_MIN..=SPLIT_ON_OPEN_SECONDS_MAX;
    if !seconds(text).is_some_and(|seconds| allowed.contains(&seconds)) {
        let message = format!("{text:?} is no time to wait for an open");
        found.push(Problem::error("bad_split_on_open", PATH, message, "set 30 minutes to 30 days, such as \"5d\""));
    }
    if wanted(spec) && spec.follow_up.after.is_some() {
        let message = "split_on_open and follow_up.after say the same thing";
        found.push(Problem::error("split_twice", PATH, message, "keep one of them"));
    } else if wanted(spec)
        && !matches!(spec.follow_up.on.unwrap_or_default(), FollowUpOn::Opened | FollowUpOn::NotOpened)
    {
        let message = "split_on_open waits for opens, and the follow-up goes by clicks";
        found.push(Problem::error("split_twice", PATH, message, "set follow_up.after instead"));
    }
}

/// Hangs the follow-up behind the sends that the flow ended with.
pub(in crate::campaigns) fn add(spec: &CampaignSpec, built: &mut Built) -> Result<(), CompileError> {
    let on = spec.follow_up.on.unwrap_or_default();
    let after = written(spec).and_then(seconds);
    let after = after.ok_or(CompileError::Missing { path: "follow_up.after" })?;
    let id = u16::try_from(built.messages.len()).unwrap_or(u16::MAX);
    let index = u16::try_from(built.deliveries.len()).unwrap_or(u16::MAX);
    let message = message_of(spec, id, "follow-up", &spec.follow_up.message)?;
    let parts = &mut built.parts;
    parts.node(SEND, "follow-up", NodeKind::send(index, id));
    parts.edge(SEND, Exit::NEXT, END);
    for (at, last) in std::mem::take(&mut built.lasts).into_iter().enumerate() {
        let wait = NodeId(FIRST + 4 * u32::try_from(at).unwrap_or(0));
        let (accepted, sorted) = (NodeId(wait.0 + 1), NodeId(wait.0 + 2));
        let name = parts.nodes.iter().find(|node| node.id == last).map_or(String::new(), |node| node.name.clone());
        parts.node(
            accepted,
            format!("{name}: delivered?"),
            NodeKind::Condition(Condition { test: Test::Delivered(last) }),
        );
        parts.edge(last, Exit::NEXT, accepted);
        parts.edge(accepted, TRUE, wait);
        parts.edge(accepted, FALSE, END);
        let event = match on {
            FollowUpOn::Opened | FollowUpOn::NotOpened => WaitEvent::Opened(last),
            FollowUpOn::Clicked | FollowUpOn::NotClicked => WaitEvent::Clicked(last),
        };
        match on {
            // Who did it leaves as soon as it happened; the time is how long the others are waited for.
            FollowUpOn::NotOpened | FollowUpOn::NotClicked => {
                parts.node(wait, format!("{name}: wait"), NodeKind::Delay(Delay::Event { event, seconds: after }));
                parts.edge(wait, HAPPENED, END);
                parts.edge(wait, TIMED_OUT, SEND);
            }
            FollowUpOn::Opened | FollowUpOn::Clicked => {
                let test = if on == FollowUpOn::Opened { Test::Opened(last) } else { Test::Clicked(last) };
                parts.node(wait, format!("{name}: wait"), NodeKind::Delay(Delay::Seconds(after)));
                parts.node(sorted, format!("{name}: {}?", test.name()), NodeKind::Condition(Condition { test }));
                parts.edge(wait, Exit::NEXT, sorted);
                parts.edge(sorted, TRUE, SEND);
                parts.edge(sorted, FALSE, END);
            }
        }
    }
    let mut plan = delivery(spec, index, "follow-up", &message);
    plan.on_arrival = true;
    plan.send_until = spec.follow_up.send_until.or(spec.send_until);
    plan.sends = vec![SendPlan { node: SEND, message: message.id }];
    built.deliveries.push(plan);
    built.messages.push(message);
    if !parts.nodes.iter().any(|node| node.id == END) {
        parts.node(END, "end", NodeKind::End { kind: EndKind::Neutral });
    }
    Ok(())
}

/// What is wrong with `[follow_up]`.
pub(in crate::campaigns) fn problems(spec: &CampaignSpec, now: Timestamp, found: &mut Vec<Problem>) {
    split_problems(spec, found);
    if !wanted(spec) {
        return;
    }
    const PATH: &str = "follow_up.after";
    match spec.follow_up.after.as_deref() {
        None if spec.split_on_open.is_some() => {}
        None => {
            let message = "the follow-up has no time";
            found.push(Problem::error("no_length", PATH, message, "set follow_up.after, such as \"5d\""));
        }
        Some(text) if seconds(text).is_none_or(|seconds| seconds == 0) => {
            let message = format!("{text:?} is no length of time");
            found.push(Problem::error("bad_length", PATH, message, "write it as \"30m\", \"4h\" or \"5d\""));
        }
        Some(text) if seconds(text).is_some_and(|seconds| seconds > WAIT_SECONDS_MAX) => {
            let message = format!("{text:?} is longer than a wait may be");
            let fix = format!("set {} days at most", WAIT_SECONDS_MAX / 86_400);
            found.push(Problem::error("bad_length", PATH, message, fix));
        }
        Some(_) => {}
    }
    if let Some(until) = spec.follow_up.send_until.filter(|until| *until <= now) {
        let message = format!("send_until, {until}, is past: nobody would get the follow-up");
        let fix = "set a later instant, or remove it";
        found.push(Problem::error("send_until_past", "follow_up.send_until", message, fix));
    }
}
