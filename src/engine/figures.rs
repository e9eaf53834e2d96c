//! The engine's live figures: what it counts or holds anyway, read at a scrape; and the events of the engine's own work.
//!
//! Owns no state. Must not know how figures are rendered or served.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ::metrics::{counter, histogram};

use crate::channels::circuit::CircuitState;
use crate::channels::limits_table::Scope;
use crate::contacts::csv_import::Progress;
use crate::engine::Engine;
use crate::engine::lines::Wired;
use crate::journal::Status;
use crate::metrics::{
    BUILD, CIRCUIT_OPEN, CONNECTION_FAILURES_TOTAL, CONNECTIONS, CONNECTIONS_LIMIT, CONTACTS, CPU_SECONDS_TOTAL,
    CREDITS_LIMIT, CREDITS_USED, DISK_FREE_BYTES, DISK_FULL, IMPORT_CHUNK_SECONDS, IMPORT_ROWS_TOTAL, IMPORTS_RUNNING,
    INDEX_CACHE_BYTES, JOURNAL_BYTES_TOTAL, JOURNAL_COMMIT_FRAMES, JOURNAL_FAILED, JOURNAL_FSYNC_SECONDS,
    JOURNAL_SEGMENTS, JOURNAL_WAITING, LIMIT_MESSAGES_PER_SECOND, LIMIT_WAIT_SECONDS_TOTAL, Live, MESSAGE_BYTES_TOTAL,
    RECOVERED_UNKNOWN_CONTACTS, RECOVERY_SECONDS, RESIDENT_MEMORY_BYTES, ROUND_TRIP_SECONDS, SCHEDULE_LATENESS_SECONDS,
    SCHEDULED_CAMPAIGNS, SEGMENT_EVALUATION_SECONDS, SNAPSHOT_AGE_SECONDS, THROTTLED_TOTAL, WAITING_CONTACTS,
};

const MICROS: f64 = 1e6;

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
        if let Ok(stat) = rustix::fs::statvfs(&self.options.directory) {
            live.number(&DISK_FREE_BYTES, &[], stat.f_bavail.saturating_mul(stat.f_frsize) as f64);
        }
        live.number(&DISK_FULL, &[], flag(!self.book.has_space()));
        // A base that can't be read says so where it is used.
        if let Ok(contacts) = self.store.reader().and_then(|reader| reader.contacts()) {
            live.number(&CONTACTS, &[], contacts as f64);
        }
        live.number(&IMPORTS_RUNNING, &[], self.imports.unfinished() as f64);
        live.number(&INDEX_CACHE_BYTES, &[], self.store.cached_bytes() as f64);
        self.schedule_figures(&mut live);
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

    fn journal_figures(&self, live: &mut Live) {
        let journal = self.book.journal();
        let stats = journal.stats();
        let sync = stats.sync_micros;
        live.histogram(&JOURNAL_FSYNC_SECONDS, &[], sync.counts, sync.sum as f64 / MICROS);
        live.histogram(&JOURNAL_COMMIT_FRAMES, &[], stats.commit_frames.counts, stats.commit_frames.sum as f64);
        live.number(&JOURNAL_BYTES_TOTAL, &[], stats.bytes as f64);
        live.number(&JOURNAL_SEGMENTS, &[], stats.segments as f64);
        live.number(&JOURNAL_WAITING, &[], stats.queued as f64);
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
    live.number(&CONNECTION_FAILURES_TOTAL, &labels, figures.connect_failures.load(Relaxed) as f64);
    let open = matches!(line.circuit.lock().state(), CircuitState::Open { .. });
    live.number(&CIRCUIT_OPEN, &labels, flag(open));
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

/// Of this process, as proc(5) says; on another system they are absent.
fn process(live: &mut Live) {
    live.number(&BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, kind) in [("RssAnon:", "anonymous"), ("RssShmem:", "shared"), ("RssFile:", "file")] {
        if let Some(bytes) = status_bytes(&status, field) {
            live.number(&RESIDENT_MEMORY_BYTES, &[kind], bytes as f64);
        }
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&stat) {
        live.number(&CPU_SECONDS_TOTAL, &[], seconds);
    }
}

/// A field of `/proc/self/status`, which counts in kibibytes.
fn status_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// `utime` and `stime` of `/proc/self/stat`, fields 14 and 15, in hundredths of a second on every Linux (`USER_HZ`).
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    (ticks.len() == 2).then(|| ticks.iter().sum::<u64>() as f64 / 100.0)
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
    fn proc_is_read_as_it_is_written() {
        let status = "Name:\testafette\nRssAnon:\t    1024 kB\nRssFile:\t      8 kB\n";
        assert_eq!(status_bytes(status, "RssAnon:"), Some(1_048_576), "kibibytes");
        assert_eq!(status_bytes(status, "RssShmem:"), None, "an old kernel has none");
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 100";
        assert_eq!(cpu_seconds(stat), Some(3.0), "the name holds parentheses and spaces");
        assert_eq!(cpu_seconds(""), None);
        let mut live = Live::default();
        process(&mut live);
        let text = crate::metrics::render_live(&live);
        assert!(text.contains("estafette_resident_memory_bytes{kind=\"anonymous\"} "), "of this process:\n{text}");
        assert!(text.contains("estafette_cpu_seconds_total "), "{text}");
    }

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
