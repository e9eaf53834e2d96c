//! Types: whether an expression asks things that make sense of a schema.
//!
//! Owns no state. Reports every fault, not just the first, so that a form can show all. Invariant: CH-1 an expression that
//! passes is compiled without a type fault. Whether lists and segments exist is known at evaluation only.

use crate::contacts::{Attribute, AttributeType, Schema};
use crate::segments::error::{Hint, Problem, SegmentError, Span};
use crate::segments::expression::{Comparison, Expression, Kind, Literal, LiteralValue, Operator, Test, Zone};
use crate::segments::world::Scope;

/// Checks `expression` against `schema`; all faults in the order of the text.
pub fn check(expression: &Expression, schema: &Schema, scope: Scope) -> Result<(), Vec<SegmentError>> {
    let mut faults = Vec::new();
    expression.walk(&mut |part| match &part.kind {
        Kind::Test(test) => check_test(test, part.span, schema, &mut faults),
        Kind::InList(_) if scope == Scope::OneShot => faults.push(not_in_one_shot(part.span, "`in list`")),
        Kind::InSegment(_) if scope == Scope::OneShot => faults.push(not_in_one_shot(part.span, "`in segment`")),
        Kind::History { .. } | Kind::Recent { .. } if scope == Scope::OneShot => {
            faults.push(not_in_one_shot(part.span, "what other campaigns did"));
        }
        Kind::Messages { .. } if scope == Scope::OneShot => {
            faults.push(not_in_one_shot(part.span, "what other campaigns did"));
        }
        Kind::Did { .. } | Kind::DidWith { .. } if scope == Scope::OneShot => {
            faults.push(not_in_one_shot(part.span, "what contacts did"));
        }
        _ => {}
    });
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Parts that ask who opened or clicked, for where that is not kept by contact.
pub fn needing_tracking(expression: &Expression) -> Vec<SegmentError> {
    let mut faults = Vec::new();
    expression.walk(&mut |part| match &part.kind {
        Kind::History { event, .. } | Kind::Recent { event, .. } if event.is_tracked() => {
            faults.push(SegmentError::new(part.span, Problem::NeedsTracking { event: event.word() }));
        }
        Kind::Messages { did, .. } => {
            faults.push(SegmentError::new(part.span, Problem::NeedsTracking { event: did.words() }));
        }
        _ => {}
    });
    faults
}

fn not_in_one_shot(span: Span, what: &'static str) -> SegmentError {
    SegmentError::new(span, Problem::NotInOneShot { what })
}

/// The operators that a type takes, for messages.
fn takes(kind: AttributeType) -> &'static str {
    match kind {
        AttributeType::Text => "= != in contains `starts with` `ends with` `is empty`",
        AttributeType::Number => "= != < <= > >= in between `is empty`",
        AttributeType::DateTime => "= != < <= > >= in between `in last` `in next` anniversary `is empty`",
        AttributeType::Boolean => "= != `is empty`",
        AttributeType::List => "has `has any` `has all` `is empty`",
    }
}

/// The operator's name if it does not fit the type.
fn misfit(operator: &Operator, kind: AttributeType) -> Option<&'static str> {
    use AttributeType::{DateTime, List, Number, Text};
    let ordered = matches!(kind, Number | DateTime);
    let (fits, name) = match operator {
        Operator::Compare(Comparison::Equal | Comparison::NotEqual, _) => (kind != List, "= or !="),
        Operator::Compare(comparison, _) => (ordered, comparison.symbol()),
        Operator::In(_) => (ordered || kind == Text, "in"),
        Operator::Between(..) => (ordered, "between"),
        Operator::Match(how, _) => (kind == Text, how.words()),
        Operator::Has { .. } => (kind == List, "has"),
        Operator::Empty => (true, "`is empty`"),
        Operator::Anniversary(_) => (kind == DateTime, "anniversary"),
    };
    (!fits).then_some(name)
}

fn check_test(test: &Test, span: Span, schema: &Schema, faults: &mut Vec<SegmentError>) {
    let name = &test.attribute;
    let Some(attribute) = schema.by_name(&name.text) else {
        let hint = Hint::nearest(&name.text, schema.attributes().iter().map(|a| a.name.as_str()));
        let problem = Problem::UnknownAttribute { name: name.text.clone(), hint };
        faults.push(SegmentError::new(name.span, problem));
        return;
    };
    if let Some(operator) = misfit(&test.operator, attribute.kind) {
        let (name, kind) = (name.text.clone(), attribute.kind);
        let problem = Problem::WrongOperator { name, kind, operator, takes: takes(kind) };
        faults.push(SegmentError::new(span, problem));
        return;
    }
    let literals: Vec<&Literal> = match &test.operator {
        Operator::Compare(_, literal) => vec![literal],
        Operator::In(literals) => literals.iter().collect(),
        Operator::Between(low, high) => vec![low, high],
        Operator::Match(..) | Operator::Empty | Operator::Has { .. } | Operator::Anniversary(_) => Vec::new(),
    };
    let before = faults.len();
    faults.extend(literals.iter().filter_map(|literal| wrong_type(attribute, literal)));
    if faults.len() > before {
        return;
    }
    if let Operator::Between(low, high) = &test.operator
        && let (LiteralValue::Number(a), LiteralValue::Number(b)) = (&low.value, &high.value)
        && a > b
    {
        let problem = Problem::EmptyBetween { low: low.to_string(), high: high.to_string() };
        faults.push(SegmentError::new(low.span.to(high.span), problem));
    }
    check_zone(test, &literals, faults);
}

fn wrong_type(attribute: &Attribute, literal: &Literal) -> Option<SegmentError> {
    let (fits, hint) = match (attribute.kind, &literal.value) {
        (AttributeType::Text | AttributeType::List, LiteralValue::Text(_))
        | (AttributeType::Number, LiteralValue::Number(_))
        | (AttributeType::Boolean, LiteralValue::Bool(_))
        | (AttributeType::DateTime, LiteralValue::Moment(_)) => (true, Hint::none()),
        (AttributeType::Text, LiteralValue::Number(_)) => (false, Hint::some(format!("write \"{literal}\""))),
        (AttributeType::DateTime, LiteralValue::Text(_)) => {
            (false, Hint::some("write the date without quotes, as in 2026-01-31"))
        }
        (AttributeType::Number, LiteralValue::Text(text)) if text.trim().parse::<f64>().is_ok_and(f64::is_finite) => {
            (false, Hint::some(format!("write {} without quotes", text.trim())))
        }
        _ => (false, Hint::none()),
    };
    if fits {
        return None;
    }
    let value = literal.value.kind_name();
    let problem = Problem::WrongType { name: attribute.name.clone(), kind: attribute.kind, value, hint };
    Some(SegmentError::new(literal.span, problem))
}

fn check_zone(test: &Test, literals: &[&Literal], faults: &mut Vec<SegmentError>) {
    if test.zone == Zone::Default {
        return;
    }
    let dated = literals.iter().any(|literal| matches!(literal.value, LiteralValue::Moment(_)));
    if !dated && !matches!(test.operator, Operator::Anniversary(_)) {
        faults.push(SegmentError::new(test.zone_span, Problem::UselessZone));
    }
    if let Zone::Named(name) = &test.zone
        && jiff::tz::TimeZone::get(name).is_err()
    {
        faults.push(SegmentError::new(test.zone_span, Problem::UnknownZone { name: name.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::parse;

    fn schema() -> Schema {
        let with = |schema: Schema, name, kind| schema.with(name, kind, None).expect("a valid attribute");
        let schema = with(Schema::built_in(), "country", AttributeType::Text);
        let schema = with(schema, "age", AttributeType::Number);
        let schema = with(schema, "vip", AttributeType::Boolean);
        let schema = with(schema, "last_login", AttributeType::DateTime);
        with(schema, "tags", AttributeType::List)
    }

    fn faults(text: &str, scope: Scope) -> Vec<SegmentError> {
        let expression = parse(text).unwrap_or_else(|e| panic!("{}", e.render(text)));
        check(&expression, &schema(), scope).err().unwrap_or_default()
    }

    #[test]
    fn what_fits_passes() {
        for text in [
            "country = \"FR\" and country not in ('a', 'b') and country contains 'x' and country is empty",
            "age >= 18 and age between -1 and 3.5 and age in (1, 2) and age != 4 and age is not empty",
            "vip and vip != false and not vip",
            "last_login < now - 30d and last_login between 2026-01-01 and today in zone \"Europe/Paris\"",
            "last_login = today in contact zone and tags has 'a' and tags has all ('a', 'b')",
            "in list 'anything' and in segment 'anything' and subscribed to 'email:news'",
        ] {
            assert_eq!(faults(text, Scope::Base), [], "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        for (text, start, end, part) in [
            ("contry = 'FR'", 0, 6, "did you mean \"country\"?"),
            ("country < 'FR'", 0, 14, "< does not work"),
            ("country = 3", 10, 11, "write \"3\""),
            ("age = '3'", 6, 9, "write 3 without quotes"),
            ("age contains '3'", 0, 16, "contains does not work"),
            ("age in (1, 'a', true)", 11, 14, "with a text"),
            ("age", 0, 3, "with true or false"),
            ("age between 3 and 2", 12, 19, "smaller one comes first"),
            ("vip = 1", 6, 7, "with a number"),
            ("vip < true", 0, 10, "< does not work"),
            ("last_login > '2026-01-31'", 13, 25, "without quotes"),
            ("tags = 'a'", 0, 10, "has `has any` `has all`"),
            ("age = 3 in contact zone", 8, 23, "no date"),
            ("last_login is empty in contact zone", 20, 35, "no date"),
            ("last_login = today in zone 'Mars/North'", 19, 39, "not a time zone"),
        ] {
            let found = faults(text, Scope::Base);
            let error = found.first().unwrap_or_else(|| panic!("{text} is refused"));
            assert_eq!((error.span.start, error.span.end), (start, end), "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn every_fault_is_reported_and_one_shot_audiences_have_no_lists() {
        let found = faults("agee = 1 and (vip = 1 or country > 'x') and age in ('a', 'b')", Scope::Base);
        assert_eq!(found.len(), 5, "all of them: {found:?}");
        let codes: Vec<_> = faults("in list 'a' and in segment 'b'", Scope::OneShot).iter().map(|e| e.code()).collect();
        assert_eq!(codes, ["segment_not_in_one_shot"; 2], "refused with a code");
    }
}
