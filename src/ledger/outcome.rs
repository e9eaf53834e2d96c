//! Why a provider refused a message for good.

use serde::{Deserialize, Serialize};

/// Class of a rejection. The number is part of on-disk formats and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RejectClass {
    /// The address does not exist or is disabled: suppresses by rule.
    HardBounce = 1,
    /// Full mailbox and the like, after the last attempt or on a 5xx.
    SoftBounce = 2,
    /// Content or reputation: the sender's fault, never suppresses.
    Policy = 3,
    /// The message is larger than the provider takes.
    TooLarge = 4,
    /// Protocol fault that repeated without pipelining.
    Protocol = 5,
    /// Deferred until the retry deadline passed.
    RetryDeadline = 6,
    /// Any other permanent refusal.
    Other = 7,
}

impl RejectClass {
    pub const ALL: [RejectClass; 7] = [
        RejectClass::HardBounce,
        RejectClass::SoftBounce,
        RejectClass::Policy,
        RejectClass::TooLarge,
        RejectClass::Protocol,
        RejectClass::RetryDeadline,
        RejectClass::Other,
    ];

    pub fn name(self) -> &'static str {
        match self {
            RejectClass::HardBounce => "hard_bounce",
            RejectClass::SoftBounce => "soft_bounce",
            RejectClass::Policy => "policy",
            RejectClass::TooLarge => "too_large",
            RejectClass::Protocol => "protocol",
            RejectClass::RetryDeadline => "retry_deadline",
            RejectClass::Other => "other",
        }
    }

    pub fn from_name(name: &str) -> Option<RejectClass> {
        RejectClass::ALL.into_iter().find(|c| c.name() == name)
    }

    pub fn from_number(number: u8) -> Option<RejectClass> {
        RejectClass::ALL.into_iter().find(|c| *c as u8 == number)
    }
}
