//! Events against the ledger: in any order, before and after the outcome, and what a run's guard makes of them.

use proptest::prelude::*;

use super::guard::judge;
use super::*;
use crate::campaigns::{self, Format};
use crate::flow::NodeId;
use crate::ids::{BatchId, CampaignId, DeliveryId, MessageId, RunId};
use crate::ledger::batch::BootId;
use crate::ledger::delivery::Mode;
use crate::ledger::facts::{Claimed, DeliveryEntered, RunStarted, Settled, Unsuppressed};
use crate::ledger::rows::Positions;
use crate::ledger::suppression::SuppressReason;
use crate::ledger::tracking::EventClass;
use crate::ledger::{Fact, RejectClass, RowSet, Run, RunState, State};

const RUN: RunId = RunId(1);
const DELIVERY: DeliveryId = DeliveryId { run: RUN, index: 0 };
const SEND: NodeId = NodeId(1);
const AT: Timestamp = Timestamp(86_400_000 * 20_000);
const SPEC: &str = "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"relay\"\n\
                    topic = \"news\"\nfrom = \"a@x.test\"\nsubject = \"s\"\ntext = \"t\"\n";

fn rows(rows: impl IntoIterator<Item = u32>) -> RoaringBitmap {
    rows.into_iter().collect()
}

fn apply(state: &mut State, fact: &Fact) {
    state.apply(fact, BootId::default()).unwrap_or_else(|violation| panic!("{fact:?}: {violation}"));
}

/// A run of `contacts` rows, all of them claimed.
fn state(mode: Mode, contacts: u32) -> State {
    let spec = campaigns::parse(SPEC, Format::Toml).expect("it parses");
    let graph = campaigns::compile(&spec).expect("it compiles").graph;
    let mut state = State::default();
    apply(&mut state, &Fact::CampaignSaved { campaign: CampaignId(1), spec: String::new(), at: AT });
    let entered = DeliveryEntered {
        channel: Channel::Email,
        topic: String::new(),
        connector: "relay".into(),
        mode,
        audience: RowSet::base(rows(0..contacts)),
        skipped: Vec::new(),
        summary: None,
    };
    let started = RunStarted {
        run: RUN,
        campaign: CampaignId(1),
        version: 1,
        graph,
        deliveries: vec![entered],
        at: AT,
        entrants: RowSet::default(),
    };
    apply(&mut state, &Fact::RunStarted(Box::new(started)));
    let claimed = Claimed {
        batch: BatchId(1),
        delivery: DELIVERY,
        connector: "relay".into(),
        message: MessageId(0),
        rows: rows(0..contacts),
        positions: Positions::from_sorted(0..contacts),
        at: AT,
        domain: None,
    };
    apply(&mut state, &Fact::Claimed(claimed));
    state
}

fn settle(
    state: &mut State,
    accepted: RoaringBitmap,
    unknown: RoaringBitmap,
    rejected: Vec<(RejectClass, RoaringBitmap)>,
) {
    let mut settled = Settled::new(BatchId(1), DELIVERY, AT);
    (settled.accepted, settled.unknown, settled.rejected) = (accepted, unknown, rejected);
    apply(state, &Fact::Settled(settled));
    state.check().expect("it balances");
}

fn part(kind: FeedbackKind, rows: RoaringBitmap) -> FeedbackPart {
    let total = rows.len();
    FeedbackPart { delivery: DELIVERY, send: SEND, kind, rows, total }
}

fn come_back(state: &mut State, parts: &[(FeedbackKind, RoaringBitmap)]) {
    let feedback = parts.iter().map(|(kind, rows)| part(*kind, rows.clone())).collect();
    apply(state, &Fact::EventsReceived(Box::new(EventsReceived { feedback, at: AT, ..EventsReceived::default() })));
    state.check().expect("it balances");
}

fn run(state: &State) -> &Run {
    &state.runs[&RUN]
}

const HARD: FeedbackKind = FeedbackKind::Bounced(BounceClass::Hard);
const SOFT: FeedbackKind = FeedbackKind::Bounced(BounceClass::Soft);

#[test]
fn what_comes_back_before_the_outcome_is_remembered_and_settles_unknowns() {
    let words = [
        (FeedbackKind::Delivered, rows([1, 2])),
        (HARD, rows([3])),
        (SOFT, rows([4])),
        (FeedbackKind::Complained, rows([5])),
    ];
    let mut before = state(Mode::Strict, 8);
    come_back(&mut before, &words);
    assert_eq!(run(&before).deliveries[0].claimed.len(), 8, "the ledger waits for the outcome");
    settle(&mut before, rows([0, 2]), rows([1, 3, 4, 5, 6, 7]), Vec::new());
    let mut after = state(Mode::Strict, 8);
    settle(&mut after, rows([0, 2]), rows([1, 3, 4, 5, 6, 7]), Vec::new());
    assert_eq!(run(&after).deliveries[0].unknown.len(), 6, "nobody has said anything");
    come_back(&mut after, &words);
    for (order, state) in [("before", &before), ("after", &after)] {
        let delivery = &run(state).deliveries[0];
        assert_eq!(delivery.accepted, rows([0, 1, 2, 5]), "{order}: delivered, or complained about, has arrived");
        assert_eq!(delivery.rejected[&RejectClass::HardBounce], rows([3]), "{order}: hard");
        assert_eq!(delivery.rejected[&RejectClass::SoftBounce], rows([4]), "{order}: soft");
        assert_eq!(delivery.unknown, rows([6, 7]), "{order}: nobody knows");
        assert!(run(state).positions.all_ended(&run(state).graph), "{order}: all have gone on, and stay there");
    }
    assert_eq!(run(&before).feedback, run(&after).feedback, "the sets do not depend on the order");
}

#[test]
fn a_message_that_is_known_to_have_arrived_is_not_sent_again() {
    let mut state = state(Mode::AtLeastOnce, 4);
    come_back(&mut state, &[(FeedbackKind::Delivered, rows([1])), (HARD, rows([2]))]);
    settle(&mut state, rows([0]), rows([1, 2, 3]), Vec::new());
    let delivery = &run(&state).deliveries[0];
    assert_eq!((&delivery.pending, &delivery.accepted), (&rows([3]), &rows([0, 1])), "only what nobody knows of");
    assert_eq!(delivery.rejected[&RejectClass::HardBounce], rows([2]), "what bounced is not tried again");
    assert_eq!(run(&state).positions.at(SEND), Some(&rows([3])), "the others have left the send");
}

#[test]
fn accepted_stays_accepted_and_counts_as_bounced() {
    let mut state = state(Mode::Strict, 4);
    settle(&mut state, rows(0..4), rows([]), Vec::new());
    come_back(&mut state, &[(SOFT, rows([1, 2])), (HARD, rows([2])), (FeedbackKind::Delivered, rows([2, 3]))]);
    come_back(&mut state, &[(SOFT, rows([2])), (FeedbackKind::Converted(EventClass::Human), rows([0, 3]))]);
    let (delivery, feedback) = (&run(&state).deliveries[0], run(&state).feedback_on(0));
    assert_eq!(delivery.accepted, rows(0..4), "its outcome was final");
    assert_eq!((&feedback.hard.rows, &feedback.soft.rows), (&rows([2]), &rows([1])), "hard beats soft, in any order");
    assert_eq!((feedback.soft.total, feedback.hard.total), (3, 1), "totals count events");
    assert_eq!(feedback.converted_by_people(), Some(&rows([0, 3])), "conversions");
    assert_eq!(run(&state).feedback_of(SEND), Some(&feedback), "one send is the whole delivery");
}

#[test]
fn a_part_that_does_not_fit_changes_nothing() {
    let mut state = state(Mode::Strict, 4);
    let before = state.clone();
    let good = part(HARD, rows([1]));
    let misfits = [
        part(HARD, rows([9])),
        FeedbackPart { send: NodeId(2), ..good.clone() },
        FeedbackPart { delivery: DeliveryId { run: RUN, index: 7 }, ..good.clone() },
        FeedbackPart { delivery: DeliveryId { run: RunId(9), index: 0 }, ..good.clone() },
    ];
    for misfit in misfits {
        let feedback = vec![good.clone(), misfit.clone()];
        let fact =
            Fact::EventsReceived(Box::new(EventsReceived { feedback, ids: vec![1], ..EventsReceived::default() }));
        assert!(state.apply(&fact, BootId::default()).is_err(), "{misfit:?} is refused");
        assert_eq!(state, before, "whole: {misfit:?}");
    }
}

#[test]
fn only_rows_that_may_have_left_can_come_back() {
    let mut state = state(Mode::Strict, 5);
    let mut settled = Settled::new(BatchId(1), DELIVERY, AT);
    settled.accepted = rows([0]);
    settled.deferred = vec![(AT.0 / 1_000 + 60, rows([1]))];
    settled.skipped = vec![(crate::segments::skip::SkipReason::Unsubscribed, rows([2]))];
    apply(&mut state, &Fact::Settled(settled));
    let delivery = &run(&state).deliveries[0];
    let left: Vec<u32> = (0..5).filter(|row| delivery.may_have_left(*row)).collect();
    assert_eq!(left, [0, 1, 3, 4], "all but the skipped one: claimed rows may be on the wire");
}

#[test]
fn one_fact_carries_its_consequences() {
    let mut state = state(Mode::Strict, 4);
    let suppressed = Suppressed {
        channel: Some(Channel::Email),
        reason: SuppressReason::Complaint,
        rows: RowSet::base(rows([1])),
        addresses: Vec::new(),
        at: AT,
    };
    let fact = EventsReceived {
        ids: vec![7],
        behaved: vec![Behaved { name: "bought".into(), day: day_of(AT), rows: rows([1, 2]) }],
        soft: vec![(Channel::Email, day_of(AT), rows([2, 3]))],
        suppressed: vec![suppressed],
        at: AT,
        ..EventsReceived::default()
    };
    assert!(fact.narrows(), "lanes look again");
    apply(&mut state, &Fact::ContactsErased { rows: RowSet::base(rows([3])) });
    apply(&mut state, &Fact::EventsReceived(Box::new(fact)));
    assert!(state.events.ids.knows(7), "its id");
    assert_eq!(state.events.behaviour.get("bought").map(TypeMemory::contacts), Some(rows([1, 2])), "behaviour");
    assert!(state.suppression.row_entry(Some(Channel::Email), SuppressReason::Complaint, 1), "suppressed");
    let once = SoftRule { bounces: 1, days: 1, within_days: 3 };
    assert_eq!(state.events.soft.due(Channel::Email, once, day_of(AT)), rows([2]), "who was erased is not remembered");
    let unsuppressed = Unsuppressed {
        channel: Some(Channel::Email),
        rows: RowSet::base(rows([2])),
        addresses: Vec::new(),
        at: AT,
        reason: None,
    };
    apply(&mut state, &Fact::Unsuppressed(unsuppressed));
    assert!(state.events.soft.due(Channel::Email, once, day_of(AT)).is_empty(), "a person gives another chance");
    let bytes = crate::ledger::snapshot::encode(&state).expect("encoded");
    assert_eq!(crate::ledger::snapshot::decode(&bytes).expect("decoded"), state, "a snapshot holds all of it");
}

#[test]
fn a_soft_rejection_at_the_hand_over_counts_as_a_bounce_of_its_day() {
    let mut state = state(Mode::Strict, 4);
    settle(
        &mut state,
        rows([0]),
        rows([]),
        vec![(RejectClass::SoftBounce, rows([1])), (RejectClass::Policy, rows([2, 3]))],
    );
    let once = SoftRule { bounces: 1, days: 1, within_days: 1 };
    assert_eq!(state.events.soft.due(Channel::Email, once, day_of(AT)), rows([1]), "policy is the sender's fault");
}

fn moved(state: &mut State, to: RunState) {
    apply(state, &Fact::RunMoved { run: RUN, to, reason: String::new(), at: AT });
}

#[test]
fn the_guard_pauses_above_its_limits_and_counts_anew_after_a_resume() {
    let mut state = state(Mode::Strict, 2_000);
    let rule = GuardRule::default();
    let mut first = Settled::new(BatchId(1), DELIVERY, AT);
    first.accepted = rows(0..900);
    first.rejected = vec![(RejectClass::HardBounce, rows(900..990)), (RejectClass::Policy, rows(990..1_000))];
    apply(&mut state, &Fact::Settled(first));
    assert_eq!(judge(run(&state), &rule, AT), None, "90 of 1 000 are not more than 10 %");
    come_back(&mut state, &[(HARD, rows(0..10)), (HARD, rows(900..905))]);
    assert_eq!(judge(run(&state), &rule, AT), None, "exactly 10 % are not more; a refused row counts once");
    come_back(&mut state, &[(HARD, rows([10]))]);
    let paused = judge(run(&state), &rule, AT).expect("101 of 1 000");
    assert_eq!((paused.cause, paused.counted, paused.out_of), (PauseCause::HardBounces, 101, 1_000), "{paused:?}");
    assert!(
        paused.reason().contains("101 hard bounces of 1000 attempted are 10.10 %, more than 10 %"),
        "{}",
        paused.reason()
    );
    assert_eq!(judge(run(&state), &GuardRule { minimum: 1_001, ..rule }, AT), None, "below the minimum");
    assert_eq!(judge(run(&state), &GuardRule { hard_bounces: None, ..rule }, AT), None, "switched off");
    apply(&mut state, &Fact::AutoPaused(paused.clone()));
    assert_eq!((run(&state).state, run(&state).reason.clone()), (RunState::Paused, paused.reason()), "with its reason");
    assert_eq!(judge(run(&state), &rule, AT), None, "it is paused once");
    moved(&mut state, RunState::Running);
    assert_eq!(judge(run(&state), &rule, AT), None, "the same events do not pause it again");
    let mut second = Settled::new(BatchId(1), DELIVERY, AT);
    second.accepted = rows(1_000..1_440);
    second.rejected = vec![(RejectClass::HardBounce, rows(1_440..1_499))];
    apply(&mut state, &Fact::Settled(second));
    assert_eq!(judge(run(&state), &rule, AT), None, "59 of 499: the minimum counts from the resume, too");
    come_back(&mut state, &[(HARD, rows([1_000]))]);
    let mut third = Settled::new(BatchId(1), DELIVERY, AT);
    third.accepted = rows([1_499]);
    apply(&mut state, &Fact::Settled(third));
    assert_eq!(judge(run(&state), &rule, AT).map(|p| (p.counted, p.out_of)), Some((60, 500)), "new events do");
}

#[test]
fn complaints_pause_by_what_was_accepted() {
    let mut state = state(Mode::Strict, 1_000);
    settle(&mut state, rows(0..1_000), rows([]), Vec::new());
    let rule = GuardRule::default();
    come_back(&mut state, &[(FeedbackKind::Complained, rows(0..3))]);
    assert_eq!(judge(run(&state), &rule, AT), None, "0.3 % are not more than 0.3 %");
    come_back(&mut state, &[(FeedbackKind::Complained, rows(1..4))]);
    moved(&mut state, RunState::Running);
    let paused = judge(run(&state), &rule, AT).expect("4 of 1 000");
    assert_eq!((paused.cause, paused.counted, paused.out_of), (PauseCause::Complaints, 4, 1_000), "{paused:?}");
    assert!(paused.reason().contains("more than 0.3 %"), "{}", paused.reason());
    assert_eq!(judge(run(&state), &GuardRule { complaints: None, ..rule }, AT), None, "switched off");
}

const KINDS: [FeedbackKind; 6] = [
    FeedbackKind::Delivered,
    HARD,
    SOFT,
    FeedbackKind::Bounced(BounceClass::Policy),
    FeedbackKind::Complained,
    FeedbackKind::Converted(EventClass::Human),
];

proptest! {
    #[test]
    fn events_in_any_order_give_the_same_sets_and_a_ledger_that_balances(
        outcomes in prop::collection::vec(0u8..4, 6),
        events in prop::collection::vec((0usize..KINDS.len(), 0u32..6), 0..12),
        settled_after in 0usize..13,
        at_least_once: bool,
    ) {
        let mode = if at_least_once { Mode::AtLeastOnce } else { Mode::Strict };
        let of = |outcome: u8| (0..6u32).filter(|row| outcomes[*row as usize] == outcome).collect::<RoaringBitmap>();
        let mut run_of = state(mode, 6);
        let rejected = vec![(RejectClass::HardBounce, of(2)), (RejectClass::Policy, of(3))];
        for (index, (kind, row)) in events.iter().enumerate() {
            if index == settled_after {
                settle(&mut run_of, of(0), of(1), rejected.clone());
            }
            come_back(&mut run_of, &[(KINDS[*kind], rows([*row]))]);
        }
        if settled_after >= events.len() {
            settle(&mut run_of, of(0), of(1), rejected);
        }
        let (delivery, feedback) = (&run(&run_of).deliveries[0], run(&run_of).feedback_on(0));
        for (index, kind) in KINDS.into_iter().enumerate() {
            let said: RoaringBitmap = events.iter().filter(|(k, _)| *k == index).map(|(_, row)| *row).collect();
            let found = match kind {
                FeedbackKind::Delivered => feedback.delivered.rows.clone(),
                HARD => feedback.hard.rows.clone(),
                FeedbackKind::Complained => feedback.complained.rows.clone(),
                FeedbackKind::Converted(_) => feedback.converted.any(),
                // A worse bounce may have taken the row over.
                FeedbackKind::Bounced(_) => {
                    prop_assert!(said.is_subset(&feedback.bounced()), "{:?}", kind);
                    continue;
                }
            };
            prop_assert_eq!(found, said, "{:?}", kind);
        }
        let settling = &(&feedback.bounced() | &feedback.delivered.rows) | &feedback.complained.rows;
        prop_assert!(delivery.unknown.is_disjoint(&settling), "what came back is not unknown: {:?}", delivery.unknown);
        prop_assert!(of(0).is_subset(&delivery.accepted), "accepted stays accepted");
        prop_assert!(of(2).is_subset(&delivery.rejected.get(&RejectClass::HardBounce).cloned().unwrap_or_default()));
    }
}

#[test]
fn what_is_forgotten_is_in_no_snapshot_and_comes_back_with_a_report_until_the_next_fact() {
    let mut state = State::default();
    let event = |id: u64, day: i32, who: u32| {
        let properties = vec![PropertyPart {
            name: "cart".into(),
            property: "plan".into(),
            value: format!("of {who}"),
            rows: rows([who]),
        }];
        let behaved = vec![Behaved { name: "cart".into(), day, rows: rows([who]) }];
        Fact::EventsReceived(Box::new(EventsReceived {
            ids: vec![id],
            behaved,
            properties,
            at: AT,
            ..EventsReceived::default()
        }))
    };
    let forgotten = Fact::EventsForgotten { name: "cart".into(), before: 100, at: AT };
    let known = |state: &State| state.events.behaviour.get("cart").map(TypeMemory::contacts);
    apply(&mut state, &event(1, 50, 1));
    apply(&mut state, &event(2, 150, 2));
    apply(&mut state, &forgotten);
    assert_eq!(known(&state), Some(rows([2])), "who did it since is known");
    assert_eq!(state.events.properties.get("cart", "plan", "of 1"), None, "nor is what the other had");
    assert!(state.events.properties.get("cart", "plan", "of 2").is_some(), "as before");
    let bytes = crate::ledger::snapshot::encode(&state).expect("encoded");
    let mut replayed = crate::ledger::snapshot::decode(&bytes).expect("decoded");
    assert_eq!(replayed, state, "a snapshot");
    for state in [&mut state, &mut replayed] {
        apply(state, &event(3, 60, 3));
        assert_eq!(known(state), Some(rows([2, 3])), "a late report is taken");
        apply(state, &forgotten);
        assert_eq!(known(state), Some(rows([2])), "and forgotten with the next fact");
    }
    assert_eq!(replayed, state, "a replay behind the snapshot ends the same");
    apply(&mut state, &Fact::EventsForgotten { name: "unheard".into(), before: 100, at: AT });
    assert_eq!(replayed, state, "of a type that never came there is nothing to forget");
}
