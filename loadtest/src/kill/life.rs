//! One life of an engine in the kill scenario: what is asked of it until it dies.
//!
//! Owns the moment of the kill. Invariant: a refusal before the kill is a problem, unless it is the legal answer to a campaign
//! that has moved on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::KillOptions;
use super::books::Books;
use super::calls::is_legal;
use crate::api::Api;
use crate::rng::Rng;
use crate::server::Server;

/// How one engine lives and dies.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub length: Duration,
}

impl Life {
    pub fn draw(options: &KillOptions, rng: &mut Rng) -> Life {
        let span = options.life_ms_max.saturating_sub(options.life_ms_min);
        Life { length: Duration::from_micros((options.life_ms_min * 1_000) + rng.below(span * 1_000 + 1)) }
    }

    /// Acts on the engine until it is killed.
    pub fn live(self, mut server: Server, books: &mut Books) -> anyhow::Result<()> {
        let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw).context("pid of the engine")?;
        let killed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&killed);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(self.length);
            flag.store(true, Ordering::SeqCst);
            kill_process(pid, Signal::KILL)
        });
        while !killed.load(Ordering::SeqCst) {
            if server.has_ended() && !killed.load(Ordering::SeqCst) {
                bail!("the engine died by itself, before the kill");
            }
            act(books, server.api(), &killed);
            std::thread::sleep(Duration::from_micros(books.rng.below(20_000)));
        }
        match killer.join() {
            Ok(sent) => sent.context("killing the engine")?,
            Err(_) => bail!("the killer's thread failed"),
        }
        server.kill()
    }
}

fn act(books: &mut Books, api: &Api, killed: &AtomicBool) {
    books.actions += 1;
    let done = match books.rng.below(14) {
        0..3 => books.pause_or_resume(api, "pause"),
        3..7 => books.pause_or_resume(api, "resume"),
        7 => books.upload(api),
        8..12 => books.act_on_kind(api),
        _ => books.glance(api),
    };
    let Err(error) = done else { return };
    if !is_legal(&error) && !killed.load(Ordering::SeqCst) {
        books.problems.push(format!("refused before the kill: {error:#}"));
    }
}
