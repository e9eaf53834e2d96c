//! The fuzz targets' entry points on stable: mutations of a small corpus, seeded and bounded.
//!
//! `ESTAFETTE_FUZZ_SEED=N` begins at another seed, `ESTAFETTE_FUZZ_INPUTS=N` tries that many inputs a target. A failure
//! prints target, seed and number of the input, and the input itself. The binary seeds (journal, snapshot, fact, token)
//! are made by the engine: `ESTAFETTE_FUZZ_REMAKE=1 cargo test --test fuzz seeds` writes them anew after a change of format.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../fuzz/entries.rs"]
mod entries;
mod mutate;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutate::Mutator;

/// Inputs a target.
const INPUTS: u64 = 20_000;
const SEED: u64 = 1;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
        Err(_) => default,
    }
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder(target)).unwrap_or_else(|e| panic!("the corpus of {target}: {e}"));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let entry = entry.expect("an entry of the corpus");
            let bytes = std::fs::read(entry.path()).expect("a file of the corpus");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

fn try_one(target: &str, entry: fn(&[u8]), input: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| entry(input))).is_err() {
        let text = input.escape_ascii().to_string();
        panic!("{target}: {what} broke it; the input, {} bytes:\n{text}", input.len());
    }
}

/// Tries the corpus, then mutations of it.
fn run(target: &str, entry: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() > 1, "{target} has a corpus");
    for (name, bytes) in &corpus {
        try_one(target, entry, bytes, &format!("corpus file {name}"));
    }
    let (seed, inputs) = (number("ESTAFETTE_FUZZ_SEED", SEED), number("ESTAFETTE_FUZZ_INPUTS", INPUTS));
    let seeds: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    for index in 0..inputs {
        let input = Mutator::new(seed, target, index).input(&seeds);
        try_one(target, entry, &input, &format!("seed {seed}, input {index}"));
    }
}

#[test]
fn csv() {
    run("csv", entries::csv);
}

#[test]
fn journal() {
    run("journal", entries::journal);
}

#[test]
fn snapshot() {
    run("snapshot", entries::snapshot);
}

#[test]
fn fact() {
    run("fact", entries::fact);
}

#[test]
fn template() {
    run("template", entries::template);
}

#[test]
fn token() {
    run("token", entries::token);
}

#[test]
fn smtp_reply() {
    run("smtp_reply", entries::smtp_reply);
}

#[test]
fn inbound() {
    run("inbound", entries::inbound);
}

#[test]
fn segment() {
    run("segment", entries::segment);
}

#[test]
fn spec() {
    run("spec", entries::spec);
}

/// Every target of cargo-fuzz has a bounded run here, and a corpus.
#[test]
fn every_target_is_run() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let this = include_str!("main.rs");
    for entry in std::fs::read_dir(targets).expect("the targets") {
        let path = entry.expect("a target").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(this.contains(&format!("run(\"{name}\", entries::{name})")), "{name} is run");
        assert!(folder(&name).is_dir(), "{name} has a corpus");
    }
}
