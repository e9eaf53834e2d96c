//! `/v1/campaigns/{id}/graph`, `/dry-run` and `/choose-winner`. Owns no state.

use actix_web::{HttpResponse, get, post, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{State, engine};
use crate::api::port::{ChooseWinnerRequest, DryRunRequest, DryRunView, Ref, TestReport};
use crate::api::reply::{ApiResult, RawBody, blocking, json_or_default};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(graph).service(dry_run).service(choose_winner);
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GraphQuery {
    /// `text` (default), `mermaid` or `json`.
    pub format: Option<String>,
}

/// The flow of the campaign; once it has run, with the contacts at each node.
#[utoipa::path(tag = "campaigns", params(GraphQuery), responses((status = 200, body = String)))]
#[get("/v1/campaigns/{id}/graph")]
async fn graph(state: State, id: web::Path<String>, query: web::Query<GraphQuery>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    let format = query.into_inner().format.unwrap_or_else(|| "text".to_owned());
    let graph = blocking(move || port.graph(&Ref::parse(&id), &format)).await?;
    Ok(HttpResponse::Ok().content_type(graph.content_type).body(graph.text))
}

/// How many contacts would be at which node of the flow at what time, with the contacts of now and the rates that are
/// assumed; sends nothing and changes nothing.
#[utoipa::path(tag = "campaigns", request_body = DryRunRequest, responses((status = 200, body = DryRunView)))]
#[post("/v1/campaigns/{id}/dry-run")]
async fn dry_run(state: State, id: web::Path<String>, body: RawBody) -> ApiResult<web::Json<DryRunView>> {
    let request: DryRunRequest = json_or_default(body)?;
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.dry_run(&Ref::parse(&id), request)).await?))
}

/// A person decides what the rest of an A/B test gets. Final.
#[utoipa::path(tag = "campaigns", request_body = ChooseWinnerRequest, responses((status = 200, body = TestReport)))]
#[post("/v1/campaigns/{id}/choose-winner")]
async fn choose_winner(
    state: State,
    id: web::Path<String>,
    request: web::Json<ChooseWinnerRequest>,
) -> ApiResult<web::Json<TestReport>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.choose_winner(&Ref::parse(&id), request.into_inner())).await?))
}
