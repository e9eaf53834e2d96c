//! Contacts: the record of a person, the store that keeps it, the indices over its attributes, and CSV import.
//!
//! In reading order: [`record`] and [`schema`] (what a contact is), [`addresses`], `phones` and [`input`] (what is let in),
//! `container`, `index_keys`, `index_batch` (how sets of rows lie on disk), [`store`], [`writer`], [`reader`], `cache`,
//! [`backup`] (copies), [`consent`] (the history; the live sets are folded elsewhere), [`consent_sets`] (that of imports), [`export`], and
//! [`csv_import`], and [`one_shot`] (uploads that never become contacts).

pub mod addresses;
pub mod backup;
mod cache;
pub mod consent;
pub mod consent_sets;
mod container;
pub mod csv_import;
pub mod export;
mod index_batch;
mod index_keys;
pub mod input;
pub mod one_shot;
mod phones;
pub mod reader;
pub mod record;
pub mod schema;
pub mod sets;
pub mod store;
pub mod values;
pub mod verify;
pub mod writer;

use std::path::PathBuf;

pub use addresses::{ValueError, address_hash};
pub use consent::{ConsentEntry, ConsentStatus};
pub use consent_sets::GivenConsent;
pub use input::{ContactInput, InputError};
pub use reader::Reader;
pub use record::{Record, RecordBuilder, TextList, Value};
pub use schema::{Attribute, AttributeType, IndexKind, Schema};
pub use sets::AttributeSets;
pub use store::Store;
pub use writer::{Upserted, Writer};

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
    #[error("contact store: the {what} is damaged")]
    Damaged { what: &'static str },
    #[error("contact store: the directory {path} cannot be made", path = .path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("contact store: format {found} on disk, this program knows {known}")]
    Format { found: u32, known: u32 },
    #[error("contact store: the system gives no random bytes for a salt")]
    NoRandomness,
    #[error("contact store: all {max} rows are taken", max = u32::MAX)]
    RowsExhausted,
    #[error("there is no contact in row {row}")]
    NoSuchRow { row: u32 },
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    #[error(transparent)]
    Input(#[from] InputError),
}

impl From<container::BadContainer> for ContactsError {
    fn from(_: container::BadContainer) -> ContactsError {
        ContactsError::Damaged { what: "index" }
    }
}

/// Names what the store was doing when LMDB failed.
pub(crate) trait StoreResult<T> {
    fn or_store(self, what: &'static str) -> Result<T, ContactsError>;
}

impl<T> StoreResult<T> for Result<T, heed::Error> {
    fn or_store(self, what: &'static str) -> Result<T, ContactsError> {
        self.map_err(|source| ContactsError::Store { what, source })
    }
}
