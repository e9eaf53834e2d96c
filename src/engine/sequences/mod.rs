//! Sequences: published, edited while they run, extended, entered by requests, stopped step by step.
//!
//! - [`publish`]: a version comes into force, after a person has seen its starts; working copies.
//! - [`enter`]: requests that bring contacts, the cohort, attributes that are set, and how long the start takes.
//! - [`release`]: a person starts or skips a step whose hour has passed by too much.
//! - [`look`]: what a sequence looks like at this moment: steps, locks, starts.
//!
//! A sequence has its run from its first publication on: contacts come in at the start of its first step, so that a change
//! before it, during it and after its end is one and the same thing. Every change is a fact first.
//!
//! Invariants: EQ-1 whatever decides about a change is decided under the book's lock, with the fact that makes it; EQ-2 what
//! is derived (who is sent what) is derived from the version in force.

pub mod enter;
pub mod look;
pub mod publish;
pub mod release;

use crate::actors::sequencing::{NoEntry, NotHeld};
use crate::campaigns::sequence::{Planned, Refusal};
use crate::campaigns::{Problem, editing};
use crate::clock::Timestamp;

/// What a publication puts into force, shown before and after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub at: Timestamp,
    pub version: u32,
    pub steps: Vec<Planned>,
    /// Worth knowing, and no obstacle.
    pub warnings: Vec<Problem>,
    /// Of a campaign that is no sequence: the messages and nodes that it changes.
    pub changed: Vec<String>,
}

/// Why something cannot be done with a sequence; each says what can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    #[error(
        "the campaign is no sequence (kind = \"sequence\"): it is started, and edited live or extended once it has a run; \
         a draft is changed with campaign edit NAME FILE (PATCH); enter and test-start are for sequences"
    )]
    NotASequence,
    #[error("a sequence is not started, it is published: use publish")]
    UsePublish,
    #[error("the sequence is a draft: change it with campaign edit NAME FILE (PATCH), then publish it")]
    StillDraft,
    #[error("nothing is published before it is confirmed: look at the starts, and publish with confirm = true (--yes)")]
    Unconfirmed(Box<Published>),
    #[error("{} problems stand in the way of the publication", .0.len())]
    Problems(Vec<Problem>),
    #[error("there is nothing to publish: open a working copy with edit first")]
    NoCopy,
    #[error("the campaign is under way, and is not extended: use edit, which can add steps, nodes or a follow-up, too")]
    UseEdit,
    #[error(
        "the campaign is finished: use extend, which adds steps behind its last ones, a follow-up, or nodes behind its ends"
    )]
    UseExtend,
    #[error("step {step:?} has started, by the version that was published: the working copy is closed; open a new one")]
    CopyClosed { step: String },
    #[error("the version changes what is locked: {}", join(.0))]
    Locked(Vec<Refusal>),
    #[error("the version changes what is locked: {}", .0.iter().map(|r| r.message.as_str()).collect::<Vec<_>>().join("; "))]
    Fixed(Vec<editing::Refusal>),
    #[error(
        "nothing of the campaign is under way: change it with campaign edit NAME FILE (PATCH) before its next launch"
    )]
    ChangePlan,
    #[error(
        "launches of the campaign are still to come, and its changes are for them (campaign edit NAME FILE, campaign \
         schedule; PATCH); to edit the run that is under way, take them back first (unschedule), or wait for the last one"
    )]
    LaunchesAhead,
    #[error("the working copy is what is in force: change it first")]
    NothingChanged,
    #[error("nobody who has ended would go on: lead an end that contacts came to on to a new node")]
    NotExtended,
    #[error(
        "{why}, and is not extended: send to a set of its run with a resend (campaign resend), which is linked to it"
    )]
    NotExtendable { why: &'static str },
    #[error("step {step:?} is not held back: {why}")]
    NotHeld { step: String, why: NotHeld },
    #[error("there is no step {step:?}; the steps that are published are: {}", .known.join(", "))]
    NoStep { step: String, known: Vec<String> },
    #[error(
        "the file leaves out {}, which ran before: give all steps, those as they were, or only the new ones",
        .missing.join(", ")
    )]
    LeftOut { missing: Vec<String> },
    #[error(transparent)]
    NoEntry(#[from] NoEntry),
    #[error("{given} contacts in one request, and {max} is the most")]
    TooManyContacts { given: usize, max: usize },
    #[error("a request of the name {request:?} brought other contacts: use a new name")]
    OtherContacts { request: String },
    #[error("the name of a request has {max} bytes at most")]
    LongName { max: usize },
    #[error("a request names 1 contact at least")]
    NoContacts,
}

fn join(refusals: &[Refusal]) -> String {
    refusals.iter().map(|refusal| refusal.message.as_str()).collect::<Vec<_>>().join("; ")
}
