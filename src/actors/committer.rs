//! CommitterActor: keeps the journal short and says when the disk is full. (The journal's own thread writes and syncs.)
//!
//! Owns no state but when it last did what. A snapshot is made on a thread of its own, so that nothing waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::{Actor, AsyncContext, Context};

use crate::actors::book::Book;
use crate::actors::stall::Stall;
use crate::journal::Status;
use crate::limits::{COMMITTER_TICK, DISK_FLOOR_BYTES, MAILBOX_MESSAGES, SNAPSHOT_AFTER_BYTES};

pub struct CommitterActor {
    book: Arc<Book>,
    snapshotting: Arc<AtomicBool>,
    bytes_at_snapshot: u64,
    directory: PathBuf,
    had_space: bool,
    stall: Stall,
}

impl CommitterActor {
    pub fn new(book: Arc<Book>, directory: PathBuf) -> CommitterActor {
        let bytes_at_snapshot = book.journal().stats().bytes;
        CommitterActor {
            book,
            snapshotting: Arc::new(AtomicBool::new(false)),
            bytes_at_snapshot,
            directory,
            had_space: true,
            stall: Stall::default(),
        }
    }

    /// What is left under the data directory; a file system that can't say is not judged.
    fn look_at_disk(&self) {
        if let Ok(stat) = rustix::fs::statvfs(&self.directory) {
            self.book.set_low_disk(stat.f_bavail.saturating_mul(stat.f_frsize) < DISK_FLOOR_BYTES);
        }
    }

    /// Whether the disk hangs: a sync that does not return is no error.
    fn look_at_journal(&mut self) {
        let (journal, now) = (self.book.journal(), self.book.clock().monotonic());
        let stalled = self.stall.look(journal.durable_seq(), journal.submitted_seq(), now);
        self.book.note_journal_stalled(stalled);
    }

    fn look(&mut self) {
        self.look_at_disk();
        self.look_at_journal();
        let has_space = self.book.has_space();
        if has_space != self.had_space {
            self.had_space = has_space;
            if has_space {
                tracing::info!("there is space again: campaigns go on");
            } else {
                tracing::error!(
                    status = ?self.book.journal().status(),
                    "the disk under the data directory is full: nothing is claimed until there is space; nothing is lost"
                );
            }
        }
        let bytes = self.book.journal().stats().bytes;
        let due = bytes.saturating_sub(self.bytes_at_snapshot) >= SNAPSHOT_AFTER_BYTES;
        if due && matches!(self.book.journal().status(), Status::Ok) && !self.snapshotting.swap(true, Ordering::AcqRel)
        {
            self.bytes_at_snapshot = bytes;
            self.make_snapshot();
        }
    }

    fn make_snapshot(&self) {
        let (book, busy) = (Arc::clone(&self.book), Arc::clone(&self.snapshotting));
        let made = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            match book.snapshot() {
                Ok(seq) => tracing::info!(seq, "snapshot written"),
                Err(error) => tracing::error!(%error, "no snapshot was written; the journal keeps all frames"),
            }
            busy.store(false, Ordering::Release);
        });
        if let Err(error) = made {
            tracing::error!(%error, "the snapshot thread can't be started");
            self.snapshotting.store(false, Ordering::Release);
        }
    }
}

impl Actor for CommitterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
        context.run_interval(COMMITTER_TICK, |actor, _| actor.look());
    }
}
