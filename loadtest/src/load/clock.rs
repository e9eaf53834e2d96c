//! The clock of a load profile: starts every step at its moment, looks at all of them, and knows when each ended.
//!
//! Owns the plan and what was seen. Invariant: looking never delays a start by more than one look.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::{AT_THE_SINK, LATE, MEMORY_GROWTH, RATE, RATE_SHARE};
use crate::api::Ledger;
use crate::findings::Findings;
use crate::message::{reference_campaign, small_campaign};
use crate::moments::{self, Moment, Moments};
use crate::scenario::drivers::Step;
use crate::scene::Scene;
use crate::sink::process::SinkProcess;
use crate::text::{bar, cells, grouped};

/// Time between two looks at the campaigns that run.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time between two looks at the sink.
const SINK_EVERY: f64 = 1.0;
/// Time without any contact done, or any attempt at the sink, after which a campaign is given up.
const STANDSTILL: Duration = Duration::from_secs(180);

/// A step with what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct StepRun {
    pub name: String,
    pub contacts: u64,
    /// When it was to start, seconds.
    pub planned_start: f64,
    /// When it was to end, if it has a rate.
    pub planned_end: Option<f64>,
    pub started: Option<f64>,
    pub ended: Option<f64>,
    pub ledger: Ledger,
    #[serde(skip)]
    id: String,
    #[serde(skip)]
    done: Vec<Moment>,
}

impl StepRun {
    /// Contacts a second from its start to its end.
    pub fn per_second(&self) -> Option<f64> {
        Some(self.ledger.accepted as f64 / (self.ended? - self.started?).max(1e-9))
    }

    /// The rate that it was to have.
    pub fn asked(&self) -> Option<f64> {
        Some(self.contacts as f64 / (self.planned_end? - self.planned_start))
    }

    fn runs(&self) -> bool {
        self.started.is_some() && self.ended.is_none()
    }
}

/// Messages that the sink took and refused up to a moment.
#[derive(Clone, Copy, Debug)]
struct SinkLook {
    seconds: f64,
    accepted: u64,
    refused: u64,
}

#[derive(Debug, Default)]
pub struct Clock {
    steps: Vec<StepRun>,
    all: Vec<Moment>,
    sink: Vec<SinkLook>,
}

/// The campaign of a step.
pub fn campaign(step: &Step, batch: &str, small: bool) -> anyhow::Result<Value> {
    let audience = json!({"segment": format!("batch = \"{batch}\"")});
    let mut spec = match small {
        true => small_campaign(&step.name, "relay", &audience, None),
        false => reference_campaign(&step.name, "relay", &audience)?,
    };
    if let Some(rate) = step.per_second {
        spec["limits"] = json!({"messages_per_second": rate});
    }
    Ok(spec)
}

impl Clock {
    /// Adds a step; without a moment of its own it starts when the one before is planned to end.
    pub fn plan(&mut self, step: &Step, id: String, contacts: u64) {
        let after = self.steps.last().map_or(0.0, |last| last.planned_end.unwrap_or(last.planned_start));
        let planned_start = step.at_seconds.map_or(after, |at| at as f64);
        self.steps.push(StepRun {
            name: step.name.clone(),
            contacts,
            planned_start,
            planned_end: step.planned_seconds().map(|seconds| planned_start + seconds),
            started: None,
            ended: None,
            ledger: Ledger::default(),
            id,
            done: Vec::new(),
        });
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn ledgers(&self) -> Vec<Ledger> {
        self.steps.iter().map(|step| step.ledger.clone()).collect()
    }

    pub fn results(&self) -> &[StepRun] {
        &self.steps
    }

    /// Runs the profile until every campaign is finished.
    pub fn run(&mut self, scene: &Scene, sink: &mut SinkProcess) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut all = Moments::new(began, scene.server.pid());
        let progress = bar(self.steps.iter().map(|step| step.contacts).sum(), "load");
        let (mut moved_at, mut last) = (began, u64::MAX);
        while self.steps.iter().any(|step| step.ended.is_none()) {
            let now = began.elapsed().as_secs_f64();
            self.start_due(scene, now)?;
            let done = self.look(scene, began)?;
            all.look(done);
            progress.set_position(done);
            if self.sink.last().is_none_or(|look| now - look.seconds >= SINK_EVERY) {
                self.look_at_sink(sink, now)?;
            }
            if done != last {
                (moved_at, last) = (Instant::now(), done);
            } else if moved_at.elapsed() > STANDSTILL && self.steps.iter().any(StepRun::runs) {
                bail!("nothing moves any more: {:?}", self.ledgers());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        progress.finish_and_clear();
        self.look_at_sink(sink, began.elapsed().as_secs_f64())?;
        self.all = all.finish(self.steps.iter().map(|step| step.ledger.accepted).sum());
        Ok(())
    }

    /// Starts what is due. A step without a rate ends when it ends: what follows it without a moment of its own waits for it.
    fn start_due(&mut self, scene: &Scene, now: f64) -> anyhow::Result<()> {
        for at in 0..self.steps.len() {
            let waits = at > 0 && self.steps[at - 1].planned_end.is_none() && self.steps[at - 1].ended.is_none();
            let follows = at > 0 && self.steps[at].planned_start <= self.steps[at - 1].planned_start;
            let step = &mut self.steps[at];
            if step.started.is_some() || now < step.planned_start || (waits && follows) {
                continue;
            }
            scene.api().act(&step.id, "start")?;
            step.started = Some(now);
        }
        Ok(())
    }

    /// Looks at every campaign that runs; contacts done in all.
    fn look(&mut self, scene: &Scene, began: Instant) -> anyhow::Result<u64> {
        for step in self.steps.iter_mut().filter(|step| step.runs()) {
            let report = scene.api().report(&step.id)?;
            let seconds = began.elapsed().as_secs_f64();
            ensure!(report.ledger.holds(), "{}: the ledger does not balance: {:?}", step.name, report.ledger);
            let accepted = report.ledger.accepted;
            step.ledger = report.ledger;
            step.done.push(Moment { seconds, done: accepted, memory: 0, cpu: crate::proc::Cpu::default() });
            match report.state.as_str() {
                "finished" => step.ended = Some(seconds),
                "running" => {}
                state => bail!("{} is {state}: {:?}", step.name, report.rest),
            }
        }
        Ok(self.steps.iter().map(|step| step.ledger.accepted).sum())
    }

    fn look_at_sink(&mut self, sink: &mut SinkProcess, seconds: f64) -> anyhow::Result<()> {
        let counts = sink.report()?.counts;
        let refused = counts.refused_4xx + counts.refused_5xx + counts.throttled;
        self.sink.push(SinkLook { seconds, accepted: counts.accepted, refused });
        Ok(())
    }

    /// What was seen so far: figures, lines, ledgers and the table of the steps.
    pub fn tell(&self, findings: &Findings) {
        let mut rows = vec![cells(["step", "contacts", "asked/s", "reached/s", "start", "end", "late s"])];
        for step in &self.steps {
            let number = |x: Option<f64>, digits: usize| x.map_or("–".to_owned(), |x| format!("{x:.digits$}"));
            let late = step.ended.zip(step.planned_end).map(|(ended, planned)| ended - planned);
            let reached = step.per_second();
            reached.iter().for_each(|rate| findings.sample(&RATE, *rate));
            late.iter().for_each(|late| findings.sample(&LATE, late.max(0.0)));
            if let (Some(reached), Some(asked)) = (reached, step.asked()) {
                findings.sample(&RATE_SHARE, reached / asked);
            }
            findings.ledger(&step.name, &step.ledger);
            findings.line(&moments::RATE, &step.name, &moments::rates(&step.done));
            rows.push(cells([
                &step.name,
                &grouped(step.contacts as f64),
                &number(step.asked(), 0),
                &number(reached, 0),
                &number(step.started, 1),
                &number(step.ended, 1),
                &number(late, 1),
            ]));
        }
        findings.table("Steps, in seconds from the first start", rows);
        let memory = moments::memory(&self.all);
        findings.line(&moments::MEMORY, "engine", &memory);
        findings.line(&moments::CORES, "engine", &moments::cores(&self.all));
        moments::growth(&memory).iter().for_each(|growth| findings.sample(&MEMORY_GROWTH, *growth));
        findings.line(&AT_THE_SINK, "accepted", &self.at_the_sink(|look| look.accepted));
        findings.line(&AT_THE_SINK, "refused", &self.at_the_sink(|look| look.refused));
    }

    fn at_the_sink(&self, count: fn(&SinkLook) -> u64) -> Vec<(f64, f64)> {
        let rate = |pair: &[SinkLook]| {
            let [from, to] = pair else { return None };
            let per_second = (count(to) - count(from)) as f64 / (to.seconds - from.seconds).max(1e-9);
            Some((to.seconds, per_second))
        };
        self.sink.windows(2).filter_map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Step {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn steps_follow_each_other_unless_they_say_when() {
        let mut clock = Clock::default();
        for text in [
            "name = \"a\"\nper_second = 100\nfor_seconds = 10",
            "name = \"b\"\nper_second = 50\ncontacts = 100",
            "name = \"c\"\nat_seconds = 3\ncontacts = 7",
            "name = \"d\"\ncontacts = 7",
        ] {
            let step = step(text);
            clock.plan(&step, "1".to_owned(), step.audience().unwrap());
        }
        let plans: Vec<_> = clock.steps.iter().map(|s| (s.planned_start, s.planned_end)).collect();
        assert_eq!(plans, [(0.0, Some(10.0)), (10.0, Some(12.0)), (3.0, None), (3.0, None)]);
        assert_eq!(clock.steps[1].asked(), Some(50.0));
    }

    #[test]
    fn a_steps_campaign_has_its_rate() {
        let limited = campaign(&step("name = \"a\"\nper_second = 100\nfor_seconds = 10"), "load0", true).unwrap();
        assert_eq!(limited["limits"]["messages_per_second"], 100);
        let fast = campaign(&step("name = \"a\"\ncontacts = 10"), "load0", false).unwrap();
        assert!(fast.get("limits").is_none() && fast["message"]["html"].is_string(), "{fast}");
    }
}
