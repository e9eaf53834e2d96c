//! TrackerActor: opens and clicks on their way into the journal, many to a fact.
//!
//! Owns the events of the last millisecond or two, in a buffer that whoever records puts them into: the actor hears of the
//! first of a group and of the one that makes it whole, not of each, because at the rate of clicks a mailbox message each costs
//! more than the rest.
//! Invariant: TK-1 an event is answered only when the fact that holds it is
//! written (safe from a kill); a full buffer refuses instead of growing; TK-2 a fact names no row in aggregate-only mode, nor
//! for a link that names nobody (`track = "aggregate"`): such events are totals; TK-3 while the buffer holds an event, a
//! message to the actor is on its way or its timer runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, SpawnHandle};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tokio::sync::oneshot;

use crate::actors::book::Book;
use crate::content::NOBODY;
use crate::ids::{ContactRow, MessageId, RunId};
use crate::journal::Want;
use crate::ledger::Fact;
use crate::ledger::tracking::{EventClass, Tracked, TrackedKind};
use crate::limits::{MAILBOX_MESSAGES, REPEATS_MAX, TRACK_GROUP, TRACK_GROUP_EVENTS, TRACKED_EVENTS_MAX};

/// One open or click, or earlier ones that turn out to be of another class.
pub struct TrackedEvent {
    pub run: RunId,
    pub message: MessageId,
    pub row: ContactRow,
    pub kind: TrackedKind,
    pub class: EventClass,
    pub was: Option<EventClass>,
    /// Completed when the fact is written; dropped if it can't be.
    pub done: Option<oneshot::Sender<()>>,
}

type Group = (RunId, MessageId, TrackedKind, EventClass, Option<EventClass>);

#[derive(Default)]
struct Gathered {
    rows: Vec<u32>,
    done: Vec<oneshot::Sender<()>>,
}

/// Events wait: the first of a group, or as many as need no more company.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EventsWait {
    pub enough: bool,
}

/// Where events are put; shared by all who record.
pub struct TrackerInbox {
    waiting: Arc<Mutex<Vec<TrackedEvent>>>,
    actor: Recipient<EventsWait>,
}

/// The buffer is full, or the actor is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tracking events can't be taken now")]
pub struct Refused;

impl TrackerInbox {
    /// Puts an event into the next group.
    pub fn put(&self, event: TrackedEvent) -> Result<(), Refused> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= TRACKED_EVENTS_MAX {
            return Err(Refused);
        }
        waiting.push(event);
        let count = waiting.len();
        drop(waiting);
        if count == 1 && self.actor.try_send(EventsWait { enough: false }).is_err() {
            // Nobody would come for them (TK-3): whoever waits for these hears that they were dropped.
            self.waiting.lock().clear();
            return Err(Refused);
        }
        if count == TRACK_GROUP_EVENTS {
            // A full mailbox loses nothing: the timer of the first runs.
            drop(self.actor.try_send(EventsWait { enough: true }));
        }
        Ok(())
    }
}

pub struct TrackerActor {
    book: Arc<Book>,
    /// Totals only: no rows are kept.
    aggregate_only: bool,
    waiting: Arc<Mutex<Vec<TrackedEvent>>>,
    /// Ends the group that is being gathered.
    timer: Option<SpawnHandle>,
}

impl TrackerActor {
    /// Starts the actor on this thread's arbiter.
    pub fn open(book: Arc<Book>, aggregate_only: bool) -> TrackerInbox {
        let waiting = Arc::new(Mutex::new(Vec::new()));
        let actor =
            TrackerActor { book, aggregate_only, waiting: Arc::clone(&waiting), timer: None }.start().recipient();
        TrackerInbox { waiting, actor }
    }

    /// Rows and totals of facts in which each row stands once: who did it twice in these milliseconds is in two of them, because
    /// events of a row are told apart. Nearly always one fact.
    fn facts(&self, rows: &[u32]) -> Vec<(RoaringBitmap, u64)> {
        let mut facts: Vec<(RoaringBitmap, u64)> = Vec::new();
        let mut unnamed = 0;
        for row in rows {
            if self.aggregate_only || *row == NOBODY.0 {
                unnamed += 1;
                continue;
            }
            match facts.iter().position(|(set, _)| !set.contains(*row)) {
                Some(at) => {
                    facts[at].0.insert(*row);
                    facts[at].1 += 1;
                }
                // What a client repeats a hundred times in a moment is not told apart any further.
                None if facts.len() > REPEATS_MAX => unnamed += 1,
                None => facts.push((RoaringBitmap::from_iter([*row]), 1)),
            }
        }
        match facts.last_mut() {
            Some((_, total)) => *total += unnamed,
            None => facts.push((RoaringBitmap::new(), unnamed)),
        }
        facts
    }

    fn flush(&mut self) {
        let mut waiting = self.waiting.lock();
        let capacity = waiting.len();
        let events = std::mem::replace(&mut *waiting, Vec::with_capacity(capacity));
        drop(waiting);
        let mut gathered: BTreeMap<Group, Gathered> = BTreeMap::new();
        for event in events {
            let key = (event.run, event.message, event.kind, event.class, event.was);
            let group = gathered.entry(key).or_default();
            group.rows.push(event.row.0);
            group.done.extend(event.done);
        }
        for ((run, message, kind, class, was), group) in gathered {
            let (mut facts, at) = (self.facts(&group.rows), self.book.now());
            // The last one answers: facts are written in their order.
            let (rows, total) = facts.pop().unwrap_or_default();
            for (rows, total) in facts {
                let fact = Fact::Tracked(Tracked { run, message, kind, class, rows, total, was, at });
                if let Err(error) = self.book.commit(&fact, Want::idle()) {
                    tracing::warn!(%run, %error, "tracking events were not recorded");
                }
            }
            let fact = Fact::Tracked(Tracked { run, message, kind, class, rows, total, was, at });
            let done = group.done;
            let want = Want::written(move |_| {
                for waiter in done {
                    // The asker may have hung up.
                    waiter.send(()).ok();
                }
            });
            if let Err(error) = self.book.commit(&fact, want) {
                tracing::warn!(%run, %error, "tracking events were not recorded");
            }
        }
    }
}

impl Actor for TrackerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
    }
}

impl Handler<EventsWait> for TrackerActor {
    type Result = ();

    fn handle(&mut self, wait: EventsWait, context: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            context.cancel_future(timer);
        }
        if wait.enough {
            self.flush();
        } else {
            self.timer = Some(context.run_later(TRACK_GROUP, |actor, _| actor.flush()));
        }
    }
}
