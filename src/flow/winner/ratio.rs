//! Whether the sizes of the arms are what the split promised. Owns no state.
//!
//! A split that gives one arm too few contacts has lost them somewhere, and hardly ever at random: what its arms show is
//! then worth nothing. Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments", KDD 2019.

use serde::{Deserialize, Serialize};

use super::{WinnerError, chi_square};
use crate::limits;

/// Contacts that every arm should have at least for the chi-square law to hold (Cochran, Biometrics 10, 1954).
const EXPECTED_MIN: f64 = 5.0;

/// Pearson's chi-square test of the arms' sizes (Philosophical Magazine 50, 1900).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioCheck {
    pub chi_square: f64,
    pub degrees: u32,
    pub p: f64,
    /// Contacts of each arm if the shares had been kept exactly.
    pub expected: Vec<f64>,
    /// Less likely than [`limits::WINNER_RATIO_P`]; never with fewer than 5 expected contacts in an arm.
    pub broken: bool,
}

/// Compares observed contacts with the expected shares, which need not add up to anything.
///
/// # Errors
/// Fewer than 2 or too many arms, no contacts at all, shares of another number or not above 0.
pub fn ratio(observed: &[u64], shares: &[f64]) -> Result<RatioCheck, WinnerError> {
    if observed.len() < 2 || observed.len() > limits::WINNER_ARMS_MAX {
        return Err(WinnerError::Arms { count: observed.len() });
    }
    if shares.len() != observed.len() {
        return Err(WinnerError::Shares { expected: shares.len(), arms: observed.len() });
    }
    let arm = |index: usize| format!("arm {}", index + 1);
    if let Some((index, share)) = shares.iter().enumerate().find(|(_, share)| !(share.is_finite() && **share > 0.0)) {
        return Err(WinnerError::Share { arm: arm(index), share: *share });
    }
    if let Some((index, contacts)) = observed.iter().enumerate().find(|(_, n)| **n > limits::WINNER_CONTACTS_MAX) {
        return Err(WinnerError::TooManyContacts { arm: arm(index), contacts: *contacts });
    }
    let contacts: f64 = observed.iter().map(|n| *n as f64).sum();
    if contacts == 0.0 {
        return Err(WinnerError::NoContacts { arm: "all arms together".to_owned() });
    }
    let largest = shares.iter().copied().fold(0.0, f64::max);
    // by the largest first: the sum of huge shares would overflow
    let whole: f64 = shares.iter().map(|share| share / largest).sum();
    let expected: Vec<f64> = shares.iter().map(|share| contacts * (share / largest / whole)).collect();
    if let Some(index) = expected.iter().position(|e| *e <= f64::MIN_POSITIVE) {
        return Err(WinnerError::Share { arm: arm(index), share: shares[index] });
    }
    let chi_square: f64 = observed.iter().zip(&expected).map(|(n, e)| (*n as f64 - e).powi(2) / e).sum();
    let degrees = observed.len() as u32 - 1;
    let p = chi_square::upper(chi_square, degrees);
    let enough = expected.iter().all(|e| *e >= EXPECTED_MIN);
    let chi_square = chi_square.min(f64::MAX);
    Ok(RatioCheck { chi_square, degrees, p, expected, broken: enough && p < limits::WINNER_RATIO_P })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_split_that_is_off_by_little_among_many_is_broken() {
        let check = ratio(&[1_003_000, 997_000], &[1.0, 1.0]).expect("counts are right");
        assert_eq!((check.chi_square, check.degrees, check.broken), (18.0, 1, true));
        assert!((check.p - 2.209_049_7e-5).abs() < 1e-11, "{}", check.p);
        let kept = ratio(&[1_000_900, 999_100], &[1.0, 1.0]).expect("counts are right");
        assert!(!kept.broken && kept.p > 0.05, "{kept:?}");
        let few = ratio(&[0, 8], &[1.0, 1.0]).expect("counts are right");
        assert!(!few.broken, "eight contacts prove nothing about a split: {few:?}");
        let shares = ratio(&[100, 900], &[1.0, 9.0]).expect("counts are right");
        assert_eq!((shares.chi_square, shares.expected), (0.0, vec![100.0, 900.0]), "other shares");
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let refused = |observed: &[u64], shares: &[f64]| ratio(observed, shares).expect_err("refused").to_string();
        assert!(refused(&[5], &[1.0]).starts_with("1 arms"), "one arm");
        assert_eq!(refused(&[5, 5], &[1.0]), "1 expected shares for 2 arms");
        assert!(refused(&[0, 0], &[1.0, 1.0]).contains("no contacts"), "nobody");
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300] {
            assert!(refused(&[5, 5], &[1e300, bad]).contains("arm 2"), "share {bad}");
        }
    }

    proptest! {
        #[test]
        fn the_order_and_the_unit_of_shares_do_not_matter(counts in prop::collection::vec((1u64..1_000_000, 0.1f64..10.0), 2..20), unit in 0.001f64..1000.0) {
            let (n, s): (Vec<u64>, Vec<f64>) = counts.iter().copied().unzip();
            let one = ratio(&n, &s).expect("counts are right");
            let (n, s): (Vec<u64>, Vec<f64>) = counts.iter().rev().map(|(n, s)| (*n, s * unit)).unzip();
            let two = ratio(&n, &s).expect("counts are right");
            prop_assert!((one.chi_square - two.chi_square).abs() <= 1e-9 * one.chi_square.max(1.0), "{one:?} {two:?}");
            prop_assert!((0.0..=1.0).contains(&one.p) && one.p.is_finite() && one.chi_square.is_finite(), "{one:?}");
        }
    }
}
