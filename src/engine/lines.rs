//! Wiring connectors: a line, its channel actor on an arbiter of its own, and the threads that all lanes run on.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, Recipient};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::actors::book::Book;
use crate::actors::channel::ChannelActor;
use crate::actors::lanes::queue::LaneQueue;
use crate::actors::lanes::threads::LaneThreads;
use crate::actors::line::{BoundClass, ClassAnswers, Line, LineFigures};
use crate::actors::{Join, Leave};
use crate::channels::circuit::Circuit;
use crate::channels::connector::Connector;
use crate::channels::fair::FairQueue;
use crate::channels::lane_budget::bound_class_rate;
use crate::channels::limits_table::{ClassId, LimitsTable, Scope, SharedLimits, Start};
use crate::clock::{Clock, Monotonic, SystemClock, Timestamp};
use crate::config::connectors::ConnectorSettings;
use crate::contacts::Store;
use crate::content::TokenKeys;
use crate::engine::EngineError;
use crate::ids::Channel;
use crate::ledger::handed::HandedOver;
use crate::limits::BATCH_CONTACTS_MAX;

/// A connector at work.
pub struct Wired {
    pub settings: ConnectorSettings,
    pub channel: Channel,
    pub line: Arc<Line>,
    pub join: Recipient<Join>,
    pub leave: Recipient<Leave>,
    arbiter: Arbiter,
}

impl Wired {
    /// What a campaign's actor needs of it.
    pub fn handles(&self) -> (Arc<Line>, Recipient<Join>, Recipient<Leave>) {
        (Arc::clone(&self.line), self.join.clone(), self.leave.clone())
    }

    pub fn stop(&self) {
        self.arbiter.stop();
    }
}

pub type Lines = BTreeMap<String, Wired>;

/// Rows that all connectors together may have claimed and not durably ended.
pub fn credits_of(settings: &[ConnectorSettings]) -> u64 {
    settings.iter().map(|s| (s.credits_batches() * BATCH_CONTACTS_MAX) as u64).sum()
}

#[allow(clippy::too_many_arguments, reason = "wiring names every part once")]
pub fn wire(
    settings: &ConnectorSettings,
    connector: Connector,
    book: &Arc<Book>,
    store: &Store,
    clock: SystemClock,
    threads: &Arc<LaneThreads>,
    tokens: &TokenKeys,
) -> Result<Wired, EngineError> {
    let arbiter = Arbiter::new();
    let credits = settings.credits_batches() * BATCH_CONTACTS_MAX;
    let (sender, receiver) = crossbeam::channel::bounded::<(Arc<Line>, Addr<ChannelActor>)>(1);
    let started = Parts {
        settings: settings.clone(),
        connector,
        credits,
        book: Arc::clone(book),
        store: store.clone(),
        clock,
        tokens: tokens.clone(),
    };
    let threads = Arc::clone(threads);
    let spawned = arbiter.spawn_fn(move || {
        let mut made = None;
        let addr = ChannelActor::create(|context| {
            use actix::AsyncContext;
            let line = Arc::new(line(started, &context.address()));
            made = Some(Arc::clone(&line));
            ChannelActor::new(line, threads)
        });
        if let Some(line) = made {
            drop(sender.send((line, addr)));
        }
    });
    if !spawned {
        return Err(EngineError::ArbiterGone);
    }
    let (line, addr) = receiver.recv().map_err(|_| EngineError::ArbiterGone)?;
    let (join, leave) = (addr.clone().recipient(), addr.recipient());
    Ok(Wired { settings: settings.clone(), channel: Channel::Email, line, join, leave, arbiter })
}

struct Parts {
    settings: ConnectorSettings,
    connector: Connector,
    credits: usize,
    book: Arc<Book>,
    store: Store,
    clock: SystemClock,
    tokens: TokenKeys,
}

fn line(parts: Parts, actor: &Addr<ChannelActor>) -> Line {
    let Parts { settings, connector, credits, book, store, clock, tokens } = parts;
    let now = clock.monotonic();
    let limits = SharedLimits::default();
    let mut fair = FairQueue::new(credits);
    let bound_classes = limits.with(|table| set_limits(table, &mut fair, &settings, now));
    limits.with(|table| restore_limits(table, &settings, &book.read().handed_over, book.now(), now));
    Line {
        name: settings.name().into(),
        connector,
        domains: settings.domains().iter().map(|d| d.domain.clone()).collect(),
        bound_classes,
        connections_max: settings.connections_max(),
        retry: settings.retry().clone(),
        suppress_after_hard_bounces: settings.suppress_after_hard_bounces(),
        credits: credits as u64,
        queue: LaneQueue::default(),
        limits,
        fair: Mutex::new(fair),
        ahead: Mutex::new(Vec::new()),
        circuit: Mutex::new(Circuit::default()),
        class_answers: (0..=settings.domains().len()).map(|_| ClassAnswers::default()).collect(),
        class_circuits: Mutex::new(vec![Circuit::default(); settings.domains().len()]),
        store,
        tokens,
        book,
        clock,
        nudge: actor.clone().recipient(),
        reports: actor.clone().recipient(),
        running: Mutex::new(RoaringBitmap::new()),
        figures: LineFigures::default(),
        closing: std::sync::atomic::AtomicBool::new(false),
    }
}

/// Every configured limit, as after a restart; answers the classes that few lanes may serve.
fn set_limits(
    table: &mut LimitsTable,
    fair: &mut FairQueue,
    settings: &ConnectorSettings,
    now: Monotonic,
) -> Vec<BoundClass> {
    table.set(Scope::Connector, settings.rate(), Start::Restarted, now);
    fair.set_rate(Scope::Connector, table.per_second(Scope::Connector));
    let mut bound = Vec::new();
    for (at, domain) in settings.domains().iter().enumerate() {
        let class = ClassId(u16::try_from(at + 1).unwrap_or(u16::MAX));
        let scope = Scope::Class(class);
        table.set(scope, domain.rate, Start::Restarted, now);
        let mut rate = table.per_second(scope);
        if let Some(lanes) = domain.connections_max {
            table.bind_lanes(scope, lanes);
            bound.push(BoundClass { class, lanes, rate });
            rate = Some(bound_class_rate(lanes, None, rate));
        }
        fair.set_rate(scope, rate);
    }
    bound
}

/// Hour and day windows go on where an earlier process left them.
fn restore_limits(
    table: &mut LimitsTable,
    settings: &ConnectorSettings,
    handed: &HandedOver,
    wall: Timestamp,
    now: Monotonic,
) {
    let domains =
        settings.domains().iter().zip(1u16..).map(|(d, class)| (Some(&*d.domain), Scope::Class(ClassId(class))));
    for (domain, scope) in std::iter::once((None, Scope::Connector)).chain(domains) {
        for (age, count) in handed.recent(settings.name(), domain, wall) {
            table.restore(scope, age, count, now);
        }
    }
}

#[cfg(test)]
mod tests;
