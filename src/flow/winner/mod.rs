//! Winners: which variant of a test is better, how sure that is, and what follows from it. Pure functions of counts.
//!
//! *To judge* and *to decide* are two things. [`judge()`] says what the counts prove; [`decide`] says who gets the rest of
//! the audience, which may well be a leader that is not proven, and says so.
//!
//! - [`normal`], [`chi_square`], [`fisher`]: distributions; [`integration`]: the law of a statistic that is looked at again and again.
//! - [`proportions`]: rates, their intervals, the difference of two. [`holm`]: several comparisons at once.
//! - [`boundaries`]: O'Brien–Fleming boundaries at planned looks. [`sequences`]: a test that may be looked at at any time.
//! - [`mod@ratio`]: whether the sizes of the arms are what the split promised. [`mod@plan`]: how many contacts a test needs.
//! - [`mod@judge`] puts them together; [`decision`] is what happens.
//!
//! Who owns the state: nobody here. The counts are the ledger's, the decision is journaled by who asked for it.
//!
//! Invariants:
//! 1. The same counts and rules give the same judgement, on every machine and after every restart.
//! 2. Nothing is proven while the sample is broken, an arm is below the minimum, or the boundary in force is not reached.
//! 3. Every comparison of two arms is *second minus first*: a positive difference means that the second is better.
//! 4. No result holds NaN or an infinity, so that each can be journaled and printed as JSON.
//!
//! What it must not know: campaigns, messages, time, files. Events are unique *human* events within a window after each
//! contact's own send, contacts are those accepted whose window is over: who counts sees to that.

pub mod boundaries;
pub mod chi_square;
pub mod decision;
pub mod fisher;
pub mod holm;
mod information;
pub mod integration;
pub mod judge;
pub mod normal;
pub mod plan;
pub mod proportions;
pub mod ratio;
mod rules;
pub mod sequences;

pub use decision::{Basis, Decision, OnNotProven, Waiting, decide};
pub use information::looks_after;
pub use judge::{ArmFinding, GuardRail, Judgement, PairFinding, SequenceFinding, Verdict, judge};
pub use plan::{Plan, plan, power};
pub use proportions::{Interval, Proportion};
pub use ratio::{RatioCheck, ratio};
pub use rules::{Arm, Looks, Rules};

use crate::limits;

/// Why counts or rules cannot be judged. Each names the input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WinnerError {
    #[error("{arm}: no contacts, so there is no rate")]
    NoContacts { arm: String },
    #[error("{arm}: {events} {what} of {contacts} contacts; there cannot be more than contacts")]
    MoreThanContacts { arm: String, what: &'static str, events: u64, contacts: u64 },
    #[error("{arm}: {contacts} contacts; at most {} can be counted", limits::WINNER_CONTACTS_MAX)]
    TooManyContacts { arm: String, contacts: u64 },
    #[error("{count} arms; a comparison needs 2 to {}", limits::WINNER_ARMS_MAX)]
    Arms { count: usize },
    #[error("arm {name:?} is named twice")]
    SameName { name: String },
    #[error("an arm has no name, or one longer than {} bytes", limits::NAME_BYTES_MAX)]
    Name,
    #[error("expected share {share} of {arm} is not a number above 0 (at most 1e16)")]
    Share { arm: String, share: f64 },
    #[error("{expected} expected shares for {arms} arms")]
    Shares { expected: usize, arms: usize },
    #[error("alpha {alpha} is not from {} to 0.5", limits::WINNER_ALPHA_MIN)]
    Alpha { alpha: f64 },
    #[error("{looks} looks; 1 to {} can be planned", limits::WINNER_LOOKS_MAX)]
    Looks { looks: u64 },
    #[error("look {look} is not one of the {looks} planned looks (1 to {looks})")]
    Look { look: u32, looks: u32 },
    #[error(
        "fraction {fraction} of look {look}: fractions rise by at least {} each and end with 1",
        limits::WINNER_LOOK_GAP_MIN
    )]
    Fraction { look: usize, fraction: f64 },
    #[error("a sequence cannot be tuned for {tuned_for} contacts")]
    TunedFor { tuned_for: f64 },
    #[error(
        "rate {rate} is not between 0 and 1; a lift is absolute (0.02: two points), and base + lift is a rate, too"
    )]
    Rate { rate: f64 },
    #[error("a lift of 0 can never be found")]
    NoLift,
    #[error("power {power} is not from 0.5 to 0.999")]
    Power { power: f64 },
    #[error("more than {} contacts an arm: the lift is too small to be found", limits::WINNER_CONTACTS_MAX)]
    TooSmallLift,
}
