//! The rows of the catalogue: one static a series, and the list of all. Owns no state.

use super::{Kind, Metric, Source};

/// From a hundred microseconds to ten seconds.
const SHORT: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From five milliseconds to five minutes.
const LONG: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Of round trips to a provider: the buckets in which a line counts them.
pub const ROUND_TRIP_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Of an `fdatasync`: the buckets in which the journal counts them, there in microseconds.
pub const FSYNC_BUCKETS: [f64; 12] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0];
/// Of the frames of a group commit.
pub const COMMIT_BUCKETS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0];
/// Powers of four.
const COUNTS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help, buckets: &[], source: Source::Recorder }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help, buckets: &[], source: Source::Recorder }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help, buckets, source: Source::Recorder }
}

const fn live_counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { source: Source::Live, ..counter(name, labels, help) }
}

const fn live_gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { source: Source::Live, ..gauge(name, labels, help) }
}

const fn live_histogram(
    name: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    help: &'static str,
) -> Metric {
    Metric { source: Source::Live, ..histogram(name, labels, buckets, help) }
}

const fn campaign(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { source: Source::Campaign, ..gauge(name, labels, help) }
}

macro_rules! catalogue {
    ($($id:ident = $metric:expr;)*) => {
        $(pub static $id: Metric = $metric;)*
        /// Every series, in reading order.
        pub static CATALOGUE: &[&Metric] = &[$(&$id,)*];
    };
}

catalogue! {
    // messages and connectors
    MESSAGES_TOTAL = counter("estafette_messages_total", &["connector", "outcome"],
        "Messages by outcome: accepted, rejected, deferred, unknown, returned.");
    REJECTIONS_TOTAL = counter("estafette_rejections_total", &["connector", "class"],
        "Rejected messages by class: hard_bounce, soft_bounce, policy, too_large, protocol, retry_deadline, other.");
    REFUSALS_TOTAL = live_counter("estafette_refusals_total", &["connector", "reply", "about"],
        "Replies to messages other than success, by class (4xx, 5xx, none) and by the subject of their enhanced code.");
    ROUND_TRIP_SECONDS = live_histogram("estafette_round_trip_seconds", &["connector"], &ROUND_TRIP_BUCKETS,
        "Time from the mark of a message to the provider's answer.");
    MESSAGE_BYTES_TOTAL = live_counter("estafette_message_bytes_total", &["connector"],
        "Bytes of messages that were handed over.");
    CONNECTIONS = live_gauge("estafette_connections", &["connector"],
        "Open connections (lanes with a session).");
    CONNECTIONS_LIMIT = live_gauge("estafette_connections_limit", &["connector"],
        "Connections that are wanted now: fewer after the provider asked for fewer, none while nothing is to be sent.");
    CONNECTIONS_MAX = live_gauge("estafette_connections_max", &["connector"],
        "The most connections that the configuration allows.");
    CONNECTION_FAILURES_TOTAL = live_counter("estafette_connection_failures_total", &["connector"],
        "Connections that failed before they were ready for messages.");
    CIRCUIT_OPEN = live_gauge("estafette_circuit_open", &["connector"],
        "1 while the connector is not used, or only tried, because the provider can't be reached or refused the sender.");
    THROTTLED_TOTAL = live_counter("estafette_throttled_total", &["connector"],
        "Times that a provider asked to slow down.");
    LIMIT_MESSAGES_PER_SECOND = live_gauge("estafette_limit_messages_per_second", &["connector"],
        "Rate limit in force; absent if there is none.");
    LIMIT_WAIT_SECONDS_TOTAL = live_counter("estafette_limit_wait_seconds_total", &["connector"],
        "Time that lanes waited for a permit with messages to send, summed over lanes.");
    WAITING_CONTACTS = live_gauge("estafette_waiting_contacts", &["connector"],
        "Rows that may be claimed now and wait for a grant of the connector.");
    CREDITS_USED = live_gauge("estafette_credits_used", &["connector"],
        "Rows claimed and not durably ended: what a power loss can leave unknown.");
    CREDITS_LIMIT = live_gauge("estafette_credits_limit", &["connector"],
        "The most that credits_used can be.");
    // batches
    BATCH_CLAIM_SECONDS = histogram("estafette_batch_claim_seconds", &["connector"], SHORT,
        "Time from the grant of a batch to its durable claim.");
    BATCH_SEND_SECONDS = histogram("estafette_batch_send_seconds", &["connector"], LONG,
        "Time from the claim of a batch to its last outcome.");
    BATCH_CONTACTS = histogram("estafette_batch_contacts", &["connector"], COUNTS,
        "Rows of a claimed batch.");
    CLAIMS_RETURNED_TOTAL = counter("estafette_claims_returned_total", &["reason"],
        "Claimed rows that were taken back before a hand-over: timeout, pause, stop, drain, slowed, late, recovery.");
    RENDER_SKIPS_TOTAL = counter("estafette_render_skips_total", &["reason"],
        "Rows skipped at release or render: the reasons of the ledger.");
    // journal
    JOURNAL_FSYNC_SECONDS = live_histogram("estafette_journal_fsync_seconds", &[], &FSYNC_BUCKETS,
        "Duration of an fdatasync of the journal.");
    JOURNAL_COMMIT_FRAMES = live_histogram("estafette_journal_commit_frames", &[], &COMMIT_BUCKETS,
        "Frames that one group commit made durable.");
    JOURNAL_FRAMES_TOTAL = counter("estafette_journal_frames_total", &["kind"],
        "Facts handed to the journal, by kind.");
    JOURNAL_BYTES_TOTAL = live_counter("estafette_journal_bytes_total", &[],
        "Bytes written to the journal.");
    JOURNAL_SEGMENTS = live_gauge("estafette_journal_segments", &[],
        "Segments on disk.");
    JOURNAL_WAITING = live_gauge("estafette_journal_waiting", &[],
        "Submissions that wait for the journal thread.");
    JOURNAL_WAITING_LIMIT = live_gauge("estafette_journal_waiting_limit", &[],
        "The most that journal_waiting can be.");
    JOURNAL_FAILED = live_gauge("estafette_journal_failed", &[],
        "1 once a write or fsync failed; the process ends.");
    DETAILS_REMOVED_TOTAL = counter("estafette_details_removed_total", &[],
        "Runs whose details were removed because their retention has passed.");
    DETAILS_REMOVED_BYTES_TOTAL = counter("estafette_details_removed_bytes_total", &[],
        "Bytes of sets, as a snapshot stores them, that removed details have given back.");
    SNAPSHOT_AGE_SECONDS = live_gauge("estafette_snapshot_age_seconds", &[],
        "Time since the newest snapshot was written; absent before the first.");
    SNAPSHOT_SECONDS = histogram("estafette_snapshot_seconds", &[], LONG,
        "Time to write a snapshot.");
    RECOVERY_SECONDS = live_gauge("estafette_recovery_seconds", &[],
        "Time that recovery took at this start.");
    RECOVERED_UNKNOWN_CONTACTS = live_gauge("estafette_recovered_unknown_contacts", &[],
        "Rows that recovery had to leave unknown at this start.");
    DISK_FREE_BYTES = live_gauge("estafette_disk_free_bytes", &[],
        "Free space on the data directory's file system.");
    DISK_SIZE_BYTES = live_gauge("estafette_disk_size_bytes", &[],
        "Size of the data directory's file system.");
    STORAGE_BYTES = live_gauge("estafette_storage_bytes", &["part"],
        "Bytes that parts of the data directory take on disk: journal, contacts, audiences, other.");
    DISK_FULL = live_gauge("estafette_disk_full", &[],
        "1 while campaigns are paused because the disk is full.");
    BACKUP_SUCCESS_TIMESTAMP_SECONDS = live_gauge("estafette_backup_success_timestamp_seconds", &[],
        "When this process made its last backup, Unix time; 0 if it made none.");
    JOURNAL_STALLED_SECONDS = live_gauge("estafette_journal_stalled_seconds", &[],
        "How long the journal has made nothing durable though something waits.");
    // actors
    ACTOR_REFUSALS_TOTAL = counter("estafette_actor_refusals_total", &["actor"],
        "Messages that a full mailbox refused; the sender tries again.");
    // contacts
    CONTACTS = live_gauge("estafette_contacts", &[],
        "Contacts in the base.");
    IMPORTS_RUNNING = live_gauge("estafette_imports_running", &[],
        "Imports under way.");
    IMPORT_ROWS_TOTAL = counter("estafette_import_rows_total", &["result"],
        "Imported rows: accepted, merged, rejected.");
    IMPORT_CHUNK_SECONDS = histogram("estafette_import_chunk_seconds", &[], LONG,
        "Time to parse and commit one chunk of an import.");
    SEGMENT_EVALUATION_SECONDS = histogram("estafette_segment_evaluation_seconds", &[], SHORT,
        "Time to evaluate a segment expression.");
    INDEX_CACHE_BYTES = live_gauge("estafette_index_cache_bytes", &[],
        "Decoded index bitmaps in memory.");
    // tracking
    TRACKING_EVENTS_TOTAL = counter("estafette_tracking_events_total", &["event", "class"],
        "Opens and clicks by class: human, suspect, machine.");
    TRACKING_MACHINE_TOTAL = counter("estafette_tracking_machine_total", &["rule"],
        "Events that a machine rule set apart, by rule.");
    TRACKING_REFUSED_TOTAL = counter("estafette_tracking_refused_total", &["endpoint"],
        "Requests with a token that is damaged, foreign or expired.");
    TRACKING_DROPPED_TOTAL = counter("estafette_tracking_dropped_total", &["event"],
        "Opens and clicks that were answered and could not be recorded because the engine was full.");
    UNSUBSCRIBES_TOTAL = counter("estafette_unsubscribes_total", &["via"],
        "Unsubscribe requests: one_click, page.");
    UNSUBSCRIBE_SECONDS = histogram("estafette_unsubscribe_seconds", &[], SHORT,
        "Time from an unsubscribe request to its answer, which is after it is durable and in force.");
    // what comes back
    EVENTS_TOTAL = counter("estafette_events_total", &["type", "result"],
        "Events by type (delivered, bounced, complained, converted, custom) and result: accepted, duplicate, refused.");
    BOUNCES_TOTAL = counter("estafette_bounces_total", &["class"],
        "Bounces that came back after the hand-over, by class: hard, soft, policy.");
    COMPLAINTS_TOTAL = counter("estafette_complaints_total", &[],
        "Complaints that came back.");
    EVENT_SUPPRESSIONS_TOTAL = counter("estafette_event_suppressions_total", &["reason"],
        "Addresses (of complaints: contacts too) suppressed by what came back: hard_bounce, soft_bounces, complaint.");
    AUTO_PAUSES_TOTAL = counter("estafette_auto_pauses_total", &["cause"],
        "Runs that paused by themselves: hard_bounces, complaints.");
    // HTTP
    HTTP_REQUESTS_TOTAL = counter("estafette_http_requests_total", &["listener", "route", "method", "code"],
        "HTTP requests by route pattern and status class.");
    HTTP_REQUEST_SECONDS = histogram("estafette_http_request_seconds", &["listener"], SHORT,
        "Time to answer an HTTP request.");
    // process
    BUILD = live_gauge("estafette_build", &["version"],
        "1, with the version as label.");
    UPTIME_SECONDS = live_gauge("estafette_uptime_seconds", &[],
        "Time since the start of the process.");
    OPEN_FILES = live_gauge("estafette_open_files", &[],
        "Open files and sockets.");
    OPEN_FILES_LIMIT = live_gauge("estafette_open_files_limit", &[],
        "The most that open_files can be.");
    THREADS = live_gauge("estafette_threads", &[],
        "Threads of the process.");
    RESIDENT_MEMORY_BYTES = live_gauge("estafette_resident_memory_bytes", &["kind"],
        "Resident memory: anonymous, shared, file (the contact store's pages).");
    CPU_SECONDS_TOTAL = live_counter("estafette_cpu_seconds_total", &[],
        "CPU time of the process, user and system.");
    // schedules
    SCHEDULED_CAMPAIGNS = live_gauge("estafette_scheduled_campaigns", &[],
        "Campaigns with a launch ahead.");
    SCHEDULE_LATENESS_SECONDS = live_gauge("estafette_schedule_lateness_seconds", &[],
        "How long the launch that waits longest is past its effective start; 0 if none is.");
    LAUNCHES_TOTAL = counter("estafette_launches_total", &["outcome"],
        "Launches of schedules: made, too_late, overtaken.");
    RUNS = live_gauge("estafette_runs", &["state"],
        "Runs that are not over, by state: scheduled, running, paused, stopping.");
    // running campaigns
    CAMPAIGN_STATE = campaign("estafette_campaign_state", &["campaign", "state"],
        "1 with the state of the latest run: scheduled, running, paused, stopping, stopped, finished.");
    CAMPAIGN_CONTACTS = campaign("estafette_campaign_contacts", &["campaign", "set"],
        "The ledger: contacts in each disjoint set of the latest run.");
    CAMPAIGN_AUDIENCE_CONTACTS = campaign("estafette_campaign_audience_contacts", &["campaign"],
        "The audience, which the ledger's sets add up to.");
    CAMPAIGN_REJECTED_CONTACTS = campaign("estafette_campaign_rejected_contacts", &["campaign", "class"],
        "Rejected contacts by class.");
    CAMPAIGN_SKIPPED_CONTACTS = campaign("estafette_campaign_skipped_contacts", &["campaign", "reason"],
        "Skipped contacts by reason.");
    CAMPAIGN_MESSAGES_PER_SECOND = campaign("estafette_campaign_messages_per_second", &["campaign"],
        "Messages settled per second, over the last seconds.");
    CAMPAIGN_ETA_SECONDS = campaign("estafette_campaign_eta_seconds", &["campaign"],
        "Time until the run is finished at this rate; absent if it cannot be said.");
    CAMPAIGN_WINDOW_LEFT_SECONDS = campaign("estafette_campaign_window_left_seconds", &["campaign"],
        "Time until send_until, after which nothing is sent any more; absent without one, or when the run is over.");
    CAMPAIGN_STALLED = campaign("estafette_campaign_stalled", &["campaign", "reason"],
        "1 with the reason for which the campaign is slower than it could be.");
    CAMPAIGN_UNIQUE_CONTACTS = campaign("estafette_campaign_unique_contacts", &["campaign", "event"],
        "Contacts that opened, clicked, unsubscribed; people only.");
    CAMPAIGN_EVENTS = campaign("estafette_campaign_events", &["campaign", "event", "class"],
        "Opens and clicks of the latest run by class: human, suspect, machine.");
    CAMPAIGN_MESSAGE_CONTACTS = campaign("estafette_campaign_message_contacts",
        &["campaign", "message", "variant", "set"], "Contacts of a message: assigned to it, and accepted.");
    CAMPAIGN_MESSAGE_UNIQUE_CONTACTS = campaign("estafette_campaign_message_unique_contacts",
        &["campaign", "message", "variant", "event", "class"],
        "Contacts by what they did with a message, each by its best class: human, suspect, machine.");
    CAMPAIGN_MESSAGE_EVENTS = campaign("estafette_campaign_message_events",
        &["campaign", "message", "variant", "event", "class"],
        "Opens and clicks of a message, repeated ones included.");
    CAMPAIGN_LINK_CONTACTS = campaign("estafette_campaign_link_contacts", &["campaign", "message", "variant", "place"],
        "People who clicked a link of a message, by the link's place in it, from 0.");
    CAMPAIGN_TEST_CONTACTS = campaign("estafette_campaign_test_contacts", &["campaign", "node", "variant", "set"],
        "The counters that decide a test: contacts of the sample accepted, matured, bounced, delivered, with events within their window.");
    CAMPAIGN_TEST_STATE = campaign("estafette_campaign_test_state", &["campaign", "node", "state"],
        "1 with the state of the test: testing, waits_for_person, decided; undecided: the run ended without a decision.");
    CAMPAIGN_TEST_LOOK = campaign("estafette_campaign_test_look", &["campaign", "node"],
        "Planned looks that were made.");
    CAMPAIGN_TEST_P = campaign("estafette_campaign_test_p", &["campaign", "node"],
        "At the last look: p of the leader against the variant it is least clearly ahead of, adjusted over all pairs.");
    CAMPAIGN_TEST_EFFECT = campaign("estafette_campaign_test_effect_ratio", &["campaign", "node"],
        "At the last look: rate of the leader minus that of the variant it is least clearly ahead of.");
    CAMPAIGN_TEST_WINNER = campaign("estafette_campaign_test_winner", &["campaign", "node", "variant"],
        "1 with the variant that the rest gets.");
    CAMPAIGN_NODE_CONTACTS = campaign("estafette_campaign_node_contacts", &["campaign", "node"],
        "Contacts at a node of the flow.");
    CAMPAIGN_NODE_MOVED_CONTACTS = campaign("estafette_campaign_node_moved_contacts", &["campaign", "node"],
        "Contacts that left a node of the flow.");
    CAMPAIGN_WAITING_CONTACTS = campaign("estafette_campaign_waiting_contacts", &["campaign"],
        "Contacts that wait in the flow for a time, an event or a winner.");
}
