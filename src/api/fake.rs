//! An engine in memory for handler tests: it keeps what it is told, and answers enough to see that it arrived.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::errors::Code;
use super::port::*;
use crate::clock::Timestamp;
use crate::ids::{ContactRow, MessageId, RowSpace, RunId};

mod operations;

pub struct Fake {
    pub directory: tempfile::TempDir,
    /// Every call, as words.
    pub calls: Mutex<Vec<String>>,
    pub lists: Mutex<BTreeMap<String, ListView>>,
    pub imported: Mutex<Vec<(ImportOptions, Vec<u8>)>>,
    pub events: Mutex<Vec<TrackingEvent>>,
    pub unsubscribed: Mutex<Vec<UnsubscribeRequest>>,
    pub ready: Mutex<bool>,
    /// Recording answers `Busy`.
    pub full: Mutex<bool>,
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        Arc::new(Fake {
            directory: tempfile::tempdir().unwrap(),
            calls: Mutex::default(),
            lists: Mutex::default(),
            imported: Mutex::default(),
            events: Mutex::default(),
            unsubscribed: Mutex::default(),
            ready: Mutex::new(true),
            full: Mutex::new(false),
        })
    }

    fn called(&self, words: impl Into<String>) {
        self.calls.lock().push(words.into());
    }
}

fn not_here<T>(what: &str, code: Code) -> PortResult<T> {
    Err(PortError::new(code, format!("{what} is not here")))
}

fn ledger() -> Ledger {
    Ledger { audience: 3, accepted: 2, skipped: 1, balanced: true, ..Ledger::default() }
}

fn report_of_import(id: u32, options: &ImportOptions, bytes: u64) -> ImportReport {
    ImportReport {
        id,
        state: ImportState::Finished,
        dry_run: options.dry_run,
        file_name: options.file_name.clone(),
        list: options.list.clone(),
        accepted: 1,
        merged: 0,
        rejected: 0,
        rejected_by: BTreeMap::new(),
        bytes_done: bytes,
        bytes_total: bytes,
        delimiter: None,
        encoding: None,
        columns: Vec::new(),
        error: None,
        started_at: Time::default(),
        finished_at: None,
    }
}

fn contact_view(key: &str) -> ContactView {
    ContactView {
        key: key.to_owned(),
        active: true,
        created_at: None,
        updated_at: None,
        consent: Vec::new(),
        suppressed: Vec::new(),
        lists: Vec::new(),
        fields: serde_json::Map::new(),
    }
}

fn segment_view(name: &str, expression: &str) -> SegmentView {
    let at = Time::default();
    SegmentView { id: 1, name: name.into(), expression: expression.into(), created_at: at, updated_at: at }
}

fn campaign_view(name: &str, spec: Json) -> CampaignView {
    CampaignView {
        summary: CampaignSummary {
            id: 1,
            name: name.to_owned(),
            kind: "single".into(),
            state: "draft".into(),
            active: false,
            version: 1,
            created_at: Time::default(),
            updated_at: Time::default(),
            run: None,
            ledger: None,
            reason: None,
            next_start: None,
        },
        spec,
        problems: Vec::new(),
        warnings: Vec::new(),
        legal_moves: vec!["start".into()],
        sequence: None,
        schedule: None,
    }
}

impl ContactsPort for Fake {
    fn spool_path(&self) -> PortResult<PathBuf> {
        Ok(self.directory.path().join(format!("spool-{}", self.imported.lock().len())))
    }

    fn start_import(&self, options: ImportOptions, spooled: PathBuf) -> PortResult<ImportReport> {
        let bytes = std::fs::read(&spooled).unwrap();
        std::fs::remove_file(&spooled).unwrap();
        let mut imported = self.imported.lock();
        let report = report_of_import(imported.len() as u32 + 1, &options, bytes.len() as u64);
        imported.push((options, bytes));
        Ok(report)
    }

    fn import(&self, id: u32) -> PortResult<ImportReport> {
        let imported = self.imported.lock();
        match imported.get(id as usize - 1) {
            Some((options, bytes)) => Ok(report_of_import(id, options, bytes.len() as u64)),
            None => not_here("the import", Code::ImportNotFound),
        }
    }

    fn imports(&self, page: &PageRequest) -> PortResult<Page<ImportReport>> {
        let reports =
            self.imported.lock().iter().map(|(o, b)| report_of_import(1, o, b.len() as u64)).collect::<Vec<_>>();
        Ok(Page::cut(reports, page, |r| format!("{:010}", r.id)))
    }

    fn import_rejected(&self, _id: u32) -> PortResult<Option<PathBuf>> {
        Ok(None)
    }

    fn attributes(&self) -> PortResult<Vec<AttributeView>> {
        let text = |s: &str| s.to_owned();
        Ok(vec![AttributeView { name: text("email"), kind: text("text"), index: text("none"), built_in: true }])
    }

    fn add_attribute(&self, attribute: NewAttribute) -> PortResult<AttributeView> {
        Ok(AttributeView { name: attribute.name, kind: attribute.kind, index: "values".into(), built_in: false })
    }

    fn contact(&self, key: &str) -> PortResult<ContactView> {
        if key == "nobody" { not_here("the contact", Code::ContactNotFound) } else { Ok(contact_view(key)) }
    }

    fn put_contact(&self, key: &str, contact: ContactInput) -> PortResult<(ContactView, bool)> {
        let mut view = contact_view(key);
        view.fields = contact.fields;
        Ok((view, key == "new"))
    }

    fn patch_contact(&self, key: &str, contact: ContactInput) -> PortResult<ContactView> {
        self.put_contact(key, contact).map(|(view, _)| view)
    }

    fn erase_contact(&self, key: &str) -> PortResult<()> {
        self.called(format!("erase {key}"));
        Ok(())
    }

    fn export_contact(&self, key: &str) -> PortResult<Json> {
        Ok(json!({"key": key}))
    }

    fn lists(&self, page: &PageRequest) -> PortResult<Page<ListView>> {
        let lists: Vec<_> = self.lists.lock().values().cloned().collect();
        Ok(Page::cut(lists, page, |l| l.name.clone()))
    }

    fn list(&self, name: &str) -> PortResult<ListView> {
        self.lists.lock().get(name).cloned().map_or_else(|| not_here("the list", Code::ListNotFound), Ok)
    }

    fn create_list(&self, list: NewList) -> PortResult<ListView> {
        let mut lists = self.lists.lock();
        if lists.contains_key(&list.name) {
            return not_here("a free name", Code::ListExists);
        }
        let id = lists.len() as u32 + 1;
        let contacts = list.contacts.len() as u64;
        let view = ListView { id, name: list.name, contacts, source: "api".into(), created_at: Time::default() };
        lists.insert(view.name.clone(), view.clone());
        Ok(view)
    }

    fn delete_list(&self, name: &str) -> PortResult<()> {
        self.lists.lock().remove(name).map_or_else(|| not_here("the list", Code::ListNotFound), |_| Ok(()))
    }

    fn change_list(&self, _name: &str, change: ListChange) -> PortResult<ListChanged> {
        Ok(ListChanged {
            added: change.add.len() as u64,
            removed: change.remove.len() as u64,
            ..ListChanged::default()
        })
    }

    fn list_contacts(&self, _name: &str, page: &PageRequest) -> PortResult<Page<String>> {
        Ok(Page::cut((0..5).map(|n| n.to_string()), page, Clone::clone))
    }

    fn segments(&self, page: &PageRequest) -> PortResult<Page<SegmentView>> {
        Ok(Page::cut([segment_view("adults", "age >= 18")], page, |s| s.name.clone()))
    }

    fn segment(&self, name: &str) -> PortResult<SegmentView> {
        Ok(segment_view(name, "age >= 18"))
    }

    fn create_segment(&self, segment: NewSegment) -> PortResult<SegmentView> {
        Ok(segment_view(&segment.name, &segment.expression))
    }

    fn update_segment(&self, name: &str, expression: &str) -> PortResult<SegmentView> {
        Ok(segment_view(name, expression))
    }

    fn delete_segment(&self, _name: &str) -> PortResult<()> {
        not_here("a segment that nothing uses", Code::SegmentInUse)
    }

    fn preview_segment(&self, request: SegmentPreviewRequest) -> PortResult<SegmentPreview> {
        let canonical = request.expression;
        Ok(SegmentPreview { count: 3, took_ms: 0.1, canonical, scans: Vec::new(), sample: Vec::new() })
    }

    fn suppressions(&self, _filter: &SuppressionFilter, page: &PageRequest) -> PortResult<Page<SuppressionView>> {
        let entry = |id| SuppressionView {
            id,
            channel: None,
            reason: "manual".into(),
            contact: Some(format!("c{id}")),
            address_hash: None,
            at: Time::default(),
        };
        Ok(Page::cut((1..=3).map(entry), page, |s| format!("{:020}", s.id)))
    }

    fn add_suppressions(&self, entries: Vec<NewSuppression>) -> PortResult<SuppressionsAdded> {
        Ok(SuppressionsAdded { added: entries.len() as u64, present: 0 })
    }

    fn remove_suppression(&self, id: u64) -> PortResult<()> {
        self.called(format!("remove suppression {id}"));
        Ok(())
    }
}

fn upload_detail(name: Option<String>, bytes: u64) -> UploadDetail {
    UploadDetail {
        upload: UploadView {
            id: 1,
            name: name.unwrap_or_default(),
            channel: "email".into(),
            uploaded_at: Time::default(),
            uploaded_by: "admin".into(),
            bytes,
            encoding: "utf-8".into(),
            delimiter: ",".into(),
            total: 1,
            valid: 1,
            invalid: 0,
            invalid_by: BTreeMap::new(),
            left_out: BTreeMap::new(),
            duplicates: 0,
            addresses: BTreeMap::new(),
            columns: Vec::new(),
            needed_by: Vec::new(),
        },
        reach: BTreeMap::new(),
        only_other_channels: 0,
        suppressed: BTreeMap::new(),
        unsubscribed: 0,
    }
}

impl AudiencesPort for Fake {
    fn upload(&self, upload: NewUpload, spooled: &std::path::Path) -> PortResult<UploadDetail> {
        self.called(format!("upload {upload:?}"));
        Ok(upload_detail(upload.name, std::fs::metadata(spooled).unwrap().len()))
    }

    fn uploads(&self, _: &PageRequest) -> PortResult<Page<UploadView>> {
        Ok(Page { items: Vec::new(), next: None })
    }

    fn uploaded(&self, upload: &Ref) -> PortResult<UploadDetail> {
        not_here(&upload.to_string(), Code::AudienceNotFound)
    }

    fn invalid_rows(&self, upload: &Ref) -> PortResult<Option<PathBuf>> {
        not_here(&upload.to_string(), Code::AudienceNotFound)
    }

    fn delete_upload(&self, upload: &Ref) -> PortResult<()> {
        not_here(&upload.to_string(), Code::AudienceNotFound)
    }
}

impl CampaignsPort for Fake {
    fn create_campaign(&self, spec: SpecText) -> PortResult<CampaignView> {
        self.called(format!("create {:?} {}", spec.format, spec.text));
        Ok(campaign_view("spring", json!({})))
    }

    fn check_campaign(&self, _spec: SpecText) -> PortResult<SpecCheck> {
        Ok(SpecCheck { ready: true, ..SpecCheck::default() })
    }

    fn campaigns(&self, _filter: &CampaignFilter, page: &PageRequest) -> PortResult<Page<CampaignSummary>> {
        Ok(Page::cut([campaign_view("spring", Json::Null).summary], page, |c| c.name.clone()))
    }

    fn campaign(&self, campaign: &Ref) -> PortResult<CampaignView> {
        match campaign {
            Ref::Id(1) => Ok(campaign_view("spring", json!({}))),
            Ref::Name(name) if name == "spring" => Ok(campaign_view("spring", json!({}))),
            other => not_here(&format!("campaign {other}"), Code::CampaignNotFound),
        }
    }

    fn patch_campaign(&self, _campaign: &Ref, patch: SpecText) -> PortResult<CampaignView> {
        Ok(campaign_view("spring", json!(patch.text)))
    }

    fn act(&self, campaign: &Ref, action: Action) -> PortResult<ActionDone> {
        if action == Action::Resume {
            let details = json!({"state": "draft", "legal_moves": ["start"]});
            return Err(PortError::new(Code::IllegalMove, "a draft cannot be resumed: start it").with(details));
        }
        self.called(format!("{} {campaign}", action.name()));
        Ok(ActionDone {
            campaign: 1,
            run: Some(1),
            state: "running".into(),
            ledger: Some(ledger()),
            entered: 10,
            in_flight: 0,
            cancelled: Vec::new(),
            schedule: None,
        })
    }

    fn preview(&self, _campaign: &Ref, request: PreviewRequest) -> PortResult<Preview> {
        Ok(Preview { contact: request.contact.unwrap_or_else(|| "first".into()), ..Preview::default() })
    }

    fn test_send(&self, _campaign: &Ref, request: TestSendRequest) -> PortResult<Vec<TestSendResult>> {
        let result = |to| TestSendResult { to, outcome: "accepted".into(), reply: None };
        Ok(request.to.into_iter().map(result).collect())
    }

    fn timeline(&self, _run: &RunRef, bucket_seconds: u32) -> PortResult<TimelineReport> {
        Ok(TimelineReport { bucket_seconds, ..TimelineReport::default() })
    }

    fn compare(&self, deliveries: &[Compared]) -> PortResult<Comparison> {
        self.called(format!("compare {deliveries:?}"));
        Ok(Comparison::default())
    }

    fn reschedule(&self, campaign: &Ref, patch: SpecText) -> PortResult<CampaignView> {
        self.called(format!("reschedule {campaign}"));
        Ok(campaign_view("spring", json!({ "schedule": patch.text })))
    }

    fn move_date(&self, request: MoveRequest) -> PortResult<CampaignView> {
        self.called(format!("move {} of {}", request.date, request.campaign));
        Ok(campaign_view("spring", json!({})))
    }

    fn calendar(&self, from: Option<Time>, to: Option<Time>) -> PortResult<Calendar> {
        Ok(Calendar { from: from.unwrap_or_default(), to: to.unwrap_or_default(), ..Calendar::default() })
    }

    fn graph(&self, campaign: &Ref, format: &str) -> PortResult<GraphText> {
        Ok(GraphText { content_type: "text/plain", text: format!("{campaign} {format}") })
    }

    fn dry_run(&self, campaign: &Ref, request: DryRunRequest) -> PortResult<DryRunView> {
        self.called(format!("dry-run {campaign} {:?}", request.rates.opened));
        Ok(DryRunView {
            campaign: 1,
            at: Time::default(),
            entered: 10,
            rates: request.rates,
            assumptions: Vec::new(),
            nodes: vec![DryRunNode::default()],
            stopped: None,
        })
    }

    fn choose_winner(&self, campaign: &Ref, request: ChooseWinnerRequest) -> PortResult<TestReport> {
        self.called(format!("choose {campaign} {:?}", request.variant));
        Ok(TestReport::default())
    }

    fn audience(&self, _campaign: &Ref) -> PortResult<AudienceView> {
        Ok(AudienceView { matched: 3, final_count: 2, ..AudienceView::default() })
    }

    fn runs(&self, _campaign: &Ref, page: &PageRequest) -> PortResult<Page<RunSummary>> {
        let at = Time::default();
        let run = RunSummary {
            id: 1,
            campaign: 1,
            number: 1,
            state: "running".into(),
            started_at: at,
            finished_at: None,
            ledger: ledger(),
        };
        Ok(Page::cut([run], page, |r| format!("{:010}", r.id)))
    }

    fn report(&self, run: &RunRef) -> PortResult<Report> {
        if *run == RunRef::Run(9) {
            return not_here("the run", Code::RunNotFound);
        }
        Ok(Report {
            campaign: 1,
            name: "spring".into(),
            run: 1,
            state: "running".into(),
            mode: "strict".into(),
            started_at: Time::default(),
            finished_at: None,
            details_removed_at: None,
            ledger: ledger(),
            deliveries: vec![DeliveryReport { ledger: ledger(), ..DeliveryReport::default() }],
            rate_per_second: 0.0,
            eta_seconds: None,
            stall: None,
            audience: None,
            samples: Vec::new(),
            unsubscribe_latency_ms_max: None,
            entered: 10,
            nodes: Vec::new(),
            tests: Vec::new(),
            steps: Vec::new(),
            grid: None,
            launch: None,
            schedule: None,
            linked_run: None,
            upload: None,
            linked_set: None,
            resends: Vec::new(),
            hold_out: None,
        })
    }

    fn run_contacts(&self, _run: &RunRef, set: &str, page: &PageRequest) -> PortResult<Page<RunContact>> {
        let contact = |n: u32| RunContact { contact: format!("{n:06}"), set: set.to_owned(), ..RunContact::default() };
        Ok(Page::cut((0..2_500).map(contact), page, |c| c.contact.clone()))
    }

    fn settle(&self, _run: &RunRef, request: SettleRequest) -> PortResult<Settled> {
        let settled = request.contacts.len() as u64;
        Ok(Settled { settled, not_unknown: Vec::new(), state: "running".into(), ledger: ledger() })
    }
}
