//! `loadtest email`: our rate and CPU per message beside `smtp-source`'s, to the same sink, in the same run, alternating.
//!
//! Owns the scene of the run; `table` says what came of it. Invariants: 1. both rates are the sink's own, from its first to its last accepted message;
//! 2. the order changes from round to round, so that a slow phase of the machine hits both; 3. medians are of rounds.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::base::{Base, Columns};
use crate::client::ClientReport;
use crate::findings::{Better, Findings, Measure};
use crate::journal_use::JournalUse;
use crate::message::reference_campaign;
use crate::moments;
use crate::options::RunOptions;
use crate::peer::smtp_source;
use crate::peers::listmonk::run::{Seen, measured};
use crate::peers::listmonk::{Peer, PeerOptions};
use crate::proc::{self, MachineWatch, MemoryWatch, PeakMemory};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::{ImportRun, Scene, everybody};
use crate::server::{Connectors, find_binary};
use crate::sink::SinkOptions;
use crate::sink::process::SinkProcess;
use crate::sink::stats::SinkReport;
use crate::text::{median, note};

mod table;

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
    pub beside: PeerOptions,
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
    /// Bytes of a message as the sink took it, headers included.
    pub bytes: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct EmailResult {
    pub engine: Vec<Round>,
    /// Over a connector with `chunking = true`, to a sink that offers it: four messages a round trip, as many unknown at a kill.
    pub chunked: Vec<Round>,
    pub peer: Vec<Round>,
    pub null: Vec<Round>,
    /// A listmonk that the user runs, with its version.
    pub listmonk: Vec<Seen>,
    pub listmonk_version: String,
    /// The bare pipelined client, without CHUNKING.
    pub ceiling: Vec<ClientReport>,
    pub peer_command: String,
    pub memory: PeakMemory,
    pub import: Option<ImportRun>,
    /// Median of the rounds' ratios.
    pub ratio: f64,
    /// Of the rounds with CHUNKING.
    pub chunked_ratio: f64,
    /// What the journal took for the rounds to the sink.
    pub journal: JournalUse,
    /// The engine's CPU per message with the null connector, of smtp-source's: median of the rounds' shares.
    pub null_cpu_share: f64,
}

/// Median over the rounds of one figure of a sender over the peer's of the same round.
fn over(ours: &[f64], theirs: &[f64]) -> f64 {
    median(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs.max(1e-9)).collect::<Vec<_>>())
}

fn each(rounds: &[Round], pick: fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(pick).collect()
}

const RATE: Measure =
    Measure::new("rate", "messages/s", Better::Higher, "messages a second of the engine, by the sink's clock");
const PEER_RATE: Measure = Measure::new("peer_rate", "messages/s", Better::Neither, "the same of smtp-source");
const RATIO: Measure = Measure::ratio("ratio", Better::Higher, "rate of the engine over smtp-source's, round by round");
const CPU: Measure = Measure::new("cpu", "µs/message", Better::Lower, "CPU of the engine's process per message");
const PEER_CPU: Measure = Measure::new("peer_cpu", "µs/message", Better::Neither, "CPU of smtp-source per message");
const NULL_CPU: Measure =
    Measure::new("null_cpu", "µs/message", Better::Lower, "CPU of the engine per message without a network");
const NULL_CPU_SHARE: Measure =
    Measure::ratio("null_cpu_share", Better::Lower, "CPU per message without a network, of smtp-source's");
const CEILING: Measure = Measure::new(
    "ceiling",
    "messages/s",
    Better::Neither,
    "what a bare pipelined client gets out of the sink, without CHUNKING",
);
const MEMORY: Measure = Measure::new("memory", "MiB", Better::Lower, "peak of RssAnon + RssShmem of the engine");
const IMPORT: Measure = Measure::new("import_rate", "rows/s", Better::Higher, "rows a second of the base's import");
const CHUNKED_RATE: Measure =
    Measure::new("chunked_rate", "messages/s", Better::Higher, "the engine's rate over a connector that uses CHUNKING");
const CHUNKED_RATIO: Measure =
    Measure::ratio("chunked_ratio", Better::Higher, "the same over smtp-source's, round by round");
const JOURNAL_BYTES: Measure =
    Measure::new("journal_bytes", "MiB/million", Better::Lower, "what the journal writes for a million messages");
const JOURNAL_SYNCS: Measure =
    Measure::new("journal_syncs", "fdatasync/million", Better::Lower, "how often it syncs for a million messages");
const LISTMONK_RATE: Measure = Measure::new(
    "listmonk_rate",
    "messages/s",
    Better::Neither,
    "the same of listmonk, where --peer listmonk is given",
);
const LISTMONK_RATIO: Measure =
    Measure::ratio("listmonk_ratio", Better::Higher, "rate of the engine over listmonk's, round by round");
const LISTMONK_CHUNKED_RATIO: Measure = Measure::ratio(
    "listmonk_chunked_ratio",
    Better::Higher,
    "rate of the engine over a connector that uses CHUNKING, over listmonk's, round by round",
);

impl Drive for EmailOptions {
    const MEASURES: &'static [Measure] = &[
        RATE,
        PEER_RATE,
        RATIO,
        CHUNKED_RATE,
        CHUNKED_RATIO,
        CPU,
        PEER_CPU,
        NULL_CPU,
        NULL_CPU_SHARE,
        CEILING,
        MEMORY,
        IMPORT,
        JOURNAL_BYTES,
        JOURNAL_SYNCS,
        LISTMONK_RATE,
        LISTMONK_RATIO,
        LISTMONK_CHUNKED_RATIO,
    ];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let options = self;
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
        let (contacts, seed) = (options.contacts, options.run.seed);
        let base = Base { contacts, seed, prefix: "c", batch: "base", columns: Columns::Full };
        let file = scene.generate(&base)?;
        let import = scene.import(&file, contacts)?;
        findings.sample(&IMPORT, import.rows_per_second);
        let mut result = EmailResult { import: Some(import), ..EmailResult::default() };

        let listmonk = match options.beside.peer {
            None => None,
            Some(_) => {
                let spec = reference_campaign("load test", "relay", &everybody())?;
                Some(Peer::prepare(&options.beside, &file, &spec, sink.address, options.connections)?)
            }
        };
        wait_until_quiet(options.quiet_seconds);
        let watch = MachineWatch::start(&[scene.server.pid(), sink.pid(), chunked.pid()]);
        let memory = MemoryWatch::start(scene.server.pid());
        let mut run = Run {
            options,
            scene: &scene,
            sink: &mut sink,
            chunked: &mut chunked,
            findings,
            result: &mut result,
            listmonk,
        };
        let ended = run.rounds()?;
        if let Some(listmonk) = run.listmonk.take() {
            listmonk.finish()?;
        }
        result.memory = memory.finish();
        let peer = each(&result.peer, |r| r.per_second);
        result.ratio = over(&each(&result.engine, |r| r.per_second), &peer);
        result.chunked_ratio = over(&each(&result.chunked, |r| r.per_second), &peer);
        let peer = each(&result.peer, |r| r.cpu_microseconds);
        result.null_cpu_share = over(&each(&result.null, |r| r.cpu_microseconds), &peer);
        findings.disturbance(watch.finish(ended));
        findings.sample(&MEMORY, result.memory.own as f64 / f64::from(1 << 20));
        scene.server.terminate().context("ending the engine")?;
        table::tell(findings, &result, options);
        findings.detail(&result);
        Ok(())
    }
}

fn wait_until_quiet(seconds: u64) {
    let before = proc::wait_until_quiet(Duration::from_secs(seconds));
    if before.is_busy() {
        let cores = before.foreign_cores;
        note(&format!("the machine is busy with something else ({cores:.2} cores): compare ratios only"));
    }
}

/// The rounds of a run.
struct Run<'a> {
    options: &'a EmailOptions,
    scene: &'a Scene,
    sink: &'a mut SinkProcess,
    chunked: &'a mut SinkProcess,
    findings: &'a Findings,
    result: &'a mut EmailResult,
    listmonk: Option<Peer>,
}

impl Run<'_> {
    /// All rounds; the CPU seconds of what came and went.
    fn rounds(&mut self) -> anyhow::Result<f64> {
        let mut ended = 0.0;
        for round in 0..self.options.rounds {
            if round.is_multiple_of(2) {
                self.engine_round(round)?;
                ended += self.peer_round()?;
            } else {
                ended += self.peer_round()?;
                self.engine_round(round)?;
            }
            self.null_round(round)?;
            if !self.options.without_chunking {
                self.chunked_round(round)?;
            }
            ended += self.ceiling()?;
            self.compare_last();
            self.listmonk_round(round)?;
        }
        Ok(ended)
    }

    /// The bare pipelined client, in a process of its own; returns its CPU seconds.
    fn ceiling(&mut self) -> anyhow::Result<f64> {
        let options = self.options;
        self.sink.reset()?;
        let report = client_process(self.sink, options.connections, options.contacts, options.peer_bytes)?;
        let cpu = report.cpu_microseconds_per_message * report.messages as f64 / 1e6;
        self.findings.sample(&CEILING, report.per_second);
        self.result.ceiling.push(report);
        Ok(cpu)
    }

    /// Our rates and costs of a round over the peer's.
    fn compare_last(&self) {
        let Some(theirs) = self.result.peer.last() else { return };
        if let Some(null) = self.result.null.last() {
            self.findings.sample(&NULL_CPU_SHARE, null.cpu_microseconds / theirs.cpu_microseconds.max(1e-9));
        }
        for (rounds, ratio) in [(&self.result.engine, &RATIO), (&self.result.chunked, &CHUNKED_RATIO)] {
            if let Some(ours) = rounds.last() {
                self.findings.sample(ratio, ours.per_second / theirs.per_second.max(1e-9));
            }
        }
    }

    fn engine_round(&mut self, round: u64) -> anyhow::Result<()> {
        let (used, of) = self.one_round(&format!("relay-{round}"), "relay")?;
        self.findings.sample(&RATE, of.per_second);
        self.findings.sample(&CPU, of.cpu_microseconds);
        self.findings.sample(&JOURNAL_BYTES, used.mebibytes());
        self.findings.sample(&JOURNAL_SYNCS, used.syncs());
        self.result.journal.add(used);
        self.result.engine.push(of);
        Ok(())
    }

    fn chunked_round(&mut self, round: u64) -> anyhow::Result<()> {
        let (_, of) = self.one_round(&format!("chunked-{round}"), "chunked")?;
        self.findings.sample(&CHUNKED_RATE, of.per_second);
        self.result.chunked.push(of);
        Ok(())
    }

    /// One campaign over a connector to its sink, and what the journal took for it.
    fn one_round(&mut self, name: &str, connector: &str) -> anyhow::Result<(JournalUse, Round)> {
        let contacts = self.options.contacts;
        let sink = if connector == "chunked" { &mut *self.chunked } else { &mut *self.sink };
        sink.reset()?;
        let before = JournalUse::now(self.scene.api())?;
        let spec = reference_campaign(name, connector, &everybody())?;
        let run = self.scene.run_campaign(&spec, contacts, "engine to sink")?;
        let used = JournalUse::now(self.scene.api())?.since(before, contacts);
        let seen = sink.report()?;
        self.findings.ledger(name, &run.ledger);
        self.findings.sink(name, &seen);
        self.findings.line(&moments::RATE, name, &moments::rates(&run.moments));
        if seen.counts.accepted != contacts {
            bail!("the sink accepted {} messages of {contacts}", seen.counts.accepted);
        }
        Ok((used, round_of(run.cpu, run.seconds, Some(&seen), contacts)))
    }

    /// Returns the CPU seconds of the peer.
    fn peer_round(&mut self) -> anyhow::Result<f64> {
        let options = self.options;
        self.sink.reset()?;
        let run = smtp_source(self.sink.address, options.contacts, options.connections, options.peer_bytes)?;
        let seen = self.sink.report()?;
        if seen.counts.accepted != options.contacts {
            bail!("the sink accepted {} messages of smtp-source's {}", seen.counts.accepted, options.contacts);
        }
        let of = round_of(run.cpu, run.seconds, Some(&seen), options.contacts);
        self.findings.sample(&PEER_RATE, of.per_second);
        self.findings.sample(&PEER_CPU, of.cpu_microseconds);
        self.findings.peer("smtp-source", &run.command);
        self.result.peer.push(of);
        self.result.peer_command = run.command;
        Ok(run.cpu.total())
    }

    /// A campaign of the user's listmonk, if there is one. Its CPU is not ours to see: it may run elsewhere.
    fn listmonk_round(&mut self, round: u64) -> anyhow::Result<()> {
        let Some(listmonk) = &self.listmonk else { return Ok(()) };
        let seen = measured(listmonk, self.sink, &format!("load test {}", round + 1))?;
        let how = format!("{} over its API; SMTP to the same sink", listmonk.version());
        self.findings.peer("listmonk", &how);
        self.findings.sample(&LISTMONK_RATE, seen.sink.per_second);
        for (rounds, ratio) in [(&self.result.engine, &LISTMONK_RATIO), (&self.result.chunked, &LISTMONK_CHUNKED_RATIO)]
        {
            if let Some(ours) = rounds.last() {
                self.findings.sample(ratio, ours.per_second / seen.sink.per_second.max(1e-9));
            }
        }
        self.result.listmonk_version = listmonk.version().to_owned();
        self.result.listmonk.push(seen);
        Ok(())
    }

    fn null_round(&mut self, round: u64) -> anyhow::Result<()> {
        let spec = reference_campaign(&format!("null-{round}"), "null", &everybody())?;
        let run = self.scene.run_campaign(&spec, self.options.contacts, "engine to null")?;
        let mut of = round_of(run.cpu, run.seconds, None, self.options.contacts);
        of.per_second = run.per_second();
        self.findings.sample(&NULL_CPU, of.cpu_microseconds);
        self.result.null.push(of);
        Ok(())
    }
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

/// The figures of a round; rate, CPU and bytes of the sink are nought where there was none.
fn round_of(cpu: proc::Cpu, seconds: f64, seen: Option<&SinkReport>, messages: u64) -> Round {
    let per_message = 1e6 / messages.max(1) as f64;
    Round {
        per_second: seen.map_or(0.0, |seen| seen.per_second),
        cpu_microseconds: cpu.total() * per_message,
        user_microseconds: cpu.user_seconds * per_message,
        system_microseconds: cpu.system_seconds * per_message,
        seconds,
        sink_cpu_microseconds: seen.map_or(0.0, |seen| seen.cpu_seconds) * per_message,
        bytes: seen.map_or(0.0, |seen| seen.counts.bytes as f64) / messages.max(1) as f64,
    }
}
