//! Lists and saved segments.

use std::time::Instant;

use crate::api::errors::Code;
use crate::api::port::{
    ListChange, ListChanged, ListView, Page, PageRequest, PortError, PortResult, ScanView, SegmentPreview,
    SegmentPreviewRequest, SegmentView,
};
use crate::engine::Engine;
use crate::engine::base::BaseError;
use crate::ids::ContactRow;
use crate::ledger::state::{List, SavedSegment};
use crate::limits::PREVIEW_SAMPLE_MAX;

use super::people;

fn list_view(name: &str, list: &List) -> ListView {
    ListView {
        id: list.id,
        name: name.to_owned(),
        contacts: list.rows.len(),
        source: list.source.clone(),
        created_at: list.created_at.into(),
    }
}

fn segment_view(name: &str, segment: &SavedSegment) -> SegmentView {
    SegmentView {
        id: segment.id,
        name: name.to_owned(),
        expression: segment.text.clone(),
        created_at: segment.created_at.into(),
        updated_at: segment.saved_at.into(),
    }
}

pub(super) fn lists(engine: &Engine, page: &PageRequest) -> Page<ListView> {
    let state = engine.book.read();
    let views = state.lists.iter().map(|(name, list)| list_view(name, list));
    Page::cut(views, page, |list| list.name.clone())
}

pub(super) fn list(engine: &Engine, name: &str) -> PortResult<ListView> {
    let state = engine.book.read();
    let found = state.lists.get(name).map(|list| list_view(name, list));
    Ok(found.ok_or_else(|| BaseError::NoList { name: name.to_owned() })?)
}

pub(super) fn change_list(engine: &Engine, name: &str, change: &ListChange) -> PortResult<ListChanged> {
    let done = engine.change_list(name, &change.add, &change.remove)?;
    Ok(ListChanged { added: done.added, removed: done.removed, unknown: done.unknown, contacts: done.contacts })
}

pub(super) fn list_contacts(engine: &Engine, name: &str, page: &PageRequest) -> PortResult<Page<String>> {
    let after = match &page.after {
        None => None,
        Some(text) => Some(text.parse::<u32>().map_err(|_| bad_cursor())?),
    };
    let mut members = engine.list_members(name, after, page.limit.saturating_add(1))?;
    let more = members.len() > page.limit;
    members.truncate(page.limit);
    let next = members.last().filter(|_| more).map(|(row, _)| row.to_string());
    Ok(Page { items: members.into_iter().map(|(_, key)| key).collect(), next })
}

pub(super) fn segments(engine: &Engine, page: &PageRequest) -> Page<SegmentView> {
    let state = engine.book.read();
    let views = state.segments.iter().map(|(name, segment)| segment_view(name, segment));
    Page::cut(views, page, |segment| segment.name.clone())
}

pub(super) fn segment(engine: &Engine, name: &str) -> PortResult<SegmentView> {
    let state = engine.book.read();
    let found = state.segments.get(name).map(|segment| segment_view(name, segment));
    Ok(found.ok_or_else(|| BaseError::NoSegment { name: name.to_owned() })?)
}

pub(super) fn preview(engine: &Engine, request: &SegmentPreviewRequest) -> PortResult<SegmentPreview> {
    if request.sample > PREVIEW_SAMPLE_MAX {
        let message = format!("sample is {}, but at most {PREVIEW_SAMPLE_MAX} contacts are shown", request.sample);
        return Err(PortError::new(Code::InvalidParameter, message));
    }
    let began = Instant::now();
    let (expression, found, glance) = engine.preview(&request.expression)?;
    let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
    let mut sample = Vec::new();
    for row in found.rows.iter().take(request.sample) {
        sample.extend(people::view(engine, &glance.reader, ContactRow(row))?);
    }
    let scans = found.notes.into_iter().map(|note| ScanView { part: note.part, records: note.visited });
    Ok(SegmentPreview {
        count: found.rows.len(),
        took_ms,
        canonical: expression.to_string(),
        scans: scans.collect(),
        sample,
    })
}

pub(super) fn bad_cursor() -> PortError {
    PortError::new(Code::InvalidCursor, "the cursor is not one that this list gave out: start again without it")
}
