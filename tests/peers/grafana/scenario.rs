//! An engine at work, the real program: imports, a relay, a slow and a faulty provider, a test that is decided, a flow,
//! readers who open, click and opt out, events that come back. It goes on sending while it is looked at.

use std::process::{Command, Stdio};
use std::time::Duration;

use estafette::clock::{Clock, SystemClock, Timestamp};
use mail_parser::MessageParser;
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Process, await_port, free_port, spawn};

/// The key that only `/metrics` takes.
pub const SCRAPE_KEY: &str = "a-key-for-nothing-but-looking-at-figures";
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// Who clicks in the first seconds is taken for a machine.
const BEFORE_READING: Duration = Duration::from_millis(2_500);
/// Messages a second of the slow provider.
const SLOW: u32 = 2;

/// A mail in the embedded inbox.
struct Mail {
    subject: String,
    html: String,
}

pub struct Scenario {
    pub served: Served,
    browser: Client,
    _sink: Process,
}

impl Scenario {
    /// A server that has been up before, so that it has recovered from a snapshot.
    pub fn start() -> Scenario {
        let port = free_port();
        let mut command = Command::new("/usr/sbin/smtp-sink");
        command.args(["-u", "nobody"]).arg(format!("127.0.0.1:{port}")).arg("100").stdout(Stdio::null());
        let sink = spawn(&mut command, "apt-get install postfix");
        await_port(port, "smtp-sink");
        let config = format!(
            "metrics_key = \"{SCRAPE_KEY}\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n\
             [[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
             [[connectors]]\nname = \"inbox\"\nkind = \"inbox\"\n\
             [[connectors]]\nname = \"slow\"\nkind = \"simulated\"\nmessages_per_second = {SLOW}\n\
             [[connectors]]\nname = \"faulty\"\nkind = \"simulated\"\nlatency_max_millis = 30\ndefer_share = 0.1\n\
             hard_bounce_share = 0.1\npolicy_share = 0.02\nlost_after_share = 0.005\n"
        );
        let mut served = Served::start(&config);
        served.people("early", 20, "x.test");
        served.restart();
        let browser = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).user_agent(AGENT);
        Scenario { served, browser: browser.build().expect("a client"), _sink: sink }
    }

    /// Where `/metrics` is.
    pub fn target(&self) -> String {
        self.served.api().trim_start_matches("http://").to_owned()
    }

    /// Everything happens; two campaigns are left running.
    pub fn play(&self) {
        let served = &self.served;
        for (list, count) in [("relayed", 1_500), ("slow", 600), ("faulty", 800), ("split", 40), ("flow", 30)] {
            served.people(list, count, "x.test");
        }
        served.import("key=id&subscribe=email:news&list=faulty", "id,email\nnobody,\nbroken,not an address\n");
        let preview = json!({"expression": "in list \"split\"", "sample": 0});
        served.post("/v1/segments/preview", &preview).expect(200);
        let until = Timestamp(SystemClock::new().now().0 + 3_600_000).to_string();
        for (name, connector, more) in [
            ("slow", "slow", json!({"send_until": until})),
            ("faulty", "faulty", json!({})),
            ("relayed", "relay", json!({})),
            ("split", "inbox", split()),
            ("flow", "inbox", flow()),
        ] {
            served.campaign(name, connector, name, &more);
            served.act(name, "start").expect(200);
        }
        self.read();
        served.await_state("relayed", "finished");
        served.until("the test is decided", || {
            let test = served.report("split")["tests"][0].clone();
            (!test["decision"].is_null()).then_some(())
        });
    }

    /// What readers, scanners and strangers do, and what comes back by other ways.
    fn read(&self) {
        let served = &self.served;
        served.until("the sample and the first step are out", || (self.mails().len() == 20 + 30).then_some(()));
        std::thread::sleep(BEFORE_READING);
        let mails = self.mails();
        let of = |subject: &str| mails.iter().filter(|mail| mail.subject == subject).collect::<Vec<_>>();
        let (plain, better, steps) = (of("Plain"), of("Better"), of("Step"));
        assert_eq!((plain.len(), better.len(), steps.len()), (10, 10, 30), "the sample's halves, and the flow's");
        for (number, mail) in better.iter().take(8).chain(plain.iter().take(1)).enumerate() {
            self.visit(Method::GET, &link(mail, "/o/"), number);
            self.visit(Method::GET, &link(mail, "/c/"), number);
        }
        self.visit(Method::HEAD, &link(steps[0], "/c/"), 100);
        let unsubscribe = link(steps[1], "/u/");
        let answer = self.browser.post(unsubscribe).body("List-Unsubscribe=One-Click").send().expect("an answer");
        assert_eq!(answer.status(), 200, "an opt-out");
        let foreign = link(steps[2], "/c/").replace("/c/", "/c/x");
        assert_eq!(self.browser.get(foreign).send().expect("an answer").status(), 404, "a damaged token");
        let split = self.served.keys("split", "accepted");
        let event = |kind: &str, key: &str| json!({"id": format!("{kind}-{key}"), "type": kind, "contact": key, "campaign": "split"});
        let mut bounced = event("bounced", &split[2]);
        bounced["class"] = json!("soft");
        let events = json!([event("converted", &split[0]), event("complained", &split[1]), bounced]);
        let taken = served.post("/v1/events", &events).expect(200);
        assert_eq!(taken["accepted"], 3, "{taken}");
    }

    fn visit(&self, method: Method, url: &str, reader: usize) {
        // Neighbours in one network would be taken for one machine.
        let from = format!("10.{reader}.{reader}.9");
        let answer = self.browser.request(method, url).header("X-Forwarded-For", from).send().expect("an answer");
        assert!(answer.status().as_u16() < 400, "{url}: {}", answer.status());
    }

    /// Every mail that the inbox holds.
    fn mails(&self) -> Vec<Mail> {
        let inbox = self.served.said("inbox ");
        let get = |path: String| self.browser.get(format!("{inbox}{path}")).send().expect("an answer");
        let mut mails = Vec::new();
        loop {
            let page: Value = get(format!("/mails.json?offset={}", mails.len())).json().expect("a page");
            let lines = page["mails"].as_array().expect("mails");
            if lines.is_empty() {
                return mails;
            }
            for line in lines {
                let source = get(format!("/mails/{}/source", line["id"])).bytes().expect("a mail");
                let mail = MessageParser::default().parse(&source[..]).expect("a mail");
                let html = mail.body_html(0).expect("a body").into_owned();
                mails.push(Mail { subject: mail.subject().unwrap_or_default().to_owned(), html });
            }
        }
    }
}

/// The first address in a mail with this path.
fn link(mail: &Mail, path: &str) -> String {
    let at = mail.html.find(path).unwrap_or_else(|| panic!("no {path} in {}", mail.html));
    let start = mail.html[..at].rfind('"').expect("a quote") + 1;
    mail.html[start..].split('"').next().expect("an end").to_owned()
}

fn split() -> Value {
    json!({
        "kind": "ab_split",
        "variants": [{"name": "A", "subject": "Plain"}, {"name": "B", "subject": "Better"}],
        "test": {
            "sample": "50%", "winner_by": "clicks", "decide_after": "20s", "window": "10s", "looks": 4,
            "min_delivered": 5, "min_events": 1,
        },
    })
}

fn flow() -> Value {
    json!({
        "kind": "flow",
        "nodes": [
            {"id": "start", "kind": "start", "then": "step"},
            {"id": "step", "kind": "send", "then": "wait", "message": {"subject": "Step"}},
            {"id": "wait", "kind": "delay", "for": "3d", "then": "done"},
            {"id": "done", "kind": "end"},
        ],
    })
}
