//! Consent histories, written behind: an opt-out is durable and in force by its fact, and never waits for the store.
//!
//! Owns a queue and a thread. What does not fit the queue, or is in it at a crash, is found again by the next start, which
//! holds the replayed facts against the histories ([`Engine::repair_base`](crate::engine::Engine::repair_base)).

use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::contacts::{ConsentEntry, ContactsError, Store};
use crate::engine::base::Consented;
use crate::ids::ContactRow;
use crate::limits::{HISTORY_GROUP, HISTORY_WAITING_MAX};

/// Takes notes from any thread, and never blocks it.
#[derive(Clone)]
pub struct HistoryNotes(Sender<Option<Consented>>);

impl HistoryNotes {
    pub fn note(&self, consented: Consented) {
        if self.0.try_send(Some(consented)).is_err() {
            tracing::warn!(
                "a consent waits for the next start to enter its contact's history: the queue is full or closed"
            );
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
        let store = store.clone();
        let writer = std::thread::Builder::new().name("history".to_owned()).spawn(move || work(&store, &take))?;
        Ok(History { notes: HistoryNotes(give), writer: Mutex::new(Some(writer)) })
    }

    pub fn notes(&self) -> HistoryNotes {
        self.notes.clone()
    }

    /// Writes what is queued and ends the thread. Blocks.
    pub fn stop(&self) {
        let Some(writer) = self.writer.lock().take() else { return };
        // An error means that the thread is gone, and then there is nobody to tell.
        self.notes.0.send(None).ok();
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

fn work(store: &Store, take: &Receiver<Option<Consented>>) {
    while let Ok(Some(first)) = take.recv() {
        let mut group = vec![first];
        let mut last = false;
        while group.len() < HISTORY_GROUP {
            match take.try_recv() {
                Ok(Some(next)) => group.push(next),
                Ok(None) => {
                    last = true;
                    break;
                }
                Err(_) => break,
            }
        }
        if let Err(error) = note(store, &group) {
            tracing::warn!(%error, "consents wait for the next start to enter their contacts' histories");
        }
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
