//! What a crash left: unsettled claims become facts, by what their mark bytes say.
//!
//! Method: section 4 of the design. Under the same kernel boot, and unless the journal is poisoned, the mapped mark file
//! survived the process, so each byte is the truth about its row; otherwise every unsettled row is unknown.

use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::ids::{BatchId, DeliveryId};
use crate::ledger::batch::{BootId, OpenBatch};
use crate::ledger::facts::{Fact, Returned, Sample, Settled};
use crate::ledger::outcome::RejectClass;

/// What a mark byte says of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkWord {
    /// Never handed over: free or withdrawn.
    NotHandedOver,
    /// On the wire, no answer read.
    Marked,
    Accepted,
    Deferred,
    Unknown,
    Rejected(RejectClass),
}

/// The facts that end one open batch. `marks` answers the word at a position; `None` if mark bytes can't be believed.
///
/// The time of a deferral died with the process: `due` gives the second of the row's next attempt by its connector's
/// schedule, counted from now; `None` when there is to be none.
pub fn facts_of(
    id: BatchId,
    delivery: DeliveryId,
    batch: &OpenBatch,
    boot: BootId,
    marks: Option<&dyn Fn(u32) -> MarkWord>,
    due: &dyn Fn(u32) -> Option<i64>,
    now: Timestamp,
) -> Vec<Fact> {
    let mut settled = Settled::new(id, delivery, now);
    let mut returned = RoaringBitmap::new();
    let believed = marks.filter(|_| batch.boot == boot);
    let mut deferred = RoaringBitmap::new();
    for (row, position) in batch.open_marks() {
        match believed.map_or(MarkWord::Marked, |word| word(position)) {
            MarkWord::NotHandedOver => {
                returned.insert(row);
            }
            MarkWord::Marked | MarkWord::Unknown => {
                settled.unknown.insert(row);
            }
            MarkWord::Accepted => {
                settled.accepted.insert(row);
            }
            MarkWord::Deferred => {
                deferred.insert(row);
            }
            MarkWord::Rejected(class) => settled.reject(class, row),
        }
    }
    if let Some(row) = deferred.min() {
        let text = "deferred before a crash; the reply text was lost".to_owned();
        settled.samples.push(Sample { label: "deferred".to_owned(), row, text });
    }
    for row in deferred {
        settled.defer(row, due(row));
    }
    let mut facts = Vec::with_capacity(2);
    if settled.all_rows().1 > 0 {
        facts.push(Fact::Settled(settled));
    }
    if !returned.is_empty() {
        facts.push(Fact::Returned(Returned { batch: id, delivery, rows: returned, at: now }));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MessageId, RowSpace, RunId};
    use crate::ledger::facts::Claimed;
    use crate::ledger::{Delivery, Mode, Positions};

    #[test]
    fn a_deferral_that_a_crash_caught_follows_the_schedule_and_its_deadline() {
        let (boot, now) = (BootId([1; 16]), Timestamp(1_700_000_000_000));
        let id = DeliveryId { run: RunId(1), index: 0 };
        let mut delivery = Delivery::enter(id, RowSpace::BASE, Mode::Strict, (0..6).collect(), &[]).expect("entered");
        let claimed = Claimed {
            batch: BatchId(1),
            delivery: id,
            connector: "relay".to_owned(),
            message: MessageId(0),
            rows: (0..6).collect(),
            positions: Positions(vec![(0, 6)]),
            at: now,
            domain: None,
        };
        delivery.claim(&claimed, boot).expect("claimed");
        let word = |position: u32| if position < 4 { MarkWord::Deferred } else { MarkWord::NotHandedOver };
        let due = |row: u32| (row != 0).then_some(1_700_000_000 + i64::from(row % 2) + 1);
        let facts = facts_of(BatchId(1), id, &delivery.batches[&BatchId(1)], boot, Some(&word), &due, now);
        let [Fact::Settled(settled), Fact::Returned(returned)] = &facts[..] else { panic!("{facts:?}") };
        let second = |rows: &[u32]| RoaringBitmap::from_iter(rows);
        assert_eq!(settled.deferred, [(1_700_000_002, second(&[1, 3])), (1_700_000_001, second(&[2]))], "by second");
        assert_eq!(settled.rejected, [(RejectClass::RetryDeadline, second(&[0]))], "past its deadline");
        assert_eq!(returned.rows, second(&[4, 5]), "never handed over");
    }
}
