//! Who is in, who can be sent to, and why the others cannot: expressions over the store and the folded state.

use std::sync::Arc;

use jiff::tz::TimeZone;
use parking_lot::RwLockReadGuard;
use roaring::RoaringBitmap;

use crate::actors::book::Book;
use crate::campaigns::compile::{AudienceSource, Compiled, DeliveryPlan};
use crate::campaigns::spec;
use crate::clock::Timestamp;
use crate::contacts::{AttributeSets, ContactsError, Reader, Schema, Store};
use crate::engine::{EngineError, figures};
use crate::ids::{AddressHash, AttributeId, Channel, ContactRow};
use crate::ledger::State;
use crate::segments::audience::{
    self, AudienceInput, AudienceSummary, Eligibility, LackingSet, SameAddress, SuppressedSet,
};
use crate::segments::skip::SkipReason;
use crate::segments::{Evaluation, Expression, World, evaluate, parse};

/// A moment's view of the base: one read transaction and one look at the state.
pub struct View<'b> {
    pub reader: Reader,
    pub schema: Arc<Schema>,
    pub state: RwLockReadGuard<'b, State>,
    pub now: Timestamp,
    zone: TimeZone,
}

impl<'b> View<'b> {
    pub fn new(store: &Store, book: &'b Book) -> Result<View<'b>, EngineError> {
        // The store first: what a fact says of a row is never older than the row.
        let reader = store.reader()?;
        let schema = reader.schema();
        Ok(View { reader, schema, state: book.read(), now: book.now(), zone: TimeZone::UTC })
    }

    pub fn evaluate(&self, text: &str) -> Result<Evaluation, EngineError> {
        let expression = self.parse(text)?;
        figures::evaluating(|| evaluate(&expression, self))
            .map_err(|source| EngineError::Evaluate { text: text.to_owned(), source })
    }

    pub fn parse(&self, text: &str) -> Result<Expression, EngineError> {
        parse(text).map_err(|source| EngineError::Segment { text: text.to_owned(), source })
    }

    /// Rows that match a campaign's audience.
    pub fn matched(&self, compiled: &Compiled) -> Result<RoaringBitmap, EngineError> {
        let mut rows = match &compiled.audience.source {
            AudienceSource::Segment(text) => (*self.evaluate(text)?.rows).clone(),
            AudienceSource::List(name) => {
                let list = self.state.lists.get(name).ok_or_else(|| EngineError::NoList { name: name.clone() })?;
                &list.rows & &*self.reader.universe()?
            }
            AudienceSource::All => (*self.reader.universe()?).clone(),
        };
        if let Some(exclude) = &compiled.audience.exclude {
            rows -= &*self.evaluate(exclude)?.rows;
        }
        Ok(rows)
    }

    fn suppressed_rows(&self, channel: Channel) -> Result<Vec<(&'static str, SkipReason, RoaringBitmap)>, EngineError> {
        let suppression = &self.state.suppression;
        let by_row =
            suppression.rows_for(channel).map(|(reason, rows)| (reason.name(), SkipReason::Suppressed, rows.clone()));
        let mut sets: Vec<_> = by_row.collect();
        let mut by_address = RoaringBitmap::new();
        for (address, _) in suppression.addresses_for(channel) {
            by_address.extend(self.reader.rows_of_address(address)?.iter().map(|row| row.0));
        }
        sets.push(("address", SkipReason::SuppressedAddress, by_address));
        Ok(sets)
    }

    /// The audience summary and the partition of the matched rows for one delivery.
    pub fn assess(
        &self,
        plan: &DeliveryPlan,
        matched: &RoaringBitmap,
        used: &[AttributeId],
        skips_missing: bool,
    ) -> Result<(AudienceSummary, Eligibility), EngineError> {
        let channel = plan.channel;
        let universe = self.reader.universe()?;
        let active = self.reader.value(AttributeId::ACTIVE, "false").map(|inactive| &*universe - &*inactive)?;
        let reachable = self.reader.reachable(channel)?;
        let consent = self.state.consent.topic(channel, &plan.topic);
        let none = RoaringBitmap::new();
        let (subscribed, unsubscribed) = match consent {
            Some(sets) => (&sets.subscribed, &sets.unsubscribed),
            None => (&none, &none),
        };
        let mut elsewhere = RoaringBitmap::new();
        for other in Channel::ALL.into_iter().filter(|c| *c != channel && *c != Channel::Webhook) {
            elsewhere |= &*self.reader.reachable(other)?;
        }
        let suppressed = self.suppressed_rows(channel)?;
        let suppressed: Vec<SuppressedSet<'_>> =
            suppressed.iter().map(|(cause, reason, rows)| SuppressedSet { cause, reason: *reason, rows }).collect();
        let mut lacking_rows: Vec<(String, RoaringBitmap)> = Vec::new();
        for id in used {
            let name = self.schema.by_id(*id).map_or_else(|| id.to_string(), |a| a.name.clone());
            lacking_rows.push((name, matched - &*self.reader.present(*id)?));
        }
        let lacking: Vec<LackingSet<'_>> =
            lacking_rows.iter().map(|(attribute, rows)| LackingSet { attribute, rows, skip: skips_missing }).collect();
        let input = AudienceInput {
            matched,
            existing: Some(&universe),
            active: &active,
            reachable: &reachable,
            reachable_elsewhere: Some(&elsewhere),
            subscribed: (!plan.topic.is_empty()).then_some(subscribed),
            unsubscribed,
            suppressed: &suppressed,
            lacking: &lacking,
        };
        let candidates = audience::candidates(&input);
        let duplicates = self.duplicates(channel, &candidates, plan.same_address)?;
        Ok(audience::assess(&input, &duplicates))
    }

    fn duplicates(
        &self,
        channel: Channel,
        rows: &RoaringBitmap,
        rule: spec::SameAddress,
    ) -> Result<RoaringBitmap, EngineError> {
        let order = match rule {
            spec::SameAddress::Newest => SameAddress::Newest,
            spec::SameAddress::Oldest => SameAddress::Oldest,
            spec::SameAddress::Allow => SameAddress::Allow,
        };
        let shared = self.reader.shared(channel)?;
        let key_of = |row: u32| -> Result<Option<AddressHash>, ContactsError> {
            let record = self.reader.record(ContactRow(row))?;
            let address = record.and_then(|r| r.address(channel));
            Ok(address.map(|a| self.reader.store().address_hash(channel, a)))
        };
        let created_of = |row: u32| -> Result<Timestamp, ContactsError> {
            let record = self.reader.record(ContactRow(row))?;
            let created = record.and_then(|r| match r.get(AttributeId::CREATED) {
                Some(crate::contacts::Value::Time(time)) => Some(time),
                _ => None,
            });
            Ok(created.unwrap_or_default())
        };
        Ok(audience::duplicates(rows, &shared, key_of, order, created_of)?)
    }
}

impl World for View<'_> {
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
        Ok(self.state.lists.get(name).map(|list| Arc::new(list.rows.clone())))
    }

    fn segment(&self, name: &str) -> Option<Arc<Expression>> {
        // A saved segment parsed when it was saved; one that no longer does matches as if it were gone.
        self.state.segments.get(name).and_then(|saved| parse(&saved.text).ok()).map(Arc::new)
    }

    fn subscribed(&self, channel: Channel, topic: &str) -> Arc<RoaringBitmap> {
        Arc::new(self.state.consent.topic(channel, topic).map(|sets| sets.subscribed.clone()).unwrap_or_default())
    }

    fn unsubscribed(&self, channel: Channel, topic: &str) -> Arc<RoaringBitmap> {
        Arc::new(self.state.consent.topic(channel, topic).map(|sets| sets.unsubscribed.clone()).unwrap_or_default())
    }

    fn suppressed(&self, channel: Option<Channel>) -> Arc<RoaringBitmap> {
        let channels = channel.map_or(Channel::ALL.to_vec(), |c| vec![c]);
        let mut rows = RoaringBitmap::new();
        for channel in channels {
            match self.suppressed_rows(channel) {
                Ok(sets) => sets.iter().for_each(|(_, _, set)| rows |= set),
                Err(error) => tracing::error!(%error, "suppressed contacts could not be read"),
            }
        }
        Arc::new(rows)
    }
}
