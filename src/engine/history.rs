//! Consent histories, written behind: an opt-out is durable and in force by its fact, and never waits for the store.
//!
//! Owns a queue, a thread, and the numbers of changes that are on their way: from before a change's fact is submitted until
//! its contacts' histories say it. Invariants: HI-1 a snapshot replaces no frame whose change is on its way, so that a start
//! finds every change that a crash kept from the histories among the frames that it replays ([`note`] writes none twice); HI-2
//! a change that does not fit the queue stays on its way, and with it the frames, until the next start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::{Condvar, Mutex};

use crate::contacts::{ConsentEntry, ContactsError, Store};
use crate::engine::base::Consented;
use crate::ids::ContactRow;
use crate::limits::{HISTORY_GROUP, HISTORY_RETRY, HISTORY_WAITING_MAX};

/// The number of a change that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeId(u64);

#[derive(Default)]
struct Open {
    next: u64,
    changes: BTreeSet<ChangeId>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Open>,
    moved: Condvar,
}

impl Shared {
    fn done(&self, changes: impl IntoIterator<Item = ChangeId>) {
        let mut open = self.open.lock();
        for change in changes {
            open.changes.remove(&change);
        }
        self.moved.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.open.lock().closed
    }
}

type Note = (ChangeId, Vec<Consented>);

/// Takes notes from any thread, and never blocks it.
#[derive(Clone)]
pub struct HistoryNotes {
    queue: Sender<Option<Note>>,
    shared: Arc<Shared>,
}

impl HistoryNotes {
    /// To be called before the first fact of a change is submitted.
    pub fn begin(&self) -> ChangeId {
        let mut open = self.shared.open.lock();
        let change = ChangeId(open.next);
        open.next += 1;
        open.changes.insert(change);
        change
    }

    /// Has a durable change written.
    pub fn note(&self, change: ChangeId, said: Vec<Consented>) {
        if self.queue.try_send(Some((change, said))).is_err() {
            tracing::error!("a consent waits for the next start to enter its contact's history; the journal keeps it");
        }
    }

    /// The histories say it, or there was nothing to say.
    pub fn done(&self, change: ChangeId) {
        self.shared.done([change]);
    }

    /// Whether the histories say every change that began before this call; waits for it, at most so long.
    pub fn are_written(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let mut open = self.shared.open.lock();
        let until = ChangeId(open.next);
        loop {
            if open.changes.first().is_none_or(|oldest| *oldest >= until) {
                return true;
            }
            if open.closed || self.shared.moved.wait_until(&mut open, deadline).timed_out() {
                return false;
            }
        }
    }
}

pub struct History {
    notes: HistoryNotes,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl History {
    pub fn start(store: &Store) -> std::io::Result<History> {
        let (give, take) = bounded(HISTORY_WAITING_MAX);
        let shared = Arc::new(Shared::default());
        let (store, of_writer) = (store.clone(), Arc::clone(&shared));
        let name = "history".to_owned();
        let writer = std::thread::Builder::new().name(name).spawn(move || work(&store, &take, &of_writer))?;
        let notes = HistoryNotes { queue: give, shared };
        Ok(History { notes, writer: Mutex::new(Some(writer)) })
    }

    pub fn notes(&self) -> HistoryNotes {
        self.notes.clone()
    }

    /// Writes what is queued and ends the thread. Blocks.
    pub fn stop(&self) {
        let Some(writer) = self.writer.lock().take() else { return };
        // An error means that the thread is gone, and then there is nobody to tell.
        self.notes.queue.send(None).ok();
        self.notes.shared.open.lock().closed = true;
        self.notes.shared.moved.notify_all();
        if writer.join().is_err() {
            tracing::error!("the thread of the histories ended by a fault");
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(store: &Store, take: &Receiver<Option<Note>>, shared: &Shared) {
    while let Ok(Some(first)) = take.recv() {
        let mut group = vec![first];
        let mut last = false;
        while group.len() < HISTORY_GROUP {
            match take.try_recv() {
                Ok(Some(next)) => group.push(next),
                Ok(None) | Err(TryRecvError::Disconnected) => {
                    last = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        let (changes, said): (Vec<ChangeId>, Vec<Vec<Consented>>) = group.into_iter().unzip();
        let said: Vec<Consented> = said.into_iter().flatten().collect();
        while let Err(error) = note(store, &said) {
            tracing::warn!(%error, "consents do not enter their contacts' histories; it is tried again");
            if shared.is_closed() {
                return;
            }
            let mut open = shared.open.lock();
            shared.moved.wait_for(&mut open, HISTORY_RETRY);
        }
        shared.done(changes);
        if last {
            return;
        }
    }
}

/// Writes durable changes of consent into the history of their contacts; what is there already is not written again.
pub fn note(store: &Store, changed: &[Consented]) -> Result<(), ContactsError> {
    let reader = store.reader()?;
    let mut missing: Vec<(ContactRow, &ConsentEntry)> = Vec::new();
    for change in changed {
        for row in change.rows.iter().map(ContactRow) {
            if reader.record(row)?.is_some() && !reader.noted_consents(row)?.contains(&change.entry) {
                missing.push((row, &change.entry));
            }
        }
    }
    drop(reader);
    if missing.is_empty() {
        return Ok(());
    }
    store.write(|writer| missing.iter().try_for_each(|(row, entry)| writer.record_consent(*row, entry)))
}

#[cfg(test)]
mod tests {
    use roaring::RoaringBitmap;

    use super::*;
    use crate::contacts::ConsentStatus;
    use crate::engine::testbase::{NOW, TestBase};
    use crate::ids::Channel;
    use crate::ledger::facts::ConsentChanged;
    use crate::ledger::{Fact, RowSet};

    fn opt_out(row: ContactRow) -> ConsentChanged {
        ConsentChanged {
            channel: Channel::Email,
            topic: "news".into(),
            status: ConsentStatus::Unsubscribed,
            rows: RowSet::base(RoaringBitmap::from_iter([row.0])),
            source: "test".into(),
            at: NOW,
        }
    }

    fn history(base: &TestBase, row: ContactRow) -> Vec<ConsentEntry> {
        base.store.reader().expect("a reader").consent_history(row).expect("a history")
    }

    #[test]
    fn only_changes_from_before_the_question_are_waited_for() {
        let root = tempfile::tempdir().expect("a folder");
        let base = TestBase::open(root.path());
        let row = base.contact("a", "a@x.test");
        let histories = History::start(&base.store).expect("a thread");
        let notes = histories.notes();
        assert!(notes.are_written(Duration::ZERO), "nothing is on its way");
        let (first, second) = (notes.begin(), notes.begin());
        assert!(!notes.are_written(Duration::ZERO), "two changes are");
        notes.note(second, vec![Consented::of_change(&opt_out(row))]);
        notes.done(first);
        assert!(notes.are_written(Duration::from_secs(60)), "the thread writes the second");
        assert_eq!(history(&base, row).len(), 1, "and it is there then");
        notes.begin();
        histories.stop();
        assert!(!notes.are_written(Duration::from_secs(60)), "after the end nothing more is waited for");
    }

    #[test]
    fn a_snapshot_never_takes_the_frames_of_a_change_that_its_history_lacks() {
        let root = tempfile::tempdir().expect("a folder");
        let base = TestBase::open(root.path());
        let row = base.contact("a", "a@x.test");
        let histories = History::start(&base.store).expect("a thread");
        let notes = histories.notes();
        let gate = notes.clone();
        base.book.gate_snapshots(move || gate.are_written(Duration::ZERO));
        let change = notes.begin();
        base.book.commit_durable(&Fact::ConsentChanged(opt_out(row))).expect("a fact");
        let refused = base.book.snapshot().expect_err("the history is behind").to_string();
        assert!(refused.contains("histories"), "{refused}");
        drop((histories, base));
        let again = TestBase::open(root.path());
        let told = history(&again, row);
        assert_eq!(told, [Consented::of_change(&opt_out(row)).entry], "the next start finds the frame");
        again.book.snapshot().expect("then nothing is on its way");
        drop(again);
        let third = TestBase::open(root.path());
        assert_eq!(history(&third, row), told, "and nothing is written twice ({change:?})");
    }
}
