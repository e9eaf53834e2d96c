//! The segment after the current one, made ahead on a thread of its own, so that a full disk shows before the journal needs
//! the space and no commit waits for megabytes of zeros.
//!
//! Owner: the journal thread. At most one file is made at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::error::JournalError;
use super::segment::make_ahead;

type Made = Result<(), JournalError>;

#[derive(Debug)]
enum State {
    None,
    Making(JoinHandle<Made>),
    Ready,
    NoSpace { since: Instant },
}

#[derive(Debug)]
pub(super) struct Ahead {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    bytes: u64,
    retry: Duration,
    stop: Arc<AtomicBool>,
    state: State,
}

impl Ahead {
    pub(super) fn new(disk: Arc<dyn Disk>, folder: PathBuf, bytes: u64, retry: Duration, ready: bool) -> Ahead {
        let state = if ready { State::Ready } else { State::None };
        Ahead { disk, folder, bytes, retry, stop: Arc::default(), state }
    }

    /// Begins to make it, if it is not there or being made.
    pub(super) fn request(&mut self) {
        if !matches!(self.state, State::None) {
            return;
        }
        let (disk, folder, bytes, stop) = (self.disk.clone(), self.folder.clone(), self.bytes, self.stop.clone());
        let make = move || make_ahead(&*disk, &folder, bytes, &stop);
        // Without a thread it is made when it is needed, by `take`.
        if let Ok(handle) = std::thread::Builder::new().name("journal-ahead".to_owned()).spawn(make) {
            self.state = State::Making(handle);
        }
    }

    /// Looks after a file in the making; tries again when the last try found no space a while ago.
    pub(super) fn poll(&mut self) -> Made {
        match &self.state {
            State::Making(handle) if handle.is_finished() => self.join(),
            State::NoSpace { since } if since.elapsed() >= self.retry => {
                self.state = State::None;
                self.request();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn lacks_space(&self) -> bool {
        matches!(self.state, State::NoSpace { .. })
    }

    /// Whether [`Ahead::poll`] has something to look after.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.state, State::Making(_) | State::NoSpace { .. })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file is there when this returns; making it if need be. It has to be adopted next.
    pub(super) fn take(&mut self) -> Made {
        if matches!(self.state, State::Making(_)) {
            self.join()?;
        }
        if matches!(self.state, State::None | State::NoSpace { .. }) {
            let made = make_ahead(&*self.disk, &self.folder, self.bytes, &self.stop);
            self.settle(made)?;
        }
        if self.lacks_space() {
            return Err(JournalError::NoSpace { path: self.folder.clone(), needed_bytes: self.bytes });
        }
        self.state = State::Ready;
        Ok(())
    }

    /// The file became a segment.
    pub(super) fn adopted(&mut self) {
        self.state = State::None;
    }

    fn join(&mut self) -> Made {
        match std::mem::replace(&mut self.state, State::None) {
            State::Making(handle) => {
                let made = handle.join().unwrap_or(Err(JournalError::Failed));
                self.settle(made)
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    /// Lack of space is a state and not an error.
    fn settle(&mut self, made: Made) -> Made {
        self.state = match made {
            Ok(()) => State::Ready,
            Err(JournalError::NoSpace { .. }) => State::NoSpace { since: Instant::now() },
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let State::Making(handle) = std::mem::replace(&mut self.state, State::None) {
            // What it made or not is found out at the next start.
            drop(handle.join());
        }
    }
}
