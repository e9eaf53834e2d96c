//! A report as one HTML page: no script, no font, no picture from elsewhere, so that it can be mailed and read offline.
//!
//! Owns no state. The page is for somebody who was not there: what was asked, what came out, the verdicts, the plots, the
//! machine, and how to do it again. Invariants: 1. every text of the report is escaped; 2. the page says first whether the
//! run was whole, kept its bars, and had the machine for itself.

pub mod plots;

use std::path::Path;

use anyhow::Context;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};

use crate::report::{Outcome, Report, text};
use crate::text::{grouped, short};

const PAGE: &str = include_str!("page.html");

/// Writes the page.
pub fn write(report: &Report, file: &Path) -> anyhow::Result<()> {
    std::fs::write(file, page(report)?).with_context(|| format!("writing {}", file.display()))
}

/// The page as text.
pub fn page(report: &Report) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("short", short);
    environment.add_filter("grouped", grouped);
    environment.add_template("page", PAGE).context("the page's template")?;
    let (state, verdict) = verdict(report);
    let page = environment.get_template("page").context("the page's template")?;
    page.render(context! {
        report => Value::from(Serde(report)),
        state,
        verdict,
        busy => text::busy(report),
        plots => plots::all(report)?,
        bars => report.bars.iter().map(|bar| context! {
            limit => bar.bar.to_string(),
            verdict => bar.verdict(),
            of => Value::from(Serde(bar)),
        }).collect::<Vec<_>>(),
        again => again(report),
        parameters => parameters(report),
        gibibytes => format!("{:.0}", report.machine.memory_bytes as f64 / f64::from(1 << 30)),
        detail => serde_json::to_string_pretty(&report.found.detail).context("the driver's result")?,
    })
    .context("rendering the page")
}

/// How it ended, as a class of the page and in words.
fn verdict(report: &Report) -> (&'static str, String) {
    match (&report.outcome, report.missed().len()) {
        (Outcome::Failed { error }, _) => ("missed", format!("The run failed: {error}")),
        (Outcome::OutOfTime { bound_seconds }, _) => {
            ("missed", format!("The run did not end within {bound_seconds} s; what was found until then stands below."))
        }
        (Outcome::Interrupted, _) => {
            ("missed", "The run was interrupted; what was found until then stands below.".to_owned())
        }
        (Outcome::Complete, 0) if report.bars.is_empty() => ("kept", "The run is complete; it has no bars.".to_owned()),
        (Outcome::Complete, 0) => ("kept", format!("All {} bars are kept.", report.bars.len())),
        (Outcome::Complete, missed) => ("missed", format!("{missed} of {} bars are missed.", report.bars.len())),
    }
}

/// The command that does it again, from a fresh clone.
fn again(report: &Report) -> String {
    let revision = report.revision.as_deref().unwrap_or("main").trim_end_matches("-dirty").to_owned();
    // What was typed after the program's own name, which is a path of the machine it ran on.
    let typed: Vec<String> = report.command.iter().skip(1).map(|word| quoted(word)).collect();
    format!("git checkout {revision}\ncargo build --release --workspace\ntarget/release/loadtest {}", typed.join(" "))
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Names and values of all parameters, the load and the sink's behaviour.
fn parameters(report: &Report) -> Vec<(String, String)> {
    let asked = &report.asked;
    let mut rows = Vec::new();
    for (prefix, table) in [("", &asked.parameters), ("sink.", &asked.sink), ("connector.", &asked.connector)] {
        for (name, value) in table.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            rows.push((format!("{prefix}{name}"), value.to_string()));
        }
    }
    for step in &asked.load {
        rows.push((format!("load {}", step.name), serde_json::to_string(step).unwrap_or_default()));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Axes, Findings, Latency, Scale};
    use crate::report::tests::sample;

    #[test]
    fn the_page_stands_alone_and_says_everything() {
        let mut report = sample(&[900.0, 950.0, 1_100.0], true);
        report.found.latencies.push(Latency {
            name: "answer".to_owned(),
            count: 10,
            percentiles: vec![(50.0, 0.001), (99.0, 0.01), (100.0, 0.02)],
            about: "at the client".to_owned(),
        });
        let page = page(&report).unwrap();
        for said in
            ["1 of 2 bars are missed", "MISSED", "How fast is it &amp; why?", "busy with something else", "contacts"]
        {
            assert!(page.contains(said), "{said} in\n{page}");
        }
        assert_eq!(page.matches("<svg").count(), 2, "a chart and the percentiles");
        assert!(
            !page.contains("<script") && !page.contains("href=") && !page.contains("<img"),
            "nothing from elsewhere"
        );
        assert!(!page.contains("round <1>"), "names are escaped in plots, too");
        assert!(page.contains("cargo build --release"), "how to do it again");
    }

    #[test]
    fn half_an_hour_by_the_second_is_still_a_small_file() {
        let mut report = sample(&[900.0, 950.0, 1_100.0], false);
        let axes = Axes { title: "over time", x: "seconds", y: "1/s", scale: Scale::Linear };
        let findings = Findings::default();
        for name in ["rate", "memory", "cores", "accepted", "refused"] {
            let points: Vec<(f64, f64)> =
                (0..1_800).map(|i| (f64::from(i) * 1.000_37, 12_345.678_9 / f64::from(i % 7 + 1))).collect();
            findings.line(&axes, name, &points);
        }
        report.found.charts = findings.so_far().charts;
        assert!(report.found.charts[0].lines.iter().all(|line| line.points.len() == 1_800), "nothing is left out");
        let folder = tempfile::tempdir().unwrap();
        let (html, json) = (folder.path().join("a.html"), folder.path().join("a.json"));
        write(&report, &html).unwrap();
        report.write(&json).unwrap();
        for file in [html, json] {
            let bytes = file.metadata().unwrap().len();
            assert!(bytes < 200_000, "{}: {bytes} bytes", file.display());
        }
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(["a=1", "a b", "it's"].map(quoted), ["a=1", "'a b'", "'it'\\''s'"]);
    }
}
