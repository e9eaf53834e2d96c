//! Every bound of the engine, with its unit and its reason (promise 7: nothing unbounded).
//!
//! Owns no state. Relations between bounds are asserted at compile time at the end of the file. Bounds that a
//! sender may change are defaults of `config`; these are the ceilings and the fixed sizes.

mod events;
mod http;
mod operations;
mod specs;

use std::time::Duration;

pub use events::*;
pub use http::*;
pub use operations::*;
pub use specs::*;

// --- claims, batches, credits ---------------------------------------------------------------------------------

/// Rows in one batch: large enough that claim, fsync and settle cost nothing per message, small enough that a pause
/// takes effect within one.
pub const BATCH_CONTACTS_MAX: usize = 1_000;
/// Claimed and not durably ended rows of one connector, in batches: what a power loss can leave unknown.
pub const CREDITS_BATCHES_DEFAULT: usize = 8;
/// Batches claimed ahead of the lanes on an unlimited connector; fewer let lanes wait for a commit.
pub const BATCHES_AHEAD: usize = 4;
/// Waiting rows below which lanes ask for more: one batch fewer than may be ahead.
pub const SHORTAGE_ROWS: usize = (BATCHES_AHEAD - 1) * BATCH_CONTACTS_MAX;
/// They ask again each so many rows further down: rows that lanes have in hand count as ahead, too, so that the first asking may
/// find no room.
pub const SHORTAGE_STEP_ROWS: usize = BATCH_CONTACTS_MAX / 4;
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
/// Bytes of messages that a lane thread renders ahead for a connector: a chunk of ordinary mails. Larger ones are rendered when
/// a lane pulls them.
pub const RENDER_AHEAD_BYTES: usize = 512 * 1024;
/// Messages up to this lie in a lane as what is their own, and are put together when they are written; for each part of one
/// that the peer takes at a time, again.
pub const SHARED_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Fewest outcomes of one batch that a lane thread gathers before it reports them without waiting for the timer. It is its part of a
/// batch that all threads share, which a whole batch would never come to; each report costs a fact.
pub const OUTCOMES_PER_REPORT_MIN: usize = 100;
/// How long outcomes wait for company, and how often an idle thread looks. They are in the mark file meanwhile; each report
/// costs a fact and four threads' attention.
pub const OUTCOME_FLUSH: Duration = Duration::from_millis(20);
/// How often a lane thread without outcomes looks for them.
pub const OUTCOME_FLUSH_IDLE: Duration = Duration::from_millis(50);
/// Longest sleep of a waiting lane: a neighbour may have put a row back without a notice.
pub const LANE_LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How soon a lane that found every permit promised looks again, at the soonest: shorter than the least lead.
pub const ENVELOPE_LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long before its permit an envelope is opened, beside what opening one takes: a permit that waits for a round trip is lost,
/// because no window may have one more later.
pub const ENVELOPE_LEAD_MIN: Duration = Duration::from_millis(4);
/// Longest lead: a pause costs every open envelope its connection.
pub const ENVELOPE_LEAD_MAX: Duration = Duration::from_millis(250);
/// An envelope whose mark was not asked for in this time has no permit kept for it any more: well above the longest lead.
pub const ENVELOPE_COUNTED_MAX: Duration = Duration::from_secs(1);
/// Lanes that wait to be opened on one thread.
pub const LANE_COMMANDS_MAX: usize = CONNECTIONS_MAX;
/// How often actors look at what no message told them: expired claims, due deferrals, finished runs.
pub const ACTOR_TICK: Duration = Duration::from_millis(100);
/// A connector without demand keeps its connections for this long.
pub const LANES_IDLE: Duration = Duration::from_secs(10);

/// Mark-file positions per credit: a position is free only when its whole batch is, a credit when its row is.
pub const POSITIONS_PER_CREDIT: u64 = 2;
/// Domains of one connector with limits of their own.
pub const EMAIL_DOMAIN_CLASSES_MAX: usize = 256;

// --- journal --------------------------------------------------------------------------------------------------

/// Idle time after which written frames are made durable though nobody waits for them.
pub const COMMIT_IDLE: Duration = Duration::from_millis(50);
/// Size of a preallocated journal segment, bytes.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Payload of one journal frame, bytes: a run start over 10 M rows as bitmaps is some 2 MB; the rest is headroom.
pub const FRAME_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Submissions that may wait for the journal thread; a submitter blocks beyond it.
pub const JOURNAL_QUEUE_MAX: usize = 4_096;
/// Bytes after which the journal thread writes what it has collected, though more is queued: bounds its buffer and the
/// time that a `written` waits.
pub const JOURNAL_WRITE_BYTES: usize = 4 * 1024 * 1024;
/// Written frames with somebody waiting for their durability; the journal syncs at this many, whoever is in a hurry.
pub const JOURNAL_UNSYNCED_MAX: usize = 65_536;
/// Size of a journal segment that is still read, bytes; a file beyond it was not written by us.
pub const JOURNAL_SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Positions of the mark file, bytes: the sum of all credits, with room for 1 000 connectors of the default.
pub const MARK_POSITIONS_MAX: u32 = 8_000_000;
/// How often a journal without space tries again.
pub const NO_SPACE_RETRY: Duration = Duration::from_millis(500);

/// Journal bytes after which a snapshot is made: recovery folds no more than this.
pub const SNAPSHOT_AFTER_BYTES: u64 = 128 * 1024 * 1024;
/// Free bytes under the data directory below which nothing new is claimed: enough to settle all that is claimed.
pub const DISK_FLOOR_BYTES: u64 = 16 * 1024 * 1024;
/// How often the committer looks at the journal.
pub const COMMITTER_TICK: Duration = Duration::from_millis(500);
/// How long it is remembered when a row was accepted, to tell a scanner's click from a reader's.
pub const RECENT_ACCEPTED: Duration = Duration::from_secs(5);
/// Reports of a run within this share one set.
pub const RECENT_ACCEPTED_STEP: Duration = Duration::from_millis(100);
/// Sets of accepted rows that are remembered for that.
pub const RECENT_REPORTS_MAX: usize = 8_192;
/// Messages whose table of links is kept compiled.
pub const TRACKED_MESSAGES_MAX: usize = 256;
/// Seed addresses of one test send.
pub const TEST_ADDRESSES_MAX: usize = 100;
/// Longest wait for the answer to a test send.
pub const TEST_SEND_WAIT: Duration = Duration::from_secs(60);
/// How often the progress of live runs is measured.
pub const PULSE_TICK: Duration = Duration::from_millis(250);
/// Longest wait of a pause or stop for the answers of what is on the wire.
pub const ACT_WAIT: Duration = Duration::from_secs(5);
/// Tracking events that may wait for their group.
pub const TRACKED_EVENTS_MAX: usize = 20_000;
/// How long a tracking event waits for company before its fact is written.
pub const TRACK_GROUP: Duration = Duration::from_millis(2);
/// So many need no more: waiting on would leave processors idle that have answers to give.
pub const TRACK_GROUP_EVENTS: usize = 64;

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
/// Address space that a contact store reserves, bytes: neither memory nor disk; some 500 M contacts.
pub const STORE_MAP_BYTES: usize = 256 * 1024 * 1024 * 1024;
/// Read transactions of a contact store at a time: one per lane, the API's and the evaluator's.
pub const STORE_READERS_MAX: u32 = 2_048;
/// Bytes of CSV after which a chunk ends early, so that long records do not make a chunk large.
pub const IMPORT_CHUNK_BYTES: usize = 32 * 1024 * 1024;
/// Records that are read to tell the type of a new column.
pub const IMPORT_INFER_ROWS: usize = 10_000;
/// Bytes that are read to tell the type of a new column.
pub const IMPORT_INFER_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a rejected record that are kept in the file of rejected rows.
pub const REJECTED_RECORD_BYTES_MAX: usize = 8 * 1024;
/// Rejected rows that a dry run shows.
pub const IMPORT_SAMPLES: usize = 20;
/// Imports that wait for their turn: each holds an upload on the disk.
pub const IMPORTS_WAITING_MAX: usize = 100;
/// Reports of imports that are kept; the oldest go, with their rejected rows.
pub const IMPORT_REPORTS_MAX: usize = 1_000;
/// Reasons of rejected rows that a report counts apart.
pub const IMPORT_REASONS_MAX: usize = 50;
/// How often reports and rejected rows of imports that are kept no longer are looked for.
pub const IMPORT_EXPIRY_PERIOD: Duration = Duration::from_secs(3_600);
/// How often an import without disk space tries again.
pub const IMPORT_SPACE_RETRY: Duration = Duration::from_secs(5);
/// Rows that the parser of an import reads before it looks whether it shall stop: some milliseconds at the slowest.
pub const IMPORT_STOP_ROWS: u64 = 200;
/// How long an import waits for its parser before it looks whether it shall stop.
pub const IMPORT_STOP_LOOK: Duration = Duration::from_millis(50);
/// Compiled patterns (some 20 kB each) that the phone number library keeps for numbers that need its parser: what a dozen
/// countries need, or the code +1 alone.
pub const PHONE_PATTERNS_MAX: usize = 500;
/// Opt-outs that may wait to enter their contacts' histories, some 20 MB; those beyond enter at the next start.
pub const HISTORY_WAITING_MAX: usize = 100_000;
/// Opt-outs that enter their histories in one transaction of the store.
pub const HISTORY_GROUP: usize = 500;
/// How often consents that the store did not take are tried again.
pub const HISTORY_RETRY: Duration = Duration::from_secs(1);
/// How long a snapshot waits for the histories; then it is put off.
pub const HISTORY_SNAPSHOT_WAIT: Duration = Duration::from_secs(30);
/// Entries of one contact's consent history; the oldest go.
pub const CONSENT_HISTORY_MAX: u32 = 1_000;
/// Findings of `estafette check` that are named of one table of a contact store; those beyond are counted.
pub const CHECK_FINDINGS_MAX: usize = 100;

// --- segments -------------------------------------------------------------------------------------------------

/// Nesting depth of a segment expression, parentheses and `in segment` included.
pub const SEGMENT_DEPTH_MAX: usize = 64;
/// Bytes of a segment expression.
pub const SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// Nodes of a parsed segment expression.
pub const SEGMENT_NODES_MAX: usize = 10_000;
/// Nodes of a segment expression with every `in segment` written out: segments that use each other twice double at each step.
pub const SEGMENT_EXPANDED_NODES_MAX: usize = 100_000;

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
/// Rate up to which a limit is paced by even spacing; above it the pace is a little faster than the limit, which its window counts.
pub const PACED_PER_SECOND_MAX: u32 = 200;
/// What a timer's lateness may cost no permits, and so what comes at once after a pause: timers count in milliseconds, and a busy
/// machine's threads wait for some.
pub const PACED_LATE_TOLERATED: Duration = Duration::from_millis(20);
/// Spacing of permits from which lateness is nothing beside it: such a limit is spaced evenly and needs no count.
pub const PACED_EVENLY_FROM: Duration = Duration::from_secs(1);
/// Slices of the window of a faster limit, and the one that is leaving: a second by the millisecond, four kilobytes a scope.
/// A permit comes back up to one slice late, which is a thousandth of the rate.
pub const PACED_WINDOW_SLICES: usize = 1_001;
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
/// Least rows of a turn while several sends of a delivery wait: fewer would be a journal frame per handful of messages,
/// more would let a small arm of a test go out whole before the next one begins.
pub const GRANT_TURN_MIN: u64 = 8;
/// A turn is this part of what its send waits with: arms stay within about 1.6 % of each other, and a large arm still goes
/// in whole batches.
pub const GRANT_TURN_PARTS: u64 = 64;
/// A send that waits with less than another of its delivery has its turns rarer in proportion, up to this factor, so that
/// a trickle beside a large backlog still flows.
pub const GRANT_TURN_RARER_MAX: u64 = 16;
/// Messages of one BDAT window: what is unknown per connection if it breaks after the write.
pub const BDAT_WINDOW_MESSAGES: usize = 4;
/// Bytes of a message above which its body is written before the mark and only the final dot after it: what breaks off
/// in a large body is then no unknown. Below it one write carries both.
pub const BODY_AT_ONCE_BYTES_MAX: usize = 256 * 1024;
/// A lane looks this often whether it should end, while it waits for the provider.
pub const LANE_TICK: Duration = Duration::from_millis(250);
/// How long an ending lane waits for answers to what it has handed over; then they are unknown.
pub const LANE_CLOSING_MAX: Duration = Duration::from_secs(10);
/// How long a lane waits for the answer to QUIT.
pub const QUIT_MAX: Duration = Duration::from_secs(2);
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
/// Campaigns whose series are rendered at a scrape, those that are not over first.
pub const METRIC_CAMPAIGNS_MAX: usize = 200;
/// Samples of a scrape. Those of the engine (some 500) and of connectors (some 90 each) are always there; campaigns have what is
/// left.
pub const METRIC_SAMPLES_MAX: usize = 4_999;
/// Samples of all campaigns of a scrape, with few connectors.
pub const METRIC_CAMPAIGN_SAMPLES_MAX: usize = 4_000;
/// The same with ever so many: from some 45 connectors on a scrape is larger than [`METRIC_SAMPLES_MAX`], by their number.
pub const METRIC_CAMPAIGN_SAMPLES_MIN: usize = 500;
/// Messages of one campaign whose series are rendered: as many as an A/B test has variants.
pub const METRIC_MESSAGES_MAX: usize = WINNER_ARMS_MAX;
/// Nodes of one campaign whose series are rendered.
pub const METRIC_NODES_MAX: usize = 50;
/// Files of the data directory that a scrape looks at.
pub const STORAGE_FILES_MAX: usize = 10_000;
/// Links of one message whose series are rendered.
pub const METRIC_LINKS_MAX: usize = 20;
/// How long the series of an ended campaign are still rendered, so that its last values are scraped.
pub const METRIC_CAMPAIGNS_AFTER: Duration = Duration::from_secs(15 * 60);
/// How often values of histograms are folded into their buckets when nobody scrapes.
pub const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// Nodes of one flow: a journey on a screen has tens; the rest is headroom for generated grids.
pub const FLOW_NODES_MAX: usize = 1_000;
/// Edges of one flow: a node may have a few exits.
pub const FLOW_EDGES_MAX: usize = 4_000;
/// Nodes on the longest path between two waits: a move walks it in one go.
pub const FLOW_DEPTH_MAX: usize = 256;
/// Seconds of one wait in a flow: two years.
pub const WAIT_SECONDS_MAX: u32 = 2 * 366 * 24 * 3_600;
/// Steps that one look at a run's flow may take; the rest follows at the next look.
pub const FLOW_STEPS_PER_LOOK_MAX: usize = 1_000;
/// How often the flows of running campaigns are looked at.
pub const FLOW_TICK: Duration = Duration::from_millis(250);
/// Notes on one flow: one per node, and headroom.
pub const FLOW_NOTES_MAX: usize = 2_000;
/// Bytes of one note: a page of text.
pub const NOTE_BYTES_MAX: usize = 4_096;
/// Messages that a condition on engagement may ask for: a daily mail for three months.
pub const ENGAGED_MESSAGES_MAX: u32 = 100;
/// Days that a condition on engagement may look back: two years.
pub const ENGAGED_DAYS_MAX: u32 = 732;
/// Moves that a dry run makes before it stops and says so: a cycle through a wait would go on for ever.
pub const DRY_RUN_MOVES_MAX: usize = 20_000;
/// Days that a dry run looks ahead: two years, as long as the longest wait.
pub const DRY_RUN_DAYS_MAX: u32 = 732;
/// Arrivals that a dry run lists per node; the last one holds all that follow.
pub const DRY_RUN_ARRIVALS_MAX: usize = 50;
/// Seconds that a send may wait for an open before it parts its contacts: 30 minutes at least.
pub const SPLIT_ON_OPEN_SECONDS_MIN: u32 = 30 * 60;
/// And 30 days at most.
pub const SPLIT_ON_OPEN_SECONDS_MAX: u32 = 30 * 24 * 3_600;
/// Cells of a grid: each is a send of its own.
pub const GRID_CELLS_MAX: usize = 400;
/// Pairs of segments with common contacts that a look at a grid names.
pub const GRID_OVERLAPS_MAX: usize = 100;
/// Levels of a dimension's tree of segments.
pub const GRID_TREE_DEPTH_MAX: usize = 4;
/// Dimensions of a grid.
pub const GRID_DIMENSIONS_MAX: usize = 4;
/// Exits of one split: an A/B test has up to 26 variants, a grid's dimension a few dozen; the rest is headroom.
pub const SPLIT_EXITS_MAX: usize = 64;
/// Weight of one exit of a split: shares as fine as a millionth, and products of weights that fit in 64 bits.
pub const SPLIT_WEIGHT_MAX: u32 = 1_000_000;
/// Entrants of a stream after which the shares of a split are exact: whole percents are then whole contacts.
pub const SPLIT_BLOCK_ROWS: usize = 100;
/// Entrants of a stream that are put in order at a time: 16 bytes each, 64 MB.
pub const SPLIT_SORT_ROWS: u64 = 1 << 22;
/// Longest period of a delay, days: a year, and a leap day.
pub const DELAY_DAYS_MAX: u32 = 366;
/// Moments at which waiting contacts of one node are due. Waits of up to [`DELAY_DAYS_MAX`] make no more than 40 536
/// when rounded as `flow::delay::buckets` says; beyond it the rounding gets coarser.
pub const WAIT_BUCKETS_MAX: usize = 41_000;
/// Of those, the buckets to which rows were added last and which are not sealed yet: one per offset of a zone, of which
/// there are 38, and headroom.
pub const WAIT_OPEN_BUCKETS_MAX: usize = 64;
/// Times that a contact may enter a wait anew while timers that it left behind have not come due, before those are
/// searched for and removed.
pub const WAIT_GENERATIONS_MAX: usize = 4;
/// Dates that one schedule may name.
pub const SCHEDULE_DATES_MAX: usize = 366;
/// Bytes of the text of a recurrence: a cron line with every list written out stays well below.
pub const RECURRENCE_BYTES_MAX: usize = 512;
/// Launches that one calendar lists.
pub const CALENDAR_LAUNCHES_MAX: usize = 1_000;
/// A dated start is this long after the publication at the earliest, so that it can be taken back; unless the server's
/// `schedule_safety_minutes` says otherwise.
pub const PUBLISH_GRACE: Duration = Duration::from_secs(5 * 60);
/// Steps of one sequence.
pub const SEQUENCE_STEPS_MAX: usize = 100;
/// Numbers that the steps of one sequence are given over all its versions; each makes a delivery, and a message in each of
/// [`MESSAGE_LANGUAGES_MAX`] languages and the default has a number of 16 bits.
pub const SEQUENCE_NUMBER_MAX: u16 = 1_500;
/// Branches of a split in a sequence: each needs node ids of its own.
pub const SEQUENCE_BRANCHES_MAX: usize = 40;
/// Bytes of the id of a step.
pub const STEP_ID_BYTES_MAX: usize = 64;
/// Publications of a run that are remembered; the report shows them.
pub const PUBLICATIONS_KEPT_MAX: usize = 100;
/// Contacts that one request may bring into a sequence.
pub const ENTER_CONTACTS_MAX: usize = 10_000;
/// Requests of a sequence by whose name a repeated one is told; the oldest go first.
pub const ENTER_REQUESTS_KEPT_MAX: usize = 10_000;
/// Contacts whose attribute is set in one write transaction: between two, imports get their turn.
pub const SET_ATTRIBUTE_ROWS_MAX: usize = 10_000;
/// Longest `schedule_safety_minutes`: a day.
pub const PUBLISH_GRACE_MINUTES_MAX: u64 = 24 * 60;
/// How late a launch may be made when its schedule does not say: a server that was down for longer starts nothing by itself.
pub const TOO_LATE_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// Missed launches of a recurrence that one look passes over; the next look goes on.
pub const LAUNCHES_PASSED_MAX: u32 = 10_000;
/// Launches whose outcome a campaign remembers; the oldest go, their runs stay.
pub const LAUNCH_HISTORY_MAX: usize = 100;
/// Runs of one campaign that may be under way at a time; a launch beyond waits for the end of one.
pub const LIVE_RUNS_MAX: usize = 8;
/// Time that a calendar shows unless told otherwise.
pub const CALENDAR_DEFAULT: Duration = Duration::from_secs(31 * 24 * 3_600);
/// Launches ahead that a campaign's view lists.
pub const UPCOMING_SHOWN: usize = 5;
/// Seconds of sends that a campaign's rate is measured over.
pub const RATE_RING_SECONDS: usize = 60;
/// Time without any progress after which a running campaign counts as stalled.
pub const STALL_AFTER: Duration = Duration::from_secs(5);
/// Variants of one test: the letters of the alphabet. Pairs grow with the square and each asks for more proof.
pub const WINNER_ARMS_MAX: usize = 26;
/// Planned looks at one test: beyond 20 the boundaries hardly change (Jennison & Turnbull 2000, table 2.3).
pub const WINNER_LOOKS_MAX: u32 = 20;
/// Least part of the planned information between two looks: less moves no verdict and makes the integration slow.
pub const WINNER_LOOK_GAP_MIN: f64 = 0.01;
/// Boundaries that a thread remembers: a test asks for the same ones at every look, and one takes milliseconds to compute.
pub const WINNER_BOUNDARIES_KEPT: usize = 1_024;
/// Least and largest share of an arm, in any unit: percent, parts, contacts.
pub const WINNER_SHARE: std::ops::RangeInclusive<f64> = 1e-9..=1e16;
/// Contacts of one arm: as many as a double counts one by one.
pub const WINNER_CONTACTS_MAX: u64 = 1 << 53;
/// Delivered (accepted and not bounced) and matured contacts an arm needs before anything is claimed, unless told otherwise.
pub const WINNER_DELIVERED_MIN: u64 = 500;
/// Unique human events an arm needs before anything is claimed, unless told otherwise: normal approximations hold by then.
pub const WINNER_EVENTS_MIN: u64 = 40;
/// Chance of a wrong claim, and the confidence 1 - alpha of intervals, unless told otherwise.
pub const WINNER_ALPHA: f64 = 0.05;
/// Least chance of a wrong claim that can be asked for: below it the normal approximation is worth nothing.
pub const WINNER_ALPHA_MIN: f64 = 1e-6;
/// Sizes of arms that are less likely than this by chance mean that the split is broken, and block the verdict.
pub const WINNER_RATIO_P: f64 = 0.0005;
/// Contacts of both arms at which a confidence sequence is narrowest, unless told otherwise.
pub const WINNER_SEQUENCE_TUNED_FOR: f64 = 5_000.0;
/// Deliveries that one comparison puts side by side.
pub const COMPARED_MAX: usize = 20;
/// Buckets of a run's timeline: two hours in tens of seconds, a month in hours; beyond it they get wider.
pub const TIMELINE_BUCKETS_MAX: usize = 720;
/// How late a message may go out for a moment that is being tested, or that won: beyond it the next one is waited for.
pub const MOMENT_LATE_MAX: Duration = Duration::from_secs(3_600);
/// Looks at a test that are kept: every planned one; of a test without an end, the last.
pub const TEST_LOOKS_KEPT: usize = WINNER_LOOKS_MAX as usize;
/// Parts of a test's window that are told apart: windows end at most a 64th of their length late.
pub const TEST_WINDOW_PARTS: i64 = 64;
/// Parts of time whose rows a test remembers: four windows, so that an event that is told late still finds its contact.
pub const TEST_WINDOW_BUCKETS_MAX: usize = 256;
/// Days for which it is kept who was written to, opened and clicked: a quarter. A day costs at most 1.25 MB per 10 M contacts
/// and kind of event, all days 115 MB.
pub const HISTORY_DAYS_MAX: u32 = 92;
/// Messages to one contact that a frequency cap can allow, and that are counted a day.
pub const CAP_MESSAGES_MAX: u32 = 100;
/// Frequency caps of one campaign, or of the server.
pub const CAPS_MAX: usize = 16;
/// Languages of one message: each is a send of its own, and a split has at most [`SPLIT_EXITS_MAX`] exits.
pub const MESSAGE_LANGUAGES_MAX: usize = 40;
/// Saved messages.
pub const SAVED_MESSAGES_MAX: usize = 10_000;
/// Names that are tried for a resend that has none.
pub const RESEND_NAMES_MAX: usize = 1_000;
/// Rows of a delivery that are looked at together once a claim has met a cap: they are skipped in one fact.
pub const CAP_LOOK_ROWS: usize = 65_536;
/// Times that one claim meets a cap before its grant is given up.
pub const CAP_ROUNDS_MAX: usize = 4;
/// Days that one question for an anniversary may span: no more than a year, which everybody has an anniversary in.
pub const ANNIVERSARY_DAYS_MAX: u32 = 365;
/// Years for which a date is celebrated: nobody lives longer, and each year is a range to look up.
pub const ANNIVERSARY_YEARS_MAX: i16 = 150;
/// Capacity of an actor's mailbox, messages. Answers come in groups, so this holds more than all outstanding batches.
pub const MAILBOX_MESSAGES: usize = 4_096;

const _: () =
    assert!(CLAIM_AHEAD.as_millis() < CLAIM_MAX.as_millis(), "a paced claim must be marked before it is taken back");
const _: () = assert!(BATCHES_AHEAD < CREDITS_BATCHES_DEFAULT, "credits must outlast what is claimed ahead");
const _: () = assert!((FRAME_BYTES_MAX as u64) < SEGMENT_BYTES, "a frame must fit in a segment");
const _: () = {
    // `flow::split::stream` compares products of a deadline and a weight in 64 bits.
    let total = SPLIT_EXITS_MAX as i64 * SPLIT_WEIGHT_MAX as i64;
    assert!((2 * SPLIT_EXITS_MAX as i64 * 3 * total).checked_mul(SPLIT_WEIGHT_MAX as i64).is_some(), "they must fit");
};
