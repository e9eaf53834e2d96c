//! The driver `load`: campaigns over e-mail by a load profile, against a sink that behaves as it is told.
//!
//! Owns the engine, the sink and the clock of the profile. Each step is a campaign with an audience of its own, so that
//! nobody is meant to get two mails. Invariants: 1. a step starts at its planned moment, however far behind the engine is
//! (open loop): lateness shows, and is not hidden by waiting; 2. rates and counts are the sink's; 3. a contact that is
//! neither in the sink's count nor told as refused or unknown is lost.

mod account;
mod clock;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;

use crate::base::{Base, Columns};
use crate::email::client_process;
use crate::findings::{Axes, Better, Findings, Measure, Scale, TWICE, UNKNOWN};
use crate::options::RunOptions;
use crate::proc::{MachineWatch, MemoryWatch};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::Scene;
use crate::server::{Connectors, find_binary};
use crate::sink::SinkOptions;
use crate::sink::process::SinkProcess;
use crate::text::grouped;

use self::account::Account;
use self::clock::Clock;

#[derive(Args, Clone, Debug, Serialize)]
pub struct LoadOptions {
    /// Connections to the sink
    #[arg(long, default_value_t = 50)]
    pub connections: u64,
    /// The small message instead of the one of ten kilobytes
    #[arg(long)]
    pub small: bool,
    /// Let the sink record every mail, so that doubles are told apart from losses contact by contact
    #[arg(long)]
    pub record: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

const RATE: Measure = Measure::new(
    "rate",
    "messages/s",
    Better::Higher,
    "messages a second of a step, from its start to its end; one a step",
)
.of_each();
const RATE_SHARE: Measure = Measure::promise(
    "rate_share",
    "of the asked",
    Better::Higher,
    "rate of the worst step over the one that it was to have",
);
const LATE: Measure =
    Measure::promise("late", "s", Better::Lower, "how long after its planned end the latest step ended");
const CPU: Measure = Measure::new("cpu", "µs/message", Better::Lower, "CPU of the engine's process per message");
const MEMORY: Measure = Measure::new("memory", "MiB", Better::Lower, "peak of RssAnon + RssShmem of the engine");
const MEMORY_GROWTH: Measure = Measure::promise(
    "memory_growth",
    "×",
    Better::Lower,
    "memory in the last quarter over that in the first one after a warm-up",
);
const LOST: Measure =
    Measure::promise("lost", "contacts", Better::Lower, "neither at the sink nor told as rejected, skipped or unknown");
const PROVIDER_SHARE: Measure = Measure::promise(
    "provider_share",
    "of the limit",
    Better::Higher,
    "messages a second that the sink took, over what it lets through",
);
const REFUSED_SHARE: Measure =
    Measure::promise("refused_share", "of attempts", Better::Lower, "attempts that the sink refused for the moment");

const CEILING: Measure = Measure::new(
    "ceiling",
    "messages/s",
    Better::Neither,
    "what a bare pipelined client gets out of the same sink, before the load, if nothing is wrong with the sink on purpose",
);

const AT_THE_SINK: Axes = Axes { title: "At the sink", x: "seconds", y: "messages a second", scale: Scale::Linear };

impl Drive for LoadOptions {
    const MEASURES: &'static [Measure] = &[
        RATE,
        RATE_SHARE,
        LATE,
        CPU,
        MEMORY,
        MEMORY_GROWTH,
        LOST,
        TWICE,
        UNKNOWN,
        PROVIDER_SHARE,
        REFUSED_SHARE,
        CEILING,
    ];

    fn drive(&self, extras: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let engine = find_binary(self.run.engine.as_deref())?;
        let folder = tempfile::TempDir::new().context("making a folder")?;
        let mut behaviour = extras.sink_options()?;
        behaviour.record = self.record.then(|| folder.path().join("record"));
        let limit = behaviour.faults.throttle_per_second;
        let record = behaviour.record.clone();
        if extras.sink.is_empty() {
            ceiling(self, extras, findings)?;
        }
        let mut sink = SinkProcess::start(&behaviour)?;
        let connectors = Connectors {
            relay_port: Some(sink.address.port()),
            connections: self.connections,
            relay_extra: toml::to_string(&extras.connector).context("[connector]")?,
            ..Connectors::default()
        };
        let scene = Scene::start(&engine, self.run.folder.as_deref(), &connectors)?;
        let mut clock = prepare(self, extras, &scene)?;
        // A fresh process, so that the imports' memory is not counted as the campaigns'.
        let scene = scene.restart()?;
        let watch = MachineWatch::start(&[scene.server.pid(), sink.pid()]);
        let memory = MemoryWatch::start(scene.server.pid());
        let before = scene.cpu()?;
        sink.reset()?;
        let ran = clock.run(&scene, &mut sink);
        let cpu = scene.cpu().map(|now| now.since(before)).unwrap_or_default();
        clock.tell(findings);
        findings.sample(&MEMORY, memory.finish().own as f64 / f64::from(1 << 20));
        findings.disturbance(watch.finish(0.0));
        ran?;
        let metrics = scene.api().metrics()?;
        if let Some(latency) =
            crate::prometheus::latency(&metrics, "estafette_round_trip_seconds", "round trip at the relay, at most")
        {
            findings.latency(latency);
        }
        let seen = sink.report()?;
        findings.sink("all steps", &seen);
        let account = Account::of(&clock.ledgers(), &seen.counts, record.as_deref())?;
        account.tell(findings, cpu.total(), limit.map(|limit| (limit, seen.per_second)));
        findings.detail(&clock.results());
        scene.server.terminate().context("ending the engine")
    }
}

/// Messages of the measurement of the ceiling, at most.
const CEILING_MESSAGES: u64 = 100_000;

/// The most that any sender could reach here, so that a rate can be told from the sink's own limit. The sink is another one,
/// because what is recorded must be the engine's.
fn ceiling(options: &LoadOptions, extras: &Extras, findings: &Findings) -> anyhow::Result<()> {
    let mut audience = 0;
    for step in &extras.load {
        audience += step.audience()?;
    }
    let sink = SinkProcess::start(&SinkOptions::default())?;
    let bytes = if options.small { 1_024 } else { 10_240 };
    let seen = client_process(&sink, options.connections, audience.min(CEILING_MESSAGES), bytes)?;
    sink.finish()?;
    findings.sample(&CEILING, seen.per_second);
    findings.remark(format!(
        "the sink's ceiling: a bare pipelined client sends it {} messages a second of {bytes} bytes over {} connections",
        grouped(seen.per_second),
        options.connections
    ));
    Ok(())
}

/// Imports an audience for every step and creates its campaign.
fn prepare(options: &LoadOptions, extras: &Extras, scene: &Scene) -> anyhow::Result<Clock> {
    scene.declare(Columns::Full)?;
    let mut clock = Clock::default();
    for (at, step) in extras.load.iter().enumerate() {
        let contacts = step.audience()?;
        let (prefix, batch) = (format!("l{at}x"), format!("load{at}"));
        let base = Base { contacts, seed: options.run.seed, prefix: &prefix, batch: &batch, columns: Columns::Full };
        let file = scene.generate(&base)?;
        scene.import(&file, contacts)?;
        std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        let id = scene.api().create_campaign(&clock::campaign(step, &batch, options.small)?)?;
        clock.plan(step, id, contacts);
    }
    ensure!(!clock.is_empty(), "a load has at least one step");
    Ok(clock)
}

impl Extras {
    /// `[sink]` as the sink's own options: a key is the option's name with underscores.
    pub fn sink_options(&self) -> anyhow::Result<SinkOptions> {
        let mut args = Vec::new();
        for (key, value) in &self.sink {
            let option = key.replace('_', "-");
            match value {
                toml::Value::Boolean(true) => args.push(format!("--{option}")),
                toml::Value::Boolean(false) => {}
                value => args.push(format!("--{option}={}", crate::scenario::drivers::plain(value)?)),
            }
        }
        crate::sink::process::from_args(args.iter().map(String::as_str)).map_err(|error| {
            let text = error.to_string();
            anyhow::anyhow!("[sink]: {}", text.lines().next().unwrap_or_default().trim_start_matches("error: "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sinks_table_is_its_options() {
        let extras = |text: &str| Extras { sink: text.parse().unwrap(), ..Extras::default() };
        let options = extras("throttle_per_second = 500\nchunking = true\nfail_4xx = 0.25").sink_options().unwrap();
        assert_eq!(options.faults.throttle_per_second, Some(500));
        assert!(options.chunking && (options.faults.fail_4xx - 0.25).abs() < 1e-9);
        let beyond = format!("{:#}", extras("fail_4xx = 5").sink_options().unwrap_err());
        assert!(beyond.contains("from 0 to 1"), "{beyond}");
        let unknown = format!("{:#}", extras("trottle = 5").sink_options().unwrap_err());
        assert!(unknown.contains("--trottle"), "{unknown}");
    }
}
