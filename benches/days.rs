//! What is kept by day, over 10 M contacts, beside bare operations on the same bitmaps: frequency caps and "not contacted in N days", for
//! a whole audience and for one claim; adding a claim's outcomes to a day; anniversaries; expressions on history, on behaviour and
//! on engagement.
//!
//! *Bare* is what somebody would write who has just these sets: a union and an intersection, counting by hand, the sets of seven days.
//! Both must find the same rows.
//!
//! `cargo bench --bench days` measures; `-- --test` runs everything once over 100 000 contacts. `DAYS_ROWS` sets another number.

#![allow(clippy::unwrap_used, reason = "a bench may stop at a fault")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use estafette::clock::Timestamp;
use estafette::config::caps::{Cap, Caps};
use estafette::contacts::sets::time_digits;
use estafette::contacts::{AttributeType, Schema};
use estafette::ids::Channel;
use estafette::ledger::State;
use estafette::ledger::caps::Reached;
use estafette::ledger::events::Behaviour;
use estafette::segments::history::Event;
use estafette::segments::memory::MemoryWorld;
use estafette::segments::{evaluate, parse};
use roaring::{MultiOps, RoaringBitmap};

const NOW: Timestamp = Timestamp(1_774_780_200_000);
const DAY: i64 = 86_400_000;
/// Days with messages, and the share of contacts (in a thousand) that each day's went to.
const DAYS: i64 = 30;
const SHARE: u64 = 120;
const CLAIM_ROWS: u32 = 1_000;

/// splitmix64: spreads rows over values, alike on every machine.
fn spread(row: u32, salt: u64) -> u64 {
    let mut z = u64::from(row).wrapping_add(salt << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn those(rows: u32, salt: u64, per_mille: u64) -> RoaringBitmap {
    (0..rows).filter(|row| spread(*row, salt) % 1_000 < per_mille).collect()
}

fn at(days_ago: i64) -> Timestamp {
    Timestamp(NOW.0 - days_ago * DAY)
}

/// A state that has sent each day, and the day's sets.
fn sent(rows: u32) -> (State, Vec<Arc<RoaringBitmap>>) {
    let mut state = State::default();
    let mut sets = Vec::new();
    for day in 0..DAYS {
        let set = those(rows, 100 + day as u64, SHARE);
        state.days.put(Channel::Email, at(day), &set);
        sets.push(Arc::new(set));
    }
    (state, sets)
}

/// Rows that are in at least `max` of the sets, written by hand.
fn counted(sets: &[Arc<RoaringBitmap>], max: usize) -> RoaringBitmap {
    let mut levels = vec![RoaringBitmap::new(); max];
    for set in sets {
        for above in (1..max).rev() {
            let again = &levels[above - 1] & &**set;
            levels[above] |= again;
        }
        levels[0] |= &**set;
    }
    levels.pop().unwrap()
}

fn caps(c: &mut Criterion, rows: u32) {
    let (state, sets) = sent(rows);
    let all: RoaringBitmap = (0..rows).collect();
    let claim: RoaringBitmap = (0..CLAIM_ROWS).map(|row| row * (rows / CLAIM_ROWS)).collect();
    let paused = |days| Caps { caps: Vec::new(), not_contacted_days: Some(days) };
    let capped = |max, days| Caps { caps: vec![Cap { channel: Channel::Email, max, days }], not_contacted_days: None };
    let enough = |caps: &Caps, among: &RoaringBitmap, few: bool| {
        let reached = Reached::look(&state, caps, Channel::Email, None, NOW, few.then_some(among));
        reached.of(among).into_iter().next().map_or_else(RoaringBitmap::new, |(_, rows)| rows)
    };
    let mut group = c.benchmark_group("caps");
    group.sample_size(10).throughput(Throughput::Elements(all.len()));
    for days in [7usize, 30] {
        let bare = || &all & sets[..days].iter().map(|set| &**set).union();
        assert_eq!(enough(&paused(days as u32), &all, false), bare(), "both find the same rows");
        group.bench_function(format!("bare: union of {days} days"), |b| b.iter(|| black_box(bare())));
        group.bench_function(format!("not contacted in {days} days"), |b| {
            b.iter(|| black_box(enough(&paused(days as u32), &all, false)))
        });
    }
    for (max, days) in [(1u32, 7usize), (3, 7), (5, 30)] {
        let bare = || &all & counted(&sets[..days], max as usize);
        assert_eq!(enough(&capped(max, days as u32), &all, false), bare(), "both find the same rows");
        group.bench_function(format!("bare: counted by hand, {max} in {days} days"), |b| b.iter(|| black_box(bare())));
        group.bench_function(format!("cap, {max} in {days} days"), |b| {
            b.iter(|| black_box(enough(&capped(max, days as u32), &all, false)))
        });
    }
    group.finish();
    let mut group = c.benchmark_group("claim");
    group.throughput(Throughput::Elements(claim.len()));
    group.bench_function("bare: 30 intersections", |b| {
        b.iter(|| sets.iter().map(|set| set.intersection_len(black_box(&claim))).sum::<u64>())
    });
    group.bench_function("cap, 5 in 30 days", |b| b.iter(|| black_box(enough(&capped(5, 30), &claim, true))));
    group.bench_function("not contacted in 30 days", |b| b.iter(|| black_box(enough(&paused(30), &claim, true))));
    group.finish();
    let mut group = c.benchmark_group("fold a claim into its day");
    group.throughput(Throughput::Elements(claim.len()));
    let today = (*sets[0]).clone();
    group.bench_function("bare: one OR", |b| {
        b.iter_batched_ref(|| today.clone(), |day| *day |= black_box(&claim), BatchSize::LargeInput)
    });
    let days = state.days.clone();
    group.bench_function("into the day", |b| {
        // The first change of a shared set copies it; a look that holds on to it costs that much once.
        let mut days = days.clone();
        days.put(Channel::Email, NOW, &claim);
        b.iter(|| days.put(Channel::Email, NOW, black_box(&claim)));
    });
    group.finish();
}

/// A birthday for nine in ten, over 64 years.
fn world(rows: u32) -> MemoryWorld {
    let schema = Schema::built_in().with("birthday", AttributeType::DateTime, None).unwrap();
    let birthday = schema.by_name("birthday").unwrap().id;
    let mut world = MemoryWorld::new(schema, NOW);
    world.set_universe((0..rows).collect());
    let known = (0..rows).filter(|row| !spread(*row, 1).is_multiple_of(10));
    world.set_digits(birthday, known.map(|row| (row, time_digits(born(row)))));
    for day in 0..DAYS as u32 {
        world.days.insert((Event::Received, Channel::Email, day), Arc::new(those(rows, 100 + u64::from(day), SHARE)));
    }
    let happened = [(Event::Received, 800), (Event::Opened, 300), (Event::Clicked, 60)];
    let sets = happened.into_iter().map(|(event, share)| (event, Arc::new(those(rows, 40 + event as u64, share))));
    world.history.insert("spring".to_owned(), sets.collect());
    world
}

fn born(row: u32) -> Timestamp {
    Timestamp(((spread(row, 2) % (64 * 365)) as i64 - 10 * 365) * DAY)
}

fn expressions(c: &mut Criterion, rows: u32) {
    let world = world(rows);
    let by = |text: &str| evaluate(&parse(text).unwrap(), &world).unwrap().rows;
    let mut group = c.benchmark_group("expression");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(rows)));
    // What a base would have to keep for this question alone: a set per day of the year.
    let week = by("anniversary(birthday) in next 7d");
    let by_day: Vec<RoaringBitmap> = (0..7)
        .map(|day| {
            let text = if day == 0 { "is today".to_owned() } else { format!("in {day}d") };
            (*by(&format!("anniversary(birthday) {text}"))).clone()
        })
        .collect();
    assert_eq!(*week, by_day.iter().union(), "seven days are each of them");
    group.bench_function("bare: union of seven days' sets", |b| b.iter(|| black_box(by_day.iter().union())));
    group.bench_function("anniversary in next 7d", |b| b.iter(|| black_box(by("anniversary(birthday) in next 7d"))));
    group.bench_function("anniversary today", |b| b.iter(|| black_box(by("anniversary(birthday) is today"))));

    let of = |event: Event| &*world.history["spring"][&event];
    let readers = || of(Event::Opened) - of(Event::Clicked);
    let text = "opened(\"spring\") and not clicked(\"spring\")";
    assert_eq!(*by(text), readers(), "both find the same rows");
    group.bench_function("bare: opened and not clicked", |b| b.iter(|| black_box(readers())));
    group.bench_function("opened and not clicked", |b| b.iter(|| black_box(by(text))));
    let days = |days: u32| (0..days).map(|day| &*world.days[&(Event::Received, Channel::Email, day)]).union();
    let text = "received any campaign in last 7d";
    assert_eq!(*by(text), days(7), "both find the same rows");
    group.bench_function("bare: received in seven days", |b| b.iter(|| black_box(days(7))));
    group.bench_function("received any campaign in last 7d", |b| b.iter(|| black_box(by(text))));
    group.finish();
}

fn behaviour(c: &mut Criterion, rows: u32) {
    let mut behaviour = Behaviour::default();
    let mut sets = Vec::new();
    for day in 0..DAYS {
        let set = those(rows, 200 + day as u64, 40);
        behaviour.add("purchase", day as i32, &set);
        sets.push(Arc::new(set));
    }
    let memory = behaviour.get("purchase").unwrap();
    let last = DAYS as i32 - 1;
    let mut group = c.benchmark_group("behaviour");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(rows)));
    let bare = || counted(&sets, 2);
    assert_eq!(memory.often_between(2, 0, last), bare(), "both find the same rows");
    group.bench_function("bare: counted by hand, 2 in 30 days", |b| b.iter(|| black_box(bare())));
    group
        .bench_function("did at least 2 times in last 30d", |b| b.iter(|| black_box(memory.often_between(2, 0, last))));
    let week = || sets[DAYS as usize - 7..].iter().map(|set| &**set).union();
    assert_eq!(memory.since(last - 6), week(), "both find the same rows");
    group.bench_function("bare: union of seven days", |b| b.iter(|| black_box(week())));
    group.bench_function("did in last 7d", |b| b.iter(|| black_box(memory.since(last - 6))));
    group.bench_function("did at least 2 times", |b| b.iter(|| black_box(memory.at_least(2))));
    group.finish();
}

fn main() {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    // Like criterion: without `--bench`, which `cargo bench` gives, each is run once.
    let smoke = asked("--test") || !asked("--bench");
    let rows = std::env::var("DAYS_ROWS").ok().and_then(|n| n.parse().ok());
    let rows: u32 = rows.unwrap_or(if smoke { 100_000 } else { 10_000_000 });
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    caps(&mut criterion, rows);
    expressions(&mut criterion, rows);
    behaviour(&mut criterion, rows);
    criterion.final_summary();
}
