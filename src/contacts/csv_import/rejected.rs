//! The file of rejected rows: `line,column,reason,record`, to be downloaded, corrected and imported again.
//!
//! Owns the file's handle and length. Invariant: RJ-1 a length that [`RejectedFile::append`] answered is on the disk.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::contacts::csv_import::{ImportError, RejectedRow};
use crate::limits;

/// First line of the file, and all of it if no row was rejected.
pub const REJECTED_HEADER: &str = "line,column,reason,record\r\n";

pub(crate) struct RejectedFile {
    file: File,
    path: PathBuf,
    length: u64,
}

impl RejectedFile {
    /// Opens the file and cuts it to `length`, the recorded one; 0 for a new file.
    pub(crate) fn open(path: &Path, length: u64) -> Result<RejectedFile, ImportError> {
        let fail = |what| move |source| ImportError::File { path: path.to_owned(), what, source };
        // It quotes people's data: for the owner alone.
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = options.map_err(fail("opened"))?;
        file.set_len(length).map_err(fail("cut"))?;
        let mut rejected = RejectedFile { file, path: path.to_owned(), length };
        rejected.file.seek(SeekFrom::Start(length)).map_err(fail("positioned"))?;
        if length == 0 {
            rejected.append(REJECTED_HEADER.as_bytes())?;
        }
        Ok(rejected)
    }

    /// Appends rows, makes them durable and answers the new length.
    pub(crate) fn append(&mut self, rows: &[u8]) -> Result<u64, ImportError> {
        if !rows.is_empty() {
            let written = self.file.write_all(rows).and_then(|()| self.file.sync_data());
            written.map_err(|source| ImportError::File { path: self.path.clone(), what: "written", source })?;
            self.length += rows.len() as u64;
        }
        Ok(self.length)
    }
}

/// Collects the rows of one chunk.
pub(crate) struct RejectedRows {
    writer: csv::Writer<Vec<u8>>,
}

impl RejectedRows {
    pub(crate) fn new() -> RejectedRows {
        let writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        RejectedRows { writer }
    }

    pub(crate) fn push(&mut self, row: &RejectedRow, record: &[u8]) -> Result<(), ImportError> {
        let record = &record[..record.len().min(limits::REJECTED_RECORD_BYTES_MAX)];
        let record = String::from_utf8_lossy(record).replace('\0', "\u{fffd}");
        let column = row.column.as_deref().unwrap_or("");
        let fields = [row.line.to_string(), guarded(column), guarded(&row.reason), guarded(&record)];
        self.writer.write_record(&fields).map_err(|e| ImportError::Read(e.into()))
    }

    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, ImportError> {
        self.writer.into_inner().map_err(|e| ImportError::Read(e.into_error()))
    }
}

/// Rejected rows by column and reason; beyond `limits::IMPORT_REASONS_MAX` reasons they count together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reasons(pub BTreeMap<String, u64>);

/// What the reasons beyond the bound count as.
const OTHER: &str = "other";

impl Reasons {
    pub(crate) fn count(&mut self, row: &RejectedRow) {
        let reason = match row.column.as_deref().filter(|column| !column.is_empty()) {
            Some(column) => format!("{column} {}", row.reason),
            None => row.reason.clone(),
        };
        self.add(reason, 1);
    }

    pub(crate) fn merge(&mut self, other: Reasons) {
        for (reason, rows) in other.0 {
            self.add(reason, rows);
        }
    }

    fn add(&mut self, reason: String, rows: u64) {
        let known = self.0.len() < limits::IMPORT_REASONS_MAX || self.0.contains_key(&reason);
        *self.0.entry(if known { reason } else { OTHER.to_owned() }).or_default() += rows;
    }
}

/// A cell that no spreadsheet takes for a formula.
fn guarded(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}
