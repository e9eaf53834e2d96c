//! How the process is: process, journal, disk, connectors, each with its reason. Owns no state.
//!
//! What fails makes the server not ready: it could not keep what it is told. What is degraded needs a person, and requests are served.

use crate::api::port::{CheckState, Health, HealthCheck, HealthState};
use crate::channels::circuit::{CircuitState, OpenReason};
use crate::engine::Engine;
use crate::engine::lines::Wired;
use crate::journal::Status;
use crate::limits::{DISK_FLOOR_BYTES, JOURNAL_STALL};

pub(super) fn health(engine: &Engine) -> Health {
    let mut checks = vec![process(engine), journal(engine), disk(engine)];
    checks.extend(engine.lines.iter().map(|(name, wired)| connector(name, wired)));
    let state = match engine.book.journal().status() {
        Status::Failed => HealthState::Failed,
        _ if engine.is_draining() => HealthState::Draining,
        _ => HealthState::Ready,
    };
    Health {
        uptime_seconds: engine.uptime().as_secs_f64(),
        recovery_seconds: Some(engine.recovery.seconds),
        ..Health::of(state, checks)
    }
}

fn process(engine: &Engine) -> HealthCheck {
    if engine.is_draining() {
        return HealthCheck::bad("process", CheckState::Failed, "shutting_down", "the process is shutting down");
    }
    HealthCheck::ok("process", "it works")
}

fn journal(engine: &Engine) -> HealthCheck {
    let bad = |reason, message: String| HealthCheck::bad("journal", CheckState::Failed, reason, message);
    let stalled = engine.book.journal_stalled();
    match engine.book.journal().status() {
        Status::Failed => {
            bad("failed", "the journal failed: the process ends and recovers at its next start".to_owned())
        }
        Status::NoSpace { needed_bytes } => bad(
            "no_space",
            format!("the disk under the data directory is full: campaigns wait for {needed_bytes} bytes"),
        ),
        Status::Ok if stalled >= JOURNAL_STALL => bad(
            "stalled",
            format!(
                "the journal has made nothing durable for {} s though something waits: the disk hangs",
                stalled.as_secs()
            ),
        ),
        Status::Ok => HealthCheck::ok("journal", "it is written and synced"),
    }
}

fn disk(engine: &Engine) -> HealthCheck {
    // A file system that can't say is judged by the journal alone.
    let free =
        rustix::fs::statvfs(&engine.options.directory).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let check = if free.is_some_and(|free| free < DISK_FLOOR_BYTES) {
        let message = "the disk under the data directory is nearly full: campaigns wait for space";
        HealthCheck::bad("disk", CheckState::Failed, "below_floor", message)
    } else {
        HealthCheck::ok("disk", "there is room")
    };
    HealthCheck { free_bytes: free, floor_bytes: Some(DISK_FLOOR_BYTES), ..check }
}

fn connector(name: &str, wired: &Wired) -> HealthCheck {
    let state = wired.line.circuit.lock().state();
    // Not the provider's words: they may quote an address, and this is answered without a key.
    let word = |reason| match reason {
        OpenReason::Unreachable => ("unreachable", "the provider is not reached"),
        OpenReason::SenderRefused => ("sender_refused", "the provider refuses the sender"),
    };
    let check = match state {
        CircuitState::Closed => HealthCheck::ok("connector", "it is used"),
        CircuitState::Open { reason, .. } => {
            let (reason, text) = word(reason);
            let message = format!("connector {name:?} is not used, {text}");
            HealthCheck::bad("connector", CheckState::Degraded, reason, message)
        }
        CircuitState::HalfOpen { reason } => {
            let message = format!("connector {name:?} is being tried again, {}", word(reason).1);
            HealthCheck::bad("connector", CheckState::Degraded, "being_tried", message)
        }
    };
    let waiting = wired.line.fair.lock().waiting();
    HealthCheck { subject: Some(name.to_owned()), waiting: Some(waiting), ..check }
}
