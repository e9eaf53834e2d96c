//! A grid before it is sent: how many contacts each cell would get now, and who is in two segments of a dimension.
//!
//! Owns no state. Each expression is evaluated once, over all contacts; cells are intersections of those sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::campaigns::kinds::dated::dated;
use crate::campaigns::spec::kinds::DimensionSegment;
use crate::campaigns::{CampaignSpec, CompileError, Compiled};
use crate::clock::Timestamp;
use crate::engine::{Engine, EngineError, hold_out};
use crate::flow::nodes::{Split, split};
use crate::flow::{Exit, Graph, NodeId, NodeKind};
use crate::ids::{RowSpace, RunId};
use crate::limits::GRID_OVERLAPS_MAX;

/// Contacts in two segments of one level: they go to the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    pub dimension: String,
    pub first: String,
    pub second: String,
    pub contacts: u64,
}

/// A grid as it would be now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GridLook {
    /// Each cell with a message, and its contacts.
    pub cells: Vec<(String, u64)>,
    /// Contacts who get nothing.
    pub nothing: u64,
    /// The largest ones.
    pub overlaps: Vec<Overlap>,
}

/// Rows by expression, each evaluated once.
struct Sets<'e> {
    engine: &'e Engine,
    space: RowSpace,
    known: BTreeMap<String, Arc<RoaringBitmap>>,
}

impl Sets<'_> {
    fn of(&mut self, expression: &str) -> Result<Arc<RoaringBitmap>, EngineError> {
        if let Some(rows) = self.known.get(expression) {
            return Ok(Arc::clone(rows));
        }
        let rows = self.engine.matching_in(self.space, expression)?;
        self.known.insert(expression.to_owned(), Arc::clone(&rows));
        Ok(rows)
    }

    /// Where rows would come to rest in the end: sorted by every split, past waits, at the first node that does anything
    /// else. A cell with a date of its own, and a grid that begins by each contact's clocks, get their contacts later.
    fn arrivals(&mut self, graph: &Graph, rows: RoaringBitmap) -> Result<BTreeMap<NodeId, RoaringBitmap>, EngineError> {
        let mut at: BTreeMap<NodeId, RoaringBitmap> = BTreeMap::new();
        let mut moving = vec![(graph.start(), rows)];
        while let Some((id, mut rows)) = moving.pop() {
            let go = |exit: &Exit, rows: RoaringBitmap| graph.target(id, exit).map(|to| (to, rows));
            match graph.node(id).map(|node| &node.kind) {
                Some(NodeKind::Start) => moving.extend(go(&Exit::NEXT, rows)),
                Some(NodeKind::Split(Split::Segments(branches))) => {
                    for (exit, expression) in branches {
                        let matching = &rows & &*self.of(expression)?;
                        rows -= &matching;
                        moving.extend(go(exit, matching));
                    }
                    moving.extend(go(&split::REMAINING, rows));
                }
                Some(NodeKind::Delay(delay)) => moving.extend(go(&delay.due_exit(), rows)),
                _ => *at.entry(id).or_default() |= rows,
            }
        }
        Ok(at)
    }

    /// Pairs of segments of one level that share contacts of `around`.
    fn overlaps(
        &mut self,
        dimension: &str,
        segments: &[DimensionSegment],
        around: &RoaringBitmap,
        found: &mut Vec<Overlap>,
    ) -> Result<(), EngineError> {
        let mut sets: Vec<(&str, RoaringBitmap)> = Vec::new();
        for segment in segments {
            let (Some(name), Some(text)) = (&segment.name, &segment.segment) else { continue };
            let rows = around & &*self.of(text)?;
            for (other, before) in &sets {
                let contacts = before.intersection_len(&rows);
                if contacts > 0 {
                    let (first, second) = ((*other).to_owned(), name.clone());
                    found.push(Overlap { dimension: dimension.to_owned(), first, second, contacts });
                }
            }
            self.overlaps(dimension, &segment.segments, &rows, found)?;
            sets.push((name, rows));
        }
        Ok(())
    }
}

impl Engine {
    /// A campaign as a start by a person at this moment makes it: see [`crate::campaigns::kinds::dated`].
    pub fn dated_parts(&self, compiled: Compiled, at: Timestamp) -> Result<Compiled, EngineError> {
        let graph = dated(compiled.kind, &compiled.graph, at, self.safety());
        Ok(Compiled { graph: graph.map_err(CompileError::from)?, ..compiled })
    }

    /// Sorts who can be sent to now into the grid of a campaign. Reads; changes nothing.
    pub fn look_at_grid(&self, spec: &CampaignSpec, compiled: &Compiled) -> Result<GridLook, EngineError> {
        let audience = self.look(compiled, None)?;
        let mut rows = audience.matched()?;
        if let Some(plan) = compiled.delivery(0) {
            let (used, required) = self.used_attributes(compiled, plan);
            let (mut summary, mut eligibility) = audience.assess(plan, &rows, &used, &required)?;
            // As large as the run's would be; who is in it is drawn anew at the start.
            hold_out::Group::new(RunId(0), compiled.hold_out).leave_out(&mut summary, &mut eligibility)?;
            rows = eligibility.eligible;
        }
        let mut sets = Sets { engine: self, space: self.space_of(compiled)?, known: BTreeMap::new() };
        let mut look = GridLook::default();
        for dimension in &spec.dimensions {
            let name = dimension.name.as_deref().unwrap_or_default();
            sets.overlaps(name, &dimension.segments, &rows, &mut look.overlaps)?;
        }
        look.overlaps.sort_by_key(|overlap| std::cmp::Reverse(overlap.contacts));
        look.overlaps.truncate(GRID_OVERLAPS_MAX);
        let total = rows.len();
        let at = sets.arrivals(&compiled.graph, rows)?;
        let sends = compiled.deliveries.first().map_or(&[][..], |delivery| &delivery.sends);
        for send in sends {
            let name = compiled.message(send.message).map(|message| message.name.clone()).unwrap_or_default();
            look.cells.push((name, at.get(&send.node).map_or(0, RoaringBitmap::len)));
        }
        look.nothing = total.saturating_sub(look.cells.iter().map(|(_, contacts)| contacts).sum());
        Ok(look)
    }
}
