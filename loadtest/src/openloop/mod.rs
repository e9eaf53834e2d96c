//! An open loop: requests leave when they were planned to, and latency counts from then.
//!
//! Owns the queue of what is due and the workers that take from it. A closed loop asks again only when it was answered, so a server that
//! stops for a second is asked once in that second, and the second is one sample among thousands: coordinated omission (Gil
//! Tene, "How NOT to measure latency", 2013). Here the requests of that second wait, and each counts its wait.
//!
//! Invariants: 1. `response` is from the planned time to the answer, `service` from the sending to the answer; 2. every
//! planned arrival is answered, failed, or counted as given up when the patience after the plan's end is over; 3. what
//! arrives in the warm-up is asked and not counted; 4. the generator's own lateness is reported, so that a figure of a
//! generator that could not keep up is not taken for one of the server.
//!
//! ```no_run
//! # use loadtest::openloop::{LoopOptions, run};
//! # async fn ask() -> anyhow::Result<()> { Ok(()) }
//! let options = LoopOptions { arrivals: "poisson:500".parse().unwrap(), ..LoopOptions::default() };
//! let result = run(&options, |_worker| async move |_n| ask().await)?;
//! println!("{}", result.response.line());
//! # anyhow::Ok(())
//! ```

pub mod arrivals;
pub mod http;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, channel};

use self::arrivals::{Arrivals, Plan};
use crate::hist::{CurvePoint, Latencies, Percentiles};

/// Arrivals on their way from the planner to the loop; one that is too slow shows as lateness.
const ON_THEIR_WAY: usize = 4_096;
/// Different errors that are quoted.
const ERRORS_QUOTED: usize = 5;

/// How a loop is driven.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoopOptions {
    /// When requests arrive: constant:500, poisson:500 or steps:10s@100,5s@1000 (a second)
    #[arg(long, default_value = "poisson:500", value_name = "LOAD")]
    pub arrivals: Arrivals,
    /// Seconds of the plan, the warm-up among them
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub seconds: f64,
    /// Seconds at the beginning that are asked and not counted, rounded up
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub warm_up: f64,
    /// Requests that may be on their way at once; those beyond wait, and their wait counts
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub in_flight: usize,
    /// Seconds after the plan's end in which answers are still waited for
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub patience: f64,
    /// Seed of the arrivals
    #[arg(long = "arrivals-seed", default_value_t = 1)]
    pub seed: u64,
}

impl Default for LoopOptions {
    fn default() -> LoopOptions {
        LoopOptions {
            arrivals: Arrivals::Poisson { per_second: 500.0 },
            seconds: 10.0,
            warm_up: 2.0,
            in_flight: 256,
            patience: 30.0,
            seed: 1,
        }
    }
}

/// What came of a loop. Counts and latencies are without the warm-up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoopResult {
    pub planned: u64,
    pub answered: u64,
    pub failed: u64,
    /// Still unanswered when the patience was over.
    pub given_up: u64,
    /// Some of the errors.
    pub errors: Vec<String>,
    pub planned_per_second: f64,
    pub answered_per_second: f64,
    /// From the planned time to the answer: the figure that counts.
    pub response: Percentiles,
    /// From the sending to the answer: what a closed loop would have shown.
    pub service: Percentiles,
    /// From the planned time until the generator had the request in its queue: its own fault.
    pub lateness: Percentiles,
    pub response_curve: Vec<CurvePoint>,
    pub series: Vec<Second>,
}

/// Requests planned in one second, the warm-up's seconds too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// From 0, of the plan.
    pub second: u64,
    pub warm_up: bool,
    pub planned: u64,
    pub answered: u64,
    pub failed: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// What is shared on the one thread of a loop.
struct State {
    due: VecDeque<(u64, Duration)>,
    planning: bool,
    seconds: Vec<SecondState>,
    response: Latencies,
    service: Latencies,
    lateness: Latencies,
    errors: Vec<String>,
    warm_up: Duration,
}

struct SecondState {
    planned: u64,
    failed: u64,
    latencies: Latencies,
}

/// Runs the loop to its end on a thread of its own runtime. `make` gives each of the `in_flight` workers what it asks with;
/// a worker is asked for one request at a time, with the number of the arrival. An error is a failed request, not the end.
pub fn run<M, W>(options: &LoopOptions, make: M) -> anyhow::Result<LoopResult>
where
    M: Fn(usize) -> W,
    W: AsyncFnMut(u64) -> anyhow::Result<()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, drive(options, make))
}

async fn drive<M, W>(options: &LoopOptions, make: M) -> anyhow::Result<LoopResult>
where
    M: Fn(usize) -> W,
    W: AsyncFnMut(u64) -> anyhow::Result<()> + 'static,
{
    let state = Rc::new(RefCell::new(State::new(options)?));
    let wake = Rc::new(Notify::new());
    let workers: Vec<_> = (0..options.in_flight.max(1)).map(&make).collect();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in workers {
        tasks.spawn_local(work(worker, Rc::clone(&state), Rc::clone(&wake), start));
    }
    let mut arrivals = announce(options.arrivals.plan(duration(options.seconds), options.seed), start);
    while let Some((n, at)) = arrivals.recv().await {
        state.borrow_mut().arrives(n, at, start.elapsed())?;
        wake.notify_one();
    }
    state.borrow_mut().planning = false;
    wake.notify_waiters();
    let all = async { while tasks.join_next().await.is_some() {} };
    // Who has not answered by then is counted below as given up.
    tokio::time::timeout(duration(options.patience), all).await.ok();
    tasks.abort_all();
    let result = state.borrow().result(options);
    Ok(result)
}

/// Tells each arrival when it is due, from a thread of its own: a thread sleeps to some tens of microseconds, tokio's timers to
/// a millisecond, which is longer than what is measured.
fn announce(plan: Plan, start: Instant) -> Receiver<(u64, Duration)> {
    let (send, receive) = channel(ON_THEIR_WAY);
    std::thread::spawn(move || {
        for (n, at) in plan.enumerate() {
            let wait = (start + at).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            if send.blocking_send((n as u64, at)).is_err() {
                return;
            }
        }
    });
    receive
}

async fn work<W>(mut worker: W, state: Rc<RefCell<State>>, wake: Rc<Notify>, start: Instant)
where
    W: AsyncFnMut(u64) -> anyhow::Result<()>,
{
    loop {
        let next = state.borrow_mut().due.pop_front();
        let Some((n, planned)) = next else {
            // Registered before the look at the plan's end, so that its last call is not missed.
            let called = wake.notified();
            if !state.borrow().planning {
                return;
            }
            called.await;
            continue;
        };
        let sent = start.elapsed();
        let outcome = worker(n).await;
        state.borrow_mut().ends(planned, sent, start.elapsed(), outcome);
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

impl State {
    fn new(options: &LoopOptions) -> anyhow::Result<State> {
        Ok(State {
            due: VecDeque::new(),
            planning: true,
            seconds: Vec::new(),
            response: Latencies::new()?,
            service: Latencies::new()?,
            lateness: Latencies::new()?,
            errors: Vec::new(),
            // In whole seconds, so that the series and the percentiles count the same requests.
            warm_up: duration(options.warm_up.ceil()),
        })
    }

    fn arrives(&mut self, n: u64, planned: Duration, now: Duration) -> anyhow::Result<()> {
        let second = usize::try_from(planned.as_secs()).unwrap_or(usize::MAX);
        while self.seconds.len() <= second {
            self.seconds.push(SecondState { planned: 0, failed: 0, latencies: Latencies::new()? });
        }
        self.seconds[second].planned += 1;
        if planned >= self.warm_up {
            self.lateness.record(now.saturating_sub(planned));
        }
        self.due.push_back((n, planned));
        Ok(())
    }

    fn ends(&mut self, planned: Duration, sent: Duration, now: Duration, outcome: anyhow::Result<()>) {
        let counts = planned >= self.warm_up;
        let Some(second) = usize::try_from(planned.as_secs()).ok().and_then(|at| self.seconds.get_mut(at)) else {
            return;
        };
        if let Err(error) = outcome {
            second.failed += 1;
            let text = format!("{error:#}");
            if self.errors.len() < ERRORS_QUOTED && !self.errors.contains(&text) {
                self.errors.push(text);
            }
            return;
        }
        second.latencies.record(now.saturating_sub(planned));
        if counts {
            self.response.record(now.saturating_sub(planned));
            self.service.record(now.saturating_sub(sent));
        }
    }

    fn result(&self, options: &LoopOptions) -> LoopResult {
        let series: Vec<Second> =
            self.seconds.iter().enumerate().map(|(n, second)| second.show(n, self.warm_up)).collect();
        let counted = |pick: fn(&Second) -> u64| -> u64 { series.iter().filter(|s| !s.warm_up).map(pick).sum() };
        let (planned, answered, failed) = (counted(|s| s.planned), counted(|s| s.answered), counted(|s| s.failed));
        let length = options.arrivals.length().map_or(options.seconds, |own| own.as_secs_f64().min(options.seconds));
        let seconds = (length - self.warm_up.as_secs_f64()).max(1e-9);
        LoopResult {
            planned,
            answered,
            failed,
            given_up: planned.saturating_sub(answered + failed),
            errors: self.errors.clone(),
            planned_per_second: planned as f64 / seconds,
            answered_per_second: answered as f64 / seconds,
            response: self.response.percentiles(),
            service: self.service.percentiles(),
            lateness: self.lateness.percentiles(),
            response_curve: self.response.curve(),
            series,
        }
    }
}

impl SecondState {
    fn show(&self, n: usize, warm_up: Duration) -> Second {
        let seen = self.latencies.percentiles();
        Second {
            second: n as u64,
            warm_up: Duration::from_secs(n as u64) < warm_up,
            planned: self.planned,
            answered: seen.count,
            failed: self.failed,
            p50_ms: seen.p50_ms,
            p99_ms: seen.p99_ms,
            max_ms: seen.max_ms,
        }
    }
}

#[cfg(test)]
mod tests;
