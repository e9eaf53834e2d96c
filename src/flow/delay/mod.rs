//! Delays: when a row that has entered may go on, and the rows that wait for it.
//!
//! - [`period`]: a length of time as a person writes it, `30m` or `5d`.
//! - [`weekdays`]: a set of days of the week.
//! - [`mod@due`]: a [`Delay`] and the entry of a row make an instant.
//! - [`moment`]: a time on certain days, for the first time on a date.
//! - [`zones`]: the same for sets of rows, each contact in its own zone.
//! - [`civil`]: times of day to instants, with the rule for changes of clocks.
//! - [`buckets`]: the rows that wait, by the second at which they are due; `sealed`: in few bytes.
//!
//! Who owns the state: the run holds a [`Waits`] per node that waits. All else is a function of its arguments.
//!
//! What it must not know: the clock (instants are handed in), graphs, why a row waits.

pub mod buckets;
pub mod civil;
pub mod due;
pub mod moment;
pub mod period;
mod sealed;
pub mod weekdays;
pub mod zones;

pub use buckets::Waits;
pub use due::{Delay, due};
pub use moment::Moment;
pub use period::{Period, PeriodUnit};
pub use weekdays::DaySet;
pub use zones::{ZoneSet, by_zone};

use crate::clock::Timestamp;
use crate::limits;

/// Why a delay is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelayError {
    #[error("{input:?} is no period: write a number and m, h, d or w, such as 30m, 24h, 5d or 2w")]
    NotAPeriod { input: String },
    #[error("a period of {input} passes at once: write 1m or more")]
    Nothing { input: String },
    #[error("{input} is longer than {max} days", max = limits::DELAY_DAYS_MAX)]
    TooLong { input: String },
    #[error("{input:?} is no day of the week")]
    NotADay { input: String },
    #[error("no day of the week is chosen")]
    NoDay,
    #[error("{date} has passed: it is {now}")]
    DatePassed { date: jiff::civil::DateTime, now: Timestamp },
}
