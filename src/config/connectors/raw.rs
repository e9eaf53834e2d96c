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

/// A table, or what is left of one, as written.
fn shape<T: DeserializeOwned>(table: toml::Table, connector: &str) -> Result<T, ConnectorError> {
    table.try_into().map_err(|source| ConnectorError::Shape { connector: connector.to_owned(), source })
}

/// Takes the named keys out of a table, as a table of their own.
fn part<T: DeserializeOwned>(table: &mut toml::Table, keys: &[&str], connector: &str) -> Result<T, ConnectorError> {
    shape(keys.iter().filter_map(|key| table.remove_entry(*key)).collect(), connector)
}

/// Limits of messages, of a connector or of a domain.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rates {
    messages_per_second: Option<u32>,
    messages_per_minute: Option<u32>,
    messages_per_hour: Option<u32>,
    messages_per_day: Option<u32>,
}

const RATE_KEYS: &[&str] = &["messages_per_second", "messages_per_minute", "messages_per_hour", "messages_per_day"];

/// What a connector of every kind has beside its name.
struct Common {
    connections_max: usize,
    rate: RateLimits,
    domains: Vec<DomainLimits>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCommon {
    connections_max: Option<usize>,
    #[serde(default)]
    domains: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDomain {
    domain: String,
    connections_max: Option<usize>,
}

impl Common {
    fn take(table: &mut toml::Table, connector: &str, connections: usize) -> Result<Common, ConnectorError> {
        let check = Check(connector);
        let rate = check.rate(&part(table, RATE_KEYS, connector)?)?;
        let raw: RawCommon = part(table, &["connections_max", "domains"], connector)?;
        Ok(Common {
            connections_max: check.connections(raw.connections_max, connections)?,
            rate,
            domains: check.domains(raw.domains)?,
        })
    }
}

/// What a connector has whose messages may wait or be lost.
struct Waiting {
    retry: RetrySettings,
    credits_batches: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWaiting {
    retry_schedule_seconds: Option<Vec<u64>>,
    retry_deadline_seconds: Option<u64>,
    credits_batches: Option<usize>,
}

impl Waiting {
    fn take(table: &mut toml::Table, connector: &str) -> Result<Waiting, ConnectorError> {
        let keys = ["retry_schedule_seconds", "retry_deadline_seconds", "credits_batches"];
        let raw: RawWaiting = part(table, &keys, connector)?;
        let check = Check(connector);
        Ok(Waiting {
            retry: check.retry(raw.retry_schedule_seconds, raw.retry_deadline_seconds)?,
            credits_batches: check.credits(raw.credits_batches)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Smtp {
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
    messages_per_connection_max: Option<u64>,
    helo_name: Option<String>,
    pipelining: Option<bool>,
    chunking: Option<bool>,
    #[serde(default)]
    dkim: Vec<DkimSettings>,
    #[serde(default)]
    timeouts: Timeouts,
    suppress_after_hard_bounces: Option<u32>,
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
struct Null {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Simulated {
    name: String,
    #[serde(default)]
    seed: u64,
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
struct Inbox {
    name: String,
    mails_max: Option<usize>,
}

pub(super) fn smtp(mut table: toml::Table, name: &str) -> Result<SmtpSettings, ConnectorError> {
    let common = Common::take(&mut table, name, 10)?;
    let waiting = Waiting::take(&mut table, name)?;
    shape::<Smtp>(table, name)?.validate(common, waiting)
}

pub(super) fn null(mut table: toml::Table, name: &str) -> Result<NullSettings, ConnectorError> {
    let Common { connections_max, rate, domains } = Common::take(&mut table, name, 4)?;
    let Waiting { retry, credits_batches } = Waiting::take(&mut table, name)?;
    let Null { name } = shape(table, name)?;
    Ok(NullSettings { name, connections_max, rate, domains, retry, credits_batches })
}

pub(super) fn simulated(mut table: toml::Table, name: &str) -> Result<SimulatedSettings, ConnectorError> {
    let common = Common::take(&mut table, name, 10)?;
    let waiting = Waiting::take(&mut table, name)?;
    shape::<Simulated>(table, name)?.validate(common, waiting)
}

pub(super) fn inbox(mut table: toml::Table, name: &str) -> Result<InboxSettings, ConnectorError> {
    let Common { connections_max, rate, domains } = Common::take(&mut table, name, 16)?;
    let Inbox { name, mails_max } = shape(table, name)?;
    let mails = mails_max.unwrap_or(limits::INBOX_MAILS_DEFAULT);
    let mails_max = Check(&name).range("mails_max", mails, 1, limits::INBOX_MAILS_MAX)?;
    Ok(InboxSettings { name, connections_max, rate, domains, mails_max })
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

    fn rate(&self, raw: &Rates) -> Result<RateLimits, ConnectorError> {
        Ok(RateLimits {
            per_second: self.optional("messages_per_second", raw.messages_per_second)?,
            per_minute: self.optional("messages_per_minute", raw.messages_per_minute)?,
            per_hour: self.optional("messages_per_hour", raw.messages_per_hour)?,
            per_day: self.optional("messages_per_day", raw.messages_per_day)?,
        })
    }

    fn connections(&self, value: Option<usize>, default: usize) -> Result<usize, ConnectorError> {
        self.range("connections_max", value.unwrap_or(default), 1, limits::CONNECTIONS_MAX)
    }

    fn credits(&self, value: Option<usize>) -> Result<usize, ConnectorError> {
        let value = value.unwrap_or(limits::CREDITS_BATCHES_DEFAULT);
        self.range("credits_batches", value, limits::BATCHES_AHEAD + 1, limits::CREDITS_BATCHES_MAX)
    }

    fn domains(&self, raw: Vec<toml::Table>) -> Result<Vec<DomainLimits>, ConnectorError> {
        let mut domains: Vec<DomainLimits> = Vec::with_capacity(raw.len());
        if raw.len() > limits::LIMIT_CLASSES_MAX {
            let wanted = format!("at most {} entries", limits::LIMIT_CLASSES_MAX);
            return Err(self.refuse("domains", format!("a list of {}", raw.len()), wanted));
        }
        for mut table in raw {
            let rate = self.rate(&part(&mut table, RATE_KEYS, self.0)?)?;
            let d: RawDomain = shape(table, self.0)?;
            let domain = match idna::domain_to_ascii_strict(d.domain.trim()) {
                Ok(ascii) if !ascii.is_empty() => ascii,
                _ => return Err(self.refuse("domains.domain", format!("{:?}", d.domain), "a domain name".to_owned())),
            };
            if domains.iter().any(|known| known.domain == domain) {
                return Err(self.refuse("domains.domain", format!("{domain:?} twice"), "named once".to_owned()));
            }
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
    fn validate(self, common: Common, waiting: Waiting) -> Result<SmtpSettings, ConnectorError> {
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
            connections_max: common.connections_max,
            messages_per_connection_max,
            rate: common.rate,
            domains: common.domains,
            timeouts: check.timeouts(self.timeouts)?,
            retry: waiting.retry,
            credits_batches: waiting.credits_batches,
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

impl Simulated {
    fn validate(self, common: Common, waiting: Waiting) -> Result<SimulatedSettings, ConnectorError> {
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
            connections_max: common.connections_max,
            rate: common.rate,
            domains: common.domains,
            retry: waiting.retry,
            credits_batches: waiting.credits_batches,
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
