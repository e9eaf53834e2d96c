//! `loadtest`: the command line of the harness.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use loadtest::base::{self, Base, Columns};
use loadtest::client::{self, ClientOptions};
use loadtest::compare::{self, CompareOptions};
use loadtest::email;
use loadtest::html;
use loadtest::peers::http::{HttpClientOptions, reqwest_alone};
use loadtest::peers::listmonk::run::{self as peer, PeerCommand};
use loadtest::readers::{self, ReadersCommand};
use loadtest::report::{self, Report};
use loadtest::scenario::cli::{self, RunOne};
use loadtest::sink::http::{self, HttpSinkOptions, HttpSinkProcess};
use loadtest::sink::process::SinkProcess;
use loadtest::sink::{self, SinkOptions};
use loadtest::text::{bar, mebibytes, note, say};
use loadtest::tracking;

/// Load tests of Estafette, beside its peers.
///
/// A scenario says what is run, with which parameters and load, how long at most,
/// and which bars it must keep. `loadtest list` shows those that are built in;
/// `loadtest run` takes one of them or a file of your own, and `loadtest NAME` is
/// the short form of `run NAME` whose flags are its parameters.
///
/// A scenario starts an engine of its own: build it first with
/// `cargo build --release`, and it is found beside this program. It prints tables
/// and verdicts; --json FILE and --html FILE write the whole report, --assert makes
/// a missed bar an error, and `loadtest compare` tells a change from noise.
///
///     loadtest list
///     loadtest run email --set contacts=50000 --assert --json after.json --html after.html
///     loadtest compare before.json after.json --assert
#[derive(Parser)]
#[command(version, long_about, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario: one that is built in, or a file
    #[command(display_order = 1)]
    Run(RunOne),
    /// The scenarios that are built in: what each shows, its bars, how long it takes
    #[command(display_order = 2)]
    List,
    /// Hold two reports of one scenario against each other: what changed, and what is noise
    #[command(display_order = 3)]
    Compare(CompareOptions),
    /// Print a stored report again, or make an HTML page of it
    #[command(display_order = 4)]
    Report(ReportOptions),
    /// The peer of `tracking`: prints its address and serves until it is killed
    #[command(hide = true)]
    EmptyHandler,
    /// Receive mail as fast as it comes; `loadtest sink --help` lists what it can do wrong on purpose
    #[command(display_order = 60)]
    Sink {
        #[command(flatten)]
        options: SinkOptions,
        /// Measure the sink's own ceiling with the bare client, print it and end
        #[arg(long)]
        ceiling: bool,
    },
    /// Answer as push services, messengers and webhooks do, over HTTP/1.1 and HTTP/2; `loadtest http-sink --help`
    #[command(display_order = 61)]
    HttpSink {
        #[command(flatten)]
        options: HttpSinkOptions,
        /// Measure the sink's own ceiling with reqwest alone, over HTTP/1.1 and HTTP/2, print it and end
        #[arg(long)]
        ceiling: bool,
    },
    /// Read the mails that a sink took, and open, click, convert, unsubscribe and complain with a known taste
    #[command(display_order = 61)]
    Readers(ReadersCommand),
    /// A peer that you run (listmonk), alone against a sink: is it set up, and how fast is it
    #[command(display_order = 61)]
    Peer(PeerCommand),
    /// Send one fixed body by reqwest alone: the ceiling of the HTTP channels on this machine
    #[command(display_order = 61)]
    HttpClient(HttpClientOptions),
    /// Send one fixed body with RFC 2920 pipelining: the ceiling of this machine
    #[command(display_order = 61)]
    Client(ClientOptions),
    /// Write a sample base as CSV
    #[command(display_order = 62)]
    Data(DataOptions),
}

#[derive(Args)]
struct ReportOptions {
    /// A report that `--json` wrote
    file: PathBuf,
    /// Write it as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
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
    let matches = cli::add_short_forms(Cli::command())?.get_matches();
    if let Some((name, matches)) = matches.subcommand()
        && let Some(ran) = cli::run_short_form(name, matches)
    {
        return ran;
    }
    match Cli::from_arg_matches(&matches)?.command {
        Command::Run(one) => one.run(),
        Command::List => cli::list(),
        Command::Compare(options) => compare::run(&options),
        Command::Report(options) => stored(&options),
        Command::EmptyHandler => tracking::serve_empty(),
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

fn stored(options: &ReportOptions) -> anyhow::Result<()> {
    let report = Report::read(&options.file)?;
    match &options.html {
        Some(file) => html::write(&report, file),
        None => {
            say(&report::text::whole(&report));
            Ok(())
        }
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
