//! From the sets of a run to the verdict on a test, and from the verdict to what happens.
//!
//! Figures are read from the same sets as every report. Must not know: actix, clocks, the journal.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use crate::clock::Timestamp;
use crate::flow::nodes::{AbTest, NotProven};
use crate::flow::winner::{
    self, Arm, ArmFinding, Decision, GuardRail, Interval, Judgement, Looks, OnNotProven, Rules, Verdict, Waiting,
    WinnerError,
};
use crate::flow::{Exit, NodeId};
use crate::ids::RunId;
use crate::ledger::flowing::{ArmFigures, Decided, Looked, TestMemory};
use crate::ledger::tracking::EventClass;
use crate::ledger::watch::{ArmSends, Watch};
use crate::ledger::{Fact, Run};
use crate::limits::WINNER_SEQUENCE_TUNED_FOR;

/// Who decides when no person does.
pub const ENGINE: &str = "engine";

/// Every arm of a test as it stands at this moment: contacts whose message was accepted and whose window is over (*matured*),
/// those of them whose message has not bounced so far (*delivered*), and those of these who did what counts within it.
/// Sizes are compared by who has matured, since a bounce is an effect of what was sent; rates are of who has got it. Only people's events count; suspects and machines are shown and never decide.
pub fn figures(run: &Run, node: NodeId, test: &AbTest, now: Timestamp) -> Vec<ArmFigures> {
    let watch = run.flow.tests.get(&node).and_then(|memory| memory.watch.as_ref());
    let Some(watch) = watch else { return test.arms.iter().map(|arm| ArmFigures::none(arm.exit.clone())).collect() };
    let matured = watch.windows.matured(now);
    watch.arms.iter().map(|arm| arm_figures(run, watch, arm, &matured)).collect()
}

fn arm_figures(run: &Run, watch: &Watch, arm: &ArmSends, matured: &RoaringBitmap) -> ArmFigures {
    let assigned = arm.assigned(&run.deliveries);
    let accepted = arm.accepted(&run.deliveries) & watch.windows.seen();
    let matured = &accepted & matured;
    let bounced = &accepted & arm.bounced(run);
    let judged = &matured - &bounced;
    let of = |sets: &mut dyn Iterator<Item = &RoaringBitmap>| -> u64 {
        sets.map(|set| set.intersection_len(&assigned)).sum()
    };
    let class = |class| watch.counted.rows.get(&class).map_or(0, |rows| rows.intersection_len(&judged));
    let deliveries = || {
        let indices: BTreeSet<u16> = arm.sends.iter().map(|(_, index, _)| *index).collect();
        indices.into_iter().filter_map(|index| run.delivery(index))
    };
    ArmFigures {
        arm: arm.exit.clone(),
        contacts: assigned.len(),
        accepted: accepted.len(),
        matured: matured.len(),
        delivered: judged.len(),
        bounced: bounced.len(),
        events: class(EventClass::Human),
        suspect: class(EventClass::Suspect),
        machine: class(EventClass::Machine),
        unsubscribed: watch.unsubscribed.intersection_len(&judged),
        complained: watch.complained.intersection_len(&judged),
        rejected: deliveries().map(|delivery| of(&mut delivery.rejected.values())).sum(),
        skipped: deliveries().map(|delivery| of(&mut delivery.skipped.values())).sum(),
        unknown: deliveries().map(|delivery| delivery.unknown.intersection_len(&assigned)).sum(),
    }
}

/// Whether there is anything to look at before the deadline: in each arm somebody's window is over. Variants at moments of
/// their own are compared only when all of each has gone out and every window is over: until then one has had more time.
pub fn may_look(run: &Run, node: NodeId, test: &AbTest, arms: &[ArmFigures]) -> bool {
    arms.iter().all(|arm| {
        let settled = arm.accepted + arm.rejected + arm.skipped + arm.unknown;
        let whole = || settled == run.flow.left_by(node, &arm.arm) && arm.matured == arm.accepted;
        arm.matured > 0 && (!test.moments || whole())
    })
}

/// The looks of a test as its boundaries need them: after which parts of what the sample can tell (see [`winner::looks_after`]).
pub fn looks_of(test: &AbTest, look: u16, sample: u64, arms: &[ArmFigures], earlier: &[Looked]) -> Looks {
    if test.continuing() {
        return Looks::Open { tuned_for: WINNER_SEQUENCE_TUNED_FOR };
    }
    if test.looks <= 1 || sample == 0 {
        return Looks::Planned { look: u32::from(look.max(1)), looks: u32::from(test.looks) };
    }
    let judged = |arms: &[ArmFigures]| arms.iter().map(|arm| arm.delivered).sum::<u64>();
    let earlier: Vec<u64> = earlier.iter().map(|looked| judged(&looked.arms)).collect();
    winner::looks_after(&earlier, judged(arms), sample, test.is_deadline(look))
}

/// What the figures say at a planned look, with its statistics.
pub fn judge(test: &AbTest, looks: Looks, arms: &[ArmFigures]) -> Result<Judgement, WinnerError> {
    let weight_of = |exit: &Exit| test.arms.iter().find(|arm| arm.exit == *exit).map_or(1, |arm| arm.weight);
    let counted: Vec<Arm> = arms
        .iter()
        .map(|arm| Arm {
            name: arm.arm.name().to_owned(),
            contacts: arm.delivered,
            sampled: Some(arm.matured),
            events: arm.events,
            complaints: arm.complained,
            unsubscribes: arm.unsubscribed,
            share: f64::from(weight_of(&arm.arm)),
        })
        .collect();
    let rules = Rules { looks, min_contacts: test.min_delivered, min_events: test.min_events, ..Rules::default() };
    winner::judge(&counted, &rules)
}

/// The look as a fact.
pub fn look_at(
    run: RunId,
    node: NodeId,
    test: &AbTest,
    (look, looks): (u16, Looks),
    arms: Vec<ArmFigures>,
    at: Timestamp,
) -> Result<Fact, WinnerError> {
    let judgement = judge(test, looks, &arms)?;
    let verdict = judgement.verdict.name().to_owned();
    // A judgement holds no map and no NaN, so that there is always a text of it.
    let statistics = serde_json::to_string(&judgement).unwrap_or_default();
    Ok(Fact::Looked(Looked { run, node, look, arms, verdict, statistics, at }))
}

/// What a look decides; `None` while the test goes on or a person must choose.
pub fn follows(test: &AbTest, looked: &Looked, at: Timestamp) -> Option<Decided> {
    if !may_follow(test, looked) {
        return None;
    }
    let judgement: Judgement = serde_json::from_str(&looked.statistics).ok()?;
    let decided = |winner: Option<Exit>, proven: bool, reason: String| {
        let by = ENGINE.to_owned();
        Some(Decided { run: looked.run, node: looked.node, winner, proven, by, reason, at })
    };
    match what_follows(test, looked, &judgement) {
        Decision::Continue | Decision::WaitForPerson(_) => None,
        Decision::Send { variant, proven, .. } => {
            let reason = explain(&judgement, looked, test, Some(&variant));
            decided(Some(Exit(variant.into())), proven, reason)
        }
        Decision::SendNobody => {
            decided(None, false, format!("nobody gets it: {}", explain(&judgement, looked, test, None)))
        }
    }
}

/// Whether a look can lead to a decision at all. The verdict's name and the setting say so without the statistics, which
/// would be read anew at every tick while the test goes on or a person is waited for.
fn may_follow(test: &AbTest, looked: &Looked) -> bool {
    let is = |verdict: Verdict| looked.verdict == verdict.name();
    let settled_by_setting = test.is_deadline(looked.look) && !matches!(test.not_proven, NotProven::Wait);
    is(Verdict::Proven) || (settled_by_setting && !is(Verdict::SampleBroken))
}

/// The decision that a look leads to, a person's turn included.
pub fn what_follows(test: &AbTest, looked: &Looked, judgement: &Judgement) -> Decision {
    let otherwise = match &test.not_proven {
        NotProven::Leader => OnNotProven::Leader,
        NotProven::Wait => OnNotProven::Wait,
        NotProven::Nobody => OnNotProven::Nobody,
        NotProven::Arm(exit) => OnNotProven::Variant(exit.name().to_owned()),
    };
    winner::decide(judgement, test.is_deadline(looked.look), &otherwise)
}

/// The leader against the arm that it is least clearly ahead of: what a judgement rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    pub leader: String,
    pub other: String,
    /// Rate of the leader minus that of the other.
    pub difference: f64,
    /// Newcombe interval of the difference, as if looked at once and at this pair alone.
    pub interval: Interval,
    /// The same at the boundary in force: it pays for looks and pairs.
    pub interval_at_boundary: Interval,
    pub z: f64,
    pub p: f64,
    pub p_holm: f64,
    pub boundary: f64,
}

/// `None` without a leader, or without another arm to compare it with.
pub fn effect(judgement: &Judgement) -> Option<Effect> {
    let leader = judgement.leader.as_deref()?;
    let pairs = judgement.pairs.iter().filter(|pair| pair.first == leader || pair.second == leader);
    let pair = pairs.max_by(|a, b| a.p_holm.total_cmp(&b.p_holm))?;
    // A pair is second minus first.
    let turned = pair.first == leader;
    let sign = if turned { -1.0 } else { 1.0 };
    let facing = |interval: Interval| match turned {
        true => Interval { low: -interval.high, high: -interval.low },
        false => interval,
    };
    Some(Effect {
        leader: leader.to_owned(),
        other: if turned { pair.second.clone() } else { pair.first.clone() },
        difference: sign * pair.diff,
        interval: facing(pair.diff_ci),
        interval_at_boundary: facing(pair.interval_at_boundary),
        z: sign * pair.z,
        p: pair.sequence.map_or(pair.p, |sequence| sequence.p),
        p_holm: pair.p_holm,
        boundary: pair.boundary,
    })
}

/// Why a person must choose now; `None` while nobody must.
pub fn waits_for_person(test: &AbTest, memory: &TestMemory) -> Option<Waiting> {
    let look = memory.looks.last().filter(|_| memory.decided.is_none())?;
    let judgement: Judgement = serde_json::from_str(&look.statistics).ok()?;
    match what_follows(test, look, &judgement) {
        Decision::WaitForPerson(why) => Some(why),
        _ => None,
    }
}

/// One sentence with the numbers.
pub fn explain(judgement: &Judgement, looked: &Looked, test: &AbTest, chosen: Option<&str>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for arm in &judgement.arms {
        let rate = arm.rate.map_or("–".to_owned(), |rate| format!("{:.2} %", rate * 100.0));
        parts.push(format!("{} {rate} ({} of {})", arm.name, arm.events, arm.contacts));
    }
    let pair =
        judgement.pairs.iter().filter(|pair| chosen.is_none_or(|name| pair.first == name || pair.second == name));
    let weakest = pair.max_by(|a, b| a.p_holm.total_cmp(&b.p_holm));
    let evidence = weakest.map_or(String::new(), |pair| {
        format!(
            "; {} − {}: p {}, z = {:.2}, boundary {:.2}",
            pair.second,
            pair.first,
            if pair.p_holm < 0.0001 { "< 0.0001".to_owned() } else { format!("= {:.4}", pair.p_holm) },
            pair.z,
            pair.boundary
        )
    });
    let guarded: String = judgement.arms.iter().filter_map(cannot_win).collect();
    let (verdict, metric) = (judgement.verdict.name(), test.metric.name());
    let chosen = chosen.map_or(String::new(), |name| format!("{name} · "));
    let look = match test.continuing() {
        true => format!("look {}", looked.look),
        false => format!("look {} of {}", looked.look, test.looks),
    };
    format!("{chosen}{verdict} at {look}, by {metric}: {}{evidence}{guarded}", parts.join(", "))
}

/// Why an arm cannot win whatever its rate is; nothing of one that may.
fn cannot_win(arm: &ArmFinding) -> Option<String> {
    let rails = arm.guarded.iter().map(|rail| match rail {
        GuardRail::Complaints => format!("{} complaints", arm.complaints),
        GuardRail::Unsubscribes => format!("{} opt-outs", arm.unsubscribes),
    });
    let rails: Vec<String> = rails.collect();
    let (name, contacts, rails) = (&arm.name, arm.contacts, rails.join(" and "));
    (!arm.guarded.is_empty())
        .then(|| format!("; {name} cannot win: {rails} of {contacts}, significantly more than another"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::nodes::{Arm as NodeArm, Metric, SampleSize};

    fn test(looks: u16, not_proven: NotProven) -> AbTest {
        let arm = |name: &'static str| NodeArm { exit: Exit(name.into()), weight: 1 };
        AbTest {
            arms: vec![arm("A"), arm("B")],
            sample: SampleSize::Share(2_000),
            metric: Metric::Clicks,
            decide_after_seconds: 3_600,
            looks,
            not_proven,
            min_delivered: 500,
            min_events: 40,
            window_seconds: 1_800,
            goal: None,
            moments: false,
            look_every_seconds: 0,
        }
    }

    fn looked(test: &AbTest, look: u16, events: [u64; 2]) -> Looked {
        let arm = |name: &'static str, events| ArmFigures {
            accepted: 1_000,
            matured: 1_000,
            delivered: 1_000,
            events,
            ..ArmFigures::none(Exit(name.into()))
        };
        let arms = vec![arm("A", events[0]), arm("B", events[1])];
        let looks = looks_of(test, look, 0, &arms, &[]);
        match look_at(RunId(1), NodeId(1), test, (look, looks), arms, Timestamp(5)).expect("judged") {
            Fact::Looked(looked) => looked,
            other => panic!("a look makes {other:?}"),
        }
    }

    #[test]
    fn a_proof_decides_at_any_look_and_says_why() {
        let test = test(4, NotProven::Nobody);
        let early = follows(&test, &looked(&test, 2, [60, 160]), Timestamp(6)).expect("proven");
        assert_eq!(early.winner, Some(Exit("B".into())), "{early:?}");
        assert!(early.proven && early.reason.contains("look 2 of 4") && early.reason.contains("16.00 %"), "{early:?}");
        assert_eq!(follows(&test, &looked(&test, 2, [100, 110]), Timestamp(6)), None, "the test goes on");
    }

    #[test]
    fn who_bounced_is_in_the_sample_and_not_in_the_rate() {
        let test = test(1, NotProven::Nobody);
        let arm = |name: &'static str, delivered| ArmFigures {
            accepted: 1_000,
            matured: 1_000,
            delivered,
            bounced: 1_000 - delivered,
            events: 80,
            ..ArmFigures::none(Exit(name.into()))
        };
        let judged = |a, b| judge(&test, Looks::ONCE, &[arm("A", a), arm("B", b)]).expect("judged");
        let uneven = judged(1_000, 800);
        assert!(
            uneven.ratio.as_ref().is_some_and(|ratio| !ratio.broken),
            "a bounce does not break the sample: {uneven:?}"
        );
        assert_eq!(uneven.arms[1].rate, Some(0.1), "80 of the 800 who got it");
        assert_eq!((uneven.arms[1].contacts, uneven.leader.as_deref()), (800, Some("B")), "{uneven:?}");
        assert_eq!(
            judged(1_000, 499).verdict,
            Verdict::NotEnoughData,
            "500 delivered are the minimum, not 500 accepted"
        );
    }

    #[test]
    fn a_look_is_as_far_as_who_is_judged_of_the_sample() {
        let test = test(4, NotProven::Leader);
        let arms =
            |delivered: u64| ["A", "B"].map(|name| ArmFigures { delivered, ..ArmFigures::none(Exit(name.into())) });
        let earlier = [Looked { arms: arms(100).to_vec(), ..looked(&test, 1, [0, 0]) }];
        let found = looks_of(&test, 3, 2_000, &arms(500), &earlier);
        assert_eq!(found, Looks::Fractions { look: 2, fractions: vec![0.1, 0.5, 1.0] }, "half of it");
        let judged = judge(&test, found, &arms(1_000)).map(|judgement| judgement.rules.looks.clone());
        assert!(judged.is_ok(), "boundaries can be drawn: {judged:?}");
        let once = AbTest { looks: 1, ..test.clone() };
        assert_eq!(looks_of(&once, 1, 2_000, &arms(7), &[]), Looks::ONCE, "one look is one look");
    }

    #[test]
    fn a_look_whose_statistics_are_not_read_would_decide_nothing() {
        let settings = [NotProven::Leader, NotProven::Wait, NotProven::Nobody, NotProven::Arm(Exit("A".into()))];
        let mut unread = 0;
        for (setting, look) in settings.into_iter().flat_map(|s| [1, 2].map(|look| (s.clone(), look))) {
            let test = test(2, setting);
            for events in [[60, 160], [100, 110], [100, 100], [3, 9]] {
                let looked = looked(&test, look, events);
                let judgement: Judgement = serde_json::from_str(&looked.statistics).expect("its statistics");
                let decision = what_follows(&test, &looked, &judgement);
                let decides = !matches!(decision, Decision::Continue | Decision::WaitForPerson(_));
                assert!(may_follow(&test, &looked) || !decides, "{decision:?} of {}", looked.verdict);
                unread += usize::from(!may_follow(&test, &looked));
            }
        }
        assert!(unread > 12, "most looks that wait are not read: {unread}");
    }

    #[test]
    fn what_is_not_proven_by_the_deadline_follows_the_setting() {
        let decided = |not_proven: NotProven, events| {
            let test = test(1, not_proven);
            follows(&test, &looked(&test, 1, events), Timestamp(6))
        };
        let leader = decided(NotProven::Leader, [100, 110]).expect("the leader");
        assert_eq!((leader.winner, leader.proven), (Some(Exit("B".into())), false), "sent, and labelled");
        let named = decided(NotProven::Arm(Exit("A".into())), [100, 110]).expect("the named one");
        assert_eq!(named.winner, Some(Exit("A".into())), "as set");
        assert_eq!(decided(NotProven::Nobody, [100, 110]).expect("nobody").winner, None, "the rest gets nothing");
        assert_eq!(decided(NotProven::Wait, [100, 110]), None, "a person chooses");
        assert_eq!(decided(NotProven::Leader, [100, 100]), None, "an exact tie waits for a person");
        let few = decided(NotProven::Leader, [3, 9]).expect("below the minimum");
        assert!(!few.proven && few.reason.contains("not enough data"), "{few:?}");
    }
}
