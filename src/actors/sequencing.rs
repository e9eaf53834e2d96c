//! What a sequence does next: when its cohort is fixed, when a step starts, and what its stop cancels.
//!
//! Functions over the run's state; each answer becomes one fact. Invariants: SE-1 the cohort is looked for at the effective
//! start of the first step, and not before; SE-2 a step starts when its time has come and no contact before it is pending
//! or claimed; contacts whose message was deferred do not hold it; a step whose
//! hour has passed by more than its limit starts when a person says so, and so does the cohort of a first one; SE-3 requests are taken until the first dated step starts.
//!
//! Must not know: actix, clocks, the journal, the base.

use roaring::RoaringBitmap;

use crate::actors::flowing::{Task, moved};
use crate::clock::Timestamp;
use crate::flow::nodes::{SetAttribute, StepGate};
use crate::flow::{Exit, NodeId, NodeKind};
use crate::ledger::sequence::StepStarted;
use crate::ledger::{Fact, Run, RunState};
use crate::limits::SET_ATTRIBUTE_ROWS_MAX;

/// What is to be done for the sequence as a whole.
pub fn next_task(run: &Run, now: Timestamp) -> Option<Task> {
    let sequence = run.sequence.as_ref()?;
    if !run.expects_contacts() {
        return None;
    }
    let first = run.first_start()?;
    if now < first || run.first_gates().into_iter().all(|gate| is_held(run, gate, now)) {
        return None;
    }
    if !sequence.by_request {
        return Some(Task::Cohort { run: run.id });
    }
    // No request came, or all who came are through: the first dated step starts all the same, and ends the requests.
    let empty = run.first_gates().into_iter().find(|gate| run.positions.count(*gate) == 0);
    empty.filter(|gate| may_start(run, *gate, now)).map(|gate| started(run, gate, now))
}

fn gate(run: &Run, node: NodeId) -> Option<StepGate> {
    match run.graph.node(node).map(|n| &n.kind) {
        Some(NodeKind::Step(gate)) => Some(*gate),
        _ => None,
    }
}

/// Whether the hour of a step has passed by more than its limit, and no person has decided about it: it does not start by
/// itself.
pub fn is_held(run: &Run, node: NodeId, now: Timestamp) -> bool {
    let decided = |run: &Run| {
        let sequence = run.sequence.as_ref();
        sequence.is_none_or(|s| s.started.contains_key(&node) || s.released.contains_key(&node))
    };
    gate(run, node).is_some_and(|gate| gate.is_too_late(now.0)) && !decided(run)
}

fn may_start(run: &Run, node: NodeId, now: Timestamp) -> bool {
    is_due(run, node, now) && !is_held(run, node, now) && is_drained(run, node)
}

fn is_due(run: &Run, node: NodeId, now: Timestamp) -> bool {
    gate(run, node).is_some_and(|gate| gate.effective <= now.0)
}

/// Whether nobody before a step is pending or claimed, or waits for a step before it.
pub fn is_drained(run: &Run, node: NodeId) -> bool {
    let nobody = RoaringBitmap::new();
    run.graph.upstream(node).into_iter().all(|before| {
        let here = run.positions.at(before).unwrap_or(&nobody);
        match run.graph.node(before).map(|n| &n.kind) {
            Some(NodeKind::Send { delivery, .. }) => {
                run.delivery(*delivery).is_none_or(|delivery| here.is_subset(&delivery.deferred))
            }
            _ => here.is_empty(),
        }
    })
}

fn started(run: &Run, node: NodeId, at: Timestamp) -> Task {
    let step = run.graph.node(node).map_or_else(String::new, |n| n.name.clone());
    let step = step.split(':').next().unwrap_or_default().to_owned();
    Task::Record(Fact::StepStarted(StepStarted { run: run.id, node, step, at }))
}

/// Contacts at the gate of a step: the step starts, or they go on because it has.
pub fn gate_task(run: &Run, node: NodeId, rows: &RoaringBitmap, now: Timestamp) -> Option<Task> {
    let sequence = run.sequence.as_ref()?;
    if sequence.started.contains_key(&node) {
        return Some(moved(run, node, vec![(Exit::NEXT, rows.clone())], now));
    }
    may_start(run, node, now).then(|| started(run, node, now))
}

/// Whether a node is what a step does that a person had skipped.
pub fn is_behind_skipped(run: &Run, node: NodeId) -> bool {
    let node = run.graph.send_of_all(node);
    let behind = |gate: &NodeId| run.graph.target(*gate, &Exit::NEXT);
    let leads_here = |gate: &NodeId| behind(gate).is_some_and(|behind| run.graph.send_of_all(behind) == node);
    run.sequence.as_ref().is_some_and(|sequence| sequence.skipped.iter().any(leads_here))
}

/// Why a person cannot start or skip a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    #[error("it has started")]
    Started,
    #[error("a person has decided about it already")]
    Decided,
    #[error("its hour has not passed by more than its limit (too_late): it starts by itself")]
    InTime,
    #[error("a split cannot be skipped, because its contacts go on by one of its branches: start it")]
    Split,
    #[error("the campaign is {state}: it is running or paused that steps are started in")]
    NotLive { state: &'static str },
}

/// Whether a person may decide about the step behind a gate.
pub fn may_release(run: &Run, node: NodeId, skip: bool, now: Timestamp) -> Result<(), NotHeld> {
    let sequence = run.sequence.as_ref();
    if !matches!(run.state, RunState::Running | RunState::Paused) {
        return Err(NotHeld::NotLive { state: run.state.name() });
    }
    if sequence.is_some_and(|s| s.started.contains_key(&node)) {
        return Err(NotHeld::Started);
    }
    if sequence.is_some_and(|s| s.released.contains_key(&node)) {
        return Err(NotHeld::Decided);
    }
    if !is_held(run, node, now) {
        return Err(NotHeld::InTime);
    }
    let behind = run.graph.target(node, &Exit::NEXT).map(|behind| run.graph.send_of_all(behind));
    let behind = behind.and_then(|behind| run.graph.node(behind));
    let passes = behind.is_some_and(|n| matches!(n.kind, NodeKind::Send { .. } | NodeKind::SetAttribute(_)));
    if skip && !passes { Err(NotHeld::Split) } else { Ok(()) }
}

/// The next contacts whose field gets its value: a bounded number at a time.
pub fn set_task(node: NodeId, set: &SetAttribute, rows: &RoaringBitmap) -> Task {
    let rows = rows.iter().take(SET_ATTRIBUTE_ROWS_MAX).collect();
    Task::SetAttribute { node, rows, attribute: set.attribute.clone(), value: set.value() }
}

/// Why a request can bring nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEntry {
    #[error(
        "the campaign is started by its audience, and not by requests: set starter = \"api\" before it is published"
    )]
    NotByRequest,
    #[error("the campaign is not published: nobody enters")]
    NotPublished,
    #[error("the first dated step has started: nobody enters any more")]
    FirstStepStarted,
    #[error("the campaign is {state}: nobody enters")]
    NotRunning { state: &'static str },
}

/// Whether requests are taken.
pub fn may_enter(run: &Run, now: Timestamp) -> Result<(), NoEntry> {
    let sequence = run.sequence.as_ref().filter(|sequence| sequence.by_request).ok_or(NoEntry::NotByRequest)?;
    if !sequence.started.is_empty() || run.first_start().is_some_and(|first| first <= now) {
        return Err(NoEntry::FirstStepStarted);
    }
    match run.state {
        crate::ledger::RunState::Running => Ok(()),
        other => Err(NoEntry::NotRunning { state: other.name() }),
    }
}

/// Contacts that a step still has to come: those at it, in whichever language, and those at a node before it.
pub fn ahead_of(run: &Run, entry: NodeId) -> RoaringBitmap {
    let nodes = run.graph.upstream(entry).into_iter().chain(run.graph.versions(entry));
    nodes.filter_map(|node| run.positions.at(node)).fold(RoaringBitmap::new(), |all, rows| all | rows)
}
