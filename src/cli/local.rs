//! Commands that need no server: `config`, `metrics`, `example-base`, `completions`. Owns no state.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory, Subcommand};
use serde_json::json;

use super::args::{Cli, Connection};
use super::client::Client;
use super::example_base::{ExampleBase, generate};
use super::log::hidden::Hider;
use super::{Exit, output};
use crate::config::{self, KEYS};
use crate::metrics::{CATALOGUE, Source};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with a file, with line and key.
    Check { file: PathBuf },
    /// Print the settings in force, defaults included.
    Show { file: Option<PathBuf> },
    /// Print every key with its default and meaning.
    Keys,
}

#[derive(Debug, Args)]
pub struct Metrics {
    /// Print the figures of the running server instead.
    #[arg(long)]
    pub scrape: bool,
}

pub(super) fn config(command: &ConfigCommand, as_json: bool) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Check { file } => return check_config(file, as_json),
        ConfigCommand::Show { file } if as_json => {
            let shown = config::Config::load(file.as_deref())?.show();
            output::json(&toml::from_str(&shown).context("the settings in force")?)?;
        }
        ConfigCommand::Show { file } => output::raw(config::Config::load(file.as_deref())?.show().as_bytes())?,
        ConfigCommand::Keys if as_json => {
            let keys = KEYS.iter().map(|(key, default, text)| json!({"key": key, "default": default, "text": text}));
            output::json(&keys.collect())?;
        }
        ConfigCommand::Keys => {
            let header = ["key", "default", "meaning"].map(str::to_owned).to_vec();
            let rows = KEYS.iter().map(|(key, default, text)| vec![(*key).into(), (*default).into(), (*text).into()]);
            output::table(header, rows.collect())?;
        }
    }
    Ok(Exit::Done)
}

fn check_config(file: &Path, as_json: bool) -> anyhow::Result<Exit> {
    let mut inboxes = 0;
    let (exit, problem) = match config::Config::load(Some(file)) {
        Ok(config) => {
            inboxes = config.connectors.iter().filter(|connector| connector.kind() == "inbox").count();
            (Exit::Done, None)
        }
        Err(error) => (Exit::ProblemsFound, Some(error.to_string())),
    };
    match (as_json, problem) {
        (true, problem) => output::json(&json!({"valid": problem.is_none(), "problem": problem}))?,
        (false, None) => output::line(&format!("{} is valid", file.display()))?,
        (false, Some(problem)) => output::line(&problem)?,
    }
    if inboxes > 1 {
        output::note(&format!(
            "{inboxes} connectors are of kind \"inbox\", and the page shows the mails of the first alone"
        ));
    }
    Ok(exit)
}

pub(super) fn metrics(options: &Metrics, connection: &Connection, as_json: bool) -> anyhow::Result<Exit> {
    if options.scrape {
        let client = Client::new(&connection.url, connection.api_key.as_deref())?;
        if as_json {
            let mut text = Vec::new();
            client.download("/metrics", &[], &mut text)?;
            output::json(&json!({"exposition": String::from_utf8_lossy(&text)}))?;
        } else {
            client.download("/metrics", &[], &mut output::file())?;
        }
    } else if as_json {
        let rows = CATALOGUE.iter().map(|m| {
            json!({"name": m.name, "type": m.kind.name(), "labels": m.labels, "help": m.help, "per_campaign": m.source == Source::Campaign})
        });
        output::json(&rows.collect())?;
    } else {
        let header = ["name", "type", "labels", "help"].map(str::to_owned).to_vec();
        let row =
            |m: &&crate::metrics::Metric| vec![m.name.into(), m.kind.name().into(), m.labels.join(","), m.help.into()];
        output::table(header, CATALOGUE.iter().map(row).collect())?;
    }
    Ok(Exit::Done)
}

#[derive(Debug, Args)]
pub struct LogAddress {
    /// Data directory of the server that logs.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// E-mail addresses, or phone numbers in international form.
    #[arg(required = true)]
    pub addresses: Vec<String>,
}

pub(super) fn log_address(options: &LogAddress, as_json: bool) -> anyhow::Result<Exit> {
    let hider = Hider::of(&options.data)
        .with_context(|| format!("{} has no tokens.key that can be read", options.data.display()))?;
    let words = options.addresses.iter().map(|address| (address, hider.word(address)));
    if as_json {
        let words = words.map(|(address, word)| json!({"address": address, "word": word}));
        output::json(&words.collect())?;
    } else {
        for (_, word) in words {
            output::line(&word)?;
        }
    }
    Ok(Exit::Done)
}

#[derive(Debug, Args)]
pub struct ExampleBaseArgs {
    #[arg(long, default_value_t = 20_000)]
    pub contacts: u32,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where to; standard output by default. With --json it must be a file.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

pub(super) fn example_base(options: &ExampleBaseArgs, as_json: bool) -> anyhow::Result<Exit> {
    let wanted = ExampleBase { contacts: options.contacts, seed: options.seed };
    match &options.output {
        None if as_json => anyhow::bail!("the base is CSV: with --json, name a file for it with --output"),
        None => output::raw(&generated(wanted)?)?,
        Some(path) => {
            let mut file = std::fs::File::create(path).with_context(|| format!("{} cannot be made", path.display()))?;
            file.write_all(&generated(wanted)?).with_context(|| format!("{} cannot be written", path.display()))?;
            if as_json {
                output::json(&json!({"file": path, "contacts": options.contacts, "seed": options.seed}))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn generated(wanted: ExampleBase) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    generate(wanted, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn completions(shell: clap_complete::Shell, as_json: bool) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "estafette", &mut script);
    if as_json {
        output::json(&json!({"shell": shell.to_string(), "script": String::from_utf8_lossy(&script)}))?;
    } else {
        output::raw(&script)?;
    }
    Ok(Exit::Done)
}
