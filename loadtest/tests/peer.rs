//! The sink as a process, with Postfix's `smtp-source` and the bare client as its senders.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::process::Command;

use loadtest::client::{self, ClientOptions};
use loadtest::peer::smtp_source;
use loadtest::sink::SinkOptions;
use loadtest::sink::faults::Faults;
use loadtest::sink::process::{SinkProcess, to_args};

fn sink(options: &SinkOptions) -> SinkProcess {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("sink").args(to_args(options));
    SinkProcess::from_command(command).expect("the sink starts")
}

#[test]
fn smtp_source_and_the_sink_agree_on_what_was_sent() {
    let mut sink = sink(&SinkOptions::default());
    let run = smtp_source(sink.address, 2_000, 10, 10_240).expect("smtp-source runs (Debian package postfix)");
    let seen = sink.report().expect("a report");
    assert_eq!((seen.counts.accepted, seen.counts.connections), (2_000, 10), "-d reuses its ten connections");
    assert!(seen.counts.bytes > 2_000 * 10_240, "bodies of ten kilobytes: {}", seen.counts.bytes);
    assert!(seen.window_seconds > 0.0 && seen.window_seconds <= run.seconds, "the window is within the run");
    assert!(run.cpu.total() > 0.0, "its CPU is read before it is reaped: {run:?}");
    sink.reset().expect("a reset");
    assert_eq!(sink.finish().expect("the last word").counts.accepted, 0, "the counts begin anew");
}

#[test]
fn the_bare_client_stops_at_a_refusal() {
    let refusing = SinkOptions { faults: Faults { fail_5xx: 1.0, ..Faults::default() }, ..SinkOptions::default() };
    let sink = sink(&refusing);
    let options = ClientOptions { connect: sink.address, connections: 1, messages: 10, bytes: 1_000 };
    let error = client::run(&options).expect_err("a ceiling of refusals is none");
    assert!(format!("{error:#}").contains("550"), "the refusal is quoted: {error:#}");
}
