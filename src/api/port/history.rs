//! Wire types of linked resends, control groups and saved messages. Owns no state.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::{Ledger, Time};

/// Sends to a set of a run again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResendRequest {
    /// `rejected`, `rejected:CLASS`, `unknown`, `skipped`, `skipped:REASON`, `not_opened` (accepted and not opened), `opened`,
    /// `not_clicked`, `clicked`.
    #[schema(example = "not_opened")]
    pub set: String,
    /// Another run of the campaign than the latest.
    #[serde(default)]
    pub run: Option<u32>,
    /// Name of the new campaign; by default the first one's and a number.
    #[serde(default)]
    pub name: Option<String>,
    /// What differs in `[message]`, as a merge patch.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub message: Option<Json>,
    /// Only saves it; the campaign can then be looked at, changed and started as any other.
    #[serde(default)]
    pub draft: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResendDone {
    /// The new campaign.
    pub campaign: u32,
    pub name: String,
    pub run: Option<u32>,
    pub state: String,
    /// The run that is continued.
    pub linked_run: u32,
    pub linked_set: String,
    /// Contacts of the set.
    pub in_set: u64,
    /// Of those, contacts who got, or may get, the message by an earlier resend; they are left out.
    pub covered: u64,
    pub ledger: Option<Ledger>,
}

/// A resend as the report of the run that it continues shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResendView {
    pub campaign: u32,
    pub name: String,
    pub run: u32,
    pub set: String,
    pub state: String,
    pub audience: u64,
    pub accepted: u64,
}

/// The control group, and whom it is to be compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HoldOutReport {
    /// Held out at the start, by chance; they get no message of the run.
    pub contacts: u64,
    /// All who could be sent to at the start: the group and those it was cut from.
    pub eligible: u64,
    /// The group's part of them, in percent.
    pub percent: f64,
    /// Contacts whose message was accepted: what the group is compared with.
    pub compared_with: u64,
    /// The set to list the group by.
    pub set: String,
    /// What both did since the day of the start, whoever made them: events of the sender's own, conversions. Of a run whose
    /// details were removed: up to then (`details_removed_at`). With `[retention] event_days`: whose last event is still kept.
    #[serde(default)]
    pub behaviour: Vec<ComparedBehaviour>,
}

/// One type of event in the control group and in those it is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparedBehaviour {
    pub event: String,
    /// Contacts of the group who did it.
    pub held_out: u64,
    pub held_out_percent: f64,
    /// Contacts whose message was accepted who did it.
    pub sent: u64,
    pub sent_percent: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedMessageSummary {
    pub name: String,
    pub channel: Option<String>,
    /// Who has none of `languages` gets it in this one.
    pub default_language: Option<String>,
    pub languages: Vec<String>,
    pub subject: Option<String>,
    /// From 1; a campaign keeps the one that it started with.
    pub version: u32,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SavedMessageView {
    #[serde(flatten)]
    pub summary: SavedMessageSummary,
    /// As `[message]` of a campaign.
    #[schema(value_type = Object)]
    pub message: Json,
}
