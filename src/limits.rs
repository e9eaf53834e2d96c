//! Every bound of the engine, with its unit and its reason (promise 7: nothing unbounded).
//!
//! Owns no state. Relations between bounds are asserted at compile time at the end of the file. Bounds that a
//! sender may change are defaults of `config`; these are the ceilings and the fixed sizes.

use std::time::Duration;

// --- claims, batches, credits ---------------------------------------------------------------------------------

/// Rows in one batch: large enough that claim, fsync and settle cost nothing per message, small enough that a pause
/// takes effect within one.
pub const BATCH_CONTACTS_MAX: usize = 1_000;
/// Claimed and not durably ended rows of one connector, in batches: what a power loss can leave unknown.
pub const CREDITS_BATCHES_DEFAULT: usize = 8;
/// Batches claimed ahead of the lanes on an unlimited connector; fewer let lanes wait for a commit.
pub const BATCHES_AHEAD: usize = 4;
/// How far ahead of a limit claims may run, so that a throttled scope holds back nobody else.
pub const CLAIM_AHEAD: Duration = Duration::from_secs(1);
/// A claimed row that no lane has marked for this long is taken back.
pub const CLAIM_MAX: Duration = Duration::from_secs(5);
/// How long a lane may hold an open DATA for a permit before it closes the connection (the relay's patience).
pub const DATA_HOLD_MAX: Duration = Duration::from_secs(2);
/// In at-least-once mode, sends of one row that ended unknown before unknown is final.
pub const UNKNOWN_ATTEMPTS_MAX: u32 = 3;
/// Rows that a lane takes from a batch at a time: one read transaction serves them.
pub const LANE_CHUNK_ROWS: usize = 20;

// --- journal --------------------------------------------------------------------------------------------------

/// Idle time after which written frames are made durable though nobody waits for them.
pub const COMMIT_IDLE: Duration = Duration::from_millis(50);
/// Size of a preallocated journal segment, bytes.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Payload of one journal frame, bytes: a run start over 10 M rows as bitmaps is some 2 MB; the rest is headroom.
pub const FRAME_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Submissions that may wait for the journal thread; a submitter blocks beyond it.
pub const JOURNAL_QUEUE_MAX: usize = 4_096;

// --- contacts, import -----------------------------------------------------------------------------------------

/// Bytes of a contact key.
pub const KEY_BYTES_MAX: usize = 255;
/// Bytes of one text value.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Entries of one list value.
pub const LIST_ENTRIES_MAX: usize = 256;
/// Attributes of a schema, built-in ones included.
pub const ATTRIBUTES_MAX: usize = 1_024;
/// Bytes of one CSV record: a quote that is never closed ends here and not at the end of the file.
pub const CSV_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Columns of a CSV file.
pub const CSV_COLUMNS_MAX: usize = 1_000;
/// Rows that an import commits at a time.
pub const IMPORT_CHUNK_ROWS: usize = 50_000;
/// Bytes of decoded bitmaps that the index cache may hold.
pub const INDEX_CACHE_BYTES: usize = 64 * 1024 * 1024;

// --- segments -------------------------------------------------------------------------------------------------

/// Nesting depth of a segment expression, parentheses and `in segment` included.
pub const SEGMENT_DEPTH_MAX: usize = 64;
/// Bytes of a segment expression.
pub const SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// Nodes of a parsed segment expression.
pub const SEGMENT_NODES_MAX: usize = 10_000;

// --- content --------------------------------------------------------------------------------------------------

/// Bytes of the sources of one message (subject, HTML, text) together.
pub const MESSAGE_SOURCE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of one rendered message, attachments included.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes that the variable parts of one message may render to, before encoding.
pub const RENDER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// minijinja fuel per render: some instructions per byte of a large mail; an endless loop ends in milliseconds.
pub const TEMPLATE_FUEL: u64 = 200_000;
/// Tracked links of one message.
pub const LINKS_MAX: usize = 1_000;
/// Bytes of one URL.
pub const URL_BYTES_MAX: usize = 1_024;

// --- channels -------------------------------------------------------------------------------------------------

/// Connections of one connector.
pub const CONNECTIONS_MAX: usize = 1_000;
/// Bytes of one SMTP reply line that are kept; RFC 5321 4.5.3.1.5 allows 512.
pub const SMTP_REPLY_LINE_BYTES_MAX: usize = 2_048;
/// Lines of one SMTP reply that are read before the connection is given up.
pub const SMTP_REPLY_LINES_MAX: usize = 128;
/// Bytes of reply text that are kept in reports.
pub const REPLY_SAMPLE_BYTES: usize = 200;
/// Messages per window that a limit can name; beyond it a limit is none.
pub const RATE_MESSAGES_MAX: u32 = 10_000_000;
/// Rate up to which a limit is paced by even spacing; above it timers are too coarse and small bursts are allowed.
pub const PACED_PER_SECOND_MAX: u32 = 200;
/// Destination domains of one connector with a limit of their own: each is a bitmap and a queue.
pub const LIMIT_CLASSES_MAX: usize = 256;
/// Batches of credits that a connector can be given: 64 is 64 000 rows that a power loss may leave unknown.
pub const CREDITS_BATCHES_MAX: usize = 64;
/// Entries of a retry schedule.
pub const RETRY_STEPS_MAX: usize = 32;
/// Longest wait between two attempts, whoever asks for it.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Latest retry deadline; RFC 5321 4.5.4.1 gives up after 4 to 5 days.
pub const RETRY_DEADLINE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Longest time-out of one SMTP step that can be configured.
pub const SMTP_TIMEOUT_MAX: Duration = Duration::from_secs(1_800);
/// An unused grant is void after this: the campaign paused or its rows went elsewhere.
pub const GRANT_UNUSED_MAX: Duration = Duration::from_secs(1);
/// Rows that a fair share is rounded up to: smaller batches cost more in journal frames than they gain in latency.
pub const GRANT_SHARE_MIN: usize = 100;
/// Messages of one BDAT window: what is unknown per connection if it breaks after the write.
pub const BDAT_WINDOW_MESSAGES: usize = 4;
/// Longest pause of a lane between two attempts to connect.
pub const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(60);
/// First pause of a lane after a failed connection; doubles up to the longest.
pub const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(200);
/// A provider's slow-down never takes a rate below this, messages per second.
pub const SLOWED_PER_SECOND_MIN: f64 = 0.1;
/// Whole mails that the embedded inbox keeps unless told otherwise.
pub const INBOX_MAILS_DEFAULT: usize = 2_000;
/// Whole mails that the embedded inbox can be told to keep.
pub const INBOX_MAILS_MAX: usize = 100_000;
/// Bytes of all mails in the embedded inbox together.
pub const INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Connections that the embedded inbox serves at a time.
pub const INBOX_CONNECTIONS_MAX: usize = 1_024;

// --- runs, reports --------------------------------------------------------------------------------------------

/// Samples of reply texts and render errors kept per run and class.
pub const SAMPLES_PER_CLASS: usize = 10;
/// Running campaigns whose series are rendered at a scrape.
pub const METRIC_CAMPAIGNS_MAX: usize = 200;
/// Capacity of an actor's mailbox, messages. Answers come in groups, so this holds more than all outstanding batches.
pub const MAILBOX_MESSAGES: usize = 4_096;

// --- API ------------------------------------------------------------------------------------------------------

/// Bytes of a JSON or TOML request body.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
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
/// Days that the rows of a one-shot audience are kept at least, so that an unsubscribe link works.
pub const ONE_SHOT_DAYS_MIN: u64 = 60;
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
/// Contacts that a segment preview shows.
pub const PREVIEW_SAMPLE_MAX: usize = 100;
/// Seed addresses of one test send.
pub const TEST_SEND_MAX: usize = 100;
/// Requests that one listener serves at a time.
pub const HTTP_CONNECTIONS_MAX: usize = 10_000;
/// Time for a client to send the head of a request.
pub const HTTP_HEAD_MAX: Duration = Duration::from_secs(10);
/// An idle HTTP connection is closed after this.
pub const HTTP_KEEP_ALIVE: Duration = Duration::from_secs(60);

// --- tracking -------------------------------------------------------------------------------------------------

/// Bytes of a token in a URL; more is refused before it is looked at.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Bytes of the body of an unsubscribe request.
pub const UNSUBSCRIBE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Distinct links of one mail within [`BURST_WINDOW`] that only a machine follows.
pub const BURST_LINKS: usize = 3;
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

const _: () = assert!(
    CLAIM_AHEAD.as_millis() < CLAIM_MAX.as_millis(),
    "a paced claim must be marked before it is taken back"
);
const _: () = assert!(
    BATCHES_AHEAD < CREDITS_BATCHES_DEFAULT,
    "credits must outlast what is claimed ahead"
);
const _: () = assert!(
    (FRAME_BYTES_MAX as u64) < SEGMENT_BYTES,
    "a frame must fit in a segment"
);
