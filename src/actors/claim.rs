//! What a claim takes and when it is given up, as functions over plain values.
//!
//! Owns no state. Invariants: CL-1 a claim takes no more rows than its grant names and a batch holds; CL-2 all rows of a
//! claim are of one class, so its domain is that of every row.
//!
//! Must not know: actix, locks, sockets, the journal's thread.

use roaring::RoaringBitmap;

use crate::actors::decide::{Classes, rows_to_claim};
use crate::channels::fair::Grant;
use crate::clock::{Monotonic, Timestamp};
use crate::config::caps::Caps;
use crate::ids::{BatchId, Channel, MessageId, RowSpace};
use crate::ledger::caps::Reached;
use crate::ledger::facts::Claimed;
use crate::ledger::{Delivery, Positions, State};
use crate::limits::{BATCH_CONTACTS_MAX, CAP_LOOK_ROWS, CLAIM_MAX};
use crate::segments::skip::SkipReason;

/// Rows that a grant claims now; none if what the grant was for has gone elsewhere since.
pub fn rows_of(grant: &Grant, delivery: &Delivery, classes: &Classes, now: Timestamp) -> RoaringBitmap {
    rows_to_claim(delivery, grant.key.send, classes, grant.key.class, grant.rows.min(BATCH_CONTACTS_MAX), now)
}

/// Rows that had enough messages, if `rows`, which would be claimed, has any: those of a good part of the delivery, so that
/// few facts skip many. To be called, and the claim made, under one lock.
pub fn capped(
    state: &State,
    caps: &Caps,
    channel: Channel,
    grant: &Grant,
    classes: &Classes,
    rows: &RoaringBitmap,
    now: Timestamp,
) -> Option<(SkipReason, RoaringBitmap)> {
    if caps.is_empty() || rows.is_empty() {
        return None;
    }
    let id = grant.key.delivery;
    let enough = |rows: &RoaringBitmap| {
        Reached::look(state, caps, channel, Some(id.run), now, Some(rows)).of(rows).into_iter().next()
    };
    let met = enough(rows)?;
    let delivery = state.delivery(id).ok().filter(|delivery| delivery.space == RowSpace::BASE)?;
    let ahead = rows_to_claim(delivery, grant.key.send, classes, grant.key.class, CAP_LOOK_ROWS, now);
    enough(&ahead).or(Some(met))
}

/// Who claims over what.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    pub connector: &'a str,
    /// Domain of the grant's class, if it has limits of its own.
    pub domain: Option<&'a str>,
    pub message: MessageId,
}

/// The fact that takes `rows`, with their places in the mark file.
pub fn fact(
    batch: BatchId,
    delivery: &Delivery,
    way: Way<'_>,
    rows: RoaringBitmap,
    positions: Positions,
    at: Timestamp,
) -> Claimed {
    Claimed {
        batch,
        delivery: delivery.id,
        connector: way.connector.to_owned(),
        message: way.message,
        rows,
        positions,
        at,
        domain: way.domain.map(str::to_owned),
    }
}

/// Whether an ending must be synced at once: without these credits the next batch can't be claimed.
pub fn wants_sync(credits_out: u64, credits: u64) -> bool {
    credits_out + BATCH_CONTACTS_MAX as u64 > credits
}

/// Whether rows that no lane has marked are taken back: they wait for a limit or a connection, and others could go.
pub fn is_overdue(unmarked: u32, claimed_at: Monotonic, now: Monotonic) -> bool {
    unmarked > 0 && now.since(claimed_at) > CLAIM_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::fair::{DemandKey, GrantId};
    use crate::channels::limits_table::ClassId;
    use crate::flow::NodeId;
    use crate::ids::{DeliveryId, RowSpace, RunId};
    use crate::ledger::Mode;

    const ID: DeliveryId = DeliveryId { run: RunId(1), index: 0 };

    fn delivery(rows: std::ops::Range<u32>) -> Delivery {
        Delivery::enter(ID, RowSpace::BASE, Mode::Strict, rows.collect(), &[]).expect("enters")
    }

    fn grant(class: u16, rows: usize) -> Grant {
        Grant { id: GrantId(1), key: DemandKey { delivery: ID, send: NodeId(1), class: ClassId(class) }, rows }
    }

    #[test]
    fn a_claim_is_of_its_class_and_within_its_grant() {
        let classes = Classes(vec![(10..20).collect()]);
        let delivery = delivery(0..5_000);
        let now = Timestamp(0);
        let bound = rows_of(&grant(1, 7), &delivery, &classes, now);
        assert_eq!(bound.len(), 7, "what was granted");
        assert!(bound.is_subset(&classes.0[0]), "rows of the class only");
        let others = rows_of(&grant(0, usize::MAX), &delivery, &classes, now);
        assert_eq!(others.len(), BATCH_CONTACTS_MAX as u64, "a batch at most");
        assert!(others.is_disjoint(&classes.0[0]), "and no row of a class with limits of its own");
        let way = Way { connector: "relay", domain: Some("big.test"), message: MessageId(2) };
        let positions = Positions::from_sorted(0..7);
        let fact = fact(BatchId(3), &delivery, way, bound.clone(), positions, now);
        assert_eq!((fact.rows, fact.domain.as_deref()), (bound, Some("big.test")), "the fact names the domain");
    }

    #[test]
    fn credits_and_time_decide() {
        let batch = BATCH_CONTACTS_MAX as u64;
        assert!(!wants_sync(7 * batch, 8 * batch), "there is room for a batch");
        assert!(wants_sync(7 * batch + 1, 8 * batch), "there is not");
        let late = Monotonic::default().plus(CLAIM_MAX + std::time::Duration::from_millis(1));
        assert!(is_overdue(1, Monotonic::default(), late), "too old and unmarked");
        assert!(!is_overdue(0, Monotonic::default(), late), "all marked: the provider's turn");
        assert!(!is_overdue(1, late, late), "fresh");
    }
}
