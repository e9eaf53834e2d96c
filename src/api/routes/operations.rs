//! Connectors, health, metrics. Owns no state.

use actix_web::http::header;
use actix_web::{HttpResponse, get, post, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{ConnectorTest, ConnectorView, ConnectorsCount, Health, HealthState, PortError};
use crate::api::reply::{ApiError, ApiResult, Listed, blocking};
use crate::metrics;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(connectors).service(test_connector).service(health).service(ready).service(scrape);
}

/// The configured connectors and how they are. Not paged: there are at most 256.
#[utoipa::path(tag = "operations", responses((status = 200, body = Listed<ConnectorView>)))]
#[get("/v1/connectors")]
async fn connectors(state: State) -> ApiResult<web::Json<Listed<ConnectorView>>> {
    let port = engine(&state);
    let items = blocking(move || port.connectors()).await?;
    Ok(web::Json(Listed { items, next_cursor: None }))
}

/// Connects, greets and authenticates; sends nothing.
#[utoipa::path(tag = "operations", responses((status = 200, body = ConnectorTest)))]
#[post("/v1/connectors/{name}/test")]
async fn test_connector(state: State, name: web::Path<String>) -> ApiResult<web::Json<ConnectorTest>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.test_connector(&name)).await?))
}

/// How the process is, with reasons; 200 as long as it answers and its journal has not failed, so that it is good for
/// a liveness probe. Needs no key.
#[utoipa::path(tag = "operations", responses((status = 200, body = Health)), security(()))]
#[get("/health")]
async fn health(state: State) -> ApiResult<web::Json<Health>> {
    let port = engine(&state);
    let found = blocking(move || Ok(port.health())).await?;
    if found.state == HealthState::Failed {
        Err(not_ready(&found, "the journal has failed"))
    } else {
        Ok(web::Json(found))
    }
}

/// What is asked of a server that is to be ready.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReadyQuery {
    /// `none` (default), `any`: 503 when no connector can be used, `all`: 503 when one can't be used.
    #[serde(default)]
    connectors: ConnectorsCount,
}

/// 200 while requests are served and what they change is made durable: recovery is done, no shutdown has begun, the
/// journal is written and synced, the disk has room. Else 503 with the reasons in `details`. Needs no key.
#[utoipa::path(tag = "operations", params(ReadyQuery), responses((status = 200, body = Health)), security(()))]
#[get("/ready")]
async fn ready(state: State, query: web::Query<ReadyQuery>) -> ApiResult<web::Json<Health>> {
    let port = engine(&state);
    let found = blocking(move || Ok(port.health())).await?;
    if found.is_ready(query.connectors) {
        return Ok(web::Json(found));
    }
    Err(not_ready(&found, found.problems.first().map_or("it is shutting down", String::as_str)))
}

fn not_ready(found: &Health, first: &str) -> ApiError {
    let words = serde_json::json!({"state": found.state, "problems": found.problems, "checks": found.checks});
    ApiError(PortError::new(Code::NotReady, format!("the server is not ready: {first}")).with(words))
}

/// Figures in Prometheus text format.
#[utoipa::path(tag = "operations", responses((status = 200, body = String, content_type = "text/plain")))]
#[get("/metrics")]
async fn scrape(state: State) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    let recorder = state.recorder.clone();
    let text = blocking(move || {
        let recorded = recorder.map(|recorder| recorder.render()).unwrap_or_default();
        let live = metrics::render_live(&port.live_figures());
        let room = metrics::room_beside(&[&recorded, &live]);
        let campaigns = metrics::render_campaigns(&port.campaign_series(), room);
        Ok([recorded, live, campaigns].concat())
    })
    .await?;
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")).body(text))
}
