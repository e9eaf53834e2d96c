//! The oracle: random expressions over random contacts, against a filter that asks each contact in turn; and the laws of
//! the algebra, and the round trip through text.

mod expressions;
mod people;

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use roaring::RoaringBitmap;

use self::expressions::expressions;
use self::people::{NOW, People, Person, holds, people, schema, world};
use super::eval::{ScanKind, evaluate, evaluate_within};
use super::expression::{Expression, Kind};
use super::memory::MemoryWorld;
use super::{EvaluateError, Problem, Span, parse};
use crate::contacts::{RecordBuilder, Value};
use crate::ids::AttributeId;

fn rows(expression: &Expression, world: &MemoryWorld) -> RoaringBitmap {
    match evaluate(expression, world) {
        Ok(found) => (*found.rows).clone(),
        Err(error) => panic!("{expression}: {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn an_evaluation_finds_what_asking_each_contact_finds(people in people(), expression in expressions(), within in vec(0u32..40, 0..30)) {
        let world = world(&people);
        let expected: RoaringBitmap =
            people.iter().filter(|(_, person)| holds(&expression, person)).map(|(row, _)| *row).collect();
        prop_assert_eq!(rows(&expression, &world), expected.clone(), "{}", expression);
        let within: RoaringBitmap = within.into_iter().collect();
        let found = evaluate_within(&expression, &world, &within).expect("evaluates");
        prop_assert_eq!(&*found.rows, &(&expected & &within), "within: {}", expression);
        for note in found.notes.iter().filter(|note| note.kind == ScanKind::Records) {
            prop_assert!(note.visited <= within.len(), "{} records of {} rows read", note.visited, within.len());
        }
    }

    #[test]
    fn the_laws_of_sets_hold(people in people(), a in expressions(), b in expressions(), c in expressions()) {
        let world = world(&people);
        let find = |expression: &Expression| rows(expression, &world);
        let not = |e: &Expression| Expression::negate(e.clone(), Span::default());
        let and = |x: &Expression, y: &Expression| Expression::and(vec![x.clone(), y.clone()]);
        let or = |x: &Expression, y: &Expression| Expression::or(vec![x.clone(), y.clone()]);
        let universe: RoaringBitmap = people.keys().copied().collect();
        prop_assert_eq!(find(&not(&a)), &universe - &find(&a), "not");
        prop_assert_eq!(find(&and(&a, &b)), find(&a) & find(&b), "and");
        prop_assert_eq!(find(&or(&a, &b)), find(&a) | find(&b), "or");
        prop_assert_eq!(find(&and(&a, &not(&b))), find(&a) - find(&b), "minus");
        prop_assert_eq!(find(&not(&and(&a, &b))), find(&or(&not(&a), &not(&b))), "de Morgan");
        prop_assert_eq!(find(&and(&a, &or(&b, &c))), find(&or(&and(&a, &b), &and(&a, &c))), "distribution");
        prop_assert_eq!(find(&or(&a, &not(&a))), universe, "excluded middle");
        prop_assert!(find(&and(&a, &not(&a))).is_empty(), "contradiction");
    }

    #[test]
    fn canonical_text_parses_back_to_an_equal_tree(expression in expressions()) {
        let text = expression.to_string();
        let again = parse(&text).map_err(|error| TestCaseError::fail(error.render(&text)))?;
        prop_assert_eq!(&again, &expression, "{}", text);
        prop_assert_eq!(again.to_string(), text, "canonical text is stable");
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", pieces in vec(proptest::sample::select(&PIECES[..]), 0..25)) {
        super::fuzz_parse(&text);
        super::fuzz_parse(&pieces.concat());
        super::fuzz_parse(&pieces.join(" "));
    }
}

const PIECES: [&str; 57] = [
    "and",
    "or",
    "not",
    "in",
    "list",
    "segment",
    "(",
    ")",
    ",",
    "=",
    "!=",
    "<",
    ">=",
    "-",
    "+",
    "\"",
    "'",
    "\\",
    "`",
    "\"a\"",
    "'b'",
    "age",
    "created",
    "now",
    "today",
    "30d",
    "1mo",
    "3",
    "2.5",
    "1e9",
    "2026-01-31",
    "2026-01-31T10:00",
    "T",
    "Z",
    "+01:00",
    "zone",
    "contact",
    "between",
    "contains",
    "starts",
    "with",
    "is",
    "empty",
    "has",
    "any",
    "all",
    "é",
    "\u{0}",
    "received",
    "opened(",
    "unsubscribed",
    "any campaign",
    "in last",
    "in next",
    "7d",
    "anniversary(",
    "today",
];

fn error(text: &str, world: &MemoryWorld) -> Problem {
    match evaluate(&parse(text).expect("parses"), world) {
        Err(EvaluateError::Segment(error)) => error.problem,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn cycles_unknown_names_and_explosions_are_refused() {
    let mut world = world(&People::new());
    let mut define = |name: &str, text: &str| {
        world.segments.insert(name.to_owned(), Arc::new(parse(text).expect("parses")));
    };
    define("a", "every and in segment 'b'");
    define("b", "in segment 'c' or not in segment 'd'");
    define("c", "in segment 'b'");
    define("d", "every");
    define("wrong", "agee = 3");
    define("deep 0", "every");
    for level in 1..200 {
        define(&format!("deep {level}"), &format!("in segment 'deep {}'", level - 1));
    }
    define("wide 0", "every");
    for level in 1..40 {
        let inner = format!("in segment 'wide {}'", level - 1);
        define(&format!("wide {level}"), &format!("{inner} or not {inner}"));
    }
    let path = |names: &[&str]| Problem::Cycle { path: names.iter().map(|n| (*n).to_owned()).collect() };
    assert_eq!(error("in segment 'a'", &world), path(&["b", "c", "b"]), "the cycle, without the way to it");
    let place = |expression: &Expression| match evaluate(expression, &world) {
        Err(EvaluateError::Segment(error)) => (error.span.start, error.span.end),
        Err(error) => panic!("a cycle is refused: {error}"),
        Ok(_) => panic!("a cycle is refused"),
    };
    let trial = Expression { kind: Kind::InSegment("b".to_owned()), span: Span::default() };
    assert_eq!(place(&trial), (0, 14), "of a segment on trial: the part of its own text that leads into the cycle");
    assert_eq!(place(&parse("every and in segment 'a'").expect("parses")), (10, 24), "else the part that was asked");
    assert_eq!(error("in segment 'nope'", &world), Problem::UnknownSegment { name: "nope".to_owned() });
    assert_eq!(error("in list 'nope'", &world), Problem::UnknownList { name: "nope".to_owned() });
    assert!(
        matches!(error("in segment 'wrong'", &world), Problem::InSegment { name, .. } if name == "wrong"),
        "names the segment"
    );
    assert!(matches!(error("in segment 'deep 199'", &world), Problem::TooDeep { .. }), "too deep");
    assert!(matches!(error("in segment 'wide 39'", &world), Problem::TooLarge { .. }), "too large");
    assert!(evaluate(&parse("in segment 'deep 60'").expect("parses"), &world).is_ok(), "deep enough");
}

#[test]
fn a_scan_reads_only_what_is_left_and_says_so() {
    let mut world = MemoryWorld::new(schema(), NOW);
    let number = |name: &str| schema().by_name(name).expect("there").id;
    for row in 0..1_000u32 {
        let mut record = RecordBuilder::new();
        record.set(number("a_number"), Value::Number(f64::from(row % 10)));
        if row % 2 == 0 {
            record.set(number("b_number"), Value::Number(f64::from(row)));
        }
        record.set(AttributeId::KEY, Value::Text("k"));
        world.insert(row, &mut record);
    }
    let notes = |text: &str| evaluate(&parse(text).expect("parses"), &world).expect("evaluates");
    let found = notes("b_number >= 500 and a_number = 4 and b_number != 504");
    assert_eq!(found.rows.len(), 49, "rows");
    let visited: Vec<(&str, u64)> = found.notes.iter().map(|note| (note.part.as_str(), note.visited)).collect();
    assert_eq!(
        visited,
        [("b_number != 504", 100), ("b_number >= 500", 99)],
        "only rows that the index left: {:?}",
        found.notes
    );
    let found = notes("a_number = 3 and b_number > 1");
    assert_eq!(found.notes[0].visited, 0, "odd rows have no value to read");
    assert!(notes("a_number = 11 and b_number > 1").notes.is_empty(), "nothing left, nothing read");
    assert!(notes("a_number = 4 or b_number is empty").notes.is_empty(), "presence is indexed");
    let found = notes("(b_number > 10 or key = 'k') and a_number = 4");
    assert_eq!(found.notes.len(), 1, "one pass for both: {:?}", found.notes);
}

#[test]
fn missing_values_fail_comparisons_and_pass_their_negation() {
    let people: People = [(1, Person::default())].into_iter().collect();
    let world = world(&people);
    for text in [
        "a_text = 'FR'",
        "a_text != 'FR'",
        "a_number < 3",
        "b_number != 3",
        "a_list has 'x'",
        "a_time > 2020-01-01",
        "b_text contains ''",
    ] {
        let expression = parse(text).expect("parses");
        assert!(rows(&expression, &world).is_empty(), "{text} is false");
        assert_eq!(rows(&Expression::negate(expression, Span::default()), &world).len(), 1, "not {text} is true");
    }
    for text in ["a_text not in ('FR')", "a_text is empty", "not a_text is not empty", "a_number not between 1 and 2"] {
        assert_eq!(rows(&parse(text).expect("parses"), &world).len(), 1, "{text} is true");
    }
}
