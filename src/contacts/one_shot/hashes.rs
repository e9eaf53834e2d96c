//! The salted hashes of an upload's addresses: sixteen bytes a row and channel, zeros for a row without one.
//!
//! They are what is left of an upload when it is removed: with them an opt-out link in a mail still says whose address it
//! is, and without the salt of this data directory they say nothing of anybody. One file a channel, `{space}-{channel}.hash`;
//! written once, never changed.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::contacts::one_shot::UploadError;
use crate::contacts::record::{Record, Value};
use crate::contacts::store::Store;
use crate::ids::{AddressHash, Channel, ContactRow, RowSpace};

/// Bytes of one hash.
const HASH: usize = 16;
const NONE: [u8; HASH] = [0; HASH];

fn path(folder: &Path, space: RowSpace, channel: Channel) -> PathBuf {
    folder.join(format!("{}-{}.hash", space.0, channel.name()))
}

/// The space that a file belongs to, by its name.
pub fn space_of(name: &str) -> Option<RowSpace> {
    name.strip_suffix(".hash")?.split_once('-')?.0.parse().ok().map(RowSpace)
}

/// Deletes the files of an upload.
pub fn remove(folder: &Path, space: RowSpace) -> std::io::Result<()> {
    for channel in Channel::ALL {
        match fs::remove_file(path(folder, space, channel)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> UploadError {
    let path = path.to_owned();
    move |source| UploadError::Hashes { path, what, source }
}

/// The hash of a record's address on a channel.
pub fn hash_of(store: &Store, channel: Channel, record: Record<'_>) -> Option<AddressHash> {
    match record.get(channel.address_attribute())? {
        Value::Text(text) => Some(store.address_hash(channel, text)),
        Value::List(list) => list.iter().next().map(|text| store.address_hash(channel, text)),
        _ => None,
    }
}

pub(super) struct HashWriter {
    files: Vec<(Channel, PathBuf, BufWriter<File>)>,
}

impl HashWriter {
    pub(super) fn create(folder: &Path, space: RowSpace, channels: &[Channel]) -> Result<HashWriter, UploadError> {
        let mut files = Vec::with_capacity(channels.len());
        for channel in channels {
            let path = path(folder, space, *channel);
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            files.push((*channel, path.clone(), BufWriter::new(file.map_err(failed(&path, "made"))?)));
        }
        Ok(HashWriter { files })
    }

    /// The next row.
    pub(super) fn push(&mut self, store: &Store, record: &[u8]) -> Result<(), UploadError> {
        let record = Record::parse(record).ok();
        for (channel, path, file) in &mut self.files {
            let hash = record.and_then(|record| hash_of(store, *channel, record)).map_or(NONE, |hash| hash.0);
            file.write_all(&hash).map_err(failed(path, "written"))?;
        }
        Ok(())
    }

    /// Durable when it returns, but for the folder's own entry.
    pub(super) fn finish(self) -> Result<(), UploadError> {
        for (_, path, file) in self.files {
            let file = file.into_inner().map_err(|error| failed(&path, "written")(error.into_error()))?;
            file.sync_all().map_err(failed(&path, "written"))?;
        }
        Ok(())
    }
}

/// The hashes of one upload and channel.
pub struct HashFile {
    file: File,
    path: PathBuf,
}

impl HashFile {
    pub fn open(folder: &Path, space: RowSpace, channel: Channel) -> Result<HashFile, UploadError> {
        let path = path(folder, space, channel);
        let file = File::open(&path).map_err(failed(&path, "opened"))?;
        Ok(HashFile { file, path })
    }

    /// The hash of a row's address; `None` if it has none.
    pub fn get(&self, row: ContactRow) -> Result<Option<AddressHash>, UploadError> {
        let mut hash = NONE;
        match self.file.read_exact_at(&mut hash, u64::from(row.0) * HASH as u64) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(failed(&self.path, "read")(error)),
            Ok(()) => Ok((hash != NONE).then_some(AddressHash(hash))),
        }
    }

    /// Visits every row that has an address, in order.
    pub fn each(&self, visit: &mut dyn FnMut(u32, AddressHash)) -> Result<(), UploadError> {
        let mut file = BufReader::with_capacity(64 * 1024, &self.file);
        file.seek(SeekFrom::Start(0)).map_err(failed(&self.path, "read"))?;
        let mut hash = NONE;
        for row in 0u32.. {
            match file.read_exact(&mut hash) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                read => read.map_err(failed(&self.path, "read"))?,
            }
            if hash != NONE {
                visit(row, AddressHash(hash));
            }
        }
        Ok(())
    }
}
