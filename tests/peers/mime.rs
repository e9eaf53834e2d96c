//! What the program sends, parsed back by Python's `email`: every header and part is what the author and the contact's
//! attributes say, whatever letters they have.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use loadtest::server::{ADMIN_KEY, Connectors, Server, ServerPlan};
use serde_json::{Value, json};

use crate::python::{INSTALL, aiosmtpd};
use crate::support::{PATIENCE, await_some, open_directory, python, run};

/// Parses every file of a directory by the strict policy and prints the decoded messages by recipient. Tokens are the only
/// thing that nobody can know beforehand; they are cut out.
const PARSE: &str = r#"
import email, email.policy, email.utils, json, pathlib, re, sys

def known(text):
    return re.sub(r"/([couv])/[A-Za-z0-9_-]{20,}", r"/\1/TOKEN", text.replace("\r\n", "\n"))

mails = {}
for path in pathlib.Path(sys.argv[1]).iterdir():
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    defects = [str(d) for part in message.walk() for d in part.defects]
    defects += [str(d) for name in message.keys() for value in message.get_all(name) for d in getattr(value, "defects", [])]
    parts = [
        {"type": part.get_content_type(), "charset": part.get_content_charset(), "file": part.get_filename(),
         "disposition": part.get_content_disposition(),
         "content": known(part.get_content()) if part.get_content_maintype() == "text" and not part.get_filename()
                    else part.get_payload(decode=True).hex()}
        for part in message.walk() if not part.is_multipart()
    ]
    to = email.utils.parseaddr(str(message["To"]))[1]
    assert to not in mails, f"{to} has two mails"
    sender = message["From"].addresses[0]
    mails[to] = {
        "defects": defects, "parts": parts, "shape": [p.get_content_type() for p in message.walk() if p.is_multipart()],
        "headers": {name: known(str(value)) for name, value in message.items()}, "names": sorted(n.lower() for n in message.keys()),
        "from": [sender.display_name, sender.addr_spec], "id": str(message["Message-ID"]),
        "longest": max(len(line) for line in path.read_bytes().split(b"\r\n")),
    }
print(json.dumps(mails))
"#;

fn parsed(directory: &Path) -> Value {
    let out = run(Command::new(python()).arg("-c").arg(PARSE).arg(directory), INSTALL);
    serde_json::from_str(&out).expect("JSON of the parser")
}

struct Program {
    server: Server,
    plan: ServerPlan,
    http: reqwest::blocking::Client,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(relay_port: u16) -> Program {
        let folder = tempfile::tempdir().expect("a folder");
        let connectors = Connectors { relay_port: Some(relay_port), connections: 2, ..Connectors::default() };
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_estafette"));
        let plan = ServerPlan::new(&binary, folder.path(), &connectors).expect("a plan");
        let server = plan.start(PATIENCE).expect("the server starts");
        let http = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
        Program { server, plan, http, _folder: folder }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let address = std::fs::read_to_string(self.plan.data.join("api.addr")).expect("its address");
        let request = self.http.post(format!("http://{}{path}", address.trim())).bearer_auth(ADMIN_KEY);
        let answer = request.json(body).send().expect("an answer");
        let (status, text) = (answer.status(), answer.text().expect("its body"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    fn put(&self, key: &str, contact: &Value) {
        let address = std::fs::read_to_string(self.plan.data.join("api.addr")).expect("its address");
        let request = self.http.put(format!("http://{}/v1/contacts/{key}", address.trim())).bearer_auth(ADMIN_KEY);
        let answer = request.json(contact).send().expect("an answer");
        assert!(answer.status().is_success(), "{key}: {}", answer.text().unwrap_or_default());
    }

    fn run_to_end(&self, campaign: &str, wanted: u64) {
        self.post(&format!("/v1/campaigns/{campaign}/start"), &json!({}));
        let since = Instant::now();
        let report = await_some("the end of the campaign", || {
            let report = self.server.api().report(campaign).expect("the report");
            assert!(since.elapsed() < PATIENCE, "{report:?}");
            (report.state == "finished").then_some(report)
        });
        assert_eq!(report.ledger.accepted, wanted, "{report:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Names that tend to go wrong in headers and bodies.
const NAMES: [(&str, &str); 6] = [
    ("plain", "Ada"),
    ("latin", "Zoë Ünsal-Çelik"),
    ("wide", "春の野原さん"),
    ("emoji", "Ana 👩‍🚀🚀"),
    ("right", "יוסף אברהם"),
    ("long", "Привет очень длинное имя, которое не помещается в одну строку заголовка ни при каких условиях"),
];

fn people(program: &Program, attributes: &Value) {
    for (key, name) in NAMES {
        let mut attributes = attributes.clone();
        attributes["first_name"] = json!(name);
        let contact = json!({"email": format!("{key}@example.test"), "consent": {"email:news": "subscribed"},
            "attributes": attributes});
        program.put(key, &contact);
    }
}

fn attributes(program: &Program, names: &[(&str, &str)]) {
    for (name, kind) in names {
        program.post("/v1/attributes", &json!({"name": name, "type": kind}));
    }
}

#[test]
fn headers_bodies_and_attachments_come_back_letter_by_letter() {
    let directory = open_directory();
    let (port, _sink) = aiosmtpd(directory.path());
    let program = Program::start(port);
    attributes(&program, &[("first_name", "text"), ("note", "text")]);
    // Lines of a quoted-printable body that begin with a dot, end with blanks, or are longer than any limit.
    let note = format!(".dot\n..two dots\ntrailing blank \n{}\nFrom here on = é", "y".repeat(3_000));
    people(&program, &json!({"note": note}));
    let message = json!({
        "channel": "email", "connector": "relay", "topic": "news",
        "from": "Café Überraschung, „Nord“ <news@example.test>", "reply_to": "Zoë <zoe@example.test>",
        "subject": "Grüße an {{ contact.first_name }} — 50 % für Sie",
        "headers": {"X-Campaign-Name": "Frühling {{ contact.first_name }}"},
        "list_id": "Neues <news.example.test>",
        "html": "<p>Hallo {{ contact.first_name }} &amp; Familie</p><pre>{{ contact.note }}</pre><p>é</p>",
        "text": "Hallo {{ contact.first_name }}\n{{ contact.note }}\n",
        "footer": "none", "track": false,
        "attachments": [
            {"name": "prix d’été.txt", "media_type": "text/plain", "base64": "w6l0w6kK"},
            {"name": "all.bin", "media_type": "application/octet-stream", "base64": "AAH/DQoNCi4NCg=="},
        ],
    });
    let spec = json!({"name": "letters", "kind": "single", "audience": {"all": true}, "message": message});
    let made = program.post("/v1/campaigns", &spec);
    assert_eq!(made["problems"], json!([]), "{made}");
    program.run_to_end("letters", NAMES.len() as u64);

    let mails = parsed(directory.path());
    assert_eq!(mails.as_object().map(serde_json::Map::len), Some(NAMES.len()), "everybody once");
    for (key, name) in NAMES {
        let mail = &mails[format!("{key}@example.test")];
        assert_eq!(mail["defects"], json!([]), "{key}: {mail:#}");
        assert_eq!(mail["from"], json!(["Café Überraschung, „Nord“", "news@example.test"]), "{key}");
        let header = |wanted: &str| mail["headers"][wanted].as_str().unwrap_or_default();
        assert_eq!(header("Subject"), format!("Grüße an {name} — 50 % für Sie"), "{key}");
        assert_eq!(header("X-Campaign-Name"), format!("Frühling {name}"), "{key}");
        assert_eq!(header("Reply-To"), "Zoë <zoe@example.test>", "{key}");
        assert!(header("List-Id").ends_with("<news.example.test>"), "{key}: {mail:#}");
        assert_eq!(header("List-Unsubscribe-Post"), "List-Unsubscribe=One-Click", "{key}");
        assert!(mail["longest"].as_u64().is_some_and(|n| n <= 998), "RFC 5322, 2.1.1: {}", mail["longest"]);
        assert_eq!(mail["shape"], json!(["multipart/mixed", "multipart/alternative"]), "{key}");
        let part = |at: usize| (mail["parts"][at]["type"].as_str(), mail["parts"][at]["content"].as_str().unwrap());
        let (kind, text) = part(0);
        assert_eq!(kind, Some("text/plain"), "{key}: text first");
        assert!(text.starts_with(&format!("Hallo {name}\n{note}\n")), "{key}: {text}");
        let (kind, html) = part(1);
        assert_eq!(kind, Some("text/html"), "{key}");
        let wanted = format!("<p>Hallo {name} &amp; Familie</p><pre>{note}</pre><p>é</p>");
        assert!(html.contains(&wanted), "{key}: {html}");
        assert_eq!(mail["parts"][2]["file"], "prix d’été.txt", "{key}");
        assert_eq!(mail["parts"][2]["content"], "c3a974c3a90a", "{key}: bytes as given");
        assert_eq!((&mail["parts"][3]["file"], part(3).1), (&json!("all.bin"), "0001ff0d0a0d0a2e0d0a"), "{key}");
        assert_eq!(mail["parts"][3]["disposition"], "attachment", "{key}");
    }
}

#[test]
fn the_reference_message_is_what_its_preview_shows() {
    let directory = open_directory();
    let (port, _sink) = aiosmtpd(directory.path());
    let program = Program::start(port);
    let texts = ["first_name", "last_name", "city", "country", "company", "plan", "member_since"];
    attributes(&program, &texts.map(|name| (name, "text")));
    attributes(&program, &[("points", "number"), ("interests", "list")]);
    let values = json!({"last_name": "O'Neil & <fils>", "city": "Orléans", "country": "FR", "company": "Café \"Nord\"",
        "plan": "pro", "member_since": "2019", "points": 1200, "interests": ["cuisine", "vélo", "<b>"]});
    people(&program, &values);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/reference-message.toml");
    let table: toml::Table = std::fs::read_to_string(example).expect("the example").parse().expect("TOML");
    let mut message = serde_json::to_value(&table["message"]).expect("a table");
    for (name, value) in [("channel", "email"), ("connector", "relay"), ("topic", "news")] {
        message[name] = json!(value);
    }
    let spec = json!({"name": "reference", "kind": "single", "audience": {"all": true}, "message": message});
    assert_eq!(program.post("/v1/campaigns", &spec)["problems"], json!([]));
    program.run_to_end("reference", NAMES.len() as u64);

    let mails = parsed(directory.path());
    for (key, name) in NAMES {
        let mail = &mails[format!("{key}@example.test")];
        assert_eq!(mail["defects"], json!([]), "{key}: {mail:#}");
        let preview = program.post("/v1/campaigns/reference/preview", &json!({"contact": key}));
        assert_eq!(mail["headers"]["Subject"], preview["subject"], "{key}");
        assert_eq!(mail["headers"]["Subject"], format!("{name}, spring has come to Orléans"), "{key}");
        for (at, part) in [(0, "text"), (1, "html")] {
            let sent = mail["parts"][at]["content"].as_str().unwrap_or_default().trim_end().to_owned();
            let shown = tokens_cut(&preview[part].as_str().unwrap_or_default().replace("\r\n", "\n"));
            assert_eq!(sent, shown.trim_end(), "{key}: {part}");
        }
        let html = mail["parts"][1]["content"].as_str().unwrap_or_default();
        assert!(
            html.contains("O&#x27;Neil &amp; &lt;fils&gt;") || html.contains("O&#39;Neil &amp; &lt;fils&gt;"),
            "{html}"
        );
        assert_eq!(html.matches("/c/TOKEN/").count(), 8, "{key}: eight tracked links");
        assert_eq!(html.matches("like <em>").count(), 3, "{key}: three interests");
    }
}

/// As the parser does it.
fn tokens_cut(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = ["/c/", "/o/", "/u/", "/v/"].iter().filter_map(|p| rest.find(p)).min() {
        let (head, tail) = rest.split_at(at + 3);
        let token = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(tail.len());
        out.push_str(head);
        out.push_str(if token >= 20 { "TOKEN" } else { &tail[..token] });
        rest = &tail[token..];
    }
    out + rest
}
