//! A CSV record → the bytes of a contact's record, or a typed reason why the row is rejected.
//!
//! Owns the reader of the file and the buffers of the chunk at hand. Invariants: RO-1 a chunk depends on nothing but the
//! file, the plan and the place where it begins, so that a chunk that is read again is the same; RO-2 a record that comes
//! out is as the store wants it, with `created`, `updated` and `active` as a new contact has them.

use std::borrow::Cow;
use std::io::{Read, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phonenumber::country::Id as Country;

use crate::contacts::addresses::{self, ValueError};
use crate::contacts::csv_import::decode::TextReader;
use crate::contacts::csv_import::detect::Encoding;
use crate::contacts::csv_import::plan::Plan;
use crate::contacts::csv_import::records::{Fault, Found, Records};
use crate::contacts::csv_import::rejected::{Reasons, RejectedRows};
use crate::contacts::csv_import::{ImportError, ImportSpec, RejectedRow};
use crate::contacts::index_batch::IndexBatch;
use crate::contacts::record::{Record, RecordBuilder, Value};
use crate::contacts::schema::{AttributeType, Schema};
use crate::contacts::values;
use crate::ids::AttributeId;
use crate::limits;

/// Why a row is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the row has {found} columns where the header has {expected}")]
    Ragged { found: usize, expected: usize },
    #[error("the row holds a NUL byte")]
    Nul,
    #[error("{reason}")]
    Value { column: usize, reason: ValueError },
}

/// What one column does to the record; in the order of the attributes, so that the record is built without sorting.
#[derive(Clone, Copy)]
enum Step {
    Key(KeyForm),
    Email,
    EmailDomain,
    Phone(AttributeId),
    Language,
    Zone,
    Typed(AttributeId, AttributeType),
    Created,
    Updated,
    Active,
    Unsubscribed,
}

/// The key is the normalised value where the column is an address.
#[derive(Clone, Copy)]
enum KeyForm {
    Plain,
    Email,
    Phone,
}

/// The rows of one chunk, ready for the store.
pub(crate) struct Chunk {
    /// Record bytes, one after the other.
    pub(crate) records: Vec<u8>,
    /// Where each record ends.
    pub(crate) ends: Vec<u32>,
    /// Ordinals in the order of their keys, those of one key in the order of the file.
    pub(crate) by_key: Vec<u32>,
    /// What the records bring to the index if they are new contacts, with ordinals for rows.
    pub(crate) index: Option<IndexBatch>,
    /// Ordinals of records whose row says "unsubscribed".
    pub(crate) unsubscribed: Vec<u32>,
    /// Rows read, rejected ones included.
    pub(crate) read: u64,
    pub(crate) rejected: u64,
    /// Rejected rows by column and reason.
    pub(crate) rejected_by: Reasons,
    /// Lines of the file of rejected rows.
    pub(crate) rejected_rows: Vec<u8>,
    pub(crate) samples: Vec<RejectedRow>,
    /// Decoded position and line at which the next chunk begins.
    pub(crate) place: (u64, u64),
    /// There is no next chunk.
    pub(crate) ended: bool,
}

impl Chunk {
    pub(crate) fn record(&self, ordinal: u32) -> &[u8] {
        let at = ordinal as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.records[start..self.ends[at] as usize]
    }

    pub(crate) fn key(&self, ordinal: u32) -> &str {
        Record::parse(self.record(ordinal)).map_or("", |r| r.key())
    }

    fn new(index: Option<IndexBatch>, size_hint: usize) -> Chunk {
        Chunk {
            records: Vec::with_capacity(size_hint),
            ends: Vec::with_capacity(limits::IMPORT_CHUNK_ROWS),
            by_key: Vec::new(),
            index,
            unsubscribed: Vec::new(),
            read: 0,
            rejected: 0,
            rejected_by: Reasons::default(),
            rejected_rows: Vec::new(),
            samples: Vec::new(),
            place: (0, 0),
            ended: false,
        }
    }

    /// Sorts the rows by key and collects what they bring to the index; so that the writer has less to do.
    fn prepare(&mut self) {
        let mut index = self.index.take();
        let mut by_key = Vec::with_capacity(self.ends.len());
        // The beginning of a key, as a number, decides most comparisons.
        let mut keyed: Vec<(u64, &str, u32)> = Vec::with_capacity(self.ends.len());
        for ordinal in 0..u32::try_from(self.ends.len()).unwrap_or(u32::MAX) {
            let Ok(record) = Record::parse(self.record(ordinal)) else {
                continue;
            };
            let key = record.key();
            let mut head = [0; 8];
            let length = key.len().min(8);
            head[..length].copy_from_slice(&key.as_bytes()[..length]);
            keyed.push((u64::from_be_bytes(head), key, ordinal));
            if let Some(index) = &mut index {
                index.change(ordinal, None, Some(record));
            }
        }
        keyed.sort_unstable();
        by_key.extend(keyed.into_iter().map(|k| k.2));
        if let Some(index) = &mut index {
            index.prepare();
        }
        (self.index, self.by_key) = (index, by_key);
    }
}

pub(crate) struct ChunkParser<F> {
    records: Records<TextReader<F>>,
    steps: Vec<(usize, Step)>,
    names: Vec<String>,
    encoding: Encoding,
    country: Option<Country>,
    list_separator: char,
    now: crate::clock::Timestamp,
    builder: RecordBuilder,
    size_hint: usize,
    schema: Schema,
    /// The store's salt; `None`: nothing is prepared for a store.
    salt: Option<[u8; 32]>,
    /// Set from outside: the chunk at hand is given up.
    stop: Arc<AtomicBool>,
}

impl<F: Read + Seek> ChunkParser<F> {
    /// Reads from `place` on, a decoded position and its line.
    pub(crate) fn new(
        file: F,
        plan: &Plan,
        spec: &ImportSpec,
        schema: &Schema,
        place: (u64, u64),
    ) -> Result<ChunkParser<F>, ImportError> {
        let country = match &spec.default_country {
            Some(code) => {
                Some(addresses::country(code).ok_or_else(|| ImportError::UnknownCountry { code: code.clone() })?)
            }
            None => None,
        };
        let text = TextReader::open(file, plan.format, place.0).map_err(ImportError::Read)?;
        let delimiter =
            u8::try_from(plan.delimiter).map_err(|_| ImportError::BadDelimiter { delimiter: plan.delimiter })?;
        Ok(ChunkParser {
            records: Records::new(text, delimiter, place.0, place.1),
            steps: steps(plan, schema),
            names: plan.columns.iter().map(|c| c.name.clone()).collect(),
            encoding: plan.format.encoding,
            country,
            list_separator: spec.list_separator,
            now: spec.now,
            builder: RecordBuilder::new(),
            size_hint: 0,
            schema: schema.clone(),
            salt: None,
            stop: Arc::default(),
        })
    }

    /// Chunks come sorted and indexed, for a store with this salt, until `stop` is set.
    pub(crate) fn for_store(mut self, salt: [u8; 32], stop: Arc<AtomicBool>) -> ChunkParser<F> {
        (self.salt, self.stop) = (Some(salt), stop);
        self
    }

    /// The next chunk; `samples` of its rejected rows are kept for people. Fails with `Stopped` soon after it shall stop.
    pub(crate) fn next_chunk(&mut self, samples: usize) -> Result<Chunk, ImportError> {
        let index = self.salt.map(|salt| IndexBatch::new(salt, &self.schema));
        let mut chunk = Chunk::new(index, self.size_hint);
        let mut rejected = RejectedRows::new();
        let begin = self.records.place().0;
        while chunk.read < limits::IMPORT_CHUNK_ROWS as u64
            && self.records.place().0 - begin < limits::IMPORT_CHUNK_BYTES as u64
        {
            if chunk.read.is_multiple_of(limits::IMPORT_STOP_ROWS) && self.stop.load(Ordering::Acquire) {
                return Err(ImportError::Stopped);
            }
            let row = match self.records.next().map_err(ImportError::Read)? {
                Found::End => {
                    chunk.ended = true;
                    break;
                }
                Found::Fault(fault) => Err(RowError::Fault(fault)),
                Found::Record => self.row(&mut chunk),
            };
            chunk.read += 1;
            if let Err(error) = row {
                chunk.rejected += 1;
                let column = match &error {
                    RowError::Value { column, .. } => self.names.get(*column).cloned(),
                    _ => None,
                };
                let row = RejectedRow { line: self.records.record_line(), column, reason: error.to_string() };
                rejected.push(&row, self.records.raw())?;
                chunk.rejected_by.count(&row);
                if chunk.samples.len() < samples {
                    chunk.samples.push(row);
                }
            }
        }
        chunk.place = self.records.place();
        chunk.rejected_rows = rejected.into_bytes()?;
        self.size_hint = chunk.records.len() + chunk.records.len() / 16;
        if self.salt.is_some() {
            chunk.prepare();
        }
        Ok(chunk)
    }

    /// Appends the record at hand to the chunk.
    fn row(&mut self, chunk: &mut Chunk) -> Result<(), RowError> {
        if self.records.len() != self.names.len() {
            return Err(RowError::Ragged { found: self.records.len(), expected: self.names.len() });
        }
        if memchr::memchr(0, self.records.raw()).is_some() {
            return Err(RowError::Nul);
        }
        let (columns, encoding) = (&self.records, self.encoding);
        let text = |column: usize| -> Result<&str, RowError> {
            let text = std::str::from_utf8(columns.field(column))
                .map_err(|_| RowError::Value { column, reason: ValueError::Encoding { encoding: encoding.name() } })?;
            // Most cells begin and end with a visible ASCII character.
            let visible = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_graphic());
            let trimmed = visible(text.as_bytes().first()) && visible(text.as_bytes().last());
            Ok(if trimmed { text } else { text.trim() })
        };
        let mut cells = Cells {
            now: self.now,
            country: self.country,
            list_separator: self.list_separator,
            ..Cells::new(&mut self.builder)
        };
        for (column, step) in &self.steps {
            cells.step(*step, || text(*column)).map_err(|error| match error {
                CellError::Text(error) => error,
                CellError::Value(reason) => RowError::Value { column: *column, reason },
            })?;
        }
        if cells.unsubscribed {
            chunk.unsubscribed.push(u32::try_from(chunk.ends.len()).unwrap_or(u32::MAX));
        }
        self.builder.write(&mut chunk.records);
        chunk.ends.push(u32::try_from(chunk.records.len()).unwrap_or(u32::MAX));
        Ok(())
    }
}

/// Why a cell is not taken: it cannot be read as text, or its value is refused.
enum CellError {
    Text(RowError),
    Value(ValueError),
}

impl From<ValueError> for CellError {
    fn from(error: ValueError) -> CellError {
        CellError::Value(error)
    }
}

impl From<RowError> for CellError {
    fn from(error: RowError) -> CellError {
        CellError::Text(error)
    }
}

/// The record that the cells of one row make.
struct Cells<'b, 'c> {
    builder: &'b mut RecordBuilder,
    email: Cow<'c, str>,
    unsubscribed: bool,
    now: crate::clock::Timestamp,
    country: Option<Country>,
    list_separator: char,
}

impl<'b, 'c> Cells<'b, 'c> {
    fn new(builder: &'b mut RecordBuilder) -> Cells<'b, 'c> {
        builder.clear();
        let now = crate::clock::Timestamp(0);
        Cells { builder, email: Cow::Borrowed(""), unsubscribed: false, now, country: None, list_separator: '|' }
    }

    fn step(&mut self, step: Step, text: impl FnOnce() -> Result<&'c str, RowError>) -> Result<(), CellError> {
        match step {
            Step::Created => self.builder.set(AttributeId::CREATED, Value::Time(self.now)),
            Step::Updated => self.builder.set(AttributeId::UPDATED, Value::Time(self.now)),
            Step::Active => self.builder.set(AttributeId::ACTIVE, Value::Bool(true)),
            Step::EmailDomain if self.email.is_empty() => {}
            Step::EmailDomain => {
                self.builder.set(AttributeId::EMAIL_DOMAIN, Value::Text(addresses::email_domain(&self.email)));
            }
            Step::Key(form) => {
                let cell = text()?;
                let key = match form {
                    KeyForm::Plain => Cow::Borrowed(cell),
                    _ if cell.is_empty() => return Err(ValueError::Empty.into()),
                    KeyForm::Email => addresses::normalise_email(cell)?,
                    KeyForm::Phone => addresses::normalise_phone(cell, self.country)?.into(),
                };
                self.builder.set(AttributeId::KEY, Value::Text(addresses::normalise_key(&key)?));
            }
            _ => {
                let cell = text()?;
                if !cell.is_empty() {
                    self.cell(step, cell)?;
                }
            }
        }
        Ok(())
    }

    /// A cell that is not empty and not the key.
    fn cell(&mut self, step: Step, cell: &'c str) -> Result<(), ValueError> {
        let builder = &mut *self.builder;
        match step {
            Step::Email => {
                self.email = addresses::normalise_email(cell)?;
                builder.set(AttributeId::EMAIL, Value::Text(&self.email));
            }
            Step::Phone(id) => builder.set(id, Value::Text(&addresses::normalise_phone(cell, self.country)?)),
            Step::Language => builder.set(AttributeId::LANGUAGE, Value::Text(&addresses::normalise_language(cell)?)),
            Step::Zone => builder.set(AttributeId::ZONE, Value::Text(&addresses::normalise_zone(cell)?)),
            Step::Unsubscribed => {
                let wanted = ValueError::Type { wanted: "boolean (true or false)" };
                self.unsubscribed = values::parse_bool(cell).ok_or(wanted)?;
            }
            Step::Typed(id, kind) => values::set_from_text(builder, id, kind, cell, self.list_separator)?,
            Step::Key(_) | Step::EmailDomain | Step::Created | Step::Updated | Step::Active => {}
        }
        Ok(())
    }
}

/// The steps of a plan, in the order of their attributes.
fn steps(plan: &Plan, schema: &Schema) -> Vec<(usize, Step)> {
    let mut steps: Vec<(u16, usize, Step)> = vec![
        (AttributeId::EMAIL_DOMAIN.0, 0, Step::EmailDomain),
        (AttributeId::CREATED.0, 0, Step::Created),
        (AttributeId::UPDATED.0, 0, Step::Updated),
    ];
    for (index, column) in plan.columns.iter().enumerate() {
        let attribute = column.attribute.as_deref().and_then(|name| schema.by_name(name));
        if column.is_key {
            let form = match attribute.map(|a| a.id) {
                Some(AttributeId::EMAIL) => KeyForm::Email,
                Some(AttributeId::PHONE | AttributeId::WHATSAPP) => KeyForm::Phone,
                _ => KeyForm::Plain,
            };
            steps.push((AttributeId::KEY.0, index, Step::Key(form)));
        }
        if column.is_unsubscribed {
            steps.push((u16::MAX, index, Step::Unsubscribed));
        }
        let Some(attribute) = attribute else { continue };
        let step = match attribute.id {
            AttributeId::EMAIL => Step::Email,
            id @ (AttributeId::PHONE | AttributeId::WHATSAPP) => Step::Phone(id),
            AttributeId::LANGUAGE => Step::Language,
            AttributeId::ZONE => Step::Zone,
            id => Step::Typed(id, attribute.kind),
        };
        steps.push((attribute.id.0, index, step));
    }
    if !steps.iter().any(|s| s.0 == AttributeId::ACTIVE.0) {
        steps.push((AttributeId::ACTIVE.0, 0, Step::Active));
    }
    steps.sort_by_key(|s| s.0);
    steps.into_iter().map(|(_, index, step)| (index, step)).collect()
}
