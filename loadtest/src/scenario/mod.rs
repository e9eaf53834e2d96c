//! Scenarios: what to run, with which parameters and load, how long at most, and which bars it must keep, as TOML.
//!
//! Owns the files that are built in. Invariants: 1. a scenario is refused whole before anything runs: unknown keys, values
//! that the driver cannot read, bars on figures that it never finds; 2. what a flag or `--set` changes goes through the same
//! checks as what the file says. It must not know how a driver works.

pub mod bars;
pub mod cli;
pub mod drivers;
pub mod run;

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use self::bars::Bars;
use self::drivers::{Driver, Extras, Step, Takes};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../scenarios/", $name, "/scenario.toml")))),*]
    };
}

/// Names and texts of the scenarios that are built in, in the order of `loadtest list`.
const BUILT_IN: &[(&str, &str)] = &built_in![
    "email",
    "peak",
    "soak",
    "spike",
    "throttled-provider",
    "two-campaigns-fairness",
    "tracking",
    "winner-truth",
    "import",
    "growth",
    "flow",
    "journey-10m",
    "recovery",
    "profile",
    "kill",
    "disk",
];

/// A scenario as its file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    /// One line for the list.
    about: String,
    /// What is asked and how it is measured, for somebody who was not there.
    question: String,
    driver: String,
    /// How long it takes on a machine of two cores, in words.
    takes: String,
    /// The time after which it is ended.
    bound_seconds: u64,
    /// Other names that `loadtest NAME` knows it by.
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    parameters: toml::Table,
    #[serde(default)]
    load: Vec<Step>,
    #[serde(default)]
    sink: toml::Table,
    #[serde(default)]
    connector: toml::Table,
    #[serde(default)]
    bars: Bars,
}

/// A scenario whose parts fit together.
#[derive(Clone)]
pub struct Scenario {
    pub name: String,
    pub about: String,
    pub question: String,
    pub takes: String,
    pub bound_seconds: u64,
    pub aliases: Vec<String>,
    pub driver: &'static Driver,
    pub parameters: toml::Table,
    pub extras: Extras,
    pub bars: Bars,
}

/// A change of a scenario: a parameter by its name, or any value by its path (`bars.ratio.min`, `load.0.per_second`).
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub path: String,
    pub value: toml::Value,
}

impl std::str::FromStr for Change {
    type Err = String;

    /// `path=value`, the value as TOML has it, or a text without its quotes.
    fn from_str(text: &str) -> Result<Change, String> {
        let (path, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
        Ok(Change { path: path.trim().to_owned(), value: literal(value.trim()) })
    }
}

/// Reads a value as TOML, else takes it as text.
pub fn literal(text: &str) -> toml::Value {
    let table = format!("value = {text}").parse::<toml::Table>().ok();
    let value = table.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

impl Scenario {
    /// Reads a scenario, changes it, and checks it whole.
    pub fn parse(text: &str, changes: &[Change]) -> anyhow::Result<Scenario> {
        let table = text.parse::<toml::Table>().context("the scenario is not TOML")?;
        let text = match changes {
            // Straight from the file, so that an error names line and column.
            [] => toml::from_str::<Text>(text)?,
            _ => changed(table, changes)?.try_into::<Text>()?,
        };
        let driver = drivers::named(&text.driver)?;
        driver.prepare(&text.parameters)?;
        bars::check(&text.bars, driver.measures).map_err(anyhow::Error::msg)?;
        ensure!(text.bound_seconds > 0, "bound_seconds is the longest that the scenario may take: above 0");
        let extras = Extras { load: text.load, sink: text.sink, connector: text.connector };
        match driver.takes {
            Takes::Load => ensure!(!extras.load.is_empty(), "the driver {} needs a [[load]]", driver.name),
            Takes::Parameters => ensure!(
                extras.load.is_empty() && extras.sink.is_empty() && extras.connector.is_empty(),
                "the driver {} takes no [[load]], [sink] or [connector]",
                driver.name
            ),
        }
        for step in &extras.load {
            step.audience()?;
        }
        extras.sink_options()?;
        Ok(Scenario {
            name: text.name,
            about: text.about,
            question: text.question,
            takes: text.takes,
            bound_seconds: text.bound_seconds,
            aliases: text.aliases,
            driver,
            parameters: text.parameters,
            extras,
            bars: text.bars,
        })
    }

    /// One that is built in, by its name or another name of it; else a file.
    pub fn find(name: &str, changes: &[Change]) -> anyhow::Result<Scenario> {
        if let Some(text) = built_in_text(name)? {
            return Scenario::parse(text, changes).with_context(|| format!("scenario {name}"));
        }
        let mut path = Path::new(name).to_owned();
        if path.is_dir() {
            path.push("scenario.toml");
        }
        if !path.exists() {
            let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            bail!("no scenario `{name}`, and no such file; there are {}", known.join(", "));
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Scenario::parse(&text, changes).with_context(|| format!("scenario {}", path.display()))
    }
}

/// All that are built in.
pub fn all() -> anyhow::Result<Vec<Scenario>> {
    BUILT_IN.iter().map(|(name, text)| Scenario::parse(text, &[]).with_context(|| format!("scenario {name}"))).collect()
}

fn built_in_text(name: &str) -> anyhow::Result<Option<&'static str>> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok(Some(text));
    }
    let scenario = all()?.into_iter().find(|scenario| scenario.aliases.iter().any(|alias| alias == name));
    Ok(scenario.and_then(|found| BUILT_IN.iter().find(|(known, _)| *known == found.name).map(|(_, text)| *text)))
}

/// The table with the changes made.
fn changed(mut table: toml::Table, changes: &[Change]) -> anyhow::Result<toml::Table> {
    for change in changes {
        let path: Vec<&str> = match change.path.contains('.') {
            true => change.path.split('.').collect(),
            false => vec!["parameters", &change.path],
        };
        let at = place(&mut table, &path).with_context(|| format!("--set {}", change.path))?;
        *at = change.value.clone();
    }
    Ok(table)
}

/// The value at a path, made where tables lack it; an item of a list must be there.
fn place<'a>(table: &'a mut toml::Table, path: &[&str]) -> anyhow::Result<&'a mut toml::Value> {
    let (first, rest) = path.split_first().context("an empty path")?;
    let empty = || toml::Value::Table(toml::Table::new());
    let mut at = table.entry((*first).to_owned()).or_insert_with(empty);
    for part in rest {
        at = match at {
            toml::Value::Array(items) => {
                let items_len = items.len();
                let index: usize = part.parse().with_context(|| format!("`{part}` is no number of an item"))?;
                items.get_mut(index).with_context(|| format!("there are only {items_len} items"))?
            }
            toml::Value::Table(table) => table.entry((*part).to_owned()).or_insert_with(empty),
            _ => bail!("`{part}`: what stands before it is a value"),
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests;
