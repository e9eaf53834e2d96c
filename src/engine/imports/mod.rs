//! CSV imports: taken over from the spool, worked off one at a time on a thread of their own, reported until they expire.
//!
//! | folder | holds |
//! |---|---|
//! | `spool` | uploaded files, until their import has ended |
//! | `imports` | a ticket an import: what was asked, how it ended |
//! | `rejected` | the rejected rows of an import, as CSV |
//!
//! Owns the three folders, the queue and the thread. Invariants: IQ-1 a ticket is durable before its upload is answered, so
//! an accepted import is ended by this process or a later one; IQ-2 an ended import has no spool file; IQ-3 a row's contact
//! is in the store before the fact that gives it consent, and every chunk's fact is in the journal exactly once; IQ-4 an
//! import that fails keeps the chunks it has committed, says which rows they are by its counts, and leaves nothing half.
//!
//! Must not know: HTTP, and what a row means.

mod ending;
mod held;
mod opted;
mod ticket;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::actors::book::Book;
use crate::clock::Timestamp;
use crate::contacts::csv_import::{DryRun, ImportError, ImportSpec, Plan};
use crate::contacts::{ContactsError, Store};
use crate::ids::ImportId;
use crate::limits::{IDEMPOTENCY_KEPT, IMPORT_EXPIRY_PERIOD, IMPORT_SPACE_RETRY, IMPORTS_WAITING_MAX};

pub use held::{HeldImports, OpenSpool};
pub use ticket::{ImportRequest, Ticket, TicketState};
pub(in crate::engine) use work::is_full;
pub use work::{Running, WorkError};

/// Header of the column that marks opt-outs unless the mapping sends it elsewhere.
pub const UNSUBSCRIBED_COLUMN: &str = "unsubscribed";

/// How often a deadline's wait looks whether the thread has ended.
const JOIN_POLL: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum ImportsError {
    #[error("the imports under {path} can't be {what}", path = .path.display())]
    Folder {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{waiting} imports wait already: try again when one has ended")]
    Busy { waiting: usize },
    #[error("the engine is shutting down: send the file again when it is back")]
    Stopping,
    #[error("{import} is not known, or its report has expired")]
    Unknown { import: ImportId },
    #[error(
        "column {column:?} marks opt-outs, but the import subscribes to no topic that they could opt out of: name one, or leave the column out"
    )]
    NothingToOptOutOf { column: String },
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl From<ContactsError> for ImportsError {
    fn from(error: ContactsError) -> ImportsError {
        ImportsError::Import(error.into())
    }
}

struct Shared {
    spool: PathBuf,
    reports: PathBuf,
    rejected: PathBuf,
    store: Store,
    book: Arc<Book>,
    tickets: Mutex<BTreeMap<ImportId, Ticket>>,
    waiting: Mutex<VecDeque<ImportId>>,
    wake: Condvar,
    stopping: AtomicBool,
    uploads: AtomicU64,
    /// How long reports and rejected rows are kept; for ever if it was not said.
    kept: OnceLock<Duration>,
}

/// All imports of a data directory. Dropping it ends its thread between two rows.
pub struct Imports {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Imports {
    /// Reads what is known of earlier imports and deletes uploads that were never taken over. Works off nothing yet.
    pub fn open(directory: &Path, store: &Store, book: &Arc<Book>) -> Result<Imports, ImportsError> {
        let [spool, reports, rejected] = ["spool", "imports", "rejected"].map(|name| directory.join(name));
        for folder in [&spool, &reports, &rejected] {
            ticket::private_folder(folder).map_err(in_folder(folder, "made"))?;
        }
        let mut tickets = Ticket::load_all(&reports).map_err(in_folder(&reports, "read"))?;
        let reader = store.reader()?;
        for ticket in tickets.values_mut().filter(|t| t.state == TicketState::Running) {
            if let Some(status) = reader.import(ticket.id)? {
                ticket.progress = status.progress;
                ticket.plan = Some(status.plan);
            }
        }
        let stale: Vec<ImportId> = reader.imports()?.iter().map(|status| status.spec.import).collect();
        drop(reader);
        for import in stale {
            if tickets.get(&import).is_none_or(|t| t.state != TicketState::Running) {
                store.forget_import(import)?;
            }
        }
        let waiting: VecDeque<ImportId> =
            tickets.values().filter(|t| t.state == TicketState::Running).map(|t| t.id).collect();
        let shared = Shared {
            spool,
            reports,
            rejected,
            store: store.clone(),
            book: Arc::clone(book),
            tickets: Mutex::new(tickets),
            waiting: Mutex::new(waiting),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            uploads: AtomicU64::new(0),
            kept: OnceLock::new(),
        };
        shared.clear_spool()?;
        Ok(Imports { shared: Arc::new(shared), worker: Mutex::new(None) })
    }

    /// Sets how long reports and rejected rows are kept after the end of their import. Only the first call counts.
    pub fn keep_for(&self, kept: Duration) {
        self.shared.kept.get_or_init(|| kept);
    }

    /// Starts the thread, which first ends what an earlier process began.
    pub fn start(&self) -> Result<(), ImportsError> {
        let mut worker = self.worker.lock();
        if worker.is_none() {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new().name("imports".to_owned()).spawn(move || shared.work());
            *worker = Some(spawned.map_err(in_folder(&self.shared.spool, "worked off"))?);
        }
        Ok(())
    }

    /// Has the thread end as soon as it can; what is not done goes on at the next start. Does not wait.
    pub fn ask_to_stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Under the queue's lock, so that the thread either sees the flag or hears the bell.
        let _queue = self.shared.waiting.lock();
        self.shared.wake.notify_all();
    }

    /// Waits for the end of the thread until `deadline`; `false` if it goes on. It is then left alone: what it does not
    /// finish before the process ends, the next start does, as after a crash.
    pub fn join_until(&self, deadline: Instant) -> bool {
        let Some(worker) = self.worker.lock().take() else { return true };
        while !worker.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(JOIN_POLL);
        }
        report_fault(worker);
        true
    }

    /// Ends the thread as soon as it can. Blocks.
    pub fn stop(&self) {
        self.ask_to_stop();
        if let Some(worker) = self.worker.lock().take() {
            report_fault(worker);
        }
    }

    /// A fresh path for an upload, on the file system that it is imported from.
    pub fn spool_path(&self) -> PathBuf {
        let number = self.shared.uploads.fetch_add(1, Ordering::Relaxed);
        // Leftovers of earlier processes are gone, so that a number is enough.
        self.shared.spool.join(format!("upload-{number}.csv"))
    }

    /// What an import would do, and that it writes nothing. The spooled file stays.
    pub fn dry_run(&self, request: &ImportRequest, spooled: &Path) -> Result<DryRun, ImportsError> {
        let mut request = request.clone();
        self.plan(&mut request, spooled)?;
        let file = open(spooled)?;
        Ok(crate::contacts::csv_import::dry_run(&self.shared.store.schema(), &request.spec, file)?)
    }

    /// Takes over a complete file that lies at a path of [`Imports::spool_path`] and is durable. From `Ok` on the import
    /// survives anything; on an error the file is still the caller's. Refuses what can be seen from the header. A request
    /// that was taken over before answers its import, also after a crash: its name is in the ticket.
    pub fn submit(&self, mut request: ImportRequest, spooled: &Path) -> Result<Ticket, ImportsError> {
        let shared = &self.shared;
        request.spec.now = shared.book.now();
        let plan = self.plan(&mut request, spooled)?;
        let spool_bytes = fs::metadata(spooled).map_err(in_folder(spooled, "read"))?.len();
        ticket::sync_folder(&shared.spool).map_err(in_folder(&shared.spool, "written"))?;
        let mut tickets = shared.tickets.lock();
        let mut waiting = shared.waiting.lock();
        if shared.stopping.load(Ordering::Acquire) {
            return Err(ImportsError::Stopping);
        }
        if let Some(known) = shared.repeated(&tickets, &request) {
            ticket::delete_file(spooled).map_err(in_folder(&shared.spool, "cleared"))?;
            return Ok(known);
        }
        if waiting.len() >= IMPORTS_WAITING_MAX {
            return Err(ImportsError::Busy { waiting: waiting.len() });
        }
        let id = shared.next_id(&tickets);
        request.spec.import = id;
        let ticket = Ticket {
            id,
            started_at: request.spec.now,
            request,
            spool: spooled.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            spool_bytes,
            plan: Some(plan),
            state: TicketState::Running,
            progress: Default::default(),
            error: None,
            finished_at: None,
        };
        ticket.save(&shared.reports).map_err(in_folder(&shared.reports, "written"))?;
        tickets.insert(id, ticket.clone());
        waiting.push_back(id);
        shared.wake.notify_one();
        Ok(ticket)
    }

    /// Looks at the header, and finds the column of opt-outs.
    fn plan(&self, request: &mut ImportRequest, spooled: &Path) -> Result<Plan, ImportsError> {
        let schema = self.shared.store.schema();
        let mut file = open(spooled)?;
        let spec = &mut request.spec;
        let explicit = spec.unsubscribed_column.clone();
        if let Some(column) = explicit {
            if request.subscribe.is_empty() {
                return Err(ImportsError::NothingToOptOutOf { column });
            }
            return Ok(Plan::make(&schema, spec, &mut file)?.0);
        }
        let (plan, _) = Plan::make(&schema, spec, &mut file)?;
        let mapped = |name: &str| spec.mapping.keys().any(|m| m.eq_ignore_ascii_case(name));
        let found = plan.columns.iter().find(|c| c.name.eq_ignore_ascii_case(UNSUBSCRIBED_COLUMN) && !mapped(&c.name));
        match found {
            Some(column) if !request.subscribe.is_empty() => {
                let with_column = ImportSpec { unsubscribed_column: Some(column.name.clone()), ..spec.clone() };
                *spec = with_column;
                Ok(Plan::make(&schema, spec, &mut file)?.0)
            }
            _ => Ok(plan),
        }
    }

    pub fn ticket(&self, import: ImportId) -> Result<Ticket, ImportsError> {
        self.shared.tickets.lock().get(&import).cloned().ok_or(ImportsError::Unknown { import })
    }

    /// Up to `limit` imports, newest first, from the one before `before`.
    pub fn tickets(&self, before: Option<ImportId>, limit: usize) -> Vec<Ticket> {
        let tickets = self.shared.tickets.lock();
        let below = tickets.values().rev().filter(|t| before.is_none_or(|b| t.id < b));
        below.take(limit).cloned().collect()
    }

    /// Imports that wait or run.
    pub fn unfinished(&self) -> usize {
        self.shared.tickets.lock().values().filter(|t| t.state == TicketState::Running).count()
    }

    /// The file of rejected rows; `None` if there are none so far, or they have expired.
    pub fn rejected(&self, import: ImportId) -> Result<Option<PathBuf>, ImportsError> {
        let ticket = self.ticket(import)?;
        let path = self.shared.rejected_path(import);
        Ok(Some(path).filter(|p| ticket.progress.rejected > 0 && p.is_file()))
    }

    /// Deletes the rejected rows and the report of every import that ended before `before`; how many.
    pub fn expire(&self, before: Timestamp) -> Result<usize, ImportsError> {
        self.shared.expire(before)
    }
}

impl Drop for Imports {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn rejected_path(&self, import: ImportId) -> PathBuf {
        self.rejected.join(format!("{}.csv", import.0))
    }

    /// The import that the request has begun already.
    fn repeated(&self, tickets: &BTreeMap<ImportId, Ticket>, request: &ImportRequest) -> Option<Ticket> {
        let name = request.request.as_ref()?;
        let fresh = |ticket: &Ticket| request.spec.now.saturating_since(ticket.started_at) < IDEMPOTENCY_KEPT;
        tickets.values().rev().find(|t| t.request.request.as_ref() == Some(name) && fresh(t)).cloned()
    }

    /// No import ever had this number: not in a ticket, and not in a fact, which outlives tickets.
    fn next_id(&self, tickets: &BTreeMap<ImportId, Ticket>) -> ImportId {
        let ticket = tickets.last_key_value().map_or(0, |(id, _)| id.0);
        let fact = self.book.read().imports.last_key_value().map_or(0, |(id, _)| id.0);
        ImportId(ticket.max(fact) + 1)
    }

    /// Deletes files in the spool that no unfinished import has.
    fn clear_spool(&self) -> Result<(), ImportsError> {
        let tickets = self.tickets.lock();
        let kept: Vec<&str> =
            tickets.values().filter(|t| t.state == TicketState::Running).map(|t| t.spool.as_str()).collect();
        let cleared = fs::read_dir(&self.spool).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                if !kept.iter().any(|name| entry.file_name() == **name) {
                    ticket::delete_file(&entry.path())?;
                }
            }
            Ok(())
        });
        cleared.map_err(in_folder(&self.spool, "cleared"))?;
        let highest =
            kept.iter().filter_map(|name| name.strip_prefix("upload-")?.strip_suffix(".csv")?.parse::<u64>().ok());
        self.uploads.store(highest.max().map_or(0, |n| n + 1), Ordering::Relaxed);
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn work(&self) {
        self.expire_old();
        while let Some(import) = self.next() {
            let Some(ticket) = self.tickets.lock().get(&import).cloned() else { continue };
            let ended = loop {
                match self.run(&ticket) {
                    Ok(ended) => break ended,
                    Err(error) if error.is_full_disk() => self.wait_for_space(import),
                    // The journal takes nothing more: this process is ending, the next one goes on.
                    Err(error @ WorkError::Commit(_)) => {
                        tracing::error!(%import, %error, "the import goes on after the next start");
                        self.note(import, |t| t.error = Some(format!("it goes on after the next start: {error}")));
                        break false;
                    }
                    Err(WorkError::Import(error)) => match work::keep_consents(&self.book, &self.store, import) {
                        Err(ContactsError::Store { source, .. }) if is_full(&source) => self.wait_for_space(import),
                        Err(lost) => {
                            tracing::error!(%import, error = %lost, "histories lack what the last chunk changed");
                            break self.end(import, Some(explain(&error)));
                        }
                        Ok(()) => break self.end(import, Some(explain(&error))),
                    },
                }
                if self.is_stopping() {
                    break false;
                }
            };
            if !ended && self.is_stopping() {
                return;
            }
        }
    }

    fn next(&self) -> Option<ImportId> {
        let mut waiting = self.waiting.lock();
        loop {
            if self.is_stopping() {
                return None;
            }
            if let Some(import) = waiting.pop_front() {
                return Some(import);
            }
            if self.wake.wait_for(&mut waiting, IMPORT_EXPIRY_PERIOD).timed_out() {
                MutexGuard::unlocked(&mut waiting, || self.expire_old());
            }
        }
    }

    /// Works one import off; `false` if the engine stops before its end.
    fn run(&self, ticket: &Ticket) -> Result<bool, WorkError> {
        let spool = self.spool.join(&ticket.spool);
        let mut running = Running::open(ticket.clone(), &self.store, &spool, &self.rejected_path(ticket.id))?;
        let plan = running.plan().clone();
        self.note(ticket.id, |t| (t.plan, t.error) = (Some(plan), None));
        while !self.is_stopping() {
            let more = match running.step(&self.book, &self.stopping) {
                Err(WorkError::Import(ImportError::Stopped)) => return Ok(false),
                stepped => stepped?,
            };
            let progress = running.progress().clone();
            self.note(ticket.id, |t| t.progress = progress);
            if !more {
                drop(running);
                return Ok(self.end(ticket.id, None));
            }
        }
        Ok(false)
    }

    fn note(&self, import: ImportId, change: impl FnOnce(&mut Ticket)) {
        if let Some(ticket) = self.tickets.lock().get_mut(&import) {
            change(ticket);
        }
    }

    fn wait_for_space(&self, import: ImportId) {
        tracing::warn!(%import, "the import waits: the disk of the data directory is full");
        self.note(import, |t| {
            t.error = Some("it waits: the disk of the data directory is full; it goes on by itself".to_owned())
        });
        let mut waiting = self.waiting.lock();
        if !self.is_stopping() {
            self.wake.wait_for(&mut waiting, IMPORT_SPACE_RETRY);
        }
    }
}

fn report_fault(worker: JoinHandle<()>) {
    if worker.join().is_err() {
        tracing::error!("the thread of the imports ended by a fault");
    }
}

/// An error with its causes, as one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn open(path: &Path) -> Result<fs::File, ImportsError> {
    let opened = fs::File::open(path);
    opened.map_err(|source| ImportError::File { path: path.to_owned(), what: "opened", source }.into())
}

fn in_folder(path: &Path, what: &'static str) -> impl Fn(io::Error) -> ImportsError {
    let path = path.to_owned();
    move |source| ImportsError::Folder { path: path.clone(), what, source }
}

#[cfg(test)]
mod tests;
