//! Sequences through the port.

use serde_json::json;

use crate::api::adapter::{Adapter, specs::problem_view};
use crate::api::errors::Code;
use crate::api::port::{
    Action, CancelledStep, EnterDone, PlannedStep, PortError, PortResult, PublishDone, PublishRequest, Ref,
    ReleaseAction, ReleaseRequest, SequenceView, SequencesPort, StartTestDone, StepView, WorkingCopyView,
};
use crate::campaigns::sequence::{Lock, plan};
use crate::campaigns::{CampaignSpec, Problem, lifecycle, parse};
use crate::engine::runs::campaign_state;
use crate::engine::sequences::look::{self, StepNow};
use crate::engine::sequences::{Published, SequenceError};
use crate::ids::CampaignId;
use crate::ledger::Run;

/// Whether a state is what people call active: it will send, or sends.
pub(super) fn is_active(state: lifecycle::State) -> bool {
    matches!(state, lifecycle::State::Scheduled | lifecycle::State::Running)
}

pub(super) fn refused(error: SequenceError) -> PortError {
    let message = error.to_string();
    let code = match &error {
        SequenceError::NotASequence => Code::NotASequence,
        SequenceError::UsePublish | SequenceError::StillDraft => Code::UsePublish,
        SequenceError::Unconfirmed(_) => Code::ConfirmationNeeded,
        SequenceError::Problems(problems) => return super::errors::incomplete(problems),
        SequenceError::NoCopy => Code::NoWorkingCopy,
        SequenceError::UseEdit => Code::UseEdit,
        SequenceError::UseExtend => Code::UseExtend,
        SequenceError::CopyClosed { .. } => Code::WorkingCopyClosed,
        SequenceError::Locked(_) | SequenceError::Fixed(_) | SequenceError::LeftOut { .. } => Code::StepLocked,
        SequenceError::NothingChanged => Code::NothingChanged,
        SequenceError::LaunchesAhead => Code::LaunchesAhead,
        SequenceError::NotExtended | SequenceError::NotExtendable { .. } => Code::NotExtendable,
        SequenceError::ChangePlan => Code::IllegalMove,
        SequenceError::NotHeld { .. } => Code::StepNotHeld,
        SequenceError::NoStep { .. } => Code::StepNotFound,
        SequenceError::NoEntry(_) => Code::NoEntry,
        SequenceError::OtherContacts { .. } => Code::IdempotencyMismatch,
        SequenceError::TooManyContacts { .. } | SequenceError::LongName { .. } | SequenceError::NoContacts => {
            Code::InvalidParameter
        }
    };
    let details = match error {
        SequenceError::Unconfirmed(shown) => {
            let (steps, warnings) = (planned(&shown), warnings(&shown.warnings));
            json!({"version": shown.version, "steps": steps, "changed": shown.changed, "warnings": warnings})
        }
        SequenceError::CopyClosed { step } | SequenceError::NotHeld { step, .. } => json!({"step": step}),
        SequenceError::NoStep { known, .. } => json!({"steps": known}),
        SequenceError::LeftOut { missing } => json!({"missing": missing}),
        SequenceError::Locked(refusals) => {
            let each = refusals.iter().map(|r| json!({"step": r.step, "lock": r.lock.name(), "message": r.message}));
            json!({"steps": each.collect::<Vec<_>>()})
        }
        SequenceError::Fixed(refusals) => {
            let each = refusals.iter().map(
                |r| json!({"step": r.place, "code": r.code, "lock": r.lock.name(), "message": r.message, "fix": r.fix}),
            );
            json!({"steps": each.collect::<Vec<_>>()})
        }
        _ => serde_json::Value::Null,
    };
    PortError::new(code, message).with(details)
}

impl Adapter {
    /// Refuses to start a sequence, which is published, and every action on a draft of one.
    pub(super) fn refuse_of_sequence(&self, id: CampaignId, action: Action) -> PortResult<()> {
        if !self.engine.is_sequence(id) {
            return Ok(());
        }
        if action == Action::Start {
            return Err(refused(SequenceError::UsePublish));
        }
        let is_draft = || campaign_state(&self.engine.book.read(), id) == Some(lifecycle::State::Draft);
        if action != Action::Archive && is_draft() {
            let message = format!("cannot {} a sequence that is draft; legal now: publish, archive", action.name());
            let details = json!({"state": "draft", "legal_moves": ["publish", "archive"]});
            return Err(PortError::new(Code::IllegalMove, message).with(details));
        }
        if action == Action::Unschedule {
            let message = "a sequence is not unscheduled: change its steps in a working copy (edit), pause or stop it";
            let legal = self.legal_of_sequence(id);
            return Err(PortError::new(Code::IllegalMove, message).with(json!({"legal_moves": legal})));
        }
        Ok(())
    }

    /// What a person can do with a sequence as it stands.
    fn legal_of_sequence(&self, id: CampaignId) -> Vec<&'static str> {
        let stands = campaign_state(&self.engine.book.read(), id).unwrap_or(lifecycle::State::Draft);
        let moves = stands.legal().filter(|t| t.is_offered() && is_move_of_sequence(*t));
        moves.map(lifecycle::Trigger::name).collect()
    }

    /// A refused move of a sequence offers what sequences have.
    pub(super) fn as_of_sequence(&self, id: CampaignId, error: crate::engine::EngineError) -> PortError {
        use crate::engine::EngineError;
        match error {
            EngineError::Move(refused) if self.engine.is_sequence(id) => {
                let (state, verb, legal) = (refused.state.name(), refused.trigger.verb(), self.legal_of_sequence(id));
                let words = if legal.is_empty() {
                    "nothing can be done with it now".to_owned()
                } else {
                    format!("legal now: {}", legal.join(", "))
                };
                let message = format!("cannot {verb} a sequence that is {state}; {words}");
                PortError::new(Code::IllegalMove, message).with(json!({"state": state, "legal_moves": legal}))
            }
            other => other.into(),
        }
    }
}

/// A sequence is published and stopped.
pub(super) fn is_move_of_sequence(trigger: lifecycle::Trigger) -> bool {
    !matches!(trigger, lifecycle::Trigger::Start | lifecycle::Trigger::Unschedule)
}

fn warnings(problems: &[Problem]) -> Vec<crate::api::port::ProblemView> {
    problems.iter().map(problem_view).collect()
}

fn planned(published: &Published) -> Vec<PlannedStep> {
    let each = published.steps.iter().map(|step| PlannedStep {
        id: step.id.clone(),
        planned: step.planned.map(Into::into),
        effective: step.effective.map(Into::into),
        executed: step.executed,
    });
    each.collect()
}

fn step_view(step: StepNow) -> StepView {
    StepView {
        id: step.id,
        kind: step.kind.to_owned(),
        after: step.after,
        lock: step.lock.name().to_owned(),
        planned: step.planned.map(Into::into),
        effective: step.effective.map(Into::into),
        started: step.started.map(Into::into),
        waiting: step.waiting,
        reached: step.reached,
        ahead: step.ahead,
        held: step.held,
        skipped: step.skipped,
    }
}

/// The steps of a run, for its report; none if it is no sequence.
pub(super) fn steps_of(run: &Run, spec: Option<&CampaignSpec>, now: crate::clock::Timestamp) -> Vec<StepView> {
    let Some(spec) = spec.filter(|_| run.sequence.is_some()) else { return Vec::new() };
    look::steps(run, spec, now).into_iter().map(step_view).collect()
}

/// Steps of a draft: nobody has come to them.
fn steps_of_draft(spec: &CampaignSpec) -> Vec<StepView> {
    let (plan, _) = plan::read(spec);
    let each = plan.steps.iter().map(|step| StepView {
        id: step.id.clone(),
        kind: step.kind.name().to_owned(),
        after: step.origins.iter().map(|origin| plan.origin_name(origin)).collect(),
        lock: Lock::Unreached.name().to_owned(),
        planned: step.planned.map(Into::into),
        ..StepView::default()
    });
    each.collect()
}

impl Adapter {
    /// What a sequence has besides the rest of a campaign.
    pub(super) fn sequence_view(&self, id: CampaignId, spec: &CampaignSpec) -> SequenceView {
        let now = self.engine.book.now();
        let (mut view, copy) = {
            let state = self.engine.book.read();
            let memory = state.sequences.get(&id);
            let mut view = SequenceView {
                start_seconds: memory.and_then(|m| m.tested).map(|tested| tested.milliseconds as f64 / 1_000.0),
                ..SequenceView::default()
            };
            let run = state.latest_run(id);
            match run.and_then(|run| Some((run, run.sequence.as_ref()?, look::spec_of(&state, id, run.version)?))) {
                Some((run, sequence, published)) => {
                    view.version = Some(run.version);
                    view.published_at = Some(sequence.published_at().into());
                    view.cohort_at = sequence.cohort_at.map(Into::into);
                    view.steps = steps_of(run, Some(&published), now);
                }
                None => view.steps = steps_of_draft(spec),
            }
            (view, memory.and_then(|m| m.copy.clone()))
        };
        view.working_copy = copy.and_then(|copy| {
            let spec = parse::from_stored(&copy.spec).ok()?;
            let alerts = self.engine.problems(&spec, Some(id));
            Some(WorkingCopyView {
                spec: spec.to_value(),
                open: copy.closed_by.is_none(),
                opened_at: copy.opened_at.into(),
                saved_at: copy.saved_at.into(),
                extends: copy.extends,
                closed_by: copy.closed_by.map(|(step, _)| step),
                alerts: alerts.iter().filter(|p| p.blocks()).map(problem_view).collect(),
            })
        });
        view
    }

    /// What a stop at this moment keeps from starting.
    pub(super) fn to_be_cancelled(&self, id: CampaignId) -> Vec<CancelledStep> {
        let now = self.engine.book.now();
        let state = self.engine.book.read();
        let live = state.latest_run(id).filter(|run| run.sequence.is_some() && run.state.is_live());
        let Some(run) = live else { return Vec::new() };
        let Some(spec) = look::spec_of(&state, run.campaign, run.version) else { return Vec::new() };
        let steps = look::steps(run, &spec, now).into_iter().filter(|step| step.is_to_come() || step.is_under_way());
        let each = steps.map(|step| CancelledStep {
            running: !step.is_to_come(),
            id: step.id,
            planned: step.planned.map(Into::into),
            waiting: step.waiting,
            contacts: step.ahead,
            sent: step.accepted,
        });
        each.collect()
    }

    /// The steps that a stop has cancelled, with what it cancelled of those that were under way: the sets of the ledger.
    pub(super) fn cancelled(&self, id: CampaignId, asked: Vec<CancelledStep>) -> Vec<CancelledStep> {
        let now = self.engine.book.now();
        let state = self.engine.book.read();
        let run = state.latest_run(id).filter(|_| !asked.is_empty());
        let spec = run.and_then(|run| look::spec_of(&state, run.campaign, run.version));
        let steps = run.zip(spec).map(|(run, spec)| look::steps(run, &spec, now)).unwrap_or_default();
        let after = |step: CancelledStep| match steps.iter().find(|now| now.id == step.id) {
            Some(now) if step.running => CancelledStep { contacts: now.stopped, sent: now.accepted, ..step },
            _ => step,
        };
        asked.into_iter().map(after).collect()
    }

    fn opened(&self, campaign: &Ref, extends: bool) -> PortResult<SequenceView> {
        let id = self.campaign_id(campaign)?;
        self.engine.open_copy(id, extends)?;
        let spec = self.spec(id)?;
        match self.edit_view(id, &spec) {
            Some(view) => Ok(view),
            None => Ok(self.sequence_view(id, &spec)),
        }
    }
}

impl SequencesPort for Adapter {
    fn publish(&self, campaign: &Ref, request: PublishRequest) -> PortResult<PublishDone> {
        let id = self.campaign_id(campaign)?;
        let (run, published) = if self.engine.is_sequence(id) {
            self.engine.publish_sequence(id, request.confirm)?
        } else {
            self.engine.publish_edit(id, request.confirm)?
        };
        let stands = campaign_state(&self.engine.book.read(), id).unwrap_or(lifecycle::State::Draft);
        Ok(PublishDone {
            campaign: id.0,
            run: run.0,
            version: published.version,
            state: stands.name().to_owned(),
            active: is_active(stands),
            published_at: published.at.into(),
            steps: planned(&published),
            warnings: warnings(&published.warnings),
            changed: published.changed,
        })
    }

    fn edit(&self, campaign: &Ref) -> PortResult<SequenceView> {
        self.opened(campaign, false)
    }

    fn extend(&self, campaign: &Ref) -> PortResult<SequenceView> {
        self.opened(campaign, true)
    }

    fn enter(&self, campaign: &Ref, contacts: &[String], name: &str) -> PortResult<EnterDone> {
        let id = self.campaign_id(campaign)?;
        let done = self.engine.enter(id, contacts, name)?;
        let crate::engine::sequences::enter::EnterDone { run, entered, already, unknown, repeated } = done;
        Ok(EnterDone { run, entered, already, unknown, repeated })
    }

    fn release_step(&self, campaign: &Ref, request: ReleaseRequest) -> PortResult<SequenceView> {
        let id = self.campaign_id(campaign)?;
        self.engine.release_step(id, &request.step, request.action == ReleaseAction::Skip)?;
        Ok(self.sequence_view(id, &self.spec(id)?))
    }

    fn test_start(&self, campaign: &Ref) -> PortResult<StartTestDone> {
        let id = self.campaign_id(campaign)?;
        let tested = self.engine.test_start(id)?;
        Ok(StartTestDone { contacts: tested.contacts, seconds: tested.milliseconds as f64 / 1_000.0 })
    }
}
