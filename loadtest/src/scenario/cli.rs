//! Scenarios on the command line: `run`, `list`, and a short form of each, `loadtest NAME`, with its parameters as flags.
//!
//! Owns no state. Invariant: a short form's flag is a change of the scenario and nothing else, so that what is not said is
//! what the scenario's file says.

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::drivers::plain;
use super::run::{self, RunFlags};
use super::{Change, Scenario, all, literal};
use crate::report::in_words;
use crate::text::{cells, say, table};

/// `loadtest run`.
#[derive(Args, Clone, Debug)]
pub struct RunOne {
    /// A scenario of `loadtest list`, a file, or a folder with a scenario.toml
    #[arg(value_name = "SCENARIO|FILE")]
    pub scenario: String,
    #[command(flatten)]
    pub flags: RunFlags,
}

impl RunOne {
    pub fn run(&self) -> anyhow::Result<()> {
        run::run(&Scenario::find(&self.scenario, &self.flags.set)?, &self.flags)
    }
}

/// `loadtest list`.
pub fn list() -> anyhow::Result<()> {
    let mut rows = vec![cells(["scenario", "what it shows", "bars", "takes"])];
    rows.extend(all()?.iter().map(|s| cells([&s.name, &s.about, &in_words(&s.bars), &s.takes])));
    say(&left(&rows));
    say("Run one with `loadtest run NAME`; `loadtest NAME --help` lists its parameters.");
    Ok(())
}

/// A table of texts, all left-aligned.
fn left(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let padded = |row: &Vec<String>| -> Vec<String> {
        row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect()
    };
    table(&rows.iter().map(padded).collect::<Vec<_>>())
}

/// Adds a short form of every scenario.
pub fn add_short_forms(mut cli: Command) -> anyhow::Result<Command> {
    for scenario in all()? {
        cli = cli.subcommand(short_form(&scenario)?);
    }
    Ok(cli)
}

fn short_form(scenario: &Scenario) -> anyhow::Result<Command> {
    // Clap keeps names for as long as the program runs.
    let keep = |text: &str| -> &'static str { text.to_owned().leak() };
    let about = scenario.about.clone();
    let long = format!(
        "{}\n\n{}\n\nBars: {}. Takes {}.",
        scenario.about,
        scenario.question,
        in_words(&scenario.bars),
        scenario.takes
    );
    let aliases: Vec<&'static str> = scenario.aliases.iter().map(|alias| keep(alias)).collect();
    let command = Command::new(keep(&scenario.name)).visible_aliases(aliases).display_order(50);
    let mut command = (scenario.driver.augment)(command);
    for (key, value) in &scenario.parameters {
        let shown = keep(&plain(value)?);
        command = command.mut_arg(key, |arg| match arg.get_action() {
            ArgAction::SetTrue => arg,
            _ if arg.get_value_delimiter().is_some() => arg.default_values(shown.split(',').collect::<Vec<_>>()),
            _ => arg.default_value(shown),
        });
    }
    // The options' own descriptions must not stand for the scenario's: they come first.
    Ok(RunFlags::augment_args(command).about(about).long_about(long))
}

/// Runs the short form that was typed, if it is one.
pub fn run_short_form(name: &str, matches: &ArgMatches) -> Option<anyhow::Result<()>> {
    let scenario = match all() {
        Ok(all) => all.into_iter().find(|scenario| scenario.name == name)?,
        Err(error) => return Some(Err(error)),
    };
    Some(typed(&scenario, matches))
}

fn typed(scenario: &Scenario, matches: &ArgMatches) -> anyhow::Result<()> {
    let flags = RunFlags::from_arg_matches(matches)?;
    let mut changes = flags_as_changes(scenario, matches);
    changes.extend(flags.set.iter().cloned());
    run::run(&Scenario::find(&scenario.name, &changes)?, &flags)
}

/// The driver's flags that were typed.
fn flags_as_changes(scenario: &Scenario, matches: &ArgMatches) -> Vec<Change> {
    let command = (scenario.driver.augment)(Command::new("parameters"));
    let typed = command
        .get_arguments()
        .filter(|arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine));
    typed
        .filter_map(|arg| {
            let id = arg.get_id().as_str();
            let value = match arg.get_action() {
                ArgAction::SetTrue => toml::Value::Boolean(true),
                _ => {
                    let raw: Vec<toml::Value> =
                        matches.get_raw(id)?.map(|value| literal(&value.to_string_lossy())).collect();
                    match <[toml::Value; 1]>::try_from(raw) {
                        Ok([one]) => one,
                        Err(many) => toml::Value::Array(many),
                    }
                }
            };
            Some(Change { path: id.to_owned(), value })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(line: &[&str]) -> (Scenario, ArgMatches) {
        let cli = add_short_forms(Command::new("loadtest")).unwrap();
        cli.clone().debug_assert();
        let matches = cli.try_get_matches_from(line).unwrap();
        let (name, matches) = matches.subcommand().unwrap();
        (Scenario::find(name, &[]).unwrap(), matches.clone())
    }

    #[test]
    fn typed_flags_are_changes_and_nothing_else_is() {
        let (scenario, matches) =
            matched(&["loadtest", "email", "--contacts", "5000", "--without-chunking", "--assert"]);
        let changes = flags_as_changes(&scenario, &matches);
        let expected = ["contacts=5000", "without_chunking=true"].map(|text| text.parse::<Change>().unwrap());
        assert_eq!(changes, expected, "in the order of the options");
        assert!(RunFlags::from_arg_matches(&matches).unwrap().assert, "the run's own flags are no parameters");
    }

    #[test]
    fn lists_and_aliases_work_and_help_shows_the_scenarios_defaults() {
        let (scenario, matches) = matched(&["loadtest", "growth", "--sizes", "10,20"]);
        assert_eq!(flags_as_changes(&scenario, &matches)[0].value.as_array().map(Vec::len), Some(2));
        let (scenario, _) = matched(&["loadtest", "fairness"]);
        assert_eq!(scenario.name, "two-campaigns-fairness", "an alias");
        let email = Scenario::find("email", &changes_of("contacts=123456")).unwrap();
        let help = short_form(&email).unwrap().render_long_help().to_string();
        assert!(help.contains("[default: 123456]"), "{help}");
        assert!(help.contains("Bars: "), "{help}");
    }

    fn changes_of(text: &str) -> Vec<Change> {
        vec![text.parse().unwrap()]
    }
}
