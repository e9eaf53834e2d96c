//! What people save under a name for campaigns to use: segments and messages.
//!
//! Owned by the state. Invariant: SV-1 what is saved again under its name keeps its first moment and, of a segment, its id.
//! Must not know what a text means.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ledger::state::State;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSegment {
    pub text: String,
    pub saved_at: Timestamp,
    #[serde(default)]
    pub created_at: Timestamp,
    /// Never given to another segment.
    #[serde(default)]
    pub id: u32,
}

/// A message that campaigns refer to by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMessage {
    /// As JSON.
    pub message: String,
    /// From 1; the next one at each saving.
    pub version: u32,
    pub created_at: Timestamp,
    pub saved_at: Timestamp,
}

impl State {
    pub(super) fn apply_segment_saved(&mut self, name: &str, text: &str, at: Timestamp) {
        if let Some(segment) = self.segments.get_mut(name) {
            segment.text = text.to_owned();
            segment.saved_at = at;
            return;
        }
        let id = self.next_segment.max(1);
        self.next_segment = id + 1;
        self.segments.insert(name.to_owned(), SavedSegment { text: text.to_owned(), saved_at: at, created_at: at, id });
    }

    pub(super) fn apply_message_saved(&mut self, name: &str, message: &str, at: Timestamp) {
        let (version, created_at) =
            self.messages.get(name).map_or((1, at), |saved| (saved.version.saturating_add(1), saved.created_at));
        let saved = SavedMessage { message: message.to_owned(), version, created_at, saved_at: at };
        self.messages.insert(name.to_owned(), saved);
    }
}
