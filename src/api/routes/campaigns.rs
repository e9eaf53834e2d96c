//! `/v1/campaigns`: specs in TOML or JSON, actions, previews. Owns no state.

use actix_web::{HttpRequest, HttpResponse, get, patch, post, web};
use serde::Deserialize;
use serde_json::Value as Json;
use utoipa::IntoParams;

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::guard::idempotency_key;
use crate::api::idempotency::request_name;
use crate::api::port::{
    Action, ActionDone, AudienceView, CampaignFilter, CampaignSummary, CampaignView, Preview, PreviewRequest, Ref,
    SpecCheck, TestSendRequest, TestSendResult,
};
use crate::api::reply::{ApiError, ApiResult, Listed, RawBody, blocking, json_or_default, page_request, spec_text};
use crate::limits;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(check).service(index).service(create).service(read).service(change);
    config.service(start).service(pause).service(resume).service(stop).service(archive);
    config.service(preview).service(test_send).service(audience);
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CampaignQuery {
    /// Only those in this state.
    pub state: Option<String>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

/// All campaigns, newest first.
#[utoipa::path(tag = "campaigns", params(CampaignQuery), responses((status = 200, body = Listed<CampaignSummary>)))]
#[get("/v1/campaigns")]
async fn index(state: State, query: web::Query<CampaignQuery>) -> ApiResult<web::Json<Listed<CampaignSummary>>> {
    let query = query.into_inner();
    let request = page_request("campaigns", query.cursor.as_deref(), query.limit)?;
    let filter = CampaignFilter { state: query.state };
    let port = engine(&state);
    let page = blocking(move || port.campaigns(&filter, &request)).await?;
    Ok(web::Json(Listed::from_page("campaigns", page)))
}

/// Saves a draft from a spec in JSON or TOML. It may be incomplete: `problems` lists all that would stop a start. What cannot
/// be read is refused, and the refusal's `details.problems` lists everything as a check does.
#[utoipa::path(tag = "campaigns",
    request_body(content((Json = "application/json"), (String = "application/toml"))),
    responses((status = 201, body = CampaignView)))]
#[post("/v1/campaigns")]
async fn create(state: State, request: HttpRequest, body: RawBody) -> ApiResult<HttpResponse> {
    let mut spec = spec_text(&request, body)?;
    let key = idempotency_key(request.headers())?;
    spec.request = key.map(|key| request_name(&format!("POST {}", request.path()), &key, spec.text.as_bytes()));
    let port = engine(&state);
    let made = blocking(move || port.create_campaign(spec)).await?;
    Ok(HttpResponse::Created().json(made))
}

/// Checks a spec without saving it: `problems` lists everything that is wrong with it at once, in the order of the text,
/// each with its code, its place (`path`, `node`, `spec_line`) and what to do. What cannot be read is listed beside the rest.
#[utoipa::path(tag = "campaigns",
    request_body(content((Json = "application/json"), (String = "application/toml"))),
    responses((status = 200, body = SpecCheck)))]
#[post("/v1/campaigns/check")]
async fn check(state: State, request: HttpRequest, body: RawBody) -> ApiResult<web::Json<SpecCheck>> {
    let spec = spec_text(&request, body)?;
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.check_campaign(spec)).await?))
}

/// One campaign, by id or name: state, spec, problems, legal moves.
#[utoipa::path(tag = "campaigns", responses((status = 200, body = CampaignView)))]
#[get("/v1/campaigns/{id}")]
async fn read(state: State, id: web::Path<String>) -> ApiResult<web::Json<CampaignView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.campaign(&Ref::parse(&id))).await?))
}

/// Changes a draft: a JSON merge patch (RFC 7396), or TOML with the keys to replace.
#[utoipa::path(tag = "campaigns",
    request_body(content((Json = "application/json"), (Json = "application/merge-patch+json"), (String = "application/toml"))),
    responses((status = 200, body = CampaignView)))]
#[patch("/v1/campaigns/{id}")]
async fn change(
    state: State,
    id: web::Path<String>,
    request: HttpRequest,
    body: RawBody,
) -> ApiResult<web::Json<CampaignView>> {
    let patch = spec_text(&request, body)?;
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.patch_campaign(&Ref::parse(&id), patch)).await?))
}

async fn act(state: State, id: web::Path<String>, action: Action) -> ApiResult<web::Json<ActionDone>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.act(&Ref::parse(&id), action)).await?))
}

/// Starts a run: evaluates the audience and begins to send.
#[utoipa::path(tag = "campaigns", responses((status = 200, body = ActionDone)))]
#[post("/v1/campaigns/{id}/start")]
async fn start(state: State, id: web::Path<String>) -> ApiResult<web::Json<ActionDone>> {
    act(state, id, Action::Start).await
}

/// Stops sending within a batch; nothing is lost.
#[utoipa::path(tag = "campaigns", responses((status = 200, body = ActionDone)))]
#[post("/v1/campaigns/{id}/pause")]
async fn pause(state: State, id: web::Path<String>) -> ApiResult<web::Json<ActionDone>> {
    act(state, id, Action::Pause).await
}

/// Goes on after a pause.
#[utoipa::path(tag = "campaigns", responses((status = 200, body = ActionDone)))]
#[post("/v1/campaigns/{id}/resume")]
async fn resume(state: State, id: web::Path<String>) -> ApiResult<web::Json<ActionDone>> {
    act(state, id, Action::Resume).await
}

/// Ends the run for good: what is not sent is skipped(stopped).
#[utoipa::path(tag = "campaigns", responses((status = 200, body = ActionDone)))]
#[post("/v1/campaigns/{id}/stop")]
async fn stop(state: State, id: web::Path<String>) -> ApiResult<web::Json<ActionDone>> {
    act(state, id, Action::Stop).await
}

/// Puts away a draft, or what has ended: it is read, and changes no more; what it named is free.
#[utoipa::path(tag = "campaigns", responses((status = 200, body = ActionDone)))]
#[post("/v1/campaigns/{id}/archive")]
async fn archive(state: State, id: web::Path<String>) -> ApiResult<web::Json<ActionDone>> {
    act(state, id, Action::Archive).await
}

/// The message as one contact would get it.
#[utoipa::path(tag = "campaigns", request_body = PreviewRequest, responses((status = 200, body = Preview)))]
#[post("/v1/campaigns/{id}/preview")]
async fn preview(state: State, id: web::Path<String>, body: RawBody) -> ApiResult<web::Json<Preview>> {
    let request: PreviewRequest = json_or_default(body)?;
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.preview(&Ref::parse(&id), request)).await?))
}

/// Sends the message to seed addresses, outside the ledger and marked as a test.
#[utoipa::path(tag = "campaigns", request_body = TestSendRequest, responses((status = 200, body = Listed<TestSendResult>)))]
#[post("/v1/campaigns/{id}/test-send")]
async fn test_send(
    state: State,
    id: web::Path<String>,
    request: web::Json<TestSendRequest>,
) -> ApiResult<web::Json<Listed<TestSendResult>>> {
    if !(1..=limits::TEST_SEND_MAX).contains(&request.to.len()) {
        let message = format!("to has {} addresses, but must have 1 to {}", request.to.len(), limits::TEST_SEND_MAX);
        return Err(ApiError::new(Code::InvalidParameter, message));
    }
    let port = engine(&state);
    let items = blocking(move || port.test_send(&Ref::parse(&id), request.into_inner())).await?;
    Ok(web::Json(Listed { items, next_cursor: None }))
}

/// Who would be sent to now, and why others would not.
#[utoipa::path(tag = "campaigns", responses((status = 200, body = AudienceView)))]
#[post("/v1/campaigns/{id}/audience")]
async fn audience(state: State, id: web::Path<String>) -> ApiResult<web::Json<AudienceView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.audience(&Ref::parse(&id))).await?))
}
