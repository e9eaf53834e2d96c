//! What a second look found: grids with dates before they start, ends of offers, what is still in use, reports of several
//! deliveries.

use serde_json::{Value as Json, json};

use crate::served::Served;

const NULL: &str = "[[connectors]]\nname = \"null\"\nkind = \"null\"\n";

fn codes(found: &Json, which: &str) -> Vec<String> {
    let problems = found[which].as_array().cloned().unwrap_or_default();
    problems.iter().map(|problem| problem["code"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A grid of who is first and the nine others.
fn grid(cells: &Json, schedule: &Json) -> Json {
    json!({
        "kind": "multi_segment",
        "dimensions": [{"name": "who", "others": true, "segments": [{"name": "first", "segment": "key = \"p000000\""}]}],
        "cells": cells,
        "schedule": schedule,
    })
}

#[test]
fn a_grid_with_dates_counts_its_contacts_before_they_wait() {
    let server = Served::start(NULL);
    server.people("p", 10, "x.test");
    let dated = json!({"at": "2096-02-29T09:00", "zone": "Europe/Paris"});
    let cells = json!([{"where": {"who": "first"}}, {"message": {"subject": "Later"}, "schedule": dated}]);
    server.campaign("cells", "null", "p", &grid(&cells, &json!({})));
    server.campaign("clocks", "null", "p", &grid(&json!([{}]), &json!({"at": "2096-02-29T09:00", "zone": "contact"})));
    for name in ["cells", "clocks"] {
        let look = server.post(&format!("/v1/campaigns/{name}/audience"), &json!({})).expect(200);
        let counts: Vec<u64> =
            look["cells"].as_array().unwrap().iter().filter_map(|c| c["contacts"].as_u64()).collect();
        assert_eq!((counts, &look["without_cell"]), (vec![1, 9], &json!(0)), "{name}: {look}");
    }
    // Nobody means the others: they get nothing, and that is told.
    let open = grid(&json!([{"where": {"who": "first"}}]), &json!({}));
    server.campaign("open", "null", "p", &open);
    let view = server.get("/v1/campaigns/open");
    assert_eq!(codes(&view, "warnings"), ["place_without_cell"], "{view}");
    // With a control group the cells are as small as they will be.
    let mut held = grid(&json!([{}]), &json!({}));
    held["audience"] = json!({"list": "p", "hold_out": 5});
    server.campaign("held", "null", "p", &held);
    let look = server.post("/v1/campaigns/held/audience", &json!({})).expect(200);
    let sum: u64 = look["cells"].as_array().unwrap().iter().filter_map(|c| c["contacts"].as_u64()).sum();
    assert_eq!((sum, &look["final"]), (5, &json!(5)), "{look}");
}

#[test]
fn a_dated_cell_starts_five_minutes_after_the_start_at_the_earliest() {
    let server = Served::start(NULL);
    server.people("p", 10, "x.test");
    let soon = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(2)).unwrap();
    let cells = json!([{"where": {"who": "first"}}, {"schedule": {"at": soon.to_string()}}]);
    server.campaign("cells", "null", "p", &grid(&cells, &json!({})));
    server.act("cells", "start").expect(200);
    server.until("the first cell is sent", || (server.count("cells", "accepted") == 1).then_some(()));
    let calendar = server.get("/v1/calendar?from=2020-01-01T00:00:00Z&to=2097-01-01T00:00:00Z");
    let part = calendar["items"].as_array().unwrap().iter().find(|item| !item["part"].is_null()).cloned().unwrap();
    let starts: jiff::Timestamp = part["effective_start"].as_str().unwrap().parse().unwrap();
    assert!(starts.duration_since(soon).as_secs() > 290, "{part}");
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(server.count("cells", "accepted"), 1, "the other can still be taken back");
    assert_eq!(server.act("cells", "stop").expect(200)["ledger"]["skipped_by"]["stopped"], 9);
}

#[test]
fn what_a_run_of_an_earlier_version_needs_is_in_use() {
    let server = Served::start(&format!("schedule_safety_minutes = 0\n{NULL}"));
    server.people("p", 10, "x.test");
    for name in ["early", "late"] {
        server.post("/v1/segments", &json!({"name": name, "expression": "key = \"p000000\""})).expect(201);
    }
    let nodes = |segment: &str| {
        json!([
            {"id": "start", "kind": "start", "then": "wait"},
            {"id": "wait", "kind": "delay", "for": "1d", "then": "who"},
            {"id": "who", "kind": "condition", "segment": format!("in segment \"{segment}\""), "exits": {"true": "mail"}},
            {"id": "mail", "kind": "send", "then": "end"},
            {"id": "end", "kind": "end"},
        ])
    };
    let first = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(1)).unwrap().to_string();
    let dates = json!({"dates": [first, "2096-01-01T00:00:00Z"]});
    server.campaign("flow", "null", "p", &json!({"kind": "flow", "nodes": nodes("early"), "schedule": dates}));
    server.act("flow", "start").expect(200);
    server.until("the first launch", || {
        let runs = server.get("/v1/campaigns/flow/runs");
        (runs["items"].as_array().unwrap().len() == 1).then_some(())
    });
    let patch = json!({"nodes": nodes("late")});
    server.call(reqwest::Method::PATCH, "/v1/campaigns/flow", &patch).expect(200);
    for name in ["early", "late"] {
        let refused = server.call(reqwest::Method::DELETE, &format!("/v1/segments/{name}"), &Json::Null);
        refused.refused("segment_in_use", "campaign \\\"flow\\\"");
    }
    server.act("flow", "stop").expect(200);
    for name in ["early", "late"] {
        server.call(reqwest::Method::DELETE, &format!("/v1/segments/{name}"), &Json::Null).expect(204);
    }
}

#[test]
fn a_resend_keeps_the_rules_of_what_it_continues_and_a_follow_up_has_a_ledger_in_the_report() {
    let server = Served::start(NULL);
    server.people("p", 10, "x.test");
    let follow_up = json!({"on": "not_opened", "after": "1s", "message": {"subject": "Again"}});
    let more = json!({
        "follow_up": follow_up, "send_until": "2096-01-01T00:00:00Z",
        "auto_pause": {"hard_bounces": "5%", "minimum": 1000},
    });
    server.campaign("offer", "null", "p", &more);
    server.act("offer", "start").expect(200);
    let report = server.await_state("offer", "finished");
    let names: Vec<&Json> = report["deliveries"].as_array().unwrap().iter().map(|delivery| &delivery["name"]).collect();
    assert_eq!(names, ["send", "follow-up"], "{report}");
    let said = server.cli(&["report", "offer"]).expect(0);
    assert!(said.contains("delivery 1 (follow-up): audience 10, accepted 10"), "{said}");
    server.cli(&["campaign", "resend", "offer", "--set", "not_opened", "--draft", "--name", "again"]).expect(0);
    let spec = server.get("/v1/campaigns/again")["spec"].clone();
    assert_eq!(spec["send_until"], "2096-01-01T00:00:00Z", "{spec}");
    assert_eq!(spec["auto_pause"], json!({"hard_bounces": "5%", "minimum": 1000}), "{spec}");
}

#[test]
fn the_graph_and_the_report_say_what_delivered_means() {
    let server = Served::start(NULL);
    server.people("p", 10, "x.test");
    let nodes = json!([
        {"id": "start", "kind": "start", "then": "mail"},
        {"id": "mail", "kind": "send", "then": "came"},
        {"id": "came", "kind": "condition", "test": "delivered", "of": "mail", "exits": {"true": "end"}},
        {"id": "end", "kind": "end"},
    ]);
    server.campaign("flow", "null", "p", &json!({"kind": "flow", "nodes": nodes}));
    server.act("flow", "start").expect(200);
    let report = server.await_state("flow", "finished");
    let node = report["nodes"].as_array().unwrap().iter().find(|node| node["id"] == "came").cloned().unwrap();
    assert!(node["does"].as_str().unwrap().contains("accepted and not bounced so far"), "{node}");
    let graph = server.cli(&["campaign", "graph", "flow"]).expect(0);
    assert!(graph.contains("accepted and not bounced so far"), "{graph}");
    let said = server.cli(&["report", "flow"]).expect(0);
    assert!(said.contains("accepted and not bounced so far"), "{said}");
}

#[test]
fn what_is_archived_is_read_and_lets_go_of_what_it_named() {
    let server = Served::start(NULL);
    server.people("p", 10, "x.test");
    server.post("/v1/segments", &json!({"name": "some", "expression": "key = \"p000000\""})).expect(201);
    let draft = json!({"audience": {"segment": "in segment \"some\""}});
    server.campaign("draft", "null", "p", &draft);
    let delete = || server.call(reqwest::Method::DELETE, "/v1/segments/some", &Json::Null);
    delete().refused("segment_in_use", "archive");
    server.cli(&["campaign", "archive", "draft"]).expect(0);
    delete().expect(204);
    let view = server.get("/v1/campaigns/draft");
    assert_eq!((&view["state"], &view["legal_moves"]), (&json!("archived"), &json!([])), "{view}");
    for action in ["start", "stop", "archive"] {
        server.act("draft", action).refused("illegal_move", "archived");
    }
    let patch = server.call(reqwest::Method::PATCH, "/v1/campaigns/draft", &json!({"audience": {"all": true}}));
    patch.refused("campaign_locked", "archived");

    server.campaign("sent", "null", "p", &json!({"limits": {"messages_per_second": 2}}));
    server.act("sent", "start").expect(200);
    server.act("sent", "archive").refused("illegal_move", "stop it first");
    server.await_state("sent", "finished");
    server.act("sent", "archive").expect(200);
    assert_eq!(server.report("sent")["ledger"]["accepted"], 10, "what it did can be read");
    assert_eq!(server.get("/v1/campaigns/sent")["state"], "archived");
    let listed = server.get("/v1/campaigns?state=archived");
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
}
