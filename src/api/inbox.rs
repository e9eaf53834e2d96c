//! The page of the embedded inbox: the mails that the demo's sink took, and one mail in full.
//!
//! Owns no state. Invariants: IX-1 a mail's HTML is shown in a sandboxed frame under a policy that lets nothing run; IX-2 the
//! listener has no key, so it answers only requests whose `Host` is an address or `localhost`: a foreign page that points
//! its name at loopback reads nothing.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpResponse, ResponseError, web};
use mail_parser::MessageParser;
use serde::{Deserialize, Serialize};

use crate::api::errors::Code;
use crate::api::port::Time;
use crate::api::reply::ApiError;
use crate::limits;

/// One mail in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxLine {
    pub id: u64,
    pub received_at: Time,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub bytes: u64,
}

/// What the sink holds.
pub trait InboxView: Send + Sync + 'static {
    /// Mails received since the start; more than are kept, perhaps.
    fn received(&self) -> u64;
    /// Kept mails that contain `search` in sender, recipient or subject; newest first.
    fn list(&self, offset: usize, count: usize, search: &str) -> Vec<InboxLine>;
    /// The mail as it came over the wire.
    fn source(&self, id: u64) -> Option<Vec<u8>>;
}

pub struct InboxState {
    pub view: Arc<dyn InboxView>,
}

type State = web::Data<InboxState>;

pub fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("")
            .wrap(from_fn(only_by_address))
            .route("/", web::get().to(index))
            .route("/mails.json", web::get().to(index_json))
            .route("/mails/{id}", web::get().to(mail))
            .route("/mails/{id}/html", web::get().to(html))
            .route("/mails/{id}/source", web::get().to(source)),
    );
}

async fn only_by_address(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let host = request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("");
    if !is_address(host) {
        let error =
            ApiError::new(Code::Forbidden, "the inbox is shown under its address only, as http://127.0.0.1:PORT/");
        return Ok(request.into_response(error.error_response()));
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

fn is_address(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || host.parse::<SocketAddr>().is_ok()
        || host.parse::<IpAddr>().is_ok()
        || name.parse::<IpAddr>().is_ok()
}

#[derive(Debug, Default, Deserialize)]
struct ListQuery {
    #[serde(default)]
    offset: usize,
    #[serde(default)]
    search: String,
}

const PER_PAGE: usize = 50;

async fn index_json(state: State, query: web::Query<ListQuery>) -> HttpResponse {
    let mails = state.view.list(query.offset, limits::PAGE_MAX, &query.search);
    HttpResponse::Ok().json(serde_json::json!({"received": state.view.received(), "mails": mails}))
}

async fn index(state: State, query: web::Query<ListQuery>) -> HttpResponse {
    let mails = state.view.list(query.offset, PER_PAGE + 1, &query.search);
    let more = mails.len() > PER_PAGE;
    let search = escape(&query.search);
    let mut body = format!(
        "<h1>Inbox</h1><p>{} mails received. Nothing leaves this machine.</p>\
         <form><input name=search value=\"{search}\" placeholder=\"sender, recipient or subject\"> <button>Search</button></form>\
         <table><tr><th>received<th>to<th>subject<th>bytes",
        state.view.received()
    );
    for mail in mails.iter().take(PER_PAGE) {
        let subject = if mail.subject.is_empty() { "(no subject)" } else { &mail.subject };
        push(
            &mut body,
            format_args!(
                "<tr><td>{}<td>{}<td><a href=\"/mails/{}\">{}</a><td>{}",
                escape(&mail.received_at.to_string()),
                escape(&mail.to),
                mail.id,
                escape(subject),
                mail.bytes
            ),
        );
    }
    body.push_str("</table><p>");
    let link = |offset: usize| format!("/?offset={offset}&search={}", encoded(&query.search));
    if query.offset > 0 {
        push(
            &mut body,
            format_args!("<a href=\"{}\">newer</a> ", escape(&link(query.offset.saturating_sub(PER_PAGE)))),
        );
    }
    if more {
        push(&mut body, format_args!("<a href=\"{}\">older</a>", escape(&link(query.offset + PER_PAGE))));
    }
    let live = if query.offset == 0 && query.search.is_empty() { "<meta http-equiv=refresh content=3>" } else { "" };
    page("Inbox", live, &body)
}

fn no_such_mail() -> HttpResponse {
    ApiError::new(Code::MailNotFound, "the inbox does not hold this mail, or no longer").error_response()
}

async fn mail(state: State, id: web::Path<u64>) -> HttpResponse {
    let Some(raw) = state.view.source(*id) else {
        return no_such_mail();
    };
    let parsed = MessageParser::default().parse(&raw);
    let mut body = "<p><a href=\"/\">← inbox</a></p>".to_owned();
    let Some(parsed) = parsed else {
        push(&mut body, format_args!("<p>This is not a mail. <a href=\"/mails/{id}/source\">source</a>"));
        return page("Mail", "", &body);
    };
    let subject = parsed.subject().unwrap_or("(no subject)");
    push(&mut body, format_args!("<h1>{}</h1><table>", escape(subject)));
    for name in ["From", "To", "Reply-To", "Date", "List-Unsubscribe", "Message-ID"] {
        if let Some(value) = parsed.header_raw(name) {
            push(&mut body, format_args!("<tr><th>{name}<td>{}", escape(&decoded(&parsed, name, value))));
        }
    }
    push(
        &mut body,
        format_args!(
            "</table><iframe sandbox=\"allow-popups allow-popups-to-escape-sandbox\" src=\"/mails/{id}/html\" title=\"the mail\"></iframe>"
        ),
    );
    let text = parsed.body_text(0).unwrap_or_default();
    push(&mut body, format_args!("<details open><summary>Text</summary><pre>{}</pre></details>", escape(&text)));
    let headers: String = parsed.headers_raw().map(|(name, value)| format!("{name}:{value}")).collect();
    push(&mut body, format_args!("<details><summary>Headers</summary><pre>{}</pre></details>", escape(&headers)));
    push(&mut body, format_args!("<p><a href=\"/mails/{id}/source\">source</a> ({} bytes)", raw.len()));
    page(subject, "", &body)
}

/// An address header as people read it; others as they are.
fn decoded(parsed: &mail_parser::Message<'_>, name: &str, raw: &str) -> String {
    let Some(address) = parsed.header(name).and_then(|v| v.as_address()) else {
        return raw.trim().to_owned();
    };
    let each = address.iter().map(|a| match (a.name(), a.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (None, Some(address)) => address.to_owned(),
        _ => String::new(),
    });
    each.collect::<Vec<_>>().join(", ")
}

async fn html(state: State, id: web::Path<u64>) -> HttpResponse {
    let Some(raw) = state.view.source(*id) else {
        return no_such_mail();
    };
    let html =
        MessageParser::default().parse(&raw).and_then(|m| m.body_html(0).map(|h| h.into_owned())).unwrap_or_default();
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; img-src http: https: data:; style-src 'unsafe-inline'; frame-ancestors 'self'; \
             sandbox allow-popups allow-popups-to-escape-sandbox",
        ))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        // links open beside the inbox, not in the frame
        .body(format!("<base target=\"_blank\">{html}"))
}

async fn source(state: State, id: web::Path<u64>) -> HttpResponse {
    match state.view.source(*id) {
        None => no_such_mail(),
        Some(raw) => HttpResponse::Ok()
            .content_type("text/plain; charset=utf-8")
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(raw),
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
    iframe{width:100%;height:30rem;border:1px solid #ddd;margin:1rem 0}pre{white-space:pre-wrap;overflow-wrap:anywhere}";

fn page(title: &str, head: &str, body: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'; frame-ancestors 'none'",
        ))
        .body(format!(
            "<!doctype html><html lang=en><meta charset=utf-8>{head}<title>{}</title><style>{STYLE}</style>{body}</html>",
            escape(title)
        ))
}

/// Writing to a String cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).unwrap_or_default();
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;

    struct OneMail;

    const RAW: &[u8] =
        b"From: News <news@example.test>\r\nTo: a@example.test\r\nSubject: =?utf-8?q?Caf=C3=A9_<b>?=\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=x\r\n\r\n\
        --x\r\nContent-Type: text/plain\r\n\r\nplain <text>\r\n--x\r\nContent-Type: text/html\r\n\r\n\
        <p><script>alert(1)</script>hello</p>\r\n--x--\r\n";

    impl InboxView for OneMail {
        fn received(&self) -> u64 {
            7
        }

        fn list(&self, offset: usize, count: usize, _search: &str) -> Vec<InboxLine> {
            let line = InboxLine { id: 1, to: "<a@example.test>".into(), subject: "Hi".into(), ..InboxLine::default() };
            vec![line; 60].into_iter().skip(offset).take(count).collect()
        }

        fn source(&self, id: u64) -> Option<Vec<u8>> {
            (id == 1).then(|| RAW.to_vec())
        }
    }

    async fn get(path: &str, host: &str) -> (u16, String, String) {
        let state = web::Data::new(InboxState { view: Arc::new(OneMail) });
        let app = init_service(actix_web::App::new().app_data(state).configure(configure)).await;
        let request = TestRequest::get().uri(path).insert_header((header::HOST, host)).to_request();
        let response = call_service(&app, request).await;
        let policy =
            response.headers().get(header::CONTENT_SECURITY_POLICY).map_or("", |v| v.to_str().unwrap()).to_owned();
        let status = response.status().as_u16();
        (status, policy, String::from_utf8(read_body(response).await.to_vec()).unwrap())
    }

    #[actix_web::test]
    async fn the_list_is_paged_and_escaped() {
        let (status, _, body) = get("/", "127.0.0.1:8027").await;
        assert_eq!(status, 200);
        assert!(body.contains("7 mails") && body.contains("&lt;a@example.test&gt;"), "{body}");
        assert!(body.contains("offset=50"), "the next page is linked: {body}");
    }

    #[actix_web::test]
    async fn a_mail_is_shown_without_running_it() {
        let (_, _, body) = get("/mails/1", "localhost:8027").await;
        assert!(body.contains("Café &lt;b&gt;"), "the subject is decoded and escaped: {body}");
        assert!(body.contains("plain &lt;text&gt;") && body.contains("iframe sandbox"), "{body}");
        assert!(!body.contains("<script>"), "the mail's HTML is only in the frame");
        let (_, policy, frame) = get("/mails/1/html", "127.0.0.1").await;
        assert!(
            frame.contains("hello") && policy.contains("sandbox") && policy.contains("default-src 'none'"),
            "{policy}"
        );
        assert_eq!(get("/mails/1/source", "[::1]:8027").await.2.as_bytes(), RAW);
        assert_eq!(get("/mails/2", "127.0.0.1").await.0, 404);
    }

    #[actix_web::test]
    async fn a_foreign_name_is_refused() {
        assert_eq!(get("/", "evil.example.test").await.0, 403);
        assert_eq!(get("/", "evil.example.test:8027").await.0, 403);
    }
}
