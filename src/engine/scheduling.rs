//! Published campaigns and their launches: what is planned, what is made when its time has come, what a person changes.
//!
//! The thread that looks at flows looks at schedules first. What is to be done with a launch follows from the plan and the
//! clock alone ([`launching`]); the run that a launch begins and the end of the launch are one fact, so that a kill at any
//! moment makes it once or leaves it ahead. A campaign that cannot be launched waits for a person, with the reason.
//!
//! Owns nothing: plans are in the state, schedules in the specs of the versions that are published.

use std::time::Duration;

use crate::actors::figures;
use crate::actors::launching::{self, Step, planned};
use crate::campaigns::schedule::fields::Ahead;
use crate::campaigns::schedule::{Schedule, ScheduleError, ScheduleFields};
use crate::campaigns::{CampaignSpec, Trigger, lifecycle, parse};
use crate::engine::messages::Pinned;
use crate::engine::runs::{Prepared, campaign_state};
use crate::engine::{Engine, EngineError};
use crate::ids::{CampaignId, RunId};
use crate::journal::Want;
use crate::ledger::plans::{Launched, NextLaunch, Plan, PlanMoved, PlanState, Published, RunLaunch};
use crate::ledger::{Fact, State};

/// What a publication led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Publication {
    /// It had no schedule, and runs.
    Started(RunId),
    Planned(NextLaunch),
}

impl Engine {
    /// How long after a publication a dated start begins at the earliest.
    pub fn safety(&self) -> Duration {
        self.options.publish_grace
    }

    /// Publishes a campaign's newest version: starts it now, or plans its first launch. Durable when it returns.
    pub fn publish(&self, id: CampaignId) -> Result<Publication, EngineError> {
        let (_, spec) = self.spec_of(id, None)?;
        if !spec.schedule.is_planned() {
            return self.start(id).map(Publication::Started);
        }
        let stands = campaign_state(&self.book.read(), id).ok_or(EngineError::NoCampaign { id })?;
        lifecycle::next(stands, Trigger::Schedule)?;
        self.pin_upload(id)?;
        let Pinned { version, spec, texts } = self.pinned(id)?;
        let texts = texts.as_ref().map(|(text, draft)| (text.as_str(), Some(draft.as_str())));
        self.publish_version(id, version, texts, &spec.schedule).map(Publication::Planned)
    }

    /// Publishes a version of a campaign with a schedule: its next launch is planned, [`Engine::safety`] from now at the
    /// earliest, and each launch begins a run of this version. `texts` is the stored spec, if the version is new, with
    /// the draft that it is again when it is taken back, if that is another. Replaces
    /// what was published before; launches that were made or skipped stay so.
    pub fn publish_version(
        &self,
        id: CampaignId,
        version: u32,
        texts: Option<(&str, Option<&str>)>,
        schedule: &ScheduleFields,
    ) -> Result<NextLaunch, EngineError> {
        let mut next = None;
        self.book.commit_durable_by::<EngineError>(|state| {
            let stands = campaign_state(state, id).ok_or(EngineError::NoCampaign { id })?;
            let open = state.plans.get(&id).filter(|plan| plan.is_open());
            if open.is_none() || texts.is_none() {
                lifecycle::next(stands, Trigger::Schedule)?;
            }
            let now = self.book.now();
            let launch = launching::first(schedule, open, now).map_err(EngineError::Schedule)?;
            let planned = planned(launch, now, self.safety());
            next = Some(planned);
            let spec = texts.map(|(text, _)| text.to_owned());
            let draft = texts.and_then(|(_, draft)| draft).map(str::to_owned);
            Ok(Some(Fact::Published(Published { campaign: id, version, spec, next: planned, at: now, draft })))
        })?;
        next.ok_or(EngineError::NoCampaign { id })
    }

    /// Saves a changed spec. A draft is saved; what is scheduled is published anew with it, under the same rules as the first
    /// time, while runs that are under way keep their version. Durable when it returns.
    pub fn edit_campaign(&self, id: CampaignId, spec: &CampaignSpec, text: &str) -> Result<(), EngineError> {
        let newest = {
            let state = self.book.read();
            let campaign = state.campaigns.get(&id).ok_or(EngineError::NoCampaign { id })?;
            let newest = campaign.newest().map_or(0, |(version, _)| version);
            self.is_published(&state, id).then_some(newest)
        };
        let Some(newest) = newest else { return self.save_campaign(Some(id), text).map(drop) };
        if !spec.schedule.is_planned() {
            return Err(EngineError::Schedule(vec![ScheduleError::Removed]));
        }
        let pinned = self.with_saved(spec)?;
        let stored = (pinned != *spec).then(|| parse::to_stored_like(&pinned, text));
        let texts = stored.as_ref().map_or((text, None), |stored| (stored.as_str(), Some(text)));
        self.publish_version(id, newest + 1, Some(texts), &spec.schedule).map(drop)
    }

    /// Whether a launch of the campaign is ahead, paused or not.
    pub fn is_published(&self, state: &State, id: CampaignId) -> bool {
        state.plans.get(&id).is_some_and(Plan::is_open)
    }

    /// From when on the schedule of a campaign's spec must start something.
    pub fn ahead_of(&self, id: Option<CampaignId>) -> Ahead {
        let now = self.book.now();
        let state = self.book.read();
        let plan = id.and_then(|id| state.plans.get(&id).filter(|_| !is_draft(&state, id)));
        launching::ahead(plan, now)
    }

    /// Pauses, resumes, stops or withdraws what is planned of a campaign; its live runs are commanded apart. Answers whether
    /// anything was changed: not if no launch is ahead, or if it stands as it should.
    pub fn command_plan(&self, id: CampaignId, trigger: Trigger) -> Result<bool, EngineError> {
        let mut moved = false;
        self.book.commit_durable_by::<EngineError>(|state| {
            let Some(plan) = state.plans.get(&id).filter(|plan| plan.is_open()) else { return Ok(None) };
            let (from, by) = match (plan.state, trigger) {
                (PlanState::Paused, Trigger::Resume) => (lifecycle::State::Paused, Trigger::Reschedule),
                (PlanState::Paused, Trigger::Pause) => (lifecycle::State::Paused, Trigger::Pause),
                _ => (lifecycle::State::Scheduled, trigger),
            };
            let to = match lifecycle::next(from, by) {
                Ok(lifecycle::State::Paused) => PlanState::Paused,
                Ok(lifecycle::State::Draft) => PlanState::Withdrawn,
                Ok(lifecycle::State::Scheduled) => PlanState::Active,
                Ok(_) => PlanState::Stopped,
                Err(_) => return Ok(None),
            };
            moved = true;
            let reason = String::new();
            Ok(Some(Fact::PlanMoved(PlanMoved { campaign: id, to, reason, at: self.book.now() })))
        })?;
        Ok(moved)
    }

    /// Puts a campaign away that is a draft or has ended. Nothing of it is changed any more, and what it named may go.
    pub fn archive(&self, id: CampaignId) -> Result<(), EngineError> {
        self.book.commit_durable_by::<EngineError>(|state| {
            let stands = campaign_state(state, id).ok_or(EngineError::NoCampaign { id })?;
            lifecycle::next(stands, Trigger::Archive)?;
            Ok(Some(Fact::CampaignArchived { campaign: id, at: self.book.now() }))
        })?;
        Ok(())
    }

    /// One look at every plan that is due. Each launch is made once or not at all.
    pub fn look_at_schedules(&self) {
        let due = launching::due(&self.book.read(), self.book.now());
        for id in due {
            if !self.book.has_space() {
                return;
            }
            match self.look_at_schedule(id) {
                Ok(()) => {}
                // Not the campaign's fault: the next look tries again.
                Err(EngineError::Commit(error)) => tracing::warn!(campaign = %id, %error, "a launch was not recorded"),
                Err(error) => self.hold_plan(id, &error),
            }
        }
    }

    fn look_at_schedule(&self, id: CampaignId) -> Result<(), EngineError> {
        let Some(plan) = self.book.read().plans.get(&id).cloned() else { return Ok(()) };
        let (version, spec) = self.spec_of(id, Some(plan.version))?;
        let schedule = launching::whole(&spec.schedule).map_err(EngineError::Schedule)?;
        let busy = launching::is_busy(&self.book.read(), id);
        let step = launching::next_step(id, &plan, &schedule, self.safety(), busy, self.book.now());
        match step {
            None => Ok(()),
            Some(Step::Skip(fact)) => {
                tracing::warn!(campaign = %id, count = fact.count, reason = fact.cause.name(), "launches are skipped");
                let (cause, count) = (fact.cause.name(), u64::from(fact.count));
                self.book.commit(&Fact::LaunchSkipped(fact), Want::idle())?;
                figures::launches(cause, count);
                Ok(())
            }
            Some(Step::Make { launch, next }) => self.launch(id, version, &spec, &schedule, launch, next),
        }
    }

    /// Makes a launch: the audience is evaluated now, and the run and the end of the launch are one fact.
    fn launch(
        &self,
        id: CampaignId,
        version: u32,
        spec: &CampaignSpec,
        schedule: &Schedule,
        launch: NextLaunch,
        next: Option<NextLaunch>,
    ) -> Result<(), EngineError> {
        let (_, compiled) = self.compiled(id, Some(version))?;
        let Prepared { begun: started, audience } = self.prepare(id, version, &compiled)?;
        let default_zone = spec.schedule.default_zone.clone();
        let too_late_ms = schedule.too_late_after.and_then(|limit| u64::try_from(limit.as_millis()).ok());
        let made = RunLaunch { launch: launch.launch, effective: launch.effective, default_zone, too_late_ms };
        let mut fact = Launched { started, made, next };
        let mut run = None;
        self.book.commit_durable_by::<EngineError>(|state| {
            // A person may have changed the plan while the audience was evaluated; then it is looked at again.
            let plan = state.plans.get(&id).filter(|plan| plan.is_scheduled() && plan.version == version);
            let unchanged = plan.is_some_and(|plan| plan.next == Some(launch));
            if !unchanged || launching::is_busy(state, id) {
                return Ok(None);
            }
            audience.is_still(state)?;
            (fact.started.run, fact.started.at) = (RunId(state.next_run.max(1)), self.book.now());
            run = Some(fact.started.run);
            Ok(Some(Fact::Launched(Box::new(fact))))
        })?;
        let Some(run) = run else { return Ok(()) };
        figures::launches("made", 1);
        tracing::info!(campaign = %id, %run, planned = %launch.launch.at, "a campaign is launched");
        // It is launched, whatever comes: a run whose actor could not start is started by the next who tells it something.
        if let Err(error) = self.spawn(run, version, &compiled) {
            tracing::error!(%run, %error, "the run's actor could not start");
        }
        Ok(())
    }

    /// A campaign that cannot be launched waits for a person.
    fn hold_plan(&self, id: CampaignId, error: &EngineError) {
        let reason = format!("it could not be launched: {}", explain(error));
        tracing::error!(campaign = %id, %reason, "the schedule is paused");
        let fact = PlanMoved { campaign: id, to: PlanState::Paused, reason, at: self.book.now() };
        if let Err(error) = self.book.commit(&Fact::PlanMoved(fact), Want::idle()) {
            tracing::error!(campaign = %id, %error, "the schedule could not be paused");
        }
    }

    pub(super) fn spec_of(&self, id: CampaignId, version: Option<u32>) -> Result<(u32, CampaignSpec), EngineError> {
        let (version, text) = {
            let state = self.book.read();
            let campaign = state.campaigns.get(&id).ok_or(EngineError::NoCampaign { id })?;
            let found = match version {
                Some(version) => campaign.versions.get(&version).map(|text| (version, text.clone())),
                None => campaign.newest().map(|(version, text)| (version, text.to_owned())),
            };
            found.ok_or(EngineError::NoCampaign { id })?
        };
        Ok((version, parse::from_stored(&text)?))
    }

    /// The launches of a campaign that are ahead, the first ones.
    pub fn upcoming(&self, id: CampaignId, max: usize) -> Vec<NextLaunch> {
        let Some(plan) = self.book.read().plans.get(&id).filter(|plan| plan.is_open()).cloned() else {
            return Vec::new();
        };
        let Ok((_, spec)) = self.spec_of(id, Some(plan.version)) else { return plan.next.into_iter().collect() };
        self.following(&plan, &spec.schedule).take(max).collect()
    }

    /// The next launch of a plan, and those after it.
    pub(super) fn following(&self, plan: &Plan, fields: &ScheduleFields) -> impl Iterator<Item = NextLaunch> + use<> {
        let (schedule, published, safety) = (launching::whole(fields).ok(), plan.published_at, self.safety());
        std::iter::successors(plan.next, move |before| {
            let next = schedule.as_ref()?.next_after(before.launch.at)?;
            Some(planned(next, published, safety))
        })
    }
}

fn is_draft(state: &State, id: CampaignId) -> bool {
    campaign_state(state, id) == Some(lifecycle::State::Draft)
}

fn explain(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
