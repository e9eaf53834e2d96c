//! What the flow of a run does with the contacts at a delay, as functions over the run's state.
//!
//! A contact that arrives gets its time once, by one fact for all who arrived together; its timer is a row in a bucket, and
//! everybody whose bucket is due moves at once. A suspension changes no timer: who fell due meanwhile moves at the first
//! look.
//!
//! Must not know: the base (whose zone is whose is handed in), clocks, the journal.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use roaring::RoaringBitmap;

use crate::actors::flowing::{Task, converted, did, engaged, moved};
use crate::clock::Timestamp;
use crate::flow::delay::civil::instant;
use crate::flow::delay::{Delay as Wait, ZoneSet, by_zone};
use crate::flow::nodes::delay::{due_second, zone_named};
use crate::flow::nodes::{Delay, WaitEvent, delay};
use crate::flow::{Exit, NodeId, NodeKind};
use crate::ledger::flowing::{Moved, Scheduled};
use crate::ledger::plans::RunLaunch;
use crate::ledger::{Fact, RowSet, Run};
use crate::limits::MOMENT_LATE_MAX;
use crate::segments::skip::SkipReason;

/// The next task at a delay: who reached the event leaves, then who is due; who has no time yet gets one.
pub fn delay_task(run: &Run, node: NodeId, delay: &Delay, rows: &RoaringBitmap, now: Timestamp) -> Option<Task> {
    if let Delay::Event { event, .. } = delay {
        let happened = rows
            & match event {
                WaitEvent::Opened(send) => engaged(run, *send, false),
                WaitEvent::Clicked(send) => engaged(run, *send, true),
                WaitEvent::Converted(send) => converted(run, *send),
                WaitEvent::Custom { name, of } => did(run, name, *of),
            };
        if !happened.is_empty() {
            return Some(moved(run, node, vec![(delay::HAPPENED, happened)], now));
        }
    }
    if let Some(missed) = missed(run, node, delay, now) {
        return Some(match delay.due(now) {
            Some(at) => Task::Record(scheduled(run, node, BTreeMap::from([(at, missed)]), now)),
            None => Task::Clocks { run: run.id, node, rows: missed },
        });
    }
    let ready = run.flow.due(node, now);
    if !ready.is_empty() {
        return Some(moved(run, node, vec![(delay.due_exit(), ready)], now));
    }
    let new = without_time(run, node, rows)?;
    Some(match (delay.due(now), delay, local_launch(run)) {
        (Some(at), ..) => Task::Record(scheduled(run, node, BTreeMap::from([(at, new)]), now)),
        (None, Delay::Launch, None) => moved(run, node, vec![(Exit::NEXT, new)], now),
        (None, ..) => Task::Clocks { run: run.id, node, rows: new },
    })
}

/// Times of those who have none yet, if they are the same in every zone.
pub fn timer(run: &Run, node: NodeId, delay: &Delay, rows: &RoaringBitmap, now: Timestamp) -> Option<Task> {
    let at = delay.due(now)?;
    let new = without_time(run, node, rows)?;
    Some(Task::Record(scheduled(run, node, BTreeMap::from([(at, new)]), now)))
}

/// Rows of a delay that have no time yet.
fn without_time(run: &Run, node: NodeId, rows: &RoaringBitmap) -> Option<RoaringBitmap> {
    (run.flow.scheduled_count(node) != rows.len()).then(|| rows - run.flow.scheduled(node))
}

/// Rows whose moment passed so long ago that it is none any more: they wait for its next occurrence.
fn missed(run: &Run, node: NodeId, delay: &Delay, now: Timestamp) -> Option<RoaringBitmap> {
    if !matches!(delay.clock(), Some((Wait::Moment(_), _))) {
        return None;
    }
    let late = i64::try_from(MOMENT_LATE_MAX.as_millis()).unwrap_or(i64::MAX);
    let rows = run.flow.due(node, Timestamp(now.0.saturating_sub(late)));
    (!rows.is_empty()).then_some(rows)
}

/// The launch by each contact's own clocks that began the run.
fn local_launch(run: &Run) -> Option<&RunLaunch> {
    run.launch.as_ref().filter(|made| made.launch.local.is_some())
}

fn scheduled(run: &Run, node: NodeId, due: BTreeMap<Timestamp, RoaringBitmap>, at: Timestamp) -> Fact {
    let mut seconds: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
    for (at, rows) in due {
        *seconds.entry(due_second(at)).or_default() |= rows;
    }
    Fact::Scheduled(Scheduled { run: run.id, node, due: seconds.into_iter().collect(), at })
}

/// What becomes of rows that came to a delay by each contact's own clocks. `zones` are disjoint, or a row is of the first.
/// `None` if the run has changed meanwhile.
pub fn by_clocks(run: &Run, node: NodeId, rows: &RoaringBitmap, zones: &[ZoneSet], now: Timestamp) -> Option<Fact> {
    let Some(NodeKind::Delay(delay)) = run.graph.node(node).map(|n| &n.kind) else { return None };
    match delay {
        Delay::Clock { .. } | Delay::Dated { .. } => {
            let times = by_zone(rows, zones, &TimeZone::UTC, |zone| delay.due_by(now, zone).unwrap_or(now));
            Some(scheduled(run, node, times, now))
        }
        Delay::Launch => {
            let made = local_launch(run)?;
            let local = made.launch.local?;
            let default = made.default_zone.as_deref().map_or(TimeZone::UTC, zone_named);
            let times = by_zone(rows, zones, &default, |zone| instant(local, zone));
            let (late, on_time) = parted(times, made.too_late_ms, now);
            let fact =
                if late.is_empty() { scheduled(run, node, on_time, now) } else { leave_late(run, node, late, now) };
            Some(fact)
        }
        Delay::Seconds(_) | Delay::Until(_) | Delay::Event { .. } => None,
    }
}

type Times = BTreeMap<Timestamp, RoaringBitmap>;

/// Rows whose time has passed for longer than the limit, and the others with theirs.
fn parted(times: Times, limit_ms: Option<u64>, now: Timestamp) -> (RoaringBitmap, Times) {
    let limit = limit_ms.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX);
    let (late, on_time): (Times, Times) = times.into_iter().partition(|(at, _)| now.0.saturating_sub(at.0) > limit);
    (late.into_values().fold(RoaringBitmap::new(), |all, rows| all | rows), on_time)
}

/// First the ledger says why they get no message, then they go.
fn leave_late(run: &Run, node: NodeId, late: RoaringBitmap, at: Timestamp) -> Fact {
    let held = run.deliveries.iter().map(|delivery| (delivery, &late & &delivery.held));
    if let Some((delivery, rows)) = held.into_iter().find(|(_, rows)| !rows.is_empty()) {
        let rows = RowSet { space: delivery.space, rows };
        return Fact::Skipped { delivery: delivery.id, reason: SkipReason::Late, rows, at };
    }
    Fact::Moved(Moved { run: run.id, node, exits: vec![(delay::LATE, late)], at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::flowing::next_task;
    use crate::campaigns::schedule::Launch;
    use crate::campaigns::{Format, compile, parse};
    use crate::ids::{CampaignId, Channel, RunId};
    use crate::ledger::batch::BootId;
    use crate::ledger::facts::{DeliveryEntered, RunStarted};
    use crate::ledger::plans::{Launched, NextLaunch, Published};
    use crate::ledger::{Mode, State};

    const SPEC: &str = r#"
name = "morning"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "a@b.test"
subject = "S"
text = "T"
[schedule]
at = "2026-11-06T09:00"
zone = "contact"
"#;

    const LOCAL: NodeId = NodeId(4);
    const SEND: NodeId = NodeId(1);
    const RUN: RunId = RunId(1);

    fn utc(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
    }

    fn commit(state: &mut State, fact: Fact) {
        state.apply(&fact, BootId::default()).expect("fits");
    }

    /// A campaign at nine by each contact's clocks, launched at `at` to rows 0 to 99.
    fn launched(at: Timestamp, too_late_ms: Option<u64>) -> State {
        let spec = parse(SPEC, Format::Toml).expect("a spec");
        let compiled = compile(&spec).expect("compiles");
        let (campaign, mut state) = (CampaignId(1), State::default());
        commit(&mut state, Fact::CampaignSaved { campaign, spec: spec.to_json(), at });
        let launch = Launch::local("2026-11-06T09:00".parse().expect("a time"));
        let next = NextLaunch { launch, effective: launch.at };
        commit(&mut state, Fact::Published(Published { campaign, version: 1, spec: None, next, at, draft: None }));
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: "news".to_owned(),
            connector: "relay".to_owned(),
            mode: Mode::Strict,
            audience: RowSet::base((0..100).collect()),
            skipped: Vec::new(),
            summary: None,
        };
        let graph = compiled.graph;
        let (deliveries, entrants) = (vec![entered], crate::ledger::RowSet::default());
        let started = RunStarted { run: RUN, campaign, version: 1, graph, deliveries, at, entrants };
        let made =
            RunLaunch { launch, effective: launch.at, default_zone: Some("Asia/Kathmandu".to_owned()), too_late_ms };
        commit(&mut state, Fact::Launched(Box::new(Launched { started, made, next: None })));
        state
    }

    fn zones() -> Vec<ZoneSet> {
        let zone = |name: &str, rows: std::ops::Range<u32>| ZoneSet { zone: zone_named(name), rows: rows.collect() };
        vec![zone("Pacific/Auckland", 0..10), zone("Europe/Paris", 10..40), zone("America/New_York", 40..60)]
    }

    /// Everything that can happen at this moment.
    fn settle(state: &mut State, now: Timestamp) {
        while let Some(task) = next_task(&state.runs[&RUN], now) {
            let fact = match task {
                Task::Record(fact) => fact,
                Task::Clocks { node, rows, .. } => {
                    by_clocks(&state.runs[&RUN], node, &rows, &zones(), now).expect("a fact")
                }
                other => panic!("nothing else to do: {other:?}"),
            };
            commit(state, fact);
        }
    }

    fn at_send(state: &State) -> u64 {
        state.runs[&RUN].positions.count(SEND)
    }

    #[test]
    fn each_contact_is_sent_to_at_nine_by_its_own_clocks() {
        let mut state = launched(utc("2026-11-05T19:00:00Z"), None);
        settle(&mut state, utc("2026-11-05T19:00:00Z"));
        assert_eq!(state.runs[&RUN].flow.waits[&LOCAL].len(), 100, "all wait");
        for (now, sent, who) in [
            ("2026-11-05T19:59:00Z", 0, "nobody yet"),
            ("2026-11-05T20:00:00Z", 10, "Auckland"),
            ("2026-11-06T03:15:00Z", 50, "those without a zone go by the default"),
            ("2026-11-06T08:00:00Z", 80, "Paris"),
            ("2026-11-06T13:59:00Z", 80, "still"),
            // Months of suspension: who fell due meanwhile goes at the first look.
            ("2027-03-01T00:00:00Z", 100, "New York"),
        ] {
            settle(&mut state, utc(now));
            assert_eq!(at_send(&state), sent, "{now}: {who}");
        }
        assert!(state.runs[&RUN].flow.waits.is_empty(), "no timer is left");
        state.runs[&RUN].positions.verify(&state.runs[&RUN].graph).expect("everybody is at one node");
    }

    /// A test of two moments, cut at noon of a Friday: Saturday at ten, or Monday at nine, in Paris.
    fn tested(at: Timestamp) -> State {
        let moments = "[[variants]]\nname = \"A\"\nat = \"saturday 10:00\"\n[[variants]]\nname = \"B\"\n\
                       at = \"monday 09:00\"\n[test]\nzone = \"Europe/Paris\"\nsample = \"100%\"\ndecide_after = \"20d\"\n";
        let head = SPEC.split("[schedule]").next().expect("the rest");
        let spec = parse(&format!("kind = \"ab_split\"\n{head}{moments}"), Format::Toml).expect("a spec");
        let compiled = compile(&spec).expect("compiles");
        let (campaign, mut state) = (CampaignId(1), State::default());
        commit(&mut state, Fact::CampaignSaved { campaign, spec: spec.to_json(), at });
        let entered = DeliveryEntered {
            channel: Channel::Email,
            topic: "news".to_owned(),
            connector: "relay".to_owned(),
            mode: Mode::Strict,
            audience: RowSet::base((0..100).collect()),
            skipped: Vec::new(),
            summary: None,
        };
        let (graph, deliveries, entrants) = (compiled.graph, vec![entered], crate::ledger::RowSet::default());
        let started = RunStarted { run: RUN, campaign, version: 1, graph, deliveries, at, entrants };
        commit(&mut state, Fact::RunStarted(Box::new(started)));
        let Some(Task::Share { node, rows, shares, .. }) = next_task(&state.runs[&RUN], at) else { panic!("no cut") };
        let cut = crate::actors::flowing::share_out(RUN, node, &rows, &shares, at).expect("shares");
        commit(&mut state, cut);
        state
    }

    #[test]
    fn a_moment_that_was_missed_for_long_is_waited_for_again() {
        let at = utc("2026-11-06T12:00:00Z");
        let (first, second) = (NodeId(10), NodeId(11));
        let sent = |state: &State, node| state.runs[&RUN].positions.count(node);
        let mut state = tested(at);
        settle(&mut state, at);
        settle(&mut state, utc("2026-11-07T08:59:59Z"));
        assert_eq!((sent(&state, first), sent(&state, second)), (0, 0), "not yet ten in Paris");
        // Half an hour late is ten; on Monday the machine sleeps until noon, and nine comes again a week later.
        settle(&mut state, utc("2026-11-07T09:30:00Z"));
        assert_eq!((sent(&state, first), sent(&state, second)), (50, 0), "Saturday");
        settle(&mut state, utc("2026-11-09T11:00:00Z"));
        assert_eq!(sent(&state, second), 0, "nine is long over");
        settle(&mut state, utc("2026-11-16T07:59:59Z"));
        assert_eq!(sent(&state, second), 0, "not yet");
        settle(&mut state, utc("2026-11-16T08:00:00Z"));
        assert_eq!(sent(&state, second), 50, "the next Monday at nine");
        assert!(state.runs[&RUN].flow.waits.is_empty(), "no timer is left");
    }

    #[test]
    fn who_is_too_late_gets_nothing_and_the_ledger_says_why() {
        // Published late: nine is over in Auckland, Kathmandu and Paris, and two hours are allowed.
        let now = utc("2026-11-06T09:30:00Z");
        let mut state = launched(now, Some(2 * 3_600_000));
        settle(&mut state, now);
        let run = &state.runs[&RUN];
        assert_eq!(at_send(&state), 30, "Paris, an hour and a half late");
        assert_eq!(run.deliveries[0].skipped[&SkipReason::Late].len(), 50, "Auckland and those without a zone");
        assert_eq!(run.flow.waits[&LOCAL].len(), 20, "New York waits");
        run.deliveries[0].check().expect("balanced");
    }
}
