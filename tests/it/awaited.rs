//! Delays that wait for an event of the sender's own, on the program itself.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::served::Served;

const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";

/// mail → a cart that is reported about the mail? → any purchase of the contact? → an end each.
const FLOW: &str = r#"
name = "cart"
kind = "flow"
[audience]
list = "p"
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "News <news@example.test>"
subject = "S"
text = "T"
[[nodes]]
id = "start"
kind = "start"
then = "mail"
[[nodes]]
id = "mail"
kind = "send"
then = "cart?"
[[nodes]]
id = "cart?"
kind = "delay"
event = "custom"
type = "cart"
of = "mail"
timeout = "20s"
exits = { happened = "in cart", timed_out = "bought?" }
[[nodes]]
id = "bought?"
kind = "delay"
event = "custom"
type = "purchase"
timeout = "10s"
exits = { happened = "customer", timed_out = "silent" }
[[nodes]]
id = "in cart"
kind = "end"
[[nodes]]
id = "customer"
kind = "end"
as = "success"
[[nodes]]
id = "silent"
kind = "end"
as = "abandon"
"#;

fn key(number: usize) -> String {
    format!("p{number:06}")
}

fn event(id: &str, kind: &str, contact: usize, campaign: Option<&str>) -> Json {
    json!({"id": id, "type": kind, "contact": key(contact), "campaign": campaign})
}

fn reported(served: &Served, events: &[Json]) {
    let taken = served.post("/v1/events", &json!(events)).expect(200);
    assert_eq!(taken["accepted"], events.len(), "{taken}");
}

/// Contacts by node.
fn places(served: &Served) -> BTreeMap<String, u64> {
    let report = served.report("cart");
    let nodes = report["nodes"].as_array().expect("nodes").iter();
    nodes.map(|node| (node["id"].as_str().unwrap().to_owned(), node["contacts"].as_u64().unwrap())).collect()
}

#[test]
fn who_does_what_is_waited_for_goes_on_then_and_the_others_at_the_time_out() {
    let mut served = Served::start(INBOX);
    served.people("p", 6, "x.test");
    let check = |from: &str, to: &str| {
        served.post_text("/v1/campaigns/check", "application/toml", FLOW.replace(from, to)).expect(200)
    };
    assert_eq!(check("", "")["problems"], json!([]), "sound");
    for (from, to, code) in [
        ("type = \"cart\"\n", "", "no_event_type"),
        ("type = \"cart\"", "type = \"opened\"", "event_type"),
        ("type = \"cart\"", "type = \"a cart\"", "event_type"),
        ("event = \"custom\"\ntype = \"cart\"", "event = \"opened\"\ntype = \"cart\"", "wrong_key"),
        ("of = \"mail\"", "of = \"male\"", "unknown_node"),
        ("of = \"mail\"", "of = \"silent\"", "asks_about_no_send"),
        ("timeout = \"20s\"\n", "", "no_length"),
        ("event = \"custom\"\ntype = \"cart\"", "event = \"cart\"", "unknown_word"),
    ] {
        let found = check(from, to);
        assert_eq!(found["problems"][0]["code"], code, "{to:?}: {found}");
    }
    served.post_text("/v1/campaigns", "application/toml", FLOW).expect(201);
    let graph = served.cli(&["campaign", "graph", "cart"]).expect(0);
    assert!(
        graph.contains("wait for cart mail, at most 20s") && graph.contains("wait for purchase, at most"),
        "{graph}"
    );
    let dry = served.cli(&["campaign", "dry-run", "cart"]).expect(0);
    assert!(dry.contains("customer") && dry.contains("silent"), "both ways are shown: {dry}");
    // Before the run began: it knows nothing of it.
    reported(&served, &[event("e0", "purchase", 0, None)]);
    served.act("cart", "start").expect(200);
    served.until("all have the mail", || (served.count("cart", "accepted") == 6).then_some(()));
    reported(
        &served,
        &[
            event("e1", "cart", 1, Some("cart")),
            // Of the contact, and not about the mail.
            event("e2", "cart", 2, None),
            // Before the contact comes to the delay that waits for it.
            event("e3", "purchase", 3, None),
            event("e4", "login", 4, None),
        ],
    );
    served.until("the one with a cart has left", || (places(&served)["in cart"] == 1).then_some(()));
    // What is waited for outlives the process.
    served.kill();
    served.until("the others wait for a purchase, or had one", || (places(&served)["cart?"] == 0).then_some(()));
    reported(&served, &[event("e5", "purchase", 5, Some("cart"))]);
    let report = served.await_state("cart", "finished");
    let found = places(&served);
    assert_eq!((found["in cart"], found["customer"], found["silent"]), (1, 2, 3), "{report}");
}
