//! What happened in the last seconds, for the rules that look beyond one request.
//!
//! Owns bounded tables of recent clicks by mail and of contacts by address and by agent, split into shards by a lock each.
//! A *client* is what acts under one agent, from whichever address: scanners have many addresses. An address alone is no client:
//! a company's gateway and its people share one, and the gateway looks at a link at the moment when a person follows it. Only a
//! burst is held against an address too, because scanners change their agent from one request to the next.
//! Invariants: RE-1 at most `limits::RECENT_MAX` entries in all, the oldest go first; RE-2 nothing older than its window
//! counts; RE-3 counts end one above what the rules ask for, so that a set is a few entries that are searched in order; RE-4 what
//! was seen of a mail, the verdict, its being remembered and its being queued are one step under the mail's lock, so that what
//! takes an event back is queued after it. Lost at a restart: then the
//! rules see less for a minute.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::machine::{Hit, Seen, Verdict};
use crate::api::port::{EventClass, EventKind, Reclassified, Tracked};
use crate::clock::Timestamp;
use crate::content::NOBODY;
use crate::ids::{ContactRow, MessageId, RowSpace, RunId};
use crate::limits;

const SHARDS: usize = 64;
const SHARD_ENTRIES: usize = limits::RECENT_MAX / SHARDS / 2;

/// One contact's copy of a message.
type Mail = (RowSpace, RunId, MessageId, ContactRow);

pub(super) struct Recent {
    /// Seeded anew at each start: what clients send cannot be made to fall on one shard.
    hasher: RandomState,
    mails: Vec<Mutex<Table<Mail, Vec<Followed>>>>,
    sources: Vec<Mutex<Table<Source, Contacts>>>,
}

/// A click of a mail, and who caused it.
#[derive(Clone, Copy, Debug)]
struct Followed {
    event: Reclassified,
    address: IpAddr,
    /// Hash of the agent.
    agent: u64,
}

impl Followed {
    fn is_click(&self) -> bool {
        matches!(self.event.kind, EventKind::Click { .. })
    }
}

/// Who acts: an address, or an agent within a network (agents are shared by millions; a network's are not).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Address(IpAddr),
    Agent(u64, u64),
}

/// Contacts on whose behalf a source acted since `since`.
#[derive(Debug, Default)]
struct Contacts {
    since: Timestamp,
    /// At most one more than [`limits::SHARED_CONTACTS`].
    contacts: Vec<(RowSpace, ContactRow)>,
}

/// Entries in the order in which they were made; the oldest go when it is full.
struct Table<K, V> {
    entries: HashMap<K, V, RandomState>,
    order: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, V: Default> Table<K, V> {
    fn new() -> Table<K, V> {
        Table { entries: HashMap::default(), order: VecDeque::new() }
    }

    fn entry(&mut self, key: K) -> &mut V {
        if !self.entries.contains_key(&key) {
            if self.order.len() >= SHARD_ENTRIES
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key);
        }
        self.entries.entry(key).or_default()
    }
}

/// The network that an address belongs to: /24, or /48.
fn network(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(a) => u64::from(a.to_bits() >> 8),
        IpAddr::V6(a) => (a.to_bits() >> 80) as u64,
    }
}

fn mail(tracked: &Tracked) -> Mail {
    (tracked.space, tracked.run, tracked.message, tracked.row)
}

impl Recent {
    pub(super) fn new() -> Recent {
        Recent {
            hasher: RandomState::default(),
            mails: (0..SHARDS).map(|_| Mutex::new(Table::new())).collect(),
            sources: (0..SHARDS).map(|_| Mutex::new(Table::new())).collect(),
        }
    }

    /// The shard of a key: by other bits of the hash than the tables use.
    fn shard<'a, T>(&self, shards: &'a [Mutex<T>], key: &impl Hash) -> &'a Mutex<T> {
        &shards[(self.hasher.hash_one(key) >> 32) as usize % shards.len()]
    }

    /// Lets `judge` decide about a hit by what was seen shortly before, this hit included, remembers the hit under its class, and
    /// hands the verdict to `queue`, with the earlier clicks of the mail within the window that were counted in a more human
    /// class and are this machine's: those of the same client, and of a burst those from the same address.
    ///
    /// One step for each mail (RE-4): of three links that are followed at one moment over three threads, the last to come here
    /// finds the others, and finds them queued. Neither function may wait.
    pub(super) fn decide<T>(
        &self,
        tracked: &Tracked,
        hit: &Hit<'_>,
        now: Timestamp,
        judge: impl FnOnce(&Seen) -> Verdict,
        queue: impl FnOnce(Verdict, Vec<Reclassified>) -> T,
    ) -> T {
        let who = (tracked.space, tracked.row);
        let agent = self.hasher.hash_one(hit.agent);
        let mut seen = Seen {
            links: 1,
            contacts_of_address: self.contacts(Source::Address(hit.address), who, now),
            contacts_of_agent: self.contacts(Source::Agent(network(hit.address), agent), who, now),
        };
        if tracked.row == NOBODY {
            // All recipients share the links of a mail that names nobody: nothing follows from how many are followed.
            return queue(judge(&seen), Vec::new());
        }
        let key = mail(tracked);
        let mut table = self.shard(&self.mails, &key).lock();
        let events = table.entry(key);
        // A wall clock that was set back leaves events of the future behind, which say nothing; but another thread may have read
        // the clock later and be here before.
        let apart = |at: Timestamp| now.saturating_since(at).max(at.saturating_since(now));
        events.retain(|e| apart(e.event.at) <= limits::BURST_WINDOW);
        let by_agent = distinct(events.iter().filter(|e| e.agent == agent), hit.kind);
        seen.links = by_agent.max(distinct(events.iter().filter(|e| e.address == hit.address), hit.kind));
        let verdict = judge(&seen);
        let event = Reclassified { kind: hit.kind, was: verdict.class, at: now };
        let own = Followed { event, address: hit.address, agent };
        let moved = taken_along(events, &own, seen.links >= limits::BURST_LINKS);
        remember(events, own);
        queue(verdict, moved)
    }

    fn contacts(&self, source: Source, who: (RowSpace, ContactRow), now: Timestamp) -> usize {
        let mut table = self.shard(&self.sources, &source).lock();
        let seen = table.entry(source);
        if seen.since > now || now.saturating_since(seen.since) > limits::SHARED_WINDOW {
            seen.contacts.clear();
            seen.since = now;
        }
        if seen.contacts.len() <= limits::SHARED_CONTACTS && !seen.contacts.contains(&who) {
            seen.contacts.push(who);
        }
        seen.contacts.len()
    }
}

/// Only what may count or be taken back later: no open does either, and of a machine's clicks on one link the newest is enough.
/// However fast a machine asks, a mail has a few entries, which each hit of it looks through.
fn remember(events: &mut Vec<Followed>, own: Followed) {
    if !own.is_click() {
        return;
    }
    let is_again = |e: &Followed| {
        let who = (e.agent, e.address, e.event.kind, e.event.was);
        who == (own.agent, own.address, own.event.kind, EventClass::Machine) && own.event.was == EventClass::Machine
    };
    match events.iter().position(is_again) {
        Some(earlier) => events[earlier].event.at = own.event.at,
        None if events.len() < limits::LINKS_MAX => events.push(own),
        None => {}
    }
}

/// Earlier clicks that are this machine's too; they are of its class from now on.
fn taken_along(events: &mut [Followed], own: &Followed, burst: bool) -> Vec<Reclassified> {
    let class = own.event.was;
    if class != EventClass::Machine || !own.is_click() {
        return Vec::new();
    }
    let is_own = |e: &Followed| e.agent == own.agent || (burst && e.address == own.address);
    let mut moved = Vec::new();
    for earlier in events.iter_mut().filter(|e| e.event.was < class && is_own(e)) {
        moved.push(earlier.event);
        earlier.event.was = class;
    }
    moved
}

/// Distinct links among some events and one more, counted up to [`limits::BURST_LINKS`].
fn distinct<'a>(events: impl Iterator<Item = &'a Followed>, kind: EventKind) -> usize {
    let mut links: SmallVec<[u16; limits::BURST_LINKS]> = SmallVec::new();
    for kind in events.map(|e| e.event.kind).chain([kind]) {
        if let EventKind::Click { link } = kind
            && links.len() < limits::BURST_LINKS
            && !links.contains(&link)
        {
            links.push(link);
        }
    }
    links.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(row: u32) -> Tracked {
        Tracked {
            space: RowSpace::BASE,
            run: RunId(1),
            message: MessageId(0),
            row: ContactRow(row),
            accepted_at: None,
            destination: None,
        }
    }

    fn hit(link: u16, address: &str) -> Hit<'static> {
        Hit {
            head: false,
            agent: "agent",
            known: None,
            address: address.parse().unwrap(),
            range: None,
            prefetch: false,
            hidden: false,
            since_accepted: None,
            kind: EventKind::Click { link },
        }
    }

    /// A hit that is judged as told.
    fn take(recent: &Recent, row: u32, hit: Hit<'_>, class: EventClass, at: i64) -> (Seen, Vec<Reclassified>) {
        let mut found = Seen::default();
        let judge = |seen: &Seen| {
            found = *seen;
            Verdict { class, rule: None }
        };
        let moved = recent.decide(&tracked(row), &hit, Timestamp(at), judge, |_, moved| moved);
        (found, moved)
    }

    #[test]
    fn links_count_within_their_window_and_once_each() {
        let recent = Recent::new();
        let click = |link, at| take(&recent, 1, hit(link, "192.0.2.1"), EventClass::Human, at).0.links;
        assert_eq!(click(0, 0), 1);
        assert_eq!(click(0, 100), 1, "a double click is one link");
        assert_eq!(click(1, 200), 2);
        assert_eq!(click(2, 300), 3, "three links in the window");
        assert_eq!(click(3, 10_000), 1, "the window has passed");
    }

    #[test]
    fn links_that_name_nobody_are_followed_by_many() {
        let recent = Recent::new();
        for link in 0..10 {
            let class = if link == 9 { EventClass::Machine } else { EventClass::Human };
            let (seen, moved) = take(&recent, NOBODY.0, hit(link, "192.0.2.1"), class, 0);
            assert_eq!(seen.links, 1, "each may be another recipient");
            assert!(moved.is_empty(), "nor does one judge the others");
        }
    }

    #[test]
    fn a_burst_takes_its_first_clicks_along() {
        let recent = Recent::new();
        let (human, machine) = (EventClass::Human, EventClass::Machine);
        take(&recent, 1, hit(0, "192.0.2.1"), human, 0);
        take(&recent, 1, hit(1, "192.0.2.1"), human, 100);
        let (_, moved) = take(&recent, 1, hit(2, "192.0.2.1"), machine, 200);
        let links: Vec<_> = moved.iter().map(|e| (e.kind, e.was)).collect();
        assert_eq!(links, [(EventKind::Click { link: 0 }, human), (EventKind::Click { link: 1 }, human)]);
        let (_, again) = take(&recent, 1, hit(3, "192.0.2.1"), machine, 300);
        assert!(again.is_empty(), "nothing is moved twice: {again:?}");
        let (_, other) = take(&recent, 2, hit(0, "192.0.2.1"), machine, 300);
        assert!(other.is_empty(), "another contact's clicks stay: {other:?}");
    }

    #[test]
    fn a_mail_holds_what_may_be_taken_back_and_a_machines_links_once() {
        let recent = Recent::new();
        let open = Hit { kind: EventKind::Open, ..hit(0, "192.0.2.1") };
        let held = |recent: &Recent| {
            recent.mails.iter().flat_map(|m| m.lock().entries.values().map(Vec::len).collect::<Vec<_>>()).sum::<usize>()
        };
        for at in 0..50 {
            take(&recent, 1, open, EventClass::Suspect, at);
        }
        assert_eq!(held(&recent), 0, "no rule looks at an open");
        for at in 0..50 {
            take(&recent, 1, hit(0, "192.0.2.1"), EventClass::Human, at);
        }
        assert_eq!(held(&recent), 50, "each was counted, and may be taken back");
        let (_, moved) = take(&recent, 1, hit(1, "192.0.2.1"), EventClass::Machine, 50);
        assert_eq!(moved.len(), 50, "all of them");
        for at in 51..2_600 {
            take(&recent, 1, hit((at % 4) as u16, "192.0.2.1"), EventClass::Machine, at);
        }
        assert_eq!(held(&recent), 4, "its links, and what came two seconds before is gone");
        let (seen, moved) = take(&recent, 1, hit(9, "192.0.2.1"), EventClass::Machine, 4_590);
        assert_eq!((seen.links, moved.len()), (limits::BURST_LINKS, 0), "the newest of each link is in the window");
        let (seen, _) = take(&recent, 1, hit(9, "192.0.2.1"), EventClass::Machine, 7_000);
        assert_eq!(seen.links, 1, "and leaves it");
    }

    #[test]
    fn a_burst_over_many_threads_is_a_burst() {
        const MAILS: u32 = 2_000;
        let recent = Recent::new();
        let (queued, start) = (Mutex::new(Vec::new()), std::sync::Barrier::new(limits::BURST_LINKS));
        let follow = |link: u16| {
            for row in 0..MAILS {
                start.wait();
                let by_links = |seen: &Seen| match seen.links >= limits::BURST_LINKS {
                    true => Verdict { class: EventClass::Machine, rule: Some("link_burst") },
                    false => Verdict { class: EventClass::Human, rule: None },
                };
                let queue =
                    |verdict: Verdict, moved: Vec<Reclassified>| queued.lock().push((row, link, verdict.class, moved));
                let at = Timestamp(i64::from(link));
                recent.decide(&tracked(row), &hit(link, "192.0.2.1"), at, by_links, queue);
            }
        };
        std::thread::scope(|scope| {
            for link in 0..limits::BURST_LINKS as u16 {
                scope.spawn(move || follow(link));
            }
        });
        let mut people = std::collections::BTreeSet::new();
        for (row, link, class, moved) in queued.into_inner() {
            for earlier in moved {
                let EventKind::Click { link } = earlier.kind else { panic!("nobody opened") };
                assert!(people.remove(&(row, link)), "{link} of mail {row} is taken back before it is queued");
            }
            if class == EventClass::Human {
                people.insert((row, link));
            }
        }
        assert!(people.is_empty(), "clicks of a burst that count as a person's: {people:?}");
    }

    #[test]
    fn a_machine_beside_a_person_takes_nothing_of_the_persons_along() {
        let recent = Recent::new();
        let person = |link| Hit { agent: "browser", ..hit(link, "192.0.2.1") };
        // A company's gateway: the same address, another agent, at the same moment.
        let gateway = |link| Hit { agent: "gateway", head: true, ..hit(link, "192.0.2.1") };
        let settle = |hit: Hit<'_>, class, at| take(&recent, 1, hit, class, at).1;
        settle(person(0), EventClass::Human, 0);
        assert!(settle(gateway(0), EventClass::Machine, 10).is_empty(), "a HEAD is a sign of its own client");
        let prober = Hit { agent: "browser", head: true, ..hit(1, "198.51.100.7") };
        assert_eq!(settle(prober, EventClass::Machine, 20).len(), 1, "one client, whatever its addresses");
    }

    #[test]
    fn a_scanner_of_all_links_is_not_the_person_who_comes_after_it() {
        let recent = Recent::new();
        let (human, machine) = (EventClass::Human, EventClass::Machine);
        let scanner = |link| Hit { agent: "scanner", ..hit(link, "192.0.2.1") };
        for link in 0..5 {
            take(&recent, 1, scanner(link), human, i64::from(link));
        }
        let person = Hit { agent: "browser", ..hit(2, "203.0.113.5") };
        let (seen, _) = take(&recent, 1, person, human, 900);
        assert_eq!(seen.links, 1, "another client, another address");
        let (seen, moved) = take(&recent, 1, scanner(5), machine, 950);
        assert!(seen.links >= limits::BURST_LINKS, "{seen:?}");
        let mut links: Vec<_> = moved.iter().map(|event| event.kind).collect();
        links.sort_by_key(|kind| if let EventKind::Click { link } = kind { *link } else { 0 });
        let scanned: Vec<_> = (0..5).map(|link| EventKind::Click { link }).collect();
        assert_eq!(links, scanned, "its own, and not the person's");
        let masked = |link, agent| Hit { agent, ..hit(link, "192.0.2.77") };
        for (link, agent) in [(0, "a"), (1, "b")] {
            take(&recent, 2, masked(link, agent), human, 0);
        }
        let (seen, moved) = take(&recent, 2, masked(2, "c"), machine, 5);
        assert_eq!(seen.links, 3, "agents change, the address stays");
        assert_eq!(moved.len(), 2, "a burst is held against the address");
    }

    #[test]
    fn contacts_of_an_address_count_within_a_minute() {
        let recent = Recent::new();
        let seen = |row, address, at| take(&recent, row, hit(0, address), EventClass::Human, at).0;
        let mut last = Seen::default();
        for row in 0..60 {
            last = seen(row, "192.0.2.1", i64::from(row));
        }
        assert!(last.contacts_of_address > limits::SHARED_CONTACTS, "{last:?}");
        let elsewhere = seen(99, "198.51.100.1", 60);
        assert_eq!((elsewhere.contacts_of_address, elsewhere.contacts_of_agent), (1, 1), "another network");
        let later = seen(99, "192.0.2.1", 120_000);
        assert_eq!(later.contacts_of_address, 1, "the window has passed");
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::new();
        for row in 0..200_000 {
            take(&recent, row, hit(0, "192.0.2.1"), EventClass::Human, 0);
        }
        let held: usize = recent.mails.iter().map(|m| m.lock().entries.len()).sum();
        assert!(held <= limits::RECENT_MAX, "{held} mails are remembered");
    }
}
