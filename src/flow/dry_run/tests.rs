use jiff::tz::Offset;

use super::*;
use crate::flow::graph::{EndKind, GraphParts};
use crate::flow::nodes::StepGate;
use crate::flow::nodes::ab_test::{Arm, Metric, NotProven, SampleSize};

/// A base in which rows 0 to 3 live an hour east of Greenwich.
struct Base;

impl Today for Base {
    type Error = SplitError;

    fn matching(&self, _: &str) -> Result<RoaringBitmap, SplitError> {
        Ok(RoaringBitmap::new())
    }

    fn sendable(&self, _: u16, rows: &RoaringBitmap) -> Result<RoaringBitmap, SplitError> {
        Ok(rows.clone())
    }

    fn engaged(&self, _: &Engaged) -> Result<RoaringBitmap, SplitError> {
        Ok(RoaringBitmap::new())
    }

    fn zones(&self, _: &RoaringBitmap) -> Result<Vec<ZoneSet>, SplitError> {
        Ok(vec![ZoneSet { zone: TimeZone::fixed(Offset::constant(1)), rows: (0..4).collect() }])
    }

    fn unique(&self, _: &Unique, rows: &RoaringBitmap, _: &RoaringBitmap) -> Result<RoaringBitmap, SplitError> {
        Ok(rows.clone())
    }
}

fn parts(kinds: &[NodeKind]) -> GraphParts {
    let mut parts = GraphParts::default();
    for (at, kind) in kinds.iter().enumerate() {
        parts.node(NodeId(at as u32), format!("node {at}"), kind.clone());
    }
    parts
}

fn walked(parts: GraphParts, assumed: &Assumed) -> DryRun {
    let graph = Graph::new(parts).expect("a valid graph");
    dry_run(&graph, (0..10).collect(), 0, &Base, assumed).expect("a dry run")
}

fn all(count: u64) -> Count {
    Count { at_least: count, at_most: count }
}

const END: NodeKind = NodeKind::End { kind: EndKind::Neutral };

#[test]
fn a_step_waits_for_its_date_and_a_launch_for_each_contacts_clocks() {
    let gate = StepGate { planned: 4_000_000, effective: 5_000_000, ..StepGate::default() };
    let graph = || {
        let mut parts = parts(&[NodeKind::Start, NodeKind::Step(gate), NodeKind::Delay(Delay::Launch), END, END]);
        for (from, exit, to) in [(0, Exit::NEXT, 1), (1, Exit::NEXT, 2), (2, Exit::NEXT, 3), (2, delay::LATE, 4)] {
            parts.edge(NodeId(from), exit, NodeId(to));
        }
        parts
    };
    let local = "1970-01-01T02:00".parse().expect("a time");
    let mut launch = LocalLaunch { local, default_zone: TimeZone::UTC, too_late_ms: Some(1_000_000) };
    let found = walked(graph(), &Assumed { launch: Some(launch.clone()), ..Assumed::default() });
    let arrivals = |found: &DryRun, node| found.nodes[&NodeId(node)].arrivals.clone();
    assert_eq!(arrivals(&found, 2), [(5_000_000, all(10))], "the step starts when it is effective");
    assert_eq!(arrivals(&found, 3), [(7_200_000, all(6))], "two o'clock of those without a zone");
    assert_eq!(arrivals(&found, 4), [(5_000_000, all(4))], "in the east it was two o'clock for too long");

    launch.too_late_ms = None;
    let found = walked(graph(), &Assumed { launch: Some(launch), ..Assumed::default() });
    assert_eq!(arrivals(&found, 3), [(5_000_000, all(4)), (7_200_000, all(6))], "nobody is too late");
    let found = walked(graph(), &Assumed::default());
    assert_eq!(arrivals(&found, 3), [(5_000_000, all(10))], "started at one instant for all");
}

#[test]
fn a_step_waits_for_all_who_are_before_it_and_says_when_that_is_too_late() {
    let gate = |effective, too_late_ms| {
        NodeKind::Step(StepGate { planned: effective, effective, too_late_ms, ..StepGate::default() })
    };
    let halves = Split::Weights(vec![(Exit("a".into()), 1), (Exit("b".into()), 1)]);
    let wait = NodeKind::Delay(Delay::Seconds(100));
    let walk = |limit| {
        let mut parts =
            parts(&[NodeKind::Start, NodeKind::Split(halves.clone()), wait.clone(), gate(50_000, limit), END]);
        let (a, b) = (Exit("a".into()), Exit("b".into()));
        for (from, exit, to) in [(0, Exit::NEXT, 1), (1, a, 2), (1, b, 3), (2, Exit::NEXT, 3), (3, Exit::NEXT, 4)] {
            parts.edge(NodeId(from), exit, NodeId(to));
        }
        walked(parts, &Assumed::default())
    };
    let found = walk(Some(60_000));
    assert_eq!(found.nodes[&NodeId(4)].arrivals, [(100_000, all(10))], "shifted until the other branch is through");
    assert!(found.held.is_empty(), "within its limit");
    assert_eq!(
        walk(Some(40_000)).held.into_iter().collect::<Vec<_>>(),
        [NodeId(3)],
        "beyond its limit a person starts it"
    );
}

#[test]
fn a_continuing_test_takes_everybody_through_its_arms() {
    let arm = |name: &'static str| Arm { exit: Exit(name.into()), weight: 1 };
    let test = AbTest {
        arms: vec![arm("A"), arm("B")],
        sample: SampleSize::Share(2_000),
        metric: Metric::Clicks,
        decide_after_seconds: 3_600,
        looks: 4,
        not_proven: NotProven::Leader,
        min_delivered: 500,
        min_events: 40,
        window_seconds: 1_800,
        goal: None,
        moments: false,
        look_every_seconds: 3_600,
    };
    let mut parts = parts(&[NodeKind::Start, NodeKind::AbTest(test), END, END]);
    for (from, exit, to) in [(0, Exit::NEXT, 1), (1, Exit("A".into()), 2), (1, Exit("B".into()), 3)] {
        parts.edge(NodeId(from), exit, NodeId(to));
    }
    let found = walked(parts, &Assumed::default());
    let contacts = |node| found.nodes[&NodeId(node)].contacts;
    assert_eq!((contacts(2), contacts(3)), (all(5), all(5)), "half each, and no rest");
}
