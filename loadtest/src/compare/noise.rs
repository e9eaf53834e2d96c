//! What is a change and what is noise: the exact Mann–Whitney test for few repetitions, and Holm's correction for many
//! figures.
//!
//! Owns no state. No distribution is assumed, which rates on a shared machine do not have. Sources: H. B. Mann, D. R. Whitney,
//! "On a test of whether one of two random variables is stochastically larger than the other", Ann. Math. Stat. 18
//! (1947); ties by midranks, and the distribution of their sums by counting subsets, as in M. Hollander, D. A. Wolfe,
//! "Nonparametric Statistical Methods" (1999), 4.1; S. Holm, "A simple sequentially rejective multiple test procedure",
//! Scand. J. Stat. 6 (1979).

/// Repetitions of each side that are compared; more are left out, evenly.
const SAMPLES_MAX: usize = 50;

/// The probability that `after` would be at least as much greater than `before` if both were drawn from one population:
/// one-sided, exact, conditional on ties. 1 where either is empty.
pub fn greater(before: &[f64], after: &[f64]) -> f64 {
    let (before, after) = (thinned(before), thinned(after));
    if before.is_empty() || after.is_empty() {
        return 1.0;
    }
    let ranks = doubled_midranks(&before, &after);
    let seen: usize = ranks[before.len()..].iter().sum();
    let counts = subset_sums(&ranks, after.len());
    let all: f64 = counts.iter().sum();
    counts.get(seen..).map_or(0.0, |tail| tail.iter().sum::<f64>()) / all
}

/// The least probability that [`greater`] can answer for so many repetitions: one order among all.
pub fn least(before: usize, after: usize) -> f64 {
    let (before, after) = (before.min(SAMPLES_MAX), after.min(SAMPLES_MAX));
    (1..=after).map(|place| place as f64 / (before + place) as f64).product()
}

/// Repetitions of each side with which a change can be proven at `alpha` among so many figures.
pub fn needed(figures: usize, alpha: f64) -> usize {
    (2..SAMPLES_MAX).find(|n| least(*n, *n) * figures as f64 <= alpha).unwrap_or(SAMPLES_MAX)
}

fn thinned(samples: &[f64]) -> Vec<f64> {
    let every = samples.len().div_ceil(SAMPLES_MAX).max(1);
    samples.iter().copied().step_by(every).collect()
}

/// Twice the rank of each sample, those of `before` first: equal ones share the middle of their places, so twice a rank is
/// whole.
fn doubled_midranks(before: &[f64], after: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = before.iter().chain(after).copied().collect();
    let rank = |x: &f64| {
        let below = all.iter().filter(|other| *other < x).count();
        let equal = all.iter().filter(|other| *other == x).count();
        2 * below + equal + 1
    };
    all.iter().map(rank).collect()
}

/// How many subsets of this size have each sum.
fn subset_sums(ranks: &[usize], size: usize) -> Vec<f64> {
    let most: usize = ranks.iter().sum();
    let mut counts = vec![vec![0.0; most + 1]; size + 1];
    counts[0][0] = 1.0;
    for rank in ranks {
        for taken in (1..=size).rev() {
            let (less, this) = counts.split_at_mut(taken);
            for sum in (*rank..=most).rev() {
                this[0][sum] += less[taken - 1][sum - rank];
            }
        }
    }
    counts.swap_remove(size)
}

/// Holm's adjusted probabilities, in the order of the given ones.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least: f64 = 0.0;
    for (place, at) in order.into_iter().enumerate() {
        least = least.max((p[at] * (p.len() - place) as f64).min(1.0));
        adjusted[at] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn separated_samples_have_the_probability_of_one_order_among_all() {
        assert!(near(greater(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 1.0 / 20.0), "one of C(6, 3)");
        assert!(near(greater(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]), 1.0 / 252.0));
        assert!(near(greater(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0]), 1.0), "the other way round is no sign of it");
        assert!(near(greater(&[1.0], &[2.0]), 0.5), "one of each proves nothing");
        assert!(near(greater(&[], &[2.0]), 1.0));
    }

    #[test]
    fn few_repetitions_prove_nothing_however_far_apart() {
        assert!(near(least(3, 3), 1.0 / 20.0) && near(least(5, 5), 1.0 / 252.0) && near(least(2, 3), 0.1));
        assert!(near(least(4, 4), greater(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0])), "what the test answers then");
        assert_eq!([1, 2, 10, 13].map(|figures| needed(figures, 0.05)), [3, 4, 5, 6]);
    }

    #[test]
    fn known_values_are_met() {
        // U is 18 of 25; of the 252 orders of five and five, 39 have a U of at least 18 (tables of Mann and Whitney).
        let p = greater(&[1.1, 2.2, 3.3, 4.4, 9.9], &[3.0, 5.0, 6.0, 7.0, 8.0]);
        assert!(near(p, 39.0 / 252.0), "{p}");
    }

    #[test]
    fn ties_share_their_places() {
        assert!(near(greater(&[1.0, 1.0], &[1.0, 1.0]), 1.0), "all equal");
        // Of the six ways to choose two of the ranks 1, 2.5, 2.5, 4, two have a sum of at least 6.5.
        assert!(near(greater(&[1.0, 2.0], &[2.0, 3.0]), 2.0 / 6.0), "{}", greater(&[1.0, 2.0], &[2.0, 3.0]));
    }

    #[test]
    fn holm_multiplies_by_what_is_left() {
        let adjusted = holm(&[0.01, 0.04, 0.03]);
        assert!(near(adjusted[0], 0.03) && near(adjusted[2], 0.06) && near(adjusted[1], 0.06), "{adjusted:?}");
        assert!(holm(&[]).is_empty());
    }
}
