//! `/v1/campaigns/{id}/schedule`, `/unschedule` and `/v1/calendar`. Owns no state.

use actix_web::{HttpRequest, get, patch, post, web};
use serde::Deserialize;
use serde_json::Value as Json;
use utoipa::IntoParams;

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{Action, ActionDone, Calendar, CampaignView, MoveRequest, Ref, Time};
use crate::api::reply::{ApiError, ApiResult, RawBody, blocking, spec_text};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(calendar).service(move_date).service(reschedule).service(unschedule);
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CalendarQuery {
    /// An instant (RFC 3339); now, unless it is said.
    pub from: Option<String>,
    /// Not included; 31 days after `from`, unless it is said.
    pub to: Option<String>,
}

/// What is planned over all campaigns, and what became of it. A date is changed by its name
/// (`date`) with `calendar/move`, or by PATCH of the campaign.
#[utoipa::path(tag = "campaigns", params(CalendarQuery), responses((status = 200, body = Calendar)))]
#[get("/v1/calendar")]
async fn calendar(state: State, query: web::Query<CalendarQuery>) -> ApiResult<web::Json<Calendar>> {
    let query = query.into_inner();
    let (from, to) = (instant("from", query.from.as_deref())?, instant("to", query.to.as_deref())?);
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.calendar(from, to)).await?))
}

/// Changes a date of the calendar: of a launch, a cell, a variant, or a step of a sequence, each under its own rules.
#[utoipa::path(tag = "campaigns", request_body = MoveRequest, responses((status = 200, body = CampaignView)))]
#[post("/v1/calendar/move")]
async fn move_date(state: State, body: web::Json<MoveRequest>) -> ApiResult<web::Json<CampaignView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.move_date(body.into_inner())).await?))
}

fn instant(name: &str, text: Option<&str>) -> ApiResult<Option<Time>> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(Some(Time(crate::clock::Timestamp(at.as_millisecond())))),
        Err(_) => {
            let message = format!("{name} is {text:?}, and must be an instant such as 2026-12-01T00:00:00Z");
            Err(ApiError::new(Code::InvalidParameter, message))
        }
    }
}

/// Changes when a campaign starts: a merge patch of the spec's `[schedule]`, set a key to null to remove it. A scheduled
/// campaign is published anew: it starts the safety time after this at the earliest.
#[utoipa::path(tag = "campaigns",
    request_body(content((Json = "application/json"), (Json = "application/merge-patch+json"), (String = "application/toml"))),
    responses((status = 200, body = CampaignView)))]
#[patch("/v1/campaigns/{id}/schedule")]
async fn reschedule(
    state: State,
    id: web::Path<String>,
    request: HttpRequest,
    body: RawBody,
) -> ApiResult<web::Json<CampaignView>> {
    let patch = spec_text(&request, body)?;
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.reschedule(&Ref::parse(&id), patch)).await?))
}

/// Takes the schedule back: nothing more is launched. A campaign that was never launched is a draft again.
#[utoipa::path(tag = "campaigns", responses((status = 200, body = ActionDone)))]
#[post("/v1/campaigns/{id}/unschedule")]
async fn unschedule(state: State, id: web::Path<String>) -> ApiResult<web::Json<ActionDone>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.act(&Ref::parse(&id), Action::Unschedule)).await?))
}
