//! What `serve`, `demo` and `check` need of the engine: open a data directory, drain, verify.
//!
//! Owns no state. The command line knows the engine by this trait and by the port only.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::api::adapter::Adapter;
use crate::api::inbox::{InboxLine, InboxView};
use crate::api::port::EnginePort;
use crate::channels::connector::Connector;
use crate::channels::inbox::Inbox;
use crate::config::Config;
use crate::engine::{self, EngineOptions};

/// How a data directory is to be opened.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    /// Made if there is none.
    pub data: &'a Path,
    /// `server.public_url` is the one in force, also where port 0 was asked for.
    pub config: Config,
    /// The operator says that the directory is a copy.
    pub restored: bool,
}

/// Ends the engine: no new batch, answers on the wire awaited for at most this long, journal synced.
pub type Drain = Box<dyn FnOnce(Duration) -> BoxFuture<'static, anyhow::Result<()>>>;

/// A running engine.
pub struct Opened {
    pub port: Arc<dyn EnginePort>,
    /// The embedded sink, if a connector of kind `inbox` is configured.
    pub inbox: Option<Arc<dyn InboxView>>,
    /// Ends only if the engine fails; says why.
    pub failed: BoxFuture<'static, anyhow::Error>,
    pub drain: Drain,
}

/// Something that is wrong with a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// File and offset, run, or delivery.
    pub place: String,
    pub problem: String,
    /// What to do.
    pub fix: String,
}

/// What `estafette check` looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// One line a thing: frames read, runs whose ledger balances, …
    pub looked_at: Vec<String>,
    pub findings: Vec<Finding>,
}

pub trait Host {
    /// Recovers and starts the engine. Called within an actix system; may block it.
    fn open(&self, request: OpenRequest<'_>) -> anyhow::Result<Opened>;
    /// Verifies a data directory offline; changes nothing.
    fn check(&self, data: &Path) -> anyhow::Result<Checked>;
}

/// The engine of this program.
pub(super) struct Engine;

impl Host for Engine {
    fn open(&self, request: OpenRequest<'_>) -> anyhow::Result<Opened> {
        let OpenRequest { data, config, restored } = request;
        let mut connectors = Vec::with_capacity(config.connectors.len());
        for settings in &config.connectors {
            let opened = Connector::open(settings.clone());
            connectors.push(opened.with_context(|| format!("connector {:?}", settings.name()))?);
        }
        let inbox = connectors.iter().find_map(Connector::inbox).map(Arc::clone);
        let options = EngineOptions {
            directory: data.to_owned(),
            connectors: config.connectors,
            public_url: config.server.public_url,
            return_path_domain: None,
            unsubscribe_mailbox: None,
            lane_threads: config.lane_threads,
            aggregate_only: config.tracking.aggregate_only,
            restored,
        };
        let engine = engine::Engine::open(options, connectors)?;
        let draining = Arc::clone(&engine);
        let drain: Drain = Box::new(move |longest| {
            async move {
                let drained = tokio::task::spawn_blocking(move || draining.drain(longest)).await;
                drained.context("the drain was cut off")?.context("the drain failed")
            }
            .boxed()
        });
        Ok(Opened {
            port: Arc::new(Adapter::new(engine)),
            inbox: inbox.map(|inbox| Arc::new(EmbeddedInbox(inbox)) as Arc<dyn InboxView>),
            // A journal that fails ends the process: there is nothing to be told.
            failed: std::future::pending().boxed(),
            drain,
        })
    }

    fn check(&self, data: &Path) -> anyhow::Result<Checked> {
        let report = engine::check::check(data)?;
        let findings = report.findings.into_iter().map(|f| Finding { place: f.place, problem: f.problem, fix: f.fix });
        Ok(Checked { looked_at: report.looked_at, findings: findings.collect() })
    }
}

/// The embedded sink as its page sees it.
struct EmbeddedInbox(Arc<Inbox>);

impl InboxView for EmbeddedInbox {
    fn received(&self) -> u64 {
        self.0.totals().taken
    }

    fn list(&self, offset: usize, count: usize, search: &str) -> Vec<InboxLine> {
        let page = self.0.list(offset, count, search);
        let line = |mail: crate::channels::inbox::MailSummary| InboxLine {
            id: mail.id,
            received_at: mail.received.into(),
            from: mail.from,
            to: mail.recipient,
            subject: mail.subject,
            bytes: mail.bytes as u64,
        };
        page.mails.into_iter().map(line).collect()
    }

    fn source(&self, id: u64) -> Option<Vec<u8>> {
        self.0.source(id)
    }
}
