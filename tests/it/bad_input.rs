//! Bad input, family by family, over HTTP or the command line: each refusal has a code and names the input.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use loadtest::server::ADMIN_KEY;
use serde_json::{Value as Json, json};

use crate::served::{Answer, Served, estafette};

const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";

/// What is wrong with an answer that should be this refusal; nothing if it is.
fn wrong(what: &str, answer: &Answer, code: &str, names: &[&str]) -> Option<String> {
    let body: Json = serde_json::from_str(&answer.text).unwrap_or_default();
    let missing: Vec<_> = names.iter().filter(|n| !body.to_string().contains(**n)).collect();
    let right = body["code"] == code && missing.is_empty() && (400..500).contains(&answer.status);
    (!right).then(|| format!("{what}: wanted {code} naming {missing:?}; got {} {}", answer.status, answer.text))
}

fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with it, the query, the file, the code, what is named.
type Upload<'a> = (&'a str, &'a str, Vec<u8>, &'a str, &'a [&'a str]);

#[test]
fn files_that_cannot_be_imported_are_refused_or_fail_by_name() {
    let server = Served::start(INBOX);
    let many: String = (0..10_000).map(|i| format!("column{i}")).collect::<Vec<_>>().join(",");
    let cases: [Upload<'_>; 8] = [
        ("header only", "key=id", b"id,email\n".to_vec(), "invalid_import", &["no rows"]),
        ("empty", "key=id", Vec::new(), "invalid_import", &["empty", "header"]),
        ("no key column", "key=nr", b"id,email\n1,a@x.test\n".to_vec(), "invalid_import", &["nr", "email"]),
        ("a column twice", "key=id", b"id,email,email\n1,a@x.test,b@x.test\n".to_vec(), "invalid_import", &["email"]),
        (
            "10 000 columns",
            "key=column0",
            format!("{many}\n{many}\n").into_bytes(),
            "invalid_import",
            &["1000 columns"],
        ),
        ("no such delimiter", "key=id&delimiter=|", b"id\n1\n".to_vec(), "invalid_parameter", &["|"]),
        ("no such encoding", "key=id&encoding=ebcdic", b"id\n1\n".to_vec(), "invalid_import", &["ebcdic"]),
        (
            "no such consent",
            "key=id&subscribe=news",
            b"id\n1\n".to_vec(),
            "invalid_import",
            &["\\\"news", "channel:topic"],
        ),
    ];
    let mut found = Vec::new();
    for (what, query, body, code, names) in cases {
        let answer = server.post_text(&format!("/v1/imports?{query}"), "text/csv", body.clone());
        if answer.status == 202 {
            // Accepted as an upload: then the import's own report says it.
            let id = answer.json()["id"].clone();
            let report = server.until(what, || {
                let report = server.get(&format!("/v1/imports/{id}"));
                (report["state"] != "running").then_some(report)
            });
            let said = report["error"].as_str().unwrap_or_default();
            let names_all = names.iter().all(|n| said.contains(n));
            if report["state"] != "failed" || !names_all {
                found.push(format!("{what}: the import's report does not say it: {report}"));
            }
        } else {
            found.extend(wrong(what, &answer, code, names));
        }
    }
    none(found);
    assert_eq!(
        server.post("/v1/segments/preview", &json!({"expression": "is empty email or not is empty email"})).status,
        422
    );
    assert_eq!(server.get("/v1/imports")["items"].as_array().unwrap().iter().filter(|i| i["accepted"] != 0).count(), 0);
}

#[test]
fn rows_that_cannot_be_imported_are_rejected_with_line_column_and_reason() {
    let server = Served::start(INBOX);

    let mut csv = b"id,email,city\n".to_vec();
    csv.extend_from_slice(b"1,a@x.test,Paris\n"); // 2: good
    csv.extend_from_slice(b"2,b@x.test\n"); // 3: ragged
    csv.extend_from_slice(b"3,c@x.test,Paris,more\n"); // 4: ragged
    csv.extend_from_slice(b"4,d@x.test,\"Par\n"); // 5: a lone quote
    csv.extend_from_slice(b"5,e@x.test,Par\0is\n"); // 6: NUL
    csv.extend_from_slice(b"6,f@x.test,Orl\xe9ans\n"); // 7: Latin-1 in a UTF-8 file
    csv.extend_from_slice("7,g@x.test,Orléans\n".as_bytes()); // 8: good
    csv.extend_from_slice(b"8,nobody,Paris\n"); // 9: no address
    csv.extend_from_slice(b",h@x.test,Paris\n"); // 10: no key
    csv.extend_from_slice(format!("9,i@x.test,{}\n", "x".repeat(5 << 20)).as_bytes()); // 11: endless
    csv.extend_from_slice(b"10,j@x.test,Paris\n"); // 12: good
    let report = server.import("key=id&encoding=utf-8", csv);
    assert_eq!(report["state"], "finished", "{report}");
    let id = report["id"].to_string();
    let rejected = server.cli(&["import", "rejected", &id, "--json"]).json(0);
    let lines: Vec<&str> = rejected["items"].as_array().unwrap().iter().map(|r| r["line"].as_str().unwrap()).collect();
    assert_eq!(lines, ["3", "4", "5", "6", "7", "9", "10", "11"], "{rejected:#}");
    assert!(rejected["items"].as_array().unwrap().iter().all(|r| !r["reason"].as_str().unwrap().is_empty()));
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(3), &json!(8)), "the others are in: {report}");
}

#[test]
fn an_upload_that_breaks_off_imports_nothing_and_leaves_nothing() {
    let server = Served::start(INBOX);
    let address = server.api().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /v1/imports?key=id HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: text/csv\r\ncontent-length: 1000000\r\n\r\nid,email\n1,a@x.test\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    assert!(answer.is_empty() || answer.contains("upload_incomplete"), "{answer}");
    drop(stream);
    let spools = server.plan.data.join("imports");
    server.until("the spool file goes", || {
        let left = |dir: &std::path::Path| {
            fs::read_dir(dir).map_or(0, |d| {
                d.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "spool" || x == "csv")).count()
            })
        };
        (left(&spools) == 0).then_some(())
    });
    assert_eq!(server.get("/v1/imports")["items"], json!([]), "no import");
    assert_eq!(server.cli(&["contact", "show", "1"]).code, 4, "no contact");
}

#[test]
fn segments_that_make_no_sense_are_refused_with_the_span() {
    let server = Served::start(INBOX);
    server.import("key=id", "id,email,age,city\n1,a@x.test,31,Paris\n");
    let deep = format!("{}age > 1{}", "(".repeat(5_000), ")".repeat(5_000));
    let long = (0..20_000).map(|i| format!("age = {i}")).collect::<Vec<_>>().join(" or ");
    let cases: [(&str, &str, &[&str]); 7] = [
        ("too deep", &deep, &["deep"]),
        ("too long", &long, &["long"]),
        ("unknown attribute", "agge >= 18", &["agge", "age"]),
        ("wrong type", "age = \"old\"", &["age", "number"]),
        ("no end", "age >= ", &["\"start\":7", "\"end\":7"]),
        ("unknown list", "in list \"nobody\"", &["nobody"]),
        ("a quote too few", "city = \"Par", &["\"start\":7", "\"end\":11"]),
    ];
    let mut found = Vec::new();
    for (what, expression, names) in cases {
        let answer = server.post("/v1/segments/preview", &json!({"expression": expression, "sample": 0}));
        found.extend(wrong(what, &answer, "invalid_segment", names));
        let saved = server.post("/v1/segments", &json!({"name": what, "expression": expression}));
        found.extend(wrong(&format!("{what}, saved"), &saved, "invalid_segment", names));
    }
    none(found);
    server.post("/v1/segments", &json!({"name": "a", "expression": "age > 1"})).expect(201);
    server.post("/v1/segments", &json!({"name": "b", "expression": "in segment \"a\""})).expect(201);
    let cycle = server.call(reqwest::Method::PUT, "/v1/segments/a", &json!({"expression": "in segment \"b\""}));
    none(wrong("a cycle", &cycle, "invalid_segment", &["b"]).into_iter().collect());
    let empty = server.post("/v1/segments/preview", &json!({"expression": "age > 900", "sample": 5})).expect(200);
    assert_eq!((&empty["count"], &empty["sample"]), (&json!(0), &json!([])), "nobody is an answer, and no error");
}

/// A spec that is right but for what the case changes.
fn spec(change: impl FnOnce(&mut Json)) -> Json {
    let mut spec = json!({
        "name": "c", "kind": "single", "audience": {"all": true},
        "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "News <news@example.test>",
            "subject": "Hi", "html": "<p>x</p>", "text": "x"},
    });
    change(&mut spec);
    spec
}

#[test]
fn specs_and_templates_that_cannot_be_sent_are_named_part_by_part() {
    let server = Served::start(INBOX);
    server.import("key=id&subscribe=email:news", "id,email,age\n1,a@x.test,31\n");
    // What cannot be read at all is refused; what is incomplete is listed, and stops the start.
    let unread = server.post("/v1/campaigns", &spec(|s| s["audiense"] = json!({"all": true})));
    let mut found: Vec<String> = wrong("unknown key", &unread, "invalid_spec", &["audiense"]).into_iter().collect();
    let toml = server.post_text("/v1/campaigns", "application/toml", "name = \"x\nkind = 1\n");
    found.extend(wrong("not TOML", &toml, "invalid_spec", &["line"]));
    let cases: [(&str, Json, &str, &str); 12] = [
        ("no audience", spec(|s| s["audience"] = Json::Null), "audience", "audience"),
        ("empty subject", spec(|s| s["message"]["subject"] = json!(" ")), "message.subject", "subject"),
        ("bad sender", spec(|s| s["message"]["from"] = json!("News at example")), "message.from", "News at example"),
        ("no sender", spec(|s| s["message"]["from"] = Json::Null), "message.from", "from"),
        ("no connector", spec(|s| s["message"]["connector"] = Json::Null), "message.connector", "connector"),
        ("unknown connector", spec(|s| s["message"]["connector"] = json!("rely")), "message.connector", "rely"),
        ("unknown list", spec(|s| s["audience"] = json!({"list": "vip"})), "audience.list", "vip"),
        ("bad segment", spec(|s| s["audience"] = json!({"segment": "agge > 1"})), "audience.segment", "agge"),
        ("template syntax", spec(|s| s["message"]["html"] = json!("<p>{% if %}</p>")), "message.html", "\"column\":10"),
        ("unknown attribute", spec(|s| s["message"]["text"] = json!("{{ contact.agge }}")), "message.text", "agge"),
        (
            "unknown filter",
            spec(|s| s["message"]["subject"] = json!("{{ contact.age | shout }}")),
            "message.subject",
            "shout",
        ),
        (
            "no body",
            spec(|s| s["message"].as_object_mut().unwrap().retain(|k, _| k != "html" && k != "text")),
            "message",
            "html",
        ),
    ];
    for (what, spec, path, names) in cases {
        let check = server.post("/v1/campaigns/check", &spec);
        let text = check.text.clone();
        let problems = check.json()["problems"].as_array().cloned().unwrap_or_default();
        let named = problems.iter().any(|p| {
            p["path"].as_str().is_some_and(|at| at.starts_with(path))
                && p.to_string().contains(names)
                && p["fix"].as_str().is_some_and(|f| !f.is_empty())
        });
        if !named {
            found.push(format!("{what}: {path} is not named with {names:?}: {text}"));
        }
    }
    none(found);
    let several = spec(|s| {
        s["audience"] = Json::Null;
        s["message"]["subject"] = json!("");
        s["message"]["from"] = json!("x");
    });
    let stranger = server.post("/v1/campaigns", &spec(|s| s["message"]["text"] = json!("{{ contact.agge }}")));
    let refused = stranger.refused("invalid_spec", "agge").to_string();
    assert!(refused.contains("\"line\":1") && refused.contains("\"column\":12"), "with its place: {refused}");
    let made = server.post("/v1/campaigns", &several).expect(201);
    assert!(made["problems"].as_array().unwrap().len() >= 3, "a draft may be incomplete, and all is listed: {made}");
    let refused = server.act("c", "start").refused("campaign_incomplete", "message.subject");
    assert!(refused.to_string().contains("message.from") && refused.to_string().contains("audience"), "{refused}");
}

#[test]
fn templates_that_never_end_or_never_stop_writing_skip_the_contact() {
    let server = Served::start(INBOX);
    server.people("p", 3, "x.test");
    let endless = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}x";
    let huge = "{% for a in range(9000) %}{% for b in range(90) %}0123456789012345678901234567890123456789012345678901234567890123{% endfor %}{% endfor %}";
    for (name, text) in [("endless", endless), ("huge", huge)] {
        let spec = spec(|s| {
            s["name"] = json!(name);
            s["message"]["text"] = json!(text);
            s["message"]["html"] = Json::Null;
        });
        let made = server.post("/v1/campaigns", &spec).expect(201);
        if made["problems"] != json!([]) {
            assert!(made["problems"].to_string().contains("message.text"), "refused at once, by name: {made}");
            continue;
        }
        let preview = server.post(&format!("/v1/campaigns/{name}/preview"), &json!({"contact": "p000001"}));
        none(wrong(name, &preview, "render_failed", &["text"]).into_iter().collect());
        server.act(name, "start").expect(200);
        let report = server.await_state(name, "finished");
        assert_eq!((&report["ledger"]["skipped"], &report["ledger"]["accepted"]), (&json!(3), &json!(0)), "{report}");
        assert!(report["samples"].as_array().is_some_and(|s| !s.is_empty()), "the report has a sample: {report}");
    }
    assert_eq!(server.get("/health")["state"].as_str().unwrap_or("ready"), "ready", "and the server is well");
}

#[test]
fn data_directories_and_ports_that_cannot_be_used_are_named() {
    let mut server = Served::start(INBOX);
    let config = server.plan.config.to_str().unwrap().to_owned();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let busy = server.write("busy.toml", format!("[server]\napi_listen = \"127.0.0.1:{port}\"\n"));
    let other = server.folder.path().join("other");
    let refused = estafette(&["serve", "--data", other.to_str().unwrap(), "--config", &busy]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains(&port.to_string()) && refused.err.contains("api_listen"), "{}", refused.err);
    assert!(!other.join("journal").exists(), "a taken port changes nothing");

    let locked = estafette(&["serve", "--data", server.plan.data.to_str().unwrap(), "--config", &config]);
    assert_eq!(locked.code, 1, "{locked:?}");
    assert!(locked.err.contains("data") && locked.err.contains("another"), "{}", locked.err);

    let file = server.write("a-file", "x");
    let refused = estafette(&["serve", "--data", &file, "--config", &config]);
    assert!(refused.code == 1 && refused.err.contains("a-file"), "a file is no directory: {refused:?}");
    let read_only = estafette(&["serve", "--data", "/proc/estafette", "--config", &config]);
    assert!(read_only.code == 1 && read_only.err.contains("/proc/estafette"), "{read_only:?}");

    server.end();
    let journal = server.plan.data.join("journal");
    let segments = fs::read_dir(&journal).unwrap().map(|e| e.unwrap().path());
    let segment = segments.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("segment-")).max().unwrap();
    let good = fs::read(&segment).unwrap();
    let mut newer = good.clone();
    newer[8] = 9;
    newer[12..16].fill(0);
    let checksum = crc32c::crc32c(&newer[..64]);
    newer[12..16].copy_from_slice(&checksum.to_le_bytes());
    let mut flipped = good.clone();
    flipped[30] ^= 4;
    for (what, bytes, says) in [("another version", newer, "version 9"), ("a flipped byte", flipped, "segment-")] {
        fs::write(&segment, bytes).unwrap();
        let refused = estafette(&["serve", "--data", server.plan.data.to_str().unwrap(), "--config", &config]);
        assert_eq!(refused.code, 1, "{what}: {refused:?}");
        assert!(refused.err.contains(says), "{what} is named: {}", refused.err);
    }
    fs::write(&segment, good).unwrap();
    server.restart();
}
