//! Backups: a consistent copy of a data directory, made while a server runs on it or while none does, and restored
//! elsewhere.
//!
//! Owns the list of the backups that this process has made or makes, and the thread that makes one; a backup itself
//! belongs to whoever asked for it. Must not know HTTP.
//!
//! # What is consistent, and why
//!
//! A data directory is a journal, stores beside it, and files. The engine recovers from a power loss at *any* moment,
//! so a copy is good if it is what a power loss at **one** moment would have left, everything that was told as
//! durable included. What has to be of one moment, and how it is made so:
//!
//! 1. *Journal and contact store.* Whatever writes both does so in one of two orders: the store first, then the fact
//!    (a new contact, a chunk of an import), or the fact first, then the store (an erasure, the history of a
//!    consent). Between the two a crash is repaired at start. So the store's moment and the journal's cut must be
//!    such that no step lies between them: the store's *writer* is held while LMDB's copy begins its read transaction
//!    (microseconds later), and while the journal is made durable and cut. Facts that need no store, claims and
//!    outcomes above all, go on meanwhile; those up to the cut are in. Since nobody wrote the store between its
//!    moment and the cut, every fact in the copy finds the store that it presupposes, and every change in the copied
//!    store that a fact had to precede has it.
//! 2. *Histories of consent* are written behind: a snapshot replaces frames only when the store has what they say.
//!    The snapshot in the copy is from before the store's moment, and the frames after it are in the copy, too. A
//!    start replays them and writes no entry twice.
//! 3. *Imports.* A ticket says *finished* when all chunks are in store and journal, and its upload goes then. Tickets
//!    change under one lock, which is held over the same moment: they are copied there, and the uploads of unfinished
//!    ones are opened there and copied after, which their removal does not disturb. A chunk that is in the store and
//!    has no fact yet is given again at the start: facts of chunks are counted, and none counts twice. Rejected rows
//!    may be longer than the store says; they are cut to it when the import goes on.
//! 4. *Uploaded audiences* are written before their fact and never changed. They are removed after a fact; so
//!    removals wait (they are refused) from before the cut until all are copied. One that was uploaded after the cut
//!    has no fact in the copy and is removed at the start, as after a crash.
//! 5. *Keys* (`tokens.key`, `admin.key`) and `version` do not change while a server runs.
//!
//! Left out on purpose: mark file and sync slot, which are of one boot and one moment (claims that were open at the cut
//! are unknown in a restored directory); the identity, so that the copy is refused without `--restored`; addresses of
//! listeners; answers to idempotency keys, which would answer for what the copy does not hold.
//!
//! # After the moment
//!
//! The old server goes on after the cut and sends, and the copy does not know to whom. Nothing in the copy can tell,
//! so a restored start says so instead of guessing ([`ledger::restored`](crate::ledger::restored)): live runs are
//! paused, schedules too; every row that could have been sent since (pending at its send, or deferred) is *unknown*,
//! and so in strict mode handed over again by a person's word only, row by row or all at once. `backup.json` in the
//! directory is what tells a restored backup from a directory that was only moved, whose runs are held as well, but
//! not doubted. It is renamed when all that is durable.
//!
//! # Steps, and what a kill leaves
//!
//! Everything is written into a folder beside the target, each file synced, the manifest last, then renamed. A kill
//! leaves the folder under its other name, and the next backup or restore to the same target begins it anew.

mod files;
pub mod manifest;
mod online;
mod stopped;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::actors::book::CommitError;
use crate::clock::Timestamp;
use crate::contacts::ContactsError;
use crate::engine::Engine;
use crate::engine::imports::is_full;
use crate::engine::layout::LayoutError;
use crate::journal::JournalError;
use crate::limits::BACKUPS_KEPT;
pub use manifest::Manifest;
pub use stopped::{make_stopped, restore};

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("can't {what} {path}", path = .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} {reason}", path = .path.display())]
    Target { path: PathBuf, reason: &'static str },
    #[error("{path} needs up to {needed} bytes, and {free} are free there: nothing was begun", path = .path.display())]
    NoRoom { path: PathBuf, needed: u64, free: u64 },
    #[error("backup {id} is being made: wait for its end")]
    Running { id: u32 },
    #[error("the server is shutting down")]
    Stopping,
    #[error("no backup has the number {id}: a server remembers its last {BACKUPS_KEPT}, until it ends")]
    Unknown { id: u32 },
    #[error("{path} can't be read: {why}", path = .path.display())]
    Manifest { path: PathBuf, why: String },
    #[error("{path} is no backup: it has no {FILE}", path = .path.display(), FILE = manifest::FILE)]
    NoBackup { path: PathBuf },
    #[error("the backup is damaged: {file} {what}; nothing was restored")]
    Damaged { file: String, what: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Contacts(#[from] ContactsError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the system's random source failed")]
    Random,
    #[error("the thread of the backup ended by a fault")]
    Fault,
}

impl BackupError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> BackupError {
        BackupError::Io { what, path: path.to_owned(), source }
    }

    pub fn is_full_disk(&self) -> bool {
        match self {
            BackupError::NoRoom { .. } => true,
            BackupError::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            BackupError::Journal(JournalError::NoSpace { .. }) | BackupError::Commit(CommitError::NoSpace) => true,
            BackupError::Contacts(ContactsError::Store { source, .. }) => is_full(source),
            _ => false,
        }
    }
}

/// Where a backup stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupState {
    Running,
    Finished(Box<Finished>),
    /// Why, with its causes; what was copied is gone or goes with the next backup to the same place.
    Failed(String),
}

/// What a finished backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub backup: String,
    pub last_seq: u64,
    pub bytes: u64,
    pub files: usize,
    pub at: Timestamp,
}

impl Finished {
    fn of(manifest: &Manifest, at: Timestamp) -> Finished {
        let (bytes, files) = (manifest.bytes(), manifest.files.len());
        Finished { backup: manifest.id.clone(), last_seq: manifest.last_seq, bytes, files, at }
    }
}

/// One backup, as this process knows it.
#[derive(Clone, Debug)]
pub struct BackupStatus {
    pub id: u32,
    pub folder: PathBuf,
    pub started_at: Timestamp,
    pub state: BackupState,
    progress: Arc<Progress>,
}

impl BackupStatus {
    /// Bytes that are copied and checked, and how many there are at most: each is written, then read.
    pub fn progress(&self) -> (u64, u64) {
        self.progress.look()
    }
}

/// How far a backup is; anybody may look.
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    done: AtomicU64,
    /// A file that LMDB writes; its length counts.
    growing: Mutex<Option<PathBuf>>,
}

impl Progress {
    fn foresee(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn grows(&self, file: Option<PathBuf>) {
        *self.growing.lock() = file;
    }

    fn look(&self) -> (u64, u64) {
        let growing = self.growing.lock().as_ref().and_then(|path| path.metadata().ok()).map_or(0, |m| m.len());
        let done = self.done.load(Ordering::Relaxed).saturating_add(growing);
        (done, self.total.load(Ordering::Relaxed).max(done))
    }
}

/// The backups of a running engine.
#[derive(Default)]
pub struct Backups {
    known: Mutex<VecDeque<BackupStatus>>,
    busy: AtomicBool,
    /// When the last one ended well, milliseconds since the epoch; 0: none in this process.
    last: AtomicU64,
}

impl Backups {
    /// Newest first.
    pub fn list(&self) -> Vec<BackupStatus> {
        self.known.lock().iter().rev().cloned().collect()
    }

    pub fn get(&self, id: u32) -> Result<BackupStatus, BackupError> {
        self.known.lock().iter().find(|status| status.id == id).cloned().ok_or(BackupError::Unknown { id })
    }

    /// When the last one ended well.
    pub fn last(&self) -> Option<Timestamp> {
        let at = i64::try_from(self.last.load(Ordering::Relaxed)).unwrap_or(0);
        (at > 0).then_some(Timestamp(at))
    }

    fn begin(&self, folder: &Path, at: Timestamp) -> Result<(u32, Arc<Progress>), BackupError> {
        let mut known = self.known.lock();
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(BackupError::Running { id: known.back().map_or(0, |status| status.id) });
        }
        let id = known.back().map_or(1, |status| status.id + 1);
        let progress = Arc::new(Progress::default());
        let (folder, state) = (folder.to_owned(), BackupState::Running);
        known.push_back(BackupStatus { id, folder, started_at: at, state, progress: Arc::clone(&progress) });
        while known.len() > BACKUPS_KEPT {
            known.pop_front();
        }
        Ok((id, progress))
    }

    fn end(&self, id: u32, state: BackupState) {
        if let BackupState::Finished(finished) = &state {
            self.last.store(u64::try_from(finished.at.0).unwrap_or(0), Ordering::Relaxed);
        }
        if let Some(status) = self.known.lock().iter_mut().find(|status| status.id == id) {
            status.state = state;
        }
        self.busy.store(false, Ordering::Release);
    }
}

impl Engine {
    /// Begins a backup into the folder `target`, which must not be there, on a thread of its own. Its number.
    pub fn start_backup(self: &Arc<Engine>, target: &Path) -> Result<u32, BackupError> {
        if self.is_draining() {
            return Err(BackupError::Stopping);
        }
        files::may_be_made(target, &self.options.directory)?;
        files::has_room(target, files::bytes_on_disk(&self.options.directory))?;
        if !self.book.has_space() {
            return Err(CommitError::NoSpace.into());
        }
        let (id, progress) = self.backups.begin(target, self.book.now())?;
        let (engine, folder) = (Arc::clone(self), target.to_owned());
        let body = move || {
            let unwound = Ending { backups: &engine.backups, id };
            let made = online::make(&engine, &folder, &progress);
            let state = match made {
                Ok(manifest) => {
                    let finished = Finished::of(&manifest, engine.book.now());
                    tracing::info!(backup = id, folder = %folder.display(), last_seq = finished.last_seq,
                        bytes = finished.bytes, "a backup was made");
                    BackupState::Finished(Box::new(finished))
                }
                Err(error) => {
                    let why = chain(&error);
                    tracing::error!(backup = id, folder = %folder.display(), error = why, "a backup was not made");
                    BackupState::Failed(why)
                }
            };
            unwound.with(state);
        };
        let spawned = std::thread::Builder::new().name("backup".to_owned()).spawn(body);
        if let Err(source) = spawned {
            let error = BackupError::io("start a thread for", target, source);
            self.backups.end(id, BackupState::Failed(chain(&error)));
            return Err(error);
        }
        Ok(id)
    }
}

/// Ends a backup in the list, also when its thread unwinds.
struct Ending<'b> {
    backups: &'b Backups,
    id: u32,
}

impl Ending<'_> {
    fn with(self, state: BackupState) {
        self.backups.end(self.id, state);
        std::mem::forget(self);
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.backups.end(self.id, BackupState::Failed(BackupError::Fault.to_string()));
    }
}

/// An error with its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
