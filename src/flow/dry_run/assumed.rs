//! What a dry run takes for granted of the run that it does not make.
//!
//! Owns nothing, and must not know the graph.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::flow::nodes::condition::Test;

/// Assumed shares of those who are asked, in millionths; `None`: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub delivered: Option<u32>,
    pub opened: Option<u32>,
    pub clicked: Option<u32>,
    pub unsubscribed: Option<u32>,
    pub complained: Option<u32>,
}

impl Rates {
    pub(super) fn of(&self, test: &Test) -> Option<u32> {
        match test {
            Test::Delivered(_) => self.delivered,
            Test::Opened(_) => self.opened,
            Test::Clicked(_) | Test::ClickedLinks { .. } => self.clicked,
            Test::Unsubscribed | Test::UnsubscribedFrom(_) => self.unsubscribed,
            Test::Complained => self.complained,
            Test::Matches(_) | Test::Engaged(_) | Test::Unique(_) => None,
        }
    }
}

/// A launch by each contact's own clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalLaunch {
    pub local: DateTime,
    /// Of contacts without a zone.
    pub default_zone: TimeZone,
    /// Whose time has passed for longer gets nothing; `None`: nobody is too late.
    pub too_late_ms: Option<u64>,
}

impl LocalLaunch {
    pub(super) fn is_late(&self, due: Timestamp, now: Timestamp) -> bool {
        let limit = self.too_late_ms.and_then(|limit| i64::try_from(limit).ok());
        limit.is_some_and(|limit| now.0.saturating_sub(due.0) > limit)
    }
}

/// What is taken for granted of a run that is not made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assumed {
    pub rates: Rates,
    /// Messages that the campaign sends in a second; `None`: sending takes no time.
    pub per_second: Option<u32>,
    /// `None`: it starts at one instant for all.
    pub launch: Option<LocalLaunch>,
}
