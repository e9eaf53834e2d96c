//! From the sets of a run to the verdict on a test, and from the verdict to what happens.
//!
//! Figures are read from the same sets as every report. Must not know: actix, clocks, the journal.

use crate::actors::flowing::{delivered, send_of};
use crate::clock::Timestamp;
use crate::flow::nodes::{AbTest, Metric, NotProven};
use crate::flow::winner::{self, Arm, Decision, Judgement, Looks, OnNotProven, Rules, Verdict, WinnerError};
use crate::flow::{Exit, NodeId};
use crate::ids::RunId;
use crate::ledger::flowing::{ArmFigures, Decided, Looked};
use crate::ledger::tracking::EventClass;
use crate::ledger::{Fact, Run};

/// Every arm of a test as it stands: contacts whose message was accepted, and those of them who did what counts. Only
/// people's events count; suspects and machines are shown elsewhere and never decide.
pub fn figures(run: &Run, node: NodeId, test: &AbTest) -> Vec<ArmFigures> {
    test.arms.iter().map(|arm| arm_figures(run, node, &arm.exit, test.metric)).collect()
}

fn arm_figures(run: &Run, node: NodeId, exit: &Exit, metric: Metric) -> ArmFigures {
    let sends = run.graph.sends_of_branch(node, exit);
    let mut accepted = roaring::RoaringBitmap::new();
    let mut events = roaring::RoaringBitmap::new();
    let mut unsubscribed = roaring::RoaringBitmap::new();
    let mut complained = 0;
    for send in sends {
        let reached = delivered(run, send);
        if let Some(feedback) = run.feedback_of(send) {
            complained += feedback.complained.rows.intersection_len(&reached);
            if let Some(rows) = feedback.converted_by_people().filter(|_| metric == Metric::Conversions) {
                events |= rows & &reached;
            }
        }
        if let Some(tracking) = send_of(run, send).and_then(|(_, message)| run.messages.get(&message)) {
            let sets = match metric {
                Metric::Opens => Some(&tracking.opened),
                Metric::Clicks => Some(&tracking.clicked),
                Metric::Conversions => None,
            };
            if let Some(rows) = sets.and_then(|sets| sets.rows.get(&EventClass::Human)) {
                events |= rows & &reached;
            }
            unsubscribed |= &tracking.unsubscribed & &reached;
        }
        accepted |= reached;
    }
    let (accepted, events, unsubscribed) = (accepted.len(), events.len(), unsubscribed.len());
    ArmFigures { arm: exit.clone(), accepted, events, unsubscribed, complained }
}

/// What the figures say at a planned look, with its statistics.
pub fn judge(test: &AbTest, look: u16, arms: &[ArmFigures]) -> Result<Judgement, WinnerError> {
    let weight_of = |exit: &Exit| test.arms.iter().find(|arm| arm.exit == *exit).map_or(1, |arm| arm.weight);
    let counted: Vec<Arm> = arms
        .iter()
        .map(|arm| Arm {
            name: arm.arm.name().to_owned(),
            contacts: arm.accepted,
            events: arm.events,
            complaints: arm.complained,
            unsubscribes: arm.unsubscribed,
            share: f64::from(weight_of(&arm.arm)),
        })
        .collect();
    let rules = Rules {
        looks: Looks::Planned { look: u32::from(look.max(1)), looks: u32::from(test.looks) },
        min_contacts: test.min_delivered,
        min_events: test.min_events,
        ..Rules::default()
    };
    winner::judge(&counted, &rules)
}

/// The look as a fact.
pub fn look_at(
    run: RunId,
    node: NodeId,
    test: &AbTest,
    look: u16,
    arms: Vec<ArmFigures>,
    at: Timestamp,
) -> Result<Fact, WinnerError> {
    let judgement = judge(test, look, &arms)?;
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
        let by = "engine".to_owned();
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
    let settled_by_setting = looked.look >= test.looks && !matches!(test.not_proven, NotProven::Wait);
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
    winner::decide(judgement, looked.look >= test.looks, &otherwise)
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
    let (verdict, metric) = (judgement.verdict.name(), test.metric.name());
    let chosen = chosen.map_or(String::new(), |name| format!("{name} · "));
    format!("{chosen}{verdict} at look {} of {}, by {metric}: {}{evidence}", looked.look, test.looks, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::nodes::{Arm as NodeArm, SampleSize};

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
        }
    }

    fn looked(test: &AbTest, look: u16, events: [u64; 2]) -> Looked {
        let arm = |name: &'static str, events| ArmFigures {
            arm: Exit(name.into()),
            accepted: 1_000,
            events,
            unsubscribed: 0,
            complained: 0,
        };
        let arms = vec![arm("A", events[0]), arm("B", events[1])];
        match look_at(RunId(1), NodeId(1), test, look, arms, Timestamp(5)).expect("judged") {
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
