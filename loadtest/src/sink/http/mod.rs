//! A sink for HTTP channels, as a process of its own: it answers as a push service, a messenger or a webhook does, fast or
//! wrong on purpose, and counts.
//!
//! Owns the listener and the counters. One thread; see [`profile`] for what is answered and [`faults`] for what goes wrong.
//! Invariants: 1. the record is written before the answer; 2. the process ends as the SMTP sink does, with its counts as the
//! last line (protocol with the parent: [`super`]). HTTP/1.1 and HTTP/2 on one port, as the client begins; over TLS by ALPN.

pub mod faults;
pub mod profile;
mod serve;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use hyper::Version;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use self::faults::{Fate, HttpDice, HttpFaults};
use self::profile::{Answer, Profile};
use super::control::{self, Showing, Tally};
use super::faults::name_of;
use super::latency::Latency;
use super::process::Process;
use super::tls::Identity;
use crate::proc;
use crate::rng::Rng;
use crate::text::note;

/// Options of the HTTP sink.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSinkOptions {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Whose answers are given
    #[arg(long, value_enum, default_value_t = Profile::Webhook)]
    pub profile: Profile,
    /// Append a line (status, recipient) for every request to this file before its answer leaves
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Speak TLS, with a certificate made for the run unless one is named
    #[arg(long)]
    pub tls: bool,
    /// Certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Wait before each answer, milliseconds: 20, 20-80, lognormal:MEDIAN,P99 or table:50=20,90=80,100=2000
    #[arg(long, default_value_t = Latency::None, value_name = "MS")]
    pub latency: Latency,
    /// Print the counts once a second on standard error
    #[arg(long)]
    pub count: bool,
    /// Do not end with the end of standard input (for a sink started in the background)
    #[arg(long)]
    pub detached: bool,
    #[command(flatten)]
    pub faults: HttpFaults,
}

impl Default for HttpSinkOptions {
    fn default() -> HttpSinkOptions {
        HttpSinkOptions {
            listen: "127.0.0.1:0".to_owned(),
            profile: Profile::Webhook,
            record: None,
            tls: false,
            tls_cert: None,
            tls_key: None,
            latency: Latency::None,
            count: false,
            detached: false,
            faults: HttpFaults::default(),
        }
    }
}

/// Counters since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpCounts {
    pub connections: u64,
    pub requests: u64,
    /// Of them over HTTP/2.
    pub over_http2: u64,
    /// Answered with 2xx, those whose answer was lost among them.
    pub accepted: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Answers by status, as text: `503`; resets have none.
    pub statuses: BTreeMap<String, u64>,
    pub throttled: u64,
    pub reset_before: u64,
    pub reset_after: u64,
    pub goaways: u64,
    /// Most requests that one connection had open at once.
    pub in_flight_peak: u64,
}

/// The answer to `report`, and the last line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HttpSinkReport {
    #[serde(flatten)]
    pub counts: HttpCounts,
    /// Seconds from the first to the last accepted request, by the sink's own clock.
    pub window_seconds: f64,
    /// Accepted requests a second over that window; 0 for fewer than two.
    pub per_second: f64,
    /// CPU seconds of the sink since the reset.
    pub cpu_seconds: f64,
}

/// The HTTP sink in a process of its own.
pub type HttpSinkProcess = Process<HttpSinkReport>;

impl HttpSinkProcess {
    /// Starts `loadtest http-sink` from this very binary.
    pub fn start_http(options: &HttpSinkOptions) -> anyhow::Result<HttpSinkProcess> {
        let mut command = Command::new(std::env::current_exe().context("finding this binary")?);
        command.arg("http-sink").args(to_args(options));
        HttpSinkProcess::from_command(command)
    }
}

/// The arguments that give the same options.
pub fn to_args(options: &HttpSinkOptions) -> Vec<String> {
    let file = |name: &str, path: &Option<PathBuf>| path.as_ref().map(|path| format!("--{name}={}", path.display()));
    let flag = |name: &str, set: bool| set.then(|| format!("--{name}"));
    let mut args = vec![
        format!("--listen={}", options.listen),
        format!("--profile={}", name_of(&options.profile)),
        format!("--latency={}", options.latency),
    ];
    args.extend(file("record", &options.record));
    args.extend(file("tls-cert", &options.tls_cert));
    args.extend(file("tls-key", &options.tls_key));
    args.extend(flag("tls", options.tls));
    args.extend(flag("count", options.count));
    args.extend(flag("detached", options.detached));
    args.extend(options.faults.to_args());
    args
}

/// How the sink behaves towards every connection.
struct Manner {
    profile: Profile,
    latency: Latency,
    streams: Option<u32>,
}

/// What all connections share.
struct HttpShared {
    dice: HttpDice,
    counts: HttpCounts,
    record: Option<File>,
    waits: Rng,
    first_accept: Option<Instant>,
    last_accept: Option<Instant>,
    cpu_at_reset: f64,
}

impl HttpShared {
    fn new(options: &HttpSinkOptions) -> anyhow::Result<HttpShared> {
        let open = |path: &PathBuf| OpenOptions::new().create(true).append(true).open(path);
        Ok(HttpShared {
            waits: Rng::salted(options.faults.fault_seed, 13),
            dice: HttpDice::new(options.faults.clone()),
            counts: HttpCounts::default(),
            record: options.record.as_ref().map(open).transpose().context("opening the record")?,
            first_accept: None,
            last_accept: None,
            cpu_at_reset: proc::own_cpu_seconds(),
        })
    }

    fn wait(&mut self, latency: &Latency) -> Duration {
        latency.draw(&mut self.waits)
    }

    /// Decides, counts and records one request.
    fn judge(&mut self, profile: Profile, recipient: &str, bytes: usize, version: Version) -> (Fate, Answer) {
        let fate = self.dice.fate(recipient);
        let counts = &mut self.counts;
        counts.requests += 1;
        counts.bytes += bytes as u64;
        counts.over_http2 += u64::from(version == Version::HTTP_2);
        let answer = match fate {
            Fate::Refuse(status) => profile.refused(status),
            Fate::Throttled => profile.refused(429),
            Fate::Accept | Fate::AcceptAndReset | Fate::Reset => profile.accepted(recipient, counts.requests),
        };
        match fate {
            Fate::Throttled => counts.throttled += 1,
            Fate::Reset => counts.reset_before += 1,
            Fate::AcceptAndReset => counts.reset_after += 1,
            Fate::Accept | Fate::Refuse(_) => {}
        }
        if !matches!(fate, Fate::Reset | Fate::AcceptAndReset) {
            *counts.statuses.entry(answer.status.to_string()).or_default() += 1;
        }
        if matches!(fate, Fate::Accept | Fate::AcceptAndReset) {
            counts.accepted += 1;
            let now = Instant::now();
            self.first_accept.get_or_insert(now);
            self.last_accept = Some(now);
        }
        if let Some(record) = self.record.as_mut().filter(|_| fate != Fate::Reset) {
            let line = format!("{}\t{}\n", answer.status, recipient.replace(|c: char| c.is_control(), " "));
            if let Err(error) = record.write_all(line.as_bytes()) {
                note(&format!("the record cannot be written: {error}"));
            }
        }
        (fate, answer)
    }
}

impl Tally for HttpShared {
    type Report = HttpSinkReport;

    fn report(&self) -> HttpSinkReport {
        let window = match (self.first_accept, self.last_accept) {
            (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
            _ => 0.0,
        };
        let per_second = if window > 0.0 { self.counts.accepted as f64 / window } else { 0.0 };
        let cpu_seconds = (proc::own_cpu_seconds() - self.cpu_at_reset).max(0.0);
        HttpSinkReport { counts: self.counts.clone(), window_seconds: window, per_second, cpu_seconds }
    }

    fn reset(&mut self) {
        self.counts = HttpCounts::default();
        self.first_accept = None;
        self.last_accept = None;
        self.cpu_at_reset = proc::own_cpu_seconds();
    }

    fn line(&self) -> String {
        let counts = &self.counts;
        format!("accepted {} of {}, connections {}", counts.accepted, counts.requests, counts.connections)
    }

    fn connected(&mut self) {
        self.counts.connections += 1;
    }
}

/// Runs the sink until it is told to end; prints as the SMTP sink does.
pub fn run(options: &HttpSinkOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(options))
}

async fn serve(options: &HttpSinkOptions) -> anyhow::Result<()> {
    let identity = match options.tls {
        true => Some(Identity::of(options.tls_cert.as_deref(), options.tls_key.as_deref())?),
        false => None,
    };
    let tls = identity.as_ref().map(|identity| identity.acceptor(&[b"h2", b"http/1.1"])).transpose()?;
    let (profile, latency, streams) = (options.profile, options.latency.clone(), options.faults.streams);
    let manner = Rc::new(Manner { profile, latency, streams });
    let shared = Rc::new(RefCell::new(HttpShared::new(options)?));
    let listener =
        TcpListener::bind(&options.listen).await.with_context(|| format!("listening on {}", options.listen))?;
    let certificate = identity.as_ref().map(|identity| identity.certificate.clone());
    let showing = Showing { certificate, detached: options.detached, count: options.count };
    control::serve(listener, showing, &shared, |stream| {
        let (shared, manner, tls) = (Rc::clone(&shared), Rc::clone(&manner), tls.clone());
        tokio::task::spawn_local(serve::converse(stream, shared, manner, tls));
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_passes_the_other_reads() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            options: HttpSinkOptions,
        }
        let faults = HttpFaults {
            statuses: ["429=0.05", "410=0.5"].map(|s| s.parse().unwrap()).to_vec(),
            retry_after: Some(3),
            throttle_per_second: Some(100),
            reset_before: 0.25,
            reset_after: 0.125,
            goaway_after: Some(9),
            streams: Some(7),
            fault_seed: 5,
        };
        let options = HttpSinkOptions {
            profile: Profile::WebPush,
            record: Some("r".into()),
            tls: true,
            tls_cert: Some("c".into()),
            tls_key: Some("k".into()),
            latency: "5-9".parse().unwrap(),
            count: true,
            detached: true,
            faults,
            ..HttpSinkOptions::default()
        };
        let line = Line::parse_from(std::iter::once("x".to_owned()).chain(to_args(&options)));
        assert_eq!(line.options, options, "by arguments");
        let text = toml::to_string(&options).unwrap();
        assert_eq!(toml::from_str::<HttpSinkOptions>(&text).unwrap(), options, "and in a scenario: {text}");
    }
}
