//! What a campaign's actor decides, as functions over plain values.
//!
//! Must not know: actix, clocks, sockets, the journal.

use roaring::RoaringBitmap;

use crate::actors::{RowOutcome, flowing};
use crate::channels::limits_table::{ClassId, Start};
use crate::channels::retry::{Deferral, NextAttempt, first_attempt, next_attempt};
use crate::clock::Timestamp;
use crate::config::connectors::RetrySettings;
use crate::flow::NodeId;
use crate::ids::{BatchId, ContactRow};
use crate::ledger::delivery::ClassFilter;
use crate::ledger::facts::{Sample, Settled};
use crate::ledger::{Delivery, Fact, Mode, RejectClass, RowSet, Run, RunState, State};
use crate::limits::{RETRY_WAIT_MAX, SAMPLES_PER_CLASS};
use crate::segments::skip::SkipReason;

/// Rows of a delivery that have limits of their own, per class from 1; all others are class 0.
#[derive(Clone, Debug, Default)]
pub struct Classes(pub Vec<RoaringBitmap>);

impl Classes {
    pub fn ids(&self) -> impl Iterator<Item = ClassId> {
        (0..=self.0.len()).map(|class| ClassId(u16::try_from(class).unwrap_or(u16::MAX)))
    }

    pub fn filter(&self, class: ClassId) -> ClassFilter<'_> {
        match class.0.checked_sub(1).and_then(|at| self.0.get(usize::from(at))) {
            Some(rows) => ClassFilter::Only(rows),
            None if self.0.is_empty() => ClassFilter::Any,
            None => ClassFilter::NoneOf(&self.0),
        }
    }
}

/// Up to `rows` rows of a class that may be claimed now.
pub fn rows_to_claim(
    delivery: &Delivery,
    send: NodeId,
    classes: &Classes,
    class: ClassId,
    rows: usize,
    now: Timestamp,
) -> RoaringBitmap {
    delivery.ready(send, now, rows, classes.filter(class))
}

/// How the limit of a run's own begins: what was handed over in the window before is not known, unless nothing can have been.
/// A run that has just been started may send at once.
pub fn limit_start(run: Option<&Run>) -> Start {
    let untouched = |d: &Delivery| {
        let waits = d.claimed.is_empty() && d.deferred.is_empty() && d.accepted.is_empty() && d.unknown.is_empty();
        waits && d.rejected.is_empty() && d.deferrals.is_empty() && d.unknowns.is_empty()
    };
    match run {
        Some(run) if run.deliveries.iter().all(untouched) => Start::Fresh,
        _ => Start::Restarted,
    }
}

/// How a run tries again what was deferred. Nobody was tried before the run began, whatever the waits since add up to.
#[derive(Clone, Copy, Debug)]
pub struct Retry<'a> {
    pub settings: &'a RetrySettings,
    pub started_at: Timestamp,
}

/// Turns outcomes into the fact that settles them: deferrals get their time, those past the deadline are rejected.
pub fn settle(
    batch: BatchId,
    delivery: &Delivery,
    retry: Retry<'_>,
    accepted: &[u32],
    others: &[(u32, RowOutcome)],
    now: Timestamp,
) -> Settled {
    let mut fact = Settled::new(batch, delivery.id, now);
    fact.accepted = accepted.iter().copied().collect();
    for (row, outcome) in others {
        match outcome {
            RowOutcome::Accepted => {
                fact.accepted.insert(*row);
            }
            RowOutcome::Unknown => {
                fact.unknown.insert(*row);
            }
            RowOutcome::Rejected(class, text) => {
                fact.reject(*class, *row);
                sample(&mut fact.samples, format!("rejected:{}", class.name()), *row, text);
            }
            RowOutcome::Skipped(reason, text) => {
                fact.skip(*reason, *row);
                if !text.is_empty() {
                    sample(&mut fact.samples, format!("skipped:{}", reason.name()), *row, text);
                }
            }
            RowOutcome::Deferred(after, text) => {
                sample(&mut fact.samples, "deferred".to_owned(), *row, text);
                fact.defer(*row, retry_at(delivery, retry, *row, *after, now));
            }
        }
    }
    fact
}

fn sample(samples: &mut Vec<Sample>, label: String, row: u32, text: &str) {
    if samples.iter().filter(|s| s.label == label).count() < SAMPLES_PER_CLASS {
        samples.push(Sample { label, row, text: text.to_owned() });
    }
}

/// The second at which a deferred row is due; `None` when the deadline is past.
pub fn retry_at(
    delivery: &Delivery,
    retry: Retry<'_>,
    row: u32,
    asked: Option<std::time::Duration>,
    now: Timestamp,
) -> Option<i64> {
    let attempts = u32::try_from(delivery.deferral_count(row)).unwrap_or(u32::MAX).saturating_add(1);
    let first_attempt = first_attempt(retry.settings, attempts, asked, now).max(retry.started_at);
    let seed = (u64::from(delivery.id.run.0) << 32) ^ (u64::from(delivery.id.index) << 48) ^ u64::from(row);
    match next_attempt(retry.settings, &Deferral { attempts, first_attempt, deferred_at: now, asked, seed }) {
        NextAttempt::At(due) => Some(bucket_second(due, now)),
        NextAttempt::GiveUp => None,
    }
}

/// Due times are rounded up to a 32nd of the wait, so that a million deferrals make dozens of buckets and not thousands;
/// never beyond the longest wait, by which the ledger tells a clock that has gone back.
fn bucket_second(due: Timestamp, now: Timestamp) -> i64 {
    let second = due.0.div_euclid(1_000) + i64::from(due.0.rem_euclid(1_000) != 0);
    let step = ((due.0 - now.0) / 32_000).max(1);
    let rounded = second.div_euclid(step) * step + if second.rem_euclid(step) == 0 { 0 } else { step };
    rounded.min(now.plus(RETRY_WAIT_MAX).0.div_euclid(1_000).saturating_add(1))
}

/// Rows whose hard bounces have reached the connector's rule.
pub fn to_suppress(state: &State, run: &Run, bounced: &RoaringBitmap, after: u32) -> RoaringBitmap {
    if after == 0 || bounced.is_empty() {
        return RoaringBitmap::new();
    }
    let bounces_of = |row: u32| hard_bounces_of(state, space_of(run), row);
    bounced.iter().filter(|row| after == 1 || bounces_of(*row) >= after).collect()
}

/// Deliveries in which a row was refused, or came back, for good.
pub fn hard_bounces_of(state: &State, space: crate::ids::RowSpace, row: u32) -> u32 {
    let deliveries = state.runs.values().flat_map(|run| run.deliveries.iter().map(move |delivery| (run, delivery)));
    let bounced = deliveries.filter(|(run, delivery)| {
        let refused = delivery.rejected.get(&RejectClass::HardBounce).is_some_and(|rows| rows.contains(row));
        let mut sends = run.sends_with(delivery.id.index).filter_map(|send| run.feedback_of(send));
        delivery.space == space && (refused || sends.any(|feedback| feedback.hard.rows.contains(row)))
    });
    u32::try_from(bounced.count()).unwrap_or(u32::MAX)
}

fn space_of(run: &Run) -> crate::ids::RowSpace {
    run.deliveries.first().map_or(crate::ids::RowSpace::BASE, |d| d.space)
}

/// What is to happen to a run now that sets have moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Rows wait for lanes, answers, or time.
    GoOn,
    /// Everything has its final outcome.
    Finish,
    /// Stopping, and nothing is claimed any more: the rest is skipped and the run stopped.
    Stop,
}

fn may_finish(run: &Run) -> bool {
    // The moment is no part of the answer.
    run.is_finished() && !run.doubted && !flowing::is_about_to_decide(run, run.started_at)
}

pub fn next_of(run: &Run) -> Next {
    let claimed = run.deliveries.iter().any(|d| !d.claimed.is_empty());
    match run.state {
        // What was handed over before a pause may have been the last.
        RunState::Running | RunState::Paused if may_finish(run) => Next::Finish,
        RunState::Stopping if !claimed => Next::Stop,
        _ => Next::GoOn,
    }
}

/// Rows that a stop skips.
pub fn rows_to_stop(delivery: &Delivery) -> RoaringBitmap {
    &delivery.pending | &delivery.deferred
}

/// What a run that is being stopped has to record next: what waits is skipped, one fact a delivery, then the run is
/// stopped. `None` if it is not being stopped, or while claims of it are out.
pub fn next_to_stop(run: &Run, at: Timestamp) -> Option<Fact> {
    if next_of(run) != Next::Stop {
        return None;
    }
    let waiting = run.deliveries.iter().map(|d| (d, rows_to_stop(d))).find(|(_, rows)| !rows.is_empty());
    Some(match waiting {
        Some((delivery, rows)) => {
            let rows = RowSet { space: delivery.space, rows };
            Fact::Skipped { delivery: delivery.id, reason: STOP_REASON, rows, at }
        }
        None => Fact::RunMoved { run: run.id, to: RunState::Stopped, reason: String::new(), at },
    })
}

/// Whether the moment has come after which the message makes no sense.
pub fn is_late(send_until: Option<Timestamp>, now: Timestamp) -> bool {
    send_until.is_some_and(|until| until <= now)
}

/// Rows that are skipped because `send_until` has passed: all that wait. A stop that is under way names its own reason.
pub fn rows_too_late(run: &Run, index: u16, send_until: Option<Timestamp>, now: Timestamp) -> RoaringBitmap {
    let waits = matches!(run.state, RunState::Running | RunState::Paused) && is_late(send_until, now);
    run.delivery(index).filter(|_| waits).map(rows_to_stop).unwrap_or_default()
}

/// Unknown rows that an operator's settle names: by row, or all.
pub fn unknown_rows(delivery: &Delivery, wanted: Option<&[ContactRow]>) -> RoaringBitmap {
    match wanted {
        None => delivery.unknown.clone(),
        Some(rows) => rows.iter().map(|r| r.0).filter(|row| delivery.unknown.contains(*row)).collect(),
    }
}

/// Whether a settle as pending needs the run to run again; `None` refuses it (stopped runs stay stopped).
pub fn reopens(run: &Run) -> Option<bool> {
    match run.state {
        RunState::Finished => Some(true),
        RunState::Running | RunState::Paused => Some(false),
        RunState::Stopping | RunState::Stopped => None,
    }
}

/// The delivery's mode in words, for reports.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Strict => "strict",
        Mode::AtLeastOnce => "at_least_once",
    }
}

/// Skip reason of a stop.
pub const STOP_REASON: SkipReason = SkipReason::Stopped;

/// Skip reason of a `send_until` that has passed.
pub const LATE_REASON: SkipReason = SkipReason::SendUntil;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{self, Format};
    use crate::ids::{CampaignId, Channel, DeliveryId, RunId};
    use crate::ledger::batch::BootId;
    use crate::ledger::facts::{Claimed, DeliveryEntered, RunStarted};

    const RUN: RunId = RunId(1);
    const DELIVERY: DeliveryId = DeliveryId { run: RUN, index: 0 };
    const SPEC: &str = "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"relay\"\ntopic = \"news\"\n\
                        from = \"a@x.test\"\nsubject = \"s\"\ntext = \"t\"\n";

    fn apply(state: &mut State, fact: &Fact) {
        state.apply(fact, BootId::default()).expect("the fact fits");
    }

    /// A run of rows 0..10: 0 and 1 are claimed, 2 is deferred, the others wait.
    fn state() -> State {
        let at = Timestamp(1_000);
        let spec = campaigns::parse(SPEC, Format::Toml).expect("it parses");
        let compiled = campaigns::compile(&spec).expect("it compiles");
        let mut state = State::default();
        apply(&mut state, &Fact::CampaignSaved { campaign: CampaignId(1), spec: String::new(), at });
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: String::new(),
            connector: "relay".into(),
            mode: Mode::Strict,
            audience: RowSet::base((0..10).collect()),
            skipped: Vec::new(),
            summary: None,
        };
        let started = RunStarted {
            run: RUN,
            campaign: CampaignId(1),
            version: 1,
            graph: compiled.graph,
            deliveries: vec![entered],
            at,
            entrants: RowSet::default(),
        };
        apply(&mut state, &Fact::RunStarted(Box::new(started)));
        let claimed = Claimed {
            batch: BatchId(1),
            delivery: DELIVERY,
            connector: "relay".into(),
            message: crate::ids::MessageId(0),
            rows: (0..3).collect(),
            positions: crate::ledger::rows::Positions::from_sorted(0..3),
            at,
            domain: None,
        };
        apply(&mut state, &Fact::Claimed(claimed));
        let mut settled = Settled::new(BatchId(1), DELIVERY, at);
        settled.deferred = vec![(100, (2..3).collect())];
        apply(&mut state, &Fact::Settled(settled));
        state
    }

    fn moved(state: &mut State, to: RunState) {
        apply(state, &Fact::RunMoved { run: RUN, to, reason: String::new(), at: Timestamp(2_000) });
    }

    #[test]
    fn a_clock_that_goes_back_a_day_makes_no_deferral_wait_a_day() {
        let mut state = state();
        let day = 86_400_000;
        let (batch, deferred_at) = (BatchId(1), Timestamp(10 * day));
        let mut settled = Settled::new(batch, DELIVERY, deferred_at);
        settled.deferred = vec![((deferred_at.0 / 1_000) + 300, (0..1).collect())];
        apply(&mut state, &Fact::Settled(settled));
        let delivery = &state.runs[&RUN].deliveries[0];
        let again = |now| {
            let rows = rows_to_claim(delivery, NodeId(1), &Classes::default(), ClassId(0), 1_000, now);
            assert_eq!(delivery.ready_count(NodeId(1), now, ClassFilter::Any), rows.len(), "the demand says the same");
            rows.contains(0)
        };
        assert!(!again(deferred_at), "it waits");
        assert!(!again(Timestamp(deferred_at.0 + 299_999)), "and waits");
        assert!(again(Timestamp(deferred_at.0 + 300_000)), "its time has come");
        assert!(!again(Timestamp(deferred_at.0 - day / 2)), "a wait that a provider may have asked for");
        assert!(again(Timestamp(deferred_at.0 - day)), "no wait is so long: the clock has gone back");
        let longest = bucket_second(deferred_at.plus(RETRY_WAIT_MAX), deferred_at);
        assert!(longest - deferred_at.0 / 1_000 <= 86_401, "rounding stays within the longest wait: {longest}");
    }

    #[test]
    fn who_got_other_answers_before_is_not_given_up_before_the_deadline() {
        let hour = 3_600_000;
        let mut delivery = state().runs[&RUN].deliveries[0].clone();
        // Thrown back for the moment sixteen times, in sixteen hours; now the mailbox is full, or a crash has lost the answer.
        delivery.deferrals = vec![(0..1).collect(); 16];
        let settings = RetrySettings::default();
        let due = |started_at: i64, now: i64, asked: Option<u64>| {
            let retry = Retry { settings: &settings, started_at: Timestamp(started_at * hour) };
            retry_at(&delivery, retry, 0, asked.map(std::time::Duration::from_secs), Timestamp(now * hour))
        };
        for asked in [None, Some(3_600), Some(2)] {
            assert!(due(100, 116, asked).is_some(), "asked {asked:?} in the sixteenth hour of its run");
        }
        assert_eq!(due(0, 116, None), None, "in a run that is old enough, the schedule's waits are taken for given");
    }

    #[test]
    fn a_restored_run_does_not_end_before_a_person_has_looked() {
        let mut state = state();
        let mut settled = Settled::new(BatchId(1), DELIVERY, Timestamp(6_000));
        settled.unknown = (0..2).collect();
        apply(&mut state, &Fact::Settled(settled));
        moved(&mut state, RunState::Paused);
        for doubted in state.doubts(Timestamp(7_000)) {
            apply(&mut state, &Fact::Doubted(doubted));
        }
        let run = &state.runs[&RUN];
        assert_eq!((run.counts().unknown, run.counts().pending, run.counts().deferred), (10, 0, 0), "all is in doubt");
        assert_eq!(next_of(run), Next::GoOn, "it is held, though nothing is left to send");
        moved(&mut state, RunState::Running);
        assert_eq!(next_of(&state.runs[&RUN]), Next::Finish, "resumed, it ends");
    }

    #[test]
    fn only_a_run_that_handed_nothing_over_may_send_at_once() {
        let mut state = state();
        let start = |state: &State| limit_start(state.runs.get(&RUN));
        assert_eq!(start(&state), Start::Restarted, "rows are claimed, and one was deferred");
        let run = state.runs.get_mut(&RUN).expect("the run");
        let fresh = run.deliveries[0].clone();
        run.deliveries[0] = Delivery {
            pending: fresh.audience.clone(),
            claimed: RoaringBitmap::new(),
            deferred: RoaringBitmap::new(),
            deferrals: Vec::new(),
            ..fresh
        };
        assert_eq!(start(&state), Start::Fresh, "all of it waits");
        assert_eq!(limit_start(None), Start::Restarted, "nothing is known of it");
        let run = state.runs.get_mut(&RUN).expect("the run");
        run.deliveries[0].unknowns = vec![(0..1).collect()];
        assert_eq!(start(&state), Start::Restarted, "an unknown that an operator settled was perhaps handed over");
    }

    #[test]
    fn a_stop_waits_for_what_is_claimed_skips_what_waits_and_ends() {
        let mut state = state();
        let next = |state: &State| next_to_stop(&state.runs[&RUN], Timestamp(9_000));
        assert_eq!(next(&state), None, "nobody asked for it");
        moved(&mut state, RunState::Stopping);
        assert_eq!(next(&state), None, "two answers are awaited");
        let mut settled = Settled::new(BatchId(1), DELIVERY, Timestamp(6_000));
        settled.accepted = (0..2).collect();
        apply(&mut state, &Fact::Settled(settled));
        let mut facts = Vec::new();
        while let Some(fact) = next(&state) {
            apply(&mut state, &fact);
            facts.push(fact.kind());
        }
        assert_eq!(facts, [19, 15], "one fact skips, one ends");
        let run = &state.runs[&RUN];
        assert_eq!(
            (run.state, run.deliveries[0].skipped[&STOP_REASON].len()),
            (RunState::Stopped, 8),
            "all that waited"
        );
        state.check().expect("it balances");
    }

    #[test]
    fn once_send_until_has_passed_all_that_waits_is_skipped_and_the_run_finishes() {
        let mut state = state();
        let until = Some(Timestamp(5_000));
        let late = |state: &State, now| rows_too_late(&state.runs[&RUN], 0, until, Timestamp(now));
        assert!(late(&state, 4_999).is_empty(), "not before its moment");
        assert!(rows_too_late(&state.runs[&RUN], 0, None, Timestamp(i64::MAX)).is_empty(), "never without one");
        let rows = late(&state, 5_000);
        assert_eq!(rows, (2..10).collect(), "pending and deferred rows, not those on their way");
        moved(&mut state, RunState::Stopping);
        assert!(late(&state, 5_000).is_empty(), "a stop names its own reason");
        moved(&mut state, RunState::Paused);
        assert_eq!(late(&state, 5_000), rows, "a pause does not make them any earlier");
        let skipped =
            Fact::Skipped { delivery: DELIVERY, reason: LATE_REASON, rows: RowSet::base(rows), at: Timestamp(5_000) };
        apply(&mut state, &skipped);
        assert_eq!(next_of(&state.runs[&RUN]), Next::GoOn, "two answers are awaited");
        let mut settled = Settled::new(BatchId(1), DELIVERY, Timestamp(6_000));
        settled.accepted = (0..2).collect();
        apply(&mut state, &Fact::Settled(settled));
        assert_eq!(next_of(&state.runs[&RUN]), Next::Finish, "then it is over, paused or not");
        state.check().expect("it balances");
        assert_eq!(state.runs[&RUN].deliveries[0].skipped[&SkipReason::SendUntil].len(), 8, "by their reason");
    }
}
