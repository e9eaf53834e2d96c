//! `/v1/imports`: an upload is spooled whole into the data directory before anything is imported.
//!
//! Owns no state. Invariants: IM-1 an upload that ends early imports nothing and leaves no file; IM-2 memory does not grow
//! with the file; IM-3 at most `limits::UPLOADS_MAX` uploads at a time, each of bounded size, and none may stall.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::guard::{UPLOAD_PATH, idempotency_key, replay, storage_failed};
use crate::api::idempotency::request_name;
use crate::api::port::{ImportOptions, ImportReport};
use crate::api::reply::{ApiError, ApiResult, Listed, PageQuery, blocking, page_request};
use crate::contacts::csv_import::REJECTED_HEADER;
use crate::limits;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(create).service(index).service(rejected).service(read);
}

/// How the file is to be read. Pairs are written `name:value` and separated by commas.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// Column that holds the contact's key.
    pub key: String,
    /// List that the rows join; made if there is none.
    pub list: Option<String>,
    /// Consent that every row gives, as `email:news`; several with commas. Without it an import gives nobody consent.
    pub subscribe: Option<String>,
    /// Subscribes also those who had unsubscribed.
    #[serde(default)]
    pub resubscribe: bool,
    /// Reads and reports, writes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Columns to attributes, as `Vorname:first_name,internal:`; an empty attribute leaves the column out.
    pub mapping: Option<String>,
    /// Columns to types, as `zip:text`, where inference would be wrong.
    pub types: Option<String>,
    /// `,`, `;` or `tab`; detected by default.
    pub delimiter: Option<String>,
    /// `utf-8`, `utf-16le`, `utf-16be`, `latin-1`; detected by default.
    pub encoding: Option<String>,
    /// Which row of a key that occurs twice wins: `newest` (default) or `oldest`.
    pub duplicates: Option<String>,
    /// Country (ISO 3166) of phone numbers without a country code.
    pub default_country: Option<String>,
    /// What the file is called in reports.
    pub file_name: Option<String>,
}

impl ImportQuery {
    fn options(self) -> ApiResult<ImportOptions> {
        if self.key.is_empty() {
            let message = "key is empty: name the column that holds the contact's key";
            return Err(ApiError::new(Code::InvalidParameter, message));
        }
        let delimiter = match self.delimiter.as_deref() {
            None => None,
            Some(",") => Some(','),
            Some(";") => Some(';'),
            Some("\t" | "tab") => Some('\t'),
            Some(other) => {
                let message = format!("delimiter is {other:?}, but must be ',', ';' or 'tab'");
                return Err(ApiError::new(Code::InvalidParameter, message));
            }
        };
        let subscribe = self.subscribe.as_deref().unwrap_or("").split(',').filter(|s| !s.is_empty());
        Ok(ImportOptions {
            key: self.key,
            list: self.list,
            subscribe: subscribe.map(str::to_owned).collect(),
            resubscribe: self.resubscribe,
            dry_run: self.dry_run,
            mapping: pairs("mapping", self.mapping.as_deref())?,
            types: pairs("types", self.types.as_deref())?,
            delimiter,
            encoding: self.encoding,
            duplicates: self.duplicates,
            default_country: self.default_country,
            file_name: self.file_name,
            request: None,
        })
    }
}

fn pairs(name: &str, text: Option<&str>) -> ApiResult<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for pair in text.unwrap_or("").split(',').filter(|p| !p.is_empty()) {
        // the value has no colon, a column's name may
        let Some((column, value)) = pair.rsplit_once(':') else {
            let message = format!("{name} has {pair:?}, but must be pairs column:value with commas between them");
            return Err(ApiError::new(Code::InvalidParameter, message));
        };
        pairs.insert(column.to_owned(), value.to_owned());
    }
    Ok(pairs)
}

/// A spooled upload; its file is deleted unless it was taken over.
pub(super) struct Spool {
    pub(super) path: PathBuf,
    pub(super) taken: bool,
}

impl Drop for Spool {
    fn drop(&mut self) {
        if !self.taken
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "an upload's spool file could not be deleted");
        }
    }
}

/// Uploads a CSV file (the body) and imports it. Answers when the file is complete and safe; the import goes on by itself.
#[utoipa::path(tag = "imports", params(ImportQuery), request_body(content = String, content_type = "text/csv"),
    responses((status = 202, body = ImportReport), (status = 200, description = "a dry run", body = ImportReport)))]
#[post("/v1/imports")]
async fn create(
    state: State,
    request: HttpRequest,
    query: web::Query<ImportQuery>,
    mut payload: web::Payload,
) -> ApiResult<HttpResponse> {
    let mut options = query.into_inner().options()?;
    let key = idempotency_key(request.headers())?;
    let Ok(_permit) = state.uploads.try_acquire() else {
        let message = format!("{} uploads are under way: try again when one has ended", limits::UPLOADS_MAX);
        return Err(ApiError::new(Code::TooManyRequests, message));
    };
    let port = engine(&state);
    let mut spool = Spool { path: blocking(move || port.spool_path()).await?, taken: false };
    let bytes_max = state.upload_bytes_max;
    let allowed = Allowed { bytes_max, setting: "server.upload_bytes_max", empty: Code::InvalidImport };
    let file_hash = receive(&request, &mut payload, &spool.path, &allowed).await?;
    let hash = blake3::hash(format!("{file_hash}?{}", request.query_string()).as_bytes());
    options.request = key.as_deref().map(|key| request_name(&format!("POST {UPLOAD_PATH}"), key, hash.as_bytes()));
    let flight = match key {
        None => None,
        Some(key) => {
            let begin = state.idempotency.begin(&format!("POST {UPLOAD_PATH}"), &key, hash, state.clock.now());
            match replay(begin.map_err(|error| storage_failed(&error))?) {
                Ok(flight) => Some(flight),
                Err(response) => return Ok(*response),
            }
        }
    };
    let (port, path, dry_run) = (engine(&state), spool.path.clone(), options.dry_run);
    let report = blocking(move || port.start_import(options, path)).await?;
    spool.taken = true;
    let (status, body) = (if dry_run { 200 } else { 202 }, serde_json::to_vec(&report).unwrap_or_default());
    if let Some(flight) = flight
        && let Err(error) = flight.finish(hash, status, "application/json", &body, state.clock.now())
    {
        tracing::error!(%error, "an answer could not be kept for its idempotency key");
    }
    let mut response = if dry_run { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(response.content_type("application/json").body(body))
}

/// What an upload may be.
pub(super) struct Allowed {
    pub(super) bytes_max: u64,
    /// Where that is set.
    pub(super) setting: &'static str,
    /// What an empty file is refused as.
    pub(super) empty: Code,
}

/// Writes the body to `path`, durably, and answers its hash.
pub(super) async fn receive(
    request: &HttpRequest,
    payload: &mut web::Payload,
    path: &Path,
    allowed: &Allowed,
) -> ApiResult<blake3::Hash> {
    let received = write_down(request, payload, path, allowed).await;
    if received.as_ref().is_err_and(|error| error.0.code == Code::BodyTooLarge) {
        throw_away(payload).await;
    }
    received
}

/// Takes some more of a body that is refused: whoever is still writing it would not see the answer, only a cut connection.
async fn throw_away(payload: &mut web::Payload) {
    let mut left = limits::REFUSED_UPLOAD_BYTES;
    let reading = async {
        while let Some(Ok(chunk)) = payload.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(limits::UPLOAD_IDLE_MAX, reading).await.ok();
}

async fn write_down(
    request: &HttpRequest,
    payload: &mut web::Payload,
    path: &Path,
    allowed: &Allowed,
) -> ApiResult<blake3::Hash> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let &Allowed { bytes_max, setting, empty } = allowed;
    let too_large = || {
        let message = format!("the upload has more than {bytes_max} bytes ({setting})");
        ApiError::new(Code::BodyTooLarge, message)
    };
    if announced.is_some_and(|n| n > bytes_max) {
        return Err(too_large());
    }
    let mut file = private_file(path).await.map_err(|error| spool_failed(&error))?;
    let (mut hasher, mut received) = (blake3::Hasher::new(), 0_u64);
    loop {
        let chunk = match tokio::time::timeout(limits::UPLOAD_IDLE_MAX, payload.next()).await {
            Err(_) => return Err(incomplete("nothing came for a while", received)),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(incomplete(&error.to_string(), received)),
            Ok(Some(Ok(chunk))) => chunk,
        };
        received += chunk.len() as u64;
        if received > bytes_max {
            return Err(too_large());
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(|error| spool_failed(&error))?;
    }
    if announced.is_some_and(|n| n != received) {
        return Err(incomplete("the connection ended", received));
    }
    if received == 0 {
        let message = "the file is empty: send the CSV file as the body, header line first";
        return Err(ApiError::new(empty, message));
    }
    file.flush().await.map_err(|error| spool_failed(&error))?;
    file.sync_all().await.map_err(|error| spool_failed(&error))?;
    Ok(hasher.finalize())
}

/// A fresh file that only its owner may read: it holds people's data.
async fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await
}

fn incomplete(why: &str, received: u64) -> ApiError {
    let message = format!("the upload ended after {received} bytes ({why}): nothing was imported, send it again");
    ApiError::new(Code::UploadIncomplete, message)
}

fn spool_failed(error: &std::io::Error) -> ApiError {
    tracing::error!(%error, "an upload could not be spooled");
    if error.kind() == std::io::ErrorKind::StorageFull {
        return ApiError::new(Code::StorageFull, "the disk of the data directory is full: nothing was imported");
    }
    ApiError::new(Code::Internal, "the upload could not be written to the data directory: nothing was imported")
}

/// All imports, newest first.
#[utoipa::path(tag = "imports", params(PageQuery), responses((status = 200, body = Listed<ImportReport>)))]
#[get("/v1/imports")]
async fn index(state: State, page: web::Query<PageQuery>) -> ApiResult<web::Json<Listed<ImportReport>>> {
    let request = page_request("imports", page.cursor.as_deref(), page.limit)?;
    let port = engine(&state);
    let page = blocking(move || port.imports(&request)).await?;
    Ok(web::Json(Listed::from_page("imports", page)))
}

/// How far an import is, and its row report.
#[utoipa::path(tag = "imports", responses((status = 200, body = ImportReport)))]
#[get("/v1/imports/{id}")]
async fn read(state: State, id: web::Path<u32>) -> ApiResult<web::Json<ImportReport>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.import(*id)).await?))
}

/// The rejected rows as CSV: line, column, reason, record.
#[utoipa::path(tag = "imports", responses((status = 200, body = String, content_type = "text/csv")))]
#[get("/v1/imports/{id}/rejected")]
async fn rejected(state: State, id: web::Path<u32>) -> ApiResult<HttpResponse> {
    let (port, import) = (engine(&state), *id);
    let path = blocking(move || port.import_rejected(import)).await?;
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"rejected-{id}.csv\"")));
    match path {
        None => Ok(response.body(REJECTED_HEADER)),
        Some(path) => {
            let file = File::open(&path).await.map_err(|error| {
                tracing::error!(%error, "a file of rejected rows cannot be read");
                ApiError::new(Code::ImportNotFound, "the rejected rows of this import are no longer kept")
            })?;
            Ok(response.streaming(ReaderStream::new(file)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upload-0.csv");
        let file = private_file(&path).await.unwrap();
        let mode = file.metadata().await.unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "nobody else reads an upload: {mode:o}");
        assert!(private_file(&path).await.is_err(), "a path is used once");
    }

    #[test]
    fn a_mapping_is_read_from_pairs() {
        let mapping = pairs("mapping", Some("Vorname:first_name,a:b:c,internal:")).unwrap();
        assert_eq!(mapping["Vorname"], "first_name");
        assert_eq!(mapping["a:b"], "c", "a column may have a colon");
        assert_eq!(mapping["internal"], "", "an empty attribute leaves the column out");
        assert_eq!(pairs("mapping", Some("x")).unwrap_err().0.code, Code::InvalidParameter);
    }

    #[test]
    fn options_name_what_is_wrong() {
        let query = |d: &str| ImportQuery { key: "id".into(), delimiter: Some(d.into()), ..ImportQuery::default() };
        assert_eq!(query("tab").options().unwrap().delimiter, Some('\t'));
        assert!(query("|").options().unwrap_err().to_string().contains("\"|\""));
        assert!(ImportQuery::default().options().is_err(), "a key column is needed");
    }
}
