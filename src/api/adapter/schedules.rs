//! Schedules through the port: publication, commands on what is planned, the calendar.

use serde_json::json;

use crate::api::adapter::{Adapter, errors};
use crate::api::errors::Code;
use crate::api::port::{
    Action, Calendar, CalendarEntry, CampaignView, CampaignsPort, LaunchDone, LaunchView, MoveRequest, PortError,
    PortResult, Ref, RunLaunchView, ScheduleView, SpecFormat, SpecText, Time,
};
use crate::campaigns::schedule::fields::TimeText;
use crate::campaigns::schedule::{Launch, ScheduleError};
use crate::campaigns::{self, CampaignSpec, Trigger};
use crate::clock::Timestamp;
use crate::engine::calendar::Entry;
use crate::engine::runs::campaign_state;
use crate::engine::scheduling::Publication;
use crate::engine::{Engine, EngineError};
use crate::ids::{CampaignId, RunId};
use crate::ledger::plans::{Decided, NextLaunch, Outcome, Plan, PlanState};
use crate::ledger::{Run, RunState};
use crate::limits;

fn local_time(launch: &Launch) -> Option<String> {
    launch.local.map(|local| local.to_string())
}

fn launch_view(next: &NextLaunch) -> LaunchView {
    LaunchView {
        planned: next.launch.at.into(),
        effective_start: next.effective.into(),
        local_time: local_time(&next.launch),
    }
}

/// Outcome, reason in a word, reason in words, run.
fn outcome_of(outcome: Outcome) -> (&'static str, Option<String>, Option<String>, Option<u32>) {
    match outcome {
        Outcome::Made(run) => ("made", None, None, Some(run.0)),
        Outcome::Skipped(cause) => ("skipped", Some(cause.name().to_owned()), Some(cause.explain().to_owned()), None),
    }
}

fn done(decided: &Decided) -> LaunchDone {
    let (outcome, reason, message, run) = outcome_of(decided.outcome);
    LaunchDone {
        planned: decided.planned.into(),
        last_planned: (decided.last != decided.planned).then(|| decided.last.into()),
        count: decided.count,
        outcome: outcome.to_owned(),
        reason,
        message,
        run,
        at: decided.at.into(),
    }
}

fn state_of(plan: &Plan) -> &'static str {
    match plan.state {
        PlanState::Active if plan.next.is_none() => "done",
        other => other.name(),
    }
}

/// How a run was launched, if a schedule launched it.
pub(super) fn run_launch(run: &Run) -> Option<RunLaunchView> {
    let made = run.launch.as_ref()?;
    Some(RunLaunchView {
        planned: made.launch.at.into(),
        effective_start: made.effective.into(),
        local_time: local_time(&made.launch),
        late_seconds: run.started_at.saturating_since(made.effective).as_secs_f64(),
    })
}

/// A schedule that cannot be published, each fault with its code.
pub(super) fn unpublished(faults: &[ScheduleError]) -> PortError {
    let list: Vec<_> = faults
        .iter()
        .map(
            |fault| json!({"code": fault.code(), "path": "schedule", "message": fault.to_string(), "fix": fault.fix()}),
        )
        .collect();
    let first = faults.first().map_or(String::new(), |fault| format!(": {fault}"));
    let message = format!("the schedule can't be published{first}");
    PortError::new(Code::InvalidSchedule, message).with(json!({"problems": list}))
}

/// What is planned of a campaign and what became of it, if it was published with a schedule.
pub(super) fn schedule_view(engine: &Engine, id: CampaignId) -> Option<ScheduleView> {
    let plan = engine.book.read().plans.get(&id).cloned()?;
    let upcoming = engine.upcoming(id, limits::UPCOMING_SHOWN);
    Some(ScheduleView {
        state: state_of(&plan).to_owned(),
        reason: Some(plan.reason.clone()).filter(|reason| !reason.is_empty()),
        version: plan.version,
        published_at: plan.published_at.into(),
        next: plan.next.as_ref().map(launch_view),
        upcoming: upcoming.iter().map(launch_view).collect(),
        made: plan.made,
        skipped: plan.skipped,
        history: plan.history.iter().rev().map(done).collect(),
    })
}

impl Adapter {
    pub(super) fn schedule_view(&self, id: CampaignId) -> Option<ScheduleView> {
        schedule_view(&self.engine, id)
    }

    /// Why a campaign has no run, in words.
    pub(super) fn no_run_yet(&self, campaign: &Ref, id: CampaignId) -> PortError {
        let next = self.engine.book.read().plans.get(&id).and_then(|plan| plan.next);
        let message = match next {
            Some(next) => {
                format!("campaign {campaign} has not been launched yet: it is scheduled for {}", next.effective)
            }
            None => format!("campaign {campaign} has not been started yet"),
        };
        PortError::new(Code::RunNotFound, message)
    }

    /// Publishes a complete campaign: it runs, or is planned. Answers the run, if there is one.
    pub(super) fn begin(&self, id: CampaignId) -> PortResult<Option<RunId>> {
        let problems = self.engine.problems(&self.spec(id)?, Some(id));
        let blocking: Vec<_> = problems.into_iter().filter(|p| p.blocks()).collect();
        let is_draft = campaign_state(&self.engine.book.read(), id) == Some(campaigns::State::Draft);
        if is_draft && !blocking.is_empty() {
            return Err(errors::incomplete(&blocking));
        }
        match self.engine.publish(id)? {
            Publication::Started(run) => Ok(Some(run)),
            Publication::Planned(_) => Ok(None),
        }
    }

    /// Commands what is planned of a campaign, and every run of it that is under way. Answers the latest run.
    pub(super) fn command_all(&self, id: CampaignId, action: Action) -> PortResult<Option<RunId>> {
        let (trigger, from): (Trigger, &[RunState]) = match action {
            Action::Pause => (Trigger::Pause, &[RunState::Running]),
            Action::Resume => (Trigger::Resume, &[RunState::Paused]),
            Action::Unschedule => (Trigger::Unschedule, &[]),
            Action::Start | Action::Archive | Action::Stop => (Trigger::Stop, &[RunState::Running, RunState::Paused]),
        };
        // First the plan: nothing is launched behind the command's back.
        let mut done = self.engine.command_plan(id, trigger)?;
        let (runs, latest) = {
            let state = self.engine.book.read();
            let of_campaign = state.runs.values().filter(|run| run.campaign == id && from.contains(&run.state));
            (of_campaign.map(|run| run.id).collect::<Vec<_>>(), state.latest_run(id).map(|run| run.id))
        };
        for run in runs {
            self.engine.command(run, trigger).map_err(|error| self.as_of_sequence(id, error))?;
            done = true;
        }
        if !done {
            let stands = campaign_state(&self.engine.book.read(), id).unwrap_or(campaigns::State::Draft);
            let refused = campaigns::next(stands, trigger).err();
            return Err(refused.map_or_else(
                || PortError::new(Code::RunNotFound, "nothing of the campaign is under way or planned"),
                |refused| self.as_of_sequence(id, EngineError::from(refused)),
            ));
        }
        Ok(latest)
    }

    /// Changes the schedule alone: a merge patch of the spec's `[schedule]`.
    pub(super) fn rescheduled(&self, campaign: &Ref, patch: &SpecText) -> PortResult<CampaignView> {
        let id = self.campaign_id(campaign)?;
        if self.engine.is_sequence(id) {
            let message = "a sequence has no schedule: change the date of a step in a working copy (edit, publish)";
            return Err(PortError::new(Code::InvalidSchedule, message));
        }
        let text = match patch.format {
            SpecFormat::Json => {
                let fields: serde_json::Value = serde_json::from_str(&patch.text).map_err(|error| {
                    PortError::new(Code::InvalidSpec, format!("the schedule can't be read: {error}"))
                })?;
                json!({ "schedule": fields }).to_string()
            }
            SpecFormat::Toml => format!("[schedule]\n{}", patch.text),
        };
        let spec = self.spec(id)?;
        let format = super::specs::format(patch.format);
        let patched = campaigns::merge_patch(&spec, &text, format).map_err(|e| super::specs::invalid(&e))?;
        patched.schedule.resolve_from(self.engine.ahead_of(Some(id))).map_err(|faults| unpublished(&faults))?;
        self.save(Some(id), &patched, None)
    }

    /// Changes a date of the calendar under the rules of what it dates: a draft is changed, what is scheduled is published
    /// anew, a step of a sequence goes through a working copy and the confirmation of its publication.
    pub(super) fn moved(&self, request: &MoveRequest) -> PortResult<CampaignView> {
        let id = self.campaign_id(&Ref::parse(&request.campaign))?;
        if self.engine.is_sequence(id) {
            return self.moved_step(id, request);
        }
        let spec = self.spec(id)?;
        let changed = with_date(&spec, &request.date, &request.at)?;
        if request.date.starts_with("schedule.") {
            changed.schedule.resolve_from(self.engine.ahead_of(Some(id))).map_err(|faults| unpublished(&faults))?;
        }
        // A part's date is looked at as its start would be: refused while it could not be published.
        let wrong: Vec<_> = self.engine.problems(&changed, Some(id)).into_iter().filter(|p| p.blocks()).collect();
        let table = request.date.rsplit_once('.').map_or("", |(table, _)| table);
        if let Some(problem) = wrong.iter().find(|p| p.path.starts_with(table)) {
            return Err(errors::incomplete(std::slice::from_ref(problem)));
        }
        self.save(Some(id), &changed, None)
    }

    fn moved_step(&self, id: CampaignId, request: &MoveRequest) -> PortResult<CampaignView> {
        let published = self.engine.book.read().latest_run(id).is_some();
        if !published {
            let spec = with_step(&self.spec(id)?, &request.date, &request.at)?;
            return self.save(Some(id), &spec, None);
        }
        if self.engine.copy_is_changed(id) {
            let message =
                "a working copy is open and says more than what is published: change the date in it, and publish it";
            return Err(PortError::new(Code::UseEdit, message));
        }
        self.engine.open_copy(id, false)?;
        let copy = with_step(&self.engine.copy_spec(id)?, &request.date, &request.at)?;
        self.engine.save_copy(id, &copy)?;
        self.engine.publish_sequence(id, request.confirm)?;
        self.campaign(&Ref::Id(id.0))
    }

    pub(super) fn calendar_of(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> PortResult<Calendar> {
        let from = from.unwrap_or_else(|| self.engine.book.now());
        let to = to.unwrap_or_else(|| from.plus(limits::CALENDAR_DEFAULT));
        if to <= from {
            let message = format!("to, {to}, is not after from, {from}");
            return Err(PortError::new(Code::InvalidParameter, message));
        }
        let agenda = self.engine.calendar(from, to, limits::CALENDAR_LAUNCHES_MAX);
        let items = agenda.entries.iter().map(entry_view).collect();
        Ok(Calendar { from: Time(from), to: Time(to), items, more: agenda.more })
    }
}

fn no_such_date(date: &str) -> PortError {
    let message = format!("the campaign has no date {date:?}: name one as the calendar lists it under date");
    PortError::new(Code::InvalidParameter, message)
}

/// A spec with another text at the path of one of its dates.
fn with_date(spec: &CampaignSpec, path: &str, at: &str) -> PortResult<CampaignSpec> {
    let is_date = ["schedule.at", "schedule.dates.", "cells.", "variants."].iter().any(|known| path.starts_with(known));
    let mut value = spec.to_value();
    let pointer = format!("/{}", path.replace('.', "/"));
    match value.pointer_mut(&pointer).filter(|found| is_date && found.is_string()) {
        Some(found) => *found = at.into(),
        None => return Err(no_such_date(path)),
    }
    serde_json::from_value(value).map_err(|error| PortError::new(Code::InvalidSpec, error.to_string()))
}

/// A sequence with another date of a step.
fn with_step(spec: &CampaignSpec, step: &str, at: &str) -> PortResult<CampaignSpec> {
    let mut spec = spec.clone();
    let found = spec.steps.iter_mut().find(|own| own.id.as_deref() == Some(step));
    found.ok_or_else(|| no_such_date(step))?.at = Some(TimeText(at.to_owned()));
    Ok(spec)
}

fn entry_view(entry: &Entry) -> CalendarEntry {
    let (outcome, reason, _, run) = entry.outcome.map_or(("planned", None, None, None), outcome_of);
    CalendarEntry {
        campaign: entry.campaign.0,
        name: entry.name.clone(),
        step: entry.step.clone(),
        part: entry.part.clone(),
        date: entry.date.clone(),
        state: entry.state.name().to_owned(),
        planned: entry.launch.launch.at.into(),
        effective_start: entry.launch.effective.into(),
        local_time: local_time(&entry.launch.launch),
        outcome: outcome.to_owned(),
        reason,
        run,
    }
}
