//! Steps of sequences on the real program that do not start in time, start at once, are stopped in the middle, or are added
//! by a file of their own.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::sequences::{accepted, create, finished, patch, publish, report, send, served, soon, spec, started, step};
use crate::served::Served;

/// Two sends, of which the second does not start by itself later than a second after its hour.
fn with_limit(at: i64) -> Json {
    let mut second = send("second", at);
    second["too_late"] = json!("1s");
    spec(json!([send("first", 1_000), second, send("third", at + 500)]))
}

/// The server is away over the hour of the second step.
fn away(server: &mut Served, for_ms: u64) {
    server.end();
    std::thread::sleep(Duration::from_millis(for_ms));
    server.restart();
}

fn held(server: &Served, id: &str) -> Json {
    server.until("the step is held back", || {
        let report = report(server);
        (step(&report, id)["held"] == true).then_some(report)
    })
}

#[test]
fn a_step_that_the_server_slept_through_waits_for_a_person_who_starts_it() {
    let mut server = served();
    assert_eq!(create(&server, &with_limit(4_000))["problems"], json!([]), "a sound spec");
    publish(&server);
    server.until("the first is sent", || (accepted(&report(&server), "first") == 200).then_some(()));
    away(&mut server, 6_000);
    held(&server, "second");
    // However often it is looked at, it does not start.
    std::thread::sleep(Duration::from_secs(2));
    let shown = report(&server);
    assert_eq!((&step(&shown, "second")["started"], accepted(&shown, "second")), (&Json::Null, 0), "{shown}");
    let words = server.cli(&["campaign", "report", "winter"]).expect(0);
    assert!(words.contains("start-step") && words.contains("second"), "the report says what to do: {words}");
    let body = |step: &str, action: &str| json!({"step": step, "action": action});
    let path = "/v1/campaigns/winter/release-step";
    server.post(path, &body("first", "start")).refused("step_not_held", "started");
    server.post(path, &body("none", "start")).refused("step_not_found", "second");
    server.cli(&["campaign", "start-step", "winter", "second"]).expect(0);
    server.post(path, &body("second", "skip")).refused("step_not_held", "");
    // The word is kept, whatever happens; the third was planned in time behind it and has the usual limit of a day.
    server.kill();
    let shown = finished(&server);
    assert_eq!((accepted(&shown, "second"), accepted(&shown, "third")), (200, 200), "{shown}");
}

#[test]
fn a_first_step_that_was_slept_through_fixes_no_cohort_and_one_that_is_skipped_sends_nothing() {
    let mut server = served();
    let mut first = send("first", 2_500);
    first["too_late"] = json!("1s");
    create(&server, &spec(json!([first, send("second", 3_000)])));
    publish(&server);
    away(&mut server, 5_000);
    held(&server, "first");
    std::thread::sleep(Duration::from_secs(1));
    let view = server.get("/v1/campaigns/winter");
    assert_eq!(view["sequence"]["cohort_at"], Json::Null, "nobody is in it yet: {view}");
    server.cli(&["campaign", "skip-step", "winter", "first"]).expect(0);
    let shown = finished(&server);
    assert_eq!((accepted(&shown, "first"), accepted(&shown, "second")), (0, 200), "{shown}");
    assert_eq!(step(&shown, "first")["skipped"], true, "and the report says so: {shown}");
}

#[test]
fn a_step_at_now_starts_with_its_publication_and_only_once() {
    let server = Served::start("schedule_safety_minutes = 5\n[[connectors]]\nname = \"null\"\nkind = \"null\"\n");
    server.import("key=id&subscribe=email:news&list=everyone", "id,email,region\n1,a@x.test,north\n2,b@x.test,south\n");
    let first = json!({"id": "first", "kind": "send", "at": "now", "message": {"subject": "first"}});
    let made = create(&server, &spec(json!([first, send("later", 3_600_000)])));
    assert_eq!(made["problems"], json!([]), "{made}");
    let done = publish(&server);
    assert_eq!(done["steps"][0]["planned"], done["steps"][0]["effective"], "without the five minutes: {done}");
    assert_eq!(done["steps"][0]["planned"], done["published_at"], "with the publication: {done}");
    started(&server, "first");
    server.until("it is sent", || (accepted(&report(&server), "first") == 1).then_some(()));
    // A later version says `now` as before, and means what was.
    server.post("/v1/campaigns/winter/edit", &json!({})).expect(200);
    patch(&server, &json!({"message": {"text": "Other {{ unsubscribe_url }}"}}));
    let shown = server.post("/v1/campaigns/winter/publish?confirm=true", &json!({}));
    shown.refused("step_locked", "first");
    let steps = server.get("/v1/campaigns/winter")["sequence"]["working_copy"]["spec"]["steps"].clone();
    let mut steps = steps.as_array().expect("steps").clone();
    steps[0]["message"]["text"] = json!("Hi {{ contact.region }} {{ unsubscribe_url }}");
    patch(&server, &json!({"steps": steps}));
    let again = publish(&server);
    assert_eq!(again["steps"][0]["executed"], true, "{again}");
    assert_eq!(again["steps"][0]["planned"], done["steps"][0]["planned"], "its moment stays: {again}");
    // Behind a step that is ahead it would be before it.
    let wrong = spec(json!([send("one", 3_600_000), {"id": "two", "kind": "send", "at": "now"}]));
    let mut wrong = wrong;
    wrong["name"] = json!("wrong");
    create(&server, &wrong);
    let refused = server.post("/v1/campaigns/wrong/publish?confirm=true", &json!({}));
    refused.refused("campaign_incomplete", "date_before_previous");
}

#[test]
fn a_stop_in_the_middle_of_a_step_counts_what_it_cancelled_of_it() {
    let server = served();
    let mut slow = spec(json!([send("one", 500), send("two", 3_600_000)]));
    slow["limits"] = json!({"messages_per_second": 20});
    create(&server, &slow);
    publish(&server);
    server.until("some are sent", || (accepted(&report(&server), "one") > 5).then_some(()));
    // What a refusal offers is what there is.
    let refused = server.post("/v1/campaigns/winter/unschedule", &json!({})).refused("illegal_move", "edit");
    assert!(!refused["details"].to_string().contains("unschedule"), "{refused}");
    let done = server.post("/v1/campaigns/winter/stop", &json!({})).expect(200);
    let cancelled = done["cancelled"].as_array().expect("steps");
    let one = cancelled.iter().find(|step| step["id"] == "one").unwrap_or_else(|| panic!("the running step: {done}"));
    assert_eq!(one["running"], true, "{done}");
    let ledger = &done["ledger"];
    assert_eq!((&one["sent"], &one["contacts"]), (&ledger["accepted"], &ledger["skipped"]), "exactly: {done}");
    assert_eq!(one["sent"].as_u64().unwrap() + one["contacts"].as_u64().unwrap(), 200, "all of them: {done}");
    let two = cancelled.iter().find(|step| step["id"] == "two").expect("the step to come");
    assert_eq!((&two["running"], &two["contacts"]), (&json!(false), &json!(200)), "{done}");
}

#[test]
fn a_scheduled_sequence_offers_no_unschedule() {
    let server = served();
    create(&server, &spec(json!([send("one", 3_600_000)])));
    publish(&server);
    let refused = server.post("/v1/campaigns/winter/resume", &json!({})).refused("illegal_move", "legal now");
    assert!(!refused.to_string().contains("unschedule"), "{refused}");
    assert!(refused["details"]["legal_moves"].to_string().contains("stop"), "{refused}");
}

#[test]
fn an_extension_by_a_file_of_the_new_steps_alone_is_put_behind_the_last_ones() {
    let server = served();
    create(&server, &spec(json!([send("one", 500), send("two", 1_000)])));
    publish(&server);
    finished(&server);
    let part = server.write("part.json", json!({"steps": [send("one", 500), send("three", 2_000)]}).to_string());
    let refused = server.cli(&["campaign", "extend", "winter", &part]);
    let told = format!("{}{}", refused.out, refused.err);
    assert!(refused.code != 0 && told.contains("two") && told.contains("only the new ones"), "at once: {told}");
    let toml = format!(
        "[[steps]]\nid = \"three\"\nkind = \"send\"\nat = \"{}\"\n[steps.message]\nsubject = \"three\"\n",
        soon(2_500)
    );
    let file = server.write("more.toml", toml);
    server.cli(&["campaign", "extend", "winter", &file]).expect(0);
    let steps = server.get("/v1/campaigns/winter")["sequence"]["working_copy"]["spec"]["steps"].clone();
    let ids: Vec<&str> = steps.as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["one", "two", "three"], "behind those that ran");
    assert_eq!(publish(&server)["state"], "running");
    let report = finished(&server);
    assert_eq!(accepted(&report, "three"), 200, "{report}");
}
