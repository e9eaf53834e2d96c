//! Answers: errors as the table's bodies, blocking work, pages with opaque cursors, bodies by media type.
//!
//! Owns no state. Invariants: RP-1 no error leaves the API but as an [`ErrorBody`]; RP-2 a cursor is good only for the list
//! that gave it out.

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::api::caller::carried;
use crate::api::errors::{Code, ErrorBody};
use crate::api::port::{Page, PageRequest, PortError, PortResult, SpecFormat, SpecText};
use crate::limits;

/// A refusal as an HTTP answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError(pub PortError);

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(code: Code, message: impl Into<String>) -> ApiError {
        ApiError(PortError::new(code, message))
    }
}

impl From<PortError> for ApiError {
    fn from(error: PortError) -> ApiError {
        ApiError(error)
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self.0.code {
            Code::Unauthorized => {
                response.append_header((header::WWW_AUTHENTICATE, "Bearer realm=\"estafette\""));
                response.append_header((header::WWW_AUTHENTICATE, "Basic realm=\"estafette: the key as password\""));
            }
            Code::TooManyRequests | Code::Busy | Code::NotReady => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            _ => {}
        }
        response.json(ErrorBody::new(self.0.code, self.0.message.clone(), self.0.details.clone()))
    }
}

/// Runs what may block on a blocking thread.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> PortResult<T> + Send + 'static) -> ApiResult<T> {
    match web::block(carried(work)).await {
        Ok(result) => result.map_err(ApiError),
        Err(_) => Err(ApiError::new(Code::Busy, "no thread is free for this request")),
    }
}

// --- pages ----------------------------------------------------------------------------------------------------

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Entries of the page, 1 to 1000; 100 by default.
    pub limit: Option<usize>,
}

/// A page on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl<T> Listed<T> {
    /// `list` names the list, so that its cursors are no good elsewhere.
    pub fn from_page(list: &str, page: Page<T>) -> Listed<T> {
        let next_cursor = page.next.map(|position| URL_SAFE_NO_PAD.encode(format!("{list}\n{position}")));
        Listed { items: page.items, next_cursor }
    }
}

/// Checks the page's bounds and opens its cursor.
pub fn page_request(list: &str, cursor: Option<&str>, limit: Option<usize>) -> ApiResult<PageRequest> {
    let limit = limit.unwrap_or(limits::PAGE_DEFAULT);
    if !(1..=limits::PAGE_MAX).contains(&limit) {
        let message = format!("limit is {limit}, but must be 1 to {}", limits::PAGE_MAX);
        return Err(ApiError::new(Code::InvalidParameter, message));
    }
    let after = match cursor {
        None => None,
        Some(cursor) => Some(open_cursor(list, cursor).ok_or_else(|| {
            ApiError::new(Code::InvalidCursor, "this cursor was not given out by this list: start again without it")
        })?),
    };
    Ok(PageRequest { after, limit })
}

fn open_cursor(list: &str, cursor: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (of, position) = text.split_once('\n')?;
    (of == list).then(|| position.to_owned())
}

// --- bodies ---------------------------------------------------------------------------------------------------

/// A body as extracted by actix, its failure not yet turned into an answer.
pub type RawBody = Result<web::Bytes, actix_web::Error>;

/// The bytes of a body, or why there are none.
pub fn bytes(body: RawBody) -> ApiResult<web::Bytes> {
    body.map_err(|error| {
        if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE {
            too_large()
        } else {
            ApiError::new(Code::InvalidBody, format!("the body did not arrive whole: {error}"))
        }
    })
}

fn too_large() -> ApiError {
    ApiError::new(Code::BodyTooLarge, format!("the body has more than {} bytes", limits::REQUEST_BYTES_MAX))
}

/// JSON, or the default if there is no body.
pub fn json_or_default<T: DeserializeOwned + Default>(body: RawBody) -> ApiResult<T> {
    let bytes = bytes(body)?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| json_error(&error))
}

fn json_error(error: &serde_json::Error) -> ApiError {
    ApiError(
        PortError::new(Code::InvalidBody, format!("the JSON body cannot be read: {error}"))
            .with(json!({"line": error.line(), "column": error.column()})),
    )
}

/// The media type without its parameters, lower case.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// A spec or patch in the format that the media type names.
pub fn spec_text(request: &HttpRequest, body: RawBody) -> ApiResult<SpecText> {
    let format = match media_type(request.headers()).as_str() {
        "application/json" | "application/merge-patch+json" => SpecFormat::Json,
        "application/toml" | "text/toml" | "text/x-toml" | "application/x-toml" => SpecFormat::Toml,
        other => {
            let message = format!("the media type is {other:?}: send application/json or application/toml");
            return Err(ApiError::new(Code::UnsupportedMediaType, message));
        }
    };
    let text = String::from_utf8(bytes(body)?.to_vec()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ApiError(
            PortError::new(Code::InvalidBody, format!("byte {at} of the body is not UTF-8")).with(json!({"byte": at})),
        )
    })?;
    Ok(SpecText { format, text, request: None })
}

/// Extractor settings under which every refusal is an [`ErrorBody`].
pub fn configure_extractors(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(limits::REQUEST_BYTES_MAX))
        .app_data(
            web::JsonConfig::default().limit(limits::REQUEST_BYTES_MAX).error_handler(|error, _| json_refused(error)),
        )
        .app_data(web::PathConfig::default().error_handler(|error, _| path_refused(&error)))
        .app_data(web::QueryConfig::default().error_handler(|error, _| query_refused(&error)));
}

fn json_refused(error: JsonPayloadError) -> actix_web::Error {
    let answer = match &error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => too_large(),
        JsonPayloadError::ContentType => {
            ApiError::new(Code::UnsupportedMediaType, "send the body as application/json and say so in Content-Type")
        }
        JsonPayloadError::Deserialize(inner) => json_error(inner),
        other => ApiError::new(Code::InvalidBody, format!("the body cannot be read: {other}")),
    };
    answer.into()
}

fn path_refused(error: &PathError) -> actix_web::Error {
    ApiError::new(Code::InvalidParameter, format!("the path has a part that is not valid: {error}")).into()
}

fn query_refused(error: &QueryPayloadError) -> actix_web::Error {
    ApiError::new(Code::InvalidParameter, format!("the query is not valid: {error}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_list_only() {
        let listed = Listed::from_page("lists", Page { items: vec![1], next: Some("name/1\n".into()) });
        let cursor = listed.next_cursor.unwrap();
        let request = page_request("lists", Some(&cursor), None).unwrap();
        assert_eq!(request.after.as_deref(), Some("name/1\n"), "the position survives whatever it holds");
        let foreign = page_request("segments", Some(&cursor), None).unwrap_err();
        assert_eq!(foreign.0.code, Code::InvalidCursor);
        for bad in ["", "%", "bGlzdHM", "////"] {
            assert_eq!(page_request("lists", Some(bad), None).unwrap_err().0.code, Code::InvalidCursor, "{bad:?}");
        }
    }

    #[test]
    fn limits_of_a_page_are_checked() {
        assert_eq!(page_request("x", None, None).unwrap().limit, limits::PAGE_DEFAULT);
        for limit in [0, limits::PAGE_MAX + 1] {
            assert_eq!(page_request("x", None, Some(limit)).unwrap_err().0.code, Code::InvalidParameter);
        }
    }
}
