//! What a test of a run watches: who of its arms was accepted when, and what those contacts did within their window.
//!
//! A contact's window begins when its first message of the arm is accepted and is as long for every contact. What comes
//! after it never counts, what by its own time came before it neither, and a contact is judged only when its window is over (*matured*), so that arms are compared over
//! equal times however unevenly they were sent. Times are kept as buckets of rows, a 64th of the window wide: an event is
//! held against a few sets, never against contacts one by one.
//!
//! Owned by the run's memory of the test; a fold of facts. Invariants: WA-1 a row is in one bucket at most, and all rows in
//! buckets were seen; WA-2 windows end at the end of their bucket, the same instant for all rows in it, at most a 64th of
//! the window late and never early; WA-3 nothing is added once the test is decided: the rest that joins the winner's arm
//! is no part of the sample.
//!
//! Must not know: what follows from the counts.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::flow::nodes::{AbTest, Metric};
use crate::flow::{Exit, Graph, NodeId, NodeKind};
use crate::ids::{DeliveryId, MessageId};
use crate::ledger::Run;
use crate::ledger::delivery::Delivery;
use crate::ledger::tracking::{EventClass, EventSets, Tracked, TrackedKind};
use crate::limits::{EVENT_BEFORE_SEND_MAX, TEST_WINDOW_BUCKETS_MAX, TEST_WINDOW_PARTS};

/// When the windows of contacts end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    /// 0: no window; contacts are mature at once, and everything counts.
    length_ms: i64,
    /// Every row whose window has begun.
    seen: RoaringBitmap,
    /// Rows by the part of time (a 64th of the window long) in which their window began; parts long over are forgotten.
    begun: BTreeMap<i64, RoaringBitmap>,
}

impl Windows {
    pub fn new(length_ms: i64) -> Windows {
        Windows { length_ms: length_ms.max(0), ..Windows::default() }
    }

    fn part_ms(&self) -> i64 {
        (self.length_ms / TEST_WINDOW_PARTS).max(1)
    }

    /// When the windows that began in a part end.
    fn end_of(&self, part: i64) -> i64 {
        part.saturating_add(1).saturating_mul(self.part_ms()).saturating_add(self.length_ms)
    }

    /// The windows of those among `rows` that are new begin.
    fn begin(&mut self, rows: &RoaringBitmap, at: Timestamp) {
        let new = rows - &self.seen;
        if new.is_empty() {
            return;
        }
        self.seen |= &new;
        if self.length_ms == 0 {
            return;
        }
        let part = at.0.div_euclid(self.part_ms());
        *self.begun.entry(part).or_default() |= new;
        while self.begun.len() > TEST_WINDOW_BUCKETS_MAX {
            self.begun.pop_first();
        }
    }

    fn open_at(&self, at: Timestamp) -> impl Iterator<Item = &RoaringBitmap> {
        self.begun.iter().rev().take_while(move |(part, _)| self.end_of(**part) > at.0).map(|(_, rows)| rows)
    }

    /// Those of `rows` for whom it is not too late at this instant; who was not accepted yet is not too late.
    fn in_time(&self, rows: &RoaringBitmap, at: Timestamp) -> RoaringBitmap {
        if self.length_ms == 0 {
            return rows.clone();
        }
        let mut late = rows & &self.seen;
        for open in self.open_at(at) {
            late -= open;
        }
        rows - &late
    }

    /// Those of `rows` whose window began so long after this instant that it cannot be about their message.
    fn too_early(&self, rows: &RoaringBitmap, at: Timestamp) -> RoaringBitmap {
        let (latest, part) = (at.plus(EVENT_BEFORE_SEND_MAX), self.part_ms());
        let later = self.begun.iter().rev().take_while(|(begun, _)| begun.saturating_mul(part) > latest.0);
        later.fold(RoaringBitmap::new(), |all, (_, begun)| all | (begun & rows))
    }

    /// Rows whose window is over.
    pub fn matured(&self, at: Timestamp) -> RoaringBitmap {
        self.open_at(at).fold(self.seen.clone(), |all, open| all - open)
    }

    /// When the last window that has begun ends.
    pub fn last_end(&self) -> Option<Timestamp> {
        self.begun.keys().next_back().map(|part| Timestamp(self.end_of(*part)))
    }

    pub(super) fn sets_mut(&mut self) -> impl Iterator<Item = &mut RoaringBitmap> {
        self.begun.values_mut().chain([&mut self.seen])
    }

    pub fn seen(&self) -> &RoaringBitmap {
        &self.seen
    }
}

/// The sends of one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmSends {
    pub exit: Exit,
    /// Node, delivery and message of each send that belongs to this arm alone.
    pub sends: Vec<(NodeId, u16, MessageId)>,
}

impl ArmSends {
    /// Every row that ever arrived at a send of the arm.
    pub fn assigned(&self, deliveries: &[Delivery]) -> RoaringBitmap {
        self.each(deliveries, |delivery, node| delivery.assigned(node).clone())
    }

    /// Rows that a message of the arm was accepted for.
    pub fn accepted(&self, deliveries: &[Delivery]) -> RoaringBitmap {
        self.each(deliveries, |delivery, node| &delivery.accepted & delivery.assigned(node))
    }

    /// Rows that a message of the arm came back from.
    pub fn bounced(&self, run: &Run) -> RoaringBitmap {
        let feedback = self.sends.iter().filter_map(|(node, ..)| run.feedback_of(*node));
        feedback.fold(RoaringBitmap::new(), |all, feedback| all | feedback.bounced())
    }

    fn each(&self, deliveries: &[Delivery], rows: impl Fn(&Delivery, NodeId) -> RoaringBitmap) -> RoaringBitmap {
        let found =
            self.sends.iter().filter_map(|(node, index, _)| Some((deliveries.get(usize::from(*index))?, *node)));
        found.fold(RoaringBitmap::new(), |all, (delivery, node)| all | rows(delivery, node))
    }
}

/// Counters of one test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    pub arms: Vec<ArmSends>,
    pub windows: Windows,
    /// What the test counts, within the windows, by the best class of each contact.
    pub counted: EventSets,
    /// Within the windows, too.
    pub unsubscribed: RoaringBitmap,
    pub complained: RoaringBitmap,
    /// When the sample was cut: what happened before it, no message of the test has led to.
    #[serde(default)]
    pub since: Timestamp,
}

/// The type of a conversion that has no name of its own.
pub const CONVERTED: &str = "converted";
/// The type of a complaint.
pub const COMPLAINED: &str = "complained";

/// Something that was reported of messages of a send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    pub delivery: DeliveryId,
    pub send: NodeId,
    /// The type of the event.
    pub name: String,
    pub class: EventClass,
    /// When it happened, to the second.
    pub at: Timestamp,
    pub rows: RoaringBitmap,
}

/// Something that came back on a message, as a test sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub message: MessageId,
    pub rows: &'a RoaringBitmap,
    pub class: EventClass,
    pub was: Option<EventClass>,
    pub at: Timestamp,
}

impl Watch {
    pub fn new(graph: &Graph, node: NodeId, test: &AbTest, since: Timestamp) -> Watch {
        let send = |id: NodeId| match graph.node(id).map(|n| &n.kind) {
            Some(NodeKind::Send { delivery, message, .. }) => Some((id, *delivery, MessageId(*message))),
            _ => None,
        };
        let sends = |exit: &Exit| graph.sends_of_branch(node, exit).into_iter().filter_map(send).collect();
        let arms = test.arms.iter().map(|arm| ArmSends { exit: arm.exit.clone(), sends: sends(&arm.exit) }).collect();
        let windows = Windows::new(i64::from(test.window_seconds) * 1_000);
        Watch { arms, windows, since, ..Watch::default() }
    }

    fn messages(&self) -> BTreeSet<MessageId> {
        self.arms.iter().flat_map(|arm| arm.sends.iter().map(|(_, _, message)| *message)).collect()
    }

    /// Rows of a delivery were accepted.
    pub(super) fn accepted(&mut self, index: u16, delivery: &Delivery, rows: &RoaringBitmap, at: Timestamp) {
        for arm in &self.arms {
            for (node, _, _) in arm.sends.iter().filter(|(_, of, _)| *of == index) {
                self.windows.begin(&(rows & delivery.assigned(*node)), at);
            }
        }
    }

    /// An event of the kind that the test counts.
    pub(super) fn happened(&mut self, seen: Seen<'_>) {
        if !self.messages().contains(&seen.message) {
            return;
        }
        let rows = match seen.was {
            // Only what was counted can turn out to be something else.
            Some(was) => self.counted.rows.get(&was).map_or_else(RoaringBitmap::new, |rows| rows & seen.rows),
            // By its own time, which another system's clock made: an order of the morning is not the afternoon's mail's.
            None if seen.at.plus(EVENT_BEFORE_SEND_MAX) < self.since => return,
            None => self.windows.in_time(seen.rows, seen.at) - self.windows.too_early(seen.rows, seen.at),
        };
        let total = rows.len();
        if total > 0 {
            self.counted.take_rows(seen.class, seen.was, &rows, total);
        }
    }

    /// Opens or clicks, if the test counts them.
    pub(super) fn tracked(&mut self, metric: Metric, fact: &Tracked) {
        let counts = match fact.kind {
            TrackedKind::Opened => metric == Metric::Opens,
            TrackedKind::Clicked { .. } => metric == Metric::Clicks,
        };
        if counts {
            let Tracked { message, class, was, at, .. } = *fact;
            self.happened(Seen { message, rows: &fact.rows, class, was, at });
        }
    }

    pub(super) fn unsubscribed(&mut self, message: MessageId, rows: &RoaringBitmap, at: Timestamp) {
        if self.messages().contains(&message) {
            let rows = self.windows.in_time(rows, at);
            self.unsubscribed |= rows;
        }
    }

    /// Complaints and conversions. The goal of a test is a type of events; without one it is that of plain conversions.
    pub(super) fn reported(&mut self, test: &AbTest, part: &Reported) {
        let of_arm = |arm: &ArmSends| arm.sends.iter().find(|(node, ..)| *node == part.send).map(|(_, _, id)| *id);
        let Some(message) = self.arms.iter().find_map(of_arm) else { return };
        if part.name == COMPLAINED {
            let rows = self.windows.in_time(&part.rows, part.at);
            self.complained |= rows;
        }
        if test.metric == Metric::Conversions && part.name == test.goal.as_deref().unwrap_or(CONVERTED) {
            self.happened(Seen { message, rows: &part.rows, class: part.class, was: None, at: part.at });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn rows(list: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        list.into_iter().collect()
    }

    #[test]
    fn windows_end_for_each_contact_after_its_own_send() {
        let mut windows = Windows::new(HOUR);
        windows.begin(&rows([1, 2]), Timestamp(0));
        windows.begin(&rows([2, 3]), Timestamp(30 * 60_000));
        assert_eq!(windows.matured(Timestamp(HOUR - 1)), rows([]), "none is over");
        let late = HOUR + HOUR / TEST_WINDOW_PARTS;
        assert_eq!(windows.matured(Timestamp(late)), rows([1, 2]), "the first message begins the window");
        assert_eq!(windows.in_time(&rows([1, 2, 3, 4]), Timestamp(late)), rows([3, 4]), "too late for two");
        assert_eq!(windows.matured(Timestamp(late + HOUR)), rows([1, 2, 3]), "all are over");
        assert!(windows.last_end().is_some_and(|end| end.0 > late && end.0 <= late + HOUR), "the last end");
    }

    #[test]
    fn what_happened_long_before_a_window_began_does_not_count() {
        let mut windows = Windows::new(4 * HOUR);
        windows.begin(&rows([2]), Timestamp(8 * HOUR));
        windows.begin(&rows([1]), Timestamp(10 * HOUR));
        let early = |at: i64| windows.too_early(&rows([1, 2, 3]), Timestamp(at));
        assert_eq!(early(8 * HOUR), rows([1]), "the one was not sent to yet; of the third nothing is known");
        assert_eq!(early(10 * HOUR - 60_000), rows([]), "clocks differ a little");
        assert_eq!(early(7 * HOUR), rows([1, 2]), "both");
    }

    #[test]
    fn without_a_window_all_is_mature_and_all_counts() {
        let mut windows = Windows::new(0);
        windows.begin(&rows(0..10), Timestamp(5));
        assert_eq!(windows.matured(Timestamp(5)), rows(0..10), "at once");
        assert_eq!(windows.in_time(&rows([3]), Timestamp(i64::MAX)), rows([3]), "always");
        assert_eq!(windows.last_end(), None, "there is no end to wait for");
    }

    #[test]
    fn parts_are_bounded_and_what_is_forgotten_is_over() {
        let mut windows = Windows::new(HOUR);
        for n in 0..2_000u32 {
            windows.begin(&rows([n]), Timestamp(i64::from(n) * HOUR / TEST_WINDOW_PARTS));
        }
        assert_eq!(windows.begun.len(), TEST_WINDOW_BUCKETS_MAX, "bounded");
        let now = Timestamp(1_999 * HOUR / TEST_WINDOW_PARTS);
        assert_eq!(windows.matured(now).len(), 2_000 - 65, "who began within the last 65 parts is not over");
    }

    proptest! {
        /// Against a model that keeps each contact's time.
        #[test]
        fn sets_say_what_contacts_one_by_one_would(
            length in 64i64..100_000,
            sends in proptest::collection::vec((0u32..40, 0i64..200_000), 1..60),
            events in proptest::collection::vec((0u32..40, 0i64..400_000), 1..40),
        ) {
            let mut sends = sends;
            sends.sort_by_key(|(_, at)| *at);
            let mut windows = Windows::new(length);
            let mut first: BTreeMap<u32, i64> = BTreeMap::new();
            for (row, at) in sends {
                windows.begin(&rows([row]), Timestamp(at));
                first.entry(row).or_insert(at);
            }
            let part = (length / TEST_WINDOW_PARTS).max(1);
            for (row, at) in events {
                let counts = windows.in_time(&rows([row]), Timestamp(at)).contains(row);
                let over = windows.matured(Timestamp(at)).contains(row);
                match first.get(&row) {
                    None => prop_assert!(counts && !over, "not sent to yet"),
                    Some(sent) => {
                        prop_assert_eq!(counts, !over, "it counts until the window is over");
                        prop_assert!(at >= sent + length || counts, "never early");
                        prop_assert!(at < sent + length + part || !counts, "a part late at most");
                    }
                }
            }
        }
    }
}
