//! The calendar: what is planned over all campaigns, and what became of it.
//!
//! Launches of schedules, cells and variants with dates of their own, deadlines of tests, and the dated steps of sequences.
//! Owns nothing.

use std::time::Duration;

use crate::actors::launching;
use crate::campaigns::kinds::planned::{PartDate, part_dates};
use crate::campaigns::lifecycle;
use crate::campaigns::schedule::fields::TimeText;
use crate::campaigns::schedule::{Launch, ScheduleFields};
use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::runs::{campaign_state, state_of};
use crate::engine::sequences::look;
use crate::flow::NodeKind;
use crate::ids::CampaignId;
use crate::ledger::plans::{NextLaunch, Outcome, Plan};

/// A launch, or a step, in the calendar.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub campaign: CampaignId,
    pub name: String,
    /// The step of a sequence.
    pub step: Option<String>,
    /// The cell or the variant with a date of its own, or a test with its deadline.
    pub part: Option<String>,
    /// What names the date when it is to be changed: a path of the spec, or the step; none if it can't be.
    pub date: Option<String>,
    pub launch: NextLaunch,
    /// Of the campaign.
    pub state: lifecycle::State,
    /// What became of it; `None` while it is ahead.
    pub outcome: Option<Outcome>,
}

/// Everything that is planned from one moment to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agenda {
    /// In the order of their effective starts.
    pub entries: Vec<Entry>,
    /// Whether there is more than is listed.
    pub more: bool,
}

/// Where the date of a launch stands in its spec; a recurrence has a rule, and no date.
fn dated_by(schedule: &ScheduleFields, launch: Launch) -> Option<String> {
    let only = |text: &TimeText| {
        let one = ScheduleFields { at: Some(text.clone()), zone: schedule.zone.clone(), ..ScheduleFields::default() };
        launching::whole(&one).ok().and_then(|one| one.first(Timestamp(i64::MIN))) == Some(launch)
    };
    if schedule.at.as_ref().is_some_and(only) {
        return Some("schedule.at".to_owned());
    }
    schedule.dates.iter().position(only).map(|at| format!("schedule.dates.{at}"))
}

/// The entry of a part of what another entry launches.
fn of_part(launch: Entry, part: PartDate, starts: Timestamp) -> Entry {
    let effective = part.launch.at.max(starts);
    let launch_of_part = NextLaunch { launch: part.launch, effective };
    Entry { part: Some(part.part), date: Some(part.path), launch: launch_of_part, ..launch }
}

impl Engine {
    /// Cells and variants of runs that are under way, with dates of their own. What a run executes is pinned: none of
    /// these dates can be changed.
    fn parts_between(&self, from: Timestamp, to: Timestamp) -> Vec<Entry> {
        let (now, safety) = (self.book.now(), self.safety());
        let state = self.book.read();
        let live = state.runs.values().filter(|run| run.state.is_live() && run.sequence.is_none());
        let each = live.flat_map(|run| {
            let spec = look::spec_of(&state, run.campaign, run.version).unwrap_or_default();
            let dates = part_dates(&spec, run.started_at);
            // A launch by a schedule was published long before; a start is the publication of its parts.
            let grace = if run.launch.is_none() { safety } else { Duration::ZERO };
            dates.into_iter().map(move |part| {
                let effective = part.launch.at.max(run.started_at.plus(grace));
                Entry {
                    campaign: run.campaign,
                    name: spec.name.clone().unwrap_or_default(),
                    step: None,
                    part: Some(part.part),
                    date: None,
                    launch: NextLaunch { launch: part.launch, effective },
                    state: state_of(run),
                    outcome: (effective <= now).then_some(Outcome::Made(run.id)),
                }
            })
        });
        each.filter(|entry| from <= entry.launch.effective && entry.launch.effective < to).collect()
    }

    /// Deadlines of tests that are under way: as planned, and as pauses have moved them.
    fn deadlines_between(&self, from: Timestamp, to: Timestamp) -> Vec<Entry> {
        let now = self.book.now();
        let state = self.book.read();
        let mut found = Vec::new();
        for run in state.runs.values().filter(|run| run.state.is_live()) {
            for (node, memory) in run.flow.tests.iter().filter(|(_, memory)| memory.decided.is_none()) {
                let (Some(NodeKind::AbTest(test)), Some(cut_at)) =
                    (run.graph.node(*node).map(|n| &n.kind), memory.cut_at)
                else {
                    continue;
                };
                let planned = Timestamp(cut_at.0.saturating_add(test.look_after_ms(test.looks)));
                let effective = Timestamp(planned.0.saturating_add(run.moved_by_pauses(memory, now)));
                if test.continuing() || effective < from || effective >= to {
                    continue;
                }
                let spec = look::spec_of(&state, run.campaign, run.version).unwrap_or_default();
                found.push(Entry {
                    campaign: run.campaign,
                    name: spec.name.unwrap_or_default(),
                    step: None,
                    part: Some(format!("deadline of {}", run.graph.key(*node))),
                    date: None,
                    launch: NextLaunch { launch: Launch::at(planned), effective },
                    state: state_of(run),
                    outcome: (effective <= now).then_some(Outcome::Made(run.id)),
                });
            }
        }
        found
    }

    /// What is planned over all campaigns from one moment on and before another, and what became of what was.
    pub fn calendar(&self, from: Timestamp, to: Timestamp, max: usize) -> Agenda {
        let within = |at: Timestamp| from <= at && at < to;
        let plans: Vec<(CampaignId, Plan, lifecycle::State)> = {
            let state = self.book.read();
            let found = state.plans.iter();
            found.filter_map(|(id, plan)| Some((*id, plan.clone(), campaign_state(&state, *id)?))).collect()
        };
        let mut agenda = Agenda::default();
        agenda.entries.extend(self.steps_between(from, to));
        for (campaign, plan, state) in plans {
            let Ok((_, spec)) = self.spec_of(campaign, None) else { continue };
            let name = spec.name.clone().unwrap_or_default();
            let entry = |launch: NextLaunch, outcome: Option<Outcome>| {
                let date = dated_by(&spec.schedule, launch.launch).filter(|_| outcome.is_none());
                Entry { campaign, name: name.clone(), step: None, part: None, date, launch, state, outcome }
            };
            for decided in plan.history.iter().filter(|decided| within(decided.planned)) {
                let launch = NextLaunch { launch: Launch::at(decided.planned), effective: decided.at };
                agenda.entries.push(entry(launch, Some(decided.outcome)));
            }
            if !plan.is_open() {
                continue;
            }
            let ahead = self.following(&plan, &spec.schedule).take_while(|next| next.launch.at < to);
            let mut ahead = ahead.filter(|next| within(next.launch.at) || within(next.effective));
            agenda.entries.extend(ahead.by_ref().take(max).map(|next| entry(next, None)));
            agenda.more |= ahead.next().is_some();
            if let Some(next) = plan.next {
                let dates = part_dates(&spec, next.effective).into_iter();
                let each = dates.map(|part| of_part(entry(next, None), part, next.effective));
                agenda.entries.extend(each.filter(|entry| within(entry.launch.effective)));
            }
        }
        agenda.entries.extend(self.parts_between(from, to));
        agenda.entries.extend(self.deadlines_between(from, to));
        agenda.entries.sort_by_key(|entry| (entry.launch.effective, entry.campaign));
        agenda.more |= agenda.entries.len() > max;
        agenda.entries.truncate(max);
        agenda
    }
}
