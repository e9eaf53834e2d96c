//! Schedules of a served program, over HTTP and by the command line: launches, kills, pauses, edits, the calendar, local time.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use reqwest::Method;
use serde_json::{Value as Json, json};

use estafette::api::port::{CampaignView, CampaignsPort, Ref, SpecFormat, SpecText};
use estafette::campaigns::schedule::Launch;
use estafette::clock::Timestamp as At;
use estafette::ids::CampaignId;
use estafette::ledger::Fact;
use estafette::ledger::plans::{NextLaunch, Published};

use crate::harness::TestEngine;
use crate::served::{Served, file};

const NULL: &str = "[[connectors]]\nname = \"null\"\nkind = \"null\"\n";

/// A server whose dated starts need no time to be taken back.
fn served() -> Served {
    Served::start(&format!("schedule_safety_minutes = 0\n{NULL}"))
}

/// So many seconds from now, in UTC.
fn in_seconds(seconds: i64) -> String {
    Timestamp::now().checked_add(seconds.seconds()).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn instant(value: &Json) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("an instant: {value}")).parse().unwrap()
}

fn view(server: &Served, campaign: &str) -> Json {
    server.get(&format!("/v1/campaigns/{campaign}"))
}

fn runs(server: &Served, campaign: &str) -> Vec<Json> {
    server.get(&format!("/v1/campaigns/{campaign}/runs"))["items"].as_array().unwrap().clone()
}

fn launched(server: &Served, campaign: &str, count: usize) -> Vec<Json> {
    server.until(&format!("{campaign} was launched {count} times"), || {
        let runs = runs(server, campaign);
        let ended = runs.iter().filter(|run| run["state"] == "finished").count();
        (ended == count).then_some(runs)
    })
}

fn scheduled(server: &Served, name: &str, schedule: &Json) -> Json {
    server.campaign(name, "null", "p", &json!({ "schedule": schedule }));
    let done = server.act(name, "start").expect(200);
    assert_eq!((&done["state"], &done["run"]), (&json!("scheduled"), &Json::Null), "{done}");
    done
}

#[test]
fn a_dated_campaign_is_launched_once_whatever_restarts() {
    let mut server = served();
    server.people("p", 20, "x.test");
    let at = in_seconds(6);
    let done = scheduled(&server, "dated", &json!({ "at": at }));
    assert_eq!(instant(&done["schedule"]["next"]["planned"]), at.parse::<Timestamp>().unwrap(), "{done}");
    let listed = server.get("/v1/campaigns?state=scheduled")["items"][0].clone();
    assert_eq!((&listed["name"], instant(&listed["next_start"])), (&json!("dated"), at.parse().unwrap()), "{listed}");
    let calendar = server.get("/v1/calendar");
    assert_eq!(calendar["items"][0]["name"], "dated", "{calendar}");
    assert_eq!(calendar["items"][0]["outcome"], "planned", "{calendar}");
    assert_eq!(server.get("/v1/campaigns/dated")["legal_moves"], json!(["unschedule", "stop", "pause"]), "offered");
    server.act("dated", "start").refused("illegal_move", "it starts by itself at its time");
    server.kill();
    let report = server.await_state_of_run("dated", "finished");
    assert_eq!(report["ledger"]["accepted"], 20, "{report}");
    assert_eq!(instant(&report["launch"]["planned"]), at.parse::<Timestamp>().unwrap(), "{report}");
    for _ in 0..2 {
        server.kill();
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(runs(&server, "dated").len(), 1, "one run a launch");
    }
    let view = view(&server, "dated");
    assert_eq!((&view["state"], &view["schedule"]["state"]), (&json!("finished"), &json!("done")), "{view}");
    assert_eq!(view["schedule"]["history"][0]["outcome"], "made", "{view}");
}

#[test]
fn several_dates_make_a_run_each_with_the_audience_of_its_moment() {
    let server = served();
    server.people("p", 10, "x.test");
    scheduled(&server, "twice", &json!({ "dates": [in_seconds(2), in_seconds(12)] }));
    launched(&server, "twice", 1);
    assert_eq!(view(&server, "twice")["state"], "scheduled", "the second is ahead");
    server.import("key=id&subscribe=email:news&list=p", "id,email\nlate,late@x.test\n");
    let runs = launched(&server, "twice", 2);
    let mut sizes: Vec<u64> = runs.iter().map(|run| run["ledger"]["accepted"].as_u64().unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [10, 11], "evaluated anew: {runs:?}");
    assert_eq!(view(&server, "twice")["state"], "finished", "nothing is ahead");
}

#[test]
fn launches_are_made_once_each_whenever_the_server_is_killed() {
    const LAUNCHES: usize = 5;
    let mut server = served();
    server.people("p", 300, "x.test");
    let dates: Vec<String> = (0..5).map(|i| in_seconds(3 + 2 * i)).collect();
    scheduled(&server, "killed", &json!({ "dates": dates }));
    // At other moments of the look than the last time, each time.
    for pause in [3_050, 1_410, 2_130] {
        std::thread::sleep(Duration::from_millis(pause));
        server.kill();
    }
    let view = server.until("all are launched", || {
        let view = view(&server, "killed");
        (view["schedule"]["state"] == "done").then_some(view)
    });
    assert_eq!((&view["schedule"]["made"], &view["schedule"]["skipped"]), (&json!(5), &json!(0)), "{view}");
    let planned = |run: &Json| {
        let report = server.get(&format!("/v1/runs/{}/report", run["id"]));
        assert_eq!(report["ledger"]["audience"], 300, "{report}");
        instant(&report["launch"]["planned"])
    };
    let mut found: Vec<Timestamp> = runs(&server, "killed").iter().map(planned).collect();
    found.sort_unstable();
    let expected: Vec<Timestamp> = dates.iter().map(|date| date.parse().unwrap()).collect();
    assert_eq!((found.len(), found), (LAUNCHES, expected), "one run a launch");
}

#[test]
fn a_pause_holds_launches_and_a_resume_makes_what_is_not_too_late() {
    let server = served();
    server.people("p", 5, "x.test");
    scheduled(&server, "held", &json!({ "at": in_seconds(2) }));
    assert_eq!(server.act("held", "pause").expect(200)["state"], "paused");
    server.act("held", "pause").refused("illegal_move", "paused");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((runs(&server, "held").len(), &view(&server, "held")["state"]), (0, &json!("paused")), "held");
    server.act("held", "resume").expect(200);
    launched(&server, "held", 1);

    scheduled(&server, "ended", &json!({ "at": in_seconds(3_000) }));
    assert_eq!(server.act("ended", "stop").expect(200)["state"], "stopped", "for good");
    scheduled(&server, "back", &json!({ "at": in_seconds(3_000) }));
    assert_eq!(server.act("back", "unschedule").expect(200)["state"], "draft", "to be edited");
    server.call(Method::PATCH, "/v1/campaigns/back/schedule", &json!({ "at": in_seconds(1) })).expect(200);
    assert_eq!(server.act("back", "start").expect(200)["state"], "scheduled", "and published again");
    launched(&server, "back", 1);
}

#[test]
fn five_minutes_begin_with_each_publication_and_a_date_is_changed_in_the_calendar() {
    let server = Served::start(NULL);
    server.people("p", 5, "x.test");
    let done = scheduled(&server, "safe", &json!({ "at": in_seconds(30) }));
    let next = &done["schedule"]["next"];
    let published = instant(&done["schedule"]["published_at"]);
    assert_eq!(instant(&next["effective_start"]), published.checked_add(5.minutes()).unwrap(), "{done}");
    assert!(instant(&next["planned"]) < instant(&next["effective_start"]), "{done}");

    let far = in_seconds(7_200);
    let changed = server.call(Method::PATCH, "/v1/campaigns/safe/schedule", &json!({ "at": far })).expect(200);
    let schedule = &changed["schedule"];
    assert_eq!(
        (&changed["state"], &changed["version"], &schedule["version"]),
        (&json!("scheduled"), &json!(2), &json!(2))
    );
    assert_eq!(instant(&schedule["next"]["effective_start"]), far.parse::<Timestamp>().unwrap(), "{changed}");
    let edited = server.call(Method::PATCH, "/v1/campaigns/safe", &json!({ "message": { "subject": "Other" } }));
    let edited = edited.expect(200);
    assert_eq!(edited["schedule"]["version"], 3, "an edit is a publication: {edited}");
    assert!(instant(&edited["schedule"]["published_at"]) > instant(&schedule["published_at"]), "{edited}");

    let broken = server.call(Method::PATCH, "/v1/campaigns/safe", &json!({ "message": { "connector": "gone" } }));
    broken.refused("campaign_incomplete", "unknown_connector");
    let past = server.call(Method::PATCH, "/v1/campaigns/safe/schedule", &json!({ "at": "2020-01-01T00:00:00Z" }));
    past.refused("invalid_schedule", "date_past");
    let removed = server.call(Method::PATCH, "/v1/campaigns/safe", &json!({ "schedule": null }));
    removed.refused("invalid_schedule", "schedule_removed");
    assert_eq!(view(&server, "safe")["schedule"]["version"], 3, "a refusal changes nothing");

    let ran = server.cli(&["campaign", "schedule", "safe", "--at", "2096-02-29T09:00", "--zone", "Europe/Paris"]);
    let said = ran.expect(0);
    assert!(said.contains("starts at 2096-02-29T08:00:00Z"), "{said}");
    let listed = server.cli(&["calendar", "--from", "2096-02-01T00:00:00Z", "--to", "2096-03-01T00:00:00Z"]).expect(0);
    assert!(listed.contains("safe") && listed.contains("2096-02-29T08:00:00Z"), "{listed}");
    let none = server.cli(&["calendar", "--json"]).json(0);
    assert_eq!(none["items"], json!([]), "nothing in the next month: {none}");
    server.call(Method::GET, "/v1/calendar?from=tomorrow", &Json::Null).refused("invalid_parameter", "tomorrow");
}

#[test]
fn what_is_wrong_with_a_schedule_is_told_with_a_code_before_anything_starts() {
    let server = served();
    server.people("p", 1, "x.test");
    let many: Vec<String> = (0..400).map(|i| in_seconds(1_000 + i)).collect();
    for (name, schedule, code) in [
        ("a", json!({ "at": "2020-01-01T00:00:00Z" }), "date_past"),
        ("b", json!({ "at": "2096-01-01T00:00", "zone": "Mars/Base" }), "unknown_zone"),
        ("c", json!({ "every": "0 0 30 2 *", "zone": "UTC" }), "never_fires"),
        ("d", json!({ "dates": many }), "too_many_dates"),
        ("e", json!({ "at": "2096-01-01T00:00" }), "no_zone"),
        ("f", json!({ "every": "blue moon", "zone": "UTC" }), "bad_recurrence"),
        ("g", json!({ "at": in_seconds(60), "every": "day 09:00", "zone": "UTC" }), "schedule_twice"),
    ] {
        let spec = json!({
            "name": name, "audience": {"all": true}, "schedule": schedule,
            "message": {"channel": "email", "connector": "null", "topic": "news", "from": "a@b.test", "subject": "S", "text": "T"},
        });
        let made = server.post("/v1/campaigns", &spec).expect(201);
        let codes: Vec<&Json> = made["problems"].as_array().unwrap().iter().map(|problem| &problem["code"]).collect();
        assert!(codes.contains(&&json!(code)), "{name}: {codes:?}");
        server.act(name, "start").refused("campaign_incomplete", code);
        assert_eq!(view(&server, name)["state"], "draft", "{name}");
    }
}

#[test]
fn each_contact_is_sent_to_by_its_own_clocks_and_who_is_too_late_is_not() {
    let server = served();
    let mut csv = String::from("id,email,zone\n");
    let zones = [("Europe/Paris", 30), ("Asia/Tokyo", 20), ("America/New_York", 10)];
    for (zone, count) in zones {
        for i in 0..count {
            let key = format!("{}{i}", &zone[..1]);
            csv.push_str(&format!("{key}{zone},{key}.{}@x.test,{zone}\n", zone.len()));
        }
    }
    server.import("key=id&subscribe=email:news&list=p", csv);
    let paris = Timestamp::now().checked_add(4.seconds()).unwrap().to_zoned(TimeZone::get("Europe/Paris").unwrap());
    let at = paris.datetime().strftime("%Y-%m-%dT%H:%M:%S").to_string();
    scheduled(&server, "local", &json!({ "at": at, "zone": "contact", "too_late": "1h" }));
    let report = server.until("Paris is sent to", || {
        let found = server.call(Method::GET, "/v1/campaigns/local/report", &Json::Null);
        (found.status == 200).then(|| found.json()).filter(|report| report["ledger"]["accepted"] == 30)
    });
    assert_eq!(report["ledger"]["skipped_by"]["late"], 20, "Tokyo is over: {report}");
    assert_eq!(report["ledger"]["pending"], 10, "New York waits: {report}");
    assert_eq!(report["launch"]["local_time"], at, "{report}");
    let stopped = server.act("local", "stop").expect(200);
    assert_eq!(stopped["ledger"]["skipped_by"]["stopped"], 10, "{stopped}");
}

#[test]
fn a_cell_with_a_date_of_its_own_waits_for_it() {
    let server = served();
    server.people("p", 10, "x.test");
    let at = Timestamp::now().checked_add(5.seconds()).unwrap();
    let grid = json!({
        "kind": "multi_segment",
        "dimensions": [{"name": "who", "others": true, "segments": [{"name": "first", "segment": "key = \"p000000\""}]}],
        "cells": [
            {"where": {"who": "first"}, "message": {"subject": "Now"}},
            {"message": {"subject": "Later"}, "schedule": {"at": at.to_string()}},
        ],
    });
    server.campaign("cells", "null", "p", &grid);
    server.act("cells", "start").expect(200);
    server.until("the first cell is sent", || (server.count("cells", "accepted") == 1).then_some(()));
    assert!(Timestamp::now() < at && server.count("cells", "pending") == 9, "the other is held");
    server.await_state("cells", "finished");
    assert!(Timestamp::now() >= at, "until its time");
    assert_eq!(server.count("cells", "accepted"), 10, "all");
}

#[test]
fn the_example_files_are_scheduled() {
    let server = Served::start("[[connectors]]\nname = \"inbox\"\nkind = \"null\"\n");
    let contacts = std::fs::read(file("examples/contacts.csv")).unwrap();
    server.import("key=id&subscribe=email:news&list=everyone", contacts);
    for name in ["scheduled", "every-friday"] {
        let path = file(&format!("examples/{name}.toml"));
        let path = path.to_str().unwrap();
        let checked = server.cli(&["campaign", "check", path]).expect(0);
        assert!(checked.contains("ready to start"), "{checked}");
        server.cli(&["campaign", "create", path]).expect(0);
        let said = server.cli(&["campaign", "start", name]).expect(0);
        assert!(said.contains("scheduled: planned for"), "{said}");
        assert_eq!(view(&server, name)["state"], "scheduled", "{name}");
    }
    let graph = server.cli(&["campaign", "graph", "scheduled"]).expect(0);
    assert!(graph.contains("by each contact's clocks"), "{graph}");
    let fridays = view(&server, "every-friday")["schedule"]["upcoming"].clone();
    assert_eq!(fridays.as_array().map(Vec::len), Some(5), "{fridays}");
    let paris = TimeZone::get("Europe/Paris").unwrap();
    for launch in fridays.as_array().unwrap() {
        let at = instant(&launch["planned"]).to_zoned(paris.clone());
        assert_eq!((at.weekday(), at.hour(), at.minute()), (jiff::civil::Weekday::Friday, 17, 0), "{launch}");
    }
    let local = view(&server, "scheduled")["schedule"]["next"].clone();
    assert_eq!(local["local_time"], "2096-02-29T09:00:00", "{local}");
    assert_eq!(local["planned"], "2096-02-28T19:00:00Z", "nine, 14 hours east: {local}");
}

const HOUR: i64 = 3_600_000;

/// A campaign as an engine finds it that published it long before `planned`, and was down since.
fn published(engine: &TestEngine, name: &str, planned: At) -> CampaignId {
    let at = Timestamp::from_millisecond(planned.0).unwrap();
    let text = format!(
        "name = \"{name}\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"gone\"\ntopic = \"t\"\n\
         from = \"a@b.test\"\nsubject = \"S\"\ntext = \"T\"\n[schedule]\nat = \"{at}\"\n"
    );
    let view = engine.adapter.create_campaign(SpecText { format: SpecFormat::Toml, text, request: None }).unwrap();
    let campaign = CampaignId(view.summary.id);
    let next = NextLaunch { launch: Launch::at(planned), effective: planned };
    let fact = Published { campaign, version: 1, spec: None, next, at: At(planned.0 - 24 * HOUR), draft: None };
    engine.engine().book.commit_durable(&Fact::Published(fact)).unwrap();
    campaign
}

fn until(engine: &TestEngine, campaign: CampaignId, what: &str, done: impl Fn(&CampaignView) -> bool) -> CampaignView {
    let since = std::time::Instant::now();
    loop {
        let view = engine.adapter.campaign(&Ref::Id(campaign.0)).unwrap();
        if done(&view) {
            return view;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "in vain: {what}: {view:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_launch_that_was_missed_for_too_long_is_skipped_and_one_that_cannot_be_made_waits_for_a_person() {
    let engine = TestEngine::without_connectors();
    let now = engine.engine().book.now();
    let missed = published(&engine, "missed", At(now.0 - 25 * HOUR));
    let view = until(&engine, missed, "skipped", |view| view.schedule.as_ref().is_some_and(|s| s.skipped == 1));
    let schedule = view.schedule.unwrap();
    assert_eq!((view.summary.state.as_str(), schedule.made, schedule.next), ("draft", 0, None), "never launched");
    let told = &schedule.history[0];
    assert_eq!((told.outcome.as_str(), told.reason.as_deref()), ("skipped", Some("too_late")), "{told:?}");

    let broken = published(&engine, "broken", At(now.0 - HOUR));
    let view = until(&engine, broken, "held", |view| view.summary.state == "paused");
    let reason = view.schedule.unwrap().reason.unwrap();
    assert!(reason.contains("could not be launched") && reason.contains("gone"), "{reason}");

    let ahead = published(&engine, "ahead", At(now.0 + HOUR));
    let engine = engine.killed();
    let view = engine.adapter.campaign(&Ref::Id(ahead.0)).unwrap();
    assert_eq!(view.summary.state, "paused", "a restored directory launches nothing by itself");
    assert!(view.schedule.unwrap().reason.is_some_and(|reason| reason.contains("restored")), "and says why");
}
