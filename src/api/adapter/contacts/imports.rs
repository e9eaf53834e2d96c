//! CSV imports: options as the client writes them, reports as it reads them.

use std::path::{Path, PathBuf};

use crate::api::errors::Code;
use crate::api::port::{
    ImportColumn, ImportOptions, ImportReport, ImportState, Page, PageRequest, PortError, PortResult,
};
use crate::contacts::csv_import::{Column, DryRun, Duplicates, Encoding, ImportSpec, NewAttribute, Plan};
use crate::engine::Engine;
use crate::engine::imports::{ImportRequest, Ticket, TicketState, UNSUBSCRIBED_COLUMN};
use crate::ids::ImportId;
use crate::limits::NAME_BYTES_MAX;

use super::groups::bad_cursor;
use super::people::{attribute_type, channel_and_topic};

fn refuse(text: String) -> PortError {
    PortError::new(Code::InvalidImport, text)
}

/// The options, validated. A column that is mapped to `unsubscribed` marks opt-outs.
fn request(options: ImportOptions) -> PortResult<ImportRequest> {
    let mut spec =
        ImportSpec { key_column: options.key, default_country: options.default_country, ..ImportSpec::default() };
    spec.delimiter = options.delimiter;
    if let Some(name) = &options.encoding {
        let found = Encoding::from_name(name);
        let wrong = || refuse(format!("encoding is {name:?}, but must be utf-8, utf-16le, utf-16be or latin-1"));
        spec.encoding = Some(found.ok_or_else(wrong)?);
    }
    spec.duplicates = match options.duplicates.as_deref() {
        None | Some("newest") => Duplicates::Newest,
        Some("oldest") => Duplicates::Oldest,
        Some(other) => return Err(refuse(format!("duplicates is {other:?}, but must be \"newest\" or \"oldest\""))),
    };
    for (column, target) in options.mapping {
        match target.trim() {
            "" | "-" => {
                spec.mapping.insert(column, "-".to_owned());
            }
            UNSUBSCRIBED_COLUMN => {
                if let Some(other) = spec.unsubscribed_column.replace(column.clone()) {
                    return Err(refuse(format!(
                        "columns {other:?} and {column:?} both mark opt-outs: leave one of them out"
                    )));
                }
            }
            target => {
                spec.mapping.insert(column, target.to_owned());
            }
        }
    }
    for (column, name) in options.types {
        let kind = attribute_type(&name).map_err(|text| refuse(format!("the type of column {column:?}: {text}")))?;
        // The store wants the attribute's name: what the column is mapped to, or its own.
        let target = spec.mapping.get(&column).cloned().unwrap_or_else(|| attribute_name(&column));
        spec.types.insert(target, NewAttribute { kind, index: None });
    }
    let mut subscribe = Vec::with_capacity(options.subscribe.len());
    for text in &options.subscribe {
        let topic = channel_and_topic(text).map_err(|text| refuse(format!("subscribe: {text}")))?;
        if !subscribe.contains(&topic) {
            subscribe.push(topic);
        }
    }
    let list = options.list.map(|name| list_name(&name)).transpose()?;
    let (resubscribe, file_name, request) = (options.resubscribe, options.file_name, options.request);
    Ok(ImportRequest { spec, list, subscribe, resubscribe, file_name, request })
}

fn list_name(name: &str) -> PortResult<String> {
    let name = name.trim();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let text = format!("list: the name is empty, longer than {NAME_BYTES_MAX} bytes, or has a control character");
        return Err(refuse(text));
    }
    Ok(name.to_owned())
}

/// How the store names an attribute after a column: lower case, runs of other characters become one `_`.
fn attribute_name(column: &str) -> String {
    let mut out = String::with_capacity(column.len());
    for c in column.trim().chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    out.trim_matches('_').to_owned()
}

pub(super) fn start(engine: &Engine, options: ImportOptions, spooled: &Path) -> PortResult<ImportReport> {
    let dry_run = options.dry_run;
    let request = request(options)?;
    if !dry_run {
        return Ok(report(engine.imports.submit(request, spooled)?));
    }
    let now = engine.book.now();
    let found = engine.imports.dry_run(&request, spooled)?;
    let bytes = std::fs::metadata(spooled).map_or(0, |m| m.len());
    if let Err(error) = std::fs::remove_file(spooled) {
        tracing::warn!(%error, "the upload of a dry run can't be deleted; the next start does it");
    }
    let mut report = dry_report(&request, found, bytes);
    report.started_at = now.into();
    report.finished_at = Some(engine.book.now().into());
    Ok(report)
}

pub(super) fn one(engine: &Engine, id: u32) -> PortResult<ImportReport> {
    Ok(report(engine.imports.ticket(ImportId(id))?))
}

pub(super) fn page(engine: &Engine, page: &PageRequest) -> PortResult<Page<ImportReport>> {
    let before = match &page.after {
        None => None,
        Some(text) => Some(ImportId(text.parse().map_err(|_| bad_cursor())?)),
    };
    let mut tickets = engine.imports.tickets(before, page.limit.saturating_add(1));
    let more = tickets.len() > page.limit;
    tickets.truncate(page.limit);
    let next = tickets.last().filter(|_| more).map(|ticket| ticket.id.0.to_string());
    Ok(Page { items: tickets.into_iter().map(report).collect(), next })
}

pub(super) fn rejected(engine: &Engine, id: u32) -> PortResult<Option<PathBuf>> {
    Ok(engine.imports.rejected(ImportId(id))?)
}

fn columns(plan: &Plan) -> Vec<ImportColumn> {
    let kind = |column: &Column| match column.kind {
        _ if column.is_unsubscribed => "boolean",
        Some(kind) => kind.name(),
        None => "text",
    };
    let attribute = |column: &Column| match &column.attribute {
        Some(name) => Some(name.clone()),
        None if column.is_key => Some("key".to_owned()),
        None if column.is_unsubscribed => Some(UNSUBSCRIBED_COLUMN.to_owned()),
        None => None,
    };
    let view = |column: &Column| ImportColumn {
        name: column.name.clone(),
        attribute: attribute(column),
        kind: kind(column).to_owned(),
        new: column.is_new,
    };
    plan.columns.iter().map(view).collect()
}

/// The name that options and reports share.
fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Utf8 => "utf-8",
        Encoding::Utf16Le => "utf-16le",
        Encoding::Utf16Be => "utf-16be",
        Encoding::Latin1 => "latin-1",
    }
}

fn delimiter_name(delimiter: char) -> String {
    if delimiter == '\t' { "tab".to_owned() } else { delimiter.to_string() }
}

/// `accepted` made a contact; `merged` changed one or found it so, or belongs to a key that the file has more than once.
fn report(ticket: Ticket) -> ImportReport {
    let progress = &ticket.progress;
    let ended = ticket.state != TicketState::Running;
    ImportReport {
        id: ticket.id.0,
        state: match ticket.state {
            TicketState::Running => ImportState::Running,
            TicketState::Finished => ImportState::Finished,
            TicketState::Failed => ImportState::Failed,
        },
        dry_run: false,
        file_name: ticket.request.file_name.clone(),
        list: ticket.request.list.clone(),
        accepted: progress.created,
        merged: progress.updated + progress.unchanged + progress.merged,
        rejected: progress.rejected,
        rejected_by: progress.rejected_by.0.clone(),
        // The store counts decoded bytes; at the end they are all of them.
        bytes_done: if ended && ticket.state == TicketState::Finished {
            ticket.spool_bytes
        } else {
            progress.position.min(ticket.spool_bytes)
        },
        bytes_total: ticket.spool_bytes,
        delimiter: ticket.plan.as_ref().map(|plan| delimiter_name(plan.delimiter)),
        encoding: ticket.plan.as_ref().map(|plan| encoding_name(plan.format.encoding).to_owned()),
        columns: ticket.plan.as_ref().map(columns).unwrap_or_default(),
        error: ticket.error,
        started_at: ticket.started_at.into(),
        finished_at: ticket.finished_at.map(Into::into),
    }
}

fn dry_report(request: &ImportRequest, found: DryRun, bytes: u64) -> ImportReport {
    ImportReport {
        id: 0,
        state: ImportState::Finished,
        dry_run: true,
        file_name: request.file_name.clone(),
        list: request.list.clone(),
        accepted: found.acceptable,
        merged: 0,
        rejected: found.rejected,
        rejected_by: found.rejected_by.0,
        bytes_done: bytes,
        bytes_total: bytes,
        delimiter: Some(delimiter_name(found.plan.delimiter)),
        encoding: Some(encoding_name(found.plan.format.encoding).to_owned()),
        columns: columns(&found.plan),
        error: None,
        started_at: Default::default(),
        finished_at: None,
    }
}
