//! Backups through the port. Owns no state.

use std::path::Path;

use crate::api::adapter::Adapter;
use crate::api::errors::Code;
use crate::api::port::{BackupStateView, BackupView, BackupsPort, PortError, PortResult};
use crate::engine::backup::{BackupError, BackupState, BackupStatus};

impl From<BackupError> for PortError {
    fn from(error: BackupError) -> PortError {
        let message = error.to_string();
        match error {
            _ if error.is_full_disk() => PortError::new(Code::StorageFull, message),
            BackupError::Target { .. } => PortError::new(Code::InvalidBackup, message),
            BackupError::Running { id } => {
                PortError::new(Code::BackupRunning, message).with(serde_json::json!({"id": id}))
            }
            BackupError::Unknown { .. } => PortError::new(Code::BackupNotFound, message),
            BackupError::Stopping => PortError::new(Code::NotReady, message),
            other => {
                tracing::error!(error = ?other, "a backup was not begun");
                PortError::new(Code::Internal, message)
            }
        }
    }
}

fn view(status: &BackupStatus) -> BackupView {
    let (bytes_done, bytes_total) = status.progress();
    let mut view = BackupView {
        id: status.id,
        folder: status.folder.display().to_string(),
        bytes_done,
        bytes_total,
        started_at: status.started_at.into(),
        ..BackupView::default()
    };
    match &status.state {
        BackupState::Running => {}
        BackupState::Finished(finished) => {
            view.state = BackupStateView::Finished;
            view.finished_at = Some(finished.at.into());
            view.backup = Some(finished.backup.clone());
            view.last_seq = Some(finished.last_seq);
            view.bytes = Some(finished.bytes);
            view.files = Some(finished.files as u64);
            view.bytes_total = bytes_done;
        }
        BackupState::Failed(why) => {
            view.state = BackupStateView::Failed;
            view.error = Some(why.clone());
        }
    }
    view
}

impl BackupsPort for Adapter {
    fn start_backup(&self, folder: &Path) -> PortResult<BackupView> {
        let id = self.engine.start_backup(folder)?;
        self.backup(id)
    }

    fn backups(&self) -> PortResult<Vec<BackupView>> {
        Ok(self.engine.backups.list().iter().map(view).collect())
    }

    fn backup(&self, id: u32) -> PortResult<BackupView> {
        Ok(view(&self.engine.backups.get(id)?))
    }
}
