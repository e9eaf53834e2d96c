//! Whether a test fits the way in which its contacts come. Warnings: either test works, and another would do better.

use super::{GraphProblem, View, problem};
use crate::flow::graph::NodeKind;

/// A test of one set cuts its sample from those who come first, and lets the others wait for the winner; where contacts come
/// over time, all of them can be tested on. Where they all come at once, a continuing test leaves nobody for the winner.
pub(super) fn tests_fit_their_contacts(view: &View<'_>, found: &mut Vec<GraphProblem>) {
    for node in view.by_id.values() {
        let NodeKind::AbTest(test) = &node.kind else { continue };
        let resting = view.by_id.values().filter(|other| other.kind.rests());
        let over_time = resting.into_iter().any(|other| view.behind(other.id, |_| true).contains(&node.id));
        let here = view.called(node.id);
        if over_time && !test.continuing() {
            let message =
                format!("{here} tests on one set, and its contacts come over time: the sample is cut from the first");
            let fix = "set continuing = true, so that all are tested on until there is a winner";
            found.push(problem("test_of_a_stream", node.id, message, fix));
        }
        if !over_time && test.continuing() {
            let message = format!(
                "{here} goes on as long as contacts come, and all of its contacts come at once: nobody is left for the winner"
            );
            let fix = "set a sample and decide_after instead of continuing = true";
            found.push(problem("stream_test_of_a_set", node.id, message, fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::warnings;
    use crate::flow::graph::{EndKind, Exit, GraphParts, NodeId, NodeKind};
    use crate::flow::nodes::{AbTest, Arm, Delay, Metric, NotProven, SampleSize};

    fn codes(waits: bool, look_every_seconds: u32) -> Vec<&'static str> {
        let arm = |name: &'static str| Arm { exit: Exit(name.into()), weight: 1 };
        let test = AbTest {
            arms: vec![arm("a"), arm("b")],
            sample: SampleSize::Share(2_000),
            metric: Metric::Clicks,
            decide_after_seconds: 3_600,
            looks: 1,
            not_proven: NotProven::Leader,
            min_delivered: 1,
            min_events: 1,
            window_seconds: 60,
            goal: None,
            moments: false,
            look_every_seconds,
        };
        let mut parts = GraphParts::default();
        let start = parts.node(NodeId(0), "start", NodeKind::Start);
        let ab = parts.node(NodeId(2), "test", NodeKind::AbTest(test));
        let end = parts.node(NodeId(3), "end", NodeKind::End { kind: EndKind::Neutral });
        let first = match waits {
            true => parts.node(NodeId(1), "wait", NodeKind::Delay(Delay::Seconds(60))),
            false => ab,
        };
        parts.edge(start, Exit::NEXT, first);
        if waits {
            parts.edge(first, Exit::NEXT, ab);
        }
        parts.edge(ab, Exit("a".into()), end);
        parts.edge(ab, Exit("b".into()), end);
        warnings(&parts).into_iter().map(|problem| problem.code).collect()
    }

    #[test]
    fn each_test_is_told_where_another_would_do_better() {
        let none: [&str; 0] = [];
        assert_eq!(codes(false, 0), none, "a set, tested as one");
        assert_eq!(codes(true, 3_600), none, "a stream, tested as one");
        assert_eq!(codes(true, 0), ["test_of_a_stream"], "a stream, tested as a set");
        assert_eq!(codes(false, 3_600), ["stream_test_of_a_set"], "a set, tested as a stream");
    }
}
