//! Tests of variants and what is said about them, where it is easily said wrongly: a sample of everybody, a choice without a
//! name, conversions of before, a variant that may not win, steps whose date is taken away.

use serde_json::{Value as Json, json};

use crate::sequences;
use crate::served::Served;

const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";

/// A test by conversions, whose readers are events.
fn tested(server: &Served, name: &str, list: &str, test: &Json) {
    let mut test = test.clone();
    test["winner_by"] = json!("conversions");
    let more = json!({
        "kind": "ab_split", "variants": [{"name": "A", "subject": "Plain"}, {"name": "B", "subject": "Better"}], "test": test,
    });
    server.campaign(name, "relay", list, &more);
    server.act(name, "start").expect(200);
}

/// Waits until so many of the sample have a variant; the contacts of each.
fn sampled(server: &Served, name: &str, contacts: usize) -> [Vec<String>; 2] {
    server.until("the sample is out", || (server.count(name, "accepted") == contacts as u64).then_some(()));
    let subject = |key: &str| server.mails_to(&format!("{key}@x.test")).concat().contains("Subject: Better");
    let keys = server.keys(name, "accepted").into_iter();
    let (better, plain) = keys.partition(|key| subject(key));
    [plain, better]
}

fn converted(contact: &str, campaign: &str, more: &Json) -> Json {
    let mut event = json!({"id": format!("{campaign}-{contact}-{more}"), "type": "converted", "contact": contact, "campaign": campaign});
    for (key, value) in more.as_object().into_iter().flatten() {
        event[key] = value.clone();
    }
    event
}

fn hours_ago(hours: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string()
}

#[test]
fn a_sample_of_everybody_is_judged_before_the_run_ends() {
    let server = Served::start(INBOX);
    server.people("a", 40, "x.test");
    tested(&server, "whole", "a", &json!({"sample": "100%", "decide_after": "6s", "window": "3s"}));
    let [plain, better] = sampled(&server, "whole", 40);
    assert_eq!((plain.len(), better.len()), (20, 20), "halves");
    assert_eq!(
        server.report("whole")["state"],
        "running",
        "nobody waits for the winner, and it is looked at all the same"
    );
    let mut events: Vec<Json> = better[..5].iter().map(|key| converted(key, "whole", &json!({}))).collect();
    events.push(converted(&plain[0], "whole", &json!({})));
    assert_eq!(server.post("/v1/events", &json!(events)).expect(200)["accepted"], 6, "taken");
    let report = server.await_state("whole", "finished");
    let test = &report["tests"][0];
    assert_eq!(test["looks"].as_array().map(Vec::len), Some(1), "{test}");
    assert_eq!((&test["verdict"], &test["decision"]["winner"]), (&json!("not enough data"), &json!("B")), "{test}");

    // A tie leaves nothing to choose where nobody waits.
    server.people("b", 10, "y.test");
    tested(&server, "equal", "b", &json!({"sample": 1000, "decide_after": "2s", "window": "1s"}));
    let report = server.await_state("equal", "finished");
    let test = &report["tests"][0];
    assert_eq!((&test["decision"], &test["waits_for_person"]), (&Json::Null, &Json::Null), "{test}");
    let text = server.cli(&["report", "equal"]).expect(0);
    assert!(text.contains("ended without a decision") && !text.contains("choose-winner"), "{text}");
}

#[test]
fn a_test_whose_metric_cannot_happen_is_warned_of() {
    let server = Served::start(INBOX);
    server.people("w", 3, "x.test");
    let warned = |winner_by: &str, second: Json| {
        let spec = json!({
            "name": "w", "kind": "ab_split", "audience": {"list": "w"}, "test": {"winner_by": winner_by},
            "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "a@x.test",
                "subject": "s", "text": "no link {{ unsubscribe_url }}"},
            "variants": [{"subject": "one"}, second],
        });
        let found = server.post("/v1/campaigns/check", &spec).expect(200);
        let all = found["warnings"].as_array().expect("warnings").iter().filter(|w| w["code"] == "nothing_to_count");
        let said: Vec<String> = all.map(|w| w["message"].as_str().expect("words").to_owned()).collect();
        said.join("; ")
    };
    let link = json!({"text": "https://shop.example.test/ {{ unsubscribe_url }}"});
    let html = json!({"html": "<p>Hello <a href=\"{{ unsubscribe_url }}\">no more</a></p>"});
    let other = || json!({"subject": "two"});
    assert!(warned("clicks", other()).contains("its variants have no link"), "{}", warned("clicks", other()));
    assert!(warned("clicks", link.clone()).contains("variant A has no link"), "{}", warned("clicks", link));
    assert!(warned("opens", html.clone()).contains("variant A has no HTML"), "{}", warned("opens", html));
    assert_eq!(warned("conversions", other()), "", "events come without links");
}

#[test]
fn a_choice_says_whom_and_by_whom() {
    let server = Served::start(INBOX);
    server.people("c", 40, "x.test");
    tested(&server, "choice", "c", &json!({"sample": "50%", "decide_after": "4h"}));
    sampled(&server, "choice", 20);
    let choose = |body: Json| server.post("/v1/campaigns/choice/choose-winner", &body);
    choose(json!({})).refused("invalid_body", "variant");
    choose(json!({"by": "ann"})).refused("invalid_body", "variant");
    choose(json!({"winner": "A"})).refused("invalid_body", "winner");
    choose(json!({"variant": "A", "by": "Engine"})).refused("invalid_parameter", "by");
    choose(json!({"variant": "A", "by": " "})).refused("invalid_parameter", "by");
    choose(json!({"variant": "C", "by": "ann"})).refused("no_choice", "A, B");
    let goals = ["opened", "complained", "my goal"].map(|goal| json!({"winner_by": "conversions", "goal": goal}));
    for test in goals.into_iter().chain([json!({"sample": -3}), json!({"sample": 2.5})]) {
        let spec =
            json!({"name": "g", "kind": "ab_split", "test": test, "variants": [{"subject": "a"}, {"subject": "b"}]});
        let found = server.post("/v1/campaigns/check", &spec).expect(200)["problems"].to_string();
        assert!(
            found.contains("no type of events") || found.contains("neither a number of contacts nor"),
            "{test}: {found}"
        );
    }
    assert_eq!(server.report("choice")["tests"][0]["decision"], Json::Null, "nothing is decided by mistake");
    let text = server.cli(&["report", "choice"]).expect(0);
    assert!(text.contains("not decided yet, until 20") && text.contains("20 contacts wait"), "{text}");
    let chosen = choose(json!({"variant": null, "by": " ann "})).expect(200);
    let decision = &chosen["decision"];
    assert_eq!((&decision["winner"], &decision["by"]), (&Json::Null, &json!("ann")), "nobody, said aloud: {chosen}");
    let report = server.await_state("choice", "finished");
    assert_eq!(report["ledger"]["skipped_by"]["no_winner"], 20, "{}", report["ledger"]);
}

#[test]
fn what_happened_before_the_mail_is_no_conversion_of_it() {
    let server = Served::start(INBOX);
    server.people("d", 40, "x.test");
    tested(&server, "late", "d", &json!({"sample": "50%", "decide_after": "20s", "window": "10s"}));
    let [plain, better] = sampled(&server, "late", 20);
    let id = |key: &str| {
        let mail = server.mails_to(&format!("{key}@x.test")).remove(0);
        let parsed = mail_parser::MessageParser::new().parse(&mail).expect("a mail").message_id().map(str::to_owned);
        parsed.expect("a Message-ID")
    };
    // The shop sends the day's orders in the evening: this morning's are of before the mail.
    let early = json!({"time": hours_ago(5)});
    let send = |events: Vec<Json>| server.post("/v1/events", &json!(events)).expect(200);
    let refused = send(vec![converted(&plain[0], "late", &early)]);
    assert_eq!(refused["results"][0]["code"], "event_not_sent", "{refused}");
    // Of the sender's own: the contact's, and not the message's.
    let own = json!({"id": "own", "type": "purchase", "contact": plain[1], "campaign": "late", "time": hours_ago(5)});
    assert_eq!(send(vec![own])["accepted"], 1, "it did happen");
    // By the name of the message it is told of, and not counted by the test.
    let named = json!({"id": "named", "type": "converted", "message_id": id(&plain[2]), "time": hours_ago(5)});
    assert_eq!(send(vec![named])["accepted"], 1, "whose message it is, is proven");
    // A complaint keeps from mail whatever a clock says.
    let complaint =
        json!({"id": "no", "type": "complained", "contact": plain[3], "campaign": "late", "time": hours_ago(5)});
    assert_eq!(send(vec![complaint])["accepted"], 1, "taken");
    let now: Vec<Json> = better[..2].iter().map(|key| converted(key, "late", &json!({}))).collect();
    assert_eq!(send(now)["accepted"], 2, "and two of after");
    let machine = converted(&better[5], "late", &json!({"class": "machine"}));
    assert_eq!(send(vec![machine])["accepted"], 1, "and a machine's");

    let report = server.await_state("late", "finished");
    let test = &report["tests"][0];
    let events: Vec<&Json> = test["arms"].as_array().expect("arms").iter().map(|arm| &arm["events"]).collect();
    assert_eq!(events, [&json!(0), &json!(2)], "{test}");
    let message = |at: usize| report["deliveries"][0]["messages"][at]["feedback"].clone();
    assert_eq!(message(0)["converted"]["unique"], 1, "the message has what names it: {report}");
    assert_eq!((&message(0)["complained"]["unique"], &message(0)["custom"]), (&json!(1), &Json::Null), "{report}");
    let mut people = vec![plain[2].clone(), better[0].clone(), better[1].clone()];
    people.sort();
    assert_eq!(server.keys("late", "converted"), people, "the set is of people, as the report's count is");
    let did = server.post("/v1/segments/preview", &json!({"expression": "did \"converted\"", "sample": 0})).expect(200);
    assert_eq!(did["count"], 3, "what a machine does is no behaviour of the contact");
}

#[test]
fn the_date_of_a_step_that_contacts_wait_for_can_be_taken_away() {
    let mut server = sequences::served();
    let first = json!({"id": "now", "kind": "send", "message": {"subject": "now"}});
    let mut spec =
        sequences::spec(json!([first, sequences::send("later", 3_600_000), sequences::send("last", 7_200_000)]));
    spec["starter"] = json!("api");
    spec.as_object_mut().expect("an object").remove("audience");
    sequences::create(&server, &spec);
    sequences::publish(&server);
    let enter = |server: &Served, keys: &[&str], name: &str| {
        server.post("/v1/campaigns/winter/enter", &json!({"contacts": keys, "idempotency_key": name})).expect(200)
    };
    enter(&server, &["c1", "c2"], "r1");
    let waiting = |server: &Served, id: &str| sequences::step(&sequences::report(server), id)["waiting"].clone();
    server.until("they wait for the second", || (waiting(&server, "later") == 2).then_some(()));
    let view = server.post("/v1/campaigns/winter/edit", &json!({})).expect(200);
    let mut steps = view["working_copy"]["spec"]["steps"].as_array().expect("steps").clone();
    steps[1].as_object_mut().expect("a step").remove("at");
    sequences::patch(&server, &json!({"steps": steps}));
    let done = sequences::publish(&server);
    assert_eq!(done["steps"][1]["planned"], Json::Null, "at once: {done}");
    server.until("they go on", || (waiting(&server, "last") == 2).then_some(()));
    assert_eq!(sequences::accepted(&sequences::report(&server), "later"), 2, "it was sent");
    server.kill();
    enter(&server, &["c3"], "r2");
    server.until("who enters afterwards does both", || (waiting(&server, "last") == 3).then_some(()));
    let csv = server.cli(&["report", "winter", "--format", "csv"]).expect(0);
    assert!(csv.lines().any(|line| line == "step,,last,,waiting,3"), "planned and effective are in the table: {csv}");
    assert!(csv.lines().any(|line| line.starts_with("step,,last,,effective,20")), "{csv}");
    let text = server.cli(&["campaign", "stop", "winter"]).expect(0);
    let last = text.lines().find(|line| line.trim_start().starts_with("last")).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(last.split_whitespace().skip(2).collect::<Vec<_>>(), ["3", "0"], "contacts, and none sent: {text}");
    assert!(!text.contains("cancelled.0"), "a list, and not its fields: {text}");
}
