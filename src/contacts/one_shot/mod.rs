//! One-shot uploads: a CSV file becomes the rows of a row space of its own, in a store of its own. Nothing of it enters
//! the contact base.
//!
//! In reading order: [`columns`] (what each column is for), `rows` (a record of the file → a record, or a reason why
//! not), [`hashes`] (the salted addresses, which outlive the upload), and here all together.
//!
//! Invariants: OS-1 rows read = valid + invalid; OS-2 valid rows are numbered from 0 in the order of the file,
//! without gaps, and the key of a row is the line on which it begins; OS-3 what [`take_in`] has answered is on the disk; OS-4 nothing but
//! the given folder is written.
//!
//! Must not know: HTTP, campaigns, consent, the journal.

pub mod columns;
pub mod hashes;
mod rows;
pub mod sample;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use heed::PutFlags;
use serde::{Deserialize, Serialize};

use crate::contacts::csv_import::decode::TextReader;
use crate::contacts::csv_import::records::{Found, Records};
use crate::contacts::csv_import::rejected::{RejectedFile, RejectedRows};
use crate::contacts::csv_import::{ImportError, ImportSpec, Reasons, RejectedRow, RowError, plan};
use crate::contacts::record::Record;
use crate::contacts::schema::{AttributeType, IndexKind, Schema};
use crate::contacts::store::Store;
use crate::contacts::writer::Writer;
use crate::contacts::{ContactsError, StoreResult};
use crate::ids::{AddressHash, Channel, ContactRow, RowSpace};
use crate::limits;

use columns::ColumnPlan;
pub use columns::UploadColumn;
use hashes::{HashFile, HashWriter};
use rows::RowMaker;

/// Why a file is no audience. Rows that cannot be taken are no error: they are counted and kept for the sender.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(transparent)]
    File(#[from] ImportError),
    #[error("the columns are parted by tabs: use ',' or ';'")]
    Tabs,
    #[error(
        "no column holds an address: one must be named \"phone\", \"id\" or \"email\"; the first line is the header, and it has {present:?}"
    )]
    NoAddressColumn { present: Vec<String> },
    #[error(
        "columns {named:?} and \"id\" both hold the address for {channel}: leave one of them out, or give \"id\" another name"
    )]
    TwoAddressColumns { named: String, channel: Channel },
    #[error("columns {first:?} and {second:?} would both be the variable contact.{variable}: rename one")]
    SameVariable { first: String, second: String, variable: String },
    #[error("a webhook addresses contacts by their keys, and the rows of an upload have none: name another channel")]
    Webhook,
    #[error("the upload was given up: the engine is shutting down")]
    Stopped,
    #[error("the address hashes {path} can't be {what}", path = .path.display())]
    Hashes {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Store(#[from] ContactsError),
}

impl UploadError {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            UploadError::File(ImportError::Empty) => "empty",
            UploadError::File(ImportError::HeaderOnly) => "no_rows",
            UploadError::File(ImportError::BadHeader { .. } | ImportError::HeaderNul) => "bad_header",
            UploadError::File(ImportError::HeaderEncoding { .. }) => "bad_encoding",
            UploadError::File(_) => "unreadable",
            UploadError::Tabs => "bad_delimiter",
            UploadError::NoAddressColumn { .. } => "no_address_column",
            UploadError::TwoAddressColumns { .. } => "two_address_columns",
            UploadError::SameVariable { .. } => "same_variable",
            UploadError::Webhook => "bad_channel",
            UploadError::Stopped | UploadError::Hashes { .. } | UploadError::Store(_) => "failed",
        }
    }

    /// Whether the file is at fault, and not this machine.
    pub fn is_of_the_file(&self) -> bool {
        let of_the_machine =
            matches!(self, UploadError::File(ImportError::File { .. } | ImportError::Read(_) | ImportError::Store(_)));
        !of_the_machine && self.reason() != "failed"
    }
}

/// Addresses of one channel in an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Rows that have one.
    pub rows: u64,
    /// Different ones.
    pub distinct: u64,
}

/// What is in an upload, as it was read; it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadSummary {
    pub bytes: u64,
    pub encoding: String,
    pub delimiter: char,
    /// Rows of the file, without its header and blank lines.
    pub total: u64,
    pub valid: u64,
    pub invalid: u64,
    pub invalid_by: Reasons,
    /// Values that were left out of rows that are valid without them: an address of another channel, a language, a zone.
    pub left_out: Reasons,
    pub addresses: BTreeMap<Channel, Addresses>,
    pub columns: Vec<UploadColumn>,
}

impl UploadSummary {
    /// Rows whose address on a channel an earlier row has too.
    pub fn duplicates(&self, channel: Channel) -> u64 {
        self.addresses.get(&channel).map_or(0, |found| found.rows - found.distinct)
    }

    /// The attributes that templates and expressions know for these rows. It outlives the upload, so that links in mails
    /// of a removed one still lead where they should.
    pub fn schema(&self) -> Schema {
        columns::schema(&self.columns)
    }
}

/// What to read, and where the rows go.
pub struct Upload<'u> {
    /// The spooled file.
    pub file: &'u Path,
    pub channel: Channel,
    pub space: RowSpace,
    /// The salt of the contact base: hashes of the two must compare.
    pub salt: [u8; 32],
    /// A new folder; the rows and the file of invalid rows.
    pub folder: &'u Path,
    /// A folder of the hash files of all uploads.
    pub hashes: &'u Path,
    /// Set from outside: the upload is given up.
    pub stop: &'u AtomicBool,
}

/// Name of the file of invalid rows in the folder of an upload.
pub const INVALID_FILE: &str = "invalid.csv";

/// Reads a whole file into a new store. What it has written when it fails is the caller's to remove.
pub fn take_in(upload: &Upload<'_>) -> Result<(Store, UploadSummary), UploadError> {
    let unreadable = |source| ImportError::File { path: upload.file.to_owned(), what: "opened", source };
    let mut file = File::open(upload.file).map_err(unreadable)?;
    let bytes = file.metadata().map_err(ImportError::Read)?.len();
    let spec = ImportSpec::default();
    let format = plan::detect_format(&spec, &mut file)?;
    let delimiter = plan::delimiter(&spec, format, &mut file)?;
    let text = TextReader::open(file, format, 0).map_err(ImportError::Read)?;
    let mut records = Records::new(text, delimiter, 0, 1);
    let header = plan::header(&mut records, format)?;
    if delimiter == b'\t' {
        return Err(UploadError::Tabs);
    }
    let plan = ColumnPlan::make(&header, upload.channel)?;
    let store = Store::open_space(upload.folder, upload.space, Some(upload.salt))?;
    store.write(|writer| {
        for column in plan.own_variables() {
            writer.add_attribute(column, AttributeType::Text, Some(IndexKind::None))?;
        }
        Ok(())
    })?;
    let mut intake = Intake {
        hashes: HashWriter::create(upload.hashes, upload.space, plan.channels())?,
        invalid: RejectedFile::open(&upload.folder.join(INVALID_FILE), 0)?,
        maker: RowMaker::new(plan, format.encoding),
        names: header,
        total: 0,
        invalid_by: Reasons::default(),
        rejected: 0,
    };
    while intake.chunk(&store, &mut records, upload.stop)? {}
    if intake.total == 0 {
        return Err(ImportError::HeaderOnly.into());
    }
    intake.hashes.finish()?;
    let (columns, left_out) = intake.maker.into_parts();
    let mut summary = UploadSummary {
        bytes,
        encoding: format.encoding.name().to_owned(),
        delimiter: char::from(delimiter),
        total: intake.total,
        valid: intake.total - intake.rejected,
        invalid: intake.rejected,
        invalid_by: intake.invalid_by,
        left_out,
        addresses: BTreeMap::new(),
        columns: columns.columns,
    };
    for channel in columns.channels {
        summary.addresses.insert(channel, count(&store, upload.hashes, channel)?);
    }
    Ok((store, summary))
}

/// The chunk at hand and what was counted so far.
struct Intake {
    maker: RowMaker,
    hashes: HashWriter,
    invalid: RejectedFile,
    names: Vec<String>,
    total: u64,
    rejected: u64,
    invalid_by: Reasons,
}

impl Intake {
    /// One transaction; `false` at the end of the file.
    fn chunk<R: std::io::Read>(
        &mut self,
        store: &Store,
        records: &mut Records<R>,
        stop: &AtomicBool,
    ) -> Result<bool, UploadError> {
        let mut writer = store.writer()?;
        let mut rejected = RejectedRows::new();
        let mut record = Vec::new();
        for read in 0..limits::IMPORT_CHUNK_ROWS as u64 {
            if read.is_multiple_of(limits::IMPORT_STOP_ROWS) && stop.load(Ordering::Acquire) {
                return Err(UploadError::Stopped);
            }
            let made = match records.next().map_err(ImportError::Read)? {
                Found::End => {
                    writer.commit()?;
                    self.invalid.append(&rejected.into_bytes()?)?;
                    return Ok(false);
                }
                Found::Fault(fault) => Err(RowError::Fault(fault)),
                Found::Record => {
                    record.clear();
                    self.maker.make(records, &mut record)
                }
            };
            self.total += 1;
            match made {
                Ok(()) => {
                    writer.append_upload_row(&record)?;
                    self.hashes.push(store, &record)?;
                }
                Err(error) => {
                    let column = match &error {
                        RowError::Value { column, .. } => self.names.get(*column).cloned(),
                        _ => None,
                    };
                    let row = RejectedRow { line: records.record_line(), column, reason: error.to_string() };
                    rejected.push(&row, records.raw())?;
                    self.invalid_by.count(&row);
                    self.rejected += 1;
                }
            }
        }
        writer.commit()?;
        self.invalid.append(&rejected.into_bytes()?)?;
        Ok(true)
    }
}

impl Writer<'_> {
    /// Appends the record of a new row.
    fn append_upload_row(&mut self, bytes: &[u8]) -> Result<ContactRow, ContactsError> {
        let row = self.take_row()?;
        let record = Record::parse(bytes).map_err(|_| ContactsError::DamagedRecord { row: row.0 })?;
        self.batch.change(row.0, None, Some(record));
        let dbs = self.store.inner.dbs;
        let (place, key) = (row.0.to_be_bytes(), row.0.to_le_bytes());
        dbs.records.put_with_flags(&mut self.txn, PutFlags::APPEND, &place, bytes).or_store("append a record")?;
        dbs.keys.put(&mut self.txn, record.key().as_bytes(), &key).or_store("write a key")?;
        Ok(row)
    }
}

/// Holds some 20 bytes per row whose address another row has too.
fn count(store: &Store, hashes: &Path, channel: Channel) -> Result<Addresses, UploadError> {
    let reader = store.reader()?;
    let hashes = HashFile::open(hashes, store.space(), channel)?;
    let (mut rows, mut seen, mut twice) = (0, HashSet::<AddressHash>::new(), 0);
    let shared = reader.shared(channel)?;
    hashes.each(&mut |row, hash| {
        rows += 1;
        if shared.contains(row) && !seen.insert(hash) {
            twice += 1;
        }
    })?;
    Ok(Addresses { rows, distinct: rows - twice })
}

#[cfg(test)]
mod tests;
