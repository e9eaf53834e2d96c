//! Contacts come in: the cohort, once, and those of requests. What else a sequence asks of the base.

use std::time::Instant;

use roaring::RoaringBitmap;

use crate::actors::book::CommitError;
use crate::actors::sequencing;
use crate::campaigns::{DeliveryPlan, SameAddress};
use crate::contacts::{ContactInput, ContactsError};
use crate::engine::audience::Audience;
use crate::engine::sequences::SequenceError;
use crate::engine::{Engine, EngineError, same_address};
use crate::flow::{Exit, NodeId};
use crate::ids::{CampaignId, ContactRow, DeliveryId, RowSpace, RunId};
use crate::ledger::flowing::Moved;
use crate::ledger::sequence::{Entered, StartTested};
use crate::ledger::{Fact, RowSet};
use crate::limits;

/// What a request brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnterDone {
    pub run: u32,
    pub entered: u64,
    pub already: u64,
    /// Keys that no contact has.
    pub unknown: Vec<String>,
    /// The same request was done before.
    pub repeated: bool,
}

impl Engine {
    /// The fact that fixes the cohort: who matches the audience now.
    pub(in crate::engine) fn cohort(&self, run: RunId) -> Result<Fact, EngineError> {
        let (campaign, version) = {
            let state = self.book.read();
            let found = state.runs.get(&run).ok_or(EngineError::NoRun { run })?;
            (found.campaign, found.version)
        };
        let (_, compiled) = self.compiled(campaign, Some(version))?;
        let rows = RowSet::base(self.matched(&compiled)?);
        let at = self.book.now();
        Ok(Fact::Entered(Entered { run, version, rows, request: None, already: 0, at }))
    }

    /// Of rows that arrive at a send, those that came after its step had started and are skipped for it; all of them,
    /// if a person had the step skipped.
    pub(in crate::engine) fn late_at(&self, run: RunId, node: NodeId, rows: &RoaringBitmap) -> RoaringBitmap {
        let state = self.book.read();
        if state.runs.get(&run).is_some_and(|run| sequencing::is_behind_skipped(run, node)) {
            return rows.clone();
        }
        let Some(run) = state.runs.get(&run) else { return RoaringBitmap::new() };
        let send = run.graph.send_of_all(node);
        let late = run.sequence.as_ref().and_then(|s| s.late.get(&send));
        late.map_or_else(RoaringBitmap::new, |late| late & rows)
    }

    /// Of rows that arrive at a delivery, those whose address somebody who arrived earlier has: it is used once.
    pub(in crate::engine) fn same_address_as_before(
        &self,
        id: DeliveryId,
        plan: &DeliveryPlan,
        rows: &RoaringBitmap,
    ) -> Result<RoaringBitmap, EngineError> {
        if plan.same_address == SameAddress::Allow {
            return Ok(RoaringBitmap::new());
        }
        let before = {
            let state = self.book.read();
            let delivery = state.delivery(id).map_err(CommitError::from)?;
            delivery.skipped.values().fold(delivery.audience.clone(), |left, skipped| left - skipped)
        };
        let store = self.store_of(self.space_of_run(id.run))?;
        Ok(same_address::behind(&store.reader()?, plan.channel, rows, &before)?)
    }

    /// Gives a field of some contacts its value, then lets them go on. Repeating it after a crash changes nothing.
    pub(in crate::engine) fn set_attribute(
        &self,
        run: RunId,
        node: NodeId,
        rows: RoaringBitmap,
        attribute: &str,
        value: &serde_json::Value,
    ) -> Result<Fact, EngineError> {
        if self.space_of_run(run) != RowSpace::BASE {
            return Err(EngineError::OtherSpace { run });
        }
        let input = general_field(attribute, value);
        let now = self.book.now();
        self.store.write(|writer| {
            for row in &rows {
                match writer.patch(ContactRow(row), &input, now) {
                    // Erased meanwhile: there is nothing to set.
                    Ok(_) | Err(ContactsError::NoSuchRow { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        Ok(Fact::Moved(Moved { run, node, exits: vec![(Exit::NEXT, rows)], at: now }))
    }

    /// Brings contacts into a sequence that is started by requests. Who is in already is not entered again.
    pub fn enter(&self, id: CampaignId, keys: &[String], request: &str) -> Result<EnterDone, EngineError> {
        if request.len() > limits::NAME_BYTES_MAX {
            return Err(SequenceError::LongName { max: limits::NAME_BYTES_MAX }.into());
        }
        if keys.is_empty() {
            return Err(SequenceError::NoContacts.into());
        }
        if keys.len() > limits::ENTER_CONTACTS_MAX {
            let (given, max) = (keys.len(), limits::ENTER_CONTACTS_MAX);
            return Err(SequenceError::TooManyContacts { given, max }.into());
        }
        if !self.is_sequence(id) {
            return Err(SequenceError::NotASequence.into());
        }
        let (mut rows, mut done) = (RoaringBitmap::new(), EnterDone::default());
        let digest = digest_of(keys);
        let reader = self.store.reader()?;
        for key in keys {
            match reader.row_of_key(key.trim())? {
                Some(row) => drop(rows.insert(row.0)),
                None => done.unknown.push(key.clone()),
            }
        }
        self.book.commit_durable_by::<EngineError>(|state| {
            let run = state.latest_run(id).ok_or(SequenceError::NoEntry(sequencing::NoEntry::NotPublished))?;
            done.run = run.id.0;
            if let Some(before) = run.sequence.as_ref().and_then(|s| s.requests.get(request)) {
                if before.digest != digest {
                    return Err(SequenceError::OtherContacts { request: request.to_owned() }.into());
                }
                (done.entered, done.already, done.repeated) = (before.entered, before.already, true);
                return Ok(None);
            }
            sequencing::may_enter(run, self.book.now()).map_err(SequenceError::from)?;
            let inside = run.positions.iter().fold(RoaringBitmap::new(), |all, (_, here)| all | (here & &rows));
            let new = &rows - &inside;
            (done.entered, done.already) = (new.len(), inside.len());
            Ok(Some(Fact::Entered(Entered {
                run: run.id,
                version: run.version,
                rows: RowSet::base(new),
                request: Some((request.to_owned(), digest)),
                already: inside.len(),
                at: self.book.now(),
            })))
        })?;
        Ok(done)
    }

    /// Does everything that the start does but for its facts, and remembers how long it took.
    pub fn test_start(&self, id: CampaignId) -> Result<StartTested, EngineError> {
        if !self.is_sequence(id) {
            return Err(SequenceError::NotASequence.into());
        }
        let (_, compiled) = self.compiled(id, None)?;
        let began = Instant::now();
        let matched = {
            let audience = Audience::look(&self.store, &self.book, &compiled)?;
            let matched = audience.matched()?;
            if let Some(first) = compiled.deliveries.first() {
                let (used, required) = self.used_attributes(&compiled, first);
                audience.assess(first, &matched, &used, &required)?;
            }
            matched
        };
        let rows = RowSet::base(matched.clone());
        let (run, at) = (RunId(0), self.book.now());
        let fact = Fact::Entered(Entered { run, version: 0, rows, request: None, already: 0, at });
        let encoded = fact.encode();
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        drop(encoded);
        let tested = StartTested { campaign: id, contacts: matched.len(), milliseconds: milliseconds.max(1), at };
        self.book.commit_durable(&Fact::StartTested(tested))?;
        Ok(tested)
    }
}

/// Tells whether a repeated request names the same contacts.
fn digest_of(keys: &[String]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for key in keys {
        hasher.update(key.trim().as_bytes()).update(b"\n");
    }
    hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A change of one general field; keys, addresses, consent and state are none, and are refused before.
pub fn general_field(attribute: &str, value: &serde_json::Value) -> ContactInput {
    let text = || Some(value.as_str().map(str::to_owned));
    match attribute {
        "language" => ContactInput { language: text(), ..ContactInput::default() },
        "zone" => ContactInput { zone: text(), ..ContactInput::default() },
        _ => {
            let attributes = [(attribute.to_owned(), value.clone())].into();
            ContactInput { attributes, ..ContactInput::default() }
        }
    }
}
