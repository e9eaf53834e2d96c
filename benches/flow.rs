//! Set moves of a flow beside their bare primitives, over 10 M contacts.
//!
//! - an exact split by rank beside hashing every row,
//! - a condition beside one AND and one AND NOT,
//! - a stream's split of all of them at once,
//! - waiting: entering and taking, with the bytes that a waiting contact costs, written down and in memory.
//!
//! `cargo bench --bench flow` measures; `-- --test` runs everything once over 100 000 contacts, to see that it works;
//! `-- --bytes` prints what waiting costs and nothing else. `FLOW_ROWS` sets another number of contacts.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a bench may stop and print")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use estafette::clock::Timestamp;
use estafette::flow::NodeId;
use estafette::flow::delay::Waits;
use estafette::flow::split::{SplitKey, Stream, rank, sets};
use estafette::ids::RunId;
use roaring::RoaringBitmap;

const MINUTE: i64 = 60_000;

fn key(node: u32) -> SplitKey {
    SplitKey::new(RunId(1), NodeId(node))
}

/// A share of the rows, drawn at random.
fn share(rows: &RoaringBitmap, node: u32, weight: u32) -> RoaringBitmap {
    rank::by_weights(&key(node), rows, &[weight, 100 - weight]).unwrap().swap_remove(0)
}

fn splits(c: &mut Criterion, rows: &RoaringBitmap) {
    let mut group = c.benchmark_group("split");
    group.sample_size(10).throughput(Throughput::Elements(rows.len()));
    let by_node = key(1);
    group.bench_function("bare: hash every row", |b| {
        b.iter(|| rows.iter().fold(0, |sum: u64, row| sum.wrapping_add(by_node.of_row(black_box(row)))))
    });
    for (name, weights) in
        [("rank, 50/50", &[50, 50][..]), ("rank, 10/10/80", &[10, 10, 80]), ("rank, 26 variants", &[1; 26])]
    {
        group.bench_function(name, |b| b.iter(|| rank::by_weights(&by_node, black_box(rows), weights).unwrap()));
    }
    group.bench_function("stream, 50/50, all at once", |b| {
        b.iter_batched(
            || Stream::new(&[50, 50]).unwrap(),
            |mut stream| stream.assign(&by_node, black_box(rows)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let mut group = c.benchmark_group("stream");
    let mut stream = Stream::new(&[50, 50]).unwrap();
    let mut row = 0;
    group.bench_function("one contact", |b| {
        b.iter(|| {
            row += 1;
            stream.assign(&by_node, &RoaringBitmap::from_iter([row]))
        });
    });
    group.finish();
}

fn conditions(c: &mut Criterion, rows: &RoaringBitmap) {
    let mut group = c.benchmark_group("condition");
    group.sample_size(20).throughput(Throughput::Elements(rows.len()));
    for (name, weight) in [("half", 50), ("one in fifty", 2)] {
        let truth = share(rows, 7, weight);
        group.bench_function(format!("bare: one AND, {name}"), |b| b.iter(|| black_box(rows) & black_box(&truth)));
        group.bench_function(format!("condition, {name}"), |b| {
            b.iter(|| sets::condition(black_box(rows), black_box(&truth)))
        });
    }
    let three: Vec<RoaringBitmap> = (0..3).map(|node| share(rows, 10 + node, 30)).collect();
    group.bench_function("three segments in order", |b| b.iter(|| sets::in_order(black_box(rows), &three)));
    group.finish();
}

/// Rows in arrivals: each a random part of all rows, as a stream or a paced send makes them.
fn arrivals(rows: &RoaringBitmap, count: u32) -> Vec<RoaringBitmap> {
    let mut parts: Vec<Vec<u32>> = vec![Vec::new(); count as usize];
    let by_node = key(99);
    for row in rows {
        let part = (u128::from(by_node.of_row(row)) * u128::from(count)) >> 64;
        parts[part as usize].push(row);
    }
    parts.into_iter().map(|part| RoaringBitmap::from_sorted_iter(part).unwrap()).collect()
}

/// Arrivals `every` so many minutes, each of which waits for `wait` minutes.
struct Waiting {
    name: &'static str,
    arrivals: u32,
    every: i64,
    wait: i64,
}

const WAITING: [Waiting; 4] = [
    Waiting { name: "a send of 3 h, then 5 d", arrivals: 180, every: 1, wait: 5 * 1_440 },
    Waiting { name: "a day of entrants, 30 min to 1 d", arrivals: 1_440, every: 1, wait: 1_440 },
    Waiting { name: "a week of entrants, 7 d", arrivals: 7 * 24, every: 60, wait: 7 * 1_440 },
    Waiting { name: "30 d of entrants by the minute, 30 d", arrivals: 43_200, every: 1, wait: 30 * 1_440 },
];

fn enter(waiting: &Waiting, arrivals: &[RoaringBitmap]) -> Waits {
    let mut waits = Waits::default();
    for (rows, at) in arrivals.iter().zip(0..) {
        let now = Timestamp(at * waiting.every * MINUTE);
        waits.enter(rows, Timestamp(now.0 + waiting.wait * MINUTE), now);
    }
    waits
}

fn waits(c: &mut Criterion, rows: &RoaringBitmap) {
    let mut group = c.benchmark_group("wait");
    group.sample_size(10).throughput(Throughput::Elements(rows.len()));
    for waiting in &WAITING[..2] {
        let arrivals = arrivals(rows, waiting.arrivals);
        group.bench_function(format!("enter, {}", waiting.name), |b| b.iter(|| enter(waiting, &arrivals)));
        let full = enter(waiting, &arrivals);
        group.bench_function(format!("take all, {}", waiting.name), |b| {
            b.iter_batched(|| full.clone(), |mut waits| waits.take_due(Timestamp(i64::MAX)), BatchSize::PerIteration);
        });
        let reached = share(rows, 5, 20);
        group.bench_function(format!("event for a fifth, {}", waiting.name), |b| {
            b.iter_batched(|| full.clone(), |mut waits| waits.remove(&reached), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// Counts what is allocated, as glibc's malloc takes it: eight bytes more, in steps of sixteen.
struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

fn taken(size: usize) -> u64 {
    ((size as u64 + 8).div_ceil(16) * 16).max(32)
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(taken(layout.size()), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(taken(size), Ordering::Relaxed);
        ALLOCATED.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What waiting costs: bytes a contact, written down and in memory.
fn bytes(rows: &RoaringBitmap) {
    for waiting in &WAITING {
        let arrivals = arrivals(rows, waiting.arrivals);
        let (begin, before) = (Instant::now(), ALLOCATED.load(Ordering::Relaxed));
        let waits = enter(waiting, &arrivals);
        let (took, after) = (begin.elapsed(), ALLOCATED.load(Ordering::Relaxed));
        waits.verify().unwrap();
        assert_eq!(waits.len(), rows.len(), "everybody waits");
        let each = |bytes: u64| bytes as f64 / rows.len() as f64;
        println!(
            "{:<38} {:>6} buckets, {:.2} B a contact written, {:.2} B in memory, entered in {} ms",
            waiting.name,
            waits.buckets(),
            each(waits.serialized_bytes() as u64),
            each(after.saturating_sub(before)),
            took.as_millis(),
        );
        drop(waits);
    }
}

fn main() {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    // Like criterion: without `--bench`, which `cargo bench` gives, each is run once.
    let smoke = asked("--test") || !asked("--bench");
    let rows = std::env::var("FLOW_ROWS").ok().and_then(|n| n.parse().ok());
    let rows: RoaringBitmap = (0..rows.unwrap_or(if smoke { 100_000 } else { 10_000_000 })).collect();
    bytes(&rows);
    if asked("--bytes") {
        return;
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    splits(&mut criterion, &rows);
    conditions(&mut criterion, &rows);
    waits(&mut criterion, &rows);
    criterion.final_summary();
}
