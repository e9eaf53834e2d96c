//! Tests of the moment of sending.

use super::*;

#[test]
fn moments_are_compared_over_equal_windows_and_the_rest_waits_for_the_winning_one() {
    // The moments are seconds away: no time to take the start back.
    let served = Served::start(&format!("schedule_safety_minutes = 0\n{INBOX}"));
    served.people("m", 400, "x.test");
    let at = |seconds: i64| {
        let moment = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).expect("a time");
        moment.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S").to_string()
    };
    let spec = |first: &str, second: &str, decide_after: &str| {
        json!({
            "kind": "ab_split",
            "variants": [{"name": "early", "at": first}, {"name": "late", "at": second}],
            "test": {"sample": "50%", "zone": "UTC", "window": "15s", "decide_after": decide_after, "looks": 20,
                "min_delivered": 50, "min_events": 0},
        })
    };
    let mut early = json!({
        "name": "too-early", "audience": {"list": "m"},
        "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "a@x.test", "subject": "s", "text": "t"},
    });
    for (key, value) in spec(&at(5), &at(60), "30s").as_object().expect("a table") {
        early[key] = value.clone();
    }
    let found = served.post("/v1/campaigns/check", &early).expect(200);
    assert_eq!(found["problems"][0]["code"], "deadline_early", "{found}");
    served.campaign("moments", "relay", "m", &spec(&at(3), &at(9), "60s"));
    served.act("moments", "start").expect(200);
    sampled(&served, "moments", 200);
    let sent = served.report("moments")["tests"][0].clone();
    assert_eq!(sent["looks"], json!([]), "nothing is looked at before every arm is mature: {sent}");
    assert_eq!(sent["interleaved"], false, "and the report says that they were not side by side");
    std::thread::sleep(BEFORE_READING);
    let mut readers = Readers::new(&served);
    let run = served.report("moments")["run"].clone();
    let sample: BTreeSet<String> = {
        let state = served.get(&format!("/v1/runs/{run}/contacts?set=accepted&limit=1000"));
        let items = state["items"].as_array().expect("contacts").iter();
        items.map(|item| item["contact"].as_str().expect("a key").to_owned()).collect()
    };
    assert_eq!(sample.len(), 200, "the sample and nobody else");
    // Mails of both moments look the same: those that came last are of the later one.
    let count = readers.mails.len();
    assert_eq!(count, 200, "all of the sample");
    (0..60).for_each(|at| readers.click(at));
    let test = decided(&served, "moments");
    let looks = test["looks"].as_array().expect("looks");
    assert_eq!(looks.len(), 1, "it was decided at the first look that could be made: {test}");
    assert_eq!((&arm(&test, "early")["matured"], &arm(&test, "late")["matured"]), (&json!(100), &json!(100)), "{test}");
    let winner = test["decision"]["winner"].as_str().expect("a winner").to_owned();
    let report = served.until("the rest waits for the winning moment", || {
        let report = served.report("moments");
        let nodes = report["nodes"].as_array().expect("nodes");
        let wait = nodes.iter().find(|node| node["kind"] == "delay" && node["contacts"] == 200)?;
        assert!(wait["name"].as_str().expect("a name").starts_with(&winner), "{wait}");
        Some(report.clone())
    });
    assert_eq!(report["ledger"]["pending_held"], 200, "held until then: {}", report["ledger"]);
    served.act("moments", "stop").expect(200);
}
