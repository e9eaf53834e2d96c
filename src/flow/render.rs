//! A graph for people and programs: indented text, a Mermaid flowchart, or JSON.
//!
//! Invariants:
//! 1. The same graph and counts give the same bytes.
//! 2. A name can never break out of its place, whatever it holds.
//!
//! What it must not know: what a delivery or a message is; names of nodes come with the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::json;

use super::delay;
use super::graph::{Graph, Node, NodeId, NodeKind};
use super::nodes::{Delay, DelayZone, Note, NoteOn, SampleSize, Test};
use super::step::Positions;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GraphFormat {
    #[default]
    Text,
    Mermaid,
    Json,
}

impl GraphFormat {
    pub const ALL: [GraphFormat; 3] = [GraphFormat::Text, GraphFormat::Mermaid, GraphFormat::Json];

    pub fn name(self) -> &'static str {
        match self {
            GraphFormat::Text => "text",
            GraphFormat::Mermaid => "mermaid",
            GraphFormat::Json => "json",
        }
    }

    pub fn from_name(name: &str) -> Option<GraphFormat> {
        GraphFormat::ALL.into_iter().find(|f| f.name() == name)
    }
}

/// The graph in a format; with `positions`, each node also says how many contacts are there. Ends with a newline.
pub fn render(graph: &Graph, format: GraphFormat, positions: Option<&Positions>) -> String {
    match format {
        GraphFormat::Text => text(graph, positions),
        GraphFormat::Mermaid => mermaid(graph, positions),
        GraphFormat::Json => as_json(graph, positions),
    }
}

/// What a node does, in a few words.
pub fn describe(graph: &Graph, node: &Node) -> String {
    match &node.kind {
        NodeKind::Start => "start".to_owned(),
        NodeKind::Send { delivery, message, .. } => format!("send, delivery {delivery}, message {message}"),
        NodeKind::AbTest(test) if test.continuing() => format!(
            "continuing test of all who come, by {}, looked at every {}",
            test.metric.name(),
            length(test.look_every_seconds)
        ),
        NodeKind::AbTest(test) => {
            let sample = match test.sample {
                SampleSize::Share(basis) => format!("{}.{:02} %", basis / 100, basis % 100),
                SampleSize::Contacts(count) => format!("{count} contacts"),
            };
            format!("test of {sample}, by {}, after {}", test.metric.name(), length(test.decide_after_seconds))
        }
        NodeKind::Split(split) => split.name().to_owned(),
        NodeKind::Condition(condition) => format!("condition, {}", asked(graph, &condition.test)),
        NodeKind::Delay(Delay::Seconds(seconds)) => format!("wait {}", length(*seconds)),
        NodeKind::Delay(Delay::Until(at)) => format!("wait until {}", crate::clock::Timestamp(*at)),
        NodeKind::Delay(Delay::Event { event, seconds }) => {
            let of = event.send().map_or(String::new(), |send| format!(" {}", graph.key(send)));
            format!("wait for {}{of}, at most {}", printable(event.name()), length(*seconds))
        }
        NodeKind::Step(gate) => format!("starts {}", crate::clock::Timestamp(gate.effective)),
        NodeKind::SetAttribute(set) => format!("sets {} to {}", set.attribute, set.value()),
        NodeKind::Delay(Delay::Clock { wait, zone }) => format!("wait {}", by_clock(wait, zone)),
        NodeKind::Delay(Delay::Dated { wait, zone, not_before }) => {
            format!("wait {}, not before {}", by_clock(wait, zone), crate::clock::Timestamp(*not_before))
        }
        NodeKind::Delay(Delay::Launch) => "wait until the launch's time, by each contact's clocks".to_owned(),
        NodeKind::End { kind } => format!("end, {}", kind.name()),
    }
}

/// A length of time as it is written in a spec, in the largest unit that it is whole in.
fn length(seconds: u32) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let whole = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

fn by_clock(wait: &delay::Delay, zone: &DelayZone) -> String {
    let by = match zone {
        DelayZone::Named(name) => format!("in {}", printable(name)),
        DelayZone::Contact => "by each contact's clocks".to_owned(),
    };
    match wait {
        delay::Delay::Period(period) => format!("{period}, {by}"),
        delay::Delay::Weekdays { days, at } => format!("until {days} {at}, {by}"),
        delay::Delay::Date(date) => format!("until {date}, {by}"),
        delay::Delay::Moment(moment) => match moment.first {
            Some(first) => format!("until {first}, then {} {}, {by}", moment.days, moment.time),
            None => format!("until {} {}, {by}", moment.days, moment.time),
        },
    }
}

/// E-mail has no receipts.
const DELIVERED: &str = " (accepted and not bounced so far)";

fn asked(graph: &Graph, test: &Test) -> String {
    let mut words = test.name().to_owned();
    let details = [test.send().map(|send| graph.key(send)), Some(test.detail()).filter(|detail| !detail.is_empty())];
    for more in details.into_iter().flatten() {
        put(&mut words, format_args!(" {}", printable(&more)));
    }
    if matches!(test, Test::Delivered(_)) {
        words.push_str(DELIVERED);
    }
    words
}

/// Id and name; once, where people gave the id and no other name.
fn label(graph: &Graph, node: &Node) -> String {
    let key = graph.key(node.id);
    if key == node.name { printable(&key) } else { format!("{} {}", printable(&key), printable(&node.name)) }
}

/// Each node once, where the start first leads to it; a later link to it says "see".
fn text(graph: &Graph, positions: Option<&Positions>) -> String {
    let mut out = String::new();
    let mut next: BTreeMap<NodeId, Vec<(String, NodeId)>> = BTreeMap::new();
    for (from, exit, to) in graph.edges() {
        next.entry(from).or_default().push((exit.name().to_owned(), to));
    }
    let mut shown = BTreeSet::new();
    let mut open = vec![(graph.start(), 0usize, String::new())];
    while let Some((id, depth, by)) = open.pop() {
        let Some(node) = graph.node(id) else { continue };
        let indent = "  ".repeat(depth);
        let arrow = if by.is_empty() { String::new() } else { format!("{} → ", printable(&by)) };
        if !shown.insert(id) {
            put(&mut out, format_args!("{indent}{arrow}see {}\n", printable(&graph.key(id))));
            continue;
        }
        let count = positions.map_or(String::new(), |p| format!(" · {} contacts", p.count(id)));
        let (label, what) = (label(graph, node), describe(graph, node));
        put(&mut out, format_args!("{indent}{arrow}{label} ({what}){count}\n"));
        for note in graph.notes().iter().filter(|note| hangs_on(&note.on, id)) {
            put(&mut out, format_args!("{indent}  note: {}\n", note_line(note)));
        }
        let exits = next.get(&id).into_iter().flatten().rev();
        open.extend(exits.map(|(exit, to)| (*to, depth + 1, exit.clone())));
    }
    for note in graph.notes().iter().filter(|note| note.on == NoteOn::Flow) {
        put(&mut out, format_args!("note: {}\n", note_line(note)));
    }
    out
}

fn hangs_on(on: &NoteOn, node: NodeId) -> bool {
    matches!(on, NoteOn::Node(id) | NoteOn::Branch(id, _) if *id == node)
}

fn note_line(note: &Note) -> String {
    let by: Vec<&str> = [&note.author, &note.date].into_iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
    let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
    let branch = if let NoteOn::Branch(_, exit) = &note.on { format!("on {exit}: ") } else { String::new() };
    printable(&format!("{branch}{}{by}", note.text))
}

fn mermaid(graph: &Graph, positions: Option<&Positions>) -> String {
    let mut out = String::from("flowchart TD\n");
    for node in graph.nodes() {
        let count = positions.map_or(String::new(), |p| format!("<br>{} contacts", p.count(node.id)));
        let label = format!("{}<br>{}{count}", mermaid_text(&node.name), mermaid_text(&describe(graph, node)));
        let (left, right) = match node.kind {
            NodeKind::Start => ("([", "])"),
            NodeKind::Send { .. } => ("[", "]"),
            NodeKind::AbTest(_) | NodeKind::Split(_) | NodeKind::Condition(_) => ("{", "}"),
            NodeKind::Delay(_) | NodeKind::Step(_) => ("[/", "/]"),
            NodeKind::SetAttribute(_) => ("[[", "]]"),
            NodeKind::End { .. } => ("((", "))"),
        };
        put(&mut out, format_args!("  {}{left}\"{label}\"{right}\n", node.id));
    }
    for (from, exit, to) in graph.edges() {
        put(&mut out, format_args!("  {from} -->|\"{}\"| {to}\n", mermaid_text(exit.name())));
    }
    for note in graph.notes() {
        put(&mut out, format_args!("  {}>\"{}\"]\n", note.id, mermaid_text(&note_line(note))));
        if let NoteOn::Node(on) | NoteOn::Branch(on, _) = &note.on
            && graph.node(*on).is_some()
        {
            put(&mut out, format_args!("  {} -.- {on}\n", note.id));
        }
    }
    out
}

fn as_json(graph: &Graph, positions: Option<&Positions>) -> String {
    let nodes: Vec<_> = graph
        .in_reading_order()
        .into_iter()
        .map(|node| {
            let mut value = json!({ "id": graph.key(node.id), "name": node.name, "kind": node.kind.name() });
            match &node.kind {
                NodeKind::Start => {}
                NodeKind::Send { delivery, message, .. } => {
                    value["delivery"] = json!(delivery);
                    value["message"] = json!(message);
                }
                NodeKind::AbTest(_)
                | NodeKind::Split(_)
                | NodeKind::Condition(_)
                | NodeKind::Delay(_)
                | NodeKind::Step(_)
                | NodeKind::SetAttribute(_) => value["parameters"] = json!(node.kind),
                NodeKind::End { kind } => value["end"] = json!(kind.name()),
            }
            if let Some(positions) = positions {
                value["contacts"] = json!(positions.count(node.id));
            }
            value
        })
        .collect();
    let edges: Vec<_> = graph
        .edges()
        .map(|(from, exit, to)| json!({ "from": graph.key(from), "exit": exit.name(), "to": graph.key(to) }))
        .collect();
    let mut whole = json!({ "nodes": nodes, "edges": edges });
    if !graph.notes().is_empty() {
        whole["notes"] = graph.notes().iter().map(|note| note_json(graph, note)).collect();
    }
    format!("{whole:#}\n")
}

fn note_json(graph: &Graph, note: &Note) -> serde_json::Value {
    let mut value = json!({ "id": graph.key(note.id), "text": note.text, "author": note.author, "date": note.date });
    match &note.on {
        NoteOn::Flow => {}
        NoteOn::Node(node) => value["on"] = json!(graph.key(*node)),
        NoteOn::Branch(node, exit) => value["on"] = json!(format!("{}.{exit}", graph.key(*node))),
    }
    value
}

fn put(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(arguments);
    debug_assert!(written.is_ok(), "a string takes all");
}

fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Mermaid's own escape: `#` and a character's number (or name) and `;`.
fn mermaid_text(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            '"' | '#' | '<' | '>' | '&' | ';' | '`' | '\\' | '|' | '[' | ']' | '(' | ')' | '{' | '}' => {
                put(&mut out, format_args!("#{};", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::single;
    use super::super::graph::{EndKind, Exit, GraphParts};
    use super::super::step::enter;
    use super::*;

    fn graph() -> Graph {
        Graph::new(single()).expect("valid")
    }

    #[test]
    fn text_shows_each_node_under_the_one_that_leads_to_it() {
        let expected =
            "n0 start (start)\n  next → n1 send (send, delivery 0, message 0)\n    next → n2 end (end, neutral)\n";
        assert_eq!(render(&graph(), GraphFormat::Text, None), expected);
    }

    #[test]
    fn counts_are_shown_when_asked_for() {
        let mut positions = Positions::default();
        enter(&graph(), &mut positions, &(0..5).collect()).expect("enters");
        for format in GraphFormat::ALL {
            let with = render(&graph(), format, Some(&positions));
            assert!(with.contains('5') && with.contains("contacts"), "{}: {with}", format.name());
            assert!(!render(&graph(), format, None).contains("contacts"), "{}", format.name());
        }
    }

    #[test]
    fn json_reads_back() {
        let value: serde_json::Value = serde_json::from_str(&render(&graph(), GraphFormat::Json, None)).expect("JSON");
        assert_eq!(value["nodes"][1]["message"], 0, "message of the send");
        assert_eq!(value["nodes"][2]["end"], "neutral", "kind of the end");
        assert_eq!(value["edges"][1], json!({ "from": "n1", "exit": "next", "to": "n2" }), "edge");
    }

    #[test]
    fn a_hostile_name_stays_inside_its_label() {
        let mut parts = single();
        parts.nodes[1].name = "a\"]\nn9[\"<script>|#".to_owned();
        let graph = Graph::new(parts).expect("names are free");
        let mermaid = render(&graph, GraphFormat::Mermaid, None);
        assert_eq!(mermaid.lines().count(), 6, "one line a node and edge: {mermaid}");
        assert!(mermaid.contains("a#34;#93; n9#91;#34;#60;script#62;#124;#35;"), "escaped: {mermaid}");
        assert_eq!(render(&graph, GraphFormat::Text, None).lines().count(), 3, "text keeps its lines");
    }

    #[test]
    fn a_node_where_branches_merge_is_shown_once() {
        let mut parts = GraphParts::default();
        let start = parts.node(NodeId(0), "start", NodeKind::Start);
        let end = parts.node(NodeId(1), "end", NodeKind::End { kind: EndKind::Success });
        parts.edge(start, Exit::NEXT, end);
        let graph = Graph::new(parts).expect("valid");
        assert_eq!(render(&graph, GraphFormat::Text, None).matches("n1 end").count(), 1);
    }

    #[test]
    fn lengths_are_shown_as_people_write_them() {
        let shown = [0, 59, 60, 5_400, 14_400, 432_000, 86_401].map(length);
        assert_eq!(shown, ["0s", "59s", "1m", "90m", "4h", "5d", "86401s"]);
    }

    #[test]
    fn formats_are_found_by_name() {
        for format in GraphFormat::ALL {
            assert_eq!(GraphFormat::from_name(format.name()), Some(format));
        }
        assert_eq!(GraphFormat::from_name("dot"), None);
    }
}
