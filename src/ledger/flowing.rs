//! What a run remembers of its flow besides who is where: tests and their decisions, waits, how many came through.
//!
//! Invariants: FL-1 the rows that wait by a node's timers are at the node, each with one timer; FL-2 a test is cut once and decided
//! once; FL-3 a decision is never made again, whatever comes back afterwards.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::flow::delay::Waits;
use crate::flow::split::Stream;
use crate::flow::{Exit, NodeId};
use crate::ids::{DeliveryId, RunId};
use crate::ledger::rows::RowSet;
use crate::ledger::watch::Watch;
use crate::segments::skip::SkipReason;

/// Rows left a node, each set by its exit; one frame, whatever the number of exits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    pub run: RunId,
    pub node: NodeId,
    pub exits: Vec<(Exit, RoaringBitmap)>,
    pub at: Timestamp,
}

/// A stream of rows was shared out: the move is the assignment, and the stream is where the split has got to after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    pub moved: Moved,
    pub stream: Stream,
}

/// Rows at a delay got the second (since the epoch) at which they leave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scheduled {
    pub run: RunId,
    pub node: NodeId,
    pub due: Vec<(i64, RoaringBitmap)>,
    pub at: Timestamp,
}

/// Rows that arrived at a send entered its delivery; the skipped ones are among `rows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    pub delivery: DeliveryId,
    pub node: NodeId,
    pub rows: RowSet,
    pub skipped: Vec<(SkipReason, RoaringBitmap)>,
    pub at: Timestamp,
}

/// One arm as it stood at a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmFigures {
    pub arm: Exit,
    /// Contacts whose message was accepted.
    pub accepted: u64,
    /// Of those, contacts with the event that the test counts; machines left out.
    pub events: u64,
    pub unsubscribed: u64,
    pub complained: u64,
    /// Of the accepted, contacts whose window is over, bounced or not: what the sizes of the sample are held against.
    #[serde(default)]
    pub matured: u64,
    /// Of the matured, contacts whose message has not come back: on e-mail that is what delivered means. Those who are judged:
    /// events, opt-outs and complaints are theirs.
    #[serde(default)]
    pub delivered: u64,
    /// Of the accepted, contacts whose message came back.
    #[serde(default)]
    pub bounced: u64,
    /// Contacts of the sample that got, or will get, this arm.
    #[serde(default)]
    pub contacts: u64,
    /// Of the delivered, contacts with such an event by a machine, or perhaps one, and none by a person.
    #[serde(default)]
    pub machine: u64,
    #[serde(default)]
    pub suspect: u64,
    /// Contacts of the arm whose message was refused, could not be made, or has no known outcome.
    #[serde(default)]
    pub rejected: u64,
    #[serde(default)]
    pub skipped: u64,
    #[serde(default)]
    pub unknown: u64,
}

impl ArmFigures {
    /// An arm of which nothing is known yet.
    pub fn none(arm: Exit) -> ArmFigures {
        ArmFigures {
            arm,
            accepted: 0,
            events: 0,
            unsubscribed: 0,
            complained: 0,
            matured: 0,
            delivered: 0,
            bounced: 0,
            contacts: 0,
            machine: 0,
            suspect: 0,
            rejected: 0,
            skipped: 0,
            unknown: 0,
        }
    }
}

/// A test was looked at as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    pub run: RunId,
    pub node: NodeId,
    /// From 1.
    pub look: u16,
    pub arms: Vec<ArmFigures>,
    /// The name of the verdict.
    pub verdict: String,
    /// The verdict with its statistics, as JSON: kept as it was said, whatever later versions say.
    pub statistics: String,
    pub at: Timestamp,
}

/// What happens to the rest of a test, once and for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub run: RunId,
    pub node: NodeId,
    /// `None`: nobody; the rest gets nothing.
    pub winner: Option<Exit>,
    /// Whether the winner is proven to be better.
    pub proven: bool,
    /// `engine`, or who chose.
    pub by: String,
    /// In words, with the numbers.
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestMemory {
    pub cut_at: Option<Timestamp>,
    pub looks: Vec<Looked>,
    pub decided: Option<Decided>,
    /// Its counters, from the cut to the decision.
    #[serde(default)]
    pub watch: Option<Watch>,
    /// Pauses of the run before the cut: only those after it move the looks.
    #[serde(default)]
    pub paused_before_ms: i64,
    /// By how much pauses had moved its looks when it was decided.
    #[serde(default)]
    pub moved_ms: Option<i64>,
}

impl TestMemory {
    /// When the last window ends of those who came so far; `None` if a look has seen all of them, or there can be none.
    pub fn unseen_until(&self) -> Option<Timestamp> {
        let end = self.watch.as_ref().and_then(|watch| watch.windows.last_end())?;
        self.looks.last().is_none_or(|look| look.at < end && look.look < u16::MAX).then_some(end)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowMemory {
    pub tests: BTreeMap<NodeId, TestMemory>,
    /// Rows that have their time, by node.
    pub waits: BTreeMap<NodeId, Waits>,
    /// Contacts that ever arrived at a node.
    pub arrived: BTreeMap<NodeId, u64>,
    /// Contacts that ever left a node by an exit.
    pub left: BTreeMap<NodeId, BTreeMap<Exit, u64>>,
    /// Where the split of a stream has got to.
    #[serde(default)]
    pub streams: BTreeMap<NodeId, Stream>,
    /// Contacts that went on as the only one of their address.
    #[serde(default)]
    pub kept: BTreeMap<NodeId, RoaringBitmap>,
    /// Contacts of whom an event came that a delay waits for, whatever it is about, by its type; not of the run alone.
    #[serde(default)]
    pub happened: BTreeMap<String, RoaringBitmap>,
}

impl FlowMemory {
    pub fn left_by(&self, node: NodeId, exit: &Exit) -> u64 {
        self.left.get(&node).and_then(|exits| exits.get(exit)).copied().unwrap_or(0)
    }

    /// Rows of a wait that have their time.
    pub fn scheduled(&self, node: NodeId) -> RoaringBitmap {
        self.waits.get(&node).map(Waits::rows).unwrap_or_default()
    }

    pub fn scheduled_count(&self, node: NodeId) -> u64 {
        self.waits.get(&node).map_or(0, Waits::len)
    }

    /// Rows of a wait whose time has come.
    pub fn due(&self, node: NodeId, now: Timestamp) -> RoaringBitmap {
        self.waits.get(&node).map(|waits| waits.due(now)).unwrap_or_default()
    }

    pub(super) fn schedule(&mut self, fact: &Scheduled) {
        let waits = self.waits.entry(fact.node).or_default();
        for (second, rows) in &fact.due {
            waits.enter(rows, Timestamp(second.saturating_mul(1_000)), fact.at);
        }
    }

    pub(super) fn leave(&mut self, node: NodeId, exit: &Exit, rows: &RoaringBitmap) {
        *self.left.entry(node).or_default().entry(exit.clone()).or_default() += rows.len();
        if let Some(waits) = self.waits.get_mut(&node) {
            waits.leave(rows);
            if waits.is_empty() {
                self.waits.remove(&node);
            }
        }
    }
}
