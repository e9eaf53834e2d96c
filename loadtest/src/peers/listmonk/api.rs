//! listmonk's HTTP API: the operations that a run needs. Shapes are those of its handlers at 911e0b77 (after v6.2.0):
//! `cmd/lists.go`, `cmd/import.go`, `cmd/templates.go`, `cmd/campaigns.go`, `cmd/settings.go`.
//!
//! Owns the connection pool. Invariants: 1. an error names the request and quotes the answer; 2. what passes here is data
//! of the user's own instance: everything made is remembered by the caller, which takes it away.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reqwest::Method;
use reqwest::blocking::{Body, Client, RequestBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time for campaigns that were cancelled to come to their end, so that new settings are taken in.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);
/// listmonk reloads half a second after it has answered; after this it has begun to.
const RELOAD: Duration = Duration::from_millis(1_500);
/// Addresses that bases of the load test are made of (RFC 2606), as SQL has them.
const MADE: &str = "subscribers.email LIKE '%.example.net'";
/// Separates the parts of an upload; a base has nothing like it.
const BOUNDARY: &str = "----loadtest-7f3c2a91d5e8";

/// A running listmonk.
#[derive(Clone, Debug)]
pub struct Listmonk {
    url: String,
    user: String,
    token: String,
    http: Client,
}

/// How far a campaign is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    pub status: String,
    #[serde(default)]
    pub to_send: u64,
    #[serde(default)]
    pub sent: u64,
    #[serde(default)]
    pub started_at: Option<String>,
    #[serde(default)]
    pub updated_at: Option<String>,
}

impl Listmonk {
    /// `token` is `user:token`, as listmonk shows it when an API user is made.
    pub fn new(url: &str, token: &str) -> anyhow::Result<Listmonk> {
        crate::api::install_crypto();
        let (user, token) = token.split_once(':').context("a listmonk token is written user:token")?;
        let http = Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build().context("building the HTTP client")?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Listmonk { url, user: user.to_owned(), token: token.to_owned(), http })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let key = format!("token {}:{}", self.user, self.token);
        self.http.request(method, format!("{}{path}", self.url)).header("authorization", key)
    }

    /// Sends and returns the answer's `data`.
    fn ask(&self, request: RequestBuilder, what: &str) -> anyhow::Result<Value> {
        let answer = request.send().with_context(|| format!("listmonk: {what}"))?;
        let status = answer.status();
        let text = answer.text().with_context(|| format!("listmonk's answer: {what}"))?;
        let quoted = || text.chars().take(600).collect::<String>();
        ensure!(status.is_success(), "listmonk: {what}: {status}: {}", quoted());
        let mut value: Value =
            serde_json::from_str(&text).with_context(|| format!("listmonk: {what}: {}", quoted()))?;
        Ok(match value.get_mut("data") {
            Some(data) => data.take(),
            None => value,
        })
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(self.request(Method::POST, path).json(body), path)
    }

    fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.ask(self.request(Method::DELETE, path), path).map(drop)
    }

    /// Version and memory, as listmonk says.
    pub fn about(&self) -> anyhow::Result<Value> {
        self.ask(self.request(Method::GET, "/api/about"), "about")
    }

    /// Waits until it answers again, after a reload.
    pub fn wait_until_up(&self, patience: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        loop {
            match self.ask(self.request(Method::GET, "/api/health"), "health") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error.context("listmonk did not come back")),
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// Subscribers whose addresses are those of a base of the load test.
    pub fn made_subscribers(&self) -> anyhow::Result<u64> {
        self.total("/api/subscribers", &[("query", MADE), ("per_page", "1")])
    }

    /// Campaigns that are being sent.
    pub fn running_campaigns(&self) -> anyhow::Result<u64> {
        self.total("/api/campaigns", &[("status", "running"), ("no_body", "true"), ("per_page", "1")])
    }

    fn total(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<u64> {
        let found = self.ask(self.request(Method::GET, path).query(query), path)?;
        found["total"].as_u64().with_context(|| format!("listmonk: {path}: no total in {found}"))
    }

    pub fn create_list(&self, name: &str) -> anyhow::Result<u64> {
        let list =
            json!({"name": name, "type": "private", "optin": "single", "tags": ["loadtest"], "status": "active"});
        id_of(&self.post("/api/lists", &list)?)
    }

    /// Deletes a list and everybody on it whose address is a made one (RFC 2606).
    pub fn delete_list(&self, list: u64) -> anyhow::Result<()> {
        self.post("/api/subscribers/query/delete", &json!({"query": MADE, "list_ids": [list]}))?;
        self.delete(&format!("/api/lists/{list}"))
    }

    /// Uploads a CSV of subscribers and waits for the end of the import; a row that is missing is an error.
    pub fn import(&self, csv: &Path, list: u64, rows: u64, patience: Duration) -> anyhow::Result<()> {
        let params = json!({
            "mode": "subscribe", "subscription_status": "confirmed", "overwrite": true, "delim": ",", "lists": [list],
        });
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"params\"\r\n\r\n{params}\r\n--{BOUNDARY}\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"base.csv\"\r\ncontent-type: text/csv\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let file = File::open(csv).with_context(|| format!("opening {}", csv.display()))?;
        let length = file.metadata().context("size of the subscribers")?.len() + (head.len() + tail.len()) as u64;
        let body = Cursor::new(head).chain(file).chain(Cursor::new(tail));
        let path = "/api/import/subscribers";
        let request = self.request(Method::POST, path).timeout(patience);
        let request = request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        self.ask(request.body(Body::sized(body, length)), "import")?;
        let until = Instant::now() + patience;
        loop {
            let stats = self.ask(self.request(Method::GET, path), "import")?;
            let imported = stats["imported"].as_u64().unwrap_or(0);
            match stats["status"].as_str().unwrap_or_default() {
                "finished" if imported == rows => break,
                "finished" => bail!("listmonk imported {imported} of {rows} rows: {}", self.import_log()),
                "failed" | "stopping" | "none" => bail!("listmonk's import failed: {stats}: {}", self.import_log()),
                _ if Instant::now() >= until => bail!("listmonk's import is not over in {patience:?}: {stats}"),
                _ => std::thread::sleep(LOOK_EVERY),
            }
        }
        // A finished import is kept until somebody says that it was seen, and another cannot begin before.
        self.delete(path)
    }

    fn import_log(&self) -> String {
        let log = self.ask(self.request(Method::GET, "/api/import/subscribers/logs"), "the import's log");
        let log = log.ok().and_then(|log| log.as_str().map(str::to_owned)).unwrap_or_default();
        log.lines().filter(|line| line.contains("skipping") || line.contains("error")).take(3).collect()
    }

    /// A template that adds nothing to the message.
    pub fn create_template(&self, name: &str) -> anyhow::Result<u64> {
        let body = "{{ template \"content\" . }}";
        id_of(&self.post("/api/templates", &json!({"name": name, "type": "campaign", "body": body}))?)
    }

    pub fn delete_template(&self, template: u64) -> anyhow::Result<()> {
        self.delete(&format!("/api/templates/{template}"))
    }

    pub fn create_campaign(&self, campaign: &Value) -> anyhow::Result<u64> {
        id_of(&self.post("/api/campaigns", campaign)?)
    }

    pub fn start_campaign(&self, campaign: u64) -> anyhow::Result<()> {
        self.set_status(campaign, "running")
    }

    /// Stops the sending, which deleting a campaign does not.
    pub fn cancel_campaign(&self, campaign: u64) -> anyhow::Result<()> {
        self.set_status(campaign, "cancelled")
    }

    fn set_status(&self, campaign: u64, status: &str) -> anyhow::Result<()> {
        let path = format!("/api/campaigns/{campaign}/status");
        self.ask(self.request(Method::PUT, &path).json(&json!({"status": status})), &path).map(drop)
    }

    pub fn progress(&self, campaign: u64) -> anyhow::Result<Progress> {
        let path = format!("/api/campaigns/{campaign}?no_body=true");
        let campaign = self.ask(self.request(Method::GET, &path), "campaign")?;
        serde_json::from_value(campaign).context("listmonk's campaign")
    }

    pub fn delete_campaign(&self, campaign: u64) -> anyhow::Result<()> {
        self.delete(&format!("/api/campaigns/{campaign}"))
    }

    pub fn settings(&self) -> anyhow::Result<Value> {
        self.ask(self.request(Method::GET, "/api/settings"), "settings")
    }

    /// Writes all settings and waits until listmonk has reloaded. While a campaign is sent it stores them and goes on with the
    /// old ones, which it says (`needs_restart`): that is an error if it lasts.
    pub fn put_settings(&self, settings: &Value) -> anyhow::Result<()> {
        let until = Instant::now() + SETTLE_PATIENCE;
        loop {
            let answer = self.ask(self.request(Method::PUT, "/api/settings").json(settings), "settings")?;
            if answer["needs_restart"] != true {
                break;
            }
            ensure!(
                Instant::now() < until,
                "listmonk has stored its settings and uses the old ones until it is restarted, because a campaign is being sent"
            );
            std::thread::sleep(LOOK_EVERY);
        }
        std::thread::sleep(RELOAD);
        self.wait_until_up(REQUEST_TIMEOUT)
    }
}

fn id_of(made: &Value) -> anyhow::Result<u64> {
    made["id"].as_u64().with_context(|| format!("listmonk gave no id: {made}"))
}
