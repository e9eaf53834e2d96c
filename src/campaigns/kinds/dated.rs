//! Time to take a start back: what a person starts with dates of its own in it begins a while (*safety*, five minutes unless the
//! server says otherwise) after that at the earliest, as every dated start: cells of a grid, and variants at moments of their
//! own, by whosever clocks they go. What is started without a date starts at once, and a launch by a schedule was published
//! before.
//!
//! Owns no state; the clock is handed in.

use std::ops::Range;
use std::time::Duration;

use super::{ab_split, multi_segment};
use crate::campaigns::schedule::Launch;
use crate::campaigns::spec::Kind;
use crate::clock::Timestamp;
use crate::flow::delay::Delay as Wait;
use crate::flow::graph::InvalidGraph;
use crate::flow::nodes::Delay;
use crate::flow::{Graph, GraphParts, Node, NodeKind};
use crate::limits;

/// Where the nodes stand that wait for the dates of parts.
fn waits_of(kind: Kind) -> Range<u32> {
    match kind {
        Kind::MultiSegment => multi_segment::WAITS,
        Kind::AbSplit => ab_split::WAITS,
        _ => 0..0,
    }
}

/// The graph as a start at `now` makes it.
pub fn dated(kind: Kind, graph: &Graph, now: Timestamp, safety: Duration) -> Result<Graph, InvalidGraph> {
    let (waits, earliest) = (waits_of(kind), now.plus(safety));
    let mut parts = GraphParts::from(graph.clone());
    let mut last: Option<Timestamp> = None;
    for node in parts.nodes.iter_mut().filter(|node| waits.contains(&node.id.0)) {
        let NodeKind::Delay(delay) = &mut node.kind else { continue };
        last = last.max(delay.due(now));
        if may_be_due_before(delay, now, earliest) {
            *delay = delay.clone().not_before(earliest);
        }
    }
    // The windows of the last variant begin so much later than the deadline was made for.
    let late = last.map_or(Duration::ZERO, |last| earliest.saturating_since(last));
    parts.nodes.iter_mut().for_each(|node| put_off(node, late));
    Graph::new(parts)
}

fn may_be_due_before(delay: &Delay, now: Timestamp, earliest: Timestamp) -> bool {
    match (delay.due(now), delay.clock()) {
        (Some(at), _) => at < earliest,
        // By each contact's own clocks: somewhere it may be that time already.
        (None, Some((Wait::Date(date), _))) => Launch::local(*date).at < earliest,
        (None, clock) => clock.is_some(),
    }
}

fn put_off(node: &mut Node, late: Duration) {
    if let NodeKind::AbTest(test) = &mut node.kind {
        let seconds = u32::try_from(late.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
        let longest = limits::WAIT_SECONDS_MAX.max(test.decide_after_seconds);
        test.decide_after_seconds = test.decide_after_seconds.saturating_add(seconds).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{Compiled, Format, compile, parse};
    use crate::flow::NodeId;
    use crate::flow::nodes::delay::zone_named;

    const SAFETY: Duration = Duration::from_secs(300);

    fn utc(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
    }

    fn compiled(kind: &str, more: &str) -> Compiled {
        let text = format!(
            "name = \"d\"\nkind = \"{kind}\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\n\
             connector = \"relay\"\ntopic = \"news\"\nsubject = \"s\"\n{more}"
        );
        compile(&parse(&text, Format::Toml).expect("it parses")).expect("it compiles")
    }

    /// When who comes at `now` leaves each wait, by the clocks of a zone where they are the contact's own.
    fn due(graph: &Graph, now: Timestamp, zone: &str) -> Vec<String> {
        let delays = graph.nodes().filter_map(|node| match &node.kind {
            NodeKind::Delay(delay) => delay.due(now).or_else(|| delay.due_by(now, &zone_named(zone))),
            _ => None,
        });
        delays.map(|at| at.to_string()).collect()
    }

    fn grid(schedules: [&str; 2]) -> Compiled {
        let [first, second] = schedules;
        compiled(
            "multi_segment",
            &format!(
                "[[dimensions]]\nname = \"d\"\nothers = true\n[[dimensions.segments]]\nname = \"x\"\n\
                 segment = 'key = \"a\"'\n[[cells]]\nwhere = {{ d = \"x\" }}\nschedule = {first}\n\
                 [[cells]]\nschedule = {second}\n"
            ),
        )
    }

    #[test]
    fn a_dated_cell_leaves_time_to_take_the_start_back() {
        let grid = grid(["{ at = \"2026-11-22T12:02\", zone = \"UTC\" }", "{ at = \"2026-11-23T12:00:00Z\" }"]);
        let now = utc("2026-11-22T12:00:00Z");
        let waits = |safety| due(&dated(grid.kind, &grid.graph, now, safety).expect("valid"), now, "UTC");
        assert_eq!(waits(SAFETY), ["2026-11-22T12:05:00Z", "2026-11-23T12:00:00Z"], "five minutes, and as planned");
        assert_eq!(waits(Duration::ZERO), ["2026-11-22T12:02:00Z", "2026-11-23T12:00:00Z"], "a setting");
    }

    #[test]
    fn a_cell_by_each_contacts_own_clocks_does_too() {
        let local = "{ at = \"2026-11-22T13:02\", zone = \"contact\" }";
        let grid = grid([local, "{ at = \"2026-12-24T09:00\", zone = \"contact\" }"]);
        let now = utc("2026-11-22T12:00:00Z");
        let graph = dated(grid.kind, &grid.graph, now, SAFETY).expect("valid");
        let first = |zone| due(&graph, now, zone)[0].clone();
        assert_eq!(first("Europe/Paris"), "2026-11-22T12:05:00Z", "two past one in Paris is in two minutes");
        assert_eq!(first("Asia/Kathmandu"), "2026-11-22T12:05:00Z", "and long over in Kathmandu");
        assert_eq!(first("America/New_York"), "2026-11-22T18:02:00Z", "by the clock where there is time");
        let far = graph.nodes().filter(|node| matches!(node.kind, NodeKind::Delay(Delay::Dated { .. }))).count();
        assert_eq!(far, 1, "a date that is far ahead everywhere stays as it is");
    }

    #[test]
    fn a_variant_at_a_moment_of_its_own_does_and_the_deadline_with_the_last_of_them() {
        let split = |first: &str, second: &str, zone: &str| {
            let test = "sample = \"50%\"\nwindow = \"1h\"\ndecide_after = \"30h\"\n";
            compiled(
                "ab_split",
                &format!(
                    "[[variants]]\nat = \"{first}\"\n[[variants]]\nat = \"{second}\"\n[test]\nzone = \"{zone}\"\n{test}"
                ),
            )
        };
        let now = utc("2026-11-22T12:00:00Z");
        let of = |compiled: &Compiled, zone: &str| {
            let graph = dated(compiled.kind, &compiled.graph, now, SAFETY).expect("valid");
            let Some(NodeKind::AbTest(test)) = graph.node(NodeId(1)).map(|node| node.kind.clone()) else {
                panic!("no test")
            };
            (due(&graph, now, zone), test.decide_after_seconds - 30 * 3_600)
        };
        let times = |a: &str, b: &str| vec![format!("2026-11-{a}Z"), format!("2026-11-{b}Z")];
        let one = split("12:01", "12:02", "UTC");
        assert_eq!(of(&one, "UTC"), (times("22T12:05:00", "22T12:05:00"), 180), "both, and three minutes for the last");
        let other = split("12:01", "18:00", "UTC");
        assert_eq!(of(&other, "UTC"), (times("22T12:05:00", "22T18:00:00"), 0), "the last is as planned");
        let own = split("13:01", "18:00", "contact");
        assert_eq!(of(&own, "Europe/Paris"), (times("22T12:05:00", "22T17:00:00"), 0), "by the own clocks");
    }

    #[test]
    fn other_kinds_have_no_such_dates() {
        let single = compiled("single", "[follow_up]\nafter = \"1d\"\n[follow_up.message]\nsubject = \"again\"\n");
        let graph = dated(single.kind, &single.graph, utc("2026-11-22T12:00:00Z"), SAFETY).expect("valid");
        assert_eq!(graph, single.graph, "untouched");
    }
}
