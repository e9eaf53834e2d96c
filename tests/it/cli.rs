//! Every command of the program, run as a person or a script runs it, against a server of the same program.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::served::{Served, estafette, file};

const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";

fn path(name: &str) -> String {
    file(name).to_str().expect("a path").to_owned()
}

/// A server with the shipped contacts imported by the command line.
fn with_contacts() -> Served {
    let server = Served::start(INBOX);
    let said = server
        .cli(&[
            "import",
            &path("examples/contacts.csv"),
            "--key",
            "id",
            "--subscribe",
            "email:news",
            "--list",
            "everyone",
        ])
        .expect(0);
    assert!(said.contains("finished: 10 accepted, 0 merged, 0 rejected"), "{said}");
    server
}

#[test]
fn imports_are_tried_made_followed_and_their_rejected_rows_read() {
    let server = Served::start(INBOX);
    let people = server.write("people.csv", "id,email,Vorname\n1,a@x.test,Åsa\n2,nobody,Bo\n3,c@x.test,Che\n");
    let options = ["--key", "id", "--subscribe", "email:news", "--mapping", "Vorname:first_name"];
    let import = |more: &[&str]| server.cli(&[&["import", &people][..], &options, more].concat());
    let tried = import(&["--dry-run"]).expect(0);
    assert!(tried.contains("nothing was imported: 2 rows would be accepted or merged, 1 rejected"), "{tried}");
    assert!(tried.contains("column Vorname → first_name, text (new)"), "how the file is understood: {tried}");
    assert_eq!(server.cli(&["contact", "show", "1"]).code, 4, "a dry run writes nothing");

    let made = import(&["--json"]).json(0);
    assert_eq!((&made["accepted"], &made["rejected"], &made["state"]), (&json!(2), &json!(1), &json!("finished")));
    let id = made["id"].to_string();
    let shown = server.cli(&["import", "show", &id, "--json"]).json(0);
    assert_eq!(shown["accepted"], 2, "{shown}");
    assert!(server.cli(&["import", "show", &id]).expect(0).contains("finished"));
    let listed = server.cli(&["import", "list", "--json"]).json(0);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "a dry run is no import: {listed}");
    assert!(server.cli(&["import", "list"]).expect(0).contains("people.csv"));
    let rejected = server.cli(&["import", "rejected", &id]).expect(0);
    assert!(rejected.starts_with("line,column,reason") && rejected.contains("nobody"), "{rejected}");
    let rejected = server.cli(&["import", "rejected", &id, "--json"]).json(0);
    assert_eq!((&rejected["items"][0]["line"], &rejected["items"][0]["column"]), (&json!("3"), &json!("email")));

    let none = server.cli(&["import", "/nowhere/people.csv", "--key", "id"]).failed(1);
    assert!(none.contains("/nowhere/people.csv") && none.contains("No such file"), "{none}");
    let wrong = server.cli(&["import", &people, "--key", "nr"]);
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(wrong.err.contains("nr") && wrong.err.contains("Vorname"), "the columns there are: {}", wrong.err);
    assert_eq!(server.cli(&["import", "show", "99"]).code, 4);
    assert!(server.cli(&["import"]).failed(2).contains("Usage"), "clap's own code");
}

#[test]
fn contacts_attributes_lists_and_segments() {
    let server = with_contacts();
    let shown = server.cli(&["contact", "show", "c000001", "--json"]).json(0);
    assert_eq!(shown["email"], "chloe@fr.example.test", "{shown}");
    assert!(server.cli(&["contact", "show", "c000001"]).expect(0).contains("Chloé"));
    let put = server.cli(&["contact", "put", "new", r#"{"email": "n@x.test", "attributes": {"age": 20}}"#, "--json"]);
    assert_eq!(put.json(0)["attributes"]["age"], 20.0);
    let set = server.cli(&["contact", "set", "new", r#"{"attributes": {"age": 21}}"#]).expect(0);
    assert!(set.contains("attributes.age") && set.contains("21"), "{set}");
    assert!(server.cli(&["contact", "put", "new", "{age: 1"]).failed(1).contains("not JSON"));
    let wrong = server.cli(&["contact", "patch", "new", r#"{"attributes": {"age": "old"}}"#]).failed(4);
    assert!(wrong.contains("invalid_contact") && wrong.contains("attributes.age"), "{wrong}");
    let export = server.cli(&["contact", "export", "c000001"]).json(0);
    assert!(export["consent_history"].is_array(), "{export}");
    assert!(server.cli(&["contact", "erase", "new"]).expect(0).contains("new is erased"));
    let gone = server.cli(&["contact", "show", "new"]).failed(4);
    assert!(gone.contains("contact_not_found") && gone.contains("new"), "{gone}");

    assert_eq!(server.cli(&["attribute", "add", "size", "--type", "number", "--json"]).json(0)["name"], "size");
    assert!(server.cli(&["attribute", "list"]).expect(0).contains("size"));
    assert!(server.cli(&["attribute", "ls", "--json"]).json(0)["items"].as_array().unwrap().len() > 5);

    assert_eq!(server.cli(&["list", "create", "fr", "--segment", "country = \"FR\"", "--json"]).json(0)["contacts"], 6);
    assert_eq!(server.cli(&["list", "add", "fr", "c000005", "--json"]).json(0)["added"], 1);
    assert_eq!(server.cli(&["list", "remove", "fr", "c000005", "c000001", "--json"]).json(0)["removed"], 2);
    assert_eq!(server.cli(&["list", "contacts", "fr"]).expect(0).lines().count(), 5);
    assert_eq!(server.cli(&["list", "contacts", "fr", "--json"]).json(0)["items"].as_array().unwrap().len(), 5);
    assert!(server.cli(&["list", "show", "fr"]).expect(0).contains("segment"));
    assert!(server.cli(&["list", "list"]).expect(0).contains("everyone"));
    assert_eq!(server.cli(&["list", "delete", "fr", "--json"]).json(0), json!({"done": true}));

    let adults = "country = \"FR\" and age >= 18";
    let found = server.cli(&["segment", "preview", adults, "--sample", "2"]).expect(0);
    assert!(found.starts_with("5 contacts match") && found.lines().count() == 4, "count, header, two: {found}");
    assert_eq!(server.cli(&["segment", "preview", adults, "--json"]).json(0)["count"], 5);
    server.cli(&["segment", "save", "adults", adults]).expect(0);
    server.cli(&["segment", "update", "adults", "age >= 21"]).expect(0);
    assert_eq!(server.cli(&["segment", "show", "adults", "--json"]).json(0)["expression"], "age >= 21");
    assert!(server.cli(&["segment", "list"]).expect(0).contains("age >= 21"));
    let wrong = server.cli(&["segment", "preview", "age >= and"]).failed(4);
    assert!(wrong.contains("invalid_segment"), "{wrong}");
    assert!(server.cli(&["segment", "delete", "adults"]).expect(0).contains("deleted"));
}

#[test]
fn suppressions_are_added_exported_and_imported_back() {
    let server = with_contacts();
    server.cli(&["suppression", "add", "--contact", "c000002", "--reason", "complaint"]).expect(0);
    let added = server.cli(&["suppression", "add", "--address", "mia@de.example.test", "--channel", "email", "--json"]);
    assert!(added.json(0).is_object());
    assert!(server.cli(&["suppression", "add"]).failed(2).contains("--contact"));
    let csv = server.cli(&["suppression", "export"]).expect(0);
    assert_eq!(csv.lines().count(), 3, "a header and two: {csv}");
    let exported = server.cli(&["suppression", "export", "--json"]).json(0);
    assert_eq!(exported["items"].as_array().unwrap().len(), 2, "{exported}");
    let id = exported["items"][0]["id"].to_string();
    server.cli(&["suppression", "remove", &id]).expect(0);
    assert_eq!(server.cli(&["suppression", "list", "--json"]).json(0)["items"].as_array().unwrap().len(), 1);
    let exported = server.write("suppressed.csv", csv);
    server.cli(&["suppression", "import", &exported]).expect(0);
    assert_eq!(server.cli(&["suppression", "list"]).expect(0).lines().count(), 3, "what was exported is imported back");
    assert_eq!(server.cli(&["suppression", "remove", "999"]).code, 4);
    assert!(server.cli(&["suppression", "import", "/nowhere.csv"]).failed(1).contains("/nowhere.csv"));
}

#[test]
fn a_campaign_from_its_check_to_its_report() {
    let server = with_contacts();
    let spring = std::fs::read_to_string(path("examples/spring.toml")).unwrap();
    let spring = server.write("spring.toml", spring.replace("connector = \"inbox\"", "connector = \"relay\""));
    let checked = server.cli(&["campaign", "check", &spring]).expect(0);
    assert!(checked.starts_with("ready to start") && checked.contains("tracked: https://shop"), "{checked}");
    let bad = server.write("bad.toml", "name = \"bad\"\n[message]\nsubject = \"\"\n");
    let found = server.cli(&["campaign", "check", &bad]).expect(6);
    assert!(found.starts_with("cannot start:") && found.contains("audience"), "{found}");
    assert_eq!(server.cli(&["campaign", "check", &bad, "--json"]).json(6)["ready"], false);

    let made = server.cli(&["campaign", "create", &spring]).expect(0);
    assert!(made.starts_with("campaign spring is saved as draft"), "{made}");
    assert!(server.cli(&["campaign", "create", &spring]).failed(4).contains("campaign_exists"));
    let patch = server.write("patch.json", r#"{"limits": {"messages_per_second": 50}}"#);
    assert_eq!(server.cli(&["campaign", "edit", "spring", &patch, "--json"]).json(0)["state"], "draft");
    assert_eq!(
        server.cli(&["campaign", "show", "spring", "--json"]).json(0)["spec"]["limits"]["messages_per_second"],
        50
    );
    assert!(server.cli(&["campaign", "list", "--state", "draft"]).expect(0).contains("spring"));
    assert_eq!(server.cli(&["campaign", "audience", "spring", "--json"]).json(0)["final"], 4);

    let preview = server.cli(&["campaign", "preview", "spring", "--contact", "c000001"]).expect(0);
    assert!(preview.contains("Subject: Hello Chloé") && preview.contains("Dear Chloé,"), "{preview}");
    assert!(!preview.contains(['\u{fffd}', '\r']), "line ends are line ends: {preview:?}");
    for part in ["subject", "text", "html", "headers"] {
        let only = server.cli(&["campaign", "preview", "spring", "--contact", "c000001", "--part", part]).expect(0);
        assert!(!only.is_empty() && !only.contains(['\u{fffd}', '\r']), "{part}: {only:?}");
    }
    assert_eq!(server.cli(&["campaign", "preview", "spring", "--json"]).json(0)["missing"], json!([]));
    let tested = server.cli(&["campaign", "test-send", "spring", "me@example.test"]).expect(0);
    assert!(tested.contains("me@example.test") && tested.contains("accepted"), "{tested}");
    assert_eq!(server.mails_to("me@example.test").len(), 1, "it arrived");
    assert!(server.cli(&["report", "spring"]).failed(4).contains("run_not_found"), "a test is no run");

    let report = server.cli(&["campaign", "start", "spring", "--watch", "--json"]).json(0);
    assert_eq!((&report["state"], &report["ledger"]["accepted"]), (&json!("finished"), &json!(4)), "{report}");
    for command in [&["report", "spring"][..], &["campaign", "report", "spring"], &["campaign", "watch", "spring"]] {
        let said = server.cli(command).expect(0);
        assert!(said.contains("spring, run 1: finished") && said.contains("balanced: the sets add up"), "{said}");
    }
    assert_eq!(server.cli(&["report", "spring", "--run", "1", "--json"]).json(0)["ledger"]["balanced"], true);
    let csv = server.cli(&["campaign", "contacts", "spring", "--set", "accepted"]).expect(0);
    assert!(csv.lines().count() == 5 && csv.contains("c000001") != csv.contains("c000010"), "one of a pair: {csv}");
    let lines =
        server.cli(&["campaign", "contacts", "spring", "--set", "skipped:duplicate_address", "--json"]).expect(0);
    let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["reason"]), (1, &json!("duplicate_address")), "{lines:?}");
    let wrong = server.cli(&["campaign", "contacts", "spring", "--set", "happy"]).failed(4);
    assert!(wrong.contains("invalid_set") && wrong.contains("accepted"), "the sets there are: {wrong}");
    assert_eq!(server.cli(&["campaign", "runs", "spring", "--json"]).json(0)["items"][0]["state"], "finished");
    let wrong = server.cli(&["campaign", "start", "spring"]).failed(4);
    assert!(wrong.contains("illegal_move") && wrong.contains("finished"), "{wrong}");
}

#[test]
fn a_campaign_is_paused_resumed_stopped_and_its_unknowns_settled() {
    let sim = "[[connectors]]\nname = \"relay\"\nkind = \"simulated\"\nseed = 3\nlost_after_share = 1.0\nconnections_max = 1\n";
    let server = Served::start(sim);
    server.people("p", 40, "x.test");
    server.campaign("c", "relay", "p", &json!({"limits": {"messages_per_second": 10}}));
    assert!(server.cli(&["campaign", "start", "c"]).expect(0).contains("running"));
    assert_eq!(server.cli(&["campaign", "pause", "c", "--json"]).json(0)["state"], "paused");
    assert!(server.cli(&["campaign", "resume", "c"]).expect(0).contains("running"));
    server.until("some are unknown", || (server.count("c", "unknown") > 2).then_some(()));
    let stopped = server.cli(&["campaign", "stop", "c", "--json"]).json(0);
    assert!(["stopping", "stopped"].contains(&stopped["state"].as_str().unwrap()), "{stopped}");
    server.await_state("c", "stopped");
    let csv = server.cli(&["campaign", "contacts", "c", "--set", "unknown"]).expect(0);
    let keys: Vec<&str> = csv.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    assert!(keys.len() > 2, "{csv}");
    let settled = server.cli(&["campaign", "settle", "c", "--as", "accepted", keys[0], "--json"]).json(0);
    assert_eq!(settled["settled"], 1, "{settled}");
    let settled = server.cli(&["campaign", "settle", "c", "--as", "accepted", "--all"]).expect(0);
    assert!(settled.contains("settled"), "{settled}");
    assert_eq!(server.count("c", "unknown"), 0);
    assert!(server.cli(&["campaign", "settle", "c", "--as", "accepted"]).failed(2).contains("CONTACTS"));
    assert!(server.cli(&["campaign", "settle", "c", "--as", "lost", "--all"]).failed(2).contains("pending"));
}

#[test]
fn connectors_metrics_and_who_may_ask() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Served::start(&format!(
        "{INBOX}[[connectors]]\nname = \"dead\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {closed}\ntls = \"none\"\n"
    ));
    let listed = server.cli(&["connector", "list"]).expect(0);
    assert!(listed.contains("relay") && listed.contains("dead"), "{listed}");
    assert_eq!(server.cli(&["connector", "list", "--json"]).json(0)["items"].as_array().unwrap().len(), 2);
    assert_eq!(server.cli(&["connector", "test", "relay", "--json"]).json(0)["ok"], true);
    let failed = server.cli(&["connector", "test", "dead"]).expect(6);
    assert!(failed.contains(&closed.to_string()) || failed.contains("refused"), "{failed}");
    assert_eq!(server.cli(&["connector", "test", "dead", "--json"]).json(6)["ok"], false);
    assert!(server.cli(&["connector", "test", "other"]).failed(4).contains("connector_not_found"));

    assert!(estafette(&["metrics"]).expect(0).contains("estafette_"), "the catalogue needs no server");
    assert!(estafette(&["metrics", "--json"]).json(0).as_array().unwrap().len() > 20);
    assert!(server.cli(&["metrics", "--scrape"]).expect(0).contains("# TYPE estafette_"));
    let scraped = server.cli(&["metrics", "--scrape", "--json"]).json(0);
    assert!(scraped["exposition"].as_str().is_some_and(|t| t.contains("# TYPE estafette_")), "{scraped}");

    let wrong = server.cli_with_key("est_wrong", &["campaign", "list"]).failed(4);
    assert!(wrong.contains("unauthorized"), "{wrong}");
    let wrong = server.cli_with_key("est_wrong", &["campaign", "list", "--json"]).failed(4);
    let wrong: serde_json::Value = serde_json::from_str(&wrong).expect("errors are JSON, too, for programs");
    assert_eq!(wrong["code"], "unauthorized", "{wrong}");
    assert!(estafette(&["campaign", "list"]).failed(1).contains("ESTAFETTE_KEY"), "no key");
    let none =
        estafette(&["campaign", "list", "--url", &format!("http://127.0.0.1:{closed}"), "--api-key", "k"]).failed(3);
    assert!(none.contains(&closed.to_string()) && none.contains("ESTAFETTE_URL"), "{none}");
}

#[test]
fn commands_that_need_no_server() {
    let valid = estafette(&["config", "check", &path("examples/estafette.toml"), "--json"]).json(0);
    assert_eq!(valid, json!({"valid": true, "problem": null}));
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    fs::write(&bad, "[server]\napi_lissten = \"127.0.0.1:1\"\n").unwrap();
    let bad = bad.to_str().unwrap();
    let found = estafette(&["config", "check", bad]).expect(6);
    assert!(found.contains("bad.toml") && found.contains("api_lissten") && found.contains("2:"), "{found}");
    assert_eq!(estafette(&["config", "check", bad, "--json"]).json(6)["valid"], false);
    assert!(estafette(&["config", "show"]).expect(0).contains("api_listen"));
    assert_eq!(estafette(&["config", "show", "--json"]).json(0)["server"]["api_listen"], "127.0.0.1:8025");
    assert!(estafette(&["config", "keys"]).expect(0).contains("server.api_listen"));
    assert!(estafette(&["config", "keys", "--json"]).json(0).as_array().unwrap().len() > 10);
    for shell in ["bash", "zsh", "fish"] {
        assert!(estafette(&["completions", shell]).expect(0).contains("estafette"), "{shell}");
    }
    let script = estafette(&["completions", "bash", "--json"]).json(0);
    assert!(script["script"].as_str().is_some_and(|s| s.contains("complete")), "{script}");
    let csv = estafette(&["example-base", "--contacts", "50"]).expect(0);
    assert!(csv.lines().count() > 50, "a header and the rows: {}", csv.len());
    let out = folder.path().join("base.csv");
    let made = estafette(&["example-base", "--contacts", "50", "--output", out.to_str().unwrap(), "--json"]).json(0);
    assert_eq!((fs::read_to_string(&out).unwrap() == csv, &made["contacts"]), (true, &json!(50)), "the same seed");
    assert!(estafette(&["example-base", "--json"]).failed(1).contains("--output"));
    let help = estafette(&["--help"]).expect(0);
    for code in ["0 done", "1 failed", "2 wrong usage", "3 server", "4 refused", "5 the server failed", "6 a check"] {
        assert!(help.contains(code), "{code:?} is documented");
    }
    assert_eq!(estafette(&["campain"]).code, 2);
}

#[test]
fn a_directory_is_checked_and_a_copy_of_it_is_held_for_review() {
    let mut server = Served::start(INBOX);
    server.people("p", 200, "x.test");
    server.campaign("c", "relay", "p", &json!({"limits": {"messages_per_second": 20}}));
    server.act("c", "start").expect(200);
    server.until("it sends", || (server.count("c", "accepted") > 5).then_some(()));
    let data = server.plan.data.to_str().unwrap().to_owned();
    let locked = estafette(&["check", "--data", &data]).expect(6);
    assert!(locked.contains(&data) && locked.contains("in use"), "{locked}");
    let second = estafette(&["serve", "--data", &data]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains(&data), "{}", second.err);
    server.end();
    let checked = estafette(&["check", "--data", &data]).expect(0);
    assert!(!checked.is_empty());
    assert!(estafette(&["check", "--data", &data, "--json"]).json(0).is_object());
    assert_eq!(estafette(&["check", "--data", "/nowhere"]).code, 1, "no directory, no findings");

    let copied = std::process::Command::new("cp").args(["-r", &data]).arg(server.folder.path().join("copy")).status();
    assert!(copied.unwrap().success());
    let copy = server.folder.path().join("copy");
    let config = server.plan.config.to_str().unwrap().to_owned();
    let refused = estafette(&["serve", "--data", copy.to_str().unwrap(), "--config", &config]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("--restored") && refused.err.contains("copy"), "{}", refused.err);
    server.plan.through = Served::through("", "--restored");
    server.plan.data = copy.clone();
    server.restart();
    let report = server.await_state("c", "paused");
    assert_eq!(report["ledger"]["claimed"], 0, "{report}");
    server.act("c", "resume").expect(200);
    server.until("it goes on when told to", || (server.count("c", "accepted") > 20).then_some(()));
    server.end();
    let flipped = copy.join("journal");
    let segment = fs::read_dir(&flipped).unwrap().map(|e| e.unwrap().path());
    let segment = segment.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("segment-")).min().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[70] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let found = estafette(&["check", "--data", copy.to_str().unwrap()]).expect(6);
    assert!(found.contains(segment.file_name().unwrap().to_str().unwrap()), "what, where: {found}");
}

#[test]
fn the_demo_ends_by_itself_and_prints_its_report() {
    let demo = std::process::Command::new(crate::served::program())
        .args(["demo", "--once", "--json", "--contacts", "300"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
    let report: serde_json::Value = serde_json::from_slice(&demo.stdout).expect("one JSON document");
    assert_eq!((&report["state"], &report["ledger"]["balanced"]), (&json!("finished"), &json!(true)), "{report}");
}
