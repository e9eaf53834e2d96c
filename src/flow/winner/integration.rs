//! The law of a statistic that is looked at again and again, by numerical integration.
//!
//! The score at information time t (from 0 to 1) is normal with mean `drift`·t and variance t, and its increments are
//! independent. Walks that have not left the bounds at one look are carried to the next by convolution: Armitage, McPherson
//! & Rowe, "Repeated significance tests on accumulating data", JRSS A 132 (1969); Jennison & Turnbull, "Group Sequential
//! Methods" (2000), chapter 19. Gauss–Legendre nodes integrate the smooth densities to about 1e-13.
//!
//! Owns no state; a [`Walk`] belongs to who carries it.

use super::normal;

/// Standard deviations of the score beyond which no walk is followed: chance 2e-19.
const REACH: f64 = 9.0;
/// Nodes for each width of the narrowest step, and at least: the error of the rule falls as exp(-2 (π · this / 2)²).
const NODES_A_WIDTH: f64 = 2.5;
const NODES_LEAST: f64 = 24.0;

/// Walks that have stayed within all bounds so far.
#[derive(Clone, Debug)]
pub struct Walk {
    time: f64,
    drift: f64,
    scores: Vec<f64>,
    /// Chance that each score stands for.
    mass: Vec<f64>,
}

impl Walk {
    /// All walks, before the first look.
    pub fn start(drift: f64) -> Walk {
        Walk { time: 0.0, drift, scores: vec![0.0], mass: vec![1.0] }
    }

    /// Chance of having stayed within the bounds so far and of being beyond ±`bound` at `time`.
    pub fn exit(&self, time: f64, bound: f64) -> f64 {
        let step = time - self.time;
        let (scale, shift) = (step.sqrt().recip(), self.drift * step);
        let beyond = |score: f64| {
            normal::upper((bound - score - shift) * scale) + normal::upper((bound + score + shift) * scale)
        };
        self.scores.iter().zip(&self.mass).map(|(score, mass)| mass * beyond(*score)).sum()
    }

    /// The walks that are within ±`bound` at `time`, on nodes that are fine enough for a `next` step of that length.
    pub fn advance(&self, time: f64, bound: f64, next: f64) -> Walk {
        let step = time - self.time;
        let (mean, reach) = (self.drift * time, REACH * time.sqrt());
        let (from, to) = ((mean - reach).max(-bound), (mean + reach).min(bound));
        if from >= to {
            return Walk { time, drift: self.drift, scores: Vec::new(), mass: Vec::new() };
        }
        let narrowest = step.min(next).sqrt();
        let count = (NODES_LEAST + NODES_A_WIDTH * (to - from) / narrowest).ceil() as usize;
        let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
        let (scale, shift) = (step.sqrt().recip(), self.drift * step);
        let (mut scores, mut mass) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (node, weight) in gauss_legendre(count) {
            let score = middle + half * node;
            let arrive = |from: f64| normal::density((score - from - shift) * scale) * scale;
            let density: f64 = self.scores.iter().zip(&self.mass).map(|(from, mass)| mass * arrive(*from)).sum();
            scores.push(score);
            mass.push(half * weight * density);
        }
        Walk { time, drift: self.drift, scores, mass }
    }
}

/// Chance of being beyond ±`bounds` at any of the looks at `times` (rising, the last one 1), bounds on the score's scale.
pub fn crossing(times: &[f64], bounds: &[f64], drift: f64) -> f64 {
    let mut walk = Walk::start(drift);
    let mut chance = 0.0;
    for (index, (time, bound)) in times.iter().zip(bounds).enumerate() {
        chance += walk.exit(*time, *bound);
        if let Some(next) = times.get(index + 1) {
            walk = walk.advance(*time, *bound, next - time);
        }
    }
    chance
}

/// Nodes in (-1, 1) and weights of the Gauss–Legendre rule, by Newton's method on the three-term recurrence (Golub & Welsch
/// 1969 give the same; Davis & Rabinowitz, "Methods of Numerical Integration", 1984, section 2.7).
fn gauss_legendre(count: usize) -> Vec<(f64, f64)> {
    let n = count as f64;
    let rule = |index: usize| {
        let mut x = (std::f64::consts::PI * (index as f64 + 0.75) / (n + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (mut last, mut value) = (1.0, x);
            for k in 2..=count {
                let k = k as f64;
                (last, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * last) / k);
            }
            slope = n * (x * value - last) / (x * x - 1.0);
            let change = value / slope;
            x -= change;
            if change.abs() < 1e-15 {
                break;
            }
        }
        (x, 2.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..count).map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_integrates_polynomials() {
        for count in [24usize, 57, 200] {
            let rule = gauss_legendre(count);
            for (power, wanted) in [(0, 2.0), (1, 0.0), (2, 2.0 / 3.0), (20, 2.0 / 21.0)] {
                let got: f64 = rule.iter().map(|(x, w)| w * x.powi(power)).sum();
                assert!((got - wanted).abs() < 1e-13, "{count} nodes, power {power}: {got}");
            }
        }
    }

    #[test]
    fn repeated_tests_at_five_per_cent_err_as_often_as_published() {
        // Armitage, McPherson & Rowe 1969, table 2: z beyond 1.96 at each of some looks
        for (looks, wanted) in [(1, 0.05), (2, 0.083), (3, 0.107), (5, 0.142), (10, 0.193), (20, 0.248)] {
            let times: Vec<f64> = (1..=looks).map(|k| f64::from(k) / f64::from(looks)).collect();
            let bounds: Vec<f64> = times.iter().map(|t| 1.959_964 * t.sqrt()).collect();
            let got = crossing(&times, &bounds, 0.0);
            assert!((got - wanted).abs() < 6e-4, "{looks} looks: {got}, published {wanted}");
        }
    }

    #[test]
    fn finer_nodes_change_nothing() {
        let times = [0.05, 0.3, 0.31, 0.8, 1.0];
        let bounds = [1.2, 1.4, 1.5, 1.9, 2.0];
        let coarse = crossing(&times, &bounds, 0.7);
        let mut walk = Walk::start(0.7);
        let mut fine = 0.0;
        for (time, bound) in times.iter().zip(bounds) {
            fine += walk.exit(*time, bound);
            walk = walk.advance(*time, bound, 0.002);
        }
        assert!((coarse - fine).abs() < 1e-12, "{coarse}, {fine}");
    }

    #[test]
    fn one_look_is_the_normal_law() {
        let got = crossing(&[1.0], &[1.5], 0.4);
        let wanted = normal::upper(1.1) + normal::upper(1.9);
        assert!((got - wanted).abs() < 1e-15, "{got}, {wanted}");
    }
}
