//! Bounds of what is asked over HTTP: the API, and the public listener.
//!
//! Owns no state.

use std::time::Duration;

// --- API ------------------------------------------------------------------------------------------------------

/// Bytes of a JSON or TOML request body.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Contacts that the preview of a segment shows.
pub const PREVIEW_SAMPLE_MAX: usize = 100;
/// Entries of one page of a list.
pub const PAGE_MAX: usize = 1_000;
/// Entries of a page when the client does not say.
pub const PAGE_DEFAULT: usize = 100;
/// Connectors of a configuration: each holds credits, lanes and limits.
pub const CONNECTORS_MAX: usize = 256;
/// Threads that render and send.
pub const LANE_THREADS_MAX: usize = 256;
/// Longest time that a setting in seconds can name: an hour.
pub const CONFIG_SECONDS_MAX: u64 = 3_600;
/// Longest time that a setting in days can name: ten years.
pub const CONFIG_DAYS_MAX: u64 = 3_650;
/// Days that tracked links work at least; RFC 8058 asks for a working unsubscribe, bulk-mail rules for 60 days.
pub const TRACKING_DAYS_MIN: u64 = 60;
/// Bytes of the public URL: it stands in front of every token and must leave room in a quoted-printable line.
pub const PUBLIC_URL_BYTES_MAX: usize = 256;
/// Most that `upload_bytes_max` can be set to.
pub const UPLOAD_BYTES_CEILING: u64 = 1 << 40;
/// Characters of a key that a person chooses.
pub const KEY_SECRET_BYTES_MIN: usize = 16;
/// Characters of a key; more is refused before it is hashed.
pub const KEY_SECRET_BYTES_MAX: usize = 512;
/// Uploads that may be received at the same time.
pub const UPLOADS_MAX: usize = 8;
/// A stalled upload is given up after this.
pub const UPLOAD_IDLE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a refused upload that are read and thrown away, so that its sender sees why.
pub const REFUSED_UPLOAD_BYTES: usize = 64 * 1024 * 1024;

// One-shot audiences: CSV files that are sent to and never become contacts.

/// Bytes of a one-shot file, unless the configuration says otherwise: what senders know from elsewhere.
pub const ONE_SHOT_BYTES_DEFAULT: u64 = 20_000_000;
/// Bytes that the configuration may allow: with the shortest rows their store then takes some 8 GB, half of its map.
pub const ONE_SHOT_BYTES_CEILING: u64 = 200_000_000;
/// Address space of the store of one upload, bytes.
pub const ONE_SHOT_MAP_BYTES: usize = 16 * 1024 * 1024 * 1024;
/// Uploads that are kept at a time: each that is used holds two open files.
pub const ONE_SHOT_UPLOADS_MAX: usize = 200;
/// Days that an upload is kept after it was needed last, unless the configuration says otherwise.
pub const ONE_SHOT_RETENTION_DAYS_DEFAULT: u64 = 30;
/// How often uploads are looked for that are needed no longer.
pub const ONE_SHOT_SWEEP_PERIOD: Duration = Duration::from_secs(3_600);
/// How long an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Idempotency keys that are remembered; the oldest go first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000;
/// Bytes of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Bytes of an answer that is kept for its `Idempotency-Key`.
pub const IDEMPOTENCY_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Entries of one request that names contacts or suppressions.
pub const REQUEST_ENTRIES_MAX: usize = 100_000;
/// Seed addresses of one test send.
pub const TEST_SEND_MAX: usize = 100;
/// Requests that one listener serves at a time.
pub const HTTP_CONNECTIONS_MAX: usize = 10_000;
/// Time for a client to send the head of a request.
pub const HTTP_HEAD_MAX: Duration = Duration::from_secs(10);
/// An idle HTTP connection is closed after this.
pub const HTTP_KEEP_ALIVE: Duration = Duration::from_secs(60);
/// What a shutdown leaves answers under way, also when the engine's end took all its time.
pub const HTTP_CLOSE_MIN: Duration = Duration::from_secs(1);

// --- tracking -------------------------------------------------------------------------------------------------

/// Bytes of a token in a URL; more is refused before it is looked at.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Bytes of the body of an unsubscribe request.
pub const UNSUBSCRIBE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Networks in one list of the configuration: each request is held against them one after the other.
pub const CONFIG_NETWORKS_MAX: usize = 1_000;
/// Distinct links of one mail within [`BURST_WINDOW`] that only a machine follows.
pub const BURST_LINKS: usize = 3;
/// Opens or clicks of one contact beyond its first one that are told apart, so that those of a machine can be taken back one by one.
pub const REPEATS_MAX: usize = 8;
/// See [`BURST_LINKS`].
pub const BURST_WINDOW: Duration = Duration::from_secs(2);
/// A click this soon after the provider took the mail is a scanner's: nobody has received it yet.
pub const CLICK_TOO_SOON: Duration = Duration::from_secs(2);
/// Contacts on whose behalf one address or agent may act within [`SHARED_WINDOW`] before it is suspect: an office or a
/// mobile carrier behind one address stays well below in a minute.
pub const SHARED_CONTACTS: usize = 50;
/// See [`SHARED_CONTACTS`].
pub const SHARED_WINDOW: Duration = Duration::from_secs(60);
/// Contacts and addresses whose recent events are remembered for the machine rules; the oldest go first.
pub const RECENT_MAX: usize = 65_536;
/// Opens and clicks that wait for the journal at a time; beyond it the endpoint answers without counting.
pub const TRACKING_WAITING_MAX: usize = 16_384;
