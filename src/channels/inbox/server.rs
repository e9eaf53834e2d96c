//! The sink's SMTP side: RFC 5321 with PIPELINING, CHUNKING, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES, SIZE.
//!
//! Owns one buffer per connection. Invariants: IV-1 replies to what came in one read leave in one write; IV-2 a message is
//! found by a search for its end and copied only if it is kept; IV-3 lines, messages and connections are bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use memchr::{memchr, memmem};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::store::Store;
use crate::limits::{INBOX_CONNECTIONS_MAX, MESSAGE_BYTES_MAX};

const READ_BYTES: usize = 64 * 1024;
/// RFC 5321 4.5.3.1.4 allows 512; extensions and long paths add to it.
const LINE_BYTES_MAX: usize = 4_096;
/// A silent client is let go (RFC 5321 4.5.3.2.7).
const SILENCE_MAX: Duration = Duration::from_secs(300);

pub(super) async fn serve(listener: std::net::TcpListener, store: Arc<Mutex<Store>>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(INBOX_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return Ok(());
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files and the like pass; a hot loop would not help.
                tracing::warn!(%error, "embedded inbox cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            if let Err(error) = Session::new(store).run(stream).await {
                tracing::debug!(%error, "connection to the embedded inbox ended");
            }
            drop(permit);
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Command,
    Data,
    /// Bytes of a chunk still to come, and whether it is the last.
    Chunk {
        left: usize,
        last: bool,
    },
    Closing,
}

struct Session {
    store: Arc<Mutex<Store>>,
    mode: Mode,
    input: Vec<u8>,
    /// Bytes of `input` that are done with.
    start: usize,
    /// Where the search for the end of data goes on.
    searched: usize,
    replies: Vec<u8>,
    return_path: Option<String>,
    recipients: Vec<String>,
    chunks: Vec<u8>,
}

impl Session {
    fn new(store: Arc<Mutex<Store>>) -> Session {
        Session {
            store,
            mode: Mode::Command,
            input: Vec::with_capacity(READ_BYTES),
            start: 0,
            searched: 0,
            replies: Vec::new(),
            return_path: None,
            recipients: Vec::new(),
            chunks: Vec::new(),
        }
    }

    async fn run(mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.write_all(b"220 inbox.estafette.invalid ESMTP embedded inbox: nothing leaves this machine\r\n").await?;
        loop {
            if self.start == self.input.len() {
                self.input.clear();
                (self.start, self.searched) = (0, 0);
            } else if self.start > READ_BYTES {
                self.input.drain(..self.start);
                self.searched -= self.start;
                self.start = 0;
            }
            self.input.reserve(READ_BYTES);
            let read = timeout(SILENCE_MAX, stream.read_buf(&mut self.input)).await;
            match read {
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
            }
            while self.advance() {}
            if !self.replies.is_empty() {
                stream.write_all(&self.replies).await?;
                self.replies.clear();
            }
            if self.mode == Mode::Closing {
                return Ok(());
            }
        }
    }

    /// Takes one command, message or chunk from the input; `false` if more is needed.
    fn advance(&mut self) -> bool {
        match self.mode {
            Mode::Closing => false,
            Mode::Command => self.line(),
            Mode::Data => self.data(),
            Mode::Chunk { left, last } => self.chunk(left, last),
        }
    }

    fn line(&mut self) -> bool {
        let pending = &self.input[self.start..];
        let Some(newline) = memchr(b'\n', pending) else {
            if pending.len() > LINE_BYTES_MAX {
                self.farewell(b"500 5.5.2 line too long\r\n");
            }
            return false;
        };
        let line = String::from_utf8_lossy(&pending[..newline]).trim_end().to_owned();
        self.start += newline + 1;
        self.command(&line);
        true
    }

    fn command(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                let size = format!("250 SIZE {MESSAGE_BYTES_MAX}\r\n");
                self.reset();
                self.reply(
                    b"250-inbox.estafette.invalid\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                      250-ENHANCEDSTATUSCODES\r\n",
                );
                self.reply(size.as_bytes());
            }
            "HELO" => {
                self.reset();
                self.reply(b"250 inbox.estafette.invalid\r\n");
            }
            "MAIL" => match path(rest, "FROM:") {
                Some(_) if self.return_path.is_some() => self.reply(b"503 5.5.1 nested MAIL\r\n"),
                Some(path) => {
                    self.return_path = Some(path);
                    self.reply(b"250 2.1.0 ok\r\n");
                }
                None => self.reply(b"501 5.5.4 MAIL FROM:<address>\r\n"),
            },
            "RCPT" => match path(rest, "TO:") {
                _ if self.return_path.is_none() => self.reply(b"503 5.5.1 MAIL first\r\n"),
                Some(path) if !path.is_empty() && self.recipients.len() < 100 => {
                    self.recipients.push(path);
                    self.reply(b"250 2.1.5 ok\r\n");
                }
                _ => self.reply(b"501 5.1.3 RCPT TO:<address>\r\n"),
            },
            "DATA" if self.recipients.is_empty() => self.reply(b"503 5.5.1 RCPT first\r\n"),
            "DATA" => {
                self.mode = Mode::Data;
                self.searched = self.start;
                self.reply(b"354 end with a dot\r\n");
            }
            "BDAT" => self.begin_chunk(rest),
            "RSET" => {
                self.reset();
                self.reply(b"250 2.0.0 ok\r\n");
            }
            "NOOP" | "VRFY" => self.reply(b"252 2.0.0 ok\r\n"),
            "QUIT" => self.farewell(b"221 2.0.0 bye\r\n"),
            _ => self.reply(b"502 5.5.1 not known here\r\n"),
        }
    }

    fn begin_chunk(&mut self, rest: &str) {
        let mut words = rest.split_ascii_whitespace();
        let size = words.next().and_then(|n| n.parse::<usize>().ok());
        let last = words.next().is_some_and(|w| w.eq_ignore_ascii_case("LAST"));
        match size {
            Some(size) if size + self.chunks.len() <= MESSAGE_BYTES_MAX => {
                self.mode = Mode::Chunk { left: size, last };
            }
            // The bytes will come all the same and must not be read as commands.
            Some(_) => self.farewell(b"552 5.3.4 too large\r\n"),
            None => self.farewell(b"501 5.5.4 BDAT size [LAST]\r\n"),
        }
    }

    fn chunk(&mut self, left: usize, last: bool) -> bool {
        let n = left.min(self.input.len() - self.start);
        self.chunks.extend_from_slice(&self.input[self.start..self.start + n]);
        self.start += n;
        if n < left {
            self.mode = Mode::Chunk { left: left - n, last };
            return false;
        }
        self.mode = Mode::Command;
        if self.recipients.is_empty() {
            self.chunks.clear();
            self.reply(b"503 5.5.1 RCPT first\r\n");
        } else if last {
            let source = std::mem::take(&mut self.chunks);
            if self.store.lock().count(source.len()) {
                self.keep(source);
            }
            self.reset();
            self.reply(b"250 2.0.0 taken\r\n");
        } else {
            self.reply(b"250 2.0.0 chunk taken\r\n");
        }
        true
    }

    fn data(&mut self) -> bool {
        // An empty message is a dot right after the go-ahead.
        let body = &self.input[self.start..];
        let from = self.searched.max(self.start) - self.start;
        let found = if from == 0 && body.starts_with(b".\r\n") {
            Some((0, 3))
        } else {
            memmem::find(&body[from..], b"\r\n.\r\n").map(|at| (from + at + 2, from + at + 5))
        };
        let Some((length, after)) = found else {
            self.searched = self.input.len().saturating_sub(4).max(self.start);
            if body.len() > MESSAGE_BYTES_MAX {
                self.farewell(b"552 5.3.4 too large\r\n");
            }
            return false;
        };
        if self.store.lock().count(length) {
            let source = unstuff(&body[..length]);
            self.keep(source);
        }
        self.start += after;
        self.mode = Mode::Command;
        self.reset();
        self.reply(b"250 2.0.0 taken\r\n");
        true
    }

    fn keep(&mut self, source: Vec<u8>) {
        let return_path = self.return_path.clone().unwrap_or_default();
        let recipient = self.recipients.join(", ");
        self.store.lock().keep(&return_path, &recipient, source);
    }

    fn reset(&mut self) {
        self.return_path = None;
        self.recipients.clear();
        self.chunks.clear();
    }

    fn reply(&mut self, line: &[u8]) {
        self.replies.extend_from_slice(line);
    }

    fn farewell(&mut self, line: &[u8]) {
        self.reply(line);
        self.mode = Mode::Closing;
    }
}

/// The address of `FROM:<address> …` or `TO:<address> …`.
fn path(rest: &str, keyword: &str) -> Option<String> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest[keyword.len()..].trim_start().strip_prefix('<')?;
    rest.split_once('>').map(|(address, _)| address.to_owned())
}

/// Removes the dots that transparency added (RFC 5321 4.5.2).
fn unstuff(data: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(data.len());
    let mut rest = data.strip_prefix(b".").unwrap_or(data);
    while let Some(at) = memmem::find(rest, b"\r\n.") {
        plain.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    plain.extend_from_slice(rest);
    plain
}
