//! The disk fails: no space at any write, a sync that fails, an I/O error.

use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;

use super::*;

/// Fails the calls that the plan names, counted from 1 over all sites it counts.
#[derive(Debug)]
struct Faulty {
    counted: fn(Call, Site) -> bool,
    /// Calls that fail: from, to (exclusive).
    failing: Mutex<std::ops::Range<u64>>,
    error: fn() -> io::Error,
    calls: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Write,
    Sync,
}

impl Faulty {
    fn new(counted: fn(Call, Site) -> bool, failing: std::ops::Range<u64>, error: fn() -> io::Error) -> Arc<Faulty> {
        Arc::new(Faulty { counted, failing: Mutex::new(failing), error, calls: AtomicU64::new(0) })
    }

    fn fails(&self, call: Call, site: Site) -> Option<io::Error> {
        let counts = (self.counted)(call, site);
        let number = if counts {
            self.calls.fetch_add(1, Ordering::SeqCst) + 1
        } else {
            return None;
        };
        self.failing.lock().contains(&number).then(self.error)
    }

    /// From now on everything works.
    fn heal(&self) {
        *self.failing.lock() = 0..0;
    }

    fn break_now(&self) {
        *self.failing.lock() = 0..u64::MAX;
    }
}

impl Disk for Faulty {
    fn write_at(&self, site: Site, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.fails(Call::Write, site) {
            None => RealDisk.write_at(site, file, bytes, offset),
            Some(error) => {
                // A part of it arrives, as on a disk that fills up.
                RealDisk.write_at(site, file, &bytes[..bytes.len() / 2], offset)?;
                Err(error)
            }
        }
    }

    fn sync(&self, site: Site, _file: &File) -> io::Result<()> {
        self.fails(Call::Sync, site).map_or(Ok(()), Err)
    }

    fn rename(&self, site: Site, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(site, from, to)
    }
}

fn no_space() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn input_output() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn on(disk: &Arc<Faulty>) -> Options {
    Options { disk: disk.clone(), ..options() }
}

/// Opens, however often it takes: the space comes back while the operator starts again.
fn open_patiently(dir: &Path, options: &Options) -> Opened {
    for _ in 0..20 {
        match open(dir, options) {
            Ok((opened, _)) => return opened,
            Err(JournalError::NoSpace { .. } | JournalError::Io { .. }) => {}
            Err(other) => panic!("a full disk is not {other}"),
        }
    }
    panic!("it never opened");
}

/// Submits, snapshots, closes, reopens; true if the disk failed a call.
fn live_through(disk: &Arc<Faulty>, last_failing: u64) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let opened = open_patiently(dir.path(), &on(disk));
    opened.marks.zero();
    let told = Arc::new(AtomicU64::new(0));
    for i in 1..=60 {
        let told = told.clone();
        let want = Want::durable(move |seq| {
            assert_eq!(told.swap(seq, Ordering::SeqCst) + 1, seq, "told in order, without a gap");
        });
        assert_eq!(opened.journal.submit((i % 7) as u8, payload(i), want).expect("open"), i, "numbers go on");
        if i % 3 == 0 {
            opened.journal.flush().expect("flushed once there is space");
        }
        if i == 40 {
            while opened.journal.write_snapshot(25, b"state at 25").is_err() {}
        }
    }
    assert_eq!(opened.journal.flush().expect("flushed"), 60, "everything is durable");
    assert_eq!(told.load(Ordering::SeqCst), 60, "and told");
    opened.journal.close().expect("closed");
    let failed = disk.calls.load(Ordering::SeqCst) >= last_failing;
    let (_, replay) = open(dir.path(), &options()).expect("opens");
    assert_eq!(replay.frames, expected(26..61, true), "nothing is lost, in order");
    failed
}

#[test]
fn no_space_at_any_write_loses_nothing_and_goes_on_by_itself() {
    let mut tried = 0;
    for first in 1.. {
        for length in [1, 3] {
            let disk = Faulty::new(|call, _| call == Call::Write, first..first + length, no_space);
            tried += 1;
            if !live_through(&disk, first) {
                assert!(tried > 100, "only {tried} writes were reached");
                return;
            }
        }
    }
}

#[test]
fn without_space_frames_stay_queued_and_the_status_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Faulty::new(|call, site| call == Call::Write && site == Site::Ahead, 0..0, no_space);
    let (opened, _) = open(dir.path(), &on(&disk)).expect("opens");
    disk.break_now();
    submit(&opened.journal, 1..61);
    wait_until(|| matches!(opened.journal.status(), Status::NoSpace { .. }));
    let written = opened.journal.written_seq();
    assert!((1..60).contains(&written), "the open segment is used up first, {written} frames fit");
    disk.heal();
    assert_eq!(opened.journal.flush().expect("flushed"), 60, "it goes on by itself");
    wait_until(|| opened.journal.status() == Status::Ok);
    disk.break_now();
    submit(&opened.journal, 61..121);
    wait_until(|| matches!(opened.journal.status(), Status::NoSpace { .. }));
    let error = opened.journal.clone().close().expect_err("frames are left");
    assert!(matches!(error, JournalError::NoSpace { .. }), "got {error}");
    let written = opened.journal.written_seq();
    drop(opened);
    let (_, replay) = open(dir.path(), &options()).expect("opens");
    assert_eq!(replay.frames, expected(1..written + 1, true), "what was written is there, and nothing else");
}

/// Level-triggered, with a deadline that only a hang reaches.
fn wait_until(condition: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::yield_now();
    }
}

/// Fails call `n` of the kind that `counted` selects, in a journal with frames from two starts before.
fn fail_fatally(n: u64, counted: fn(Call, Site) -> bool) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    submit(&opened.journal, 1..11);
    opened.journal.close().expect("closed");
    let disk = Faulty::new(counted, 0..0, input_output);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let observed = on(&disk).on_fatal(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let (opened, _) = open(dir.path(), &observed).expect("opens");
    disk.calls.store(0, Ordering::SeqCst);
    *disk.failing.lock() = n..n + 1;
    let durable = Arc::new(AtomicU64::new(10));
    for i in 11..=60 {
        let durable = durable.clone();
        let want = Want::durable(move |seq| durable.store(seq, Ordering::SeqCst));
        match opened.journal.submit((i % 7) as u8, payload(i), want) {
            Ok(seq) => assert_eq!(seq, i, "numbers go on"),
            Err(error) => {
                assert!(matches!(error, JournalError::Failed), "got {error}");
                break;
            }
        }
    }
    let failed = matches!(opened.journal.flush(), Err(JournalError::Failed));
    if !failed {
        return false;
    }
    assert!(matches!(opened.journal.clone().close(), Err(JournalError::Failed)), "closing says so");
    assert_eq!(opened.journal.status(), Status::Failed, "so does the status");
    assert_eq!(seen.load(Ordering::SeqCst), 1, "the process would have aborted, once");
    drop(opened);
    let (opened, replay) = open(dir.path(), &options()).expect("recovers");
    assert!(opened.report.poisoned_through > 0, "as after a power loss");
    assert!(replay.frames.iter().all(|frame| !frame.same_boot), "no mark of then may be read");
    let last = opened.report.last_seq;
    assert!(last >= durable.load(Ordering::SeqCst), "what was told durable is there");
    assert_eq!(replay.frames, expected(1..last + 1, false), "and in order");
    opened.marks.zero();
    submit(&opened.journal, last + 1..last + 6);
    opened.journal.abandon();
    let (_, replay) = open(dir.path(), &options()).expect("recovers again");
    let trusted = |seq| replay.frames.iter().find(|frame| frame.seq == seq).is_none_or(|frame| frame.same_boot);
    assert!(!trusted(1) && trusted(last + 1), "the poison stays on the old segments and off the new ones");
    true
}

#[test]
fn a_failed_sync_ends_the_process_and_is_recovered_from_as_a_power_loss() {
    let failed = (1..40).filter(|n| fail_fatally(*n, |call, site| call == Call::Sync && site == Site::Segment)).count();
    assert!(failed >= 3, "only {failed} syncs were reached");
}

#[test]
fn an_input_output_error_of_a_write_is_as_fatal() {
    let failed =
        (1..40).filter(|n| fail_fatally(*n, |call, site| call == Call::Write && site == Site::Segment)).count();
    assert!(failed >= 3, "only {failed} writes were reached");
}

#[test]
fn a_poison_file_that_cannot_be_written_is_replaced_by_the_mark_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Faulty::new(|_, _| true, 0..0, input_output);
    let (opened, _) = open(dir.path(), &on(&disk)).expect("opens");
    submit(&opened.journal, 1..4);
    opened.journal.flush().expect("flushed");
    disk.break_now();
    submit(&opened.journal, 4..5);
    assert!(opened.journal.flush().is_err(), "the disk is gone");
    drop(opened);
    assert!(!dir.path().join(FOLDER).join("poisoned").exists(), "nothing could be written");
    let (_, replay) = open(dir.path(), &options()).expect("recovers");
    assert!(replay.frames.iter().all(|frame| !frame.same_boot), "the mapped poison counts");
}

#[test]
fn a_panicking_callback_fails_the_journal_and_hangs_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    let want = Want::written(|_| panic!("a callback must not, but may"));
    opened.journal.submit(1, Vec::new(), want).expect("submitted");
    assert!(matches!(opened.journal.flush(), Err(JournalError::Failed)), "nobody waits for ever");
    wait_until(|| opened.journal.status() == Status::Failed);
}
