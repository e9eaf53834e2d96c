//! Sequences in the kill scenario: one is edited while it runs, one is entered by requests, one is extended, one is stopped.
//!
//! Owns what was asked of one sequence and what the engine acknowledged of it. Invariants that are checked: 1. what was
//! acknowledged is in force after every restart, and so is the hour at which a step started; 2. a request that is repeated
//! enters nobody; 3. a contact whose entry was acknowledged is in the first delivery at the end.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::{Value, json};

use super::calls::is_legal;
use super::kinds::{Group, is_old, soon, subject};
use crate::api::Api;
use crate::base;
use crate::rng::Rng;

/// What is done to a sequence while engines die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Edited,
    Entered,
    Extended,
    Stopped,
}

const WAYS: [Way; 4] = [Way::Edited, Way::Entered, Way::Extended, Way::Stopped];
/// Contacts of one request.
const ENTRANTS: u64 = 15;
/// Edits of one sequence: each is a version.
const EDITS_MAX: u32 = 6;

/// One sequence.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub way: Way,
    name: String,
    /// Versions of the step `two` that were asked for, and whether that was acknowledged.
    edits: Vec<bool>,
    /// Whether the step `more` was put behind the last one, and acknowledged.
    pub more: bool,
    requests: BTreeMap<u32, BTreeSet<u64>>,
    asked: u32,
    /// Contacts whose entry was asked for; true: and acknowledged.
    pub entrants: BTreeMap<u64, bool>,
    version: u64,
    started: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Sequence {
    pub fn new(name: &str, number: usize) -> Sequence {
        Sequence {
            way: WAYS[number % WAYS.len()],
            name: name.to_owned(),
            edits: Vec::new(),
            more: false,
            requests: BTreeMap::new(),
            asked: 0,
            entrants: BTreeMap::new(),
            version: 0,
            started: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    fn send(&self, id: &str, number: u16, at: Option<i64>) -> Value {
        let mut step = json!({"id": id, "kind": "send", "message": {"subject": subject(&self.name, number, id)}});
        if let Some(at) = at {
            step["at"] = json!(soon(at));
        }
        step
    }

    /// What the spec has beside what every spec has. A delivery's index is the number of its step.
    pub fn complete(&self, spec: &mut Value) {
        let steps = match self.way {
            Way::Edited => {
                let mut two = self.send("two", 2, Some(5_000));
                two["after"] = json!("who.few");
                let mut bye = self.send("bye", 4, Some(7_000));
                bye["after"] = json!(["two", "mark"]);
                let branches = json!([{"name": "few", "weight": 1}, {"name": "many", "weight": 3}]);
                json!([
                    self.send("one", 0, Some(2_000)),
                    {"id": "who", "kind": "split", "by": "weights", "at": soon(2_500), "branches": branches},
                    two,
                    {"id": "mark", "kind": "set_attribute", "after": "who.many", "at": soon(5_000),
                     "attribute": "company", "value": self.name},
                    bye,
                ])
            }
            Way::Entered => json!([self.send("one", 0, None), self.send("later", 1, Some(7_000))]),
            Way::Extended => json!([self.send("one", 0, Some(2_000))]),
            Way::Stopped => json!([self.send("one", 0, Some(2_000)), self.send("two", 1, Some(3_600_000))]),
        };
        spec["steps"] = steps;
        if self.way == Way::Entered {
            spec["starter"] = json!("api");
            if let Some(spec) = spec.as_object_mut() {
                spec.remove("audience");
            }
        }
    }

    /// Puts the draft into force.
    pub fn publish_draft(&mut self, api: &Api, id: &str) -> anyhow::Result<()> {
        self.version = publish(api, id)?;
        Ok(())
    }

    /// Whether nothing is to be done any more with a sequence in this state.
    pub fn is_over(&self, state: &str) -> bool {
        match self.way {
            Way::Extended => state == "finished" && self.more,
            _ => matches!(state, "finished" | "stopped"),
        }
    }

    /// One thing that a person, or a program, asks of it under fire. Answers whether it was acknowledged.
    pub fn act(&mut self, api: &Api, id: &str, group: &Group, rng: &mut Rng) -> anyhow::Result<bool> {
        match self.way {
            Way::Edited if (self.edits.len() as u32) < EDITS_MAX => self.edit(api, id),
            Way::Entered => self.enter(api, id, group, rng),
            Way::Extended if !self.more => self.extend(api, id),
            Way::Stopped if rng.chance(0.1) => api.act(id, "stop").map(|()| true),
            _ => Ok(false),
        }
    }

    /// What must be asked of it at last so that it ends.
    pub fn push(&mut self, api: &Api, id: &str, state: &str) -> anyhow::Result<()> {
        match self.way {
            Way::Stopped if matches!(state, "running" | "scheduled") => api.act(id, "stop"),
            Way::Extended if state == "finished" && !self.more => self.extend(api, id).map(drop),
            _ => Ok(()),
        }
    }

    fn edit(&mut self, api: &Api, id: &str) -> anyhow::Result<bool> {
        let view = api.post_json(&format!("/v1/campaigns/{id}/edit"), &json!({}))?;
        let mut steps = copied(&view)?;
        let version = format!("two-v{}", self.edits.len());
        let two = steps.iter_mut().find(|step| step["id"] == "two").context("the step two")?;
        two["message"]["subject"] = json!(subject(&self.name, 2, &version));
        let adds = !self.edits.is_empty();
        if adds && !steps.iter().any(|step| step["id"] == "more") {
            steps.push(self.send("more", 5, Some(9_000)));
        }
        api.patch_json(&format!("/v1/campaigns/{id}"), &json!({"steps": steps}))?;
        self.edits.push(false);
        match publish(api, id) {
            Ok(version) => {
                self.version = version;
                self.more |= steps.iter().any(|step| step["id"] == "more");
                if let Some(edit) = self.edits.last_mut() {
                    *edit = true;
                }
                Ok(true)
            }
            Err(error) => {
                if is_legal(&error) {
                    self.edits.pop();
                }
                Err(error)
            }
        }
    }

    fn extend(&mut self, api: &Api, id: &str) -> anyhow::Result<bool> {
        let view = api.post_json(&format!("/v1/campaigns/{id}/extend"), &json!({}))?;
        let mut steps = copied(&view)?;
        steps.retain(|step| step["id"] != "more");
        steps.push(self.send("more", 1, Some(1_500)));
        api.patch_json(&format!("/v1/campaigns/{id}"), &json!({"steps": steps}))?;
        self.version = publish(api, id)?;
        self.more = true;
        Ok(true)
    }

    fn enter(&mut self, api: &Api, id: &str, group: &Group, rng: &mut Rng) -> anyhow::Result<bool> {
        let again = rng.below(u64::from(self.asked) * 2 + 1);
        let (name, contacts, repeats) = match self.requests.get(&u32::try_from(again)?) {
            Some(contacts) => (u32::try_from(again)?, contacts.clone(), true),
            None => (self.asked, (0..ENTRANTS).map(|_| rng.below(group.contacts)).collect::<BTreeSet<u64>>(), false),
        };
        for contact in &contacts {
            self.entrants.entry(*contact).or_default();
        }
        self.asked = self.asked.max(name + 1);
        let keys: Vec<String> = contacts.iter().map(|i| base::key(&group.prefix, *i)).collect();
        let body = json!({"contacts": keys, "idempotency_key": format!("r{name}")});
        let done = api.post_json(&format!("/v1/campaigns/{id}/enter"), &body)?;
        if repeats && done["repeated"] != true {
            self.problems.push(format!("{}: an acknowledged request was done again: {done}", self.name));
        }
        for contact in &contacts {
            self.entrants.insert(*contact, true);
        }
        self.requests.insert(name, contacts);
        Ok(true)
    }

    /// What the engine shows after a restart against what it acknowledged before, and what it showed then.
    pub fn check(&mut self, view: &Value, problems: &mut Vec<String>) {
        problems.append(&mut self.problems);
        let name = &self.name;
        let sequence = &view["sequence"];
        let version = sequence["version"].as_u64().unwrap_or(0);
        if version < self.version {
            problems.push(format!("{name}: version {} was acknowledged, and {version} is in force", self.version));
        }
        let steps: Vec<&Value> = view["spec"]["steps"].as_array().into_iter().flatten().collect();
        let has_more = steps.iter().any(|step| step["id"] == "more");
        if self.more && !has_more {
            problems.push(format!("{name}: the step that was added is gone: {view}"));
        }
        self.more |= has_more && version >= self.version;
        let two = steps.iter().find(|step| step["id"] == "two").map(|step| step["message"]["subject"].to_string());
        if let Some(acknowledged) = self.edits.iter().rposition(|edit| *edit) {
            let allowed = (acknowledged..self.edits.len())
                .any(|edit| two.as_ref().is_some_and(|subject| subject.contains(&format!("two-v{edit} "))));
            if !allowed {
                problems.push(format!("{name}: edit {acknowledged} was acknowledged, and the step says {two:?}"));
            }
        }
        for step in sequence["steps"].as_array().into_iter().flatten() {
            let (Some(id), Some(at)) = (step["id"].as_str(), step["started"].as_str()) else { continue };
            if !is_old(&step["started"]) && !self.started.contains_key(id) {
                continue;
            }
            let before = self.started.entry(id.to_owned()).or_insert_with(|| at.to_owned());
            if before != at {
                problems.push(format!("{name}: step {id} had started at {before}, and now at {at}"));
            }
        }
    }

    /// Versions of the step `two` that its mails may show: those of one edit alone, from the last acknowledged on.
    pub fn is_version(&self, version: &str) -> bool {
        let Some(edit) = version.strip_prefix("two-v").and_then(|edit| edit.parse::<usize>().ok()) else {
            return version != "two" || !self.edits.contains(&true);
        };
        edit < self.edits.len() && edit >= self.edits.iter().rposition(|edit| *edit).unwrap_or(0)
    }
}

fn copied(view: &Value) -> anyhow::Result<Vec<Value>> {
    view["working_copy"]["spec"]["steps"].as_array().cloned().with_context(|| format!("no steps in {view}"))
}

/// Answers the version that is in force now.
fn publish(api: &Api, id: &str) -> anyhow::Result<u64> {
    let done = api.post_json(&format!("/v1/campaigns/{id}/publish?confirm=true"), &json!({}))?;
    done["version"].as_u64().with_context(|| format!("no version in {done}"))
}
