//! Whole engines over temporary directories, with a connector that accepts everything.

use crate::clock::Timestamp;
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
