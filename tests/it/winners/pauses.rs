//! Tests of runs that are paused, and of streams that are over before anybody is judged.

use super::*;

fn at(test: &Json, key: &str) -> i64 {
    let text = test[key].as_str().unwrap_or_else(|| panic!("{key} of {test}"));
    text.parse::<jiff::Timestamp>().expect(text).as_millisecond()
}

#[test]
fn a_pause_moves_the_deadline_by_its_length_also_over_a_kill() {
    let mut served = Served::start(INBOX);
    served.people("d", 100, "x.test");
    let test = json!({"sample": "50%", "decide_after": "6s", "window": "1s", "looks": 2, "if_not_proven": "nobody"});
    served.campaign("paused", "relay", "d", &variants(&test));
    served.act("paused", "start").expect(200);
    sampled(&served, "paused", 50);
    let planned = served.report("paused")["tests"][0].clone();
    assert_eq!(at(&planned, "deadline") - at(&planned, "sample_cut_at"), 6_000, "{planned}");
    served.act("paused", "pause").expect(200);
    std::thread::sleep(Duration::from_secs(4));
    served.kill();
    std::thread::sleep(Duration::from_secs(4));
    let paused = served.report("paused")["tests"][0].clone();
    let moved = |test: &Json| at(test, "deadline") - at(&planned, "deadline");
    assert!(moved(&paused) >= 8_000, "it moves on with the time, over a kill too: {paused}");
    assert_eq!(
        (&paused["decision"], paused["looks"].as_array().expect("looks").len() < 2),
        (&Json::Null, true),
        "{paused}"
    );
    let calendar = served.get("/v1/calendar?from=2020-01-01T00:00:00Z&to=2097-01-01T00:00:00Z");
    let mut entries = calendar["items"].as_array().expect("entries").iter();
    let entry = entries.find(|item| item["part"].as_str().is_some_and(|part| part.starts_with("deadline of")));
    let entry = entry.unwrap_or_else(|| panic!("no deadline: {calendar}"));
    assert_eq!(at(entry, "planned"), at(&planned, "deadline"), "as planned: {entry}");
    assert!(at(entry, "effective_start") - at(entry, "planned") >= 8_000, "and moved: {entry}");
    let shown = served.cli(&["campaign", "report", "paused"]).expect(0);
    assert!(shown.contains("of pauses)"), "the report says so: {shown}");
    served.act("paused", "resume").expect(200);
    // Nobody has clicked: a tie, for which a person is waited.
    let ended = served.until("the deadline", || {
        let test = served.report("paused")["tests"][0].clone();
        (!test["waits_for_person"].is_null()).then_some(test)
    });
    assert!(moved(&ended) >= 8_000, "{ended}");
    let pause = ended["paused_seconds"].as_i64().expect("seconds");
    assert!((moved(&ended) - pause * 1_000).abs() < 1_000, "by the length of the pause: {ended}");
    let last = ended["looks"].as_array().expect("looks").last().expect("one");
    assert!(at(last, "at") >= at(&ended, "deadline"), "not before: {ended}");
    served.act("paused", "stop").expect(200);
}

#[test]
fn a_stream_that_is_over_before_its_windows_ends_with_a_verdict() {
    let served = Served::start(INBOX);
    served.people("t", 60, "x.test");
    let spec = streams::STREAM
        .replace("exits = { first = \"short\", then = \"long\" }", "exits = { first = \"short\", then = \"short\" }")
        .replace("look_every = \"2s\"", "look_every = \"1h\"")
        .replace("window = \"20s\"", "window = \"5s\"");
    let spec = spec.replace("[[nodes]]\nid = \"long\"\nkind = \"delay\"\nfor = \"40s\"\nthen = \"test\"\n", "");
    served.post_text("/v1/campaigns", "application/toml", spec).expect(201);
    served.act("stream", "start").expect(200);
    let report = served.await_state("stream", "finished");
    let test = &report["tests"][0];
    assert_eq!(report["ledger"]["accepted"], 60, "{report}");
    assert_eq!(test["looks"].as_array().expect("looks").len(), 1, "one look at everybody: {test}");
    assert_eq!(test["verdict"], test["looks"][0]["verdict"], "{test}");
    assert!(test["verdict"].is_string() && test["decision"].is_null(), "the report states it: {test}");
    assert_eq!(arm(test, "A")["matured"].as_u64().expect("A") + arm(test, "B")["matured"].as_u64().expect("B"), 60);
    let text = metrics(&served);
    let state = ["campaign_test_state{campaign=\"stream\"", "state=\"undecided\"} 1"];
    assert!(text.lines().any(|line| state.iter().all(|part| line.contains(part))), "{text}");
}
