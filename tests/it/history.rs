//! What campaigns did to contacts, on the real program: history in expressions, caps, pauses, control groups.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::people::{BROWSER, INBOX, link};
use crate::served::Served;

fn count(server: &Served, expression: &str) -> u64 {
    let found = server.post("/v1/segments/preview", &json!({"expression": expression, "sample": 0})).expect(200);
    found["count"].as_u64().unwrap_or_else(|| panic!("a count: {found}"))
}

/// Opens or clicks the newest mail of each of these contacts, as a person with a browser would.
fn follow(server: &Served, keys: &[&str], path: &str) {
    let browser = reqwest::blocking::Client::builder()
        .no_proxy()
        .user_agent(BROWSER)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    for key in keys {
        let mail = server.mails_to(&format!("{key}@x.test")).remove(0);
        let answer = browser.get(link(&mail, server, path)).header("accept-language", "fr").send().expect("an answer");
        assert!(answer.status().as_u16() < 400, "{key}: {answer:?}");
    }
}

fn finished(server: &Served, name: &str) -> Json {
    server.act(name, "start").expect(200);
    server.await_state(name, "finished")
}

#[test]
fn history_is_asked_by_name_and_by_day_wherever_an_expression_is() {
    let mut server = Served::start(INBOX);
    server.people("p", 8, "x.test");
    server.people("q", 4, "x.test");
    server.campaign("spring", "relay", "p", &json!({}));
    assert_eq!(count(&server, "received(\"spring\")"), 0, "a draft has done nothing");
    assert_eq!(finished(&server, "spring")["ledger"]["accepted"], 8);
    // A click within two seconds of the hand-over counts as a scanner's.
    std::thread::sleep(Duration::from_millis(2_500));
    follow(&server, &["p000001", "p000002", "p000003"], "/o/");
    follow(&server, &["p000002"], "/c/");
    server.until("opens and clicks are known", || {
        (count(&server, "opened(\"spring\")") == 3 && count(&server, "clicked(\"spring\")") == 1).then_some(())
    });
    let asked = [
        ("received(\"spring\")", 8),
        ("not received(\"spring\")", 4),
        ("opened(\"spring\") and not clicked(\"spring\")", 2),
        ("received(\"spring\") and not opened(\"spring\")", 5),
        ("bounced(\"spring\") or unsubscribed(\"spring\")", 0),
        ("received any campaign in last 7d", 8),
        ("received any campaign on email in last 1w", 8),
        ("received any campaign on sms in last 7d", 0),
        ("in list \"q\" and not received any campaign in last 1d", 4),
        ("opened any campaign in last 30d", 3),
        ("clicked any campaign in last 92d", 1),
    ];
    for (expression, expected) in asked {
        assert_eq!(count(&server, expression), expected, "{expression}");
    }

    // In a saved segment, as an audience, and after a restart.
    let segment = json!({"name": "warm", "expression": "opened(\"spring\") and not clicked(\"spring\")"});
    server.post("/v1/segments", &segment).expect(201);
    server.restart();
    assert_eq!(count(&server, "in segment \"warm\""), 2, "what was folded is there again");
    server.campaign("reminder", "relay", "p", &json!({"audience": {"segment": "in segment \"warm\""}}));
    assert_eq!(finished(&server, "reminder")["ledger"]["accepted"], 2);
    assert_eq!(server.keys("reminder", "accepted"), ["p000001", "p000003"], "who opened and did not click");
    assert_eq!(count(&server, "received(\"spring\") and received(\"reminder\")"), 2);
    let shown = server.cli(&["segment", "preview", "received(\"reminder\")"]).expect(0);
    assert!(shown.starts_with("2 contacts match"), "{shown}");
}

#[test]
fn an_unknown_campaign_is_refused_with_its_place_and_a_suggestion() {
    let server = Served::start(INBOX);
    server.people("p", 3, "x.test");
    server.campaign("spring", "relay", "p", &json!({}));
    let expression = "active and opened(\"sprnig\")";
    let refused = server.post("/v1/segments", &json!({"name": "s", "expression": expression}));
    let body = refused.refused("invalid_segment", "did you mean");
    assert!(body["message"].as_str().is_some_and(|m| m.contains("\"spring\"")), "{body}");
    assert!(body.to_string().contains("segment_unknown_campaign"), "a code for programs: {body}");
    assert!(body.to_string().contains("\"start\":11"), "where it stands: {body}");
    server.post("/v1/segments/preview", &json!({"expression": expression})).refused("invalid_segment", "sprnig");
    let spec = json!({"name": "autumn", "audience": {"segment": expression}});
    let body = server.post("/v1/campaigns", &spec).refused("invalid_spec", "sprnig");
    assert_eq!((&body["details"]["line"], &body["details"]["column"]), (&json!(1), &json!(12)), "{body}");
    let own = json!({"name": "weekly", "audience": {"segment": "not received(\"weekly\")"}});
    server.post("/v1/campaigns", &own).expect(201);
    for (expression, part) in [
        ("bounced any campaign in last 7d", "kept by campaign"),
        ("received any campaign in last 93d", "from 1 to 92 days"),
        ("received any campaign in last 5h", "a number of days"),
        ("received any in last 5d", "`campaign`"),
        ("received(spring)", "write \\\"spring\\\""),
    ] {
        server.post("/v1/segments", &json!({"name": "s", "expression": expression})).refused("invalid_segment", part);
    }
}

#[test]
fn anniversaries_and_days_from_today_are_asked_of_dates() {
    let server = Served::start(INBOX);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = |days: i64, years: i16| {
        let day = today.checked_add(jiff::Span::new().days(days)).unwrap();
        day.checked_sub(jiff::Span::new().years(years)).unwrap().to_string()
    };
    let mut csv = String::from("id,email,birthday,renewal\n");
    let people = [(0, 30, 0), (6, 40, 6), (7, 50, 7), (-1, 20, -1), (0, 0, 30)];
    for (at, (days, years, renewal)) in people.into_iter().enumerate() {
        csv.push_str(&format!("a{at},a{at}@x.test,{},{}\n", date(days, years), date(renewal, 0)));
    }
    assert_eq!(server.import("key=id&types=birthday:date_time,renewal:date_time", csv)["accepted"], 5);
    for (expression, expected) in [
        ("anniversary(birthday) is today", 1),
        ("anniversary(birthday) in next 7d", 2),
        ("anniversary(birthday) in 7d", 1),
        ("anniversary(birthday) in last 2d", 2),
        ("anniversary(birthday) in next 8d in zone \"UTC\"", 3),
        ("renewal in 7d", 1),
        ("renewal in next 1w", 2),
        ("renewal in last 2d", 2),
    ] {
        // Around midnight the contacts' today may have been yesterday's.
        let moved = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date() != today;
        assert!(moved || count(&server, expression) == expected, "{expression}: {}", count(&server, expression));
    }
    let wrong = json!({"name": "s", "expression": "anniversary(email) is today"});
    server.post("/v1/segments", &wrong).refused("invalid_segment", "anniversary does not work");
}

#[test]
fn a_cap_of_the_server_holds_over_campaigns_and_is_shown_before_the_start() {
    let server = Served::start(&format!("{INBOX}[[caps]]\nchannel = \"email\"\nmax = 2\nper = \"7d\"\n"));
    server.people("p", 10, "x.test");
    for name in ["one", "two", "three"] {
        server.campaign(name, "relay", "p", &json!({}));
    }
    assert_eq!(finished(&server, "one")["ledger"]["accepted"], 10);
    assert_eq!(finished(&server, "two")["ledger"]["accepted"], 10);
    let audience = server.post("/v1/campaigns/three/audience", &json!({})).expect(200);
    assert_eq!((&audience["skipped"]["frequency_cap"], &audience["final"]), (&json!(10), &json!(0)), "{audience}");
    let ledger = finished(&server, "three")["ledger"].clone();
    assert_eq!(ledger["skipped_by"]["frequency_cap"], 10, "{ledger}");
    assert_eq!(server.keys("three", "skipped:frequency_cap").len(), 10, "they can be listed");
}

#[test]
fn campaigns_at_the_same_time_never_exceed_a_cap_together() {
    let limited = "[[connectors]]\nname = \"null\"\nkind = \"null\"\nmessages_per_second = 4000\n";
    let server = Served::start(&format!("{limited}[[caps]]\nchannel = \"email\"\nmax = 1\nper = \"1w\"\n"));
    server.people("p", 6_000, "x.test");
    for name in ["one", "two", "three"] {
        server.campaign(name, "null", "p", &json!({}));
    }
    for name in ["one", "two", "three"] {
        server.act(name, "start").expect(200);
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut sent = 0;
    for name in ["one", "two", "three"] {
        let ledger = server.await_state(name, "finished")["ledger"].clone();
        let (accepted, capped) = (ledger["accepted"].as_u64(), ledger["skipped_by"]["frequency_cap"].as_u64());
        assert_eq!(accepted.unwrap_or(0) + capped.unwrap_or(0), 6_000, "{name}: {ledger}");
        sent += accepted.unwrap_or(0);
        seen.extend(server.keys(name, "accepted"));
    }
    assert_eq!((sent, seen.len()), (6_000, 6_000), "each contact got one message, of whichever campaign");
}

#[test]
fn who_was_written_to_lately_is_left_out_but_not_by_the_own_follow_up() {
    let server = Served::start(INBOX);
    server.people("p", 6, "x.test");
    server.people("q", 4, "x.test");
    server.campaign("first", "relay", "p", &json!({}));
    assert_eq!(finished(&server, "first")["ledger"]["accepted"], 6);
    let pause = json!({
        "audience": {"all": true, "not_contacted": "7d"},
        "follow_up": {"on": "not_opened", "after": "1s", "message": {"subject": "Again"}},
    });
    server.campaign("second", "relay", "p", &pause);
    let audience = server.post("/v1/campaigns/second/audience", &json!({})).expect(200);
    assert_eq!(audience["skipped"]["recently_contacted"], 6, "{audience}");
    let report = finished(&server, "second");
    let of = |at: usize, set: &str| report["deliveries"][at][set].clone();
    assert_eq!((of(0, "accepted"), of(0, "skipped")), (json!(4), json!(6)), "{report}");
    assert_eq!(of(1, "accepted"), 4, "its own message does not count: {report}");
    assert_eq!(server.keys("second", "skipped:recently_contacted").len(), 6, "and they are listed");
    let wrong = json!({"name": "x", "audience": {"all": true, "not_contacted": "soon"}});
    let made = server.post("/v1/campaigns", &wrong).expect(201);
    assert!(made["problems"].to_string().contains("bad_not_contacted"), "{made}");
}

#[test]
fn a_control_group_gets_nothing_and_is_reported() {
    let mut server = Served::start(INBOX);
    server.people("p", 200, "x.test");
    server.campaign("spring", "relay", "p", &json!({"audience": {"list": "p", "hold_out": "10%"}}));
    let audience = server.post("/v1/campaigns/spring/audience", &json!({})).expect(200);
    assert_eq!((&audience["skipped"]["hold_out"], &audience["final"]), (&json!(20), &json!(180)), "{audience}");
    let report = finished(&server, "spring");
    assert_eq!(report["ledger"]["accepted"], 180, "{report}");
    assert_eq!(report["ledger"]["skipped_by"]["hold_out"], 20, "{report}");
    let held = server.keys("spring", "skipped:hold_out");
    assert!(held.iter().all(|key| server.mails_to(&format!("{key}@x.test")).is_empty()), "they got nothing");
    server.restart();
    assert_eq!(server.keys("spring", "skipped:hold_out"), held, "the same people after a restart");
    let sent = server.keys("spring", "accepted");
    let bought: Vec<Json> = [&held[0], &sent[0], &sent[1]]
        .into_iter()
        .map(|key| json!({"id": format!("e-{key}"), "type": "bought", "contact": key}))
        .collect();
    server.post("/v1/events", &json!(bought)).expect(200);
    let report = server.report("spring");
    let compared = &report["hold_out"]["behaviour"][0];
    assert_eq!(
        (&compared["event"], &compared["held_out"], &compared["sent"]),
        (&json!("bought"), &json!(1), &json!(2))
    );
    assert_eq!(compared["held_out_percent"], 5.0, "one of twenty: {report}");
    assert_eq!(report["hold_out"]["contacts"], 20, "{report}");
    assert_eq!(report["hold_out"]["compared_with"], 180, "{report}");
}

/// Two of five addresses bounce for now, at a connector that says so for good.
const BOUNCING: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n[[connectors]]\nname = \"bad\"\nkind = \"simulated\"\n\
    policy_share = 1.0\n";

#[test]
fn a_resend_goes_to_a_set_once_and_both_reports_say_so() {
    let mut server = Served::start(BOUNCING);
    server.people("p", 6, "x.test");
    server.campaign("spring", "relay", "p", &json!({}));
    server.post("/v1/campaigns/spring/resend", &json!({"set": "not_opened"})).refused("run_not_found", "spring");
    let first = finished(&server, "spring");
    std::thread::sleep(Duration::from_millis(2_500));
    follow(&server, &["p000001", "p000004"], "/o/");
    server.until("opens are known", || (server.keys("spring", "opened").len() == 2).then_some(()));

    assert_eq!(server.keys("spring", "not_opened"), ["p000000", "p000002", "p000003", "p000005"], "can be exported");
    assert_eq!(server.keys("spring", "not_clicked").len(), 6, "nobody clicked");

    let body = json!({"set": "not_opened", "message": {"subject": "Did you see it?"}});
    let done = server.post("/v1/campaigns/spring/resend", &body).expect(201);
    assert_eq!(
        (&done["in_set"], &done["covered"], &done["linked_run"]),
        (&json!(4), &json!(0), &first["run"]),
        "{done}"
    );
    let name = done["name"].as_str().expect("a name").to_owned();
    assert_eq!(name, "spring resend 1");
    let second = server.await_state(&name, "finished");
    assert_eq!(second["ledger"]["accepted"], 4, "{second}");
    assert_eq!(server.keys(&name, "accepted"), ["p000000", "p000002", "p000003", "p000005"]);
    assert!(server.mails_to("p000000@x.test")[0].contains("Did you see it?"), "with its own subject");
    assert_eq!((&second["linked_run"], &second["linked_set"]), (&first["run"], &json!("not_opened")), "{second}");
    let first = server.report("spring");
    assert_eq!(first["resends"][0]["run"], second["run"], "{first}");
    assert_eq!(first["resends"][0]["accepted"], 4, "{first}");
    let shown = server.cli(&["report", "spring"]).expect(0);
    assert!(shown.contains("resent to not_opened: spring resend 1"), "{shown}");
    let shown = server.cli(&["report", &name]).expect(0);
    assert!(shown.contains(&format!("a resend of run {}, to not_opened", first["run"])), "{shown}");

    // Whoever it went to is out of the next one, by the command line and after a restart.
    server.restart();
    let again = server.cli(&["campaign", "resend", "spring", "--set", "not_opened", "--json"]).json(0);
    assert_eq!((&again["in_set"], &again["covered"]), (&json!(4), &json!(4)), "{again}");
    assert_eq!(server.await_state("spring resend 2", "finished")["ledger"]["audience"], 0, "nobody is left");
    let body = json!({"set": "accepted"});
    server.post("/v1/campaigns/spring/resend", &body).refused("invalid_set", "not_clicked");
    let body = json!({"set": "unknown", "run": 77});
    server.post("/v1/campaigns/spring/resend", &body).refused("run_not_found", "77");
}

#[test]
fn who_was_rejected_is_sent_to_again_until_it_is_taken() {
    let server = Served::start(BOUNCING);
    server.people("p", 5, "x.test");
    server.campaign("spring", "bad", "p", &json!({}));
    assert_eq!(finished(&server, "spring")["ledger"]["rejected_by"]["policy"], 5);
    let draft = json!({"set": "rejected:policy", "draft": true, "name": "once more"});
    let done = server.post("/v1/campaigns/spring/resend", &draft).expect(201);
    assert_eq!((&done["state"], &done["run"]), (&json!("draft"), &Json::Null), "{done}");
    let audience = server.post("/v1/campaigns/once%20more/audience", &json!({})).expect(200);
    assert_eq!(audience["final"], 5, "{audience}");
    assert_eq!(finished(&server, "once%20more")["ledger"]["rejected"], 5, "refused again");
    let done =
        server.post("/v1/campaigns/spring/resend", &json!({"set": "rejected", "message": {"connector": "relay"}}));
    let done = done.expect(201);
    assert_eq!((&done["in_set"], &done["covered"]), (&json!(5), &json!(0)), "a refusal covers nobody: {done}");
    let name = done["name"].as_str().expect("a name").to_owned();
    assert_eq!(server.await_state(&name, "finished")["ledger"]["accepted"], 5);
    let done = server.post("/v1/campaigns/spring/resend", &json!({"set": "rejected"})).expect(201);
    assert_eq!(done["covered"], 5, "now all are: {done}");
}

#[test]
fn a_running_campaign_is_not_resent_and_a_stopped_one_is() {
    let slow = "[[connectors]]\nname = \"null\"\nkind = \"null\"\nmessages_per_second = 20\n";
    let server = Served::start(slow);
    server.people("p", 400, "x.test");
    server.campaign("spring", "null", "p", &json!({}));
    server.act("spring", "start").expect(200);
    let refused = server.post("/v1/campaigns/spring/resend", &json!({"set": "skipped:stopped"}));
    refused.refused("resend_refused", "running");
    server.until("some are sent", || (server.count("spring", "accepted") > 0).then_some(()));
    server.act("spring", "stop").expect(200);
    let stopped = server.await_state("spring", "stopped");
    let left = stopped["ledger"]["skipped_by"]["stopped"].as_u64().expect("some");
    let settle = server.post("/v1/campaigns/spring/settle", &json!({"as": "pending", "all": true}));
    settle.refused("invalid_settle", "linked run");
    let done = server.post("/v1/campaigns/spring/resend", &json!({"set": "skipped:stopped"})).expect(201);
    assert_eq!(done["in_set"], left, "{done}");
    server.act("spring%20resend%201", "stop").expect(200);
}

const WELCOME: &str = "channel = \"email\"\ntopic = \"news\"\nfrom = \"News <news@example.test>\"\nsubject = \"Welcome\"\n\
    html = '<p>Hello</p><a href=\"{{ unsubscribe_url }}\">no more</a>'\ndefault_language = \"en\"\n\
    [languages.de]\nsubject = \"Willkommen\"\nhtml = '<p>Guten Tag</p><a href=\"{{ unsubscribe_url }}\">nicht mehr</a>'\n\
    [languages.fr]\nsubject = \"Bienvenue\"\n";

fn put_message(server: &Served, name: &str, text: &str) -> crate::served::Ran {
    let file = server.write("message.toml", text);
    server.cli(&["message", "save", name, &file])
}

#[test]
fn a_saved_message_goes_out_in_each_contacts_language_and_is_pinned_at_the_start() {
    let mut server = Served::start(INBOX);
    let mut csv = String::from("id,email,language\n");
    for (key, language) in [("a", "de"), ("b", "de-AT"), ("c", "fr"), ("d", "it"), ("e", "")] {
        csv.push_str(&format!("{key},{key}@x.test,{language}\n"));
    }
    assert_eq!(server.import("key=id&subscribe=email:news&list=p", csv)["accepted"], 5);
    let saved = put_message(&server, "welcome", WELCOME).expect(0);
    assert!(saved.contains("welcome is saved, version 1"), "{saved}");
    let listed = server.get("/v1/messages");
    assert_eq!(listed["items"][0]["languages"], json!(["de", "fr"]), "{listed}");

    let spec = |name: &str| {
        json!({
            "name": name, "audience": {"list": "p"},
            "message": {"saved": "welcome", "connector": "relay"},
        })
    };
    for name in ["first", "second"] {
        let made = server.post("/v1/campaigns", &spec(name)).expect(201);
        assert_eq!(made["problems"], json!([]), "{made}");
    }
    let preview = server.post("/v1/campaigns/first/preview", &json!({"contact": "b"})).expect(200);
    assert_eq!(preview["subject"], "Willkommen", "{preview}");
    let used = server.call(reqwest::Method::DELETE, "/v1/messages/welcome", &Json::Null);
    let used = used.refused("message_in_use", "first");
    assert!(used["details"]["used_by"].to_string().contains("second"), "{used}");

    let report = finished(&server, "first");
    assert_eq!(report["ledger"]["accepted"], 5, "{report}");
    assert_eq!(report["deliveries"].as_array().map(Vec::len), Some(1), "one delivery: {report}");
    let subject = |server: &Served, key: &str, at: usize| {
        let mail = server.mails_to(&format!("{key}@x.test")).remove(at);
        mail.lines().find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned)).expect("a subject")
    };
    let expected = [("a", "Willkommen"), ("b", "Willkommen"), ("c", "Bienvenue"), ("d", "Welcome"), ("e", "Welcome")];
    for (key, wanted) in expected {
        assert_eq!(subject(&server, key, 0), wanted, "{key}");
    }
    let per_language: Vec<(Json, Json)> = report["deliveries"][0]["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| (message["name"].clone(), message["accepted"].clone()))
        .collect();
    let counts = [("en", 2), ("de", 2), ("fr", 1)].map(|(tag, count)| (json!(tag), json!(count)));
    assert_eq!(per_language, counts, "each with figures of its own");

    // The next version is for the next start; the first campaign keeps its own.
    put_message(&server, "welcome", &WELCOME.replace("Willkommen", "Servus")).expect(0);
    server.restart();
    assert_eq!(server.get("/v1/campaigns/first")["spec"]["message"]["saved_version"], 1);
    assert_eq!(finished(&server, "second")["ledger"]["accepted"], 5);
    assert_eq!(subject(&server, "a", 0), "Servus", "the version of its start");
    assert_eq!(server.get("/v1/campaigns/second")["spec"]["message"]["saved_version"], 2);
    server.cli(&["message", "delete", "welcome"]).expect(0);
    let unknown = server.post("/v1/campaigns", &spec("third")).expect(201);
    assert!(unknown["problems"].to_string().contains("unknown_message"), "{unknown}");
    server.call(reqwest::Method::GET, "/v1/messages/welcome", &Json::Null).refused("message_not_found", "welcome");
}

#[test]
fn a_message_that_is_not_whole_is_not_saved() {
    let server = Served::start(INBOX);
    for (text, part) in [
        (WELCOME.replace("subject = \"Welcome\"", "subject = \"{{ contact.nmae }}\""), "nmae"),
        (WELCOME.replace("Guten Tag", "{% if %}"), "message.languages.de"),
        (WELCOME.replace("default_language = \"en\"\n", ""), "no_default_language"),
        (WELCOME.replace("channel = \"email\"\n", ""), "no_channel"),
        (WELCOME.replace("[languages.fr]", "[languages.French]"), "bad_language"),
    ] {
        let failed = put_message(&server, "welcome", &text);
        assert!(failed.code == 4 && failed.err.contains("invalid_message"), "{text}: {failed:?}");
        assert!(failed.err.contains(part), "{part} is named: {failed:?}");
    }
    assert_eq!(server.get("/v1/messages")["items"], json!([]), "nothing was saved");
}

#[test]
fn the_examples_of_history_resends_and_saved_messages_do_what_they_say() {
    let server = Served::start(INBOX);
    let path = |name: &str| crate::served::file(&format!("examples/{name}.toml"));
    let text = |name: &str| std::fs::read_to_string(path(name)).unwrap().replace("\"inbox\"", "\"relay\"");
    let contacts = std::fs::read(crate::served::file("examples/contacts.csv")).unwrap();
    assert_eq!(server.import("key=id&subscribe=email:news&list=everyone", contacts)["accepted"], 10);
    server.post_text("/v1/campaigns", "application/toml", text("spring")).expect(201);
    assert_eq!(finished(&server, "spring")["ledger"]["accepted"], 4);

    let check = server.post_text("/v1/campaigns/check", "application/toml", text("history")).expect(200);
    assert_eq!((&check["ready"], &check["problems"]), (&json!(true), &json!([])), "{check}");
    assert_eq!(check["warnings"][0]["code"], "empty_audience", "nobody has opened it yet: {check}");

    let resend = path("resend");
    let args =
        ["campaign", "resend", "spring", "--set", "not_opened", "--message", resend.to_str().unwrap(), "--watch"];
    let out = server.cli(&args).expect(0);
    assert!(out.contains("a resend of run 1, to not_opened"), "{out}");
    assert_eq!(server.count("spring resend 1", "accepted"), 4);
    let mail = server.mails_to("chloe@fr.example.test").remove(0);
    assert!(mail.contains("Did_you_see_it") || mail.contains("Did you see it"), "its own subject: {mail}");

    let saved = server.cli(&["message", "save", "welcome", path("saved-message").to_str().unwrap(), "--json"]).json(0);
    assert_eq!((&saved["version"], &saved["languages"]), (&json!(1), &json!(["de", "fr"])), "{saved}");
    let spec =
        json!({"name": "hello", "audience": {"all": true}, "message": {"saved": "welcome", "connector": "relay"}});
    assert_eq!(server.post("/v1/campaigns", &spec).expect(201)["problems"], json!([]));
    assert_eq!(finished(&server, "hello")["ledger"]["accepted"], 9, "ten people, two of one address");
    assert!(server.mails_to("chloe@fr.example.test")[0].contains("Bienvenue"), "in her language");

    let made = server.post_text("/v1/campaigns", "application/toml", text("holdout")).expect(201);
    assert_eq!(made["problems"], json!([]), "{made}");
    let audience = server.post("/v1/campaigns/holdout/audience", &json!({})).expect(200);
    assert_eq!(audience["final"], 0, "everybody was written to today: {audience}");
    assert!(audience["skipped"]["recently_contacted"].as_u64() > Some(0), "{audience}");
}
