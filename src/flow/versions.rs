//! Sends of one message in several languages: a node sorts by language, and each language is a send of its own.
//!
//! What is asked about, or said of, the send of the default language is meant for all of them. Who owns the state: the graph.
//!
//! Invariant: a node that sorts leads to the versions of one send, and nothing else leads to them.

use super::graph::{Graph, NodeId, NodeKind};
use super::nodes::split;

impl Graph {
    /// The sends of a send's message: itself, and those of the same message in other languages.
    pub fn versions(&self, send: NodeId) -> impl Iterator<Item = NodeId> {
        let others = self.languages.get(&send).map_or(&[][..], Vec::as_slice);
        std::iter::once(send).chain(others.iter().copied())
    }

    /// The send of the default language, of one in another and of the node that sorts by language before them. Any other
    /// node is itself.
    pub fn send_of_all(&self, node: NodeId) -> NodeId {
        let of_version = self.languages.iter().find(|(_, others)| others.contains(&node)).map(|(send, _)| *send);
        let is_split = matches!(self.node(node).map(|n| &n.kind), Some(NodeKind::Split(_)));
        let rest = || self.target(node, &split::REMAINING).filter(|_| is_split);
        of_version.or_else(|| rest().filter(|send| self.languages.contains_key(send))).unwrap_or(node)
    }
}
