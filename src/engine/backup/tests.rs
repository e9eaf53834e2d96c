//! Backups of engines that were given contacts, consents and uploads, and what a restore makes of them.

use std::fs;

use super::manifest::TAKEN_OVER;
use super::*;
use crate::engine::check::check;
use crate::engine::testbase::{TestBase, TestEngine};
use crate::ledger::RunState;

fn made(engine: &Arc<Engine>, target: &Path) -> Finished {
    let id = engine.start_backup(target).expect("it begins");
    loop {
        match engine.backups.get(id).expect("known").state {
            BackupState::Running => std::thread::sleep(std::time::Duration::from_millis(2)),
            BackupState::Finished(finished) => return *finished,
            BackupState::Failed(why) => panic!("the backup failed: {why}"),
        }
    }
}

#[test]
fn a_backup_of_a_running_engine_is_whole_and_comes_back() {
    let root = tempfile::tempdir().expect("a folder");
    let (data, target, back) = (root.path().join("data"), root.path().join("backup"), root.path().join("back"));
    let test = TestEngine::open(&data);
    let finished = made(&test.engine, &target);
    assert!(test.engine.backups.last().is_some(), "and is remembered");
    let again = test.engine.start_backup(&target).expect_err("nothing is overwritten");
    assert!(matches!(again, BackupError::Target { .. }), "{again}");
    let inside = test.engine.start_backup(&data.join("x")).expect_err("not into the data");
    assert!(inside.to_string().contains("in the data directory"), "{inside}");
    for _ in 0..2 {
        let checked = check(&target);
        assert_eq!(checked.findings, [], "also after it was looked at: {:?}", checked.looked_at);
    }
    let manifest = restore(&target, &back, &|_| ()).expect("restored");
    assert_eq!((manifest.id.as_str(), manifest.last_seq), (finished.backup.as_str(), finished.last_seq));
    assert!(manifest.online && manifest.left_out.is_empty(), "{manifest:?}");
    for secret in ["tokens.key", "version"] {
        let (from, to) = (fs::read(data.join(secret)), fs::read(back.join(secret)));
        assert_eq!(from.expect("there"), to.expect("there"), "{secret} is the same");
    }
    let over = restore(&target, &data, &|_| ()).expect_err("never over data");
    assert!(over.to_string().contains("not empty"), "{over}");
}

#[test]
fn contacts_and_consents_of_a_backup_are_those_of_its_moment() {
    let root = tempfile::tempdir().expect("a folder");
    let (data, target, back) = (root.path().join("data"), root.path().join("backup"), root.path().join("back"));
    let base = TestBase::open(&data);
    let row = base.contact("a", "a@x.test");
    base.suppress(None, &[row], Vec::new());
    let locked = make_stopped(&data, &target).expect_err("somebody has it open");
    assert!(locked.to_string().contains("in use"), "{locked}");
    drop(base);
    let manifest = make_stopped(&data, &target).expect("made");
    assert!(!manifest.online && manifest.last_seq > 0, "{manifest:?}");
    assert_eq!(check(&target).findings, []);
    restore(&target, &back, &|_| ()).expect("restored");
    let again = TestBase::open(&back);
    assert_eq!(again.store.reader().expect("a reader").contacts().expect("a count"), 1);
    let state = again.book.read();
    assert_eq!(state.restored.as_ref().map(|known| known.backup.as_str()), Some(manifest.id.as_str()), "it says so");
    assert!(!back.join(manifest::FILE).exists() && back.join(TAKEN_OVER).exists(), "and is no backup any more");
    assert!(state.runs.values().all(|run| run.state != RunState::Running));
}

#[test]
fn a_start_that_was_killed_before_it_held_its_runs_is_repeated() {
    let root = tempfile::tempdir().expect("a folder");
    let (data, target) = (root.path().join("data"), root.path().join("backup"));
    drop(TestBase::open(&data));
    make_stopped(&data, &target).expect("made");
    let back = root.path().join("back");
    restore(&target, &back, &|_| ()).expect("restored");
    let first = TestBase::open(&back);
    let known = first.book.read().restored.clone().expect("held");
    drop(first);
    // As if it had been killed before the manifest was renamed.
    fs::rename(back.join(TAKEN_OVER), back.join(manifest::FILE)).expect("renamed");
    let second = TestBase::open(&back);
    assert_eq!(second.book.read().restored.as_ref(), Some(&known), "the same, and no number is left out twice");
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let root = tempfile::tempdir().expect("a folder");
    let target = root.path().join("x");
    files::has_room(&target, 1).expect("there is room for a byte");
    files::has_room(&root.path().join("not/there/yet/x"), 1).expect("also where folders are to be made");
    let refused = files::has_room(&target, u64::MAX / 2).expect_err("there is none");
    assert!(refused.is_full_disk() && refused.to_string().contains("are free"), "{refused}");
    let deep = files::has_room(&root.path().join("not/there/yet/x"), u64::MAX / 2).expect_err("nor there");
    assert!(deep.is_full_disk(), "{deep}");
    let relative = files::has_room(Path::new("a-name-alone"), u64::MAX / 2).expect_err("nor for a name alone");
    assert!(relative.is_full_disk(), "the folder that it is started in is meant: {relative}");
    assert!(!target.exists(), "and nothing was made");
}

#[test]
fn what_an_earlier_try_has_left_counts_as_free() {
    let root = tempfile::tempdir().expect("a folder");
    let (target, left) = (root.path().join("x"), root.path().join("x.estafette-partial"));
    let free = |refused: BackupError| match refused {
        BackupError::NoRoom { free, .. } => free,
        other => panic!("another error: {other}"),
    };
    fs::create_dir(&left).expect("a folder");
    fs::write(left.join("half"), vec![7; 8 << 20]).expect("a file");
    fs::File::open(left.join("half")).and_then(|file| file.sync_all()).expect("its blocks are given out");
    assert_eq!(files::bytes_on_disk(&left), 8 << 20, "blocks of the file");
    assert_eq!(files::bytes_on_disk(&target), 0, "of none");
    let of_another = free(files::has_room(&root.path().join("y"), u64::MAX / 2).expect_err("no room"));
    let of_this = free(files::has_room(&target, u64::MAX / 2).expect_err("no room"));
    // Others write to this disk, too.
    assert!(of_this > of_another, "{of_this} and {of_another}");
}

#[test]
fn a_damaged_backup_is_found_and_not_restored() {
    let root = tempfile::tempdir().expect("a folder");
    let (data, target, back) = (root.path().join("data"), root.path().join("backup"), root.path().join("back"));
    drop(TestBase::open(&data));
    make_stopped(&data, &target).expect("made");
    let file = target.join("contacts/data.mdb");
    let mut bytes = fs::read(&file).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).expect("a flip");
    let found = check(&target).findings;
    assert!(found.iter().any(|finding| finding.problem.contains("checksum")), "{found:?}");
    let refused = restore(&target, &back, &|_| ()).expect_err("not restored");
    assert!(refused.to_string().contains("contacts/data.mdb"), "{refused}");
    assert!(!back.exists() && fs::read_dir(root.path()).expect("listed").count() == 2, "and nothing is left of it");
    let none = restore(&data, &back, &|_| ()).expect_err("no backup");
    assert!(matches!(none, BackupError::NoBackup { .. }), "{none}");
}
