//! Which column of a file goes to which attribute, and what a new column's type is.
//!
//! Owns nothing. A plan is made once, shown on a dry run, kept with the import, and never changes: a resumed import
//! reads its file as the first part was read.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use crate::contacts::addresses;
use crate::contacts::csv_import::decode::TextReader;
use crate::contacts::csv_import::detect::{self, TextFormat};
use crate::contacts::csv_import::records::{Found, Records};
use crate::contacts::csv_import::{ImportError, ImportSpec, NewAttribute, NewColumns};
use crate::contacts::schema::{AttributeType, IndexKind, Schema};
use crate::contacts::values;
use crate::ids::AttributeId;
use crate::limits;

/// Bytes of text at the start of a file that the delimiter is told from.
const HEAD_BYTES: u64 = 64 * 1024;
/// Distinct values up to which a text column is indexed by value, whatever the number of rows.
const FEW_VALUES: usize = 64;
/// Bytes of a text value beyond which a column is taken for prose and not indexed.
const INDEXED_TEXT_BYTES: usize = 100;

/// One column of the file and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// As the header has it, trimmed.
    pub name: String,
    /// The attribute's name; `None`: nothing of this column is kept but what `is_key` and `is_unsubscribed` say.
    pub attribute: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<AttributeType>,
    pub index: Option<IndexKind>,
    /// The import adds the attribute.
    pub is_new: bool,
    pub is_key: bool,
    pub is_unsubscribed: bool,
}

/// How a file is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub format: TextFormat,
    pub delimiter: char,
    pub columns: Vec<Column>,
    /// Decoded position and line of the first row.
    start: (u64, u64),
}

impl Plan {
    pub(crate) fn start(&self) -> (u64, u64) {
        self.start
    }

    /// Looks at `file` and decides; also answers the schema with the new attributes.
    pub(crate) fn make<F: Read + Seek>(
        schema: &Schema,
        spec: &ImportSpec,
        file: &mut F,
    ) -> Result<(Plan, Schema), ImportError> {
        if let Some(code) = spec.default_country.as_ref().filter(|code| addresses::country(code).is_none()) {
            return Err(ImportError::UnknownCountry { code: code.clone() });
        }
        let format = detect_format(spec, file)?;
        let delimiter = delimiter(spec, format, file)?;
        let text = TextReader::open(&mut *file, format, 0).map_err(ImportError::Read)?;
        let mut records = Records::new(text, delimiter, 0, 1);
        let names = header(&mut records, format)?;
        let start = records.place();
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let is_unsubscribed = spec.unsubscribed_column.as_deref().is_some_and(|u| same_name(u, &name));
            let is_key = same_name(&spec.key_column, &name);
            columns.push(Column {
                name,
                attribute: None,
                kind: None,
                index: None,
                is_new: false,
                is_key,
                is_unsubscribed,
            });
        }
        check_columns(spec, &columns)?;
        for column in &mut columns {
            aim(schema, spec, column)?;
        }
        check_types(spec, &columns)?;
        let guesses = infer(&mut records, &columns, spec)?;
        let mut schema = schema.clone();
        for (column, guess) in columns.iter_mut().zip(guesses) {
            let Some(attribute) = column.attribute.clone().filter(|_| column.is_new) else {
                continue;
            };
            let new = spec.types.get(&attribute).copied().unwrap_or(guess);
            // Two columns may aim at one new attribute; that is told below, by the columns' names.
            if schema.by_name(&attribute).is_none() {
                schema = schema.with(&attribute, new.kind, new.index).map_err(crate::contacts::ContactsError::from)?;
            }
            column.kind = Some(new.kind);
            column.index = schema.by_name(&attribute).map(|a| a.index);
        }
        one_column_each(&columns)?;
        Ok((Plan { format, delimiter: char::from(delimiter), columns, start }, schema))
    }
}

pub(in crate::contacts) fn detect_format<F: Read + Seek>(
    spec: &ImportSpec,
    file: &mut F,
) -> Result<TextFormat, ImportError> {
    file.seek(SeekFrom::Start(0)).map_err(ImportError::Read)?;
    let Some(encoding) = spec.encoding else {
        return detect::detect_encoding(file).map_err(ImportError::Read);
    };
    let mut head = Vec::new();
    file.take(3).read_to_end(&mut head).map_err(ImportError::Read)?;
    Ok(TextFormat { encoding, bom: detect::bom_bytes(encoding, &head), mixed: false })
}

pub(in crate::contacts) fn delimiter<F: Read + Seek>(
    spec: &ImportSpec,
    format: TextFormat,
    file: &mut F,
) -> Result<u8, ImportError> {
    if let Some(delimiter) = spec.delimiter {
        return match u8::try_from(delimiter) {
            Ok(byte) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r' | 0) => Ok(byte),
            _ => Err(ImportError::BadDelimiter { delimiter }),
        };
    }
    let mut head = Vec::new();
    let text = TextReader::open(file, format, 0).map_err(ImportError::Read)?;
    text.take(HEAD_BYTES).read_to_end(&mut head).map_err(ImportError::Read)?;
    Ok(detect::detect_delimiter(&head))
}

pub(in crate::contacts) fn header<R: Read>(
    records: &mut Records<R>,
    format: TextFormat,
) -> Result<Vec<String>, ImportError> {
    match records.next().map_err(ImportError::Read)? {
        Found::End => return Err(ImportError::Empty),
        Found::Fault(fault) => return Err(ImportError::BadHeader { fault }),
        Found::Record => {}
    }
    if memchr::memchr(0, records.raw()).is_some() {
        return Err(ImportError::HeaderNul);
    }
    let mut names = Vec::with_capacity(records.len());
    for index in 0..records.len() {
        let name = std::str::from_utf8(records.field(index))
            .map_err(|_| ImportError::HeaderEncoding { encoding: format.encoding })?;
        names.push(addresses::strip_control(name.trim()).into_owned());
    }
    Ok(names)
}

/// A header as an attribute name: lower case, everything else than letters and digits becomes `_`.
pub(in crate::contacts) fn attribute_name(header: &str) -> String {
    let mut out = String::with_capacity(header.len());
    for c in header.trim().chars() {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            'A'..='Z' => out.push(c.to_ascii_lowercase()),
            _ if out.ends_with('_') => {}
            _ => out.push('_'),
        }
    }
    out.trim_matches('_').to_owned()
}

fn same_name(wanted: &str, header: &str) -> bool {
    wanted == header
        || (!wanted.is_empty()
            && attribute_name(wanted) == attribute_name(header)
            && !attribute_name(header).is_empty())
}

/// Names that people give to built-in attributes.
fn usual_name(name: &str) -> &str {
    match name {
        "e_mail" | "mail" | "email_address" | "e_mail_address" => "email",
        "phone_number" | "mobile" | "mobile_phone" | "telephone" => "phone",
        "lang" | "locale" => "language",
        "time_zone" | "timezone" | "tz" => "zone",
        other => other,
    }
}

fn check_columns(spec: &ImportSpec, columns: &[Column]) -> Result<(), ImportError> {
    let present = || columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    for (index, column) in columns.iter().enumerate() {
        if !column.name.is_empty() && columns[..index].iter().any(|c| c.name == column.name) {
            return Err(ImportError::DuplicateColumn { column: column.name.clone() });
        }
    }
    match columns.iter().filter(|c| c.is_key).count() {
        0 => {
            return Err(ImportError::MissingKeyColumn { wanted: spec.key_column.clone(), present: present() });
        }
        1 => {}
        _ => {
            return Err(ImportError::DuplicateColumn { column: spec.key_column.clone() });
        }
    }
    if let Some(column) = spec.unsubscribed_column.as_ref().filter(|_| !columns.iter().any(|c| c.is_unsubscribed)) {
        return Err(ImportError::MissingColumn { column: column.clone(), present: present() });
    }
    if let Some(column) = spec.mapping.keys().find(|m| !columns.iter().any(|c| same_name(m, &c.name))) {
        return Err(ImportError::MissingColumn { column: column.clone(), present: present() });
    }
    Ok(())
}

/// Every type that was given belongs to a column, and an attribute that is there keeps its own.
fn check_types(spec: &ImportSpec, columns: &[Column]) -> Result<(), ImportError> {
    for (name, wanted) in &spec.types {
        let column = columns
            .iter()
            .find(|c| c.attribute.as_ref() == Some(name))
            .or_else(|| columns.iter().find(|c| attribute_name(&c.name) == *name));
        let Some(column) = column else {
            let present = columns.iter().map(|c| c.name.clone()).collect();
            return Err(ImportError::UnusedType { name: name.clone(), present });
        };
        let own = if column.is_unsubscribed { AttributeType::Boolean } else { AttributeType::Text };
        let kind = column.kind.unwrap_or(own);
        if !column.is_new && wanted.kind != kind {
            return Err(ImportError::OtherType { column: column.name.clone(), wanted: wanted.kind, kind });
        }
    }
    Ok(())
}

/// Decides which attribute a column goes to, and whether the schema has it.
fn aim(schema: &Schema, spec: &ImportSpec, column: &mut Column) -> Result<(), ImportError> {
    let mapped = spec.mapping.iter().find(|(name, _)| same_name(name, &column.name)).map(|(_, target)| target.as_str());
    let own = attribute_name(&column.name);
    let name = match mapped {
        Some("-") => return Ok(()),
        Some(target) => target,
        None if column.name.is_empty() || column.is_unsubscribed => return Ok(()),
        None if schema.by_name(&own).is_some() => &own,
        None => usual_name(&own),
    };
    // The key is taken in any case; a key column is an attribute too only if one is known or named.
    if name == "key" || (column.is_key && mapped.is_none() && schema.by_name(name).is_none()) {
        if column.is_key {
            return Ok(());
        }
        return Err(ImportError::ReadOnlyTarget { column: column.name.clone(), attribute: name.to_owned() });
    }
    match schema.by_name(name) {
        Some(known) => {
            let kept = [AttributeId::CREATED, AttributeId::UPDATED, AttributeId::EMAIL_DOMAIN, AttributeId::KEY];
            if kept.contains(&known.id) {
                return Err(ImportError::ReadOnlyTarget { column: column.name.clone(), attribute: name.to_owned() });
            }
            column.kind = Some(known.kind);
            column.index = Some(known.index);
        }
        None => match spec.new_columns {
            NewColumns::Ignore if mapped.is_none() && !spec.types.contains_key(name) => return Ok(()),
            NewColumns::Refuse => {
                return Err(ImportError::NewColumn { column: column.name.clone() });
            }
            _ if Schema::built_in().with(name, AttributeType::Text, None).is_err() => {
                return Err(ImportError::BadColumnName { column: column.name.clone() });
            }
            _ => column.is_new = true,
        },
    }
    column.attribute = Some(name.to_owned());
    Ok(())
}

fn one_column_each(columns: &[Column]) -> Result<(), ImportError> {
    for (index, column) in columns.iter().enumerate() {
        let Some(attribute) = &column.attribute else { continue };
        if let Some(first) = columns[..index].iter().find(|c| c.attribute.as_ref() == Some(attribute)) {
            return Err(ImportError::SameTarget {
                first: first.name.clone(),
                second: column.name.clone(),
                attribute: attribute.clone(),
            });
        }
    }
    Ok(())
}

/// What the cells of one column have been like.
struct Guess {
    cells: usize,
    boolean: bool,
    number: bool,
    time: bool,
    list: bool,
    longest: usize,
    distinct: HashSet<u64>,
}

impl Guess {
    fn new() -> Guess {
        Guess { cells: 0, boolean: true, number: true, time: true, list: false, longest: 0, distinct: HashSet::new() }
    }

    fn see(&mut self, text: &str, spec: &ImportSpec, hasher: &RandomState) {
        self.cells += 1;
        let digits = text.trim_start_matches('-');
        let padded = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        self.boolean &= values::parse_bool(text).is_some() && !matches!(text, "0" | "1");
        self.number &= !padded && !text.starts_with('+') && text.len() <= 15 && values::parse_number(text).is_some();
        self.time &= values::parse_time(text).is_some();
        self.list |= text.contains(spec.list_separator);
        self.longest = self.longest.max(text.len());
        self.distinct.insert(hasher.hash_one(text));
    }

    fn decide(&self) -> NewAttribute {
        let few = self.distinct.len() <= FEW_VALUES.max(self.cells / 10) && self.longest <= INDEXED_TEXT_BYTES;
        let (kind, index) = match self {
            Guess { cells: 0, .. } => (AttributeType::Text, IndexKind::Values),
            Guess { boolean: true, .. } => (AttributeType::Boolean, IndexKind::Values),
            Guess { number: true, .. } => (AttributeType::Number, IndexKind::BitSliced),
            Guess { time: true, .. } => (AttributeType::DateTime, IndexKind::BitSliced),
            Guess { list: true, .. } => (AttributeType::List, IndexKind::Values),
            _ if few => (AttributeType::Text, IndexKind::Values),
            _ => (AttributeType::Text, IndexKind::None),
        };
        NewAttribute { kind, index: Some(index) }
    }
}

/// Reads the first rows and tells each column's type. Fails if there is no row at all.
fn infer<R: Read>(
    records: &mut Records<R>,
    columns: &[Column],
    spec: &ImportSpec,
) -> Result<Vec<NewAttribute>, ImportError> {
    let mut guesses: Vec<Guess> = columns.iter().map(|_| Guess::new()).collect();
    let hasher = RandomState::new();
    let any_new = columns.iter().any(|c| c.is_new);
    let begin = records.place().0;
    for count in 0..limits::IMPORT_INFER_ROWS {
        match records.next().map_err(ImportError::Read)? {
            Found::End if count == 0 => return Err(ImportError::HeaderOnly),
            Found::End => break,
            Found::Fault(_) => continue,
            Found::Record => {}
        }
        if !any_new || records.place().0 - begin > limits::IMPORT_INFER_BYTES {
            break;
        }
        if records.len() != columns.len() {
            continue;
        }
        for (index, guess) in guesses.iter_mut().enumerate().filter(|(i, _)| columns[*i].is_new) {
            if let Ok(text) = std::str::from_utf8(records.field(index)).map(str::trim)
                && !text.is_empty()
            {
                guess.see(text, spec, &hasher);
            }
        }
    }
    Ok(guesses.iter().map(Guess::decide).collect())
}
