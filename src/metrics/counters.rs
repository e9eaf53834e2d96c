//! Series of what comes back on running campaigns: by message, by variant of a test, by node. Pure.
//!
//! Invariant: CT-1 `samples` of a part is the number of its lines, so that what a scrape may have is known before it is
//! rendered (`budget`).

use std::collections::BTreeMap;

use super::budget::Shown;
use super::render::{group, is_told};
use super::{
    CAMPAIGN_LINK_CONTACTS, CAMPAIGN_MESSAGE_CONTACTS, CAMPAIGN_MESSAGE_EVENTS, CAMPAIGN_MESSAGE_UNIQUE_CONTACTS,
    CAMPAIGN_NODE_CONTACTS, CAMPAIGN_NODE_MOVED_CONTACTS, CAMPAIGN_TEST_CONTACTS, CAMPAIGN_TEST_EFFECT,
    CAMPAIGN_TEST_LOOK, CAMPAIGN_TEST_P, CAMPAIGN_TEST_STATE, CAMPAIGN_TEST_WINNER,
};
use crate::limits::METRIC_LINKS_MAX;

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
    /// People by the place of the link that they clicked.
    pub links: BTreeMap<u16, u64>,
}

/// One test: the counters that its winner is decided by, and what they said at the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestSeries {
    pub node: String,
    /// `testing`, `waits_for_person`, `decided`, `undecided`.
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
type ByClass = BTreeMap<(&'static str, &'static str), u64>;

fn told(counts: &ByClass) -> impl Iterator<Item = (&(&'static str, &'static str), &u64)> {
    counts.iter().filter(|((_, class), n)| is_told(class, **n))
}

impl MessageSeries {
    /// Samples that it has.
    pub(super) fn samples(&self) -> usize {
        2 + told(&self.unique).count() + told(&self.total).count() + self.links.len().min(METRIC_LINKS_MAX)
    }

    fn labels(&self, more: &[&str]) -> Vec<String> {
        let own = [self.message.to_string(), self.variant.clone()];
        own.into_iter().chain(more.iter().map(|label| (*label).to_owned())).collect()
    }

    fn by_class(&self, counts: &ByClass) -> Vec<Sample> {
        told(counts).map(|((event, class), n)| (self.labels(&[event, class]), *n as f64)).collect()
    }

    /// Those that most people clicked, in the order of their places.
    fn top_links(&self) -> Vec<Sample> {
        let mut links: Vec<(&u16, &u64)> = self.links.iter().collect();
        links.sort_by_key(|(place, people)| (std::cmp::Reverse(**people), **place));
        links.truncate(METRIC_LINKS_MAX);
        links.sort();
        links.into_iter().map(|(place, people)| (self.labels(&[&place.to_string()]), *people as f64)).collect()
    }
}

impl TestSeries {
    /// Samples that it has.
    pub(super) fn samples(&self) -> usize {
        let counts: usize = self.arms.iter().map(|(_, counts)| counts.len()).sum();
        let optional = [self.p.is_some(), self.effect.is_some(), self.winner.is_some()];
        2 + counts + optional.into_iter().filter(|there| *there).count()
    }
}

impl NodeSeries {
    /// Samples that it has.
    pub(super) fn samples(&self) -> usize {
        2
    }
}

/// Prometheus text of these campaigns' parts.
pub(super) fn render_parts(out: &mut String, shown: &[Shown<'_>]) {
    of_messages(out, shown);
    of_tests(out, shown);
    let of_nodes = |shown: &Shown<'_>, count: fn(&NodeSeries) -> u64| -> Vec<Sample> {
        shown.nodes.iter().map(|node| (vec![node.node.clone()], count(node) as f64)).collect()
    };
    group(out, &CAMPAIGN_NODE_CONTACTS, shown, &|s| of_nodes(s, |node| node.contacts));
    group(out, &CAMPAIGN_NODE_MOVED_CONTACTS, shown, &|s| of_nodes(s, |node| node.moved));
}

fn of_messages(out: &mut String, shown: &[Shown<'_>]) {
    let each = |s: &Shown<'_>, samples: &dyn Fn(&MessageSeries) -> Vec<Sample>| -> Vec<Sample> {
        s.messages.iter().flat_map(samples).collect()
    };
    group(out, &CAMPAIGN_MESSAGE_CONTACTS, shown, &|s| {
        each(s, &|m| {
            [("assigned", m.assigned), ("accepted", m.accepted)].map(|(set, n)| (m.labels(&[set]), n as f64)).into()
        })
    });
    group(out, &CAMPAIGN_MESSAGE_UNIQUE_CONTACTS, shown, &|s| each(s, &|m| m.by_class(&m.unique)));
    group(out, &CAMPAIGN_MESSAGE_EVENTS, shown, &|s| each(s, &|m| m.by_class(&m.total)));
    group(out, &CAMPAIGN_LINK_CONTACTS, shown, &|s| each(s, &MessageSeries::top_links));
}

fn of_tests(out: &mut String, shown: &[Shown<'_>]) {
    group(out, &CAMPAIGN_TEST_CONTACTS, shown, &|s| {
        let of_arm = |test: &TestSeries, variant: &str, counts: &BTreeMap<&'static str, u64>| {
            let labels = |set: &str| vec![test.node.clone(), variant.to_owned(), set.to_owned()];
            counts.iter().map(|(set, n)| (labels(set), *n as f64)).collect::<Vec<Sample>>()
        };
        let arms = s.tests.iter().flat_map(|test| test.arms.iter().map(move |arm| (test, arm)));
        arms.flat_map(|(test, (variant, counts))| of_arm(test, variant, counts)).collect()
    });
    let each = |s: &Shown<'_>, sample: &dyn Fn(&TestSeries) -> Option<Sample>| -> Vec<Sample> {
        let samples = s.tests.iter().filter_map(|test| {
            let (labels, value) = sample(test)?;
            Some((std::iter::once(test.node.clone()).chain(labels).collect(), value))
        });
        samples.collect()
    };
    group(out, &CAMPAIGN_TEST_STATE, shown, &|s| each(s, &|test| Some((vec![test.state.to_owned()], 1.0))));
    group(out, &CAMPAIGN_TEST_LOOK, shown, &|s| each(s, &|test| Some((vec![], f64::from(test.look)))));
    group(out, &CAMPAIGN_TEST_P, shown, &|s| each(s, &|test| Some((vec![], test.p?))));
    group(out, &CAMPAIGN_TEST_EFFECT, shown, &|s| each(s, &|test| Some((vec![], test.effect?))));
    group(out, &CAMPAIGN_TEST_WINNER, shown, &|s| each(s, &|test| Some((vec![test.winner.clone()?], 1.0))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{METRIC_CAMPAIGN_SAMPLES_MAX, METRIC_MESSAGES_MAX, METRIC_NODES_MAX};
    use crate::metrics::{CampaignSeries, render_campaigns};

    fn campaign(id: u32, parts: u16) -> CampaignSeries {
        let message = |message: u16| MessageSeries {
            message,
            variant: format!("v{message}"),
            assigned: 10,
            accepted: 9,
            unique: BTreeMap::from([(("click", "human"), 3)]),
            total: BTreeMap::from([(("click", "human"), 5)]),
            links: BTreeMap::from([(1, 3)]),
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
        let text = render_campaigns(&[campaign(1, 1)], METRIC_CAMPAIGN_SAMPLES_MAX);
        for line in [
            "estafette_campaign_message_contacts{campaign=\"c1\",message=\"0\",variant=\"v0\",set=\"accepted\"} 9",
            "estafette_campaign_message_unique_contacts{campaign=\"c1\",message=\"0\",variant=\"v0\",event=\"click\",class=\"human\"} 3",
            "estafette_campaign_message_events{campaign=\"c1\",message=\"0\",variant=\"v0\",event=\"click\",class=\"human\"} 5",
            "estafette_campaign_link_contacts{campaign=\"c1\",message=\"0\",variant=\"v0\",place=\"1\"} 3",
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
    fn parts_are_bounded_by_campaign_and_counted_as_they_are_rendered() {
        let whole = campaign(1, 1_000);
        let text = render_campaigns(std::slice::from_ref(&whole), METRIC_CAMPAIGN_SAMPLES_MAX);
        let count = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(count("estafette_campaign_node_contacts{"), METRIC_NODES_MAX, "nodes of a campaign");
        assert_eq!(count("estafette_campaign_message_events{"), METRIC_MESSAGES_MAX, "messages of a campaign");
        let message = &whole.messages[0];
        let rendered = text.lines().filter(|line| line.contains("variant=\"v0\"")).count();
        assert_eq!(rendered, message.samples(), "of a message:\n{text}");
        let rendered = text.lines().filter(|line| line.starts_with("estafette_campaign_test_")).count();
        assert_eq!(rendered, whole.tests[0].samples(), "of a test:\n{text}");
    }

    #[test]
    fn the_links_that_most_people_clicked_are_shown_and_machines_only_if_there_were_some() {
        let mut series = campaign(1, 1);
        series.messages[0].links = (0..100).map(|place| (place, u64::from(place))).collect();
        series.messages[0].unique.insert(("open", "machine"), 0);
        series.messages[0].unique.insert(("open", "suspect"), 1);
        let text = render_campaigns(&[series], METRIC_CAMPAIGN_SAMPLES_MAX);
        let links: Vec<&str> = text.lines().filter(|l| l.starts_with("estafette_campaign_link_contacts")).collect();
        assert_eq!(links.len(), METRIC_LINKS_MAX, "{links:?}");
        assert!(links[0].contains("place=\"80\"} 80"), "the last twenty, in their order: {links:?}");
        assert!(!text.contains("class=\"machine\""), "none came:\n{text}");
        assert!(text.contains("event=\"open\",class=\"suspect\"} 1"), "{text}");
    }
}
