//! A relay that misbehaves on demand; for the contract suite.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Dot,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Takes the command and never answers.
    Hang(Verb),
    /// Takes the command and closes.
    Close(Verb),
    /// Closes when so many bytes of a message have come.
    CloseInBody(usize),
    /// Answers the command with this line, every n-th time.
    Reply(Verb, &'static str, u64),
    /// Answers with ten megabytes without a line end.
    LongLine(Verb),
    /// Closes after so many messages without a word.
    CloseAfterMessages(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    None,
    Starttls,
    Implicit,
}

#[derive(Clone)]
pub(super) struct PeerScript {
    /// EHLO keywords.
    pub offers: &'static [&'static str],
    pub fault: Fault,
    pub security: Security,
    /// PEM files of the certificate and its key.
    pub certificate: (&'static str, &'static str),
    pub marks: Arc<Mutex<HashSet<u64>>>,
}

pub(super) const RELAY: (&str, &str) =
    (include_str!("certificates/relay.pem"), include_str!("certificates/relay.key.pem"));
pub(super) const OTHER: (&str, &str) =
    (include_str!("certificates/other.pem"), include_str!("certificates/other.key.pem"));

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Tickets of whole messages, in order of arrival.
    pub received: Vec<u64>,
    pub bodies: Vec<Vec<u8>>,
    /// Messages that arrived whole without having been marked: breaches of MUST 1.
    pub unmarked: Vec<u64>,
    /// Messages without a ticket: an empty mail by a lone dot, or a garbled one.
    pub strange: u64,
    pub connections: u64,
    pub commands: Vec<String>,
}

pub(super) struct Peer {
    pub port: u16,
    pub seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn start(script: PeerScript) -> Peer {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let shared = Arc::clone(&seen);
    let acceptor = TlsAcceptor::from(Arc::new(tls(script.certificate)));
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepting");
            stream.set_nodelay(true).expect("nodelay");
            shared.lock().connections += 1;
            let (script, seen, acceptor) = (script.clone(), Arc::clone(&shared), acceptor.clone());
            tokio::spawn(async move {
                if script.security == Security::Implicit {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    Dialogue::new(stream, script, seen).run(true).await;
                    return;
                }
                let mut dialogue = Dialogue::new(stream, script.clone(), Arc::clone(&seen));
                if dialogue.run(true).await == Some(End::StartTls) {
                    let Ok(stream) = acceptor.accept(dialogue.stream.into_inner()).await else {
                        return;
                    };
                    Dialogue::new(stream, script, seen).run(false).await;
                }
            });
        }
    });
    Peer { port, seen, task }
}

fn tls((certificate, key): (&str, &str)) -> ServerConfig {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    ServerConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit")
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    StartTls,
}

struct Dialogue<S> {
    stream: BufReader<S>,
    script: PeerScript,
    seen: Arc<Mutex<Seen>>,
    asked: u64,
    messages: u64,
    mail: bool,
    rcpt: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    fn new(stream: S, script: PeerScript, seen: Arc<Mutex<Seen>>) -> Dialogue<S> {
        let stream = BufReader::new(stream);
        Dialogue { stream, script, seen, asked: 0, messages: 0, mail: false, rcpt: false }
    }

    /// Answers `verb` by the script; `None` ends the connection, `Some(good)` tells whether it was the usual answer.
    async fn answer(&mut self, verb: Verb, usual: &str) -> Option<bool> {
        match self.script.fault.clone() {
            Fault::Hang(v) if v == verb => {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                return None;
            }
            Fault::Close(v) if v == verb => return None,
            Fault::LongLine(v) if v == verb => {
                for _ in 0..160 {
                    self.stream.write_all(&[b'2'; 65_536]).await.ok()?;
                }
                return None;
            }
            Fault::Reply(v, line, every) if v == verb => {
                self.asked += 1;
                if self.asked.is_multiple_of(every) {
                    self.say(line).await?;
                    return Some(false);
                }
            }
            _ => {}
        }
        self.say(usual).await?;
        Some(true)
    }

    async fn say(&mut self, line: &str) -> Option<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
        self.stream.flush().await.ok()
    }

    async fn run(&mut self, greet: bool) -> Option<End> {
        if greet {
            self.answer(Verb::Greeting, "220 peer.test ESMTP").await?;
        }
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            if self.seen.lock().commands.len() < 10_000 {
                self.seen.lock().commands.push(line.clone());
            }
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    let mut offers = vec!["peer.test".to_owned()];
                    offers.extend(self.script.offers.iter().map(|o| (*o).to_owned()));
                    let last = offers.pop().unwrap_or_default();
                    let mut text: String = offers.iter().map(|o| format!("250-{o}\r\n")).collect();
                    text.push_str(&format!("250 {last}"));
                    self.answer(Verb::Ehlo, &text).await?;
                }
                "STARTTLS" => {
                    self.say("220 go on").await?;
                    return Some(End::StartTls);
                }
                "AUTH" if line.ends_with("AHVzZXIAc2VjcmV0") => self.say("235 2.7.0 ok").await?,
                "AUTH" => self.say("535 5.7.8 no").await?,
                "RSET" => {
                    (self.mail, self.rcpt) = (false, false);
                    self.say("250 reset").await?;
                }
                "MAIL" if self.mail => self.say("503 5.5.1 nested MAIL").await?,
                "MAIL" => self.mail = self.answer(Verb::Mail, "250 2.1.0 ok").await?,
                "RCPT" if !self.mail => self.say("503 5.5.1 MAIL first").await?,
                "RCPT" => self.rcpt |= self.answer(Verb::Rcpt, "250 2.1.5 ok").await?,
                "DATA" if !self.rcpt => self.say("554 5.5.1 no valid recipients").await?,
                "DATA" => {
                    if self.answer(Verb::Data, "354 go ahead").await? {
                        let body = self.body().await?;
                        self.take(body).await?;
                    }
                }
                "BDAT" => self.chunk(&line).await?,
                "QUIT" => {
                    self.say("221 bye").await?;
                    return None;
                }
                _ => self.say("502 what").await?,
            }
        }
    }

    async fn body(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line).await.ok()? == 0 {
                return None;
            }
            if line == b".\r\n" {
                return Some(body);
            }
            body.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            if matches!(self.script.fault, Fault::CloseInBody(n) if body.len() >= n) {
                return None;
            }
        }
    }

    async fn chunk(&mut self, line: &str) -> Option<()> {
        let size: usize = line.split(' ').nth(1)?.parse().ok()?;
        let mut body = vec![0; size];
        if matches!(self.script.fault, Fault::CloseInBody(n) if size >= n) {
            return None;
        }
        self.stream.read_exact(&mut body).await.ok()?;
        if self.rcpt { self.take(body).await } else { self.say("503 5.5.1 RCPT first").await }
    }

    async fn take(&mut self, body: Vec<u8>) -> Option<()> {
        (self.mail, self.rcpt) = (false, false);
        self.messages += 1;
        let ticket = std::str::from_utf8(&body)
            .ok()
            .and_then(|text| text.split_once("X-Ticket: "))
            .and_then(|(_, rest)| rest.split_once("\r\n"))
            .and_then(|(ticket, _)| ticket.parse::<u64>().ok());
        {
            let mut seen = self.seen.lock();
            match ticket {
                Some(ticket) => {
                    if !self.script.marks.lock().contains(&ticket) {
                        seen.unmarked.push(ticket);
                    }
                    seen.received.push(ticket);
                    if seen.bodies.len() < 100 {
                        seen.bodies.push(body);
                    }
                }
                None => seen.strange += 1,
            }
        }
        if matches!(self.script.fault, Fault::CloseAfterMessages(n) if self.messages >= n) {
            return None;
        }
        self.answer(Verb::Dot, "250 2.0.0 taken").await.map(|_| ())
    }
}
