//! Runs a scenario over many seeds; when one breaks, says which and how to replay it.
//!
//! `ESTAFETTE_SIM_SEED=N` runs that seed alone, `ESTAFETTE_SIM_SEEDS=N` that many.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::rng::Rng;

/// Runs `scenario` for each seed, with its source of chance. A panic of it is passed on after the seed was printed.
/// Answers how many seeds ran.
pub(crate) fn for_each_seed(name: &str, count: u64, mut scenario: impl FnMut(u64, &mut Rng)) -> u64 {
    let seeds = chosen(number("ESTAFETTE_SIM_SEED"), number("ESTAFETTE_SIM_SEEDS"), count);
    let ran = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| scenario(seed, &mut Rng::new(seed).stream(name))));
        if let Err(cause) = outcome {
            eprintln!(
                "{name}: seed {seed} broke; replay it with ESTAFETTE_SIM_SEED={seed} cargo test --test sim {name}"
            );
            resume_unwind(cause);
        }
    }
    ran
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, and must be a number")))
}

fn chosen(one: Option<u64>, many: Option<u64>, count: u64) -> std::ops::Range<u64> {
    match one {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..many.unwrap_or(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_goes_before_a_count_and_a_count_before_the_default() {
        assert_eq!(chosen(Some(7), Some(3), 10), 7..8, "one");
        assert_eq!(chosen(None, Some(3), 10), 0..3, "count");
        assert_eq!(chosen(None, None, 10), 0..10, "default");
    }

    #[test]
    fn each_seed_has_chance_of_its_own_and_a_failure_is_passed_on() {
        let mut drawn = Vec::new();
        let ran = for_each_seed("seeds", 5, |_, rng| drawn.push(rng.next()));
        assert_eq!(usize::try_from(ran).expect("small"), drawn.len(), "ran");
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(usize::try_from(ran).expect("small"), drawn.len(), "all differ");
        let caught = catch_unwind(AssertUnwindSafe(|| for_each_seed("seeds", 5, |_, _| panic!("broken"))));
        assert!(caught.is_err(), "passed on");
    }
}
