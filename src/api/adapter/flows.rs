//! Flows through the port: nodes and tests of a report, the graph, a person's choice.

use crate::actors::verdict::ENGINE;
use crate::api::adapter::Adapter;
use crate::api::adapter::verdicts::tests;
use crate::api::errors::Code;
use crate::api::port::{ChooseWinnerRequest, GraphText, NodeReport, PortError, PortResult, Ref, TestReport};
use crate::engine::EngineError;
use crate::flow::{GraphFormat, NodeKind, describe, render};
use crate::ids::CampaignId;
use crate::ledger::Run;
use crate::limits::NAME_BYTES_MAX;

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

/// Who chooses, as it is kept. The engine's own name would make a person's choice look like its verdict.
fn chooser(by: Option<&str>) -> PortResult<&str> {
    let Some(by) = by else { return Ok("a person") };
    let by = by.trim();
    if by.is_empty() || by.len() > NAME_BYTES_MAX || by.eq_ignore_ascii_case(ENGINE) {
        let message =
            format!("by must name who chooses in 1 to {NAME_BYTES_MAX} bytes, other than {ENGINE:?}, or be left out");
        return Err(PortError::new(Code::InvalidParameter, message));
    }
    Ok(by)
}

impl Adapter {
    pub(super) fn chosen(&self, campaign: &Ref, request: &ChooseWinnerRequest) -> PortResult<TestReport> {
        let id = self.campaign_id(campaign)?;
        let latest = self.engine.book.read().latest_run(id).map(|run| run.id);
        let none = || PortError::new(Code::RunNotFound, format!("campaign {campaign} has not been started yet"));
        let run = latest.ok_or_else(none)?;
        let by = chooser(request.by.as_deref())?;
        let decided = self.engine.choose_winner_of(run, request.test.as_deref(), request.variant.as_deref(), by);
        let decided = decided.map_err(|error| match error {
            EngineError::NoChoice { reason, .. } => PortError::new(Code::NoChoice, reason.to_string()),
            other => other.into(),
        })?;
        let state = self.engine.book.read();
        let run = state.runs.get(&run).ok_or_else(none)?;
        let node = run.graph.key(decided.node);
        tests(run, self.engine.book.now()).into_iter().find(|test| test.node == node).ok_or_else(none)
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
