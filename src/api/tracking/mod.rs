//! The public listener: clicks, opens, unsubscribe, web view. It carries nothing else.
//!
//! Owns the recent events that the machine rules look at. Invariants:
//! - TR-1 a redirect goes only where the campaign's own table says: no part of the request is a destination.
//! - TR-2 a token that is damaged, foreign or expired gets the same page, whatever is wrong with it, and is counted.
//! - TR-3 a GET never unsubscribes; a POST is answered after the unsubscribe is durable and in force.
//! - TR-4 opens and clicks are answered after the fact is written; if the engine is full the person is still served, and
//!   the loss is counted.
//!
//! It must not know segments, campaigns' specs or the store.

mod client;
mod known;
mod machine;
mod pages;
mod recent;

use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::api::errors::Code;
use crate::api::guard::count;
use crate::api::port::{
    EnginePort, EventClass, EventKind, LinkAsked, TokenPurpose, Tracked, TrackingEvent, UnsubscribeRequest,
    UnsubscribeVia,
};
use crate::clock::Clock;
use crate::config::{Networks, TrackingConfig};
use crate::{limits, metrics};

/// What the handlers share.
pub struct TrackingState {
    port: Arc<dyn EnginePort>,
    clock: Arc<dyn Clock>,
    proxies: Networks,
    ranges: TrackingConfig,
    recent: recent::Recent,
}

impl TrackingState {
    pub fn new(port: Arc<dyn EnginePort>, clock: Arc<dyn Clock>, proxies: Networks) -> TrackingState {
        announce();
        TrackingState { port, clock, proxies, ranges: TrackingConfig::default(), recent: recent::Recent::new() }
    }

    /// With the ranges that the operator names.
    pub fn with_ranges(self, ranges: TrackingConfig) -> TrackingState {
        TrackingState { ranges, ..self }
    }

    fn range(&self, address: std::net::IpAddr) -> Option<machine::Range> {
        if self.ranges.machine_ranges.contains(address) {
            return Some(machine::Range::Machine);
        }
        self.ranges.prefetch_ranges.contains(address).then_some(machine::Range::Prefetch)
    }
}

type State = web::Data<TrackingState>;

/// Makes every series of a closed set of labels known with 0, so that a rate is right from the first event on.
fn announce() {
    for event in ["open", "click"] {
        for class in [EventClass::Human, EventClass::Suspect, EventClass::Machine] {
            ::metrics::counter!(metrics::TRACKING_EVENTS_TOTAL.name, "event" => event, "class" => class.name())
                .increment(0);
        }
        ::metrics::counter!(metrics::TRACKING_DROPPED_TOTAL.name, "event" => event).increment(0);
    }
    for rule in machine::rules() {
        ::metrics::counter!(metrics::TRACKING_MACHINE_TOTAL.name, "rule" => rule).increment(0);
    }
    for endpoint in ["click", "open", "unsubscribe", "view"] {
        ::metrics::counter!(metrics::TRACKING_REFUSED_TOTAL.name, "endpoint" => endpoint).increment(0);
    }
    for via in ["one_click", "page"] {
        ::metrics::counter!(metrics::UNSUBSCRIBES_TOTAL.name, "via" => via).increment(0);
    }
}

/// Registers the routes of the public listener.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(limits::UNSUBSCRIBE_BODY_BYTES_MAX))
        .service(web::resource("/c/{token}/{link}").route(web::get().to(click)).route(web::head().to(click)))
        .service(
            web::resource("/r/{token}/{link}/{url}")
                .route(web::get().to(click_with_url))
                .route(web::head().to(click_with_url)),
        )
        .service(web::resource("/o/{token}").route(web::get().to(open)).route(web::head().to(open)))
        .service(web::resource("/u/{token}").route(web::get().to(ask)).route(web::post().to(unsubscribe)))
        .service(web::resource("/v/{token}").route(web::get().to(view)))
        .default_service(web::to(missing));
}

/// Counts each answer and gives it the headers that all of them have.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let method = request.method().clone();
    // no clone of the request may be alive while it is routed: actix-web changes it in place
    let mut answered = next.call(request).await.map(ServiceResponse::map_into_boxed_body)?;
    let headers = answered.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store, private"));
    headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers
        .insert(header::HeaderName::from_static("x-robots-tag"), header::HeaderValue::from_static("noindex, nofollow"));
    let route = answered.request().match_pattern().unwrap_or_else(|| "none".to_owned());
    count("public", &route, &method, answered.status(), started);
    Ok(answered)
}

fn refused(endpoint: &'static str) -> HttpResponse {
    ::metrics::counter!(metrics::TRACKING_REFUSED_TOTAL.name, "endpoint" => endpoint).increment(1);
    pages::not_found()
}

async fn missing() -> HttpResponse {
    pages::not_found()
}

fn resolve(state: &State, purpose: TokenPurpose, token: &str, link: Option<LinkAsked<'_>>) -> Option<Tracked> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        return None;
    }
    state.port.resolve(purpose, token, link)
}

/// Classifies an event and has it recorded.
async fn record(state: &State, request: &HttpRequest, tracked: &Tracked, kind: EventKind) {
    let now = state.clock.now();
    let agent = request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let address = client::address(request, &state.proxies);
    let hit = machine::Hit {
        head: *request.method() == Method::HEAD,
        agent,
        known: known::agent(agent),
        address,
        range: state.range(address),
        prefetch: client::is_prefetch(request.headers()),
        hidden: tracked.destination.as_ref().is_some_and(|d| d.hidden),
        since_accepted: tracked.accepted_at.map(|at| now.saturating_since(at)),
        kind,
    };
    let seen = state.recent.note(tracked, &hit, now);
    let verdict = machine::judge(&hit, &seen);
    let name = match kind {
        EventKind::Open => "open",
        EventKind::Click { .. } => "click",
    };
    if let Some(rule) = verdict.rule {
        ::metrics::counter!(metrics::TRACKING_MACHINE_TOTAL.name, "rule" => rule).increment(1);
    }
    let reclassified = state.recent.settle(tracked, &hit, verdict.class, now);
    let event = TrackingEvent {
        space: tracked.space,
        run: tracked.run,
        message: tracked.message,
        row: tracked.row,
        kind,
        class: verdict.class,
        rule: verdict.rule,
        at: now,
        reclassified,
    };
    match state.port.record(event).await {
        Ok(()) => {
            ::metrics::counter!(metrics::TRACKING_EVENTS_TOTAL.name, "event" => name, "class" => verdict.class.name())
                .increment(1);
        }
        Err(error) => {
            ::metrics::counter!(metrics::TRACKING_DROPPED_TOTAL.name, "event" => name).increment(1);
            tracing::warn!(%error, event = name, "an event was answered and not recorded");
        }
    }
}

async fn click(state: State, request: HttpRequest, path: web::Path<(String, String)>) -> HttpResponse {
    let (token, link) = path.into_inner();
    follow(&state, &request, &token, &link, None).await
}

/// A link with expressions: the rendered URL travels in the path, under the token's MAC.
async fn click_with_url(state: State, request: HttpRequest, path: web::Path<(String, String, String)>) -> HttpResponse {
    let (token, link, url) = path.into_inner();
    let decoded = URL_SAFE_NO_PAD.decode(&url).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(url) = decoded else { return refused("click") };
    follow(&state, &request, &token, &link, Some(&url)).await
}

async fn follow(
    state: &State,
    request: &HttpRequest,
    token: &str,
    link: &str,
    signed_url: Option<&str>,
) -> HttpResponse {
    let Ok(index) = link.parse::<u16>() else { return refused("click") };
    let asked = LinkAsked { index, signed_url };
    let Some(tracked) = resolve(state, TokenPurpose::Click, token, Some(asked)) else { return refused("click") };
    let Some(destination) = tracked.destination.clone() else { return refused("click") };
    record(state, request, &tracked, EventKind::Click { link: destination.link }).await;
    HttpResponse::Found().insert_header((header::LOCATION, destination.url)).finish()
}

async fn open(state: State, request: HttpRequest, path: web::Path<String>) -> HttpResponse {
    // mail clients ask for the pixel as the template names it, perhaps with an extension
    let token = path.strip_suffix(".gif").unwrap_or(&path);
    let Some(tracked) = resolve(&state, TokenPurpose::Open, token, None) else {
        return refused("open");
    };
    record(&state, &request, &tracked, EventKind::Open).await;
    HttpResponse::Ok().content_type("image/gif").body(pages::PIXEL)
}

async fn ask(state: State, request: HttpRequest, path: web::Path<String>) -> HttpResponse {
    match resolve(&state, TokenPurpose::Unsubscribe, &path, None) {
        None => refused("unsubscribe"),
        Some(_) => pages::ask(client::language(request.headers())),
    }
}

async fn unsubscribe(
    state: State,
    request: HttpRequest,
    path: web::Path<String>,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let started = Instant::now();
    let Some(tracked) = resolve(&state, TokenPurpose::Unsubscribe, &path, None) else {
        return refused("unsubscribe");
    };
    // RFC 8058 section 3.2: multipart/form-data or urlencoded, and what counts is the token; the body only says who asks
    let body = body.unwrap_or_default();
    let holds = |needle: &[u8]| body.windows(needle.len()).any(|w| w == needle);
    let (via, label) = if holds(b"List-Unsubscribe") && !holds(b"via=page") {
        (UnsubscribeVia::OneClick, "one_click")
    } else {
        (UnsubscribeVia::Page, "page")
    };
    ::metrics::counter!(metrics::UNSUBSCRIBES_TOTAL.name, "via" => label).increment(1);
    let asked = UnsubscribeRequest { tracked, via, everything: holds(b"everything=yes"), at: state.clock.now() };
    match state.port.unsubscribe(asked).await {
        Ok(()) => {
            ::metrics::histogram!(metrics::UNSUBSCRIBE_SECONDS.name).record(started.elapsed().as_secs_f64());
            pages::done(client::language(request.headers()))
        }
        Err(error) => {
            // never 200 before it is durable: the mail client tries again
            tracing::error!(%error, "an unsubscribe could not be recorded");
            pages::try_again(client::language(request.headers()))
        }
    }
}

async fn view(state: State, path: web::Path<String>) -> HttpResponse {
    let Some(tracked) = resolve(&state, TokenPurpose::View, &path, None) else {
        return refused("view");
    };
    let port = Arc::clone(&state.port);
    match crate::api::reply::blocking(move || port.web_view(&tracked)).await {
        Ok(html) => pages::mail(html),
        Err(error) if error.0.code == Code::Busy => error.error_response(),
        Err(error) => {
            tracing::warn!(%error, "a web view could not be rendered");
            refused("view")
        }
    }
}

#[cfg(test)]
mod tests;
