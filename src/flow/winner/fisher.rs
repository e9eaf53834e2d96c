//! Rare events: the exact test of two rates, for which normal approximations are too bold. Owns no state.

use super::proportions::two_proportion_z;
use super::{Proportion, normal};

/// Events of both arms together up to which the test is exact; beyond it the normal approximation agrees to its third
/// digit, and the sum would be long.
pub const EXACT_EVENTS_MAX: u64 = 10_000;
/// Part of the sum below which a further term changes nothing.
const NEGLIGIBLE: f64 = 1e-18;

/// One-sided p of "the rate of `suspect` is higher than that of `other`": the chance that, of all events of both arms, at
/// least as many fall to `suspect` when each contact is as likely to have one.
///
/// Fisher's exact test; Fleiss, Levin & Paik, "Statistical Methods for Rates and Proportions", 3rd edition (2003), section
/// 3.2. Pooled z (section 3.3 there) above [`EXACT_EVENTS_MAX`] events.
pub fn p_higher(suspect: Proportion, other: Proportion) -> f64 {
    let events = suspect.events() + other.events();
    if events == 0 {
        return 1.0;
    }
    if events > EXACT_EVENTS_MAX {
        return normal::upper(two_proportion_z(other, suspect).z);
    }
    if suspect.compare(other).is_le() {
        // at or below its share: the sum would run over the middle, and nothing is claimed from it
        return 1.0;
    }
    tail(suspect, other)
}

/// P(X ≥ x) of the hypergeometric law, for x above its mean, where terms fall from the first.
fn tail(suspect: Proportion, other: Proportion) -> f64 {
    let (n, m) = (suspect.contacts() as f64, other.contacts() as f64);
    let events = suspect.events() + other.events();
    let at = suspect.events();
    let first = log_term(n, m, events, at);
    let (mut ratio, mut sum) = (1.0, 1.0);
    for x in at..events.min(suspect.contacts()) {
        let (x, left) = (x as f64, (events - x) as f64);
        ratio *= left / (x + 1.0) * (n - x) / (m - left + 1.0);
        sum += ratio;
        if ratio < NEGLIGIBLE * sum {
            break;
        }
    }
    (first.exp() * sum).min(1.0)
}

/// Log of C(events, at) · n!/(n-at)! · m!/(m-rest)! · (n+m-events)!/(n+m)!, as a sum of `events` terms: differences of
/// log-gammas would lose the digits of rare events among millions of contacts.
fn log_term(n: f64, m: f64, events: u64, at: u64) -> f64 {
    (0..events).map(|i| log_factor(n, m, i, at)).sum()
}

/// Each event in turn: the first `at` fall to the suspect, the rest to the other.
fn log_factor(n: f64, m: f64, i: u64, at: u64) -> f64 {
    let all = n + m - i as f64;
    if i < at {
        ((n - i as f64) / all).ln()
    } else {
        let rest = (i - at) as f64;
        ((m - rest) / all * (i + 1) as f64 / (rest + 1.0)).ln()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(events: u64, contacts: u64) -> Proportion {
        Proportion::new("arm", events, contacts).expect("counts are right")
    }

    #[test]
    fn the_lady_tasting_tea_and_others() {
        // Fisher 1935: 3 of 4 right; 4 of 4 right
        assert!((p_higher(of(3, 4), of(1, 4)) - 17.0 / 70.0).abs() < 1e-12, "three of four");
        assert!((p_higher(of(4, 4), of(0, 4)) - 1.0 / 70.0).abs() < 1e-12, "four of four");
        assert_eq!((p_higher(of(0, 9), of(0, 9)), p_higher(of(1, 9), of(1, 9))), (1.0, 1.0), "no difference");
        let (few, many) = (p_higher(of(4, 1_000), of(0, 1_000)), p_higher(of(20, 1_000), of(2, 1_000)));
        assert!(few > 0.05 && many < 0.001, "{few}, {many}");
    }

    proptest! {
        #[test]
        fn the_tail_is_that_of_the_counted_sum(n in 1u64..40, m in 1u64..40, x in 0u64..40, y in 0u64..40) {
            let (suspect, other) = (of(x.min(n), n), of(y.min(m), m));
            let p = p_higher(suspect, other);
            prop_assert!((0.0..=1.0).contains(&p), "{p}");
            if suspect.compare(other).is_gt() {
                let choose = |n: u64, k: u64| if k > n { 0.0 } else { (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product() };
                let events = suspect.events() + other.events();
                let tail: f64 = (suspect.events()..=events).map(|k| choose(n, k) * choose(m, events - k)).sum();
                let wanted = tail / choose(n + m, events);
                prop_assert!((p - wanted).abs() < 1e-10, "{p}, wanted {wanted}");
            }
        }
    }
}
