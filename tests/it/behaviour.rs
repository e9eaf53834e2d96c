//! What contacts do, on the real program: events with properties, and the expressions that ask for them; engagement over many
//! messages; resends of a follow-up.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::people::{BROWSER, INBOX, link};
use crate::served::Served;

fn key(number: usize) -> String {
    format!("p{number:06}")
}

fn count(server: &Served, expression: &str) -> u64 {
    let found = server.post("/v1/segments/preview", &json!({"expression": expression, "sample": 0})).expect(200);
    found["count"].as_u64().unwrap_or_else(|| panic!("a count: {found}"))
}

fn days_ago(days: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days)).to_string()
}

fn finished(server: &Served, name: &str) -> Json {
    server.act(name, "start").expect(200);
    server.await_state(name, "finished")
}

fn wrong_expressions_are_refused(server: &Served) {
    for (wrong, code) in [
        ("did \"purchase\" at least 0 times", "segment_bad_count"),
        ("did \"purchase\" at least 2 times in last 120d", "segment_bad_days"),
        ("did \"purchase\" at least 2", "segment_syntax"),
        ("did \"purchase\" with plan", "segment_syntax"),
        ("engaged with at least 101 messages in last 30d", "segment_bad_count"),
    ] {
        let refused = server.post("/v1/segments/preview", &json!({"expression": wrong}));
        assert!(refused.status == 422 || refused.status == 400, "{wrong}: {}", refused.text);
        assert!(refused.text.contains(code), "{wrong}: {code} in {}", refused.text);
    }
}

#[test]
fn expressions_ask_what_contacts_did_how_often_when_and_with_what() {
    let mut server = Served::start(INBOX);
    server.people("p", 6, "x.test");
    // Contact, days ago, plan.
    let events = [(0, 1, "gold"), (0, 3, "gold"), (1, 1, "free"), (1, 60, "gold"), (2, 40, "free"), (3, 200, "free")];
    let bought: Vec<Json> = events
        .into_iter()
        .enumerate()
        .map(|(at, (who, days, plan))| {
            let properties = json!({"plan": plan, "items": 3, "paid": true, "price": 9.5});
            json!({"id": format!("e{at}"), "type": "purchase", "contact": key(who), "time": days_ago(days),
                "properties": properties})
        })
        .collect();
    let taken = server.post("/v1/events", &json!(bought)).expect(200);
    assert_eq!((&taken["accepted"], &taken["refused"]), (&json!(6), &json!(0)), "{taken}");
    server.post("/v1/events", &json!({"id": "l", "type": "login", "contact": key(5)})).expect(200);
    for restarted in [false, true] {
        for (expression, expected) in [
            ("did \"purchase\"", 4),
            ("did \"purchase\" in last 7d", 2),
            ("did \"purchase\" at least 2 times", 2),
            ("did \"purchase\" at least 2 times in last 30d", 1),
            ("did \"purchase\" at least 2 times in last 90d", 2),
            ("did \"purchase\" and not did \"purchase\" in last 7d", 2),
            ("not did \"purchase\" in last 52w", 2),
            ("did \"purchase\" with plan = \"gold\"", 2),
            ("did \"purchase\" with items = 3 and did \"purchase\" with paid = true", 4),
            ("did \"purchase\" with price = \"9.5\"", 0),
            ("did \"purchase\" with plan = \"gold\" and not did \"login\"", 2),
            ("did \"nothing.yet\"", 0),
        ] {
            assert_eq!(count(&server, expression), expected, "{expression}, restarted: {restarted}");
        }
        if !restarted {
            server.kill();
        }
    }
    wrong_expressions_are_refused(&server);
    let types = server.cli(&["events", "types", "--json"]).json(0);
    let purchase = types["items"].as_array().unwrap().iter().find(|t| t["type"] == "purchase").expect("known").clone();
    assert_eq!(purchase["properties"], json!({"items": 1, "paid": 1, "plan": 2}), "what is kept: {purchase}");
    let export = server.get(&format!("/v1/contacts/{}/export", key(1)));
    let held = &export["events"]["purchase"];
    assert_eq!((&held["count"], &held["properties"]["plan"]), (&json!(2), &json!(["free", "gold"])), "{held}");

    // Everywhere an expression is: a saved segment, an audience, a condition of a flow.
    let segment = json!({"name": "buyers", "expression": "did \"purchase\" in last 7d"});
    server.post("/v1/segments", &segment).expect(201);
    let audience =
        json!({"audience": {"segment": "in segment \"buyers\"", "exclude": "did \"purchase\" with plan = \"free\""}});
    server.campaign("again", "relay", "p", &audience);
    finished(&server, "again");
    assert_eq!(server.keys("again", "accepted"), [key(0)]);
    let message = json!({"channel": "email", "connector": "relay", "topic": "news", "from": "News <n@example.test>",
        "subject": "S", "text": "T"});
    let flow = json!({"name": "flow", "kind": "flow", "audience": {"all": true}, "message": message, "nodes": [
        {"id": "start", "kind": "start", "then": "bought"},
        {"id": "bought", "kind": "condition", "segment": "did \"purchase\" at least 2 times", "exits": {"true": "thanks"}},
        {"id": "thanks", "kind": "send", "then": "end"},
        {"id": "end", "kind": "end"},
    ]});
    server.post("/v1/campaigns", &flow).expect(201);
    finished(&server, "flow");
    assert_eq!(server.keys("flow", "accepted"), [key(0), key(1)], "a condition asks it, too");
}

#[test]
fn engagement_with_any_message_is_asked_by_how_many_and_how_lately() {
    let server = Served::start(INBOX);
    server.people("p", 4, "x.test");
    for name in ["one", "two"] {
        server.campaign(name, "relay", "p", &json!({}));
        finished(&server, name);
    }
    // A click at once is a machine's.
    std::thread::sleep(Duration::from_millis(2_500));
    let browser = reqwest::blocking::Client::builder()
        .no_proxy()
        .user_agent(BROWSER)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let visit = |number: usize, mail: usize, path: &str| {
        let mail = server.mails_to(&format!("{}@x.test", key(number))).remove(mail);
        let answer = browser.get(link(&mail, &server, path)).send().expect("an answer");
        assert!(answer.status().as_u16() < 400, "{answer:?}");
    };
    visit(0, 0, "/o/");
    visit(0, 1, "/o/");
    visit(1, 0, "/o/");
    visit(1, 1, "/c/");
    visit(2, 0, "/c/");
    server.until("opens are known", || (count(&server, "opened any campaign in last 1d") == 2).then_some(()));
    server.until("clicks are known", || (count(&server, "clicked any campaign in last 1d") == 2).then_some(()));
    for (expression, expected) in [
        ("opened at least 1 message in last 7d", 2),
        ("opened at least 2 messages in last 7d", 1),
        ("clicked at least 1 message in last 7d", 2),
        ("engaged with at least 1 message in last 7d", 3),
        ("engaged with at least 2 messages in last 2w", 2),
        ("not engaged with at least 1 messages in last 1d", 1),
    ] {
        assert_eq!(count(&server, expression), expected, "{expression}");
    }
}

#[test]
fn conversions_are_summed_up_by_currency_and_events_of_one_s_own_are_counted_where_they_belong() {
    let mut server = Served::start(INBOX);
    server.people("p", 4, "x.test");
    server.campaign("spring", "relay", "p", &json!({}));
    finished(&server, "spring");
    let converted = |id: &str, who: usize, properties: Json| json!({"id": id, "type": "converted", "contact": key(who), "campaign": "spring", "properties": properties});
    let events = json!([
        converted("1", 0, json!({"value": 12.5, "currency": "EUR", "plan": "gold"})),
        converted("2", 1, json!({"value": 7.25, "currency": "eur"})),
        converted("3", 1, json!({"value": 3, "currency": "USD"})),
        converted("4", 2, json!({"plan": "gold"})),
        converted("5", 2, json!({"value": "much"})),
        converted("6", 2, json!({"value": 1, "currency": "Euro"})),
        {"id": "7", "type": "visited.shop", "contact": key(3), "campaign": "spring"},
        {"id": "8", "type": "visited.shop", "contact": key(3), "campaign": "spring"},
        converted("1", 0, json!({"value": 12.5, "currency": "EUR"})),
    ]);
    let taken = server.post("/v1/events", &events).expect(200);
    assert_eq!(
        (&taken["accepted"], &taken["refused"], &taken["duplicate"]),
        (&json!(6), &json!(2), &json!(1)),
        "{taken}"
    );
    assert_eq!(
        (&taken["results"][4]["code"], &taken["results"][5]["code"]),
        (&json!("event_invalid"), &json!("event_invalid"))
    );
    for _ in 0..2 {
        let feedback = server.report("spring")["deliveries"][0]["feedback"].clone();
        assert_eq!(feedback["converted"]["unique"], 3, "{feedback}");
        assert_eq!(feedback["converted_value"], json!({"EUR": "19.75", "USD": "3"}), "{feedback}");
        assert_eq!(feedback["custom"], json!({"visited.shop": {"unique": 1, "total": 2}}), "{feedback}");
        assert_eq!(count(&server, "did \"converted\" with plan = \"gold\""), 2);
        server.restart();
    }
    let shown = server.cli(&["report", "spring"]).expect(0);
    assert!(shown.contains("19.75 EUR") && shown.contains("visited.shop"), "{shown}");
}

#[test]
fn an_event_about_a_row_of_an_upload_is_counted_on_its_message_and_makes_no_contact() {
    let server = Served::start(INBOX);
    server.post_text("/v1/audiences?name=fair", "text/csv", "email,code\nann@x.test,A1\nbob@x.test,B1\n").expect(201);
    let spec = json!({
        "name": "fair", "kind": "single", "audience": {"upload": "fair", "consent_confirmed": true},
        "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "News <news@example.test>",
            "subject": "Hello", "text": "Hello"},
    });
    server.post("/v1/campaigns", &spec).expect(201);
    finished(&server, "fair");
    let mail = server.mails_to("ann@x.test").remove(0);
    let id = mail_parser::MessageParser::new().parse(&mail).expect("a mail").message_id().map(str::to_owned);
    let events = json!([
        {"id": "1", "type": "visited.shop", "message_id": id, "properties": {"plan": "gold"}},
        {"id": "2", "type": "converted", "message_id": id, "properties": {"value": 5, "currency": "EUR"}},
    ]);
    assert_eq!(server.post("/v1/events", &events).expect(200)["accepted"], 2);
    let feedback = server.report("fair")["deliveries"][0]["feedback"].clone();
    assert_eq!(feedback["custom"], json!({"visited.shop": {"unique": 1, "total": 1}}), "a trace on its message");
    assert_eq!((&feedback["converted"]["unique"], &feedback["converted_value"]["EUR"]), (&json!(1), &json!("5")));
    assert_eq!(server.get("/v1/events/types")["items"], json!([]), "and nothing of the base");
}

#[test]
fn a_follow_up_s_own_message_is_sent_again_to_whom_it_failed() {
    let pace = "[[connectors]]\nname = \"slow\"\nkind = \"inbox\"\n";
    let server = Served::start(&format!("{INBOX}{pace}"));
    server.people("p", 4, "x.test");
    let follow_up = json!({"on": "not_opened", "after": "1s",
        "message": {"subject": "Again, {{ contact.zone }}", "missing": "skip"}});
    server.campaign("spring", "relay", "p", &json!({ "follow_up": follow_up }));
    let report = finished(&server, "spring");
    assert_eq!(report["deliveries"][1]["skipped"], 4, "nobody has a zone: {report}");
    let path = "/v1/campaigns/spring/resend";
    server.post(path, &json!({"set": "skipped"})).refused("resend_refused", "follow_up:skipped");
    server.post(path, &json!({"set": "follow_up:never"})).refused("invalid_set", "follow_up:not_opened");
    server
        .call(reqwest::Method::PATCH, &format!("/v1/contacts/{}", key(1)), &json!({"zone": "Europe/Paris"}))
        .expect(200);
    let done = server.cli(&["campaign", "resend", "spring", "--set", "follow_up:skipped", "--json"]).json(0);
    assert_eq!((&done["in_set"], &done["covered"]), (&json!(4), &json!(0)), "{done}");
    let name = done["name"].as_str().expect("a name").to_owned();
    let again = server.await_state(&name, "finished");
    assert_eq!((&again["ledger"]["accepted"], &again["ledger"]["skipped"]), (&json!(1), &json!(3)), "{again}");
    let mail = server.mails_to(&format!("{}@x.test", key(1))).remove(0);
    assert!(
        mail.contains("Again, Europe/Paris") && mail.contains("shop.example.test") || mail.contains("/c/"),
        "{mail}"
    );
    let twice = server.post(path, &json!({"set": "follow_up:skipped", "draft": true})).expect(201);
    assert_eq!(twice["covered"], 1, "who got it is left out: {twice}");
    let first = server.post(path, &json!({"set": "not_opened", "draft": true})).expect(201);
    assert_eq!(first["covered"], 0, "the first message is another one: {first}");
    server.campaign("plain", "relay", "p", &json!({}));
    finished(&server, "plain");
    let none = server.post("/v1/campaigns/plain/resend", &json!({"set": "follow_up:rejected"}));
    none.refused("resend_refused", "no follow-up");
}
