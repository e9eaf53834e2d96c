//! Bare roaring: what the sets of the twelve-node flow cost without an engine around them.
//!
//! Owns its bitmaps. It moves the same sets as `loadtest flow` does (two conditions, an exact half, a quota, a wait, a condition,
//! a weighted split, a reaction, the end) and keeps no journal, sends nothing and answers nobody: a floor, not a peer.
//! Invariant: every contact is at one place after each node, as in a flow, and that is checked.

use std::time::Instant;

use anyhow::ensure;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::rng::mix;

/// Milliseconds per kind of node, and in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BareSets {
    pub contacts: u32,
    /// Conditions: an AND and a difference each.
    pub conditions_ms: f64,
    /// Splits by keyed hash, cut at exact quotas.
    pub splits_ms: f64,
    /// Unions where branches meet again.
    pub unions_ms: f64,
    pub total_ms: f64,
}

/// Runs the flow's sets once over this many contacts.
pub fn bare_flow(contacts: u32, seed: u64) -> anyhow::Result<BareSets> {
    let audience: RoaringBitmap = (0..contacts).collect();
    let where_share = |salt: u64, share: u64| -> RoaringBitmap {
        (0..contacts).filter(|row| mix(seed ^ salt ^ u64::from(*row)) % 100 < share).collect()
    };
    let (unique, grown_up) = (where_share(1, 99), where_share(2, 90));
    let (delivered, reacted) = (where_share(3, 98), where_share(4, 20));
    let mut times = BareSets { contacts, ..BareSets::default() };
    let mut clock = Clock(Instant::now());

    let own = clock.condition(&audience, &unique, &mut times);
    let all = clock.union(&own, &mut times);
    let ages = clock.condition(&all, &grown_up, &mut times);
    let halves = clock.split(&ages.0, ages.0.len() / 2, seed ^ 5, &mut times);
    let few = clock.split(&ages.1, 1_000.min(ages.1.len()), seed ^ 6, &mut times);
    let to_a = clock.union(&(halves.0, few.0), &mut times);
    let to_b = clock.union(&(halves.1, few.1), &mut times);
    let paused = clock.union(&(to_a, to_b), &mut times);
    let arrived = clock.condition(&paused, &delivered, &mut times);
    let shares = clock.split(&arrived.0, arrived.0.len() * 3 / 10, seed ^ 7, &mut times);
    let waiting = clock.union(&(shares.0, arrived.1), &mut times);
    let reactions = clock.condition(&waiting, &reacted, &mut times);
    let ended = clock.union(&reactions, &mut times);
    let ended = clock.union(&(ended, shares.1), &mut times);

    ensure!(ended == audience, "{} of {contacts} contacts are at the end", ended.len());
    times.total_ms = times.conditions_ms + times.splits_ms + times.unions_ms;
    Ok(times)
}

type Two = (RoaringBitmap, RoaringBitmap);

struct Clock(Instant);

impl Clock {
    fn took(&mut self) -> f64 {
        let ms = self.0.elapsed().as_secs_f64() * 1e3;
        self.0 = Instant::now();
        ms
    }

    fn condition(&mut self, at: &RoaringBitmap, holds: &RoaringBitmap, times: &mut BareSets) -> Two {
        self.took();
        let exits = (at & holds, at - holds);
        times.conditions_ms += self.took();
        exits
    }

    /// The `quota` rows with the smallest hashes, and the others.
    fn split(&mut self, at: &RoaringBitmap, quota: u64, key: u64, times: &mut BareSets) -> Two {
        self.took();
        let mut ranked: Vec<(u64, u32)> = at.iter().map(|row| (mix(key ^ u64::from(row)), row)).collect();
        let cut = usize::try_from(quota).unwrap_or(usize::MAX).min(ranked.len());
        if cut > 0 && cut < ranked.len() {
            ranked.select_nth_unstable(cut - 1);
        }
        let mut rows: Vec<u32> = ranked[..cut].iter().map(|(_, row)| *row).collect();
        rows.sort_unstable();
        let first: RoaringBitmap = rows.into_iter().collect();
        let rest = at - &first;
        times.splits_ms += self.took();
        (first, rest)
    }

    fn union(&mut self, two: &Two, times: &mut BareSets) -> RoaringBitmap {
        self.took();
        let both = &two.0 | &two.1;
        times.unions_ms += self.took();
        both
    }
}

impl BareSets {
    /// `bare roaring, 2 000 000 contacts: 74.1 ms (conditions 1.0, splits 72.8, unions 0.3)`.
    pub fn line(&self) -> String {
        format!(
            "bare roaring, {} contacts: {:.1} ms (conditions {:.1}, splits {:.1}, unions {:.1})",
            crate::text::grouped(f64::from(self.contacts)),
            self.total_ms,
            self.conditions_ms,
            self.splits_ms,
            self.unions_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_at_the_end_and_the_parts_make_the_whole() {
        let times = bare_flow(50_000, 3).unwrap();
        assert_eq!(times.contacts, 50_000);
        let parts = times.conditions_ms + times.splits_ms + times.unions_ms;
        assert!((times.total_ms - parts).abs() < 1e-9, "{}", times.line());
        assert!(bare_flow(0, 1).is_ok(), "nobody is nobody");
    }

    #[test]
    fn splits_are_exact() {
        let rows: RoaringBitmap = (0..10_001).collect();
        let (mut clock, mut times) = (Clock(Instant::now()), BareSets::default());
        let (first, rest) = clock.split(&rows, 3_000, 9, &mut times);
        assert_eq!((first.len(), rest.len(), first.is_disjoint(&rest)), (3_000, 7_001, true));
        assert_eq!(clock.split(&rows, 0, 9, &mut times).0.len(), 0);
        assert_eq!(clock.split(&rows, 99_999, 9, &mut times).0.len(), 10_001);
    }
}
