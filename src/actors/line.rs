//! A line: what everybody who works on one connector shares. The channel actor steers it, campaigns claim over it, lanes
//! pull from it.
//!
//! Locks are held for a few comparisons, never across an await, and never two at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::Recipient;
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::actors::book::Book;
use crate::actors::lanes::batch::LiveBatch;
use crate::actors::lanes::queue::LaneQueue;
use crate::actors::refusals::Refusals;
use crate::actors::{LaneReport, Nudge};
use crate::channels::circuit::Circuit;
use crate::channels::connector::Connector;
use crate::channels::fair::{DemandKey, FairQueue};
use crate::channels::limits_table::{Blocked, ClassId, Scope, SharedLimits};
use crate::clock::{Monotonic, SystemClock};
use crate::config::connectors::RetrySettings;
use crate::contacts::Store;
use crate::content::TokenKeys;
use crate::journal::Want;
use crate::ledger::Fact;
use crate::metrics::ROUND_TRIP_BUCKETS;

/// A claimed batch whose unmarked rows count as ahead of the lanes.
pub struct Ahead {
    pub key: DemandKey,
    pub batch: Weak<LiveBatch>,
    pub unmarked: u32,
}

/// A class with `connections_max` of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundClass {
    pub class: ClassId,
    pub lanes: usize,
    /// Messages per second; `None` is unlimited.
    pub rate: Option<f64>,
}

/// What was answered to messages of a class since the channel's actor last looked.
#[derive(Debug, Default)]
pub struct ClassAnswers {
    pub answers: AtomicU64,
    /// Refused by policy.
    pub refused: AtomicU64,
}

pub struct Line {
    pub name: Arc<str>,
    pub connector: Connector,
    /// Domains with limits of their own: class k is the k-th, from 1.
    pub domains: Vec<String>,
    /// Classes that only so many lanes may serve at a time, with their configured rate.
    pub bound_classes: Vec<BoundClass>,
    pub connections_max: usize,
    pub retry: RetrySettings,
    /// Hard bounces of a contact after which it is suppressed; 0 never.
    pub suppress_after_hard_bounces: u32,
    pub credits: u64,
    pub queue: LaneQueue,
    pub limits: SharedLimits,
    pub fair: Mutex<FairQueue>,
    pub ahead: Mutex<Vec<Ahead>>,
    pub circuit: Mutex<Circuit>,
    /// By class, from 0.
    pub class_answers: Vec<ClassAnswers>,
    /// Of the classes from 1: what a domain with limits of its own refuses by policy stops that domain and no other.
    pub class_circuits: Mutex<Vec<Circuit>>,
    pub store: Store,
    pub tokens: TokenKeys,
    pub book: Arc<Book>,
    pub clock: SystemClock,
    pub nudge: Recipient<Nudge>,
    pub reports: Recipient<LaneReport>,
    /// Ordinals of the lanes that run.
    pub running: Mutex<RoaringBitmap>,
    pub figures: LineFigures,
    /// The process drains: no lane is opened any more.
    pub closing: AtomicBool,
}

/// Counters of one line, added to per report, read by metrics.
#[derive(Debug, Default)]
pub struct LineFigures {
    pub open_connections: AtomicU64,
    pub connect_failures: AtomicU64,
    pub throttled: AtomicU64,
    /// Bytes of messages that were handed over, added to with each report of outcomes.
    pub message_bytes: AtomicU64,
    /// Time that lanes waited for permits with messages to send.
    pub limit_wait_micros: AtomicU64,
    pub round_trips: RoundTrips,
    pub refusals: Refusals,
    /// Rows that lanes are done with: answered or skipped.
    pub done: AtomicU64,
    /// Those of them that the provider took, or refused for good.
    pub taken: AtomicU64,
    pub last_problem: Mutex<String>,
}

/// Round trips from mark to answer, by bucket; the last counts what is above all.
#[derive(Debug, Default)]
pub struct RoundTrips {
    pub counts: [AtomicU64; ROUND_TRIP_BUCKETS.len() + 1],
    pub sum_micros: AtomicU64,
}

impl RoundTrips {
    pub fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = ROUND_TRIP_BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(ROUND_TRIP_BUCKETS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

impl Line {
    /// Ends all lanes, for good.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.queue.set_lanes_wanted(0);
    }

    /// The domain of a class with limits of its own.
    pub fn domain_of(&self, class: ClassId) -> Option<&str> {
        let at = usize::from(class.0).checked_sub(1)?;
        self.domains.get(at).map(String::as_str)
    }

    /// Rows that are claimed and not handed over, of one class or of all: by the marks themselves, not by what the fair queue
    /// has been told of them.
    pub fn claimed_ahead(&self, class: Option<ClassId>) -> u64 {
        let ahead = self.ahead.lock();
        let entries = ahead.iter().filter(|entry| class.is_none_or(|class| entry.key.class == class));
        entries.filter_map(|entry| entry.batch.upgrade()).map(|batch| u64::from(batch.unmarked())).sum()
    }

    /// The class that an address belongs to.
    pub fn class_of(&self, address: &str) -> ClassId {
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let at = self.domains.iter().position(|d| d.eq_ignore_ascii_case(domain));
        ClassId(at.and_then(|at| u16::try_from(at + 1).ok()).unwrap_or(0))
    }

    /// A permit for a message outside any delivery (a test send): of every scope of its address, and journaled, so that
    /// hour and day limits know of it after a restart.
    pub fn permit_test(&self, address: &str, now: Monotonic) -> Result<(), Blocked> {
        let class = self.class_of(address);
        self.limits.with(|limits| limits.take(&[Scope::Connector, Scope::Class(class)], now))?;
        let (connector, domain) = (self.name.to_string(), self.domain_of(class).map(str::to_owned));
        let fact = Fact::TestSent { connector, domain, messages: 1, at: self.book.now() };
        if let Err(error) = self.book.commit(&fact, Want::idle()) {
            tracing::warn!(connector = %self.name, %error, "a test send was not counted for limits after a restart");
        }
        Ok(())
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Asks the channel actor to decide again; a refusal is no loss, its timer follows.
    pub fn nudge(&self) {
        drop(self.nudge.try_send(Nudge));
    }

    pub fn lanes_running(&self) -> u64 {
        self.running.lock().len()
    }

    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
