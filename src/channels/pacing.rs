//! Pacing of one limit: how many permits are free now, and when the next ones are.
//!
//! Owns the state of one limit and no clock: the time is passed in. Two forms. [`Gcra`] paces windows up to a minute
//! (generic cell rate algorithm, ITU-T I.371; the theoretical arrival time is one word): even spacing up to
//! `PACED_PER_SECOND_MAX`, a little faster above it. A timer that is late may catch up (the algorithm's tolerance), and what
//! then keeps to N is a count of the window by the thousandth: pacing alone would have to lose whatever a sleeping thread
//! misses. [`WindowCounter`] counts hours and days.
//!
//! Invariants: PC-1 at most N permits are taken in every half-open window, for any pattern of asking (promise 5);
//! PC-2 a limiter made *exhausted* gives nothing until a whole window has passed; PC-3 `take` succeeds exactly if `free`
//! was not zero; PC-4 a change of rate frees nothing: the next permit comes no earlier than it would have and at least one
//! new spacing away, and never faster than the configured ceiling.
//!
//! Must not know scopes, lanes, or who asks.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::limits::{PACED_EVENLY_FROM, PACED_LATE_TOLERATED, PACED_PER_SECOND_MAX, PACED_WINDOW_SLICES};

const SECOND: u64 = 1_000_000_000;

/// Generic cell rate algorithm for at most `n` permits per window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// Nanoseconds between two permits in the long run.
    spacing: u64,
    /// Nanoseconds that a permit may be taken before its theoretical time, so that a late one delays none after it.
    tolerance: u64,
    /// Theoretical arrival time of the next permit, nanoseconds of the monotonic clock.
    next: u64,
    /// What was taken in the last window, where spacing alone does not keep to N.
    window: Option<Box<Window<PACED_WINDOW_SLICES>>>,
}

impl Gcra {
    /// At most `n` (≥ 1) permits per `window`; everything is free at once.
    pub fn fresh(n: u32, window: Duration) -> Gcra {
        let spacing = spacing_of(n, window);
        let tolerance = tolerance_of(spacing);
        Gcra { spacing, tolerance, next: 0, window: (tolerance > 0).then(|| Box::new(Window::new(n, window))) }
    }

    /// What a slower pace may rise to; nothing is taken from it.
    pub fn ceiling(n: u32, window: Duration) -> Gcra {
        let spacing = spacing_of(n, window);
        Gcra { spacing, tolerance: tolerance_of(spacing), next: 0, window: None }
    }

    /// As [`Gcra::fresh`], but nothing is free before a whole window has passed: whatever was handed over just before a
    /// restart is then out of the window.
    pub fn exhausted(n: u32, window: Duration, now: Monotonic) -> Gcra {
        let mut pace = Gcra::fresh(n, window);
        pace.next = now.plus(window).0.saturating_add(pace.tolerance);
        pace
    }

    /// Permits that could be taken at `now`.
    pub fn free(&mut self, now: Monotonic) -> u64 {
        let horizon = now.0.saturating_add(self.tolerance);
        let next = self.next.max(now.0);
        let paced = if horizon < next { 0 } else { (horizon - next) / self.spacing + 1 };
        self.window.as_mut().map_or(paced, |window| paced.min(window.free(now)))
    }

    /// When a permit is free beside `ahead` others, if none is taken until then; not later than `now` if one is.
    pub fn free_at(&mut self, ahead: u64, now: Monotonic) -> Monotonic {
        let theoretical = self.next.max(now.0).saturating_add(ahead.saturating_mul(self.spacing));
        let paced = Monotonic(theoretical.saturating_sub(self.tolerance).max(now.0));
        self.window.as_mut().map_or(paced, |window| paced.max(window.free_at(ahead, now)))
    }

    /// Takes one permit; the caller has seen that one is free.
    pub fn take(&mut self, now: Monotonic) {
        self.next = self.next.max(now.0).saturating_add(self.spacing);
        if let Some(window) = &mut self.window {
            window.take(now);
        }
    }

    /// A slower or faster rate in messages per second from now on; debt is kept in units of permits.
    pub fn set_rate(&mut self, per_second: f64, ceiling: &Gcra, now: Monotonic) {
        let wanted = (SECOND as f64 / per_second.max(f64::MIN_POSITIVE)).ceil();
        let spacing = if wanted >= 1e18 { 1_000_000_000_000_000_000 } else { wanted as u64 }.max(ceiling.spacing);
        let free_at = self.free_at(0, now).0;
        self.spacing = spacing;
        self.tolerance = tolerance_of(spacing);
        // The next permit comes when it would have come, and at least one new spacing away: a faster rate never frees
        // more than its own tolerance, a slower one bites at once.
        self.next = free_at.max(now.0).saturating_add(spacing).saturating_add(self.tolerance);
    }

    /// Most permits that can be free at once.
    pub fn burst(&self) -> u64 {
        self.tolerance / self.spacing + 1
    }

    /// Permits per second in the long run.
    pub fn per_second(&self) -> f64 {
        let paced = SECOND as f64 / self.spacing as f64;
        self.window.as_ref().map_or(paced, |window| paced.min(window.per_second()))
    }
}

/// Nanoseconds between permits for at most `n` per half-open window: ⌈W/n⌉ gives n marks in `[0, W)`. Above
/// `PACED_PER_SECOND_MAX` the pace is 1.02 n, so that what a late timer missed is made up for.
fn spacing_of(n: u32, window: Duration) -> u64 {
    let n = u64::from(n.max(1));
    let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX).max(1);
    let paced_max = u128::from(PACED_PER_SECOND_MAX) * u128::from(nanos) / u128::from(SECOND);
    if u128::from(n) <= paced_max.max(1) { nanos.div_ceil(n) } else { (nanos * 100).div_ceil(n * 102).max(1) }
}

/// How late a permit of so many nanoseconds' spacing may be taken and cost none after it. It is also what comes at once
/// after a pause, which is why it is short.
fn tolerance_of(spacing: u64) -> u64 {
    if u128::from(spacing) >= PACED_EVENLY_FROM.as_nanos() {
        return 0;
    }
    let late = PACED_LATE_TOLERATED.as_nanos() as u64;
    late.saturating_sub(spacing).max(late / 2)
}

/// At most `n` permits in every window, counted in slices.
///
/// Conservative: the oldest slice counts whole until it has wholly left the window, so a permit comes back up to one
/// slice late and never early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window<const SLICES: usize> {
    n: u64,
    slice: u64,
    /// Number of the newest slice in `counts`; slices are numbered so that the time before the start has room.
    newest: u64,
    /// Ring, by slice number.
    counts: [u32; SLICES],
    sum: u64,
}

/// An hour or a day: 60 whole slices and the one that is leaving.
pub type WindowCounter = Window<61>;

impl<const SLICES: usize> Window<SLICES> {
    pub fn new(n: u32, window: Duration) -> Window<SLICES> {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let slice = nanos.div_ceil(SLICES as u64 - 1).max(1);
        Window { n: u64::from(n.max(1)), slice, newest: SLICES as u64, counts: [0; SLICES], sum: 0 }
    }

    /// Permits per second in the long run.
    fn per_second(&self) -> f64 {
        self.n as f64 * SECOND as f64 / (self.slice as f64 * (SLICES - 1) as f64)
    }

    /// Slice of `now`; times before the start of the process are slices below `SLICES`.
    fn slice_of(&self, now: Monotonic) -> u64 {
        now.0 / self.slice + SLICES as u64
    }

    fn roll(&mut self, now: Monotonic) {
        let current = self.slice_of(now);
        let gone = current.saturating_sub(self.newest).min(SLICES as u64);
        for k in 1..=gone {
            let place = ((self.newest + k) % SLICES as u64) as usize;
            self.sum -= u64::from(self.counts[place]);
            self.counts[place] = 0;
        }
        // After a long pause every slice has been emptied, whatever its number.
        self.newest = self.newest.max(current);
    }

    /// Adds what earlier processes handed over `age` ago (journaled counts, plus one for every row of a claim that was
    /// unsettled at the crash, at age zero).
    pub fn restore(&mut self, age: Duration, count: u32, now: Monotonic) {
        self.roll(now);
        let back = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX) / self.slice;
        if back >= SLICES as u64 {
            return;
        }
        let place = ((self.newest.saturating_sub(back)) % SLICES as u64) as usize;
        self.counts[place] = self.counts[place].saturating_add(count);
        self.sum = self.counts.iter().map(|c| u64::from(*c)).sum();
    }

    pub fn free(&mut self, now: Monotonic) -> u64 {
        self.roll(now);
        self.n.saturating_sub(self.sum)
    }

    /// When a permit is free beside `ahead` others, if none is taken until then; beside N or more, a window from now.
    pub fn free_at(&mut self, ahead: u64, now: Monotonic) -> Monotonic {
        self.roll(now);
        let mut left = self.sum;
        let mut slice = self.newest.saturating_sub(SLICES as u64 - 1);
        while left.saturating_add(ahead) >= self.n && slice <= self.newest {
            left -= u64::from(self.counts[(slice % SLICES as u64) as usize]);
            slice += 1;
        }
        if ahead >= self.n {
            // More than a whole window's: not before one has passed.
            return Monotonic(now.0.saturating_add(self.slice.saturating_mul(SLICES as u64)));
        }
        if slice + SLICES as u64 <= self.newest + 1 {
            return now;
        }
        // The last slice that had to leave is `slice - 1`; it leaves when slice number `slice - 1 + SLICES` begins.
        Monotonic((slice - 1).saturating_mul(self.slice).max(now.0))
    }

    pub fn take(&mut self, now: Monotonic) {
        self.roll(now);
        let place = (self.newest % SLICES as u64) as usize;
        self.counts[place] = self.counts[place].saturating_add(1);
        self.sum += 1;
    }

    /// Permits taken in the current window.
    pub fn taken(&mut self, now: Monotonic) -> u64 {
        self.roll(now);
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Monotonic {
        Monotonic(nanos)
    }

    /// The most marks in any half-open window that starts at a mark.
    fn most_in_window(marks: &[u64], window: u64) -> usize {
        let mut from = 0;
        let mut most = 0;
        for (i, mark) in marks.iter().enumerate() {
            while marks[from] + window <= *mark {
                from += 1;
            }
            most = most.max(i - from + 1);
        }
        most
    }

    proptest! {
        #[test]
        fn never_more_than_n_in_any_second(
            n in prop_oneof![1u32..300, 300u32..3_000],
            steps in prop::collection::vec((0u64..40_000_000, 1u32..40), 1..400),
        ) {
            let mut pace = Gcra::fresh(n, Duration::from_secs(1));
            let (mut now, mut marks) = (0u64, Vec::new());
            for (pause, asks) in steps {
                now += pause;
                for _ in 0..asks {
                    if pace.free(at(now)) > 0 {
                        pace.take(at(now));
                        marks.push(now);
                    }
                }
            }
            prop_assert!(most_in_window(&marks, SECOND) <= n as usize, "{} marks in a second of {}", most_in_window(&marks, SECOND), n);
        }

        #[test]
        fn a_greedy_sender_gets_nearly_all_and_never_more(n in 1u32..5_000) {
            let mut pace = Gcra::fresh(n, Duration::from_secs(1));
            let (mut now, mut marks) = (0u64, Vec::new());
            while now < 3 * SECOND {
                now = pace.free_at(0, at(now)).0;
                prop_assert!(pace.free(at(now)) > 0, "free at the time that free_at named");
                pace.take(at(now));
                marks.push(now);
            }
            prop_assert!(most_in_window(&marks, SECOND) <= n as usize, "limit {}", n);
            let rate = (marks.len() - 1) as f64 / 3.0;
            prop_assert!(rate >= f64::from(n) * 0.995 - 1.0, "rate {} of {}", rate, n);
            prop_assert!((pace.per_second() - f64::from(n)).abs() < 1.0, "{} a second are said", pace.per_second());
        }

        #[test]
        fn late_timers_cost_little(n in 2u32..5_000, lates in prop::collection::vec(0u64..12_000_000, 300..400)) {
            let mut pace = Gcra::fresh(n, Duration::from_secs(1));
            let (mut now, mut marks) = (0u64, Vec::new());
            for late in lates.iter().cycle() {
                if marks.len() >= 3 * n.max(300) as usize {
                    break;
                }
                // An even pace tolerates half of what a faster one does.
                let late = if n > PACED_PER_SECOND_MAX { *late } else { *late * 10 / 12 };
                now = pace.free_at(0, at(now)).0 + late;
                while pace.free(at(now)) > 0 {
                    pace.take(at(now));
                    marks.push(now);
                }
            }
            prop_assert!(most_in_window(&marks, SECOND) <= n as usize, "limit {}", n);
            let rate = (marks.len() - 1) as f64 * SECOND as f64 / now as f64;
            prop_assert!(rate >= f64::from(n) * 0.98, "timers up to 12 ms late: {} of {}", rate, n);
        }

        #[test]
        fn changes_of_rate_never_break_the_limit(
            n in 1u32..3_000,
            minute in prop::bool::ANY,
            steps in prop::collection::vec((0u64..40_000_000, 1u32..40, prop::option::weighted(0.2, 0.1f64..9_000.0)), 1..400),
        ) {
            let window = if minute { 60 * SECOND } else { SECOND };
            let ceiling = Gcra::ceiling(n, Duration::from_nanos(window));
            let mut pace = Gcra::fresh(n, Duration::from_nanos(window));
            let (mut now, mut marks) = (0u64, Vec::new());
            for (pause, asks, rate) in steps {
                now += if minute { pause * 60 } else { pause };
                if let Some(rate) = rate {
                    pace.set_rate(rate, &ceiling, at(now));
                }
                for _ in 0..asks {
                    if pace.free(at(now)) > 0 {
                        pace.take(at(now));
                        marks.push(now);
                    }
                }
            }
            prop_assert!(most_in_window(&marks, window) <= n as usize, "limit {n} in {window} ns");
        }

        #[test]
        fn a_permit_beside_others_is_free_when_there_are_more(
            n in 1u32..400,
            ahead in 0u64..500,
            asks in prop::collection::vec((0u64..30_000_000, 1u32..30), 1..100),
        ) {
            let mut pace = Gcra::fresh(n, Duration::from_secs(1));
            let mut hour = WindowCounter::new(n, Duration::from_secs(3_600));
            let mut now = 0;
            for (pause, marks) in asks {
                now += pause;
                for _ in 0..marks {
                    prop_assert_eq!(pace.free_at(ahead, at(now)).0 <= now, pace.free(at(now)) > ahead, "paced");
                    prop_assert_eq!(hour.free_at(ahead, at(now)).0 <= now, hour.free(at(now)) > ahead, "counted");
                    if pace.free(at(now)) > 0 {
                        pace.take(at(now));
                    }
                    if hour.free(at(now)) > 0 {
                        hour.take(at(now));
                    }
                }
            }
        }

        #[test]
        fn a_mark_follows_free(n in 1u32..2_000, asks in prop::collection::vec(0u64..20_000_000, 1..200)) {
            let mut pace = Gcra::exhausted(n, Duration::from_secs(1), at(7));
            let mut now = 7;
            for pause in asks {
                now += pause;
                let free = pace.free(at(now));
                prop_assert_eq!(free > 0, pace.free_at(0, at(now)).0 <= now, "free and free_at agree");
                if now < 7 + SECOND {
                    prop_assert_eq!(free, 0, "exhausted until a whole window has passed");
                }
                if free > 0 {
                    pace.take(at(now));
                    prop_assert_eq!(pace.free(at(now)), free - 1, "one permit less");
                }
            }
        }

        #[test]
        fn windows_count_exactly(
            n in 1u32..50,
            steps in prop::collection::vec((0u64..400, 1u32..20), 1..200),
        ) {
            let hour = Duration::from_secs(3_600);
            let mut counter = WindowCounter::new(n, hour);
            let (mut now, mut marks) = (0u64, Vec::new());
            for (pause_seconds, asks) in steps {
                now += pause_seconds * SECOND;
                for _ in 0..asks {
                    if counter.free(at(now)) > 0 {
                        counter.take(at(now));
                        marks.push(now);
                    } else {
                        let free_at = counter.free_at(0, at(now));
                        prop_assert!(free_at.0 > now, "nothing free now, so later");
                        prop_assert!(counter.clone().free(free_at) > 0, "free at the time it names");
                    }
                }
            }
            prop_assert!(most_in_window(&marks, 3_600 * SECOND) <= n as usize, "limit {} per hour", n);
        }
    }

    #[test]
    fn exhausted_opens_exactly_after_the_window() {
        for n in [1, 10, 200, 1_000] {
            let mut pace = Gcra::exhausted(n, Duration::from_secs(1), at(5));
            assert_eq!(pace.free(at(5 + SECOND - 1)), 0, "limit {n}: nothing within the window");
            assert!(pace.free(at(5 + SECOND)) >= 1, "limit {n}: open at its end");
        }
    }

    #[test]
    fn a_minute_is_paced_too() {
        let mut pace = Gcra::fresh(30, Duration::from_secs(60));
        pace.take(at(0));
        assert_eq!(pace.free_at(0, at(0)), at(2 * SECOND), "30 a minute is one every two seconds");
    }

    #[test]
    fn slowing_down_bites_at_once_and_the_ceiling_holds() {
        let ceiling = Gcra::fresh(1_000, Duration::from_secs(1));
        let mut pace = ceiling.clone();
        pace.set_rate(2.0, &ceiling, at(SECOND));
        assert_eq!(pace.free(at(SECOND)), 0, "the burst is gone");
        assert_eq!(pace.free_at(0, at(SECOND)), at(SECOND + SECOND / 2), "one every half second");
        pace.set_rate(1e9, &ceiling, at(SECOND));
        assert_eq!(
            (pace.spacing, pace.tolerance),
            (ceiling.spacing, ceiling.tolerance),
            "never faster than configured"
        );
    }

    #[test]
    fn counts_of_earlier_processes_hold() {
        let hour = Duration::from_secs(3_600);
        let mut counter = WindowCounter::new(100, hour);
        counter.restore(Duration::from_secs(1_800), 60, at(0));
        counter.restore(Duration::ZERO, 40, at(0));
        counter.restore(Duration::from_secs(8_000), 40, at(0));
        assert_eq!(counter.free(at(0)), 0, "the hour is used up by the process before");
        assert!(counter.free(at(1_800 * SECOND)) == 0 && counter.free(at(1_930 * SECOND)) == 60, "half an hour on");
    }

    #[test]
    fn a_long_pause_empties_the_window() {
        let mut counter = WindowCounter::new(5, Duration::from_secs(3_600));
        (0..5).for_each(|_| counter.take(at(0)));
        assert_eq!(counter.free(at(0)), 0, "used up");
        assert_eq!(counter.free(at(40_000 * SECOND)), 5, "long after");
    }
}
