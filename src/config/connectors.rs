//! `[[connectors]]` of the configuration file: as written, and validated with typed units.
//!
//! Owns no state. Invariants: CC-1 a validated connector speaks plaintext to a host beyond loopback only if the file
//! says `allow_plaintext = true`; CC-2 no secret is printed by `Debug`; CC-3 every number is within `limits`; CC-4 every
//! refusal names the connector and the key.
//!
//! What this module must not know: sockets, sessions, keys' contents (DKIM key files are read by `channels`).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::limits;

/// One `[[connectors]]` table as written; [`RawConnector::validate`] makes it a [`ConnectorSettings`].
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct RawConnector(toml::Table);

/// A validated connector.
#[derive(Clone, Debug)]
pub enum ConnectorSettings {
    Smtp(Box<SmtpSettings>),
    Null(NullSettings),
    Simulated(SimulatedSettings),
    /// The embedded sink of the demo: nothing leaves the machine.
    Inbox(InboxSettings),
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    #[error("connector number {index}: key `name` is missing or is not 1 to 64 letters, digits, '-' or '_'")]
    Name { index: usize },
    #[error("connector {connector:?}: key `kind` is missing: one of \"smtp\", \"null\", \"simulated\", \"inbox\"")]
    KindMissing { connector: String },
    #[error("connector {connector:?}: kind {kind:?} is not known: one of \"smtp\", \"null\", \"simulated\", \"inbox\"")]
    Kind { connector: String, kind: String },
    #[error("connector {connector:?}: {source}")]
    Shape {
        connector: String,
        #[source]
        source: toml::de::Error,
    },
    #[error("connector {connector:?}: key `{key}` is {found}, but must be {wanted}")]
    Range { connector: String, key: &'static str, found: String, wanted: String },
    #[error(
        "connector {connector:?}: `tls = \"none\"` to {host:?} would send mail and password in the clear: use \
         \"starttls\" or \"implicit\", or say `allow_plaintext = true`"
    )]
    Plaintext { connector: String, host: String },
    #[error("connector {connector:?}: key `{key}` needs `{other}` too")]
    Together { connector: String, key: &'static str, other: &'static str },
    #[error("connector {connector:?}: environment variable {variable:?} of key `password_env` is not set")]
    PasswordEnv { connector: String, variable: String },
}

/// A secret of the configuration; never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How the connection to the relay is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Plain greeting, then STARTTLS; a relay that does not offer it is refused.
    #[default]
    Starttls,
    /// TLS from the first byte (port 465).
    Implicit,
    /// No protection: loopback, or `allow_plaintext`.
    None,
}

/// How many messages may be handed over, per window; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    pub per_second: Option<u32>,
    pub per_minute: Option<u32>,
    pub per_hour: Option<u32>,
    pub per_day: Option<u32>,
}

impl RateLimits {
    pub fn is_unlimited(&self) -> bool {
        *self == RateLimits::default()
    }
}

/// Limits of one destination domain; its contacts are a limit class of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainLimits {
    /// ASCII form, lower case.
    pub domain: String,
    pub rate: RateLimits,
    pub connections_max: Option<usize>,
}

/// A DKIM key; the algorithm follows from the key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkimSettings {
    pub domain: String,
    pub selector: String,
    /// PEM: PKCS#8 (RSA or Ed25519) or PKCS#1 (RSA).
    pub key_file: PathBuf,
}

/// Time-outs of RFC 5321 4.5.3.2, and of the steps it does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmtpTimeouts {
    pub connect: Duration,
    pub tls: Duration,
    pub greeting: Duration,
    /// EHLO, STARTTLS, AUTH, RSET, QUIT.
    pub command: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data: Duration,
    /// One write of message bytes.
    pub block: Duration,
    /// From the final dot to its answer.
    pub answer: Duration,
    /// A session without a message is closed after this.
    pub idle: Duration,
}

impl Default for SmtpTimeouts {
    fn default() -> SmtpTimeouts {
        let seconds = Duration::from_secs;
        SmtpTimeouts {
            connect: seconds(30),
            tls: seconds(30),
            greeting: seconds(300),
            command: seconds(300),
            mail: seconds(300),
            rcpt: seconds(300),
            data: seconds(120),
            block: seconds(180),
            answer: seconds(600),
            idle: seconds(60),
        }
    }
}

/// When a deferred message is tried again, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Waits after the first, second, … deferral; the last one repeats.
    pub schedule: Vec<Duration>,
    /// Counted from the first attempt; past it the message is rejected as `retry_deadline`.
    pub deadline: Duration,
}

impl Default for RetrySettings {
    fn default() -> RetrySettings {
        let schedule = [300, 900, 1_800, 3_600, 7_200, 14_400].map(Duration::from_secs).to_vec();
        RetrySettings { schedule, deadline: Duration::from_secs(48 * 3_600) }
    }
}

/// One SMTP relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpSettings {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    /// PEM certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub connections_max: usize,
    /// A connection is closed after this many; `None` is unlimited.
    pub messages_per_connection_max: Option<u64>,
    pub rate: RateLimits,
    pub domains: Vec<DomainLimits>,
    /// What EHLO says; `None` asks the machine.
    pub helo_name: Option<String>,
    /// Use PIPELINING if offered.
    pub pipelining: bool,
    /// Use CHUNKING (BDAT) if offered.
    pub chunking: bool,
    pub dkim: Vec<DkimSettings>,
    pub timeouts: SmtpTimeouts,
    pub retry: RetrySettings,
    /// Claimed and not durably ended batches: what a power loss can leave unknown.
    pub credits_batches: usize,
    /// Hard bounces of an address before it is suppressed; 0 never suppresses.
    pub suppress_after_hard_bounces: u32,
}

/// Takes every message and throws it away: measures the engine alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NullSettings {
    pub name: String,
    pub connections_max: usize,
    pub rate: RateLimits,
    pub domains: Vec<DomainLimits>,
    pub retry: RetrySettings,
    pub credits_batches: usize,
}

/// Draws outcomes from a seed: for tests and rehearsals.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedSettings {
    pub name: String,
    pub seed: u64,
    pub connections_max: usize,
    pub rate: RateLimits,
    pub domains: Vec<DomainLimits>,
    pub retry: RetrySettings,
    pub credits_batches: usize,
    pub latency_min: Duration,
    pub latency_max: Duration,
    /// Shares of messages, 0 to 1, together at most 1; the rest is accepted.
    pub defer_share: f64,
    pub hard_bounce_share: f64,
    pub soft_bounce_share: f64,
    pub policy_share: f64,
    /// Share of messages whose connection dies before the mark.
    pub lost_before_share: f64,
    /// Share of messages whose connection dies after the mark: unknown.
    pub lost_after_share: f64,
    pub suppress_after_hard_bounces: u32,
}

/// The embedded sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxSettings {
    pub name: String,
    pub connections_max: usize,
    pub rate: RateLimits,
    pub domains: Vec<DomainLimits>,
    /// Whole mails that are kept; of later ones only counters.
    pub mails_max: usize,
}

impl ConnectorSettings {
    pub fn name(&self) -> &str {
        match self {
            ConnectorSettings::Smtp(s) => &s.name,
            ConnectorSettings::Null(s) => &s.name,
            ConnectorSettings::Simulated(s) => &s.name,
            ConnectorSettings::Inbox(s) => &s.name,
        }
    }

    /// Where it sends to, without secrets.
    pub fn target(&self) -> String {
        match self {
            ConnectorSettings::Smtp(smtp) => format!("{}:{}", smtp.host, smtp.port),
            ConnectorSettings::Inbox(_) => "the embedded inbox: nothing leaves the machine".to_owned(),
            ConnectorSettings::Null(_) | ConnectorSettings::Simulated(_) => "nowhere".to_owned(),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            ConnectorSettings::Smtp(_) => "smtp",
            ConnectorSettings::Null(_) => "null",
            ConnectorSettings::Simulated(_) => "simulated",
            ConnectorSettings::Inbox(_) => "inbox",
        }
    }

    pub fn connections_max(&self) -> usize {
        match self {
            ConnectorSettings::Smtp(s) => s.connections_max,
            ConnectorSettings::Null(s) => s.connections_max,
            ConnectorSettings::Simulated(s) => s.connections_max,
            ConnectorSettings::Inbox(s) => s.connections_max,
        }
    }

    pub fn rate(&self) -> RateLimits {
        match self {
            ConnectorSettings::Smtp(s) => s.rate,
            ConnectorSettings::Null(s) => s.rate,
            ConnectorSettings::Simulated(s) => s.rate,
            ConnectorSettings::Inbox(s) => s.rate,
        }
    }

    pub fn domains(&self) -> &[DomainLimits] {
        match self {
            ConnectorSettings::Smtp(s) => &s.domains,
            ConnectorSettings::Null(s) => &s.domains,
            ConnectorSettings::Simulated(s) => &s.domains,
            ConnectorSettings::Inbox(s) => &s.domains,
        }
    }

    pub fn retry(&self) -> RetrySettings {
        match self {
            ConnectorSettings::Smtp(s) => s.retry.clone(),
            ConnectorSettings::Null(s) => s.retry.clone(),
            ConnectorSettings::Simulated(s) => s.retry.clone(),
            ConnectorSettings::Inbox(_) => RetrySettings::default(),
        }
    }

    pub fn credits_batches(&self) -> usize {
        match self {
            ConnectorSettings::Smtp(s) => s.credits_batches,
            ConnectorSettings::Null(s) => s.credits_batches,
            ConnectorSettings::Simulated(s) => s.credits_batches,
            ConnectorSettings::Inbox(_) => limits::CREDITS_BATCHES_DEFAULT,
        }
    }

    /// Hard bounces of an address before it is suppressed; 0 never.
    pub fn suppress_after_hard_bounces(&self) -> u32 {
        match self {
            ConnectorSettings::Smtp(s) => s.suppress_after_hard_bounces,
            ConnectorSettings::Simulated(s) => s.suppress_after_hard_bounces,
            ConnectorSettings::Null(_) | ConnectorSettings::Inbox(_) => 0,
        }
    }

    /// The connector that a server without configuration uses.
    pub fn embedded_inbox() -> ConnectorSettings {
        ConnectorSettings::Inbox(InboxSettings {
            name: "inbox".to_owned(),
            connections_max: 16,
            rate: RateLimits::default(),
            domains: Vec::new(),
            mails_max: limits::INBOX_MAILS_DEFAULT,
        })
    }
}

impl SmtpSettings {
    /// A relay on this machine, in the clear, with every default; for tests, benches and the embedded sink.
    pub fn loopback(name: &str, port: u16, connections_max: usize) -> SmtpSettings {
        SmtpSettings {
            name: name.to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
            tls: TlsMode::None,
            ca_file: None,
            username: None,
            password: None,
            connections_max,
            messages_per_connection_max: None,
            rate: RateLimits::default(),
            domains: Vec::new(),
            helo_name: None,
            pipelining: true,
            chunking: false,
            dkim: Vec::new(),
            timeouts: SmtpTimeouts::default(),
            retry: RetrySettings::default(),
            credits_batches: limits::CREDITS_BATCHES_DEFAULT,
            suppress_after_hard_bounces: 1,
        }
    }
}

impl RawConnector {
    /// `index` counts from 1 and names a connector that has no name.
    pub fn validate(self, index: usize) -> Result<ConnectorSettings, ConnectorError> {
        let RawConnector(mut table) = self;
        let name = match table.get("name").and_then(|v| v.as_str()) {
            Some(name) if is_valid_name(name) => name.to_owned(),
            _ => return Err(ConnectorError::Name { index }),
        };
        let kind = match table.remove("kind") {
            Some(toml::Value::String(kind)) => kind,
            Some(other) => {
                return Err(ConnectorError::Kind { connector: name, kind: other.to_string() });
            }
            None => return Err(ConnectorError::KindMissing { connector: name }),
        };
        match kind.as_str() {
            "smtp" => raw::smtp(table, &name).map(|s| ConnectorSettings::Smtp(Box::new(s))),
            "null" => raw::null(table, &name).map(ConnectorSettings::Null),
            "simulated" => raw::simulated(table, &name).map(ConnectorSettings::Simulated),
            "inbox" => raw::inbox(table, &name).map(ConnectorSettings::Inbox),
            _ => Err(ConnectorError::Kind { connector: name, kind }),
        }
    }
}

fn is_valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The tables as written, and their validation.
mod raw;

#[cfg(test)]
mod tests;
