//! A dry run: how many contacts would be at which node at what time, were the flow to start now. Nothing moves.
//!
//! Sets walk the graph in virtual time, as in a run. What a run asks of the base is asked of the base as it is today; what
//! only comes back after a send (opens, clicks, …) follows from a rate that somebody assumes, or is unknown: then contacts are
//! counted on both ways, as *at most*, and are *at least* on neither.
//!
//! Owns nothing. Invariants: DR-1 at no time are more contacts at least somewhere than entered; DR-2 `at least ≤ at most`, and
//! without unknowns they are equal; DR-3 it ends: moves and days are bounded.
//!
//! Must not know: the base, ledgers, the clock.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use roaring::RoaringBitmap;

use super::delay::civil::instant;
use super::delay::{ZoneSet, by_zone};
use super::graph::{Exit, Graph, Node, NodeId, NodeKind};
use super::nodes::condition::{self, Engaged, Test, Unique};
use super::nodes::{AbTest, Delay, Split, WaitEvent, ab_test, delay, split};
use super::split::{SplitError, SplitKey, quotas, rank, sets};
use crate::clock::Timestamp;
use crate::ids::RunId;
use crate::limits;

mod assumed;
mod gates;

pub use assumed::{Assumed, LocalLaunch, Rates};

const DAY_MS: i64 = 24 * 3_600_000;
/// Rates are millionths.
const WHOLE: u32 = limits::SPLIT_WEIGHT_MAX;

/// What is asked of the base as it is today.
pub trait Today {
    type Error: From<SplitError>;

    fn matching(&self, expression: &str) -> Result<RoaringBitmap, Self::Error>;
    /// Who of the rows may be sent to by a delivery.
    fn sendable(&self, delivery: u16, rows: &RoaringBitmap) -> Result<RoaringBitmap, Self::Error>;
    fn engaged(&self, asked: &Engaged) -> Result<RoaringBitmap, Self::Error>;
    /// Who of the rows lives by which clocks.
    fn zones(&self, rows: &RoaringBitmap) -> Result<Vec<ZoneSet>, Self::Error>;
    fn unique(&self, unique: &Unique, rows: &RoaringBitmap, kept: &RoaringBitmap)
    -> Result<RoaringBitmap, Self::Error>;
}

/// Contacts that are certain to be counted, and those that may be; with the rates that were assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub at_least: u64,
    pub at_most: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Contacts that come to the node, each once.
    pub contacts: Count,
    /// Of a send: those who would get its message.
    pub messages: Count,
    /// When they come, in milliseconds since the epoch; the last holds all that follow.
    pub arrivals: Vec<(i64, Count)>,
}

/// Why a dry run did not look further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    Moves,
    Days,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DryRun {
    pub nodes: BTreeMap<NodeId, Forecast>,
    pub stopped: Option<Stopped>,
    /// Gates of steps that would not open by themselves, because they could not within their limit.
    pub held: BTreeSet<NodeId>,
}

#[derive(Default)]
struct Seen {
    certain: RoaringBitmap,
    possible: RoaringBitmap,
}

impl Seen {
    fn add(&mut self, rows: &RoaringBitmap, certain: bool) {
        if certain {
            self.certain |= rows;
        }
        self.possible |= rows;
    }

    fn count(&self) -> Count {
        Count { at_least: self.certain.len(), at_most: self.possible.len() }
    }
}

struct Walk<'w, T> {
    graph: &'w Graph,
    today: &'w T,
    assumed: &'w Assumed,
    /// Contacts under way: by time and place in reading order, those who are certain and those who may be.
    open: BTreeMap<(i64, usize), [RoaringBitmap; 2]>,
    order: BTreeMap<NodeId, usize>,
    places: Vec<NodeId>,
    seen: BTreeMap<NodeId, Seen>,
    messages: BTreeMap<NodeId, Seen>,
    /// Who got a message of a delivery.
    sent: BTreeMap<u16, RoaringBitmap>,
    taken: BTreeMap<(NodeId, Exit), u64>,
    kept: BTreeMap<NodeId, RoaringBitmap>,
    /// When the first contacts came to a continuing test.
    tested_from: BTreeMap<NodeId, i64>,
    /// Contacts at the gates of steps that have not opened.
    gates: BTreeMap<NodeId, [RoaringBitmap; 2]>,
    /// The latest time that was come to.
    clock: i64,
    found: DryRun,
    until: i64,
}

/// Walks `rows` through the graph from `now_ms`.
pub fn dry_run<T: Today>(
    graph: &Graph,
    rows: RoaringBitmap,
    now_ms: i64,
    today: &T,
    assumed: &Assumed,
) -> Result<DryRun, T::Error> {
    let places: Vec<NodeId> = graph.in_reading_order().into_iter().map(|node| node.id).collect();
    let order = places.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let mut walk = Walk {
        graph,
        today,
        assumed,
        open: BTreeMap::new(),
        order,
        places,
        seen: BTreeMap::new(),
        messages: BTreeMap::new(),
        sent: BTreeMap::new(),
        taken: BTreeMap::new(),
        kept: BTreeMap::new(),
        tested_from: BTreeMap::new(),
        gates: BTreeMap::new(),
        clock: now_ms,
        found: DryRun::default(),
        until: now_ms.saturating_add(i64::from(limits::DRY_RUN_DAYS_MAX) * DAY_MS),
    };
    walk.put(graph.start(), now_ms, rows, true);
    for _ in 0..limits::DRY_RUN_MOVES_MAX {
        walk.open_gates();
        let Some(((at, place), sets)) = walk.open.pop_first() else { return Ok(walk.end()) };
        walk.clock = walk.clock.max(at);
        let Some(node) = walk.places.get(place).and_then(|id| graph.node(*id)) else { continue };
        walk.arrive(node, at, &sets);
        for (rows, certain) in sets.into_iter().zip([true, false]) {
            if !rows.is_empty() {
                walk.step(node, at, rows, certain)?;
            }
        }
    }
    walk.found.stopped = Some(Stopped::Moves);
    Ok(walk.end())
}

impl<T: Today> Walk<'_, T> {
    fn end(mut self) -> DryRun {
        for node in self.graph.nodes() {
            let forecast = self.found.nodes.entry(node.id).or_default();
            forecast.contacts = self.seen.get(&node.id).map(Seen::count).unwrap_or_default();
            forecast.messages = self.messages.get(&node.id).map(Seen::count).unwrap_or_default();
        }
        self.found
    }

    fn put(&mut self, node: NodeId, at: i64, rows: RoaringBitmap, certain: bool) {
        let Some(place) = self.order.get(&node).filter(|_| !rows.is_empty()) else { return };
        if at > self.until {
            self.found.stopped = Some(Stopped::Days);
            return;
        }
        let [sure, maybe] = self.open.entry((at, *place)).or_default();
        *(if certain { sure } else { maybe }) |= rows;
    }

    fn leave(&mut self, node: &Node, exit: &Exit, at: i64, rows: RoaringBitmap, certain: bool) {
        if let Some(to) = self.graph.target(node.id, exit) {
            self.put(to, at, rows, certain);
        }
    }

    fn arrive(&mut self, node: &Node, at: i64, [sure, maybe]: &[RoaringBitmap; 2]) {
        let seen = self.seen.entry(node.id).or_default();
        seen.add(sure, true);
        seen.add(maybe, false);
        let count = Count { at_least: sure.len(), at_most: (sure | maybe).len() };
        let arrivals = &mut self.found.nodes.entry(node.id).or_default().arrivals;
        match arrivals.last_mut() {
            Some((last, sum)) if *last == at => sum.add(count),
            _ => arrivals.push((at, count)),
        }
        // The list is bounded: the last arrival takes what follows.
        while arrivals.len() > limits::DRY_RUN_ARRIVALS_MAX {
            if let (Some((_, more)), Some((_, last))) = (arrivals.pop(), arrivals.last_mut()) {
                last.add(more);
            }
        }
    }

    fn step(&mut self, node: &Node, at: i64, rows: RoaringBitmap, certain: bool) -> Result<(), T::Error> {
        match &node.kind {
            NodeKind::End { .. } => {}
            NodeKind::Start | NodeKind::SetAttribute(_) => self.leave(node, &Exit::NEXT, at, rows, certain),
            NodeKind::Step(_) => {
                let [sure, maybe] = self.gates.entry(node.id).or_default();
                *(if certain { sure } else { maybe }) |= rows;
            }
            NodeKind::Send { delivery, parts_undelivered, .. } => {
                self.send(node, *delivery, *parts_undelivered, at, rows, certain)?;
            }
            NodeKind::AbTest(test) => self.test(node, test, at, rows, certain)?,
            NodeKind::Split(split) => self.split(node, split, at, rows, certain)?,
            NodeKind::Condition(asked) => {
                let by = [(condition::TRUE, &asked.test)];
                self.sort(node, &by, &condition::FALSE, at, rows, certain)?;
            }
            NodeKind::Delay(delay) => self.wait(node, delay, at, rows, certain)?,
        }
        Ok(())
    }

    fn send(
        &mut self,
        node: &Node,
        delivery: u16,
        parts: bool,
        at: i64,
        rows: RoaringBitmap,
        certain: bool,
    ) -> Result<(), T::Error> {
        let before = self.sent.get(&delivery).cloned().unwrap_or_default();
        let new = &rows - &before;
        let sent = self.today.sendable(delivery, &new)?;
        self.messages.entry(node.id).or_default().add(&sent, certain);
        let took = self.assumed.per_second.filter(|rate| *rate > 0).map_or(0, |rate| {
            i64::try_from(sent.len()).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000) / i64::from(rate)
        });
        if certain {
            *self.sent.entry(delivery).or_default() |= &sent;
        }
        let not_sent = &new - &sent;
        let passing = &rows & &before;
        let out = if parts { Exit::UNDELIVERED } else { Exit::NEXT };
        self.leave(node, &out, at, not_sent, certain);
        self.leave(node, &Exit::NEXT, at, passing, certain);
        self.leave(node, &Exit::NEXT, at.saturating_add(took), sent, certain);
        Ok(())
    }

    /// The sample goes to the arms; who wins is unknown, so that the rest may get any of them.
    fn test(
        &mut self,
        node: &Node,
        test: &AbTest,
        at: i64,
        rows: RoaringBitmap,
        certain: bool,
    ) -> Result<(), T::Error> {
        let weights: Vec<u32> = test.arms.iter().map(|arm| arm.weight).collect();
        if test.continuing() {
            return self.continuing(node, test, &weights, at, rows, certain);
        }
        let sample = test.sample.of(rows.len());
        let mut sizes = quotas(sample, &weights)?;
        sizes.push(rows.len().saturating_sub(sample));
        let mut parts = rank::cut(&key(node), &rows, &sizes)?;
        let rest = parts.pop().unwrap_or_default();
        for (arm, part) in test.arms.iter().zip(parts) {
            self.leave(node, &arm.exit, at, part, certain);
        }
        let decided = at.saturating_add(i64::from(test.decide_after_seconds) * 1_000);
        for exit in test.exits().into_iter().chain([ab_test::REST]) {
            self.leave(node, &exit, decided, rest.clone(), false);
        }
        Ok(())
    }

    /// Everybody goes through the arms; who comes after the first look may get any of them, if that found a winner.
    fn continuing(
        &mut self,
        node: &Node,
        test: &AbTest,
        weights: &[u32],
        at: i64,
        rows: RoaringBitmap,
        certain: bool,
    ) -> Result<(), T::Error> {
        let from = *self.tested_from.entry(node.id).or_insert(at);
        if at >= from.saturating_add(i64::from(test.look_every_seconds) * 1_000) {
            for arm in &test.arms {
                self.leave(node, &arm.exit, at, rows.clone(), false);
            }
            return Ok(());
        }
        for (arm, part) in test.arms.iter().zip(rank::by_weights(&key(node), &rows, weights)?) {
            self.leave(node, &arm.exit, at, part, certain);
        }
        Ok(())
    }

    fn split(
        &mut self,
        node: &Node,
        split: &Split,
        at: i64,
        rows: RoaringBitmap,
        certain: bool,
    ) -> Result<(), T::Error> {
        match split {
            Split::Weights(shares) => {
                let weights: Vec<u32> = shares.iter().map(|(_, weight)| *weight).collect();
                let parts = rank::by_weights(&key(node), &rows, &weights)?;
                for ((exit, _), part) in shares.iter().zip(parts) {
                    self.leave(node, exit, at, part, certain);
                }
            }
            Split::AtMost(caps) => {
                let mut left = rows.len();
                let mut sizes = Vec::with_capacity(caps.len() + 1);
                for (exit, cap) in caps {
                    let taken = self.taken.entry((node.id, exit.clone())).or_default();
                    let size = cap.saturating_sub(*taken).min(left);
                    left -= size;
                    if certain {
                        *taken += size;
                    }
                    sizes.push(size);
                }
                sizes.push(left);
                let parts = rank::cut(&key(node), &rows, &sizes)?;
                let exits = caps.iter().map(|(exit, _)| exit.clone()).chain([split::REMAINING]);
                for (exit, part) in exits.zip(parts) {
                    self.leave(node, &exit, at, part, certain);
                }
            }
            Split::Segments(branches) => {
                let tests: Vec<(Exit, Test)> =
                    branches.iter().map(|(exit, text)| (exit.clone(), Test::Matches(text.clone()))).collect();
                let by: Vec<(Exit, &Test)> = tests.iter().map(|(exit, test)| (exit.clone(), test)).collect();
                self.sort(node, &by, &split::REMAINING, at, rows, certain)?;
            }
            Split::Interactions(branches) => {
                let by: Vec<(Exit, &Test)> = branches.iter().map(|(exit, test)| (exit.clone(), test)).collect();
                self.sort(node, &by, &split::REMAINING, at, rows, certain)?;
            }
        }
        Ok(())
    }

    /// By the first question that fits; where one has no answer, contacts may leave by it and by all that follow.
    fn sort(
        &mut self,
        node: &Node,
        by: &[(Exit, &Test)],
        rest: &Exit,
        at: i64,
        mut rows: RoaringBitmap,
        mut certain: bool,
    ) -> Result<(), T::Error> {
        for (exit, test) in by {
            match self.fitting(node, test, &rows, certain)? {
                Some(fitting) => {
                    let sorted = sets::condition(&rows, &fitting);
                    rows = sorted.no;
                    self.leave(node, exit, at, sorted.yes, certain);
                }
                None => {
                    certain = false;
                    self.leave(node, exit, at, rows.clone(), certain);
                }
            }
        }
        self.leave(node, rest, at, rows, certain);
        Ok(())
    }

    fn fitting(
        &mut self,
        node: &Node,
        test: &Test,
        rows: &RoaringBitmap,
        certain: bool,
    ) -> Result<Option<RoaringBitmap>, T::Error> {
        Ok(Some(match test {
            Test::Matches(expression) => self.today.matching(expression)?,
            Test::Engaged(asked) => self.today.engaged(asked)?,
            Test::Unique(unique) => {
                let kept = self.kept.entry(node.id).or_default();
                let fitting = self.today.unique(unique, rows, kept)?;
                if certain {
                    *kept |= &fitting;
                }
                fitting
            }
            _ => return self.by_rate(node, self.assumed.rates.of(test), rows).map_err(T::Error::from),
        }))
    }

    fn by_rate(
        &self,
        node: &Node,
        rate: Option<u32>,
        rows: &RoaringBitmap,
    ) -> Result<Option<RoaringBitmap>, SplitError> {
        let Some(rate) = rate.map(|rate| rate.min(WHOLE)) else { return Ok(None) };
        let parts = rank::by_weights(&key(node), rows, &[rate, WHOLE - rate])?;
        Ok(parts.into_iter().next())
    }

    /// Who reacts is taken to do so at once.
    fn wait(
        &mut self,
        node: &Node,
        delay: &Delay,
        at: i64,
        rows: RoaringBitmap,
        certain: bool,
    ) -> Result<(), T::Error> {
        let Delay::Event { event, .. } = delay else {
            let launch = self.assumed.launch.as_ref().filter(|_| matches!(delay, Delay::Launch));
            for (due, rows) in self.times(delay, at, rows)? {
                let late = launch.is_some_and(|launch| launch.is_late(due, Timestamp(at)));
                let exit = if late { delay::LATE } else { delay.due_exit() };
                self.leave(node, &exit, due.0.max(at), rows, certain);
            }
            return Ok(());
        };
        let due = delay.due(Timestamp(at)).map_or(at, |due| due.0);
        let rate = match event {
            WaitEvent::Opened(_) => self.assumed.rates.opened,
            WaitEvent::Clicked(_) => self.assumed.rates.clicked,
            WaitEvent::Converted(_) | WaitEvent::Custom { .. } => None,
        };
        match self.by_rate(node, rate, &rows)? {
            Some(reacting) => {
                let sorted = sets::condition(&rows, &reacting);
                self.leave(node, &delay::HAPPENED, at, sorted.yes, certain);
                self.leave(node, &delay::TIMED_OUT, due, sorted.no, certain);
            }
            None => {
                self.leave(node, &delay::HAPPENED, at, rows.clone(), false);
                self.leave(node, &delay::TIMED_OUT, due, rows, false);
            }
        }
        Ok(())
    }
}

impl<T: Today> Walk<'_, T> {
    /// When who leaves a delay: once for all, or by each contact's own clocks.
    fn times(
        &self,
        delay: &Delay,
        at: i64,
        rows: RoaringBitmap,
    ) -> Result<BTreeMap<Timestamp, RoaringBitmap>, T::Error> {
        let now = Timestamp(at);
        match (delay.due(now), delay, &self.assumed.launch) {
            (Some(due), _, _) => Ok(BTreeMap::from([(due, rows)])),
            (None, Delay::Clock { .. } | Delay::Dated { .. }, _) => {
                let zones = self.today.zones(&rows)?;
                Ok(by_zone(&rows, &zones, &TimeZone::UTC, |zone| delay.due_by(now, zone).unwrap_or(now)))
            }
            (None, Delay::Launch, Some(launch)) => {
                let zones = self.today.zones(&rows)?;
                Ok(by_zone(&rows, &zones, &launch.default_zone, |zone| instant(launch.local, zone)))
            }
            // Started at one instant for all: everybody passes.
            (None, _, _) => Ok(BTreeMap::from([(now, rows)])),
        }
    }
}

impl Count {
    fn add(&mut self, other: Count) {
        self.at_least += other.at_least;
        self.at_most += other.at_most;
    }
}

/// A dry run draws as no run does: runs are numbered from 1.
fn key(node: &Node) -> SplitKey {
    SplitKey::new(RunId(0), node.id)
}

#[cfg(test)]
mod tests;
