//! A second message after a time, to those who did or did not react to the first: … → wait → condition → send → end.
//!
//! Only who was accepted can be followed up. The second message is a delivery of its own, entered on arrival: consent and
//! suppression are looked at anew.

use super::{Built, END, delivery, message_of};
use crate::campaigns::compile::{CompileError, SendPlan};
use crate::campaigns::spec::kinds::seconds;
use crate::campaigns::spec::{CampaignSpec, FollowUpOn, FollowUpSpec};
use crate::campaigns::validate::Problem;
use crate::flow::nodes::condition::{FALSE, TRUE};
use crate::flow::nodes::delay::{HAPPENED, TIMED_OUT};
use crate::flow::nodes::{Condition, Delay, Test, WaitEvent};
use crate::flow::{EndKind, Exit, NodeId, NodeKind};

/// The wait behind send i has this id plus four times i; its condition follows.
const FIRST: u32 = 1_000;
const SEND: NodeId = NodeId(900);

pub(in crate::campaigns) fn wanted(spec: &CampaignSpec) -> bool {
    spec.follow_up != FollowUpSpec::default()
}

/// Hangs the follow-up behind the sends that the flow ended with.
pub(in crate::campaigns) fn add(spec: &CampaignSpec, built: &mut Built) -> Result<(), CompileError> {
    let on = spec.follow_up.on.unwrap_or_default();
    let after = spec.follow_up.after.as_deref().and_then(seconds);
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
    plan.sends = vec![SendPlan { node: SEND, message: message.id }];
    built.deliveries.push(plan);
    built.messages.push(message);
    if !parts.nodes.iter().any(|node| node.id == END) {
        parts.node(END, "end", NodeKind::End { kind: EndKind::Neutral });
    }
    Ok(())
}

/// What is wrong with `[follow_up]`.
pub(in crate::campaigns) fn problems(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    if !wanted(spec) {
        return;
    }
    const PATH: &str = "follow_up.after";
    match spec.follow_up.after.as_deref() {
        None => {
            let message = "the follow-up has no time";
            found.push(Problem::error("no_length", PATH, message, "set follow_up.after, such as \"5d\""));
        }
        Some(text) if seconds(text).is_none_or(|seconds| seconds == 0) => {
            let message = format!("{text:?} is no length of time");
            found.push(Problem::error("bad_length", PATH, message, "write it as \"30m\", \"4h\" or \"5d\""));
        }
        Some(_) => {}
    }
}
