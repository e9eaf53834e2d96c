//! The kill scenario: `kill -9` at random moments under load, and the accounts afterwards, contact by contact.
//!
//! Owns the engine, the sink and the books of what was asked and acknowledged. Campaigns of every kind run; they are paused and
//! resumed, edited, entered, decided, extended and stopped, files are imported, the sink refuses, drops and closes; the engine
//! is killed, also while it recovers, started again, and asked whether its ledgers balance. At the end every campaign is let
//! finish and its sets are held against the sink's record.
//!
//! Read [`kinds`] (who and what), `specs`, [`campaign`] (one of them, and what a restart must show), [`books`] (all of them),
//! [`life`] (until the kill), then [`verify`] and `rules` (the accounts).
//!
//! Invariants that are checked: 1. nobody is mailed twice by one delivery of one run; 2. every contact of a delivery is in
//! exactly one final set; 3. accepted ⊆ recorded ⊆ accepted ∪ unknown; 4. unknown ≤ connections × 1 a kill, plus the messages
//! whose answer the sink withheld on purpose; 5. every ledger balances after every restart, contacts are at one node each, and
//! accepted never shrinks; 6. a decision, a version, a launch or an entry that was acknowledged, or shown for a second, is the
//! same after every restart; 7. an acknowledged import is there whole, another one whole or not at all; 8. the data directory
//! passes `check`.

pub mod books;
pub mod calls;
pub mod campaign;
pub mod kinds;
pub mod life;
pub mod power;
mod rules;
#[cfg(test)]
mod rules_tests;
mod sequence;
mod specs;
mod split;
mod tail;
pub mod verify;
mod watch;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use self::books::Books;
use self::kinds::Kind;
use self::life::Life;
use self::power::{Losses, Power};
use self::watch::UnknownWatch;
use crate::base::{Base, Columns};
use crate::findings::{Axes, Better, Findings, Measure, Scale, TWICE, UNKNOWN};
use crate::options::RunOptions;
use crate::proc::MachineWatch;
use crate::rng::Rng;
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::Scene;
use crate::server::{Connectors, Server, ServerPlan, find_binary};
use crate::sink::SinkOptions;
use crate::sink::faults::{Faults, Stage};
use crate::sink::process::SinkProcess;
use crate::sink::stats::{Counts, SinkReport};
use crate::text::{bar, cells, grouped, median, note};

/// Time for the engine to recover.
const READY: Duration = Duration::from_secs(120);
/// Time without any movement after which the last campaigns are given up.
const STANDSTILL: Duration = Duration::from_secs(90);
/// Messages of one connection that can be marked and unanswered: the window of DATA.
const WINDOW: u64 = 1;
/// Batches of credits of the connector where the power fails, the fewest that there can be: the bound of promise 3.
const CREDITS_BATCHES: u64 = 5;
/// Rows of a batch.
const BATCH_ROWS: u64 = 1_000;

#[derive(Args, Clone, Debug, Serialize)]
pub struct KillOptions {
    /// Kills
    #[arg(long, default_value_t = 200)]
    pub kills: u64,
    /// Contacts of the audience of each campaign of the kind single
    #[arg(long, default_value_t = 5_000)]
    pub contacts: u64,
    /// Contacts of the audience of each campaign of another kind
    #[arg(long, default_value_t = 600)]
    pub few: u64,
    /// Campaigns that are kept unfinished, of the kinds in turn
    #[arg(long, default_value_t = 8)]
    pub campaigns: usize,
    /// Kinds of campaigns
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::value_variants().to_vec())]
    pub kinds: Vec<Kind>,
    /// Connections to the sink
    #[arg(long, default_value_t = 20)]
    pub connections: u64,
    /// Shortest life of an engine after its recovery, milliseconds
    #[arg(long, default_value_t = 5)]
    pub life_ms_min: u64,
    /// Longest life, milliseconds
    #[arg(long, default_value_t = 700)]
    pub life_ms_max: u64,
    /// Share of kills that fall into a recovery
    #[arg(long, default_value_t = 0.1)]
    pub in_recovery: f64,
    /// Every kill is a power loss: another boot, and of what was never synced a random part is gone ([`power`])
    #[arg(long)]
    pub power: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

impl Default for KillOptions {
    fn default() -> KillOptions {
        KillOptions {
            kills: 30,
            contacts: 1_500,
            few: 300,
            campaigns: Kind::value_variants().len(),
            kinds: Kind::value_variants().to_vec(),
            connections: 20,
            life_ms_min: 5,
            life_ms_max: 700,
            in_recovery: 0.1,
            power: false,
            run: RunOptions::default(),
        }
    }
}

impl KillOptions {
    /// Kills, actions and faults drawn from this seed.
    pub fn seeded(seed: u64) -> KillOptions {
        KillOptions { run: RunOptions { seed, ..RunOptions::default() }, ..KillOptions::default() }
    }

    /// Promise 3: how many contacts one kill, or one power loss, may leave unknown.
    pub fn unknown_per_kill(&self) -> u64 {
        if self.power { CREDITS_BATCHES * BATCH_ROWS } else { self.connections * WINDOW }
    }
}

/// An import that is there before the first campaign.
struct Imported {
    prefix: &'static str,
    batch: &'static str,
}

/// For campaigns of the kind single.
const MANY: Imported = Imported { prefix: "c", batch: "base" };
/// For all others.
const FEW: Imported = Imported { prefix: "f", batch: "few" };

/// What became of the campaigns of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KindCount {
    pub campaigns: u64,
    pub runs: u64,
    pub accepted: u64,
    /// Edits, entries, choices, events, stops that were acknowledged under fire.
    pub acknowledged: u64,
}

impl KindCount {
    fn add(&mut self, other: &KindCount) {
        self.campaigns += other.campaigns;
        self.runs += other.runs;
        self.accepted += other.accepted;
        self.acknowledged += other.acknowledged;
    }
}

/// The accounts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KillResult {
    pub kills: u64,
    /// Of them, while the engine was recovering.
    pub kills_in_recovery: u64,
    pub campaigns: u64,
    pub kinds: BTreeMap<&'static str, KindCount>,
    pub actions: u64,
    pub imports_acknowledged: u64,
    pub imports_cut_off: u64,
    pub audience: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub skipped: u64,
    pub unknown: u64,
    pub unknown_bound: u64,
    /// What was lost with the power, if that was the scenario.
    pub power: Option<Losses>,
    /// Contacts that the sink recorded more than once for one campaign.
    pub twice: u64,
    /// Contacts of an audience that are in no set, or recorded and in a set that denies it.
    pub unaccounted: u64,
    pub recorded: u64,
    pub sink: Counts,
    #[serde(skip)]
    pub sink_report: SinkReport,
    /// Of each start after a kill that came to its end.
    pub recovery_ms: Vec<f64>,
    pub recovery_ms_median: f64,
    pub recovery_ms_max: f64,
    pub seconds: f64,
    /// Everything that is wrong, in words; empty when all invariants hold.
    pub problems: Vec<String>,
}

/// The faults of the sink: all of them, rarely.
pub fn faults(seed: u64) -> Faults {
    Faults {
        fail_4xx: 0.01,
        fail_5xx: 0.01,
        fail_at: Stage::Mixed,
        drop_after_dot: 0.0005,
        drop_in_body: 0.0005,
        close_after: Some(2_000),
        fault_seed: seed,
        ..Faults::default()
    }
}

const UNACCOUNTED: Measure = Measure::promise(
    "unaccounted",
    "contacts",
    Better::Lower,
    "in no final set, or recorded and in one that denies it",
);
const UNKNOWN_SHARE: Measure = Measure::promise(
    "unknown_share",
    "of the bound",
    Better::Lower,
    "unknown contacts over what may have been in flight at the kills",
);
const PROBLEMS: Measure = Measure::promise("problems", "", Better::Lower, "broken invariants of any kind");
const RECOVERY: Measure = Measure::new(
    "recovery",
    "ms",
    Better::Lower,
    "from the start of the process until it is ready, median over the kills",
);
const RECOVERY_MAX: Measure = Measure::new("recovery_max", "ms", Better::Lower, "the longest recovery");

const RECOVERIES: Axes = Axes {
    title: "Recovery after each kill",
    x: "recovery",
    y: "ms from the start of the process until it is ready",
    scale: Scale::Linear,
};

impl Drive for KillOptions {
    const MEASURES: &'static [Measure] =
        &[TWICE, UNACCOUNTED, UNKNOWN, UNKNOWN_SHARE, PROBLEMS, RECOVERY, RECOVERY_MAX];

    /// Fails if an invariant is broken.
    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let engine = find_binary(self.run.engine.as_deref())?;
        let folder = match &self.run.folder {
            Some(parent) => tempfile::TempDir::new_in(parent),
            None => tempfile::TempDir::new(),
        }
        .context("making a folder")?;
        let record = folder.path().join("record");
        let sink = SinkProcess::start(&sink_options(self, &record))?;
        let watch = MachineWatch::start(&[sink.pid()]);
        let result = scenario(self, &engine, folder.path(), sink, &record)?;
        findings.disturbance(watch.finish(0.0));
        for (measure, value) in [
            (&TWICE, result.twice as f64),
            (&UNACCOUNTED, result.unaccounted as f64),
            (&UNKNOWN, result.unknown as f64),
            (&UNKNOWN_SHARE, result.unknown as f64 / result.unknown_bound.max(1) as f64),
            (&PROBLEMS, result.problems.len() as f64),
            (&RECOVERY, result.recovery_ms_median),
            (&RECOVERY_MAX, result.recovery_ms_max),
        ] {
            findings.sample(measure, value);
        }
        findings.repetitions(&RECOVERIES, "recovery", &result.recovery_ms);
        findings.sink("sink", &result.sink_report);
        findings.table("What became of the campaigns, by kind", result.kind_rows());
        findings.detail(&result);
        findings.remark(result.lines(self));
        let problems = result.problems.len();
        if problems > 0 {
            // The data is what a bug report needs.
            note(&format!("the data is kept in {}", folder.keep().display()));
        }
        ensure!(problems == 0, "{problems} problems");
        Ok(())
    }
}

/// The sink of the scenario.
pub fn sink_options(options: &KillOptions, record: &Path) -> SinkOptions {
    SinkOptions { record: Some(record.to_owned()), faults: faults(options.run.seed), ..SinkOptions::default() }
}

/// Runs the scenario in `folder` against a sink that records to `record`. An error is a failure to run it; broken
/// invariants are in the result.
pub fn scenario(
    options: &KillOptions,
    engine: &Path,
    folder: &Path,
    mut sink: SinkProcess,
    record: &Path,
) -> anyhow::Result<KillResult> {
    let started = Instant::now();
    let mut power = options.power.then(|| Power::new(folder, options.run.seed)).transpose()?;
    let mut plan = ServerPlan::new(engine, folder, &connectors(options, sink.address.port()))?;
    plan.through = power.as_ref().map(Power::boot_of_ours);
    let mut books = Books::new(options, folder, record);
    let mut watch = UnknownWatch::new(options.unknown_per_kill());
    let mut server = set_up(options, &plan, folder)?;
    let mut life_rng = Rng::salted(options.run.seed, 10);
    let mut result = KillResult::default();
    let mut recoveries = Vec::new();
    let progress = bar(options.kills, "kills");
    while result.kills < options.kills {
        let life = Life::draw(options, &mut life_rng);
        books.check_after_start(server.api());
        watch.look(&books, result.kills, &mut sink, &mut result.problems)?;
        books.top_up(server.api())?;
        life.live(server, &mut books)?;
        result.kills += 1;
        lose(&mut power, &plan)?;
        while result.kills < options.kills && life_rng.chance(options.in_recovery) {
            let typical = median(&recoveries).max(20.0);
            kill_in_recovery(&plan, Duration::from_secs_f64(life_rng.unit() * typical / 1_000.0))?;
            result.kills += 1;
            result.kills_in_recovery += 1;
            lose(&mut power, &plan)?;
        }
        server = plan.start(READY).context("starting the engine after a kill")?;
        recoveries.push(server.recovery().as_secs_f64() * 1_000.0);
        progress.set_position(result.kills);
    }
    progress.finish_and_clear();
    books.check_after_start(server.api());
    watch.look(&books, result.kills, &mut sink, &mut result.problems)?;
    books.let_finish(server.api(), STANDSTILL)?;
    books.check_all(server.api());
    verify::imports(&books, server.api(), &mut result)?;
    let mails = crate::sink::record::read(record)?;
    let accounts = verify::accounts_of(&books, server.api(), &mails, &mut result.problems)?;
    end(server, &plan, &mut result)?;
    result.sink_report = sink.finish()?;
    result.sink = result.sink_report.counts.clone();
    result.recovery_ms_median = median(&recoveries);
    result.recovery_ms_max = recoveries.iter().copied().fold(0.0, f64::max);
    result.recovery_ms = recoveries;
    result.unknown_bound =
        result.kills * options.unknown_per_kill() + result.sink.dropped_after_dot + result.sink.dropped_in_body;
    result.power = power.map(|power| power.losses);
    books.finish(&mut result);
    verify::accounts(&accounts, &mails, &mut result);
    result.seconds = started.elapsed().as_secs_f64();
    Ok(result)
}

fn connectors(options: &KillOptions, relay_port: u16) -> Connectors {
    // A deferred message must not wait for minutes, or the scenario would.
    let mut relay_extra = "retry_schedule_seconds = [1, 2]\nretry_deadline_seconds = 600".to_owned();
    if options.power {
        relay_extra.push_str(&format!("\ncredits_batches = {CREDITS_BATCHES}"));
    }
    // Steps and launches are seconds ahead, and not five minutes.
    let server_extra = "schedule_safety_minutes = 0\n".to_owned();
    Connectors {
        relay_port: Some(relay_port),
        connections: options.connections,
        relay_extra,
        server_extra,
        null: false,
    }
}

/// The power fails, if this scenario is about that.
fn lose(power: &mut Option<Power>, plan: &ServerPlan) -> anyhow::Result<()> {
    match power {
        Some(power) => power.fail(&plan.data).map(drop).context("the power loss"),
        None => Ok(()),
    }
}

/// An engine with the base imported.
fn set_up(options: &KillOptions, plan: &ServerPlan, folder: &Path) -> anyhow::Result<Server> {
    let scene = Scene { server: plan.start(READY)?, plan: plan.clone(), folder: tempfile::TempDir::new_in(folder)? };
    scene.declare(Columns::Full)?;
    for (imported, contacts) in [(MANY, options.contacts), (FEW, options.few)] {
        let Imported { prefix, batch } = imported;
        let base = Base { contacts, seed: options.run.seed, prefix, batch, columns: Columns::Full };
        scene.import(&scene.generate(&base)?, contacts)?;
    }
    Ok(scene.server)
}

fn kill_in_recovery(plan: &ServerPlan, after: Duration) -> anyhow::Result<()> {
    let mut child = plan.spawn()?;
    std::thread::sleep(after);
    child.kill().context("killing the engine in its recovery")?;
    child.wait().context("reaping the engine")?;
    Ok(())
}

/// SIGTERM, then the engine's own check of the directory it leaves.
fn end(server: Server, plan: &ServerPlan, result: &mut KillResult) -> anyhow::Result<()> {
    if let Err(error) = server.terminate() {
        result.problems.push(format!("{error:#}"));
    }
    let check = plan.command().arg("check").arg("--data").arg(&plan.data).output();
    let check = check.context("running `estafette check`")?;
    if !check.status.success() {
        let (out, errors) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
        result.problems.push(format!("`estafette check` found: {out}{errors}"));
    }
    Ok(())
}

impl KillResult {
    fn kind_rows(&self) -> Vec<Vec<String>> {
        let head = cells(["kind", "campaigns", "runs", "messages accepted", "asked for under fire and acknowledged"]);
        let rows = self.kinds.iter().map(|(kind, of)| {
            let counts = [of.campaigns, of.runs, of.accepted, of.acknowledged].map(|count| grouped(count as f64));
            std::iter::once((*kind).to_owned()).chain(counts).collect()
        });
        std::iter::once(head).chain(rows).collect()
    }

    /// The accounts, for people.
    pub fn lines(&self, options: &KillOptions) -> String {
        let lines = [
            format!(
                "seed {}: {} kills, {} of them in a recovery, {:.0} s",
                options.run.seed, self.kills, self.kills_in_recovery, self.seconds
            ),
            format!(
                "{} campaigns of {} and {} contacts, {} actions under fire, {} imports acknowledged, {} cut off",
                self.campaigns,
                options.contacts,
                options.few,
                self.actions,
                self.imports_acknowledged,
                self.imports_cut_off
            ),
            format!(
                "audience {} = accepted {} + rejected {} + skipped {} + unknown {}",
                self.audience, self.accepted, self.rejected, self.skipped, self.unknown
            ),
            format!("sink recorded {}; {}", self.recorded, json!(self.sink)),
            format!("contacts twice: {}", self.twice),
            format!("contacts unaccounted: {}", self.unaccounted),
            format!(
                "unknown {} ≤ {} = {} kills × {} {} + {} answers withheld + {} connections cut in a body",
                self.unknown,
                self.unknown_bound,
                self.kills,
                options.unknown_per_kill(),
                if options.power { "credits" } else { "connections, a message each" },
                self.sink.dropped_after_dot,
                self.sink.dropped_in_body
            ),
            format!("recovery: median {:.0} ms, longest {:.0} ms", self.recovery_ms_median, self.recovery_ms_max),
        ];
        let mut text = lines.join("\n");
        if let Some(power) = &self.power {
            text.push_str(&format!("\npower lost: {}", json!(power)));
        }
        for problem in self.problems.iter().take(20) {
            text.push_str(&format!("\nPROBLEM: {problem}"));
        }
        text
    }
}
