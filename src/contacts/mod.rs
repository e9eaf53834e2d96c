//! Contacts: the record of a person, the store that keeps it, the indices over its attributes, and CSV import.

pub mod record;
pub mod schema;
pub mod sets;

pub use record::{Record, RecordBuilder, TextList, Value};
pub use schema::{Attribute, AttributeType, IndexKind, Schema};
pub use sets::AttributeSets;

/// What can go wrong in the contact store.
#[derive(Debug, thiserror::Error)]
pub enum ContactsError {
    #[error("contact store: {what}")]
    Store {
        what: &'static str,
        #[source]
        source: heed::Error,
    },
    #[error("contact store: record of row {row} is damaged")]
    DamagedRecord { row: u32 },
}
