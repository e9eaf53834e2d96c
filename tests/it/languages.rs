//! Messages in several languages in every kind of campaign that sends, saved messages of its parts, control groups of flows,
//! and dates of parts in the calendar, on the real program.

use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::served::Served;

const INBOX: &str = "schedule_safety_minutes = 0\n[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";

/// Three each who speak German, French and Italian; the first of each is young.
fn served() -> Served {
    let server = Served::start(INBOX);
    let mut csv = String::from("id,email,language,age\n");
    for (at, language) in ["de", "fr-CA", "it"].iter().enumerate() {
        for i in 0..3 {
            let n = at * 3 + i;
            csv.push_str(&format!("p{n},p{n}@x.test,{language},{}\n", if i == 0 { 20 } else { 50 }));
        }
    }
    let report = server.import("key=id&subscribe=email:news", csv);
    assert_eq!(report["accepted"], 9, "{report}");
    server
}

fn spec(name: &str, kind: &str, more: &Json) -> Json {
    let mut spec = json!({
        "name": name, "kind": kind, "audience": {"all": true},
        "message": {
            "channel": "email", "connector": "relay", "topic": "news", "from": "News <news@example.test>",
            "subject": "Hello", "text": "Text {{ unsubscribe_url }}", "default_language": "en",
            "languages": {"de": {"subject": "Hallo"}, "fr": {"subject": "Bonjour"}},
        },
    });
    let fields = spec.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    spec
}

fn run(server: &Served, spec: &Json) -> Json {
    let name = spec["name"].as_str().unwrap().to_owned();
    let made = server.post("/v1/campaigns", spec).expect(201);
    assert_eq!(made["problems"], json!([]), "{made:#}");
    server.act(&name, "start").expect(200);
    server.await_state(&name, "finished")
}

/// Whether the inbox holds a mail to somebody with this subject.
fn got(server: &Served, contact: usize, subject: &str) -> bool {
    server.mails_to(&format!("p{contact}@x.test")).iter().any(|mail| mail.contains(&format!("Subject: {subject}")))
}

#[test]
fn each_contact_gets_its_language_in_every_kind() {
    let server = served();
    run(
        &server,
        &spec(
            "grid",
            "multi_segment",
            &json!({
                "dimensions": [{"name": "age", "others": true, "segments": [{"name": "young", "segment": "age < 30"}]}],
                "cells": [
                    {"where": {"age": "young"}, "message": {"subject": "Young", "languages": {"de": {"subject": "Jung"}}}},
                    {"where": {"age": "others"}},
                ],
            }),
        ),
    );
    for (contact, subject) in [(0, "Jung"), (3, "Young"), (6, "Young"), (1, "Hallo"), (4, "Bonjour"), (7, "Hello")] {
        assert!(got(&server, contact, subject), "p{contact} gets {subject}: {:?}", server.mails_to("p0@x.test"));
    }
    let flow = json!({"nodes": [
        {"id": "start", "kind": "start", "then": "mail"},
        {"id": "mail", "kind": "send", "then": "sent", "message": {"subject": "Flow", "languages": {"fr": {"subject": "Flux"}}}},
        {"id": "sent", "kind": "condition", "test": "delivered", "of": "mail", "exits": {"true": "good", "false": "bad"}},
        {"id": "good", "kind": "end", "as": "success"},
        {"id": "bad", "kind": "end", "as": "failure"},
    ]});
    let report = run(&server, &spec("flow", "flow", &flow));
    for (contact, subject) in [(0, "Flow"), (3, "Flux"), (6, "Flow")] {
        assert!(got(&server, contact, subject), "p{contact} gets {subject}");
    }
    let nodes = report["nodes"].as_array().unwrap_or_else(|| panic!("nodes: {report:#}"));
    let good = nodes.iter().find(|node| node["id"] == "good").unwrap_or_else(|| panic!("good: {report:#}"));
    assert_eq!(good["entered"].as_u64().or(good["contacts"].as_u64()), Some(9), "asked about in all languages: {good}");
    let variants = json!({
        "variants": [{"name": "A", "subject": "Split A"}, {"name": "B", "subject": "Split B", "languages": {"de": {"subject": "Teil B"}}}],
        "test": {"sample": "100%", "decide_after": "1s", "window": "0s", "winner_by": "clicks"},
    });
    let mut split = spec("split", "ab_split", &variants);
    split["test"].as_object_mut().unwrap().remove("window");
    let check = server.post("/v1/campaigns/check", &split).expect(200);
    assert_eq!(check["problems"], json!([]), "{check:#}");
    server.post("/v1/campaigns", &split).expect(201);
    server.act("split", "start").expect(200);
    server.until("all have a variant", || (server.count("split", "accepted") == 9).then_some(()));
    let split_subjects = ["Split A", "Split B", "Teil B"];
    for contact in 0..9 {
        let each = split_subjects.iter().filter(|subject| got(&server, contact, subject)).count();
        assert_eq!(each, 1, "p{contact} gets one version");
        assert!(contact < 3 || !got(&server, contact, "Teil B"), "only who speaks it: p{contact}");
        assert!(contact >= 3 || !got(&server, contact, "Split B"), "who speaks it gets no other: p{contact}");
    }
}

#[test]
fn parts_name_saved_messages_that_are_pinned_when_the_campaign_starts() {
    let server = served();
    let message = |text: &str| json!({"channel": "email", "from": "News <news@example.test>", "subject": text, "text": "T {{ unsubscribe_url }}"});
    server.call(Method::PUT, "/v1/messages/offer", &message("Saved one")).expect(201);
    let split = spec(
        "split",
        "ab_split",
        &json!({"variants": [{"name": "A", "saved": "offer"}, {"name": "B", "subject": "Own"}],
                "test": {"sample": "100%", "decide_after": "1h"}}),
    );
    let unknown = json!({"variants": [{"name": "A", "saved": "ofer"}, {"name": "B", "saved": "none"}]});
    let check = server.post("/v1/campaigns/check", &spec("wrong", "ab_split", &unknown)).expect(200);
    let paths: Vec<&str> = check["problems"].as_array().unwrap().iter().map(|p| p["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["variants.0.saved", "variants.1.saved"], "each that is not there, and nothing else: {check:#}");
    server.post("/v1/campaigns", &split).expect(201);
    server.act("split", "start").expect(200);
    server.call(Method::PUT, "/v1/messages/offer", &message("Saved two")).expect(200);
    server.until("all have a variant", || (server.count("split", "accepted") == 9).then_some(()));
    let saved = (0..9).filter(|contact| got(&server, *contact, "Saved one")).count();
    assert!((4..=5).contains(&saved), "half of them, as it was at the start: {saved}");
    assert!((0..9).all(|contact| !got(&server, contact, "Saved two")), "what is saved later does not touch it");
    assert_eq!(server.get("/v1/campaigns/split")["spec"]["variants"][0]["saved_version"], 1, "the version is told");
}

#[test]
fn a_flow_has_a_control_group_that_gets_nothing_of_it() {
    let server = served();
    let flow = json!({
        "audience": {"all": true, "hold_out": 3},
        "nodes": [
            {"id": "start", "kind": "start", "then": "one"},
            {"id": "one", "kind": "send", "then": "two", "message": {"subject": "One"}},
            {"id": "two", "kind": "send", "then": "end", "message": {"subject": "Two"}},
            {"id": "end", "kind": "end"},
        ],
    });
    let made = spec("flow", "flow", &flow);
    server.post("/v1/campaigns", &made).expect(201);
    let dry = server.post("/v1/campaigns/flow/dry-run", &json!({})).expect(200);
    assert_eq!(dry["entered"], 6, "the dry run leaves them out: {dry:#}");
    server.act("flow", "start").expect(200);
    let report = server.await_state("flow", "finished");
    let held = server.keys("flow", "skipped:hold_out");
    assert_eq!(held.len(), 3, "exactly so many: {report:#}");
    for contact in 0..9 {
        let is_held = held.contains(&format!("p{contact}"));
        assert_eq!(server.mails_to(&format!("p{contact}@x.test")).is_empty(), is_held, "p{contact}: both or nothing");
    }
}

#[test]
fn the_calendar_lists_dates_of_cells_and_moves_them() {
    let server = served();
    let soon = |hours: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        at.to_zoned(jiff::tz::TimeZone::UTC).datetime().round(jiff::Unit::Second).unwrap().to_string()
    };
    let grid = spec(
        "grid",
        "multi_segment",
        &json!({
            "schedule": {"at": soon(1), "zone": "UTC"},
            "dimensions": [{"name": "age", "others": true, "segments": [{"name": "young", "segment": "age < 30"}]}],
            "cells": [
                {"where": {"age": "young"}, "schedule": {"at": soon(5), "zone": "UTC"}, "message": {"subject": "Young"}},
                {"where": {"age": "others"}, "message": {"subject": "Old"}},
            ],
        }),
    );
    let made = server.post("/v1/campaigns", &grid).expect(201);
    assert_eq!(made["problems"], json!([]), "{made:#}");
    server.act("grid", "start").expect(200);
    let calendar = || server.get("/v1/calendar")["items"].as_array().unwrap().clone();
    let items = calendar();
    assert_eq!(items.len(), 2, "the launch and the cell: {items:#?}");
    assert_eq!((&items[0]["date"], &items[1]["part"]), (&json!("schedule.at"), &json!("age = young")), "{items:#?}");
    let moved = soon(7);
    let date = items[1]["date"].as_str().unwrap().to_owned();
    server.cli(&["calendar", "move", "grid", &date, &moved]).expect(0);
    let planned = calendar()[1]["planned"].as_str().unwrap().to_owned();
    assert!(planned.starts_with(&moved), "{planned} is {moved}");
    let past = json!({"campaign": "grid", "date": date, "at": "2020-01-01T00:00"});
    server.post("/v1/calendar/move", &past).refused("campaign_incomplete", "date_past");
    let none = json!({"campaign": "grid", "date": "cells.1.schedule.at", "at": moved});
    server.post("/v1/calendar/move", &none).refused("invalid_parameter", "cells.1");
    let launch = json!({"campaign": "grid", "date": "schedule.at", "at": soon(2)});
    server.post("/v1/calendar/move", &launch).expect(200);
    assert!(calendar()[0]["planned"].as_str().unwrap().starts_with(&soon(2)[..13]), "the launch is moved, too");
}
