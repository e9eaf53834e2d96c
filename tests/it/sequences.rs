//! Sequences on the program itself: published, edited while they run, entered by requests, extended, stopped, killed.

use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::served::Served;

/// Stands behind the addresses of the table `[server]`.
const CONFIG: &str = "schedule_safety_minutes = 0\n[[connectors]]\nname = \"null\"\nkind = \"null\"\n";
const PEOPLE: usize = 400;

/// People c0 to c399 in the list `everyone`, half of them in the north.
pub fn served() -> Served {
    let server = Served::start(CONFIG);
    let mut csv = String::from("id,email,region,plan\n");
    for i in 0..PEOPLE {
        let region = if i % 2 == 0 { "north" } else { "south" };
        csv.push_str(&format!("c{i},c{i}@x.test,{region},basic\n"));
    }
    let report = server.import("key=id&subscribe=email:news&list=everyone", csv);
    assert_eq!(report["accepted"], PEOPLE, "{report}");
    server
}

/// So many milliseconds from now, in the zone of the specs.
pub fn soon(milliseconds: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(milliseconds);
    at.to_zoned(jiff::tz::TimeZone::UTC).datetime().to_string()
}

pub fn spec(steps: Json) -> Json {
    json!({
        "name": "winter", "kind": "sequence", "zone": "UTC",
        "audience": {"list": "everyone", "segment": "region = \"north\""},
        "message": {
            "channel": "email", "connector": "null", "topic": "news", "from": "News <news@example.test>",
            "subject": "Hello", "text": "Hi {{ contact.region }} {{ unsubscribe_url }}",
        },
        "steps": steps,
    })
}

pub fn send(id: &str, at: i64) -> Json {
    json!({"id": id, "kind": "send", "at": soon(at), "message": {"subject": id}})
}

pub fn create(server: &Served, spec: &Json) -> Json {
    server.post("/v1/campaigns", spec).expect(201)
}

pub fn publish(server: &Served) -> Json {
    server.post("/v1/campaigns/winter/publish?confirm=true", &json!({})).expect(200)
}

pub fn patch(server: &Served, patch: &Json) -> Json {
    server.call(Method::PATCH, "/v1/campaigns/winter", patch).expect(200)
}

pub fn report(server: &Served) -> Json {
    server.get("/v1/campaigns/winter/report")
}

pub fn finished(server: &Served) -> Json {
    let report = server.until("the sequence ends", || {
        let report = report(server);
        (report["state"] == "finished").then_some(report)
    });
    assert_eq!(report["ledger"]["balanced"], true, "{report}");
    report
}

pub fn step<'r>(report: &'r Json, id: &str) -> &'r Json {
    let steps = report["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step {id}: {report}"))
}

/// Accepted contacts of the send of a step.
pub fn accepted(report: &Json, id: &str) -> u64 {
    let deliveries = report["deliveries"].as_array().expect("deliveries").iter();
    let mut messages = deliveries.flat_map(|d| d["messages"].as_array().expect("messages"));
    messages.find(|m| m["name"] == id).map_or(0, |m| m["accepted"].as_u64().expect("a number"))
}

pub fn started(server: &Served, id: &str) -> Json {
    server.until("the step starts", || {
        let report = report(server);
        step(&report, id)["started"].is_string().then_some(report)
    })
}

#[test]
fn a_sequence_is_published_and_goes_its_steps_for_the_cohort_of_its_start() {
    let server = served();
    let steps = json!([
        send("hello", 3_000),
        {"id": "who", "kind": "split", "by": "weights", "at": soon(3_000),
         "branches": [{"name": "few", "weight": 1}, {"name": "many", "weight": 3}]},
        {"id": "few", "kind": "send", "after": "who.few", "at": soon(4_000), "message": {"subject": "few"}},
        {"id": "mark", "kind": "set_attribute", "after": "who.many", "at": soon(4_000), "attribute": "plan", "value": "gold"},
        {"id": "bye", "kind": "send", "after": ["few", "mark"], "at": soon(5_000), "message": {"subject": "bye"}},
    ]);
    let made = create(&server, &spec(steps));
    assert_eq!(made["problems"], json!([]), "{made}");
    assert_eq!(made["sequence"]["steps"][0]["lock"], "unreached");
    server.post("/v1/campaigns/winter/start", &json!({})).refused("use_publish", "publish");
    server.act("winter", "pause").refused("illegal_move", "publish");
    server.post("/v1/campaigns/winter/edit", &json!({})).refused("use_publish", "PATCH");
    let shown = server.post("/v1/campaigns/winter/publish", &json!({})).refused("confirmation_needed", "confirm");
    assert_eq!(shown["details"]["steps"].as_array().map(Vec::len), Some(5), "{shown}");
    assert_eq!(server.get("/v1/campaigns/winter")["state"], "draft", "nothing was published");
    let done = publish(&server);
    assert_eq!((&done["state"], &done["active"]), (&json!("scheduled"), &json!(true)), "{done}");
    assert_eq!(done["steps"][0]["planned"], done["steps"][0]["effective"], "no grace here: {done}");
    server.post("/v1/campaigns/winter/publish?confirm=true", &json!({})).refused("no_working_copy", "edit");

    let to = soon(3_600_000);
    let agenda = server.get(&format!("/v1/calendar?to={to}Z"));
    let steps: Vec<_> = agenda["items"].as_array().expect("items").iter().map(|item| item["step"].clone()).collect();
    assert_eq!(steps.len(), 5, "every dated step is in the calendar: {agenda}");

    // Until the start people come and go; after it, the cohort is what it is.
    let contact = json!({"email": "new@x.test", "attributes": {"region": "north", "plan": "basic"},
                         "consent": {"email:news": "subscribed"}});
    server.call(Method::PUT, "/v1/contacts/new", &contact).expect(201);
    server.post("/v1/lists/everyone/contacts", &json!({"add": ["new"]})).expect(200);
    server.until("all have it", || (accepted(&report(&server), "hello") == 201).then_some(()));
    for key in ["c0", "c2", "c4"] {
        let moved = json!({"attributes": {"region": "south"}});
        server.call(Method::PATCH, &format!("/v1/contacts/{key}"), &moved).expect(200);
    }
    let out = json!({"consent": {"email:news": "unsubscribed"}});
    server.call(Method::PATCH, "/v1/contacts/c6", &out).expect(200);
    let report = finished(&server);
    assert_eq!(accepted(&report, "hello"), 201, "list and segment, and who came before the start: {report}");
    let few = step(&report, "few")["reached"].as_u64().expect("a number");
    assert!((50..=51).contains(&few), "a quarter, exactly but for one: {report}");
    assert_eq!(step(&report, "mark")["reached"], 201 - few, "{report}");
    assert_eq!(step(&report, "bye")["reached"], 201, "who stopped matching stays in: {report}");
    assert_eq!(accepted(&report, "bye"), 200, "who opted out does not: {report}");
    for name in ["hello", "who", "few", "mark", "bye"] {
        let step = step(&report, name);
        assert_eq!(step["lock"], "executed", "{step}");
        assert!(step["started"].as_str() >= step["effective"].as_str(), "never early: {step}");
    }
    let gold = server.post("/v1/segments/preview", &json!({"expression": "plan = \"gold\"", "sample": 0})).expect(200);
    assert_eq!(gold["count"], 201 - few, "the attribute is set");
}

#[test]
fn alerts_are_listed_together_and_keep_it_from_being_published() {
    let server = served();
    let steps = json!([
        send("late", 600_000),
        send("early", 300_000),
        send("past", -60_000),
        {"id": "undated", "kind": "send"},
        {"id": "nap", "kind": "delay", "at": soon(700_000)},
        {"id": "key", "kind": "set_attribute", "at": soon(700_000), "attribute": "email", "value": "x@y.test"},
    ]);
    let made = create(&server, &spec(steps));
    let codes: Vec<_> =
        made["problems"].as_array().expect("problems").iter().map(|p| p["code"].as_str().unwrap_or("")).collect();
    for code in [
        "date_before_previous",
        "date_after_next",
        "date_past",
        "step_not_dated",
        "wait_in_sequence",
        "not_a_general_field",
    ] {
        assert!(codes.contains(&code), "{code} among {codes:?}");
    }
    let refused =
        server.post("/v1/campaigns/winter/publish?confirm=true", &json!({})).refused("campaign_incomplete", "problem");
    assert_eq!(refused["details"]["problems"].as_array().map(Vec::len), Some(codes.len()), "all of them: {refused}");
}

#[test]
fn what_runs_is_edited_in_a_copy_that_the_next_start_closes() {
    let server = served();
    create(&server, &spec(json!([send("one", 1_500), send("two", 3_600_000)])));
    publish(&server);
    started(&server, "one");
    server.until("all wait for two", || (step(&report(&server), "two")["waiting"] == 200).then_some(()));
    server.call(Method::PATCH, "/v1/campaigns/winter", &json!({})).refused("no_working_copy", "edit");
    server.post("/v1/campaigns/winter/extend", &json!({})).refused("use_edit", "edit");
    let view = server.post("/v1/campaigns/winter/edit", &json!({})).expect(200);
    let locks: Vec<_> = view["steps"].as_array().expect("steps").iter().map(|s| s["lock"].clone()).collect();
    assert_eq!(locks, [json!("executed"), json!("current")], "{view}");

    // What is locked is refused by name.
    let one = view["working_copy"]["spec"]["steps"][0].clone();
    let mut changed = one.clone();
    changed["message"]["subject"] = json!("another");
    patch(&server, &json!({"steps": [changed, send("two", 3_600_000)]}));
    let refused =
        server.post("/v1/campaigns/winter/publish?confirm=true", &json!({})).refused("step_locked", "\"one\"");
    assert_eq!(refused["details"]["steps"][0]["lock"], "executed", "{refused}");
    patch(&server, &json!({"steps": [one, send("between", 60_000), send("two", 3_600_000)]}));
    server.post("/v1/campaigns/winter/publish?confirm=true", &json!({})).refused("step_locked", "is current");

    // The current step's date and content are free, and so is what comes after it.
    let mut two = send("two", 2_500);
    two["message"]["subject"] = json!("a better one");
    patch(&server, &json!({"steps": [one, two, send("three", 3_600_000)]}));
    let done = publish(&server);
    assert_eq!(done["version"], 3, "{done}");
    // A copy that is not published in time is closed, stays readable, and is refused by the step's name.
    server.post("/v1/campaigns/winter/edit", &json!({})).expect(200);
    patch(&server, &json!({"steps": [one, two, send("three", 7_200_000)]}));
    started(&server, "two");
    let view = server.get("/v1/campaigns/winter")["sequence"].clone();
    assert_eq!(
        (&view["working_copy"]["open"], &view["working_copy"]["closed_by"]),
        (&json!(false), &json!("two")),
        "{view}"
    );
    server.post("/v1/campaigns/winter/publish?confirm=true", &json!({})).refused("working_copy_closed", "\"two\"");
    server.call(Method::PATCH, "/v1/campaigns/winter", &json!({})).refused("working_copy_closed", "\"two\"");
    // A new one takes its steps away, and the run is over.
    server.post("/v1/campaigns/winter/edit", &json!({})).expect(200);
    server.until("all wait for three", || (step(&report(&server), "three")["waiting"] == 200).then_some(()));
    let soon = json!({"steps": [one, two, send("three", 1_500)]});
    patch(&server, &soon);
    publish(&server);
    let report = finished(&server);
    assert_eq!(
        (accepted(&report, "one"), accepted(&report, "two"), accepted(&report, "three")),
        (200, 200, 200),
        "{report}"
    );
}

#[test]
fn contacts_enter_by_requests_once_until_the_first_dated_step_starts() {
    let server = served();
    let mut spec = spec(json!([
        {"id": "now", "kind": "send", "message": {"subject": "now"}},
        send("later", 10_000),
    ]));
    spec["starter"] = json!("api");
    spec.as_object_mut().expect("an object").remove("audience");
    let made = create(&server, &spec);
    assert_eq!(made["problems"], json!([]), "{made}");
    let enter = |keys: &[&str], name: &str| {
        server.post("/v1/campaigns/winter/enter", &json!({"contacts": keys, "idempotency_key": name}))
    };
    // A date of the first step is cleared by the switch, and may be set again.
    let dated = patch(&server, &json!({"starter": "audience", "steps": [send("now", 3_000), send("later", 10_000)]}));
    assert!(dated["spec"]["steps"][0]["at"].is_string(), "{dated}");
    let cleared = patch(&server, &json!({"starter": "api"}));
    assert!(cleared["spec"]["steps"][0].get("at").is_none(), "{cleared}");
    assert_eq!(cleared["problems"], json!([]), "{cleared}");
    enter(&["c1"], "early").refused("no_entry", "not published");
    let done = publish(&server);
    assert_eq!((&done["state"], &done["active"]), (&json!("running"), &json!(true)), "{done}");
    assert!(done["steps"][0]["planned"].is_null(), "it starts by request: {done}");
    server
        .post("/v1/campaigns/winter/enter", &json!({"contacts": ["c1"]}))
        .refused("invalid_parameter", "idempotency key");
    let first = enter(&["c1", "c2", "nobody"], "r1").expect(200);
    assert_eq!((&first["entered"], &first["unknown"]), (&json!(2), &json!(["nobody"])), "{first}");
    let again = enter(&["c1", "c2", "nobody"], "r1").expect(200);
    assert_eq!((&again["entered"], &again["repeated"]), (&json!(2), &json!(true)), "the same answer: {again}");
    enter(&["c9"], "r1").refused("idempotency_mismatch", "r1");
    let second = enter(&["c2", "c3"], "r2").expect(200);
    assert_eq!((&second["entered"], &second["already"]), (&json!(1), &json!(1)), "a contact enters once: {second}");
    server.until("they start at once", || (accepted(&report(&server), "now") == 3).then_some(()));
    assert_eq!(report(&server)["state"], "running", "it waits for more");
    started(&server, "later");
    enter(&["c5"], "r3").refused("no_entry", "first dated step has started");
    let report = finished(&server);
    assert_eq!((accepted(&report, "now"), accepted(&report, "later")), (3, 3), "{report}");
}

#[test]
fn a_finished_sequence_is_extended_for_each_contact_from_where_it_ended() {
    let server = served();
    let split = json!({"id": "who", "kind": "split", "by": "at_most", "at": soon(1_500), "branches": [{"name": "first", "at_most": 30}]});
    create(
        &server,
        &spec(
            json!([split, {"id": "thirty", "kind": "send", "after": "who.first", "at": soon(2_000), "message": {"subject": "thirty"}}]),
        ),
    );
    publish(&server);
    let before = finished(&server);
    assert_eq!(accepted(&before, "thirty"), 30, "{before}");
    server.post("/v1/campaigns/winter/edit", &json!({})).refused("use_extend", "extend");
    let view = server.post("/v1/campaigns/winter/extend", &json!({})).expect(200);
    let steps = view["working_copy"]["spec"]["steps"].as_array().expect("steps").clone();
    let with = |more: &[Json]| json!({"steps": steps.iter().chain(more).collect::<Vec<_>>()});
    let mut inner = send("between", 1_500);
    inner["after"] = json!("who.first");
    patch(&server, &json!({"steps": [steps[0], inner, steps[1]]}));
    let refused = server.post("/v1/campaigns/winter/publish?confirm=true", &json!({}));
    refused.refused("step_locked", "cannot be moved");
    let mut rest = send("rest", 2_500);
    rest["after"] = json!("who.remaining");
    let mut more = send("more", 2_500);
    more["after"] = json!("thirty");
    patch(&server, &with(&[rest, more]));
    assert_eq!(publish(&server)["state"], "running", "finished, and running again");
    let after = finished(&server);
    let counts = ["thirty", "more", "rest"].map(|id| accepted(&after, id));
    assert_eq!(counts, [30, 30, 170], "each from where it ended: {after}");
    assert_eq!(after["run"], before["run"], "the same run, the same cohort");
}

#[test]
fn a_stop_lists_what_it_cancels_and_counts_what_was_sent() {
    let server = served();
    create(&server, &spec(json!([send("one", 1_500), send("two", 3_600_000), send("three", 7_200_000)])));
    publish(&server);
    server.until("all wait for two", || (step(&report(&server), "two")["waiting"] == 200).then_some(()));
    let done = server.post("/v1/campaigns/winter/stop", &json!({})).expect(200);
    let cancelled: Vec<_> =
        done["cancelled"].as_array().expect("steps").iter().map(|s| (s["id"].clone(), s["contacts"].clone())).collect();
    assert_eq!(cancelled, [(json!("two"), json!(200)), (json!("three"), json!(200))], "{done}");
    assert_eq!(
        (&done["state"], &done["ledger"]["accepted"]),
        (&json!("stopped"), &json!(200)),
        "the exact count: {done}"
    );
}

#[test]
fn a_sequence_goes_on_after_kills_before_between_and_in_its_steps() {
    let mut server = served();
    create(&server, &spec(json!([send("one", 4_000), send("two", 8_000)])));
    publish(&server);
    server.kill();
    assert_eq!(server.get("/v1/campaigns/winter")["state"], "scheduled", "published it stays");
    server.post("/v1/campaigns/winter/edit", &json!({})).expect(200);
    server.kill();
    assert_eq!(server.get("/v1/campaigns/winter")["sequence"]["working_copy"]["open"], true, "and the copy open");
    started(&server, "one");
    server.kill();
    let report = finished(&server);
    let (one, two) = (accepted(&report, "one"), accepted(&report, "two"));
    let unknown = report["ledger"]["unknown"].as_u64().expect("a number");
    assert_eq!(one + two + unknown, 400, "nobody is lost and nobody twice: {report}");
    assert_eq!(step(&report, "two")["reached"], 200, "{report}");
}

#[test]
fn the_start_is_measured_and_a_smaller_gap_is_warned_of() {
    let server = served();
    let (one, mut two) = (send("one", 600_000), send("two", 600_000));
    two["at"] = one["at"].clone();
    create(&server, &spec(json!([one, two])));
    let tested = server.post("/v1/campaigns/winter/test-start", &json!({})).expect(200);
    assert_eq!(tested["contacts"], 200, "{tested}");
    assert!(tested["seconds"].as_f64() > Some(0.0), "{tested}");
    let view = server.get("/v1/campaigns/winter");
    assert!(view["warnings"].to_string().contains("small_gap"), "two steps at one time: {view}");
    assert_eq!(server.get("/v1/campaigns/winter")["state"], "draft", "nothing was started");
}
