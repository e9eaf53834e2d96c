//! When the tests of a run are looked at: in the time in which it runs, and once more when a stream is over.

use super::*;
use crate::actors::decide::{Next, next_of};
use crate::flow::winner::Verdict;
use crate::ledger::tracking::{EventClass, Tracked, TrackedKind};

const HOUR: i64 = 3_600_000;

/// start → test → a send each → end.
fn spec(test: &str) -> String {
    let head = super::spec(true).split("[[nodes]]").next().unwrap_or_default().to_owned();
    let node = |id: &str, rest: &str| format!("[[nodes]]\nid = \"{id}\"\n{rest}\n");
    let send = "kind = \"send\"\nthen = \"end\"\nmessage = { subject = \"S\" }";
    let exits =
        "variants = { a = 1, b = 1 }\nexits = { a = \"one\", b = \"two\" }\nmin_delivered = 10\nmin_events = 1\n";
    [
        head,
        node("start", "kind = \"start\"\nthen = \"test\""),
        node("test", &format!("kind = \"ab_test\"\n{exits}{test}")),
        node("one", send),
        node("two", send),
        node("end", "kind = \"end\""),
    ]
    .concat()
}

const OF_ONE_SET: &str =
    "sample = \"100%\"\nwindow = \"1h\"\ndecide_after = \"4h\"\nlooks = 2\nif_not_proven = \"wait\"";
const OF_A_STREAM: &str = "continuing = true\nwindow = \"3h\"\nlook_every = \"2h\"";

fn hours(after: i64) -> Timestamp {
    Timestamp(AT.0 + after * HOUR)
}

fn test_of(walk: &Walk) -> &TestMemory {
    &walk.run().flow.tests[&ids::of_text("test")]
}

/// By look, after how many hours it was.
fn looks(walk: &Walk) -> Vec<(u16, i64)> {
    test_of(walk).looks.iter().map(|look| (look.look, (look.at.0 - AT.0).div_euclid(HOUR))).collect()
}

impl Walk {
    /// Everything that can happen at this moment, looks included.
    fn settle_with_looks(&mut self, now: Timestamp) {
        while let Some(task) = next_task(self.run(), now) {
            let fact = match task {
                Task::Record(fact) => fact,
                Task::Share { run, node, rows, shares } => share_out(run, node, &rows, &shares, now).expect("shares"),
                Task::Join { delivery, node, rows } => {
                    let rows = RowSet::base(rows);
                    Fact::Joined(Joined { delivery, node, rows, skipped: Vec::new(), at: now })
                }
                Task::Look { run, node, test, look, looks, arms } => {
                    verdict::look_at(run, node, &test, (look, looks), arms, now).expect("judged")
                }
                other => panic!("nobody is asked: {other:?}"),
            };
            self.take(fact);
        }
    }

    /// Everybody who is at a send gets the message; answers who got which.
    fn accept_all(&mut self, now: Timestamp) -> Vec<RoaringBitmap> {
        let each = ["one", "two"].map(|id| {
            let send = ids::of_text(id);
            let rows = self.run().positions.at(send).cloned().unwrap_or_default();
            let (index, message) = send_of(self.run(), send).expect("a send");
            let (batch, delivery) = (BatchId(self.state.next_batch), DeliveryId { run: RUN, index });
            let positions = Positions::from_sorted(0..u32::try_from(rows.len()).expect("few"));
            let (connector, at) = ("relay".to_owned(), now);
            let mut settled = Settled::new(batch, delivery, now);
            settled.accepted = rows.clone();
            let rows_of = rows.clone();
            self.take(Fact::Claimed(Claimed {
                batch,
                delivery,
                connector,
                message,
                rows,
                positions,
                at,
                domain: None,
            }));
            self.take(Fact::Settled(settled));
            rows_of
        });
        each.into()
    }

    fn clicked(&mut self, send: &str, rows: RoaringBitmap, at: Timestamp) {
        let (_, message) = send_of(self.run(), ids::of_text(send)).expect("a send");
        let (kind, class, total) = (TrackedKind::Clicked { link: 0 }, EventClass::Human, rows.len());
        self.take(Fact::Tracked(Tracked { run: RUN, message, kind, class, rows, total, was: None, at }));
    }

    fn moves_to(&mut self, to: RunState, at: Timestamp) {
        self.take(Fact::RunMoved { run: RUN, to, reason: String::new(), at });
    }

    /// Goes through the hours, one by one.
    fn lives(&mut self, from: i64, to: i64) {
        (from..=to).for_each(|hour| self.settle_with_looks(hours(hour)));
    }
}

#[test]
fn time_in_which_a_run_is_paused_is_no_time_of_its_test() {
    // Not paused; paused before the first look; by the guard, between the looks, and never resumed by a clock that is set.
    for (pauses, wanted) in [
        (&[][..], vec![(1, 2), (2, 4)]),
        (&[(1, 11, 11)], vec![(1, 12), (2, 14)]),
        (&[(1, 2, 2), (3, 6, 6)], vec![(1, 3), (2, 8)]),
        // The clock is set back by ten hours in the pause, or forward.
        (&[(1, 2, -9)], vec![(1, 2), (2, 4)]),
        (&[(1, 2, 30)], vec![(1, 31), (2, 33)]),
    ] {
        let mut walk = Walk::new(&spec(OF_ONE_SET), 100);
        walk.settle_with_looks(hours(0));
        walk.accept_all(hours(0));
        let mut hour = 0;
        for (from, _, to) in pauses {
            walk.lives(hour, *from);
            walk.moves_to(RunState::Paused, hours(*from));
            walk.lives(*from, (*to).max(*from));
            walk.moves_to(RunState::Running, hours(*to));
            hour = *to;
        }
        walk.lives(hour, 60);
        assert_eq!(looks(&walk), wanted, "pauses {pauses:?}");
        assert!(walk.run().is_finished(), "{pauses:?}: it ends with its deadline");
    }
}

#[test]
fn the_guards_pause_moves_the_deadline_and_a_pause_before_the_cut_or_behind_the_decision_does_not() {
    let mut walk = Walk::new(&spec(OF_ONE_SET), 100);
    walk.moves_to(RunState::Paused, hours(-9));
    walk.moves_to(RunState::Running, hours(0));
    walk.settle_with_looks(hours(0));
    walk.accept_all(hours(0));
    let moved = |walk: &Walk, at| walk.run().moved_by_pauses(test_of(walk), hours(at)) / HOUR;
    assert_eq!(moved(&walk, 1), 0, "before the cut");
    let cause = crate::ledger::events::PauseCause::Complaints;
    let (counted, out_of, limit) = (9, 100, 1);
    walk.take(Fact::AutoPaused(crate::ledger::events::AutoPaused {
        run: RUN,
        cause,
        counted,
        out_of,
        limit,
        at: hours(1),
    }));
    assert_eq!([moved(&walk, 1), moved(&walk, 3)], [0, 2], "while it goes on the deadline moves with the time");
    let again = Walk { state: walk.state.clone(), facts: Vec::new() };
    assert_eq!(
        crate::ledger::snapshot::decode(&crate::ledger::snapshot::encode(&again.state).expect("bytes")).expect("reads"),
        walk.state,
        "a snapshot holds it"
    );
    let decided = by_person(walk.run(), None, Some("a"), "ann", hours(4)).expect("in a pause, too");
    walk.take(Fact::Decided(decided));
    walk.moves_to(RunState::Running, hours(9));
    assert_eq!(moved(&walk, 20), 3, "what comes behind the decision moves nothing");
}

#[test]
fn a_stream_whose_contacts_end_before_their_windows_is_looked_at_once_more() {
    let mut walk = Walk::new(&spec(OF_A_STREAM), 200);
    walk.settle_with_looks(hours(0));
    let arms = walk.accept_all(hours(0));
    walk.settle_with_looks(hours(0));
    walk.clicked("two", arms[1].iter().take(60).collect(), hours(1));
    walk.clicked("one", arms[0].iter().take(5).collect(), hours(1));
    assert!(walk.run().has_sent_all() && !walk.run().is_finished(), "all have their message, and nobody is judged");
    walk.lives(1, 3);
    assert_eq!((looks(&walk), next_of(walk.run())), (vec![], Next::GoOn), "no window is over");
    // A window ends with the part of it in which it began.
    let over = Timestamp(hours(3).0 + 5 * 60_000);
    let task = next_task(walk.run(), over).expect("the last look");
    let Task::Look { run, node, test, look, looks, arms } = task else { panic!("a look, not {task:?}") };
    walk.take(verdict::look_at(run, node, &test, (look, looks), arms, over).expect("judged"));
    assert_eq!(next_of(walk.run()), Next::GoOn, "the run does not end between a proof and its decision");
    walk.settle_with_looks(over);
    let decided = test_of(&walk).decided.as_ref().expect("decided");
    assert!(decided.proven && decided.winner == Some(Exit("b".into())), "{decided:?}");
    assert_eq!(next_of(walk.run()), Next::Finish, "now it does");
}

#[test]
fn a_stream_that_shows_nothing_ends_undecided_with_its_verdict() {
    for accepted in [true, false] {
        let mut walk = Walk::new(&spec(OF_A_STREAM), 100);
        walk.settle_with_looks(hours(0));
        if accepted {
            walk.accept_all(hours(0));
        } else {
            // Everybody of one variant is refused: there is nobody to compare with, and no reason to wait for ever.
            let send = ids::of_text("one");
            let rows = walk.run().positions.at(send).cloned().expect("there");
            let (index, _) = send_of(walk.run(), send).expect("a send");
            let delivery = DeliveryId { run: RUN, index };
            let (rows, reason) = (RowSet::base(rows), SkipReason::Unsubscribed);
            walk.take(Fact::Skipped { delivery, reason, rows, at: hours(0) });
            walk.accept_all(hours(0));
        }
        walk.lives(0, 8);
        assert_eq!(looks(&walk).len(), 1, "one look at all of them, and no more: {:?}", looks(&walk));
        let verdict = if accepted { Verdict::NotEnoughData } else { Verdict::SampleBroken };
        assert_eq!(test_of(&walk).looks[0].verdict, verdict.name(), "accepted {accepted}");
        assert_eq!(next_of(walk.run()), Next::Finish, "accepted {accepted}");
    }
}
