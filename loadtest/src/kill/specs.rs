//! The specs of the scenario's campaigns. Owns no state: each is a function of the campaign's name and number.
//!
//! Waits are of seconds, so that a scenario of a minute has kills before, in and behind each of them.

use serde_json::{Value, json};

use super::kinds::{FIVES, Kind, ONES, soon, subject};
use crate::message::TOPIC;

/// A segment of all contacts of one import.
pub fn batch(name: &str) -> Value {
    json!({"segment": format!("batch = \"{name}\"")})
}

/// What all campaigns share; the subject is that of delivery 0.
fn common(name: &str, audience: &Value, rate: Option<u64>) -> Value {
    let mut spec = json!({
        "name": name,
        "kind": "single",
        "audience": audience,
        "message": {
            "channel": "email",
            "connector": "relay",
            "topic": TOPIC,
            "from": "News <news@example.test>",
            "subject": subject(name, 0, "only"),
            "html": "<p>Hello {{ contact.first_name }}, see <a href=\"https://shop.example.test/a\">this</a>. \
                     <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></p>",
            "text": "Hello {{ contact.first_name }}, see https://shop.example.test/a\n{{ unsubscribe_url }}\n",
        },
    });
    if let Some(rate) = rate {
        spec["limits"] = json!({"messages_per_second": rate});
    }
    spec
}

/// The spec of the `number`th campaign of its kind. A one-shot campaign's audience names its upload.
pub fn spec(kind: Kind, name: &str, number: usize, audience: &Value, rate: Option<u64>) -> Value {
    let mut spec = common(name, audience, rate);
    let more = match kind {
        Kind::Single => json!({}),
        Kind::FollowUp => follow_up(name),
        Kind::AbSplit => ab_split(name, number),
        Kind::MultiSegment => multi_segment(name),
        Kind::Flow => flow(name),
        Kind::Sequence => json!({"kind": "sequence", "zone": "UTC"}),
        Kind::Scheduled => scheduled(number),
        Kind::OneShot => {
            // The operator's word stands in for the topic's consent.
            if let Some(message) = spec["message"].as_object_mut() {
                message.remove("topic");
            }
            json!({})
        }
    };
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

fn follow_up(name: &str) -> Value {
    let message = json!({"subject": subject(name, 1, "again")});
    json!({"follow_up": {"on": "not_opened", "after": "2s", "message": message}})
}

/// Names of the versions of a split.
pub const VERSIONS: [&str; 3] = ["a", "b", "c"];

fn ab_split(name: &str, number: usize) -> Value {
    let variants = VERSIONS.map(|version| json!({"name": version, "subject": subject(name, 0, version)}));
    // Every kind of end: by proof or at the deadline, and where nothing is proven by the leader, a person, or nobody.
    let otherwise = ["leader", "wait", "b", "nobody"][number % 4];
    json!({
        "kind": "ab_split",
        "variants": variants,
        "test": {
            "sample": "60%", "winner_by": "conversions", "decide_after": "7s", "window": "3s", "looks": 3,
            "min_delivered": 10, "min_events": 2, "if_not_proven": otherwise,
        },
    })
}

fn multi_segment(name: &str) -> Value {
    let dimension = |name: &str, segment: &str, expression: &str| json!({"name": name, "others": true, "segments": [{"name": segment, "segment": expression}]});
    let message = |version: &str| json!({"subject": subject(name, 0, version)});
    json!({
        "kind": "multi_segment",
        "dimensions": [dimension("at", "ones", ONES), dimension("number", "fives", FIVES)],
        "cells": [
            {"where": {"at": "ones", "number": "fives"}, "message": message("w")},
            {"where": {"at": "ones"}, "message": message("x")},
            {"where": {"number": "fives"}, "message": message("y"), "schedule": {"at": soon(4_000)}},
            {"message": message("z")},
        ],
    })
}

/// Deliveries: 0 `first` to all; 1 `second` after a wait, shared with `third`; 2 `fourth` to those who did not click.
fn flow(name: &str) -> Value {
    let send = |id: &str, delivery: u16, then: &str| json!({"id": id, "kind": "send", "then": then, "message": {"subject": subject(name, delivery, id)}});
    let shared = |id: &str| {
        let mut node = send(id, 1, "well");
        node["delivery"] = json!("again");
        node
    };
    json!({
        "kind": "flow",
        "nodes": [
            {"id": "start", "kind": "start", "then": "first"},
            send("first", 0, "shares"),
            {"id": "shares", "kind": "split", "weights": {"left": 1, "right": 1}, "exits": {"left": "nap", "right": "asked"}},
            {"id": "nap", "kind": "delay", "for": "2s", "then": "second"},
            shared("second"),
            {"id": "asked", "kind": "condition", "segment": ONES, "exits": {"true": "third", "false": "patience"}},
            shared("third"),
            {"id": "patience", "kind": "delay", "event": "clicked", "of": "first", "timeout": "3s",
             "exits": {"happened": "well", "timed_out": "fourth"}},
            send("fourth", 2, "silent"),
            {"id": "well", "kind": "end", "as": "success"},
            {"id": "silent", "kind": "end", "as": "abandon"},
        ],
    })
}

/// Launches of a campaign with several dates.
pub const DATES: usize = 3;

/// Whether the `number`th scheduled campaign goes on until it is stopped.
pub fn is_recurring(number: usize) -> bool {
    number % 2 == 1
}

fn scheduled(number: usize) -> Value {
    if is_recurring(number) {
        return json!({"schedule": {"every": "* * * * *", "zone": "UTC"}});
    }
    let dates: Vec<String> = (1..).take(DATES).map(|at| soon(at * 3_000)).collect();
    json!({"schedule": {"dates": dates}})
}
