//! The threads that lanes run on: one current-thread runtime each, with a bench per connector.
//!
//! Not actors: a lane's messages never cross a mailbox. A panic in a lane is a failure of the process, and recovery is the
//! answer ([`AbortOnPanic`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use crate::actors::AbortOnPanic;
use crate::actors::lanes::bench::Bench;
use crate::actors::lanes::feed::LaneFeed;
use crate::actors::line::Line;
use crate::limits::{
    BATCH_CONTACTS_MAX, LANE_CLOSING_MAX, LANE_COMMANDS_MAX, OUTCOME_FLUSH, OUTCOME_FLUSH_IDLE,
    OUTCOMES_PER_REPORT_MIN, QUIT_MAX,
};

/// Opens a lane on a thread.
struct OpenLane {
    line: Arc<Line>,
    ordinal: usize,
}

pub struct LaneThreads {
    threads: Vec<(mpsc::Sender<OpenLane>, JoinHandle<()>)>,
}

#[derive(Debug, thiserror::Error)]
#[error("a lane thread can't be started")]
pub struct ThreadError(#[from] std::io::Error);

impl LaneThreads {
    pub fn start(count: usize) -> Result<LaneThreads, ThreadError> {
        let mut threads = Vec::with_capacity(count);
        let report_at = (BATCH_CONTACTS_MAX / count.max(1)).max(OUTCOMES_PER_REPORT_MIN);
        for index in 0..count.max(1) {
            let (sender, receiver) = mpsc::channel(LANE_COMMANDS_MAX);
            let mut builder = tokio::runtime::Builder::new_current_thread();
            // Whoever else waits for this processor goes first, often the very peer whose answers the lanes are out of: they are
            // here when it is our turn again, and nobody had to put this thread to sleep and wake it.
            builder.on_thread_park(std::thread::yield_now);
            let runtime = builder.enable_all().build()?;
            let body = move || runtime.block_on(LocalSet::new().run_until(serve(receiver, report_at)));
            let thread = std::thread::Builder::new().name(format!("lanes-{index}")).spawn(body)?;
            threads.push((sender, thread));
        }
        Ok(LaneThreads { threads })
    }

    /// Opens the lanes of a line that are wanted and do not run. Lanes beyond a full command queue follow at the next call.
    pub fn ensure(&self, line: &Arc<Line>) {
        let wanted = line.queue.lanes_wanted();
        for ordinal in 0..wanted {
            let number = u32::try_from(ordinal).unwrap_or(u32::MAX);
            if !line.running.lock().insert(number) {
                continue;
            }
            let (sender, _) = &self.threads[ordinal % self.threads.len()];
            if sender.try_send(OpenLane { line: Arc::clone(line), ordinal }).is_err() {
                line.running.lock().remove(number);
                return;
            }
        }
    }

    /// Ends the threads; lanes must have been told to close before.
    pub fn join(self) {
        for (sender, thread) in self.threads {
            drop(sender);
            if thread.join().is_err() {
                tracing::error!("a lane thread ended by a panic");
            }
        }
    }
}

/// A lane that runs, and is struck off however it ends.
struct Running {
    line: Arc<Line>,
    ordinal: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.line.running.lock().remove(u32::try_from(self.ordinal).unwrap_or(u32::MAX));
    }
}

async fn serve(mut commands: mpsc::Receiver<OpenLane>, report_at: usize) {
    let mut benches: HashMap<Arc<str>, Rc<RefCell<Bench>>> = HashMap::new();
    let mut lanes = JoinSet::new();
    while let Some(OpenLane { line, ordinal }) = commands.recv().await {
        while lanes.try_join_next().is_some() {}
        let bench = benches.entry(Arc::clone(&line.name)).or_insert_with(|| {
            let bench = Rc::new(RefCell::new(Bench::new(Arc::clone(&line), report_at)));
            tokio::task::spawn_local(flush_often(Rc::clone(&bench)));
            bench
        });
        let bench = Rc::clone(bench);
        lanes.spawn_local(async move {
            let _guard = AbortOnPanic;
            let running = Running { line: Arc::clone(&line), ordinal };
            let mut feed = LaneFeed::new(bench, ordinal);
            line.connector.run_lane(&mut feed).await;
            drop(running);
        });
    }
    // Nobody opens lanes any more; those that run end by themselves, with what they have on the wire answered.
    let ended = async { while lanes.join_next().await.is_some() {} };
    if tokio::time::timeout(LANE_CLOSING_MAX + QUIT_MAX, ended).await.is_err() {
        tracing::warn!("lanes did not end in time: what they have on the wire stays open in the ledger");
    }
    let waiting = |bench: &Rc<RefCell<Bench>>| bench.borrow_mut().flush();
    while benches.values().any(waiting) {
        tokio::time::sleep(OUTCOME_FLUSH).await;
    }
}

/// Outcomes wait at most this long for company.
async fn flush_often(bench: Rc<RefCell<Bench>>) {
    let mut idle_rounds = 0u32;
    loop {
        let had_work = bench.borrow().has_gathered();
        idle_rounds = if had_work { 0 } else { idle_rounds.saturating_add(1) };
        bench.borrow_mut().flush();
        let pause = if idle_rounds > 100 { OUTCOME_FLUSH_IDLE } else { OUTCOME_FLUSH };
        tokio::time::sleep(pause).await;
    }
}
