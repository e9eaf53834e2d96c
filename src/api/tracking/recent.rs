//! What happened in the last seconds, for the rules that look beyond one request.
//!
//! Owns bounded tables of recent clicks by mail and of contacts by address and by agent, split into shards by a lock each.
//! A *client* is what acts under one agent, from whichever address: scanners have many addresses. An address alone is no client:
//! a company's gateway and its people share one, and the gateway looks at a link at the moment when a person follows it. Only a
//! burst is held against an address too, because scanners change their agent from one request to the next.
//! Invariants: RE-1 at most `limits::RECENT_MAX` entries in all, the oldest go first; RE-2 nothing older than its window
//! counts; RE-3 counts end one above what the rules ask for, so that a set is a few entries that are searched in order. Lost
//! at a restart: then the rules see less for a minute.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::machine::{Hit, Seen};
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

/// An event of a mail, and who caused it.
#[derive(Clone, Copy, Debug)]
struct Followed {
    event: Reclassified,
    address: IpAddr,
    /// Hash of the agent.
    agent: u64,
}

/// Who acts: an address, or an agent within a network (agents are shared by millions; a network's are not).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Address(IpAddr),
    Agent(u64),
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

    /// What was seen shortly before, this hit included.
    pub(super) fn note(&self, tracked: &Tracked, hit: &Hit<'_>, now: Timestamp) -> Seen {
        let who = (tracked.space, tracked.row);
        let links = match hit.kind {
            // All recipients share the links of a mail that names nobody: nothing follows from how many are followed.
            EventKind::Click { .. } if tracked.row == NOBODY => 1,
            _ => self.links(tracked, hit, now),
        };
        let agent = self.hasher.hash_one((network(hit.address), hit.agent));
        Seen {
            links,
            contacts_of_address: self.contacts(Source::Address(hit.address), who, now),
            contacts_of_agent: self.contacts(Source::Agent(agent), who, now),
        }
    }

    /// Distinct links that this client, or this address, has followed within the window.
    fn links(&self, tracked: &Tracked, hit: &Hit<'_>, now: Timestamp) -> usize {
        let key = mail(tracked);
        let agent = self.hasher.hash_one(hit.agent);
        let mut table = self.shard(&self.mails, &key).lock();
        let events = table.entry(key);
        // a wall clock that was set back leaves events of the future behind: they say nothing
        events.retain(|e| e.event.at <= now && now.saturating_since(e.event.at) <= limits::BURST_WINDOW);
        let by_agent = distinct(events.iter().filter(|e| e.agent == agent), hit.kind);
        by_agent.max(distinct(events.iter().filter(|e| e.address == hit.address), hit.kind))
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

    /// Remembers the hit under its class; answers earlier clicks of the mail within the window that were counted in a more
    /// human class and are this machine's: those of the same client, and of a `burst` those from the same address.
    pub(super) fn settle(
        &self,
        tracked: &Tracked,
        hit: &Hit<'_>,
        class: EventClass,
        burst: bool,
        now: Timestamp,
    ) -> Vec<Reclassified> {
        if tracked.row == NOBODY {
            return Vec::new();
        }
        let key = mail(tracked);
        let (address, agent) = (hit.address, self.hasher.hash_one(hit.agent));
        let mut table = self.shard(&self.mails, &key).lock();
        let events = table.entry(key);
        let mut moved = Vec::new();
        if class == EventClass::Machine && matches!(hit.kind, EventKind::Click { .. }) {
            let own = |e: &Followed| e.agent == agent || (burst && e.address == address);
            let clicks = events.iter_mut().filter(|e| matches!(e.event.kind, EventKind::Click { .. }));
            for followed in clicks.filter(|e| e.event.was < class && own(e)) {
                moved.push(followed.event);
                followed.event.was = class;
            }
        }
        if events.len() < limits::LINKS_MAX {
            events.push(Followed { event: Reclassified { kind: hit.kind, was: class, at: now }, address, agent });
        }
        moved
    }
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

    #[test]
    fn links_count_within_their_window_and_once_each() {
        let recent = Recent::new();
        let click = |link, at| {
            let seen = recent.note(&tracked(1), &hit(link, "192.0.2.1"), Timestamp(at)).links;
            recent.settle(&tracked(1), &hit(link, "192.0.2.1"), EventClass::Human, true, Timestamp(at));
            seen
        };
        assert_eq!(click(0, 0), 1);
        assert_eq!(click(0, 100), 1, "a double click is one link");
        assert_eq!(click(1, 200), 2);
        assert_eq!(click(2, 300), 3, "three links in the window");
        assert_eq!(click(3, 10_000), 1, "the window has passed");
    }

    #[test]
    fn links_that_name_nobody_are_followed_by_many() {
        let recent = Recent::new();
        let nobody = tracked(NOBODY.0);
        for link in 0..10 {
            let click = hit(link, "192.0.2.1");
            assert_eq!(recent.note(&nobody, &click, Timestamp(0)).links, 1, "each may be another recipient");
            let class = if link == 9 { EventClass::Machine } else { EventClass::Human };
            assert!(
                recent.settle(&nobody, &click, class, true, Timestamp(0)).is_empty(),
                "nor does one judge the others"
            );
        }
    }

    #[test]
    fn a_burst_takes_its_first_clicks_along() {
        let recent = Recent::new();
        recent.settle(&tracked(1), &hit(0, "192.0.2.1"), EventClass::Human, true, Timestamp(0));
        recent.settle(&tracked(1), &hit(1, "192.0.2.1"), EventClass::Human, true, Timestamp(100));
        let moved = recent.settle(&tracked(1), &hit(2, "192.0.2.1"), EventClass::Machine, true, Timestamp(200));
        let links: Vec<_> = moved.iter().map(|e| (e.kind, e.was)).collect();
        let human = EventClass::Human;
        assert_eq!(links, [(EventKind::Click { link: 0 }, human), (EventKind::Click { link: 1 }, human)]);
        let again = recent.settle(&tracked(1), &hit(3, "192.0.2.1"), EventClass::Machine, true, Timestamp(300));
        assert!(again.is_empty(), "nothing is moved twice: {again:?}");
        let other = recent.settle(&tracked(2), &hit(0, "192.0.2.1"), EventClass::Machine, true, Timestamp(300));
        assert!(other.is_empty(), "another contact's clicks stay: {other:?}");
    }

    #[test]
    fn a_machine_beside_a_person_takes_nothing_of_the_persons_along() {
        let recent = Recent::new();
        let person = |link| Hit { agent: "browser", ..hit(link, "192.0.2.1") };
        // A company's gateway: the same address, another agent, at the same moment.
        let gateway = |link| Hit { agent: "gateway", head: true, ..hit(link, "192.0.2.1") };
        let settle = |hit: Hit<'_>, class, burst, at| recent.settle(&tracked(1), &hit, class, burst, Timestamp(at));
        settle(person(0), EventClass::Human, false, 0);
        assert!(settle(gateway(0), EventClass::Machine, false, 10).is_empty(), "a HEAD is a sign of its own client");
        let prober = Hit { agent: "browser", head: true, ..hit(1, "198.51.100.7") };
        assert_eq!(settle(prober, EventClass::Machine, false, 20).len(), 1, "one client, whatever its addresses");
    }

    #[test]
    fn a_scanner_of_all_links_is_not_the_person_who_comes_after_it() {
        let recent = Recent::new();
        let scanner = |link| Hit { agent: "scanner", ..hit(link, "192.0.2.1") };
        for link in 0..5 {
            recent.note(&tracked(1), &scanner(link), Timestamp(i64::from(link)));
            recent.settle(&tracked(1), &scanner(link), EventClass::Human, false, Timestamp(i64::from(link)));
        }
        let person = Hit { agent: "browser", ..hit(2, "203.0.113.5") };
        assert_eq!(recent.note(&tracked(1), &person, Timestamp(900)).links, 1, "another client, another address");
        recent.settle(&tracked(1), &person, EventClass::Human, false, Timestamp(900));
        let seen = recent.note(&tracked(1), &scanner(5), Timestamp(950));
        assert!(seen.links >= limits::BURST_LINKS, "{seen:?}");
        let moved = recent.settle(&tracked(1), &scanner(5), EventClass::Machine, true, Timestamp(950));
        let mut links: Vec<_> = moved.iter().map(|event| event.kind).collect();
        links.sort_by_key(|kind| if let EventKind::Click { link } = kind { *link } else { 0 });
        let scanned: Vec<_> = (0..5).map(|link| EventKind::Click { link }).collect();
        assert_eq!(links, scanned, "its own, and not the person's");
        let masked = |link, agent| Hit { agent, ..hit(link, "192.0.2.77") };
        for (link, agent) in [(0, "a"), (1, "b")] {
            recent.settle(&tracked(2), &masked(link, agent), EventClass::Human, false, Timestamp(0));
        }
        assert_eq!(
            recent.note(&tracked(2), &masked(2, "c"), Timestamp(5)).links,
            3,
            "agents change, the address stays"
        );
        let moved = recent.settle(&tracked(2), &masked(2, "c"), EventClass::Machine, true, Timestamp(5));
        assert_eq!(moved.len(), 2, "a burst is held against the address");
    }

    #[test]
    fn contacts_of_an_address_count_within_a_minute() {
        let recent = Recent::new();
        let mut last = Seen::default();
        for row in 0..60 {
            last = recent.note(&tracked(row), &hit(0, "192.0.2.1"), Timestamp(i64::from(row)));
        }
        assert!(last.contacts_of_address > limits::SHARED_CONTACTS, "{last:?}");
        let elsewhere = recent.note(&tracked(99), &hit(0, "198.51.100.1"), Timestamp(60));
        assert_eq!((elsewhere.contacts_of_address, elsewhere.contacts_of_agent), (1, 1), "another network");
        let later = recent.note(&tracked(99), &hit(0, "192.0.2.1"), Timestamp(120_000));
        assert_eq!(later.contacts_of_address, 1, "the window has passed");
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::new();
        for row in 0..200_000 {
            recent.note(&tracked(row), &hit(0, "192.0.2.1"), Timestamp(0));
        }
        let held: usize = recent.mails.iter().map(|m| m.lock().entries.len()).sum();
        assert!(held <= limits::RECENT_MAX, "{held} mails are remembered");
    }
}
