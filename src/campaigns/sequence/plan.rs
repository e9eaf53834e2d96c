//! The steps of a spec as they hang together: kinds, links, instants, numbers.
//!
//! Owns no state. Invariants: PL-1 a step stands behind steps that are written before it, so that there is no cycle; PL-2 an
//! exit leads to one step at most; PL-3 a number is given once and never to another step: it makes node ids, deliveries and
//! messages the same over all versions.
//!
//! | code | what |
//! |---|---|
//! | `no_steps`, `too_many_steps`, `bad_step_id`, `step_twice` | steps have ids of their own |
//! | `no_step_kind`, `unknown_step_kind`, `wait_in_sequence` | send, split, set_attribute; no waits: steps have dates |
//! | `wrong_step_key` | a key that belongs to another kind of step |
//! | `unknown_step`, `unknown_branch`, `after_split`, `exit_taken` | what a step stands behind |
//! | `no_branch`, `bad_branch`, `unknown_split`, `asks_about_no_send` | splits |
//! | `no_zone`, `unknown_zone`, `bad_time`, `step_not_dated` | dates |
//! | `no_attribute` | set_attribute names an attribute and a value |

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::campaigns::spec::steps::{BranchSpec, Starter, StepSpec};
use crate::campaigns::spec::{CampaignSpec, MessageSpec};
use crate::campaigns::suggest::{did_you_mean, nearest};
use crate::campaigns::validate::Problem;
use crate::clock::Timestamp;
use crate::flow::delay::civil::instant;
use crate::flow::nodes::split::REMAINING;
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitBy {
    Weights,
    Segments,
    Engagement,
    AtMost,
}

impl SplitBy {
    const ALL: [(SplitBy, &'static str); 4] = [
        (SplitBy::Weights, "weights"),
        (SplitBy::Segments, "segments"),
        (SplitBy::Engagement, "engagement"),
        (SplitBy::AtMost, "at_most"),
    ];

    fn from_name(name: &str) -> Option<SplitBy> {
        SplitBy::ALL.into_iter().find(|(_, known)| *known == name).map(|(by, _)| by)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    Send,
    Split(SplitBy),
    SetAttribute,
}

impl StepKind {
    pub fn name(self) -> &'static str {
        match self {
            StepKind::Send => "send",
            StepKind::Split(_) => "split",
            StepKind::SetAttribute => "set_attribute",
        }
    }
}

/// What leads into a step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Start,
    /// The exit of a step, by its place in [`Plan::steps`].
    Exit {
        step: usize,
        exit: String,
    },
}

/// The exit of a step that does not decide.
pub const NEXT: &str = "next";

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Place in the spec.
    pub place: usize,
    pub id: String,
    pub number: u16,
    pub kind: StepKind,
    pub origins: Vec<Origin>,
    /// `None`: starts by request.
    pub planned: Option<Timestamp>,
    /// Whether it has a date, be it one that cannot be read (yet).
    pub dated: bool,
    /// It starts with its publication, whose moment `planned` is once there is one.
    pub is_now: bool,
    /// By name, in order.
    pub exits: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub starter: Starter,
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn by_id(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == id)
    }

    /// The step that an exit leads to.
    pub fn target(&self, origin: &Origin) -> Option<&Step> {
        self.steps.iter().find(|step| step.origins.contains(origin))
    }

    /// Steps that directly lead into a step.
    pub fn before<'p>(&'p self, step: &'p Step) -> impl Iterator<Item = &'p Step> {
        step.origins.iter().filter_map(|origin| match origin {
            Origin::Start => None,
            Origin::Exit { step, .. } => self.steps.get(*step),
        })
    }

    /// What a person calls the place behind which a step stands.
    pub fn origin_name(&self, origin: &Origin) -> String {
        match origin {
            Origin::Start => "the start".to_owned(),
            Origin::Exit { step, exit } => {
                let id = self.steps.get(*step).map_or("?", |step| step.id.as_str());
                if exit == NEXT { id.to_owned() } else { format!("{id}.{exit}") }
            }
        }
    }

    /// The send that is asked about by a branch of a split: the one that it names, or the last one before the split.
    pub fn send_before(&self, split: &Step, of: Option<&str>) -> Option<&Step> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&Step> = self.before(self.steps.get(split.place)?).collect();
        let mut found: Option<&Step> = None;
        while let Some(step) = open.pop() {
            if !seen.insert(step.place) {
                continue;
            }
            let wanted = step.kind == StepKind::Send && of.is_none_or(|id| id == step.id);
            if wanted && found.is_none_or(|best| best.place < step.place) {
                found = Some(step);
            }
            open.extend(self.before(step));
        }
        found
    }
}

/// Words for waits, which a sequence has none of.
const WAITS: [&str; 9] =
    ["delay", "wait", "period", "weekdays", "approval", "until_event", "wait_event", "event", "pause"];

/// The steps of a spec, as far as they can be read, and everything that is wrong with them.
pub fn read(spec: &CampaignSpec) -> (Plan, Vec<Problem>) {
    let mut found = Vec::new();
    let starter = spec.starter.unwrap_or_default();
    let mut plan = Plan { starter, steps: Vec::new() };
    if spec.steps.is_empty() {
        let fix = "add [[steps]] with id, kind and at";
        found.push(Problem::error("no_steps", "steps", "the sequence has no steps", fix));
    }
    if spec.steps.len() > limits::SEQUENCE_STEPS_MAX {
        let message =
            format!("the sequence has {} steps, and {} is the most", spec.steps.len(), limits::SEQUENCE_STEPS_MAX);
        found.push(Problem::error("too_many_steps", "steps", message, "use fewer steps, or several campaigns"));
        return (plan, found);
    }
    if spec.steps.iter().any(|step| step.number.is_some_and(|number| number >= limits::SEQUENCE_NUMBER_MAX)) {
        let message = format!(
            "over all its versions the sequence had {} steps, and more are not told apart",
            limits::SEQUENCE_NUMBER_MAX
        );
        found.push(Problem::error("too_many_steps", "steps", message, "go on with another campaign"));
    }
    let zone = zone(spec, &mut found);
    let numbers = numbers(&spec.steps);
    for (place, step) in spec.steps.iter().enumerate() {
        let id = id_of(spec, place, &mut found);
        let kind = kind_of(place, &id, step, &mut found);
        let origins = origins(&plan, place, step, &mut found);
        let planned = date(place, &id, step, zone.as_ref(), &mut found);
        let exits = exits_of(kind, step);
        plan.steps.push(Step {
            place,
            id,
            number: numbers[place],
            kind,
            origins,
            planned,
            dated: step.at.is_some(),
            is_now: step.is_now(),
            exits,
        });
        keys_of(place, step, kind, &mut found);
    }
    for (place, step) in spec.steps.iter().enumerate() {
        branches(&plan, place, step, &mut found);
    }
    (plan, found)
}

fn path(place: usize, key: &str) -> String {
    if key.is_empty() { format!("steps.{place}") } else { format!("steps.{place}.{key}") }
}

fn zone(spec: &CampaignSpec, found: &mut Vec<Problem>) -> Option<TimeZone> {
    let Some(name) = spec.zone.as_deref().filter(|name| !name.trim().is_empty()) else {
        let fix = "set zone, such as \"Europe/Paris\"";
        found.push(Problem::error("no_zone", "zone", "a sequence needs the zone of its dates", fix));
        return None;
    };
    match TimeZone::get(name) {
        Ok(zone) if !zone.is_unknown() => Some(zone),
        _ => {
            let message = format!("{name:?} is no time zone");
            found.push(Problem::error("unknown_zone", "zone", message, "write an IANA name such as \"Europe/Paris\""));
            None
        }
    }
}

/// Those that were given stay; the others get the next ones, in order.
fn numbers(steps: &[StepSpec]) -> Vec<u16> {
    let mut taken = BTreeSet::new();
    let given: Vec<Option<u16>> =
        steps.iter().map(|s| s.number.filter(|n| *n < limits::SEQUENCE_NUMBER_MAX && taken.insert(*n))).collect();
    let mut next = taken.last().map_or(0, |last| last + 1);
    let give = |number: Option<u16>| {
        number.unwrap_or_else(|| {
            next += 1;
            next - 1
        })
    };
    given.into_iter().map(give).collect()
}

fn id_of(spec: &CampaignSpec, place: usize, found: &mut Vec<Problem>) -> String {
    let id = spec.steps[place].id.clone().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if id.is_empty() || id.len() > limits::STEP_ID_BYTES_MAX || !id.chars().all(plain) {
        let message =
            format!("the id {id:?} of a step must be 1 to {} letters, digits, - or _", limits::STEP_ID_BYTES_MAX);
        found.push(Problem::error("bad_step_id", path(place, "id"), message, "set id, such as \"hello\""));
    } else if spec.steps[..place].iter().any(|other| other.id.as_deref() == Some(&id)) {
        let message = format!("two steps have the id {id:?}");
        found.push(Problem::error("step_twice", path(place, "id"), message, "give each step an id of its own"));
    }
    id
}

fn kind_of(place: usize, id: &str, step: &StepSpec, found: &mut Vec<Problem>) -> StepKind {
    let fix = "set kind to send, split or set_attribute";
    match step.kind.as_deref() {
        Some("send") => return StepKind::Send,
        Some("set_attribute") => return StepKind::SetAttribute,
        Some("split") => {
            let names = SplitBy::ALL.map(|(_, name)| name);
            let written = step.by.as_deref().unwrap_or_default();
            let by = SplitBy::from_name(written);
            // What is nearly right is taken for it, so that its branches are judged as they are meant.
            let meant = nearest(written, names).and_then(SplitBy::from_name);
            if by.is_none() {
                let near = did_you_mean(written, names);
                let names = names.join(", ");
                let message = format!("step {id:?} does not say by what it splits{near}");
                found.push(Problem::error("unknown_split", path(place, "by"), message, format!("set by to {names}")));
            }
            return StepKind::Split(by.or(meant).unwrap_or(SplitBy::Weights));
        }
        None => {
            let message = format!("step {id:?} has no kind");
            found.push(Problem::error("no_step_kind", path(place, "kind"), message, fix));
        }
        Some(wait) if WAITS.iter().any(|word| wait.contains(word)) => {
            let message = format!("step {id:?} is a wait ({wait}): a sequence has none, each step has a date");
            let fix = "remove it, and set the date of the step after it";
            found.push(Problem::error("wait_in_sequence", path(place, "kind"), message, fix));
        }
        Some(other) => {
            let near = did_you_mean(other, ["send", "split", "set_attribute"]);
            let message = format!("{other:?} is no kind of step{near}");
            found.push(Problem::error("unknown_step_kind", path(place, "kind"), message, fix));
        }
    }
    StepKind::Send
}

fn exits_of(kind: StepKind, step: &StepSpec) -> Vec<String> {
    let StepKind::Split(by) = kind else { return vec![NEXT.to_owned()] };
    let mut exits: Vec<String> = step.branches.iter().filter_map(|branch| branch.name.clone()).collect();
    if by != SplitBy::Weights {
        exits.push(REMAINING.name().to_owned());
    }
    exits
}

fn origins(plan: &Plan, place: usize, step: &StepSpec, found: &mut Vec<Problem>) -> Vec<Origin> {
    let mut origins = Vec::new();
    match &step.after {
        None if place == 0 => origins.push(Origin::Start),
        None => origins.extend(origin(plan, place, &plan.steps[place - 1].id, found)),
        Some(after) => {
            for name in after.all() {
                origins.extend(origin(plan, place, name, found));
            }
        }
    }
    let mut kept: Vec<Origin> = Vec::new();
    for origin in origins {
        if plan.target(&origin).is_some() || kept.contains(&origin) {
            let message = format!("two steps stand behind {}", plan.origin_name(&origin));
            let fix = "put a split there, or one step behind the other";
            found.push(Problem::error("exit_taken", path(place, "after"), message, fix));
        } else {
            kept.push(origin);
        }
    }
    kept
}

fn origin(plan: &Plan, place: usize, name: &str, found: &mut Vec<Problem>) -> Option<Origin> {
    let (id, branch) = name.split_once('.').map_or((name, None), |(id, branch)| (id, Some(branch)));
    let Some(at) = plan.steps.iter().position(|step| step.id == id) else {
        let near = did_you_mean(id, plan.steps.iter().map(|step| step.id.as_str()));
        let message = format!("no step before this one has the id {id:?}{near}");
        let fix = "name a step that is written before it";
        found.push(Problem::error("unknown_step", path(place, "after"), message, fix));
        return None;
    };
    let before = &plan.steps[at];
    match (before.kind, branch) {
        (StepKind::Split(_), None) => {
            let message = format!("{id:?} is a split: say behind which of its branches the step stands");
            let fix = format!(
                "set after to one of: {}",
                before.exits.iter().map(|e| format!("{id}.{e}")).collect::<Vec<_>>().join(", ")
            );
            found.push(Problem::error("after_split", path(place, "after"), message, fix));
            None
        }
        (_, branch) => {
            let exit = branch.unwrap_or(NEXT);
            if before.exits.iter().any(|known| known == exit) {
                return Some(Origin::Exit { step: at, exit: exit.to_owned() });
            }
            let near = did_you_mean(exit, before.exits.iter().map(String::as_str));
            let message = format!("step {id:?} has no branch {exit:?}{near}");
            found.push(Problem::error("unknown_branch", path(place, "after"), message, "name a branch of the split"));
            None
        }
    }
}

fn date(
    place: usize,
    id: &str,
    step: &StepSpec,
    zone: Option<&TimeZone>,
    found: &mut Vec<Problem>,
) -> Option<Timestamp> {
    let text = &step.at.as_ref()?.0;
    if step.is_now() {
        return step.now_at;
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(at.as_millisecond()));
    }
    match text.parse::<DateTime>() {
        Ok(local) => zone.map(|zone| instant(local, zone)),
        Err(_) => {
            let message = format!("step {id:?}: {text:?} is no date and time");
            found.push(Problem::error(
                "bad_time",
                path(place, "at"),
                message,
                "write 2026-12-01T18:00, in the zone, or now",
            ));
            None
        }
    }
}

/// Keys that belong to another kind of step.
fn keys_of(place: usize, step: &StepSpec, kind: StepKind, found: &mut Vec<Problem>) {
    let (send, split, set) = ("send", "split", "set_attribute");
    let keys = [
        ("message", step.message != MessageSpec::default(), send),
        ("send_until", step.send_until.is_some(), send),
        ("late", step.late.is_some(), send),
        // Without a date there is nothing to be late for.
        ("too_late", step.too_late.is_some() && step.at.is_none(), "a dated one"),
        ("by", step.by.is_some(), split),
        ("branches", !step.branches.is_empty(), split),
        ("attribute", step.attribute.is_some(), set),
        ("value", step.value.is_some(), set),
    ];
    for (key, given, owner) in keys {
        if given && owner != kind.name() {
            let message = format!("{key} belongs to a step of the kind {owner}, and this one is {}", kind.name());
            found.push(Problem::error("wrong_step_key", path(place, key), message, "remove it, or change the kind"));
        }
    }
    if kind == StepKind::SetAttribute && (step.attribute.is_none() || step.value.is_none()) {
        let fix = "set attribute and value";
        let message = "the step does not say which attribute gets which value";
        let missing = if step.attribute.is_none() { "attribute" } else { "value" };
        found.push(Problem::error("no_attribute", path(place, missing), message, fix));
    }
}

fn branches(plan: &Plan, place: usize, step: &StepSpec, found: &mut Vec<Problem>) {
    let Some(StepKind::Split(by)) = plan.steps.get(place).map(|step| step.kind) else { return };
    if step.branches.is_empty() {
        let fix = "add branches = [{ name = \"a\", … }]";
        found.push(Problem::error("no_branch", path(place, "branches"), "the split has no branches", fix));
    }
    if step.branches.len() > limits::SEQUENCE_BRANCHES_MAX {
        let message = format!(
            "the split has {} branches, and {} is the most",
            step.branches.len(),
            limits::SEQUENCE_BRANCHES_MAX
        );
        found.push(Problem::error("no_branch", path(place, "branches"), message, "use fewer branches"));
    }
    let mut names = BTreeMap::new();
    for (at, branch) in step.branches.iter().enumerate() {
        let path = path(place, &format!("branches.{at}"));
        let name = branch.name.clone().unwrap_or_default();
        if name.trim().is_empty() || name == REMAINING.name() || names.insert(name.clone(), ()).is_some() {
            let message = format!("the name {name:?} of a branch is empty, taken, or that of the rest");
            found.push(Problem::error("bad_branch", &path, message, "give each branch a name of its own"));
        }
        criterion(plan, place, by, branch, &path, found);
    }
}

fn criterion(plan: &Plan, place: usize, by: SplitBy, branch: &BranchSpec, path: &str, found: &mut Vec<Problem>) {
    let given = [branch.weight.is_some(), branch.segment.is_some(), branch.on.is_some(), branch.at_most.is_some()];
    let wanted = [by == SplitBy::Weights, by == SplitBy::Segments, by == SplitBy::Engagement, by == SplitBy::AtMost];
    if given != wanted {
        let fix = match by {
            SplitBy::Weights => "give each branch a weight, and nothing else",
            SplitBy::Segments => "give each branch a segment, and nothing else",
            SplitBy::Engagement => "give each branch on = \"opened\", and perhaps of = \"step\"",
            SplitBy::AtMost => "give each branch at_most, and nothing else",
        };
        found.push(Problem::error("bad_branch", path, "the branch does not say who takes it", fix));
        return;
    }
    let Some(on) = branch.on.as_deref() else { return };
    if !ENGAGEMENTS.contains(&on) {
        let near = did_you_mean(on, ENGAGEMENTS);
        let message = format!("{on:?} is no interaction{near}");
        let fix = format!("set on to one of: {}", ENGAGEMENTS.join(", "));
        found.push(Problem::error("bad_branch", path, message, fix));
    }
    if let Some(split) = plan.steps.get(place)
        && plan.send_before(split, branch.of.as_deref()).is_none()
    {
        let what = branch.of.as_ref().map_or("a send".to_owned(), |id| format!("a send {id:?}"));
        let message = format!("the branch asks about {what}, and none stands before the split");
        found.push(Problem::error("asks_about_no_send", path, message, "name a send that stands before it"));
    }
}

/// What a branch of a split by engagement can ask.
pub const ENGAGEMENTS: [&str; 7] =
    ["opened", "not_opened", "clicked", "not_clicked", "delivered", "not_delivered", "unsubscribed"];
