//! The OpenAPI document, generated from the handlers, and a page that shows it without any foreign host.
//!
//! Owns no state but the rendered texts.

use std::fmt::Write;
use std::sync::LazyLock;

use actix_web::dev::ResourceDef;
use actix_web::http::{Method, header};
use actix_web::{HttpResponse, get, web};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder, SecurityRequirement};
use utoipa::{Modify, OpenApi};

use super::{
    audiences, backups, campaigns, contacts, events, figures, flows, history, imports, lists, operations, runs,
    schedules, segments, sequences, suppressions,
};
use crate::api::errors::{Code, ErrorBody};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(document_json).service(docs_page);
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Estafette", description = "Campaign send engine. Every error is {code, message, link, details}."),
    paths(
        imports::create, imports::index, imports::read, imports::rejected,
        contacts::read, contacts::write, contacts::change, contacts::erase, contacts::export,
        contacts::attributes, contacts::add_attribute,
        lists::index, lists::create, lists::read, lists::remove, lists::change, lists::contacts,
        segments::index, segments::create, segments::preview, segments::read, segments::update, segments::remove,
        suppressions::index, suppressions::add, suppressions::remove,
        audiences::create, audiences::index, audiences::sample_file, audiences::read, audiences::invalid, audiences::remove,
        events::receive, events::types,
        campaigns::index, campaigns::create, campaigns::check, campaigns::read, campaigns::change,
        campaigns::start, campaigns::pause, campaigns::resume, campaigns::stop, campaigns::archive,
        campaigns::preview, campaigns::test_send, campaigns::audience,
        flows::graph, flows::dry_run, flows::choose_winner,
        sequences::publish, sequences::edit, sequences::extend, sequences::enter, sequences::release_step, sequences::test_start,
        history::resend, history::index, history::read, history::save, history::remove,
        schedules::calendar, schedules::move_date, schedules::reschedule, schedules::unschedule,
        runs::runs, runs::latest_report, runs::latest_contacts, runs::latest_settle,
        runs::report, runs::contacts, runs::settle,
        figures::latest_timeline, figures::timeline, figures::compare,
        operations::connectors, operations::test_connector, operations::health, operations::ready, operations::scrape,
        backups::create, backups::index, backups::read,
    ),
    components(schemas(ErrorBody)),
    modifiers(&Common),
)]
struct Api;

/// What all operations share: the key, and the error answer.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("the admin key")).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
        document.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
        let error = ResponseBuilder::new()
            .description("an error of the table on the docs page")
            .content("application/json", ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build())
            .build();
        for item in document.paths.paths.values_mut() {
            let item_operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            for operation in item_operations.into_iter().flatten() {
                operation.responses.responses.insert("default".to_owned(), RefOr::T(error.clone()));
            }
        }
    }
}

/// The generated document.
pub fn document() -> Document {
    let mut document = Api::openapi();
    for (path, item) in &mut document.paths.paths {
        let methods = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in methods {
            if let Some(operation) = operation {
                operation.operation_id = Some(operation_id(method, path));
            }
        }
    }
    document
}

/// `get /v1/lists/{name}` becomes `get_lists_name`: unique, and stable while the path is.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(['/', '-']).map(|w| w.trim_matches(['{', '}'])).filter(|w| !w.is_empty() && *w != "v1");
    words.fold(method.to_owned(), |id, word| format!("{id}_{word}"))
}

static OPENAPI_JSON: LazyLock<String> =
    LazyLock::new(|| document().to_pretty_json().unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}")));

static ROUTES: LazyLock<Vec<(ResourceDef, Vec<Method>)>> = LazyLock::new(|| {
    let paths = document().paths.paths;
    let known = paths.iter().map(|(path, item)| {
        let methods = [
            (Method::GET, item.get.is_some()),
            (Method::POST, item.post.is_some()),
            (Method::PUT, item.put.is_some()),
            (Method::PATCH, item.patch.is_some()),
            (Method::DELETE, item.delete.is_some()),
        ];
        (ResourceDef::new(path.as_str()), methods.into_iter().filter(|(_, is)| *is).map(|(m, _)| m).collect())
    });
    known.collect()
});

/// The methods that a path has; none if there is no such path.
pub fn methods_of(path: &str) -> &'static [Method] {
    ROUTES.iter().find(|(route, _)| route.is_match(path)).map_or(&[], |(_, methods)| methods)
}

static DOCS_PAGE: LazyLock<String> = LazyLock::new(|| page(&document()));

#[get("/openapi.json")]
async fn document_json() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI_JSON.as_str())
}

#[get("/docs")]
async fn docs_page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"))
        .body(DOCS_PAGE.as_str())
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
    h1,h2{line-height:1.2}code{background:#f2f2f2;padding:.1em .3em;border-radius:3px}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
    .m{font-weight:600;text-transform:uppercase;font-size:.85em}";

fn page(document: &Document) -> String {
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Estafette API</title><style>{STYLE}</style>\
         <h1>Estafette API</h1><p>Send the key as <code>Authorization: Bearer KEY</code>. The machine-readable document is \
         <a href=\"/openapi.json\">openapi.json</a>. Lists are paged: pass <code>next_cursor</code> as <code>cursor</code>. \
         POST requests take <code>Idempotency-Key</code> (24 hours).</p>"
    );
    let mut tag = String::new();
    let mut rows: Vec<(&str, &str, &str, &Operation)> = Vec::new();
    for (path, item) in &document.paths.paths {
        let methods = [
            ("get", &item.get),
            ("post", &item.post),
            ("put", &item.put),
            ("patch", &item.patch),
            ("delete", &item.delete),
        ];
        for (method, operation) in methods {
            if let Some(operation) = operation {
                let tag = operation.tags.as_ref().and_then(|t| t.first()).map_or("", String::as_str);
                rows.push((tag, path, method, operation));
            }
        }
    }
    rows.sort_by_key(|(tag, path, method, _)| (*tag, *path, *method));
    for (of, path, method, operation) in rows {
        if of != tag {
            let end = if tag.is_empty() { "" } else { "</table>" };
            push(&mut out, format_args!("{end}<h2>{of}</h2><table>"));
            of.clone_into(&mut tag);
        }
        let text = escape(operation.summary.as_deref().unwrap_or(""));
        push(&mut out, format_args!("<tr><td class=m>{method}<td><code>{}</code><td>{text}", escape(path)));
        for parameter in operation.parameters.iter().flatten() {
            let RefOr::T(parameter) = parameter else { continue };
            if matches!(parameter.name.as_str(), "cursor" | "limit") {
                continue;
            }
            let text = escape(parameter.description.as_deref().unwrap_or(""));
            push(&mut out, format_args!("<br><code>{}</code> {text}", escape(&parameter.name)));
        }
    }
    out.push_str("</table><h2>Errors</h2><table><tr><th>code<th>status<th>what it means");
    for code in Code::ALL {
        let (name, status, text) = (code.name(), code.status(), escape(code.text()));
        push(&mut out, format_args!("<tr id=\"{name}\"><td><code>{name}</code><td>{status}<td>{text}"));
    }
    out.push_str("</table></html>");
    out
}

/// Writing to a String cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).unwrap_or_default();
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn operations_have_unique_names_a_tag_and_a_summary() {
        let mut seen = BTreeSet::new();
        for (path, item) in &document().paths.paths {
            for operation in [&item.get, &item.post, &item.put, &item.patch, &item.delete].into_iter().flatten() {
                let id = operation.operation_id.clone().unwrap();
                assert!(seen.insert(id.clone()), "{id} stands twice");
                assert!(operation.summary.as_ref().is_some_and(|s| !s.is_empty()), "{path} has no summary");
                assert_eq!(operation.tags.as_ref().map(Vec::len), Some(1), "{path} has no tag");
                assert!(operation.responses.responses.contains_key("default"), "{path} has no error answer");
            }
        }
        assert!(seen.len() > 40, "{} operations", seen.len());
    }

    #[test]
    fn the_page_explains_every_code() {
        for code in Code::ALL {
            assert!(DOCS_PAGE.contains(&format!("id=\"{}\"", code.name())), "{} is missing", code.name());
        }
        assert!(!DOCS_PAGE.contains("http://") && !DOCS_PAGE.contains("https://"), "the page names a foreign host");
    }
}
