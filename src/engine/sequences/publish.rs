//! A version of a sequence comes into force: the draft, or a working copy of what runs.

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;

use crate::actors::RunCommand;
use crate::actors::legs::{LegInbox, NewLeg};
use crate::campaigns::kinds::sequence::gate_of;
use crate::campaigns::sequence::{Lock, Plan, Planned, Step, locks, plan, timing};
use crate::campaigns::spec::Starter;
use crate::campaigns::{self, CampaignSpec, Compiled, Kind, Mode, Problem, lifecycle, parse};
use crate::channels::limits_table::{Scope, Start};
use crate::clock::{Clock, Timestamp};
use crate::config::connectors::RateLimits;
use crate::engine::messages::with_saved_of;
use crate::engine::runs::{campaign_state, connector_of};
use crate::engine::sequences::{Published, SequenceError, look};
use crate::engine::{Engine, EngineError, edits};
use crate::flow::graph::InvalidGraph;
use crate::flow::{Graph, GraphParts, NodeKind};
use crate::ids::{CampaignId, Channel, RunId};
use crate::ledger::facts::DeliveryEntered;
use crate::ledger::sequence::{CopySaved, SequencePublished};
use crate::ledger::{Fact, RowSet, Run, State};

/// What is to be published, as the state has it at one moment.
struct Wanted {
    spec: CampaignSpec,
    version: u32,
    /// The run that it goes on with; none before the first publication.
    run: Option<RunId>,
}

fn spec_of_kind(text: &str) -> Result<CampaignSpec, EngineError> {
    let spec = parse::from_stored(text)?;
    if spec.kind() == Kind::Sequence { Ok(spec) } else { Err(SequenceError::NotASequence.into()) }
}

/// The draft, or the working copy; refused if it cannot be published by what has happened meanwhile.
fn wanted(state: &State, id: CampaignId, now: Timestamp) -> Result<Wanted, EngineError> {
    let stands = campaign_state(state, id).ok_or(EngineError::NoCampaign { id })?;
    let campaign = state.campaigns.get(&id).ok_or(EngineError::NoCampaign { id })?;
    let (newest, text) = campaign.newest().ok_or(EngineError::NoCampaign { id })?;
    let Some(run) = state.latest_run(id) else {
        let spec = locks::keep_numbers(&with_saved_of(state, &spec_of_kind(text)?)?, None, 0, now);
        lifecycle::next(stands, lifecycle::Trigger::Start)?;
        return Ok(Wanted { spec, version: newest + 1, run: None });
    };
    let published = campaign.versions.get(&run.version).ok_or(EngineError::NoCampaign { id })?;
    let published = spec_of_kind(published)?;
    use lifecycle::State::{Finished, Paused, Running, Scheduled};
    if !matches!(stands, Finished | Paused | Running | Scheduled) {
        return Err(EngineError::NotEditable { state: stands });
    }
    let copy = state.sequences.get(&id).and_then(|memory| memory.copy.as_ref());
    let copy = copy.ok_or(if stands == Finished { SequenceError::UseExtend } else { SequenceError::NoCopy })?;
    let taken = u16::try_from(run.deliveries.len()).unwrap_or(u16::MAX);
    let mut copied = spec_of_kind(&copy.spec)?;
    let locked = look::locks(run, &published, now);
    locks::keep_saved(&mut copied, &published, &|step| locked.get(step) == Some(&Lock::Executed));
    let spec = locks::keep_numbers(&with_saved_of(state, &copied)?, Some(&published), taken, now);
    // A step whose hour has come runs as it was published, even while it waits for the one before.
    let overdue = plan::read(&published).0.steps.into_iter().find(|step| look::is_overdue(run, step, now));
    let closed = copy.closed_by.as_ref().map(|(step, _)| step.clone()).or(overdue.map(|step| step.id));
    if let Some(step) = closed {
        still_content_only(run, &published, &spec, &step, now)?;
    } else if stands == Finished && !copy.extends {
        return Err(SequenceError::UseExtend.into());
    }
    held_by_locks(run, &published, &spec, now)?;
    Ok(Wanted { spec, version: newest + 1, run: Some(run.id) })
}

/// A closed copy that changes nothing but the content of steps whose hour has not come may still be published.
fn still_content_only(
    run: &Run,
    published: &CampaignSpec,
    spec: &CampaignSpec,
    step: &str,
    now: Timestamp,
) -> Result<(), SequenceError> {
    let locks = look::locks(run, published, now);
    let closed = |step: &str| SequenceError::CopyClosed { step: step.to_owned() };
    let changed = locks::content_changes(published, spec).ok_or_else(|| closed(step))?;
    match changed.iter().find(|id| locks.get(*id).is_none_or(|lock| *lock == Lock::Executed)) {
        Some(executed) => Err(closed(executed)),
        None if changed.is_empty() => Err(closed(step)),
        None => Ok(()),
    }
}

fn held_by_locks(
    run: &Run,
    published: &CampaignSpec,
    spec: &CampaignSpec,
    now: Timestamp,
) -> Result<(), SequenceError> {
    let locked = look::locks(run, published, now);
    let begun = !run.expects_contacts() || run.positions.total() > 0;
    let lock_of = |id: &str| locked.get(id).copied().unwrap_or(Lock::Unreached);
    let refused = locks::refusals(published, spec, begun, &lock_of);
    if refused.is_empty() { Ok(()) } else { Err(SequenceError::Locked(refused)) }
}

/// The graph with the effective start of each step; steps that have started, or whose hour has come, keep theirs.
pub(in crate::engine) fn dated(
    graph: &Graph,
    run: Option<&Run>,
    at: Timestamp,
    grace: Duration,
) -> Result<Graph, InvalidGraph> {
    let mut parts = GraphParts::from(graph.clone());
    for node in &mut parts.nodes {
        let NodeKind::Step(gate) = &mut node.kind else { continue };
        let open = run.and_then(|run| run.sequence.as_ref()).is_some_and(|s| s.started.contains_key(&node.id));
        let before = run.and_then(|run| run.graph.node(node.id)).map(|n| &n.kind);
        match before {
            Some(NodeKind::Step(before)) if open || before.effective <= at.0 => *gate = *before,
            _ if gate.at_once => gate.effective = gate.planned,
            _ => gate.effective = timing::effective(Timestamp(gate.planned), at, grace).0,
        }
    }
    Graph::new(parts)
}

/// A delivery for each number that was ever given, so that their count tells the next one; those that are no send stay
/// empty.
fn entered(spec: &CampaignSpec, compiled: &Compiled, before: usize) -> Vec<DeliveryEntered> {
    let last = spec.steps.iter().filter_map(|step| Some(usize::from(step.number?) + 1)).max().unwrap_or(0);
    let each = (0..last.max(before)).map(|index| {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        let plan = compiled.delivery(index);
        DeliveryEntered {
            channel: plan.map_or(Channel::Email, |plan| plan.channel),
            topic: plan.map_or_else(String::new, |plan| plan.topic.clone()),
            connector: connector_of(compiled, index).to_owned(),
            mode: plan.map_or(Mode::Strict, |plan| plan.mode),
            audience: RowSet::base(RoaringBitmap::new()),
            skipped: Vec::new(),
            summary: None,
        }
    });
    each.collect()
}

/// The fact that puts the draft or the working copy into force, as of this moment, and what it compiles to. Whether the spec
/// itself is sound (dates, content, names) was looked at before.
pub fn publication(
    state: &State,
    id: CampaignId,
    now: Timestamp,
    grace: Duration,
) -> Result<(SequencePublished, CampaignSpec, Compiled), EngineError> {
    let Wanted { spec, version, run } = wanted(state, id, now)?;
    let compiled = campaigns::compile(&spec)?;
    let before = run.and_then(|run| state.runs.get(&run));
    let fact = SequencePublished {
        campaign: id,
        run: run.unwrap_or(RunId(state.next_run.max(1))),
        version,
        spec: parse::to_stored(&spec),
        graph: dated(&compiled.graph, before, now, grace).map_err(campaigns::CompileError::from)?,
        deliveries: entered(&spec, &compiled, before.map_or(0, |run| run.deliveries.len())),
        by_request: spec.starter.unwrap_or_default() == Starter::Api,
        at: now,
    };
    Ok((fact, spec, compiled))
}

/// When the steps of a publication start, by the gates that it sets: those that are executed keep theirs.
fn starts(plan: &Plan, fact: &SequencePublished, before: Option<&Run>) -> Vec<Planned> {
    let each = plan.steps.iter().map(|step| Planned {
        id: step.id.clone(),
        number: step.number,
        planned: step.planned,
        effective: look::effective_of(&fact.graph, gate_of(step.number)),
        executed: before.is_some_and(|run| look::is_executed(run, step, fact.at)),
    });
    each.collect()
}

/// The warnings without those of dates that nothing moves any more.
fn still_to_come(plan: &Plan, warnings: &[Problem], is_executed: impl Fn(&Step) -> bool) -> Vec<Problem> {
    let over: Vec<String> =
        plan.steps.iter().filter(|step| is_executed(step)).map(|step| format!("steps.{}.at", step.place)).collect();
    warnings.iter().filter(|warning| !over.contains(&warning.path)).cloned().collect()
}

impl Engine {
    /// Puts the draft or the working copy into force. Without `confirm` nothing is changed, and the answer is the refusal
    /// [`SequenceError::Unconfirmed`] with the starts as they would be.
    pub fn publish_sequence(&self, id: CampaignId, confirm: bool) -> Result<(RunId, Published), EngineError> {
        let grace = self.options.publish_grace;
        let (fact, spec, compiled) = publication(&self.book.read(), id, self.book.now(), grace)?;
        let (wrong, warnings): (Vec<_>, Vec<_>) = self.problems(&spec, Some(id)).into_iter().partition(Problem::blocks);
        if !wrong.is_empty() {
            return Err(SequenceError::Problems(wrong).into());
        }
        for plan in &compiled.messages {
            self.content(&compiled.name, plan)?;
            if !self.lines.contains_key(&plan.connector) {
                return Err(EngineError::NoConnector { name: plan.connector.clone() });
            }
        }
        let shown = |state: &State, fact: &SequencePublished, spec: &CampaignSpec| {
            let (steps, _) = plan::read(spec);
            Published {
                at: fact.at,
                version: fact.version,
                steps: starts(&steps, fact, state.runs.get(&fact.run)),
                changed: Vec::new(),
                warnings: still_to_come(&steps, &warnings, |step| {
                    state.runs.get(&fact.run).is_some_and(|run| look::is_executed(run, step, fact.at))
                }),
            }
        };
        if !confirm {
            return Err(SequenceError::Unconfirmed(Box::new(shown(&self.book.read(), &fact, &spec))).into());
        }
        let (mut run, mut published) = (fact.run, shown(&self.book.read(), &fact, &spec));
        self.book.commit_durable_by::<EngineError>(|state| {
            let (again, saved, _) = publication(state, id, self.book.now(), grace)?;
            (run, published) = (again.run, shown(state, &again, &saved));
            // Somebody changed it since it was looked at: it is to be looked at anew.
            if locks::without_moments(&saved) != locks::without_moments(&spec) {
                return Err(SequenceError::Unconfirmed(Box::new(shown(state, &again, &saved))).into());
            }
            Ok(Some(Fact::SequencePublished(Box::new(again))))
        })?;
        // As a restart would compile it, with what the configuration adds.
        let (_, compiled) = self.compiled(id, Some(published.version))?;
        let legs = self.new_legs(run, published.version, &compiled)?;
        self.hand_over_legs(run, published.version, &compiled, legs)?;
        Ok((run, published))
    }

    /// The run's actor hears of the sends of a version, or begins with them.
    pub(in crate::engine) fn hand_over_legs(
        &self,
        run: RunId,
        version: u32,
        compiled: &Compiled,
        legs: Vec<NewLeg>,
    ) -> Result<(), EngineError> {
        let inbox = self.leg_inboxes.get(&run).map(|inbox| Arc::clone(&inbox));
        let Some(inbox) = inbox else { return self.spawn(run, version, compiled) };
        {
            let mut waiting = inbox.lock();
            // Somebody has published after us, and was faster.
            if waiting.iter().all(|leg| leg.version <= version) {
                *waiting = legs;
            }
        }
        self.tell(run, RunCommand::Refresh)
    }

    /// Where sends of later versions are left for the run's actor, which begins with those of `version`: older ones are
    /// forgotten.
    pub(in crate::engine) fn inbox_of(&self, run: RunId, version: u32) -> Arc<LegInbox> {
        let inbox = Arc::clone(&self.leg_inboxes.entry(run).or_default());
        inbox.lock().retain(|leg| leg.version > version);
        inbox
    }

    /// The sends of a version, ready to be claimed for.
    pub(in crate::engine) fn new_legs(
        &self,
        run: RunId,
        version: u32,
        compiled: &Compiled,
    ) -> Result<Vec<NewLeg>, EngineError> {
        let space = self.space_of_run(run);
        let store = self.store_of(space)?;
        let mut legs = Vec::new();
        for plan in &compiled.deliveries {
            for send in &plan.sends {
                let parts = self.leg_parts(run, compiled, plan, send, &store)?;
                let rate = RateLimits { per_second: compiled.limits.messages_per_second, ..RateLimits::default() };
                let now = parts.wired.line.clock.monotonic();
                let per_second = parts.wired.line.limits.with(|table| {
                    // A scope that is there goes on as it is: its window must not begin anew.
                    if table.per_second(Scope::Campaign(run)).is_none() {
                        table.set(Scope::Campaign(run), rate, Start::Restarted, now);
                    }
                    table.per_second(Scope::Campaign(run))
                });
                parts.wired.line.fair.lock().set_rate(Scope::Campaign(run), per_second);
                let (line, channel, leave) = parts.wired.handles();
                legs.push(NewLeg {
                    version,
                    space,
                    store: store.clone(),
                    delivery: parts.delivery,
                    campaign: parts.campaign,
                    topic: parts.plan_topic,
                    send: parts.send.node,
                    message: parts.send.message,
                    compiled: parts.compiled,
                    classes: parts.classes,
                    caps: Arc::new(compiled.caps.clone()),
                    weight: compiled.limits.weight,
                    send_until: parts.send_until,
                    line,
                    channel,
                    leave,
                });
            }
        }
        Ok(legs)
    }

    /// Opens a working copy of the version in force; one that is open is answered as it is. `extends`: of a finished run; a
    /// copy that was opened before its end goes on as the extension.
    pub fn open_copy(&self, id: CampaignId, extends: bool) -> Result<(), EngineError> {
        self.book.commit_durable_by::<EngineError>(|state| {
            let stands = campaign_state(state, id).ok_or(EngineError::NoCampaign { id })?;
            let campaign = state.campaigns.get(&id).ok_or(EngineError::NoCampaign { id })?;
            let (_, newest) = campaign.newest().ok_or(EngineError::NoCampaign { id })?;
            let kind = parse::from_stored(newest)?.kind();
            let has_live = state.latest_run(id).is_some_and(|run| run.state.is_live());
            use lifecycle::State::{Finished, Paused, Running, Scheduled};
            match (stands, extends) {
                (lifecycle::State::Draft, _) if kind != Kind::Sequence => {
                    return Err(SequenceError::NotASequence.into());
                }
                // Before its next launch it is changed as a draft is.
                (Scheduled | Paused, _) if kind != Kind::Sequence && !has_live => {
                    return Err(SequenceError::ChangePlan.into());
                }
                (Running | Paused, _) if kind != Kind::Sequence && edits::launches_ahead(state, id) => {
                    return Err(SequenceError::LaunchesAhead.into());
                }
                (Finished, true) => {
                    if let Some(refused) = edits::not_extended(kind) {
                        return Err(refused.into());
                    }
                }
                (Running | Paused | Scheduled, false) => {}
                (Finished, false) => return Err(SequenceError::UseExtend.into()),
                (Running | Paused | Scheduled, true) => return Err(SequenceError::UseEdit.into()),
                (lifecycle::State::Draft, _) => return Err(SequenceError::StillDraft.into()),
                _ => return Err(EngineError::NotEditable { state: stands }),
            }
            let copy = state.sequences.get(&id).and_then(|memory| memory.copy.as_ref());
            if copy.is_some_and(|copy| copy.closed_by.is_none() && copy.extends == extends) {
                return Ok(None);
            }
            let run = state.latest_run(id).ok_or(EngineError::NoCampaign { id })?;
            if let Some(at) = run.details_removed_at() {
                return Err(EngineError::DetailsRemoved { run: run.id, at });
            }
            // The run ended while it was edited: what the copy says is not lost.
            let kept = copy.filter(|copy| copy.closed_by.is_none() && copy.opened_at >= run.started_at);
            let spec = kept.map(|copy| &copy.spec).or_else(|| campaign.versions.get(&run.version)).cloned();
            let (spec, at) = (spec.ok_or(EngineError::NoCampaign { id })?, self.book.now());
            Ok(Some(Fact::CopySaved(CopySaved { campaign: id, spec, opens: true, extends, at })))
        })?;
        Ok(())
    }

    /// The spec of the working copy that is open, to be changed.
    pub fn copy_spec(&self, id: CampaignId) -> Result<CampaignSpec, EngineError> {
        let state = self.book.read();
        let copy = state.sequences.get(&id).and_then(|memory| memory.copy.as_ref()).ok_or(SequenceError::NoCopy)?;
        if let Some((step, _)) = &copy.closed_by {
            return Err(SequenceError::CopyClosed { step: step.clone() }.into());
        }
        Ok(parse::from_stored(&copy.spec)?)
    }

    /// Replaces the text of the open working copy.
    pub fn save_copy(&self, id: CampaignId, spec: &CampaignSpec) -> Result<(), EngineError> {
        let stored = parse::to_stored(spec);
        self.book.commit_durable_by::<EngineError>(|state| {
            let copy = state.sequences.get(&id).and_then(|memory| memory.copy.as_ref()).ok_or(SequenceError::NoCopy)?;
            if let Some((step, _)) = &copy.closed_by {
                return Err(SequenceError::CopyClosed { step: step.clone() }.into());
            }
            let (spec, extends, at) = (stored.clone(), copy.extends, self.book.now());
            Ok(Some(Fact::CopySaved(CopySaved { campaign: id, spec, opens: false, extends, at })))
        })?;
        Ok(())
    }

    /// Whether a run is one of a sequence, and has no version of its own to compile.
    pub fn is_sequence(&self, id: CampaignId) -> bool {
        let state = self.book.read();
        let newest = state.campaigns.get(&id).and_then(|campaign| campaign.newest());
        newest.is_some_and(|(_, text)| parse::from_stored(text).is_ok_and(|spec| spec.kind() == Kind::Sequence))
    }
}
