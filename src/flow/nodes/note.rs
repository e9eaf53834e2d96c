//! Notes: what people write on a flow. No contact ever comes to one; the rules of the graph pass it by.
//!
//! Invariant: NO-1 a note has an id of its own, no link leads into or out of it, and nothing that a run does depends on it.

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::flow::graph::{Exit, NodeId};
use crate::limits;

/// What a note hangs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteOn {
    #[default]
    Flow,
    Node(NodeId),
    Branch(NodeId, Exit),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub id: NodeId,
    pub text: String,
    /// Who wrote it; may be empty.
    pub author: String,
    /// When, as it was written; may be empty.
    pub date: String,
    pub on: NoteOn,
}

impl Note {
    /// The note as a title: the beginning of its first line.
    pub fn title(&self) -> String {
        let line = self.text.lines().next().unwrap_or_default();
        line.chars().take(60).collect()
    }

    pub fn faults(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        if self.text.len() > limits::NOTE_BYTES_MAX {
            let message = format!("the note has {} bytes, and {} is the most", self.text.len(), limits::NOTE_BYTES_MAX);
            found.push(Fault::new("long_note", message, "shorten it, or write two"));
        }
        found
    }
}
