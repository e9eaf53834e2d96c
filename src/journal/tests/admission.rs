//! Who may open a directory, and the check that only looks.

use super::*;

#[test]
fn a_second_process_is_refused_and_a_copy_needs_a_word() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    submit(&opened.journal, 1..31);
    opened.journal.flush().expect("flushed");
    let error = open(dir.path(), &options()).expect_err("in use");
    assert!(matches!(error, JournalError::Locked { .. }), "got {error}");
    // Copied while running: the identity is the original's.
    let copy = clone_of(dir.path());
    std::fs::copy(dir.path().join(FOLDER).join("identity"), copy.path().join(FOLDER).join("identity")).expect("copied");
    let error = open(copy.path(), &options()).expect_err("a copy");
    assert!(matches!(error, JournalError::Copied { .. }), "got {error}");
    let restored = Options { restored: true, ..options() };
    let (opened, replay) = open(copy.path(), &restored).expect("the operator said so");
    assert!(opened.report.restored, "and is told so");
    assert_eq!(replay.frames, expected(1..31, false), "marks of a copy are of another moment");
    opened.journal.abandon();
    let (_, replay) = open(copy.path(), &options()).expect("it is at home now");
    assert_eq!(replay.frames, expected(1..31, false), "and still does not believe the copied marks");
}

#[test]
fn the_check_writes_nothing_and_sees_what_the_start_sees() {
    let dir = tempfile::tempdir().expect("a folder");
    let (opened, _) = open(dir.path(), &options()).expect("opens");
    submit(&opened.journal, 1..41);
    opened.journal.flush().expect("flushed");
    let busy = check(dir.path());
    assert!(!busy.is_sound(), "a running journal cannot be checked: {:?}", busy.findings);
    opened.journal.close().expect("closed");
    let before = contents(dir.path());
    let mut frames = 0;
    let report = check_with(dir.path(), &mut |_| {
        frames += 1;
        Ok(())
    });
    assert!(report.is_sound(), "found {:?}", report.findings);
    assert_eq!((report.frames, report.last_seq, frames), (40, 40, 40), "every frame is read");
    assert_eq!(contents(dir.path()), before, "nothing was written");
    let path = newest_segment(dir.path());
    let mut bytes = std::fs::read(&path).expect("bytes");
    bytes[70] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let report = check(dir.path());
    let finding = report.findings.iter().find(|f| f.fatal).expect("damage is found");
    assert_eq!((&finding.path, finding.offset), (&path, Some(64)), "with file and offset");
    assert!(check(&dir.path().join("absent")).findings.iter().any(|f| f.fatal), "a missing directory is said");
}
