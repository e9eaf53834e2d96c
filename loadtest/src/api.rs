//! A client of the engine's HTTP API: the operations that the harness needs, in its own few types.
//!
//! Owns the connection pool. Invariants: 1. every request has a time-out, but for uploads; 2. an error names the request
//! and quotes the answer; 3. fields that the harness does not need are ignored, so that the engine may add to its answers.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Time-out of a request that uploads nothing.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an error's answer that are quoted.
const QUOTE_BYTES: usize = 600;

/// The engine's API at one address with one key.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    key: String,
    http: Client,
}

/// Promise 2 in numbers, as `GET …/report` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub audience: u64,
    pub pending: u64,
    pub claimed: u64,
    pub deferred: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub skipped: u64,
    pub unknown: u64,
    pub balanced: bool,
}

impl Ledger {
    /// The engine says that it balances, and it does.
    pub fn holds(&self) -> bool {
        let sum =
            self.pending + self.claimed + self.deferred + self.accepted + self.rejected + self.skipped + self.unknown;
        self.balanced && sum == self.audience
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    pub state: String,
    pub ledger: Ledger,
    /// Everything else, for messages.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Import {
    pub state: String,
    #[serde(default)]
    pub accepted: u64,
    #[serde(default)]
    pub merged: u64,
    #[serde(default)]
    pub rejected: u64,
    #[serde(default)]
    pub error: Option<String>,
}

/// An answer that is a refusal: status and text.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the engine answered {}: {}", self.status, self.text)
    }
}

impl std::error::Error for Refusal {}

/// Makes aws-lc-rs the process's cryptography; later calls change nothing.
pub fn install_crypto() {
    // An error says that a provider is installed already, which is what is wanted.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
}

impl Api {
    /// `address` is `host:port`.
    pub fn new(address: &str, key: &str) -> anyhow::Result<Api> {
        install_crypto();
        let http = Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build().context("building the HTTP client")?;
        Ok(Api { base: format!("http://{address}"), key: key.to_owned(), http })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        answer(self.request(Method::GET, path).send(), path)
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        answer(self.request(Method::POST, path).json(body).send(), path)
    }

    /// Whether the engine is recovered and takes requests.
    pub fn is_ready(&self) -> bool {
        let sent = self.http.get(format!("{}/ready", self.base)).timeout(Duration::from_secs(2)).send();
        sent.is_ok_and(|response| response.status().is_success())
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> anyhow::Result<String> {
        Ok(checked(self.request(Method::GET, "/metrics").send(), "/metrics")?.text()?)
    }

    /// Declares an attribute; `index` is `values`, `bit_sliced` or `none`.
    pub fn add_attribute(&self, name: &str, kind: &str, index: &str) -> anyhow::Result<()> {
        self.post::<Value>("/v1/attributes", &json!({"name": name, "type": kind, "index": index})).map(drop)
    }

    /// Uploads a CSV file and returns the import's id; the import may still be running.
    pub fn upload(&self, file: &Path, key: &str, subscribe: Option<&str>) -> anyhow::Result<String> {
        let body = File::open(file).with_context(|| format!("opening {}", file.display()))?;
        let mut query = vec![("key", key)];
        query.extend(subscribe.map(|topic| ("subscribe", topic)));
        let request = self
            .request(Method::POST, "/v1/imports")
            .query(&query)
            .header("content-type", "text/csv")
            .timeout(Duration::from_secs(24 * 3_600))
            .body(body);
        id_of(&answer(request.send(), "/v1/imports")?)
    }

    pub fn import(&self, id: &str) -> anyhow::Result<Import> {
        self.get(&format!("/v1/imports/{id}"))
    }

    /// Waits until an import has ended; one that failed is an error.
    pub fn wait_for_import(
        &self,
        id: &str,
        patience: Duration,
        mut seen: impl FnMut(&Import),
    ) -> anyhow::Result<Import> {
        let until = Instant::now() + patience;
        loop {
            let import = self.import(id)?;
            seen(&import);
            match import.state.as_str() {
                "finished" => return Ok(import),
                "failed" => bail!("import {id} failed: {}", import.error.unwrap_or_default()),
                _ if Instant::now() >= until => bail!("import {id} is still {} after {patience:?}", import.state),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Creates a campaign and returns its id.
    pub fn create_campaign(&self, spec: &Value) -> anyhow::Result<String> {
        id_of(&self.post("/v1/campaigns", spec)?)
    }

    /// `start`, `pause`, `resume` or `stop`.
    pub fn act(&self, campaign: &str, action: &str) -> anyhow::Result<()> {
        self.post::<Value>(&format!("/v1/campaigns/{campaign}/{action}"), &json!({})).map(drop)
    }

    /// Names the winner of a test that waits for a person.
    pub fn choose_winner(&self, campaign: &str, variant: &str) -> anyhow::Result<()> {
        let choice = json!({"variant": variant, "by": "the load test"});
        self.post::<Value>(&format!("/v1/campaigns/{campaign}/choose-winner"), &choice).map(drop)
    }

    pub fn report(&self, campaign: &str) -> anyhow::Result<Report> {
        self.get(&format!("/v1/campaigns/{campaign}/report"))
    }

    /// Keys of the contacts of a set, in no particular order, repeats included.
    pub fn contacts(&self, campaign: &str, set: &str) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(alias = "key")]
            contact: String,
        }
        let path = format!("/v1/campaigns/{campaign}/contacts");
        let request = self.request(Method::GET, &path).query(&[("set", set), ("format", "ndjson")]);
        let text = checked(request.timeout(Duration::from_secs(600)).send(), &path)?.text()?;
        text.lines()
            .filter(|line| !line.is_empty())
            .map(|line| {
                Ok(serde_json::from_str::<Line>(line).with_context(|| format!("{path}: line {line:?}"))?.contact)
            })
            .collect()
    }

    /// Contacts that match an expression.
    pub fn count(&self, expression: &str) -> anyhow::Result<u64> {
        let preview: Value = self.post("/v1/segments/preview", &json!({"expression": expression, "sample": 0}))?;
        preview["count"].as_u64().with_context(|| format!("no count in {preview}"))
    }
}

/// Ids are numbers or text; the harness only hands them back.
pub(crate) fn id_of(created: &Value) -> anyhow::Result<String> {
    match &created["id"] {
        Value::Number(id) => Ok(id.to_string()),
        Value::String(id) => Ok(id.clone()),
        _ => bail!("no id in {created}"),
    }
}

pub(crate) fn checked(sent: reqwest::Result<Response>, path: &str) -> anyhow::Result<Response> {
    let response = sent.with_context(|| format!("asking {path}"))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text: String = response.text().unwrap_or_default().chars().take(QUOTE_BYTES).collect();
    Err(anyhow::Error::new(Refusal { status, text }).context(format!("asking {path}")))
}

pub(crate) fn answer<T: DeserializeOwned>(sent: reqwest::Result<Response>, path: &str) -> anyhow::Result<T> {
    let text = checked(sent, path)?.text().with_context(|| format!("reading the answer of {path}"))?;
    serde_json::from_str(&text).with_context(|| {
        let quoted: String = text.chars().take(QUOTE_BYTES).collect();
        format!("answer of {path}: {quoted}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_holds_only_if_the_sum_says_so_too() {
        let good = Ledger { audience: 6, pending: 1, accepted: 5, balanced: true, ..Ledger::default() };
        assert!(good.holds(), "1 + 5 = 6");
        assert!(!Ledger { balanced: false, ..good.clone() }.holds(), "the engine's own word counts");
        assert!(!Ledger { unknown: 1, ..good }.holds(), "and so does the sum");
    }

    #[test]
    fn ids_come_as_numbers_or_text() {
        assert_eq!(id_of(&json!({"id": 7})).unwrap(), "7");
        assert_eq!(id_of(&json!({"id": "c-7"})).unwrap(), "c-7");
        assert!(id_of(&json!({})).is_err(), "an answer without an id is an error");
    }
}
