//! Series of what comes back on running campaigns: by message, by variant of a test, by node. Pure.
//!
//! Invariant: CT-1 no campaign has more than [`METRIC_MESSAGES_MAX`] messages and [`METRIC_NODES_MAX`] nodes shown, and all
//! campaigns together no more than [`METRIC_PARTS_MAX`] of each, those with the lowest ids first.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::render::{escape, push_group};
use super::{
    CAMPAIGN_MESSAGE_CONTACTS, CAMPAIGN_MESSAGE_EVENTS, CAMPAIGN_MESSAGE_UNIQUE_CONTACTS, CAMPAIGN_NODE_CONTACTS,
    CAMPAIGN_NODE_MOVED_CONTACTS, CAMPAIGN_TEST_CONTACTS, CAMPAIGN_TEST_EFFECT, CAMPAIGN_TEST_LOOK, CAMPAIGN_TEST_P,
    CAMPAIGN_TEST_STATE, CAMPAIGN_TEST_WINNER, CAMPAIGN_WAITING_CONTACTS, CampaignSeries, Metric,
};
use crate::limits::{METRIC_MESSAGES_MAX, METRIC_NODES_MAX, METRIC_PARTS_MAX};

/// What came back on one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageSeries {
    pub message: u16,
    /// The variant or cell.
    pub variant: String,
    /// Contacts that got, or will get, it.
    pub assigned: u64,
    pub accepted: u64,
    /// Contacts by (event, class), each by its best class: `("click", "human")`.
    pub unique: BTreeMap<(&'static str, &'static str), u64>,
    /// Events by (event, class), repeated ones included.
    pub total: BTreeMap<(&'static str, &'static str), u64>,
}

/// One test: the counters that its winner is decided by, and what they said at the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestSeries {
    pub node: String,
    /// `testing`, `waits_for_person`, `decided`.
    pub state: &'static str,
    /// Variant, and its contacts by what is counted: accepted, matured, events, …
    pub arms: Vec<(String, BTreeMap<&'static str, u64>)>,
    /// The last look, from 1; 0 before the first.
    pub look: u16,
    /// Of the leader against the arm that it is least clearly ahead of.
    pub p: Option<f64>,
    pub effect: Option<f64>,
    pub winner: Option<String>,
}

/// One node of the flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSeries {
    pub node: String,
    pub contacts: u64,
    /// Contacts that ever left it.
    pub moved: u64,
}

type Sample = (Vec<String>, f64);

/// Prometheus text of these campaigns' parts.
pub(super) fn render_parts(out: &mut String, shown: &[&CampaignSeries]) {
    let (mut messages, mut nodes) = (METRIC_PARTS_MAX, METRIC_PARTS_MAX);
    let cut: Vec<Cut> = shown.iter().map(|campaign| Cut::of(campaign, &mut messages, &mut nodes)).collect();
    of_messages(out, &cut);
    of_tests(out, &cut);
    group(out, &CAMPAIGN_NODE_CONTACTS, &cut, &|c| c.of_nodes(|node| node.contacts));
    group(out, &CAMPAIGN_NODE_MOVED_CONTACTS, &cut, &|c| c.of_nodes(|node| node.moved));
    group(out, &CAMPAIGN_WAITING_CONTACTS, &cut, &|c| vec![(vec![], c.campaign.waiting as f64)]);
}

/// As much of a campaign as is shown.
struct Cut<'a> {
    campaign: &'a CampaignSeries,
    messages: &'a [MessageSeries],
    nodes: &'a [NodeSeries],
}

impl<'a> Cut<'a> {
    fn of(campaign: &'a CampaignSeries, messages: &mut usize, nodes: &mut usize) -> Cut<'a> {
        fn first<'p, T>(parts: &'p [T], most: usize, left: &mut usize) -> &'p [T] {
            let count = parts.len().min(most).min(*left);
            *left -= count;
            parts.get(..count).unwrap_or(parts)
        }
        Cut {
            campaign,
            messages: first(&campaign.messages, METRIC_MESSAGES_MAX, messages),
            nodes: first(&campaign.nodes, METRIC_NODES_MAX, nodes),
        }
    }

    fn of_nodes(&self, count: impl Fn(&NodeSeries) -> u64) -> Vec<Sample> {
        self.nodes.iter().map(|node| (vec![node.node.clone()], count(node) as f64)).collect()
    }

    fn by_class(&self, counts: impl Fn(&MessageSeries) -> &BTreeMap<(&'static str, &'static str), u64>) -> Vec<Sample> {
        let each = self.messages.iter().flat_map(|message| {
            let labels = |event: &str, class: &str| {
                vec![message.message.to_string(), message.variant.clone(), event.to_owned(), class.to_owned()]
            };
            let counts = counts(message).iter();
            counts.map(|((event, class), n)| (labels(event, class), *n as f64)).collect::<Vec<Sample>>()
        });
        each.collect()
    }
}

fn of_messages(out: &mut String, cut: &[Cut<'_>]) {
    group(out, &CAMPAIGN_MESSAGE_CONTACTS, cut, &|c| {
        let each = c.messages.iter().flat_map(|m| {
            [("assigned", m.assigned), ("accepted", m.accepted)]
                .map(|(set, n)| (vec![m.message.to_string(), m.variant.clone(), set.to_owned()], n as f64))
        });
        each.collect()
    });
    group(out, &CAMPAIGN_MESSAGE_UNIQUE_CONTACTS, cut, &|c| c.by_class(|m| &m.unique));
    group(out, &CAMPAIGN_MESSAGE_EVENTS, cut, &|c| c.by_class(|m| &m.total));
}

fn of_tests(out: &mut String, cut: &[Cut<'_>]) {
    group(out, &CAMPAIGN_TEST_CONTACTS, cut, &|c| {
        let of_arm = |test: &TestSeries, variant: &str, counts: &BTreeMap<&'static str, u64>| {
            let labels = |set: &str| vec![test.node.clone(), variant.to_owned(), set.to_owned()];
            counts.iter().map(|(set, n)| (labels(set), *n as f64)).collect::<Vec<Sample>>()
        };
        let arms = c.campaign.tests.iter().flat_map(|test| test.arms.iter().map(move |arm| (test, arm)));
        arms.flat_map(|(test, (variant, counts))| of_arm(test, variant, counts)).collect()
    });
    let each = |c: &Cut<'_>, sample: &dyn Fn(&TestSeries) -> Option<Sample>| -> Vec<Sample> {
        let samples = c.campaign.tests.iter().filter_map(|test| {
            let (labels, value) = sample(test)?;
            Some((std::iter::once(test.node.clone()).chain(labels).collect(), value))
        });
        samples.collect()
    };
    group(out, &CAMPAIGN_TEST_STATE, cut, &|c| each(c, &|test| Some((vec![test.state.to_owned()], 1.0))));
    group(out, &CAMPAIGN_TEST_LOOK, cut, &|c| each(c, &|test| Some((vec![], f64::from(test.look)))));
    group(out, &CAMPAIGN_TEST_P, cut, &|c| each(c, &|test| Some((vec![], test.p?))));
    group(out, &CAMPAIGN_TEST_EFFECT, cut, &|c| each(c, &|test| Some((vec![], test.effect?))));
    group(out, &CAMPAIGN_TEST_WINNER, cut, &|c| each(c, &|test| Some((vec![test.winner.clone()?], 1.0))));
}

fn group(out: &mut String, metric: &Metric, campaigns: &[Cut<'_>], samples: &dyn Fn(&Cut<'_>) -> Vec<Sample>) {
    let mut lines = String::new();
    for cut in campaigns {
        for (values, number) in samples(cut) {
            lines.push_str(metric.name);
            lines.push_str("{campaign=\"");
            escape(&mut lines, &cut.campaign.name);
            lines.push('"');
            for (label, value) in metric.labels.iter().skip(1).zip(values) {
                lines.push(',');
                lines.push_str(label);
                lines.push_str("=\"");
                escape(&mut lines, &value);
                lines.push('"');
            }
            // writing to a String cannot fail
            writeln!(lines, "}} {number}").unwrap_or_default();
        }
    }
    push_group(out, metric, &lines);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::render_campaigns;

    fn campaign(id: u32, parts: u16) -> CampaignSeries {
        let message = |message: u16| MessageSeries {
            message,
            variant: format!("v{message}"),
            assigned: 10,
            accepted: 9,
            unique: BTreeMap::from([(("click", "human"), 3)]),
            total: BTreeMap::from([(("click", "human"), 5)]),
        };
        let node = |node: u16| NodeSeries { node: format!("n{node}"), contacts: 2, moved: 7 };
        let test = TestSeries {
            node: "n1".into(),
            state: "testing",
            arms: vec![("A \"plain\"".into(), BTreeMap::from([("matured", 9)]))],
            look: 2,
            p: Some(0.25),
            effect: Some(-0.5),
            winner: None,
        };
        CampaignSeries {
            id,
            name: format!("c{id}"),
            messages: (0..parts).map(message).collect(),
            nodes: (0..parts).map(node).collect(),
            tests: vec![test],
            waiting: 4,
            ..CampaignSeries::default()
        }
    }

    #[test]
    fn parts_have_their_labels() {
        let text = render_campaigns(&[campaign(1, 1)]);
        for line in [
            "estafette_campaign_message_contacts{campaign=\"c1\",message=\"0\",variant=\"v0\",set=\"accepted\"} 9",
            "estafette_campaign_message_unique_contacts{campaign=\"c1\",message=\"0\",variant=\"v0\",event=\"click\",class=\"human\"} 3",
            "estafette_campaign_message_events{campaign=\"c1\",message=\"0\",variant=\"v0\",event=\"click\",class=\"human\"} 5",
            "estafette_campaign_test_contacts{campaign=\"c1\",node=\"n1\",variant=\"A \\\"plain\\\"\",set=\"matured\"} 9",
            "estafette_campaign_test_state{campaign=\"c1\",node=\"n1\",state=\"testing\"} 1",
            "estafette_campaign_test_look{campaign=\"c1\",node=\"n1\"} 2",
            "estafette_campaign_test_p{campaign=\"c1\",node=\"n1\"} 0.25",
            "estafette_campaign_test_effect_ratio{campaign=\"c1\",node=\"n1\"} -0.5",
            "estafette_campaign_node_contacts{campaign=\"c1\",node=\"n0\"} 2",
            "estafette_campaign_node_moved_contacts{campaign=\"c1\",node=\"n0\"} 7",
            "estafette_campaign_waiting_contacts{campaign=\"c1\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("campaign_test_winner"), "nobody won yet");
    }

    #[test]
    fn parts_are_bounded_by_campaign_and_over_all() {
        let one = render_campaigns(&[campaign(1, 1_000)]);
        let count = |text: &str, name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(count(&one, "estafette_campaign_node_contacts{"), METRIC_NODES_MAX, "nodes of a campaign");
        assert_eq!(count(&one, "estafette_campaign_message_events{"), METRIC_MESSAGES_MAX, "messages of a campaign");
        let many: Vec<CampaignSeries> = (0..150).map(|id| campaign(id, 100)).collect();
        let text = render_campaigns(&many);
        assert_eq!(count(&text, "estafette_campaign_node_contacts{"), METRIC_PARTS_MAX, "nodes of all");
        assert_eq!(count(&text, "estafette_campaign_message_events{"), METRIC_PARTS_MAX, "messages of all");
    }
}
