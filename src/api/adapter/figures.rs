//! A run over time, and deliveries side by side.

use serde_json::json;

use crate::api::adapter::Adapter;
use crate::api::errors::Code;
use crate::api::port::{
    Compared, ComparedReport, Comparison, DifferenceReport, PortError, PortResult, RunRef, Share, TimeBucket,
    TimelineReport,
};
use crate::campaigns::parse;
use crate::engine::runs::run_state;
use crate::flow::NodeKind;
use crate::flow::winner::{Proportion, normal, proportions};
use crate::ids::MessageId;
use crate::ledger::events::Feedback;
use crate::ledger::timeline::Tally;
use crate::ledger::tracking::{EventClass, MessageTracking};
use crate::ledger::{Counts, Delivery, Run, State};
use crate::limits::{COMPARED_MAX, WINNER_ALPHA};

impl Adapter {
    pub(super) fn over_time(&self, run: &RunRef, bucket_seconds: u32) -> PortResult<TimelineReport> {
        let id = self.run_id(run)?;
        let state = self.engine.book.read();
        let run = state.runs.get(&id).ok_or_else(|| no_run(id.0))?;
        let (bucket_seconds, buckets) = run.timeline.buckets(bucket_seconds);
        let bucket = |(start, tally): (crate::clock::Timestamp, Tally)| {
            let Tally {
                accepted,
                rejected,
                opened,
                clicked,
                unsubscribed,
                opens,
                clicks,
                bounced,
                complained,
                converted,
            } = tally;
            TimeBucket {
                start: start.into(),
                accepted,
                rejected,
                opened,
                clicked,
                unsubscribed,
                bounced,
                complained,
                converted,
                opens,
                clicks,
            }
        };
        let buckets = buckets.into_iter().map(bucket).collect();
        Ok(TimelineReport { campaign: run.campaign.0, run: run.id.0, bucket_seconds, buckets })
    }

    pub(super) fn side_by_side(&self, asked: &[Compared]) -> PortResult<Comparison> {
        if !(2..=COMPARED_MAX).contains(&asked.len()) {
            let message = format!("{} deliveries are named, and 2 to {COMPARED_MAX} can be compared", asked.len());
            return Err(PortError::new(Code::InvalidParameter, message));
        }
        let state = self.engine.book.read();
        let deliveries = asked.iter().map(|one| compared(&state, one)).collect::<PortResult<Vec<_>>>()?;
        let differences = differences(&deliveries);
        Ok(Comparison { deliveries, differences })
    }
}

fn no_run(id: u32) -> PortError {
    PortError::new(Code::RunNotFound, format!("there is no run {id}"))
}

fn compared(state: &State, asked: &Compared) -> PortResult<ComparedReport> {
    let run = state.runs.values().find(|run| run.id.0 == asked.run).ok_or_else(|| no_run(asked.run))?;
    let chosen: Vec<&Delivery> = match asked.delivery {
        None => run.deliveries.iter().collect(),
        Some(index) => match run.delivery(index) {
            Some(delivery) => vec![delivery],
            None => {
                let count = run.deliveries.len();
                let message = format!("run {} has no delivery {index}: it has {count}, counted from 0", asked.run);
                return Err(PortError::new(Code::InvalidParameter, message).with(json!({"deliveries": count})));
            }
        },
    };
    let mut counts = Counts::default();
    chosen.iter().for_each(|delivery| counts.add(&delivery.counts()));
    let messages = messages_of(run, &chosen);
    let spec = state.campaigns.get(&run.campaign).and_then(|campaign| campaign.newest());
    let accepted = counts.accepted;
    let of_messages = |of: &dyn Fn(&MessageTracking) -> u64| share(messages.iter().map(|m| of(m)).sum(), accepted);
    let feedback: Vec<Feedback> = chosen.iter().map(|delivery| run.feedback_on(delivery.id.index)).collect();
    let of_feedback = |of: &dyn Fn(&Feedback) -> u64| share(feedback.iter().map(of).sum(), accepted);
    Ok(ComparedReport {
        campaign: run.campaign.0,
        name: spec.and_then(|(_, text)| parse::from_stored(text).ok()).and_then(|spec| spec.name).unwrap_or_default(),
        run: run.id.0,
        delivery: asked.delivery,
        state: run_state(run.state).name().to_owned(),
        started_at: run.started_at.into(),
        audience: counts.audience,
        accepted: counts.accepted,
        rejected: counts.rejected,
        skipped: counts.skipped,
        opened: of_messages(&|m| m.opened.unique(EventClass::Human)),
        clicked: of_messages(&|m| m.clicked.unique(EventClass::Human)),
        converted: of_feedback(&|f| f.converted.unique(EventClass::Human)),
        unsubscribed: of_messages(&|m| m.unsubscribed.len()),
        complained: of_feedback(&|f| f.complained.rows.len()),
        bounced: of_feedback(&|f| f.bounced().len()),
    })
}

/// What came back on the messages of these deliveries.
fn messages_of<'r>(run: &'r Run, deliveries: &[&Delivery]) -> Vec<&'r MessageTracking> {
    let sends = run.graph.nodes().filter_map(|node| match &node.kind {
        NodeKind::Send { delivery, message, .. } => Some((*delivery, MessageId(*message))),
        _ => None,
    });
    let chosen = sends.filter(|(index, _)| deliveries.iter().any(|delivery| delivery.id.index == *index));
    let messages: std::collections::BTreeSet<MessageId> = chosen.map(|(_, message)| message).collect();
    messages.into_iter().filter_map(|message| run.messages.get(&message)).collect()
}

/// An event may come before its message is known to be accepted: no share is above the whole.
fn share(contacts: u64, accepted: u64) -> Share {
    let counted = Proportion::new("share", contacts.min(accepted), accepted).ok();
    let interval = counted.map(|part| part.wilson(normal::two_sided_quantile(WINNER_ALPHA)));
    Share {
        contacts,
        rate: counted.map(Proportion::rate),
        interval: interval.map(|interval| [interval.low, interval.high]),
    }
}

type Field = fn(&ComparedReport) -> Share;

const FIELDS: [(&str, Field); 6] = [
    ("opened", |report| report.opened),
    ("clicked", |report| report.clicked),
    ("converted", |report| report.converted),
    ("unsubscribed", |report| report.unsubscribed),
    ("complained", |report| report.complained),
    ("bounced", |report| report.bounced),
];

fn differences(deliveries: &[ComparedReport]) -> Vec<DifferenceReport> {
    let Some((first, others)) = deliveries.split_first() else { return Vec::new() };
    let part = |report: &ComparedReport, field: Field| {
        let contacts = field(report).contacts.min(report.accepted);
        Proportion::new("delivery", contacts, report.accepted).ok()
    };
    let each = others.iter().enumerate().flat_map(|(at, other)| {
        FIELDS.iter().filter_map(move |(of, field)| {
            let (one, two) = (part(first, *field)?, part(other, *field)?);
            if one.events() == 0 && two.events() == 0 {
                return None;
            }
            let test = proportions::two_proportion_z(one, two);
            let interval = proportions::newcombe(one, two, normal::two_sided_quantile(WINNER_ALPHA));
            Some(DifferenceReport {
                place: at + 1,
                of: (*of).to_owned(),
                difference: two.minus(one),
                interval: [interval.low, interval.high],
                z: test.z,
                p: test.p,
            })
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(accepted: u64, clicked: u64) -> ComparedReport {
        ComparedReport { accepted, clicked: share(clicked, accepted), ..ComparedReport::default() }
    }

    #[test]
    fn each_is_held_against_the_first() {
        let found = differences(&[report(1_000, 120), report(1_000, 150), report(0, 0)]);
        assert_eq!(found.len(), 1, "nobody got the third, and nobody did anything else: {found:?}");
        let difference = &found[0];
        assert_eq!((difference.place, difference.of.as_str()), (1, "clicked"), "{difference:?}");
        assert!((difference.difference - 0.03).abs() < 1e-12, "{difference:?}");
        // statsmodels: proportions_ztest([150, 120], [1000, 1000]) → 1.963…, 0.0496…
        assert!((difference.z - 1.963).abs() < 0.001 && (difference.p - 0.0496).abs() < 0.0001, "{difference:?}");
        assert!(difference.interval[0] < 0.03 && difference.interval[1] > 0.03, "{difference:?}");
    }

    #[test]
    fn a_share_has_a_rate_only_of_somebody() {
        assert_eq!(share(0, 0).rate, None, "of nobody");
        let half = share(50, 100);
        assert_eq!(half.rate, Some(0.5), "a half");
        assert!(half.interval.is_some_and(|[low, high]| low > 0.40 && high < 0.60), "{half:?}");
        assert_eq!(share(3, 2).rate, Some(1.0), "never more than the whole");
    }
}
