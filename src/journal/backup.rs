//! The journal's part of a backup: the newest snapshot and the segments after it, cut behind one frame.
//!
//! Owns no state but a lock. Must not know why somebody copies. Invariants: JN-B1 while a [`Held`] lives no snapshot is
//! written, so that no segment goes while it is copied; JN-B2 the copy holds every frame up to its cut, each of them
//! validated while it was copied, and none after it, though the segment grows meanwhile; JN-B3 the segment that was open at the
//! cut is always copied, a snapshot alone never is: a restored start poisons every segment that it finds, and with
//! them the claims that the snapshot holds; JN-B4 neither identity nor marks nor sync slot are copied: what they say is
//! of one directory and one moment. The copy is therefore refused without `--restored`, like any other.

use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::MutexGuard;

use super::FOLDER;
use super::commit::Kept;
use super::disk::{create, create_dir};
use super::error::{Damage, JournalError};
use super::frame::{Scanner, Step};
use super::handle::Journal;
use super::lock::DirLock;
use super::segment::{self, Image, Listed, SEGMENT_HEADER};
use super::snapshot;

/// Where a copy of the journal ends.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Number of the last frame.
    pub seq: u64,
    segments: Vec<Kept>,
}

/// Keeps snapshots and segments where they are. Dropped, the journal may drop old segments again.
pub struct Held<'j> {
    journal: &'j Journal,
    _no_snapshots: MutexGuard<'j, ()>,
}

impl Held<'_> {
    pub(super) fn new<'j>(journal: &'j Journal, no_snapshots: MutexGuard<'j, ()>) -> Held<'j> {
        Held { journal, _no_snapshots: no_snapshots }
    }

    /// Makes durable what is submitted so far and cuts behind it. Blocks for the disk; while it is full, for space.
    ///
    /// # Errors
    /// `Closed`, `Failed`.
    pub fn cut(&self) -> Result<Cut, JournalError> {
        let seq = self.journal.flush()?;
        let mut segments = self.journal.segments();
        // Opened after the cut: frames between would be missing.
        segments.retain(|kept| kept.first_seq <= seq + 1);
        Ok(Cut { seq, segments })
    }

    /// Copies into the folder `to`, which is made, all up to the cut. Nothing is synced.
    ///
    /// # Errors
    /// `Damaged` if a frame does not validate; `NoSpace`, `Io`.
    pub fn copy(&self, cut: &Cut, to: &Path) -> Result<(), JournalError> {
        create_dir(to)?;
        copy_snapshot(self.journal.folder(), to)?;
        for kept in &cut.segments {
            let listed = Listed { id: kept.id, path: kept.path.clone() };
            copy_segment(&listed, Some(cut.seq), to)?;
        }
        Ok(())
    }
}

/// Copies the journal of a directory that nobody has open into the folder `to`, which is made. It is locked meanwhile.
///
/// # Errors
/// `Locked`; `NoSpace`, `Io`; `Damaged` for a snapshot or header. A torn tail is copied as it is.
pub fn copy_stopped(dir: &Path, to: &Path) -> Result<StoppedLock, JournalError> {
    let folder = dir.join(FOLDER);
    let lock = lock_stopped(dir)?;
    create_dir(to)?;
    copy_snapshot(&folder, to)?;
    for listed in segment::list(&folder)? {
        copy_segment(&listed, None, to)?;
    }
    Ok(lock)
}

/// Locks a directory that nobody has open.
///
/// # Errors
/// `Locked`, `Io`.
pub fn lock_stopped(dir: &Path) -> Result<StoppedLock, JournalError> {
    Ok(StoppedLock { _lock: DirLock::take(dir)? })
}

/// Keeps a stopped directory from being started.
#[derive(Debug)]
pub struct StoppedLock {
    _lock: DirLock,
}

fn copy_snapshot(folder: &Path, to: &Path) -> Result<(), JournalError> {
    // Reading it validates it.
    let Some(stored) = snapshot::read_newest(folder)? else { return Ok(()) };
    let name = stored.path.file_name().unwrap_or_default();
    write(&to.join(name), stored.bytes(), stored.bytes().len() as u64)
}

/// Copies one segment up to and including the frame `last`; without one, all that is not zero.
fn copy_segment(listed: &Listed, last: Option<u64>, to: &Path) -> Result<(), JournalError> {
    let image = Image::read(listed)?;
    let end = match last {
        None => image.zeros_from.max(SEGMENT_HEADER),
        Some(last) => end_of(&image, last)?,
    };
    let name = listed.path.file_name().unwrap_or_default();
    write(&to.join(name), &image.bytes[..end], image.header.bytes)
}

/// Where the frame `last` ends, or the newest one before it.
fn end_of(image: &Image, last: u64) -> Result<usize, JournalError> {
    let first = image.header.first_seq;
    let mut scanner = Scanner::new(&image.bytes, image.header.id, SEGMENT_HEADER, image.zeros_from, first);
    let mut end = SEGMENT_HEADER;
    let mut next = first;
    while next <= last {
        match scanner.step() {
            Step::Frame(frame) => {
                end = frame.end();
                next = frame.seq + 1;
            }
            Step::End { .. } => break,
            Step::Bad(bad) => return Err(JournalError::damaged(&image.path, bad.offset as u64, bad.what)),
        }
    }
    Ok(end)
}

/// Writes a file of `length` bytes that begins with `bytes`; the rest is a hole, which reads as zeros.
fn write(path: &Path, bytes: &[u8], length: u64) -> Result<(), JournalError> {
    let file = create(path)?;
    let written = file.write_all_at(bytes, 0).and_then(|()| file.set_len(length));
    written.map_err(|error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            JournalError::NoSpace { path: path.to_owned(), needed_bytes: bytes.len() as u64 }
        }
        _ => JournalError::io("write", path, error),
    })
}

/// Checks that a copied journal ends where it should; for a backup that was just made.
///
/// # Errors
/// `Damaged`.
pub fn ends_at(report: &super::CheckReport, folder: &Path, seq: u64) -> Result<(), JournalError> {
    if report.last_seq == seq {
        return Ok(());
    }
    Err(JournalError::damaged(folder, 0, Damage::EndsEarly { last: report.last_seq, durable: seq }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Options, Replayed, Want, check};

    fn options() -> Options {
        Options { segment_bytes: 4096, mark_positions: 8, ..Options::default() }
    }

    fn open(dir: &Path, options: &Options) -> (Journal, Vec<Vec<u8>>) {
        let mut seen = Vec::new();
        let opened = Journal::open(dir, options, &mut |replayed| {
            match replayed {
                Replayed::Snapshot(stored) => seen = vec![stored.state.to_vec()],
                Replayed::Frame(frame) => seen.push(frame.payload.to_vec()),
            }
            Ok(())
        })
        .expect("the journal opens");
        opened.journal.flush().expect("durable");
        opened.marks.zero();
        (opened.journal, seen)
    }

    #[test]
    fn a_copy_ends_at_its_cut_though_the_journal_goes_on() {
        let root = tempfile::tempdir().expect("a folder");
        let (dir, copy) = (root.path().join("data"), root.path().join("copy"));
        let (journal, _) = open(&dir, &options());
        for n in 0..100_u8 {
            journal.submit(1, vec![n; 100], Want::idle()).expect("taken");
        }
        journal.write_snapshot(40, b"state 40").expect("a snapshot");
        let held = journal.hold();
        let cut = held.cut().expect("a cut");
        for n in 100..200_u8 {
            journal.submit(1, vec![n; 100], Want::idle()).expect("taken meanwhile");
        }
        journal.flush().expect("durable");
        held.copy(&cut, &copy.join(FOLDER)).expect("copied");
        drop(held);
        journal.write_snapshot(200, b"state 200").expect("old segments may go again");
        assert_eq!(cut.seq, 100, "all that was submitted before");

        let refused = Journal::open(&copy, &options(), &mut |_| Ok(())).expect_err("a copy is refused");
        assert!(matches!(refused, JournalError::Copied { .. }), "got {refused}");
        let report = check(&copy);
        assert_eq!(report.last_seq, 100, "{report:?}");
        ends_at(&report, &copy, 100).expect("as far as it should");
        assert!(ends_at(&report, &copy, 101).is_err(), "and no further");
        let (restored, seen) = open(&copy, &Options { restored: true, ..options() });
        assert_eq!(seen.len(), 61, "the snapshot and the sixty frames after it");
        assert_eq!(seen.first().map(Vec::as_slice), Some(&b"state 40"[..]));
        assert_eq!(seen.last(), Some(&vec![99; 100]), "nothing after the cut");
        assert_eq!(restored.submit(1, vec![1], Want::idle()).expect("it goes on"), 101);
    }

    #[test]
    fn claims_in_a_snapshot_are_not_believed_after_a_restore() {
        let root = tempfile::tempdir().expect("a folder");
        let (dir, copy) = (root.path().join("data"), root.path().join("copy"));
        let (journal, _) = open(&dir, &options());
        journal.submit(1, vec![1], Want::idle()).expect("taken");
        journal.write_snapshot(1, b"state").expect("a snapshot");
        let held = journal.hold();
        let cut = held.cut().expect("a cut");
        held.copy(&cut, &copy.join(FOLDER)).expect("copied");
        let mut same_boot = None;
        let restored = Options { restored: true, ..options() };
        Journal::open(&copy, &restored, &mut |replayed| {
            if let Replayed::Snapshot(stored) = replayed {
                same_boot = Some(stored.same_boot);
            }
            Ok(())
        })
        .expect("it opens");
        assert_eq!(same_boot, Some(false), "its marks were not copied");
    }

    #[test]
    fn a_stopped_directory_is_copied_and_locked() {
        let root = tempfile::tempdir().expect("a folder");
        let (dir, copy) = (root.path().join("data"), root.path().join("copy"));
        let (journal, _) = open(&dir, &options());
        journal.submit(1, vec![7; 10], Want::idle()).expect("taken");
        let busy = copy_stopped(&dir, &root.path().join("busy")).expect_err("it is open");
        assert!(matches!(busy, JournalError::Locked { .. }), "got {busy}");
        journal.close().expect("closed");
        let lock = copy_stopped(&dir, &copy.join(FOLDER)).expect("copied");
        let locked = Journal::open(&dir, &options(), &mut |_| Ok(())).expect_err("locked meanwhile");
        assert!(matches!(locked, JournalError::Locked { .. }), "got {locked}");
        drop(lock);
        let (_, seen) = open(&copy, &Options { restored: true, ..options() });
        assert_eq!(seen, [vec![7; 10]]);
    }
}
