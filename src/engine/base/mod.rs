//! The contact base as people change it: contacts and their consent, lists, saved segments, suppressions.
//!
//! Two places hold it: the store (records, indices, history) and the journal (everything that decides a send: consent,
//! suppression, lists, who was erased). Invariants: BA-1 what forbids a send is durable in the journal before the call
//! returns, and before the store forgets what it was about; BA-2 whatever a crash leaves between the two is repaired at
//! start, or is a change that nobody was told about and that can be asked for again; BA-3 names are unique, and nothing that a
//! draft, a live run or a saved segment refers to is deleted.
//!
//! Must not know: HTTP, the wire's types.

mod contacts;
mod lists;
mod names;
mod segments;
mod suppressions;

use crate::actors::book::CommitError;
use crate::contacts::{ContactsError, InputError, ValueError};
use crate::engine::imports::{ImportsError, is_full};
use crate::segments::{EvaluateError, SegmentError};

pub use contacts::{ConsentWish, Consented};
pub use lists::ListDelta;
pub use suppressions::{Subject, SuppressionEntry, SuppressionId, SuppressionWish, entry_id};

/// Why something in the base can't be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Contacts(ContactsError),
    #[error(transparent)]
    Imports(#[from] ImportsError),
    #[error("the disk of the data directory is full: nothing was changed")]
    FullDisk,
    /// A field of a contact was refused.
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("no contact has the key {key:?}")]
    NoContact { key: String },
    #[error("{what} name {name:?} {reason}")]
    BadName { what: &'static str, name: String, reason: &'static str },
    #[error("there is no list {name:?}")]
    NoList { name: String },
    #[error("a list {name:?} exists already: add to it, or take another name")]
    ListExists { name: String },
    #[error("list {name:?} is used by {}: change or archive that first", .by.join(", "))]
    ListInUse { name: String, by: Vec<String> },
    #[error("no contact has the keys {}", shown(.keys))]
    UnknownKeys { keys: Vec<String> },
    #[error("there is no segment {name:?}")]
    NoSegment { name: String },
    #[error("a segment {name:?} exists already: change it, or take another name")]
    SegmentExists { name: String },
    #[error("segment {name:?} is used by {}: change or archive that first", .by.join(", "))]
    SegmentInUse { name: String, by: Vec<String> },
    #[error("the expression has {} faults", .faults.len())]
    Segment { text: String, faults: Vec<SegmentError> },
    #[error("there is no suppression {id}")]
    NoSuppression { id: u64 },
    #[error("two addresses have the number {id}: remove the one you mean with its address")]
    AmbiguousSuppression { id: u64 },
    #[error("entry {index}: {reason}")]
    BadSuppression { index: usize, reason: SuppressionFault },
}

/// What is wrong with one entry of suppressions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuppressionFault {
    #[error("name exactly one of contact, address and address_hash")]
    Subject,
    #[error("an address needs the channel that it belongs to")]
    NoChannel,
    #[error("the address {0}")]
    Address(ValueError),
    #[error("address_hash must be the 32 hexadecimal digits of an export of this data directory")]
    Hash,
    #[error("no contact has the key {key:?}; to suppress somebody who is no contact, name the address")]
    NoContact { key: String },
}

impl From<ContactsError> for BaseError {
    fn from(error: ContactsError) -> BaseError {
        match error {
            ContactsError::Store { source, .. } if is_full(&source) => BaseError::FullDisk,
            ContactsError::Input(input) => BaseError::Input(input),
            other => BaseError::Contacts(other),
        }
    }
}

impl BaseError {
    fn evaluating(text: &str) -> impl FnOnce(EvaluateError) -> BaseError {
        let text = text.to_owned();
        move |error| match error {
            EvaluateError::Segment(fault) => BaseError::Segment { text, faults: vec![fault] },
            EvaluateError::Contacts(error) => error.into(),
        }
    }
}

const KEYS_SHOWN: usize = 10;

fn shown(keys: &[String]) -> String {
    let first: Vec<String> = keys.iter().take(KEYS_SHOWN).map(|k| format!("{k:?}")).collect();
    let rest = keys.len().saturating_sub(KEYS_SHOWN);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    first.join(", ") + &more
}
