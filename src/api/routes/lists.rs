//! `/v1/lists`. Owns no state.

use actix_web::{HttpResponse, delete, get, post, web};

use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{ListChange, ListChanged, ListView, NewList};
use crate::api::reply::{ApiError, ApiResult, Listed, PageQuery, blocking, page_request};
use crate::limits;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(index).service(create).service(read).service(remove).service(change).service(contacts);
}

/// All lists, by name.
#[utoipa::path(tag = "lists", params(PageQuery), responses((status = 200, body = Listed<ListView>)))]
#[get("/v1/lists")]
async fn index(state: State, page: web::Query<PageQuery>) -> ApiResult<web::Json<Listed<ListView>>> {
    let request = page_request("lists", page.cursor.as_deref(), page.limit)?;
    let port = engine(&state);
    let page = blocking(move || port.lists(&request)).await?;
    Ok(web::Json(Listed::from_page("lists", page)))
}

/// Makes a list, empty, of keys, or from a segment as it is now.
#[utoipa::path(tag = "lists", request_body = NewList, responses((status = 201, body = ListView)))]
#[post("/v1/lists")]
async fn create(state: State, list: web::Json<NewList>) -> ApiResult<HttpResponse> {
    bounded(list.contacts.len())?;
    let port = engine(&state);
    let made = blocking(move || port.create_list(list.into_inner())).await?;
    Ok(HttpResponse::Created().json(made))
}

/// One list.
#[utoipa::path(tag = "lists", responses((status = 200, body = ListView)))]
#[get("/v1/lists/{name}")]
async fn read(state: State, name: web::Path<String>) -> ApiResult<web::Json<ListView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.list(&name)).await?))
}

/// Deletes a list; its contacts stay.
#[utoipa::path(tag = "lists", responses((status = 204)))]
#[delete("/v1/lists/{name}")]
async fn remove(state: State, name: web::Path<String>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    blocking(move || port.delete_list(&name)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Adds and removes contacts by key.
#[utoipa::path(tag = "lists", request_body = ListChange, responses((status = 200, body = ListChanged)))]
#[post("/v1/lists/{name}/contacts")]
async fn change(
    state: State,
    name: web::Path<String>,
    change: web::Json<ListChange>,
) -> ApiResult<web::Json<ListChanged>> {
    bounded(change.add.len() + change.remove.len())?;
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.change_list(&name, change.into_inner())).await?))
}

/// Keys of the contacts of a list.
#[utoipa::path(tag = "lists", params(PageQuery), responses((status = 200, body = Listed<String>)))]
#[get("/v1/lists/{name}/contacts")]
async fn contacts(
    state: State,
    name: web::Path<String>,
    page: web::Query<PageQuery>,
) -> ApiResult<web::Json<Listed<String>>> {
    let list = format!("lists/{name}");
    let request = page_request(&list, page.cursor.as_deref(), page.limit)?;
    let port = engine(&state);
    let page = blocking(move || port.list_contacts(&name, &request)).await?;
    Ok(web::Json(Listed::from_page(&list, page)))
}

/// A request names a bounded number of contacts.
pub(super) fn bounded(entries: usize) -> ApiResult<()> {
    let most = limits::REQUEST_ENTRIES_MAX;
    if entries <= most {
        return Ok(());
    }
    let message =
        format!("{entries} entries in one request; at most {most} are taken: send several, or import a CSV file");
    Err(ApiError::new(Code::BodyTooLarge, message))
}
