//! The sets of one delivery and the only moves between them (promise 2 of the design).
//!
//! Invariants: DV-1 LG-3 holds after every move; DV-2 a move that does not find all its rows where they leave changes
//! nothing; DV-3 `held ⊆ pending`; DV-4 the buckets of `due` partition `deferred`; DV-5 the open rows of all batches
//! partition `claimed`; DV-6 with several sends, `assigned` sets are disjoint and `waiting = pending ∩ assigned`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

pub use crate::campaigns::Mode;
use crate::clock::Timestamp;
use crate::flow::NodeId;
use crate::ids::{BatchId, DeliveryId, RowSpace};
use crate::ledger::Violation;
use crate::ledger::batch::{BootId, OpenBatch};
pub use crate::ledger::class_filter::ClassFilter;
pub use crate::ledger::counts::Counts;
use crate::ledger::facts::{Claimed, Returned, Settled};
use crate::ledger::outcome::RejectClass;
use crate::limits::{RETRY_WAIT_MAX, UNKNOWN_ATTEMPTS_MAX};
use crate::segments::skip::SkipReason;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: DeliveryId,
    pub space: RowSpace,
    pub mode: Mode,
    pub audience: RoaringBitmap,
    pub pending: RoaringBitmap,
    /// Pending rows that are not granted yet.
    pub held: RoaringBitmap,
    pub claimed: RoaringBitmap,
    pub deferred: RoaringBitmap,
    /// Deferred rows by the second (since the epoch) from which they may be claimed again.
    pub due: BTreeMap<i64, RoaringBitmap>,
    pub accepted: RoaringBitmap,
    pub unknown: RoaringBitmap,
    pub rejected: BTreeMap<RejectClass, RoaringBitmap>,
    pub skipped: BTreeMap<SkipReason, RoaringBitmap>,
    /// `deferrals[k]`: rows deferred more than k times.
    pub deferrals: Vec<RoaringBitmap>,
    /// `unknowns[k]`: rows whose hand-over ended unknown more than k times.
    pub unknowns: Vec<RoaringBitmap>,
    pub batches: BTreeMap<BatchId, OpenBatch>,
    /// With several send nodes: whose message a row gets. Empty with one, whose rows are all.
    #[serde(default)]
    pub sends: BTreeMap<NodeId, SendRows>,
    /// Accepted by an operator's word, not by an answer: the hand-over is counted in `unknowns` already.
    #[serde(default)]
    pub vouched: RoaringBitmap,
}

/// The rows of one send node of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SendRows {
    /// Every row that ever arrived there; a row is assigned to one send for good.
    pub assigned: RoaringBitmap,
    /// Of those, the pending ones (DV-6).
    pub waiting: RoaringBitmap,
}

impl Delivery {
    /// A delivery entered whole: `audience` minus the skipped sets is pending.
    pub fn enter(
        id: DeliveryId,
        space: RowSpace,
        mode: Mode,
        audience: RoaringBitmap,
        skipped: &[(SkipReason, RoaringBitmap)],
    ) -> Result<Delivery, Violation> {
        let mut pending = audience.clone();
        let mut sets = BTreeMap::new();
        for (reason, rows) in skipped {
            if rows.intersection_len(&pending) != rows.len() {
                return Err(Violation::BadEntry { delivery: id });
            }
            pending -= rows;
            *sets.entry(*reason).or_insert_with(RoaringBitmap::new) |= rows;
        }
        Ok(Delivery {
            id,
            space,
            mode,
            audience,
            pending,
            held: RoaringBitmap::new(),
            claimed: RoaringBitmap::new(),
            deferred: RoaringBitmap::new(),
            due: BTreeMap::new(),
            accepted: RoaringBitmap::new(),
            unknown: RoaringBitmap::new(),
            rejected: BTreeMap::new(),
            skipped: sets,
            deferrals: Vec::new(),
            unknowns: Vec::new(),
            batches: BTreeMap::new(),
            sends: BTreeMap::new(),
            vouched: RoaringBitmap::new(),
        })
    }

    /// Holds every pending row until it arrives at a send.
    pub fn hold_all(&mut self) {
        self.held = self.pending.clone();
    }

    /// Pending rows arrive at a send node: they may be claimed for its message. `alone`: the delivery has no other send.
    /// Answers the rows that are pending no more and leave again at once.
    pub fn arrive(&mut self, node: NodeId, rows: &RoaringBitmap, alone: bool) -> RoaringBitmap {
        let known = rows & &self.audience;
        let arriving = &known & &self.pending;
        self.held -= &arriving;
        if !alone {
            // Who comes to another send of the delivery keeps the message of the first.
            let elsewhere = self.sends.iter().filter(|(other, _)| **other != node);
            let new = elsewhere.fold(known.clone(), |new, (_, send)| new - &send.assigned);
            let send = self.sends.entry(node).or_default();
            send.waiting |= &arriving & &new;
            send.assigned |= new;
        }
        known - arriving
    }

    /// Rows enter a delivery that is entered on arrival.
    pub fn join(
        &mut self,
        node: NodeId,
        rows: &RoaringBitmap,
        skipped: &[(SkipReason, RoaringBitmap)],
        alone: bool,
    ) -> Result<RoaringBitmap, Violation> {
        let mut eligible = rows.clone();
        for (_, set) in skipped {
            if set.intersection_len(&eligible) != set.len() {
                return Err(Violation::BadEntry { delivery: self.id });
            }
            eligible -= set;
        }
        if rows.intersection_len(&self.audience) != 0 {
            return Err(Violation::BadEntry { delivery: self.id });
        }
        self.audience |= rows;
        for (reason, set) in skipped {
            *self.skipped.entry(*reason).or_default() |= set;
        }
        self.pending |= eligible;
        Ok(self.arrive(node, rows, alone))
    }

    fn pend(&mut self, rows: &RoaringBitmap) {
        self.pending |= rows;
        for send in self.sends.values_mut() {
            send.waiting |= rows & &send.assigned;
        }
    }

    pub(super) fn unpend(&mut self, rows: &RoaringBitmap) {
        self.pending -= rows;
        for send in self.sends.values_mut() {
            send.waiting -= rows;
        }
    }

    /// Rows of a send node, whatever became of them.
    pub fn assigned(&self, node: NodeId) -> &RoaringBitmap {
        static NOBODY: LazyLock<RoaringBitmap> = LazyLock::new(RoaringBitmap::new);
        match self.sends.get(&node) {
            Some(send) => &send.assigned,
            None if self.sends.is_empty() => &self.audience,
            // Others of the delivery have rows of their own, and nobody came here.
            None => &NOBODY,
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            audience: self.audience.len(),
            pending: self.pending.len(),
            pending_held: self.held.len(),
            claimed: self.claimed.len(),
            deferred: self.deferred.len(),
            accepted: self.accepted.len(),
            rejected: self.rejected.values().map(RoaringBitmap::len).sum(),
            skipped: self.skipped.values().map(RoaringBitmap::len).sum(),
            unknown: self.unknown.len(),
        }
    }

    /// Nothing is pending, claimed or deferred.
    pub fn is_finished(&self) -> bool {
        self.pending.is_empty() && self.claimed.is_empty() && self.deferred.is_empty()
    }

    /// Full check of LG-3, DV-3, DV-4 and DV-5; for snapshots, recovery, the end of a run and `estafette check`.
    pub fn check(&self) -> Result<(), Violation> {
        let mut seen = RoaringBitmap::new();
        let mut total = 0;
        let one = [&self.pending, &self.claimed, &self.deferred, &self.accepted, &self.unknown];
        for set in one.into_iter().chain(self.rejected.values()).chain(self.skipped.values()) {
            total += set.len();
            seen |= set;
        }
        let due: u64 = self.due.values().map(RoaringBitmap::len).sum();
        let due_rows = self.due.values().fold(RoaringBitmap::new(), |all, rows| all | rows);
        let open: u64 = self.batches.values().map(|b| b.open.len()).sum();
        let open_rows = self.batches.values().fold(RoaringBitmap::new(), |all, b| all | &b.open);
        let sound = seen == self.audience
            && total == self.audience.len()
            && self.held.is_subset(&self.pending)
            && due == self.deferred.len()
            && due_rows == self.deferred
            && open == self.claimed.len()
            && open_rows == self.claimed
            && self.sends_are_sound();
        if sound { Ok(()) } else { Err(Violation::Unbalanced { delivery: self.id }) }
    }

    fn sends_are_sound(&self) -> bool {
        let mut seen = RoaringBitmap::new();
        self.sends.values().all(|send| {
            let sound = seen.is_disjoint(&send.assigned) && send.waiting == &self.pending & &send.assigned;
            seen |= &send.assigned;
            sound
        })
    }

    fn must_hold(&self, set: &'static str, holder: &RoaringBitmap, rows: &RoaringBitmap) -> Result<(), Violation> {
        let found = holder.intersection_len(rows);
        if found == rows.len() {
            return Ok(());
        }
        Err(Violation::NotInSet { delivery: self.id, set, expected: rows.len(), found })
    }

    fn remove_due(&mut self, rows: &RoaringBitmap) {
        self.due.retain(|_, bucket| {
            *bucket -= rows;
            !bucket.is_empty()
        });
    }

    /// pending · deferred → claimed.
    pub fn claim(&mut self, fact: &Claimed, boot: BootId) -> Result<(), Violation> {
        if self.batches.contains_key(&fact.batch) {
            return Err(Violation::BatchExists { batch: fact.batch });
        }
        let again = &fact.rows & &self.deferred;
        let first = &fact.rows - &again;
        self.must_hold("pending", &self.pending, &first)?;
        if first.intersection_len(&self.held) != 0 || fact.positions.len() != fact.rows.len() {
            return Err(Violation::BadEntry { delivery: self.id });
        }
        self.unpend(&first);
        if !again.is_empty() {
            self.deferred -= &again;
            self.remove_due(&again);
        }
        self.claimed |= &fact.rows;
        let batch = OpenBatch {
            connector: fact.connector.clone(),
            message: fact.message,
            rows: fact.rows.clone(),
            positions: fact.positions.clone(),
            open: fact.rows.clone(),
            boot,
            claimed_at: fact.at,
            domain: fact.domain.clone(),
        };
        self.batches.insert(fact.batch, batch);
        Ok(())
    }

    /// claimed → accepted · rejected · deferred · skipped · unknown (in at-least-once mode unknown → pending).
    pub fn settle(&mut self, fact: &Settled) -> Result<(), Violation> {
        let (rows, total) = fact.all_rows();
        if rows.len() != total {
            return Err(Violation::Unbalanced { delivery: self.id });
        }
        self.close_rows(fact.batch, &rows)?;
        self.accepted |= &fact.accepted;
        for (class, rows) in &fact.rejected {
            *self.rejected.entry(*class).or_default() |= rows;
        }
        for (reason, rows) in &fact.skipped {
            *self.skipped.entry(*reason).or_default() |= rows;
        }
        for (second, rows) in &fact.deferred {
            self.deferred |= rows;
            *self.due.entry(*second).or_default() |= rows;
            count_again(&mut self.deferrals, rows);
        }
        if !fact.unknown.is_empty() {
            self.unknown_rows(&fact.unknown);
        }
        Ok(())
    }

    fn unknown_rows(&mut self, rows: &RoaringBitmap) {
        self.unknown |= rows;
        count_again(&mut self.unknowns, rows);
        if self.mode == Mode::AtLeastOnce {
            let spent = usize::try_from(UNKNOWN_ATTEMPTS_MAX).unwrap_or(usize::MAX).saturating_sub(1);
            let again = match self.unknowns.get(spent) {
                Some(final_rows) => rows - final_rows,
                None => rows.clone(),
            };
            self.unknown -= &again;
            self.pend(&again);
        }
    }

    /// claimed → pending: rows that were provably not handed over.
    pub fn take_back(&mut self, fact: &Returned) -> Result<(), Violation> {
        self.close_rows(fact.batch, &fact.rows)?;
        self.pend(&fact.rows);
        Ok(())
    }

    fn close_rows(&mut self, id: BatchId, rows: &RoaringBitmap) -> Result<(), Violation> {
        let batch = self.batches.get_mut(&id).ok_or(Violation::NoBatch { batch: id })?;
        let found = batch.open.intersection_len(rows);
        if found != rows.len() {
            return Err(Violation::NotInSet { delivery: self.id, set: "claimed", expected: rows.len(), found });
        }
        batch.open -= rows;
        if batch.open.is_empty() {
            self.batches.remove(&id);
        }
        self.claimed -= rows;
        Ok(())
    }

    /// pending · deferred → skipped: stop, `send_until`, an opt-out known before the claim.
    pub fn skip(&mut self, reason: SkipReason, rows: &RoaringBitmap) -> Result<(), Violation> {
        let waiting = &self.pending | &self.deferred;
        self.must_hold("pending or deferred", &waiting, rows)?;
        self.unpend(rows);
        self.held -= rows;
        if rows.intersection_len(&self.deferred) != 0 {
            self.deferred -= rows;
            self.remove_due(rows);
        }
        *self.skipped.entry(reason).or_default() |= rows;
        Ok(())
    }

    /// pending · deferred → unknown: the directory is a backup, and what was sent since is not known.
    pub fn doubt(&mut self, rows: &RoaringBitmap) -> Result<(), Violation> {
        let waiting = &self.pending | &self.deferred;
        self.must_hold("pending or deferred", &waiting, rows)?;
        self.unpend(rows);
        self.held -= rows;
        self.deferred -= rows;
        self.remove_due(rows);
        self.unknown |= rows;
        count_again(&mut self.unknowns, rows);
        Ok(())
    }

    /// deferred → rejected(retry_deadline).
    pub fn give_up(&mut self, rows: &RoaringBitmap) -> Result<(), Violation> {
        self.must_hold("deferred", &self.deferred, rows)?;
        self.deferred -= rows;
        self.remove_due(rows);
        *self.rejected.entry(RejectClass::RetryDeadline).or_default() |= rows;
        Ok(())
    }

    /// unknown → accepted · pending, by an operator.
    pub fn settle_unknown(&mut self, rows: &RoaringBitmap, resend: bool) -> Result<(), Violation> {
        self.must_hold("unknown", &self.unknown, rows)?;
        self.unknown -= rows;
        if resend {
            self.pend(rows);
        } else {
            self.accepted |= rows;
            self.vouched |= rows;
        }
        Ok(())
    }

    /// How often a row was handed over, as far as it was answered or given up as unknown. What waits or is skipped has had
    /// its deferrals and unknowns alone; an answer that ended it is one more.
    pub fn attempts(&self, row: u32) -> usize {
        let unknowns = self.unknowns.iter().take_while(|rows| rows.contains(row)).count();
        let answered = (self.accepted.contains(row) && !self.vouched.contains(row))
            || self.rejected.values().any(|rows| rows.contains(row));
        self.deferral_count(row) + unknowns + usize::from(answered)
    }

    /// Up to `n` rows that may be claimed now for the message of `send`: deferred ones whose time has come first, then
    /// pending ones; only rows of `class`, or, without one, rows of none of the other classes.
    pub fn ready(&self, send: NodeId, now: Timestamp, n: usize, class: ClassFilter<'_>) -> RoaringBitmap {
        if self.is_elsewhere(send) {
            return RoaringBitmap::new();
        }
        let rows_of = self.sends.get(&send);
        let ours = |row: u32| rows_of.is_none_or(|rows| rows.assigned.contains(row)) && class.admits(row);
        let due = self.due_at(now).flat_map(|rows| rows.iter());
        let mut taken: Vec<u32> = due.filter(|row| ours(*row)).take(n).collect();
        taken.sort_unstable();
        let left = n - taken.len();
        let mut rows = RoaringBitmap::from_iter(taken);
        if left == 0 {
            return rows;
        }
        let pool = rows_of.map_or(&self.pending, |rows| &rows.waiting);
        match class {
            ClassFilter::Only(class) => {
                let mut waiting = pool & class;
                waiting -= &self.held;
                rows.extend(waiting.iter().take(left));
            }
            _ => {
                let pending = pool.iter().filter(|row| class.admits(*row) && !self.held.contains(*row));
                rows.extend(pending.take(left));
            }
        }
        rows
    }

    /// Deferred rows that may be claimed at `now`: those whose time has come, and those whose time is further away than any
    /// wait can be. The wall clock has gone back since they were deferred: they are tried now, too early at worst.
    fn due_at(&self, now: Timestamp) -> impl Iterator<Item = &RoaringBitmap> {
        let second = |at: Timestamp| at.0.div_euclid(1_000);
        let farthest = second(now.plus(RETRY_WAIT_MAX)).saturating_add(1);
        let unreal = (std::ops::Bound::Excluded(farthest), std::ops::Bound::Unbounded);
        self.due.range(..=second(now)).chain(self.due.range(unreal)).map(|(_, rows)| rows)
    }

    /// Nobody has arrived at this send, while others of the delivery have rows of their own.
    fn is_elsewhere(&self, send: NodeId) -> bool {
        !self.sends.is_empty() && !self.sends.contains_key(&send)
    }

    /// Rows that could be claimed at `now` for the message of `send` if every limit allowed.
    pub fn ready_count(&self, send: NodeId, now: Timestamp, class: ClassFilter<'_>) -> u64 {
        if self.is_elsewhere(send) {
            return 0;
        }
        let rows_of = self.sends.get(&send);
        let due = self.due_at(now).map(|rows| match rows_of {
            Some(ours) => std::borrow::Cow::Owned(rows & &ours.assigned),
            None => std::borrow::Cow::Borrowed(rows),
        });
        let counted = |rows: &RoaringBitmap| match class {
            ClassFilter::Any => rows.len(),
            ClassFilter::Only(class) => class.intersection_len(rows),
            ClassFilter::NoneOf(classes) => rows.len() - classes.iter().map(|c| c.intersection_len(rows)).sum::<u64>(),
        };
        let again: u64 = due.map(|rows| counted(&rows)).sum();
        // Held rows have not arrived anywhere, so that no send's rows are among them.
        let first = match rows_of {
            Some(ours) => counted(&ours.waiting),
            None => counted(&self.pending) - counted(&self.held),
        };
        again + first
    }

    /// The second at which the next deferred row is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.keys().next().map(|second| Timestamp(second.saturating_mul(1_000)))
    }

    /// How often a row was deferred.
    pub fn deferral_count(&self, row: u32) -> usize {
        self.deferrals.iter().take_while(|rows| rows.contains(row)).count()
    }
}

/// Adds one to the count of each row, kept as a stack of sets.
fn count_again(levels: &mut Vec<RoaringBitmap>, rows: &RoaringBitmap) {
    let mut carry = rows.clone();
    for level in levels.iter_mut() {
        let next = &carry & &*level;
        *level |= &carry;
        carry = next;
        if carry.is_empty() {
            return;
        }
    }
    levels.push(carry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MessageId, RunId};
    use crate::ledger::rows::Positions;

    const ID: DeliveryId = DeliveryId { run: RunId(1), index: 0 };

    fn delivery(mode: Mode) -> Delivery {
        Delivery::enter(ID, RowSpace::BASE, mode, (0..6).collect(), &[]).expect("it fits")
    }

    /// One hand-over of a row and what it ends as.
    fn hand_over(delivery: &mut Delivery, row: u32, end: impl Fn(&mut Settled, RoaringBitmap)) {
        let rows = RoaringBitmap::from_iter([row]);
        let (batch, at) = (BatchId(1), Timestamp(1_000));
        let claimed = Claimed {
            batch,
            delivery: ID,
            connector: "relay".into(),
            message: MessageId(0),
            rows: rows.clone(),
            positions: Positions::from_sorted(0..1),
            at,
            domain: None,
        };
        delivery.claim(&claimed, BootId::default()).expect("it can be claimed");
        let mut settled = Settled::new(batch, ID, at);
        end(&mut settled, rows);
        delivery.settle(&settled).expect("it is claimed");
        delivery.check().expect("it balances");
    }

    fn accepted(settled: &mut Settled, rows: RoaringBitmap) {
        settled.accepted = rows;
    }

    fn unknown(settled: &mut Settled, rows: RoaringBitmap) {
        settled.unknown = rows;
    }

    fn deferred(settled: &mut Settled, rows: RoaringBitmap) {
        settled.deferred = vec![(1, rows)];
    }

    fn rejected(settled: &mut Settled, rows: RoaringBitmap) {
        settled.rejected = vec![(RejectClass::HardBounce, rows)];
    }

    #[test]
    fn every_hand_over_is_one_attempt_whatever_it_ended_as() {
        for mode in [Mode::Strict, Mode::AtLeastOnce] {
            let mut delivery = delivery(mode);
            hand_over(&mut delivery, 1, accepted);
            for end in [deferred, deferred, accepted] {
                hand_over(&mut delivery, 2, end);
            }
            hand_over(&mut delivery, 3, rejected);
            hand_over(&mut delivery, 4, deferred);
            hand_over(&mut delivery, 5, unknown);
            let attempts: Vec<usize> = (0..6).map(|row| delivery.attempts(row)).collect();
            assert_eq!(attempts, [0, 1, 3, 1, 1, 1], "by row, {mode:?}");
        }
    }

    #[test]
    fn an_unknown_that_is_settled_is_no_attempt_more() {
        let row = |row: u32| RoaringBitmap::from_iter([row]);
        let mut strict = delivery(Mode::Strict);
        hand_over(&mut strict, 0, unknown);
        strict.settle_unknown(&row(0), false).expect("it is unknown");
        assert_eq!(strict.attempts(0), 1, "accepted by word: it was handed over once");
        hand_over(&mut strict, 1, unknown);
        strict.settle_unknown(&row(1), true).expect("it is unknown");
        assert_eq!(strict.attempts(1), 1, "it waits to be sent again");
        hand_over(&mut strict, 1, accepted);
        assert_eq!(strict.attempts(1), 2, "and was handed over again");

        let mut repeating = delivery(Mode::AtLeastOnce);
        let most = usize::try_from(UNKNOWN_ATTEMPTS_MAX).expect("a small number");
        for row in [0, 1] {
            for _ in 0..most {
                hand_over(&mut repeating, row, unknown);
            }
        }
        assert_eq!((repeating.unknown.len(), repeating.attempts(0)), (2, most), "given up as unknown");
        repeating.settle_unknown(&row(0), false).expect("it is unknown");
        assert_eq!(repeating.attempts(0), most, "accepted by word: not one more");
        repeating.settle_unknown(&row(1), true).expect("it is unknown");
        hand_over(&mut repeating, 1, accepted);
        assert_eq!(repeating.attempts(1), most + 1, "sent again, and answered");
        assert!(repeating.check().is_ok(), "it balances");
    }
}
