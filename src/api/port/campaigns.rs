//! Wire types of campaigns: specs as text, problems, actions, previews, audience. Owns no state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::{CancelledStep, Ledger, ScheduleView, SequenceView, Time};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpecFormat {
    Toml,
    Json,
}

/// A campaign's spec, or a patch of one, as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecText {
    pub format: SpecFormat,
    pub text: String,
    /// Names the request if it has an idempotency key: the same name is the same campaign.
    pub request: Option<String>,
}

/// Something that is missing or wrong in a spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemView {
    pub code: String,
    /// Where in the spec.
    #[schema(example = "message.subject")]
    pub path: String,
    /// The id of the node of a flow that was written by hand, or of the step of a sequence, that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// Where in the text that was sent, from 1; `line` and `column` are of the text at `path`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spec_line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spec_column: Option<u32>,
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SpecCheck {
    /// It could start now.
    pub ready: bool,
    pub problems: Vec<ProblemView>,
    /// Worth knowing, and no obstacle: regions that render slowly, a footer that will be added, …
    pub warnings: Vec<ProblemView>,
    /// Links that are counted.
    pub tracked_links: Vec<String>,
    /// Links that are not, each with the reason.
    pub untracked_links: Vec<String>,
    pub used_attributes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignFilter {
    pub state: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignSummary {
    pub id: u32,
    pub name: String,
    pub kind: String,
    /// `draft`, `scheduled`, `running`, `paused`, `stopping`, `stopped`, `finished`, `archived`.
    pub state: String,
    /// Scheduled or running.
    #[serde(default)]
    pub active: bool,
    pub version: u32,
    pub created_at: Time,
    pub updated_at: Time,
    /// The latest run, if there is one.
    pub run: Option<u32>,
    /// The ledger of the latest run.
    pub ledger: Option<Ledger>,
    /// Why the latest run stands where it stands, if the engine moved it there: what paused it.
    #[serde(default)]
    pub reason: Option<String>,
    /// When the next launch of its schedule begins, if one is ahead.
    #[serde(default)]
    pub next_start: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignView {
    #[serde(flatten)]
    pub summary: CampaignSummary,
    #[schema(value_type = Object)]
    pub spec: Json,
    /// All that would stop a start.
    pub problems: Vec<ProblemView>,
    /// What somebody should know and stops nothing; whether anybody matches the audience is looked at when it is saved.
    #[serde(default)]
    pub warnings: Vec<ProblemView>,
    pub legal_moves: Vec<String>,
    /// Of a sequence: its steps with their starts and locks, and the working copy. Of another kind: its nodes with their locks,
    /// while a working copy is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceView>,
    /// What is planned and what became of it, once it was published with a schedule.
    #[serde(default)]
    pub schedule: Option<ScheduleView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Start,
    Unschedule,
    Pause,
    Resume,
    Stop,
    Archive,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Start => "start",
            Action::Unschedule => "unschedule",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Stop => "stop",
            Action::Archive => "archive",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActionDone {
    pub campaign: u32,
    pub run: Option<u32>,
    /// The state after it.
    pub state: String,
    pub ledger: Option<Ledger>,
    /// Contacts that entered the flow; in a journey they enter the ledger when they come to a send.
    #[serde(default)]
    pub entered: u64,
    /// Messages that were marked and not answered at that moment; their outcome follows.
    pub in_flight: u64,
    /// Of a stopped sequence: steps that will not start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<CancelledStep>,
    /// What is planned, once it was published with a schedule.
    #[serde(default)]
    pub schedule: Option<ScheduleView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// Key of the contact to render for; by default the first one of the audience.
    #[serde(default)]
    pub contact: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    pub contact: String,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub html: Option<String>,
    pub text: Option<String>,
    /// As they would be sent, in order.
    pub headers: Vec<HeaderView>,
    /// Attributes that the message uses and the contact lacks.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeaderView {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestSendRequest {
    /// Seed addresses; at most 100.
    pub to: Vec<String>,
    /// Whose attributes are used; by default the first contact of the audience.
    #[serde(default)]
    pub contact: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestSendResult {
    pub to: String,
    /// `accepted`, `rejected`, `deferred`, `unknown`.
    pub outcome: String,
    pub reply: Option<String>,
}

/// The audience summary (A9). `matched` = `final` + everything that is skipped: no_address, not_subscribed,
/// unsubscribed, deactivated, suppressed, duplicate_address, and `missing_attribute` where the message skips on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AudienceView {
    pub channel: String,
    pub connector: Option<String>,
    pub matched: u64,
    /// Have an address on the channel.
    pub reachable: u64,
    /// Why the others are not sent to; disjoint, in order of precedence.
    pub skipped: BTreeMap<String, u64>,
    /// Suppressed, by reason; contacts with several reasons count in each.
    pub suppressed: BTreeMap<String, u64>,
    /// Contacts that lack an attribute which the message uses, by attribute; they may still be sent to.
    pub lacking_attribute: BTreeMap<String, u64>,
    /// Contacts that would be sent to.
    #[serde(rename = "final")]
    pub final_count: u64,
    pub took_ms: f64,
    /// Of a grid: the contacts that each cell would get now, empty cells included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<CellView>,
    /// Of a grid: contacts who get nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_cell: Option<u64>,
    /// Of a grid: contacts in two segments of a dimension, who go to the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlaps: Vec<OverlapView>,
}

/// A cell of a grid, before it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CellView {
    pub cell: String,
    pub contacts: u64,
}

/// Contacts in two segments of a dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverlapView {
    pub dimension: String,
    /// The segment that they go to.
    pub first: String,
    pub second: String,
    pub contacts: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    pub id: u32,
    pub campaign: u32,
    pub number: u32,
    pub state: String,
    pub started_at: Time,
    pub finished_at: Option<Time>,
    pub ledger: Ledger,
}

/// A contact of a set of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunContact {
    pub contact: String,
    pub address: Option<String>,
    pub delivery: u16,
    /// The ledger set that it is in.
    pub set: String,
    /// Skip reason or reject class.
    pub reason: Option<String>,
    pub attempts: u32,
    pub opened: bool,
    pub clicked: bool,
    pub unsubscribed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettleAs {
    Accepted,
    /// Send again.
    Pending,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleRequest {
    #[serde(rename = "as")]
    pub settle_as: SettleAs,
    /// Keys of unknown contacts, or `all`.
    #[serde(default)]
    pub contacts: Vec<String>,
    #[serde(default)]
    pub all: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Settled {
    pub settled: u64,
    /// Keys that were not unknown, at most 1 000.
    pub not_unknown: Vec<String>,
    /// State of the campaign after it: settling as pending makes a finished run running again.
    pub state: String,
    pub ledger: Ledger,
}
