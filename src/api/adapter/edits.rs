//! What a person sees of a campaign that is edited while it runs, or extended: its nodes with their locks, the working copy.

use crate::api::adapter::{Adapter, specs::problem_view};
use crate::api::port::{SequenceView, StepView, WorkingCopyView};
use crate::campaigns::editing::called;
use crate::campaigns::{CampaignSpec, Kind, parse};
use crate::engine::edits::lock_of;
use crate::flow::NodeKind;
use crate::ids::CampaignId;
use crate::ledger::Run;

impl Adapter {
    /// The nodes of the run and the working copy; nothing without one, or for a sequence.
    pub(super) fn edit_view(&self, id: CampaignId, spec: &CampaignSpec) -> Option<SequenceView> {
        if spec.kind() == Kind::Sequence {
            return None;
        }
        let (copy, view) = {
            let state = self.engine.book.read();
            let copy = state.sequences.get(&id).and_then(|memory| memory.copy.clone())?;
            let run = state.latest_run(id)?;
            let view = SequenceView {
                steps: nodes(run),
                version: Some(run.version),
                published_at: Some(run.edited_at().unwrap_or(run.started_at).into()),
                cohort_at: Some(run.started_at.into()),
                ..SequenceView::default()
            };
            (copy, view)
        };
        let spec = parse::from_stored(&copy.spec).ok()?;
        let working_copy = WorkingCopyView {
            spec: spec.to_value(),
            open: true,
            opened_at: copy.opened_at.into(),
            saved_at: copy.saved_at.into(),
            extends: copy.extends,
            closed_by: None,
            alerts: self.engine.edit_alerts(id).iter().map(problem_view).collect(),
        };
        Some(SequenceView { working_copy: Some(working_copy), ..view })
    }
}

fn nodes(run: &Run) -> Vec<StepView> {
    let shown = run.graph.nodes().filter(|node| !matches!(node.kind, NodeKind::Start | NodeKind::End { .. }));
    let each = shown.map(|node| {
        let behind = run.graph.edges().filter(|(.., to)| *to == node.id).map(|(from, ..)| from);
        let name = |id| called(&run.graph, id);
        StepView {
            id: name(node.id),
            kind: node.kind.name().to_owned(),
            after: behind.map(name).collect(),
            lock: lock_of(run, node.id).name().to_owned(),
            waiting: run.positions.count(node.id),
            reached: run.flow.arrived.get(&node.id).copied().unwrap_or(0),
            ..StepView::default()
        }
    });
    each.collect()
}
