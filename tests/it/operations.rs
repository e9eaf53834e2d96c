//! What whoever runs a server sees of it: its log, and whether it is well.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use loadtest::disk::SmallDisk;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::served::{Answer, Served, estafette};

fn relay(port: u16) -> String {
    format!(
        "[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nconnections_max = 1\n"
    )
}

/// A relay that quotes the recipient: the first few are throttled, all others accepted.
fn quoting_relay() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut messages = 0;
        for stream in listener.incoming().flatten() {
            // The engine may close a connection whenever it likes.
            drop(converse(stream, &mut messages));
        }
    });
    port
}

fn converse(stream: TcpStream, messages: &mut u32) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    out.write_all(b"220 relay ready\r\n")?;
    let mut recipient = String::new();
    while let Some(line) = lines.next() {
        let line = line?;
        let answer = match line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" | "MAIL" | "RSET" => "250 ok".to_owned(),
            "RCPT" => {
                recipient = line.clone();
                "250 ok".to_owned()
            }
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                *messages += 1;
                let address = recipient.split(['<', '>']).nth(1).unwrap_or_default();
                match *messages {
                    1..=3 => {
                        format!("450 4.7.28 unusual rate of unsolicited mail to {address}, from <news@example.test>")
                    }
                    _ => "250 taken".to_owned(),
                }
            }
            "QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => "500 what".to_owned(),
        };
        out.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}

#[test]
fn the_log_tells_campaign_run_and_batch_and_no_address() {
    let server = Served::start_after(&relay(quoting_relay()), |plan| {
        plan.through = Served::through("export ESTAFETTE_LOG=debug,actix_server=warn", "--log-format json");
    });
    server.people("p", 40, "x.test");
    server.campaign("c", "relay", "p", &json!({}));
    server.act("c", "start").expect(200);
    server.until("some are accepted", || (server.count("c", "accepted") > 5).then_some(()));
    let log = server.until("the provider's words are logged", || {
        let log = fs::read_to_string(&server.plan.log).unwrap();
        log.contains("unusual rate of unsolicited mail").then_some(log)
    });
    server.act("c", "stop").expect(200);
    for domain in ["@x.test", "@example.test", "x.test>"] {
        assert!(
            !log.contains(domain),
            "an address is in the log: {}",
            log.lines().find(|l| l.contains(domain)).unwrap()
        );
    }
    let data = server.plan.data.to_str().unwrap();
    let words: BTreeSet<String> = (0..40)
        .map(|i| format!("p{i:06}@x.test"))
        .map(|address| estafette(&["log-address", "--data", data, &address]).expect(0).trim().to_owned())
        .collect();
    assert_eq!(words.len(), 40, "each has a word of its own");
    assert!(words.iter().any(|word| log.contains(word.as_str())), "and can be found by it");

    let lines: Vec<Json> =
        log.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).expect(l)).collect();
    let said = |message: &str| {
        let found = lines.iter().find(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("{message:?} is not in {log}")).clone()
    };
    let starts = said("the run starts");
    assert!(starts["campaign"].is_string() && starts["run"].is_string() && starts["audience"] == 40, "{starts}");
    for message in ["a batch is claimed", "outcomes of a batch"] {
        let line = said(message);
        assert_eq!((&line["campaign"], &line["run"]), (&starts["campaign"], &starts["run"]), "{line}");
        assert!(line["batch"].is_string() && line["at"].is_string() && line["level"] == "DEBUG", "{line}");
    }
    assert!(!log.contains("Actix runtime found") && !log.contains("starting service"), "no noise of the HTTP server");
}

#[test]
fn a_log_for_people_is_quiet_and_without_addresses() {
    let mut server = Served::start("[[connectors]]\nname = \"null\"\nkind = \"null\"\n");
    server.people("p", 20, "x.test");
    server.campaign("c", "null", "p", &json!({}));
    server.act("c", "start").expect(200);
    server.await_state("c", "finished");
    server.end();
    let log = fs::read_to_string(&server.plan.log).unwrap();
    assert!(log.contains("the run starts") && log.contains("finished"), "{log}");
    assert!(
        !log.contains("@x.test") && !log.contains("Actix runtime found") && !log.contains("starting service"),
        "{log}"
    );
}

fn ready(server: &Served, query: &str) -> Answer {
    server.call(Method::GET, &format!("/ready{query}"), &Json::Null)
}

/// The check of this name, in an answer that is ready or not.
fn check_of(body: &Json, name: &str) -> Json {
    let checks = body["checks"].as_array().or_else(|| body["details"]["checks"].as_array()).expect("checks").clone();
    checks.into_iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {body}"))
}

#[test]
fn a_connector_that_fails_is_told_and_counts_for_readiness_where_asked() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Served::start(&format!("{}[[connectors]]\nname = \"null\"\nkind = \"null\"\n", relay(closed)));
    for query in ["", "?connectors=any", "?connectors=all"] {
        let body = ready(&server, query).expect(200);
        assert_eq!(
            (&body["state"], &body["ready"], &body["problems"]),
            (&json!("ready"), &json!(true), &json!([])),
            "{body}"
        );
    }
    let disk = check_of(&server.get("/health"), "disk");
    assert!(disk["free_bytes"].as_u64() > disk["floor_bytes"].as_u64(), "{disk}");
    server.people("p", 10, "x.test");
    server.campaign("c", "relay", "p", &json!({}));
    server.act("c", "start").expect(200);
    server.until("its circuit opens", || (server.get("/health")["state"] == "degraded").then_some(()));
    assert_eq!(ready(&server, "").status, 200, "opt-outs and commands are taken: it is ready");
    assert_eq!(ready(&server, "?connectors=any").status, 200, "the other connector works");
    let refused = server.until("while the relay is not reached", || {
        let answer = ready(&server, "?connectors=all");
        (answer.status == 503).then_some(answer)
    });
    let body = refused.refused("not_ready", "relay");
    let checks = body["details"]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["subject"] == "relay").expect("a check of the relay");
    assert_eq!((&check["subject"], &check["state"]), (&json!("relay"), &json!("degraded")), "{body}");
    assert!(check["reason"].is_string() && check["waiting"].is_u64(), "{check}");
    let told = server.cli_with_key("", &["health", "--connectors", "all"]).expect(6);
    assert!(told.contains("degraded connector relay") && told.contains("not ready"), "{told}");
    let told = server.cli_with_key("", &["health"]).expect(0);
    assert!(told.contains("ready (degraded)"), "{told}");
    assert_eq!(server.cli(&["health", "--alive", "--json"]).json(0)["ready"], true);
    ready(&server, "?connectors=some").refused("invalid_parameter", "any");
    server.act("c", "stop").expect(200);
}

#[test]
fn a_full_disk_makes_the_server_not_ready_and_space_makes_it_ready_again() {
    let root = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&root.path().join("disk"), 512).expect("a small file system");
    let server = Served::start_after("[[connectors]]\nname = \"null\"\nkind = \"null\"\n", |plan| {
        plan.data = disk.path.clone();
    });
    assert_eq!(ready(&server, "").status, 200);
    disk.fill().unwrap();
    let body = server.until("it is not ready", || {
        let answer = ready(&server, "");
        (answer.status == 503).then(|| answer.refused("not_ready", "disk"))
    });
    let check = check_of(&body, "disk");
    assert_eq!((&check["state"], &check["reason"]), (&json!("failed"), &json!("below_floor")), "{body}");
    let health = server.get("/health");
    assert_eq!((&health["state"], &health["ready"]), (&json!("degraded"), &json!(false)), "it is alive: {health}");
    disk.free().unwrap();
    server.until("there is space", || (ready(&server, "").status == 200).then_some(()));
    drop(server);
}
