//! The open segment: stage, write, sync, and go on to the next.
//!
//! Owner: the journal thread. Decides nothing about when; [`writer`](super::writer) does.
//!
//! Invariants: JN-C1 staged bytes stay staged until they are written whole, so a write that met a full disk is repeated at
//! the same place. JN-C2 no segment gets a frame before the one before it is synced.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::ahead::Ahead;
use super::boot::BootId;
use super::disk::{Disk, Site};
use super::error::{JournalError, is_no_space};
use super::frame::{FRAME_HEADER, encode};
use super::handle::Core;
use super::segment::{Header, SEGMENT_HEADER, adopt_ahead, path_of};
use super::sync_slot::SyncSlot;

/// A segment on disk, for dropping it once a snapshot covers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub id: u64,
    pub first_seq: u64,
    pub path: PathBuf,
}

/// Why the journal stands still.
#[derive(Debug)]
pub(super) enum Stall {
    /// Goes away by itself; everything stays queued.
    NoSpace { needed_bytes: u64 },
    /// The process must end.
    Fatal(JournalError),
}

impl From<JournalError> for Stall {
    fn from(error: JournalError) -> Stall {
        match error {
            JournalError::NoSpace { needed_bytes, .. } => Stall::NoSpace { needed_bytes },
            error => Stall::Fatal(error),
        }
    }
}

pub(super) struct Log {
    core: Arc<Core>,
    disk: Arc<dyn Disk>,
    boot: BootId,
    slot: SyncSlot,
    ahead: Ahead,
    file: File,
    path: PathBuf,
    id: u64,
    /// Where the next write goes.
    offset: u64,
    segment_bytes: u64,
    staged: Vec<u8>,
    staged_frames: u64,
    staged_seq: u64,
    /// Written since the last sync.
    unsynced_frames: u64,
}

/// What a log starts with.
pub(super) struct Start {
    pub disk: Arc<dyn Disk>,
    pub boot: BootId,
    pub slot: SyncSlot,
    pub ahead: Ahead,
    pub file: File,
    pub kept: Kept,
    pub segment_bytes: u64,
}

impl Log {
    pub(super) fn new(core: Arc<Core>, start: Start) -> Log {
        Log {
            core,
            disk: start.disk,
            boot: start.boot,
            slot: start.slot,
            ahead: start.ahead,
            file: start.file,
            path: start.kept.path,
            id: start.kept.id,
            offset: SEGMENT_HEADER as u64,
            segment_bytes: start.segment_bytes,
            staged: Vec::new(),
            staged_frames: 0,
            staged_seq: start.kept.first_seq.saturating_sub(1),
            unsynced_frames: 0,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn staged_bytes(&self) -> usize {
        self.staged.len()
    }

    pub(super) fn ahead(&mut self) -> &mut Ahead {
        &mut self.ahead
    }

    pub(super) fn fits(&self, payload: usize) -> bool {
        self.offset + (self.staged.len() + FRAME_HEADER + payload) as u64 <= self.segment_bytes
    }

    pub(super) fn stage(&mut self, seq: u64, kind: u8, payload: &[u8]) {
        let durable = self.core.durable.load(Ordering::Relaxed);
        encode(&mut self.staged, self.id, kind, seq, durable, payload);
        self.staged_frames += 1;
        self.staged_seq = seq;
    }

    /// Writes what is staged; afterwards it survives a kill.
    pub(super) fn write(&mut self) -> Result<(), Stall> {
        if self.staged.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.disk.write_at(Site::Segment, &self.file, &self.staged, self.offset) {
            if is_no_space(&error) {
                return Err(Stall::NoSpace { needed_bytes: self.staged.len() as u64 });
            }
            return Err(Stall::Fatal(JournalError::io("write", &self.path, error)));
        }
        self.offset += self.staged.len() as u64;
        self.unsynced_frames += self.staged_frames;
        self.core.counters.frames.fetch_add(self.staged_frames, Ordering::Relaxed);
        self.core.counters.bytes.fetch_add(self.staged.len() as u64, Ordering::Relaxed);
        self.core.written.store(self.staged_seq, Ordering::Release);
        self.staged.clear();
        self.staged.shrink_to(crate::limits::JOURNAL_WRITE_BYTES);
        self.staged_frames = 0;
        if self.offset * 2 >= self.segment_bytes {
            self.ahead.request();
        }
        Ok(())
    }

    /// Makes all that is written durable. A failure is the end.
    pub(super) fn sync(&mut self) -> Result<(), Stall> {
        if self.unsynced_frames == 0 {
            return Ok(());
        }
        let began = Instant::now();
        self.disk.sync(Site::Segment, &self.file).map_err(|e| Stall::Fatal(JournalError::io("sync", &self.path, e)))?;
        self.core.counters.commit(began.elapsed(), self.unsynced_frames);
        self.unsynced_frames = 0;
        let durable = self.core.written.load(Ordering::Relaxed);
        self.core.durable.store(durable, Ordering::Release);
        if !self.slot.write(&*self.disk, durable) {
            self.core.counters.slot_failures.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Opens the next segment, whose first frame is `first_seq`. Everything before is written and synced.
    pub(super) fn rotate(&mut self, first_seq: u64) -> Result<(), Stall> {
        self.ahead.take()?;
        let header = Header { id: self.id + 1, boot: self.boot, first_seq, bytes: self.segment_bytes };
        self.file = adopt_ahead(&*self.disk, &self.core.folder, &header)?;
        self.ahead.adopted();
        self.id = header.id;
        self.path = path_of(&self.core.folder, header.id);
        self.offset = SEGMENT_HEADER as u64;
        self.core.segments.lock().push(Kept { id: self.id, first_seq, path: self.path.clone() });
        Ok(())
    }
}
