//! Files and folders of a backup: what is copied, how, and when it counts.
//!
//! Owns no state. Invariants: BF-1 a target appears under its name when all that lies in it is durable; BF-2 a copied
//! file is its owner's alone, whatever it was copied from; BF-3 zeros are not written: a segment's unused part stays
//! a hole.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::manifest::{self, Entry, Manifest, files_below, private_file, sync_folder};
use super::{BackupError, Progress};
use crate::contacts::Store;
use crate::contacts::backup::DATA_FILE;
use crate::engine::check::STORE_FOLDER;
use crate::engine::{layout, root_key};
use crate::ids::RowSpace;
use crate::journal;
use crate::limits::{BACKUP_CHUNK_BYTES, DISK_FLOOR_BYTES};

/// Files at the top of a data directory that are copied as they are.
pub(super) const KEYS: [&str; 3] = [layout::FILE, root_key::FILE, "admin.key"];
pub(super) const AUDIENCES: &str = "audiences";
pub(super) const HASHES: &str = "hashes";
pub(super) const TICKETS: &str = "imports";
pub(super) const SPOOL: &str = "spool";
pub(super) const REJECTED: &str = "rejected";
/// Of one process or one moment: see the module's documentation.
const LEFT_OUT: [&str; 5] = ["idempotency", "api.addr", "public.addr", manifest::FILE, manifest::TAKEN_OVER];
const LOCK_FILE: &str = "lock.mdb";

/// Whether a backup of `data` may be made at `target`.
pub(super) fn may_be_made(target: &Path, data: &Path) -> Result<(), BackupError> {
    let refused = |reason| Err(BackupError::Target { path: target.to_owned(), reason });
    if !target.is_absolute() {
        return refused("is no absolute path: the server takes none from where it happens to have been started");
    }
    if target.symlink_metadata().is_ok() {
        return refused("is there already: name a folder that is not");
    }
    let parent = target.parent().and_then(|parent| parent.canonicalize().ok());
    let (Some(parent), Some(_)) = (parent, target.file_name()) else {
        return refused("can't be made: the folder that it would lie in is not there");
    };
    if data.canonicalize().is_ok_and(|data| parent.starts_with(data)) {
        return refused("lies in the data directory itself");
    }
    Ok(())
}

/// Whether so many bytes fit where `target` is to be, and leave room for what else lies there: a backup that fills the
/// disk of the data directory would stop its campaigns. What an earlier try has left is given back before the first byte
/// is written, and so counts as free.
pub(super) fn has_room(target: &Path, needed: u64) -> Result<(), BackupError> {
    let there = target.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    // A file system that can't say is tried.
    let Ok(stat) = rustix::fs::statvfs(there) else { return Ok(()) };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_add(bytes_on_disk(&partial(target)));
    let needed = needed.saturating_add(DISK_FLOOR_BYTES);
    if free >= needed {
        return Ok(());
    }
    Err(BackupError::NoRoom { path: target.to_owned(), needed, free })
}

/// Where the files of a target are until it is whole.
fn partial(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".estafette-partial");
    target.with_file_name(name)
}

/// A folder that becomes the target when it is whole.
pub(super) struct Draft {
    pub(super) folder: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// What an earlier try has left there goes.
    pub(super) fn begin(target: &Path) -> Result<Draft, BackupError> {
        let folder = partial(target);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BackupError::io("clear", &folder, error));
            }
            _ => {}
        }
        make_folder(&folder)?;
        Ok(Draft { folder, target: target.to_owned() })
    }

    /// Makes durable what was copied of `data`, says in the manifest what it is, and gives it its name; or gives its
    /// space back.
    pub(super) fn complete(
        self,
        copied: Result<Manifest, BackupError>,
        data: &Path,
        progress: &Progress,
    ) -> Result<Manifest, BackupError> {
        let sealed = copied.and_then(|mut manifest| {
            journal::ends_at(&journal::check(&self.folder), &self.folder, manifest.last_seq)?;
            manifest.left_out = unknown_names(data);
            seal(&self.folder, &mut manifest, progress)?;
            manifest.write(&self.folder)?;
            Ok(manifest)
        });
        match sealed {
            Ok(manifest) => self.rename().map(|()| manifest),
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    pub(super) fn rename(self) -> Result<(), BackupError> {
        let failed = |source| BackupError::io("rename to", &self.target, source);
        fs::rename(&self.folder, &self.target).map_err(failed)?;
        sync_folder(self.target.parent().unwrap_or(Path::new("/"))).map_err(failed)
    }

    /// Gives back the space; a failure leaves it to the next try.
    pub(super) fn give_up(self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Makes a folder for its owner alone.
pub(super) fn make_folder(folder: &Path) -> Result<(), BackupError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| BackupError::io("make", folder, source))
}

/// Syncs and hashes every file below a folder.
fn seal(folder: &Path, manifest: &mut Manifest, progress: &Progress) -> Result<(), BackupError> {
    let list = files_below(folder).map_err(|source| BackupError::io("list", folder, source))?;
    for relative in list {
        let path = folder.join(&relative);
        let failed = |source| BackupError::io("make durable", &path, source);
        let (blake3, bytes) = manifest::hash(&path, |part| {
            progress.add(part.len() as u64);
            Ok(())
        })
        .map_err(failed)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
        manifest.files.push(Entry { path: relative.display().to_string(), bytes, blake3 });
    }
    sync_folders(folder)
}

/// Syncs every folder below one, and it.
pub(super) fn sync_folders(folder: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::io("make durable", folder, source);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder).map_err(failed)
}

/// Copies what is open into a new file; what is zero stays a hole. `each` sees all that is read.
pub(super) fn copy_open(mut from: File, to: &Path, mut each: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut file = private_file(to)?;
    let mut buffer = vec![0; BACKUP_CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            file.set_len(bytes)?;
            return Ok(bytes);
        }
        let part = &buffer[..n];
        each(part);
        if part.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(i64::try_from(n).unwrap_or(0)))?;
        } else {
            file.write_all(part)?;
        }
        bytes += n as u64;
    }
}

/// Copies a file that may be gone; whether it was there.
pub(super) fn copy_if_there(from: &Path, to: &Path, progress: &Progress) -> Result<bool, BackupError> {
    match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(BackupError::io("read", from, source)),
        Ok(file) => {
            let copied = copy_open(file, to, |part| progress.add(part.len() as u64));
            copied.map_err(|source| BackupError::io("copy", from, source))?;
            Ok(true)
        }
    }
}

/// Copies the files that lie in a folder, but for those of LMDB and of folders in it; a folder that is not there is
/// empty.
pub(super) fn copy_plain(from: &Path, to: &Path, progress: &Progress) -> Result<(), BackupError> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| BackupError::io("list", from, source))?,
    };
    make_folder(to)?;
    for entry in entries {
        let entry = entry.map_err(|source| BackupError::io("list", from, source))?;
        let name = entry.file_name();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && name != DATA_FILE && name != LOCK_FILE {
            copy_if_there(&entry.path(), &to.join(&name), progress)?;
        }
    }
    Ok(())
}

/// Copies a store into a folder that is made; `begun` as of [`Store::copy_then`].
pub(super) fn copy_store(
    store: &Store,
    to: &Path,
    progress: &Progress,
    begun: impl FnOnce(),
) -> Result<(), BackupError> {
    make_folder(to)?;
    let file = to.join(DATA_FILE);
    progress.grows(Some(file.clone()));
    let copied = store.copy_then(&file, begun);
    progress.grows(None);
    copied?;
    // Opening it settles the numbers of its transactions, so that nothing has to be written when it is checked.
    drop(Store::open_space(to, store.space(), None)?);
    let lock = to.join(LOCK_FILE);
    fs::remove_file(&lock).map_err(|source| BackupError::io("remove", &lock, source))?;
    progress.add(file.metadata().map_or(0, |metadata| metadata.len()));
    Ok(())
}

/// Spaces of uploaded audiences, by the folders that hold them.
pub(super) fn spaces(audiences: &Path) -> Result<Vec<RowSpace>, BackupError> {
    let entries = match fs::read_dir(audiences) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| BackupError::io("list", audiences, source))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| BackupError::io("list", audiences, source))?;
        if let Some(space) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && entry.path().join(DATA_FILE).is_file()
        {
            found.push(RowSpace(space));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Names at the top of a data directory that this program does not know.
pub(super) fn unknown_names(data: &Path) -> Vec<String> {
    let folders = [journal::FOLDER, STORE_FOLDER, AUDIENCES, TICKETS, SPOOL, REJECTED];
    let known = |name: &str| KEYS.contains(&name) || LEFT_OUT.contains(&name) || folders.contains(&name);
    let entries = fs::read_dir(data).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !known(name) && !name.ends_with(".tmp") && !name.starts_with('.'));
    names.sort();
    for name in &names {
        tracing::warn!(name, "is in the data directory, is not known to this program and is not in the backup");
    }
    names
}

/// Bytes that the files below a folder take on the disk: of a data directory, what a backup reads and writes at most; of
/// a backup, what restoring it writes, because holes stay holes. None if there is no such folder.
pub(super) fn bytes_on_disk(folder: &Path) -> u64 {
    let files = files_below(folder).unwrap_or_default();
    let bytes =
        |path: PathBuf| folder.join(path).metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
    files.into_iter().map(bytes).sum()
}
