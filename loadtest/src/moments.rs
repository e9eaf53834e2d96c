//! A campaign over time, as the harness saw it from outside: contacts that were done, and the engine's memory and CPU.
//!
//! Owns no state. Invariant: a rate is of the contacts between two looks over the time between them, never smoothed.

use std::time::{Duration, Instant};

use crate::findings::{Axes, Scale};
use crate::proc::{self, Cpu};
use crate::text::median;

/// Messages a second over the seconds of a run.
pub const RATE: Axes = Axes { title: "Rate over time", x: "seconds", y: "contacts a second", scale: Scale::Linear };
/// The engine's memory over the seconds of a run.
pub const MEMORY: Axes =
    Axes { title: "Memory of the engine over time (RssAnon + RssShmem)", x: "seconds", y: "MiB", scale: Scale::Linear };
/// The engine's CPU over the seconds of a run.
pub const CORES: Axes = Axes { title: "CPU of the engine over time", x: "seconds", y: "cores", scale: Scale::Linear };

/// Looks of a run shorter than this many seconds are kept at [`SHORT_EVERY`], else one a second.
const SHORT_SECONDS: f64 = 30.0;
const SHORT_EVERY: f64 = 0.25;

/// One look.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since the start.
    pub seconds: f64,
    /// Contacts done so far.
    pub done: u64,
    /// RssAnon + RssShmem, bytes.
    pub memory: u64,
    pub cpu: Cpu,
}

/// Collects looks from a start on.
#[derive(Debug)]
pub struct Moments {
    started: Instant,
    pid: u32,
    looks: Vec<Moment>,
}

/// Time between two looks that are kept.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks of one run: beyond it, every second one is dropped.
const LOOKS_MAX: usize = 20_000;

impl Moments {
    pub fn new(started: Instant, pid: u32) -> Moments {
        Moments { started, pid, looks: Vec::new() }
    }

    /// Notes what was just seen, if the last look is long enough ago.
    pub fn look(&mut self, done: u64) {
        let seconds = self.started.elapsed().as_secs_f64();
        if self.looks.last().is_some_and(|last| seconds - last.seconds < LOOK_EVERY.as_secs_f64()) {
            return;
        }
        self.note(seconds, done);
    }

    /// The last look, whenever the one before was.
    pub fn finish(mut self, done: u64) -> Vec<Moment> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.note(seconds, done);
        self.looks
    }

    fn note(&mut self, seconds: f64, done: u64) {
        let memory = proc::memory_of(self.pid).map_or(0, |memory| memory.anonymous + memory.shared);
        let cpu = proc::cpu_of(self.pid).unwrap_or_default();
        self.looks.push(Moment { seconds, done, memory, cpu });
        if self.looks.len() > LOOKS_MAX {
            let mut odd = false;
            self.looks.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }
}

/// Looks about a second apart, or a quarter of one in a short run.
fn spaced(looks: &[Moment]) -> Vec<Moment> {
    let whole = looks.last().map_or(0.0, |last| last.seconds);
    let every = if whole < SHORT_SECONDS { SHORT_EVERY } else { 1.0 };
    let mut kept: Vec<Moment> = Vec::new();
    for look in looks {
        if kept.last().is_none_or(|last| look.seconds - last.seconds >= every * 0.9) {
            kept.push(*look);
        }
    }
    kept
}

/// Contacts a second.
pub fn rates(looks: &[Moment]) -> Vec<(f64, f64)> {
    pairs(looks, |from, to| (to.done.saturating_sub(from.done)) as f64)
}

/// Cores' worth of CPU.
pub fn cores(looks: &[Moment]) -> Vec<(f64, f64)> {
    pairs(looks, |from, to| to.cpu.since(from.cpu).total().max(0.0))
}

/// MiB.
pub fn memory(looks: &[Moment]) -> Vec<(f64, f64)> {
    spaced(looks).iter().map(|look| (look.seconds, look.memory as f64 / f64::from(1 << 20))).collect()
}

fn pairs(looks: &[Moment], what: impl Fn(&Moment, &Moment) -> f64) -> Vec<(f64, f64)> {
    let rate = |pair: &[Moment]| {
        let [from, to] = pair else { return None };
        Some((to.seconds, what(from, to) / (to.seconds - from.seconds).max(1e-9)))
    };
    spaced(looks).windows(2).filter_map(rate).collect()
}

/// The middle of the last quarter over that of the first one after a warm-up of an eighth; 1 says that nothing grew.
pub fn growth(values: &[(f64, f64)]) -> Option<f64> {
    let rest = values.get(values.len() / 8..)?;
    let quarter = rest.len() / 4;
    if quarter == 0 {
        return None;
    }
    let middle = |of: &[(f64, f64)]| median(&of.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    Some(middle(&rest[rest.len() - quarter..]) / middle(&rest[..quarter]).max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(every: f64, count: u32, per_second: f64) -> Vec<Moment> {
        let look = |i: u32| {
            let seconds = f64::from(i) * every;
            Moment { seconds, done: (seconds * per_second) as u64, memory: u64::from(i) << 20, cpu: Cpu::default() }
        };
        (0..count).map(look).collect()
    }

    #[test]
    fn rates_are_of_what_lies_between_two_looks() {
        let short = rates(&looks(0.25, 9, 400.0));
        assert_eq!(short.len(), 8, "a short run keeps every look: {short:?}");
        assert!(short.iter().all(|(_, rate)| (*rate - 400.0).abs() < 1e-6), "{short:?}");
        let long = rates(&looks(0.25, 400, 400.0));
        assert_eq!(long.len(), 99, "a long one keeps one a second");
    }

    #[test]
    fn growth_compares_the_end_with_the_beginning() {
        let flat: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 7.0)).collect();
        assert_eq!(growth(&flat), Some(1.0));
        let grown: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), f64::from(100 + i))).collect();
        assert!(growth(&grown).is_some_and(|growth| growth > 1.4), "{:?}", growth(&grown));
        assert_eq!(growth(&flat[..3]), None, "too few to say");
    }
}
