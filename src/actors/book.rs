//! The book: the folded state and the journal behind one lock, so that facts are applied in exactly the order in which the
//! journal numbers them.
//!
//! Why a lock and not a mailbox: a claim must look at the sets, take rows, and be numbered as one step, and the release
//! check, reports and exports read the same sets. The lock is held for microseconds per *batch*; nothing under it waits
//! for the disk. The journal's thread does the writing and syncing and calls back.
//!
//! Invariants: BK-1 no fact reaches the journal that the state refused, and none changes the state without reaching the
//! journal's queue; BK-2 while the journal has no space, nothing new is committed but what ends claims; BK-3 a row that was
//! handed over is on its way or recently accepted for whoever holds the lock: both change under it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};

use crate::actors::figures::{self, Committing};
use crate::actors::recently::Recently;
use crate::actors::told::Told;
use crate::clock::{Clock, Timestamp};
use crate::ids::{RowSpace, RunId};
use crate::journal::{Journal, JournalError, Status, Want};
use crate::ledger::batch::BootId;
use crate::ledger::{Fact, State, Violation, snapshot};

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("the fact does not fit the state")]
    Refused(#[from] Violation),
    #[error("the journal does not take it")]
    Journal(#[from] JournalError),
    #[error("the disk under the data directory is full: nothing new is accepted until there is space")]
    NoSpace,
    #[error("the fact can't be encoded")]
    Encode(#[from] rmp_serde::encode::Error),
    #[error("contacts' histories are behind the journal: the snapshot is put off")]
    HistoryBehind,
    #[error("the snapshot can't be made")]
    Snapshot(#[from] snapshot::SnapshotError),
}

/// A run and one of its rows, as a link finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub ended_at: Option<Timestamp>,
    /// When the provider took the row's message, if that was in the last seconds; now, if it is being handed over.
    pub accepted_at: Option<Timestamp>,
    /// The run's details were removed: nothing says any more who is in it.
    pub lacks_details: bool,
    /// The row may be somebody's whom this server does not know: it goes on from a backup.
    pub is_left_out: bool,
}

pub struct Book {
    state: RwLock<State>,
    journal: Journal,
    boot: BootId,
    clock: Arc<dyn Clock>,
    /// Raised whenever somebody may have lost the right to be sent to; lanes look again when it moved.
    narrowed: AtomicU64,
    /// Number of the newest fact that `state` holds; moved under its lock.
    last_seq: AtomicU64,
    /// The disk under the data directory is below its floor.
    low_disk: AtomicBool,
    /// How long the journal has made nothing durable though something waits, milliseconds.
    stalled_ms: AtomicU64,
    /// Who was accepted in the last seconds: a click that comes too soon is a machine's.
    recently: Recently,
    /// Whether all that other places must have taken from the frames so far, they have; asked before frames go.
    gate: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Book {
    pub fn new(state: State, journal: Journal, boot: BootId, clock: Arc<dyn Clock>) -> Book {
        let last_seq = AtomicU64::new(journal.written_seq());
        Book {
            state: RwLock::new(state),
            journal,
            boot,
            clock,
            narrowed: AtomicU64::new(0),
            last_seq,
            low_disk: AtomicBool::new(false),
            stalled_ms: AtomicU64::new(0),
            recently: Recently::default(),
            gate: OnceLock::new(),
        }
    }

    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub fn boot(&self) -> BootId {
        self.boot
    }

    pub fn narrowed(&self) -> u64 {
        self.narrowed.load(Ordering::Acquire)
    }

    pub fn has_space(&self) -> bool {
        !self.low_disk.load(Ordering::Acquire) && !matches!(self.journal.status(), Status::NoSpace { .. })
    }

    /// Says whether the disk is below its floor: then nothing new is claimed, while there is still room to settle.
    pub fn set_low_disk(&self, low: bool) {
        self.low_disk.store(low, Ordering::Release);
    }

    /// How long the journal has made nothing durable though something waits, as was last noted.
    pub fn journal_stalled(&self) -> Duration {
        Duration::from_millis(self.stalled_ms.load(Ordering::Acquire))
    }

    pub fn note_journal_stalled(&self, since: Duration) {
        self.stalled_ms.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// What a link of this row is to know of its run; `None` if there is no such run. Asked at each open and click, and one look at
    /// one moment (BK-3): a row that is settled between two looks is on its way no more for the one and not accepted yet for
    /// the other, and the scanner that follows its link just then is taken for a person.
    pub fn look(&self, run: RunId, space: RowSpace, row: u32, now: Timestamp) -> Option<Look> {
        let state = self.state.read();
        let of = state.runs.get(&run)?;
        let (lacks_details, is_left_out) = (of.removed.is_some(), state.is_left_out(space, row));
        let on_its_way = || of.deliveries.iter().any(|delivery| delivery.claimed.contains(row)).then_some(now);
        let accepted_at = self.recently.accepted_at(run, row, now).or_else(on_its_way);
        Some(Look { ended_at: of.ended_at, accepted_at, lacks_details, is_left_out })
    }

    /// Applies a fact and queues it for the journal; answers its sequence number. Does not wait for the disk.
    pub fn commit(&self, fact: &Fact, want: Want) -> Result<u64, CommitError> {
        self.commit_by(|_| Ok(Some(fact.clone())), want).map(|seq| seq.unwrap_or(0))
    }

    /// Lets `decide` make a fact from the state, applies and queues it, all as one step. `None` commits nothing.
    pub fn commit_by<E: From<CommitError>>(
        &self,
        decide: impl FnOnce(&State) -> Result<Option<Fact>, E>,
        want: Want,
    ) -> Result<Option<u64>, E> {
        let mut state = self.state.write();
        let Some(fact) = decide(&state)? else { return Ok(None) };
        if !ends_claims(&fact) && !self.has_space() {
            return Err(CommitError::NoSpace.into());
        }
        let payload = fact.encode().map_err(CommitError::from)?;
        let (figures, told) = (Committing::new(&state, &fact), Told::new(&state, &fact));
        state.apply(&fact, self.boot).map_err(CommitError::from)?;
        if narrows(&fact) {
            self.narrowed.fetch_add(1, Ordering::Release);
        }
        if let Fact::Settled(settled) = &fact {
            self.recently.note(settled.delivery.run, &settled.accepted, settled.at);
            // The provider may have taken these as well: a scanner that comes at once says that it did.
            self.recently.note(settled.delivery.run, &settled.unknown, settled.at);
        }
        let seq = self.journal.submit(fact.kind(), payload, want).map_err(CommitError::from)?;
        self.last_seq.store(seq, Ordering::Release);
        drop(state);
        figures.count();
        told.tell(&fact, seq);
        Ok(Some(seq))
    }

    /// Commits and waits until the fact is durable. Blocks: for threads that may.
    pub fn commit_durable(&self, fact: &Fact) -> Result<u64, CommitError> {
        self.commit_durable_by(|_| Ok::<_, CommitError>(Some(fact.clone()))).map(|seq| seq.unwrap_or(0))
    }

    /// [`Book::commit_by`], and waits until the fact is durable. Blocks: for threads that may.
    pub fn commit_durable_by<E: From<CommitError>>(
        &self,
        decide: impl FnOnce(&State) -> Result<Option<Fact>, E>,
    ) -> Result<Option<u64>, E> {
        let (done, wait) = crossbeam::channel::bounded(1);
        let want = Want::durable(move |seq| {
            // The waiter may have given up; then there is nobody to tell.
            done.try_send(seq).ok();
        });
        let seq = self.commit_by(decide, want)?;
        if seq.is_some() {
            wait.recv().map_err(|_| CommitError::Journal(JournalError::Closed))?;
        }
        Ok(seq)
    }

    /// Sets the question that is asked before a snapshot replaces frames. It may block. Only the first call counts.
    pub fn gate_snapshots(&self, may_go: impl Fn() -> bool + Send + Sync + 'static) {
        self.gate.get_or_init(|| Box::new(may_go));
    }

    /// Writes a snapshot of the state and drops the journal segments that it replaces. Blocks.
    pub fn snapshot(&self) -> Result<u64, CommitError> {
        let began = std::time::Instant::now();
        let (seq, bytes) = {
            let state = self.state.read();
            state.check()?;
            (self.last_seq.load(Ordering::Acquire), snapshot::encode(&state)?)
        };
        // After the state was copied: what began before that is waited for.
        if self.gate.get().is_some_and(|may_go| !may_go()) {
            return Err(CommitError::HistoryBehind);
        }
        self.journal.write_snapshot(seq, &bytes)?;
        figures::snapshot_written(began.elapsed());
        Ok(seq)
    }
}

/// Facts that end claims are taken even when the disk is full: the messages are out already.
fn ends_claims(fact: &Fact) -> bool {
    matches!(fact, Fact::Settled(_) | Fact::Returned(_))
}

/// Facts after which somebody may no longer be sent to.
fn narrows(fact: &Fact) -> bool {
    if let Fact::EventsReceived(events) = fact {
        return events.narrows();
    }
    matches!(
        fact,
        Fact::ConsentChanged(_)
            | Fact::Suppressed(_)
            | Fact::SoftBouncesJudged(_)
            | Fact::ImportChunk(_)
            | Fact::ContactsErased { .. }
            | Fact::Unsubscribed(_)
    )
}
