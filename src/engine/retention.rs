//! What is forgotten when it is old, if the operator says so: details of runs, so many days after their end, and that contacts
//! did something, so many days after they did it last.
//!
//! Owns a thread. What decides is in the state ([`crate::ledger::details`], [`crate::ledger::events`]), so that a restart changes nothing: the look is
//! taken at every start and then by the hour. What else is kept for a time is looked after where it lies: uploads and
//! rejected rows by their own threads, tracked links where they are resolved.
//!
//! Invariant: RT-1 details that something asks for stay: what is live or planned, and every saved segment. They ask when
//! one of their expressions names the campaign, or counts opens and clicks of so many days. What starts later is told when
//! it is checked that the details are removed. Nothing holds what contacts did: who asks further back finds nobody there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde_json::Value;

use crate::actors::book::{Book, CommitError};
use crate::campaigns::{compile, parse};
use crate::clock::Timestamp;
use crate::config::RetentionConfig;
use crate::engine::{Engine, EngineError};
use crate::flow::Graph;
use crate::flow::nodes::Test;
use crate::ids::{CampaignId, RunId};
use crate::ledger::details::{DetailsRemoved, Needs};
use crate::ledger::events::day_of as event_day;
use crate::ledger::tracking::day_of;
use crate::ledger::{Fact, Run, State};
use crate::limits::{DETAILS_RUNS_AT_ONCE, DETAILS_SWEEP_PERIOD, SEGMENT_BYTES_MAX};
use crate::metrics::{DETAILS_REMOVED_BYTES_TOTAL, DETAILS_REMOVED_TOTAL};
use crate::segments::expression::Kind;

/// Looks after the details of runs and after what contacts did; without [`Retention::keep_for`] they are kept for ever.
pub struct Retention {
    shared: Arc<Shared>,
    sweeper: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Shared {
    book: Arc<Book>,
    stopping: AtomicBool,
    rung: Mutex<()>,
    wake: Condvar,
}

impl Retention {
    pub fn new(book: &Arc<Book>) -> Retention {
        count(0, 0);
        let (stopping, rung, wake) = (AtomicBool::new(false), Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { book: Arc::clone(book), stopping, rung, wake });
        Retention { shared, sweeper: Mutex::default() }
    }

    /// Forgets what is older than that, now and from now on. Only the first call counts.
    pub fn keep_for(&self, kept: RetentionConfig) -> std::io::Result<()> {
        let mut sweeper = self.sweeper.lock();
        if sweeper.is_none() && kept != RetentionConfig::default() {
            let shared = Arc::clone(&self.shared);
            let body = move || shared.sweep_often(&kept);
            *sweeper = Some(std::thread::Builder::new().name("retention".to_owned()).spawn(body)?);
        }
        Ok(())
    }

    /// Ends the thread. Blocks for as long as one fact takes.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        drop(self.shared.rung.lock());
        self.shared.wake.notify_all();
        if let Some(sweeper) = self.sweeper.lock().take()
            && sweeper.join().is_err()
        {
            tracing::error!("the thread of the retention ended by a fault");
        }
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn sweep_often(&self, kept: &RetentionConfig) {
        while !self.stopping.load(Ordering::Acquire) {
            if let Err(error) = self.sweep(kept) {
                tracing::error!(%error, "what is older than its retention could not be forgotten; it is tried again");
            }
            let mut rung = self.rung.lock();
            if !self.stopping.load(Ordering::Acquire) {
                self.wake.wait_for(&mut rung, DETAILS_SWEEP_PERIOD);
            }
        }
    }

    fn sweep(&self, kept: &RetentionConfig) -> Result<(), CommitError> {
        if let Some(kept) = kept.run_details_kept {
            let mut more = true;
            while more && !self.stopping.load(Ordering::Acquire) {
                more = remove_some(&self.book, kept)? > 0;
            }
        }
        let Some(kept) = kept.events_kept else { return Ok(()) };
        let before = event_day(ago(self.book.now(), kept));
        let names = self.book.read().events.behaviour.reaching_before(before);
        // A fact a type: lanes and readers have their turn between them.
        for name in names {
            if self.stopping.load(Ordering::Acquire) {
                return Ok(());
            }
            let at = self.book.now();
            self.book.commit_durable(&Fact::EventsForgotten { name: name.clone(), before, at })?;
            tracing::info!(event = name, days = kept.as_secs() / 86_400, "who did it last before that is forgotten");
        }
        Ok(())
    }
}

fn ago(now: Timestamp, kept: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)))
}

/// Removes the details of some runs that ended so long ago; of how many.
pub(crate) fn remove_some(book: &Book, kept: Duration) -> Result<usize, CommitError> {
    let now = book.now();
    let ended_before = ago(now, kept);
    let old = |state: &State, needs: &Needs| state.removable(ended_before, day_of(now), needs, DETAILS_RUNS_AT_ONCE);
    {
        // Mostly there is nothing to do, and nobody has to wait for that.
        let state = book.read();
        if old(&state, &Needs::default()).is_empty() || old(&state, &needs(&state)).is_empty() {
            return Ok(0);
        }
    }
    let mut runs = Vec::new();
    book.commit_durable_by::<CommitError>(|state| {
        runs = old(state, &needs(state));
        let fact = DetailsRemoved { runs: runs.clone(), at: now };
        Ok((!runs.is_empty()).then_some(Fact::DetailsRemoved(fact)))
    })?;
    let state = book.read();
    let removed = runs.iter().filter_map(|run| state.runs.get(run)?.removed);
    let bytes = removed.map(|removed| removed.bytes).sum();
    drop(state);
    count(runs.len() as u64, bytes);
    if !runs.is_empty() {
        tracing::info!(runs = runs.len(), bytes, "details of runs were removed: their retention has passed");
    }
    Ok(runs.len())
}

/// Refused for a run that knows how many, and not who.
pub fn must_know_details(run: &Run) -> Result<(), EngineError> {
    let refused = |at| Err(EngineError::DetailsRemoved { run: run.id, at });
    run.details_removed_at().map_or(Ok(()), refused)
}

impl Engine {
    /// Refused for a run that knows how many, and not who.
    pub fn must_know_details(&self, run: RunId) -> Result<(), EngineError> {
        self.book.read().runs.get(&run).map_or(Ok(()), must_know_details)
    }
}

fn count(runs: u64, bytes: u64) {
    ::metrics::counter!(DETAILS_REMOVED_TOTAL.name).increment(runs);
    ::metrics::counter!(DETAILS_REMOVED_BYTES_TOTAL.name).increment(bytes);
}

/// What is asked of runs that have ended (RT-1).
pub(crate) fn needs(state: &State) -> Needs {
    let names = state.campaigns.iter().filter_map(|(id, campaign)| Some((campaign.name.as_deref()?, *id))).collect();
    let mut asked = Asked { names, needs: Needs::default() };
    for segment in state.segments.values() {
        asked.expression(&segment.text);
    }
    for run in state.runs.values().filter(|run| run.state.is_live()) {
        asked.graph(&run.graph);
        if let Some(text) = state.campaigns.get(&run.campaign).and_then(|campaign| campaign.versions.get(&run.version))
        {
            asked.spec(text);
        }
    }
    for campaign in state.plans.iter().filter(|(_, plan)| plan.is_open()).map(|(campaign, _)| campaign) {
        let Some((_, text)) = state.campaigns.get(campaign).and_then(|campaign| campaign.newest()) else { continue };
        asked.spec(text);
        if let Ok(compiled) = parse::from_stored(text).map_err(drop).and_then(|spec| compile(&spec).map_err(drop)) {
            asked.graph(&compiled.graph);
        }
    }
    asked.needs
}

struct Asked<'s> {
    names: BTreeMap<&'s str, CampaignId>,
    needs: Needs,
}

impl Asked<'_> {
    fn expression(&mut self, text: &str) {
        if text.len() > SEGMENT_BYTES_MAX {
            return;
        }
        let Ok(parsed) = crate::segments::parse(text) else { return };
        parsed.walk(&mut |part| match &part.kind {
            Kind::History { campaign, .. } => self.needs.campaigns.extend(self.names.get(campaign.as_str())),
            Kind::Messages { days, .. } => self.needs.engaged_days = self.needs.engaged_days.max(*days),
            _ => {}
        });
    }

    /// Every text in a spec that is an expression: whichever keys hold them, now or later.
    fn spec(&mut self, text: &str) {
        if let Ok(spec) = serde_json::from_str::<Value>(text) {
            self.texts(&spec);
        }
    }

    fn texts(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.expression(text),
            Value::Array(values) => values.iter().for_each(|value| self.texts(value)),
            Value::Object(values) => values.values().for_each(|value| self.texts(value)),
            _ => {}
        }
    }

    fn graph(&mut self, graph: &Graph) {
        for test in graph.nodes().flat_map(|node| node.kind.tests()) {
            if let Test::Engaged(asked) = test {
                self.needs.engaged_days = self.needs.engaged_days.max(asked.within_days);
            }
        }
    }
}
