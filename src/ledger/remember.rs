//! What facts of runs mean for [`ContactDays`](crate::ledger::days::ContactDays): which of them are a message to a contact.
//!
//! Rows of uploaded files are no contacts and are not remembered.

use roaring::RoaringBitmap;

use crate::ids::{Channel, DeliveryId, RowSpace};
use crate::ledger::events::FeedbackPart;
use crate::ledger::facts::Settled;
use crate::ledger::state::State;
use crate::ledger::tracking::{EventClass, Tracked, TrackedKind};

impl State {
    /// The channel of a delivery over contacts of the base.
    pub(super) fn channel_of(&self, id: DeliveryId) -> Option<Channel> {
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
        let Ok(delivery) = self.delivery(fact.delivery) else { return };
        // Of some it was known already what became of them.
        let (left, arrived) = (&fact.unknown & &delivery.unknown, &fact.unknown & &delivery.accepted);
        self.days.unconfirmed(channel, fact.at, &left);
        self.days.received(channel, fact.at, &arrived);
    }

    /// Rows of a part that are unknown until it is taken in.
    pub(super) fn unknown_of(&self, part: &FeedbackPart) -> RoaringBitmap {
        self.delivery(part.delivery).map(|delivery| &part.rows & &delivery.unknown).unwrap_or_default()
    }

    /// What came back has settled some of the rows that were unknown.
    pub(super) fn remember_feedback(&mut self, part: &FeedbackPart, unknown: &RoaringBitmap) {
        if unknown.is_empty() {
            return;
        }
        let Ok(delivery) = self.delivery(part.delivery) else { return };
        let arrived = unknown & &delivery.accepted;
        let refused = &(unknown - &delivery.unknown) - &arrived;
        self.remember_settled_unknown(part.delivery, &arrived, true);
        self.remember_settled_unknown(part.delivery, &refused, false);
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
            (EventClass::Human, _) => self.days.engaged(channel, clicked, fact.at, &fact.rows),
            (_, Some(EventClass::Human)) => self.days.retracted(channel, clicked, fact.at, &fact.rows),
            (EventClass::Suspect | EventClass::Machine, _) => {}
        }
    }
}
