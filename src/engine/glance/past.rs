//! What campaigns did to contacts, copied out of the state for a [`Glance`](super::Glance).
//!
//! A campaign is meant by its name, over all its runs. One that is being checked, and so is not saved yet, has done nothing.
//! Invariant: PA-1 a campaign that does not exist is never taken for one that did nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::clock::Timestamp;
use crate::ids::{CampaignId, Channel, RowSpace};
use crate::ledger::{RejectClass, Run, State};
use crate::segments::error::Hint;
use crate::segments::expression::Kind;
use crate::segments::history::Event;

type Rows = Arc<RoaringBitmap>;

#[derive(Default)]
pub(super) struct Past {
    /// Every campaign by name; read once, when the first one is asked for.
    names: Option<BTreeMap<String, CampaignId>>,
    /// The campaign that is being checked.
    own: Option<String>,
    of: BTreeMap<(Event, String), Result<Rows, Hint>>,
    recent: BTreeMap<(Event, Option<Channel>, u32), Vec<Rows>>,
}

impl Past {
    pub(super) fn new(own: Option<&str>) -> Past {
        Past { own: own.map(str::to_owned), ..Past::default() }
    }

    /// Copies what one part of an expression asks for.
    pub(super) fn collect(&mut self, state: &State, part: &Kind, now: Timestamp) {
        match part {
            Kind::History { event, campaign } => {
                let key = (*event, campaign.clone());
                if !self.of.contains_key(&key) {
                    let found = self.look(state, *event, campaign);
                    self.of.insert(key, found);
                }
            }
            Kind::Recent { event, channel, days } => {
                let sets = || state.days.sets(*event, *channel, now, *days);
                self.recent.entry((*event, *channel, *days)).or_insert_with(sets);
            }
            _ => {}
        }
    }

    fn look(&mut self, state: &State, event: Event, campaign: &str) -> Result<Rows, Hint> {
        let names = self.names.get_or_insert_with(|| names(state));
        match names.get(campaign) {
            Some(id) => Ok(Arc::new(rows(state, *id, event))),
            None if self.own.as_deref() == Some(campaign) => Ok(Arc::default()),
            None => Err(Hint::nearest(campaign, names.keys().map(String::as_str))),
        }
    }

    pub(super) fn history(&self, event: Event, campaign: &str) -> Result<Rows, Hint> {
        self.of.get(&(event, campaign.to_owned())).cloned().unwrap_or_else(|| Err(Hint::none()))
    }

    pub(super) fn recent(&self, event: Event, channel: Option<Channel>, days: u32) -> Rows {
        match self.recent.get(&(event, channel, days)).map_or(&[][..], Vec::as_slice) {
            [only] => Arc::clone(only),
            sets => Arc::new(sets.iter().map(|rows| &**rows).union()),
        }
    }
}

fn names(state: &State) -> BTreeMap<String, CampaignId> {
    state.campaigns.iter().filter_map(|(id, campaign)| Some((campaign.name.clone()?, *id))).collect()
}

/// Contacts of the base with an event of any run of a campaign.
fn rows(state: &State, campaign: CampaignId, event: Event) -> RoaringBitmap {
    let runs = state.runs.values().filter(|run| run.campaign == campaign);
    let of_base = runs.filter(|run| run.deliveries.iter().all(|delivery| delivery.space == RowSpace::BASE));
    of_base.fold(RoaringBitmap::new(), |all, run| all | of_run(run, event))
}

fn accepted(run: &Run) -> RoaringBitmap {
    run.deliveries.iter().map(|delivery| &delivery.accepted).union()
}

/// Rows of one run with an event.
pub fn of_run(run: &Run, event: Event) -> RoaringBitmap {
    let deliveries = || run.deliveries.iter();
    let feedback = || run.feedback.values();
    match event {
        Event::Received => accepted(run),
        Event::Delivered => {
            accepted(run) - of_run(run, Event::Bounced) - feedback().map(|f| f.policy.rows.clone()).union()
        }
        Event::Complained => feedback().map(|f| f.complained.rows.clone()).union(),
        Event::Converted => feedback().filter_map(|f| f.converted_by_people().cloned()).union(),
        Event::Opened => run.engaged(false),
        Event::Clicked => run.engaged(true),
        Event::Unsubscribed => run.unsubscribed(),
        Event::Bounced => {
            let classes = [RejectClass::HardBounce, RejectClass::SoftBounce];
            let at_once = |class| deliveries().filter_map(move |delivery| delivery.rejected.get(class));
            let later = feedback().map(|f| &f.hard.rows | &f.soft.rows).union();
            classes.iter().flat_map(at_once).union() | later
        }
    }
}
