//! A running import: a thread reads and parses, the caller's thread writes, chunk by chunk.
//!
//! Owns the parser thread, the file of rejected rows and the progress. The caller turns each chunk's rows into facts of
//! consent and list, makes them durable, and confirms the chunk. Between the commit of a chunk and the next commit after
//! its confirmation the store keeps the chunk's rows: after a crash, [`ImportJob::resume`] gives it once more. A caller
//! therefore puts (import, chunk) into its facts and passes over a chunk whose facts it finds.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use roaring::RoaringBitmap;

use crate::contacts::csv_import::commit::Rules;
use crate::contacts::csv_import::plan::Plan;
use crate::contacts::csv_import::rejected::RejectedFile;
use crate::contacts::csv_import::rows::{Chunk, ChunkParser};
use crate::contacts::csv_import::status::{ImportStatus, Saved, Unconfirmed};
use crate::contacts::csv_import::{ImportError, ImportSpec, Progress};
use crate::contacts::schema::SchemaError;
use crate::contacts::{ContactsError, GivenConsent, Store};
use crate::ids::ImportId;
use crate::limits::IMPORT_STOP_LOOK;

/// Parsed chunks that wait for the writer, beside the one in its hands and the one that is being parsed.
const CHUNKS_AHEAD: usize = 1;

/// A chunk that is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkDone {
    pub import: ImportId,
    /// Counts from 1.
    pub chunk: u32,
    /// The contacts that a row of the chunk names: what consent and list are for.
    pub rows: RoaringBitmap,
    /// Those among them that the file's own column calls unsubscribed.
    pub unsubscribed: RoaringBitmap,
    /// The chunk was given before, by a job that ended before it was confirmed for good.
    pub repeated: bool,
    pub progress: Progress,
}

pub struct ImportJob {
    store: Store,
    status: ImportStatus,
    rules: Rules,
    rejected: RejectedFile,
    seen: RoaringBitmap,
    parsed: Option<Receiver<Result<Chunk, ImportError>>>,
    parser: Option<JoinHandle<()>>,
    /// Tells the parser that nobody wants its chunk any more.
    stop: Arc<AtomicBool>,
    repeated: Option<ChunkDone>,
    unconfirmed: Option<u32>,
    /// Of the chunk that was confirmed last: written with the next one.
    consents: Vec<GivenConsent>,
}

impl ImportJob {
    /// Begins the import of the file at `spool`, which stays as it is until the import is finished. Rejected rows go to
    /// the file `rejected`. Nothing of the file is in the store before the first [`ImportJob::next_chunk`].
    pub fn start(store: &Store, spec: ImportSpec, spool: &Path, rejected: &Path) -> Result<ImportJob, ImportError> {
        let import = spec.import;
        if store.reader()?.import(import)?.is_some() {
            return Err(ImportError::Exists { import });
        }
        let mut file = open(spool)?;
        let file_bytes = file.metadata().map_err(ImportError::Read)?.len();
        let (plan, _) = Plan::make(&store.schema(), &spec, &mut file)?;
        let (position, line) = plan.start();
        let progress = Progress { position, line, ..Progress::default() };
        let saved = Saved { spec, plan, spool: spool.to_owned(), rejected: rejected.to_owned(), file_bytes };
        let mut writer = store.writer()?;
        for column in saved.plan.columns.iter().filter(|c| c.is_new) {
            let (Some(name), Some(kind)) = (&column.attribute, column.kind) else {
                continue;
            };
            match writer.schema().by_name(name) {
                None => writer.add_attribute(name, kind, column.index).map(drop)?,
                Some(present) if present.kind == kind => {}
                Some(present) => {
                    let exists = SchemaError::Exists { name: name.clone(), kind: present.kind };
                    return Err(ContactsError::from(exists).into());
                }
            }
        }
        writer.save_import(&saved)?;
        writer.save_progress(import, &progress)?;
        writer.commit()?;
        ImportJob::resume(store, import)
    }

    /// Goes on with an import, after the last chunk that is in the store. If that chunk is not confirmed, it comes first.
    pub fn resume(store: &Store, import: ImportId) -> Result<ImportJob, ImportError> {
        let status = store.reader()?.import(import)?.ok_or(ImportError::NoSuchImport { import })?;
        ImportJob::resume_at(store, import, &status.spool, &status.rejected)
    }

    /// [`ImportJob::resume`] with the files where they are now: the directory may have moved since.
    pub fn resume_at(store: &Store, import: ImportId, spool: &Path, rejected: &Path) -> Result<ImportJob, ImportError> {
        let reader = store.reader()?;
        let mut status = reader.import(import)?.ok_or(ImportError::NoSuchImport { import })?;
        spool.clone_into(&mut status.spool);
        rejected.clone_into(&mut status.rejected);
        let seen = reader.rows_seen(import)?;
        let repeated = reader.unconfirmed(import)?.map(|u| ChunkDone {
            import,
            chunk: u.chunk,
            rows: u.rows,
            unsubscribed: u.unsubscribed,
            repeated: true,
            progress: status.progress.clone(),
        });
        drop(reader);
        let rules = Rules::new(&status.spec, &status.plan, &store.schema());
        let rejected = RejectedFile::open(&status.rejected, status.progress.rejected_bytes)?;
        let file_bytes = status.file_bytes;
        let mut job = ImportJob {
            store: store.clone(),
            status,
            rules,
            rejected,
            seen,
            parsed: None,
            parser: None,
            stop: Arc::default(),
            repeated,
            unconfirmed: None,
            consents: Vec::new(),
        };
        if !job.status.progress.finished {
            if open(&job.status.spool)?.metadata().map_err(ImportError::Read)?.len() != file_bytes {
                return Err(ImportError::FileChanged { path: job.status.spool.clone(), expected: file_bytes });
            }
            job.spawn_parser()?;
        }
        Ok(job)
    }

    pub fn status(&self) -> &ImportStatus {
        &self.status
    }

    pub fn progress(&self) -> &Progress {
        &self.status.progress
    }

    fn spawn_parser(&mut self) -> Result<(), ImportError> {
        let ImportStatus { spec, plan, spool, progress, .. } = &self.status;
        let place = (progress.position, progress.line);
        let parser = ChunkParser::new(open(spool)?, plan, spec, &self.store.schema(), place)?;
        let mut parser = parser.for_store(self.store.salt(), Arc::clone(&self.stop));
        let (give, take) = bounded(CHUNKS_AHEAD);
        let work = move || loop {
            let chunk = parser.next_chunk(0);
            let last = !matches!(&chunk, Ok(chunk) if !chunk.ended);
            // The receiver is gone when the job was dropped: nobody wants more.
            if give.send(chunk).is_err() || last {
                break;
            }
        };
        let spawned = std::thread::Builder::new().name("import-parser".to_owned()).spawn(work);
        self.parser = Some(spawned.map_err(ImportError::Read)?);
        self.parsed = Some(take);
        Ok(())
    }

    /// Writes the next chunk; `None` at the end of the file. The last chunk must be confirmed before.
    pub fn next_chunk(&mut self) -> Result<Option<ChunkDone>, ImportError> {
        self.next_chunk_unless(&AtomicBool::new(false))
    }

    /// [`ImportJob::next_chunk`], given up with [`ImportError::Stopped`] once `stopping` is set, also amid a chunk that is
    /// being parsed: nothing of that chunk is in the store.
    pub fn next_chunk_unless(&mut self, stopping: &AtomicBool) -> Result<Option<ChunkDone>, ImportError> {
        if let Some(repeated) = self.repeated.take() {
            self.unconfirmed = Some(repeated.chunk);
            return Ok(Some(repeated));
        }
        if let Some(chunk) = self.unconfirmed {
            return Err(ImportError::Unconfirmed { chunk });
        }
        let Some(parsed) = &self.parsed else { return Ok(None) };
        let mut chunk = loop {
            if stopping.load(Ordering::Acquire) {
                return Err(ImportError::Stopped);
            }
            match parsed.recv_timeout(IMPORT_STOP_LOOK) {
                Ok(parsed) => break parsed?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ImportError::ParserLost),
            }
        };
        let done = self.write_chunk(&mut chunk)?;
        if chunk.ended {
            self.stop_parser();
        }
        self.unconfirmed = done.as_ref().map(|d| d.chunk);
        Ok(done)
    }

    fn write_chunk(&mut self, chunk: &mut Chunk) -> Result<Option<ChunkDone>, ImportError> {
        let import = self.status.spec.import;
        let mut progress = Progress { failed: None, ..self.status.progress.clone() };
        let mut writer = self.store.writer()?;
        let taken = writer.take_chunk(chunk, &self.rules, &self.seen, &mut progress)?;
        progress.rows += chunk.read;
        progress.rejected += chunk.rejected;
        progress.rejected_by.merge(std::mem::take(&mut chunk.rejected_by));
        (progress.position, progress.line) = chunk.place;
        progress.finished = chunk.ended;
        progress.rejected_bytes = self.rejected.append(&chunk.rejected_rows)?;
        let rows: RoaringBitmap = taken.rows.iter().copied().collect();
        if chunk.ended {
            writer.drop_seen(import)?;
        } else {
            writer.save_seen(import, &taken.rows)?;
        }
        let done = (chunk.read > 0).then(|| {
            progress.chunks += 1;
            Unconfirmed { chunk: progress.chunks, rows, unsubscribed: taken.unsubscribed }
        });
        writer.save_unconfirmed(import, done.as_ref())?;
        writer.save_progress(import, &progress)?;
        writer.give_consents(import, &self.consents)?;
        writer.commit()?;
        self.consents.clear();
        self.status.progress = progress;
        let Some(done) = done else { return Ok(None) };
        self.seen |= &done.rows;
        Ok(Some(ChunkDone {
            import,
            chunk: done.chunk,
            rows: done.rows,
            unsubscribed: done.unsubscribed,
            repeated: false,
            progress: self.status.progress.clone(),
        }))
    }

    /// The facts of the chunk are durable; `consents` is what they changed. The last chunk's rows leave the store at once,
    /// others with the next chunk, and in the same transaction the histories of the contacts get what was changed.
    pub fn confirm_chunk(&mut self, chunk: u32, consents: Vec<GivenConsent>) -> Result<(), ImportError> {
        match self.unconfirmed {
            Some(expected) if expected != chunk => return Err(ImportError::Unconfirmed { chunk: expected }),
            Some(_) => self.unconfirmed = None,
            None => return Ok(()),
        }
        if self.status.progress.finished {
            let import = self.status.spec.import;
            self.store.write(|w| {
                w.give_consents(import, &consents)?;
                w.save_unconfirmed(import, None)
            })?;
            return Ok(());
        }
        self.consents = consents;
        Ok(())
    }

    fn stop_parser(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.parsed = None;
        if let Some(parser) = self.parser.take() {
            // A parser that panicked has been told by the channel's end already.
            drop(parser.join());
        }
    }
}

impl Drop for ImportJob {
    fn drop(&mut self) {
        self.stop_parser();
    }
}

fn open(path: &Path) -> Result<File, ImportError> {
    File::open(path).map_err(|source| ImportError::File { path: path.to_owned(), what: "opened", source })
}

#[cfg(test)]
mod tests;
