//! What only one kind of campaign must keep to at the end: who is in which delivery, and which version of it.
//!
//! Owns no state. Where a split, a cell or a condition puts a contact is known from its number, or shown by the record alone.

use std::collections::{BTreeMap, BTreeSet};

use super::campaign::{Campaign, Script};
use super::kinds::{Kind, cell_of, is_one};
use super::sequence::{Sequence, Way};
use super::specs::{DATES, VERSIONS};
use super::split::Split;
use super::verify::{Account, Breaches, DeliverySets, Mails, RunSets};

/// Who is in a delivery at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Every contact of the group, in every run.
    Everybody,
    /// Those who came to it.
    Some,
}

/// Who must be in the `index`th delivery of a campaign.
pub fn expected(campaign: &Campaign, index: u16) -> Expected {
    let everybody = match (&campaign.script, campaign.kind) {
        (Script::Sequence(sequence), _) => match sequence.way {
            Way::Edited => matches!(index, 0 | 4) || (index == 5 && sequence.more),
            Way::Extended => index == 0 || (index == 1 && sequence.more),
            Way::Entered | Way::Stopped => false,
        },
        _ => index == 0,
    };
    if everybody { Expected::Everybody } else { Expected::Some }
}

/// Every rule of the campaign's kind.
pub fn of(one: &Account, mails: &Mails, breaches: &mut Breaches<'_>) {
    let Some(run) = one.runs.last() else {
        if one.campaign.kind != Kind::Scheduled {
            breaches.add("never ran", one.campaign.id.clone());
        }
        return;
    };
    match (&one.campaign.script, one.campaign.kind) {
        (Script::Sequence(sequence), _) => of_sequence(sequence, one, run, mails, breaches),
        (Script::Split(split), _) => of_split(split, one, run, mails, breaches),
        (_, Kind::FollowUp) => of_follow_up(one, run, breaches),
        (_, Kind::MultiSegment) => of_cells(mails, breaches),
        (_, Kind::Flow) => of_flow(one, run, mails, breaches),
        (_, Kind::Scheduled) => of_schedule(one, breaches),
        _ => {}
    }
}

fn contacts(one: &Account) -> std::ops::Range<u64> {
    0..one.campaign.group.contacts
}

/// The contacts of a delivery.
fn inside(run: &RunSets, delivery: u16) -> BTreeSet<u64> {
    run.deliveries.get(&delivery).map(|sets| sets.places.keys().copied().collect()).unwrap_or_default()
}

/// Nobody opens here: the follow-up is of exactly those whose first message was accepted.
fn of_follow_up(one: &Account, run: &RunSets, breaches: &mut Breaches<'_>) {
    let (first, second) = (run.deliveries.get(&0).cloned().unwrap_or_default(), inside(run, 1));
    for contact in contacts(one).filter(|contact| first.is_in(*contact, "accepted") != second.contains(contact)) {
        let places = first.places.get(&contact);
        breaches.add(
            "follow-up",
            format!("contact {contact}: first in {places:?}, follow-up {}", second.contains(&contact)),
        );
    }
}

/// A contact of a cell gets the cell's message.
fn of_cells(mails: &Mails, breaches: &mut Breaches<'_>) {
    for (version, contact) in mails.of(0).filter(|(version, contact)| *version != cell_of(*contact)) {
        breaches.add("another cell's message", format!("contact {contact}: {version}, not {}", cell_of(contact)));
    }
}

/// Everybody goes one way: by `second`, by `third` or by `fourth`.
fn of_flow(one: &Account, run: &RunSets, mails: &Mails, breaches: &mut Breaches<'_>) {
    let (again, fourth) = (inside(run, 1), inside(run, 2));
    for contact in contacts(one) {
        let ways = usize::from(again.contains(&contact)) + usize::from(fourth.contains(&contact));
        if ways != 1 {
            breaches.add("ways", format!("contact {contact} went {ways} ways"));
        }
    }
    let wrong = |(version, contact): &(&str, u64)| match *version {
        "third" => !is_one(*contact),
        "fourth" => is_one(*contact),
        _ => false,
    };
    for (version, contact) in mails.of(1).chain(mails.of(2)).filter(wrong) {
        breaches.add("against the condition", format!("contact {contact} got {version}"));
    }
}

/// Only the sample gets what did not win, and each version's mails are those that its ledger counts.
fn of_split(split: &Split, one: &Account, run: &RunSets, mails: &Mails, breaches: &mut Breaches<'_>) {
    let nothing = DeliverySets::default();
    let sets = run.deliveries.get(&0).unwrap_or(&nothing);
    let mut recorded: BTreeMap<&str, u64> = BTreeMap::new();
    for (version, _) in mails.of(0) {
        *recorded.entry(version).or_default() += 1;
    }
    for version in recorded.keys().filter(|version| !VERSIONS.contains(version)) {
        breaches.add("a version of nobody", (*version).to_owned());
    }
    let decision = run.decision.clone().unwrap_or_default();
    for version in VERSIONS {
        let mailed = recorded.get(version).copied().unwrap_or(0);
        let accepted = sets.messages.iter().find(|(name, _)| name == version).map_or(0, |(_, accepted)| *accepted);
        if mailed < accepted || mailed > accepted + sets.ledger.unknown {
            breaches.add("a version's mails", format!("{version}: {accepted} accepted, {mailed} recorded"));
        }
        let lost = decision["winner"] != version;
        if let Some(sample) = split.sample(version).filter(|sample| lost && mailed > *sample) {
            breaches
                .add("beyond the sample", format!("{version} lost: {mailed} mails, {sample} contacts in its sample"));
        }
    }
    if decision.is_null() {
        breaches.add("undecided", format!("{}", one.view["state"]));
    }
}

fn of_sequence(sequence: &Sequence, one: &Account, run: &RunSets, mails: &Mails, breaches: &mut Breaches<'_>) {
    let first = inside(run, 0);
    match sequence.way {
        Way::Edited => {
            let versions: BTreeSet<&str> = mails.of(2).map(|(version, _)| version).collect();
            if versions.len() > 1 || !versions.iter().all(|version| sequence.is_version(version)) {
                breaches.add("versions of one step", format!("{versions:?}"));
            }
        }
        Way::Entered => {
            let acknowledged = sequence.entrants.iter().filter(|(_, acknowledged)| **acknowledged);
            for (contact, _) in acknowledged.filter(|(contact, _)| !first.contains(contact)) {
                breaches.add("entered and forgotten", contact.to_string());
            }
            for contact in first.iter().filter(|contact| !sequence.entrants.contains_key(contact)) {
                breaches.add("never asked to enter", contact.to_string());
            }
            if first != inside(run, 1) {
                breaches.add("cohort", format!("{} came in, {} came on", first.len(), inside(run, 1).len()));
            }
        }
        Way::Extended => {
            if !sequence.more {
                breaches.add("never extended", one.view.to_string());
            }
        }
        Way::Stopped => {
            let sizes = (first.len() as u64, inside(run, 1).len());
            if sizes != (0, 0) && sizes != (one.campaign.group.contacts, 0) {
                breaches.add("stopped", format!("{sizes:?} contacts in the deliveries"));
            }
        }
    }
}

/// One run a launch, and each run's mails are its own.
fn of_schedule(one: &Account, breaches: &mut Breaches<'_>) {
    let schedule = &one.view["schedule"];
    let (made, skipped) = (schedule["made"].as_u64().unwrap_or(0), schedule["skipped"].as_u64().unwrap_or(0));
    if made != one.runs.len() as u64 {
        breaches.add("runs", format!("{made} launches, {} runs", one.runs.len()));
    }
    if !matches!(one.campaign.script, Script::Recurring) && made + skipped != DATES as u64 {
        breaches.add("dates", format!("{DATES} dates: {made} launches, {skipped} skipped"));
    }
    for run in &one.runs {
        let (Some(sets), Some(delivered)) = (run.deliveries.get(&0), &run.delivered) else { continue };
        for contact in contacts(one) {
            let is = delivered.contains(&contact);
            let may = sets.is_in(contact, "accepted") || sets.is_in(contact, "unknown");
            if (sets.is_in(contact, "accepted") && !is) || (is && !may) {
                let places = sets.places.get(&contact);
                breaches
                    .add("of another run", format!("run {}, contact {contact}: {places:?}, recorded {is}", run.run));
            }
        }
    }
}
