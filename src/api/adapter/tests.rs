//! What the adapter answers of whole runs, over a real engine.

use std::time::Duration;

use serde_json::json;

use crate::actors::tracker::TrackedEvent;
use crate::api::adapter::Adapter;
use crate::api::errors::Code;
use crate::api::port::{
    CampaignsPort, ContactsPort, HistoryPort, LinkAsked, PageRequest, Ref, ResendRequest, RunRef, SettleAs,
    SettleRequest, SpecFormat, SpecText, TokenPurpose, TrackingPort,
};
use crate::clock::Timestamp;
use crate::content::TokenId;
use crate::engine::EngineError;
use crate::engine::resend::Resend;
use crate::engine::retention::{needs, remove_some};
use crate::engine::testbase::TestEngine;
use crate::ids::{ContactRow, MessageId, RowSpace, RunId};
use crate::ledger::Fact;
use crate::ledger::tracking::{EventClass, TrackedKind};
use crate::limits::RESTORED_ROWS_GAP;

#[test]
fn a_report_keeps_the_audience_of_the_start() {
    let root = tempfile::tempdir().unwrap();
    let test = TestEngine::open(root.path());
    for key in ["a", "b", "c"] {
        test.contact(key);
    }
    let run = test.start(json!({"audience": {"segment": "key != \"c\""}}));
    test.until_finished(run);
    test.contact("d");
    let report = Adapter::new(test.engine.clone()).report(&RunRef::Run(run.0)).unwrap();
    let audience = report.audience.expect("it is known");
    assert_eq!((audience.matched, audience.final_count, audience.channel.as_str()), (2, 2, "email"), "as it was");
    assert_eq!(audience.connector.as_deref(), Some("relay"), "{audience:?}");
}

#[test]
fn links_end_with_the_time_they_are_kept_and_opting_out_does_not() {
    let root = tempfile::tempdir().unwrap();
    let test = TestEngine::with_tracking_kept(root.path(), Duration::from_millis(500));
    let row = test.contact("a");
    let run = test.start(json!({"limits": {"messages_per_second": 1}}));
    let port = Adapter::new(test.engine.clone());
    let id = TokenId { space: RowSpace::BASE, run, message: MessageId(0), row };
    let tokens = &test.engine.tokens;
    let (link, view, leave) = (tokens.make_link(id), tokens.make_view(id), tokens.make_unsubscribe(id));
    let asked = Some(LinkAsked { index: 0, signed_url: None });
    let click = || port.resolve(TokenPurpose::Click, link.as_str(), asked).is_some();
    let open = || port.resolve(TokenPurpose::Open, link.as_str(), None).is_some();
    let look = || port.resolve(TokenPurpose::View, view.as_str(), None).is_some();
    let opt_out = || port.resolve(TokenPurpose::Unsubscribe, leave.as_str(), None).is_some();
    assert!(click() && open() && look() && opt_out(), "all work while the run is on");
    test.until_finished(run);
    test.until("the links end", |_| !click());
    assert!(!open() && !look(), "pixels and views end with them");
    assert!(opt_out(), "an old mail can still be unsubscribed from");
}

#[test]
fn a_campaign_that_is_asked_for_again_is_the_one_that_was_made() {
    let root = tempfile::tempdir().unwrap();
    let test = TestEngine::open(root.path());
    let port = Adapter::new(test.engine.clone());
    let text = json!({"name": "spring"}).to_string();
    let create = |request: Option<&str>| {
        let request = request.map(str::to_owned);
        port.create_campaign(SpecText { format: SpecFormat::Json, text: text.clone(), request })
    };
    let made = create(Some("one")).unwrap();
    // The answer was lost in a crash, and the client asks again.
    let again = create(Some("one")).unwrap();
    assert_eq!(again.summary.id, made.summary.id, "the same campaign");
    assert_eq!(create(Some("two")).unwrap_err().code, Code::CampaignExists, "another request is another campaign");
    assert_eq!(create(None).unwrap_err().code, Code::CampaignExists, "and so is one without a key");
    assert_eq!(test.engine.book.read().campaigns.len(), 1, "one campaign in all");
}

fn clicked(test: &TestEngine, run: RunId, row: ContactRow) {
    for kind in [TrackedKind::Opened, TrackedKind::Clicked { link: 0 }] {
        let (message, class) = (MessageId(0), EventClass::Human);
        let event = TrackedEvent { run, message, row, kind, class, was: None, done: None };
        let written = test.engine.record(event).expect("taken");
        written.blocking_recv().expect("written");
    }
}

#[test]
fn a_report_without_details_says_what_it_said_and_nobody_is_named() {
    let root = tempfile::tempdir().unwrap();
    let mut test = TestEngine::open(root.path());
    let rows: Vec<ContactRow> = ["a", "b", "c", "d"].map(|key| test.contact(key)).into();
    let run = test.start(json!({}));
    test.until_finished(run);
    rows[..2].iter().for_each(|row| clicked(&test, run, *row));
    let at = RunRef::Run(run.0);
    let port = Adapter::new(test.engine.clone());
    let page = || PageRequest { after: None, limit: 10 };
    assert_eq!(port.run_contacts(&at, "clicked", &page()).unwrap().items.len(), 2, "who clicked is known");
    let before = port.report(&at).unwrap();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    assert_eq!(remove_some(&test.engine.book, days(60)).unwrap(), 0, "it is young");
    assert_eq!(remove_some(&test.engine.book, Duration::ZERO).unwrap(), 1, "it is old");
    assert_eq!(remove_some(&test.engine.book, Duration::ZERO).unwrap(), 0, "once is enough");
    drop(port);
    for opened_again in [false, true] {
        if opened_again {
            test = test.again();
        }
        let port = Adapter::new(test.engine.clone());
        let mut after = port.report(&at).unwrap();
        assert!(after.details_removed_at.take().is_some(), "it says when");
        assert_eq!((&after.deliveries, &after.ledger), (&before.deliveries, &before.ledger), "every figure stays");
        assert_eq!((&after.nodes, &after.tests), (&before.nodes, &before.tests));
        let gone = |code: Code, what: &str| assert_eq!(code, Code::DetailsRemoved, "{what}");
        gone(port.run_contacts(&at, "clicked", &page()).unwrap_err().code, "who clicked");
        let settle = SettleRequest { settle_as: SettleAs::Accepted, contacts: Vec::new(), all: true };
        gone(port.settle(&at, settle).unwrap_err().code, "settling");
        let again = ResendRequest { set: "not_opened".into(), ..ResendRequest::default() };
        gone(port.resend(&Ref::Name("spring".into()), again).unwrap_err().code, "a resend");
        let again = Resend { set: "not_opened".into(), ..Resend::default() };
        let refused = test.engine.resend_spec(run, &again).unwrap_err();
        assert!(matches!(refused, EngineError::DetailsRemoved { .. }), "{refused}");
        let asked = test.engine.matching("not opened(\"spring\")").unwrap_err().to_string();
        assert!(asked.contains("not known any more") && asked.contains("retention"), "{asked}");
        let tokens = &test.engine.tokens;
        let id = TokenId { space: RowSpace::BASE, run, message: MessageId(0), row: rows[3] };
        assert!(port.resolve(TokenPurpose::Open, tokens.make_link(id).as_str(), None).is_none(), "nothing is counted");
        let leave = tokens.make_unsubscribe(id);
        assert!(port.resolve(TokenPurpose::Unsubscribe, leave.as_str(), None).is_some(), "opting out works always");
        clicked(&test, run, rows[3]);
        assert_eq!(port.report(&at).unwrap().deliveries, before.deliveries, "nor what came late");
        let export = port.export_contact("a").unwrap();
        assert_eq!(export["runs"], json!([]), "no contact is said to be in it");
        drop(port);
    }
}

#[test]
fn details_stay_while_something_asks_for_them() {
    let root = tempfile::tempdir().unwrap();
    let test = TestEngine::open(root.path());
    test.contact("a");
    let run = test.start(json!({}));
    test.until_finished(run);
    let book = &test.engine.book;
    let saved = |name: &str, text: &str| {
        let fact = Fact::SegmentSaved { name: name.into(), text: text.into(), at: Timestamp(1) };
        book.commit_durable(&fact).unwrap();
    };
    saved("fans", "not (opened(\"spring\") or key = \"x\")");
    assert_eq!(needs(&book.read()).campaigns.len(), 1, "a saved segment names it");
    assert_eq!(remove_some(book, Duration::ZERO).unwrap(), 0);
    book.commit_durable(&Fact::SegmentDeleted { name: "fans".into() }).unwrap();
    saved("other", "received(\"autumn\") and opened at least 2 messages in last 90d");
    let asked = needs(&book.read());
    assert!(asked.campaigns.is_empty(), "of a campaign that is not there: {asked:?}");
    // A live run whose audience asks for it, and that waits for its provider.
    let slow = json!({"name": "summer", "audience": {"segment": "received(\"spring\")"},
        "limits": {"messages_per_second": 1}});
    test.contact("b");
    let live = test.start(slow);
    let stands = book.read().runs[&live].state;
    if stands.is_live() {
        assert_eq!(needs(&book.read()).campaigns.len(), 1, "the spec of a live run names it");
    }
    test.until_finished(live);
    assert_eq!(remove_some(book, Duration::ZERO).unwrap(), 2, "both are over");
}

#[test]
fn a_link_to_a_contact_that_the_backup_does_not_know_is_not_known() {
    let root = tempfile::tempdir().unwrap();
    let (data, back, target) = (root.path().join("data"), root.path().join("back"), root.path().join("backup"));
    let old = TestEngine::open(&data);
    let known = old.contact("a");
    let run = old.start(json!({}));
    old.until_finished(run);
    old.engine.start_backup(&target).unwrap();
    old.until("the backup is made", |engine| engine.backups.last().is_some());
    // The old server goes on: a contact comes, and gets a mail.
    let lost = old.contact("later");
    assert_eq!(lost.0, known.0 + 1);
    let leave =
        old.engine.tokens.make_unsubscribe(TokenId { space: RowSpace::BASE, run, message: MessageId(0), row: lost });
    let leave = leave.as_str().to_owned();
    crate::engine::backup::restore(&target, &back, &|_| ()).unwrap();
    let mut test = TestEngine::open(&back);
    for start in 1..=3 {
        let port = Adapter::new(test.engine.clone());
        let new = test.contact(&format!("new{start}"));
        assert_eq!(new.0, lost.0 + RESTORED_ROWS_GAP + start - 1, "rows are left out once");
        assert!(port.resolve(TokenPurpose::Unsubscribe, &leave, None).is_none(), "it names nobody here");
        let id = TokenId { space: RowSpace::BASE, run, message: MessageId(0), row: ContactRow(0) };
        let known = test.engine.tokens.make_unsubscribe(id);
        assert!(
            port.resolve(TokenPurpose::Unsubscribe, known.as_str(), None).is_some(),
            "who was in the backup is known"
        );
        drop(port);
        test = test.again();
    }
}
