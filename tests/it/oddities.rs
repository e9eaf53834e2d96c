//! Odd input and odd settings: headers that are equal, names that try to rewrite a terminal, audiences of nobody, files with
//! flipped bytes, totals without contacts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::people::link;
use crate::served::{Ran, Served, estafette};

const INBOX: &str = "[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

#[test]
fn a_file_whose_headers_are_equal_is_refused_by_the_name_of_the_column() {
    let server = Served::start(INBOX);
    for (what, header, query, names) in [
        ("equal", "id,email,city,city", "", "city"),
        ("equal but for case", "id,email,City,city", "", "ity"),
        ("equal but for space", "id,email,city , city", "", "city"),
        ("the key twice", "id,id,email", "", "id"),
        ("mapped onto one attribute", "id,email,town,city", "&mapping=town:city", "city"),
    ] {
        let columns = header.split(',').count();
        let row = vec!["1"; columns].join(",");
        let answer = server.post_text(&format!("/v1/imports?key=id{query}"), "text/csv", format!("{header}\n{row}\n"));
        let text = answer.text.clone();
        assert_eq!(answer.status, 422, "{what}: {text}");
        assert!(answer.refused("invalid_import", names).to_string().contains(names), "{what}: {text}");
    }
    assert_eq!(server.get("/v1/imports")["items"], json!([]), "nothing was imported");
    // Columns without a name are what spreadsheets leave behind: there may be several, and none is imported.
    let report = server.import("key=id", "id,email,,\n1,a@x.test,lost,lost\n");
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(1), &json!(0)), "{report}");
    assert_eq!(server.get("/v1/contacts/1")["attributes"], json!({}));
}

/// Clears the screen, sets the title, moves the cursor with the one-byte CSI, turns the direction, begins a new line.
const HOSTILE: &str = "A\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}1;1H\u{202e}B\u{8}\r\nFORGED";

/// What a command wrote for people has nothing that a terminal obeys.
fn harmless(what: &str, ran: &Ran) {
    for (stream, text) in [("output", &ran.out), ("errors", &ran.err)] {
        let obeyed = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        let found: Vec<char> = text.chars().filter(|c| obeyed(*c)).collect();
        assert!(found.is_empty(), "{what}: {found:?} in its {stream}: {text:?}");
    }
    // The text of a mail has lines, and so have errors that point into a text.
    let forged = ran.out.lines().any(|line| line.starts_with("FORGED"));
    assert!(!forged || what.contains("preview"), "{what}: a value began a line of its own: {:?}", ran.out);
    assert_ne!(ran.code, 2, "{what}: the command is right: {}", ran.err);
}

#[test]
fn no_name_or_value_reaches_a_terminal_as_an_order() {
    let server = Served::start(INBOX);
    let csv = format!("id,email,note\n\"{HOSTILE}\",a@x.test,\"{HOSTILE}\"\nplain,b@x.test,\"{HOSTILE}\"\n");
    server.import("key=id&subscribe=email:news&list=people", csv);
    server.call(Method::PATCH, "/v1/contacts/plain", &json!({"attributes": {"note": HOSTILE}}));
    let keys: Vec<String> = ["plain".to_owned()].into();
    let made = |path: &str, body: Json| server.post(path, &body).status;
    let lists = made("/v1/lists", json!({"name": HOSTILE, "contacts": keys}));
    let segments = made("/v1/segments", json!({"name": HOSTILE, "expression": "is empty note"}));
    assert!([200, 201, 400, 422].contains(&lists) && [200, 201, 400, 422].contains(&segments), "{lists} {segments}");
    let spec = |name: &str| {
        json!({"name": name, "kind": "single", "audience": {"all": true}, "message": {"channel": "email",
            "connector": "relay", "topic": "news", "from": "a@x.test", "subject": "s {{ contact.note }}",
            "text": "t {{ contact.note }}"}})
    };
    let hostile = server.post("/v1/campaigns", &spec(HOSTILE));
    assert!([201, 400, 422].contains(&hostile.status), "{}", hostile.text);
    server.post("/v1/campaigns", &spec("mild")).expect(201);
    server.act("mild", "start").expect(200);
    server.await_state("mild", "finished");
    made("/v1/suppressions", json!({"contact": "plain", "channel": "email"}));
    let file = server.write("spec.json", spec(HOSTILE).to_string());
    let bad =
        server.write("bad.toml", format!("name = \"x\"\n[message]\nsubject = \"{{{{ contact.{} }}}}\"\n", "agge"));
    let unread = server.write("unread.toml", format!("name = '''{}'''\nkind = 1\n", HOSTILE.replace('\r', "")));

    let quoted = format!("note = \"{}\"", HOSTILE.replace(['\r', '\n'], ""));
    let commands: Vec<Vec<&str>> = vec![
        vec!["contact", "show", "plain"],
        vec!["contact", "show", HOSTILE],
        vec!["list", "list"],
        vec!["list", "contacts", "people"],
        vec!["list", "show", HOSTILE],
        vec!["segment", "list"],
        vec!["segment", "preview", "not is empty note"],
        vec!["segment", "preview", &quoted],
        vec!["segment", "delete", HOSTILE],
        vec!["suppression", "list"],
        vec!["attribute", "list"],
        vec!["import", "list"],
        vec!["campaign", "list"],
        vec!["campaign", "show", "mild"],
        vec!["campaign", "show", HOSTILE],
        vec!["campaign", "report", "mild"],
        vec!["campaign", "preview", "mild", "--contact", "plain"],
        vec!["campaign", "preview", "mild", "--contact", HOSTILE],
        vec!["campaign", "create", &file],
        vec!["campaign", "check", &file],
        vec!["campaign", "check", &bad],
        vec!["campaign", "create", &unread],
        vec!["campaign", "test-send", "mild", "me@x.test", "--contact", "plain"],
        vec!["connector", "test", HOSTILE],
    ];
    for command in &commands {
        harmless(&format!("{command:?}"), &server.cli(command));
    }
    let shown = server.cli(&["contact", "show", "plain"]);
    assert!(shown.out.contains("owned") && shown.out.contains('\u{fffd}'), "what is harmless is shown: {}", shown.out);
    let raw = server.cli(&["contact", "show", "plain", "--json"]);
    let read = raw.json(0);
    let note = read["note"].as_str().or(read["attributes"]["note"].as_str()).unwrap_or_default();
    // Control characters are taken out when a value comes in; what turns the direction is text, and stays.
    assert!(!note.contains('\u{1b}') && note.contains('\u{202e}'), "programs get what is stored: {read}");
}

#[test]
fn an_audience_of_nobody_is_told_and_its_start_sends_nothing() {
    let server = Served::start(INBOX);
    server.import("key=id&subscribe=email:news", "id,email,age\n1,a@x.test,31\n");
    let spec = |name: &str, segment: &str| {
        json!({"name": name, "kind": "single", "audience": {"segment": segment}, "message": {"channel": "email",
            "connector": "relay", "topic": "news", "from": "a@x.test", "subject": "s", "text": "t"}})
    };
    let nobody = spec("nobody", "age > 900");
    let check = server.post("/v1/campaigns/check", &nobody).expect(200);
    assert_eq!((&check["ready"], &check["problems"]), (&json!(true), &json!([])), "it may be started: {check}");
    assert_eq!(check["warnings"][0]["code"], "empty_audience", "{check}");
    let made = server.post("/v1/campaigns", &nobody).expect(201);
    let warnings = made["warnings"].as_array().unwrap();
    assert_eq!((warnings.len(), &warnings[0]["code"]), (1, &json!("empty_audience")), "said once: {made}");
    assert!(warnings[0]["fix"].as_str().is_some_and(|fix| fix.contains("import")), "with the way out: {made}");
    let audience = server.post("/v1/campaigns/nobody/audience", &json!({})).expect(200);
    assert_eq!((&audience["matched"], &audience["final"]), (&json!(0), &json!(0)), "{audience}");

    let started = server.cli(&["campaign", "start", "nobody", "--watch"]).expect(0);
    assert!(started.contains("the audience is empty"), "{started}");
    let report = server.await_state("nobody", "finished");
    assert_eq!((&report["ledger"]["audience"], &report["ledger"]["balanced"]), (&json!(0), &json!(true)), "{report}");
    assert_eq!(server.keys("nobody", "accepted"), Vec::<String>::new());
    assert_eq!(server.act("nobody", "start").status, 409, "it is over");

    // Counted at the start: who matches by then is sent to.
    server.post("/v1/campaigns", &spec("later", "age > 50")).expect(201);
    server.import("key=id&subscribe=email:news", "id,email,age\n2,b@x.test,51\n");
    server.act("later", "start").expect(200);
    assert_eq!(server.await_state("later", "finished")["ledger"]["accepted"], 1);
    let fine = server.post("/v1/campaigns", &spec("fine", "age > 1")).expect(201);
    assert_eq!(fine["warnings"], json!([]), "no warning where somebody matches: {fine}");
}

/// Writes a file with one byte changed, and puts it right again when dropped.
struct Flipped {
    path: PathBuf,
    good: Vec<u8>,
}

impl Flipped {
    fn at(path: &Path, offset: usize, mask: u8) -> Flipped {
        let good = fs::read(path).unwrap();
        let mut bad = good.clone();
        bad[offset] ^= mask;
        fs::write(path, bad).unwrap();
        Flipped { path: path.to_owned(), good }
    }
}

impl Drop for Flipped {
    fn drop(&mut self) {
        fs::write(&self.path, &self.good).unwrap();
    }
}

/// Runs the check; it ends in order, whatever it reads. Answers its findings.
fn check(data: &str, what: &str) -> Vec<Json> {
    let ran = estafette(&["check", "--data", data, "--json"]);
    assert!([0, 6].contains(&ran.code), "{what}: it ends in order: {ran:?}");
    assert!(!ran.err.contains("panicked"), "{what}: {}", ran.err);
    let code = ran.code;
    let findings = ran.json(code)["findings"].as_array().unwrap().clone();
    assert_eq!(code == 6, !findings.is_empty(), "{what}: the code says whether there are findings: {findings:?}");
    for finding in &findings {
        let told = |name: &str| finding[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(told("place") && told("problem") && told("fix"), "{what}: where, what, and what to do: {finding}");
    }
    findings
}

#[test]
fn a_check_names_flipped_bytes_of_store_and_journal_and_ends_in_order() {
    let mut server = Served::start(INBOX);
    let rows: String =
        (0..400).map(|i| format!("k{i:03},k{i:03}@x.test,{},{}\n", i % 90, ["FR", "DE", "PL"][i % 3])).collect();
    server.import("key=id&subscribe=email:news&list=all", format!("id,email,age,country\n{rows}"));
    server.campaign("c", "relay", "all", &json!({}));
    server.act("c", "start").expect(200);
    server.await_state("c", "finished");
    server.end();
    let data = server.plan.data.to_str().unwrap().to_owned();
    assert_eq!(check(&data, "as it was left"), Vec::<Json>::new());

    let store = server.plan.data.join("contacts/data.mdb");
    let bytes = fs::read(&store).unwrap();
    let pages = bytes.len() / 4_096;
    let mut found = 0;
    // Of each page its number, its flags and its bounds, and bytes of what it holds; both meta pages are among them.
    for (turn, page) in (0..pages).step_by((pages / 5).max(1)).chain([0, 1]).enumerate() {
        for offset in [0, 10, 13, 17, 4_000 - turn * 17] {
            let at = page * 4_096 + offset;
            let _flipped = Flipped::at(&store, at, 1 << (turn % 8));
            let what = format!("byte {at} of the store");
            let findings = check(&data, &what);
            let names_store = |f: &Json| f["place"].as_str().is_some_and(|place| place.contains("contacts"));
            let about_rows = |f: &Json| f["problem"].to_string().contains("store");
            assert!(findings.iter().all(|f| names_store(f) || about_rows(f)), "{what}: {findings:?}");
            found += usize::from(!findings.is_empty());
        }
    }
    assert!(found > 8, "of the flips {found} break something; LMDB has no checksums for the rest");

    let segment = newest_segment(&server.plan.data.join("journal"));
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    for offset in [3, 20, 70] {
        let _flipped = Flipped::at(&segment, offset, 4);
        let findings = check(&data, "a byte of the journal");
        assert!(findings.iter().any(|f| f.to_string().contains(&name)), "byte {offset}: {name} is named: {findings:?}");
    }
    let key = bytes.windows(4).position(|w| w == b"k123").expect("a contact's key");
    let (_one, _other) = (Flipped::at(&segment, 70, 1), Flipped::at(&store, key, 2));
    let findings = check(&data, "both");
    for place in [name.as_str(), "contacts"] {
        assert!(findings.iter().any(|f| f["place"].to_string().contains(place)), "{place} is named: {findings:?}");
    }
    let words = estafette(&["check", "--data", &data]).expect(6);
    assert!(words.contains(&name) && words.ends_with("something is wrong\n"), "{words}");
    drop((_one, _other));
    assert_eq!(check(&data, "mended"), Vec::<Json>::new());
    server.restart();
}

fn newest_segment(journal: &Path) -> PathBuf {
    let files = fs::read_dir(journal).unwrap().map(|e| e.unwrap().path());
    files.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("segment-")).max().unwrap()
}

#[test]
fn totals_alone_name_no_contact_anywhere() {
    let mut server = Served::start(&format!("[tracking]\naggregate_only = true\n{INBOX}"));
    server.people("p", 12, "x.test");
    server.campaign("c", "relay", "p", &json!({}));
    server.act("c", "start").expect(200);
    server.await_state("c", "finished");
    let mails: Vec<String> = (0..3).map(|i| server.mails_to(&format!("p{i:06}@x.test")).remove(0)).collect();
    // A click within two seconds of the hand-over counts as a scanner's.
    std::thread::sleep(Duration::from_millis(2_500));
    let browser = reqwest::blocking::Client::builder()
        .no_proxy()
        .user_agent(BROWSER)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    for mail in &mails {
        assert_eq!(browser.get(link(mail, &server, "/c/")).send().unwrap().status(), 302);
        assert_eq!(browser.get(link(mail, &server, "/o/")).send().unwrap().status(), 200);
    }
    let message = |server: &Served| server.report("c")["deliveries"][0]["messages"][0].clone();
    let counted = |message: &Json| (message["clicked"]["total"].as_u64(), message["opened"]["total"].as_u64());
    server.until("both are counted", || (counted(&message(&server)) == (Some(3), Some(3))).then_some(()));
    let names_nobody = |server: &Served| {
        let shown = message(server);
        assert_eq!(counted(&shown), (Some(3), Some(3)), "{shown}");
        for what in ["clicked", "opened"] {
            assert_eq!(shown[what]["unique"], 0, "nobody is told apart: {shown}");
            assert_eq!(server.keys("c", what), Vec::<String>::new(), "{what}");
        }
        let csv = server.cli(&["campaign", "contacts", "c", "--set", "accepted"]).expect(0);
        assert!(!csv.lines().skip(1).any(|line| line.contains("true")), "no row says that it did: {csv}");
        let export = server.get("/v1/contacts/p000000/export").to_string();
        assert!(
            !export.contains("click") || !export.contains("\"clicked\":true"),
            "nor does what is held of one: {export}"
        );
    };
    names_nobody(&server);
    let ab = fs::read_to_string(crate::served::file("examples/ab-split.toml")).unwrap();
    let ab = ab.replace("connector = \"inbox\"", "connector = \"relay\"");
    let check = server.post_text("/v1/campaigns/check", "application/toml", ab).expect(200);
    assert!(check["problems"].to_string().contains("tracks_nobody"), "a test by clicks would see none: {check}");
    server.restart();
    names_nobody(&server);
}

#[test]
fn a_message_that_tracks_in_the_aggregate_puts_nobody_into_its_links() {
    let server = Served::start(INBOX);
    server.people("p", 5, "x.test");
    let html = "<p><a href=\"https://shop.example.test/a\">a</a> <a href=\"https://shop.example.test/b\">b</a> \
                <a href=\"https://shop.example.test/c\">c</a></p>";
    let spec = json!({"name": "c", "kind": "single", "audience": {"list": "p"}, "message": {"channel": "email",
        "connector": "relay", "topic": "news", "from": "a@x.test", "subject": "s", "html": html, "track": "aggregate"}});
    server.post("/v1/campaigns", &spec).expect(201);
    server.act("c", "start").expect(200);
    server.await_state("c", "finished");
    let mail = |i: usize| server.mails_to(&format!("p{i:06}@x.test")).remove(0);
    let first = link(&mail(0), &server, "/c/");
    assert_eq!(first, link(&mail(1), &server, "/c/"), "all have the same links");
    std::thread::sleep(Duration::from_millis(2_500));
    let http = reqwest::blocking::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let browser = http.user_agent(BROWSER).build().unwrap();
    // Three recipients, three links, at once: no burst of a machine.
    let token = first.rsplit_once('/').unwrap().0;
    for index in 0..3 {
        let answer = browser.get(format!("{token}/{index}")).send().unwrap();
        assert_eq!(answer.status(), 302, "{token}/{index}");
    }
    let message = server.until("they are counted", || {
        let message = server.report("c")["deliveries"][0]["messages"][0].clone();
        (message["clicked"]["total"] == 3).then_some(message)
    });
    assert_eq!((&message["clicked"]["machine"], &message["clicked"]["unique"]), (&json!(0), &json!(0)), "{message}");
    assert_eq!(server.keys("c", "clicked"), Vec::<String>::new(), "nobody is named");
}
