//! The feed of one lane: what the lane contract of `channels` is to the engine.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::actors::RowOutcome;
use crate::actors::lanes::bench::{Bench, Found, Stocked};
use crate::channels::limits_table::ClassId;
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
    /// Its envelope is counted as open in the row's limited scopes.
    counted: bool,
    /// When it was pulled, until its mark is asked for.
    pulled: Option<Monotonic>,
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
        let Held { row, counted, .. } = self.held.swap_remove(at);
        if !row.scopes.is_empty() {
            let last = !holds(&self.held, row.batch.class);
            self.bench.borrow().line().limits.with(|limits| {
                if counted {
                    limits.close_envelope(&row.scopes);
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
        loop {
            match bench.next(now, &|class| holds(&self.held, class)) {
                Found::Nothing { until } => return Pull::Idle { until },
                Found::Row { mut row, counted } => {
                    if !bench.fill(&mut row, into) {
                        bench.dismiss(&row, !holds(&self.held, row.batch.class));
                        bench.retire_row(row);
                        continue;
                    }
                    into.ticket = Ticket(self.next_ticket);
                    self.next_ticket += 1;
                    self.held.push(Held { ticket: into.ticket, row, counted, pulled: Some(now) });
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
            let waited = line.clock.monotonic().since(began).as_micros();
            line.figures.limit_wait_micros.fetch_add(u64::try_from(waited).unwrap_or(0), Ordering::Relaxed);
        }
    }

    fn may_attach(&mut self, message: &OutMessage, _: Monotonic) -> bool {
        // Its envelope was counted when it was pulled, against the permits free then; only marks take permits since.
        self.find(message.ticket).is_some_and(|at| self.held[at].counted || self.held[at].row.scopes.is_empty())
    }

    fn mark(&mut self, message: &OutMessage, now: Monotonic) -> Mark {
        let Some(at) = self.find(message.ticket) else { return Mark::Withdrawn };
        let Held { row, counted, pulled, .. } = &mut self.held[at];
        if row.batch.is_withdrawn() {
            return Mark::Withdrawn;
        }
        if row.scopes.is_empty() {
            return if row.batch.try_mark(row.index) { Mark::Marked } else { Mark::Withdrawn };
        }
        let bench = self.bench.borrow();
        let taken = bench.line().limits.with(|limits| {
            if let Some(pulled) = pulled.take() {
                limits.opened(now.since(pulled));
            }
            let taken = limits.take(&row.scopes, now);
            if taken.is_ok() && std::mem::take(counted) {
                limits.close_envelope(&row.scopes);
            }
            taken
        });
        match taken {
            Err(blocked) => Mark::Hold { until: blocked.until },
            Ok(()) if row.batch.try_mark(row.index) => Mark::Marked,
            Ok(()) => Mark::Withdrawn,
        }
    }

    fn answer(&mut self, message: &OutMessage, outcome: Outcome) {
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
        self.bench.borrow().report(event);
    }

    fn closing(&self) -> bool {
        self.ordinal >= self.bench.borrow().line().queue.lanes_wanted()
    }

    fn now(&self) -> Monotonic {
        self.bench.borrow().line().clock.monotonic()
    }
}
