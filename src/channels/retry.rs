//! When a deferred message is tried again.
//!
//! Owns no state. Invariants: RT-1 the same row and attempt always get the same wait, whoever computes it and whenever
//! (after a kill the schedule applies again); RT-2 no wait is beyond the deadline, but for jitter, which is not counted: what
//! would be is given up now; RT-3 a provider's own "come back after" is honoured within bounds, and a row that hears it again
//! and again waits twice as long each time, up to what the schedule would have it wait.
//!
//! Must not know rows, sets, or the journal.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::connectors::RetrySettings;
use crate::limits::RETRY_WAIT_MAX;

/// Waits are spread by up to this share, so that what was deferred together does not come back together.
const JITTER_SHARE: f64 = 0.2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAttempt {
    At(Timestamp),
    /// The deadline comes first: rejected as `retry_deadline`.
    GiveUp,
}

/// One deferral.
#[derive(Clone, Copy, Debug)]
pub struct Deferral {
    /// Attempts that were deferred so far, this one included (≥ 1).
    pub attempts: u32,
    pub first_attempt: Timestamp,
    /// When the provider gave this answer.
    pub deferred_at: Timestamp,
    /// What the provider asked for, if it did.
    pub asked: Option<Duration>,
    /// Spreads rows: run, delivery and row, hashed.
    pub seed: u64,
}

/// When to try again after `deferral`, by the connector's schedule.
pub fn next_attempt(settings: &RetrySettings, deferral: &Deferral) -> NextAttempt {
    let attempts = deferral.attempts.max(1);
    let wait = planned_wait(settings, attempts, deferral.asked);
    let spread = wait.min(scheduled(settings, attempts)).mul_f64(JITTER_SHARE * unit(deferral.seed, deferral.attempts));
    let due = deferral.deferred_at.plus((wait + spread).min(RETRY_WAIT_MAX));
    if due.saturating_since(deferral.first_attempt) > settings.deadline {
        NextAttempt::GiveUp
    } else {
        NextAttempt::At(due)
    }
}

/// When a row that is deferred for the `attempts`-th time now was first tried. The time is kept for no row: it follows from the
/// waits since, each taken for one that was asked for as this one is, jitter left out. Where the answers before were others it is
/// too early or too late by as much; it cannot be before the beginning of its run, which the caller knows.
pub fn first_attempt(settings: &RetrySettings, attempts: u32, asked: Option<Duration>, now: Timestamp) -> Timestamp {
    let mut waited = Duration::ZERO;
    for attempt in 1..attempts {
        let wait = planned_wait(settings, attempt, asked).min(RETRY_WAIT_MAX);
        waited = waited.saturating_add(wait);
        let repeats = usize::try_from(attempt).unwrap_or(usize::MAX) >= settings.schedule.len();
        if repeats && wait >= scheduled(settings, attempt).min(RETRY_WAIT_MAX) {
            // All that follow are as long: a row of thousands of attempts is no more work than one of dozens.
            waited = waited.saturating_add(wait.saturating_mul(attempts - 1 - attempt));
            break;
        }
    }
    Timestamp(now.0.saturating_sub(i64::try_from(waited.as_millis()).unwrap_or(i64::MAX)))
}

/// The wait after the `attempt`-th deferral (≥ 1), without jitter.
fn planned_wait(settings: &RetrySettings, attempt: u32, asked: Option<Duration>) -> Duration {
    let planned = scheduled(settings, attempt);
    let Some(asked) = asked else { return planned };
    let asked = asked.max(planned.min(Duration::from_secs(1)));
    asked.saturating_mul(2u32.saturating_pow(attempt - 1)).min(planned).max(asked)
}

fn scheduled(settings: &RetrySettings, attempt: u32) -> Duration {
    let step = usize::try_from(attempt - 1).unwrap_or(usize::MAX);
    settings.schedule.get(step).or(settings.schedule.last()).copied().unwrap_or(RETRY_WAIT_MAX)
}

/// A number in `[0, 1)` that only depends on its inputs (the finaliser of SplitMix64).
fn unit(seed: u64, attempt: u32) -> f64 {
    let mut z = seed.wrapping_add(u64::from(attempt).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> RetrySettings {
        RetrySettings {
            schedule: [10, 100, 1_000].map(Duration::from_secs).to_vec(),
            deadline: Duration::from_secs(5_000),
        }
    }

    fn deferral(attempts: u32, at_seconds: i64) -> Deferral {
        let time = |s: i64| Timestamp(s * 1_000);
        Deferral { attempts, first_attempt: time(0), deferred_at: time(at_seconds), asked: None, seed: 42 }
    }

    fn wait_seconds(d: Deferral) -> Option<f64> {
        match next_attempt(&settings(), &d) {
            NextAttempt::At(due) => Some(due.saturating_since(d.deferred_at).as_secs_f64()),
            NextAttempt::GiveUp => None,
        }
    }

    #[test]
    fn the_schedule_is_followed_and_its_last_step_repeats() {
        for (attempts, planned) in [(1, 10.0), (2, 100.0), (3, 1_000.0), (4, 1_000.0), (900, 1_000.0)] {
            let wait = wait_seconds(deferral(attempts, 0)).expect("within the deadline");
            assert!((planned..planned * 1.2).contains(&wait), "attempt {attempts}: {wait} for {planned}");
        }
    }

    #[test]
    fn past_the_deadline_it_is_given_up() {
        assert_eq!(wait_seconds(deferral(3, 4_500)), None, "the next attempt would come after the deadline");
        assert!(wait_seconds(deferral(1, 4_500)).is_some(), "a short wait still fits");
    }

    #[test]
    fn the_provider_is_heard_within_bounds() {
        let asked = |seconds| Deferral { asked: Some(Duration::from_secs(seconds)), ..deferral(1, 0) };
        let wait = wait_seconds(asked(60)).expect("a minute");
        assert!((60.0..63.0).contains(&wait), "asked for a minute, got {wait}");
        assert!(wait_seconds(asked(0)).is_some_and(|w| w >= 1.0), "no hot loop on zero");
        assert_eq!(wait_seconds(asked(u64::MAX / 4)), None, "a year is beyond the deadline");
    }

    #[test]
    fn a_row_that_is_asked_to_wait_again_waits_twice_as_long_up_to_the_schedule() {
        let schedule = [300, 900, 1_800].map(Duration::from_secs).to_vec();
        let settings = RetrySettings { schedule, deadline: Duration::from_secs(48 * 3_600) };
        let wait = |attempts| {
            let asked = Deferral { asked: Some(Duration::from_secs(2)), ..deferral(attempts, 0) };
            match next_attempt(&settings, &asked) {
                NextAttempt::At(due) => due.saturating_since(asked.deferred_at).as_secs_f64(),
                NextAttempt::GiveUp => panic!("attempt {attempts} is given up"),
            }
        };
        for (attempts, planned) in [(1, 2.0), (2, 4.0), (3, 8.0), (9, 512.0), (11, 1_800.0), (400, 1_800.0)] {
            let wait = wait(attempts);
            assert!((planned..planned * 1.2).contains(&wait), "attempt {attempts}: {wait} for {planned}");
        }
    }

    #[test]
    fn waits_add_up_as_one_by_one_however_many_there_are() {
        let now = Timestamp(10_000_000_000);
        for asked in [None, Some(0), Some(2), Some(60), Some(5_000)] {
            let asked = asked.map(Duration::from_secs);
            for attempts in [1, 2, 3, 4, 5, 12, 40] {
                let each: Duration = (1..attempts).map(|attempt| planned_wait(&settings(), attempt, asked)).sum();
                let first = first_attempt(&settings(), attempts, asked, now);
                assert_eq!(now.saturating_since(first), each, "attempt {attempts}, asked {asked:?}");
            }
        }
        assert!(first_attempt(&settings(), u32::MAX, None, now) < Timestamp(0), "four milliards of them at once");
    }

    #[test]
    fn who_is_throttled_all_day_is_tried_until_the_deadline() {
        let settings = RetrySettings {
            schedule: [300, 900, 1_800, 3_600].map(Duration::from_secs).to_vec(),
            deadline: Duration::from_secs(48 * 3_600),
        };
        for (asked, seed) in [(Some(2), 1), (Some(60), 2), (Some(7_200), 3), (None, 4)] {
            let asked = asked.map(Duration::from_secs);
            let (mut now, mut attempts) = (Timestamp(0), 1);
            let last = loop {
                let first_attempt = first_attempt(&settings, attempts, asked, now);
                assert!(first_attempt >= Timestamp(0), "attempt {attempts}, asked {asked:?}: never before the first");
                let deferral = Deferral { attempts, first_attempt, deferred_at: now, asked, seed };
                match next_attempt(&settings, &deferral) {
                    NextAttempt::At(due) => (now, attempts) = (due, attempts + 1),
                    NextAttempt::GiveUp => break now.saturating_since(Timestamp(0)).as_secs_f64() / 3_600.0,
                }
            };
            // A fifth of jitter is not seen, and the last wait would have gone beyond.
            assert!((46.0..58.0).contains(&last), "asked {asked:?}: given up after {last} h");
        }
    }

    proptest! {
        #[test]
        fn the_same_row_waits_the_same_and_rows_spread(seed in any::<u64>(), attempts in 1u32..50) {
            let d = Deferral { seed, attempts, ..deferral(attempts, 0) };
            prop_assert_eq!(next_attempt(&settings(), &d), next_attempt(&settings(), &d), "deterministic");
            prop_assert!((0.0..1.0).contains(&unit(seed, attempts)), "in the unit interval");
        }
    }
}
