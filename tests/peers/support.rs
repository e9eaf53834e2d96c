//! Starting and stopping counterparts, and a lane that sends to them.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use estafette::channels::contract::{Compose, Ending, Record, Script, ScriptedFeed};
use estafette::channels::smtp::SmtpConnector;
use estafette::channels::{OutMessage, Outcome};
use estafette::config::connectors::{SmtpSettings, SmtpTimeouts};

/// Longest wait for a counterpart to start or to deliver; only a broken one takes it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let killed = self.0.kill();
        let reaped = self.0.wait();
        if let (Err(error), Ok(_)) = (killed, reaped) {
            eprintln!("counterpart had ended already: {error}");
        }
    }
}

/// Starts a program, or says how to install it.
pub fn spawn(command: &mut Command, install: &str) -> Process {
    match command.spawn() {
        Ok(child) => Process(child),
        Err(error) => panic!("cannot start {:?} ({error}); install it with: {install}", command.get_program()),
    }
}

/// Runs a program to its end and answers what it printed.
pub fn run(command: &mut Command, install: &str) -> String {
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?} failed: {text}{error}");
            text
        }
        Err(error) => panic!("cannot start {:?} ({error}); install it with: {install}", command.get_program()),
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Waits until something listens.
pub fn await_port(port: u16, what: &str) {
    let since = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(since.elapsed() < PATIENCE, "{what} does not listen on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until `done` answers something.
pub fn await_some<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(since.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A directory that other users may enter and write to: counterparts give up their privileges.
pub fn open_directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    open(dir.path());
    dir
}

pub fn open(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("permissions");
}

/// A message that names its ticket and has everything that tends to go wrong on the wire.
pub fn compose() -> Compose {
    Box::new(|ticket, message: &mut OutMessage| {
        message.return_path.push_str(&format!("bounce+{ticket}@example.test"));
        message.recipient.push_str(&format!("r{ticket}@example.test"));
        message.needs_dot_stuffing = true;
        let lines = ".a line with a dot\r\n..two\r\nthe quick brown fox jumps over the lazy dog\r\n".repeat(20);
        let text = format!(
            "From: News <news@example.test>\r\nTo: <r{ticket}@example.test>\r\nSubject: number {ticket}\r\n\
             Date: Sun, 22 Nov 2026 00:00:00 +0000\r\nMessage-ID: <{ticket}@example.test>\r\nMIME-Version: 1.0\r\n\
             List-Unsubscribe: <https://example.test/u/{ticket}>\r\n\
             List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nContent-Type: text/plain; charset=us-ascii\r\n\
             X-Ticket: {ticket}\r\n\r\n{lines}end {ticket}\r\n"
        );
        message.body.extend_from_slice(text.as_bytes());
    })
}

/// A relay on loopback with time-outs that a test can wait for.
pub fn relay(port: u16) -> SmtpSettings {
    let seconds = Duration::from_secs;
    SmtpSettings {
        timeouts: SmtpTimeouts { greeting: seconds(20), answer: seconds(30), ..SmtpTimeouts::default() },
        ..SmtpSettings::loopback("peer", port, 1)
    }
}

/// Sends tickets 1 to `messages` over one lane.
pub fn send(settings: SmtpSettings, messages: u64, script: Script) -> Record {
    send_composed(settings, messages, script, compose())
}

pub fn send_composed(settings: SmtpSettings, messages: u64, script: Script, compose: Compose) -> Record {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connector = SmtpConnector::new(settings).expect("settings work");
    let mut feed = ScriptedFeed::new(messages, script, compose);
    runtime.block_on(connector.run_lane(&mut feed));
    let record = feed.finish();
    assert_eq!(record.violations, Vec::<String>::new(), "the contract; events {:?}", record.events);
    record
}

pub fn accepted(record: &Record) -> usize {
    record.count(|e| *e == Ending::Answered(Outcome::Accepted))
}

/// The ticket that a delivered message names.
pub fn ticket(message: &str) -> u64 {
    let rest = message.split_once("X-Ticket: ").map(|(_, rest)| rest).expect("a ticket header");
    rest.lines().next().and_then(|t| t.trim().parse().ok()).expect("a ticket")
}

/// Every file of a directory, parsed for its ticket; fails on a second copy.
pub fn tickets_in(dir: &Path) -> BTreeSet<u64> {
    let mut tickets = BTreeSet::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a message");
        let body = text.replace("\r\n", "\n");
        let number = ticket(&body);
        assert!(body.contains("\n.a line with a dot\n..two\n"), "dots are as they were: {body}");
        assert!(body.trim_end().ends_with(&format!("end {number}")), "whole: {body}");
        assert!(tickets.insert(number), "ticket {number} arrived twice");
    }
    tickets
}

/// The interpreter of the virtual environment that `tests/all` makes.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    assert!(
        python.exists(),
        "{python:?} is missing; make it with: python3 -m venv target/venv && \
         target/venv/bin/pip install aiosmtpd 'dkimpy[ed25519]'"
    );
    python
}
