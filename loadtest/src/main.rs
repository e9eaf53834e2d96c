//! `loadtest`: the command line of the harness.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use loadtest::base::{self, Base, Columns};
use loadtest::client::{self, ClientOptions};
use loadtest::disk::{self, DiskOptions};
use loadtest::email::{self, EmailOptions};
use loadtest::fairness::{self, FairnessOptions};
use loadtest::flow::{self, FlowOptions};
use loadtest::growth::{self, GrowthOptions};
use loadtest::import::{self, ImportOptions};
use loadtest::kill::{self, KillOptions};
use loadtest::peers::http::{HttpClientOptions, reqwest_alone};
use loadtest::peers::listmonk::run::{self as peer, PeerCommand};
use loadtest::profile::{self, ProfileOptions};
use loadtest::readers::{self, ReadersCommand};
use loadtest::sink::http::{self, HttpSinkOptions, HttpSinkProcess};
use loadtest::sink::process::SinkProcess;
use loadtest::sink::{self, SinkOptions};
use loadtest::text::{bar, mebibytes, note, say};
use loadtest::tracking::{self, TrackingOptions};

/// Load tests of Estafette, beside its peers.
///
/// All but `sink`, `http-sink`, `readers`, the clients and `data` start an engine of their own: build it first with `cargo build --release`, and
/// it is found beside this program. They print a table, and with --json FILE a typed report with the command, the
/// revision, the machine and the parameters.
#[derive(Parser)]
#[command(version, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Rate and CPU of an e-mail campaign beside smtp-source's to the same sink, alternating
    Email(EmailOptions),
    /// Where the CPU time of a message goes, thread by thread and stage by stage
    Profile(ProfileOptions),
    /// Cost and memory per contact from ten thousand to two million contacts, engine alone
    Growth(GrowthOptions),
    /// A flow of twelve nodes beside a single campaign, engine alone, alternating
    Flow(FlowOptions),
    /// Rows a second of the CSV import
    Import(ImportOptions),
    /// Clicks and opens a second through the tracking endpoints beside an empty actix-web handler, alternating
    Tracking(TrackingOptions),
    /// The peer of `tracking`: prints its address and serves until it is killed
    #[command(hide = true)]
    EmptyHandler,
    /// How much of a campaign of a million goes before one of a hundred that starts later, on one connector
    Fairness(FairnessOptions),
    /// kill -9 at random moments under load, and the accounts contact by contact
    Kill(KillOptions),
    /// A full disk under a running campaign (needs root)
    Disk(DiskOptions),
    /// Receive mail as fast as it comes; `loadtest sink --help` lists what it can do wrong on purpose
    Sink {
        #[command(flatten)]
        options: SinkOptions,
        /// Measure the sink's own ceiling with the bare client, print it and end
        #[arg(long)]
        ceiling: bool,
    },
    /// Answer as push services, messengers and webhooks do, over HTTP/1.1 and HTTP/2; `loadtest http-sink --help`
    HttpSink {
        #[command(flatten)]
        options: HttpSinkOptions,
        /// Measure the sink's own ceiling with reqwest alone, over HTTP/1.1 and HTTP/2, print it and end
        #[arg(long)]
        ceiling: bool,
    },
    /// Read the mails that a sink took, and open, click, convert, unsubscribe and complain with a known taste
    Readers(ReadersCommand),
    /// A peer that you run (listmonk), alone against a sink: is it set up, and how fast is it
    Peer(PeerCommand),
    /// Send one fixed body by reqwest alone: the ceiling of the HTTP channels on this machine
    HttpClient(HttpClientOptions),
    /// Send one fixed body with RFC 2920 pipelining: the ceiling of this machine
    Client(ClientOptions),
    /// Write a sample base as CSV
    Data(DataOptions),
}

#[derive(Args)]
struct DataOptions {
    /// Contacts
    #[arg(long, default_value_t = 20_000)]
    contacts: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ten columns instead of sixteen
    #[arg(long)]
    ten: bool,
    /// The file to write
    #[arg(long, default_value = "contacts.csv")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Email(options) => email::run(&options),
        Command::Profile(options) => profile::run(&options),
        Command::Growth(options) => growth::run(&options),
        Command::Flow(options) => flow::run(&options),
        Command::Import(options) => import::run(&options),
        Command::Tracking(options) => tracking::run(&options),
        Command::EmptyHandler => tracking::serve_empty(),
        Command::Fairness(options) => fairness::run(&options),
        Command::Kill(options) => kill::run(&options),
        Command::Disk(options) => disk::run(&options),
        Command::Sink { options, ceiling: true } => ceiling(&options),
        Command::Sink { options, ceiling: false } => sink::run(&options),
        Command::HttpSink { options, ceiling: true } => http_ceiling(&options),
        Command::HttpSink { options, ceiling: false } => http::run(&options),
        Command::Readers(command) => readers::run(&command),
        Command::Peer(command) => peer::run(&command),
        Command::HttpClient(options) => {
            say(&serde_json::to_string(&reqwest_alone(&options)?)?);
            Ok(())
        }
        Command::Client(options) => {
            say(&serde_json::to_string(&client::run(&options)?)?);
            Ok(())
        }
        Command::Data(options) => data(&options),
    }
}

/// Messages of the measurement of the ceiling.
const CEILING_MESSAGES: u64 = 300_000;

fn ceiling(options: &SinkOptions) -> anyhow::Result<()> {
    let sink = SinkProcess::start(options)?;
    let report = email::client_process(&sink, 50, CEILING_MESSAGES, 10_240)?;
    let seen = sink.finish()?;
    let sink_cpu = seen.cpu_seconds * 1e6 / seen.counts.accepted.max(1) as f64;
    say(&serde_json::json!({"client": report, "sink": seen, "sink_cpu_microseconds_per_message": sink_cpu}).to_string());
    Ok(())
}

fn http_ceiling(options: &HttpSinkOptions) -> anyhow::Result<()> {
    for http2 in [false, true] {
        let sink = HttpSinkProcess::start_http(options)?;
        let scheme = if options.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}/", sink.address);
        let ca = sink.certificate.clone();
        let client = reqwest_alone(&HttpClientOptions { url, ca, http2, ..HttpClientOptions::default() })?;
        let seen = sink.finish()?;
        let sink_cpu = seen.cpu_seconds * 1e6 / seen.counts.accepted.max(1) as f64;
        let version = if seen.counts.over_http2 > 0 { "HTTP/2" } else { "HTTP/1.1" };
        let line = serde_json::json!({
            "version": version, "client": client, "sink": seen, "sink_cpu_microseconds_per_request": sink_cpu,
        });
        say(&line.to_string());
    }
    Ok(())
}

fn data(options: &DataOptions) -> anyhow::Result<()> {
    let columns = if options.ten { Columns::Ten } else { Columns::Full };
    let base = Base { contacts: options.contacts, seed: options.seed, prefix: "c", batch: "base", columns };
    let bar = bar(options.contacts, "writing");
    let bytes = base::write_file(&base, &options.out, |rows| bar.set_position(rows))?;
    bar.finish_and_clear();
    note(&format!("{} contacts, {} in {}", options.contacts, mebibytes(bytes), options.out.display()));
    Ok(())
}
