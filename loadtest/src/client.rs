//! A bare pipelined SMTP client with one fixed body: the most that any sender could get out of the sink on this machine.
//!
//! Owns its connections. It writes the body of message N, its dot and the envelope of N+1 at once (RFC 2920), so each
//! message costs one write, one read and one round trip. It renders, journals and decides nothing: a ceiling, not a peer.

use std::cell::Cell;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proc;

/// Answers to one group: the final 250, then MAIL, RCPT and DATA of the next message.
const GROUP_LINES: usize = 4;

#[derive(Args, Clone, Debug)]
pub struct ClientOptions {
    /// Address of the sink
    #[arg(long)]
    pub connect: SocketAddr,
    #[arg(long, default_value_t = 50)]
    pub connections: u64,
    #[arg(long, default_value_t = 200_000)]
    pub messages: u64,
    /// Bytes of the body
    #[arg(long, default_value_t = 10_240)]
    pub bytes: usize,
}

/// What the client did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientReport {
    pub messages: u64,
    pub seconds: f64,
    pub per_second: f64,
    pub cpu_microseconds_per_message: f64,
}

/// Sends all messages; the report goes to the caller.
pub fn run(options: &ClientOptions) -> anyhow::Result<ClientReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, send_all(options))
}

async fn send_all(options: &ClientOptions) -> anyhow::Result<ClientReport> {
    let body: Rc<[u8]> = body(options.bytes).into();
    let left = Rc::new(Cell::new(options.messages));
    let cpu_before = proc::own_cpu_seconds();
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..options.connections.max(1) {
        let (body, left, address) = (Rc::clone(&body), Rc::clone(&left), options.connect);
        tasks.push(tokio::task::spawn_local(connection(address, body, left)));
    }
    for task in tasks {
        task.await.context("a connection's task")??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let messages = options.messages;
    let per_message = 1e6 / messages.max(1) as f64;
    Ok(ClientReport {
        messages,
        seconds,
        per_second: messages as f64 / seconds.max(1e-9),
        cpu_microseconds_per_message: (proc::own_cpu_seconds() - cpu_before) * per_message,
    })
}

/// A message of this size as it goes on the wire, its final dot included.
fn body(bytes: usize) -> Vec<u8> {
    let mut body = b"From: <a@example.test>\r\nSubject: ceiling\r\n\r\n".to_vec();
    while body.len() < bytes {
        body.extend_from_slice(b"All work and no play makes a dull sink; this line has seventy-odd octets.\r\n");
    }
    body.truncate(bytes.max(60).saturating_sub(2));
    body.extend_from_slice(b"\r\n.\r\n");
    body
}

fn take(left: &Cell<u64>) -> Option<u64> {
    let n = left.get().checked_sub(1)?;
    left.set(n);
    Some(n)
}

async fn connection(address: SocketAddr, body: Rc<[u8]>, left: Rc<Cell<u64>>) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let mut read = vec![0u8; 4_096];
    expect_lines(&mut stream, &mut read, 1).await?;
    stream.write_all(b"HELO load.test\r\n").await?;
    expect_lines(&mut stream, &mut read, 1).await?;
    let Some(first) = take(&left) else { return Ok(()) };
    let mut envelope = Vec::with_capacity(256);
    push_envelope(&mut envelope, first)?;
    stream.write_all(&envelope).await?;
    expect_lines(&mut stream, &mut read, GROUP_LINES - 1).await?;
    loop {
        envelope.clear();
        let next = take(&left);
        if let Some(next) = next {
            push_envelope(&mut envelope, next)?;
        }
        write_both(&mut stream, &body, &envelope).await?;
        let lines = if next.is_some() { GROUP_LINES } else { 1 };
        expect_lines(&mut stream, &mut read, lines).await?;
        if next.is_none() {
            return Ok(());
        }
    }
}

fn push_envelope(into: &mut Vec<u8>, n: u64) -> std::io::Result<()> {
    use std::io::Write;
    write!(into, "MAIL FROM:<b{n}@bounce.example.test>\r\nRCPT TO:<user{n}@example.net>\r\nDATA\r\n")
}

async fn write_both(stream: &mut TcpStream, body: &[u8], envelope: &[u8]) -> std::io::Result<()> {
    let mut written = stream.write_vectored(&[IoSlice::new(body), IoSlice::new(envelope)]).await?;
    while written < body.len() {
        written += stream.write_vectored(&[IoSlice::new(&body[written..]), IoSlice::new(envelope)]).await?;
    }
    stream.write_all(&envelope[written - body.len()..]).await
}

/// Reads this many lines and demands that none is a refusal.
async fn expect_lines(stream: &mut TcpStream, buffer: &mut [u8], lines: usize) -> anyhow::Result<()> {
    let mut filled = 0;
    while memchr::memchr_iter(b'\n', &buffer[..filled]).count() < lines {
        let n = stream.read(&mut buffer[filled..]).await?;
        if n == 0 {
            bail!("the sink closed the connection");
        }
        filled += n;
    }
    let refused = buffer[..filled].split(|b| *b == b'\n').find(|line| matches!(line.first(), Some(b'4' | b'5')));
    match refused {
        Some(line) => bail!("the sink refused: {}", String::from_utf8_lossy(line)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_size_asked_and_ends_once() {
        for size in [100, 1_024, 10_240] {
            let body = body(size);
            assert_eq!(body.len(), size + 3, "payload and the dot ({size})");
            assert!(body.ends_with(b"\r\n.\r\n"), "ends with the dot ({size})");
            assert_eq!(memchr::memmem::find_iter(&body, b"\r\n.\r\n").count(), 1, "and with no other ({size})");
        }
    }
}
