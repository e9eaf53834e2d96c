//! Dimensions of a grid: trees of segments and sub-segments, flattened into the leaves that a contact can be in.
//!
//! Owns no state. Invariants: GR-1 the leaves of a dimension are disjoint, because a contact goes to the first that it is
//! in, as written; GR-2 with `others` at each level they are the whole audience; who is left over elsewhere gets nothing.

use std::collections::BTreeMap;

use crate::campaigns::spec::kinds::DimensionSegment;
use crate::campaigns::spec::{CampaignSpec, CellSpec, DimensionSpec};

/// The value of those who are in no segment of a level.
pub const OTHERS: &str = "others";
/// In a cell: every value of a dimension, as if it were not named.
pub const ALL: &str = "all";
/// Between the levels of a value.
pub const WITHIN: &str = " / ";
/// What templates call the cell itself.
pub const CELL_NAME: &str = "name";

/// One place along a dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// From the outermost segment inwards.
    pub path: Vec<String>,
    /// `None`: those in no segment of the dimension.
    pub expression: Option<String>,
    /// They are in a segment and in none of its sub-segments, and the segment has no `others`: they get nothing.
    pub nothing: bool,
}

impl Leaf {
    pub fn label(&self) -> String {
        self.path.join(WITHIN)
    }

    /// The values that mean this leaf: itself, each level around it, and all.
    pub fn fits(&self, value: &str) -> bool {
        value == ALL || self.levels().any(|level| level == value)
    }

    fn levels(&self) -> impl Iterator<Item = String> {
        (1..=self.path.len()).map(|depth| self.path.iter().take(depth).cloned().collect::<Vec<_>>().join(WITHIN))
    }
}

/// Every leaf of a dimension, in the order in which a contact is sorted.
pub fn leaves(dimension: &DimensionSpec) -> Vec<Leaf> {
    let mut found = Vec::new();
    grow(&dimension.segments, &[], None, &mut found);
    if dimension.others == Some(true) {
        found.push(Leaf { path: vec![OTHERS.to_owned()], expression: None, nothing: false });
    }
    found
}

fn grow(segments: &[DimensionSegment], path: &[String], around: Option<&str>, found: &mut Vec<Leaf>) {
    for segment in segments {
        let (Some(name), Some(text)) = (&segment.name, &segment.segment) else { continue };
        let path: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
        let expression = around.map_or_else(|| text.clone(), |around| format!("({around}) and ({text})"));
        if segment.segments.is_empty() {
            found.push(Leaf { path, expression: Some(expression), nothing: false });
            continue;
        }
        grow(&segment.segments, &path, Some(&expression), found);
        let path = path.into_iter().chain([OTHERS.to_owned()]).collect();
        found.push(Leaf { path, expression: Some(expression), nothing: segment.others != Some(true) });
    }
}

/// Every value that a cell may name of a dimension, `all` left out.
pub fn values(dimension: &DimensionSpec) -> Vec<String> {
    let mut values = Vec::new();
    for leaf in leaves(dimension).iter().filter(|leaf| !leaf.nothing) {
        for level in leaf.levels() {
            if !values.contains(&level) {
                values.push(level);
            }
        }
    }
    values
}

/// A place in the grid: the leaf of each dimension, by its name.
pub type Place = BTreeMap<String, Leaf>;

/// The first cell of the spec that means this place.
pub fn cell_at<'s>(spec: &'s CampaignSpec, place: &Place) -> Option<&'s CellSpec> {
    let means = |cell: &CellSpec| {
        cell.at.iter().all(|(dimension, value)| place.get(dimension).is_some_and(|leaf| leaf.fits(value)))
    };
    spec.cells.iter().find(|cell| means(cell))
}

/// Whether an earlier cell takes everybody whom a later one means.
pub fn hides(earlier: &CellSpec, later: &CellSpec) -> bool {
    earlier.at.iter().all(|(dimension, value)| {
        let within = |narrower: &String| {
            narrower == value || narrower.strip_prefix(value).is_some_and(|rest| rest.starts_with(WITHIN))
        };
        value == ALL || later.at.get(dimension).is_some_and(within)
    })
}

/// What templates see as `cell` in a place.
pub fn variables(name: &str, place: &Place) -> BTreeMap<String, String> {
    let dimensions = place.iter().map(|(dimension, leaf)| (dimension.clone(), leaf.label()));
    dimensions.chain([(CELL_NAME.to_owned(), name.to_owned())]).collect()
}

/// Names that every cell has, each with a value that it may have: for checks of templates.
pub fn examples(spec: &CampaignSpec) -> BTreeMap<String, String> {
    if spec.dimensions.is_empty() {
        return BTreeMap::new();
    }
    let first = |dimension: &DimensionSpec| {
        let leaf = leaves(dimension).into_iter().next().map(|leaf| leaf.label()).unwrap_or_default();
        Some((dimension.name.clone()?, leaf))
    };
    let dimensions = spec.dimensions.iter().filter_map(first);
    dimensions.chain([(CELL_NAME.to_owned(), "cell".to_owned())]).collect()
}

/// Every expression of the grid, with its path in the spec.
pub fn expressions(spec: &CampaignSpec) -> Vec<(String, &str)> {
    fn of<'s>(segments: &'s [DimensionSegment], path: &str, found: &mut Vec<(String, &'s str)>) {
        for (at, segment) in segments.iter().enumerate() {
            let path = format!("{path}.segments.{at}");
            if let Some(text) = segment.segment.as_deref().filter(|text| !text.trim().is_empty()) {
                found.push((format!("{path}.segment"), text));
            }
            of(&segment.segments, &path, found);
        }
    }
    let mut found = Vec::new();
    for (at, dimension) in spec.dimensions.iter().enumerate() {
        of(&dimension.segments, &format!("dimensions.{at}"), &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(name: &str, segments: Vec<DimensionSegment>, others: bool) -> DimensionSegment {
        let (name, text) = (Some(name.to_owned()), Some(format!("is_{name}")));
        DimensionSegment { name, segment: text, segments, others: others.then_some(true) }
    }

    fn country() -> DimensionSpec {
        let cities = vec![segment("Lille", vec![], false), segment("Lyon", vec![], false)];
        let lands = vec![segment("Berlin", vec![], false)];
        let segments =
            vec![segment("France", cities, true), segment("Germany", lands, false), segment("Italy", vec![], false)];
        DimensionSpec { name: Some("country".into()), segments, others: Some(true) }
    }

    #[test]
    fn a_tree_becomes_leaves_in_the_order_of_writing() {
        let leaves = leaves(&country());
        let found: Vec<(String, Option<&str>, bool)> =
            leaves.iter().map(|leaf| (leaf.label(), leaf.expression.as_deref(), leaf.nothing)).collect();
        let expected = [
            ("France / Lille", Some("(is_France) and (is_Lille)"), false),
            ("France / Lyon", Some("(is_France) and (is_Lyon)"), false),
            ("France / others", Some("is_France"), false),
            ("Germany / Berlin", Some("(is_Germany) and (is_Berlin)"), false),
            ("Germany / others", Some("is_Germany"), true),
            ("Italy", Some("is_Italy"), false),
            ("others", None, false),
        ];
        assert_eq!(found, expected.map(|(label, text, nothing)| (label.to_owned(), text, nothing)), "leaves");
    }

    #[test]
    fn a_value_means_a_leaf_a_level_or_all() {
        let leaves = leaves(&country());
        let meant = |value: &str| leaves.iter().filter(|leaf| leaf.fits(value)).count();
        assert_eq!((meant("France"), meant("France / Lille"), meant("Italy")), (3, 1, 1), "levels and leaves");
        assert_eq!((meant("all"), meant("others"), meant("Lille")), (7, 1, 0), "all, others, and no name of its own");
        let known = values(&country());
        assert!(known.contains(&"France".to_owned()) && !known.contains(&"Germany / others".to_owned()), "{known:?}");
    }

    #[test]
    fn a_wider_cell_hides_a_narrower_one_behind_it() {
        let cell = |values: &[(&str, &str)]| CellSpec {
            at: values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..CellSpec::default()
        };
        let france = cell(&[("country", "France")]);
        assert!(hides(&france, &cell(&[("country", "France / Lille"), ("age", "young")])), "all of it");
        assert!(hides(&cell(&[("country", "all")]), &france), "all is everybody");
        assert!(!hides(&france, &cell(&[("country", "France2")])), "another name");
        assert!(!hides(&cell(&[("country", "France / Lille")]), &france), "narrower first is right");
    }
}
