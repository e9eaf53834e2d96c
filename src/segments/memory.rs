//! Indices in memory, for tests and benches: the same answers as the store's, without a store.
//!
//! Owns its sets. Invariants ST-1 to ST-3 of [`crate::contacts::sets`]. Panics on nothing, but is not meant to be fast to fill or small.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::tz::TimeZone;
use roaring::{MultiOps, RoaringBitmap};

use crate::clock::Timestamp;
use crate::contacts::sets::{number_digits, time_digits};
use crate::contacts::{AttributeSets, ContactsError, IndexKind, Record, RecordBuilder, Schema, Value};
use crate::ids::{AttributeId, Channel};
use crate::segments::error::{Hint, Untold};
use crate::segments::expression::Expression;
use crate::segments::history::{Engagement, Event};
use crate::segments::world::{Scope, World};

type Shared = Arc<RoaringBitmap>;

/// Contacts, lists, segments and consent in memory.
#[derive(Clone, Debug)]
pub struct MemoryWorld {
    pub schema: Schema,
    pub now: Timestamp,
    pub zone: TimeZone,
    pub scope: Scope,
    pub lists: HashMap<String, Shared>,
    pub segments: HashMap<String, Arc<Expression>>,
    pub subscribed: HashMap<(Channel, String), Shared>,
    pub unsubscribed: HashMap<(Channel, String), Shared>,
    pub suppressed: Shared,
    pub suppressed_on: HashMap<Channel, Shared>,
    /// By campaign; one that is not named does not exist.
    pub history: HashMap<String, HashMap<Event, Shared>>,
    /// By day, today being 0 and yesterday 1.
    pub days: HashMap<(Event, Channel, u32), Shared>,
    /// Each opened (or clicked: `true`) message: days ago, and by whom.
    pub messages: Vec<(bool, u32, Shared)>,
    /// Each event from outside: its type, days ago, and of whom.
    pub events: Vec<(String, u32, Shared)>,
    /// By type, property and value of an event.
    pub properties: HashMap<(String, String, String), Shared>,
    universe: Shared,
    present: HashMap<AttributeId, Shared>,
    values: HashMap<AttributeId, BTreeMap<String, Shared>>,
    digits: HashMap<(AttributeId, u8), Shared>,
    records: BTreeMap<u32, Vec<u8>>,
}

impl MemoryWorld {
    pub fn new(schema: Schema, now: Timestamp) -> MemoryWorld {
        MemoryWorld {
            schema,
            now,
            zone: TimeZone::UTC,
            scope: Scope::Base,
            lists: HashMap::new(),
            segments: HashMap::new(),
            subscribed: HashMap::new(),
            unsubscribed: HashMap::new(),
            suppressed: Shared::default(),
            suppressed_on: HashMap::new(),
            history: HashMap::new(),
            days: HashMap::new(),
            messages: Vec::new(),
            events: Vec::new(),
            properties: HashMap::new(),
            universe: Shared::default(),
            present: HashMap::new(),
            values: HashMap::new(),
            digits: HashMap::new(),
            records: BTreeMap::new(),
        }
    }

    /// Adds a contact that is not there yet, and indexes its values by the schema.
    pub fn insert(&mut self, row: u32, record: &mut RecordBuilder) {
        let bytes = record.to_bytes();
        Arc::make_mut(&mut self.universe).insert(row);
        if let Ok(record) = Record::parse(&bytes) {
            for (id, value) in record.iter() {
                self.index(row, id, value);
            }
        }
        self.records.insert(row, bytes);
    }

    fn index(&mut self, row: u32, id: AttributeId, value: Value<'_>) {
        Arc::make_mut(self.present.entry(id).or_default()).insert(row);
        if self.schema.by_id(id).is_none_or(|attribute| attribute.index == IndexKind::None) {
            return;
        }
        let mut put = |text: &str| {
            let rows = self.values.entry(id).or_default().entry(text.to_owned()).or_default();
            Arc::make_mut(rows).insert(row);
        };
        let digits = match value {
            Value::Text(text) => return put(text),
            Value::Bool(flag) => return put(if flag { "true" } else { "false" }),
            Value::List(list) => return list.iter().for_each(put),
            Value::Number(number) => number_digits(number),
            Value::Time(time) => time_digits(time),
        };
        for digit in (0..64u8).filter(|digit| digits >> digit & 1 == 1) {
            Arc::make_mut(self.digits.entry((id, digit)).or_default()).insert(row);
        }
    }

    /// Rows that are in so many of the sets, counted one by one.
    fn often<'s>(&self, sets: impl Iterator<Item = &'s Shared>, least: u32) -> Shared {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for row in sets.flat_map(|rows| rows.iter()) {
            *counts.entry(row).or_default() += 1;
        }
        Arc::new(counts.into_iter().filter(|(_, count)| *count >= least).map(|(row, _)| row).collect())
    }

    /// All contacts at once, without records: for benches.
    pub fn set_universe(&mut self, rows: RoaringBitmap) {
        self.universe = Arc::new(rows);
    }

    /// The contacts with one value of a values index, which have no other value of it: for benches.
    pub fn set_value(&mut self, id: AttributeId, value: &str, rows: RoaringBitmap) {
        let present = Arc::make_mut(self.present.entry(id).or_default());
        *present |= &rows;
        self.values.entry(id).or_default().insert(value.to_owned(), Arc::new(rows));
    }

    /// All values of a bit-sliced attribute, as digits, rows ascending: for benches.
    pub fn set_digits(&mut self, id: AttributeId, values: impl Iterator<Item = (u32, u64)>) {
        let mut present = Vec::new();
        let mut digits: Vec<Vec<u32>> = vec![Vec::new(); 64];
        for (row, value) in values {
            present.push(row);
            for (digit, rows) in digits.iter_mut().enumerate() {
                if value >> digit & 1 == 1 {
                    rows.push(row);
                }
            }
        }
        self.present.insert(id, Arc::new(present.into_iter().collect()));
        for (digit, rows) in (0u8..).zip(digits) {
            self.digits.insert((id, digit), Arc::new(rows.into_iter().collect()));
        }
    }
}

impl AttributeSets for MemoryWorld {
    fn universe(&self) -> Result<Shared, ContactsError> {
        Ok(Arc::clone(&self.universe))
    }

    fn present(&self, attribute: AttributeId) -> Result<Shared, ContactsError> {
        Ok(self.present.get(&attribute).cloned().unwrap_or_default())
    }

    fn value(&self, attribute: AttributeId, value: &str) -> Result<Shared, ContactsError> {
        Ok(self.values.get(&attribute).and_then(|values| values.get(value)).cloned().unwrap_or_default())
    }

    fn union_where(
        &self,
        attribute: AttributeId,
        prefix: &str,
        wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, ContactsError> {
        let Some(values) = self.values.get(&attribute) else {
            return Ok(RoaringBitmap::new());
        };
        let from = values.range(prefix.to_owned()..).take_while(|(value, _)| value.starts_with(prefix));
        Ok(from.filter(|(value, _)| wanted(value)).map(|(_, rows)| &**rows).union())
    }

    fn digit(&self, attribute: AttributeId, digit: u8) -> Result<Shared, ContactsError> {
        Ok(self.digits.get(&(attribute, digit)).cloned().unwrap_or_default())
    }

    fn scan(&self, rows: &RoaringBitmap, visit: &mut dyn FnMut(u32, Record<'_>)) -> Result<(), ContactsError> {
        for row in rows {
            if let Some(bytes) = self.records.get(&row) {
                visit(row, Record::parse(bytes).map_err(|_| ContactsError::DamagedRecord { row })?);
            }
        }
        Ok(())
    }
}

impl World for MemoryWorld {
    fn sets(&self) -> &dyn AttributeSets {
        self
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn zone(&self) -> &TimeZone {
        &self.zone
    }

    fn scope(&self) -> Scope {
        self.scope
    }

    fn list(&self, name: &str) -> Result<Option<Shared>, ContactsError> {
        Ok(self.lists.get(name).cloned())
    }

    fn segment(&self, name: &str) -> Option<Arc<Expression>> {
        self.segments.get(name).cloned()
    }

    fn subscribed(&self, channel: Channel, topic: &str) -> Shared {
        self.subscribed.get(&(channel, topic.to_owned())).cloned().unwrap_or_default()
    }

    fn unsubscribed(&self, channel: Channel, topic: &str) -> Shared {
        self.unsubscribed.get(&(channel, topic.to_owned())).cloned().unwrap_or_default()
    }

    fn suppressed(&self, channel: Option<Channel>) -> Shared {
        match channel.and_then(|channel| self.suppressed_on.get(&channel)) {
            Some(on_channel) => Arc::new(&*self.suppressed | &**on_channel),
            None => Arc::clone(&self.suppressed),
        }
    }

    fn history(&self, event: Event, campaign: &str) -> Result<Shared, Untold> {
        let known = self.history.get(campaign);
        let nearest = || Hint::nearest(campaign, self.history.keys().map(String::as_str));
        let known = known.ok_or_else(|| Untold::NoCampaign(nearest()))?;
        Ok(known.get(&event).cloned().unwrap_or_default())
    }

    fn recent(&self, event: Event, channel: Option<Channel>, days: u32) -> Shared {
        let asked = |(kind, on, day): &(Event, Channel, u32)| {
            *kind == event && channel.is_none_or(|wanted| wanted == *on) && *day < days
        };
        Arc::new(self.days.iter().filter(|(key, _)| asked(key)).map(|(_, rows)| &**rows).union())
    }

    fn messages(&self, did: Engagement, least: u32, days: u32) -> Shared {
        let asked = |clicked: bool| match did {
            Engagement::Opened => !clicked,
            Engagement::Clicked => clicked,
            Engagement::Engaged => true,
        };
        let found = self.messages.iter().filter(|(clicked, day, _)| asked(*clicked) && *day < days);
        self.often(found.map(|(_, _, rows)| rows), least)
    }

    fn did(&self, name: &str, least: u32, days: Option<u32>) -> Shared {
        let asked = |(of, day, _): &&(String, u32, Shared)| of == name && days.is_none_or(|days| *day < days);
        self.often(self.events.iter().filter(asked).map(|(_, _, rows)| rows), least)
    }

    fn did_with(&self, name: &str, property: &str, value: &str) -> Shared {
        let key = (name.to_owned(), property.to_owned(), value.to_owned());
        self.properties.get(&key).cloned().unwrap_or_default()
    }
}
