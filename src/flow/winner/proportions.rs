//! Rates: intervals of one, the difference of two. Owns no state.

use serde::{Deserialize, Serialize};

use super::{WinnerError, normal};
use crate::limits;

/// An interval with both ends, as `[low, high]` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, f64)", into = "(f64, f64)")]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl From<(f64, f64)> for Interval {
    fn from((low, high): (f64, f64)) -> Interval {
        Interval { low, high }
    }
}

impl From<Interval> for (f64, f64) {
    fn from(interval: Interval) -> (f64, f64) {
        (interval.low, interval.high)
    }
}

/// Contacts with an event among contacts; of at least one contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proportion {
    events: u64,
    contacts: u64,
}

/// A difference in standard errors, and how likely one at least as large is by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZTest {
    pub z: f64,
    /// Two-sided.
    pub p: f64,
}

impl Proportion {
    /// # Errors
    /// No contacts, more contacts than [`limits::WINNER_CONTACTS_MAX`], or more events than contacts; named by `arm`.
    pub fn new(arm: &str, events: u64, contacts: u64) -> Result<Proportion, WinnerError> {
        let arm = || arm.to_owned();
        match () {
            () if contacts == 0 => Err(WinnerError::NoContacts { arm: arm() }),
            () if contacts > limits::WINNER_CONTACTS_MAX => Err(WinnerError::TooManyContacts { arm: arm(), contacts }),
            () if events > contacts => {
                Err(WinnerError::MoreThanContacts { arm: arm(), what: "events", events, contacts })
            }
            () => Ok(Proportion { events, contacts }),
        }
    }

    pub fn events(self) -> u64 {
        self.events
    }

    pub fn contacts(self) -> u64 {
        self.contacts
    }

    /// From 0 to 1.
    pub fn rate(self) -> f64 {
        self.events as f64 / self.contacts as f64
    }

    /// Which rate is larger, without rounding.
    pub fn compare(self, other: Proportion) -> std::cmp::Ordering {
        self.crossed(other).cmp(&0)
    }

    /// Numerator of `self - other` over the product of the contacts; exact, as contacts are at most 2^53.
    fn crossed(self, other: Proportion) -> i128 {
        i128::from(self.events) * i128::from(other.contacts) - i128::from(other.events) * i128::from(self.contacts)
    }

    /// Rate of `self` minus that of `other`.
    pub fn minus(self, other: Proportion) -> f64 {
        self.crossed(other) as f64 / (self.contacts as f64 * other.contacts as f64)
    }

    /// Score interval of the rate at `critical` standard deviations (1.96 for 95 %).
    ///
    /// Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), without continuity
    /// correction.
    pub fn wilson(self, critical: f64) -> Interval {
        let (n, p, square) = (self.contacts as f64, self.rate(), critical * critical);
        let centre = p + square / (2.0 * n);
        let half = critical * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
        let scale = 1.0 + square / n;
        // rounding must not put the rate itself outside
        let low = if self.events == 0 { 0.0 } else { ((centre - half) / scale).clamp(0.0, p) };
        let high = if self.events == self.contacts { 1.0 } else { ((centre + half) / scale).clamp(p, 1.0) };
        Interval { low, high }
    }

    fn variance(self) -> f64 {
        let p = self.rate();
        p * (1.0 - p)
    }
}

/// Standard error of the difference if both rates are the same; 0 if nobody or everybody had an event.
pub(super) fn pooled_error(first: Proportion, second: Proportion) -> f64 {
    let (a, b) = (first.contacts as f64, second.contacts as f64);
    let (events, missing) =
        (first.events + second.events, first.contacts - first.events + second.contacts - second.events);
    let total = a + b;
    (events as f64 / total * (missing as f64 / total) * (1.0 / a + 1.0 / b)).sqrt()
}

/// Standard error of the difference with each rate's own variance; the pooled one if that is 0.
pub(super) fn unpooled_error(first: Proportion, second: Proportion) -> f64 {
    let own = (first.variance() / first.contacts as f64 + second.variance() / second.contacts as f64).sqrt();
    if own > 0.0 { own } else { pooled_error(first, second) }
}

/// Pooled two-proportion z test of second minus first; z = 0 and p = 1 when nobody or everybody had an event.
///
/// Fleiss, Levin & Paik, "Statistical Methods for Rates and Proportions", 3rd edition (2003), section 3.3, without
/// continuity correction.
pub fn two_proportion_z(first: Proportion, second: Proportion) -> ZTest {
    let error = pooled_error(first, second);
    let z = if error > 0.0 { second.minus(first) / error } else { 0.0 };
    ZTest { z, p: normal::two_sided(z) }
}

/// Hybrid score interval of second minus first at `critical` standard deviations: from the Wilson intervals of both.
///
/// Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven methods",
/// Statistics in Medicine 17 (1998), method 10.
pub fn newcombe(first: Proportion, second: Proportion, critical: f64) -> Interval {
    let difference = second.minus(first);
    let (one, two) = (first.wilson(critical), second.wilson(critical));
    let (p, q) = (first.rate(), second.rate());
    Interval {
        low: difference - (q - two.low).hypot(one.high - p),
        high: difference + (two.high - q).hypot(p - one.low),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(events: u64, contacts: u64) -> Proportion {
        Proportion::new("arm", events, contacts).expect("counts are right")
    }

    fn near(got: f64, wanted: f64, by: f64, what: &str) {
        assert!((got - wanted).abs() <= by, "{what}: {got}, wanted {wanted}");
    }

    #[test]
    fn intervals_are_those_of_the_papers() {
        // Newcombe 1998 (Statistics in Medicine 17, 857-872), table I: 81/263 by the score method
        let wilson = of(81, 263).wilson(1.959_964);
        near(wilson.low, 0.255_3, 5e-5, "Wilson low");
        near(wilson.high, 0.366_2, 5e-5, "Wilson high");
        // Newcombe 1998 (873-890), table II, method 10: (a) 56/70 - 48/80, (c) 6/7 - 2/7, (h) 10/10 - 0/10
        for (first, second, low, high) in [
            (of(48, 80), of(56, 70), 0.052_4, 0.333_9),
            (of(2, 7), of(6, 7), 0.058_2, 0.806_2),
            (of(0, 10), of(10, 10), 0.607_5, 1.0),
        ] {
            let got = newcombe(first, second, 1.959_964);
            near(got.low, low, 5e-5, "Newcombe low");
            near(got.high, high, 5e-5, "Newcombe high");
        }
    }

    #[test]
    fn nobody_and_everybody_are_no_difference() {
        for (first, second) in [(of(0, 9), of(0, 400)), (of(9, 9), of(400, 400))] {
            assert_eq!(two_proportion_z(first, second), ZTest { z: 0.0, p: 1.0 });
        }
        assert_eq!((of(0, 9).wilson(2.0).low, of(9, 9).wilson(2.0).high), (0.0, 1.0), "the ends are exact");
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        let refused = |events, contacts| Proportion::new("A", events, contacts).expect_err("refused").to_string();
        assert_eq!(refused(0, 0), "A: no contacts, so there is no rate");
        assert_eq!(refused(5, 4), "A: 5 events of 4 contacts; there cannot be more than contacts");
        assert!(refused(0, (1 << 53) + 1).contains("at most"), "too many");
    }

    fn proportions() -> impl Strategy<Value = Proportion> {
        (1u64..3_000_000, 0.0f64..=1.0).prop_map(|(n, share)| of((n as f64 * share * share * share) as u64, n))
    }

    proptest! {
        #[test]
        fn arms_may_change_places(a in proportions(), b in proportions()) {
            let (one, two) = (two_proportion_z(a, b), two_proportion_z(b, a));
            prop_assert_eq!((one.z, one.p), (-two.z, two.p), "z changes its sign only");
            let (one, two) = (newcombe(a, b, 1.96), newcombe(b, a, 1.96));
            prop_assert!((one.low + two.high).abs() < 1e-12 && (one.high + two.low).abs() < 1e-12, "{one:?} {two:?}");
            prop_assert_eq!(a.compare(b), b.compare(a).reverse(), "the order");
        }

        #[test]
        fn intervals_hold_the_estimate_and_grow_with_confidence(a in proportions(), b in proportions()) {
            let (narrow, wide) = (a.wilson(1.0), a.wilson(3.0));
            prop_assert!(0.0 <= narrow.low && narrow.low <= a.rate() && a.rate() <= narrow.high && narrow.high <= 1.0);
            prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high, "{narrow:?} in {wide:?}");
            let (narrow, wide, d) = (newcombe(a, b, 1.0), newcombe(a, b, 3.0), b.minus(a));
            prop_assert!(-1.0 - 1e-12 <= narrow.low && narrow.low <= d && d <= narrow.high && narrow.high <= 1.0 + 1e-12);
            prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high, "{narrow:?} in {wide:?}");
        }

        #[test]
        fn one_more_event_raises_rate_interval_and_z(a in proportions(), b in proportions()) {
            prop_assume!(b.events() < b.contacts());
            let more = of(b.events() + 1, b.contacts());
            prop_assert!(more.rate() > b.rate() && more.wilson(2.0).low >= b.wilson(2.0).low, "rate and interval");
            prop_assert!(more.compare(b).is_gt(), "order");
            prop_assert!(two_proportion_z(a, more).z >= two_proportion_z(a, b).z - 1e-9, "z");
        }
    }
}
