//! Poison: which segments' page cache and marks must not be believed.
//!
//! A failed `fsync` leaves pages marked clean that never reached the disk, and a second `fsync` then reports success (ext4,
//! XFS and Btrfs alike). So the first failure ends the process, and its segment is treated as after a power loss. A restored
//! start poisons every old segment: its marks may be of another moment.
//!
//! File `poisoned`: text, `poisoned through segment <id>`; the mark file's header holds the same number, because after a
//! failing disk the page cache may be all that still takes a write. The larger counts. A file that cannot be read poisons all.
//! Ids grow, so a poison never needs to be taken back; the file goes when its segments are gone.

use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, Site, replace_file};
use super::error::JournalError;
use super::marks::Marks;

const NAME: &str = "poisoned";
const TEXT: &str = "poisoned through segment ";

/// What ended the journal.
#[derive(Debug)]
pub struct Fatal {
    pub segment: u64,
    pub error: JournalError,
}

/// Called once the poison is written. The default aborts; a test's may return, and then the journal answers
/// [`JournalError::Failed`].
pub(super) type OnFatal = Arc<dyn Fn(&Fatal) + Send + Sync>;

pub(super) fn abort() -> OnFatal {
    Arc::new(|fatal| {
        tracing::error!(segment = fatal.segment, error = %fatal.error, "the journal failed; the process ends and recovers as after a power loss");
        std::process::abort()
    })
}

/// Poisons every segment up to `segment` on a disk that may be failing: whatever still works is used.
pub(super) fn write_failing(disk: &dyn Disk, folder: &Path, marks: &Marks, segment: u64) {
    marks.poison_through(segment);
    if let Err(error) = write(disk, folder, segment) {
        tracing::error!(%error, "the poison file could not be written; the mark file holds the poison");
    }
}

pub(super) fn write(disk: &dyn Disk, folder: &Path, segment: u64) -> Result<(), JournalError> {
    replace_file(disk, Site::Poison, folder, NAME, &[format!("{TEXT}{segment}\n").as_bytes()])
}

/// The last poisoned segment of `folder`, 0 if none is; `newest` if the file says something else than it should.
pub(super) fn read(folder: &Path, newest: u64) -> Result<u64, JournalError> {
    let path = folder.join(NAME);
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(JournalError::io("read", &path, e)),
    };
    let through = text.strip_prefix(TEXT).and_then(|rest| rest.strip_suffix('\n')).and_then(|id| id.parse().ok());
    Ok(through.unwrap_or(newest))
}

/// Removes the file when no segment up to `through` is left.
pub(super) fn clear(folder: &Path, through: u64, oldest: u64) {
    if through > 0 && through < oldest {
        // Leaving it does no harm: it speaks of segments that are gone.
        drop(std::fs::remove_file(folder.join(NAME)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::RealDisk;

    #[test]
    fn what_is_written_is_read_and_a_damaged_file_poisons_all() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(read(dir.path(), 9).expect("absent"), 0, "no file, no poison");
        write(&RealDisk, dir.path(), 4).expect("written");
        assert_eq!(read(dir.path(), 9).expect("present"), 4, "the number comes back");
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).expect("bytes");
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("cut");
            assert_eq!(read(dir.path(), 9).expect("cut"), 9, "cut at {cut}: all are poisoned");
        }
        clear(dir.path(), 4, 4);
        assert!(path.exists(), "kept while a segment is left");
        clear(dir.path(), 4, 5);
        assert!(!path.exists(), "removed when none is");
    }
}
