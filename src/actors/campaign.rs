//! CampaignActor: one run on its way. Claims what it is granted, settles what lanes report, ends the run.
//!
//! Owns the table of open batches and no sets: those are the book's. Invariants: CA-1 a batch is in the table from before
//! its claim is submitted until no row of it is claimed; CA-2 rows are withdrawn before the fact *Returned* is submitted;
//! CA-3 a paused, stopping or draining run claims nothing, and no run does after its
//! `send_until`; CA-4 a claim is made of the version in force, or not at all.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};
use roaring::RoaringBitmap;
use tracing::field::display;
use tracing::{Span, info_span};

use crate::actors::book::{Book, CommitError};
use crate::actors::claim;
use crate::actors::decide::{self, Classes, Next};
use crate::actors::figures::{self, TakenBack};
use crate::actors::lanes::{LiveBatch, PositionPool, SendContext};
use crate::actors::legs::LegInbox;
use crate::actors::line::{Ahead, Line};
use crate::actors::{AbortOnPanic, ChannelWord, Join, Leave, Outcomes, RunCommand, RunEnded};
use crate::campaigns::GuardRule;
use crate::channels::fair::{DemandKey, Grant};
use crate::channels::limits_table::{ClassId, Scope};
use crate::clock::{Clock, Timestamp};
use crate::config::caps::Caps;
use crate::ids::{BatchId, RunId};
use crate::journal::Want;
use crate::ledger::facts::Returned;
use crate::ledger::{Fact, Positions, RejectClass, RowSet, RunState, State};
use crate::limits::{ACTOR_TICK, MAILBOX_MESSAGES};

mod claiming;
mod guarding;

mod legs;

/// One send of the run and the line that it goes over.
pub struct Leg {
    /// The version whose content it sends: rows are claimed only while that is in force.
    pub version: u32,
    pub context: Arc<SendContext>,
    pub line: Arc<Line>,
    pub channel: Recipient<Join>,
    pub leave: Recipient<Leave>,
    pub classes: Classes,
    pub weight: u32,
    /// What is not handed over by then is skipped.
    pub send_until: Option<Timestamp>,
    /// How often contacts may be written to; looked at in each claim.
    pub caps: Arc<Caps>,
}

impl Leg {
    fn key(&self, class: ClassId) -> DemandKey {
        DemandKey { delivery: self.context.delivery, send: self.context.send, class }
    }
}

struct Open {
    batch: Arc<LiveBatch>,
    leg: usize,
}

pub struct CampaignActor {
    run: RunId,
    /// Around all that is logged here.
    span: Span,
    book: Arc<Book>,
    pool: Arc<PositionPool>,
    legs: Vec<Leg>,
    open: HashMap<BatchId, Open>,
    ended: Recipient<RunEnded>,
    /// Sends of a later version.
    inbox: Arc<LegInbox>,
    draining: bool,
    auto_pause: GuardRule,
    _guard: AbortOnPanic,
}

impl CampaignActor {
    pub fn new(run: RunId, book: Arc<Book>, pool: Arc<PositionPool>, ended: Recipient<RunEnded>) -> CampaignActor {
        let campaign = book.read().runs.get(&run).map(|run| display(run.campaign));
        CampaignActor {
            span: info_span!("run", campaign, %run),
            run,
            book,
            pool,
            legs: Vec::new(),
            open: HashMap::new(),
            ended,
            inbox: Arc::default(),
            draining: false,
            auto_pause: GuardRule::default(),
            _guard: AbortOnPanic,
        }
    }

    /// The legs need this actor's address, so they come after it was created.
    pub fn add_leg(&mut self, leg: Leg) {
        self.legs.push(leg);
    }

    fn may_claim(&self) -> bool {
        let running = self.book.read().runs.get(&self.run).is_some_and(|run| run.state == RunState::Running);
        running && !self.draining && self.book.has_space()
    }

    fn tell_demand(&self) {
        let may_claim = self.may_claim();
        let state = self.book.read();
        let now = self.book.now();
        for leg in &self.legs {
            let may_claim = may_claim && !decide::is_late(leg.send_until, now) && is_in_force(&state, leg);
            let Ok(delivery) = state.delivery(leg.context.delivery) else { continue };
            let mut fair = leg.line.fair.lock();
            for class in leg.classes.ids() {
                let key = leg.key(class);
                let ready = if may_claim { delivery.ready_count(key.send, now, leg.classes.filter(class)) } else { 0 };
                fair.set_demand(key, ready, leg.weight);
            }
        }
        drop(state);
        for leg in &self.legs {
            leg.line.nudge();
        }
    }

    fn claim(&mut self, grant: Grant) {
        let Some(at) = self.legs.iter().position(|leg| leg.key(grant.key.class) == grant.key) else { return };
        let leg = &self.legs[at];
        let line = Arc::clone(&leg.line);
        if !self.may_claim() || decide::is_late(leg.send_until, self.book.now()) {
            line.fair.lock().claimed(grant.id, 0);
            return;
        }
        match self.claim_rows(at, grant) {
            Ok(Some((id, batch))) => {
                self.open.insert(id, Open { batch, leg: at });
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(run = %self.run, %error, "a claim was not made; its rows stay pending"),
        }
        self.tell_demand_of(at, grant.key.class);
    }

    fn tell_demand_of(&self, at: usize, class: ClassId) {
        let leg = &self.legs[at];
        let state = self.book.read();
        let Ok(delivery) = state.delivery(leg.context.delivery) else { return };
        if !is_in_force(&state, leg) {
            leg.line.fair.lock().set_demand(leg.key(class), 0, leg.weight);
            return;
        }
        let ready = delivery.ready_count(leg.context.send, self.book.now(), leg.classes.filter(class));
        leg.line.fair.lock().set_demand(leg.key(class), ready, leg.weight);
    }

    /// Uses a grant for so many rows and takes their positions; `None` if the grant is void or there is nothing to claim.
    fn take_positions(&self, line: &Line, grant: Grant, rows: u64) -> Option<Positions> {
        let count = usize::try_from(rows).unwrap_or(usize::MAX);
        let used = line.fair.lock().claimed(grant.id, count);
        if !used || count == 0 {
            return None;
        }
        let positions = self.pool.take(rows);
        if positions.is_none() {
            give_back(line, grant.key, count);
        }
        positions
    }

    /// The batch as lanes will see it, counted as ahead of them.
    fn live_batch(
        &self,
        leg: &Leg,
        id: BatchId,
        key: DemandKey,
        rows: &RoaringBitmap,
        positions: Positions,
    ) -> Arc<LiveBatch> {
        let line = &leg.line;
        let (context, pool, at) = (Arc::clone(&leg.context), Arc::clone(&self.pool), line.clock.monotonic());
        let batch = Arc::new(LiveBatch::new(id, context, key.class, rows, positions, pool, at));
        line.ahead.lock().push(Ahead { key, batch: Arc::downgrade(&batch), unmarked: batch.unmarked() });
        batch
    }

    fn settle(&mut self, report: &Outcomes) {
        let Some(open) = self.open.get(&report.batch.id) else {
            tracing::error!(batch = %report.batch.id, "outcomes of a batch that is not open");
            return;
        };
        let leg = &self.legs[open.leg];
        let rows = report.accepted.len() + report.others.len();
        if rows > 0 {
            let key = leg.key(report.batch.class);
            let want = self.ending(&leg.line, key, rows, Arc::clone(&report.batch));
            let now = self.book.now();
            let mut bounced = RoaringBitmap::new();
            let settled = self.book.commit_by::<CommitError>(
                |state| {
                    let delivery = state.delivery(leg.context.delivery)?;
                    let started_at = state.runs.get(&self.run).map_or(now, |run| run.started_at);
                    let fact = decide::settle(
                        report.batch.id,
                        delivery,
                        decide::Retry { settings: &leg.line.retry, started_at },
                        &report.accepted,
                        &report.others,
                        now,
                    );
                    let hard = fact.rejected.iter().find(|(class, _)| *class == RejectClass::HardBounce);
                    bounced = hard.map(|(_, rows)| rows.clone()).unwrap_or_default();
                    Ok(Some(Fact::Settled(fact)))
                },
                want,
            );
            if let Err(error) = settled {
                tracing::error!(batch = %report.batch.id, %error, "outcomes were not settled: they stay in the mark file");
            }
            self.suppress_bounced(open.leg, &bounced);
        }
        self.close_if_ended(report.batch.id);
    }

    /// What to do once a frame that ends rows is written (positions may go) and durable (credits come back).
    fn ending(&self, line: &Arc<Line>, key: DemandKey, rows: usize, batch: Arc<LiveBatch>) -> Want {
        let tight = claim::wants_sync(line.fair.lock().credits_out(), line.credits);
        let line = Arc::clone(line);
        let durable = move |_| {
            line.fair.lock().ended(key, rows);
            line.nudge();
        };
        let want = if tight { Want::durable(durable) } else { Want::durable_idle(durable) };
        want.and_written(move |_| drop(batch))
    }

    fn close_if_ended(&mut self, id: BatchId) {
        let Some(open) = self.open.get(&id) else { return };
        let delivery = self.legs[open.leg].context.delivery;
        let is_open = self.book.read().delivery(delivery).is_ok_and(|d| d.batches.contains_key(&id));
        if !is_open && let Some(open) = self.open.remove(&id) {
            let line = &self.legs[open.leg].line;
            figures::sent(&line.name, line.clock.monotonic().since(open.batch.claimed_at));
        }
    }

    /// Takes back every unmarked row of the batches that `wanted` names.
    fn withdraw(&mut self, why: TakenBack, wanted: impl Fn(&LiveBatch, usize) -> bool) {
        let ids: Vec<BatchId> = self.open.iter().filter(|(_, o)| wanted(&o.batch, o.leg)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(open) = self.open.get(&id) else { continue };
            let leg = &self.legs[open.leg];
            let rows = open.batch.withdraw();
            if !rows.is_empty() {
                figures::returned(why, rows.len());
                let count = usize::try_from(rows.len()).unwrap_or(usize::MAX);
                let key = leg.key(open.batch.class);
                let want = self.ending(&leg.line, key, count, Arc::clone(&open.batch));
                let fact =
                    Fact::Returned(Returned { batch: id, delivery: leg.context.delivery, rows, at: self.book.now() });
                if let Err(error) = self.book.commit(&fact, want) {
                    tracing::error!(batch = %id, %error, "withdrawn rows were not returned");
                }
            }
            self.close_if_ended(id);
        }
    }

    fn look_again(&mut self, context: &mut Context<Self>) {
        self.take_in(context);
        let now = self.legs.first().map(|leg| leg.line.clock.monotonic()).unwrap_or_default();
        self.withdraw(TakenBack::Timeout, |batch, _| claim::is_overdue(batch.unmarked(), batch.claimed_at, now));
        self.skip_late();
        self.guard();
        let next = self.book.read().runs.get(&self.run).map_or(Next::Finish, decide::next_of);
        match next {
            Next::GoOn => self.tell_demand(),
            Next::Finish => self.finish(context),
            Next::Stop => self.stop(context),
        }
        if self.draining && self.open.is_empty() {
            self.leave(context);
        }
    }

    /// Takes back and skips what was not handed over by its `send_until`. What is on the wire is still answered.
    fn skip_late(&mut self) {
        let now = self.book.now();
        if self.draining || !self.legs.iter().any(|leg| decide::is_late(leg.send_until, now)) {
            return;
        }
        let late: Vec<bool> = self.legs.iter().map(|leg| decide::is_late(leg.send_until, now)).collect();
        self.withdraw(TakenBack::Late, |batch, leg| batch.unmarked() > 0 && late.get(leg).copied().unwrap_or(false));
        for leg in &self.legs {
            let (id, space) = (leg.context.delivery, leg.context.space);
            let skipped = self.book.commit_by::<CommitError>(
                |state| {
                    let run = state.runs.get(&self.run);
                    let rows = run.map(|run| decide::rows_too_late(run, id.index, leg.send_until, now));
                    let rows = rows.filter(|rows| !rows.is_empty()).map(|rows| RowSet { space, rows });
                    let reason = decide::LATE_REASON;
                    Ok(rows.map(|rows| Fact::Skipped { delivery: id, reason, rows, at: self.book.now() }))
                },
                Want::now(),
            );
            if let Err(error) = skipped {
                tracing::error!(run = %self.run, %error, "late rows were not skipped; it is tried again");
            }
        }
    }

    fn finish(&mut self, context: &mut Context<Self>) {
        // Looked at again under the lock: an operator may just have settled an unknown as pending.
        let committed = self.book.commit_by::<CommitError>(
            |state| {
                let ended = state.runs.get(&self.run).is_some_and(|run| decide::next_of(run) == Next::Finish);
                let (to, reason, at) = (RunState::Finished, String::new(), self.book.now());
                Ok(ended.then_some(Fact::RunMoved { run: self.run, to, reason, at }))
            },
            Want::now(),
        );
        match committed {
            Ok(None) => {}
            Ok(Some(_)) => self.close(context),
            Err(error) => tracing::warn!(run = %self.run, %error, "the end of the run was not recorded; tried again"),
        }
    }

    /// Skips what waits and ends the run, fact by fact.
    fn stop(&mut self, context: &mut Context<Self>) {
        loop {
            let mut was_last = false;
            let committed = self.book.commit_by::<CommitError>(
                |state| {
                    let run = state.runs.get(&self.run);
                    let fact = run.and_then(|run| decide::next_to_stop(run, self.book.now()));
                    was_last = matches!(fact, Some(Fact::RunMoved { .. }));
                    Ok(fact)
                },
                Want::now(),
            );
            match committed {
                Ok(Some(_)) if was_last => return self.close(context),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(run = %self.run, %error, "the stop of the run was not recorded; tried again");
                    return;
                }
            }
        }
    }

    fn close(&mut self, context: &mut Context<Self>) {
        let balance = self.book.read().runs.get(&self.run).map(|run| run.deliveries.iter().try_for_each(|d| d.check()));
        if let Some(Err(violation)) = balance {
            tracing::error!(run = %self.run, %violation, "the ledger of an ended run does not balance");
        }
        self.leave(context);
    }

    fn leave(&mut self, context: &mut Context<Self>) {
        for leg in &self.legs {
            leg.line.fair.lock().remove_run(self.run);
            leg.line.limits.with(|limits| limits.remove(Scope::Campaign(self.run)));
            // The channel actor forgets runs that it can't reach, so a refused Leave is no loss.
            drop(leg.leave.try_send(Leave { run: self.run }));
        }
        drop(self.ended.try_send(RunEnded { run: self.run }));
        context.stop();
    }
}

/// Whether a send says what the version in force says; the actor hears of a later one after it is published.
fn is_in_force(state: &State, leg: &Leg) -> bool {
    state.runs.get(&leg.context.delivery.run).is_some_and(|run| run.version == leg.version)
}

fn give_back(line: &Line, key: DemandKey, rows: usize) {
    let mut fair = line.fair.lock();
    fair.left(key, rows);
    fair.ended(key, rows);
}

impl Actor for CampaignActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
        for leg in &self.legs {
            self.join(leg, context);
        }
        self.tell_demand();
        context.run_interval(ACTOR_TICK, |actor, context| {
            let _in = actor.span.clone().entered();
            actor.look_again(context);
        });
    }
}

impl Handler<ChannelWord> for CampaignActor {
    type Result = ();

    fn handle(&mut self, word: ChannelWord, _: &mut Context<Self>) {
        let _in = self.span.clone().entered();
        match word {
            ChannelWord::Grant(grant) => self.claim(grant),
            ChannelWord::TakeBack { connector } => {
                let legs: Vec<bool> = self.legs.iter().map(|leg| leg.line.name == connector).collect();
                self.withdraw(TakenBack::Slowed, |_, leg| legs.get(leg).copied().unwrap_or(false));
            }
        }
    }
}

impl Handler<Outcomes> for CampaignActor {
    type Result = ();

    fn handle(&mut self, report: Outcomes, _: &mut Context<Self>) {
        let _in = self.span.clone().entered();
        self.settle(&report);
    }
}

impl Handler<RunCommand> for CampaignActor {
    type Result = ();

    fn handle(&mut self, command: RunCommand, context: &mut Context<Self>) {
        let _in = self.span.clone().entered();
        match command {
            RunCommand::Pause => self.withdraw(TakenBack::Pause, |_, _| true),
            RunCommand::Stop => self.withdraw(TakenBack::Stop, |_, _| true),
            RunCommand::Drain => {
                self.draining = true;
                self.withdraw(TakenBack::Drain, |_, _| true);
            }
            RunCommand::Resume | RunCommand::Refresh => {}
        }
        self.tell_demand();
        self.look_again(context);
    }
}
