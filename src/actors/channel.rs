//! ChannelActor: steers one line. Gives grants in fair order, opens and closes lanes, answers to what lanes say of the
//! provider.
//!
//! Owns no rows and no permits: the fair queue and the limits are the line's. A grant that a campaign does not take is
//! void by time, so a refused `try_send` costs nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, AsyncContext, Context, Handler, Recipient};

use crate::actors::figures;
use crate::actors::lanes::LiveBatch;
use crate::actors::lanes::threads::LaneThreads;
use crate::actors::line::Line;
use crate::actors::{AbortOnPanic, ChannelWord, Join, LaneReport, Leave, Nudge};
use crate::channels::LaneEvent;
use crate::channels::ahead::AheadBudget;
use crate::channels::fair::FairQueue;
use crate::channels::lane_budget::{LaneBudget, bound_class_rate};
use crate::channels::limits_table::{ClassId, Scope};
use crate::clock::{Clock, Monotonic};
use crate::ids::RunId;
use crate::limits::{ACTOR_TICK, LANES_IDLE, MAILBOX_MESSAGES};

pub struct ChannelActor {
    line: Arc<Line>,
    threads: Arc<LaneThreads>,
    runs: HashMap<RunId, Recipient<ChannelWord>>,
    /// Lanes that the provider lets us have now.
    budget: LaneBudget,
    /// Rows that may be claimed ahead of the lanes.
    ahead: AheadBudget,
    last_demand: Monotonic,
    last_recovery: Monotonic,
    /// Measured over the last second or so.
    answers_per_second: f64,
    answers_seen: u64,
    taken_seen: u64,
    /// Runs that have not yet heard that they must take back what is claimed ahead.
    to_take_back: Vec<RunId>,
    _guard: AbortOnPanic,
}

impl ChannelActor {
    pub fn new(line: Arc<Line>, threads: Arc<LaneThreads>) -> ChannelActor {
        let budget = LaneBudget::new(line.connections_max);
        let ahead = AheadBudget::new(line.connections_max);
        let start = Monotonic::default();
        ChannelActor {
            line,
            threads,
            runs: HashMap::new(),
            budget,
            ahead,
            last_demand: start,
            last_recovery: start,
            answers_per_second: 0.0,
            answers_seen: 0,
            taken_seen: 0,
            to_take_back: Vec::new(),
            _guard: AbortOnPanic,
        }
    }

    fn decide(&mut self) {
        let now = self.line.clock.monotonic();
        self.tell_to_take_back();
        self.count_left();
        let mut grants = Vec::new();
        let busy = {
            let mut fair = self.line.fair.lock();
            fair.expire(now);
            self.ahead.measure(self.line.figures.done.load(Ordering::Relaxed), fair.credits_out() > 0, now);
            fair.set_ahead(self.ahead.rows());
            self.set_closed(&mut fair, now);
            fair.grants(now, &mut grants);
            fair.waiting() > 0 || fair.credits_out() > 0
        };
        for grant in grants {
            let run = grant.key.delivery.run;
            let sent = self.runs.get(&run).is_some_and(|campaign| campaign.try_send(ChannelWord::Grant(grant)).is_ok());
            if !sent {
                figures::refused("campaign");
                self.line.fair.lock().claimed(grant.id, 0);
            }
        }
        if busy {
            self.last_demand = now;
        }
        self.steer_lanes(now);
        self.recover_rates(now);
        self.judge_refusals(now);
    }

    /// Closes and opens scopes as their circuits say.
    fn set_closed(&self, fair: &mut FairQueue, now: Monotonic) {
        let (waiting, outstanding) = (fair.waiting(), fair.outstanding(Scope::Connector));
        let admitted = self.line.circuit.lock().admits_rows(waiting, outstanding, now);
        fair.set_closed(Scope::Connector, !admitted);
        for (class, circuit) in (1..).map(ClassId).zip(self.line.class_circuits.lock().iter_mut()) {
            let scope = Scope::Class(class);
            let admitted = circuit.admits_rows(fair.waiting_in(class), fair.outstanding(scope), now);
            fair.set_closed(scope, !admitted);
        }
    }

    /// Many refusals by policy among the answers are the sender's fault: the circuit of their scope opens.
    fn judge_refusals(&mut self, now: Monotonic) {
        let take = |counter: &AtomicU64| u32::try_from(counter.swap(0, Ordering::Relaxed)).unwrap_or(u32::MAX);
        let mut opened = false;
        for (class, counts) in self.line.class_answers.iter().enumerate() {
            let (answers, refused) = (take(&counts.answers), take(&counts.refused));
            if answers == 0 {
                continue;
            }
            let mut classes = self.line.class_circuits.lock();
            match class.checked_sub(1).and_then(|at| classes.get_mut(at)) {
                Some(circuit) => opened |= circuit.probed(answers, refused, now),
                None => {
                    drop(classes);
                    let mut circuit = self.line.circuit.lock();
                    let was_closed = circuit.is_closed();
                    circuit.answered(answers, refused, now);
                    opened |= was_closed && !circuit.is_closed();
                }
            }
        }
        if opened {
            self.take_back_all();
        }
    }

    /// Tells the fair queue which claimed rows have been marked or taken back since the last look.
    fn count_left(&self) {
        let mut ahead = self.line.ahead.lock();
        let mut fair = self.line.fair.lock();
        ahead.retain_mut(|entry| {
            let unmarked = entry.batch.upgrade().map_or(0, |batch: Arc<LiveBatch>| batch.unmarked());
            fair.left(entry.key, usize::try_from(entry.unmarked - unmarked.min(entry.unmarked)).unwrap_or(0));
            entry.unmarked = unmarked;
            unmarked > 0
        });
    }

    fn steer_lanes(&mut self, now: Monotonic) {
        let idle = now.since(self.last_demand) > LANES_IDLE;
        let wanted = if idle || self.line.is_closing() { 0 } else { self.budget.lanes() };
        if self.line.queue.lanes_wanted() != wanted {
            self.line.queue.set_lanes_wanted(wanted);
        }
        self.threads.ensure(&self.line);
    }

    /// Once a second: slowed limits grow back, lanes that were given up are tried again one by one, and claims follow what
    /// bound classes take.
    fn recover_rates(&mut self, now: Monotonic) {
        if now.since(self.last_recovery).as_secs() < 1 {
            return;
        }
        let seconds = now.since(self.last_recovery).as_secs_f64();
        let answers = self.line.figures.done.load(Ordering::Relaxed);
        self.answers_per_second = answers.saturating_sub(self.answers_seen) as f64 / seconds;
        self.answers_seen = answers;
        let taken = self.line.figures.taken.load(Ordering::Relaxed);
        let taken_per_second = taken.saturating_sub(self.taken_seen) as f64 / seconds;
        self.taken_seen = taken;
        self.last_recovery = now;
        let bound = &self.line.bound_classes;
        let (changed, measured) = self.line.limits.with(|limits| {
            let measured: Vec<_> = bound.iter().map(|b| limits.measured(Scope::Class(b.class), now)).collect();
            limits.took(Scope::Connector, taken_per_second, now);
            (limits.recover(now), measured)
        });
        let mut fair = self.line.fair.lock();
        for (scope, rate) in changed {
            fair.set_rate(scope, rate);
        }
        for (bound, measured) in bound.iter().zip(measured) {
            fair.set_rate(Scope::Class(bound.class), Some(bound_class_rate(bound.lanes, measured, bound.rate)));
        }
        drop(fair);
        self.budget.regrow(now);
    }

    fn heard(&mut self, event: LaneEvent) {
        let now = self.line.clock.monotonic();
        let figures = &self.line.figures;
        match event {
            LaneEvent::Opened => {
                Line::count(&figures.open_connections);
                self.line.circuit.lock().succeeded();
            }
            LaneEvent::ConnectFailed { reason } => {
                Line::count(&figures.connect_failures);
                self.problem(&reason);
                self.failed(now);
            }
            LaneEvent::Closed { reason } => {
                figures
                    .open_connections
                    .fetch_update(std::sync::atomic::Ordering::Relaxed, std::sync::atomic::Ordering::Relaxed, |open| {
                        Some(open.saturating_sub(1))
                    })
                    .ok();
                tracing::debug!(connector = %self.line.name, reason, "a lane's connection closed");
            }
            LaneEvent::Throttled { reply } => {
                Line::count(&figures.throttled);
                self.problem(&reply);
                let pace = self.pace(now);
                let rate = self.line.limits.with(|limits| limits.slow_down(Scope::Connector, Some(pace), now));
                if rate.is_some() {
                    self.line.fair.lock().set_rate(Scope::Connector, rate);
                    self.take_back_all();
                }
            }
            LaneEvent::TooManyConnections { reply } => {
                self.problem(&reply);
                // The last lane refused is as good as a relay that can't be reached.
                if self.budget.lanes() == 1 {
                    self.failed(now);
                }
                self.budget.too_many(now);
            }
            LaneEvent::SenderRefused { reply } => {
                self.problem(&reply);
                self.line.circuit.lock().sender_refused(now);
                self.take_back_all();
            }
            // Counted where they happen, a mailbox message each would be too many.
            LaneEvent::RoundTrip { .. } | LaneEvent::PolicyRefused { .. } => {}
        }
    }

    /// Answers a second: of the last whole second, or of the one that runs if more came in it already. A complaint in the first
    /// second of a burst would else be of a rate of nothing.
    fn pace(&self, now: Monotonic) -> f64 {
        let fresh = self.line.figures.done.load(Ordering::Relaxed).saturating_sub(self.answers_seen);
        let running = now.since(self.last_recovery).as_secs_f64();
        self.answers_per_second.max(fresh as f64 / running.max(1.0))
    }

    fn failed(&mut self, now: Monotonic) {
        let opened = {
            let mut circuit = self.line.circuit.lock();
            let before = circuit.is_closed();
            circuit.failed(now);
            before && !circuit.is_closed()
        };
        if opened {
            self.take_back_all();
        }
    }

    /// What is claimed above a bound that shrank goes back at once, so that it waits in no queue.
    fn take_back_all(&mut self) {
        self.to_take_back = self.runs.keys().copied().collect();
        self.tell_to_take_back();
    }

    fn tell_to_take_back(&mut self) {
        let runs = &self.runs;
        let connector = &self.line.name;
        let told = |run: &RunId| {
            runs.get(run).is_none_or(|c| c.try_send(ChannelWord::TakeBack { connector: Arc::clone(connector) }).is_ok())
        };
        self.to_take_back.retain(|run| !told(run));
    }

    fn problem(&self, text: &str) {
        let mut last = self.line.figures.last_problem.lock();
        if *last != text {
            tracing::warn!(connector = %self.line.name, reply = text, "the provider refuses or slows us");
            text.clone_into(&mut last);
        }
    }
}

impl Actor for ChannelActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
        context.run_interval(ACTOR_TICK, |actor, _| actor.decide());
    }
}

impl Handler<Nudge> for ChannelActor {
    type Result = ();

    fn handle(&mut self, _: Nudge, _: &mut Context<Self>) {
        self.decide();
    }
}

impl Handler<Join> for ChannelActor {
    type Result = ();

    fn handle(&mut self, join: Join, _: &mut Context<Self>) {
        self.runs.insert(join.run, join.grants);
        self.decide();
    }
}

impl Handler<Leave> for ChannelActor {
    type Result = ();

    fn handle(&mut self, leave: Leave, _: &mut Context<Self>) {
        self.runs.remove(&leave.run);
    }
}

impl Handler<LaneReport> for ChannelActor {
    type Result = ();

    fn handle(&mut self, report: LaneReport, _: &mut Context<Self>) {
        self.heard(report.event);
    }
}
