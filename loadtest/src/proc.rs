//! What /proc says: CPU and memory of a process, who else uses the machine, what the machine is.
//!
//! Owns the thread of a [`MemoryWatch`]. Invariants: 1. CPU is user + system time of all threads, ended ones included
//! (`/proc/PID/stat`), in the kernel's ticks; 2. peaks are of samples, never of one reading at the end. Linux only; see
//! proc(5).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Ticks of a second in `/proc`: a constant of the kernel's interface on every Linux (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
/// Time between two samples of memory.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// CPU seconds of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    pub user_seconds: f64,
    pub system_seconds: f64,
}

impl Cpu {
    pub fn total(self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            user_seconds: self.user_seconds - earlier.user_seconds,
            system_seconds: self.system_seconds - earlier.system_seconds,
        }
    }
}

/// CPU of a process since it started; also of one that has ended and is not yet reaped.
pub fn cpu_of(pid: u32) -> Option<Cpu> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<Cpu> {
    // The name in parentheses may hold anything, so fields are counted from its end: utime and stime are 14 and 15.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some(Cpu { user_seconds: ticks()? / TICKS_PER_SECOND, system_seconds: ticks()? / TICKS_PER_SECOND })
}

/// CPU seconds of this process; 0 where /proc is missing.
pub fn own_cpu_seconds() -> f64 {
    cpu_of(std::process::id()).map_or(0.0, Cpu::total)
}

/// CPU seconds of the children of this process that have ended and were waited for (`cutime` and `cstime`).
pub fn ended_children_cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind utime and stime; see `parse_stat`.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(13).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Heap, stacks and the like (RssAnon).
    pub anonymous: u64,
    /// Shared memory (RssShmem).
    pub shared: u64,
    /// Pages of mapped files (RssFile): the page cache's, given back under pressure.
    pub file: u64,
}

pub fn memory_of(pid: u32) -> Option<Memory> {
    Some(parse_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?))
}

fn parse_status(status: &str) -> Memory {
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let bytes = |name: &str| field(name).unwrap_or(0) * 1_024;
    Memory { anonymous: bytes("RssAnon:"), shared: bytes("RssShmem:"), file: bytes("RssFile:") }
}

/// Samples the memory of a process until it is stopped.
#[derive(Debug)]
pub struct MemoryWatch {
    stop: Arc<AtomicBool>,
    own: Arc<AtomicU64>,
    file: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// Peaks of the samples, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakMemory {
    /// RssAnon + RssShmem, at one moment.
    pub own: u64,
    /// RssFile.
    pub file: u64,
}

impl MemoryWatch {
    pub fn start(pid: u32) -> MemoryWatch {
        let stop = Arc::new(AtomicBool::new(false));
        let (own, file) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let theirs = (Arc::clone(&stop), Arc::clone(&own), Arc::clone(&file));
        let thread = std::thread::spawn(move || {
            let (stop, own, file) = theirs;
            while let (false, Some(memory)) = (stop.load(Ordering::Relaxed), memory_of(pid)) {
                own.fetch_max(memory.anonymous + memory.shared, Ordering::Relaxed);
                file.fetch_max(memory.file, Ordering::Relaxed);
                std::thread::sleep(SAMPLE_EVERY);
            }
        });
        MemoryWatch { stop, own, file, thread: Some(thread) }
    }

    pub fn finish(mut self) -> PeakMemory {
        self.end();
        PeakMemory { own: self.own.load(Ordering::Relaxed), file: self.file.load(Ordering::Relaxed) }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread only reads files and cannot panic; were it to, its samples so far still stand.
            thread.join().ok();
        }
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.end();
    }
}

/// CPU use of the whole machine, to tell whether others disturbed a measurement.
#[derive(Clone, Debug)]
pub struct MachineWatch {
    started: Instant,
    busy: f64,
    stolen: f64,
    own: Vec<(u32, f64)>,
}

/// Cores' worth of CPU that others took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disturbance {
    pub foreign_cores: f64,
    pub stolen_cores: f64,
}

impl Disturbance {
    /// More than an eighth of a core is more than the housekeeping of an idle machine.
    pub fn is_busy(self) -> bool {
        self.foreign_cores > 0.125 || self.stolen_cores > 0.125
    }
}

impl MachineWatch {
    /// `own` are the processes that belong to the measurement, besides this one.
    pub fn start(own: &[u32]) -> MachineWatch {
        let own = own.iter().copied().chain([std::process::id()]).map(|pid| (pid, cpu_seconds(pid))).collect();
        let (busy, stolen) = machine_seconds();
        MachineWatch { started: Instant::now(), busy, stolen, own }
    }

    /// `ended` is the CPU of children that came and went in between.
    pub fn finish(&self, ended: f64) -> Disturbance {
        let wall = self.started.elapsed().as_secs_f64().max(0.001);
        let (busy, stolen) = machine_seconds();
        let ours: f64 = self.own.iter().map(|(pid, before)| (cpu_seconds(*pid) - before).max(0.0)).sum();
        Disturbance {
            foreign_cores: ((busy - self.busy - ours - ended) / wall).max(0.0),
            stolen_cores: ((stolen - self.stolen) / wall).max(0.0),
        }
    }
}

fn cpu_seconds(pid: u32) -> f64 {
    cpu_of(pid).map_or(0.0, Cpu::total)
}

/// Seconds that all cores worked, and that the hypervisor took from them.
fn machine_seconds() -> (f64, f64) {
    parse_machine(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn parse_machine(stat: &str) -> (f64, f64) {
    let line = stat.lines().find(|l| l.starts_with("cpu ")).unwrap_or_default();
    // user nice system idle iowait irq softirq steal
    let ticks: Vec<f64> = line.split_ascii_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let at = |i: usize| ticks.get(i).copied().unwrap_or(0.0);
    ((at(0) + at(1) + at(2) + at(5) + at(6)) / TICKS_PER_SECOND, at(7) / TICKS_PER_SECOND)
}

/// Waits until the machine has been idle for a second, at most `patience`; what it saw last.
pub fn wait_until_quiet(patience: Duration) -> Disturbance {
    let until = Instant::now() + patience;
    loop {
        let watch = MachineWatch::start(&[]);
        std::thread::sleep(Duration::from_secs(1).min(patience));
        let seen = watch.finish(0.0);
        if !seen.is_busy() || Instant::now() >= until {
            return seen;
        }
    }
}

/// The machine, for reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
}

impl Machine {
    pub fn read() -> Machine {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .lines()
            .find_map(|l| l.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse::<u64>().ok());
        Machine {
            cpu: cpu.unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.unwrap_or(0) * 1_024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_any_process_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 1 1 1";
        let cpu = parse_stat(stat).unwrap();
        assert_eq!((cpu.user_seconds, cpu.system_seconds), (2.5, 0.5), "fields 14 and 15 in ticks of 10 ms");
        assert_eq!(parse_stat("7 (a) S 1"), None, "a short line is no figure");
    }

    #[test]
    fn memory_is_in_bytes_and_missing_fields_are_nothing() {
        let memory = parse_status("Name:\tx\nRssAnon:\t     12 kB\nRssFile:\t 3 kB\n");
        assert_eq!(memory, Memory { anonymous: 12 * 1_024, shared: 0, file: 3 * 1_024 }, "kB are KiB");
    }

    #[test]
    fn the_machine_line_counts_work_and_not_waiting() {
        let (busy, stolen) = parse_machine("cpu  100 0 100 9000 500 10 90 40 0 0\ncpu0 1 1 1 1\n");
        assert_eq!((busy, stolen), (3.0, 0.4), "idle and iowait are not work");
    }

    #[test]
    fn this_process_has_cpu_and_memory() {
        let watch = MemoryWatch::start(std::process::id());
        let held = std::hint::black_box(vec![1u8; 8 << 20]);
        std::thread::sleep(Duration::from_millis(100));
        let peak = watch.finish();
        assert!(peak.own >= held.len() as u64, "eight MiB on the heap are seen: {peak:?}");
        assert!(cpu_of(std::process::id()).is_some(), "own stat is readable");
    }
}
