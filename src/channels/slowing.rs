//! How far a limit is slowed after a provider's complaint, and how it grows back.
//!
//! Owns the memory of the last complaint about one limit, and no clock. The curve is that of CUBIC (RFC 9438 section 4.1;
//! the adaptive retry mode of cloud SDKs uses it for requests) in units of the rate itself: a provider of one message a
//! second and one of ten thousand are probed after the same time.
//!
//! Invariants: SL-1 replies of one burst count as one complaint; SL-2 a complaint leaves `FACTOR` of what was sent;
//! SL-3 without a complaint the rate never falls, nears what it was slowed from within `RECOVER_OVER`, stays near it for
//! as long again, and only then goes beyond.
//!
//! Must not know permits, scopes, or who asks.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::limits::SLOWED_PER_SECOND_MIN;

/// Slowing begins at this share of the measured rate (as in the retry modes of cloud SDKs).
const FACTOR: f64 = 0.7;
/// At most one slow-down in this time: replies of one burst all complain about the same rate.
const DECIDE_EVERY: Duration = Duration::from_secs(1);
/// What the provider took within this time of its complaint is what it can take.
const LEARN_WITHIN: Duration = Duration::from_secs(2);
/// Time until the rate is again what it was slowed from.
const RECOVER_OVER: Duration = Duration::from_secs(30);
/// A rate grows at most once in the time of so many messages, because each change costs up to one.
const RAISE_EVERY_MESSAGES: f64 = 4.0;
/// At this multiple of what it was slowed from, without a complaint, the limit is as it was configured.
const FORGOTTEN_AT: f64 = 2.0;

/// A provider asked for less.
#[derive(Clone, Debug, PartialEq)]
pub struct Slowed {
    /// Messages per second before the complaint.
    from: f64,
    /// Those that are let through now.
    current: f64,
    complained: Monotonic,
    raised: Monotonic,
}

/// What a limit has grown to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grown {
    Same,
    To(f64),
    /// As configured.
    Whole,
}

impl Slowed {
    /// The first complaint, about `measured` messages per second.
    pub fn first(measured: f64, now: Monotonic) -> Slowed {
        let from = measured.max(SLOWED_PER_SECOND_MIN);
        let current = (from * FACTOR).max(SLOWED_PER_SECOND_MIN);
        Slowed { from, current, complained: now, raised: now }
    }

    /// Another complaint; `false` if it is one of the burst that was heard already.
    pub fn again(&mut self, measured: f64, now: Monotonic) -> bool {
        if now.since(self.complained) < DECIDE_EVERY {
            return false;
        }
        *self = Slowed::first(self.current.min(measured.max(SLOWED_PER_SECOND_MIN)), now);
        true
    }

    /// The provider took so many messages in a second. Of the first complaint's moment little is known: what was measured
    /// then was a burst's beginning.
    pub fn took(&mut self, per_second: f64, now: Monotonic) {
        if now.since(self.complained) <= LEARN_WITHIN {
            self.from = self.from.max(per_second);
        }
    }

    /// Messages per second now.
    pub fn current(&self) -> f64 {
        self.current
    }

    /// To be called about once a second.
    pub fn grow(&mut self, now: Monotonic) -> Grown {
        let to_go = 1.0 - now.since(self.complained).as_secs_f64() / RECOVER_OVER.as_secs_f64();
        let rate = self.from * (1.0 - (1.0 - FACTOR) * to_go.powi(3));
        if rate >= self.from * FORGOTTEN_AT {
            return Grown::Whole;
        }
        let pause = (RAISE_EVERY_MESSAGES / rate).max(DECIDE_EVERY.as_secs_f64());
        if rate <= self.current || now.since(self.raised).as_secs_f64() < pause {
            return Grown::Same;
        }
        (self.current, self.raised) = (rate, now);
        Grown::To(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Monotonic {
        Monotonic((seconds * 1e9) as u64)
    }

    /// A provider that takes `capacity` a second of an unlimited sender, for `seconds`: shares taken and refused.
    fn against(capacity: f64, first_measure: f64, seconds: u32) -> (f64, f64) {
        let mut slowed = Slowed::first(first_measure, at(0.2));
        let (mut taken, mut refused) = (0.0, 0.0);
        for second in 1..=seconds {
            let now = at(f64::from(second));
            let offered = slowed.current();
            let took = if second == 1 { capacity } else { offered.min(capacity) };
            taken += took;
            refused += offered - offered.min(capacity);
            slowed.took(took, now);
            if offered > capacity {
                slowed.again(offered, now);
            }
            slowed.grow(now);
        }
        (taken / (capacity * f64::from(seconds)), refused / (taken + refused))
    }

    #[test]
    fn a_providers_rate_is_found_and_used_whatever_was_measured_first() {
        for capacity in [1.0, 20.0, 2_000.0, 50_000.0] {
            for guess in [0.05, 0.4, 1.0, 3.0] {
                let (taken, refused) = against(capacity, capacity * guess, 300);
                assert!(taken > 0.8, "{capacity} from {guess}: {taken} of what it lets through");
                assert!(refused < 0.02, "{capacity} from {guess}: {refused} of the attempts refused");
            }
        }
    }

    #[test]
    fn a_complaint_bites_at_once_and_only_once_for_a_burst() {
        let mut slowed = Slowed::first(1_000.0, at(1.0));
        assert!((slowed.current() - 700.0).abs() < 1e-9, "{slowed:?}");
        assert!(!slowed.again(700.0, at(1.9)), "the same burst");
        assert!(slowed.again(700.0, at(2.0)), "another one");
        assert!((slowed.current() - 490.0).abs() < 1e-9, "{slowed:?}");
        assert!(slowed.again(100.0, at(4.0)) && (slowed.current() - 70.0).abs() < 1e-9, "less was sent than allowed");
    }

    #[test]
    fn without_complaints_the_rate_grows_and_the_limit_is_forgotten() {
        let mut slowed = Slowed::first(1_000.0, at(0.0));
        let (mut last, mut second) = (slowed.current(), 0.0);
        loop {
            second += 1.0;
            match slowed.grow(at(second)) {
                Grown::To(rate) => {
                    assert!(rate > last, "{rate} after {last}");
                    assert!(second > 30.0 || rate <= 1_000.0, "beyond it after {second} s");
                    last = rate;
                }
                Grown::Same => assert_eq!(second, 30.0, "the saddle"),
                Grown::Whole => break,
            }
        }
        assert!((60.0..90.0).contains(&second), "whole again after {second} s");
    }

    #[test]
    fn what_the_provider_took_around_its_complaint_is_what_it_can_take() {
        let mut slowed = Slowed::first(300.0, at(0.1));
        slowed.took(2_000.0, at(1.0));
        assert_eq!(slowed.grow(at(1.2)), Grown::To(slowed.current()));
        assert!((1_400.0..1_500.0).contains(&slowed.current()), "0.7 of it: {slowed:?}");
        slowed.took(9_000.0, at(5.0));
        assert!(slowed.from < 2_001.0, "long after: {slowed:?}");
    }

    #[test]
    fn a_slow_providers_limit_changes_rarely() {
        let mut slowed = Slowed::first(0.2, at(0.0));
        let raises = (1..=300).filter(|s| matches!(slowed.grow(at(f64::from(*s))), Grown::To(_))).count();
        assert!((1..10).contains(&raises), "{raises} in five minutes of a message in ten seconds");
    }
}
