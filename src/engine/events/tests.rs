//! Events against a whole engine: each rule once, with its refusal.

use super::*;
use crate::clock::Clock;
use crate::engine::testbase::TestEngine;
use crate::ids::{ContactRow, MessageId, RowSpace, RunId};
use crate::ledger::Run;
use crate::ledger::events::Feedback;

const DAY: i64 = 86_400_000;

fn event(id: &str, kind: EventKind) -> Event {
    let (contact, message_id, campaign, channel, at) = (None, None, None, None, None);
    let (id, properties, worth) = (id.into(), Vec::new(), None);
    Event { id, kind, contact, message_id, campaign, channel, at, properties, worth }
}

fn of_contact(id: &str, kind: EventKind, key: &str) -> Event {
    Event { contact: Some(key.into()), ..event(id, kind) }
}

struct Bench {
    test: TestEngine,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(contacts: u32) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let test = TestEngine::open(folder.path());
        for number in 0..contacts {
            test.contact(&format!("c{number}"));
        }
        Bench { test, _folder: folder }
    }

    fn sent(&self) -> RunId {
        let run = self.test.start(serde_json::json!({}));
        self.test.until_finished(run);
        run
    }

    /// The Message-ID of what a contact got.
    fn message_id(&self, run: RunId, row: u32) -> String {
        let (space, message) = (RowSpace::BASE, MessageId(0));
        let id = crate::content::TokenId { space, run, message, row: ContactRow(row) };
        format!("<{}@x.test>", self.test.engine.tokens.make_return_path(id).as_str())
    }

    fn row(&self, key: &str) -> u32 {
        self.test.engine.row_of(key).expect("a contact").0
    }

    fn take(&self, events: &[Event]) -> Vec<Taken> {
        self.test.engine.take_events(events).expect("taken")
    }

    fn one(&self, event: Event) -> Taken {
        self.take(&[event]).remove(0)
    }

    fn run<T>(&self, run: RunId, read: impl FnOnce(&Run) -> T) -> T {
        read(&self.test.engine.book.read().runs[&run])
    }

    fn feedback(&self, run: RunId) -> Feedback {
        self.run(run, |run| run.feedback_on(0))
    }

    /// By contact, or by the address that the contact has.
    fn is_suppressed(&self, reason: SuppressReason, row: u32) -> bool {
        suppressed(&self.test.engine, reason, row)
    }
}

fn suppressed(engine: &Engine, reason: SuppressReason, row: u32) -> bool {
    let reader = engine.store.reader().expect("a reader");
    let record = reader.record(ContactRow(row)).expect("read").expect("a contact");
    let hash = engine.store.address_hash(Channel::Email, record.address(Channel::Email).expect("an address"));
    let suppression = &engine.book.read().suppression;
    let by_address = suppression.address_entry(Some(Channel::Email), hash).is_some_and(|entry| entry.reason == reason);
    by_address || suppression.row_entry(Some(Channel::Email), reason, row)
}

const HARD: EventKind = EventKind::Bounced(BounceClass::Hard);
const SOFT: EventKind = EventKind::Bounced(BounceClass::Soft);
const BOUGHT: EventKind = EventKind::Converted(EventClass::Human);

#[test]
fn a_message_id_names_run_and_contact_and_a_forged_one_suppresses_nobody() {
    let bench = Bench::new(6);
    let run = bench.sent();
    let (row, other) = (bench.row("c1"), bench.row("c2"));
    let id = bench.message_id(run, row);
    let mut forged = id.clone();
    forged.replace_range(5..6, if &id[5..6] == "a" { "b" } else { "a" });
    let with = |name: &str, message_id: &str| Event { message_id: Some(message_id.into()), ..event(name, HARD) };
    for text in [forged.as_str(), "<x@y.test>", "bounce+aaaa@b.test", ""] {
        assert_eq!(bench.one(with("f", text)), Taken::Refused(EventFault::ForeignMessage), "{text:?}");
    }
    assert!(!bench.is_suppressed(SuppressReason::HardBounce, row), "a forged bounce suppresses nobody");
    let by_contact = Event { contact: Some("c2".into()), ..with("o", &id) };
    assert_eq!(bench.one(by_contact), Taken::Refused(EventFault::OtherContact { key: "c2".into() }), "not theirs");
    assert_eq!(bench.one(with("h", &id.to_uppercase())), Taken::Accepted, "mail systems may fold the case");
    assert!(bench.is_suppressed(SuppressReason::HardBounce, row), "a true one does");
    assert!(!bench.is_suppressed(SuppressReason::HardBounce, other), "and nobody else");
    assert_eq!(bench.feedback(run).hard.rows.iter().collect::<Vec<_>>(), [row], "and counts");
    bench.run(run, |run| assert_eq!(run.deliveries[0].accepted.len(), 6, "accepted is final in the ledger"));
}

#[test]
fn an_id_counts_once_in_one_request_and_in_later_ones() {
    let bench = Bench::new(2);
    let run = bench.sent();
    let bought = |id: &str| Event { campaign: Some("spring".into()), ..of_contact(id, BOUGHT, "c0") };
    let taken = bench.take(&[bought("1"), bought("1"), bought("2")]);
    assert_eq!(taken, [Taken::Accepted, Taken::Duplicate, Taken::Accepted], "within a request");
    assert_eq!(bench.one(bought("1")), Taken::Duplicate, "and later");
    let elsewhere = of_contact("2", HARD, "c1");
    assert_eq!(bench.one(elsewhere), Taken::Duplicate, "whatever else it says");
    assert!(!bench.is_suppressed(SuppressReason::HardBounce, bench.row("c1")), "it changes nothing");
    assert_eq!(
        bench.one(of_contact("3", BOUGHT, "nobody")),
        Taken::Refused(EventFault::NoContact { key: "nobody".into() })
    );
    bench.test.contact("nobody");
    assert_eq!(bench.one(of_contact("3", BOUGHT, "nobody")), Taken::Accepted, "what was refused may come again");
    let feedback = bench.feedback(run);
    assert_eq!((feedback.converted.unique(EventClass::Human), feedback.converted.total(EventClass::Human)), (1, 2));
    let state = bench.test.engine.book.read();
    let bought = state.events.behaviour.get("converted").expect("remembered");
    let row = state.runs[&run].deliveries[0].accepted.min().unwrap_or(0);
    assert_eq!((bought.total(), bought.count_of(row)), (3, 2), "per contact, too");
}

#[test]
fn what_an_event_names_must_be_there_and_agree() {
    let bench = Bench::new(3);
    let run = bench.sent();
    bench.test.contact("late");
    let spring = Some("spring".to_owned());
    let id = Some(bench.message_id(run, bench.row("c0")));
    let refused = |event: Event| match bench.one(event) {
        Taken::Refused(fault) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(event("1", HARD)), EventFault::NoSubject);
    assert_eq!(refused(of_contact("1", EventKind::Delivered, "c0")), EventFault::NoMessage);
    let no_campaign = Event { campaign: Some("autumn".into()), ..of_contact("1", HARD, "c0") };
    assert_eq!(refused(no_campaign), EventFault::NoCampaign { name: "autumn".into() });
    let not_sent = Event { campaign: spring.clone(), ..of_contact("1", HARD, "late") };
    assert_eq!(refused(not_sent), EventFault::NotSent);
    assert!(!bench.is_suppressed(SuppressReason::HardBounce, bench.row("late")), "nothing follows from it");
    let draft = crate::campaigns::parse("name = \"draft\"", crate::campaigns::Format::Toml).expect("it parses");
    bench.test.engine.save_campaign(None, &crate::campaigns::parse::to_stored(&draft)).expect("saved");
    let other = Event { campaign: Some("draft".into()), message_id: id.clone(), ..event("1", HARD) };
    assert_eq!(refused(other), EventFault::OtherCampaign { name: "draft".into() });
    let no_run = Event { campaign: Some("draft".into()), ..of_contact("1", HARD, "c0") };
    assert_eq!(refused(no_run), EventFault::NotSent);
    let now = bench.test.engine.book.now();
    let at = |days: i64| Event { at: Some(Timestamp(now.0 + days * DAY)), ..of_contact("1", BOUGHT, "c0") };
    assert_eq!((refused(at(2)), refused(at(-401))), (EventFault::Future, EventFault::TooOld));
    let all = Event { campaign: Some("1".into()), contact: Some("c0".into()), message_id: id, ..event("1", HARD) };
    assert_eq!(bench.one(all), Taken::Accepted, "by number, and all agree");
}

#[test]
fn events_come_before_the_outcome_and_after_the_end() {
    let bench = Bench::new(40);
    // Nobody can have got anything, and then everybody.
    let run = bench.test.start(serde_json::json!({"limits": {"messages_per_second": 1}}));
    let waiting = bench.run(run, |run| run.deliveries[0].pending.max().unwrap_or(0));
    let early = Event { message_id: Some(bench.message_id(run, waiting)), ..event("early", EventKind::Delivered) };
    assert_eq!(bench.one(early.clone()), Taken::Refused(EventFault::NotSent), "nothing has left for this contact");
    bench.test.engine.command(run, crate::campaigns::Trigger::Stop).expect("stopping");
    bench.test.until("it is stopped", |engine| !engine.book.read().runs[&run].state.is_live());
    let left = bench.run(run, |run| run.deliveries[0].accepted.clone());
    for row in &left {
        let after =
            Event { message_id: Some(bench.message_id(run, row)), ..event(&format!("d{row}"), EventKind::Delivered) };
        assert_eq!(bench.one(after), Taken::Accepted, "after the end");
    }
    assert_eq!(bench.feedback(run).delivered.rows, left, "all that left");
    assert_eq!(bench.one(early), Taken::Refused(EventFault::NotSent), "it was skipped by the stop");
}

#[test]
fn complaints_suppress_contact_and_address_on_the_channel() {
    let bench = Bench::new(3);
    let run = bench.sent();
    let complaint =
        Event { message_id: Some(bench.message_id(run, bench.row("c1"))), ..event("1", EventKind::Complained) };
    assert_eq!(bench.one(complaint), Taken::Accepted);
    assert!(bench.is_suppressed(SuppressReason::Complaint, bench.row("c1")), "by contact");
    let engine = &bench.test.engine;
    let hash = engine.store.address_hash(Channel::Email, "c1@x.test");
    assert!(engine.book.read().suppression.address_entry(Some(Channel::Email), hash).is_some(), "and by address");
    assert!(engine.book.read().suppression.address_entry(Some(Channel::Sms), hash).is_none(), "on its channel");
    let second = bench.test.start(serde_json::json!({"name": "second"}));
    bench.test.until_finished(second);
    bench.run(second, |run| assert_eq!(run.counts().accepted, 2, "no other mail goes there"));
    assert_eq!(bench.one(of_contact("2", EventKind::Complained, "c2")), Taken::Accepted, "without a message, too");
    assert!(bench.is_suppressed(SuppressReason::Complaint, bench.row("c2")), "by contact");
}

#[test]
fn a_dead_address_is_dead_for_every_contact_that_has_it() {
    let bench = Bench::new(3);
    let twin = |key: &str, email: &str| {
        let input = serde_json::from_value(serde_json::json!({"key": key, "email": email})).expect("an input");
        bench.test.engine.put_contact(&input, &[], "test").expect("a contact").row.0
    };
    let (hard, soft) = (twin("d0", "c0@x.test"), twin("d1", "c1@x.test"));
    assert_eq!(bench.one(of_contact("1", HARD, "c0")), Taken::Accepted);
    assert!(bench.is_suppressed(SuppressReason::HardBounce, bench.row("c0")), "who bounced");
    assert!(bench.is_suppressed(SuppressReason::HardBounce, hard), "and who has the address");
    let now = bench.test.engine.clock.now();
    let at = |days: i64| Some(Timestamp(now.0 - days * DAY));
    let events: Vec<Event> = [20, 20, 10, 10, 0]
        .into_iter()
        .enumerate()
        .map(|(n, days)| Event { at: at(days), ..of_contact(&format!("s{n}"), SOFT, "c1") })
        .collect();
    bench.take(&events);
    assert!(bench.is_suppressed(SuppressReason::SoftBounces, bench.row("c1")), "who bounced too often");
    assert!(bench.is_suppressed(SuppressReason::SoftBounces, soft), "and who has the address");
    assert!(!bench.is_suppressed(SuppressReason::SoftBounces, bench.row("c2")), "and nobody else");
}

#[test]
fn soft_bounces_suppress_over_days_and_a_person_can_take_it_back() {
    let bench = Bench::new(3);
    let now = bench.test.engine.clock.now();
    let soft = |id: &str, days: i64| Event { at: Some(Timestamp(now.0 - days * DAY)), ..of_contact(id, SOFT, "c0") };
    let row = bench.row("c0");
    bench.take(&[soft("1", 20), soft("2", 20), soft("3", 10), soft("4", 10)]);
    assert!(!bench.is_suppressed(SuppressReason::SoftBounces, row), "four bounces on two days");
    bench.take(&[soft("5", 0)]);
    assert!(bench.is_suppressed(SuppressReason::SoftBounces, row), "the fifth, on the third day");
    bench.take(&(0..9).map(|n| Event { contact: Some("c1".into()), ..soft(&format!("b{n}"), 0) }).collect::<Vec<_>>());
    assert!(!bench.is_suppressed(SuppressReason::SoftBounces, bench.row("c1")), "nine on one day");
    let entries = bench.test.engine.suppressions(None, 10, |_, reason| reason == SuppressReason::SoftBounces);
    bench.test.engine.unsuppress(entries.expect("entries")[0].number).expect("taken back");
    bench.take(&[soft("6", 0)]);
    assert!(!bench.is_suppressed(SuppressReason::SoftBounces, row), "it begins to count anew");
}

#[test]
fn types_of_the_senders_own_are_counted_and_have_a_bound() {
    let bench = Bench::new(2);
    let custom = |id: &str, name: &str, key: &str| of_contact(id, EventKind::Custom(name.into()), key);
    let taken = bench.take(&[custom("1", "cart", "c0"), custom("2", "cart", "c0"), custom("3", "cart", "c1")]);
    assert_eq!(taken, [Taken::Accepted, Taken::Accepted, Taken::Accepted]);
    let many: Vec<Event> =
        (0..crate::limits::EVENT_TYPES_MAX).map(|n| custom(&format!("t{n}"), &format!("type{n}"), "c0")).collect();
    let refused = bench.take(&many).into_iter().filter(|taken| *taken != Taken::Accepted).collect::<Vec<_>>();
    let name = format!("type{}", crate::limits::EVENT_TYPES_MAX - 1);
    assert_eq!(refused, [Taken::Refused(EventFault::TooManyTypes { name })], "one too many");
    assert_eq!(bench.one(custom("4", "cart", "c1")), Taken::Accepted, "known ones go on");
    let state = bench.test.engine.book.read();
    let cart = state.events.behaviour.get("cart").expect("known");
    assert_eq!((cart.total(), cart.contacts().len()), (4, 2), "events and contacts");
    assert_eq!(cart.at_least(2).len(), 2, "a segment can read counts");
    assert_eq!(cart.since(day_of(bench.test.engine.clock.now()) - 1).len(), 2, "and days");
}

#[test]
fn a_restart_remembers_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let (bounced, before) = {
        let test = TestEngine::open(folder.path());
        let row = test.contact("c0").0;
        let taken = test.engine.take_events(&[of_contact("1", HARD, "c0"), of_contact("2", BOUGHT, "c0")]);
        assert_eq!(taken.expect("taken"), [Taken::Accepted, Taken::Accepted]);
        let before = test.engine.book.read().events.clone();
        test.engine.drain(std::time::Duration::from_secs(5)).expect("drained");
        (row, before)
    };
    let test = TestEngine::open(folder.path());
    assert_eq!(test.engine.book.read().events, before, "all of it");
    let again = test.engine.take_events(&[of_contact("1", HARD, "c0")]).expect("taken");
    assert_eq!(again, [Taken::Duplicate], "its id");
    assert!(suppressed(&test.engine, SuppressReason::HardBounce, bounced), "and what followed");
}

#[test]
fn a_new_address_is_no_dead_one_and_who_comes_to_a_dead_one_is_not_sent_to() {
    let bench = Bench::new(2);
    let with = |key: &str, email: &str| {
        let input = serde_json::from_value(serde_json::json!({"key": key, "email": email})).expect("an input");
        bench.test.engine.put_contact(&input, &[], "test").expect("a contact").row.0
    };
    let is = |reason, key: &str| bench.is_suppressed(reason, bench.row(key));
    assert_eq!(bench.one(of_contact("1", HARD, "c0")), Taken::Accepted);
    let now = bench.test.engine.clock.now();
    let soft = |n: usize, days: i64| Event {
        at: Some(Timestamp(now.0 - days * DAY)),
        ..of_contact(&format!("s{n}"), SOFT, "c1")
    };
    bench.take(&[20, 20, 10, 10, 0].into_iter().enumerate().map(|(n, days)| soft(n, days)).collect::<Vec<_>>());
    assert!(is(SuppressReason::HardBounce, "c0") && is(SuppressReason::SoftBounces, "c1"), "their addresses are");
    with("c0", "new0@x.test");
    with("c1", "new1@x.test");
    assert!(!is(SuppressReason::HardBounce, "c0"), "the new address has not bounced");
    assert_eq!(bench.one(Event { at: Some(now), ..soft(9, 0) }), Taken::Accepted);
    assert!(!is(SuppressReason::SoftBounces, "c1"), "what the old address did is not counted against the new one");
    with("late", "C0@x.test");
    assert!(is(SuppressReason::HardBounce, "late"), "a contact of later with the dead address");
    with("c0", "c0@x.test");
    assert!(is(SuppressReason::HardBounce, "c0"), "and who takes it back");
    let entries = bench.test.engine.suppressions(None, 10, |_, _| true).expect("entries");
    let told: Vec<_> = entries.iter().map(|entry| (entry.reason, entry.contact.clone())).collect();
    assert!(told.contains(&(SuppressReason::HardBounce, Some("c0".into()))), "lists say who has it: {told:?}");
    assert!(told.contains(&(SuppressReason::SoftBounces, None)), "nobody has this one now: {told:?}");
}

#[test]
fn an_event_is_of_the_run_that_had_begun_when_it_happened() {
    let bench = Bench::new(1);
    let first = bench.sent();
    let mut state = crate::ledger::State::clone(&bench.test.engine.book.read());
    let mut second = state.runs[&first].clone();
    let (campaign, began) = (second.campaign, second.started_at);
    (second.id, second.started_at) = (RunId(first.0 + 1), Timestamp(began.0 + DAY));
    let later = second.id;
    state.runs.insert(later, second);
    let of =
        |kind: &EventKind, at: i64| resolve::run_of(&state, campaign, kind, Timestamp(began.0 + at)).map(|run| run.id);
    assert_eq!(of(&BOUGHT, DAY / 2), Some(first), "between them: the first one's");
    assert_eq!(of(&BOUGHT, DAY), Some(later), "the latest");
    assert_eq!(of(&BOUGHT, DAY - 60_000), Some(later), "clocks differ a little");
    assert_eq!(of(&EventKind::Custom("cart".into()), -DAY), None, "of before both");
    assert_eq!(of(&BOUGHT, -DAY), None, "of before both");
    assert_eq!(of(&EventKind::Complained, -DAY), Some(later), "nobody is mailed again for a wrong clock");
}
