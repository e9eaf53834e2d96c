//! Why a row of an audience gets no message.
//!
//! Owns no state. Invariants: SK-1 a number never changes its meaning and is never used again (facts and exports hold it);
//! SK-2 a row has one reason, the first that applied.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Reason of a skipped row. The number is part of on-disk formats and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SkipReason {
    /// The contact has no address on the message's channel.
    NoAddress = 1,
    /// No consent for the topic was ever given.
    NotSubscribed = 2,
    /// The contact withdrew the consent for the topic.
    Unsubscribed = 3,
    /// The contact is suppressed, everywhere or on the channel.
    Suppressed = 4,
    /// The address is suppressed, whoever has it.
    SuppressedAddress = 5,
    /// The contact was deactivated.
    Deactivated = 6,
    /// The contact was erased after it had matched.
    Erased = 7,
    /// Another contact of the delivery has the same address.
    DuplicateAddress = 8,
    /// An attribute that the message needs is missing, and the message says to skip then.
    MissingAttribute = 9,
    /// The message could not be rendered for this contact.
    RenderFailed = 10,
    /// The run was stopped before the row was sent.
    Stopped = 11,
    /// The time after which the message makes no sense had passed.
    SendUntil = 12,
    /// The row arrived later than its step allows.
    Late = 13,
    /// Held out as the control group.
    HoldOut = 14,
    /// A test ended without a winner that the rest could get.
    NoWinner = 15,
    /// No message is meant for this contact (a cell without one).
    NoMessage = 16,
    /// The contact has had as many messages as its cap allows.
    FrequencyCap = 17,
    /// Another campaign has written to the contact within the days that the audience says.
    RecentlyContacted = 18,
}

impl SkipReason {
    pub const ALL: [SkipReason; 18] = [
        SkipReason::NoAddress,
        SkipReason::NotSubscribed,
        SkipReason::Unsubscribed,
        SkipReason::Suppressed,
        SkipReason::SuppressedAddress,
        SkipReason::Deactivated,
        SkipReason::Erased,
        SkipReason::DuplicateAddress,
        SkipReason::MissingAttribute,
        SkipReason::RenderFailed,
        SkipReason::Stopped,
        SkipReason::SendUntil,
        SkipReason::Late,
        SkipReason::HoldOut,
        SkipReason::NoWinner,
        SkipReason::NoMessage,
        SkipReason::FrequencyCap,
        SkipReason::RecentlyContacted,
    ];

    /// The name in the API, in reports and as a metrics label.
    pub fn name(self) -> &'static str {
        match self {
            SkipReason::NoAddress => "no_address",
            SkipReason::NotSubscribed => "not_subscribed",
            SkipReason::Unsubscribed => "unsubscribed",
            SkipReason::Suppressed => "suppressed",
            SkipReason::SuppressedAddress => "suppressed_address",
            SkipReason::Deactivated => "deactivated",
            SkipReason::Erased => "erased",
            SkipReason::DuplicateAddress => "duplicate_address",
            SkipReason::MissingAttribute => "missing_attribute",
            SkipReason::RenderFailed => "render_failed",
            SkipReason::Stopped => "stopped",
            SkipReason::SendUntil => "send_until",
            SkipReason::Late => "late",
            SkipReason::HoldOut => "hold_out",
            SkipReason::NoWinner => "no_winner",
            SkipReason::NoMessage => "no_message",
            SkipReason::FrequencyCap => "frequency_cap",
            SkipReason::RecentlyContacted => "recently_contacted",
        }
    }

    pub fn from_name(name: &str) -> Option<SkipReason> {
        SkipReason::ALL.into_iter().find(|r| r.name() == name)
    }

    /// The stable number.
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<SkipReason> {
        SkipReason::ALL.into_iter().find(|r| r.number() == number)
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_find_their_reason_and_are_unique() {
        for (index, reason) in SkipReason::ALL.into_iter().enumerate() {
            assert_eq!(SkipReason::from_name(reason.name()), Some(reason), "name of {reason}");
            assert_eq!(SkipReason::from_number(reason.number()), Some(reason), "number of {reason}");
            assert_eq!(usize::from(reason.number()), index + 1, "numbers are stable: {reason}");
            let json = serde_json::to_string(&reason).expect("a unit variant serialises");
            assert_eq!(json, format!("\"{}\"", reason.name()), "serde and name agree");
        }
        assert_eq!(SkipReason::from_number(0), None, "zero is no reason");
        assert_eq!(SkipReason::from_name("stop"), None, "unknown name");
    }
}
