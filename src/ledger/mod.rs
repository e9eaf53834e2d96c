//! The ledger: facts, the state that is their fold, and the rules by which rows move between sets.
//!
//! Owned by whoever holds a [`State`]; the engine keeps one, behind the lock of `actors::book`, and applies every fact in
//! the order in which the journal numbers it.
//!
//! Invariants
//! - LG-1 `state = fold(facts)`: the same facts give the same bytes ([`snapshot`]), on any machine, at any time. No clock,
//!   no randomness, no map with an unstable order.
//! - LG-2 Rows move only along the table of promise 2, and [`State::apply`] counts: a fact whose rows are not all in the set
//!   that they leave is refused whole, with nothing changed.
//! - LG-3 `audience = pending + claimed + deferred + accepted + rejected + skipped + unknown`, as disjoint sets, per delivery.
//!
//! Must not know: files, actors, channels, HTTP, the wall clock.

pub mod batch;
mod campaign;
pub mod caps;
pub mod class_filter;
mod compact;
pub mod consent;
mod counting;
pub mod counts;
pub mod days;
pub mod delivery;
pub mod details;
pub mod edits;
pub mod engagement;
pub mod events;
pub mod facts;
pub mod flowing;
pub mod handed;
pub mod links;
pub mod outcome;
pub mod pauses;
pub mod plans;
pub mod recover;
mod remember;
pub mod restored;
pub mod rows;
pub mod run;
pub mod saved;
pub mod sequence;
pub mod snapshot;
pub mod state;
pub mod suppression;
pub mod timeline;
pub mod tracking;
pub mod uploads;
pub mod watch;

pub use batch::OpenBatch;
pub use delivery::{Counts, Delivery, Mode};
pub use facts::Fact;
pub use outcome::RejectClass;
pub use rows::{Positions, RowSet};
pub use run::{Run, RunState};
pub use state::State;

use crate::ids::{BatchId, CampaignId, DeliveryId, RunId};

/// Why a fact does not fit the state. None of these is reachable by input: each is a fault of the engine or of the data
/// directory, and leaves the state as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("{delivery}: {expected} rows were to leave {set}, {found} are in it")]
    NotInSet { delivery: DeliveryId, set: &'static str, expected: u64, found: u64 },
    #[error("{delivery} does not exist")]
    NoDelivery { delivery: DeliveryId },
    #[error("{run} does not exist")]
    NoRun { run: RunId },
    #[error("{campaign} does not exist")]
    NoCampaign { campaign: CampaignId },
    #[error("{batch} is not open")]
    NoBatch { batch: BatchId },
    #[error("{batch} exists already")]
    BatchExists { batch: BatchId },
    #[error("{run} exists already")]
    RunExists { run: RunId },
    #[error("{delivery}: the sets overlap or do not add up to the audience")]
    Unbalanced { delivery: DeliveryId },
    #[error("{run}: the flow can't take the contacts where the fact says")]
    BadFlow { run: RunId },
    #[error("{run} cannot take the version: it changes what is locked, or is made from another one")]
    BadEdit { run: RunId },
    #[error("{campaign} has no such launch ahead")]
    BadLaunch { campaign: CampaignId },
    #[error("{delivery}: an entered row is pending and skipped at once, or outside the audience")]
    BadEntry { delivery: DeliveryId },
    #[error("{run} has not ended, or its details are removed")]
    NoDetails { run: RunId },
}
