//! What the control group of a run did beside those who were sent to: counted while it is known who they are, and kept as figures
//! when their details go.
//!
//! Owns no state. Invariant: CB-1 what is kept is what was counted at the moment of the removal; what either group does
//! later is not counted (DT-2). Before, it is what is still known of either (`EventsForgotten`).

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::ids::RowSpace;
use crate::ledger::events::{Behaviour, day_of};
use crate::ledger::run::Run;
use crate::segments::skip::SkipReason;

/// One type of event: who of the group, and of those it is compared with, did it on the day of the start or later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    pub event: String,
    pub held_out: u64,
    pub sent: u64,
}

impl Run {
    /// Who was held out at the start.
    pub fn held_out(&self) -> Option<&RoaringBitmap> {
        self.deliveries.first()?.skipped.get(&SkipReason::HoldOut)
    }

    /// Both groups by what they did: now, or when the details were removed.
    pub fn compared(&self, behaviour: &Behaviour) -> Vec<Compared> {
        let (Some(group), Some(delivery)) = (self.held_out(), self.deliveries.first()) else { return Vec::new() };
        if self.removed.is_some() {
            return self.compared_then.clone();
        }
        // Only contacts are remembered by what they did.
        let types = (self.space() == RowSpace::BASE).then(|| behaviour.types());
        let each = types.into_iter().flatten().map(|(name, memory)| {
            let since = memory.since(day_of(self.started_at));
            let (held_out, sent) = (since.intersection_len(group), since.intersection_len(&delivery.accepted));
            Compared { event: name.to_owned(), held_out, sent }
        });
        each.collect()
    }
}
