//! A fast SMTP sink, as a process of its own: it takes everything, answers at once, and keeps nothing but counts and,
//! if asked, a record of what it accepted.
//!
//! Owns the listener and the counters. One thread; see [`session`] for what is said, [`faults`] for what goes wrong,
//! [`replies`] for the words, [`http`] for the sink of HTTP channels. Invariants: 1. the record is written before the answers
//! (see [`record`]); 2. the process ends on SIGTERM, SIGINT or the end of its standard input, with its counts as the last
//! line. It must not know the engine.
//!
//! Protocol with the parent, one JSON object a line on standard output: `Listening` at first, a [`SinkReport`] for each
//! line `report` on standard input, and a last one at the end. The line `reset` sets the counters back.

mod connection;
mod control;
pub mod faults;
pub mod http;
pub mod hub;
pub mod latency;
pub mod mails;
pub mod process;
pub mod record;
pub mod replies;
pub mod session;
pub mod stats;
pub mod tls;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};

use self::connection::{Manner, converse};
use self::control::{Showing, Tally};
use self::faults::{Dice, Faults};
use self::hub::{Hub, Offers};
use self::latency::Latency;
use self::mails::MailWriter;
use self::record::Recorder;
use self::stats::SinkReport;
use self::tls::Identity;
use crate::proc;
use crate::rng::Rng;

/// Bytes of one read: some messages of ten kilobytes, and small enough to stay in the second-level cache.
const READ_BYTES: usize = 128 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Receive buffer of a slow reader, so that the sender feels it and not the kernel's buffers.
const SLOW_BUFFER_BYTES: u32 = 16 * 1024;

/// Options of the sink.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkOptions {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Append every accepted message (recipient, message id, subject) to this file before the 250 leaves
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Append every accepted mail whole to this file before the 250 leaves, for `loadtest readers`
    #[arg(long, value_name = "FILE")]
    pub mails: Option<PathBuf>,
    /// Offer CHUNKING (BDAT)
    #[arg(long)]
    pub chunking: bool,
    /// Offer STARTTLS, with a certificate made for the run unless one is named
    #[arg(long)]
    pub starttls: bool,
    /// Refuse MAIL before STARTTLS
    #[arg(long, requires = "starttls")]
    pub demand_tls: bool,
    /// Certificate chain for STARTTLS (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Wait before each group of answers, milliseconds: 20, 20-80, lognormal:MEDIAN,P99 or table:50=20,90=80,100=2000
    #[arg(long, alias = "latency-ms", default_value_t = Latency::None, value_name = "MS")]
    pub latency: Latency,
    /// Print the counts once a second on standard error
    #[arg(long)]
    pub count: bool,
    /// Do not end with the end of standard input (for a sink started in the background)
    #[arg(long)]
    pub detached: bool,
    #[command(flatten)]
    pub faults: Faults,
}

impl Default for SinkOptions {
    fn default() -> SinkOptions {
        SinkOptions {
            listen: "127.0.0.1:0".to_owned(),
            record: None,
            mails: None,
            chunking: false,
            starttls: false,
            demand_tls: false,
            tls_cert: None,
            tls_key: None,
            latency: Latency::None,
            count: false,
            detached: false,
            faults: Faults::default(),
        }
    }
}

struct Shared {
    hub: Hub,
    buffer: Vec<u8>,
    waits: Rng,
    first_accept: Option<Instant>,
    last_accept: Option<Instant>,
    cpu_at_reset: f64,
}

impl Shared {
    fn new(hub: Hub) -> Shared {
        Shared {
            waits: Rng::salted(hub.dice.faults.fault_seed, 5),
            hub,
            buffer: vec![0; READ_BYTES],
            first_accept: None,
            last_accept: None,
            cpu_at_reset: proc::own_cpu_seconds(),
        }
    }

    fn wait(&mut self, latency: &Latency) -> Duration {
        latency.draw(&mut self.waits)
    }
}

impl Tally for Shared {
    type Report = SinkReport;

    fn report(&self) -> SinkReport {
        let window = match (self.first_accept, self.last_accept) {
            (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
            _ => 0.0,
        };
        let per_second = if window > 0.0 { self.hub.counts.accepted as f64 / window } else { 0.0 };
        let cpu_seconds = (proc::own_cpu_seconds() - self.cpu_at_reset).max(0.0);
        SinkReport { counts: self.hub.counts.clone(), window_seconds: window, per_second, cpu_seconds }
    }

    fn reset(&mut self) {
        self.hub.counts = stats::Counts::default();
        self.first_accept = None;
        self.last_accept = None;
        self.cpu_at_reset = proc::own_cpu_seconds();
    }

    fn line(&self) -> String {
        format!("accepted {}, connections {}", self.hub.counts.accepted, self.hub.counts.connections)
    }

    fn connected(&mut self) {
        self.hub.counts.connections += 1;
    }
}

/// Runs the sink until it is told to end; prints as the module says.
pub fn run(options: &SinkOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(options))
}

async fn serve(options: &SinkOptions) -> anyhow::Result<()> {
    let recorder = options.record.as_deref().map(Recorder::open).transpose().context("opening the record")?;
    let identity = match options.starttls {
        true => Some(Identity::of(options.tls_cert.as_deref(), options.tls_key.as_deref())?),
        false => None,
    };
    let (chunking, starttls, demands_tls) = (options.chunking, options.starttls, options.demand_tls);
    let mut hub = Hub::new(Dice::new(options.faults.clone()), recorder, Offers { chunking, starttls, demands_tls });
    hub.mails = options.mails.as_deref().map(MailWriter::open).transpose().context("opening the file of mails")?;
    let manner = Rc::new(Manner {
        latency: options.latency.clone(),
        read_per_second: options.faults.read_per_second,
        tls: identity.as_ref().map(|identity| identity.acceptor(&[])).transpose()?,
    });
    let shared = Rc::new(RefCell::new(Shared::new(hub)));
    let listener = listen(options).with_context(|| format!("listening on {}", options.listen))?;
    let certificate = identity.as_ref().map(|identity| identity.certificate.clone());
    let showing = Showing { certificate, detached: options.detached, count: options.count };
    control::serve(listener, showing, &shared, |stream| {
        tokio::task::spawn_local(converse(stream, Rc::clone(&shared), Rc::clone(&manner)));
    })
    .await
}

fn listen(options: &SinkOptions) -> anyhow::Result<TcpListener> {
    let address: std::net::SocketAddr = options.listen.parse().context("address and port")?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if options.faults.read_per_second.is_some() {
        socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
    }
    ensure!(!options.demand_tls || options.starttls, "TLS cannot be demanded where it is not offered");
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}
