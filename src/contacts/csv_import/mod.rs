//! CSV import: a spooled file becomes contacts, chunk by chunk, and goes on after a crash where it stopped.
//!
//! In reading order: `detect` (encoding, delimiter), `decode` (bytes → text), `records` (text → records), [`plan`] (which
//! column goes where), `rows` (a record → a contact's record, or a reason why not), `rejected` (the file of those), `commit`
//! (a chunk → the store), [`job`] (all together) and [`status`] (what is kept of an import).
//!
//! Invariants: IM-1 rows read = accepted + merged + rejected, at every chunk; IM-2 a chunk's contacts, its index entries
//! and the progress that passes it are one transaction; IM-3 the file of rejected rows is durable up to the recorded length
//! before the progress says so, and is cut to it on resume; IM-4 memory does not grow with the file; IM-5 consent is the
//! caller's: an import gives it the rows of each chunk, and keeps what it says of them for their histories.
//!
//! Must not know: HTTP, consent, lists, campaigns.

mod commit;
pub(super) mod decode;
pub(super) mod detect;
pub mod job;
pub mod plan;
pub(super) mod records;
pub(super) mod rejected;
pub(super) mod rows;
pub mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use detect::{Encoding, TextFormat};
pub use job::{ChunkDone, ImportJob};
pub use plan::{Column, Plan};
pub use records::Fault;
pub use rejected::{REJECTED_HEADER, Reasons};
pub use rows::RowError;
pub use status::{ImportStatus, Progress};

use crate::clock::Timestamp;
use crate::contacts::ContactsError;
use crate::contacts::schema::{AttributeType, IndexKind, Schema};
use crate::ids::ImportId;

/// Which of several rows with one key decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// Later rows are laid over earlier ones.
    #[default]
    Newest,
    /// The first row counts, later ones are passed over.
    Oldest,
}

/// What an empty cell does to a contact that has a value there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyCells {
    #[default]
    Keep,
    Clear,
}

/// What happens with a column that no attribute is known for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewColumns {
    /// An attribute is added, its type told from the first rows.
    #[default]
    Add,
    Ignore,
    Refuse,
}

/// The type and index of an attribute that the import may add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAttribute {
    #[serde(rename = "type")]
    pub kind: AttributeType,
    /// `None`: the index that serves the type.
    #[serde(default)]
    pub index: Option<IndexKind>,
}

/// How a file is to be imported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportSpec {
    pub import: ImportId,
    /// Header of the column whose cells are the contacts' keys.
    pub key_column: String,
    /// `None`: detected among `,` `;` tab.
    pub delimiter: Option<char>,
    /// `None`: detected.
    pub encoding: Option<Encoding>,
    /// Column → attribute, where the names differ; `-` ignores the column.
    pub mapping: BTreeMap<String, String>,
    /// Attribute → type and index, for attributes that the schema lacks.
    pub types: BTreeMap<String, NewAttribute>,
    pub duplicates: Duplicates,
    pub empty_cells: EmptyCells,
    pub new_columns: NewColumns,
    /// ISO 3166 code for phone numbers without country code; `None`: such rows are rejected.
    pub default_country: Option<String>,
    /// Parts the entries of a list.
    pub list_separator: char,
    /// A column whose truth value says that the contact is unsubscribed; see [`ChunkDone::unsubscribed`].
    pub unsubscribed_column: Option<String>,
    /// The time that new and changed contacts get.
    pub now: Timestamp,
}

impl Default for ImportSpec {
    fn default() -> ImportSpec {
        ImportSpec {
            import: ImportId(0),
            key_column: "key".to_owned(),
            delimiter: None,
            encoding: None,
            mapping: BTreeMap::new(),
            types: BTreeMap::new(),
            duplicates: Duplicates::default(),
            empty_cells: EmptyCells::default(),
            new_columns: NewColumns::default(),
            default_country: None,
            list_separator: '|',
            unsubscribed_column: None,
            now: Timestamp(0),
        }
    }
}

/// Why an import cannot start or go on. Rows that cannot be taken are no error: see [`RowError`].
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the file {path} cannot be {what}", path = .path.display())]
    File {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the file {path} had {expected} bytes when its import began and has not now: import it anew", path = .path.display())]
    FileChanged { path: PathBuf, expected: u64 },
    #[error("the file cannot be read")]
    Read(#[source] std::io::Error),
    #[error("the file is empty: a first line with the names of the columns is needed")]
    Empty,
    #[error("the file has a header and no rows")]
    HeaderOnly,
    #[error("the header cannot be read: {fault}")]
    BadHeader { fault: Fault },
    #[error("the header is not valid {encoding}: name the file's encoding", encoding = .encoding.name())]
    HeaderEncoding { encoding: Encoding },
    #[error("the header holds NUL bytes: is this a CSV file?")]
    HeaderNul,
    #[error("there is no column {wanted:?} to take the key from; the columns are {present:?}")]
    MissingKeyColumn { wanted: String, present: Vec<String> },
    #[error("there is no column {column:?}; the columns are {present:?}")]
    MissingColumn { column: String, present: Vec<String> },
    #[error("the header names {column:?} twice")]
    DuplicateColumn { column: String },
    #[error(
        "columns {first:?} and {second:?} both go to attribute {attribute:?}: map one of them elsewhere or to \"-\""
    )]
    SameTarget { first: String, second: String, attribute: String },
    #[error("column {column:?} goes to {attribute:?}, which the store keeps itself: map it elsewhere or to \"-\"")]
    ReadOnlyTarget { column: String, attribute: String },
    #[error("column {column:?} gives no valid attribute name: map it to one or to \"-\"")]
    BadColumnName { column: String },
    #[error("no attribute is known for column {column:?}: add one, map the column, or let the import add it")]
    NewColumn { column: String },
    #[error("{delimiter:?} cannot part columns: it must be one ASCII character, no quote and no line end")]
    BadDelimiter { delimiter: char },
    #[error("the default country {code:?} is no ISO 3166 country code such as \"FR\"")]
    UnknownCountry { code: String },
    #[error("import {import} exists already: resume it, or take another number", import = .import.0)]
    Exists { import: ImportId },
    #[error("there is no import {import}", import = .import.0)]
    NoSuchImport { import: ImportId },
    #[error("chunk {chunk} is not confirmed yet")]
    Unconfirmed { chunk: u32 },
    #[error("the type of {name:?} is given, but no column of the file goes to it; the columns are {present:?}")]
    UnusedType { name: String, present: Vec<String> },
    #[error(
        "column {column:?} is given the type {wanted}, but goes to what is a {kind} already: leave its type out, or map it to another attribute",
        wanted = .wanted.name(), kind = .kind.name()
    )]
    OtherType { column: String, wanted: AttributeType, kind: AttributeType },
    #[error("the import was asked to stop between two rows")]
    Stopped,
    #[error("the parser thread ended without a word")]
    ParserLost,
    #[error(transparent)]
    Store(#[from] ContactsError),
}

/// What a dry run found.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    pub plan: Plan,
    pub rows: u64,
    /// Rows that would be taken; duplicates of a key are not told apart.
    pub acceptable: u64,
    pub rejected: u64,
    pub rejected_by: Reasons,
    /// The first rejected rows.
    pub samples: Vec<RejectedRow>,
}

/// One rejected row, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedRow {
    pub line: u64,
    pub column: Option<String>,
    pub reason: String,
}

/// Reads a whole file as an import would, and writes nothing.
pub fn dry_run<F: std::io::Read + std::io::Seek>(
    schema: &Schema,
    spec: &ImportSpec,
    file: F,
) -> Result<DryRun, ImportError> {
    let mut file = file;
    let (plan, schema) = Plan::make(schema, spec, &mut file)?;
    let mut parser = rows::ChunkParser::new(file, &plan, spec, &schema, plan.start())?;
    let mut out = DryRun {
        plan: plan.clone(),
        rows: 0,
        acceptable: 0,
        rejected: 0,
        rejected_by: Reasons::default(),
        samples: Vec::new(),
    };
    loop {
        let chunk = parser.next_chunk(crate::limits::IMPORT_SAMPLES.saturating_sub(out.samples.len()))?;
        out.rows += chunk.read;
        out.rejected += chunk.rejected;
        out.rejected_by.merge(chunk.rejected_by);
        out.acceptable += chunk.read - chunk.rejected;
        out.samples.extend(chunk.samples);
        if chunk.ended {
            return Ok(out);
        }
    }
}

/// Entry point for fuzzing: any bytes as a file.
pub fn fuzz_csv(bytes: &[u8]) {
    let spec = ImportSpec { unsubscribed_column: None, ..ImportSpec::default() };
    match dry_run(&Schema::built_in(), &spec, std::io::Cursor::new(bytes)) {
        Ok(found) => assert_eq!(found.rows, found.acceptable + found.rejected, "every row is told"),
        Err(error) => assert!(!error.to_string().is_empty(), "every error says something"),
    }
}
