//! What is executed: an expression with its names looked up, its constants folded, and its leaves fetched.
//!
//! Owns the fetched leaves while a plan lives. The constructors keep the plan small. Invariants: PL-1 every leaf is a subset of
//! the universe; PL-2 `And` and `Or` have two children at least, and hold no `Every` or `Nothing`; PL-3 an `And` asks an
//! attribute for one set of ranges at most, and has one scan at most.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::contacts::sets::{number_digits, time_digits};
use crate::contacts::{Record, Value};
use crate::ids::AttributeId;
use crate::segments::expression::TextMatch;
use crate::segments::ranges::RangeSet;

pub(super) enum Plan {
    Every,
    Nothing,
    Leaf(Arc<RoaringBitmap>),
    Not(Box<Plan>),
    And(Vec<Plan>),
    Or(Vec<Plan>),
    /// Rows whose value of a bit-sliced attribute is in the ranges.
    Ranges(AttributeId, RangeSet),
    Zoned(Box<Zoned>),
    /// Rows whose indexed text matches: a look at every value that occurs.
    Dictionary(Box<Dictionary>),
    /// Rows whose record passes: a look at every record.
    Scan(Box<Scan>),
}

/// A comparison that differs by the contact's zone.
pub(super) struct Zoned {
    pub(super) attribute: AttributeId,
    /// Rows of the zones in which the comparison means these ranges; disjoint.
    pub(super) zones: Vec<(RoaringBitmap, RangeSet)>,
    /// For all other rows.
    pub(super) otherwise: RangeSet,
}

pub(super) struct Dictionary {
    pub(super) attribute: AttributeId,
    pub(super) how: TextMatch,
    pub(super) wanted: String,
    /// Canonical text, for the note.
    pub(super) part: String,
}

pub(super) struct Scan {
    pub(super) test: RowTest,
    /// Canonical text, for the note.
    pub(super) part: String,
}

/// A question to one record. A missing value fails every test but `Any` and `All` over others.
pub(super) enum RowTest {
    Ranges(AttributeId, RangeSet),
    Zoned { attribute: AttributeId, zones: HashMap<String, RangeSet>, otherwise: RangeSet },
    Texts(AttributeId, Vec<String>),
    Bool(AttributeId, bool),
    Match(AttributeId, TextMatch, String),
    Has { attribute: AttributeId, all: bool, entries: Vec<String> },
    All(Vec<RowTest>),
    Any(Vec<RowTest>),
}

impl RowTest {
    pub(super) fn passes(&self, record: &Record<'_>) -> bool {
        match self {
            RowTest::Ranges(attribute, ranges) => digits(record, *attribute).is_some_and(|d| ranges.contains(d)),
            RowTest::Zoned { attribute, zones, otherwise } => {
                let zone = record.text(AttributeId::ZONE).and_then(|zone| zones.get(zone));
                digits(record, *attribute).is_some_and(|d| zone.unwrap_or(otherwise).contains(d))
            }
            RowTest::Texts(attribute, texts) => {
                record.text(*attribute).is_some_and(|text| texts.iter().any(|wanted| wanted == text))
            }
            RowTest::Bool(attribute, wanted) => record.get(*attribute) == Some(Value::Bool(*wanted)),
            RowTest::Match(attribute, how, wanted) => {
                record.text(*attribute).is_some_and(|text| how.holds(text, wanted))
            }
            RowTest::Has { attribute, all, entries } => match record.get(*attribute) {
                Some(Value::List(list)) => {
                    let present = |entry: &String| list.iter().any(|found| found == entry);
                    if *all { entries.iter().all(present) } else { entries.iter().any(present) }
                }
                _ => false,
            },
            RowTest::All(tests) => tests.iter().all(|test| test.passes(record)),
            RowTest::Any(tests) => tests.iter().any(|test| test.passes(record)),
        }
    }
}

fn digits(record: &Record<'_>, attribute: AttributeId) -> Option<u64> {
    match record.get(attribute)? {
        Value::Number(number) => Some(number_digits(number)),
        Value::Time(time) => Some(time_digits(time)),
        _ => None,
    }
}

impl Plan {
    pub(super) fn ranges(attribute: AttributeId, ranges: RangeSet) -> Plan {
        if ranges.is_empty() { Plan::Nothing } else { Plan::Ranges(attribute, ranges) }
    }

    pub(super) fn not(inner: Plan) -> Plan {
        match inner {
            Plan::Every => Plan::Nothing,
            Plan::Nothing => Plan::Every,
            Plan::Not(inner) => *inner,
            // Taking the parts away one by one needs no union of them.
            Plan::Or(parts) => Plan::and(parts.into_iter().map(Plan::not).collect()),
            other => Plan::Not(Box::new(other)),
        }
    }

    pub(super) fn and(parts: Vec<Plan>) -> Plan {
        let mut flat: Vec<Plan> = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Plan::Every => {}
                Plan::Nothing => return Plan::Nothing,
                Plan::And(inner) => inner.into_iter().for_each(|part| join(&mut flat, part, true)),
                other => join(&mut flat, other, true),
            }
        }
        if flat.iter().any(|part| matches!(part, Plan::Nothing)) {
            return Plan::Nothing;
        }
        single(flat, Plan::Every, Plan::And)
    }

    pub(super) fn or(parts: Vec<Plan>) -> Plan {
        let mut flat: Vec<Plan> = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Plan::Nothing => {}
                Plan::Every => return Plan::Every,
                Plan::Or(inner) => inner.into_iter().for_each(|part| join(&mut flat, part, false)),
                other => join(&mut flat, other, false),
            }
        }
        single(flat, Plan::Nothing, Plan::Or)
    }

    /// Whether records or values are looked at one by one.
    pub(super) fn scans(&self) -> bool {
        match self {
            Plan::Scan(_) | Plan::Dictionary(_) => true,
            Plan::Not(inner) => inner.scans(),
            Plan::And(parts) | Plan::Or(parts) => parts.iter().any(Plan::scans),
            _ => false,
        }
    }
}

fn single(mut parts: Vec<Plan>, none: Plan, wrap: fn(Vec<Plan>) -> Plan) -> Plan {
    match parts.pop() {
        None => none,
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            wrap(parts)
        }
    }
}

/// Adds `part`, into a sibling where one pass can serve both: ranges of one attribute, and scans.
fn join(parts: &mut Vec<Plan>, part: Plan, and: bool) {
    match part {
        Plan::Ranges(attribute, ranges) => {
            let sibling = parts.iter_mut().find_map(|other| match other {
                Plan::Ranges(id, present) if *id == attribute => Some(present),
                _ => None,
            });
            match sibling {
                Some(present) if and => {
                    *present = present.intersection(&ranges);
                    if present.is_empty() {
                        parts.push(Plan::Nothing);
                    }
                }
                Some(present) => *present = present.union(&ranges),
                None => parts.push(Plan::Ranges(attribute, ranges)),
            }
        }
        Plan::Scan(scan) => {
            let sibling = parts.iter().position(|other| matches!(other, Plan::Scan(_)));
            match sibling.map(|index| parts.swap_remove(index)) {
                Some(Plan::Scan(present)) => {
                    let part = format!("{} {} {}", present.part, if and { "and" } else { "or" }, scan.part);
                    let tests = vec![present.test, scan.test];
                    let test = if and { RowTest::All(tests) } else { RowTest::Any(tests) };
                    parts.push(Plan::Scan(Box::new(Scan { test, part })));
                }
                _ => parts.push(Plan::Scan(scan)),
            }
        }
        other => parts.push(other),
    }
}
