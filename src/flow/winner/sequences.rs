//! A test that may be looked at at any time, for a split that has no planned end. Owns no state.
//!
//! Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences"
//! (arXiv:2103.06476, 2021; Annals of Statistics 52, 2024), theorem 2.2: with N observations and an estimate of standard
//! error s, the interval
//!
//!   estimate ± s · √( 2 (Nρ² + 1)/(Nρ²) · ln( √(Nρ² + 1) / alpha ) )
//!
//! holds the truth at *all* N at once with chance 1 - alpha, asymptotically. For the difference of two arms N is the contacts
//! of both, and s has each arm's own variance. ρ is chosen as there (section 2.2) so that the interval is narrowest at a
//! number of contacts that is fixed before the test: ρ² = (-2 ln alpha + ln(-2 ln alpha + 1)) / tuned_for.

use super::proportions::{Interval, Proportion, unpooled_error};

/// What may be said now, whenever now is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequence {
    /// Of second minus first, from -1 to 1.
    pub interval: Interval,
    /// Difference in its standard errors; `tuned_for` and `alpha` do not enter.
    pub z: f64,
    /// Always-valid p: the least alpha at which the interval leaves out 0, with the same ρ.
    pub p: f64,
}

/// Spread of the mixture, over the contacts of both arms: Nρ².
fn mixture(first: Proportion, second: Proportion, alpha: f64, tuned_for: f64) -> f64 {
    let strictness = -2.0 * alpha.ln();
    let contacts = first.contacts() as f64 + second.contacts() as f64;
    contacts * (strictness + (strictness + 1.0).ln()) / tuned_for
}

/// Standard errors that the arms must be apart for a claim at `level`, with the ρ of a test at `alpha`.
pub fn boundary(first: Proportion, second: Proportion, alpha: f64, tuned_for: f64, level: f64) -> f64 {
    let m = mixture(first, second, alpha, tuned_for);
    (2.0 * (m + 1.0) / m * (0.5 * (m + 1.0).ln() - level.ln())).sqrt()
}

/// Confidence sequence and always-valid p of second minus first; 0 < `alpha` < 1, `tuned_for` above 0.
pub fn sequence(first: Proportion, second: Proportion, alpha: f64, tuned_for: f64) -> Sequence {
    let difference = second.minus(first);
    let error = unpooled_error(first, second);
    if error == 0.0 {
        // nobody or everybody had an event: the variance is not known at all
        return Sequence { interval: Interval { low: -1.0, high: 1.0 }, z: 0.0, p: 1.0 };
    }
    let z = difference / error;
    let m = mixture(first, second, alpha, tuned_for);
    let half = error * boundary(first, second, alpha, tuned_for, alpha);
    let p = (0.5 * (m + 1.0).ln() - 0.5 * z * z * m / (m + 1.0)).exp().min(1.0);
    Sequence { interval: Interval { low: (difference - half).max(-1.0), high: (difference + half).min(1.0) }, z, p }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(events: u64, contacts: u64) -> Proportion {
        Proportion::new("arm", events, contacts).expect("counts are right")
    }

    #[test]
    fn the_formula_is_that_of_the_paper() {
        let (first, second) = (of(200, 1_000), of(250, 1_000));
        let got = sequence(first, second, 0.05, 5_000.0);
        // by hand: N = 2 000, ρ² = (5.991465 + ln 6.991465)/5 000, variance 0.2·0.8/1 000 + 0.25·0.75/1 000
        let rho2 = (5.991_464_547 + 6.991_464_547f64.ln()) / 5_000.0;
        let t = 2_000.0 * rho2 + 1.0;
        let half = (0.000_347_5 * 2.0 * t / (2_000.0 * rho2) * (t.sqrt() / 0.05).ln()).sqrt();
        assert!(
            (got.interval.low - (0.05 - half)).abs() < 1e-9 && (got.interval.high - (0.05 + half)).abs() < 1e-9,
            "{got:?}"
        );
        assert!(got.interval.low < 0.0 && got.p > 0.05, "a plain test would claim it, this one does not: {got:?}");
        let unknown = sequence(of(0, 10), of(0, 10), 0.05, 5_000.0);
        assert_eq!((unknown.p, unknown.interval), (1.0, Interval { low: -1.0, high: 1.0 }), "nothing is known");
    }

    proptest! {
        #[test]
        fn p_boundary_and_interval_agree(x in 1u64..999, y in 1u64..999, n in 1_000u64..2_000_000, alpha in 0.001f64..0.3, tuned in 100.0f64..1e6) {
            let (first, second) = (of(x, 1_000), of(y * n / 1_000, n));
            let got = sequence(first, second, alpha, tuned);
            let left_out = got.interval.low > 0.0 || got.interval.high < 0.0;
            let beyond = got.z.abs() > boundary(first, second, alpha, tuned, alpha);
            prop_assert!((got.p - alpha).abs() < 1e-9 || (left_out == beyond && beyond == (got.p < alpha)), "{got:?}");
            let d = second.minus(first);
            prop_assert!(got.interval.low <= d && d <= got.interval.high, "{got:?} holds {d}");
            let back = sequence(second, first, alpha, tuned);
            prop_assert!((back.p - got.p).abs() < 1e-12 && (back.interval.low + got.interval.high).abs() < 1e-12, "arms may change places");
            prop_assert!(boundary(first, second, alpha, tuned, alpha) > super::super::normal::two_sided_quantile(alpha), "stricter than one look");
        }
    }
}
