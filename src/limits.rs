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
