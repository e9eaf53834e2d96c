//! Wire types of flows: nodes with their contacts, tests with their verdicts, the graph. Owns no state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::Time;

/// One node of a run's flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeReport {
    #[schema(example = "n10")]
    pub id: String,
    pub name: String,
    /// `start`, `send`, `ab_test`, `split`, `condition`, `delay`, `end`.
    pub kind: String,
    /// What it does, in a few words: what it asks, how it splits, how long it waits.
    #[serde(default)]
    pub does: String,
    /// Contacts at the node now.
    pub contacts: u64,
    /// Contacts that ever arrived.
    pub arrived: u64,
    /// Contacts that left, by exit.
    pub left: BTreeMap<String, u64>,
    /// Of an end: `success`, `abandon`, `failure`, `neutral`, `exit`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<String>,
    /// Of an end: contacts at it ÷ contacts that entered the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<f64>,
}

/// One variant of a test: its sample, never the rest that it won.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArmReport {
    pub name: String,
    /// Contacts that got, or will get, this variant; with the rest, once it won.
    pub contacts: u64,
    /// Accepted contacts of the sample.
    pub accepted: u64,
    /// Accepted contacts whose window is over, bounced ones too: the sizes of the sample are compared by them.
    #[serde(default)]
    pub matured: u64,
    /// Of the accepted: whose message came back, by any class of bounce.
    #[serde(default)]
    pub bounced: u64,
    /// Of the matured: whose message has not come back, which on e-mail is what delivered means. Those who are judged, and
    /// what the minimum is held against. All that follows is theirs.
    #[serde(default)]
    pub delivered: u64,
    /// Contacts with the event that is counted, within their window; people only.
    pub events: u64,
    /// `events` ÷ `delivered`; `null` while nobody's window is over.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Wilson interval of the rate, at 95 %.
    #[serde(default)]
    pub rate_interval: Option<[f64; 2]>,
    /// Contacts with such an event by a machine and none by a person. Never counts.
    #[serde(default)]
    pub machine: u64,
    /// The same of events of which it cannot be said. Never counts.
    #[serde(default)]
    pub suspect: u64,
    /// Part of all contacts with such an event who have it from machines or suspects only.
    #[serde(default)]
    pub machine_share: Option<f64>,
    pub unsubscribed: u64,
    #[serde(default)]
    pub complained: u64,
    /// Contacts of the arm whose message was refused, could not be made for them, or has no known outcome.
    #[serde(default)]
    pub rejected: u64,
    #[serde(default)]
    pub skipped: u64,
    #[serde(default)]
    pub unknown: u64,
    /// By the last look: `complaints`, `unsubscribes`, of which it has significantly more than another variant. Whatever its
    /// rate, it does not win by itself.
    #[serde(default)]
    pub cannot_win: Vec<String>,
}

/// The leader against the variant that it is least clearly ahead of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EffectReport {
    pub leader: String,
    pub other: String,
    /// Rate of the leader minus that of the other.
    pub difference: f64,
    /// Newcombe interval of the difference, at 95 %, as if looked at once and at this pair alone.
    pub interval: [f64; 2],
    /// The same at the boundary in force: it pays for looks and pairs.
    pub interval_at_boundary: [f64; 2],
    pub z: f64,
    pub p: f64,
    /// Adjusted over all pairs.
    pub p_holm: f64,
    /// |z| that proves it at this look.
    pub boundary: f64,
}

/// One planned look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LookReport {
    pub look: u16,
    pub at: Time,
    /// `proven`, `leading, not proven`, `no difference found`, `not enough data`, `sample broken`.
    pub verdict: String,
    /// `null` without a leader.
    #[serde(default)]
    pub effect: Option<EffectReport>,
    /// Rates, intervals, pairs with z, p, boundary: as it was judged then.
    #[schema(value_type = Object)]
    pub statistics: Json,
}

/// What the rest gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionReport {
    /// `null`: nobody won, the rest gets nothing.
    pub winner: Option<String>,
    pub proven: bool,
    /// `proven`; `leader`, `named` or `nobody`: what the setting says when nothing is proven; `person`.
    #[serde(default)]
    pub basis: String,
    /// `engine`, or the person.
    pub by: String,
    pub reason: String,
    pub at: Time,
}

/// A test within a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestReport {
    pub node: String,
    /// `opens`, `clicks`, `conversions`.
    pub winner_by: String,
    /// The conversion that counts; `null`: any.
    #[serde(default)]
    pub goal: Option<String>,
    /// Events count for so long after each contact's own send; 0: without end.
    #[serde(default)]
    pub window_seconds: u32,
    /// When the last window that has begun is over.
    #[serde(default)]
    pub matured_at: Option<Time>,
    /// Whether the variants go out side by side; those at moments of their own do not, and what differs between the moments
    /// differs between the variants, too.
    #[serde(default)]
    pub interleaved: bool,
    /// Whether contacts come over time, and all of them are tested on until there is a winner.
    #[serde(default)]
    pub continuing: bool,
    pub sample_cut_at: Option<Time>,
    /// When the test ends; while the run is paused it moves on with the time.
    pub deadline: Option<Time>,
    /// By how much pauses of the run have moved the looks and the deadline.
    #[serde(default)]
    pub paused_seconds: u64,
    /// Contacts that wait for the winner.
    pub waiting: u64,
    pub arms: Vec<ArmReport>,
    pub looks: Vec<LookReport>,
    /// That of the last look; `null` before the first.
    #[serde(default)]
    pub verdict: Option<String>,
    #[serde(default)]
    pub effect: Option<EffectReport>,
    /// Why a person must choose; `null` while nobody must.
    pub waits_for_person: Option<String>,
    pub decision: Option<DecisionReport>,
}

/// A person's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChooseWinnerRequest {
    /// Name of a variant; `null`: nobody, the rest gets nothing. To be said: a choice is final, and silence is none.
    #[serde(deserialize_with = "said")]
    #[schema(required = true)]
    pub variant: Option<String>,
    /// Id of the test's node, as the report has it; needed only where several tests wait for a winner.
    #[serde(default)]
    pub test: Option<String>,
    /// Who chooses; kept with the decision.
    #[serde(default)]
    pub by: Option<String>,
}

/// A field that may be `null` and must be there.
fn said<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// A graph as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphText {
    pub content_type: &'static str,
    pub text: String,
}

/// Shares of those who are asked, from 0 to 1, that a dry run assumes; what is left out is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AssumedRates {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clicked: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribed: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complained: Option<f64>,
}

/// What a dry run is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DryRunRequest {
    /// When it would start; by default now. The contacts are those of now in any case.
    pub at: Option<Time>,
    pub rates: AssumedRates,
}

/// Contacts at least, and at most where reactions are unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountView {
    pub at_least: u64,
    pub at_most: u64,
}

/// Contacts that would come to a node at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArrivalView {
    pub at: Time,
    #[serde(flatten)]
    pub contacts: CountView,
}

/// One node of a dry run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DryRunNode {
    #[schema(example = "welcome")]
    pub id: String,
    pub name: String,
    pub kind: String,
    pub does: String,
    /// Contacts that come to it, each once.
    pub contacts: CountView,
    /// Of a send: contacts that would get its message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub messages: Option<CountView>,
    /// When they come; at most fifty, the last holds all that follow.
    pub arrivals: Vec<ArrivalView>,
}

/// How many contacts would be at which node at what time. Nothing was sent and nothing has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DryRunView {
    pub campaign: u32,
    pub at: Time,
    /// Contacts that would enter the flow.
    pub entered: u64,
    pub rates: AssumedRates,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    pub nodes: Vec<DryRunNode>,
    /// Why it did not look further, if it did not.
    pub stopped: Option<String>,
}
