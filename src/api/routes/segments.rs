//! `/v1/segments`. Owns no state.

use actix_web::{HttpResponse, delete, get, post, put, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{NewSegment, SegmentPreview, SegmentPreviewRequest, SegmentView};
use crate::api::reply::{ApiError, ApiResult, Listed, PageQuery, blocking, page_request};
use crate::limits;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(preview).service(index).service(create).service(read).service(update).service(remove);
}

/// The new expression of a segment.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentUpdate {
    pub expression: String,
}

/// All segments, by name.
#[utoipa::path(tag = "segments", params(PageQuery), responses((status = 200, body = Listed<SegmentView>)))]
#[get("/v1/segments")]
async fn index(state: State, page: web::Query<PageQuery>) -> ApiResult<web::Json<Listed<SegmentView>>> {
    let request = page_request("segments", page.cursor.as_deref(), page.limit)?;
    let port = engine(&state);
    let page = blocking(move || port.segments(&request)).await?;
    Ok(web::Json(Listed::from_page("segments", page)))
}

/// Saves a segment under a name.
#[utoipa::path(tag = "segments", request_body = NewSegment, responses((status = 201, body = SegmentView)))]
#[post("/v1/segments")]
async fn create(state: State, segment: web::Json<NewSegment>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    let made = blocking(move || port.create_segment(segment.into_inner())).await?;
    Ok(HttpResponse::Created().json(made))
}

/// Counts an expression now: the exact count, a sample, the time it took and which part had to scan.
#[utoipa::path(tag = "segments", request_body = SegmentPreviewRequest, responses((status = 200, body = SegmentPreview)))]
#[post("/v1/segments/preview")]
async fn preview(state: State, request: web::Json<SegmentPreviewRequest>) -> ApiResult<web::Json<SegmentPreview>> {
    if request.sample > limits::PREVIEW_SAMPLE_MAX {
        let message = format!("sample is {}, but must be 0 to {}", request.sample, limits::PREVIEW_SAMPLE_MAX);
        return Err(ApiError::new(Code::InvalidParameter, message));
    }
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.preview_segment(request.into_inner())).await?))
}

/// One segment.
#[utoipa::path(tag = "segments", responses((status = 200, body = SegmentView)))]
#[get("/v1/segments/{name}")]
async fn read(state: State, name: web::Path<String>) -> ApiResult<web::Json<SegmentView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.segment(&name)).await?))
}

/// Changes the expression of a segment.
#[utoipa::path(tag = "segments", request_body = SegmentUpdate, responses((status = 200, body = SegmentView)))]
#[put("/v1/segments/{name}")]
async fn update(
    state: State,
    name: web::Path<String>,
    update: web::Json<SegmentUpdate>,
) -> ApiResult<web::Json<SegmentView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.update_segment(&name, &update.expression)).await?))
}

/// Deletes a segment that nothing uses.
#[utoipa::path(tag = "segments", responses((status = 204)))]
#[delete("/v1/segments/{name}")]
async fn remove(state: State, name: web::Path<String>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    blocking(move || port.delete_segment(&name)).await?;
    Ok(HttpResponse::NoContent().finish())
}
