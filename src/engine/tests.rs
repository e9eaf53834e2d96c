//! Whole engines over temporary directories, with a connector that accepts everything.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::bounded;

use crate::clock::Timestamp;
use crate::contacts::csv_import::ImportSpec;
use crate::engine::imports::ImportRequest;
use crate::engine::testbase::TestEngine;
use crate::segments::skip::SkipReason;

#[test]
fn what_is_not_sent_by_send_until_is_skipped_and_the_run_finishes() {
    let root = tempfile::tempdir().expect("a folder");
    let test = TestEngine::open(root.path());
    for number in 0..40 {
        test.contact(&format!("c{number}"));
    }
    let until = Timestamp(test.engine.book.now().0 + 2_500).to_string();
    // Twenty seconds would be needed.
    let run = test.start(serde_json::json!({"limits": {"messages_per_second": 2}, "send_until": until}));
    test.until_finished(run);
    let state = test.engine.book.read();
    let (run, counts) = (&state.runs[&run], state.runs[&run].counts());
    let late = run.deliveries[0].skipped.get(&SkipReason::SendUntil).map_or(0, |rows| rows.len());
    assert!(late > 0, "some are late: {counts:?}");
    assert_eq!(counts.accepted + late, 40, "and the others were sent: {counts:?}");
    assert!(counts.is_balanced(), "{counts:?}");
}

#[test]
fn a_drain_ends_the_sending_while_an_import_can_not_end() {
    let root = tempfile::tempdir().expect("a folder");
    let test = TestEngine::open(root.path());
    for number in 0..200 {
        test.contact(&format!("c{number}"));
    }
    let accepted = |engine: &crate::engine::Engine, run| engine.book.read().runs[&run].counts().accepted;
    let run = test.start(serde_json::json!({"limits": {"messages_per_second": 4}}));
    let (held, is_held) = bounded(1);
    let (release, released) = bounded::<()>(1);
    let store = test.engine.store.clone();
    let holder = std::thread::spawn(move || {
        store.write(|_| {
            held.send(()).expect("the test waits");
            released.recv().ok();
            Ok(())
        })
    });
    is_held.recv().expect("the import's thread can't write now");
    let spooled = test.engine.imports.spool_path();
    std::fs::write(&spooled, "id\n1\n2\n").expect("a spooled file");
    let spec = ImportSpec { key_column: "id".into(), ..Default::default() };
    let request = ImportRequest { spec, ..Default::default() };
    test.engine.imports.submit(request, &spooled).expect("taken over");
    let before = accepted(&test.engine, run);
    test.until("it sends during the import", |engine| accepted(engine, run) > before + 2);
    let (done, is_done) = bounded(1);
    let engine = Arc::clone(&test.engine);
    let drain = std::thread::spawn(move || done.send(engine.drain(Duration::from_secs(2)).map_err(|e| e.to_string())));
    let ended = is_done.recv_timeout(Duration::from_secs(60));
    let sent = accepted(&test.engine, run);
    release.send(()).expect("the holder waits");
    holder.join().expect("no fault").expect("written");
    assert_eq!(ended, Ok(Ok(())), "the drain does not wait for the import beyond its deadline");
    assert!(sent < 200, "the run was ended, not finished: {sent}");
    assert_eq!(accepted(&test.engine, run), sent, "and nothing is sent after the drain");
    assert_eq!(test.engine.book.read().open_batches().count(), 0, "no claim is open");
    drain.join().expect("no fault").ok();
}

#[test]
fn a_data_directory_is_its_owners_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let data = root.path().join("data");
    let test = TestEngine::open(&data);
    test.contact("c1");
    let mode = |path: &Path| std::fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("journal"))), (0o700, 0o700), "folders");
    assert_eq!(mode(&data.join("tokens.key")), 0o600, "the secret of the links");
    let files: Vec<_> = std::fs::read_dir(data.join("journal")).expect("a folder").flatten().collect();
    assert!(files.len() >= 3, "segment, marks, identity: {files:?}");
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{}", file.path().display());
    }
}
