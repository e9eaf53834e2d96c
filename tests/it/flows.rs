//! Kinds of campaigns on a real engine: A/B splits, grids, follow-ups.

use std::time::{Duration, Instant};

use estafette::actors::tracker::TrackedEvent;
use estafette::api::port::{Action, CampaignsPort, ImportOptions, Ref, Report, RunRef, SpecFormat, SpecText};
use estafette::channels::connector::Connector;
use estafette::channels::null::NullConnector;
use estafette::config::connectors::{ConnectorSettings, NullSettings, RateLimits, RetrySettings};
use estafette::flow::NodeId;
use estafette::ids::{ContactRow, MessageId, RunId};
use estafette::ledger::facts::Suppressed;
use estafette::ledger::suppression::SuppressReason;
use estafette::ledger::tracking::{EventClass, TrackedKind};
use estafette::ledger::{Fact, RowSet, Run};
use estafette::segments::skip::SkipReason;
use roaring::RoaringBitmap;

use crate::harness::{TestEngine, import_options};

/// One connector that accepts everything.
pub fn null() -> Vec<(ConnectorSettings, Connector)> {
    let settings = NullSettings {
        name: "null".to_owned(),
        connections_max: 2,
        rate: RateLimits::default(),
        domains: Vec::new(),
        retry: RetrySettings::default(),
        credits_batches: 8,
    };
    vec![(ConnectorSettings::Null(settings.clone()), Connector::Null(NullConnector::new(settings)))]
}

const PEOPLE: u32 = 2_000;

/// Row i is in the north if i is even, and a woman if i is a multiple of 3.
fn engine() -> TestEngine {
    let engine = TestEngine::with(null);
    let mut text = String::from("id,email,region,gender\n");
    for i in 0..PEOPLE {
        let region = if i % 2 == 0 { "north" } else { "south" };
        let gender = if i % 3 == 0 { "f" } else { "m" };
        text.push_str(&format!("c{i},c{i}@x.test,{region},{gender}\n"));
    }
    let report =
        engine.import(ImportOptions { subscribe: vec!["email:news".to_owned()], ..import_options("id") }, &text);
    assert_eq!(report.accepted, u64::from(PEOPLE), "{report:?}");
    engine
}

const MESSAGE: &str = r#"
[audience]
all = true
[message]
channel = "email"
connector = "null"
topic = "news"
from = "News <news@example.test>"
subject = "Hello"
html = '<p>Hi <a href="https://shop.example.test/a">offer</a></p>'
"#;

fn start(engine: &TestEngine, head: &str, tail: &str) -> RunId {
    let text = format!("name = \"spring\"\n{head}\n{MESSAGE}\n{tail}");
    let view = engine.adapter.create_campaign(SpecText { format: SpecFormat::Toml, text, request: None }).unwrap();
    assert!(view.problems.is_empty(), "{:?}", view.problems);
    let done = engine.adapter.act(&Ref::Id(view.summary.id), Action::Start).unwrap();
    RunId(done.run.unwrap())
}

fn with_run<T>(engine: &TestEngine, run: RunId, look: impl FnOnce(&Run) -> T) -> T {
    look(&engine.engine().book.read().runs[&run])
}

/// Waits until the run is as wanted.
fn until(engine: &TestEngine, run: RunId, what: &str, wanted: impl Fn(&Run) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !with_run(engine, run, &wanted) {
        assert!(Instant::now() < deadline, "{what}: {:#?}", with_run(engine, run, |r| (r.counts(), r.flow.clone())));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn report(engine: &TestEngine, run: RunId) -> Report {
    engine.adapter.report(&RunRef::Run(run.0)).unwrap()
}

fn assigned(engine: &TestEngine, run: RunId, node: u32) -> RoaringBitmap {
    with_run(engine, run, |r| r.deliveries[0].assigned(NodeId(node)).clone())
}

fn happened(engine: &TestEngine, run: RunId, message: u16, rows: impl IntoIterator<Item = u32>, kind: TrackedKind) {
    for row in rows {
        let event = TrackedEvent {
            run,
            message: MessageId(message),
            row: ContactRow(row),
            kind,
            class: EventClass::Human,
            was: None,
            done: None,
        };
        let wait = engine.engine().record(event).expect("the tracker takes it");
        wait.blocking_recv().expect("recorded");
    }
}

const CLICK: TrackedKind = TrackedKind::Clicked { link: 0 };

fn balanced(engine: &TestEngine, run: RunId) {
    with_run(engine, run, |r| {
        for delivery in &r.deliveries {
            delivery.check().unwrap();
        }
        r.positions.verify(&r.graph).unwrap();
    });
}

const VARIANTS: &str = "[[variants]]\nsubject = \"One\"\n[[variants]]\nsubject = \"Two\"\n";

#[test]
fn the_rest_gets_the_winner_and_nobody_two_versions() {
    let engine = engine();
    let test = "[test]\nsample = \"50%\"\ndecide_after = \"4s\"\nlooks = 2\nmin_delivered = 100\nmin_events = 10\n";
    let run = start(&engine, "kind = \"ab_split\"", &format!("{VARIANTS}{test}"));
    until(&engine, run, "the sample is sent", |r| r.deliveries[0].accepted.len() == 1_000);
    let (a, b) = (assigned(&engine, run, 10), assigned(&engine, run, 11));
    assert_eq!((a.len(), b.len()), (500, 500), "exact shares");
    assert!(a.is_disjoint(&b), "nobody is in both");
    happened(&engine, run, 0, a.iter().take(20), CLICK);
    happened(&engine, run, 1, b.iter().take(120), CLICK);
    until(&engine, run, "finished", |r| !r.state.is_live());
    balanced(&engine, run);
    let (all_a, all_b) = (assigned(&engine, run, 10), assigned(&engine, run, 11));
    assert_eq!(all_a, a, "the loser got nobody more");
    assert_eq!(all_b.len(), 1_500, "the winner got the rest");
    assert!(all_a.is_disjoint(&all_b), "nobody got both");
    let decided = with_run(&engine, run, |r| r.flow.tests[&NodeId(1)].decided.clone()).expect("decided");
    assert_eq!(decided.winner.as_ref().map(|exit| exit.name()), Some("B"), "{decided:?}");
    assert!(decided.proven && decided.reason.contains("proven"), "{decided:?}");
    let ledger = report(&engine, run).ledger;
    assert_eq!((ledger.accepted, ledger.audience, ledger.balanced), (2_000, 2_000, true), "{ledger:?}");
}

#[test]
fn a_test_without_a_proof_does_what_its_setting_says() {
    let engine = engine();
    let test = "[test]\nsample = 200\ndecide_after = \"1s\"\nif_not_proven = \"nobody\"\n";
    let run = start(&engine, "kind = \"ab_split\"", &format!("{VARIANTS}{test}"));
    until(&engine, run, "the sample is sent", |r| r.deliveries[0].accepted.len() == 200);
    let a = assigned(&engine, run, 10);
    happened(&engine, run, 0, a.iter().take(3), CLICK);
    until(&engine, run, "finished", |r| !r.state.is_live());
    balanced(&engine, run);
    let skipped = with_run(&engine, run, |r| r.deliveries[0].skipped[&SkipReason::NoWinner].len());
    assert_eq!(skipped, 1_800, "the rest gets nothing, and the ledger says why");
}

#[test]
fn a_tie_waits_for_a_person_across_a_kill_and_the_choice_is_final() {
    let engine = engine();
    let test = "[test]\nsample = \"10%\"\ndecide_after = \"1s\"\n";
    let run = start(&engine, "kind = \"ab_split\"", &format!("{VARIANTS}{test}"));
    until(&engine, run, "the sample is sent and looked at", |r| {
        r.deliveries[0].accepted.len() == 200 && r.flow.tests[&NodeId(1)].looks.len() == 1
    });
    let unknown = engine.engine().choose_winner(run, Some("C"), "ann").unwrap_err().to_string();
    assert!(unknown.contains("\"C\"") && unknown.contains("A, B"), "{unknown}");
    let engine = engine.killed();
    let state = with_run(&engine, run, |r| r.state.name());
    assert_eq!(state, "paused", "a restored directory waits for a person");
    engine.adapter.act(&Ref::Name("spring".to_owned()), Action::Resume).unwrap();
    with_run(&engine, run, |r| assert!(r.flow.tests[&NodeId(1)].decided.is_none(), "still open"));
    engine.engine().choose_winner(run, Some("A"), "ann").unwrap();
    let again = engine.engine().choose_winner(run, Some("B"), "bob").unwrap_err().to_string();
    assert!(again.contains("decided already: A, by ann"), "{again}");
    until(&engine, run, "finished", |r| !r.state.is_live());
    balanced(&engine, run);
    assert_eq!(assigned(&engine, run, 10).len(), 1_900, "A got its sample and the rest");
}

#[test]
fn a_grid_sends_each_cell_its_message_and_accounts_for_all() {
    let engine = engine();
    let grid = r#"
[[dimensions]]
name = "region"
[[dimensions.segments]]
name = "north"
segment = 'region = "north"'
[[dimensions.segments]]
name = "south"
segment = 'region = "south"'
[[dimensions]]
name = "gender"
others = true
[[dimensions.segments]]
name = "women"
segment = 'gender = "f"'
[[cells]]
where = { region = "north", gender = "women" }
message = { subject = "North, women" }
[[cells]]
where = { region = "north" }
message = { subject = "North" }
[[cells]]
where = { region = "south", gender = "women" }
nothing = true
[[cells]]
where = { region = "south" }
message = { subject = "South" }
"#;
    let run = start(&engine, "kind = \"multi_segment\"", grid);
    until(&engine, run, "finished", |r| !r.state.is_live());
    balanced(&engine, run);
    let sizes: Vec<u64> = (10_000..10_003).map(|node| assigned(&engine, run, node).len()).collect();
    let count = |wanted: &dyn Fn(u32) -> bool| (0..PEOPLE).filter(|i| wanted(*i)).count() as u64;
    let expected = [
        count(&|i| i % 2 == 0 && i % 3 == 0),
        count(&|i| i % 2 == 0 && i % 3 != 0),
        count(&|i| i % 2 == 1 && i % 3 != 0),
    ];
    assert_eq!(sizes, expected, "north women, north others, south others");
    let ledger = report(&engine, run).ledger;
    assert_eq!(ledger.accepted, expected.iter().sum::<u64>(), "{ledger:?}");
    assert_eq!(ledger.skipped_by["no_message"], count(&|i| i % 2 == 1 && i % 3 == 0), "{ledger:?}");
    assert!(ledger.balanced, "{ledger:?}");
}

#[test]
fn who_did_not_open_is_followed_up_once_and_opt_outs_are_not() {
    let engine = engine();
    let follow_up = "[follow_up]\non = \"not_opened\"\nafter = \"3s\"\n[follow_up.message]\nsubject = \"Again\"\n";
    let run = start(&engine, "", follow_up);
    until(&engine, run, "the first message is sent", |r| r.deliveries[0].accepted.len() == 2_000);
    happened(&engine, run, 0, 0..300, TrackedKind::Opened);
    let fact = Fact::Suppressed(Suppressed {
        channel: None,
        reason: SuppressReason::Manual,
        rows: RowSet::base(RoaringBitmap::from_iter([500, 501])),
        addresses: Vec::new(),
        at: engine.engine().book.now(),
    });
    engine.engine().book.commit_durable(&fact).unwrap();
    until(&engine, run, "finished", |r| !r.state.is_live());
    balanced(&engine, run);
    let report = report(&engine, run);
    assert_eq!(report.deliveries.len(), 2, "the follow-up is a delivery of its own");
    let second = &report.deliveries[1].ledger;
    assert_eq!((second.audience, second.accepted), (1_700, 1_698), "{second:?}");
    assert_eq!(second.skipped_by["suppressed"], 2, "{second:?}");
    assert!(report.ledger.balanced && second.balanced, "{report:?}");
}
