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

/// Deferred rows of a crash have lost their exact time: they are due after this many seconds.
pub const DEFERRED_AFTER_CRASH_SECONDS: i64 = 300;

/// The facts that end one open batch. `marks` answers the word at a position; `None` if mark bytes can't be believed.
pub fn facts_of(
    id: BatchId,
    delivery: DeliveryId,
    batch: &OpenBatch,
    boot: BootId,
    marks: Option<&dyn Fn(u32) -> MarkWord>,
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
            MarkWord::Rejected(class) => match settled.rejected.iter_mut().find(|(c, _)| *c == class) {
                Some((_, rows)) => {
                    rows.insert(row);
                }
                None => settled.rejected.push((class, RoaringBitmap::from_iter([row]))),
            },
        }
    }
    if !deferred.is_empty() {
        let second = now.0.div_euclid(1_000) + DEFERRED_AFTER_CRASH_SECONDS;
        if let Some(row) = deferred.min() {
            let text = "deferred before a crash; the reply text was lost".to_owned();
            settled.samples.push(Sample { label: "deferred".to_owned(), row, text });
        }
        settled.deferred.push((second, deferred));
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
