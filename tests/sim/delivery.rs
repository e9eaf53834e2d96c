//! One delivery through kills, power losses, pauses, opt-outs, deferrals and lost answers.

use std::time::Duration;

use estafette::actors::RowOutcome;
use estafette::clock::Timestamp;
use estafette::ids::BatchId;
use estafette::ledger::{Mode, RunState};
use estafette::segments::skip::SkipReason;

use crate::plan::Sim;
use crate::rng::Rng;
use crate::seeds::for_each_seed;
use crate::world::{RUN, World, refusal};

const SEEDS: u64 = 2_000;
const EVENTS_MAX: u64 = 200_000;
const HORIZON: Duration = Duration::from_secs(20);

#[derive(Debug)]
enum Event {
    /// The channel grants rows.
    Grant,
    /// The claim's frame is durable: lanes may begin.
    Durable(BatchId),
    /// A lane comes to this row.
    Row(BatchId, usize),
    Answer(BatchId, usize, RowOutcome),
    Flush,
    Write,
    Look,
    // What happens to the process and the campaign from outside.
    Kill,
    PowerLoss,
    Pause,
    Resume,
    Stop,
    OptOut,
    SettleUnknown(bool),
}

impl Event {
    /// Lives in the process, and dies with it.
    fn is_inside(&self) -> bool {
        matches!(
            self,
            Event::Durable(_) | Event::Row(..) | Event::Answer(..) | Event::Flush | Event::Write | Event::Look
        )
    }
}

struct Scenario {
    world: World,
    sim: Sim<Event>,
    rng: Rng,
    rows: u32,
    start: Timestamp,
    faulty: bool,
}

impl Scenario {
    fn now(&self) -> Timestamp {
        self.start.plus(Duration::from_nanos(self.sim.now().0))
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.rng.between(from * 1_000, to * 1_000))
    }

    fn step(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Grant => self.grant(now),
            Event::Durable(batch) => self.begin(batch),
            Event::Row(batch, index) => self.row(batch, index),
            Event::Answer(batch, index, outcome) => self.world.answer(batch, index, outcome),
            Event::Flush => self.world.flush(now),
            Event::Write => self.world.write(),
            Event::Look => {
                self.world.look(now);
                if !self.world.is_settled() {
                    self.sim.schedule_in(Duration::from_millis(100), Event::Look);
                }
            }
            Event::Kill => self.crash(false),
            Event::PowerLoss => self.crash(true),
            Event::Pause if self.world.run_state() == RunState::Running => {
                self.world.move_run(RunState::Paused, now);
                self.world.withdraw(now);
            }
            Event::Resume if self.world.run_state() == RunState::Paused => self.world.move_run(RunState::Running, now),
            Event::Stop if matches!(self.world.run_state(), RunState::Running | RunState::Paused) => {
                self.world.move_run(RunState::Stopping, now);
                self.world.withdraw(now);
            }
            Event::OptOut => {
                let row = u32::try_from(self.rng.below(u64::from(self.rows))).expect("small");
                self.world.unsubscribe(row, now);
            }
            Event::SettleUnknown(resend) => {
                self.world.settle_unknown(resend, now);
                self.sim.schedule_in(Duration::from_millis(1), Event::Look);
            }
            Event::Pause | Event::Resume | Event::Stop => {}
        }
        self.world.check();
    }

    fn grant(&mut self, now: Timestamp) {
        let rows = self.rng.between(1, 30) as usize;
        if let Some(batch) = self.world.claim(rows, now) {
            let fsync = self.millis(1, 6);
            self.sim.schedule_in(fsync, Event::Durable(batch));
        }
        let live = !self.world.is_settled() || self.sim.now().0 < u64::try_from(HORIZON.as_nanos()).expect("small");
        if live {
            let pause = self.millis(1, 400);
            self.sim.schedule_in(pause, Event::Grant);
        }
    }

    fn begin(&mut self, batch: BatchId) {
        self.world.sync();
        let count = self.world.live.get(&batch).map_or(0, |live| live.rows.len());
        for index in 0..count {
            let after = self.millis(0, 40);
            self.sim.schedule_in(after, Event::Row(batch, index));
        }
    }

    fn row(&mut self, batch: BatchId, index: usize) {
        let Some(row) = self.world.live.get(&batch).map(|live| live.rows[index]) else { return };
        if self.world.is_opted_out(row) {
            if self.world.mark(batch, index) {
                self.world.answer(batch, index, RowOutcome::Skipped(SkipReason::Unsubscribed, String::new()));
            }
        } else if self.world.mark(batch, index) {
            let outcome = self.hand_over(row);
            let latency = self.millis(1, 60);
            self.sim.schedule_in(latency, Event::Answer(batch, index, outcome));
        }
        let soon = self.millis(1, 8);
        self.sim.schedule_in(soon + Duration::from_millis(60), Event::Flush);
        self.sim.schedule_in(soon, Event::Write);
    }

    /// What the provider does with it, and what the lane gets to know.
    fn hand_over(&mut self, row: u32) -> RowOutcome {
        if !self.faulty || self.rng.chance(0.85) {
            self.world.deliver(row);
            return RowOutcome::Accepted;
        }
        match self.rng.below(4) {
            0 => {
                self.world.deliver(row);
                RowOutcome::Unknown
            }
            1 => RowOutcome::Unknown,
            _ => refusal(&mut self.rng),
        }
    }

    fn crash(&mut self, power: bool) {
        let now = self.now();
        self.sim.cancel_where(Event::is_inside);
        let mut rng = self.rng.stream("crash");
        self.world.crash(power, &mut rng, now);
        self.rng.next();
        self.sim.schedule_in(Duration::from_millis(50), Event::Look);
    }
}

fn play(seed_rng: &mut Rng, mode: Mode) {
    let mut rng = seed_rng.stream("delivery");
    let rows = u32::try_from(rng.between(20, 300)).expect("small");
    let start = Timestamp(1_767_225_600_000);
    let sim = Sim::new(&rng, EVENTS_MAX);
    let faulty = rng.chance(0.8);
    let mut scenario = Scenario { world: World::new(rows, mode, start), sim, rng, rows, start, faulty };
    scenario.sim.schedule_in(Duration::ZERO, Event::Grant);
    scenario.sim.schedule_in(Duration::ZERO, Event::Look);
    for _ in 0..scenario.rng.between(0, 14) {
        let at = scenario.millis(1, 20_000);
        let event = match scenario.rng.below(16) {
            0..=4 => Event::Kill,
            5..=6 => Event::PowerLoss,
            7..=8 => Event::Pause,
            9 if scenario.rng.chance(0.3) => Event::Stop,
            10..=12 => Event::OptOut,
            13 => Event::SettleUnknown(true),
            14 => Event::SettleUnknown(false),
            _ => Event::Kill,
        };
        scenario.sim.schedule_in(at, event);
    }
    // Whoever pauses also resumes.
    for at in [5, 12, 21] {
        scenario.sim.schedule_in(Duration::from_secs(at), Event::Resume);
    }
    while let Some(event) = scenario.sim.next() {
        scenario.step(event);
    }
    assert!(scenario.world.is_settled(), "the run never ended:\n{}", scenario.sim.trace());
    assert!(scenario.world.state.runs.contains_key(&RUN), "the run is there");
    scenario.world.check_end();
}

#[test]
fn strict_mails_nobody_twice_and_forgets_nobody() {
    let ran = for_each_seed("strict", SEEDS, |_, rng| play(rng, Mode::Strict));
    assert!(ran >= 1, "seeds ran");
}

#[test]
fn at_least_once_repeats_only_unknowns() {
    let ran = for_each_seed("at_least_once", SEEDS / 4, |_, rng| play(rng, Mode::AtLeastOnce));
    assert!(ran >= 1, "seeds ran");
}
