//! Where the contacts of a run are, and how sets of them move.
//!
//! A move is asked for by node, exit and rows; it is checked whole before anything changes, and then walks on through
//! every node that only passes. The journaled fact is the request, and replaying it gives the same moves.
//!
//! Invariants:
//! 1. A row is at no more than one node; once entered it is at exactly one, for good.
//! 2. A refused move changes nothing.
//! 3. No row rests at a node that passes (a start).
//! 4. A node without rows has no entry, so that equal positions have equal bytes.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::graph::{Exit, Graph, NodeId, NodeKind};
use crate::limits;

/// The rows at each node where some are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Positions {
    at: BTreeMap<NodeId, RoaringBitmap>,
}

/// One hop of a set of rows. `from` is `None` when they enter the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    pub from: Option<NodeId>,
    pub to: NodeId,
    pub rows: RoaringBitmap,
}

/// Why rows cannot move as asked. Each is a fault of the caller: nothing that a contact does leads here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("{node} is no node of the flow")]
    UnknownNode { node: NodeId },
    #[error("{node} has no exit {exit:?}", exit = .exit.name())]
    UnknownExit { node: NodeId, exit: Exit },
    #[error("{missing} of {asked} rows are not at {node}")]
    NotThere { node: NodeId, asked: u64, missing: u64 },
    #[error("{count} rows have entered the run already")]
    EnteredBefore { count: u64 },
    #[error("from {node} on, {steps} nodes in a row only pass")]
    NeverRests { node: NodeId, steps: usize },
}

impl Positions {
    /// The rows at a node; `None` if there are none.
    pub fn at(&self, node: NodeId) -> Option<&RoaringBitmap> {
        self.at.get(&node)
    }

    /// Every set, to be stored in another way; its rows stay.
    pub fn each_set(&mut self, change: &mut dyn FnMut(&mut RoaringBitmap)) {
        self.at.values_mut().for_each(change);
    }

    /// Every set, to be given other rows.
    pub fn sets_mut(&mut self) -> impl Iterator<Item = &mut RoaringBitmap> {
        self.at.values_mut()
    }

    /// How many rows are at a node.
    pub fn count(&self, node: NodeId) -> u64 {
        self.at.get(&node).map_or(0, RoaringBitmap::len)
    }

    /// Every node with rows, in order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &RoaringBitmap)> {
        self.at.iter().map(|(node, rows)| (*node, rows))
    }

    /// Rows in the run. Exact because no row is at two nodes.
    pub fn total(&self) -> u64 {
        self.at.values().map(RoaringBitmap::len).sum()
    }

    /// Where one row is.
    pub fn node_of(&self, row: u32) -> Option<NodeId> {
        self.at.iter().find(|(_, rows)| rows.contains(row)).map(|(node, _)| *node)
    }

    /// Whether every row has reached an end: nobody of the run can still arrive anywhere.
    pub fn all_ended(&self, graph: &Graph) -> bool {
        self.at.keys().all(|id| graph.node(*id).is_some_and(|n| matches!(n.kind, NodeKind::End { .. })))
    }

    /// Invariants 1, 3 and 4, and that every node exists; for snapshots, recovery and `check`. Answers the first node
    /// that breaks one.
    pub fn verify(&self, graph: &Graph) -> Result<(), StepError> {
        let mut seen = RoaringBitmap::new();
        for (id, rows) in &self.at {
            let node = graph.node(*id).ok_or(StepError::UnknownNode { node: *id })?;
            if node.kind.passes() || rows.is_empty() {
                return Err(StepError::NeverRests { node: *id, steps: 0 });
            }
            let twice = seen.intersection_len(rows);
            if twice > 0 {
                return Err(StepError::EnteredBefore { count: twice });
            }
            seen |= rows;
        }
        Ok(())
    }

    fn put(&mut self, node: NodeId, rows: RoaringBitmap) {
        if !rows.is_empty() {
            *self.at.entry(node).or_default() |= rows;
        }
    }

    fn take(&mut self, node: NodeId, rows: &RoaringBitmap) {
        if let Some(present) = self.at.get_mut(&node) {
            *present -= rows;
            if present.is_empty() {
                self.at.remove(&node);
            }
        }
    }
}

/// Lets rows into the run, at its start. Answers each hop, in order; none if `rows` is empty.
pub fn enter(graph: &Graph, positions: &mut Positions, rows: &RoaringBitmap) -> Result<Vec<Move>, StepError> {
    let count = positions.at.values().map(|present| present.intersection_len(rows)).sum();
    if count > 0 {
        return Err(StepError::EnteredBefore { count });
    }
    let hops = walk(graph, graph.start())?;
    Ok(apply(positions, None, hops, rows))
}

/// Lets rows that are at `node` leave it by `exit`. Answers each hop, in order; none if `rows` is empty.
pub fn advance(
    graph: &Graph,
    positions: &mut Positions,
    node: NodeId,
    exit: &Exit,
    rows: &RoaringBitmap,
) -> Result<Vec<Move>, StepError> {
    if graph.node(node).is_none() {
        return Err(StepError::UnknownNode { node });
    }
    let target = graph.target(node, exit).ok_or_else(|| StepError::UnknownExit { node, exit: exit.clone() })?;
    let present = positions.at(node).map_or(0, |at| at.intersection_len(rows));
    if present < rows.len() {
        return Err(StepError::NotThere { node, asked: rows.len(), missing: rows.len() - present });
    }
    let hops = walk(graph, target)?;
    positions.take(node, rows);
    Ok(apply(positions, Some(node), hops, rows))
}

/// Takes rows from a node to another one, whatever links there are: a new version of the graph leads on from an end.
pub fn relocate(
    graph: &Graph,
    positions: &mut Positions,
    from: NodeId,
    to: NodeId,
    rows: &RoaringBitmap,
) -> Result<Vec<Move>, StepError> {
    let present = positions.at(from).map_or(0, |at| at.intersection_len(rows));
    if present < rows.len() {
        return Err(StepError::NotThere { node: from, asked: rows.len(), missing: rows.len() - present });
    }
    let hops = walk(graph, to)?;
    positions.take(from, rows);
    Ok(apply(positions, Some(from), hops, rows))
}

/// The nodes that rows arriving at `first` go through at once; the last is where they rest.
fn walk(graph: &Graph, first: NodeId) -> Result<Vec<NodeId>, StepError> {
    let mut hops = vec![first];
    let mut here = first;
    while hops.len() <= limits::FLOW_DEPTH_MAX {
        let node = graph.node(here).ok_or(StepError::UnknownNode { node: here })?;
        if !node.kind.passes() {
            return Ok(hops);
        }
        here = graph.target(here, &Exit::NEXT).ok_or(StepError::UnknownExit { node: here, exit: Exit::NEXT })?;
        hops.push(here);
    }
    Err(StepError::NeverRests { node: first, steps: hops.len() })
}

fn apply(positions: &mut Positions, from: Option<NodeId>, hops: Vec<NodeId>, rows: &RoaringBitmap) -> Vec<Move> {
    if rows.is_empty() {
        return Vec::new();
    }
    if let Some(rest) = hops.last() {
        positions.put(*rest, rows.clone());
    }
    let mut before = from;
    hops.into_iter().map(|to| Move { from: before.replace(to), to, rows: rows.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::graph::tests::single;
    use super::super::graph::{EndKind, GraphParts};
    use super::*;

    const SEND: NodeId = NodeId(1);
    const END: NodeId = NodeId(2);

    fn rows(list: &[u32]) -> RoaringBitmap {
        list.iter().copied().collect()
    }

    #[test]
    fn entering_rows_pass_the_start_and_rest_at_the_send() {
        let graph = Graph::new(single()).expect("valid");
        let mut positions = Positions::default();
        let moves = enter(&graph, &mut positions, &rows(&[1, 2, 3])).expect("enters");
        let hops: Vec<_> = moves.iter().map(|m| (m.from, m.to, m.rows.len())).collect();
        assert_eq!(hops, [(None, NodeId(0), 3), (Some(NodeId(0)), SEND, 3)], "hops");
        assert_eq!(positions.node_of(2), Some(SEND), "rests at the send");
        assert!(!positions.all_ended(&graph), "not ended");

        advance(&graph, &mut positions, SEND, &Exit::NEXT, &rows(&[2])).expect("leaves");
        assert_eq!((positions.count(SEND), positions.count(END)), (2, 1), "one moved");
        advance(&graph, &mut positions, SEND, &Exit::NEXT, &rows(&[1, 3])).expect("leaves");
        assert!(positions.all_ended(&graph), "ended");
        assert_eq!(positions.iter().count(), 1, "an empty node has no entry");
        assert_eq!(positions.total(), 3, "nobody lost");
    }

    #[test]
    fn a_refused_move_changes_nothing() {
        let graph = Graph::new(single()).expect("valid");
        let mut positions = Positions::default();
        enter(&graph, &mut positions, &rows(&[1, 2])).expect("enters");
        let before = positions.clone();
        let later = Exit("later".into());
        let refusals = [
            (enter(&graph, &mut positions, &rows(&[2, 3])), StepError::EnteredBefore { count: 1 }),
            (
                advance(&graph, &mut positions, SEND, &Exit::NEXT, &rows(&[1, 3, 4])),
                StepError::NotThere { node: SEND, asked: 3, missing: 2 },
            ),
            (
                advance(&graph, &mut positions, SEND, &later, &rows(&[1])),
                StepError::UnknownExit { node: SEND, exit: later.clone() },
            ),
            (
                advance(&graph, &mut positions, END, &Exit::NEXT, &rows(&[])),
                StepError::UnknownExit { node: END, exit: Exit::NEXT },
            ),
            (
                advance(&graph, &mut positions, NodeId(9), &Exit::NEXT, &rows(&[1])),
                StepError::UnknownNode { node: NodeId(9) },
            ),
        ];
        for (answer, expected) in refusals {
            assert_eq!(answer, Err(expected.clone()), "{expected}");
        }
        assert_eq!(positions, before, "unchanged");
    }

    #[test]
    fn no_rows_make_no_move() {
        let graph = Graph::new(single()).expect("valid");
        let mut positions = Positions::default();
        assert_eq!(enter(&graph, &mut positions, &rows(&[])), Ok(vec![]), "enter");
        assert_eq!(advance(&graph, &mut positions, SEND, &Exit::NEXT, &rows(&[])), Ok(vec![]), "advance");
        assert_eq!(positions, Positions::default(), "no entries");
        assert!(positions.all_ended(&graph), "an empty run has ended");
    }

    #[test]
    fn positions_that_break_an_invariant_are_found() {
        let graph = Graph::new(single()).expect("valid");
        let broken = |entries: &[(NodeId, &[u32])]| Positions {
            at: entries.iter().map(|(node, list)| (*node, rows(list))).collect(),
        };
        assert_eq!(broken(&[(SEND, &[1]), (END, &[2])]).verify(&graph), Ok(()), "sound");
        let twice = broken(&[(SEND, &[1, 2]), (END, &[2])]).verify(&graph);
        assert_eq!(twice, Err(StepError::EnteredBefore { count: 1 }), "a row at two nodes");
        let resting = broken(&[(NodeId(0), &[1])]).verify(&graph);
        assert_eq!(resting, Err(StepError::NeverRests { node: NodeId(0), steps: 0 }), "a row at the start");
        assert!(broken(&[(SEND, &[])]).verify(&graph).is_err(), "an empty entry");
        assert!(broken(&[(NodeId(7), &[1])]).verify(&graph).is_err(), "a node that does not exist");
    }

    /// start → a layered graph of sends in which branches merge → ends.
    fn layered(targets: &[prop::sample::Index]) -> Graph {
        let mut parts = GraphParts::default();
        let start = parts.node(NodeId(0), "start", NodeKind::Start);
        let sends: Vec<NodeId> =
            (1..=targets.len() as u32).map(|id| parts.node(NodeId(id), "send", NodeKind::send(0, 0))).collect();
        let ends: Vec<NodeId> =
            (101..103).map(|id| parts.node(NodeId(id), "end", NodeKind::End { kind: EndKind::Neutral })).collect();
        parts.edge(start, Exit::NEXT, sends[0]);
        for (at, pick) in targets.iter().enumerate() {
            let later: Vec<NodeId> = sends[at + 1..].iter().chain(&ends).copied().collect();
            parts.edge(sends[at], Exit::NEXT, later[pick.index(later.len())]);
        }
        keep_reachable(&mut parts);
        Graph::new(parts).expect("forward links make a valid graph")
    }

    fn keep_reachable(parts: &mut GraphParts) {
        let mut reached = vec![NodeId(0)];
        let mut at = 0;
        while at < reached.len() {
            let next = parts.edges.iter().filter(|e| e.from == reached[at]).map(|e| e.to);
            reached.extend(next.collect::<Vec<_>>());
            at += 1;
        }
        parts.nodes.retain(|n| reached.contains(&n.id));
        parts.edges.retain(|e| reached.contains(&e.from));
    }

    proptest! {
        #[test]
        fn each_contact_is_at_exactly_one_node(
            targets in proptest::collection::vec(any::<prop::sample::Index>(), 1..8),
            steps in proptest::collection::vec(
                (prop::option::weighted(0.8, 0u32..9), proptest::collection::btree_set(0u32..200_000, 0..40)), 1..60),
        ) {
            let graph = layered(&targets);
            let mut positions = Positions::default();
            let mut model: BTreeMap<u32, NodeId> = BTreeMap::new();
            for (node, picked) in steps {
                let wanted: RoaringBitmap = picked.iter().copied().collect();
                let before = positions.clone();
                let answer = match node {
                    None => enter(&graph, &mut positions, &wanted),
                    Some(id) => {
                        let id = NodeId(id);
                        let here = positions.at(id).cloned().unwrap_or_default();
                        // Mostly rows that are there, with now and then a stranger among them.
                        let asked = if wanted.len().is_multiple_of(5) { wanted } else { here.iter().take(wanted.len() as usize).collect() };
                        advance(&graph, &mut positions, id, &Exit::NEXT, &asked)
                    }
                };
                match answer {
                    Err(_) => prop_assert_eq!(&positions, &before, "a refused move changes nothing"),
                    Ok(moves) => for hop in &moves {
                        for row in &hop.rows {
                            prop_assert_eq!(model.insert(row, hop.to), hop.from, "row {} was where the hop says", row);
                        }
                    }
                }
                prop_assert_eq!(positions.verify(&graph), Ok(()));
                prop_assert_eq!(positions.total(), model.len() as u64, "nobody lost, nobody twice");
                for (row, node) in &model {
                    prop_assert_eq!(positions.node_of(*row), Some(*node), "row {}", row);
                }
            }
        }
    }
}
