//! The simulation's source of chance: xoshiro256** (Blackman & Vigna 2018), seeded by splitmix64.
//!
//! It is written here and not taken from a crate, so that a seed printed by a failing run replays for ever, whatever
//! version of whatever crate.
//!
//! Invariants:
//! 1. The same seed and salts give the same numbers, on every machine.
//! 2. Streams of different salts are independent: one more draw in one never shifts another.

/// A stream of chance.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: [u64; 4],
    /// What further streams are derived from; no draw changes it.
    root: u64,
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        let mut source = seed;
        let state = std::array::from_fn(|_| splitmix(&mut source));
        Rng { state, root: seed }
    }

    /// A stream of its own for one purpose, whatever was drawn here before.
    pub(crate) fn stream(&self, salt: &str) -> Rng {
        // FNV-1a of the salt, mixed with the root.
        let hash =
            salt.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let mut mixed = self.root;
        let first = splitmix(&mut mixed);
        Rng::new(first.rotate_left(17) ^ hash)
    }

    pub(crate) fn next(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// Evenly from `0..below`; 0 for 0. (Lemire 2019, without the rejection: the bias is below 2⁻³² for what is drawn here.)
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(below)) >> 64).expect("a product's high half fits")
    }

    /// Evenly from `from..=to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below((to - from).saturating_add(1))
    }

    /// From [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of them; `None` of none.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(usize::try_from(self.below(of.len() as u64)).expect("an index"))
    }

    /// The place of one of some weights; `None` if they are all 0.
    pub(crate) fn weighted(&mut self, weights: &[u32]) -> Option<usize> {
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let mut left = self.below(total);
        weights.iter().position(|w| {
            let here = left < u64::from(*w);
            left = left.saturating_sub(u64::from(*w));
            here
        })
    }

    /// Into any order, each as likely (Fisher & Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, usize::try_from(self.below(at as u64 + 1)).expect("an index"));
        }
    }

    /// A waiting time with this mean, as between events that know nothing of each other (exponential).
    pub(crate) fn gap(&mut self, mean: u64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_published_algorithms() {
        let mut seed = 1_234_567;
        let mixed: Vec<u64> = (0..3).map(|_| splitmix(&mut seed)).collect();
        assert_eq!(
            mixed,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423],
            "splitmix64"
        );
        let mut rng = Rng { state: [1, 2, 3, 4], root: 0 };
        let drawn: Vec<u64> = (0..5).map(|_| rng.next()).collect();
        assert_eq!(
            drawn,
            [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240, 1_216_172_134_540_287_360],
            "xoshiro256**"
        );
    }

    #[test]
    fn a_seed_gives_the_same_numbers_each_time_and_a_draw_shifts_no_other_stream() {
        let rng = Rng::new(7);
        let (mut one, mut again) = (rng.stream("faults"), rng.stream("faults"));
        assert_eq!(
            (0..9).map(|_| one.next()).collect::<Vec<_>>(),
            (0..9).map(|_| again.next()).collect::<Vec<_>>(),
            "same"
        );
        let mut drawn = Rng::new(7);
        drawn.next();
        assert_eq!(drawn.stream("faults").next(), rng.stream("faults").next(), "draws change no stream");
        assert_ne!(rng.stream("faults").next(), rng.stream("times").next(), "salts differ");
        assert_ne!(Rng::new(8).stream("faults").next(), rng.stream("faults").next(), "seeds differ");
        assert_ne!(rng.stream("a").stream("b").next(), rng.stream("b").stream("a").next(), "nested streams differ");
    }

    #[test]
    fn draws_are_spread_as_they_say() {
        let mut rng = Rng::new(1);
        let mut seen = [0u32; 7];
        for _ in 0..70_000 {
            seen[usize::try_from(rng.below(7)).expect("small")] += 1;
        }
        assert!(seen.iter().all(|n| (9_500..10_500).contains(n)), "even: {seen:?}");
        let heads = (0..10_000).filter(|_| rng.chance(0.3)).count();
        assert!((2_800..3_200).contains(&heads), "chance: {heads}");
        let mut weighted = [0u32; 3];
        for _ in 0..10_000 {
            weighted[rng.weighted(&[1, 0, 3]).expect("some weight")] += 1;
        }
        assert!(weighted[1] == 0 && (2_300..2_700).contains(&weighted[0]), "weights: {weighted:?}");
        let mean = (0..10_000).map(|_| rng.gap(1_000)).sum::<u64>() / 10_000;
        assert!((950..1_050).contains(&mean), "gap: {mean}");
    }

    #[test]
    fn the_borders_are_kept() {
        let mut rng = Rng::new(3);
        assert_eq!((rng.below(0), rng.below(1), rng.between(5, 5)), (0, 0, 5), "narrow");
        assert_eq!((rng.pick::<u8>(&[]), rng.weighted(&[]), rng.weighted(&[0, 0])), (None, None, None), "none");
        assert!((0..1_000).all(|_| (2..=4).contains(&rng.between(2, 4))), "between");
        assert!(!rng.chance(0.0) && rng.chance(1.0), "never and always");
        let mut items: Vec<u32> = (0..50).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>(), "another order");
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>(), "the same items");
    }
}
