//! Opening a data directory: fold the journal, settle what a crash left, and only then let anything be claimed.
//!
//! Steps 7 of the journal's order "At start" are here; each is repeatable, because nothing is granted before the last.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::actors::book::Book;
use crate::actors::decide::{Retry, retry_at};
use crate::clock::{Clock, Timestamp};
use crate::config::connectors::RetrySettings;
use crate::contacts::{ContactsError, Store};
use crate::engine::backup::manifest::{self, Manifest};
use crate::engine::base::Consented;
use crate::engine::{EngineError, history};
use crate::journal::{Journal, MarkState, Marks, OpenReport, Options, Replayed, VisitError};
use crate::ledger::batch::BootId;
use crate::ledger::plans::{PlanMoved, PlanState};
use crate::ledger::recover::{MarkWord, facts_of};
use crate::ledger::{Fact, RejectClass, RunState, State, snapshot};
use crate::limits::HISTORY_GROUP;

/// The boot of claims whose mark bytes can be believed; all others fold with [`BootId::default`].
const THIS_BOOT: BootId = BootId([1; 16]);

pub struct Recovered {
    pub book: Arc<Book>,
    pub marks: Marks,
    pub report: OpenReport,
    /// Rows of claims that were open, by what became of them.
    pub settled: Settled,
    pub seconds: f64,
}

/// What recovery made of open claims, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    pub batches: u64,
    pub returned: u64,
    pub unknown: u64,
    pub answered: u64,
}

/// Opens journal and store. Every change of consent that is replayed is held against its contacts' histories: a crash may
/// have come between them, and a snapshot never does ([`history`]).
///
/// `retry_of` gives a connector's retries by its name: what was deferred before a crash follows its schedule from now on.
pub fn open(
    directory: &Path,
    options: &Options,
    clock: Arc<dyn Clock>,
    retry_of: &dyn Fn(&str) -> RetrySettings,
) -> Result<(Recovered, Store), EngineError> {
    let began = Instant::now();
    let backup = Manifest::read(directory).map_err(Box::new)?;
    let mut state = State::default();
    let mut histories = Histories { folder: directory.join("contacts"), store: None, group: Vec::new(), failed: None };
    let mut note = |fact: &Fact| histories.take(fact);
    let opened = Journal::open(directory, options, &mut |replayed| fold_noting(&mut state, replayed, &mut note))?;
    let store = histories.finish()?;
    state.check().map_err(EngineError::Unsound)?;
    let facts = crash_facts(&state, &opened.marks, retry_of, clock.now());
    let settled = count(&facts, state.open_batches().count());
    let restored = options.restored;
    let book = Arc::new(Book::new(state, opened.journal, THIS_BOOT, clock));
    for fact in &facts {
        book.commit(fact, crate::journal::Want::idle())?;
    }
    // A backup is held though nobody says so: a start that took it over may have been killed before it said that.
    if restored || backup.is_some() {
        hold_running(&book)?;
    }
    if let Some(backup) = &backup {
        doubt(&book, backup, store.reader()?.next_row()?)?;
    }
    book.journal().flush()?;
    // At every start: one may have been killed between the fact and this.
    let next_row = book.read().restored.as_ref().map(|restored| restored.next_row);
    next_row.map_or(Ok(()), |next| store.leave_rows_out(next))?;
    if backup.is_some() {
        manifest::taken_over(directory).map_err(Box::new)?;
    }
    opened.marks.zero();
    let seconds = began.elapsed().as_secs_f64();
    Ok((Recovered { book, marks: opened.marks, report: opened.report, settled, seconds }, store))
}

/// Replayed consents on their way into the store, a group at a time. The store is opened once the journal's lock is held.
struct Histories {
    folder: PathBuf,
    store: Option<Store>,
    group: Vec<Consented>,
    failed: Option<ContactsError>,
}

impl Histories {
    fn take(&mut self, fact: &Fact) {
        self.group.extend(Consented::of(fact));
        if self.group.len() >= HISTORY_GROUP
            && self.failed.is_none()
            && let Err(error) = self.write()
        {
            self.failed = Some(error);
        }
    }

    fn write(&mut self) -> Result<(), ContactsError> {
        let store = match &self.store {
            Some(store) => store,
            None => self.store.insert(Store::open(&self.folder)?),
        };
        history::note(store, &self.group)?;
        self.group.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Store, ContactsError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.write()?;
        match self.store {
            Some(store) => Ok(store),
            None => Store::open(&self.folder),
        }
    }
}

/// Folds what the journal replays; also what `estafette check` uses.
pub fn fold(state: &mut State, replayed: Replayed<'_>) -> Result<(), VisitError> {
    fold_noting(state, replayed, &mut |_| {})
}

fn fold_noting(state: &mut State, replayed: Replayed<'_>, note: &mut dyn FnMut(&Fact)) -> Result<(), VisitError> {
    match replayed {
        Replayed::Snapshot(stored) => {
            *state = snapshot::decode(stored.state)?;
            if !stored.same_boot {
                forget_boots(state);
            }
        }
        Replayed::Frame(frame) => {
            let fact = Fact::decode(frame.payload)?;
            let boot = if frame.same_boot { THIS_BOOT } else { BootId::default() };
            state.apply(&fact, boot)?;
            note(&fact);
        }
    }
    Ok(())
}

fn forget_boots(state: &mut State) {
    for delivery in state.runs.values_mut().flat_map(|run| &mut run.deliveries) {
        for batch in delivery.batches.values_mut() {
            batch.boot = BootId::default();
        }
    }
}

/// A backup ends at a moment, and the server that it is of may have gone on: what it could have sent since is unknown.
fn doubt(book: &Book, backup: &Manifest, given: u64) -> Result<(), EngineError> {
    let now = book.now();
    let restored = |state: &State| {
        state.restored_from(&backup.id, backup.made_at(), backup.last_seq, given, now).map(Fact::Restored)
    };
    book.commit_by::<EngineError>(|state| Ok(restored(state)), crate::journal::Want::idle())?;
    let doubts = book.read().doubts(now);
    for doubted in doubts {
        let (delivery, rows) = (doubted.delivery, doubted.rows.rows.len());
        tracing::warn!(run = %delivery.run, %delivery, rows, "it may have been sent since the backup: unknown until a person settles it");
        book.commit(&Fact::Doubted(doubted), crate::journal::Want::idle())?;
    }
    Ok(())
}

fn crash_facts(state: &State, marks: &Marks, retry_of: &dyn Fn(&str) -> RetrySettings, now: Timestamp) -> Vec<Fact> {
    let word = |position: u32| match marks.get(position) {
        MarkState::Free | MarkState::Withdrawn => MarkWord::NotHandedOver,
        MarkState::Marked => MarkWord::Marked,
        MarkState::Accepted => MarkWord::Accepted,
        MarkState::Deferred => MarkWord::Deferred,
        MarkState::Unknown => MarkWord::Unknown,
        MarkState::Rejected(class) => MarkWord::Rejected(RejectClass::from_number(class).unwrap_or(RejectClass::Other)),
    };
    let deliveries = state.runs.values().flat_map(|run| run.deliveries.iter().map(move |d| (run.started_at, d)));
    let open = deliveries.flat_map(|(at, d)| d.batches.iter().map(move |(id, batch)| (at, d, *id, batch)));
    open.flat_map(|(started_at, delivery, id, batch)| {
        let settings = retry_of(&batch.connector);
        let due = |row| retry_at(delivery, Retry { settings: &settings, started_at }, row, None, now);
        facts_of(id, delivery.id, batch, THIS_BOOT, Some(&word), &due, now)
    })
    .collect()
}

fn count(facts: &[Fact], batches: usize) -> Settled {
    let mut settled = Settled { batches: batches as u64, ..Settled::default() };
    for fact in facts {
        match fact {
            Fact::Returned(returned) => settled.returned += returned.rows.len(),
            Fact::Settled(fact) => {
                settled.unknown += fact.unknown.len();
                settled.answered += fact.all_rows().1 - fact.unknown.len();
            }
            _ => {}
        }
    }
    settled
}

/// A restored directory may not know what was sent since it was copied: every running campaign waits for a person,
/// and every scheduled one.
fn hold_running(book: &Book) -> Result<(), EngineError> {
    let live: Vec<_> =
        book.read().runs.values().filter(|run| run.state == RunState::Running).map(|run| run.id).collect();
    let plans: Vec<_> =
        book.read().plans.iter().filter(|(_, plan)| plan.is_scheduled()).map(|(campaign, _)| *campaign).collect();
    for campaign in plans {
        let reason = "the data directory was restored: review what was launched since the copy, then resume".to_owned();
        let fact = PlanMoved { campaign, to: PlanState::Paused, reason, at: book.now() };
        book.commit(&Fact::PlanMoved(fact), crate::journal::Want::idle())?;
    }
    for run in live {
        let reason = "the data directory was restored: review what was sent since the copy, then resume".to_owned();
        book.commit(
            &Fact::RunMoved { run, to: RunState::Paused, reason, at: book.now() },
            crate::journal::Want::idle(),
        )?;
    }
    Ok(())
}
