//! `backup.json`: what a backup holds, from when, and how each file must read.
//!
//! Owns the file. Invariants: MF-1 it is written last: a folder that has one is whole; MF-2 in a data directory it says that
//! the directory is a backup which no start has taken over yet ([`taken_over`] renames it), so that a restored start that
//! was killed is one again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::engine::backup::BackupError;
use crate::engine::layout::LAYOUT;
use crate::limits::BACKUP_CHUNK_BYTES;

pub const FILE: &str = "backup.json";
/// What is left of it in a directory that goes on from a backup.
pub const TAKEN_OVER: &str = "restored.json";
/// Version of the file's own form.
const FORM: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub estafette_backup: u32,
    /// Its own name: no other backup has it.
    pub id: String,
    /// The program's version.
    pub version: String,
    pub layout: u32,
    /// RFC 3339, for people; `made_at_ms` is what counts.
    pub made_at: String,
    pub made_at_ms: i64,
    /// A server was running on the directory.
    pub online: bool,
    /// The number of the last fact that it holds.
    pub last_seq: u64,
    /// Names at the top of the data directory that are not in it, because this program does not know them.
    pub left_out: Vec<String>,
    /// By path.
    pub files: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative, with slashes.
    pub path: String,
    pub bytes: u64,
    pub blake3: String,
}

impl Manifest {
    pub fn new(made_at: Timestamp, online: bool, last_seq: u64) -> Result<Manifest, BackupError> {
        let mut id = [0_u8; 12];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| BackupError::Random)?;
        Ok(Manifest {
            estafette_backup: FORM,
            id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            layout: LAYOUT,
            made_at: made_at.to_string(),
            made_at_ms: made_at.0,
            online,
            last_seq,
            left_out: Vec::new(),
            files: Vec::new(),
        })
    }

    pub fn made_at(&self) -> Timestamp {
        Timestamp(self.made_at_ms)
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }

    /// That of a folder; `None` if there is none.
    pub fn read(folder: &Path) -> Result<Option<Manifest>, BackupError> {
        let path = folder.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BackupError::io("read", &path, source)),
        };
        let unreadable = |why: String| BackupError::Manifest { path: path.clone(), why };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if manifest.estafette_backup != FORM || manifest.layout > LAYOUT {
            let by = &manifest.version;
            return Err(unreadable(format!("it was made by estafette {by}, which is newer: restore it with that one")));
        }
        if let Some(bad) = manifest.files.iter().find(|entry| !is_inside(&entry.path)) {
            return Err(unreadable(format!("it names {:?}, which is not inside of it", bad.path)));
        }
        Ok(Some(manifest))
    }

    /// Writes it into a folder whose files are durable; the folder is, too, when this returns.
    pub fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(FILE);
        let failed = |source| BackupError::io("write", &path, source);
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(io::Error::other(error)))?;
        let mut file = private_file(&path).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all()).map_err(failed)?;
        sync_folder(folder).map_err(failed)
    }
}

/// A path that leads nowhere else, whoever wrote the file.
fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The directory goes on from its backup, and what that means is durable in its journal.
pub fn taken_over(directory: &Path) -> Result<(), BackupError> {
    let path = directory.join(FILE);
    let failed = |source| BackupError::io("rename", &path, source);
    fs::rename(&path, directory.join(TAKEN_OVER)).map_err(failed)?;
    sync_folder(directory).map_err(failed)
}

/// A new file for its owner alone.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Every file below a folder, as relative paths in their order; folders are visited, links are not followed.
pub(super) fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut ahead = vec![PathBuf::new()];
    while let Some(relative) = ahead.pop() {
        for entry in fs::read_dir(folder.join(&relative))? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            match entry.file_type()? {
                kind if kind.is_dir() => ahead.push(path),
                kind if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file to its end a chunk at a time; its hash and length.
pub(super) fn hash(path: &Path, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BACKUP_CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher.finalize().to_hex().to_string(), bytes)),
            n => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
                each(&buffer[..n])?;
            }
        }
    }
}

/// What of the files that the manifest names is not as it says; empty if the backup is whole.
pub fn differences(folder: &Path, manifest: &Manifest) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for entry in &manifest.files {
        match hash(&folder.join(&entry.path), |_| Ok(())) {
            Ok((hash, bytes)) if (&hash, bytes) == (&entry.blake3, entry.bytes) => {}
            Ok((_, bytes)) if bytes != entry.bytes => {
                wrong.push((entry.path.clone(), format!("has {bytes} bytes and not {}", entry.bytes)));
            }
            Ok(_) => {
                wrong.push((entry.path.clone(), "does not read as it was written: its checksum differs".to_owned()))
            }
            Err(error) => wrong.push((entry.path.clone(), format!("can't be read: {error}"))),
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for good in ["version", "contacts/data.mdb", "audiences/hashes/1-email.hash"] {
            assert!(is_inside(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "./a", "a/.."] {
            assert!(!is_inside(bad), "{bad}");
        }
    }

    #[test]
    fn what_was_changed_since_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("a")).expect("a folder");
        for (name, text) in [("a/one", "first"), ("two", "second")] {
            fs::write(root.path().join(name), text).expect("a file");
        }
        let mut manifest = Manifest::new(Timestamp(1), true, 7).expect("a manifest");
        for path in files_below(root.path()).expect("listed") {
            let (blake3, bytes) = hash(&root.path().join(&path), |_| Ok(())).expect("read");
            manifest.files.push(Entry { path: path.display().to_string(), bytes, blake3 });
        }
        manifest.write(root.path()).expect("written");
        let read = Manifest::read(root.path()).expect("readable").expect("there");
        assert_eq!(read, manifest);
        assert_eq!(differences(root.path(), &read), []);
        fs::write(root.path().join("two"), "Second").expect("a change");
        fs::write(root.path().join("a/one"), "fir").expect("a cut");
        let wrong = differences(root.path(), &read);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].1.contains("3 bytes and not 5") && wrong[1].1.contains("checksum"), "{wrong:?}");
        taken_over(root.path()).expect("renamed");
        assert_eq!(Manifest::read(root.path()).expect("readable"), None, "it is no backup any more");
    }
}
