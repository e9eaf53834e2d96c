//! Snapshot files: folded state and the number of the last frame that it includes.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ESTAFSNP` |
//! | 8 | 4 | format version |
//! | 12 | 4 | checksum of bytes 0 to 12, 16 to 64 and the state |
//! | 16 | 8 | number of the last frame that it includes |
//! | 24 | 8 | length of the state, bytes |
//! | 32 | 16 | boot id of the process that wrote it |
//! | 48 | 8 | segment that was open |
//! | 56 | 8 | zero |
//! | 64 | | state |
//!
//! Boot id and segment stand for every claim that the state holds: a process claims only after it has settled all claims of
//! processes before it, and may write a snapshot only then.

use std::path::{Path, PathBuf};

use super::FORMAT_VERSION;
use super::boot::BootId;
use super::disk::{Disk, Site, replace_file};
use super::error::{Damage, JournalError};
use super::frame::{u32_at, u64_at};
use super::segment::numbered;

const PREFIX: &str = "snapshot-";
const MAGIC: &[u8; 8] = b"ESTAFSNP";
const HEADER: usize = 64;

/// A snapshot as read.
#[derive(Debug)]
pub(super) struct Stored {
    pub path: PathBuf,
    pub seq: u64,
    pub boot: BootId,
    pub segment: u64,
    bytes: Vec<u8>,
}

impl Stored {
    pub(super) fn state(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Time since its file was written, for figures only: `None` if the system does not say, or says a time ahead.
    pub(super) fn age(&self) -> Option<std::time::Duration> {
        std::fs::metadata(&self.path).ok()?.modified().ok()?.elapsed().ok()
    }
}

/// The newest of `folder`. A damaged one is refused, never passed over: the segments before it are gone.
pub(super) fn read_newest(folder: &Path) -> Result<Option<Stored>, JournalError> {
    let Some((seq, path)) = numbered(folder, PREFIX)?.into_iter().max_by_key(|(seq, _)| *seq) else {
        return Ok(None);
    };
    let bytes = std::fs::read(&path).map_err(|e| JournalError::io("read", &path, e))?;
    let stored = decode(bytes, &path)?;
    if stored.seq != seq {
        return Err(JournalError::damaged(&path, 16, Damage::FrameSequence { found: stored.seq, expected: seq }));
    }
    Ok(Some(stored))
}

pub(super) fn write(
    disk: &dyn Disk,
    folder: &Path,
    seq: u64,
    boot: BootId,
    segment: u64,
    state: &[u8],
) -> Result<(), JournalError> {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&seq.to_le_bytes());
    header[24..32].copy_from_slice(&(state.len() as u64).to_le_bytes());
    header[32..48].copy_from_slice(&boot.0);
    header[48..56].copy_from_slice(&segment.to_le_bytes());
    let checksum = checksum(&header, state);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    replace_file(disk, Site::Snapshot, folder, &format!("{PREFIX}{seq:016x}"), &[&header, state])
}

/// Removes snapshots older than `seq`. A failure leaves a file that the next snapshot or start removes.
pub(super) fn drop_older(folder: &Path, seq: u64) -> Result<(), JournalError> {
    for (_, path) in numbered(folder, PREFIX)?.into_iter().filter(|(other, _)| *other < seq) {
        std::fs::remove_file(&path).map_err(|e| JournalError::io("remove", &path, e))?;
    }
    Ok(())
}

fn checksum(header: &[u8], state: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..HEADER]);
    crc32c::crc32c_append(head, state)
}

fn decode(bytes: Vec<u8>, path: &Path) -> Result<Stored, JournalError> {
    let length = bytes.len() as u64;
    let damaged = |offset, what| Err(JournalError::damaged(path, offset, what));
    if bytes.len() < HEADER {
        return damaged(length, Damage::FileLength { found: length, expected: HEADER as u64 });
    }
    if &bytes[..8] != MAGIC {
        return damaged(0, Damage::Magic);
    }
    let found = u32_at(&bytes, 8);
    let valid = checksum(&bytes[..HEADER], &bytes[HEADER..]) == u32_at(&bytes, 12);
    if valid && found != FORMAT_VERSION {
        return Err(JournalError::Version { path: path.to_owned(), found, supported: FORMAT_VERSION });
    }
    let expected = (HEADER as u64).saturating_add(u64_at(&bytes, 24));
    if expected != length {
        return damaged(24, Damage::FileLength { found: length, expected });
    }
    if !valid {
        return damaged(8, Damage::SnapshotChecksum);
    }
    let mut boot = BootId::NONE;
    boot.0.copy_from_slice(&bytes[32..48]);
    Ok(Stored { path: path.to_owned(), seq: u64_at(&bytes, 16), boot, segment: u64_at(&bytes, 48), bytes })
}

/// Reads `bytes` as a snapshot file; for fuzzing. Whether it was valid.
pub fn fuzz_snapshot(bytes: &[u8]) -> bool {
    decode(bytes.to_vec(), Path::new("fuzz")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::RealDisk;

    #[test]
    fn the_newest_comes_back_older_ones_go_and_every_flip_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        for seq in [3, 70] {
            write(&RealDisk, dir.path(), seq, BootId([1; 16]), 2, format!("state {seq}").as_bytes()).expect("written");
        }
        let stored = read_newest(dir.path()).expect("valid").expect("there");
        assert_eq!((stored.seq, stored.segment, stored.state()), (70, 2, &b"state 70"[..]), "the newest, whole");
        drop_older(dir.path(), 70).expect("dropped");
        assert_eq!(numbered(dir.path(), PREFIX).expect("listed").len(), 1, "one is left");
        let bytes = std::fs::read(&stored.path).expect("bytes");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert!(decode(flipped, &stored.path).is_err(), "a flip at byte {at} is noticed");
            assert!(!fuzz_snapshot(&bytes[..at]), "a cut at byte {at} is noticed");
        }
    }
}
