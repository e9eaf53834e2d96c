//! What comes back over the public listener: tokens resolved, opens and clicks recorded, opt-outs made durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use roaring::RoaringBitmap;
use tokio::sync::oneshot;

use crate::actors::figures;
use crate::actors::tracker::TrackedEvent;
use crate::contacts::one_shot::hashes::hash_of;
use crate::content::{CompiledMessage, Recipient, Renderer, TokenId, preview};
use crate::engine::base::Consented;
use crate::engine::{Engine, EngineError};
use crate::ids::{AddressHash, Channel, ContactRow, MessageId, RowSpace, RunId};
use crate::journal::Want;
use crate::ledger::consent::ConsentStatus;
use crate::ledger::facts::{ConsentChanged, Suppressed, Unsubscribed};
use crate::ledger::suppression::SuppressReason;
use crate::ledger::{Fact, RowSet};
use crate::limits::TRACKED_MESSAGES_MAX;

/// Compiled messages whose links are being followed, and how fast opt-outs are.
#[derive(Default)]
pub struct TrackingState {
    messages: DashMap<(RunId, MessageId), Arc<CompiledMessage>>,
    unsubscribe_micros_max: AtomicU64,
}

impl Engine {
    /// The message that a token's link belongs to, with its table of destinations.
    pub fn tracked_message(&self, run: RunId, message: MessageId) -> Option<Arc<CompiledMessage>> {
        if let Some(known) = self.tracking.messages.get(&(run, message)) {
            return Some(Arc::clone(&known));
        }
        let in_force = || self.book.read().runs.get(&run).map(|r| (r.campaign, r.version));
        let (campaign, version) = in_force()?;
        let (_, compiled) = self.compiled(campaign, Some(version)).ok()?;
        let made = self.message(&compiled, message).ok()?;
        if self.tracking.messages.len() >= TRACKED_MESSAGES_MAX {
            self.tracking.messages.clear();
        }
        self.tracking.messages.insert((run, message), Arc::clone(&made));
        // Another version came into force meanwhile: who published it has forgotten what was known before this was.
        if in_force() != Some((campaign, version)) {
            self.tracking.messages.remove(&(run, message));
        }
        Some(made)
    }

    /// What is known of the messages of a run is of another version than the one in force now.
    pub(super) fn forget_tracked(&self, run: RunId) {
        self.tracking.messages.retain(|(of, _), _| *of != run);
    }

    /// Queues an open or click; `None` if the tracker can't take it now.
    pub fn record(&self, mut event: TrackedEvent) -> Option<oneshot::Receiver<()>> {
        let (done, wait) = oneshot::channel();
        event.done = Some(done);
        let sent = self.tracker.put(event).inspect_err(|_| figures::refused("tracker"));
        sent.ok().map(|()| wait)
    }

    /// Makes an opt-out durable; completes then. In force for every row not yet released from the moment of the call.
    pub fn unsubscribe(
        &self,
        token: TokenId,
        everything: bool,
        source: &str,
    ) -> Result<oneshot::Receiver<Duration>, EngineError> {
        let began = Instant::now();
        let (channel, topic) = {
            let state = self.book.read();
            let run = state.runs.get(&token.run).ok_or(EngineError::NoRun { run: token.run })?;
            let route =
                run.route_of(token.message).or(run.routes.first()).ok_or(EngineError::NoRun { run: token.run })?;
            (route.channel, route.topic.clone())
        };
        let addresses = self.addresses_outside(token.space, channel, token.row)?;
        let topics: Vec<String> = if everything && addresses.is_empty() {
            let state = self.book.read();
            let all = state.consent.topics().filter(|(c, name, _)| *c == channel && *name != topic);
            all.map(|(_, name, _)| name.to_owned()).collect()
        } else {
            Vec::new()
        };
        let fact = |topic: String| {
            let rows = RowSet { space: token.space, rows: RoaringBitmap::from_iter([token.row.0]) };
            let (source, at) = (source.to_owned(), self.book.now());
            let (run, message, addresses) = (token.run, token.message, addresses.clone());
            Unsubscribed { run, message, rows, channel, topic, source, at, addresses }
        };
        let twins = self.twins_of(token, channel);
        if everything && let Some(fact) = self.opt_out_of_address(token, channel, &addresses)? {
            self.book.commit(&fact, Want::idle())?;
        }
        // Of their own kind: the figures of the run count the contact whose link was used, and nobody else.
        let of_twins = |topic: &str| {
            let (rows, status, topic) = (RowSet::base(twins.clone()), ConsentStatus::Unsubscribed, topic.to_owned());
            ConsentChanged { channel, topic, status, rows, source: source.to_owned(), at: self.book.now() }
        };
        let notes = self.history.notes();
        let change = notes.begin();
        let mut said = Vec::with_capacity(2 * topics.len() + 2);
        let mut before = Vec::with_capacity(2 * topics.len() + 1);
        for topic in topics.iter().chain([&topic]).filter(|_| !twins.is_empty()) {
            let fact = of_twins(topic);
            before.push((Consented::of_change(&fact), Fact::ConsentChanged(fact)));
        }
        for other in topics {
            let fact = fact(other);
            before.push((Consented::of_opt_out(&fact), Fact::Unsubscribed(fact)));
        }
        for (consented, fact) in before {
            if let Err(error) = self.book.commit(&fact, Want::idle()) {
                notes.note(change, said);
                return Err(error.into());
            }
            said.push(consented);
        }
        let (fact, before, of_before) = (fact(topic), said.clone(), notes.clone());
        said.push(Consented::of_opt_out(&fact));
        let (done, wait) = oneshot::channel();
        let want = Want::durable(move |_| {
            done.send(began.elapsed()).ok();
            notes.note(change, said);
        });
        // Facts are durable in order: when this one is, so are those before it.
        if let Err(error) = self.book.commit(&Fact::Unsubscribed(fact), want) {
            of_before.note(change, before);
            return Err(error.into());
        }
        Ok(wait)
    }

    /// Who wants no message of this sender at all is not reached under another key, created now or later, either.
    fn opt_out_of_address(
        &self,
        token: TokenId,
        channel: Channel,
        outside: &[AddressHash],
    ) -> Result<Option<Fact>, EngineError> {
        if !outside.is_empty() {
            // The opt-out itself suppresses it.
            return Ok(None);
        }
        let reader = self.store.reader()?;
        let Some(hash) = reader.record(token.row)?.and_then(|record| hash_of(&self.store, channel, record)) else {
            return Ok(None);
        };
        let reason = SuppressReason::Unsubscribed;
        let (rows, addresses, at) = (RowSet::default(), vec![hash], self.book.now());
        Ok(Some(Fact::Suppressed(Suppressed { channel: Some(channel), reason, rows, addresses, at })))
    }

    /// Other contacts of the base with the address that the link's contact has: an opt-out holds for whoever reads the mailbox.
    /// If they can't be read, the contact's own opt-out must not fail for it.
    fn twins_of(&self, token: TokenId, channel: Channel) -> RoaringBitmap {
        if token.space != RowSpace::BASE {
            return RoaringBitmap::new();
        }
        let rows = RoaringBitmap::from_iter([token.row.0]);
        let twins = self.store.reader().and_then(|reader| reader.twins(channel, &rows)).unwrap_or_else(|error| {
            tracing::error!(%error, "who else has the address of an opt-out can't be read: only the contact is opted out");
            Vec::new()
        });
        twins.into_iter().map(|(_, twin)| twin).collect()
    }

    pub fn note_unsubscribe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.tracking.unsubscribe_micros_max.fetch_max(micros, Ordering::Relaxed);
    }

    /// The longest time from an opt-out's request to its effect, in this process.
    pub fn unsubscribe_latency_max(&self) -> Option<Duration> {
        let micros = self.tracking.unsubscribe_micros_max.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// The mail as its contact got it, as HTML.
    pub fn web_view(&self, token: TokenId) -> Result<String, EngineError> {
        let message =
            self.tracked_message(token.run, token.message).ok_or(EngineError::NoMessage { message: token.message })?;
        let reader = self.store_of(token.space)?.reader()?;
        let record = reader.record(ContactRow(token.row.0))?.ok_or(EngineError::NoRun { run: token.run })?;
        let who = Recipient {
            space: token.space,
            run: token.run,
            message: token.message,
            row: token.row,
            sent_at: self.book.now(),
        };
        let mut renderer = Renderer::new(message, self.tokens.clone());
        let shown =
            preview(&mut renderer, &record, &who).map_err(|skip| EngineError::Render { sample: skip.sample })?;
        Ok(shown.html.unwrap_or_else(|| format!("<pre>{}</pre>", escape(&shown.text))))
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::actors::book::Book;
    use crate::campaigns::{self, Format};
    use crate::engine::base::ConsentWish;
    use crate::engine::testbase::{NOW, TestBase, TestEngine};
    use crate::ids::{BatchId, CampaignId, DeliveryId};
    use crate::ledger::facts::{Claimed, DeliveryEntered, RunStarted, Settled};
    use crate::ledger::tracking::{EventClass, TrackedKind};
    use crate::ledger::{Mode, Positions};
    use crate::limits::TRACK_GROUP_EVENTS;

    #[test]
    fn an_opt_out_holds_for_whoever_has_the_address_and_counts_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let test = TestEngine::open(folder.path());
        let (first, other) = (test.contact("c0"), test.contact("c1"));
        let input = serde_json::from_value(serde_json::json!({"key": "twin", "email": "c0@x.test"})).expect("an input");
        let (channel, topic, status) = (Channel::Email, "news".to_owned(), ConsentStatus::Subscribed);
        let news = ConsentWish { channel, topic, status };
        let twin = test.engine.put_contact(&input, &[news], "test").expect("a contact").row;
        let run = test.start(serde_json::json!({}));
        test.until_finished(run);
        let token = TokenId { space: RowSpace::BASE, run, message: MessageId(0), row: first };
        let done = test.engine.unsubscribe(token, false, "one-click").expect("taken");
        done.blocking_recv().expect("durable");
        let state = test.engine.book.read();
        let status = |row: ContactRow| state.consent.status(Channel::Email, "news", row.0);
        assert_eq!(status(first), ConsentStatus::Unsubscribed, "whose link it was");
        assert_eq!(status(twin), ConsentStatus::Unsubscribed, "who has the address");
        assert_eq!(status(other), ConsentStatus::Subscribed, "nobody else");
        assert_eq!(state.runs[&run].unsubscribed(), RoaringBitmap::from_iter([first.0]), "one contact opted out");
    }

    #[test]
    fn events_are_answered_and_counted_whether_or_not_they_make_a_whole_group() {
        let folder = tempfile::tempdir().expect("a folder");
        let test = TestEngine::open(folder.path());
        let rows = [test.contact("c0"), test.contact("c1")];
        let run = test.start(serde_json::json!({}));
        test.until_finished(run);
        let record = |at: usize| {
            let (message, kind, class) = (MessageId(0), TrackedKind::Opened, EventClass::Human);
            let event = TrackedEvent { run, message, row: rows[at % 2], kind, class, was: None, done: None };
            test.engine.record(event).expect("there is room")
        };
        let mut told = 0;
        for many in [1, TRACK_GROUP_EVENTS, 1, 3 * TRACK_GROUP_EVENTS + 7, TRACK_GROUP_EVENTS - 1] {
            let record = &record;
            let waits: Vec<_> = std::thread::scope(|scope| {
                let halves =
                    [0, 1].map(|of| scope.spawn(move || (of..many).step_by(2).map(record).collect::<Vec<_>>()));
                halves.into_iter().flat_map(|half| half.join().expect("recorded")).collect()
            });
            told += waits.len();
            waits.into_iter().for_each(|wait| wait.blocking_recv().expect("written"));
        }
        let state = test.engine.book.read();
        let totals: u64 = state.runs[&run].messages.values().map(|of| of.opened.total(EventClass::Human)).sum();
        assert_eq!(totals, told as u64, "each is counted once");
    }

    const RUN: RunId = RunId(1);

    /// A run of these rows, each of them claimed.
    fn hand_over(book: &Book, rows: u32) {
        let json = serde_json::json!({
            "name": "spring", "audience": {"all": true},
            "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "a@x.test",
                "subject": "S", "text": "T"},
        });
        let spec = campaigns::parse(&json.to_string(), Format::Json).expect("it parses");
        let graph = campaigns::compile(&spec).expect("it compiles").graph;
        let (campaign, all) = (CampaignId(1), (0..rows).collect::<RoaringBitmap>());
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: "news".into(),
            connector: "relay".into(),
            mode: Mode::Strict,
            audience: RowSet::base(all.clone()),
            skipped: Vec::new(),
            summary: None,
        };
        let started = RunStarted {
            run: RUN,
            campaign,
            version: 1,
            graph,
            deliveries: vec![entered],
            at: NOW,
            entrants: RowSet::default(),
        };
        let claimed = Claimed {
            batch: BatchId(1),
            delivery: DeliveryId { run: RUN, index: 0 },
            connector: "relay".into(),
            message: MessageId(0),
            rows: all,
            positions: Positions::from_sorted(0..rows),
            at: NOW,
            domain: None,
        };
        for fact in [
            Fact::CampaignSaved { campaign, spec: spec.to_json(), at: NOW },
            Fact::RunStarted(Box::new(started)),
            Fact::Claimed(claimed),
        ] {
            book.commit(&fact, Want::idle()).expect("it fits");
        }
    }

    #[test]
    fn who_is_handed_over_is_so_for_a_look_at_the_moment_of_the_answer_too() {
        const ROWS: u32 = 4_000;
        let folder = tempfile::tempdir().expect("a folder");
        let book = TestBase::open(folder.path()).book;
        hand_over(&book, ROWS);
        let (current, mut missed) = (AtomicU32::new(0), 0_u64);
        let mut looks = 0_u64;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for row in 0..ROWS {
                    current.store(row, Ordering::SeqCst);
                    let mut settled = Settled::new(BatchId(1), DeliveryId { run: RUN, index: 0 }, NOW);
                    let to = if row % 2 == 0 { &mut settled.accepted } else { &mut settled.unknown };
                    to.insert(row);
                    book.commit(&Fact::Settled(settled), Want::idle()).expect("it fits");
                }
                current.store(ROWS, Ordering::SeqCst);
            });
            loop {
                let row = current.load(Ordering::SeqCst);
                if row == ROWS {
                    break;
                }
                looks += 1;
                let look = book.look(RUN, RowSpace::BASE, row, NOW).expect("the run is there");
                missed += u64::from(look.accepted_at.is_none());
            }
        });
        assert_eq!(
            missed, 0,
            "of {looks} looks at rows that were on their way or just settled this many found neither"
        );
        assert_eq!(book.look(RunId(2), RowSpace::BASE, 0, NOW), None, "no such run");
        let later = NOW.plus(crate::limits::RECENT_ACCEPTED + Duration::from_millis(1));
        assert_eq!(book.look(RUN, RowSpace::BASE, 0, later).expect("the run is there").accepted_at, None, "long ago");
    }
}
