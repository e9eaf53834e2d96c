//! `loadtest flow`: a flow of twelve nodes beside a single campaign, over the same base, engine alone.
//!
//! Owns the scene. Invariants: both campaigns send every contact the same one message; they alternate, so that neither profits
//! from what the other left in memory.

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::base::{Base, Columns};
use crate::message::reference_campaign;
use crate::options::RunOptions;
use crate::proc::MachineWatch;
use crate::report::Report;
use crate::scene::{Scene, everybody};
use crate::server::{Connectors, find_binary};
use crate::text::{cells, grouped, note, say, table};

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

pub fn run(options: &FlowOptions) -> anyhow::Result<()> {
    let engine = find_binary(options.run.engine.as_deref())?;
    let watch = MachineWatch::start(&[]);
    let connectors = Connectors { null: true, ..Connectors::default() };
    let scene = Scene::start(&engine, options.run.folder.as_deref(), &connectors)?;
    scene.declare(Columns::Full)?;
    let contacts = options.contacts;
    let base = Base { contacts, seed: options.run.seed, prefix: "c", batch: "base", columns: Columns::Full };
    let import = scene.import(&scene.generate(&base)?, contacts)?;
    let mut ended = import.cpu.total();
    let scene = scene.restart()?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        for kind in ["single", "flow"] {
            note(&format!("round {round}: {kind}"));
            let mut spec = reference_campaign(&format!("{kind} {round}"), "null", &everybody())?;
            if kind == "flow" {
                spec["kind"] = json!("flow");
                spec["nodes"] = nodes();
            }
            let run = scene.run_campaign(&spec, contacts, kind)?;
            ended += run.cpu.total();
            let (per_second, cpu_microseconds) = (run.per_second(), run.cpu_microseconds());
            rounds.push(Round { kind, seconds: run.seconds, per_second, cpu_microseconds });
        }
    }
    let report = Report::new(options.clone(), watch.finish(ended), rounds);
    say(&report.heading());
    say(&lines(&report.result));
    report.write(options.run.json.as_deref())
}

fn median(rounds: &[Round], kind: &str) -> f64 {
    let mut rates: Vec<f64> = rounds.iter().filter(|round| round.kind == kind).map(|round| round.per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

fn lines(rounds: &[Round]) -> String {
    let mut rows = vec![cells(["campaign", "contacts/s", "seconds", "CPU µs/contact"])];
    rows.extend(rounds.iter().map(|round| {
        cells([
            round.kind,
            &grouped(round.per_second),
            &format!("{:.2}", round.seconds),
            &format!("{:.2}", round.cpu_microseconds),
        ])
    }));
    let mut text = table(&rows);
    let (single, flow) = (median(rounds, "single"), median(rounds, "flow"));
    text.push_str(&format!("\nflow of 12 nodes over single, medians: {:.2} (bar: ≥ 0.80)\n", flow / single.max(1e-9)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_has_twelve_nodes() {
        assert_eq!(nodes().as_array().map(Vec::len), Some(12));
    }
}
