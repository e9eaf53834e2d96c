//! Bars: the least or the most that a figure may be, and the verdict on what was found.
//!
//! Owns no state. Invariant: a bar whose figure was not found is missed, never skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::findings::{Figure, Measure, Spread};
use crate::text;

/// A limit; at least one of the two is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl Bar {
    pub fn holds(&self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.max) {
            (Some(min), Some(max)) => write!(f, "{} to {}", text::short(min), text::short(max)),
            (Some(min), None) => write!(f, "≥ {}", text::short(min)),
            (None, Some(max)) => write!(f, "≤ {}", text::short(max)),
            (None, None) => write!(f, "any"),
        }
    }
}

/// A bar and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub name: String,
    pub about: String,
    pub unit: String,
    pub bar: Bar,
    /// The value that was judged; nothing if it was not found.
    pub measured: Option<f64>,
    pub spread: Option<Spread>,
    pub kept: bool,
}

impl Judgement {
    pub fn verdict(&self) -> &'static str {
        match (self.kept, self.measured) {
            (true, _) => "kept",
            (false, Some(_)) => "MISSED",
            (false, None) => "NOT MEASURED",
        }
    }
}

/// Bars by the name of their figure.
pub type Bars = BTreeMap<String, Bar>;

/// Holds every bar against what was found.
pub fn judge(bars: &Bars, figures: &[Figure]) -> Vec<Judgement> {
    bars.iter()
        .map(|(name, bar)| {
            let figure = figures.iter().find(|figure| figure.name == *name);
            let measured = figure.map(Figure::judged);
            Judgement {
                name: name.clone(),
                about: figure.map(|f| f.about.clone()).unwrap_or_default(),
                unit: figure.map(|f| f.unit.clone()).unwrap_or_default(),
                bar: *bar,
                measured,
                spread: figure.map(|f| f.spread),
                kept: measured.is_some_and(|value| bar.holds(value)),
            }
        })
        .collect()
}

/// What is wrong with bars before anything runs: names that the driver never finds, limits that say nothing.
pub fn check(bars: &Bars, measures: &[Measure]) -> Result<(), String> {
    for (name, bar) in bars {
        if !measures.iter().any(|measure| measure.name == name) {
            let known: Vec<&str> = measures.iter().map(|measure| measure.name).collect();
            return Err(format!("bar `{name}`: the driver has no such figure, it has {}", known.join(", ")));
        }
        match (bar.min, bar.max) {
            (None, None) => return Err(format!("bar `{name}` has neither min nor max")),
            (Some(min), Some(max)) if min > max => return Err(format!("bar `{name}`: min {min} is above max {max}")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Better, Findings};

    const RATIO: Measure = Measure::ratio("ratio", Better::Higher, "ours over the peer's");

    fn bars(text: &str) -> Bars {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_bar_is_kept_missed_or_not_measured() {
        let findings = Findings::default();
        findings.sample(&RATIO, 2.9);
        let judged = judge(&bars("ratio.min = 3.0\ntwice.max = 0"), &findings.so_far().figures);
        let verdicts: Vec<&str> = judged.iter().map(Judgement::verdict).collect();
        assert_eq!(verdicts, ["MISSED", "NOT MEASURED"], "what was not found is not kept");
        assert!(judge(&bars("ratio.min = 2.9"), &findings.so_far().figures)[0].kept, "the limit itself is within");
    }

    #[test]
    fn bars_that_say_nothing_are_refused() {
        assert!(check(&bars("ratio.min = 1.0"), &[RATIO]).is_ok());
        let unknown = check(&bars("ration.min = 1.0"), &[RATIO]).unwrap_err();
        assert!(unknown.contains("`ration`") && unknown.contains("ratio"), "{unknown}");
        assert!(check(&bars("[ratio]"), &[RATIO]).is_err(), "no limit");
        assert!(check(&bars("ratio = { min = 2.0, max = 1.0 }"), &[RATIO]).is_err(), "an empty range");
    }
}
