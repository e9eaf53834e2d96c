//! An expression to a plan: names looked up, moments made instants, segments written out.
//!
//! Owns the path of segments while it descends. Invariants: CO-1 a segment that contains itself is refused with the path; CO-2
//! depth and size are bounded with every segment written out; CO-3 leaves that are no answer of the indices are cut to the
//! universe.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::tz::TimeZone;
use roaring::{MultiOps, RoaringBitmap};

use super::plan::{Dictionary, Plan, RowTest, Scan, Zoned};
use crate::contacts::sets::{number_digits, time_digits};
use crate::contacts::{Attribute, AttributeSets, AttributeType, ContactsError, IndexKind};
use crate::ids::AttributeId;
use crate::limits;
use crate::segments::anniversary;
use crate::segments::check::check;
use crate::segments::error::{EvaluateError, Hint, Problem, SegmentError, Span};
use crate::segments::expression::{Comparison, Days, Expression, Kind, Literal, LiteralValue, Operator, Test, Zone};
use crate::segments::moment::{depends_on_zone, resolve};
use crate::segments::ranges::{Range, RangeSet};
use crate::segments::world::World;

/// Levels of the tree with segments written out: a level of nesting in the text is a `not` or a parenthesis, which holds an
/// `or` of `and`s.
const LEVELS_MAX: usize = 2 * limits::SEGMENT_DEPTH_MAX + 2;

pub(super) struct Compiler<'w> {
    world: &'w dyn World,
    sets: &'w dyn AttributeSets,
    universe: Arc<RoaringBitmap>,
    /// Names of the segments that are being written out, the outermost first.
    path: Vec<String>,
    levels: usize,
    parts: usize,
}

impl<'w> Compiler<'w> {
    pub(super) fn new(world: &'w dyn World, universe: Arc<RoaringBitmap>) -> Compiler<'w> {
        Compiler { world, sets: world.sets(), universe, path: Vec::new(), levels: 0, parts: 0 }
    }

    /// Checks and compiles a whole expression.
    pub(super) fn compile(&mut self, expression: &Expression) -> Result<Plan, EvaluateError> {
        if let Err(faults) = check(expression, self.world.schema(), self.world.scope())
            && let Some(first) = faults.into_iter().next()
        {
            return Err(first.into());
        }
        self.plan(expression)
    }

    fn plan(&mut self, part: &Expression) -> Result<Plan, EvaluateError> {
        self.parts += 1;
        self.levels += 1;
        if self.parts > limits::SEGMENT_EXPANDED_NODES_MAX {
            return Err(fault(part.span, Problem::TooLarge { max: limits::SEGMENT_EXPANDED_NODES_MAX }));
        }
        if self.levels > LEVELS_MAX {
            return Err(fault(part.span, Problem::TooDeep { max: limits::SEGMENT_DEPTH_MAX }));
        }
        let plan = match &part.kind {
            Kind::Every => Plan::Every,
            Kind::Active => self.active()?,
            Kind::Not(inner) => Plan::not(self.plan(inner)?),
            Kind::And(parts) => Plan::and(self.plans(parts)?),
            Kind::Or(parts) => Plan::or(self.plans(parts)?),
            Kind::InList(name) => match self.world.list(name)? {
                Some(rows) => self.given(rows),
                None => return Err(fault(part.span, Problem::UnknownList { name: name.clone() })),
            },
            Kind::InSegment(name) => self.segment(name, part.span)?,
            Kind::Subscribed { channel, topic } => self.given(self.world.subscribed(*channel, topic)),
            Kind::Unsubscribed { channel, topic } => self.given(self.world.unsubscribed(*channel, topic)),
            Kind::Reachable(channel) => self.leaf(self.sets.reachable(*channel)?),
            Kind::Suppressed(channel) => self.given(self.world.suppressed(*channel)),
            Kind::History { event, campaign } => match self.world.history(*event, campaign) {
                Ok(rows) => self.given(rows),
                Err(untold) => return Err(fault(part.span, untold.of(campaign))),
            },
            Kind::Recent { event, channel, days } => self.given(self.world.recent(*event, *channel, *days)),
            Kind::Messages { did, least, days } => self.given(self.world.messages(*did, *least, *days)),
            Kind::Did { name, least, days } => self.given(self.world.did(name, *least, *days)),
            Kind::DidWith { name, property, value } => self.given(self.world.did_with(name, property, value)),
            Kind::Test(test) => self.test(test, part)?,
        };
        self.levels -= 1;
        Ok(plan)
    }

    fn plans(&mut self, parts: &[Expression]) -> Result<Vec<Plan>, EvaluateError> {
        parts.iter().map(|part| self.plan(part)).collect()
    }

    /// A set from the indices.
    fn leaf(&self, rows: Arc<RoaringBitmap>) -> Plan {
        if rows.is_empty() {
            Plan::Nothing
        } else if rows.len() == self.universe.len() {
            Plan::Every
        } else {
            Plan::Leaf(rows)
        }
    }

    /// A set that may hold contacts who exist no more.
    fn given(&self, rows: Arc<RoaringBitmap>) -> Plan {
        let last = self.universe.max();
        let dense = last.is_some_and(|last| u64::from(last) + 1 == self.universe.len());
        if rows.is_empty() || (dense && rows.max() <= last) {
            return self.leaf(rows);
        }
        self.leaf(Arc::new(&*rows & &*self.universe))
    }

    /// Contacts are active unless said otherwise, so the deactivated are the ones to look up.
    fn active(&self) -> Result<Plan, ContactsError> {
        Ok(Plan::not(self.leaf(self.sets.value(AttributeId::ACTIVE, "false")?)))
    }

    fn segment(&mut self, name: &str, span: Span) -> Result<Plan, EvaluateError> {
        let Some(expression) = self.world.segment(name) else {
            return Err(fault(span, Problem::UnknownSegment { name: name.to_owned() }));
        };
        if let Some(first) = self.path.iter().position(|outer| outer == name) {
            let mut path = self.path[first..].to_vec();
            path.push(name.to_owned());
            return Err(fault(span, Problem::Cycle { path }));
        }
        // A segment on trial is named by nobody's text: the place is then the one in its own.
        let is_trial = self.path.is_empty() && span == Span::default();
        self.path.push(name.to_owned());
        let plan = self.compile(&expression).map_err(|error| match error {
            // The size and the cycle are faults of the whole, and a span of another text would mislead.
            EvaluateError::Segment(SegmentError {
                problem: problem @ (Problem::Cycle { .. } | Problem::TooDeep { .. } | Problem::TooLarge { .. }),
                span: inside,
            }) => fault(if is_trial { inside } else { span }, problem),
            EvaluateError::Segment(inner) => {
                fault(span, Problem::InSegment { name: name.to_owned(), inner: Box::new(inner) })
            }
            other => other,
        })?;
        self.path.pop();
        Ok(plan)
    }

    fn test(&mut self, test: &Test, part: &Expression) -> Result<Plan, EvaluateError> {
        let Some(attribute) = self.world.schema().by_name(&test.attribute.text).cloned() else {
            let problem = Problem::UnknownAttribute { name: test.attribute.text.clone(), hint: Hint::none() };
            return Err(fault(test.attribute.span, problem));
        };
        if attribute.id == AttributeId::ACTIVE {
            return Ok(self.active_test(&test.operator)?);
        }
        let present = || self.sets.present(attribute.id);
        match &test.operator {
            Operator::Empty => Ok(Plan::not(self.leaf(present()?))),
            // The only comparison that most values pass: all that have a value, less those that have this one.
            Operator::Compare(Comparison::NotEqual, literal) => {
                let equal = Operator::Compare(Comparison::Equal, literal.clone());
                let equal = Test { operator: equal, ..test.clone() };
                let equal = self.positive(&attribute, &equal, part)?;
                Ok(Plan::and(vec![self.leaf(present()?), Plan::not(equal)]))
            }
            _ => self.positive(&attribute, test, part),
        }
    }

    fn active_test(&self, operator: &Operator) -> Result<Plan, ContactsError> {
        let wanted = match operator {
            Operator::Compare(comparison, Literal { value: LiteralValue::Bool(value), .. }) => {
                *value == (*comparison == Comparison::Equal)
            }
            _ => return Ok(Plan::Nothing),
        };
        let active = self.active()?;
        Ok(if wanted { active } else { Plan::not(active) })
    }

    /// A test that a missing value fails.
    fn positive(&mut self, attribute: &Attribute, test: &Test, part: &Expression) -> Result<Plan, EvaluateError> {
        let indexed = attribute.index != IndexKind::None;
        match attribute.kind {
            AttributeType::Number => {
                let ranges = ranges_of(&test.operator, &number_bounds);
                Ok(if indexed {
                    self.ranges(attribute.id, ranges)?
                } else {
                    scan(RowTest::Ranges(attribute.id, ranges), part)
                })
            }
            AttributeType::DateTime => self.time(attribute, test, part),
            AttributeType::Text | AttributeType::Boolean | AttributeType::List if indexed => {
                self.values(attribute.id, &test.operator, part)
            }
            AttributeType::Text | AttributeType::Boolean | AttributeType::List => {
                Ok(row_test(attribute.id, &test.operator).map_or(Plan::Nothing, |test| scan(test, part)))
            }
        }
    }

    fn ranges(&self, attribute: AttributeId, ranges: RangeSet) -> Result<Plan, ContactsError> {
        if ranges.is_full() {
            return Ok(self.leaf(self.sets.present(attribute)?));
        }
        Ok(Plan::ranges(attribute, ranges))
    }

    /// A test of an attribute with a values index.
    fn values(&mut self, id: AttributeId, operator: &Operator, part: &Expression) -> Result<Plan, EvaluateError> {
        let value = |text: &str| self.sets.value(id, text).map(|rows| self.leaf(rows));
        let plan = match operator {
            Operator::Compare(_, literal) => match &literal.value {
                LiteralValue::Text(text) => value(text)?,
                LiteralValue::Bool(wanted) => value(if *wanted { "true" } else { "false" })?,
                LiteralValue::Number(_) | LiteralValue::Moment(_) => Plan::Nothing,
            },
            Operator::In(literals) => Plan::or(texts(literals).map(value).collect::<Result<_, _>>()?),
            Operator::Has { all, entries } => {
                let plans = entries.iter().map(|entry| value(entry)).collect::<Result<_, _>>()?;
                if *all { Plan::and(plans) } else { Plan::or(plans) }
            }
            Operator::Match(how, wanted) => Plan::Dictionary(Box::new(Dictionary {
                attribute: id,
                how: *how,
                wanted: wanted.clone(),
                part: part.to_string(),
            })),
            Operator::Between(..) | Operator::Empty | Operator::Anniversary(_) => Plan::Nothing,
        };
        self.parts += match operator {
            Operator::In(literals) => literals.len(),
            Operator::Has { entries, .. } => entries.len(),
            _ => 0,
        };
        Ok(plan)
    }

    fn time(&self, attribute: &Attribute, test: &Test, part: &Expression) -> Result<Plan, EvaluateError> {
        let (id, indexed) = (attribute.id, attribute.index != IndexKind::None);
        let now = self.world.now();
        let stored = self.world.zone();
        let ranges_in = |zone: &TimeZone| match test.operator {
            Operator::Anniversary(days) => celebrated(days, now, zone, stored),
            _ => ranges_of(&test.operator, &|literal| time_bounds(literal, now, zone)),
        };
        let named;
        let zone = match &test.zone {
            Zone::Named(name) => match TimeZone::get(name) {
                Ok(zone) => {
                    named = zone;
                    &named
                }
                Err(_) => return Err(fault(test.zone_span, Problem::UnknownZone { name: name.clone() })),
            },
            Zone::Default | Zone::Contact => self.world.zone(),
        };
        let otherwise = ranges_in(zone);
        if test.zone != Zone::Contact || !any_depends_on_zone(&test.operator) {
            return Ok(if indexed { self.ranges(id, otherwise)? } else { scan(RowTest::Ranges(id, otherwise), part) });
        }
        let mut zones: HashMap<String, RangeSet> = HashMap::new();
        self.sets.union_where(AttributeId::ZONE, "", &mut |name| {
            // Only names that are zones are kept, so their number is bounded by the database's.
            if let Ok(zone) = TimeZone::get(name) {
                zones.insert(name.to_owned(), ranges_in(&zone));
            }
            false
        })?;
        if !indexed {
            return Ok(scan(RowTest::Zoned { attribute: id, zones, otherwise }, part));
        }
        let mut groups: BTreeMap<RangeSet, Vec<String>> = BTreeMap::new();
        for (name, ranges) in zones {
            if ranges != otherwise {
                groups.entry(ranges).or_default().push(name);
            }
        }
        let mut zones = Vec::with_capacity(groups.len());
        for (ranges, names) in groups {
            let rows = names.iter().map(|name| self.sets.value(AttributeId::ZONE, name));
            let rows: Vec<Arc<RoaringBitmap>> = rows.collect::<Result<_, _>>()?;
            zones.push((rows.iter().map(|rows| &**rows).union(), ranges));
        }
        Ok(Plan::Zoned(Box::new(Zoned { attribute: id, zones, otherwise })))
    }
}

fn fault(span: Span, problem: Problem) -> EvaluateError {
    EvaluateError::Segment(SegmentError::new(span, problem))
}

fn scan(test: RowTest, part: &Expression) -> Plan {
    Plan::Scan(Box::new(Scan { test, part: part.to_string() }))
}

fn texts(literals: &[Literal]) -> impl Iterator<Item = &str> {
    literals.iter().filter_map(|literal| match &literal.value {
        LiteralValue::Text(text) => Some(text.as_str()),
        _ => None,
    })
}

fn row_test(id: AttributeId, operator: &Operator) -> Option<RowTest> {
    match operator {
        Operator::Compare(_, literal) => match &literal.value {
            LiteralValue::Text(text) => Some(RowTest::Texts(id, vec![text.clone()])),
            LiteralValue::Bool(wanted) => Some(RowTest::Bool(id, *wanted)),
            LiteralValue::Number(_) | LiteralValue::Moment(_) => None,
        },
        Operator::In(literals) => Some(RowTest::Texts(id, texts(literals).map(str::to_owned).collect())),
        Operator::Match(how, wanted) => Some(RowTest::Match(id, *how, wanted.clone())),
        Operator::Has { all, entries } => Some(RowTest::Has { attribute: id, all: *all, entries: entries.clone() }),
        Operator::Between(..) | Operator::Empty | Operator::Anniversary(_) => None,
    }
}

/// First digit pattern that the literal stands for, and the first behind it.
type Bounds = Option<(u64, u64)>;

fn number_bounds(literal: &Literal) -> Bounds {
    let LiteralValue::Number(number) = literal.value else {
        return None;
    };
    let digits = number_digits(number);
    Some((digits, digits.saturating_add(1)))
}

fn time_bounds(literal: &Literal, now: crate::clock::Timestamp, zone: &TimeZone) -> Bounds {
    let LiteralValue::Moment(moment) = &literal.value else {
        return None;
    };
    let stretch = resolve(moment, now, zone);
    Some((time_digits(stretch.start), time_digits(stretch.end)))
}

/// The stored dates, read in the zone `stored`, of which an anniversary is on one of the days, counted in `zone`.
fn celebrated(days: Days, now: crate::clock::Timestamp, zone: &TimeZone, stored: &TimeZone) -> RangeSet {
    let Ok(now) = jiff::Timestamp::from_millisecond(now.0) else { return RangeSet::default() };
    let today = now.to_zoned(zone.clone()).date();
    let digits = |date: jiff::civil::Date| {
        let start = date.to_zoned(stored.clone()).ok()?.timestamp().as_millisecond();
        Some(time_digits(crate::clock::Timestamp(start)))
    };
    let spans = anniversary::origin_spans(today, days.bounds());
    RangeSet::of(spans.into_iter().filter_map(|(first, last)| Some((digits(first)?, digits(last.tomorrow().ok()?)?))))
}

fn ranges_of(operator: &Operator, bounds: &dyn Fn(&Literal) -> Bounds) -> RangeSet {
    match operator {
        Operator::Compare(comparison, literal) => RangeSet::of(bounds(literal).map(|(start, end)| match comparison {
            Comparison::Equal | Comparison::NotEqual => (start, end),
            Comparison::Less => (0, start),
            Comparison::LessOrEqual => (0, end),
            Comparison::Greater => (end, Range::END),
            Comparison::GreaterOrEqual => (start, Range::END),
        })),
        Operator::In(literals) => RangeSet::of(literals.iter().filter_map(bounds)),
        Operator::Between(low, high) => {
            RangeSet::of(bounds(low).zip(bounds(high)).map(|((start, _), (_, end))| (start, end)))
        }
        Operator::Match(..) | Operator::Empty | Operator::Has { .. } | Operator::Anniversary(_) => RangeSet::default(),
    }
}

fn any_depends_on_zone(operator: &Operator) -> bool {
    let depends = |literal: &Literal| matches!(&literal.value, LiteralValue::Moment(moment) if depends_on_zone(moment));
    match operator {
        Operator::Compare(_, literal) => depends(literal),
        Operator::In(literals) => literals.iter().any(depends),
        Operator::Between(low, high) => depends(low) || depends(high),
        Operator::Anniversary(_) => true,
        Operator::Match(..) | Operator::Empty | Operator::Has { .. } => false,
    }
}
