//! The driver `winner`: A/B splits whose truth is known, over many seeds: how often the better variant wins, and how often one of
//! two equal variants is called proven.
//!
//! Owns the engine, the sink and the readers. Every seed is a campaign with an audience of its own; all run at the same time
//! and send to one sink, out of whose mails simulated readers read. Invariants: 1. the engine learns of the truth only through
//! what readers do with the links of real mails; 2. which arm is the better one alternates, so that an engine that always
//! takes the first is right in half of the seeds; 3. what readers did is held against every campaign's own report and its
//! metrics; 4. two arms that end exactly equal wait for a person, as the engine says: the harness chooses over the API as a
//! person would, and such a campaign counts as decided by neither.

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
use crate::prometheus::sum_with;
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
    /// Its arms were exactly equal, and the harness chose, as a person has to.
    pub tied: bool,
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
    "figures of the campaigns' reports, and of their metrics, that differ from what the readers did",
);
const TIES: Measure = Measure::new(
    "ties",
    "campaigns",
    Better::Neither,
    "campaigns whose arms ended exactly equal, so that the engine waited for a person and the harness chose",
);
const SECONDS: Measure = Measure::new("decided_after", "s", Better::Lower, "from a campaign's start to its decision");
const DECISIONS: Axes = Axes { title: "Time to the decision", x: "campaign", y: "seconds", scale: Scale::Linear };

impl Drive for WinnerOptions {
    const MEASURES: &'static [Measure] = &[RIGHT, PROVEN, FALSE, DIFFERENCES, TIES, SECONDS];

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
        compare(&scene, &campaigns, &mut decided, &count, findings)?;
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

/// What a look at a campaign's test found.
#[derive(Debug, PartialEq)]
enum Seen {
    Undecided,
    /// These arms are exactly equal: a person must choose.
    Tied,
    Decided {
        winner: String,
        proven: bool,
        by_person: bool,
    },
}

/// Reads the first test of a report; whatever else it waits a person for than a tie is an error, because no data of this
/// scenario leads there.
fn seen(report: &Value) -> anyhow::Result<Seen> {
    let test = &report["tests"][0];
    let decision = &test["decision"];
    if !decision.is_null() {
        return Ok(Seen::Decided {
            winner: decision["winner"].as_str().unwrap_or("nobody").to_owned(),
            proven: decision["basis"] == "proven",
            by_person: decision["basis"] == "person",
        });
    }
    match test["waits_for_person"].as_str() {
        None => Ok(Seen::Undecided),
        Some(why) if why.ends_with("exactly equal") => Ok(Seen::Tied),
        Some(why) => bail!("it waits for a person, because {why}: {test}"),
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
        let mut open = Vec::new();
        for (campaign, decided) in campaigns.iter().zip(&mut decided) {
            let report = scene.api().report(&campaign.id)?;
            ensure!(report.ledger.holds(), "{}: the ledger does not balance: {:?}", campaign.name, report.ledger);
            let state = report.state.clone();
            if decided.is_none() {
                let report = Value::Object(report.rest.into_iter().collect());
                *decided = look(scene, campaign, &report, began).with_context(|| campaign.name.clone())?;
                decided.iter().for_each(|decided| findings.sample(&SECONDS, decided.seconds));
            }
            if decided.is_none() || state != "finished" {
                let what = if decided.is_some() { "decided" } else { "undecided" };
                open.push(format!("{} ({what}, {state})", campaign.name));
            }
        }
        progress.set_position((campaigns.len() - open.len()) as u64);
        if open.is_empty() {
            break;
        }
        if began.elapsed() > patience {
            bail!(
                "{} of {} campaigns are not over after {patience:?}: {}",
                open.len(),
                campaigns.len(),
                open.join(", ")
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
    progress.finish_and_clear();
    Ok(decided.into_iter().flatten().collect())
}

/// The campaign's decision, if there is one. A tie is decided here as a person would, by naming one of the equal variants, and
/// is seen as decided at the next look.
fn look(scene: &Scene, campaign: &Campaign, report: &Value, began: Instant) -> anyhow::Result<Option<Decided>> {
    let (winner, proven, tied) = match seen(report)? {
        Seen::Undecided => return Ok(None),
        Seen::Tied => {
            scene
                .api()
                .choose_winner(&campaign.id, &arms(&campaign.name)[0])
                .context("choosing between equal variants")?;
            return Ok(None);
        }
        Seen::Decided { winner, proven, by_person } => (winner, proven, by_person),
    };
    Ok(Some(Decided {
        campaign: campaign.name.clone(),
        truth: campaign.better.map(|arm| arms(&campaign.name)[arm].clone()),
        winner,
        proven,
        tied,
        seconds: began.elapsed().as_secs_f64(),
        differences: Vec::new(),
    }))
}

/// Holds what the readers did against each campaign's own report, and against its metrics.
fn compare(
    scene: &Scene,
    campaigns: &[Campaign],
    decided: &mut [Decided],
    count: &Count,
    findings: &Findings,
) -> anyhow::Result<()> {
    let metrics = scene.api().metrics()?;
    let mut shown = 0;
    for (campaign, decided) in campaigns.iter().zip(decided) {
        let of = arms(&campaign.name);
        let variants = count.variants.iter().filter(|(name, _)| of.contains(name));
        let own = Count { variants: variants.map(|(k, v)| (k.clone(), v.clone())).collect(), ..Count::default() };
        let report = Value::Object(scene.api().report(&campaign.id)?.rest.into_iter().collect());
        decided.differences = own.differences(&report, false);
        // A scrape has room for so many series only; which campaigns it shows by variant is its choice.
        if sum_with(&metrics, "estafette_campaign_message_contacts", &[("variant", of[0].as_str())]).is_some() {
            shown += 1;
            decided.differences.extend(own.differences_from_metrics(&metrics));
        }
    }
    ensure!(shown > 0, "the metrics show no campaign by variant");
    findings.remark(format!(
        "metrics by variant, which a scrape had of {shown} of {} campaigns, were held against the readers' count",
        campaigns.len()
    ));
    Ok(())
}

fn tell(findings: &Findings, decided: &[Decided], count: &Count) {
    let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
    let (unequal, equal): (Vec<&Decided>, Vec<&Decided>) = decided.iter().partition(|one| one.truth.is_some());
    // Where a person had to choose the engine was not right, whoever won.
    let right = |one: &&&Decided| !one.tied && one.truth.as_deref() == Some(&one.winner);
    let ties: Vec<&str> = decided.iter().filter(|one| one.tied).map(|one| one.campaign.as_str()).collect();
    findings.sample(&TIES, ties.len() as f64);
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
        let tied = of.iter().filter(|one| one.tied).count();
        cells([name, &of.len().to_string(), &won, &proven.to_string(), &tied.to_string()])
    };
    findings.table(
        "Decisions against the truth",
        vec![
            cells(["campaigns", "seeds", "the better one won", "called proven", "exactly equal"]),
            row("one variant is better", &unequal),
            row("both are equal", &equal),
        ],
    );
    findings.repetitions(&DECISIONS, "decided after", &decided.iter().map(|one| one.seconds).collect::<Vec<_>>());
    if !ties.is_empty() {
        findings.remark(format!(
            "variants of {} ended exactly equal: the harness chose, as a person must",
            ties.join(", ")
        ));
    }
    findings.remark(format!(
        "readers read {} mails in {} requests; {} figures of reports and metrics differ from what they did",
        grouped(count.mails as f64),
        grouped(count.requests as f64),
        differences.len()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(fields: &Value) -> Value {
        json!({"tests": [fields]})
    }

    #[test]
    fn a_tie_is_for_a_person_and_any_other_reason_is_an_error() {
        assert_eq!(seen(&test(&json!({"decision": null, "waits_for_person": null}))).unwrap(), Seen::Undecided);
        assert_eq!(seen(&json!({})).unwrap(), Seen::Undecided, "before the run began");
        let tie = json!({"decision": null, "waits_for_person": "a and b are exactly equal"});
        assert_eq!(seen(&test(&tie)).unwrap(), Seen::Tied);
        let broken = json!({"waits_for_person": "the sizes of the sample are not what the split promised"});
        let said = format!("{:#}", seen(&test(&broken)).unwrap_err());
        assert!(said.contains("the sizes of the sample"), "{said}");
    }

    #[test]
    fn who_decided_is_told_apart() {
        let decided = |basis: &str| seen(&test(&json!({"decision": {"winner": "a", "basis": basis}}))).unwrap();
        let of = |proven, by_person| Seen::Decided { winner: "a".to_owned(), proven, by_person };
        assert_eq!(decided("proven"), of(true, false));
        assert_eq!(decided("leader"), of(false, false));
        assert_eq!(decided("person"), of(false, true));
    }
}
