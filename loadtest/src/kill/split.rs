//! Tests of versions in the kill scenario: conversions are fed from the sink's record, and a person chooses now and then.
//!
//! Owns what is known of one test. Invariants that are checked: 1. a decision that a restart showed, or that was acknowledged to
//! a person, is the same after every later one; 2. the sample of a version has as many contacts after a restart as before,
//! until one of them wins.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds::is_old;
use super::specs::VERSIONS;
use crate::api::Api;
use crate::rng::{Rng, unit_of};

/// Share of the contacts who buy, by version.
const TASTE: [f64; 3] = [0.1, 0.3, 0.6];
/// Events of one request.
const EVENTS_MAX: usize = 200;

/// One test.
#[derive(Clone, Debug, Default)]
pub struct Split {
    decision: Option<Value>,
    /// A person's choice that was acknowledged.
    chosen: Option<Value>,
    samples: BTreeMap<String, u64>,
    /// Conversions that are still to be told.
    waiting: Vec<Value>,
    problems: Vec<String>,
}

/// What of a decision never changes.
fn lasting(decision: &Value) -> Value {
    json!([decision["winner"], decision["basis"], decision["by"], decision["at"]])
}

impl Split {
    /// A mail of this test was recorded: whether its reader buys is drawn from its Message-ID alone.
    pub fn read(&mut self, seed: u64, version: &str, message_id: &str) {
        let taste = VERSIONS.iter().position(|one| *one == version).map_or(0.0, |at| TASTE[at]);
        if unit_of(seed, message_id.as_bytes()) < taste {
            self.waiting.push(json!({
                "id": format!("bought-{message_id}"), "type": "converted", "class": "human", "message_id": message_id,
            }));
        }
    }

    /// Tells conversions, or has a person choose. Answers whether it was acknowledged.
    pub fn act(&mut self, api: &Api, id: &str, rng: &mut Rng) -> anyhow::Result<bool> {
        if self.waiting.is_empty() {
            return if rng.chance(0.05) { self.choose(api, id, rng) } else { Ok(false) };
        }
        let count = self.waiting.len().min(EVENTS_MAX);
        let (_, refused) = api.events(&self.waiting[..count])?;
        self.waiting.drain(..count);
        self.problems.extend(refused.into_iter().map(|one| format!("the event of a recorded mail is refused: {one}")));
        Ok(true)
    }

    fn choose(&mut self, api: &Api, id: &str, rng: &mut Rng) -> anyhow::Result<bool> {
        let variant = VERSIONS[usize::try_from(rng.below(3))?];
        let path = format!("/v1/campaigns/{id}/choose-winner");
        let test = api.post_json(&path, &json!({"variant": variant, "by": "ann"}))?;
        self.chosen = Some(lasting(&test["decision"]));
        Ok(true)
    }

    /// A person chooses where the test waits for one.
    pub fn push(&mut self, api: &Api, id: &str, report: &BTreeMap<String, Value>, rng: &mut Rng) -> anyhow::Result<()> {
        let waits = report.get("tests").is_some_and(|tests| !tests[0]["waits_for_person"].is_null());
        if waits { self.choose(api, id, rng).map(drop) } else { Ok(()) }
    }

    /// What the report says after a restart against what it said before.
    pub fn check(&mut self, name: &str, report: &BTreeMap<String, Value>, problems: &mut Vec<String>) {
        problems.extend(self.problems.drain(..).map(|problem| format!("{name}: {problem}")));
        let Some(test) = report.get("tests").map(|tests| &tests[0]) else { return };
        let decision = (!test["decision"].is_null()).then(|| lasting(&test["decision"]));
        for (what, before) in [("shown", &self.decision), ("acknowledged", &self.chosen)] {
            if before.is_some() && *before != decision {
                problems.push(format!("{name}: decision {before:?} was {what}, and now it is {decision:?}"));
            }
        }
        if decision.is_none() && is_old(&test["sample_cut_at"]) {
            for arm in test["arms"].as_array().into_iter().flatten() {
                let (of, is) = (arm["name"].to_string(), arm["contacts"].as_u64().unwrap_or(0));
                let was = *self.samples.entry(of.clone()).or_insert(is);
                if was != is {
                    problems.push(format!("{name}: the sample of {of} had {was} contacts, and has {is}"));
                }
            }
        }
        if is_old(&test["decision"]["at"]) {
            self.decision = decision;
        }
    }

    /// Contacts of a version's sample, if a restart met the test undecided.
    pub fn sample(&self, version: &str) -> Option<u64> {
        self.samples.get(&format!("{version:?}")).copied()
    }
}
