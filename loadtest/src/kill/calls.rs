//! What the kill scenario asks of the API beyond what every measurement does: runs, sets by delivery, sequences, tests, events.
//!
//! Owns no state. An answer of another shape than expected is an error that quotes it.

use anyhow::{Context, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, Refusal, Report, answer, checked, id_of};

/// A contact of a set of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    pub contact: String,
    pub delivery: u16,
}

impl Api {
    pub fn get_json(&self, path: &str) -> anyhow::Result<Value> {
        answer(self.request(Method::GET, path).send(), path)
    }

    pub fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        answer(self.request(Method::POST, path).json(body).send(), path)
    }

    pub fn patch_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        answer(self.request(Method::PATCH, path).json(body).send(), path)
    }

    /// Numbers of the runs of a campaign, the oldest first.
    pub fn runs(&self, campaign: &str) -> anyhow::Result<Vec<u64>> {
        let path = format!("/v1/campaigns/{campaign}/runs?limit=1000");
        let listed = self.get_json(&path)?;
        let items = listed["items"].as_array().with_context(|| format!("{path}: {listed}"))?;
        let mut runs: Vec<u64> = items.iter().filter_map(|run| run["id"].as_u64()).collect();
        runs.sort_unstable();
        Ok(runs)
    }

    pub fn run_report(&self, run: u64) -> anyhow::Result<Report> {
        let path = format!("/v1/runs/{run}/report");
        answer(self.request(Method::GET, &path).send(), &path)
    }

    /// The members of a set of a run, each with its delivery.
    pub fn members(&self, run: u64, set: &str) -> anyhow::Result<Vec<Member>> {
        let path = format!("/v1/runs/{run}/contacts?format=ndjson&set={set}");
        let text = checked(self.request(Method::GET, &path).send(), &path)?.text()?;
        let line = |line: &str| serde_json::from_str(line).with_context(|| format!("{path}: line {line:?}"));
        text.lines().filter(|line| !line.is_empty()).map(line).collect()
    }

    /// Uploads rows as the audience of one campaign and answers its id.
    pub fn upload_audience(&self, name: &str, csv: String) -> anyhow::Result<String> {
        let path = format!("/v1/audiences?name={name}");
        let request = self.request(Method::POST, &path).header("content-type", "text/csv").body(csv);
        id_of(&answer(request.send(), &path)?)
    }

    /// Hands events over; answers how many were taken now or before, and how each of the others was refused.
    pub fn events(&self, events: &[Value]) -> anyhow::Result<(u64, Vec<String>)> {
        if events.is_empty() {
            return Ok((0, Vec::new()));
        }
        let said = self.post_json("/v1/events", &json!(events))?;
        let Some(results) = said["results"].as_array() else { bail!("events were answered with {said}") };
        let refused: Vec<String> =
            results.iter().filter(|one| one["result"] == "refused").map(Value::to_string).collect();
        Ok(((results.len() - refused.len()) as u64, refused))
    }
}

/// The refusal that an error is, if it is one.
pub fn refusal(error: &anyhow::Error) -> Option<&Refusal> {
    error.downcast_ref()
}

/// The engine said no to what cannot be done now: legal, when asked of a campaign that has moved on.
pub fn is_legal(error: &anyhow::Error) -> bool {
    refusal(error).is_some_and(|refusal| matches!(refusal.status.as_u16(), 404 | 409 | 422))
}
