//! The rules of the house, checked against the code: who may import whom, how long a file and a function may be, what
//! must stand and what must not.
//!
//! The table of import directions is that of ARCHITECTURE.md, as data. The checker is itself checked on bad samples, so
//! that it can fail.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "tidy/check.rs"]
mod check;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/samples.rs"]
mod samples;

use std::fs;
use std::path::{Path, PathBuf};

use check::{Finding, Source};

/// Folders whose Rust files are held to all rules.
const HELD: [&str; 2] = ["src", "loadtest/src"];
/// Folders in which no test may be switched off, besides those.
const TESTS: [&str; 3] = ["tests", "benches", "loadtest/tests"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(|e| e.expect("directory entry")) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
    into.sort();
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut files = Vec::new();
    for folder in folders {
        rust_files(&root().join(folder), &mut files);
    }
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()));
            let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            Source::parse(&name, &text).unwrap_or_else(|e| panic!("{name}: {e}"))
        })
        .collect()
}

fn report(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), lines.join("\n"));
}

#[test]
fn every_file_keeps_the_rules() {
    let sources = sources(&HELD);
    assert!(sources.len() > 20, "the walk found the code: {} files", sources.len());
    report(&check::all(&sources));
}

#[test]
fn imports_run_downwards_only() {
    let sources = sources(&["src"]);
    report(&imports::all(&sources));
}

#[test]
fn no_test_is_switched_off() {
    let folders: Vec<&str> = HELD.into_iter().chain(TESTS).collect();
    report(&sources(&folders).iter().flat_map(check::ignored_tests).collect::<Vec<_>>());
}

#[test]
fn the_map_names_every_folder() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md can be read");
    let folders: Vec<String> = fs::read_dir(root().join("src"))
        .expect("src can be read")
        .map(|e| e.expect("directory entry"))
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    report(&check::unnamed(&map, &folders));
}
