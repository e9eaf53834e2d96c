//! Imports through the port: options, reports, what a kill leaves.

use std::fs;

use estafette::api::errors::Code;
use estafette::api::port::{ContactsPort, ImportOptions, ImportState};

use crate::harness::{TestEngine, import_options, page};

const PEOPLE: &str = "id,email,Age,unsubscribed\n\
    1,ann@x.test,31,\n\
    2,bob@x.test,28,true\n\
    3,not an address,44,\n\
    1,ann@y.test,32,\n";

fn subscribing() -> ImportOptions {
    ImportOptions { list: Some("people".into()), subscribe: vec!["email:news".into()], ..import_options("id") }
}

#[test]
fn a_file_becomes_contacts_with_list_and_consent() {
    let engine = TestEngine::without_connectors();
    let port = &engine.adapter;
    let report = engine.import(subscribing(), PEOPLE);
    assert_eq!(report.state, ImportState::Finished, "{report:?}");
    assert_eq!((report.accepted, report.merged, report.rejected), (2, 1, 1), "{report:?}");
    assert_eq!(report.rejected_by.values().sum::<u64>(), 1, "{:?}", report.rejected_by);
    assert_eq!((report.delimiter.as_deref(), report.encoding.as_deref()), (Some(","), Some("utf-8")), "told");
    assert_eq!(report.bytes_done, report.bytes_total, "all of it");
    let new: Vec<_> = report.columns.iter().filter(|c| c.new).map(|c| (c.name.as_str(), c.kind.as_str())).collect();
    assert_eq!(new, [("Age", "number")], "a new attribute, its type inferred");
    let rejected = fs::read_to_string(port.import_rejected(report.id).unwrap().unwrap()).unwrap();
    assert!(rejected.lines().nth(1).is_some_and(|l| l.starts_with("4,email,")), "{rejected}");

    let ann = port.contact("1").unwrap();
    assert_eq!(ann.fields["email"], "ann@y.test", "the newest row of a key wins");
    assert_eq!(ann.fields["attributes"]["age"], 32.0, "typed");
    assert_eq!(ann.lists, ["people"]);
    assert_eq!(ann.consent[0].status, "subscribed");
    assert_eq!(port.contact("2").unwrap().consent[0].status, "unsubscribed", "the file's own column");
    assert_eq!(port.list("people").unwrap().contacts, 2);

    let again = engine.import(subscribing(), PEOPLE);
    assert_eq!((again.accepted, again.merged, again.rejected), (0, 3, 1), "an upsert makes nobody new");
    assert_eq!(port.imports(&page(None, 1)).unwrap().items[0].id, again.id, "newest first");
    let second = port.imports(&page(port.imports(&page(None, 1)).unwrap().next, 1)).unwrap();
    assert_eq!((second.items[0].id, second.next), (report.id, None), "paged");
}

#[test]
fn a_dry_run_shows_columns_and_writes_nothing() {
    let engine = TestEngine::without_connectors();
    let port = &engine.adapter;
    let path = port.spool_path().unwrap();
    fs::write(&path, PEOPLE).unwrap();
    let report = port.start_import(ImportOptions { dry_run: true, ..subscribing() }, path.clone()).unwrap();
    assert!(report.dry_run && report.state == ImportState::Finished, "{report:?}");
    assert_eq!((report.accepted, report.rejected), (3, 1), "what would happen");
    assert!(report.columns.iter().any(|c| c.name == "Age" && c.new), "{:?}", report.columns);
    assert!(!path.exists(), "the upload is gone");
    assert_eq!(port.contact("1").unwrap_err().code, Code::ContactNotFound, "nobody was made");
    assert!(port.attributes().unwrap().iter().all(|a| a.name != "age"), "and no attribute");
    assert!(port.imports(&page(None, 10)).unwrap().items.is_empty(), "and no report");
}

#[test]
fn what_is_wrong_is_named_with_the_way_out() {
    let engine = TestEngine::without_connectors();
    let port = &engine.adapter;
    let cases: [(ImportOptions, &str, &str); 9] = [
        (import_options("id"), "name\nAnn\n", "\"id\""),
        (import_options("id"), "id\n", "no rows"),
        (import_options("id"), "id,a,a\n1,2,3\n", "\"a\" twice"),
        (ImportOptions { encoding: Some("ebcdic".into()), ..import_options("id") }, "id\n1\n", "utf-8"),
        (ImportOptions { duplicates: Some("best".into()), ..import_options("id") }, "id\n1\n", "newest"),
        (ImportOptions { subscribe: vec!["news".into()], ..import_options("id") }, "id\n1\n", "email:news"),
        (ImportOptions { subscribe: vec!["mail:news".into()], ..import_options("id") }, "id\n1\n", "email, sms"),
        (ImportOptions { types: [("a".into(), "int".into())].into(), ..import_options("id") }, "id,a\n1,2\n", "number"),
        (ImportOptions { list: Some(" ".into()), ..import_options("id") }, "id\n1\n", "list"),
    ];
    for (options, text, wanted) in cases {
        let path = port.spool_path().unwrap();
        fs::write(&path, text).unwrap();
        let refused = port.start_import(options, path).unwrap_err();
        assert_eq!(refused.code, Code::InvalidImport, "{refused:?}");
        assert!(refused.message.contains(wanted), "{:?} says {wanted:?}", refused.message);
    }
    assert_eq!(port.import(9).unwrap_err().code, Code::ImportNotFound);
}

#[test]
fn an_import_goes_on_after_a_kill() {
    let engine = TestEngine::without_connectors();
    let rows = 120_000;
    let text: String = std::iter::once("id,email\n".to_owned())
        .chain((0..rows).map(|row| format!("{row},a{row}@x.test\n")))
        .collect();
    let path = engine.adapter.spool_path().unwrap();
    fs::write(&path, text).unwrap();
    let id = engine.adapter.start_import(subscribing(), path).unwrap().id;
    let engine = engine.killed();
    let report = engine.imported(id);
    assert_eq!(report.state, ImportState::Finished, "{report:?}");
    assert_eq!((report.accepted, report.merged, report.rejected), (rows, 0, 0), "no row lost, none twice");
    assert_eq!(engine.adapter.list("people").unwrap().contacts, rows, "each in the list");
    let subscribed = engine.engine().book.read().consent.topic(estafette::ids::Channel::Email, "news").map(|t| t.subscribed.len());
    assert_eq!(subscribed, Some(rows), "each subscribed");
}
