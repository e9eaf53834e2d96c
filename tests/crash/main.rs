//! Crashes of the real engine: `kill -9` at random moments, power losses, a panic, and a full disk, against a sink in another
//! process.
//!
//! The scenarios are those of `loadtest kill`, `loadtest kill --power` and `loadtest disk`, smaller. The sink must survive what happens to the
//! engine, so it is this test program, run a second time.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests fail as tests do")]

mod panics;
#[path = "../shared/sink.rs"]
mod shared_sink;

use std::path::{Path, PathBuf};

use loadtest::client::{self, ClientOptions};
use loadtest::disk::{self, DiskOptions};
use loadtest::kill::{self, KillOptions};
use loadtest::sink::process::SinkProcess;
use loadtest::sink::{self, SinkOptions};

fn engine() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_estafette"))
}

/// Starts this program again as a sink.
fn sink_process(options: &SinkOptions) -> SinkProcess {
    shared_sink::start("the_sink_is_a_process_of_its_own", options)
}

/// Checks the sink itself; and is the sink, when asked to by another test of this program.
#[test]
fn the_sink_is_a_process_of_its_own() {
    if shared_sink::be_the_sink_if_asked() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("record");
    let mut sink = sink_process(&SinkOptions { record: Some(record.clone()), ..SinkOptions::default() });
    assert_ne!(sink.pid(), std::process::id(), "another process");
    let sent = ClientOptions { connect: sink.address, connections: 3, messages: 500, bytes: 2_000 };
    client::run(&sent).expect("the client is served");
    let seen = sink.report().expect("a report").counts;
    assert_eq!((seen.accepted, seen.connections), (500, 3), "all messages over three connections");
    let mut recipients: Vec<String> =
        sink::record::read(&record).expect("the record").into_iter().map(|m| m.recipient).collect();
    recipients.sort();
    recipients.dedup();
    assert_eq!(recipients.len(), 500, "each recipient is recorded");
    sink.finish().expect("it ends with its input");
}

fn kill_scenario(folder: &Path, options: &KillOptions) -> kill::KillResult {
    let record = folder.join("record");
    let sink = sink_process(&kill::sink_options(options, &record));
    kill::scenario(options, &engine(), folder, sink, &record).expect("the scenario runs to its end")
}

#[test]
fn kills_under_load_mail_nobody_twice_and_forget_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = KillOptions::seeded(1);
    let result = kill_scenario(folder.path(), &options);
    println!("{}", result.lines(&options));
    assert!(result.kills >= 30, "{} kills", result.kills);
    assert_eq!(result.problems, Vec::<String>::new(), "seed {}", options.run.seed);
    assert_eq!((result.twice, result.unaccounted), (0, 0), "contacts twice, contacts unaccounted");
    assert!(result.unknown <= result.unknown_bound, "{} > {}", result.unknown, result.unknown_bound);
    for kind in &options.kinds {
        let count = result.kinds.get(kind.name()).expect("campaigns of every kind");
        assert!(count.accepted > 0 && count.runs > 0, "{}: there was load: {count:?}", kind.name());
    }
    for asked in ["ab_split", "sequence"] {
        assert!(result.kinds[asked].acknowledged > 0, "{asked}: something was asked under fire: {result:?}");
    }
}

#[test]
fn power_losses_under_load_mail_nobody_twice_and_forget_nobody() {
    for seed in [1, 2] {
        let folder = tempfile::tempdir().expect("a folder");
        let options = KillOptions { kills: 8, contacts: 2_000, power: true, ..KillOptions::seeded(seed) };
        let result = kill_scenario(folder.path(), &options);
        println!("{}", result.lines(&options));
        assert_eq!(result.problems, Vec::<String>::new(), "seed {seed}");
        assert_eq!((result.twice, result.unaccounted), (0, 0), "seed {seed}: contacts twice, contacts unaccounted");
        assert!(result.unknown <= result.unknown_bound, "{} > {}", result.unknown, result.unknown_bound);
        let lost = result.power.as_ref().expect("the power was lost");
        assert_eq!(lost.losses, 8, "seed {seed}: {lost:?}");
        assert!(result.accepted > 0 && result.unknown > 0, "seed {seed}: there was load: {result:?}");
    }
}

#[test]
fn a_full_disk_stops_a_campaign_and_space_lets_it_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("record");
    let sink = sink_process(&SinkOptions { record: Some(record.clone()), ..SinkOptions::default() });
    let options = DiskOptions::default();
    let result = disk::scenario(&options, &engine(), folder.path(), sink, &record).expect("every step is seen");
    println!("{}", result.lines());
    assert_eq!((result.accepted, result.twice), (options.contacts, 0), "everybody once");
}
