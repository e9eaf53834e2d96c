//! `[auto_pause]`: at which shares of hard bounces and complaints a run pauses by itself.
//!
//! ```toml
//! [auto_pause]                 # without the table: the values shown
//! enabled = true
//! hard_bounces = "10%"         # of the contacts attempted (accepted and rejected); "off" switches one rule off
//! complaints = "0.3%"          # of the contacts accepted
//! minimum = 500                # below so many attempted, or accepted, nothing is said
//! ```

use serde::{Deserialize, Serialize};

use super::kinds::basis_points;
use super::word;
use crate::campaigns::validate::Problem;

/// Thresholds in hundredths of a per cent; `None`: off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardRule {
    pub hard_bounces: Option<u32>,
    pub complaints: Option<u32>,
    /// Attempted, or accepted, contacts below which nothing is said.
    pub minimum: u64,
}

/// One, in the unit of the thresholds.
pub const WHOLE: u64 = 10_000;
const OFF: &str = "off";

impl Default for GuardRule {
    /// Hard bounces > 10 %, complaints > 0.3 %, of 500 at least.
    fn default() -> GuardRule {
        GuardRule { hard_bounces: Some(1_000), complaints: Some(30), minimum: 500 }
    }
}

/// As written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoPauseSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub hard_bounces: Option<String>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub complaints: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u64>,
}

impl AutoPauseSpec {
    /// The rule of a spec in which `problems` found nothing; what can't be read is the default.
    pub fn rule(&self) -> GuardRule {
        let default = GuardRule::default();
        if self.enabled == Some(false) {
            return GuardRule { hard_bounces: None, complaints: None, ..default };
        }
        let limit = |text: &Option<String>, default| text.as_deref().and_then(share).unwrap_or(default);
        GuardRule {
            hard_bounces: limit(&self.hard_bounces, default.hard_bounces),
            complaints: limit(&self.complaints, default.complaints),
            minimum: self.minimum.unwrap_or(default.minimum),
        }
    }
}

/// `"0.3%"` or `"off"`; nothing if it is neither, or more than all.
fn share(text: &str) -> Option<Option<u32>> {
    if text.trim() == OFF {
        return Some(None);
    }
    basis_points(text).filter(|points| u64::from(*points) < WHOLE).map(Some)
}

pub(in crate::campaigns) fn problems(spec: &AutoPauseSpec, found: &mut Vec<Problem>) {
    let shares = [("auto_pause.hard_bounces", &spec.hard_bounces), ("auto_pause.complaints", &spec.complaints)];
    for (path, text) in shares {
        if let Some(text) = text.as_deref().filter(|text| share(text).is_none()) {
            let message = format!("{path} is {text:?}, and must be a share below 100 %, or \"off\"");
            found.push(Problem::error("bad_auto_pause", path, message, "write it as \"0.3%\""));
        }
    }
    if spec.minimum == Some(0) {
        let message = "auto_pause.minimum is 0, and one complaint would pause the campaign";
        found.push(Problem::error(
            "bad_auto_pause",
            "auto_pause.minimum",
            message,
            "set it to 1 or more, or remove it",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(hard: &str, complaints: &str) -> AutoPauseSpec {
        AutoPauseSpec {
            hard_bounces: Some(hard.into()),
            complaints: Some(complaints.into()),
            ..AutoPauseSpec::default()
        }
    }

    #[test]
    fn shares_are_read_as_written() {
        assert_eq!(AutoPauseSpec::default().rule(), GuardRule::default(), "without the table");
        let rule = spec("2.5%", " off ").rule();
        assert_eq!((rule.hard_bounces, rule.complaints, rule.minimum), (Some(250), None, 500));
        let off = AutoPauseSpec { enabled: Some(false), ..spec("1%", "1%") };
        assert_eq!((off.rule().hard_bounces, off.rule().complaints), (None, None), "switched off");
    }

    #[test]
    fn what_is_no_share_is_named() {
        let problems_of = |spec: &AutoPauseSpec| {
            let mut found = Vec::new();
            problems(spec, &mut found);
            found.into_iter().map(|problem| (problem.code, problem.path)).collect::<Vec<_>>()
        };
        assert_eq!(problems_of(&spec("10%", "off")), [], "fine");
        let both =
            [("bad_auto_pause", "auto_pause.hard_bounces".into()), ("bad_auto_pause", "auto_pause.complaints".into())];
        assert_eq!(problems_of(&spec("100%", "0.3")), both, "all of them, and no unit");
        let zero = AutoPauseSpec { minimum: Some(0), ..AutoPauseSpec::default() };
        assert_eq!(problems_of(&zero), [("bad_auto_pause", "auto_pause.minimum".into())], "nobody");
    }
}
