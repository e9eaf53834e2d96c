//! The mark file: one byte per claimed position, mapped, so that a mark costs no system call and survives a kill.
//!
//! Owner of a byte: the claim that names its position, from the claim's frame until the frame that ends it is written.
//! The protocol is in [`race`]; this file only finds the byte. Never synced while running: after a power loss it is not read.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ESTAFMRK` |
//! | 8 | 8 | last poisoned segment ([`poison`](super::poison)) |
//! | 16 | 8 | length of the file when it was made or last grown, bytes |
//! | 4096 | positions | the bytes |
//!
//! Invariants: JN-K1 the file is filled with zeros before it is mapped, so that no store meets a full disk. JN-K2 a file that
//! was missing, damaged or shorter than before is made anew with every old segment poisoned: a free byte means "not
//! sent" only where the byte was there all along. JN-K3 the file grows and never shrinks.
#![allow(unsafe_code, reason = "the mapped bytes are reached through a raw pointer; the argument stands at `Map`")]

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use memmap2::MmapRaw;

use super::disk::{Disk, Site, create, open_rw, sync_dir};
use super::error::JournalError;
use super::frame::u64_at;
use super::race;

const NAME: &str = "marks";
const MAGIC: &[u8; 8] = b"ESTAFMRK";
const HEADER: usize = 4096;
const POISON_OFFSET: usize = 8;
const LENGTH_OFFSET: usize = 16;
const FIELDS: usize = 24;

/// What a mark byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkState {
    /// Not handed over.
    Free,
    /// Taken back before it was handed over.
    Withdrawn,
    /// The last byte may have left.
    Marked,
    Accepted,
    Deferred,
    /// Marked, and no answer will come.
    Unknown,
    /// By class, which the journal does not interpret.
    Rejected(u8),
}

impl MarkState {
    fn to_byte(self) -> u8 {
        match self {
            MarkState::Free => race::FREE,
            MarkState::Withdrawn => race::WITHDRAWN,
            MarkState::Marked => race::MARKED,
            MarkState::Accepted => race::ACCEPTED,
            MarkState::Deferred => race::DEFERRED,
            MarkState::Unknown => race::UNKNOWN,
            MarkState::Rejected(class) => race::REJECTED.saturating_add(class),
        }
    }

    /// A byte that nobody writes means unknown: the state that never sends again by itself.
    fn from_byte(byte: u8) -> MarkState {
        match byte {
            race::FREE => MarkState::Free,
            race::WITHDRAWN => MarkState::Withdrawn,
            race::MARKED => MarkState::Marked,
            race::ACCEPTED => MarkState::Accepted,
            race::DEFERRED => MarkState::Deferred,
            race::REJECTED.. => MarkState::Rejected(byte - race::REJECTED),
            _ => MarkState::Unknown,
        }
    }
}

/// The mapping.
///
/// Safety argument, for every `unsafe` here: the mapping is shared, page-aligned, and lives as long as this value, which every
/// reference into it borrows. Its length was checked to be at least `HEADER + positions`, and the file is never made
/// shorter: the journal only grows it, before mapping, and the lock on the data directory keeps other journals out. The
/// bytes are touched as atomics only, never as plain memory, so there is no data race; `AtomicU8` has the layout of
/// `u8`, and the header's `AtomicU64` stands at a multiple of eight in a page-aligned mapping.
struct Map {
    map: MmapRaw,
    positions: u32,
    recovered: Arc<AtomicBool>,
}

impl Map {
    fn cell(&self, position: u32) -> Option<&AtomicU8> {
        if position >= self.positions {
            return None;
        }
        // SAFETY: in bounds by the check above and the length checked at opening; see `Map`.
        Some(unsafe { &*self.map.as_mut_ptr().add(HEADER + position as usize).cast::<AtomicU8>() })
    }

    fn poison(&self) -> &AtomicU64 {
        // SAFETY: inside the header page and aligned; see `Map`.
        unsafe { &*self.map.as_mut_ptr().add(POISON_OFFSET).cast::<AtomicU64>() }
    }
}

/// Handle to the mark file; clones share it.
#[derive(Clone)]
pub struct Marks {
    map: Arc<Map>,
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marks").field("positions", &self.map.positions).finish_non_exhaustive()
    }
}

impl Marks {
    /// Opens the file of `folder` with at least `positions`, its bytes kept; or makes it, with every segment up to
    /// `newest` poisoned. `recovered` turns true at [`Marks::zero`].
    pub(super) fn open(
        disk: &dyn Disk,
        folder: &Path,
        positions: u32,
        newest: u64,
        recovered: Arc<AtomicBool>,
    ) -> Result<Marks, JournalError> {
        let path = folder.join(NAME);
        let wanted = HEADER + positions as usize;
        let (file, held) = match existing(&path)? {
            Some(found) => found,
            None => (make(disk, folder, wanted, newest)?, wanted),
        };
        if held < wanted {
            fill(disk, &file, &path, held, wanted)?;
            let length = (wanted as u64).to_le_bytes();
            disk.write_at(Site::Marks, &file, &length, LENGTH_OFFSET as u64)
                .map_err(|e| JournalError::io("write", &path, e))?;
        }
        let map = MmapRaw::map_raw(&file).map_err(|e| JournalError::io("map", &path, e))?;
        let positions = u32::try_from(map.len().saturating_sub(HEADER)).unwrap_or(u32::MAX);
        Ok(Marks { map: Arc::new(Map { map, positions, recovered }) })
    }

    /// How many positions there are: `0..positions`.
    pub fn positions(&self) -> u32 {
        self.map.positions
    }

    /// free → marked, before the byte that completes a hand-over. `false`: the row was taken back, drop it.
    pub fn try_mark(&self, position: u32) -> bool {
        self.map.cell(position).is_some_and(race::try_mark)
    }

    /// free → withdrawn. Only where this is `true` may the row become pending again.
    pub fn try_withdraw(&self, position: u32) -> bool {
        self.map.cell(position).is_some_and(race::try_withdraw)
    }

    /// marked → `state`. `false`: somebody else ended it first, and their word counts.
    pub fn set_outcome(&self, position: u32, state: MarkState) -> bool {
        self.map.cell(position).is_some_and(|cell| race::set_outcome(cell, state.to_byte()))
    }

    /// Makes the position ready for another claim. Only after the frame that ends its claim is written, and before the next
    /// claim that names it is submitted.
    pub fn free(&self, position: u32) {
        if let Some(cell) = self.map.cell(position) {
            race::free(cell);
        }
    }

    /// What the byte says; unknown outside the file.
    pub fn get(&self, position: u32) -> MarkState {
        self.map.cell(position).map_or(MarkState::Unknown, |cell| MarkState::from_byte(race::Cell::load(cell)))
    }

    /// Frees every position: the end of recovery, after its frames are durable and before the first grant.
    pub fn zero(&self) {
        (0..self.map.positions).for_each(|position| self.free(position));
        self.map.recovered.store(true, Ordering::Release);
    }

    pub(super) fn poison_through(&self, segment: u64) {
        self.map.poison().fetch_max(segment.to_le(), Ordering::AcqRel);
    }

    pub(super) fn poisoned_through(&self) -> u64 {
        u64::from_le(self.map.poison().load(Ordering::Acquire))
    }
}

/// The file and its length, if it is there, has a header and is as long as it ever was.
fn existing(path: &Path) -> Result<Option<(File, usize)>, JournalError> {
    match open_rw(path) {
        Ok(file) => {
            let mut fields = [0; FIELDS];
            let length = file.metadata().map_err(|e| JournalError::io("read", path, e))?.len();
            let whole = length >= HEADER as u64
                && std::os::unix::fs::FileExt::read_exact_at(&file, &mut fields, 0).is_ok()
                && &fields[..8] == MAGIC
                && length >= u64_at(&fields, LENGTH_OFFSET);
            Ok(whole.then(|| (file, usize::try_from(length).unwrap_or(usize::MAX))))
        }
        Err(JournalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn make(disk: &dyn Disk, folder: &Path, bytes: usize, newest: u64) -> Result<File, JournalError> {
    let temporary = folder.join(format!("{NAME}.tmp"));
    let path = folder.join(NAME);
    let file = create(&temporary)?;
    fill(disk, &file, &temporary, 0, bytes)?;
    let mut header = [0; FIELDS];
    header[..8].copy_from_slice(MAGIC);
    header[POISON_OFFSET..LENGTH_OFFSET].copy_from_slice(&newest.to_le_bytes());
    header[LENGTH_OFFSET..].copy_from_slice(&(bytes as u64).to_le_bytes());
    disk.write_at(Site::Marks, &file, &header, 0).map_err(|e| JournalError::io("write", &temporary, e))?;
    disk.sync(Site::Marks, &file).map_err(|e| JournalError::io("sync", &temporary, e))?;
    disk.rename(Site::Marks, &temporary, &path).map_err(|e| JournalError::io("rename", &temporary, e))?;
    sync_dir(disk, folder)?;
    Ok(file)
}

/// Writes zeros from `from` to `to`: allocates, so that a store into the mapping cannot fail.
fn fill(disk: &dyn Disk, file: &File, path: &Path, from: usize, to: usize) -> Result<(), JournalError> {
    const PART: usize = 64 * 1024;
    let failed = |e| JournalError::write("write", path, (to - from) as u64, e);
    let mut offset = from;
    while offset < to {
        let part = (to - offset).min(PART);
        disk.write_at(Site::Marks, file, &vec![0; part], offset as u64).map_err(failed)?;
        offset += part;
    }
    disk.sync(Site::Marks, file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::RealDisk;

    fn open(dir: &Path, positions: u32, newest: u64) -> Marks {
        Marks::open(&RealDisk, dir, positions, newest, Arc::default()).expect("a mark file")
    }

    #[test]
    fn bytes_survive_reopening_and_growing() {
        let dir = tempfile::tempdir().expect("a folder");
        let marks = open(dir.path(), 10, 0);
        assert!(marks.try_mark(3) && marks.try_withdraw(4) && marks.try_mark(5), "free positions are taken");
        assert!(marks.set_outcome(5, MarkState::Rejected(2)), "a marked one ends");
        drop(marks);
        let marks = open(dir.path(), 9000, 0);
        assert_eq!(marks.positions(), 9000, "grown");
        let seen = [3, 4, 5, 6, 8999].map(|p| marks.get(p));
        let expected =
            [MarkState::Marked, MarkState::Withdrawn, MarkState::Rejected(2), MarkState::Free, MarkState::Free];
        assert_eq!(seen, expected, "bytes are kept and new ones free");
        drop(marks);
        assert_eq!(open(dir.path(), 5, 0).positions(), 9000, "it never shrinks");
    }

    #[test]
    fn a_position_outside_is_never_handed_over_nor_returned() {
        let dir = tempfile::tempdir().expect("a folder");
        let marks = open(dir.path(), 10, 0);
        assert!(!marks.try_mark(10) && !marks.try_withdraw(10), "outside, nothing is taken");
        assert_eq!(marks.get(10), MarkState::Unknown, "and nothing is known");
    }

    #[test]
    fn a_missing_or_damaged_file_poisons_what_came_before() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(open(dir.path(), 10, 6).poisoned_through(), 6, "a missing file vouches for nothing");
        assert_eq!(open(dir.path(), 10, 9).poisoned_through(), 6, "an old one keeps what it said");
        std::fs::write(dir.path().join(NAME), b"garbage").expect("damage");
        assert_eq!(open(dir.path(), 10, 9).poisoned_through(), 9, "a damaged one is made anew");
        let file = open_rw(&dir.path().join(NAME)).expect("the file");
        file.set_len(HEADER as u64 + 9).expect("cut");
        assert_eq!(open(dir.path(), 10, 11).poisoned_through(), 11, "a shorter one is made anew");
    }

    #[test]
    fn zeroing_frees_all_and_ends_recovery() {
        let dir = tempfile::tempdir().expect("a folder");
        let recovered = Arc::new(AtomicBool::new(false));
        let marks = Marks::open(&RealDisk, dir.path(), 10, 0, recovered.clone()).expect("a mark file");
        assert!(marks.try_mark(7), "free");
        marks.zero();
        assert_eq!(marks.get(7), MarkState::Free, "freed");
        assert!(recovered.load(Ordering::Acquire), "recovery has ended");
    }

    #[test]
    fn every_state_has_a_byte_of_its_own() {
        let mut states = vec![MarkState::Free, MarkState::Withdrawn, MarkState::Marked, MarkState::Accepted];
        states.extend([MarkState::Deferred, MarkState::Unknown]);
        states.extend((0..=239).map(MarkState::Rejected));
        for state in states {
            assert_eq!(MarkState::from_byte(state.to_byte()), state, "{state:?} comes back");
        }
        assert_eq!(MarkState::from_byte(9), MarkState::Unknown, "an unused byte is unknown");
    }
}
