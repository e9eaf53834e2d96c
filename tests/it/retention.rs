//! What is forgotten of old runs and of old events on the program itself, whose clock is moved: removed when it is old, by a
//! fact that a kill does not undo; figures, opt-outs and consents stay.
//!
//! The clock is moved by a library of a few lines that is put before the C library's `clock_gettime`, so that the program
//! under test is the one that is shipped.

use std::fs;
use std::path::Path;
use std::process::Command;

use loadtest::server::ADMIN_KEY;
use serde_json::{Value as Json, json};

use crate::served::{Served, estafette};

const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, out);
    const char *days = getenv("MOVED_DAYS");
    if (answer == 0 && id == CLOCK_REALTIME && days) out->tv_sec += atol(days) * 86400;
    return answer;
}
"#;

const CONFIG: &str = "[[connectors]]\nname = \"null\"\nkind = \"null\"\n[data]\ntracking_days = 60\n\
                      [retention]\nrun_details_days = 100\n";

/// What starts the program in so many days from now.
fn in_days(folder: &Path, days: u32) -> String {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    if !library.exists() {
        fs::write(&source, CLOCK).expect("written");
        let mut made = Command::new("cc");
        made.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl");
        let status = made.status().expect("a C compiler, as the build needs one");
        assert!(status.success(), "the clock is compiled");
    }
    format!("export LD_PRELOAD='{}' MOVED_DAYS={days}\nexec \"$0\" \"$@\"", library.display())
}

fn without(report: &Json, keys: &[&str]) -> Json {
    let mut left = report.clone();
    keys.iter().for_each(|key| drop(left.as_object_mut().expect("an object").remove(*key)));
    left
}

/// What may differ between two starts: paces, and what is said of the removal.
const MOVING: [&str; 6] =
    ["details_removed_at", "samples", "rate_per_second", "eta_seconds", "stall", "unsubscribe_latency_ms_max"];

fn removed(server: &Served) -> f64 {
    let text = server.http.get(format!("{}/metrics", server.api())).bearer_auth(ADMIN_KEY);
    let text = text.send().expect("an answer").text().expect("a text");
    let line = text.lines().find(|line| line.starts_with("estafette_details_removed_total ")).expect("the series");
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

#[test]
fn details_go_when_they_are_old_and_a_kill_brings_none_back() {
    let mut server = Served::start(CONFIG);
    server.people("p", 3_000, "x.test");
    for name in ["spring", "asked"] {
        server.campaign(name, "null", "p", &json!({}));
        server.act(name, "start").expect(200);
        server.await_state(name, "finished");
    }
    server.post("/v1/segments", &json!({"name": "fans", "expression": "received(\"asked\")"})).expect(201);
    let events: Vec<Json> = (0..40)
        .map(|n| json!({"id": format!("e{n}"), "type": "complained", "contact": format!("p{n:06}"), "campaign": "spring"}))
        .collect();
    server.post("/v1/events", &json!(events)).expect(200);
    let before = server.report("spring");
    assert_eq!(before["deliveries"][0]["feedback"]["complained"]["unique"], 40, "{before}");
    assert_eq!(server.keys("spring", "complained").len(), 40, "who complained is known");
    assert!(before["details_removed_at"].is_null(), "{before}");
    server.end();
    let snapshots = |server: &Served| -> u64 {
        let journal = fs::read_dir(server.plan.data.join("journal")).expect("the journal");
        let files = journal.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("snapshot"));
        files.map(|entry| entry.metadata().expect("its length").len()).max().expect("a snapshot")
    };
    let long = snapshots(&server);

    let folder = server.folder.path().to_owned();
    server.plan.through = Some(in_days(&folder, 99));
    server.restart();
    assert!(server.report("spring")["details_removed_at"].is_null(), "a day too early");
    server.end();

    server.plan.through = Some(in_days(&folder, 101));
    server.restart();
    let until_removed = |server: &Served| {
        server.until("the details are removed", || {
            let report = server.report("spring");
            report["details_removed_at"].is_string().then_some(report)
        })
    };
    let after = until_removed(&server);
    assert_eq!(removed(&server), 1.0, "one run, and it is counted");
    assert_eq!(without(&after, &MOVING), without(&before, &MOVING), "every figure stays");
    // As soon as it was told it was durable.
    server.kill();
    let again = server.report("spring");
    assert_eq!(again["details_removed_at"], after["details_removed_at"], "a kill brings nobody back");
    assert_eq!(without(&again, &MOVING), without(&before, &MOVING));
    assert_eq!(removed(&server), 0.0, "and nothing is removed twice");
    assert!(server.report("asked")["details_removed_at"].is_null(), "a saved segment asks for it");
    assert_eq!(server.keys("asked", "accepted").len(), 3_000, "and has its answer");

    let page = server.call(reqwest::Method::GET, "/v1/campaigns/spring/contacts?set=complained", &Json::Null);
    assert_eq!(page.status, 410);
    page.refused("details_removed", "removed_at");
    server.post("/v1/campaigns/spring/resend", &json!({"set": "not_opened"})).refused("details_removed", "run");
    server
        .post("/v1/campaigns/spring/settle", &json!({"as": "accepted", "all": true}))
        .refused("details_removed", "run");
    let asked = server.post("/v1/segments/preview", &json!({"expression": "not received(\"spring\")"}));
    asked.refused("invalid_segment", "segment_details_removed");
    let said = server.cli(&["report", "spring"]).expect(0);
    assert!(said.contains("details removed on"), "{said}");
    let csv = server.cli(&["report", "spring", "--format", "csv"]).expect(0);
    assert!(csv.contains("details_removed_at"), "{csv}");
    let refused = server.cli(&["campaign", "contacts", "spring", "--set", "accepted"]);
    assert!(refused.code != 0 && refused.err.contains("who is not"), "{refused:?}");
    let contact = server.get("/v1/contacts/p000007");
    assert_eq!(contact["suppressed"], json!(["complaint"]), "what forbids a send is kept: {contact}");

    // Nobody asks for the other one any more.
    assert_eq!(server.call(reqwest::Method::DELETE, "/v1/segments/fans", &Json::Null).status, 204);
    server.restart();
    server.until("the other goes, too", || server.report("asked")["details_removed_at"].is_string().then_some(()));
    server.campaign("new", "null", "p", &json!({}));
    server.act("new", "start").expect(200);
    let ledger = server.await_state("new", "finished")["ledger"].clone();
    assert_eq!((&ledger["accepted"], &ledger["skipped"]), (&json!(2_960), &json!(40)), "{ledger}");
    server.end();
    let short = snapshots(&server);
    assert!(short < long + 20_000, "a snapshot with one campaign more: {short}, it was {long}");
    let data = server.plan.data.to_str().expect("a path").to_owned();
    let checked = estafette(&["check", "--data", &data]).expect(0);
    assert!(checked.contains("balanced"), "{checked}");
}

#[test]
fn what_contacts_did_is_forgotten_so_long_after_the_last_time() {
    let mut server = Served::start("[[connectors]]\nname = \"null\"\nkind = \"null\"\n[retention]\nevent_days = 30\n");
    server.people("p", 100, "x.test");
    let event = |n: usize, name: &str, of: usize| {
        let properties = json!({"plan": if of < 10 { "gold" } else { "free" }});
        json!({"id": format!("{name}{n}"), "type": name, "contact": format!("p{of:06}"), "properties": properties})
    };
    let carts: Vec<Json> = (0..40).map(|n| event(n, "cart", n % 20)).collect();
    server.post("/v1/events", &json!(carts)).expect(200);
    let who = |server: &Served, expression: &str| {
        let asked = json!({"expression": expression, "sample": 0});
        server.post("/v1/segments/preview", &asked).expect(200)["count"].as_u64().expect("a count")
    };
    let all = |server: &Served| {
        ["did \"cart\"", "did \"cart\" at least 2 times", "did \"cart\" with plan = \"gold\""].map(|e| who(server, e))
    };
    assert_eq!(all(&server), [20, 20, 10], "as they were told");

    let folder = server.folder.path().to_owned();
    server.plan.through = Some(in_days(&folder, 29));
    server.restart();
    assert_eq!(all(&server), [20, 20, 10], "not yet");
    // Five of them do it again.
    let again: Vec<Json> = (0..5).map(|n| event(100 + n, "cart", n)).collect();
    server.post("/v1/events", &json!(again)).expect(200);
    server.end();

    server.plan.through = Some(in_days(&folder, 32));
    server.restart();
    server.until("it is forgotten", || (who(&server, "did \"cart\"") < 20).then_some(()));
    assert_eq!(all(&server), [5, 5, 5], "who did it since is known with all they did");
    assert_eq!(who(&server, "did \"cart\" at least 3 times"), 5, "before, too");
    server.kill();
    assert_eq!(all(&server), [5, 5, 5], "a kill brings nobody back");
    assert_eq!(server.get("/v1/contacts/p000007/export")["events"], json!({}), "nor does the contact tell");
    let types = server.get("/v1/events/types");
    assert!(types.to_string().contains("45"), "how often it happened stays: {types}");
}
