//! Events that readers cause outside of their mails: deliveries, bounces, conversions, complaints, by `POST /v1/events`.
//!
//! Owns what is to be sent. Invariants: 1. an event has an id of its own that does not change, so that sending it again changes
//! nothing; 2. what the engine refuses is a failure, not a count.

use anyhow::{Context, ensure};
use reqwest::Client;
use serde_json::{Value, json};

/// Events of one request.
pub(super) const EVENTS_AT_ONCE: usize = 500;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Delivered,
    Bounced,
    Converted,
    Complained,
}

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) variant: usize,
    pub(super) message_id: String,
}

impl Event {
    fn to_json(&self) -> Value {
        let name = match self.kind {
            Kind::Delivered => "delivered",
            Kind::Bounced => "bounced",
            Kind::Converted => "converted",
            Kind::Complained => "complained",
        };
        let mut event =
            json!({"id": format!("{name} {}", self.message_id), "type": name, "message_id": self.message_id});
        if self.kind == Kind::Bounced {
            event["class"] = json!("hard");
        }
        event
    }
}

/// Sends a batch; whether each event was taken, in order.
pub(super) async fn send(
    http: &Client,
    api: &(String, String),
    events: &[Event],
) -> anyhow::Result<Vec<Result<(), String>>> {
    let body: Vec<Value> = events.iter().map(Event::to_json).collect();
    let request = http.post(format!("http://{}/v1/events", api.0)).bearer_auth(&api.1).json(&body);
    let answer = request.send().await.context("sending events")?;
    let status = answer.status();
    let text = answer.text().await.context("the answer to events")?;
    ensure!(status.is_success(), "events were answered with {status}: {}", text.chars().take(300).collect::<String>());
    let answer: Value = serde_json::from_str(&text).context("the answer to events")?;
    let results = answer["results"].as_array().context("the answer to events has no results")?;
    ensure!(results.len() == events.len(), "{} events and {} results", events.len(), results.len());
    let taken = |result: &Value| match result["result"].as_str() {
        Some("accepted" | "duplicate") => Ok(()),
        _ => Err(format!("an event was refused: {result}")),
    };
    Ok(results.iter().map(taken).collect())
}
