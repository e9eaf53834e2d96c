//! What the harness reads off the engine's `/metrics`: sums of series and quantiles of histograms.
//!
//! Owns no state. Source: Prometheus text exposition format 0.0.4. Invariant: a quantile of a histogram is the upper end of
//! the bucket that it falls into, so that it is never told smaller than it was.

use std::collections::BTreeMap;

use crate::findings::Latency;

/// Percentiles that are read off a histogram.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 95.0, 99.0, 99.9];

/// Sum of all series of a name.
pub fn sum(text: &str, name: &str) -> f64 {
    let of = |line: &&str| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']);
    text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Sum of the series of a name that have all these labels; `None` if there is none.
pub fn sum_with(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let starts = format!("{name}{{");
    let of = |line: &&str| line.starts_with(&starts) && wanted.iter().all(|label| line.contains(label.as_str()));
    let values = text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.reduce(|a, b| a + b)
}

/// Cumulative counts by upper end, in seconds, all series of the histogram added; the last end is infinite.
fn buckets(text: &str, name: &str) -> Vec<(f64, f64)> {
    let starts = format!("{name}_bucket{{");
    let mut counts: BTreeMap<u64, f64> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with(&starts)) {
        let end = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse::<f64>().ok());
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
        if let (Some(end), Some(count)) = (end, count) {
            // Positive floats are ordered as their bits are.
            *counts.entry(end.to_bits()).or_default() += count;
        }
    }
    counts.into_iter().map(|(end, count)| (f64::from_bits(end), count)).collect()
}

/// Percentiles of a histogram of seconds; nothing if it has no samples.
pub fn latency(text: &str, name: &str, called: &str) -> Option<Latency> {
    let buckets = buckets(text, name);
    let all = buckets.last()?.1;
    if all <= 0.0 {
        return None;
    }
    // What lies beyond the last finite end is told as that end.
    let greatest = buckets.iter().rev().map(|(end, _)| *end).find(|end| end.is_finite())?;
    let quantile = |percent: f64| {
        let end = buckets.iter().find(|(_, count)| *count >= all * percent / 100.0).map(|(end, _)| *end);
        end.filter(|end| end.is_finite()).unwrap_or(greatest)
    };
    Some(Latency {
        name: called.to_owned(),
        count: all as u64,
        percentiles: PERCENTILES.iter().map(|percent| (*percent, quantile(*percent))).collect(),
        about: format!("the engine's own histogram `{name}`: upper ends of buckets"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE t histogram\nt_bucket{c=\"a\",le=\"0.01\"} 5\nt_bucket{c=\"a\",le=\"0.1\"} 9\n\
                        t_bucket{c=\"a\",le=\"+Inf\"} 10\nt_bucket{c=\"b\",le=\"0.01\"} 0\nt_bucket{c=\"b\",le=\"0.1\"} 10\n\
                        t_bucket{c=\"b\",le=\"+Inf\"} 10\nt_sum{c=\"a\"} 1\nx_total{a=\"1\"} 2\nx_total 3\nx_total_more 9\n";

    #[test]
    fn series_are_added() {
        assert_eq!(sum(TEXT, "x_total"), 5.0, "not those whose names only begin alike");
        assert_eq!(sum(TEXT, "nothing"), 0.0);
    }

    #[test]
    fn series_with_labels_are_added_and_absent_ones_are_no_zero() {
        let text = "n{a=\"1\",b=\"x\"} 2\nn{a=\"1\",b=\"y\"} 3\nn{a=\"2\",b=\"x\"} 9\n";
        assert_eq!(sum_with(text, "n", &[("a", "1")]), Some(5.0));
        assert_eq!(sum_with(text, "n", &[("a", "1"), ("b", "y")]), Some(3.0));
        assert_eq!(sum_with(text, "n", &[("a", "3")]), None);
    }

    #[test]
    fn quantiles_are_upper_ends() {
        let latency = latency(TEXT, "t", "round trip").unwrap();
        assert_eq!(latency.count, 20, "both series");
        assert_eq!(latency.percentiles[0], (50.0, 0.1), "5 of 20 lie below a hundredth");
        assert_eq!(latency.percentiles[4], (99.9, 0.1), "beyond the last end it is that end");
        assert!(super::latency(TEXT, "u", "nothing").is_none());
    }
}
