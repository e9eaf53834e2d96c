//! The drivers: what can be run, with which parameters, and which figures it finds.
//!
//! Owns the catalogue. A driver's parameters are its command-line options, so that a name, a type, a default and a
//! description are said once, whether a value comes from a scenario's file, from `--set` or from a flag. It must not know
//! which scenarios there are.

use anyhow::{Context, bail};
use clap::{ArgAction, ArgMatches, Args, Command};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::findings::{Findings, Measure};

/// A step of a load profile: a campaign with its own audience, started at its planned moment whatever the others do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: String,
    /// When it starts, seconds after the first one [default: when the step before is planned to end].
    pub at_seconds: Option<u64>,
    /// Messages a second; without it, as fast as it goes.
    pub per_second: Option<u64>,
    /// How long it lasts at its rate.
    pub for_seconds: Option<u64>,
    /// Contacts, instead of a time.
    pub contacts: Option<u64>,
}

impl Step {
    /// Contacts of the step's audience.
    pub fn audience(&self) -> anyhow::Result<u64> {
        match (self.contacts, self.per_second, self.for_seconds) {
            (Some(contacts), _, None) if contacts > 0 => Ok(contacts),
            (None, Some(rate), Some(seconds)) if rate > 0 && seconds > 0 => Ok(rate * seconds),
            _ => bail!("load `{}`: say `contacts`, or `per_second` and `for_seconds`, above 0", self.name),
        }
    }

    /// Seconds from its start to its planned end; nothing for one that goes as fast as it can.
    pub fn planned_seconds(&self) -> Option<f64> {
        let rate = self.per_second? as f64;
        Some(self.audience().ok()? as f64 / rate)
    }
}

/// What a scenario gives its driver besides parameters.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    pub load: Vec<Step>,
    /// Options of the sink, by their names on the command line of `loadtest sink`, with underscores.
    pub sink: toml::Table,
    /// Keys of the relay's table in the engine's configuration.
    pub connector: toml::Table,
}

/// What a driver's options do.
pub trait Drive: Args + Serialize + Send {
    /// Figures that it finds, all of them.
    const MEASURES: &'static [Measure];

    /// Runs it. An error is a failure to run or a broken invariant; a missed bar is none.
    fn drive(&self, extras: &Extras, findings: &Findings) -> anyhow::Result<()>;
}

/// A driver with its parameters, ready to run.
pub trait Ready: Send {
    fn drive(&self, extras: &Extras, findings: &Findings) -> anyhow::Result<()>;
    /// All parameters, defaults included.
    fn parameters(&self) -> Value;
}

impl<D: Drive> Ready for D {
    fn drive(&self, extras: &Extras, findings: &Findings) -> anyhow::Result<()> {
        Drive::drive(self, extras, findings)
    }

    fn parameters(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// What a scenario may give a driver, besides parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Parameters,
    /// `[[load]]`, `[sink]` and `[connector]`, too.
    Load,
}

/// A driver of the catalogue.
#[derive(Clone, Copy)]
pub struct Driver {
    pub name: &'static str,
    pub takes: Takes,
    pub measures: &'static [Measure],
    /// Adds its options to a command.
    pub augment: fn(Command) -> Command,
    prepare: fn(&ArgMatches) -> Result<Box<dyn Ready>, clap::Error>,
}

const fn driver<D: Drive + 'static>(name: &'static str, takes: Takes) -> Driver {
    Driver {
        name,
        takes,
        measures: D::MEASURES,
        augment: D::augment_args,
        prepare: |matches| Ok(Box::new(D::from_arg_matches(matches)?)),
    }
}

/// Every driver.
pub const DRIVERS: &[Driver] = &[
    driver::<crate::email::EmailOptions>("email", Takes::Parameters),
    driver::<crate::load::LoadOptions>("load", Takes::Load),
    driver::<crate::growth::GrowthOptions>("growth", Takes::Parameters),
    driver::<crate::flow::FlowOptions>("flow", Takes::Parameters),
    driver::<crate::import::ImportOptions>("import", Takes::Parameters),
    driver::<crate::tracking::TrackingOptions>("tracking", Takes::Parameters),
    driver::<crate::fairness::FairnessOptions>("fairness", Takes::Parameters),
    driver::<crate::recovery::RecoveryOptions>("recovery", Takes::Parameters),
    driver::<crate::winner::WinnerOptions>("winner", Takes::Parameters),
    driver::<crate::profile::ProfileOptions>("profile", Takes::Parameters),
    driver::<crate::kill::KillOptions>("kill", Takes::Parameters),
    driver::<crate::disk::DiskOptions>("disk", Takes::Parameters),
];

/// The driver of this name.
pub fn named(name: &str) -> anyhow::Result<&'static Driver> {
    let known = || DRIVERS.iter().map(|driver| driver.name).collect::<Vec<_>>().join(", ");
    DRIVERS
        .iter()
        .find(|driver| driver.name == name)
        .with_context(|| format!("no driver `{name}`; there are {}", known()))
}

impl Driver {
    /// The driver with a scenario's parameters; a key that it does not know is refused, and so is a value that it cannot read.
    pub fn prepare(&self, parameters: &toml::Table) -> anyhow::Result<Box<dyn Ready>> {
        let mut command = (self.augment)(Command::new("parameters").no_binary_name(true).disable_help_flag(true));
        command.build();
        let mut line = Vec::new();
        for (key, value) in parameters {
            line.extend(self.argument(&command, key, value)?);
        }
        let read = command.try_get_matches_from(line).and_then(|matches| (self.prepare)(&matches));
        read.map_err(|error| anyhow::anyhow!("parameters of the driver {}: {}", self.name, first_line(&error)))
    }

    /// A parameter as the command line would have it.
    fn argument(&self, command: &Command, key: &str, value: &toml::Value) -> anyhow::Result<Option<String>> {
        let Some(arg) = command.get_arguments().find(|arg| arg.get_id() == key) else {
            let known: Vec<&str> = command.get_arguments().map(|arg| arg.get_id().as_str()).collect();
            bail!("the driver {} has no parameter `{key}`; it has {}", self.name, known.join(", "));
        };
        let long = arg.get_long().with_context(|| format!("the parameter `{key}` cannot be set"))?;
        match (arg.get_action(), value) {
            (ArgAction::SetTrue, toml::Value::Boolean(set)) => Ok(set.then(|| format!("--{long}"))),
            (ArgAction::SetTrue, _) => bail!("the parameter `{key}` is true or false"),
            _ => Ok(Some(format!("--{long}={}", plain(value).with_context(|| format!("the parameter `{key}`"))?))),
        }
    }
}

/// A value of TOML as one writes it on a command line; arrays with commas.
pub fn plain(value: &toml::Value) -> anyhow::Result<String> {
    Ok(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(n) => n.to_string(),
        toml::Value::Float(x) => x.to_string(),
        toml::Value::Boolean(b) => b.to_string(),
        toml::Value::Array(items) => items.iter().map(plain).collect::<anyhow::Result<Vec<_>>>()?.join(","),
        toml::Value::Datetime(_) | toml::Value::Table(_) => bail!("a number, a text, true, false or a list of them"),
    })
}

/// Clap's message without its advice on usage.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default().trim();
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    #[test]
    fn parameters_are_typed_and_unknown_ones_refused() {
        let email = named("email").unwrap();
        let ready = email.prepare(&table("contacts = 5_000\nwithout_chunking = true")).unwrap();
        let parameters = ready.parameters();
        assert_eq!(
            (&parameters["contacts"], &parameters["without_chunking"]),
            (&Value::from(5_000), &Value::from(true))
        );
        assert_eq!(parameters["connections"], 50, "what is not said has its default: {parameters}");
        let refused = |text: &str| format!("{:#}", email.prepare(&table(text)).err().expect("a refusal"));
        let unknown = refused("contakts = 5");
        assert!(unknown.contains("`contakts`") && unknown.contains("contacts"), "what there is is told: {unknown}");
        assert!(refused("contacts = \"many\"").contains("many"), "the value is quoted");
        assert!(refused("without_chunking = 3").contains("true or false"));
        assert!(refused("contacts = { a = 1 }").contains("a number"));
    }

    #[test]
    fn lists_are_parameters_too() {
        let ready = named("growth").unwrap().prepare(&table("sizes = [10, 20]")).unwrap();
        assert_eq!(ready.parameters()["sizes"], serde_json::json!([10, 20]));
    }

    #[test]
    fn names_of_figures_are_unique_within_a_driver() {
        for driver in DRIVERS {
            let mut names: Vec<&str> = driver.measures.iter().map(|measure| measure.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), driver.measures.len(), "{}: {names:?}", driver.name);
        }
    }

    #[test]
    fn a_step_says_how_many_it_reaches() {
        let step = |text: &str| toml::from_str::<Step>(text).unwrap();
        let steady = step("name = \"a\"\nper_second = 100\nfor_seconds = 3");
        assert_eq!((steady.audience().unwrap(), steady.planned_seconds()), (300, Some(3.0)));
        let fast = step("name = \"a\"\ncontacts = 7");
        assert_eq!((fast.audience().unwrap(), fast.planned_seconds()), (7, None));
        assert!(step("name = \"a\"\nper_second = 100").audience().is_err(), "no end");
        assert!(toml::from_str::<Step>("name = \"a\"\nper_minute = 1").is_err(), "unknown keys are refused");
    }
}
