//! Wire types of the report: the ledger, deliveries, progress, tracking figures. Owns no state.
//!
//! Invariant: `audience = pending + claimed + deferred + accepted + rejected + skipped + unknown`, and `balanced` says
//! whether it holds for the sets it was counted from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AudienceView, HoldOutReport, NodeReport, ResendView, RunLaunchView, ScheduleView, StepView, TestReport, Time,
};
use crate::ledger::Counts;

/// Promise 2 in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    pub audience: u64,
    pub pending: u64,
    pub claimed: u64,
    pub deferred: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub skipped: u64,
    pub unknown: u64,
    /// The disjoint sets add up to the audience.
    pub balanced: bool,
    /// Of `pending`: rows whose node is not yet their send.
    #[serde(default)]
    pub pending_held: u64,
    #[serde(default)]
    pub rejected_by: BTreeMap<String, u64>,
    #[serde(default)]
    pub skipped_by: BTreeMap<String, u64>,
}

impl Ledger {
    /// The wire form of a ledger's numbers; what is counted and when it balances is `ledger::Counts`'s word.
    pub fn of(counts: Counts, rejected_by: BTreeMap<String, u64>, skipped_by: BTreeMap<String, u64>) -> Ledger {
        let balanced = counts.is_balanced();
        let Counts { audience, pending, pending_held, claimed, deferred, accepted, rejected, skipped, unknown } =
            counts;
        Ledger {
            audience,
            pending,
            claimed,
            deferred,
            accepted,
            rejected,
            skipped,
            unknown,
            balanced,
            pending_held,
            rejected_by,
            skipped_by,
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            audience: self.audience,
            pending: self.pending,
            pending_held: self.pending_held,
            claimed: self.claimed,
            deferred: self.deferred,
            accepted: self.accepted,
            rejected: self.rejected,
            skipped: self.skipped,
            unknown: self.unknown,
        }
    }

    /// Adds another delivery's ledger.
    pub fn add(&mut self, other: &Ledger) {
        let mut counts = self.counts();
        counts.add(&other.counts());
        let (mut rejected_by, mut skipped_by) = (self.rejected_by.clone(), self.skipped_by.clone());
        for (sums, more) in [(&mut rejected_by, &other.rejected_by), (&mut skipped_by, &other.skipped_by)] {
            for (reason, count) in more {
                *sums.entry(reason.clone()).or_default() += count;
            }
        }
        let balanced = self.balanced && other.balanced;
        *self = Ledger { balanced, ..Ledger::of(counts, rejected_by, skipped_by) };
    }
}

/// Counts of one kind of event, kept apart by who caused it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventCounts {
    /// Contacts; 0 where tracking is aggregate-only.
    pub unique: u64,
    /// Events by people.
    pub total: u64,
    pub suspect: u64,
    pub machine: u64,
}

/// Contacts, and events with their repetitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UniqueTotal {
    pub unique: u64,
    pub total: u64,
}

/// What came back about messages that were handed over, by `POST /v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedbackCounts {
    pub delivered: UniqueTotal,
    /// Of an address that does not exist; a refusal at the hand-over is in the ledger's `rejected`.
    pub bounced_hard: UniqueTotal,
    pub bounced_soft: UniqueTotal,
    /// Refused for what the sender did; suppresses nobody.
    pub bounced_policy: UniqueTotal,
    pub complained: UniqueTotal,
    pub converted: EventCounts,
    /// What people's conversions were worth: the sum of `value` by `currency` (empty if none was said), as a decimal number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub converted_value: BTreeMap<String, String>,
    /// Events of the sender's own that name the message, or contact and campaign, by type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, UniqueTotal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkCounts {
    pub index: u16,
    pub url: String,
    #[serde(flatten)]
    pub counts: EventCounts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageReport {
    pub message: u16,
    /// The variant or cell, or else the campaign.
    pub name: String,
    /// Contacts that got, or will get, this message.
    #[serde(default)]
    pub contacts: u64,
    pub accepted: u64,
    pub opened: EventCounts,
    pub clicked: EventCounts,
    pub unsubscribed: u64,
    pub links: Vec<LinkCounts>,
    #[serde(default)]
    pub feedback: FeedbackCounts,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryReport {
    pub index: u16,
    /// What the campaign calls it: `send`, `follow-up`, `cells`, the id of a node or step.
    #[serde(default)]
    pub name: String,
    pub connector: String,
    pub channel: String,
    #[serde(flatten)]
    pub ledger: Ledger,
    pub messages: Vec<MessageReport>,
    /// The sum over `messages`.
    #[serde(default)]
    pub feedback: FeedbackCounts,
}

/// What some cells of a grid brought together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GridCounts {
    pub contacts: u64,
    pub accepted: u64,
    /// Contacts, people only.
    pub opened: u64,
    pub clicked: u64,
    pub unsubscribed: u64,
}

/// One cell of a grid. Cells that share a message have figures of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GridCell {
    /// Its value in each dimension.
    pub place: BTreeMap<String, String>,
    pub message: u16,
    #[serde(flatten)]
    pub counts: GridCounts,
}

/// All cells of one value of a dimension: a row or a column of the grid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GridTotal {
    pub dimension: String,
    pub value: String,
    #[serde(flatten)]
    pub counts: GridCounts,
}

/// A multi-segment campaign by cell, row and column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GridReport {
    pub dimensions: Vec<String>,
    pub cells: Vec<GridCell>,
    pub totals: Vec<GridTotal>,
}

/// Why a running campaign is not sending at the speed it could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StallView {
    #[schema(example = "connector_limit")]
    pub reason: String,
    pub message: String,
    pub since: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SampleView {
    /// Reject class, `deferred`, or skip reason.
    pub class: String,
    pub contact: Option<String>,
    pub text: String,
}

/// The one-shot upload that a run was sent to, and who gave the word for its people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UploadUse {
    pub id: u32,
    pub name: String,
    /// The name of the key with which `consent_confirmed` came.
    pub consent_confirmed_by: Option<String>,
    /// The id of that key, which tells it from another one of the same name.
    #[serde(default)]
    pub consent_confirmed_key: Option<String>,
    /// `api`, or `cli` for the program's own command line.
    #[serde(default)]
    pub consent_confirmed_via: Option<String>,
    pub consent_confirmed_at: Option<Time>,
    /// Its rows were removed then; the counts of the run stay.
    pub removed_at: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    pub campaign: u32,
    pub name: String,
    pub run: u32,
    pub state: String,
    /// `strict` or `at_least_once`.
    pub mode: String,
    pub started_at: Time,
    pub finished_at: Option<Time>,
    /// Since then the run knows how many, and not who: its retention (`[retention] run_details_days`) has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details_removed_at: Option<Time>,
    /// The sum over `deliveries`.
    pub ledger: Ledger,
    pub deliveries: Vec<DeliveryReport>,
    /// Messages settled per second, over the last seconds.
    pub rate_per_second: f64,
    pub eta_seconds: Option<f64>,
    pub stall: Option<StallView>,
    /// The audience as it was at the start.
    pub audience: Option<AudienceView>,
    pub samples: Vec<SampleView>,
    /// Longest time from an unsubscribe request to its effect in this process, milliseconds.
    pub unsubscribe_latency_ms_max: Option<f64>,
    /// Contacts that entered the flow.
    #[serde(default)]
    pub entered: u64,
    /// Nodes of the flow, with their contacts.
    #[serde(default)]
    pub nodes: Vec<NodeReport>,
    /// Tests of the flow, with their verdicts.
    #[serde(default)]
    pub tests: Vec<TestReport>,
    /// Steps of a sequence, with planned, effective and actual start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepView>,
    /// By cell, row and column, of a multi-segment campaign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<GridReport>,
    /// The launch of a schedule that began the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<RunLaunchView>,
    /// The campaign's schedule: what is ahead, and which launches were made or skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleView>,
    /// Another run that this one continues, if it is linked to one.
    pub linked_run: Option<u32>,
    /// The one-shot upload that it was sent to.
    #[serde(default)]
    pub upload: Option<UploadUse>,
    /// The set of that run to which this one goes.
    #[serde(default)]
    pub linked_set: Option<String>,
    /// Runs that are resends of this one.
    #[serde(default)]
    pub resends: Vec<ResendView>,
    /// The control group, if there is one.
    #[serde(default)]
    pub hold_out: Option<HoldOutReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_add_up_set_by_set() {
        let one = Ledger {
            audience: 6,
            pending: 1,
            claimed: 1,
            accepted: 2,
            skipped: 1,
            rejected: 1,
            balanced: true,
            skipped_by: BTreeMap::from([("no_address".into(), 1)]),
            rejected_by: BTreeMap::from([("hard_bounce".into(), 1)]),
            ..Ledger::default()
        };
        let mut sum = Ledger { balanced: true, ..Ledger::default() };
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.audience, 12);
        assert!(sum.counts().is_balanced(), "sets add up to the audience");
        assert_eq!(sum.skipped_by["no_address"], 2, "reasons add up too");
        assert!(sum.balanced, "two balanced ledgers give a balanced one");
        sum.add(&Ledger::default());
        assert!(!sum.balanced, "one that is not balanced spoils the sum");
    }
}
