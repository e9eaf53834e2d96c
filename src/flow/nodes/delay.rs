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
    /// So many minutes from each contact's arrival.
    Minutes(u32),
    /// Until this instant, in milliseconds since the epoch; who comes later passes at once.
    Until(i64),
    /// Until it happened, and at most so many minutes from each contact's arrival.
    Event { event: WaitEvent, minutes: u32 },
}

impl Delay {
    pub fn exits(&self) -> Vec<Exit> {
        match self {
            Delay::Minutes(_) | Delay::Until(_) => vec![Exit::NEXT],
            Delay::Event { .. } => vec![HAPPENED, TIMED_OUT],
        }
    }

    /// The exit of those whose time has come.
    pub fn due_exit(&self) -> Exit {
        match self {
            Delay::Minutes(_) | Delay::Until(_) => Exit::NEXT,
            Delay::Event { .. } => TIMED_OUT,
        }
    }

    /// The minute (since the epoch) at which somebody who arrived at `now_ms` leaves: never early, at most a minute late.
    pub fn due_minute(&self, now_ms: i64) -> i64 {
        let due = match self {
            Delay::Minutes(minutes) | Delay::Event { minutes, .. } => {
                now_ms.saturating_add(i64::from(*minutes) * 60_000)
            }
            Delay::Until(at) => *at,
        };
        due.div_euclid(60_000) + i64::from(due.rem_euclid(60_000) != 0)
    }

    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Delay::Minutes(minutes) | Delay::Event { minutes, .. }
                if *minutes == 0 || *minutes > limits::WAIT_MINUTES_MAX =>
            {
                let message = format!("the wait is {minutes} minutes, and 1 to {} may be", limits::WAIT_MINUTES_MAX);
                vec![Fault::new("wait_length", message, "set a length within these bounds")]
            }
            _ => Vec::new(),
        }
    }
}
