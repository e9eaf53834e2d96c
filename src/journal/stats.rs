//! Figures of the journal: counters and two histograms, all of fixed size.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Upper bounds of an `fdatasync`, microseconds.
const SYNC_MICROS: [u64; 12] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000];
/// Upper bounds of the frames of one commit.
const COMMIT_FRAMES: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];

/// Counts by upper bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Inclusive upper bounds, ascending: microseconds for syncs, frames for commits.
    pub bounds: &'static [u64],
    /// One more than the bounds: the last is beyond all. Not cumulative.
    pub counts: Vec<u64>,
    /// Sum of all observed values, in the unit of the bounds.
    pub sum: u64,
}

/// Figures since the journal was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Written frames.
    pub frames: u64,
    /// Written bytes, frame headers included.
    pub bytes: u64,
    /// `fdatasync` calls on segments that had something to sync.
    pub commits: u64,
    /// Submissions that wait for the journal thread.
    pub queued: usize,
    /// Segments on disk.
    pub segments: usize,
    pub snapshots: u64,
    /// Time since the newest snapshot, of this process or one before it.
    pub snapshot_age: Option<Duration>,
    /// Sync slot writes that failed; harmless.
    pub slot_failures: u64,
    /// Microseconds of each `fdatasync`.
    pub sync_micros: Histogram,
    /// Frames made durable by each.
    pub commit_frames: Histogram,
}

#[derive(Debug)]
pub(super) struct Buckets {
    bounds: &'static [u64; 12],
    counts: [AtomicU64; 13],
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [u64; 12]) -> Buckets {
        Buckets { bounds, counts: Default::default(), sum: AtomicU64::new(0) }
    }

    fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    fn read(&self) -> Histogram {
        Histogram {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// Counted by the journal thread, read by anyone.
#[derive(Debug)]
pub(super) struct Counters {
    pub frames: AtomicU64,
    pub bytes: AtomicU64,
    snapshots: AtomicU64,
    /// When the newest was written or found, and its age then.
    snapshot_at: Mutex<Option<(Instant, Duration)>>,
    pub slot_failures: AtomicU64,
    commits: AtomicU64,
    sync_micros: Buckets,
    commit_frames: Buckets,
}

impl Counters {
    pub(super) fn new() -> Counters {
        Counters {
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            snapshot_at: Mutex::new(None),
            slot_failures: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            sync_micros: Buckets::new(&SYNC_MICROS),
            commit_frames: Buckets::new(&COMMIT_FRAMES),
        }
    }

    pub(super) fn commit(&self, took: Duration, frames: u64) {
        self.commits.fetch_add(1, Relaxed);
        self.sync_micros.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.commit_frames.observe(frames);
    }

    pub(super) fn snapshot(&self) {
        self.snapshots.fetch_add(1, Relaxed);
        *self.snapshot_at.lock() = Some((Instant::now(), Duration::ZERO));
    }

    /// There is one of a process before this, so old.
    pub(super) fn found_snapshot(&self, age: Duration) {
        *self.snapshot_at.lock() = Some((Instant::now(), age));
    }

    pub(super) fn read(&self, queued: usize, segments: usize) -> Stats {
        Stats {
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            commits: self.commits.load(Relaxed),
            queued,
            segments,
            snapshots: self.snapshots.load(Relaxed),
            snapshot_age: self.snapshot_at.lock().map(|(at, age)| at.elapsed() + age),
            slot_failures: self.slot_failures.load(Relaxed),
            sync_micros: self.sync_micros.read(),
            commit_frames: self.commit_frames.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_reach() {
        let counters = Counters::new();
        counters.commit(Duration::from_micros(50), 1);
        counters.commit(Duration::from_micros(51), 3);
        counters.commit(Duration::from_secs(9), 5_000);
        let stats = counters.read(0, 1);
        assert_eq!(stats.commits, 3, "each commit counts");
        assert_eq!(stats.sync_micros.counts[..2], [1, 1], "a bound is inclusive");
        assert_eq!(stats.sync_micros.counts[12], 1, "beyond all bounds is counted");
        assert_eq!(stats.commit_frames.counts[2], 1, "three frames are at most four");
        assert_eq!(stats.commit_frames.sum, 5_004, "the sum is exact");
        assert_eq!((stats.snapshots, stats.snapshot_age), (0, None), "no snapshot has no age");
        counters.found_snapshot(Duration::from_secs(60));
        let stats = counters.read(0, 1);
        assert_eq!(stats.snapshots, 0, "it was made by another process");
        assert!(stats.snapshot_age.is_some_and(|age| age >= Duration::from_secs(60)), "and has its age from there");
        counters.snapshot();
        let stats = counters.read(0, 1);
        assert_eq!((stats.snapshots, stats.snapshot_age.is_some()), (1, true), "a snapshot has one");
        assert!(stats.snapshot_age.is_some_and(|age| age < Duration::from_secs(60)), "the newer one counts");
    }
}
