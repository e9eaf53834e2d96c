//! A multi-segment campaign by cell, row and column.

use std::collections::BTreeMap;

use crate::api::port::{DeliveryReport, GridCell, GridCounts, GridReport, GridTotal, MessageReport};
use crate::campaigns::kinds::grid::CELL_NAME;
use crate::campaigns::{Compiled, MessagePlan};
use crate::ids::MessageId;

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
    use crate::campaigns::{Format, compile, parse};

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
