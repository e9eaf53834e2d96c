//! What the operating system says of this process and of its data directory, read at a scrape.
//!
//! Owns no state. On a system without proc(5) its figures are absent. Invariant: PR-1 a look at the data directory stops after
//! [`STORAGE_FILES_MAX`] files.

use std::fs;
use std::path::Path;

use crate::engine::check::STORE_FOLDER;
use crate::journal;
use crate::limits::STORAGE_FILES_MAX;
use crate::metrics::{
    BUILD, CPU_SECONDS_TOTAL, DISK_FREE_BYTES, DISK_SIZE_BYTES, Live, OPEN_FILES, OPEN_FILES_LIMIT,
    RESIDENT_MEMORY_BYTES, STORAGE_BYTES, THREADS,
};

/// Of the process.
pub(super) fn process(live: &mut Live) {
    live.number(&BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, kind) in [("RssAnon:", "anonymous"), ("RssShmem:", "shared"), ("RssFile:", "file")] {
        if let Some(bytes) = status_bytes(&status, field) {
            live.number(&RESIDENT_MEMORY_BYTES, &[kind], bytes as f64);
        }
    }
    if let Some(threads) = status_number(&status, "Threads:") {
        live.number(&THREADS, &[], threads as f64);
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&stat) {
        live.number(&CPU_SECONDS_TOTAL, &[], seconds);
    }
    // The folder is one of them while it is read.
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        live.number(&OPEN_FILES, &[], files.count().saturating_sub(1) as f64);
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        live.number(&OPEN_FILES_LIMIT, &[], limit as f64);
    }
}

/// Of the file system with the data directory, and what its parts take.
pub(super) fn storage(live: &mut Live, directory: &Path) {
    if let Ok(stat) = rustix::fs::statvfs(directory) {
        live.number(&DISK_FREE_BYTES, &[], stat.f_bavail.saturating_mul(stat.f_frsize) as f64);
        live.number(&DISK_SIZE_BYTES, &[], stat.f_blocks.saturating_mul(stat.f_frsize) as f64);
    }
    let (mut journal, mut contacts, mut audiences, mut other) = (0, 0, 0, 0);
    let mut files = STORAGE_FILES_MAX;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let bytes = bytes_under(&entry, &mut files);
        let name = entry.file_name();
        match name.to_str().unwrap_or_default() {
            journal::FOLDER => journal += bytes,
            STORE_FOLDER => contacts += bytes,
            "audiences" => audiences += bytes,
            _ => other += bytes,
        }
    }
    for (part, bytes) in [("journal", journal), ("contacts", contacts), ("audiences", audiences), ("other", other)] {
        live.number(&STORAGE_BYTES, &[part], bytes as f64);
    }
}

/// Blocks of a file or of all below a folder; what goes away meanwhile takes nothing. No link is followed.
fn bytes_under(entry: &fs::DirEntry, files: &mut usize) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes: u64 = 0;
    let mut folders = Vec::new();
    let mut look = |entry: &fs::DirEntry, folders: &mut Vec<_>| {
        let Some(left) = files.checked_sub(1) else { return };
        *files = left;
        match entry.metadata() {
            Ok(found) if found.is_dir() => folders.push(entry.path()),
            Ok(found) => bytes = bytes.saturating_add(found.blocks().saturating_mul(512)),
            Err(_) => {}
        }
    };
    look(entry, &mut folders);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            look(&entry, &mut folders);
        }
    }
    bytes
}

/// A number of `/proc/self/status`.
fn status_number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A field of `/proc/self/status` that counts in kibibytes.
fn status_bytes(status: &str, field: &str) -> Option<u64> {
    status_number(status, field)?.checked_mul(1_024)
}

/// `utime` and `stime` of `/proc/self/stat`, fields 14 and 15, in hundredths of a second on every Linux (`USER_HZ`).
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    (ticks.len() == 2).then(|| ticks.iter().sum::<u64>() as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_it_is_written() {
        let status = "Name:\testafette\nRssAnon:\t    1024 kB\nRssFile:\t      8 kB\nThreads:\t9\n";
        assert_eq!(status_bytes(status, "RssAnon:"), Some(1_048_576), "kibibytes");
        assert_eq!(status_bytes(status, "RssShmem:"), None, "an old kernel has none");
        assert_eq!(status_number(status, "Threads:"), Some(9));
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 100";
        assert_eq!(cpu_seconds(stat), Some(3.0), "the name holds parentheses and spaces");
        assert_eq!(cpu_seconds(""), None);
        let mut live = Live::default();
        process(&mut live);
        let text = crate::metrics::render_live(&live);
        for series in ["resident_memory_bytes{kind=\"anonymous\"}", "cpu_seconds_total", "open_files", "threads"] {
            assert!(text.contains(&format!("estafette_{series} ")), "{series} of this process:\n{text}");
        }
    }

    #[test]
    fn what_the_parts_take_is_what_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1; bytes]).unwrap();
        };
        write("journal/segment", 100_000);
        write("contacts/data.mdb", 50_000);
        write("audiences/1/data.mdb", 20_000);
        write("api.addr", 10);
        let mut live = Live::default();
        storage(&mut live, folder.path());
        let text = crate::metrics::render_live(&live);
        let bytes = |part: &str| -> f64 {
            let start = format!("estafette_storage_bytes{{part=\"{part}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
        };
        for (part, least) in [("journal", 100_000.0), ("contacts", 50_000.0), ("audiences", 20_000.0), ("other", 10.0)]
        {
            assert!((least..least + 70_000.0).contains(&bytes(part)), "{part} takes {}:\n{text}", bytes(part));
        }
    }
}
