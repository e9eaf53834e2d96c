//! One import at work: chunk by chunk into the store, each chunk's facts into the journal, and the end.
//!
//! Per chunk: the store commits rows and progress → the fact *ImportChunk* is durable → the chunk is confirmed. A crash
//! between the first two leaves an unconfirmed chunk in the store, which the next start gives once more; a crash between
//! the last two leaves one whose fact is there already, and the number of the next chunk in the state says so.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use crate::actors::book::{Book, CommitError};
use crate::contacts::csv_import::{ChunkDone, ImportError, ImportJob, Plan, Progress};
use crate::contacts::{ContactsError, Store};
use crate::engine::figures;
use crate::engine::imports::ticket::Ticket;
use crate::ledger::facts::ImportChunk;
use crate::ledger::{Fact, RowSet, State};
use crate::limits::IMPORT_REASONS_MAX;

/// Why an import could not go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl WorkError {
    /// The disk is full: the import waits for space and goes on by itself.
    pub fn is_full_disk(&self) -> bool {
        match self {
            WorkError::Commit(error) => matches!(error, CommitError::NoSpace),
            WorkError::Import(ImportError::Store(ContactsError::Store { source, .. })) => is_full(source),
            WorkError::Import(ImportError::File { source, .. } | ImportError::Read(source)) => is_no_space(source),
            WorkError::Import(_) => false,
        }
    }
}

fn is_no_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Whether the store failed for want of space.
pub(in crate::engine) fn is_full(error: &heed::Error) -> bool {
    match error {
        heed::Error::Io(error) => is_no_space(error),
        heed::Error::Mdb(heed::MdbError::MapFull) => true,
        heed::Error::Mdb(heed::MdbError::Other(code)) => is_no_space(&std::io::Error::from_raw_os_error(*code)),
        _ => false,
    }
}

/// An import that is open in the store.
pub struct Running {
    job: ImportJob,
    ticket: Ticket,
}

impl Running {
    /// Takes the import up where the store says that it is, or begins it.
    pub fn open(ticket: Ticket, store: &Store, spool: &Path, rejected: &Path) -> Result<Running, WorkError> {
        let known = store.reader().and_then(|r| r.import(ticket.id)).map_err(ImportError::from)?.is_some();
        let job = if known {
            ImportJob::resume_at(store, ticket.id, spool, rejected)?
        } else {
            ImportJob::start(store, ticket.request.spec.clone(), spool, rejected)?
        };
        Ok(Running { job, ticket })
    }

    pub fn plan(&self) -> &Plan {
        &self.job.status().plan
    }

    pub fn progress(&self) -> &Progress {
        self.job.progress()
    }

    /// One chunk, into the store and the journal; `false` at the end of the file.
    pub fn step(&mut self, book: &Book) -> Result<bool, WorkError> {
        let (began, before) = (Instant::now(), self.progress().clone());
        let Some(done) = self.take()? else { return Ok(false) };
        let number = done.chunk;
        self.record(book, done)?;
        self.confirm(number)?;
        figures::imported(&before, self.progress(), began.elapsed());
        Ok(true)
    }

    pub(super) fn take(&mut self) -> Result<Option<ChunkDone>, WorkError> {
        Ok(self.job.next_chunk()?)
    }

    pub(super) fn record(&self, book: &Book, done: ChunkDone) -> Result<(), WorkError> {
        Ok(record(book, &self.ticket, done)?)
    }

    pub(super) fn confirm(&mut self, number: u32) -> Result<(), WorkError> {
        Ok(self.job.confirm_chunk(number)?)
    }
}

/// Makes the chunk's consent and list durable facts, unless they are.
fn record(book: &Book, ticket: &Ticket, done: ChunkDone) -> Result<(), CommitError> {
    let request = &ticket.request;
    let recorded = |state: &State| state.imports.get(&done.import).is_some_and(|next| done.chunk < *next);
    book.commit_durable_by::<CommitError>(|state| {
        if recorded(state) {
            return Ok(None);
        }
        Ok(Some(Fact::ImportChunk(ImportChunk {
            import: done.import,
            chunk: done.chunk,
            rows: RowSet::base(done.rows.clone()),
            list: request.list.clone(),
            subscribe: request.subscribe.clone(),
            unsubscribed: RowSet::base(done.unsubscribed.clone()),
            resubscribe: request.resubscribe,
            at: book.now(),
        })))
    })?;
    Ok(())
}

/// Counts the rejected rows by column and reason, from the file of them. Beyond the bound, reasons count together.
pub fn rejected_by(file: &Path) -> BTreeMap<String, u64> {
    let mut by = BTreeMap::new();
    let Ok(mut rows) = csv::Reader::from_path(file) else { return by };
    let mut row = csv::StringRecord::new();
    while let Ok(true) = rows.read_record(&mut row) {
        let (column, reason) = (row.get(1).unwrap_or(""), row.get(2).unwrap_or(""));
        let reason = if column.is_empty() { reason.to_owned() } else { format!("{column} {reason}") };
        let known = by.len() < IMPORT_REASONS_MAX || by.contains_key(&reason);
        *by.entry(if known { reason } else { "other".to_owned() }).or_default() += 1;
    }
    by
}
