//! Actors: shells around the core. An actor owns a mailbox and timers; what it decides is a function elsewhere.
//!
//! All messages between actors are in this file, so that the protocol reads on one screen. Commands are imperatives, facts
//! past tense. An actor gets its neighbours' `Recipient`s and never imports another actor's file. Every `try_send` that is
//! refused is either repeated at the next tick (the sender keeps what it could not deliver) or carries nothing that could
//! be lost (a nudge).

pub mod book;
pub mod campaign;
pub mod channel;
pub mod claim;
pub mod committer;
pub mod decide;
pub mod figures;
pub mod flowing;
pub mod lanes;
pub mod launching;
pub mod legs;
pub mod line;
pub mod pulse;
pub mod recently;
pub mod refusals;
pub mod scheduler;
pub mod sequencing;
pub mod stall;
pub mod told;
pub mod tracker;
pub mod verdict;
pub mod waiting;

use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};

use crate::actors::lanes::LiveBatch;
use crate::channels::LaneEvent;
use crate::channels::fair::Grant;
use crate::ids::RunId;
use crate::journal::MarkState;
use crate::ledger::RejectClass;
use crate::segments::skip::SkipReason;

/// Ends the process when it is dropped by a panic: actors and lanes own state that only recovery can put right, and the
/// journal and the mark file have all that it needs.
#[derive(Debug, Default)]
pub struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a panic in an actor or a lane: the process ends, and recovers at its next start");
            std::process::abort();
        }
    }
}

/// What became of one row in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    Accepted,
    Rejected(RejectClass, String),
    Deferred(Option<Duration>, String),
    Unknown,
    /// Not handed over, and not to be: decided at release or by the template.
    Skipped(SkipReason, String),
}

impl RowOutcome {
    /// The mark byte that says the same; a skipped row's byte is *withdrawn* already.
    pub fn mark_state(&self) -> Option<MarkState> {
        match self {
            RowOutcome::Accepted => Some(MarkState::Accepted),
            RowOutcome::Rejected(class, _) => Some(MarkState::Rejected(*class as u8)),
            RowOutcome::Deferred(..) => Some(MarkState::Deferred),
            RowOutcome::Unknown => Some(MarkState::Unknown),
            RowOutcome::Skipped(..) => None,
        }
    }
}

/// Lanes → CampaignActor: outcomes of some rows of one batch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Outcomes {
    pub batch: Arc<LiveBatch>,
    pub accepted: Vec<u32>,
    pub others: Vec<(u32, RowOutcome)>,
}

/// ChannelActor → CampaignActor.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub enum ChannelWord {
    /// So many rows of a class may be claimed now. Reserves nothing; void when it expires.
    Grant(Grant),
    /// A bound shrank or a circuit opened: what no lane has marked on this connector goes back to pending.
    TakeBack { connector: Arc<str> },
}

/// CampaignActor → ChannelActor: a run sends over this connector; grants go here.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Join {
    pub run: RunId,
    pub grants: Recipient<ChannelWord>,
}

/// CampaignActor → ChannelActor: the run is done or holds; nothing is to be granted to it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave {
    pub run: RunId,
}

/// Lanes → ChannelActor: something about the provider.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LaneReport {
    pub event: LaneEvent,
}

/// Anyone → ChannelActor: credits came back, lanes are hungry: decide again. May be dropped, a timer follows.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Nudge;

/// What an operator does to a run. The state's fact is committed already; this makes it happen.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
#[rtype(result = "()")]
pub enum RunCommand {
    Pause,
    Resume,
    Stop,
    /// Take everything back and end: the process drains.
    Drain,
    /// Sets changed by somebody else's fact (settled unknowns, skips): look again.
    Refresh,
}

/// CampaignActor → engine: the run is finished or stopped, and its actor is gone.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct RunEnded {
    pub run: RunId,
}
