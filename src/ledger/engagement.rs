//! Recency and frequency: who opened or clicked so many different messages, of all campaigns, within so many days.
//!
//! Owns no state: reads the sets of every run over the contact base. Days are those of UTC, today included. Only what people did
//! counts: machines and suspects are left out, and so is what was found to be theirs afterwards.

use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::flow::nodes::condition::{Did, Engaged};
use crate::ids::RowSpace;
use crate::ledger::State;
use crate::ledger::tracking::{EventClass, EventSets, MessageTracking, day_of};

/// Contacts of the base with at least as many messages as asked for.
pub fn engaged(state: &State, asked: &Engaged, now: Timestamp) -> RoaringBitmap {
    let wanted = usize::try_from(asked.messages.max(1)).unwrap_or(usize::MAX);
    let today = day_of(now);
    let first = today.saturating_sub(i64::from(asked.within_days.max(1)) - 1);
    // `levels[k]`: contacts with more than k messages.
    let mut levels: Vec<RoaringBitmap> = Vec::new();
    let of_the_base = state.runs.values().filter(|run| run.deliveries.iter().all(|d| d.space == RowSpace::BASE));
    for message in of_the_base.flat_map(|run| run.messages.values()) {
        let mut carry = of_message(message, asked.did, first, today);
        for level in &mut levels {
            if carry.is_empty() {
                break;
            }
            let next = &carry & &*level;
            *level |= &carry;
            carry = next;
        }
        if !carry.is_empty() && levels.len() < wanted {
            levels.push(carry);
        }
    }
    levels.into_iter().nth(wanted - 1).unwrap_or_default()
}

fn of_message(message: &MessageTracking, did: Did, first: i64, last: i64) -> RoaringBitmap {
    let mut found = RoaringBitmap::new();
    for (_, day) in message.days.range(first..=last) {
        if did != Did::Clicked {
            found |= &day.opened & people(&message.opened);
        }
        if did != Did::Opened {
            found |= &day.clicked & people(&message.clicked);
        }
    }
    found
}

/// Contacts whose doing counts as a person's: what every set of contacts, every question about them and every `unique` goes by.
/// Suspects are shown beside machines, and decide nothing.
pub fn people(sets: &EventSets) -> RoaringBitmap {
    sets.rows.get(&EventClass::Human).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MessageId, RunId};
    use crate::ledger::tracking::{Tracked, TrackedKind};

    const DAY: i64 = 24 * 3_600_000;

    fn fact(kind: TrackedKind, class: EventClass, rows: &[u32], day: i64) -> Tracked {
        let rows: RoaringBitmap = rows.iter().copied().collect();
        let (run, message, total) = (RunId(1), MessageId(0), rows.len());
        Tracked { run, message, kind, class, rows, total, was: None, at: Timestamp(day * DAY + 5) }
    }

    #[test]
    fn only_people_and_only_days_within_the_period_count() {
        let mut message = MessageTracking::default();
        message.add(&fact(TrackedKind::Opened, EventClass::Human, &[1, 2], 10));
        message.add(&fact(TrackedKind::Opened, EventClass::Machine, &[3], 10));
        message.add(&fact(TrackedKind::Clicked { link: 0 }, EventClass::Human, &[2, 4], 12));
        let found = |message: &MessageTracking, did, first, last| -> Vec<u32> {
            of_message(message, did, first, last).iter().collect()
        };
        assert_eq!(found(&message, Did::Opened, 0, 20), [1, 2], "machines left out");
        assert_eq!(found(&message, Did::Clicked, 0, 20), [2, 4], "clicks");
        assert_eq!(found(&message, Did::OpenedOrClicked, 0, 20), [1, 2, 4], "either");
        assert_eq!(found(&message, Did::OpenedOrClicked, 11, 20), [2, 4], "the opens were before");
        assert_eq!(found(&message, Did::OpenedOrClicked, 13, 20), [] as [u32; 0], "all was before");
        let machine = Tracked {
            was: Some(EventClass::Human),
            class: EventClass::Machine,
            ..fact(TrackedKind::Opened, EventClass::Human, &[1], 11)
        };
        message.add(&machine);
        assert_eq!(found(&message, Did::Opened, 0, 20), [2], "found to be a machine afterwards");
    }
}
