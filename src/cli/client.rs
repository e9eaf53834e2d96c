//! The API as the command line calls it.
//!
//! Owns a connection pool. Invariants: CC-1 the key leaves this process only in the Authorization header to the given
//! server, never across a redirect; CC-2 every failure says what to do.

use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::{Body, RequestBuilder, Response};
use serde_json::Value as Json;

use crate::api::errors::ErrorBody;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no key: set ESTAFETTE_KEY (the server printed it at its first start) or use --api-key")]
    NoKey,
    #[error("{url} cannot be reached: {source}; is the server running, and is ESTAFETTE_URL right?")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{} ({status} {})\n{}", .body.message, .body.code, details(.body))]
    Refused { status: u16, body: Box<ErrorBody> },
    #[error("the answer of {url} is not one of Estafette (status {status})")]
    BadAnswer { url: String, status: u16 },
}

/// Details as indented lines; nothing if there are none. Problems of a spec are told as a check tells them.
fn details(body: &ErrorBody) -> String {
    let problems = body.details["problems"].as_array().map_or(&[][..], Vec::as_slice);
    if !problems.is_empty() && problems.iter().all(|problem| problem["path"].is_string() && problem["fix"].is_string())
    {
        return problems.iter().map(super::output::problem).collect::<Vec<_>>().join("\n");
    }
    match serde_json::to_string_pretty(&body.details) {
        Ok(text) if text != "{}" => super::output::clean(&text),
        _ => String::new(),
    }
}

pub type CallResult<T> = Result<T, CallError>;

pub struct Client {
    http: reqwest::blocking::Client,
    base: String,
    key: String,
}

impl Client {
    pub fn new(url: &str, key: Option<&str>) -> anyhow::Result<Client> {
        let key = key.filter(|k| !k.is_empty()).ok_or(CallError::NoKey)?;
        let http = reqwest::blocking::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            // uploads and exports take their time
            .timeout(None)
            .user_agent(concat!("estafette/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Client { http, base: url.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    fn send(&self, request: RequestBuilder, path: &str) -> CallResult<Response> {
        let url = format!("{}{path}", self.base);
        let response = request.send().map_err(|source| CallError::Unreachable { url: url.clone(), source })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        match response.json::<ErrorBody>() {
            Ok(body) => Err(CallError::Refused { status: status.as_u16(), body: Box::new(body) }),
            Err(_) => Err(CallError::BadAnswer { url, status: status.as_u16() }),
        }
    }

    fn json(&self, request: RequestBuilder, path: &str) -> CallResult<Json> {
        let response = self.send(request, path)?;
        let status = response.status().as_u16();
        if status == 204 {
            return Ok(Json::Object(serde_json::Map::new()));
        }
        response.json().map_err(|_| CallError::BadAnswer { url: format!("{}{path}", self.base), status })
    }

    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> CallResult<Json> {
        self.json(self.request(Method::GET, path).query(query), path)
    }

    /// All pages of a list, as one page.
    pub fn get_all(&self, path: &str, query: &[(&str, &str)]) -> CallResult<Json> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", "1000"));
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let mut page = self.get(path, &query)?;
            if let Some(more) = page["items"].as_array_mut() {
                items.append(more);
            }
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(serde_json::json!({"items": items, "next_cursor": null}));
            }
        }
    }

    pub fn post(&self, path: &str, body: &Json) -> CallResult<Json> {
        self.json(self.request(Method::POST, path).json(body), path)
    }

    pub fn send_json(&self, method: Method, path: &str, body: &Json) -> CallResult<Json> {
        self.json(self.request(method, path).json(body), path)
    }

    pub fn delete(&self, path: &str) -> CallResult<Json> {
        self.json(self.request(Method::DELETE, path), path)
    }

    /// A body of another media type than JSON.
    pub fn send_text(&self, method: Method, path: &str, media_type: &str, text: String) -> CallResult<Json> {
        self.json(self.request(method, path).header("content-type", media_type).body(text), path)
    }

    pub fn upload(&self, path: &str, query: &[(&str, String)], body: Body) -> CallResult<Json> {
        let request = self.request(Method::POST, path).query(query).header("content-type", "text/csv");
        self.json(request.body(body), path)
    }

    /// Copies an answer that is not JSON to `out`.
    pub fn download(&self, path: &str, query: &[(&str, &str)], out: &mut dyn std::io::Write) -> anyhow::Result<()> {
        let mut response = self.send(self.request(Method::GET, path).query(query), path)?;
        std::io::copy(&mut response, &mut Piped(out))?;
        Ok(())
    }
}

/// Ends quietly when what reads us has enough.
struct Piped<'a>(&'a mut dyn std::io::Write);

impl std::io::Write for Piped<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            other => other,
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A name as one part of a path.
pub fn part(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
