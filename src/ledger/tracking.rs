//! What came back on a run: opens and clicks as bitmaps and totals, kept apart by class. What providers report (delivered,
//! bounced, complained) and conversions are in [`super::events`].
//!
//! Invariants: TR-1 a row is in the set of the best class that it earned (human over suspect over machine) once per kind;
//! uniques are those bitmaps' sizes, so replaying a fact changes totals only, and every fact is applied once; TR-2 in
//! aggregate-only mode there are totals and no rows; TR-3 an event that turns out to be of another class takes back one event of
//! a row, and the row leaves the class only with its last one (up to `limits::REPEATS_MAX` are told apart).

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{MessageId, RunId};
use crate::ledger::events::count_again;
use crate::limits::REPEATS_MAX;

/// How sure we are that a person did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventClass {
    Human,
    Suspect,
    Machine,
}

impl EventClass {
    pub const ALL: [EventClass; 3] = [EventClass::Human, EventClass::Suspect, EventClass::Machine];

    pub fn name(self) -> &'static str {
        match self {
            EventClass::Human => "human",
            EventClass::Suspect => "suspect",
            EventClass::Machine => "machine",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackedKind {
    Opened,
    Clicked { link: u16 },
}

/// Some opens or clicks of one kind and class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
    pub run: RunId,
    pub message: MessageId,
    pub kind: TrackedKind,
    pub class: EventClass,
    /// Empty in aggregate-only mode.
    pub rows: RoaringBitmap,
    pub total: u64,
    /// Set when earlier events turn out to be of another class: they leave this one.
    pub was: Option<EventClass>,
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventSets {
    /// By the best class that a row has an event of.
    pub rows: BTreeMap<EventClass, RoaringBitmap>,
    pub totals: BTreeMap<EventClass, u64>,
    /// Of the rows of a class, those with more than one event of it: the k-th set has those with more than k + 1. So an event that
    /// turns out to be a machine's does not take a person's earlier one along.
    #[serde(default)]
    again: BTreeMap<EventClass, Vec<RoaringBitmap>>,
}

impl EventSets {
    pub(super) fn add(&mut self, class: EventClass, rows: &RoaringBitmap, total: u64) {
        let counted = self.totals.entry(class).or_default();
        *counted = counted.saturating_add(total);
        let mut new = rows.clone();
        for (present, set) in &mut self.rows {
            if *present <= class {
                if *present == class && class != EventClass::Machine {
                    count_again(self.again.entry(class).or_default(), &(&new & &*set), REPEATS_MAX);
                }
                new -= &*set;
            } else {
                *set -= rows;
                self.again.entry(*present).or_default().iter_mut().for_each(|level| *level -= rows);
            }
        }
        if !new.is_empty() {
            *self.rows.entry(class).or_default() |= new;
        }
    }

    /// Moves earlier events from one class to another.
    fn reclassify(&mut self, was: EventClass, class: EventClass, rows: &RoaringBitmap, total: u64) {
        // One event less; who has another one of the class stays in it.
        let mut leaving = rows.clone();
        for level in self.again.entry(was).or_default().iter_mut().rev() {
            let here = &leaving & &*level;
            *level -= &here;
            leaving -= here;
        }
        if let Some(set) = self.rows.get_mut(&was) {
            *set -= &leaving;
        }
        if let Some(count) = self.totals.get_mut(&was) {
            *count = count.saturating_sub(total);
        }
        self.add(class, rows, total);
    }

    fn take(&mut self, fact: &Tracked) {
        self.take_rows(fact.class, fact.was, &fact.rows, fact.total);
    }

    /// Events of a class; with `was`, earlier ones of that class that turn out to be of this one.
    pub(super) fn take_rows(&mut self, class: EventClass, was: Option<EventClass>, rows: &RoaringBitmap, total: u64) {
        match was {
            Some(was) => self.reclassify(was, class, rows, total),
            None => self.add(class, rows, total),
        }
    }

    pub fn unique(&self, class: EventClass) -> u64 {
        self.rows.get(&class).map_or(0, RoaringBitmap::len)
    }

    pub fn total(&self, class: EventClass) -> u64 {
        self.totals.get(&class).copied().unwrap_or(0)
    }

    /// Adds the sets of other rows.
    pub(super) fn merge(&mut self, other: &EventSets) {
        for (class, total) in &other.totals {
            let none = RoaringBitmap::new();
            self.add(*class, other.rows.get(class).unwrap_or(&none), *total);
        }
        for (class, levels) in &other.again {
            let mine = self.again.entry(*class).or_default();
            mine.resize_with(mine.len().max(levels.len()), RoaringBitmap::new);
            mine.iter_mut().zip(levels).for_each(|(mine, theirs)| *mine |= theirs);
        }
    }

    /// Who did it more than once.
    pub(super) fn forget_repeats(&mut self) {
        self.again.clear();
    }

    /// Rows of every class.
    pub fn any(&self) -> RoaringBitmap {
        self.rows.values().fold(RoaringBitmap::new(), |all, rows| all | rows)
    }
}

/// Everything that came back on one message of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MessageTracking {
    pub opened: EventSets,
    pub clicked: EventSets,
    pub links: BTreeMap<u16, EventSets>,
    pub unsubscribed: RoaringBitmap,
    /// Who opened or clicked on which day (since the epoch, UTC), whatever the class.
    #[serde(default)]
    pub days: BTreeMap<i64, DayRows>,
}

/// Who did what on one day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DayRows {
    pub opened: RoaringBitmap,
    pub clicked: RoaringBitmap,
}

/// The day of an instant, since the epoch, UTC.
pub fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(24 * 3_600_000)
}

impl MessageTracking {
    pub fn add(&mut self, fact: &Tracked) {
        if !fact.rows.is_empty() && fact.was.is_none() {
            let day = self.days.entry(day_of(fact.at)).or_default();
            match fact.kind {
                TrackedKind::Opened => day.opened |= &fact.rows,
                TrackedKind::Clicked { .. } => day.clicked |= &fact.rows,
            }
        }
        match fact.kind {
            TrackedKind::Opened => self.opened.take(fact),
            TrackedKind::Clicked { link } => {
                self.clicked.take(fact);
                self.links.entry(link).or_default().take(fact);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_s_click_outlasts_a_later_one_that_was_a_machine_s() {
        let human = EventClass::Human;
        let mut sets = EventSets::default();
        let rows = |list: &[u32]| list.iter().copied().collect::<RoaringBitmap>();
        sets.add(human, &rows(&[1, 2]), 2);
        sets.add(human, &rows(&[1]), 1);
        sets.take_rows(EventClass::Machine, Some(human), &rows(&[1, 2]), 2);
        assert_eq!(sets.rows[&human], rows(&[1]), "its first click stands");
        assert_eq!(sets.rows[&EventClass::Machine], rows(&[2]), "it had no other");
        assert_eq!((sets.total(human), sets.total(EventClass::Machine)), (1, 2));
        sets.take_rows(EventClass::Machine, Some(human), &rows(&[1]), 1);
        assert_eq!((sets.unique(human), sets.unique(EventClass::Machine)), (0, 2), "and now none is left");
    }

    #[test]
    fn a_row_counts_once_in_its_best_class_and_totals_count_all() {
        let mut sets = EventSets::default();
        sets.add(EventClass::Machine, &RoaringBitmap::from_iter([1, 2]), 2);
        sets.add(EventClass::Human, &RoaringBitmap::from_iter([2, 3]), 2);
        sets.add(EventClass::Suspect, &RoaringBitmap::from_iter([2, 1]), 2);
        assert_eq!(sets.unique(EventClass::Human), 2, "2 was promoted, 3 is new");
        assert_eq!(sets.unique(EventClass::Suspect), 1, "1 was promoted, 2 stays human");
        assert_eq!(sets.unique(EventClass::Machine), 0, "none is left");
        assert_eq!(sets.total(EventClass::Machine), 2, "totals keep their class");
    }
}
