//! What may still be changed in a sequence that is under way.
//!
//! | lock | when | what may be changed |
//! |---|---|---|
//! | executed | the step has started: from its effective start, or its first claimed row, on | nothing |
//! | current | contacts stand at it, none claimed; possibly one step per branch | kind, date, properties; neither moved nor removed |
//! | unreached | nobody has come so far | everything |
//!
//! Owns no state. Invariant: a version that passes [`refusals`] leaves every contact at a step that both versions have.

use std::collections::BTreeSet;

use super::plan::{self, Plan, Step};
use crate::campaigns::languages;
use crate::campaigns::spec::{CampaignSpec, MessageSpec, StepSpec};
use crate::clock::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    Unreached,
    Current,
    Executed,
}

impl Lock {
    pub fn name(self) -> &'static str {
        match self {
            Lock::Unreached => "unreached",
            Lock::Current => "current",
            Lock::Executed => "executed",
        }
    }
}

/// A change that a lock forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The step, or a key of the spec.
    pub step: String,
    pub lock: Lock,
    /// In words.
    pub message: String,
}

/// Everything in `new` that the locks of `old` forbid. `begun`: the cohort is fixed, or contacts have entered.
pub fn refusals(old: &CampaignSpec, new: &CampaignSpec, begun: bool, lock_of: &dyn Fn(&str) -> Lock) -> Vec<Refusal> {
    let mut found = Vec::new();
    of_the_whole(old, new, begun, &mut found);
    let ((old_plan, _), (new_plan, _)) = (plan::read(old), plan::read(new));
    for step in &old_plan.steps {
        let lock = lock_of(&step.id);
        if lock == Lock::Unreached {
            continue;
        }
        let refuse = |what: &str| Refusal {
            step: step.id.clone(),
            lock,
            message: format!("step {:?} is {}: it cannot be {what}", step.id, lock.name()),
        };
        let Some(again) = new_plan.by_id(&step.id) else {
            found.push(refuse("removed, and a version holds all steps, the earlier ones as they were, too"));
            continue;
        };
        if origins(&old_plan, step) != origins(&new_plan, again) {
            found.push(refuse("moved"));
        }
        if lock == Lock::Executed && !same(old, step, new, again) {
            found.push(refuse("changed"));
        }
    }
    found
}

fn of_the_whole(old: &CampaignSpec, new: &CampaignSpec, begun: bool, found: &mut Vec<Refusal>) {
    let keys = [
        ("name", old.name != new.name, true),
        ("kind", old.kind() != new.kind(), true),
        ("mode", old.mode.unwrap_or_default() != new.mode.unwrap_or_default(), true),
        ("limits", old.limits != new.limits, true),
        ("starter", old.starter.unwrap_or_default() != new.starter.unwrap_or_default(), begun),
        ("audience", old.audience != new.audience, begun),
    ];
    for (key, changed, locked) in keys {
        if changed && locked {
            let message = format!("{key} cannot be changed any more");
            found.push(Refusal { step: key.to_owned(), lock: Lock::Executed, message });
        }
    }
}

/// Behind what a step stands, by name: places differ between versions.
fn origins(plan: &Plan, step: &Step) -> BTreeSet<String> {
    step.origins.iter().map(|origin| plan.origin_name(origin)).collect()
}

fn same(old: &CampaignSpec, was: &Step, new: &CampaignSpec, is: &Step) -> bool {
    was.planned == is.planned && resolved(old, was.place) == resolved(new, is.place) && was.exits == is.exits
}

/// A step with what it takes over from the campaign; neither place nor date nor number, which are compared by themselves.
fn resolved(spec: &CampaignSpec, place: usize) -> Option<StepSpec> {
    let step = spec.steps.get(place)?;
    let mut step = StepSpec { after: None, at: None, ..step.without_number() };
    if step.kind.as_deref() == Some("send") {
        let (base, own) = (&spec.message, &mut step.message);
        let (fields, others) = languages::laid_over(base, own);
        own.fields = fields;
        (own.default_language, own.languages) = others.into_parts();
        own.channel = own.channel.or(base.channel);
        own.connector = own.connector.take().or_else(|| base.connector.clone());
        own.topic = own.topic.take().or_else(|| base.topic.clone());
        step.send_until = step.send_until.or(spec.send_until);
    }
    Some(step)
}

/// The steps whose content differs, if nothing else does; `None` if more than content was changed.
pub fn content_changes(old: &CampaignSpec, new: &CampaignSpec) -> Option<Vec<String>> {
    let bare = |spec: &CampaignSpec| {
        let steps = spec.steps.iter().map(|step| {
            let mut step = step.without_number();
            step.message = without_content(&step.message);
            step
        });
        CampaignSpec { steps: steps.collect(), message: without_content(&spec.message), ..spec.clone() }
    };
    if bare(old) != bare(new) {
        return None;
    }
    let differs = |place: &usize| resolved(old, *place) != resolved(new, *place);
    Some((0..old.steps.len()).filter(differs).filter_map(|place| old.steps[place].id.clone()).collect())
}

/// The way of a message: neither what it says, in any language, nor where that was saved.
fn without_content(message: &MessageSpec) -> MessageSpec {
    let MessageSpec { channel, connector, topic, .. } = message;
    MessageSpec { channel: *channel, connector: connector.clone(), topic: topic.clone(), ..MessageSpec::default() }
}

/// A later version that names the saved message of a locked step as it was named before means the one that was sent, whatever
/// was saved under the name since.
pub fn keep_saved(spec: &mut CampaignSpec, published: &CampaignSpec, is_locked: &dyn Fn(&str) -> bool) {
    for step in spec.steps.iter_mut().filter(|step| step.message.saved_version.is_none()) {
        let was = published.steps.iter().find(|was| was.id == step.id && was.message.saved == step.message.saved);
        let was = was.filter(|was| was.message.saved.is_some() && was.id.as_deref().is_some_and(is_locked));
        if let Some((was, version)) = was.and_then(|was| Some((was, was.message.saved_version?))) {
            step.message = languages::resolved(&was.message, version, &step.message);
        }
    }
}

/// The numbers of `published` for the steps that it has; the others get new ones, never one that was given before. In the
/// same way a step that starts with its publication, of which `now` is the moment, gets that moment once.
pub fn keep_numbers(spec: &CampaignSpec, published: Option<&CampaignSpec>, taken: u16, now: Timestamp) -> CampaignSpec {
    let mut spec = spec.clone();
    let mut next = taken;
    for step in &mut spec.steps {
        let before = published.and_then(|old| old.steps.iter().find(|s| s.id == step.id));
        let moment = before.and_then(|old| old.now_at).unwrap_or(now);
        step.now_at = step.is_now().then_some(moment);
        step.number = Some(before.and_then(|old| old.number).unwrap_or_else(|| {
            next = next.saturating_add(1);
            next - 1
        }));
    }
    spec
}

/// A spec without what its publication gives to the moments of its steps.
pub fn without_moments(spec: &CampaignSpec) -> CampaignSpec {
    let mut spec = spec.clone();
    spec.steps.iter_mut().for_each(|step| step.now_at = None);
    spec
}

/// The steps of `published` with those of `new` behind them, if `new` has none of them: what a file holds that says only what
/// is added. `None`: it has all of them, and is meant as it stands. Refused with those that it leaves out, if it has some.
pub fn appended(published: &[StepSpec], new: &[StepSpec]) -> Result<Option<Vec<StepSpec>>, Vec<String>> {
    let has = |step: &StepSpec| new.iter().any(|other| other.id == step.id);
    let missing: Vec<String> = published.iter().filter(|step| !has(step)).filter_map(|step| step.id.clone()).collect();
    match missing.len() {
        0 => Ok(None),
        all if all == published.len() => Ok(Some(published.iter().chain(new).cloned().collect())),
        _ => Err(missing),
    }
}
