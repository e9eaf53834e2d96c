//! Campaigns over uploads: which rows a campaign, a run or an expression means, and what their columns are called.
//!
//! Owns nothing. A spec names an upload by id or name; saving it writes the id, which is never given to another upload. A run
//! names its space in every set, so that nothing here asks for a name once it has begun.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::campaigns::compile::{AudienceSource, Compiled};
use crate::campaigns::one_shot::UploadName;
use crate::campaigns::{CampaignSpec, compile, parse};
use crate::contacts::{Schema, Store};
use crate::engine::audience::Audience;
use crate::engine::glance::{Glance, Wanted};
use crate::engine::uploads::UploadsError;
use crate::engine::{Engine, EngineError};
use crate::ids::{AddressHash, CampaignId, Channel, ContactRow, RowSpace, RunId};
use crate::ledger::{Fact, State};
use crate::segments::audience::AudienceSummary;
use crate::segments::parse as parse_expression;

fn unknown(named: &str) -> EngineError {
    UploadsError::Unknown { named: named.to_owned() }.into()
}

/// The upload that a spec names: one that is there by id or name, or by its id one that was removed and has been sent to.
pub fn upload_of(state: &State, named: &str) -> Option<RowSpace> {
    let by_id = named.parse().ok().map(RowSpace).filter(|space| state.uploads.contains_key(space));
    by_id.or_else(|| state.upload_named(named))
}

/// Refuses what names an upload whose rows are gone, in the same step in which a fact is made.
pub fn must_be_there(state: &State, space: RowSpace) -> Result<(), EngineError> {
    match state.uploads.get(&space) {
        _ if space == RowSpace::BASE => Ok(()),
        None => Err(unknown(&space.0.to_string())),
        Some(upload) if upload.removed_at.is_some() => Err(UploadsError::Gone { name: upload.name.clone() }.into()),
        Some(_) => Ok(()),
    }
}

/// A copy of the spec that names its upload by id; as it is if there is no such upload.
pub fn pinned(state: &State, spec: &CampaignSpec) -> CampaignSpec {
    let mut spec = spec.clone();
    let space = spec.audience.upload.as_deref().and_then(|named| state.upload_named(named));
    if let Some(space) = space {
        spec.audience.upload = Some(space.0.to_string());
    }
    spec
}

/// Uploads that a spec may name.
pub fn names(state: &State) -> Vec<UploadName> {
    let live = state.uploads.iter().filter(|(_, upload)| upload.removed_at.is_none());
    live.map(|(space, upload)| UploadName {
        id: space.0,
        name: upload.name.clone(),
        channels: upload.summary.addresses.iter().filter(|(_, a)| a.rows > 0).map(|(channel, _)| *channel).collect(),
    })
    .collect()
}

impl Engine {
    /// What the rows of a campaign's audience count in.
    pub fn space_of(&self, compiled: &Compiled) -> Result<RowSpace, EngineError> {
        match &compiled.audience.source {
            AudienceSource::Upload(named) => upload_of(&self.book.read(), named).ok_or_else(|| unknown(named)),
            _ => Ok(RowSpace::BASE),
        }
    }

    /// What the rows of a run count in.
    pub fn space_of_run(&self, run: RunId) -> RowSpace {
        self.book.read().runs.get(&run).map_or(RowSpace::BASE, |run| run.space())
    }

    /// The rows of a space.
    pub fn store_of(&self, space: RowSpace) -> Result<Store, EngineError> {
        Ok(self.uploads.store(space)?)
    }

    /// The attributes that a message over this upload can use; without one, those of contacts. Asked by id it does not look
    /// at the book: reports compile messages while they hold it.
    pub(crate) fn schema_of(&self, upload: Option<&str>) -> Result<Arc<Schema>, EngineError> {
        let Some(named) = upload else { return Ok(self.store.schema()) };
        let by_id = named.parse().ok().map(RowSpace);
        let space = by_id.or_else(|| self.book.read().upload_named(named)).ok_or_else(|| unknown(named))?;
        self.uploads.schema(space).ok_or_else(|| unknown(named))
    }

    /// Everything that decides about a campaign's audience at this moment, in the space that it names; for a run that has
    /// begun, or one that is to begin.
    pub(super) fn look<'c>(&self, compiled: &'c Compiled, run: Option<RunId>) -> Result<Audience<'c>, EngineError> {
        let space = self.space_of(compiled)?;
        if space == RowSpace::BASE {
            return Audience::look_of(&self.store, &self.book, compiled, run);
        }
        let store = self.uploads.store(space)?;
        Audience::look_among(&store, &self.book, compiled, run, self.uploads.all_twins(space)?)
    }

    /// Rows of a space that match an expression now.
    pub(super) fn matching_in(&self, space: RowSpace, expression: &str) -> Result<Arc<RoaringBitmap>, EngineError> {
        if space == RowSpace::BASE {
            return self.matching(expression);
        }
        let parsed = parse_expression(expression)
            .map_err(|source| EngineError::Segment { text: expression.to_owned(), source })?;
        let wanted = Wanted { expressions: vec![&parsed], ..Wanted::default() };
        let store = self.uploads.store(space)?;
        let mut glance = Glance::new(&store, &self.book, &wanted)?;
        glance.map_contacts(self.uploads.all_twins(space)?);
        let found = glance.evaluate(&parsed);
        Ok(found.map_err(|source| EngineError::Evaluate { text: expression.to_owned(), source })?.rows)
    }

    /// Writes the id of its upload into a draft that names it otherwise, so that a run never asks for a name.
    pub(super) fn pin_upload(&self, id: CampaignId) -> Result<(), EngineError> {
        let at = self.book.now();
        self.book.commit_durable_by::<EngineError>(|state| {
            let Some((_, text)) = state.campaigns.get(&id).and_then(|campaign| campaign.newest()) else {
                return Ok(None);
            };
            let spec = parse::from_stored(text)?;
            let (with_id, confirmed) = (pinned(state, &spec), parse::confirmed_of(text));
            let (Some(confirmed), true) = (confirmed, with_id != spec) else { return Ok(None) };
            let spec = parse::to_stored_confirmed(&with_id, parse::request_of(text).as_deref(), &confirmed);
            Ok(Some(Fact::CampaignSaved { campaign: id, spec, at }))
        })?;
        Ok(())
    }

    /// Who of an upload could be sent to now, by each channel that it has addresses of, under no topic. Reads every address.
    pub fn standing(&self, space: RowSpace) -> Result<Vec<(Channel, AudienceSummary)>, EngineError> {
        let channels: Vec<Channel> = {
            let state = self.book.read();
            let upload = state.uploads.get(&space).ok_or_else(|| unknown(&space.0.to_string()))?;
            upload.summary.addresses.keys().copied().collect()
        };
        let mut standing = Vec::with_capacity(channels.len());
        for channel in channels {
            let mut spec = CampaignSpec { name: Some(String::new()), ..CampaignSpec::default() };
            spec.audience.upload = Some(space.0.to_string());
            (spec.message.channel, spec.message.connector) = (Some(channel), Some(String::new()));
            let compiled = compile(&spec)?;
            standing.push((channel, self.audience(&compiled)?));
        }
        Ok(standing)
    }

    /// The address that an opt-out of a row outside the base holds for, as there is no contact to note it with; none for
    /// contacts. Also of uploads that were removed.
    pub(super) fn addresses_outside(
        &self,
        space: RowSpace,
        channel: Channel,
        row: ContactRow,
    ) -> Result<Vec<AddressHash>, EngineError> {
        if space == RowSpace::BASE {
            return Ok(Vec::new());
        }
        let hash = self.uploads.hash(space, channel, row)?;
        Ok(vec![hash.ok_or_else(|| unknown(&space.0.to_string()))?])
    }
}
