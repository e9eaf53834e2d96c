//! Resolved events → one fact. Pure: the state is read, nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use roaring::RoaringBitmap;

use super::resolve::{Place, Resolved, Target};
use super::{Event, EventFault, EventKind, Taken};
use crate::actors::decide::hard_bounces_of;
use crate::clock::Timestamp;
use crate::flow::NodeId;
use crate::ids::{AddressHash, Channel, DeliveryId, RowSpace};
use crate::ledger::events::{
    Behaved, BounceClass, CustomPart, EventsReceived, FeedbackKind, FeedbackPart, PropertyPart, WorthPart, day_of,
};
use crate::ledger::facts::Suppressed;
use crate::ledger::suppression::SuppressReason;
use crate::ledger::tracking::EventClass;
use crate::ledger::watch::{COMPLAINED, CONVERTED, Reported};
use crate::ledger::{RowSet, State};
use crate::limits::SEND_EVENT_TYPES_MAX;

/// After how many hard bounces a connector suppresses, by its name; 0: never.
pub(super) type HardRules = HashMap<String, u32>;

/// Hard bounces after which an address is suppressed whose connector is not known, or has no rule.
pub(super) const HARD_BOUNCES: u32 = 1;

/// The hash by which an event's id is remembered.
fn hash_of(id: &str) -> u64 {
    blake3::hash(id.as_bytes()).as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The fact that some events make, if they make one, and a word for each.
pub(super) fn gather(
    state: &State,
    events: &[Event],
    resolved: Resolved,
    rules: &HardRules,
    now: Timestamp,
) -> (Option<EventsReceived>, Vec<Taken>) {
    let mut gathered = Gathered::new(state, rules);
    let words = events.iter().zip(resolved).map(|(event, target)| gathered.take(event, target)).collect();
    let fact = gathered.fact(now);
    ((!fact.ids.is_empty()).then_some(fact), words)
}

struct Gathered<'s> {
    state: &'s State,
    rules: &'s HardRules,
    ids: Vec<u64>,
    seen: BTreeSet<u64>,
    feedback: BTreeMap<(DeliveryId, NodeId, FeedbackKind), (RoaringBitmap, u64)>,
    /// By type and day; the k-th set holds the contacts with more than k.
    behaved: BTreeMap<(String, i32), Vec<RoaringBitmap>>,
    new_types: BTreeSet<String>,
    /// By send, type, class and second.
    watched: BTreeMap<(DeliveryId, NodeId, String, EventClass, i64), RoaringBitmap>,
    soft: BTreeMap<(Channel, i32), Vec<RoaringBitmap>>,
    healed: BTreeMap<(Channel, i32), RoaringBitmap>,
    suppressed: BTreeMap<(Channel, SuppressReason), (RoaringBitmap, BTreeSet<AddressHash>)>,
    custom: BTreeMap<(DeliveryId, NodeId, String), (RoaringBitmap, u64)>,
    worth: BTreeMap<(DeliveryId, NodeId, String), i64>,
    properties: BTreeMap<(String, String, String), RoaringBitmap>,
}

impl<'s> Gathered<'s> {
    fn new(state: &'s State, rules: &'s HardRules) -> Gathered<'s> {
        Gathered {
            state,
            rules,
            ids: Vec::new(),
            seen: BTreeSet::new(),
            feedback: BTreeMap::new(),
            behaved: BTreeMap::new(),
            new_types: BTreeSet::new(),
            watched: BTreeMap::new(),
            soft: BTreeMap::new(),
            healed: BTreeMap::new(),
            suppressed: BTreeMap::new(),
            custom: BTreeMap::new(),
            worth: BTreeMap::new(),
            properties: BTreeMap::new(),
        }
    }

    fn take(&mut self, event: &Event, target: Result<Target, EventFault>) -> Taken {
        let id = hash_of(&event.id);
        // First of all: an event that was taken is a duplicate, whatever has changed since.
        if self.state.events.ids.knows(id) || self.seen.contains(&id) {
            return Taken::Duplicate;
        }
        let target = match target {
            Ok(target) => target,
            Err(fault) => return Taken::Refused(fault),
        };
        if let Some(name) = event.kind.behaviour().filter(|name| !self.has_room_for(name)) {
            return Taken::Refused(EventFault::TooManyTypes { name: name.to_owned() });
        }
        if let (EventKind::Custom(name), Some(place)) = (&event.kind, target.place)
            && !self.has_room_on(place, name)
        {
            return Taken::Refused(EventFault::TooManyTypes { name: name.clone() });
        }
        self.seen.insert(id);
        self.ids.push(id);
        self.note(event, &target);
        Taken::Accepted
    }

    /// Whether a type is known, or one more can be, together with those that this fact adds.
    fn has_room_for(&mut self, name: &str) -> bool {
        let behaviour = &self.state.events.behaviour;
        if behaviour.get(name).is_some() || self.new_types.contains(name) {
            return true;
        }
        let room = behaviour.has_room_for_more(self.new_types.len());
        if room {
            self.new_types.insert(name.to_owned());
        }
        room
    }

    /// Whether a type is known on a send, or one more can be.
    fn has_room_on(&self, place: Place, name: &str) -> bool {
        let feedback = self.state.runs.get(&place.delivery.run).and_then(|run| run.feedback_of(place.send));
        let known = feedback.map(|feedback| &feedback.custom);
        let (key, none) = ((place.delivery, place.send), String::new());
        let here = self.custom.range((key.0, key.1, none)..).take_while(|((d, s, _), _)| (*d, *s) == key);
        let new = |of: &String| known.is_none_or(|known| !known.contains_key(of));
        let here: Vec<&String> = here.map(|((.., of), _)| of).filter(|of| new(of)).collect();
        let all = known.map_or(0, BTreeMap::len) + here.len();
        all < SEND_EVENT_TYPES_MAX || here.iter().any(|of| *of == name) || known.is_some_and(|k| k.contains_key(name))
    }

    /// What belongs to a send besides its feedback, and what is kept of properties.
    fn note_more(&mut self, event: &Event, target: &Target) {
        if let Some(Place { delivery, send }) = target.place {
            match (&event.kind, &event.worth) {
                (EventKind::Custom(name), _) => {
                    let (rows, total) = self.custom.entry((delivery, send, name.clone())).or_default();
                    rows.insert(target.row);
                    *total += 1;
                }
                (EventKind::Converted(EventClass::Human), Some((currency, amount))) => {
                    let sum = self.worth.entry((delivery, send, currency.clone())).or_default();
                    *sum = sum.saturating_add(*amount);
                }
                _ => {}
            }
        }
        let Some(name) = event.kind.behaviour().filter(|_| target.space == RowSpace::BASE) else { return };
        for (property, value) in &event.properties {
            let key = (name.to_owned(), property.clone(), value.clone());
            self.properties.entry(key).or_default().insert(target.row);
        }
    }

    fn note(&mut self, event: &Event, target: &Target) {
        self.note_more(event, target);
        let kind = match event.kind {
            EventKind::Delivered => Some(FeedbackKind::Delivered),
            EventKind::Bounced(class) => Some(FeedbackKind::Bounced(class)),
            EventKind::Complained => Some(FeedbackKind::Complained),
            EventKind::Converted(class) => Some(FeedbackKind::Converted(class)),
            EventKind::Custom(_) => None,
        };
        if let (Some(kind), Some(place)) = (kind, target.place) {
            let (rows, total) = self.feedback.entry((place.delivery, place.send, kind)).or_default();
            rows.insert(target.row);
            *total += 1;
        }
        if let Some(place) = target.place.filter(|place| self.is_tested(place.delivery)) {
            let watched = match &event.kind {
                EventKind::Converted(class) => Some((CONVERTED, *class)),
                EventKind::Custom(name) => Some((name.as_str(), EventClass::Human)),
                EventKind::Complained => Some((COMPLAINED, EventClass::Human)),
                EventKind::Delivered | EventKind::Bounced(_) => None,
            };
            if let Some((name, class)) = watched {
                let second = target.at.0.div_euclid(1_000);
                let key = (place.delivery, place.send, name.to_owned(), class, second);
                self.watched.entry(key).or_default().insert(target.row);
            }
        }
        if target.space != RowSpace::BASE {
            // A row of an uploaded file: nothing of it enters the base, and its address is what is suppressed.
            match event.kind {
                EventKind::Bounced(BounceClass::Hard) if self.is_beyond(target) => {
                    self.suppress(target, SuppressReason::HardBounce);
                }
                EventKind::Complained => self.suppress(target, SuppressReason::Complaint),
                _ => {}
            }
            return;
        }
        let day = day_of(target.at);
        if let Some(name) = event.kind.behaviour() {
            once_more(self.behaved.entry((name.to_owned(), day)).or_default(), target.row);
        }
        match event.kind {
            EventKind::Delivered => {
                self.healed.entry((target.channel, day)).or_default().insert(target.row);
            }
            EventKind::Bounced(BounceClass::Soft) => {
                once_more(self.soft.entry((target.channel, day)).or_default(), target.row);
            }
            EventKind::Bounced(BounceClass::Hard) if self.is_beyond(target) => {
                self.suppress(target, SuppressReason::HardBounce);
            }
            EventKind::Complained => self.suppress(target, SuppressReason::Complaint),
            EventKind::Bounced(_) | EventKind::Converted(_) | EventKind::Custom(_) => {}
        }
    }

    /// Whether the run has a test that still counts.
    fn is_tested(&self, delivery: DeliveryId) -> bool {
        let run = self.state.runs.get(&delivery.run);
        run.is_some_and(|run| run.flow.tests.values().any(|test| test.decided.is_none()))
    }

    fn suppress(&mut self, target: &Target, reason: SuppressReason) {
        let (rows, addresses) = self.suppressed.entry((target.channel, reason)).or_default();
        // A bounce says something of an address, and nothing of who has it.
        if target.space == RowSpace::BASE && reason != SuppressReason::HardBounce {
            rows.insert(target.row);
        }
        addresses.extend(target.address);
    }

    /// Whether this hard bounce is the one too many, by the rule of the connector that sent the message.
    fn is_beyond(&self, target: &Target) -> bool {
        let run = target.place.and_then(|place| self.state.runs.get(&place.delivery.run).map(|run| (run, place)));
        let connector = run.and_then(|(run, place)| run.routes.get(usize::from(place.delivery.index)));
        let after = connector.and_then(|route| self.rules.get(&route.connector)).copied().unwrap_or(HARD_BOUNCES);
        if after <= 1 {
            return after == 1;
        }
        let counted = run.is_some_and(|(run, place)| {
            let refused = run
                .delivery(place.delivery.index)
                .and_then(|d| d.rejected.get(&crate::ledger::RejectClass::HardBounce));
            let bounced = run.feedback_of(place.send).map(|feedback| &feedback.hard.rows);
            refused.into_iter().chain(bounced).any(|rows| rows.contains(target.row))
        });
        hard_bounces_of(self.state, target.space, target.row) + u32::from(!counted) >= after
    }

    fn fact(self, at: Timestamp) -> EventsReceived {
        let parts = self.feedback.into_iter().map(|((delivery, send, kind), (rows, total))| FeedbackPart {
            delivery,
            send,
            kind,
            rows,
            total,
        });
        let watched = self.watched.into_iter().map(|((delivery, send, name, class, second), rows)| Reported {
            delivery,
            send,
            name,
            class,
            at: Timestamp(second * 1_000),
            rows,
        });
        let behaved = self.behaved.into_iter().flat_map(|((name, day), sets)| {
            sets.into_iter().map(move |rows| Behaved { name: name.clone(), day, rows })
        });
        let soft = self
            .soft
            .into_iter()
            .flat_map(|((channel, day), sets)| sets.into_iter().map(move |rows| (channel, day, rows)));
        let named = self.suppressed.into_iter().filter(|(_, (rows, hashes))| !(rows.is_empty() && hashes.is_empty()));
        let suppressed = named.map(|((channel, reason), (rows, addresses))| {
            let (rows, addresses) = (RowSet::base(rows), addresses.into_iter().collect());
            Suppressed { channel: Some(channel), reason, rows, addresses, at }
        });
        let custom = self.custom.into_iter().map(|((delivery, send, name), (rows, total))| CustomPart {
            delivery,
            send,
            name,
            rows,
            total,
        });
        let worth = self.worth.into_iter().map(|((delivery, send, currency), amount)| WorthPart {
            delivery,
            send,
            currency,
            amount,
        });
        let properties = self.properties.into_iter().map(|((name, property, value), rows)| PropertyPart {
            name,
            property,
            value,
            rows,
        });
        EventsReceived {
            ids: self.ids,
            feedback: parts.collect(),
            behaved: behaved.collect(),
            soft: soft.collect(),
            healed: self.healed.into_iter().map(|((channel, day), rows)| (channel, day, rows)).collect(),
            suppressed: suppressed.collect(),
            at,
            watched: watched.collect(),
            custom: custom.collect(),
            worth: worth.collect(),
            properties: properties.collect(),
        }
    }
}

/// Puts a row into the first set that does not have it.
fn once_more(sets: &mut Vec<RoaringBitmap>, row: u32) {
    if !sets.iter_mut().any(|set| set.insert(row)) {
        sets.push(RoaringBitmap::from_iter([row]));
    }
}
