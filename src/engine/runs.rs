//! Campaigns and their runs: saved, checked, started, paused, resumed, stopped, settled.
//!
//! Every change is a fact first; the run's actor is told after. An actor that did not hear looks at the state by itself.

use std::sync::Arc;

use actix::{Actor, AsyncContext};
use roaring::RoaringBitmap;

use crate::actors::RunCommand;
use crate::actors::campaign::{CampaignActor, Leg};
use crate::actors::decide::{self, Classes};
use crate::actors::lanes::SendContext;
use crate::campaigns::{self, CampaignSpec, Compiled, DeliveryPlan, SendPlan, Trigger, lifecycle};
use crate::channels::limits_table::Scope;
use crate::clock::{Clock, Timestamp};
use crate::config::connectors::RateLimits;
use crate::contacts::{AttributeSets, Store};
use crate::content::CompiledMessage;
use crate::engine::audience::Audience;
use crate::engine::glance::{Glance, Wanted};
use crate::engine::hold_out;
use crate::engine::lines::Wired;
use crate::engine::retention::must_know_details;
use crate::engine::sequences::SequenceError;
use crate::engine::{Engine, EngineError, one_shot};
use crate::ids::{AttributeId, CampaignId, ContactRow, DeliveryId, MessageId, RunId};
use crate::ledger::facts::{DeliveryEntered, PinnedStarted, RunStarted};
use crate::ledger::plans::PlanState;
use crate::ledger::state::Campaign;
use crate::ledger::{Fact, RowSet, Run, RunState, State};
use crate::limits::EMAIL_DOMAIN_CLASSES_MAX;
use crate::segments::audience::AudienceSummary;
use crate::segments::parse;
use crate::segments::skip::SkipReason;

/// Where a campaign stands: its latest live run, if it has one, its schedule while a launch is ahead, or how it ended.
pub fn campaign_state(state: &State, id: CampaignId) -> Option<lifecycle::State> {
    let campaign = state.campaigns.get(&id)?;
    if campaign.archived {
        return Some(lifecycle::State::Archived);
    }
    let latest = state.latest_run(id);
    if let Some(run) = state.runs.values().rev().find(|run| run.campaign == id && run.state.is_live()) {
        return Some(state_of(run));
    }
    let plan = state.plans.get(&id);
    Some(match plan.map(|plan| (plan.state, plan.is_open())) {
        Some((PlanState::Active, true)) => lifecycle::State::Scheduled,
        Some((PlanState::Paused, true)) => lifecycle::State::Paused,
        Some((PlanState::Stopped, _)) => lifecycle::State::Stopped,
        // All launches are decided: it is what its last run is, or, if all were missed, a draft again.
        _ => latest.map_or(lifecycle::State::Draft, state_of),
    })
}

/// Where a run stands; one that is published and waits for its first step is scheduled.
pub fn state_of(run: &Run) -> lifecycle::State {
    if run.is_scheduled() { lifecycle::State::Scheduled } else { run_state(run.state) }
}

pub fn run_state(state: RunState) -> lifecycle::State {
    match state {
        RunState::Running => lifecycle::State::Running,
        RunState::Paused => lifecycle::State::Paused,
        RunState::Stopping => lifecycle::State::Stopping,
        RunState::Stopped => lifecycle::State::Stopped,
        RunState::Finished => lifecycle::State::Finished,
    }
}

impl Engine {
    /// Saves a new version of a campaign, or a new campaign. Durable when it returns.
    pub fn save_campaign(&self, id: Option<CampaignId>, spec: &str) -> Result<CampaignId, EngineError> {
        let mut saved = CampaignId(0);
        self.book.commit_durable_by::<EngineError>(|state| {
            let campaign = id.unwrap_or(CampaignId(state.next_campaign.max(1)));
            if let Some(id) = id {
                let stands = campaign_state(state, id).ok_or(EngineError::NoCampaign { id })?;
                if stands != lifecycle::State::Draft {
                    return Err(EngineError::NotEditable { state: stands });
                }
            }
            saved = campaign;
            Ok(Some(Fact::CampaignSaved { campaign, spec: spec.to_owned(), at: self.book.now() }))
        })?;
        Ok(saved)
    }

    /// The spec that a campaign's newest version, or a given one, compiles to.
    pub fn compiled(&self, id: CampaignId, version: Option<u32>) -> Result<(u32, Compiled), EngineError> {
        let (version, text) = {
            let state = self.book.read();
            let campaign = state.campaigns.get(&id).ok_or(EngineError::NoCampaign { id })?;
            let found = match version {
                Some(version) => campaign.versions.get(&version).map(|text| (version, text.clone())),
                None => campaign.newest().map(|(version, text)| (version, text.to_owned())),
            };
            found.ok_or(EngineError::NoCampaign { id })?
        };
        let spec = self.with_saved(&campaigns::parse::from_stored(&text)?)?;
        Ok((version, self.compile_spec(&spec)?))
    }

    /// Compiles a spec with its saved messages put in, and with what the configuration adds.
    pub(super) fn compile_spec(&self, spec: &CampaignSpec) -> Result<Compiled, EngineError> {
        let mut compiled = campaigns::compile(spec)?;
        compiled.caps.caps.extend_from_slice(&self.options.caps);
        Ok(compiled)
    }

    /// Compiles the content of one message of a campaign.
    pub fn message(&self, compiled: &Compiled, id: MessageId) -> Result<Arc<CompiledMessage>, EngineError> {
        let plan = compiled.message(id).ok_or(EngineError::NoMessage { message: id })?;
        self.content(&compiled.name, plan)
    }

    /// The audience summary as a start at this moment would have it.
    pub fn audience(&self, compiled: &Compiled) -> Result<AudienceSummary, EngineError> {
        let plan = compiled.deliveries.first().ok_or(EngineError::NoMessage { message: MessageId(0) })?;
        let (used, required) = self.used_attributes(compiled, plan);
        let audience = self.look(compiled, None)?;
        let matched = audience.matched()?;
        let mut summary = audience.assess(plan, &matched, &used, &required)?.0;
        if let Some(size) = compiled.hold_out {
            hold_out::count(size, &mut summary);
        }
        Ok(summary)
    }

    /// Rows that match a campaign's audience now.
    pub fn matched(&self, compiled: &Compiled) -> Result<RoaringBitmap, EngineError> {
        self.look(compiled, None)?.matched()
    }

    /// Rows that match an expression now.
    pub(crate) fn matching(&self, expression: &str) -> Result<Arc<RoaringBitmap>, EngineError> {
        let parsed =
            parse(expression).map_err(|source| EngineError::Segment { text: expression.to_owned(), source })?;
        let wanted = Wanted { expressions: vec![&parsed], ..Wanted::default() };
        let found = Glance::new(&self.store, &self.book, &wanted)?.evaluate(&parsed);
        Ok(found.map_err(|source| EngineError::Evaluate { text: expression.to_owned(), source })?.rows)
    }

    /// Starts a campaign now: evaluates its audience, enters its deliveries, begins to send.
    pub fn start(&self, id: CampaignId) -> Result<RunId, EngineError> {
        if self.is_sequence(id) {
            return Err(SequenceError::UsePublish.into());
        }
        let stands = campaign_state(&self.book.read(), id).ok_or(EngineError::NoCampaign { id })?;
        lifecycle::next(stands, Trigger::Start)?;
        self.pin_upload(id)?;
        let pinned = self.pinned(id)?;
        let compiled = self.dated_parts(self.compile_spec(&pinned.spec)?, self.book.now())?;
        let Prepared { mut begun, audience } = self.prepare(id, pinned.version, &compiled)?;
        let mut started = RunId(0);
        self.book.commit_durable_by::<EngineError>(|state| {
            let stands = campaign_state(state, id).ok_or(EngineError::NoCampaign { id })?;
            lifecycle::next(stands, Trigger::Start)?;
            audience.is_still(state)?;
            started = RunId(state.next_run.max(1));
            (begun.run, begun.at) = (started, self.book.now());
            let Some((spec, draft)) = &pinned.texts else { return Ok(Some(Fact::RunStarted(Box::new(begun)))) };
            // Changed meanwhile: there is no such version to run.
            let newest = state.campaigns.get(&id).and_then(Campaign::newest);
            if newest != Some((pinned.version - 1, draft.as_str())) {
                return Err(EngineError::ChangedMeanwhile { id });
            }
            let pinned = PinnedStarted { spec: spec.clone(), started: begun };
            Ok(Some(Fact::PinnedStarted(Box::new(pinned))))
        })?;
        drop(audience);
        self.spawn(started, pinned.version, &compiled)?;
        Ok(started)
    }

    /// What a run of a version begins with: its graph, and its audience as it is now. Every start and every launch goes
    /// through here; the number of the run is given when it is committed.
    pub(super) fn prepare<'c>(
        &self,
        campaign: CampaignId,
        version: u32,
        compiled: &'c Compiled,
    ) -> Result<Prepared<'c>, EngineError> {
        for plan in &compiled.messages {
            self.content(&compiled.name, plan)?;
            if !self.lines.contains_key(&plan.connector) {
                return Err(EngineError::NoConnector { name: plan.connector.clone() });
            }
        }
        let audience = self.look(compiled, None)?;
        let matched = audience.matched()?;
        let mut deliveries = Vec::new();
        // Who else starts meanwhile takes this number; the group is as random with another's.
        let mut group = hold_out::Group::new(RunId(self.book.read().next_run.max(1)), compiled.hold_out);
        let mut entrants = if compiled.all_walk { matched.clone() } else { RoaringBitmap::new() };
        for plan in &compiled.deliveries {
            let entering = if plan.on_arrival { RoaringBitmap::new() } else { matched.clone() };
            // Where all walk, the first send is shown as it would be if everybody came to it now.
            let shows_all = compiled.all_walk && plan.index == 0;
            let counted = if shows_all { &matched } else { &entering };
            let (used, required) = self.used_attributes(compiled, plan);
            let (mut summary, mut eligibility) = audience.assess(plan, counted, &used, &required)?;
            if !plan.on_arrival || shows_all {
                group.leave_out(&mut summary, &mut eligibility)?;
            }
            // The control group gets nothing of the flow, and so never walks: it is in the ledger of the first send alone.
            let held = hold_out::group_of(&eligibility).filter(|_| plan.on_arrival).cloned();
            let (entering, skipped) = match held {
                Some(held) => {
                    entrants -= &held;
                    (held.clone(), vec![(SkipReason::HoldOut, held)])
                }
                None if plan.on_arrival => (entering, Vec::new()),
                None => (entering, eligibility.skipped),
            };
            deliveries.push(DeliveryEntered {
                channel: plan.channel,
                topic: plan.topic.clone(),
                connector: connector_of(compiled, plan.index).to_owned(),
                mode: plan.mode,
                audience: RowSet { space: audience.space(), rows: entering },
                skipped,
                summary: Some(summary),
            });
        }
        let (graph, at) = (compiled.graph.clone(), self.book.now());
        let entrants = RowSet { space: audience.space(), rows: entrants };
        let begun = RunStarted { run: RunId(0), campaign, version, graph, deliveries, at, entrants };
        Ok(Prepared { begun, audience })
    }

    /// Takes up the runs that a restart found live.
    pub fn take_up(&self) -> Result<usize, EngineError> {
        let live: Vec<(RunId, CampaignId, u32)> = {
            let state = self.book.read();
            state
                .runs
                .values()
                .filter(|run| run.state.is_live())
                .map(|run| (run.id, run.campaign, run.version))
                .collect()
        };
        for (run, campaign, version) in &live {
            let compiled = self.compiled(*campaign, Some(*version));
            let taken = compiled.and_then(|(version, compiled)| self.spawn(*run, version, &compiled));
            if let Err(error) = taken {
                tracing::error!(%campaign, %run, %error, "the run can't go on: it is paused");
                let reason = format!("it can't go on: {error}");
                let fact = Fact::RunMoved { run: *run, to: RunState::Paused, reason, at: self.book.now() };
                self.book.commit(&fact, crate::journal::Want::idle())?;
            }
        }
        Ok(live.len())
    }

    pub(super) fn spawn(&self, run: RunId, version: u32, compiled: &Compiled) -> Result<(), EngineError> {
        let space = self.space_of_run(run);
        // Rows of one space must never be read as those of another: that would mail strangers.
        if self.space_of(compiled)? != space {
            return Err(EngineError::OtherSpace { run });
        }
        let store = self.store_of(space)?;
        let parts: Vec<LegParts<'_>> = compiled
            .deliveries
            .iter()
            .flat_map(|plan| plan.sends.iter().map(move |send| (plan, send)))
            .map(|(plan, send)| self.leg_parts(run, compiled, plan, send, &store))
            .collect::<Result<_, _>>()?;
        let start = decide::limit_start(self.book.read().runs.get(&run));
        for part in &parts {
            let now = part.wired.line.clock.monotonic();
            let rate = RateLimits { per_second: compiled.limits.messages_per_second, ..RateLimits::default() };
            let per_second = part.wired.line.limits.with(|table| {
                table.set(Scope::Campaign(run), rate, start, now);
                table.per_second(Scope::Campaign(run))
            });
            part.wired.line.fair.lock().set_rate(Scope::Campaign(run), per_second);
        }
        let (weight, auto_pause) = (compiled.limits.weight, compiled.auto_pause);
        let (caps, inbox) = (Arc::new(compiled.caps.clone()), self.inbox_of(run, version));
        let (book, pool, ended) = (Arc::clone(&self.book), Arc::clone(&self.pool), self.ended.clone());
        let legs: Vec<_> = parts
            .into_iter()
            .map(|p| {
                let handles = p.wired.handles();
                (p.delivery, p.campaign, p.plan_topic, p.send, p.compiled, p.classes, p.send_until, handles)
            })
            .collect();
        let (sender, receiver) = crossbeam::channel::bounded(1);
        let spawned = self.campaign_arbiter.spawn_fn(move || {
            let addr = CampaignActor::create(|context| {
                let mut actor = CampaignActor::new(run, book, pool, ended);
                actor.listen_to(inbox);
                actor.set_auto_pause(auto_pause);
                for (delivery, campaign, topic, send, compiled, classes, send_until, (line, channel, leave)) in legs {
                    let context = Arc::new(SendContext {
                        delivery,
                        send: send.node,
                        campaign,
                        space,
                        store: store.clone(),
                        message: send.message,
                        channel: crate::ids::Channel::Email,
                        topic,
                        compiled,
                        settler: context.address().recipient(),
                    });
                    let caps = Arc::clone(&caps);
                    actor.add_leg(Leg { version, context, line, channel, leave, classes, weight, send_until, caps });
                }
                actor
            });
            drop(sender.send(addr.recipient::<RunCommand>()));
        });
        if !spawned {
            return Err(EngineError::ArbiterGone);
        }
        let commands = receiver.recv().map_err(|_| EngineError::ArbiterGone)?;
        self.campaigns.insert(run, commands);
        Ok(())
    }

    pub(super) fn leg_parts<'e>(
        &'e self,
        run: RunId,
        compiled: &Compiled,
        plan: &DeliveryPlan,
        send: &SendPlan,
        store: &Store,
    ) -> Result<LegParts<'e>, EngineError> {
        let name = compiled.message(send.message).map_or("", |message| message.connector.as_str());
        let wired = self.lines.get(name).ok_or_else(|| EngineError::NoConnector { name: name.to_owned() })?;
        let campaign = self.book.read().runs.get(&run).map_or(CampaignId(0), |r| r.campaign);
        Ok(LegParts {
            delivery: DeliveryId { run, index: plan.index },
            campaign,
            plan_topic: plan.topic.clone(),
            send_until: plan.send_until,
            send: *send,
            compiled: self.message(compiled, send.message)?,
            classes: classes(wired, store)?,
            wired,
        })
    }

    /// Pauses, resumes or stops a run. The fact is durable when it returns; lanes end what they have marked.
    pub fn command(&self, id: RunId, trigger: Trigger) -> Result<RunState, EngineError> {
        if trigger == Trigger::Resume {
            self.can_run(id)?;
        }
        let mut moved = RunState::Running;
        self.book.commit_durable_by::<EngineError>(|state| {
            let run = state.runs.get(&id).ok_or(EngineError::NoRun { run: id })?;
            let next = lifecycle::next(state_of(run), trigger)?;
            moved = match next {
                lifecycle::State::Running => RunState::Running,
                lifecycle::State::Paused => RunState::Paused,
                _ => RunState::Stopping,
            };
            Ok(Some(Fact::RunMoved { run: id, to: moved, reason: String::new(), at: self.book.now() }))
        })?;
        let command = match moved {
            RunState::Paused => RunCommand::Pause,
            RunState::Running => RunCommand::Resume,
            _ => RunCommand::Stop,
        };
        match self.tell(id, command) {
            // Nobody could start it, so nobody has a row of it: it is ended here.
            Err(error) if moved == RunState::Stopping => {
                tracing::warn!(run = %id, %error, "a run that can't go on is stopped");
                self.stop_without_actor(id)?;
            }
            told => told?,
        }
        Ok(moved)
    }

    /// Whether a run's messages still compile and its connectors are there.
    fn can_run(&self, id: RunId) -> Result<(), EngineError> {
        let found = self.book.read().runs.get(&id).map(|run| (run.campaign, run.version));
        let (campaign, version) = found.ok_or(EngineError::NoRun { run: id })?;
        let (_, compiled) = self.compiled(campaign, Some(version))?;
        for plan in &compiled.messages {
            if !self.lines.contains_key(&plan.connector) {
                return Err(EngineError::NoConnector { name: plan.connector.clone() });
            }
            self.content(&compiled.name, plan)?;
        }
        Ok(())
    }

    fn stop_without_actor(&self, id: RunId) -> Result<(), EngineError> {
        let mut goes_on = true;
        while goes_on {
            let next = |state: &State| state.runs.get(&id).and_then(|run| decide::next_to_stop(run, self.book.now()));
            goes_on = self.book.commit_durable_by::<EngineError>(|state| Ok(next(state)))?.is_some();
        }
        Ok(())
    }

    /// Tells a run's actor; one that is gone while its run is live (it could not start) is started.
    pub(crate) fn tell(&self, run: RunId, command: RunCommand) -> Result<(), EngineError> {
        let told = self.campaigns.get(&run).map(|actor| actor.try_send(command));
        match told {
            Some(Ok(())) => Ok(()),
            // A full mailbox: its next look at the state does the same.
            Some(Err(actix::prelude::SendError::Full(_))) => Ok(()),
            Some(Err(actix::prelude::SendError::Closed(_))) | None => {
                let (campaign, version) = {
                    let state = self.book.read();
                    let found = state.runs.get(&run).filter(|r| r.state.is_live()).map(|r| (r.campaign, r.version));
                    match found {
                        Some(found) => found,
                        None => return Ok(()),
                    }
                };
                let (_, compiled) = self.compiled(campaign, Some(version))?;
                self.spawn(run, version, &compiled)
            }
        }
    }

    /// Settles unknown rows of a run: as accepted, or as pending, which sends them again. Answers how many.
    pub fn settle(&self, id: RunId, rows: Option<&[ContactRow]>, resend: bool) -> Result<u64, EngineError> {
        let mut settled = 0;
        let deliveries = self.book.read().runs.get(&id).map_or(0, |run| run.deliveries.len());
        for index in 0..deliveries {
            self.book.commit_durable_by::<EngineError>(|state| {
                let run = state.runs.get(&id).ok_or(EngineError::NoRun { run: id })?;
                must_know_details(run)?;
                let archived = state.campaigns.get(&run.campaign).is_some_and(|campaign| campaign.archived);
                if resend && (archived || decide::reopens(run).is_none()) {
                    let stands = if archived { lifecycle::State::Archived } else { run_state(run.state) };
                    return Err(EngineError::NotResendable { state: stands });
                }
                if resend {
                    one_shot::must_be_there(state, run.space())?;
                }
                let Some(delivery) = run.deliveries.get(index) else { return Ok(None) };
                let found = decide::unknown_rows(delivery, rows);
                settled += found.len();
                let rows = RowSet { space: delivery.space, rows: found };
                let fact = Fact::UnknownSettled { delivery: delivery.id, rows, resend, at: self.book.now() };
                Ok(fact_if_any(fact))
            })?;
        }
        self.tell(id, RunCommand::Refresh)?;
        Ok(settled)
    }
}

/// Rows of the domains that have limits of their own on a connector.
fn classes(wired: &Wired, store: &Store) -> Result<Classes, EngineError> {
    let reader = store.reader()?;
    let domains = wired.line.domains.iter().take(EMAIL_DOMAIN_CLASSES_MAX);
    let rows = domains.map(|domain| reader.value(AttributeId::EMAIL_DOMAIN, domain).map(|rows| (*rows).clone()));
    Ok(Classes(rows.collect::<Result<Vec<RoaringBitmap>, _>>()?))
}

fn fact_if_any(fact: Fact) -> Option<Fact> {
    match &fact {
        Fact::UnknownSettled { rows, .. } if rows.rows.is_empty() => None,
        _ => Some(fact),
    }
}

/// A run that is ready to begin.
pub(super) struct Prepared<'c> {
    pub begun: RunStarted,
    pub audience: Audience<'c>,
}

pub(super) struct LegParts<'e> {
    pub(super) delivery: DeliveryId,
    pub(super) campaign: CampaignId,
    pub(super) plan_topic: String,
    pub(super) send_until: Option<Timestamp>,
    pub(super) send: SendPlan,
    pub(super) compiled: Arc<CompiledMessage>,
    pub(super) classes: Classes,
    pub(super) wired: &'e Wired,
}

pub(super) fn connector_of(compiled: &Compiled, delivery: u16) -> &str {
    let message = compiled.delivery(delivery).and_then(|d| d.sends.first()).map(|send| send.message);
    message.and_then(|id| compiled.message(id)).map_or("", |plan| plan.connector.as_str())
}
