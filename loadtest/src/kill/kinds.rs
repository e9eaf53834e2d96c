//! The kinds of campaigns of the kill scenario: to whom each is sent, and by what the record tells its mails apart.
//!
//! Owns no state. The subject of every mail begins `NAME DELIVERY.VERSION`: the campaign, the index of the delivery in its
//! report, and which of the delivery's messages it is. Invariants: 1. whom a campaign is sent to, and where a split or a cell
//! puts a contact, follows from its number alone, so that the accounts need nobody's word for it; 2. names of campaigns have
//! no space.

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::base;

/// A kind of campaign, as the scenario drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One message to all of the large base
    Single,
    /// A second message to those who did not open the first
    FollowUp,
    /// Three versions, conversions fed by events, decided by the engine or by a person
    AbSplit,
    /// Four cells, one with a date of its own
    MultiSegment,
    /// Split, waits, condition, a delivery that two sends share
    Flow,
    /// Dated steps: edited, entered by requests, extended, stopped
    Sequence,
    /// Several dates, or every minute
    Scheduled,
    /// To the rows of an uploaded file
    OneShot,
}

impl Kind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Single => "single",
            Kind::FollowUp => "follow_up",
            Kind::AbSplit => "ab_split",
            Kind::MultiSegment => "multi_segment",
            Kind::Flow => "flow",
            Kind::Sequence => "sequence",
            Kind::Scheduled => "scheduled",
            Kind::OneShot => "one_shot",
        }
    }
}

/// Contacts with numbers from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Begins their addresses, and their keys if they are contacts of the base.
    pub prefix: String,
    pub contacts: u64,
    /// They are rows of an uploaded file: their keys are its lines.
    pub lines: bool,
}

/// Lines of a file before that of contact 0: the header, and they count from 1.
const LINES_BEFORE: u64 = 2;

impl Group {
    pub fn of_base(prefix: &str, contacts: u64) -> Group {
        Group { prefix: prefix.to_owned(), contacts, lines: false }
    }

    pub fn email(&self, i: u64) -> String {
        base::email(&self.prefix, i)
    }

    /// The number of the contact with this key; `None` of a stranger.
    pub fn of_key(&self, key: &str) -> Option<u64> {
        let i = match self.lines {
            true => key.parse::<u64>().ok()?.checked_sub(LINES_BEFORE)?,
            false => key.strip_prefix(self.prefix.as_str())?.parse().ok()?,
        };
        (i < self.contacts && (self.lines || base::key(&self.prefix, i) == key)).then_some(i)
    }

    /// The number of the contact with this address.
    pub fn of_email(&self, address: &str) -> Option<u64> {
        let i = address.strip_prefix(self.prefix.as_str())?.split('@').next()?.parse().ok()?;
        (i < self.contacts && self.email(i) == address).then_some(i)
    }

    /// The file of an upload.
    pub fn to_csv(&self) -> String {
        let rows = (0..self.contacts).map(|i| format!("{},Row {i}\n", self.email(i)));
        std::iter::once("email,first_name\n".to_owned()).chain(rows).collect()
    }
}

/// Beginning of a subject: what the record tells mails apart by.
pub fn subject(campaign: &str, delivery: u16, version: &str) -> String {
    format!("{campaign} {delivery}.{version} hello")
}

/// Campaign, delivery and version of a subject.
pub fn read_subject(subject: &str) -> Option<(&str, u16, &str)> {
    let mut words = subject.split(' ');
    let (campaign, (delivery, version)) = (words.next()?, words.next()?.split_once('.')?);
    Some((campaign, delivery.parse().ok()?, version))
}

/// Contacts who match [`ONES`].
pub fn is_one(i: u64) -> bool {
    matches!(i % 16, 1 | 10..=15)
}

/// Contacts who match [`FIVES`].
pub fn is_five(i: u64) -> bool {
    i % 10 == 5
}

/// Addresses at mail1, and at mail10 to mail15.
pub const ONES: &str = "email contains \"@mail1\"";
pub const FIVES: &str = "email contains \"5@mail\"";

/// The version that a cell of the grid has for a contact.
pub fn cell_of(i: u64) -> &'static str {
    match (is_one(i), is_five(i)) {
        (true, true) => "w",
        (true, false) => "x",
        (false, true) => "y",
        (false, false) => "z",
    }
}

/// An instant so many milliseconds ahead, as specs write it.
pub fn soon(milliseconds: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_millis(milliseconds);
    format!("{at:.3}")
}

/// How old a fact must be that an engine shows before it is held to it: what nobody was told is durable may be lost with
/// the process, or with the power, as long as it is not on the disk; it is there long before.
const OLD: SignedDuration = SignedDuration::from_secs(1);

/// Whether the instant of an answer is long past; false of what is none.
pub fn is_old(instant: &serde_json::Value) -> bool {
    let at = instant.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    at.is_some_and(|at| at + OLD <= Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_known_by_key_and_address_and_nobody_else() {
        let base = Group::of_base("f", 20);
        assert_eq!((base.of_key("f00000007"), base.of_email("f00000007@mail7.example.net")), (Some(7), Some(7)));
        for stranger in ["f00000020", "f7", "c00000007", "7"] {
            assert_eq!(base.of_key(stranger), None, "{stranger}");
        }
        assert_eq!(base.of_email("f00000007@mail8.example.net"), None, "of another domain");
        let rows = Group { prefix: "u3x".to_owned(), contacts: 3, lines: true };
        assert_eq!(rows.to_csv().lines().nth(1), Some("u3x00000000@mail0.example.net,Row 0"), "line 2 of the file");
        assert_eq!(
            (rows.of_key("2"), rows.of_key("4"), rows.of_key("5"), rows.of_key("1")),
            (Some(0), Some(2), None, None)
        );
    }

    #[test]
    fn subjects_tell_campaign_delivery_and_version() {
        let text = subject("k0007", 4, "two-v1");
        assert_eq!(read_subject(&text), Some(("k0007", 4, "two-v1")));
        assert_eq!(read_subject("k0007 hello"), None, "of nobody");
    }

    #[test]
    fn only_what_is_a_second_old_is_held_against_an_engine() {
        assert!(is_old(&serde_json::json!("2026-01-01T00:00:00.123Z")), "long past");
        assert!(!is_old(&serde_json::json!(soon(0))) && !is_old(&serde_json::json!(soon(9_000))), "now, and ahead");
        assert!(!is_old(&serde_json::Value::Null), "never");
    }

    #[test]
    fn expressions_match_whom_the_oracle_says() {
        for i in 0..400 {
            let address = base::email("f", i);
            assert_eq!(address.contains("@mail1"), is_one(i), "{address}");
            assert_eq!(address.contains("5@mail"), is_five(i), "{address}");
        }
    }
}
