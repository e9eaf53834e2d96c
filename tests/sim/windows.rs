//! The counters of a test against each contact's own times: what sets of rows say must be what one would say who had written
//! down when each contact was sent to and what it did when.
//!
//! What is real: the facts and their fold, the figures, the snapshot. What is a model: a list of contacts with their times. The
//! windows of the ledger end up to a 64th late, so that events and looks keep clear of those moments.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use estafette::actors::flowing::{self, Task};
use estafette::actors::verdict;
use estafette::campaigns::{Compiled, Format, compile, parse};
use estafette::clock::Timestamp;
use estafette::flow::nodes::AbTest;
use estafette::flow::{NodeId, NodeKind};
use estafette::ids::{BatchId, CampaignId, Channel, DeliveryId, MessageId, RunId};
use estafette::ledger::batch::BootId;
use estafette::ledger::facts::{Claimed, DeliveryEntered, RunStarted, Settled, Unsubscribed};
use estafette::ledger::tracking::{EventClass, Tracked, TrackedKind};
use estafette::ledger::{Fact, Mode, Positions, RowSet, State, snapshot};

use crate::rng::Rng;
use crate::seeds::for_each_seed;

const RUN: RunId = RunId(1);
const BOOT: BootId = BootId([7; 16]);
const ROWS: u32 = 300;
const TEST: NodeId = NodeId(1);
const MINUTE: i64 = 60_000;
/// Of the window below: the most that one ends late.
const PART: i64 = 60 * MINUTE / 64 + 1;

const SPEC: &str = r#"
name = "sim"
kind = "ab_split"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
text = "T"
[[variants]]
subject = "1"
[[variants]]
subject = "2"
weight = 2
[test]
sample = "80%"
window = "60m"
decide_after = "5h"
"#;

/// What one contact of the sample did.
#[derive(Debug, Default)]
struct Contact {
    accepted: Option<i64>,
    clicks: Vec<(i64, EventClass)>,
    left: Vec<i64>,
}

struct World {
    state: State,
    test: AbTest,
    contacts: BTreeMap<u32, Contact>,
    now: i64,
}

impl World {
    fn new() -> World {
        let spec = parse(SPEC, Format::Toml).expect("a spec");
        let compiled: Compiled = compile(&spec).expect("compiles");
        let Some(NodeKind::AbTest(test)) = compiled.graph.node(TEST).map(|n| n.kind.clone()) else { panic!("no test") };
        let mut world = World { state: State::default(), test, contacts: BTreeMap::new(), now: 1_795_000_000_000 };
        let at = Timestamp(world.now);
        world.commit(Fact::CampaignSaved { campaign: CampaignId(1), spec: spec.to_json(), at });
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: "news".to_owned(),
            connector: "relay".to_owned(),
            mode: Mode::Strict,
            audience: RowSet::base((0..ROWS).collect()),
            skipped: Vec::new(),
            summary: None,
        };
        let graph = compiled.graph;
        let (run, campaign, version, deliveries) = (RUN, CampaignId(1), 1, vec![entered]);
        let entrants = RowSet::default();
        world.commit(Fact::RunStarted(Box::new(RunStarted {
            run,
            campaign,
            version,
            graph,
            deliveries,
            at,
            entrants,
        })));
        let Some(Task::Share { run, node, rows, shares }) = flowing::next_task(&world.state.runs[&RUN], at) else {
            panic!("the sample is cut first");
        };
        world.commit(flowing::share_out(run, node, &rows, &shares, at).expect("shares"));
        world
    }

    fn commit(&mut self, fact: Fact) {
        self.state.apply(&fact, BOOT).unwrap_or_else(|violation| panic!("{violation}: {fact:?}"));
    }

    fn assigned(&self, node: u32) -> RoaringBitmap {
        self.state.runs[&RUN].deliveries[0].assigned(NodeId(node)).clone()
    }

    /// Some of the waiting rows of an arm are claimed and accepted; a few are refused.
    fn send(&mut self, rng: &mut Rng, batch: u64) {
        let arm = rng.below(2);
        let delivery = DeliveryId { run: RUN, index: 0 };
        let waiting = &self.assigned(10 + arm as u32) & &self.state.runs[&RUN].deliveries[0].pending;
        let rows: RoaringBitmap = waiting.iter().take(rng.between(1, 40) as usize).collect();
        if rows.is_empty() {
            return;
        }
        let at = Timestamp(self.now);
        let count = u32::try_from(rows.len()).expect("few");
        let positions = Positions::from_sorted(0..count);
        self.commit(Fact::Claimed(Claimed {
            batch: BatchId(batch),
            delivery,
            connector: "relay".to_owned(),
            message: MessageId(arm as u16),
            rows: rows.clone(),
            positions,
            at,
            domain: None,
        }));
        let mut settled = Settled::new(BatchId(batch), delivery, at);
        for row in rows {
            if rng.chance(0.1) {
                settled.unknown.insert(row);
            } else {
                settled.accepted.insert(row);
                self.contacts.entry(row).or_default().accepted = Some(self.now);
            }
        }
        self.commit(Fact::Settled(settled));
    }

    /// Somebody of the sample clicks, or leaves, or a machine does; also those to whom nothing was sent.
    fn happen(&mut self, rng: &mut Rng) {
        let arm = rng.below(2) as u32;
        let rows = self.assigned(10 + arm);
        let Some(row) = rows.select(rng.below(rows.len()) as u32) else { return };
        let contact = self.contacts.entry(row).or_default();
        let near_end = contact.accepted.is_some_and(|at| (0..=PART).contains(&(self.now - at - 60 * MINUTE)));
        if near_end {
            return;
        }
        let (message, at, only) = (MessageId(arm as u16), Timestamp(self.now), RoaringBitmap::from_iter([row]));
        if rng.chance(0.1) {
            contact.left.push(self.now);
            let (rows, source) = (RowSet::base(only), "test".to_owned());
            let (channel, topic) = (Channel::Email, "news".to_owned());
            self.commit(Fact::Unsubscribed(Unsubscribed {
                run: RUN,
                message,
                rows,
                channel,
                topic,
                source,
                at,
                addresses: Vec::new(),
            }));
            return;
        }
        let class =
            [EventClass::Human, EventClass::Human, EventClass::Suspect, EventClass::Machine][rng.below(4) as usize];
        contact.clicks.push((self.now, class));
        let kind = TrackedKind::Clicked { link: 0 };
        self.commit(Fact::Tracked(Tracked { run: RUN, message, kind, class, rows: only, total: 1, was: None, at }));
    }

    /// Counts contact by contact: matured, events by class, opt-outs.
    fn expected(&self, node: u32) -> [u64; 5] {
        let mut counts = [0; 5];
        let rows = self.assigned(node);
        for (_, contact) in self.contacts.iter().filter(|(row, _)| rows.contains(**row)) {
            let Some(sent) = contact.accepted.filter(|sent| self.now >= sent + 60 * MINUTE) else { continue };
            counts[0] += 1;
            let in_time = |at: i64| at < sent + 60 * MINUTE;
            let best = contact.clicks.iter().filter(|(at, _)| in_time(*at)).map(|(_, class)| *class).min();
            match best {
                Some(EventClass::Human) => counts[1] += 1,
                Some(EventClass::Suspect) => counts[2] += 1,
                Some(EventClass::Machine) => counts[3] += 1,
                None => {}
            }
            counts[4] += u64::from(contact.left.iter().any(|at| in_time(*at)));
        }
        counts
    }

    fn check(&self) {
        let near_end = |sent: i64| (0..=PART).contains(&(self.now - sent - 60 * MINUTE));
        if self.contacts.values().filter_map(|contact| contact.accepted).any(near_end) {
            return;
        }
        let run = &self.state.runs[&RUN];
        for (figures, node) in verdict::figures(run, TEST, &self.test, Timestamp(self.now)).iter().zip([10, 11]) {
            let found = [figures.matured, figures.events, figures.suspect, figures.machine, figures.unsubscribed];
            assert_eq!(found, self.expected(node), "{} at {}: {figures:?}", figures.arm, self.now);
        }
    }
}

#[test]
fn sets_say_what_each_contacts_own_times_say() {
    let mut checked = BTreeSet::new();
    for_each_seed("windows", 200, |_, rng| {
        let mut world = World::new();
        for step in 0..rng.between(60, 220) {
            world.now += rng.between(1, 4 * MINUTE as u64) as i64;
            match rng.below(5) {
                0 | 1 => world.send(rng, step),
                _ => world.happen(rng),
            }
            world.check();
        }
        // What was folded reads back equal, with every window in it.
        let bytes = snapshot::encode(&world.state).expect("encodes");
        assert_eq!(snapshot::decode(&bytes).expect("decodes"), world.state, "a snapshot keeps the windows");
        world.now += 2 * 60 * MINUTE;
        world.check();
        checked.insert(world.expected(11));
    });
    assert!(checked.len() > 3, "the seeds differ: {checked:?}");
}
