//! Virtual time: a queue of events, and plans of events drawn ahead.
//!
//! The simulated world is a loop: take the [`Sim::next`] event, let the core act on it, schedule what follows. Time jumps
//! from event to event, so that an hour of retries costs microseconds.
//!
//! Invariants:
//! 1. Time never goes back; an event comes at its time and not before any earlier one.
//! 2. Events of one instant come in an order drawn from the seed: what the core must not rely on is tried.
//! 3. The same seed and the same calls give the same run.
//! 4. A run ends: after `events_max` events the queue refuses to go on.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

use estafette::clock::Monotonic;

use crate::rng::Rng;

/// Events kept to be shown when an invariant breaks.
const TRACE_EVENTS: usize = 60;

/// Names a scheduled event, so that it can be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventId(u64);

/// When, then the drawn order within an instant, then which.
type Key = (Monotonic, u64, EventId);

/// A discrete-event scheduler over events of any type.
pub(crate) struct Sim<E> {
    now: Monotonic,
    order: Rng,
    queue: BTreeMap<Key, E>,
    keys: BTreeMap<EventId, Key>,
    scheduled: u64,
    handled: u64,
    events_max: u64,
    trace: VecDeque<String>,
}

impl<E: Debug> Sim<E> {
    pub(crate) fn new(rng: &Rng, events_max: u64) -> Sim<E> {
        Sim {
            now: Monotonic(0),
            order: rng.stream("sim/order"),
            queue: BTreeMap::new(),
            keys: BTreeMap::new(),
            scheduled: 0,
            handled: 0,
            events_max,
            trace: VecDeque::new(),
        }
    }

    pub(crate) fn now(&self) -> Monotonic {
        self.now
    }

    /// Events that have been taken.
    pub(crate) fn handled(&self) -> u64 {
        self.handled
    }

    /// Events that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// An event at an instant; one that is past comes now.
    pub(crate) fn schedule(&mut self, at: Monotonic, event: E) -> EventId {
        let id = EventId(self.scheduled);
        self.scheduled += 1;
        let key = (at.max(self.now), self.order.next(), id);
        self.keys.insert(id, key);
        self.queue.insert(key, event);
        id
    }

    /// An event after a time.
    pub(crate) fn schedule_in(&mut self, after: Duration, event: E) -> EventId {
        self.schedule(self.now.plus(after), event)
    }

    /// Takes a waiting event away; `None` if it has come or was cancelled before.
    pub(crate) fn cancel(&mut self, id: EventId) -> Option<E> {
        let key = self.keys.remove(&id)?;
        self.queue.remove(&key)
    }

    /// Takes away every waiting event that `gone` picks, as a crash does with all that lived in memory.
    pub(crate) fn cancel_where(&mut self, mut gone: impl FnMut(&E) -> bool) -> usize {
        let keys: Vec<Key> = self.queue.iter().filter(|(_, event)| gone(event)).map(|(key, _)| *key).collect();
        for key in &keys {
            self.queue.remove(key);
            self.keys.remove(&key.2);
        }
        keys.len()
    }

    /// The next event; moves the time to it. `None` when nothing waits.
    ///
    /// Panics after `events_max` events: the simulated world does not come to rest.
    pub(crate) fn next(&mut self) -> Option<E> {
        let ((at, _, id), event) = self.queue.pop_first()?;
        self.keys.remove(&id);
        self.now = at;
        self.handled += 1;
        if self.trace.len() == TRACE_EVENTS {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>14.6} s  {event:?}", Duration::from_nanos(at.0).as_secs_f64()));
        assert!(self.handled <= self.events_max, "no rest after {} events:\n{}", self.events_max, self.trace());
        Some(event)
    }

    /// The last events, one a line: what led to a broken invariant.
    pub(crate) fn trace(&self) -> String {
        self.trace.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// What a plan draws from: how often each kind of event comes beside the others.
pub(crate) struct Source<E> {
    pub(crate) weight: u32,
    pub(crate) make: fn(&mut Rng) -> E,
}

/// Events at random instants in `[from, until)`, with this mean gap, of kinds by their weights. In order of time.
pub(crate) fn random_events<E>(
    rng: &mut Rng,
    sources: &[Source<E>],
    from: Monotonic,
    until: Monotonic,
    mean_gap: Duration,
) -> Vec<(Monotonic, E)> {
    let weights: Vec<u32> = sources.iter().map(|s| s.weight).collect();
    let mean = u64::try_from(mean_gap.as_nanos()).expect("centuries at most").max(1);
    let mut events = Vec::new();
    let mut at = from;
    loop {
        at = at.plus(Duration::from_nanos(rng.gap(mean).max(1)));
        match rng.weighted(&weights) {
            Some(kind) if at < until => events.push((at, (sources[kind].make)(rng))),
            _ => return events,
        }
    }
}

/// Spans of time that do not overlap, such as outages: each begins after a random gap and lasts a random time. In order;
/// the last may reach beyond `until`.
pub(crate) fn random_spans(
    rng: &mut Rng,
    until: Monotonic,
    mean_gap: Duration,
    mean_length: Duration,
) -> Vec<(Monotonic, Monotonic)> {
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).expect("centuries at most").max(1);
    let mut spans = Vec::new();
    let mut at = Monotonic(rng.gap(nanos(mean_gap)));
    while at < until {
        let end = at.plus(Duration::from_nanos(rng.gap(nanos(mean_length)).max(1)));
        spans.push((at, end));
        at = end.plus(Duration::from_nanos(rng.gap(nanos(mean_gap)).max(1)));
    }
    spans
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(nanos: u64) -> Monotonic {
        Monotonic(nanos)
    }

    fn drain<E: Debug>(sim: &mut Sim<E>) -> Vec<(u64, E)> {
        let mut all = Vec::new();
        while let Some(event) = sim.next() {
            all.push((sim.now().0, event));
        }
        all
    }

    #[test]
    fn events_come_in_order_of_time_and_time_stands_at_each() {
        let mut sim = Sim::new(&Rng::new(1), 100);
        for time in [30, 10, 20] {
            sim.schedule(at(time), time);
        }
        assert_eq!(sim.waiting(), 3, "waiting");
        assert_eq!(drain(&mut sim), [(10, 10), (20, 20), (30, 30)]);
        assert_eq!((sim.waiting(), sim.handled(), sim.next()), (0, 3, None), "at rest");
    }

    #[test]
    fn what_is_scheduled_in_the_past_comes_now_and_time_never_goes_back() {
        let mut sim = Sim::new(&Rng::new(1), 1_000);
        let mut rng = Rng::new(2);
        sim.schedule(at(1_000), 0u32);
        let mut before = at(0);
        while let Some(depth) = sim.next() {
            assert!(sim.now() >= before, "time goes back");
            before = sim.now();
            if depth < 200 {
                sim.schedule(at(rng.below(5_000)), depth + 1);
            }
        }
        assert_eq!(sim.handled(), 201, "all came");
        sim.schedule(at(0), 7);
        let (stood, event) = (sim.now(), sim.next());
        assert_eq!((event, sim.now()), (Some(7), stood), "a past event comes at once");
    }

    #[test]
    fn one_instant_has_an_order_that_the_seed_draws() {
        let order = |seed| {
            let mut sim = Sim::new(&Rng::new(seed), 100);
            for event in 0..20 {
                sim.schedule(at(5), event);
            }
            drain(&mut sim).into_iter().map(|(_, event)| event).collect::<Vec<i32>>()
        };
        assert_eq!(order(1), order(1), "replays");
        assert_ne!(order(1), order(2), "another seed tries another order");
        let mut sorted = order(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>(), "none lost, none twice");
    }

    #[test]
    fn a_cancelled_event_never_comes() {
        let mut sim = Sim::new(&Rng::new(1), 100);
        let gone = sim.schedule_in(Duration::from_nanos(5), "gone");
        let kept = sim.schedule_in(Duration::from_nanos(6), "kept");
        assert_eq!((sim.cancel(gone), sim.cancel(gone)), (Some("gone"), None), "once");
        assert_eq!(drain(&mut sim), [(6, "kept")]);
        assert_eq!(sim.cancel(kept), None, "it has come");
        for event in ["memory", "disk", "memory"] {
            sim.schedule_in(Duration::from_nanos(1), event);
        }
        assert_eq!(sim.cancel_where(|e| *e == "memory"), 2, "a crash");
        assert_eq!(drain(&mut sim), [(7, "disk")]);
    }

    #[test]
    #[should_panic(expected = "no rest after 50 events")]
    fn a_world_that_never_rests_is_stopped() {
        let mut sim = Sim::new(&Rng::new(1), 50);
        sim.schedule(at(0), "again");
        while let Some(event) = sim.next() {
            sim.schedule_in(Duration::from_secs(1), event);
        }
    }

    #[test]
    fn the_trace_shows_the_last_events() {
        let mut sim = Sim::new(&Rng::new(1), 1_000);
        for second in 0..200u64 {
            sim.schedule(at(second * 1_000_000_000), second);
        }
        drain(&mut sim);
        let trace = sim.trace();
        assert_eq!(trace.lines().count(), TRACE_EVENTS, "bounded");
        assert!(trace.ends_with("199.000000 s  199"), "{trace}");
    }

    #[test]
    fn a_plan_is_in_order_within_its_bounds_and_of_all_its_kinds() {
        let sources = [
            Source { weight: 3, make: |_| 'a' },
            Source { weight: 0, make: |_| 'n' },
            Source { weight: 1, make: |_| 'b' },
        ];
        let until = at(1_000_000_000);
        let plan = random_events(&mut Rng::new(4), &sources, at(1_000), until, Duration::from_micros(100));
        assert!((9_000..11_000).contains(&plan.len()), "some ten thousand: {}", plan.len());
        assert!(plan.windows(2).all(|w| w[0].0 < w[1].0), "in order");
        assert!(plan.iter().all(|(time, _)| *time > at(1_000) && *time < until), "within bounds");
        let b = plan.iter().filter(|(_, kind)| *kind == 'b').count();
        assert!(plan.iter().all(|(_, kind)| *kind != 'n') && (2_200..2_800).contains(&b), "by weight: {b}");
        let none: Vec<(Monotonic, char)> = random_events(&mut Rng::new(4), &[], at(0), until, Duration::from_secs(1));
        assert_eq!(none, [], "no kinds, no events");
    }

    #[test]
    fn spans_do_not_overlap() {
        let hour = at(3_600_000_000_000);
        let spans = random_spans(&mut Rng::new(5), hour, Duration::from_secs(60), Duration::from_secs(10));
        assert!((30..80).contains(&spans.len()), "some fifty: {}", spans.len());
        assert!(spans.iter().all(|(from, to)| from < to && *from < hour), "spans");
        assert!(spans.windows(2).all(|w| w[0].1 < w[1].0), "apart");
    }

    #[test]
    fn the_order_of_events_is_that_of_a_sorted_list() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut sim = Sim::new(&rng.stream("sim"), 10_000);
            let mut expected: Vec<u64> = Vec::new();
            let mut cancelled = BTreeSet::new();
            for event in 0..100u64 {
                let time = rng.below(40);
                let id = sim.schedule(at(time), event);
                if rng.chance(0.2) {
                    sim.cancel(id);
                    cancelled.insert(event);
                } else {
                    expected.push(time);
                }
            }
            expected.sort_unstable();
            let came = drain(&mut sim);
            assert_eq!(came.iter().map(|(time, _)| *time).collect::<Vec<_>>(), expected, "seed {seed}");
            assert!(came.iter().all(|(_, event)| !cancelled.contains(event)), "seed {seed}: cancelled");
        }
    }
}
