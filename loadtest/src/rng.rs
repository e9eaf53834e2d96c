//! A small seeded generator (SplitMix64), so that every load, fault and kill of a run can be had again from its seed.
//!
//! Owns its one word of state. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA
//! 2014. Not for secrets.

/// Seeded stream of 64-bit numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A stream of its own for one purpose, so that a new draw in one place does not move all others.
    pub fn salted(seed: u64, salt: u64) -> Rng {
        Rng(mix(seed ^ mix(salt.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of a modulo is below bound / 2^64, which no load can show.
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `share`; draws nothing when the share is 0.
    pub fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.unit() < share
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.below(from.len() as u64)).unwrap_or(0))
    }
}

/// The finaliser of SplitMix64: a bijection in which every input bit moves every output bit.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `0.0..1.0` that depends on the seed and the bytes alone (FNV-1a, then the finaliser).
pub fn unit_of(seed: u64, bytes: &[u8]) -> f64 {
    let hash =
        bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ seed, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    (mix(hash) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_salts_differ() {
        let draw = |mut r: Rng| (0..8).map(|_| r.next_u64()).collect::<Vec<_>>();
        assert_eq!(draw(Rng::new(7)), draw(Rng::new(7)), "a stream is its seed");
        assert_ne!(draw(Rng::salted(7, 1)), draw(Rng::salted(7, 2)), "salted streams are apart");
    }

    #[test]
    fn shares_come_out_as_asked() {
        let mut r = Rng::new(1);
        let hits = (0..100_000).filter(|_| r.chance(0.2)).count();
        assert!((19_000..21_000).contains(&hits), "20 % of 100 000 draws, got {hits}");
        let by_name = (0..100_000).filter(|i| unit_of(3, format!("user{i}@example.test").as_bytes()) < 0.05).count();
        assert!((4_500..5_500).contains(&by_name), "5 % of 100 000 names, got {by_name}");
        assert!((0..100).all(|_| !r.chance(0.0)), "a share of nothing never hits");
    }
}
