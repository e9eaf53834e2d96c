//! Multi-segment: a grid of dimensions gives disjoint cells, each with a message of its own or nothing. One delivery.
//!
//! start → a split per dimension, in the order of the spec → (wait →) a send per cell → end. A cell with a schedule of its
//! own holds its contacts until then, and five minutes after the start at the earliest. A contact in two segments of a
//! dimension goes to the first as written; who is in none goes to `others`, if the dimension has it, or gets nothing.

use std::ops::Range;

use super::grid::{self, ALL, CELL_NAME, Leaf, OTHERS, Place, values};
use super::{Built, END, START, delivery, message_of, planned};
use crate::campaigns::compile::{CompileError, MessagePlan, SendPlan};
use crate::campaigns::spec::kinds::DimensionSegment;
use crate::campaigns::spec::{CampaignSpec, DimensionSpec, MessageSpec};
use crate::campaigns::validate::Problem;
use crate::flow::nodes::{Split, split};
use crate::flow::{EndKind, Exit, GraphParts, NodeId, NodeKind};
use crate::limits;

/// Splits of the grid, in the order in which they are made.
const FIRST_SPLIT: u32 = 100;
/// Sends of the cells, in the order of the grid.
const FIRST_SEND: u32 = 10_000;
/// Waits before the sends of cells with a schedule of their own.
const FIRST_WAIT: u32 = 20_000;
/// All of these waits.
pub(super) const WAITS: Range<u32> = FIRST_WAIT..FIRST_WAIT + limits::GRID_CELLS_MAX as u32;
/// Where those go who get nothing.
const NOTHING: NodeId = NodeId(3);
/// Where what is wrong with the grid as a whole stands in the spec.
pub(in crate::campaigns) const PATH: &str = "dimensions";

struct Grid<'s> {
    spec: &'s CampaignSpec,
    parts: GraphParts,
    next_split: u32,
    cells: Vec<Cell<'s>>,
}

/// A place of the grid that gets a message.
struct Cell<'s> {
    name: String,
    place: Place,
    node: NodeId,
    message: &'s MessageSpec,
}

impl<'s> Grid<'s> {
    /// What stands behind a partial place: another split, a send, or the end of those who get nothing.
    fn grow(&mut self, place: &Place, path: &[String]) -> NodeId {
        let spec = self.spec;
        let Some(dimension) = spec.dimensions.get(path.len()) else { return self.cell(place, path) };
        let id = NodeId(FIRST_SPLIT + self.next_split);
        self.next_split += 1;
        let name = dimension.name.clone().unwrap_or_default();
        let leaves = grid::leaves(dimension);
        let exit = |leaf: &Leaf| Exit(leaf.label().into());
        let branches = leaves.iter().filter_map(|leaf| Some((exit(leaf), leaf.expression.clone()?))).collect();
        let title = if path.is_empty() { name.clone() } else { format!("{} · {name}", path.join(" · ")) };
        self.parts.node(id, title, NodeKind::Split(Split::Segments(branches)));
        for leaf in leaves {
            let exit = if leaf.expression.is_none() { split::REMAINING } else { exit(&leaf) };
            let (mut place, mut path) = (place.clone(), path.to_vec());
            path.push(leaf.label());
            let nothing = leaf.nothing;
            place.insert(name.clone(), leaf);
            let to = if nothing { NOTHING } else { self.grow(&place, &path) };
            self.parts.edge(id, exit, to);
        }
        if dimension.others != Some(true) {
            self.parts.edge(id, split::REMAINING, NOTHING);
        }
        id
    }

    fn cell(&mut self, place: &Place, path: &[String]) -> NodeId {
        let cell = grid::cell_at(self.spec, place).filter(|cell| cell.nothing != Some(true));
        let Some(cell) = cell else { return NOTHING };
        let at = u32::try_from(self.cells.len()).unwrap_or(u32::MAX - FIRST_SEND);
        let node = NodeId(FIRST_SEND + at);
        let name = path.join(" · ");
        let first = match planned::of_cell(&cell.schedule) {
            None => node,
            Some(delay) => {
                let wait = NodeId(FIRST_WAIT + at);
                self.parts.node(wait, format!("{name}: wait"), NodeKind::Delay(delay));
                self.parts.edge(wait, Exit::NEXT, node);
                wait
            }
        };
        self.cells.push(Cell { name, place: place.clone(), node, message: &cell.message });
        first
    }
}

pub(in crate::campaigns) fn build(spec: &CampaignSpec) -> Result<Built, CompileError> {
    let mut parts = GraphParts::default();
    parts.node(START, "start", NodeKind::Start);
    parts.node(END, "end", NodeKind::End { kind: EndKind::Neutral });
    parts.node(NOTHING, "nothing", NodeKind::End { kind: EndKind::Neutral });
    let mut grid = Grid { spec, parts, next_split: 0, cells: Vec::new() };
    let first = grid.grow(&Place::new(), &[]);
    let (mut parts, cells) = (grid.parts, grid.cells);
    parts.edge(START, Exit::NEXT, first);
    let (mut messages, mut sends) = (Vec::new(), Vec::new());
    for (at, Cell { name, place, node, message }) in cells.into_iter().enumerate() {
        let id = u16::try_from(at).unwrap_or(u16::MAX);
        let cell = grid::variables(&name, &place);
        let message = MessagePlan { cell, ..message_of(spec, id, &name, message)? };
        parts.node(node, name, NodeKind::send(0, id));
        sends.push(SendPlan { node, message: message.id });
        messages.push(message);
    }
    if !parts.edges.iter().any(|edge| edge.to == NOTHING) {
        parts.nodes.retain(|node| node.id != NOTHING);
    }
    let first = messages.first().ok_or(CompileError::Missing { path: "cells" })?;
    let mut plan = delivery(spec, 0, "cells", first);
    let lasts = sends.iter().map(|send| send.node).collect();
    plan.sends = sends;
    Ok(Built { parts, deliveries: vec![plan], messages, lasts })
}

/// What is wrong with `[[dimensions]]` and `[[cells]]`.
pub(in crate::campaigns) fn problems(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    if spec.dimensions.is_empty() {
        let fix = "add [[dimensions]] with a name and [[dimensions.segments]]";
        found.push(Problem::error("no_dimension", "dimensions", "the grid has no dimension", fix));
        return;
    }
    if spec.dimensions.len() > limits::GRID_DIMENSIONS_MAX {
        let (count, max) = (spec.dimensions.len(), limits::GRID_DIMENSIONS_MAX);
        let message = format!("the grid has {count} dimensions, and {max} is the most");
        found.push(Problem::error("too_many_dimensions", "dimensions", message, "use fewer"));
        return;
    }
    for (at, dimension) in spec.dimensions.iter().enumerate() {
        dimension_problems(at, dimension, found);
        let name = |dimension: &DimensionSpec| dimension.name.as_deref().unwrap_or_default().trim().to_owned();
        let own = name(dimension);
        if !own.is_empty() && spec.dimensions[..at].iter().any(|other| name(other) == own) {
            let message = format!("two dimensions are named {own:?}");
            found.push(Problem::error("duplicate_name", format!("dimensions.{at}"), message, "choose another name"));
        }
    }
    let sizes = spec.dimensions.iter().map(|dimension| grid::leaves(dimension).len());
    let cells = sizes.fold(1usize, usize::saturating_mul);
    if cells > limits::GRID_CELLS_MAX {
        let message = format!("the grid has {cells} cells, and {} is the most", limits::GRID_CELLS_MAX);
        found.push(Problem::error("too_many_cells", "dimensions", message, "use fewer segments or dimensions"));
        return cell_problems(spec, found);
    }
    cell_problems(spec, found);
    if spec.cells.iter().any(|cell| cell.nothing != Some(true)) {
        uncovered(spec, found);
    }
}

fn dimension_problems(at: usize, dimension: &DimensionSpec, found: &mut Vec<Problem>) {
    let path = format!("dimensions.{at}");
    match dimension.name.as_deref().map(str::trim) {
        None | Some("") => {
            found.push(Problem::error("unnamed_dimension", &path, "a dimension has no name", "set its name"));
        }
        Some(CELL_NAME) => {
            let message = "\"name\" is what templates call the cell itself";
            found.push(Problem::error("reserved_name", &path, message, "choose another name"));
        }
        Some(_) => {}
    }
    if dimension.segments.is_empty() {
        let fix = "add [[dimensions.segments]]";
        found.push(Problem::error("empty_dimension", &path, "a dimension has no segment", fix));
    }
    segment_problems(&path, &dimension.segments, 1, found);
}

fn segment_problems(path: &str, segments: &[DimensionSegment], depth: usize, found: &mut Vec<Problem>) {
    if depth > limits::GRID_TREE_DEPTH_MAX {
        let message = format!("segments lie {depth} deep, and {} is the most", limits::GRID_TREE_DEPTH_MAX);
        found.push(Problem::error("too_deep", path, message, "use another dimension"));
        return;
    }
    for (place, segment) in segments.iter().enumerate() {
        let path = format!("{path}.segments.{place}");
        match segment.name.as_deref() {
            None | Some("") => {
                found.push(Problem::error("unnamed_segment", &path, "a segment has no name", "set its name"))
            }
            Some(OTHERS) => {
                let fix = "choose another name, or set others = true";
                found.push(Problem::error("reserved_name", &path, "\"others\" means those in no segment", fix));
            }
            Some(ALL) => {
                let message = "\"all\" means every value of the dimension";
                found.push(Problem::error("reserved_name", &path, message, "choose another name"));
            }
            Some(name) if name.contains(grid::WITHIN) => {
                let message = format!("{name:?} holds {:?}, which stands between the levels of a value", grid::WITHIN);
                found.push(Problem::error("reserved_name", &path, message, "choose another name"));
            }
            Some(name) => {
                let twice = segments[..place].iter().any(|other| other.name.as_deref() == Some(name));
                if twice {
                    let message = format!("two segments of a dimension are named {name:?}");
                    found.push(Problem::error("duplicate_name", &path, message, "choose another name"));
                }
            }
        }
        if segment.segment.as_deref().is_none_or(|text| text.trim().is_empty()) {
            let path = format!("{path}.segment");
            found.push(Problem::error("bad_segment", path, "the segment has no expression", "write one"));
        }
        segment_problems(&path, &segment.segments, depth + 1, found);
    }
}

fn cell_problems(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    if !spec.cells.iter().any(|cell| cell.nothing != Some(true)) {
        let fix = "add [[cells]] with where and a message";
        found.push(Problem::error("no_cell", "cells", "no cell of the grid has a message", fix));
    }
    for (at, cell) in spec.cells.iter().enumerate() {
        for (name, value) in &cell.at {
            let path = format!("cells.{at}.where");
            match spec.dimensions.iter().find(|dimension| dimension.name.as_deref() == Some(name)) {
                None => {
                    let message = format!("no dimension is named {name:?}");
                    found.push(Problem::error("unknown_dimension", path, message, "name a dimension of the grid"));
                }
                Some(dimension) if value != ALL && !values(dimension).contains(value) => {
                    let message = format!("{name} has no value {value:?}");
                    let fix = format!("use one of: {}", values(dimension).join(", "));
                    found.push(Problem::error("unknown_value", path, message, fix));
                }
                Some(_) => {}
            }
        }
        if spec.cells[..at].iter().any(|earlier| grid::hides(earlier, cell)) {
            let message = "an earlier cell takes everybody whom this one means";
            let fix = "put the narrower cell first, or remove this one";
            found.push(Problem::warning("hidden_cell", format!("cells.{at}"), message, fix));
        }
    }
}

/// Names of places that a message about them lists.
const UNCOVERED_NAMED: usize = 5;

/// Contacts at a place that no cell means get nothing; who wants that says `nothing = true`.
fn uncovered(spec: &CampaignSpec, found: &mut Vec<Problem>) {
    let mut places = vec![(Vec::new(), Place::new())];
    for dimension in &spec.dimensions {
        let name = dimension.name.clone().unwrap_or_default();
        let leaves = grid::leaves(dimension).into_iter().filter(|leaf| !leaf.nothing).collect::<Vec<_>>();
        let grown = places.iter().flat_map(|(path, place)| {
            leaves.iter().map(|leaf| {
                let (mut path, mut place) = (path.clone(), place.clone());
                path.push(leaf.label());
                place.insert(name.clone(), leaf.clone());
                (path, place)
            })
        });
        places = grown.collect();
    }
    let open: Vec<String> = places
        .into_iter()
        .filter(|(_, place)| grid::cell_at(spec, place).is_none())
        .map(|(path, _)| format!("{:?}", path.join(" · ")))
        .collect();
    if open.is_empty() {
        return;
    }
    let more = open.len().saturating_sub(UNCOVERED_NAMED);
    let named = open.iter().take(UNCOVERED_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("no cell means {named}{tail}: contacts there get nothing");
    let fix = "add a cell for them, with a message or with nothing = true; one without where means all who are left";
    found.push(Problem::warning("place_without_cell", "cells", message, fix));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaigns::{Format, parse};

    #[test]
    fn names_of_dimensions_and_of_their_segments_are_unique() {
        let dimension = |name: &str, segment: &str| {
            format!(
                "[[dimensions]]\nname = \"{name}\"\n[[dimensions.segments]]\nname = \"x\"\nsegment = 'key = \"a\"'\n{segment}"
            )
        };
        let codes = |text: String| {
            let spec = parse(&format!("kind = \"multi_segment\"\n{text}"), Format::Toml).expect("it parses");
            let mut found = Vec::new();
            problems(&spec, &mut found);
            found.iter().map(|problem| problem.code).filter(|code| *code != "no_cell").collect::<Vec<_>>()
        };
        assert_eq!(codes(dimension("age", "") + &dimension(" age", "")), ["duplicate_name"], "two dimensions");
        let twice = "[[dimensions.segments]]\nname = \"x\"\nsegment = 'key = \"b\"'\n";
        assert_eq!(codes(dimension("age", twice)), ["duplicate_name"], "two segments of one dimension");
        assert!(codes(dimension("age", "") + &dimension("land", "")).is_empty(), "two names");
    }

    #[test]
    fn places_without_a_cell_are_told_by_name() {
        let dimension = |name: &str| {
            format!(
                "[[dimensions]]\nname = \"{name}\"\nothers = true\n\
                 [[dimensions.segments]]\nname = \"x\"\nsegment = 'key = \"a\"'\n"
            )
        };
        let told = |cells: &str| {
            let text = format!("kind = \"multi_segment\"\n{}{}{cells}", dimension("age"), dimension("land"));
            let mut found = Vec::new();
            problems(&parse(&text, Format::Toml).expect("it parses"), &mut found);
            found.into_iter().map(|problem| (problem.code, problem.message)).collect::<Vec<_>>()
        };
        let cell = "[[cells]]\nwhere = { age = \"x\" }\nmessage = { subject = \"S\" }\n";
        let message = "no cell means \"others · x\", \"others · others\": contacts there get nothing";
        assert_eq!(told(cell), [("place_without_cell", message.to_owned())]);
        assert_eq!(told(&format!("{cell}[[cells]]\nnothing = true\n")), [], "said to get nothing");
    }
}
