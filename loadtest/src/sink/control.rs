//! How a sink's process and its parent talk: lines on standard input, one JSON object a line on standard output; and the loop
//! of a sink around it.
//!
//! Owns the thread that reads standard input. Invariants: 1. each line `report` gets one answer, in order; 2. the end of
//! standard input ends the sink, unless it is detached; 3. whatever ends it, the counts are its last line. It must not know
//! what a connection speaks.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, channel};

use super::stats::Listening;
use crate::text::note;

/// Lines of the parent that may wait.
const CONTROL_LINES: usize = 16;

/// What a sink does beside its connections.
pub(super) trait Tally {
    type Report: serde::Serialize;

    /// What was counted since the last reset.
    fn report(&self) -> Self::Report;

    fn reset(&mut self);

    /// The counts in a few words, for `--count`.
    fn line(&self) -> String;

    /// One more connection.
    fn connected(&mut self);
}

/// How a sink shows itself.
pub(super) struct Showing {
    pub(super) certificate: Option<PathBuf>,
    /// Do not end with standard input.
    pub(super) detached: bool,
    /// Print the counts once a second on standard error.
    pub(super) count: bool,
}

/// Says where it listens, takes connections, and answers its parent until it is told to end.
pub(super) async fn serve<T: Tally>(
    listener: TcpListener,
    showing: Showing,
    tally: &std::cell::RefCell<T>,
    mut converse: impl FnMut(TcpStream),
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("asking for the address")?;
    let mut control = control_lines(showing.detached);
    let mut told = std::pin::pin!(told_to_end());
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    print_line(&Listening { listen: address.to_string(), port: address.port(), certificate: showing.certificate })?;
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let Ok((stream, _)) = connection else { continue };
                tally.borrow_mut().connected();
                converse(stream);
            }
            line = control.recv() => match line.as_deref() {
                Some("report") => print_line(&tally.borrow().report())?,
                Some("reset") => tally.borrow_mut().reset(),
                Some(_) => {}
                None => break,
            },
            told = &mut told => {
                told?;
                break;
            }
            _ = tick.tick(), if showing.count => note(&tally.borrow().line()),
        }
    }
    let report = tally.borrow().report();
    print_line(&report)
}

/// The parent's lines; the channel closes with standard input, unless detached.
fn control_lines(detached: bool) -> Receiver<String> {
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
fn print_line(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Resolves when the process is told to end by a signal.
async fn told_to_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
