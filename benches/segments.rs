//! Segment expressions over ten million contacts, each beside a plan written by hand on the same bitmaps.
//!
//! `cargo bench --bench segments` prints criterion's figures and then a table of ratios, measured by turns (`-- --table`: only that); `-- --test` runs each
//! once over a hundred thousand contacts. An expression is parsed, checked, compiled and evaluated in the measured time; the plan by
//! hand is what someone would write who knows the data: no set that is not needed, the best order, only digits that differ. Both
//! must find the same rows.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may stop at a fault, and prints its table")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use estafette::clock::Timestamp;
use estafette::contacts::sets::{number_digits, time_digits};
use estafette::contacts::{AttributeSets, AttributeType, Schema};
use estafette::ids::{AttributeId, Channel};
use estafette::segments::memory::MemoryWorld;
use estafette::segments::{evaluate, parse};
use roaring::{MultiOps, RoaringBitmap};

const NOW: Timestamp = Timestamp(1_774_780_200_000);
const DAY: u64 = 86_400_000;
const COUNTRIES: [(&str, u64); 8] =
    [("FR", 30), ("DE", 20), ("IT", 15), ("ES", 12), ("BE", 10), ("NL", 8), ("CH", 4), ("LU", 1)];

struct Base {
    world: MemoryWorld,
    country: AttributeId,
    age: AttributeId,
    login: AttributeId,
    tags: AttributeId,
}

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

impl Base {
    fn new(rows: u32) -> Base {
        let schema = Schema::built_in().with("country", AttributeType::Text, None).unwrap();
        let schema = schema.with("age", AttributeType::Number, None).unwrap();
        let schema = schema.with("last_login", AttributeType::DateTime, None).unwrap();
        let schema = schema.with("tags", AttributeType::List, None).unwrap();
        let id = |name| schema.by_name(name).unwrap().id;
        let (country, age, login, tags) = (id("country"), id("age"), id("last_login"), id("tags"));
        let mut world = MemoryWorld::new(schema, NOW);
        world.set_universe((0..rows).collect());
        let mut low = 0;
        for (name, share) in COUNTRIES {
            let here = |row: &u32| (low..low + share).contains(&(spread(*row, 1) % 100));
            world.set_value(country, name, (0..rows).filter(here).collect());
            low += share;
        }
        world.set_value(tags, "vip", those(rows, 2, 50));
        let aged = (0..rows).filter(|row| spread(*row, 3) % 100 < 95);
        world.set_digits(age, aged.map(|row| (row, number_digits((spread(row, 4) % 100) as f64))));
        let seen = (0..rows).filter(|row| spread(*row, 5) % 100 < 90);
        let login_of = |row| time_digits(Timestamp(NOW.0 - (spread(row, 6) % (730 * DAY)) as i64));
        world.set_digits(login, seen.map(|row| (row, login_of(row))));
        world.lists.insert("staff".to_owned(), Arc::new(those(rows, 7, 10)));
        world.subscribed.insert((Channel::Email, "news".to_owned()), Arc::new(those(rows, 8, 700)));
        Base { world, country, age, login, tags }
    }

    fn country(&self, name: &str) -> Arc<RoaringBitmap> {
        self.world.value(self.country, name).unwrap()
    }

    fn vip(&self) -> Arc<RoaringBitmap> {
        self.world.value(self.tags, "vip").unwrap()
    }

    fn staff(&self) -> &RoaringBitmap {
        &self.world.lists["staff"]
    }

    fn news(&self) -> &RoaringBitmap {
        &self.world.subscribed[&(Channel::Email, "news".to_owned())]
    }

    fn age_digit(&self, digit: u8) -> Arc<RoaringBitmap> {
        self.world.digit(self.age, digit).unwrap()
    }

    /// Ages from 18: 16 is exponent 0x403, so all larger exponents, and of that one a mantissa from 2/16.
    fn adults(&self, among: Option<&RoaringBitmap>) -> RoaringBitmap {
        let d = |digit| self.age_digit(digit);
        let from_two = match among {
            None => (*d(62)).clone(),
            Some(rows) => rows & &*d(62),
        };
        let mut eighteen = [&*d(51), &*d(50), &*d(49)].union();
        eighteen &= &*d(53);
        eighteen &= &*d(52);
        eighteen |= &*d(54);
        eighteen &= from_two;
        eighteen
    }

    /// Ages from 18 to 30: exponent 0x403 exactly, a mantissa from 2/16, but not 31/16.
    fn aged_18_to_30(&self) -> RoaringBitmap {
        let d = |digit| self.age_digit(digit);
        let mut rows = &*d(62) & &*d(53);
        rows &= &*d(52);
        rows -= &*d(54);
        let mut last = &rows & &*d(48);
        for digit in 49..52 {
            last &= &*d(digit);
        }
        rows &= [&*d(51), &*d(50), &*d(49)].union();
        rows -= last;
        rows
    }

    /// Logins before, or from, a bound, by the digits in which times of this century differ: up from the last one of the bound,
    /// one operation a digit.
    fn logins(&self, bound: u64, before: bool, among: Option<&RoaringBitmap>) -> RoaringBitmap {
        let digit = |digit| self.world.digit(self.login, digit).unwrap();
        let lowest = bound.trailing_zeros() as u8;
        let mut from = (*digit(lowest)).clone();
        for at in lowest + 1..37 {
            if bound >> at & 1 == 1 { from &= &*digit(at) } else { from |= &*digit(at) }
        }
        match (among, before) {
            (Some(rows), true) => {
                let mut seen = rows & &*self.world.present(self.login).unwrap();
                seen -= from;
                seen
            }
            (None, true) => &*self.world.present(self.login).unwrap() - from,
            (Some(rows), false) => {
                from &= rows;
                from
            }
            (None, false) => from,
        }
    }
}

type ByHand = fn(&Base) -> RoaringBitmap;

fn month_ago() -> u64 {
    time_digits(Timestamp(NOW.0 - 30 * DAY as i64))
}

/// Name, expression, plan.
fn cases() -> Vec<(&'static str, &'static str, ByHand)> {
    vec![
        ("and", "country = 'FR' and subscribed to 'email:news'", |b| &*b.country("FR") & b.news()),
        ("or", "country = 'FR' or tags has 'vip'", |b| &*b.country("FR") | &*b.vip()),
        ("not", "not in list 'staff'", |b| &*b.world.universe().unwrap() - b.staff()),
        ("and_not", "country = 'FR' and not in list 'staff' and not tags has 'vip'", |b| {
            let mut rows = &*b.country("FR") - &*b.vip();
            rows -= b.staff();
            rows
        }),
        ("in", "country in ('FR', 'DE', 'IT', 'ES')", |b| {
            let sets = ["FR", "DE", "IT", "ES"].map(|name| b.country(name));
            sets.iter().map(|rows| &**rows).union()
        }),
        ("range", "age >= 18", |b| b.adults(None)),
        ("between", "age between 18 and 30", Base::aged_18_to_30),
        ("not_range", "not age >= 18", |b| &*b.world.universe().unwrap() - b.adults(None)),
        ("dense_range", "last_login >= now - 720h", |b| b.logins(month_ago(), false, None)),
        ("dense_before", "last_login < now - 720h", |b| b.logins(month_ago(), true, None)),
        ("and_range", "subscribed to 'email:news' and age >= 18", |b| b.adults(Some(b.news()))),
        ("two_ranges", "age >= 18 and last_login >= now - 720h", |b| {
            b.adults(Some(&b.logins(month_ago(), false, None)))
        }),
        (
            "all_together",
            "country = 'FR' and (age >= 18 or tags has 'vip') and last_login < now - 720h and not in list 'staff'",
            |b| {
                let french = b.country("FR");
                let mut rows = b.adults(Some(&french));
                rows |= &*french & &*b.vip();
                let mut rows = b.logins(month_ago(), true, Some(&rows));
                rows -= b.staff();
                rows
            },
        ),
    ]
}

fn by_expression(base: &Base, text: &str) -> Arc<RoaringBitmap> {
    evaluate(&parse(text).unwrap(), &base.world).unwrap().rows
}

/// Medians of `rounds` measurements of each, by turns.
fn by_turns(rounds: usize, mut first: impl FnMut(), mut second: impl FnMut()) -> (Duration, Duration) {
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        first();
        times.0.push(start.elapsed());
        let start = Instant::now();
        second();
        times.1.push(start.elapsed());
    }
    times.0.sort_unstable();
    times.1.sort_unstable();
    (times.0[rounds / 2], times.1[rounds / 2])
}

fn main() {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    // Like criterion: without `--bench`, which `cargo bench` gives, each is run once.
    let smoke = asked("--test") || !asked("--bench");
    let base = Base::new(if smoke { 100_000 } else { 10_000_000 });
    for (name, text, plan) in cases() {
        assert_eq!(*by_expression(&base, text), plan(&base), "{name}: both find the same rows");
    }
    if !asked("--table") {
        let mut criterion = Criterion::default()
            .sample_size(20)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .configure_from_args();
        for (name, text, plan) in cases() {
            let mut group = criterion.benchmark_group(name);
            group.bench_function(BenchmarkId::from_parameter("expression"), |b| {
                b.iter(|| black_box(by_expression(&base, text)))
            });
            group.bench_function(BenchmarkId::from_parameter("by_hand"), |b| b.iter(|| black_box(plan(&base))));
            group.finish();
        }
        criterion.final_summary();
    }
    if smoke {
        return;
    }
    println!("{:<14} {:>11} {:>11} {:>6}  rows", "10 M contacts", "expression", "by hand", "ratio");
    for (name, text, plan) in cases() {
        let rows = by_expression(&base, text).len();
        let (expression, hand) =
            by_turns(61, || drop(black_box(by_expression(&base, text))), || drop(black_box(plan(&base))));
        let ratio = expression.as_secs_f64() / hand.as_secs_f64();
        println!("{name:<14} {expression:>11.1?} {hand:>11.1?} {ratio:>6.2}  {rows}");
    }
}
