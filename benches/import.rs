//! CSV import beside its bare primitive: the `csv` crate reading the same file and doing nothing with it.
//!
//! `cargo bench --bench import` measures 100 000 rows a time; `IMPORT_ROWS=1000000 cargo bench --bench import -- --once`
//! imports that many rows once into an empty base and prints rate, CPU time and memory, and once more as upserts of
//! changed rows. The file has ten columns, four of them indexed: country, age, last_login, tags.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a bench may stop and print")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use estafette::clock::Timestamp;
use estafette::contacts::Store;
use estafette::contacts::csv_import::{ImportJob, ImportSpec, NewAttribute, Progress};
use estafette::contacts::{AttributeType, IndexKind};
use estafette::ids::ImportId;

const COUNTRIES: [&str; 12] = ["FR", "DE", "ES", "IT", "SE", "NO", "PL", "PT", "NL", "BE", "AT", "CH"];
const NAMES: [&str; 8] = ["Ann", "Björn", "Chloé", "Dmitri", "Eva", "François", "Grete", "Hugo"];
const CITIES: [&str; 6] = ["Paris", "Köln", "Malmö", "Roma", "Bergen", "Gdańsk"];
const TAGS: [&str; 5] = ["vip", "new|trial", "vip|beta", "", "churned"];

/// Writes `rows` rows; `turn` changes some values, so that a second file updates what a first one brought.
fn write_file(path: &Path, rows: usize, turn: usize) {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    out.write_all(b"key,email,first_name,last_name,city,country,age,last_login,tags,loyalty_number\n").unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for i in 0..rows {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let pick = |shift: u32, n: usize| (state >> shift) as usize % n;
        writeln!(
            out,
            "c{i:08},person.{i}@mail{}.example.test,{},Lastname{},{},{},{},20{:02}-{:02}-{:02},{},{}",
            pick(3, 40),
            NAMES[pick(7, 8)],
            pick(11, 5_000),
            CITIES[pick(17, 6)],
            COUNTRIES[pick(23, 12)],
            18 + (pick(29, 70) + turn) % 70,
            20 + pick(31, 7),
            1 + pick(37, 12),
            1 + pick(41, 28),
            TAGS[pick(43, 5)],
            state % 10_000_000_000,
        )
        .unwrap();
    }
    out.flush().unwrap();
}

fn spec(import: u32) -> ImportSpec {
    let index = |kind, index| NewAttribute { kind, index: Some(index) };
    let mut spec = ImportSpec {
        import: ImportId(import),
        now: Timestamp(1_790_000_000_000 + i64::from(import)),
        ..ImportSpec::default()
    };
    for (name, new) in [
        ("first_name", index(AttributeType::Text, IndexKind::None)),
        ("last_name", index(AttributeType::Text, IndexKind::None)),
        ("city", index(AttributeType::Text, IndexKind::None)),
        ("country", index(AttributeType::Text, IndexKind::Values)),
        ("age", index(AttributeType::Number, IndexKind::BitSliced)),
        ("last_login", index(AttributeType::DateTime, IndexKind::BitSliced)),
        ("tags", index(AttributeType::List, IndexKind::Values)),
        ("loyalty_number", index(AttributeType::Text, IndexKind::None)),
    ] {
        spec.types.insert(name.to_owned(), new);
    }
    spec
}

fn import(store: &Store, number: u32, file: &Path) -> Progress {
    let rejected = file.with_extension(format!("rejected-{number}"));
    let mut job = ImportJob::start(store, spec(number), file, &rejected).unwrap();
    while let Some(done) = job.next_chunk().unwrap() {
        job.confirm_chunk(done.chunk, Vec::new()).unwrap();
    }
    let progress = job.progress().clone();
    assert_eq!(progress.rows, progress.accepted, "every row is taken: {progress:?}");
    progress
}

fn read_bare(file: &Path) -> u64 {
    let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 17).from_path(file).unwrap();
    let mut record = csv::ByteRecord::new();
    let mut rows = 0;
    while reader.read_byte_record(&mut record).unwrap() {
        rows += 1;
    }
    rows
}

/// User and system time of the process so far, and its resident anonymous memory in MiB (now, peak of all kinds).
fn usage() -> (Duration, u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Fields 14 and 15 of proc(5); the first two are cut off.
    let ticks =
        |at: usize| stat.rsplit(") ").next().and_then(|s| s.split(' ').nth(at)?.parse::<u64>().ok()).unwrap_or(0);
    let cpu = Duration::from_millis((ticks(11) + ticks(12)) * 10);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or("0");
        line.split_whitespace().find_map(|w| w.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    (cpu, field("RssAnon:"), field("VmHWM:"))
}

fn once(rows: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first.csv"), dir.path().join("second.csv"));
    write_file(&first, rows, 0);
    write_file(&second, rows, 1);
    let store = Store::open(&dir.path().join("store")).unwrap();
    let begin = Instant::now();
    let read = read_bare(&first);
    let bare = begin.elapsed();
    assert_eq!(read, rows as u64, "all rows");
    println!("csv crate alone     {:>9.0} rows/s", rows as f64 / bare.as_secs_f64());
    let turns = std::env::var("IMPORT_TURNS").ok().and_then(|t| t.parse().ok()).unwrap_or(2);
    for (number, file, what) in
        [(1, &first, "into an empty base"), (2, &second, "as upserts, all changed")].into_iter().take(turns)
    {
        let cpu = usage().0;
        let begin = Instant::now();
        let progress = import(&store, number, file);
        let took = begin.elapsed();
        let (after, anon, peak) = usage();
        println!(
            "import {rows} rows {what}: {:>9.0} rows/s, {:.2} s, {:.2} µs CPU a row, RssAnon {anon} MiB, peak with mapped pages {peak} MiB, {} created {} updated",
            rows as f64 / took.as_secs_f64(),
            took.as_secs_f64(),
            (after - cpu).as_secs_f64() * 1e6 / rows as f64,
            progress.created,
            progress.updated,
        );
    }
    for (what, stride) in [("every row", 1), ("every third row", 3)] {
        let wanted: Vec<u32> = (0..u32::try_from(rows).unwrap()).step_by(stride).collect();
        let mut bytes = 0;
        let begin = Instant::now();
        // As a lane reads: one transaction and cursor per 20 rows.
        for chunk in wanted.chunks(estafette::limits::LANE_CHUNK_ROWS) {
            let reader = store.reader().unwrap();
            let visit = |_, record: estafette::contacts::Record<'_>| {
                bytes += record.key().len();
                true
            };
            reader.records(chunk.iter().copied(), visit).unwrap();
        }
        let took = begin.elapsed();
        assert!(bytes > wanted.len(), "keys were read");
        println!("read {what}, 20 a transaction: {:.3} µs a row", took.as_secs_f64() * 1e6 / wanted.len() as f64);
    }
    println!(
        "store {} MiB on disk, file {} MiB",
        store.disk_bytes().unwrap() >> 20,
        std::fs::metadata(&first).unwrap().len() >> 20
    );
}

fn bench(criterion: &mut Criterion) {
    const ROWS: usize = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("contacts.csv");
    write_file(&file, ROWS, 0);
    let mut group = criterion.benchmark_group("import");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    group.bench_function("csv crate alone", |b| b.iter(|| read_bare(&file)));
    group.bench_function("import into an empty base", |b| {
        b.iter_batched(
            || {
                let dir = tempfile::tempdir().unwrap();
                let store = Store::open(dir.path()).unwrap();
                (dir, store)
            },
            |(dir, store)| {
                import(&store, 1, &file);
                (dir, store)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn main() {
    let rows = std::env::var("IMPORT_ROWS").ok().and_then(|r| r.parse().ok()).unwrap_or(1_000_000);
    if std::env::args().any(|a| a == "--once") {
        return once(rows);
    }
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
