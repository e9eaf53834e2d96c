//! Configuration: the TOML file as written, and the validated settings.
//!
//! Owns no state. Two steps: `raw` mirrors the file and refuses unknown keys; [`Config::parse`] turns it into typed
//! settings and says what is wrong with file, line, key and allowed values.
//!
//! Invariants: CF-1 every key has a default that works, so that no file is a valid file; CF-2 a [`Config`] needs no further
//! checking; CF-3 secrets are never printed; CF-4 a key that is a quantity carries its unit in its name.
//! It must not know the engine, sockets or the environment (but for what connectors say about theirs).

mod addresses;
mod bounces;
pub mod caps;
pub mod connectors;
mod raw;
mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use addresses::Networks;
pub use bounces::SoftRule;
use caps::{Cap, CapError};
use connectors::{ConnectorError, ConnectorSettings};
pub use raw::KEYS;
use toml::Spanned;

use crate::ids::Channel;
use crate::limits;

/// Validated settings of a server.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: ServerConfig,
    pub mail: MailConfig,
    pub data: DataConfig,
    pub retention: RetentionConfig,
    pub tracking: TrackingConfig,
    pub soft_bounces: SoftRule,
    /// Frequency caps of every campaign.
    pub caps: Vec<Cap>,
    /// Threads that render and send.
    pub lane_threads: usize,
    /// At least one; names are unique.
    pub connectors: Vec<ConnectorSettings>,
    /// No file named a connector: only the embedded inbox is there, and nothing leaves the machine.
    pub embedded_only: bool,
}

#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub api_listen: SocketAddr,
    pub public_listen: SocketAddr,
    /// The page of the embedded inbox, if there is one.
    pub inbox_listen: SocketAddr,
    /// How recipients reach the public listener: scheme and host, perhaps a path, no slash at the end.
    pub public_url: String,
    pub metrics: MetricsAccess,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Networks,
    /// Time for a request to arrive and be answered; an upload must only keep flowing.
    pub request_time_max: Duration,
    /// Bytes of an uploaded CSV file.
    pub upload_bytes_max: u64,
    /// How long a shutdown waits for answers on the wire.
    pub drain_time_max: Duration,
    /// A dated start is this long after its publication at the earliest.
    pub publish_grace: Duration,
}

/// Who may read `/metrics` on the API listener.
#[derive(Clone, PartialEq, Eq)]
pub enum MetricsAccess {
    /// The admin key only.
    AdminKey,
    /// This scrape key, or the admin key.
    ScrapeKey(String),
    /// Anyone who reaches the listener.
    Open,
}

impl std::fmt::Debug for MetricsAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MetricsAccess::AdminKey => "AdminKey",
            MetricsAccess::ScrapeKey(_) => "ScrapeKey(hidden)",
            MetricsAccess::Open => "Open",
        })
    }
}

/// Addresses of the sender that stand in every mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailConfig {
    /// Domain that takes in bounces; without it they go to the sender's address.
    pub return_path_domain: Option<String>,
    /// Takes in unsubscribe mails.
    pub unsubscribe_mailbox: Option<String>,
}

#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Rejected-row files of imports are deleted after this.
    pub rejected_rows_kept: Duration,
    /// Tracked links of a run work this long after its end.
    pub tracking_kept: Duration,
    /// Bytes of a file that is uploaded as a one-shot audience.
    pub one_shot_bytes_max: u64,
    /// Such an upload is deleted so long after it was needed last.
    pub one_shot_kept: Duration,
    /// Backups through the API lie below this; none: anywhere that the server may write.
    pub backup_folder: Option<PathBuf>,
}

/// What of old runs is forgotten, beside what [`DataConfig`] says of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Who is behind the figures of a run is forgotten so long after its end; none: never.
    pub run_details_kept: Option<Duration>,
    /// That a contact did something is forgotten so long after its last event of the type; none: never.
    pub events_kept: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackingConfig {
    /// Only totals: nobody's opens and clicks are kept by contact.
    pub aggregate_only: bool,
    /// Whatever comes from there is a machine's: scanners, crawlers, the operator's own monitoring.
    pub machine_ranges: Networks,
    /// Images are fetched from there ahead of any person; a click from there says nothing.
    pub prefetch_ranges: Networks,
}

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {source}", .file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}:{line}:{column}: {message}", .file.display())]
    Syntax { file: PathBuf, line: usize, column: usize, message: String },
    #[error("{}:{line}: {key} = {value}: {message}", .file.display())]
    Value { file: PathBuf, line: usize, key: &'static str, value: String, message: String },
    #[error("{}:{line}: {source}", .file.display())]
    Connector {
        file: PathBuf,
        line: usize,
        #[source]
        source: Box<ConnectorError>,
    },
    #[error("{}:{line}: connector name {name:?} is used twice", .file.display())]
    ConnectorTwice { file: PathBuf, line: usize, name: String },
    #[error("{}:{line}: {count} connectors; at most {} are allowed", .file.display(), limits::CONNECTORS_MAX)]
    TooManyConnectors { file: PathBuf, line: usize, count: usize },
}

impl Config {
    /// The settings of `file`; those of an empty file if there is none.
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        match file {
            None => Config::parse("", Path::new("(no configuration file)")),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
                Config::parse(&text, file)
            }
        }
    }

    /// Reads and validates the text of a file; `file` is only named in errors.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
        let source = Source { text, file };
        let raw: raw::Raw = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        let server = server(&raw.server, &source)?;
        let data = data(&raw.data, &source)?;
        let retention = retention(&raw, &source)?;
        let mail = mail(&raw.mail, &source)?;
        let lane_threads = match &raw.lanes.lane_threads {
            None => std::thread::available_parallelism().map_or(1, usize::from).min(limits::LANE_THREADS_MAX),
            Some(n) => source.within("lanes.lane_threads", n, 1, limits::LANE_THREADS_MAX as u64)? as usize,
        };
        let embedded_only = raw.connectors.is_empty();
        let connectors = if embedded_only { embedded_inbox(&source)? } else { connectors(raw.connectors, &source)? };
        let tracking = tracking(&raw.tracking, &source)?;
        let soft_bounces = bounces::validate(&raw.bounces, &source)?;
        let caps = caps_of(&raw.caps, &source)?;
        Ok(Config {
            server,
            mail,
            data,
            retention,
            tracking,
            soft_bounces,
            caps,
            lane_threads,
            connectors,
            embedded_only,
        })
    }
}

fn server(raw: &raw::Server, source: &Source<'_>) -> Result<ServerConfig, ConfigError> {
    let public_listen: SocketAddr = source.address("server.public_listen", &raw.public_listen)?;
    let public_url = match &raw.public_url {
        Some(url) => source.public_url(url)?,
        None => format!("http://{public_listen}"),
    };
    let metrics = match (&raw.metrics_key, raw.metrics_open.get_ref()) {
        (Some(_), true) => {
            return Err(source.value(
                "server.metrics_open",
                &raw.metrics_open,
                "metrics_key is set: leave out one of the two",
            ));
        }
        (Some(key), false) if key.get_ref().len() < limits::KEY_SECRET_BYTES_MIN => {
            let hidden = Spanned::new(key.span(), "(hidden)");
            let text = format!("a key has at least {} characters", limits::KEY_SECRET_BYTES_MIN);
            return Err(source.value("server.metrics_key", &hidden, &text));
        }
        (Some(key), false) => MetricsAccess::ScrapeKey(key.get_ref().clone()),
        (None, true) => MetricsAccess::Open,
        (None, false) => MetricsAccess::AdminKey,
    };
    let proxies = source.networks("server.trusted_proxies", &raw.trusted_proxies)?;
    let seconds = |key, n| source.within(key, n, 1, limits::CONFIG_SECONDS_MAX).map(Duration::from_secs);
    Ok(ServerConfig {
        api_listen: source.address("server.api_listen", &raw.api_listen)?,
        public_listen,
        inbox_listen: source.address("server.inbox_listen", &raw.inbox_listen)?,
        public_url,
        metrics,
        trusted_proxies: proxies,
        request_time_max: seconds("server.request_seconds_max", &raw.request_seconds_max)?,
        upload_bytes_max: source.within(
            "server.upload_bytes_max",
            &raw.upload_bytes_max,
            1,
            limits::UPLOAD_BYTES_CEILING,
        )?,
        drain_time_max: seconds("server.drain_seconds_max", &raw.drain_seconds_max)?,
        publish_grace: source
            .within(
                "server.schedule_safety_minutes",
                &raw.schedule_safety_minutes,
                0,
                limits::PUBLISH_GRACE_MINUTES_MAX,
            )
            .map(|minutes| Duration::from_secs(minutes * 60))?,
    })
}

fn mail(raw: &raw::Mail, source: &Source<'_>) -> Result<MailConfig, ConfigError> {
    let is_domain = |d: &str| {
        d.contains('.')
            && d.split('.').all(|l| !l.is_empty() && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
    };
    if let Some(domain) = raw.return_path_domain.as_ref().filter(|d| !is_domain(d.get_ref())) {
        let message = "must be a domain in ASCII form, as \"bounces.example.com\"";
        return Err(source.value("mail.return_path_domain", domain, message));
    }
    let is_mailbox = |m: &str| {
        m.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && local.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
                && is_domain(domain)
        })
    };
    if let Some(mailbox) = raw.unsubscribe_mailbox.as_ref().filter(|m| !is_mailbox(m.get_ref())) {
        let message = "must be an address, as \"leave@example.com\"";
        return Err(source.value("mail.unsubscribe_mailbox", mailbox, message));
    }
    let plain = |text: &Option<Spanned<String>>| text.as_ref().map(|t| t.get_ref().clone());
    Ok(MailConfig {
        return_path_domain: plain(&raw.return_path_domain),
        unsubscribe_mailbox: plain(&raw.unsubscribe_mailbox),
    })
}

fn data(raw: &raw::Data, source: &Source<'_>) -> Result<DataConfig, ConfigError> {
    let days =
        |key, n, least| source.within(key, n, least, limits::CONFIG_DAYS_MAX).map(|d| Duration::from_secs(d * 86_400));
    Ok(DataConfig {
        rejected_rows_kept: days("data.rejected_rows_days", &raw.rejected_rows_days, 1)?,
        tracking_kept: days("data.tracking_days", &raw.tracking_days, limits::TRACKING_DAYS_MIN)?,
        one_shot_bytes_max: source.within(
            "data.one_shot_max_bytes",
            &raw.one_shot_max_bytes,
            1,
            limits::ONE_SHOT_BYTES_CEILING,
        )?,
        backup_folder: match &raw.backup_folder {
            Some(folder) if !Path::new(folder.get_ref()).is_absolute() => {
                return Err(source.value("data.backup_folder", folder, "must be an absolute path"));
            }
            folder => folder.as_ref().map(|folder| PathBuf::from(folder.get_ref())),
        },
        one_shot_kept: days("data.one_shot_retention_days", &raw.one_shot_retention_days, 1)?,
    })
}

/// Links that still count would count for people who are forgotten: they end first.
fn retention(raw: &raw::Raw, source: &Source<'_>) -> Result<RetentionConfig, ConfigError> {
    let (least, most) = (*raw.data.tracking_days.get_ref(), limits::CONFIG_DAYS_MAX);
    let kept = |name, days: &Option<_>, least, most| {
        let days = days.as_ref().map(|days| source.within(name, days, least, most)).transpose()?;
        Ok(days.map(|days| Duration::from_secs(days * 86_400)))
    };
    Ok(RetentionConfig {
        run_details_kept: kept("retention.run_details_days", &raw.retention.run_details_days, least, most)?,
        events_kept: kept("retention.event_days", &raw.retention.event_days, 1, limits::EVENT_DAYS_MAX as u64)?,
    })
}

fn tracking(raw: &raw::Tracking, source: &Source<'_>) -> Result<TrackingConfig, ConfigError> {
    Ok(TrackingConfig {
        aggregate_only: raw.aggregate_only,
        machine_ranges: source.networks("tracking.machine_ranges", &raw.machine_ranges)?,
        prefetch_ranges: source.networks("tracking.prefetch_ranges", &raw.prefetch_ranges)?,
    })
}

fn caps_of(raw: &[raw::RawCap], source: &Source<'_>) -> Result<Vec<Cap>, ConfigError> {
    if let Some(first) = raw.get(limits::CAPS_MAX) {
        return Err(source.value("caps.channel", &first.channel, "there are more caps than can be: 16"));
    }
    let read = |cap: &raw::RawCap| {
        let names = Channel::ALL.map(Channel::name).join(", ");
        let unknown = || source.value("caps.channel", &cap.channel, &format!("must be one of {names}"));
        let channel = Channel::from_name(cap.channel.get_ref()).ok_or_else(unknown)?;
        let max = u32::try_from(*cap.max.get_ref()).unwrap_or(u32::MAX);
        Cap::new(channel, max, cap.per.get_ref()).map_err(|error| match &error {
            CapError::Max { .. } => source.value("caps.max", &cap.max, &error.to_string()),
            CapError::Days { .. } => source.value("caps.per", &cap.per, &error.to_string()),
        })
    };
    raw.iter().map(read).collect()
}

fn embedded_inbox(source: &Source<'_>) -> Result<Vec<ConnectorSettings>, ConfigError> {
    let raw: raw::Raw = toml::from_str("[[connectors]]\nname = \"inbox\"\nkind = \"inbox\"\n")
        .map_err(|error| source.syntax(&error))?;
    connectors(raw.connectors, source)
}

fn connectors(
    raw: Vec<Spanned<connectors::RawConnector>>,
    source: &Source<'_>,
) -> Result<Vec<ConnectorSettings>, ConfigError> {
    if let Some(first) = raw.first().filter(|_| raw.len() > limits::CONNECTORS_MAX) {
        let (file, line) = source.place(first);
        return Err(ConfigError::TooManyConnectors { file, line, count: raw.len() });
    }
    let mut settings: Vec<ConnectorSettings> = Vec::with_capacity(raw.len());
    for (index, connector) in raw.into_iter().enumerate() {
        let (file, line) = source.place(&connector);
        match connector.into_inner().validate(index + 1) {
            Err(error) => {
                return Err(ConfigError::Connector { file, line, source: Box::new(error) });
            }
            Ok(next) if settings.iter().any(|c| c.name() == next.name()) => {
                return Err(ConfigError::ConnectorTwice { file, line, name: next.name().to_owned() });
            }
            Ok(next) => settings.push(next),
        }
    }
    Ok(settings)
}

/// The text that errors point into.
struct Source<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Source<'_> {
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        (line, column)
    }

    fn place<T>(&self, value: &Spanned<T>) -> (PathBuf, usize) {
        (self.file.to_owned(), self.position(value.span().start).0)
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let (line, column) = self.position(error.span().map_or(0, |s| s.start));
        ConfigError::Syntax { file: self.file.to_owned(), line, column, message: error.message().to_owned() }
    }

    fn value<T: std::fmt::Display>(&self, key: &'static str, value: &Spanned<T>, message: &str) -> ConfigError {
        let (file, line) = self.place(value);
        ConfigError::Value { file, line, key, value: value.get_ref().to_string(), message: message.to_owned() }
    }

    fn within(&self, key: &'static str, value: &Spanned<u64>, least: u64, most: u64) -> Result<u64, ConfigError> {
        if (least..=most).contains(value.get_ref()) {
            return Ok(*value.get_ref());
        }
        Err(self.value(key, value, &format!("must be {least} to {most}")))
    }

    fn networks(&self, key: &'static str, written: &[Spanned<String>]) -> Result<Networks, ConfigError> {
        if let Some(first) = written.first().filter(|_| written.len() > limits::CONFIG_NETWORKS_MAX) {
            let most = limits::CONFIG_NETWORKS_MAX;
            return Err(self.value(key, first, &format!("{} networks; at most {most} are allowed", written.len())));
        }
        let mut networks = Networks::none();
        for network in written {
            networks.add(network.get_ref()).map_err(|text| self.value(key, network, text))?;
        }
        Ok(networks)
    }

    fn address(&self, key: &'static str, value: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
        value.get_ref().parse().map_err(|_| {
            self.value(
                key,
                value,
                "must be an IP address and a port, as \"127.0.0.1:8025\" or \"[::1]:8025\"; port 0 takes a free one",
            )
        })
    }

    fn public_url(&self, value: &Spanned<String>) -> Result<String, ConfigError> {
        let url = value.get_ref().trim_end_matches('/');
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let is_url = rest.is_some_and(|r| {
            !r.is_empty()
                && !r.starts_with('/')
                && r.chars().all(|c| c.is_ascii_graphic() && !"?#\"<>\\^`{|}@".contains(c))
        });
        if is_url && url.len() <= limits::PUBLIC_URL_BYTES_MAX {
            return Ok(url.to_owned());
        }
        Err(self.value(
            "server.public_url",
            value,
            "must be http:// or https:// and a host, perhaps a path; it stands in front of every tracked link",
        ))
    }
}

#[cfg(test)]
mod tests;
