//! What comes back on a run, counted: into its messages, its tests' watches and its timeline, as each fact is folded.
//!
//! Invariant: CN-1 reports, metrics and verdicts read these counters and nothing else, so that they cannot disagree.

use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::flow::NodeKind;
use crate::flow::nodes::AbTest;
use crate::ids::MessageId;
use crate::ledger::events::{FeedbackKind, FeedbackPart};
use crate::ledger::facts::Settled;
use crate::ledger::run::Run;
use crate::ledger::timeline::Field;
use crate::ledger::tracking::{EventClass, Tracked, TrackedKind};
use crate::ledger::watch::{Reported, Watch};

impl Run {
    /// Every test that still counts, with what it counts.
    fn counting(&mut self) -> impl Iterator<Item = (&AbTest, &mut Watch)> {
        let graph = &self.graph;
        let open = self.flow.tests.iter_mut().filter(|(_, memory)| memory.decided.is_none());
        open.filter_map(move |(node, memory)| match graph.node(*node).map(|n| &n.kind) {
            Some(NodeKind::AbTest(test)) => Some((test, memory.watch.as_mut()?)),
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
        for (test, watch) in self.counting() {
            watch.tracked(test.metric, fact);
        }
    }

    /// What providers and shops reported, already in the sets of its send.
    pub(super) fn count_feedback(&mut self, part: &FeedbackPart, new: u64, at: Timestamp) {
        let field: Field = match part.kind {
            FeedbackKind::Bounced(_) => |tally| &mut tally.bounced,
            FeedbackKind::Complained => |tally| &mut tally.complained,
            FeedbackKind::Converted(EventClass::Human) => |tally| &mut tally.converted,
            FeedbackKind::Converted(_) | FeedbackKind::Delivered => return,
        };
        self.timeline.count(at, field, signed(new));
    }

    pub(super) fn count_reported(&mut self, part: &Reported) {
        for (test, watch) in self.counting() {
            watch.reported(test, part);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::graph::tests::single;
    use crate::flow::{Graph, NodeId};
    use crate::ids::{CampaignId, Channel, DeliveryId, RunId};
    use crate::ledger::facts::{DeliveryEntered, RunStarted};
    use crate::ledger::{Mode, RowSet};

    fn run() -> Run {
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: String::new(),
            connector: "relay".into(),
            mode: Mode::Strict,
            audience: RowSet::base((0..50).collect()),
            skipped: Vec::new(),
            summary: None,
        };
        let graph = Graph::new(single()).expect("valid");
        let (run, campaign, version, deliveries) = (RunId(1), CampaignId(1), 1, vec![entered]);
        {
            let (at, entrants) = (Timestamp(0), crate::ledger::RowSet::default());
            Run::start(&RunStarted { run, campaign, version, graph, deliveries, at, entrants }).expect("starts")
        }
    }

    proptest! {
        /// Whatever comes back, in whatever class and however it is classed anew.
        #[test]
        fn the_sums_over_time_are_the_totals_of_the_sets(
            events in proptest::collection::vec((0u32..50, 0usize..3, 0usize..4, any::<bool>(), 0i64..5_000), 1..120),
        ) {
            let mut run = run();
            let mut at = 0;
            for (row, class, was, click, gap) in events {
                at += gap;
                let fact = Tracked {
                    run: RunId(1),
                    message: MessageId(0),
                    kind: if click { TrackedKind::Clicked { link: 0 } } else { TrackedKind::Opened },
                    class: EventClass::ALL[class],
                    rows: RoaringBitmap::from_iter([row]),
                    total: 1,
                    was: EventClass::ALL.get(was).copied(),
                    at: Timestamp(at),
                };
                run.count_tracked(&fact);
            }
            let mut settled = Settled::new(crate::ids::BatchId(1), DeliveryId { run: RunId(1), index: 0 }, Timestamp(at));
            settled.accepted = (0..7).collect();
            run.count_settled(&settled);
            run.count_unsubscribed(MessageId(0), &(0..3).collect(), Timestamp(at));
            run.count_unsubscribed(MessageId(0), &(2..5).collect(), Timestamp(at + 9));
            let (_, buckets) = run.timeline.buckets(0);
            let mut sum = crate::ledger::timeline::Tally::default();
            buckets.iter().for_each(|(_, tally)| sum.add(tally));
            let message = &run.messages[&MessageId(0)];
            let human = EventClass::Human;
            prop_assert_eq!((sum.opened, sum.clicked), (message.opened.unique(human), message.clicked.unique(human)));
            prop_assert_eq!((sum.opens, sum.clicks), (message.opened.total(human), message.clicked.total(human)));
            prop_assert_eq!((sum.accepted, sum.unsubscribed), (7, 5), "an opt-out counts once");
            prop_assert!(run.flow.tests.is_empty() && run.graph.node(NodeId(1)).is_some(), "no test in this flow");
        }
    }
}
