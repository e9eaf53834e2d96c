//! One connection of the HTTP sink: HTTP/1.1 or HTTP/2, plain or TLS, as the client begins.
//!
//! Owns the socket. Invariants: 1. the record is written before the answer; 2. a reset of HTTP/1.1 is a TCP reset without an
//! answer, one of HTTP/2 is of its stream; 3. an error of the connection ends it and nothing else.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::faults::Fate;
use super::profile::Answer;
use super::{HttpShared, Manner};

/// Bytes of a request's body at most: ten times the largest that a provider takes.
const BODY_BYTES_MAX: usize = 1 << 20;

type Common = Rc<RefCell<HttpShared>>;

/// Spawns what HTTP/2 needs on this thread.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// What the requests of a connection tell it.
#[derive(Debug, Default)]
struct Line {
    requests: Cell<u64>,
    in_flight: Cell<u64>,
    goaway: Notify,
    /// The socket ends in a reset.
    resets: Rc<Cell<bool>>,
}

/// A socket that can end in a reset.
struct Wire {
    stream: TcpStream,
    resets: Rc<Cell<bool>>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.resets.get() {
            // A connection that is gone already needs no reset.
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves one connection to its end.
pub(super) async fn converse(stream: TcpStream, shared: Common, manner: Rc<Manner>, tls: Option<TlsAcceptor>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let line = Rc::new(Line::default());
    let wire = Wire { stream, resets: Rc::clone(&line.resets) };
    match tls {
        None => serve(wire, shared, manner, line).await,
        Some(tls) => {
            if let Ok(wire) = tls.accept(wire).await {
                serve(wire, shared, manner, line).await;
            }
        }
    }
}

async fn serve<S>(wire: S, shared: Common, manner: Rc<Manner>, line: Rc<Line>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new(Local);
    if let Some(streams) = manner.streams {
        builder.http2().max_concurrent_streams(streams);
    }
    let service = service_fn(|request| handle(request, Rc::clone(&shared), Rc::clone(&manner), Rc::clone(&line)));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(wire), service));
    loop {
        tokio::select! {
            // A broken connection is the client's affair: it sees it itself.
            _ = connection.as_mut() => return,
            () = line.goaway.notified() => connection.as_mut().graceful_shutdown(),
        }
    }
}

/// A request between its head and its answer.
struct InFlight(Rc<Line>);

impl InFlight {
    fn enter(line: &Rc<Line>, shared: &Common) -> InFlight {
        let now = line.in_flight.get() + 1;
        line.in_flight.set(now);
        let counts = &mut shared.borrow_mut().counts;
        counts.in_flight_peak = counts.in_flight_peak.max(now);
        InFlight(Rc::clone(line))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

/// The stream, or the connection, is reset.
#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset on purpose")
    }
}

impl std::error::Error for Reset {}

async fn handle(
    request: Request<Incoming>,
    shared: Common,
    manner: Rc<Manner>,
    line: Rc<Line>,
) -> Result<Response<Full<Bytes>>, Reset> {
    let _in_flight = InFlight::enter(&line, &shared);
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    line.requests.set(line.requests.get() + 1);
    let is_last = shared.borrow().dice.faults.goaway_after.is_some_and(|n| line.requests.get() == n);
    if !manner.latency.is_none() {
        let wait = shared.borrow_mut().wait(&manner.latency);
        tokio::time::sleep(wait).await;
    }
    let webhook_id = head.headers.get("webhook-id").and_then(|value| value.to_str().ok());
    let recipient = manner.profile.recipient(head.uri.path(), webhook_id, &body);
    let (fate, answer) = shared.borrow_mut().judge(manner.profile, &recipient, body.len(), head.version);
    if is_last {
        shared.borrow_mut().counts.goaways += 1;
        line.goaway.notify_one();
    }
    if matches!(fate, Fate::Reset | Fate::AcceptAndReset) {
        // An error ends an HTTP/1.1 connection, and of HTTP/2 its stream.
        line.resets.set(head.version != Version::HTTP_2);
        return Err(Reset);
    }
    Ok(response(answer, shared.borrow().dice.faults.retry_after))
}

fn response(answer: Answer, retry_after: Option<u64>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    if let Some(seconds) = retry_after.filter(|_| matches!(answer.status, 429 | 503)) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
