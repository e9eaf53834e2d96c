//! A backup of a directory that no server has open, and the way back from any backup.
//!
//! Owns no state. A stopped directory is locked while it is copied, so that it is of one moment by itself.

use std::fs::{self, File};
use std::path::Path;

use super::files::{self, Draft};
use super::manifest::{self, Manifest};
use super::{BackupError, Progress};
use crate::clock::{Clock, SystemClock};
use crate::contacts::Store;
use crate::engine::check::STORE_FOLDER;
use crate::engine::layout;
use crate::journal;

/// Copies the data directory `data`, which is locked meanwhile, to `target`, which must not be there.
pub fn make_stopped(data: &Path, target: &Path) -> Result<Manifest, BackupError> {
    files::may_be_made(target, data)?;
    if !data.join(journal::FOLDER).is_dir() {
        let reason = "holds no journal: name the folder that `serve --data` was given";
        return Err(BackupError::Target { path: data.to_owned(), reason });
    }
    layout::look(data)?;
    files::has_room(target, files::bytes_on_disk(data))?;
    let draft = Draft::begin(target)?;
    let copied = copy(data, &draft.folder);
    draft.complete(copied, data, &Progress::default())
}

fn copy(data: &Path, to: &Path) -> Result<Manifest, BackupError> {
    let progress = Progress::default();
    let _lock = journal::copy_stopped(data, &to.join(journal::FOLDER))?;
    let store = Store::open(&data.join(STORE_FOLDER))?;
    files::copy_store(&store, &to.join(STORE_FOLDER), &progress, || ())?;
    let audiences = data.join(files::AUDIENCES);
    for space in files::spaces(&audiences)? {
        let (from, to) = (audiences.join(space.0.to_string()), to.join(files::AUDIENCES).join(space.0.to_string()));
        files::copy_store(&Store::open_space(&from, space, None)?, &to, &progress, || ())?;
        files::copy_plain(&from, &to, &progress)?;
    }
    let hashes = audiences.join(files::HASHES);
    files::copy_plain(&hashes, &to.join(files::AUDIENCES).join(files::HASHES), &progress)?;
    for folder in [files::TICKETS, files::SPOOL, files::REJECTED] {
        files::copy_plain(&data.join(folder), &to.join(folder), &progress)?;
    }
    for name in files::KEYS {
        files::copy_if_there(&data.join(name), &to.join(name), &progress)?;
    }
    let last_seq = journal::check(to).last_seq;
    Manifest::new(SystemClock::new().now(), false, last_seq)
}

/// Copies a backup to `data`, which must not be there, or be empty; every file is held against its checksum. The copy
/// says that it is a backup, until `serve --restored` takes it over. `each` hears of bytes as they are copied.
pub fn restore(backup: &Path, data: &Path, each: &dyn Fn(u64)) -> Result<Manifest, BackupError> {
    let no_backup = || BackupError::NoBackup { path: backup.to_owned() };
    let manifest = Manifest::read(backup)?.ok_or_else(no_backup)?;
    let is_empty = fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_none());
    if data.symlink_metadata().is_ok() && !is_empty {
        let reason = "is there already and not empty: name another folder; nothing is ever restored over data";
        return Err(BackupError::Target { path: data.to_owned(), reason });
    }
    files::has_room(data, files::bytes_on_disk(backup))?;
    let draft = Draft::begin(data)?;
    match copy_back(backup, &manifest, &draft.folder, each) {
        Ok(()) => draft.rename().map(|()| manifest),
        Err(error) => {
            draft.give_up();
            Err(error)
        }
    }
}

fn copy_back(backup: &Path, manifest: &Manifest, to: &Path, each: &dyn Fn(u64)) -> Result<(), BackupError> {
    for entry in &manifest.files {
        let (from, path) = (backup.join(&entry.path), to.join(&entry.path));
        let damaged = |what: String| BackupError::Damaged { file: entry.path.clone(), what };
        let file = File::open(&from).map_err(|error| damaged(format!("can't be read: {error}")))?;
        files::make_folder(path.parent().unwrap_or(to))?;
        let mut hasher = blake3::Hasher::new();
        let bytes = files::copy_open(file, &path, |part| {
            hasher.update(part);
            each(part.len() as u64);
        });
        let bytes = bytes.map_err(|source| BackupError::io("copy", &from, source))?;
        if bytes != entry.bytes || hasher.finalize().to_hex().as_str() != entry.blake3 {
            return Err(damaged("does not read as it was written".to_owned()));
        }
        File::open(&path).and_then(|file| file.sync_all()).map_err(|e| BackupError::io("make durable", &path, e))?;
    }
    files::sync_folders(to)?;
    debug_assert!(!to.join(manifest::FILE).exists(), "the manifest is written last");
    manifest.write(to)
}
