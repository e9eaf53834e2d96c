//! Figures that some part of the engine counts or holds anyway, collected and rendered at each scrape.
//!
//! Owns no state. Invariant: LV-1 a sample has as many label values as its metric has labels, and a histogram as many counts
//! as buckets and one more.

use std::fmt::Write;

use super::render::{escape, push_group};
use super::{CATALOGUE, Metric, Source};

#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    Histogram { counts: Vec<u64>, sum: f64 },
}

#[derive(Clone, Debug)]
struct Sample {
    metric: &'static Metric,
    labels: Vec<String>,
    value: Value,
}

/// Samples of one moment.
#[derive(Clone, Debug, Default)]
pub struct Live(Vec<Sample>);

impl Live {
    /// Adds a counter's or gauge's value; `labels` in the order of the catalogue.
    pub fn number(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        self.push(metric, labels, Value::Number(value));
    }

    /// Adds a histogram: how many values fell in each bucket (not cumulative, the last beyond all), and their sum.
    pub fn histogram(&mut self, metric: &'static Metric, labels: &[&str], counts: Vec<u64>, sum: f64) {
        debug_assert_eq!(counts.len(), metric.buckets.len() + 1, "{}: counts and buckets", metric.name);
        self.push(metric, labels, Value::Histogram { counts, sum });
    }

    fn push(&mut self, metric: &'static Metric, labels: &[&str], value: Value) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}: labels", metric.name);
        debug_assert_eq!(metric.source, Source::Live, "{}: its samples come from elsewhere", metric.name);
        self.0.push(Sample { metric, labels: labels.iter().map(|l| (*l).to_owned()).collect(), value });
    }
}

/// Prometheus text: each series group once, in the order of the catalogue.
pub fn render_live(live: &Live) -> String {
    let mut out = String::new();
    for metric in CATALOGUE.iter().filter(|m| m.source == Source::Live) {
        let mut lines = String::new();
        for sample in live.0.iter().filter(|s| s.metric.name == metric.name) {
            match &sample.value {
                Value::Number(number) => line(&mut lines, sample, "", None, *number),
                Value::Histogram { counts, sum } => histogram(&mut lines, sample, counts, *sum),
            }
        }
        push_group(&mut out, metric, &lines);
    }
    out
}

fn histogram(lines: &mut String, sample: &Sample, counts: &[u64], sum: f64) {
    let mut below = 0;
    let ends = sample.metric.buckets.iter().map(f64::to_string).chain(std::iter::once("+Inf".to_owned()));
    for (end, count) in ends.zip(counts) {
        below += count;
        line(lines, sample, "_bucket", Some(&end), below as f64);
    }
    line(lines, sample, "_sum", None, sum);
    line(lines, sample, "_count", None, below as f64);
}

fn line(lines: &mut String, sample: &Sample, suffix: &str, bucket_end: Option<&str>, number: f64) {
    lines.push_str(sample.metric.name);
    lines.push_str(suffix);
    let labels = sample.metric.labels.iter().copied().zip(sample.labels.iter().map(String::as_str));
    for (index, (label, value)) in labels.chain(bucket_end.map(|end| ("le", end))).enumerate() {
        lines.push_str(if index == 0 { "{" } else { "," });
        lines.push_str(label);
        lines.push_str("=\"");
        escape(lines, value);
        lines.push('"');
    }
    let close = if sample.labels.is_empty() && bucket_end.is_none() { "" } else { "}" };
    // writing to a String cannot fail
    writeln!(lines, "{close} {number}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{CONNECTIONS, JOURNAL_FSYNC_SECONDS, JOURNAL_SEGMENTS, ROUND_TRIP_SECONDS};

    #[test]
    fn samples_of_a_metric_stand_together_under_one_head() {
        let mut live = Live::default();
        live.number(&CONNECTIONS, &["a\"b"], 2.0);
        live.number(&JOURNAL_SEGMENTS, &[], 3.0);
        live.number(&CONNECTIONS, &["relay"], 7.5);
        let text = render_live(&live);
        assert_eq!(text.matches("# TYPE estafette_connections gauge").count(), 1, "{text}");
        assert!(
            text.contains(
                "estafette_connections{connector=\"a\\\"b\"} 2\nestafette_connections{connector=\"relay\"} 7.5\n"
            ),
            "together, escaped:\n{text}"
        );
        assert!(text.contains("\nestafette_journal_segments 3\n"), "no labels, no braces:\n{text}");
        assert_eq!(render_live(&Live::default()), "", "nothing known, nothing said");
    }

    #[test]
    fn histograms_are_cumulative_and_end_at_infinity() {
        let mut live = Live::default();
        let mut counts = vec![0; JOURNAL_FSYNC_SECONDS.buckets.len() + 1];
        (counts[0], counts[2], counts[12]) = (2, 3, 1);
        live.histogram(&JOURNAL_FSYNC_SECONDS, &[], counts.clone(), 1.5);
        live.histogram(&ROUND_TRIP_SECONDS, &["relay"], counts, 0.25);
        let text = render_live(&live);
        for wanted in [
            "estafette_journal_fsync_seconds_bucket{le=\"0.00005\"} 2\n",
            "estafette_journal_fsync_seconds_bucket{le=\"0.00025\"} 5\n",
            "estafette_journal_fsync_seconds_bucket{le=\"1\"} 5\n",
            "estafette_journal_fsync_seconds_bucket{le=\"+Inf\"} 6\n",
            "estafette_journal_fsync_seconds_sum 1.5\n",
            "estafette_journal_fsync_seconds_count 6\n",
            "estafette_round_trip_seconds_bucket{connector=\"relay\",le=\"+Inf\"} 6\n",
            "estafette_round_trip_seconds_sum{connector=\"relay\"} 0.25\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
    }
}
