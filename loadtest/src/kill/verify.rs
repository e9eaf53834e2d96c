//! The accounts after the kills: the engine's sets against the sink's record, contact by contact.
//!
//! Owns no state. Pure but for fetching the sets, so that the accounting itself is tested on made-up books.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::life::{Books, IMPORT_ROWS};
use super::{KillOptions, KillResult};
use crate::api::{Api, Ledger};
use crate::base;
use crate::sink::process::SinkProcess;
use crate::sink::record::Accepted;

/// The sets that a contact can be in; the first four are where it may end.
pub const SETS: [&str; 7] = ["accepted", "rejected", "skipped", "unknown", "pending", "claimed", "deferred"];
/// Problems of one kind that are spelled out for one campaign; the rest is counted.
const SPELLED_OUT: usize = 5;

/// Holds the growth of unknown against its bound at every restart.
#[derive(Debug)]
pub struct UnknownWatch {
    per_kill: u64,
    kills: u64,
    unknown: u64,
    withheld: u64,
}

impl UnknownWatch {
    pub fn new(per_kill: u64) -> UnknownWatch {
        UnknownWatch { per_kill, kills: 0, unknown: 0, withheld: 0 }
    }

    /// After a start and its check, with so many kills in all. The sink is asked last: what it withheld before counts.
    pub fn look(
        &mut self,
        books: &Books,
        kills: u64,
        sink: &mut SinkProcess,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let unknown = books.unknown();
        let counts = sink.report()?.counts;
        problems.extend(self.seen(unknown, kills, counts.dropped_after_dot + counts.dropped_in_body));
        Ok(())
    }

    fn seen(&mut self, unknown: u64, kills: u64, withheld: u64) -> Option<String> {
        let grown = unknown.saturating_sub(self.unknown);
        let bound = (kills - self.kills) * self.per_kill + (withheld - self.withheld);
        let now = UnknownWatch { per_kill: self.per_kill, kills, unknown, withheld };
        let before = std::mem::replace(self, now);
        (grown > bound).then(|| {
            let since = kills - before.kills;
            format!("unknown grew by {grown} over {since} kills, and by at most {bound} it may")
        })
    }
}

/// What the engine says of one campaign.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    pub campaign: String,
    pub ledger: Ledger,
    /// Keys by set.
    pub members: BTreeMap<&'static str, Vec<String>>,
}

/// Fetches all sets of all campaigns.
pub fn sets(books: &Books, api: &Api) -> anyhow::Result<Vec<Sets>> {
    books
        .campaigns
        .iter()
        .map(|campaign| {
            let members = SETS
                .iter()
                .map(|set| Ok((*set, api.contacts(&campaign.id, set)?)))
                .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
            Ok(Sets { campaign: campaign.name.clone(), ledger: api.report(&campaign.id)?.ledger, members })
        })
        .collect()
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
pub fn accounts(options: &KillOptions, sets: &[Sets], record: &[Accepted], result: &mut KillResult) {
    let mut recorded: HashMap<&str, HashMap<&str, Vec<&str>>> = HashMap::new();
    for mail in record {
        let campaign = mail.subject.split(' ').next().unwrap_or_default();
        recorded.entry(campaign).or_default().entry(&mail.recipient).or_default().push(&mail.message_id);
    }
    result.recorded = record.len() as u64;
    let nothing = HashMap::new();
    for one in sets {
        let mails = recorded.remove(one.campaign.as_str()).unwrap_or_default();
        campaign(options, one, if mails.is_empty() { &nothing } else { &mails }, result);
    }
    for (campaign, mails) in recorded {
        result
            .problems
            .push(format!("the sink has {} mails of a campaign {campaign:?} that was never made", mails.len()));
    }
    if result.unknown > result.unknown_bound {
        result.problems.push(format!("unknown {} is above its bound {}", result.unknown, result.unknown_bound));
    }
}

fn campaign(options: &KillOptions, sets: &Sets, mails: &HashMap<&str, Vec<&str>>, result: &mut KillResult) {
    let mut where_is: HashMap<&str, Vec<&'static str>> = HashMap::new();
    for (set, keys) in &sets.members {
        for key in keys {
            where_is.entry(key).or_default().push(set);
        }
    }
    let mut breaches = Breaches { campaign: &sets.campaign, counts: BTreeMap::new(), texts: Vec::new() };
    for i in 0..options.contacts {
        let (key, address) = (base::key("c", i), base::email("c", i));
        let ids = mails.get(address.as_str()).map_or(&[][..], Vec::as_slice);
        let places = where_is.remove(key.as_str()).unwrap_or_default();
        if ids.len() > 1 {
            result.twice += 1;
            breaches.add("mailed twice", format!("{address}: {ids:?}"));
        }
        match (places.as_slice(), ids.len()) {
            (["accepted"], 1..) | (["rejected" | "skipped"], 0) | (["unknown"], _) => {}
            (places, mails) => {
                result.unaccounted += 1;
                breaches.add("unaccounted", format!("{address}: in {places:?}, recorded {mails} times"));
            }
        }
    }
    for key in where_is.keys() {
        breaches.add("not of the audience", (*key).to_owned());
    }
    let foreign = mails.keys().filter(|address| !is_expected(address, options.contacts));
    foreign.for_each(|address| breaches.add("mailed and not of the audience", (*address).to_owned()));
    sums(options, sets, &mut breaches, result);
    let texts = breaches.finish();
    result.problems.extend(texts);
}

fn is_expected(address: &str, contacts: u64) -> bool {
    let number = address.strip_prefix('c').and_then(|rest| rest.split('@').next()?.parse::<u64>().ok());
    number.is_some_and(|i| i < contacts && base::email("c", i) == address)
}

/// The ledger's figures are the sizes of the sets.
fn sums(options: &KillOptions, sets: &Sets, breaches: &mut Breaches<'_>, result: &mut KillResult) {
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
        let size = sets.members.get(set).map_or(0, Vec::len) as u64;
        if size != figure {
            breaches.add("ledger against list", format!("{set}: ledger {figure}, listed {size}"));
        }
    }
    if !ledger.holds() || ledger.audience != options.contacts {
        breaches.add("final ledger", format!("{ledger:?}"));
    }
    result.audience += ledger.audience;
    result.accepted += ledger.accepted;
    result.rejected += ledger.rejected;
    result.skipped += ledger.skipped;
    result.unknown += ledger.unknown;
}

/// Breaches of one campaign: the first few of each kind in words, all counted.
struct Breaches<'a> {
    campaign: &'a str,
    counts: BTreeMap<&'static str, usize>,
    texts: Vec<String>,
}

impl Breaches<'_> {
    fn add(&mut self, kind: &'static str, text: String) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn books(places: &[&'static str]) -> Sets {
        let mut sets = Sets { campaign: "k0000".to_owned(), ..Sets::default() };
        for (i, set) in places.iter().enumerate() {
            sets.members.entry(set).or_default().push(base::key("c", i as u64));
        }
        let size = |set: &str| sets.members.get(set).map_or(0, Vec::len) as u64;
        sets.ledger = Ledger {
            audience: places.len() as u64,
            accepted: size("accepted"),
            rejected: size("rejected"),
            skipped: size("skipped"),
            unknown: size("unknown"),
            pending: size("pending"),
            balanced: true,
            ..Ledger::default()
        };
        sets
    }

    fn mail(i: u64) -> Accepted {
        Accepted { recipient: base::email("c", i), message_id: format!("<{i}@x>"), subject: "k0000 hello".to_owned() }
    }

    fn judge(places: &[&'static str], mailed: &[u64]) -> KillResult {
        let options = KillOptions { contacts: places.len() as u64, ..KillOptions::default() };
        let mut result = KillResult { unknown_bound: 1, ..KillResult::default() };
        accounts(&options, &[books(places)], &mailed.iter().map(|i| mail(*i)).collect::<Vec<_>>(), &mut result);
        result
    }

    #[test]
    fn true_books_pass() {
        let result = judge(&["accepted", "unknown", "rejected", "skipped", "accepted"], &[0, 1, 4]);
        assert_eq!(result.problems, [] as [String; 0], "nothing is wrong");
        assert_eq!((result.accepted, result.unknown, result.recorded), (2, 1, 3), "sums");
        assert_eq!(judge(&["unknown"], &[]).problems, [] as [String; 0], "an unknown may not have arrived");
    }

    #[test]
    fn unknown_is_watched_from_kill_to_kill() {
        let mut watch = UnknownWatch::new(5);
        assert_eq!(watch.seen(0, 0, 0), None, "nothing yet");
        assert_eq!(watch.seen(7, 1, 2), None, "five a kill and two withheld");
        assert_eq!(watch.seen(17, 3, 2), None, "two kills at once");
        let told = watch.seen(23, 4, 2).unwrap_or_default();
        assert!(told.contains("grew by 6") && told.contains("at most 5"), "{told}");
    }

    #[test]
    fn every_lie_is_found() {
        let lies: [(&str, &[&'static str], &[u64]); 6] = [
            ("twice", &["accepted"], &[0, 0]),
            ("accepted and never recorded", &["accepted"], &[]),
            ("rejected and yet recorded", &["rejected"], &[0]),
            ("skipped and yet recorded", &["skipped"], &[0]),
            ("left pending at the end", &["pending"], &[]),
            ("more unknown than were in flight", &["unknown", "unknown"], &[]),
        ];
        for (lie, places, mailed) in lies {
            let result = judge(places, mailed);
            assert!(!result.problems.is_empty(), "{lie} was not found");
        }
        assert_eq!(judge(&["accepted"], &[0, 0]).twice, 1, "counted as twice");
        assert_eq!(judge(&["accepted"], &[]).unaccounted, 1, "counted as unaccounted");
    }

    #[test]
    fn a_contact_in_two_sets_or_none_and_a_stranger_are_found() {
        let options = KillOptions { contacts: 2, ..KillOptions::default() };
        let mut sets = books(&["accepted", "accepted"]);
        sets.members.entry("unknown").or_default().push(base::key("c", 1));
        sets.ledger.unknown = 1;
        let mut result = KillResult { unknown_bound: 9, ..KillResult::default() };
        let stranger = Accepted { recipient: "other@example.test".to_owned(), ..mail(1) };
        accounts(&options, &[sets], &[mail(0), mail(1), stranger], &mut result);
        let text = result.problems.join("\n");
        assert!(text.contains("unaccounted") && text.contains("final ledger"), "two sets: {text}");
        assert!(text.contains("other@example.test"), "a stranger: {text}");
    }
}
