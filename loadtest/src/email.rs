//! `loadtest email`: our rate and CPU per message beside `smtp-source`'s, to the same sink, in the same run, alternating.
//!
//! Owns the scene of the run. Invariants: 1. both rates are the sink's own, from its first to its last accepted message;
//! 2. the order changes from round to round, so that a slow phase of the machine hits both; 3. medians are of rounds.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::api::Api;
use crate::base::{Base, Columns};
use crate::client::ClientReport;
use crate::message::reference_campaign;
use crate::options::RunOptions;
use crate::peer::smtp_source;
use crate::proc::{self, MachineWatch, MemoryWatch, PeakMemory};
use crate::report::Report;
use crate::scene::{ImportRun, Scene, everybody};
use crate::server::{Connectors, find_binary};
use crate::sink::SinkOptions;
use crate::sink::process::SinkProcess;
use crate::text::{cells, grouped, mebibytes, median, note, say, table};

#[derive(Args, Clone, Debug, Serialize)]
pub struct EmailOptions {
    /// Contacts of the base, all of whom get the message in each round
    #[arg(long, default_value_t = 200_000)]
    pub contacts: u64,
    /// Rounds of each sender; the medians count
    #[arg(long, default_value_t = 3)]
    pub rounds: u64,
    /// Connections of each sender
    #[arg(long, default_value_t = 50)]
    pub connections: u64,
    /// Bytes of smtp-source's message
    #[arg(long, default_value_t = 10_240)]
    pub peer_bytes: u64,
    /// Leave out the rounds over a connector that uses CHUNKING
    #[arg(long)]
    pub without_chunking: bool,
    /// Seconds to wait for a quiet machine before the rounds
    #[arg(long, default_value_t = 10)]
    pub quiet_seconds: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// One sender, one round.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Messages a second by the sink's clock, or from start to end for the null connector.
    pub per_second: f64,
    pub cpu_microseconds: f64,
    pub user_microseconds: f64,
    pub system_microseconds: f64,
    /// From the start to the sender's end, its preparation included.
    pub seconds: f64,
    pub sink_cpu_microseconds: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct EmailResult {
    pub engine: Vec<Round>,
    /// Over a connector with `chunking = true`, to a sink that offers it: four messages a round trip, as many unknown at a kill.
    pub chunked: Vec<Round>,
    pub peer: Vec<Round>,
    pub null: Vec<Round>,
    pub ceiling: Option<ClientReport>,
    pub peer_command: String,
    pub memory: PeakMemory,
    pub import: Option<ImportRun>,
    /// Median over median.
    pub ratio: f64,
    /// Of the rounds with CHUNKING.
    pub chunked_ratio: f64,
    /// What the journal took for the rounds to the sink.
    pub journal: JournalUse,
    /// The engine's CPU per message with the null connector, of smtp-source's.
    pub null_cpu_share: f64,
}

/// Writes and syncs of the journal for so many messages.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct JournalUse {
    pub messages: u64,
    pub bytes: f64,
    pub syncs: f64,
}

impl JournalUse {
    /// What it took so far, by the engine's own figures.
    pub fn now(api: &Api) -> anyhow::Result<JournalUse> {
        let metrics = api.metrics()?;
        let value = |name: &str| {
            let line = metrics.lines().find(|line| line.split([' ', '{']).next() == Some(name));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
        };
        let (bytes, syncs) = (value("estafette_journal_bytes_total"), value("estafette_journal_fsync_seconds_count"));
        Ok(JournalUse { messages: 0, bytes, syncs })
    }

    /// Adds what came since `before`, for so many messages.
    pub fn add(&mut self, before: JournalUse, now: JournalUse, messages: u64) {
        self.messages += messages;
        self.bytes += now.bytes - before.bytes;
        self.syncs += now.syncs - before.syncs;
    }

    /// In words, for a million messages.
    pub fn line(&self) -> String {
        let of_million = 1e6 / self.messages.max(1) as f64;
        let mebibytes = self.bytes * of_million / f64::from(1 << 20);
        format!("journal for a million messages: {mebibytes:.1} MiB, {} fdatasync", grouped(self.syncs * of_million))
    }
}

fn rates(rounds: &[Round]) -> f64 {
    median(&rounds.iter().map(|r| r.per_second).collect::<Vec<_>>())
}

fn cpus(rounds: &[Round]) -> f64 {
    median(&rounds.iter().map(|r| r.cpu_microseconds).collect::<Vec<_>>())
}

/// Runs everything and prints the table.
pub fn run(options: &EmailOptions) -> anyhow::Result<()> {
    let engine = find_binary(options.run.engine.as_deref())?;
    let mut sink = SinkProcess::start(&SinkOptions::default())?;
    let mut chunked = SinkProcess::start(&SinkOptions { chunking: true, ..SinkOptions::default() })?;
    let connectors = Connectors {
        relay_extra: format!(
            "\n[[connectors]]\nname = \"chunked\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
             connections_max = {}\nchunking = true\n",
            chunked.address.port(),
            options.connections
        ),
        relay_port: Some(sink.address.port()),
        connections: options.connections,
        null: true,
        ..Connectors::default()
    };
    let scene = Scene::start(&engine, options.run.folder.as_deref(), &connectors)?;
    scene.declare(Columns::Full)?;
    let base =
        Base { contacts: options.contacts, seed: options.run.seed, prefix: "c", batch: "base", columns: Columns::Full };
    let mut result = EmailResult {
        import: Some(scene.import(&scene.generate(&base)?, options.contacts)?),
        ..EmailResult::default()
    };

    let before = proc::wait_until_quiet(Duration::from_secs(options.quiet_seconds));
    if before.is_busy() {
        note(&format!(
            "the machine is busy with something else ({:.2} cores): compare ratios only",
            before.foreign_cores
        ));
    }
    let watch = MachineWatch::start(&[scene.server.pid(), sink.pid(), chunked.pid()]);
    let memory = MemoryWatch::start(scene.server.pid());
    let mut ended = ceiling(options, &mut sink, &mut result)?;
    for round in 0..options.rounds {
        if round.is_multiple_of(2) {
            engine_round(options, &scene, &mut sink, round, &mut result)?;
            ended += peer_round(options, &mut sink, &mut result)?;
        } else {
            ended += peer_round(options, &mut sink, &mut result)?;
            engine_round(options, &scene, &mut sink, round, &mut result)?;
        }
        if !options.without_chunking {
            let (_, seen) = to_sink(options, &scene, &mut chunked, &format!("chunked-{round}"), "chunked")?;
            result.chunked.push(seen);
        }
    }
    for round in 0..options.rounds {
        null_round(options, &scene, round, &mut result)?;
    }
    result.memory = memory.finish();
    result.ratio = rates(&result.engine) / rates(&result.peer).max(1e-9);
    result.chunked_ratio = rates(&result.chunked) / rates(&result.peer).max(1e-9);
    result.null_cpu_share = cpus(&result.null) / cpus(&result.peer).max(1e-9);
    let report = Report::new(options.clone(), watch.finish(ended), result);
    scene.server.terminate().context("ending the engine")?;
    say(&report.heading());
    say(&lines(&report.result, options));
    report.write(options.run.json.as_deref())
}

/// The bare pipelined client, in a process of its own; returns its CPU seconds.
fn ceiling(options: &EmailOptions, sink: &mut SinkProcess, result: &mut EmailResult) -> anyhow::Result<f64> {
    let report = client_process(sink, options.connections, options.contacts, options.peer_bytes)?;
    let cpu = report.cpu_microseconds_per_message * report.messages as f64 / 1e6;
    result.ceiling = Some(report);
    Ok(cpu)
}

/// Runs `loadtest client` against a sink.
pub fn client_process(sink: &SinkProcess, connections: u64, messages: u64, bytes: u64) -> anyhow::Result<ClientReport> {
    let out = Command::new(std::env::current_exe().context("finding this program")?)
        .arg("client")
        .arg(format!("--connect={}", sink.address))
        .arg(format!("--connections={connections}"))
        .arg(format!("--messages={messages}"))
        .arg(format!("--bytes={bytes}"))
        .output()
        .context("starting the client")?;
    if !out.status.success() {
        bail!("the client ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    serde_json::from_slice(&out.stdout).context("report of the client")
}

fn engine_round(
    options: &EmailOptions,
    scene: &Scene,
    sink: &mut SinkProcess,
    round: u64,
    result: &mut EmailResult,
) -> anyhow::Result<()> {
    let (used, seen) = to_sink(options, scene, sink, &format!("relay-{round}"), "relay")?;
    result.journal.add(JournalUse::default(), used, options.contacts);
    result.engine.push(seen);
    Ok(())
}

/// One campaign over a connector to its sink, and what the journal took for it.
fn to_sink(
    options: &EmailOptions,
    scene: &Scene,
    sink: &mut SinkProcess,
    name: &str,
    connector: &str,
) -> anyhow::Result<(JournalUse, Round)> {
    sink.reset()?;
    let before = JournalUse::now(scene.api())?;
    let spec = reference_campaign(name, connector, &everybody())?;
    let run = scene.run_campaign(&spec, options.contacts, "engine to sink")?;
    let mut used = JournalUse::default();
    used.add(before, JournalUse::now(scene.api())?, options.contacts);
    let seen = sink.report()?;
    if seen.counts.accepted != options.contacts {
        bail!("the sink accepted {} messages of {}", seen.counts.accepted, options.contacts);
    }
    Ok((used, round_of(run.cpu, run.seconds, seen.per_second, seen.cpu_seconds, options.contacts)))
}

/// Returns the CPU seconds of the peer.
fn peer_round(options: &EmailOptions, sink: &mut SinkProcess, result: &mut EmailResult) -> anyhow::Result<f64> {
    sink.reset()?;
    let run = smtp_source(sink.address, options.contacts, options.connections, options.peer_bytes)?;
    let seen = sink.report()?;
    if seen.counts.accepted != options.contacts {
        bail!("the sink accepted {} messages of smtp-source's {}", seen.counts.accepted, options.contacts);
    }
    result.peer.push(round_of(run.cpu, run.seconds, seen.per_second, seen.cpu_seconds, options.contacts));
    result.peer_command = run.command;
    Ok(run.cpu.total())
}

fn null_round(options: &EmailOptions, scene: &Scene, round: u64, result: &mut EmailResult) -> anyhow::Result<()> {
    let spec = reference_campaign(&format!("null-{round}"), "null", &everybody())?;
    let run = scene.run_campaign(&spec, options.contacts, "engine to null")?;
    result.null.push(round_of(run.cpu, run.seconds, run.per_second(), 0.0, options.contacts));
    Ok(())
}

fn round_of(cpu: proc::Cpu, seconds: f64, per_second: f64, sink_cpu: f64, messages: u64) -> Round {
    let per_message = 1e6 / messages.max(1) as f64;
    Round {
        per_second,
        cpu_microseconds: cpu.total() * per_message,
        user_microseconds: cpu.user_seconds * per_message,
        system_microseconds: cpu.system_seconds * per_message,
        seconds,
        sink_cpu_microseconds: sink_cpu * per_message,
    }
}

fn lines(result: &EmailResult, options: &EmailOptions) -> String {
    let range = |rounds: &[Round]| {
        let rates = rounds.iter().map(|r| r.per_second);
        format!("{}–{}", grouped(rates.clone().fold(f64::INFINITY, f64::min)), grouped(rates.fold(0.0, f64::max)))
    };
    let middle = |rounds: &[Round], pick: fn(&Round) -> f64| {
        format!("{:.1}", median(&rounds.iter().map(pick).collect::<Vec<_>>()))
    };
    let row = |name: &str, rounds: &[Round], ratio: String| {
        let user = middle(rounds, |r| r.user_microseconds);
        let system = middle(rounds, |r| r.system_microseconds);
        let cpu = format!("{} ({user} + {system})", middle(rounds, |r| r.cpu_microseconds));
        let sink = middle(rounds, |r| r.sink_cpu_microseconds);
        cells([name, &grouped(rates(rounds)), &range(rounds), &ratio, &cpu, &sink])
    };
    let mut rows =
        vec![cells(["sender", "msg/s (median)", "min–max", "ratio", "CPU µs/msg (user + system)", "sink CPU µs/msg"])];
    rows.push(row("estafette, SMTP", &result.engine, format!("{:.2}", result.ratio)));
    if !result.chunked.is_empty() {
        rows.push(row("estafette, SMTP with CHUNKING", &result.chunked, format!("{:.2}", result.chunked_ratio)));
    }
    rows.push(row("smtp-source -d", &result.peer, "1".to_owned()));
    if let Some(ceiling) = &result.ceiling {
        let cpu = format!("{:.1}", ceiling.cpu_microseconds_per_message);
        let ratio = format!("{:.2}", ceiling.per_second / rates(&result.peer).max(1e-9));
        rows.push(cells([
            "bare pipelined client (sink's ceiling)",
            &grouped(ceiling.per_second),
            "",
            &ratio,
            &cpu,
            "",
        ]));
    }
    rows.push(row("estafette, null connector", &result.null, String::new()));
    let mut text = table(&rows);
    text.push_str(&format!(
        "\n{} contacts, {} rounds alternating, {} connections; peer: {}\n",
        options.contacts, options.rounds, options.connections, result.peer_command
    ));
    text.push_str(&format!("rate over smtp-source's: {:.2} (bar ≥ 3, goal ≥ 4)\n", result.ratio));
    if !result.chunked.is_empty() {
        text.push_str(
            "with CHUNKING (opt-in): four messages a round trip, and up to four a connection unknown at a kill; else one\n",
        );
    }
    text.push_str(&result.journal.line());
    text.push('\n');
    text.push_str(&format!(
        "engine alone (null connector), CPU per message of smtp-source's: {:.4} = 1/{:.1} (bar ≤ 1/6, goal ≤ 1/20)\n",
        result.null_cpu_share,
        1.0 / result.null_cpu_share.max(1e-9)
    ));
    text.push_str(&format!(
        "memory of the engine: peak RssAnon + RssShmem {}, RssFile {}\n",
        mebibytes(result.memory.own),
        mebibytes(result.memory.file)
    ));
    if let Some(import) = &result.import {
        text.push_str(&format!("import: {} rows, {} rows/s\n", import.rows, grouped(import.rows_per_second)));
    }
    text
}
