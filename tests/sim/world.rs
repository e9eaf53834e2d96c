//! A simulated process around the real core: journal, mark bytes, lanes and provider, all of which can die.
//!
//! What is real: the facts, the state and its checks, the choice of rows, settling, recovery. What is simulated: the disk
//! (a list of frames, some written, some durable), the mark file (a byte per position), the provider (it counts mails).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use roaring::RoaringBitmap;

use estafette::actors::RowOutcome;
use estafette::actors::decide::{self, Classes, Retry};
use estafette::channels::limits_table::ClassId;
use estafette::clock::Timestamp;
use estafette::config::connectors::RetrySettings;
use estafette::flow::NodeId;
use estafette::ids::{BatchId, CampaignId, Channel, DeliveryId, MessageId, RunId};
use estafette::ledger::batch::BootId;
use estafette::ledger::consent::ConsentStatus;
use estafette::ledger::facts::{Claimed, DeliveryEntered, Returned, RunStarted, Unsubscribed};
use estafette::ledger::recover::{MarkWord, facts_of};
use estafette::ledger::{Fact, Mode, Positions, RejectClass, RowSet, RunState, State, snapshot};
use estafette::segments::skip::SkipReason;

use crate::rng::Rng;

pub(crate) const RUN: RunId = RunId(1);
pub(crate) const DELIVERY: DeliveryId = DeliveryId { run: RUN, index: 0 };
pub(crate) const CREDITS: u32 = 64;
const TOPIC: &str = "news";

/// A claimed batch as the lanes see it.
pub(crate) struct Live {
    pub(crate) rows: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    /// Rows that the fate of is not known to the process: neither answered, skipped nor taken back.
    pub(crate) left: usize,
}

pub(crate) struct World {
    pub(crate) state: State,
    frames: Vec<(BootId, Vec<u8>)>,
    written: usize,
    durable: usize,
    boot: BootId,
    pub(crate) marks: Vec<MarkWord>,
    withdrawn: Vec<bool>,
    free: RoaringBitmap,
    pub(crate) live: BTreeMap<BatchId, Live>,
    pub(crate) gathered: BTreeMap<BatchId, Vec<(u32, RowOutcome)>>,
    /// What the provider really took, by row.
    pub(crate) mailed: BTreeMap<u32, u32>,
    /// How often an operator or at-least-once mode allowed another hand-over of a row.
    pub(crate) allowed: BTreeMap<u32, u32>,
    /// Rows whose opt-out was answered with a 200.
    pub(crate) opted_out: BTreeSet<u32>,
    retry: RetrySettings,
    mode: Mode,
}

impl World {
    pub(crate) fn new(rows: u32, mode: Mode, now: Timestamp) -> World {
        let mut world = World {
            state: State::default(),
            frames: Vec::new(),
            written: 0,
            durable: 0,
            boot: BootId([1; 16]),
            marks: vec![MarkWord::NotHandedOver; CREDITS as usize],
            withdrawn: vec![false; CREDITS as usize],
            free: (0..CREDITS).collect(),
            live: BTreeMap::new(),
            gathered: BTreeMap::new(),
            mailed: BTreeMap::new(),
            allowed: BTreeMap::new(),
            opted_out: BTreeSet::new(),
            retry: RetrySettings {
                schedule: [2, 5, 10].map(Duration::from_secs).to_vec(),
                deadline: Duration::from_secs(60),
            },
            mode,
        };
        let audience: RoaringBitmap = (0..rows).collect();
        let skipped = vec![(SkipReason::NoAddress, (0..rows / 10).collect())];
        let spec = include_str!("campaign.json");
        world.commit(Fact::CampaignSaved { campaign: CampaignId(1), spec: spec.to_owned(), at: now });
        let spec = estafette::campaigns::parse(spec, estafette::campaigns::Format::Json).expect("the spec parses");
        let compiled = estafette::campaigns::compile(&spec).expect("the spec compiles");
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: TOPIC.to_owned(),
            connector: "relay".to_owned(),
            mode,
            audience: RowSet::base(audience),
            skipped,
            summary: None,
        };
        world.commit(Fact::RunStarted(Box::new(RunStarted {
            run: RUN,
            campaign: CampaignId(1),
            version: 1,
            graph: compiled.graph,
            deliveries: vec![entered],
            at: now,
            entrants: RowSet::default(),
        })));
        world.sync();
        world
    }

    /// Applies a fact and queues its frame.
    pub(crate) fn commit(&mut self, fact: Fact) {
        if let Err(violation) = self.state.apply(&fact, self.boot) {
            panic!("the core made a fact that does not fit: {violation}: {fact:?}");
        }
        self.frames.push((self.boot, fact.encode().expect("a fact encodes")));
    }

    pub(crate) fn write(&mut self) {
        self.written = self.frames.len();
    }

    pub(crate) fn sync(&mut self) {
        self.write();
        self.durable = self.written;
    }

    pub(crate) fn run_state(&self) -> RunState {
        self.state.runs[&RUN].state
    }

    pub(crate) fn is_settled(&self) -> bool {
        !self.run_state().is_live()
    }

    /// Claims up to `rows`; the batch may be sent when the frame is durable.
    pub(crate) fn claim(&mut self, rows: usize, now: Timestamp) -> Option<BatchId> {
        let delivery = self.state.delivery(DELIVERY).expect("the delivery exists");
        let room = usize::try_from(self.free.len()).expect("small");
        let rows = decide::rows_to_claim(delivery, NodeId(1), &Classes::default(), ClassId(0), rows.min(room), now);
        if rows.is_empty() || self.run_state() != RunState::Running {
            return None;
        }
        let positions: Vec<u32> = self.free.iter().take(usize::try_from(rows.len()).expect("small")).collect();
        positions.iter().for_each(|p| {
            self.free.remove(*p);
        });
        let batch = BatchId(self.state.next_batch);
        let live = Live { rows: rows.iter().collect(), positions: positions.clone(), left: positions.len() };
        self.live.insert(batch, live);
        self.commit(Fact::Claimed(Claimed {
            batch,
            delivery: DELIVERY,
            connector: "relay".to_owned(),
            message: MessageId(0),
            rows,
            positions: Positions::from_sorted(positions),
            at: now,
            domain: None,
        }));
        Some(batch)
    }

    pub(crate) fn is_opted_out(&self, row: u32) -> bool {
        self.state.consent.status(Channel::Email, TOPIC, row) == ConsentStatus::Unsubscribed
    }

    /// The mark: `false` if the row was taken back.
    pub(crate) fn mark(&mut self, batch: BatchId, index: usize) -> bool {
        let Some(live) = self.live.get(&batch) else { return false };
        let position = live.positions[index] as usize;
        if self.withdrawn[position] || self.marks[position] != MarkWord::NotHandedOver {
            return false;
        }
        self.marks[position] = MarkWord::Marked;
        true
    }

    /// A mail reaches its reader.
    pub(crate) fn deliver(&mut self, row: u32) {
        assert!(!self.opted_out.contains(&row), "row {row} was mailed after its opt-out was confirmed");
        *self.mailed.entry(row).or_default() += 1;
    }

    pub(crate) fn answer(&mut self, batch: BatchId, index: usize, outcome: RowOutcome) {
        let Some(live) = self.live.get_mut(&batch) else { return };
        live.left -= 1;
        let (row, position) = (live.rows[index], live.positions[index] as usize);
        match &outcome {
            RowOutcome::Accepted => self.marks[position] = MarkWord::Accepted,
            RowOutcome::Rejected(class, _) => self.marks[position] = MarkWord::Rejected(*class),
            RowOutcome::Deferred(..) => self.marks[position] = MarkWord::Deferred,
            RowOutcome::Unknown => self.marks[position] = MarkWord::Unknown,
            RowOutcome::Skipped(..) => self.withdrawn[position] = true,
        }
        self.gathered.entry(batch).or_default().push((row, outcome));
    }

    /// Settles what lanes have gathered.
    pub(crate) fn flush(&mut self, now: Timestamp) {
        for (batch, outcomes) in std::mem::take(&mut self.gathered) {
            let delivery = self.state.delivery(DELIVERY).expect("the delivery exists");
            let retry = Retry { settings: &self.retry, started_at: self.state.runs[&RUN].started_at };
            let fact = decide::settle(batch, delivery, retry, &[], &outcomes, now);
            for row in fact.unknown.iter().filter(|_| self.mode == Mode::AtLeastOnce) {
                *self.allowed.entry(row).or_default() += 1;
            }
            self.commit(Fact::Settled(fact));
            self.close(batch);
        }
    }

    /// Takes back all that no lane has marked.
    pub(crate) fn withdraw(&mut self, now: Timestamp) {
        for batch in self.live.keys().copied().collect::<Vec<_>>() {
            let mut rows = RoaringBitmap::new();
            let Some(live) = self.live.get_mut(&batch) else { continue };
            for (index, position) in live.positions.iter().enumerate() {
                let position = *position as usize;
                if !self.withdrawn[position] && self.marks[position] == MarkWord::NotHandedOver {
                    self.withdrawn[position] = true;
                    rows.insert(live.rows[index]);
                    live.left -= 1;
                }
            }
            if !rows.is_empty() {
                self.commit(Fact::Returned(Returned { batch, delivery: DELIVERY, rows, at: now }));
            }
            self.close(batch);
        }
    }

    /// Gives the positions back once no row of the batch is anywhere and its last frame is written.
    fn close(&mut self, batch: BatchId) {
        let open = self.state.delivery(DELIVERY).expect("the delivery exists").batches.contains_key(&batch);
        if open || self.live.get(&batch).is_none_or(|live| live.left > 0) {
            return;
        }
        self.write();
        if let Some(live) = self.live.remove(&batch) {
            for position in live.positions {
                self.marks[position as usize] = MarkWord::NotHandedOver;
                self.withdrawn[position as usize] = false;
                self.free.insert(position);
            }
        }
    }

    pub(crate) fn unsubscribe(&mut self, row: u32, now: Timestamp) {
        let rows = RowSet::base(RoaringBitmap::from_iter([row]));
        let (channel, topic, source) = (Channel::Email, TOPIC.to_owned(), "link".to_owned());
        self.commit(Fact::Unsubscribed(Unsubscribed {
            run: RUN,
            message: MessageId(0),
            rows,
            channel,
            topic,
            source,
            at: now,
            addresses: Vec::new(),
        }));
        self.sync();
        // A row that is on the wire already can't be called back: only what was not released is promised.
        let on_wire = self.live.values().any(|live| {
            live.rows.iter().zip(&live.positions).any(|(r, p)| *r == row && self.marks[*p as usize] == MarkWord::Marked)
        });
        if !on_wire {
            self.opted_out.insert(row);
        }
    }

    pub(crate) fn settle_unknown(&mut self, resend: bool, now: Timestamp) {
        let run = &self.state.runs[&RUN];
        if resend && decide::reopens(run).is_none() {
            return;
        }
        let reopen = resend && decide::reopens(run) == Some(true);
        let rows = decide::unknown_rows(&run.deliveries[0], None);
        if rows.is_empty() {
            return;
        }
        if resend {
            rows.iter().for_each(|row| *self.allowed.entry(row).or_default() += 1);
        }
        self.commit(Fact::UnknownSettled { delivery: DELIVERY, rows: RowSet::base(rows), resend, at: now });
        if reopen {
            self.move_run(RunState::Running, now);
        }
        self.sync();
    }

    pub(crate) fn move_run(&mut self, to: RunState, now: Timestamp) {
        self.commit(Fact::RunMoved { run: RUN, to, reason: String::new(), at: now });
    }

    /// What the campaign's actor does at each look.
    pub(crate) fn look(&mut self, now: Timestamp) {
        match decide::next_of(&self.state.runs[&RUN]) {
            decide::Next::GoOn => {}
            decide::Next::Finish => self.move_run(RunState::Finished, now),
            decide::Next::Stop => {
                let rows = RowSet::base(decide::rows_to_stop(&self.state.runs[&RUN].deliveries[0]));
                if !rows.rows.is_empty() {
                    self.commit(Fact::Skipped { delivery: DELIVERY, reason: decide::STOP_REASON, rows, at: now });
                }
                self.move_run(RunState::Stopped, now);
            }
        }
    }

    /// Messages that are marked and unanswered: what a kill may leave unknown.
    pub(crate) fn on_the_wire(&self) -> u64 {
        self.marks.iter().filter(|mark| **mark == MarkWord::Marked).count() as u64
    }

    /// Dies and starts again. A kill keeps what was written and the mark bytes; a power loss keeps what was durable, perhaps
    /// some of what was written, and nothing that can be believed of the mark bytes.
    pub(crate) fn crash(&mut self, power: bool, rng: &mut Rng, now: Timestamp) {
        let before = self.state.runs[&RUN].deliveries[0].unknown.len();
        let settled_unknown: u64 =
            self.gathered.values().flatten().filter(|(_, o)| *o == RowOutcome::Unknown).count() as u64;
        let unwritten = self.written;
        let wire = self.on_the_wire();
        let kept =
            if power { self.durable + rng.below((unwritten - self.durable) as u64 + 1) as usize } else { unwritten };
        self.frames.truncate(kept);
        if power {
            self.boot = BootId([self.boot.0[0] + 1; 16]);
            self.marks
                .iter_mut()
                .for_each(|m| *m = if rng.chance(0.5) { MarkWord::Accepted } else { MarkWord::NotHandedOver });
        }
        self.state = self.replayed();
        self.live.clear();
        self.gathered.clear();
        let open: Vec<(BatchId, _)> =
            self.state.runs[&RUN].deliveries[0].batches.iter().map(|(id, batch)| (*id, batch.clone())).collect();
        let marks = std::mem::replace(&mut self.marks, vec![MarkWord::NotHandedOver; CREDITS as usize]);
        let withdrawn = std::mem::replace(&mut self.withdrawn, vec![false; CREDITS as usize]);
        let word = |position: u32| match marks[position as usize] {
            MarkWord::NotHandedOver => MarkWord::NotHandedOver,
            _ if withdrawn[position as usize] && !power => MarkWord::NotHandedOver,
            other => other,
        };
        for (id, batch) in &open {
            let delivery = &self.state.runs[&RUN].deliveries[0];
            let retry = Retry { settings: &self.retry, started_at: self.state.runs[&RUN].started_at };
            let due = |row| decide::retry_at(delivery, retry, row, None, now);
            for fact in facts_of(*id, DELIVERY, batch, self.boot, Some(&word), &due, now) {
                if let (Mode::AtLeastOnce, Fact::Settled(settled)) = (self.mode, &fact) {
                    settled.unknown.iter().for_each(|row| *self.allowed.entry(row).or_default() += 1);
                }
                self.commit(fact);
            }
        }
        self.free = (0..CREDITS).collect();
        self.sync();
        let delivery = &self.state.runs[&RUN].deliveries[0];
        assert!(delivery.claimed.is_empty(), "recovery settles every claim");
        let new = delivery.unknown.len().saturating_sub(before);
        let bound = if power { u64::from(CREDITS) } else { wire + settled_unknown };
        assert!(new <= bound, "unknown after a crash: {new} > {bound}");
    }

    /// The state folded anew from the frames, as a start does.
    pub(crate) fn replayed(&self) -> State {
        let mut state = State::default();
        for (boot, bytes) in &self.frames {
            let fact = Fact::decode(bytes).expect("a frame decodes");
            state.apply(&fact, *boot).expect("what fitted once fits again");
        }
        state
    }

    /// Holds at every step.
    pub(crate) fn check(&self) {
        self.state.check().expect("the ledger balances");
        let delivery = &self.state.runs[&RUN].deliveries[0];
        assert!(delivery.counts().is_balanced(), "counts add up");
        for (row, times) in &self.mailed {
            let allowed = 1 + self.allowed.get(row).copied().unwrap_or(0);
            assert!(*times <= allowed, "row {row} was mailed {times} times, {allowed} allowed");
        }
    }

    /// Holds at the end: nobody is forgotten, and nobody is called accepted who was not mailed.
    pub(crate) fn check_end(&self) {
        self.check();
        let delivery = &self.state.runs[&RUN].deliveries[0];
        let mailed: RoaringBitmap = self.mailed.keys().copied().collect();
        let by_hand: RoaringBitmap = self.allowed.keys().copied().collect();
        let accepted = &delivery.accepted - &by_hand;
        let lost = &(&mailed - &delivery.accepted) - &delivery.unknown;
        let rejected_after: RoaringBitmap =
            delivery.rejected.values().chain(delivery.skipped.values()).fold(by_hand.clone(), |all, rows| all | rows);
        assert!((&accepted - &mailed).is_subset(&self.settled_by_hand()), "accepted but never mailed");
        assert!(lost.is_subset(&rejected_after), "mailed, but neither accepted nor unknown: {lost:?}");
        if self.is_settled() {
            assert!(delivery.is_finished(), "an ended run waits for nobody");
        }
        let bytes = snapshot::encode(&self.state).expect("the state encodes");
        let again = snapshot::decode(&bytes).expect("the snapshot decodes");
        assert_eq!(snapshot::encode(&again).expect("it encodes again"), bytes, "same facts, same bytes");
        assert_eq!(snapshot::encode(&self.replayed()).expect("it encodes"), bytes, "state = fold(facts)");
    }

    /// Unknown rows that an operator settled as accepted were perhaps never mailed.
    fn settled_by_hand(&self) -> RoaringBitmap {
        let mut rows = RoaringBitmap::new();
        for (_, bytes) in &self.frames {
            if let Ok(Fact::UnknownSettled { rows: settled, resend: false, .. }) = Fact::decode(bytes) {
                rows |= settled.rows;
            }
        }
        rows
    }
}

/// A provider's refusal, drawn.
pub(crate) fn refusal(rng: &mut Rng) -> RowOutcome {
    match rng.below(3) {
        0 => RowOutcome::Rejected(RejectClass::HardBounce, "550 5.1.1 no such user".to_owned()),
        1 => RowOutcome::Deferred(None, "451 4.7.1 later".to_owned()),
        _ => {
            RowOutcome::Deferred(Some(std::time::Duration::from_secs(rng.below(900))), "421 4.7.0 slow down".to_owned())
        }
    }
}
