//! Events of the sender's own on a send, what conversions were worth, and the properties by which contacts are told apart.
//!
//! What is kept of an event's properties are sets and sums, never the event: a set of contacts per type, property and value
//! ([`Properties`]), for the values that are seen first; and of conversions the sum of `value` by `currency`, on the send that led to
//! them. So the memory is bounded whatever senders put into their events, and a property with ever new values (an order's number)
//! uses up its places and no more.
//!
//! Owned by the state. Invariants: NO-1 at most `limits::PROPERTY_SETS_MAX` sets in all; what comes later is counted as left out;
//! NO-2 a send has at most `limits::SEND_EVENT_TYPES_MAX` types, beyond them events are refused before they get here; NO-3 amounts
//! are ten-thousandths, stop at their bounds and are never rounded.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::feedback::Seen;
use super::{EventsReceived, Feedback, day_of};
use crate::flow::nodes::{Delay, WaitEvent};
use crate::flow::{NodeId, NodeKind};
use crate::ids::{DeliveryId, RowSpace};
use crate::ledger::State;
use crate::limits::{CURRENCIES_MAX, PROPERTY_SETS_MAX};

/// Parts of a unit in which amounts are counted.
pub const AMOUNT_PARTS: i64 = 10_000;

/// Events of one type of the sender's own on one send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomPart {
    pub delivery: DeliveryId,
    pub send: NodeId,
    pub name: String,
    pub rows: RoaringBitmap,
    pub total: u64,
}

/// What people's conversions on one send were worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorthPart {
    pub delivery: DeliveryId,
    pub send: NodeId,
    /// Three capital letters; empty if none was said.
    pub currency: String,
    pub amount: i64,
}

/// Contacts of the base with an event of a type that had a property of this value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PropertyPart {
    pub name: String,
    pub property: String,
    pub value: String,
    pub rows: RoaringBitmap,
}

impl Feedback {
    pub(super) fn take_custom(&mut self, part: &CustomPart) {
        self.custom.entry(part.name.clone()).or_default().add(&part.rows, part.total);
    }

    pub(super) fn take_worth(&mut self, currency: &str, amount: i64) {
        if self.worth.len() < CURRENCIES_MAX || self.worth.contains_key(currency) {
            let sum = self.worth.entry(currency.to_owned()).or_default();
            *sum = sum.saturating_add(amount);
        }
    }

    pub(super) fn merge_noted(&mut self, other: &Feedback) {
        for (name, Seen { rows, total }) in &other.custom {
            self.custom.entry(name.clone()).or_default().add(rows, *total);
        }
        other.worth.iter().for_each(|(currency, amount)| self.take_worth(currency, *amount));
    }
}

impl State {
    /// What belongs to sends; parts of a run that is gone mean nothing.
    pub(in crate::ledger) fn take_noted(&mut self, fact: &EventsReceived) {
        for part in &fact.custom {
            if let Some(run) = self.runs.get_mut(&part.delivery.run).filter(|run| run.removed.is_none()) {
                run.feedback.entry(part.send).or_default().take_custom(part);
            }
        }
        for part in &fact.worth {
            if let Some(run) = self.runs.get_mut(&part.delivery.run).filter(|run| run.removed.is_none()) {
                run.feedback.entry(part.send).or_default().take_worth(&part.currency, part.amount);
            }
        }
    }
}

impl State {
    /// What contacts did, for the delays of runs that wait for it. Of days before the run it is none of its business: a report
    /// that comes late tells of what the run's messages did not lead to.
    pub(in crate::ledger) fn take_awaited(&mut self, fact: &EventsReceived) {
        if fact.behaved.is_empty() {
            return;
        }
        for run in self.runs.values_mut().filter(|run| run.state.is_live() && run.space() == RowSpace::BASE) {
            let awaited: BTreeSet<String> = run.graph.nodes().filter_map(|node| awaited_at(&node.kind)).collect();
            let since = day_of(run.started_at);
            for part in fact.behaved.iter().filter(|part| part.day >= since && awaited.contains(&part.name)) {
                *run.flow.happened.entry(part.name.clone()).or_default() |= &part.rows;
            }
        }
    }
}

/// The type of the events of contacts, whatever they are about, that a node waits for.
fn awaited_at(kind: &NodeKind) -> Option<String> {
    match kind {
        NodeKind::Delay(Delay::Event { event: WaitEvent::Custom { name, of: None }, .. }) => Some(name.clone()),
        _ => None,
    }
}

/// By type and property: contacts by value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    types: BTreeMap<String, BTreeMap<String, BTreeMap<String, RoaringBitmap>>>,
    sets: usize,
    /// Values, contact by contact, for which there was no place.
    left_out: u64,
}

impl Properties {
    pub fn add(&mut self, part: &PropertyPart, rows: &RoaringBitmap) {
        if rows.is_empty() {
            return;
        }
        let known = self.get(&part.name, &part.property, &part.value).is_some();
        if !known && self.sets >= PROPERTY_SETS_MAX {
            self.left_out = self.left_out.saturating_add(rows.len());
            return;
        }
        self.sets += usize::from(!known);
        let values = self.types.entry(part.name.clone()).or_default().entry(part.property.clone()).or_default();
        *values.entry(part.value.clone()).or_default() |= rows;
    }

    pub fn get(&self, name: &str, property: &str, value: &str) -> Option<&RoaringBitmap> {
        self.types.get(name)?.get(property)?.get(value)
    }

    /// Properties of a type, and how many values of each are known.
    pub fn of_type(&self, name: &str) -> impl Iterator<Item = (&str, &BTreeMap<String, RoaringBitmap>)> {
        self.types.get(name).into_iter().flatten().map(|(property, values)| (property.as_str(), values))
    }

    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes contacts out of all sets of a type. Values that nobody has any more are forgotten, and their places free.
    pub fn forget(&mut self, name: &str, rows: &RoaringBitmap) {
        let Some(of_type) = self.types.get_mut(name) else { return };
        let mut emptied = 0;
        of_type.retain(|_, values| {
            values.retain(|_, set| {
                *set -= rows;
                emptied += usize::from(set.is_empty());
                !set.is_empty()
            });
            !values.is_empty()
        });
        self.sets = self.sets.saturating_sub(emptied);
    }

    pub fn erase(&mut self, rows: &RoaringBitmap) {
        let values = self.types.values_mut().flat_map(BTreeMap::values_mut);
        // The places of sets that are empty now stay taken until `forget`: a value comes back to its own.
        values.flat_map(BTreeMap::values_mut).for_each(|set| *set -= rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(value: &str) -> PropertyPart {
        let rows = RoaringBitmap::from_iter([1, 2]);
        PropertyPart { name: "cart".into(), property: "plan".into(), value: value.into(), rows }
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten_and_frees_its_place() {
        let mut properties = Properties::default();
        for n in 0..PROPERTY_SETS_MAX - 1 {
            let part = part(&format!("v{n}"));
            properties.add(&part, &RoaringBitmap::from_iter([n as u32]));
        }
        let login = PropertyPart { name: "login".into(), ..part("v1") };
        properties.add(&login, &RoaringBitmap::from_iter([1]));
        properties.forget("cart", &RoaringBitmap::from_iter([1, 5]));
        assert_eq!((properties.get("cart", "plan", "v1"), properties.get("cart", "plan", "v5")), (None, None), "gone");
        assert!(properties.get("cart", "plan", "v2").is_some(), "another contact's");
        assert!(properties.get("login", "plan", "v1").is_some(), "another type's");
        for (value, known) in [("new", true), ("newer", true), ("newest", false)] {
            properties.add(&part(value), &RoaringBitmap::from_iter([7]));
            assert_eq!(properties.get("cart", "plan", value).is_some(), known, "{value}: two places were free");
        }
        properties.forget("cart", &(0..PROPERTY_SETS_MAX as u32).collect());
        assert_eq!(properties.of_type("cart").count(), 0, "nor are the names of properties kept");
    }

    #[test]
    fn values_have_sets_until_the_places_are_used_up() {
        let mut properties = Properties::default();
        for n in 0..PROPERTY_SETS_MAX + 5 {
            let part = part(&format!("v{n}"));
            properties.add(&part, &part.rows);
        }
        let gold = part("v0");
        properties.add(&gold, &RoaringBitmap::from_iter([9]));
        assert_eq!(properties.get("cart", "plan", "v0"), Some(&RoaringBitmap::from_iter([1, 2, 9])), "known ones grow");
        assert_eq!((properties.sets, properties.left_out()), (PROPERTY_SETS_MAX, 10), "the others are counted");
        properties.erase(&RoaringBitmap::from_iter([1, 9]));
        assert_eq!(properties.get("cart", "plan", "v0"), Some(&RoaringBitmap::from_iter([2])), "the erased are gone");
    }

    #[test]
    fn amounts_are_sums_by_currency_and_currencies_have_a_bound() {
        let mut feedback = Feedback::default();
        for (currency, amount) in [("EUR", 125_000), ("USD", 5), ("EUR", -25_000), ("", 7)] {
            feedback.take_worth(currency, amount);
        }
        feedback.take_worth("EUR", i64::MAX);
        assert_eq!(feedback.worth["EUR"], i64::MAX, "it stops");
        assert_eq!((feedback.worth["USD"], feedback.worth[""]), (5, 7));
        for n in 0..100 {
            feedback.take_worth(&format!("C{n}"), 1);
        }
        assert_eq!(feedback.worth.len(), CURRENCIES_MAX, "bounded");
        let mut whole = Feedback::default();
        whole.merge_noted(&feedback);
        assert_eq!(whole.worth, feedback.worth, "the sum of the sends is the delivery's");
    }
}
