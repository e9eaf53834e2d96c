//! The command line of scenarios, end to end on the real engine: small runs, their reports, verdicts and pages.
//!
//! The engine is the one beside the harness, which `cargo test --workspace` builds; `ESTAFETTE_BIN` names another.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::process::{Command, Output};

use loadtest::report::{Outcome, Report};

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().expect("loadtest starts")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn ends_well(arguments: &[&str]) -> String {
    let output = loadtest(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

fn fails(arguments: &[&str]) -> String {
    let output = loadtest(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
    said(&output)
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn the_list_shows_every_scenario_with_its_bars() {
    let list = ends_well(&["list"]);
    for name in [
        "email",
        "peak",
        "soak",
        "spike",
        "throttled-provider",
        "two-campaigns-fairness",
        "kill",
        "journey-10m",
        "growth",
    ] {
        assert!(list.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in\n{list}");
    }
    assert!(list.contains("ratio ≥ 3") && list.contains("twice ≤ 0"), "bars are shown: {list}");
    let help = ends_well(&["growth", "--help"]);
    assert!(help.contains("--sizes") && help.contains("--assert") && help.contains("[default: 10000"), "{help}");
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(fails(&["run", "nothing"]).contains("no scenario `nothing`"));
    assert!(fails(&["run", "email", "--set", "contakts=5"]).contains("`contakts`"));
    let file = path(dir.path(), "own.toml");
    std::fs::write(&file, "name = \"own\"\nabuot = \"x\"\n").expect("a file");
    let unknown = fails(&["run", &file]);
    assert!(unknown.contains("abuot") && unknown.contains("line 2"), "the place is named: {unknown}");
}

#[test]
fn a_small_flow_is_reported_judged_shown_and_compared() {
    let dir = tempfile::tempdir().expect("a folder");
    let (json, html) = (path(dir.path(), "a.json"), path(dir.path(), "a.html"));
    // A flow of two thousand contacts measures nothing: the bar is only there to be kept.
    let small = ["flow", "--contacts", "2000", "--rounds", "2", "--set", "bars.ratio.min=0.0001", "--assert"];
    let text = ends_well(&[&small[..], &["--json", &json, "--html", &html]].concat());
    assert!(text.contains("ratio") && text.contains("kept") && text.contains("CPU µs/contact"), "{text}");
    let report = Report::read(Path::new(&json)).expect("a report");
    assert_eq!(report.asked.parameters["contacts"], 2_000, "the flag reached the driver");
    assert_eq!(report.figure("ratio").expect("a ratio").samples.len(), 2, "a sample a round");
    assert_eq!(report.found.ledgers.len(), 4, "each campaign's ledger");
    assert!(report.found.ledgers.iter().all(|one| one.ledger.holds() && one.ledger.accepted == 2_000));
    assert!(report.versions.engine.contains("estafette"), "{:?}", report.versions);
    let page = std::fs::read_to_string(&html).expect("a page");
    assert!(page.contains("<svg") && page.contains("All 1 bars are kept"), "{page}");
    let outside = ["<script", "<link", "@import", "url(", "src="].into_iter().find(|part| page.contains(part));
    assert_eq!(outside, None, "the page needs nothing from elsewhere");

    let again = path(dir.path(), "b.html");
    ends_well(&["report", &json, "--html", &again]);
    // A number's last digit may change in JSON, which only the driver's own result at the end of the page shows.
    let above = |page: &str| page.split("<details>").next().map(str::to_owned);
    let stored = std::fs::read_to_string(&again).expect("a page");
    assert!(above(&stored) == above(&page), "a stored report gives the same page");
    let compared = ends_well(&["compare", &json, &json, "--assert"]);
    assert!(compared.contains("noise") && !compared.contains("WORSE"), "a report is as good as itself: {compared}");

    let missed = ["flow", "--contacts", "2000", "--rounds", "1", "--set", "bars.ratio.min=1000", "--assert"];
    assert!(fails(&missed).contains("1 of 1 bars missed: ratio is"));
}

#[test]
fn a_small_spike_starts_in_time_and_mails_everybody_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let json = path(dir.path(), "spike.json");
    let sizes = ["load.0.per_second=200", "load.0.for_seconds=4", "load.1.at_seconds=1", "load.1.per_second=400"];
    let mut line = vec!["run", "spike", "--assert", "--json", &json];
    // Rates of a test's machine are none of a bar's.
    let lenient = ["load.1.for_seconds=1", "bars.rate_share.min=0", "bars.late.max=1000", "small=true"];
    for set in sizes.iter().chain(&lenient) {
        line.extend(["--set", set]);
    }
    ends_well(&line);
    let report = Report::read(Path::new(&json)).expect("a report");
    let one = |name: &str| report.figure(name).unwrap_or_else(|| unreachable!("no {name}")).judged();
    assert_eq!((one("lost"), one("twice"), one("unknown")), (0.0, 0.0, 0.0));
    assert_eq!(report.found.sinks[0].report.counts.accepted, 4 * 200 + 400, "the sink's own count");
    assert!(report.found.charts.iter().any(|chart| chart.title == "At the sink"), "the sink over time");
    assert!(report.found.latencies.iter().any(|latency| latency.count > 0), "round trips");
    assert!(one("ceiling") > 0.0, "the sink's own limit stands beside");
}

#[test]
fn a_small_run_recovers_from_its_kills() {
    let dir = tempfile::tempdir().expect("a folder");
    let json = path(dir.path(), "recovery.json");
    let lenient = ["--set", "bars.recovery.max=1000", "--set", "bars.memory.max=100000"];
    let line = ["recovery", "--contacts", "40000", "--kills", "2", "--assert", "--json", &json];
    ends_well(&[&line[..], &lenient[..]].concat());
    let report = Report::read(Path::new(&json)).expect("a report");
    assert_eq!(report.figure("recovery").expect("recoveries").samples.len(), 2, "one a kill");
    assert_eq!(report.found.ledgers[0].ledger.audience, 40_000);
    // Where a control group can be made (as root) the run ended within its limit; elsewhere that is said.
    let limited = report.figure("limited_peak").map(|peak| peak.judged());
    let told = report.found.remarks.iter().any(|remark| remark.starts_with("no memory limit: "));
    assert!(limited.map_or(told, |peak| peak > 1.0 && peak <= 512.0), "{limited:?}, {:?}", report.found.remarks);
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_leaves_a_report_and_no_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let json = path(dir.path(), "late.json");
    let steady = ["--set", "load.0.per_second=10", "--set", "load.0.for_seconds=600", "--set", "load.1.for_seconds=1"];
    let folder = format!("folder={}", dir.path().display());
    let line = ["run", "spike", "--bound-seconds", "6", "--json", &json, "--set", &folder];
    let error = fails(&[&line[..], &steady[..]].concat());
    assert!(error.contains("did not end within 6 s"), "{error}");
    let report = Report::read(Path::new(&json)).expect("a report of half a run");
    assert_eq!(report.outcome, Outcome::OutOfTime { bound_seconds: 6 });
    let left = Command::new("pgrep").args(["-f", dir.path().to_str().expect("UTF-8")]).output().expect("pgrep");
    assert!(left.stdout.is_empty(), "nothing of it runs any more: {}", String::from_utf8_lossy(&left.stdout));
}
