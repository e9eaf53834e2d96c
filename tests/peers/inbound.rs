//! Reports of a real Postfix, read by `estafette inbound`; and reports of both kinds read beside Python's `email`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use estafette::channels::inbound::{Happened, Inbound, Report, read};
use loadtest::server::{ADMIN_KEY, Connectors, Server, ServerPlan};
use serde_json::{Value, json};

use crate::postfix::Postfix;
use crate::python::INSTALL;
use crate::support::{PATIENCE, await_some, open_directory, python, run};

/// Takes mail for everybody in, and only then finds that two of the domains have no such user: so it must report.
const RELAY: &str = "smtpd_tls_security_level = none\nsmtpd_reject_unlisted_recipient = no\nsmtpd_sasl_auth_enable = no\nmynetworks = 127.0.0.0/8\n\
    smtpd_relay_restrictions = permit_mynetworks, reject\nsmtpd_recipient_restrictions = permit_mynetworks, reject\n\
    virtual_mailbox_domains = example.test, bounces.example.test\n\
    transport_maps = inline:{ { gone.test = error:5.1.1 no such user }, { full.test = error:5.2.2 mailbox full }, \
    { strict.test = error:5.7.1 blocked } }\n";

fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_estafette"))
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
        let connectors = Connectors { relay_port: Some(relay_port), connections: 1, ..Connectors::default() };
        let plan = ServerPlan::new(&binary(), folder.path(), &connectors).expect("a plan");
        let mail = "\n[mail]\nreturn_path_domain = \"bounces.example.test\"\n";
        std::fs::write(&plan.config, connectors.to_toml() + mail).expect("the configuration");
        let server = plan.start(PATIENCE).expect("the server starts");
        let http = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
        Program { server, plan, http, _folder: folder }
    }

    fn url(&self) -> String {
        let address = std::fs::read_to_string(self.plan.data.join("api.addr")).expect("its address");
        format!("http://{}", address.trim())
    }

    fn call(&self, request: reqwest::blocking::RequestBuilder) -> Value {
        let answer = request.bearer_auth(ADMIN_KEY).send().expect("an answer");
        let (status, text) = (answer.status(), answer.text().expect("its body"));
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    fn get(&self, path: &str) -> Value {
        self.call(self.http.get(format!("{}{path}", self.url())))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call(self.http.post(format!("{}{path}", self.url())).json(body))
    }

    /// Pipes a mail into the program, as an MTA does.
    fn pipe(&self, mail: &[u8]) -> (Option<i32>, String) {
        let mut command = Command::new(binary());
        command.args(["inbound", "--url", &self.url()]).env("ESTAFETTE_KEY", ADMIN_KEY).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("its input").write_all(mail).expect("it reads all");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    }
}

fn mails(directory: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(directory).expect("the mailbox");
    entries.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a mail")).collect()
}

/// A campaign to four people over a Postfix that finds out later that three of them can't be reached; what it delivers.
fn bounced() -> (Postfix, Program, Vec<Vec<u8>>) {
    let postfix = Postfix::start_with(RELAY);
    let program = Program::start(postfix.port);
    send_to_four(&program);
    let mails = mails(&postfix.mailbox(4));
    (postfix, program, mails)
}

fn send_to_four(program: &Program) {
    for (key, domain) in
        [("good", "example.test"), ("gone", "gone.test"), ("full", "full.test"), ("strict", "strict.test")]
    {
        let contact = json!({"email": format!("{key}@{domain}"), "consent": {"email:news": "subscribed"}});
        program.call(program.http.put(format!("{}/v1/contacts/{key}", program.url())).json(&contact));
    }
    let message = json!({"channel": "email", "connector": "relay", "topic": "news", "from": "News <news@example.test>",
        "subject": "Hello", "text": "Hello", "html": "<p>Hello</p>"});
    let spec = json!({"name": "spring", "kind": "single", "audience": {"all": true}, "message": message});
    program.post("/v1/campaigns", &spec);
    program.post("/v1/campaigns/spring/start", &json!({}));
    let report = await_some("the end of the campaign", || {
        Some(program.server.api().report("spring").expect("the report")).filter(|report| report.state == "finished")
    });
    assert_eq!(report.ledger.accepted, 4, "the relay takes all of them: {report:?}");
}

/// The service and the line of the transport map that README tells a person to write.
fn readme_of_postfix() -> (String, String) {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README");
    assert!(readme.contains("estafette_destination_recipient_limit = 1"), "README names the limit");
    let block = readme.split("in `master.cf` (one line) and the transport map:").nth(1).expect("the place in README");
    let block = block.split("```").nth(1).expect("its lines");
    let (service, transport) = block.trim().split_once("\n\n").expect("a service, an empty line, a transport");
    (service.to_owned(), transport.to_owned())
}

fn put(text: &str, ours: &str, instead_of: &str) -> String {
    assert_eq!(text.matches(instead_of).count(), 1, "{instead_of:?} in {text:?}");
    text.replace(instead_of, ours)
}

#[test]
fn what_readme_says_for_postfix_makes_its_bounces_events() {
    let (service, transport) = readme_of_postfix();
    let help = run(Command::new(binary()).args(["inbound", "--help"]), INSTALL);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&help).contains(&words(&service)), "the help says the same as README: {service:?} in {help}");
    let (domain, transport) = transport.split_once(char::is_whitespace).expect("a domain and its transport");
    assert_eq!(domain, "bounces.example.com");
    let more = format!(
        "{}estafette_destination_recipient_limit = 1\n",
        put(RELAY, &format!("inline:{{ {{ bounces.example.test = {} }},", transport.trim()), "inline:{")
    );
    let postfix = Postfix::start_with(&more);
    let program = Program::start(postfix.port);
    let key = open_directory();
    let key_file = key.path().join("key");
    std::fs::write(&key_file, ADMIN_KEY).expect("the key");
    // Where things are, and who runs them, is another matter on each machine.
    let service = put(&service, "user=nobody", "user=estafette");
    let service = put(&service, &binary().display().to_string(), "/usr/local/bin/estafette");
    let service = put(&service, &key_file.display().to_string(), "/etc/estafette/key");
    let service = put(&service, &format!("inbound --url {}", program.url()), "inbound");
    postfix.add_service(&service);
    send_to_four(&program);
    let until = Instant::now() + PATIENCE;
    loop {
        let report = program.get("/v1/campaigns/spring/report");
        let feedback = &report["deliveries"][0]["feedback"];
        let came = |name: &str| feedback[name] == json!({"unique": 1, "total": 1});
        if ["bounced_hard", "bounced_soft", "bounced_policy"].into_iter().all(came) {
            break;
        }
        assert!(Instant::now() < until, "no bounces in {feedback}\n{}", postfix.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    await_some("the last line of the log", || {
        (postfix.log().matches("via estafette service").count() == 3).then_some(())
    });
    postfix.mailbox(1);
}

#[test]
fn bounces_of_postfix_become_events_and_suppress_who_is_gone() {
    let (postfix, program, mails) = bounced();
    let mut said: Vec<String> = mails
        .iter()
        .map(|mail| {
            let (code, said) = program.pipe(mail);
            assert_eq!(code, Some(0), "{said}\n{}\n{}", String::from_utf8_lossy(mail), postfix.log());
            said
        })
        .collect();
    said.sort();
    let begins =
        ["accepted: bounced hard", "accepted: bounced policy", "accepted: bounced soft", "ignored: it is no report"];
    for (said, begin) in said.iter().zip(begins) {
        assert!(said.starts_with(begin), "{begin}: {said}");
    }
    let report = program.get("/v1/campaigns/spring/report");
    let feedback = &report["deliveries"][0]["feedback"];
    for name in ["bounced_hard", "bounced_soft", "bounced_policy"] {
        assert_eq!(feedback[name], json!({"unique": 1, "total": 1}), "{name}: {feedback}");
    }
    let suppressed = program.get("/v1/suppressions");
    let items = suppressed["items"].as_array().expect("entries");
    assert_eq!(items.len(), 1, "who is full, or refused us, is not suppressed: {suppressed}");
    assert_eq!((&items[0]["contact"], &items[0]["reason"]), (&json!("gone"), &json!("hard_bounce")), "{suppressed}");
    for mail in &mails {
        let (code, said) = program.pipe(mail);
        assert!(code == Some(0) && (said.starts_with("duplicate") || said.starts_with("ignored")), "twice: {said}");
    }
    // The same reports with tokens that somebody made up.
    for mail in &mails {
        let forged = String::from_utf8_lossy(mail).replace("bounce+a", "bounce+b").replace("<a", "<b");
        if forged.contains("delivery-status") {
            let (code, said) = program.pipe(forged.as_bytes());
            assert_eq!(code, Some(65), "forged: {said}");
        }
    }
    assert_eq!(program.get("/v1/suppressions"), suppressed, "and nobody is suppressed by them");
}

/// Takes the machine-readable part apart.
const FIELDS: &str = r#"
import email, email.policy, json, sys
message = email.message_from_bytes(open(sys.argv[1], "rb").read(), policy=email.policy.default)
fields, original = {}, ""
for part in message.walk():
    kind = part.get_content_type()
    if kind in ("message/delivery-status", "message/feedback-report"):
        groups = part.get_payload()
        if isinstance(groups, str):
            groups = [email.message_from_string(groups)]
        for group in groups:
            if not group.keys() and group.get_payload():
                group = email.message_from_string(group.get_payload())
            for name, value in group.items():
                fields.setdefault(name.lower(), " ".join(str(value).split()))
    elif kind == "message/rfc822":
        original = str(part.get_payload(0)["Message-ID"]).strip()
print(json.dumps({"type": message.get_param("report-type"), "fields": fields, "original": original, "to": str(message["To"])}))
"#;

fn by_python(mail: &[u8]) -> Value {
    let directory = open_directory();
    let path = directory.path().join("mail");
    std::fs::write(&path, mail).expect("written");
    let out = run(Command::new(python()).arg("-c").arg(FIELDS).arg(&path), INSTALL);
    serde_json::from_str(&out).expect("JSON of the parser")
}

fn by_us(mail: &[u8]) -> Report {
    match read(mail, None) {
        Ok(Inbound::Report(report)) => report,
        other => panic!("{other:?} of {}", String::from_utf8_lossy(mail)),
    }
}

#[test]
fn what_is_read_of_postfix_reports_is_what_python_reads() {
    let (_postfix, _program, mails) = bounced();
    let mut seen = Vec::new();
    for mail in mails.iter().filter(|mail| String::from_utf8_lossy(mail).contains("delivery-status")) {
        let (theirs, ours) = (by_python(mail), by_us(mail));
        assert_eq!(theirs["type"], "delivery-status", "{theirs}");
        let field = |name: &str| theirs["fields"][name].as_str().unwrap_or_default();
        assert_eq!(field("action"), "failed", "{theirs}");
        let diagnostic = field("diagnostic-code").split_once("; ").map_or("", |(_, text)| text);
        assert_eq!(
            ours.words.split_whitespace().collect::<Vec<_>>().join(" "),
            format!("{} {diagnostic}", field("status"))
        );
        let to = theirs["to"].as_str().unwrap_or_default();
        let original = theirs["original"].as_str().unwrap_or_default().trim_matches(['<', '>']);
        assert_eq!(ours.message_ids, [to, original], "the return path, then the Message-ID: {theirs}");
        seen.push((field("status").to_owned(), ours.happened));
    }
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("5.1.1".to_owned(), Happened::HardBounce),
        ("5.2.2".to_owned(), Happened::SoftBounce),
        ("5.7.1".to_owned(), Happened::PolicyBounce),
    ];
    assert_eq!(seen, expected, "one of each");
}

/// The example of RFC 5965, appendix B.2, with a return path of ours.
fn feedback_report(token: &str) -> String {
    format!(
        "From: <abusedesk@example.com>\r\nDate: Thu, 8 Mar 2005 17:40:36 EDT\r\nSubject: FW: Earn money\r\n\
         To: <abuse@example.net>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report;\r\n     boundary=\"part1_13d.2e68ed54_boundary\"\r\n\r\n\
         --part1_13d.2e68ed54_boundary\r\nContent-Type: text/plain; charset=\"US-ASCII\"\r\n\
         Content-Transfer-Encoding: 7bit\r\n\r\nThis is an email abuse report for an email message\r\n\
         received from IP 192.0.2.1 on Thu, 8 Mar 2005 14:00:00 EDT.\r\n\r\n\
         --part1_13d.2e68ed54_boundary\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\
         User-Agent: SomeGenerator/1.0\r\nVersion: 1\r\nOriginal-Mail-From: <bounce+{token}@bounces.example.test>\r\n\
         Original-Rcpt-To: <user@example.com>\r\nArrival-Date: Thu, 8 Mar 2005 14:00:00 EDT\r\n\
         Reporting-MTA: dns; mail.example.com\r\nSource-IP: 192.0.2.1\r\n\
         Authentication-Results: mail.example.com;\r\n               spf=fail smtp.mail=somespammer@example.com\r\n\
         Reported-Domain: example.net\r\nReported-Uri: http://example.net/earn_money.html\r\n\
         Reported-Uri: mailto:user@example.com\r\nRemoval-Recipient: user@example.com\r\n\r\n\
         --part1_13d.2e68ed54_boundary\r\nContent-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n\
         From: <somespammer@example.net>\r\nReceived: from mailserver.example.net (mailserver.example.net\r\n\
         \u{20}    [192.0.2.1]) by example.com with ESMTP id M63d4137594e46;\r\n     Thu, 08 Mar 2005 14:00:00 -0400\r\n\
         To: <Undisclosed Recipients>\r\nSubject: Earn money\r\nMIME-Version: 1.0\r\nContent-type: text/plain\r\n\
         Message-ID: <{token}@example.net>\r\nDate: Thu, 02 Sep 2004 12:31:03 -0500\r\n\r\nSpam Spam Spam\r\n\r\n\
         --part1_13d.2e68ed54_boundary--\r\n"
    )
}

#[test]
fn what_is_read_of_a_feedback_report_is_what_python_reads() {
    let token = format!("a{}", "bcd2345".repeat(7)).split_at(49).0.to_owned();
    let mail = feedback_report(&token);
    let (theirs, ours) = (by_python(mail.as_bytes()), by_us(mail.as_bytes()));
    assert_eq!(theirs["type"], "feedback-report", "{theirs}");
    let field = |name: &str| theirs["fields"][name].as_str().unwrap_or_default();
    assert_eq!(ours.happened, Happened::Complained);
    assert_eq!(ours.words, format!("{} {}", field("feedback-type"), field("user-agent")), "{theirs}");
    let original = theirs["original"].as_str().unwrap_or_default();
    let ids = [field("original-mail-from"), original].map(|id| id.trim_matches(['<', '>']));
    assert_eq!(ours.message_ids, ids, "{theirs}");
}
