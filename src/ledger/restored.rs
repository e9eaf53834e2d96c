//! What a restored backup makes of the state: it ends at a moment after which the old server may have gone on.
//!
//! Invariants: RS-1 a row that a live run could have sent after the backup was made is *unknown* before anything can
//! be granted: in strict mode nothing is handed over again after an unknown hand-over but by a person's word; RS-2
//! numbers that the old server may have given since are not given again, so that a link in a mail that the state
//! knows nothing of never names another run, upload or contact; RS-3 a link that names a contact who was created after
//! the backup, by a run that the backup knows, is answered as one that is not known.
//!
//! Not doubted are rows that had not come to their send when the backup was made (*held*, or not yet in a delivery),
//! and deliveries in at-least-once mode, whose sender has chosen to send again what is unknown. Their runs wait for a
//! person all the same.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{DeliveryId, RowSpace};
use crate::ledger::delivery::{Delivery, Mode};
use crate::ledger::{RowSet, RunState, State, Violation};
use crate::limits::{RESTORED_ROWS_GAP, RESTORED_RUNS_GAP, RESTORED_SPACES_GAP};

/// pending · deferred → unknown: the directory is a backup, and whether they were sent since is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doubted {
    pub delivery: DeliveryId,
    pub rows: RowSet,
    pub at: Timestamp,
}

/// The state goes on from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The backup's own name for itself.
    pub backup: String,
    pub made_at: Timestamp,
    /// The number of the last fact that it holds.
    pub last_seq: u64,
    pub at: Timestamp,
    /// Runs and row spaces are numbered from here on.
    pub next_run: u32,
    pub next_space: u32,
    /// The same of rows of the contact base: the first that is left out, and the first that is given again.
    #[serde(default)]
    pub first_row: u32,
    #[serde(default)]
    pub next_row: u32,
}

impl State {
    /// The fact that the state goes on from this backup, whose store has given out so many rows; `None` if it says so
    /// already.
    pub fn restored_from(
        &self,
        backup: &str,
        made_at: Timestamp,
        last_seq: u64,
        given: u64,
        at: Timestamp,
    ) -> Option<Restored> {
        if self.restored.as_ref().is_some_and(|known| known.backup == backup) {
            return None;
        }
        let next_run = self.next_run.max(1).saturating_add(RESTORED_RUNS_GAP);
        let next_space = self.next_space.max(1).saturating_add(RESTORED_SPACES_GAP);
        let first_row = u32::try_from(given).unwrap_or(u32::MAX);
        // Half of what is left at most, so that contacts can be created whatever was left out.
        let next_row = first_row + RESTORED_ROWS_GAP.min((u32::MAX - first_row) / 2);
        let backup = backup.to_owned();
        Some(Restored { backup, made_at, last_seq, at, next_run, next_space, first_row, next_row })
    }

    /// What is in doubt, by delivery, of every run that can go on.
    pub fn doubts(&self, at: Timestamp) -> Vec<Doubted> {
        let live = self.runs.values().filter(|run| matches!(run.state, RunState::Running | RunState::Paused));
        let deliveries = live.flat_map(|run| &run.deliveries).filter(|delivery| delivery.mode == Mode::Strict);
        let in_doubt = deliveries.map(|delivery| (delivery, delivery.could_have_been_sent()));
        let some = in_doubt.filter(|(_, rows)| !rows.is_empty());
        some.map(|(delivery, rows)| Doubted { delivery: delivery.id, rows: RowSet { space: delivery.space, rows }, at })
            .collect()
    }

    pub(super) fn apply_doubted(&mut self, fact: &Doubted) -> Result<(), Violation> {
        let rows = &fact.rows.rows;
        self.delivery_mut(fact.delivery)?.doubt(rows)?;
        if let Some(run) = self.runs.get_mut(&fact.delivery.run) {
            run.doubted = true;
        }
        self.leave_sends(fact.delivery, rows)?;
        if let Some(channel) = self.channel_of(fact.delivery) {
            self.days.unconfirmed(channel, fact.at, rows);
        }
        Ok(())
    }

    pub(super) fn apply_restored(&mut self, fact: &Restored) {
        self.next_run = self.next_run.max(fact.next_run);
        self.next_space = self.next_space.max(fact.next_space);
        self.rows_left_out.insert_range(fact.first_row..fact.next_row);
        self.restored = Some(fact.clone());
    }

    /// Whether the row was never given to a contact that this state knows: a server that a backup is of may have given
    /// it to somebody since.
    pub fn is_left_out(&self, space: RowSpace, row: u32) -> bool {
        space == RowSpace::BASE && self.rows_left_out.contains(row)
    }
}

impl Delivery {
    /// Rows that may be claimed without anything else happening first.
    fn could_have_been_sent(&self) -> RoaringBitmap {
        &(&self.pending - &self.held) | &self.deferred
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RunId;

    fn set(rows: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        rows.into_iter().collect()
    }

    fn delivery() -> Delivery {
        let id = DeliveryId { run: RunId(1), index: 0 };
        let mut delivery = Delivery::enter(id, RowSpace::BASE, Mode::Strict, set(0..10), &[]).expect("entered");
        delivery.held = set(8..10);
        delivery
    }

    #[test]
    fn what_could_have_been_sent_becomes_unknown_and_the_sets_still_partition() {
        let mut delivery = delivery();
        let rows = delivery.could_have_been_sent();
        assert_eq!(rows, set(0..8), "held rows had not come to their send");
        delivery.doubt(&rows).expect("they are there");
        delivery.check().expect("balanced");
        assert_eq!((delivery.unknown.len(), delivery.pending.len()), (8, 2));
        assert_eq!(delivery.attempts(3), 1, "it counts as one hand-over of which nothing is known");
        let before = delivery.clone();
        delivery.doubt(&set([3])).expect_err("it is unknown already");
        assert_eq!(delivery, before, "a refused fact changes nothing");
        delivery.settle_unknown(&set(0..4), false).expect("accepted by a person's word");
        delivery.settle_unknown(&set(4..8), true).expect("sent again by a person's word");
        delivery.check().expect("balanced");
        assert_eq!(delivery.attempts(3), 1, "not one more for the word");
    }

    #[test]
    fn numbers_since_the_backup_are_not_given_again_and_once_is_enough() {
        let mut state = State { next_run: 7, next_space: 2, ..State::default() };
        let fact = state.restored_from("b1", Timestamp(5), 99, 70, Timestamp(9)).expect("new");
        state.apply_restored(&fact);
        assert_eq!(state.next_run, 7 + RESTORED_RUNS_GAP);
        assert_eq!(state.next_space, 2 + RESTORED_SPACES_GAP);
        assert_eq!(state.restored_from("b1", Timestamp(5), 99, 70, Timestamp(10)), None, "a start that is repeated");
        let again = state.restored_from("b2", Timestamp(6), 120, 80 + u64::from(RESTORED_ROWS_GAP), Timestamp(20));
        state.apply_restored(&again.expect("another backup is another matter"));
        let left_out = |row| state.is_left_out(RowSpace::BASE, row);
        let gap = RESTORED_ROWS_GAP;
        assert!(!left_out(69) && left_out(70) && left_out(69 + gap), "rows since the first backup");
        assert!(!left_out(70 + gap) && left_out(80 + gap) && left_out(79 + 2 * gap) && !left_out(80 + 2 * gap));
        assert!(!state.is_left_out(RowSpace(1), 70), "rows of uploads are of their own numbers");
    }

    #[test]
    fn whatever_was_left_out_there_are_rows_for_new_contacts() {
        for given in [0, u64::from(u32::MAX) - 9, u64::from(u32::MAX), u64::MAX] {
            let fact = State::default().restored_from("b", Timestamp(5), 99, given, Timestamp(9)).expect("new");
            assert!(u64::from(fact.next_row) >= given.min(u64::from(u32::MAX)), "{given}: none twice");
            let left = u32::MAX - fact.next_row;
            assert!(given.saturating_add(4) > u64::from(u32::MAX) || left > 3, "{given}: {left} are left");
        }
    }
}
