use super::super::super::compile::compile;
use super::super::super::parse::{Format, parse};
use super::super::super::validate;
use super::*;
use crate::clock::Timestamp;
use crate::flow::nodes::condition::{Did, Engaged};
use crate::flow::nodes::{Condition, Split, Test};
use crate::flow::{GraphFormat, NodeKind, render};
use crate::ids::Channel;

pub(super) const HEAD: &str = r#"
name = "journey"
kind = "flow"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "News <news@example.test>"
text = "T"
"#;

const WELCOME: &str = r#"
[[nodes]]
id = "start"
kind = "start"
then = "welcome"
[[nodes]]
id = "welcome"
kind = "send"
name = "Welcome mail"
split_on_open = "5d"
exits = { opened = "happy", not_opened = "shares" }
[nodes.message]
subject = "Welcome"
[[nodes]]
id = "shares"
kind = "split"
weights = { a = 1, b = 3 }
exits = { a = "remind", b = "gone" }
[[nodes]]
id = "remind"
kind = "send"
delivery = "second"
on_undelivered = "end"
then = "clicked?"
message = { subject = "Again", topic = "offers" }
[[nodes]]
id = "clicked?"
kind = "condition"
test = "clicked"
of = "welcome"
exits = { true = "happy" }
[[nodes]]
id = "happy"
kind = "end"
as = "success"
[[nodes]]
id = "gone"
kind = "exit"
[[nodes]]
id = "why"
kind = "note"
on = "shares.a"
text = "a quarter is enough"
author = "Ann"
date = 2026-11-22
"#;

struct Known;

impl Names for Known {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000)
    }
    fn connectors(&self) -> Vec<(String, Channel)> {
        vec![("relay".into(), Channel::Email), ("texts".into(), Channel::Sms)]
    }
    fn lists(&self) -> Vec<String> {
        Vec::new()
    }
    fn campaign_name_taken(&self, _: &str) -> bool {
        false
    }
    fn expression_problems(&self, path: &str, expression: &str) -> Vec<Problem> {
        let wrong = expression.contains('!');
        wrong.then(|| Problem::error("invalid_segment", path, "unexpected \"!\"", "write not")).into_iter().collect()
    }
    fn links(&self, _: &MessageFields) -> Option<Vec<String>> {
        Some(vec!["https://shop.test/a".to_owned(), "https://shop.test/b".to_owned()])
    }
}

fn found(nodes: &str) -> Vec<Problem> {
    validate::problems(&parse(&format!("{HEAD}{nodes}"), Format::Toml).expect(nodes), &Known)
}

/// Code, path and node of each problem.
fn told(nodes: &str) -> Vec<(&'static str, String, String)> {
    found(nodes).into_iter().map(|p| (p.code, p.path, p.node.unwrap_or_default())).collect()
}

fn compiled(nodes: &str) -> crate::campaigns::Compiled {
    compile(&parse(&format!("{HEAD}{nodes}"), Format::Toml).expect(nodes)).expect(nodes)
}

#[test]
fn a_flow_compiles_to_its_graph_with_a_delivery_per_send() {
    assert_eq!(told(WELCOME), [], "nothing is wrong with it");
    let compiled = compiled(WELCOME);
    let graph = &compiled.graph;
    let expected = "\
start (start)
  next → welcome Welcome mail (send, delivery 0, message 0)
    next → welcome.split_on_open Welcome mail: opened? (wait for opened welcome, at most 5d)
      happened → happy (end, success)
      timed_out → shares (split by weights)
        note: on a: a quarter is enough (Ann, 2026-11-22)
        a → remind (send, delivery 1, message 1)
          next → clicked? (condition, clicked welcome)
            false → clicked?.false clicked?: false (end, neutral)
            true → see happy
          undelivered → remind.undelivered remind: undelivered (end, neutral)
        b → gone (end, exit)
    undelivered → welcome.undelivered Welcome mail: undelivered (end, neutral)
";
    assert_eq!(render(graph, GraphFormat::Text, None), expected, "as people read it");
    assert!(compiled.all_walk, "everybody enters");
    let names: Vec<_> = compiled.deliveries.iter().map(|d| (d.name.as_str(), d.topic.as_str(), d.on_arrival)).collect();
    assert_eq!(names, [("welcome", "news", true), ("second", "offers", true)], "each send has its own");
    assert_eq!(compiled.messages[1].fields["subject"], "Again", "its message is laid over the campaign's");
    assert_eq!(compiled.messages[1].fields["text"], "T", "which it has in common");
    let value: serde_json::Value = serde_json::from_str(&render(graph, GraphFormat::Json, None)).expect("JSON");
    assert_eq!(value["nodes"][1]["id"], "welcome", "{value:#}");
    assert_eq!(value["notes"][0]["on"], "shares.a", "{value:#}");
}

#[test]
fn nodes_keep_their_numbers_in_every_version() {
    let first = compiled(WELCOME).graph;
    let other = WELCOME.replace("weights = { a = 1, b = 3 }", "weights = { a = 1, b = 1 }");
    let moved: String = other
        .split("[[nodes]]")
        .skip(1)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .fold(String::new(), |all, node| format!("{all}[[nodes]]{node}\n"));
    let second = compiled(&moved).graph;
    for node in first.nodes() {
        assert_eq!(second.key(node.id), first.key(node.id), "{}", node.name);
    }
    let bytes = rmp_serde::to_vec(&first).expect("bytes");
    let back: crate::flow::Graph = rmp_serde::from_slice(&bytes).expect("reads");
    assert_eq!(back, first, "the ids are journaled with the graph");
}

#[test]
fn sends_that_name_one_delivery_share_it() {
    let nodes = WELCOME.replace("split_on_open = \"5d\"", "delivery = \"second\"\nthen = \"shares\"");
    let nodes = nodes.replace("exits = { opened = \"happy\", not_opened = \"shares\" }\n", "");
    let early: (&str, String, String) = ("asked_at_once", "nodes.4".into(), "clicked?".into());
    let differs = ("delivery_differs", "nodes.3.delivery".into(), "remind".into());
    assert_eq!(told(&nodes), [early.clone(), differs], "of one topic");
    let same = nodes.replace(", topic = \"offers\"", "");
    assert_eq!(told(&same), [early], "a warning, nothing else");
    let compiled = compiled(&same);
    assert_eq!(compiled.deliveries.len(), 1, "one delivery");
    let of_graph: Vec<_> = compiled.graph.sends_of(0).collect();
    assert_eq!(compiled.deliveries[0].sends.iter().map(|s| s.node).collect::<Vec<_>>(), of_graph, "both sends");
}

#[test]
fn every_kind_of_question_is_read() {
    let ask = |keys: &str| {
        let node = format!("[[nodes]]\nid = \"q\"\nkind = \"condition\"\n{keys}\nexits = {{ true = \"end\" }}\n");
        let nodes = format!(
            "[[nodes]]\nid=\"start\"\nkind=\"start\"\nthen=\"m\"\n[[nodes]]\nid=\"m\"\nkind=\"send\"\nthen=\"w\"\n\
             message={{subject=\"S\"}}\n[[nodes]]\nid=\"w\"\nkind=\"delay\"\nfor=\"1d\"\nthen=\"q\"\n{node}\
             [[nodes]]\nid=\"end\"\nkind=\"end\"\n"
        );
        assert_eq!(told(&nodes), [], "{keys}");
        let graph = compiled(&nodes).graph;
        let NodeKind::Condition(Condition { test }) = &graph.node(ids::of_text("q")).expect("q").kind else {
            panic!("{keys}: no condition");
        };
        test.clone()
    };
    let send = ids::of_text("m");
    let engaged = Engaged { did: Did::Clicked, messages: 3, within_days: 28 };
    let link = "https://shop.test/a".to_owned();
    for (keys, expected) in [
        ("segment = 'age > 3'", Test::Matches("age > 3".into())),
        ("test = \"delivered\"\nof = \"m\"", Test::Delivered(send)),
        ("test = \"opened\"\nof = \"m\"", Test::Opened(send)),
        ("test = \"clicked\"\nof = \"m\"", Test::Clicked(send)),
        (
            "test = \"clicked\"\nof = \"m\"\nlinks = [\"https://shop.test/a\"]",
            Test::ClickedLinks { send, links: vec![link] },
        ),
        ("test = \"unsubscribed\"", Test::Unsubscribed),
        ("test = \"unsubscribed\"\ntopics = [\"news\"]", Test::UnsubscribedFrom(vec!["news".into()])),
        ("test = \"complained\"", Test::Complained),
        ("test = \"engaged\"\ndid = \"clicked\"\nat_least = 3\nwithin = \"4w\"", Test::Engaged(engaged)),
        ("test = \"unique\"", Test::Unique(Default::default())),
    ] {
        assert_eq!(ask(keys), expected, "{keys}");
    }
}

#[test]
fn every_kind_of_split_is_read() {
    let kinds: [(&str, &str, Split); 3] = [
        (
            "at_most = [{ exit = \"x\", contacts = 5 }]",
            "exits = { x = \"happy\", remaining = \"gone\" }",
            Split::AtMost(vec![(crate::flow::Exit("x".into()), 5)]),
        ),
        (
            "segments = [{ exit = \"x\", segment = 'age > 3' }]",
            "exits = { x = \"gone\" }",
            Split::Segments(vec![(crate::flow::Exit("x".into()), "age > 3".into())]),
        ),
        (
            "interactions = [{ exit = \"x\", test = \"opened\", of = \"welcome\" }]",
            "exits = { x = \"gone\" }",
            Split::Interactions(vec![(crate::flow::Exit("x".into()), Test::Opened(ids::of_text("welcome")))]),
        ),
    ];
    for (keys, exits, expected) in kinds {
        let nodes = WELCOME
            .replace("weights = { a = 1, b = 3 }", keys)
            .replace("exits = { a = \"remind\", b = \"gone\" }", exits)
            .replace("on = \"shares.a\"", "");
        let wrong: Vec<_> =
            found(&nodes).into_iter().filter(|p| !["unreachable", "asks_before_the_send"].contains(&p.code)).collect();
        assert!(wrong.is_empty(), "{keys}: {wrong:?}");
        let parts = assemble(&parse(&format!("{HEAD}{nodes}"), Format::Toml).expect(keys), &mut Vec::new()).parts;
        let split = parts.nodes.iter().find(|node| node.name == "shares").map(|node| node.kind.clone());
        assert_eq!(split, Some(NodeKind::Split(expected)), "{keys}");
    }
}

/// What to replace in the welcome flow, with what; code, path and node of all that is then wrong.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str, &'static str)]);

const BROKEN: &[Case] = &[
    ("id = \"gone\"", "", &[("no_node_id", "nodes.6.id", ""), ("unknown_node", "nodes.2.exits.b", "shares")]),
    (
        "id = \"gone\"",
        "id = \"go.ne\"",
        &[("bad_node_id", "nodes.6.id", "go.ne"), ("unknown_node", "nodes.2.exits.b", "shares")],
    ),
    (
        "id = \"gone\"",
        "id = \"happy\"",
        &[("duplicate_node", "nodes.6.id", "happy"), ("unknown_node", "nodes.2.exits.b", "shares")],
    ),
    ("kind = \"exit\"", "kind = \"exot\"", &[("unknown_kind", "nodes.6.kind", "gone")]),
    ("kind = \"exit\"", "", &[("no_kind", "nodes.6.kind", "gone")]),
    ("kind = \"exit\"", "kind = \"exit\"\nthen = \"happy\"", &[("no_next", "nodes.6.then", "gone")]),
    ("kind = \"exit\"", "kind = \"exit\"\nmessage = { subject = \"x\" }", &[("wrong_key", "nodes.6.message", "gone")]),
    ("then = \"welcome\"", "then = \"wellcome\"", &[("unknown_node", "nodes.0.then", "start")]),
    (
        "then = \"welcome\"",
        "then = \"start\"",
        &[
            ("unreachable", "nodes", ""),
            ("link_into_trigger", "nodes.0", "start"),
            ("cycle_without_wait", "nodes.0", "start"),
        ],
    ),
    ("then = \"welcome\"", "then = \"why\"", &[("link_into_note", "nodes.7", "why")]),
    ("kind = \"start\"", "kind = \"start\"\ncolour = \"red\"", &[("unknown_key", "nodes.0.colour", "start")]),
    ("split_on_open = \"5d\"", "split_on_open = \"29m\"", &[("bad_split_on_open", "nodes.1.split_on_open", "welcome")]),
    ("split_on_open = \"5d\"", "split_on_open = \"31d\"", &[("bad_split_on_open", "nodes.1.split_on_open", "welcome")]),
    ("split_on_open = \"5d\"", "split_on_open = \"soon\"", &[("bad_length", "nodes.1.split_on_open", "welcome")]),
    ("split_on_open = \"5d\"", "split_on_open = \"5d\"\nthen = \"happy\"", &[("no_next", "nodes.1.then", "welcome")]),
    ("opened = \"happy\", ", "", &[("dangling_exit", "nodes.1", "welcome")]),
    ("opened = \"happy\", ", "opened = \"happy\", other = \"happy\", ", &[("unknown_exit", "nodes.1", "welcome")]),
    (
        "subject = \"Welcome\"",
        "connector = \"relais\"\nsubject = \"S\"",
        &[("unknown_connector", "nodes.1.message.connector", "welcome")],
    ),
    (
        "subject = \"Welcome\"",
        "connector = \"texts\"\nsubject = \"S\"",
        &[("wrong_channel", "nodes.1.message.connector", "welcome")],
    ),
    ("subject = \"Welcome\"", "", &[("no_subject", "nodes.1.message.subject", "welcome")]),
    ("weights = { a = 1, b = 3 }", "weights = { a = 0, b = 0 }", &[("no_share", "nodes.2", "shares")]),
    ("weights = { a = 1, b = 3 }", "", &[("split_by", "nodes.2", "shares")]),
    ("weights = { a = 1, b = 3 }", "weights = { a = 1, b = -3 }", &[("unreadable", "nodes.2.weights.b", "shares")]),
    ("of = \"welcome\"", "of = \"gone\"", &[("asks_about_no_send", "nodes.4", "clicked?")]),
    ("of = \"welcome\"", "of = \"nobody\"", &[("unknown_node", "nodes.4.of", "clicked?")]),
    ("of = \"welcome\"", "", &[("no_send_named", "nodes.4.of", "clicked?")]),
    ("of = \"welcome\"", "of = \"welcome\"\nby = \"email\"", &[("wrong_key", "nodes.4", "clicked?")]),
    (
        "of = \"welcome\"",
        "of = \"welcome\"\nlinks = [\"https://shop.test/c\"]",
        &[("unknown_link", "nodes.4", "clicked?")],
    ),
    ("of = \"welcome\"", "of = \"remind\"", &[("asked_at_once", "nodes.4", "clicked?")]),
    ("test = \"clicked\"\nof = \"welcome\"", "", &[("no_test", "nodes.4.test", "clicked?")]),
    ("test = \"clicked\"\nof = \"welcome\"", "segment = 'a!'", &[("invalid_segment", "nodes.4.segment", "clicked?")]),
    ("test = \"clicked\"\nof = \"welcome\"", "segment = ' '", &[("no_expression", "nodes.4", "clicked?")]),
    (
        "test = \"clicked\"\nof = \"welcome\"",
        "test = \"unsubscribed\"\ntopics = [\"sports\"]",
        &[("topic_not_sent", "nodes.4", "clicked?")],
    ),
    ("test = \"clicked\"\nof = \"welcome\"", "test = \"engaged\"", &[("no_length", "nodes.4.within", "clicked?")]),
    (
        "test = \"clicked\"\nof = \"welcome\"",
        "test = \"engaged\"\nwithin = \"5h\"",
        &[("bad_length", "nodes.4.within", "clicked?")],
    ),
    (
        "test = \"clicked\"\nof = \"welcome\"",
        "test = \"engaged\"\nwithin = \"9d\"\nat_least = 0",
        &[("engaged_messages", "nodes.4", "clicked?")],
    ),
    ("on = \"shares.a\"", "on = \"shares.c\"", &[("note_on_nothing", "nodes.7", "why")]),
    (
        "exits = { true = \"happy\" }",
        "exits = { true = \"remind\" }",
        &[
            ("cycle_without_wait", "nodes.3", "remind"),
            ("cycle_without_wait", "nodes.4", "clicked?"),
            ("send_in_a_cycle", "nodes.3", "remind"),
        ],
    ),
];

#[test]
fn each_fault_has_its_code_and_names_its_node() {
    for (right, wrong, expected) in BROKEN {
        assert!(WELCOME.contains(right), "{right}");
        let nodes = WELCOME.replacen(right, wrong, 1);
        let mut all: Vec<_> = found(&nodes);
        all.retain(|problem| problem.code != "unreachable" || expected.iter().any(|(code, ..)| *code == "unreachable"));
        let all_told: Vec<(&str, &str, &str)> =
            all.iter().map(|p| (p.code, p.path.as_str(), p.node.as_deref().unwrap_or_default())).collect();
        let mut all_sorted: Vec<_> = all_told.into_iter().filter(|told| told.0 != "unreachable").collect();
        let mut expected: Vec<_> = expected.iter().copied().filter(|told| told.0 != "unreachable").collect();
        all_sorted.sort_unstable();
        expected.sort_unstable();
        assert_eq!(all_sorted, expected, "{right:?} → {wrong:?}");
        assert!(all.iter().all(|p| !p.fix.is_empty() && !p.message.is_empty()), "each says what to do: {wrong:?}");
    }
}

/// Ten mistakes of every sort in one flow.
const TANGLED: &str = r#"
[[nodes]]
id = "start"
kind = "start"
then = "welcom"
[[nodes]]
id = "welcome"
kind = "sned"
split_on_opne = "5d"
exits = { opened = "q", not_opened = "nowhere at all" }
message = { subject = "S", connector = "relais" }
[[nodes]]
id = "q"
kind = "condition"
test = "clickd"
of = "welcome"
at_least = "three"
exits = { true = "pause" }
[[nodes]]
id = "pause"
kind = "delay"
for = "soon"
[[nodes]]
kind = "end"
as = "succes"
[[nodes]]
id = "island"
kind = "exit"
[[nodes]]
id = "test"
kind = "ab_test"
variants = { a = 1 }
continuing = true
looks = 3
sample = "20%"
"#;

#[test]
fn what_cannot_be_made_hides_no_rule_that_is_broken_elsewhere() {
    let mut all = told(TANGLED);
    all.sort();
    let expected = [
        ("bad_length", "nodes.3.for", "pause"),
        ("no_node_id", "nodes.4.id", ""),
        ("unknown_connector", "nodes.1.message.connector", "welcome"),
        ("unknown_key", "nodes.1.split_on_opne", "welcome"),
        ("unknown_kind", "nodes.1.kind", "welcome"),
        ("unknown_node", "nodes.0.then", "start"),
        ("unknown_node", "nodes.1.exits.not_opened", "welcome"),
        ("unknown_word", "nodes.2.test", "q"),
        ("unknown_word", "nodes.4.as", ""),
        ("unreachable", "nodes.5", "island"),
        ("unreachable", "nodes.6", "test"),
        ("wrong_key", "nodes.6.looks", "test"),
        ("wrong_key", "nodes.6.sample", "test"),
        ("wrong_type", "nodes.2.at_least", "q"),
    ];
    assert_eq!(all, expected.map(|(code, path, node)| (code, path.to_owned(), node.to_owned())), "all at once");
}

#[test]
fn a_flow_needs_nodes_and_a_send_and_has_no_tables_of_other_kinds() {
    assert_eq!(told(""), [("no_nodes", "nodes".into(), String::new())], "nothing");
    let nothing = "[[nodes]]\nid=\"a\"\nkind=\"start\"\nthen=\"b\"\n[[nodes]]\nid=\"b\"\nkind=\"end\"\n";
    assert_eq!(told(nothing), [("no_send", "nodes".into(), String::new())], "nothing is sent");
    let follow_up = format!("{WELCOME}\n[follow_up]\nafter = \"5d\"\n");
    assert_eq!(told(&follow_up), [("wrong_kind", "follow_up".into(), String::new())], "of other kinds");
    let single =
        format!("{}{WELCOME}", HEAD.replace("kind = \"flow\"", "subject = \"S\"")).replace("subject = \"S\"", "");
    let spec = parse(&single, Format::Toml).expect("parses");
    let codes: Vec<_> = validate::problems(&spec, &Known).into_iter().map(|p| (p.code, p.path)).collect();
    assert!(codes.contains(&("wrong_kind", "nodes".to_owned())), "nodes belong to flows: {codes:?}");
}

#[test]
fn what_does_not_compile_says_where() {
    let nodes = WELCOME.replace("kind = \"exit\"", "kind = \"exot\"");
    let error = compile(&parse(&format!("{HEAD}{nodes}"), Format::Toml).expect("parses")).expect_err("an unknown kind");
    assert!(error.to_string().contains("nodes.6.kind") && error.to_string().contains("exot"), "{error}");
}

#[test]
fn a_send_has_an_end_of_its_own_and_dates_at_a_change_of_clocks_are_told() {
    let ended = WELCOME.replace("delivery = \"second\"", "delivery = \"second\"\nsend_until = 2030-01-01T00:00:00Z");
    assert_eq!(told(&ended), [], "ahead");
    let deliveries = compiled(&ended).deliveries;
    let ends: Vec<Option<String>> = deliveries.iter().map(|plan| plan.send_until.map(|at| at.to_string())).collect();
    assert_eq!(ends, [None, Some("2030-01-01T00:00:00Z".to_owned())], "of this send alone");
    let past = ended.replace("2030-01-01", "2020-01-01");
    assert_eq!(told(&past), [("send_until_past", "nodes.3.send_until".into(), "remind".into())]);
    let shared =
        WELCOME.replace("split_on_open", "delivery = \"second\"\nsend_until = 2030-01-01T00:00:00Z\nsplit_on_open");
    let shared = shared.replace(", topic = \"offers\"", "");
    let expected = [("delivery_differs", "nodes.3.send_until".into(), "remind".into())];
    assert_eq!(told(&shared), expected, "one delivery, two ends");
    let clocks = WELCOME.replace("then = \"clicked?\"", "then = \"wait\"")
        + "[[nodes]]\nid = \"wait\"\nkind = \"delay\"\ndate = 2027-03-28T02:30:00\nzone = \"Europe/Paris\"\nthen = \"clicked?\"\n";
    assert_eq!(told(&clocks), [("time_skipped", "nodes.8".into(), "wait".into())], "half past two is not");
}

#[test]
fn shares_in_per_cent_add_up() {
    let shares = |text: &str| WELCOME.replace("weights = { a = 1, b = 3 }", &format!("weights = {{ {text} }}"));
    let whole = shares("a = \"12.5%\", b = \"87.5%\"");
    assert_eq!(told(&whole), [], "100 % in all");
    let split = compiled(&whole).graph.nodes().find_map(|node| match &node.kind {
        NodeKind::Split(Split::Weights(weights)) => Some(weights.iter().map(|(_, weight)| *weight).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(split, Some(vec![1_250, 8_750]), "hundredths of a per cent");
    for (text, code, path) in [
        ("a = \"60%\", b = \"60%\"", "shares_total", "nodes.2.weights"),
        ("a = \"60%\", b = \"30%\"", "shares_total", "nodes.2.weights"),
        ("a = \"60%\", b = 40", "bad_share", "nodes.2.weights"),
        ("a = \"60 per cent\", b = \"40%\"", "bad_share", "nodes.2.weights.a"),
    ] {
        assert_eq!(told(&shares(text)), [(code, path.to_owned(), "shares".to_owned())], "{text}");
    }
    assert!(found(&shares("a = \"60%\", b = \"60%\""))[0].message.contains("120%"), "says what they make");

    let test = |keys: &str| {
        let node = format!("id = \"shares\"\nkind = \"ab_test\"\n{keys}\nexits = {{ a = \"remind\", b = \"gone\" }}\n");
        let first = WELCOME.find("id = \"shares\"").expect("the split");
        let behind = first + WELCOME[first..].find("[[nodes]]").expect("the next");
        format!("{}{node}{}", &WELCOME[..first], &WELCOME[behind..]).replace("on = \"shares.a\"", "on = \"remind\"")
    };
    let fractions = test("variants = { a = \"10%\", b = \"5%\" }");
    let blocking = |text: &str| {
        let blocks = found(text).into_iter().filter(Problem::blocks).map(|problem| problem.code);
        blocks.collect::<Vec<_>>()
    };
    assert!(blocking(&fractions).is_empty(), "{:?}", found(&fractions));
    let tested = compiled(&fractions).graph.nodes().find_map(|node| match &node.kind {
        NodeKind::AbTest(test) => Some((test.sample, test.arms.iter().map(|arm| arm.weight).collect::<Vec<_>>())),
        _ => None,
    });
    assert_eq!(tested, Some((crate::flow::nodes::SampleSize::Share(1_500), vec![1_000, 500])), "fractions of all");
    for keys in [
        "variants = { a = \"10%\", b = \"5%\" }\nsample = \"20%\"",
        "variants = { a = \"80%\", b = \"30%\" }",
        "variants = { a = \"10%\", b = \"5%\" }\ncontinuing = true",
    ] {
        assert_eq!(blocking(&test(keys)), ["shares_total"], "{keys}");
    }
}
