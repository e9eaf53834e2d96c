//! What breaks around a running campaign: a connector that is taken away, a relay that is slow or goes down, the server's own
//! end amid everything.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use loadtest::server::ADMIN_KEY;
use loadtest::sink::SinkOptions;
use loadtest::sink::process::SinkProcess;
use loadtest::sink::record;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::served::Served;
use crate::sink;

/// The test that is the sink when asked to.
const SINK: &str = "outages::a_relay_that_takes_its_time_loses_no_connection";

fn relay(port: u16, connections: u32) -> String {
    format!(
        "[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         connections_max = {connections}\n"
    )
}

#[test]
fn a_relay_that_takes_its_time_loses_no_connection() {
    if sink::be_the_sink_if_asked() {
        return;
    }
    let record = tempfile::tempdir().unwrap();
    let file = record.path().join("record");
    let options = SinkOptions { record: Some(file.clone()), latency: "20".parse().unwrap(), ..SinkOptions::default() };
    let sink = sink::start(SINK, &options);
    let server = Served::start(&relay(sink.address.port(), 4));
    // Long enough for what is claimed ahead of the lanes to be taken back, were it too much.
    server.people("p", 1_200, "x.test");
    server.campaign("slow", "relay", "p", &json!({}));
    server.act("slow", "start").expect(200);
    let ledger = server.await_state("slow", "finished")["ledger"].clone();
    assert_eq!((&ledger["accepted"], &ledger["unknown"]), (&json!(1_200), &json!(0)), "{ledger}");
    let mails = record::read(&file).unwrap();
    let recipients: BTreeSet<&str> = mails.iter().map(|m| m.recipient.as_str()).collect();
    assert_eq!((mails.len(), recipients.len()), (1_200, 1_200), "everybody once");
    let seen = sink.finish().unwrap().counts;
    assert_eq!((seen.accepted, seen.connections), (1_200, 4), "no connection was given up and made anew: {seen:?}");
}

/// Keys of a campaign by set; the sets partition its audience.
fn everybody(server: &Served, campaign: &str, sets: &[&str]) -> BTreeSet<String> {
    let all: Vec<String> = sets.iter().flat_map(|set| server.keys(campaign, set)).collect();
    let distinct: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(all.len(), distinct.len(), "nobody is in two of {sets:?}");
    distinct
}

#[test]
fn a_relay_that_goes_down_and_comes_back_finds_its_campaign_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record");
    let open = |listen: String| {
        sink::start(SINK, &SinkOptions { listen, record: Some(file.clone()), ..SinkOptions::default() })
    };
    let first: SinkProcess = open("127.0.0.1:0".to_owned());
    let address = first.address;
    let server = Served::start(&relay(address.port(), 2));
    server.people("p", 1_500, "x.test");
    server.campaign("c", "relay", "p", &json!({"limits": {"messages_per_second": 300}}));
    server.act("c", "start").expect(200);
    server.until("it sends", || (server.count("c", "accepted") > 100).then_some(()));
    first.finish().unwrap();

    let circuit = || server.get("/v1/connectors")["items"][0].clone();
    server.until("the circuit opens", || (circuit()["circuit"] != "closed").then_some(()));
    assert!(circuit()["circuit_reason"].is_string(), "and says why: {}", circuit());
    let stall = server.until("the report says why nothing moves", || {
        let stall = server.report("c")["stall"].clone();
        (stall["reason"] == "unreachable").then_some(stall)
    });
    assert!(stall["message"].as_str().is_some_and(|m| m.len() > 20), "in words: {stall}");
    let health = server.get("/health");
    assert_eq!(health["state"], "degraded", "somebody should look: {health}");

    assert_eq!(server.act("c", "pause").expect(200)["state"], "paused");
    server.until("nothing is claimed", || (server.count("c", "claimed") == 0).then_some(()));
    assert_eq!(server.act("c", "resume").expect(200)["state"], "running", "though the relay is down still");
    let at_most = server.count("c", "accepted") + server.count("c", "unknown");
    assert!(at_most < 1_500, "it was not over when the relay went: {at_most}");

    let second = open(address.to_string());
    let ledger = server.await_state("c", "finished")["ledger"].clone();
    assert_eq!(circuit()["circuit"], "closed", "{}", circuit());
    assert_eq!(server.get("/health")["state"], "ready");
    assert!(ledger["unknown"].as_u64().unwrap() <= 2, "at most what was on the wire: {ledger}");
    assert_eq!(everybody(&server, "c", &["accepted", "unknown"]).len(), 1_500, "nobody is forgotten: {ledger}");
    let mails = record::read(&file).unwrap();
    let recipients: BTreeSet<&str> = mails.iter().map(|m| m.recipient.as_str()).collect();
    assert_eq!(mails.len(), recipients.len(), "nobody twice");
    second.finish().unwrap();
}

const SIM: &str = "[[connectors]]\nname = \"sim\"\nkind = \"simulated\"\n";
const OTHER: &str = "[[connectors]]\nname = \"other\"\nkind = \"null\"\n";

/// The same server with other connectors.
fn with_connectors(server: &mut Served, connectors: &str) {
    server.end();
    let listen = "[server]\napi_listen = \"127.0.0.1:0\"\npublic_listen = \"127.0.0.1:0\"\n";
    fs::write(&server.plan.config, format!("{listen}{connectors}")).unwrap();
    server.restart();
}

#[test]
fn campaigns_whose_connector_was_taken_away_wait_and_can_be_stopped() {
    let mut server = Served::start(&format!("{SIM}{OTHER}"));
    server.people("p", 600, "x.test");
    for name in ["running", "paused", "back"] {
        server.campaign(name, "sim", "p", &json!({"limits": {"messages_per_second": 40}}));
        server.act(name, "start").expect(200);
    }
    server.until("all send", || {
        ["running", "paused", "back"].iter().all(|name| server.count(name, "accepted") > 5).then_some(())
    });
    server.act("paused", "pause").expect(200);
    with_connectors(&mut server, OTHER);

    let before: Vec<Json> = ["running", "paused", "back"].iter().map(|name| server.report(name)).collect();
    for (name, report) in ["running", "paused", "back"].iter().zip(&before) {
        assert_eq!((&report["state"], &report["ledger"]["claimed"]), (&json!("paused"), &json!(0)), "{name}: {report}");
        let refused = server.act(name, "resume");
        assert_eq!(refused.status, 404, "{}", refused.text);
        refused.refused("connector_not_found", "sim");
    }
    let why = before[0]["stall"]["message"].as_str().unwrap().to_owned();
    assert!(why.contains("sim") && why.contains("connector"), "the report says what is missing: {why}");
    assert_eq!(server.call(Method::GET, "/ready", &Json::Null).status, 200, "the server serves");

    for (name, report) in ["running", "paused"].iter().zip(&before) {
        let accepted = report["ledger"]["accepted"].as_u64().unwrap();
        let stopped = server.act(name, "stop").expect(200);
        assert_eq!(stopped["state"], "stopped", "nobody has a row of it: {stopped}");
        let ledger = server.report(name)["ledger"].clone();
        assert_eq!(ledger["accepted"], accepted, "{name}: {ledger}");
        let unknown = ledger["unknown"].as_u64().unwrap();
        assert_eq!(ledger["skipped_by"]["stopped"], 600 - accepted - unknown, "{name}: {ledger}");
    }
    server.campaign("new", "other", "p", &json!({}));
    server.act("new", "start").expect(200);
    server.await_state("new", "finished");
    let draft = json!({"name": "draft", "kind": "single", "audience": {"list": "p"}, "message": {"channel": "email",
        "connector": "sim", "topic": "news", "from": "a@x.test", "subject": "s", "text": "t"}});
    let problems = server.post("/v1/campaigns", &draft).expect(201)["problems"].clone();
    assert!(problems.to_string().contains("unknown_connector"), "a new one says so at once: {problems}");

    with_connectors(&mut server, &format!("{SIM}{OTHER}"));
    assert_eq!(server.report("back")["state"], "paused", "it waits for a person, though the connector is back");
    assert_eq!(server.act("back", "resume").expect(200)["state"], "running");
    let accepted = before[2]["ledger"]["accepted"].as_u64().unwrap();
    server.until("it goes on", || (server.count("back", "accepted") > accepted + 10).then_some(()));
    server.act("back", "stop").expect(200);
    server.await_state("back", "stopped");
}

/// Rows of an import that outlasts the start of a shutdown.
const ROWS: usize = 150_000;

#[test]
fn a_shutdown_amid_an_upload_an_import_and_a_campaign_loses_nothing() {
    let slow =
        "[[connectors]]\nname = \"relay\"\nkind = \"simulated\"\nlatency_min_millis = 20\nlatency_max_millis = 60\n";
    let mut server = Served::start(&format!("drain_seconds_max = 20\n{slow}"));
    server.people("p", 3_000, "x.test");
    server.campaign("c", "relay", "p", &json!({"limits": {"messages_per_second": 100}}));
    server.act("c", "start").expect(200);
    server.until("it sends", || (server.count("c", "accepted") > 20).then_some(()));

    let csv: String = std::iter::once("id,email\n".to_owned())
        .chain((0..ROWS).map(|i| format!("r{i:06},r{i:06}@y.test\n")))
        .collect();
    let path = "/v1/imports?key=id&subscribe=email:news&list=later";
    let import = server.post_text(path, "text/csv", csv).expect(202)["id"].clone();
    let mut stalled = stalled_upload(&server);
    server.until("the import works", || {
        let report = server.get(&format!("/v1/imports/{import}"));
        assert_eq!(report["state"], "running", "the file is large enough to outlast this: {report}");
        (report["bytes_done"].as_u64() > Some(0)).then_some(())
    });

    let asked = Instant::now();
    server.end();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(40), "by its deadline of 20 s, with room for a slow machine: {took:?}");
    let mut answer = String::new();
    stalled.read_to_string(&mut answer).ok();
    assert!(answer.is_empty() || answer.contains("not_ready"), "the upload is refused, to be sent again: {answer}");
    let log = fs::read_to_string(&server.plan.log).unwrap();
    assert!(!log.contains("panicked"), "{}", server.plan.log_tail());

    server.restart();
    let report = server.report("c");
    assert_eq!(report["state"], "running", "it goes on by itself: {report}");
    assert_eq!(report["ledger"]["unknown"], 0, "every answer was awaited: {report}");
    let done = server.until("the import resumes and ends", || {
        let report = server.get(&format!("/v1/imports/{import}"));
        (report["state"] != "running").then_some(report)
    });
    assert_eq!((&done["state"], &done["accepted"]), (&json!("finished"), &json!(ROWS)), "no row lost or twice: {done}");
    assert_eq!(server.get("/v1/lists/later")["contacts"], ROWS, "each in its list, once");
    assert_eq!(server.get("/v1/imports")["items"].as_array().unwrap().len(), 2, "the stalled upload imported nothing");
    let spools = fs::read_dir(server.plan.data.join("imports")).map_or(0, |d| {
        d.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "spool" || x == "csv")).count()
    });
    assert_eq!(spools, 0, "and left nothing behind");
    server.act("c", "stop").expect(200);
    let ledger = server.await_state("c", "stopped")["ledger"].clone();
    let sum = ledger["accepted"].as_u64().unwrap() + ledger["skipped"].as_u64().unwrap();
    assert_eq!(sum, 3_000, "accepted or skipped, and nothing else: {ledger}");
}

/// An upload that sends a part of its body and then nothing.
fn stalled_upload(server: &Served) -> TcpStream {
    let address = server.api().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /v1/imports?key=id HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: text/csv\r\ncontent-length: 1000000\r\n\r\nid,email\nz1,z1@z.test\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(server.call(Method::GET, "/health", &Json::Null).status, 200);
    stream
}
