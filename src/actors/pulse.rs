//! PulseActor: measures how fast each live run gets on.
//!
//! Owns nothing that decides a send: rates are for people.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, AsyncContext, Context};
use parking_lot::Mutex;

use crate::actors::book::Book;
use crate::campaigns::progress::RateRing;
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::ids::RunId;
use crate::ledger::RunState;
use crate::limits::{MAILBOX_MESSAGES, PULSE_TICK};

/// Final outcomes of one run over time.
#[derive(Clone)]
pub struct Pulse {
    pub ring: RateRing,
    final_rows: u64,
    state: RunState,
}

/// The pulses of all live runs; read by reports and metrics.
#[derive(Default)]
pub struct Pulses(Mutex<HashMap<RunId, Pulse>>);

impl Pulses {
    pub fn of(&self, run: RunId, now: Monotonic) -> RateRing {
        self.0.lock().get(&run).map_or_else(|| RateRing::starting(now), |pulse| pulse.ring.clone())
    }
}

pub struct PulseActor {
    book: Arc<Book>,
    clock: SystemClock,
    pulses: Arc<Pulses>,
}

impl PulseActor {
    pub fn new(book: Arc<Book>, clock: SystemClock, pulses: Arc<Pulses>) -> PulseActor {
        PulseActor { book, clock, pulses }
    }

    fn measure(&self) {
        let now = self.clock.monotonic();
        let state = self.book.read();
        let mut pulses = self.pulses.0.lock();
        pulses.retain(|id, _| state.runs.get(id).is_some_and(|run| run.state.is_live()));
        for run in state.runs.values().filter(|run| run.state.is_live()) {
            let counts = run.counts();
            let final_rows = counts.accepted + counts.rejected + counts.skipped + counts.unknown;
            let new = || Pulse { ring: RateRing::starting(now), final_rows, state: run.state };
            let pulse = pulses.entry(run.id).or_insert_with(new);
            if pulse.state != run.state {
                *pulse = Pulse { ring: RateRing::starting(now), final_rows, state: run.state };
            }
            pulse.ring.record(now, final_rows.saturating_sub(pulse.final_rows));
            pulse.final_rows = final_rows;
        }
    }
}

impl Actor for PulseActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
        context.run_interval(PULSE_TICK, |actor, _| actor.measure());
    }
}
