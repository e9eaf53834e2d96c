//! `loadtest flow`: a flow of twelve nodes beside a single campaign, over the same base, engine alone.
//!
//! Owns the scene. Invariants: both campaigns send every contact the same one message; they alternate, so that neither profits
//! from what the other left in memory.

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::base::{Base, Columns};
use crate::findings::{Axes, Better, Findings, Measure, Scale};
use crate::message::reference_campaign;
use crate::moments;
use crate::options::RunOptions;
use crate::peers::sets::bare_flow;
use crate::proc::{MachineWatch, MemoryWatch};
use crate::scenario::drivers::{Drive, Extras};
use crate::scene::{Scene, everybody};
use crate::server::{Connectors, find_binary};
use crate::text::{cells, grouped, mebibytes, note};

#[derive(Args, Clone, Debug, Serialize)]
pub struct FlowOptions {
    /// Contacts of the base
    #[arg(long, default_value_t = 2_000_000)]
    pub contacts: u64,
    /// Times that each campaign is run
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunOptions,
}

/// One campaign.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub kind: &'static str,
    pub seconds: f64,
    pub per_second: f64,
    pub cpu_microseconds: f64,
    /// Peak of RssAnon + RssShmem.
    pub memory_bytes: u64,
}

/// Every kind of node, in twelve; nobody waits, and everybody gets one message.
fn nodes() -> Value {
    let node = |id: &str, kind: &str, more: Value| {
        let mut node = json!({"id": id, "kind": kind});
        for (key, value) in more.as_object().into_iter().flatten() {
            node[key] = value.clone();
        }
        node
    };
    json!([
        node("start", "start", json!({"then": "own address"})),
        node("own address", "condition", json!({"test": "unique", "exits": {"true": "grown up", "false": "grown up"}})),
        node("grown up", "condition", json!({"segment": "age >= 18", "exits": {"true": "halves", "false": "few"}})),
        node("halves", "split", json!({"weights": {"a": 1, "b": 1}, "exits": {"a": "mail a", "b": "mail b"}})),
        node(
            "few",
            "split",
            json!({"at_most": [{"exit": "few", "contacts": 1000}],
            "exits": {"few": "mail a", "remaining": "mail b"}})
        ),
        node("mail a", "send", json!({"delivery": "mail", "then": "pause"})),
        node("mail b", "send", json!({"delivery": "mail", "then": "pause"})),
        node("pause", "delay", json!({"until": "2020-01-01T00:00:00Z", "then": "arrived"})),
        node(
            "arrived",
            "condition",
            json!({"test": "delivered", "of": "mail a",
            "exits": {"true": "shares", "false": "reacted"}})
        ),
        node("shares", "split", json!({"weights": {"x": 3, "y": 7}, "exits": {"x": "reacted", "y": "end"}})),
        node(
            "reacted",
            "split",
            json!({"interactions": [{"exit": "clicked", "test": "clicked", "of": "mail a"}],
            "exits": {"clicked": "end", "remaining": "end"}})
        ),
        node("end", "end", json!({"as": "success"})),
    ])
}

const RATIO: Measure = Measure::ratio(
    "ratio",
    Better::Higher,
    "contacts a second of the flow over those of the single campaign, by round",
);
const FLOW_RATE: Measure = Measure::new("flow_rate", "contacts/s", Better::Higher, "contacts a second of the flow");
const SINGLE_RATE: Measure =
    Measure::new("single_rate", "contacts/s", Better::Neither, "contacts a second of the single campaign");
const FLOW_CPU: Measure = Measure::new("flow_cpu", "µs/contact", Better::Lower, "CPU per contact of the flow");
const MEMORY: Measure = Measure::new("memory", "MiB", Better::Lower, "peak of RssAnon + RssShmem over a flow");
const BARE_SETS: Measure = Measure::new(
    "bare_sets",
    "ms",
    Better::Neither,
    "the sets of the same twelve nodes on bare roaring bitmaps, in memory",
);
const PER_ROUND: Axes = Axes { title: "Rate per round", x: "round", y: "contacts a second", scale: Scale::Linear };

impl Drive for FlowOptions {
    const MEASURES: &'static [Measure] = &[RATIO, FLOW_RATE, SINGLE_RATE, FLOW_CPU, MEMORY, BARE_SETS];

    fn drive(&self, _: &Extras, findings: &Findings) -> anyhow::Result<()> {
        let engine = find_binary(self.run.engine.as_deref())?;
        let watch = MachineWatch::start(&[]);
        let connectors = Connectors { null: true, ..Connectors::default() };
        let scene = Scene::start(&engine, self.run.folder.as_deref(), &connectors)?;
        scene.declare(Columns::Full)?;
        let contacts = self.contacts;
        let base = Base { contacts, seed: self.run.seed, prefix: "c", batch: "base", columns: Columns::Full };
        let import = scene.import(&scene.generate(&base)?, contacts)?;
        let mut ended = import.cpu.total();
        let scene = scene.restart()?;
        let mut rounds: Vec<Round> = Vec::new();
        for round in 1..=self.rounds {
            for kind in ["single", "flow"] {
                note(&format!("round {round}: {kind}"));
                let (of, cpu) = one(&scene, contacts, kind, round, findings)?;
                ended += cpu;
                rounds.push(of);
            }
            if let [.., single, flow] = rounds.as_slice() {
                findings.sample(&SINGLE_RATE, single.per_second);
                findings.sample(&FLOW_RATE, flow.per_second);
                findings.sample(&RATIO, flow.per_second / single.per_second.max(1e-9));
                findings.sample(&FLOW_CPU, flow.cpu_microseconds);
            }
        }
        findings.disturbance(watch.finish(ended));
        let bare = bare_flow(u32::try_from(contacts).unwrap_or(u32::MAX), self.run.seed)?;
        findings.sample(&BARE_SETS, bare.total_ms);
        findings.peer("bare roaring", &bare.line());
        findings.detail(&rounds);
        tell(findings, &rounds);
        scene.server.terminate()
    }
}

/// Runs one campaign; its round, and its CPU seconds.
fn one(
    scene: &Scene,
    contacts: u64,
    kind: &'static str,
    round: u32,
    findings: &Findings,
) -> anyhow::Result<(Round, f64)> {
    let name = format!("{kind} {round}");
    let mut spec = reference_campaign(&name, "null", &everybody())?;
    if kind == "flow" {
        spec["kind"] = json!("flow");
        spec["nodes"] = nodes();
    }
    let memory = MemoryWatch::start(scene.server.pid());
    let run = scene.run_campaign(&spec, contacts, kind)?;
    let peak = memory.finish().own;
    if kind == "flow" {
        findings.sample(&MEMORY, peak as f64 / f64::from(1 << 20));
    }
    findings.ledger(&name, &run.ledger);
    findings.line(&moments::RATE, &name, &moments::rates(&run.moments));
    findings.line(&moments::MEMORY, &name, &moments::memory(&run.moments));
    let (per_second, cpu_microseconds) = (run.per_second(), run.cpu_microseconds());
    Ok((Round { kind, seconds: run.seconds, per_second, cpu_microseconds, memory_bytes: peak }, run.cpu.total()))
}

fn tell(findings: &Findings, rounds: &[Round]) {
    let mut rows = vec![cells(["campaign", "contacts/s", "seconds", "CPU µs/contact", "peak memory"])];
    rows.extend(rounds.iter().map(|round| {
        cells([
            round.kind,
            &grouped(round.per_second),
            &format!("{:.2}", round.seconds),
            &format!("{:.2}", round.cpu_microseconds),
            &mebibytes(round.memory_bytes),
        ])
    }));
    findings.table("A flow of twelve nodes beside a single campaign, alternating", rows);
    for kind in ["single", "flow"] {
        let rates: Vec<f64> = rounds.iter().filter(|round| round.kind == kind).map(|round| round.per_second).collect();
        findings.repetitions(&PER_ROUND, kind, &rates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_has_twelve_nodes() {
        assert_eq!(nodes().as_array().map(Vec::len), Some(12));
    }
}
