//! Delays that wait for events of the sender's own.

use super::*;
use crate::ledger::events::{Behaved, CustomPart, day_of};

/// start → send → delay for `wait` → an end each.
fn waiting_for(wait: &str) -> String {
    parting("5d").replace("split_on_open = \"5d\"\nexits = { opened = \"x\", not_opened = \"y\" }", "then = \"did\"")
        + &format!(
            "[[nodes]]\nid = \"did\"\nkind = \"delay\"\nevent = \"custom\"\n{wait}\ntimeout = \"5d\"\n\
             exits = {{ happened = \"x\", timed_out = \"y\" }}\n"
        )
}

fn about_the_mail(name: &str, rows: std::ops::Range<u32>) -> Fact {
    let (delivery, send, total) = (DeliveryId { run: RUN, index: 0 }, ids::of_text("mail"), 1);
    let custom = vec![CustomPart { delivery, send, name: name.to_owned(), rows: rows.clone().collect(), total }];
    let behaved = vec![Behaved { name: name.to_owned(), day: day_of(AT), rows: rows.collect() }];
    Fact::EventsReceived(Box::new(EventsReceived { custom, behaved, at: AT, ..EventsReceived::default() }))
}

fn of_contacts(name: &str, days_ago: i32, rows: std::ops::Range<u32>) -> Fact {
    let behaved = vec![Behaved { name: name.to_owned(), day: day_of(AT) - days_ago, rows: rows.collect() }];
    Fact::EventsReceived(Box::new(EventsReceived { behaved, at: AT, ..EventsReceived::default() }))
}

#[test]
fn an_event_about_a_message_or_any_of_the_contact_ends_the_wait() {
    for (wait, early, late) in [("type = \"cart\"\nof = \"mail\"", 10, 30), ("type = \"cart\"", 30, 60)] {
        let mut walk = Walk::new(&waiting_for(wait), 100);
        let at = |walk: &Walk, id| walk.run().positions.count(ids::of_text(id));
        walk.settle();
        // Before anybody waits: the message is on the wire.
        walk.take(about_the_mail("cart", 0..10));
        walk.take(of_contacts("cart", 0, 10..30));
        walk.take(of_contacts("cart", 1, 90..100));
        walk.take(about_the_mail("other", 80..90));
        walk.accept((0..100).collect());
        walk.settle();
        assert_eq!((at(&walk, "x"), at(&walk, "y")), (early, 0), "{wait}: what came since the run began has happened");
        walk.take(about_the_mail("cart", 30..50));
        walk.take(of_contacts("cart", 0, 50..60));
        walk.settle();
        assert_eq!(at(&walk, "x"), late, "{wait}: what comes ends the wait");
        walk.settle_at(Timestamp(AT.0 + 6 * 24 * 3_600_000));
        assert_eq!((at(&walk, "x"), at(&walk, "y")), (late, 100 - late), "{wait}: the others at the time-out");
        let read = crate::ledger::snapshot::decode(&crate::ledger::snapshot::encode(&walk.state).expect("bytes"));
        assert_eq!(read.expect("reads"), walk.state, "{wait}: a snapshot holds it");
    }
}
