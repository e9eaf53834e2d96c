//! Postfix's `smtp-sink`: with and without pipelining, and with its hard and soft errors.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use estafette::channels::contract::{Ending, Record, Script};
use estafette::channels::{HandBack, LaneEvent, Outcome, RejectClass};

use crate::support::{Process, accepted, await_port, free_port, open_directory, relay, send, spawn, tickets_in};

struct Sink {
    port: u16,
    dumps: tempfile::TempDir,
    _process: Process,
}

fn sink(options: &[&str]) -> Sink {
    let (port, dumps) = (free_port(), open_directory());
    let template = dumps.path().join("%M.");
    let mut command = Command::new("/usr/sbin/smtp-sink");
    command.args(options).args(["-u", "nobody", "-d"]).arg(&template).arg(format!("127.0.0.1:{port}")).arg("100");
    command.stdout(Stdio::null()).current_dir(dumps.path());
    let process = spawn(&mut command, "apt-get install postfix");
    await_port(port, "smtp-sink");
    Sink { port, dumps, _process: process }
}

/// Dumps of whole messages; the sink also leaves headers of what broke off.
fn received(sink: &Sink) -> BTreeSet<u64> {
    tickets_in(sink.dumps.path())
}

fn run(options: &[&str], messages: u64) -> (Record, Sink) {
    let sink = sink(options);
    let record = send(relay(sink.port), messages, Script::default());
    (record, sink)
}

#[test]
fn everything_arrives_with_pipelining_and_without() {
    for options in [&[] as &[&str], &["-p"], &["-e"]] {
        let (record, sink) = run(options, 300);
        assert_eq!(accepted(&record), 300, "smtp-sink {options:?}: {:?}", record.events);
        assert_eq!(received(&sink), (1..=300).collect(), "smtp-sink {options:?}: each once");
        let attached = record.attached > 200;
        assert_eq!(attached, options.is_empty(), "smtp-sink {options:?}: attached {}", record.attached);
    }
}

#[test]
fn hard_errors_reject_by_class() {
    for (command, reply, class) in [
        ("RCPT", "550 5.1.1 no such user", RejectClass::HardBounce),
        ("RCPT", "552 5.2.2 over quota", RejectClass::SoftBounce),
        ("MAIL", "552 5.3.4 too large", RejectClass::TooLarge),
        ("DATA", "554 5.7.1 not from you", RejectClass::Policy),
        (".", "554 5.7.1 spam", RejectClass::Policy),
        (".", "500 5.3.0 Error: command failed", RejectClass::Other),
    ] {
        let (record, _sink) = run(&["-B", reply, "-f", command], 20);
        let rejected =
            record.count(|e| matches!(e, Ending::Answered(Outcome::Rejected { class: c, .. }) if *c == class));
        assert_eq!(rejected, 20, "{command} {reply}: {:?}", record.endings.values().next());
    }
}

#[test]
fn soft_errors_defer() {
    for command in ["MAIL", "RCPT", "DATA", "."] {
        let (record, _sink) = run(&["-r", command], 20);
        let deferred = record.count(|e| matches!(e, Ending::Answered(Outcome::Deferred { .. })));
        assert_eq!(deferred, 20, "{command}: {:?}", record.endings.values().next());
    }
}

#[test]
fn disconnections_before_the_dot_cost_nothing_and_after_it_are_unknown() {
    for command in ["MAIL", "RCPT", "DATA"] {
        let (record, _sink) = run(&["-q", command], 2);
        let back = record.count(|e| *e == Ending::Back(HandBack::ConnectionLost));
        assert_eq!(back, 2, "-q {command}: {:?}", record.endings);
    }
    let (record, _sink) = run(&["-q", "."], 2);
    let unknown = record.count(|e| *e == Ending::Answered(Outcome::Unknown));
    assert!(unknown >= 1, "-q . : {:?}", record.endings);
    let (record, _sink) = run(&["-Q", "MAIL"], 2);
    assert!(
        record.events.iter().any(|e| matches!(e, LaneEvent::TooManyConnections { .. })),
        "-Q MAIL is a 421: {:?}",
        record.events
    );
}
