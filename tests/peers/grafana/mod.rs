//! The dashboards, rules and runbook of `grafana/`: built from their code, sound, in the engine's own words, and – on a real
//! Prometheus that scrapes a real engine at work – never empty.

mod bound;
mod built;
mod lint;
mod names;
mod proof;
mod queries;
mod scenario;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use estafette::clock::{Clock as _, SystemClock};
use reqwest::blocking::Client;
use serde_json::Value;

use crate::support::{Process, await_some, free_port, spawn};

/// How the counterparts are installed.
const INSTALL: &str = "tests/all --install-only";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

/// The files of a folder of `grafana/` with this ending, sorted.
fn files(under: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder().join(under)).unwrap_or_else(|error| panic!("{under}: {error}"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    found.sort();
    assert!(!found.is_empty(), "{under} has files that end in {ending}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A Prometheus on a free port, with its data in a folder that goes with it.
struct Prometheus {
    base: String,
    http: Client,
    _folder: tempfile::TempDir,
    _process: Process,
}

impl Prometheus {
    /// The one of `grafana/prometheus`, with its rules, for this engine; it scrapes and evaluates each second.
    fn start(target: &str, key: &str) -> Prometheus {
        let own = folder().join("prometheus");
        let there = tempfile::tempdir().expect("a folder");
        let text = read(&own.join("prometheus.yml"));
        for wanted in ["127.0.0.1:8025", "scrape_interval: 15s", "evaluation_interval: 15s", "- rules/*.yml"] {
            assert!(text.contains(wanted), "{wanted} in prometheus.yml:\n{text}");
        }
        let text = text
            .replace("127.0.0.1:8025", target)
            .replace("_interval: 15s", "_interval: 1s")
            .replace("- rules/*.yml", &format!("- {}/rules/*.yml", there.path().display()));
        std::fs::write(there.path().join("prometheus.yml"), text).expect("its configuration");
        std::fs::write(there.path().join("scrape.key"), key).expect("its key");
        std::fs::create_dir(there.path().join("rules")).expect("a folder for rules");
        for path in files("prometheus/rules", "yml") {
            // Rules that have an interval of their own are evaluated each second, too.
            let text = read(&path).replace("interval: 15s", "interval: 1s");
            std::fs::write(there.path().join("rules").join(path.file_name().expect("a name")), text).expect("a copy");
        }
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", there.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", there.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = spawn(&mut command, INSTALL);
        // Some tests ask a Prometheus that watches no engine, so that nobody else has chosen the cryptography.
        loadtest::api::install_crypto();
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
        let started = Prometheus { base: format!("http://{address}"), http, _folder: there, _process: process };
        await_some("Prometheus", || {
            started
                .http
                .get(format!("{}/-/ready", started.base))
                .send()
                .ok()
                .filter(|answer| answer.status().is_success())
        });
        started
    }

    /// `data` of an answer, or Prometheus' complaint.
    fn ask(&self, path: &str, query: &[(&str, String)]) -> Result<Value, String> {
        let answer = self.http.get(format!("{}/api/v1/{path}", self.base)).query(query).send();
        let text = answer.and_then(reqwest::blocking::Response::text).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer["error"].to_string()) }
    }

    /// Finite values of an expression now.
    fn now(&self, expression: &str) -> Result<usize, String> {
        let data = self.ask("query", &[("query", expression.to_owned())])?;
        Ok(if data["resultType"] == "scalar" { 1 } else { finite(&data, |series| vec![series["value"].clone()]) })
    }

    /// Finite values of an expression over the last minutes.
    fn lately(&self, expression: &str) -> Result<usize, String> {
        let now = SystemClock::new().now().0 / 1_000;
        let range = [("start", (now - 300).to_string()), ("end", now.to_string()), ("step", "1".to_owned())];
        let query = [("query", expression.to_owned())].into_iter().chain(range).collect::<Vec<_>>();
        let data = self.ask("query_range", &query)?;
        Ok(finite(&data, |series| series["values"].as_array().cloned().unwrap_or_default()))
    }

    /// Every rule that it has loaded.
    fn rules(&self) -> Vec<Value> {
        let data = self.ask("rules", &[]).expect("its rules");
        let groups = data["groups"].as_array().expect("groups").iter();
        groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    }
}

/// Values that are numbers: an empty answer has none, and one of nothing but NaN has none to show.
fn finite(data: &Value, values: impl Fn(&Value) -> Vec<Value>) -> usize {
    let series = data["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    let numbers = series.iter().flat_map(values).filter_map(|pair| pair[1].as_str()?.parse::<f64>().ok());
    numbers.filter(|number| number.is_finite()).count()
}
