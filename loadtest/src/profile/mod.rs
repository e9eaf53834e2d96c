//! `loadtest profile`: where the CPU time of a message goes, thread by thread and stage by stage.
//!
//! Owns the scene and the sampler. The threads' shares are the kernel's own counts (`/proc/PID/task`); the stages are samples of
//! Linux's `perf` on the processor's clock (see `stages`). Invariant: stages and threads are shares of one total, the CPU time
//! of the engine over the campaign.

mod stages;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::stages::{Counted, Stage};
use crate::base::{Base, Columns};
use crate::findings::{Better, Findings, Measure};
use crate::message::reference_campaign;
use crate::options::RunOptions;
use crate::proc::{MachineWatch, ended_children_cpu_seconds};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::{CampaignRun, Scene, everybody};
use crate::server::{Connectors, find_binary};
use crate::sink::SinkOptions;
use crate::sink::process::SinkProcess;
use crate::text::{cells, note};

/// Samples a second and processor; a prime, so as not to beat with the engine's timers.
const SAMPLES_PER_SECOND: u32 = 1_999;
/// The start of a campaign is not sampled.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Args, Clone, Debug, Serialize)]
pub struct ProfileOptions {
    /// Contacts of the campaign
    #[arg(long, default_value_t = 200_000)]
    pub contacts: u64,
    /// Where the campaign goes
    #[arg(long, value_enum, default_value_t = Target::Relay)]
    pub target: Target,
    /// Connections to the relay
    #[arg(long, default_value_t = 50)]
    pub connections: u64,
    /// Use CHUNKING
    #[arg(long)]
    pub chunking: bool,
    /// Seconds to sample; the campaign should take longer
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Target {
    /// The harness's SMTP sink
    Relay,
    /// The connector that keeps nothing
    Null,
}

/// A part of the CPU time.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    pub name: String,
    pub share: f64,
    pub microseconds: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct ProfileResult {
    pub cpu_microseconds: f64,
    pub per_second: f64,
    pub threads: Vec<Part>,
    /// Empty where `perf` cannot be used.
    pub stages: Vec<StageParts>,
    pub samples: u64,
}

/// A stage of a message's way, and its parts.
#[derive(Clone, Debug, Serialize)]
pub struct StageParts {
    pub whole: Part,
    pub parts: Vec<Part>,
}

const CPU: Measure = Measure::new("cpu", "µs/message", Better::Lower, "CPU of the engine's process per message");
const RATE: Measure = Measure::new("rate", "messages/s", Better::Higher, "messages a second, while it was sampled");

const RENDER: Measure = Measure::new("render", "µs/message", Better::Lower, "CPU for rendering");
const SPLICE: Measure = Measure::new("splice", "µs/message", Better::Lower, "CPU for splicing and copying");
const JOURNAL: Measure = Measure::new("journal", "µs/message", Better::Lower, "CPU for the journal");
const SOCKET: Measure = Measure::new("socket", "µs/message", Better::Lower, "CPU of the kernel for the socket");
const HOPS: Measure = Measure::new("hops", "µs/message", Better::Lower, "CPU for hops between actors and threads");
/// Stages that are figures, too.
const FIGURES: [(Stage, &Measure); 5] = [
    (Stage::Render, &RENDER),
    (Stage::Splice, &SPLICE),
    (Stage::Journal, &JOURNAL),
    (Stage::Socket, &SOCKET),
    (Stage::Hops, &HOPS),
];

impl Drive for ProfileOptions {
    const MEASURES: &'static [Measure] = &[CPU, RATE, RENDER, SPLICE, JOURNAL, SOCKET, HOPS];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let options = self;
        let engine = find_binary(options.run.engine.as_deref())?;
        let sink = SinkProcess::start(&SinkOptions { chunking: options.chunking, ..SinkOptions::default() })?;
        let connectors = Connectors {
            relay_port: Some(sink.address.port()),
            connections: options.connections,
            relay_extra: format!("chunking = {}\n", options.chunking),
            null: true,
            ..Connectors::default()
        };
        let scene = Scene::start(&engine, options.run.folder.as_deref(), &connectors)?;
        scene.declare(Columns::Full)?;
        let (contacts, seed) = (options.contacts, options.run.seed);
        let base = Base { contacts, seed, prefix: "c", batch: "base", columns: Columns::Full };
        scene.import(&scene.generate(&base)?, contacts)?;
        let result = measure(options, &scene, &[scene.server.pid(), sink.pid()], findings)?;
        findings.sample(&CPU, result.cpu_microseconds);
        findings.sample(&RATE, result.per_second);
        tell(options, findings, &result);
        findings.detail(&result);
        scene.server.terminate().context("ending the engine")
    }
}

/// `own` are the processes that belong to the measurement.
fn measure(options: &ProfileOptions, scene: &Scene, own: &[u32], findings: &Findings) -> anyhow::Result<ProfileResult> {
    let connector = if options.target == Target::Relay { "relay" } else { "null" };
    let spec = reference_campaign("profile", connector, &everybody())?;
    let pid = scene.server.pid();
    let before = thread_ticks(pid)?;
    let samples = scene.folder.path().join("perf.data");
    let (watch, ended) = (MachineWatch::start(own), ended_children_cpu_seconds());
    let (run, sampled) = std::thread::scope(|scope| -> anyhow::Result<(CampaignRun, anyhow::Result<()>)> {
        let sampler = scope.spawn(|| {
            std::thread::sleep(WARM_UP);
            sample(pid, options.seconds, &samples)
        });
        let run = scene.run_campaign(&spec, options.contacts, "profiling")?;
        let sampled = sampler.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the sampler panicked")));
        Ok((run, sampled))
    })?;
    // The sampler is no stranger, and reading its samples comes later.
    findings.disturbance(watch.finish(ended_children_cpu_seconds() - ended));
    let after = thread_ticks(pid)?;
    let total = run.cpu_microseconds();
    let ticks = after.into_iter().map(|(name, ticks)| {
        let since = ticks.saturating_sub(before.get(&name).copied().unwrap_or(0));
        (name, since)
    });
    let threads = parts(ticks.collect(), total);
    let counted = match sampled.and_then(|()| stages_of(&samples)) {
        Ok(counted) => counted,
        Err(error) => {
            note(&format!("no stages: {error:#}; they need Linux's perf, and the right to use it"));
            Counted::new()
        }
    };
    let per_second = run.per_second();
    let (stages, samples) = (staged(&counted, total), counted.values().sum());
    Ok(ProfileResult { cpu_microseconds: total, per_second, threads, stages, samples })
}

/// The stages in the order of a message's way, each with its parts; none without samples.
fn staged(counted: &Counted, total: f64) -> Vec<StageParts> {
    let all = counted.values().sum::<u64>();
    if all == 0 {
        return Vec::new();
    }
    let one = |stage: Stage| {
        let of = counted.iter().filter(|((at, _), _)| *at == stage);
        let of: BTreeMap<String, u64> = of.map(|((_, part), count)| ((*part).to_owned(), *count)).collect();
        let share = of.values().sum::<u64>() as f64 / all as f64;
        let whole = Part { name: stage.name().to_owned(), share, microseconds: share * total };
        let parts = parts(of, whole.microseconds).into_iter().map(|part| Part { share: part.share * share, ..part });
        (share > 0.0 || stage.is_asked_for()).then(|| StageParts { whole, parts: parts.collect() })
    };
    Stage::ALL.into_iter().filter_map(one).collect()
}

/// Shares of a total, the largest first.
fn parts(counts: BTreeMap<String, u64>, total: f64) -> Vec<Part> {
    let all = counts.values().sum::<u64>().max(1) as f64;
    let mut parts: Vec<Part> = counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| {
            let share = count as f64 / all;
            Part { name, share, microseconds: share * total }
        })
        .collect();
    parts.sort_by(|a, b| b.share.total_cmp(&a.share));
    parts
}

/// CPU ticks by kind of thread.
fn thread_ticks(pid: u32) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut ticks = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the engine's threads")? {
        let folder = task.context("a thread")?.path();
        // A thread may end between the look and the reading.
        let (Ok(name), Ok(stat)) =
            (std::fs::read_to_string(folder.join("comm")), std::fs::read_to_string(folder.join("stat")))
        else {
            continue;
        };
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11).take(2);
        let used: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        *ticks.entry(thread_kind(name.trim()).to_owned()).or_default() += used;
    }
    Ok(ticks)
}

fn thread_kind(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("lanes-") => "lanes",
        "journal" => "journal",
        _ if name.starts_with("actix-rt") => "actors, API workers",
        _ if name.starts_with("tokio-") => "blocking pool",
        _ => "others",
    }
}

fn sample(pid: u32, seconds: u64, into: &Path) -> anyhow::Result<()> {
    let out = Command::new("perf")
        .args(["record", "-g", "-e", "cpu-clock", "-F", &SAMPLES_PER_SECOND.to_string(), "-p", &pid.to_string(), "-o"])
        .arg(into)
        .args(["--", "sleep", &seconds.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("starting perf")?;
    ensure!(out.status.success(), "perf ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// Samples by stage.
fn stages_of(samples: &Path) -> anyhow::Result<Counted> {
    let mut child = Command::new("perf")
        .args(["script", "-F", "comm,ip,sym,dso", "-i"])
        .arg(samples)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("reading the samples")?;
    let out = BufReader::new(child.stdout.take().context("perf's output")?);
    let stages = stages::count(out.lines().map_while(Result::ok));
    ensure!(child.wait().context("perf's end")?.success(), "perf could not read its samples");
    Ok(stages)
}

fn tell(options: &ProfileOptions, findings: &Findings, result: &ProfileResult) {
    let row = |name: &str, part: &Part| {
        cells([name, &format!("{:.2}", part.microseconds), &format!("{:.1} %", part.share * 100.0)])
    };
    let head = |what: &str| vec![cells([what, "µs/message", "share"])];
    let threads = result.threads.iter().map(|part| row(&part.name, part));
    findings.table("CPU by thread", head("threads").into_iter().chain(threads).collect());
    if !result.stages.is_empty() {
        let mut rows = head("stage");
        for stage in &result.stages {
            rows.push(row(&stage.whole.name, &stage.whole));
            // A stage of one part needs no list of them.
            let parts = stage.parts.iter().filter(|_| stage.parts.len() > 1);
            rows.extend(parts.map(|part| row(&format!("  – {}", part.name), part)));
        }
        let all = Part { name: "all".to_owned(), share: 1.0, microseconds: result.cpu_microseconds };
        rows.push(row(&all.name, &all));
        findings.table("CPU by stage, in the order of a message's way", rows);
    }
    for (stage, measure) in FIGURES {
        if let Some(found) = result.stages.iter().find(|of| of.whole.name == stage.name()) {
            findings.sample(measure, found.whole.microseconds);
        }
    }
    let target = match options.target {
        Target::Relay if options.chunking => "to a sink, with CHUNKING",
        Target::Relay => "to a sink",
        Target::Null => "engine alone",
    };
    findings.remark(format!(
        "{} contacts, {target}: {:.1} µs of CPU a message, {:.0} messages/s; {} samples",
        options.contacts, result.cpu_microseconds, result.per_second, result.samples
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ProfileOptions {
        let run = RunOptions::default();
        ProfileOptions { contacts: 1, target: Target::Relay, connections: 1, chunking: false, seconds: 1, run }
    }

    #[test]
    fn parts_are_shares_of_the_total() {
        let counts = [("a", 1), ("b", 3), ("none", 0)].map(|(name, n)| (name.to_owned(), n));
        let parts = parts(counts.into_iter().collect(), 20.0);
        let seen: Vec<_> = parts.iter().map(|p| (p.name.as_str(), p.share, p.microseconds)).collect();
        assert_eq!(seen, [("b", 0.75, 15.0), ("a", 0.25, 5.0)]);
    }

    #[test]
    fn the_table_shows_the_stages_that_were_asked_for_with_their_parts() {
        let counted = Counted::from([
            ((Stage::Socket, "write"), 4),
            ((Stage::Socket, "read"), 2),
            ((Stage::Render, "tokens"), 1),
            ((Stage::Other, "clock"), 1),
        ]);
        let result =
            ProfileResult { cpu_microseconds: 16.0, stages: staged(&counted, 16.0), ..ProfileResult::default() };
        let findings = Findings::default();
        tell(&options(), &findings, &result);
        let found = findings.so_far();
        let table = crate::text::table(&found.tables[1].rows);
        for wanted in ["render:", "splice:", "journal:", "socket:", "actor hops:"] {
            assert!(table.lines().any(|line| line.starts_with(wanted)), "{wanted} in\n{table}");
        }
        assert!(!table.contains("store:"), "nothing was seen of it and nobody asked: {table}");
        let line = |name: &str| {
            table.lines().find(|line| line.starts_with(name)).map(|line| line.split_whitespace().collect::<Vec<_>>())
        };
        assert!(line("socket:").is_some_and(|words| words.ends_with(&["12.00", "75.0", "%"])), "{table}");
        assert!(line("  – write").is_some_and(|words| words.ends_with(&["8.00", "50.0", "%"])), "{table}");
        assert!(!table.contains("– tokens"), "one part is the stage: {table}");
        assert!(line("all").is_some_and(|words| words.ends_with(&["16.00", "100.0", "%"])), "{table}");
        let figures: Vec<(&str, f64)> = found.figures.iter().map(|f| (f.name.as_str(), f.judged())).collect();
        assert_eq!(figures, [("render", 2.0), ("splice", 0.0), ("journal", 0.0), ("socket", 12.0), ("hops", 0.0)]);
    }

    #[test]
    fn threads_are_told_by_their_names() {
        assert_eq!(thread_kind("lanes-7"), "lanes");
        assert_eq!(thread_kind("journal"), "journal");
        assert_eq!(thread_kind("actix-rt|system"), "actors, API workers");
        assert_eq!(thread_kind("estafette"), "others");
    }
}
