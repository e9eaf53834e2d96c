//! Several comparisons at once. Owns no state.

/// Adjusted p of each comparison, in the order given: those at or below alpha may be claimed, and the chance that any
/// claim is wrong is at most alpha, however the comparisons depend on each other.
///
/// Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979): the i-th
/// smallest of m counts (m - i + 1) times, and none less than the one before it.
pub fn adjust(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        let times = (p.len() - rank) as f64;
        least = least.max((p[index] * times).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_smallest_pays_for_all_and_the_largest_for_itself() {
        assert_eq!(adjust(&[]), Vec::<f64>::new(), "none");
        assert_eq!(adjust(&[0.04]), [0.04], "one comparison is not adjusted");
        let got = adjust(&[0.01, 0.04, 0.03, 0.005]);
        for (index, wanted) in [0.03, 0.06, 0.06, 0.02].into_iter().enumerate() {
            assert!((got[index] - wanted).abs() < 1e-15, "{got:?}");
        }
    }

    proptest! {
        #[test]
        fn adjusted_values_keep_the_order_and_lie_between_p_and_bonferroni(p in prop::collection::vec(0.0f64..=1.0, 1..40)) {
            let adjusted = adjust(&p);
            for (i, one) in adjusted.iter().enumerate() {
                prop_assert!(*one >= p[i] && *one <= 1.0, "{} → {one}", p[i]);
                prop_assert!(*one >= (p[i]).min(1.0) && adjusted.iter().zip(&p).all(|(a, q)| *q > p[i] || a <= one), "order");
            }
            let smallest = p.iter().copied().fold(f64::INFINITY, f64::min);
            let bonferroni = (smallest * p.len() as f64).min(1.0);
            let least = adjusted.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!((least - bonferroni).abs() < 1e-15, "the smallest is Bonferroni's: {least}, {bonferroni}");
        }
    }
}
