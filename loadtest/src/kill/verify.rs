//! The accounts after the kills: the engine's sets against the sink's record, delivery by delivery, contact by contact.
//!
//! Owns no state. Pure but for fetching the sets, so that the accounting itself is tested on made-up books. What only one kind
//! of campaign must keep to is in `rules`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};

use super::KillResult;
use super::books::{Books, IMPORT_ROWS};
use super::campaign::Campaign;
use super::kinds::{Kind, read_subject};
use super::rules::{self, Expected};
use crate::api::{Api, Ledger};
use crate::sink::record::Accepted;

/// The sets that a contact can be in; the first four are where it may end.
pub const SETS: [&str; 7] = ["accepted", "rejected", "skipped", "unknown", "pending", "claimed", "deferred"];
/// Problems of one kind that are spelled out for one campaign; the rest is counted.
const SPELLED_OUT: usize = 5;
/// Events of one request.
const EVENTS_MAX: usize = 500;

/// What the engine says of one delivery of one run.
#[derive(Clone, Debug, Default)]
pub struct DeliverySets {
    pub ledger: Ledger,
    /// Sets by number of the contact.
    pub places: HashMap<u64, Vec<&'static str>>,
    /// Keys that are none of the group's.
    pub strangers: Vec<String>,
    /// Name and accepted contacts of each message.
    pub messages: Vec<(String, u64)>,
}

impl DeliverySets {
    pub fn is_in(&self, contact: u64, set: &str) -> bool {
        self.places.get(&contact).is_some_and(|places| places.contains(&set))
    }
}

/// What the engine says of one run.
#[derive(Clone, Debug, Default)]
pub struct RunSets {
    pub run: u64,
    pub deliveries: BTreeMap<u16, DeliverySets>,
    /// Contacts whose recorded mail is of this run, by the engine's own reading of its Message-ID.
    pub delivered: Option<HashSet<u64>>,
    /// What its test decided, if it has one.
    pub decision: Option<Value>,
}

/// One campaign, as the engine says it ended.
#[derive(Clone, Debug)]
pub struct Account {
    pub campaign: Campaign,
    pub view: Value,
    pub runs: Vec<RunSets>,
}

/// A mail that the sink recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub version: String,
    pub message_id: String,
}

/// What the sink recorded of one campaign.
#[derive(Clone, Debug, Default)]
pub struct Mails {
    pub by: HashMap<(u16, u64), Vec<Mail>>,
    /// Addresses that are none of the group's.
    pub strangers: Vec<String>,
}

impl Mails {
    pub fn to(&self, delivery: u16, contact: u64) -> &[Mail] {
        self.by.get(&(delivery, contact)).map_or(&[], Vec::as_slice)
    }

    /// Version and contact of every mail of a delivery.
    pub fn of(&self, delivery: u16) -> impl Iterator<Item = (&str, u64)> {
        let each = self.by.iter().filter(move |((of, _), _)| *of == delivery);
        each.flat_map(|((_, contact), mails)| mails.iter().map(|mail| (mail.version.as_str(), *contact)))
    }
}

/// Fetches all sets of all runs of all campaigns.
pub fn accounts_of(
    books: &Books,
    api: &Api,
    record: &[Accepted],
    problems: &mut Vec<String>,
) -> anyhow::Result<Vec<Account>> {
    books.campaigns.iter().map(|campaign| account_of(api, campaign, record, problems)).collect()
}

/// Fetches all sets of all runs of one campaign.
pub fn account_of(
    api: &Api,
    campaign: &Campaign,
    record: &[Accepted],
    problems: &mut Vec<String>,
) -> anyhow::Result<Account> {
    let view = api.get_json(&format!("/v1/campaigns/{}", campaign.id))?;
    let runs = api.runs(&campaign.id)?;
    let several = campaign.kind == Kind::Scheduled;
    if several {
        tell_delivered(api, campaign, record, problems)?;
    }
    let runs = runs.into_iter().map(|run| fetch(api, campaign, run, several)).collect::<anyhow::Result<_>>()?;
    Ok(Account { campaign: campaign.clone(), view, runs })
}

fn fetch(api: &Api, campaign: &Campaign, run: u64, several: bool) -> anyhow::Result<RunSets> {
    let report = api.run_report(run)?;
    let decision = report.rest.get("tests").map(|tests| tests[0]["decision"].clone());
    let mut sets = RunSets { run, decision, ..RunSets::default() };
    for delivery in report.rest.get("deliveries").and_then(Value::as_array).into_iter().flatten() {
        let index = u16::try_from(delivery["index"].as_u64().unwrap_or(u64::MAX))?;
        let each = delivery["messages"].as_array().into_iter().flatten();
        let messages = each
            .map(|one| (one["name"].as_str().unwrap_or_default().to_owned(), one["accepted"].as_u64().unwrap_or(0)));
        let (ledger, messages) = (serde_json::from_value(delivery.clone())?, messages.collect());
        sets.deliveries.insert(index, DeliverySets { ledger, messages, ..DeliverySets::default() });
    }
    for set in SETS {
        for member in api.members(run, set)? {
            let delivery = sets.deliveries.entry(member.delivery).or_default();
            match campaign.group.of_key(&member.contact) {
                Some(contact) => delivery.places.entry(contact).or_default().push(set),
                None => delivery.strangers.push(member.contact),
            }
        }
    }
    if several {
        let members = api.members(run, "delivered")?;
        sets.delivered = Some(members.iter().filter_map(|member| campaign.group.of_key(&member.contact)).collect());
    }
    Ok(sets)
}

/// The record's subjects do not tell runs of one campaign apart; the engine does, by the Message-ID that it signed.
fn tell_delivered(
    api: &Api,
    campaign: &Campaign,
    record: &[Accepted],
    problems: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mine = record.iter().filter(|mail| read_subject(&mail.subject).is_some_and(|(name, ..)| name == campaign.name));
    let ids: BTreeSet<&str> = mine.map(|mail| mail.message_id.as_str()).collect();
    let event = |id: &&str| json!({"id": format!("delivered-{id}"), "type": "delivered", "message_id": id});
    let events: Vec<Value> = ids.iter().map(event).collect();
    for part in events.chunks(EVENTS_MAX) {
        let (_, refused) = api.events(part)?;
        problems.extend(
            refused
                .into_iter()
                .take(SPELLED_OUT)
                .map(|one| format!("{}: a recorded mail cannot be delivered: {one}", campaign.name)),
        );
    }
    Ok(())
}

/// Acknowledged imports are whole; others whole or absent.
pub fn imports(books: &Books, api: &Api, result: &mut KillResult) -> anyhow::Result<()> {
    for import in &books.imports {
        let until = Instant::now() + Duration::from_secs(60);
        let wanted = format!("batch = \"{}\"", import.batch);
        loop {
            let rows = api.count(&wanted)?;
            if rows == IMPORT_ROWS || (rows == 0 && !import.acknowledged) {
                break;
            }
            if Instant::now() > until {
                let said = if import.acknowledged { "was acknowledged" } else { "was cut off" };
                result.problems.push(format!("import {} {said} and has {rows} rows of {IMPORT_ROWS}", import.batch));
                break;
            }
            // It may be running still: imports go on after a restart.
            std::thread::sleep(Duration::from_millis(100));
        }
        if result.problems.len() > 100 {
            bail!("too many broken imports: {:?}", result.problems);
        }
    }
    Ok(())
}

/// Holds the sets against the record and writes the sums and every breach into the result.
pub fn accounts(accounts: &[Account], record: &[Accepted], result: &mut KillResult) {
    let mut recorded = sorted(accounts, record, result);
    for one in accounts {
        let mails = recorded.remove(one.campaign.name.as_str()).unwrap_or_default();
        account(one, &mails, result);
    }
    if result.unknown > result.unknown_bound {
        result.problems.push(format!("unknown {} is above its bound {}", result.unknown, result.unknown_bound));
    }
}

/// The record by campaign.
fn sorted<'a>(accounts: &'a [Account], record: &[Accepted], result: &mut KillResult) -> HashMap<&'a str, Mails> {
    let by_name: HashMap<&str, &Campaign> =
        accounts.iter().map(|one| (one.campaign.name.as_str(), &one.campaign)).collect();
    let mut recorded: HashMap<&str, Mails> = HashMap::new();
    result.recorded = record.len() as u64;
    for mail in record {
        let known = read_subject(&mail.subject)
            .and_then(|(name, delivery, version)| by_name.get(name).map(|campaign| (*campaign, delivery, version)));
        let Some((campaign, delivery, version)) = known else {
            result.problems.push(format!("the sink has a mail of no campaign: {mail:?}"));
            continue;
        };
        let mails = recorded.entry(campaign.name.as_str()).or_default();
        let Some(contact) = campaign.group.of_email(&mail.recipient) else {
            mails.strangers.push(mail.recipient.clone());
            continue;
        };
        let one = Mail { version: version.to_owned(), message_id: mail.message_id.clone() };
        mails.by.entry((delivery, contact)).or_default().push(one);
    }
    recorded
}

fn account(one: &Account, mails: &Mails, result: &mut KillResult) {
    let mut breaches = Breaches { campaign: &one.campaign.name, counts: BTreeMap::new(), texts: Vec::new() };
    let mut deliveries: BTreeSet<u16> = one.runs.iter().flat_map(|run| run.deliveries.keys().copied()).collect();
    deliveries.extend(mails.by.keys().map(|(delivery, _)| *delivery));
    for index in deliveries {
        delivery(one, index, mails, &mut breaches, result);
    }
    for address in &mails.strangers {
        breaches.add("mailed and not of the audience", address.clone());
    }
    rules::of(one, mails, &mut breaches);
    let texts = breaches.finish();
    result.problems.extend(texts);
}

/// One delivery of all runs of a campaign.
fn delivery(one: &Account, index: u16, mails: &Mails, breaches: &mut Breaches<'_>, result: &mut KillResult) {
    let expected = rules::expected(&one.campaign, index);
    let runs: Vec<&DeliverySets> = one.runs.iter().filter_map(|run| run.deliveries.get(&index)).collect();
    for contact in 0..one.campaign.group.contacts {
        let to = mails.to(index, contact);
        let ids: BTreeSet<&str> = to.iter().map(|mail| mail.message_id.as_str()).collect();
        if ids.len() < to.len() || to.len() > one.runs.len() {
            result.twice += 1;
            breaches.add("mailed twice", format!("delivery {index}, contact {contact}: {to:?}"));
        }
        let places: Vec<&[&str]> =
            runs.iter().map(|run| run.places.get(&contact).map_or(&[][..], Vec::as_slice)).collect();
        let ended = |place: &&[&str]| match place {
            [set] => SETS[..4].contains(set),
            [] => expected == Expected::Some,
            _ => false,
        };
        let count = |set: &str| places.iter().filter(|place| place.contains(&set)).count();
        let (accepted, unknown) = (count("accepted"), count("unknown"));
        if !places.iter().all(ended) || to.len() < accepted || to.len() > accepted + unknown {
            result.unaccounted += 1;
            let text = format!("delivery {index}, contact {contact}: in {places:?}, recorded {} times", to.len());
            breaches.add("unaccounted", text);
        }
    }
    for sets in runs {
        for key in &sets.strangers {
            breaches.add("not of the audience", key.clone());
        }
        sums(sets, index, expected, one.campaign.group.contacts, breaches, result);
    }
}

/// The ledger's figures are the sizes of the sets.
fn sums(
    sets: &DeliverySets,
    index: u16,
    expected: Expected,
    contacts: u64,
    breaches: &mut Breaches<'_>,
    result: &mut KillResult,
) {
    let ledger = &sets.ledger;
    let figures = [
        ledger.accepted,
        ledger.rejected,
        ledger.skipped,
        ledger.unknown,
        ledger.pending,
        ledger.claimed,
        ledger.deferred,
    ];
    for (set, figure) in SETS.iter().zip(figures) {
        let size = sets.places.values().filter(|places| places.contains(set)).count() as u64;
        if size != figure {
            breaches.add("ledger against list", format!("delivery {index}, {set}: ledger {figure}, listed {size}"));
        }
    }
    if !ledger.holds() || (expected == Expected::Everybody && ledger.audience != contacts) {
        breaches.add("final ledger", format!("delivery {index}: {ledger:?}"));
    }
    result.audience += ledger.audience;
    result.accepted += ledger.accepted;
    result.rejected += ledger.rejected;
    result.skipped += ledger.skipped;
    result.unknown += ledger.unknown;
}

/// Breaches of one campaign: the first few of each kind in words, all counted.
pub struct Breaches<'a> {
    campaign: &'a str,
    counts: BTreeMap<&'static str, usize>,
    texts: Vec<String>,
}

impl Breaches<'_> {
    pub fn add(&mut self, kind: &'static str, text: String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= SPELLED_OUT {
            self.texts.push(format!("{}: {kind}: {text}", self.campaign));
        }
    }

    fn finish(self) -> Vec<String> {
        let more = self.counts.iter().filter(|(_, n)| **n > SPELLED_OUT);
        let more: Vec<String> = more.map(|(kind, n)| format!("{}: {kind}: {n} in all", self.campaign)).collect();
        self.texts.into_iter().chain(more).collect()
    }
}
