//! A feed that plays the engine's part from a script and watches every MUST of the contract; for tests and measuring.
//!
//! Owns the messages of one lane and a record of all that the lane did. A violation is recorded, not a panic, so that it
//! can be used beyond unit tests. What only a peer can see (that nothing unmarked arrives) the tests compare with the set of
//! marks.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Feed, HandBack, LaneEvent, Mark, OutMessage, Outcome, Pull, Ticket};
use crate::clock::{Clock, Monotonic, SystemClock};

#[cfg(test)]
mod peer;
#[cfg(test)]
mod tests;

/// Fills in the message of a ticket.
pub type Compose = Box<dyn Fn(u64, &mut OutMessage)>;

/// What the feed does. The default admits everything at once.
#[derive(Clone, Debug)]
pub struct Script {
    /// Whether envelopes may be attached.
    pub attach: bool,
    /// Every n-th ticket is withdrawn at its mark; 0 is none.
    pub withdraw_every: u64,
    /// Every n-th ticket is held once before its mark; 0 is none.
    pub hold_every: u64,
    pub hold: Duration,
    /// How often a message that came back is pulled again.
    pub retries: u32,
    /// The feed closes after so many pulls.
    pub close_after_pulls: Option<u64>,
    /// The feed closes after this time, whatever happened.
    pub deadline: Duration,
    /// Keeps round trips in the record.
    pub keep_round_trips: bool,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            attach: true,
            withdraw_every: 0,
            hold_every: 0,
            hold: Duration::from_millis(2),
            retries: 0,
            close_after_pulls: None,
            deadline: Duration::from_secs(60),
            keep_round_trips: false,
        }
    }
}

/// How a message left the lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Answered(Outcome),
    Back(HandBack),
}

#[derive(Debug, Default)]
pub struct Record {
    /// By ticket, in order.
    pub endings: BTreeMap<u64, Vec<Ending>>,
    pub events: Vec<LaneEvent>,
    /// Breaches of the contract; empty for a good lane.
    pub violations: Vec<String>,
    pub accepted: u64,
    pub attached: u64,
}

impl Record {
    /// Messages whose last ending is this.
    pub fn count(&self, wanted: impl Fn(&Ending) -> bool) -> usize {
        self.endings.values().filter(|e| e.last().is_some_and(&wanted)).count()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pulled,
    Marked,
    Withdrawn,
}

/// See the module's docs.
pub struct ScriptedFeed {
    script: Script,
    compose: Compose,
    queue: VecDeque<u64>,
    in_hand: HashMap<u64, State>,
    held: HashSet<u64>,
    backs: HashMap<u64, u32>,
    pulls: u64,
    pub record: Record,
    /// Every ticket that was ever marked; shared with peers that check what arrives.
    pub marks: Arc<Mutex<HashSet<u64>>>,
    clock: SystemClock,
}

impl ScriptedFeed {
    /// Tickets 1 to `messages`.
    pub fn new(messages: u64, script: Script, compose: Compose) -> ScriptedFeed {
        ScriptedFeed {
            script,
            compose,
            queue: (1..=messages).collect(),
            in_hand: HashMap::new(),
            held: HashSet::new(),
            backs: HashMap::new(),
            pulls: 0,
            record: Record::default(),
            marks: Arc::default(),
            clock: SystemClock::new(),
        }
    }

    /// To be called when the lane has returned: nothing may be in its hand (MUST 2, 3, 8).
    pub fn finish(mut self) -> Record {
        let left: Vec<_> =
            self.in_hand.iter().map(|(t, s)| format!("ticket {t} was never given back ({s:?})")).collect();
        self.record.violations.extend(left);
        self.record
    }

    fn violation(&mut self, text: String) {
        if self.record.violations.len() < 100 {
            self.record.violations.push(text);
        }
    }

    fn end(&mut self, ticket: u64, ending: Ending) {
        self.record.endings.entry(ticket).or_default().push(ending);
    }
}

impl Feed for ScriptedFeed {
    fn pull(&mut self, into: &mut OutMessage, _now: Monotonic) -> Pull {
        if self.closing() {
            return Pull::Idle { until: None };
        }
        let Some(ticket) = self.queue.pop_front() else {
            return Pull::Idle { until: None };
        };
        self.pulls += 1;
        into.clear();
        (self.compose)(ticket, into);
        into.ticket = Ticket(ticket);
        if self.in_hand.insert(ticket, State::Pulled).is_some() {
            self.violation(format!("ticket {ticket} pulled twice"));
        }
        Pull::Filled
    }

    async fn wait(&mut self, until: Option<Monotonic>) {
        if !self.in_hand.is_empty() {
            let held: Vec<u64> = self.in_hand.keys().copied().collect();
            self.violation(format!("MUST 9: tickets {held:?} held while waiting for another"));
        }
        if self.closing() || !self.queue.is_empty() {
            tokio::task::yield_now().await;
            return;
        }
        let left = until.map_or(Duration::from_millis(20), |u| u.since(self.now()));
        tokio::time::sleep(left.min(Duration::from_millis(20))).await;
    }

    fn may_attach(&mut self, message: &OutMessage, _now: Monotonic) -> bool {
        if !self.in_hand.contains_key(&message.ticket.0) {
            self.violation(format!("asked to attach ticket {} that is not in hand", message.ticket.0));
        }
        self.record.attached += u64::from(self.script.attach);
        self.script.attach
    }

    fn mark(&mut self, message: &OutMessage, now: Monotonic) -> Mark {
        let ticket = message.ticket.0;
        match self.in_hand.get(&ticket) {
            Some(State::Pulled) => {}
            other => {
                let text = format!("MUST 1: mark of ticket {ticket} in state {other:?}");
                self.violation(text);
            }
        }
        let each = |n: u64| n > 0 && ticket.is_multiple_of(n);
        if each(self.script.withdraw_every) {
            self.in_hand.insert(ticket, State::Withdrawn);
            return Mark::Withdrawn;
        }
        if each(self.script.hold_every) && self.held.insert(ticket) {
            return Mark::Hold { until: now.plus(self.script.hold) };
        }
        self.in_hand.insert(ticket, State::Marked);
        self.marks.lock().insert(ticket);
        Mark::Marked
    }

    fn answer(&mut self, message: &OutMessage, outcome: Outcome) {
        let ticket = message.ticket.0;
        match (self.in_hand.remove(&ticket), &outcome) {
            (None, _) => self.violation(format!("MUST 2: answer for ticket {ticket} that is not in hand")),
            (Some(State::Withdrawn), _) => self.violation(format!("MUST 5: answer for withdrawn ticket {ticket}")),
            (Some(State::Pulled), Outcome::Accepted | Outcome::Unknown) => {
                self.violation(format!("MUST 1: {outcome:?} for ticket {ticket} that was not marked"));
            }
            (Some(State::Pulled | State::Marked), _) => {}
        }
        self.record.accepted += u64::from(outcome == Outcome::Accepted);
        self.end(ticket, Ending::Answered(outcome));
    }

    fn hand_back(&mut self, message: &OutMessage, why: HandBack) {
        let ticket = message.ticket.0;
        match self.in_hand.remove(&ticket) {
            None => self.violation(format!("MUST 2: hand-back of ticket {ticket} that is not in hand")),
            Some(State::Marked) => self.violation(format!("MUST 3: hand-back of marked ticket {ticket}")),
            Some(State::Pulled | State::Withdrawn) => {}
        }
        self.end(ticket, Ending::Back(why));
        let backs = self.backs.entry(ticket).or_default();
        *backs += 1;
        if *backs <= self.script.retries {
            self.queue.push_back(ticket);
        }
    }

    fn report(&mut self, event: LaneEvent) {
        let round_trip = matches!(event, LaneEvent::RoundTrip { .. });
        if self.record.events.len() < 10_000 && (self.script.keep_round_trips || !round_trip) {
            self.record.events.push(event);
        }
    }

    fn closing(&self) -> bool {
        let done = self.queue.is_empty() && self.in_hand.is_empty();
        done || self.script.close_after_pulls.is_some_and(|n| self.pulls >= n)
            || self.clock.monotonic().since(Monotonic(0)) >= self.script.deadline
    }

    fn now(&self) -> Monotonic {
        self.clock.monotonic()
    }
}
