//! Uploaded one-shot audiences through the port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::api::adapter::Adapter;
use crate::api::caller::{self, Caller};
use crate::api::errors::Code;
use crate::api::port::{
    AudiencesPort, NewUpload, Page, PageRequest, PortError, PortResult, Ref, UploadColumnView, UploadDetail, UploadUse,
    UploadView,
};
use crate::campaigns::CampaignSpec;
use crate::campaigns::parse::{self, Confirmed};
use crate::contacts::one_shot::{UploadColumn, UploadError, UploadSummary};
use crate::engine::one_shot::upload_of;
use crate::engine::uploads::{UploadRequest, UploadsError};
use crate::ids::{CampaignId, Channel, RowSpace};
use crate::ledger::uploads::UploadInfo;
use crate::ledger::{Run, State};

fn refused(error: UploadsError) -> PortError {
    let text = error.to_string();
    let refuse = |code| PortError::new(code, text.clone());
    if error.is_full_disk() {
        return PortError::new(Code::StorageFull, "the disk of the data directory is full: nothing was uploaded");
    }
    match error {
        UploadsError::Unknown { .. } => refuse(Code::AudienceNotFound),
        UploadsError::Gone { .. } => refuse(Code::AudienceGone),
        UploadsError::BadName { .. } => refuse(Code::InvalidAudience).with(json!({"reason": "bad_name"})),
        UploadsError::Held => refuse(Code::BackupRunning),
        UploadsError::Exists { .. } => refuse(Code::AudienceExists),
        UploadsError::Full { max } => refuse(Code::AudiencesFull).with(json!({"max": max})),
        UploadsError::InUse { by, .. } => refuse(Code::AudienceInUse).with(json!({"used_by": by})),
        UploadsError::Upload(fault) if fault.is_of_the_file() => {
            refuse(Code::InvalidAudience).with(json!({"reason": fault.reason()}))
        }
        UploadsError::Upload(UploadError::Stopped) => refuse(Code::NotReady),
        other => {
            tracing::error!(error = ?other, "an upload failed");
            refuse(Code::Internal)
        }
    }
}

impl From<UploadsError> for PortError {
    fn from(error: UploadsError) -> PortError {
        refused(error)
    }
}

fn column(column: &UploadColumn) -> UploadColumnView {
    UploadColumnView {
        name: column.name.clone(),
        variable: column.variable.as_ref().map(|variable| format!("contact.{variable}")),
        unusable: column.unusable.clone(),
    }
}

fn by_channel(summary: &UploadSummary) -> BTreeMap<String, u64> {
    summary.addresses.iter().map(|(channel, found)| (channel.name().to_owned(), found.distinct)).collect()
}

fn view(state: &State, space: RowSpace, upload: &UploadInfo) -> UploadView {
    let summary = &upload.summary;
    UploadView {
        id: space.0,
        name: upload.name.clone(),
        channel: upload.channel.name().to_owned(),
        uploaded_at: upload.uploaded_at.into(),
        uploaded_by: upload.by.clone(),
        bytes: summary.bytes,
        encoding: summary.encoding.to_lowercase(),
        delimiter: summary.delimiter.to_string(),
        total: summary.total,
        valid: summary.valid,
        invalid: summary.invalid,
        invalid_by: summary.invalid_by.0.clone(),
        left_out: summary.left_out.0.clone(),
        duplicates: summary.duplicates(upload.channel),
        addresses: by_channel(summary),
        columns: summary.columns.iter().map(column).collect(),
        needed_by: state.unfinished_in(space).into_iter().map(|run| run.0).collect(),
    }
}

/// What a report says of the upload that its run was sent to.
pub(super) fn of_run(state: &State, run: &Run) -> Option<UploadUse> {
    let upload = state.uploads.get(&run.origin())?;
    let stored = state.campaigns.get(&run.campaign).and_then(|campaign| campaign.versions.get(&run.version));
    let confirmed = stored.and_then(|text| parse::confirmed_of(text));
    Some(UploadUse {
        id: run.origin().0,
        name: upload.name.clone(),
        consent_confirmed_by: confirmed.as_ref().map(|word| word.by.clone()),
        consent_confirmed_key: confirmed.as_ref().map(|word| word.key.clone()).filter(|key| !key.is_empty()),
        consent_confirmed_via: confirmed.as_ref().map(|word| word.via.clone()).filter(|via| !via.is_empty()),
        consent_confirmed_at: confirmed.map(|word| word.at.into()),
        removed_at: upload.removed_at.map(Into::into),
    })
}

impl Adapter {
    fn upload_id(&self, reference: &Ref) -> PortResult<RowSpace> {
        let named = match reference {
            Ref::Id(id) => id.to_string(),
            Ref::Name(name) => name.clone(),
        };
        let found = self.engine.book.read().upload_named(&named);
        Ok(found.ok_or(UploadsError::Unknown { named })?)
    }

    fn detail(&self, space: RowSpace) -> PortResult<UploadDetail> {
        let standing = self.engine.standing(space)?;
        let state = self.engine.book.read();
        let unknown = || UploadsError::Unknown { named: space.0.to_string() };
        let upload = state.uploads.get(&space).ok_or_else(unknown)?;
        let own = standing.iter().find(|(channel, _)| *channel == upload.channel).map(|(_, summary)| summary);
        let suppressed = own.map(|own| own.suppressed.iter().filter(|(_, n)| *n > 0).cloned().collect());
        Ok(UploadDetail {
            upload: view(&state, space, upload),
            reach: standing.iter().map(|(c, summary)| (c.name().to_owned(), summary.final_count)).collect(),
            only_other_channels: own.map_or(upload.summary.valid, |own| own.only_other_channels),
            suppressed: suppressed.unwrap_or_default(),
            unsubscribed: own.map_or(0, |own| own.unsubscribed),
        })
    }

    /// A spec as it is kept: with the word for the people of its upload, if it has one.
    pub(super) fn stored(&self, id: Option<CampaignId>, spec: &CampaignSpec, request: Option<&str>) -> String {
        let state = self.engine.book.read();
        let confirmed = spec.audience.consent_confirmed == Some(true) && spec.audience.upload.is_some();
        if !confirmed {
            return request.map_or_else(|| parse::to_stored(spec), |request| parse::to_stored_for(spec, request));
        }
        let before = id.and_then(|id| state.campaigns.get(&id)?.newest()).and_then(|(_, text)| {
            let same = parse::from_stored(text).is_ok_and(|old| {
                let upload = |spec: &CampaignSpec| upload_of(&state, spec.audience.upload.as_deref()?);
                upload(&old) == upload(spec)
            });
            parse::confirmed_of(text).filter(|_| same)
        });
        let word = before.unwrap_or_else(|| {
            let Caller { name, key, via } = caller::current();
            Confirmed { by: name.to_owned(), at: self.engine.book.now(), key, via: via.to_owned() }
        });
        parse::to_stored_confirmed(spec, request, &word)
    }
}

impl AudiencesPort for Adapter {
    fn upload(&self, upload: NewUpload, spooled: &Path) -> PortResult<UploadDetail> {
        let channel = Channel::from_name(&upload.channel).ok_or_else(|| {
            let known = Channel::ALL.map(Channel::name).join(", ");
            let message = format!("channel is {:?}, but must be one of: {known}", upload.channel);
            PortError::new(Code::InvalidParameter, message)
        })?;
        let request = UploadRequest {
            name: upload.name,
            channel,
            request: upload.request,
            by: caller::current().name.to_owned(),
        };
        let space = self.engine.uploads.take_in(&request, spooled)?;
        self.detail(space)
    }

    fn uploads(&self, page: &PageRequest) -> PortResult<Page<UploadView>> {
        let state = self.engine.book.read();
        let live = state.uploads.iter().filter(|(_, upload)| upload.removed_at.is_none());
        Ok(Page::cut(live.map(|(space, upload)| view(&state, *space, upload)), page, |view| format!("{:010}", view.id)))
    }

    fn uploaded(&self, upload: &Ref) -> PortResult<UploadDetail> {
        self.detail(self.upload_id(upload)?)
    }

    fn invalid_rows(&self, upload: &Ref) -> PortResult<Option<PathBuf>> {
        let space = self.upload_id(upload)?;
        let invalid = self.engine.book.read().uploads.get(&space).map_or(0, |upload| upload.summary.invalid);
        Ok(self.engine.uploads.invalid_rows(space).filter(|_| invalid > 0))
    }

    fn delete_upload(&self, upload: &Ref) -> PortResult<()> {
        let space = self.upload_id(upload)?;
        Ok(self.engine.uploads.remove(space, caller::current().name)?)
    }
}
