//! Flows through the port: nodes and tests of a report, the graph, a person's choice.

use serde_json::Value as Json;

use crate::actors::verdict;
use crate::api::adapter::Adapter;
use crate::api::errors::Code;
use crate::api::port::{
    ArmReport, ChooseWinnerRequest, DecisionReport, GraphText, LookReport, NodeReport, PortError, PortResult, Ref,
    TestReport,
};
use crate::engine::EngineError;
use crate::flow::nodes::AbTest;
use crate::flow::winner::{Decision, Judgement, decision};
use crate::flow::{GraphFormat, NodeId, NodeKind, describe, render};
use crate::ids::CampaignId;
use crate::ledger::Run;
use crate::ledger::flowing::TestMemory;

/// Contacts that entered the flow of a run.
pub(super) fn entered(run: &Run) -> u64 {
    run.flow.arrived.get(&run.graph.start()).copied().unwrap_or(0)
}

/// Every node of a run: in order of ids, or, where people gave them, as contacts come to them.
pub(super) fn nodes(run: &Run) -> Vec<NodeReport> {
    let entered = entered(run);
    let each = run.graph.in_reading_order().into_iter().map(|node| {
        let contacts = run.positions.count(node.id);
        let end = match &node.kind {
            NodeKind::End { kind } => Some(kind.name().to_owned()),
            _ => None,
        };
        let left = run.flow.left.get(&node.id).into_iter().flatten();
        NodeReport {
            id: run.graph.key(node.id),
            name: node.name.clone(),
            kind: node.kind.name().to_owned(),
            does: describe(&run.graph, node),
            contacts,
            arrived: run.flow.arrived.get(&node.id).copied().unwrap_or(0),
            left: left.map(|(exit, count)| (exit.name().to_owned(), *count)).collect(),
            rate: end.as_ref().filter(|_| entered > 0).map(|_| contacts as f64 / entered as f64),
            end,
        }
    });
    each.collect()
}

/// Every test of a run.
pub(super) fn tests(run: &Run) -> Vec<TestReport> {
    let none = TestMemory::default();
    let tests = run.graph.nodes().filter_map(|node| match &node.kind {
        NodeKind::AbTest(test) => Some((node.id, test)),
        _ => None,
    });
    tests.map(|(node, test)| test_report(run, node, test, run.flow.tests.get(&node).unwrap_or(&none))).collect()
}

fn test_report(run: &Run, node: NodeId, test: &AbTest, memory: &TestMemory) -> TestReport {
    // Once it is decided, the rest joins the winner's branch: the figures that decided stay.
    let last = memory.looks.last().filter(|_| memory.decided.is_some());
    let figures = last.map_or_else(|| verdict::figures(run, node, test), |look| look.arms.clone());
    let arms = figures.into_iter().map(|figures| ArmReport {
        name: figures.arm.name().to_owned(),
        contacts: run.flow.left_by(node, &figures.arm),
        accepted: figures.accepted,
        events: figures.events,
        unsubscribed: figures.unsubscribed,
    });
    let looks = memory.looks.iter().map(|look| LookReport {
        look: look.look,
        at: look.at.into(),
        verdict: look.verdict.clone(),
        statistics: serde_json::from_str(&look.statistics).unwrap_or(Json::Null),
    });
    let deadline = memory.cut_at.map(|at| crate::clock::Timestamp(at.0 + test.look_after_ms(test.looks)).into());
    TestReport {
        node: node.to_string(),
        winner_by: test.metric.name().to_owned(),
        sample_cut_at: memory.cut_at.map(Into::into),
        deadline,
        waiting: run.positions.count(node),
        arms: arms.collect(),
        looks: looks.collect(),
        waits_for_person: waits_for_person(test, memory),
        decision: memory.decided.as_ref().map(|decided| DecisionReport {
            winner: decided.winner.as_ref().map(|exit| exit.name().to_owned()),
            proven: decided.proven,
            by: decided.by.clone(),
            reason: decided.reason.clone(),
            at: decided.at.into(),
        }),
    }
}

fn waits_for_person(test: &AbTest, memory: &TestMemory) -> Option<String> {
    let look = memory.looks.last().filter(|_| memory.decided.is_none())?;
    let judgement: Judgement = serde_json::from_str(&look.statistics).ok()?;
    let Decision::WaitForPerson(why) = verdict::what_follows(test, look, &judgement) else { return None };
    Some(match why {
        decision::Waiting::Asked => "the campaign asks for a person's choice".to_owned(),
        decision::Waiting::Tied(names) => format!("{} are exactly equal", names.join(" and ")),
        decision::Waiting::SampleBroken => "the sizes of the sample are not what the split promised".to_owned(),
        decision::Waiting::Guarded => "too many complaints or unsubscribes forbid the variant".to_owned(),
        decision::Waiting::UnknownVariant(name) => format!("no variant is named {name:?}"),
        decision::Waiting::NoContacts => "no variant has an accepted contact".to_owned(),
    })
}

impl Adapter {
    pub(super) fn chosen(&self, campaign: &Ref, request: &ChooseWinnerRequest) -> PortResult<TestReport> {
        let id = self.campaign_id(campaign)?;
        let latest = self.engine.book.read().latest_run(id).map(|run| run.id);
        let none = || PortError::new(Code::RunNotFound, format!("campaign {campaign} has not been started yet"));
        let run = latest.ok_or_else(none)?;
        let by = request.by.as_deref().unwrap_or("a person");
        let decided = self.engine.choose_winner(run, request.variant.as_deref(), by).map_err(|error| match error {
            EngineError::NoChoice { reason, .. } => PortError::new(Code::NoChoice, reason.to_string()),
            other => other.into(),
        })?;
        let state = self.engine.book.read();
        let run = state.runs.get(&run).ok_or_else(none)?;
        let node = decided.node.to_string();
        tests(run).into_iter().find(|test| test.node == node).ok_or_else(none)
    }

    /// The graph of the campaign's newest version, or of its run with the contacts in it.
    pub(super) fn graph_text(&self, campaign: &Ref, format: &str) -> PortResult<GraphText> {
        let id: CampaignId = self.campaign_id(campaign)?;
        let Some(format) = GraphFormat::from_name(format) else {
            let names = GraphFormat::ALL.map(GraphFormat::name).join(", ");
            let message = format!("format is {format:?}, and must be one of: {names}");
            return Err(PortError::new(Code::InvalidParameter, message));
        };
        let content_type = match format {
            GraphFormat::Json => "application/json",
            GraphFormat::Text | GraphFormat::Mermaid => "text/plain; charset=utf-8",
        };
        {
            let state = self.engine.book.read();
            if let Some(run) = state.latest_run(id) {
                let text = render(&run.graph, format, Some(&run.positions));
                return Ok(GraphText { content_type, text });
            }
        }
        let (_, compiled) = self.engine.compiled(id, None)?;
        Ok(GraphText { content_type, text: render(&compiled.graph, format, None) })
    }
}
