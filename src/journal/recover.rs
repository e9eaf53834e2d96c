//! Opening a journal: the steps "At start" of the folder's documentation, repeatable at each.
//!
//! Owns no state; it hands the pieces to the [`Journal`] and its thread.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};

use super::FOLDER;
use super::ahead::Ahead;
use super::boot::BootId;
use super::commit::{Kept, Log, Start};
use super::disk::{Disk, RealDisk, Site, create_dir, open_rw, replace_file, sync_dir};
use super::error::JournalError;
use super::frame::FRAME_HEADER;
use super::handle::{Core, Journal};
use super::lock::{self, DirLock};
use super::marks::Marks;
use super::poison::{self, Fatal, OnFatal};
use super::reader::{Plan, Replay, TornTail, Trust, Visit, replay};
use super::segment::{self, Header, Listed, SEGMENT_HEADER};
use super::snapshot;
use super::sync_slot::{self, SyncSlot};
use super::writer::{Item, Pending, Writer};
use crate::limits;

/// Smallest segment: for tests.
const SEGMENT_BYTES_MIN: u64 = 256;

/// How a journal is opened.
#[derive(Clone)]
pub struct Options {
    /// Length of new segments.
    pub segment_bytes: u64,
    /// Longest time that a written frame stays unsynced.
    pub commit_idle: Duration,
    /// Positions of the mark file: the sum of all credits. The file grows to it and never shrinks.
    pub mark_positions: u32,
    /// The operator says that the directory is a copy: marks and sync slot of old segments are not believed.
    pub restored: bool,
    /// How often a journal without space tries again.
    pub no_space_retry: Duration,
    /// The kernel's boot id; tests set their own.
    pub boot: BootId,
    pub disk: Arc<dyn Disk>,
    /// Called when a sync failed and the poison is written. The default aborts the process.
    pub on_fatal: OnFatal,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: limits::SEGMENT_BYTES,
            commit_idle: limits::COMMIT_IDLE,
            mark_positions: u32::try_from(limits::CREDITS_BATCHES_DEFAULT * limits::BATCH_CONTACTS_MAX)
                .unwrap_or(u32::MAX),
            restored: false,
            no_space_retry: limits::NO_SPACE_RETRY,
            boot: BootId::current(),
            disk: Arc::new(RealDisk),
            on_fatal: poison::abort(),
        }
    }
}

impl Options {
    /// Replaces the abort after a failed sync; for tests.
    pub fn on_fatal(mut self, hook: impl Fn(&Fatal) + Send + Sync + 'static) -> Options {
        self.on_fatal = Arc::new(hook);
        self
    }

    fn check(&self) -> Result<(), JournalError> {
        let in_range = |name, value: u64, min, max| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(JournalError::Option { name, min, max }),
        };
        in_range("segment_bytes", self.segment_bytes, SEGMENT_BYTES_MIN, limits::JOURNAL_SEGMENT_BYTES_MAX)?;
        in_range("mark_positions", u64::from(self.mark_positions), 1, u64::from(limits::MARK_POSITIONS_MAX))
    }

    fn payload_max(&self) -> usize {
        let room = self.segment_bytes - (SEGMENT_HEADER + FRAME_HEADER) as u64;
        usize::try_from(room).unwrap_or(usize::MAX).min(limits::FRAME_BYTES_MAX)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("segment_bytes", &self.segment_bytes)
            .field("commit_idle", &self.commit_idle)
            .field("mark_positions", &self.mark_positions)
            .field("restored", &self.restored)
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

/// An open journal. The caller now settles what was claimed, flushes, and calls [`Marks::zero`].
#[derive(Debug)]
pub struct Opened {
    pub journal: Journal,
    /// As the last process left them.
    pub marks: Marks,
    pub report: OpenReport,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// There was no journal before.
    pub fresh: bool,
    /// Opened with [`Options::restored`].
    pub restored: bool,
    /// Frames given to the visitor, and the bytes of their payloads.
    pub frames: u64,
    pub bytes: u64,
    /// Segments read.
    pub segments: usize,
    /// Number of the last frame; the next one submitted has one more.
    pub last_seq: u64,
    /// What was cut off.
    pub torn_tail: Option<TornTail>,
    /// Segments up to this id were poisoned; 0: none.
    pub poisoned_through: u64,
    pub duration: Duration,
}

impl OpenReport {
    fn of(replay: Replay, fresh: bool, restored: bool, poisoned_through: u64) -> OpenReport {
        OpenReport {
            fresh,
            restored,
            frames: replay.frames,
            bytes: replay.payload_bytes,
            segments: replay.segments.len(),
            last_seq: replay.last_seq,
            torn_tail: replay.tail,
            poisoned_through,
            duration: Duration::ZERO,
        }
    }
}

impl Journal {
    /// Opens the journal of the data directory `dir`, making what is missing. `visit` gets the snapshot and then every frame
    /// after it, in order.
    ///
    /// # Errors
    /// `Locked`, `Copied`, `Damaged`, `Version`, `NoSpace`, `Option`, `Visit`, `Io`. Nothing was forgotten then: a start
    /// after the cause is removed finds all.
    pub fn open(dir: &Path, options: &Options, visit: &mut Visit<'_>) -> Result<Opened, JournalError> {
        let began = Instant::now();
        options.check()?;
        let disk = &*options.disk;
        let folder = dir.join(FOLDER);
        if !folder.is_dir() {
            create_dir(&folder)?;
            sync_dir(disk, dir)?;
        }
        let lock = DirLock::take(dir)?;
        let old = segment::list(&folder)?;
        let fresh = admit(dir, &folder, &lock, options, old.is_empty())?;
        remove_temporary(&folder)?;
        let newest = old.last().map_or(0, |listed| listed.id);
        let recovered = Arc::new(AtomicBool::new(false));
        let marks = Marks::open(disk, &folder, options.mark_positions, newest, recovered.clone())?;
        let poisoned_through = poisoned(&folder, options, &marks, newest)?;
        secure(&old, options, &folder, poisoned_through)?;
        let slot = if options.restored { 0 } else { sync_slot::read(&folder) };
        let trust = Trust { kernel: options.boot, poisoned_through };
        let snapshot = snapshot::read_newest(&folder)?;
        let base = snapshot.as_ref().map_or(0, |stored| stored.seq);
        let snapshot_age = snapshot.as_ref().and_then(snapshot::Stored::age);
        let replay = replay(&Plan { folder: &folder, trust, slot, snapshot, segments: &old }, visit)?;
        cut(disk, replay.tail.as_ref())?;
        let header = Header {
            id: newest.max(poisoned_through) + 1,
            boot: options.boot,
            first_seq: replay.last_seq + 1,
            bytes: options.segment_bytes,
        };
        let file = begin(disk, &folder, &header)?;
        let mut slot = SyncSlot::open(&folder)?;
        slot.reset(disk, replay.last_seq)?;
        if options.restored {
            lock::record(disk, &folder, &lock.identity(dir)?)?;
        }
        let kept = tidy(&folder, &replay, base, &header, poisoned_through)?;
        let mut report = OpenReport::of(replay, fresh, options.restored, poisoned_through);
        let (queue, queued) = bounded(limits::JOURNAL_QUEUE_MAX);
        let core = Core::new(folder, options.disk.clone(), options.boot, report.last_seq, recovered, kept, queue);
        if let Some(age) = snapshot_age {
            core.counters.found_snapshot(age);
        }
        let journal = start(Arc::new(core), queued, options, lock, slot, file, marks.clone())?;
        report.duration = began.elapsed();
        Ok(Opened { journal, marks, report })
    }
}

/// Whether the directory may be opened, and whether it is new. A copy may not, unless the operator says so.
fn admit(
    dir: &Path,
    folder: &Path,
    lock: &DirLock,
    options: &Options,
    no_segments: bool,
) -> Result<bool, JournalError> {
    let identity = lock.identity(dir)?;
    match lock::recorded(folder)? {
        Some(recorded) if recorded == identity.as_bytes() => Ok(no_segments),
        // The identity is written before the first segment, so without one there was never a journal.
        None if no_segments => lock::record(&*options.disk, folder, &identity).map(|()| true),
        _ if options.restored => Ok(false),
        _ => Err(JournalError::Copied { dir: dir.to_owned() }),
    }
}

fn remove_temporary(folder: &Path) -> Result<(), JournalError> {
    for entry in std::fs::read_dir(folder).map_err(|e| JournalError::io("list", folder, e))? {
        let path = entry.map_err(|e| JournalError::io("list", folder, e))?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            std::fs::remove_file(&path).map_err(|e| JournalError::io("remove", &path, e))?;
        }
    }
    Ok(())
}

/// The last segment whose page cache and marks are not believed.
fn poisoned(folder: &Path, options: &Options, marks: &Marks, newest: u64) -> Result<u64, JournalError> {
    if options.restored && newest > 0 {
        poison::write(&*options.disk, folder, newest)?;
        marks.poison_through(newest);
    }
    Ok(poison::read(folder, newest)?.max(marks.poisoned_through()))
}

/// Puts on the disk what the page cache holds of old segments. The one whose sync failed goes into a new file: its pages may
/// be marked clean without having been written.
fn secure(old: &[Listed], options: &Options, folder: &Path, poisoned_through: u64) -> Result<(), JournalError> {
    for listed in old {
        if listed.id == poisoned_through && !options.restored {
            let bytes = std::fs::read(&listed.path).map_err(|e| JournalError::io("read", &listed.path, e))?;
            let name = listed.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            replace_file(&*options.disk, Site::Segment, folder, name, &[&bytes])?;
            continue;
        }
        let file = open_rw(&listed.path)?;
        options.disk.sync(Site::Segment, &file).map_err(|e| JournalError::io("sync", &listed.path, e))?;
    }
    Ok(())
}

fn cut(disk: &dyn Disk, tail: Option<&TornTail>) -> Result<(), JournalError> {
    let Some(tail) = tail else { return Ok(()) };
    tracing::warn!(path = %tail.path.display(), offset = tail.offset, bytes = tail.bytes, "a torn tail is cut off");
    let file = open_rw(&tail.path)?;
    let zeros = vec![0; usize::try_from(tail.bytes).unwrap_or(0)];
    disk.write_at(Site::Segment, &file, &zeros, tail.offset).map_err(|e| JournalError::io("write", &tail.path, e))?;
    disk.sync(Site::Segment, &file).map_err(|e| JournalError::io("sync", &tail.path, e))
}

fn begin(disk: &dyn Disk, folder: &Path, header: &Header) -> Result<File, JournalError> {
    if !segment::ahead_is_fit(folder, header.bytes)? {
        segment::make_ahead(disk, folder, header.bytes, &AtomicBool::new(false))?;
    }
    segment::adopt_ahead(disk, folder, header)
}

/// Removes what is not needed any more; what is left, the new segment last.
fn tidy(
    folder: &Path,
    replay: &Replay,
    base: u64,
    new: &Header,
    poisoned_through: u64,
) -> Result<Vec<Kept>, JournalError> {
    let empty = replay.segments.iter().filter(|read| read.frames == 0).map(|read| &read.path);
    for path in replay.unneeded.iter().chain(empty) {
        std::fs::remove_file(path).map_err(|e| JournalError::io("remove", path, e))?;
    }
    snapshot::drop_older(folder, base)?;
    let held = replay.segments.iter().filter(|read| read.frames > 0);
    let mut kept: Vec<Kept> =
        held.map(|read| Kept { id: read.id, first_seq: read.first_seq, path: read.path.clone() }).collect();
    kept.push(Kept { id: new.id, first_seq: new.first_seq, path: segment::path_of(folder, new.id) });
    poison::clear(folder, poisoned_through, kept[0].id);
    Ok(kept)
}

fn start(
    core: Arc<Core>,
    queued: Receiver<Item>,
    options: &Options,
    lock: DirLock,
    slot: SyncSlot,
    file: File,
    marks: Marks,
) -> Result<Journal, JournalError> {
    let folder: PathBuf = core.folder.clone();
    let kept = core.segments.lock().last().cloned().ok_or(JournalError::Failed)?;
    let ahead = Ahead::new(options.disk.clone(), folder.clone(), options.segment_bytes, options.no_space_retry, false);
    let start = Start {
        disk: options.disk.clone(),
        boot: options.boot,
        slot,
        ahead,
        file,
        kept,
        segment_bytes: options.segment_bytes,
    };
    let writer = Writer {
        core: core.clone(),
        log: Log::new(core.clone(), start),
        queue: queued,
        marks,
        on_fatal: options.on_fatal.clone(),
        commit_idle: options.commit_idle,
        retry: options.no_space_retry,
        state: Pending::default(),
    };
    let thread = std::thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || writer.run())
        .map_err(|e| JournalError::io("start a thread for", &folder, e))?;
    Ok(Journal::assemble(core, options.payload_max(), lock, thread))
}
