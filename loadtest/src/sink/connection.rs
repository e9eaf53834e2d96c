//! One connection of the SMTP sink: bytes between a socket, plain or TLS, and its [`Session`].
//!
//! Owns the socket. What is shared is borrowed for the time of one read and never over an await. Invariants: 1. the record is
//! written before the answers; 2. answers to what one read brought leave in one write, after one draw of the latency; 3. an
//! error of the connection ends it and nothing else.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::latency::Latency;
use super::session::{GREETING, Session, Step};

/// Reads of a slow reader in a second: few enough to cost nothing, many enough to be even.
const SLOW_READS_PER_SECOND: u64 = 20;

/// How the sink behaves towards every connection.
#[derive(Clone)]
pub(super) struct Manner {
    pub(super) latency: Latency,
    pub(super) read_per_second: Option<u64>,
    pub(super) tls: Option<TlsAcceptor>,
}

type Common = Rc<RefCell<Shared>>;

/// Serves one connection to its end.
pub(super) async fn converse(mut stream: TcpStream, shared: Common, manner: Rc<Manner>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut session = Session::default();
    let mut step = talk(&mut stream, &mut session, &shared, &manner, GREETING).await;
    if let (Step::StartTls, Some(tls)) = (step, &manner.tls) {
        let Ok(mut secured) = tls.accept(&mut stream).await else { return };
        shared.borrow_mut().hub.counts.secured += 1;
        step = talk(&mut secured, &mut Session::secured(), &shared, &manner, b"").await;
    }
    if step == Step::Reset {
        // A connection that is gone already needs no reset.
        stream.set_zero_linger().ok();
    }
}

/// Reads and answers until the connection ends, is dropped, or goes on in TLS.
async fn talk<S>(stream: &mut S, session: &mut Session, shared: &Common, manner: &Manner, first: &[u8]) -> Step
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut replies = Vec::with_capacity(1_024);
    replies.extend_from_slice(first);
    loop {
        if !replies.is_empty() {
            if !manner.latency.is_none() {
                let wait = shared.borrow_mut().wait(&manner.latency);
                tokio::time::sleep(wait).await;
            }
            if stream.write_all(&replies).await.is_err() || stream.flush().await.is_err() {
                return Step::Close;
            }
            replies.clear();
        }
        let most = manner.read_per_second.map_or(usize::MAX, slow_read_bytes);
        let read = std::future::poll_fn(|context| feed(stream, context, session, shared, &mut replies, most)).await;
        let Ok((bytes, step)) = read else { return Step::Close };
        if let Some(rate) = manner.read_per_second {
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
        match step {
            Step::Continue => {}
            Step::Close | Step::Reset | Step::StartTls => {
                // The peer may be gone already; there is nobody left to tell.
                stream.write_all(&replies).await.ok();
                stream.flush().await.ok();
                if step == Step::Close {
                    stream.shutdown().await.ok();
                }
                return step;
            }
        }
    }
}

fn slow_read_bytes(per_second: u64) -> usize {
    usize::try_from((per_second / SLOW_READS_PER_SECOND).max(1)).unwrap_or(usize::MAX)
}

/// One read of at most `most` bytes, fed to the session; how many they were, and what to do next.
fn feed<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    session: &mut Session,
    shared: &Common,
    replies: &mut Vec<u8>,
    most: usize,
) -> Poll<std::io::Result<(usize, Step)>> {
    let shared = &mut *shared.borrow_mut();
    let most = most.min(shared.buffer.len());
    let mut into = ReadBuf::new(&mut shared.buffer[..most]);
    ready!(Pin::new(stream).poll_read(context, &mut into))?;
    let read = into.filled();
    if read.is_empty() {
        return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
    }
    let before = shared.hub.counts.accepted;
    let step = session.feed(read, &mut shared.hub, replies);
    let bytes = read.len();
    if shared.hub.counts.accepted > before {
        let now = Instant::now();
        shared.first_accept.get_or_insert(now);
        shared.last_accept = Some(now);
        shared.hub.flush()?;
    }
    Poll::Ready(Ok((bytes, step)))
}
