//! The parts of a spec that leave out people who match: caps, a pause between campaigns, a control group.
//!
//! ```toml
//! [audience]
//! not_contacted = "7d"     # nobody to whom another campaign has written today or in the six days before
//! hold_out = "10%"         # or a number of contacts: the control group, who get nothing
//! [[caps]]                 # beside the server's own
//! channel = "email"        # the message's by default
//! max = 3
//! per = "7d"
//! ```
//!
//! Owns no state. What a cap counts and how exactly it is kept: `ledger::caps`.

use serde::{Deserialize, Serialize};

use super::spec::kinds::basis_points;
use super::spec::{CampaignSpec, Kind, SampleSpec};
use super::validate::Problem;
use crate::config::caps::{Cap, CapError, Caps, days};
use crate::flow::nodes::SampleSize;
use crate::ids::Channel;
use crate::limits::CAPS_MAX;

/// One entry of `[[caps]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
}

fn cap(spec: &CampaignSpec, written: &CapSpec) -> Result<Cap, CapError> {
    let channel = written.channel.or(spec.message.channel).unwrap_or(Channel::Email);
    Cap::new(channel, written.max.unwrap_or(0), written.per.as_deref().unwrap_or_default())
}

/// What the run heeds beside the server's caps. What is wrong is left out: [`problems`] has told it.
pub(super) fn caps(spec: &CampaignSpec) -> Caps {
    Caps {
        caps: spec.caps.iter().filter_map(|written| cap(spec, written).ok()).collect(),
        not_contacted_days: spec.audience.not_contacted.as_deref().and_then(|text| days(text).ok()),
    }
}

/// How many of the eligible are held out.
pub(super) fn hold_out(spec: &CampaignSpec) -> Option<SampleSize> {
    match spec.audience.hold_out.as_ref()? {
        SampleSpec::Contacts(count) => Some(SampleSize::Contacts(*count)),
        SampleSpec::Share(text) => basis_points(text).map(SampleSize::Share),
    }
}

/// What is wrong with these parts.
pub(super) fn problems(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    if let Some(text) = &spec.audience.not_contacted
        && let Err(error) = days(text)
    {
        let fix = "write it as \"7d\" or \"2w\", or remove it";
        found.push(Problem::error("bad_not_contacted", "audience.not_contacted", error.to_string(), fix));
    }
    if spec.audience.hold_out.is_some() {
        let (path, fix) = ("audience.hold_out", "write a share as \"10%\", or a number of contacts");
        match hold_out(spec) {
            None => found.push(Problem::error("bad_hold_out", path, "the hold-out is no share", fix)),
            Some(SampleSize::Share(basis)) if !(1..10_000).contains(&basis) => {
                let message = "the hold-out must be more than 0 % and less than 100 %";
                found.push(Problem::error("bad_hold_out", path, message, fix));
            }
            Some(SampleSize::Contacts(0)) => {
                found.push(Problem::error("bad_hold_out", path, "nobody would be held out", fix));
            }
            Some(_) => {}
        }
        if spec.kind() == Kind::Sequence {
            let message = "a sequence has no control group: its contacts enter with their steps";
            let fix = "make a list of a part of the contacts, and exclude it";
            found.push(Problem::error("hold_out_of_kind", path, message, fix));
        }
    }
    if spec.caps.len() > CAPS_MAX {
        let message = format!("there are {} caps, and {CAPS_MAX} is the most", spec.caps.len());
        found.push(Problem::error("bad_cap", "caps", message, "remove some"));
    }
    for (at, written) in spec.caps.iter().enumerate() {
        if let Err(error) = cap(spec, written) {
            let key = if matches!(error, CapError::Max { .. }) { "max" } else { "per" };
            let fix = "write it as max = 3, per = \"7d\"";
            found.push(Problem::error("bad_cap", format!("caps.{at}.{key}"), error.to_string(), fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Format, parse};
    use super::*;

    fn spec(text: &str) -> CampaignSpec {
        parse(text, Format::Toml).expect(text)
    }

    fn codes(text: &str) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        problems(&spec(text), &mut found);
        found.into_iter().map(|problem| (problem.code, problem.path)).collect()
    }

    #[test]
    fn what_is_written_is_what_is_heeded() {
        let text = "[audience]\nnot_contacted = \"2w\"\nhold_out = \"12.5%\"\n[message]\nchannel = \"sms\"\n\
            [[caps]]\nmax = 3\nper = \"7d\"\n[[caps]]\nchannel = \"email\"\nmax = 1\nper = \"1d\"\n";
        assert_eq!(codes(text), [], "nothing is wrong");
        let caps = caps(&spec(text));
        assert_eq!(caps.not_contacted_days, Some(14), "two weeks");
        let expected =
            [Cap { channel: Channel::Sms, max: 3, days: 7 }, Cap { channel: Channel::Email, max: 1, days: 1 }];
        assert_eq!(caps.caps, expected, "the message's channel unless another is named");
        assert_eq!(hold_out(&spec(text)), Some(SampleSize::Share(1_250)), "a share");
        assert_eq!(hold_out(&spec("[audience]\nhold_out = 500")), Some(SampleSize::Contacts(500)), "a count");
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_path() {
        for (text, code, path) in [
            ("[audience]\nnot_contacted = \"soon\"", "bad_not_contacted", "audience.not_contacted"),
            ("[audience]\nnot_contacted = \"93d\"", "bad_not_contacted", "audience.not_contacted"),
            ("[audience]\nhold_out = \"100%\"", "bad_hold_out", "audience.hold_out"),
            ("[audience]\nhold_out = \"0%\"", "bad_hold_out", "audience.hold_out"),
            ("[audience]\nhold_out = \"some\"", "bad_hold_out", "audience.hold_out"),
            ("[audience]\nhold_out = 0", "bad_hold_out", "audience.hold_out"),
            ("[[caps]]\nper = \"7d\"", "bad_cap", "caps.0.max"),
            ("[[caps]]\nmax = 3", "bad_cap", "caps.0.per"),
            ("[[caps]]\nmax = 101\nper = \"7d\"", "bad_cap", "caps.0.max"),
        ] {
            assert_eq!(codes(text), [(code, path.to_owned())], "{text}");
        }
    }
}
