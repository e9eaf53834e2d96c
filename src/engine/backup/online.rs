//! A backup while the server runs; the order of its steps is argued for in the folder's documentation.
//!
//! Owns no state.

use std::path::Path;

use super::files::{self, Draft};
use super::manifest::Manifest;
use super::{BackupError, Progress};
use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::check::STORE_FOLDER;
use crate::engine::imports::{HeldImports, OpenSpool};
use crate::engine::uploads::UploadsError;
use crate::journal::{self, Cut, Held};

/// What belongs to the one moment.
struct Frozen {
    cut: Cut,
    at: Timestamp,
    spools: Vec<OpenSpool>,
}

pub(super) fn make(engine: &Engine, target: &Path, progress: &Progress) -> Result<Manifest, BackupError> {
    progress.foresee(files::bytes_on_disk(&engine.options.directory).saturating_mul(2));
    // Fewer frames to copy and to fold. Without it the backup is as good.
    if let Err(error) = engine.book.snapshot() {
        tracing::info!(%error, "the backup begins with the snapshot before");
    }
    let draft = Draft::begin(target)?;
    let copied = copy(engine, &draft.folder, progress);
    draft.complete(copied, &engine.options.directory, progress)
}

fn copy(engine: &Engine, to: &Path, progress: &Progress) -> Result<Manifest, BackupError> {
    let data = &engine.options.directory;
    // From the outside in: no upload goes, no segment goes; then the one moment.
    let _uploads = engine.uploads.hold();
    let journal = engine.book.journal().hold();
    let writer = engine.store.writer()?;
    let tickets = engine.imports.hold();
    let mut frozen = None;
    let begun = || {
        let moment = freeze(engine, &journal, &tickets, &to.join(files::TICKETS));
        drop(tickets);
        drop(writer);
        // While LMDB copies on. Segments may go again afterwards.
        frozen = Some(moment.and_then(|moment| {
            journal.copy(&moment.cut, &to.join(journal::FOLDER))?;
            drop(journal);
            Ok(moment)
        }));
    };
    files::copy_store(&engine.store, &to.join(STORE_FOLDER), progress, begun)?;
    let frozen = frozen.unwrap_or(Err(BackupError::Fault))?;
    copy_spools(frozen.spools, &to.join(files::SPOOL), progress)?;
    files::copy_plain(&data.join(files::REJECTED), &to.join(files::REJECTED), progress)?;
    copy_audiences(engine, data, to, progress)?;
    for name in files::KEYS {
        files::copy_if_there(&data.join(name), &to.join(name), progress)?;
    }
    Manifest::new(frozen.at, true, frozen.cut.seq)
}

fn freeze(engine: &Engine, journal: &Held<'_>, tickets: &HeldImports<'_>, to: &Path) -> Result<Frozen, BackupError> {
    files::make_folder(to)?;
    tickets.copy_tickets(to).map_err(|source| BackupError::io("copy the tickets of imports to", to, source))?;
    let spools =
        tickets.open_spools().map_err(|source| BackupError::io("open the uploads of imports for", to, source))?;
    let cut = journal.cut()?;
    Ok(Frozen { cut, at: engine.book.now(), spools })
}

fn copy_spools(spools: Vec<OpenSpool>, to: &Path, progress: &Progress) -> Result<(), BackupError> {
    files::make_folder(to)?;
    for spool in spools {
        let path = to.join(&spool.name);
        let copied = files::copy_open(spool.file, &path, |part| progress.add(part.len() as u64));
        copied.map_err(|source| BackupError::io("copy an upload to", &path, source))?;
    }
    Ok(())
}

fn copy_audiences(engine: &Engine, data: &Path, to: &Path, progress: &Progress) -> Result<(), BackupError> {
    let (from, to) = (data.join(files::AUDIENCES), to.join(files::AUDIENCES));
    let live: Vec<_> = {
        let state = engine.book.read();
        state.uploads.iter().filter(|(_, upload)| upload.removed_at.is_none()).map(|(space, _)| *space).collect()
    };
    for space in live {
        let store = engine.uploads.store(space).map_err(|error| match error {
            UploadsError::Contacts(error) => BackupError::Contacts(error),
            other => BackupError::io("open", &from.join(space.0.to_string()), std::io::Error::other(other)),
        })?;
        let folder = to.join(space.0.to_string());
        files::copy_store(&store, &folder, progress, || ())?;
        files::copy_plain(&from.join(space.0.to_string()), &folder, progress)?;
    }
    files::copy_plain(&from.join(files::HASHES), &to.join(files::HASHES), progress)
}
