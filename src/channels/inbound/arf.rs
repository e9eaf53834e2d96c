//! Feedback reports (RFC 5965 section 7.3): whether one is a complaint.

use super::fields::Group;
use super::{Happened, Ignored};

/// Kinds of feedback by which a person says: no more of this. The last two are of the drafts of RFC 6590's time and are sent.
const COMPLAINTS: [&str; 4] = ["abuse", "fraud", "opt-out", "opt-out-list"];

pub(super) fn judge(groups: &[Group]) -> Result<(Happened, String), Ignored> {
    let kind = groups.iter().find_map(|group| group.get("feedback-type")).unwrap_or_default();
    if COMPLAINTS.iter().any(|complaint| complaint.eq_ignore_ascii_case(kind)) {
        let agent = groups.iter().find_map(|group| group.get("user-agent")).unwrap_or_default();
        return Ok((Happened::Complained, format!("{kind} {agent}").trim().to_owned()));
    }
    Err(Ignored::NoComplaint)
}

#[cfg(test)]
mod tests {
    use super::super::fields::groups;
    use super::*;

    #[test]
    fn only_what_a_person_complains_of_is_a_complaint() {
        let judged = |kind: &str| judge(&groups(&format!("Feedback-Type: {kind}\nVersion: 1\n"))).map(|j| j.0);
        for kind in ["abuse", "Abuse", "fraud", "opt-out"] {
            assert_eq!(judged(kind), Ok(Happened::Complained), "{kind}");
        }
        for kind in ["not-spam", "virus", "other", "auth-failure", "dmarc", ""] {
            assert_eq!(judged(kind), Err(Ignored::NoComplaint), "{kind}");
        }
    }
}
