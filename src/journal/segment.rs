//! A segment file: its header, how it is made ahead, how it becomes the current one, and which there are.
//!
//! Owns no state. Invariants: JN-S1 a file named `segment-<id>` has a valid, durable header: it gets its name last.
//! JN-S2 every byte after the last frame is zero.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::boot::BootId;
use super::disk::{Disk, Site, create, open_rw, sync_dir};
use super::error::{Damage, JournalError};
use super::frame::{u32_at, u64_at};
use super::{FORMAT_VERSION, frame};
use crate::limits::JOURNAL_SEGMENT_BYTES_MAX;

/// Bytes of the header, and so the offset of the first frame.
pub(super) const SEGMENT_HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"ESTAFJNL";
const PREFIX: &str = "segment-";
/// The file that was made ahead.
pub(super) const AHEAD: &str = "ahead";
/// Bytes of zeros written at a time, and between two syncs, so that a commit never waits behind a whole segment.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
const ZEROS_PER_SYNC: u64 = 4 * 1024 * 1024;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub id: u64,
    pub boot: BootId,
    pub first_seq: u64,
    /// Length of the file.
    pub bytes: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.id.to_le_bytes());
        out[24..40].copy_from_slice(&self.boot.0);
        out[40..48].copy_from_slice(&self.first_seq.to_le_bytes());
        out[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        let checksum = crc32c::crc32c(&out);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the first bytes of the file at `path`, which has `file_bytes`.
    pub(super) fn decode(bytes: &[u8], path: &Path, file_bytes: u64) -> Result<Header, JournalError> {
        let damaged = |offset, what| Err(JournalError::damaged(path, offset, what));
        if bytes.len() < SEGMENT_HEADER {
            let what = Damage::FileLength { found: file_bytes, expected: SEGMENT_HEADER as u64 };
            return damaged(file_bytes, what);
        }
        if &bytes[..8] != MAGIC {
            return damaged(0, Damage::Magic);
        }
        let mut zeroed = [0; SEGMENT_HEADER];
        zeroed.copy_from_slice(&bytes[..SEGMENT_HEADER]);
        zeroed[12..16].fill(0);
        if crc32c::crc32c(&zeroed) != u32_at(bytes, 12) {
            return damaged(8, Damage::HeaderChecksum);
        }
        let found = u32_at(bytes, 8);
        if found != FORMAT_VERSION {
            return Err(JournalError::Version { path: path.to_owned(), found, supported: FORMAT_VERSION });
        }
        let mut boot = BootId::NONE;
        boot.0.copy_from_slice(&bytes[24..40]);
        let header = Header { id: u64_at(bytes, 16), boot, first_seq: u64_at(bytes, 40), bytes: u64_at(bytes, 48) };
        if header.bytes != file_bytes {
            return damaged(file_bytes, Damage::FileLength { found: file_bytes, expected: header.bytes });
        }
        Ok(header)
    }
}

/// A segment of the folder, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub id: u64,
    pub path: PathBuf,
}

pub(super) fn path_of(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{id:016x}"))
}

/// The segments of `folder`, oldest first.
pub(super) fn list(folder: &Path) -> Result<Vec<Listed>, JournalError> {
    let mut found = numbered(folder, PREFIX)?;
    found.sort_by_key(|(id, _)| *id);
    Ok(found.into_iter().map(|(id, path)| Listed { id, path }).collect())
}

/// Files named `prefix` and sixteen hexadecimal digits; others are not the journal's and stay.
pub(super) fn numbered(folder: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| JournalError::io("list", folder, e))? {
        let entry = entry.map_err(|e| JournalError::io("list", folder, e))?;
        let name = entry.file_name();
        let digits = name.to_str().and_then(|n| n.strip_prefix(prefix)).filter(|d| d.len() == 16);
        if let Some(id) = digits.and_then(|d| u64::from_str_radix(d, 16).ok()) {
            found.push((id, entry.path()));
        }
    }
    Ok(found)
}

/// A segment as it stands in its file. Only its used part is read; the zeros behind it are never touched.
pub(super) struct Image {
    pub header: Header,
    pub path: PathBuf,
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Offset of the first byte of the zeros that last to the end.
    pub zeros_from: usize,
}

impl Image {
    pub(super) fn read(listed: &Listed) -> Result<Image, JournalError> {
        let path = &listed.path;
        let file = File::open(path).map_err(|e| JournalError::io("open", path, e))?;
        let length = file.metadata().map_err(|e| JournalError::io("read", path, e))?.len();
        let mut head = [0; SEGMENT_HEADER];
        let known = usize::try_from(length).unwrap_or(usize::MAX).min(SEGMENT_HEADER);
        read_at(&file, path, &mut head[..known], 0)?;
        let header = Header::decode(&head[..known], path, length)?;
        if header.id != listed.id {
            return Err(JournalError::damaged(path, 16, Damage::SegmentId { found: header.id }));
        }
        if length > JOURNAL_SEGMENT_BYTES_MAX {
            let what = Damage::FileLength { found: length, expected: JOURNAL_SEGMENT_BYTES_MAX };
            return Err(JournalError::damaged(path, JOURNAL_SEGMENT_BYTES_MAX, what));
        }
        let zeros_from = zeros_from(&file, path, length)?;
        // Zeroed memory is not resident until it is written, so a large segment with few frames costs few pages.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        read_at(&file, path, &mut bytes[..zeros_from], 0)?;
        Ok(Image { header, path: path.clone(), bytes, zeros_from })
    }
}

fn read_at(file: &File, path: &Path, into: &mut [u8], offset: u64) -> Result<(), JournalError> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, offset).map_err(|e| JournalError::io("read", path, e))
}

/// [`frame::zeros_from`] of a file, without holding it.
pub(super) fn zeros_from(file: &File, path: &Path, length: u64) -> Result<usize, JournalError> {
    let mut buffer = vec![0; ZEROS.len()];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..usize::try_from(end - start).unwrap_or(0)];
        read_at(file, path, part, start)?;
        match frame::zeros_from(part) {
            0 => end = start,
            used => return Ok(usize::try_from(start).unwrap_or(usize::MAX).saturating_add(used)),
        }
    }
    Ok(0)
}

/// Makes the file `ahead` of `bytes` zeros, durable. `stop` ends it early.
pub(super) fn make_ahead(disk: &dyn Disk, folder: &Path, bytes: u64, stop: &AtomicBool) -> Result<(), JournalError> {
    let temporary = folder.join(format!("{AHEAD}.tmp"));
    let made = fill(disk, &temporary, bytes, stop);
    if made.is_err() {
        // Give back what it took: the disk may be full because of it. If this fails the next start removes it.
        drop(std::fs::remove_file(&temporary));
    }
    made?;
    let path = folder.join(AHEAD);
    disk.rename(Site::Ahead, &temporary, &path).map_err(|e| JournalError::io("rename", &temporary, e))?;
    sync_dir(disk, folder)
}

fn fill(disk: &dyn Disk, path: &Path, bytes: u64, stop: &AtomicBool) -> Result<(), JournalError> {
    let file = create(path)?;
    let mut offset = 0;
    while offset < bytes {
        if stop.load(Ordering::Relaxed) {
            return Err(JournalError::Closed);
        }
        let part = (bytes - offset).min(ZEROS.len() as u64);
        let zeros = &ZEROS[..usize::try_from(part).unwrap_or(ZEROS.len())];
        disk.write_at(Site::Ahead, &file, zeros, offset).map_err(|e| JournalError::write("write", path, bytes, e))?;
        offset += part;
        if offset % ZEROS_PER_SYNC == 0 || offset == bytes {
            disk.sync(Site::Ahead, &file).map_err(|e| JournalError::write("sync", path, bytes, e))?;
        }
    }
    Ok(())
}

/// Whether `ahead` exists, has `bytes` and is all zeros behind its header (which is written anew). An unfit one is removed.
pub(super) fn ahead_is_fit(folder: &Path, bytes: u64) -> Result<bool, JournalError> {
    let path = folder.join(AHEAD);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(JournalError::io("open", &path, e)),
    };
    let length = file.metadata().map_err(|e| JournalError::io("read", &path, e))?.len();
    let fit = length == bytes && zeros_from(&file, &path, length)? <= SEGMENT_HEADER;
    if !fit {
        std::fs::remove_file(&path).map_err(|e| JournalError::io("remove", &path, e))?;
    }
    Ok(fit)
}

/// Turns `ahead` into the segment that `header` describes, durable, and opens it.
pub(super) fn adopt_ahead(disk: &dyn Disk, folder: &Path, header: &Header) -> Result<File, JournalError> {
    let ahead = folder.join(AHEAD);
    let path = path_of(folder, header.id);
    let file = open_rw(&ahead)?;
    disk.write_at(Site::Segment, &file, &header.encode(), 0)
        .map_err(|e| JournalError::write("write", &ahead, SEGMENT_HEADER as u64, e))?;
    disk.sync(Site::Segment, &file).map_err(|e| JournalError::io("sync", &ahead, e))?;
    disk.rename(Site::Segment, &ahead, &path).map_err(|e| JournalError::io("rename", &ahead, e))?;
    sync_dir(disk, folder)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_every_flip_in_it_is_refused() {
        let header = Header { id: 3, boot: BootId([7; 16]), first_seq: 12, bytes: 4096 };
        let encoded = header.encode();
        let path = Path::new("segment");
        assert_eq!(Header::decode(&encoded, path, 4096).expect("valid"), header, "header comes back");
        for at in 0..SEGMENT_HEADER {
            let mut flipped = encoded;
            flipped[at] ^= 0x10;
            assert!(Header::decode(&flipped, path, 4096).is_err(), "a flip at byte {at} is noticed");
        }
        let short = Header::decode(&encoded, path, 4095).expect_err("a shortened file");
        assert!(matches!(short, JournalError::Damaged { what: Damage::FileLength { .. }, .. }), "got {short}");
    }

    #[test]
    fn another_version_is_named() {
        let mut encoded = Header { id: 3, boot: BootId::NONE, first_seq: 1, bytes: 4096 }.encode();
        encoded[8] = 9;
        encoded[12..16].fill(0);
        let checksum = crc32c::crc32c(&encoded);
        encoded[12..16].copy_from_slice(&checksum.to_le_bytes());
        let error = Header::decode(&encoded, Path::new("segment"), 4096).expect_err("version 9");
        assert!(matches!(error, JournalError::Version { found: 9, .. }), "got {error}");
    }
}
