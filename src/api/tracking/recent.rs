//! What happened in the last seconds, for the rules that look beyond one request.
//!
//! Owns bounded tables of recent clicks by mail and of contacts by address and by agent, split into shards by a lock each.
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
    mails: Vec<Mutex<Table<Mail, Vec<Reclassified>>>>,
    sources: Vec<Mutex<Table<Source, Contacts>>>,
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
            kind => self.links(tracked, kind, now),
        };
        let agent = self.hasher.hash_one((network(hit.address), hit.agent));
        Seen {
            links,
            contacts_of_address: self.contacts(Source::Address(hit.address), who, now),
            contacts_of_agent: self.contacts(Source::Agent(agent), who, now),
        }
    }

    fn links(&self, tracked: &Tracked, kind: EventKind, now: Timestamp) -> usize {
        let key = mail(tracked);
        let mut table = self.shard(&self.mails, &key).lock();
        let events = table.entry(key);
        // a wall clock that was set back leaves events of the future behind: they say nothing
        events.retain(|e| e.at <= now && now.saturating_since(e.at) <= limits::BURST_WINDOW);
        let mut links: SmallVec<[u16; limits::BURST_LINKS]> = SmallVec::new();
        for kind in events.iter().map(|e| e.kind).chain([kind]) {
            if let EventKind::Click { link } = kind
                && links.len() < limits::BURST_LINKS
                && !links.contains(&link)
            {
                links.push(link);
            }
        }
        links.len()
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

    /// Remembers the hit under its class; answers earlier ones of the mail that were counted in a more human class and
    /// belong to this one: only for a burst or another machine sign within the window.
    pub(super) fn settle(
        &self,
        tracked: &Tracked,
        hit: &Hit<'_>,
        class: EventClass,
        now: Timestamp,
    ) -> Vec<Reclassified> {
        if tracked.row == NOBODY {
            return Vec::new();
        }
        let key = mail(tracked);
        let mut table = self.shard(&self.mails, &key).lock();
        let events = table.entry(key);
        let mut moved = Vec::new();
        if class == EventClass::Machine && matches!(hit.kind, EventKind::Click { .. }) {
            for event in events.iter_mut().filter(|e| e.was < class && matches!(e.kind, EventKind::Click { .. })) {
                moved.push(*event);
                event.was = class;
            }
        }
        if events.len() < limits::LINKS_MAX {
            events.push(Reclassified { kind: hit.kind, was: class, at: now });
        }
        moved
    }
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
            recent.settle(&tracked(1), &hit(link, "192.0.2.1"), EventClass::Human, Timestamp(at));
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
            assert!(recent.settle(&nobody, &click, class, Timestamp(0)).is_empty(), "nor does one judge the others");
        }
    }

    #[test]
    fn a_burst_takes_its_first_clicks_along() {
        let recent = Recent::new();
        recent.settle(&tracked(1), &hit(0, "192.0.2.1"), EventClass::Human, Timestamp(0));
        recent.settle(&tracked(1), &hit(1, "192.0.2.1"), EventClass::Human, Timestamp(100));
        let moved = recent.settle(&tracked(1), &hit(2, "192.0.2.1"), EventClass::Machine, Timestamp(200));
        let links: Vec<_> = moved.iter().map(|e| (e.kind, e.was)).collect();
        let human = EventClass::Human;
        assert_eq!(links, [(EventKind::Click { link: 0 }, human), (EventKind::Click { link: 1 }, human)]);
        let again = recent.settle(&tracked(1), &hit(3, "192.0.2.1"), EventClass::Machine, Timestamp(300));
        assert!(again.is_empty(), "nothing is moved twice: {again:?}");
        let other = recent.settle(&tracked(2), &hit(0, "192.0.2.1"), EventClass::Machine, Timestamp(300));
        assert!(other.is_empty(), "another contact's clicks stay: {other:?}");
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
