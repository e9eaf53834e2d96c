//! What comes back on a run, counted: into its messages, its tests' watches and its timeline, as each fact is folded.
//!
//! Invariant: CN-1 reports, metrics and verdicts read these counters and nothing else, so that they cannot disagree.

use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::flow::NodeKind;
use crate::flow::nodes::Metric;
use crate::ids::MessageId;
use crate::ledger::facts::Settled;
use crate::ledger::run::Run;
use crate::ledger::tracking::{EventClass, Tracked, TrackedKind};
use crate::ledger::watch::Watch;

impl Run {
    /// Every test that still counts, with what it counts.
    fn counting(&mut self) -> impl Iterator<Item = (Metric, &mut Watch)> {
        let graph = &self.graph;
        let open = self.flow.tests.iter_mut().filter(|(_, memory)| memory.decided.is_none());
        open.filter_map(move |(node, memory)| match graph.node(*node).map(|n| &n.kind) {
            Some(NodeKind::AbTest(test)) => Some((test.metric, memory.watch.as_mut()?)),
            _ => None,
        })
    }

    /// Outcomes of a delivery.
    pub(super) fn count_settled(&mut self, fact: &Settled) {
        let (accepted, rejected) = (&fact.accepted, fact.rejected.iter().map(|(_, rows)| rows.len()).sum::<u64>());
        self.timeline.count(fact.at, |tally| &mut tally.accepted, signed(accepted.len()));
        self.timeline.count(fact.at, |tally| &mut tally.rejected, signed(rejected));
        if accepted.is_empty() || self.flow.tests.is_empty() {
            return;
        }
        let Some(delivery) = self.deliveries.get(usize::from(fact.delivery.index)) else { return };
        let open = self.flow.tests.values_mut().filter(|memory| memory.decided.is_none());
        for watch in open.filter_map(|memory| memory.watch.as_mut()) {
            watch.accepted(fact.delivery.index, delivery, accepted, fact.at);
        }
    }

    pub(super) fn count_tracked(&mut self, fact: &Tracked) {
        let message = self.messages.entry(fact.message).or_default();
        let people = |message: &crate::ledger::tracking::MessageTracking| {
            let sets = match fact.kind {
                TrackedKind::Opened => &message.opened,
                TrackedKind::Clicked { .. } => &message.clicked,
            };
            (signed(sets.unique(EventClass::Human)), signed(sets.total(EventClass::Human)))
        };
        let before = people(message);
        message.add(fact);
        let after = people(message);
        let (new, more) = (after.0 - before.0, after.1 - before.1);
        match fact.kind {
            TrackedKind::Opened => {
                self.timeline.count(fact.at, |tally| &mut tally.opened, new);
                self.timeline.count(fact.at, |tally| &mut tally.opens, more);
            }
            TrackedKind::Clicked { .. } => {
                self.timeline.count(fact.at, |tally| &mut tally.clicked, new);
                self.timeline.count(fact.at, |tally| &mut tally.clicks, more);
            }
        }
        for (metric, watch) in self.counting() {
            watch.tracked(metric, fact);
        }
    }

    pub(super) fn count_unsubscribed(&mut self, message: MessageId, rows: &RoaringBitmap, at: Timestamp) {
        let known = &mut self.messages.entry(message).or_default().unsubscribed;
        let new = rows.len() - rows.intersection_len(known);
        *known |= rows;
        self.timeline.count(at, |tally| &mut tally.unsubscribed, signed(new));
        for (_, watch) in self.counting() {
            watch.unsubscribed(message, rows, at);
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
