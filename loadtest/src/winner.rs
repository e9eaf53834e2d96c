//! The driver `winner`: A/B splits whose truth is known, over many seeds: how often the better variant wins, and how often one of
//! two equal variants is called proven.
//!
//! Owns the engine, the sink and the readers. Every seed is a campaign with an audience of its own; all run at the same time
//! and send to one sink, out of whose mails simulated readers read. Invariants: 1. the engine learns of the truth only through
//! what readers do with the links of real mails; 2. which arm is the better one alternates, so that an engine that always
//! takes the first is right in half of the seeds; 3. what readers did is held against every campaign's own report.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::base::{Base, Columns};
use crate::findings::{Axes, Better, Findings, Measure, Scale};
use crate::message::TOPIC;
use crate::options::RunOptions;
use crate::proc::MachineWatch;
use crate::readers::count::Count;
use crate::readers::truth::{Taste, Truth};
use crate::readers::{Readers, ReadersOptions};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::Scene;
use crate::server::{Connectors, find_binary};
use crate::sink::SinkOptions;
use crate::sink::process::SinkProcess;
use crate::text::{bar, cells, grouped};

const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Args, Clone, Debug, Serialize)]
pub struct WinnerOptions {
    /// Campaigns of which one variant is better
    #[arg(long, default_value_t = 20)]
    pub seeds: u64,
    /// Campaigns whose variants are equal
    #[arg(long, default_value_t = 20)]
    pub equal: u64,
    /// Contacts of each campaign; half of them are the sample
    #[arg(long, default_value_t = 2_000)]
    pub contacts: u64,
    /// Share of people who click the worse variant, and both of equal ones
    #[arg(long, default_value_t = 0.06)]
    pub worse: f64,
    /// Share of people who click the better variant
    #[arg(long, default_value_t = 0.14)]
    pub better: f64,
    /// Share of mailboxes whose scanner follows every link
    #[arg(long, default_value_t = 0.1)]
    pub scanners: f64,
    /// Seconds from the sample to the deadline of the decision
    #[arg(long, default_value_t = 60)]
    pub decide_after_seconds: u64,
    /// Seconds after its own mail in which a contact's events count
    #[arg(long, default_value_t = 25)]
    pub window_seconds: u64,
    /// Looks until the deadline
    #[arg(long, default_value_t = 4)]
    pub looks: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// One campaign.
#[derive(Clone, Debug, Serialize)]
pub struct Decided {
    pub campaign: String,
    /// The arm that is better; nothing if they are equal.
    pub truth: Option<String>,
    pub winner: String,
    pub proven: bool,
    pub seconds: f64,
    /// Where the campaign's report and the readers' account disagree.
    pub differences: Vec<String>,
}

const RIGHT: Measure =
    Measure::promise("right_share", "of seeds", Better::Higher, "campaigns with a better variant in which it won");
const PROVEN: Measure = Measure::promise(
    "proven_share",
    "of seeds",
    Better::Higher,
    "campaigns with a better variant in which it was proven to be",
);
const FALSE: Measure = Measure::promise(
    "false_share",
    "of seeds",
    Better::Lower,
    "campaigns with equal variants of which one was called proven; a test at 5 % may err in one of twenty",
);
const DIFFERENCES: Measure = Measure::promise(
    "differences",
    "figures",
    Better::Lower,
    "figures of the campaigns' reports that differ from what the readers did",
);
const SECONDS: Measure = Measure::new("decided_after", "s", Better::Lower, "from a campaign's start to its decision");
const DECISIONS: Axes = Axes { title: "Time to the decision", x: "campaign", y: "seconds", scale: Scale::Linear };

impl Drive for WinnerOptions {
    const MEASURES: &'static [Measure] = &[RIGHT, PROVEN, FALSE, DIFFERENCES, SECONDS];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        ensure!(
            self.seeds + self.equal > 0 && self.worse <= self.better,
            "seeds, and a better variant that is not worse"
        );
        let engine = find_binary(self.run.engine.as_deref())?;
        let folder = tempfile::TempDir::new().context("making a folder")?;
        let mails = folder.path().join("mails");
        let mut sink = SinkProcess::start(&SinkOptions { mails: Some(mails.clone()), ..SinkOptions::default() })?;
        let connectors = Connectors {
            relay_port: Some(sink.address.port()),
            connections: 20,
            // Readers say from where they come; many people behind one address would be a machine.
            server_extra: "trusted_proxies = [\"127.0.0.1/32\"]\n".to_owned(),
            ..Connectors::default()
        };
        let scene = Scene::start(&engine, self.run.folder.as_deref(), &connectors)?;
        scene.declare(Columns::Full)?;
        let campaigns = self.campaigns(&scene)?;
        let public = std::fs::read_to_string(scene.plan.data.join("public.addr")).context("the public address")?;
        let options = ReadersOptions {
            mails,
            public: public.trim().to_owned(),
            truth: self.truth(&campaigns),
            ..ReadersOptions::default()
        };
        let readers = Readers::start(options)?;
        let watch = MachineWatch::start(&[scene.server.pid(), sink.pid()]);
        let mut decided = decide(&scene, &campaigns, findings, self.patience())?;
        let seen = sink.report()?;
        findings.sink("all campaigns", &seen);
        let count = readers.finish(seen.counts.accepted)?;
        compare(&scene, &campaigns, &mut decided, &count)?;
        findings.disturbance(watch.finish(0.0));
        findings.detail(&decided);
        tell(findings, &decided, &count);
        scene.server.terminate().context("ending the engine")
    }
}

/// A campaign that runs.
struct Campaign {
    name: String,
    id: String,
    better: Option<usize>,
}

/// Names of the two arms of a campaign; they begin the subjects, by which readers know them.
fn arms(campaign: &str) -> [String; 2] {
    ["a", "b"].map(|arm| format!("{campaign}-{arm}"))
}

impl WinnerOptions {
    /// Imports an audience for every campaign and creates it.
    fn campaigns(&self, scene: &Scene) -> anyhow::Result<Vec<Campaign>> {
        let all = self.seeds + self.equal;
        let progress = bar(all, "audiences");
        (0..all)
            .map(|at| {
                progress.set_position(at);
                let name = format!("seed{at:03}");
                let (prefix, seed) = (format!("w{at}x"), self.run.seed);
                let base =
                    Base { contacts: self.contacts, seed, prefix: &prefix, batch: &name, columns: Columns::Full };
                scene.import(&scene.generate(&base)?, self.contacts)?;
                let id = scene.api().create_campaign(&self.spec(&name))?;
                let better = (at < self.seeds).then_some(usize::from(at % 2 == 0));
                Ok(Campaign { name, id, better })
            })
            .collect()
    }

    fn spec(&self, name: &str) -> Value {
        let variants = arms(name).map(|arm| json!({"name": arm, "subject": format!("{arm} is here")}));
        json!({
            "name": name,
            "kind": "ab_split",
            "audience": {"segment": format!("batch = \"{name}\"")},
            "message": {
                "channel": "email", "connector": "relay", "topic": TOPIC, "from": "News <news@example.test>",
                "subject": "the same",
                "html": "<p>Hello {{ contact.first_name }}, <a href=\"https://shop.example.test/new\">have a look</a>. \
                         <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></p>",
            },
            "variants": variants,
            "test": {
                "sample": "50%", "winner_by": "clicks", "decide_after": format!("{}s", self.decide_after_seconds),
                "window": format!("{}s", self.window_seconds), "looks": self.looks, "min_delivered": 50, "min_events": 5,
            },
        })
    }

    fn truth(&self, campaigns: &[Campaign]) -> Truth {
        let taste = |campaign: &Campaign, arm: usize| {
            let clicks = if campaign.better == Some(arm) { self.better } else { self.worse };
            let name = arms(&campaign.name)[arm].clone();
            Taste { subject: format!("{name} "), name, opens: (clicks * 2.0).min(1.0), clicks, ..Taste::default() }
        };
        let mut truth = Truth { seed: self.run.seed, ..Truth::default() };
        truth.variants = campaigns.iter().flat_map(|campaign| [taste(campaign, 0), taste(campaign, 1)]).collect();
        truth.machines.scanners = self.scanners;
        truth
    }

    /// What a decision may take, sending included.
    fn patience(&self) -> Duration {
        Duration::from_secs(self.decide_after_seconds * 3 + 120)
    }
}

/// Starts every campaign and waits until all are decided and finished.
fn decide(
    scene: &Scene,
    campaigns: &[Campaign],
    findings: &Findings,
    patience: Duration,
) -> anyhow::Result<Vec<Decided>> {
    let began = Instant::now();
    for campaign in campaigns {
        scene.api().act(&campaign.id, "start")?;
    }
    let progress = bar(campaigns.len() as u64, "decisions");
    let mut decided: Vec<Option<Decided>> = vec![None; campaigns.len()];
    loop {
        let mut open = 0;
        for (campaign, decided) in campaigns.iter().zip(&mut decided) {
            let report = scene.api().report(&campaign.id)?;
            ensure!(report.ledger.holds(), "{}: the ledger does not balance: {:?}", campaign.name, report.ledger);
            let decision = report.rest.get("tests").map(|tests| tests[0]["decision"].clone()).unwrap_or_default();
            if decided.is_none() && !decision.is_null() {
                let seconds = began.elapsed().as_secs_f64();
                findings.sample(&SECONDS, seconds);
                *decided = Some(Decided {
                    campaign: campaign.name.clone(),
                    truth: campaign.better.map(|arm| arms(&campaign.name)[arm].clone()),
                    winner: decision["winner"].as_str().unwrap_or("nobody").to_owned(),
                    proven: decision["basis"] == "proven",
                    seconds,
                    differences: Vec::new(),
                });
            }
            open += u64::from(decided.is_none() || report.state != "finished");
        }
        progress.set_position(campaigns.len() as u64 - open);
        if open == 0 {
            break;
        }
        if began.elapsed() > patience {
            bail!("{open} of {} campaigns are undecided after {patience:?}", campaigns.len());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    progress.finish_and_clear();
    Ok(decided.into_iter().flatten().collect())
}

/// Holds what the readers did against each campaign's own report.
fn compare(scene: &Scene, campaigns: &[Campaign], decided: &mut [Decided], count: &Count) -> anyhow::Result<()> {
    for (campaign, decided) in campaigns.iter().zip(decided) {
        let of = arms(&campaign.name);
        let variants = count.variants.iter().filter(|(name, _)| of.contains(name));
        let own = Count { variants: variants.map(|(k, v)| (k.clone(), v.clone())).collect(), ..Count::default() };
        let report = Value::Object(scene.api().report(&campaign.id)?.rest.into_iter().collect());
        decided.differences = own.differences(&report, false);
    }
    Ok(())
}

fn tell(findings: &Findings, decided: &[Decided], count: &Count) {
    let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
    let (unequal, equal): (Vec<&Decided>, Vec<&Decided>) = decided.iter().partition(|one| one.truth.is_some());
    let right = |one: &&&Decided| one.truth.as_deref() == Some(&one.winner);
    if !unequal.is_empty() {
        findings.sample(&RIGHT, share(unequal.iter().filter(right).count(), unequal.len()));
        findings.sample(&PROVEN, share(unequal.iter().filter(right).filter(|one| one.proven).count(), unequal.len()));
    }
    if !equal.is_empty() {
        findings.sample(&FALSE, share(equal.iter().filter(|one| one.proven).count(), equal.len()));
    }
    let differences: Vec<&String> = decided.iter().flat_map(|one| &one.differences).collect();
    findings.sample(&DIFFERENCES, (differences.len() as u64 + count.duplicates + count.failed) as f64);
    for difference in differences.iter().take(10) {
        findings.remark(format!("differs: {difference}"));
    }
    let row = |name: &str, of: &[&Decided]| {
        let (won, proven) = (of.iter().filter(right).count(), of.iter().filter(|one| one.proven).count());
        let won = if of.iter().any(|one| one.truth.is_some()) { won.to_string() } else { "–".to_owned() };
        cells([name, &of.len().to_string(), &won, &proven.to_string()])
    };
    findings.table(
        "Decisions against the truth",
        vec![
            cells(["campaigns", "seeds", "the better one won", "called proven"]),
            row("one variant is better", &unequal),
            row("both are equal", &equal),
        ],
    );
    findings.repetitions(&DECISIONS, "decided after", &decided.iter().map(|one| one.seconds).collect::<Vec<_>>());
    findings.remark(format!(
        "readers read {} mails in {} requests; {} figures of the reports differ from what they did",
        grouped(count.mails as f64),
        grouped(count.requests as f64),
        differences.len()
    ));
}
