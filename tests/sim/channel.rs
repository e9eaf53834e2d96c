//! A simulated process with one channel, for runs of any shape: journal, mark bytes, lanes and provider, all of which can die.
//!
//! What is real: the facts and their fold, the choice of rows, recovery. What is simulated: the journal (a list of frames, of
//! which the end may be unwritten, and more of it unsynced), the mark file (a word per position), the provider (it counts
//! mails). Worlds decide what happens next; here it is applied, and lost.
//!
//! Invariants that are checked: 1. every fact that the core makes fits; 2. the fold of the frames is the state, byte for byte;
//! 3. a mail goes out only for a claim that is durable; 4. nobody is mailed twice in a delivery, but where an operator said
//! so, and nobody gets two versions; 5. after a kill no more is unknown than was on the wire; 6. whoever was given to a send
//! stays with it; 7. whoever leaves a delay because the time has come has rested for all of it, in this stay ([`Timers`]).

use std::collections::BTreeMap;
use std::time::Duration;

use roaring::RoaringBitmap;

use estafette::actors::decide::{self, Classes, Retry, rows_to_claim};
use estafette::channels::limits_table::ClassId;
use estafette::clock::Timestamp;
use estafette::config::connectors::RetrySettings;
use estafette::flow::{NodeId, NodeKind};
use estafette::ids::{BatchId, DeliveryId, MessageId, RunId};
use estafette::ledger::batch::BootId;
use estafette::ledger::facts::{Claimed, Returned, Settled};
use estafette::ledger::recover::{MarkWord, facts_of};
use estafette::ledger::{Fact, Positions, RejectClass, RowSet, Run, RunState, State, snapshot};
use estafette::segments::skip::SkipReason;

use crate::rng::Rng;
use crate::timers::Timers;

/// Frames that a kill may find in the journal's queue, applied and not written.
const QUEUED_MAX: usize = 4;

/// A row of a delivery of a run.
pub(crate) type Place = (RunId, u16, u32);

pub(crate) struct Process {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    frames: Vec<(BootId, Vec<u8>)>,
    /// When each frame was made.
    times: Vec<Timestamp>,
    timers: Timers,
    /// Frames that no power loss takes.
    durable: usize,
    boot: BootId,
    /// Where the frame of each claim stands.
    claims: BTreeMap<BatchId, usize>,
    marks: BTreeMap<u32, MarkWord>,
    next_position: u32,
    /// What the provider took.
    pub(crate) mailed: BTreeMap<Place, Vec<MessageId>>,
    /// Hand-overs that an operator allowed again.
    allowed: BTreeMap<Place, usize>,
    /// Rows of each send, as some durable state had them.
    given: BTreeMap<(RunId, u16, NodeId), RoaringBitmap>,
    retry: RetrySettings,
}

impl Process {
    pub(crate) fn new(now: Timestamp) -> Process {
        let retry = RetrySettings {
            schedule: vec![Duration::from_secs(60), Duration::from_secs(600)],
            ..RetrySettings::default()
        };
        Process {
            state: State::default(),
            now,
            frames: Vec::new(),
            times: Vec::new(),
            timers: Timers::default(),
            durable: 0,
            boot: BootId([7; 16]),
            claims: BTreeMap::new(),
            marks: BTreeMap::new(),
            next_position: 0,
            mailed: BTreeMap::new(),
            allowed: BTreeMap::new(),
            given: BTreeMap::new(),
            retry,
        }
    }

    /// Applies a fact and queues its frame.
    pub(crate) fn commit(&mut self, fact: Fact) {
        if let Fact::Moved(moved) = &fact {
            self.timers.moving(&self.state.runs[&moved.run], moved);
        }
        if let Err(violation) = self.state.apply(&fact, self.boot) {
            panic!("the core made a fact that does not fit: {violation}: {fact:?}");
        }
        self.frames.push((self.boot, fact.encode().expect("a fact encodes")));
        self.times.push(self.now);
        self.timers.look(&self.state, self.now);
    }

    /// The same of what somebody was told is done.
    pub(crate) fn commit_durable(&mut self, fact: Fact) {
        self.commit(fact);
        self.sync();
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.frames.len();
        for run in self.state.runs.values() {
            for delivery in &run.deliveries {
                for send in run.sends_with(delivery.id.index) {
                    // Who is held has not come to its send; who was skipped at the start never does.
                    let skipped = delivery.skipped.values().fold(RoaringBitmap::new(), |all, rows| all | rows);
                    let rows = delivery.assigned(send) - &delivery.held - skipped;
                    *self.given.entry((run.id, delivery.id.index, send)).or_default() |= rows;
                }
            }
        }
    }

    pub(crate) fn move_to(&mut self, run: RunId, to: RunState) {
        self.commit(Fact::RunMoved { run, to, reason: String::new(), at: self.now });
    }

    /// A claim of some rows that wait at a send of the run.
    pub(crate) fn claim(&mut self, run: RunId, rng: &mut Rng) {
        let found = &self.state.runs[&run];
        if found.state != RunState::Running {
            return;
        }
        let sends = found.graph.nodes().filter_map(|n| match n.kind {
            NodeKind::Send { delivery, message, .. } => Some((n.id, delivery, message)),
            _ => None,
        });
        let sends: Vec<_> = sends.collect();
        let Some((node, index, message)) = rng.pick(&sends).copied() else { return };
        let Some(sets) = found.delivery(index) else { return };
        let most = rng.between(1, 40) as usize;
        let rows = rows_to_claim(sets, node, &Classes::default(), ClassId(0), most, self.now);
        if rows.is_empty() {
            return;
        }
        let batch = BatchId(self.state.next_batch);
        let count = u32::try_from(rows.len()).expect("few");
        let positions = Positions::from_sorted(self.next_position..self.next_position + count);
        self.next_position += count;
        self.claims.insert(batch, self.frames.len());
        let (delivery, connector) = (DeliveryId { run, index }, "relay".to_owned());
        let (at, message) = (self.now, MessageId(message));
        self.commit(Fact::Claimed(Claimed { batch, delivery, connector, message, rows, positions, at, domain: None }));
    }

    fn mark(&self, position: u32) -> MarkWord {
        self.marks.get(&position).copied().unwrap_or(MarkWord::NotHandedOver)
    }

    /// Lanes come to the rows of an open claim: the provider takes a mail, or answers, or rows are taken back.
    pub(crate) fn hand_over(&mut self, rng: &mut Rng) {
        let open: Vec<_> = self.state.open_batches().collect();
        let Some((id, batch)) = rng.pick(&open).copied() else { return };
        if self.claims.get(&batch).is_some_and(|frame| *frame >= self.durable) {
            self.sync();
        }
        let live = &self.state.delivery(id).expect("there").batches[&batch];
        let (message, rows): (_, Vec<_>) = (live.message, live.open_marks().collect());
        let mut settled = Settled::new(batch, id, self.now);
        let mut returned = RoaringBitmap::new();
        for (row, position) in rows {
            let only = RoaringBitmap::from_iter([row]);
            if self.mark(position) == MarkWord::Marked {
                if rng.chance(0.9) {
                    settled.accepted.insert(row);
                    self.marks.insert(position, MarkWord::Accepted);
                }
                continue;
            }
            let word = match rng.below(10) {
                0..=5 => {
                    self.mailed.entry((id.run, id.index, row)).or_default().push(message);
                    MarkWord::Marked
                }
                6 => {
                    returned.insert(row);
                    MarkWord::NotHandedOver
                }
                7 => {
                    settled.rejected.push((RejectClass::HardBounce, only));
                    MarkWord::Rejected(RejectClass::HardBounce)
                }
                8 => {
                    let wait = i64::try_from(rng.between(60, 600)).expect("small");
                    settled.deferred.push((self.now.0 / 1_000 + wait, only));
                    MarkWord::Deferred
                }
                _ => {
                    settled.skipped.push((SkipReason::RenderFailed, only));
                    MarkWord::NotHandedOver
                }
            };
            self.marks.insert(position, word);
        }
        if settled.all_rows().1 > 0 {
            self.commit(Fact::Settled(settled));
        }
        if !returned.is_empty() {
            self.commit(Fact::Returned(Returned { batch, delivery: id, rows: returned, at: self.now }));
        }
    }

    /// Somebody got a mail: whom, in which delivery, which message.
    pub(crate) fn reader(&self, rng: &mut Rng) -> Option<(Place, MessageId)> {
        let count = self.mailed.len() as u64;
        let at = usize::try_from(rng.below(count)).expect("an index");
        self.mailed.iter().nth(at).and_then(|(place, sent)| Some((*place, *sent.last()?)))
    }

    /// An operator settles what is unknown.
    pub(crate) fn operator(&mut self, run: RunId, rng: &mut Rng) {
        let found = &self.state.runs[&run];
        let unknown = found.deliveries.iter().filter(|d| !d.unknown.is_empty()).map(|d| (d.id, d.unknown.clone()));
        let unknown: Vec<(DeliveryId, RoaringBitmap)> = unknown.collect();
        let Some((delivery, rows)) = rng.pick(&unknown).cloned() else { return };
        let resend = rng.chance(0.5) && found.state != RunState::Stopped;
        let reopens = resend && found.state == RunState::Finished;
        if resend {
            for row in &rows {
                *self.allowed.entry((run, delivery.index, row)).or_default() += 1;
            }
        }
        let at = self.now;
        self.commit(Fact::UnknownSettled { delivery, rows: RowSet::base(rows), resend, at });
        if reopens {
            self.move_to(run, RunState::Running);
        }
        self.sync();
    }

    /// The process dies and starts again. A kill keeps what was written and the mark words; a power loss keeps what was
    /// synced, perhaps some of the rest, and no mark that can be believed.
    pub(crate) fn crash(&mut self, power: bool, rng: &mut Rng) {
        let bytes = |state: &State| snapshot::encode(state).expect("bytes");
        assert!(bytes(&self.folded()) == bytes(&self.state), "the fold of the facts is the state, byte for byte");
        let (count, wire) = (self.frames.len(), self.marks.values().filter(|mark| **mark == MarkWord::Marked).count());
        let unsynced = count - self.durable;
        let lost = rng.below(if power { unsynced } else { unsynced.min(QUEUED_MAX) } as u64 + 1);
        let lost = if power || rng.chance(0.5) { usize::try_from(lost).expect("small") } else { 0 };
        self.frames.truncate(count - lost);
        self.times.truncate(count - lost);
        if lost > 0 {
            self.retell();
        }
        if power {
            self.boot = BootId(self.boot.0.map(|byte| byte.wrapping_add(1)));
        }
        self.state = snapshot::decode(&bytes(&self.folded())).expect("a snapshot reads back");
        let unknown = self.unknown();
        for (delivery, batch) in self.state.open_batches().collect::<Vec<_>>() {
            let sets = self.state.delivery(delivery).expect("there");
            let retry = Retry { settings: &self.retry, started_at: self.state.runs[&delivery.run].started_at };
            let due = |row| decide::retry_at(sets, retry, row, None, self.now);
            let word = |position| self.mark(position);
            let facts = facts_of(batch, delivery, &sets.batches[&batch], self.boot, Some(&word), &due, self.now);
            facts.into_iter().for_each(|fact| self.commit(fact));
        }
        assert!(power || self.unknown() <= unknown + wire as u64, "no more is unknown than was on the wire");
        self.marks.clear();
        self.claims.clear();
        // Flushed before the mark file is zeroed.
        self.sync();
    }

    /// Where everybody rested since when, as far as the frames that are left say it.
    fn retell(&mut self) {
        let mut state = State::default();
        self.timers.restart();
        for ((boot, frame), at) in self.frames.iter().zip(&self.times) {
            state.apply(&Fact::decode(frame).expect("decodes"), *boot).expect("what fitted once fits again");
            self.timers.look(&state, *at);
        }
    }

    /// How often contacts came back to a delay where they had been before.
    pub(crate) fn returns(&self) -> u64 {
        self.timers.returns()
    }

    fn unknown(&self) -> u64 {
        self.state.runs.values().flat_map(|run| &run.deliveries).map(|delivery| delivery.unknown.len()).sum()
    }

    fn folded(&self) -> State {
        let mut state = State::default();
        for (boot, frame) in &self.frames {
            state.apply(&Fact::decode(frame).expect("decodes"), *boot).expect("what fitted once fits again");
        }
        state
    }

    /// Holds at every step.
    pub(crate) fn check(&self, run: &Run) {
        for delivery in &run.deliveries {
            delivery.check().expect("balanced");
        }
        run.positions.verify(&run.graph).expect("everybody is at one node");
        for ((of, index, send), rows) in self.given.range((run.id, 0, NodeId(0))..) {
            if *of != run.id {
                break;
            }
            let now = run.delivery(*index).map(|delivery| delivery.assigned(*send));
            assert!(now.is_some_and(|now| rows.is_subset(now)), "whoever was given to {send} stays with it");
        }
        for ((of, index, row), sent) in self.mailed.range((run.id, 0, 0)..) {
            if *of != run.id {
                break;
            }
            let allowed = 1 + self.allowed.get(&(*of, *index, *row)).copied().unwrap_or(0);
            assert!(sent.len() <= allowed, "row {row} was mailed {} times in delivery {index}", sent.len());
            assert!(sent.iter().all(|message| message == &sent[0]), "row {row} got two versions: {sent:?}");
        }
    }

    /// Holds at the end of a run: accepted ⊆ mailed ⊆ accepted ∪ unknown, but for what an operator said.
    pub(crate) fn check_end(&self, run: &Run) {
        self.check(run);
        for delivery in &run.deliveries {
            assert!(delivery.held.is_empty(), "nobody is held at the end");
            let mailed: RoaringBitmap = self
                .mailed
                .range((run.id, delivery.id.index, 0)..=(run.id, delivery.id.index, u32::MAX))
                .map(|((.., row), _)| *row)
                .collect();
            let mut told = &delivery.accepted | &delivery.unknown;
            // What was unknown and came back as a bounce is rejected.
            for feedback in run.sends_with(delivery.id.index).filter_map(|send| run.feedback.get(&send)) {
                [&feedback.hard, &feedback.soft, &feedback.policy].into_iter().for_each(|seen| told |= &seen.rows);
            }
            let by_hand: RoaringBitmap = self
                .allowed
                .keys()
                .filter(|place| (place.0, place.1) == (run.id, delivery.id.index))
                .map(|p| p.2)
                .collect();
            let lost = &(&mailed - &told) - &by_hand;
            assert!(lost.is_empty(), "mailed, and neither accepted nor unknown: {lost:?}");
            if self.state.runs[&run.id].state == RunState::Finished {
                assert!(delivery.is_finished(), "an ended run waits for nobody");
            }
        }
    }
}
