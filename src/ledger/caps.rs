//! Who may not be written to now, as they had enough: frequency caps, and "not contacted in N days".
//!
//! Asked twice: for a whole audience when it is evaluated, and for each claim, under the lock under which claims are made.
//! Counted are accepted messages, unknown ones (they may have arrived), and claimed ones, on the channel of the cap, in all runs;
//! what was returned, rejected, deferred or skipped is not. As every row is claimed before it is handed over, and the claim is
//! counted with the same lock, caps are kept exactly, however many campaigns send at the same time. A deferred message that finds
//! its cap reached when it is tried again is skipped then.
//!
//! "Not contacted" asks for messages of *other* runs, on any channel: to whom a run has written itself, it may write again.
//!
//! Owns no state. Invariant: CK-1 after a claim no contact has more messages than a cap allows in its days, if the clock
//! does not go back over midnight UTC and the caps were the same before.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::config::caps::Caps;
use crate::ids::{Channel, RowSpace, RunId};
use crate::ledger::days::in_at_least;
use crate::ledger::run::Run;
use crate::ledger::state::State;
use crate::segments::skip::SkipReason;

/// What it takes to say who had enough: cheap to copy out of a state.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// Reason, messages from which on a contact has had enough, sets to be counted.
    rules: Vec<(SkipReason, u32, Vec<Arc<RoaringBitmap>>)>,
    /// Contacts that the asking run has written to; they pass the rules about other runs.
    own: RoaringBitmap,
}

impl Reached {
    /// The sets as they are now. `among`: the rows that will be asked about, if they are few; `run`: who asks.
    pub fn look(
        state: &State,
        caps: &Caps,
        channel: Channel,
        run: Option<RunId>,
        now: Timestamp,
        among: Option<&RoaringBitmap>,
    ) -> Reached {
        let mut reached = Reached::default();
        if caps.is_empty() {
            return reached;
        }
        if let Some(days) = caps.not_contacted_days {
            let mut sets = state.days.contacted(None, now, days);
            sets.extend(in_flight(state, None, among));
            reached.own =
                run.and_then(|run| state.runs.get(&run)).map(|run| written_to(run, among)).unwrap_or_default();
            reached.rules.push((SkipReason::RecentlyContacted, 1, sets));
        }
        for cap in caps.caps.iter().filter(|cap| cap.channel == channel) {
            let mut sets = state.days.counted(cap.channel, now, cap.days);
            sets.extend(in_flight(state, Some(channel), among));
            reached.rules.push((SkipReason::FrequencyCap, cap.max, sets));
        }
        reached
    }

    /// Rows of `among` that had enough, by the first rule that says so; disjoint.
    pub fn of(&self, among: &RoaringBitmap) -> Vec<(SkipReason, RoaringBitmap)> {
        let mut left = among.clone();
        let mut found = Vec::new();
        for (reason, max, sets) in &self.rules {
            let mut enough = in_at_least(sets.iter().map(|set| &**set), &left, *max);
            if *reason == SkipReason::RecentlyContacted {
                enough -= &self.own;
            }
            if !enough.is_empty() {
                left -= &enough;
                found.push((*reason, enough));
            }
        }
        found
    }
}

/// Claimed rows of the base, in all live runs: they are about to be handed over.
fn in_flight<'s>(
    state: &'s State,
    channel: Option<Channel>,
    among: Option<&'s RoaringBitmap>,
) -> impl Iterator<Item = Arc<RoaringBitmap>> + 's {
    let live = state.runs.values().filter(|run| run.state.is_live());
    let each = live.flat_map(|run| run.deliveries.iter().zip(&run.routes));
    let ours = each.filter(move |(delivery, route)| {
        delivery.space == RowSpace::BASE && channel.is_none_or(|wanted| wanted == route.channel)
    });
    ours.map(move |(delivery, _)| within(&delivery.claimed, among)).filter(|rows| !rows.is_empty()).map(Arc::new)
}

fn within(rows: &RoaringBitmap, among: Option<&RoaringBitmap>) -> RoaringBitmap {
    among.map_or_else(|| rows.clone(), |among| rows & among)
}

/// Contacts that a run has written to, or is about to.
fn written_to(run: &Run, among: Option<&RoaringBitmap>) -> RoaringBitmap {
    let sets = run.deliveries.iter().flat_map(|delivery| [&delivery.accepted, &delivery.unknown, &delivery.claimed]);
    sets.fold(RoaringBitmap::new(), |all, rows| all | within(rows, among))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::campaigns::{Format, compile, parse};
    use crate::config::caps::Cap;
    use crate::ids::{BatchId, CampaignId, DeliveryId, MessageId};
    use crate::ledger::batch::BootId;
    use crate::ledger::facts::{Claimed, DeliveryEntered, Fact, Returned, RunStarted, Settled};
    use crate::ledger::{Mode, Positions, RejectClass, RowSet};

    const DAY: i64 = 86_400_000;
    const PEOPLE: u32 = 6;
    const SPEC: &str =
        "name = \"a\"\n[audience]\nall = true\n[message]\nchannel = \"email\"\nconnector = \"r\"\ntopic = \"t\"\n";

    /// Runs 1 to `runs`, each to everybody.
    fn running(runs: u32) -> State {
        let graph = compile(&parse(SPEC, Format::Toml).expect("spec")).expect("compiles").graph;
        let mut state = State::default();
        let mut apply = |fact: &Fact| state.apply(fact, BootId::default()).expect("it fits");
        for run in 1..=runs {
            let campaign = CampaignId(run);
            apply(&Fact::CampaignSaved { campaign, spec: "{}".into(), at: Timestamp(0) });
            let delivery = DeliveryEntered {
                channel: Channel::Email,
                topic: "t".into(),
                connector: "r".into(),
                mode: Mode::Strict,
                audience: RowSet::base((0..PEOPLE).collect()),
                skipped: Vec::new(),
                summary: None,
            };
            let started = RunStarted {
                run: RunId(run),
                campaign,
                version: 1,
                graph: graph.clone(),
                deliveries: vec![delivery],
                at: Timestamp(0),
                entrants: crate::ledger::RowSet::default(),
            };
            apply(&Fact::RunStarted(Box::new(started)));
        }
        state
    }

    fn delivery(run: u32) -> DeliveryId {
        DeliveryId { run: RunId(run), index: 0 }
    }

    fn claimed(state: &State, batch: u64, run: u32, rows: RoaringBitmap, at: Timestamp) -> Option<Fact> {
        let pending = &state.delivery(delivery(run)).expect("it is there").pending;
        let rows = rows & pending;
        let positions = Positions::from_sorted(0..u32::try_from(rows.len()).unwrap_or(0));
        let claim = Claimed {
            batch: BatchId(batch),
            delivery: delivery(run),
            connector: "r".into(),
            message: MessageId(0),
            rows,
            positions,
            at,
            domain: None,
        };
        (!claim.rows.is_empty()).then_some(Fact::Claimed(claim))
    }

    fn settled(batch: u64, run: u32, rows: &RoaringBitmap, how: u8, at: Timestamp) -> Fact {
        let mut fact = Settled::new(BatchId(batch), delivery(run), at);
        match how {
            0 => fact.accepted = rows.clone(),
            1 => fact.unknown = rows.clone(),
            2 => fact.rejected = vec![(RejectClass::Policy, rows.clone())],
            _ => {
                return Fact::Returned(Returned {
                    batch: BatchId(batch),
                    delivery: delivery(run),
                    rows: rows.clone(),
                    at,
                });
            }
        }
        Fact::Settled(fact)
    }

    #[test]
    fn a_pause_asks_other_runs_and_not_the_own_one() {
        let mut state = running(2);
        let at = Timestamp(5 * DAY);
        let caps = Caps { caps: Vec::new(), not_contacted_days: Some(3) };
        let all: RoaringBitmap = (0..PEOPLE).collect();
        let enough = |state: &State, run: Option<u32>, at| {
            let found = Reached::look(state, &caps, Channel::Email, run.map(RunId), at, None).of(&all);
            found.into_iter().flat_map(|(_, rows)| rows).collect::<Vec<u32>>()
        };
        let claim = claimed(&state, 1, 1, [0, 1].into_iter().collect(), at).expect("two");
        state.apply(&claim, BootId::default()).expect("it fits");
        assert_eq!(enough(&state, Some(2), at), [0, 1], "about to be written to");
        assert_eq!(enough(&state, Some(1), at), Vec::<u32>::new(), "by the run itself");
        state.apply(&settled(1, 1, &[0].into_iter().collect(), 0, at), BootId::default()).expect("it fits");
        state.apply(&settled(1, 1, &[1].into_iter().collect(), 3, at), BootId::default()).expect("it fits");
        assert_eq!(enough(&state, None, Timestamp(7 * DAY)), [0], "what came back does not count");
        assert_eq!(enough(&state, None, Timestamp(8 * DAY)), Vec::<u32>::new(), "three days are over");
    }

    proptest! {
        #[test]
        fn no_contact_ever_has_more_than_a_cap_allows(
            steps in prop::collection::vec((1u32..4, prop::collection::btree_set(0u32..PEOPLE, 1..5), 0u8..4, 0i64..2), 1..60),
            max in 1u32..4, days in 1u32..4,
        ) {
            let caps = Caps { caps: vec![Cap { channel: Channel::Email, max, days }], not_contacted_days: None };
            let mut state = running(3);
            type Open = Option<(u64, u32, RoaringBitmap, u8)>;
            let (mut day, mut open, mut got): (i64, Open, Vec<(i64, u32)>) = (0, None, Vec::new());
            for (batch, (run, who, how, later)) in (1u64..).zip(steps) {
                let at = Timestamp(day * DAY);
                let wanted: RoaringBitmap = who.into_iter().collect();
                let enough = Reached::look(&state, &caps, Channel::Email, Some(RunId(run)), at, Some(&wanted)).of(&wanted);
                let may = enough.into_iter().fold(wanted, |left, (_, rows)| left - rows);
                if let Some(Fact::Claimed(claim)) = claimed(&state, batch, run, may, at) {
                    let rows = claim.rows.clone();
                    state.apply(&Fact::Claimed(claim), BootId::default()).expect("it fits");
                    // One claim is under way while the next is made.
                    if let Some((batch, run, rows, how)) = open.replace((batch, run, rows, how)) {
                        state.apply(&settled(batch, run, &rows, how, at), BootId::default()).expect("it fits");
                        if how < 2 {
                            got.extend(rows.iter().map(|row| (day, row)));
                        }
                    }
                }
                for row in 0..PEOPLE {
                    let lately = got.iter().filter(|(d, r)| *r == row && *d > day - i64::from(days)).count();
                    let under_way = usize::from(open.as_ref().is_some_and(|(_, _, rows, _)| rows.contains(row)));
                    prop_assert!(lately + under_way <= max as usize, "{} and {} of {} for {}", lately, under_way, max, row);
                }
                if later == 1 {
                    if let Some((batch, run, rows, how)) = open.take() {
                        state.apply(&settled(batch, run, &rows, how, at), BootId::default()).expect("it fits");
                        got.extend(rows.iter().filter(|_| how < 2).map(|row| (day, row)));
                    }
                    day += 1;
                }
            }
            state.check().expect("the ledgers balance");
        }
    }
}
