//! Every byte of a small journal is flipped: it is refused, naming the place, or no durable frame is lost.

use super::*;

const SEGMENT: u64 = 700;
const DURABLE: u64 = 12;

/// Segments of two starts, a snapshot, durable frames after it up to 12, and then some that are only written.
fn small_journal(dir: &Path, unsynced: u64) {
    let options = Options {
        commit_idle: Duration::from_secs(3600),
        disk: Arc::new(Unsynced),
        segment_bytes: SEGMENT,
        mark_positions: 8,
        ..options()
    };
    let (opened, _) = open(dir, &options).expect("opens");
    opened.marks.zero();
    submit(&opened.journal, 1..8);
    opened.journal.write_snapshot(5, b"state at 5").expect("written");
    opened.journal.close().expect("closed");
    let (opened, _) = open(dir, &options).expect("opens");
    submit(&opened.journal, 8..13);
    assert_eq!(opened.journal.flush().expect("flushed"), DURABLE, "twelve are durable");
    submit(&opened.journal, 13..13 + unsynced);
    while opened.journal.written_seq() < DURABLE + unsynced {
        std::thread::yield_now();
    }
    opened.journal.abandon();
}

#[derive(Debug, Default)]
struct Tally {
    refused: u32,
    whole: u32,
    /// Unsynced frames were lost, no durable one.
    shorter: u32,
    /// Durable frames were lost: the case outside the promise.
    outside: u32,
}

fn flip_all(boot: BootId, with_slot: bool, unsynced: u64) -> Tally {
    let dir = quick_dir();
    small_journal(dir.path(), unsynced);
    if !with_slot {
        std::fs::remove_file(dir.path().join(FOLDER).join("sync")).expect("removed");
    }
    let original = contents(dir.path());
    let mut tally = Tally::default();
    for (path, bytes) in &original {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        // Nothing is promised of mark bytes: they are read where the page cache is trusted, and have no checksum.
        let end = if name == "marks" { 8 } else { bytes.len() };
        // The slot's records are 32 bytes each, with nothing between them.
        let places = (0..end).filter(|at| name != "sync" || at % 4096 < 32);
        for at in places {
            let copy = clone_of(dir.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= [0x01, 0x80, 0xff][at % 3];
            std::fs::write(copy.path().join(FOLDER).join(&name), flipped).expect("written");
            judge_flip(copy.path(), boot, &format!("{name}, byte {at}"), DURABLE + unsynced, &mut tally);
        }
    }
    tally
}

fn judge_flip(dir: &Path, boot: BootId, place: &str, written: u64, tally: &mut Tally) {
    let options = Options { boot, disk: Arc::new(Unsynced), segment_bytes: SEGMENT, mark_positions: 8, ..options() };
    match open(dir, &options) {
        Err(JournalError::Damaged { path, offset, .. }) => {
            let (name, at) = place.split_once(", byte ").expect("a place");
            assert!(path.to_string_lossy().contains(name), "{place}: blames {}", path.display());
            // A frame is named by its first byte, a header as a whole.
            assert!(
                offset <= at.parse::<u64>().expect("a number").max(64),
                "{place}: names {offset}, behind the damage"
            );
            tally.refused += 1;
        }
        Err(JournalError::Copied { .. } | JournalError::Version { .. }) => tally.refused += 1,
        Err(other) => panic!("{place}: {other}"),
        Ok((opened, replay)) => {
            let last = opened.report.last_seq;
            let seen: Vec<(u64, Vec<u8>)> = replay.frames.into_iter().map(|f| (f.seq, f.payload)).collect();
            assert_eq!(seen, (6..=last).map(|i| (i, payload(i))).collect::<Vec<_>>(), "{place}: frames are whole");
            if last == written {
                tally.whole += 1;
                return;
            }
            let tail = opened.report.torn_tail.expect("frames go only with a torn tail");
            assert!(tail.incomplete || boot == OTHER_BOOT, "{place}: a kill does not do this");
            if last >= DURABLE {
                tally.shorter += 1;
            } else {
                tally.outside += 1;
            }
        }
    }
}

#[test]
fn with_the_sync_slot_no_flip_loses_a_durable_frame() {
    for (boot, unsynced) in [(BOOT, 0), (BOOT, 2), (OTHER_BOOT, 2)] {
        let tally = flip_all(boot, true, unsynced);
        println!("with the sync slot, boot {boot}, {unsynced} unsynced frames: {tally:?}");
        assert_eq!(tally.outside, 0, "the slot names what is durable");
        assert!(tally.refused > 400, "flips in durable frames are refused: {tally:?}");
    }
}

#[test]
fn without_the_slot_later_frames_vouch_for_durable_ones() {
    for boot in [BOOT, OTHER_BOOT] {
        let tally = flip_all(boot, false, 2);
        println!("without the sync slot, boot {boot}, 2 unsynced frames: {tally:?}");
        assert_eq!(tally.outside, 0, "a frame behind them names all durable ones");
    }
}

#[test]
fn without_the_slot_and_later_frames_only_what_looks_incomplete_is_lost() {
    // Nothing but the last commit's own frames is left to speak for them. `judge_flip` asserts that each loss meets the
    // definition of incomplete.
    let tally = flip_all(BOOT, false, 0);
    println!("without the sync slot, boot {BOOT}, no unsynced frame: {tally:?}");
    assert!(tally.outside > 0, "the one case outside the promise is a real one: {tally:?}");
    assert!(tally.outside < 16, "and a narrow one: lengths of the last frame: {tally:?}");
}
