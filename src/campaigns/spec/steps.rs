//! The tables of a spec that belong to a sequence: its starter and its steps.
//!
//! ```toml
//! kind = "sequence"
//! zone = "Europe/Paris"            # of every date; required
//! starter = "audience"             # the default, or "api": contacts come by requests
//! [audience]                       # list and segment together: who is in both
//! list = "customers"
//! segment = 'country = "FR"'
//! [message]                        # what the sends have in common
//! [[steps]]
//! id = "hello"                     # names the step over all versions
//! kind = "send"                    # send, split, set_attribute
//! at = "2026-12-01T09:00"          # in the zone; or "now": with the publication
//! too_late = "2h"                  # not started by itself later than that; by default that of [schedule], or a day
//! late = "follow"                  # who comes after it has begun: follow (default) or skip
//! send_until = 2026-12-03T09:00:00Z
//! [steps.message]                  # what differs from [message]
//! subject = "…"
//! [[steps]]
//! id = "who"
//! kind = "split"
//! by = "weights"                   # weights, segments, engagement, at_most
//! at = "2026-12-02T09:00"
//! branches = [{ name = "a", weight = 1 }, { name = "b", weight = 3 }]
//! # by = "segments":   { name = "vip", segment = 'tags has "vip"' }
//! # by = "engagement": { name = "read", on = "opened", of = "hello" }
//! # by = "at_most":    { name = "first", at_most = 100 }
//! [[steps]]
//! id = "mark"
//! kind = "set_attribute"
//! after = "who.a"                  # a step, or a branch of a split, or a list of them (branches merge)
//! at = "2026-12-03T09:00"
//! attribute = "plan"
//! value = "gold"                   # whole numbers, text, true or false, a list of text
//! ```
//!
//! What all branches of a split by segments, engagement or at_most leave over goes by `remaining`.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Field, MessageSpec, instant, is_default, lines, word};
use crate::campaigns::schedule::fields::TimeText;
use crate::clock::Timestamp;

/// The date of a step that starts with its publication.
pub const NOW: &str = "now";

/// By what contacts come into a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Starter {
    /// The audience, once, at the start of the first step.
    #[default]
    Audience,
    /// Requests, each with its contacts.
    Api,
}

/// What becomes of contacts that reach a step after it has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// They go through it at once.
    #[default]
    Follow,
    /// Its send is skipped for them, and they go on.
    Skip,
}

/// Behind what a step stands: `"hello"`, `"who.a"`, or several of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "it is neither the id of a step (or step.branch) nor a list of them")]
pub enum After {
    One(String),
    Several(Vec<String>),
}

impl After {
    pub fn all(&self) -> &[String] {
        match self {
            After::One(one) => std::slice::from_ref(one),
            After::Several(several) => several,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepSpec {
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `send`, `split` or `set_attribute`; as written, so that what is none can be explained.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// By default the step before in the list; the first one stands at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<TimeText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
    /// How long after its effective start it still starts by itself, such as "2h".
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub too_late: Option<String>,
    #[serde(with = "instant", skip_serializing_if = "Option::is_none")]
    pub send_until: Option<Timestamp>,
    #[serde(deserialize_with = "super::table_or_null", skip_serializing_if = "is_default")]
    pub message: MessageSpec,
    /// `weights`, `segments`, `engagement` or `at_most`.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(deserialize_with = "super::list_or_null", skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchSpec>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    #[serde(deserialize_with = "plain_value", skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Given at the publication and kept over all versions; what a client writes here is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    /// The moment of the publication that started it, of a step whose `at` is "now"; given like `number`.
    #[serde(with = "instant", skip_serializing_if = "Option::is_none")]
    pub now_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BranchSpec {
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    #[serde(deserialize_with = "lines", skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// `opened`, `not_opened`, `clicked`, `not_clicked`, `delivered`, `not_delivered`, `unsubscribed`.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The send that is asked about; by default the last one before the split.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
}

fn plain_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Ok(Option::<Field>::deserialize(deserializer)?.map(|Field(value)| value))
}

impl StepSpec {
    /// What two versions of a step must have in common to be the same: everything but what a publication gives it.
    pub fn without_number(&self) -> StepSpec {
        StepSpec { number: None, now_at: None, ..self.clone() }
    }

    /// Whether it starts with its publication.
    pub fn is_now(&self) -> bool {
        self.at.as_ref().is_some_and(|at| at.0.trim() == NOW)
    }
}
