//! One campaign of the kill scenario: how it is made, what is asked of it under fire, and what every restart must show of it.
//!
//! Owns what is known of the campaign and of its runs. Invariants that are checked after every restart: 1. every ledger
//! balances, that of the run and that of each delivery; 2. accepted never shrinks; 3. contacts are at one node each: those at
//! all nodes are as many as entered; 4. a run that was shown is there; a launch makes one; 5. what kinds have of their own
//! (`split`, `sequence`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::calls::{is_legal, refusal};
use super::kinds::{Group, Kind};
use super::sequence::Sequence;
use super::specs;
use super::split::Split;
use crate::api::{Api, Ledger, Report};
use crate::rng::Rng;

/// What only one kind has.
#[derive(Clone, Debug)]
pub enum Script {
    None,
    Split(Split),
    Sequence(Box<Sequence>),
    /// Goes on until somebody stops it.
    Recurring,
}

/// What a run showed so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub accepted: u64,
    pub unknown: u64,
}

/// A campaign and what is known of it.
#[derive(Clone, Debug)]
pub struct Campaign {
    pub name: String,
    pub kind: Kind,
    pub id: String,
    pub group: Group,
    pub finished: bool,
    pub runs: BTreeMap<u64, Seen>,
    pub script: Script,
    /// What was asked of it and acknowledged, beside pauses.
    pub acknowledged: u64,
}

/// Where a campaign of the scenario comes from.
pub struct Wanted<'w> {
    pub kind: Kind,
    pub name: String,
    /// Of its kind.
    pub number: usize,
    pub group: Group,
    /// Of the group's import.
    pub batch: &'w str,
    pub rate: Option<u64>,
}

impl Campaign {
    /// Creates it and lets it begin.
    pub fn make(api: &Api, wanted: Wanted<'_>) -> anyhow::Result<Campaign> {
        let Wanted { kind, name, number, group, batch, rate } = wanted;
        let audience = match kind {
            Kind::OneShot => {
                let upload = api.upload_audience(&format!("upload-{name}"), group.to_csv())?;
                serde_json::json!({"upload": upload, "consent_confirmed": true})
            }
            _ => specs::batch(batch),
        };
        let mut spec = specs::spec(kind, &name, number, &audience, rate);
        let mut script = match kind {
            Kind::AbSplit => Script::Split(Split::default()),
            Kind::Sequence => Script::Sequence(Box::new(Sequence::new(&name, number))),
            Kind::Scheduled if specs::is_recurring(number) => Script::Recurring,
            _ => Script::None,
        };
        if let Script::Sequence(sequence) = &script {
            sequence.complete(&mut spec);
        }
        let id = api.create_campaign(&spec)?;
        match &mut script {
            Script::Sequence(sequence) => sequence.publish_draft(api, &id)?,
            _ => api.act(&id, "start")?,
        }
        Ok(Campaign { script, ..Campaign::of(kind, &name, &id, group) })
    }

    /// One that is there.
    pub fn of(kind: Kind, name: &str, id: &str, group: Group) -> Campaign {
        Campaign {
            name: name.to_owned(),
            kind,
            id: id.to_owned(),
            group,
            finished: false,
            runs: BTreeMap::new(),
            script: Script::None,
            acknowledged: 0,
        }
    }

    /// A mail of it was recorded.
    pub fn read(&mut self, seed: u64, version: &str, message_id: &str) {
        if let Script::Split(split) = &mut self.script {
            split.read(seed, version, message_id);
        }
    }

    /// Something of its kind is asked of it.
    pub fn act(&mut self, api: &Api, rng: &mut Rng) -> anyhow::Result<()> {
        let done = match &mut self.script {
            Script::None => false,
            Script::Split(split) => split.act(api, &self.id, rng)?,
            Script::Sequence(sequence) => sequence.act(api, &self.id, &self.group, rng)?,
            Script::Recurring if self.runs.is_empty() => false,
            Script::Recurring => api.act(&self.id, "stop").map(|()| true)?,
        };
        self.acknowledged += u64::from(done);
        Ok(())
    }

    fn is_over(&self, state: &str) -> bool {
        match &self.script {
            Script::Sequence(sequence) => sequence.is_over(state),
            _ => matches!(state, "finished" | "stopped"),
        }
    }

    /// Looks at everything that a restart must show. `power`: what was shown unsynced may have become unknown.
    pub fn check(&mut self, api: &Api, power: bool, problems: &mut Vec<String>) {
        match self.look(api, power, problems) {
            Ok(()) => {}
            // A draft that was never started has no report.
            Err(error) if refusal(&error).is_some() && self.runs.is_empty() => {}
            Err(error) => problems.push(format!("{}: no report after a restart: {error:#}", self.name)),
        }
    }

    fn look(&mut self, api: &Api, power: bool, problems: &mut Vec<String>) -> anyhow::Result<()> {
        let view = api.get_json(&format!("/v1/campaigns/{}", self.id))?;
        let state = view["state"].as_str().unwrap_or_default().to_owned();
        let runs = api.runs(&self.id)?;
        if let Some(gone) = self.runs.keys().find(|run| !runs.contains(run)) {
            problems.push(format!("{}: run {gone} is gone, there are {runs:?}", self.name));
        }
        if self.kind == Kind::Scheduled {
            self.launches(&view, &runs, problems);
        }
        for run in runs {
            let report = api.run_report(run)?;
            self.judge(run, &report, power, problems);
            if let Script::Split(split) = &mut self.script {
                split.check(&self.name, &report.rest, problems);
            }
        }
        if let Script::Sequence(sequence) = &mut self.script {
            sequence.check(&view, problems);
        }
        self.finished = self.is_over(&state);
        Ok(())
    }

    /// One run a launch, one launch a date.
    fn launches(&self, view: &Value, runs: &[u64], problems: &mut Vec<String>) {
        let schedule = &view["schedule"];
        let made = schedule["made"].as_u64().unwrap_or(0);
        let history: Vec<&Value> = schedule["history"].as_array().into_iter().flatten().collect();
        let dates: BTreeSet<String> = history.iter().map(|launch| launch["planned"].to_string()).collect();
        if dates.len() != history.len() {
            problems.push(format!("{}: a date was decided twice: {schedule}", self.name));
        }
        // Between the two answers another launch may have been made.
        let count = runs.len() as u64;
        if made > count || count > made + 1 {
            problems.push(format!("{}: {made} launches were made, and there are runs {runs:?}", self.name));
        }
    }

    fn judge(&mut self, run: u64, report: &Report, power: bool, problems: &mut Vec<String>) {
        let name = &self.name;
        let ledger = &report.ledger;
        if !ledger.holds() {
            problems.push(format!("{name}: the ledger of run {run} does not balance: {ledger:?}"));
        }
        let deliveries = report.rest.get("deliveries").and_then(Value::as_array).cloned().unwrap_or_default();
        for delivery in deliveries {
            let index = delivery["index"].clone();
            match serde_json::from_value::<Ledger>(delivery) {
                Ok(ledger) if ledger.holds() => {}
                other => problems.push(format!("{name}: delivery {index} of run {run} does not balance: {other:?}")),
            }
        }
        let nodes = report.rest.get("nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let standing: u64 = nodes.iter().filter_map(|node| node["contacts"].as_u64()).sum();
        let entered = report.rest.get("entered").and_then(Value::as_u64).unwrap_or(0);
        if standing != entered {
            problems.push(format!("{name}: {entered} contacts entered run {run}, and {standing} are at its nodes"));
        }
        let seen = self.runs.entry(run).or_default();
        // An outcome that was shown before it was synced is forgotten with the power: then it is unknown.
        let kept = if power { ledger.accepted + ledger.unknown } else { ledger.accepted };
        if kept < seen.accepted {
            let (was, is) = (seen.accepted, ledger.accepted);
            problems.push(format!("{name}: accepted of run {run} went from {was} to {is} over a restart"));
        }
        *seen = Seen { accepted: seen.accepted.max(ledger.accepted), unknown: ledger.unknown };
    }

    /// A look while it runs.
    pub fn glance(&mut self, api: &Api, problems: &mut Vec<String>) -> anyhow::Result<()> {
        let Some(run) = api.runs(&self.id)?.last().copied() else { return Ok(()) };
        let report = api.run_report(run)?;
        if !report.ledger.holds() {
            problems.push(format!("{}: the live ledger does not balance: {:?}", self.name, report.ledger));
        }
        let seen = self.runs.entry(run).or_default();
        seen.accepted = seen.accepted.max(report.ledger.accepted);
        Ok(())
    }

    /// Does what it waits for; answers what it waits for still, in words, and how far it is. `None`: it is over.
    pub fn push(&mut self, api: &Api, rng: &mut Rng) -> anyhow::Result<Option<(String, u64)>> {
        let view = api.get_json(&format!("/v1/campaigns/{}", self.id))?;
        let state = view["state"].as_str().unwrap_or_default();
        if self.is_over(state) {
            self.finished = true;
            return Ok(None);
        }
        let report = match self.runs.is_empty() {
            true => api.report(&self.id).ok(),
            false => Some(api.report(&self.id)?),
        };
        // A refusal says that it has moved on since it was looked at.
        self.wake(api, state, report.as_ref(), rng)
            .or_else(|error| if is_legal(&error) { Ok(()) } else { Err(error) })?;
        let Some(report) = report else { return Ok(Some((format!("{} {state}, no run", self.name), 0))) };
        let ledger = &report.ledger;
        let moved = ledger.accepted + ledger.rejected + ledger.skipped + ledger.unknown + ledger.audience;
        let stall = report.rest.get("stall").cloned().unwrap_or_default();
        Ok(Some((format!("{} ({}) {state} {ledger:?} {stall}", self.name, self.kind.name()), moved)))
    }

    fn wake(&mut self, api: &Api, state: &str, report: Option<&Report>, rng: &mut Rng) -> anyhow::Result<()> {
        match state {
            "paused" => return api.act(&self.id, "resume"),
            "draft" => return api.act(&self.id, "start"),
            _ => {}
        }
        match (&mut self.script, report) {
            (Script::Split(split), Some(report)) => {
                split.act(api, &self.id, rng)?;
                split.push(api, &self.id, &report.rest, rng)
            }
            (Script::Sequence(sequence), _) => sequence.push(api, &self.id, state),
            (Script::Recurring, _) if state != "stopping" => api.act(&self.id, "stop"),
            _ => Ok(()),
        }
    }
}
