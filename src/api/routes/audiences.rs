//! `/v1/audiences`: CSV files that a campaign is sent to and that never become contacts.
//!
//! Owns no state. Invariants: AU-1 an upload that ends early, or is too large by one byte, leaves nothing; AU-2 bytes are
//! counted while they come, whatever the head of the request says of them; AU-3 a 201 means that the rows are durable.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use serde::Deserialize;
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use super::imports::{Allowed, Spool, receive};
use super::{State, engine};
use crate::api::errors::Code;
use crate::api::guard::{AUDIENCES_PATH, idempotency_key, replay, storage_failed};
use crate::api::idempotency::request_name;
use crate::api::port::{NewUpload, Ref, UploadDetail, UploadView};
use crate::api::reply::{ApiError, ApiResult, Listed, PageQuery, blocking, page_request};
use crate::contacts::csv_import::REJECTED_HEADER;
use crate::contacts::one_shot::sample::sample;
use crate::ids::Channel;
use crate::limits;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(create).service(index).service(sample_file).service(invalid).service(read).service(remove);
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// The channel whose addresses the column `id` holds: `email` (default), `sms`, `whatsapp`, `push`, `web_push`, `in_app`.
    pub channel: Option<String>,
    /// What campaigns may call it, beside its id.
    pub name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SampleQuery {
    /// `email` (default) or another channel.
    pub channel: Option<String>,
}

/// Uploads a CSV file (the body) as a one-shot audience: header line, `,` or `;`, a column `email`, `phone` or `id`, all others
/// are variables of the message. It never becomes contacts. Answers with what is in it.
#[utoipa::path(tag = "audiences", params(UploadQuery), request_body(content = String, content_type = "text/csv"),
    responses((status = 201, body = UploadDetail)))]
#[post("/v1/audiences")]
async fn create(
    state: State,
    request: HttpRequest,
    query: web::Query<UploadQuery>,
    mut payload: web::Payload,
) -> ApiResult<HttpResponse> {
    let query = query.into_inner();
    let key = idempotency_key(request.headers())?;
    let Ok(_permit) = state.uploads.try_acquire() else {
        let message = format!("{} uploads are under way: try again when one has ended", limits::UPLOADS_MAX);
        return Err(ApiError::new(Code::TooManyRequests, message));
    };
    let channel = query.channel.unwrap_or_else(|| Channel::Email.name().to_owned());
    let port = engine(&state);
    // The rows are in a store of their own when it is answered, so that the spooled file always goes.
    let spool = Spool { path: blocking(move || port.spool_path()).await?, taken: false };
    let bytes_max = state.one_shot_bytes_max;
    let allowed = Allowed { bytes_max, setting: "data.one_shot_max_bytes", empty: Code::InvalidAudience };
    let file_hash = receive(&request, &mut payload, &spool.path, &allowed).await?;
    let hash = blake3::hash(format!("{file_hash}?{}", request.query_string()).as_bytes());
    let route = format!("POST {AUDIENCES_PATH}");
    let named = key.as_deref().map(|key| request_name(&route, key, hash.as_bytes()));
    let flight = match key {
        None => None,
        Some(key) => {
            let begin = state.idempotency.begin(&route, &key, hash, state.clock.now());
            match replay(begin.map_err(|error| storage_failed(&error))?) {
                Ok(flight) => Some(flight),
                Err(response) => return Ok(*response),
            }
        }
    };
    let upload = NewUpload { channel, name: query.name, request: named };
    let (port, path) = (engine(&state), spool.path.clone());
    let detail = blocking(move || port.upload(upload, &path)).await?;
    let body = serde_json::to_vec(&detail).unwrap_or_default();
    if let Some(flight) = flight
        && let Err(error) = flight.finish(hash, 201, "application/json", &body, state.clock.now())
    {
        tracing::error!(%error, "an answer could not be kept for its idempotency key");
    }
    Ok(HttpResponse::Created().content_type("application/json").body(body))
}

/// All uploads, oldest first.
#[utoipa::path(tag = "audiences", params(PageQuery), responses((status = 200, body = Listed<UploadView>)))]
#[get("/v1/audiences")]
async fn index(state: State, page: web::Query<PageQuery>) -> ApiResult<web::Json<Listed<UploadView>>> {
    let request = page_request("audiences", page.cursor.as_deref(), page.limit)?;
    let port = engine(&state);
    let page = blocking(move || port.uploads(&request)).await?;
    Ok(web::Json(Listed::from_page("audiences", page)))
}

/// An example file to begin from.
#[utoipa::path(tag = "audiences", params(SampleQuery), responses((status = 200, body = String, content_type = "text/csv")))]
#[get("/v1/audiences/sample.csv")]
async fn sample_file(query: web::Query<SampleQuery>) -> ApiResult<HttpResponse> {
    let name = query.channel.as_deref().unwrap_or(Channel::Email.name());
    let Some(text) = Channel::from_name(name).and_then(sample) else {
        let message = format!("channel is {name:?}, but must be email, sms, whatsapp, push, web_push or in_app");
        return Err(ApiError::new(Code::InvalidParameter, message));
    };
    Ok(csv("sample.csv").body(text))
}

/// One upload, by id or name: what is in it, and who of it could be sent to now.
#[utoipa::path(tag = "audiences", responses((status = 200, body = UploadDetail)))]
#[get("/v1/audiences/{id}")]
async fn read(state: State, id: web::Path<String>) -> ApiResult<web::Json<UploadDetail>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.uploaded(&Ref::parse(&id))).await?))
}

/// The invalid rows as CSV: line, column, reason, record.
#[utoipa::path(tag = "audiences", responses((status = 200, body = String, content_type = "text/csv")))]
#[get("/v1/audiences/{id}/invalid.csv")]
async fn invalid(state: State, id: web::Path<String>) -> ApiResult<HttpResponse> {
    let (port, upload) = (engine(&state), Ref::parse(&id));
    let path = blocking(move || port.invalid_rows(&upload)).await?;
    let mut response = csv("invalid.csv");
    match path {
        None => Ok(response.body(REJECTED_HEADER)),
        Some(path) => {
            let file = File::open(&path).await.map_err(|error| {
                tracing::error!(%error, "a file of invalid rows cannot be read");
                ApiError::new(Code::AudienceGone, "the rows of this upload were deleted meanwhile")
            })?;
            Ok(response.streaming(ReaderStream::new(file)))
        }
    }
}

/// Deletes an upload's rows. Refused while an unfinished run is sent to them.
#[utoipa::path(tag = "audiences", responses((status = 204, description = "deleted")))]
#[delete("/v1/audiences/{id}")]
async fn remove(state: State, id: web::Path<String>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    blocking(move || port.delete_upload(&Ref::parse(&id))).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn csv(name: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")));
    response
}
