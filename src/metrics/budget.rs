//! Which campaigns, and how much of each, a scrape shows. Pure.
//!
//! Invariants: BU-1 a scrape has at most [`METRIC_CAMPAIGN_SAMPLES_MAX`] samples of campaigns, whatever ran, and fewer beside many
//! connectors, so that all together are [`METRIC_SAMPLES_MAX`] (down to [`METRIC_CAMPAIGN_SAMPLES_MIN`]): a person who looks
//! for one campaign asks its report, and a Prometheus is not filled by many; BU-2 no name stands twice, which would make the
//! whole scrape invalid: of several runs of a campaign the first given counts; BU-3 campaigns that are not over come first, with
//! their parts; then the others, in the order given; BU-4 a message, a test or a node is shown whole or not at all.

use std::collections::BTreeSet;

use super::{CampaignSeries, MessageSeries, NodeSeries, TestSeries};
use crate::limits::{
    METRIC_CAMPAIGN_SAMPLES_MAX, METRIC_CAMPAIGN_SAMPLES_MIN, METRIC_CAMPAIGNS_MAX, METRIC_MESSAGES_MAX,
    METRIC_NODES_MAX, METRIC_SAMPLES_MAX,
};

/// As much of a campaign as is shown.
pub(super) struct Shown<'a> {
    pub campaign: &'a CampaignSeries,
    pub messages: &'a [MessageSeries],
    pub tests: &'a [TestSeries],
    pub nodes: &'a [NodeSeries],
}

/// How many samples of campaigns a scrape has room for beside these texts.
pub fn room_beside(texts: &[&str]) -> usize {
    let lines = texts.iter().flat_map(|text| text.lines());
    let others = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    METRIC_SAMPLES_MAX.saturating_sub(others).clamp(METRIC_CAMPAIGN_SAMPLES_MIN, METRIC_CAMPAIGN_SAMPLES_MAX)
}

/// What of these campaigns is shown in so many samples, by ids. `own` says how many samples a campaign has without its parts.
pub(super) fn shown<'a>(
    campaigns: &'a [CampaignSeries],
    most: usize,
    own: impl Fn(&CampaignSeries) -> usize,
) -> Vec<Shown<'a>> {
    let mut names = BTreeSet::new();
    let (live, over): (Vec<_>, Vec<_>) =
        campaigns.iter().filter(|c| names.insert(c.name.as_str())).partition(|c| !c.is_over());
    let mut samples = most;
    let mut places = METRIC_CAMPAIGNS_MAX;
    let mut all = Vec::new();
    for group in [live, over] {
        let mut fit: Vec<&CampaignSeries> = Vec::new();
        for campaign in group {
            if places == 0 || !spend(&mut samples, own(campaign)) {
                break;
            }
            places -= 1;
            fit.push(campaign);
        }
        for campaign in fit {
            let messages = first(&campaign.messages, METRIC_MESSAGES_MAX, &mut samples, MessageSeries::samples);
            let tests = first(&campaign.tests, METRIC_NODES_MAX, &mut samples, TestSeries::samples);
            let nodes = first(&campaign.nodes, METRIC_NODES_MAX, &mut samples, NodeSeries::samples);
            all.push(Shown { campaign, messages, tests, nodes });
        }
    }
    all.sort_by_key(|shown| shown.campaign.id);
    all
}

fn spend(left: &mut usize, samples: usize) -> bool {
    let fits = samples <= *left;
    if fits {
        *left -= samples;
    }
    fits
}

/// The first parts, as many as fit.
fn first<'p, T>(parts: &'p [T], most: usize, left: &mut usize, samples: impl Fn(&T) -> usize) -> &'p [T] {
    let count = parts.iter().take(most).take_while(|part| spend(left, samples(part))).count();
    parts.get(..count).unwrap_or(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::render_campaigns;

    fn campaign(id: u32, state: &'static str, nodes: usize) -> CampaignSeries {
        let node = |node: usize| NodeSeries { node: format!("n{node}"), contacts: 1, moved: 2 };
        CampaignSeries {
            id,
            name: format!("c{id}"),
            state,
            nodes: (0..nodes).map(node).collect(),
            ..CampaignSeries::default()
        }
    }

    fn samples(text: &str) -> usize {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
    }

    #[test]
    fn the_budget_holds_and_is_used() {
        let one = samples(&render_campaigns(&[campaign(1, "running", 3)], METRIC_CAMPAIGN_SAMPLES_MAX));
        let many: Vec<_> = (0..500).map(|id| campaign(id, "running", 100)).collect();
        for most in [METRIC_CAMPAIGN_SAMPLES_MAX, METRIC_CAMPAIGN_SAMPLES_MIN] {
            let all = samples(&render_campaigns(&many, most));
            assert!(all <= most, "{all} samples");
            assert!(all + one > most, "{all}: what is left is less than a campaign");
        }
    }

    #[test]
    fn campaigns_have_what_connectors_leave() {
        let connectors = |count: usize| -> String {
            (0..90 * count).map(|n| format!("# HELP no sample\nx{{n=\"{n}\"}} 1\n")).collect()
        };
        let engine = "# TYPE no sample\n\n".to_owned() + &"y 1\n".repeat(500);
        let room = |count: usize| room_beside(&[&engine, &connectors(count)]);
        assert_eq!(room(1), METRIC_CAMPAIGN_SAMPLES_MAX, "a few connectors cost campaigns nothing");
        assert_eq!(room(20), METRIC_SAMPLES_MAX - 500 - 20 * 90, "all together are what a scrape may have");
        assert_eq!(room(256), METRIC_CAMPAIGN_SAMPLES_MIN, "but some campaigns are always shown");
    }

    #[test]
    fn what_is_not_over_is_shown_first_with_its_parts() {
        let mut many: Vec<_> = (0..500).map(|id| campaign(id, "finished", 50)).collect();
        many.push(campaign(600, "running", 50));
        let shown = shown(&many, METRIC_CAMPAIGN_SAMPLES_MAX, |_| 10);
        let running = shown.iter().find(|s| s.campaign.id == 600).expect("it is shown");
        assert_eq!(running.nodes.len(), METRIC_NODES_MAX, "whole, though it came last");
        assert_eq!(shown.len(), METRIC_CAMPAIGNS_MAX, "with as many others as there are places");
        assert!(shown.is_sorted_by_key(|s| s.campaign.id), "by id");
    }

    #[test]
    fn of_two_runs_the_first_given_is_shown() {
        let mut older = campaign(1, "finished", 0);
        older.audience = 7;
        let both = [campaign(1, "running", 0), older];
        let shown = shown(&both, 9, |_| 1);
        assert_eq!((shown.len(), shown[0].campaign.audience), (1, 0), "once");
    }
}
