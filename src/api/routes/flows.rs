//! `/v1/campaigns/{id}/graph` and `/choose-winner`. Owns no state.

use actix_web::{HttpResponse, get, post, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{State, engine};
use crate::api::port::{ChooseWinnerRequest, Ref, TestReport};
use crate::api::reply::{ApiResult, blocking};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(graph).service(choose_winner);
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
