//! The upper tail of the chi-square distribution. Owns no state.

use super::normal;

/// Chance of a value above `x` with this many degrees of freedom.
///
/// Q(n/2, x/2) by the recurrence Q(a + 1, y) = Q(a, y) + y^a e^-y / Γ(a + 1) from Q(1/2, y) = erfc √y or Q(0, y) = 0
/// (DLMF 8.8.6, 8.4.6; Abramowitz & Stegun 1964, 26.4.4 and 26.4.5): a finite sum of positive terms, so nothing cancels.
/// Takes `degrees / 2` steps.
pub fn upper(x: f64, degrees: u32) -> f64 {
    if degrees == 0 {
        return 0.0;
    }
    if x <= 0.0 {
        return 1.0;
    }
    let y = 0.5 * x;
    let odd = degrees % 2 == 1;
    let (mut a, mut sum) = if odd { (0.5, normal::two_sided(x.sqrt())) } else { (0.0, 0.0) };
    for _ in 0..degrees / 2 {
        sum += (a * y.ln() - y - libm::lgamma(a + 1.0)).exp();
        a += 1.0;
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn critical_values_are_those_of_the_tables() {
        // Abramowitz & Stegun 1964, table 26.8
        for (x, degrees, wanted) in [
            (3.841_459, 1, 0.05),
            (5.991_465, 2, 0.05),
            (12.115_64, 1, 0.000_5),
            (18.307_04, 10, 0.05),
            (52.620, 25, 0.001),
            (11.523_98, 25, 0.99),
            (124.342_1, 100, 0.05),
        ] {
            let got = upper(x, degrees);
            assert!((got / wanted - 1.0).abs() < 2e-4, "{x} with {degrees}: {got}, wanted {wanted}");
        }
        assert_eq!((upper(0.0, 3), upper(-1.0, 3), upper(1e9, 3)), (1.0, 1.0, 0.0), "the ends");
    }

    proptest! {
        #[test]
        fn the_tail_falls_with_the_value_and_rises_with_the_degrees(x in 0.0f64..300.0, more in 0.001f64..50.0, degrees in 1u32..60) {
            // Two tails that differ by less than a double's last digits may come out in any order.
            let rounding = 1.0 + 1e-12;
            prop_assert!(upper(x + more, degrees) <= upper(x, degrees) * rounding, "falls");
            prop_assert!(upper(x, degrees + 1) * rounding >= upper(x, degrees), "rises");
        }
    }
}
