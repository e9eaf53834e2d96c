//! Linked runs: which run is a resend of which, to which set of it, and who is in such a set.
//!
//! A run is linked by the spec that it executes; the fold notes it when the run starts. All resends that lead back to one
//! run are its family. A resend goes to nobody who has got, may have got, or may still get the message by an earlier resend of
//! the family ([`covered`]): only who was rejected or skipped there can be sent to again. The runs that it continues do not
//! count: who got their message and did not open it is whom a resend may be for.
//!
//! Owns no state. Invariant: LK-1 links lead to runs of smaller ids, so that they make no circle.

use std::collections::BTreeSet;

use roaring::{MultiOps, RoaringBitmap};
use serde::{Deserialize, Serialize};

use crate::campaigns::spec::{FollowUpSpec, Kind};
use crate::campaigns::{parse, resend};
use crate::flow::NodeKind;
use crate::ids::{MessageId, RowSpace, RunId};
use crate::ledger::delivery::Delivery;
use crate::ledger::engagement::people;
use crate::ledger::outcome::RejectClass;
use crate::ledger::run::Run;
use crate::ledger::state::State;
use crate::segments::skip::SkipReason;

/// What a resend continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub of: RunId,
    /// The set as it was written.
    pub set: String,
}

/// Names a set of the follow-up instead of the first message.
const FOLLOW_UP: &str = "follow_up:";

/// A set of a run, and whether its follow-up's message is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resent {
    pub set: ResendSet,
    pub follow_up: bool,
}

impl Resent {
    /// `not_opened`, or `follow_up:not_opened`.
    pub fn parse(text: &str) -> Option<Resent> {
        let (set, follow_up) = text.strip_prefix(FOLLOW_UP).map_or((text, false), |set| (set, true));
        Some(Resent { set: ResendSet::parse(set)?, follow_up })
    }

    /// Every name, for messages.
    pub fn names() -> Vec<String> {
        let first = ResendSet::names();
        let follow_ups = first.iter().map(|name| format!("{FOLLOW_UP}{name}")).collect::<Vec<_>>();
        first.into_iter().chain(follow_ups).collect()
    }

    /// Contacts of the base in the set, whoever is covered by an earlier resend included.
    pub fn rows(self, state: &State, run: &Run) -> RoaringBitmap {
        let (firsts, follow_up) = first_deliveries(state, run);
        self.set.rows(run, if self.follow_up { follow_up } else { firsts })
    }
}

/// A set of a run that can be sent to again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResendSet {
    Rejected(Option<RejectClass>),
    Skipped(Option<SkipReason>),
    Unknown,
    /// Accepted and opened (or clicked), or not, by a person.
    Engaged {
        clicked: bool,
        yes: bool,
    },
}

impl ResendSet {
    pub fn parse(text: &str) -> Option<ResendSet> {
        Some(match text.split_once(':') {
            Some(("rejected", class)) => ResendSet::Rejected(Some(RejectClass::from_name(class)?)),
            Some(("skipped", reason)) => ResendSet::Skipped(Some(SkipReason::from_name(reason)?)),
            Some(_) => return None,
            None => match text {
                "rejected" => ResendSet::Rejected(None),
                "skipped" => ResendSet::Skipped(None),
                "unknown" => ResendSet::Unknown,
                "opened" => ResendSet::Engaged { clicked: false, yes: true },
                "not_opened" => ResendSet::Engaged { clicked: false, yes: false },
                "clicked" => ResendSet::Engaged { clicked: true, yes: true },
                "not_clicked" => ResendSet::Engaged { clicked: true, yes: false },
                _ => return None,
            },
        })
    }

    /// Every name, for messages.
    pub fn names() -> Vec<String> {
        let plain = ["rejected", "skipped", "unknown", "opened", "not_opened", "clicked", "not_clicked"];
        let classes = RejectClass::ALL.iter().map(|class| format!("rejected:{}", class.name()));
        let reasons = SkipReason::ALL.iter().map(|reason| format!("skipped:{}", reason.name()));
        plain.into_iter().map(str::to_owned).chain(classes).chain(reasons).collect()
    }

    /// Whether only tracking of single contacts can tell.
    pub fn is_tracked(self) -> bool {
        matches!(self, ResendSet::Engaged { .. })
    }

    /// Contacts of the base in this set of some deliveries of a run: [`first_deliveries`], or another part of them.
    pub fn rows(self, run: &Run, of: &[Delivery]) -> RoaringBitmap {
        let deliveries = || of.iter().filter(|delivery| delivery.space == RowSpace::BASE);
        match self {
            ResendSet::Rejected(Some(class)) => deliveries().filter_map(|d| d.rejected.get(&class)).union(),
            ResendSet::Rejected(None) => deliveries().flat_map(|d| d.rejected.values()).union(),
            ResendSet::Skipped(Some(reason)) => deliveries().filter_map(|d| d.skipped.get(&reason)).union(),
            ResendSet::Skipped(None) => deliveries().flat_map(|d| d.skipped.values()).union(),
            ResendSet::Unknown => deliveries().map(|d| &d.unknown).union(),
            ResendSet::Engaged { clicked, yes } => {
                let accepted = deliveries().map(|d| &d.accepted).union();
                let engaged = engaged_by(run, of, clicked);
                if yes { accepted & engaged } else { accepted - engaged }
            }
        }
    }
}

impl State {
    /// Notes what a run that starts is linked to, by the spec that it executes.
    pub(super) fn note_link(&mut self, run: &Run) {
        let text = self.campaigns.get(&run.campaign).and_then(|campaign| campaign.versions.get(&run.version));
        // Most specs have no such table, and need not be read.
        let Some(text) = text.filter(|text| text.contains("\"resend\"")) else { return };
        let Ok(spec) = parse::from_stored(text) else { return };
        if let Some((of, set)) = resend::source(&spec).filter(|(of, _)| *of < run.id.0) {
            self.links.insert(run.id, Link { of: RunId(of), set: set.to_owned() });
        }
    }
}

/// Who opened (or clicked) a message of some deliveries; machines left out.
fn engaged_by(run: &Run, of: &[Delivery], clicked: bool) -> RoaringBitmap {
    let sends = of.iter().flat_map(|delivery| run.sends_with(delivery.id.index));
    let messages: BTreeSet<MessageId> = sends
        .filter_map(|send| match run.graph.node(send).map(|node| &node.kind) {
            Some(NodeKind::Send { message, .. }) => Some(MessageId(*message)),
            _ => None,
        })
        .collect();
    let tracked = messages.into_iter().filter_map(|message| run.messages.get(&message));
    tracked.map(|message| people(if clicked { &message.clicked } else { &message.opened })).union()
}

/// The deliveries of a run whose message a resend sends again, and that of the follow-up: who failed only there has the
/// first message already.
pub fn first_deliveries<'r>(state: &State, run: &'r Run) -> (&'r [Delivery], &'r [Delivery]) {
    let text = state.campaigns.get(&run.campaign).and_then(|campaign| campaign.versions.get(&run.version));
    // Most specs have no such table, and need not be read.
    let spec = text.filter(|text| text.contains("\"follow_up\"")).and_then(|text| parse::from_stored(text).ok());
    // The compiler hangs the follow-up behind everything else; a flow has none.
    let follows = spec.is_some_and(|spec| spec.kind() != Kind::Flow && spec.follow_up != FollowUpSpec::default());
    let firsts = if follows { run.deliveries.len().saturating_sub(1).max(1) } else { run.deliveries.len() };
    run.deliveries.split_at(firsts.min(run.deliveries.len()))
}

/// Runs that are resends of `run`, or of one of those, in order of their ids.
fn descendants(state: &State, run: RunId) -> BTreeSet<RunId> {
    let mut found = BTreeSet::new();
    for (id, link) in &state.links {
        if link.of == run || found.contains(&link.of) {
            found.insert(*id);
        }
    }
    found
}

/// `run`, what it is a resend of, and so on to the first.
fn line(state: &State, run: RunId) -> Vec<RunId> {
    std::iter::successors(Some(run), |run| state.links.get(run).map(|link| link.of)).collect()
}

/// The run with which the family of a run began: itself, if it is no resend.
pub fn family_of(state: &State, run: RunId) -> RunId {
    line(state, run).last().copied().unwrap_or(run)
}

/// Every resend that leads back to the same run as `run` does.
pub fn family(state: &State, run: RunId) -> BTreeSet<RunId> {
    descendants(state, family_of(state, run))
}

/// Whether a resend sends the follow-up's message of the run that its family began with.
fn is_of_follow_up(state: &State, run: RunId) -> bool {
    let line = line(state, run);
    let eldest = line.len().checked_sub(2).and_then(|at| state.links.get(&line[at]));
    eldest.and_then(|link| Resent::parse(&link.set)).is_some_and(|resent| resent.follow_up)
}

/// Contacts who got, may have got, or may still get the message by a resend of the family that `run` does not continue. The
/// message is the first one, or the follow-up's (`follow_up`, of a run that is no resend): who got the one may get the other.
pub fn covered(state: &State, run: RunId, follow_up: bool) -> RoaringBitmap {
    let line = line(state, run);
    let wanted = if line.len() > 1 { is_of_follow_up(state, run) } else { follow_up };
    let others =
        family(state, run).into_iter().filter(|id| !line.contains(id) && is_of_follow_up(state, *id) == wanted);
    let runs = others.filter_map(|id| state.runs.get(&id));
    let mut covered = RoaringBitmap::new();
    for delivery in runs.flat_map(|run| &run.deliveries) {
        let mut rows = delivery.audience.clone();
        delivery.skipped.values().chain(delivery.rejected.values()).for_each(|out| rows -= out);
        covered |= rows;
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_set_and_nothing_else_is() {
        for name in ResendSet::names() {
            assert!(ResendSet::parse(&name).is_some(), "{name}");
        }
        for name in Resent::names() {
            let resent = Resent::parse(&name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(resent.follow_up, name.starts_with("follow_up:"), "{name}");
        }
        for name in ["accepted", "pending", "rejected:", "rejected:soft", "skipped:none", "unknown:all", ""] {
            assert_eq!(ResendSet::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn resends_of_resends_are_found() {
        let mut state = State::default();
        for (run, of) in [(2, 1), (4, 2), (5, 3), (6, 1)] {
            state.links.insert(RunId(run), Link { of: RunId(of), set: "rejected".into() });
        }
        assert_eq!(descendants(&state, RunId(1)), [2, 4, 6].map(RunId).into(), "of the first run");
        assert_eq!(descendants(&state, RunId(3)), [5].map(RunId).into(), "of another");
        assert!(descendants(&state, RunId(6)).is_empty(), "of the last");
        for run in [1, 2, 4, 6] {
            assert_eq!(family(&state, RunId(run)), [2, 4, 6].map(RunId).into(), "all lead back to run 1");
        }
        assert_eq!(line(&state, RunId(4)), [4, 2, 1].map(RunId), "run 4 continues run 2, and that run 1");
    }
}
