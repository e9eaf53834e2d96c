//! Verifies a data directory's journal offline, for `estafette check`. Reads only: not even a lock file is written.

use std::path::{Path, PathBuf};

use super::FOLDER;
use super::boot::BootId;
use super::error::JournalError;
use super::lock::{self, DirLock};
use super::poison;
use super::reader::{Plan, Replay, TornTail, Trust, Visit, replay};
use super::segment;
use super::snapshot;
use super::sync_slot;

/// One thing worth saying, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `serve` would refuse to start, or the check could not be made.
    pub fatal: bool,
    pub path: PathBuf,
    /// Where in the file, if that is known.
    pub offset: Option<u64>,
    pub what: String,
    pub advice: &'static str,
    /// It says that the directory is a copy, and nothing else.
    pub is_copy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    pub id: u64,
    pub path: PathBuf,
    pub first_seq: u64,
    pub frames: u64,
    pub bytes: u64,
    /// Written under the running kernel and not poisoned.
    pub same_boot: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub snapshot_seq: Option<u64>,
    /// Frames after the snapshot.
    pub frames: u64,
    pub last_seq: u64,
    /// What the sync slot names as durable.
    pub slot_seq: u64,
    /// Empty if the journal is refused.
    pub segments: Vec<SegmentReport>,
    /// What the next start will cut off.
    pub torn_tail: Option<TornTail>,
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Whether `serve` would start.
    pub fn is_sound(&self) -> bool {
        !self.findings.iter().any(|finding| finding.fatal)
    }

    fn fatal(&mut self, dir: &Path, error: &JournalError) {
        let (path, offset) = match error {
            JournalError::Damaged { path, offset, .. } => (path.as_path(), Some(*offset)),
            JournalError::Io { path, .. } | JournalError::Version { path, .. } => (path.as_path(), None),
            _ => (dir, None),
        };
        let (what, is_copy) = (error.to_string(), matches!(error, JournalError::Copied { .. }));
        let finding = Finding { fatal: true, path: path.to_owned(), offset, what, advice: advice(error), is_copy };
        self.findings.push(finding);
    }

    fn note(&mut self, path: PathBuf, offset: Option<u64>, what: String, advice: &'static str) {
        self.findings.push(Finding { fatal: false, path, offset, what, advice, is_copy: false });
    }
}

fn advice(error: &JournalError) -> &'static str {
    match error {
        JournalError::Locked { .. } => "stop the server and check again",
        JournalError::Copied { .. } => "start with --restored: running campaigns are then held for review",
        JournalError::Version { .. } => "use the version of the program that wrote it",
        JournalError::Damaged { .. } => {
            "do not delete anything: what follows the damage says who was sent to; restore the directory from a copy and start with --restored"
        }
        JournalError::Visit { .. } => "the frame's bytes are whole but mean nothing; use the version that wrote it",
        _ => "see the message",
    }
}

/// Verifies the journal of the data directory `dir`.
pub fn check(dir: &Path) -> CheckReport {
    check_with(dir, &mut |_| Ok(()))
}

/// As [`check`], and gives what is replayed to `visit`.
pub fn check_with(dir: &Path, visit: &mut Visit<'_>) -> CheckReport {
    let mut report = CheckReport::default();
    if let Err(error) = run(dir, &mut report, visit) {
        report.fatal(dir, &error);
    }
    report
}

fn run(dir: &Path, report: &mut CheckReport, visit: &mut Visit<'_>) -> Result<(), JournalError> {
    let folder = dir.join(FOLDER);
    let lock = DirLock::take_shared(dir)?;
    let segments = segment::list(&folder)?;
    if lock::recorded(&folder)?.is_none_or(|recorded| lock.identity(dir).is_ok_and(|i| recorded != i.as_bytes())) {
        report.fatal(dir, &JournalError::Copied { dir: dir.to_owned() });
    }
    let newest = segments.last().map_or(0, |listed| listed.id);
    let poisoned_through = poison::read(&folder, newest)?;
    if poisoned_through > 0 && segments.first().is_some_and(|oldest| oldest.id <= poisoned_through) {
        let what =
            format!("segments up to {poisoned_through} are poisoned: a sync failed, or the directory was restored");
        report.note(folder.clone(), None, what, "nothing: claims in them that were not settled count as unknown");
    }
    let slot = sync_slot::read(&folder);
    report.slot_seq = slot;
    let snapshot = snapshot::read_newest(&folder)?;
    report.snapshot_seq = snapshot.as_ref().map(|stored| stored.seq);
    let trust = Trust { kernel: BootId::current(), poisoned_through };
    let replay = replay(&Plan { folder: &folder, trust, slot, snapshot, segments: &segments }, visit)?;
    fill(report, replay);
    Ok(())
}

fn fill(report: &mut CheckReport, replay: Replay) {
    report.frames = replay.frames;
    report.last_seq = replay.last_seq;
    report.segments = replay
        .segments
        .into_iter()
        .map(|read| SegmentReport {
            id: read.id,
            path: read.path,
            first_seq: read.first_seq,
            frames: read.frames,
            bytes: read.bytes,
            same_boot: read.same_boot,
        })
        .collect();
    for path in replay.unneeded {
        report.note(path, None, "older than the snapshot".to_owned(), "nothing: the next start removes it");
    }
    if let Some(tail) = &replay.tail {
        let what = format!("a torn tail of {} bytes: {}", tail.bytes, tail.what);
        report.note(
            tail.path.clone(),
            Some(tail.offset),
            what,
            "nothing: the next start cuts it; nobody was told of it",
        );
    }
    report.torn_tail = replay.tail;
}
