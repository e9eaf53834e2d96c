//! Tests of variants on the program itself: simulated readers over the real tracking endpoints, and everything that must
//! agree with what they did: the verdict, the report, the metrics, the ledger, the timeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mail_parser::MessageParser;
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value as Json, json};

use crate::served::{Served, file};

mod grids;
mod moments;
mod pauses;
mod streams;

/// Readers say from where they come; many people behind one address would be a machine.
const INBOX: &str = "trusted_proxies = [\"127.0.0.1/32\"]\n[[connectors]]\nname = \"relay\"\nkind = \"inbox\"\n";
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// Nobody reads a mail in its first seconds; who does is taken for a machine.
const BEFORE_READING: Duration = Duration::from_millis(2_300);

/// A mail in the embedded inbox.
struct Mail {
    to: String,
    subject: String,
    open: String,
    click: String,
}

struct Readers {
    http: Client,
    mails: Vec<Mail>,
    visits: u32,
}

impl Readers {
    /// Takes out every mail that the inbox holds.
    fn new(served: &Served) -> Readers {
        let policy = reqwest::redirect::Policy::none();
        let http = Client::builder().no_proxy().redirect(policy).user_agent(AGENT).build().expect("a client");
        let inbox = served.said("inbox ");
        let mut mails = Vec::new();
        let mut seen = 0;
        loop {
            let page: Json = http.get(format!("{inbox}/mails.json?offset={seen}")).send().unwrap().json().unwrap();
            let lines = page["mails"].as_array().expect("mails");
            if lines.is_empty() {
                return Readers { http, mails, visits: 0 };
            }
            seen += lines.len();
            for line in lines {
                let source = http.get(format!("{inbox}/mails/{}/source", line["id"])).send().unwrap().bytes().unwrap();
                let mail = MessageParser::default().parse(&source[..]).expect("a mail");
                let html = mail.body_html(0).expect("a body").into_owned();
                let link = |path: &str| {
                    let at = html.find(path).unwrap_or_else(|| panic!("{path} in {html}"));
                    let start = html[..at].rfind('"').expect("a quote") + 1;
                    html[start..].split('"').next().expect("an end").to_owned()
                };
                mails.push(Mail {
                    to: line["to"].as_str().expect("a recipient").to_owned(),
                    subject: mail.subject().unwrap_or_default().to_owned(),
                    open: link("/o/"),
                    click: link("/c/"),
                });
            }
        }
    }

    fn of(&self, subject: &str) -> Vec<usize> {
        let mut found: Vec<usize> = (0..self.mails.len()).filter(|at| self.mails[*at].subject == subject).collect();
        found.sort_by_key(|at| self.mails[*at].to.clone());
        found
    }

    fn visit(&mut self, method: Method, url: &str) {
        self.visits += 1;
        let [_, b, c, d] = self.visits.to_be_bytes();
        // Neighbours in one network would be taken for one machine.
        let from = format!("{}.{c}.{b}.9", 10 + d % 200);
        let answer = self.http.request(method, url).header("X-Forwarded-For", from).send().expect("an answer");
        assert!(answer.status().as_u16() < 400, "{url}: {}", answer.status());
    }

    fn click(&mut self, at: usize) {
        let url = self.mails[at].click.clone();
        self.visit(Method::GET, &url);
    }

    fn open(&mut self, at: usize) {
        let url = self.mails[at].open.clone();
        self.visit(Method::GET, &url);
    }

    /// As a scanner does.
    fn scan(&mut self, at: usize) {
        let url = self.mails[at].click.clone();
        self.visit(Method::HEAD, &url);
    }
}

/// Value of a sample: the labels must all be there.
fn metric(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let line = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")))
        .find(|line| wanted.iter().all(|label| line.contains(label.as_str())));
    let line = line.unwrap_or_else(|| panic!("{name} {labels:?} in\n{text}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

fn metrics(served: &Served) -> String {
    let answer = served.call(Method::GET, "/metrics", &Json::Null);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text
}

fn arm<'j>(test: &'j Json, name: &str) -> &'j Json {
    let arms = test["arms"].as_array().expect("arms");
    arms.iter().find(|arm| arm["name"] == name).unwrap_or_else(|| panic!("{name} in {test}"))
}

fn variants(test: &Json) -> Json {
    json!({
        "kind": "ab_split",
        "variants": [{"name": "A", "subject": "Plain"}, {"name": "B", "subject": "Better"}],
        "test": test,
    })
}

/// Waits until the sample is out; the test then.
fn sampled(served: &Served, campaign: &str, contacts: u64) -> Json {
    served.until("the sample is out", || {
        let test = served.report(campaign)["tests"][0].clone();
        let sent: u64 = test["arms"].as_array().into_iter().flatten().filter_map(|arm| arm["accepted"].as_u64()).sum();
        (sent == contacts).then_some(test)
    })
}

fn decided(served: &Served, campaign: &str) -> Json {
    served.until("the test is decided", || {
        let test = served.report(campaign)["tests"][0].clone();
        (!test["decision"].is_null()).then_some(test)
    })
}

#[test]
fn verdict_report_metrics_and_ledger_say_what_the_readers_did() {
    let mut served = Served::start(INBOX);
    served.people("p", 400, "x.test");
    let test = json!({
        "sample": "50%", "winner_by": "clicks", "decide_after": "60s", "window": "25s", "looks": 6,
        "min_delivered": 50, "min_events": 5,
    });
    served.campaign("truth", "relay", "p", &variants(&test));
    served.act("truth", "start").expect(200);
    let before = sampled(&served, "truth", 200);
    assert_eq!(before["window_seconds"], 25, "{before}");
    assert_eq!(arm(&before, "A")["matured"], 0, "nobody's window is over yet: {before}");
    std::thread::sleep(BEFORE_READING);
    let mut readers = Readers::new(&served);
    let (plain, better) = (readers.of("Plain"), readers.of("Better"));
    assert_eq!((plain.len(), better.len()), (100, 100), "exact halves of the sample");
    // Of A: ten click, thirty are only scanned. Of B: fifty click, three of them twice; all open.
    let clicks: Vec<usize> = plain[..10].iter().chain(&better[..50]).copied().collect();
    clicks.iter().for_each(|at| readers.click(*at));
    better[..3].iter().for_each(|at| readers.click(*at));
    plain[10..40].iter().for_each(|at| readers.scan(*at));
    better[..20].iter().for_each(|at| readers.open(*at));
    let clicked: BTreeSet<String> = clicks.iter().map(|at| readers.mails[*at].to.clone()).collect();

    let test = decided(&served, "truth");
    let counts = |name: &str| {
        let arm = arm(&test, name);
        ["accepted", "matured", "events", "machine", "suspect"].map(|count| arm[count].as_u64().expect("a count"))
    };
    assert_eq!(counts("A"), [100, 100, 10, 30, 0], "machines are shown and never count: {test}");
    assert_eq!(counts("B"), [100, 100, 50, 0, 0], "who clicks twice counts once: {test}");
    assert_eq!(test["verdict"], "proven", "{test}");
    let effect = &test["effect"];
    assert_eq!((&effect["leader"], &effect["other"]), (&json!("B"), &json!("A")), "{effect}");
    assert!((effect["difference"].as_f64().expect("a number") - 0.4).abs() < 1e-9, "{effect}");
    assert!(effect["interval"][0].as_f64().expect("a number") > 0.25, "{effect}");
    assert!(effect["p"].as_f64().expect("a number") < 1e-6, "{effect}");
    let decision = &test["decision"];
    assert_eq!((&decision["winner"], &decision["basis"]), (&json!("B"), &json!("proven")), "{decision}");
    let share = arm(&test, "A")["machine_share"].as_f64().expect("a share");
    assert!((share - 30.0 / 40.0).abs() < 1e-9, "{test}");

    let report = served.await_state("truth", "finished");
    // The windows are long over: it counts for the message, and not for the test.
    readers.click(plain[60]);
    let after = served.until("the late click is in the report", || {
        let report = served.report("truth");
        (report["deliveries"][0]["messages"][0]["clicked"]["unique"] == 11).then_some(report)
    });
    assert_eq!(arm(&after["tests"][0], "A")["events"], 10, "a decision keeps its figures");
    assert_eq!(report["ledger"]["accepted"], 400, "the rest got the winner");

    let text = metrics(&served);
    let of_test = |variant: &str, set: &str| {
        let labels = [("campaign", "truth"), ("node", "n1"), ("variant", variant), ("set", set)];
        metric(&text, "estafette_campaign_test_contacts", &labels)
    };
    for (variant, counts) in [("A", [100, 100, 10, 30, 0]), ("B", [100, 100, 50, 0, 0])] {
        let found = ["accepted", "matured", "events", "machine", "suspect"].map(|set| of_test(variant, set));
        assert_eq!(found, counts.map(f64::from), "metrics of {variant} are the verdict's counters");
    }
    let of_message = |name: &str, variant: &str, event: &str, class: &str| {
        metric(&text, name, &[("variant", variant), ("event", event), ("class", class)])
    };
    let unique = "estafette_campaign_message_unique_contacts";
    assert_eq!(of_message(unique, "A", "click", "human"), 11.0, "uniques of A");
    assert_eq!(of_message(unique, "B", "click", "human"), 50.0, "uniques of B");
    assert_eq!(of_message(unique, "B", "open", "human"), 20.0, "opens of B");
    let total = "estafette_campaign_message_events";
    assert_eq!(of_message(total, "B", "click", "human"), 53.0, "three clicked twice");
    assert_eq!(of_message(total, "A", "click", "machine"), 30.0, "every scan is a machine's");
    assert_eq!(metric(&text, "estafette_campaign_test_winner", &[("variant", "B")]), 1.0, "the winner");
    assert_eq!(metric(&text, "estafette_campaign_test_state", &[("state", "decided")]), 1.0, "decided");
    assert!(metric(&text, "estafette_campaign_test_effect_ratio", &[("node", "n1")]) > 0.39, "the effect");
    assert_eq!(metric(&text, "estafette_campaign_node_moved_contacts", &[("node", "n1")]), 400.0, "through the test");

    // The ledger's set of those who clicked: everybody who did, and the late one.
    let keys: BTreeSet<String> = served.keys("truth", "clicked").into_iter().map(|k| format!("{k}@x.test")).collect();
    let mut expected = clicked;
    expected.insert(readers.mails[plain[60]].to.clone());
    assert_eq!(keys, expected, "contact by contact");

    let times = served.get("/v1/campaigns/truth/report/timeline");
    let sum = |count: &str| -> u64 {
        times["buckets"].as_array().expect("buckets").iter().filter_map(|bucket| bucket[count].as_u64()).sum()
    };
    assert_eq!([sum("accepted"), sum("clicked"), sum("clicks"), sum("opened")], [400, 61, 64, 20], "{times}");

    // Nothing of it is memory: after a restart all is the same.
    served.restart();
    let again = served.report("truth");
    assert_eq!(again["tests"], after["tests"], "the same test");
    assert_eq!(served.get("/v1/campaigns/truth/report/timeline"), times, "the same times");
    csv_says_the_same(&served);
}

fn csv_says_the_same(served: &Served) {
    let csv = served.cli(&["report", "truth", "--format", "csv"]).expect(0);
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("section,delivery,item,name,measure,value"), "{csv}");
    let wanted = [
        "ledger,,,,accepted,400",
        "message,0,0,A,clicked_unique,11",
        "message,0,1,B,clicked_total,53",
        "link,0,1:0,https://shop.example.test/a,clicked_unique,50",
        "test,,n1,A,machine,30",
        "test,,n1,B,events,50",
        "test,,n1,,verdict,proven",
        "test,,n1,,winner,B",
        "end,,n2,end,rate,1",
    ];
    for line in wanted {
        assert!(csv.lines().any(|found| found == line), "{line} in\n{csv}");
    }
    let times = served.cli(&["campaign", "timeline", "truth", "--bucket", "1d", "--format", "csv"]).expect(0);
    let column = |at: usize| -> u64 {
        times
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(at).expect("a cell").parse::<u64>().expect("a count"))
            .sum()
    };
    assert_eq!([column(1), column(3), column(4)], [400, 20, 61], "accepted, opened, clicked over all days:\n{times}");
    let people = served.cli(&["report", "truth"]).expect(0);
    for words in ["winner: B, decided by engine", "10 with events", "p = 0.0000", "machines: 75 %"] {
        assert!(people.contains(words), "{words:?} in\n{people}");
    }
}

#[test]
fn who_cannot_get_a_variant_is_counted_in_its_arm_and_a_broken_sample_waits_for_a_person() {
    let served = Served::start(INBOX);
    let mut csv = String::from("id,email,n\n");
    for i in 0..600 {
        csv.push_str(&format!("q{i},q{i}@x.test,{}\n", i % 2));
    }
    assert_eq!(served.import("key=id&subscribe=email:news&list=q", csv)["accepted"], 600);
    // B cannot be made for every second contact: its arm is far from its half.
    let fails = "{% if contact.n == 1 %}{{ range(99999999) }}{% endif %}Better";
    let more = json!({
        "kind": "ab_split",
        "variants": [{"name": "A", "subject": "Plain"}, {"name": "B", "subject": fails}],
        "test": {"sample": "50%", "decide_after": "4s", "window": "1s"},
    });
    served.campaign("uneven", "relay", "q", &more);
    served.act("uneven", "start").expect(200);
    let test = served.until("a person must choose", || {
        let test = served.report("uneven")["tests"][0].clone();
        (!test["waits_for_person"].is_null()).then_some(test)
    });
    assert_eq!(test["verdict"], "sample broken", "{test}");
    let b = arm(&test, "B");
    let (accepted, skipped) = (b["accepted"].as_u64().expect("a count"), b["skipped"].as_u64().expect("a count"));
    assert_eq!((accepted + skipped, b["matured"].as_u64()), (150, Some(accepted)), "{b}");
    assert!((50..=100).contains(&skipped), "about half: {b}");
    assert_eq!(arm(&test, "A")["accepted"], 150, "{test}");
    assert!(
        metrics(&served)
            .contains("estafette_campaign_test_state{campaign=\"uneven\",node=\"n1\",state=\"waits_for_person\"} 1")
    );
    let chosen = served.cli(&["campaign", "choose-winner", "uneven", "A", "--by", "ann", "--json"]).json(0);
    assert_eq!(
        (&chosen["decision"]["basis"], &chosen["decision"]["by"]),
        (&json!("person"), &json!("ann")),
        "{chosen}"
    );
    let report = served.await_state("uneven", "finished");
    assert_eq!(report["ledger"]["skipped_by"]["render_failed"], skipped, "{}", report["ledger"]);
    let again = served.post("/v1/campaigns/uneven/choose-winner", &json!({"variant": "B"}));
    again.refused("no_choice", "finished");
}

#[test]
fn a_test_that_cannot_be_judged_is_refused_before_it_starts() {
    let served = Served::start(INBOX);
    served.people("r", 3, "x.test");
    let check = |test: &Json, count: usize| {
        let variants: Vec<Json> = (0..count).map(|i| json!({"subject": format!("s{i}")})).collect();
        let spec = json!({
            "name": "c", "kind": "ab_split", "audience": {"list": "r"}, "variants": variants, "test": test,
            "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "a@x.test",
                "subject": "s", "text": "t"},
        });
        let found = served.post("/v1/campaigns/check", &spec).expect(200);
        let codes = found["problems"].as_array().expect("problems").iter();
        codes.map(|problem| problem["code"].as_str().expect("a code").to_owned()).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(check(&json!({}), 2), none, "defaults are sound");
    assert_eq!(check(&json!({}), 26), none, "twenty-six variants");
    assert_eq!(check(&json!({"winner_by": "conversions", "goal": "purchase"}), 2), none, "a goal");
    for (test, count, code) in [
        (json!({}), 1, "arms"),
        (json!({}), 27, "arms"),
        (json!({"decide_after": "2h", "window": "2h"}), 2, "window"),
        (json!({"window": "soon"}), 2, "bad_length"),
        (json!({"sample": "120%"}), 2, "sample"),
        (json!({"looks": 21}), 2, "looks"),
        (json!({"goal": "purchase"}), 2, "goal"),
        (json!({"if_not_proven": "Z"}), 2, "unknown_variant"),
    ] {
        assert_eq!(check(&test, count), [code], "{test}, {count} variants");
    }
}

#[test]
fn deliveries_are_compared_side_by_side() {
    let served = Served::start(INBOX);
    served.people("s", 120, "x.test");
    for (name, subject) in [("one", "One"), ("two", "Two")] {
        served.campaign(name, "relay", "s", &json!({}));
        let patch = json!({"message": {"subject": subject}});
        served.call(Method::PATCH, &format!("/v1/campaigns/{name}"), &patch).expect(200);
        served.act(name, "start").expect(200);
        served.await_state(name, "finished");
    }
    std::thread::sleep(BEFORE_READING);
    let mut readers = Readers::new(&served);
    let (one, two) = (readers.of("One"), readers.of("Two"));
    one[..12].iter().for_each(|at| readers.click(*at));
    two[..48].iter().for_each(|at| readers.click(*at));
    let runs: BTreeMap<&str, Json> =
        ["one", "two"].map(|name| (name, served.report(name)["run"].clone())).into_iter().collect();
    let path = format!("/v1/compare?runs={},{}:0", runs["one"], runs["two"]);
    let found = served.get(&path);
    let [first, second] = &found["deliveries"].as_array().expect("two")[..] else { panic!("{found}") };
    assert_eq!((&first["name"], &first["clicked"]["contacts"]), (&json!("one"), &json!(12)), "{first}");
    assert_eq!((&second["delivery"], &second["clicked"]["rate"]), (&json!(0), &json!(0.4)), "{second}");
    let difference = found["differences"].as_array().expect("differences");
    let clicked = difference.iter().find(|d| d["of"] == "clicked").unwrap_or_else(|| panic!("{found}"));
    assert!((clicked["difference"].as_f64().expect("a number") - 0.3).abs() < 1e-9, "{clicked}");
    assert!(clicked["p"].as_f64().expect("a number") < 0.001, "{clicked}");
    let text = served.cli(&["campaign", "compare", "one", "two"]).expect(0);
    assert!(text.contains("12 (10.00 %)") && text.contains("48 (40.00 %)") && text.contains("+30.00"), "{text}");
    let csv = served.cli(&["campaign", "compare", "one", "two:0", "--format", "csv"]).expect(0);
    assert!(csv.starts_with("measure,delivery_0,delivery_1\n") && csv.contains("\nclicked,12,48\n"), "{csv}");
    let get = |path: &str| served.call(Method::GET, path, &Json::Null);
    get("/v1/compare?runs=1").refused("invalid_parameter", "2 to 20");
    get("/v1/compare?runs=1,999").refused("run_not_found", "999");
    get("/v1/compare?runs=1,spring").refused("invalid_parameter", "spring");
    get(&format!("/v1/compare?runs={},{}:7", runs["one"], runs["two"])).refused("invalid_parameter", "delivery 7");
    get("/v1/campaigns/one/report?format=ndjson").refused("invalid_parameter", "csv");
    get("/v1/campaigns/one/report/timeline?bucket=often").refused("invalid_parameter", "often");
}

/// Contacts of the sample by the subject that they got.
fn keys_of(readers: &Readers, subject: &str) -> Vec<String> {
    let mails = readers.of(subject).into_iter().map(|at| readers.mails[at].to.clone());
    mails.map(|to| to.split('@').next().expect("a key").to_owned()).collect()
}

#[test]
fn a_goal_decides_and_a_variant_that_people_complain_of_cannot_win() {
    let served = Served::start(INBOX);
    served.people("w", 400, "x.test");
    let test = json!({
        "sample": "50%", "winner_by": "conversions", "goal": "purchase", "decide_after": "24s", "window": "12s",
        "looks": 2, "min_delivered": 50, "min_events": 5,
    });
    served.campaign("goal", "relay", "w", &variants(&test));
    served.act("goal", "start").expect(200);
    sampled(&served, "goal", 200);
    let readers = Readers::new(&served);
    let (plain, better) = (keys_of(&readers, "Plain"), keys_of(&readers, "Better"));
    let event = |kind: &str, contact: &str| json!({"id": format!("{kind}-{contact}"), "type": kind, "contact": contact, "campaign": "goal"});
    let mut events: Vec<Json> = Vec::new();
    events.extend(plain[..20].iter().map(|key| event("purchase", key)));
    events.extend(better[..60].iter().map(|key| event("purchase", key)));
    // Another goal than the test's, and an event of before.
    events.extend(plain[20..90].iter().map(|key| event("converted", key)));
    events.extend(better[60..80].iter().map(|key| event("complained", key)));
    let taken = served.post("/v1/events", &json!(events)).expect(200);
    let refused = taken["refused"].as_u64().unwrap_or(0);
    assert_eq!(refused, 0, "{taken}");
    let test = decided(&served, "goal");
    let (a, b) = (arm(&test, "A"), arm(&test, "B"));
    assert_eq!((&a["events"], &b["events"]), (&json!(20), &json!(60)), "the goal's events alone: {test}");
    assert_eq!((&a["complained"], &b["complained"]), (&json!(0), &json!(20)), "{test}");
    let decision = &test["decision"];
    assert_eq!((&decision["winner"], &decision["proven"]), (&json!("A"), &json!(false)), "B may not win: {test}");
    assert_eq!(decision["basis"], "leader", "at the deadline, by the setting: {decision}");
    let reason = decision["reason"].as_str().expect("a reason");
    assert!(reason.contains("B cannot win: 20 complaints of 100"), "and it says why: {reason}");
    assert_eq!((&a["cannot_win"], &b["cannot_win"]), (&json!([]), &json!(["complaints"])), "{test}");
    let text = served.cli(&["report", "goal"]).expect(0);
    assert!(text.contains("it cannot win: significantly more complaints"), "{text}");
    assert_eq!(test["verdict"], "leading, not proven", "{test}");
    assert_eq!(test["goal"], "purchase", "{test}");
    let report = served.await_state("goal", "finished");
    let times = served.get("/v1/campaigns/goal/report/timeline?bucket=1w");
    let sum = |count: &str| -> u64 {
        times["buckets"].as_array().expect("buckets").iter().filter_map(|bucket| bucket[count].as_u64()).sum()
    };
    assert_eq!([sum("complained"), sum("converted")], [20, 70], "{times}");
    assert_eq!(report["ledger"]["balanced"], true, "{report}");
    let compared = served.get(&format!("/v1/compare?runs={0},{0}:0", report["run"]));
    assert_eq!(compared["deliveries"][0]["converted"]["contacts"], 70, "{compared}");
}
