//! aiosmtpd, which offers no PIPELINING, and dkimpy, which verifies what we sign.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use estafette::channels::contract::Script;
use estafette::config::connectors::{DkimSettings, SmtpSettings};

use crate::support::{Process, accepted, open_directory, python, relay, run, send, spawn, tickets_in};

pub const INSTALL: &str = "python3 -m venv target/venv && target/venv/bin/pip install aiosmtpd 'dkimpy[ed25519]'";

/// Listens on a free port, prints it, writes each message to a file.
const SINK: &str = r#"
import asyncio, itertools, pathlib, sys
from aiosmtpd.smtp import SMTP

directory, numbers = pathlib.Path(sys.argv[1]), itertools.count()

class Handler:
    async def handle_DATA(self, server, session, envelope):
        (directory / str(next(numbers))).write_bytes(envelope.content)
        return "250 2.0.0 taken"

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), enable_SMTPUTF8=True), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"#;

/// Verifies every signature of a message with the keys given as selector=record, and parses it with Python's `email`.
const VERIFY: &str = r#"
import email, email.policy, sys, dkim

records = dict(argument.split("=", 1) for argument in sys.argv[2:])
message = open(sys.argv[1], "rb").read()

def dns(name, timeout=5):
    selector = name.decode().split(".")[0] if isinstance(name, bytes) else name.split(".")[0]
    return records[selector].encode()

parsed = email.message_from_bytes(message, policy=email.policy.default)
assert not parsed.defects, parsed.defects
signatures = parsed.get_all("DKIM-Signature", [])
for index in range(len(signatures)):
    assert dkim.DKIM(message, minkey=1024).verify(idx=index, dnsfunc=dns), f"signature {index} is not good"
algorithms = sorted(part.split("=", 1)[1].strip() for s in signatures for part in s.split(";") if part.strip().startswith("a="))
print(" ".join(algorithms))
"#;

pub fn aiosmtpd(dir: &Path) -> (u16, Process) {
    let mut command = Command::new(python());
    let mut process = spawn(command.arg("-c").arg(SINK).arg(dir).stdout(Stdio::piped()), INSTALL);
    let mut line = String::new();
    let out = process.0.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let port = line.trim().parse().unwrap_or_else(|_| panic!("aiosmtpd did not start; install it with: {INSTALL}"));
    (port, process)
}

#[test]
pub fn aiosmtpd_gets_everything_without_pipelining() {
    let dir = open_directory();
    let (port, _process) = aiosmtpd(dir.path());
    let record = send(relay(port), 100, Script::default());
    assert_eq!((accepted(&record), record.attached), (100, 0), "{:?}", record.events);
    assert_eq!(tickets_in(dir.path()), (1..=100).collect(), "each once");
}

fn key(dir: &Path, name: &str, options: &[&str]) -> PathBuf {
    let path = dir.join(format!("{name}.pem"));
    run(Command::new("openssl").arg("genpkey").args(options).arg("-out").arg(&path), "apt-get install openssl");
    path
}

/// The TXT record of a key.
fn record(key_file: &Path, algorithm: &str) -> String {
    let take = if algorithm == "ed25519" { "| tail -c 32" } else { "" };
    let script = format!("openssl pkey -in '{}' -pubout -outform DER {take} | base64 -w0", key_file.display());
    let public = run(Command::new("sh").arg("-c").arg(script), "apt-get install openssl");
    format!("v=DKIM1; k={algorithm}; p={}", public.trim())
}

#[test]
fn dkimpy_verifies_both_algorithms() {
    let keys = tempfile::tempdir().expect("a directory");
    let rsa = key(keys.path(), "rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let ed25519 = key(keys.path(), "ed25519", &["-algorithm", "ED25519"]);
    let entry = |selector: &str, key_file: &Path| DkimSettings {
        domain: "example.test".into(),
        selector: selector.into(),
        key_file: key_file.to_owned(),
    };
    let both = vec![entry("one", &rsa), entry("two", &ed25519)];
    for (dkim, wanted) in [
        (vec![both[0].clone()], "rsa-sha256"),
        (vec![both[1].clone()], "ed25519-sha256"),
        (both.clone(), "ed25519-sha256 rsa-sha256"),
    ] {
        let dir = open_directory();
        let (port, _process) = aiosmtpd(dir.path());
        let report = send(SmtpSettings { dkim, ..relay(port) }, 3, Script::default());
        assert_eq!(accepted(&report), 3, "{:?}", report.events);
        for entry in std::fs::read_dir(dir.path()).expect("a directory") {
            let mut command = Command::new(python());
            command.arg("-c").arg(VERIFY).arg(entry.expect("an entry").path());
            command.arg(format!("one={}", record(&rsa, "rsa"))).arg(format!("two={}", record(&ed25519, "ed25519")));
            assert_eq!(run(&mut command, INSTALL).trim(), wanted, "dkimpy verified these");
        }
    }
}
