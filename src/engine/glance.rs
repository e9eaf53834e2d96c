//! The world of a few expressions, as it was at one moment, without holding the book while they are evaluated.
//!
//! A scan over millions of records takes seconds, and nobody can claim while the book is being read. So everything of the
//! state that the expressions and the segments inside them name is copied out at once, and the lock is given back.
//!
//! This is the only [`World`] of the contact base, and of an upload's rows: what an expression means is the same for a preview, an audience and a
//! start. Suppressed with a channel: everywhere or on it; without one: everywhere.

mod past;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use roaring::RoaringBitmap;

use crate::actors::book::Book;
use crate::clock::Timestamp;
use crate::config::caps::Caps;
use crate::contacts::{AttributeSets, ContactsError, Reader, Schema, Store};
use crate::engine::figures;
use crate::engine::uploads::TwinsByChannel;
use crate::ids::{AddressHash, Channel, RowSpace, RunId};
use crate::ledger::State;
use crate::ledger::caps::Reached;
use crate::ledger::suppression::SuppressReason;
use crate::limits::SEGMENT_DEPTH_MAX;
use crate::segments::error::Untold;
use crate::segments::expression::{Expression, Kind};
use crate::segments::history::{Engagement, Event};
use crate::segments::skip::SkipReason;
use crate::segments::{EvaluateError, Evaluation, Scope, Span, World, evaluate, evaluate_within, parse};

type Topic = (Channel, String);

/// What is to be looked at.
#[derive(Default)]
pub struct Wanted<'e> {
    pub expressions: Vec<&'e Expression>,
    /// A segment that is not saved yet, or not with this text; it hides a saved one of its name.
    pub draft: Option<(&'e str, &'e Expression)>,
    /// Lists beside those that the expressions name.
    pub lists: Vec<&'e str>,
    /// Topics beside those that the expressions name.
    pub topics: Vec<(Channel, &'e str)>,
    /// Channels whose suppressed contacts are wanted beside those that the expressions name.
    pub suppressed: Vec<Channel>,
    /// The name of the campaign that asks; it may not be saved yet.
    pub own: Option<&'e str>,
    /// Caps by which contacts may have had enough.
    pub caps: Option<CapsWanted<'e>>,
}

/// Who is asked for that had enough messages.
pub struct CapsWanted<'e> {
    pub caps: &'e Caps,
    pub channels: Vec<Channel>,
    /// The run that asks, if it has begun.
    pub run: Option<RunId>,
}

/// Contacts that are suppressed for one reason.
#[derive(Clone, Debug)]
pub struct Cause {
    /// In the words of the suppression; `address` for entries by address, but for bounces, which are all by address.
    pub name: &'static str,
    pub skip: SkipReason,
    pub rows: RoaringBitmap,
}

/// What the expressions can ask, copied from the state.
pub struct Glance {
    pub reader: Reader,
    pub now: Timestamp,
    schema: Arc<Schema>,
    zone: TimeZone,
    lists: BTreeMap<String, Arc<RoaringBitmap>>,
    segments: BTreeMap<String, Arc<Expression>>,
    subscribed: BTreeMap<Topic, Arc<RoaringBitmap>>,
    unsubscribed: BTreeMap<Topic, Arc<RoaringBitmap>>,
    suppressed: BTreeMap<Option<Channel>, Vec<Cause>>,
    past: past::Past,
    reached: BTreeMap<Channel, Reached>,
    /// Over the rows of an upload: the contacts with their addresses.
    twins: Option<TwinsByChannel>,
}

/// What the state says of suppression; its addresses become rows by the store, after the lock.
struct Suppressed {
    rows: BTreeMap<SuppressReason, RoaringBitmap>,
    addresses: BTreeMap<&'static str, Vec<AddressHash>>,
}

type Later = BTreeMap<Option<Channel>, Suppressed>;

impl Glance {
    pub fn new(store: &Store, book: &Book, wanted: &Wanted<'_>) -> Result<Glance, ContactsError> {
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
            past: past::Past::new(wanted.own),
            reached: BTreeMap::new(),
            twins: None,
        };
        if let Some((name, draft)) = wanted.draft {
            glance.segments.insert(name.to_owned(), Arc::new(draft.clone()));
        }
        let mut later = Later::new();
        {
            let state = book.read();
            for expression in wanted.expressions.iter().copied().chain(wanted.draft.map(|(_, draft)| draft)) {
                glance.collect(&state, expression, 0, &mut later);
            }
            wanted.lists.iter().for_each(|name| glance.copy_list(&state, name));
            wanted.topics.iter().for_each(|(channel, topic)| glance.copy_consent(&state, *channel, topic));
            if let Some(asked) = &wanted.caps {
                let look = |channel| Reached::look(&state, asked.caps, channel, asked.run, glance.now, None);
                glance.reached = asked.channels.iter().map(|channel| (*channel, look(*channel))).collect();
            }
            for channel in &wanted.suppressed {
                later.entry(Some(*channel)).or_insert_with(|| suppressed(&state, Some(*channel)));
            }
        }
        for (scope, found) in later {
            let causes = glance.causes(found)?;
            glance.suppressed.insert(scope, causes);
        }
        Ok(glance)
    }

    fn causes(&self, found: Suppressed) -> Result<Vec<Cause>, ContactsError> {
        let by_row = found.rows.into_iter();
        let mut causes: Vec<Cause> =
            by_row.map(|(reason, rows)| Cause { name: reason.name(), skip: SkipReason::Suppressed, rows }).collect();
        for (name, addresses) in found.addresses {
            let rows = self.reader.rows_of_addresses(&addresses)?;
            causes.push(Cause { name, skip: SkipReason::SuppressedAddress, rows });
        }
        Ok(causes)
    }

    /// Copies what the expression names. Segments deeper than an expression may be are left out: evaluation refuses them.
    fn collect(&mut self, state: &State, expression: &Expression, depth: usize, later: &mut Later) {
        let mut inner: Vec<Arc<Expression>> = Vec::new();
        expression.walk(&mut |part| match &part.kind {
            Kind::InList(name) => self.copy_list(state, name),
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
            Kind::Suppressed(scope) => {
                later.entry(*scope).or_insert_with(|| suppressed(state, *scope));
            }
            Kind::History { .. }
            | Kind::Recent { .. }
            | Kind::Messages { .. }
            | Kind::Did { .. }
            | Kind::DidWith { .. } => self.past.collect(state, &part.kind, self.now),
            _ => {}
        });
        if depth < SEGMENT_DEPTH_MAX {
            for segment in inner {
                self.collect(state, &segment, depth + 1, later);
            }
        }
    }

    fn copy_list(&mut self, state: &State, name: &str) {
        if let Some(list) = state.lists.get(name).filter(|_| !self.lists.contains_key(name)) {
            self.lists.insert(name.to_owned(), Arc::new(list.rows.clone()));
        }
    }

    fn copy_consent(&mut self, state: &State, channel: Channel, topic: &str) {
        let key = (channel, topic.to_owned());
        if let Some(sets) = state.consent.topic(channel, topic).filter(|_| !self.subscribed.contains_key(&key)) {
            self.subscribed.insert(key.clone(), Arc::new(sets.subscribed.clone()));
            self.unsubscribed.insert(key, Arc::new(sets.unsubscribed.clone()));
        }
    }

    /// Over the rows of an upload: what the state says of contacts holds for the rows with their addresses.
    pub(super) fn map_contacts(&mut self, twins: TwinsByChannel) {
        let rows_of = |channel: Option<Channel>, contacts: &RoaringBitmap| {
            let meant = twins.iter().filter(|(of, _)| channel.is_none_or(|channel| channel == **of));
            meant.fold(RoaringBitmap::new(), |all, (_, twins)| all | twins.of(contacts))
        };
        for sets in [&mut self.subscribed, &mut self.unsubscribed] {
            for ((channel, _), rows) in sets.iter_mut() {
                *rows = Arc::new(rows_of(Some(*channel), rows));
            }
        }
        for rows in self.lists.values_mut() {
            *rows = Arc::new(rows_of(None, rows));
        }
        for (scope, causes) in &mut self.suppressed {
            // Entries by address were looked up among these very rows.
            for cause in causes.iter_mut().filter(|cause| cause.skip == SkipReason::Suppressed) {
                cause.rows = rows_of(*scope, &cause.rows);
            }
        }
        self.twins = Some(twins);
    }

    /// Who is suppressed for a channel, by cause; a contact may have several. Empty for a channel that was not wanted.
    pub fn suppressed_by_cause(&self, channel: Channel) -> &[Cause] {
        self.suppressed.get(&Some(channel)).map_or(&[], Vec::as_slice)
    }

    /// Who of some rows had enough messages on a channel; nobody, if that was not wanted.
    pub fn reached(&self, channel: Channel, among: &RoaringBitmap) -> Vec<(SkipReason, RoaringBitmap)> {
        let Some(reached) = self.reached.get(&channel) else { return Vec::new() };
        let Some(twins) = &self.twins else { return reached.of(among) };
        // What was sent to a contact with the address counts; other rows of uploads leave no trace to be counted.
        let Some(twins) = twins.get(&channel) else { return Vec::new() };
        let contacts = reached.of(&twins.contacts()).into_iter();
        contacts.map(|(reason, contacts)| (reason, twins.of(&contacts) & among)).collect()
    }

    pub fn evaluate(&self, expression: &Expression) -> Result<Evaluation, EvaluateError> {
        figures::evaluating(|| evaluate(expression, self))
    }

    /// Checks names, types, depth and cycles of an expression; reads no contact.
    pub fn check(&self, expression: &Expression) -> Result<(), EvaluateError> {
        evaluate_within(expression, self, &RoaringBitmap::new()).map(drop)
    }

    /// [`Glance::check`] for the segment `name` as it would be saved.
    pub fn check_draft(&self, name: &str) -> Result<(), EvaluateError> {
        self.check(&Expression { kind: Kind::InSegment(name.to_owned()), span: Span::default() })
    }
}

fn suppressed(state: &State, scope: Option<Channel>) -> Suppressed {
    let mut rows: BTreeMap<SuppressReason, RoaringBitmap> = BTreeMap::new();
    for (reason, set) in state.suppression.rows_for(scope) {
        *rows.entry(reason).or_default() |= set;
    }
    let mut addresses = BTreeMap::from([(BY_ADDRESS, Vec::new())]);
    for (address, entry) in state.suppression.addresses_for(scope) {
        let name = match entry.reason {
            SuppressReason::HardBounce | SuppressReason::SoftBounces => entry.reason.name(),
            _ => BY_ADDRESS,
        };
        addresses.entry(name).or_default().push(address);
    }
    Suppressed { rows, addresses }
}

const BY_ADDRESS: &str = "address";

impl World for Glance {
    fn scope(&self) -> Scope {
        if self.reader.store().space() == RowSpace::BASE { Scope::Base } else { Scope::OneShot }
    }

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
        let causes = self.suppressed.get(&channel).map_or(&[][..], Vec::as_slice);
        Arc::new(causes.iter().fold(RoaringBitmap::new(), |all, cause| all | &cause.rows))
    }

    fn history(&self, event: Event, campaign: &str) -> Result<Arc<RoaringBitmap>, Untold> {
        self.past.history(event, campaign)
    }

    fn recent(&self, event: Event, channel: Option<Channel>, days: u32) -> Arc<RoaringBitmap> {
        self.past.recent(event, channel, days)
    }

    fn messages(&self, did: Engagement, least: u32, days: u32) -> Arc<RoaringBitmap> {
        self.past.messages(did, least, days)
    }

    fn did(&self, name: &str, least: u32, days: Option<u32>) -> Arc<RoaringBitmap> {
        self.past.did(name, least, days)
    }

    fn did_with(&self, name: &str, property: &str, value: &str) -> Arc<RoaringBitmap> {
        self.past.did_with(name, property, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testbase::TestBase;
    use crate::ledger::Fact;

    /// Rows that match `text`, as a preview and as an audience evaluate it.
    fn rows(base: &TestBase, text: &str) -> Vec<u32> {
        let expression = parse(text).expect("it parses");
        let wanted = Wanted { expressions: vec![&expression], ..Wanted::default() };
        let glance = Glance::new(&base.store, &base.book, &wanted).expect("a glance");
        glance.evaluate(&expression).expect("it evaluates").rows.iter().collect()
    }

    #[test]
    fn suppressed_alone_means_everywhere_and_on_a_channel_that_too() {
        let root = tempfile::tempdir().expect("a folder");
        let base = TestBase::open(root.path());
        let [everywhere, on_email, on_sms, by_address, _nobody] =
            ["a", "b", "c", "d", "e"].map(|key| base.contact(key, &format!("{key}@x.test")));
        base.suppress(None, &[everywhere], Vec::new());
        base.suppress(Some(Channel::Email), &[on_email], Vec::new());
        base.suppress(Some(Channel::Sms), &[on_sms], Vec::new());
        let hash = base.hash(Channel::Email, "d@x.test");
        base.suppress(Some(Channel::Email), &[], vec![hash]);
        assert_eq!(rows(&base, "suppressed"), [everywhere.0], "without a channel: everywhere");
        assert_eq!(rows(&base, "suppressed on email"), [everywhere.0, on_email.0, by_address.0], "rows and addresses");
        assert_eq!(rows(&base, "suppressed on sms"), [everywhere.0, on_sms.0], "another channel");
        let saved = Fact::SegmentSaved { name: "out".into(), text: "suppressed".into(), at: Timestamp(0) };
        base.book.commit_durable(&saved).expect("a fact");
        assert_eq!(rows(&base, r#"in segment "out""#), [everywhere.0], "and inside a saved segment");
    }

    #[test]
    fn a_cause_is_named_once_though_two_scopes_have_it() {
        let root = tempfile::tempdir().expect("a folder");
        let base = TestBase::open(root.path());
        let [one, two] = ["a", "b"].map(|key| base.contact(key, &format!("{key}@x.test")));
        base.suppress(None, &[one], Vec::new());
        base.suppress(Some(Channel::Email), &[two], Vec::new());
        let wanted = Wanted { suppressed: vec![Channel::Email], ..Wanted::default() };
        let glance = Glance::new(&base.store, &base.book, &wanted).expect("a glance");
        let causes = glance.suppressed_by_cause(Channel::Email);
        let told: Vec<(&str, u64)> = causes.iter().map(|c| (c.name, c.rows.len())).collect();
        assert_eq!(told, [("manual", 2), ("address", 0)], "each cause once, with all its rows");
    }
}
