//! The journal thread: drains the queue, one write, one sync, then tells everyone.
//!
//! Owner of: the backlog, the frames that wait to be told, and through [`Log`] the open segment.
//!
//! Invariants: JN-W1 frames leave the backlog in the order of their numbers and only into the log. JN-W2 `written` and
//! `durable` are told in order, once each, or never if the journal fails first. JN-W3 a frame that could not be written for
//! lack of space stays, with all behind it, and is tried again by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::commit::{Log, Stall};
use super::error::JournalError;
use super::handle::{Core, Told, Urgency, Want};
use super::marks::Marks;
use super::poison::{Fatal, OnFatal, write_failing};
use crate::limits::{JOURNAL_QUEUE_MAX, JOURNAL_UNSYNCED_MAX, JOURNAL_WRITE_BYTES};

/// A frame on its way.
pub(super) struct Submission {
    pub seq: u64,
    pub kind: u8,
    pub payload: Vec<u8>,
    pub want: Want,
}

pub(super) enum Item {
    Frame(Submission),
    /// Answered with the durable number once everything before it is durable.
    Flush(Sender<u64>),
}

pub(super) struct Writer {
    pub core: Arc<Core>,
    pub log: Log,
    pub queue: Receiver<Item>,
    pub marks: Marks,
    pub on_fatal: OnFatal,
    pub commit_idle: Duration,
    pub retry: Duration,
    pub state: Pending,
}

/// What waits for the disk.
#[derive(Default)]
pub(super) struct Pending {
    backlog: VecDeque<Item>,
    backlog_bytes: usize,
    /// Staged in the log, in order.
    staged: Vec<(u64, Want)>,
    /// Written, not durable, and somebody wants to know.
    unsynced: VecDeque<(u64, Told)>,
    flushes: Vec<Sender<u64>>,
    /// When the oldest unsynced frame was written.
    since: Option<Instant>,
    /// Somebody is in a hurry.
    urgent: bool,
}

enum Turn {
    Work,
    Closed,
}

/// Runs when the thread ends, after the writer is dropped. Ending in any other way than by returning, a panicking callback
/// included, is a failure.
struct Ends(Arc<Core>);

impl Drop for Ends {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
        self.0.close_gate();
    }
}

impl Writer {
    /// Runs until the handle is closed or the disk fails.
    pub(super) fn run(self) -> Result<(), JournalError> {
        // Dropped last: a submitter that blocks on the full queue is let go by the receiver's end, before the gate is locked.
        let _ends = Ends(self.core.clone());
        self.turn()
    }

    fn turn(mut self) -> Result<(), JournalError> {
        loop {
            let turn = self.wait();
            if self.core.abandoned.load(Ordering::Acquire) {
                return Ok(());
            }
            match self.work() {
                Ok(()) if matches!(turn, Turn::Closed) && self.queue.is_empty() => return self.finish(),
                Ok(()) => {}
                Err(Stall::NoSpace { needed_bytes }) => {
                    self.core.set_no_space(needed_bytes);
                    if self.core.closing.load(Ordering::Acquire) {
                        return Err(JournalError::NoSpace { path: self.core.folder.clone(), needed_bytes });
                    }
                }
                Err(Stall::Fatal(error)) => return Err(self.fatal(error)),
            }
        }
    }

    fn finish(mut self) -> Result<(), JournalError> {
        match self.sync() {
            Ok(()) => Ok(()),
            Err(Stall::Fatal(error)) => Err(self.fatal(error)),
            Err(Stall::NoSpace { .. }) => Err(JournalError::Failed),
        }
    }

    /// Until there is something to do. While the disk is full nothing is taken from the queue.
    fn wait(&mut self) -> Turn {
        if self.is_stalled() {
            std::thread::park_timeout(self.retry);
            return if self.core.closing.load(Ordering::Acquire) { Turn::Closed } else { Turn::Work };
        }
        let deadline = self.state.since.map(|since| since + self.commit_idle);
        let ahead = self.log.ahead().is_busy().then(|| Instant::now() + self.retry);
        let received = match deadline.into_iter().chain(ahead).min() {
            Some(until) => self.queue.recv_deadline(until),
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(item) => {
                self.push(item);
                self.collect();
                Turn::Work
            }
            Err(RecvTimeoutError::Timeout) => Turn::Work,
            Err(RecvTimeoutError::Disconnected) => Turn::Closed,
        }
    }

    fn is_stalled(&self) -> bool {
        !self.state.backlog.is_empty() || !self.state.staged.is_empty()
    }

    fn push(&mut self, item: Item) {
        if let Item::Frame(submission) = &item {
            self.state.backlog_bytes += submission.payload.len();
        }
        self.state.backlog.push_back(item);
    }

    /// Takes what is queued, up to one write's worth.
    fn collect(&mut self) {
        while self.state.backlog.len() < JOURNAL_QUEUE_MAX && self.state.backlog_bytes < JOURNAL_WRITE_BYTES {
            match self.queue.try_recv() {
                Ok(item) => self.push(item),
                Err(_) => return,
            }
        }
    }

    fn work(&mut self) -> Result<(), Stall> {
        self.log.ahead().poll()?;
        self.write_backlog()?;
        let idle = self.state.since.is_some_and(|since| since.elapsed() >= self.commit_idle);
        if self.state.urgent || idle || self.state.unsynced.len() >= JOURNAL_UNSYNCED_MAX {
            self.sync()?;
        }
        if self.log.ahead().lacks_space() {
            // Frames still go into the open segment; the warning comes while there is room for what is under way.
            let needed_bytes = self.log.ahead().bytes();
            self.core.set_no_space(needed_bytes);
        } else {
            self.core.set_ok();
        }
        Ok(())
    }

    fn write_backlog(&mut self) -> Result<(), Stall> {
        while let Some(item) = self.state.backlog.front() {
            if let Item::Frame(next) = item {
                let length = next.payload.len();
                if !self.log.fits(length) || self.log.staged_bytes() >= JOURNAL_WRITE_BYTES {
                    self.write()?;
                }
                if !self.log.fits(length) {
                    self.sync()?;
                    let first = self.core.written.load(Ordering::Relaxed) + 1;
                    self.log.rotate(first)?;
                }
            }
            match self.state.backlog.pop_front() {
                Some(Item::Frame(next)) => {
                    self.state.backlog_bytes -= next.payload.len();
                    self.log.stage(next.seq, next.kind, &next.payload);
                    self.state.staged.push((next.seq, next.want));
                }
                Some(Item::Flush(answer)) => {
                    self.state.flushes.push(answer);
                    self.state.urgent = true;
                }
                None => {}
            }
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), Stall> {
        self.log.write()?;
        if !self.state.staged.is_empty() {
            self.state.since.get_or_insert_with(Instant::now);
        }
        for (seq, want) in self.state.staged.drain(..) {
            self.state.urgent |= want.urgency == Urgency::Now;
            if let Some(told) = want.durable {
                self.state.unsynced.push_back((seq, told));
            }
            if let Some(told) = want.written {
                told(seq);
            }
        }
        Ok(())
    }

    /// Nothing is staged when this is called, so it covers all that left the backlog.
    fn sync(&mut self) -> Result<(), Stall> {
        self.log.sync()?;
        self.state.since = None;
        self.state.urgent = false;
        for (seq, told) in self.state.unsynced.drain(..) {
            told(seq);
        }
        let durable = self.core.durable.load(Ordering::Relaxed);
        for answer in self.state.flushes.drain(..) {
            // An error says that whoever asked has gone.
            answer.send(durable).ok();
        }
        Ok(())
    }

    fn fatal(&self, error: JournalError) -> JournalError {
        self.core.fail();
        let segment = self.log.id();
        write_failing(&*self.core.disk, &self.core.folder, &self.marks, segment);
        (self.on_fatal)(&Fatal { segment, error });
        JournalError::Failed
    }
}
