//! The configuration file as written: one struct a table, unknown keys refused, defaults beside the keys.
//!
//! Owns no state. [`KEYS`] documents every key for people; a test holds it against the structs.

use serde::Deserialize;
use toml::Spanned;

use super::connectors::RawConnector;

/// Every key outside `[[connectors]]`: name, default, what it means.
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
    ("data.rejected_rows_days", "30", "rejected-row files of imports are deleted after this"),
    (
        "data.tracking_days",
        "365",
        "tracked links of a run work this long after its end (60 at least); opting out always",
    ),
    ("tracking.aggregate_only", "false", "true: only totals are kept, nobody's opens and clicks"),
    ("lanes.lane_threads", "number of cores", "threads that render and send"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) mail: Mail,
    pub(super) data: Data,
    pub(super) tracking: Tracking,
    pub(super) lanes: Lanes,
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
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Data {
    pub(super) rejected_rows_days: Spanned<u64>,
    pub(super) tracking_days: Spanned<u64>,
}

impl Default for Data {
    fn default() -> Data {
        Data { rejected_rows_days: unplaced(30), tracking_days: unplaced(365) }
    }
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Lanes {
    pub(super) lane_threads: Option<Spanned<u64>>,
}

/// A default stands nowhere in the file.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
