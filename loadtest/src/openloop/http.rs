//! A bare HTTP/1.1 connection that is kept open: whole requests out, whole answers in, and nothing else in between.
//!
//! Owns the socket. Invariants: 1. an answer that does not begin as wanted is an error; 2. after an error the connection is
//! gone, and the next request makes a new one. It reads answers with a length only, as the tracking endpoints give them.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection that asks.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn new(address: SocketAddr) -> Connection {
        Connection { address, stream: None, buffer: vec![0; ANSWER_BYTES_MAX] }
    }

    /// One request; `wanted` is how its answer must begin: `HTTP/1.1 302`.
    pub async fn ask(&mut self, request: &[u8], wanted: &[u8]) -> anyhow::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)
                    .await
                    .with_context(|| format!("connecting to {}", self.address))?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(request).await.context("writing a request")?;
        read_answer(&mut stream, &mut self.buffer, wanted).await?;
        self.stream = Some(stream);
        Ok(())
    }
}

/// A worker of [`super::run`] that sends these requests in turn, arrival n the n-th, over a connection of its own.
pub fn worker(
    address: SocketAddr,
    requests: Rc<[Vec<u8>]>,
    wanted: Rc<str>,
) -> impl AsyncFnMut(u64) -> anyhow::Result<()> {
    let mut connection = Connection::new(address);
    async move |n: u64| {
        let at = usize::try_from(n).unwrap_or(0) % requests.len().max(1);
        let request = requests.get(at).context("no requests")?;
        connection.ask(request, wanted.as_bytes()).await
    }
}

/// Reads one answer whole; one that does not begin as wanted is an error.
pub(crate) async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8], wanted: &[u8]) -> anyhow::Result<()> {
    let mut filled = 0;
    loop {
        ensure!(filled < buffer.len(), "an answer longer than {} bytes", buffer.len());
        let n = stream.read(&mut buffer[filled..]).await?;
        ensure!(n > 0, "the server closed the connection");
        filled += n;
        let Some(end) = memchr::memmem::find(&buffer[..filled], b"\r\n\r\n") else { continue };
        ensure!(buffer.starts_with(wanted), "an unexpected answer: {}", String::from_utf8_lossy(&buffer[..end]));
        if filled >= end + 4 + body_bytes(&buffer[..end])? {
            return Ok(());
        }
    }
}

fn body_bytes(head: &[u8]) -> anyhow::Result<usize> {
    let name = b"content-length: ";
    let Some(at) = memchr::memmem::find(head, name) else { bail!("an answer without a length") };
    let digits: String =
        head[at + name.len()..].iter().map(|b| char::from(*b)).take_while(char::is_ascii_digit).collect();
    digits.parse().context("the length of an answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_length_is_read_and_demanded() {
        assert_eq!(body_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 43\r\nx: y").unwrap(), 43);
        assert!(body_bytes(b"HTTP/1.1 200 OK\r\nx: y").is_err(), "a chunked answer is not expected");
    }
}
