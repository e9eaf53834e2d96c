//! Contacts, imports, lists, segments and suppressions over the engine.
//!
//! Owns no state. In reading order: `errors` (refusals), `people` (contacts and consent), `imports`, `groups` (lists and
//! segments), `suppressed`.

mod errors;
mod groups;
mod imports;
mod people;
mod suppressed;

use std::path::PathBuf;

use serde_json::Value as Json;

use crate::api::adapter::Adapter;
use crate::api::port::{
    AttributeView, ContactInput, ContactView, ContactsPort, ImportOptions, ImportReport, ListChange, ListChanged,
    ListView, NewAttribute, NewList, NewSegment, NewSuppression, Page, PageRequest, PortResult, SegmentPreview,
    SegmentPreviewRequest, SegmentView, SuppressionFilter, SuppressionView, SuppressionsAdded,
};

impl ContactsPort for Adapter {
    fn spool_path(&self) -> PortResult<PathBuf> {
        Ok(self.engine.imports.spool_path())
    }

    fn start_import(&self, options: ImportOptions, spooled: PathBuf) -> PortResult<ImportReport> {
        imports::start(&self.engine, options, &spooled)
    }

    fn import(&self, id: u32) -> PortResult<ImportReport> {
        imports::one(&self.engine, id)
    }

    fn imports(&self, page: &PageRequest) -> PortResult<Page<ImportReport>> {
        imports::page(&self.engine, page)
    }

    fn import_rejected(&self, id: u32) -> PortResult<Option<PathBuf>> {
        imports::rejected(&self.engine, id)
    }

    fn attributes(&self) -> PortResult<Vec<AttributeView>> {
        Ok(people::attributes(&self.engine))
    }

    fn add_attribute(&self, attribute: NewAttribute) -> PortResult<AttributeView> {
        people::add_attribute(&self.engine, &attribute)
    }

    fn contact(&self, key: &str) -> PortResult<ContactView> {
        people::one(&self.engine, key)
    }

    fn put_contact(&self, key: &str, contact: ContactInput) -> PortResult<(ContactView, bool)> {
        people::put(&self.engine, key, contact)
    }

    fn patch_contact(&self, key: &str, contact: ContactInput) -> PortResult<ContactView> {
        people::patch(&self.engine, key, contact)
    }

    fn erase_contact(&self, key: &str) -> PortResult<()> {
        Ok(self.engine.erase_contact(key)?)
    }

    fn export_contact(&self, key: &str) -> PortResult<Json> {
        people::export(&self.engine, key)
    }

    fn lists(&self, page: &PageRequest) -> PortResult<Page<ListView>> {
        Ok(groups::lists(&self.engine, page))
    }

    fn list(&self, name: &str) -> PortResult<ListView> {
        groups::list(&self.engine, name)
    }

    fn create_list(&self, list: NewList) -> PortResult<ListView> {
        let name = self.engine.create_list(&list.name, &list.contacts, list.segment.as_deref())?;
        groups::list(&self.engine, &name)
    }

    fn delete_list(&self, name: &str) -> PortResult<()> {
        Ok(self.engine.delete_list(name)?)
    }

    fn change_list(&self, name: &str, change: ListChange) -> PortResult<ListChanged> {
        groups::change_list(&self.engine, name, &change)
    }

    fn list_contacts(&self, name: &str, page: &PageRequest) -> PortResult<Page<String>> {
        groups::list_contacts(&self.engine, name, page)
    }

    fn segments(&self, page: &PageRequest) -> PortResult<Page<SegmentView>> {
        Ok(groups::segments(&self.engine, page))
    }

    fn segment(&self, name: &str) -> PortResult<SegmentView> {
        groups::segment(&self.engine, name)
    }

    fn create_segment(&self, segment: NewSegment) -> PortResult<SegmentView> {
        let name = self.engine.create_segment(&segment.name, &segment.expression)?;
        groups::segment(&self.engine, &name)
    }

    fn update_segment(&self, name: &str, expression: &str) -> PortResult<SegmentView> {
        self.engine.update_segment(name, expression)?;
        groups::segment(&self.engine, name)
    }

    fn delete_segment(&self, name: &str) -> PortResult<()> {
        Ok(self.engine.delete_segment(name)?)
    }

    fn preview_segment(&self, request: SegmentPreviewRequest) -> PortResult<SegmentPreview> {
        groups::preview(&self.engine, &request)
    }

    fn suppressions(&self, filter: &SuppressionFilter, page: &PageRequest) -> PortResult<Page<SuppressionView>> {
        suppressed::page(&self.engine, filter, page)
    }

    fn add_suppressions(&self, entries: Vec<NewSuppression>) -> PortResult<SuppressionsAdded> {
        suppressed::add(&self.engine, entries)
    }

    fn remove_suppression(&self, id: u64) -> PortResult<()> {
        Ok(self.engine.unsuppress(id)?)
    }
}
