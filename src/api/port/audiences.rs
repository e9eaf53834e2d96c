//! Wire types of uploaded one-shot audiences, and what the API asks of the engine about them. Owns no state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Page, PageRequest, PortResult, Ref, Time};

/// What the sender says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewUpload {
    /// The channel whose addresses the column `id` holds.
    pub channel: String,
    pub name: Option<String>,
    /// Names the request if it has an idempotency key: the same name is the same upload.
    pub request: Option<String>,
}

/// A column as it was understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadColumnView {
    pub name: String,
    /// What templates call it, as `contact.first_name`; none if it cannot be used.
    pub variable: Option<String>,
    /// Why it cannot be used.
    pub unusable: Option<String>,
}

/// An upload as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    pub id: u32,
    pub name: String,
    pub channel: String,
    pub uploaded_at: Time,
    /// The name of the key that it came with.
    pub uploaded_by: String,
    pub bytes: u64,
    pub encoding: String,
    pub delimiter: String,
    /// Rows of the file; `valid` and `invalid` ones together.
    pub total: u64,
    pub valid: u64,
    pub invalid: u64,
    /// Invalid rows by reason.
    pub invalid_by: BTreeMap<String, u64>,
    /// Values that were left out of valid rows, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Rows whose address on the channel an earlier row has too: an address gets one message.
    pub duplicates: u64,
    /// Different addresses by channel.
    pub addresses: BTreeMap<String, u64>,
    pub columns: Vec<UploadColumnView>,
    /// Unfinished runs that need it.
    pub needed_by: Vec<u32>,
}

/// An upload, and who of it could be sent to now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UploadDetail {
    #[serde(flatten)]
    pub upload: UploadView,
    /// By channel: addresses that could be sent to now.
    pub reach: BTreeMap<String, u64>,
    /// Rows without an address on the channel and with one on another.
    pub only_other_channels: u64,
    /// Rows that may not be sent to on the channel, by why.
    pub suppressed: BTreeMap<String, u64>,
    /// Rows whose address a contact has who opted out of a topic of the channel.
    pub unsubscribed: u64,
}

/// Uploaded one-shot audiences.
pub trait AudiencesPort: Send + Sync {
    /// Reads a complete spooled file, which stays the caller's. `Ok`: durable, whatever dies. Blocks while it is read.
    fn upload(&self, upload: NewUpload, spooled: &Path) -> PortResult<UploadDetail>;
    fn uploads(&self, page: &PageRequest) -> PortResult<Page<UploadView>>;
    fn uploaded(&self, upload: &Ref) -> PortResult<UploadDetail>;
    /// The invalid rows as CSV, columns `line,column,reason,record`; `None`: there are none.
    fn invalid_rows(&self, upload: &Ref) -> PortResult<Option<PathBuf>>;
    /// Deletes the rows; refused while an unfinished run needs them.
    fn delete_upload(&self, upload: &Ref) -> PortResult<()>;
}
