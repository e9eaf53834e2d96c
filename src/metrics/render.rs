//! Series of running campaigns as Prometheus text. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::budget::{self, Shown};
use super::counters::render_parts;
use super::{
    CAMPAIGN_AUDIENCE_CONTACTS, CAMPAIGN_CONTACTS, CAMPAIGN_ETA_SECONDS, CAMPAIGN_EVENTS, CAMPAIGN_MESSAGES_PER_SECOND,
    CAMPAIGN_REJECTED_CONTACTS, CAMPAIGN_SKIPPED_CONTACTS, CAMPAIGN_STALLED, CAMPAIGN_STATE, CAMPAIGN_UNIQUE_CONTACTS,
    CAMPAIGN_WAITING_CONTACTS, CAMPAIGN_WINDOW_LEFT_SECONDS, MessageSeries, Metric, NodeSeries, TestSeries,
};

/// The live figures of one campaign. All counts are of one moment and equal the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CampaignSeries {
    pub id: u32,
    pub name: String,
    pub state: &'static str,
    pub audience: u64,
    pub pending: u64,
    pub claimed: u64,
    pub deferred: u64,
    pub accepted: u64,
    pub unknown: u64,
    /// By class.
    pub rejected: BTreeMap<&'static str, u64>,
    /// By reason.
    pub skipped: BTreeMap<&'static str, u64>,
    pub rate_per_second: f64,
    /// `None` if it cannot be said.
    pub eta_seconds: Option<f64>,
    /// Until `send_until`; below 0 once it has passed. `None` without one, or when the run is over.
    pub window_left_seconds: Option<f64>,
    /// Why it is slower than it could be.
    pub stall: Option<&'static str>,
    pub opened_unique: u64,
    pub clicked_unique: u64,
    pub unsubscribed: u64,
    /// Opens and clicks by (event, class): `("open", "human")`.
    pub events: BTreeMap<(&'static str, &'static str), u64>,
    pub messages: Vec<MessageSeries>,
    pub tests: Vec<TestSeries>,
    pub nodes: Vec<NodeSeries>,
    /// Contacts that wait for a time, an event or a winner.
    pub waiting: u64,
}

/// Values of the labels behind `campaign`, and the value.
type Sample = (Vec<&'static str>, f64);
type Samples = fn(&CampaignSeries) -> Vec<Sample>;

/// What a campaign has besides its parts. Classes of machines are left out while nothing came of them.
static OWN: [(&Metric, Samples); 12] = [
    (&CAMPAIGN_STATE, |c| if c.state.is_empty() { vec![] } else { vec![(vec![c.state], 1.0)] }),
    (&CAMPAIGN_CONTACTS, sets),
    (&CAMPAIGN_AUDIENCE_CONTACTS, |c| vec![(vec![], c.audience as f64)]),
    (&CAMPAIGN_REJECTED_CONTACTS, |c| by_name(&c.rejected)),
    (&CAMPAIGN_SKIPPED_CONTACTS, |c| by_name(&c.skipped)),
    (&CAMPAIGN_MESSAGES_PER_SECOND, |c| vec![(vec![], c.rate_per_second)]),
    (&CAMPAIGN_ETA_SECONDS, |c| c.eta_seconds.map(|eta| (vec![], eta)).into_iter().collect()),
    (&CAMPAIGN_WINDOW_LEFT_SECONDS, |c| c.window_left_seconds.map(|left| (vec![], left)).into_iter().collect()),
    (&CAMPAIGN_STALLED, |c| c.stall.map(|reason| (vec![reason], 1.0)).into_iter().collect()),
    (&CAMPAIGN_UNIQUE_CONTACTS, |c| {
        let each = [("open", c.opened_unique), ("click", c.clicked_unique), ("unsubscribe", c.unsubscribed)];
        each.map(|(event, n)| (vec![event], n as f64)).into()
    }),
    (&CAMPAIGN_EVENTS, |c| {
        let told = c.events.iter().filter(|((_, class), n)| is_told(class, **n));
        told.map(|((event, class), n)| (vec![*event, *class], *n as f64)).collect()
    }),
    (&CAMPAIGN_WAITING_CONTACTS, |c| vec![(vec![], c.waiting as f64)]),
];

/// Whether a count of a class is worth a sample: people always, machines once there were some.
pub(super) fn is_told(class: &str, count: u64) -> bool {
    class == "human" || count > 0
}

fn by_name(counts: &BTreeMap<&'static str, u64>) -> Vec<Sample> {
    counts.iter().map(|(name, n)| (vec![*name], *n as f64)).collect()
}

fn sets(c: &CampaignSeries) -> Vec<Sample> {
    let rejected: u64 = c.rejected.values().sum();
    let skipped: u64 = c.skipped.values().sum();
    let sets = [
        ("pending", c.pending),
        ("claimed", c.claimed),
        ("deferred", c.deferred),
        ("accepted", c.accepted),
        ("rejected", rejected),
        ("skipped", skipped),
        ("unknown", c.unknown),
    ];
    sets.map(|(set, n)| (vec![set], n as f64)).into()
}

impl CampaignSeries {
    /// Whether the run has ended for good.
    pub fn is_over(&self) -> bool {
        matches!(self.state, "finished" | "stopped")
    }

    /// Samples besides those of its parts.
    fn own_samples(&self) -> usize {
        OWN.iter().map(|(_, samples)| samples(self).len()).sum()
    }
}

/// Prometheus text of campaigns, in so many samples ([`room_beside`](super::room_beside)): those that are not over first, then the others in the order
/// given. Each series group stands once, with help and type.
pub fn render_campaigns(campaigns: &[CampaignSeries], most: usize) -> String {
    let shown = budget::shown(campaigns, most, CampaignSeries::own_samples);
    let mut out = String::new();
    for (metric, samples) in &OWN {
        group(&mut out, metric, &shown, &|shown| samples(shown.campaign));
    }
    render_parts(&mut out, &shown);
    out
}

/// The samples that a campaign has of a metric: the values of its labels, and a number.
pub(super) type SamplesOf<'f, L> = &'f dyn Fn(&Shown<'_>) -> Vec<(Vec<L>, f64)>;

/// All samples of one metric; labels' values behind `campaign` in the order of the catalogue.
pub(super) fn group<L: AsRef<str>>(
    out: &mut String,
    metric: &Metric,
    campaigns: &[Shown<'_>],
    samples: SamplesOf<'_, L>,
) {
    let mut lines = String::new();
    for shown in campaigns {
        for (values, number) in samples(shown) {
            lines.push_str(metric.name);
            lines.push_str("{campaign=\"");
            escape(&mut lines, &shown.campaign.name);
            lines.push('"');
            for (label, value) in metric.labels.iter().skip(1).zip(values) {
                lines.push(',');
                lines.push_str(label);
                lines.push_str("=\"");
                escape(&mut lines, value.as_ref());
                lines.push('"');
            }
            // writing to a String cannot fail
            writeln!(lines, "}} {number}").unwrap_or_default();
        }
    }
    push_group(out, metric, &lines);
}

/// The lines of one metric under its help and type; nothing without lines.
pub(super) fn push_group(out: &mut String, metric: &Metric, lines: &str) {
    if !lines.is_empty() {
        let (name, help, kind) = (metric.name, metric.help, metric.kind.name());
        // writing to a String cannot fail
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}").unwrap_or_default();
    }
}

/// The text format's escapes of a label value.
pub(super) fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{self, METRIC_CAMPAIGN_SAMPLES_MAX};

    fn spring(id: u32) -> CampaignSeries {
        CampaignSeries {
            id,
            name: format!("spring {id}"),
            state: "running",
            audience: 10,
            pending: 3,
            accepted: 4,
            rejected: BTreeMap::from([("hard_bounce", 1)]),
            skipped: BTreeMap::from([("no_address", 2)]),
            stall: Some("connector_limit"),
            events: BTreeMap::from([(("open", "machine"), 5)]),
            ..CampaignSeries::default()
        }
    }

    #[test]
    fn each_group_has_one_head_and_the_sets_add_up() {
        let text = render_campaigns(&[spring(2), spring(1)], METRIC_CAMPAIGN_SAMPLES_MAX);
        assert_eq!(text.matches("# TYPE estafette_campaign_contacts gauge").count(), 1, "{text}");
        let sum: f64 = text
            .lines()
            .filter(|l| l.starts_with("estafette_campaign_contacts{campaign=\"spring 1\""))
            .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum();
        assert_eq!(sum, 10.0, "the sets add up to the audience:\n{text}");
        assert!(
            text.contains("estafette_campaign_stalled{campaign=\"spring 2\",reason=\"connector_limit\"} 1"),
            "{text}"
        );
        assert!(text.contains("estafette_campaign_state{campaign=\"spring 1\",state=\"running\"} 1"), "{text}");
        assert!(!text.contains("eta_seconds"), "an ETA that is not known is absent");
        assert!(!text.contains("window_left_seconds"), "and a window that there is not");
    }

    #[test]
    fn campaigns_are_bounded_and_names_escaped() {
        let many: Vec<_> = (0..500).map(spring).collect();
        let text = render_campaigns(&many, METRIC_CAMPAIGN_SAMPLES_MAX);
        assert!(text.lines().count() < 5_000, "{} lines", text.lines().count());
        assert!(text.contains("spring 199"), "the first {} are shown", limits::METRIC_CAMPAIGNS_MAX);
        assert!(!text.contains("spring 200"), "and no more");
        let odd = CampaignSeries { name: "a\"b\\c\nd".into(), ..spring(1) };
        assert!(
            render_campaigns(&[odd], METRIC_CAMPAIGN_SAMPLES_MAX).contains("{campaign=\"a\\\"b\\\\c\\nd\""),
            "label values are escaped"
        );
        assert_eq!(render_campaigns(&[], METRIC_CAMPAIGN_SAMPLES_MAX), "", "nothing runs, nothing is rendered");
        let newer = CampaignSeries { audience: 11, ..spring(1) };
        let text = render_campaigns(&[newer, spring(1)], METRIC_CAMPAIGN_SAMPLES_MAX);
        let audiences: Vec<_> = text.lines().filter(|l| l.starts_with("estafette_campaign_audience")).collect();
        assert_eq!(
            audiences,
            ["estafette_campaign_audience_contacts{campaign=\"spring 1\"} 11"],
            "the newest run only"
        );
    }
}
