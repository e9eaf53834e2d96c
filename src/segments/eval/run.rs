//! Runs a plan.
//!
//! Owns the notes of one run. Intersections start with the smallest leaf and go on to what costs more, each under the rows
//! left so far; a negation takes away from them; unions read records only for rows that no sibling has found.
//!
//! Invariants: see the parent module. Sets that already exist are shared and never copied before they change.

use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use super::plan::{Dictionary, Plan, RowTest, Scan, Zoned};
use super::slices::{self, Slices};
use super::{ScanKind, ScanNote};
use crate::contacts::{AttributeSets, ContactsError};
use crate::ids::AttributeId;
use crate::segments::expression::TextMatch;
use crate::segments::ranges::RangeSet;

/// Of a hint's rows: all, or those in the set, which is a subset.
enum Rows {
    All,
    Shared(Arc<RoaringBitmap>),
    Owned(RoaringBitmap),
}

impl Rows {
    fn none() -> Rows {
        Rows::Owned(RoaringBitmap::new())
    }

    fn of<'r>(&'r self, hint: Hint<'r>) -> &'r RoaringBitmap {
        match self {
            Rows::All => hint.rows,
            Rows::Shared(rows) => rows,
            Rows::Owned(rows) => rows,
        }
    }

    /// `self`, to be asked about in turn.
    fn hint<'r>(&'r self, hint: Hint<'r>) -> Hint<'r> {
        match self {
            Rows::All => hint,
            _ => Hint { rows: self.of(hint), whole: false },
        }
    }

    fn and(self, hint: Hint<'_>, other: &Arc<RoaringBitmap>) -> Rows {
        match self {
            Rows::All if hint.whole => Rows::Shared(Arc::clone(other)),
            Rows::Owned(mut rows) => {
                rows &= &**other;
                Rows::Owned(rows)
            }
            rows => Rows::Owned(rows.of(hint) & &**other),
        }
    }

    fn minus(self, hint: Hint<'_>, other: &RoaringBitmap) -> Rows {
        match self {
            Rows::Owned(mut rows) => {
                rows -= other;
                Rows::Owned(rows)
            }
            rows => Rows::Owned(rows.of(hint) - other),
        }
    }
}

/// The rows that are asked about.
#[derive(Clone, Copy)]
struct Hint<'h> {
    rows: &'h RoaringBitmap,
    /// They are the universe.
    whole: bool,
}

pub(super) struct Runner<'w> {
    sets: &'w dyn AttributeSets,
    universe: Arc<RoaringBitmap>,
    notes: Vec<ScanNote>,
}

impl<'w> Runner<'w> {
    pub(super) fn new(sets: &'w dyn AttributeSets, universe: Arc<RoaringBitmap>) -> Runner<'w> {
        Runner { sets, universe, notes: Vec::new() }
    }

    pub(super) fn into_notes(self) -> Vec<ScanNote> {
        self.notes
    }

    pub(super) fn everywhere(&mut self, plan: &Plan) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let universe = Arc::clone(&self.universe);
        Ok(match self.run(plan, Hint { rows: &universe, whole: true })? {
            Rows::All => universe,
            Rows::Shared(rows) => rows,
            Rows::Owned(rows) => Arc::new(rows),
        })
    }

    pub(super) fn within(&mut self, plan: &Plan, rows: &RoaringBitmap) -> Result<Arc<RoaringBitmap>, ContactsError> {
        let existing = rows & &*self.universe;
        Ok(match self.run(plan, Hint { rows: &existing, whole: false })? {
            Rows::All => Arc::new(existing),
            Rows::Shared(rows) => rows,
            Rows::Owned(rows) => Arc::new(rows),
        })
    }

    fn run(&mut self, plan: &Plan, hint: Hint<'_>) -> Result<Rows, ContactsError> {
        if hint.rows.is_empty() {
            return Ok(Rows::none());
        }
        match plan {
            Plan::Every => Ok(Rows::All),
            Plan::Nothing => Ok(Rows::none()),
            Plan::Leaf(rows) => Ok(Rows::All.and(hint, rows)),
            Plan::Not(inner) => self.not(Rows::All, inner, hint),
            Plan::And(parts) => self.and(parts, hint),
            Plan::Or(parts) => self.or(parts, hint),
            Plan::Ranges(attribute, ranges) => self.ranges(*attribute, ranges, hint),
            Plan::Zoned(zoned) => self.zoned(zoned, hint),
            Plan::Dictionary(dictionary) => self.dictionary(dictionary, hint),
            Plan::Scan(scan) => self.scan(scan, hint),
        }
    }

    /// `rows` without those that `inner` finds.
    fn not(&mut self, rows: Rows, inner: &Plan, hint: Hint<'_>) -> Result<Rows, ContactsError> {
        if let Plan::Leaf(out) = inner {
            return Ok(rows.minus(hint, out));
        }
        let asked = rows.hint(hint);
        let out = self.run(inner, asked)?;
        Ok(match out {
            Rows::All => Rows::none(),
            Rows::Owned(out) if out.is_empty() => rows,
            Rows::Owned(out) => rows.minus(hint, &out),
            Rows::Shared(out) => rows.minus(hint, &out),
        })
    }

    fn and(&mut self, parts: &[Plan], hint: Hint<'_>) -> Result<Rows, ContactsError> {
        let mut ordered: Vec<(Cost, &Plan)> = parts.iter().map(|part| (self.cost(part), part)).collect();
        ordered.sort_by_key(|(cost, _)| *cost);
        let mut rows = Rows::All;
        for (_, part) in ordered {
            rows = match part {
                Plan::Leaf(leaf) => rows.and(hint, leaf),
                Plan::Not(inner) => self.not(rows, inner, hint)?,
                other => match self.run(other, rows.hint(hint))? {
                    Rows::All => rows,
                    fewer => fewer,
                },
            };
            if rows.of(hint).is_empty() {
                return Ok(Rows::none());
            }
        }
        Ok(rows)
    }

    fn or(&mut self, parts: &[Plan], hint: Hint<'_>) -> Result<Rows, ContactsError> {
        let leaves: Vec<&Arc<RoaringBitmap>> =
            parts.iter().filter_map(|part| if let Plan::Leaf(rows) = part { Some(rows) } else { None }).collect();
        let mut found = Vec::new();
        let mut shared: Vec<Arc<RoaringBitmap>> = Vec::new();
        // Under a hint it is cheaper to cut few leaves one by one, or all of them after their union.
        let cut_first = leaves.len() < 3 || hint.rows.len() * 4 < leaves.iter().map(|rows| rows.len()).sum();
        if hint.whole {
            shared.extend(leaves.into_iter().cloned());
        } else if cut_first {
            found.extend(leaves.into_iter().map(|rows| hint.rows & &**rows));
        } else {
            let mut union = leaves.into_iter().map(|rows| &**rows).union();
            union &= hint.rows;
            found.push(union);
        }
        for part in parts.iter().filter(|part| !matches!(part, Plan::Leaf(_)) && !part.scans()) {
            match self.run(part, hint)? {
                Rows::All => return Ok(Rows::All),
                Rows::Shared(rows) => shared.push(rows),
                Rows::Owned(rows) => found.push(rows),
            }
        }
        let mut rows = unite(found, &shared);
        for part in parts.iter().filter(|part| part.scans()) {
            let rest = hint.rows - &rows;
            match self.run(part, Hint { rows: &rest, whole: false })? {
                Rows::All => return Ok(Rows::All),
                Rows::Shared(more) => rows |= &*more,
                Rows::Owned(more) => rows |= more,
            }
        }
        Ok(Rows::Owned(rows))
    }

    fn ranges(&mut self, attribute: AttributeId, ranges: &RangeSet, hint: Hint<'_>) -> Result<Rows, ContactsError> {
        let present = self.sets.present(attribute)?;
        let (among, valued) = if hint.whole {
            (slices::Rows::Shared(Arc::clone(&present)), true)
        } else {
            (slices::Rows::Lent(hint.rows), present.len() == self.universe.len())
        };
        Ok(match Slices::new(self.sets, attribute, present).within(ranges, among, valued)? {
            slices::Rows::Owned(rows) => Rows::Owned(rows),
            slices::Rows::Shared(rows) => Rows::Shared(rows),
            // What was lent came back whole.
            slices::Rows::Lent(_) => Rows::All,
        })
    }

    fn zoned(&mut self, zoned: &Zoned, hint: Hint<'_>) -> Result<Rows, ContactsError> {
        let mut rest = Rows::All;
        let mut found = Vec::new();
        let mut shared = Vec::new();
        let mut ask = |runner: &mut Self, ranges: &RangeSet, rows: &RoaringBitmap| -> Result<(), ContactsError> {
            match runner.ranges(zoned.attribute, ranges, Hint { rows, whole: false })? {
                Rows::All => found.push(rows.clone()),
                Rows::Owned(rows) => found.push(rows),
                Rows::Shared(rows) => shared.push(rows),
            }
            Ok(())
        };
        for (zone, ranges) in &zoned.zones {
            let rows = rest.of(hint) & zone;
            if rows.is_empty() {
                continue;
            }
            rest = rest.minus(hint, &rows);
            if !ranges.is_empty() {
                ask(self, ranges, &rows)?;
            }
        }
        if !zoned.otherwise.is_empty() && !rest.of(hint).is_empty() {
            ask(self, &zoned.otherwise, rest.of(hint))?;
        }
        Ok(Rows::Owned(unite(found, &shared)))
    }

    fn dictionary(&mut self, dictionary: &Dictionary, hint: Hint<'_>) -> Result<Rows, ContactsError> {
        let Dictionary { attribute, how, wanted, part } = dictionary;
        let prefix = if *how == TextMatch::StartsWith { wanted.as_str() } else { "" };
        let mut visited = 0;
        let mut rows = self.sets.union_where(*attribute, prefix, &mut |value| {
            visited += 1;
            how.holds(value, wanted)
        })?;
        self.notes.push(ScanNote { part: part.clone(), kind: ScanKind::Values, visited });
        if !hint.whole {
            rows &= hint.rows;
        }
        Ok(Rows::Owned(rows))
    }

    fn scan(&mut self, scan: &Scan, hint: Hint<'_>) -> Result<Rows, ContactsError> {
        let possible = hint.rows & &*self.possible(&scan.test)?;
        let mut rows = RoaringBitmap::new();
        let mut visited = 0;
        self.sets.scan(&possible, &mut |row, record| {
            visited += 1;
            if scan.test.passes(&record) {
                rows.insert(row);
            }
        })?;
        self.notes.push(ScanNote { part: scan.part.clone(), kind: ScanKind::Records, visited });
        Ok(Rows::Owned(rows))
    }

    /// Rows with the values that a test needs.
    fn possible(&self, test: &RowTest) -> Result<Arc<RoaringBitmap>, ContactsError> {
        match test {
            RowTest::Ranges(attribute, _)
            | RowTest::Zoned { attribute, .. }
            | RowTest::Texts(attribute, _)
            | RowTest::Bool(attribute, _)
            | RowTest::Match(attribute, ..)
            | RowTest::Has { attribute, .. } => self.sets.present(*attribute),
            RowTest::All(tests) => {
                let sets = tests.iter().map(|test| self.possible(test)).collect::<Result<Vec<_>, _>>()?;
                Ok(Arc::new(sets.iter().map(|rows| &**rows).intersection()))
            }
            RowTest::Any(tests) => {
                let sets = tests.iter().map(|test| self.possible(test)).collect::<Result<Vec<_>, _>>()?;
                Ok(Arc::new(sets.iter().map(|rows| &**rows).union()))
            }
        }
    }

    fn cost(&self, part: &Plan) -> Cost {
        match part {
            Plan::Every | Plan::Nothing => Cost(0, 0),
            Plan::Leaf(rows) => Cost(0, rows.len()),
            Plan::Or(parts) if parts.iter().all(|part| matches!(part, Plan::Leaf(_))) => Cost(1, parts.len() as u64),
            // Taking away most rows first leaves less to do; taking away few is best done in place, later.
            Plan::Not(inner) => match &**inner {
                Plan::Leaf(rows) if rows.len() > self.universe.len() / 2 => Cost(1, 0),
                Plan::Leaf(rows) => Cost(4, u64::MAX - rows.len()),
                other if other.scans() => Cost(7, 0),
                _ => Cost(5, 0),
            },
            Plan::Ranges(_, ranges) => Cost(2, u64::from(ranges.digits())),
            Plan::Zoned(zoned) => Cost(3, zoned.zones.len() as u64),
            Plan::Dictionary(_) => Cost(6, 0),
            Plan::Scan(_) => Cost(8, 0),
            other if other.scans() => Cost(7, 0),
            Plan::And(_) | Plan::Or(_) => Cost(5, 0),
        }
    }
}

/// Order in an intersection: kind of work, then how much of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost(u8, u64);

/// The union of all, made in place of the largest owned set.
fn unite(mut owned: Vec<RoaringBitmap>, shared: &[Arc<RoaringBitmap>]) -> RoaringBitmap {
    if owned.is_empty() {
        return shared.iter().map(|rows| &**rows).union();
    }
    if owned.len() > 2 {
        owned = vec![owned.union()];
    }
    let largest = owned.iter().enumerate().max_by_key(|(_, rows)| rows.len()).map_or(0, |(index, _)| index);
    let mut rows = owned.swap_remove(largest);
    for more in owned {
        rows |= more;
    }
    for more in shared {
        rows |= &**more;
    }
    rows
}
