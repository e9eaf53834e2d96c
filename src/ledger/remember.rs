//! What facts of runs mean for [`ContactDays`](crate::ledger::days::ContactDays): which of them are a message to a contact.
//!
//! Rows of uploaded files are no contacts and are not remembered.

use roaring::RoaringBitmap;

use crate::ids::{Channel, DeliveryId, RowSpace};
use crate::ledger::facts::Settled;
use crate::ledger::state::State;
use crate::ledger::tracking::{EventClass, Tracked, TrackedKind};

impl State {
    /// The channel of a delivery over contacts of the base.
    fn channel_of(&self, id: DeliveryId) -> Option<Channel> {
        let run = self.runs.get(&id.run)?;
        run.delivery(id.index).filter(|delivery| delivery.space == RowSpace::BASE)?;
        run.routes.get(usize::from(id.index)).map(|route| route.channel)
    }

    /// Accepted messages, and unknown ones that are not sent again by themselves.
    pub(super) fn remember_settled(&mut self, fact: &Settled) {
        let Some(channel) = self.channel_of(fact.delivery) else { return };
        self.days.received(channel, fact.at, &fact.accepted);
        if fact.unknown.is_empty() {
            return;
        }
        let left = self.delivery(fact.delivery).map(|delivery| &fact.unknown & &delivery.unknown);
        self.days.unconfirmed(channel, fact.at, &left.unwrap_or_default());
    }

    pub(super) fn remember_settled_unknown(&mut self, delivery: DeliveryId, rows: &RoaringBitmap, received: bool) {
        if let Some(channel) = self.channel_of(delivery) {
            self.days.settled(channel, rows, received);
        }
    }

    pub(super) fn remember_tracked(&mut self, fact: &Tracked) {
        if fact.rows.is_empty() {
            return;
        }
        let Some(run) = self.runs.get(&fact.run) else { return };
        if run.deliveries.iter().any(|delivery| delivery.space != RowSpace::BASE) {
            return;
        }
        let Some(channel) = run.route_of(fact.message).map(|route| route.channel) else { return };
        let clicked = matches!(fact.kind, TrackedKind::Clicked { .. });
        match (fact.class, fact.was) {
            (EventClass::Machine, None) => {}
            (EventClass::Machine, Some(_)) => self.days.retracted(channel, clicked, fact.at, &fact.rows),
            _ => self.days.engaged(channel, clicked, fact.at, &fact.rows),
        }
    }
}
