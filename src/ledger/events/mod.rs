//! What comes back about messages from outside: delivered, bounced, complained, converted, and events of the sender's own.
//!
//! One fact holds some events of one request, sorted into sets: the ids that make them idempotent and everything that follows
//! from them are in one frame, so that an event is either remembered with all its consequences or not at all.
//!
//! Reading order: [`feedback`] (sets per send), [`ids`] (what was taken already), [`bounces`] (soft bounces over days),
//! [`behaviour`] (what contacts did), [`noted`] (types, sums and properties of the sender's own), [`guard`] (when a run is paused by itself).
//!
//! Invariants
//! - EV-1 Sets make events commute: delivered before accepted, a bounce before its delivery, the same event twice and in any
//!   order give the same sets. Only totals count repetitions, and those are held off by the ids.
//! - EV-2 The first word that settles an unknown is final in the ledger; later ones are in the sets alone.
//! - EV-3 An event moves rows in the ledger only: contacts stay where the flow has taken them.
//! - EV-4 Every memory here has a bound of `limits` and says what happens beyond it.

pub mod behaviour;
pub mod bounces;
pub mod feedback;
pub mod guard;
pub mod ids;
pub mod noted;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

pub use behaviour::{Behaviour, TypeMemory};
pub use bounces::{SoftBounces, SoftBouncesJudged, SoftRule};
pub use feedback::{BounceClass, Feedback, FeedbackKind, FeedbackPart};
pub use guard::{AutoPaused, GuardFigures, GuardRule, PauseCause, RunGuard};
pub use ids::EventIds;
pub use noted::{CustomPart, Properties, PropertyPart, WorthPart};

use crate::clock::Timestamp;
use crate::ids::Channel;
use crate::ledger::facts::Suppressed;
use crate::ledger::watch::Reported;

/// Days since the epoch.
pub fn day_of(at: Timestamp) -> i32 {
    i32::try_from(at.0.div_euclid(86_400_000)).unwrap_or(if at.0 < 0 { i32::MIN } else { i32::MAX })
}

/// Some events, sorted into sets, with all that follows from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventsReceived {
    /// Hashes of the events' ids, in the order of arrival.
    pub ids: Vec<u64>,
    /// What came back on sends.
    pub feedback: Vec<FeedbackPart>,
    /// What contacts of the base did; several events of one contact, type and day are as many entries.
    pub behaved: Vec<Behaved>,
    /// Soft bounces of contacts of the base by the day on which they happened.
    pub soft: Vec<(Channel, i32, RoaringBitmap)>,
    /// Messages that arrived: what was soft until then is forgiven.
    pub healed: Vec<(Channel, i32, RoaringBitmap)>,
    /// Who is not sent to from now on.
    pub suppressed: Vec<Suppressed>,
    pub at: Timestamp,
    /// What a test that is not decided may count: by its own time, for windows.
    #[serde(default)]
    pub watched: Vec<Reported>,
    /// Events of the sender's own on sends.
    #[serde(default)]
    pub custom: Vec<CustomPart>,
    #[serde(default)]
    pub worth: Vec<WorthPart>,
    #[serde(default)]
    pub properties: Vec<PropertyPart>,
}

impl EventsReceived {
    /// Whether somebody may no longer be sent to.
    pub fn narrows(&self) -> bool {
        !self.suppressed.is_empty()
    }
}

/// Contacts of the base that did something on a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Behaved {
    pub name: String,
    pub day: i32,
    pub rows: RoaringBitmap,
}

/// What is remembered of events beside the runs that they belong to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventMemory {
    #[serde(default)]
    pub ids: EventIds,
    #[serde(default)]
    pub soft: SoftBounces,
    #[serde(default)]
    pub behaviour: Behaviour,
    #[serde(default)]
    pub properties: Properties,
}

impl EventMemory {
    /// Takes in what does not belong to a run; suppressions are the caller's.
    pub fn take(&mut self, fact: &EventsReceived, erased: &RoaringBitmap) {
        for id in &fact.ids {
            self.ids.note(*id);
        }
        for behaved in &fact.behaved {
            self.behaviour.add(&behaved.name, behaved.day, &(&behaved.rows - erased));
        }
        for part in &fact.properties {
            self.properties.add(part, &(&part.rows - erased));
        }
        for (channel, day, rows) in &fact.soft {
            self.soft.note(*channel, *day, &(rows - erased));
        }
        for (channel, day, rows) in &fact.healed {
            self.soft.heal(*channel, *day, rows);
        }
    }

    /// Who did something before `day` and not since is not known to have done it any more (`EventsForgotten`).
    pub fn forget_before(&mut self, name: &str, day: i32) {
        let gone = self.behaviour.forget_before(name, day);
        self.properties.forget(name, &gone);
    }

    pub fn erase(&mut self, rows: &RoaringBitmap) {
        self.soft.forget(None, rows);
        self.behaviour.erase(rows);
        self.properties.erase(rows);
    }
}

/// Adds one to the count of each row; counts are kept as a stack of sets, `levels[k]` the rows with more than k, at most
/// `deepest` of them.
pub(in crate::ledger) fn count_again(levels: &mut Vec<RoaringBitmap>, rows: &RoaringBitmap, deepest: usize) {
    let mut carry = rows.clone();
    for level in levels.iter_mut() {
        let next = &carry & &*level;
        *level |= &carry;
        carry = next;
        if carry.is_empty() {
            return;
        }
    }
    if levels.len() < deepest && !carry.is_empty() {
        levels.push(carry);
    }
}

#[cfg(test)]
mod tests;
