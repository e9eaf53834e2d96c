//! Wire types of backups. Owns no state.

use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{PortResult, Time};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// A folder on the server's machine, as an absolute path. It must not be there; what it lies in must. With
    /// `data.backup_folder` set it lies below that, and may be relative to it.
    #[schema(example = "/var/backups/estafette/2026-03-01")]
    pub folder: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupStateView {
    #[default]
    Running,
    Finished,
    Failed,
}

/// A backup that this process makes or has made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackupView {
    pub id: u32,
    pub folder: String,
    pub state: BackupStateView,
    /// Bytes read and written so far, and how many there are at most.
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub started_at: Time,
    pub finished_at: Option<Time>,
    /// The backup's own name, as `backup.json` has it.
    pub backup: Option<String>,
    /// The number of the last fact that it holds.
    pub last_seq: Option<u64>,
    pub bytes: Option<u64>,
    pub files: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Copies of the data directory while the engine works.
pub trait BackupsPort: Send + Sync {
    /// Begins one; answers at once.
    fn start_backup(&self, folder: &Path) -> PortResult<BackupView>;
    /// Newest first; at most `limits::BACKUPS_KEPT`.
    fn backups(&self) -> PortResult<Vec<BackupView>>;
    fn backup(&self, id: u32) -> PortResult<BackupView>;
}
