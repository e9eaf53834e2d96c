//! `estafette demo`: a server in this process, an example base, a campaign by SMTP to the embedded inbox.
//!
//! Owns a temporary data directory, which is deleted at the end. The stages talk to the server over HTTP as any client does.

use std::io::Write as _;
use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value as Json, json};

use super::args::Demo;
use super::client::{Client, part};
use super::example_base::{ExampleBase, generate};
use super::host::Host;
use super::serve::Running;
use super::{Exit, imports, output, report, start_log};
use crate::api::keys::new_key;
use crate::config::Config;
use crate::metrics;

const SEGMENT: &str = "age >= 18 and plan in (\"basic\", \"pro\") or tags has \"vip\"";

const CAMPAIGN: &str = r#"
name = "demo"
kind = "single"

[audience]
segment = 'in segment "customers"'

[message]
channel = "email"
connector = "inbox"
topic = "news"
from = "Estafette demo <demo@example.test>"
subject = "Hello {{ contact.first_name | default('there') }}, news from {{ contact.city }}"
html = """
<h1>Hello {{ contact.first_name | default('there') }}</h1>
<p>You have <b>{{ contact.points }}</b> points.</p>
{% if contact.plan == "pro" %}<p>As a pro you see it first: <a href="https://shop.example.test/pro">the new collection</a>.</p>{% endif %}
<p><a href="https://shop.example.test/offer">Your offer</a> ·
<a href="https://shop.example.test/events?city={{ contact.city | urlencode }}">events near you</a></p>
<p><a href="{{ unsubscribe_url }}">Unsubscribe</a> · <a href="{{ view_url }}">view in browser</a></p>
"""
text = """
Hello {{ contact.first_name | default('there') }},

you have {{ contact.points }} points. Your offer: https://shop.example.test/offer

Unsubscribe: {{ unsubscribe_url }}
"""
"#;

const CONFIG: &str =
    "[server]\napi_listen = \"127.0.0.1:0\"\npublic_listen = \"127.0.0.1:0\"\ninbox_listen = \"127.0.0.1:0\"\n";

pub(super) fn demo(host: &dyn Host, options: &Demo, as_json: bool) -> anyhow::Result<Exit> {
    start_log("warn", false);
    let directory = tempfile::Builder::new().prefix("estafette-demo-").tempdir().context("a temporary directory")?;
    let config = Config::parse(CONFIG, std::path::Path::new("(demo)"))?;
    let recorder = metrics::install().context("metrics")?;
    let key = new_key()?;
    let base = ExampleBase { contacts: options.contacts, seed: options.seed };
    actix_web::rt::System::new().block_on(async {
        let running = Running::start(host, config, &directory.path().join("data"), false, Some(&key), recorder)?;
        let (url, file) = (running.api_url.clone(), directory.path().join("people.csv"));
        let stages = tokio::task::spawn_blocking({
            let key = key.clone();
            move || stages(&Client::new(&url, Some(&key))?, base, &file)
        });
        // Ctrl-C ends it at any stage
        let finished = tokio::select! {
            done = stages => Some(done.context("the demo's stages")?),
            stopped = tokio::signal::ctrl_c() => { stopped?; None }
        };
        let result = match finished {
            None => Ok(Exit::Done),
            Some(Err(error)) => Err(error),
            Some(Ok(report)) => {
                if as_json {
                    output::json(&report)?;
                }
                if !options.once {
                    stay_open(&running, &key).await?;
                }
                Ok(if report["ledger"]["balanced"] == true { Exit::Done } else { Exit::ProblemsFound })
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
fn stages(client: &Client, base: ExampleBase, file: &std::path::Path) -> anyhow::Result<Json> {
    import(client, base, file)?;
    opt_outs(client, base)?;
    segment(client)?;
    let created = client.send_text(reqwest::Method::POST, "/v1/campaigns", "application/toml", CAMPAIGN.to_owned())?;
    let problems = created["problems"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(problems == 0, "the demo's own campaign has problems: {}", created["problems"]);
    audience(client)?;
    send(client)
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

fn send(client: &Client) -> anyhow::Result<Json> {
    stage(4, "Send: personalised HTML and text with tracked links, by SMTP to the embedded inbox");
    let started = Instant::now();
    client.post("/v1/campaigns/demo/start", &json!({}))?;
    let finished = report::follow(client, "demo", |_| {})?;
    let accepted = finished["ledger"]["accepted"].as_u64().unwrap_or(0);
    let seconds = started.elapsed().as_secs_f64();
    output::note(&format!(
        "   {} messages in {seconds:.1} s: {}/s",
        output::grouped(accepted),
        output::grouped((accepted as f64 / seconds.max(0.001)) as u64)
    ));
    stage(5, "Ledger: what happened, contact by contact");
    output::note(&report::ledger(&finished["ledger"]));
    Ok(finished)
}
