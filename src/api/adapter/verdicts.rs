//! Tests of a run for its report: arms, looks, what they say, and what was decided.

use serde_json::Value as Json;

use crate::actors::verdict::{self, Effect};
use crate::api::port::{ArmReport, DecisionReport, EffectReport, LookReport, TestReport};
use crate::clock::Timestamp;
use crate::flow::nodes::{AbTest, NotProven};
use crate::flow::winner::{Interval, Judgement, Proportion, Waiting, normal};
use crate::flow::{NodeId, NodeKind};
use crate::ledger::Run;
use crate::ledger::flowing::{ArmFigures, Decided, Looked, TestMemory};
use crate::limits::WINNER_ALPHA;

/// Every test of a run, as of now.
pub(super) fn tests(run: &Run, now: Timestamp) -> Vec<TestReport> {
    let none = TestMemory::default();
    let tests = run.graph.nodes().filter_map(|node| match &node.kind {
        NodeKind::AbTest(test) => Some((node.id, test)),
        _ => None,
    });
    tests.map(|(node, test)| test_report(run, node, test, run.flow.tests.get(&node).unwrap_or(&none), now)).collect()
}

fn test_report(run: &Run, node: NodeId, test: &AbTest, memory: &TestMemory, now: Timestamp) -> TestReport {
    // Once it is decided nothing more is counted: the figures are those that the contacts of the sample ended with.
    let at = memory.decided.as_ref().map_or(now, |decided| decided.at);
    let figures = verdict::figures(run, node, test, at);
    let looks: Vec<LookReport> = memory.looks.iter().map(look_report).collect();
    let last: Option<Judgement> = memory.looks.last().and_then(|look| serde_json::from_str(&look.statistics).ok());
    let moved = run.moved_by_pauses(memory, at);
    let deadline = |at: Timestamp| Timestamp(at.0.saturating_add(test.look_after_ms(test.looks)).saturating_add(moved));
    let deadline = memory.cut_at.filter(|_| !test.continuing()).map(|at| deadline(at).into());
    TestReport {
        node: run.graph.key(node),
        winner_by: test.metric.name().to_owned(),
        goal: test.goal.clone(),
        window_seconds: test.window_seconds,
        matured_at: memory.watch.as_ref().and_then(|watch| watch.windows.last_end()).map(Into::into),
        interleaved: !test.moments,
        continuing: test.continuing(),
        sample_cut_at: memory.cut_at.map(Into::into),
        deadline,
        paused_seconds: u64::try_from(moved).unwrap_or(0) / 1_000,
        waiting: run.positions.count(node),
        arms: figures.into_iter().map(|figures| arm_report(run, node, figures, last.as_ref())).collect(),
        verdict: looks.last().map(|look| look.verdict.clone()),
        effect: looks.last().and_then(|look| look.effect.clone()),
        looks,
        waits_for_person: verdict::waits_for_person(test, memory).filter(|_| run.state.is_live()).map(why),
        decision: memory.decided.as_ref().map(|decided| decision_report(test, decided)),
    }
}

fn arm_report(run: &Run, node: NodeId, figures: ArmFigures, last: Option<&Judgement>) -> ArmReport {
    let guarded = last.and_then(|judgement| judgement.arm(figures.arm.name())).map(|arm| arm.guarded.as_slice());
    let counted = Proportion::new(figures.arm.name(), figures.events, figures.delivered).ok();
    let not_people = figures.machine + figures.suspect;
    let with_any = figures.events + not_people;
    ArmReport {
        name: figures.arm.name().to_owned(),
        contacts: run.flow.left_by(node, &figures.arm),
        accepted: figures.accepted,
        matured: figures.matured,
        bounced: figures.bounced,
        delivered: figures.delivered,
        events: figures.events,
        rate: counted.map(Proportion::rate),
        rate_interval: counted.map(|rate| pair(rate.wilson(normal::two_sided_quantile(WINNER_ALPHA)))),
        machine: figures.machine,
        suspect: figures.suspect,
        machine_share: (with_any > 0).then(|| not_people as f64 / with_any as f64),
        unsubscribed: figures.unsubscribed,
        complained: figures.complained,
        rejected: figures.rejected,
        skipped: figures.skipped,
        unknown: figures.unknown,
        cannot_win: guarded.into_iter().flatten().map(|rail| rail.name().to_owned()).collect(),
    }
}

fn pair(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

fn look_report(look: &Looked) -> LookReport {
    let judgement: Option<Judgement> = serde_json::from_str(&look.statistics).ok();
    LookReport {
        look: look.look,
        at: look.at.into(),
        verdict: look.verdict.clone(),
        effect: judgement.as_ref().and_then(verdict::effect).map(effect_report),
        statistics: serde_json::from_str(&look.statistics).unwrap_or(Json::Null),
    }
}

fn effect_report(effect: Effect) -> EffectReport {
    let Effect { leader, other, difference, interval, interval_at_boundary, z, p, p_holm, boundary } = effect;
    let (interval, interval_at_boundary) = (pair(interval), pair(interval_at_boundary));
    EffectReport { leader, other, difference, interval, interval_at_boundary, z, p, p_holm, boundary }
}

fn decision_report(test: &AbTest, decided: &Decided) -> DecisionReport {
    let basis = match (&decided.winner, &test.not_proven) {
        _ if decided.by != verdict::ENGINE => "person",
        (None, _) => "nobody",
        (Some(_), _) if decided.proven => "proven",
        (Some(winner), NotProven::Arm(named)) if winner == named => "named",
        (Some(_), _) => "leader",
    };
    DecisionReport {
        winner: decided.winner.as_ref().map(|exit| exit.name().to_owned()),
        proven: decided.proven,
        basis: basis.to_owned(),
        by: decided.by.clone(),
        reason: decided.reason.clone(),
        at: decided.at.into(),
    }
}

fn why(waiting: Waiting) -> String {
    match waiting {
        Waiting::Asked => "the campaign asks for a person's choice".to_owned(),
        Waiting::Tied(names) => format!("{} are exactly equal", names.join(" and ")),
        Waiting::SampleBroken => "the sizes of the sample are not what the split promised".to_owned(),
        Waiting::Guarded => "too many complaints or unsubscribes forbid the variant".to_owned(),
        Waiting::UnknownVariant(name) => format!("no variant is named {name:?}"),
        Waiting::NoContacts => "no variant has an accepted contact whose window is over".to_owned(),
    }
}
