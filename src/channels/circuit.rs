//! The breaker of one scope: stops handing over where it only does harm, and asks again later.
//!
//! Owns the state of one breaker and no clock. Invariants: CB-1 while open nothing passes, and nothing is charged to a
//! message; CB-2 half open lets one probe through at a time; CB-3 a refusal of the *sender* (authentication, policy) opens
//! at once and stays open until an operator closes it or the configuration changes, but for a slow probe; CB-4 every wait
//! is bounded.
//!
//! CB-5 one message refused by policy opens nothing (it may be a recipient's own rule); most of the newest ones do.
//!
//! Must not know lanes, messages or replies.

use std::time::Duration;

use crate::clock::Monotonic;

/// Failures in a row (connections refused, sessions lost before they were ready) that open the circuit.
const FAILURES_TO_OPEN: u32 = 5;
const OPEN_MIN: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(300);
/// A sender's fault is asked again at this pace: an operator may have mended it at the provider.
const SENDER_FAULT_PROBE: Duration = Duration::from_secs(600);

/// Answers over which the share of policy refusals is taken, and the refusals among them that open the circuit.
const POLICY_WINDOW: u32 = 20;
const POLICY_TO_OPEN: u32 = 10;

/// Why a circuit is open; what reports and alerts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenReason {
    Unreachable,
    SenderRefused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    Closed,
    Open {
        until: Monotonic,
        reason: OpenReason,
    },
    /// One probe is out.
    HalfOpen {
        reason: OpenReason,
    },
}

/// One circuit. See the module's docs.
#[derive(Clone, Debug)]
pub struct Circuit {
    state: CircuitState,
    failures: u32,
    wait: Duration,
    answers: u32,
    policy_refusals: u32,
}

impl Default for Circuit {
    fn default() -> Circuit {
        Circuit { state: CircuitState::Closed, failures: 0, wait: OPEN_MIN, answers: 0, policy_refusals: 0 }
    }
}

impl Circuit {
    pub fn state(&self) -> CircuitState {
        self.state
    }

    pub fn is_closed(&self) -> bool {
        self.state == CircuitState::Closed
    }

    /// Whether something may be tried now; takes the probe of a half-open circuit.
    pub fn admits(&mut self, now: Monotonic) -> bool {
        match self.state {
            CircuitState::Closed => true,
            CircuitState::HalfOpen { .. } => false,
            CircuitState::Open { until, reason } => {
                let due = now >= until;
                if due {
                    self.state = CircuitState::HalfOpen { reason };
                }
                due
            }
        }
    }

    /// As [`Circuit::admits`], for a scope in which `waiting` rows could be the probe and `outstanding` rows are claimed
    /// and not marked: without a row that waits there is no probe, and one that was taken back before anybody tried it is
    /// replaced.
    pub fn admits_rows(&mut self, waiting: u64, outstanding: u64, now: Monotonic) -> bool {
        match self.state {
            CircuitState::Closed => true,
            CircuitState::Open { .. } => waiting > 0 && self.admits(now),
            CircuitState::HalfOpen { .. } => waiting > 0 && outstanding == 0,
        }
    }

    /// A session was ready, or a message was accepted.
    pub fn succeeded(&mut self) {
        let (answers, policy_refusals) = (self.answers, self.policy_refusals);
        *self = Circuit { answers, policy_refusals, ..Circuit::default() };
    }

    /// `answers` messages were answered, of which `refused` were refused by policy.
    pub fn answered(&mut self, answers: u32, refused: u32, now: Monotonic) {
        self.answers = self.answers.saturating_add(answers);
        self.policy_refusals = self.policy_refusals.saturating_add(refused);
        if self.policy_refusals >= POLICY_TO_OPEN && self.policy_refusals * 2 >= self.answers {
            (self.answers, self.policy_refusals) = (0, 0);
            self.sender_refused(now);
        } else if self.answers >= POLICY_WINDOW {
            self.answers /= 2;
            self.policy_refusals /= 2;
        }
    }

    /// As [`Circuit::answered`], for a scope without sessions of its own: the answers to a probe close or open it again.
    /// Answers whether it has just opened.
    pub fn probed(&mut self, answers: u32, refused: u32, now: Monotonic) -> bool {
        let before = self.is_closed();
        match self.state {
            CircuitState::HalfOpen { .. } if refused > 0 => self.sender_refused(now),
            CircuitState::HalfOpen { .. } => *self = Circuit::default(),
            // Answers to what was on its way when it opened.
            CircuitState::Open { .. } => {}
            CircuitState::Closed => self.answered(answers, refused, now),
        }
        before && !self.is_closed()
    }

    /// The provider could not be reached or hung up before it was ready.
    pub fn failed(&mut self, now: Monotonic) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            CircuitState::HalfOpen { reason } => self.open(reason, now),
            CircuitState::Closed if self.failures >= FAILURES_TO_OPEN => self.open(OpenReason::Unreachable, now),
            CircuitState::Closed | CircuitState::Open { .. } => {}
        }
    }

    /// The provider refused us: open at once.
    pub fn sender_refused(&mut self, now: Monotonic) {
        self.state = CircuitState::Open { until: now.plus(SENDER_FAULT_PROBE), reason: OpenReason::SenderRefused };
    }

    /// An operator or a new configuration says that it is mended.
    pub fn reset(&mut self) {
        *self = Circuit::default();
    }

    fn open(&mut self, reason: OpenReason, now: Monotonic) {
        let wait = match reason {
            OpenReason::Unreachable => self.wait,
            OpenReason::SenderRefused => SENDER_FAULT_PROBE,
        };
        self.wait = (self.wait * 2).min(OPEN_MAX);
        self.state = CircuitState::Open { until: now.plus(wait), reason };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn opens_after_failures_in_a_row_and_probes_once() {
        let mut circuit = Circuit::default();
        (0..FAILURES_TO_OPEN - 1).for_each(|_| circuit.failed(at(0)));
        assert!(circuit.admits(at(0)), "not yet");
        circuit.failed(at(0));
        assert!(!circuit.admits(at(4)), "open");
        assert!(circuit.admits(at(5)), "the probe");
        assert!(!circuit.admits(at(5)), "only one probe");
        circuit.failed(at(5));
        assert!(!circuit.admits(at(14)) && circuit.admits(at(15)), "twice the wait");
        circuit.succeeded();
        assert!(circuit.is_closed() && circuit.admits(at(15)), "mended");
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let mut circuit = Circuit::default();
        for _ in 0..10 {
            (0..FAILURES_TO_OPEN - 1).for_each(|_| circuit.failed(at(1)));
            circuit.succeeded();
        }
        assert!(circuit.is_closed(), "never enough in a row");
    }

    #[test]
    fn the_wait_is_bounded() {
        let mut circuit = Circuit::default();
        let mut now = 0;
        (0..FAILURES_TO_OPEN).for_each(|_| circuit.failed(at(0)));
        for _ in 0..50 {
            now += OPEN_MAX.as_secs();
            assert!(circuit.admits(at(now)), "a probe at the latest after the longest wait");
            circuit.failed(at(now));
        }
    }

    #[test]
    fn many_policy_refusals_open_and_few_do_not() {
        let mut circuit = Circuit::default();
        for _ in 0..1_000 {
            circuit.answered(10, 2, at(0));
        }
        assert!(circuit.is_closed(), "one in five is the recipients' own rules");
        for _ in 0..40 {
            circuit.answered(1, 1, at(1));
        }
        assert!(!circuit.is_closed(), "nearly all is our fault");
    }

    #[test]
    fn a_senders_fault_opens_at_once_until_an_operator_acts() {
        let mut circuit = Circuit::default();
        circuit.sender_refused(at(0));
        assert!(!circuit.admits(at(599)), "open for long");
        assert_eq!(
            circuit.state(),
            CircuitState::Open { until: at(600), reason: OpenReason::SenderRefused },
            "and says why"
        );
        circuit.reset();
        assert!(circuit.admits(at(1)), "an operator mended it");
    }

    #[test]
    fn a_scope_that_refuses_us_is_closed_and_asked_again_by_a_probe() {
        let mut circuit = Circuit::default();
        let now = Monotonic::default();
        assert!(!circuit.probed(100, 5, now), "a few refusals are recipients' own rules");
        assert!(circuit.probed(60, 60, now), "most of them are ours");
        assert!(!circuit.probed(10, 0, now) && !circuit.is_closed(), "late answers change nothing");
        assert!(!circuit.admits(now), "closed to all");
        let later = now.plus(SENDER_FAULT_PROBE);
        assert!(circuit.admits(later) && !circuit.admits(later), "one probe");
        assert!(!circuit.probed(1, 1, later) && !circuit.admits(later), "refused again");
        let after = later.plus(SENDER_FAULT_PROBE);
        assert!(circuit.admits(after), "another probe");
        assert!(!circuit.probed(1, 0, after) && circuit.is_closed(), "mended");
    }

    #[test]
    fn a_probe_needs_a_row_and_one_that_nobody_tried_is_replaced() {
        let mut circuit = Circuit::default();
        let now = Monotonic::default();
        (0..FAILURES_TO_OPEN).for_each(|_| circuit.failed(now));
        let later = now.plus(OPEN_MAX);
        assert!(!circuit.admits_rows(0, 0, later), "nobody waits");
        assert!(matches!(circuit.state(), CircuitState::Open { .. }), "and so nothing was tried");
        assert!(circuit.admits_rows(5, 0, later), "a probe");
        assert!(!circuit.admits_rows(5, 3, later), "one at a time");
        assert!(circuit.admits_rows(5, 0, later), "its rows were taken back: another");
        circuit.succeeded();
        assert!(circuit.admits_rows(0, 0, later), "closed");
    }
}
