//! Random flows as a person could write them: every kind of node, branches that merge, loops through a wait.
//!
//! Links lead forward, so that every contact comes to an end; a loop leads back through a wait and lets half of its contacts
//! go each time. The first node is a send, so that what came back may be asked about everywhere behind it.

use crate::rng::Rng;

const HEAD: &str = r#"
name = "sim"
kind = "flow"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
html = '<p><a href="https://shop.test/a">a</a></p>'
"#;

struct Node {
    id: String,
    kind: &'static str,
    keys: String,
    /// Exit (empty: `then`) and target.
    links: Vec<(String, String)>,
}

/// Ids of nodes behind the `at`th of `count`, or an end.
fn later(rng: &mut Rng, at: u64, count: u64) -> String {
    if at + 1 < count && rng.chance(0.8) {
        format!("n{}", rng.between(at + 1, (at + 4).min(count - 1)))
    } else {
        format!("end{}", rng.below(3))
    }
}

fn test(rng: &mut Rng) -> String {
    let expression = format!("segment = \"m{}\"", rng.between(2, 7));
    let asked = [
        expression.as_str(),
        "test = \"delivered\", of = \"n0\"",
        "test = \"opened\", of = \"n0\"",
        "test = \"clicked\", of = \"n0\"",
        "test = \"clicked\", of = \"n0\", links = [\"https://shop.test/a\"]",
        "test = \"unsubscribed\"",
        "test = \"unsubscribed\", topics = [\"news\"]",
        "test = \"complained\"",
        "test = \"engaged\", at_least = 1, within = \"30d\"",
        "test = \"unique\", keep = \"oldest\"",
    ];
    (*rng.pick(&asked).expect("one")).to_owned()
}

fn send(rng: &mut Rng, at: u64, count: u64) -> (String, Vec<(String, String)>) {
    let mut keys = String::new();
    if rng.chance(0.3) {
        keys.push_str("delivery = \"shared\"\n");
    }
    let to = |exit: &str, rng: &mut Rng| (exit.to_owned(), later(rng, at, count));
    let links = match rng.below(3) {
        0 => vec![to("", rng)],
        1 => {
            keys.push_str("on_undelivered = \"end\"\n");
            vec![to("next", rng), to("undelivered", rng)]
        }
        _ => {
            keys.push_str("split_on_open = \"30m\"\n");
            vec![to("opened", rng), to("not_opened", rng)]
        }
    };
    (keys, links)
}

fn split(rng: &mut Rng, at: u64, count: u64) -> (String, Vec<(String, String)>) {
    let keys = match rng.below(4) {
        0 => format!("weights = {{ a = {}, b = {} }}", rng.between(1, 5), rng.between(0, 5)),
        1 => format!("at_most = [{{ exit = \"a\", contacts = {} }}, {{ exit = \"b\", contacts = 9 }}]", rng.below(90)),
        2 => "segments = [{ exit = \"a\", segment = \"m2\" }, { exit = \"b\", segment = \"m3\" }]".to_owned(),
        _ => format!("interactions = [{{ exit = \"a\", {} }}, {{ exit = \"b\", {} }}]", test(rng), test(rng)),
    };
    let exits: &[&str] = if keys.starts_with("weights") { &["a", "b"] } else { &["a", "b", "remaining"] };
    let links = exits.iter().map(|exit| ((*exit).to_owned(), later(rng, at, count))).collect();
    (keys, links)
}

fn node(rng: &mut Rng, at: u64, count: u64, nodes: &mut Vec<Node>) {
    let id = format!("n{at}");
    let to = later(rng, at, count);
    let (kind, keys, links) = match if at == 0 { 0 } else { rng.below(8) } {
        0 | 1 => {
            let (keys, links) = send(rng, at, count);
            ("send", keys, links)
        }
        2 | 3 => {
            let (keys, links) = split(rng, at, count);
            ("split", keys, links)
        }
        4 | 5 => {
            let keys = test(rng).replace(", ", "\n");
            let mut links = vec![("true".to_owned(), to)];
            if rng.chance(0.7) {
                links.push(("false".to_owned(), later(rng, at, count)));
            }
            ("condition", keys, links)
        }
        6 => match rng.below(3) {
            0 => ("delay", format!("for = \"{}m\"", rng.between(1, 3_000)), vec![(String::new(), to)]),
            1 => ("delay", "until = 2026-11-20T00:00:00Z".to_owned(), vec![(String::new(), to)]),
            _ => {
                let keys = format!("event = \"clicked\"\nof = \"n0\"\ntimeout = \"{}m\"", rng.between(1, 900));
                let other = later(rng, at, count);
                ("delay", keys, vec![("happened".to_owned(), to), ("timed_out".to_owned(), other)])
            }
        },
        _ => {
            let back = format!("{id} again");
            let links = vec![("again".to_owned(), id.clone()), ("on".to_owned(), to)];
            nodes.push(Node {
                id: back.clone(),
                kind: "split",
                keys: "weights = { again = 1, on = 1 }".to_owned(),
                links,
            });
            match rng.below(3) {
                // Left early by those who open, whose time-out must not be there when they come back.
                0 => {
                    let keys = format!("event = \"opened\"\nof = \"n0\"\ntimeout = \"{}m\"", rng.between(20, 600));
                    let ways = ["happened", "timed_out"].map(|exit| (exit.to_owned(), back.clone()));
                    ("delay", keys, ways.into())
                }
                _ => ("delay", "for = \"20m\"".to_owned(), vec![(String::new(), back)]),
            }
        }
    };
    nodes.push(Node { id, kind, keys, links });
}

/// The text of a random flow without problems.
pub fn spec(rng: &mut Rng) -> String {
    let count = rng.between(2, 13);
    let mut nodes = vec![Node {
        id: "start".to_owned(),
        kind: "start",
        keys: String::new(),
        links: vec![(String::new(), "n0".to_owned())],
    }];
    for at in 0..count {
        node(rng, at, count, &mut nodes);
    }
    for (at, kind) in [(0, "end"), (1, "end"), (2, "exit")] {
        nodes.push(Node { id: format!("end{at}"), kind, keys: String::new(), links: Vec::new() });
    }
    let mut reached = vec!["start".to_owned()];
    let mut at = 0;
    while at < reached.len() {
        let here = nodes.iter().find(|node| node.id == reached[at]).expect("a node");
        let next: Vec<String> =
            here.links.iter().map(|(_, to)| to.clone()).filter(|to| !reached.contains(to)).collect();
        for to in next {
            if !reached.contains(&to) {
                reached.push(to);
            }
        }
        at += 1;
    }
    let mut text = HEAD.to_owned();
    for node in nodes.iter().filter(|node| reached.contains(&node.id)) {
        text.push_str(&format!("[[nodes]]\nid = \"{}\"\nkind = \"{}\"\n{}\n", node.id, node.kind, node.keys));
        for (exit, to) in &node.links {
            match exit.as_str() {
                "" => text.push_str(&format!("then = \"{to}\"\n")),
                exit => text.push_str(&format!("exits.{exit} = \"{to}\"\n")),
            }
        }
    }
    text
}
