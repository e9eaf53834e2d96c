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
    /// Since when it holds for a permit, and until when it is asked to.
    hold: Option<(Monotonic, Monotonic)>,
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

    /// The row leaves the lane's hand; `answered` if an answer to it is what the lane came back with.
    fn take(&mut self, ticket: Ticket, answered: bool) -> Option<Stocked> {
        let at = self.find(ticket)?;
        let Held { row, admitted, hold, marked, .. } = self.held.swap_remove(at);
        if !row.scopes.is_empty() {
            let last = !holds(&self.held, row.batch.class);
            let bench = self.bench.borrow();
            let now = bench.line().clock.monotonic();
            if let Some(hold) = hold {
                bench.limited(held(hold, now));
            }
            bench.line().limits.with(|limits| {
                if let Some(marked) = marked.filter(|_| answered) {
                    limits.habits().answered(now.since(marked));
                }
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

/// What of a hold that has ended was waited for a permit: a lane that came back late was busy otherwise.
fn held((since, until): (Monotonic, Monotonic), now: Monotonic) -> std::time::Duration {
    now.min(until).since(since)
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
                    let (ticket, pulled) = (into.ticket, (!behind).then_some(now));
                    self.held.push(Held { ticket, row, admitted, pulled, hold: None, marked: None });
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
        let Held { row, admitted, pulled, hold, marked, .. } = &mut self.held[at];
        if row.batch.is_withdrawn() {
            return Mark::Withdrawn;
        }
        if row.scopes.is_empty() {
            return if row.batch.try_mark(row.index) { Mark::Marked } else { Mark::Withdrawn };
        }
        let bench = self.bench.borrow();
        if let Some(hold) = hold.take() {
            bench.limited(held(hold, now));
        }
        let taken = bench.line().limits.with(|limits| {
            if let Some(pulled) = pulled.take() {
                limits.habits().opened(now.since(pulled));
            }
            limits.take_for(&row.scopes, *admitted, now)
        });
        if let Err(blocked) = taken {
            *hold = Some((now, blocked.until));
            return Mark::Hold { until: blocked.until };
        }
        *admitted = None;
        if !row.batch.try_mark(row.index) {
            return Mark::Withdrawn;
        }
        *marked = Some(now);
        Mark::Marked
    }

    fn answer(&mut self, message: &OutMessage, outcome: Outcome) {
        let Some(row) = self.take(message.ticket, true) else { return };
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
        let Some(row) = self.take(message.ticket, false) else { return };
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_hold_counts_until_its_permit_was_due_or_it_was_given_up() {
        let at = |millis| Monotonic::default().plus(Duration::from_millis(millis));
        let hold = (at(100), at(130));
        assert_eq!(held(hold, at(110)), Duration::from_millis(10), "given up");
        assert_eq!(held(hold, at(131)), Duration::from_millis(30), "asked again in time");
        assert_eq!(held(hold, at(5_000)), Duration::from_millis(30), "the answers of a window came in between");
    }
}
