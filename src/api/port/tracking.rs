//! Types between the tracking endpoints and the engine. Owns no state.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{ContactRow, MessageId, RowSpace, RunId};

/// Which URL a token came in by; a token of one purpose is not valid for another (but opens and clicks share theirs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenPurpose {
    Click,
    Open,
    Unsubscribe,
    View,
}

/// The link that a click asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAsked<'a> {
    /// Index in the message's table.
    pub index: u16,
    /// For a link with expressions: the rendered URL and its MAC, as they stand in the request; the engine checks both.
    pub signed_url: Option<&'a str>,
}

/// What a valid token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    pub space: RowSpace,
    pub run: RunId,
    pub message: MessageId,
    pub row: ContactRow,
    /// When the provider accepted the message, if that is known.
    pub accepted_at: Option<Timestamp>,
    /// For a click: where it leads, checked against the campaign's table; and the link's place in it.
    pub destination: Option<Destination>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub link: u16,
    pub url: String,
    /// No person can see this link: who follows it is a machine.
    pub hidden: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Open,
    Click { link: u16 },
}

/// Who caused an event. Winners and conditions read `Human`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventClass {
    Human,
    /// Probably a machine; counted apart.
    Suspect,
    Machine,
}

impl EventClass {
    pub fn name(self) -> &'static str {
        match self {
            EventClass::Human => "human",
            EventClass::Suspect => "suspect",
            EventClass::Machine => "machine",
        }
    }
}

/// An earlier event of the same contact and message that was counted in `was` and now belongs to the event's class: three
/// links within two seconds make a machine of the first two as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclassified {
    pub kind: EventKind,
    pub was: EventClass,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackingEvent {
    pub space: RowSpace,
    pub run: RunId,
    pub message: MessageId,
    pub row: ContactRow,
    pub kind: EventKind,
    pub class: EventClass,
    /// Name of the machine rule that fired.
    pub rule: Option<&'static str>,
    pub at: Timestamp,
    /// Earlier events to move into `class`.
    pub reclassified: Vec<Reclassified>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsubscribeVia {
    /// RFC 8058: the mail client's button.
    OneClick,
    /// The button of our page.
    Page,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubscribeRequest {
    pub tracked: Tracked,
    pub via: UnsubscribeVia,
    /// From every topic of the channel, not just this message's.
    pub everything: bool,
    pub at: Timestamp,
}
