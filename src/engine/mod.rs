//! The engine: the only place that starts an actor, picks a connector or opens the data directory.
//!
//! Wired from the tail to the head: journal and book, store, lines with their lanes, then the campaigns that were running.
//! Must not know HTTP or the command line.

pub mod audience;
pub mod backup;
pub mod base;
pub mod calendar;
pub mod check;
pub mod dry_run;
pub mod edits;
pub mod events;
pub mod figures;
pub mod flowing;
pub mod glance;
pub mod grid;
pub mod history;
pub mod hold_out;
pub mod imports;
pub mod layout;
pub mod lines;
pub mod messages;
pub mod names;
pub mod one_shot;
pub mod process;
pub mod recover;
pub mod resend;
pub mod retention;
pub mod root_key;
pub mod runs;
pub mod same_address;
pub mod scheduling;
pub mod sequences;
#[cfg(test)]
pub(crate) mod testbase;
pub mod testsend;
pub mod tracking;
pub mod uncounted;
pub mod uploads;

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Arbiter, Recipient};
use dashmap::DashMap;

use crate::actors::book::{Book, CommitError};
use crate::actors::committer::CommitterActor;
use crate::actors::figures::{self as actor_figures, TakenBack};
use crate::actors::flowing::NoChoice;
use crate::actors::lanes::PositionPool;
use crate::actors::lanes::threads::{LaneThreads, ThreadError};
use crate::actors::pulse::{PulseActor, Pulses};
use crate::actors::tracker::{TrackerActor, TrackerInbox};
use crate::actors::{RunCommand, RunEnded};
use crate::campaigns::compile::MessagePlan;
use crate::campaigns::schedule::ScheduleError;
use crate::campaigns::{CompileError, IllegalMove, SpecError, lifecycle};
use crate::channels::connector::Connector;
use crate::clock::SystemClock;
use crate::config::SoftRule;
use crate::config::caps::Cap;
use crate::config::connectors::ConnectorSettings;
use crate::contacts::{ContactsError, Store};
use crate::content::{CompileContext, CompiledMessage, ContentProblem, TokenKeys};
use crate::ids::{CampaignId, MessageId, RunId};
use crate::journal::JournalError;
use crate::ledger::Violation;
use crate::limits::{HISTORY_SNAPSHOT_WAIT, POSITIONS_PER_CREDIT};
use crate::segments::{EvaluateError, SegmentError};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the data directory {path} can't be used", path = .path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Contacts(#[from] ContactsError),
    #[error("the journal folds to a ledger that does not balance: {0}")]
    Unsound(Violation),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Threads(#[from] ThreadError),
    #[error(transparent)]
    Imports(#[from] imports::ImportsError),
    #[error(transparent)]
    Uploads(#[from] uploads::UploadsError),
    #[error(transparent)]
    Layout(#[from] layout::LayoutError),
    #[error(transparent)]
    Backup(#[from] Box<backup::BackupError>),
    #[error(transparent)]
    RootKey(#[from] root_key::RootKeyError),
    #[error("the contacts can't be brought up to the journal")]
    Base(#[from] base::BaseError),
    #[error("an arbiter thread is gone")]
    ArbiterGone,
    #[error("connector {name:?}: {reason}")]
    Connector { name: String, reason: String },
    #[error("there is no connector {name:?}")]
    NoConnector { name: String },
    #[error("there is no list {name:?}")]
    NoList { name: String },
    #[error("there is no campaign {id}")]
    NoCampaign { id: CampaignId },
    #[error("campaign {id} was changed while it was being started: nothing is started; look at it, and start it again")]
    ChangedMeanwhile { id: CampaignId },
    #[error("there is no run {run}")]
    NoRun { run: RunId },
    #[error("the details of run {run} were removed on {at}: how many is known, and who is not", run = .run.0)]
    DetailsRemoved { run: RunId, at: crate::clock::Timestamp },
    #[error("{run} counts other rows than its campaign's audience has")]
    OtherSpace { run: RunId },
    #[error("the campaign has no message {message}")]
    NoMessage { message: MessageId },
    #[error(
        "a campaign that is {state} can't be edited: drafts, what is scheduled, and sequences can; create another one with what is to be changed",
        state = .state.name()
    )]
    NotEditable { state: lifecycle::State },
    #[error("unknown contacts of a run that is {state} are not sent again", state = .state.name())]
    NotResendable { state: lifecycle::State },
    #[error("{run}: {reason}")]
    NoChoice { run: RunId, reason: NoChoice },
    #[error(transparent)]
    Sequence(#[from] sequences::SequenceError),
    #[error(transparent)]
    Move(#[from] IllegalMove),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Resend(#[from] resend::ResendError),
    #[error(transparent)]
    Message(#[from] messages::MessageError),
    #[error("the control group can't be cut")]
    HoldOut(#[from] crate::flow::split::SplitError),
    #[error("the schedule can't be published: {}", join(.0))]
    Schedule(Vec<ScheduleError>),
    #[error("[message]: {reason}")]
    MessageFields { reason: String },
    #[error("the content of the message has {} problems", .0.len())]
    Content(Vec<ContentProblem>),
    #[error("a test goes to 1 to {max} addresses, {given} were given")]
    TestAddresses { given: usize, max: usize },
    #[error("{address:?} is no e-mail address: {reason}")]
    TestAddress { address: String, reason: String },
    #[error("the message can't be rendered for this contact: {sample}")]
    Render { sample: String },
    #[error("segment: {source}")]
    Evaluate { text: String, source: EvaluateError },
    #[error("segment: {source}")]
    Segment { text: String, source: SegmentError },
}

fn join(errors: &[ScheduleError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What the engine needs to know to start.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub directory: PathBuf,
    pub connectors: Vec<ConnectorSettings>,
    pub public_url: String,
    /// Domain that takes in bounces; without it they go to the sender's address.
    pub return_path_domain: Option<String>,
    pub unsubscribe_mailbox: Option<String>,
    pub lane_threads: usize,
    pub aggregate_only: bool,
    /// When soft bounces suppress.
    pub soft_bounces: SoftRule,
    /// Caps of every campaign.
    pub caps: Vec<Cap>,
    /// Tracked links of a run work this long after its end; its opt-outs work always.
    pub tracking_kept: Duration,
    /// A dated start is this long after its publication at the earliest.
    pub publish_grace: Duration,
    pub restored: bool,
    /// Rejected-row files of imports are deleted after this.
    pub rejected_rows_kept: Duration,
}

/// The running engine; shared by every listener.
pub struct Engine {
    pub options: EngineOptions,
    pub clock: SystemClock,
    pub store: Store,
    pub book: Arc<Book>,
    pub lines: lines::Lines,
    pub tokens: TokenKeys,
    pub tracker: TrackerInbox,
    pub recovery: RecoverySummary,
    pub imports: imports::Imports,
    pub uploads: uploads::Uploads,
    pub backups: backup::Backups,
    pub history: history::History,
    pub retention: retention::Retention,
    pub pulses: Arc<Pulses>,
    tracking: tracking::TrackingState,
    events: events::EventState,
    pool: Arc<PositionPool>,
    campaigns: DashMap<RunId, Recipient<RunCommand>>,
    leg_inboxes: DashMap<RunId, Arc<crate::actors::legs::LegInbox>>,
    ended: Recipient<RunEnded>,
    campaign_arbiter: Arbiter,
    flow_arbiter: Arbiter,
    service_arbiter: Arbiter,
    started: Instant,
    draining: AtomicBool,
}

/// What the last start found.
#[derive(Clone, Debug)]
pub struct RecoverySummary {
    pub seconds: f64,
    pub frames: u64,
    pub settled: recover::Settled,
    pub runs: usize,
}

impl Engine {
    /// Opens the data directory, recovers, starts everything. `connectors` are the built counterparts of the settings.
    pub fn open(options: EngineOptions, connectors: Vec<Connector>) -> Result<Arc<Engine>, EngineError> {
        let clock = SystemClock::new();
        let directory = |source| EngineError::Directory { path: options.directory.clone(), source };
        let mut made = std::fs::DirBuilder::new();
        made.recursive(true).mode(0o700).create(&options.directory).map_err(directory)?;
        layout::prepare(&options.directory)?;
        let credits = lines::credits_of(&options.connectors);
        let positions = u32::try_from(credits * POSITIONS_PER_CREDIT).unwrap_or(u32::MAX).max(1);
        let journal =
            crate::journal::Options { mark_positions: positions, restored: options.restored, ..Default::default() };
        let retry_of = |connector: &str| {
            // One that is no longer configured may come back: its rows wait by the default meanwhile.
            let settings = options.connectors.iter().find(|settings| settings.name() == connector);
            settings.map(|settings| settings.retry().clone()).unwrap_or_default()
        };
        let (recovered, store) = recover::open(&options.directory, &journal, Arc::new(clock), &retry_of)?;
        let tokens = TokenKeys::new(&root_key::root_key(&options.directory)?);
        let book = recovered.book;
        let pool = Arc::new(PositionPool::new(recovered.marks, positions));
        let threads = Arc::new(LaneThreads::start(options.lane_threads)?);
        let mut wired = lines::Lines::new();
        for (settings, connector) in options.connectors.iter().zip(connectors) {
            let line = lines::wire(settings, connector, &book, &store, clock, &threads, &tokens)?;
            wired.insert(settings.name().to_owned(), line);
        }
        let (campaign_arbiter, service_arbiter) = (Arbiter::new(), Arbiter::new());
        let pulses = Arc::new(Pulses::default());
        let (tracker, ended) = services(&service_arbiter, &book, &options, clock, &pulses)?;
        let imports = imports::Imports::open(&options.directory, &store, &book)?;
        let uploads = uploads::Uploads::open(&options.directory, &store, &book)?;
        let history = history::History::start(&store).map_err(directory)?;
        let notes = history.notes();
        book.gate_snapshots(move || notes.are_written(HISTORY_SNAPSHOT_WAIT));
        let recovery = RecoverySummary {
            seconds: recovered.seconds,
            frames: recovered.report.frames,
            settled: recovered.settled,
            runs: 0,
        };
        let engine = Engine {
            options,
            clock,
            store,
            retention: retention::Retention::new(&book),
            book,
            lines: wired,
            tokens,
            tracker,
            recovery,
            imports,
            uploads,
            backups: backup::Backups::default(),
            history,
            pulses,
            tracking: tracking::TrackingState::default(),
            events: events::EventState::default(),
            pool,
            campaigns: DashMap::new(),
            leg_inboxes: DashMap::new(),
            ended,
            campaign_arbiter,
            flow_arbiter: Arbiter::new(),
            service_arbiter,
            started: Instant::now(),
            draining: AtomicBool::new(false),
        };
        let engine = Arc::new(engine);
        engine.go_on()?;
        Ok(engine)
    }

    /// Takes up what was under way when the last process ended.
    fn go_on(self: &Arc<Self>) -> Result<(), EngineError> {
        actor_figures::announce(self.lines.keys().map(String::as_str));
        events::announce();
        actor_figures::returned(TakenBack::Recovery, self.recovery.settled.returned);
        self.repair_base()?;
        let runs = self.take_up()?;
        self.imports.keep_for(self.options.rejected_rows_kept);
        self.imports.start()?;
        self.start_flows()?;
        tracing::info!(runs, seconds = self.recovery.seconds, "recovered");
        Ok(())
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Compiles content for this engine's schema and public address.
    pub fn content(&self, campaign: &str, plan: &MessagePlan) -> Result<Arc<CompiledMessage>, EngineError> {
        let schema = self.schema_of(plan.upload.as_deref())?;
        let context = CompileContext { cell: plan.cell.clone(), ..self.compile_context(campaign) };
        self.compile_with(&plan.fields, &context, &schema).map(Arc::new)
    }

    /// Ends well: no new batch, answers of what is in flight awaited to a deadline, everything synced. Blocks. An import
    /// hears it first and is awaited last: nobody sends on while one works its chunk off.
    pub fn drain(&self, longest: Duration) -> Result<(), EngineError> {
        let deadline = Instant::now() + longest;
        self.draining.store(true, Ordering::Release);
        self.imports.ask_to_stop();
        self.uploads.stop();
        self.retention.stop();
        self.drain_campaigns(deadline);
        self.campaign_arbiter.stop();
        self.flow_arbiter.stop();
        self.service_arbiter.stop();
        if !self.imports.join_until(deadline) {
            tracing::warn!("the drain deadline passed in an import: the next start goes on with its last chunk");
        }
        // First the histories: a snapshot replaces no frame that they lack.
        self.history.stop();
        let open = self.book.read().open_batches().count();
        if open > 0 {
            tracing::warn!(open, "the drain deadline passed with open claims: the next start settles them");
        } else if let Err(error) = self.book.snapshot() {
            tracing::warn!(%error, "no snapshot at the end; the next start folds the journal");
        }
        self.book.journal().flush()?;
        Ok(())
    }

    /// Has all runs take back what was not handed over, awaits the answers to what was, and closes the lanes.
    fn drain_campaigns(&self, deadline: Instant) {
        for entry in self.campaigns.iter() {
            // An actor that can't be told is gone or busy; its lanes close below.
            drop(entry.value().try_send(RunCommand::Drain));
        }
        while Instant::now() < deadline && self.book.read().open_batches().next().is_some() {
            std::thread::sleep(DRAIN_POLL);
        }
        for wired in self.lines.values() {
            wired.line.close();
            wired.stop();
        }
        while Instant::now() < deadline && self.lines.values().any(|w| w.line.lanes_running() > 0) {
            std::thread::sleep(DRAIN_POLL);
        }
    }
}

/// How often the drain looks whether all answers are in.
const DRAIN_POLL: Duration = Duration::from_millis(20);

fn services(
    arbiter: &Arbiter,
    book: &Arc<Book>,
    options: &EngineOptions,
    clock: SystemClock,
    pulses: &Arc<Pulses>,
) -> Result<(TrackerInbox, Recipient<RunEnded>), EngineError> {
    let (sender, receiver) = crossbeam::channel::bounded(1);
    let (book, pulses) = (Arc::clone(book), Arc::clone(pulses));
    let (directory, aggregate_only) = (options.directory.clone(), options.aggregate_only);
    let spawned = arbiter.spawn_fn(move || {
        CommitterActor::new(Arc::clone(&book), directory).start();
        PulseActor::new(Arc::clone(&book), clock, pulses).start();
        let tracker = TrackerActor::open(book, aggregate_only);
        let ended = EndsActor.start().recipient();
        drop(sender.send((tracker, ended)));
    });
    if !spawned {
        return Err(EngineError::ArbiterGone);
    }
    receiver.recv().map_err(|_| EngineError::ArbiterGone)
}

/// Hears that runs ended; their actors are gone by themselves.
struct EndsActor;

impl actix::Actor for EndsActor {
    type Context = actix::Context<EndsActor>;
}

impl actix::Handler<RunEnded> for EndsActor {
    type Result = ();

    fn handle(&mut self, ended: RunEnded, _: &mut Self::Context) {
        tracing::debug!(run = %ended.run, "the run's actor is gone");
    }
}

#[cfg(test)]
mod tests;
