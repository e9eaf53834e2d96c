//! The public listener over a fake engine.

use std::time::Duration;

use actix_web::App;
use actix_web::http::header::HeaderMap;
use actix_web::test::{TestRequest, call_service, init_service, read_body};

use super::*;
use crate::api::fake::Fake;
use crate::api::port::EventClass;
use crate::clock::{ManualClock, Timestamp};

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

struct Public {
    engine: Arc<Fake>,
    clock: Arc<ManualClock>,
    state: State,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Public {
    fn new() -> Public {
        let engine = Fake::new();
        let clock = Arc::new(ManualClock::at(Timestamp(600_000)));
        let state = TrackingState::new(engine.clone(), clock.clone(), Networks::none());
        Public { engine, clock, state: web::Data::new(state) }
    }

    async fn call(&self, request: TestRequest) -> Answer {
        let app = App::new().app_data(self.state.clone()).configure(configure);
        let request = request.insert_header((header::USER_AGENT, BROWSER)).to_request();
        let response = call_service(&init_service(app).await, request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: read_body(response).await.to_vec() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(TestRequest::get().uri(path)).await
    }

    fn classes(&self) -> Vec<EventClass> {
        self.engine.events.lock().iter().map(|e| e.class).collect()
    }
}

#[actix_web::test]
async fn a_click_is_recorded_and_leads_to_the_tables_destination() {
    let public = Public::new();
    let answer = public.get("/c/good/1").await;
    assert_eq!(answer.status, 302);
    assert_eq!(answer.headers.get(header::LOCATION).unwrap(), "https://shop.example.test/1");
    assert_eq!(answer.headers.get(header::CACHE_CONTROL).unwrap(), "no-store, private");
    assert_eq!(answer.headers.get(header::REFERRER_POLICY).unwrap(), "no-referrer");
    let events = public.engine.events.lock().clone();
    assert_eq!((events[0].kind, events[0].class), (EventKind::Click { link: 1 }, EventClass::Human));
}

#[actix_web::test]
async fn no_part_of_a_request_is_a_destination() {
    let public = Public::new();
    let asked = public.get("/c/good/1?u=https://evil.example.test/").await;
    assert_eq!(asked.headers.get(header::LOCATION).unwrap(), "https://shop.example.test/1", "the table's own");
    for path in ["/r/good/7/aHR0cHM6Ly9ldmlsLmV4YW1wbGUudGVzdC8", "/c/good/7"] {
        let answer = public.get(path).await;
        assert_eq!((answer.status, answer.headers.get(header::LOCATION)), (404, None), "{path}");
    }
    let signed = public.get("/r/good/7/aHR0cHM6Ly9zaG9wLmV4YW1wbGUudGVzdC9hP2I9MQ").await;
    assert_eq!(signed.headers.get(header::LOCATION).unwrap(), "https://shop.example.test/a?b=1");
}

#[actix_web::test]
async fn every_bad_token_gets_the_same_page() {
    let public = Public::new();
    let long = format!("/o/{}", "x".repeat(5_000));
    let first = public.get("/c/bad/1").await;
    for path in [
        "/c/good/9",
        "/c/good/x",
        "/c/good/99999",
        "/o/bad",
        "/u/bad",
        "/v/bad",
        "/",
        "/robots.txt",
        "/v1/lists",
        &long,
    ] {
        let answer = public.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.body, first.body, "{path} is told apart");
        assert_eq!(answer.headers.len(), first.headers.len(), "{path} is told apart by its headers");
    }
    let posted = public.call(TestRequest::post().uri("/u/bad")).await;
    assert_eq!((posted.status, posted.body), (404, first.body));
    assert!(public.engine.events.lock().is_empty() && public.engine.unsubscribed.lock().is_empty());
}

#[actix_web::test]
async fn a_method_that_an_endpoint_does_not_take_is_told_which_it_takes() {
    let public = Public::new();
    for (method, path, allow) in [
        (Method::POST, "/c/good/1", "GET, HEAD"),
        (Method::PUT, "/o/good", "GET, HEAD"),
        (Method::DELETE, "/r/good/7/aHR0cHM6Ly9zaG9wLmV4YW1wbGUudGVzdC9hP2I9MQ", "GET, HEAD"),
        (Method::HEAD, "/u/good", "GET, POST"),
        (Method::POST, "/v/good", "GET"),
    ] {
        let answer = public.call(TestRequest::default().method(method).uri(path)).await;
        assert_eq!(
            (answer.status, answer.headers.get(header::ALLOW).unwrap()),
            (405, &allow.parse().unwrap()),
            "{path}"
        );
        assert_eq!(answer.headers.get(header::CACHE_CONTROL).unwrap(), "no-store, private", "as every answer");
    }
    assert!(public.engine.events.lock().is_empty() && public.engine.unsubscribed.lock().is_empty());
    let encoded = public.get("/%63/goo%64/%31").await;
    assert_eq!(encoded.headers.get(header::LOCATION).unwrap(), "https://shop.example.test/1", "escapes are letters");
}

#[actix_web::test]
async fn an_unsubscribe_that_a_stop_cuts_off_is_asked_for_again() {
    use crate::api::closing::Closing;
    let public = Public::new();
    let closing = Closing::default();
    let app = App::new().app_data(public.state.clone()).app_data(closing.clone()).configure(configure);
    let app = init_service(app).await;
    closing.begin();
    let request = TestRequest::post().uri("/u/good").set_payload("List-Unsubscribe=One-Click").to_request();
    assert_eq!(call_service(&app, request).await.status().as_u16(), 503, "its sender sends it again");
    assert_eq!(public.engine.unsubscribed.lock().len(), 1, "and it is done all the same");
    let click = TestRequest::get().uri("/c/good/1").to_request();
    assert_eq!(call_service(&app, click).await.status().as_u16(), 302, "what has no body is answered as ever");
}

#[actix_web::test]
async fn an_open_gets_its_pixel_even_if_it_cannot_be_recorded() {
    let public = Public::new();
    for path in ["/o/good", "/o/good.gif"] {
        let answer = public.get(path).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, pages::PIXEL), "{path}");
        assert_eq!(answer.headers.get(header::CONTENT_TYPE).unwrap(), "image/gif");
    }
    *public.engine.full.lock() = true;
    assert_eq!(public.get("/o/good").await.status, 200, "the person is served");
    assert_eq!(public.engine.events.lock().len(), 2);
}

#[actix_web::test]
async fn a_get_asks_and_a_post_unsubscribes() {
    let public = Public::new();
    let request = TestRequest::get().uri("/u/good").insert_header((header::ACCEPT_LANGUAGE, "fr-FR,fr;q=0.9"));
    let page = public.call(request).await;
    assert_eq!(page.status, 200);
    assert!(String::from_utf8_lossy(&page.body).contains("Se désabonner"), "in the reader's language");
    assert!(public.engine.unsubscribed.lock().is_empty(), "a scanner that follows the link changes nothing");

    let one_click = TestRequest::post()
        .uri("/u/good")
        .insert_header((header::CONTENT_TYPE, "application/x-www-form-urlencoded"))
        .set_payload("List-Unsubscribe=One-Click");
    assert_eq!(public.call(one_click).await.status, 200);
    let multipart = TestRequest::post()
        .uri("/u/good")
        .insert_header((header::CONTENT_TYPE, "multipart/form-data; boundary=x"))
        .set_payload("--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x--\r\n");
    assert_eq!(public.call(multipart).await.status, 200);
    let button = TestRequest::post().uri("/u/good").set_payload("via=page&everything=yes");
    assert_eq!(public.call(button).await.status, 200);
    let asked: Vec<_> = public.engine.unsubscribed.lock().iter().map(|u| (u.via, u.everything)).collect();
    let (one_click, page) = (UnsubscribeVia::OneClick, UnsubscribeVia::Page);
    assert_eq!(asked, [(one_click, false), (one_click, false), (page, true)]);
}

#[actix_web::test]
async fn an_unsubscribe_that_is_not_durable_is_not_answered_with_200() {
    let public = Public::new();
    *public.engine.full.lock() = true;
    let answer = public.call(TestRequest::post().uri("/u/good").set_payload("List-Unsubscribe=One-Click")).await;
    assert_eq!(answer.status, 503, "the mail client tries again");
}

#[actix_web::test]
async fn machines_are_told_from_people() {
    let public = Public::new();
    public.call(TestRequest::default().method(Method::HEAD).uri("/c/good/0")).await;
    assert_eq!(public.classes(), [EventClass::Machine], "HEAD");
    public.clock.advance(Duration::from_secs(10));
    for link in 0..3 {
        public.get(&format!("/c/good/{link}")).await;
    }
    assert_eq!(public.classes()[1..], [EventClass::Human, EventClass::Human, EventClass::Machine], "a burst");
    let last = public.engine.events.lock().last().cloned().unwrap();
    assert_eq!(last.rule, Some("link_burst"));
    assert_eq!(last.reclassified.len(), 2, "the burst takes its first clicks along");
    public.clock.step_wall(Timestamp(1_500));
    public.clock.advance(Duration::ZERO);
    public.get("/c/good/0").await;
    assert_eq!(public.engine.events.lock().last().unwrap().rule, Some("too_soon"), "within two seconds of acceptance");
}

#[actix_web::test]
async fn a_web_view_runs_nothing() {
    let answer = Public::new().get("/v/good").await;
    assert_eq!(answer.status, 200);
    let policy = answer.headers.get(header::CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap();
    assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
}
