//! What holds for an address and not for a contact, on the real program: bounces, opt-outs from everything, and imports of a
//! mailbox under another key.

use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::people::{INBOX, link};
use crate::served::Served;

fn put(server: &Served, key: &str, email: &str) -> Json {
    let contact = json!({"email": email, "consent": {"email:news": "subscribed"}});
    let answer = server.call(Method::PUT, &format!("/v1/contacts/{key}"), &contact);
    assert!(answer.status < 300, "{}", answer.text);
    answer.json()
}

/// Sends a campaign to everybody; who got it, and why others did not.
fn sent(server: &Served, name: &str) -> (Vec<String>, Json) {
    server.campaign(name, "relay", "p", &json!({"audience": {"all": true}}));
    server.act(name, "start").expect(200);
    let report = server.await_state(name, "finished");
    (server.keys(name, "accepted"), report["ledger"]["skipped_by"].clone())
}

#[test]
fn a_dead_address_is_dead_for_whoever_has_it_and_a_new_one_is_not() {
    let mut server = Served::start(INBOX);
    server.people("p", 3, "x.test");
    let bounced = json!({"id": "b", "type": "bounced", "class": "hard", "contact": "p000000"});
    server.post("/v1/events", &bounced).expect(200);
    let (got, why) = sent(&server, "first");
    assert_eq!((got, why), (vec!["p000001".into(), "p000002".into()], json!({"suppressed_address": 1})));
    let audience = server.post("/v1/campaigns/first/audience", &json!({})).expect(200);
    assert_eq!(audience["suppressed"]["hard_bounce"], 1, "the summary names the reason: {audience}");

    assert_eq!(put(&server, "p000000", "better@x.test")["suppressed"], json!([]), "a new address has not bounced");
    assert_eq!(put(&server, "late", "P000000@x.test")["suppressed"], json!(["hard_bounce"]), "a contact of later");
    server.import("key=id&subscribe=email:news", "id,email\nlater,p000000@x.test\n");
    server.kill();
    let (got, why) = sent(&server, "second");
    assert_eq!(got, ["p000000", "p000001", "p000002"], "who has another address now gets it");
    assert_eq!(why, json!({"suppressed_address": 2}), "and nobody who has come to the dead one");

    assert_eq!(put(&server, "p000000", "p000000@x.test")["suppressed"], json!(["hard_bounce"]), "taken back");
    let (got, _) = sent(&server, "third");
    assert_eq!(got, ["p000001", "p000002"]);
    let listed = server.cli(&["suppression", "list", "--json"]).json(0);
    let entry = &listed["items"][0];
    assert_eq!((&entry["contact"], &entry["reason"]), (&json!("p000000"), &json!("hard_bounce")), "{listed}");
    assert_eq!(entry["address_hash"].as_str().map(str::len), Some(32), "the entry is the address's: {listed}");
    let exported = server.call(Method::GET, "/v1/suppressions?format=csv", &Json::Null).text;
    let path = format!("/v1/suppressions/{}", entry["id"]);
    server.call(Method::DELETE, &path, &Json::Null).expect(204);
    let (got, why) = sent(&server, "fourth");
    assert_eq!((got.len(), why), (3, json!({"duplicate_address": 2})), "a person gave it another chance");
    let again = server.post_text("/v1/suppressions", "text/csv", exported).expect(201);
    assert_eq!(again["added"], 1, "an export is read back as the address that it was: {again}");
    assert_eq!(sent(&server, "fifth").0, ["p000001", "p000002"]);
}

#[test]
fn a_bounce_at_the_hand_over_is_the_address_s_too() {
    let bad = "[[connectors]]\nname = \"bad\"\nkind = \"simulated\"\nhard_bounce_share = 1.0\n";
    let server = Served::start(&format!("{INBOX}{bad}"));
    server.people("p", 4, "x.test");
    let quiet = json!({"auto_pause": {"enabled": false}});
    server.campaign("lost", "bad", "p", &quiet);
    server.act("lost", "start").expect(200);
    assert_eq!(server.await_state("lost", "finished")["ledger"]["rejected"], 4);
    put(&server, "p000002", "alive@x.test");
    put(&server, "new", "p000003@x.test");
    let (got, why) = sent(&server, "next");
    assert_eq!((got, why), (vec!["p000002".to_owned()], json!({"suppressed_address": 4})), "who has a living address");
}

#[test]
fn who_opted_out_of_everything_is_not_reached_under_another_key() {
    let server = Served::start(INBOX);
    server.people("p", 3, "x.test");
    assert_eq!(sent(&server, "first").0.len(), 3);
    let mail = server.mails_to("p000001@x.test").remove(0);
    let post = |url: String, body: &'static str| {
        let form = "application/x-www-form-urlencoded";
        server.http.post(url).header("content-type", form).body(body).send().expect("an answer")
    };
    let page = post(link(&mail, &server, "/u/"), "via=page&everything=yes");
    assert_eq!(page.status(), 200);
    let mail = server.mails_to("p000002@x.test").remove(0);
    let page = post(link(&mail, &server, "/u/"), "via=page");
    assert_eq!(page.status(), 200, "of the topic alone");

    let people = "id,email\nq1,p000001@x.test\nq2,P000002@x.test\nq3,q3@x.test\n";
    server.import("key=id&subscribe=email:news", people);
    let consent = |key: &str| server.get(&format!("/v1/contacts/{key}"))["consent"][0]["status"].clone();
    assert_eq!(consent("q2"), "unsubscribed", "an import gives no consent that the mailbox has withdrawn");
    assert_eq!(consent("q3"), "subscribed");
    let (got, why) = sent(&server, "second");
    assert_eq!(got, ["p000000", "q3"], "{why}");

    // A new word of the person, told by the sender for this contact alone.
    put(&server, "q2", "p000002@x.test");
    put(&server, "q1", "p000001@x.test");
    assert_eq!(sent(&server, "third").0, ["p000000", "q1", "q2", "q3"], "who subscribes again means it");
}

#[test]
fn the_word_for_an_upload_names_its_key_and_the_way_it_came() {
    let server = Served::start(INBOX);
    let made = server.post_text("/v1/audiences?name=fair", "text/csv", "email,code\nann@x.test,A1\n").expect(201);
    assert_eq!(made["uploaded_by"], "admin", "{made}");
    let spec = |name: &str| {
        json!({
            "name": name, "kind": "single", "audience": {"upload": "fair", "consent_confirmed": true},
            "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "News <news@example.test>",
                "subject": "Hello", "text": "Hello"},
        })
    };
    server.post("/v1/campaigns", &spec("by-api")).expect(201);
    let path = server.write("spec.json", spec("by-cli").to_string());
    server.cli(&["campaign", "create", &path]).expect(0);
    let said = |name: &str| {
        server.act(name, "start").expect(200);
        server.await_state(name, "finished")["upload"].clone()
    };
    let (api, cli) = (said("by-api"), said("by-cli"));
    assert_eq!(
        (&api["consent_confirmed_by"], &api["consent_confirmed_via"]),
        (&json!("admin"), &json!("api")),
        "{api}"
    );
    assert_eq!(cli["consent_confirmed_via"], "cli", "{cli}");
    assert_eq!(api["consent_confirmed_key"], cli["consent_confirmed_key"], "the same key");
    assert_eq!(api["consent_confirmed_key"].as_str().map(str::len), Some(8), "its id, and not the key: {api}");
    let shown = server.cli(&["report", "by-cli"]).expect(0);
    assert!(shown.contains("by cli at"), "{shown}");
}
