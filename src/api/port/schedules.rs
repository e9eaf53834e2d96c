//! Wire types of schedules: what is planned, what became of it, the calendar. Owns no state.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Time;

/// A launch that is ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaunchView {
    /// As the schedule says; with zone = "contact" when it is that time in the easternmost zone.
    pub planned: Time,
    /// When it is made: as planned, and not before the safety time after the publication is over.
    pub effective_start: Time,
    /// With zone = "contact": the time of day for each contact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_time: Option<String>,
}

/// What became of a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaunchDone {
    pub planned: Time,
    /// Of several that were skipped at once: when the last was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_planned: Option<Time>,
    pub count: u32,
    /// `made` or `skipped`.
    pub outcome: String,
    /// Why it was skipped: `too_late`, `overtaken`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The run that it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
    /// When that was decided.
    pub at: Time,
}

/// A campaign's published schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// `active`, `paused`, `withdrawn`, `stopped`; `done` when every launch is decided.
    pub state: String,
    /// Why it stands there, if the engine moved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Version of the spec that is launched.
    pub version: u32,
    pub published_at: Time,
    pub next: Option<LaunchView>,
    /// The next launches, the first ones.
    pub upcoming: Vec<LaunchView>,
    pub made: u64,
    pub skipped: u64,
    /// The newest decisions, the newest first.
    pub history: Vec<LaunchDone>,
}

/// The launch that began a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunLaunchView {
    pub planned: Time,
    pub effective_start: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_time: Option<String>,
    /// How long after its effective start the run began.
    pub late_seconds: f64,
}

/// A launch in the calendar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CalendarEntry {
    pub campaign: u32,
    pub name: String,
    /// The step of a sequence; its date is changed in a working copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The cell, or the variant, with a date of its own; `deadline of …`: a test that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What names this date when it is to be moved; none if it cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Of the campaign.
    pub state: String,
    pub planned: Time,
    pub effective_start: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_time: Option<String>,
    /// `planned`, `made`, `skipped`.
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
}

/// A date of the calendar is to be another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// Name or id.
    pub campaign: String,
    /// As the calendar lists it: `schedule.at`, `cells.0.schedule.at`, `variants.1.at`, or the id of a step.
    pub date: String,
    /// Written as in the spec.
    pub at: String,
    /// Of a step of what is published: without it the refusal shows the starts as they would be.
    #[serde(default)]
    pub confirm: bool,
}

/// What is planned over all campaigns, in the order of the effective starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Calendar {
    pub from: Time,
    /// Not included.
    pub to: Time,
    pub items: Vec<CalendarEntry>,
    /// There is more than is listed: ask for a shorter time.
    pub more: bool,
}
