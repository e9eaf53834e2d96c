//! The world of one expression, as it was at one moment, without holding the book while the expression is evaluated.
//!
//! A scan over millions of records takes seconds, and nobody can claim while the book is being read. So everything of the
//! state that the expression and the segments inside it name is copied out at once, and the lock is given back.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use roaring::RoaringBitmap;

use crate::actors::book::Book;
use crate::clock::Timestamp;
use crate::contacts::{AttributeSets, ContactsError, Reader, Schema, Store};
use crate::engine::figures;
use crate::ids::{AddressHash, Channel};
use crate::ledger::State;
use crate::limits::SEGMENT_DEPTH_MAX;
use crate::segments::expression::{Expression, Kind};
use crate::segments::{EvaluateError, Evaluation, Span, World, evaluate, evaluate_within, parse};

type Topic = (Channel, String);

/// What one expression can ask, copied from the state.
pub struct Glance {
    pub reader: Reader,
    schema: Arc<Schema>,
    now: Timestamp,
    zone: TimeZone,
    lists: BTreeMap<String, Arc<RoaringBitmap>>,
    segments: BTreeMap<String, Arc<Expression>>,
    subscribed: BTreeMap<Topic, Arc<RoaringBitmap>>,
    unsubscribed: BTreeMap<Topic, Arc<RoaringBitmap>>,
    suppressed: BTreeMap<Option<Channel>, Arc<RoaringBitmap>>,
}

/// Parts of the state that need the store as well.
#[derive(Default)]
struct Later {
    suppressed: BTreeMap<Option<Channel>, (RoaringBitmap, Vec<AddressHash>)>,
}

impl Glance {
    /// `draft` is a segment that is not saved yet, or not with this text; it hides a saved one of its name.
    pub fn new(
        store: &Store,
        book: &Book,
        expression: &Expression,
        draft: Option<(&str, &Expression)>,
    ) -> Result<Glance, ContactsError> {
        // The store first: what a fact says of a row is never older than the row.
        let reader = store.reader()?;
        let mut glance = Glance {
            schema: reader.schema(),
            reader,
            now: book.now(),
            zone: TimeZone::UTC,
            lists: BTreeMap::new(),
            segments: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            unsubscribed: BTreeMap::new(),
            suppressed: BTreeMap::new(),
        };
        if let Some((name, draft)) = draft {
            glance.segments.insert(name.to_owned(), Arc::new(draft.clone()));
        }
        let mut later = Later::default();
        {
            let state = book.read();
            let drafts: Vec<Arc<Expression>> = glance.segments.values().cloned().collect();
            glance.collect(&state, expression, 0, &mut later);
            for draft in drafts {
                glance.collect(&state, &draft, 0, &mut later);
            }
        }
        for (channel, (mut rows, addresses)) in later.suppressed {
            for address in addresses {
                rows.extend(glance.reader.rows_of_address(address)?.iter().map(|row| row.0));
            }
            glance.suppressed.insert(channel, Arc::new(rows));
        }
        Ok(glance)
    }

    /// Copies what the expression names. Segments deeper than an expression may be are left out: evaluation refuses them.
    fn collect(&mut self, state: &State, expression: &Expression, depth: usize, later: &mut Later) {
        let mut inner: Vec<Arc<Expression>> = Vec::new();
        expression.walk(&mut |part| match &part.kind {
            Kind::InList(name) => {
                if let Some(list) = state.lists.get(name).filter(|_| !self.lists.contains_key(name)) {
                    self.lists.insert(name.clone(), Arc::new(list.rows.clone()));
                }
            }
            Kind::InSegment(name) if !self.segments.contains_key(name) => {
                let saved = state.segments.get(name).and_then(|saved| parse(&saved.text).ok()).map(Arc::new);
                if let Some(saved) = saved {
                    self.segments.insert(name.clone(), Arc::clone(&saved));
                    inner.push(saved);
                }
            }
            Kind::Subscribed { channel, topic } | Kind::Unsubscribed { channel, topic } => {
                self.copy_consent(state, *channel, topic);
            }
            Kind::Suppressed(channel) => {
                later.suppressed.entry(*channel).or_insert_with(|| suppressed(state, *channel));
            }
            _ => {}
        });
        if depth < SEGMENT_DEPTH_MAX {
            for segment in inner {
                self.collect(state, &segment, depth + 1, later);
            }
        }
    }

    fn copy_consent(&mut self, state: &State, channel: Channel, topic: &str) {
        let key = (channel, topic.to_owned());
        if let Some(sets) = state.consent.topic(channel, topic).filter(|_| !self.subscribed.contains_key(&key)) {
            self.subscribed.insert(key.clone(), Arc::new(sets.subscribed.clone()));
            self.unsubscribed.insert(key, Arc::new(sets.unsubscribed.clone()));
        }
    }

    pub fn evaluate(&self, expression: &Expression) -> Result<Evaluation, EvaluateError> {
        figures::evaluating(|| evaluate(expression, self))
    }

    /// Checks names, types, depth and cycles of the segment `name` as it would be saved; reads no contact.
    pub fn check_draft(&self, name: &str) -> Result<(), EvaluateError> {
        let itself = Expression { kind: Kind::InSegment(name.to_owned()), span: Span::default() };
        evaluate_within(&itself, self, &RoaringBitmap::new()).map(drop)
    }
}

fn suppressed(state: &State, channel: Option<Channel>) -> (RoaringBitmap, Vec<AddressHash>) {
    let mut rows = RoaringBitmap::new();
    let applies = |scope: Option<Channel>| scope.is_none() || scope == channel;
    for (_, _, set) in state.suppression.row_entries().filter(|(scope, _, _)| applies(*scope)) {
        rows |= set;
    }
    let addresses = state.suppression.address_entries().filter(|(scope, _, _)| applies(*scope));
    (rows, addresses.map(|(_, address, _)| address).collect())
}

impl World for Glance {
    fn sets(&self) -> &dyn AttributeSets {
        &self.reader
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

    fn list(&self, name: &str) -> Result<Option<Arc<RoaringBitmap>>, ContactsError> {
        Ok(self.lists.get(name).cloned())
    }

    fn segment(&self, name: &str) -> Option<Arc<Expression>> {
        self.segments.get(name).cloned()
    }

    fn subscribed(&self, channel: Channel, topic: &str) -> Arc<RoaringBitmap> {
        self.subscribed.get(&(channel, topic.to_owned())).cloned().unwrap_or_default()
    }

    fn unsubscribed(&self, channel: Channel, topic: &str) -> Arc<RoaringBitmap> {
        self.unsubscribed.get(&(channel, topic.to_owned())).cloned().unwrap_or_default()
    }

    fn suppressed(&self, channel: Option<Channel>) -> Arc<RoaringBitmap> {
        self.suppressed.get(&channel).cloned().unwrap_or_default()
    }
}
