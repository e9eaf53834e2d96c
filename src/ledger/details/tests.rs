//! Details of runs that were sent, tracked and reported on, before and after they are removed.

use super::*;
use crate::campaigns::{self, Format};
use crate::ids::{AddressHash, BatchId, Channel, DeliveryId, MessageId};
use crate::ledger::batch::BootId;
use crate::ledger::consent::ConsentStatus;
use crate::ledger::events::{BounceClass, EventsReceived, FeedbackKind, FeedbackPart};
use crate::ledger::facts::{Claimed, DeliveryEntered, RunStarted, Sample, Settled, Suppressed, Unsubscribed};
use crate::ledger::links::{Link, covered};
use crate::ledger::rows::Positions;
use crate::ledger::suppression::SuppressReason;
use crate::ledger::tracking::{EventClass, Tracked, TrackedKind, day_of};
use crate::ledger::{Mode, RejectClass, RowSet, snapshot};
use crate::segments::skip::SkipReason;

const SPEC: &str = "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"relay\"\ntopic = \"news\"\n\
                    from = \"a@x.test\"\nsubject = \"s\"\ntext = \"t\"\n";
const PEOPLE: u32 = 50_000;
const DAY: i64 = 86_400_000;

fn apply(state: &mut State, fact: &Fact) {
    let bytes = fact.encode().expect("it encodes");
    assert_eq!(&Fact::decode(&bytes).expect("it decodes"), fact, "a fact reads back");
    state.apply(fact, BootId::default()).expect("the fact fits");
}

fn refused(state: &mut State, fact: &Fact) {
    let before = state.clone();
    let violation = state.apply(fact, BootId::default()).expect_err("it is refused");
    assert!(matches!(violation, Violation::NoDetails { .. }), "{violation}");
    assert!(*state == before, "and nothing has changed");
}

fn every(step: usize) -> RoaringBitmap {
    (0..PEOPLE).step_by(step).collect()
}

/// A campaign to everybody, on its day: bounces, unknowns, opens, clicks, opt-outs, complaints.
fn sent(state: &mut State, number: u32) {
    let (campaign, run, at) = (CampaignId(number), RunId(number), Timestamp(i64::from(number) * DAY));
    let delivery = DeliveryId { run, index: 0 };
    let compiled = campaigns::compile(&campaigns::parse(SPEC, Format::Toml).expect("it parses")).expect("it compiles");
    apply(state, &Fact::CampaignSaved { campaign, spec: SPEC.into(), at });
    let entered = DeliveryEntered {
        channel: Channel::Email,
        topic: "news".into(),
        connector: "relay".into(),
        mode: Mode::Strict,
        audience: RowSet::base((0..PEOPLE).collect()),
        skipped: vec![(SkipReason::NoAddress, every(101))],
        summary: None,
    };
    let rows = &RoaringBitmap::from_iter(0..PEOPLE) - &every(101);
    let (graph, deliveries, entrants) = (compiled.graph, vec![entered], RowSet::default());
    let started = RunStarted { run, campaign, version: 1, graph, deliveries, at, entrants };
    apply(state, &Fact::RunStarted(Box::new(started)));
    let (batch, connector, message) = (BatchId(u64::from(number)), "relay".to_owned(), MessageId(0));
    let positions = Positions::from_sorted(0..u32::try_from(rows.len()).expect("few"));
    let claimed = Claimed { batch, delivery, connector, message, rows: rows.clone(), positions, at, domain: None };
    apply(state, &Fact::Claimed(claimed));
    let mut settled = Settled::new(batch, delivery, at);
    settled.unknown = &rows & &every(997);
    settled.rejected = vec![(RejectClass::HardBounce, &(&rows & &every(89)) - &settled.unknown)];
    settled.accepted = &(&rows - &settled.unknown) - &settled.rejected[0].1;
    settled.samples = vec![Sample { label: "rejected:hard_bounce".into(), row: 89, text: "550 c89@x.test".into() }];
    let accepted = settled.accepted.clone();
    apply(state, &Fact::Settled(settled));
    for (kind, step) in [(TrackedKind::Opened, 3), (TrackedKind::Clicked { link: 2 }, 12)] {
        let rows = &accepted & &every(step);
        let (class, total) = (EventClass::Human, rows.len());
        apply(state, &Fact::Tracked(Tracked { run, message, kind, class, rows, total, was: None, at }));
    }
    apply(state, &opt_out(run, &accepted & &every(500), at));
    apply(state, &complaints(delivery, &accepted & &every(700), at, 1));
    let (to, reason) = (RunState::Finished, String::new());
    apply(state, &Fact::RunMoved { run, to, reason, at });
}

fn opt_out(run: RunId, rows: RoaringBitmap, at: Timestamp) -> Fact {
    let (channel, topic, source) = (Channel::Email, "news".to_owned(), "page".to_owned());
    let (message, addresses) = (MessageId(0), Vec::new());
    Fact::Unsubscribed(Unsubscribed { run, message, rows: RowSet::base(rows), channel, topic, source, at, addresses })
}

fn complaints(delivery: DeliveryId, rows: RoaringBitmap, at: Timestamp, id: u64) -> Fact {
    let (send, total) = (crate::flow::NodeId(1), rows.len());
    let suppressed = Suppressed {
        channel: Some(Channel::Email),
        reason: SuppressReason::Complaint,
        rows: RowSet::base(rows.clone()),
        addresses: vec![AddressHash([7; 16])],
        at,
    };
    let parts = [FeedbackKind::Complained, FeedbackKind::Bounced(BounceClass::Soft)];
    let feedback = parts.map(|kind| FeedbackPart { delivery, send, kind, rows: rows.clone(), total });
    let (ids, feedback, suppressed) = (vec![id], feedback.to_vec(), vec![suppressed]);
    Fact::EventsReceived(Box::new(EventsReceived { ids, feedback, suppressed, at, ..EventsReceived::default() }))
}

fn removed(runs: &[u32], at: i64) -> Fact {
    Fact::DetailsRemoved(DetailsRemoved { runs: runs.iter().map(|run| RunId(*run)).collect(), at: Timestamp(at) })
}

fn bytes(state: &State) -> usize {
    snapshot::encode(state).expect("it encodes").len()
}

/// Every figure that a report takes from the sets of a run.
fn figures(state: &State, run: u32) -> String {
    let run = &state.runs[&RunId(run)];
    let delivery = &run.deliveries[0];
    let message = &run.messages[&MessageId(0)];
    let feedback = run.feedback_on(0);
    let human = EventClass::Human;
    let rejected: Vec<_> = delivery.rejected.iter().map(|(class, rows)| (class, rows.len())).collect();
    let skipped: Vec<_> = delivery.skipped.iter().map(|(reason, rows)| (reason, rows.len())).collect();
    let events = [&message.opened, &message.clicked, &message.links[&2]].map(|e| (e.unique(human), e.total(human)));
    let crossed = (&delivery.accepted - &run.engaged(false)).len();
    let at: Vec<_> = run.positions.iter().map(|(node, rows)| (node, rows.len())).collect();
    let came = (feedback.complained.rows.len(), feedback.complained.total, feedback.bounced().len());
    let timeline = run.timeline.buckets(0);
    format!(
        "{:?} {rejected:?} {skipped:?} {events:?} {crossed} {at:?} {came:?} {} {timeline:?} {:?}",
        run.counts(),
        run.unsubscribed().len(),
        run.flow.arrived
    )
}

#[test]
fn every_figure_stays_and_nobody_is_left() {
    let mut state = State::default();
    sent(&mut state, 1);
    let (before, long, was) = (figures(&state, 1), bytes(&state), state.clone());
    apply(&mut state, &removed(&[1], 400 * DAY));
    assert_eq!(figures(&state, 1), before);
    state.check().expect("the sets partition the audience");
    let run = &state.runs[&RunId(1)];
    let delivery = &run.deliveries[0];
    assert_eq!((delivery.space, run.origin()), (RowSpace::NOBODY, RowSpace::BASE), "rows of nobody");
    assert_eq!(run.details_removed_at(), Some(Timestamp(400 * DAY)));
    assert!(run.samples.is_empty(), "replies quote addresses");
    assert!(run.messages[&MessageId(0)].days.is_empty(), "who did it on which day");
    assert_ne!(delivery.accepted, was.runs[&RunId(1)].deliveries[0].accepted, "the sets are of other rows");
    let short = bytes(&state);
    let given_back = run.removed.expect("removed").bytes;
    assert!(given_back > 30_000 && short + 30_000 < long, "{given_back} bytes: {long} are {short}");
    assert_eq!((&state.consent, &state.suppression, &state.days), (&was.consent, &was.suppression, &was.days));
    let again = snapshot::decode(&snapshot::encode(&state).expect("it encodes")).expect("it decodes");
    assert!(again == state, "a snapshot has it");
    let mut folded = was;
    apply(&mut folded, &removed(&[1], 400 * DAY));
    assert_eq!(
        snapshot::encode(&folded).expect("encodes"),
        snapshot::encode(&state).expect("encodes"),
        "the same bytes"
    );
}

#[test]
fn nothing_moves_in_it_any_more_and_what_forbids_a_send_holds() {
    let mut state = State::default();
    sent(&mut state, 1);
    let (run, delivery, at) = (RunId(1), DeliveryId { run: RunId(1), index: 0 }, Timestamp(500 * DAY));
    apply(&mut state, &removed(&[1], 400 * DAY));
    let (before, rows) = (figures(&state, 1), RoaringBitmap::from_iter([5]));
    let unknown = RowSet::base(state.runs[&run].deliveries[0].unknown.clone());
    for resend in [true, false] {
        refused(&mut state, &Fact::UnknownSettled { delivery, rows: unknown.clone(), resend, at });
    }
    refused(&mut state, &Fact::RunMoved { run, to: RunState::Running, reason: String::new(), at });
    refused(&mut state, &removed(&[1], 600 * DAY));
    let (message, class, total) = (MessageId(0), EventClass::Human, 1);
    for (kind, was) in [(TrackedKind::Opened, None), (TrackedKind::Clicked { link: 2 }, Some(EventClass::Suspect))] {
        apply(&mut state, &Fact::Tracked(Tracked { run, message, kind, class, rows: rows.clone(), total, was, at }));
    }
    apply(&mut state, &opt_out(run, rows.clone(), at));
    apply(&mut state, &complaints(delivery, RoaringBitmap::from_iter([6]), at, 2));
    assert_eq!(figures(&state, 1), before, "what comes late is not counted");
    assert_eq!(state.consent.status(Channel::Email, "news", 5), ConsentStatus::Unsubscribed, "an opt-out holds");
    assert_eq!(
        state.suppression.is_row_suppressed(Channel::Email, 6),
        Some(SuppressReason::Complaint),
        "a complaint too"
    );
    assert!(state.events.ids.knows(2), "and is known");
    state.check().expect("balanced");
}

#[test]
fn a_family_of_resends_loses_its_details_at_once_when_all_of_it_is_old() {
    let mut state = State::default();
    (1..=4).for_each(|number| sent(&mut state, number));
    state.links.insert(RunId(3), Link { of: RunId(1), set: "rejected".into() });
    state.links.insert(RunId(4), Link { of: RunId(3), set: "rejected".into() });
    let needs = Needs::default();
    let found = |state: &State, day: i64, needs: &Needs| -> Vec<u32> {
        let found = state.removable(Timestamp(day * DAY), 400, needs, 100);
        found.into_iter().map(|run| run.0).collect()
    };
    assert_eq!(found(&state, 0, &needs), [] as [u32; 0], "none is old");
    assert_eq!(found(&state, 3, &needs), [2], "the youngest of the family is not");
    assert_eq!(found(&state, 4, &needs), [1, 3, 4, 2], "then all of it");
    assert_eq!(state.removable(Timestamp(4 * DAY), 400, &needs, 1), [1, 3, 4].map(RunId), "a family is not divided");
    assert!(!covered(&state, RunId(1), false).is_empty(), "because it is asked who is covered");
    let asked = Needs { campaigns: [CampaignId(4)].into(), ..Needs::default() };
    assert_eq!(found(&state, 9, &asked), [2], "one of it is asked for");
    apply(&mut state, &removed(&[1, 3, 4], 9 * DAY));
    assert_eq!(found(&state, 9, &needs), [2], "what is removed is not removed again");
    let to = RunState::Running;
    apply(&mut state, &Fact::RunMoved { run: RunId(2), to, reason: String::new(), at: Timestamp(9 * DAY) });
    assert_eq!(found(&state, 99, &needs), [] as [u32; 0], "a run that goes on has not ended");
}

#[test]
fn opens_that_somebody_counts_by_days_are_kept() {
    let mut state = State::default();
    sent(&mut state, 10);
    let found = |today: i64, engaged_days: u32| {
        let needs = Needs { engaged_days, ..Needs::default() };
        state.removable(Timestamp(10 * DAY), today, &needs, 10).len()
    };
    assert_eq!(day_of(Timestamp(10 * DAY)), 10);
    assert_eq!((found(10, 0), found(10, 1), found(11, 1), found(11, 2)), (1, 0, 1, 0), "today is one of the days");
    assert_eq!((found(39, 30), found(40, 30)), (0, 1));
}

#[test]
fn what_a_control_group_did_stays_as_it_was_counted_then() {
    let mut state = State::default();
    sent(&mut state, 1);
    let id = RunId(1);
    let skipped = &mut state.runs.get_mut(&id).expect("the run").deliveries[0].skipped;
    let group = skipped.remove(&SkipReason::NoAddress).expect("some were left out");
    skipped.insert(SkipReason::HoldOut, group.clone());
    state.events.behaviour.add("early", 0, &every(2));
    state.events.behaviour.add("purchase", 1, &every(2));
    let before = state.runs[&id].compared(&state.events.behaviour);
    let of = |rows: &RoaringBitmap| rows.intersection_len(&every(2));
    let (held_out, sent) = (of(&group), of(&state.runs[&id].deliveries[0].accepted));
    let [early, purchase] = &before[..] else { panic!("two types: {before:?}") };
    assert_eq!((early.held_out, early.sent), (0, 0), "before the start");
    assert!(held_out > 0 && sent > held_out, "{held_out} {sent}");
    assert_eq!(purchase, &Compared { event: "purchase".into(), held_out, sent });
    apply(&mut state, &removed(&[1], 400 * DAY));
    assert_eq!(state.runs[&id].compared(&state.events.behaviour), before, "the figures");
    state.events.behaviour.add("purchase", 401, &every(1));
    assert_eq!(state.runs[&id].compared(&state.events.behaviour), before, "what comes late is not counted");
    let again = snapshot::decode(&snapshot::encode(&state).expect("it encodes")).expect("it decodes");
    assert_eq!(again.runs[&id].compared_then, before, "a snapshot has them");
}

#[test]
fn large_runs_are_removed_by_facts_of_their_own() {
    let mut state = State::default();
    (1..=3).for_each(|number| sent(&mut state, number));
    let all = state.removable(Timestamp(9 * DAY), 400, &Needs::default(), 100);
    assert_eq!(all, [1, 2, 3].map(RunId), "small ones together");
    let large = u32::try_from(DETAILS_CONTACTS_AT_ONCE).expect("few enough for rows");
    state.runs.get_mut(&RunId(2)).expect("the run").deliveries[0].audience.insert_range(0..large);
    let some = state.removable(Timestamp(9 * DAY), 400, &Needs::default(), 100);
    assert_eq!(some, [1, 2].map(RunId), "none after a large one");
}
