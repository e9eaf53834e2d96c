//! `loadtest fairness`: how much of a campaign of a million goes before one of a hundred that starts later, on one connector.
//!
//! Owns the engine, the sink and its record, in which the order of all mails can be read. Invariants: 1. the large campaign is
//! well under way when the small one starts, and far from its end when that is over; 2. everybody of the small campaign
//! was sent to; 3. what is counted is mails in the order in which the sink took them, and no figure of the engine.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::api::Api;
use crate::base::{Base, Columns};
use crate::findings::{Axes, Better, Findings, JudgedBy, Measure, Scale};
use crate::message::small_campaign;
use crate::options::RunOptions;
use crate::proc::MachineWatch;
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::Scene;
use crate::server::{Connectors, find_binary};
use crate::sink::SinkOptions;
use crate::sink::process::SinkProcess;
use crate::sink::record;
use crate::text::{cells, grouped};

/// Mails of the large campaign before the small one starts.
const UNDER_WAY: u64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Args, Clone, Debug, Serialize)]
pub struct FairnessOptions {
    /// Contacts of the large campaign
    #[arg(long, default_value_t = 1_000_000)]
    pub contacts: u64,
    /// Contacts of each small campaign
    #[arg(long, default_value_t = 100)]
    pub small: u64,
    /// Small campaigns, one after the other, while the large one runs
    #[arg(long, default_value_t = 5)]
    pub rounds: u64,
    /// Connections to the sink
    #[arg(long, default_value_t = 50)]
    pub connections: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// One small campaign.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Round {
    /// Mails of the large campaign between the answer to the small one's start and its last mail.
    pub overtaken_by: u64,
    /// From the request to start until the report says finished.
    pub seconds: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct FairnessResult {
    pub rounds: Vec<Round>,
    /// Mails a second of the large campaign while the small ones came and went.
    pub large_per_second: f64,
    /// What of the large campaign was still to be sent at the end.
    pub left: u64,
}

const OVERTAKEN: Measure = Measure {
    judged_by: JudgedBy::Worst,
    ..Measure::new(
        "overtaken_by",
        "mails",
        Better::Lower,
        "mails of the large campaign between the answer to a small one's start and its last mail; what is claimed ahead \
         of it, at most the credits, and one batch more are unavoidable",
    )
};
const SECONDS: Measure = Measure::new("seconds", "s", Better::Lower, "from the start of a small campaign to its end");
const LARGE_RATE: Measure =
    Measure::new("large_rate", "messages/s", Better::Higher, "rate of the large campaign meanwhile");
const PER_ROUND: Axes =
    Axes { title: "A small campaign is overtaken by", x: "small campaign", y: "mails", scale: Scale::Linear };

impl Drive for FairnessOptions {
    const MEASURES: &'static [Measure] = &[OVERTAKEN, SECONDS, LARGE_RATE];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let engine = find_binary(self.run.engine.as_deref())?;
        let folder = tempfile::TempDir::new().context("making a folder")?;
        let file = folder.path().join("record");
        let mut sink = SinkProcess::start(&SinkOptions { record: Some(file.clone()), ..SinkOptions::default() })?;
        let watch = MachineWatch::start(&[sink.pid()]);
        let (result, cpu) = scenario(self, &engine, &sink, &file)?;
        findings.disturbance(watch.finish(cpu));
        findings.sink("both campaigns", &sink.report()?);
        for round in &result.rounds {
            findings.sample(&OVERTAKEN, round.overtaken_by as f64);
            findings.sample(&SECONDS, round.seconds);
        }
        findings.sample(&LARGE_RATE, result.large_per_second);
        findings.detail(&result);
        tell(self, findings, &result);
        Ok(())
    }
}

/// Runs the scenario against a sink that records to `file`; the result, and the CPU seconds of the engine.
fn scenario(
    options: &FairnessOptions,
    engine: &Path,
    sink: &SinkProcess,
    file: &Path,
) -> anyhow::Result<(FairnessResult, f64)> {
    let port = Some(sink.address.port());
    let connectors = Connectors { relay_port: port, connections: options.connections, ..Connectors::default() };
    let scene = Scene::start(engine, options.run.folder.as_deref(), &connectors)?;
    scene.declare(Columns::Full)?;
    for (prefix, batch, contacts) in [("c", "large", options.contacts), ("s", "small", options.small)] {
        let base = Base { contacts, seed: options.run.seed, prefix, batch, columns: Columns::Full };
        scene.import(&scene.generate(&base)?, contacts)?;
    }
    let api = scene.api();
    let create = |name: &str, batch: &str| {
        let audience = json!({"segment": format!("batch = \"{batch}\"")});
        api.create_campaign(&small_campaign(name, "relay", &audience, None))
    };
    let large = create("large", "large")?;
    api.act(&large, "start")?;
    until("the large campaign is under way", || Ok(api.report(&large)?.ledger.accepted > UNDER_WAY))?;
    let (began, before) = (Instant::now(), api.report(&large)?.ledger.accepted);
    let mut result = FairnessResult::default();
    for round in 0..options.rounds {
        let name = format!("small{round}");
        let id = create(&name, "small")?;
        result.rounds.push(one(api, &name, &id, options.small, file)?);
    }
    let after = api.report(&large)?.ledger;
    result.large_per_second = (after.accepted - before) as f64 / began.elapsed().as_secs_f64().max(1e-9);
    result.left = after.pending;
    ensure!(after.pending > options.contacts / 20, "the large campaign was over too soon: take more contacts");
    api.act(&large, "stop")?;
    until("the large campaign stops", || Ok(api.report(&large)?.state == "stopped"))?;
    let cpu = scene.cpu()?.total();
    scene.server.terminate().context("ending the engine")?;
    Ok((result, cpu))
}

fn one(api: &Api, name: &str, id: &str, contacts: u64, file: &Path) -> anyhow::Result<Round> {
    let started = Instant::now();
    api.act(id, "start")?;
    let before = record::read(file)?.len();
    until("the small campaign ends", || Ok(api.report(id)?.state == "finished"))?;
    let seconds = started.elapsed().as_secs_f64();
    let ledger = api.report(id)?.ledger;
    ensure!(ledger.holds() && ledger.accepted == contacts, "the small campaign ended with {ledger:?}");
    let mails = record::read(file)?;
    let begins = format!("{name} ");
    let last =
        mails.iter().rposition(|mail| mail.subject.starts_with(&begins)).context("the small campaign's mails")?;
    let between = mails.get(before..=last).unwrap_or_default();
    let overtaken_by = between.iter().filter(|mail| mail.subject.starts_with("large ")).count() as u64;
    Ok(Round { overtaken_by, seconds })
}

fn until(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let since = Instant::now();
    while !holds()? {
        if since.elapsed() > PATIENCE {
            bail!("in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn tell(options: &FairnessOptions, findings: &Findings, result: &FairnessResult) {
    let mut rows = vec![cells(["small campaign", "overtaken by", "seconds"])];
    rows.extend(result.rounds.iter().enumerate().map(|(number, round)| {
        cells([&number.to_string(), &grouped(round.overtaken_by as f64), &format!("{:.2}", round.seconds)])
    }));
    findings.table("Small campaigns beside a large one, on one connector", rows);
    let each: Vec<f64> = result.rounds.iter().map(|round| round.overtaken_by as f64).collect();
    findings.repetitions(&PER_ROUND, "overtaken by", &each);
    findings.remark(format!(
        "{} contacts against {}; the large one went on at {} mails/s, {} were left",
        grouped(options.contacts as f64),
        grouped(options.small as f64),
        grouped(result.large_per_second),
        grouped(result.left as f64)
    ));
}
