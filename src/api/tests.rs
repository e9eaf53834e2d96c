//! The API listener over a fake engine: keys, error bodies, idempotency, uploads, pages, exports, the golden document.

use std::path::Path;
use std::sync::Arc;

use actix_web::http::{Method, header};
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, web};
use serde_json::{Value as Json, json};

use super::errors::Code;
use super::fake::Fake;
use super::keys::KeyHash;
use super::reply::configure_extractors;
use super::routes::docs::document;
use super::state::ApiState;
use super::{guard, routes};
use crate::clock::{ManualClock, Timestamp};
use crate::config::Config;
use crate::limits;

const KEY: &str = "the-admin-key-of-tests";

struct Api {
    engine: Arc<Fake>,
    state: web::Data<ApiState>,
}

struct Answer {
    status: u16,
    headers: header::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// Checks status, code and shape of an error.
    #[track_caller]
    fn is_error(&self, code: Code) -> Json {
        let body = self.json();
        assert_eq!(body["code"], code.name(), "{}", self.text);
        assert_eq!(self.status, code.status(), "{}", self.text);
        assert_eq!(body["link"], format!("/docs#{}", code.name()));
        assert!(
            body["message"].as_str().is_some_and(|m| !m.is_empty()) && body["details"].is_object(),
            "{}",
            self.text
        );
        body
    }
}

impl Api {
    fn new(config: &str) -> Api {
        let engine = Fake::new();
        let config = Config::parse(config, Path::new("test")).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
        let directory = engine.directory.path().to_owned();
        let state = ApiState::new(engine.clone(), &config, KeyHash::of(KEY), clock, None, &directory).unwrap();
        Api { engine, state: web::Data::new(state) }
    }

    async fn call(&self, request: TestRequest) -> Answer {
        let app = App::new()
            .app_data(self.state.clone())
            .wrap(from_fn(guard::idempotent))
            .wrap(from_fn(guard::authorize))
            .wrap(from_fn(guard::observe))
            .configure(configure_extractors)
            .configure(routes::configure)
            .default_service(web::to(super::server::no_route));
        let response = call_service(&init_service(app).await, request.to_request()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
        Answer { status, headers, text }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(with_key(TestRequest::get().uri(path))).await
    }

    async fn post(&self, path: &str, body: &Json) -> Answer {
        self.call(with_key(TestRequest::post().uri(path)).set_json(body)).await
    }
}

fn with_key(request: TestRequest) -> TestRequest {
    request.insert_header((header::AUTHORIZATION, format!("Bearer {KEY}")))
}

#[actix_web::test]
async fn every_route_but_health_demands_a_key() {
    let api = Api::new("");
    for (path, item) in &document().paths.paths {
        let path = path.replace("{id}", "1").replace("{name}", "x").replace("{key}", "x");
        let methods = [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in methods {
            if operation.is_none() {
                continue;
            }
            let answer = api.call(TestRequest::default().method(method.clone()).uri(&path)).await;
            let open = matches!(path.as_str(), "/health" | "/ready");
            assert_eq!(answer.status, if open { 200 } else { 401 }, "{method} {path}: {}", answer.text);
        }
    }
    for path in ["/docs", "/openapi.json", "/no/such/path"] {
        let answer = api.call(TestRequest::get().uri(path)).await;
        answer.is_error(Code::Unauthorized);
        assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE), "the answer says how");
    }
    let wrong = TestRequest::get().uri("/v1/lists").insert_header((header::AUTHORIZATION, "Bearer wrong"));
    api.call(wrong).await.is_error(Code::Unauthorized);
}

#[actix_web::test]
async fn a_browser_reads_the_docs_with_the_key_as_password() {
    let api = Api::new("");
    let basic =
        |request: TestRequest| request.insert_header((header::AUTHORIZATION, format!("Basic {}", base64_of(KEY))));
    assert_eq!(api.call(basic(TestRequest::get().uri("/docs"))).await.status, 200);
    let forged = api.call(basic(TestRequest::post().uri("/v1/campaigns/1/start"))).await;
    forged.is_error(Code::Unauthorized);
}

fn base64_of(key: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("any:{key}"))
}

#[actix_web::test]
async fn metrics_have_a_key_of_their_own() {
    let api = Api::new("[server]\nmetrics_key = \"scrape-key-of-tests\"\n");
    let scrape =
        |path: &str| TestRequest::get().uri(path).insert_header((header::AUTHORIZATION, "Bearer scrape-key-of-tests"));
    let answer = api.call(scrape("/metrics")).await;
    assert!(answer.text.contains("estafette_campaign_audience_contacts{campaign=\"spring\"} 3"), "{}", answer.text);
    api.call(scrape("/v1/lists")).await.is_error(Code::Forbidden);
    api.call(TestRequest::get().uri("/metrics")).await.is_error(Code::Unauthorized);
    let open = Api::new("[server]\nmetrics_open = true\n");
    assert_eq!(open.call(TestRequest::get().uri("/metrics")).await.status, 200);
}

#[actix_web::test]
async fn every_bad_request_is_an_error_of_the_table() {
    let api = Api::new("");
    api.get("/v1/nothing").await.is_error(Code::RouteNotFound);
    let method = api.call(with_key(TestRequest::delete().uri("/v1/campaigns/1"))).await;
    method.is_error(Code::MethodNotAllowed);
    assert_eq!(method.headers.get(header::ALLOW).unwrap(), "GET, PATCH");
    api.get("/v1/lists?limit=0").await.is_error(Code::InvalidParameter);
    api.get("/v1/lists?limit=many").await.is_error(Code::InvalidParameter);
    api.get("/v1/lists?unknown=1").await.is_error(Code::InvalidParameter);
    api.get("/v1/lists?cursor=zzz").await.is_error(Code::InvalidCursor);
    api.get("/v1/imports/abc").await.is_error(Code::InvalidParameter);
    let json_type = (header::CONTENT_TYPE, "application/json");
    let broken =
        with_key(TestRequest::post().uri("/v1/lists")).insert_header(json_type.clone()).set_payload("{\n\"name\": }");
    let body = api.call(broken).await.is_error(Code::InvalidBody);
    assert_eq!(body["details"]["line"], 2, "{body}");
    api.post("/v1/lists", &json!({"name": "a", "colour": "red"})).await.is_error(Code::InvalidBody);
    let untyped = with_key(TestRequest::post().uri("/v1/lists")).set_payload("{}");
    api.call(untyped).await.is_error(Code::UnsupportedMediaType);
    let large = vec![b' '; limits::REQUEST_BYTES_MAX + 1];
    for path in ["/v1/lists", "/v1/campaigns", "/v1/suppressions"] {
        let request =
            with_key(TestRequest::post().uri(path)).insert_header(json_type.clone()).set_payload(large.clone());
        api.call(request).await.is_error(Code::BodyTooLarge);
    }
    api.get("/v1/contacts/nobody").await.is_error(Code::ContactNotFound);
    let refused = api.post("/v1/campaigns/1/resume", &json!({})).await.is_error(Code::IllegalMove);
    assert_eq!(refused["details"]["legal_moves"], json!(["start"]));
}

#[actix_web::test]
async fn specs_come_as_toml_or_json() {
    let api = Api::new("");
    let post = |media: &str, text: &str| {
        let request = TestRequest::post().uri("/v1/campaigns").insert_header((header::CONTENT_TYPE, media));
        with_key(request).set_payload(text.to_owned())
    };
    assert_eq!(api.call(post("application/toml; charset=utf-8", "name = \"spring\"")).await.status, 201);
    assert_eq!(api.call(post("application/json", "{\"name\": \"spring\"}")).await.status, 201);
    let calls = api.engine.calls.lock().clone();
    assert_eq!(calls, ["create Toml name = \"spring\"", "create Json {\"name\": \"spring\"}"]);
    api.call(post("text/yaml", "name: spring")).await.is_error(Code::UnsupportedMediaType);
    let latin = TestRequest::post().uri("/v1/campaigns").insert_header((header::CONTENT_TYPE, "application/toml"));
    let answer = api.call(with_key(latin).set_payload(b"name = \"\xe9\"".to_vec())).await;
    assert_eq!(answer.is_error(Code::InvalidBody)["details"]["byte"], 8);
}

#[actix_web::test]
async fn campaigns_are_found_by_id_and_by_name() {
    let api = Api::new("");
    for name in ["1", "spring"] {
        assert_eq!(api.get(&format!("/v1/campaigns/{name}")).await.json()["name"], "spring");
    }
    api.get("/v1/campaigns/summer").await.is_error(Code::CampaignNotFound);
    assert_eq!(api.post("/v1/campaigns/spring/start", &json!({})).await.json()["state"], "running");
    let preview = api.call(with_key(TestRequest::post().uri("/v1/campaigns/1/preview"))).await;
    assert_eq!(preview.json()["contact"], "first", "no body means the first contact");
    let ledger = api.get("/v1/campaigns/1/report").await.json()["ledger"].clone();
    for set in ["audience", "pending", "claimed", "deferred", "accepted", "rejected", "skipped", "unknown"] {
        assert!(ledger[set].is_u64(), "{set} is an integer: {ledger}");
    }
    assert_eq!(ledger["balanced"], true);
}

#[actix_web::test]
async fn a_repeated_post_is_answered_and_not_repeated() {
    let api = Api::new("");
    let post = |key: &str, name: &str| {
        let request = TestRequest::post().uri("/v1/lists").insert_header(("Idempotency-Key", key));
        with_key(request).set_json(json!({"name": name}))
    };
    let first = api.call(post("one", "a")).await;
    let again = api.call(post("one", "a")).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.text, again.text, "the same answer");
    assert!(again.headers.contains_key("idempotent-replayed") && !first.headers.contains_key("idempotent-replayed"));
    assert_eq!(api.engine.lists.lock().len(), 1, "it was done once");
    api.call(post("one", "b")).await.is_error(Code::IdempotencyMismatch);
    api.call(post("two", "a")).await.is_error(Code::ListExists);
    let long = "k".repeat(limits::IDEMPOTENCY_KEY_BYTES_MAX + 1);
    api.call(post(&long, "c")).await.is_error(Code::InvalidParameter);
}

#[actix_web::test]
async fn an_upload_reaches_the_engine_whole_or_not_at_all() {
    let api = Api::new("[server]\nupload_bytes_max = 1000\n");
    let post = |query: &str, body: Vec<u8>| {
        with_key(TestRequest::post().uri(&format!("/v1/imports?{query}"))).set_payload(body)
    };
    let csv = b"id,email\n1,a@example.test\n".to_vec();
    let answer = api.call(post("key=id&list=news&subscribe=email:news,email:shop&mapping=id:", csv.clone())).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.json()["state"], "finished");
    let (options, bytes) = api.engine.imported.lock()[0].clone();
    assert_eq!(bytes, csv, "the file arrives as it was sent");
    assert_eq!(options.subscribe, ["email:news", "email:shop"]);
    assert_eq!(options.list.as_deref(), Some("news"));
    assert_eq!(api.call(post("key=id&dry_run=true", csv.clone())).await.status, 200);
    api.call(post("key=id", vec![])).await.is_error(Code::InvalidImport);
    api.call(post("key=id", vec![b'x'; 1001])).await.is_error(Code::BodyTooLarge);
    api.call(post("list=news", csv.clone())).await.is_error(Code::InvalidParameter);
    api.call(post("key=id&delimiter=x", csv)).await.is_error(Code::InvalidParameter);
    let left = std::fs::read_dir(api.engine.directory.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|e| e.file_name()).filter(|n| n.to_string_lossy().starts_with("spool")).collect();
    assert!(left.is_empty(), "refused uploads leave files: {left:?}");
    assert_eq!(api.engine.imported.lock().len(), 2, "refused uploads import nothing");
}

#[actix_web::test]
async fn a_repeated_upload_is_imported_once() {
    let api = Api::new("");
    let post = |body: &'static str| {
        let request = TestRequest::post().uri("/v1/imports?key=id").insert_header(("Idempotency-Key", "k"));
        with_key(request).set_payload(body)
    };
    let first = api.call(post("id\n1\n")).await;
    assert_eq!(first.text, api.call(post("id\n1\n")).await.text);
    api.call(post("id\n2\n")).await.is_error(Code::IdempotencyMismatch);
    assert_eq!(api.engine.imported.lock().len(), 1);
}

#[actix_web::test]
async fn sets_are_paged_or_streamed_whole() {
    let api = Api::new("");
    let mut seen = 0;
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/v1/runs/1/contacts?set=accepted&limit=1000{cursor}")).await.json();
        seen += page["items"].as_array().unwrap().len();
        match page["next_cursor"].as_str() {
            None => break,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
    assert_eq!(seen, 2_500, "every contact once");
    let csv = api.get("/v1/campaigns/spring/contacts?set=skipped:no_address&format=csv").await.text;
    assert_eq!(csv.lines().count(), 2_501, "a header and every contact");
    let ndjson = api.get("/v1/campaigns/1/contacts?set=unknown&format=ndjson").await.text;
    assert_eq!(ndjson.lines().count(), 2_500);
    assert_eq!(serde_json::from_str::<Json>(ndjson.lines().last().unwrap()).unwrap()["contact"], "002499");
    api.get("/v1/runs/1/contacts?set=sent").await.is_error(Code::InvalidSet);
    api.get("/v1/runs/1/contacts").await.is_error(Code::InvalidParameter);
    assert_eq!(api.get("/v1/suppressions?format=csv").await.text.lines().count(), 4);
}

#[actix_web::test]
async fn settle_says_which_contacts() {
    let api = Api::new("");
    let settled = api.post("/v1/campaigns/1/settle", &json!({"as": "pending", "contacts": ["a", "b"]})).await.json();
    assert_eq!(settled["settled"], 2);
    assert_eq!(api.post("/v1/runs/1/settle", &json!({"as": "accepted", "all": true})).await.status, 200);
    api.post("/v1/runs/1/settle", &json!({"as": "accepted"})).await.is_error(Code::InvalidSettle);
    api.post("/v1/runs/1/settle", &json!({"as": "accepted", "all": true, "contacts": ["a"]}))
        .await
        .is_error(Code::InvalidSettle);
    api.post("/v1/runs/1/settle", &json!({"as": "sent", "all": true})).await.is_error(Code::InvalidBody);
    api.get("/v1/runs/9/report").await.is_error(Code::RunNotFound);
}

#[actix_web::test]
async fn ready_follows_the_engine_and_health_does_not() {
    let api = Api::new("");
    assert_eq!(api.call(TestRequest::get().uri("/ready")).await.status, 200);
    *api.engine.ready.lock() = false;
    api.call(TestRequest::get().uri("/ready")).await.is_error(Code::NotReady);
    assert_eq!(api.call(TestRequest::get().uri("/health")).await.json()["state"], "draining");
}

/// The generated document is a contract: a change of it is a change of this file, made with UPDATE_GOLDEN=1.
#[test]
fn the_openapi_document_is_the_golden_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/openapi.json");
    let generated = format!("{}\n", document().to_pretty_json().unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &generated).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    if generated != golden {
        let line = generated.lines().zip(golden.lines()).position(|(a, b)| a != b).unwrap_or(0);
        panic!("the OpenAPI document changed at line {}: if that is meant, run again with UPDATE_GOLDEN=1", line + 1);
    }
}
