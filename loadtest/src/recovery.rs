//! The driver `recovery`: a large run that is killed in its middle, and how long the engine takes to be ready again.
//!
//! Owns the engine's processes, one after another. Invariants that are checked: 1. after every restart the ledger balances
//! and nothing that was accepted is forgotten; 2. the run goes on by itself and ends; 3. in the end everybody is accepted,
//! rejected, skipped or unknown; 4. under a memory limit, if there is one, it recovers and ends as well.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::api::{Ledger, Report};
use crate::base::{Base, Columns};
use crate::confine::Confined;
use crate::findings::{Axes, Better, Findings, JudgedBy, Measure, Scale};
use crate::message::reference_campaign;
use crate::moments::{self, Moments};
use crate::options::RunOptions;
use crate::proc::{MachineWatch, MemoryWatch, PeakMemory};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::{Scene, everybody};
use crate::server::{Connectors, find_binary};
use crate::text::{bar, cells, grouped, mebibytes};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time for the engine to recover.
const READY: Duration = Duration::from_secs(120);
/// Time without any contact done after which the run is given up.
const STANDSTILL: Duration = Duration::from_secs(90);

#[derive(Args, Clone, Debug, Serialize)]
pub struct RecoveryOptions {
    /// Contacts of the run
    #[arg(long, default_value_t = 10_000_000)]
    pub contacts: u64,
    /// Kills, evenly over the run
    #[arg(long, default_value_t = 3)]
    pub kills: u64,
    /// After one more kill the run must end within this much memory, mapped files included, MiB; 0 leaves it out (needs root)
    #[arg(long, default_value_t = 0, value_name = "MIB")]
    pub memory_limit: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// One kill.
#[derive(Clone, Debug, Serialize)]
pub struct Kill {
    /// Accepted, as the report said just before.
    pub accepted: u64,
    /// Accepted, as the report said just after.
    pub kept: u64,
    pub unknown: u64,
    pub recovery_seconds: f64,
    /// Peak of the process that was killed.
    pub memory: PeakMemory,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct RecoveryResult {
    pub kills: Vec<Kill>,
    pub ledger: Ledger,
    /// Of the process that ended the run.
    pub memory: PeakMemory,
    pub seconds: f64,
    /// The kill after which there was a memory limit, and the most that was charged to it, bytes.
    pub limited: Option<(Kill, u64)>,
}

const RECOVERY: Measure = Measure {
    judged_by: JudgedBy::Worst,
    ..Measure::new("recovery", "s", Better::Lower, "from the start of the process until it is ready, one a kill")
};
const MEMORY: Measure = Measure {
    judged_by: JudgedBy::Worst,
    ..Measure::new("memory", "MiB", Better::Lower, "peak of RssAnon + RssShmem, one a process")
};
const UNACCOUNTED: Measure =
    Measure::promise("unaccounted", "contacts", Better::Lower, "of the audience and in no final set");
const FORGOTTEN: Measure =
    Measure::promise("forgotten", "contacts", Better::Lower, "shown as accepted before a kill, and not after it");
const UNKNOWN: Measure =
    Measure::promise("unknown_per_kill", "contacts", Better::Lower, "that a kill added to those told as unknown");
const RATE: Measure =
    Measure::new("rate", "contacts/s", Better::Higher, "contacts a second over the whole run, recoveries included");
const LIMITED_RECOVERY: Measure =
    Measure::new("limited_recovery", "s", Better::Lower, "the recovery within the memory limit, mapped files included");
const LIMITED_PEAK: Measure = Measure::promise(
    "limited_peak",
    "MiB",
    Better::Neither,
    "the most memory that the run had within its limit, mapped files included; it is found only if the run ends there",
);
const PER_KILL: Axes = Axes { title: "Recovery per kill", x: "kill", y: "seconds", scale: Scale::Linear };

impl Drive for RecoveryOptions {
    const MEASURES: &'static [Measure] =
        &[RECOVERY, MEMORY, UNACCOUNTED, FORGOTTEN, UNKNOWN, RATE, LIMITED_RECOVERY, LIMITED_PEAK];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        ensure!(self.kills > 0 && self.contacts > self.kills, "a kill at least, and more contacts than kills");
        let engine = find_binary(self.run.engine.as_deref())?;
        let watch = MachineWatch::start(&[]);
        let connectors = Connectors { null: true, ..Connectors::default() };
        let scene = Scene::start(&engine, self.run.folder.as_deref(), &connectors)?;
        scene.declare(Columns::Full)?;
        let (contacts, seed) = (self.contacts, self.run.seed);
        let base = Base { contacts, seed, prefix: "c", batch: "base", columns: Columns::Full };
        let file = scene.generate(&base)?;
        let mut ended = scene.import(&file, contacts)?.cpu.total();
        std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        // A fresh process, so that the import's memory is not counted as the run's.
        let mut scene = scene.restart()?;
        let id = scene.api().create_campaign(&reference_campaign("recovery", "null", &everybody())?)?;
        let (began, mut result) = (Instant::now(), RecoveryResult::default());
        scene.api().act(&id, "start")?;
        let confined = self.confined(findings);
        let parts = self.kills + 1 + u64::from(confined.is_some());
        for kill in 1..=self.kills {
            let (after, of, cpu) = killed(scene, &id, contacts * kill / parts, began, findings, None)?;
            scene = after;
            ended += cpu;
            findings.sample(&RECOVERY, of.recovery_seconds);
            findings.sample(&MEMORY, mib(of.memory.own));
            findings.sample(&FORGOTTEN, of.accepted.saturating_sub(of.kept) as f64);
            let before = result.kills.last().map_or(0, |last| last.unknown);
            findings.sample(&UNKNOWN, of.unknown.saturating_sub(before) as f64);
            result.kills.push(of);
        }
        if let Some(confined) = &confined {
            let target = contacts * (self.kills + 1) / parts;
            let (after, of, cpu) = killed(scene, &id, target, began, findings, Some(confined))
                .with_context(|| format!("within a memory limit of {} MiB", self.memory_limit))?;
            scene = after;
            ended += cpu;
            findings.sample(&LIMITED_RECOVERY, of.recovery_seconds);
            findings.sample(&FORGOTTEN, of.accepted.saturating_sub(of.kept) as f64);
            result.limited = Some((of, 0));
        }
        let memory = MemoryWatch::start(scene.server.pid());
        let ran = life(&scene, &id, None, began, findings);
        let report = ran.with_context(|| match confined {
            Some(_) => format!("the rest of the run, within a memory limit of {} MiB", self.memory_limit),
            None => "the rest of the run".to_owned(),
        })?;
        if let (Some(confined), Some(limited)) = (&confined, &mut result.limited) {
            limited.1 = confined.peak().unwrap_or(0);
            findings.sample(&LIMITED_PEAK, mib(limited.1));
        }
        result.memory = memory.finish();
        result.seconds = began.elapsed().as_secs_f64();
        result.ledger = report.ledger;
        ended += scene.cpu()?.total();
        findings.disturbance(watch.finish(ended));
        tell(findings, &result);
        findings.detail(&result);
        scene.server.terminate().context("ending the engine")
    }
}

impl RecoveryOptions {
    /// The memory limit, if one is asked for and can be had; else a remark says why not.
    fn confined(&self, findings: &Findings) -> Option<Confined> {
        if self.memory_limit == 0 {
            return None;
        }
        let confined = Confined::new(self.memory_limit);
        confined.inspect_err(|error| findings.remark(format!("no memory limit: {error:#}"))).ok()
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Lets the run come to `target`, kills the engine and starts it again; the new scene, the kill, and the CPU seconds of the
/// one that was killed. The next process is born within `confined`, if there is one.
fn killed(
    scene: Scene,
    id: &str,
    target: u64,
    began: Instant,
    findings: &Findings,
    confined: Option<&Confined>,
) -> anyhow::Result<(Scene, Kill, f64)> {
    let memory = MemoryWatch::start(scene.server.pid());
    let before = life(&scene, id, Some(target), began, findings)?;
    let memory = memory.finish();
    let cpu = scene.cpu()?.total();
    let Scene { server, plan, folder } = scene;
    server.kill()?;
    let started = match confined {
        Some(confined) => confined.start(|| plan.start(READY)),
        None => plan.start(READY),
    };
    let server = started.context("starting the engine after a kill")?;
    let recovery_seconds = server.recovery().as_secs_f64();
    let scene = Scene { server, plan, folder };
    let ledger = scene.api().report(id)?.ledger;
    ensure!(ledger.holds(), "the ledger does not balance after a kill: {ledger:?}");
    let kill = Kill {
        accepted: before.ledger.accepted,
        kept: ledger.accepted,
        unknown: ledger.unknown,
        recovery_seconds,
        memory,
    };
    Ok((scene, kill, cpu))
}

/// Watches the run until so many are accepted, or until it is finished; the last report.
fn life(scene: &Scene, id: &str, target: Option<u64>, began: Instant, findings: &Findings) -> anyhow::Result<Report> {
    let mut looks = Moments::new(began, scene.server.pid());
    let (mut moved_at, mut last) = (Instant::now(), u64::MAX);
    let progress = bar(scene.api().report(id)?.ledger.audience, "run");
    let report = loop {
        let report = scene.api().report(id)?;
        let done = report.ledger.accepted;
        looks.look(done);
        progress.set_position(done);
        match (report.state.as_str(), target) {
            ("finished", None) => break report,
            ("finished", Some(_)) => bail!("the run was over before its kill: take more contacts"),
            ("running", Some(target)) if done >= target => break report,
            ("running", _) => {}
            (state, _) => bail!("the run is {state}: {:?}", report.rest),
        }
        if done != last {
            (moved_at, last) = (Instant::now(), done);
        }
        ensure!(moved_at.elapsed() < STANDSTILL, "the run stands still: {:?}, {:?}", report.ledger, report.rest);
        std::thread::sleep(LOOK_EVERY);
    };
    progress.finish_and_clear();
    let looks = looks.finish(report.ledger.accepted);
    let name = format!("process {}", scene.server.pid());
    findings.line(&moments::RATE, &name, &moments::rates(&looks));
    findings.line(&moments::MEMORY, &name, &moments::memory(&looks));
    Ok(report)
}

fn tell(findings: &Findings, result: &RecoveryResult) {
    let ledger = &result.ledger;
    let accounted = ledger.accepted + ledger.rejected + ledger.skipped + ledger.unknown;
    findings.sample(&UNACCOUNTED, ledger.audience.saturating_sub(accounted) as f64);
    findings.sample(&MEMORY, mib(result.memory.own));
    findings.sample(&RATE, ledger.audience as f64 / result.seconds.max(1e-9));
    findings.ledger("recovery", ledger);
    let mut rows =
        vec![cells(["kill", "accepted before", "after", "unknown", "ready again after", "peak memory", "RssFile"])];
    let limited = result.limited.iter().map(|(kill, _)| kill);
    rows.extend(result.kills.iter().chain(limited).enumerate().map(|(at, kill)| {
        let name = if at < result.kills.len() { (at + 1).to_string() } else { "then limited".to_owned() };
        cells([
            &name,
            &grouped(kill.accepted as f64),
            &grouped(kill.kept as f64),
            &grouped(kill.unknown as f64),
            &format!("{:.2} s", kill.recovery_seconds),
            &mebibytes(kill.memory.own),
            &mebibytes(kill.memory.file),
        ])
    }));
    findings.table("Kills in the middle of one run, engine alone", rows);
    let seconds: Vec<f64> = result.kills.iter().map(|kill| kill.recovery_seconds).collect();
    findings.repetitions(&PER_KILL, "until ready", &seconds);
    if let Some((kill, peak)) = &result.limited {
        findings.remark(format!(
            "within the memory limit: ready after {:.2} s, ended; at most {} were charged, mapped files included",
            kill.recovery_seconds,
            mebibytes(*peak)
        ));
    }
    findings.remark(format!(
        "{} contacts in {:.0} s; of the process that ended the run: peak RssAnon + RssShmem {}, RssFile {}",
        grouped(ledger.audience as f64),
        result.seconds,
        mebibytes(result.memory.own),
        mebibytes(result.memory.file)
    ));
}
