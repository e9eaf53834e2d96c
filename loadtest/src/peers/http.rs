//! reqwest alone: the most that a sender over this library could get out of an HTTP sink on this machine.
//!
//! Owns its clients and connections. It renders, journals and decides nothing: a ceiling of the HTTP channels. Invariants: 1. an answer
//! that is none of 2xx ends the measurement; 2. over HTTP/2 each client has one connection, for reqwest never opens a second
//! (hyper issue 2197), so the number of clients is the number of connections.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use reqwest::{Certificate, Client};
use serde::{Deserialize, Serialize};

use crate::proc;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpClientOptions {
    /// Where to send
    #[arg(long)]
    pub url: String,
    /// Requests
    #[arg(long, default_value_t = 100_000)]
    pub requests: u64,
    /// Clients; over HTTP/2 the connections
    #[arg(long, default_value_t = 4)]
    pub clients: usize,
    /// Requests of each client that are on their way at once; over HTTP/1.1 its connections
    #[arg(long, default_value_t = 16)]
    pub in_flight: usize,
    /// Bytes of the body
    #[arg(long, default_value_t = 1_024)]
    pub bytes: usize,
    /// HTTP/2 without TLS (prior knowledge); over TLS it is negotiated
    #[arg(long)]
    pub http2: bool,
    /// Certificate to trust (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl Default for HttpClientOptions {
    fn default() -> HttpClientOptions {
        HttpClientOptions {
            url: String::new(),
            requests: 100_000,
            clients: 4,
            in_flight: 16,
            bytes: 1_024,
            http2: false,
            ca: None,
        }
    }
}

/// What it did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HttpClientReport {
    pub requests: u64,
    pub seconds: f64,
    pub per_second: f64,
    pub cpu_microseconds_per_request: f64,
}

/// Sends all requests.
pub fn reqwest_alone(options: &HttpClientOptions) -> anyhow::Result<HttpClientReport> {
    crate::api::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, send_all(options))
}

async fn send_all(options: &HttpClientOptions) -> anyhow::Result<HttpClientReport> {
    let left = Rc::new(Cell::new(options.requests));
    let body = body(options.bytes);
    let (cpu_before, started) = (proc::own_cpu_seconds(), Instant::now());
    let mut tasks = Vec::new();
    for _ in 0..options.clients.max(1) {
        let client = client(options)?;
        for _ in 0..options.in_flight.max(1) {
            let (client, url, body, left) = (client.clone(), options.url.clone(), body.clone(), Rc::clone(&left));
            tasks.push(tokio::task::spawn_local(async move {
                while let Some(n) = left.get().checked_sub(1) {
                    left.set(n);
                    let request = client.post(&url).header("content-type", "application/json").body(body.clone());
                    let answer = request.send().await.context("sending a request")?;
                    let status = answer.status();
                    answer.bytes().await.context("reading an answer")?;
                    ensure!(status.is_success(), "the sink answered {status}: a ceiling of refusals is none");
                }
                anyhow::Ok(())
            }));
        }
    }
    for task in tasks {
        task.await.context("a client's task")??;
    }
    let (seconds, requests) = (started.elapsed().as_secs_f64(), options.requests);
    let per_request = 1e6 / requests.max(1) as f64;
    Ok(HttpClientReport {
        requests,
        seconds,
        per_second: requests as f64 / seconds.max(1e-9),
        cpu_microseconds_per_request: (proc::own_cpu_seconds() - cpu_before) * per_request,
    })
}

fn client(options: &HttpClientOptions) -> anyhow::Result<Client> {
    let mut builder = Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).tcp_nodelay(true);
    if options.http2 {
        builder = builder.http2_prior_knowledge();
    }
    if let Some(path) = &options.ca {
        let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        builder = builder.tls_certs_only([Certificate::from_pem(&pem).context("the certificate to trust")?]);
    }
    builder.build().context("building a client")
}

/// A push message of about this size, as a provider would take it.
fn body(bytes: usize) -> bytes::Bytes {
    let head = r#"{"message":{"token":"ceiling","notification":{"title":"t","body":""#;
    let tail = r#""}}}"#;
    let fill = "x".repeat(bytes.saturating_sub(head.len() + tail.len()));
    format!("{head}{fill}{tail}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json_of_the_size_asked() {
        let body = body(1_024);
        assert_eq!(body.len(), 1_024);
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read["message"]["token"], "ceiling");
    }
}
