//! TrackerActor: opens and clicks on their way into the journal, many to a fact.
//!
//! Owns the events of the last millisecond or two. Invariant: TK-1 an event is answered only when the fact that holds it is
//! written (safe from a kill); a full buffer refuses instead of growing; TK-2 a fact names no row in aggregate-only mode, nor
//! for a link that names nobody (`track = "aggregate"`): such events are totals.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, Message};
use roaring::RoaringBitmap;
use tokio::sync::oneshot;

use crate::actors::book::Book;
use crate::content::NOBODY;
use crate::ids::{ContactRow, MessageId, RunId};
use crate::journal::Want;
use crate::ledger::Fact;
use crate::ledger::tracking::{EventClass, Tracked, TrackedKind};
use crate::limits::{MAILBOX_MESSAGES, TRACK_GROUP, TRACKED_EVENTS_MAX};

/// One open or click, or earlier ones that turn out to be of another class.
#[derive(Message)]
#[rtype(result = "()")]
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

pub struct TrackerActor {
    book: Arc<Book>,
    /// Totals only: no rows are kept.
    aggregate_only: bool,
    gathered: BTreeMap<Group, Gathered>,
    waiting: usize,
    armed: bool,
}

impl TrackerActor {
    pub fn new(book: Arc<Book>, aggregate_only: bool) -> TrackerActor {
        TrackerActor { book, aggregate_only, gathered: BTreeMap::new(), waiting: 0, armed: false }
    }

    fn flush(&mut self) {
        self.armed = false;
        self.waiting = 0;
        for ((run, message, kind, class, was), group) in std::mem::take(&mut self.gathered) {
            let total = group.rows.len() as u64;
            let named = group.rows.into_iter().filter(|row| !self.aggregate_only && *row != NOBODY.0);
            let rows = RoaringBitmap::from_iter(named);
            let fact = Fact::Tracked(Tracked { run, message, kind, class, rows, total, was, at: self.book.now() });
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

impl Handler<TrackedEvent> for TrackerActor {
    type Result = ();

    fn handle(&mut self, event: TrackedEvent, context: &mut Context<Self>) {
        if self.waiting >= TRACKED_EVENTS_MAX {
            return;
        }
        self.waiting += 1;
        let key = (event.run, event.message, event.kind, event.class, event.was);
        let group = self.gathered.entry(key).or_default();
        group.rows.push(event.row.0);
        group.done.extend(event.done);
        if !self.armed {
            self.armed = true;
            context.run_later(TRACK_GROUP, |actor, _| actor.flush());
        }
    }
}
