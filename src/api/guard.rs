//! What every request of the API listener passes, from the outside in: figures and time limit, key, idempotency.
//!
//! Owns no state. Invariants: GU-1 every path but `/health` and `/ready` needs a key (`/metrics`: by configuration); GU-2
//! a key sent as Basic password (browsers, for the docs page) is good for GET and HEAD only, because browsers repeat it
//! for foreign pages; GU-3 every answer is counted once, by route pattern.

use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody, to_bytes_limited};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpResponse, ResponseError, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;

use crate::api::caller::{self, Caller};
use crate::api::errors::Code;
use crate::api::idempotency::{Begin, InFlight};
use crate::api::reply::{ApiError, bytes};
use crate::api::state::ApiState;
use crate::{limits, metrics};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Uploads keep their own time and hash their own body.
pub const UPLOAD_PATH: &str = "/v1/imports";

/// The same for one-shot audiences.
pub const AUDIENCES_PATH: &str = "/v1/audiences";

fn is_upload(request: &ServiceRequest) -> bool {
    request.method() == Method::POST && matches!(request.path(), UPLOAD_PATH | AUDIENCES_PATH)
}

type Answer = Result<ServiceResponse<BoxBody>, actix_web::Error>;

fn refuse(request: ServiceRequest, error: ApiError) -> Answer {
    Ok(request.into_response(error.error_response()))
}

/// Counts, times, and ends what takes too long.
pub async fn observe(
    state: web::Data<ApiState>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Answer {
    let started = Instant::now();
    let method = request.method().clone();
    let in_time = if is_upload(&request) { None } else { Some(state.request_time_max) };
    // no clone of the request may be alive while it is routed: actix-web changes it in place
    let served = async { next.call(request).await.map(ServiceResponse::map_into_boxed_body) };
    let answered = match in_time {
        None => served.await,
        Some(limit) => tokio::time::timeout(limit, served).await.unwrap_or_else(|_| {
            let message = format!("not answered within {} seconds; it may still be done", limit.as_secs());
            Err(ApiError::new(Code::RequestTimeout, message).into())
        }),
    };
    let (route, status) = match &answered {
        Ok(answered) => (answered.request().match_pattern(), answered.status()),
        Err(error) => (None, error.as_response_error().status_code()),
    };
    if status.is_server_error() {
        tracing::error!(route, %method, status = status.as_u16(), "a request failed");
    }
    count("api", &route.unwrap_or_else(|| "none".to_owned()), &method, status, started);
    answered
}

/// Values of the label `method`.
pub const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "other"];
/// Values of the label `code`.
pub const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Place of a method in [`METHODS`].
pub fn method_label(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

/// Place of a status in [`CODES`].
pub fn code_label(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CODES.len()) - 1
}

/// Makes failures known with 0, so that their share is right from the first on.
pub fn announce(listener: &'static str) {
    ::metrics::counter!(metrics::HTTP_REQUESTS_TOTAL.name, "listener" => listener, "route" => "none", "method" => "GET", "code" => "5xx")
        .increment(0);
    drop(::metrics::histogram!(metrics::HTTP_REQUEST_SECONDS.name, "listener" => listener));
}

/// Adds a request to the figures. `route` is a pattern, never a path.
pub fn count(listener: &'static str, route: &str, method: &Method, status: StatusCode, started: Instant) {
    let (method, code) = (METHODS[method_label(method)], CODES[code_label(status)]);
    ::metrics::counter!(metrics::HTTP_REQUESTS_TOTAL.name, "listener" => listener, "route" => route.to_owned(), "method" => method, "code" => code)
        .increment(1);
    ::metrics::histogram!(metrics::HTTP_REQUEST_SECONDS.name, "listener" => listener)
        .record(started.elapsed().as_secs_f64());
}

/// Demands a key.
pub async fn authorize(
    state: web::Data<ApiState>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Answer {
    let path = request.path();
    let presented = presented_key(&request);
    let key = presented.as_deref();
    let refused = if matches!(path, "/health" | "/ready") {
        None
    } else if path == "/metrics" {
        (!state.keys.allows_metrics(key)).then(|| unauthorized(key))
    } else if key.is_some_and(|key| state.keys.allows_all(key)) {
        None
    } else if key.is_some_and(|key| state.keys.is_scrape(key)) {
        Some(ApiError::new(Code::Forbidden, "this key may read /metrics and nothing else"))
    } else {
        Some(unauthorized(key))
    };
    match refused {
        Some(error) => refuse(request, error),
        None => {
            let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
            let caller = Caller::of_request(state.keys.admin_id(), agent);
            caller::serving(caller, next.call(request)).await.map(ServiceResponse::map_into_boxed_body)
        }
    }
}

fn unauthorized(key: Option<&str>) -> ApiError {
    let message = match key {
        None => "no key was sent: Authorization: Bearer KEY",
        Some(_) => "this key is not known here",
    };
    ApiError::new(Code::Unauthorized, message)
}

fn presented_key(request: &ServiceRequest) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if scheme.eq_ignore_ascii_case("basic") && reads {
        let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        return pair.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

/// The key of the header, checked.
pub fn idempotency_key(headers: &header::HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|t| (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&t.len()));
    match text {
        Some(text) => Ok(Some(text.to_owned())),
        None => {
            let message =
                format!("Idempotency-Key must be 1 to {} ASCII characters", limits::IDEMPOTENCY_KEY_BYTES_MAX);
            Err(ApiError::new(Code::InvalidParameter, message))
        }
    }
}

/// What [`Begin`] means as an answer; the guard if the request is to be done.
pub fn replay(begin: Begin<'_>) -> Result<InFlight<'_>, Box<HttpResponse>> {
    let refusal = match begin {
        Begin::First(flight) => return Ok(flight),
        Begin::Again(kept) => {
            let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
            let mut response = HttpResponse::build(status);
            response.insert_header((header::CONTENT_TYPE, kept.content_type));
            return Err(Box::new(response.insert_header(("idempotent-replayed", "true")).body(kept.body)));
        }
        Begin::Mismatch => ApiError::new(
            Code::IdempotencyMismatch,
            "this Idempotency-Key was used with another body: use a new key for a new request",
        ),
        Begin::Busy => ApiError::new(
            Code::IdempotencyInFlight,
            "the first request with this Idempotency-Key is not answered yet: try again",
        ),
    };
    Err(Box::new(refusal.error_response()))
}

/// A failure of the folder that keeps answers.
pub fn storage_failed(error: &std::io::Error) -> ApiError {
    tracing::error!(%error, "answers for idempotency keys cannot be kept");
    ApiError::new(Code::Internal, "the answer cannot be kept for its Idempotency-Key")
}

/// Answers a repeated POST from what is kept.
pub async fn idempotent(
    state: web::Data<ApiState>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Answer {
    let key = match idempotency_key(request.headers()) {
        Err(error) => return refuse(request, error),
        Ok(key) => key.filter(|_| request.method() == Method::POST && !is_upload(&request)),
    };
    let Some(key) = key else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    let body = match bytes(request.extract::<web::Bytes>().await) {
        Ok(body) => body,
        Err(error) => return refuse(request, error),
    };
    let hash = blake3::hash(&body);
    request.set_payload(Payload::Stream { payload: Box::pin(stream::once(async move { Ok(body) })) });
    let route = format!("POST {}", request.path());
    let flight = match state.idempotency.begin(&route, &key, hash, state.clock.now()) {
        Err(error) => return refuse(request, storage_failed(&error)),
        Ok(begin) => match replay(begin) {
            Ok(flight) => flight,
            Err(response) => return Ok(request.into_response(*response)),
        },
    };
    let answered = next.call(request).await?.map_into_boxed_body();
    let (request, response) = answered.into_parts();
    let (head, body) = response.into_parts();
    let Ok(Ok(body)) = to_bytes_limited(body, limits::REQUEST_BYTES_MAX).await else {
        return Ok(ServiceResponse::new(request, head.set_body(BoxBody::new(()))));
    };
    let content_type =
        head.headers().get(header::CONTENT_TYPE).cloned().unwrap_or(HeaderValue::from_static("application/json"));
    let kept = flight.finish(
        hash,
        head.status().as_u16(),
        content_type.to_str().unwrap_or("application/json"),
        &body,
        state.clock.now(),
    );
    if let Err(error) = kept {
        tracing::error!(%error, "an answer could not be kept for its idempotency key");
    }
    Ok(ServiceResponse::new(request, head.set_body(BoxBody::new(body))))
}
