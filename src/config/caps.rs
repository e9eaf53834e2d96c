//! Frequency caps: how often a contact may be written to on a channel, by the server's settings and by a campaign's.
//!
//! Owns no state. How they are counted is the ledger's business (`ledger::caps`). Invariant: CP-1 a [`Cap`] made by
//! [`Cap::new`] allows 1 to `CAP_MESSAGES_MAX` messages in 1 to `HISTORY_DAYS_MAX` days.

use serde::{Deserialize, Serialize};

use crate::ids::Channel;
use crate::limits::{CAP_MESSAGES_MAX, HISTORY_DAYS_MAX};

/// At most `max` messages to one contact on a channel on any `days` days in a row (UTC, today included).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    pub channel: Channel,
    pub max: u32,
    pub days: u32,
}

/// All that keeps one campaign from writing to a contact too often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    pub caps: Vec<Cap>,
    /// Nobody to whom another run has written on any channel within so many days.
    pub not_contacted_days: Option<u32>,
}

/// Why a cap is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    #[error("max is {max}, and must be from 1 to {CAP_MESSAGES_MAX}")]
    Max { max: u32 },
    #[error("{text:?} is no number of days: write it as \"7d\" or \"2w\", up to {HISTORY_DAYS_MAX}d")]
    Days { text: String },
}

impl Cap {
    pub fn new(channel: Channel, max: u32, per: &str) -> Result<Cap, CapError> {
        if !(1..=CAP_MESSAGES_MAX).contains(&max) {
            return Err(CapError::Max { max });
        }
        Ok(Cap { channel, max, days: days(per)? })
    }
}

impl Caps {
    pub fn is_empty(&self) -> bool {
        self.caps.is_empty() && self.not_contacted_days.is_none()
    }
}

/// `"7d"` or `"2w"` as days, from 1 to `HISTORY_DAYS_MAX`.
pub fn days(text: &str) -> Result<u32, CapError> {
    let text = text.trim();
    let number = |unit: char, each: u32| text.strip_suffix(unit)?.trim_end().parse::<u32>().ok()?.checked_mul(each);
    let days = number('d', 1).or_else(|| number('w', 7));
    days.filter(|days| (1..=HISTORY_DAYS_MAX).contains(days)).ok_or_else(|| CapError::Days { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_weeks_are_read_within_what_is_kept() {
        for (text, expected) in [("7d", Some(7)), (" 2w ", Some(14)), ("1 d", Some(1)), ("92d", Some(92))] {
            assert_eq!(days(text).ok(), expected, "{text}");
        }
        for text in ["0d", "93d", "14w", "24h", "7", "-1d", "d", "", "99999999999d", "4294967295w"] {
            assert!(days(text).is_err(), "{text}");
        }
        assert_eq!(Cap::new(Channel::Email, 0, "7d"), Err(CapError::Max { max: 0 }), "none at all is no cap");
        assert!(Cap::new(Channel::Email, CAP_MESSAGES_MAX + 1, "7d").is_err(), "more than is counted");
    }
}
