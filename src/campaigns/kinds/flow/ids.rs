//! Numbers of nodes from the texts that people gave them.
//!
//! A number is 29 bits of a keyed hash of the text, so that it is the same in every version of a campaign, without a table
//! that would have to be kept: a node that is removed and comes back has its number again, and no other node ever gets it.
//! Of a thousand nodes two share one with a probability of one in a thousand; that is refused, with both ids, and another id
//! for one of them mends it. The texts are journaled in the graph of the run.

use crate::flow::NodeId;
use crate::flow::graph::IMPLICIT_END_FIRST;

const CONTEXT: &str = "estafette 2026-11 id of a flow's node";
/// Each node has ids for four ends of its own.
const RANGE: u32 = IMPLICIT_END_FIRST / 4;

pub fn of_text(text: &str) -> NodeId {
    let hash = blake3::derive_key(CONTEXT, text.as_bytes());
    let [a, b, c, d, ..] = hash;
    NodeId(1 + u32::from_le_bytes([a, b, c, d]) % (RANGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_number_for_good() {
        assert_eq!(of_text("welcome"), of_text("welcome"), "the same");
        assert_ne!(of_text("welcome"), of_text("Welcome"), "another text");
        let ids: std::collections::BTreeSet<_> = (0..500).map(|at| of_text(&format!("node {at}"))).collect();
        assert_eq!(ids.len(), 500, "texts of a usual flow do not collide");
        assert!(ids.iter().all(|id| !id.is_implicit() && id.0 < RANGE), "with room for their ends");
    }

    #[test]
    fn the_numbers_are_pinned() {
        let ids: Vec<u32> = ["start", "welcome", "end"].iter().map(|text| of_text(text).0).collect();
        assert_eq!(ids, PINNED, "runs that are on their way keep their nodes");
    }

    const PINNED: [u32; 3] = [330_245_436, 96_686_793, 405_967_223];
}
