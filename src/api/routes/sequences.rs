//! `/v1/campaigns/{id}/publish`, `edit`, `extend`, `enter`, `test-start`. Owns no state.

use actix_web::{HttpRequest, post, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::guard::idempotency_key;
use crate::api::port::{
    EnterDone, EnterRequest, PublishDone, PublishRequest, Ref, ReleaseRequest, SequenceView, StartTestDone,
};
use crate::api::reply::{ApiError, ApiResult, RawBody, blocking, json_or_default};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(publish).service(edit).service(extend).service(enter).service(release_step).service(test_start);
}

#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PublishQuery {
    /// Nothing is published without it, here or in the body.
    #[serde(default)]
    pub confirm: bool,
}

/// Puts a version into force: the draft of a sequence, or the working copy of any campaign that runs or is finished. Answers
/// planned and effective start of each step, or the messages and nodes that are changed. What somebody was sent already is
/// locked, and so is what contacts have gone through: the refusal lists all of it.
/// Without `confirm` nothing is published, and the refusal shows the same.
#[utoipa::path(tag = "sequences", params(PublishQuery), request_body = PublishRequest,
    responses((status = 200, body = PublishDone)))]
#[post("/v1/campaigns/{id}/publish")]
async fn publish(
    state: State,
    id: web::Path<String>,
    query: web::Query<PublishQuery>,
    body: RawBody,
) -> ApiResult<web::Json<PublishDone>> {
    let asked: PublishRequest = json_or_default(body)?;
    let request = PublishRequest { confirm: asked.confirm || query.confirm };
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.publish(&Ref::parse(&id), request)).await?))
}

/// Opens a working copy of a campaign that is running (a sequence: or scheduled); PATCH changes it, publish puts it into
/// force. Of a sequence, the start of the next step closes it. While launches are still to come, PATCH changes those, and no
/// working copy is opened (`launches_ahead`): unschedule first to edit the run.
#[utoipa::path(tag = "sequences", responses((status = 200, body = SequenceView)))]
#[post("/v1/campaigns/{id}/edit")]
async fn edit(state: State, id: web::Path<String>) -> ApiResult<web::Json<SequenceView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.edit(&Ref::parse(&id))).await?))
}

/// Opens a working copy of a finished sequence, flow or single campaign, to go on with the same contacts: steps or nodes
/// behind its ends, a follow-up. A/B splits and grids go on by a resend.
#[utoipa::path(tag = "sequences", responses((status = 200, body = SequenceView)))]
#[post("/v1/campaigns/{id}/extend")]
async fn extend(state: State, id: web::Path<String>) -> ApiResult<web::Json<SequenceView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.extend(&Ref::parse(&id))).await?))
}

/// Brings contacts into a sequence that is started by requests. They start at once; each enters once; requests are taken
/// until the first dated step starts. A sequence without a dated step takes them without end, and never finishes by itself:
/// `POST /v1/campaigns/{id}/stop` ends it.
#[utoipa::path(tag = "sequences", request_body = EnterRequest, responses((status = 200, body = EnterDone)))]
#[post("/v1/campaigns/{id}/enter")]
async fn enter(
    state: State,
    id: web::Path<String>,
    request: HttpRequest,
    body: web::Json<EnterRequest>,
) -> ApiResult<web::Json<EnterDone>> {
    let asked = body.into_inner();
    let header = idempotency_key(request.headers())?;
    let Some(name) = asked.idempotency_key.clone().or(header).filter(|name| !name.trim().is_empty()) else {
        let message = "the request has no idempotency key: send the header Idempotency-Key, or idempotency_key";
        return Err(ApiError::new(Code::InvalidParameter, message));
    };
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.enter(&Ref::parse(&id), &asked.contacts, &name)).await?))
}

/// Starts or skips a step that did not start within its limit (`too_late`) and is held back for a person.
#[utoipa::path(tag = "sequences", request_body = ReleaseRequest, responses((status = 200, body = SequenceView)))]
#[post("/v1/campaigns/{id}/release-step")]
async fn release_step(
    state: State,
    id: web::Path<String>,
    body: web::Json<ReleaseRequest>,
) -> ApiResult<web::Json<SequenceView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.release_step(&Ref::parse(&id), body.into_inner())).await?))
}

/// Measures how long the start takes, without starting: the least time between two steps.
#[utoipa::path(tag = "sequences", responses((status = 200, body = StartTestDone)))]
#[post("/v1/campaigns/{id}/test-start")]
async fn test_start(state: State, id: web::Path<String>) -> ApiResult<web::Json<StartTestDone>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.test_start(&Ref::parse(&id))).await?))
}
