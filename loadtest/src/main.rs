//! `loadtest`: the command line of the harness.

use std::io::Write;

use clap::{Parser, Subcommand};
use loadtest::client::{self, ClientOptions};
use loadtest::sink::{self, SinkOptions};

#[derive(Parser)]
#[command(version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive mail as fast as it comes
    Sink {
        #[command(flatten)]
        options: SinkOptions,
    },
    /// Send one fixed body with RFC 2920 pipelining: the ceiling of this machine
    Client {
        #[command(flatten)]
        options: ClientOptions,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Sink { options } => sink::run(&options),
        Command::Client { options } => {
            let report = client::run(&options)?;
            writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
            Ok(())
        }
    }
}
