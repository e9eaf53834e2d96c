//! Flows that are written by hand, on the real engine and the real program: every kind of node, refusals, dry runs.

use std::time::{Duration, Instant};

use estafette::actors::tracker::TrackedEvent;
use estafette::api::port::{Action, CampaignsPort, ImportOptions, Ref, Report, RunRef, SpecFormat, SpecText};
use estafette::campaigns::kinds::flow::ids;
use estafette::flow::{Exit, NodeKind};
use estafette::ids::{ContactRow, MessageId, RunId};
use estafette::ledger::facts::Unsubscribed;
use estafette::ledger::tracking::{EventClass, TrackedKind};
use estafette::ledger::{Fact, RowSet, Run};
use roaring::RoaringBitmap;
use serde_json::{Value as Json, json};

use crate::flows::null;
use crate::harness::{TestEngine, import_options};
use crate::served::{Served, file};

const PEOPLE: u32 = 1_200;

/// Row i: age i % 60, in the north if i is even; rows 1190 to 1199 share the addresses of rows 0 to 9.
fn engine() -> TestEngine {
    let engine = TestEngine::with(null);
    let mut text = String::from("id,email,region,age\n");
    for i in 0..PEOPLE {
        let region = if i % 2 == 0 { "north" } else { "south" };
        let address = if i >= PEOPLE - 10 { i + 10 - PEOPLE } else { i };
        // Rows are given in the order of keys.
        text.push_str(&format!("c{i:04},c{address}@x.test,{region},{}\n", i % 60));
    }
    let options = ImportOptions { subscribe: vec!["email:news".to_owned()], ..import_options("id") };
    let report = engine.import(options, &text);
    assert_eq!(report.accepted, u64::from(PEOPLE), "{report:?}");
    engine
}

const HEAD: &str = r#"
kind = "flow"
[audience]
all = true
[message]
channel = "email"
connector = "null"
topic = "news"
from = "News <news@example.test>"
subject = "Hello"
html = '<p>Hi <a href="https://shop.example.test/a">a</a> <a href="https://shop.example.test/b">b</a></p>'
[[nodes]]
id = "start"
kind = "start"
then = "first"
"#;

fn start(engine: &TestEngine, name: &str, nodes: &str) -> RunId {
    let text = format!("name = \"{name}\"\n{HEAD}{nodes}");
    let view = engine.adapter.create_campaign(SpecText { format: SpecFormat::Toml, text, request: None }).unwrap();
    assert!(view.problems.is_empty(), "{:?}", view.problems);
    let done = engine.adapter.act(&Ref::Id(view.summary.id), Action::Start).unwrap();
    RunId(done.run.unwrap())
}

fn with_run<T>(engine: &TestEngine, run: RunId, look: impl FnOnce(&Run) -> T) -> T {
    look(&engine.engine().book.read().runs[&run])
}

fn until(engine: &TestEngine, run: RunId, what: &str, wanted: impl Fn(&Run) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !with_run(engine, run, &wanted) {
        assert!(
            Instant::now() < deadline,
            "{what}: {:#?}",
            with_run(engine, run, |r| (r.counts(), r.reason.clone(), r.flow.clone()))
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The report of a run that has ended by itself, its sets sound.
fn finished(engine: &TestEngine, run: RunId) -> Report {
    until(engine, run, "finished", |r| !r.state.is_live());
    with_run(engine, run, |r| {
        assert_eq!(r.state.name(), "finished", "{}", r.reason);
        for delivery in &r.deliveries {
            delivery.check().unwrap();
        }
        r.positions.verify(&r.graph).unwrap();
    });
    let report = engine.adapter.report(&RunRef::Run(run.0)).unwrap();
    assert!(report.ledger.balanced, "{:?}", report.ledger);
    report
}

/// Contacts that ever came to a node.
fn arrived(report: &Report, id: &str) -> u64 {
    report.nodes.iter().find(|node| node.id == id).unwrap_or_else(|| panic!("no {id}: {:?}", report.nodes)).arrived
}

fn at(engine: &TestEngine, run: RunId, id: &str) -> RoaringBitmap {
    with_run(engine, run, |r| r.positions.at(ids::of_text(id)).cloned().unwrap_or_default())
}

fn happened(
    engine: &TestEngine,
    run: RunId,
    message: u16,
    rows: std::ops::Range<u32>,
    kind: TrackedKind,
    class: EventClass,
) {
    for row in rows {
        let (message, row) = (MessageId(message), ContactRow(row));
        let event = TrackedEvent { run, message, row, kind, class, was: None, done: None };
        engine.engine().record(event).expect("the tracker takes it").blocking_recv().expect("recorded");
    }
}

/// A node as TOML.
fn node(id: &str, kind: &str, keys: &str) -> String {
    format!("[[nodes]]\nid = \"{id}\"\nkind = \"{kind}\"\n{keys}\n")
}

fn ends(ids: &[&str]) -> String {
    ids.iter().map(|id| node(id, "end", "")).collect()
}

#[test]
fn splits_and_conditions_on_the_base_sort_everybody_once() {
    let engine = engine();
    let nodes = [
        node(
            "first",
            "condition",
            "test = \"unique\"\nkeep = \"oldest\"\nexits = { true = \"young\", false = \"twice\" }",
        ),
        node("young", "condition", "segment = 'age < 30'\nexits = { true = \"places\", false = \"old\" }"),
        node(
            "places",
            "split",
            "segments = [{ exit = \"north\", segment = 'region = \"north\"' }, { exit = \"teens\", segment = 'age < 20' }]\n\
             exits = { north = \"few\", teens = \"teens\" }",
        ),
        node(
            "few",
            "split",
            "at_most = [{ exit = \"a\", contacts = 10 }, { exit = \"b\", contacts = 20 }]\n\
             exits = { a = \"mail a\", b = \"mail b\", remaining = \"shares\" }",
        ),
        node("shares", "split", "weights = { x = 1, y = 2 }\nexits = { x = \"mail a\", y = \"mail b\" }"),
        node("mail a", "send", "then = \"done\""),
        node("mail b", "send", "then = \"done\""),
        node("done", "end", "as = \"success\""),
        node("twice", "exit", ""),
        ends(&["old", "teens"]),
    ];
    let run = start(&engine, "sorting", &nodes.concat());
    let report = finished(&engine, run);
    assert_eq!(report.entered, u64::from(PEOPLE), "all walk");
    let young = |i: &u32| *i < PEOPLE - 10 && i % 60 < 30;
    let count = |wanted: &dyn Fn(u32) -> bool| (0..PEOPLE).filter(young).filter(|i| wanted(*i)).count() as u64;
    assert_eq!(arrived(&report, "twice"), 10, "one contact per address goes on");
    assert_eq!(arrived(&report, "teens"), count(&|i| i % 2 == 1 && i % 60 < 20), "the second segment");
    assert_eq!(arrived(&report, "places.remaining"), count(&|i| i % 2 == 1 && i % 60 >= 20), "in none");
    let north = count(&|i| i % 2 == 0);
    assert_eq!(arrived(&report, "few"), north, "the first segment");
    let shares = north - 30;
    assert_eq!(arrived(&report, "shares"), shares, "beyond the numbers");
    let (x, y) = ((shares + 1) / 3, shares - (shares + 1) / 3);
    assert_eq!((arrived(&report, "mail a"), arrived(&report, "mail b")), (10 + x, 20 + y), "exact");
    assert_eq!(report.ledger.accepted, north, "{:?}", report.ledger);
    let done = report.nodes.iter().find(|node| node.id == "done").unwrap();
    assert_eq!(done.rate, Some(north as f64 / f64::from(PEOPLE)), "contacts at the end ÷ contacts entered");
    assert_eq!(done.end.as_deref(), Some("success"));
    assert_eq!(report.deliveries.len(), 2, "each send is a delivery of its own");
    let a = with_run(&engine, run, |r| r.deliveries[0].audience.clone());
    let b = with_run(&engine, run, |r| r.deliveries[1].audience.clone());
    assert!(a.is_disjoint(&b), "nobody is at two nodes");
}

#[test]
fn what_came_back_sorts_contacts_after_a_wait() {
    let engine = engine();
    let nodes = [
        node("first", "send", "then = \"wait\""),
        node("wait", "delay", "for = \"4s\"\nthen = \"reacted\""),
        node(
            "reacted",
            "split",
            "interactions = [{ exit = \"left\", test = \"unsubscribed\", topics = [\"news\"] }, \
             { exit = \"b\", test = \"clicked\", of = \"first\", links = [\"https://shop.example.test/b\"] }, \
             { exit = \"any\", test = \"clicked\", of = \"first\" }]\n\
             exits = { left = \"left\", b = \"clicked b\", any = \"clicked\", remaining = \"opened?\" }",
        ),
        node(
            "opened?",
            "condition",
            "test = \"opened\"\nof = \"first\"\nexits = { true = \"opened\", false = \"there?\" }",
        ),
        node(
            "there?",
            "condition",
            "test = \"delivered\"\nof = \"first\"\nexits = { true = \"silent\", false = \"not there\" }",
        ),
        ends(&["left", "clicked b", "clicked", "opened", "silent", "not there"]),
    ];
    let run = start(&engine, "reactions", &nodes.concat());
    until(&engine, run, "the message is sent", |r| r.deliveries[0].accepted.len() == u64::from(PEOPLE) - 10);
    let click = |link| TrackedKind::Clicked { link };
    happened(&engine, run, 0, 100..150, click(0), EventClass::Human);
    happened(&engine, run, 0, 150..170, click(1), EventClass::Human);
    happened(&engine, run, 0, 170..180, click(1), EventClass::Machine);
    happened(&engine, run, 0, 100..300, TrackedKind::Opened, EventClass::Human);
    let fact = Fact::Unsubscribed(Unsubscribed {
        run,
        message: MessageId(0),
        rows: RowSet::base((145..160).collect()),
        channel: estafette::ids::Channel::Email,
        topic: "news".to_owned(),
        source: "test".to_owned(),
        at: engine.engine().book.now(),
        addresses: Vec::new(),
    });
    engine.engine().book.commit_durable(&fact).unwrap();
    let report = finished(&engine, run);
    for (id, contacts) in [("left", 15), ("clicked b", 10), ("clicked", 45), ("opened", 130), ("not there", 10)] {
        assert_eq!(arrived(&report, id), contacts, "{id}");
    }
    assert_eq!(arrived(&report, "silent"), u64::from(PEOPLE) - 210, "the others");
}

#[test]
fn a_split_on_open_lets_go_at_the_open_and_the_undelivered_apart() {
    let engine = engine();
    let nodes = [
        node(
            "first",
            "send",
            "split_on_open = \"30m\"\nexits = { opened = \"thanks\", not_opened = \"done\", undelivered = \"nothing sent\" }",
        ),
        node("thanks", "send", "then = \"done\"\nmessage = { subject = \"Thanks\" }"),
        ends(&["done", "nothing sent"]),
    ];
    let run = start(&engine, "opens", &nodes.concat());
    until(&engine, run, "the message is sent", |r| r.deliveries[0].accepted.len() == u64::from(PEOPLE) - 10);
    happened(&engine, run, 0, 20..60, TrackedKind::Opened, EventClass::Human);
    until(&engine, run, "who opened is thanked", |r| r.deliveries[1].accepted.len() == 40);
    assert_eq!(
        at(&engine, run, "nothing sent").len(),
        10,
        "the second of an address got nothing, and is no non-opener"
    );
    let waiting = with_run(&engine, run, |r| {
        let wait = r.graph.nodes().find(|n| matches!(n.kind, NodeKind::Delay(_))).expect("the wait").id;
        r.positions.count(wait)
    });
    assert_eq!(waiting, u64::from(PEOPLE) - 50, "the others wait for the time-out");
    engine.adapter.act(&Ref::Name("opens".to_owned()), Action::Stop).unwrap();
}

#[test]
fn engagement_counts_messages_of_all_campaigns_and_a_kill_changes_no_assignment() {
    let engine = engine();
    for (name, rows) in [("one", 0..60), ("two", 40..80)] {
        let run = start(&engine, name, &[node("first", "send", "then = \"end\""), ends(&["end"])].concat());
        finished(&engine, run);
        happened(&engine, run, 0, rows, TrackedKind::Opened, EventClass::Human);
    }
    let ask = |id: &str, more: &str, yes: &str, no: &str| {
        node(
            id,
            "condition",
            &format!("test = \"engaged\"\nwithin = \"7d\"\n{more}\nexits = {{ true = \"{yes}\", false = \"{no}\" }}"),
        )
    };
    let nodes = [
        ask("first", "did = \"opened\"\nat_least = 2", "often", "once?"),
        ask("once?", "", "some", "never"),
        node("some", "send", "then = \"shares\""),
        node("shares", "split", "weights = { x = 1, y = 1 }\nexits = { x = \"x\", y = \"y\" }"),
        ends(&["often", "never"]),
        node("x", "delay", "for = \"1d\"\nthen = \"often\""),
        node("y", "delay", "for = \"1d\"\nthen = \"never\""),
    ];
    let run = start(&engine, "engaged", &nodes.concat());
    until(&engine, run, "all who got the message are shared out", |r| {
        r.positions.count(ids::of_text("x")) + r.positions.count(ids::of_text("y")) == 60
    });
    assert_eq!(at(&engine, run, "often"), (40..60).collect(), "two messages");
    assert_eq!(at(&engine, run, "never"), (80..PEOPLE).collect(), "none");
    let (x, y) = (at(&engine, run, "x"), at(&engine, run, "y"));
    assert!((x.len() as i64 - y.len() as i64).abs() <= 50 && x.is_disjoint(&y), "{} and {}", x.len(), y.len());
    let left = with_run(&engine, run, |r| r.flow.left_by(ids::of_text("shares"), &Exit("x".into())));
    assert_eq!(left, x.len(), "as journaled");
    // What is durable now holds every move before it.
    let (name, text, now) = ("later".to_owned(), "age > 3".to_owned(), engine.engine().book.now());
    engine.engine().book.commit_durable(&Fact::SegmentSaved { name, text, at: now }).unwrap();
    let engine = engine.killed();
    assert_eq!((at(&engine, run, "x"), at(&engine, run, "y")), (x, y), "the assignment is what was journaled");
}

#[test]
fn everything_that_is_wrong_is_listed_with_its_node() {
    let server = Served::start("[[connectors]]\nname = \"inbox\"\nkind = \"inbox\"\n");
    let wrong = format!(
        "name = \"wrong\"\n{}{}",
        HEAD.replace("\"null\"", "\"inbox\""),
        [
            node(
                "first",
                "condition",
                "test = \"opened\"\nof = \"mail\"\nexits = { true = \"mail\", maybe = \"mail\" }"
            ),
            node("mail", "send", ""),
            node("lost", "end", ""),
        ]
        .concat()
    );
    let path = server.write("wrong.toml", &wrong);
    let check = server.cli(&["campaign", "check", &path, "--json"]).json(6);
    let told: Vec<(&str, &str)> = check["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["code"].as_str().unwrap(), p["node"].as_str().unwrap_or_default()))
        .collect();
    for expected in [
        ("unknown_exit", "first"),
        ("dangling_exit", "mail"),
        ("asks_before_the_send", "first"),
        ("nothing_sent_yet", "first"),
        ("unreachable", "lost"),
    ] {
        assert!(told.contains(&expected), "{expected:?}: {check:#}");
    }
    let text = server.cli(&["campaign", "check", &path]).expect(6);
    assert!(text.contains("node mail") && text.contains("[dangling_exit]") && text.contains('→'), "{text}");
    server.post_text("/v1/campaigns", "application/toml", wrong).expect(201);
    let refused = server.act("wrong", "start").refused("campaign_incomplete", "unknown_exit");
    assert_eq!(refused["details"]["problems"][0]["node"], "first", "{refused}");
    server.post("/v1/campaigns/wrong/dry-run", &json!({})).refused("campaign_incomplete", "first");
    let share = server.post("/v1/campaigns/wrong/dry-run", &json!({"rates": {"opened": 1.5}}));
    share.refused("invalid_parameter", "rates.opened");
}

fn with_people() -> Served {
    let server = Served::start("[[connectors]]\nname = \"inbox\"\nkind = \"inbox\"\n");
    let contacts = std::fs::read(file("examples/contacts.csv")).unwrap();
    let report = server.import("key=id&subscribe=email:news", contacts);
    assert_eq!(report["accepted"], 10, "{report}");
    server
}

fn dry_node<'j>(dry: &'j Json, id: &str) -> &'j Json {
    let nodes = dry["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("no {id} in {dry:#}"))
}

#[test]
fn a_dry_run_says_who_would_be_where_and_when_and_changes_nothing() {
    let server = with_people();
    let path = file("examples/welcome-flow.toml");
    let path = path.to_str().unwrap();
    let check = server.cli(&["campaign", "check", path, "--json"]).json(0);
    assert_eq!((&check["problems"], &check["warnings"]), (&json!([]), &json!([])), "{check:#}");
    server.cli(&["campaign", "create", path]).expect(0);
    let before = server.get("/v1/campaigns/welcome-flow");
    let body = json!({"at": "2026-12-01T08:00:00Z", "rates": {"opened": 0.5}});
    let dry = server.post("/v1/campaigns/welcome-flow/dry-run", &body).expect(200);
    assert_eq!(dry["entered"], 10, "{dry:#}");
    assert_eq!(dry_node(&dry, "twice")["contacts"], json!({"at_least": 1, "at_most": 1}), "known from the base");
    assert_eq!(dry_node(&dry, "welcome")["messages"], json!({"at_least": 9, "at_most": 9}), "{dry:#}");
    let remind = dry_node(&dry, "remind");
    let reminded = remind["contacts"]["at_least"].as_u64().unwrap();
    assert!((4..=5).contains(&reminded), "half of nine, as assumed: {remind}");
    assert_eq!(
        remind["arrivals"][0]["at"].as_str().map(|at| &at[..10]),
        Some("2026-12-06"),
        "after five days: {remind}"
    );
    let silent = dry_node(&dry, "silent");
    assert_eq!(silent["contacts"], json!({"at_least": 0, "at_most": reminded}), "clicks are unknown: {silent}");
    assert!(dry["assumptions"].to_string().contains("clicked is unknown"), "{dry:#}");
    let text = server.cli(&["campaign", "dry-run", "welcome-flow", "--assume", "opened=50%"]).expect(0);
    assert!(text.contains("nothing is sent") && text.contains("remind") && text.contains("0 to"), "{text}");
    assert_eq!(server.get("/v1/campaigns/welcome-flow"), before, "nothing has changed");
    assert!(server.mails_to("chloe@fr.example.test").is_empty(), "nothing was sent");
    for (args, names) in [(["--assume", "opend=5%"], "opend"), (["--at", "tomorrow"], "tomorrow")] {
        let ran = server.cli(&["campaign", "dry-run", "welcome-flow", args[0], args[1]]);
        assert!(ran.code != 0 && ran.err.contains(names), "{args:?}: {ran:?}");
    }
}

#[test]
fn the_examples_of_flows_do_what_they_say() {
    let server = with_people();
    for name in ["welcome-flow", "splits-flow"] {
        let path = file(&format!("examples/{name}.toml"));
        server.cli(&["campaign", "create", path.to_str().unwrap()]).expect(0);
        let graph = server.cli(&["campaign", "graph", name]).expect(0);
        assert!(graph.starts_with("start (start)\n"), "{graph}");
        let mermaid = server.cli(&["campaign", "graph", name, "--format", "mermaid"]).expect(0);
        assert!(mermaid.starts_with("flowchart TD"), "{mermaid}");
        let graph: Json = server.cli(&["campaign", "graph", name, "--format", "json"]).json(0);
        assert_eq!(graph["nodes"][0]["id"], "start", "{graph:#}");
        server.cli(&["campaign", "start", name]).expect(0);
    }
    let splits = server.await_state("splits-flow", "finished");
    let arrived = |id: &str| {
        let nodes = splits["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("{id}: {splits:#}"))["arrived"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(arrived("voucher"), 2, "two at most");
    assert_eq!(arrived("warm") + arrived("cool") + 2 + arrived("country.remaining"), 10, "everybody is somewhere once");
    assert_eq!(arrived("reacted"), arrived("warm") + arrived("cool") + 2, "branches merge");
    let report = server.cli(&["campaign", "report", "splits-flow"]).expect(0);
    assert!(report.contains("of those who entered") && report.contains("voucher"), "{report}");
    server.until("the welcome is sent", || {
        let report = server.report("welcome-flow");
        (report["ledger"]["accepted"] == 9).then_some(())
    });
    assert_eq!(server.report("welcome-flow")["entered"], 10, "one of two with the same address left");
    let graph = server.cli(&["campaign", "graph", "welcome-flow"]).expect(0);
    assert!(graph.contains("Five days: the shop") && graph.contains("9 contacts"), "{graph}");
    server.cli(&["campaign", "stop", "welcome-flow"]).expect(0);
}
