//! Campaigns of a served program, over HTTP: lifecycle, fairness, unknown contacts.

use std::time::Duration;

use loadtest::sink::SinkOptions;
use loadtest::sink::process::SinkProcess;
use loadtest::sink::record::{self, Accepted};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::served::Served;
use crate::sink;

/// The test that is the sink when asked to.
const SINK: &str = "campaigns::a_sink_of_these_tests_records_what_it_takes";

#[test]
fn a_sink_of_these_tests_records_what_it_takes() {
    if sink::be_the_sink_if_asked() {
        return;
    }
    let (_sink, record) = recording();
    assert_eq!(mails(&record), [], "nothing was sent to it");
}

struct Record(tempfile::TempDir);

impl Record {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("record")
    }
}

fn recording() -> (SinkProcess, Record) {
    let record = Record(tempfile::tempdir().unwrap());
    let sink = sink::start(SINK, &SinkOptions { record: Some(record.path()), ..SinkOptions::default() });
    (sink, record)
}

/// In the order in which the sink accepted them.
fn mails(record: &Record) -> Vec<Accepted> {
    record::read(&record.path()).unwrap()
}

fn of<'a>(mails: &'a [Accepted], campaign: &str) -> Vec<&'a str> {
    let begins = format!("{campaign} ");
    mails.iter().filter(|m| m.subject.starts_with(&begins)).map(|m| m.recipient.as_str()).collect()
}

fn relay(sink: &SinkProcess, more: &str) -> String {
    let port = sink.address.port();
    format!(
        "[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n{more}\n"
    )
}

/// Rows of one claim.
const BATCH: usize = 1_000;

#[test]
fn a_campaign_of_hundreds_of_thousands_delays_one_of_a_hundred_by_a_few_batches() {
    let (sink, record) = recording();
    let server = Served::start(&relay(&sink, "connections_max = 10"));
    server.people("big", 200_000, "big.test");
    server.people("small", 100, "small.test");
    server.campaign("big", "relay", "big", &json!({}));
    server.campaign("small", "relay", "small", &json!({}));
    server.act("big", "start").expect(200);
    server.until("the big one is well under way", || (mails(&record).len() > 3 * BATCH).then_some(()));
    server.act("small", "start").expect(200);
    let before = mails(&record).len();
    let report = server.await_state("small", "finished");
    assert_eq!(report["ledger"]["accepted"], 100, "{report}");
    let all = mails(&record);
    let last = all.iter().rposition(|m| m.subject.starts_with("small ")).unwrap();
    let overtaken_by = of(&all[before..=last], "big").len();
    // What was claimed ahead goes first: that is bounded by the credits, eight batches.
    assert!(overtaken_by <= 9 * BATCH, "{overtaken_by} of the big campaign went before the last of the small one");
    assert!(all.len() < 150_000, "the big one was not nearly over: {}", all.len());
    println!("{overtaken_by} of the big campaign between the small one's start and its last mail");
    let stopped = server.act("big", "stop").expect(200);
    assert!(["stopping", "stopped"].contains(&stopped["state"].as_str().unwrap()), "{stopped}");
    server.await_state("big", "stopped");
}

#[test]
fn a_throttled_domain_and_a_throttled_connector_hold_a_second_of_claims_and_delay_nobody() {
    let server = Served::start(
        "[[connectors]]\nname = \"shared\"\nkind = \"null\"\n[[connectors.domains]]\ndomain = \"slow.test\"\n\
         messages_per_second = 20\n[[connectors]]\nname = \"slow\"\nkind = \"null\"\nmessages_per_second = 30\n",
    );
    server.people("throttled", 3_000, "slow.test");
    server.people("free", 6_000, "fast.test");
    server.campaign("domain", "shared", "throttled", &json!({}));
    server.campaign("connector", "slow", "free", &json!({}));
    for name in ["domain", "connector"] {
        server.act(name, "start").expect(200);
    }
    server.until("both send", || {
        (server.count("domain", "accepted") > 0 && server.count("connector", "accepted") > 0).then_some(())
    });
    server.campaign("free", "shared", "free", &json!({}));
    server.act("free", "start").expect(200);
    let (mut looks, mut held) = (0, 0);
    let report = server.until("the free campaign ends", || {
        // Not the ledger's "claimed", in which those wait that are sent and whose outcome is being written.
        let lines = server.get("/v1/connectors")["items"].clone();
        let domain = lines[0]["domains"][0]["claimed_ahead"].as_u64().unwrap();
        let connector = lines[1]["claimed_ahead"].as_u64().unwrap();
        assert!(domain <= 20, "a domain of 20 a second holds {domain} claims: {lines}");
        assert!(connector <= 30, "a connector of 30 a second holds {connector} claims: {lines}");
        held = held.max(domain.min(connector));
        // Those that are sent and not settled are a moment's: with them it is two seconds' worth at the very most.
        assert!(server.count("domain", "claimed") <= 40, "claims of a domain of 20 a second that nobody settles");
        let used = lines[1]["credits_used"].as_u64().unwrap();
        assert!(used <= 60, "a connector of 30 a second holds {used} credits");
        looks += 1;
        let report = server.report("free");
        (report["state"] == "finished").then_some(report)
    });
    assert_eq!(report["ledger"]["accepted"], 6_000, "{report}");
    assert!(held > 0, "both hold claims while they wait for their limit: {looks} looks");
    let left = server.count("domain", "pending");
    assert!(left > 2_000, "the throttled domain is at its beginning still: {left} pending after {looks} looks");
    for (name, says) in [("domain", "domain_limit"), ("connector", "connector_limit")] {
        let stall = server.report(name)["stall"].clone();
        assert_eq!(stall["reason"], says, "{name}: the report says what holds it back: {stall}");
        server.act(name, "stop").expect(200);
        server.await_state(name, "stopped");
    }
}

#[test]
fn pause_resume_and_stop_hold_to_the_batch_and_to_the_mail() {
    let (sink, record) = recording();
    let mut server = Served::start(&relay(&sink, "connections_max = 5"));
    server.people("all", 4_000, "x.test");
    server.campaign("c", "relay", "all", &json!({"limits": {"messages_per_second": 400}}));
    refused_moves(&server, &["pause", "resume"], "draft");
    server.act("c", "start").expect(200);
    refused_moves(&server, &["start", "resume"], "running");
    server.until("mails go out", || (mails(&record).len() > 50).then_some(()));

    let paused = server.act("c", "pause").expect(200);
    let at_pause = mails(&record).len();
    assert_eq!(paused["state"], "paused", "{paused}");
    refused_moves(&server, &["pause", "start"], "paused");
    let still = standstill(&server, &record);
    assert!(still - at_pause <= BATCH, "{} mails after the pause", still - at_pause);
    server.until("claimed rows are back", || (server.count("c", "claimed") == 0).then_some(()));
    assert_eq!(server.count("c", "accepted") as usize, still, "the ledger has what the sink took");
    server.restart();
    assert_eq!(server.report("c")["state"], "paused", "a pause outlasts a restart");
    assert_eq!(standstill(&server, &record), still, "and nothing was sent");

    server.act("c", "resume").expect(200);
    server.until("it goes on", || (mails(&record).len() > still + 50).then_some(()));
    server.act("c", "stop").expect(200);
    let report = server.await_state("c", "stopped");
    let taken = mails(&record);
    let accepted = report["ledger"]["accepted"].as_u64().unwrap() as usize;
    assert_eq!((accepted, report["ledger"]["unknown"].as_u64()), (taken.len(), Some(0)), "the exact count: {report}");
    assert!(accepted < 4_000, "it was stopped on the way");
    assert_eq!(report["ledger"]["skipped_by"]["stopped"], 4_000 - accepted, "{report}");
    assert_eq!(standstill(&server, &record), accepted, "nothing goes after it has stopped");
    let mut recipients = of(&taken, "c");
    recipients.sort_unstable();
    recipients.dedup();
    let sent: Vec<String> = server.keys("c", "accepted").iter().map(|k| format!("{k}@x.test")).collect();
    assert_eq!(recipients, sent, "nobody twice, and the very people that the ledger names");
    refused_moves(&server, &["start", "pause", "resume", "stop"], "stopped");
    server.end();
}

fn refused_moves(server: &Served, actions: &[&str], state: &str) {
    let legal = server.get("/v1/campaigns/c")["legal_moves"].clone();
    for action in actions {
        let answer = server.act("c", action);
        assert_eq!(answer.status, 409, "{action} of one that is {state}: {}", answer.text);
        let body = answer.refused("illegal_move", state);
        assert_eq!(body["details"]["state"], state, "{body}");
        assert_eq!(body["details"]["legal_moves"], legal, "{body}");
        for word in legal.as_array().unwrap() {
            let word = word.as_str().unwrap();
            assert!(body["message"].as_str().unwrap().contains(word), "{word:?} in the message: {body}");
        }
    }
}

/// How many mails there are once none has come for a second.
fn standstill(server: &Served, record: &Record) -> usize {
    server.until("no mail comes any more", || {
        let before = mails(record).len();
        std::thread::sleep(Duration::from_secs(1));
        (mails(record).len() == before).then_some(before)
    })
}

#[test]
fn unknown_contacts_are_listed_exported_and_settled_either_way() {
    let server = Served::start(
        "[[connectors]]\nname = \"sim\"\nkind = \"simulated\"\nseed = 5\nconnections_max = 4\nlost_after_share = 0.2\n",
    );
    server.people("all", 300, "x.test");
    server.campaign("c", "sim", "all", &json!({}));
    server.act("c", "start").expect(200);
    let ledger = server.await_state("c", "finished")["ledger"].clone();
    let unknown = server.keys("c", "unknown");
    assert!(unknown.len() > 20, "about a fifth of 300 is unknown: {ledger}");
    assert_eq!(ledger["unknown"], unknown.len(), "listed as counted");
    let csv = server.call(Method::GET, "/v1/campaigns/c/contacts?set=unknown&format=csv", &Json::Null).text;
    assert_eq!(csv.lines().count(), unknown.len() + 1, "exported with a header: {csv}");
    assert!(unknown.iter().all(|key| csv.contains(key.as_str())), "every one of them: {csv}");

    let settle = |body: Json| server.post("/v1/campaigns/c/settle", &body);
    let accepted_key = server.keys("c", "accepted")[0].clone();
    let two = json!({"as": "accepted", "contacts": [unknown[0], unknown[1], accepted_key, "nobody"]});
    let settled = settle(two).expect(200);
    assert_eq!(settled["settled"], 2, "{settled}");
    assert_eq!(settled["not_unknown"], json!([accepted_key, "nobody"]), "who was not unknown is named: {settled}");
    assert_eq!(settled["state"], "finished", "nothing is to be sent: {settled}");
    assert_eq!(server.count("c", "unknown") as usize, unknown.len() - 2);

    let mut rounds = 0;
    while server.count("c", "unknown") > 0 {
        let waiting = server.keys("c", "unknown");
        let settled = settle(json!({"as": "pending", "all": true})).expect(200);
        assert_eq!(settled["settled"], waiting.len(), "{settled}");
        assert_eq!(settled["state"], "running", "they are sent again: {settled}");
        server.await_state("c", "finished");
        rounds += 1;
        assert!(rounds < 30, "a fifth is lost each time, so this ends");
    }
    assert_eq!(server.count("c", "accepted"), 300, "everybody in the end");
    settle(json!({"as": "pending", "contacts": []})).refused("invalid_settle", "contacts");
    settle(json!({"as": "lost", "all": true})).refused("invalid_body", "lost");
}
