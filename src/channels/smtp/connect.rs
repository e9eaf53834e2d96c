//! From a host name to a session that takes messages: TCP, TLS, greeting, EHLO, AUTH.
//!
//! Owns nothing between calls. Invariants: CO-1 no password and no message leaves on a connection that is not protected
//! as configured: a relay that does not offer STARTTLS is refused, as is a certificate that does not verify; CO-2 what
//! arrived before TLS is never taken for what came after; CO-3 every step has its time-out (RFC 5321 4.5.3.2); CO-4 small
//! writes leave at once (TCP_NODELAY).
//!
//! Must not know messages or feeds.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::reply::{Reply, ReplyError, ReplyReader};
use super::session::Capabilities;
use super::transport::Transport;
use super::wire::{Outgoing, Turn, poll_turn};
use crate::config::connectors::{SmtpSettings, TlsMode};
use crate::limits::REPLY_SAMPLE_BYTES;

/// A session that is ready for MAIL.
#[derive(Debug)]
pub struct Connection {
    pub transport: Transport,
    pub reader: ReplyReader,
    pub caps: Capabilities,
    /// First line of the relay's greeting, for the connection test.
    pub greeting: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {host}:{port}")]
    Tcp {
        host: String,
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("no answer to {step} within {seconds} s")]
    TimedOut { step: &'static str, seconds: u64 },
    #[error("connection lost at {step}")]
    Lost {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("answer to {step}")]
    Reply {
        step: &'static str,
        #[source]
        source: ReplyError,
    },
    #[error("relay refused {step}: {reply}")]
    Refused { step: &'static str, reply: String, code: u16 },
    #[error("relay refused user and password: {reply}")]
    Auth { reply: String },
    #[error("relay offers neither AUTH PLAIN nor AUTH LOGIN")]
    NoMechanism,
    #[error("relay does not offer STARTTLS; set `tls = \"implicit\"` if its port speaks TLS at once")]
    NoStartTls,
    #[error("TLS with {host}: {source}")]
    Tls {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("relay sent more in the clear after its answer to STARTTLS")]
    Injected,
}

impl ConnectError {
    /// The provider refused us, not the moment: an operator has to act.
    pub fn is_senders_fault(&self) -> bool {
        match self {
            ConnectError::Auth { .. } | ConnectError::NoMechanism => true,
            ConnectError::Refused { code, .. } => *code == 554 || *code == 550 || *code == 553,
            _ => false,
        }
    }

    /// 421 at the greeting: the provider has enough of our connections for now.
    pub fn is_too_many(&self) -> bool {
        matches!(self, ConnectError::Refused { code: 421, .. })
    }
}

/// Why a connector's TLS settings cannot be used; found when it is made, not at the first message.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("CA file {path:?}: {reason}")]
    CaFile { path: std::path::PathBuf, reason: String },
    #[error("the system has no trusted certificates; install them (package ca-certificates) or set `ca_file`")]
    NoRoots,
    #[error("{host:?} is neither a host name nor an address")]
    Host { host: String },
    #[error("TLS: {source}")]
    Config {
        #[source]
        source: tokio_rustls::rustls::Error,
    },
}

/// What protects connections to one relay; made once.
#[derive(Clone)]
pub struct Protection {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Protection({:?})", self.name)
    }
}

impl Protection {
    pub fn new(settings: &SmtpSettings) -> Result<Option<Protection>, TlsError> {
        if settings.tls == TlsMode::None {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        match &settings.ca_file {
            Some(path) => {
                let failed = |reason: String| TlsError::CaFile { path: path.clone(), reason };
                let pem = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let certificate = certificate.map_err(|e| failed(e.to_string()))?;
                    roots.add(certificate).map_err(|e| failed(e.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(failed("holds no PEM certificate".to_owned()));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoRoots);
                }
            }
        }
        let name =
            ServerName::try_from(settings.host.clone()).map_err(|_| TlsError::Host { host: settings.host.clone() })?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Config { source })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(Protection { connector: TlsConnector::from(Arc::new(config)), name }))
    }
}

/// Connects and does everything up to the first MAIL.
pub async fn connect(settings: &SmtpSettings, protection: Option<&Protection>) -> Result<Connection, ConnectError> {
    let times = &settings.timeouts;
    let tcp = async {
        let stream = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let stream = match timeout(times.connect, tcp).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => {
            return Err(ConnectError::Tcp { host: settings.host.clone(), port: settings.port, source });
        }
        Err(_) => return Err(timed_out("connect", times.connect)),
    };
    let transport = match (settings.tls, protection) {
        (TlsMode::Implicit, Some(protection)) => protect(stream, settings, protection).await?,
        _ => Transport::Plain(stream),
    };
    let mut talk = Talk { transport, reader: ReplyReader::default() };
    let greeting = talk.reply("greeting", times.greeting).await?.text.clone();
    let mut caps = talk.ehlo(settings).await?;
    if let (TlsMode::Starttls, Some(protection)) = (settings.tls, protection) {
        talk = talk.start_tls(settings, protection, &caps).await?;
        caps = talk.ehlo(settings).await?;
    }
    if let (Some(user), Some(password)) = (&settings.username, &settings.password) {
        talk.authenticate(settings, &caps, user, password.reveal()).await?;
    }
    let greeting = greeting.lines().next().unwrap_or_default().to_owned();
    Ok(Connection { transport: talk.transport, reader: talk.reader, caps, greeting })
}

async fn protect(stream: TcpStream, settings: &SmtpSettings, tls: &Protection) -> Result<Transport, ConnectError> {
    let limit = settings.timeouts.tls;
    match timeout(limit, tls.connector.connect(tls.name.clone(), stream)).await {
        Ok(Ok(stream)) => Ok(Transport::Tls(Box::new(stream))),
        Ok(Err(source)) => Err(ConnectError::Tls { host: settings.host.clone(), source }),
        Err(_) => Err(timed_out("TLS", limit)),
    }
}

fn timed_out(step: &'static str, limit: Duration) -> ConnectError {
    ConnectError::TimedOut { step, seconds: limit.as_secs() }
}

/// What EHLO says: configured, or the machine's name, or an address literal.
fn helo_name(settings: &SmtpSettings) -> String {
    if let Some(name) = &settings.helo_name {
        return name.clone();
    }
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match node.trim() {
        name if name.contains('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') => {
            name.to_owned()
        }
        _ => "[127.0.0.1]".to_owned(),
    }
}

/// One command, one reply: what comes before the first message need not be fast.
struct Talk {
    transport: Transport,
    reader: ReplyReader,
}

impl Talk {
    async fn reply(&mut self, step: &'static str, limit: Duration) -> Result<&Reply, ConnectError> {
        self.exchange(step, &[], limit).await?;
        let reply = self.reader.reply();
        if !reply.is_positive() {
            return Err(ConnectError::Refused { step, reply: reply.sample(REPLY_SAMPLE_BYTES), code: reply.code });
        }
        Ok(reply)
    }

    /// Writes a line and waits for the whole reply, which the reader then holds.
    async fn exchange(&mut self, step: &'static str, line: &[u8], limit: Duration) -> Result<(), ConnectError> {
        let mut out = Outgoing::default();
        out.commands.extend_from_slice(line);
        out.push_commands(0);
        let Talk { transport, reader } = self;
        let talk = async {
            loop {
                if reader.advance().map_err(|source| ConnectError::Reply { step, source })? {
                    return Ok(());
                }
                let turn = std::future::poll_fn(|cx| poll_turn(transport, &mut out, &[], reader, false, cx)).await;
                match turn {
                    Ok(Turn::Eof) => {
                        return Err(ConnectError::Lost { step, source: io::ErrorKind::UnexpectedEof.into() });
                    }
                    Ok(Turn::Read | Turn::Written) => {}
                    Err(source) => return Err(ConnectError::Lost { step, source }),
                }
            }
        };
        timeout(limit, talk).await.unwrap_or_else(|_| Err(timed_out(step, limit)))
    }

    async fn ehlo(&mut self, settings: &SmtpSettings) -> Result<Capabilities, ConnectError> {
        let name = helo_name(settings);
        let limit = settings.timeouts.command;
        self.exchange("EHLO", format!("EHLO {name}\r\n").as_bytes(), limit).await?;
        if self.reader.reply().is_permanent() {
            // RFC 5321 4.1.1.1: a server that does not know EHLO is asked with HELO, and offers nothing.
            self.exchange("HELO", format!("HELO {name}\r\n").as_bytes(), limit).await?;
        }
        let reply = self.reader.reply();
        if !reply.is_positive() {
            let sample = reply.sample(REPLY_SAMPLE_BYTES);
            return Err(ConnectError::Refused { step: "EHLO", reply: sample, code: reply.code });
        }
        Ok(Capabilities::parse(&reply.text))
    }

    async fn start_tls(
        mut self,
        settings: &SmtpSettings,
        protection: &Protection,
        caps: &Capabilities,
    ) -> Result<Talk, ConnectError> {
        if !caps.starttls {
            return Err(ConnectError::NoStartTls);
        }
        self.exchange("STARTTLS", b"STARTTLS\r\n", settings.timeouts.command).await?;
        let reply = self.reader.reply();
        if reply.code != 220 {
            let sample = reply.sample(REPLY_SAMPLE_BYTES);
            return Err(ConnectError::Refused { step: "STARTTLS", reply: sample, code: reply.code });
        }
        if self.reader.has_pending() {
            return Err(ConnectError::Injected);
        }
        let Transport::Plain(stream) = self.transport else {
            return Err(ConnectError::Injected);
        };
        Ok(Talk { transport: protect(stream, settings, protection).await?, reader: ReplyReader::default() })
    }

    async fn authenticate(
        &mut self,
        settings: &SmtpSettings,
        caps: &Capabilities,
        user: &str,
        password: &str,
    ) -> Result<(), ConnectError> {
        let limit = settings.timeouts.command;
        if caps.auth_plain {
            let mut line = String::from("AUTH PLAIN ");
            BASE64.encode_string(format!("\0{user}\0{password}"), &mut line);
            line.push_str("\r\n");
            self.exchange("AUTH", line.as_bytes(), limit).await?;
        } else if caps.auth_login {
            self.exchange("AUTH", b"AUTH LOGIN\r\n", limit).await?;
            for word in [user, password] {
                if self.reader.reply().code != 334 {
                    break;
                }
                let mut line = BASE64.encode(word);
                line.write_str("\r\n").map_err(|e| ConnectError::Lost { step: "AUTH", source: io::Error::other(e) })?;
                self.exchange("AUTH", line.as_bytes(), limit).await?;
            }
        } else {
            return Err(ConnectError::NoMechanism);
        }
        let reply = self.reader.reply();
        match reply.code {
            235 => Ok(()),
            // A temporary failure of the relay's own user base says nothing about us.
            code if reply.is_transient() => {
                Err(ConnectError::Refused { step: "AUTH", reply: reply.sample(REPLY_SAMPLE_BYTES), code })
            }
            _ => Err(ConnectError::Auth { reply: reply.sample(REPLY_SAMPLE_BYTES) }),
        }
    }
}
