//! Drives the flows of running campaigns: asks what is next, asks the base where that is needed, records the move.
//!
//! One thread looks at all runs, in order of their ids, so that moves of one run never race each other; what a person does
//! meanwhile (a winner chosen, a stop) makes a fact that no longer fits be refused, and the next look sees the new state.
//! Expressions are evaluated and rows shared out without any lock held.

use std::sync::{Arc, Weak};

use actix::Actor;
use jiff::tz::TimeZone;
use roaring::RoaringBitmap;

use crate::actors::book::CommitError;
use crate::actors::flowing::{self, Ask, Task, asks};
use crate::actors::scheduler::SchedulerActor;
use crate::actors::{RunCommand, verdict, waiting};
use crate::contacts::AttributeSets;
use crate::engine::{Engine, EngineError, same_address};
use crate::flow::delay::ZoneSet;
use crate::flow::nodes::delay::known_zone;
use crate::flow::winner::WinnerError;
use crate::flow::{Exit, NodeId};
use crate::ids::{AttributeId, DeliveryId, RowSpace, RunId};
use crate::journal::Want;
use crate::ledger::engagement::engaged;
use crate::ledger::flowing::{Decided, Joined, Moved};
use crate::ledger::{Fact, RowSet, Run, RunState};
use crate::limits::FLOW_STEPS_PER_LOOK_MAX;
use crate::segments::skip::SkipReason;

/// Why a flow cannot go on by itself.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    #[error(transparent)]
    Engine(Box<EngineError>),
    #[error("the contacts can't be shared out")]
    Split(#[from] flowing::SplitError),
    #[error("the test can't be judged")]
    Judge(#[from] WinnerError),
}

impl From<EngineError> for FlowError {
    fn from(error: EngineError) -> FlowError {
        FlowError::Engine(Box::new(error))
    }
}

impl Engine {
    /// Starts the look at flows, on an arbiter of its own. It ends with the engine.
    pub(super) fn start_flows(self: &Arc<Self>) -> Result<(), EngineError> {
        let engine: Weak<Engine> = Arc::downgrade(self);
        let spawned = self.flow_arbiter.spawn_fn(move || {
            SchedulerActor::new(Box::new(move || {
                let Some(engine) = engine.upgrade().filter(|engine| !engine.is_draining()) else { return false };
                engine.look_at_schedules();
                engine.look_at_flows();
                engine.look_at_bounces();
                true
            }))
            .start();
        });
        if spawned { Ok(()) } else { Err(EngineError::ArbiterGone) }
    }

    /// One look at every run that is running, or paused: there the waits of those whose message was answered begin.
    pub fn look_at_flows(&self) {
        let running: Vec<RunId> = {
            let state = self.book.read();
            let looked_at = |run: &&Run| matches!(run.state, RunState::Running | RunState::Paused);
            state.runs.values().filter(looked_at).map(|run| run.id).collect()
        };
        for run in running {
            match self.look_at_flow(run) {
                Ok(true) => {
                    if let Err(error) = self.tell(run, RunCommand::Refresh) {
                        tracing::warn!(%run, %error, "the run did not hear that contacts moved; it looks by itself");
                    }
                }
                Ok(false) => {}
                Err(error) => self.hold_flow(run, &error),
            }
        }
    }

    /// Moves everybody who can move; answers whether anybody did.
    fn look_at_flow(&self, run: RunId) -> Result<bool, FlowError> {
        for step in 0..FLOW_STEPS_PER_LOOK_MAX {
            let task = {
                let state = self.book.read();
                state.runs.get(&run).and_then(|run| flowing::next_task(run, self.book.now()))
            };
            let Some(task) = task.filter(|_| self.book.has_space()) else { return Ok(step > 0) };
            let Some(fact) = self.resolve(run, task)? else { return Ok(step > 0) };
            match self.book.commit(&fact, Want::idle()) {
                Ok(_) => {}
                Err(CommitError::Refused(violation)) => {
                    tracing::info!(%run, %violation, "a move came too late; the flow is looked at again");
                    return Ok(step > 0);
                }
                Err(error) => return Err(EngineError::from(error).into()),
            }
        }
        Ok(true)
    }

    /// The fact that a task becomes; `None` if the run has changed meanwhile.
    fn resolve(&self, run: RunId, task: Task) -> Result<Option<Fact>, FlowError> {
        let at = self.book.now();
        Ok(Some(match task {
            Task::Record(fact) => fact,
            Task::Share { run, node, rows, shares } => flowing::share_out(run, node, &rows, &shares, at)?,
            Task::Sort { node, rows, by, rest } => {
                let exits = self.sort(run, rows, by, rest)?;
                Fact::Moved(Moved { run, node, exits, at })
            }
            Task::Join { delivery, node, rows } => self.join(delivery, node, rows)?,
            Task::Cohort { run } => self.cohort(run)?,
            Task::SetAttribute { node, rows, attribute, value } => {
                self.set_attribute(run, node, rows, &attribute, &value)?
            }
            Task::Clocks { run, node, rows } => {
                let zones = self.zones_of(self.space_of_run(run), &rows)?;
                let state = self.book.read();
                return Ok(state.runs.get(&run).and_then(|run| waiting::by_clocks(run, node, &rows, &zones, at)));
            }
            Task::Look { run, node, test, look, looks, arms } => {
                verdict::look_at(run, node, &test, (look, looks), arms, at)?
            }
        }))
    }

    /// Which of some rows live by which clocks; those without a known zone are in no set. One set operation a zone.
    pub(super) fn zones_of(&self, space: RowSpace, rows: &RoaringBitmap) -> Result<Vec<ZoneSet>, EngineError> {
        let reader = self.store_of(space)?.reader()?;
        let mut named: Vec<(String, TimeZone)> = Vec::new();
        reader.union_where(AttributeId::ZONE, "", &mut |name| {
            // Only names that are zones are kept, so that their number is bounded by the database's.
            named.extend(known_zone(name).map(|zone| (name.to_owned(), zone)));
            false
        })?;
        let mut zones = Vec::new();
        for (name, zone) in named {
            let here = rows & &*reader.value(AttributeId::ZONE, &name)?;
            if !here.is_empty() {
                zones.push(ZoneSet { zone, rows: here });
            }
        }
        Ok(zones)
    }

    /// Sorts rows by the first question that fits each.
    fn sort(
        &self,
        run: RunId,
        mut rows: RoaringBitmap,
        by: Vec<(Exit, Ask)>,
        rest: Exit,
    ) -> Result<Vec<(Exit, RoaringBitmap)>, EngineError> {
        let mut exits = Vec::new();
        for (exit, ask) in by {
            let fitting = self.answer(run, &ask, &rows)?;
            if !fitting.is_empty() {
                rows -= &fitting;
                exits.push((exit, fitting));
            }
        }
        if !rows.is_empty() {
            exits.push((rest, rows));
        }
        Ok(exits)
    }

    /// Who of some rows of a run a question fits.
    pub(super) fn answer(&self, run: RunId, ask: &Ask, rows: &RoaringBitmap) -> Result<RoaringBitmap, EngineError> {
        match ask {
            Ask::Rows(known) => Ok(rows & known),
            Ask::Expression(expression) => Ok(rows & &*self.matching_in(self.space_of_run(run), expression)?),
            Ask::Links { messages, links } => {
                let mut clicked = RoaringBitmap::new();
                for message in messages {
                    let compiled =
                        self.tracked_message(run, *message).ok_or(EngineError::NoMessage { message: *message })?;
                    let named = compiled.links().iter().filter(|link| links.contains(&link.url));
                    let indices: Vec<u16> = named.map(|link| link.index).collect();
                    let state = self.book.read();
                    let run = state.runs.get(&run).ok_or(EngineError::NoRun { run })?;
                    clicked |= asks::clicked_links(run, *message, &indices);
                }
                Ok(rows & clicked)
            }
            // Rows of an upload have no history.
            Ask::Engaged(_) if self.space_of_run(run) != RowSpace::BASE => Ok(RoaringBitmap::new()),
            Ask::Engaged(asked) => {
                let state = self.book.read();
                Ok(rows & engaged(&state, asked, self.book.now()))
            }
            Ask::Unique { unique, kept } => {
                same_address::unique(&self.store_of(self.space_of_run(run))?, unique, rows, kept)
            }
        }
    }

    /// Who of the arriving rows may be sent to.
    fn join(&self, id: DeliveryId, node: NodeId, rows: RoaringBitmap) -> Result<Fact, EngineError> {
        let (campaign, version, space) = {
            let state = self.book.read();
            let run = state.runs.get(&id.run).ok_or(EngineError::NoRun { run: id.run })?;
            (run.campaign, run.version, run.space())
        };
        let (_, compiled) = self.compiled(campaign, Some(version))?;
        let plan = compiled.delivery(id.index).ok_or(EngineError::NoRun { run: id.run })?;
        let late = self.late_at(id.run, node, &rows);
        let again = self.same_address_as_before(id, plan, &(&rows - &late))?;
        let mut skipped = self.ineligible(&compiled, plan, &(&(&rows - &late) - &again), id.run)?;
        let more = [(SkipReason::Late, late), (SkipReason::DuplicateAddress, again)];
        skipped.extend(more.into_iter().filter(|(_, rows)| !rows.is_empty()));
        Ok(Fact::Joined(Joined { delivery: id, node, rows: RowSet { space, rows }, skipped, at: self.book.now() }))
    }

    /// A flow that cannot go on waits for a person, with the reason where everybody looks.
    fn hold_flow(&self, run: RunId, error: &FlowError) {
        let reason = format!("the flow can't go on: {}", explain(error));
        tracing::error!(%run, %reason, "the run is paused");
        let held =
            self.book.commit(&Fact::RunMoved { run, to: RunState::Paused, reason, at: self.book.now() }, Want::idle());
        if let Err(error) = held {
            tracing::error!(%run, %error, "the run could not be paused");
        }
        drop(self.tell(run, RunCommand::Pause));
    }

    /// A person chooses what the rest of the run's test gets; `None`: nothing. Always allowed while nothing is decided.
    pub fn choose_winner(&self, id: RunId, winner: Option<&str>, by: &str) -> Result<Decided, EngineError> {
        self.choose_winner_of(id, None, winner, by)
    }

    /// [`Engine::choose_winner`] of one test of several, by the id of its node.
    pub fn choose_winner_of(
        &self,
        id: RunId,
        test: Option<&str>,
        winner: Option<&str>,
        by: &str,
    ) -> Result<Decided, EngineError> {
        let mut chosen = None;
        self.book.commit_durable_by::<EngineError>(|state| {
            let run = state.runs.get(&id).ok_or(EngineError::NoRun { run: id })?;
            let decided = flowing::by_person(run, test, winner, by, self.book.now())
                .map_err(|reason| EngineError::NoChoice { run: id, reason })?;
            chosen = Some(decided.clone());
            Ok(Some(Fact::Decided(decided)))
        })?;
        self.tell(id, RunCommand::Refresh)?;
        chosen.ok_or(EngineError::NoRun { run: id })
    }
}

fn explain(error: &FlowError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
