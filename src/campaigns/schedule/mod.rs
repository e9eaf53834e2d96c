//! Schedules: when a campaign starts, once, at several dates or again and again.
//!
//! - [`fields`]: a schedule as written in a spec, and everything that is wrong with it.
//! - [`recurrence`]: `every friday 17:00` or a cron line ([`words`], [`cron`]), one [`pattern`] of times and days.
//! - [`launches`]: the [`Schedule`] itself: what comes next, a calendar, what is too late.
//!
//! Who owns the state: the engine remembers which launches were made; everything here is a function of its arguments.
//!
//! Invariants:
//! 1. A [`Schedule`] that exists starts something: its dates were ahead, and its recurrence has a launch.
//! 2. Changes of clocks follow the rule of [`crate::flow::delay::civil`]: a launch whose time is skipped is moved on by
//!    the length of the gap, one whose time is repeated is made the first time only. A recurrence of every hour follows the
//!    clock instead and is made in the repeated hour, too. Launches that fall on one instant are one.
//! 3. A launch is planned at an instant that depends on nothing but the schedule and the rules of its zone.
//!
//! What it must not know: the clock (instants are handed in), audiences, runs.

pub mod cron;
pub mod fields;
pub mod launches;
pub mod pattern;
pub mod recurrence;
pub mod words;

pub use fields::{ScheduleFields, TimeText};
pub use launches::{Calendar, Launch, LaunchZone, Schedule, Start, effective_start, is_too_late};
pub use recurrence::Recurrence;

use crate::clock::Timestamp;
use crate::limits;

/// What is wrong with a schedule; each names the text at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error(
        "{input:?} is no time zone: write an IANA name such as \"Europe/Paris\", or \"contact\" for each contact's own"
    )]
    UnknownZone { input: String },
    #[error("{input:?} needs a zone: set `zone`, or write an offset such as +01:00")]
    NoZone { input: String },
    #[error("{input:?} has an offset, and `zone` is set, too: keep one of them")]
    ZoneTwice { input: String },
    #[error("{input:?} is no date and time: write 2026-12-01T18:00")]
    NotATime { input: String },
    #[error("{input:?} has passed: it is {now}")]
    Past { input: String, now: Timestamp },
    #[error("{input:?} is named twice")]
    NamedTwice { input: String },
    #[error("{given} dates, and {max} is the most", max = limits::SCHEDULE_DATES_MAX)]
    TooManyDates { given: usize },
    #[error("`{first}` and `{second}` are both set: keep one of them")]
    Both { first: &'static str, second: &'static str },
    #[error("`{field}` is only for a schedule that recurs")]
    OnlyRecurring { field: &'static str },
    #[error("`default_zone` is only for zone = \"contact\"")]
    OnlyContact,
    #[error("the campaign is scheduled, and has no schedule any more: unschedule it first, or set a date")]
    Removed,
    #[error("a cell's schedule is one date: `{field}` is for campaigns")]
    NotOfCells { field: &'static str },
    #[error("no launch is ahead: all dates are over")]
    NothingAhead,
    #[error("{input:?} has no launch before {until}")]
    NothingBefore { input: String, until: Timestamp },
    #[error("{input:?} is no length of time: write 30m, 2h or 1d")]
    NotAPeriod { input: String },
    #[error("a recurrence of {given} bytes, and {max} is the most", max = limits::RECURRENCE_BYTES_MAX)]
    TooLong { given: usize },
    #[error("{input:?} has {given} fields, and a cron line has 5: minute, hour, day, month, weekday")]
    CronFields { input: String, given: usize },
    #[error("{part:?} in {input:?} is no {field}: write a number from {low} to {high}, a range, a list, */2 or *")]
    CronPart { input: String, part: String, field: &'static str, low: u8, high: u8 },
    #[error("{input:?} never fires: none of its months has such a day")]
    NeverFires { input: String },
    #[error("{part:?} in {input:?}: {hint}")]
    Words { input: String, part: String, hint: &'static str },
    #[error("every {count} {unit} does not divide a {whole}: use one of {allowed}")]
    Uneven { count: u32, unit: &'static str, whole: &'static str, allowed: &'static str },
}

impl ScheduleError {
    /// The rule that is broken; never reworded, programs match on it.
    pub fn code(&self) -> &'static str {
        match self {
            ScheduleError::UnknownZone { .. } => "unknown_zone",
            ScheduleError::NoZone { .. } => "no_zone",
            ScheduleError::ZoneTwice { .. } => "zone_twice",
            ScheduleError::NotATime { .. } => "bad_time",
            ScheduleError::Past { .. } => "date_past",
            ScheduleError::NamedTwice { .. } => "date_twice",
            ScheduleError::TooManyDates { .. } => "too_many_dates",
            ScheduleError::Both { .. } => "schedule_twice",
            ScheduleError::OnlyRecurring { .. } => "not_recurring",
            ScheduleError::Removed => "schedule_removed",
            ScheduleError::NotOfCells { .. } => "cell_schedule",
            ScheduleError::OnlyContact => "not_by_contact",
            ScheduleError::NothingBefore { .. } | ScheduleError::NothingAhead => "no_launch",
            ScheduleError::NotAPeriod { .. } => "bad_period",
            ScheduleError::TooLong { .. }
            | ScheduleError::CronFields { .. }
            | ScheduleError::CronPart { .. }
            | ScheduleError::Words { .. }
            | ScheduleError::Uneven { .. } => "bad_recurrence",
            ScheduleError::NeverFires { .. } => "never_fires",
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            ScheduleError::UnknownZone { .. } | ScheduleError::NoZone { .. } => "set zone, such as \"Europe/Paris\"",
            ScheduleError::ZoneTwice { .. } => "leave out zone, or the offset",
            ScheduleError::NotATime { .. } => "write it as 2026-12-01T18:00",
            ScheduleError::Past { .. } | ScheduleError::NothingBefore { .. } | ScheduleError::NothingAhead => {
                "set a later date"
            }
            ScheduleError::NamedTwice { .. } => "name it once",
            ScheduleError::TooManyDates { .. } => "name fewer dates, or use every",
            ScheduleError::Both { .. } => "keep one of at, dates and every",
            ScheduleError::OnlyRecurring { .. } | ScheduleError::OnlyContact | ScheduleError::NotOfCells { .. } => {
                "remove the key"
            }
            ScheduleError::Removed => "set schedule.at, or unschedule the campaign",
            ScheduleError::NotAPeriod { .. } => "write it as 30m, 2h or 1d",
            ScheduleError::NeverFires { .. } => "choose days that exist",
            ScheduleError::TooLong { .. }
            | ScheduleError::CronFields { .. }
            | ScheduleError::CronPart { .. }
            | ScheduleError::Words { .. }
            | ScheduleError::Uneven { .. } => "write `every friday 17:00`, or a cron line such as `0 17 * * fri`",
        }
    }
}
