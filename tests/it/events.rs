//! What comes back from outside: events by HTTP and by file, bounces and complaints as an MTA pipes them, runs that pause
//! by themselves.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use loadtest::server::ADMIN_KEY;
use serde_json::{Value as Json, json};

use crate::served::{Served, file, program};

const INBOX: &str =
    "[mail]\nreturn_path_domain = \"bounces.example.test\"\n[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";

/// A server whose campaign `first` went to six people, and the Message-ID of what each got.
fn sent() -> (Served, Vec<String>) {
    let server = Served::start(INBOX);
    server.people("p", 6, "x.test");
    server.campaign("first", "relay", "p", &json!({}));
    server.act("first", "start").expect(200);
    server.await_state("first", "finished");
    let ids = (0..6).map(|number| message_id(&server, number)).collect();
    (server, ids)
}

fn key(number: usize) -> String {
    format!("p{number:06}")
}

fn message_id(server: &Served, number: usize) -> String {
    let mail = server.mails_to(&format!("{}@x.test", key(number))).remove(0);
    let parsed = mail_parser::MessageParser::new().parse(&mail).expect("a mail").message_id().map(str::to_owned);
    parsed.expect("a Message-ID")
}

fn take(server: &Served, events: &Json) -> Json {
    server.post("/v1/events", events).expect(200)
}

/// Result and code of each event.
fn words(taken: &Json) -> Vec<(String, String)> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let results = taken["results"].as_array().expect("results");
    results.iter().map(|result| (text(&result["result"]), text(&result["code"]))).collect()
}

fn feedback(server: &Served, campaign: &str) -> Json {
    let report = server.report(campaign);
    let (whole, message) = (&report["deliveries"][0]["feedback"], &report["deliveries"][0]["messages"][0]["feedback"]);
    assert_eq!(whole, message, "one message is the whole delivery");
    whole.clone()
}

#[test]
fn events_count_once_and_keep_mail_from_those_who_bounced_or_complained() {
    let (mut server, ids) = sent();
    let lines = [
        json!({"id": "d0", "type": "delivered", "message_id": ids[0]}),
        json!({"id": "b1", "type": "bounced", "class": "hard", "message_id": ids[1]}),
        json!({"id": "b2", "type": "bounced", "class": "soft", "message_id": ids[2]}),
        json!({"id": "c3", "type": "complained", "message_id": ids[3]}),
        json!({"id": "v4", "type": "converted", "contact": key(4), "campaign": "first", "properties": {"value": 12}}),
        json!({"id": "v4b", "type": "converted", "contact": key(4), "campaign": "first", "class": "machine"}),
        json!({"id": "x5", "type": "visited.shop", "contact": key(5)}),
        json!({"id": "d0", "type": "delivered", "message_id": ids[0]}),
    ];
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let taken = server.post_text("/v1/events", "application/x-ndjson", body.clone()).expect(200);
    assert_eq!(
        (&taken["accepted"], &taken["duplicate"], &taken["refused"]),
        (&json!(7), &json!(1), &json!(0)),
        "{taken}"
    );
    assert_eq!(taken["results"][7], json!({"line": 8, "id": "d0", "result": "duplicate"}), "by its line");
    let counts = feedback(&server, "first");
    assert_eq!(counts["delivered"], json!({"unique": 1, "total": 1}), "{counts}");
    assert_eq!(counts["bounced_hard"], json!({"unique": 1, "total": 1}), "{counts}");
    assert_eq!(counts["bounced_soft"], json!({"unique": 1, "total": 1}), "{counts}");
    assert_eq!(counts["complained"], json!({"unique": 1, "total": 1}), "{counts}");
    assert_eq!(
        counts["converted"],
        json!({"unique": 1, "total": 1, "suspect": 0, "machine": 1}),
        "people count: {counts}"
    );
    for (set, number) in
        [("delivered", 0), ("bounced:hard", 1), ("bounced:soft", 2), ("complained", 3), ("converted", 4)]
    {
        assert_eq!(server.keys("first", set), [key(number)], "{set}");
    }
    assert_eq!(server.keys("first", "bounced"), [key(1), key(2)]);

    server.restart();
    let again = server.post_text("/v1/events", "application/x-ndjson", body).expect(200);
    assert_eq!(again["duplicate"], 8, "ids are durable: {again}");
    assert_eq!(feedback(&server, "first"), counts, "and so is what followed");
    server.campaign("second", "relay", "p", &json!({}));
    server.act("second", "start").expect(200);
    let ledger = server.await_state("second", "finished")["ledger"].clone();
    assert_eq!(
        (&ledger["accepted"], &ledger["skipped_by"]),
        (&json!(4), &json!({"suppressed": 1, "suppressed_address": 1})),
        "{ledger}"
    );
    let text = server.call(reqwest::Method::GET, "/v1/suppressions?format=csv", &Json::Null).text;
    assert!(text.contains(&format!("email,hard_bounce,{}", key(1))), "{text}");
    assert!(text.contains(&format!("email,complaint,{}", key(3))), "{text}");
    let export = server.get(&format!("/v1/contacts/{}/export", key(5)));
    assert_eq!(export["events"]["visited.shop"]["count"], 1, "what is held about a contact: {export}");
    let types = server.cli(&["events", "types", "--json"]).json(0);
    let names: Vec<_> = types["items"].as_array().unwrap().iter().map(|t| t["type"].clone()).collect();
    assert_eq!(names, [json!("converted"), json!("visited.shop")], "{types}");
    let scraped = server.cli(&["metrics", "--scrape"]).expect(0);
    let series = "estafette_events_total{type=\"bounced\",result=\"duplicate\"} 2";
    assert!(scraped.contains(series), "{series} in {scraped}");
}

#[test]
fn what_an_event_must_not_say_is_refused_alone_and_by_its_code() {
    let (server, ids) = sent();
    server.people("q", 1, "y.test");
    server.campaign("draft", "relay", "p", &json!({}));
    let event = |more: Json| {
        let mut event = json!({"id": "r", "type": "bounced", "class": "hard"});
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        event
    };
    let mut forged = ids[0].clone();
    let other = if forged.starts_with("ab") { "aa" } else { "ab" };
    forged.replace_range(0..2, other);
    let rows = [
        (event(json!({"message_id": forged})), "event_foreign_message"),
        (event(json!({"message_id": "<x@y.test>"})), "event_foreign_message"),
        (event(json!({"message_id": ids[0], "campaign": "draft"})), "event_other_campaign"),
        (event(json!({"message_id": ids[0], "contact": key(1)})), "event_other_contact"),
        (event(json!({"contact": "nobody"})), "contact_not_found"),
        (event(json!({"contact": key(0), "campaign": "autumn"})), "campaign_not_found"),
        (event(json!({"contact": key(0), "campaign": "draft"})), "event_not_sent"),
        (event(json!({"contact": "q000000", "campaign": "first"})), "event_not_sent"),
        (event(json!({"campaign": "first"})), "event_no_subject"),
        (json!({"id": "r", "type": "delivered", "contact": key(0)}), "event_no_subject"),
        (event(json!({"contact": key(0), "time": "2199-01-01T00:00:00Z"})), "event_time"),
        (event(json!({"contact": key(0), "time": "2001-01-01T00:00:00Z"})), "event_time"),
        (event(json!({"contact": key(0), "time": "yesterday"})), "event_invalid"),
        (event(json!({"contact": key(0), "class": "human"})), "event_invalid"),
        (event(json!({"contact": key(0), "type": "opened", "class": null})), "event_invalid"),
        (event(json!({"contact": key(0), "colour": "red"})), "event_invalid"),
        (json!({"type": "delivered", "message_id": ids[0]}), "event_invalid"),
        (json!(["r", "complained", "p000000"]), "event_invalid"),
        (json!("x"), "event_invalid"),
    ];
    let (events, codes): (Vec<Json>, Vec<&str>) = rows.into_iter().unzip();
    let count = events.len();
    let mut all = events;
    all.push(event(json!({"contact": key(5)})));
    let taken = take(&server, &json!(all));
    for (index, (code, said)) in codes.iter().zip(words(&taken)).enumerate() {
        assert_eq!(said, ("refused".to_owned(), (*code).to_owned()), "{}: {}", all[index], taken["results"][index]);
    }
    assert_eq!(words(&taken)[count].0, "accepted", "the good one is taken");
    let text = server.call(reqwest::Method::GET, "/v1/suppressions?format=csv", &Json::Null).text;
    assert_eq!(text.lines().count(), 2, "one entry, of the good one: {text}");
    server.post("/v1/events", &json!(3)).refused("invalid_body", "array");
    server.post_text("/v1/events", "application/json", "[{").refused("invalid_body", "line");
    server.post_text("/v1/events", "text/plain", "x").refused("unsupported_media_type", "ndjson");
}

#[test]
fn a_file_of_events_is_sent_with_a_word_on_each_line() {
    let (server, ids) = sent();
    let good = json!({"id": "1", "type": "delivered", "message_id": ids[0]}).to_string();
    let lines = server.write("events.ndjson", format!("{good}\nnonsense\n\n{good}\n"));
    let ran = server.cli(&["events", "send", &lines]);
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.out.contains("1 accepted, 1 known already, 1 refused"), "{ran:?}");
    assert!(ran.out.contains("line 2") && ran.out.contains("[event_invalid]"), "{ran:?}");
    let array = server.write("events.json", format!("[{good}]"));
    let taken = server.cli(&["events", "send", &array, "--json"]).json(0);
    assert_eq!(taken["duplicate"], 1, "{taken}");
    server.import("key=id", std::fs::read(file("examples/contacts.csv")).expect("contacts"));
    let example = file("examples/events.ndjson");
    let ran = server.cli(&["events", "send", example.to_str().expect("a path")]).expect(0);
    assert!(ran.contains("3 accepted"), "{ran}");
}

fn dsn(to: &str, action: &str, status: &str) -> String {
    format!(
        "From: MAILER-DAEMON@relay.test\nTo: {to}\nSubject: Undelivered Mail Returned to Sender\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"x\"\n\n--x\nContent-Type: text/plain\n\n\
         Sorry.\n--x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; relay.test\n\n\
         Final-Recipient: rfc822; somebody@x.test\nAction: {action}\nStatus: {status}\n\n--x--\n"
    )
}

/// Pipes a mail into `estafette inbound`; the exit code and what it said.
fn pipe(url: &str, api_key: &str, args: &[&str], mail: &str) -> (i32, String) {
    let mut command = Command::new(program());
    command.arg("inbound").args(args).env("ESTAFETTE_URL", url).env("ESTAFETTE_KEY", api_key);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("its input").write_all(mail.as_bytes()).expect("it reads all");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn an_mta_pipes_reports_and_hears_what_to_do_with_them() {
    let (server, ids) = sent();
    let url = server.api();
    let verp = |id: &str| format!("bounce+{}@bounces.example.test", id.split('@').next().unwrap());
    let inbound = |args: &[&str], mail: &str| pipe(&url, ADMIN_KEY, args, mail);
    let bounce = dsn(&verp(&ids[0]), "failed", "5.1.1");
    let (code, said) = pipe("http://127.0.0.1:1", ADMIN_KEY, &[], &bounce);
    assert_eq!(code, 75, "nobody is there: {said}");
    let (code, said) = pipe(&url, "est_wrong_wrong_wrong", &[], &bounce);
    assert_eq!(code, 75, "a wrong key is mended by a person, and the report waits: {said}");
    let key_file = server.write("key", format!("{ADMIN_KEY}\n"));
    let mut command = Command::new(program());
    command.args(["inbound", "--key-file", "/nowhere"]).env_remove("ESTAFETTE_KEY").stdin(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("it runs");
    child.stdin.take().expect("its input").write_all(bounce.as_bytes()).expect("it reads all");
    assert_eq!(child.wait().expect("it ends").code(), Some(75), "no key: it waits");

    let (code, said) = inbound(&[], &bounce);
    assert_eq!((code, said.starts_with("accepted: bounced hard")), (0, true), "{said}");
    let (code, said) = inbound(&[], &bounce);
    assert_eq!((code, said.starts_with("duplicate")), (0, true), "the same report again: {said}");
    let full = dsn("news@example.test", "failed", "4.2.2");
    let (code, said) = inbound(&["--recipient", &verp(&ids[1]).to_uppercase()], &full);
    assert_eq!((code, said.contains("bounced soft")), (0, true), "by the envelope: {said}");
    let complaint = format!(
        "To: fbl@example.test\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=x\n\n\
         --x\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n\n\
         --x\nContent-Type: message/rfc822\n\nMessage-ID: <{}>\nSubject: s\n\nbody\n--x--\n",
        ids[2]
    );
    assert_eq!(inbound(&[], &complaint).0, 0);
    let forged = verp(&ids[3]).replace("bounce+a", "bounce+b");
    let (code, said) = inbound(&[], &dsn(&forged, "failed", "5.1.1"));
    assert_eq!((code, said.contains("event_foreign_message")), (65, true), "forged: {said}");
    assert_eq!(inbound(&[], &dsn(&verp(&ids[3]), "delayed", "4.4.1")).0, 0, "a delay is taken in");
    assert_eq!(
        inbound(&[], &format!("To: {}\nSubject: away\n\nI am away\n", verp(&ids[3]))).0,
        0,
        "an automatic reply, too"
    );
    assert_eq!(inbound(&[], "").0, 65, "nothing at all");
    assert!(server.cli(&["inbound", "--help"]).expect(0).contains("master.cf"), "how it is set up");

    let counts = feedback(&server, "first");
    for (name, unique) in [("bounced_hard", 1), ("bounced_soft", 1), ("complained", 1), ("delivered", 0)] {
        assert_eq!(counts[name]["unique"], unique, "{name}: {counts}");
    }
    assert_eq!(server.keys("first", "bounced:hard"), [key(0)], "a forged one is about nobody");
    let (code, said) = pipe(&url, "", &["--key-file", &key_file], &dsn(&verp(&ids[4]), "delivered", "2.0.0"));
    assert_eq!((code, said.contains("delivered")), (0, true), "the key from a file: {said}");
}

const REFUSING: &str = "[[connectors]]\nname = \"relay\"\nkind = \"simulated\"\nhard_bounce_share = 0.5\n\
                        suppress_after_hard_bounces = 0\n";

#[test]
fn too_many_hard_bounces_pause_a_run_until_a_person_resumes_it() {
    let server = Served::start(REFUSING);
    server.people("p", 400, "x.test");
    let rule = json!({"limits": {"messages_per_second": 200}, "auto_pause": {"hard_bounces": "10%", "minimum": 100}});
    server.campaign("bad", "relay", "p", &rule);
    server.act("bad", "start").expect(200);
    let report = server.await_state("bad", "paused");
    let ledger = &report["ledger"];
    let attempted = ledger["accepted"].as_u64().unwrap() + ledger["rejected"].as_u64().unwrap();
    assert!((100..400).contains(&attempted), "it stopped on the way: {ledger}");
    let message = report["stall"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("hard bounces of") && message.contains("more than 10 %"), "{report}");
    let reason = server.get("/v1/campaigns/bad")["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("paused by itself"), "{reason}");
    assert!(server.cli(&["report", "bad"]).expect(0).contains("paused by itself"), "people read it, too");
    assert!(
        server
            .cli(&["metrics", "--scrape"])
            .expect(0)
            .contains("estafette_auto_pauses_total{cause=\"hard_bounces\"} 1")
    );

    server.cli(&["campaign", "resume", "bad"]).expect(0);
    let next = server.until("it went on", || {
        let report = server.report("bad");
        let ledger = &report["ledger"];
        let now = ledger["accepted"].as_u64().unwrap() + ledger["rejected"].as_u64().unwrap();
        (now > attempted + 20 || report["state"] == "paused").then_some((report["state"].clone(), now))
    });
    assert!(next.1 >= attempted + 20, "the same bounces do not pause it again: {next:?} after {attempted}");
    let mut pauses = 1;
    server.until("it ends, paused by new bounces now and then", || {
        let state = server.report("bad")["state"].clone();
        if state == "paused" {
            pauses += 1;
            server.act("bad", "resume");
        }
        (state == "finished").then_some(())
    });
    assert!(pauses >= 2, "new bounces do pause it again: {pauses}");

    server.campaign("off", "relay", "p", &json!({"auto_pause": {"enabled": false, "minimum": 1}}));
    server.act("off", "start").expect(200);
    assert_eq!(server.await_state("off", "finished")["ledger"]["audience"], 400, "switched off");
    let bad = json!({"name": "c", "audience": {"all": true}, "auto_pause": {"hard_bounces": "ten"}});
    let check = server.post("/v1/campaigns/check", &bad).expect(200);
    let codes: BTreeSet<_> =
        check["problems"].as_array().unwrap().iter().map(|p| p["code"].as_str().unwrap()).collect();
    assert!(codes.contains("bad_auto_pause"), "{check}");
}

#[test]
fn complaints_pause_a_run_and_count_anew_after_a_resume() {
    let server = Served::start(INBOX);
    server.people("p", 120, "x.test");
    let rule = json!({"limits": {"messages_per_second": 20}, "auto_pause": {"complaints": "5%", "minimum": 10}});
    server.campaign("slow", "relay", "p", &rule);
    server.act("slow", "start").expect(200);
    server.until("twenty are out", || (server.count("slow", "accepted") >= 20).then_some(()));
    let some = server.keys("slow", "accepted");
    let complaint = |key: &String| json!({"id": key, "type": "complained", "contact": key, "campaign": "slow"});
    let events: Vec<Json> = some.iter().take(12).map(complaint).collect();
    assert_eq!(take(&server, &json!(events))["accepted"], 12);
    let report = server.await_state("slow", "paused");
    assert!(report["stall"]["message"].as_str().unwrap_or_default().contains("12 complaints of"), "{report}");
    server.act("slow", "resume").expect(200);
    let ledger = server.await_state("slow", "finished")["ledger"].clone();
    assert_eq!(ledger["accepted"], 120, "those complaints do not stop it again: {ledger}");
    assert_eq!(feedback(&server, "slow")["complained"], json!({"unique": 12, "total": 12}));
}
