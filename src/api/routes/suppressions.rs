//! `/v1/suppressions`: JSON for single entries, CSV for import and export. Owns no state.

use actix_web::{HttpRequest, HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::lists::bounded;
use super::table::{Format, stream_csv};
use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{NewSuppression, PageRequest, PortError, SuppressionFilter, SuppressionView, SuppressionsAdded};
use crate::api::reply::{ApiError, ApiResult, Listed, RawBody, blocking, bytes, media_type, page_request};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(index).service(add).service(remove);
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SuppressionQuery {
    /// Only those of this channel.
    pub channel: Option<String>,
    /// Only those with this reason.
    pub reason: Option<String>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
    /// `json` (default, paged) or `csv` (all).
    #[param(inline)]
    pub format: Option<Format>,
}

/// One entry, or several.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SuppressionsInput {
    Many { entries: Vec<NewSuppression> },
    One(NewSuppression),
}

/// All suppressions, in the order in which they were made.
#[utoipa::path(tag = "suppressions", params(SuppressionQuery), responses((status = 200, body = Listed<SuppressionView>)))]
#[get("/v1/suppressions")]
async fn index(state: State, query: web::Query<SuppressionQuery>) -> ApiResult<HttpResponse> {
    let query = query.into_inner();
    let filter = SuppressionFilter { channel: query.channel, reason: query.reason };
    let request = page_request("suppressions", query.cursor.as_deref(), query.limit)?;
    let port = engine(&state);
    if query.format == Some(Format::Csv) {
        let header = ["channel", "reason", "contact", "address_hash", "at"];
        return stream_csv("suppressions", &header, move |after, limit| {
            let page = port.suppressions(&filter, &PageRequest { after, limit })?;
            Ok((page.items.into_iter().map(cells).collect(), page.next))
        })
        .await;
    }
    let page = blocking(move || port.suppressions(&filter, &request)).await?;
    Ok(HttpResponse::Ok().json(Listed::from_page("suppressions", page)))
}

fn cells(s: SuppressionView) -> Vec<String> {
    let [channel, contact, hash] = [s.channel, s.contact, s.address_hash].map(Option::unwrap_or_default);
    vec![channel, s.reason, contact, hash, s.at.to_string()]
}

/// Adds one entry, several (`entries`), or a CSV file with the columns contact, address, address_hash, channel, reason.
#[utoipa::path(tag = "suppressions",
    request_body(content((SuppressionsInput = "application/json"), (String = "text/csv"))),
    responses((status = 201, body = SuppressionsAdded)))]
#[post("/v1/suppressions")]
async fn add(state: State, request: HttpRequest, body: RawBody) -> ApiResult<HttpResponse> {
    let body = bytes(body)?;
    let entries = if media_type(request.headers()) == "text/csv" { from_csv(&body)? } else { from_json(&body)? };
    bounded(entries.len())?;
    let port = engine(&state);
    let added = blocking(move || port.add_suppressions(entries)).await?;
    Ok(HttpResponse::Created().json(added))
}

fn from_json(body: &[u8]) -> ApiResult<Vec<NewSuppression>> {
    match serde_json::from_slice(body) {
        Ok(SuppressionsInput::Many { entries }) => Ok(entries),
        Ok(SuppressionsInput::One(entry)) => Ok(vec![entry]),
        Err(error) => {
            let message = "send {contact | address | address_hash, channel?, reason?}, or {\"entries\": [those]}";
            Err(ApiError(PortError::new(Code::InvalidBody, message).with(json!({"reason": error.to_string()}))))
        }
    }
}

/// A row of an export: an entry, and when it was made, which is not taken over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    contact: Option<String>,
    address: Option<String>,
    address_hash: Option<String>,
    channel: Option<String>,
    reason: Option<String>,
    #[serde(rename = "at")]
    _at: Option<String>,
}

fn from_csv(body: &[u8]) -> ApiResult<Vec<NewSuppression>> {
    let mut entries = Vec::new();
    for row in csv::Reader::from_reader(body).deserialize::<Row>() {
        let Row { contact, address, address_hash, channel, reason, .. } = row.map_err(|error| {
            let line = error.position().map(csv::Position::line);
            let message = format!("the CSV file cannot be read: {error}");
            ApiError(PortError::new(Code::InvalidBody, message).with(json!({"line": line})))
        })?;
        entries.push(NewSuppression { contact, address, address_hash, channel, reason });
        bounded(entries.len())?;
    }
    Ok(entries)
}

/// Removes a suppression.
#[utoipa::path(tag = "suppressions", responses((status = 204)))]
#[delete("/v1/suppressions/{id}")]
async fn remove(state: State, id: web::Path<u64>) -> ApiResult<HttpResponse> {
    let port = engine(&state);
    blocking(move || port.remove_suppression(*id)).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_as_json_or_csv() {
        let one = from_json(br#"{"address": "a@example.test", "channel": "email"}"#).unwrap();
        let csv = from_csv(b"address,channel\na@example.test,email\n").unwrap();
        assert_eq!(one, csv);
        let exported = from_csv(b"channel,reason,contact,address_hash,at\nemail,,c1,,2026-01-01T00:00:00Z\n").unwrap();
        assert_eq!(exported[0].contact.as_deref(), Some("c1"), "what an export writes is read back");
        assert_eq!(from_json(br#"{"entries": [{"contact": "1"}, {"contact": "2"}]}"#).unwrap().len(), 2);
        assert_eq!(from_json(b"{\"adress\": 1}").unwrap_err().0.code, Code::InvalidBody, "an unknown key is refused");
        let ragged = from_csv(b"address,channel\na,b,c\n").unwrap_err();
        assert_eq!(ragged.0.details["line"], 2, "the line is named");
    }
}
