//! `/v1/contacts` and `/v1/attributes`. Owns no state.

use actix_web::{HttpResponse, delete, get, patch, post, put, web};
use serde_json::Value as Json;

use super::{State, engine};
use crate::api::port::{AttributeView, ContactInput, ContactView, NewAttribute};
use crate::api::reply::{ApiResult, Listed, blocking};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(export).service(read).service(write).service(change).service(erase);
    config.service(attributes).service(add_attribute);
}

/// One contact: fields, consent, lists, suppression.
#[utoipa::path(tag = "contacts", responses((status = 200, body = ContactView)))]
#[get("/v1/contacts/{key}")]
async fn read(state: State, key: web::Path<String>) -> ApiResult<web::Json<ContactView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.contact(&key)).await?))
}

/// Creates or replaces a contact. Consent that is not named stays as it is.
#[utoipa::path(tag = "contacts", request_body = ContactInput,
    responses((status = 200, body = ContactView), (status = 201, body = ContactView)))]
#[put("/v1/contacts/{key}")]
async fn write(state: State, key: web::Path<String>, contact: web::Json<ContactInput>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    let (view, created) = blocking(move || port.put_contact(&key, contact.into_inner())).await?;
    Ok(if created { HttpResponse::Created().json(view) } else { HttpResponse::Ok().json(view) })
}

/// Changes the fields that are named; null removes one.
#[utoipa::path(tag = "contacts", request_body = ContactInput, responses((status = 200, body = ContactView)))]
#[patch("/v1/contacts/{key}")]
async fn change(
    state: State,
    key: web::Path<String>,
    contact: web::Json<ContactInput>,
) -> ApiResult<web::Json<ContactView>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.patch_contact(&key, contact.into_inner())).await?))
}

/// Erases a contact's profile and history; a salted suppression entry stays.
#[utoipa::path(tag = "contacts", responses((status = 204)))]
#[delete("/v1/contacts/{key}")]
async fn erase(state: State, key: web::Path<String>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    blocking(move || port.erase_contact(&key)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Everything that is held about a contact.
#[utoipa::path(tag = "contacts", responses((status = 200, body = Object)))]
#[get("/v1/contacts/{key}/export")]
async fn export(state: State, key: web::Path<String>) -> ApiResult<web::Json<Json>> {
    let port = engine(&state);
    Ok(web::Json(blocking(move || port.export_contact(&key)).await?))
}

/// The schema: built-in attributes and own ones. Not paged: there are at most 1024.
#[utoipa::path(tag = "contacts", responses((status = 200, body = Listed<AttributeView>)))]
#[get("/v1/attributes")]
async fn attributes(state: State) -> ApiResult<web::Json<Listed<AttributeView>>> {
    let port = engine(&state);
    let items = blocking(move || port.attributes()).await?;
    Ok(web::Json(Listed { items, next_cursor: None }))
}

/// Adds an attribute to the schema.
#[utoipa::path(tag = "contacts", request_body = NewAttribute, responses((status = 201, body = AttributeView)))]
#[post("/v1/attributes")]
async fn add_attribute(state: State, attribute: web::Json<NewAttribute>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    let made = blocking(move || port.add_attribute(attribute.into_inner())).await?;
    Ok(HttpResponse::Created().json(made))
}
