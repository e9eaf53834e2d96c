//! The journal: the one-send guarantee on disk. It stores frames of bytes, in order, and knows nothing of their meaning.
//!
//! Owner of the state: one thread (`writer`) owns the open segment; [`Marks`] are owned by the rows' claim. Everyone
//! else holds a [`Journal`] handle and submits.
//!
//! What this folder must not know: what a frame's kind or payload means, runs, rows, channels, actors.
//!
//! # Files
//!
//! All under `journal/` in the data directory but the first. Integers are little-endian. Every checksum is CRC-32C.
//!
//! | file | what | format |
//! |---|---|---|
//! | `identity` | which directory this is | text: inode and birth time of the data directory (`lock`) |
//! | `segment-<id>` | frames | header, frames, zeros to the end (`segment`, `frame`) |
//! | `ahead` | the segment after the current one | zeros; becomes a segment by header, fsync, rename |
//! | `snapshot-<seq>` | folded state up to a frame | `snapshot` |
//! | `sync` | the sync slot | two records, written in turn (`sync_slot`) |
//! | `marks` | a byte per claimed position | `marks` |
//! | `poisoned` | segments whose fsync failed, or that were restored | text (`poison`) |
//! | `*.tmp` | a file that was being made | removed at the next start |
//!
//! **Segment** (`SEGMENT_BYTES`, written full of zeros when it is made, so that a frame never allocates):
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ESTAFJNL` |
//! | 8 | 4 | format version, [`FORMAT_VERSION`] |
//! | 12 | 4 | checksum of the header with this field zero |
//! | 16 | 8 | segment id, larger than any before |
//! | 24 | 16 | kernel boot id of the process that opened it |
//! | 40 | 8 | sequence number of its first frame |
//! | 48 | 8 | length of the file, bytes |
//! | 56 | 8 | zero |
//! | 64 | | frames, back to back, then zeros |
//!
//! **Frame**: 25 bytes and the payload.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | length of the payload, at most `FRAME_BYTES_MAX` |
//! | 4 | 4 | checksum of: segment id (8 bytes), the length, the bytes from offset 8 on |
//! | 8 | 1 | kind |
//! | 9 | 8 | sequence number: 1 for the first frame ever, then one more each |
//! | 17 | 8 | the durable sequence number known when it was written |
//! | 25 | | payload |
//!
//! # Order
//!
//! While running:
//!
//! 1. The thread drains the queue, encodes, and writes all in one `pwrite`. Then `written` is told.
//! 2. One `fdatasync`, if someone asked for it or the oldest unsynced frame is `commit_idle` old. Then the sync slot is
//!    written (best effort, never waited for), then `durable` is told.
//! 3. A frame that does not fit begins the next segment: `fdatasync` of the full one; header into `ahead`; `fsync`; rename;
//!    `fsync` of the directory; only then its first frame.
//! 4. A snapshot up to n: frames up to n are made durable; write `.tmp`; `fsync`; rename; `fsync` of the directory; only then
//!    older snapshots and segments that hold no frame after n are removed.
//!
//! At start, repeatable at every step:
//!
//! 1. `flock` on the data directory; its identity is compared.
//! 2. A restored start writes `poisoned` over every segment. A segment whose `fsync` had failed is rewritten into a new
//!    file, because the page cache may hold what the disk does not.
//! 3. `fsync` of every old segment, in order.
//! 4. The snapshot, then the frames after it, go to the visitor.
//! 5. A torn tail is zeroed and `fsync`ed.
//! 6. The new segment is made (header, `fsync`, rename, `fsync` of the directory); the sync slot names what is durable; the
//!    identity is written if it was new.
//! 7. The caller turns unsettled claims into frames, calls [`Journal::flush`], then [`Marks::zero`], and only then
//!    grants. [`Journal::write_snapshot`] refuses before that.
//!
//! # Torn tail or corruption
//!
//! A *bad* frame is one whose length, checksum or sequence number is wrong where something other than zeros stands. It is
//! *incomplete* if it reaches into the run of zeros that lasts to the segment's end and no valid frame follows. A length that
//! no writer writes (above the maximum, or past the segment's end) reaches nowhere: such a frame is never incomplete.
//! *Known durable* is the largest number that a snapshot, the sync slot or any valid frame names (frames after the bad one
//! included). *Trusted* is a segment whose boot id is the kernel's and that is not poisoned.
//!
//! | the bad frame | verdict |
//! |---|---|
//! | is not in the newest segment | refuse |
//! | would have a number ≤ known durable | refuse |
//! | is incomplete | cut: zero from it to the end |
//! | else, in a trusted segment | refuse: a kill leaves a prefix, never this |
//! | else | cut: a power loss may do this, and nobody was told that it was durable |
//!
//! A journal that ends, cleanly or cut, before what is known durable is refused as well. A flip that makes a frame which
//! nobody names as durable look incomplete cannot be told from a torn write; that one case is outside the promise.
//!
//! # Media
//!
//! - JN-M1 A local file system. After `fdatasync` returned, bytes survive a power loss; before, any part of them may.
//! - JN-M2 After a kill the page cache survives: bytes are seen in the order in which they were written.
//! - JN-M3 `rename` replaces whole; it survives a power loss after `fsync` of the directory.
//! - JN-M4 A failed `fsync` says nothing about the pages and is never repeated: the process ends (`poison`).
//!
//! # Invariants
//!
//! - JN-1 Frames are on disk in the order of their sequence numbers, without a gap.
//! - JN-2 `durable` of n is told only after an `fdatasync` that began after n was written.
//! - JN-3 Only the newest segment can have a bad frame.
//! - JN-4 A position of the mark file changes hands by compare-exchange only (`race`).
//! - JN-5 Nothing is allocated beyond the bytes that a file has.

mod ahead;
mod backup;
mod boot;
mod check;
mod commit;
mod disk;
mod error;
mod frame;
mod handle;
mod lock;
mod marks;
mod poison;
mod race;
mod reader;
mod recover;
mod segment;
mod snapshot;
mod stats;
mod sync_slot;
mod writer;

pub use backup::{Cut, Held, StoppedLock, copy_stopped, ends_at, lock_stopped};
pub use boot::BootId;
pub use check::{CheckReport, Finding, SegmentReport, check, check_with};
pub use disk::{Disk, RealDisk, Site};
pub use error::{Damage, JournalError};
pub use handle::{Journal, Status, Urgency, Want};
pub use marks::{MarkState, Marks};
pub use poison::Fatal;
pub use reader::{Frame, Replayed, Snapshot, TornTail, Visit, VisitError, fuzz_open};
pub use recover::{OpenReport, Opened, Options};
pub use snapshot::fuzz_snapshot;
pub use stats::{Histogram, Stats};

/// Version of everything under `journal/`; another one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Folder of the journal's files inside the data directory.
pub const FOLDER: &str = "journal";

#[cfg(test)]
mod tests;
