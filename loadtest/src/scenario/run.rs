//! One run of a scenario: the driver within its bound, the report, the files, and the verdict as an exit code.
//!
//! Owns the findings while the driver runs. Invariants: 1. whatever happens to the driver, the report of what was found is
//! printed and written; 2. without `--assert` only a failure is an error, with it a missed bar is one, too.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use super::{Change, Scenario};
use crate::bound::{self, Ended};
use crate::findings::Findings;
use crate::html;
use crate::report::{Asked, Outcome, Ran, Report, text};
use crate::server::find_binary;
use crate::text::{note, say, short};

/// Options of every run.
#[derive(Args, Clone, Debug, Default)]
pub struct RunFlags {
    /// End with an error if a bar is missed
    #[arg(long, help_heading = "The run")]
    pub assert: bool,
    /// Write the report as JSON, too
    #[arg(long, value_name = "FILE", help_heading = "The run")]
    pub json: Option<PathBuf>,
    /// Write the report as one HTML page with plots, too
    #[arg(long, value_name = "FILE", help_heading = "The run")]
    pub html: Option<PathBuf>,
    /// Change a parameter (contacts=1000), or any value by its path (bars.ratio.min=2, load.0.per_second=500)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "The run")]
    pub set: Vec<Change>,
    /// End it after this time [default: the scenario's]
    #[arg(long, value_name = "N", help_heading = "The run")]
    pub bound_seconds: Option<u64>,
}

/// Runs a scenario and says what came out.
pub fn run(scenario: &Scenario, flags: &RunFlags) -> anyhow::Result<()> {
    let report = measure(scenario, flags.bound_seconds.unwrap_or(scenario.bound_seconds))?;
    say(&text::whole(&report));
    if let Some(file) = &flags.json {
        report.write(file)?;
    }
    if let Some(file) = &flags.html {
        html::write(&report, file)?;
    }
    if report.outcome != Outcome::Complete && flags.json.is_none() {
        keep(&report)?;
    }
    verdict(&report, flags.assert)
}

/// Runs the driver within the bound.
fn measure(scenario: &Scenario, bound_seconds: u64) -> anyhow::Result<Report> {
    let ready = scenario.driver.prepare(&scenario.parameters)?;
    let parameters = ready.parameters();
    let asked = Asked {
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        question: scenario.question.clone(),
        driver: scenario.driver.name.to_owned(),
        bound_seconds,
        load: scenario.extras.load.clone(),
        sink: serde_json::to_value(&scenario.extras.sink).context("[sink]")?,
        connector: serde_json::to_value(&scenario.extras.connector).context("[connector]")?,
        bars: scenario.bars.clone(),
        parameters: parameters.clone(),
    };
    let engine = engine_version(parameters["engine"].as_str().map(Path::new))?;
    note(&format!(
        "{}: {} (takes {}, ends after {bound_seconds} s at the latest)",
        scenario.name, scenario.about, scenario.takes
    ));
    let (findings, extras) = (Findings::default(), scenario.extras.clone());
    let started = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let since = Instant::now();
    let theirs = findings.clone();
    let ended = bound::within(Duration::from_secs(bound_seconds), move || ready.drive(&extras, &theirs));
    let outcome = match ended {
        Ended::InTime(Ok(())) => Outcome::Complete,
        Ended::InTime(Err(error)) => Outcome::Failed { error: format!("{error:#}") },
        Ended::OutOfTime(_) => Outcome::OutOfTime { bound_seconds },
        Ended::Interrupted => Outcome::Interrupted,
        Ended::Panicked => Outcome::Failed { error: "the driver panicked; see above".to_owned() },
    };
    let ran = Ran { started, seconds: since.elapsed().as_secs_f64(), outcome, engine };
    Ok(Report::new(asked, ran, findings.so_far()))
}

/// What `estafette --version` says; that there is an engine is found out here, before anything is generated.
fn engine_version(named: Option<&Path>) -> anyhow::Result<String> {
    let engine = find_binary(named)?;
    let out =
        Command::new(&engine).arg("--version").output().with_context(|| format!("asking {}", engine.display()))?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Keeps an unfinished run's findings where nobody asked for a file.
fn keep(report: &Report) -> anyhow::Result<()> {
    let file = tempfile::Builder::new()
        .prefix(&format!("loadtest-{}-partial-", report.asked.scenario))
        .suffix(".json")
        .tempfile()
        .context("a file for what was found")?;
    let (_, path) = file.keep().context("keeping what was found")?;
    report.write(&path)?;
    note(&format!("what was found is kept in {}", path.display()));
    Ok(())
}

/// The end of the run as an error, if it is one.
fn verdict(report: &Report, assert: bool) -> anyhow::Result<()> {
    match &report.outcome {
        Outcome::Complete => {}
        Outcome::OutOfTime { bound_seconds } => {
            bail!("{} did not end within {bound_seconds} s and was ended", report.asked.scenario)
        }
        Outcome::Interrupted => bail!("{} was interrupted", report.asked.scenario),
        Outcome::Failed { error } => bail!("{}: {error}", report.asked.scenario),
    }
    let missed = report.missed();
    if !assert || missed.is_empty() {
        return Ok(());
    }
    let each: Vec<String> = missed
        .iter()
        .map(|bar| match bar.measured {
            Some(measured) => format!("{} is {} and should be {}", bar.name, short(measured), bar.bar),
            None => format!("{} was not measured", bar.name),
        })
        .collect();
    bail!("{} of {} bars missed: {}", missed.len(), report.bars.len(), each.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_missed_bar_is_an_error_only_if_asked() {
        let missed = sample(&[900.0], false);
        assert!(verdict(&missed, false).is_ok(), "a figure is a figure");
        let error = format!("{:#}", verdict(&missed, true).unwrap_err());
        assert_eq!(error, "1 of 2 bars missed: rate is 900 and should be ≥ 1000");
        assert!(verdict(&sample(&[1_000.0], false), true).is_ok(), "kept");
        let mut late = sample(&[1_000.0], false);
        late.outcome = Outcome::OutOfTime { bound_seconds: 9 };
        assert!(format!("{:#}", verdict(&late, false).unwrap_err()).contains("within 9 s"), "with or without");
    }
}
