//! Edits of what runs and extensions of what is finished, of every kind but sequences, on the program itself.

use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::served::Served;

const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";
const PEOPLE: usize = 30;

fn served() -> Served {
    let server = Served::start(INBOX);
    server.people("p", PEOPLE, "x.test");
    server
}

fn begin(server: &Served, name: &str, more: &Json) {
    server.campaign(name, "relay", "p", more);
    server.act(name, "start").expect(200);
}

fn patch(server: &Served, name: &str, patch: &Json) -> Json {
    server.call(Method::PATCH, &format!("/v1/campaigns/{name}"), patch).expect(200)
}

fn post(server: &Served, name: &str, what: &str) -> crate::served::Answer {
    server.post(&format!("/v1/campaigns/{name}/{what}"), &json!({}))
}

/// Refused places with their codes, in order.
fn locked(refusal: &Json) -> Vec<(String, String)> {
    let text = |value: &Json| value.as_str().expect("a text").to_owned();
    let steps = refusal["details"]["steps"].as_array().expect("all that is locked").iter();
    let mut found: Vec<(String, String)> = steps.map(|step| (text(&step["step"]), text(&step["code"]))).collect();
    found.sort();
    found
}

fn mails(server: &Served, row: usize, subject: &str) -> usize {
    let mails = server.mails_to(&format!("p{row:06}@x.test"));
    mails.iter().filter(|mail| mail.contains(&format!("Subject: {subject}"))).count()
}

#[test]
fn a_follow_up_is_edited_while_the_first_message_is_sent_and_survives_a_kill() {
    let mut server = served();
    let follow_up = json!({"on": "not_opened", "after": "6s", "message": {"subject": "Again"}});
    begin(&server, "spring", &json!({"follow_up": follow_up, "limits": {"messages_per_second": 10}}));
    server.until("somebody has it", || (server.count("spring", "accepted") > 0).then_some(()));
    let path = "/v1/campaigns/spring";
    server.call(Method::PATCH, path, &json!({"name": "x"})).refused("no_working_copy", "edit");
    post(&server, "spring", "extend").refused("use_edit", "edit");

    // Everything that is locked is told at once, and nothing of it comes into force.
    let wrong = json!({
        "name": "summer", "mode": "at_least_once", "message": {"subject": "Other"},
        "follow_up": {"message": {"subject": "New"}},
    });
    let file = server.write("wrong.json", wrong.to_string());
    let view = server.cli(&["campaign", "edit", "spring", &file, "--json"]).json(0);
    let alerts = view["sequence"]["working_copy"]["alerts"].as_array().expect("alerts");
    assert!(alerts.iter().any(|alert| alert["code"] == "executed_message"), "shown before: {view}");
    let refused = post(&server, "spring", "publish?confirm=true").refused("step_locked", "executed");
    let wanted = [("message", "executed_message"), ("mode", "fixed_key"), ("name", "fixed_key")];
    assert_eq!(locked(&refused), wanted.map(|(at, code)| (at.to_owned(), code.to_owned())), "{refused}");

    // What is left is taken, after it was looked at.
    let right = json!({"name": "spring", "mode": null, "message": {"subject": "spring hello"}});
    patch(&server, "spring", &right);
    let shown = post(&server, "spring", "publish").refused("confirmation_needed", "confirm");
    assert_eq!(shown["details"]["changed"], json!(["follow-up"]), "{shown}");
    let done = server.cli(&["campaign", "publish", "spring", "--yes", "--json"]).json(0);
    assert_eq!((&done["changed"], &done["state"]), (&json!(["follow-up"]), &json!("running")), "{done}");
    post(&server, "spring", "publish?confirm=true").refused("no_working_copy", "edit");

    // What is on the wire in a kill has no known outcome: not here.
    server
        .until("all have the first", || (server.report("spring")["deliveries"][0]["accepted"] == PEOPLE).then_some(()));
    for row in [0, PEOPLE - 1] {
        assert_eq!(mails(&server, row, "spring hello"), 1, "the first message as it began");
    }
    server.kill();
    server.restart();
    let report = server.await_state("spring", "finished");
    assert_eq!(report["deliveries"][1]["accepted"], PEOPLE, "{report}");
    for row in [0, PEOPLE - 1] {
        assert_eq!((mails(&server, row, "New"), mails(&server, row, "Again")), (1, 0), "the follow-up as published");
    }
    post(&server, "spring", "edit").refused("use_extend", "extend");
}

#[test]
fn a_finished_single_campaign_goes_on_with_a_follow_up() {
    let server = served();
    begin(&server, "spring", &json!({}));
    server.await_state("spring", "finished");
    post(&server, "spring", "extend").expect(200);
    post(&server, "spring", "publish?confirm=true").refused("nothing_changed", "change it first");
    patch(&server, "spring", &json!({"message": {"subject": "Other"}}));
    let refused = post(&server, "spring", "publish?confirm=true").refused("step_locked", "executed");
    assert_eq!(locked(&refused), [("message".to_owned(), "executed_message".to_owned())], "{refused}");
    let follow_up = json!({"on": "not_opened", "after": "1s", "message": {"subject": "Again"}});
    patch(&server, "spring", &json!({"message": {"subject": "spring hello"}, "follow_up": follow_up}));
    let done = post(&server, "spring", "publish?confirm=true").expect(200);
    assert_eq!(done["state"], "running", "{done}");
    let report = server.until("it ends again", || {
        let report = server.report("spring");
        (report["state"] == "finished").then_some(report)
    });
    assert_eq!(report["deliveries"][1]["accepted"], PEOPLE, "the same people: {report}");
    assert_eq!((mails(&server, 3, "spring hello"), mails(&server, 3, "Again")), (1, 1), "each once");
}

#[test]
fn an_extension_starts_from_the_copy_that_was_open_when_the_run_ended() {
    let server = served();
    begin(&server, "spring", &json!({"limits": {"messages_per_second": 10}}));
    post(&server, "spring", "edit").expect(200);
    let follow_up = json!({"on": "not_opened", "after": "1h", "message": {"subject": "Again"}});
    let file = server.write("more.json", json!({"follow_up": follow_up}).to_string());
    let shown = server.cli(&["campaign", "edit", "spring", &file]).expect(0);
    assert!(shown.contains("a working copy is open") && !shown.contains("is saved as"), "the copy: {shown}");
    server.await_state("spring", "finished");
    let opened = post(&server, "spring", "extend").expect(200);
    let copy = &opened["working_copy"];
    let said = &copy["spec"]["follow_up"]["message"]["subject"];
    assert_eq!((said, &copy["extends"]), (&json!("Again"), &json!(true)), "{opened}");
    let done = post(&server, "spring", "publish?confirm=true").expect(200);
    let changed: Vec<&str> = done["changed"].as_array().expect("places").iter().filter_map(Json::as_str).collect();
    let is_number = |place: &&str| place.strip_prefix('n').is_some_and(|rest| rest.parse::<u32>().is_ok());
    assert!(changed.contains(&"follow-up") && !changed.iter().any(is_number), "names for people: {changed:?}");
    server.act("spring", "stop").expect(200);
}

fn in_seconds(seconds: i64) -> String {
    let then = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).expect("a time");
    then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[test]
fn while_launches_are_ahead_changes_are_theirs_and_the_run_is_not_edited() {
    let server = Served::start(&format!("schedule_safety_minutes = 0\n{INBOX}"));
    server.people("p", PEOPLE, "x.test");
    for name in ["weekly", "monthly"] {
        let dates = json!({"dates": [in_seconds(3), in_seconds(3_600)]});
        begin(&server, name, &json!({"schedule": dates, "limits": {"messages_per_second": 2}}));
    }
    for name in ["weekly", "monthly"] {
        let path = format!("/v1/campaigns/{name}");
        server.until("it runs", || (server.get(&path)["state"] == "running").then_some(()));
        for what in ["edit", "extend", "publish?confirm=true"] {
            post(&server, name, what).refused("launches_ahead", "unschedule");
        }
        let changed = patch(&server, name, &json!({"message": {"subject": format!("{name} later")}}));
        assert_eq!(changed["sequence"], Json::Null, "no working copy: {changed}");
    }

    // Without launches ahead, the run is edited from what it is itself.
    server.act("monthly", "unschedule").expect(200);
    let opened = post(&server, "monthly", "edit").expect(200);
    let said = &opened["working_copy"]["spec"]["message"]["subject"];
    assert_eq!((said, &opened["version"]), (&json!("monthly hello"), &json!(1)), "as it runs: {opened}");
    server.act("monthly", "stop").expect(200);

    // The next launch, which is the last, has the change; the run before it has not.
    let soon = json!({"dates": [in_seconds(2)]});
    server.call(Method::PATCH, "/v1/campaigns/weekly/schedule", &soon).expect(200);
    let runs = || server.get("/v1/campaigns/weekly/runs")["items"].as_array().expect("runs").len();
    server.until("it is launched again", || (runs() == 2).then_some(()));
    let opened = post(&server, "weekly", "edit").expect(200);
    assert_eq!(opened["working_copy"]["spec"]["message"]["subject"], "weekly later", "{opened}");
    server.until("both are sent", || (server.get("/v1/campaigns/weekly")["state"] == "finished").then_some(()));
    for row in [0, PEOPLE - 1] {
        assert_eq!((mails(&server, row, "weekly hello"), mails(&server, row, "weekly later")), (1, 1), "one of each");
    }
}

fn flow(first: &str, nodes: Json) -> Json {
    let mut all = vec![
        json!({"id": "start", "kind": "start", "then": "first"}),
        json!({"id": "first", "kind": "send", "then": first, "message": {"subject": "One"}}),
        json!({"id": "end", "kind": "end"}),
    ];
    all.extend(nodes.as_array().expect("nodes").iter().cloned());
    json!({"kind": "flow", "nodes": all})
}

#[test]
fn nodes_ahead_of_a_running_flow_change_and_those_behind_are_locked() {
    let server = served();
    let wait = |length: &str| json!({"id": "wait", "kind": "delay", "for": length, "then": "second"});
    let second = |then: &str| json!({"id": "second", "kind": "send", "then": then, "message": {"subject": "Two"}});
    begin(&server, "walk", &flow("wait", json!([wait("1h"), second("end")])));
    server.until("all wait", || {
        let view = server.get("/v1/campaigns/walk/report");
        (view["ledger"]["accepted"] == PEOPLE).then_some(())
    });
    let opened = post(&server, "walk", "edit").expect(200);
    let lock = |id: &str| {
        let steps = opened["steps"].as_array().expect("nodes");
        steps.iter().find(|step| step["id"] == id).map(|step| step["lock"].clone())
    };
    assert_eq!(lock("first"), Some(json!("executed")), "{opened}");
    assert_eq!(lock("second"), Some(json!("unreached")), "{opened}");

    // The send that everybody has passed stays, and so does what follows it.
    let after = json!({"id": "wait", "kind": "delay", "for": "1h", "then": "end"});
    patch(&server, "walk", &flow("second", json!([after, second("wait")])));
    let refused = post(&server, "walk", "publish?confirm=true").refused("step_locked", "executed");
    assert!(locked(&refused).contains(&("first".to_owned(), "executed_node".to_owned())), "{refused}");

    // Who waits keeps the old time; nodes are added behind what nobody has come to.
    let third = json!({"id": "third", "kind": "send", "then": "end", "message": {"subject": "Three"}});
    patch(&server, "walk", &flow("wait", json!([third, wait("2h"), second("third")])));
    let done = post(&server, "walk", "publish?confirm=true").expect(200);
    assert_eq!(done["changed"], json!(["second", "third", "wait"]), "{done}");
    assert_eq!(server.get("/v1/campaigns/walk")["version"], 2);
    server.act("walk", "stop").expect(200);
    server.report("walk");
}

#[test]
fn a_finished_flow_goes_on_behind_its_end_and_others_are_resent() {
    let server = served();
    begin(&server, "walk", &flow("end", json!([])));
    server.await_state("walk", "finished");
    post(&server, "walk", "edit").refused("use_extend", "extend");
    let second = json!({"id": "second", "kind": "send", "then": "end", "message": {"subject": "Two"}});
    let file = server.write("more.json", flow("second", json!([second])).to_string());
    server.cli(&["campaign", "extend", "walk", &file]).expect(0);
    server.cli(&["campaign", "publish", "walk", "--yes"]).expect(0);
    let report = server.until("the second is sent", || {
        let report = server.report("walk");
        (report["state"] == "finished" && report["deliveries"][1]["accepted"] == PEOPLE).then_some(report)
    });
    assert_eq!(report["deliveries"][0]["accepted"], PEOPLE, "{report}");
    assert_eq!((mails(&server, 7, "One"), mails(&server, 7, "Two")), (1, 1), "each once");

    let variants = json!([{"name": "A", "subject": "A"}, {"name": "B", "subject": "B"}]);
    let test = json!({"sample": 10, "decide_after": "1s", "if_not_proven": "nobody"});
    begin(&server, "split", &json!({"kind": "ab_split", "variants": variants, "test": test}));
    // Nobody clicks: a tie is for a person.
    server.until("the winner is chosen", || {
        let chosen = server.post("/v1/campaigns/split/choose-winner", &json!({"variant": "A", "by": "ann"}));
        (chosen.status == 200).then_some(())
    });
    server.await_state("split", "finished");
    post(&server, "split", "extend").refused("not_extendable", "resend");
    server.campaign("draft", "relay", "p", &json!({}));
    post(&server, "draft", "edit").refused("not_a_sequence", "draft");
    post(&server, "draft", "publish?confirm=true").refused("not_a_sequence", "started");
}

#[test]
fn a_publication_and_the_first_claim_never_both_win() {
    let server = served();
    let limits = [200, 200, 100, 50, 20, 10];
    let mut over = 0;
    for (round, limit) in limits.into_iter().enumerate() {
        let name = format!("race{round}");
        // A limit lets the first claims wait for a moment, more or less.
        begin(&server, &name, &json!({"limits": {"messages_per_second": limit}}));
        let opened = post(&server, &name, "edit");
        if opened.status == 409 {
            opened.refused("use_extend", "extend");
            over += 1;
            continue;
        }
        let path = format!("/v1/campaigns/{name}");
        server.call(Method::PATCH, &path, &json!({"message": {"subject": format!("{name} other")}})).expect(200);
        let done = post(&server, &name, "publish?confirm=true");
        let subject = if done.status == 200 { "other" } else { "hello" };
        server.await_state(&name, "finished");
        for row in 0..PEOPLE {
            let (own, mine) =
                (format!("{name} {subject}"), format!("{name} {}", if subject == "other" { "hello" } else { "other" }));
            assert_eq!(
                (mails(&server, row, &own), mails(&server, row, &mine)),
                (1, 0),
                "one content for all, of {name}"
            );
        }
    }
    assert!(over < limits.len(), "one run at least was still under way when it was edited");
}
