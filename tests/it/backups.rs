//! Backups of a server at work, restored elsewhere; upgrades of the data directory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use loadtest::sink::SinkOptions;
use loadtest::sink::record;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::served::{Served, estafette, file};
use crate::sink;

/// The test that is the sink when asked to.
const SINK: &str = "backups::a_backup_under_load_is_restored_and_nobody_is_mailed_twice";

fn recipients(record: &Path) -> Vec<String> {
    let mails = record::read(record).unwrap();
    mails.into_iter().map(|mail| mail.recipient.trim_matches(['<', '>']).to_owned()).collect()
}

fn keys_of(recipients: &[String]) -> BTreeSet<String> {
    recipients.iter().filter_map(|address| address.split_once('@').map(|(key, _)| key.to_owned())).collect()
}

#[test]
fn a_backup_under_load_is_restored_and_nobody_is_mailed_twice() {
    if sink::be_the_sink_if_asked() {
        return;
    }
    const PEOPLE: u64 = 2_500;
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let sink = sink::start(SINK, &SinkOptions { record: Some(record.clone()), ..SinkOptions::default() });
    let relay = format!(
        "[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n",
        sink.address.port()
    );
    let mut server = Served::start(&relay);
    server.people("p", PEOPLE as usize, "x.test");
    server.people("q", 5, "x.test");
    server.campaign("c", "relay", "p", &json!({"limits": {"messages_per_second": 150}}));
    server.campaign("later", "relay", "q", &json!({}));
    server.act("c", "start").expect(200);
    server.until("it sends", || (server.count("c", "accepted") > 200).then_some(()));

    let target = folder.path().join("backup");
    let target = target.to_str().unwrap();
    let made = server.cli(&["backup", target, "--json"]).json(0);
    assert_eq!((&made["state"], &made["error"]), (&json!("finished"), &Json::Null), "{made}");
    assert_eq!(server.report("c")["state"], "running", "nobody was held up");
    let at_backup = server.count("c", "accepted");
    server.until("it goes on after the backup", || (server.count("c", "accepted") > at_backup + 200).then_some(()));
    server.kill_for_good();
    let sent = recipients(&record);
    assert!((sent.len() as u64) < PEOPLE, "the old server was killed amid its campaign");

    for _ in 0..2 {
        let checked = estafette(&["check", "--data", target]).expect(0);
        assert!(checked.contains("a backup of") && checked.contains("balanced"), "{checked}");
    }
    let back = folder.path().join("back");
    let restored = estafette(&["restore", target, "--data", back.to_str().unwrap()]).expect(0);
    assert!(restored.contains("--restored") && restored.contains("unknown"), "the next step is told: {restored}");
    let config = server.plan.config.to_str().unwrap().to_owned();
    let refused = estafette(&["serve", "--data", back.to_str().unwrap(), "--config", &config]);
    assert!(refused.code == 1 && refused.err.contains("--restored"), "{refused:?}");

    server.plan.through = Served::through("", "--restored");
    server.plan.data = back.clone();
    server.restart();
    let report = server.report("c");
    let ledger = &report["ledger"];
    assert_eq!(
        (&report["state"], &ledger["pending"], &ledger["claimed"]),
        (&json!("paused"), &json!(0), &json!(0)),
        "{report}"
    );
    let (accepted, unknown) = (ledger["accepted"].as_u64().unwrap(), ledger["unknown"].as_u64().unwrap());
    assert_eq!(accepted + unknown, PEOPLE, "whoever may have been sent to since is unknown: {ledger}");
    assert!(accepted <= at_backup && accepted > 100, "as of the backup: {ledger}");

    // The held campaign sends nothing while another one does.
    server.act("later", "start").expect(200);
    let later = server.await_state("later", "finished");
    assert!(later["run"].as_u64() > Some(10_000), "no number that the old server may have given since: {later}");
    let then = recipients(&record);
    assert_eq!(then.len(), sent.len() + 5, "nothing but the other campaign");

    // A person finds out who was sent to, by the relay's own record, and says so.
    let unknown: BTreeSet<String> = server.keys("c", "unknown").into_iter().collect();
    let had_it: Vec<String> = keys_of(&sent).intersection(&unknown).cloned().collect();
    assert!(had_it.len() >= 200, "that is who was accepted after the backup: {}", had_it.len());
    let settle = |body: &Json| server.post("/v1/campaigns/c/settle", body).expect(200);
    settle(&json!({"as": "accepted", "contacts": had_it}));
    settle(&json!({"as": "pending", "all": true}));
    assert_eq!(recipients(&record).len(), then.len(), "nothing moves before the campaign is resumed");
    server.act("c", "resume").expect(200);
    let ledger = server.await_state("c", "finished")["ledger"].clone();
    assert_eq!((&ledger["accepted"], &ledger["unknown"]), (&json!(PEOPLE), &json!(0)), "{ledger}");
    let all = recipients(&record);
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (PEOPLE as usize + 5, PEOPLE as usize + 5), "everybody once");

    server.plan.through = None;
    server.restart();
    assert_eq!(server.report("c")["state"], "finished", "from here on it is a directory like any other");
    server.end();
    let checked = estafette(&["check", "--data", back.to_str().unwrap()]).expect(0);
    assert!(!checked.contains("a backup of"), "{checked}");
    sink.finish().unwrap();
}

#[test]
fn an_import_amid_a_backup_is_whole_after_the_restore() {
    const ROWS: usize = 120_000;
    let folder = tempfile::tempdir().unwrap();
    let mut server = Served::start("[[connectors]]\nname = \"null\"\nkind = \"null\"\n");
    let csv: String = std::iter::once("id,email\n".to_owned())
        .chain((0..ROWS).map(|i| format!("r{i:06},r{i:06}@y.test\n")))
        .collect();
    let id =
        server.post_text("/v1/imports?key=id&subscribe=email:news&list=all", "text/csv", csv).expect(202)["id"].clone();
    server.until("the import works", || {
        let report = server.get(&format!("/v1/imports/{id}"));
        (report["bytes_done"].as_u64() > Some(0)).then_some(())
    });
    let target = folder.path().join("backup");
    let begun = server.post("/v1/backups", &json!({"folder": target})).expect(202);
    let made = server.until("the backup ends", || {
        let status = server.get(&format!("/v1/backups/{}", begun["id"]));
        (status["state"] != "running").then_some(status)
    });
    assert_eq!(made["state"], "finished", "{made}");
    assert_eq!(server.get("/v1/backups")["items"][0]["id"], begun["id"]);
    server.kill_for_good();
    let (target, back) = (target.to_str().unwrap().to_owned(), folder.path().join("back"));
    estafette(&["check", "--data", &target]).expect(0);
    estafette(&["restore", &target, "--data", back.to_str().unwrap()]).expect(0);
    server.plan.through = Served::through("", "--restored");
    server.plan.data = back;
    server.restart();
    let report = server.until("the import goes on by itself and ends", || {
        let report = server.get(&format!("/v1/imports/{id}"));
        (report["state"] != "running").then_some(report)
    });
    assert_eq!((&report["state"], &report["accepted"]), (&json!("finished"), &json!(ROWS)), "{report}");
    server.campaign("all", "null", "all", &json!({}));
    server.act("all", "start").expect(200);
    let ledger = server.await_state("all", "finished")["ledger"].clone();
    assert_eq!(ledger["accepted"], ROWS, "every row is in the list and has its consent: {ledger}");
}

#[test]
fn a_stopped_directory_is_backed_up_and_refusals_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let allowed = folder.path().join("allowed");
    fs::create_dir(&allowed).unwrap();
    let config = format!("[data]\nbackup_folder = {allowed:?}\n[[connectors]]\nname = \"null\"\nkind = \"null\"\n");
    let mut server = Served::start(&config);
    server.people("p", 50, "x.test");
    let ask = |folder: &str| server.post("/v1/backups", &json!({ "folder": folder }));
    ask("/tmp/elsewhere").refused("invalid_backup", "data.backup_folder");
    ask("../x").refused("invalid_backup", "..");
    ask("missing/parent/x").refused("invalid_backup", "not there");
    assert_eq!(server.call(Method::GET, "/v1/backups/7", &Json::Null).status, 404);
    let unkeyed = server.http.post(format!("{}/v1/backups", server.api())).body("{}").send().unwrap();
    assert_eq!(unkeyed.status().as_u16(), 401, "the admin key alone may");
    let first = allowed.join("monday");
    server.cli(&["backup", first.to_str().unwrap()]).expect(0);
    ask("monday").refused("invalid_backup", "already");

    let data = server.plan.data.to_str().unwrap().to_owned();
    let second = folder.path().join("tuesday");
    let second = second.to_str().unwrap();
    let busy = estafette(&["backup", second, "--data", &data]).failed(1);
    assert!(busy.contains("in use"), "{busy}");
    server.end();
    let said = estafette(&["backup", second, "--data", &data]).expect(0);
    assert!(said.contains("files") && said.contains("up to frame"), "{said}");
    estafette(&["check", "--data", second]).expect(0);
    let over = estafette(&["restore", second, "--data", &data]).failed(1);
    assert!(over.contains("not empty"), "{over}");
    let none = estafette(&["restore", &data, "--data", "/tmp/never-made"]).failed(1);
    assert!(none.contains("no backup"), "{none}");
    let back = folder.path().join("back");
    let restored = estafette(&["restore", second, "--data", back.to_str().unwrap(), "--json"]).json(0);
    assert!(restored["files"].as_u64() > Some(4), "{restored}");
    let manifest: Json = serde_json::from_str(&fs::read_to_string(back.join("backup.json")).unwrap()).unwrap();
    assert_eq!(manifest["online"], false, "{manifest}");
}

#[test]
fn a_directory_of_another_layout_is_refused_and_never_guessed() {
    let mut server = Served::start("[[connectors]]\nname = \"null\"\nkind = \"null\"\n");
    server.people("p", 5, "x.test");
    server.end();
    let version = server.plan.data.join("version");
    let (data, config) =
        (server.plan.data.to_str().unwrap().to_owned(), server.plan.config.to_str().unwrap().to_owned());
    let written = fs::read_to_string(&version).unwrap();
    assert!(written.contains("layout 1") && written.contains(env!("CARGO_PKG_VERSION")), "{written}");
    let serve = || estafette(&["serve", "--data", &data, "--config", &config]);
    let newer = "estafette data directory\nlayout 99\nwritten by 7.3.0\n";
    for (text, says) in [(newer, "7.3.0"), ("layout?", "put the file back")] {
        fs::write(&version, text).unwrap();
        let refused = serve();
        assert!(refused.code == 1 && refused.err.contains(says), "{refused:?}");
        assert_eq!(fs::read_to_string(&version).unwrap(), text, "nothing was changed");
        let found = estafette(&["check", "--data", &data]).expect(6);
        assert!(found.contains(says), "{found}");
        let backup =
            estafette(&["backup", server.folder.path().join("b").to_str().unwrap(), "--data", &data]).failed(1);
        assert!(backup.contains(says), "{backup}");
    }
    fs::remove_file(&version).unwrap();
    let refused = serve();
    assert!(refused.code == 1 && refused.err.contains("put the file back"), "{refused:?}");
    assert!(!version.exists(), "nothing was guessed");
    fs::write(&version, &written).unwrap();
    server.restart();
    assert_eq!(server.get("/v1/lists/p")["contacts"], 5, "and nothing is lost");
}

#[test]
fn the_readme_names_the_commands_of_a_restore() {
    let readme = fs::read_to_string(file("README.md")).unwrap();
    for command in ["estafette backup ", "estafette restore ", "--restored", "campaign settle"] {
        assert!(readme.contains(command), "{command}");
    }
}
