//! What lanes of one connector pull from: durable batches, a deque per limit class, passed over while a class has no
//! permits.
//!
//! Invariant: LQ-1 rows leave in the order of their batches' grants within a class; a class without permits delays no
//! other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::actors::lanes::batch::LiveBatch;
use crate::channels::limits_table::ClassId;
use crate::clock::Monotonic;
use crate::ids::DeliveryId;
use crate::limits::{SHORTAGE_ROWS, SHORTAGE_STEP_ROWS};

/// Some rows of one batch, by index.
pub struct Chunk {
    pub batch: Arc<LiveBatch>,
    pub from: usize,
    pub to: usize,
}

/// Whether a class may be pulled from.
pub enum Admission {
    /// So many messages may start now.
    Open(usize),
    Until(Monotonic),
    Closed,
}

struct Waiting {
    batch: Arc<LiveBatch>,
    next: usize,
}

#[derive(Default)]
struct Inner {
    classes: BTreeMap<(DeliveryId, ClassId), VecDeque<Waiting>>,
    turn: usize,
}

/// Queue of one connector; shared by its channel actor, the campaigns and all lane threads.
pub struct LaneQueue {
    inner: Mutex<Inner>,
    waiting_rows: AtomicUsize,
    notify: Notify,
    /// Raised with every notice, so that one between a lane's look and its wait is not missed.
    version: AtomicU64,
    /// Fewer rows than this are told as a shortage; lower with each telling, until rows come.
    short_below: AtomicUsize,
    /// That a lane found nothing to take was told.
    told_empty: AtomicBool,
    /// Lanes with an ordinal below this may run.
    lanes_wanted: AtomicUsize,
}

impl Default for LaneQueue {
    fn default() -> LaneQueue {
        LaneQueue {
            inner: Mutex::new(Inner::default()),
            waiting_rows: AtomicUsize::new(0),
            notify: Notify::new(),
            version: AtomicU64::new(0),
            short_below: AtomicUsize::new(SHORTAGE_ROWS),
            told_empty: AtomicBool::new(false),
            lanes_wanted: AtomicUsize::new(0),
        }
    }
}

impl LaneQueue {
    pub fn push(&self, batch: Arc<LiveBatch>) {
        let mut inner = self.inner.lock();
        self.waiting_rows.fetch_add(batch.rows.len(), Ordering::AcqRel);
        let key = (batch.context.delivery, batch.class);
        inner.classes.entry(key).or_default().push_back(Waiting { batch, next: 0 });
        drop(inner);
        self.short_below.store(SHORTAGE_ROWS, Ordering::Release);
        self.told_empty.store(false, Ordering::Release);
        self.wake();
    }

    /// Rows that no lane has taken yet.
    pub fn waiting_rows(&self) -> usize {
        self.waiting_rows.load(Ordering::Acquire)
    }

    /// Up to `max` rows of the next class, in turn, that `admit` opens. Otherwise the earliest time at which one may open.
    pub fn take(&self, max: usize, mut admit: impl FnMut(&LiveBatch) -> Admission) -> Result<Chunk, Option<Monotonic>> {
        let mut inner = self.inner.lock();
        let count = inner.classes.len();
        let mut until: Option<Monotonic> = None;
        let keys: Vec<(DeliveryId, ClassId)> = inner.classes.keys().copied().collect();
        for step in 0..count {
            let key = keys[(inner.turn + step) % count];
            let Some(class) = inner.classes.get_mut(&key) else { continue };
            class.retain(|waiting| {
                let keep = !waiting.batch.is_withdrawn();
                if !keep {
                    self.waiting_rows.fetch_sub(waiting.batch.rows.len() - waiting.next, Ordering::AcqRel);
                }
                keep
            });
            let Some(first) = class.front_mut() else {
                inner.classes.remove(&key);
                continue;
            };
            match admit(&first.batch) {
                Admission::Open(permits) => {
                    let from = first.next;
                    let to = first.batch.rows.len().min(from + max.min(permits).max(1));
                    first.next = to;
                    let batch = Arc::clone(&first.batch);
                    if to == batch.rows.len() {
                        class.pop_front();
                    }
                    inner.turn = inner.turn.wrapping_add(step + 1);
                    self.waiting_rows.fetch_sub(to - from, Ordering::AcqRel);
                    return Ok(Chunk { batch, from, to });
                }
                Admission::Until(at) => until = Some(until.map_or(at, |u: Monotonic| u.min(at))),
                Admission::Closed => {}
            }
        }
        Err(until)
    }

    /// Whether the caller is to tell the channel actor that lanes run out of rows: once below `SHORTAGE_ROWS`, and again a
    /// step further down while no rows came, because the bounds may have had no room the first time.
    pub fn turned_short(&self) -> bool {
        // In this order: a level that was set after the rows were counted would be of other rows.
        let below = self.short_below.load(Ordering::Acquire);
        let waiting = self.waiting_rows();
        let next = waiting.saturating_sub(SHORTAGE_STEP_ROWS);
        waiting < below && self.short_below.compare_exchange(below, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The same of a lane that finds nothing that it may take, whatever waits in classes without permits: once, until rows come.
    pub fn turned_empty(&self) -> bool {
        !self.told_empty.swap(true, Ordering::AcqRel)
    }

    pub fn set_lanes_wanted(&self, lanes: usize) {
        self.lanes_wanted.store(lanes, Ordering::Release);
        self.wake();
    }

    pub fn lanes_wanted(&self) -> usize {
        self.lanes_wanted.load(Ordering::Acquire)
    }

    /// Wakes all waiting lanes, to look again.
    pub fn wake(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_waiters();
    }

    /// To be read before a look; [`LaneQueue::changed_since`] then misses no notice that came after it.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub async fn changed_since(&self, seen: u64) {
        let notified = self.notify.notified();
        let mut notified = std::pin::pin!(notified);
        notified.as_mut().enable();
        if self.version() == seen {
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_again_further_down_until_rows_come() {
        let queue = LaneQueue::default();
        let mut told = 0;
        for waiting in (0..=4 * SHORTAGE_ROWS).rev().step_by(10) {
            queue.waiting_rows.store(waiting, Ordering::Release);
            let tells = queue.turned_short();
            assert!(!tells || waiting < SHORTAGE_ROWS, "{waiting} rows are enough");
            told += usize::from(tells);
        }
        let steps = SHORTAGE_ROWS / SHORTAGE_STEP_ROWS;
        assert!((steps - 1..=steps + 1).contains(&told), "told {told} times, not with every look");
        assert!(
            queue.turned_empty() && !queue.turned_empty(),
            "that there is nothing is told once more, whatever came before"
        );
        queue.short_below.store(SHORTAGE_ROWS, Ordering::Release);
        assert!(queue.turned_short(), "rows came and went: a new shortage");
    }
}
