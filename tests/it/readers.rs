//! Simulated readers with a known truth against the program itself: what they did, the report, the metrics and the ledger are
//! one account.

use std::fs;
use std::time::Duration;

use loadtest::readers::truth::{Machines, Taste, Truth};
use loadtest::readers::{Readers, ReadersOptions};
use loadtest::server::ADMIN_KEY;
use loadtest::sink::SinkOptions;
use loadtest::sink::latency::Latency;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::served::Served;
use crate::sink;

/// The test that is the sink when asked to.
const SINK: &str = "readers::what_readers_did_is_what_the_report_and_the_metrics_say";
const HTML: &str = "<p><a href=\"https://shop.example.test/a\">one</a> <a href=\"https://shop.example.test/b\">two</a> \
    <a href=\"https://shop.example.test/c\">three</a> <a href=\"https://shop.example.test/d\">four</a> \
    <a href=\"{{ unsubscribe_url }}\">no more</a></p>";

fn truth() -> Truth {
    let taste = |name: &str, subject: &str, opens: f64, clicks: f64| Taste {
        name: name.to_owned(),
        subject: subject.to_owned(),
        delivered: 0.97,
        opens,
        clicks,
        converts: clicks / 2.0,
        unsubscribes: 0.04,
        complains: 0.02,
        links: vec![4.0, 1.0, 1.0, 0.0],
    };
    let mut truth = Truth {
        seed: 5,
        variants: vec![taste("A", "Plain", 0.3, 0.1), taste("B", "Better", 0.6, 0.4)],
        machines: Machines { prefetch: 0.2, scanners: 0.15, heads: 0.1 },
        ..Truth::default()
    };
    truth.delays.open = Latency::Uniform { from_ms: 2_700.0, to_ms: 4_000.0 };
    truth.delays.click = Latency::Uniform { from_ms: 50.0, to_ms: 400.0 };
    truth
}

#[test]
fn what_readers_did_is_what_the_report_and_the_metrics_say() {
    if sink::be_the_sink_if_asked() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mails = folder.path().join("mails");
    let sink = sink::start(SINK, &SinkOptions { mails: Some(mails.clone()), ..SinkOptions::default() });
    let server = Served::start(&format!(
        "trusted_proxies = [\"127.0.0.1/32\"]\n[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\n\
         port = {}\ntls = \"none\"\nconnections_max = 4\n",
        sink.address.port()
    ));
    server.people("p", 600, "x.test");
    let address = |name: &str| fs::read_to_string(server.plan.data.join(name)).unwrap().trim().to_owned();
    let readers = Readers::start(ReadersOptions {
        mails,
        public: address("public.addr"),
        api: Some((address("api.addr"), ADMIN_KEY.to_owned())),
        truth: truth(),
        patience: Duration::from_secs(120),
    })
    .unwrap();
    let test = json!({"sample": "50%", "winner_by": "clicks", "decide_after": "20s", "window": "8s", "looks": 3,
        "min_delivered": 50, "min_events": 5});
    let message = json!({"channel": "email", "connector": "relay", "topic": "news", "from": "News <news@example.test>",
        "subject": "none", "html": HTML, "text": "https://shop.example.test/a {{ unsubscribe_url }}"});
    let variants = json!([{"name": "A", "subject": "Plain"}, {"name": "B", "subject": "Better"}]);
    // Bounces and complaints of these readers are beyond what a run bears by default.
    let pauses = json!({"enabled": false});
    let spec =
        json!({"kind": "ab_split", "message": message, "variants": variants, "test": test, "auto_pause": pauses});
    server.campaign("truth", "relay", "p", &spec);
    server.act("truth", "start").expect(200);
    let finished = server.await_state("truth", "finished");
    let accepted = finished["ledger"]["accepted"].as_u64().unwrap();
    let did = readers.finish(accepted).unwrap();

    // What was answered is counted: nothing needs to be waited for.
    assert_eq!(did.differences(&server.report("truth"), true), Vec::<String>::new(), "{did:?}");
    let (a, b) = (&did.variants["A"], &did.variants["B"]);
    assert_eq!((did.mails, did.duplicates, did.unknown, did.unreadable), (accepted, 0, 0, 0), "{did:?}");
    assert!(
        b.clicked > a.clicked && b.converted > 0 && b.machine_clicks > 0 && b.bounced > 0,
        "there was life: {did:?}"
    );
    assert_eq!(finished["tests"][0]["decision"]["winner"], "B", "and the better one was found: {}", finished["tests"]);

    let text = server.call(Method::GET, "/metrics", &Json::Null).text;
    for (variant, counts) in &did.variants {
        let unique = "estafette_campaign_message_unique_contacts";
        assert_eq!(metric(&text, unique, variant, "open"), counts.opened as f64, "opens of {variant} in the metrics");
        assert_eq!(
            metric(&text, unique, variant, "click"),
            counts.clicked as f64,
            "clicks of {variant} in the metrics"
        );
    }
    let clicked = server.keys("truth", "clicked").len() as u64;
    assert_eq!(clicked, a.clicked + b.clicked, "the ledger's set of those who clicked");
    assert_eq!(sink.finish().unwrap().counts.replies.len(), 0, "the relay refused nobody");
}

fn metric(text: &str, name: &str, variant: &str, event: &str) -> f64 {
    let labels = [format!("variant=\"{variant}\""), format!("event=\"{event}\""), "class=\"human\"".to_owned()];
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    let line = lines.find(|line| labels.iter().all(|label| line.contains(label.as_str())));
    let line = line.unwrap_or_else(|| panic!("{name} {labels:?} in\n{text}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}
