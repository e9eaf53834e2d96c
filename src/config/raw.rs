//! The configuration file as written: one struct a table, unknown keys refused, defaults beside the keys.
//!
//! Owns no state. [`KEYS`] documents every key for people; a test holds it against the structs.

use serde::Deserialize;
use toml::Spanned;

use super::connectors::RawConnector;
use crate::limits;

/// Every key: name, default, what it means. Those of `[[connectors]]` are of every kind, unless the text names kinds.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("server.api_listen", "\"127.0.0.1:8025\"", "address of the API; port 0 takes a free one"),
    ("server.public_listen", "\"127.0.0.1:8026\"", "address of the tracking endpoints; carries nothing else"),
    (
        "server.inbox_listen",
        "\"127.0.0.1:8027\"",
        "address of the embedded inbox's page, where a connector has the kind inbox",
    ),
    (
        "server.public_url",
        "\"http://\" + public_listen",
        "how recipients reach public_listen; stands in every tracked link",
    ),
    ("server.metrics_key", "none", "key that may read /metrics, beside the admin key"),
    ("server.metrics_open", "false", "true: /metrics needs no key"),
    ("server.trusted_proxies", "[]", "addresses or networks whose X-Forwarded-For is believed"),
    ("server.request_seconds_max", "120", "time for a request to arrive and be answered"),
    ("server.upload_bytes_max", "8589934592", "bytes of an uploaded CSV file"),
    ("server.drain_seconds_max", "30", "how long a shutdown waits for answers on the wire"),
    (
        "server.schedule_safety_minutes",
        "5",
        "a dated start is this long after its publication at the earliest, so that it can be taken back; 0 to 1440",
    ),
    (
        "mail.return_path_domain",
        "none",
        "bounces come back to addresses of this domain, one per message; without it to the sender's address",
    ),
    (
        "mail.unsubscribe_mailbox",
        "none",
        "address that takes in unsubscribe mails, beside the link in List-Unsubscribe",
    ),
    ("data.rejected_rows_days", "30", "rejected-row files of imports are deleted after this"),
    (
        "data.tracking_days",
        "365",
        "tracked links of a run work this long after its end (60 at least); opting out always",
    ),
    ("data.one_shot_max_bytes", "20000000", "bytes of a CSV file that is uploaded as the audience of one campaign"),
    (
        "data.one_shot_retention_days",
        "30",
        "such a file's rows are deleted so long after the end of the last run over them; opting out works on",
    ),
    (
        "data.backup_folder",
        "none",
        "backups that are asked of the server are made below this folder only; without it anywhere that it may write",
    ),
    (
        "retention.run_details_days",
        "none: for ever",
        "days after the end of a run, and of its resends, after which it keeps its figures and forgets who is behind them; data.tracking_days at least",
    ),
    (
        "retention.event_days",
        "none: for ever",
        "days, 1 to 363, after a contact's last event of a type after which it is forgotten",
    ),
    ("tracking.aggregate_only", "false", "true: only totals are kept, nobody's opens and clicks"),
    (
        "tracking.machine_ranges",
        "[]",
        "addresses or networks of scanners and crawlers: what comes from there counts as a machine's",
    ),
    (
        "tracking.prefetch_ranges",
        "[]",
        "addresses or networks that fetch images ahead of any person: opens from there count as a machine's, clicks do not",
    ),
    ("bounces.soft_max", "5", "soft bounces of an address after which it is suppressed; 0 never"),
    ("bounces.soft_days", "3", "on so many different days"),
    ("bounces.soft_within_days", "30", "within so many days"),
    ("caps.channel", "required", "[[caps]]: channel on which contacts are not written to too often, by any campaign"),
    ("caps.max", "required", "messages to one contact, 1 to 100"),
    ("caps.per", "required", "days in UTC, today included, as \"7d\" or \"2w\", up to 92d"),
    ("lanes.lane_threads", "number of cores", "threads that render and send"),
    ("connectors.name", "required", "1 to 64 letters, digits, '-' or '_'; what campaigns name"),
    (
        "connectors.kind",
        "required",
        "\"smtp\", \"inbox\" (embedded, in memory; of several, the page shows the first), \"null\" or \"simulated\"",
    ),
    ("connectors.connections_max", "10; null 4, inbox 16", "connections at a time"),
    ("connectors.messages_per_second", "none", "messages in any second; begins exhausted at a start"),
    ("connectors.messages_per_minute", "none", "messages in any minute"),
    ("connectors.messages_per_hour", "none", "messages in any hour"),
    ("connectors.messages_per_day", "none", "messages in any 24 hours"),
    ("connectors.domains", "[]", "[[connectors.domains]]: limits of destination domains of their own"),
    ("connectors.domains.domain", "required", "the domain; each is named once"),
    ("connectors.domains.connections_max", "none", "connections that carry mail for the domain at a time"),
    ("connectors.domains.messages_per_second", "none", "as of the connector, for the domain"),
    ("connectors.domains.messages_per_minute", "none", "as of the connector, for the domain"),
    ("connectors.domains.messages_per_hour", "none", "as of the connector, for the domain"),
    ("connectors.domains.messages_per_day", "none", "as of the connector, for the domain"),
    (
        "connectors.retry_schedule_seconds",
        "[300, 900, 1800, 3600, 7200, 14400]",
        "waits after the first, second, … deferral; the last one repeats; not inbox",
    ),
    (
        "connectors.retry_deadline_seconds",
        "172800",
        "a deferred message is given up this long after its start; not inbox",
    ),
    (
        "connectors.credits_batches",
        "8",
        "claimed batches that are not durably ended: what a power loss can leave unknown, in thousands; not inbox",
    ),
    ("connectors.host", "required", "smtp: name or address of the relay"),
    ("connectors.port", "587; implicit 465, none 25", "smtp: port of the relay"),
    ("connectors.tls", "\"starttls\"", "smtp: \"starttls\", \"implicit\", or \"none\" on loopback"),
    ("connectors.allow_plaintext", "false", "smtp: true: tls = \"none\" also beyond loopback"),
    ("connectors.ca_file", "the system's", "smtp: PEM certificates that are trusted instead"),
    ("connectors.username", "none", "smtp: AUTH; needs a password"),
    ("connectors.password", "none", "smtp: the password; never printed"),
    ("connectors.password_env", "none", "smtp: environment variable that has the password"),
    ("connectors.messages_per_connection_max", "none", "smtp: a connection is closed after this many messages"),
    ("connectors.helo_name", "the machine's name", "smtp: what EHLO says"),
    ("connectors.pipelining", "true", "smtp: use PIPELINING if it is offered"),
    ("connectors.chunking", "false", "smtp: use CHUNKING (BDAT) if it is offered; up to 4 messages unknown at a kill"),
    ("connectors.dkim", "[]", "smtp: [[connectors.dkim]]: signs with every key that is given"),
    ("connectors.dkim.domain", "required", "smtp: d= of the signature"),
    ("connectors.dkim.selector", "required", "smtp: s= of the signature"),
    ("connectors.dkim.key_file", "required", "smtp: PEM file of an RSA or Ed25519 key"),
    ("connectors.timeouts", "RFC 5321", "smtp: [connectors.timeouts]"),
    ("connectors.timeouts.connect_seconds", "30", "smtp: until the connection stands"),
    ("connectors.timeouts.tls_seconds", "30", "smtp: handshake"),
    ("connectors.timeouts.greeting_seconds", "300", "smtp: until the relay greets"),
    ("connectors.timeouts.command_seconds", "300", "smtp: EHLO, STARTTLS, AUTH, RSET, QUIT"),
    ("connectors.timeouts.mail_seconds", "300", "smtp: answer to MAIL"),
    ("connectors.timeouts.rcpt_seconds", "300", "smtp: answer to RCPT"),
    ("connectors.timeouts.data_seconds", "120", "smtp: answer to DATA"),
    ("connectors.timeouts.block_seconds", "180", "smtp: one write of message bytes"),
    ("connectors.timeouts.answer_seconds", "600", "smtp: from the final dot to its answer"),
    ("connectors.timeouts.idle_seconds", "60", "smtp: a connection without a message is closed after this"),
    (
        "connectors.suppress_after_hard_bounces",
        "1",
        "smtp, simulated: hard bounces of an address before it is suppressed; 0 never",
    ),
    ("connectors.mails_max", "2000", "inbox: whole mails that are kept"),
    ("connectors.seed", "0", "simulated: seed of the outcomes"),
    ("connectors.latency_min_millis", "0", "simulated: shortest answer time"),
    ("connectors.latency_max_millis", "0", "simulated: longest answer time"),
    (
        "connectors.defer_share",
        "0",
        "simulated: share of messages that are deferred, 0 to 1; the rest of all is accepted",
    ),
    ("connectors.hard_bounce_share", "0", "simulated: share that bounces for good"),
    ("connectors.soft_bounce_share", "0", "simulated: share that bounces for now"),
    ("connectors.policy_share", "0", "simulated: share that is refused by policy"),
    ("connectors.lost_before_share", "0", "simulated: share whose connection dies before the mark"),
    ("connectors.lost_after_share", "0", "simulated: share whose connection dies after the mark: unknown"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) mail: Mail,
    pub(super) data: Data,
    pub(super) retention: Retention,
    pub(super) tracking: Tracking,
    pub(super) lanes: Lanes,
    pub(super) bounces: super::bounces::Bounces,
    pub(super) caps: Vec<RawCap>,
    pub(super) connectors: Vec<Spanned<RawConnector>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) api_listen: Spanned<String>,
    pub(super) public_listen: Spanned<String>,
    pub(super) inbox_listen: Spanned<String>,
    pub(super) public_url: Option<Spanned<String>>,
    pub(super) metrics_key: Option<Spanned<String>>,
    pub(super) metrics_open: Spanned<bool>,
    pub(super) trusted_proxies: Vec<Spanned<String>>,
    pub(super) request_seconds_max: Spanned<u64>,
    pub(super) upload_bytes_max: Spanned<u64>,
    pub(super) drain_seconds_max: Spanned<u64>,
    pub(super) schedule_safety_minutes: Spanned<u64>,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            api_listen: unplaced("127.0.0.1:8025".to_owned()),
            public_listen: unplaced("127.0.0.1:8026".to_owned()),
            inbox_listen: unplaced("127.0.0.1:8027".to_owned()),
            public_url: None,
            metrics_key: None,
            metrics_open: unplaced(false),
            trusted_proxies: Vec::new(),
            request_seconds_max: unplaced(120),
            upload_bytes_max: unplaced(8 * 1024 * 1024 * 1024),
            drain_seconds_max: unplaced(30),
            schedule_safety_minutes: unplaced(limits::PUBLISH_GRACE.as_secs() / 60),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Data {
    pub(super) rejected_rows_days: Spanned<u64>,
    pub(super) tracking_days: Spanned<u64>,
    pub(super) one_shot_max_bytes: Spanned<u64>,
    pub(super) one_shot_retention_days: Spanned<u64>,
    pub(super) backup_folder: Option<Spanned<String>>,
}

impl Default for Data {
    fn default() -> Data {
        Data {
            rejected_rows_days: unplaced(30),
            tracking_days: unplaced(365),
            one_shot_max_bytes: unplaced(limits::ONE_SHOT_BYTES_DEFAULT),
            one_shot_retention_days: unplaced(limits::ONE_SHOT_RETENTION_DAYS_DEFAULT),
            backup_folder: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retention {
    pub(super) run_details_days: Option<Spanned<u64>>,
    pub(super) event_days: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mail {
    pub(super) return_path_domain: Option<Spanned<String>>,
    pub(super) unsubscribe_mailbox: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tracking {
    pub(super) aggregate_only: bool,
    pub(super) machine_ranges: Vec<Spanned<String>>,
    pub(super) prefetch_ranges: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Lanes {
    pub(super) lane_threads: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCap {
    pub(super) channel: Spanned<String>,
    pub(super) max: Spanned<u64>,
    pub(super) per: Spanned<String>,
}

/// A default stands nowhere in the file.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
