//! The calendar: what is planned over all campaigns, and what became of it.
//!
//! Launches of schedules, and the dated steps of sequences. Owns nothing.

use crate::campaigns::lifecycle;
use crate::campaigns::schedule::Launch;
use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::runs::campaign_state;
use crate::ids::CampaignId;
use crate::ledger::plans::{NextLaunch, Outcome, Plan};

/// A launch, or a step, in the calendar.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub campaign: CampaignId,
    pub name: String,
    /// The step of a sequence.
    pub step: Option<String>,
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

impl Engine {
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
            let entry = |launch, outcome| Entry { campaign, name: name.clone(), step: None, launch, state, outcome };
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
        }
        agenda.entries.sort_by_key(|entry| (entry.launch.effective, entry.campaign));
        agenda.more |= agenda.entries.len() > max;
        agenda.entries.truncate(max);
        agenda
    }
}
