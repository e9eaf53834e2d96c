//! Splits of a running flow: exact, independent of each other, and assigned by what was journaled.

use roaring::RoaringBitmap;

use super::*;
use crate::campaigns::kinds::flow::ids;
use crate::campaigns::{self, Format};
use crate::ids::{BatchId, CampaignId, Channel};
use crate::ledger::batch::BootId;
use crate::ledger::events::{EventsReceived, FeedbackKind, FeedbackPart};
use crate::ledger::facts::{Claimed, DeliveryEntered, RunStarted, Settled};
use crate::ledger::flowing::Joined;
use crate::ledger::{Mode, Positions, State};

mod events;
mod looks;

const RUN: RunId = RunId(1);
const AT: Timestamp = Timestamp(1_795_000_000_000);

/// start → (send →) two splits in a row → an end per way out of the second.
fn spec(streams: bool) -> String {
    let first = if streams { "mail" } else { "one" };
    format!(
        r#"
name = "splits"
kind = "flow"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
text = "T"
[[nodes]]
id = "start"
kind = "start"
then = "{first}"
[[nodes]]
id = "mail"
kind = "send"
then = "one"
[[nodes]]
id = "one"
kind = "split"
weights = {{ a = 1, b = 1 }}
exits = {{ a = "two", b = "two" }}
[[nodes]]
id = "two"
kind = "split"
weights = {{ x = 3, y = 7 }}
exits = {{ x = "x", y = "y" }}
[[nodes]]
id = "x"
kind = "end"
[[nodes]]
id = "y"
kind = "end"
"#
    )
}

/// What is sent to all, at once.
const SINGLE: &str = r#"
name = "single"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
text = "T"
"#;

struct Walk {
    state: State,
    facts: Vec<Fact>,
}

impl Walk {
    fn of_splits(streams: bool, rows: u32) -> Walk {
        let mut text = spec(streams);
        if !streams {
            // Without the send nothing rests before the splits; one after them keeps the flow a flow.
            text = text.replace("exits = { x = \"x\", y = \"y\" }", "exits = { x = \"mail\", y = \"y\" }");
            text = text.replace("kind = \"send\"\nthen = \"one\"", "kind = \"send\"\nthen = \"x\"");
        }
        Walk::new(&text, rows)
    }

    fn new(text: &str, rows: u32) -> Walk {
        let spec = campaigns::parse(text, Format::Toml).expect("parses");
        let compiled = campaigns::compile(&spec).expect("compiles");
        let mut walk = Walk { state: State::default(), facts: Vec::new() };
        walk.take(Fact::CampaignSaved { campaign: CampaignId(1), spec: spec.to_json(), at: AT });
        let entered = |_| DeliveryEntered {
            channel: Channel::Email,
            topic: "news".into(),
            connector: "relay".into(),
            mode: Mode::Strict,
            audience: RowSet::default(),
            skipped: Vec::new(),
            summary: None,
        };
        walk.take(Fact::RunStarted(Box::new(RunStarted {
            run: RUN,
            campaign: CampaignId(1),
            version: 1,
            graph: compiled.graph,
            deliveries: compiled.deliveries.iter().map(entered).collect(),
            at: AT,
            entrants: RowSet::base((0..rows).collect()),
        })));
        walk
    }

    fn take(&mut self, fact: Fact) {
        self.state.apply(&fact, BootId::default()).expect("fits");
        self.facts.push(fact);
    }

    fn run(&self) -> &Run {
        &self.state.runs[&RUN]
    }

    /// Moves everybody who can move.
    fn settle(&mut self) {
        self.settle_at(AT);
    }

    fn settle_at(&mut self, now: Timestamp) {
        while let Some(task) = next_task(self.run(), now) {
            let fact = match task {
                Task::Record(fact) => fact,
                Task::Share { run, node, rows, shares } => share_out(run, node, &rows, &shares, AT).expect("shares"),
                Task::Join { delivery, node, rows } => {
                    let rows = RowSet::base(rows);
                    Fact::Joined(Joined { delivery, node, rows, skipped: Vec::new(), at: AT })
                }
                other => panic!("nobody is asked: {other:?}"),
            };
            self.take(fact);
        }
    }

    fn accept(&mut self, rows: RoaringBitmap) {
        let (batch, delivery) = (BatchId(self.state.next_batch), DeliveryId { run: RUN, index: 0 });
        let positions = Positions::from_sorted(0..u32::try_from(rows.len()).expect("few"));
        let (connector, message) = ("relay".to_owned(), MessageId(0));
        let mut settled = Settled::new(batch, delivery, AT);
        settled.accepted = rows.clone();
        self.take(Fact::Claimed(Claimed {
            batch,
            delivery,
            connector,
            message,
            rows,
            positions,
            at: AT,
            domain: None,
        }));
        self.take(Fact::Settled(settled));
    }

    /// Rows that left a split by an exit, as journaled.
    fn left(&self, node: &str, exit: &str) -> RoaringBitmap {
        let node = ids::of_text(node);
        let moves = self.facts.iter().filter_map(|fact| match fact {
            Fact::Moved(moved) => Some(moved),
            Fact::Shared(shared) => Some(&shared.moved),
            _ => None,
        });
        let exits = moves.filter(|moved| moved.node == node).flat_map(|moved| &moved.exits);
        exits.filter(|(by, _)| by.name() == exit).fold(RoaringBitmap::new(), |all, (_, rows)| all | rows)
    }

    /// Pearson's chi-square of the four ways through both splits: 10.83 is exceeded once in a thousand independent pairs.
    fn chi_square(&self) -> f64 {
        let total = (self.left("one", "a").len() + self.left("one", "b").len()) as f64;
        let mut sum = 0.0;
        for first in ["a", "b"] {
            for second in ["x", "y"] {
                let (one, two) = (self.left("one", first), self.left("two", second));
                let expected = one.len() as f64 * two.len() as f64 / total;
                sum += (one.intersection_len(&two) as f64 - expected).powi(2) / expected;
            }
        }
        sum
    }
}

/// start → send that parts after `wait` by who opened → an end each.
fn parting(wait: &str) -> String {
    let head = spec(true).split("[[nodes]]").next().unwrap_or_default().to_owned();
    format!(
        r#"{head}
[[nodes]]
id = "start"
kind = "start"
then = "mail"
[[nodes]]
id = "mail"
kind = "send"
split_on_open = "{wait}"
exits = {{ opened = "x", not_opened = "y" }}
[[nodes]]
id = "x"
kind = "end"
[[nodes]]
id = "y"
kind = "end"
"#
    )
}

/// The two cases of Pushwoosh's guide: five days for a mail, thirty minutes for a flight that has changed.
#[test]
fn who_opens_leaves_at_the_open_and_the_others_at_the_time_out() {
    for (wait, minutes) in [("5d", 5 * 24 * 60), ("30m", 30)] {
        let mut walk = Walk::new(&parting(wait), 100);
        let (minute, at) = (60_000, |id: &str, walk: &Walk| walk.run().positions.count(ids::of_text(id)));
        walk.settle();
        walk.accept((0..100).collect());
        walk.settle();
        let opened = |rows: std::ops::Range<u32>, class| {
            Fact::Tracked(crate::ledger::tracking::Tracked {
                run: RUN,
                message: MessageId(0),
                kind: crate::ledger::tracking::TrackedKind::Opened,
                class,
                total: u64::from(rows.end - rows.start),
                rows: rows.collect(),
                was: None,
                at: AT,
            })
        };
        walk.take(opened(0..30, crate::ledger::tracking::EventClass::Human));
        walk.take(opened(30..40, crate::ledger::tracking::EventClass::Machine));
        walk.settle_at(Timestamp(AT.0 + minute));
        assert_eq!((at("x", &walk), at("y", &walk)), (30, 0), "{wait}: people who opened have left, machines have not");
        walk.settle_at(Timestamp(AT.0 + minutes * minute - 1));
        assert_eq!(at("y", &walk), 0, "{wait}: nobody leaves early");
        // Rounded up, so that few sets wait: to five minutes and to ten seconds.
        let late = if minutes > 60 { 5 * minute } else { minute / 6 };
        walk.settle_at(Timestamp(AT.0 + minutes * minute + late));
        assert_eq!((at("x", &walk), at("y", &walk)), (30, 70), "{wait}: the others at the time-out");
        walk.take(opened(50..60, crate::ledger::tracking::EventClass::Human));
        walk.settle_at(Timestamp(AT.0 + 2 * minutes * minute));
        assert_eq!(at("x", &walk), 30, "{wait}: who opens too late stays where they are");
    }
}

/// A message that is on the wire when a pause begins is answered in it.
#[test]
fn a_wait_that_begins_in_a_pause_does_not_count_from_its_end() {
    let follow_up = format!("{SINGLE}[follow_up]\nafter = \"5d\"\n[follow_up.message]\nsubject = \"Again\"\n");
    let cases = [
        (parting("5d"), ids::of_text("mail.split_on_open"), ids::of_text("y")),
        (follow_up, NodeId(1_000), NodeId(900)),
    ];
    for (text, wait, behind) in cases {
        let mut walk = Walk::new(&text, 100);
        walk.settle();
        walk.accept((0..50).collect());
        let moved = |to, at| Fact::RunMoved { run: RUN, to, reason: String::new(), at };
        walk.take(moved(RunState::Paused, AT));
        walk.accept((50..100).collect());
        walk.settle();
        assert_eq!(walk.run().flow.scheduled_count(wait), 100, "all have their time, paused or not");
        let later = Timestamp(AT.0 + 6 * 24 * 3_600_000);
        walk.settle_at(later);
        assert_eq!(walk.run().positions.count(wait), 100, "nobody moves on in the pause");
        walk.take(moved(RunState::Running, later));
        walk.settle_at(later);
        assert_eq!(walk.run().positions.count(behind), 100, "five days after the answer were over in the pause");
    }
}

#[test]
fn a_set_at_once_is_shared_exactly_and_two_splits_are_independent() {
    let mut walk = Walk::of_splits(false, 10_001);
    walk.settle();
    assert_eq!((walk.left("one", "a").len(), walk.left("one", "b").len()), (5_001, 5_000), "halves");
    let (x, y) = (walk.left("two", "x").len(), walk.left("two", "y").len());
    assert_eq!((x, x + y), (3_000, 10_001), "each arriving set by largest remainder");
    assert!(walk.run().flow.streams.is_empty(), "who comes whole is no stream");
    assert!(walk.chi_square() < 10.83, "the splits hang together: {}", walk.chi_square());
}

#[test]
fn one_contact_at_a_time_is_shared_exactly_at_each_blocks_end_and_independently() {
    let mut walk = Walk::of_splits(true, 2_000);
    walk.settle();
    for row in 0..2_000 {
        walk.accept(RoaringBitmap::from_iter([row]));
        walk.settle();
        if (row + 1) % 100 == 0 {
            let half = u64::from(row + 1) / 2;
            assert_eq!((walk.left("one", "a").len(), walk.left("one", "b").len()), (half, half), "after {}", row + 1);
            let x = u64::from(row + 1) * 3 / 10;
            assert_eq!(walk.left("two", "x").len(), x, "after {}", row + 1);
        }
    }
    assert!(walk.run().positions.all_ended(&walk.run().graph), "all came through");
    assert!(walk.chi_square() < 10.83, "the splits hang together: {}", walk.chi_square());
}

#[test]
fn the_journaled_move_is_the_assignment_and_is_never_computed_again() {
    let mut walk = Walk::of_splits(true, 300);
    walk.settle();
    for from in [0, 100, 250] {
        walk.accept(
            (from..if from == 0 {
                100
            } else if from == 100 {
                250
            } else {
                300
            })
                .collect(),
        );
        walk.settle();
    }
    let replay = |facts: &[Fact]| {
        let mut state = State::default();
        for fact in facts {
            let bytes = fact.encode().expect("encodes");
            state.apply(&Fact::decode(&bytes).expect("decodes"), BootId::default()).expect("fits");
        }
        state
    };
    assert_eq!(replay(&walk.facts), walk.state, "the fold of the facts is the state");
    // A drawing of another version of this program, or of a person with a pen: what stands in the journal counts.
    let mut other = walk.facts.clone();
    let last = other.iter_mut().rev().find_map(|fact| match fact {
        Fact::Shared(shared) if shared.moved.node == ids::of_text("two") => Some(&mut shared.moved),
        _ => None,
    });
    let moved = last.expect("the last split");
    let (x, y) = (moved.exits[0].1.clone(), moved.exits[1].1.clone());
    moved.exits = vec![(moved.exits[0].0.clone(), y.clone()), (moved.exits[1].0.clone(), x.clone())];
    let replayed = replay(&other);
    let at = |id: &str| replayed.runs[&RUN].positions.at(ids::of_text(id)).cloned().unwrap_or_default();
    assert!(y.is_subset(&at("x")) && x.is_subset(&at("y")), "as it was written");
}

/// start → split → a test each, whose arms share a name.
const TWO_TESTS: &str = r#"
name = "two"
kind = "flow"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
text = "T"
[[nodes]]
id = "start"
kind = "start"
then = "parts"
[[nodes]]
id = "parts"
kind = "split"
weights = { x = 1, y = 1 }
exits = { x = "first", y = "second" }
[[nodes]]
id = "first"
kind = "ab_test"
variants = { a = 1, b = 1 }
exits = { a = "mail", b = "mail", rest = "end" }
[[nodes]]
id = "second"
kind = "ab_test"
variants = { a = 1, c = 1 }
exits = { a = "mail", c = "mail", rest = "end" }
[[nodes]]
id = "mail"
kind = "send"
then = "end"
[[nodes]]
id = "end"
kind = "end"
"#;

#[test]
fn a_choice_among_several_tests_is_for_the_one_that_is_meant() {
    let mut walk = Walk::new(TWO_TESTS, 100);
    walk.settle();
    let choice = |walk: &Walk, test, winner| by_person(walk.run(), test, winner, "ann", AT);
    let tests = |error: NoChoice| match error {
        NoChoice::SeveralTests { mut tests } | NoChoice::UnknownTest { mut tests, .. } => {
            tests.sort();
            tests
        }
        other => panic!("{other:?}"),
    };
    for winner in [Some("a"), None] {
        let refused = choice(&walk, None, winner).expect_err("either could be meant");
        assert_eq!(tests(refused), ["first", "second"], "{winner:?}");
    }
    let decided = choice(&walk, None, Some("c")).expect("only one has it");
    assert_eq!(decided.node, ids::of_text("second"), "whichever comes first in the graph");
    assert!(matches!(choice(&walk, Some("first"), Some("c")), Err(NoChoice::UnknownVariant { .. })), "not of this one");
    assert_eq!(tests(choice(&walk, Some("third"), Some("a")).expect_err("no such test")), ["first", "second"]);
    walk.take(Fact::Decided(decided));
    let left = choice(&walk, None, Some("a")).expect("one is left");
    assert_eq!(left.node, ids::of_text("first"), "the other is decided");
    walk.take(Fact::Decided(left));
    assert!(matches!(choice(&walk, Some("first"), Some("a")), Err(NoChoice::Decided { .. })), "once");
}

#[test]
fn who_converts_leaves_at_the_conversion_and_the_others_at_the_time_out() {
    let text = parting("5d")
        .replace("split_on_open = \"5d\"\nexits = { opened = \"x\", not_opened = \"y\" }", "then = \"bought\"")
        + "[[nodes]]\nid = \"bought\"\nkind = \"delay\"\nevent = \"converted\"\nof = \"mail\"\ntimeout = \"5d\"\n\
           exits = { happened = \"x\", timed_out = \"y\" }\n";
    let mut walk = Walk::new(&text, 100);
    walk.settle();
    walk.accept((0..100).collect());
    walk.settle();
    let converted = |rows: std::ops::Range<u32>, class| {
        let part = FeedbackPart {
            delivery: DeliveryId { run: RUN, index: 0 },
            send: ids::of_text("mail"),
            kind: FeedbackKind::Converted(class),
            total: u64::from(rows.end - rows.start),
            rows: rows.collect(),
        };
        Fact::EventsReceived(Box::new(EventsReceived { feedback: vec![part], at: AT, ..EventsReceived::default() }))
    };
    walk.take(converted(0..30, crate::ledger::tracking::EventClass::Human));
    walk.take(converted(30..40, crate::ledger::tracking::EventClass::Machine));
    walk.settle();
    let at = |walk: &Walk, id| walk.run().positions.count(ids::of_text(id));
    assert_eq!((at(&walk, "x"), at(&walk, "y")), (30, 0), "people, and not machines");
    walk.settle_at(Timestamp(AT.0 + 6 * 24 * 3_600_000));
    assert_eq!((at(&walk, "x"), at(&walk, "y")), (30, 70), "the others after five days");
}
