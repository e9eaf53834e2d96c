//! Facts folded into the ledger beside the bare set operations: a claim and its settlement of 1 000 rows out of a million,
//! and the bitmap moves alone that they are made of.
//!
//! `cargo bench --bench ledger`; under `cargo bench -- --test` each runs once.
#![allow(clippy::expect_used, reason = "a bench whose setup fails has nothing to measure")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use estafette::clock::Timestamp;
use estafette::flow::Graph;
use estafette::ids::{BatchId, CampaignId, Channel, DeliveryId, MessageId, RunId};
use estafette::ledger::batch::BootId;
use estafette::ledger::facts::{Claimed, DeliveryEntered, RunStarted, Settled};
use estafette::ledger::{Fact, Mode, Positions, RejectClass, RowSet, State};
use roaring::RoaringBitmap;

const AUDIENCE: u32 = 1_000_000;
const BATCH: u32 = 1_000;
const BATCHES: u32 = 200;
const DELIVERY: DeliveryId = DeliveryId { run: RunId(1), index: 0 };
const BOOT: BootId = BootId([1; 16]);

/// A campaign that has just started; its graph is that of a single campaign.
fn started() -> State {
    let spec = "name = \"c\"\nkind = \"single\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"r\"\n\
                topic = \"news\"\nfrom = \"a@b.test\"\nsubject = \"s\"\ntext = \"t\"\n";
    let spec = estafette::campaigns::parse::parse(spec, estafette::campaigns::parse::Format::Toml).expect("a spec");
    let graph: Graph = estafette::campaigns::compile(&spec).expect("compiles").graph;
    let stored = estafette::campaigns::parse::to_stored(&spec);
    let at = Timestamp(1_000);
    let entered = DeliveryEntered {
        channel: Channel::Email,
        topic: "news".to_owned(),
        connector: "relay".to_owned(),
        mode: Mode::Strict,
        audience: RowSet::base((0..AUDIENCE).collect()),
        skipped: Vec::new(),
        summary: None,
    };
    let (deliveries, entrants) = (vec![entered], RowSet::default());
    let run = RunStarted { run: RunId(1), campaign: CampaignId(1), version: 1, graph, deliveries, at, entrants };
    let mut state = State::default();
    for fact in [Fact::CampaignSaved { campaign: CampaignId(1), spec: stored, at }, Fact::RunStarted(Box::new(run))] {
        state.apply(&fact, BOOT).expect("fits");
    }
    state
}

/// Rows of the n-th batch: `stride` apart.
fn rows(batch: u32, stride: u32) -> RoaringBitmap {
    let (block, place) = (batch / stride, batch % stride);
    (0..BATCH).map(|k| block * BATCH * stride + place + k * stride).collect()
}

/// A claim and its settlement: nineteen of twenty accepted, the rest bounced.
fn facts(batch: u32, stride: u32) -> [Fact; 2] {
    let rows = rows(batch, stride);
    let id = BatchId(u64::from(batch));
    let bounced: RoaringBitmap = rows.iter().step_by(20).collect();
    let mut settled = Settled::new(id, DELIVERY, Timestamp(3_000));
    settled.accepted = &rows - &bounced;
    settled.rejected = vec![(RejectClass::HardBounce, bounced)];
    let claimed = Claimed {
        batch: id,
        delivery: DELIVERY,
        connector: "relay".to_owned(),
        message: MessageId(0),
        rows,
        positions: Positions(vec![(0, BATCH)]),
        at: Timestamp(2_000),
        domain: None,
    };
    [Fact::Claimed(claimed), Fact::Settled(settled)]
}

/// The sets that the same moves touch, and nothing else.
#[derive(Clone, Default)]
struct Bare {
    pending: RoaringBitmap,
    claimed: RoaringBitmap,
    accepted: RoaringBitmap,
    rejected: RoaringBitmap,
    at_send: RoaringBitmap,
    at_end: RoaringBitmap,
}

impl Bare {
    fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Claimed(claimed) => {
                self.pending -= &claimed.rows;
                self.claimed |= &claimed.rows;
            }
            Fact::Settled(settled) => {
                let (rows, _) = settled.all_rows();
                self.claimed -= &rows;
                self.accepted |= &settled.accepted;
                self.rejected |= &settled.rejected[0].1;
                self.at_send -= &rows;
                self.at_end |= &rows;
            }
            _ => {}
        }
    }
}

fn apply(c: &mut Criterion) {
    let state = started();
    let all: RoaringBitmap = (0..AUDIENCE).collect();
    let bare = Bare { pending: all.clone(), at_send: all, ..Bare::default() };
    let mut group = c.benchmark_group("ledger");
    group.sample_size(20).throughput(Throughput::Elements(u64::from(BATCHES * BATCH)));
    for (name, stride) in [("neighbours", 1), ("scattered", 4)] {
        let facts: Vec<Fact> = (0..BATCHES).flat_map(|batch| facts(batch, stride)).collect();
        group.bench_with_input(BenchmarkId::new("claim_settle", name), &facts, |b, facts| {
            let fold = |mut state: State| {
                facts.iter().for_each(|fact| state.apply(fact, BOOT).expect("fits"));
                state
            };
            b.iter_batched(|| state.clone(), |state| black_box(fold(state)), BatchSize::LargeInput);
        });
        group.bench_with_input(BenchmarkId::new("bare_bitmaps", name), &facts, |b, facts| {
            let fold = |mut bare: Bare| {
                facts.iter().for_each(|fact| bare.apply(fact));
                bare
            };
            b.iter_batched(|| bare.clone(), |bare| black_box(fold(bare)), BatchSize::LargeInput);
        });
        let mut folded = state.clone();
        facts.iter().for_each(|fact| folded.apply(fact, BOOT).expect("fits"));
        let delivery = &folded.runs[&RunId(1)].deliveries[0];
        assert!(delivery.check().is_ok(), "the fold balances");
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
