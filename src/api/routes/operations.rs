//! Connectors, health, metrics. Owns no state.

use actix_web::http::header;
use actix_web::{HttpResponse, get, post, web};

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{ConnectorTest, ConnectorView, Health};
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

/// Whether the process is alive; needs no key.
#[utoipa::path(tag = "operations", responses((status = 200, body = Health)), security(()))]
#[get("/health")]
async fn health(state: State) -> ApiResult<web::Json<Health>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || Ok(port.health())).await?))
}

/// 200 once recovery is done and until a shutdown begins, else 503; needs no key.
#[utoipa::path(tag = "operations", responses((status = 200, body = Health)), security(()))]
#[get("/ready")]
async fn ready(state: State) -> ApiResult<web::Json<Health>> {
    let port = engine(&state);
    let found = blocking(move || Ok(port.health())).await?;
    if found.is_ready() {
        return Ok(web::Json(found));
    }
    let words = serde_json::json!({"state": found.state, "problems": found.problems});
    let message = "the engine is not ready: it is recovering, shutting down, or has failed";
    Err(ApiError(crate::api::port::PortError::new(Code::NotReady, message).with(words)))
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
        Ok([recorded, live, metrics::render_campaigns(&port.campaign_series())].concat())
    })
    .await?;
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")).body(text))
}
