//! A sequence at one moment: each step with its start, its lock and its contacts.
//!
//! Functions over the folded state. Owns nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::actors::sequencing::{ahead_of, is_held};
use crate::campaigns::kinds::sequence::{action_of, gate_of};
use crate::campaigns::languages;
use crate::campaigns::schedule::Launch;
use crate::campaigns::sequence::{Lock, Plan, Step, plan};
use crate::campaigns::{CampaignSpec, parse};
use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::calendar::Entry;
use crate::engine::runs::state_of;
use crate::flow::{Graph, NodeId, NodeKind};
use crate::ids::CampaignId;
use crate::ledger::plans::{NextLaunch, Outcome};
use crate::ledger::{Run, RunState, State};
use crate::segments::skip::SkipReason;

/// One step of the version in force.
#[derive(Clone, Debug, PartialEq)]
pub struct StepNow {
    pub id: String,
    pub kind: &'static str,
    pub after: Vec<String>,
    pub lock: Lock,
    pub planned: Option<Timestamp>,
    pub effective: Option<Timestamp>,
    /// Since when its gate is open.
    pub started: Option<Timestamp>,
    /// Contacts that wait for its start.
    pub waiting: u64,
    /// Contacts that ever arrived at what it does.
    pub reached: u64,
    /// Contacts that may still come to it, those that wait included.
    pub ahead: u64,
    /// Its hour has passed by more than its limit: it waits for a person.
    pub held: bool,
    /// A person had it skipped.
    pub skipped: bool,
    /// Of the delivery of a send, contacts whose message is accepted, and those whose message a stop has cancelled.
    pub accepted: u64,
    pub stopped: u64,
    /// Contacts whose message is claimed, pending or deferred.
    pub open: u64,
}

impl StepNow {
    /// Whether it is a send that is under way: a stop cancels what is left of it.
    pub fn is_under_way(&self) -> bool {
        !self.is_to_come() && (self.open > 0 || self.ahead > 0)
    }

    /// Whether a stop at this moment keeps it from starting.
    pub fn is_to_come(&self) -> bool {
        self.started.is_none() && self.reached == 0
    }
}

/// When a gate opens by the graph; none for a step without a date.
pub fn effective_of(graph: &Graph, gate: NodeId) -> Option<Timestamp> {
    match graph.node(gate).map(|n| &n.kind) {
        Some(NodeKind::Step(gate)) => Some(Timestamp(gate.effective)),
        _ => None,
    }
}

/// Whether the hour of a step that has not started is past, and somebody is to come to it: it starts as soon as it can.
pub fn is_overdue(run: &Run, step: &Step, now: Timestamp) -> bool {
    let gate = gate_of(step.number);
    let past = effective_of(&run.graph, gate).is_some_and(|at| at <= now);
    let awaited = run.expects_contacts() || !ahead_of(run, gate).is_empty();
    past && awaited && !has_started(run, step)
}

fn has_started(run: &Run, step: &Step) -> bool {
    let open = run.sequence.as_ref().is_some_and(|s| s.started.contains_key(&gate_of(step.number)));
    open || reached(run, step) > 0
}

/// Contacts that ever came to what a step does: in several languages they are sorted first.
fn reached(run: &Run, step: &Step) -> u64 {
    let action = action_of(step.number);
    let arrived = |node: NodeId| run.flow.arrived.get(&node).copied().unwrap_or(0);
    arrived(action).max(arrived(languages::sort_of(action)))
}

/// Whether a step of a run has started, or its hour has come: no later version moves it.
pub fn is_executed(run: &Run, step: &Step, now: Timestamp) -> bool {
    has_started(run, step) || effective_of(&run.graph, gate_of(step.number)).is_some_and(|at| at <= now)
}

/// What may still be changed of a step of the version in force: nothing from its effective start on, whoever comes to it,
/// and nothing once the run is over.
pub fn lock_of(run: &Run, step: &Step, now: Timestamp) -> Lock {
    let over = matches!(run.state, RunState::Finished | RunState::Stopped | RunState::Stopping);
    if over || is_executed(run, step, now) {
        Lock::Executed
    } else if run.positions.count(gate_of(step.number)) > 0 {
        Lock::Current
    } else {
        Lock::Unreached
    }
}

/// The spec of a version of a campaign.
pub fn spec_of(state: &State, id: CampaignId, version: u32) -> Option<CampaignSpec> {
    let text = state.campaigns.get(&id)?.versions.get(&version)?;
    parse::from_stored(text).ok()
}

/// The steps of the version in force, in order.
pub fn steps(run: &Run, spec: &CampaignSpec, now: Timestamp) -> Vec<StepNow> {
    let (plan, _) = plan::read(spec);
    plan.steps.iter().map(|step| step_now(run, &plan, step, now)).collect()
}

fn step_now(run: &Run, plan: &Plan, step: &Step, now: Timestamp) -> StepNow {
    let (gate, action) = (gate_of(step.number), action_of(step.number));
    let entry = if step.planned.is_some() { gate } else { action };
    let delivery = match run.graph.node(action).map(|n| &n.kind) {
        Some(NodeKind::Send { delivery, .. }) => run.delivery(*delivery),
        _ => None,
    };
    let counts = delivery.map(|delivery| delivery.counts()).unwrap_or_default();
    let stopped = delivery.and_then(|delivery| delivery.skipped.get(&SkipReason::Stopped)).map_or(0, |rows| rows.len());
    StepNow {
        id: step.id.clone(),
        kind: step.kind.name(),
        after: step.origins.iter().map(|origin| plan.origin_name(origin)).collect(),
        lock: lock_of(run, step, now),
        planned: step.planned,
        effective: effective_of(&run.graph, gate),
        started: run.sequence.as_ref().and_then(|s| s.started.get(&gate)).copied(),
        waiting: run.positions.count(gate),
        reached: reached(run, step),
        ahead: ahead_of(run, entry).len(),
        held: is_held(run, gate, now),
        skipped: run.sequence.as_ref().is_some_and(|s| s.skipped.contains(&gate)),
        accepted: counts.accepted,
        stopped,
        open: counts.pending + counts.claimed + counts.deferred,
    }
}

/// Locks by the id of the step.
pub fn locks(run: &Run, spec: &CampaignSpec, now: Timestamp) -> BTreeMap<String, Lock> {
    plan::read(spec).0.steps.iter().map(|step| (step.id.clone(), lock_of(run, step, now))).collect()
}

/// The dated steps of a sequence as entries of the calendar.
fn entries(state: &State, run: &Run, now: Timestamp) -> Vec<Entry> {
    let Some(spec) = spec_of(state, run.campaign, run.version) else { return Vec::new() };
    let stands = state_of(run);
    let each = steps(run, &spec, now).into_iter().filter_map(|step| {
        let launch = NextLaunch { launch: Launch::at(step.planned?), effective: step.started.or(step.effective)? };
        Some(Entry {
            campaign: run.campaign,
            name: spec.name.clone().unwrap_or_default(),
            date: (step.lock != Lock::Executed).then(|| step.id.clone()),
            step: Some(step.id),
            part: None,
            launch,
            state: stands,
            outcome: step.started.map(|_| Outcome::Made(run.id)),
        })
    });
    each.collect()
}

impl Engine {
    /// Steps of sequences that are planned, or start, from one moment to another; those of sequences that are over, too, if
    /// they did start.
    pub(in crate::engine) fn steps_between(&self, from: Timestamp, to: Timestamp) -> Vec<Entry> {
        let now = self.book.now();
        let state = self.book.read();
        let within = |at: Timestamp| from <= at && at < to;
        let sequences = state.runs.values().filter(|run| run.sequence.is_some());
        let all = sequences.flat_map(|run| {
            let live = run.state.is_live();
            entries(&state, run, now).into_iter().filter(move |entry| live || entry.outcome.is_some())
        });
        all.filter(|entry| within(entry.launch.launch.at) || within(entry.launch.effective)).collect()
    }

    /// Ids of the steps that have started: their dates are past, and stay.
    pub(in crate::engine) fn started_steps(&self, id: CampaignId) -> BTreeSet<String> {
        let now = self.book.now();
        let state = self.book.read();
        let Some(run) = state.latest_run(id).filter(|run| run.sequence.is_some()) else { return BTreeSet::new() };
        let Some(spec) = spec_of(&state, id, run.version) else { return BTreeSet::new() };
        let locked = locks(run, &spec, now).into_iter().filter(|(_, lock)| *lock == Lock::Executed);
        locked.map(|(step, _)| step).collect()
    }
}
