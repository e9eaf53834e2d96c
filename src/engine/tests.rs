//! Whole engines over temporary directories, with a connector that accepts everything.

use crate::campaigns::{self, Format, parse};
use crate::clock::Timestamp;
use crate::contacts::{ConsentStatus, ContactInput};
use crate::engine::Engine;
use crate::engine::base::ConsentWish;
use crate::engine::testbase::TestEngine;
use crate::ids::{Channel, RunId};
use crate::ledger::RunState;
use crate::segments::skip::SkipReason;

fn news() -> ConsentWish {
    ConsentWish { channel: Channel::Email, topic: "news".into(), status: ConsentStatus::Subscribed }
}

fn people(engine: &Engine, count: u32) {
    for number in 0..count {
        let json = serde_json::json!({"key": format!("c{number}"), "email": format!("c{number}@x.test")});
        let input: ContactInput = serde_json::from_value(json).expect("an input");
        engine.put_contact(&input, &[news()], "test").expect("a contact");
    }
}

/// Starts a campaign to everybody; `more` are further keys of its spec.
fn start(engine: &Engine, more: serde_json::Value) -> RunId {
    let mut spec = serde_json::json!({
        "name": "spring", "audience": {"all": true},
        "message": {"channel": "email", "connector": "relay", "topic": "news", "from": "News <news@x.test>",
            "subject": "Hello", "html": "<p><a href=\"https://shop.test/a\">offer</a></p>"},
    });
    let (serde_json::Value::Object(all), serde_json::Value::Object(more)) = (&mut spec, more) else {
        panic!("two objects");
    };
    all.extend(more);
    let spec = campaigns::parse(&spec.to_string(), Format::Json).expect("it parses");
    let campaign = engine.save_campaign(None, &parse::to_stored(&spec)).expect("saved");
    engine.start(campaign).expect("started")
}

fn state_of(engine: &Engine, run: RunId) -> RunState {
    engine.book.read().runs[&run].state
}

#[test]
fn what_is_not_sent_by_send_until_is_skipped_and_the_run_finishes() {
    let root = tempfile::tempdir().expect("a folder");
    let test = TestEngine::open(root.path());
    people(&test.engine, 40);
    let until = Timestamp(test.engine.book.now().0 + 2_500).to_string();
    // A minute would not be enough.
    let limits = serde_json::json!({"limits": {"messages_per_second": 2}, "send_until": until});
    let run = start(&test.engine, limits);
    test.until("the run finishes", |engine| state_of(engine, run) == RunState::Finished);
    let state = test.engine.book.read();
    let (run, counts) = (&state.runs[&run], state.runs[&run].counts());
    let late = run.deliveries[0].skipped.get(&SkipReason::SendUntil).map_or(0, |rows| rows.len());
    assert!(late > 0, "some are late: {counts:?}");
    assert_eq!(counts.accepted + late, 40, "and the others were sent: {counts:?}");
    assert!(counts.is_balanced(), "{counts:?}");
}
