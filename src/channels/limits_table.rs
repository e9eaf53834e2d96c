//! Limits by scope of one connector: taken all or nothing, each able to say that it is the one that blocks.
//!
//! Owns the pacing state of every scope of one connector and no clock. [`LimitsTable`] is the plain core;
//! [`SharedLimits`] is the same behind a mutex for lanes on several threads (held for a few comparisons, never across an
//! await). A message's scopes are its connector, its destination class and its campaign, where these have limits.
//!
//! Invariants: LT-1 a permit is taken of every scope or of none; LT-2 promise 5 holds for each scope and window, across
//! campaigns, retries and test sends; LT-3 a scope made after a restart is exhausted; LT-4 an envelope is opened only
//! if every scope of it has a permit free, beside those of the envelopes open in it, within the lead that opening one takes, and behind
//! a message that is not answered yet only if it is free now, and answers come soon or the limit is far from being reached; LT-5 slowing never exceeds what is configured and
//! is undone step by step; LT-6 at most so many lanes as a scope is bound to have a message of it in hand, from the pull to the answer.
//!
//! Must not know messages, lanes, sessions, or the journal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::envelopes::{Habits, OpenEnvelopes};
use super::pacing::{Gcra, WindowCounter};
use super::slowing::{Grown, Slowed};
use crate::clock::Monotonic;
use crate::config::connectors::RateLimits;
use crate::ids::RunId;
use crate::limits::{ENVELOPE_LOOK_AGAIN, PACED_LATE_TOLERATED, SLOWED_PER_SECOND_MIN};

/// Destination class of a connector: 0 has no limit of its own, class k is the k-th configured domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u16);

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Connector,
    Class(ClassId),
    Campaign(RunId),
}

/// The scopes of one message.
pub type Scopes = SmallVec<[Scope; 3]>;

/// Every scope that a message of this run and class is counted in.
pub fn scopes_of(class: ClassId, run: RunId) -> Scopes {
    SmallVec::from_slice(&[Scope::Connector, Scope::Class(class), Scope::Campaign(run)])
}

/// No permit: which scope blocks longest, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub scope: Scope,
    pub until: Monotonic,
}

/// Why a lane may not take a message into its hand now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No permit: look again then.
    Until(Monotonic),
    /// As many lanes as may have messages of this scope have one.
    Lanes,
}

/// What a lane that asks for a message has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// No message of these scopes.
    pub first: bool,
    /// A message that is not answered yet: an envelope would be open for as long as that takes.
    pub behind: bool,
}

/// An envelope that is counted as open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub at: Monotonic,
    /// When its permit is due, if no other is in the way.
    pub due: Monotonic,
}

/// How a new scope begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing can have been handed over in this scope before.
    Fresh,
    /// The process began; what an earlier one handed over is not known.
    Restarted,
}

#[derive(Clone, Debug, Default)]
struct Limit {
    second: Option<Paced>,
    minute: Option<Gcra>,
    hour: Option<WindowCounter>,
    day: Option<WindowCounter>,
    slowed: Option<Slowed>,
    /// Stands still until then ("come back in 60 seconds").
    paused_until: Monotonic,
    open_envelopes: OpenEnvelopes,
    /// Lanes that may have messages of this scope in hand at a time, and those that have.
    lanes_max: Option<u64>,
    lanes: u64,
    /// Marks since `measured_from`, and the rate of the last whole second.
    measured: u64,
    measured_from: Monotonic,
    rate: f64,
}

#[derive(Clone, Debug)]
struct Paced {
    now: Gcra,
    ceiling: Gcra,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Limit {
    fn new(rate: RateLimits, start: Start, now: Monotonic) -> Limit {
        let pace = |n: u32, window| match start {
            Start::Fresh => Gcra::fresh(n, window),
            Start::Restarted => Gcra::exhausted(n, window, now),
        };
        Limit {
            second: rate.per_second.map(|n| Paced { now: pace(n, SECOND), ceiling: Gcra::ceiling(n, SECOND) }),
            minute: rate.per_minute.map(|n| pace(n, MINUTE)),
            hour: rate.per_hour.map(|n| WindowCounter::new(n, HOUR)),
            day: rate.per_day.map(|n| WindowCounter::new(n, DAY)),
            ..Limit::default()
        }
    }

    /// Permits free now, and when one is.
    fn state(&mut self, now: Monotonic) -> (u64, Monotonic) {
        let mut free = if self.paused_until > now { 0 } else { u64::MAX };
        let mut at = self.paused_until.max(now);
        for pace in self.second.iter_mut().map(|p| &mut p.now).chain(self.minute.iter_mut()) {
            free = free.min(pace.free(now));
            at = at.max(pace.free_at(0, now));
        }
        for window in self.hour.iter_mut().chain(self.day.iter_mut()) {
            free = free.min(window.free(now));
            at = at.max(window.free_at(0, now));
        }
        (free, at)
    }

    /// Whether this limit is far from being reached: half of what can be free is, beside the open envelopes.
    fn has_plenty(&mut self, now: Monotonic) -> bool {
        let open = self.open_envelopes.count(now);
        let mut paces = self.second.iter_mut().map(|p| &mut p.now).chain(self.minute.iter_mut());
        self.paused_until <= now && paces.all(|pace| pace.free(now) >= open + pace.burst().div_ceil(2))
    }

    /// When another envelope's permit is free, beside those of the open ones.
    fn due(&mut self, now: Monotonic) -> Monotonic {
        let (ahead, start) = (self.open_envelopes.count(now), self.paused_until.max(now));
        let paces = self.second.iter_mut().map(|p| &mut p.now).chain(self.minute.iter_mut());
        let paced = paces.map(|pace| pace.free_at(ahead, now)).fold(start, Monotonic::max);
        let windows = self.hour.iter_mut().chain(self.day.iter_mut());
        windows.map(|window| window.free_at(ahead, now)).fold(paced, Monotonic::max)
    }

    fn take(&mut self, now: Monotonic) {
        for pace in self.second.iter_mut().map(|p| &mut p.now).chain(self.minute.iter_mut()) {
            pace.take(now);
        }
        for window in self.hour.iter_mut().chain(self.day.iter_mut()) {
            window.take(now);
        }
        if now.since(self.measured_from) >= SECOND {
            self.rate = self.measured as f64 / now.since(self.measured_from).as_secs_f64();
            self.measured = 0;
            self.measured_from = now;
        }
        self.measured += 1;
    }

    fn apply_rate(&mut self, per_second: f64, now: Monotonic) {
        match &mut self.second {
            Some(paced) => {
                let ceiling = paced.ceiling.clone();
                paced.now.set_rate(per_second, &ceiling, now);
            }
            None => {
                // Unlimited by configuration: the ceiling is as fast as a limit can be.
                let ceiling = Gcra::ceiling(crate::limits::RATE_MESSAGES_MAX, SECOND);
                let mut pace = ceiling.clone();
                pace.set_rate(per_second, &ceiling, now);
                self.second = Some(Paced { now: pace, ceiling });
            }
        }
    }

    /// Long-run permits per second over the windows that pace; `None` is unlimited.
    fn per_second(&self) -> Option<f64> {
        let paces = self.second.iter().map(|p| p.now.per_second()).chain(self.minute.iter().map(Gcra::per_second));
        paces.reduce(f64::min)
    }
}

/// Limits of one connector. See the module's docs.
#[derive(Debug, Default)]
pub struct LimitsTable {
    limits: HashMap<Scope, Limit>,
    habits: Habits,
    /// Raised when a scope gets its first limit or loses its last.
    version: u64,
}

impl LimitsTable {
    /// Adds or replaces a scope; one without limits costs nothing and is not kept.
    pub fn set(&mut self, scope: Scope, rate: RateLimits, start: Start, now: Monotonic) {
        if rate.is_unlimited() {
            self.remove(scope);
            return;
        }
        *self.limit(scope) = Limit::new(rate, start, now);
    }

    pub fn remove(&mut self, scope: Scope) {
        self.version += u64::from(self.limits.remove(&scope).is_some());
    }

    /// The limit of a scope, which may be its first.
    fn limit(&mut self, scope: Scope) -> &mut Limit {
        let version = &mut self.version;
        self.limits.entry(scope).or_insert_with(|| {
            *version += 1;
            Limit::default()
        })
    }

    pub fn is_limited(&self, scope: Scope) -> bool {
        self.limits.contains_key(&scope)
    }

    /// Adds what earlier processes handed over in the hour and day windows of a scope.
    pub fn restore(&mut self, scope: Scope, age: Duration, count: u32, now: Monotonic) {
        if let Some(limit) = self.limits.get_mut(&scope) {
            for window in limit.hour.iter_mut().chain(limit.day.iter_mut()) {
                window.restore(age, count, now);
            }
        }
    }

    /// Permits that a message of these scopes could take now; `u64::MAX` if nothing limits it.
    pub fn free(&mut self, scopes: &[Scope], now: Monotonic) -> Result<u64, Blocked> {
        let mut free = u64::MAX;
        let mut blocked: Option<Blocked> = None;
        for scope in scopes {
            let Some(limit) = self.limits.get_mut(scope) else {
                continue;
            };
            let (scope_free, until) = limit.state(now);
            free = free.min(scope_free);
            if scope_free == 0 && blocked.is_none_or(|b| b.until < until) {
                blocked = Some(Blocked { scope: *scope, until });
            }
        }
        match blocked {
            Some(blocked) => Err(blocked),
            None => Ok(free),
        }
    }

    /// Takes one permit of every scope, or none.
    pub fn take(&mut self, scopes: &[Scope], now: Monotonic) -> Result<(), Blocked> {
        self.free(scopes, now)?;
        for scope in scopes {
            if let Some(limit) = self.limits.get_mut(scope) {
                limit.take(now);
            }
        }
        Ok(())
    }

    /// Takes the permits of an open envelope and closes it. Who is blocked waits for its own permit at least: the next one is
    /// another's, who was admitted before, and not all who hold need wake for it.
    pub fn take_for(&mut self, scopes: &[Scope], admitted: Option<Admitted>, now: Monotonic) -> Result<(), Blocked> {
        let due = admitted.map_or(now, |admitted| admitted.due);
        self.take(scopes, now).map_err(|blocked| Blocked { until: blocked.until.max(due), ..blocked })?;
        if let Some(admitted) = admitted {
            self.close_envelope(scopes, admitted);
        }
        Ok(())
    }

    /// What the relay takes is learned from every message that has limits.
    pub fn habits(&mut self) -> &mut Habits {
        &mut self.habits
    }

    /// When the next envelope's permit is due, beside those of the open ones.
    fn due(&mut self, scopes: &[Scope], now: Monotonic) -> Monotonic {
        let dues = scopes.iter().filter_map(|scope| self.limits.get_mut(scope).map(|limit| limit.due(now)));
        dues.fold(now, Monotonic::max)
    }

    /// From when on another envelope may be opened (LT-4), if its permit is due then; `now` if it may.
    fn opens_at(&mut self, scopes: &[Scope], due: Monotonic, behind: bool, now: Monotonic) -> Monotonic {
        let lead = match behind {
            false => self.habits.lead(),
            true if self.habits.answers_soon() || self.has_plenty(scopes, now) => Duration::ZERO,
            true => return now.plus(ENVELOPE_LOOK_AGAIN),
        };
        Monotonic(due.0.saturating_sub(u64::try_from(lead.as_nanos()).unwrap_or(u64::MAX))).max(now)
    }

    fn has_plenty(&mut self, scopes: &[Scope], now: Monotonic) -> bool {
        scopes.iter().all(|scope| self.limits.get_mut(scope).is_none_or(|limit| limit.has_plenty(now)))
    }

    /// Rows of these scopes that are worth reading now, at least one; otherwise why none is.
    pub fn worth_reading(&mut self, scopes: &[Scope], lane: Asking, now: Monotonic) -> Result<u64, Refusal> {
        let due = self.due(scopes, now);
        self.may_open(scopes, lane, due, now)?;
        let of_rate = |limit: &Limit| limit.per_second().map(|rate| (rate * PACED_LATE_TOLERATED.as_secs_f64()) as u64);
        let soon = scopes.iter().filter_map(|scope| self.limits.get(scope).and_then(of_rate)).min();
        let free = self.free(scopes, now).unwrap_or(0);
        Ok(soon.map_or(free, |soon| free.max(soon)).max(1))
    }

    fn may_open(&mut self, scopes: &[Scope], lane: Asking, due: Monotonic, now: Monotonic) -> Result<(), Refusal> {
        // Permits are promised to open envelopes: more lanes than permits would hold DATA for nothing.
        let opens_at = self.opens_at(scopes, due, lane.behind, now);
        if opens_at > now {
            return Err(Refusal::Until(opens_at.max(now.plus(ENVELOPE_LOOK_AGAIN))));
        }
        if lane.first && !self.has_lane(scopes) {
            return Err(Refusal::Lanes);
        }
        Ok(())
    }

    /// An envelope that [`LimitsTable::admit`] counted was marked, withdrawn or lost.
    pub fn close_envelope(&mut self, scopes: &[Scope], admitted: Admitted) {
        self.of_scopes(scopes, |limit| limit.open_envelopes.close(admitted.at));
    }

    /// At most so many lanes may have messages of this scope in hand at a time; its rate stays as it is.
    pub fn bind_lanes(&mut self, scope: Scope, lanes: usize) {
        self.limit(scope).lanes_max = Some(lanes.max(1) as u64);
    }

    /// Whether another lane may take a first message of these scopes (LT-6).
    pub fn has_lane(&self, scopes: &[Scope]) -> bool {
        let mut bound = scopes.iter().filter_map(|scope| self.limits.get(scope));
        bound.all(|limit| limit.lanes_max.is_none_or(|max| limit.lanes < max))
    }

    /// Lets a lane take a message into its hand: an envelope is counted as open, and the lane as one of its scopes' if it is
    /// its first of them. [`LimitsTable::dismiss`] undoes both.
    pub fn admit(&mut self, scopes: &[Scope], lane: Asking, now: Monotonic) -> Result<Admitted, Refusal> {
        let due = self.due(scopes, now);
        self.may_open(scopes, lane, due, now)?;
        self.of_scopes(scopes, |limit| {
            limit.open_envelopes.open(now);
            limit.lanes += u64::from(lane.first && limit.lanes_max.is_some());
        });
        Ok(Admitted { at: now, due })
    }

    /// The message that was let through is not sent after all.
    pub fn dismiss(&mut self, scopes: &[Scope], first: bool, admitted: Admitted) {
        self.close_envelope(scopes, admitted);
        if first {
            self.leave(scopes);
        }
    }

    /// The last message of these scopes has left a lane's hand.
    pub fn leave(&mut self, scopes: &[Scope]) {
        self.of_scopes(scopes, |limit| limit.lanes = limit.lanes.saturating_sub(1));
    }

    fn of_scopes(&mut self, scopes: &[Scope], change: impl Fn(&mut Limit)) {
        for scope in scopes {
            if let Some(limit) = self.limits.get_mut(scope) {
                change(limit);
            }
        }
    }

    /// Marks per second of a scope over the last second or so; `None` before the first second has passed.
    pub fn measured(&self, scope: Scope, now: Monotonic) -> Option<f64> {
        let limit = self.limits.get(&scope)?;
        let running = now.since(limit.measured_from);
        if limit.measured_from == Monotonic::default() {
            return None;
        }
        Some(if running >= SECOND * 2 { limit.measured as f64 / running.as_secs_f64() } else { limit.rate })
    }

    /// The provider said "slow down": a share of the measured rate, once a second at most. Answers the new rate. A scope that
    /// had no limit was not measured here, or only before its limit fell: there the caller's own figure (messages per
    /// second) counts if it is higher.
    pub fn slow_down(&mut self, scope: Scope, callers_rate: Option<f64>, now: Monotonic) -> Option<f64> {
        let limit = self.limit(scope);
        let running = now.since(limit.measured_from);
        let own = if running >= SECOND || limit.rate == 0.0 {
            limit.measured as f64 / running.as_secs_f64().max(1.0)
        } else {
            limit.rate
        };
        let measured = own.max(callers_rate.unwrap_or(0.0)).min(limit.per_second().unwrap_or(f64::INFINITY));
        let current = match &mut limit.slowed {
            Some(slowed) => slowed.again(measured, now).then(|| slowed.current())?,
            none => none.insert(Slowed::first(measured, now)).current(),
        };
        limit.apply_rate(current, now);
        Some(current)
    }

    /// The provider took so many messages of a scope in the second that has passed.
    pub fn took(&mut self, scope: Scope, per_second: f64, now: Monotonic) {
        if let Some(slowed) = self.limits.get_mut(&scope).and_then(|limit| limit.slowed.as_mut()) {
            slowed.took(per_second, now);
        }
    }

    /// The provider named a time: nothing in this scope before.
    pub fn pause(&mut self, scope: Scope, until: Monotonic) {
        let limit = self.limit(scope);
        limit.paused_until = limit.paused_until.max(until);
    }

    /// Undoes slow-downs step by step; to be called about once a second. Answers the scopes whose rate changed.
    pub fn recover(&mut self, now: Monotonic) -> Vec<(Scope, Option<f64>)> {
        let mut changed = Vec::new();
        for (scope, limit) in &mut self.limits {
            match limit.slowed.as_mut().map_or(Grown::Same, |slowed| slowed.grow(now)) {
                Grown::Same => continue,
                Grown::To(rate) => limit.apply_rate(rate, now),
                Grown::Whole => {
                    limit.slowed = None;
                    limit.apply_rate(f64::from(crate::limits::RATE_MESSAGES_MAX), now);
                }
            }
            changed.push((*scope, limit.per_second()));
        }
        changed
    }

    /// Long-run permits per second of a scope now; `None` is unlimited.
    pub fn per_second(&self, scope: Scope) -> Option<f64> {
        self.limits.get(&scope).and_then(Limit::per_second)
    }

    /// Sets the pace of a scope (an operator's or a provider's word), never above what is configured.
    pub fn set_rate(&mut self, scope: Scope, per_second: f64, now: Monotonic) {
        self.limit(scope).apply_rate(per_second.max(SLOWED_PER_SECOND_MIN), now);
    }

    /// Messages taken in the current hour and day of a scope, for the journal's counts.
    pub fn taken(&mut self, scope: Scope, now: Monotonic) -> (u64, u64) {
        let Some(limit) = self.limits.get_mut(&scope) else {
            return (0, 0);
        };
        let hour = limit.hour.as_mut().map_or(0, |w| w.taken(now));
        (hour, limit.day.as_mut().map_or(0, |w| w.taken(now)))
    }
}

/// [`LimitsTable`] for lanes on several threads.
#[derive(Debug, Default)]
pub struct SharedLimits {
    table: Mutex<LimitsTable>,
    /// The table's, to be read without its lock.
    version: AtomicU64,
}

impl SharedLimits {
    /// Runs `f` with the table locked; `f` is short and never waits.
    pub fn with<T>(&self, f: impl FnOnce(&mut LimitsTable) -> T) -> T {
        let mut table = self.table.lock();
        let answer = f(&mut table);
        self.version.store(table.version, Ordering::Release);
        answer
    }

    /// Changes when a scope gets its first limit or loses its last: what [`SharedLimits::limited`] answered before is old.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The scopes among these that have limits: what a lane needs to ask for; empty means no lock is taken per message.
    pub fn limited(&self, scopes: &[Scope]) -> Scopes {
        let table = self.table.lock();
        scopes.iter().copied().filter(|s| table.is_limited(*s)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NANOS: u64 = 1_000_000_000;

    fn per_second(n: u32) -> RateLimits {
        RateLimits { per_second: Some(n), ..RateLimits::default() }
    }

    fn at(seconds: f64) -> Monotonic {
        Monotonic((seconds * NANOS as f64) as u64)
    }

    const CLASS: Scope = Scope::Class(ClassId(1));
    const CAMPAIGN: Scope = Scope::Campaign(RunId(7));

    #[test]
    fn all_or_nothing_and_who_blocks() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(100), Start::Fresh, at(0.0));
        table.set(CLASS, per_second(1), Start::Fresh, at(0.0));
        let scopes = scopes_of(ClassId(1), RunId(7));
        assert_eq!(table.take(&scopes, at(0.0)), Ok(()), "both have a permit");
        assert_eq!(table.take(&scopes, at(0.1)), Err(Blocked { scope: CLASS, until: at(1.0) }), "the class blocks");
        let others = scopes_of(ClassId(0), RunId(7));
        assert_eq!(table.take(&others, at(0.1)), Ok(()), "a refused take cost the connector nothing");
        assert_eq!(table.free(&[CAMPAIGN], at(0.1)), Ok(u64::MAX), "a scope without a limit is unlimited");
    }

    #[test]
    fn restarts_are_conservative() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(100), Start::Restarted, at(0.0));
        assert!(table.take(&[Scope::Connector], at(0.99)).is_err(), "exhausted for a whole window");
        assert!(table.take(&[Scope::Connector], at(1.0)).is_ok(), "then open");
    }

    const LONE: Asking = Asking { first: false, behind: false };
    const FIRST: Asking = Asking { first: true, behind: false };
    const BEHIND: Asking = Asking { first: false, behind: true };

    #[test]
    fn envelopes_need_more_permits_than_are_open() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(1_000), Start::Fresh, at(0.0));
        let scopes = [Scope::Connector];
        let mut first = None;
        for n in 0..24 {
            let admitted = table.admit(&scopes, LONE, at(0.0));
            first = first.or(admitted.ok());
            assert!(admitted.is_ok(), "envelope {n} of twenty free and four that are due");
        }
        assert!(table.admit(&scopes, LONE, at(0.0)).is_err(), "no more envelopes than permits");
        table.close_envelope(&scopes, first.expect("the first"));
        assert!(table.admit(&scopes, LONE, at(0.0)).is_ok(), "one closed, one may open");
        table.set(Scope::Connector, per_second(100), Start::Fresh, at(0.0));
        (0..2).for_each(|n| table.take(&scopes, at(0.0)).unwrap_or_else(|_| panic!("permit {n}")));
        assert_eq!(table.admit(&scopes, LONE, at(0.0)), Err(Refusal::Until(at(0.006))), "due after ten milliseconds");
        assert_eq!(table.admit(&scopes, BEHIND, at(0.006)), Err(Refusal::Until(at(0.01))), "no lead behind another");
        let admitted = table.admit(&scopes, LONE, at(0.006));
        assert_eq!(admitted, Ok(Admitted { at: at(0.006), due: at(0.01) }), "the lead before it");
    }

    #[test]
    fn who_holds_waits_for_its_own_permit() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(100), Start::Fresh, at(0.0));
        let scopes = [Scope::Connector];
        (0..2).for_each(|n| table.take(&scopes, at(0.0)).unwrap_or_else(|_| panic!("permit {n}")));
        (0..60).for_each(|_| table.habits().opened(Duration::from_millis(50)));
        let admitted = [0, 1].map(|_| table.admit(&scopes, LONE, at(0.0)).expect("within the lead"));
        let [first, second] = admitted.map(Some);
        let until = |blocked: Result<(), Blocked>| blocked.expect_err("no permit is free").until;
        assert_eq!(until(table.take_for(&scopes, first, at(0.005))), at(0.01), "the next permit");
        assert_eq!(until(table.take_for(&scopes, second, at(0.005))), at(0.02), "and the one after it");
        assert_eq!(until(table.take_for(&scopes, None, at(0.005))), at(0.01), "whatever is free");
        assert_eq!(table.take_for(&scopes, first, at(0.01)), Ok(()), "it is due");
        let open = table.limits.get_mut(&Scope::Connector).map(|limit| limit.open_envelopes.count(at(0.01)));
        assert_eq!(open, Some(1), "its envelope is closed");
    }

    #[test]
    fn hours_and_days_bound_envelopes_too() {
        let mut table = LimitsTable::default();
        table.set(CLASS, RateLimits { per_hour: Some(20), ..RateLimits::default() }, Start::Fresh, at(0.0));
        let admitted = (0..50).filter(|_| table.admit(&[CLASS], FIRST, at(0.1)).is_ok()).count();
        assert_eq!(admitted, 20, "as many as may be marked in this hour, and no lane holds DATA for the next one");
    }

    #[test]
    fn relays_that_answer_late_are_not_waited_for_with_permits() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(100), Start::Fresh, at(0.0));
        let scopes = [Scope::Connector];
        let admitted = table.admit(&scopes, BEHIND, at(0.0)).expect("a permit is free, and answers come at once");
        table.close_envelope(&scopes, admitted);
        (0..60).for_each(|_| table.habits().answered(Duration::from_millis(500)));
        let take_all = |table: &mut LimitsTable, now| while table.take(&[Scope::Connector], now).is_ok() {};
        take_all(&mut table, at(0.5));
        assert!(table.admit(&scopes, BEHIND, at(0.507)).is_err(), "its permit would wait for half a second");
        assert!(table.admit(&scopes, LONE, at(0.507)).is_ok(), "another lane has it when it is due");
        table.set(Scope::Connector, per_second(100_000), Start::Fresh, at(1.0));
        let admitted = (0..2_000).filter(|_| table.admit(&scopes, BEHIND, at(1.0)).is_ok()).count();
        assert!(
            (950..=1_050).contains(&admitted),
            "a limit that nobody reaches costs no lane a round trip: {admitted}"
        );
        table.bind_lanes(CLASS, 4);
        assert!(table.admit(&[CLASS], BEHIND, at(1.0)).is_ok(), "nor does one of connections alone");
    }

    #[test]
    fn envelopes_that_hang_hold_up_nobody() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(100), Start::Fresh, at(0.0));
        let admit = |table: &mut LimitsTable, now| table.admit(&[Scope::Connector], FIRST, now).is_ok();
        let hung = (0..50).filter(|_| admit(&mut table, at(0.0))).count();
        assert!(!admit(&mut table, at(0.5)), "{hung} are open, and may still ask");
        assert!(admit(&mut table, at(1.5)), "they have not asked for so long that their permits are others'");
    }

    #[test]
    fn envelopes_that_take_long_are_opened_earlier() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(1), Start::Fresh, at(0.0));
        let scopes = [Scope::Connector];
        table.take(&scopes, at(0.0)).expect("a permit");
        (0..60).for_each(|_| table.habits().opened(Duration::from_millis(50)));
        let Err(Refusal::Until(opens)) = table.admit(&scopes, LONE, at(0.1)) else { panic!("the permit is far") };
        assert!((0.933..=0.934).contains(&(opens.0 as f64 / NANOS as f64)), "a round trip and a bit: {opens:?}");
    }

    #[test]
    fn a_limited_row_is_not_read_alone() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(2_000), Start::Fresh, at(0.0));
        let scopes = [Scope::Connector];
        while table.take(&scopes, at(0.0)).is_ok() {}
        assert_eq!(table.worth_reading(&scopes, FIRST, at(0.0)), Ok(40), "what goes out within the tolerance");
        table.set(Scope::Connector, per_second(2), Start::Fresh, at(0.0));
        assert_eq!(table.worth_reading(&scopes, FIRST, at(0.0)), Ok(1), "and one of a slow limit");
    }

    #[test]
    fn a_class_is_bound_to_its_lanes_and_delays_no_other() {
        let mut table = LimitsTable::default();
        table.bind_lanes(CLASS, 2);
        let (bound, other) = (scopes_of(ClassId(1), RunId(7)), scopes_of(ClassId(0), RunId(7)));
        assert!(table.is_limited(CLASS), "lanes have to ask");
        let admitted = table.admit(&bound, FIRST, at(0.0)).expect("the first lane");
        assert!(table.admit(&bound, LONE, at(0.0)).is_ok(), "a second message of the same lane");
        assert!(table.admit(&bound, FIRST, at(0.0)).is_ok(), "the second lane");
        assert_eq!(table.admit(&bound, FIRST, at(0.0)), Err(Refusal::Lanes), "no third lane");
        assert!(table.admit(&other, FIRST, at(0.0)).is_ok(), "another class is not held up");
        table.leave(&bound);
        assert!(table.admit(&bound, FIRST, at(0.0)).is_ok(), "one left, one comes");
        table.dismiss(&bound, true, admitted);
        assert!(table.has_lane(&bound), "what was let through and not sent holds no lane");
        (0..3).for_each(|_| table.close_envelope(&bound, admitted));
        let open = table.limits.get_mut(&CLASS).map(|limit| limit.open_envelopes.count(at(0.0)));
        assert_eq!(open, Some(0), "every envelope is closed");
    }

    #[test]
    fn marks_are_measured_by_the_second() {
        let mut table = LimitsTable::default();
        table.bind_lanes(CLASS, 2);
        assert_eq!(table.measured(CLASS, at(0.5)), None, "nothing is known yet");
        for step in 100..300 {
            table.take(&[CLASS], at(f64::from(step) / 100.0)).expect("no rate");
        }
        let rate = table.measured(CLASS, at(3.0)).expect("measured");
        assert!((90.0..=110.0).contains(&rate), "a hundred a second, got {rate}");
        assert!(table.measured(CLASS, at(60.0)).is_some_and(|r| r < 3.0), "a standstill shows");
    }

    #[test]
    fn the_version_changes_with_the_scopes_that_have_limits_and_only_then() {
        let limits = SharedLimits::default();
        let mut last = limits.version();
        let mut changed = |change: &dyn Fn(&mut LimitsTable)| {
            limits.with(change);
            std::mem::replace(&mut last, limits.version()) != limits.version()
        };
        assert!(!changed(&|t| t.set(CLASS, RateLimits::default(), Start::Fresh, at(0.0))), "unlimited as before");
        assert!(changed(&|t| assert!(t.slow_down(Scope::Connector, Some(9.0), at(1.0)).is_some())), "the first limit");
        assert!(!changed(&|t| assert!(t.slow_down(Scope::Connector, Some(9.0), at(3.0)).is_some())), "the same one");
        assert!(!changed(&|t| assert!(t.take(&[Scope::Connector], at(60.0)).is_ok())), "a permit is nothing new");
        assert!(changed(&|t| t.pause(CLASS, at(4.0))), "another scope");
        assert!(changed(&|t| t.remove(CLASS)) && !changed(&|t| t.remove(CLASS)), "gone, once");
        assert_eq!(limits.limited(&[CLASS, Scope::Connector]).as_slice(), [Scope::Connector], "as the table has it");
    }

    #[test]
    fn slowing_down_and_back() {
        let mut table = LimitsTable::default();
        table.set(Scope::Connector, per_second(1_000), Start::Fresh, at(0.0));
        let mut sent = 0;
        for step in 0..2_000 {
            while table.take(&[Scope::Connector], at(f64::from(step) / 1_000.0)).is_ok() {
                sent += 1;
            }
        }
        let slowed = table.slow_down(Scope::Connector, None, at(2.0)).expect("the first complaint counts");
        assert!((600.0..=720.0).contains(&slowed), "0.7 of about {} a second, got {slowed}", sent / 2);
        assert_eq!(table.slow_down(Scope::Connector, None, at(2.5)), None, "one decision a second");
        let mut now = 2.0;
        while table.limits[&Scope::Connector].slowed.is_some() {
            now += 31.0;
            table.recover(at(now));
            assert!(
                table.per_second(Scope::Connector).is_some_and(|r| r <= 1_000.0),
                "never above the configured limit"
            );
            assert!(now < 10_000.0, "recovery ends");
        }
        assert!(table.per_second(Scope::Connector).is_some_and(|r| r > 980.0), "back at the configured limit");
    }

    #[test]
    fn a_scope_whose_limit_fell_is_slowed_from_what_the_caller_saw() {
        let mut table = LimitsTable::default();
        assert!(table.slow_down(CLASS, Some(1.0), at(1.0)).is_some(), "the first complaint counts");
        let mut now = 1.0;
        while table.limits[&CLASS].slowed.is_some() {
            now += 31.0;
            table.recover(at(now));
        }
        let slowed = table.slow_down(CLASS, Some(2_000.0), at(now + 1.0)).expect("a complaint about a burst");
        assert!((slowed - 1_400.0).abs() < 1e-6, "0.7 of the burst, and not of a trickle before: {slowed}");
    }

    #[test]
    fn an_unlimited_scope_can_be_slowed_and_paused() {
        let mut table = LimitsTable::default();
        for i in 0..100 {
            table.take(&[CLASS], at(f64::from(i) / 100.0)).expect("unlimited");
        }
        assert_eq!(table.slow_down(CLASS, Some(100.0), at(1.0)), Some(70.0), "the caller's measure counts");
        assert!(table.take(&[CLASS], at(1.0)).is_err(), "held");
        table.pause(CLASS, at(500.0));
        assert_eq!(table.take(&[CLASS], at(400.0)), Err(Blocked { scope: CLASS, until: at(500.0) }), "paused");
    }

    #[test]
    fn hours_hold_across_a_restart() {
        let mut table = LimitsTable::default();
        let limit = RateLimits { per_hour: Some(10), ..RateLimits::default() };
        table.set(CLASS, limit, Start::Restarted, at(0.0));
        table.restore(CLASS, Duration::from_secs(600), 9, at(0.0));
        assert!(table.take(&[CLASS], at(0.0)).is_ok(), "the tenth of the hour");
        assert!(table.take(&[CLASS], at(2_900.0)).is_err(), "the eleventh");
        assert_eq!(table.taken(CLASS, at(1.0)), (10, 0), "counted");
        assert!(table.take(&[CLASS], at(3_100.0)).is_ok(), "nine have left the window");
    }

    proptest! {
        #[test]
        fn every_scope_keeps_its_limit(
            connector in 1u32..400, class in 1u32..400, campaign in 1u32..400,
            steps in prop::collection::vec((0u64..30_000_000, 0u16..2, 0u32..2, 1u8..20, prop::bool::weighted(0.05)), 1..300),
        ) {
            let mut table = LimitsTable::default();
            table.set(Scope::Connector, per_second(connector), Start::Fresh, at(0.0));
            table.set(CLASS, per_second(class), Start::Fresh, at(0.0));
            table.set(Scope::Campaign(RunId(1)), per_second(campaign), Start::Fresh, at(0.0));
            let mut marks: HashMap<Scope, Vec<u64>> = HashMap::new();
            let mut now = 0;
            for (pause, class_id, run, asks, complain) in steps {
                now += pause;
                let scopes = scopes_of(ClassId(class_id), RunId(run));
                for _ in 0..asks {
                    if table.take(&scopes, Monotonic(now)).is_ok() {
                        scopes.iter().for_each(|s| marks.entry(*s).or_default().push(now));
                    }
                }
                if complain {
                    table.slow_down(Scope::Connector, None, Monotonic(now));
                }
                table.recover(Monotonic(now));
            }
            for (scope, n) in [(Scope::Connector, connector), (CLASS, class), (Scope::Campaign(RunId(1)), campaign)] {
                let marks = marks.get(&scope).cloned().unwrap_or_default();
                for (i, from) in marks.iter().enumerate() {
                    let within = marks[i..].iter().take_while(|m| **m < from + NANOS).count();
                    prop_assert!(within <= n as usize, "{scope:?}: {within} marks in a second of {n}");
                }
            }
        }
    }
}
