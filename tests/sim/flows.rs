//! Flows of every kind in virtual time: moves, looks, choices, claims, outcomes, and kills between any two of them.
//!
//! What is real: the facts and their fold, what a flow does next, shares, verdicts, the choice of rows. What is simulated:
//! the base (expressions match by a rule on the row number), the provider (it counts mails), the disk (a list of frames).
//! After a kill the state is folded anew from the frames that were written, and open claims are settled by their marks.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use estafette::actors::decide::{Classes, rows_to_claim};
use estafette::actors::flowing::{self, Ask, Task, asks};
use estafette::actors::{launching, verdict, waiting};
use estafette::campaigns::schedule::ScheduleFields;
use estafette::campaigns::{Compiled, Format, compile, parse};
use estafette::channels::limits_table::ClassId;
use estafette::clock::Timestamp;
use estafette::flow::NodeKind;
use estafette::flow::delay::ZoneSet;
use estafette::flow::nodes::Split;
use estafette::ids::{BatchId, CampaignId, Channel, DeliveryId, MessageId, RunId};
use estafette::ledger::batch::BootId;
use estafette::ledger::engagement::engaged;
use estafette::ledger::events::guard::{self, GuardRule};
use estafette::ledger::events::{BounceClass, EventsReceived, FeedbackKind, FeedbackPart};
use estafette::ledger::facts::{Claimed, DeliveryEntered, Returned, RunStarted, Settled};
use estafette::ledger::flowing::{Joined, Moved};
use estafette::ledger::plans::{Launched, NextLaunch, Published, RunLaunch};
use estafette::ledger::tracking::{EventClass, Tracked, TrackedKind};
use estafette::ledger::{Fact, Mode, Positions, RejectClass, RowSet, Run, RunState, State, snapshot};
use estafette::segments::skip::SkipReason;

use crate::graphs;
use crate::rng::Rng;
use crate::seeds::for_each_seed;
use crate::timers::Timers;

const RUN: RunId = RunId(1);
const BOOT: BootId = BootId([7; 16]);
const ROWS: u32 = 240;
/// Rows with the same remainder have one address.
const ADDRESSES: u32 = 180;

const HEAD: &str = r#"
name = "sim"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
text = "T"
"#;

const SPLIT: &str = "[[variants]]\nsubject=\"1\"\n[[variants]]\nsubject=\"2\"\n[[variants]]\nsubject=\"3\"\n";
const GRID: &str = r#"
[[dimensions]]
name = "a"
[[dimensions.segments]]
name = "x"
segment = 'm3'
[[dimensions.segments]]
name = "y"
segment = 'm2'
[[dimensions]]
name = "b"
others = true
[[dimensions.segments]]
name = "z"
segment = 'm5'
[[cells]]
where = { a = "x", b = "z" }
message = { subject = "xz" }
[[cells]]
where = { a = "x" }
nothing = true
[[cells]]
message = { subject = "rest" }
"#;

fn spec(rng: &mut Rng) -> String {
    let mut text = match rng.below(6) {
        4 | 5 => return graphs::spec(rng),
        0 => HEAD.to_owned(),
        1 => format!("kind = \"multi_segment\"\n{HEAD}{GRID}"),
        _ => {
            let otherwise = ["leader", "wait", "nobody", "B"][rng.below(4) as usize];
            let sample = ["10%", "50%", "100%", "0.01%"][rng.below(4) as usize];
            format!(
                "kind = \"ab_split\"\n{HEAD}{SPLIT}[test]\nsample = \"{sample}\"\ndecide_after = \"{}m\"\nlooks = {}\n\
                 if_not_proven = \"{otherwise}\"\nmin_delivered = 5\nmin_events = 2\n",
                rng.between(1, 90),
                rng.between(1, 4),
            )
        }
    };
    if !text.starts_with("kind = \"ab_split\"") && rng.chance(0.3) {
        let late = ["", "too_late = \"30m\"\n"][rng.below(2) as usize];
        text.push_str(&format!("[schedule]\nat = \"2026-11-18T14:00\"\nzone = \"contact\"\n{late}"));
    }
    if rng.chance(0.5) {
        let on = ["opened", "not_opened", "clicked", "not_clicked"][rng.below(4) as usize];
        text.push_str(&format!("[follow_up]\non = \"{on}\"\nafter = \"{}m\"\n", rng.between(1, 3_000)));
    }
    text
}

/// The base as expressions see it.
fn matches(expression: &str, row: u32) -> bool {
    expression.strip_prefix('m').and_then(|m| m.parse::<u32>().ok()).is_some_and(|m| row.is_multiple_of(m))
}

/// Which of several rows with one address is kept; nobody who was kept before is taken back.
fn unique(rows: &RoaringBitmap, kept: &RoaringBitmap) -> RoaringBitmap {
    let mut addresses: BTreeSet<u32> = kept.iter().map(|row| row % ADDRESSES).collect();
    rows.iter().filter(|row| addresses.insert(row % ADDRESSES)).collect()
}

struct World {
    compiled: Compiled,
    state: State,
    frames: Vec<Vec<u8>>,
    now: Timestamp,
    /// Rows on the wire, by batch, that the provider has taken and nobody has heard of.
    taken: BTreeMap<BatchId, RoaringBitmap>,
    /// Mails by delivery and row, with the message.
    mailed: BTreeMap<(u16, u32), Vec<MessageId>>,
    /// Hand-overs that an operator allowed again.
    allowed: BTreeMap<(u16, u32), usize>,
    chosen: BTreeSet<String>,
    timers: Timers,
}

impl World {
    fn new(rng: &mut Rng) -> World {
        let text = spec(rng);
        let spec = parse(&text, Format::Toml).unwrap_or_else(|error| panic!("{error} in {text}"));
        let compiled = compile(&spec).unwrap_or_else(|error| panic!("{error} in {text}"));
        let mut world = World {
            compiled,
            state: State::default(),
            frames: Vec::new(),
            now: Timestamp(1_795_000_000_000),
            taken: BTreeMap::new(),
            mailed: BTreeMap::new(),
            allowed: BTreeMap::new(),
            chosen: BTreeSet::new(),
            timers: Timers::default(),
        };
        let at = world.now;
        world.commit(Fact::CampaignSaved { campaign: CampaignId(1), spec: spec.to_json(), at });
        let rows: RoaringBitmap = (0..ROWS).collect();
        let deliveries = world.compiled.deliveries.iter().map(|plan| {
            let audience = if plan.on_arrival { RoaringBitmap::new() } else { rows.clone() };
            let skipped = if plan.on_arrival { Vec::new() } else { vec![(SkipReason::NoAddress, (0..17).collect())] };
            DeliveryEntered {
                channel: Channel::Email,
                topic: "news".to_owned(),
                connector: "relay".to_owned(),
                mode: Mode::Strict,
                audience: RowSet::base(audience),
                skipped,
                summary: None,
            }
        });
        let deliveries = deliveries.collect();
        let entrants = RowSet::base(if world.compiled.all_walk { rows.clone() } else { RoaringBitmap::new() });
        let graph = world.compiled.graph.clone();
        let started = RunStarted { run: RUN, campaign: CampaignId(1), version: 1, graph, deliveries, at, entrants };
        if spec.schedule.is_planned() {
            world.launch(&spec.schedule, started);
        } else {
            world.commit(Fact::RunStarted(Box::new(started)));
        }
        world
    }

    /// The run begins by the launch of a schedule by each contact's own clocks.
    fn launch(&mut self, fields: &ScheduleFields, started: RunStarted) {
        let schedule = launching::whole(fields).expect("a schedule");
        let launch = schedule.next_after(Timestamp(i64::MIN)).expect("a date");
        let next = NextLaunch { launch, effective: launch.at };
        let (campaign, at) = (started.campaign, started.at);
        self.commit(Fact::Published(Published { campaign, version: 1, spec: None, next, at, draft: None }));
        let too_late_ms = fields.too_late.as_ref().map(|_| 30 * 60_000);
        let made = RunLaunch { launch, effective: launch.at, default_zone: None, too_late_ms };
        self.commit(Fact::Launched(Box::new(Launched { started, made, next: None })));
    }

    fn commit(&mut self, fact: Fact) {
        if let (Fact::Moved(moved), Some(run)) = (&fact, self.state.runs.get(&RUN)) {
            self.timers.moving(run, moved);
        }
        if let Err(violation) = self.state.apply(&fact, BOOT) {
            panic!("the core made a fact that does not fit: {violation}: {fact:?}");
        }
        self.frames.push(fact.encode().expect("encodes"));
        if let Some(run) = self.state.runs.get(&RUN) {
            self.timers.look(run, self.now);
        }
    }

    fn run(&self) -> &Run {
        &self.state.runs[&RUN]
    }

    /// One task of the flow; `false` if there is none.
    fn step(&mut self, rng: &mut Rng) -> bool {
        let Some(task) = flowing::next_task(self.run(), self.now) else { return false };
        let at = self.now;
        let fact = match task {
            Task::Record(fact) => fact,
            Task::Share { run, node, rows, shares } => {
                flowing::share_out(run, node, &rows, &shares, at).expect("shares")
            }
            Task::Sort { node, rows, by, rest } => {
                let mut left = rows;
                let mut exits = Vec::new();
                for (exit, ask) in by {
                    let matching = self.answer(&ask, &left);
                    left -= &matching;
                    exits.push((exit, matching));
                }
                exits.push((rest, left));
                Fact::Moved(Moved { run: RUN, node, exits, at })
            }
            Task::Join { delivery, node, rows } => {
                let out: RoaringBitmap = rows.iter().filter(|_| rng.chance(0.1)).collect();
                let skipped = if out.is_empty() { Vec::new() } else { vec![(SkipReason::Unsubscribed, out)] };
                Fact::Joined(Joined { delivery, node, rows: RowSet::base(rows), skipped, at })
            }
            Task::Clocks { node, rows, .. } => {
                let zones = ["Europe/Paris", "Asia/Kathmandu", "Pacific/Auckland"].into_iter().zip(0u32..);
                let zones: Vec<ZoneSet> = zones
                    .map(|(name, at)| ZoneSet {
                        zone: jiff::tz::TimeZone::get(name).expect("a zone"),
                        rows: (0..ROWS).filter(|row| row % 4 == at).collect(),
                    })
                    .collect();
                waiting::by_clocks(self.run(), node, &rows, &zones, at).expect("a fact")
            }
            Task::Look { run, node, test, look, arms } => {
                verdict::look_at(run, node, &test, look, arms, at).expect("judged")
            }
            Task::Cohort { .. } | Task::SetAttribute { .. } => unreachable!("sequences have a world of their own"),
        };
        self.commit(fact);
        true
    }

    /// What the base, or the state as a whole, answers.
    fn answer(&self, ask: &Ask, rows: &RoaringBitmap) -> RoaringBitmap {
        match ask {
            Ask::Rows(known) => rows & known,
            Ask::Expression(expression) => rows.iter().filter(|row| matches(expression, *row)).collect(),
            Ask::Links { message, .. } => rows & asks::clicked_links(self.run(), *message, &[0]),
            Ask::Engaged(asked) => rows & engaged(&self.state, asked, self.now),
            Ask::Unique { kept, .. } => unique(rows, kept),
        }
    }

    fn claim(&mut self, rng: &mut Rng) {
        if self.run().state != RunState::Running {
            return;
        }
        let sends = self.run().graph.nodes().filter_map(|n| match n.kind {
            NodeKind::Send { delivery, message, .. } => Some((n.id, delivery, message)),
            _ => None,
        });
        let sends: Vec<_> = sends.collect();
        let Some((node, index, message)) = rng.pick(&sends).copied() else { return };
        let delivery = DeliveryId { run: RUN, index };
        let Some(sets) = self.run().delivery(index) else { return };
        let rows = rows_to_claim(sets, node, &Classes::default(), ClassId(0), rng.between(1, 40) as usize, self.now);
        if rows.is_empty() {
            return;
        }
        let batch = BatchId(self.state.next_batch);
        let positions = Positions::from_sorted(0..rows.len() as u32);
        let (connector, at, message) = ("relay".to_owned(), self.now, MessageId(message));
        self.commit(Fact::Claimed(Claimed { batch, delivery, connector, message, rows, positions, at, domain: None }));
    }

    fn open(&self, rng: &mut Rng) -> Option<(DeliveryId, BatchId, RoaringBitmap, MessageId)> {
        let open: Vec<_> = self.state.open_batches().collect();
        let (delivery, batch) = *rng.pick(&open)?;
        let live = &self.state.delivery(delivery).ok()?.batches[&batch];
        Some((delivery, batch, live.open.clone(), live.message))
    }

    /// The provider takes a mail, or answers, or rows are taken back.
    fn hand_over(&mut self, rng: &mut Rng) {
        let Some((delivery, batch, rows, message)) = self.open(rng) else { return };
        let on_wire = self.taken.entry(batch).or_default().clone();
        let mut settled = Settled::new(batch, delivery, self.now);
        let mut returned = RoaringBitmap::new();
        for row in rows {
            if on_wire.contains(row) {
                if rng.chance(0.9) {
                    settled.accepted.insert(row);
                }
                continue;
            }
            match rng.below(10) {
                0..=5 => {
                    self.mailed.entry((delivery.index, row)).or_default().push(message);
                    self.taken.entry(batch).or_default().insert(row);
                }
                6 => drop(returned.insert(row)),
                7 => settled.rejected.push((RejectClass::HardBounce, RoaringBitmap::from_iter([row]))),
                8 => settled.deferred.push((self.now.0 / 1_000 + 60, RoaringBitmap::from_iter([row]))),
                _ => settled.skipped.push((SkipReason::RenderFailed, RoaringBitmap::from_iter([row]))),
            }
        }
        if settled.all_rows().1 > 0 {
            self.commit(Fact::Settled(settled));
        }
        if !returned.is_empty() {
            self.commit(Fact::Returned(Returned { batch, delivery, rows: returned, at: self.now }));
        }
    }

    /// The process dies: the state is what the written frames fold to; what was on the wire is unknown.
    fn kill(&mut self) {
        let mut again = State::default();
        for frame in &self.frames {
            again.apply(&Fact::decode(frame).expect("decodes"), BOOT).expect("fits");
        }
        let (one, other) = (snapshot::encode(&again).expect("bytes"), snapshot::encode(&self.state).expect("bytes"));
        assert!(one == other, "the fold of the facts is the state, byte for byte");
        self.state = again;
        for (delivery, batch) in self.state.open_batches().collect::<Vec<_>>() {
            let open = self.state.delivery(delivery).expect("there").batches[&batch].open.clone();
            let wire = self.taken.remove(&batch).unwrap_or_default() & &open;
            let back = &open - &wire;
            if !wire.is_empty() {
                let mut settled = Settled::new(batch, delivery, self.now);
                settled.unknown = wire;
                self.commit(Fact::Settled(settled));
            }
            if !back.is_empty() {
                self.commit(Fact::Returned(Returned { batch, delivery, rows: back, at: self.now }));
            }
        }
    }

    fn comes_back(&mut self, rng: &mut Rng) {
        let accepted: Vec<((u16, u32), MessageId)> =
            self.mailed.iter().filter_map(|(key, sent)| sent.last().map(|message| (*key, *message))).collect();
        let Some(((_, row), message)) = rng.pick(&accepted).copied() else { return };
        let kind = if rng.chance(0.5) { TrackedKind::Opened } else { TrackedKind::Clicked { link: 0 } };
        let class = if rng.chance(0.8) { EventClass::Human } else { EventClass::Machine };
        let rows = RoaringBitmap::from_iter([row]);
        self.commit(Fact::Tracked(Tracked { run: RUN, message, kind, class, rows, total: 1, was: None, at: self.now }));
    }

    /// The provider says what became of a mail that it took, perhaps before we have heard that it did; too much of that pauses
    /// the run.
    fn reported(&mut self, rng: &mut Rng) {
        let mailed: Vec<(u16, u32)> = self.mailed.keys().copied().collect();
        let Some((index, row)) = rng.pick(&mailed).copied() else { return };
        let sets = self.run().delivery(index).expect("there");
        // Who is sent to again by an operator has nothing on the wire.
        if !sets.may_have_left(row) {
            let skipped = sets.skipped.values().any(|rows| rows.contains(row));
            assert!(sets.pending.contains(row) || skipped, "a mail that was taken may have left: row {row}");
            return;
        }
        let send = self.run().sends_with(index).find(|send| sets.assigned(*send).contains(row)).expect("its send");
        let kind = match rng.below(6) {
            0 => FeedbackKind::Bounced(BounceClass::Hard),
            1 => FeedbackKind::Bounced(BounceClass::Soft),
            2 => FeedbackKind::Complained,
            3 => FeedbackKind::Converted(EventClass::Human),
            _ => FeedbackKind::Delivered,
        };
        let (delivery, rows) = (DeliveryId { run: RUN, index }, RoaringBitmap::from_iter([row]));
        let feedback = vec![FeedbackPart { delivery, send, kind, rows, total: 1 }];
        let at = self.now;
        self.commit(Fact::EventsReceived(Box::new(EventsReceived { feedback, at, ..EventsReceived::default() })));
        let rule = GuardRule { minimum: 30, ..GuardRule::default() };
        if let Some(paused) = guard::judge(self.run(), &rule, at) {
            self.commit(Fact::AutoPaused(paused));
            self.move_to(RunState::Running);
            assert_eq!(guard::judge(self.run(), &rule, at), None, "a resume does not pause again on the same events");
        }
    }

    fn person(&mut self, rng: &mut Rng) {
        let winner = *rng.pick(&[Some("A"), Some("B"), None]).expect("one");
        if let Ok(decided) = flowing::by_person(self.run(), winner, "ann", self.now) {
            self.chosen.insert(format!("{:?}", decided.winner));
            self.commit(Fact::Decided(decided));
        }
    }

    fn operator(&mut self, rng: &mut Rng) {
        let unknown: Vec<(DeliveryId, RoaringBitmap)> =
            self.run().deliveries.iter().filter(|d| !d.unknown.is_empty()).map(|d| (d.id, d.unknown.clone())).collect();
        let Some((delivery, rows)) = rng.pick(&unknown).cloned() else { return };
        let resend = rng.chance(0.5) && self.run().state != RunState::Stopped;
        if resend {
            for row in &rows {
                *self.allowed.entry((delivery.index, row)).or_default() += 1;
            }
        }
        let at = self.now;
        self.commit(Fact::UnknownSettled { delivery, rows: RowSet::base(rows), resend, at });
        if resend && self.run().state == RunState::Finished {
            self.move_to(RunState::Running);
        }
    }

    fn move_to(&mut self, to: RunState) {
        self.commit(Fact::RunMoved { run: RUN, to, reason: String::new(), at: self.now });
    }

    fn check(&self) {
        let run = self.run();
        for delivery in &run.deliveries {
            delivery.check().expect("balanced");
        }
        run.positions.verify(&run.graph).expect("everybody is at one node");
        let entered = run.flow.arrived.get(&run.graph.start()).copied().unwrap_or(0);
        assert_eq!(run.positions.total(), entered, "and nobody is at none");
        for (node, split) in run.graph.nodes().filter_map(|n| match &n.kind {
            NodeKind::Split(Split::AtMost(limits)) => Some((n.id, limits)),
            _ => None,
        }) {
            for (exit, limit) in split {
                assert!(run.flow.left_by(node, exit) <= *limit, "{node} let more than {limit} go by {exit}");
            }
        }
        for (node, waits) in &run.flow.waits {
            let here = run.positions.at(*node).cloned().unwrap_or_default();
            waits.verify().expect("one timer each");
            assert!(waits.rows().is_subset(&here), "a timer of {node} is of somebody else");
        }
        for ((index, row), sent) in &self.mailed {
            let allowed = 1 + self.allowed.get(&(*index, *row)).copied().unwrap_or(0);
            assert!(sent.len() <= allowed, "row {row} was mailed {} times in delivery {index}", sent.len());
            assert!(sent.iter().all(|message| message == &sent[0]), "row {row} got two versions: {sent:?}");
        }
    }
}

/// Answers whether the run ended by itself, and how often contacts came back to a delay.
fn one(rng: &mut Rng) -> (bool, u64) {
    let mut world = World::new(rng);
    for _ in 0..rng.between(20, 160) {
        match rng.below(24) {
            0..=7 => drop(world.step(rng)),
            8..=11 => world.claim(rng),
            12..=15 => world.hand_over(rng),
            16..=17 => world.comes_back(rng),
            18 => world.reported(rng),
            19 => world.kill(),
            20 => world.now.0 += i64::try_from(rng.between(1, 3_600_000)).expect("small"),
            21 => world.operator(rng),
            22 if rng.chance(0.1) => world.person(rng),
            _ => match world.run().state {
                RunState::Running if rng.chance(0.2) => world.move_to(RunState::Paused),
                RunState::Paused => world.move_to(RunState::Running),
                _ => {}
            },
        }
        world.check();
    }
    if world.run().state == RunState::Paused {
        world.move_to(RunState::Running);
    }
    // Quiet days: everything that can happen by itself does; a person decides what waits for one.
    for day in 0..4_000 {
        while world.step(rng) {
            world.check();
        }
        world.claim(rng);
        world.hand_over(rng);
        if world.run().is_finished() {
            world.move_to(RunState::Finished);
            world.check();
            world.kill();
            assert!(world.run().deliveries.iter().all(|d| d.held.is_empty()), "nobody is held at the end");
            return (true, world.timers.returns());
        }
        world.now.0 += 600_000;
        if day > 600 {
            world.person(rng);
        }
    }
    panic!("the run does not end: {:?} {:?}", world.run().counts(), world.run().flow);
}

#[test]
fn flows_lose_nobody_and_mail_nobody_twice_whatever_dies() {
    let (mut ended, mut returns) = (0, 0);
    let ran = for_each_seed("flows", 2_500, |_, rng| {
        let (whole, came_back) = one(rng);
        ended += u64::from(whole);
        returns += came_back;
    });
    assert!(ran < 100 || returns > 1_000, "contacts come back to delays: {returns}");
    assert_eq!(ended, ran, "every run came to its end");
}
