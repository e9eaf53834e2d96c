//! `loadtest peer`: the peer alone against a sink of its own, so that a user can see that it is set up before a long run.
//!
//! Owns the sink. Invariant: the rate is the sink's, from its first to its last accepted message; what the peer says of itself
//! stands beside it.

use anyhow::{Context, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Peer, PeerOptions, PeerRound};
use crate::base::{self, Base, Columns};
use crate::message::reference_campaign;
use crate::scene::everybody;
use crate::sink::SinkOptions;
use crate::sink::process::SinkProcess;
use crate::sink::stats::SinkReport;
use crate::text::{cells, grouped, mebibytes, say, table};

/// Options of `loadtest peer`.
#[derive(Args, Clone, Debug)]
pub struct PeerCommand {
    #[command(flatten)]
    pub peer: PeerOptions,
    /// Subscribers
    #[arg(long, default_value_t = 1_000)]
    pub contacts: u64,
    /// Campaigns
    #[arg(long, default_value_t = 1)]
    pub rounds: u64,
    /// SMTP connections that the peer may open
    #[arg(long, default_value_t = 50)]
    pub connections: u64,
    /// Where the sink listens: the address that the peer's own settings name, unless --peer-settings writes it there
    #[arg(long, default_value = "127.0.0.1:0")]
    pub sink_listen: String,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One round: what the peer says, and what the sink saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    pub round: PeerRound,
    pub sink: SinkReport,
}

/// Runs one campaign of the peer against the sink, which counts it.
pub fn measured(peer: &Peer, sink: &mut SinkProcess, name: &str) -> anyhow::Result<Seen> {
    sink.reset()?;
    let round = peer.round(name)?;
    let sink = sink.report()?;
    ensure!(
        sink.counts.accepted == round.messages,
        "the sink took {} messages and listmonk sent {}",
        sink.counts.accepted,
        round.messages
    );
    Ok(Seen { round, sink })
}

/// `loadtest peer`.
pub fn run(command: &PeerCommand) -> anyhow::Result<()> {
    ensure!(command.peer.peer.is_some(), "say which peer: --peer listmonk");
    let folder = tempfile::tempdir().context("making a folder for the base")?;
    let file = folder.path().join("base.csv");
    let (contacts, seed) = (command.contacts, command.seed);
    base::write_file(&Base { contacts, seed, prefix: "c", batch: "base", columns: Columns::Full }, &file, |_| {})
        .context("writing the base")?;
    let options = SinkOptions { listen: command.sink_listen.clone(), ..SinkOptions::default() };
    let mut sink = SinkProcess::start(&options)?;
    let spec = reference_campaign("peer", "relay", &everybody())?;
    let peer = Peer::prepare(&command.peer, &file, &spec, sink.address, command.connections)?;
    let mut rows = vec![cells(["listmonk", "msg/s (sink)", "seconds", "connections", "sink CPU µs/msg", "its memory"])];
    for round in 1..=command.rounds {
        let seen = measured(&peer, &mut sink, &format!("load test {round}"))?;
        let sink_cpu = seen.sink.cpu_seconds * 1e6 / seen.round.messages.max(1) as f64;
        rows.push(cells([
            &format!("{} round {round}", peer.version()),
            &grouped(seen.sink.per_second),
            &format!("{:.2}", seen.round.seconds),
            &seen.sink.counts.connections.to_string(),
            &format!("{sink_cpu:.1}"),
            &mebibytes(seen.round.memory_bytes),
        ]));
    }
    say(&table(&rows));
    peer.finish()
}
