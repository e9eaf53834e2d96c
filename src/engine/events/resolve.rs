//! Whom and what an event is about: keys and tokens → rows, deliveries, sends. Owns no state but names it has looked up.

use std::collections::HashMap;

use super::{Event, EventFault, EventKind};
use crate::clock::Timestamp;
use crate::content::{RETURN_PATH_PREFIX, TokenId, TokenKeys};
use crate::engine::{Engine, EngineError, names};
use crate::flow::NodeId;
use crate::ids::{AddressHash, CampaignId, Channel, ContactRow, DeliveryId, RowSpace};
use crate::ledger::events::BounceClass;
use crate::ledger::{Run, State};
use crate::limits::{EVENT_AGE_MAX, EVENT_AHEAD_MAX, EVENT_BEFORE_SEND_MAX};

/// Campaigns by the name or number that a request gives them.
#[derive(Default)]
pub(super) struct Campaigns(HashMap<String, Option<CampaignId>>);

impl Campaigns {
    fn find(&mut self, state: &State, name: &str) -> Option<CampaignId> {
        if let Some(known) = self.0.get(name) {
            return *known;
        }
        let number = name.parse::<u32>().ok().filter(|_| name.bytes().all(|b| b.is_ascii_digit())).map(CampaignId);
        let found = match number {
            Some(number) => state.campaigns.contains_key(&number).then_some(number),
            None => names::find(state, name),
        };
        self.0.insert(name.to_owned(), found);
        found
    }
}

/// The send whose message an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub delivery: DeliveryId,
    pub send: NodeId,
}

/// Whom and what an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub space: RowSpace,
    pub row: u32,
    pub channel: Channel,
    pub place: Option<Place>,
    pub at: Timestamp,
    /// The address on the channel, where an event suppresses it.
    pub address: Option<AddressHash>,
}

pub(super) type Resolved = Vec<Result<Target, EventFault>>;

impl Engine {
    /// Resolves some events; the state is read once for all of them.
    pub(super) fn resolve_events(&self, events: &[Event], campaigns: &mut Campaigns) -> Result<Resolved, EngineError> {
        let reader = self.store.reader()?;
        let mut rows = Vec::with_capacity(events.len());
        for event in events {
            rows.push(match &event.contact {
                Some(key) => reader.row_of_key(key.trim())?,
                None => None,
            });
        }
        let now = self.book.now();
        let mut resolved: Resolved = {
            let state = self.book.read();
            let about = events.iter().zip(rows);
            about.map(|(event, row)| target(&state, &self.tokens, event, row, campaigns, now)).collect()
        };
        for (event, target) in events.iter().zip(&mut resolved) {
            let Ok(target) = target else { continue };
            if !matches!(event.kind, EventKind::Bounced(BounceClass::Hard) | EventKind::Complained) {
                continue;
            }
            if target.space != RowSpace::BASE {
                let known = self.uploads.hash(target.space, target.channel, ContactRow(target.row));
                target.address = known.unwrap_or_else(|error| {
                    tracing::error!(%error, "the address of an event can't be read: it is not suppressed");
                    None
                });
            } else {
                let record = reader.record(ContactRow(target.row))?;
                let address = record.and_then(|record| record.address(target.channel));
                target.address = address.map(|address| self.store.address_hash(target.channel, address));
            }
        }
        Ok(resolved)
    }
}

fn target(
    state: &State,
    keys: &TokenKeys,
    event: &Event,
    row: Option<ContactRow>,
    campaigns: &mut Campaigns,
    now: Timestamp,
) -> Result<Target, EventFault> {
    let at = event.at.unwrap_or(now);
    if at > now.plus(EVENT_AHEAD_MAX) {
        return Err(EventFault::Future);
    }
    if now.saturating_since(at) > EVENT_AGE_MAX {
        return Err(EventFault::TooOld);
    }
    let campaign = match &event.campaign {
        None => None,
        Some(name) => match campaigns.find(state, name) {
            Some(id) => Some((id, name)),
            None => return Err(EventFault::NoCampaign { name: name.clone() }),
        },
    };
    let row = match (&event.contact, row) {
        (Some(key), None) => return Err(EventFault::NoContact { key: key.clone() }),
        (_, row) => row,
    };
    let target = match (&event.message_id, row) {
        (Some(text), row) => of_message(state, keys, event, text, row, campaign)?,
        (None, Some(row)) => of_contact(state, event, row, campaign, at)?,
        (None, None) => return Err(EventFault::NoSubject),
    };
    Ok(Target { at, ..target })
}

fn of_message(
    state: &State,
    keys: &TokenKeys,
    event: &Event,
    text: &str,
    row: Option<ContactRow>,
    campaign: Option<(CampaignId, &String)>,
) -> Result<Target, EventFault> {
    let id = keys.verify_return_path(token_of(text)).map_err(|_| EventFault::ForeignMessage)?;
    let run = state.runs.get(&id.run).ok_or(EventFault::ForeignMessage)?;
    if let Some((_, name)) = campaign.filter(|(campaign, _)| *campaign != run.campaign) {
        return Err(EventFault::OtherCampaign { name: name.clone() });
    }
    if row.is_some_and(|row| row != id.row || id.space != RowSpace::BASE) {
        return Err(EventFault::OtherContact { key: event.contact.clone().unwrap_or_default() });
    }
    if run.details_removed_at().is_some() {
        // What it says of the contact holds; the run counts nothing more.
        let channel = run.route_of(id.message).map_or(Channel::Email, |route| route.channel);
        let (row, at) = (id.row.0, Timestamp::default());
        return Ok(Target { space: id.space, row, channel, place: None, at, address: None });
    }
    let place = place_of_token(run, id).ok_or(EventFault::NotSent)?;
    Ok(at_place(run, place, id.space, id.row.0))
}

fn of_contact(
    state: &State,
    event: &Event,
    row: ContactRow,
    campaign: Option<(CampaignId, &String)>,
    at: Timestamp,
) -> Result<Target, EventFault> {
    if let (Some((id, _)), false) = (campaign, matches!(event.kind, EventKind::Custom(_))) {
        let run = run_of(state, id, &event.kind, at).ok_or(EventFault::NotSent)?;
        if run.details_removed_at().is_none() {
            let place = place_of_row(run, row.0, |_| true).ok_or(EventFault::NotSent)?;
            return Ok(at_place(run, place, RowSpace::BASE, row.0));
        }
    }
    if event.kind == EventKind::Delivered {
        return Err(EventFault::NoMessage);
    }
    // An event of the sender's own may be the goal of a test; where no message can have reached the contact it is its own.
    if let Some(run) = campaign.and_then(|(id, _)| run_of(state, id, &event.kind, at))
        && let Some(place) = place_of_row(run, row.0, |_| true)
    {
        return Ok(at_place(run, place, RowSpace::BASE, row.0));
    }
    let channel = event.channel.unwrap_or(Channel::Email);
    let (space, at) = (RowSpace::BASE, Timestamp::default());
    Ok(Target { space, row: row.0, channel, place: None, at, address: None })
}

/// The run of a campaign that an event is about: the latest that had begun when it happened, by clocks that may differ a little.
/// Whoever cannot be sent to any more, or has got a message, is never refused for a clock: those events take the latest run.
pub(super) fn run_of<'s>(state: &'s State, id: CampaignId, kind: &EventKind, at: Timestamp) -> Option<&'s Run> {
    let by = at.plus(EVENT_BEFORE_SEND_MAX);
    let begun = state.runs.values().rev().find(|run| run.campaign == id && run.started_at <= by);
    let depends = matches!(kind, EventKind::Converted(_) | EventKind::Custom(_));
    begun.or_else(|| state.latest_run(id).filter(|_| !depends))
}

fn at_place(run: &Run, place: Place, space: RowSpace, row: u32) -> Target {
    let route = run.routes.get(usize::from(place.delivery.index));
    let channel = route.map_or(Channel::Email, |route| route.channel);
    Target { space, row, channel, place: Some(place), at: Timestamp::default(), address: None }
}

/// The newest send of this message that may have reached the row.
fn place_of_token(run: &Run, id: TokenId) -> Option<Place> {
    let sends_it = |send| crate::actors::flowing::send_of(run, send).is_some_and(|(_, message)| message == id.message);
    place_of_row(run, id.row.0, sends_it)
        .filter(|place| run.delivery(place.delivery.index).is_some_and(|delivery| delivery.space == id.space))
}

/// The newest send that `wanted` names and whose message may have reached the row.
fn place_of_row(run: &Run, row: u32, wanted: impl Fn(NodeId) -> bool) -> Option<Place> {
    let named = run.details_removed_at().is_none();
    let left = run.deliveries.iter().rev().filter(|delivery| named && delivery.may_have_left(row));
    left.flat_map(|delivery| {
        let sends = run.sends_with(delivery.id.index).filter(|send| delivery.assigned(*send).contains(row));
        sends.map(|send| Place { delivery: delivery.id, send }).collect::<Vec<_>>()
    })
    .find(|place| wanted(place.send))
}

/// The token in a Message-ID (`<token@domain>`), a return path (`bounce+token@domain`), or alone.
fn token_of(text: &str) -> &str {
    let text = text.trim().trim_start_matches('<').trim_end_matches('>');
    let local = text.split('@').next().unwrap_or(text);
    match local.get(..RETURN_PATH_PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(RETURN_PATH_PREFIX) => &local[RETURN_PATH_PREFIX.len()..],
        _ => local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_what_mail_systems_make_of_them() {
        for text in
            ["abc", "<abc@x.test>", " <abc@x.test> ", "bounce+abc@b.x.test", "BOUNCE+abc@b.x.test", "<bounce+abc@b>"]
        {
            assert_eq!(token_of(text), "abc", "{text}");
        }
        assert_eq!(token_of("é"), "é", "no panic inside a character");
        assert_eq!(token_of(""), "", "empty");
    }
}
