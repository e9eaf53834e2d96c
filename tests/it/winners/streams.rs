//! Tests of a stream, which go on until there is a winner.

use super::*;

/// A stream in two parts: some come at once, the others when the first have shown who is better.
pub(super) const STREAM: &str = r#"
name = "stream"
kind = "flow"
[audience]
list = "t"
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "News <news@example.test>"
html = '<p><a href="https://shop.example.test/a">offer</a> <a href="{{ unsubscribe_url }}">no more</a></p>'
[[nodes]]
id = "start"
kind = "start"
then = "parts"
[[nodes]]
id = "parts"
kind = "split"
weights = { first = 1, then = 1 }
exits = { first = "short", then = "long" }
[[nodes]]
id = "short"
kind = "delay"
for = "1s"
then = "test"
[[nodes]]
id = "long"
kind = "delay"
for = "40s"
then = "test"
[[nodes]]
id = "test"
kind = "ab_test"
continuing = true
variants = { A = 1, B = 1 }
window = "20s"
look_every = "2s"
min_delivered = 50
min_events = 5
exits = { A = "plain", B = "better" }
[[nodes]]
id = "plain"
kind = "send"
then = "end"
message = { subject = "Plain" }
[[nodes]]
id = "better"
kind = "send"
then = "end"
message = { subject = "Better" }
[[nodes]]
id = "end"
kind = "end"
"#;

#[test]
fn a_stream_is_tested_on_until_there_is_a_winner_whom_later_entrants_get() {
    let served = Served::start(INBOX);
    served.people("t", 400, "x.test");
    let example = std::fs::read_to_string(file("examples/stream-test.toml")).expect("the example");
    let example = example
        .replace("connector = \"inbox\"", "connector = \"relay\"")
        .replace("contact.first_name", "contact.email");
    let example = served.post_text("/v1/campaigns/check", "application/toml", example).expect(200);
    assert_eq!((&example["problems"], &example["warnings"]), (&json!([]), &json!([])), "{example}");
    let checked = served.post_text("/v1/campaigns/check", "application/toml", STREAM).expect(200);
    assert_eq!(checked["problems"], json!([]), "{checked}");
    let finite = STREAM.replace("continuing = true\n", "").replace("look_every = \"2s\"\n", "decide_after = \"1h\"\n");
    let finite = served.post_text("/v1/campaigns/check", "application/toml", finite).expect(200);
    assert!(finite["warnings"].to_string().contains("test_of_a_stream"), "a test of one set is warned of: {finite}");
    let mixed = STREAM.replace("continuing = true\n", "continuing = true\ndecide_after = \"1h\"\n");
    let mixed = served.post_text("/v1/campaigns/check", "application/toml", mixed).expect(200);
    assert_eq!(mixed["problems"][0]["code"], "wrong_key", "it has no deadline: {mixed}");
    served.post_text("/v1/campaigns", "application/toml", STREAM).expect(201);
    served.act("stream", "start").expect(200);
    sampled(&served, "stream", 200);
    std::thread::sleep(BEFORE_READING);
    let mut readers = Readers::new(&served);
    let (plain, better) = (readers.of("Plain"), readers.of("Better"));
    assert_eq!((plain.len(), better.len()), (100, 100), "two whole blocks: exact halves");
    plain[..8].iter().for_each(|at| readers.click(*at));
    better[..48].iter().for_each(|at| readers.click(*at));
    let test = decided(&served, "stream");
    assert_eq!((&test["continuing"], &test["deadline"]), (&json!(true), &Json::Null), "{test}");
    let decision = &test["decision"];
    assert_eq!((&decision["winner"], &decision["basis"]), (&json!("B"), &json!("proven")), "{test}");
    let statistics = &test["looks"].as_array().expect("looks").last().expect("one")["statistics"];
    let sequence = &statistics["pairs"][0]["sequence"];
    assert!(sequence["interval"][0].as_f64().expect("a confidence sequence") > 0.0, "{statistics}");
    let report = served.await_state("stream", "finished");
    let arms = &report["tests"][0];
    assert_eq!((&arm(arms, "A")["contacts"], &arm(arms, "B")["contacts"]), (&json!(100), &json!(300)), "{arms}");
    assert_eq!((&arm(arms, "A")["accepted"], &arm(arms, "B")["accepted"]), (&json!(100), &json!(100)), "the sample");
    assert_eq!(report["ledger"]["accepted"], 400, "{}", report["ledger"]);
}
