//! Whether the journal stands still though something waits: a disk that hangs gives no error. Plain state, time passed in.

use std::time::Duration;

use crate::clock::Monotonic;

/// Looks again and again at how far the journal is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stall {
    durable: u64,
    since: Option<Monotonic>,
}

impl Stall {
    /// How long nothing has become durable while something was submitted.
    pub fn look(&mut self, durable: u64, submitted: u64, now: Monotonic) -> Duration {
        if durable >= submitted {
            self.since = None;
        } else if self.since.is_none() || durable != self.durable {
            self.since = Some(now);
        }
        self.durable = durable;
        self.since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_journal_that_something_waits_for_can_stall() {
        let at = |seconds: u64| Monotonic(seconds * 1_000_000_000);
        let mut stall = Stall::default();
        assert_eq!(stall.look(5, 5, at(0)), Duration::ZERO, "idle");
        assert_eq!(stall.look(5, 5, at(100)), Duration::ZERO, "idle for long");
        assert_eq!(stall.look(5, 7, at(101)), Duration::ZERO, "something came just now");
        assert_eq!(stall.look(5, 9, at(104)), Duration::from_secs(3), "and is not durable yet");
        assert_eq!(stall.look(6, 9, at(105)), Duration::ZERO, "it moves");
        assert_eq!(stall.look(6, 9, at(107)), Duration::from_secs(2), "not far");
        assert_eq!(stall.look(9, 9, at(108)), Duration::ZERO, "all is durable");
    }
}
