//! One process per data directory, and only in the directory that it was made in.
//!
//! The lock is `flock` on the directory itself: it needs no file, and the kernel lets go of it when the process dies. The
//! identity file holds the directory's inode and birth time, which a copy does not share. A roll-back in place (a VM
//! snapshot, a block-level restore) keeps both and cannot be noticed.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::disk::{Disk, Site, replace_file};
use super::error::JournalError;

const NAME: &str = "identity";

/// Holds the directory until it is dropped.
#[derive(Debug)]
pub(super) struct DirLock {
    directory: File,
}

impl DirLock {
    pub(super) fn take(dir: &Path) -> Result<DirLock, JournalError> {
        let directory = File::open(dir).map_err(|e| JournalError::io("open", dir, e))?;
        match directory.try_lock() {
            Ok(()) => Ok(DirLock { directory }),
            Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(e)) => Err(JournalError::io("lock", dir, e)),
        }
    }

    /// Shared, so that several may look and none may run.
    pub(super) fn take_shared(dir: &Path) -> Result<DirLock, JournalError> {
        let directory = File::open(dir).map_err(|e| JournalError::io("open", dir, e))?;
        match directory.try_lock_shared() {
            Ok(()) => Ok(DirLock { directory }),
            Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(e)) => Err(JournalError::io("lock", dir, e)),
        }
    }

    /// What the identity file must say in this directory.
    pub(super) fn identity(&self, dir: &Path) -> Result<String, JournalError> {
        let metadata = self.directory.metadata().map_err(|e| JournalError::io("read", dir, e))?;
        // A file system without birth times leaves the inode alone to tell.
        let born = metadata.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let born =
            born.map_or("unknown".to_owned(), |since| format!("{}.{:09}", since.as_secs(), since.subsec_nanos()));
        Ok(format!("estafette data directory\ninode {}\nborn {born}\n", metadata.ino()))
    }
}

/// What the identity file says, if there is one.
pub(super) fn recorded(folder: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    let path = folder.join(NAME);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(JournalError::io("read", &path, e)),
    }
}

pub(super) fn record(disk: &dyn Disk, folder: &Path, identity: &str) -> Result<(), JournalError> {
    replace_file(disk, Site::Identity, folder, NAME, &[identity.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = DirLock::take(dir.path()).expect("free");
        let second = DirLock::take(dir.path()).expect_err("taken");
        assert!(matches!(second, JournalError::Locked { .. }), "got {second}");
        assert!(DirLock::take_shared(dir.path()).is_err(), "nor may it be shared");
        drop(first);
        DirLock::take(dir.path()).expect("free again");
    }

    #[test]
    fn two_directories_differ() {
        let (a, b) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        let identity = |dir: &Path| DirLock::take(dir).expect("free").identity(dir).expect("readable");
        assert_ne!(identity(a.path()), identity(b.path()), "a copy is told apart");
        assert_eq!(identity(a.path()), identity(a.path()), "and the same is the same");
    }
}
