//! Campaigns and runs through the port.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::adapter::specs::{format, invalid, problem_view, readable_patch};
use crate::api::adapter::{Adapter, errors, flows, reports, sequences};
use crate::api::errors::Code;
use crate::api::port::{
    Action, ActionDone, AudienceView, Calendar, CampaignFilter, CampaignSummary, CampaignView, CampaignsPort,
    ChooseWinnerRequest, Compared, Comparison, DryRunRequest, DryRunView, GraphText, HeaderView, MoveRequest, Page,
    PageRequest, PortError, PortResult, Preview, PreviewRequest, Ref, Report, RunContact, RunRef, RunSummary, SettleAs,
    SettleRequest, Settled, SpecCheck, SpecText, TestReport, TestSendRequest, TestSendResult, Time, TimelineReport,
};
use crate::campaigns::sequence::switched;
use crate::campaigns::{self, CampaignSpec, Compiled, Kind, Severity, Trigger, parse};
use crate::content::{self, NOBODY, Recipient, Renderer};
use crate::engine::names::find;
use crate::engine::one_shot;
use crate::engine::runs::{campaign_state, state_of};
use crate::ids::{AttributeId, CampaignId, ContactRow, MessageId, RowSpace, RunId};
use crate::ledger::{RunState, State};
use crate::limits::ACT_WAIT;

impl Adapter {
    pub(super) fn campaign_id(&self, reference: &Ref) -> PortResult<CampaignId> {
        let state = self.engine.book.read();
        let found = match reference {
            Ref::Id(id) => Some(CampaignId(*id)).filter(|id| state.campaigns.contains_key(id)),
            Ref::Name(name) => find(&state, name),
        };
        found.ok_or_else(|| PortError::new(Code::CampaignNotFound, format!("there is no campaign {reference}")))
    }

    pub(super) fn run_id(&self, reference: &RunRef) -> PortResult<RunId> {
        match reference {
            RunRef::Run(id) => {
                let known = self.engine.book.read().runs.contains_key(&RunId(*id));
                known
                    .then_some(RunId(*id))
                    .ok_or_else(|| PortError::new(Code::RunNotFound, format!("there is no run {id}")))
            }
            RunRef::LatestOf(campaign) => {
                let id = self.campaign_id(campaign)?;
                let latest = self.engine.book.read().latest_run(id).map(|run| run.id);
                latest.ok_or_else(|| self.no_run_yet(campaign, id))
            }
        }
    }

    pub(super) fn spec(&self, id: CampaignId) -> PortResult<CampaignSpec> {
        let state = self.engine.book.read();
        let missing = || PortError::new(Code::CampaignNotFound, format!("there is no {id}"));
        let (_, text) = state.campaigns.get(&id).and_then(|c| c.newest()).ok_or_else(missing)?;
        parse::from_stored(text).map_err(|e| invalid(&e))
    }

    fn view(&self, id: CampaignId) -> PortResult<CampaignView> {
        let spec = self.spec(id)?;
        let problems = self.engine.problems(&spec, Some(id));
        Ok(self.view_of(id, &spec, &problems))
    }

    fn view_of(&self, id: CampaignId, spec: &CampaignSpec, problems: &[campaigns::Problem]) -> CampaignView {
        let sequence = match spec.kind() {
            Kind::Sequence => Some(self.sequence_view(id, spec)),
            _ => self.edit_view(id, spec),
        };
        let schedule = self.schedule_view(id);
        let state = self.engine.book.read();
        let summary = summary(&state, id, spec);
        let stands = campaign_state(&state, id).unwrap_or(campaigns::State::Draft);
        let is_other = |t: &Trigger| spec.kind() != Kind::Sequence || sequences::is_move_of_sequence(*t);
        let moves = stands.legal().filter(|t| t.is_offered() && is_other(t));
        CampaignView {
            summary,
            spec: spec.to_value(),
            problems: problems.iter().filter(|p| p.blocks()).map(problem_view).collect(),
            warnings: problems.iter().filter(|p| !p.blocks()).map(problem_view).collect(),
            schedule,
            legal_moves: moves.map(|t| t.name().to_owned()).collect(),
            sequence,
        }
    }

    /// The campaign that the same request has made already: its answer was lost.
    fn repeated(&self, id: CampaignId, request: Option<&str>) -> bool {
        let state = self.engine.book.read();
        let made = state.campaigns.get(&id).and_then(|campaign| campaign.newest());
        request.is_some() && made.and_then(|(_, text)| parse::request_of(text)).as_deref() == request
    }

    pub(super) fn save(
        &self,
        id: Option<CampaignId>,
        spec: &CampaignSpec,
        request: Option<&str>,
    ) -> PortResult<CampaignView> {
        let named = spec.name.as_deref().filter(|name| !name.trim().is_empty());
        let Some(name) = named else {
            return Err(PortError::new(Code::InvalidSpec, "the campaign has no name: say name = \"…\""));
        };
        let taken = find(&self.engine.book.read(), name);
        if let Some(made) = taken.filter(|other| id.is_none() && self.repeated(*other, request)) {
            return self.view(made);
        }
        if taken.is_some_and(|other| Some(other) != id) {
            return Err(PortError::new(
                Code::CampaignExists,
                format!("a campaign named {name:?} exists; names are unique"),
            ));
        }
        let problems = self.savable(spec, id)?;
        let spec = &one_shot::pinned(&self.engine.book.read(), spec);
        let stored = self.stored(id, spec, request);
        let id = match id {
            None => self.engine.save_campaign(None, &stored)?,
            Some(id) => {
                self.complete_if_published(id, spec)?;
                self.engine.edit_campaign(id, spec, &stored)?;
                id
            }
        };
        let mut view = self.view_of(id, &self.spec(id)?, &problems);
        if view.problems.is_empty() {
            view.warnings.extend(self.empty_audience(spec).as_ref().map(problem_view));
        }
        Ok(view)
    }

    /// What is published can only be replaced by what could be started.
    fn complete_if_published(&self, id: CampaignId, spec: &CampaignSpec) -> PortResult<()> {
        if !self.engine.is_published(&self.engine.book.read(), id) {
            return Ok(());
        }
        let problems = self.engine.problems(spec, Some(id)).into_iter().filter(campaigns::Problem::blocks);
        let blocking: Vec<_> = problems.collect();
        if blocking.is_empty() { Ok(()) } else { Err(errors::incomplete(&blocking)) }
    }

    /// The message of a campaign and the contact to show it for.
    fn rendered(&self, id: CampaignId, contact: Option<&str>) -> PortResult<(content::Preview, String, String)> {
        let (_, compiled) = self.engine.compiled(id, None)?;
        let row = self.contact_of(&compiled, contact)?;
        let space = self.engine.space_of(&compiled)?;
        let reader = self.engine.store_of(space)?.reader().map_err(crate::engine::EngineError::from)?;
        let record = reader.record(row).map_err(crate::engine::EngineError::from)?;
        let Some(record) = record else {
            return Err(PortError::new(Code::ContactNotFound, "the contact was erased meanwhile"));
        };
        let spec = self.engine.with_saved(&self.spec(id)?)?;
        let message = campaigns::languages::shown_to(&spec, &compiled, record.text(AttributeId::LANGUAGE));
        let message = self.engine.message(&compiled, message)?;
        let mut renderer = Renderer::new(Arc::clone(&message), self.engine.tokens.clone());
        let who =
            Recipient { space, run: RunId(0), message: MessageId(0), row: NOBODY, sent_at: self.engine.book.now() };
        let preview = content::preview(&mut renderer, &record, &who).map_err(|skip| {
            let details = json!({"reason": skip.reason, "contact": record.key()});
            PortError::new(Code::RenderFailed, skip.sample).with(details)
        })?;
        let address = record.address(crate::ids::Channel::Email).unwrap_or_default().to_owned();
        Ok((preview, record.key().to_owned(), address))
    }

    fn contact_of(&self, compiled: &Compiled, key: Option<&str>) -> PortResult<ContactRow> {
        if let Some(key) = key {
            let store = self.engine.store_of(self.engine.space_of(compiled)?)?;
            let reader = store.reader().map_err(crate::engine::EngineError::from)?;
            let row = reader.row_of_key(key).map_err(crate::engine::EngineError::from)?;
            return row.ok_or_else(|| PortError::new(Code::ContactNotFound, format!("no contact has the key {key:?}")));
        }
        let matched = match self.engine.space_of(compiled)? {
            RowSpace::BASE => self.engine.matched(compiled)?,
            // A file has rows that are skipped as a matter of course: the second of one address, one without any.
            _ => self.engine.eligible(compiled)?,
        };
        let empty = "the audience is empty: name a contact to preview with";
        matched.min().map(ContactRow).ok_or_else(|| PortError::new(Code::ContactNotFound, empty))
    }

    /// Waits until nothing of a campaign is claimed, or until the wait is over.
    fn wait_drained(&self, campaign: CampaignId, until: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + ACT_WAIT;
        while Instant::now() < deadline {
            if until(&self.engine.book.read()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        tracing::debug!(%campaign, "answers of messages on the wire are still awaited");
    }
}

/// Adds what is not there yet.
fn add_new(list: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for text in more {
        if !list.contains(&text) {
            list.push(text);
        }
    }
}

fn summary(state: &State, id: CampaignId, spec: &CampaignSpec) -> CampaignSummary {
    let campaign = state.campaigns.get(&id);
    let run = state.latest_run(id);
    CampaignSummary {
        id: id.0,
        name: spec.name.clone().unwrap_or_default(),
        kind: spec.kind().name().to_owned(),
        state: campaign_state(state, id).map_or("draft", |s| s.name()).to_owned(),
        active: campaign_state(state, id).is_some_and(sequences::is_active),
        version: campaign.and_then(|c| c.newest()).map_or(0, |(version, _)| version),
        created_at: campaign.map(|c| c.created_at).unwrap_or_default().into(),
        updated_at: campaign.map(|c| c.saved_at).unwrap_or_default().into(),
        run: run.map(|run| run.id.0),
        ledger: run.map(reports::run_ledger),
        reason: run.map(|run| run.reason.clone()).filter(|reason| !reason.is_empty()),
        next_start: state
            .plans
            .get(&id)
            .filter(|plan| plan.is_scheduled())
            .and_then(|p| p.next)
            .map(|n| n.effective.into()),
    }
}

impl CampaignsPort for Adapter {
    fn create_campaign(&self, spec: SpecText) -> PortResult<CampaignView> {
        let parsed = self.readable(&spec)?;
        self.save(None, &parsed, spec.request.as_deref())
    }

    fn check_campaign(&self, spec: SpecText) -> PortResult<SpecCheck> {
        let reading = campaigns::read(&spec.text, format(spec.format));
        let Some(parsed) = reading.spec.clone() else {
            let problems = reading.faults.iter().map(problem_view).collect();
            return Ok(SpecCheck { ready: false, problems, ..SpecCheck::default() });
        };
        let own = parsed.name.as_deref().and_then(|name| find(&self.engine.book.read(), name));
        let problems = reading.with(self.engine.problems(&parsed, own));
        let (errors, mut warnings): (Vec<_>, Vec<_>) = problems.iter().partition(|p| p.severity == Severity::Error);
        let parsed = self.engine.with_saved(&parsed).unwrap_or(parsed);
        let nobody = errors.is_empty().then(|| self.empty_audience(&parsed)).flatten();
        warnings.extend(&nobody);
        let grid = if errors.is_empty() && nobody.is_none() { self.grid_warnings(&parsed) } else { Vec::new() };
        warnings.extend(&grid);
        let mut check = SpecCheck {
            ready: errors.is_empty(),
            problems: errors.into_iter().map(problem_view).collect(),
            warnings: warnings.into_iter().map(problem_view).collect(),
            ..SpecCheck::default()
        };
        let context = self.engine.compile_context(parsed.name.as_deref().unwrap_or_default());
        let context = content::CompileContext { cell: campaigns::kinds::grid::examples(&parsed), ..context };
        for fields in campaigns::kinds::flow::contents(&parsed) {
            let schema = self.engine.schema_of(parsed.audience.upload.as_deref());
            let made = schema.and_then(|schema| Ok((self.engine.compile_with(&fields, &context, &schema)?, schema)));
            let Ok((message, schema)) = made else { continue };
            add_new(&mut check.tracked_links, message.links().iter().map(|link| link.url.clone()));
            let untracked = message.untracked().iter().map(|link| format!("{} ({})", link.url, link.reason));
            add_new(&mut check.untracked_links, untracked);
            let names = message.used_attributes().iter().filter_map(|id| schema.by_id(*id));
            add_new(&mut check.used_attributes, names.map(|attribute| attribute.name.clone()));
        }
        Ok(check)
    }

    fn campaigns(&self, filter: &CampaignFilter, page: &PageRequest) -> PortResult<Page<CampaignSummary>> {
        let state = self.engine.book.read();
        let summaries = state.campaigns.iter().filter_map(|(id, campaign)| {
            let spec = campaign.newest().and_then(|(_, text)| parse::from_stored(text).ok())?;
            let summary = summary(&state, *id, &spec);
            filter.state.as_ref().is_none_or(|wanted| *wanted == summary.state).then_some(summary)
        });
        Ok(Page::cut(summaries, page, |summary| format!("{:010}", summary.id)))
    }

    fn campaign(&self, campaign: &Ref) -> PortResult<CampaignView> {
        self.view(self.campaign_id(campaign)?)
    }

    fn patch_campaign(&self, campaign: &Ref, patch: SpecText) -> PortResult<CampaignView> {
        let id = self.campaign_id(campaign)?;
        if self.engine.is_edited_live(id) {
            let copy = self.engine.copy_spec(id)?;
            readable_patch(&patch)?;
            let patched = campaigns::merge_patch(&copy, &patch.text, format(patch.format)).map_err(|e| invalid(&e))?;
            let patched = if self.engine.is_sequence(id) {
                self.engine.extended(id, switched(&copy, patched))?
            } else {
                one_shot::pinned(&self.engine.book.read(), &patched)
            };
            self.engine.save_copy(id, &patched)?;
            return self.view(id);
        }
        let spec = self.spec(id)?;
        readable_patch(&patch)?;
        let patched = campaigns::merge_patch(&spec, &patch.text, format(patch.format)).map_err(|e| invalid(&e))?;
        self.save(Some(id), &switched(&spec, patched), None)
    }

    fn act(&self, campaign: &Ref, action: Action) -> PortResult<ActionDone> {
        let id = self.campaign_id(campaign)?;
        self.refuse_of_sequence(id, action)?;
        let cancelled = if action == Action::Stop { self.to_be_cancelled(id) } else { Vec::new() };
        let run = match action {
            Action::Start => self.begin(id)?,
            Action::Archive => {
                self.engine.archive(id).map_err(|error| self.as_of_sequence(id, error))?;
                self.engine.book.read().latest_run(id).map(|run| run.id)
            }
            Action::Unschedule | Action::Pause | Action::Resume | Action::Stop => self.command_all(id, action)?,
        };
        let of_campaign = |state: &State, count: &dyn Fn(&crate::ledger::Run) -> u64| {
            state.runs.values().filter(|run| run.campaign == id).map(count).sum::<u64>()
        };
        let claimed = |state: &State| of_campaign(state, &|run| run.counts().claimed);
        match action {
            Action::Pause => self.wait_drained(id, |state| claimed(state) == 0),
            Action::Stop => {
                let stopping = |run: &crate::ledger::Run| u64::from(run.state == RunState::Stopping);
                self.wait_drained(id, |state| of_campaign(state, &stopping) == 0);
            }
            Action::Start | Action::Unschedule | Action::Resume | Action::Archive => {}
        }
        let schedule = self.schedule_view(id);
        let cancelled = self.cancelled(id, cancelled);
        let state = self.engine.book.read();
        let ledger = run.and_then(|run| state.runs.get(&run)).map(reports::run_ledger);
        Ok(ActionDone {
            campaign: id.0,
            run: run.map(|run| run.0),
            state: campaign_state(&state, id).map_or("draft", |s| s.name()).to_owned(),
            ledger,
            entered: run.and_then(|run| state.runs.get(&run)).map_or(0, flows::entered),
            in_flight: claimed(&state),
            cancelled,
            schedule,
        })
    }

    fn reschedule(&self, campaign: &Ref, patch: SpecText) -> PortResult<CampaignView> {
        self.rescheduled(campaign, &patch)
    }

    fn move_date(&self, request: MoveRequest) -> PortResult<CampaignView> {
        self.moved(&request)
    }

    fn calendar(&self, from: Option<Time>, to: Option<Time>) -> PortResult<Calendar> {
        self.calendar_of(from.map(|from| from.0), to.map(|to| to.0))
    }

    fn preview(&self, campaign: &Ref, request: PreviewRequest) -> PortResult<Preview> {
        let id = self.campaign_id(campaign)?;
        let (preview, contact, to) = self.rendered(id, request.contact.as_deref())?;
        let header =
            |name: &str| preview.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        Ok(Preview {
            contact,
            from: header("From").unwrap_or_default(),
            to,
            subject: preview.subject.clone(),
            html: preview.html.clone(),
            text: Some(preview.text.clone()),
            headers: preview.headers.into_iter().map(|(name, value)| HeaderView { name, value }).collect(),
            missing: Vec::new(),
        })
    }

    fn test_send(&self, campaign: &Ref, request: TestSendRequest) -> PortResult<Vec<TestSendResult>> {
        let id = self.campaign_id(campaign)?;
        let (_, compiled) = self.engine.compiled(id, None)?;
        let row = self.contact_of(&compiled, request.contact.as_deref())?;
        let spec = self.engine.with_saved(&self.spec(id)?)?;
        let results = self.engine.test_send(&spec, &compiled, row, &request.to)?;
        Ok(results
            .into_iter()
            .map(|(to, outcome, reply)| TestSendResult { to, outcome: outcome.to_owned(), reply })
            .collect())
    }

    fn timeline(&self, run: &RunRef, bucket_seconds: u32) -> PortResult<TimelineReport> {
        self.over_time(run, bucket_seconds)
    }

    fn compare(&self, deliveries: &[Compared]) -> PortResult<Comparison> {
        self.side_by_side(deliveries)
    }

    fn graph(&self, campaign: &Ref, format: &str) -> PortResult<GraphText> {
        self.graph_text(campaign, format)
    }

    fn dry_run(&self, campaign: &Ref, request: DryRunRequest) -> PortResult<DryRunView> {
        self.forecast(campaign, &request)
    }

    fn choose_winner(&self, campaign: &Ref, request: ChooseWinnerRequest) -> PortResult<TestReport> {
        self.chosen(campaign, &request)
    }

    fn audience(&self, campaign: &Ref) -> PortResult<AudienceView> {
        let id = self.campaign_id(campaign)?;
        let began = Instant::now();
        let (_, compiled) = self.engine.compiled(id, None)?;
        let summary = self.engine.audience(&compiled)?;
        let channel = compiled.deliveries.first().map_or(crate::ids::Channel::Email, |plan| plan.channel);
        let connector = compiled.messages.first().map(|message| message.connector.clone());
        let mut view = reports::audience_view(channel, connector, &summary);
        self.show_grid(&self.spec(id)?, &mut view);
        view.took_ms = began.elapsed().as_secs_f64() * 1_000.0;
        Ok(view)
    }

    fn runs(&self, campaign: &Ref, page: &PageRequest) -> PortResult<Page<RunSummary>> {
        let id = self.campaign_id(campaign)?;
        let state = self.engine.book.read();
        let runs = state.runs.values().filter(|run| run.campaign == id).zip(1u32..);
        let summaries = runs.map(|(run, number)| RunSummary {
            id: run.id.0,
            campaign: id.0,
            number,
            state: state_of(run).name().to_owned(),
            started_at: run.started_at.into(),
            finished_at: run.ended_at.map(Into::into),
            ledger: reports::run_ledger(run),
        });
        Ok(Page::cut(summaries, page, |summary| format!("{:010}", summary.id)))
    }

    fn report(&self, run: &RunRef) -> PortResult<Report> {
        let id = self.run_id(run)?;
        reports::report(&self.engine, id)
    }

    fn run_contacts(&self, run: &RunRef, set: &str, page: &PageRequest) -> PortResult<Page<RunContact>> {
        let id = self.run_id(run)?;
        reports::contacts(&self.engine, id, set, page)
    }

    fn settle(&self, run: &RunRef, request: SettleRequest) -> PortResult<Settled> {
        if request.all != request.contacts.is_empty() {
            let message = "say either \"all\": true or a list of contacts";
            return Err(PortError::new(Code::InvalidSettle, message));
        }
        let id = self.run_id(run)?;
        self.engine.must_know_details(id)?;
        let mut rows = Vec::new();
        let mut not_unknown = Vec::new();
        let store = self.engine.store_of(self.engine.space_of_run(id))?;
        let reader = store.reader().map_err(crate::engine::EngineError::from)?;
        for key in &request.contacts {
            let row = reader.row_of_key(key).map_err(crate::engine::EngineError::from)?;
            let state = self.engine.book.read();
            let is_unknown = |row: &ContactRow| {
                state.runs.get(&id).is_some_and(|run| run.deliveries.iter().any(|d| d.unknown.contains(row.0)))
            };
            match row.filter(is_unknown) {
                Some(row) => rows.push(row),
                None => not_unknown.push(key.clone()),
            }
        }
        let wanted = if request.all { None } else { Some(rows.as_slice()) };
        let settled = self.engine.settle(id, wanted, request.settle_as == SettleAs::Pending)?;
        not_unknown.truncate(1_000);
        let state = self.engine.book.read();
        let run = state.runs.get(&id);
        Ok(Settled {
            settled,
            not_unknown,
            state: run.map_or("", |run| state_of(run).name()).to_owned(),
            ledger: run.map(reports::run_ledger).unwrap_or_default(),
        })
    }
}
