//! Simulated readers: they take the mails out of the sink's record, look at them as a mail program does, and open, click,
//! convert, unsubscribe and complain with a taste that is known beforehand, over the real tracking endpoints and the API.
//!
//! Owns the thread of a [`Readers`]. Read [`truth`] (what is known beforehand), then `person` (what becomes of one mail), then
//! `office` (who does it when), then [`count`] (the account, and its comparison with the engine's).
//!
//! Invariants: 1. nothing of the mails is known but their bytes; 2. what readers did is counted here, apart from the engine;
//! 3. everything they do follows from the seed and the addresses.
//!
//! ```no_run
//! # use loadtest::readers::{Readers, ReadersOptions, truth::Truth};
//! # fn campaign() -> anyhow::Result<serde_json::Value> { Ok(serde_json::Value::Null) }
//! let truth: Truth = toml::from_str("[[variants]]\nname = \"A\"\nopens = 0.3\nclicks = 0.1\n")?;
//! let options = ReadersOptions { mails: "mails".into(), public: "127.0.0.1:8026".into(), truth, ..ReadersOptions::default() };
//! let readers = Readers::start(options)?;
//! let report = campaign()?;
//! let count = readers.finish(1_000)?;
//! assert!(count.differences(&report, false).is_empty());
//! # anyhow::Ok(())
//! ```

pub mod count;
mod events;
mod letter;
mod office;
mod person;
pub mod truth;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;

use self::count::Count;
use self::truth::Truth;
use crate::text::{note, say};

/// Nobody reads a mail in its first seconds: who does is a machine. The engine's rule is two seconds; what is above is slack
/// for the clocks and queues in between.
pub const NOBODY_READS: Duration = Duration::from_millis(2_600);
/// Requests of readers that are on their way at once.
const VISITS_AT_ONCE: usize = 64;
/// The number of mails is not known yet.
const UNKNOWN: u64 = u64::MAX;

/// Where readers find their mails and their links.
#[derive(Clone, Debug)]
pub struct ReadersOptions {
    /// The sink's file of whole mails (`--mails`); may not exist yet.
    pub mails: PathBuf,
    /// Address (`host:port`) of the public listener; links are followed there, whatever host they name.
    pub public: String,
    /// Address and admin key of the API, for the events.
    pub api: Option<(String, String)>,
    pub truth: Truth,
    /// How long [`Readers::finish`] waits.
    pub patience: Duration,
}

impl Default for ReadersOptions {
    fn default() -> ReadersOptions {
        ReadersOptions {
            mails: PathBuf::new(),
            public: String::new(),
            api: None,
            truth: Truth::default(),
            patience: Duration::from_secs(120),
        }
    }
}

/// What the readers' thread and its owner share.
#[derive(Debug, Default)]
struct Common {
    /// Mails that will have come in all, once that is known.
    expected: AtomicU64,
    count: Mutex<Count>,
}

/// Readers at work, on a thread of their own.
#[derive(Debug)]
pub struct Readers {
    common: Arc<Common>,
    thread: JoinHandle<anyhow::Result<Count>>,
}

impl Readers {
    /// Starts reading. The truth is checked first.
    pub fn start(options: ReadersOptions) -> anyhow::Result<Readers> {
        options.truth.check()?;
        ensure!(
            options.api.is_some() || !options.truth.needs_events(),
            "bounces, conversions and complaints need the API"
        );
        crate::api::install_crypto();
        let common = Arc::new(Common { expected: AtomicU64::new(UNKNOWN), ..Common::default() });
        let theirs = Arc::clone(&common);
        let thread = std::thread::Builder::new()
            .name("readers".to_owned())
            .spawn(move || office::run(&options, &theirs))
            .context("starting the readers")?;
        Ok(Readers { common, thread })
    }

    /// The account so far.
    pub fn count(&self) -> Count {
        self.common.count.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this many mails were read and everything that follows from them was done; the whole account.
    pub fn finish(self, mails: u64) -> anyhow::Result<Count> {
        self.common.expected.store(mails, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("the readers fell over"))?
    }
}

/// Options of `loadtest readers`.
#[derive(Args, Clone, Debug)]
pub struct ReadersCommand {
    /// The sink's file of whole mails (`loadtest sink --mails FILE`)
    #[arg(long, value_name = "FILE")]
    pub mails: PathBuf,
    /// What readers do: a TOML file with the tables variants, machines and delays
    #[arg(long, value_name = "FILE")]
    pub truth: PathBuf,
    /// Address of the engine's public listener
    #[arg(long, value_name = "HOST:PORT")]
    pub public: String,
    /// Address of the engine's API, for bounces, conversions and complaints (key from ESTAFETTE_ADMIN_KEY)
    #[arg(long, value_name = "HOST:PORT")]
    pub api: Option<String>,
    /// The API's key
    #[arg(long, env = "ESTAFETTE_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: Option<String>,
    /// Read this many mails, then end
    #[arg(long, value_name = "N")]
    pub expect: u64,
    /// Seconds to wait for them
    #[arg(long, default_value_t = 600)]
    pub patience: u64,
}

/// `loadtest readers`: reads, prints the account as JSON.
pub fn run(command: &ReadersCommand) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&command.truth)
        .with_context(|| format!("reading the truth {}", command.truth.display()))?;
    let truth: Truth = toml::from_str(&text).with_context(|| format!("the truth {}", command.truth.display()))?;
    let api = command.api.clone().map(|address| (address, command.key.clone().unwrap_or_default()));
    let readers = Readers::start(ReadersOptions {
        mails: command.mails.clone(),
        public: command.public.clone(),
        api,
        truth,
        patience: Duration::from_secs(command.patience),
    })?;
    note(&format!("reading {} mails", command.expect));
    say(&serde_json::to_string_pretty(&readers.finish(command.expect)?)?);
    Ok(())
}
