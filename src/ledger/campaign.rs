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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{Format, compile, parse};
    use crate::ids::{CampaignId, RunId};
    use crate::ledger::batch::BootId;
    use crate::ledger::facts::{PinnedStarted, RunStarted};
    use crate::ledger::{Fact, RowSet, State, snapshot};

    const CAMPAIGN: CampaignId = CampaignId(1);

    fn stored(name: &str) -> String {
        format!("{{\"version\":1,\"spec\":{{\"name\":{name:?}}}}}")
    }

    fn state() -> State {
        let mut state = State::default();
        let (spec, at) = (stored("first"), Timestamp(1));
        state.apply(&Fact::CampaignSaved { campaign: CAMPAIGN, spec, at }, BootId::default()).expect("saved");
        state
    }

    fn pinned(version: u32) -> Fact {
        let text =
            "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"r\"\ntopic = \"t\"\n";
        let graph = compile(&parse(text, Format::Toml).expect("a spec")).expect("compiles").graph;
        let started = RunStarted {
            run: RunId(1),
            campaign: CAMPAIGN,
            version,
            graph,
            deliveries: Vec::new(),
            at: Timestamp(2),
            entrants: RowSet::default(),
        };
        Fact::PinnedStarted(Box::new(PinnedStarted { spec: stored("pinned"), started }))
    }

    #[test]
    fn the_name_is_that_of_the_newest_version_in_whatever_snapshot() {
        let mut state = state();
        assert_eq!(state.campaigns[&CAMPAIGN].name.as_deref(), Some("first"));
        let (spec, at) = (stored("second"), Timestamp(2));
        state.apply(&Fact::CampaignSaved { campaign: CAMPAIGN, spec, at }, BootId::default()).expect("saved");
        assert_eq!(state.campaigns[&CAMPAIGN].name.as_deref(), Some("second"), "saved again");
        // A snapshot that does not say it.
        let mut old = state.clone();
        old.campaigns.values_mut().for_each(|campaign| campaign.name = None);
        let read = snapshot::decode(&snapshot::encode(&old).expect("bytes")).expect("a state");
        assert_eq!(read.campaigns[&CAMPAIGN].name.as_deref(), Some("second"), "is read out of the spec");
    }

    #[test]
    fn a_pinned_version_and_its_run_are_there_both_or_not_at_all() {
        let mut state = state();
        assert!(state.apply(&pinned(3), BootId::default()).is_err(), "changed meanwhile");
        assert_eq!(state, self::state(), "nothing has changed");
        state.apply(&pinned(2), BootId::default()).expect("starts");
        let campaign = &state.campaigns[&CAMPAIGN];
        assert_eq!(campaign.newest(), Some((2, stored("pinned").as_str())), "the version");
        assert_eq!(state.runs[&RunId(1)].version, 2, "and its run");
        assert!(state.apply(&pinned(3), BootId::default()).is_err(), "a run starts once");
        assert_eq!(state.campaigns[&CAMPAIGN].newest().map(|(version, _)| version), Some(2), "and leaves no version");
    }
}
