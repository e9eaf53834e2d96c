//! The standard normal distribution. Owns no state.
//!
//! Tails are computed as tails, never as 1 minus something, so that a chance of 1e-200 has all its digits.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Smallest chance that [`upper_quantile`] answers exactly for; smaller ones get its answer (37.05 standard deviations).
const LEAST: f64 = 1e-300;

/// Density at `x`.
pub fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// Chance of a value above `x`.
pub fn upper(x: f64) -> f64 {
    0.5 * libm::erfc(x * FRAC_1_SQRT_2)
}

/// Chance of a value farther from 0 than `z`, on either side: the two-sided p.
pub fn two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() * FRAC_1_SQRT_2)
}

/// The value that is exceeded with chance `p`, for 0 < p < 1.
///
/// Starts from Abramowitz & Stegun 1964, 26.2.23 (error below 4.5e-4) and refines by Halley's method, which triples the
/// right digits at each step.
pub fn upper_quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -upper_quantile(1.0 - p);
    }
    let p = p.max(LEAST);
    let t = (-2.0 * p.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let mut x = t - above / below;
    for _ in 0..3 {
        let newton = (upper(x) - p) / density(x);
        x += newton / (1.0 - 0.5 * x * newton);
    }
    x
}

/// The value beyond which, on either side, chance `p` lies: 1.96 for 0.05.
pub fn two_sided_quantile(p: f64) -> f64 {
    upper_quantile(0.5 * p)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(got: f64, wanted: f64, what: &str) {
        assert!((got - wanted).abs() <= 1e-13 * wanted.abs().max(1e-300), "{what}: {got}, wanted {wanted}");
    }

    #[test]
    fn tails_and_quantiles_are_those_of_the_tables() {
        close(upper(1.96), 0.024_997_895_148_220_435, "upper 1.96");
        close(upper(-1.0), 0.841_344_746_068_542_9, "upper -1");
        close(upper(10.0), 7.619_853_024_160_525e-24, "upper 10");
        close(two_sided(-3.0), 0.002_699_796_063_260_189, "two-sided 3");
        close(upper_quantile(0.025), 1.959_963_984_540_054, "quantile 0.025");
        close(upper_quantile(0.2), 0.841_621_233_572_914_2, "quantile 0.2");
        assert_eq!(upper_quantile(0.5).abs() < 1e-15, true, "the middle is 0");
    }

    proptest! {
        #[test]
        fn a_quantile_is_the_inverse_of_the_tail(exponent in -290.0f64..-0.302) {
            let p = 10f64.powf(exponent);
            let back = upper(upper_quantile(p));
            prop_assert!((back / p - 1.0).abs() < 1e-11, "{p}: {back}");
            prop_assert_eq!(upper_quantile(1.0 - p.max(1e-10)) < 0.0, true, "beyond the middle it is negative");
        }
    }
}
