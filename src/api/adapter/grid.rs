//! What is foreseen before a start: an audience of nobody, a grid's cells; and a grid that was sent by cell, row and column.

use std::collections::BTreeMap;

use crate::api::adapter::Adapter;
use crate::api::port::{
    AudienceView, CellView, DeliveryReport, GridCell, GridCounts, GridReport, GridTotal, MessageReport, OverlapView,
};
use crate::campaigns::kinds::grid::CELL_NAME;
use crate::campaigns::{CampaignSpec, Compiled, Kind, MessagePlan, Problem, compile, validate};
use crate::engine::grid::{GridLook, Overlap};
use crate::ids::MessageId;

impl Adapter {
    /// A warning if nobody matches the audience now. What cannot be evaluated has problems of its own.
    pub(super) fn empty_audience(&self, spec: &CampaignSpec) -> Option<Problem> {
        let matched = self.engine.matched(&compile(spec).ok()?).ok()?;
        matched.is_empty().then(validate::empty_audience)
    }

    /// A grid as it would be now; none of another kind, and none that cannot be evaluated: that has problems of its own.
    fn grid(&self, spec: &CampaignSpec) -> Option<GridLook> {
        if spec.kind() != Kind::MultiSegment {
            return None;
        }
        let compiled = compile(spec).ok()?;
        self.engine.look_at_grid(spec, &compiled).ok()
    }

    pub(super) fn grid_warnings(&self, spec: &CampaignSpec) -> Vec<Problem> {
        let Some(look) = self.grid(spec) else { return Vec::new() };
        let empty = look.cells.iter().filter(|(_, contacts)| *contacts == 0).map(|(cell, _)| {
            let message = format!("nobody is in the cell {cell:?} now");
            Problem::warning("empty_cell", "cells", message, "fine, or change the segments")
        });
        let overlaps = look.overlaps.iter().map(|overlap| {
            let Overlap { dimension, first, second, contacts } = overlap;
            let message = format!("{dimension}: {contacts} contacts are in {first:?} and in {second:?}");
            let fix = format!("they go to {first:?}, which is written first; change the order, or the segments");
            Problem::warning("overlap", "dimensions", message, fix)
        });
        empty.chain(overlaps).collect()
    }

    /// The cells that a grid would have now.
    pub(super) fn show_grid(&self, spec: &CampaignSpec, view: &mut AudienceView) {
        let Some(look) = self.grid(spec) else { return };
        view.without_cell = Some(look.nothing);
        view.cells = look.cells.into_iter().map(|(cell, contacts)| CellView { cell, contacts }).collect();
        let overlap =
            |Overlap { dimension, first, second, contacts }| OverlapView { dimension, first, second, contacts };
        view.overlaps = look.overlaps.into_iter().map(overlap).collect();
    }
}

/// `None` for campaigns without a grid.
pub(super) fn grid(compiled: &Compiled, deliveries: &[DeliveryReport]) -> Option<GridReport> {
    let cells: Vec<GridCell> = deliveries.iter().flat_map(|d| &d.messages).filter_map(|m| cell(compiled, m)).collect();
    let place = |plan: &MessagePlan| plan.cell.keys().filter(|name| *name != CELL_NAME).cloned().collect::<Vec<_>>();
    let dimensions = compiled.messages.iter().find(|plan| !plan.cell.is_empty()).map(place)?;
    let mut totals = Vec::new();
    for dimension in &dimensions {
        let mut values: BTreeMap<&str, GridCounts> = BTreeMap::new();
        for cell in &cells {
            if let Some(value) = cell.place.get(dimension) {
                add(values.entry(value).or_default(), &cell.counts);
            }
        }
        totals.extend(values.into_iter().map(|(value, counts)| GridTotal {
            dimension: dimension.clone(),
            value: value.to_owned(),
            counts,
        }));
    }
    Some(GridReport { dimensions, cells, totals })
}

fn cell(compiled: &Compiled, message: &MessageReport) -> Option<GridCell> {
    let plan = compiled.message(MessageId(message.message)).filter(|plan| !plan.cell.is_empty())?;
    let place = plan.cell.iter().filter(|(name, _)| *name != CELL_NAME);
    let counts = GridCounts {
        contacts: message.contacts,
        accepted: message.accepted,
        opened: message.opened.unique,
        clicked: message.clicked.unique,
        unsubscribed: message.unsubscribed,
    };
    let place = place.map(|(dimension, value)| (dimension.clone(), value.clone())).collect();
    Some(GridCell { place, message: message.message, counts })
}

fn add(sum: &mut GridCounts, more: &GridCounts) {
    let GridCounts { contacts, accepted, opened, clicked, unsubscribed } = more;
    sum.contacts += contacts;
    sum.accepted += accepted;
    sum.opened += opened;
    sum.clicked += clicked;
    sum.unsubscribed += unsubscribed;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::port::EventCounts;
    use crate::campaigns::{Format, parse};

    #[test]
    fn rows_and_columns_are_the_sums_of_their_cells() {
        let spec = r#"
name = "grid"
kind = "multi_segment"
[audience]
all = true
[message]
channel = "email"
connector = "relay"
topic = "news"
[[dimensions]]
name = "land"
others = true
[[dimensions.segments]]
name = "north"
segment = "n"
[[dimensions]]
name = "age"
others = true
[[dimensions.segments]]
name = "young"
segment = "y"
[[cells]]
message = { subject = "{{ cell.name }}" }
"#;
        let compiled = compile(&parse(spec, Format::Toml).expect("it parses")).expect("it compiles");
        let message = |message: u16| MessageReport {
            message,
            contacts: 10 << message,
            accepted: 9 << message,
            clicked: EventCounts { unique: 1 << message, ..EventCounts::default() },
            ..MessageReport::default()
        };
        let delivery = DeliveryReport { messages: (0..4).map(message).collect(), ..DeliveryReport::default() };
        let found = grid(&compiled, &[delivery]).expect("a grid");
        assert_eq!((found.dimensions.len(), found.cells.len(), found.totals.len()), (2, 4, 4), "{found:?}");
        for dimension in &found.dimensions {
            let rows = found.totals.iter().filter(|total| total.dimension == *dimension);
            let sum: u64 = rows.map(|total| total.counts.clicked).sum();
            assert_eq!(sum, 15, "{dimension} adds up to all cells");
        }
        let north = found.totals.iter().find(|total| total.value == "north").expect("a row");
        assert_eq!((north.counts.contacts, north.counts.clicked), (30, 3), "north is the first two cells: {found:?}");
    }
}
