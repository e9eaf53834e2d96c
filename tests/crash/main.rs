//! Crashes of the real engine: `kill -9` at random moments, and a full disk, against a sink in another process.
//!
//! The scenarios are those of `loadtest kill` and `loadtest disk`, smaller. The sink must survive what happens to the
//! engine, so it is this test program, run a second time.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;

use loadtest::client::{self, ClientOptions};
use loadtest::disk::{self, DiskOptions};
use loadtest::kill::{self, KillOptions};
use loadtest::sink::process::SinkProcess;
use loadtest::sink::{self, SinkOptions};

/// Holds the sink's options as JSON when this program is to be the sink.
const SINK: &str = "ESTAFETTE_TEST_SINK";

fn engine() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_estafette"))
}

/// Starts this program again as a sink.
fn sink_process(options: &SinkOptions) -> SinkProcess {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["the_sink_is_a_process_of_its_own", "--exact", "--nocapture", "--test-threads=1"])
        .env(SINK, sink::process::to_args(options).join("\n"));
    SinkProcess::from_command(command).expect("the sink starts")
}

/// Checks the sink itself; and is the sink, when asked to by another test of this program.
#[test]
fn the_sink_is_a_process_of_its_own() {
    if let Ok(arguments) = std::env::var(SINK) {
        let options = sink::process::from_args(arguments.lines()).expect("options of the sink");
        sink::run(&options).expect("the sink runs");
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
    let options = KillOptions { seed: 1, ..KillOptions::default() };
    let result = kill_scenario(folder.path(), &options);
    println!("{}", result.lines(&options));
    assert!(result.kills >= 30, "{} kills", result.kills);
    assert_eq!(result.problems, Vec::<String>::new(), "seed {}", options.seed);
    assert_eq!((result.twice, result.unaccounted), (0, 0), "contacts twice, contacts unaccounted");
    assert!(result.unknown <= result.unknown_bound, "{} > {}", result.unknown, result.unknown_bound);
    assert!(result.accepted > 0 && result.campaigns >= 3, "there was load: {result:?}");
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
