//! The sync slot: the newest durable sequence number, outside the segments. Best effort: written after each commit, never
//! synced, never waited for; what it says is true whenever it is there.
//!
//! File `sync`: two records at 0 and 4096 (so that one torn page leaves the other), written in turn: magic `ESTAFSYN`,
//! durable number, turn, zero (4 bytes), checksum of the 28 bytes before. The larger number counts.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::disk::{Disk, FILE_MODE, Site};
use super::error::JournalError;
use super::frame::{u32_at, u64_at};

const NAME: &str = "sync";
const MAGIC: &[u8; 8] = b"ESTAFSYN";
const RECORD: usize = 32;
const DISTANCE: usize = 4096;

#[derive(Debug)]
pub(super) struct SyncSlot {
    file: File,
    turn: u64,
}

impl SyncSlot {
    pub(super) fn open(folder: &Path) -> Result<SyncSlot, JournalError> {
        let path = folder.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(|e| JournalError::io("open", &path, e))?;
        Ok(SyncSlot { file, turn: 0 })
    }

    /// Whether it could be written; nobody depends on it.
    pub(super) fn write(&mut self, disk: &dyn Disk, durable: u64) -> bool {
        self.turn += 1;
        let offset = (self.turn % 2) * DISTANCE as u64;
        disk.write_at(Site::SyncSlot, &self.file, &encode(durable, self.turn), offset).is_ok()
    }

    /// Overwrites both records, for a start that does not believe what they said.
    pub(super) fn reset(&mut self, disk: &dyn Disk, durable: u64) -> Result<(), JournalError> {
        let failed = |e| JournalError::io("write", Path::new(NAME), e);
        for turn in [0, 1] {
            disk.write_at(Site::SyncSlot, &self.file, &encode(durable, turn), turn * DISTANCE as u64)
                .map_err(failed)?;
        }
        disk.sync(Site::SyncSlot, &self.file).map_err(|e| JournalError::io("sync", Path::new(NAME), e))
    }
}

fn encode(durable: u64, turn: u64) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    out[..8].copy_from_slice(MAGIC);
    out[8..16].copy_from_slice(&durable.to_le_bytes());
    out[16..24].copy_from_slice(&turn.to_le_bytes());
    let checksum = crc32c::crc32c(&out[..28]);
    out[28..].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// The largest number in the slot at `folder`; 0 if there is none.
pub(super) fn read(folder: &Path) -> u64 {
    std::fs::read(folder.join(NAME)).map_or(0, |bytes| read_bytes(&bytes))
}

pub(super) fn read_bytes(bytes: &[u8]) -> u64 {
    let record = |at: usize| {
        let record = bytes.get(at..at + RECORD)?;
        let valid = &record[..8] == MAGIC && crc32c::crc32c(&record[..28]) == u32_at(record, 28);
        valid.then(|| u64_at(record, 8))
    };
    record(0).max(record(DISTANCE)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::RealDisk;

    #[test]
    fn the_newest_number_is_read_and_one_damaged_record_leaves_the_other() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut slot = SyncSlot::open(dir.path()).expect("a slot");
        assert_eq!(read(dir.path()), 0, "an empty slot says nothing");
        for durable in 1..=5 {
            assert!(slot.write(&RealDisk, durable * 10), "written");
            assert_eq!(read(dir.path()), durable * 10, "the newest counts");
        }
        let mut bytes = std::fs::read(dir.path().join(NAME)).expect("slot bytes");
        for at in DISTANCE..DISTANCE + RECORD {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(read_bytes(&flipped), 40, "a flip at {at} leaves the record before");
        }
        bytes.truncate(7);
        assert_eq!(read_bytes(&bytes), 0, "a cut slot says nothing");
    }

    #[test]
    fn reset_lowers_both_records() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut slot = SyncSlot::open(dir.path()).expect("a slot");
        assert!(slot.write(&RealDisk, 90) && slot.write(&RealDisk, 91), "written");
        slot.reset(&RealDisk, 12).expect("reset");
        assert_eq!(read(dir.path()), 12, "neither record says more");
    }
}
