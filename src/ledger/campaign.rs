//! A campaign as the ledger keeps it: its versions, and what the newest one calls it.
//!
//! Part of the state. Invariant: the name is that of the newest version, so that nobody has to read specs to find one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// The newest version, and every older one that a run executes, as canonical JSON.
    pub versions: BTreeMap<u32, String>,
    pub archived: bool,
    pub created_at: Timestamp,
    pub saved_at: Timestamp,
    /// What the newest version calls it.
    #[serde(default)]
    pub name: Option<String>,
}

/// Of a stored spec, the name alone.
#[derive(Deserialize)]
struct Stored {
    spec: Named,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

impl Campaign {
    /// Puts a version in, whose text is as it is stored.
    pub(super) fn put(&mut self, version: u32, text: &str) {
        self.versions.insert(version, text.to_owned());
        self.note_name();
    }

    /// Takes the name from the newest version.
    pub(super) fn note_name(&mut self) {
        let newest = self.newest().map(|(_, text)| serde_json::from_str::<Stored>(text));
        self.name = newest.and_then(Result::ok).and_then(|stored| stored.spec.name);
    }

    pub fn newest(&self) -> Option<(u32, &str)> {
        self.versions.last_key_value().map(|(version, spec)| (*version, spec.as_str()))
    }
}
