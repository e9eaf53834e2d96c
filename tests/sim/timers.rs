//! A model of the delays of a run, contact by contact: since when each rests where. Whoever comes back to a delay, by a loop of the
//! flow, rests for its whole length again: a timer of an earlier stay never lets anybody go (re-entry).
//!
//! Kept from the positions alone and asked at each move, whatever kills, pauses and jumps of the clock lie in between.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use estafette::clock::Timestamp;
use estafette::flow::nodes::Delay;
use estafette::flow::{NodeId, NodeKind};
use estafette::ids::RunId;
use estafette::ledger::flowing::Moved;
use estafette::ledger::{Run, State};

#[derive(Default)]
pub(crate) struct Timers {
    /// By run and delay: since when each row rests there and the shortest length of the delay meanwhile (an edit changes it
    /// for those who come after), and how often it has come.
    resting: BTreeMap<(RunId, NodeId, u32), (Timestamp, i64)>,
    lengths: BTreeMap<(RunId, NodeId), i64>,
    stays: BTreeMap<(RunId, NodeId, u32), u32>,
}

fn length_ms(delay: &Delay) -> Option<i64> {
    match delay {
        Delay::Seconds(seconds) | Delay::Event { seconds, .. } => Some(i64::from(*seconds) * 1_000),
        Delay::Until(_) | Delay::Clock { .. } | Delay::Dated { .. } | Delay::Launch => None,
    }
}

impl Timers {
    /// Before a move is applied: whoever goes because the time has come has rested for all of it.
    pub(crate) fn moving(&self, run: &Run, moved: &Moved) {
        let Some(NodeKind::Delay(delay)) = run.graph.node(moved.node).map(|node| &node.kind) else { return };
        if length_ms(delay).is_none() {
            return;
        }
        for (_, rows) in moved.exits.iter().filter(|(exit, _)| *exit == delay.due_exit()) {
            for row in rows {
                let place = (run.id, moved.node, row);
                let (since, length) = self.resting.get(&place).expect("only who rests there leaves");
                let rested = moved.at.0 - since.0;
                let stay = self.stays[&place];
                assert!(
                    rested >= *length,
                    "row {row} left {} after {rested} of {length} ms, in stay {stay}",
                    moved.node
                );
            }
        }
    }

    /// Everything is told anew: frames were lost.
    pub(crate) fn restart(&mut self) {
        *self = Timers::default();
    }

    /// After anything happened.
    pub(crate) fn look(&mut self, state: &State, now: Timestamp) {
        state.runs.values().filter(|run| run.state.is_live()).for_each(|run| self.look_at(run, now));
    }

    fn look_at(&mut self, run: &Run, now: Timestamp) {
        for node in run.graph.nodes().filter(|node| matches!(node.kind, NodeKind::Delay(_))) {
            let here = run.positions.at(node.id).cloned().unwrap_or_default();
            let known =
                self.resting.range((run.id, node.id, 0)..=(run.id, node.id, u32::MAX)).map(|((.., row), _)| *row);
            let known: RoaringBitmap = known.collect();
            let NodeKind::Delay(delay) = &node.kind else { continue };
            let length = length_ms(delay).unwrap_or(0);
            if self.lengths.insert((run.id, node.id), length).is_some_and(|before| before != length) {
                let stays = self.resting.range_mut((run.id, node.id, 0)..=(run.id, node.id, u32::MAX));
                stays.for_each(|(_, (_, least))| *least = length.min(*least));
            }
            for row in &known - &here {
                self.resting.remove(&(run.id, node.id, row));
            }
            for row in &here - &known {
                self.resting.insert((run.id, node.id, row), (now, length));
                *self.stays.entry((run.id, node.id, row)).or_default() += 1;
            }
        }
    }

    /// How often contacts came back to a delay where they had been before.
    pub(crate) fn returns(&self) -> u64 {
        self.stays.values().map(|stays| u64::from(stays - 1)).sum()
    }
}
