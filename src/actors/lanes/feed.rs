//! The feed of one lane: what the lane contract of `channels` is to the engine.

use std::cell::RefCell;
use std::rc::Rc;

use crate::actors::RowOutcome;
use crate::actors::lanes::bench::{Bench, Found, Stocked};
use crate::channels::limits_table::{Admitted, Asking, ClassId};
use crate::channels::{Feed, HandBack, LaneEvent, Mark, OutMessage, Outcome, Pull, Ticket};
use crate::clock::{Clock, Monotonic};

pub struct LaneFeed {
    bench: Rc<RefCell<Bench>>,
    /// Which lane of the connector this is; lanes from `lanes_wanted` on end.
    ordinal: usize,
    held: Vec<Held>,
    next_ticket: u64,
    /// Version of the queue at the last look.
    seen: u64,
}

/// A row that the lane holds.
struct Held {
    ticket: Ticket,
    row: Stocked,
    /// Its envelope, while it is counted as open in the row's limited scopes.
    admitted: Option<Admitted>,
    /// When it was pulled by a lane that had nothing else to wait for, until its mark is asked for.
    pulled: Option<Monotonic>,
    /// When it was marked.
    marked: Option<Monotonic>,
}

impl LaneFeed {
    pub fn new(bench: Rc<RefCell<Bench>>, ordinal: usize) -> LaneFeed {
        LaneFeed { bench, ordinal, held: Vec::with_capacity(2), next_ticket: 1, seen: 0 }
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        self.held.iter().position(|held| held.ticket == ticket)
    }

    fn take(&mut self, ticket: Ticket) -> Option<Stocked> {
        let at = self.find(ticket)?;
        let Held { row, admitted, .. } = self.held.swap_remove(at);
        if !row.scopes.is_empty() {
            let last = !holds(&self.held, row.batch.class);
            self.bench.borrow().line().limits.with(|limits| {
                if let Some(admitted) = admitted {
                    limits.close_envelope(&row.scopes, admitted);
                }
                if last {
                    limits.leave(&row.scopes);
                }
            });
        }
        Some(row)
    }
}

fn holds(held: &[Held], class: ClassId) -> bool {
    held.iter().any(|held| held.row.batch.class == class)
}

impl Feed for LaneFeed {
    fn pull(&mut self, into: &mut OutMessage, now: Monotonic) -> Pull {
        if self.closing() {
            return Pull::Idle { until: None };
        }
        let mut bench = self.bench.borrow_mut();
        self.seen = bench.line().queue.version();
        let behind = !self.held.is_empty();
        loop {
            match bench.next(now, &|class| Asking { first: !holds(&self.held, class), behind }) {
                Found::Nothing { until } => return Pull::Idle { until },
                Found::Row { mut row, admitted } => {
                    if !bench.fill(&mut row, into) {
                        bench.dismiss(&row, !holds(&self.held, row.batch.class), admitted);
                        bench.retire_row(row);
                        continue;
                    }
                    into.ticket = Ticket(self.next_ticket);
                    self.next_ticket += 1;
                    let pulled = (!behind).then_some(now);
                    self.held.push(Held { ticket: into.ticket, row, admitted, pulled, marked: None });
                    return Pull::Filled;
                }
            }
        }
    }

    async fn wait(&mut self, until: Option<Monotonic>) {
        let line = std::sync::Arc::clone(self.bench.borrow().line());
        let changed = line.queue.changed_since(self.seen);
        // Whatever was missed, nobody waits longer than this for it.
        let began = line.clock.monotonic();
        let latest = began.plus(crate::limits::LANE_LOOK_AGAIN);
        // A time is named only by a limit: there is something to send.
        let limited = until.is_some();
        let until = until.map_or(latest, |u| u.min(latest));
        let timer = tokio::time::sleep_until(line.clock.instant(until).into());
        tokio::select! {
            () = changed => {}
            () = timer => {}
        }
        if limited {
            self.bench.borrow().limited(line.clock.monotonic().since(began));
        }
    }

    fn may_attach(&mut self, message: &OutMessage, _: Monotonic) -> bool {
        // Its envelope was counted when it was pulled, against the permits of that moment; only marks take permits since.
        let ready = |held: &Held| held.admitted.is_some() || held.row.scopes.is_empty();
        self.find(message.ticket).is_some_and(|at| ready(&self.held[at]))
    }

    fn mark(&mut self, message: &OutMessage, now: Monotonic) -> Mark {
        let Some(at) = self.find(message.ticket) else { return Mark::Withdrawn };
        let Held { row, admitted, pulled, marked, .. } = &mut self.held[at];
        if row.batch.is_withdrawn() {
            return Mark::Withdrawn;
        }
        if row.scopes.is_empty() {
            return if row.batch.try_mark(row.index) { Mark::Marked } else { Mark::Withdrawn };
        }
        let bench = self.bench.borrow();
        let due = admitted.map_or(now, |admitted| admitted.due);
        let taken = bench.line().limits.with(|limits| {
            if let Some(pulled) = pulled.take() {
                limits.habits().opened(now.since(pulled));
            }
            limits.take(&row.scopes, now).map(|()| {
                if let Some(admitted) = admitted.take() {
                    limits.close_envelope(&row.scopes, admitted);
                }
            })
        });
        match taken {
            Err(blocked) => {
                // The next permit is another's, who was admitted before: not all who hold wake for it.
                let until = blocked.until.max(due);
                bench.limited(until.since(now));
                Mark::Hold { until }
            }
            Ok(()) if row.batch.try_mark(row.index) => {
                *marked = Some(now);
                Mark::Marked
            }
            Ok(()) => Mark::Withdrawn,
        }
    }

    fn answer(&mut self, message: &OutMessage, outcome: Outcome) {
        let marked = self.find(message.ticket).and_then(|at| self.held[at].marked);
        if let Some(marked) = marked {
            let took = self.now().since(marked);
            self.bench.borrow().line().limits.with(|limits| limits.habits().answered(took));
        }
        let Some(row) = self.take(message.ticket) else { return };
        let outcome = match outcome {
            Outcome::Accepted => RowOutcome::Accepted,
            Outcome::Rejected { class, reply } => RowOutcome::Rejected(class, reply),
            Outcome::Deferred { after, reply } => RowOutcome::Deferred(after, reply),
            Outcome::Unknown => RowOutcome::Unknown,
        };
        let mut bench = self.bench.borrow_mut();
        // A provider may refuse a message before its mark: the row is ended here, if nobody took it back meanwhile.
        if row.batch.is_marked(row.index) || row.batch.try_mark(row.index) {
            bench.handed_over(message.bytes());
            bench.answer(&row.batch, row.index, outcome);
        }
        bench.retire_row(row);
    }

    fn hand_back(&mut self, message: &OutMessage, why: HandBack) {
        let Some(row) = self.take(message.ticket) else { return };
        let mut bench = self.bench.borrow_mut();
        if why == HandBack::Withdrawn && row.batch.is_withdrawn() {
            bench.retire_row(row);
        } else {
            bench.put_back(row);
            bench.line().queue.wake();
        }
    }

    fn report(&mut self, event: LaneEvent) {
        if matches!(event, LaneEvent::Opened) {
            // What is in hand waited for the connection: that is no envelope's habit.
            self.held.iter_mut().for_each(|held| held.pulled = None);
        }
        self.bench.borrow().report(event);
    }

    fn closing(&self) -> bool {
        self.ordinal >= self.bench.borrow().line().queue.lanes_wanted()
    }

    fn now(&self) -> Monotonic {
        self.bench.borrow().line().clock.monotonic()
    }
}
