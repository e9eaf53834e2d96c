//! The command line: a client of the API, but for `serve`, `demo` and `check`, which open the data directory themselves.
//!
//! Owns no state. Invariants: CL-1 results go to standard output, everything else to standard error; CL-2 with `--json`
//! standard output holds one JSON document and nothing else (contacts of a set: one a line), and an error on standard error is
//! one, too; CL-3 the exit codes of [`Exit`] are an interface.

mod args;
mod audiences;
mod backup;
mod boot;
mod campaigns;
mod check;
mod client;
mod contacts;
mod demo;
mod events;
mod example_base;
mod figures;
mod flow;
mod health;
mod history;
mod host;
mod imports;
mod inbound;
mod local;
mod log;
mod output;
mod report;
mod schedules;
mod sequences;
mod serve;
mod winner;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use client::{CallError, Client};
pub use example_base::{ExampleBase, generate as generate_example_base};
pub use host::{Host, OpenRequest, Opened};

/// Exit codes, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// The command failed on this side: a file, a setting, the data directory.
    Failed = 1,
    /// The command line is wrong (clap's own code).
    Usage = 2,
    /// The server cannot be reached.
    Unreachable = 3,
    /// The server refused the request: the message says why.
    Refused = 4,
    /// The server failed (5xx).
    ServerFailed = 5,
    /// A check ran and found something wrong.
    ProblemsFound = 6,
    /// `inbound` alone, by sysexits.h: the report is damaged or forged; an MTA does not try again.
    BadData = 65,
    /// `inbound` alone: the server is not reached or not well; an MTA tries again.
    TryLater = 75,
}

/// For `--help`.
const EXIT_CODES: &str = "Exit codes: 0 done · 1 failed here (file, setting, data directory) · 2 wrong usage · 3 server not reached · \
    4 refused by the server · 5 the server failed · 6 a check found problems\n\
    inbound, for an MTA: 0 taken in, or nothing to take · 65 damaged or forged · 75 try again later";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Parses the command line, runs it, and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // reqwest and the connectors use this provider; there must be one before the first handshake
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        output::note("a TLS provider was installed before main: that is a fault of the program");
        return Exit::Failed.into();
    }
    let json = cli.connection.json;
    match run(cli, &boot::Local) {
        Ok(exit) => exit.into(),
        Err(error) if json => {
            output::note_json(&error_body(&error));
            exit_of(&error).into()
        }
        Err(error) => {
            output::note(&format!("error: {error:#}"));
            exit_of(&error).into()
        }
    }
}

/// A failure for programs: the server's own words, or `{"code": "failed", …}` for one on this side.
fn error_body(error: &anyhow::Error) -> serde_json::Value {
    match error.downcast_ref::<CallError>() {
        Some(CallError::Refused { body, .. }) => serde_json::json!(body),
        _ => serde_json::json!({"code": "failed", "message": format!("{error:#}")}),
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<CallError>() {
        Some(CallError::NoKey) => Exit::Failed,
        Some(CallError::Unreachable { .. }) => Exit::Unreachable,
        Some(CallError::Refused { status, .. }) if *status >= 500 => Exit::ServerFailed,
        Some(CallError::Refused { .. }) => Exit::Refused,
        Some(CallError::BadAnswer { .. }) => Exit::ServerFailed,
        None => Exit::Failed,
    }
}

fn run(cli: Cli, host: &dyn Host) -> anyhow::Result<Exit> {
    let json = cli.connection.json;
    let client = || Client::new(&cli.connection.url, cli.connection.api_key.as_deref());
    match cli.command {
        Command::Serve(options) => serve::serve(host, &options),
        Command::Demo(options) => demo::demo(host, &options, json),
        Command::Check(options) => check::run(host, &options, json),
        Command::Backup(options) => backup::backup(host, &cli.connection, &options, json),
        Command::Restore(options) => backup::restore(host, &options, json),
        Command::Health(options) => health::health(&cli.connection, &options, json),
        Command::Import(options) => imports::run(&client()?, options, json),
        Command::Contact(command) => contacts::contact(&client()?, command, json),
        Command::Attribute(command) => contacts::attribute(&client()?, command, json),
        Command::List(command) => contacts::list(&client()?, command, json),
        Command::Segment(command) => contacts::segment(&client()?, command, json),
        Command::Suppression(command) => contacts::suppression(&client()?, command, json),
        // The sample needs no server and no key.
        Command::Audience(audiences::Audience::Sample { channel }) => audiences::print_sample(&channel),
        Command::Audience(command) => audiences::run(&client()?, command, json),
        Command::Calendar(asked) => schedules::calendar(&client()?, &asked, json),
        Command::Campaign(command) => campaigns::run(&client()?, command, json),
        Command::Events(command) => events::run(&client()?, &command, json),
        Command::Inbound(options) => inbound::run(&cli.connection, &options, json),
        Command::Message(command) => history::message(&client()?, command, json),
        Command::Report(options) => report::run(&client()?, &options, json),
        Command::Winner(command) => winner::run(command, json),
        Command::Connector(command) => campaigns::connector(&client()?, command, json),
        Command::Config(command) => local::config(&command, json),
        Command::LogAddress(options) => local::log_address(&options, json),
        Command::Metrics(options) => local::metrics(&options, &cli.connection, json),
        Command::ExampleBase(options) => local::example_base(&options, json),
        Command::Completions { shell } => local::completions(shell, json),
    }
}
