//! Contacts, consent, lists, segments and suppressions through the port.

use estafette::api::errors::Code;
use estafette::api::port::{
    ContactInput, ContactsPort, ListChange, NewAttribute, NewList, NewSegment, NewSuppression, SegmentPreviewRequest,
    SuppressionFilter,
};
use estafette::ids::{Channel, ContactRow};
use estafette::ledger::{Fact, RowSet};
use serde_json::json;

use crate::harness::{TestEngine, import_options, page};

fn contact(value: serde_json::Value) -> ContactInput {
    serde_json::from_value(value).unwrap()
}

fn list(name: &str, contacts: &[&str], segment: Option<&str>) -> NewList {
    let contacts = contacts.iter().map(|key| (*key).to_owned()).collect();
    NewList { name: name.to_owned(), contacts, segment: segment.map(str::to_owned) }
}

fn segment(name: &str, expression: &str) -> NewSegment {
    NewSegment { name: name.to_owned(), expression: expression.to_owned() }
}

/// Three contacts: ann (31, FR), bob (28, DE), cid (no age).
fn three() -> TestEngine {
    let engine = TestEngine::without_connectors();
    let port = &engine.adapter;
    for (name, kind) in [("age", "number"), ("country", "text")] {
        port.add_attribute(NewAttribute { name: name.into(), kind: kind.into(), index: None }).unwrap();
    }
    for (key, attributes) in
        [("ann", json!({"age": 31, "country": "FR"})), ("bob", json!({"age": 28, "country": "DE"})), ("cid", json!({}))]
    {
        let body = json!({"email": format!("{key}@x.test"), "attributes": attributes});
        assert!(port.put_contact(key, contact(body)).unwrap().1, "{key} is new");
    }
    engine
}

#[test]
fn a_contact_is_written_changed_and_refused_field_by_field() {
    let engine = three();
    let port = &engine.adapter;
    let changed =
        port.patch_contact("ann", contact(json!({"phone": "+33612345678", "attributes": {"age": null}}))).unwrap();
    assert_eq!(changed.fields["phone"], "+33612345678");
    assert_eq!(changed.fields["attributes"], json!({"country": "FR"}), "null removes, the rest stays");
    let (put, created) = port.put_contact("ann", contact(json!({"email": "ANN@Y.test", "active": false}))).unwrap();
    assert!(!created && !put.active, "replaced and deactivated");
    assert_eq!(put.fields["attributes"], json!({}), "a put removes what it does not name");
    assert_eq!(put.fields["email"], "ANN@y.test", "the domain in lower case");
    for (body, wanted) in [
        (json!({"email": "nobody"}), "email"),
        (json!({"attributes": {"age": "old"}}), "attributes.age"),
        (json!({"attributes": {"size": 1}}), "attributes.size"),
        (json!({"nickname": "A"}), "nickname"),
        (json!({"key": "bob"}), "bob"),
    ] {
        let refused = port.patch_contact("ann", contact(body)).unwrap_err();
        assert_eq!(refused.code, Code::InvalidContact, "{refused:?}");
        assert!(refused.message.contains(wanted), "{:?} names {wanted}", refused.message);
    }
    assert_eq!(port.patch_contact("eve", contact(json!({}))).unwrap_err().code, Code::ContactNotFound);
    let twice = port.add_attribute(NewAttribute { name: "age".into(), kind: "text".into(), index: None }).unwrap_err();
    assert_eq!(twice.code, Code::AttributeExists);
}

#[test]
fn consent_has_source_and_time_and_survives_a_kill() {
    let engine = three();
    let said = json!({"consent": {"email:news": "subscribed", "sms:a:b": "unsubscribed"}, "consent_source": "form 7"});
    let view = engine.adapter.patch_contact("ann", contact(said)).unwrap();
    let told: Vec<_> = view.consent.iter().map(|c| (c.channel.as_str(), c.topic.as_str(), c.status.as_str())).collect();
    assert_eq!(told, [("email", "news", "subscribed"), ("sms", "a:b", "unsubscribed")]);
    assert!(view.consent.iter().all(|c| c.source.as_deref() == Some("form 7") && c.at.is_some()), "{:?}", view.consent);
    let out = json!({"consent": {"email:news": "unsubscribed"}});
    engine.adapter.patch_contact("ann", contact(out.clone())).unwrap();
    engine.adapter.patch_contact("ann", contact(out)).unwrap();
    let engine = engine.killed();
    let view = engine.adapter.contact("ann").unwrap();
    assert_eq!(view.consent[0].status, "unsubscribed", "{:?}", view.consent);
    let export = engine.adapter.export_contact("ann").unwrap();
    assert_eq!(export["consent_history"].as_array().unwrap().len(), 3, "every change once: {export}");
    for (body, wanted) in [
        (json!({"consent": {"news": "subscribed"}}), "email:news"),
        (json!({"consent": {"email:": "subscribed"}}), "topic"),
        (json!({"consent": {"email:news": "maybe"}}), "maybe"),
    ] {
        let refused = engine.adapter.patch_contact("ann", contact(body)).unwrap_err();
        assert_eq!(refused.code, Code::InvalidConsent, "{refused:?}");
        assert!(refused.message.contains(wanted), "{:?} says {wanted:?}", refused.message);
    }
}

#[test]
fn an_erased_contact_leaves_a_suppressed_address_and_nothing_else() {
    let engine = three();
    let port = &engine.adapter;
    port.patch_contact("ann", contact(json!({"phone": "+33612345678", "consent": {"email:news": "subscribed"}})))
        .unwrap();
    port.create_list(list("vip", &["ann", "bob"], None)).unwrap();
    let row = engine.engine().row_of("ann").unwrap();
    port.erase_contact("ann").unwrap();
    assert_eq!(port.contact("ann").unwrap_err().code, Code::ContactNotFound);
    assert_eq!(port.erase_contact("ann").unwrap_err().code, Code::ContactNotFound, "twice is told");
    assert_eq!(port.list("vip").unwrap().contacts, 1, "out of lists");
    let kept = port.suppressions(&SuppressionFilter::default(), &page(None, 10)).unwrap().items;
    let kept: Vec<_> = kept.iter().map(|s| (s.channel.as_deref(), s.reason.as_str(), s.contact.as_deref())).collect();
    assert_eq!(kept, [(Some("email"), "erased", None), (Some("sms"), "erased", None)], "one entry an address");

    let engine = engine.killed();
    engine.import(import_options("id"), "id,email\nann,ann@x.test\n");
    let back = engine.adapter.contact("ann").unwrap();
    assert_eq!(back.suppressed, ["erased"], "an import of an old file does not bring the address back into the mail");
    assert!(back.consent.is_empty() && back.lists.is_empty(), "nor anything of the past");
    assert_ne!(engine.engine().row_of("ann").unwrap(), row, "rows are never used again");
}

#[test]
fn an_erasure_that_a_kill_cut_short_is_completed() {
    let engine = three();
    let row = engine.engine().row_of("bob").unwrap();
    let rows = RowSet::base([row.0].into_iter().collect());
    // The journal has it, and the store has not heard of it yet.
    engine.engine().book.commit_durable(&Fact::ContactsErased { rows }).unwrap();
    let engine = engine.killed();
    assert_eq!(engine.adapter.contact("bob").unwrap_err().code, Code::ContactNotFound, "erased at start");
    assert!(engine.engine().store.reader().unwrap().record(ContactRow(row.0)).unwrap().is_none(), "the record too");
    assert!(engine.adapter.contact("ann").is_ok(), "nobody else");
}

#[test]
fn a_consent_that_a_kill_kept_from_the_history_is_completed() {
    let engine = three();
    let row = engine.engine().row_of("bob").unwrap();
    let changed = estafette::ledger::facts::ConsentChanged {
        channel: Channel::Email,
        topic: "news".into(),
        status: estafette::contacts::ConsentStatus::Subscribed,
        rows: RowSet::base([row.0].into_iter().collect()),
        source: "form".into(),
        at: estafette::clock::Timestamp(1_700_000_000_000),
    };
    engine.engine().book.commit_durable(&Fact::ConsentChanged(changed)).unwrap();
    let engine = engine.killed();
    let consent = engine.adapter.contact("bob").unwrap().consent;
    assert_eq!(consent[0].source.as_deref(), Some("form"), "{consent:?}");
    let engine = engine.killed();
    let export = engine.adapter.export_contact("bob").unwrap();
    assert_eq!(export["consent_history"].as_array().unwrap().len(), 1, "and not twice: {export}");
}

#[test]
fn lists_are_made_changed_paged_and_protected() {
    let engine = three();
    let port = &engine.adapter;
    let made = port.create_list(list(" vip ", &["ann"], Some("age < 30"))).unwrap();
    assert_eq!((made.name.as_str(), made.contacts, made.source.as_str()), ("vip", 2, "segment"), "{made:?}");
    assert_eq!(port.create_list(list("vip", &[], None)).unwrap_err().code, Code::ListExists);
    assert_eq!(port.create_list(list(" ", &[], None)).unwrap_err().code, Code::InvalidList);
    let unknown = port.create_list(list("x", &["ann", "eve"], None)).unwrap_err();
    assert_eq!((unknown.code, &unknown.details["unknown_keys"]), (Code::InvalidList, &json!(["eve"])));
    let change = ListChange { add: vec!["cid".into(), "ann".into(), "eve".into()], remove: vec!["bob".into()] };
    let done = port.change_list("vip", change).unwrap();
    assert_eq!((done.added, done.removed, done.unknown, done.contacts), (1, 1, 1, 2), "{done:?}");
    let first = port.list_contacts("vip", &page(None, 1)).unwrap();
    let second = port.list_contacts("vip", &page(first.next.clone(), 1)).unwrap();
    assert_eq!(
        (first.items, second.items, second.next),
        (vec!["ann".to_owned()], vec!["cid".to_owned()], None),
        "paged"
    );
    assert_eq!(port.list_contacts("vip", &page(Some("x".into()), 1)).unwrap_err().code, Code::InvalidCursor);

    port.create_segment(segment("of vip", "in list \"vip\"")).unwrap();
    let refused = port.delete_list("vip").unwrap_err();
    assert_eq!(refused.code, Code::ListInUse, "{refused:?}");
    assert!(refused.message.contains("of vip"), "{}", refused.message);
    port.delete_segment("of vip").unwrap();
    let spec = r#"{"version":1,"spec":{"name":"spring","audience":{"list":"vip"}}}"#;
    engine.engine().save_campaign(None, spec).unwrap();
    let refused = port.delete_list("vip").unwrap_err();
    assert!(refused.message.contains("spring"), "a draft uses it: {}", refused.message);
    let other = port.create_list(list("other", &[], None)).unwrap();
    port.delete_list("other").unwrap();
    assert_eq!(port.list("other").unwrap_err().code, Code::ListNotFound);
    let again = port.create_list(list("other", &[], None)).unwrap();
    assert_ne!((made.id, other.id), (again.id, again.id), "numbers are not used again");
    let engine = engine.killed();
    assert_eq!(engine.adapter.list("vip").unwrap().id, made.id, "and outlive a kill");
}

#[test]
fn segments_are_checked_counted_and_protected() {
    let engine = three();
    let port = &engine.adapter;
    let adults = port.create_segment(segment("adults", "age >= 30")).unwrap();
    port.create_segment(segment("french", "in segment \"adults\" and country = \"FR\"")).unwrap();
    let preview =
        |expression: &str| port.preview_segment(SegmentPreviewRequest { expression: expression.into(), sample: 5 });
    let found = preview("in segment \"french\" or country = \"DE\"").unwrap();
    let keys: Vec<_> = found.sample.iter().map(|c| c.key.as_str()).collect();
    assert_eq!((found.count, keys), (2, vec!["ann", "bob"]));
    let scanned = preview("email contains \"ann\"").unwrap();
    assert_eq!((scanned.count, scanned.scans.len()), (1, 1), "a scan is told: {:?}", scanned.scans);
    for (expression, code) in [
        ("agee > 3", "segment_unknown_attribute"),
        ("age > ", "segment_syntax"),
        ("in list \"nope\"", "segment_unknown_list"),
        ("in segment \"nope\"", "segment_unknown_segment"),
    ] {
        let refused = preview(expression).unwrap_err();
        assert_eq!(refused.code, Code::InvalidSegment, "{refused:?}");
        assert_eq!(refused.details["faults"][0]["code"], code, "{refused:?}");
        let refused = port.create_segment(segment("bad", expression)).unwrap_err();
        assert_eq!(refused.details["faults"][0]["code"], code, "saved neither: {refused:?}");
    }
    let cycle = port.update_segment("adults", "in segment \"french\"").unwrap_err();
    assert_eq!(cycle.details["faults"][0]["code"], "segment_cycle", "{cycle:?}");
    let itself = port.create_segment(segment("me", "not in segment \"me\"")).unwrap_err();
    assert_eq!(itself.details["faults"][0]["code"], "segment_cycle", "{itself:?}");
    let used = port.delete_segment("adults").unwrap_err();
    assert_eq!(used.code, Code::SegmentInUse, "{used:?}");
    let updated = port.update_segment("adults", "age > 20").unwrap();
    assert_eq!((updated.id, updated.created_at), (adults.id, adults.created_at), "the same segment");
    assert_eq!(preview("in segment \"adults\"").unwrap().count, 2, "in force at once");
    assert_eq!(port.update_segment("nope", "age > 1").unwrap_err().code, Code::SegmentNotFound);
    assert_eq!(port.create_segment(segment("adults", "age > 1")).unwrap_err().code, Code::SegmentExists);
    port.delete_segment("french").unwrap();
    port.delete_segment("adults").unwrap();
}

#[test]
fn suppressions_come_by_contact_address_and_hash_and_no_address_is_shown() {
    let engine = three();
    let port = &engine.adapter;
    let by =
        |contact: Option<&str>, address: Option<&str>, channel: Option<&str>, reason: Option<&str>| NewSuppression {
            contact: contact.map(str::to_owned),
            address: address.map(str::to_owned),
            channel: channel.map(str::to_owned),
            reason: reason.map(str::to_owned),
            ..NewSuppression::default()
        };
    let entries = vec![
        by(Some("ann"), None, None, None),
        by(None, Some("Bob@X.test"), Some("email"), Some("complaint")),
        by(None, Some("stranger@z.test"), Some("email"), Some("imported")),
    ];
    let added = port.add_suppressions(entries.clone()).unwrap();
    assert_eq!((added.added, added.present), (3, 0));
    let again = port.add_suppressions(entries).unwrap();
    assert_eq!((again.added, again.present), (0, 3), "those that are there already");
    assert_eq!(port.contact("ann").unwrap().suppressed, ["manual"]);
    assert_eq!(port.contact("bob").unwrap().suppressed, ["complaint"], "by address, whatever its case");

    for (bad, wanted) in [
        (NewSuppression::default(), "exactly one"),
        (by(None, Some("a@x.test"), None, None), "channel"),
        (by(None, Some("nobody"), Some("email"), None), "address"),
        (by(Some("eve"), None, None, None), "eve"),
        (by(Some("ann"), None, Some("fax"), None), "fax"),
        (by(Some("ann"), None, None, Some("whim")), "whim"),
    ] {
        let refused = port.add_suppressions(vec![by(Some("cid"), None, None, None), bad]).unwrap_err();
        assert_eq!(refused.code, Code::InvalidSuppression, "{refused:?}");
        assert!(refused.message.contains("entry 1") && refused.message.contains(wanted), "{}", refused.message);
    }
    assert!(port.contact("cid").unwrap().suppressed.is_empty(), "all or nothing");

    let engine = engine.killed();
    let port = &engine.adapter;
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let found = port.suppressions(&SuppressionFilter::default(), &page(after, 1)).unwrap();
        all.extend(found.items);
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), 3, "each once: {all:?}");
    assert!(!format!("{all:?}").contains('@'), "no address");
    let only = SuppressionFilter { reason: Some("complaint".into()), ..SuppressionFilter::default() };
    assert_eq!(port.suppressions(&only, &page(None, 9)).unwrap().items.len(), 1, "filtered");
    let stranger = all.iter().find(|s| s.reason == "imported").unwrap();
    port.remove_suppression(stranger.id).unwrap();
    assert_eq!(port.remove_suppression(stranger.id).unwrap_err().code, Code::SuppressionNotFound, "gone");
    let hash = NewSuppression {
        address_hash: stranger.address_hash.clone(),
        channel: stranger.channel.clone(),
        ..by(None, None, None, None)
    };
    assert_eq!(port.add_suppressions(vec![hash]).unwrap().added, 1, "and back from an export");
    let ann = all.iter().find(|s| s.contact.as_deref() == Some("ann")).unwrap();
    port.remove_suppression(ann.id).unwrap();
    assert!(port.contact("ann").unwrap().suppressed.is_empty(), "removed by its number");
}
