//! The handle that everyone else holds: submit, flush, snapshot, close.
//!
//! Owner of: the next sequence number, and with it the order of the queue. Knows no file but the snapshot.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use parking_lot::Mutex;

use super::backup::Held;
use super::boot::BootId;
use super::commit::Kept;
use super::disk::{Disk, sync_dir};
use super::error::JournalError;
use super::lock::DirLock;
use super::snapshot;
use super::stats::{Counters, Stats};
use super::writer::{Item, Submission};

/// When a frame has to be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// Within the commit idle time.
    #[default]
    Idle,
    /// By a commit that starts at once.
    Now,
}

/// Called with the frame's number on the journal thread: it must return at once and must not submit.
pub type Told = Box<dyn FnOnce(u64) + Send>;

/// What a submitter wants to hear. Neither is told if the journal fails or is dropped first.
#[derive(Default)]
pub struct Want {
    pub urgency: Urgency,
    /// The frame survives a kill.
    pub written: Option<Told>,
    /// The frame survives a power loss.
    pub durable: Option<Told>,
}

impl Want {
    /// Durable soon, nobody waits.
    pub fn idle() -> Want {
        Want::default()
    }

    /// Tells when it is written; durable soon.
    pub fn written(told: impl FnOnce(u64) + Send + 'static) -> Want {
        Want { written: Some(Box::new(told)), ..Want::default() }
    }

    /// Commits at once, nobody waits.
    pub fn now() -> Want {
        Want { urgency: Urgency::Now, ..Want::default() }
    }

    /// Durable soon, and tells when it is.
    pub fn durable_idle(told: impl FnOnce(u64) + Send + 'static) -> Want {
        Want { durable: Some(Box::new(told)), ..Want::default() }
    }

    /// Also tells when it is written.
    pub fn and_written(self, told: impl FnOnce(u64) + Send + 'static) -> Want {
        Want { written: Some(Box::new(told)), ..self }
    }

    /// Commits at once and tells when it is durable.
    pub fn durable(told: impl FnOnce(u64) + Send + 'static) -> Want {
        Want { urgency: Urgency::Now, durable: Some(Box::new(told)), ..Want::default() }
    }
}

impl fmt::Debug for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Want").field("urgency", &self.urgency).finish_non_exhaustive()
    }
}

/// How the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// The disk is full. Nothing is lost: frames go into what is left of the open segment, then stay queued in order, and all
    /// goes on by itself when there is space. Campaigns should pause now.
    NoSpace {
        needed_bytes: u64,
    },
    /// A sync failed; the process is about to abort.
    Failed,
}

const OK: u8 = 0;
const NO_SPACE: u8 = 1;
const FAILED: u8 = 2;

/// What the journal thread and the handle share.
pub(super) struct Core {
    pub folder: PathBuf,
    pub disk: Arc<dyn Disk>,
    pub boot: BootId,
    pub written: AtomicU64,
    pub durable: AtomicU64,
    pub abandoned: AtomicBool,
    pub closing: AtomicBool,
    pub recovered: Arc<AtomicBool>,
    pub counters: Counters,
    /// On disk, oldest first; the last is open.
    pub segments: Mutex<Vec<Kept>>,
    gate: Mutex<Gate>,
    status: AtomicU8,
    needed_bytes: AtomicU64,
}

impl Core {
    pub(super) fn new(
        folder: PathBuf,
        disk: Arc<dyn Disk>,
        boot: BootId,
        last_seq: u64,
        recovered: Arc<AtomicBool>,
        segments: Vec<Kept>,
        queue: Sender<Item>,
    ) -> Core {
        Core {
            folder,
            disk,
            boot,
            written: AtomicU64::new(last_seq),
            durable: AtomicU64::new(last_seq),
            abandoned: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            recovered,
            counters: Counters::new(),
            segments: Mutex::new(segments),
            gate: Mutex::new(Gate { next_seq: last_seq + 1, queue: Some(queue) }),
            status: AtomicU8::new(OK),
            needed_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn set_ok(&self) {
        if self.status.swap(OK, Ordering::AcqRel) == NO_SPACE {
            tracing::info!("the journal has space again and goes on");
        }
    }

    pub(super) fn set_no_space(&self, needed_bytes: u64) {
        self.needed_bytes.store(needed_bytes, Ordering::Relaxed);
        if self.status.swap(NO_SPACE, Ordering::AcqRel) != NO_SPACE {
            tracing::error!(needed_bytes, folder = %self.folder.display(), "no space for the journal; it waits and loses nothing");
        }
    }

    pub(super) fn fail(&self) {
        self.status.store(FAILED, Ordering::Release);
    }

    /// The only sender goes, and with it what is still in the channel: whoever waits for an answer to it hears that there will
    /// be none. (A bounded channel keeps what was sent to a receiver that is gone.)
    pub(super) fn close_gate(&self) {
        self.gate.lock().queue = None;
    }

    fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            OK => Status::Ok,
            NO_SPACE => Status::NoSpace { needed_bytes: self.needed_bytes.load(Ordering::Relaxed) },
            _ => Status::Failed,
        }
    }
}

/// Numbers are given and queued under one lock, so that the queue is in their order.
struct Gate {
    next_seq: u64,
    queue: Option<Sender<Item>>,
}

struct Handle {
    core: Arc<Core>,
    /// One snapshot at a time.
    snapshot: Mutex<()>,
    payload_max: usize,
    thread: Mutex<Option<JoinHandle<Result<(), JournalError>>>>,
    lock: Mutex<Option<DirLock>>,
}

/// Handle to the open journal; clones share it. Dropping the last one closes it.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = &self.handle.core;
        f.debug_struct("Journal").field("folder", &core.folder).field("status", &core.status()).finish_non_exhaustive()
    }
}

impl Journal {
    pub(super) fn assemble(
        core: Arc<Core>,
        payload_max: usize,
        lock: DirLock,
        thread: JoinHandle<Result<(), JournalError>>,
    ) -> Journal {
        Journal {
            handle: Arc::new(Handle {
                core,
                snapshot: Mutex::new(()),
                payload_max,
                thread: Mutex::new(Some(thread)),
                lock: Mutex::new(Some(lock)),
            }),
        }
    }

    /// Queues a frame and gives its number; numbers are given in the order of the calls. Blocks only while
    /// `JOURNAL_QUEUE_MAX` submissions wait.
    ///
    /// # Errors
    /// `TooLarge`, `Closed`, `Failed`; then no number was used.
    pub fn submit(&self, kind: u8, payload: Vec<u8>, want: Want) -> Result<u64, JournalError> {
        let max = self.handle.payload_max;
        if payload.len() > max {
            return Err(JournalError::TooLarge { bytes: payload.len(), max });
        }
        let mut gate = self.handle.core.gate.lock();
        let seq = gate.next_seq;
        self.enqueue(&gate, Item::Frame(Submission { seq, kind, payload, want }))?;
        gate.next_seq += 1;
        Ok(seq)
    }

    fn enqueue(&self, gate: &Gate, item: Item) -> Result<(), JournalError> {
        let gone = match self.status() {
            Status::Failed => JournalError::Failed,
            _ => JournalError::Closed,
        };
        let queue = gate.queue.as_ref().ok_or(gone)?;
        queue.send(item).map_err(|_| JournalError::Failed)
    }

    /// Blocks until everything submitted so far is durable; while the disk is full, until there is space. The durable number.
    ///
    /// # Errors
    /// `Closed`, `Failed`.
    pub fn flush(&self) -> Result<u64, JournalError> {
        let (answer, answered) = bounded(1);
        {
            let gate = self.handle.core.gate.lock();
            self.enqueue(&gate, Item::Flush(answer))?;
        }
        answered.recv().map_err(|_| JournalError::Failed)
    }

    /// The last frame that survives a power loss.
    pub fn durable_seq(&self) -> u64 {
        self.handle.core.durable.load(Ordering::Acquire)
    }

    /// The last frame that survives a kill.
    pub fn written_seq(&self) -> u64 {
        self.handle.core.written.load(Ordering::Acquire)
    }

    pub fn status(&self) -> Status {
        self.handle.core.status()
    }

    pub fn stats(&self) -> Stats {
        let queued = self.handle.core.gate.lock().queue.as_ref().map_or(0, Sender::len);
        self.handle.core.counters.read(queued, self.handle.core.segments.lock().len())
    }

    /// Stores `state`, which includes every frame up to and including `seq`, and then removes the segments and snapshots
    /// that it makes unneeded. Blocks for the disk; the journal goes on meanwhile. After an error the old ones are still
    /// there and count.
    ///
    /// # Errors
    /// `NotRecovered` before [`Marks::zero`](super::Marks::zero); `SnapshotAhead`; `Io`, `Closed`, `Failed`.
    pub fn write_snapshot(&self, seq: u64, state: &[u8]) -> Result<(), JournalError> {
        let core = &self.handle.core;
        let _one = self.handle.snapshot.lock();
        if !core.recovered.load(Ordering::Acquire) {
            return Err(JournalError::NotRecovered);
        }
        if self.durable_seq() < seq {
            let written = self.flush()?;
            if written < seq {
                return Err(JournalError::SnapshotAhead { seq, written });
            }
        }
        let open = core.segments.lock().last().map_or(0, |kept| kept.id);
        snapshot::write(&*core.disk, &core.folder, seq, core.boot, open, state)?;
        core.counters.snapshot();
        snapshot::drop_older(&core.folder, seq)?;
        self.drop_segments(seq)
    }

    /// Keeps snapshots and segments in place, to copy them. Waits for a snapshot that is being written.
    pub fn hold(&self) -> Held<'_> {
        Held::new(self, self.handle.snapshot.lock())
    }

    /// On disk, oldest first; the last is open.
    pub(super) fn segments(&self) -> Vec<Kept> {
        self.handle.core.segments.lock().clone()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.handle.core.folder
    }

    /// The number of the last frame that was submitted.
    pub fn submitted_seq(&self) -> u64 {
        self.handle.core.gate.lock().next_seq.saturating_sub(1)
    }

    /// Removes segments all of whose frames are ≤ `seq`; the open one stays.
    fn drop_segments(&self, seq: u64) -> Result<(), JournalError> {
        let core = &self.handle.core;
        let mut segments = core.segments.lock();
        while segments.get(1).is_some_and(|next| next.first_seq <= seq + 1) {
            let path = &segments[0].path;
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(JournalError::io("remove", path, e)),
                _ => segments.remove(0),
            };
        }
        drop(segments);
        sync_dir(&*core.disk, &core.folder)
    }

    /// Writes and syncs what is queued, ends the thread, gives the directory free. Other clones answer `Closed` from here on.
    ///
    /// # Errors
    /// `NoSpace` if queued frames could not be written: they were never told written, and are not there.
    pub fn close(self) -> Result<(), JournalError> {
        self.handle.end()
    }

    /// Ends at once as a kill would: what is not written is dropped, nothing is synced or told. For tests.
    #[doc(hidden)]
    pub fn abandon(self) {
        self.handle.core.abandoned.store(true, Ordering::Release);
        drop(self.handle.end());
    }
}

impl Handle {
    fn end(&self) -> Result<(), JournalError> {
        self.core.closing.store(true, Ordering::Release);
        self.core.close_gate();
        let thread = self.thread.lock().take();
        let ended = match thread {
            None => Ok(()),
            Some(thread) => {
                thread.thread().unpark();
                thread.join().unwrap_or(Err(JournalError::Failed))
            }
        };
        self.lock.lock().take();
        ended
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the journal did not close cleanly");
        }
    }
}
