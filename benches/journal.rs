//! The journal beside its bare primitive: frames of 1 000 rows through the journal thread, and the same bytes by one write
//! and one `fdatasync`.
//!
//! `cargo bench --bench journal`; under `cargo test` each runs once.
#![allow(clippy::expect_used, reason = "a bench whose setup fails has nothing to measure")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::channel::bounded;
use estafette::journal::{Journal, Opened, Options, Want};

const ROWS: u64 = 1_000;
/// What 1 000 scattered rows take as a bitmap: two bytes each.
const FRAME: usize = 2_000;
/// What a plain write of a frame carries besides: the frame's header.
const HEADER: usize = 25;

fn open(dir: &std::path::Path) -> Opened {
    let opened = Journal::open(dir, &Options::default(), &mut |_| Ok(())).expect("opens");
    opened.marks.zero();
    opened
}

/// Submits `frames` and waits until the last is written; what a settle costs before its positions are free again.
fn until_written(journal: &Journal, frames: u64) -> Duration {
    let (tell, told) = bounded(1);
    let payload = vec![7; FRAME];
    let began = Instant::now();
    for frame in 1..=frames {
        let tell = tell.clone();
        let want = match frame == frames {
            true => Want::written(move |seq| tell.send(seq).expect("the receiver waits")),
            false => Want::idle(),
        };
        journal.submit(1, payload.clone(), want).expect("submitted");
    }
    black_box(told.recv()).expect("told");
    began.elapsed()
}

fn commit(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let opened = open(dir.path());
    let journal = &opened.journal;
    let mut group = c.benchmark_group("journal");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));

    group.throughput(Throughput::Elements(64 * ROWS));
    group.bench_function("submit_to_written/64_frames", |b| {
        b.iter_custom(|rounds| (0..rounds).map(|_| until_written(journal, 64)).sum());
    });

    for frames in [1, 8, 64] {
        group.throughput(Throughput::Elements(frames * ROWS));
        group.bench_with_input(BenchmarkId::new("group_commit", frames), &frames, |b, frames| {
            b.iter(|| {
                for _ in 0..*frames {
                    journal.submit(1, vec![7; FRAME], Want::idle()).expect("submitted");
                }
                black_box(journal.flush()).expect("flushed")
            });
        });
        let path = dir.path().join("bare");
        let file = File::create(&path).expect("a file");
        let bytes = vec![7; (FRAME + HEADER) * frames as usize];
        file.write_all_at(&vec![0; 64 * 1024 * 1024], 0).expect("zeros");
        file.sync_all().expect("synced");
        let mut offset = 0;
        group.bench_with_input(BenchmarkId::new("bare_write_fdatasync", frames), &bytes, |b, bytes| {
            b.iter(|| {
                offset = if offset + bytes.len() as u64 > 64 * 1024 * 1024 { 0 } else { offset };
                file.write_all_at(black_box(bytes), offset).expect("written");
                offset += bytes.len() as u64;
                file.sync_data().expect("synced");
            });
        });
        let seq = journal.flush().expect("flushed");
        journal.write_snapshot(seq, b"").expect("segments dropped");
    }
    group.finish();
}

/// One position through a claim: mark, outcome, free.
fn mark(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let opened = open(dir.path());
    let mut position = 0;
    c.bench_function("journal/mark_outcome_free", |b| {
        b.iter(|| {
            position = (position + 1) % opened.marks.positions();
            black_box(opened.marks.try_mark(position));
            black_box(opened.marks.set_outcome(position, estafette::journal::MarkState::Accepted));
            opened.marks.free(position);
        });
    });
}

criterion_group!(benches, commit, mark);
criterion_main!(benches);
