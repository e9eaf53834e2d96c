//! What campaigns did to contacts, copied out of the state for a [`Glance`](super::Glance).
//!
//! A campaign is meant by its name, over all its runs. One that is being checked, and so is not saved yet, has done nothing.
//! Invariant: PA-1 a campaign that does not exist, or of which it is not known any more, is never taken for one that did
//! nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::clock::Timestamp;
use crate::flow::nodes::condition::{Did, Engaged};
use crate::ids::{CampaignId, Channel, RowSpace};
use crate::ledger::engagement::engaged;
use crate::ledger::events::day_of;
use crate::ledger::{RejectClass, Run, State};
use crate::segments::error::{Hint, Untold};
use crate::segments::expression::Kind;
use crate::segments::history::{Engagement, Event};

type Rows = Arc<RoaringBitmap>;

#[derive(Default)]
pub(super) struct Past {
    /// Every campaign by name; read once, when the first one is asked for.
    names: Option<BTreeMap<String, CampaignId>>,
    /// The campaign that is being checked.
    own: Option<String>,
    of: BTreeMap<(Event, String), Result<Rows, Untold>>,
    recent: BTreeMap<(Event, Option<Channel>, u32), Vec<Rows>>,
    messages: BTreeMap<(Engagement, u32, u32), Rows>,
    did: BTreeMap<(String, u32, Option<u32>), Rows>,
    did_with: BTreeMap<(String, String, String), Rows>,
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
            Kind::Messages { did, least, days } => {
                let asked = Engaged { did: did_of(*did), messages: *least, within_days: *days };
                let found = || Arc::new(engaged(state, &asked, now));
                self.messages.entry((*did, *least, *days)).or_insert_with(found);
            }
            Kind::Did { name, least, days } => {
                let key = (name.clone(), *least, *days);
                self.did.entry(key).or_insert_with(|| Arc::new(did(state, name, *least, *days, now)));
            }
            Kind::DidWith { name, property, value } => {
                let rows = state.events.properties.get(name, property, value).cloned().unwrap_or_default();
                self.did_with.insert((name.clone(), property.clone(), value.clone()), Arc::new(rows));
            }
            _ => {}
        }
    }

    pub(super) fn did_with(&self, name: &str, property: &str, value: &str) -> Rows {
        let key = (name.to_owned(), property.to_owned(), value.to_owned());
        self.did_with.get(&key).cloned().unwrap_or_default()
    }

    pub(super) fn messages(&self, did: Engagement, least: u32, days: u32) -> Rows {
        self.messages.get(&(did, least, days)).cloned().unwrap_or_default()
    }

    pub(super) fn did(&self, name: &str, least: u32, days: Option<u32>) -> Rows {
        self.did.get(&(name.to_owned(), least, days)).cloned().unwrap_or_default()
    }

    fn look(&mut self, state: &State, event: Event, campaign: &str) -> Result<Rows, Untold> {
        let names = self.names.get_or_insert_with(|| names(state));
        match names.get(campaign) {
            Some(id) => Ok(Arc::new(rows(state, *id, event)?)),
            None if self.own.as_deref() == Some(campaign) => Ok(Arc::default()),
            None => Err(Untold::NoCampaign(Hint::nearest(campaign, names.keys().map(String::as_str)))),
        }
    }

    pub(super) fn history(&self, event: Event, campaign: &str) -> Result<Rows, Untold> {
        let none = || Err(Untold::NoCampaign(Hint::none()));
        self.of.get(&(event, campaign.to_owned())).cloned().unwrap_or_else(none)
    }

    pub(super) fn recent(&self, event: Event, channel: Option<Channel>, days: u32) -> Rows {
        match self.recent.get(&(event, channel, days)).map_or(&[][..], Vec::as_slice) {
            [only] => Arc::clone(only),
            sets => Arc::new(sets.iter().map(|rows| &**rows).union()),
        }
    }
}

fn did_of(engagement: Engagement) -> Did {
    match engagement {
        Engagement::Opened => Did::Opened,
        Engagement::Clicked => Did::Clicked,
        Engagement::Engaged => Did::OpenedOrClicked,
    }
}

/// Contacts of the base with so many events of a type.
fn did(state: &State, name: &str, least: u32, days: Option<u32>, now: Timestamp) -> RoaringBitmap {
    let Some(memory) = state.events.behaviour.get(name) else { return RoaringBitmap::new() };
    let Some(days) = days else { return memory.at_least(least) };
    let today = day_of(now);
    let first = today.saturating_sub(i32::try_from(days).unwrap_or(i32::MAX)).saturating_add(1);
    if least <= 1 { memory.since(first) } else { memory.often_between(least, first, today) }
}

fn names(state: &State) -> BTreeMap<String, CampaignId> {
    state.campaigns.iter().filter_map(|(id, campaign)| Some((campaign.name.clone()?, *id))).collect()
}

/// Contacts of the base with an event of any run of a campaign. Who did not is asked as often as who did: what is known of
/// some runs only is not told as if it were all.
fn rows(state: &State, campaign: CampaignId, event: Event) -> Result<RoaringBitmap, Untold> {
    let runs = || state.runs.values().filter(|run| run.campaign == campaign);
    let of_base = runs().filter(|run| run.origin() == RowSpace::BASE);
    if let Some(at) = of_base.filter_map(Run::details_removed_at).next_back() {
        return Err(Untold::DetailsRemoved(at));
    }
    let of_base = runs().filter(|run| run.deliveries.iter().all(|delivery| delivery.space == RowSpace::BASE));
    Ok(of_base.fold(RoaringBitmap::new(), |all, run| all | of_run(run, event)))
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
