//! The peer: Postfix's own load generator, `smtp-source`, against the same sink.
//!
//! Owns the child while it runs. Invariant: its CPU is read after it has ended and before it is reaped, so that it is
//! whole (what `wait4` would say, without calling it).

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::Serialize;

use crate::proc::{self, Cpu};

/// What `smtp-source` did.
#[derive(Clone, Debug, Serialize)]
pub struct PeerRun {
    pub command: String,
    pub seconds: f64,
    pub cpu: Cpu,
}

/// `smtp-source -d`: sessions in parallel, connections reused, one fixed body of `bytes`.
pub fn smtp_source(sink: SocketAddr, messages: u64, sessions: u64, bytes: u64) -> anyhow::Result<PeerRun> {
    let arguments = [
        "-d",
        "-s",
        &sessions.to_string(),
        "-l",
        &bytes.to_string(),
        "-m",
        &messages.to_string(),
        "-f",
        "bounce@example.com",
        "-t",
        "user@example.net",
        &sink.to_string(),
    ]
    .map(str::to_owned);
    let started = Instant::now();
    let mut child = Command::new("smtp-source")
        .args(&arguments)
        .stdin(Stdio::null())
        .spawn()
        .context("starting smtp-source: install it with `apt-get install postfix`")?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("pid of smtp-source")?;
    let waited = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let seconds = started.elapsed().as_secs_f64();
    let cpu = proc::cpu_of(child.id());
    let status = child.wait().context("reaping smtp-source")?;
    waited.context("waiting for smtp-source")?;
    if !status.success() {
        bail!("smtp-source ended with {status}");
    }
    let cpu = cpu.context("CPU of smtp-source")?;
    Ok(PeerRun { command: format!("smtp-source {}", arguments.join(" ")), seconds, cpu })
}
