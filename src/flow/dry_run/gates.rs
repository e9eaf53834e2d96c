//! The gates of steps in a dry run: everybody who comes rests there until the step would start.

use super::{NodeId, NodeKind, Today, Walk};
use crate::flow::graph::Exit;

impl<T: Today> Walk<'_, T> {
    /// A step starts at its hour, or as soon as nobody is before it any more, with everybody who has come: nobody is late
    /// for it, because nobody's message is deferred here. One that could not start within its limit is started by a person.
    pub(super) fn open_gates(&mut self) {
        let ready: Vec<NodeId> = self.gates.keys().copied().filter(|gate| self.is_drained(*gate)).collect();
        for id in ready {
            let Some(NodeKind::Step(gate)) = self.graph.node(id).map(|node| &node.kind) else { continue };
            let Some(sets) = self.gates.remove(&id) else { continue };
            let at = self.clock.max(gate.effective);
            if gate.is_too_late(at) {
                self.found.held.insert(id);
            }
            for (rows, certain) in sets.into_iter().zip([true, false]) {
                if let Some(to) = self.graph.target(id, &Exit::NEXT) {
                    self.put(to, at, rows, certain);
                }
            }
        }
    }

    fn is_drained(&self, gate: NodeId) -> bool {
        let upstream = self.graph.upstream(gate);
        let on_the_way = self.open.keys().filter_map(|(_, place)| self.places.get(*place));
        !on_the_way.chain(self.gates.keys()).any(|node| *node != gate && upstream.contains(node))
            && !self.open.keys().any(|(_, place)| self.places.get(*place) == Some(&gate))
    }
}
