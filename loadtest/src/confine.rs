//! A memory limit around the processes that are started within it, as a container or a unit has one: pages of mapped files count,
//! and the kernel takes them back before it kills.
//!
//! Owns a control group of its own under the one that this process is in (needs root). Invariants: 1. what is started within the
//! limit is charged for all of its memory, because it is born there; 2. this process is back where it was when the start has
//! returned; 3. the group goes with its owner. Sources: the kernel's documentation, admin-guide/cgroup-v2 and
//! cgroup-v1/memory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

const ROOT: &str = "/sys/fs/cgroup";

/// The files of one version of control groups.
#[derive(Clone, Copy, Debug)]
struct Files {
    limit: &'static str,
    /// What may be swapped out besides; not there on every kernel.
    swap: &'static str,
    peak: &'static str,
}

const SECOND: Files = Files { limit: "memory.max", swap: "memory.swap.max", peak: "memory.peak" };
const FIRST: Files =
    Files { limit: "memory.limit_in_bytes", swap: "memory.memsw.limit_in_bytes", peak: "memory.max_usage_in_bytes" };

/// A control group with a memory limit.
#[derive(Debug)]
pub struct Confined {
    folder: PathBuf,
    home: PathBuf,
    files: Files,
}

impl Confined {
    pub fn new(mebibytes: u64) -> anyhow::Result<Confined> {
        let own = fs::read_to_string("/proc/self/cgroup").context("the group of this process")?;
        let (home, files) = home(&own).context("no control group for memory (cgroup v2, or v1 with `memory`)")?;
        let folder = home.join(format!("loadtest-{}", std::process::id()));
        fs::create_dir(&folder)
            .with_context(|| format!("making the control group {}: needs root", folder.display()))?;
        let confined = Confined { folder, home, files };
        let limit = mebibytes << 20;
        confined.write(files.limit, limit)?;
        let swap = if files.limit == SECOND.limit { 0 } else { limit };
        // A kernel that does not account for swap has no such file.
        confined.write(files.swap, swap).ok();
        let kept = fs::read_to_string(confined.folder.join(files.limit)).context("reading the limit back")?;
        ensure!(kept.trim().parse() == Ok(limit), "the limit of {mebibytes} MiB became {}", kept.trim());
        Ok(confined)
    }

    fn write(&self, file: &str, value: u64) -> anyhow::Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value.to_string()).with_context(|| format!("writing {}", path.display()))
    }

    /// What this starts is born within the limit.
    pub fn start<T>(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        enter(&self.folder)?;
        let started = start();
        enter(&self.home)?;
        started
    }

    /// The most that was ever charged, bytes: cached pages of files among it.
    pub fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.folder.join(self.files.peak)).ok()?.trim().parse().ok()
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // A group that still has a process stays; there is nobody to tell in a drop, and it is empty after the next restart.
        fs::remove_dir(&self.folder).ok();
    }
}

fn enter(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("cgroup.procs");
    fs::write(&path, std::process::id().to_string()).with_context(|| format!("entering {}", folder.display()))
}

/// The group for memory that `/proc/self/cgroup` names: lines `number:controllers:path`, and `0::path` for version 2.
fn home(own: &str) -> Option<(PathBuf, Files)> {
    let lines = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let first = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let path = |at: &str, path: &str| Path::new(ROOT).join(at).join(path.trim_start_matches('/'));
    if let Some((_, of)) = first {
        return Some((path("memory", of), FIRST));
    }
    let (_, of) = lines().find(|(controllers, _)| controllers.is_empty())?;
    Some((path("", of), SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_for_memory_is_found_in_both_versions() {
        let (first, files) = home("6:memory:/\n2:cpu,cpuacct:/x\n0::/y\n").unwrap();
        assert_eq!((first.as_path(), files.limit), (Path::new("/sys/fs/cgroup/memory/"), "memory.limit_in_bytes"));
        let (second, files) = home("0::/user.slice/a.scope\n").unwrap();
        assert_eq!((second.as_path(), files.limit), (Path::new("/sys/fs/cgroup/user.slice/a.scope"), "memory.max"));
        assert!(home("1:cpu:/\n").is_none());
    }
}
