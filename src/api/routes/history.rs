//! `/v1/campaigns/{id}/resend` and `/v1/messages`. Owns no state.

use actix_web::{HttpRequest, HttpResponse, delete, get, post, put, web};
use serde_json::Value as Json;

use super::{State, engine};
use crate::api::port::{Ref, ResendDone, ResendRequest, SavedMessageSummary, SavedMessageView};
use crate::api::reply::{ApiResult, Listed, PageQuery, RawBody, blocking, page_request, spec_text};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(resend).service(index).service(read).service(save).service(remove);
}

/// Sends to a set of a finished or stopped run again: a campaign of its own, linked to the first, and started. Who got, or may
/// still get, the message by an earlier resend is left out.
#[utoipa::path(tag = "campaigns", request_body = ResendRequest, responses((status = 201, body = ResendDone)))]
#[post("/v1/campaigns/{id}/resend")]
async fn resend(state: State, id: web::Path<String>, request: web::Json<ResendRequest>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    let done = blocking(move || port.resend(&Ref::parse(&id), request.into_inner())).await?;
    Ok(HttpResponse::Created().json(done))
}

/// All saved messages, by name.
#[utoipa::path(tag = "messages", params(PageQuery), responses((status = 200, body = Listed<SavedMessageSummary>)))]
#[get("/v1/messages")]
async fn index(state: State, page: web::Query<PageQuery>) -> ApiResult<web::Json<Listed<SavedMessageSummary>>> {
    let request = page_request("messages", page.cursor.as_deref(), page.limit)?;
    let port = engine(&state);
    let page = blocking(move || port.messages(&request)).await?;
    Ok(web::Json(Listed::from_page("messages", page)))
}

/// One saved message, in its newest version.
#[utoipa::path(tag = "messages", responses((status = 200, body = SavedMessageView)))]
#[get("/v1/messages/{name}")]
async fn read(state: State, name: web::Path<String>) -> ApiResult<web::Json<SavedMessageView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.message(&name)).await?))
}

/// Saves a message under a name, as its first or next version: the keys of `[message]`, in JSON or TOML. Campaigns that have
/// started keep the version that they started with.
#[utoipa::path(tag = "messages",
    request_body(content((Json = "application/json"), (String = "application/toml"))),
    responses((status = 200, body = SavedMessageView), (status = 201, body = SavedMessageView)))]
#[put("/v1/messages/{name}")]
async fn save(state: State, name: web::Path<String>, request: HttpRequest, body: RawBody) -> ApiResult<HttpResponse> {
    let message = spec_text(&request, body)?;
    let port = engine(&state);
    let (saved, new) = blocking(move || port.put_message(&name, message)).await?;
    Ok(if new { HttpResponse::Created().json(saved) } else { HttpResponse::Ok().json(saved) })
}

/// Deletes a saved message that no unfinished campaign uses.
#[utoipa::path(tag = "messages", responses((status = 204)))]
#[delete("/v1/messages/{name}")]
async fn remove(state: State, name: web::Path<String>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    blocking(move || port.delete_message(&name)).await?;
    Ok(HttpResponse::NoContent().finish())
}
