//! What `serve`, `demo` and `check` need of the engine: open a data directory, drain, verify.
//!
//! Owns no state. The command line knows the engine by this trait and by the port only.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::api::inbox::InboxView;
use crate::api::port::EnginePort;
use crate::config::Config;

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
        anyhow::bail!("{}: this build holds no engine", request.data.display())
    }

    fn check(&self, data: &Path) -> anyhow::Result<Checked> {
        anyhow::bail!("{}: this build holds no engine", data.display())
    }
}
