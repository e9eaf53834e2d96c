//! What came back on the messages of a send: sets of rows, and totals.
//!
//! Owned by the run, by send node: a row gets its message of a delivery at one send, so the sets of a delivery are the sums over its
//! sends. Invariants: FB-1 every row is of the delivery's audience; FB-2 sets hold whatever the order of events was; totals
//! count each event once; FB-3 a row is in one set of bounces only, hard before soft before policy.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::flow::{NodeId, NodeKind};
use crate::ids::DeliveryId;
use crate::ledger::delivery::Delivery;
use crate::ledger::tracking::{EventClass, EventSets};
use crate::ledger::{RejectClass, Run, Violation};

/// Whether mail to an address can work again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BounceClass {
    /// The address does not exist or is disabled.
    Hard,
    /// Full, or too long unreachable.
    Soft,
    /// Refused for what the sender did: content, reputation, size. Never suppresses.
    Policy,
}

impl BounceClass {
    pub const ALL: [BounceClass; 3] = [BounceClass::Hard, BounceClass::Soft, BounceClass::Policy];

    pub fn name(self) -> &'static str {
        match self {
            BounceClass::Hard => "hard",
            BounceClass::Soft => "soft",
            BounceClass::Policy => "policy",
        }
    }

    pub fn from_name(name: &str) -> Option<BounceClass> {
        BounceClass::ALL.into_iter().find(|class| class.name() == name)
    }

    /// What an unknown message was, now that it has bounced.
    pub fn rejects_as(self) -> RejectClass {
        match self {
            BounceClass::Hard => RejectClass::HardBounce,
            BounceClass::Soft => RejectClass::SoftBounce,
            BounceClass::Policy => RejectClass::Policy,
        }
    }
}

/// What happened to a message after it was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackKind {
    Delivered,
    Bounced(BounceClass),
    Complained,
    Converted(EventClass),
}

/// Events of one kind on one send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackPart {
    pub delivery: DeliveryId,
    pub send: NodeId,
    pub kind: FeedbackKind,
    pub rows: RoaringBitmap,
    pub total: u64,
}

/// Rows, and how many events there were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub rows: RoaringBitmap,
    pub total: u64,
}

impl Seen {
    pub(super) fn add(&mut self, rows: &RoaringBitmap, total: u64) {
        self.rows |= rows;
        self.total = self.total.saturating_add(total);
    }
}

/// Everything that came back on one send, or, summed up, on a delivery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    pub delivered: Seen,
    pub hard: Seen,
    pub soft: Seen,
    pub policy: Seen,
    pub complained: Seen,
    pub converted: EventSets,
    /// Events of the sender's own, by type.
    #[serde(default)]
    pub custom: BTreeMap<String, Seen>,
    /// What people's conversions were worth, by currency, in ten-thousandths.
    #[serde(default)]
    pub worth: BTreeMap<String, i64>,
}

impl Feedback {
    pub(crate) fn take(&mut self, kind: FeedbackKind, rows: &RoaringBitmap, total: u64) {
        match kind {
            FeedbackKind::Delivered => self.delivered.add(rows, total),
            FeedbackKind::Bounced(BounceClass::Hard) => self.hard.add(rows, total),
            FeedbackKind::Bounced(BounceClass::Soft) => self.soft.add(rows, total),
            FeedbackKind::Bounced(BounceClass::Policy) => self.policy.add(rows, total),
            FeedbackKind::Complained => self.complained.add(rows, total),
            FeedbackKind::Converted(class) => self.converted.add(class, rows, total),
        }
        if matches!(kind, FeedbackKind::Bounced(_)) {
            self.soft.rows -= &self.hard.rows;
            self.policy.rows -= &self.hard.rows;
            self.policy.rows -= &self.soft.rows;
        }
    }

    /// Contacts of a kind: of bounces, of any class.
    pub(crate) fn contacts(&self, kind: FeedbackKind) -> u64 {
        match kind {
            FeedbackKind::Delivered => self.delivered.rows.len(),
            FeedbackKind::Bounced(_) => self.bounced().len(),
            FeedbackKind::Complained => self.complained.rows.len(),
            FeedbackKind::Converted(class) => self.converted.unique(class),
        }
    }

    /// Rows whose message came back.
    pub fn bounced(&self) -> RoaringBitmap {
        &(&self.hard.rows | &self.soft.rows) | &self.policy.rows
    }

    /// Rows of which a person's conversion is known; machines and suspects decide nothing.
    pub fn converted_by_people(&self) -> Option<&RoaringBitmap> {
        self.converted.rows.get(&EventClass::Human)
    }

    fn merge(&mut self, other: &Feedback) {
        for (mine, theirs) in [
            (&mut self.delivered, &other.delivered),
            (&mut self.hard, &other.hard),
            (&mut self.soft, &other.soft),
            (&mut self.policy, &other.policy),
            (&mut self.complained, &other.complained),
        ] {
            mine.add(&theirs.rows, theirs.total);
        }
        self.converted.merge(&other.converted);
        self.merge_noted(other);
    }
}

impl Delivery {
    /// Whether a message of this delivery may have reached the row: only then can anything come back from it.
    pub fn may_have_left(&self, row: u32) -> bool {
        let sets = [&self.accepted, &self.claimed, &self.deferred, &self.unknown];
        let sets =
            sets.into_iter().chain(self.rejected.values()).chain(self.deferrals.first()).chain(self.unknowns.first());
        sets.into_iter().any(|rows| rows.contains(row))
    }

    /// unknown → accepted · rejected, by what came back. `again`: rows that ended unknown in this very fact and, in
    /// at-least-once mode, are pending again: what is known to have arrived, or bounced, is not sent a second time.
    fn settle_by_feedback(&mut self, feedback: &Feedback, again: &RoaringBitmap) {
        let mut open = &self.unknown | &(&self.pending & again);
        let bounced = [
            (BounceClass::Hard, &feedback.hard.rows),
            (BounceClass::Soft, &feedback.soft.rows),
            (BounceClass::Policy, &feedback.policy.rows),
        ];
        for (class, rows) in bounced {
            let rows = &open & rows;
            open -= &rows;
            self.no_longer_unknown(&rows);
            if !rows.is_empty() {
                *self.rejected.entry(class.rejects_as()).or_default() |= rows;
            }
        }
        let arrived = open & (&feedback.delivered.rows | &feedback.complained.rows);
        self.no_longer_unknown(&arrived);
        self.accepted |= arrived;
    }

    fn no_longer_unknown(&mut self, rows: &RoaringBitmap) {
        self.unknown -= rows;
        self.unpend(rows);
    }
}

impl Run {
    /// The sends of this run whose delivery and message these are.
    pub fn sends_with(&self, delivery: u16) -> impl Iterator<Item = NodeId> {
        let of = move |kind: &NodeKind| matches!(kind, NodeKind::Send { delivery: d, .. } if *d == delivery);
        self.graph.nodes().filter(move |node| of(&node.kind)).map(|node| node.id)
    }

    pub fn feedback_of(&self, send: NodeId) -> Option<&Feedback> {
        self.feedback.get(&send)
    }

    /// What came back on a delivery.
    pub fn feedback_on(&self, delivery: u16) -> Feedback {
        let mut sum = Feedback::default();
        for feedback in self.sends_with(delivery).filter_map(|send| self.feedback.get(&send)) {
            sum.merge(feedback);
        }
        sum
    }

    /// Whether a part fits this run.
    pub(crate) fn fits(&self, part: &FeedbackPart) -> Result<(), Violation> {
        let delivery = self.delivery(part.delivery.index).ok_or(Violation::NoDelivery { delivery: part.delivery })?;
        let sends = self.sends_with(part.delivery.index).any(|send| send == part.send);
        if sends && part.rows.is_subset(&delivery.audience) {
            return Ok(());
        }
        Err(Violation::BadEntry { delivery: part.delivery })
    }

    /// Takes in a part that [`Run::fits`], and settles what it settles.
    pub(crate) fn take_feedback(&mut self, part: &FeedbackPart) {
        let feedback = self.feedback.entry(part.send).or_default();
        feedback.take(part.kind, &part.rows, part.total);
        if let Some(delivery) = self.deliveries.get_mut(usize::from(part.delivery.index)) {
            delivery.settle_by_feedback(feedback, &RoaringBitmap::new());
        }
    }

    /// Applies what came back before rows ended unknown.
    pub(crate) fn recall_feedback(&mut self, delivery: u16, unknown: &RoaringBitmap) {
        if unknown.is_empty() || self.feedback.is_empty() {
            return;
        }
        let feedback = self.feedback_on(delivery);
        if let Some(delivery) = self.deliveries.get_mut(usize::from(delivery)) {
            delivery.settle_by_feedback(&feedback, unknown);
        }
    }
}
