//! The connector tables as written: keys with units, unknown ones refused; and what each value must be.
//!
//! Owns no state. Must not know anything but the settings it makes.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{
    ConnectorError, DkimSettings, DomainLimits, InboxSettings, NullSettings, RateLimits, RetrySettings, Secret,
    SimulatedSettings, SmtpSettings, SmtpTimeouts, TlsMode, is_loopback,
};
use crate::limits;

pub(super) fn shape<T: DeserializeOwned>(table: toml::Table, connector: &str) -> Result<T, ConnectorError> {
    table.try_into().map_err(|source| ConnectorError::Shape { connector: connector.to_owned(), source })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Smtp {
    name: String,
    host: String,
    port: Option<u16>,
    #[serde(default)]
    tls: TlsMode,
    #[serde(default)]
    allow_plaintext: bool,
    ca_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<Secret>,
    password_env: Option<String>,
    connections_max: Option<usize>,
    messages_per_connection_max: Option<u64>,
    messages_per_second: Option<u32>,
    messages_per_minute: Option<u32>,
    messages_per_hour: Option<u32>,
    messages_per_day: Option<u32>,
    #[serde(default)]
    domains: Vec<Domain>,
    helo_name: Option<String>,
    pipelining: Option<bool>,
    chunking: Option<bool>,
    #[serde(default)]
    dkim: Vec<DkimSettings>,
    #[serde(default)]
    timeouts: Timeouts,
    retry_schedule_seconds: Option<Vec<u64>>,
    retry_deadline_seconds: Option<u64>,
    credits_batches: Option<usize>,
    suppress_after_hard_bounces: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Domain {
    domain: String,
    messages_per_second: Option<u32>,
    messages_per_minute: Option<u32>,
    messages_per_hour: Option<u32>,
    messages_per_day: Option<u32>,
    connections_max: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Timeouts {
    connect_seconds: Option<u64>,
    tls_seconds: Option<u64>,
    greeting_seconds: Option<u64>,
    command_seconds: Option<u64>,
    mail_seconds: Option<u64>,
    rcpt_seconds: Option<u64>,
    data_seconds: Option<u64>,
    block_seconds: Option<u64>,
    answer_seconds: Option<u64>,
    idle_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Null {
    name: String,
    connections_max: Option<usize>,
    messages_per_second: Option<u32>,
    messages_per_minute: Option<u32>,
    messages_per_hour: Option<u32>,
    messages_per_day: Option<u32>,
    #[serde(default)]
    domains: Vec<Domain>,
    retry_schedule_seconds: Option<Vec<u64>>,
    retry_deadline_seconds: Option<u64>,
    credits_batches: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Simulated {
    name: String,
    #[serde(default)]
    seed: u64,
    connections_max: Option<usize>,
    messages_per_second: Option<u32>,
    messages_per_minute: Option<u32>,
    messages_per_hour: Option<u32>,
    messages_per_day: Option<u32>,
    #[serde(default)]
    domains: Vec<Domain>,
    retry_schedule_seconds: Option<Vec<u64>>,
    retry_deadline_seconds: Option<u64>,
    credits_batches: Option<usize>,
    #[serde(default)]
    latency_min_millis: u64,
    #[serde(default)]
    latency_max_millis: u64,
    #[serde(default)]
    defer_share: f64,
    #[serde(default)]
    hard_bounce_share: f64,
    #[serde(default)]
    soft_bounce_share: f64,
    #[serde(default)]
    policy_share: f64,
    #[serde(default)]
    lost_before_share: f64,
    #[serde(default)]
    lost_after_share: f64,
    suppress_after_hard_bounces: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inbox {
    name: String,
    connections_max: Option<usize>,
    messages_per_second: Option<u32>,
    messages_per_minute: Option<u32>,
    messages_per_hour: Option<u32>,
    messages_per_day: Option<u32>,
    #[serde(default)]
    domains: Vec<Domain>,
    mails_max: Option<usize>,
}

/// Checks values of one connector and names it in every refusal.
struct Check<'a>(&'a str);

impl Check<'_> {
    fn range<T: PartialOrd + Copy + std::fmt::Display>(
        &self,
        key: &'static str,
        value: T,
        min: T,
        max: T,
    ) -> Result<T, ConnectorError> {
        if value >= min && value <= max {
            return Ok(value);
        }
        Err(self.refuse(key, value.to_string(), format!("{min} to {max}")))
    }

    fn refuse(&self, key: &'static str, found: String, wanted: String) -> ConnectorError {
        ConnectorError::Range { connector: self.0.to_owned(), key, found, wanted }
    }

    fn optional(&self, key: &'static str, value: Option<u32>) -> Result<Option<u32>, ConnectorError> {
        value.map(|v| self.range(key, v, 1, limits::RATE_MESSAGES_MAX)).transpose()
    }

    fn rate(
        &self,
        per_second: Option<u32>,
        per_minute: Option<u32>,
        per_hour: Option<u32>,
        per_day: Option<u32>,
    ) -> Result<RateLimits, ConnectorError> {
        Ok(RateLimits {
            per_second: self.optional("messages_per_second", per_second)?,
            per_minute: self.optional("messages_per_minute", per_minute)?,
            per_hour: self.optional("messages_per_hour", per_hour)?,
            per_day: self.optional("messages_per_day", per_day)?,
        })
    }

    fn connections(&self, value: Option<usize>, default: usize) -> Result<usize, ConnectorError> {
        self.range("connections_max", value.unwrap_or(default), 1, limits::CONNECTIONS_MAX)
    }

    fn credits(&self, value: Option<usize>) -> Result<usize, ConnectorError> {
        let value = value.unwrap_or(limits::CREDITS_BATCHES_DEFAULT);
        self.range("credits_batches", value, limits::BATCHES_AHEAD + 1, limits::CREDITS_BATCHES_MAX)
    }

    fn domains(&self, raw: Vec<Domain>) -> Result<Vec<DomainLimits>, ConnectorError> {
        let mut domains: Vec<DomainLimits> = Vec::with_capacity(raw.len());
        if raw.len() > limits::LIMIT_CLASSES_MAX {
            let wanted = format!("at most {} entries", limits::LIMIT_CLASSES_MAX);
            return Err(self.refuse("domains", format!("a list of {}", raw.len()), wanted));
        }
        for d in raw {
            let domain = match idna::domain_to_ascii_strict(d.domain.trim()) {
                Ok(ascii) if !ascii.is_empty() => ascii,
                _ => return Err(self.refuse("domains.domain", format!("{:?}", d.domain), "a domain name".to_owned())),
            };
            if domains.iter().any(|known| known.domain == domain) {
                return Err(self.refuse("domains.domain", format!("{domain:?} twice"), "named once".to_owned()));
            }
            let rate =
                self.rate(d.messages_per_second, d.messages_per_minute, d.messages_per_hour, d.messages_per_day)?;
            let connections_max = d
                .connections_max
                .map(|n| self.range("domains.connections_max", n, 1, limits::CONNECTIONS_MAX))
                .transpose()?;
            domains.push(DomainLimits { domain, rate, connections_max });
        }
        Ok(domains)
    }

    fn retry(&self, schedule: Option<Vec<u64>>, deadline: Option<u64>) -> Result<RetrySettings, ConnectorError> {
        let mut retry = RetrySettings::default();
        if let Some(seconds) = schedule {
            if seconds.is_empty() || seconds.len() > limits::RETRY_STEPS_MAX {
                let wanted = format!("a list of 1 to {} waits", limits::RETRY_STEPS_MAX);
                return Err(self.refuse("retry_schedule_seconds", format!("a list of {}", seconds.len()), wanted));
            }
            let max = limits::RETRY_WAIT_MAX.as_secs();
            retry.schedule = seconds
                .into_iter()
                .map(|s| self.range("retry_schedule_seconds", s, 1, max).map(Duration::from_secs))
                .collect::<Result<_, _>>()?;
        }
        if let Some(seconds) = deadline {
            let max = limits::RETRY_DEADLINE_MAX.as_secs();
            retry.deadline = Duration::from_secs(self.range("retry_deadline_seconds", seconds, 1, max)?);
        }
        Ok(retry)
    }

    fn timeouts(&self, raw: Timeouts) -> Result<SmtpTimeouts, ConnectorError> {
        let mut t = SmtpTimeouts::default();
        let set = |key, value: Option<u64>, place: &mut Duration| -> Result<(), ConnectorError> {
            if let Some(seconds) = value {
                *place = Duration::from_secs(self.range(key, seconds, 1, limits::SMTP_TIMEOUT_MAX.as_secs())?);
            }
            Ok(())
        };
        set("timeouts.connect_seconds", raw.connect_seconds, &mut t.connect)?;
        set("timeouts.tls_seconds", raw.tls_seconds, &mut t.tls)?;
        set("timeouts.greeting_seconds", raw.greeting_seconds, &mut t.greeting)?;
        set("timeouts.command_seconds", raw.command_seconds, &mut t.command)?;
        set("timeouts.mail_seconds", raw.mail_seconds, &mut t.mail)?;
        set("timeouts.rcpt_seconds", raw.rcpt_seconds, &mut t.rcpt)?;
        set("timeouts.data_seconds", raw.data_seconds, &mut t.data)?;
        set("timeouts.block_seconds", raw.block_seconds, &mut t.block)?;
        set("timeouts.answer_seconds", raw.answer_seconds, &mut t.answer)?;
        set("timeouts.idle_seconds", raw.idle_seconds, &mut t.idle)?;
        Ok(t)
    }

    fn share(&self, key: &'static str, share: f64) -> Result<f64, ConnectorError> {
        self.range(key, share, 0.0, 1.0)
    }

    fn word(&self, key: &'static str, value: &str) -> Result<(), ConnectorError> {
        if !value.is_empty() && value.len() <= 255 && value.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(());
        }
        Err(self.refuse(key, format!("{value:?}"), "a host name or address without blanks".to_owned()))
    }
}

/// The password from the file or from the environment; it and the user's name need each other.
fn password(
    connector: &str,
    has_user: bool,
    password: Option<Secret>,
    password_env: Option<String>,
) -> Result<Option<Secret>, ConnectorError> {
    let together = |key, other| ConnectorError::Together { connector: connector.to_owned(), key, other };
    match (password, password_env) {
        (None, None) if has_user => Err(together("username", "password")),
        (Some(_), _) | (_, Some(_)) if !has_user => Err(together("password", "username")),
        (given, None) => Ok(given),
        (Some(_), Some(_)) => Err(ConnectorError::Range {
            connector: connector.to_owned(),
            key: "password_env",
            found: "given beside `password`".to_owned(),
            wanted: "the only one of the two".to_owned(),
        }),
        (None, Some(variable)) => match std::env::var(&variable) {
            Ok(value) => Ok(Some(Secret::new(value))),
            Err(_) => Err(ConnectorError::PasswordEnv { connector: connector.to_owned(), variable }),
        },
    }
}

impl Smtp {
    pub(super) fn validate(self) -> Result<SmtpSettings, ConnectorError> {
        let check = Check(&self.name);
        let host = self.host.trim().trim_start_matches('[').trim_end_matches(']').to_owned();
        check.word("host", &host)?;
        if let Some(helo) = &self.helo_name {
            check.word("helo_name", helo)?;
        }
        if self.tls == TlsMode::None && !self.allow_plaintext && !is_loopback(&host) {
            return Err(ConnectorError::Plaintext { connector: self.name, host });
        }
        let password = password(&self.name, self.username.is_some(), self.password, self.password_env)?;
        let port = self.port.unwrap_or(match self.tls {
            TlsMode::Starttls => 587,
            TlsMode::Implicit => 465,
            TlsMode::None => 25,
        });
        let messages_per_connection_max = self
            .messages_per_connection_max
            .map(|n| check.range("messages_per_connection_max", n, 1, u64::from(u32::MAX)))
            .transpose()?;
        for key in &self.dkim {
            check.word("dkim.domain", &key.domain)?;
            check.word("dkim.selector", &key.selector)?;
        }
        Ok(SmtpSettings {
            port: check.range("port", port, 1, u16::MAX)?,
            connections_max: check.connections(self.connections_max, 10)?,
            messages_per_connection_max,
            rate: check.rate(
                self.messages_per_second,
                self.messages_per_minute,
                self.messages_per_hour,
                self.messages_per_day,
            )?,
            domains: check.domains(self.domains)?,
            timeouts: check.timeouts(self.timeouts)?,
            retry: check.retry(self.retry_schedule_seconds, self.retry_deadline_seconds)?,
            credits_batches: check.credits(self.credits_batches)?,
            suppress_after_hard_bounces: self.suppress_after_hard_bounces.unwrap_or(1),
            pipelining: self.pipelining.unwrap_or(true),
            chunking: self.chunking.unwrap_or(false),
            tls: self.tls,
            ca_file: self.ca_file,
            username: self.username,
            helo_name: self.helo_name,
            dkim: self.dkim,
            password,
            host,
            name: self.name,
        })
    }
}

impl Null {
    pub(super) fn validate(self) -> Result<NullSettings, ConnectorError> {
        let check = Check(&self.name);
        Ok(NullSettings {
            connections_max: check.connections(self.connections_max, 4)?,
            rate: check.rate(
                self.messages_per_second,
                self.messages_per_minute,
                self.messages_per_hour,
                self.messages_per_day,
            )?,
            domains: check.domains(self.domains)?,
            retry: check.retry(self.retry_schedule_seconds, self.retry_deadline_seconds)?,
            credits_batches: check.credits(self.credits_batches)?,
            name: self.name,
        })
    }
}

impl Simulated {
    pub(super) fn validate(self) -> Result<SimulatedSettings, ConnectorError> {
        let check = Check(&self.name);
        let shares = [
            ("defer_share", self.defer_share),
            ("hard_bounce_share", self.hard_bounce_share),
            ("soft_bounce_share", self.soft_bounce_share),
            ("policy_share", self.policy_share),
            ("lost_before_share", self.lost_before_share),
            ("lost_after_share", self.lost_after_share),
        ];
        let mut sum = 0.0;
        for (key, share) in shares {
            sum += check.share(key, share)?;
        }
        if sum > 1.0 {
            return Err(check.refuse("defer_share", format!("{sum} with the other shares"), "at most 1".to_owned()));
        }
        let latency_min = check.range("latency_min_millis", self.latency_min_millis, 0, 60_000)?;
        let latency_max = check.range("latency_max_millis", self.latency_max_millis, 0, 60_000)?.max(latency_min);
        Ok(SimulatedSettings {
            seed: self.seed,
            connections_max: check.connections(self.connections_max, 10)?,
            rate: check.rate(
                self.messages_per_second,
                self.messages_per_minute,
                self.messages_per_hour,
                self.messages_per_day,
            )?,
            domains: check.domains(self.domains)?,
            retry: check.retry(self.retry_schedule_seconds, self.retry_deadline_seconds)?,
            credits_batches: check.credits(self.credits_batches)?,
            latency_min: Duration::from_millis(latency_min),
            latency_max: Duration::from_millis(latency_max),
            defer_share: self.defer_share,
            hard_bounce_share: self.hard_bounce_share,
            soft_bounce_share: self.soft_bounce_share,
            policy_share: self.policy_share,
            lost_before_share: self.lost_before_share,
            lost_after_share: self.lost_after_share,
            suppress_after_hard_bounces: self.suppress_after_hard_bounces.unwrap_or(1),
            name: self.name,
        })
    }
}

impl Inbox {
    pub(super) fn validate(self) -> Result<InboxSettings, ConnectorError> {
        let check = Check(&self.name);
        let mails = self.mails_max.unwrap_or(limits::INBOX_MAILS_DEFAULT);
        Ok(InboxSettings {
            connections_max: check.connections(self.connections_max, 16)?,
            rate: check.rate(
                self.messages_per_second,
                self.messages_per_minute,
                self.messages_per_hour,
                self.messages_per_day,
            )?,
            domains: check.domains(self.domains)?,
            mails_max: check.range("mails_max", mails, 1, limits::INBOX_MAILS_MAX)?,
            name: self.name,
        })
    }
}
