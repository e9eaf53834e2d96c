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

mod asked;
mod client;
mod figures;
mod known;
mod machine;
mod pages;
mod recent;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::http::{Method, header};
use actix_web::{FromRequest as _, HttpRequest, HttpResponse, ResponseError, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use self::asked::{Asked, Endpoint};
use self::figures::{Figures, Refused};
use crate::api::closing::{self, Closing};
use crate::api::errors::Code;
use crate::api::port::{
    EnginePort, EventKind, LinkAsked, TokenPurpose, Tracked, TrackingEvent, UnsubscribeRequest, UnsubscribeVia,
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
    figures: Figures,
}

impl TrackingState {
    pub fn new(port: Arc<dyn EnginePort>, clock: Arc<dyn Clock>, proxies: Networks) -> TrackingState {
        let (ranges, recent) = (TrackingConfig::default(), recent::Recent::new());
        TrackingState { port, clock, proxies, ranges, recent, figures: Figures::new() }
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

/// Registers what answers every path of the public listener.
pub fn configure(config: &mut web::ServiceConfig) {
    config.app_data(web::PayloadConfig::new(limits::UNSUBSCRIBE_BODY_BYTES_MAX)).default_service(web::to(answer));
}

/// One request: finds out what it asks for, answers, counts, and adds the headers that all answers have. All of it is here
/// and not in layers around a router, because at the rate of clicks each layer costs as much as the work itself.
async fn answer(request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let started = Instant::now();
    let Some(state) = request.app_data::<State>() else { return pages::not_found() };
    let asked = Asked::of(request.match_info().as_str());
    let endpoint = asked.endpoint;
    let mut answer = match endpoint {
        _ if !endpoint.takes(request.method()) => not_allowed(endpoint),
        Endpoint::Click => follow(state, &request, &asked.token, &asked.link, None).await,
        Endpoint::ClickWithUrl => follow_url(state, &request, &asked).await,
        Endpoint::Open => open(state, &request, &asked.token).await,
        Endpoint::Unsubscribe if request.method() == Method::POST => {
            unsubscribe_unless_cut(state, &request, &asked.token, payload).await
        }
        Endpoint::Unsubscribe => ask(state, &request, &asked.token),
        Endpoint::View => view(state, &asked.token).await,
        Endpoint::Nothing => pages::not_found(),
    };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store, private"));
    headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(ROBOTS.clone(), header::HeaderValue::from_static("noindex, nofollow"));
    state.figures.answered(endpoint, request.method(), answer.status(), started);
    answer
}

static ROBOTS: header::HeaderName = header::HeaderName::from_static("x-robots-tag");

fn not_allowed(endpoint: Endpoint) -> HttpResponse {
    HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, endpoint.methods())).finish()
}

fn refused(state: &State, endpoint: Refused) -> HttpResponse {
    state.figures.refused(endpoint);
    pages::not_found()
}

fn resolve(state: &State, purpose: TokenPurpose, token: &str, link: Option<LinkAsked<'_>>) -> Option<Tracked> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        return None;
    }
    state.port.resolve(purpose, token, link)
}

/// Classifies an event and has it recorded.
async fn record(state: &State, request: &HttpRequest, tracked: &Tracked, kind: EventKind, hidden: bool) {
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
        hidden,
        since_accepted: tracked.accepted_at.map(|at| now.saturating_since(at)),
        kind,
    };
    let judge = |seen: &machine::Seen| machine::judge(&hit, seen);
    let queue = |verdict: machine::Verdict, reclassified| {
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
        (verdict, state.port.record(event))
    };
    let (verdict, recorded) = state.recent.decide(tracked, &hit, now, judge, queue);
    if let Some(rule) = verdict.rule {
        ::metrics::counter!(metrics::TRACKING_MACHINE_TOTAL.name, "rule" => rule).increment(1);
    }
    let lost = match recorded {
        Ok(written) => written.await.err().map(|_| "the fact was not written".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    match lost {
        None => state.figures.recorded(kind, verdict.class),
        Some(why) => {
            state.figures.dropped(kind);
            tracing::warn!(why, ?kind, "an event was answered and not recorded");
        }
    }
}

/// A link with expressions: the rendered URL travels in the path, under the token's MAC.
async fn follow_url(state: &State, request: &HttpRequest, asked: &Asked<'_>) -> HttpResponse {
    let decoded = URL_SAFE_NO_PAD.decode(&*asked.url).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(url) = decoded else { return refused(state, Refused::Click) };
    follow(state, request, &asked.token, &asked.link, Some(&url)).await
}

async fn follow(
    state: &State,
    request: &HttpRequest,
    token: &str,
    link: &str,
    signed_url: Option<&str>,
) -> HttpResponse {
    let Ok(index) = link.parse::<u16>() else { return refused(state, Refused::Click) };
    let asked = LinkAsked { index, signed_url };
    let Some(mut tracked) = resolve(state, TokenPurpose::Click, token, Some(asked)) else {
        return refused(state, Refused::Click);
    };
    let Some((link, hidden)) = tracked.destination.as_ref().map(|d| (d.link, d.hidden)) else {
        return refused(state, Refused::Click);
    };
    record(state, request, &tracked, EventKind::Click { link }, hidden).await;
    let url = tracked.destination.take().map(|destination| destination.url).unwrap_or_default();
    HttpResponse::Found().insert_header((header::LOCATION, url)).finish()
}

async fn open(state: &State, request: &HttpRequest, token: &str) -> HttpResponse {
    // mail clients ask for the pixel as the template names it, perhaps with an extension
    let token = token.strip_suffix(".gif").unwrap_or(token);
    let Some(tracked) = resolve(state, TokenPurpose::Open, token, None) else {
        return refused(state, Refused::Open);
    };
    record(state, request, &tracked, EventKind::Open, false).await;
    let gif = header::HeaderValue::from_static("image/gif");
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, gif)).body(pages::PIXEL)
}

fn ask(state: &State, request: &HttpRequest, token: &str) -> HttpResponse {
    match resolve(state, TokenPurpose::Unsubscribe, token, None) {
        None => refused(state, Refused::Unsubscribe),
        Some(_) => pages::ask(client::language(request.headers())),
    }
}

/// An unsubscribe whose body the listeners' stop cuts off is done all the same, for the token is what counts; but its
/// answer is that of every request that was cut off, so that it is sent again.
async fn unsubscribe_unless_cut(
    state: &State,
    request: &HttpRequest,
    token: &str,
    payload: web::Payload,
) -> HttpResponse {
    let cut = Rc::new(Cell::new(false));
    let payload = payload.into_inner();
    let mut payload = match request.app_data::<Closing>() {
        Some(closing) => closing.guard(payload, Rc::clone(&cut)),
        None => payload,
    };
    let body = web::Bytes::from_request(request, &mut payload).await;
    let answer = unsubscribe(state, request, token, body).await;
    if cut.get() { closing::refusal().error_response() } else { answer }
}

async fn unsubscribe(
    state: &State,
    request: &HttpRequest,
    token: &str,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let started = Instant::now();
    let Some(tracked) = resolve(state, TokenPurpose::Unsubscribe, token, None) else {
        return refused(state, Refused::Unsubscribe);
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

async fn view(state: &State, token: &str) -> HttpResponse {
    let Some(tracked) = resolve(state, TokenPurpose::View, token, None) else {
        return refused(state, Refused::View);
    };
    let port = Arc::clone(&state.port);
    match crate::api::reply::blocking(move || port.web_view(&tracked)).await {
        Ok(html) => pages::mail(html),
        Err(error) if error.0.code == Code::Busy => error.error_response(),
        Err(error) => {
            tracing::warn!(%error, "a web view could not be rendered");
            refused(state, Refused::View)
        }
    }
}

#[cfg(test)]
mod tests;
