//! Wire types of sequences, and of edits of what runs: steps with their starts and locks, publications, working copies, requests. Owns no state.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::{PortResult, ProblemView, Ref, Time};

/// A step of a sequence that is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    pub id: String,
    /// `send`, `split`, `set_attribute`.
    pub kind: String,
    /// Behind what it stands.
    pub after: Vec<String>,
    /// `executed` (locked), `current` (contacts wait for it: its place is locked), `unreached` (free).
    pub lock: String,
    /// As the spec says; `null`: it starts by request.
    pub planned: Option<Time>,
    /// The later of `planned` and the last publication plus the grace.
    pub effective: Option<Time>,
    /// When it did start; later than `effective` if it was shifted.
    pub started: Option<Time>,
    /// Contacts that wait for its start.
    pub waiting: u64,
    /// Contacts that ever came to it.
    pub reached: u64,
    /// Contacts that may still come, those that wait included.
    pub ahead: u64,
    /// Its hour has passed by more than its limit (`too_late`): it does not start by itself; start or skip it.
    #[serde(default)]
    pub held: bool,
    /// A person had it skipped: it did nothing.
    #[serde(default)]
    pub skipped: bool,
}

/// A working copy of what runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkingCopyView {
    #[schema(value_type = Object)]
    pub spec: Json,
    /// Whether it can be changed and published.
    pub open: bool,
    pub opened_at: Time,
    pub saved_at: Time,
    /// It adds steps to a finished campaign.
    pub extends: bool,
    /// The step whose start closed it.
    pub closed_by: Option<String>,
    /// All that stands in the way of its publication.
    pub alerts: Vec<ProblemView>,
}

/// What a sequence has besides the rest of a campaign; of another kind, its nodes and their locks while a working copy is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SequenceView {
    /// Steps of the version in force; of a draft, as they would be. Of another kind: the nodes of the run.
    pub steps: Vec<StepView>,
    pub version: Option<u32>,
    pub published_at: Option<Time>,
    /// When the cohort was fixed.
    pub cohort_at: Option<Time>,
    pub working_copy: Option<WorkingCopyView>,
    /// How long the start took when it was tested; steps that follow each other faster are shifted.
    pub start_seconds: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// Nothing is published without it; the refusal shows the starts as they would be.
    #[serde(default)]
    pub confirm: bool,
}

/// When a step will start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    pub id: String,
    /// `null`: at once, by request.
    pub planned: Option<Time>,
    pub effective: Option<Time>,
    /// It has started, or its hour has come: this publication does not move it.
    #[serde(default)]
    pub executed: bool,
}

/// A publication.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PublishDone {
    pub campaign: u32,
    pub run: u32,
    pub version: u32,
    /// `scheduled` or `running`.
    pub state: String,
    /// Scheduled or running.
    pub active: bool,
    pub published_at: Time,
    pub steps: Vec<PlannedStep>,
    pub warnings: Vec<ProblemView>,
    /// Of a campaign that is no sequence: the messages and nodes that it changed.
    #[serde(default)]
    pub changed: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnterRequest {
    /// Keys of contacts.
    pub contacts: Vec<String>,
    /// Names the request: the same one again enters nobody and is answered the same. Or the header `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnterDone {
    pub run: u32,
    /// Contacts that came in by this request.
    pub entered: u64,
    /// Contacts that were in before: one enters once.
    pub already: u64,
    /// Keys that no contact has.
    pub unknown: Vec<String>,
    /// The request was done before, and this is its answer.
    pub repeated: bool,
}

/// How long the start takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StartTestDone {
    pub contacts: u64,
    /// The least time between two steps; some more is better.
    pub seconds: f64,
}

/// What becomes of a step that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseAction {
    Start,
    Skip,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The id of the step.
    pub step: String,
    pub action: ReleaseAction,
}

/// A step that a stop kept from starting, or cut short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelledStep {
    pub id: String,
    pub planned: Option<Time>,
    /// Contacts that waited for its start.
    pub waiting: u64,
    /// Contacts that would, or on a branch might, have come to it. Of a step under way: those whose message was cancelled.
    pub contacts: u64,
    /// It was under way.
    #[serde(default)]
    pub running: bool,
    /// Of a step under way: contacts whose message had been accepted.
    #[serde(default)]
    pub sent: u64,
}

/// Sequences.
pub trait SequencesPort: Send + Sync {
    /// Puts the draft or the working copy into force.
    fn publish(&self, campaign: &Ref, request: PublishRequest) -> PortResult<PublishDone>;
    /// Opens a working copy of what runs.
    fn edit(&self, campaign: &Ref) -> PortResult<SequenceView>;
    /// Opens a working copy of what is finished.
    fn extend(&self, campaign: &Ref) -> PortResult<SequenceView>;
    /// Brings contacts in; `name` names the request.
    fn enter(&self, campaign: &Ref, contacts: &[String], name: &str) -> PortResult<EnterDone>;
    /// Starts or skips a step that is held back.
    fn release_step(&self, campaign: &Ref, request: ReleaseRequest) -> PortResult<SequenceView>;
    /// Measures the start without starting anything.
    fn test_start(&self, campaign: &Ref) -> PortResult<StartTestDone>;
}
