//! One-shot CSV audiences: a campaign is sent to the rows of an uploaded file, and nothing of it becomes a contact.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use estafette::api::port::{AudiencesPort, ContactsPort, NewUpload, Ref};
use loadtest::server::ADMIN_KEY;
use loadtest::sink::SinkOptions;
use loadtest::sink::record;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::harness::{TestEngine, page};
use crate::people::link;
use crate::served::{Answer, Served, estafette, file};
use crate::sink;

const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";
/// The test that is the sink when asked to.
const SINK: &str = "oneshot::a_sink_of_these_tests_answers";

#[test]
fn a_sink_of_these_tests_answers() {
    if sink::be_the_sink_if_asked() {
        return;
    }
    assert!(SINK.starts_with("oneshot::"), "it is found by its name");
}

fn upload(server: &Served, query: &str, csv: impl Into<reqwest::blocking::Body>) -> Answer {
    server.post_text(&format!("/v1/audiences?{query}"), "text/csv", csv)
}

/// A campaign over an upload, without a topic.
fn spec(name: &str, upload: &str, more: &Json) -> Json {
    let mut spec = json!({
        "name": name, "audience": {"upload": upload, "consent_confirmed": true},
        "message": {
            "channel": "email", "connector": "relay", "from": "News <news@example.test>",
            "subject": format!("{name} {{{{ contact.first_name | default('you') }}}}"),
            "html": "<p><a href=\"https://shop.example.test/a\">{{ contact.code }}</a> <a href=\"{{ unsubscribe_url }}\">no more</a></p>",
            "text": "{{ contact.code }} {{ unsubscribe_url }}",
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

fn create(server: &Served, spec: &Json) {
    let made = server.post("/v1/campaigns", spec).expect(201);
    assert_eq!(made["problems"], json!([]), "{made}");
}

/// Everything that the contact base has on the disk.
fn base(server: &Served) -> Vec<u8> {
    fs::read(server.plan.data.join("contacts/data.mdb")).expect("the contact base")
}

const FAIR: &str = "email,first_name,code\n\
    ann@x.test,Ann,A1\n\
    bob@x.test,Bob,B1\n\
    dora@x.test,Dora,D1\n\
    eve@x.test,Eve,first-of-eve\n\
    EVE@x.test,Eve again,second-of-eve\n\
    fred@x.test,\"Fred, the \"\"fast\"\" one\",code-of-fred\n\
    nobody,Nobody,N1\n";

/// Contacts who opted out, are suppressed, or neither; and an address that is.
fn contacts(server: &Served) {
    let people = "id,email,unsubscribed\nann,ann@x.test,true\nbob,bob@x.test,\ncarl,carl@x.test,\n";
    assert_eq!(server.import("key=id&subscribe=email:news&list=all", people)["accepted"], 3);
    server.post("/v1/suppressions", &json!({"contact": "bob", "reason": "manual"})).expect(201);
    server.post("/v1/suppressions", &json!({"address": "dora@x.test", "channel": "email"})).expect(201);
}

#[test]
fn an_upload_is_sent_to_opt_outs_win_by_address_and_no_contact_is_made() {
    let mut server = Served::start(INBOX);
    contacts(&server);
    let before = base(&server);
    let made = upload(&server, "name=fair", FAIR).expect(201);
    assert_eq!(
        (&made["id"], &made["total"], &made["valid"], &made["invalid"]),
        (&json!(1), &json!(7), &json!(6), &json!(1))
    );
    assert_eq!((&made["duplicates"], &made["addresses"]["email"]), (&json!(1), &json!(5)), "{made}");
    assert_eq!(
        (&made["suppressed"], &made["unsubscribed"]),
        (&json!({"manual": 1, "address": 1}), &json!(1)),
        "{made}"
    );
    assert_eq!(made["reach"]["email"], 2, "Eve, once, and Fred: {made}");
    assert_eq!(made["columns"][1]["variable"], "contact.first_name", "{made}");
    let invalid = server.call(Method::GET, "/v1/audiences/fair/invalid.csv", &Json::Null).text;
    assert!(invalid.lines().nth(1).is_some_and(|l| l.starts_with("8,email,") && l.contains("nobody")), "{invalid}");

    create(&server, &spec("c", "fair", &json!({})));
    assert_eq!(server.get("/v1/campaigns/c")["spec"]["audience"]["upload"], "1", "its id, which is never another's");
    let audience = server.post("/v1/campaigns/c/audience", &json!({})).expect(200);
    assert_eq!((&audience["matched"], &audience["final"]), (&json!(6), &json!(2)), "{audience}");
    let preview = server.post("/v1/campaigns/c/preview", &json!({"contact": "7"})).expect(200);
    assert_eq!(
        (&preview["to"], &preview["subject"]),
        (&json!("fred@x.test"), &json!("c Fred, the \"fast\" one")),
        "{preview}"
    );
    let seed = json!({"to": ["seed@x.test"], "contact": "7"});
    assert_eq!(server.post("/v1/campaigns/c/test-send", &seed).expect(200)["items"][0]["outcome"], "accepted");
    assert!(server.mails_to("seed@x.test")[0].contains("code-of-fred"), "rendered for that row");

    server.act("c", "start").expect(200);
    let report = server.await_state("c", "finished");
    assert_eq!((&report["ledger"]["accepted"], &report["ledger"]["skipped"]), (&json!(2), &json!(4)), "{report}");
    let skipped = json!({"unsubscribed": 1, "suppressed": 1, "suppressed_address": 1, "duplicate_address": 1});
    assert_eq!(report["ledger"]["skipped_by"], skipped, "{report}");
    assert_eq!(report["upload"]["name"], "fair", "{report}");
    assert_eq!(report["upload"]["consent_confirmed_by"], "admin", "who gave the word: {report}");
    assert!(report["upload"]["consent_confirmed_at"].is_string(), "and when: {report}");
    assert_eq!(server.keys("c", "accepted"), ["6", "7"], "by the lines of the file, the last of an address");
    let csv = server.call(Method::GET, "/v1/campaigns/c/contacts?set=accepted&format=csv", &Json::Null).text;
    assert!(csv.contains("EVE@x.test") && csv.contains("fred@x.test"), "with their addresses: {csv}");

    let mail = server.mails_to("EVE@x.test").remove(0);
    assert!(mail.contains("second-of-eve") && !mail.contains("first-of-eve"), "the last row of an address: {mail}");
    let answer = server
        .http
        .post(link(&mail, &server, "/u/"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("List-Unsubscribe=One-Click")
        .send()
        .unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(server.keys("c", "unsubscribed"), ["6"], "the run counts it");
    assert!(base(&server) == before, "not a byte of the contact base has changed");
    server.restart();
    assert_eq!(server.get("/v1/audiences/fair")["reach"]["email"], 1, "the opt-out holds, after a restart too");
    assert!(base(&server) == before, "and a restart writes nothing either");
    create(&server, &spec("again", "fair", &json!({})));
    server.act("again", "start").expect(200);
    let ledger = server.await_state("again", "finished")["ledger"].clone();
    assert_eq!((&ledger["accepted"], &ledger["skipped_by"]["suppressed_address"]), (&json!(1), &json!(3)), "{ledger}");

    // Who has the address as a contact later has opted out too.
    server.import("key=id&subscribe=email:news&list=late", "id,email\neve,eve@x.test\ngus,gus@x.test\n");
    server.campaign("base", "relay", "late", &json!({}));
    server.act("base", "start").expect(200);
    server.await_state("base", "finished");
    assert_eq!(
        (server.keys("base", "accepted"), server.keys("base", "skipped")),
        (vec!["gus".to_owned()], vec!["eve".into()])
    );
    server.end();
    let checked = estafette(&["check", "--data", server.plan.data.to_str().unwrap()]).expect(0);
    assert!(checked.contains("6 rows of uploaded audience"), "{checked}");
}

#[test]
fn opt_outs_on_the_way_reach_the_rows_that_wait() {
    let sink = sink::start(SINK, &SinkOptions::default());
    let port = sink.address.port();
    let relay = format!(
        "[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         messages_per_second = 5\nconnections_max = 1\n"
    );
    let server = Served::start(&relay);
    server.import("key=id&subscribe=email:news&list=all", "id,email\nlast,p0059@x.test\n");
    let mut csv = String::from("email,first_name,code\n");
    (0..60).for_each(|i| csv.push_str(&format!("p{i:04}@x.test,P,{i}\n")));
    upload(&server, "name=slow", csv).expect(201);
    create(&server, &spec("c", "slow", &json!({})));
    server.act("c", "start").expect(200);
    server.until("it sends", || (server.count("c", "accepted") > 0).then_some(()));
    let opt_out = json!({"consent": {"email:news": "unsubscribed"}});
    server.call(Method::PATCH, "/v1/contacts/last", &opt_out).expect(200);
    server.post("/v1/suppressions", &json!({"address": "p0058@x.test", "channel": "email"})).expect(201);
    let ledger = server.await_state("c", "finished")["ledger"].clone();
    assert_eq!(ledger["accepted"], 58, "{ledger}");
    assert_eq!(ledger["skipped_by"], json!({"unsubscribed": 1, "suppressed_address": 1}), "at release: {ledger}");
}

#[test]
fn any_kind_of_campaign_runs_over_an_upload_and_its_columns() {
    let server = Served::start(INBOX);
    let mut csv = String::from("email,first_name,code,country\n");
    (0..40).for_each(|i| csv.push_str(&format!("q{i:02}@x.test,N{i},C{i},{}\n", if i % 4 == 0 { "FR" } else { "DE" })));
    upload(&server, "name=grid", csv).expect(201);
    let cells = json!({
        "kind": "multi_segment",
        "audience": {"upload": "grid", "consent_confirmed": true, "exclude": "code = \"C1\""},
        "dimensions": [{"name": "country", "others": true, "segments": [{"name": "France", "segment": "country = \"FR\""}]}],
        "cells": [{"where": {"country": "France"}, "message": {"subject": "Bonjour"}}, {"message": {"subject": "Hello"}}],
    });
    create(&server, &spec("grid", "grid", &cells));
    server.act("grid", "start").expect(200);
    let report = server.await_state("grid", "finished");
    assert_eq!(report["ledger"]["accepted"], 39, "one was left out: {report}");
    assert!(server.mails_to("q04@x.test")[0].contains("Bonjour"), "the French cell");
    assert!(server.mails_to("q05@x.test")[0].contains("Hello"), "the other one");

    let split = json!({
        "kind": "ab_split",
        "variants": [{"name": "a"}, {"name": "b", "subject": "Other {{ contact.first_name }}"}],
        "test": {"sample": "50%", "decide_after": "1h"},
    });
    create(&server, &spec("split", "grid", &split));
    server.act("split", "start").expect(200);
    server.until("the sample is sent", || (server.count("split", "accepted") == 20).then_some(()));
    let chosen = server.post("/v1/campaigns/split/choose-winner", &json!({"variant": "b", "by": "a person"}));
    assert_eq!(chosen.status, 200, "{}", chosen.text);
    let report = server.await_state("split", "finished");
    assert_eq!((&report["ledger"]["accepted"], &report["ledger"]["balanced"]), (&json!(40), &json!(true)), "{report}");

    for (expression, part) in
        [("in list \"x\"", "one-shot"), ("in segment \"x\"", "one-shot"), ("city = \"x\"", "city")]
    {
        let audience = json!({"audience": {"upload": "grid", "consent_confirmed": true, "exclude": expression}});
        let check = server.post("/v1/campaigns/check", &spec("bad", "grid", &audience)).expect(200);
        assert_eq!(check["problems"][0]["code"], "invalid_segment", "{expression}: {check}");
        assert!(check["problems"][0]["message"].as_str().is_some_and(|m| m.contains(part)), "{expression}: {check}");
    }
}

#[test]
fn a_spec_over_an_upload_lists_what_is_missing_or_wrong() {
    let server = Served::start(INBOX);
    upload(&server, "name=fair", FAIR).expect(201);
    let codes = |change: &dyn Fn(&mut Json)| {
        let mut spec = spec("c", "fair", &json!({}));
        change(&mut spec);
        let check = server.post("/v1/campaigns/check", &spec).expect(200);
        check["problems"].as_array().unwrap().iter().map(|p| p["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(codes(&|_| {}), Vec::<String>::new(), "nothing is wrong, and no topic is needed");
    assert_eq!(codes(&|s| s["audience"] = json!({"upload": "fair"})), ["consent_not_confirmed"]);
    assert_eq!(codes(&|s| s["audience"]["upload"] = json!("fiar")), ["unknown_upload"]);
    assert_eq!(codes(&|s| s["audience"]["upload"] = json!(9)), ["unknown_upload"]);
    assert_eq!(codes(&|s| s["audience"]["all"] = json!(true)), ["several_audiences"]);
    assert_eq!(codes(&|s| s["same_address"] = json!("allow")), ["upload_address_once"]);
    let base = |s: &mut Json| s["audience"] = json!({"all": true, "consent_confirmed": true});
    assert_eq!(codes(&base)[..2], ["consent_without_upload", "no_topic"], "contacts have a consent of their own");
    let start = |name: &str| server.act(name, "start");
    let mut unsaid = spec("unsaid", "fair", &json!({}));
    unsaid["audience"] = json!({"upload": "fair"});
    server.post("/v1/campaigns", &unsaid).expect(201);
    start("unsaid").refused("campaign_incomplete", "consent_not_confirmed");
    let mut wrong = spec("wrong", "fair", &json!({}));
    wrong["message"]["text"] = json!("one\n  {{ contact.cde }}");
    let refused = server.post("/v1/campaigns", &wrong).refused("invalid_spec", "cde");
    assert_eq!((&refused["details"]["line"], &refused["details"]["column"]), (&json!(2), &json!(14)), "{refused}");

    // An upload that goes before its draft is started.
    create(&server, &spec("late", "fair", &json!({})));
    server.call(Method::DELETE, "/v1/audiences/fair", &Json::Null).expect(204);
    start("late").refused("campaign_incomplete", "unknown_upload");
    server.call(Method::GET, "/v1/audiences/fair", &Json::Null).refused("audience_not_found", "fair");
}

#[test]
fn files_that_are_no_audience_are_refused_by_name_and_leave_nothing() {
    let server = Served::start(INBOX);
    let utf16: Vec<u8> =
        "\u{feff}email;ville\nann@x.test;Besançon\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&str, &str, Vec<u8>, &str, &str); 9] = [
        ("empty", "", Vec::new(), "invalid_audience", "header"),
        ("no header", "", b"ann@x.test,Ann\nbob@x.test,Bob\n".to_vec(), "invalid_audience", "no_address_column"),
        ("no address", "", b"name,city\nAnn,Lyon\n".to_vec(), "invalid_audience", "no_address_column"),
        ("no rows", "", b"email\n".to_vec(), "invalid_audience", "no_rows"),
        ("tabs", "", b"email\tname\na@x.test\tA\n".to_vec(), "invalid_audience", "bad_delimiter"),
        ("an open quote", "", b"email,\"name\na@x.test,A\n".to_vec(), "invalid_audience", "bad_header"),
        ("a number for a name", "name=12", b"email\na@x.test\n".to_vec(), "invalid_audience", "bad_name"),
        ("no such channel", "channel=pigeon", b"id\n1\n".to_vec(), "invalid_parameter", "pigeon"),
        ("a key for an address", "channel=webhook", b"id\n1\n".to_vec(), "invalid_audience", "bad_channel"),
    ];
    for (what, query, body, code, names) in cases {
        let answer = upload(&server, query, body);
        assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        answer.refused(code, names);
    }
    assert_eq!(server.get("/v1/audiences")["items"], json!([]), "nothing was made");
    let left = |folder: &str| fs::read_dir(server.plan.data.join(folder)).unwrap().map(|e| e.unwrap().file_name());
    assert_eq!(left("audiences").collect::<Vec<_>>(), ["hashes"], "no folder is left");
    assert_eq!((left("audiences/hashes").count(), left("spool").count()), (0, 0), "no hashes, no spooled file");

    let made = upload(&server, "name=ville", utf16).expect(201);
    assert_eq!((&made["encoding"], &made["delimiter"], &made["valid"]), (&json!("utf-16le"), &json!(";"), &json!(1)));
    upload(&server, "name=ville", "email\na@x.test\n").refused("audience_exists", "ville");
    let phones = upload(&server, "channel=sms", "phone;name\n+33612345678;A\n612345678;B\n").expect(201);
    assert_eq!(
        (&phones["name"], &phones["reach"], &phones["invalid"]),
        (&json!(format!("audience-{}", phones["id"])), &json!({"sms": 1}), &json!(1))
    );
    let over = json!({"audience": {"upload": phones["id"], "consent_confirmed": true}});
    let check = server.post("/v1/campaigns/check", &spec("sms", "x", &over)).expect(200);
    assert!(check["problems"].to_string().contains("upload_wrong_channel"), "no e-mail address in it: {check}");
}

#[test]
fn twenty_million_bytes_pass_and_one_more_is_refused_while_it_is_read() {
    let server = Served::start(INBOX);
    let file = |bytes: usize| {
        let mut csv = b"email,note\na@x.test,a\n".to_vec();
        // Lines beyond the megabyte of a record are rows too, and invalid ones: the file is large and quickly read.
        while csv.len() + 900_000 < bytes {
            csv.extend(std::iter::repeat_n(b'x', 899_999));
            csv.push(b'\n');
        }
        csv.resize(bytes, b'y');
        csv
    };
    let made = upload(&server, "name=most", file(20_000_000)).expect(201);
    assert_eq!((&made["bytes"], &made["valid"]), (&json!(20_000_000), &json!(1)), "{made}");
    upload(&server, "", file(20_000_001)).refused("body_too_large", "data.one_shot_max_bytes");
    // Without a length in its head, it is counted while it comes.
    let unsized_body = reqwest::blocking::Body::new(std::io::Cursor::new(file(20_000_001)));
    let answer = upload(&server, "", unsized_body);
    assert_eq!(answer.status, 413, "{answer:?}");
    answer.refused("body_too_large", "20000000");
    assert_eq!(server.get("/v1/audiences")["items"].as_array().map(Vec::len), Some(1), "the one that passed");
}

#[test]
fn an_upload_that_is_cut_off_leaves_nothing_and_one_that_was_answered_survives_a_kill() {
    let mut server = Served::start(INBOX);
    let address = server.api();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /v1/audiences?name=half HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\nContent-Length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"email,name\na@x.test,A\n").unwrap();
    server.until("it is being received", || {
        let spooled = fs::read_dir(server.plan.data.join("spool")).unwrap();
        (spooled.map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>() > 0).then_some(())
    });
    server.kill();
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "no answer");
    assert_eq!(server.get("/v1/audiences")["items"], json!([]), "nothing of it");
    assert_eq!(fs::read_dir(server.plan.data.join("spool")).unwrap().count(), 0, "not even its spooled part");

    upload(&server, "name=whole", FAIR).expect(201);
    server.kill();
    assert_eq!(server.get("/v1/audiences/whole")["valid"], 6, "it was durable before its answer");
    // A folder that no fact names, as a kill between the two leaves it.
    fs::create_dir_all(server.plan.data.join("audiences/77")).unwrap();
    fs::write(server.plan.data.join("audiences/hashes/77-email.hash"), b"x").unwrap();
    server.kill();
    assert!(!server.plan.data.join("audiences/77").exists(), "it is cleared away");
    assert!(!server.plan.data.join("audiences/hashes/77-email.hash").exists(), "with its hashes");
    let retried = server
        .http
        .post(format!("{}/v1/audiences?name=twice", server.api()))
        .bearer_auth(ADMIN_KEY)
        .header("idempotency-key", "one upload")
        .body(FAIR);
    let first: Json = retried.try_clone().unwrap().send().unwrap().json().unwrap();
    server.kill();
    let again = server.http.post(format!("{}/v1/audiences?name=twice", server.api())).bearer_auth(ADMIN_KEY);
    let again: Json = again.header("idempotency-key", "one upload").body(FAIR).send().unwrap().json().unwrap();
    assert_eq!((first["id"].as_u64(), &first["id"]), (Some(2), &again["id"]), "the same request is the same upload");
}

#[test]
fn kills_over_an_upload_mail_nobody_twice_and_forget_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record");
    let sink = sink::start(SINK, &SinkOptions { record: Some(path.clone()), ..SinkOptions::default() });
    let port = sink.address.port();
    let relay = format!(
        "[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         connections_max = 8\nmessages_per_second = 3000\n"
    );
    let mut server = Served::start(&relay);
    const ROWS: usize = 9_000;
    const KILLS: u64 = 5;
    let mut csv = String::from("email,first_name,code\n");
    // Every address twice: once is enough.
    (0..2 * ROWS).for_each(|i| csv.push_str(&format!("k{:05}@x.test,K,{i}\n", i % ROWS)));
    upload(&server, "name=many", csv).expect(201);
    create(&server, &spec("c", "many", &json!({})));
    server.act("c", "start").expect(200);
    for _ in 0..KILLS {
        let before = record::read(&path).unwrap().len();
        server.until("some more went out", || (record::read(&path).unwrap().len() > before + 300).then_some(()));
        server.kill();
    }
    let ledger = server.await_state("c", "finished")["ledger"].clone();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for mail in record::read(&path).unwrap() {
        *times.entry(mail.recipient).or_default() += 1;
    }
    assert!(times.values().all(|n| *n == 1), "nobody twice: {:?}", times.iter().find(|(_, n)| **n > 1));
    let of = |set: &str| ledger[set].as_u64().unwrap();
    assert_eq!((of("audience"), of("skipped")), (2 * ROWS as u64, ROWS as u64), "{ledger}");
    assert_eq!(of("accepted") + of("unknown"), ROWS as u64, "everybody is accounted for: {ledger}");
    assert!(of("unknown") <= 8 * KILLS, "what was on the wire: {ledger}");
    let taken = times.len() as u64;
    assert!(of("accepted") <= taken && taken <= of("accepted") + of("unknown"), "{taken} were taken: {ledger}");
}

#[test]
fn what_a_run_needs_is_not_deleted_and_what_nobody_needs_goes_by_the_command_line() {
    let server = Served::start("[[connectors]]\nname = \"relay\"\nkind = \"null\"\nmessages_per_second = 1\n");
    let sample = estafette(&["audience", "sample"]).expect(0);
    assert!(sample.starts_with("email,first_name"), "{sample}");
    let served = server.call(Method::GET, "/v1/audiences/sample.csv", &Json::Null).text;
    assert_eq!(served, sample, "the API gives the same");
    assert!(estafette(&["audience", "sample", "--channel", "sms"]).expect(0).starts_with("phone,"), "by channel");
    let path = server.write("sample.csv", &sample);
    let shown = server.cli(&["audience", "upload", &path, "--name", "sample"]).expect(0);
    assert!(shown.contains("valid 2") && shown.contains("{{ contact.code }}"), "{shown}");
    create(&server, &spec("c", "sample", &json!({})));
    server.act("c", "start").expect(200);
    let refused = server.cli(&["audience", "delete", "sample"]).failed(4);
    assert!(refused.contains("audience_in_use"), "{refused}");
    server.act("c", "stop").expect(200);
    server.await_state("c", "stopped");
    server.cli(&["audience", "delete", "sample"]).expect(0);
    assert_eq!(server.cli(&["audience", "list", "--json"]).json(0)["items"], json!([]));
    assert!(!server.plan.data.join("audiences/1/data.mdb").exists(), "its rows are gone");
    assert!(server.plan.data.join("audiences/hashes/1-email.hash").exists(), "opting out goes on");
    let report = server.report("c");
    assert!(
        report["upload"]["removed_at"].is_string() && report["ledger"]["audience"] == 2,
        "the report stays: {report}"
    );
    assert_eq!(server.keys("c", "skipped").len() + server.keys("c", "accepted").len(), 2, "by row only");
    server.cli(&["audience", "show", "sample"]).failed(4);
    server.cli(&["audience", "upload", &path, "--name", "sample"]).expect(0);
}

#[test]
fn the_example_does_what_it_says() {
    let server = Served::start(&INBOX.replace("relay", "inbox"));
    let csv = fs::read(file("examples/trade-fair.csv")).unwrap();
    let made = upload(&server, "name=trade-fair", csv).expect(201);
    assert_eq!((&made["valid"], &made["invalid"], &made["duplicates"]), (&json!(5), &json!(1), &json!(1)), "{made}");
    let spec = fs::read_to_string(file("examples/one-shot.toml")).unwrap();
    let check = server.post_text("/v1/campaigns/check", "application/toml", spec.clone()).expect(200);
    assert_eq!((&check["ready"], &check["problems"]), (&json!(true), &json!([])), "{check}");
    server.post_text("/v1/campaigns", "application/toml", spec).expect(201);
    server.act("one-shot", "start").expect(200);
    let ledger = server.await_state("one-shot", "finished")["ledger"].clone();
    assert_eq!((&ledger["accepted"], &ledger["skipped"]), (&json!(4), &json!(1)), "{ledger}");
}

#[test]
fn an_upload_goes_when_its_retention_has_passed_restart_or_not() {
    let engine = TestEngine::without_connectors();
    let days = |n: u64| Duration::from_secs(n * 86_400);
    for name in ["a", "b"] {
        let path = engine.adapter.spool_path().unwrap();
        fs::write(&path, FAIR).unwrap();
        let upload = NewUpload { channel: "email".into(), name: Some(name.into()), request: None };
        assert_eq!(engine.adapter.upload(upload, &path).unwrap().upload.valid, 6);
        fs::remove_file(&path).unwrap();
    }
    let now = engine.engine().book.now();
    assert_eq!(engine.engine().uploads.sweep(days(30), now.plus(days(29))).unwrap(), 0, "not yet");
    engine.adapter.delete_upload(&Ref::Name("b".into())).unwrap();
    let engine = engine.killed();
    let names = |engine: &TestEngine| {
        let uploads = engine.adapter.uploads(&page(None, 10)).unwrap().items;
        uploads.into_iter().map(|upload| upload.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&engine), ["a"], "what was deleted stays so");
    assert_eq!(engine.adapter.uploaded(&Ref::Id(1)).unwrap().reach["email"], 5, "and the other is whole");
    assert_eq!(engine.engine().uploads.sweep(days(30), now.plus(days(31))).unwrap(), 1, "its time is over");
    assert_eq!(names(&engine), Vec::<String>::new());
    let folder = engine.engine().options.directory.join("audiences");
    assert!(!folder.join("1").exists(), "no row is left");
    assert_eq!(fs::read_dir(folder.join("hashes")).unwrap().count(), 0, "nor a hash: nothing was sent to it");
    let next = engine.adapter.spool_path().unwrap();
    fs::write(&next, FAIR).unwrap();
    let again = NewUpload { channel: "email".into(), ..NewUpload::default() };
    assert_eq!(engine.adapter.upload(again, &next).unwrap().upload.id, 3, "an id is never given twice");
}
