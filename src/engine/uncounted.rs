//! Whether what a test counts can happen at all: nobody clicks in a mail without links.
//!
//! Owns no state; reads the compiled messages of the variants.

use crate::campaigns::{self, CampaignSpec, Compiled, Problem};
use crate::content::CompiledMessage;
use crate::engine::Engine;
use crate::flow::nodes::{AbTest, Metric};
use crate::flow::{Exit, Node, NodeKind};
use crate::ids::MessageId;

impl Engine {
    /// A warning for each test in which some variants have nothing that could be counted.
    pub(super) fn uncounted(&self, spec: &CampaignSpec) -> Vec<Problem> {
        let is_test = |node: &Node| matches!(node.kind, NodeKind::AbTest(_));
        if !campaigns::parts(spec).nodes.iter().any(is_test) {
            return Vec::new();
        }
        // What cannot be compiled has problems of its own.
        let Ok(compiled) = campaigns::compile(spec) else { return Vec::new() };
        compiled.graph.nodes().filter_map(|node| self.uncounted_by(&compiled, node)).collect()
    }

    fn uncounted_by(&self, compiled: &Compiled, node: &Node) -> Option<Problem> {
        let NodeKind::AbTest(test) = &node.kind else { return None };
        type Counts = fn(&CompiledMessage) -> bool;
        let (counts, thing, fix): (Counts, &str, &str) = match test.metric {
            Metric::Clicks => (
                |message| !message.links().is_empty(),
                "link that is tracked",
                "give each variant a link, or let opens or conversions decide (winner_by)",
            ),
            Metric::Opens => (
                CompiledMessage::has_html,
                "HTML body, without which nobody's open is known",
                "give each variant html, or let clicks or conversions decide (winner_by)",
            ),
            Metric::Conversions => return None,
        };
        let lacking = self.lacking(compiled, node, test, counts)?;
        let message = format!("the test counts {}, and {lacking} no {thing}", test.metric.name());
        Some(Problem::warning("nothing_to_count", "test.winner_by", message, fix))
    }

    /// The variants none of whose messages has what is counted, with their verb.
    fn lacking(
        &self,
        compiled: &Compiled,
        node: &Node,
        test: &AbTest,
        counts: fn(&CompiledMessage) -> bool,
    ) -> Option<String> {
        let message_of = |send| match compiled.graph.node(send).map(|node| &node.kind) {
            Some(NodeKind::Send { message, .. }) => compiled.message(MessageId(*message)),
            _ => None,
        };
        let lacks = |exit: &Exit| {
            let sends = compiled.graph.sends_of_branch(node.id, exit).into_iter();
            let mut messages = sends.filter_map(message_of).peekable();
            // Content with a fault has problems of its own.
            let can = |plan| self.content(&compiled.name, plan).map_or(true, |message| counts(&message));
            messages.peek().is_some() && !messages.any(can)
        };
        let names: Vec<&str> = test.arms.iter().filter(|arm| lacks(&arm.exit)).map(|arm| arm.exit.name()).collect();
        match names.as_slice() {
            [] => None,
            [one] => Some(format!("variant {one} has")),
            all if all.len() == test.arms.len() => Some("its variants have".to_owned()),
            several => Some(format!("variants {} have", several.join(", "))),
        }
    }
}
