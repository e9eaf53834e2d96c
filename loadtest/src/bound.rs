//! A bound on time for work that blocks in many places: a driver waits for children, for their answers and for files.
//!
//! Owns the worker's thread. When the time is over, or on SIGINT and SIGTERM, the processes that this one has started are killed, and theirs, so that
//! every wait of the worker ends with an error and its clean-up runs. Invariants: 1. no engine or sink outlives the bound;
//! 2. work that does not end even so is left alone after a grace, and the caller goes on.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time for the clean-up after the bound.
const GRACE: Duration = Duration::from_secs(60);
/// Time between two kills during the grace: work may start another child before it sees that the last one is gone.
const KILL_EVERY: Duration = Duration::from_millis(200);

/// How bounded work ended.
#[derive(Debug)]
pub enum Ended<T> {
    InTime(T),
    /// What the work answered when its children were killed, if it did.
    OutOfTime(Option<T>),
    /// A signal asked for the end.
    Interrupted,
    Panicked,
}

/// Runs the work in a thread of its own for at most this long.
pub fn within<T: Send + 'static>(bound: Duration, work: impl FnOnce() -> T + Send + 'static) -> Ended<T> {
    let (send, receive) = sync_channel(1);
    std::thread::spawn(move || {
        // Nobody listens any more after the grace.
        send.send(work()).ok();
    });
    let (since, interrupted) = (Instant::now(), interrupts());
    while since.elapsed() < bound && !interrupted.load(Ordering::Relaxed) {
        match receive.recv_timeout(KILL_EVERY.min(bound.saturating_sub(since.elapsed()))) {
            Ok(done) => return Ended::InTime(done),
            Err(RecvTimeoutError::Disconnected) => return Ended::Panicked,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    let late = |done| if interrupted.load(Ordering::Relaxed) { Ended::Interrupted } else { Ended::OutOfTime(done) };
    let until = Instant::now() + GRACE;
    while Instant::now() < until {
        kill_descendants();
        match receive.recv_timeout(KILL_EVERY) {
            Ok(done) => return late(Some(done)),
            Err(RecvTimeoutError::Disconnected) => return late(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    late(None)
}

/// Becomes true at SIGINT or SIGTERM. Where signals cannot be had, they end the process as ever.
fn interrupts() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&flag);
    std::thread::spawn(move || {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            theirs.store(true, Ordering::Relaxed);
        });
    });
    flag
}

/// Kills the processes that this one has started, and those that they have.
fn kill_descendants() {
    let parents = parents();
    let own = std::process::id();
    for pid in parents.keys().filter(|pid| descends(**pid, own, &parents)) {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // Gone already is as good.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// Every process and its parent, from `/proc/PID/stat` (proc(5)): the fourth field, counted from the end of the name.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

fn descends(pid: u32, from: u32, parents: &BTreeMap<u32, u32>) -> bool {
    let mut at = pid;
    // A cycle cannot be, but pids may be given anew between two reads.
    for _ in 0..parents.len() {
        match parents.get(&at) {
            Some(parent) if *parent == from => return true,
            Some(parent) => at = *parent,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_time_answers_and_work_that_fails_says_so() {
        assert!(matches!(within(Duration::from_secs(60), || 7), Ended::InTime(7)));
        assert!(matches!(within(Duration::from_secs(60), || panic!("on purpose")), Ended::<()>::Panicked));
    }

    #[test]
    fn descendants_are_found_over_generations() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1)]);
        assert!(descends(4, 2, &parents) && descends(3, 2, &parents), "children and theirs");
        assert!(!descends(5, 2, &parents) && !descends(2, 2, &parents), "not siblings, not itself");
        let own = super::parents();
        assert!(own.contains_key(&std::process::id()), "this process is among them");
    }
}
