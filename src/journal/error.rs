//! What can go wrong with the journal, with file and offset.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why bytes are not what the format demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    #[error("the magic number is wrong")]
    Magic,
    #[error("the checksum of the header is wrong")]
    HeaderChecksum,
    #[error("the header names segment {found}, the file name another")]
    SegmentId { found: u64 },
    #[error("the file has {found} bytes instead of {expected}")]
    FileLength { found: u64, expected: u64 },
    #[error("a frame gives its length as {found} bytes")]
    FrameLength { found: u64 },
    #[error("the checksum of a frame is wrong")]
    FrameChecksum,
    #[error("a frame has number {found} where {expected} is due")]
    FrameSequence { found: u64, expected: u64 },
    #[error("the journal ends at frame {last}, but frame {durable} is known to have been durable")]
    EndsEarly { last: u64, durable: u64 },
    #[error("the frames between {after} and {found} are missing")]
    Gap { after: u64, found: u64 },
    #[error("there is a snapshot and no segment")]
    NoSegment,
    #[error("the checksum of the snapshot is wrong")]
    SnapshotChecksum,
}

/// Errors of the journal.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("no space for {}: {needed_bytes} bytes are needed; free some and start again", path.display())]
    NoSpace { path: PathBuf, needed_bytes: u64 },
    #[error("the data directory {} is in use by another process", dir.display())]
    Locked { dir: PathBuf },
    #[error(
        "the data directory {} was copied or restored, so what was sent since is not known; start with --restored to hold its running campaigns for review",
        dir.display()
    )]
    Copied { dir: PathBuf },
    #[error("{} has format version {found}, this program reads {supported}; use the version that wrote it", path.display())]
    Version { path: PathBuf, found: u32, supported: u32 },
    /// Nothing was changed: forgetting what follows could send twice.
    #[error("{} is damaged at byte {offset}: {what}; restore it from a copy and start with --restored", path.display())]
    Damaged { path: PathBuf, offset: u64, what: Damage },
    #[error("the option {name} is out of its range of {min} to {max}")]
    Option { name: &'static str, min: u64, max: u64 },
    #[error("frame {seq} was refused by its reader")]
    Visit { seq: u64, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("a frame of {bytes} bytes exceeds the maximum of {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("a snapshot up to frame {seq} was asked for, but only {written} are written")]
    SnapshotAhead { seq: u64, written: u64 },
    #[error("no snapshot before recovery has ended and the marks are zeroed")]
    NotRecovered,
    #[error("the journal is closed")]
    Closed,
    #[error("the journal failed and the process must end")]
    Failed,
}

impl JournalError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> JournalError {
        JournalError::Io { action, path: path.to_owned(), source }
    }

    /// As [`JournalError::io`], telling lack of space apart.
    pub(super) fn write(action: &'static str, path: &Path, needed_bytes: u64, source: io::Error) -> JournalError {
        if is_no_space(&source) {
            return JournalError::NoSpace { path: path.to_owned(), needed_bytes };
        }
        JournalError::io(action, path, source)
    }

    pub(super) fn damaged(path: &Path, offset: u64, what: Damage) -> JournalError {
        JournalError::Damaged { path: path.to_owned(), offset, what }
    }
}

/// Whether an I/O error goes away by itself once there is space.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
