//! `/v1/events`: what comes back from outside, as a JSON array or newline-delimited JSON. Owns no state.
//!
//! Invariant: RE-1 the answer has one result for each event of the request, in its order; an event that can't be read is
//! refused alone, a body that can't be cut into events is refused whole.

use actix_web::{HttpRequest, get, post, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use utoipa::ToSchema;

use super::lists::bounded;
use super::{State, engine};
use crate::api::errors::Code;
use crate::api::port::{EventResult, EventTypeView, NewEvent, PortError, PortResult};
use crate::api::reply::{ApiError, ApiResult, Listed, RawBody, blocking, bytes, media_type};
use crate::limits::EVENT_BYTES_MAX;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(receive).service(types);
}

/// One event, or several.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EventsInput {
    Many(Vec<NewEvent>),
    One(NewEvent),
}

/// What became of the events of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventsTaken {
    pub accepted: u64,
    pub duplicate: u64,
    pub refused: u64,
    pub results: Vec<EventResult>,
}

/// An event of a request, or why it is none.
type Read = (u64, Option<String>, PortResult<NewEvent>);

/// Takes events: an array, one object, or one object a line (`application/x-ndjson`). Durable when it answers.
#[utoipa::path(tag = "events",
    request_body(content((EventsInput = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, body = EventsTaken)))]
#[post("/v1/events")]
async fn receive(state: State, request: HttpRequest, body: RawBody) -> ApiResult<web::Json<EventsTaken>> {
    let body = bytes(body)?;
    let read = match media_type(request.headers()).as_str() {
        "application/json" => from_json(&body)?,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => from_lines(&body)?,
        other => {
            let message = format!("the media type is {other:?}: send application/json or application/x-ndjson");
            return Err(ApiError::new(Code::UnsupportedMediaType, message));
        }
    };
    let port = engine(&state);
    Ok(web::Json(blocking(move || answer(read, |events| port.take_events(events))).await?))
}

/// Types of events that contacts' behaviour is remembered by.
#[utoipa::path(tag = "events", responses((status = 200, body = Listed<EventTypeView>)))]
#[get("/v1/events/types")]
async fn types(state: State) -> ApiResult<web::Json<Listed<EventTypeView>>> {
    let port = engine(&state);
    let items = blocking(move || port.event_types()).await?;
    Ok(web::Json(Listed { items, next_cursor: None }))
}

fn unreadable(message: String, error: &serde_json::Error) -> PortError {
    PortError::new(Code::InvalidBody, message).with(json!({"line": error.line(), "column": error.column()}))
}

fn from_json(body: &[u8]) -> ApiResult<Vec<Read>> {
    let whole: Json = serde_json::from_slice(body)
        .map_err(|error| ApiError(unreadable(format!("the JSON body cannot be read: {error}"), &error)))?;
    let items = match whole {
        Json::Array(items) => items,
        one @ Json::Object(_) => vec![one],
        _ => return Err(ApiError::new(Code::InvalidBody, "send an array of events, or one event")),
    };
    bounded(items.len())?;
    Ok(items.into_iter().zip(1..).map(|(item, place)| read(place, item)).collect())
}

fn from_lines(body: &[u8]) -> ApiResult<Vec<Read>> {
    let mut events = Vec::new();
    for (line, place) in body.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        bounded(events.len() + 1)?;
        events.push(match serde_json::from_slice(line) {
            Ok(item) => read(place, item),
            Err(error) => {
                let error = PortError::new(Code::EventInvalid, format!("line {place} is not JSON: {error}"));
                (place, None, Err(error))
            }
        });
    }
    Ok(events)
}

fn read(place: u64, item: Json) -> Read {
    let id = item.get("id").and_then(Json::as_str).map(str::to_owned);
    if item.get("properties").is_some_and(|properties| properties.to_string().len() > EVENT_BYTES_MAX) {
        let message = format!("the properties have more than {EVENT_BYTES_MAX} bytes");
        return (place, id, Err(PortError::new(Code::EventInvalid, message)));
    }
    if !item.is_object() {
        return (place, None, Err(PortError::new(Code::EventInvalid, "an event is a JSON object")));
    }
    let event = serde_json::from_value(item)
        .map_err(|error| PortError::new(Code::EventInvalid, format!("the event is not valid: {error}")));
    (place, id, event)
}

fn answer(
    read: Vec<Read>,
    ask: impl FnOnce(Vec<NewEvent>) -> PortResult<Vec<PortResult<bool>>>,
) -> PortResult<EventsTaken> {
    let mut places = Vec::with_capacity(read.len());
    let mut events = Vec::with_capacity(read.len());
    for (line, id, event) in read {
        let error = match event {
            Ok(event) => {
                events.push(event);
                None
            }
            Err(error) => Some(error),
        };
        places.push((line, id, error));
    }
    let mut taken = ask(events)?.into_iter();
    let mut answered = EventsTaken::default();
    for (line, id, error) in places {
        let word = match error {
            Some(error) => Err(error),
            None => taken.next().unwrap_or_else(|| Err(PortError::new(Code::Internal, "nothing was said of it"))),
        };
        let (count, result) = match word {
            Ok(true) => (&mut answered.accepted, EventResult::taken(line, id, "accepted")),
            Ok(false) => (&mut answered.duplicate, EventResult::taken(line, id, "duplicate")),
            Err(error) => (&mut answered.refused, EventResult::refused(line, id, &error)),
        };
        *count += 1;
        answered.results.push(result);
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_read_is_refused_alone() {
        let body = b"{\"id\":\"1\",\"type\":\"delivered\"}\n\nnonsense\n{\"id\":\"2\",\"type\":\"x\",\"colour\":1}\r\n{\"id\":\"3\",\"type\":\"x\"}";
        let taken = answer(from_lines(body).unwrap(), |events| {
            assert_eq!(events.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["1", "3"], "the good ones");
            Ok(vec![Ok(true), Ok(false)])
        });
        let taken = taken.unwrap();
        let said: Vec<_> = taken.results.iter().map(|r| (r.line, r.id.as_deref(), r.result.as_str())).collect();
        assert_eq!(
            said,
            [(1, Some("1"), "accepted"), (3, None, "refused"), (4, Some("2"), "refused"), (5, Some("3"), "duplicate")]
        );
        assert_eq!((taken.accepted, taken.duplicate, taken.refused), (1, 1, 2));
        assert_eq!(taken.results[1].code.as_deref(), Some("event_invalid"), "with its code");
    }

    #[test]
    fn a_body_that_is_no_events_is_refused_whole() {
        for body in [&b"[{\"id\":"[..], b"3", b"\"x\"", b""] {
            assert_eq!(from_json(body).unwrap_err().0.code, Code::InvalidBody, "{body:?}");
        }
        assert_eq!(from_json(br#"{"id":"1","type":"delivered"}"#).unwrap().len(), 1, "one event alone");
        let big =
            format!("[{{\"id\":\"1\",\"type\":\"x\",\"properties\":{{\"a\":\"{}\"}}}}]", "a".repeat(EVENT_BYTES_MAX));
        assert!(from_json(big.as_bytes()).unwrap()[0].2.is_err(), "properties have a bound");
    }
}
