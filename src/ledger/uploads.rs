//! Uploaded one-shot audiences as the journal knows them: which there are, and who needs them.
//!
//! Their rows lie in stores of their own, beside the contact base. A store without an entry here is none: what an upload that was
//! cut short has left is removed at the next start. Invariants: UP-1 a space is given out once; UP-2 of two entries that are
//! not removed none have one name; UP-3 what a run has sent to stays known, removed or not, so that its mails' links resolve.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::contacts::one_shot::UploadSummary;
use crate::ids::{CampaignId, Channel, RowSpace, RunId};
use crate::ledger::State;
use crate::ledger::run::Run;

/// A complete upload; its rows are durable before this is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudienceUploaded {
    pub space: RowSpace,
    pub name: String,
    /// The channel whose addresses the column `id` holds.
    pub channel: Channel,
    pub summary: UploadSummary,
    /// Names the request, if its sender may send it again.
    pub request: Option<String>,
    /// The name of the key that it came with.
    pub by: String,
    pub at: Timestamp,
}

/// The rows of an upload are given up; its addresses and columns are deleted after this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudienceRemoved {
    pub space: RowSpace,
    /// The name of a key, or `retention`.
    pub by: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadInfo {
    pub name: String,
    pub channel: Channel,
    pub summary: UploadSummary,
    pub request: Option<String>,
    pub by: String,
    pub uploaded_at: Timestamp,
    pub removed_at: Option<Timestamp>,
}

impl Run {
    /// What the rows of this run count in: all its deliveries are of one space.
    pub fn space(&self) -> RowSpace {
        self.deliveries.first().map_or(RowSpace::BASE, |delivery| delivery.space)
    }
}

impl State {
    /// The upload that a spec or a path names, by id or by name; those that are removed have no name any more.
    pub fn upload_named(&self, text: &str) -> Option<RowSpace> {
        let live = || self.uploads.iter().filter(|(_, upload)| upload.removed_at.is_none());
        if let Ok(id) = text.parse::<u32>() {
            return live().find(|(space, _)| space.0 == id).map(|(space, _)| *space);
        }
        live().find(|(_, upload)| upload.name == text).map(|(space, _)| *space)
    }

    /// Runs over the rows of an upload, those whose details were removed too.
    pub fn runs_in(&self, space: RowSpace) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(move |run| run.origin() == space)
    }

    /// Runs that may still send to the rows of an upload.
    pub fn unfinished_in(&self, space: RowSpace) -> Vec<RunId> {
        self.runs_in(space).filter(|run| run.state.is_live()).map(|run| run.id).collect()
    }

    /// Campaigns with a launch ahead that will be sent to an upload.
    pub fn planned_over(&self, space: RowSpace) -> Vec<CampaignId> {
        let open = self.plans.iter().filter(|(_, plan)| plan.is_open()).map(|(id, _)| *id);
        open.filter(|id| {
            let stored = self.campaigns.get(id).and_then(|campaign| campaign.newest());
            let spec = stored.and_then(|(_, text)| crate::campaigns::parse::from_stored(text).ok());
            spec.and_then(|spec| self.upload_named(spec.audience.upload.as_deref()?)) == Some(space)
        })
        .collect()
    }

    /// When an upload was needed last: at its upload, or at the end of the last run over it; `None` while one is unfinished
    /// or planned.
    pub fn needed_last(&self, space: RowSpace) -> Option<Timestamp> {
        let uploaded = self.uploads.get(&space).map(|upload| upload.uploaded_at)?;
        if !self.planned_over(space).is_empty() {
            return None;
        }
        self.runs_in(space).try_fold(uploaded, |last, run| Some(last.max(run.ended_at?)))
    }

    pub(super) fn apply_uploaded(&mut self, fact: &AudienceUploaded) {
        self.next_space = self.next_space.max(fact.space.0 + 1);
        let AudienceUploaded { space, name, channel, summary, request, by, at } = fact.clone();
        let info = UploadInfo { name, channel, summary, request, by, uploaded_at: at, removed_at: None };
        self.uploads.insert(space, info);
    }

    pub(super) fn apply_upload_removed(&mut self, fact: &AudienceRemoved) {
        let used = self.runs_in(fact.space).next().is_some();
        if !used {
            self.uploads.remove(&fact.space);
        } else if let Some(upload) = self.uploads.get_mut(&fact.space) {
            upload.removed_at.get_or_insert(fact.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use roaring::RoaringBitmap;

    use super::*;
    use crate::contacts::csv_import::Reasons;
    use crate::ids::{AddressHash, MessageId};
    use crate::ledger::batch::BootId;
    use crate::ledger::delivery::Mode;
    use crate::ledger::facts::{DeliveryEntered, RunStarted, Suppressed, Unsubscribed};
    use crate::ledger::suppression::SuppressReason;
    use crate::ledger::{Fact, RowSet, RunState, snapshot};

    const SPACE: RowSpace = RowSpace(4);
    const ADDRESS: AddressHash = AddressHash([9; 16]);

    fn apply(state: &mut State, fact: Fact) {
        let bytes = fact.encode().expect("it encodes");
        let read = Fact::decode(&bytes).expect("it decodes");
        assert_eq!(read, fact, "a fact reads back");
        state.apply(&read, BootId::default()).expect("it fits");
    }

    fn uploaded(name: &str) -> Fact {
        let summary = UploadSummary {
            bytes: 1,
            encoding: "UTF-8".into(),
            delimiter: ',',
            total: 2,
            valid: 2,
            invalid: 0,
            invalid_by: Reasons::default(),
            left_out: Reasons::default(),
            addresses: BTreeMap::new(),
            columns: Vec::new(),
        };
        let (name, by) = (name.to_owned(), "admin".to_owned());
        let at = Timestamp(10);
        let channel = Channel::Email;
        Fact::AudienceUploaded(Box::new(AudienceUploaded {
            space: SPACE,
            name,
            channel,
            summary,
            request: None,
            by,
            at,
        }))
    }

    fn removed(at: i64) -> Fact {
        Fact::AudienceRemoved(AudienceRemoved { space: SPACE, by: "retention".into(), at: Timestamp(at) })
    }

    fn rows() -> RowSet {
        RowSet { space: SPACE, rows: RoaringBitmap::from_iter([0, 1]) }
    }

    fn start(state: &mut State) {
        let at = Timestamp(20);
        apply(state, Fact::CampaignSaved { campaign: CampaignId(1), spec: String::new(), at });
        let spec = "name = \"a\"\n[audience]\nupload = 4\n[message]\nchannel = \"email\"\nconnector = \"relay\"\n";
        let spec = crate::campaigns::parse(spec, crate::campaigns::Format::Toml).expect("it parses");
        let graph = crate::campaigns::compile(&spec).expect("it compiles").graph;
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: String::new(),
            connector: "relay".into(),
            mode: Mode::Strict,
            audience: rows(),
            skipped: Vec::new(),
            summary: None,
        };
        let (run, campaign, deliveries) = (RunId(1), CampaignId(1), vec![entered]);
        let entrants = RowSet::default();
        let started = RunStarted { run, campaign, version: 1, graph, deliveries, at, entrants };
        apply(state, Fact::RunStarted(Box::new(started)));
    }

    #[test]
    fn an_upload_is_named_until_it_is_removed_and_known_while_a_run_is() {
        let mut state = State::default();
        apply(&mut state, uploaded("fair"));
        assert_eq!(
            (state.upload_named("fair"), state.upload_named("4"), state.upload_named("5")),
            (Some(SPACE), Some(SPACE), None)
        );
        assert_eq!((state.needed_last(SPACE), state.next_space), (Some(Timestamp(10)), 5), "the next one is another");
        start(&mut state);
        assert_eq!(state.unfinished_in(SPACE), [RunId(1)], "a run needs it");
        assert_eq!(state.needed_last(SPACE), None, "for as long as it takes");
        let (run, at) = (RunId(1), Timestamp(90));
        apply(&mut state, Fact::RunMoved { run, to: RunState::Stopped, reason: String::new(), at });
        assert_eq!(state.needed_last(SPACE), Some(at), "from its end on");
        apply(&mut state, removed(100));
        assert_eq!(state.upload_named("fair"), None, "its name is free");
        assert!(state.uploads.contains_key(&SPACE), "and it is known for its links");
        let copy = snapshot::decode(&snapshot::encode(&state).expect("encodes")).expect("decodes");
        assert_eq!(copy, state, "a snapshot has it");
        let mut unused = State::default();
        apply(&mut unused, uploaded("fair"));
        apply(&mut unused, removed(100));
        assert!(unused.uploads.is_empty() && unused.next_space == 5, "without a run nothing is left but its number");
    }

    #[test]
    fn what_is_said_of_rows_of_an_upload_holds_for_addresses_and_for_no_contact() {
        let mut state = State::default();
        apply(&mut state, uploaded("fair"));
        start(&mut state);
        let (channel, at) = (Channel::Email, Timestamp(30));
        apply(
            &mut state,
            Fact::Unsubscribed(Unsubscribed {
                run: RunId(1),
                message: MessageId(0),
                rows: rows(),
                channel,
                topic: "news".into(),
                source: "page".into(),
                at,
                addresses: vec![ADDRESS],
            }),
        );
        let reason = SuppressReason::HardBounce;
        apply(
            &mut state,
            Fact::Suppressed(Suppressed { channel: Some(channel), reason, rows: rows(), addresses: Vec::new(), at }),
        );
        assert!(state.consent.topic(channel, "news").is_none(), "no contact has said anything");
        assert_eq!(state.suppression.is_row_suppressed(channel, 0), None, "and none is suppressed");
        let of_address = state.suppression.is_address_suppressed(channel, ADDRESS);
        assert_eq!(of_address, Some(SuppressReason::Unsubscribed), "the address is");
        assert_eq!(state.runs[&RunId(1)].unsubscribed().len(), 2, "and the run counts them");
    }
}
