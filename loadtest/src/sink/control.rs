//! How a sink's process and its parent talk: lines on standard input, one JSON object a line on standard output.
//!
//! Owns the thread that reads standard input. Invariants: 1. each line `report` gets one answer, in order; 2. the end of
//! standard input ends the sink, unless it is detached.

use std::io::{BufRead, Write};

use tokio::sync::mpsc::{Receiver, channel};

/// Lines of the parent that may wait.
const CONTROL_LINES: usize = 16;

/// The parent's lines; the channel closes with standard input, unless detached.
pub(super) fn control_lines(detached: bool) -> Receiver<String> {
    let (send, receive) = channel(CONTROL_LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.blocking_send(line.trim().to_owned()).is_err() {
                return;
            }
        }
        while detached && !send.is_closed() {
            std::thread::park();
        }
    });
    receive
}

/// An answer to the parent.
pub(super) fn print_line(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Resolves when the process is told to end by a signal.
pub(super) async fn told_to_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
