//! One import at work: chunk by chunk into the store, each chunk's facts into the journal, and the end.
//!
//! Per chunk: the store commits rows and progress → the fact *ImportChunk* is durable → the chunk is confirmed. A crash
//! between the first two leaves an unconfirmed chunk in the store, which the next start gives once more; a crash between
//! the last two leaves one whose fact is there already, and the number of the next chunk in the state says so.
//!
//! What a fact changed of consent goes into the histories with the *next* chunk's transaction (the last chunk's with its
//! confirmation), so that it costs no commit of its own. Until then the state keeps it, and gives it again with the chunk.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::actors::book::{Book, CommitError};
use crate::contacts::csv_import::{ChunkDone, ImportError, ImportJob, Plan, Progress};
use crate::contacts::{ConsentEntry, ConsentStatus, ContactsError, GivenConsent, Store};
use crate::engine::figures;
use crate::engine::imports::opted;
use crate::engine::imports::ticket::Ticket;
use crate::ids::{Channel, ImportId};
use crate::journal::Want;
use crate::ledger::facts::ImportChunk;
use crate::ledger::{Fact, RowSet, State};

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
    store: Store,
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
        Ok(Running { job, ticket, store: store.clone() })
    }

    pub fn plan(&self) -> &Plan {
        &self.job.status().plan
    }

    pub fn progress(&self) -> &Progress {
        self.job.progress()
    }

    /// One chunk, into the store and the journal; `false` at the end of the file. Once `stopping` is set, a chunk that is
    /// not yet read is left with [`ImportError::Stopped`].
    pub fn step(&mut self, book: &Book, stopping: &AtomicBool) -> Result<bool, WorkError> {
        let (began, before) = (Instant::now(), self.progress().clone());
        let Some(done) = self.job.next_chunk_unless(stopping)? else { return Ok(false) };
        let number = done.chunk;
        let consents = self.record(book, done)?;
        self.confirm(number, consents)?;
        figures::imported(&before, self.progress(), began.elapsed());
        Ok(true)
    }

    #[cfg(test)]
    pub(super) fn take(&mut self) -> Result<Option<ChunkDone>, WorkError> {
        Ok(self.job.next_chunk()?)
    }

    pub(super) fn record(&self, book: &Book, done: ChunkDone) -> Result<Vec<GivenConsent>, WorkError> {
        let (import, number) = (done.import, done.chunk);
        record(book, &self.store, &self.ticket, done)?;
        Ok(given(book, import, Some(number)))
    }

    pub(super) fn confirm(&mut self, number: u32, consents: Vec<GivenConsent>) -> Result<(), WorkError> {
        Ok(self.job.confirm_chunk(number, consents)?)
    }
}

/// Makes the chunk's consent and list durable facts, unless they are.
fn record(book: &Book, store: &Store, ticket: &Ticket, done: ChunkDone) -> Result<(), WorkError> {
    let request = &ticket.request;
    let recorded = |state: &State| state.imports.get(&done.import).is_some_and(|next| done.chunk < *next);
    let shared = match request.resubscribe {
        true => {
            let facts = opted::taken_back(store, &book.read(), &done, &request.subscribe, ticket.started_at);
            for fact in facts.map_err(ImportError::from)? {
                book.commit(&fact, Want::idle())?;
            }
            None
        }
        false => {
            // Asked without holding the book while the store is read.
            let matter = {
                let state = book.read();
                let matters = |(channel, topic): &&(Channel, String)| opted::matters(&state, &done, *channel, topic);
                request.subscribe.iter().filter(matters).cloned().collect::<Vec<_>>()
            };
            let among = |channel: Channel, topic: &str| matter.iter().any(|(c, t)| *c == channel && t == topic);
            Some(opted::Shared::look(store, &done, &request.subscribe, among).map_err(ImportError::from)?)
        }
    };
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
            opted_out: shared.as_ref().map_or_else(Vec::new, |s| s.opted_out(state, &done, &request.subscribe)),
            // One time for all chunks, so that their contacts share an entry of history.
            at: ticket.started_at,
        })))
    })?;
    Ok(())
}

/// What a chunk changed, or the last chunk of an import: entries of the histories of its contacts.
fn given(book: &Book, import: ImportId, chunk: Option<u32>) -> Vec<GivenConsent> {
    let state = book.read();
    let Some(imported) = state.consent.imported(import, chunk) else { return Vec::new() };
    let (source, at) = (import.to_string(), imported.at);
    let entries = imported.changes.iter().flat_map(|change| {
        let entry = |status| {
            let (channel, topic, source) = (change.channel, change.topic.clone(), source.clone());
            ConsentEntry { channel, topic, status, source, at }
        };
        [
            (entry(ConsentStatus::Subscribed), change.subscribed.clone()),
            (entry(ConsentStatus::Unsubscribed), change.unsubscribed.clone()),
        ]
    });
    entries.collect()
}

/// Writes what the last chunk of an import that is given up changed; harmless if it is written already.
pub(super) fn keep_consents(book: &Book, store: &Store, import: ImportId) -> Result<(), ContactsError> {
    let given = given(book, import, None);
    store.write(|writer| writer.give_consents(import, &given))
}
