//! `--peer listmonk`: a listmonk that the user runs, driven through its public API, with the same list, the same message and
//! the same sink.
//!
//! Owns what it made there: a list with its subscribers, a template, campaigns, and, if asked, the settings of the run. Read
//! `message` and `subscribers` (the same work), then `api`, then `settings`.
//!
//! Invariants: 1. the rate is the sink's own, as for every sender; listmonk's own figures stand beside it; 2. the user's
//! instance is left as it was found: what was made is deleted and settings are put back, on errors too; 3. a campaign that
//! ends with fewer messages than subscribers is an error; 4. nothing is changed where a campaign of the user's is being sent
//! (listmonk would go on with the old settings, and send ours to the user's own relay), or where the base's addresses are
//! subscribers already.
//!
//! ```no_run
//! # use loadtest::peers::listmonk::{Peer, PeerOptions};
//! # fn rounds(options: &PeerOptions, csv: &std::path::Path, spec: &serde_json::Value, sink: std::net::SocketAddr) -> anyhow::Result<()> {
//! let peer = Peer::prepare(options, csv, spec, sink, 50)?;
//! let round = peer.round("round 1")?;
//! peer.finish()
//! # }
//! ```

pub mod api;
pub mod message;
pub mod run;
mod settings;
pub mod subscribers;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::api::{Listmonk, Progress};
use self::message::Content;
use crate::text::{bar, note};

/// Time in which a campaign must move.
const STANDSTILL: Duration = Duration::from_secs(120);
const IMPORT_PATIENCE: Duration = Duration::from_secs(3_600);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Peers that a user brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    Listmonk,
}

/// Options of a peer, for every run that sends mail.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerOptions {
    /// Let a peer that you run send the same list and message to the same sink
    #[arg(long, value_enum)]
    pub peer: Option<PeerKind>,
    /// Its address
    #[arg(long = "url", default_value = "http://127.0.0.1:9000", value_name = "URL")]
    pub peer_url: String,
    /// Its API user and token
    #[arg(long = "token", env = "LOADTEST_PEER_TOKEN", hide_env_values = true, value_name = "USER:TOKEN")]
    #[serde(skip)]
    pub peer_token: Option<String>,
    /// Point its SMTP at the sink and take its own limits off for the run, and put its settings back afterwards (it reloads)
    #[arg(long)]
    pub peer_settings: bool,
}

/// One campaign of the peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PeerRound {
    pub messages: u64,
    /// From the start request until it says finished.
    pub seconds: f64,
    /// As it reports itself.
    pub own: Progress,
    /// Memory that it has from the system, as it says itself.
    pub memory_bytes: u64,
}

/// A campaign that was made.
#[derive(Clone, Copy, Debug)]
struct Made {
    id: u64,
    finished: bool,
}

/// A listmonk that is ready to send.
#[derive(Debug)]
pub struct Peer {
    listmonk: Listmonk,
    version: String,
    list: u64,
    template: u64,
    subscribers: u64,
    content: Content,
    /// Those to put back, if they were changed.
    settings: Option<Value>,
    campaigns: std::cell::RefCell<Vec<Made>>,
    left: bool,
}

impl Peer {
    /// Imports the base (our CSV) and translates the message of `spec`.
    pub fn prepare(
        options: &PeerOptions,
        base: &Path,
        spec: &Value,
        sink: SocketAddr,
        connections: u64,
    ) -> anyhow::Result<Peer> {
        let token = options.peer_token.as_deref().context("a peer needs --token user:token")?;
        let listmonk = Listmonk::new(&options.peer_url, token)?;
        let about = listmonk.about()?;
        let version = about["version"].as_str().unwrap_or("unknown").to_owned();
        let content = message::translate(spec)?;
        in_nobodys_way(&listmonk)?;
        let mut peer = Peer {
            listmonk,
            version,
            list: 0,
            template: 0,
            subscribers: 0,
            content,
            settings: None,
            campaigns: std::cell::RefCell::new(Vec::new()),
            left: false,
        };
        // From here on a failure leaves by way of `drop`, which cleans up.
        peer.direct(options.peer_settings, sink, connections)?;
        peer.list = peer.listmonk.create_list("load test")?;
        peer.template = peer.listmonk.create_template("load test")?;
        let csv = tempfile::Builder::new().suffix(".csv").tempfile().context("making a file for the subscribers")?;
        peer.subscribers = subscribers::write(base, csv.path())?;
        note(&format!("listmonk {}: importing {} subscribers", peer.version, peer.subscribers));
        peer.listmonk.import(csv.path(), peer.list, peer.subscribers, IMPORT_PATIENCE)?;
        Ok(peer)
    }

    /// Version, for the report.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Sends one campaign to everybody and waits for its end.
    pub fn round(&self, name: &str) -> anyhow::Result<PeerRound> {
        let campaign = self.listmonk.create_campaign(&json!({
            "name": name,
            "subject": self.content.subject,
            "lists": [self.list],
            "from_email": self.content.from,
            "type": "regular",
            "content_type": "html",
            "body": self.content.html,
            "altbody": self.content.text,
            "messenger": "email",
            "template_id": self.template,
            "tags": ["loadtest"],
        }))?;
        self.campaigns.borrow_mut().push(Made { id: campaign, finished: false });
        let started = Instant::now();
        self.listmonk.start_campaign(campaign)?;
        let own = self.await_end(campaign)?;
        let seconds = started.elapsed().as_secs_f64();
        self.campaigns.borrow_mut().iter_mut().for_each(|made| made.finished |= made.id == campaign);
        ensure!(own.sent == self.subscribers, "listmonk sent {} of {} messages", own.sent, self.subscribers);
        let memory = self.listmonk.about()?["system"]["memory_from_os_mb"].as_u64().unwrap_or(0);
        Ok(PeerRound { messages: own.sent, seconds, own, memory_bytes: memory << 20 })
    }

    fn await_end(&self, campaign: u64) -> anyhow::Result<Progress> {
        let bar = bar(self.subscribers, "listmonk to sink");
        let (mut moved, mut last) = (Instant::now(), None);
        loop {
            let seen = self.listmonk.progress(campaign)?;
            bar.set_position(seen.sent);
            match seen.status.as_str() {
                "finished" => {
                    bar.finish_and_clear();
                    return Ok(seen);
                }
                "running" => {}
                status => bail!("listmonk's campaign is {status}: {seen:?}"),
            }
            if last != Some(seen.sent) {
                (moved, last) = (Instant::now(), Some(seen.sent));
            }
            ensure!(moved.elapsed() < STANDSTILL, "listmonk's campaign does not move: {seen:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Sees to it that mail goes to the sink.
    fn direct(&mut self, may_change: bool, sink: SocketAddr, connections: u64) -> anyhow::Result<()> {
        let before = self.listmonk.settings()?;
        if may_change {
            let tuned = settings::tuned(&before, sink, connections);
            // Noted first: a write that fails half-way is put back, too.
            self.settings = Some(before);
            return self.listmonk.put_settings(&tuned).context("pointing listmonk at the sink");
        }
        ensure!(
            settings::goes_to(&before, sink),
            "listmonk would not send to the sink: in its settings make {sink} the only enabled SMTP server (no authentication, \
             TLS off, {connections} connections) and raise concurrency and message rate, or give --peer-settings"
        );
        Ok(())
    }

    /// Takes away what was made and puts the settings back.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.left = true;
        self.leave()
    }

    /// Tries everything and reports the first failure: campaigns first, because listmonk takes settings in only when none is
    /// being sent, then the settings.
    fn leave(&self) -> anyhow::Result<()> {
        let mut left = Ok(());
        let mut undo = |done: anyhow::Result<()>| {
            if left.is_ok() {
                left = done;
            }
        };
        for campaign in self.campaigns.borrow_mut().drain(..) {
            if !campaign.finished
                && let Err(error) = self.listmonk.cancel_campaign(campaign.id)
            {
                // One that is not being sent, because listmonk has paused or ended it, refuses this.
                note(&format!("cancelling listmonk's campaign: {error:#}"));
            }
            undo(self.listmonk.delete_campaign(campaign.id));
        }
        if let Some(settings) = &self.settings {
            let back = self.listmonk.put_settings(&settings::restorable(settings));
            undo(back.context("putting listmonk's settings back"));
        }
        if self.template > 0 {
            undo(self.listmonk.delete_template(self.template));
        }
        if self.list > 0 {
            undo(self.listmonk.delete_list(self.list));
        }
        left
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.left
            && let Err(error) = self.leave()
        {
            note(&format!("listmonk is not as it was found: {error:#}"));
        }
    }
}

/// Refuses a listmonk in which the run would disturb something, or be disturbed.
fn in_nobodys_way(listmonk: &Listmonk) -> anyhow::Result<()> {
    let running = listmonk.running_campaigns()?;
    ensure!(
        running == 0,
        "{running} campaigns are being sent in this listmonk: wait for their end, or take another one"
    );
    let there = listmonk.made_subscribers()?;
    ensure!(
        there == 0,
        "{there} subscribers in this listmonk have addresses under example.net, which the run would overwrite and delete: delete \
         them (Subscribers, Advanced, \"subscribers.email LIKE '%.example.net'\"), or take another listmonk"
    );
    Ok(())
}
