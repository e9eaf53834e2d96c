//! Typed reports of a run: what was asked, what ran, on what machine, what came out, and what the bars say to it.
//!
//! Owns no state. Invariants: 1. a report names the command line, the revision, the machine and every parameter, so that
//! a figure is never without them; 2. there is one schema for all drivers, with a number that grows when a reader of older
//! reports would misread a new one.

mod json;
pub mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::findings::{Figure, Found};
use crate::proc::Machine;
use crate::scenario::bars::{Bar, Bars, Judgement, judge};
use crate::scenario::drivers::Step;

/// Number of the schema.
pub const SCHEMA: u32 = 1;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Complete,
    /// The bound was reached; what was found until then is there.
    OutOfTime {
        bound_seconds: u64,
    },
    /// A signal ended it; what was found until then is there.
    Interrupted,
    /// The driver could not go on, or an invariant was broken.
    Failed {
        error: String,
    },
}

/// What was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    pub scenario: String,
    pub about: String,
    pub question: String,
    pub driver: String,
    pub bound_seconds: u64,
    pub parameters: Value,
    pub load: Vec<Step>,
    pub sink: Value,
    pub connector: Value,
    pub bars: Bars,
}

/// What it ran with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Versions {
    pub harness: String,
    pub engine: String,
    /// The compiler of the harness.
    pub rustc: String,
    pub kernel: String,
}

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub asked: Asked,
    /// The command line, as typed.
    pub command: Vec<String>,
    /// `git describe --always --dirty`, if there is a repository.
    pub revision: Option<String>,
    /// RFC 3339.
    pub started: String,
    pub seconds: f64,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub machine: Machine,
    pub versions: Versions,
    /// Whether others took so much of the machine that only ratios count.
    pub disturbed: bool,
    pub found: Found,
    pub bars: Vec<Judgement>,
}

impl Report {
    /// Closes a run: judges its bars and notes where it ran.
    pub fn new(asked: Asked, run: Ran, found: Found) -> Report {
        let machine = Machine::read();
        let versions = Versions {
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            engine: run.engine,
            rustc: env!("LOADTEST_RUSTC").to_owned(),
            kernel: machine.kernel.clone(),
        };
        Report {
            schema: SCHEMA,
            bars: judge(&asked.bars, &found.figures),
            asked,
            command: without_secrets(std::env::args()),
            revision: revision(),
            started: run.started,
            seconds: run.seconds,
            outcome: run.outcome,
            machine,
            versions,
            disturbed: found.disturbance.is_some_and(|seen| seen.is_busy()),
            found,
        }
    }

    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.found.figures.iter().find(|figure| figure.name == name)
    }

    /// Bars that are not kept.
    pub fn missed(&self) -> Vec<&Judgement> {
        self.bars.iter().filter(|bar| !bar.kept).collect()
    }

    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = json::short_arrays(&serde_json::to_string_pretty(self).context("report as JSON")?);
        text.push('\n');
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// Reads a report; one of another schema is refused.
    pub fn read(file: &Path) -> anyhow::Result<Report> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
        let schema = value["schema"].as_u64();
        ensure!(
            schema == Some(u64::from(SCHEMA)),
            "{}: a report of schema {SCHEMA} is needed, and this one {}",
            file.display(),
            schema.map_or_else(|| "has none".to_owned(), |schema| format!("is of {schema}"))
        );
        serde_json::from_value(value).with_context(|| format!("{} is not a report", file.display()))
    }
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Ran {
    pub started: String,
    pub seconds: f64,
    pub outcome: Outcome,
    pub engine: String,
}

/// A bar as one line of words: `ratio ≥ 3`.
pub fn in_words(bars: &BTreeMap<String, Bar>) -> String {
    bars.iter().map(|(name, bar)| format!("{name} {bar}")).collect::<Vec<_>>().join(", ")
}

/// Of the sources that this program was built from, wherever it is run; else of the folder that it is run in.
fn revision() -> Option<String> {
    let built = std::env::current_exe().and_then(|program| program.metadata()?.modified()).ok();
    let built = built.and_then(|at| Some(at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()));
    let of = |folder| {
        let name = git(folder, &["describe", "--always", "--dirty"])?;
        let committed = git(folder, &["log", "-1", "--format=%ct"]).and_then(|seconds| seconds.parse().ok());
        Some(named(&name, committed, built))
    };
    [env!("CARGO_MANIFEST_DIR"), "."].into_iter().find_map(of)
}

/// A revision that was committed only after this program was built is not what it was built from.
fn named(revision: &str, committed: Option<u64>, built: Option<u64>) -> String {
    let later = committed.zip(built).is_some_and(|(committed, built)| committed > built);
    if later { format!("before {revision}") } else { revision.to_owned() }
}

fn git(folder: &str, arguments: &[&str]) -> Option<String> {
    let out = Command::new("git").args(["-C", folder]).args(arguments).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    (out.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// A command line as it may be shown: reports are passed around, and a peer's token is not meant to be.
fn without_secrets(line: impl Iterator<Item = String>) -> Vec<String> {
    let mut hides = false;
    let shown = |word: String| {
        if std::mem::replace(&mut hides, word == "--token") {
            return "…".to_owned();
        }
        // As an option, or as a parameter: `--set peer_token=user:token`.
        let secret = ["--token=", "peer_token=", "--set=peer_token="].into_iter().find(|name| word.starts_with(name));
        secret.map_or(word, |name| format!("{name}…"))
    };
    line.map(shown).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::findings::{Axes, Better, Findings, Measure, Scale};
    use crate::proc::Disturbance;

    pub const RATE: Measure = Measure::new("rate", "messages/s", Better::Higher, "what the sink saw");
    pub const TWICE: Measure = Measure::promise("twice", "contacts", Better::Lower, "mailed twice");
    pub const OVER_TIME: Axes = Axes { title: "rate over time", x: "seconds", y: "messages/s", scale: Scale::Linear };

    /// A report of a made-up run with these rates.
    pub fn sample(rates: &[f64], busy: bool) -> Report {
        let findings = Findings::default();
        rates.iter().for_each(|rate| findings.sample(&RATE, *rate));
        findings.sample(&TWICE, 0.0);
        findings.line(&OVER_TIME, "round <1>", &[(0.0, 0.0), (1.0, 900.0), (2.0, 1_100.0)]);
        findings.table("senders", vec![vec!["sender".to_owned(), "rate".to_owned()]]);
        findings.disturbance(Disturbance { foreign_cores: f64::from(u8::from(busy)), stolen_cores: 0.0 });
        let asked = Asked {
            scenario: "sample".to_owned(),
            about: "a made-up run".to_owned(),
            question: "How fast is it & why?".to_owned(),
            driver: "email".to_owned(),
            bound_seconds: 60,
            parameters: serde_json::json!({"contacts": 5}),
            load: Vec::new(),
            sink: Value::Null,
            connector: Value::Null,
            bars: toml::from_str("rate.min = 1000.0\ntwice.max = 0").unwrap(),
        };
        let ran = Ran {
            started: "2026-01-01T00:00:00Z".to_owned(),
            seconds: 2.0,
            outcome: Outcome::Complete,
            engine: "estafette 0.1.0".to_owned(),
        };
        Report::new(asked, ran, findings.so_far())
    }

    #[test]
    fn a_revision_that_came_after_the_program_is_not_taken_for_its_own() {
        assert_eq!(named("v1-3-gabc", Some(100), Some(200)), "v1-3-gabc");
        assert_eq!(named("v1-3-gabc", Some(201), Some(200)), "before v1-3-gabc");
        assert_eq!(named("v1-3-gabc", None, Some(200)), "v1-3-gabc", "nothing speaks against it");
    }

    #[test]
    fn a_report_is_read_back_whole() {
        let report = sample(&[900.0, 1_100.0, 1_200.0], true);
        assert!(report.disturbed && report.missed().is_empty(), "the median of 1 100 keeps the bar");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        report.write(&file).unwrap();
        let read = Report::read(&file).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&report).unwrap());
        assert_eq!(read.figure("rate").unwrap().samples.len(), 3, "each repetition is there");
        assert!(read.machine.cores > 0 && read.versions.rustc.contains("rustc"), "machine and compiler are named");
    }

    #[test]
    fn a_report_of_another_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.json");
        for (text, says) in [("{\"schema\": 99}", "is of 99"), ("{}", "has none"), ("no", "not JSON")] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", Report::read(&file).unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_peers_token_is_not_in_the_command() {
        let line = ["loadtest", "email", "--token", "user:secret", "--token=user:secret", "--rounds", "1"];
        let shown = without_secrets(line.into_iter().map(str::to_owned));
        assert_eq!(shown, ["loadtest", "email", "--token", "…", "--token=…", "--rounds", "1"]);
        let line = ["run", "email", "--set", "peer_token=user:secret", "--set=peer_token=user:secret"];
        let shown = without_secrets(line.into_iter().map(str::to_owned));
        assert_eq!(shown, ["run", "email", "--set", "peer_token=…", "--set=peer_token=…"]);
    }
}
