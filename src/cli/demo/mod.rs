//! `estafette demo`: a server in this process, an example base, a campaign by SMTP to the embedded inbox.
//!
//! - [`campaigns`]: what is sent; [`readers`]: who opens and clicks; [`truth`]: how often the better variant wins.
//!
//! Owns a temporary data directory, which is deleted at the end. The stages talk to the server over HTTP as any client does.

pub mod campaigns;
mod readers;
mod truth;

use std::io::Write as _;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value as Json, json};

use self::campaigns::DemoKind;
use super::client::{Client, part};
use super::example_base::{ExampleBase, generate};
use super::host::Host;
use super::log::LogFormat;
use super::serve::Running;
use super::{Exit, imports, log, output, report, sequences};
use crate::api::keys::new_key;
use crate::config::Config;
use crate::metrics;

#[derive(Debug, Args)]
pub struct Demo {
    /// Which campaign goes out.
    #[arg(value_enum, default_value_t = DemoKind::AbSplit)]
    pub kind: DemoKind,
    /// End when the campaign is finished.
    #[arg(long)]
    pub once: bool,
    /// Contacts of the example base.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=5_000_000))]
    pub contacts: u32,
    /// Seed of the example base and its readers: the same seed gives the same base and the same taste.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Run the A/B split once for each of so many seeds, from --seed on, and say how often the better variant won.
    #[arg(long, requires = "once", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub seeds: Option<u32>,
}

const SEGMENT: &str = "age >= 18 and plan in (\"basic\", \"pro\") or tags has \"vip\"";

const CONFIG: &str = r#"
[server]
# dated starts of the demo need no time to be taken back
schedule_safety_minutes = 0
api_listen = "127.0.0.1:0"
public_listen = "127.0.0.1:0"
inbox_listen = "127.0.0.1:0"
# the demo's readers say from where they come
trusted_proxies = ["127.0.0.1/32"]

[[connectors]]
name = "inbox"
kind = "inbox"
mails_max = 50000
"#;

pub(super) fn demo(host: &dyn Host, options: &Demo, as_json: bool) -> anyhow::Result<Exit> {
    log::start("warn", LogFormat::Text);
    let recorder = metrics::install().context("metrics")?;
    if let Some(seeds) = options.seeds {
        return truth::demo(host, options, seeds, &recorder, as_json);
    }
    let base = ExampleBase { contacts: options.contacts, seed: options.seed };
    let Some(report) = once(host, options.kind, base, &recorder, !options.once, as_json)? else {
        return Ok(Exit::Done);
    };
    Ok(if report["ledger"]["balanced"] == true { Exit::Done } else { Exit::ProblemsFound })
}

/// One campaign on a base of its own, from the import to the report; `None` if somebody ended it before.
fn once(
    host: &dyn Host,
    kind: DemoKind,
    base: ExampleBase,
    recorder: &PrometheusHandle,
    stay: bool,
    as_json: bool,
) -> anyhow::Result<Option<Json>> {
    let directory = tempfile::Builder::new().prefix("estafette-demo-").tempdir().context("a temporary directory")?;
    let config = Config::parse(CONFIG, std::path::Path::new("(demo)"))?;
    let key = new_key()?;
    actix_web::rt::System::new().block_on(async {
        let data = directory.path().join("data");
        let running = Running::start(host, config, &data, false, Some(&key), recorder.clone())?;
        let (url, file) = (running.api_url.clone(), directory.path().join("people.csv"));
        let inbox = running.inbox_url.clone().unwrap_or_default();
        let stages = tokio::task::spawn_blocking({
            let key = key.clone();
            move || stages(&Client::new(&url, Some(&key))?, kind, base, &file, &inbox)
        });
        // Ctrl-C ends it at any stage
        let finished = tokio::select! {
            done = stages => Some(done.context("the demo's stages")?),
            stopped = tokio::signal::ctrl_c() => { stopped?; None }
        };
        let result = match finished {
            None => Ok(None),
            Some(Err(error)) => Err(error),
            Some(Ok(report)) => {
                if as_json {
                    output::json(&report)?;
                }
                if stay {
                    stay_open(&running, &key).await?;
                }
                Ok(Some(report))
            }
        };
        running.stop().await?;
        result
    })
}

async fn stay_open(running: &Running, key: &str) -> anyhow::Result<()> {
    if let Some(inbox) = &running.inbox_url {
        output::note(&format!("\nThe mails are in the inbox: {inbox}/"));
    }
    output::note("Open one and click a link, or unsubscribe, then look at the figures:");
    output::note(&format!("  ESTAFETTE_URL={} ESTAFETTE_KEY={key} estafette report demo", running.api_url));
    output::note("Ctrl-C ends the demo. Nothing left this machine.");
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// Everything up to the finished campaign; answers its report.
fn stages(
    client: &Client,
    kind: DemoKind,
    base: ExampleBase,
    file: &std::path::Path,
    inbox: &str,
) -> anyhow::Result<Json> {
    import(client, base, file)?;
    opt_outs(client, base)?;
    segment(client)?;
    let created = client.send_text(reqwest::Method::POST, "/v1/campaigns", "application/toml", kind.spec())?;
    let problems = created["problems"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(problems == 0, "the demo's own campaign has problems: {}", created["problems"]);
    audience(client)?;
    send(client, kind, base.seed, inbox)
}

fn stage(number: u32, text: &str) {
    output::note(&format!("\n{number}. {text}"));
}

fn import(client: &Client, base: ExampleBase, file: &std::path::Path) -> anyhow::Result<()> {
    stage(
        1,
        &format!("Import: {} invented people, some rows broken on purpose", output::grouped(u64::from(base.contacts))),
    );
    let mut writer = std::io::BufWriter::new(std::fs::File::create(file)?);
    generate(base, &mut writer)?;
    writer.flush()?;
    let started = Instant::now();
    let query = [("key", "id"), ("list", "everyone"), ("subscribe", "email:news"), ("file_name", "people.csv")];
    let report = imports::upload(client, file, query.map(|(k, v)| (k, v.to_owned())).to_vec())?;
    let report = imports::follow(client, report)?;
    anyhow::ensure!(report["state"] == "finished", "the import failed: {}", output::text(&report["error"]));
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    let rows = count("accepted") + count("merged") + count("rejected");
    output::note(&format!(
        "   {} accepted, {} merged, {} rejected with line and reason; {} rows/s",
        output::grouped(count("accepted")),
        output::grouped(count("merged")),
        output::grouped(count("rejected")),
        output::grouped((rows as f64 / started.elapsed().as_secs_f64().max(0.001)) as u64)
    ));
    Ok(())
}

/// Some had unsubscribed, some are suppressed.
fn opt_outs(client: &Client, base: ExampleBase) -> anyhow::Result<()> {
    let keys = |every: u32, offset: u32| {
        (1..=base.contacts).skip(offset as usize).step_by(every as usize).map(|n| format!("c{n:06}"))
    };
    let entries: Vec<Json> = keys(500, 7).map(|key| json!({"contact": key, "reason": "manual"})).collect();
    let mut suppressed = 0;
    for entry in &entries {
        // rows that were rejected have no contact
        if client.post("/v1/suppressions", entry).is_ok() {
            suppressed += 1;
        }
    }
    let mut unsubscribed = 0;
    for key in keys(base.contacts.div_ceil(100).max(1), 3) {
        let body = json!({"consent": {"email:news": "unsubscribed"}, "consent_source": "demo"});
        if client.send_json(reqwest::Method::PATCH, &format!("/v1/contacts/{}", part(&key)), &body).is_ok() {
            unsubscribed += 1;
        }
    }
    output::note(&format!("   {unsubscribed} of them have unsubscribed since, {suppressed} are suppressed"));
    Ok(())
}

fn segment(client: &Client) -> anyhow::Result<()> {
    stage(2, &format!("Segment: {SEGMENT}"));
    client.post("/v1/segments", &json!({"name": "customers", "expression": SEGMENT}))?;
    let found = client.post("/v1/segments/preview", &json!({"expression": SEGMENT, "sample": 0}))?;
    let (count, took) = (found["count"].as_u64().unwrap_or(0), found["took_ms"].as_f64().unwrap_or(0.0));
    output::note(&format!("   {} contacts match, counted in {took:.2} ms", output::grouped(count)));
    Ok(())
}

fn audience(client: &Client) -> anyhow::Result<()> {
    stage(3, "Audience: who will get it, and why the others will not");
    let found = client.post("/v1/campaigns/demo/audience", &json!({}))?;
    let line = |name: &str, value: &Json| {
        output::note(&format!("   {name:<24}{:>10}", output::grouped(value.as_u64().unwrap_or(0))));
    };
    line("matched", &found["matched"]);
    for (reason, contacts) in found["skipped"].as_object().into_iter().flatten() {
        line(&format!("− {reason}"), contacts);
    }
    line("= will be sent to", &found["final"]);
    Ok(())
}

fn send(client: &Client, kind: DemoKind, seed: u64, inbox: &str) -> anyhow::Result<Json> {
    stage(4, kind.says());
    let started = Instant::now();
    match kind {
        DemoKind::Sequence => steps(client, seed, inbox)?,
        _ => {
            client.post("/v1/campaigns/demo/start", &json!({}))?;
        }
    }
    if kind == DemoKind::AbSplit {
        test(client, seed, inbox)?;
    }
    let finished = report::follow(client, "demo", |_| {})?;
    let accepted = finished["ledger"]["accepted"].as_u64().unwrap_or(0);
    let seconds = started.elapsed().as_secs_f64();
    let pace = match kind {
        DemoKind::AbSplit | DemoKind::Sequence => String::new(),
        DemoKind::Single | DemoKind::MultiSegment => {
            format!(": {}/s", output::grouped((accepted as f64 / seconds.max(0.001)) as u64))
        }
    };
    output::note(&format!("   {} messages in {seconds:.1} s{pace}", output::grouped(accepted)));
    stage(
        if matches!(kind, DemoKind::AbSplit | DemoKind::Sequence) { 6 } else { 5 },
        "Ledger: what happened, contact by contact",
    );
    let steps = sequences::steps(&finished["steps"]);
    if !steps.is_empty() {
        output::note(&steps);
    }
    let messages = report::messages(&finished);
    if !messages.is_empty() {
        output::note(&messages);
    }
    output::note(&report::ledger(&finished["ledger"]));
    Ok(finished)
}

/// The sequence is published; its first mail is read, and the split sees who clicked.
fn steps(client: &Client, seed: u64, inbox: &str) -> anyhow::Result<()> {
    let tested = client.post("/v1/campaigns/demo/test-start", &json!({}))?;
    let seconds = tested["seconds"].as_f64().unwrap_or(0.0);
    output::note(&format!("   the start takes {seconds:.3} s: steps are further apart than that"));
    let published = client.post("/v1/campaigns/demo/publish", &json!({"confirm": true}))?;
    output::note(&sequences::starts(&published));
    loop {
        let report = client.get("/v1/campaigns/demo/report", &[])?;
        let (reached, busy) = (&report["steps"][0]["reached"], &report["ledger"]);
        let sent = reached.as_u64() > Some(0) && busy["pending"] == 0 && busy["claimed"] == 0;
        if sent || report::is_over(&report) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    stage(5, "Readers: they open and click over the real tracking endpoints, with a taste that is known");
    let done = readers::read_all(inbox, &campaigns::SEQUENCE_TASTES, seed)?;
    output::note(&format!(
        "   {} mails read, {} opened, {} clicked; the split at its hour sorts them",
        output::grouped(done.read as u64),
        output::grouped(done.opened as u64),
        output::grouped(done.clicked as u64)
    ));
    Ok(())
}

/// The sample is read by readers whose taste is known; the engine must find out.
fn test(client: &Client, seed: u64, inbox: &str) -> anyhow::Result<()> {
    let sampled = wait_for(client, |test, report| {
        let arms = test["arms"].as_array().into_iter().flatten();
        let sent: u64 = arms.map(|arm| arm["contacts"].as_u64().unwrap_or(0)).sum();
        let busy = report["ledger"]["claimed"].as_u64().unwrap_or(0);
        let waiting = report["ledger"]["pending"].as_u64() == report["ledger"]["pending_held"].as_u64();
        sent > 0 && busy == 0 && waiting
    })?;
    let arms = sampled["arms"].as_array().map_or(0, Vec::len);
    output::note(&format!(
        "   the sample is out: {arms} variants; {} contacts wait for the winner",
        output::grouped(sampled["waiting"].as_u64().unwrap_or(0))
    ));
    let tastes = campaigns::TASTES;
    stage(5, "Readers: they open and click over the real tracking endpoints, with a taste that is known");
    let truth = |name: &str, taste: &readers::Taste| {
        format!("{name} is clicked by {:.0} % and opened by {:.0} %", taste.clicks * 100.0, taste.opens * 100.0)
    };
    output::note(&format!("   the truth: {}; {}", truth("A", &tastes[0]), truth("B", &tastes[1])));
    let done = readers::read_all(inbox, &tastes, seed)?;
    output::note(&format!(
        "   {} mails read, {} opened, {} clicked",
        output::grouped(done.read as u64),
        output::grouped(done.opened as u64),
        output::grouped(done.clicked as u64)
    ));
    let decided = wait_for(client, |test, _| !test["decision"].is_null() || !test["waits_for_person"].is_null())?;
    if let Some(why) = decided["waits_for_person"].as_str() {
        output::note(&format!("   a person must choose, because {why}: the demo chooses A"));
        client.post("/v1/campaigns/demo/choose-winner", &json!({"variant": "A", "by": "the demo"}))?;
    }
    output::note(&report::tests(&json!({"tests": [wait_for(client, |test, _| !test["decision"].is_null())?]})));
    Ok(())
}

/// Waits until the test of the demo is as wanted, or its run has ended; answers the test.
fn wait_for(client: &Client, wanted: impl Fn(&Json, &Json) -> bool) -> anyhow::Result<Json> {
    loop {
        let report = client.get("/v1/campaigns/demo/report", &[])?;
        let test = report["tests"][0].clone();
        if wanted(&test, &report) || report::is_over(&report) {
            return Ok(test);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
