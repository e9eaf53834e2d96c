//! `loadtest profile`: where the CPU time of a message goes, thread by thread and stage by stage.
//!
//! Owns the scene and the sampler. The threads' shares are the kernel's own counts (`/proc/PID/task`); the stages are samples of
//! Linux's `perf` on the processor's clock, told by the system call that the kernel was in, else by the module that the
//! program was in. Invariant: stages and threads are shares of one total, the CPU time of the engine over the campaign, and
//! what no rule knows is shown as such.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::base::{Base, Columns};
use crate::findings::{Better, Findings, Measure};
use crate::message::reference_campaign;
use crate::options::RunOptions;
use crate::proc::MachineWatch;
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
    pub stages: Vec<Part>,
    pub samples: u64,
}

const CPU: Measure = Measure::new("cpu", "µs/message", Better::Lower, "CPU of the engine's process per message");
const RATE: Measure = Measure::new("rate", "messages/s", Better::Higher, "messages a second, while it was sampled");

impl Drive for ProfileOptions {
    const MEASURES: &'static [Measure] = &[CPU, RATE];

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
        let watch = MachineWatch::start(&[scene.server.pid(), sink.pid()]);
        let result = measure(options, &scene)?;
        findings.disturbance(watch.finish(0.0));
        findings.sample(&CPU, result.cpu_microseconds);
        findings.sample(&RATE, result.per_second);
        tell(options, findings, &result);
        findings.detail(&result);
        scene.server.terminate().context("ending the engine")
    }
}

fn measure(options: &ProfileOptions, scene: &Scene) -> anyhow::Result<ProfileResult> {
    let connector = if options.target == Target::Relay { "relay" } else { "null" };
    let spec = reference_campaign("profile", connector, &everybody())?;
    let pid = scene.server.pid();
    let before = thread_ticks(pid)?;
    let samples = scene.folder.path().join("perf.data");
    let (run, sampled) = std::thread::scope(|scope| -> anyhow::Result<(CampaignRun, anyhow::Result<()>)> {
        let sampler = scope.spawn(|| {
            std::thread::sleep(WARM_UP);
            sample(pid, options.seconds, &samples)
        });
        let run = scene.run_campaign(&spec, options.contacts, "profiling")?;
        let sampled = sampler.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the sampler panicked")));
        Ok((run, sampled))
    })?;
    let after = thread_ticks(pid)?;
    let total = run.cpu_microseconds();
    let ticks = after.into_iter().map(|(name, ticks)| {
        let since = ticks.saturating_sub(before.get(&name).copied().unwrap_or(0));
        (name, since)
    });
    let threads = parts(ticks.collect(), total);
    let stages = match sampled.and_then(|()| stages_of(&samples)) {
        Ok(stages) => stages,
        Err(error) => {
            note(&format!("no stages: {error:#}; they need Linux's perf, and the right to use it"));
            BTreeMap::new()
        }
    };
    let samples = stages.values().sum();
    let per_second = run.per_second();
    Ok(ProfileResult { cpu_microseconds: total, per_second, threads, stages: parts(stages, total), samples })
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
fn stages_of(samples: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut child = Command::new("perf")
        .args(["script", "-F", "comm,ip,sym,dso", "-i"])
        .arg(samples)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("reading the samples")?;
    let out = BufReader::new(child.stdout.take().context("perf's output")?);
    let stages = count_stages(out.lines().map_while(Result::ok));
    ensure!(child.wait().context("perf's end")?.success(), "perf could not read its samples");
    Ok(stages)
}

fn count_stages(lines: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let mut stages = BTreeMap::new();
    let (mut thread, mut frames): (String, Vec<(String, bool)>) = (String::new(), Vec::new());
    for line in lines.chain([String::new()]) {
        if line.trim().is_empty() {
            if !frames.is_empty() {
                *stages.entry(stage(&thread, &frames).to_owned()).or_default() += 1;
            }
            frames.clear();
        } else if !line.starts_with([' ', '\t']) {
            line.trim().clone_into(&mut thread);
        } else if let Some((_, rest)) = line.trim().split_once(' ') {
            let (symbol, place) = rest.rsplit_once(" (").unwrap_or((rest, ""));
            frames.push((symbol.to_owned(), place.contains("kernel")));
        }
    }
    stages
}

/// System calls by a part of the name of a function that they pass through.
const CALLS: [(&str, &str); 12] = [
    ("writev", "socket: write"),
    ("sys_sendto", "socket: write"),
    ("sys_recvfrom", "socket: read"),
    ("epoll_wait", "socket: wait (epoll)"),
    ("sys_epoll", "socket: wait (epoll)"),
    ("fdatasync", "journal: fdatasync"),
    ("pwrite", "journal: write"),
    ("futex", "threads: wake and wait"),
    ("sys_write", "threads: wake and wait"),
    ("sched_yield", "threads: wake and wait"),
    ("page_fault", "page faults"),
    ("sysvec", "interrupts"),
];

/// Stages of the program by a part of the name of the function that was running; the first that holds counts.
const MODULES: [(&str, &str); 27] = [
    ("memmove", "copies"),
    ("memset", "copies"),
    ("malloc", "allocator"),
    ("_int_free", "allocator"),
    ("cfree", "allocator"),
    ("realloc", "allocator"),
    ("rust_alloc", "allocator"),
    ("rdl_", "allocator"),
    ("content::tokens", "tokens"),
    ("blake3", "tokens"),
    ("minijinja", "render: template engine"),
    ("content::", "render: splice"),
    ("jiff", "render: splice"),
    ("channels::smtp::dkim", "DKIM"),
    ("mail_auth", "DKIM"),
    ("aws_lc", "cryptography"),
    ("rustls", "TLS"),
    ("channels::smtp", "session"),
    ("channels::", "limits, grants, null connector"),
    ("actors::", "actors and lanes"),
    ("ledger::", "ledger"),
    ("roaring", "ledger"),
    ("journal::", "journal: frames"),
    ("mdb_", "store"),
    ("contacts::", "store"),
    ("tokio", "runtime"),
    ("mio::", "runtime"),
];

/// The stage of one sample, leaf first.
fn stage(thread: &str, frames: &[(String, bool)]) -> &'static str {
    let Some((leaf, in_kernel)) = frames.first() else { return "unknown" };
    if *in_kernel {
        let passed = |part: &str| frames.iter().any(|(symbol, in_kernel)| *in_kernel && symbol.contains(part));
        return CALLS.iter().find(|(part, _)| passed(part)).map_or("kernel, other", |(_, stage)| stage);
    }
    match MODULES.iter().find(|(part, _)| leaf.contains(part)) {
        Some((_, stage)) => stage,
        None if leaf.contains("clock_gettime") || leaf.contains("Instant") => "clock",
        None if thread.starts_with("lanes-") => "library code in lanes",
        None => "library code elsewhere",
    }
}

fn tell(options: &ProfileOptions, findings: &Findings, result: &ProfileResult) {
    let rows = |head: &str, parts: &[Part]| {
        let mut rows = vec![cells([head, "µs/message", "share"])];
        for part in parts {
            let (micros, share) = (format!("{:.2}", part.microseconds), format!("{:.1} %", part.share * 100.0));
            rows.push(cells([&part.name, &micros, &share]));
        }
        rows
    };
    findings.table("CPU by thread", rows("threads", &result.threads));
    if !result.stages.is_empty() {
        findings.table("CPU by stage", rows("stages", &result.stages));
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

    const SCRIPT: &str = "lanes-0 \n\tffffffff81b69d34 _copy_from_iter ([kernel.kallsyms])\n\tffffffff816b7aac do_writev ([kernel.kallsyms])\n\
        \t           fde9d __GI___writev (/lib/libc.so.6)\n\nlanes-1 \n\t 14f8c2d <estafette::content::splice::BodySink as estafette::content::splice::Sink>::span (/x/estafette)\n\n\
        journal \n\t 1 core::fmt::write (/x/estafette)\n\nlanes-0 \n\t 1 minijinja::vm::eval (/x/estafette)\n\nlanes-0 \n\t 1 what (inlined) (/x/estafette)\n";

    #[test]
    fn samples_are_sorted_into_stages() {
        let stages = count_stages(SCRIPT.lines().map(str::to_owned));
        let expected = [
            ("library code elsewhere", 1),
            ("library code in lanes", 1),
            ("render: splice", 1),
            ("render: template engine", 1),
            ("socket: write", 1),
        ];
        let expected: BTreeMap<String, u64> = expected.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
        assert_eq!(stages, expected);
    }

    #[test]
    fn parts_are_shares_of_the_total() {
        let counts = [("a", 1), ("b", 3), ("none", 0)].map(|(name, n)| (name.to_owned(), n));
        let parts = parts(counts.into_iter().collect(), 20.0);
        let seen: Vec<_> = parts.iter().map(|p| (p.name.as_str(), p.share, p.microseconds)).collect();
        assert_eq!(seen, [("b", 0.75, 15.0), ("a", 0.25, 5.0)]);
    }

    #[test]
    fn threads_are_told_by_their_names() {
        assert_eq!(thread_kind("lanes-7"), "lanes");
        assert_eq!(thread_kind("journal"), "journal");
        assert_eq!(thread_kind("actix-rt|system"), "actors, API workers");
        assert_eq!(thread_kind("estafette"), "others");
    }
}
