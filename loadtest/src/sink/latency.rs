//! How long something takes: a distribution that can be written on a command line and in a scenario.
//!
//! Owns no state. Invariants: 1. what is written is what is read back; 2. a distribution without spread draws nothing, so
//! that it moves no other draw; 3. no draw is longer than [`LATENCY_MAX`].
//!
//! | written | means |
//! |---|---|
//! | `20` | always 20 ms |
//! | `20-80` | uniform between 20 and 80 ms |
//! | `lognormal:30,400` | log-normal with this median and this 99th percentile, ms: the shape of most answer times |
//! | `table:50=20,90=80,99=500,100=2000` | percentiles as measured, straight lines between them, from 0 at 0 |

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// The longest draw: an SMTP client waits ten minutes for the answer to the dot (RFC 5321 section 4.5.3.2.6), so that longer
/// ones are losses of a connection and not latency.
pub const LATENCY_MAX: Duration = Duration::from_secs(600);
/// The normal deviate that 99 % are below.
const Z99: f64 = 2.326_347_874;
const FORMS: &str = "write 20, 20-80, lognormal:MEDIAN,P99 or table:50=20,100=80, in milliseconds";

/// A distribution of times; see the module for how it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Latency {
    #[default]
    None,
    Fixed {
        ms: f64,
    },
    Uniform {
        from_ms: f64,
        to_ms: f64,
    },
    LogNormal {
        median_ms: f64,
        p99_ms: f64,
    },
    /// Percentile and milliseconds, both ascending, the last percentile 100.
    Table {
        points: Vec<(f64, f64)>,
    },
}

/// A scenario may write a bare number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl TryFrom<Written> for Latency {
    type Error = String;

    fn try_from(written: Written) -> Result<Latency, String> {
        match written {
            Written::Number(ms) => ms.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Latency> for String {
    fn from(latency: Latency) -> String {
        latency.to_string()
    }
}

impl Latency {
    pub fn fixed(duration: Duration) -> Latency {
        if duration.is_zero() { Latency::None } else { Latency::Fixed { ms: duration.as_secs_f64() * 1e3 } }
    }

    pub fn is_none(&self) -> bool {
        *self == Latency::None
    }

    /// One draw.
    pub fn draw(&self, rng: &mut Rng) -> Duration {
        let ms = match self {
            Latency::None => return Duration::ZERO,
            Latency::Fixed { ms } => *ms,
            Latency::Uniform { from_ms, to_ms } => from_ms + (to_ms - from_ms) * rng.unit(),
            Latency::LogNormal { median_ms, p99_ms } => {
                let sigma = (p99_ms / median_ms).ln() / Z99;
                median_ms * (sigma * normal(rng)).exp()
            }
            Latency::Table { points } => at_percentile(points, rng.unit() * 100.0),
        };
        Duration::from_secs_f64((ms / 1e3).max(0.0)).min(LATENCY_MAX)
    }
}

/// A standard normal deviate (Box and Muller 1958).
fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

fn at_percentile(points: &[(f64, f64)], percentile: f64) -> f64 {
    let mut below = (0.0, 0.0);
    for &(p, ms) in points {
        if percentile <= p {
            let share = (percentile - below.0) / (p - below.0);
            return below.1 + (ms - below.1) * share;
        }
        below = (p, ms);
    }
    below.1
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Latency::None => f.write_str("0"),
            Latency::Fixed { ms } => write!(f, "{ms}"),
            Latency::Uniform { from_ms, to_ms } => write!(f, "{from_ms}-{to_ms}"),
            Latency::LogNormal { median_ms, p99_ms } => write!(f, "lognormal:{median_ms},{p99_ms}"),
            Latency::Table { points } => {
                let pairs: Vec<String> = points.iter().map(|(p, ms)| format!("{p}={ms}")).collect();
                write!(f, "table:{}", pairs.join(","))
            }
        }
    }
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Latency, String> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, p99) = rest.split_once(',').ok_or_else(|| refusal(text))?;
            let (median_ms, p99_ms) = (number(median)?, number(p99)?);
            if median_ms <= 0.0 || p99_ms < median_ms {
                return Err(format!("{text:?}: the median is above 0 and the 99th percentile not below it"));
            }
            return Ok(Latency::LogNormal { median_ms, p99_ms });
        }
        if let Some(rest) = text.strip_prefix("table:") {
            return table(text, rest);
        }
        if let Some((from, to)) = text.split_once('-') {
            let (from_ms, to_ms) = (number(from)?, number(to)?);
            if to_ms < from_ms {
                return Err(format!("{text:?} ends before it begins"));
            }
            return Ok(Latency::Uniform { from_ms, to_ms });
        }
        let ms = number(text)?;
        Ok(if ms == 0.0 { Latency::None } else { Latency::Fixed { ms } })
    }
}

fn table(text: &str, rest: &str) -> Result<Latency, String> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for pair in rest.split(',') {
        let (percentile, ms) = pair.split_once('=').ok_or_else(|| refusal(text))?;
        let (percentile, ms) = (number(percentile)?, number(ms)?);
        let (last_percentile, last_ms) = points.last().copied().unwrap_or((0.0, 0.0));
        if percentile <= last_percentile || ms < last_ms || percentile > 100.0 {
            return Err(format!("{text:?}: percentiles ascend to 100, and times with them"));
        }
        points.push((percentile, ms));
    }
    match points.last() {
        Some((100.0, _)) => Ok(Latency::Table { points }),
        _ => Err(format!("{text:?}: the last percentile must be 100")),
    }
}

fn number(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().map_err(|_| refusal(text))?;
    if value.is_finite() && (0.0..=LATENCY_MAX.as_secs_f64() * 1e3).contains(&value) {
        return Ok(value);
    }
    Err(format!("{text:?} is not between 0 and {} ms", LATENCY_MAX.as_millis()))
}

fn refusal(text: &str) -> String {
    format!("{text:?} is no latency: {FORMS}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(text: &str) -> Vec<f64> {
        let (latency, mut rng): (Latency, _) = (text.parse().unwrap(), Rng::new(5));
        let mut draws: Vec<f64> = (0..20_000).map(|_| latency.draw(&mut rng).as_secs_f64() * 1e3).collect();
        draws.sort_by(f64::total_cmp);
        draws
    }

    #[track_caller]
    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= wanted * 0.07, "{found} is not near {wanted}");
    }

    #[test]
    fn draws_have_the_percentiles_asked_for() {
        let draws = sorted("lognormal:30,400");
        near(draws[10_000], 30.0);
        assert!((draws[19_800] / 400.0 - 1.0).abs() < 0.2, "the 99th percentile: {}", draws[19_800]);
        let draws = sorted("table:50=20,90=80,99=500,100=2000");
        near(draws[5_000], 10.0);
        near(draws[14_000], 50.0);
        near(draws[19_000], 80.0 + 420.0 * 5.0 / 9.0);
        assert!(draws[19_999] <= 2_000.0, "nothing is above the last: {}", draws[19_999]);
        let draws = sorted("20-80");
        near(draws[10_000], 50.0);
        assert!(draws[0] >= 20.0 && draws[19_999] <= 80.0, "within its ends");
        assert_eq!(sorted("7")[19_999], 7.0, "always the same");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["0", "12.5", "20-80", "lognormal:30,400", "table:50=20,90=80,100=2000"] {
            let latency: Latency = text.parse().unwrap();
            assert_eq!(latency.to_string(), text, "as it was written");
            let json = serde_json::to_string(&latency).unwrap();
            assert_eq!(serde_json::from_str::<Latency>(&json).unwrap(), latency, "{json}");
        }
        assert_eq!(serde_json::from_str::<Latency>("20").unwrap(), Latency::Fixed { ms: 20.0 }, "a bare number");
    }

    #[test]
    fn what_is_none_is_refused_with_the_forms() {
        for text in ["", "fast", "80-20", "lognormal:400,30", "table:50=20", "table:50=20,40=30,100=40", "-5", "nan"] {
            let refused = text.parse::<Latency>().unwrap_err();
            assert!(!refused.is_empty(), "{text:?} is refused: {refused}");
        }
    }

    #[test]
    fn no_latency_draws_nothing() {
        let (mut drawn, mut untouched) = (Rng::new(3), Rng::new(3));
        assert_eq!(Latency::None.draw(&mut drawn), Duration::ZERO);
        assert_eq!(drawn.next_u64(), untouched.next_u64(), "the stream has not moved");
    }
}
