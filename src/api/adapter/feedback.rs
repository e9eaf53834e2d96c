//! What came back, as reports show it: counts of a send or a delivery, and the named sets. Owns no state.

use roaring::RoaringBitmap;

use super::properties::amount_text;
use super::reports::events;
use crate::api::port::{FeedbackCounts, UniqueTotal};
use crate::ledger::engagement::people;
use crate::ledger::events::Feedback;
use crate::ledger::events::feedback::Seen;

/// Sets of contacts by what came back; beside those of the ledger.
pub(super) const SETS: [&str; 7] =
    ["delivered", "bounced", "bounced:hard", "bounced:soft", "bounced:policy", "complained", "converted"];

pub(super) fn counts(feedback: &Feedback) -> FeedbackCounts {
    let seen = |seen: &Seen| UniqueTotal { unique: seen.rows.len(), total: seen.total };
    FeedbackCounts {
        delivered: seen(&feedback.delivered),
        bounced_hard: seen(&feedback.hard),
        bounced_soft: seen(&feedback.soft),
        bounced_policy: seen(&feedback.policy),
        complained: seen(&feedback.complained),
        converted: events(&feedback.converted),
        converted_value: feedback.worth.iter().map(|(of, amount)| (of.clone(), amount_text(*amount))).collect(),
        custom: feedback.custom.iter().map(|(name, of)| (name.clone(), seen(of))).collect(),
    }
}

/// The rows of one of [`SETS`].
pub(super) fn rows(feedback: &Feedback, set: &str) -> Option<RoaringBitmap> {
    Some(match set {
        "delivered" => feedback.delivered.rows.clone(),
        "bounced" => feedback.bounced(),
        "bounced:hard" => feedback.hard.rows.clone(),
        "bounced:soft" => feedback.soft.rows.clone(),
        "bounced:policy" => feedback.policy.rows.clone(),
        "complained" => feedback.complained.rows.clone(),
        "converted" => people(&feedback.converted),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::events::{BounceClass, FeedbackKind};

    #[test]
    fn every_named_set_exists_and_no_other() {
        let mut feedback = Feedback::default();
        feedback.take(FeedbackKind::Bounced(BounceClass::Soft), &RoaringBitmap::from_iter([1, 2]), 3);
        feedback.take(FeedbackKind::Bounced(BounceClass::Hard), &RoaringBitmap::from_iter([2]), 1);
        for set in SETS {
            assert!(rows(&feedback, set).is_some(), "{set}");
        }
        assert!(rows(&feedback, "bounced:never").is_none(), "unknown");
        let counted = counts(&feedback);
        assert_eq!(counted.bounced_soft, UniqueTotal { unique: 1, total: 3 }, "who bounced hard counts there");
        assert_eq!(counted.bounced_hard, UniqueTotal { unique: 1, total: 1 }, "hard");
    }
}
