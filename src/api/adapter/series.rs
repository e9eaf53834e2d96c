//! Counters of a run as series: by message, by variant of a test, by node. The same counters that reports and verdicts read.

use std::collections::BTreeMap;

use crate::actors::verdict;
use crate::clock::Timestamp;
use crate::flow::NodeKind;
use crate::flow::winner::Judgement;
use crate::ids::MessageId;
use crate::ledger::Run;
use crate::ledger::tracking::{EventClass, EventSets, MessageTracking};
use crate::limits::{METRIC_MESSAGES_MAX, METRIC_NODES_MAX};
use crate::metrics::{MessageSeries, NodeSeries, TestSeries};

/// Messages of a run, in order of their sends.
pub(super) fn messages(run: &Run) -> Vec<MessageSeries> {
    let none = MessageTracking::default();
    let sends = run.graph.nodes().filter_map(|node| match &node.kind {
        NodeKind::Send { delivery, message, .. } => Some((node, run.delivery(*delivery)?, *message)),
        _ => None,
    });
    let each = sends.take(METRIC_MESSAGES_MAX).map(|(node, delivery, message)| {
        let tracking = run.messages.get(&MessageId(message)).unwrap_or(&none);
        let assigned = delivery.assigned(node.id);
        let kinds = [("open", &tracking.opened), ("click", &tracking.clicked)];
        let counts = |count: fn(&EventSets, EventClass) -> u64| {
            let classes = |(event, sets): (&'static str, &EventSets)| {
                EventClass::ALL.map(|class| ((event, class.name()), count(sets, class)))
            };
            kinds.into_iter().flat_map(classes).collect::<BTreeMap<_, _>>()
        };
        let mut unique = counts(EventSets::unique);
        unique.insert(("unsubscribe", EventClass::Human.name()), tracking.unsubscribed.len());
        let mut total = counts(EventSets::total);
        if let Some(feedback) = run.feedback_of(node.id) {
            for class in EventClass::ALL {
                unique.insert(("convert", class.name()), feedback.converted.unique(class));
                total.insert(("convert", class.name()), feedback.converted.total(class));
            }
            unique.insert(("complain", EventClass::Human.name()), feedback.complained.rows.len());
        }
        MessageSeries {
            message,
            variant: node.name.clone(),
            assigned: assigned.len(),
            accepted: delivery.accepted.intersection_len(assigned),
            unique,
            total,
            links: tracking.links.iter().map(|(link, sets)| (*link, sets.unique(EventClass::Human))).collect(),
        }
    });
    each.collect()
}

/// Tests of a run, with the counters that decide them.
pub(super) fn tests(run: &Run, now: Timestamp) -> Vec<TestSeries> {
    let tests = run.graph.nodes().filter_map(|node| match &node.kind {
        NodeKind::AbTest(test) => Some((node.id, test, run.flow.tests.get(&node.id)?)),
        _ => None,
    });
    let each = tests.map(|(node, test, memory)| {
        let at = memory.decided.as_ref().map_or(now, |decided| decided.at);
        let look = memory.looks.last();
        let judgement: Option<Judgement> = look.and_then(|look| serde_json::from_str(&look.statistics).ok());
        let effect = judgement.as_ref().and_then(verdict::effect);
        let person = verdict::waits_for_person(test, memory).filter(|_| run.state.is_live());
        let state = match (&memory.decided, person) {
            (Some(_), _) => "decided",
            (None, Some(_)) => "waits_for_person",
            (None, None) if run.state.is_live() => "testing",
            (None, None) => "undecided",
        };
        let arms = verdict::figures(run, node, test, at).into_iter().map(|arm| {
            let counts = [
                ("accepted", arm.accepted),
                ("matured", arm.matured),
                ("bounced", arm.bounced),
                ("delivered", arm.delivered),
                ("events", arm.events),
                ("machine", arm.machine),
                ("suspect", arm.suspect),
                ("unsubscribed", arm.unsubscribed),
                ("complained", arm.complained),
            ];
            (arm.arm.name().to_owned(), counts.into())
        });
        TestSeries {
            node: node.to_string(),
            state,
            arms: arms.collect(),
            look: look.map_or(0, |look| look.look),
            p: effect.as_ref().map(|effect| effect.p_holm),
            effect: effect.as_ref().map(|effect| effect.difference),
            winner: memory.decided.as_ref().and_then(|decided| Some(decided.winner.as_ref()?.name().to_owned())),
        }
    });
    each.collect()
}

/// Nodes of a run, in order of their ids.
pub(super) fn nodes(run: &Run) -> Vec<NodeSeries> {
    let each = run.graph.nodes().take(METRIC_NODES_MAX).map(|node| NodeSeries {
        node: node.id.to_string(),
        contacts: run.positions.count(node.id),
        moved: run.flow.left.get(&node.id).into_iter().flat_map(BTreeMap::values).sum(),
    });
    each.collect()
}

/// Contacts that wait for a time, an event or a winner.
pub(super) fn waiting(run: &Run) -> u64 {
    let waits = |kind: &NodeKind| matches!(kind, NodeKind::Delay(_) | NodeKind::AbTest(_));
    let at = run.positions.iter().filter(|(id, _)| run.graph.node(*id).is_some_and(|node| waits(&node.kind)));
    at.map(|(_, rows)| rows.len()).sum()
}
