//! The few calls by which the journal changes the disk, behind a trait so that tests can make them fail.
//!
//! Owns no state. Must not know what is written.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::error::JournalError;

/// Which file a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    Segment,
    Ahead,
    SyncSlot,
    Snapshot,
    Marks,
    Poison,
    Identity,
    Directory,
}

/// Writes and syncs. A `write_at` writes all or fails; after a failure any part of it may have been written.
pub trait Disk: Send + Sync + fmt::Debug {
    fn write_at(&self, site: Site, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn sync(&self, site: Site, file: &File) -> io::Result<()>;
    fn rename(&self, site: Site, from: &Path, to: &Path) -> io::Result<()>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write_at(&self, _site: Site, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, site: Site, file: &File) -> io::Result<()> {
        match site {
            // Preallocated: nothing but the data has to reach the disk.
            Site::Segment => file.sync_data(),
            _ => file.sync_all(),
        }
    }

    fn rename(&self, _site: Site, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
}

/// Makes a rename, creation or removal in `dir` durable.
pub(super) fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), JournalError> {
    let file = File::open(dir).map_err(|e| JournalError::io("open", dir, e))?;
    disk.sync(Site::Directory, &file).map_err(|e| JournalError::io("sync", dir, e))
}

/// Puts `parts`, one after the other, in the place of `dir/name` so that after a crash either the old or the new file is
/// there, whole.
pub(super) fn replace_file(
    disk: &dyn Disk,
    site: Site,
    dir: &Path,
    name: &str,
    parts: &[&[u8]],
) -> Result<(), JournalError> {
    let temporary = dir.join(format!("{name}.tmp"));
    if let Err(error) = write_parts(disk, site, &temporary, parts) {
        // Give back what it took: the disk may be full. What cannot be removed now goes at the next start.
        std::fs::remove_file(&temporary).ok();
        return Err(error);
    }
    disk.rename(site, &temporary, &dir.join(name)).map_err(|e| JournalError::io("rename", &temporary, e))?;
    sync_dir(disk, dir)
}

fn write_parts(disk: &dyn Disk, site: Site, path: &Path, parts: &[&[u8]]) -> Result<(), JournalError> {
    let file = create(path)?;
    let needed = parts.iter().map(|part| part.len() as u64).sum();
    let mut offset = 0;
    for part in parts {
        disk.write_at(site, &file, part, offset).map_err(|e| JournalError::write("write", path, needed, e))?;
        offset += part.len() as u64;
    }
    disk.sync(site, &file).map_err(|e| JournalError::write("sync", path, needed, e))
}

/// The journal tells who got which mail: its owner alone reads it.
pub(super) const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Makes a folder, and what it lies in.
pub(super) fn create_dir(path: &Path) -> Result<(), JournalError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path);
    made.map_err(|e| JournalError::io("create", path, e))
}

/// Opens a new or emptied file for reading and writing.
pub(super) fn create(path: &Path) -> Result<File, JournalError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|e| JournalError::io("create", path, e))
}

/// Opens an existing file for reading and writing.
pub(super) fn open_rw(path: &Path) -> Result<File, JournalError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|e| JournalError::io("open", path, e))
}
