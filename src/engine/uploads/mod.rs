//! One-shot audiences: CSV files that campaigns are sent to and that never become contacts.
//!
//! | in `audiences` | holds |
//! |---|---|
//! | `{id}/` | the rows of an upload, in a store of its own, and its invalid rows as CSV |
//! | `hashes/` | the salted hash of each address; what is left of an upload that was removed |
//!
//! The id is the row space. Owns the folder and the stores that are open. Invariants: UL-1 the rows are on the disk before the
//! fact that there is an upload, and the fact before the answer; what has no fact is removed at the next start; UL-2
//! the fact that an upload is removed comes before its files go; UL-3 while a run over it is unfinished or planned an upload is
//! not removed, by nobody; UL-4 nothing here writes to the contact base.
//!
//! Must not know: HTTP, campaigns' specs.

mod retention;
mod twins;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use crate::actors::book::{Book, CommitError};
use crate::contacts::csv_import::ImportError;
use crate::contacts::one_shot::{self, INVALID_FILE, UploadError, hashes};
use crate::contacts::{ContactsError, Schema, Store};
use crate::engine::imports::is_full;
use crate::ids::{AddressHash, Channel, ContactRow, RowSpace};
use crate::ledger::uploads::{AudienceRemoved, AudienceUploaded, UploadInfo};
use crate::ledger::{Fact, State};
use crate::limits::{IDEMPOTENCY_KEPT, NAME_BYTES_MAX, ONE_SHOT_UPLOADS_MAX};

pub use twins::Twins;

pub type TwinsByChannel = BTreeMap<Channel, Twins>;

/// Why an upload can't be had, taken in or removed.
#[derive(Debug, thiserror::Error)]
pub enum UploadsError {
    #[error("the audiences under {path} can't be {what}", path = .path.display())]
    Folder {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("there is no uploaded audience {named:?}")]
    Unknown { named: String },
    #[error("the rows of uploaded audience {name:?} were removed")]
    Gone { name: String },
    #[error("audience name {name:?} {reason}")]
    BadName { name: String, reason: &'static str },
    #[error("an uploaded audience {name:?} exists already: delete it, or take another name")]
    Exists { name: String },
    #[error("uploaded audience {name:?} is needed by {}: stop that first, or wait for its end", .by.join(", "))]
    InUse { name: String, by: Vec<String> },
    #[error("a backup copies the uploaded audiences: try again when it has ended")]
    Held,
    #[error("{max} uploaded audiences are kept, which is the most: delete one")]
    Full { max: usize },
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Contacts(#[from] ContactsError),
}

impl UploadsError {
    pub fn is_full_disk(&self) -> bool {
        let no_space = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull);
        match self {
            UploadsError::Commit(CommitError::NoSpace) => true,
            UploadsError::Folder { source, .. } | UploadsError::Upload(UploadError::Hashes { source, .. }) => {
                no_space(source)
            }
            UploadsError::Upload(UploadError::File(ImportError::File { source, .. } | ImportError::Read(source))) => {
                no_space(source)
            }
            UploadsError::Contacts(ContactsError::Store { source, .. })
            | UploadsError::Upload(UploadError::Store(ContactsError::Store { source, .. })) => is_full(source),
            _ => false,
        }
    }
}

fn in_folder(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> UploadsError {
    let path = path.to_owned();
    move |source| UploadsError::Folder { path, what, source }
}

/// What the sender says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRequest {
    /// `None`: one is made from the id.
    pub name: Option<String>,
    /// The channel whose addresses the column `id` holds.
    pub channel: Channel,
    /// Names the request, if its sender may send it again: the same name is the same upload.
    pub request: Option<String>,
    /// The name of the key that it comes with.
    pub by: String,
}

struct Shared {
    folder: PathBuf,
    hashes: PathBuf,
    base: Store,
    book: Arc<Book>,
    open: Mutex<BTreeMap<RowSpace, Store>>,
    /// Of all uploads that are known, those that were removed too.
    schemas: Mutex<BTreeMap<RowSpace, Arc<Schema>>>,
    /// The next space, as far as this process knows: one that was given to an upload that failed is not given again.
    next: Mutex<u32>,
    stopping: AtomicBool,
    clock: retention::Bell,
    /// Written by who copies the uploads, read by who removes one.
    held: RwLock<()>,
}

/// All uploads of a data directory.
pub struct Uploads {
    shared: Arc<Shared>,
    sweeper: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Uploads {
    /// Removes what uploads that were cut short, and removals, have left.
    pub fn open(directory: &Path, base: &Store, book: &Arc<Book>) -> Result<Uploads, UploadsError> {
        let folder = directory.join("audiences");
        let hashes = folder.join("hashes");
        for path in [&folder, &hashes] {
            private_folder(path).map_err(in_folder(path, "made"))?;
        }
        let known = |(space, upload): (&RowSpace, &UploadInfo)| (*space, Arc::new(upload.summary.schema()));
        let schemas = book.read().uploads.iter().map(known).collect();
        let shared = Shared {
            folder,
            hashes,
            base: base.clone(),
            book: Arc::clone(book),
            open: Mutex::default(),
            schemas: Mutex::new(schemas),
            next: Mutex::new(1),
            stopping: AtomicBool::new(false),
            clock: retention::Bell::default(),
            held: RwLock::default(),
        };
        shared.clear()?;
        Ok(Uploads { shared: Arc::new(shared), sweeper: Mutex::new(None) })
    }

    /// Takes in a complete spooled file, which stays the caller's. From `Ok` on the upload survives anything.
    pub fn take_in(&self, request: &UploadRequest, spooled: &Path) -> Result<RowSpace, UploadsError> {
        let shared = &self.shared;
        if let Some(name) = &request.name {
            check_name(name)?;
        }
        if let Some(known) = repeated(&shared.book.read(), request, shared.book.now()) {
            return Ok(known);
        }
        let space = shared.next_space();
        may_be_added(&shared.book.read(), &name_of(request, space))?;
        let mut made = Unfinished { shared, space, kept: false };
        let folder = shared.folder_of(space);
        private_folder(&folder).map_err(in_folder(&folder, "made"))?;
        let upload = one_shot::Upload {
            file: spooled,
            channel: request.channel,
            space,
            salt: shared.base.salt(),
            folder: &folder,
            hashes: &shared.hashes,
            stop: &shared.stopping,
        };
        let (store, summary) = one_shot::take_in(&upload)?;
        for path in [&folder, &shared.hashes, &shared.folder] {
            sync_folder(path).map_err(in_folder(path, "written"))?;
        }
        let committed = shared.book.commit_durable_by::<UploadsError>(|state| {
            let name = name_of(request, space);
            may_be_added(state, &name)?;
            Ok(Some(Fact::AudienceUploaded(Box::new(AudienceUploaded {
                space,
                name,
                channel: request.channel,
                summary,
                request: request.request.clone(),
                by: request.by.clone(),
                at: shared.book.now(),
            }))))
        });
        // Where the journal failed, the next start knows whether it has the fact.
        made.kept =
            !matches!(&committed, Err(error) if !matches!(error, UploadsError::Commit(CommitError::Journal(_))));
        committed?;
        shared.schemas.lock().insert(space, store.schema());
        shared.open.lock().insert(space, store);
        Ok(space)
    }

    /// The rows of a space: the contact base, or an upload that was not removed.
    pub fn store(&self, space: RowSpace) -> Result<Store, UploadsError> {
        let shared = &self.shared;
        if space == RowSpace::BASE {
            return Ok(shared.base.clone());
        }
        let mut open = shared.open.lock();
        if let Some(store) = open.get(&space) {
            return Ok(store.clone());
        }
        match shared.book.read().uploads.get(&space) {
            None => return Err(UploadsError::Unknown { named: space.0.to_string() }),
            Some(upload) if upload.removed_at.is_some() => {
                return Err(UploadsError::Gone { name: upload.name.clone() });
            }
            Some(_) => {}
        }
        let store = Store::open_space(&shared.folder_of(space), space, Some(shared.base.salt()))?;
        open.insert(space, store.clone());
        Ok(store)
    }

    /// The attributes of an upload's rows, also of one that was removed.
    pub fn schema(&self, space: RowSpace) -> Option<Arc<Schema>> {
        self.shared.schemas.lock().get(&space).cloned()
    }

    /// The hash of a row's address, also of an upload that was removed.
    pub fn hash(
        &self,
        space: RowSpace,
        channel: Channel,
        row: ContactRow,
    ) -> Result<Option<AddressHash>, UploadsError> {
        Ok(hashes::HashFile::open(&self.shared.hashes, space, channel)?.get(row)?)
    }

    /// Contacts of the base that have an address which a row of the upload has too.
    pub fn twins(&self, space: RowSpace, channel: Channel) -> Result<Twins, UploadsError> {
        let shared = &self.shared;
        let has = |state: &State| state.uploads.get(&space).is_some_and(|u| u.summary.addresses.contains_key(&channel));
        if !has(&shared.book.read()) {
            return Ok(Twins::default());
        }
        let hashes = hashes::HashFile::open(&shared.hashes, space, channel)?;
        Twins::find(&hashes, &shared.base.reader()?)
    }

    /// [`Uploads::twins`] by every channel that the upload has addresses of.
    pub fn all_twins(&self, space: RowSpace) -> Result<TwinsByChannel, UploadsError> {
        let channels: Vec<Channel> = {
            let state = self.shared.book.read();
            state.uploads.get(&space).map(|u| u.summary.addresses.keys().copied().collect()).unwrap_or_default()
        };
        channels.into_iter().map(|channel| Ok((channel, self.twins(space, channel)?))).collect()
    }

    /// The file of invalid rows, while the upload is kept.
    pub fn invalid_rows(&self, space: RowSpace) -> Option<PathBuf> {
        let path = self.shared.folder_of(space).join(INVALID_FILE);
        Some(path).filter(|path| path.is_file())
    }

    /// Gives up the rows of an upload, durably; refused while an unfinished run needs them.
    pub fn remove(&self, space: RowSpace, by: &str) -> Result<(), UploadsError> {
        self.shared.remove(space, by)
    }

    /// Keeps every upload where it is until the answer is dropped: removals are refused. Waits for one under way.
    pub fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.held.write()
    }

    /// Drops the uploads whose retention has passed; how many.
    pub fn sweep(&self, kept: std::time::Duration, now: crate::clock::Timestamp) -> Result<usize, UploadsError> {
        self.shared.sweep(kept, now)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn folder_of(&self, space: RowSpace) -> PathBuf {
        self.folder.join(space.0.to_string())
    }

    fn next_space(&self) -> RowSpace {
        let mut next = self.next.lock();
        let space = (*next).max(self.book.read().next_space).max(1);
        *next = space.saturating_add(1);
        RowSpace(space)
    }

    fn clear(&self) -> Result<(), UploadsError> {
        let state = self.book.read();
        let live = |space: RowSpace| state.uploads.get(&space).is_some_and(|upload| upload.removed_at.is_none());
        for entry in fs::read_dir(&self.folder).map_err(in_folder(&self.folder, "read"))? {
            let entry = entry.map_err(in_folder(&self.folder, "read"))?;
            let space = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(RowSpace);
            if let Some(space) = space.filter(|space| !live(*space)) {
                tracing::info!(%space, "removing the rows of an upload that is none, or none any more");
                fs::remove_dir_all(entry.path()).map_err(in_folder(&entry.path(), "removed"))?;
            }
        }
        for entry in fs::read_dir(&self.hashes).map_err(in_folder(&self.hashes, "read"))? {
            let entry = entry.map_err(in_folder(&self.hashes, "read"))?;
            let space = entry.file_name().to_str().and_then(hashes::space_of);
            if space.is_none_or(|space| !state.uploads.contains_key(&space)) {
                fs::remove_file(entry.path()).map_err(in_folder(&entry.path(), "removed"))?;
            }
        }
        Ok(())
    }

    fn remove(&self, space: RowSpace, by: &str) -> Result<(), UploadsError> {
        let Some(_removing) = self.held.try_read() else { return Err(UploadsError::Held) };
        self.book.commit_durable_by::<UploadsError>(|state| {
            let unknown = || UploadsError::Unknown { named: space.0.to_string() };
            let upload = state.uploads.get(&space).filter(|u| u.removed_at.is_none()).ok_or_else(unknown)?;
            let runs = state.unfinished_in(space).into_iter().map(|run| run.to_string());
            let needed_by: Vec<String> =
                runs.chain(state.planned_over(space).iter().map(ToString::to_string)).collect();
            if !needed_by.is_empty() {
                return Err(UploadsError::InUse { name: upload.name.clone(), by: needed_by });
            }
            let at = self.book.now();
            Ok(Some(Fact::AudienceRemoved(AudienceRemoved { space, by: by.to_owned(), at })))
        })?;
        self.open.lock().remove(&space);
        let known = self.book.read().uploads.contains_key(&space);
        if !known {
            self.schemas.lock().remove(&space);
        }
        self.delete_files(space, !known)
    }

    fn delete_files(&self, space: RowSpace, with_hashes: bool) -> Result<(), UploadsError> {
        let folder = self.folder_of(space);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(in_folder(&folder, "removed")(error)),
            _ => {}
        }
        if with_hashes {
            hashes::remove(&self.hashes, space).map_err(in_folder(&self.hashes, "removed"))?;
        }
        Ok(())
    }
}

/// An upload on its way in; leaves nothing behind unless it is kept.
struct Unfinished<'s> {
    shared: &'s Shared,
    space: RowSpace,
    kept: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.shared.delete_files(self.space, true)
        {
            tracing::warn!(%error, "what an upload that failed has left goes at the next start");
        }
    }
}

/// The name that an upload gets.
fn name_of(request: &UploadRequest, space: RowSpace) -> String {
    request.name.clone().unwrap_or_else(|| format!("audience-{}", space.0))
}

fn check_name(name: &str) -> Result<(), UploadsError> {
    let bad = |reason| Err(UploadsError::BadName { name: name.to_owned(), reason });
    if name.trim() != name || name.is_empty() {
        return bad("is empty, or begins or ends with a space");
    }
    if name.len() > NAME_BYTES_MAX {
        return bad("is too long");
    }
    if name.chars().any(char::is_control) {
        return bad("has a control character");
    }
    if name.bytes().all(|b| b.is_ascii_digit()) || matches!(name, "sample.csv") {
        return bad("could be taken for something else: an id is a number");
    }
    Ok(())
}

fn may_be_added(state: &State, name: &str) -> Result<(), UploadsError> {
    let live: Vec<&UploadInfo> = state.uploads.values().filter(|upload| upload.removed_at.is_none()).collect();
    if live.iter().any(|upload| upload.name == name) {
        return Err(UploadsError::Exists { name: name.to_owned() });
    }
    if live.len() >= ONE_SHOT_UPLOADS_MAX {
        return Err(UploadsError::Full { max: ONE_SHOT_UPLOADS_MAX });
    }
    Ok(())
}

/// The upload that the same request has made already: its answer was lost.
fn repeated(state: &State, request: &UploadRequest, now: crate::clock::Timestamp) -> Option<RowSpace> {
    let name = request.request.as_ref()?;
    let fresh = |upload: &UploadInfo| now.saturating_since(upload.uploaded_at) < IDEMPOTENCY_KEPT;
    let is_it =
        |upload: &UploadInfo| upload.removed_at.is_none() && upload.request.as_ref() == Some(name) && fresh(upload);
    state.uploads.iter().find(|(_, upload)| is_it(upload)).map(|(space, _)| *space)
}

/// For its owner alone: what lies in it is people's data.
fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

impl Uploads {
    /// Has uploads on their way in given up, and ends the look for old ones. Blocks.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.clock.ring();
        if let Some(sweeper) = self.sweeper.lock().take()
            && sweeper.join().is_err()
        {
            tracing::error!("the look for old uploads ended by a panic");
        }
    }
}
