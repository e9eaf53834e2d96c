//! Latencies: an HdrHistogram with the few things that the harness asks of it.
//!
//! Owns the histogram. Invariants: 1. values are microseconds with three significant digits, from 1 µs to
//! [`LATENCY_MAX`]; longer ones count as that, and are counted apart; 2. merging two gives what recording all into one had
//! given. See Gil Tene, hdrhistogram.org, for why percentiles and not means.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency that is told apart.
pub const LATENCY_MAX: Duration = Duration::from_secs(600);
const SIGNIFICANT_DIGITS: u8 = 3;
const MICROS_MAX: u64 = 600_000_000;
/// Steps of the curve per halving of the distance to 100 %: smooth in a plot, and a few hundred points at most.
const TICKS_PER_HALVING: u32 = 5;

/// Latencies as they were recorded.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    cut: u64,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub min_ms: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// Values beyond [`LATENCY_MAX`], shown as that.
    pub cut: u64,
}

/// A point of the distribution, for a plot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Share of the values at or below, 0 to 1.
    pub quantile: f64,
    pub ms: f64,
}

impl Latencies {
    pub fn new() -> anyhow::Result<Latencies> {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, SIGNIFICANT_DIGITS)
            .map_err(|error| anyhow::anyhow!("making a histogram: {error:?}"))?;
        Ok(Latencies { histogram, cut: 0 })
    }

    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.cut += u64::from(micros > MICROS_MAX);
        self.histogram.saturating_record(micros.clamp(1, MICROS_MAX));
    }

    /// Takes in all of another's values.
    pub fn merge(&mut self, other: &Latencies) {
        // The bounds of all are the same, which is the one thing that adding can refuse.
        self.histogram.add(&other.histogram).ok();
        self.cut += other.cut;
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Milliseconds at or below which this share (0 to 1) of the values lie.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        if self.histogram.is_empty() { 0.0 } else { self.histogram.value_at_quantile(share) as f64 / 1e3 }
    }

    pub fn percentiles(&self) -> Percentiles {
        if self.histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: self.histogram.len(),
            min_ms: self.histogram.min() as f64 / 1e3,
            mean_ms: self.histogram.mean() / 1e3,
            p50_ms: self.quantile_ms(0.5),
            p90_ms: self.quantile_ms(0.9),
            p95_ms: self.quantile_ms(0.95),
            p99_ms: self.quantile_ms(0.99),
            p999_ms: self.quantile_ms(0.999),
            max_ms: self.histogram.max() as f64 / 1e3,
            cut: self.cut,
        }
    }

    /// The distribution, denser towards its end.
    pub fn curve(&self) -> Vec<CurvePoint> {
        self.histogram
            .iter_quantiles(TICKS_PER_HALVING)
            .map(|at| CurvePoint { quantile: at.quantile(), ms: at.value_iterated_to() as f64 / 1e3 })
            .collect()
    }
}

impl Percentiles {
    /// `p50 0.31 · p90 0.52 · p99 1.80 · p99.9 4.02 · max 9.11 ms`.
    pub fn line(&self) -> String {
        format!(
            "p50 {:.2} · p90 {:.2} · p99 {:.2} · p99.9 {:.2} · max {:.2} ms",
            self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl Iterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new().unwrap();
        millis.for_each(|ms| latencies.record(Duration::from_millis(ms)));
        latencies
    }

    #[test]
    fn percentiles_are_within_three_digits() {
        let seen = of(1..=1_000).percentiles();
        for (found, wanted) in [(seen.p50_ms, 500.0), (seen.p99_ms, 990.0), (seen.max_ms, 1_000.0), (seen.min_ms, 1.0)]
        {
            assert!((found - wanted).abs() <= wanted * 1e-3 + 1e-3, "{found} for {wanted}");
        }
        assert_eq!((seen.count, seen.cut), (1_000, 0));
        assert_eq!(Latencies::new().unwrap().percentiles(), Percentiles::default(), "of nothing");
    }

    #[test]
    fn parts_make_the_whole() {
        let (mut odd, even) = (of((1..=999).step_by(2)), of((2..=1_000).step_by(2)));
        odd.merge(&even);
        assert_eq!(odd.percentiles(), of(1..=1_000).percentiles());
        let curve = odd.curve();
        assert!(curve.len() > 20 && curve.len() < 500, "points: {}", curve.len());
        assert!(curve.windows(2).all(|w| w[0].quantile <= w[1].quantile && w[0].ms <= w[1].ms), "ascending");
    }

    #[test]
    fn what_is_beyond_the_end_is_counted_apart() {
        let mut latencies = of(std::iter::once(1));
        latencies.record(Duration::from_secs(7_200));
        let seen = latencies.percentiles();
        assert_eq!((seen.count, seen.cut), (2, 1));
        assert!((seen.max_ms / 600_000.0 - 1.0).abs() < 1e-3, "shown as the longest: {}", seen.max_ms);
    }
}
