//! How far the arms must be apart at each of some planned looks, so that looking often does not err more often.
//!
//! Both are O'Brien & Fleming's shape, "A multiple testing procedure for clinical trials", Biometrics 35 (1979): very
//! strict at first, and at the last look hardly stricter than a test that looks once. Two-sided and symmetric.
//!
//! - [`obrien_fleming`]: the *classical* boundaries C·√(K/k) for K looks after equal parts of the information, with the C of
//!   Jennison & Turnbull, "Group Sequential Methods" (2000), section 2.3, table 2.3.
//! - [`spending`]: for looks after any parts of the information, O'Brien–Fleming-type *spending* of Lan & DeMets, "Discrete
//!   sequential boundaries for clinical trials", Biometrika 70 (1983): half of alpha on each side, each spent as
//!   2 - 2Φ(z(alpha/4)/√t), as in DeMets & Lan, Statistics in Medicine 13 (1994), and the common programs.
//!
//! Owns no state but a memo of constants, which changes no answer. A boundary is a number of standard errors: beyond it, on either side, a difference is proven.

use std::cell::RefCell;
use std::collections::HashMap;

use super::integration::{Walk, crossing};
use super::normal;
use crate::limits;

thread_local! {
    /// Constants by looks and the bits of alpha; emptied when it is full.
    static CONSTANTS: RefCell<HashMap<(u32, u64), f64>> = RefCell::default();
    /// Boundaries by the bits of the parts and of alpha; emptied when it is full.
    static SPENDING: RefCell<HashMap<Parts, Vec<f64>>> = RefCell::default();
}

type Parts = (Vec<u64>, u64);

/// Highest boundary, standard errors: a chance below 1e-300 cannot be told from none.
const HIGHEST: f64 = 37.0;
/// Precision of a boundary, standard errors.
const PRECISION: f64 = 1e-13;
/// Steps of a search: bisection alone would need fewer than 60.
const STEPS_MAX: usize = 200;

/// Boundary at each of `looks` looks after equal parts of the information; `looks` at least 1, 0 < `alpha` < 1.
pub fn obrien_fleming(looks: u32, alpha: f64) -> Vec<f64> {
    let constant = obrien_fleming_constant(looks, alpha);
    (1..=looks).map(|look| constant * (f64::from(looks) / f64::from(look)).sqrt()).collect()
}

/// The boundary at the last look, from which the others follow.
pub fn obrien_fleming_constant(looks: u32, alpha: f64) -> f64 {
    if looks <= 1 {
        return normal::two_sided_quantile(alpha);
    }
    let key = (looks, alpha.to_bits());
    if let Some(known) = CONSTANTS.with_borrow(|constants| constants.get(&key).copied()) {
        return known;
    }
    let constant = solve_constant(looks, alpha);
    CONSTANTS.with_borrow_mut(|constants| {
        if constants.len() >= limits::WINNER_BOUNDARIES_KEPT {
            constants.clear();
        }
        constants.insert(key, constant);
    });
    constant
}

fn solve_constant(looks: u32, alpha: f64) -> f64 {
    let least = normal::two_sided_quantile(alpha);
    let times = equal_parts(looks);
    // no look errs more often than the last one
    let most = normal::two_sided_quantile(alpha / f64::from(looks));
    let bounds = |constant: f64| vec![constant; times.len()];
    falling_root(least, most, |constant| (crossing(&times, &bounds(constant), 0.0) / alpha).ln())
}

/// Boundary at each look after these parts of the information (rising, the last one 1); 0 < `alpha` < 1.
pub fn spending(fractions: &[f64], alpha: f64) -> Vec<f64> {
    let key = (fractions.iter().map(|part| part.to_bits()).collect(), alpha.to_bits());
    if let Some(known) = SPENDING.with_borrow(|kept| kept.get(&key).cloned()) {
        return known;
    }
    let boundaries = solve_spending(fractions, alpha);
    SPENDING.with_borrow_mut(|kept| {
        if kept.len() >= limits::WINNER_BOUNDARIES_KEPT {
            kept.clear();
        }
        kept.insert(key, boundaries.clone());
    });
    boundaries
}

fn solve_spending(fractions: &[f64], alpha: f64) -> Vec<f64> {
    let mut walk = Walk::start(0.0);
    let mut spent = 0.0;
    let mut boundaries = Vec::with_capacity(fractions.len());
    for (index, time) in fractions.iter().enumerate() {
        let by_now = spent_by(*time, alpha);
        let critical = critical_for(&walk, *time, by_now - spent);
        spent = by_now;
        boundaries.push(critical);
        if let Some(next) = fractions.get(index + 1) {
            walk = walk.advance(*time, critical * time.sqrt(), next - time);
        }
    }
    boundaries
}

/// Alpha that may be spent up to this part of the information.
fn spent_by(time: f64, alpha: f64) -> f64 {
    let one_sided = 0.5 * alpha;
    2.0 * normal::two_sided(normal::two_sided_quantile(one_sided) / time.sqrt())
}

/// The boundary that is crossed with this chance, by bisection.
fn critical_for(walk: &Walk, time: f64, chance: f64) -> f64 {
    let (mut low, mut high) = (0.0, HIGHEST);
    while high - low > PRECISION {
        let middle = 0.5 * (low + high);
        if walk.exit(time, middle * time.sqrt()) > chance { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// How much larger the last look's information must be than that of a test that looks once, so that the power is the same:
/// R_B(K, alpha, beta) of Jennison & Turnbull 2000, section 2.3, table 2.4.
pub fn inflation(looks: u32, alpha: f64, power: f64) -> f64 {
    if looks <= 1 {
        return 1.0;
    }
    let times = equal_parts(looks);
    let bounds = vec![obrien_fleming_constant(looks, alpha); times.len()];
    let once = normal::two_sided_quantile(alpha) + normal::upper_quantile(1.0 - power);
    let drift = falling_root(0.9 * once, 1.5 * once, |drift| (power / crossing(&times, &bounds, drift)).ln());
    (drift / once).powi(2)
}

fn equal_parts(looks: u32) -> Vec<f64> {
    (1..=looks).map(|look| f64::from(look) / f64::from(looks)).collect()
}

/// Where a falling function is 0, between two places: false position with the Illinois rule (Dowell & Jarratt, BIT 11, 1971).
fn falling_root(mut low: f64, mut high: f64, function: impl Fn(f64) -> f64) -> f64 {
    let (mut at_low, mut at_high) = (function(low), function(high));
    if at_low <= 0.0 {
        return low;
    }
    if at_high >= 0.0 {
        return high;
    }
    for _ in 0..STEPS_MAX {
        let next = (low * at_high - high * at_low) / (at_high - at_low);
        let value = function(next);
        if value.abs() < PRECISION || (high - low).abs() < PRECISION {
            return next;
        }
        if value > 0.0 {
            (low, at_low, at_high) = (next, value, 0.5 * at_high);
        } else {
            (high, at_high, at_low) = (next, value, 0.5 * at_low);
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Jennison & Turnbull 2000, table 2.3: looks, then C_B for alpha 0.01, 0.05 and 0.1.
    const TABLE: [(u32, [f64; 3]); 10] = [
        (1, [2.576, 1.960, 1.645]),
        (2, [2.580, 1.977, 1.678]),
        (3, [2.595, 2.004, 1.710]),
        (4, [2.609, 2.024, 1.733]),
        (5, [2.621, 2.040, 1.751]),
        (6, [2.631, 2.053, 1.765]),
        (7, [2.640, 2.063, 1.776]),
        (8, [2.648, 2.072, 1.786]),
        (9, [2.654, 2.080, 1.794]),
        (10, [2.660, 2.087, 1.801]),
    ];

    #[test]
    fn the_constants_are_those_of_the_published_table() {
        for (looks, row) in TABLE {
            for (alpha, wanted) in [0.01, 0.05, 0.1].into_iter().zip(row) {
                let got = obrien_fleming_constant(looks, alpha);
                assert!((got - wanted).abs() < 6e-4, "{looks} looks, alpha {alpha}: {got}, published {wanted}");
            }
        }
    }

    #[test]
    fn spending_gives_the_published_boundaries() {
        // DeMets & Lan 1994: five equal looks, alpha 0.05
        let got = spending(&[0.2, 0.4, 0.6, 0.8, 1.0], 0.05);
        for (look, wanted) in [4.877, 3.357, 2.680, 2.290, 2.031].into_iter().enumerate() {
            assert!((got[look] - wanted).abs() < 6e-4, "look {}: {}, published {wanted}", look + 1, got[look]);
        }
        let once = spending(&[1.0], 0.05);
        assert!((once[0] - 1.959_963_984_540_054).abs() < 1e-10, "one look: {once:?}");
    }

    #[test]
    fn what_was_drawn_before_is_not_drawn_again_and_is_the_same() {
        let parts = [0.1, 0.35, 1.0];
        let first = spending(&parts, 0.01);
        assert_eq!(spending(&parts, 0.01), first, "the same");
        assert_eq!(solve_spending(&parts, 0.01), first, "as if drawn anew");
        assert_ne!(spending(&parts, 0.02), first, "of another alpha");
        assert_ne!(spending(&[0.1, 0.36, 1.0], 0.01), first, "of other parts");
    }

    #[test]
    fn the_inflation_is_that_of_the_published_table() {
        // Jennison & Turnbull 2000, table 2.4, alpha 0.05
        for (looks, power, wanted) in
            [(2, 0.8, 1.008), (5, 0.8, 1.028), (5, 0.9, 1.026), (10, 0.8, 1.040), (1, 0.8, 1.0)]
        {
            let got = inflation(looks, 0.05, power);
            assert!((got - wanted).abs() < 6e-4, "{looks} looks, power {power}: {got}, published {wanted}");
        }
    }

    #[test]
    fn the_least_alpha_of_many_comparisons_still_has_boundaries() {
        for alpha in [1e-6 / 325.0, 0.5] {
            let times = equal_parts(20);
            let constant = obrien_fleming_constant(20, alpha);
            let got = crossing(&times, &vec![constant; times.len()], 0.0);
            assert!((got / alpha - 1.0).abs() < 1e-6, "alpha {alpha}: constant {constant} errs {got}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn all_looks_together_err_with_chance_alpha(parts in prop::collection::vec(0.1f64..1.0, 1..6), alpha in 0.001f64..0.4) {
            let whole: f64 = parts.iter().sum();
            let mut fractions: Vec<f64> = parts.iter().scan(0.0, |t, part| { *t += part / whole; Some(*t) }).collect();
            if let Some(last) = fractions.last_mut() { *last = 1.0; }
            let critical = spending(&fractions, alpha);
            let bounds: Vec<f64> = critical.iter().zip(&fractions).map(|(c, t)| c * t.sqrt()).collect();
            let got = crossing(&fractions, &bounds, 0.0);
            prop_assert!((got / alpha - 1.0).abs() < 1e-9, "{fractions:?} alpha {alpha} errs {got}");
        }

        #[test]
        fn boundaries_fall_from_look_to_look_and_with_alpha(looks in 2u32..=10, alpha in 0.001f64..0.3) {
            let (strict, loose) = (obrien_fleming(looks, alpha), obrien_fleming(looks, alpha * 1.5));
            prop_assert!(strict.windows(2).all(|w| w[0] > w[1]), "{strict:?}");
            prop_assert!(strict.iter().zip(&loose).all(|(s, l)| s > l), "{strict:?} {loose:?}");
        }
    }
}
