//! What a driver finds while it runs: figures with their samples, charts, percentiles, ledgers, counts and tables.
//!
//! Owns the collection, which the driver fills and the frame reads. Invariants: 1. what was found before a failure or
//! the end of the time is kept, because it is put here as soon as it is known; 2. every figure was declared as a
//! [`Measure`] of its driver, so that a bar can name it before anything runs. It must not know scenarios or files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::Ledger;
use crate::hist::Percentiles;
use crate::proc::Disturbance;
use crate::sink::stats::SinkReport;
use crate::text::median;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
    /// A figure that explains others, and is no merit by itself.
    Neither,
}

/// Which of its samples a figure is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgedBy {
    /// The middle one: rates and costs, whose repetitions differ by noise.
    Median,
    /// The worst one: promises, which one exception breaks.
    Worst,
}

/// A figure that a driver can find.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub name: &'static str,
    pub unit: &'static str,
    pub about: &'static str,
    pub better: Better,
    pub judged_by: JudgedBy,
    /// Whether it depends on the machine: a ratio to a peer of the same run does not, a rate does.
    pub absolute: bool,
    /// Whether its samples are the same thing done again; else each is of another size or step.
    pub repeats: bool,
}

impl Measure {
    /// A figure whose middle counts, and which depends on the machine.
    pub const fn new(name: &'static str, unit: &'static str, better: Better, about: &'static str) -> Measure {
        Measure { name, unit, about, better, judged_by: JudgedBy::Median, absolute: true, repeats: true }
    }

    /// A promise: its worst sample counts, on any machine.
    pub const fn promise(name: &'static str, unit: &'static str, better: Better, about: &'static str) -> Measure {
        Measure { name, unit, about, better, judged_by: JudgedBy::Worst, absolute: false, repeats: true }
    }

    /// A figure with a sample for each size or step: no repetitions, from which noise could be told.
    pub const fn of_each(self) -> Measure {
        Measure { repeats: false, ..self }
    }

    /// A figure relative to a peer's of the same run.
    pub const fn ratio(name: &'static str, better: Better, about: &'static str) -> Measure {
        Measure { name, unit: "×", about, better, judged_by: JudgedBy::Median, absolute: false, repeats: true }
    }
}

/// What several drivers promise, in the same words.
pub const TWICE: Measure =
    Measure::promise("twice", "contacts", Better::Lower, "mailed more than once by one campaign");
/// See [`TWICE`].
pub const UNKNOWN: Measure =
    Measure::promise("unknown", "contacts", Better::Lower, "whose mail may have gone or not, as the campaigns say");

/// Least, middle and greatest of some samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(samples: &[f64]) -> Option<Spread> {
        let min = samples.iter().copied().reduce(f64::min)?;
        let max = samples.iter().copied().reduce(f64::max)?;
        Some(Spread { min, median: median(samples), max })
    }
}

/// A figure that was found, with a sample per repetition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub about: String,
    pub better: Better,
    pub judged_by: JudgedBy,
    pub absolute: bool,
    #[serde(default = "repeats")]
    pub repeats: bool,
    pub samples: Vec<f64>,
    pub spread: Spread,
}

/// Reports of before the mark was made have it of no figure.
fn repeats() -> bool {
    true
}

impl Figure {
    /// The value that bars are held against.
    pub fn judged(&self) -> f64 {
        match (self.judged_by, self.better) {
            (JudgedBy::Worst, Better::Higher) => self.spread.min,
            (JudgedBy::Worst, _) => self.spread.max,
            (JudgedBy::Median, _) => self.spread.median,
        }
    }
}

/// How a horizontal axis is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    #[default]
    Linear,
    Logarithmic,
}

/// A line of a chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Lines over one pair of axes: a rate over seconds, a rate over rounds, a cost over sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    pub title: String,
    /// Label of the horizontal axis, unit included.
    pub x: String,
    pub y: String,
    pub scale: Scale,
    pub lines: Vec<Line>,
}

/// What a chart shows.
#[derive(Clone, Copy, Debug)]
pub struct Axes {
    pub title: &'static str,
    pub x: &'static str,
    pub y: &'static str,
    pub scale: Scale,
}

/// Percentiles of a time, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub name: String,
    pub count: u64,
    /// Percent and seconds, ascending; 100 is the greatest.
    pub percentiles: Vec<(f64, f64)>,
    /// Where it was measured and what it leaves out.
    pub about: String,
}

impl Latency {
    /// Those of a histogram of the harness.
    pub fn of(name: &str, about: &str, times: &Percentiles) -> Latency {
        let each = [
            (50.0, times.p50_ms),
            (90.0, times.p90_ms),
            (95.0, times.p95_ms),
            (99.0, times.p99_ms),
            (99.9, times.p999_ms),
            (100.0, times.max_ms),
        ];
        Latency {
            name: name.to_owned(),
            count: times.count,
            percentiles: each.map(|(percent, ms)| (percent, ms / 1e3)).to_vec(),
            about: about.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedLedger {
    pub campaign: String,
    pub ledger: Ledger,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NamedSink {
    pub name: String,
    pub report: SinkReport,
}

/// A table for people; its first row is the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    pub rows: Vec<Vec<String>>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    pub figures: Vec<Figure>,
    pub charts: Vec<Chart>,
    pub latencies: Vec<Latency>,
    pub ledgers: Vec<NamedLedger>,
    pub sinks: Vec<NamedSink>,
    pub tables: Vec<Table>,
    pub remarks: Vec<String>,
    /// What stood beside the engine, and how it was started.
    pub peers: BTreeMap<String, String>,
    /// What others took of the machine while it was measured; nothing if the driver did not watch.
    pub disturbance: Option<Disturbance>,
    /// The driver's own result, whole.
    pub detail: Value,
}

/// The collection, shared between the driver's thread and the frame.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<Found>>);

/// Points of one line: half an hour by the second. A longer series is thinned to about as many.
const POINTS_MAX: usize = 2_000;

impl Findings {
    fn found(&self) -> MutexGuard<'_, Found> {
        // A driver that panicked between two pushes leaves whole entries behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of what was found so far.
    pub fn so_far(&self) -> Found {
        self.found().clone()
    }

    /// Adds a sample to a figure.
    pub fn sample(&self, measure: &Measure, value: f64) {
        let mut found = self.found();
        let at = found.figures.iter().position(|figure| figure.name == measure.name);
        let figure = match at {
            Some(at) => &mut found.figures[at],
            None => {
                found.figures.push(Figure {
                    name: measure.name.to_owned(),
                    unit: measure.unit.to_owned(),
                    about: measure.about.to_owned(),
                    better: measure.better,
                    judged_by: measure.judged_by,
                    absolute: measure.absolute,
                    repeats: measure.repeats,
                    samples: Vec::new(),
                    spread: Spread::default(),
                });
                let last = found.figures.len() - 1;
                &mut found.figures[last]
            }
        };
        figure.samples.push(value);
        figure.spread = Spread::of(&figure.samples).unwrap_or_default();
    }

    /// Adds a line to the chart of this title.
    pub fn line(&self, axes: &Axes, name: &str, points: &[(f64, f64)]) {
        let line = Line { name: name.to_owned(), points: thinned(points) };
        let mut found = self.found();
        match found.charts.iter_mut().find(|chart| chart.title == axes.title) {
            Some(chart) => chart.lines.push(line),
            None => found.charts.push(Chart {
                title: axes.title.to_owned(),
                x: axes.x.to_owned(),
                y: axes.y.to_owned(),
                scale: axes.scale,
                lines: vec![line],
            }),
        }
    }

    /// One line over the repetitions 1, 2, 3.
    pub fn repetitions(&self, axes: &Axes, name: &str, values: &[f64]) {
        let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(i, v)| ((i + 1) as f64, *v)).collect();
        self.line(axes, name, &points);
    }

    pub fn latency(&self, latency: Latency) {
        self.found().latencies.push(latency);
    }

    pub fn ledger(&self, campaign: &str, ledger: &Ledger) {
        self.found().ledgers.push(NamedLedger { campaign: campaign.to_owned(), ledger: ledger.clone() });
    }

    pub fn sink(&self, name: &str, report: &SinkReport) {
        self.found().sinks.push(NamedSink { name: name.to_owned(), report: report.clone() });
    }

    pub fn table(&self, title: &str, rows: Vec<Vec<String>>) {
        self.found().tables.push(Table { title: title.to_owned(), rows });
    }

    pub fn remark(&self, text: impl Into<String>) {
        self.found().remarks.push(text.into());
    }

    pub fn peer(&self, name: &str, how: &str) {
        self.found().peers.insert(name.to_owned(), how.to_owned());
    }

    pub fn disturbance(&self, disturbance: Disturbance) {
        self.found().disturbance = Some(disturbance);
    }

    /// The driver's own result; one that does not serialise is left out, and a remark says so.
    pub fn detail(&self, result: &impl Serialize) {
        match serde_json::to_value(result) {
            Ok(value) => self.found().detail = value,
            Err(error) => self.remark(format!("the driver's own result is left out: {error}")),
        }
    }
}

/// The series in groups of as many points as it takes: the mean of each at the group's end, with six digits.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    let group = |group: &[(f64, f64)]| {
        let mean = group.iter().map(|(_, y)| y).sum::<f64>() / group.len() as f64;
        group.last().map(|(x, _)| (digits(*x), digits(mean)))
    };
    points.chunks(every).filter_map(group).collect()
}

/// A number with six significant digits, which no plot shows more of.
fn digits(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Measure = Measure::new("rate", "1/s", Better::Higher, "how fast");
    const OVER_TIME: Axes = Axes { title: "rate", x: "seconds", y: "1/s", scale: Scale::Linear };

    #[test]
    fn samples_of_one_figure_come_together_and_are_judged_as_declared() {
        let findings = Findings::default();
        [3.0, 1.0, 2.0].iter().for_each(|v| findings.sample(&RATE, *v));
        [0.0, 1.0].iter().for_each(|v| findings.sample(&TWICE, *v));
        let found = findings.so_far();
        assert_eq!(found.figures.len(), 2, "two figures");
        assert_eq!(found.figures[0].spread, Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(found.figures[0].judged(), 2.0, "a rate by its middle");
        assert_eq!(found.figures[1].judged(), 1.0, "a promise by its worst");
    }

    #[test]
    fn a_histograms_times_are_told_in_seconds() {
        let times = Percentiles { count: 3, p50_ms: 1.0, max_ms: 2_000.0, ..Percentiles::default() };
        let latency = Latency::of("answer", "at the client", &times);
        assert_eq!((latency.count, latency.percentiles[0], latency.percentiles[5]), (3, (50.0, 0.001), (100.0, 2.0)));
    }

    fn vec_of_means() -> Vec<(f64, f64)> {
        (0..2_000).map(|i| (f64::from(i * 5 + 4), 0.666_667)).collect()
    }

    #[test]
    fn long_series_are_thinned_and_keep_their_end() {
        let findings = Findings::default();
        let points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), f64::from(i % 5) / 3.0)).collect();
        findings.line(&OVER_TIME, "a", &points);
        findings.line(&OVER_TIME, "b", &points[..3]);
        let charts = findings.so_far().charts;
        assert_eq!((charts.len(), charts[0].lines.len()), (1, 2), "one chart, two lines");
        let line = &charts[0].lines[0].points;
        assert!(line.len() <= POINTS_MAX + 1, "{}", line.len());
        assert_eq!(*line, vec_of_means(), "the mean of five, and the end is there");
        assert_eq!(charts[0].lines[1].points.len(), 3, "short ones are whole");
    }
}
