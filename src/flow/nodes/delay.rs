//! Delays: contacts rest until a time of their own, or until something happens to them.

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::flow::graph::{Exit, NodeId};
use crate::limits;

/// By which leave those to whom it happened.
pub const HAPPENED: Exit = Exit(std::borrow::Cow::Borrowed("happened"));
/// By which leave those to whom it did not.
pub const TIMED_OUT: Exit = Exit(std::borrow::Cow::Borrowed("timed_out"));

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEvent {
    Opened(NodeId),
    Clicked(NodeId),
}

impl WaitEvent {
    pub fn send(self) -> NodeId {
        match self {
            WaitEvent::Opened(node) | WaitEvent::Clicked(node) => node,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delay {
    /// So many seconds from each contact's arrival.
    Seconds(u32),
    /// Until this instant, in milliseconds since the epoch; who comes later passes at once.
    Until(i64),
    /// Until it happened, and at most so many seconds from each contact's arrival.
    Event { event: WaitEvent, seconds: u32 },
}

impl Delay {
    pub fn exits(&self) -> Vec<Exit> {
        match self {
            Delay::Seconds(_) | Delay::Until(_) => vec![Exit::NEXT],
            Delay::Event { .. } => vec![HAPPENED, TIMED_OUT],
        }
    }

    /// The exit of those whose time has come.
    pub fn due_exit(&self) -> Exit {
        match self {
            Delay::Seconds(_) | Delay::Until(_) => Exit::NEXT,
            Delay::Event { .. } => TIMED_OUT,
        }
    }

    /// The second (since the epoch) at which somebody who arrived at `now_ms` leaves: never early, and late by at most a
    /// 64th of the wait and [`limits::WAIT_ROUNDING_MAX`], so that those who came at about one time leave together.
    pub fn due_second(&self, now_ms: i64) -> i64 {
        let (due, wait) = match self {
            Delay::Seconds(seconds) | Delay::Event { seconds, .. } => {
                (now_ms.saturating_add(i64::from(*seconds) * 1_000), *seconds)
            }
            Delay::Until(at) => (*at, 0),
        };
        let second = due.div_euclid(1_000) + i64::from(due.rem_euclid(1_000) != 0);
        let step = i64::from((wait / 64).clamp(1, limits::WAIT_ROUNDING_MAX));
        second + (step - second.rem_euclid(step)).rem_euclid(step)
    }

    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Delay::Seconds(seconds) | Delay::Event { seconds, .. }
                if *seconds == 0 || *seconds > limits::WAIT_SECONDS_MAX =>
            {
                let message = format!("the wait is {seconds} seconds, and 1 to {} may be", limits::WAIT_SECONDS_MAX);
                vec![Fault::new("wait_length", message, "set a length within these bounds")]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leaves_early_and_nobody_much_too_late() {
        for seconds in [1, 30, 60, 640, 3_600, 5 * 86_400] {
            for now in [0, 1, 999, 1_000, 59_999, 1_795_000_123_456] {
                let due = Delay::Seconds(seconds).due_second(now) * 1_000;
                let exact = now + i64::from(seconds) * 1_000;
                assert!(due >= exact, "early: {seconds} s from {now}");
                let late = i64::from((seconds / 64).clamp(1, 60)) * 1_000;
                assert!(due <= exact + late, "late: {seconds} s from {now}");
            }
        }
        assert_eq!(Delay::Until(10_500).due_second(0), 11, "an instant in the middle of a second");
    }

    #[test]
    fn a_wait_of_no_time_or_of_ages_is_refused() {
        let event = WaitEvent::Opened(NodeId(1));
        for seconds in [0, limits::WAIT_SECONDS_MAX + 1] {
            assert_eq!(Delay::Seconds(seconds).faults().len(), 1, "{seconds}");
            assert_eq!(Delay::Event { event, seconds }.faults().len(), 1, "{seconds}");
        }
        assert_eq!(Delay::Seconds(1).faults(), [], "a second");
    }
}
