//! Steps that did not start in time: a person starts or skips them, and a stop tells what it cancelled.
//!
//! That a step is held back follows from its gate and the clock ([`sequencing::is_held`]); the word of a person is a fact, and
//! the flow goes on by itself behind it. Owns nothing.

use crate::actors::sequencing;
use crate::campaigns::kinds::sequence::gate_of;
use crate::campaigns::sequence::{locks, plan};
use crate::campaigns::{CampaignSpec, parse};
use crate::engine::sequences::{SequenceError, look};
use crate::engine::{Engine, EngineError};
use crate::ids::CampaignId;
use crate::ledger::Fact;
use crate::ledger::sequence::StepReleased;

impl Engine {
    /// Starts a step that is held back, or has it skipped: its send is sent to nobody, its attribute is not set, and its
    /// contacts go on. Durable when it returns.
    pub fn release_step(&self, id: CampaignId, step: &str, skip: bool) -> Result<(), EngineError> {
        if !self.is_sequence(id) {
            return Err(SequenceError::NotASequence.into());
        }
        self.book.commit_durable_by::<EngineError>(|state| {
            let run = state.latest_run(id).ok_or(SequenceError::StillDraft)?;
            let spec = look::spec_of(state, id, run.version).ok_or(EngineError::NoCampaign { id })?;
            let (plan, _) = plan::read(&spec);
            let Some(found) = plan.by_id(step) else {
                let known = plan.steps.iter().map(|step| step.id.clone()).collect();
                return Err(SequenceError::NoStep { step: step.to_owned(), known }.into());
            };
            let (node, now) = (gate_of(found.number), self.book.now());
            sequencing::may_release(run, node, skip, now)
                .map_err(|why| SequenceError::NotHeld { step: step.to_owned(), why })?;
            Ok(Some(Fact::StepReleased(StepReleased { run: run.id, node, skip, at: now })))
        })?;
        Ok(())
    }

    /// Whether an open working copy says something else than what is published.
    pub fn copy_is_changed(&self, id: CampaignId) -> bool {
        let state = self.book.read();
        let copy = state.sequences.get(&id).and_then(|memory| memory.copy.as_ref());
        let Some(copy) = copy.filter(|copy| copy.closed_by.is_none()) else { return false };
        let version = state.latest_run(id).map(|run| run.version);
        let published = version.and_then(|version| state.campaigns.get(&id)?.versions.get(&version));
        published != Some(&copy.spec)
    }

    /// The working copy that extends a finished sequence, with what a file says: steps that it only adds are put behind those
    /// that ran. Refused at once if it leaves out some of them.
    pub fn extended(&self, id: CampaignId, patched: CampaignSpec) -> Result<CampaignSpec, EngineError> {
        let state = self.book.read();
        let extends = state.sequences.get(&id).and_then(|memory| memory.copy.as_ref()).is_some_and(|copy| copy.extends);
        let version = state.latest_run(id).map(|run| run.version);
        let text = version.and_then(|version| state.campaigns.get(&id)?.versions.get(&version));
        let Some(text) = text.filter(|_| extends) else { return Ok(patched) };
        let published = parse::from_stored(text)?;
        match locks::appended(&published.steps, &patched.steps) {
            Ok(None) => Ok(patched),
            Ok(Some(steps)) => Ok(CampaignSpec { steps, ..patched }),
            Err(missing) => Err(SequenceError::LeftOut { missing }.into()),
        }
    }
}
