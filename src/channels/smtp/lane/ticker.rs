//! The clock of a session: looks at time-outs now and then, with a timer that is armed a few times a second and not at every
//! message.
//!
//! Owns one timer. Invariant: LK-1 it wakes at the latest `LANE_TICK` after it was armed, and no later than the time that was
//! asked for last. Must not know what the time-outs are.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::LANE_TICK;

/// Not to spin on a time that has come.
const SOONEST: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Ticker(Pin<Box<Sleep>>);

impl Default for Ticker {
    fn default() -> Ticker {
        Ticker(Box::pin(sleep_until(Instant::now() + LANE_TICK)))
    }
}

impl Ticker {
    /// Wakes at this time or before.
    pub(super) fn wake_by(&mut self, at: Instant) {
        if at < self.0.deadline() {
            let at = at.max(Instant::now() + SOONEST);
            if at < self.0.deadline() {
                self.0.as_mut().reset(at);
            }
        }
    }

    /// Ready when it is time to look; then it is armed again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let looked = self.0.as_mut().poll(cx);
        if looked.is_ready() {
            self.0.as_mut().reset(Instant::now() + LANE_TICK);
        }
        looked
    }
}
