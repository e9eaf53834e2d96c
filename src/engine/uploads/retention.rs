//! Uploads go when they are needed no longer: so many days after their upload, or after the end of the last run over them.
//!
//! What decides is in the state, so that a restart changes nothing: the look is taken at every start and then by the hour.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Timestamp;
use crate::engine::uploads::{Shared, Uploads, UploadsError};
use crate::ids::RowSpace;
use crate::ledger::State;
use crate::limits::ONE_SHOT_SWEEP_PERIOD;

/// Wakes the thread that waits.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock() = true;
        self.wake.notify_all();
    }

    /// Waits for the bell, at most so long.
    fn wait(&self, longest: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.wake.wait_for(&mut rung, longest);
        }
    }
}

/// Who forgot an upload, where nobody asked for it.
const BY: &str = "retention";

/// The uploads whose time is over.
pub(super) fn expired(state: &State, kept: Duration, now: Timestamp) -> Vec<RowSpace> {
    let live = state.uploads.iter().filter(|(_, upload)| upload.removed_at.is_none()).map(|(space, _)| *space);
    live.filter(|space| state.needed_last(*space).is_some_and(|last| now.saturating_since(last) >= kept)).collect()
}

impl Shared {
    pub(super) fn sweep(&self, kept: Duration, now: Timestamp) -> Result<usize, UploadsError> {
        let expired = expired(&self.book.read(), kept, now);
        let mut removed = 0;
        for space in expired {
            match self.remove(space, BY) {
                Ok(()) => {
                    removed += 1;
                    tracing::info!(%space, "the rows of an upload were removed: their retention has passed");
                }
                // A run began, or somebody was faster.
                Err(UploadsError::InUse { .. } | UploadsError::Unknown { .. } | UploadsError::Held) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    fn sweep_often(&self, kept: Duration) {
        while !self.stopping.load(Ordering::Acquire) {
            if let Err(error) = self.sweep(kept, self.book.now()) {
                tracing::error!(%error, "old uploads could not be removed; it is tried again");
            }
            self.clock.wait(ONE_SHOT_SWEEP_PERIOD);
        }
    }
}

impl Uploads {
    /// Keeps uploads for so long after they were needed last. Only the first call counts; without one they are kept for ever.
    pub fn keep_for(&self, kept: Duration) -> Result<(), UploadsError> {
        let mut sweeper = self.sweeper.lock();
        if sweeper.is_none() {
            let shared = Arc::clone(&self.shared);
            let body = move || shared.sweep_often(kept);
            let spawned = std::thread::Builder::new().name("uploads".to_owned()).spawn(body);
            let failed =
                |source| UploadsError::Folder { path: self.shared.folder.clone(), what: "looked after", source };
            *sweeper = Some(spawned.map_err(failed)?);
        }
        Ok(())
    }
}
