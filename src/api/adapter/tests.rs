//! What the adapter answers of whole runs, over a real engine.

use std::time::Duration;

use serde_json::json;

use crate::api::adapter::Adapter;
use crate::api::errors::Code;
use crate::api::port::{CampaignsPort, LinkAsked, RunRef, SpecFormat, SpecText, TokenPurpose, TrackingPort};
use crate::content::TokenId;
use crate::engine::testbase::TestEngine;
use crate::ids::{MessageId, RowSpace};

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
