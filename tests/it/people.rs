//! What comes back from people: opens, clicks, unsubscribes; and every file of `examples/`.

use std::time::Duration;

use serde_json::json;

use crate::served::{Served, estafette, file};

pub const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// The first address in a mail's HTML that begins with the public URL and this path.
pub fn link(mail: &str, server: &Served, path: &str) -> String {
    let parsed = mail_parser::MessageParser::new().parse(mail).expect("a mail");
    let html = parsed.body_html(0).expect("its HTML");
    let begins = format!("{}{path}", server.said("tracking "));
    let at = html.find(&begins).unwrap_or_else(|| panic!("no {begins} in {html}"));
    html[at..].chars().take_while(|c| *c != '"').collect()
}

#[test]
fn opens_clicks_and_unsubscribes_move_the_report_and_stop_a_later_row() {
    let server = Served::start(INBOX);
    server.people("p", 30, "x.test");
    server.campaign("first", "relay", "p", &json!({}));
    server.act("first", "start").expect(200);
    assert_eq!(server.await_state("first", "finished")["ledger"]["accepted"], 30);
    let (last, other) = ("p000029", "p000003");
    let mail = server.mails_to(&format!("{last}@x.test")).remove(0);
    let (click, open) = (link(&mail, &server, "/c/"), link(&mail, &server, "/o/"));
    let unsubscribe = link(&mail, &server, "/u/");
    // A click within two seconds of the hand-over counts as a scanner's.
    std::thread::sleep(Duration::from_millis(2_500));

    let browser = reqwest::blocking::Client::builder()
        .no_proxy()
        .user_agent(BROWSER)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let answer = browser.get(&click).header("accept-language", "fr").send().unwrap();
    assert_eq!(answer.status(), 302, "{click} in {mail}");
    assert_eq!(answer.headers()["location"], "https://shop.example.test/a", "{answer:?}");
    assert_eq!(browser.get(&open).header("accept-language", "fr").send().unwrap().status(), 200);
    server.until("the figures move", || {
        let report = server.report("first");
        let message = &report["deliveries"][0]["messages"][0];
        let moved = (&message["clicked"]["unique"], &message["opened"]["unique"], &message["links"][0]["unique"]);
        (moved == (&json!(1), &json!(1), &json!(1))).then_some(())
    });
    assert_eq!(server.keys("first", "clicked"), [last]);
    assert_eq!(server.keys("first", "opened"), [last]);
    assert_eq!(browser.get(format!("{click}x")).send().unwrap().status(), 404, "a tampered link");

    // Looking at the page changes nothing; the one-click request of RFC 8058 does, while a second campaign is on its way.
    server.campaign("second", "relay", "p", &json!({"limits": {"messages_per_second": 10}}));
    server.act("second", "start").expect(200);
    let page = browser.get(&unsubscribe).send().unwrap();
    assert!(page.status() == 200 && page.text().unwrap().contains("<form"), "a page with a button");
    let consent = |key: &str| server.get(&format!("/v1/contacts/{key}"))["consent"][0]["status"].clone();
    assert_eq!(consent(last), "subscribed", "looking is not leaving");
    let left = browser
        .post(&unsubscribe)
        .header("content-type", "application/x-www-form-urlencoded")
        .body("List-Unsubscribe=One-Click")
        .send()
        .unwrap();
    assert_eq!(left.status(), 200);
    assert_eq!((consent(last), consent(other)), (json!("unsubscribed"), json!("subscribed")), "durable before the 200");
    let ledger = server.await_state("second", "finished")["ledger"].clone();
    assert_eq!(ledger["accepted"], 29, "{ledger}");
    assert_eq!(server.keys("second", "skipped:unsubscribed"), [last], "the row that had not gone yet: {ledger}");
    assert_eq!(server.mails_to(&format!("{last}@x.test")).len(), 1, "nothing more was sent there");
    assert_eq!(server.keys("first", "unsubscribed"), [last], "and the first campaign counts it");
    let latency = server.report("second")["unsubscribe_latency_ms_max"].clone();
    assert!(latency.is_number(), "the time until it took effect is shown: {latency}");
}

#[test]
fn every_file_in_examples_does_what_it_says() {
    let checked = estafette(&["config", "check", file("examples/estafette.toml").to_str().unwrap()]).expect(0);
    assert!(checked.contains("is valid"), "{checked}");

    let server = Served::start(INBOX);
    let contacts = std::fs::read(file("examples/contacts.csv")).unwrap();
    let report = server.import("key=id&subscribe=email:news&list=everyone", contacts);
    assert_eq!((&report["accepted"], &report["rejected"], &report["merged"]), (&json!(10), &json!(0), &json!(0)));
    let loic = server.get("/v1/contacts/c000004");
    assert_eq!(loic["last_name"].as_str().or(loic["attributes"]["last_name"].as_str()), Some("d’Arcy, fils"), "{loic}");

    let spring = std::fs::read_to_string(file("examples/spring.toml")).unwrap();
    let spring = spring.replace("connector = \"inbox\"", "connector = \"relay\"");
    let check = server.post_text("/v1/campaigns/check", "application/toml", spring.clone()).expect(200);
    assert_eq!((&check["ready"], &check["problems"]), (&json!(true), &json!([])), "{check}");
    server.post_text("/v1/campaigns", "application/toml", spring).expect(201);
    let audience = server.post("/v1/campaigns/spring/audience", &json!({})).expect(200);
    assert_eq!((&audience["matched"], &audience["final"]), (&json!(5), &json!(4)), "two share an address: {audience}");
    let preview = server.post("/v1/campaigns/spring/preview", &json!({"contact": "c000001"})).expect(200);
    assert_eq!(preview["subject"], "Hello Chloé", "{preview}");
    assert!(preview["html"].as_str().unwrap().contains("before everybody else"), "Chloé is a VIP: {preview}");
    server.act("spring", "start").expect(200);
    let ledger = server.await_state("spring", "finished")["ledger"].clone();
    assert_eq!((&ledger["accepted"], &ledger["skipped"]), (&json!(4), &json!(1)), "{ledger}");
    assert_eq!(ledger["skipped_by"]["duplicate_address"], 1, "{ledger}");
    let mail = server.mails_to("loic@fr.example.test").remove(0);
    assert!(mail.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click"), "{mail}");

    for (name, accepted) in [
        ("ab-split", None),
        ("send-moment", None),
        ("stream-test", None),
        ("follow-up", None),
        ("multi-segment", Some(9)),
    ] {
        let spec = std::fs::read_to_string(file(&format!("examples/{name}.toml"))).unwrap();
        let spec = spec.replace("connector = \"inbox\"", "connector = \"relay\"");
        let check = server.post_text("/v1/campaigns/check", "application/toml", spec.clone()).expect(200);
        assert_eq!((&check["ready"], &check["problems"]), (&json!(true), &json!([])), "{name}: {check}");
        server.post_text("/v1/campaigns", "application/toml", spec).expect(201);
        let graph = server.cli(&["campaign", "graph", name]).expect(0);
        assert!(graph.contains("start (start)") && graph.contains("end"), "{name}: {graph}");
        if let Some(accepted) = accepted {
            server.act(name, "start").expect(200);
            let ledger = server.await_state(name, "finished")["ledger"].clone();
            let sent = ledger["accepted"].as_u64().unwrap() + ledger["skipped_by"]["no_message"].as_u64().unwrap_or(0);
            assert_eq!((sent, &ledger["balanced"]), (accepted, &json!(true)), "{name}: {ledger}");
        }
    }

    let sequence = std::fs::read_to_string(file("examples/sequence.toml")).unwrap();
    let sequence = sequence.replace("connector = \"inbox\"", "connector = \"relay\"");
    server.post_text("/v1/campaigns", "application/toml", sequence.clone()).expect(201);
    let shown = server.cli(&["campaign", "publish", "sequence"]).expect(6);
    assert!(shown.contains("hello") && shown.contains("2035-12-01T08:00:00"), "nine in Paris: {shown}");
    let done = server.cli(&["campaign", "publish", "sequence", "--yes", "--json"]).json(0);
    assert_eq!((&done["state"], &done["active"]), (&json!("scheduled"), &json!(true)), "{done}");
    let edited = server.cli(&["campaign", "edit", "sequence"]).expect(0);
    assert!(edited.contains("a working copy is open") && edited.contains("unreached"), "{edited}");
    server.act("sequence", "stop").expect(200);

    let reference: toml::Table =
        std::fs::read_to_string(file("examples/reference-message.toml")).unwrap().parse().unwrap();
    for (name, kind) in [("company", "text"), ("plan", "text"), ("points", "number"), ("member_since", "text")] {
        server.post("/v1/attributes", &json!({"name": name, "type": kind})).expect(201);
    }
    server.post("/v1/attributes", &json!({"name": "interests", "type": "list"})).expect(201);
    let mut message = serde_json::to_value(&reference["message"]).unwrap();
    for (key, value) in [("channel", "email"), ("connector", "relay"), ("topic", "news")] {
        message[key] = json!(value);
    }
    let spec = json!({"name": "reference", "kind": "single", "audience": {"all": true}, "message": message});
    let made = server.post("/v1/campaigns", &spec).expect(201);
    assert_eq!(made["problems"], json!([]), "{made}");
    server.act("reference", "start").expect(200);
    assert_eq!(server.await_state("reference", "finished")["ledger"]["accepted"], 9, "ten people, two of one address");
}

/// People, and a tool that names itself (suspect): sets and exports hold who counts, and nobody else.
#[test]
fn a_set_of_those_who_did_something_is_as_large_as_the_report_says() {
    let server = Served::start(INBOX);
    server.people("p", 6, "x.test");
    server.campaign("first", "relay", "p", &json!({}));
    server.act("first", "start").expect(200);
    assert_eq!(server.await_state("first", "finished")["ledger"]["accepted"], 6);
    std::thread::sleep(Duration::from_millis(2_500));
    let by = |agent: &str| {
        let client = reqwest::blocking::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        client.user_agent(agent).build().unwrap()
    };
    let (person, tool) = (by(BROWSER), by("curl/8.5.0"));
    for (number, client) in [(0, &person), (1, &person), (2, &tool), (3, &tool)] {
        let mail = server.mails_to(&format!("p00000{number}@x.test")).remove(0);
        for path in ["/o/", "/c/"] {
            assert!(client.get(link(&mail, &server, path)).send().unwrap().status().as_u16() < 400, "{path}");
        }
    }
    let message = server.until("all have come in", || {
        let message = server.report("first")["deliveries"][0]["messages"][0].clone();
        let seen = |what: &str| message[what]["total"].as_u64().unwrap() + message[what]["suspect"].as_u64().unwrap();
        (seen("opened") == 4 && seen("clicked") == 4).then_some(message)
    });
    for what in ["opened", "clicked"] {
        assert_eq!((&message[what]["unique"], &message[what]["suspect"]), (&json!(2), &json!(2)), "{message}");
        let size = |set: &str| server.keys("first", set).len() as u64;
        assert_eq!(Some(size(what)), message[what]["unique"].as_u64(), "{what}: the set is as large as the figure");
        assert_eq!(size(&format!("not_{what}")), 4, "{what}: and the others are the others");
        let asked = json!({"expression": format!("{what}(\"first\")"), "sample": 0});
        let found = server.post("/v1/segments/preview", &asked).expect(200);
        assert_eq!(found["count"].as_u64(), Some(2), "{what}: a segment says the same: {found}");
    }
    server
        .post("/v1/campaigns/first/resend", &json!({"set": "not_opened", "message": {"subject": "Again"}}))
        .expect(201);
    server.until("the others get it again", || {
        let sent = server.mails_to("p000002@x.test").len() + server.mails_to("p000005@x.test").len();
        (sent == 4 && server.mails_to("p000000@x.test").len() == 1).then_some(())
    });
}
