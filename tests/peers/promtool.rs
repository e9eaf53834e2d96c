//! `/metrics` against Prometheus itself: its checker of the text, and its server scraping a running engine.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use loadtest::base::{Base, Columns};
use loadtest::message::small_campaign;
use loadtest::scene::{Scene, everybody};
use loadtest::server::Connectors;
use serde_json::Value;

use crate::support::{await_some, free_port, spawn};

const INSTALL: &str = "tests/all --install-only";

/// An engine that has imported, and sent one campaign to a connector that accepts everything.
fn scene() -> Scene {
    let engine = Path::new(env!("CARGO_BIN_EXE_estafette"));
    let connectors = Connectors { null: true, ..Connectors::default() };
    let scene = Scene::start(engine, None, &connectors).expect("an engine");
    scene.declare(Columns::Full).expect("attributes");
    let base = Base { contacts: 500, seed: 3, prefix: "c", batch: "base", columns: Columns::Full };
    let file = scene.generate(&base).expect("a file");
    scene.import(&file, 500).expect("an import");
    let campaign = small_campaign("scraped", "null", &everybody(), None);
    scene.run_campaign(&campaign, 500, "sending").expect("a campaign");
    scene
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let text = scene().api().metrics().expect("figures");
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = spawn(&mut command, INSTALL);
    promtool.0.stdin.take().expect("its input").write_all(text.as_bytes()).expect("it reads");
    let mut said = String::new();
    promtool.0.stdout.take().expect("its output").read_to_string(&mut said).expect("its words");
    promtool.0.stderr.take().expect("its complaints").read_to_string(&mut said).expect("its complaints");
    let status = promtool.0.wait().expect("it ends");
    assert!(status.success() && said.trim().is_empty(), "{status}:\n{said}\nof\n{text}");
}

/// The value of an instant query, if there is one.
fn query(http: &reqwest::blocking::Client, prometheus: SocketAddr, expression: &str) -> Option<f64> {
    let url = format!("http://{prometheus}/api/v1/query");
    let text = http.get(url).query(&[("query", expression)]).send().ok()?.text().ok()?;
    let answer: Value = serde_json::from_str(&text).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[test]
fn a_prometheus_scrapes_the_engine() {
    let scene = scene();
    let api = std::fs::read_to_string(scene.plan.data.join("api.addr")).expect("the engine's address");
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: estafette\n    authorization:\n      \
         credentials: {}\n    static_configs:\n      - targets: ['{}']\n",
        loadtest::server::ADMIN_KEY,
        api.trim()
    );
    std::fs::write(&config, text).expect("its configuration");
    let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().expect("an address");
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _prometheus = spawn(&mut command, INSTALL);
    let http =
        reqwest::blocking::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().expect("a client");
    let up = await_some("a first scrape", || query(&http, address, "up{job=\"estafette\"}").filter(|up| *up == 1.0));
    assert_eq!(up, 1.0, "Prometheus takes what it scrapes");
    let sent = "estafette_messages_total{connector=\"null\",outcome=\"accepted\"}";
    assert_eq!(await_some("a series", || query(&http, address, sent)), 500.0, "{sent}");
    let balanced = "sum(estafette_campaign_contacts{campaign=\"scraped\"}) - sum(estafette_campaign_audience_contacts)";
    assert_eq!(await_some("the ledger", || query(&http, address, balanced)), 0.0, "the sets add up to the audience");
}
