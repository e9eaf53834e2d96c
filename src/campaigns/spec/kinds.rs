//! The tables of a spec that belong to one kind of campaign: variants and test, follow-up, grid.
//!
//! ```toml
//! [[variants]]                 # kind = "ab_split": what differs from [message]; names default to A, B, …
//! name = "A"
//! subject = "…"
//! saved = "offer"              # or what a saved message says; [variants.languages.de] what differs in a language
//! at = "saturday 10:00"        # all variants or none: what is tested is the moment; or 09:00, weekend 10:00, a date and time
//! [test]
//! sample = "20%"               # or a number of contacts, all variants together
//! winner_by = "clicks"         # opens, clicks (default), conversions
//! goal = "purchase"            # the conversion that counts; without it any
//! decide_after = "4h"          # after the sample was cut: the deadline
//! window = "2h"                # events count for so long after each contact's own send; default: half of decide_after
//! zone = "Europe/Paris"        # of the moments; or "contact", for each contact's own
//! looks = 4                    # evenly spaced, the last at the deadline
//! if_not_proven = "leader"     # leader (default), wait, nobody, or the name of a variant
//!
//! [follow_up]                  # a second message, in the same run
//! on = "not_opened"            # opened, not_opened, clicked, not_clicked
//! after = "5d"
//! send_until = 2026-12-24T18:00:00+01:00   # of this message; by default the campaign's
//! [follow_up.message]          # what differs from [message]
//! subject = "…"
//!
//! [[dimensions]]               # kind = "multi_segment"
//! name = "region"
//! others = true                # a last value for those in no segment
//! [[dimensions.segments]]
//! name = "north"
//! segment = 'city in ("Lille")'
//! # [[dimensions.segments.segments]] divides it further: the values are then "north / …", and "north" means all of them
//! [[cells]]
//! where = { region = "north" } # a dimension that is not named, or is "all", means all of it
//! nothing = true               # or a message
//! [cells.message]
//! subject = "…"
//! [cells.schedule]             # its contacts wait until then; at and zone alone
//! at = "2026-12-01T18:00"
//! zone = "contact"
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::instant;
use super::super::schedule::ScheduleFields;
use super::{MessageFields, MessageSpec, is_default, lines, word};
use crate::clock::Timestamp;
use crate::flow::nodes::Metric;

/// One version of the message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VariantSpec {
    pub name: Option<String>,
    /// Share of the sample beside the other variants.
    pub weight: Option<u32>,
    /// The moment at which it goes out; `09:00`, `saturday 10:00`, `2026-12-05T10:00`.
    pub at: Option<String>,
    /// What differs: fields, languages, or a saved message.
    pub message: MessageSpec,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "it is neither a number of contacts nor a share such as \"20%\"")]
pub enum SampleSpec {
    Contacts(u64),
    /// `"20%"`
    Share(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner_by: Option<Metric>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub decide_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks: Option<u16>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub if_not_proven: Option<String>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// Whose clocks the moments of the variants go by.
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_delivered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_events: Option<u64>,
}

/// Who gets the second message: of the first one's accepted, those who did or did not do this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUpOn {
    Opened,
    #[default]
    NotOpened,
    Clicked,
    NotClicked,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FollowUpSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<FollowUpOn>,
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What of it is not sent by then is skipped; by default that of the campaign.
    #[serde(with = "instant", skip_serializing_if = "Option::is_none")]
    pub send_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    pub message: MessageSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DimensionSpec {
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<DimensionSegment>,
    /// Whether those in no segment are a value of their own; otherwise they get nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DimensionSegment {
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lines", skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Sub-segments: of those in this segment, who is in which. A contact in two goes to the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<DimensionSegment>,
    /// With sub-segments: whether those in none of them are a value of their own; otherwise they get nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CellSpec {
    /// Value by dimension.
    #[serde(rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub at: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nothing: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub message: MessageSpec,
    /// Its contacts wait until then.
    #[serde(skip_serializing_if = "is_default")]
    pub schedule: ScheduleFields,
}

/// The fields of a message with some replaced.
pub fn overlaid(base: &MessageFields, over: &MessageFields) -> MessageFields {
    let mut fields = base.clone();
    // Another source of a body replaces the one before: html and mjml are the same part.
    if over.contains_key("html") {
        fields.remove("mjml");
    }
    if over.contains_key("mjml") {
        fields.remove("html");
    }
    fields.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
    fields
}

/// `"90s"`, `"30m"`, `"4h"`, `"5d"`, `"2w"` as seconds.
pub fn seconds(text: &str) -> Option<u32> {
    let text = text.trim();
    let unit = text.chars().last()?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number: u32 = text.strip_suffix(unit)?.trim().parse().ok()?;
    number.checked_mul(each)
}

/// `"20%"` or `"12.5 %"` in hundredths of a per cent.
pub fn basis_points(text: &str) -> Option<u32> {
    let number = text.trim().strip_suffix('%')?.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 2 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let fraction: u32 = format!("{fraction:0<2}").parse().ok()?;
    whole.checked_mul(100)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_shares_are_read_as_written() {
        let lengths = [("90s", Some(90)), ("30m", Some(1_800)), ("4h", Some(14_400)), (" 2w ", Some(1_209_600))];
        for (text, expected) in lengths.into_iter().chain([("4", None), ("h", None), ("-1h", None), ("9999999w", None)])
        {
            assert_eq!(seconds(text), expected, "{text}");
        }
        let shares =
            [("20%", Some(2_000)), ("12.5 %", Some(1_250)), ("0.05%", Some(5)), ("20", None), ("1.234%", None)];
        for (text, expected) in shares.into_iter().chain([("-5%", None), ("a%", None), ("%", None)]) {
            assert_eq!(basis_points(text), expected, "{text}");
        }
    }
}
