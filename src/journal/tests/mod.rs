//! The journal as a whole. Here: helpers, and the plain life of a journal; the other files break it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;

mod admission;
mod faults;
mod flips;
mod model;
mod power;

const BOOT: BootId = BootId([1; 16]);
const OTHER_BOOT: BootId = BootId([2; 16]);

/// A frame as a test remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    seq: u64,
    kind: u8,
    payload: Vec<u8>,
    same_boot: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Replay {
    snapshot: Option<(u64, Vec<u8>, bool)>,
    frames: Vec<Seen>,
}

impl Replay {
    fn visit(&mut self, replayed: Replayed<'_>) {
        match replayed {
            Replayed::Snapshot(s) => self.snapshot = Some((s.seq, s.state.to_vec(), s.same_boot)),
            Replayed::Frame(f) => {
                self.frames.push(Seen { seq: f.seq, kind: f.kind, payload: f.payload.to_vec(), same_boot: f.same_boot })
            }
        }
    }
}

/// Does not wait for the disk: for tests that open thousands of journals and cut the power themselves, if at all.
#[derive(Debug)]
struct Unsynced;

impl Disk for Unsynced {
    fn write_at(&self, site: Site, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        RealDisk.write_at(site, file, bytes, offset)
    }

    fn sync(&self, _site: Site, _file: &File) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, site: Site, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(site, from, to)
    }
}

/// In memory where there is such a place: for tests that lay out thousands of directories.
fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// Small segments, so that tests rotate; a failed sync is observed and not fatal.
fn options() -> Options {
    Options {
        segment_bytes: 1024,
        commit_idle: Duration::from_millis(2),
        no_space_retry: Duration::from_millis(1),
        mark_positions: 64,
        boot: BOOT,
        ..Options::default()
    }
    .on_fatal(|_| {})
}

fn booted(boot: BootId) -> Options {
    Options { boot, ..options() }
}

fn open(dir: &Path, options: &Options) -> Result<(Opened, Replay), JournalError> {
    let mut replay = Replay::default();
    let opened = Journal::open(dir, options, &mut |replayed| {
        replay.visit(replayed);
        Ok(())
    })?;
    Ok((opened, replay))
}

fn payload(i: u64) -> Vec<u8> {
    (0..(i * 37 % 90)).map(|byte| (byte ^ i) as u8).collect()
}

fn submit(journal: &Journal, range: std::ops::Range<u64>) {
    for i in range {
        let seq = journal.submit((i % 7) as u8, payload(i), Want::idle()).expect("open");
        assert_eq!(seq, i, "numbers are given in the order of the calls");
    }
}

fn expected(range: std::ops::Range<u64>, same_boot: bool) -> Vec<Seen> {
    range.map(|i| Seen { seq: i, kind: (i % 7) as u8, payload: payload(i), same_boot }).collect()
}

/// The newest segment that holds a frame.
fn newest_segment(dir: &Path) -> PathBuf {
    let listed = segment::list(&dir.join(FOLDER)).expect("a folder");
    listed.last().expect("a segment").path.clone()
}

/// A copy of `dir` that passes for the original: its identity is written anew, marks and all are kept.
fn clone_of(dir: &Path) -> tempfile::TempDir {
    let copy = quick_dir();
    let (from, to) = (dir.join(FOLDER), copy.path().join(FOLDER));
    std::fs::create_dir(&to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
    adopt(copy.path());
    copy
}

/// Makes `dir` pass for the directory that its journal was made in.
fn adopt(dir: &Path) {
    let lock = lock::DirLock::take(dir).expect("free");
    let identity = lock.identity(dir).expect("identity");
    std::fs::write(dir.join(FOLDER).join("identity"), identity).expect("written");
}

#[test]
fn what_was_flushed_is_replayed_over_segments_and_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut next = 1;
    for start in 0..4 {
        let (opened, replay) = open(dir.path(), &options()).expect("opens");
        assert_eq!(replay.frames, expected(1..next, true), "start {start} sees all before it");
        assert_eq!(opened.report.last_seq, next - 1, "and says so");
        assert_eq!(opened.report.fresh, start == 0, "only the first start is fresh");
        submit(&opened.journal, next..next + 60);
        next += 60;
        assert_eq!(opened.journal.flush().expect("flushed"), next - 1, "everything is durable");
        assert_eq!(opened.journal.durable_seq(), next - 1, "and known to be");
        opened.journal.close().expect("closed");
    }
    let (opened, replay) = open(dir.path(), &booted(OTHER_BOOT)).expect("opens");
    assert_eq!(replay.frames, expected(1..next, false), "after a reboot nothing is of the same boot");
    assert!(opened.journal.stats().segments > 5, "frames went over several segments");
}

#[test]
fn an_empty_segment_does_not_outlive_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    for _ in 0..5 {
        open(dir.path(), &options()).expect("opens").0.journal.close().expect("closed");
    }
    assert_eq!(segment::list(&dir.path().join(FOLDER)).expect("listed").len(), 1, "only the newest is left");
}

#[test]
fn written_and_durable_are_told_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    let told: Arc<parking_lot::Mutex<Vec<(bool, u64)>>> = Arc::default();
    for i in 1..=50 {
        let (on_written, on_durable) = (told.clone(), told.clone());
        let want = Want {
            urgency: if i % 10 == 0 { Urgency::Now } else { Urgency::Idle },
            written: Some(Box::new(move |seq| on_written.lock().push((false, seq)))),
            durable: Some(Box::new(move |seq| on_durable.lock().push((true, seq)))),
        };
        opened.journal.submit(1, vec![0; 30], want).expect("submitted");
    }
    opened.journal.flush().expect("flushed");
    opened.journal.close().expect("closed");
    let told = told.lock();
    for durable in [false, true] {
        let seqs: Vec<u64> = told.iter().filter(|t| t.0 == durable).map(|t| t.1).collect();
        assert_eq!(seqs, (1..=50).collect::<Vec<_>>(), "durable = {durable}: each once, in order");
    }
    for i in 1..=50 {
        let place = |durable| told.iter().position(|t| *t == (durable, i)).expect("told");
        assert!(place(false) < place(true), "frame {i} is written before it is durable");
    }
}

#[test]
fn an_idle_frame_becomes_durable_by_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    let (tell, told) = crossbeam::channel::bounded(1);
    let want = Want { durable: Some(Box::new(move |seq| tell.send(seq).expect("heard"))), ..Want::default() };
    opened.journal.submit(1, b"nobody is in a hurry".to_vec(), want).expect("submitted");
    assert_eq!(told.recv(), Ok(1), "it is told without anyone asking");
}

#[test]
fn a_snapshot_replaces_the_frames_it_includes() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    submit(&opened.journal, 1..101);
    let early = opened.journal.write_snapshot(50, b"state").expect_err("recovery has not ended");
    assert!(matches!(early, JournalError::NotRecovered), "got {early}");
    opened.marks.zero();
    let ahead = opened.journal.write_snapshot(101, b"state").expect_err("no such frame");
    assert!(matches!(ahead, JournalError::SnapshotAhead { seq: 101, written: 100 }), "got {ahead}");
    opened.journal.write_snapshot(50, b"state at 50").expect("written");
    let before = opened.journal.stats().segments;
    opened.journal.write_snapshot(90, b"state at 90").expect("written");
    assert!(opened.journal.stats().segments < before, "segments that are covered go");
    submit(&opened.journal, 101..111);
    opened.journal.close().expect("closed");
    let (opened, replay) = open(dir.path(), &options()).expect("opens");
    assert_eq!(replay.snapshot, Some((90, b"state at 90".to_vec(), true)), "the newest snapshot comes first");
    assert_eq!(replay.frames, expected(91..111, true), "then what it does not include");
    let names = std::fs::read_dir(dir.path().join(FOLDER)).expect("listed");
    let snapshots = names.filter(|e| e.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().starts_with("snapshot")));
    assert_eq!(snapshots.count(), 1, "older snapshots go");
    opened.journal.close().expect("closed");
    let (_, replay) = open(dir.path(), &booted(OTHER_BOOT)).expect("opens");
    assert!(!replay.snapshot.expect("still there").2, "its claims are of another boot now");
}

#[test]
fn segments_that_came_back_from_behind_a_snapshot_are_dropped() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    submit(&opened.journal, 1..101);
    opened.journal.flush().expect("flushed");
    let folder = dir.path().join(FOLDER);
    let old: BTreeMap<PathBuf, Vec<u8>> = segment::list(&folder)
        .expect("listed")
        .into_iter()
        .map(|listed| (listed.path.clone(), std::fs::read(&listed.path).expect("read")))
        .collect();
    opened.marks.zero();
    opened.journal.write_snapshot(95, b"state").expect("written");
    opened.journal.close().expect("closed");
    // After a power loss any of the removals may be undone.
    let (first, bytes) = old.iter().next().expect("segments");
    std::fs::write(first, bytes).expect("back again");
    let (_, replay) = open(dir.path(), &options()).expect("a gap before the snapshot is none");
    assert_eq!(replay.frames, expected(96..101, true), "frames after the snapshot");
    assert!(!first.exists(), "the old segment is gone again");
}

#[test]
fn marks_survive_a_kill_and_are_zeroed_only_when_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    opened.marks.zero();
    submit(&opened.journal, 1..4);
    opened.journal.flush().expect("flushed");
    assert!(opened.marks.try_mark(5), "marked");
    opened.journal.abandon();
    let (opened, replay) = open(dir.path(), &Options { mark_positions: 5000, ..options() }).expect("opens");
    assert!(replay.frames.iter().all(|frame| frame.same_boot), "marks may be read");
    assert_eq!(opened.marks.get(5), MarkState::Marked, "the mark is there, in a larger file too");
    opened.marks.zero();
    assert_eq!(opened.marks.get(5), MarkState::Free, "zeroed");
}

#[test]
fn a_lost_mark_file_vouches_for_nothing_however_often_recovery_is_begun() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    submit(&opened.journal, 1..4);
    opened.journal.close().expect("closed");
    std::fs::remove_file(dir.path().join(FOLDER).join("marks")).expect("removed");
    for attempt in 0..3 {
        let (opened, replay) = open(dir.path(), &options()).expect("opens");
        assert_eq!(replay.frames, expected(1..4, false), "attempt {attempt}: the marks may not be read");
        opened.journal.abandon();
    }
}

#[test]
fn numbers_are_in_queue_order_with_many_submitters() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    let last_told = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (journal, last_told) = (opened.journal.clone(), last_told.clone());
            scope.spawn(move || {
                for i in 0..200u8 {
                    let last_told = last_told.clone();
                    let want = Want::written(move |seq| {
                        assert_eq!(last_told.swap(seq, Ordering::SeqCst) + 1, seq, "told in order, without a gap");
                    });
                    journal.submit(thread, vec![i], want).expect("submitted");
                }
            });
        }
    });
    opened.journal.flush().expect("flushed");
    opened.journal.close().expect("closed");
    let (_, replay) = open(dir.path(), &options()).expect("opens");
    assert_eq!(replay.frames.len(), 800, "nothing is lost");
    for thread in 0..4u8 {
        let mine: Vec<u8> = replay.frames.iter().filter(|f| f.kind == thread).map(|f| f.payload[0]).collect();
        assert_eq!(mine, (0..200).collect::<Vec<_>>(), "thread {thread}'s frames are in its order");
    }
}

#[test]
fn refusals_use_no_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    let error = opened.journal.submit(1, vec![0; 4096], Want::idle()).expect_err("larger than a segment");
    assert!(matches!(error, JournalError::TooLarge { bytes: 4096, .. }), "got {error}");
    submit(&opened.journal, 1..2);
    let clone = opened.journal.clone();
    opened.journal.close().expect("closed");
    let error = clone.submit(1, Vec::new(), Want::idle()).expect_err("closed");
    assert!(matches!(error, JournalError::Closed), "got {error}");
    drop(open(dir.path(), &options()).expect("a clone that is left does not hold the directory"));
}

#[test]
fn a_visitor_that_refuses_names_its_frame_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    submit(&opened.journal, 1..11);
    opened.journal.close().expect("closed");
    let mut refuse = |replayed: Replayed<'_>| match replayed {
        Replayed::Frame(frame) if frame.seq == 7 => Err("not mine".into()),
        _ => Ok(()),
    };
    let error = Journal::open(dir.path(), &options(), &mut refuse).expect_err("refused");
    assert!(matches!(error, JournalError::Visit { seq: 7, .. }), "got {error}");
    let (_, replay) = open(dir.path(), &options()).expect("opens");
    assert_eq!(replay.frames, expected(1..11, true), "all is still there");
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    std::fs::read_dir(dir.join(FOLDER))
        .expect("listed")
        .map(|entry| {
            let path = entry.expect("entry").path();
            let bytes = std::fs::read(&path).expect("bytes");
            (path, bytes)
        })
        .collect()
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        fuzz_open(&bytes);
        assert!(!fuzz_snapshot(&bytes), "random bytes are no snapshot");
    }
}
