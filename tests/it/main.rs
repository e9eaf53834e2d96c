//! The engine behind its port, in one process; and the program itself, over HTTP and by its command line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails here should say so where it stands"
)]

mod addresses;
mod awaited;
mod backups;
mod bad_input;
mod base;
mod behaviour;
mod campaigns;
mod cli;
mod edits;
mod events;
mod flows;
mod graphs;
mod harness;
mod history;
mod imports;
mod languages;
mod metrics;
mod oddities;
mod oneshot;
mod operations;
mod outages;
mod people;
mod readers;
mod retention;
mod reviewed;
mod schedules;
mod sequences;
mod sequences_languages;
mod sequences_late;
mod served;
#[path = "../shared/sink.rs"]
mod sink;
mod specs;
mod throttled;
mod verdicts;
mod winners;
