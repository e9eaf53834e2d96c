//! When a published campaign is launched, as functions over its plan.
//!
//! Rules, in this order:
//! 1. Before its effective start nothing happens, and nothing while the plan is paused.
//! 2. Of launches of a recurrence that have come due together, the last is made; the others are skipped as overtaken. Dates
//!    that were named one by one are each made.
//! 3. A launch that is too late by its schedule is skipped: what fell due in a pause or while the server was down is made
//!    as soon as it can be, or not at all.
//! 4. Runs of a campaign may overlap (a follow-up may take days), up to a limit; a launch beyond it waits for the end of one.
//!    While a run is paused, by a person or by a guard-rail, nothing is launched behind it.
//!
//! A decision is a fact on the plan as it stands, so that a kill before it changes nothing and one after it cannot repeat it.
//!
//! Must not know: actix, clocks, the journal, audiences.

use std::time::Duration;

use crate::campaigns::schedule::fields::Ahead;
use crate::campaigns::schedule::{Launch, Schedule, ScheduleError, ScheduleFields, effective_start};
use crate::clock::Timestamp;
use crate::ids::CampaignId;
use crate::ledger::plans::{LaunchSkipped, NextLaunch, Plan, SkipCause};
use crate::ledger::{RunState, State};
use crate::limits::{LAUNCHES_PASSED_MAX, LIVE_RUNS_MAX};

/// What is to be done with the launch that is next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Skip(LaunchSkipped),
    /// Make `launch`; `next` follows it.
    Make {
        launch: NextLaunch,
        next: Option<NextLaunch>,
    },
}

/// Campaigns whose next launch may be made or skipped now.
pub fn due(state: &State, now: Timestamp) -> Vec<CampaignId> {
    let ready = |plan: &Plan| plan.is_scheduled() && plan.next.is_some_and(|next| next.effective <= now);
    state.plans.iter().filter(|(_, plan)| ready(plan)).map(|(id, _)| *id).collect()
}

/// A launch with its effective start.
pub fn planned(launch: Launch, published: Timestamp, safety: Duration) -> NextLaunch {
    NextLaunch { launch, effective: effective_start(launch.at, published, safety) }
}

/// From when on a schedule must start something. What is pending does not become a fault by its hour coming, and what is
/// decided is over; `plan` is what was published before.
pub fn ahead(plan: Option<&Plan>, now: Timestamp) -> Ahead {
    let Some(plan) = plan else { return Ahead::now(now) };
    let pending = plan.next.map_or(now, |next| Timestamp(next.launch.at.0.saturating_sub(1)));
    Ahead { now: now.min(pending), settled: plan.settled }
}

/// The first launch of a publication; `open` is what was published before, if a launch of that is still ahead.
pub fn first(fields: &ScheduleFields, open: Option<&Plan>, now: Timestamp) -> Result<Launch, Vec<ScheduleError>> {
    let ahead = ahead(open, now);
    let schedule = fields.resolve_from(ahead)?;
    let first = match (schedule.first(ahead.now), ahead.settled) {
        (Some(first), Some(settled)) if first.at <= settled => schedule.next_after(settled),
        (first, _) => first,
    };
    first.ok_or_else(|| vec![ScheduleError::NothingAhead])
}

/// The whole schedule of a published version, its launches that are over included.
pub fn whole(fields: &ScheduleFields) -> Result<Schedule, Vec<ScheduleError>> {
    fields.resolve(Timestamp(i64::MIN))
}

/// Whether a launch must wait for a run of the campaign: one is paused, or as many are under way as may be.
pub fn is_busy(state: &State, campaign: CampaignId) -> bool {
    let live = || state.runs.values().filter(|run| run.campaign == campaign && run.state.is_live());
    live().any(|run| run.state == RunState::Paused) || live().count() >= LIVE_RUNS_MAX
}

/// The next step of a campaign; `busy`: see [`is_busy`].
pub fn next_step(
    campaign: CampaignId,
    plan: &Plan,
    schedule: &Schedule,
    safety: Duration,
    busy: bool,
    now: Timestamp,
) -> Option<Step> {
    let first = plan.next.filter(|next| plan.is_scheduled() && next.effective <= now)?;
    let after = |launch: &NextLaunch| {
        schedule.next_after(launch.launch.at).map(|next| planned(next, plan.published_at, safety))
    };
    let skip = |last: Timestamp, count, cause, next| {
        let first = first.launch.at;
        Some(Step::Skip(LaunchSkipped { campaign, first, last, count, cause, next, at: now }))
    };
    if schedule.recurs() {
        let (mut current, mut overtaken) = (first, None);
        let mut passed = 0;
        while let Some(next) = after(&current).filter(|next| next.effective <= now && passed < LAUNCHES_PASSED_MAX) {
            overtaken = Some(current.launch.at);
            current = next;
            passed += 1;
        }
        if let Some(last) = overtaken {
            return skip(last, passed, SkipCause::Overtaken, Some(current));
        }
    }
    // The time that the safety of the publication took is nobody's delay.
    let late = schedule.is_too_late(&first.launch, now) && schedule.is_too_late(&Launch::at(first.effective), now);
    if late {
        return skip(first.launch.at, 1, SkipCause::TooLate, after(&first));
    }
    (!busy).then(|| Step::Make { launch: first, next: after(&first) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::plans::PlanState;

    const MINUTE: i64 = 60_000;
    const SAFETY: Duration = Duration::from_secs(300);
    const CAMPAIGN: CampaignId = CampaignId(1);

    fn utc(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
    }

    fn fields(toml: &str) -> ScheduleFields {
        toml::from_str(toml).expect(toml)
    }

    fn published(toml: &str, at: &str) -> (Plan, Schedule) {
        let (fields, at) = (fields(toml), utc(at));
        let next = planned(first(&fields, None, at).expect(toml), at, SAFETY);
        let plan = Plan { version: 1, published_at: at, next: Some(next), ..Plan::default() };
        (plan, whole(&fields).expect(toml))
    }

    fn step((plan, schedule): &(Plan, Schedule), busy: bool, now: &str) -> Option<Step> {
        next_step(CAMPAIGN, plan, schedule, SAFETY, busy, utc(now))
    }

    fn told(step: Option<Step>) -> String {
        match step {
            None => "waits".to_owned(),
            Some(Step::Make { launch, next }) => {
                format!("{} then {:?}", launch.launch.at, next.map(|next| next.effective.to_string()))
            }
            Some(Step::Skip(fact)) => format!("{} x{} to {}", fact.cause.name(), fact.count, fact.last),
        }
    }

    #[test]
    fn five_minutes_after_the_publication_at_the_earliest() {
        let one = published("at = '2026-11-06T10:05:00Z'", "2026-11-06T10:01:00Z");
        assert_eq!(told(step(&one, false, "2026-11-06T10:05:59.999Z")), "waits", "planned 10:05, published 10:01");
        assert_eq!(told(step(&one, false, "2026-11-06T10:06:00Z")), "2026-11-06T10:05:00Z then None", "10:06");
        assert_eq!(told(step(&one, true, "2026-11-06T10:06:00Z")), "waits", "for the end of a run");
        let short = published("at = '2026-11-06T10:05:00Z'\ntoo_late = '2m'", "2026-11-06T10:04:59Z");
        assert_eq!(
            told(step(&short, false, "2026-11-06T10:09:59Z")),
            "2026-11-06T10:05:00Z then None",
            "the safety time makes nothing late"
        );
    }

    #[test]
    fn what_was_held_up_for_too_long_is_not_made() {
        let one = published("at = '2026-11-06T10:05:00Z'\ntoo_late = '2h'", "2026-11-01T00:00:00Z");
        assert_eq!(told(step(&one, false, "2026-11-06T12:05:00Z")), "2026-11-06T10:05:00Z then None", "in time");
        let late = "too_late x1 to 2026-11-06T10:05:00Z";
        assert_eq!(told(step(&one, false, "2026-11-06T12:05:00.001Z")), late, "too late");
        assert_eq!(told(step(&one, true, "2026-11-08T00:00:00Z")), late, "whoever else is under way");
        let usual = published("at = '2026-11-06T10:05:00Z'", "2026-11-01T00:00:00Z");
        assert_eq!(told(step(&usual, false, "2026-11-07T10:06:00Z")), late, "a day when nothing is said");
    }

    #[test]
    fn of_missed_launches_of_a_recurrence_the_last_is_made_and_dates_are_each_made() {
        let mut daily = published("every = 'day 09:00'\nzone = 'UTC'\ntoo_late = '1w'", "2026-11-01T00:00:00Z");
        let now = "2026-11-05T12:00:00Z";
        let Some(Step::Skip(fact)) = step(&daily, false, now) else { panic!("four were overtaken") };
        assert_eq!((fact.count, fact.first, fact.last), (4, utc("2026-11-01T09:00:00Z"), utc("2026-11-04T09:00:00Z")));
        daily.0.next = fact.next;
        assert_eq!(
            told(step(&daily, false, now)),
            "2026-11-05T09:00:00Z then Some(\"2026-11-06T09:00:00Z\")",
            "the last is made"
        );
        let dates = "dates = ['2026-11-02T09:00:00Z', '2026-11-03T09:00:00Z']\ntoo_late = '1w'";
        let dates = published(dates, "2026-11-01T00:00:00Z");
        assert_eq!(
            told(step(&dates, false, now)),
            "2026-11-02T09:00:00Z then Some(\"2026-11-03T09:00:00Z\")",
            "named one by one"
        );
    }

    #[test]
    fn very_many_missed_launches_are_passed_over_in_turns() {
        let mut minutes = published("every = 'minute'\nzone = 'UTC'", "2026-11-01T00:00:00Z");
        let (mut turns, mut passed) = (0, 0);
        while let Some(Step::Skip(fact)) = step(&minutes, false, "2026-12-01T00:00:00Z") {
            assert!(fact.count <= LAUNCHES_PASSED_MAX, "bounded");
            (minutes.0.next, turns, passed) = (fact.next, turns + 1, passed + i64::from(fact.count));
        }
        // From five minutes past midnight on they have come due; the first five minutes' launches, too.
        assert_eq!((turns, passed), (5, 30 * 24 * 60 - 1), "all but the last");
        assert_eq!(minutes.0.next.map(|next| next.launch.at), Some(utc("2026-12-01T00:00:00Z")), "which is made");
    }

    #[test]
    fn a_pause_holds_everything() {
        let mut one = published("at = '2026-11-06T10:05:00Z'", "2026-11-01T00:00:00Z");
        one.0.state = PlanState::Paused;
        assert_eq!(told(step(&one, false, "2026-12-06T10:05:00Z")), "waits", "nothing is decided");
        one.0.state = PlanState::Active;
        assert_eq!(told(step(&one, false, "2026-11-06T20:00:00Z")), "2026-11-06T10:05:00Z then None", "at the resume");
    }

    #[test]
    fn a_new_publication_keeps_what_is_pending_and_repeats_nothing() {
        let toml = "dates = ['2026-11-02T09:00:00Z', '2026-11-03T09:00:00Z']";
        let (mut plan, _) = published(toml, "2026-11-01T00:00:00Z");
        let now = Timestamp(utc("2026-11-02T09:00:00Z").0 + MINUTE);
        let pending = first(&fields(toml), Some(&plan), now).expect("the first is pending");
        assert_eq!(pending.at, utc("2026-11-02T09:00:00Z"), "its hour has come, and it was not made yet");
        plan.settled = Some(utc("2026-11-02T09:00:00Z"));
        plan.next = Some(planned(Launch::at(utc("2026-11-03T09:00:00Z")), plan.published_at, SAFETY));
        assert_eq!(first(&fields(toml), Some(&plan), now).expect("the second").at, utc("2026-11-03T09:00:00Z"));
        // The clock was a day ahead when the launch was made.
        let daily = fields("every = 'day 09:00'\nzone = 'UTC'");
        let before = utc("2026-11-01T12:00:00Z");
        let next = first(&daily, Some(&plan), before).expect("one");
        assert_eq!(next.at, utc("2026-11-03T09:00:00Z"), "2 November was launched already");
        let over = first(&fields("at = '2026-11-02T09:00:00Z'"), Some(&plan), now).expect_err("over");
        assert_eq!(over, [ScheduleError::NothingAhead], "nothing to launch");
    }
}
