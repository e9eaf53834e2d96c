//! `estafette demo ab-split --seeds N`: the demo's A/B split again and again, each time with other people, and how often the
//! engine finds what is true.
//!
//! Owns nothing but the tally. The truth is [`super::campaigns::TASTES`]: B is clicked more often.

use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value as Json, json};

use super::campaigns::DemoKind;
use super::{Demo, ExampleBase, once};
use crate::cli::host::Host;
use crate::cli::{Exit, output};

/// The variant that is better.
const BETTER: &str = "B";

#[derive(Debug, Default)]
struct Tally {
    better: u32,
    worse: u32,
    /// Nobody won, or a person would have had to choose.
    open: u32,
    proven: u32,
    seeds: Vec<Json>,
}

impl Tally {
    fn add(&mut self, seed: u64, report: &Json) {
        let test = &report["tests"][0];
        let decision = &test["decision"];
        match decision["winner"].as_str().filter(|_| decision["by"] == "engine") {
            Some(BETTER) => self.better += 1,
            Some(_) => self.worse += 1,
            None => self.open += 1,
        }
        self.proven += u32::from(decision["proven"] == true);
        self.seeds.push(json!({
            "seed": seed,
            "winner": decision["winner"],
            "proven": decision["proven"],
            "verdict": test["verdict"],
            "effect": test["effect"],
            "balanced": report["ledger"]["balanced"],
        }));
    }
}

pub(super) fn demo(
    host: &dyn Host,
    options: &Demo,
    seeds: u32,
    recorder: &PrometheusHandle,
    as_json: bool,
) -> anyhow::Result<Exit> {
    anyhow::ensure!(options.kind == DemoKind::AbSplit, "--seeds is for the A/B split: only that has a winner");
    let mut tally = Tally::default();
    for seed in options.seed..options.seed.saturating_add(u64::from(seeds)) {
        output::note(&format!("\n=== seed {seed}"));
        let base = ExampleBase { contacts: options.contacts, seed };
        let Some(report) = once(host, options.kind, base, recorder, false, false)? else { break };
        tally.add(seed, &report);
    }
    let Tally { better, worse, open, proven, seeds } = tally;
    let (count, balanced) = (seeds.len(), seeds.iter().filter(|seed| seed["balanced"] == true).count());
    if as_json {
        output::json(&json!({
            "better": BETTER, "seeds": count, "better_won": better, "worse_won": worse, "undecided": open,
            "proven": proven, "balanced": balanced, "each": seeds,
        }))?;
    } else {
        output::line(&format!(
            "the better variant won {better} of {count} times ({proven} proven), the worse one {worse}, nobody {open}; \
             {balanced} ledgers balance"
        ))?;
    }
    Ok(if worse == 0 && balanced == count { Exit::Done } else { Exit::ProblemsFound })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_campaign_is_counted_once() {
        let report = |winner: Json, by: &str, proven: bool| {
            let decision = json!({"winner": winner, "by": by, "proven": proven});
            json!({"tests": [{"decision": decision}], "ledger": {"balanced": true}})
        };
        let mut tally = Tally::default();
        tally.add(1, &report(json!("B"), "engine", true));
        tally.add(2, &report(json!("A"), "engine", false));
        tally.add(3, &report(json!("A"), "the demo", false));
        tally.add(4, &json!({}));
        assert_eq!((tally.better, tally.worse, tally.open, tally.proven), (1, 1, 2, 1), "{tally:?}");
    }
}
