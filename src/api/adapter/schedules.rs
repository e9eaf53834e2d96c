//! Schedules through the port: publication, commands on what is planned, the calendar.

use serde_json::json;

use crate::api::adapter::{Adapter, errors};
use crate::api::errors::Code;
use crate::api::port::{
    Action, Calendar, CalendarEntry, CampaignView, LaunchDone, LaunchView, PortError, PortResult, Ref, RunLaunchView,
    ScheduleView, SpecFormat, SpecText, Time,
};
use crate::campaigns::schedule::{Launch, ScheduleError};
use crate::campaigns::{self, Trigger};
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
            Action::Start | Action::Stop => (Trigger::Stop, &[RunState::Running, RunState::Paused]),
        };
        // First the plan: nothing is launched behind the command's back.
        let mut done = self.engine.command_plan(id, trigger)?;
        let (runs, latest) = {
            let state = self.engine.book.read();
            let of_campaign = state.runs.values().filter(|run| run.campaign == id && from.contains(&run.state));
            (of_campaign.map(|run| run.id).collect::<Vec<_>>(), state.latest_run(id).map(|run| run.id))
        };
        for run in runs {
            self.engine.command(run, trigger)?;
            done = true;
        }
        if !done {
            let stands = campaign_state(&self.engine.book.read(), id).unwrap_or(campaigns::State::Draft);
            let refused = campaigns::next(stands, trigger).err();
            return Err(refused.map_or_else(
                || PortError::new(Code::RunNotFound, "nothing of the campaign is under way or planned"),
                |refused| EngineError::from(refused).into(),
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
        let format = super::campaigns::format(patch.format);
        let patched = campaigns::merge_patch(&spec, &text, format).map_err(|e| super::campaigns::invalid(&e))?;
        patched.schedule.resolve_from(self.engine.ahead_of(Some(id))).map_err(|faults| unpublished(&faults))?;
        self.save(Some(id), &patched, None)
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

fn entry_view(entry: &Entry) -> CalendarEntry {
    let (outcome, reason, _, run) = entry.outcome.map_or(("planned", None, None, None), outcome_of);
    CalendarEntry {
        campaign: entry.campaign.0,
        name: entry.name.clone(),
        step: entry.step.clone(),
        state: entry.state.name().to_owned(),
        planned: entry.launch.launch.at.into(),
        effective_start: entry.launch.effective.into(),
        local_time: local_time(&entry.launch.launch),
        outcome: outcome.to_owned(),
        reason,
        run,
    }
}
