//! What `serve`, `demo` and `check` need of the engine: open a data directory, drain, verify.
//!
//! Owns no state. The command line knows the engine by this trait and by the port only.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::api::inbox::InboxView;
use crate::api::port::EnginePort;
use crate::config::Config;
use crate::engine::backup::Manifest;
use crate::engine::check::Checked;

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

pub trait Host {
    /// Recovers and starts the engine. Called within an actix system; may block it.
    fn open(&self, request: OpenRequest<'_>) -> anyhow::Result<Opened>;
    /// Verifies a data directory offline; changes nothing.
    fn check(&self, data: &Path) -> anyhow::Result<Checked>;
    /// Of it, what does not need the contact store.
    fn check_journal(&self, data: &Path) -> anyhow::Result<Checked>;
    /// Copies a data directory that nobody has open into a new folder.
    fn backup(&self, data: &Path, folder: &Path) -> anyhow::Result<Manifest>;
    /// Makes a data directory from a backup; `each` hears of bytes as they are copied.
    fn restore(&self, backup: &Path, data: &Path, each: &dyn Fn(u64)) -> anyhow::Result<Manifest>;
}
