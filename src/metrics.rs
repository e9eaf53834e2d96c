//! The metrics catalogue: every series that the engine exposes, with its kind, labels and help; and their rendering.
//!
//! Owns no state but the process-wide recorder that [`install`] makes. Three sources make up `/metrics`, and each series says
//! which is its own ([`Source`]): the recorder takes events as they happen and counts since the start of the process;
//! [`Live`] is what some part of the engine counts or holds anyway, read at each scrape; [`CampaignSeries`] are rendered at
//! each scrape too, because the recorder cannot forget a campaign.
//!
//! Invariants: ME-1 a series that is not in [`CATALOGUE`] does not exist; ME-2 names carry the prefix, base units, and
//! `_total` exactly if they are counters; ME-3 no label has free text but the campaign's name and the names of its variants,
//! and those only as far as `limits::METRIC_SAMPLES_MAX` goes; ME-4 every histogram has buckets.
//! It must not know who counts what.

mod budget;
mod catalogue;
mod counters;
mod live;
mod render;

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use budget::room_beside;
pub use catalogue::*;
pub use counters::{MessageSeries, NodeSeries, TestSeries};
pub use live::{Live, render_live};
pub use render::{CampaignSeries, render_campaigns};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Where the samples of a series come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Events, recorded when they happen.
    Recorder,
    /// Read from the engine's state at the scrape.
    Live,
    /// Rendered at the scrape for running campaigns.
    Campaign,
}

/// A row of the catalogue.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    /// Upper bounds of a histogram's buckets.
    pub buckets: &'static [f64],
    pub source: Source,
}

impl Metric {
    /// The unit that the name's ending says.
    pub fn unit(&self) -> Option<Unit> {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        if name.ends_with("_seconds") {
            Some(Unit::Seconds)
        } else if name.ends_with("_bytes") {
            Some(Unit::Bytes)
        } else {
            None
        }
    }
}

/// Makes the process-wide recorder, with the catalogue's help and buckets. Fails if there is one already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe();
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in CATALOGUE.iter().filter(|m| m.kind == Kind::Histogram && m.source == Source::Recorder) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)?;
    }
    Ok(builder)
}

fn describe() {
    for metric in CATALOGUE.iter().filter(|m| m.source == Source::Recorder) {
        let unit = metric.unit().unwrap_or(Unit::Count);
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let mut seen = BTreeSet::new();
        for metric in CATALOGUE {
            let name = metric.name;
            assert!(seen.insert(name), "{name} stands twice in the catalogue");
            assert!(name.starts_with("estafette_"), "{name} lacks the prefix");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}: _total is for counters");
            assert!(metric.help.ends_with('.'), "{name}: help is a sentence");
            assert_eq!(metric.buckets.is_empty(), metric.kind != Kind::Histogram, "{name}: buckets are for histograms");
            assert!(metric.buckets.is_sorted(), "{name}: buckets ascend");
            assert!(
                !["_ms", "_milliseconds", "_kb", "_minutes"].iter().any(|u| name.contains(u)),
                "{name}: base units"
            );
            assert_eq!(
                metric.source == Source::Campaign,
                metric.labels.contains(&"campaign"),
                "{name}: campaigns never enter the recorder"
            );
            for label in metric.labels {
                let free = ["contact", "email", "address", "url", "link", "domain", "user"];
                assert!(!free.contains(label), "{name}: label {label} is not bounded");
            }
        }
    }

    #[test]
    fn histograms_are_rendered_as_histograms_with_help() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            ::metrics::histogram!(SNAPSHOT_SECONDS.name).record(0.003);
            ::metrics::counter!(MESSAGES_TOTAL.name, "connector" => "relay", "outcome" => "accepted").increment(3);
        });
        let text = handle.render();
        assert!(text.contains("# TYPE estafette_snapshot_seconds histogram"), "{text}");
        assert!(text.contains("estafette_snapshot_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("estafette_messages_total{connector=\"relay\",outcome=\"accepted\"} 3"), "{text}");
        assert!(text.contains("# HELP estafette_messages_total "), "{text}");
    }
}
