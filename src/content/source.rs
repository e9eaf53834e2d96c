//! The `[message]` table of a campaign as its author writes it, and what the compiler is told beside it.
//!
//! Owns no state. A campaign's `channel`, `connector` and `topic` stand in the same table but are not content: take them
//! out before reading the rest as a [`MessageSource`], which refuses keys that it does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An e-mail as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MessageSource {
    /// Sender, as `Name <address>`; the name may hold expressions, the address may not.
    pub from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    pub subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// MJML, turned into HTML when the message is compiled; instead of `html`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mjml: Option<String>,
    /// Plain text; derived from the HTML if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What inboxes show after the subject; hidden in the HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preheader: Option<String>,
    /// Further headers, by name; values may hold expressions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentSource>,
    /// Language of dates, numbers and the footer for contacts that have none: en, fr, de, es, it, nl, pt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    pub missing: Missing,
    pub footer: Footer,
    pub track: Track,
    /// `List-Id` (RFC 2919): `news.example.test`, or `Our news <news.example.test>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_id: Option<String>,
    /// `Feedback-ID`: up to four fields joined with `:`, the last one the sender's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback_id: Option<String>,
}

/// A file that goes with every copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentSource {
    /// Name that the reader sees; never a path.
    pub name: String,
    pub media_type: String,
    /// The bytes in base64; line ends and spaces are passed over.
    pub base64: String,
}

/// What happens when an attribute that the contact lacks is printed bare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Nothing is printed.
    #[default]
    Empty,
    /// The contact is skipped.
    Skip,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Footer {
    /// A line with the unsubscribe link is added to a part that has none.
    #[default]
    Auto,
    /// Nothing is added.
    None,
}

/// Whether links and opens are tracked: `true`, `false`, or `"aggregate"` for totals that name nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TrackValue", into = "TrackValue")]
pub enum Track {
    #[default]
    On,
    Off,
    /// The tokens carry no contact: opens and clicks are counted, and nobody can tell whose they were.
    Aggregate,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "track is true, false or \"aggregate\"")]
enum TrackValue {
    Switch(bool),
    Word(String),
}

impl TryFrom<TrackValue> for Track {
    type Error = BadTrack;

    fn try_from(value: TrackValue) -> Result<Track, BadTrack> {
        match value {
            TrackValue::Switch(true) => Ok(Track::On),
            TrackValue::Switch(false) => Ok(Track::Off),
            TrackValue::Word(word) if word == "aggregate" => Ok(Track::Aggregate),
            TrackValue::Word(_) => Err(BadTrack),
        }
    }
}

impl From<Track> for TrackValue {
    fn from(track: Track) -> TrackValue {
        match track {
            Track::On => TrackValue::Switch(true),
            Track::Off => TrackValue::Switch(false),
            Track::Aggregate => TrackValue::Word("aggregate".to_owned()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("track is true, false or \"aggregate\"")]
pub struct BadTrack;

/// What the compiler is told beside the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompileContext {
    /// Where the public listener is reached, without a slash at the end: `https://mail.example.test`.
    pub public_url: String,
    pub campaign_name: String,
    /// What templates see as `cell`: the name of a grid's cell, and its place in each dimension. Empty without a grid.
    pub cell: BTreeMap<String, String>,
    /// Domain that takes in bounces; without it, bounces go to the sender's own address.
    pub return_path_domain: Option<String>,
    /// Address that takes in unsubscribe mails, for the `mailto` form of `List-Unsubscribe`.
    pub unsubscribe_mailbox: Option<String>,
}
