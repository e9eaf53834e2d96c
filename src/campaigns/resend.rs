//! A campaign that is sent to a set of contacts of an earlier run: to whom it bounced, who did not open it, …
//!
//! ```toml
//! [resend]
//! run = 12
//! set = "not_opened"       # rejected, rejected:CLASS, skipped, skipped:REASON, unknown, opened, not_opened, clicked, not_clicked
//! ```
//!
//! `follow_up:` before a set means that of the run's follow-up, whose message is then sent again: `set = "follow_up:rejected"`.
//!
//! It stands in place of `[audience]`'s segment, list or all; `exclude` and everything else of the audience hold as always.
//! Owns no state. Which sets there are, and who is in one, the ledger knows (`ledger::links`).

use serde::{Deserialize, Serialize};

use super::spec::{CampaignSpec, Kind};
use super::validate::Problem;

/// `[resend]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResendSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

/// Whether the audience is a set of another run.
pub(super) fn wanted(spec: &CampaignSpec) -> bool {
    spec.resend != ResendSpec::default()
}

/// Run and set, if both are there.
pub fn source(spec: &CampaignSpec) -> Option<(u32, &str)> {
    Some((spec.resend.run?, spec.resend.set.as_deref()?))
}

/// What is wrong with `[resend]`, without asking whether the run exists.
pub(super) fn problems(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    if !wanted(spec) {
        return;
    }
    if spec.kind() != Kind::Single {
        let message = format!("a resend is of the kind single, and this one is {}", spec.kind().name());
        found.push(Problem::error("wrong_kind", "resend", message, "set kind = \"single\", or remove [resend]"));
    }
    if source(spec).is_none() {
        let fix = "set resend.run to the id of a run, and resend.set to one of its sets, as \"not_opened\"";
        found.push(Problem::error("bad_resend", "resend", "a resend needs a run and a set", fix));
    }
}
