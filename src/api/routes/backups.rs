//! Backups: begin one, see how far it is. Owns no state.

use std::path::{Component, Path, PathBuf};

use actix_web::{HttpResponse, get, post, web};

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{BackupView, NewBackup};
use crate::api::reply::{ApiError, ApiResult, Listed, blocking};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(create).service(index).service(read);
}

/// Begins a backup of the data directory into a new folder on the server's machine, while everything goes on.
#[utoipa::path(tag = "operations", request_body = NewBackup, responses((status = 202, body = BackupView)))]
#[post("/v1/backups")]
async fn create(state: State, body: web::Json<NewBackup>) -> ApiResult<HttpResponse> {
    let folder = place(state.backup_folder.as_deref(), &body.folder)?;
    let port = engine(&state);
    let begun = blocking(move || port.start_backup(&folder)).await?;
    Ok(HttpResponse::Accepted().json(begun))
}

/// The backups that this process makes or has made, newest first.
#[utoipa::path(tag = "operations", responses((status = 200, body = Listed<BackupView>)))]
#[get("/v1/backups")]
async fn index(state: State) -> ApiResult<web::Json<Listed<BackupView>>> {
    let port = engine(&state);
    let items = blocking(move || port.backups()).await?;
    Ok(web::Json(Listed { items, next_cursor: None }))
}

/// One backup, and how far it is.
#[utoipa::path(tag = "operations", responses((status = 200, body = BackupView)))]
#[get("/v1/backups/{id}")]
async fn read(state: State, id: web::Path<u32>) -> ApiResult<web::Json<BackupView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.backup(*id)).await?))
}

/// Where a backup is asked for; only below `root`, if there is one.
fn place(root: Option<&Path>, asked: &str) -> Result<PathBuf, ApiError> {
    let refused = |message: String| Err(ApiError::new(Code::InvalidBackup, message));
    let path = Path::new(asked);
    if asked.is_empty() || path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir)) {
        return refused(format!("folder = {asked:?}: name a folder without \".\" and \"..\" in its path"));
    }
    let Some(root) = root else { return Ok(path.to_owned()) };
    let whole = root.join(path);
    if whole.starts_with(root) && whole != root {
        return Ok(whole);
    }
    let root = root.display();
    refused(format!("folder = {asked:?} does not lie below {root}, where data.backup_folder allows backups"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_stays_below_the_configured_folder() {
        let root = Path::new("/var/backups/estafette");
        let good = [("monday", "monday"), ("/var/backups/estafette/x", "x")];
        for (asked, name) in good {
            assert_eq!(place(Some(root), asked).unwrap(), root.join(name), "{asked}");
        }
        let bad =
            ["", "/etc/cron.d/x", "../x", "a/../../x", "/var/backups/estafette", "/var/backups/estafettes/x", "./x"];
        for asked in bad {
            let refused = place(Some(root), asked).unwrap_err();
            assert_eq!(refused.0.code, Code::InvalidBackup, "{asked}: {refused}");
        }
        assert_eq!(place(None, "/srv/x").unwrap(), Path::new("/srv/x"), "without one, anywhere");
        assert!(place(None, "/srv/../etc/x").is_err(), "but spelled plainly");
    }
}
