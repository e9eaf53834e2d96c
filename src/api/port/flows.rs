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
    /// Contacts at the node now.
    pub contacts: u64,
    /// Contacts that ever arrived.
    pub arrived: u64,
    /// Contacts that left, by exit.
    pub left: BTreeMap<String, u64>,
    /// Of an end: `success`, `abandon`, `failure`, `neutral`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<String>,
    /// Of an end: contacts at it ÷ contacts that entered the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<f64>,
}

/// One variant of a test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArmReport {
    pub name: String,
    /// Contacts that got, or will get, this variant; with the rest, once it won.
    pub contacts: u64,
    /// Accepted contacts of the sample.
    pub accepted: u64,
    /// Those of them with the event that is counted; people only.
    pub events: u64,
    pub unsubscribed: u64,
}

/// One planned look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LookReport {
    pub look: u16,
    pub at: Time,
    /// `proven`, `leading, not proven`, `no difference found`, `not enough data`, `sample broken`, `none may win`.
    pub verdict: String,
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
    pub sample_cut_at: Option<Time>,
    pub deadline: Option<Time>,
    /// Contacts that wait for the winner.
    pub waiting: u64,
    pub arms: Vec<ArmReport>,
    pub looks: Vec<LookReport>,
    /// Why a person must choose; `null` while nobody must.
    pub waits_for_person: Option<String>,
    pub decision: Option<DecisionReport>,
}

/// A person's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChooseWinnerRequest {
    /// Name of a variant; `null`: nobody, the rest gets nothing.
    pub variant: Option<String>,
    /// Who chooses; kept with the decision.
    #[serde(default)]
    pub by: Option<String>,
}

/// A graph as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphText {
    pub content_type: &'static str,
    pub text: String,
}
