//! When requests arrive: planned ahead, whatever becomes of them.
//!
//! Owns no state. Invariants: 1. a plan follows from its description and the seed alone; 2. times ascend and end before the
//! plan's duration; 3. what is written is what is read back.
//!
//! | written | means |
//! |---|---|
//! | `500` or `constant:500` | one every 2 ms |
//! | `poisson:500` | 500 a second on average, independent of each other, as people come |
//! | `steps:10s@100,5s@1000,10s@100` | evenly, at one rate after the other: a spike |

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Arrivals of one plan: a bound on the memory of a run, and hours at any rate that this machine can make.
pub const ARRIVALS_MAX: u64 = 100_000_000;
const FORMS: &str = "write constant:500, poisson:500 or steps:10s@100,5s@1000";

/// The shape of a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Arrivals {
    Constant { per_second: f64 },
    Poisson { per_second: f64 },
    Steps(Vec<Step>),
}

/// One rate for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub seconds: f64,
    pub per_second: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl TryFrom<Written> for Arrivals {
    type Error = String;

    fn try_from(written: Written) -> Result<Arrivals, String> {
        match written {
            Written::Number(rate) => rate.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Arrivals> for String {
    fn from(arrivals: Arrivals) -> String {
        arrivals.to_string()
    }
}

/// Planned times since the start, ascending.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Vec<Step>,
    random: Option<Rng>,
    /// Step that is going on, when it began, and what was planned last in it.
    step: usize,
    began: f64,
    within: f64,
    left: u64,
}

impl Arrivals {
    /// The plan for `duration`; steps end by themselves, and the duration cuts them.
    pub fn plan(&self, duration: Duration, seed: u64) -> Plan {
        let whole = |per_second| vec![Step { seconds: duration.as_secs_f64(), per_second }];
        let (steps, random) = match self {
            Arrivals::Constant { per_second } => (whole(*per_second), None),
            Arrivals::Poisson { per_second } => (whole(*per_second), Some(Rng::salted(seed, 0xa881))),
            Arrivals::Steps(steps) => (cut(steps, duration.as_secs_f64()), None),
        };
        Plan { steps, random, step: 0, began: 0.0, within: 0.0, left: ARRIVALS_MAX }
    }

    /// How long the arrivals last of themselves; none for those that go on.
    pub fn length(&self) -> Option<Duration> {
        match self {
            Arrivals::Steps(steps) => Some(Duration::from_secs_f64(steps.iter().map(|step| step.seconds).sum())),
            _ => None,
        }
    }

    /// The highest rate.
    pub fn peak(&self) -> f64 {
        match self {
            Arrivals::Constant { per_second } | Arrivals::Poisson { per_second } => *per_second,
            Arrivals::Steps(steps) => steps.iter().map(|step| step.per_second).fold(0.0, f64::max),
        }
    }
}

fn cut(steps: &[Step], seconds: f64) -> Vec<Step> {
    let mut left = seconds;
    let mut kept = Vec::new();
    for step in steps {
        let seconds = step.seconds.min(left);
        left -= seconds;
        kept.push(Step { seconds, ..*step });
    }
    kept
}

impl Iterator for Plan {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let step = self.steps.get(self.step)?;
            let gap = match &mut self.random {
                Some(rng) => -(1.0 - rng.unit()).ln() / step.per_second,
                None => 1.0 / step.per_second,
            };
            // The first arrival of an even step is half a gap into it, so that N a second are N in each second.
            let at = match (&self.random, self.within == 0.0) {
                (None, true) => gap / 2.0,
                _ => self.within + gap,
            };
            if at < step.seconds {
                self.within = at;
                return Some(Duration::from_secs_f64(self.began + at));
            }
            self.began += step.seconds;
            self.within = 0.0;
            self.step += 1;
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arrivals::Constant { per_second } => write!(f, "constant:{per_second}"),
            Arrivals::Poisson { per_second } => write!(f, "poisson:{per_second}"),
            Arrivals::Steps(steps) => {
                let steps: Vec<String> =
                    steps.iter().map(|step| format!("{}s@{}", step.seconds, step.per_second)).collect();
                write!(f, "steps:{}", steps.join(","))
            }
        }
    }
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Arrivals, String> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("poisson:") {
            return Ok(Arrivals::Poisson { per_second: positive(rest)? });
        }
        if let Some(rest) = text.strip_prefix("steps:") {
            let step = |part: &str| {
                let (seconds, rate) = part.trim().split_once("s@").ok_or_else(|| refusal(text))?;
                Ok(Step { seconds: positive(seconds)?, per_second: positive(rate)? })
            };
            return rest.split(',').map(step).collect::<Result<_, String>>().map(Arrivals::Steps);
        }
        Ok(Arrivals::Constant { per_second: positive(text.strip_prefix("constant:").unwrap_or(text))? })
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().map_err(|_| refusal(text))?;
    if value.is_finite() && value > 0.0 && value <= 1e7 { Ok(value) } else { Err(refusal(text)) }
}

fn refusal(text: &str) -> String {
    format!("{text:?} is no load: {FORMS}, with rates a second above 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str, seconds: u64) -> Vec<f64> {
        let arrivals: Arrivals = text.parse().unwrap();
        arrivals.plan(Duration::from_secs(seconds), 7).map(|at| at.as_secs_f64()).collect()
    }

    fn within(times: &[f64], from: f64, to: f64) -> usize {
        times.iter().filter(|at| (from..to).contains(*at)).count()
    }

    #[test]
    fn even_arrivals_are_as_many_in_every_second() {
        let times = times("constant:200", 3);
        assert_eq!(times.len(), 600);
        for second in 0..3 {
            assert_eq!(within(&times, f64::from(second), f64::from(second + 1)), 200, "second {second}");
        }
    }

    #[test]
    fn steps_change_the_rate_and_are_cut_by_the_duration() {
        let times = times("steps:2s@100,1s@1000,2s@50", 4);
        assert_eq!([within(&times, 0.0, 2.0), within(&times, 2.0, 3.0), within(&times, 3.0, 9.0)], [200, 1_000, 50]);
        assert!(times.windows(2).all(|w| w[0] < w[1]), "ascending");
    }

    #[test]
    fn people_come_independently_of_each_other() {
        let times = times("poisson:1000", 20);
        assert!((19_400..20_600).contains(&times.len()), "on average 20 000: {}", times.len());
        let counts: Vec<f64> =
            (0..2_000).map(|n| within(&times, f64::from(n) / 100.0, f64::from(n + 1) / 100.0) as f64).collect();
        let mean = counts.iter().sum::<f64>() / 2_000.0;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 2_000.0;
        assert!((0.85..1.15).contains(&(variance / mean)), "a Poisson's variance is its mean: {variance} to {mean}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["constant:500", "poisson:0.5", "steps:10s@100,0.5s@1000"] {
            let arrivals: Arrivals = text.parse().unwrap();
            assert_eq!(arrivals.to_string(), text);
        }
        assert_eq!("500".parse::<Arrivals>().unwrap().to_string(), "constant:500", "a bare rate");
        for text in ["", "0", "-5", "steps:", "steps:10@5", "poisson:nan"] {
            assert!(text.parse::<Arrivals>().is_err(), "{text:?} is none");
        }
    }
}
