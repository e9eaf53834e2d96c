//! How many contacts a test needs, and what a number of contacts can find. Owns no state.
//!
//! Two proportions by the normal approximation with the pooled variance under "no difference" and each arm's own under the
//! lift, without continuity correction: Fleiss, Levin & Paik, "Statistical Methods for Rates and Proportions", 3rd edition
//! (2003), section 4.3, equation 4.14. With more than two arms alpha is divided by the number of pairs (Bonferroni), which
//! is what Holm's procedure asks of its first claim; so the power is at least what was asked for. With several looks the number
//! grows by the inflation of O'Brien & Fleming's boundaries (see [`super::boundaries::inflation`]).

use serde::{Deserialize, Serialize};

use super::{WinnerError, boundaries, normal};
use crate::limits;

/// What a test needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Accepted and matured contacts of each arm, at the last look.
    pub contacts_per_arm: u64,
    pub contacts_total: u64,
    pub arms: u32,
    pub base: f64,
    /// Base plus lift.
    pub target: f64,
    pub power: f64,
    pub alpha: f64,
    /// Pairs of arms.
    pub comparisons: u32,
    /// Alpha over the comparisons.
    pub alpha_per_comparison: f64,
    pub looks: u32,
    /// How much larger the looks make the test.
    pub inflation: f64,
}

/// What is to be found. `base` and `lift` are rates (0.20 and 0.02: from 20 % to 22 %); the lift may be negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    pub base: f64,
    pub lift: f64,
    pub power: f64,
    pub alpha: f64,
    pub arms: u32,
    pub looks: u32,
}

/// Plans a test.
///
/// # Errors
/// Rates outside 0 to 1, no lift, one that would need more contacts than can be counted, power outside 0.5 to 0.999, alpha,
/// arms or looks out of bounds.
pub fn plan(wanted: &Wanted) -> Result<Plan, WinnerError> {
    let Wanted { base, lift, power, alpha, arms, looks } = *wanted;
    if arms < 2 || arms as usize > limits::WINNER_ARMS_MAX {
        return Err(WinnerError::Arms { count: arms as usize });
    }
    if looks == 0 || looks > limits::WINNER_LOOKS_MAX {
        return Err(WinnerError::Looks { looks: u64::from(looks) });
    }
    if !(0.5..=0.999).contains(&power) {
        return Err(WinnerError::Power { power });
    }
    super::rules::check_alpha(alpha)?;
    let target = base + lift;
    check_rates(base, target)?;
    let comparisons = arms * (arms - 1) / 2;
    let alpha_per_comparison = alpha / f64::from(comparisons);
    let (none, own) = spreads(base, target);
    let reach = normal::two_sided_quantile(alpha_per_comparison) * none + normal::upper_quantile(1.0 - power) * own;
    let inflation = boundaries::inflation(looks, alpha_per_comparison, power);
    let contacts = ((reach / (target - base)).powi(2) * inflation).ceil().max(1.0);
    // written so that NaN is refused too
    if !(contacts * f64::from(arms) <= limits::WINNER_CONTACTS_MAX as f64) {
        return Err(WinnerError::TooSmallLift);
    }
    let contacts_per_arm = contacts as u64;
    let contacts_total = contacts_per_arm * u64::from(arms);
    Ok(Plan {
        contacts_per_arm,
        contacts_total,
        arms,
        base,
        target,
        power,
        alpha,
        comparisons,
        alpha_per_comparison,
        looks,
        inflation,
    })
}

fn check_rates(base: f64, target: f64) -> Result<(), WinnerError> {
    for rate in [base, target] {
        if !(rate > 0.0 && rate < 1.0) {
            return Err(WinnerError::Rate { rate });
        }
    }
    if base == target { Err(WinnerError::NoLift) } else { Ok(()) }
}

/// Standard deviations of a difference of one contact each: if there is none, and with each arm's own variance.
fn spreads(base: f64, target: f64) -> (f64, f64) {
    let middle = 0.5 * (base + target);
    ((2.0 * middle * (1.0 - middle)).sqrt(), (base * (1.0 - base) + target * (1.0 - target)).sqrt())
}

/// Chance of finding, in a test that looks once, that `target` differs from `base` with so many contacts in each of two arms.
///
/// # Errors
/// Rates outside 0 to 1 or the same; alpha out of bounds.
pub fn power(base: f64, target: f64, contacts_per_arm: u64, alpha: f64) -> Result<f64, WinnerError> {
    super::rules::check_alpha(alpha)?;
    check_rates(base, target)?;
    let (none, own) = spreads(base, target);
    let difference = (target - base).abs() * (contacts_per_arm as f64).sqrt();
    Ok(normal::upper((normal::two_sided_quantile(alpha) * none - difference) / own))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(base: f64, lift: f64) -> Wanted {
        Wanted { base, lift, power: 0.8, alpha: 0.05, arms: 2, looks: 1 }
    }

    #[test]
    fn the_sizes_are_the_known_ones() {
        for (base, lift, size) in [
            (0.2, 0.02, 6_510),
            (0.2, 0.01, 25_583),
            (0.03, 0.005, 19_743),
            (0.03, 0.003, 53_211),
            (0.02, 0.005, 13_809),
        ] {
            let got = plan(&wanted(base, lift)).expect("a plan");
            assert_eq!((got.contacts_per_arm, got.contacts_total), (size, 2 * size), "{base} + {lift}");
        }
        let three = plan(&Wanted { arms: 3, ..wanted(0.2, 0.02) }).expect("a plan");
        assert_eq!((three.comparisons, three.alpha_per_comparison), (3, 0.05 / 3.0), "Bonferroni over pairs");
        assert!(three.contacts_per_arm > 8_500 && three.contacts_per_arm < 8_800, "{three:?}");
        let looks = plan(&Wanted { looks: 5, ..wanted(0.2, 0.02) }).expect("a plan");
        assert_eq!(looks.contacts_per_arm, (6_509.5 * looks.inflation).ceil() as u64, "{looks:?}");
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        let refused = |wanted: Wanted| plan(&wanted).expect_err("refused");
        assert_eq!(refused(wanted(0.2, 0.0)), WinnerError::NoLift);
        assert_eq!(refused(wanted(0.2, 1e-9)), WinnerError::TooSmallLift);
        for (base, lift) in [(0.0, 0.1), (0.2, 0.8), (1.5, 0.1), (f64::NAN, 0.1), (0.2, f64::NAN), (0.2, -0.2)] {
            assert!(matches!(refused(wanted(base, lift)), WinnerError::Rate { .. }), "{base} + {lift}");
        }
        assert_eq!(refused(Wanted { arms: 1, ..wanted(0.2, 0.1) }), WinnerError::Arms { count: 1 });
        assert_eq!(refused(Wanted { looks: 21, ..wanted(0.2, 0.1) }), WinnerError::Looks { looks: 21 });
        assert_eq!(refused(Wanted { power: 1.0, ..wanted(0.2, 0.1) }), WinnerError::Power { power: 1.0 });
        assert_eq!(refused(Wanted { alpha: 0.0, ..wanted(0.2, 0.1) }), WinnerError::Alpha { alpha: 0.0 });
    }

    proptest! {
        #[test]
        fn the_planned_size_has_the_planned_power(base in 0.01f64..0.5, lift in 0.005f64..0.4, chance in 0.5f64..0.99, alpha in 0.001f64..0.2) {
            let got = plan(&Wanted { power: chance, alpha, ..wanted(base, lift) }).expect("a plan");
            let (at, before) = (got.contacts_per_arm, got.contacts_per_arm - 1);
            prop_assert!(power(base, base + lift, at, alpha).expect("a power") >= chance - 1e-9, "{got:?}");
            prop_assert!(power(base, base + lift, before, alpha).expect("a power") <= chance + 1e-9, "{got:?}: one fewer is too few");
        }

        #[test]
        fn more_arms_looks_and_power_need_more(base in 0.05f64..0.5, lift in 0.01f64..0.2) {
            let size = |wanted: Wanted| plan(&wanted).expect("a plan").contacts_per_arm;
            let two = wanted(base, lift);
            prop_assert!(size(Wanted { arms: 3, ..two }) > size(two), "arms");
            prop_assert!(size(Wanted { looks: 3, ..two }) >= size(two), "looks");
            prop_assert!(size(Wanted { power: 0.9, ..two }) > size(two), "power");
            prop_assert!(size(wanted(base, lift * 1.2)) < size(two), "a smaller lift");
        }
    }
}
