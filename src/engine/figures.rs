//! The engine's live figures: what it counts or holds anyway, read at a scrape; and the events of the engine's own work.
//!
//! Owns no state. Must not know how figures are rendered or served.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ::metrics::{counter, histogram};

use crate::campaigns::lifecycle::State;
use crate::channels::limits_table::Scope;
use crate::contacts::csv_import::Progress;
use crate::engine::Engine;
use crate::engine::lines::Wired;
use crate::engine::process::{process, storage};
use crate::engine::runs::state_of;
use crate::journal::Status;
use crate::limits::JOURNAL_QUEUE_MAX;
use crate::metrics::{
    BACKUP_SUCCESS_TIMESTAMP_SECONDS, CIRCUIT_OPEN, CONNECTION_FAILURES_TOTAL, CONNECTIONS, CONNECTIONS_LIMIT,
    CONNECTIONS_MAX, CONTACTS, CREDITS_LIMIT, CREDITS_USED, DISK_FULL, IMPORT_CHUNK_SECONDS, IMPORT_ROWS_TOTAL,
    IMPORTS_RUNNING, INDEX_CACHE_BYTES, JOURNAL_BYTES_TOTAL, JOURNAL_COMMIT_FRAMES, JOURNAL_FAILED,
    JOURNAL_FSYNC_SECONDS, JOURNAL_SEGMENTS, JOURNAL_STALLED_SECONDS, JOURNAL_WAITING, JOURNAL_WAITING_LIMIT,
    LIMIT_MESSAGES_PER_SECOND, LIMIT_WAIT_SECONDS_TOTAL, Live, MESSAGE_BYTES_TOTAL, RECOVERED_UNKNOWN_CONTACTS,
    RECOVERY_SECONDS, REFUSALS_TOTAL, ROUND_TRIP_SECONDS, RUNS, SCHEDULE_LATENESS_SECONDS, SCHEDULED_CAMPAIGNS,
    SEGMENT_EVALUATION_SECONDS, SNAPSHOT_AGE_SECONDS, THROTTLED_TOTAL, UPTIME_SECONDS, WAITING_CONTACTS,
};

const MICROS: f64 = 1e6;
/// States of runs that are not over.
const LIVE_STATES: [State; 4] = [State::Scheduled, State::Running, State::Paused, State::Stopping];

impl Engine {
    /// All live figures of this moment. Reads `/proc` and asks the file system: not for a thread that must not block.
    pub fn figures(&self) -> Live {
        let mut live = Live::default();
        for (name, wired) in &self.lines {
            line(&mut live, name, wired);
        }
        self.journal_figures(&mut live);
        live.number(&RECOVERY_SECONDS, &[], self.recovery.seconds);
        live.number(&RECOVERED_UNKNOWN_CONTACTS, &[], self.recovery.settled.unknown as f64);
        storage(&mut live, &self.options.directory);
        live.number(&DISK_FULL, &[], flag(!self.book.has_space()));
        // A base that can't be read says so where it is used.
        if let Ok(contacts) = self.store.reader().and_then(|reader| reader.contacts()) {
            live.number(&CONTACTS, &[], contacts as f64);
        }
        live.number(&IMPORTS_RUNNING, &[], self.imports.unfinished() as f64);
        live.number(&INDEX_CACHE_BYTES, &[], self.store.cached_bytes() as f64);
        self.schedule_figures(&mut live);
        self.run_figures(&mut live);
        let backup = self.backups.last().map_or(0.0, |at| at.0 as f64 / 1_000.0);
        live.number(&BACKUP_SUCCESS_TIMESTAMP_SECONDS, &[], backup);
        live.number(&JOURNAL_STALLED_SECONDS, &[], self.book.journal_stalled().as_secs_f64());
        live.number(&UPTIME_SECONDS, &[], self.uptime().as_secs_f64());
        process(&mut live);
        live
    }

    fn schedule_figures(&self, live: &mut Live) {
        let (now, state) = (self.book.now(), self.book.read());
        let ahead = state.plans.values().filter(|plan| plan.is_open());
        live.number(&SCHEDULED_CAMPAIGNS, &[], ahead.count() as f64);
        let waiting = state.plans.values().filter(|plan| plan.is_scheduled()).filter_map(|plan| plan.next);
        let latest = waiting.map(|next| now.saturating_since(next.effective)).max().unwrap_or_default();
        live.number(&SCHEDULE_LATENESS_SECONDS, &[], latest.as_secs_f64());
    }

    fn run_figures(&self, live: &mut Live) {
        let mut runs = [0_u64; LIVE_STATES.len()];
        let state = self.book.read();
        for run in state.runs.values() {
            if let Some(at) = LIVE_STATES.iter().position(|live| *live == state_of(run)) {
                runs[at] += 1;
            }
        }
        for (state, count) in LIVE_STATES.into_iter().zip(runs) {
            live.number(&RUNS, &[state.name()], count as f64);
        }
    }

    fn journal_figures(&self, live: &mut Live) {
        let journal = self.book.journal();
        let stats = journal.stats();
        let sync = stats.sync_micros;
        live.histogram(&JOURNAL_FSYNC_SECONDS, &[], sync.counts, sync.sum as f64 / MICROS);
        live.histogram(&JOURNAL_COMMIT_FRAMES, &[], stats.commit_frames.counts, stats.commit_frames.sum as f64);
        live.number(&JOURNAL_BYTES_TOTAL, &[], stats.bytes as f64);
        live.number(&JOURNAL_SEGMENTS, &[], stats.segments as f64);
        live.number(&JOURNAL_WAITING, &[], stats.queued as f64);
        live.number(&JOURNAL_WAITING_LIMIT, &[], JOURNAL_QUEUE_MAX as f64);
        live.number(&JOURNAL_FAILED, &[], flag(matches!(journal.status(), Status::Failed)));
        if let Some(age) = stats.snapshot_age {
            live.number(&SNAPSHOT_AGE_SECONDS, &[], age.as_secs_f64());
        }
    }
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn line(live: &mut Live, name: &str, wired: &Wired) {
    let (line, figures) = (&wired.line, &wired.line.figures);
    let labels = [name];
    let trips = &figures.round_trips;
    let counts = trips.counts.iter().map(|count| count.load(Relaxed)).collect();
    live.histogram(&ROUND_TRIP_SECONDS, &labels, counts, trips.sum_micros.load(Relaxed) as f64 / MICROS);
    live.number(&MESSAGE_BYTES_TOTAL, &labels, figures.message_bytes.load(Relaxed) as f64);
    live.number(&CONNECTIONS, &labels, figures.open_connections.load(Relaxed) as f64);
    live.number(&CONNECTIONS_LIMIT, &labels, line.queue.lanes_wanted() as f64);
    live.number(&CONNECTIONS_MAX, &labels, line.connections_max as f64);
    for (reply, about, count) in figures.refusals.each() {
        live.number(&REFUSALS_TOTAL, &[name, reply, about], count as f64);
    }
    live.number(&CONNECTION_FAILURES_TOTAL, &labels, figures.connect_failures.load(Relaxed) as f64);
    // While it is tried again it is not well: an alert must not begin anew with each attempt.
    live.number(&CIRCUIT_OPEN, &labels, flag(!line.circuit.lock().is_closed()));
    live.number(&THROTTLED_TOTAL, &labels, figures.throttled.load(Relaxed) as f64);
    if let Some(rate) = line.limits.with(|limits| limits.per_second(Scope::Connector)) {
        live.number(&LIMIT_MESSAGES_PER_SECOND, &labels, rate);
    }
    live.number(&LIMIT_WAIT_SECONDS_TOTAL, &labels, figures.limit_wait_micros.load(Relaxed) as f64 / MICROS);
    let (waiting, credits) = {
        let fair = line.fair.lock();
        (fair.waiting(), fair.credits_out())
    };
    live.number(&WAITING_CONTACTS, &labels, waiting as f64);
    live.number(&CREDITS_USED, &labels, credits as f64);
    live.number(&CREDITS_LIMIT, &labels, line.credits as f64);
}

/// Times the evaluation of a segment.
pub fn evaluating<T>(evaluate: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let found = evaluate();
    histogram!(SEGMENT_EVALUATION_SECONDS.name).record(began.elapsed().as_secs_f64());
    found
}

/// One chunk of an import is in the store and the journal.
pub fn imported(before: &Progress, after: &Progress, took: Duration) {
    histogram!(IMPORT_CHUNK_SECONDS.name).record(took.as_secs_f64());
    let counts: [(&'static str, u64, u64); 3] = [
        ("accepted", before.accepted, after.accepted),
        ("merged", before.merged, after.merged),
        ("rejected", before.rejected, after.rejected),
    ];
    for (result, before, after) in counts {
        counter!(IMPORT_ROWS_TOTAL.name, "result" => result).increment(after.saturating_sub(before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{COMMIT_BUCKETS, FSYNC_BUCKETS};

    #[test]
    fn buckets_are_those_of_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let opened = crate::journal::Journal::open(folder.path(), &Default::default(), &mut |_| Ok(())).unwrap();
        let stats = opened.journal.stats();
        let micros: Vec<f64> = stats.sync_micros.bounds.iter().map(|bound| *bound as f64 / MICROS).collect();
        assert_eq!(micros, FSYNC_BUCKETS, "of an fdatasync");
        let frames: Vec<f64> = stats.commit_frames.bounds.iter().map(|bound| *bound as f64).collect();
        assert_eq!(frames, COMMIT_BUCKETS, "of a group commit");
    }
}
